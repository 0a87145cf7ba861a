//! Server-sent events against their specification, read naively.
#![no_main]

use agentwatch_openclaw::sse::{Piece, Splitter};
use agentwatch_openclaw_fuzz::assert_same_however_cut;
use libfuzzer_sys::fuzz_target;

fn events(pieces: &[&[u8]]) -> Vec<Vec<u8>> {
    let mut events = Vec::new();
    let mut data = Vec::new();
    let mut splitter = Splitter::default();
    for piece in pieces {
        splitter.feed(piece, &mut |piece| match piece {
            Piece::Data(more) => data.extend_from_slice(more),
            Piece::End => events.push(std::mem::take(&mut data)),
        });
    }
    events
}

/// The specification, on a text that is there as a whole.
fn expected(text: &str) -> Vec<Vec<u8>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    // What stands behind the last end of a line is no line yet.
    let Some((text, _)) = text.rsplit_once('\n') else {
        return Vec::new();
    };
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
