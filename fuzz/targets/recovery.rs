//! A journal whose frames hold anything: a gateway goes on from it, sends what it holds, each call once, and says
//! no more of the journal than what it counted.
#![no_main]

use agentwatch_openclaw_fuzz::common::{Gateway, at};
use agentwatch_openclaw_fuzz::{NOW_MS, files};
use libfuzzer_sys::fuzz_target;
use std::collections::BTreeSet;

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
    // Again, before anything was sent: a restart takes nothing away and adds nothing.
    let waiting = gateway.status()["waiting"].clone();
    gateway.restart(NOW_MS + 10);
    assert_eq!(gateway.status()["waiting"], waiting);
    gateway.run_until(NOW_MS + 10, NOW_MS + 20_000);
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
    // Nothing of it comes again.
    let told = gateway.receiver.order.len();
    gateway.core.close(false, at(NOW_MS + 20_000));
    gateway.write();
    gateway.restart(NOW_MS + 30_000);
    gateway.run_until(NOW_MS + 30_000, NOW_MS + 40_000);
    assert_eq!(gateway.receiver.order.len(), told);
});
