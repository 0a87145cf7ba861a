use super::Shape::{self, Each, Leaf, Mark, Object, Record};
use super::*;
use crate::facts::MAX_TEXT;
use proptest::prelude::*;
use serde_json::{Map, Value};

/// The places that are looked at, as JSON pointers; `*` is each entry.
type Place = &'static str;

const SHAPE: Shape<Place> = Object(&[
    ("a", Leaf("/a")),
    ("b", Object(&[("a", Leaf("/b/a")), ("c", Mark("/b/c"))])),
    ("c", Each(&Object(&[("a", Leaf("/c/*/a"))]))),
    ("d\"é\n", Record("/d", &[("a", Leaf("/d/a"))])),
]);

fn scan<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> (Vec<String>, bool) {
    let mut findings = Vec::new();
    let mut scanner = Scanner::new(&SHAPE);
    for piece in pieces {
        scanner.feed(piece, &mut |place, found, at| {
            findings.push(format!("{place} {found:?} {at}"));
        });
    }
    (findings, scanner.is_done())
}

fn whole(text: &str) -> (Vec<String>, bool) {
    scan([text.as_bytes()])
}

/// What should be found in a value, without offsets.
fn expected(value: &Value) -> Vec<String> {
    let mut findings = Vec::new();
    let Value::Object(root) = value else {
        return findings;
    };
    for (key, value) in root {
        match (key.as_str(), value) {
            ("a", _) => findings.extend(leaf("/a", value)),
            ("b", Value::Object(members)) => {
                for (key, value) in members {
                    match key.as_str() {
                        "a" => findings.extend(leaf("/b/a", value)),
                        "c" if is_something(value) => findings.push("/b/c Present".to_owned()),
                        _ => {}
                    }
                }
            }
            ("c", Value::Array(entries)) => {
                findings.extend(entries.iter().flat_map(|entry| member("/c/*/a", entry)));
            }
            ("c", entry) => findings.extend(member("/c/*/a", entry)),
            ("d\"é\n", Value::Object(members)) => {
                findings.push("/d Begin".to_owned());
                findings.extend(member("/d/a", value));
                let is_empty = members.is_empty();
                findings.push(format!("/d {:?}", Found::End { is_empty }));
            }
            ("d\"é\n", value) if !value.is_array() => findings.extend(leaf("/d", value)),
            _ => {}
        }
    }
    findings
}

fn member(place: &str, value: &Value) -> Option<String> {
    leaf(place, value.as_object()?.get("a")?)
}

fn leaf(place: &str, value: &Value) -> Option<String> {
    Some(match value {
        Value::Null => format!("{place} Null"),
        Value::Bool(flag) => format!("{place} Bool({flag})"),
        Value::Number(number) => format!("{place} Number({:?})", number.to_string()),
        Value::String(text) => format!("{place} Text({text:?})"),
        _ => format!("{place} Present"),
    })
}

fn is_something(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => false,
        Value::String(text) => !text.is_empty(),
        _ => true,
    }
}

fn without_offset(finding: &str) -> String {
    let finding = finding.rsplit_once(' ').map(|(finding, _)| finding);
    finding.unwrap_or_default().to_owned()
}

