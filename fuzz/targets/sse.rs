//! Server-sent events against their specification, read naively, and the rule for events without a blank line between them.
#![no_main]

use agentwatch_openclaw::formats::sse::{Event, Events};
use agentwatch_openclaw_fuzz::assert_same_however_cut;
use libfuzzer_sys::fuzz_target;

fn events(pieces: &[&[u8]]) -> Vec<Vec<u8>> {
    let mut told = Vec::new();
    let mut tell = |event: Event| match event {
        Event::Data(data) => told.push(data.to_vec()),
        Event::TooLong => unreachable!("no input is that long"),
    };
    let mut events = Events::default();
    for piece in pieces {
        events.feed(piece, &mut tell);
    }
    events.finish(&mut tell);
    told
}

/// Whether the line begins another JSON value behind these lines.
fn begins_another(lines: &[&str], line: &str) -> bool {
    lines.join("\n").trim_ascii_end().ends_with(['}', ']'])
        && line.trim_ascii_start().starts_with(['{', '['])
}

/// The specification and the rule, applied to a whole text.
fn expected(text: &str) -> Vec<Vec<u8>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    // The last event counts without its blank line, unlike in the specification.
    let text = text.replace("\r\n", "\n").replace('\r', "\n") + "\n\n";
    let mut events = Vec::new();
    let mut lines: Vec<&str> = Vec::new();
    for line in text.split('\n') {
        let data = match line.split_once(':').unwrap_or((line, "")) {
            ("data", value) => Some(value.strip_prefix(' ').unwrap_or(value)),
            _ => None,
        };
        if !lines.is_empty()
            && (line.is_empty() || data.is_some_and(|data| begins_another(&lines, data)))
        {
            events.push(lines.join("\n").into_bytes());
            lines.clear();
        }
        lines.extend(data);
    }
    events
}

fuzz_target!(|data: &[u8]| {
    let told = assert_same_however_cut(data, events);
    if let Ok(text) = std::str::from_utf8(data) {
        assert_eq!(told, expected(text), "{text:?}");
    }
});
