//! How fast transcripts are read, beside serde_json on the same bytes. Not part of the tests:
//!
//! ```sh
//! node tests/bench/store-sample.mjs /tmp/store 200
//! STORE=/tmp/store/agents/main/sessions cargo test --release --test speed -- --ignored --nocapture
//! ```
#![cfg(not(target_arch = "wasm32"))]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Instant;

use agentwatch_openclaw::transcript::{Reader, Scope};
use serde::Deserialize;
use serde::de::IgnoredAny;

#[test]
#[ignore = "a measurement"]
fn beside_serde_json() {
    let folder = std::env::var("STORE").unwrap();
    let files = std::fs::read_dir(folder).unwrap();
    let bytes: Vec<u8> = files
        .take(50)
        .flat_map(|file| std::fs::read(file.unwrap().path()).unwrap())
        .collect();
    for _ in 0..3 {
        let ours = measured(&bytes, ours);
        let ignored = measured(&bytes, ignored);
        let borrowed = measured(&bytes, borrowed);
        println!(
            "reader {ours:.0} MB/s, IgnoredAny {ignored:.0} MB/s, borrowed {borrowed:.0} MB/s"
        );
    }
    assert_eq!(ours(&bytes), borrowed(&bytes));
}

fn measured(bytes: &[u8], work: fn(&[u8]) -> usize) -> f64 {
    let begun = Instant::now();
    std::hint::black_box(work(std::hint::black_box(bytes)));
    bytes.len() as f64 / 1e6 / begun.elapsed().as_secs_f64()
}

/// How many calls the reader finds.
fn ours(bytes: &[u8]) -> usize {
    let mut reader = Reader::new(Scope::default());
    let mut calls = 0;
    for chunk in bytes.chunks(128 * 1024) {
        let mut rows = String::new();
        reader.feed(chunk, &mut rows);
        calls += rows.matches("],[").count() + usize::from(!rows.is_empty());
    }
    calls
}

/// How many lines are JSON.
fn ignored(bytes: &[u8]) -> usize {
    let lines = bytes.split(|byte| *byte == b'\n');
    lines
        .filter(|line| serde_json::from_slice::<IgnoredAny>(line).is_ok())
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
