//! The surfaces' bytes in the journal: an old file of format version 1 says today what it said when it was written.
#![cfg(not(target_arch = "wasm32"))]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use agentwatch_openclaw::files::LEDGER;
use agentwatch_openclaw::journal::{self, FILE_HEADER};
use common::Gateway;
use serde_json::{Value, json};

const START_MS: u64 = 1_795_000_000_000;

/// The ledger's file of [`journal_of_all_surfaces`], as it was written when there were these seven surfaces and a set of
/// them was one byte. It is never made anew: a change that fails here needs another version of the format.
const GOLDEN: &[u8] = include_bytes!("../../tests/fixtures/journal/surfaces-v1.awj");

/// A source of each of those surfaces, in the order of their bits.
const SURFACES: [&str; 7] = [
    "before_message_write",
    "model.call.completed",
    "model_call_ended",
    "model:used",
    "stored",
    "proxied",
    "litellm",
];

/// When a call began; it took 400 ms.
fn start_of(call: usize) -> u64 {
    START_MS + 60_000 * call as u64
}

fn end_of(call: usize) -> u64 {
    start_of(call) + 400
}

/// What a surface tells of a call. The session store's rows have ids, so that a second row needs another `entry`.
fn told(surface: &str, call: usize, model: &str, entry: &str) -> Value {
    let (started, ended, input) = (start_of(call), end_of(call), 100 + call);
    let session = "agent:main:s";
    let span = format!("span-{call}");
    let message = json!({
        "role": "assistant", "provider": "p", "model": model, "stopReason": "stop", "timestamp": started,
        "usage": {"input": input, "output": 7, "cost": {"total": 0.5}},
    });
    match surface {
        "before_message_write" => json!({
            "event": {"message": message},
            "ctx": {"sessionKey": session, "agentId": "main"},
        }),
        "model.call.completed" => json!({"event": {
            "provider": "p", "model": model, "usage": message["usage"], "sessionKey": session, "runId": "r",
            "durationMs": 400, "timeToFirstByteMs": 90, "ts": ended, "trace": {"spanId": span},
        }}),
        "model_call_ended" => json!({
            "event": {
                "provider": "p", "model": model, "sessionKey": session, "runId": "r", "durationMs": 400,
                "outcome": "completed",
            },
            "ctx": {"trace": {"spanId": span}},
        }),
        "model:used" => json!({"event": {
            "model": format!("p/{model}"), "promptTokens": input, "completionTokens": 7, "latencyMs": 400,
            "sessionKey": session,
        }}),
        "stored" => json!({
            "event": {"id": format!("{entry}-{call}"), "timestamp": ended, "message": message},
            "ctx": {"sessionId": "one", "sessionKey": session, "agentId": "main"},
        }),
        _ => json!({"event": {
            "provider": "p", "model": model, "input": input, "output": 7, "started": started, "ended": ended,
            "duration": 400, "ttfb": 80.0, "ttft": 120.0, "request_id": "req_1", "response_model": "m-2026",
            "cost": 0.25,
        }}),
    }
}

/// Of the first call one surface told, of each that follows one more; then calls that are still open, each told by one.
fn journal_of_all_surfaces() -> Vec<u8> {
    let mut gateway = Gateway::new(true);
    for call in 0..SURFACES.len() {
        for surface in &SURFACES[..=call] {
            gateway.hear(surface, &told(surface, call, "m", "first"), end_of(call));
        }
        gateway.run_until(end_of(call), start_of(call + 1));
    }
    let after_all = SURFACES.len();
    for (index, surface) in SURFACES.iter().enumerate() {
        let model = format!("open-{index}");
        gateway.hear(
            surface,
            &told(surface, after_all, &model, "first"),
            end_of(after_all),
        );
    }
    gateway.core.compact();
    gateway.write();
    let is_ledger = |(file, _): &(&String, &Vec<u8>)| file.starts_with(LEDGER);
    gateway.disk.0.iter().rfind(is_ledger).unwrap().1.clone()
}

#[test]
fn the_journal_has_the_bytes_that_it_had() {
    assert!(journal_of_all_surfaces() == GOLDEN, "other bytes");
    let mut again = journal::begin_file();
    for frame in journal::read(GOLDEN).unwrap().frames {
        journal::append_frame(&mut again, &frame);
    }
    assert!(again == GOLDEN, "they do not come back as they went");
    assert!(again.len() > FILE_HEADER);
}

/// How many calls are counted where a gateway with the old file hears of a call once more.
fn counted_again(surface: &str, call: usize) -> u64 {
    let mut gateway = Gateway::new(true);
    let file = [LEDGER, "0000000001.awj"].concat();
    gateway.disk.0.insert(file, GOLDEN.to_vec());
    gateway.restart(end_of(call));
    let before = gateway.status()["counted"].as_u64().unwrap();
    assert_eq!(gateway.status()["journal_corrupt"], 0);
    // The open calls are final some seconds later.
    let open = SURFACES.len() as u64;
    let args = told(surface, call, "m", "again");
    gateway.hear(surface, &args, end_of(call));
    gateway.run_until(end_of(call), end_of(call) + 20_000);
    gateway.status()["counted"].as_u64().unwrap() - before - open
}

/// A surface tells of a call once: so whether what it tells is a new call shows whether the file says that it had.
#[test]
fn an_old_journal_says_which_surfaces_told_of_a_call() {
    for call in 0..SURFACES.len() {
        for (index, surface) in SURFACES.iter().enumerate() {
            let had_told = index <= call;
            let counted = counted_again(surface, call);
            assert_eq!(counted, u64::from(had_told), "{surface} of call {call}");
        }
    }
}
