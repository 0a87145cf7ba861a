//! The spool file of another process: the result is the same however the file grows between readings.
#![no_main]

use agentwatch_openclaw::journal::FILE_HEADER;
use agentwatch_openclaw_fuzz::common::{Gateway, at};
use agentwatch_openclaw_fuzz::{NOW_MS, assert_same_however_cut, files};
use libfuzzer_sys::fuzz_target;

const NAME: &str = "2-1.awj";

/// Reads a growing file. Returns the counts, and the offset up to which it was read.
fn taken(pieces: &[&[u8]]) -> (serde_json::Value, usize) {
    let mut gateway = Gateway::new(false);
    gateway.receiver.refuses_rubbish = true;
    let mut file: Vec<u8> = Vec::new();
    for piece in pieces {
        file.extend_from_slice(piece);
        let from = gateway.engine.spool_offset(NAME);
        let end = gateway.engine.take_spool(NAME, &file[from..], at(NOW_MS));
        assert_eq!(gateway.engine.spool_offset(NAME), from + end);
        gateway.write();
    }
    let before = gateway.engine.spool_offset(NAME);
    gateway.restart(NOW_MS + 1);
    assert_eq!(
        gateway.engine.spool_offset(NAME),
        before,
        "it is kept how far it was read"
    );
    gateway.run_until(NOW_MS + 1, NOW_MS + 20_000);
    let mut totals = serde_json::to_value(gateway.receiver.calls.len()).unwrap();
    if let Some(total) = gateway.receiver.totals.0.values().next() {
        totals = serde_json::json!([totals, total.prompt, total.completion]);
    }
    (totals, before)
}

fuzz_target!(|data: &[u8]| {
    let file = files(data, 1).remove(0);
    assert_same_however_cut(&file[FILE_HEADER..], taken);
    // Arbitrary bytes too.
    taken(&[data]);
});
