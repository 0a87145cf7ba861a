//! A journal with any frames: a gateway restores it, sends each of its calls once, and reports no more journal frames
//! than it counted.
#![no_main]

use agentwatch_openclaw_fuzz::common::{Gateway, at};
use agentwatch_openclaw_fuzz::{NOW_MS, files};
use libfuzzer_sys::fuzz_target;
use std::collections::BTreeSet;

/// Longer than a call waits for its row in the session store, in ms. A journal may say that the store is read.
const ALL_FINAL_MS: u64 = 180_000;

const FILES: [&str; 3] = [
    "ledger-0000000001.awj",
    "model-calls-0000000001.awj",
    "records-0000000001.awj",
];

fuzz_target!(|data: &[u8]| {
    let mut gateway = Gateway::new(true);
    gateway.receiver.refuses_rubbish = true;
    for (name, bytes) in FILES.iter().zip(files(data, FILES.len())) {
        gateway.disk.files().insert((*name).to_owned(), bytes);
    }
    gateway.restart(NOW_MS);
    gateway.write();
    // A restart before anything was sent removes and adds nothing.
    let waiting = gateway.status()["waiting"].clone();
    gateway.restart(NOW_MS + 10);
    assert_eq!(gateway.status()["waiting"], waiting);
    gateway.run_until(NOW_MS + 10, NOW_MS + ALL_FINAL_MS);
    let status = gateway.status();
    assert_eq!(
        (&status["waiting"], &status["open"]),
        (&0.into(), &0.into()),
        "{status}"
    );
    assert_eq!(status["records_waiting"], 0, "{status}");
    let ids: BTreeSet<&str> = gateway
        .receiver
        .calls
        .iter()
        .map(|call| call["id"].as_str().unwrap())
        .collect();
    assert_eq!(ids.len(), gateway.receiver.calls.len());
    // Nothing is sent twice.
    let told = gateway.receiver.order.len();
    gateway.engine.close(false, at(NOW_MS + ALL_FINAL_MS));
    gateway.write();
    gateway.restart(NOW_MS + 2 * ALL_FINAL_MS);
    gateway.run_until(NOW_MS + 2 * ALL_FINAL_MS, NOW_MS + 3 * ALL_FINAL_MS);
    assert_eq!(gateway.receiver.order.len(), told);
});
