//! Which rows of the session store the engine reads, and the marks by which it goes on after a kill.

use crate::common::stored::{WRITTEN_MS, answer, facts, picked, with};
use crate::common::{Gateway, at};
use agentwatch_openclaw::domain::time::Now;
use agentwatch_openclaw::engine::store::{Gaps, SETTLED_AFTER_MS, pause_after_ms};
use agentwatch_openclaw::sessions::marks::Span;
use agentwatch_openclaw::sources::SOURCES;
use agentwatch_openclaw::sources::facts::Scalar;
use serde_json::json;

/// The start of the process.
const BEGUN_MS: u64 = WRITTEN_MS - 3_600_000;
const HOUR_MS: u64 = 3_600_000;

fn begun() -> Gateway {
    let mut gateway = Gateway::new(false);
    begin(&mut gateway, BEGUN_MS);
    gateway
}

fn begin(gateway: &mut Gateway, now_ms: u64) -> u64 {
    gateway
        .engine
        .begin_store(at(BEGUN_MS), true, false, at(now_ms))
}

fn span(since_ms: u64, until_ms: u64) -> Span {
    Span { since_ms, until_ms }
}

fn stored() -> usize {
    let mut sources = SOURCES.iter();
    sources.position(|table| table.source == "stored").unwrap()
}

fn row(value: &serde_json::Value) -> Scalar {
    Scalar::List(facts(&picked(value)))
}

#[test]
fn the_first_owner_sets_the_floor_and_later_ones_keep_it() {
    let mut gateway = begun();
    assert_eq!(gateway.engine.floor_ms(), Some(BEGUN_MS));
    gateway.write();
    gateway.restart(BEGUN_MS + HOUR_MS);
    let later = at(BEGUN_MS + HOUR_MS);
    gateway.engine.begin_store(later, true, false, later);
    assert_eq!(gateway.engine.floor_ms(), Some(BEGUN_MS));
    assert_eq!(gateway.engine.reconciled_ms(), Some(BEGUN_MS));
}

#[test]
fn a_process_that_does_not_count_rows_by_itself_matches_them_from_a_request_on() {
    let mut gateway = Gateway::new(false);
    let now = at(BEGUN_MS + 5_000);
    gateway.engine.begin_store(at(BEGUN_MS), false, false, now);
    assert_eq!(gateway.engine.reconciled_ms(), None);
    assert_eq!(gateway.engine.gaps_to_read(0, at(BEGUN_MS + HOUR_MS)), None);
    gateway.engine.begin_store(at(BEGUN_MS), false, true, now);
    assert_eq!(gateway.engine.reconciled_ms(), Some(BEGUN_MS + 5_000));
}

#[test]
fn a_floor_in_the_future_moves_to_the_start_of_the_process() {
    let mut gateway = begun();
    // The clock was five hours ahead at the start, and was set back an hour later.
    let now = Now {
        wall_ms: BEGUN_MS - 4 * HOUR_MS,
        mono_ms: at(BEGUN_MS + HOUR_MS).mono_ms,
    };
    let moved = gateway.engine.begin_store(at(BEGUN_MS), true, false, now);
    assert_eq!(moved, BEGUN_MS - 5 * HOUR_MS);
    assert_eq!(gateway.engine.floor_ms(), Some(moved));
}

#[test]
fn new_rows_are_read_from_the_last_time_on_at_their_age() {
    let mut gateway = begun();
    let engine = &mut gateway.engine;
    assert_eq!(engine.gaps_to_read(60_000, at(BEGUN_MS + 60_000)), None);
    let now = BEGUN_MS + 100_000;
    let gaps = engine.gaps_to_read(2_000, at(now)).unwrap();
    let future_ms = now + SETTLED_AFTER_MS;
    let read = span(BEGUN_MS, now - 2_000);
    assert_eq!(
        gaps,
        Gaps {
            span: read,
            future_ms
        }
    );
    // Rows of the last minute may still be missing in the store.
    engine.gaps_are_read(gaps.span, at(now));
    assert_eq!(engine.reconciled_ms(), Some(now - SETTLED_AFTER_MS));
    // A step is a write to the journal, so small ones wait.
    let gaps = engine.gaps_to_read(2_000, at(now + 29_999)).unwrap();
    engine.gaps_are_read(gaps.span, at(now + 29_999));
    assert_eq!(engine.reconciled_ms(), Some(now - SETTLED_AFTER_MS));
    engine.gaps_are_read(gaps.span, at(now + 30_000));
    assert_eq!(
        engine.reconciled_ms(),
        Some(now - SETTLED_AFTER_MS + 30_000 - 2_001 + 2_001)
    );
}

