//! Old rows of the session store: history, and long gaps.

use crate::common::{Gateway, at, pick};
use agentwatch_openclaw::sources::SOURCES;
use agentwatch_openclaw::sources::facts::Scalar;
use serde_json::{Value, json};

const START_MS: u64 = 1_795_000_000_000;

fn row(started_ms: u64, entry: &str) -> Value {
    json!({
        "event": {"id": entry, "timestamp": started_ms + 900, "message": message(started_ms)},
        "ctx": {"sessionId": "one", "agentId": "main"},
    })
}

fn message(started_ms: u64) -> Value {
    json!({"role": "assistant", "provider": "p", "model": "m", "stopReason": "stop", "timestamp": started_ms,
        "usage": {"input": 50, "output": 7, "cost": {"total": 0.5}}})
}

fn rows(calls: impl Iterator<Item = (u64, String)>) -> Vec<Scalar> {
    calls
        .map(|(start, entry)| Scalar::List(pick(stored(), &row(start, &entry)).unwrap()))
        .collect()
}

fn stored() -> usize {
    SOURCES
        .iter()
        .position(|table| table.source == "stored")
        .unwrap()
}

/// Rows from before the plugin was installed: rows with equal usage and other begins are different calls, and a second
/// reading sends the same ids.
#[test]
fn history_is_not_matched_and_has_the_same_ids_when_read_twice() {
    let late = START_MS + 30 * 86_400_000;
    let rows = rows((0..40).map(|index| (START_MS + index, format!("row{index}"))));
    let mut told = Vec::new();
    for _ in 0..2 {
        let mut gateway = Gateway::new(false);
        let read = ("/history/main/one", Some("100:1"));
        gateway
            .engine
            .take_rows(stored(), &rows, read, true, at(late));
        gateway.run_until(late, late + 5_000);
        assert_eq!(gateway.receiver.totals.requests(), 40);
        told.push(gateway.receiver.ids);
    }
    assert_eq!(told[0], told[1]);
}

/// The rows and the bookmark survive a crash at any moment, together.
#[test]
fn a_crash_repeats_no_history() {
    let late = START_MS + 30 * 86_400_000;
    let rows = rows((0..40).map(|index| (START_MS + index * 5_000, format!("row{index}"))));
    let mut gateway = Gateway::new(false);
    let read = ("/history/main/one", Some("100:1"));
    gateway
        .engine
        .take_rows(stored(), &rows, read, true, at(late));
    gateway.run_until(late, late);
    gateway.restart(late + 1_000);
    assert_eq!(
        gateway.engine.bookmarks().next(),
        Some(("/history/main/one", "100:1"))
    );
    gateway.run_until(late + 1_000, late + 20_000);
    assert_eq!(gateway.receiver.totals.requests(), 40);
}

/// However many old rows are backfilled, a live call keeps the match record for its own row, and no row is treated as
/// too old to be matched.
#[test]
fn many_old_rows_evict_no_live_call_and_all_count() {
    let late = START_MS + 86_400_000;
    let mut gateway = Gateway::new(false);
    gateway.engine.set_reconciled(START_MS - 1_000);
    let live = json!({"event": {"message": message(late)}, "ctx": {"agentId": "main"}});
    gateway.hear("before_message_write", &live, late + 900);
    gateway.run_until(late + 900, late + 5_000);
    for session in 0..40_u64 {
        let start = START_MS + session % 5 * 1_000 + session;
        let rows =
            rows((0..500).map(|index| (start + index * 10_000, format!("{session}/{index}"))));
        gateway
            .engine
            .take_rows(stored(), &rows, ("main/one", None), false, at(late + 6_000));
        gateway.run_until(late + 6_000, late + 6_000);
    }
    gateway.run_until(late + 6_000, late + 60_000);
    gateway.hear("stored", &row(late, "live"), late + 61_000);
    gateway.run_until(late + 61_000, late + 90_000);
    assert_eq!(gateway.receiver.totals.requests(), 20_001);
}

/// A gateway was killed and restarted. The rows of its gap, which are read a minute later, do not prevent later calls
/// from matching their own rows.
#[test]
fn a_gap_that_is_filled_late_does_not_disturb_known_calls() {
    let (gap, told) = (START_MS, START_MS + 40_000);
    let mut gateway = Gateway::new(false);
    gateway.engine.set_reconciled(START_MS - 1_000);
    let live = json!({"event": {"message": message(told)}, "ctx": {"agentId": "main"}});
    gateway.hear("before_message_write", &live, told + 900);
    gateway.run_until(told + 900, told + 70_000);
    gateway.hear("stored", &row(gap, "gap"), told + 70_000);
    gateway.hear("stored", &row(told, "told"), told + 70_000);
    gateway.run_until(told + 70_000, told + 90_000);
    assert_eq!(gateway.receiver.totals.requests(), 2);
}
