//! Stored transcripts: the same calls wherever they are cut and wherever reading continues, each line counted once.
#![no_main]

use agentwatch_openclaw::sessions::transcript::{Reader, Scope, Skipped};
use agentwatch_openclaw::sources::stored::{StoredFacts, read};
use agentwatch_openclaw_fuzz::{assert_same_however_cut, common, dice};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

fn scope(inherited_before_ms: Option<u64>) -> Scope {
    Scope {
        inherited_before_ms,
        ..common::stored::scope()
    }
}

/// Feeds pieces. Returns the rows as text with commas between them.
fn feed(reader: &mut Reader, pieces: &[&[u8]]) -> String {
    let mut all = String::new();
    for piece in pieces {
        let mut rows = String::new();
        reader.feed(piece, &mut rows);
        join(&mut all, &rows);
    }
    all
}

fn join(all: &mut String, rows: &str) {
    if !all.is_empty() && !rows.is_empty() {
        all.push(',');
    }
    all.push_str(rows);
}

/// The rows. Numbers out of range are valid JSON, which JavaScript accepts and serde_json does not.
fn parsed(rows: &str) -> Vec<Value> {
    match serde_json::from_str(&format!("[{rows}]")) {
        Ok(rows) => rows,
        Err(error) if error.to_string().starts_with("number out of range") => Vec::new(),
        Err(error) => panic!("{error}: {rows}"),
    }
}

fn total(skipped: Skipped) -> usize {
    let Skipped {
        malformed,
        too_long,
        no_model,
    } = skipped;
    (malformed + too_long + no_model) as usize
}

fuzz_target!(|data: &[u8]| {
    let (rows, consumed, inherited_before, skipped) = assert_same_however_cut(data, |pieces| {
        let mut reader = Reader::new(scope(None));
        let rows = feed(&mut reader, pieces);
        (
            rows,
            reader.consumed(),
            reader.inherited_before_ms(),
            reader.skipped(),
        )
    });
    let whole_lines = data.iter().filter(|byte| **byte == b'\n').count();
    let calls = parsed(&rows);
    assert!(calls.len() + total(skipped) <= whole_lines);
    let end = data
        .iter()
        .rposition(|byte| *byte == b'\n')
        .map_or(0, |at| at + 1);
    assert_eq!(consumed, end as u64, "whole lines are done with");
    for row in &calls {
        let facts = common::stored::facts(row);
        assert_eq!(facts.len(), StoredFacts::TABLE.fields.len());
        read(&StoredFacts::new(facts)).expect("a row names its model");
    }
    // Another reader continues where the first one stopped. No gateway writes a header after the first row; a reader
    // that starts there would take it for one.
    let first_end = data
        .iter()
        .position(|byte| *byte == b'\n')
        .unwrap_or(data.len());
    let has_other_header = data[first_end..]
        .windows(9)
        .any(|word| word == b"\"session\"");
    let at = (dice(data).bits() % (data.len() as u64 + 1)) as usize;
    let mut first = Reader::new(scope(None));
    let mut resumed = feed(&mut first, &[&data[..at]]);
    if !has_other_header && first.consumed() > 0 {
        let mut second = Reader::new(scope(first.inherited_before_ms()));
        let rest = &data[first.consumed() as usize..];
        join(&mut resumed, &feed(&mut second, &[rest]));
        assert_eq!(resumed, rows, "resumed at {at}");
        assert_eq!(
            second.inherited_before_ms(),
            inherited_before,
            "resumed at {at}"
        );
    }
});