#[test]
fn after_a_clock_was_set_back_rows_are_matched_from_five_minutes_before() {
    let mut gateway = begun();
    let back = BEGUN_MS - HOUR_MS;
    let gaps = gateway.engine.gaps_to_read(0, at(back)).unwrap();
    assert_eq!(gaps.span, span(back - 300_000, back));
    assert_eq!(gateway.engine.reconciled_ms(), Some(back - 300_000));
}

#[test]
fn a_span_of_history_ends_with_the_floor_moved_back() {
    let mut gateway = begun();
    let (engine, now) = (&mut gateway.engine, at(BEGUN_MS));
    assert_eq!(engine.plan_history(BEGUN_MS, BEGUN_MS, now), None);
    assert!(engine.has_history(BEGUN_MS, BEGUN_MS));
    assert!(!engine.has_history(BEGUN_MS - 1, BEGUN_MS));
    let first = span(BEGUN_MS - HOUR_MS, BEGUN_MS);
    let planned = engine.plan_history(first.since_ms, BEGUN_MS, now);
    assert_eq!(planned, Some(first));
    // The span that was begun comes first.
    assert_eq!(engine.plan_history(0, BEGUN_MS, now), Some(first));
    assert!(engine.has_history(first.since_ms, BEGUN_MS) && !engine.has_history(0, BEGUN_MS));
    engine.take_batch(stored(), &[], ("main/s", Some("1:x")), true, now);
    engine.take_batch(stored(), &[], ("main/s", Some("9:y")), false, now);
    assert_eq!(
        engine.store_bookmarks(true),
        [("main/s".into(), "1:x".into())]
    );
    assert_eq!(engine.history_to_read(now), Some(first));
    engine.end_history(now);
    assert_eq!(engine.floor_ms(), Some(first.since_ms));
    assert_eq!(
        (engine.history(), engine.history_to_read(now)),
        (None, None)
    );
    assert_eq!(engine.store_bookmarks(true), []);
    assert_eq!(
        engine.store_bookmarks(false),
        [("main/s".into(), "9:y".into())]
    );
    let second = span(0, first.since_ms);
    assert_eq!(engine.plan_history(0, BEGUN_MS, now), Some(second));
}

/// A gateway appends a row some ms after its time, and writes its line in pieces. Rows that history counted count once.
#[test]
fn a_row_from_just_before_the_floor_that_history_missed_counts() {
    let mut gateway = begun();
    let now = at(BEGUN_MS + 1_000);
    let written = |before_ms: u64, entry: &str| {
        let mut answer = with("/message/timestamp", json!(BEGUN_MS - before_ms - 500));
        answer["timestamp"] = json!(
            humantime::format_rfc3339_millis(
                std::time::UNIX_EPOCH + std::time::Duration::from_millis(BEGUN_MS - before_ms)
            )
            .to_string()
        );
        answer["id"] = json!(entry);
        row(&answer)
    };
    let (known, late) = (written(9_000, "known"), written(100, "late"));
    gateway.engine.plan_history(0, BEGUN_MS, now);
    let read = ("main/s", Some("1:x"));
    gateway
        .engine
        .take_batch(stored(), std::slice::from_ref(&known), read, true, now);
    gateway.engine.end_history(now);
    gateway.write();
    gateway.restart(BEGUN_MS + 5_000);
    begin(&mut gateway, BEGUN_MS + 5_000);
    let gaps = gateway
        .engine
        .gaps_to_read(2_000, at(BEGUN_MS + 5_000))
        .unwrap();
    assert_eq!(gaps.span, span(BEGUN_MS - 60_000, BEGUN_MS + 3_000));
    let later = at(BEGUN_MS + 5_000);
    gateway
        .engine
        .take_batch(stored(), &[known, late], read, false, later);
    gateway.run_until(BEGUN_MS + 5_000, BEGUN_MS + 20_000);
    assert_eq!(gateway.receiver.totals.requests(), 2);
    // Rows that were matched long after the floor are not matched again.
    gateway.engine.set_reconciled(BEGUN_MS + HOUR_MS);
    let later = at(BEGUN_MS + 2 * HOUR_MS);
    gateway.engine.plan_history(0, BEGUN_MS, later);
    gateway.engine.end_history(later);
    assert_eq!(gateway.engine.reconciled_ms(), Some(BEGUN_MS + HOUR_MS));
}

