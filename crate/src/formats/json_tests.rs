use super::*;
use crate::sources::facts::MAX_TEXT;
use proptest::prelude::*;
use serde_json::json;

/// The members of an object, by their keys.
fn members(text: &str) -> Vec<(String, String)> {
    let mut members = Vec::new();
    let read = read(text.as_bytes(), |value| {
        value.members(|key, value| members.push((key.to_owned(), value.0.get().to_owned())));
    });
    assert!(read.is_some(), "{text}");
    members
}

fn text(written: &[u8]) -> Option<String> {
    read(written, |value| value.text())?
}

fn any_value() -> impl Strategy<Value = serde_json::Value> {
    let scalar = prop_oneof![
        Just(json!(null)),
        any::<bool>().prop_map(|flag| json!(flag)),
        any::<i64>().prop_map(|number| json!(number)),
        // Exact in binary: serde_json may be off by the last bit, which does not matter here.
        any::<i32>().prop_map(|eighths| json!(f64::from(eighths) / 8.0)),
        "[a\"\\\\\n\u{1}é😀{}\\[\\]:,]{0,8}|NaN|-Infinity".prop_map(|text| json!(text)),
    ];
    let key = "[abc]|[a\"\\\\}]{0,3}|NaN";
    scalar.prop_recursive(4, 40, 5, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(|list| json!(list)),
            prop::collection::hash_map(key, inner, 0..6).prop_map(|members| json!(members)),
        ]
    })
}

/// The value, rebuilt from its handed out parts.
fn rebuilt(value: Value) -> serde_json::Value {
    if value.is_object() {
        let mut members = serde_json::Map::new();
        value.members(|key, value| {
            members.insert(key.to_owned(), rebuilt(value));
        });
        return members.into();
    }
    if value.begins(b"[") {
        let mut list = Vec::new();
        value.each(|entry| list.push(rebuilt(entry)));
        return list.into();
    }
    match value.text() {
        Some(text) => text.into(),
        None => serde_json::from_str(value.0.get()).unwrap_or_default(),
    }
}

proptest! {
    #[test]
    fn all_of_a_value_is_handed_out(value in any_value(), is_pretty in any::<bool>()) {
        let text = match is_pretty {
            true => serde_json::to_string_pretty(&value),
            false => serde_json::to_string(&value),
        };
        let text = text.unwrap_or_default();
        prop_assert_eq!(read(text.as_bytes(), rebuilt), Some(value), "{}", text);
    }

    #[test]
    fn arbitrary_bytes_do_not_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let is_json = serde_json::from_slice::<serde_json::Value>(&bytes).is_ok();
        let is_read = read(&bytes, |value| drop(rebuilt(value))).is_some();
        prop_assert!(is_read || !is_json);
    }

    #[test]
    fn pythons_nan_and_infinity_are_read_as_null(value in any_value()) {
        let text = serde_json::to_string(&value).unwrap_or_default();
        let python = format!("[NaN,{text},-Infinity,{{\"NaN\":Infinity}}]");
        let expected = json!([null, value, null, {"NaN": null}]);
        prop_assert_eq!(read(python.as_bytes(), rebuilt), Some(expected), "{}", python);
        prop_assert_eq!(without_nan(&text), None);
    }
}

#[test]
fn incomplete_or_invalid_json_is_not_read() {
    for text in [
        "",
        "{",
        "{\"a\":1",
        "[",
        "{\"a\":1}x",
        "{\"a\":01}",
        "{\"a\":1.}",
        "{\"a\":.5}",
        "{\"a\":1e}",
        "{\"a\":tru}",
        "{\"a\" 1}",
        "{a:1}",
        "{\"a\":1,}",
        "{\"a\":1]",
        "{\"a\":\"\\x\"}",
        "{\"a\":\"\\u12g4\"}",
        "{\"a\":--1}",
        "{\"a\":--Infinity}",
        "{\"a\":NaNa}",
        "nul",
    ] {
        assert!(read(text.as_bytes(), |_| ()).is_none(), "{text}");
    }
}

#[test]
fn a_byte_order_mark_is_skipped() {
    assert_eq!(
        members("\u{feff} {\"a\" : -0.5e+7 } \n"),
        [("a".into(), "-0.5e+7".into())]
    );
}

#[test]
fn members_of_one_name_are_all_handed_out_in_order() {
    let expected = [("a".into(), "1".into()), ("a".into(), "2".into())];
    assert_eq!(members("{\"a\":1,\"\\u0061\":2}"), expected);
}

#[test]
fn a_number_out_of_range_keeps_its_digits() {
    let text = format!("{{\"a\":1e999,\"b\":-{}}}", "9".repeat(5_000));
    let read = members(&text);
    assert_eq!(read[0].1, "1e999");
    assert_eq!(read[1].1.len(), 5_001);
}

#[test]
fn nesting_has_no_limit() {
    let deep = "[".repeat(1_000_000) + &"]".repeat(1_000_000);
    assert_eq!(members(&format!("{{\"x\":{deep},\"a\":1}}"))[1].1, "1");
    let open = "{\"a\":".repeat(1_000_000);
    assert!(read(open.as_bytes(), |_| ()).is_none());
}

#[test]
fn half_a_surrogate_pair_is_one_replacement_in_texts_and_keys() {
    assert_eq!(
        text(br#""\ud83d\ude00 \ud83d \udc00\ud83dx\ud83d""#).as_deref(),
        Some("😀 \u{fffd} \u{fffd}\u{fffd}x\u{fffd}")
    );
    let expected = ("\u{fffd}x".into(), "1".into());
    assert_eq!(members("{\"\\ud800x\":1}"), [expected]);
}

#[test]
fn invalid_utf8_becomes_replacement_characters() {
    assert_eq!(
        text(b"\"a\xff\xc3b\"").as_deref(),
        Some("a\u{fffd}\u{fffd}b")
    );
    let read = read(b"{\"x\xff\":\"\xed\xa0\x80\",\"a\":1}", |value| {
        let mut found = None;
        value.members(|key, value| found = (key == "a").then(|| value.0.get().to_owned()));
        found
    });
    assert_eq!(read, Some(Some("1".to_owned())));
}

#[test]
fn a_text_is_cut_at_the_maximum_length() {
    let long = |text: &str| self::text(format!("\"{}\"", text.repeat(5_000)).as_bytes());
    assert_eq!(long("é"), Some("é".repeat(MAX_TEXT)));
    assert_eq!(long("\\u00e9"), Some("é".repeat(MAX_TEXT)));
    assert_eq!(long("🦀"), Some("🦀".repeat(MAX_TEXT / 2)));
}
