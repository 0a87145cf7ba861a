//! The sums for reports through the whole engine: each call counts once, over kills at any byte of the journal.

use std::collections::BTreeMap;

use crate::common::{Gateway, at, pick};
use agentwatch_openclaw::report::{Format, Report, Wanted};
use agentwatch_openclaw::sources::SOURCES;
use agentwatch_openclaw::sources::facts::Scalar;
use serde_json::{Value, json};

const START_MS: u64 = 1_795_000_000_000;
const LATE_MS: u64 = START_MS + 600_000;
const ROWS: u64 = 5;

/// Takes the rows of a session, unless their bookmark is there.
fn take_rows(gateway: &mut Gateway, now_ms: u64) {
    if gateway.engine.bookmarks().next().is_some() {
        return;
    }
    let source = SOURCES.iter().position(|table| table.source == "stored");
    let source = source.unwrap();
    let rows: Vec<Scalar> = (0..ROWS)
        .map(|index| {
            let at_ms = START_MS + index * 10_000;
            let row = json!({
                "event": {"id": format!("row{index}"), "timestamp": at_ms + 900, "message": {"role": "assistant",
                    "provider": "p", "model": "m", "stopReason": "stop", "timestamp": at_ms,
                    "usage": {"input": 50, "output": 7, "cost": {"total": 0.5}}}},
                "ctx": {"sessionId": "one", "agentId": "main"},
            });
            Scalar::List(pick(source, &row).unwrap())
        })
        .collect();
    let read = ("main/one", Some("100:1"));
    gateway
        .engine
        .take_rows(source, &rows, read, false, at(now_ms));
}

/// The files of the journal.
fn files(gateway: &Gateway) -> BTreeMap<String, Vec<u8>> {
    let files = gateway.disk.files();
    files
        .iter()
        .map(|(name, bytes)| (name.clone(), bytes.clone()))
        .collect()
}

/// The calls and the USD of a report.
fn reported(gateway: &Gateway) -> (u64, f64) {
    let wanted = Wanted {
        since: Some("30d".to_owned()),
        ..Wanted::default()
    };
    let mut report = Report::new(&wanted, LATE_MS + 60_000).unwrap();
    for (name, bytes) in files(gateway) {
        if name.starts_with("ledger-") {
            report.ledger(&bytes).unwrap();
        }
    }
    report.finish();
    let document = report.output(Format::Json, "").concat();
    let document: Value = serde_json::from_str(&document).unwrap();
    let sum = &document["sum"];
    (
        sum["calls"].as_u64().unwrap(),
        sum["cost_usd"].as_f64().unwrap(),
    )
}

/// A gateway with these files, after its start and another reading.
fn continued(files: BTreeMap<String, Vec<u8>>) -> Gateway {
    let mut gateway = Gateway::new(false);
    *gateway.disk.files() = files.into_iter().collect();
    gateway.restart(LATE_MS + 21_000);
    take_rows(&mut gateway, LATE_MS + 22_000);
    gateway.run_until(LATE_MS + 22_000, LATE_MS + 50_000);
    gateway.engine.compact();
    gateway.run_until(LATE_MS + 50_000, LATE_MS + 55_000);
    gateway
}

#[test]
fn each_call_is_in_the_report_once_wherever_a_write_was_torn() {
    let mut whole = Gateway::new(false);
    take_rows(&mut whole, LATE_MS);
    whole.write();
    // The calls become final, and nothing is sent.
    for second in 1..20 {
        whole.advance(LATE_MS + second * 1_000);
        whole.write();
    }
    let all = files(&whole);
    let of = |prefix: &str| {
        let mut found = all.iter().filter(|(name, _)| name.starts_with(prefix));
        let (name, bytes) = found.next().unwrap();
        (name.clone(), bytes.clone())
    };
    let expected = (ROWS, 0.5 * ROWS as f64);
    assert_eq!(reported(&whole), expected);
    // The ledger is written before the log of calls.
    let (ledger, bytes) = of("ledger-");
    for cut in (0..=bytes.len()).step_by(23) {
        let torn = BTreeMap::from([(ledger.clone(), bytes[..cut].to_vec())]);
        assert_eq!(
            reported(&continued(torn)),
            expected,
            "the ledger cut at {cut}"
        );
    }
    let (calls, bytes) = of("model-calls-");
    for cut in (0..=bytes.len()).step_by(23) {
        let mut torn = all.clone();
        torn.insert(calls.clone(), bytes[..cut].to_vec());
        let gateway = continued(torn);
        assert_eq!(reported(&gateway), expected, "the calls cut at {cut}");
        assert_eq!(gateway.receiver.totals.requests(), ROWS);
    }
}
