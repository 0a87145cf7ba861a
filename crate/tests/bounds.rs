//! Memory at the engine's bounds, and the amount that it hands out at once: a module's memory never shrinks.

use crate::common::{Gateway, at, pick};
use agentwatch_openclaw::activity::records::Written;
use agentwatch_openclaw::delivery::records::Records;
use agentwatch_openclaw::domain::time::Now;
use agentwatch_openclaw::journal::log::Entry;
use agentwatch_openclaw::journal::pieces::PIECE_BYTES;
use agentwatch_openclaw::matching::{MatchRecord, Matcher};
use agentwatch_openclaw::sources::{self, Event, SOURCES};
use serde_json::{Value, json};

const START_MS: u64 = 1_795_000_000_000;
/// Maximum number of match records.
const MAX_MATCH_RECORDS: usize = 16_384;

/// The message of a call that began this many ms after the start, in one of several sessions.
fn message(after_ms: u64) -> Value {
    json!({
        "event": {"message": {"role": "assistant", "provider": "p", "model": "m", "stopReason": "stop",
            "timestamp": START_MS + after_ms, "usage": {"input": 1 + after_ms, "output": 2, "cost": {"total": 0.001}}}},
        "ctx": {"sessionKey": format!("agent:main:{}", after_ms % 2_000)},
    })
}

/// Reports a call to a ledger.
fn hear(ledger: &mut Matcher, after_ms: u64, now: Now) {
    hear_by(ledger, "before_message_write", &message(after_ms), now);
}

fn hear_by(ledger: &mut Matcher, source: &str, args: &Value, now: Now) {
    let sources = SOURCES.iter().enumerate();
    let mut tables = sources.filter(|(_, table)| table.source == source);
    let read = tables.find_map(|(index, _)| {
        let facts = pick(index, args)?;
        sources::read(index, facts, now.wall_ms).ok()
    });
    match read {
        Some(Event::Call(observation)) => drop(ledger.observe(*observation, now)),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_match_record_is_small() {
    assert!(
        size_of::<MatchRecord>() <= 112,
        "{}",
        size_of::<MatchRecord>()
    );
}

#[test]
fn match_records_are_kept_for_at_most_ten_minutes_and_a_second() {
    for part_ms in [0, 1, 500, 999] {
        let mut ledger = Matcher::new(1);
        let heard = at(START_MS + part_ms);
        hear(&mut ledger, 0, heard);
        for (age_ms, slots) in [(600_000, 1), (601_999, 0)] {
            ledger.due(at(heard.wall_ms + age_ms));
            assert_eq!(
                ledger.match_records(),
                slots,
                "{age_ms} ms, heard at {part_ms}"
            );
        }
    }
}

#[test]
fn a_burst_between_two_rounds_stays_within_the_bound() {
    let mut ledger = Matcher::new(1);
    for after_ms in 0..20_000 {
        let now = at(START_MS + after_ms);
        hear(&mut ledger, after_ms, now);
        if after_ms % 1_000 == 999 {
            ledger.due(now);
        }
        assert!(ledger.match_records() <= MAX_MATCH_RECORDS);
    }
    assert_eq!(
        ledger.match_records() as u64 + ledger.counts().evicted,
        20_000
    );
    assert!(ledger.match_records() >= MAX_MATCH_RECORDS - 1);
}

#[test]
fn calls_that_wait_for_the_session_store_stay_within_the_bound() {
    let mut ledger = Matcher::new(1);
    ledger.reconciled(START_MS);
    let end = json!({"event": {"provider": "p", "model": "m", "sessionKey": "s"}, "ctx": {}});
    hear_by(&mut ledger, "model_call_ended", &end, at(START_MS));
    for after_ms in 0..40_000 {
        let now = at(START_MS + after_ms);
        hear(&mut ledger, after_ms, now);
        if after_ms % 1_000 == 999 {
            ledger.due(now);
        }
        assert!(ledger.match_records() <= MAX_MATCH_RECORDS + 1_000);
    }
    assert_eq!(ledger.open(), 0);
}

#[test]
fn a_batch_of_records_is_bounded_by_its_bytes() {
    let mut records = Records::new(1_000, 1);
    records.expect_ids(true);
    let longest = 300 * 1024;
    for size in [longest, 1_000, 1_000].into_iter().chain([2_000; 300]) {
        let record = Written::new(1, &"x".repeat(size)).unwrap();
        records.push(record, Entry::default(), 0, 0);
    }
    let mut bodies = Vec::new();
    while let Some(request) = records.begin(10_000, true) {
        bodies.push(request.body.unwrap().len());
        records.answered(
            &agentwatch_openclaw::delivery::reply::Reply::of(200, r#"{"status": "ok"}"#),
            10_000,
        );
    }
    assert!(bodies[0] > longest && bodies[0] < longest + 100, "alone");
    assert!(
        bodies[1..].iter().all(|bytes| *bytes <= 256 * 1024),
        "{bodies:?}"
    );
    assert!(bodies.len() < 6 && records.delivered == 303, "{bodies:?}");
}

#[test]
fn a_snapshot_leaves_in_small_pieces() {
    let mut gateway = Gateway::new(false);
    for after_ms in 0..5_000 {
        gateway.hear(
            "before_message_write",
            &message(after_ms),
            START_MS + after_ms,
        );
    }
    gateway.engine.advance(at(START_MS + 6_000));
    gateway.write();
    gateway.engine.compact();
    // Each piece is one change of the disk, and so is the final rename.
    let before = gateway.disk.changes();
    gateway.write();
    let changes = gateway.disk.changes() - before;
    let bytes = gateway.disk.files().values().map(Vec::len).max().unwrap();
    assert!(changes > 10, "{changes}");
    assert!(
        changes > bytes as u64 / (2 * PIECE_BYTES as u64),
        "{bytes} bytes in {changes}"
    );
}

#[test]
fn traces_of_turns_that_end_together_are_made_in_portions() {
    let mut gateway = Gateway::new(false);
    for after_ms in 0..500 {
        gateway.hear(
            "before_message_write",
            &message(after_ms),
            START_MS + after_ms,
        );
    }
    gateway.engine.advance(at(START_MS + 5_000));
    let mut told = vec![waiting(&gateway)];
    for round in 0..20 {
        gateway.engine.advance(at(START_MS + 700_000 + round * 250));
        told.push(waiting(&gateway));
    }
    let most = told.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap();
    assert!(most <= 125, "{told:?}");
    assert_eq!(told.last().unwrap() - told[0], 500);
}

/// Number of records that wait to be sent.
fn waiting(gateway: &Gateway) -> u64 {
    gateway.status()["records_waiting"].as_u64().unwrap()
}
