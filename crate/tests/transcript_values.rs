//! Stored transcripts: the values of a row, and that unusual values do no harm.

use crate::common::stored::*;
use agentwatch_openclaw::sessions::transcript::{Reader, Skipped};
use agentwatch_openclaw::sources::stored::{StoredFacts, read};
use proptest::prelude::*;
use serde_json::{Value, json};

// ---------------------------------------------------------------------------------------------
// Values

#[test]
fn strange_values_do_no_harm() {
    let fields = [
        "/message/provider",
        "/message/model",
        "/message/usage/input",
        "/message/usage/cost/total",
        "/message/usage/cost",
        "/message/usage",
        "/message/stopReason",
        "/message/responseId",
        "/message/timestamp",
        "/message/__openclaw",
        "/message/__openclaw/runId",
        "/timestamp",
        "/id",
    ];
    let absurd = "9".repeat(5_000);
    let long = format!("\"{}\"", "x".repeat(5_000));
    let surrogates = format!("\"{}\"", "\\ud83d\\ude00\\ud800".repeat(2_000));
    for field in fields {
        for value in [
            "null",
            "true",
            "-1",
            "0.5",
            "1e999",
            "-1E-999",
            &absurd,
            "{}",
            "[[]]",
            "\"\"",
            &long,
            "\"\\ud800\"",
            "\"\\udc00\\ud800x\"",
            "\"\\u0000\\\"\\\\\\/\\b\\f\\n\\r\\t\"",
            &surrogates,
        ] {
            let text = line(&with(field, json!("@@@"))).replace("\"@@@\"", value);
            for row in raw_rows(&text) {
                assert!(row.len() < 20_000, "{field}: {value:.40}");
                let row: Result<Value, _> = serde_json::from_str(&row.replace("1e999", "1e99"));
                let _ = read(&StoredFacts::new(facts(&row.unwrap())));
            }
        }
    }
}

/// The rows as text, since serde_json refuses numbers that JavaScript reads as infinite.
fn raw_rows(text: &str) -> Vec<String> {
    let mut rows = String::new();
    Reader::new(scope()).feed(text.as_bytes(), &mut rows);
    if rows.is_empty() {
        Vec::new()
    } else {
        vec![rows]
    }
}

#[test]
fn texts_are_cut_at_1024_units_and_escapes_read() {
    let text = |value: Value| {
        calls(&rows_of(&line(&with("/message/responseId", value))))[0]
            .response_id
            .clone()
            .unwrap()
    };
    assert_eq!(text(json!("x".repeat(5_000))).len(), 1024);
    assert_eq!(text(json!("🦀".repeat(5_000))).chars().count(), 512);
    assert_eq!(text(json!("a\"\\\u{1}\n🦀é")), "a\"\\\u{1}\n🦀é");
    let raw = line(&with("/message/responseId", json!("@")))
        .replace("\"@\"", "\"\\ud83e\\udd80\\ud800\\u0041\"");
    assert_eq!(
        calls(&rows_of(&raw))[0].response_id.as_deref(),
        Some("🦀\u{fffd}A")
    );
}

#[test]
fn invalid_utf8_becomes_replacement_characters() {
    let raw = line(&with("/message/responseId", json!("@@"))).into_bytes();
    let at = raw.windows(2).position(|two| two == b"@@").unwrap();
    let mut broken = raw.clone();
    broken[at] = 0xff;
    let rows = feed(&mut Reader::new(scope()), &[&broken]);
    assert_eq!(calls(&rows)[0].response_id.as_deref(), Some("\u{fffd}@"));
}

#[test]
fn the_last_of_two_members_with_one_name_counts() {
    let text = line(&answer())
        .replace(
            "\"usage\":{",
            "\"usage\":{\"input\":5,\"output\":5,\"cost\":{\"total\":9}},\"usage\":{",
        )
        .replace("\"id\":\"e-1\"", "\"id\":\"e-0\",\"id\":\"e-1\"");
    assert_eq!(rows_of(&text), [picked(&answer())]);
    let replaced = line(&answer()).replace(
        "\"totalTokens\":726}",
        "\"totalTokens\":726},\"usage\":null",
    );
    assert_eq!(calls(&rows_of(&replaced))[0].usage, None);
}

