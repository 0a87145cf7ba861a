//! Server-sent events against their specification, read naively.
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

/// The specification, applied to a whole text.
fn expected(text: &str) -> Vec<Vec<u8>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    // The last event counts without its blank line, unlike in the specification.
    let text = text.replace("\r\n", "\n").replace('\r', "\n") + "\n\n";
    let mut events = Vec::new();
    let mut lines: Vec<&str> = Vec::new();
    for line in text.split('\n') {
        if line.is_empty() {
            if !lines.is_empty() {
                events.push(lines.join("\n").into_bytes());
            }
            lines.clear();
        } else if let ("data", value) = line.split_once(':').unwrap_or((line, "")) {
            lines.push(value.strip_prefix(' ').unwrap_or(value));
        }
    }
    events
}

fuzz_target!(|data: &[u8]| {
    let told = assert_same_however_cut(data, events);
    if let Ok(text) = std::str::from_utf8(data) {
        assert_eq!(told, expected(text), "{text:?}");
    }
});
