//! The engine as WebAssembly: the same code, the same recorded gateways, the same totals as natively.

#![cfg(target_arch = "wasm32")]

mod common;

use common::{Gateway, captures};
use wasm_bindgen_test::wasm_bindgen_test;

/// The oldest and the newest of the recorded gateways.
const VERSIONS: [&str; 2] = ["2026.3.13", "2026.9.6"];

#[wasm_bindgen_test]
fn as_recorded() {
    for capture in captures().iter().filter(|c| VERSIONS.contains(&c.version)) {
        let mut gateway = Gateway::new(capture.tells_calls);
        gateway.replay(&capture.events);
        let totals = &gateway.receiver.totals;
        totals.assert_equals(&capture.provider, capture.version);
    }
}

#[wasm_bindgen_test]
fn a_journal_recovers() {
    for capture in captures().iter().filter(|c| VERSIONS.contains(&c.version)) {
        let mut gateway = Gateway::new(capture.tells_calls);
        let (before, after) = capture.events.split_at(capture.events.len() / 2);
        gateway.replay(before);
        gateway.engine.compact();
        gateway.write();
        gateway.restart(after[0].at_ms);
        gateway.replay(after);
        let totals = &gateway.receiver.totals;
        totals.assert_equals(&capture.provider, capture.version);
    }
}