// ---------------------------------------------------------------------------------------------
// Properties

/// Any JSON of any depth.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".*".prop_map(Value::from),
        Just(json!("assistant")),
    ];
    leaf.prop_recursive(6, 48, 6, |inner| {
        let names = prop_oneof![Just("role".to_owned()), Just("usage".to_owned()), ".{0,8}"];
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::hash_map(names, inner, 0..6)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

/// A stored answer with any value in one place.
fn any_answer() -> impl Strategy<Value = Value> {
    let places = prop::sample::select(vec![
        "/message/content",
        "/message/extra",
        "/message/usage/input",
        "/message/usage/cost",
        "/message/usage/extra",
        "/message/stopReason",
        "/message/responseId",
        "/message/timestamp",
        "/message/__openclaw",
        "/id",
        "/parentId",
        "/extra",
    ]);
    (places, any_json()).prop_map(|(place, value)| with(place, value))
}

/// Numbers are copied as written; other serializers write them differently, and the parser that reads them here may be
/// off by the last bit.
fn as_numbers(value: &Value) -> Value {
    match value {
        Value::Number(number) => json!(number.as_f64().map(|n| n as f32)),
        Value::Array(list) => list.iter().map(as_numbers).collect(),
        other => other.clone(),
    }
}

/// The value as `pick` would cut it.
fn cut(value: Value) -> Value {
    match value {
        Value::String(text) => {
            let mut units = 0;
            let kept = text.chars().take_while(|char| {
                units += char.len_utf16();
                units <= 1024
            });
            Value::String(kept.collect())
        }
        Value::Array(list) => list.into_iter().map(cut).collect(),
        other => other,
    }
}

proptest! {
    #[test]
    fn a_reader_copies_the_same_as_a_parser_with_pick(row in any_answer(), size in 1usize..300) {
        let text = line(&row);
        let expected: Vec<Value> = match row["type"] == "message" {
            true => vec![as_numbers(&cut(picked(&row)))],
            false => vec![],
        };
        let chunks: Vec<_> = text.as_bytes().chunks(size).collect();
        let mut reader = Reader::new(scope());
        let rows: Vec<Value> = feed(&mut reader, &chunks).iter().map(as_numbers).collect();
        prop_assert_eq!(rows, expected);
        prop_assert_eq!(reader.skipped(), Skipped::default());
    }

    #[test]
    fn any_bytes_do_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..2_000), size in 1usize..100) {
        let mut text = b"{\"role\":\"assistant\",".to_vec();
        text.extend(&bytes);
        text.push(b'\n');
        text.extend(line(&answer()).as_bytes());
        let chunks: Vec<_> = text.chunks(size).collect();
        let mut reader = Reader::new(scope());
        let rows = feed(&mut reader, &chunks);
        prop_assert_eq!(rows.last(), Some(&picked(&answer())));
        prop_assert_eq!(reader.consumed(), text.len() as u64);
    }

    #[test]
    fn any_byte_of_a_row_may_change(at in 0usize..600, byte in any::<u8>()) {
        let mut text = line(&answer()).into_bytes();
        // A number out of range is valid JSON, which JavaScript accepts and serde_json does not.
        prop_assume!(!matches!(byte, b'e' | b'E'));
        let at = at % (text.len() - 1);
        text[at] = byte;
        text.extend(line(&answer()).as_bytes());
        let rows = feed(&mut Reader::new(scope()), &[&text]);
        prop_assert_eq!(rows.last(), Some(&picked(&answer())));
        for row in &rows {
            prop_assert_eq!(row.as_array().map(Vec::len), Some(StoredFacts::TABLE.fields.len()));
        }
    }

    #[test]
    fn the_reader_accepts_what_a_parser_accepts(row in any_json()) {
        let text = line(&json!({"type": "message", "x": row, "message": {"role": "assistant"}}));
        prop_assert_eq!(skipped(&text), Skipped { no_model: 1, ..Skipped::default() });
    }
}