fn any_value() -> impl Strategy<Value = Value> {
    let scalar = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (-1e9..1e9f64).prop_map(Value::from),
        "[a\"\\\\\n\u{1}é😀{}\\[\\]:,]{0,8}".prop_map(Value::from),
    ];
    let key = prop_oneof!["[abc]", Just("d\"é\n".to_owned()), "[a\"\\\\}]{0,3}"];
    scalar.prop_recursive(4, 40, 5, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::vec((key.clone(), inner), 0..6)
                .prop_map(|members| Value::from(members.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

/// The same text with each character outside ASCII, and some inside, as an escape.
fn escaped(text: &str) -> String {
    let mut units = [0; 2];
    text.chars()
        .map(|char| match char {
            ' '..='~' => char.to_string(),
            _ => char
                .encode_utf16(&mut units)
                .iter()
                .map(|unit| format!("\\u{unit:04X}"))
                .collect(),
        })
        .collect()
}

proptest! {
    #[test]
    fn finds_what_a_whole_parser_finds(root in any_value(), is_pretty in any::<bool>()) {
        let text = if is_pretty {
            serde_json::to_string_pretty(&root)
        } else {
            serde_json::to_string(&root)
        };
        let text = text.unwrap_or_default();
        let (findings, is_done) = whole(&text);
        let found: Vec<String> = findings.iter().map(|finding| without_offset(finding)).collect();
        prop_assert_eq!(found, expected(&root), "{}", text);
        prop_assert!(is_done || !(root.is_object() || root.is_array() || root.is_string()));
        if !is_pretty {
            let again = whole(&escaped(&text)).0;
            prop_assert_eq!(
                again.iter().map(|finding| without_offset(finding)).collect::<Vec<_>>(),
                expected(&root)
            );
        }
    }

    #[test]
    fn finds_the_same_wherever_it_is_cut(root in any_value(), at in any::<prop::sample::Index>()) {
        let text = escaped(&serde_json::to_string(&root).unwrap_or_default());
        let bytes = text.as_bytes();
        let (left, right) = bytes.split_at(at.index(bytes.len()));
        prop_assert_eq!(scan([left, right]), scan([bytes]));
        prop_assert_eq!(scan(bytes.chunks(1)), scan([bytes]));
    }

    #[test]
    fn no_bytes_break_it(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert_eq!(scan(bytes.chunks(1)), scan([bytes.as_slice()]));
    }

    #[test]
    fn nearly_json_does_not_break_it(text in "[\\[\\]{}:,\"\\\\abdu01e.tn -]{0,40}") {
        prop_assert_eq!(scan(text.as_bytes().chunks(1)), scan([text.as_bytes()]));
        let parsed = serde_json::from_str::<Value>(&text);
        // Strict where it looks: an accepted document without anything passed over is JSON.
        if whole(&text).1 && !text.contains(['"', '[']) && parsed.is_err() {
            prop_assert!(text.matches('{').count() > 1, "{}", text);
        }
    }
}

#[test]
fn what_is_cut_off_or_no_json_is_not_done() {
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
        "nul",
    ] {
        assert!(!whole(text).1, "{text}");
    }
    assert!(whole("\u{feff} {\"a\" : -0.5e+7 } \n").1);
}

#[test]
fn a_long_text_is_cut_and_a_long_key_is_nobodys() {
    let text = format!(
        "{{\"a\":\"{}\",\"{}\":1}}",
        "é".repeat(2000),
        "a".repeat(500)
    );
    let (findings, is_done) = whole(&text);
    assert!(is_done);
    assert_eq!(
        findings,
        [format!("/a Text({:?}) 5", "é".repeat(MAX_TEXT / 2))]
    );
}

#[test]
fn what_python_writes_for_no_number_is_null() {
    let (findings, is_done) = whole("{\"a\":NaN,\"b\":{\"a\":-Infinity,\"c\":Infinity}}");
    assert_eq!(findings, ["/a Null 5", "/b/a Null 18"]);
    assert!(is_done);
}

#[test]
fn half_a_surrogate_pair_is_a_replacement() {
    let (findings, _) = whole(r#"{"a":"\ud83d\ude00 \ud83d \udc00\ud83dx\ud83d"}"#);
    assert_eq!(
        findings,
        ["/a Text(\"😀 \u{fffd} \u{fffd}\u{fffd}x\u{fffd}\") 5"]
    );
}

#[test]
fn a_sequence_goes_on_behind_each_document() {
    let mut findings = Vec::new();
    let mut scanner = Scanner::sequence(&SHAPE);
    for byte in b"{\"a\":1}\n\n[{}]{\"a\":2} {\"a\":".chunks(1) {
        scanner.feed(byte, &mut |_, found, _| findings.push(format!("{found:?}")));
    }
    assert_eq!(findings, ["Number(\"1\")", "Number(\"2\")"]);
    assert!(!scanner.is_done() && !scanner.is_broken());
}