/// The process is killed after any change of the disk while a span ends.
#[test]
fn an_interrupted_end_of_history_is_recognised() {
    for changes in 0..6 {
        let mut gateway = begun();
        let now = at(BEGUN_MS + 1_000);
        let first = span(BEGUN_MS - HOUR_MS, BEGUN_MS);
        gateway.engine.plan_history(first.since_ms, BEGUN_MS, now);
        gateway
            .engine
            .take_batch(stored(), &[], ("main/s", Some("1:x")), true, now);
        gateway.write();
        gateway.disk.fail_after(changes, 11);
        gateway.engine.end_history(now);
        gateway.write();
        gateway.disk.be_well();
        gateway.restart(BEGUN_MS + 2_000);
        let later = at(BEGUN_MS + 2_000);
        begin(&mut gateway, BEGUN_MS + 2_000);
        let engine = &mut gateway.engine;
        let floor = engine.floor_ms().unwrap();
        match engine.history_to_read(later) {
            Some(span) => assert_eq!((span, floor), (first, BEGUN_MS), "after {changes}"),
            None => {
                assert_eq!(floor, first.since_ms, "after {changes}");
                assert_eq!(engine.store_bookmarks(true), [], "after {changes}");
            }
        }
    }
}

#[test]
fn rows_of_history_without_a_time_are_left_out_and_counted() {
    let mut gateway = begun();
    let now = at(WRITTEN_MS + 120_000);
    let timeless = with("/timestamp", json!(null));
    let mut timeless_too = timeless.clone();
    timeless_too["message"]["timestamp"] = json!(null);
    timeless_too["id"] = json!("e-2");
    let rows = [row(&answer()), row(&timeless_too)];
    let read = ("main/s", Some("1:x"));
    assert_eq!(
        gateway.engine.take_batch(stored(), &rows, read, true, now),
        1
    );
    gateway.run_until(WRITTEN_MS + 120_000, WRITTEN_MS + 200_000);
    assert_eq!(gateway.receiver.totals.requests(), 1);
}

#[test]
fn a_bookmark_that_is_known_is_not_written_again() {
    let mut gateway = begun();
    let now = at(BEGUN_MS);
    let take = |gateway: &mut Gateway, mark| {
        gateway
            .engine
            .take_batch(stored(), &[], ("main/s", mark), false, now);
        gateway.write();
    };
    take(&mut gateway, Some("1:x"));
    let changes = gateway.disk.changes();
    take(&mut gateway, Some("1:x"));
    take(&mut gateway, None);
    assert_eq!(gateway.disk.changes(), changes);
    take(&mut gateway, Some(""));
    assert!(gateway.disk.changes() > changes);
    assert_eq!(gateway.engine.store_bookmarks(false), []);
}

#[test]
fn rows_wait_longer_while_another_process_reports_calls() {
    let mut owner = begun();
    assert_eq!(owner.engine.settled_after_ms(2_000, at(BEGUN_MS)), 2_000);
    let mut other = Gateway::new(false);
    other.engine.become_spool(owner.disk.other_host());
    let message = json!({
        "event": {"message": {"role": "assistant", "provider": "p", "model": "m", "stopReason": "stop",
            "timestamp": BEGUN_MS, "usage": {"input": 1, "output": 2}}},
        "ctx": {"sessionKey": "agent:main:s"},
    });
    other.disk = owner.disk.clone();
    other.hear("before_message_write", &message, BEGUN_MS);
    assert!(owner.engine.take_spools(at(BEGUN_MS + 1_000)));
    let settled = |owner: &Gateway, alone_ms, after_ms| {
        let now = at(BEGUN_MS + 1_000 + after_ms);
        owner.engine.settled_after_ms(alone_ms, now)
    };
    assert_eq!(settled(&owner, 2_000, 0), 6_000);
    assert_eq!(settled(&owner, 60_000, 0), 60_000);
    assert_eq!(settled(&owner, 2_000, 599_999), 6_000);
    assert_eq!(settled(&owner, 2_000, 600_000), 2_000);
}

#[test]
fn a_problem_is_logged_when_it_appears() {
    let mut gateway = begun();
    let mut logged = |problems: &[&str]| {
        let problems = problems.iter().map(|text| (*text).to_owned()).collect();
        gateway.engine.report_store(problems);
        gateway.engine.log_lines().len()
    };
    assert_eq!(logged(&["a", "b"]), 2);
    assert_eq!(logged(&["b", "a"]), 0);
    assert_eq!(logged(&["a", "c"]), 1);
    assert_eq!(logged(&[]), 0);
    assert_eq!(logged(&["a"]), 1);
}

#[test]
fn looks_take_a_twentieth_of_a_processor_at_most() {
    for (took, every, reads_history, pause) in [
        (10, 2_000, false, 2_000),
        (200, 2_000, false, 4_000),
        (60_000, 2_000, false, 60_000),
        (60_000, 90_000, false, 90_000),
        (60_000, 90_000, true, 2_000),
        (10, 500, true, 500),
        (u64::MAX, 2_000, false, 60_000),
    ] {
        assert_eq!(
            pause_after_ms(took, every, reads_history),
            pause,
            "{took} {every}"
        );
    }
}
