//! Bytes: transcripts and streams, beside serde_json and a copy of the same bytes.

use agentwatch_openclaw::sessions::transcript::{Reader, Scope};
use agentwatch_openclaw::sources::answer::{Answer, Api};
use agentwatch_openclaw::sources::ending::Ending;
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::{CHUNK, Figures, speed};

/// Stored transcripts.
pub fn transcripts(bytes: &[u8], figures: &mut Figures) {
    assert_eq!(stored_calls(bytes), borrowed(bytes));
    let ours = speed(bytes, stored_calls);
    let serde = speed(bytes, valid_lines);
    figures.insert("transcripts, native", (ours, "MB/s"));
    figures.insert("transcripts, serde_json reading all of it", (serde, "MB/s"));
    figures.insert(
        "transcripts, serde_json borrowing what is asked",
        (speed(bytes, borrowed), "MB/s"),
    );
    figures.insert(
        "transcripts, native, of serde_json's speed",
        (ours / serde * 100.0, "%"),
    );
    figures.insert("copy of memory, native", (speed(bytes, copied), "MB/s"));
}

/// Streams of providers.
pub fn streams(bytes: &[u8], figures: &mut Figures) {
    let ours = speed(bytes, |bytes| {
        let mut answer = Answer::new(Api::Chat, 200);
        for chunk in bytes.chunks(CHUNK) {
            answer.feed(chunk);
        }
        answer.finish(Ending::Whole);
        0
    });
    figures.insert("streams, native", (ours, "MB/s"));
    figures.insert(
        "streams, serde_json reading all of it",
        (speed(bytes, valid_events), "MB/s"),
    );
}

fn copied(bytes: &[u8]) -> usize {
    let mut copy = vec![0; CHUNK];
    for chunk in bytes.chunks(CHUNK) {
        copy[..chunk.len()].copy_from_slice(chunk);
        std::hint::black_box(&copy);
    }
    copy.len()
}

/// How many calls the reader finds.
fn stored_calls(bytes: &[u8]) -> usize {
    let mut reader = Reader::new(Scope::default());
    let mut calls = 0;
    for chunk in bytes.chunks(CHUNK) {
        let mut rows = String::new();
        reader.feed(chunk, &mut rows);
        calls += rows.matches("],[").count() + usize::from(!rows.is_empty());
    }
    calls
}

/// How many lines are JSON.
fn valid_lines(bytes: &[u8]) -> usize {
    let lines = bytes.split(|byte| *byte == b'\n');
    lines
        .filter(|line| serde_json::from_slice::<IgnoredAny>(line).is_ok())
        .count()
}

fn valid_events(bytes: &[u8]) -> usize {
    let lines = bytes.split(|byte| *byte == b'\n');
    lines
        .filter_map(|line| line.strip_prefix(b"data: "))
        .filter(|data| serde_json::from_slice::<IgnoredAny>(data).is_ok())
        .count()
}

#[derive(Deserialize)]
struct Line<'a> {
    #[serde(borrow)]
    message: Option<Message<'a>>,
}

#[derive(Deserialize)]
struct Message<'a> {
    role: &'a str,
    model: Option<&'a str>,
    usage: Option<Usage>,
}

#[derive(Deserialize)]
struct Usage {
    input: u64,
}

/// How many calls a minimal struct finds.
fn borrowed(bytes: &[u8]) -> usize {
    let lines = bytes.split(|byte| *byte == b'\n');
    let parsed = lines.filter_map(|line| serde_json::from_slice::<Line>(line).ok());
    parsed
        .filter_map(|line| line.message)
        .filter(|m| {
            m.role == "assistant"
                && m.model.is_some()
                && m.usage.as_ref().is_some_and(|u| u.input > 0)
        })
        .count()
}
