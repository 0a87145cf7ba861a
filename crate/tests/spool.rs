//! The spool: how a process that does not own the journal reports to the owner.

use crate::common::{Gateway, at};
use serde_json::{Value, json};

const START_MS: u64 = 1_795_000_000_000;
const FILE: &str = "spool/v1_1_2_token_0_host";

fn message(index: u64) -> Value {
    json!({
        "event": {"message": {"role": "assistant", "provider": "p", "model": "m", "stopReason": "stop",
            "timestamp": START_MS + index * 100, "usage": {"input": 1 + index, "output": 2, "cost": {"total": 0.001}}}},
        "ctx": {"sessionKey": "agent:main:s"},
    })
}

/// A process on the owner's disk that spools its events.
fn other(owner: &Gateway) -> Gateway {
    let mut other = Gateway::new(false);
    other.disk = owner.disk.clone();
    other.engine.become_spool(owner.disk.other_host());
    other
}

fn hear(gateway: &mut Gateway, calls: std::ops::Range<u64>) {
    for index in calls {
        gateway.hear(
            "before_message_write",
            &message(index),
            START_MS + index * 100 + 50,
        );
    }
}

#[test]
fn the_owner_takes_in_a_spool_file_and_removes_it_once_journalled() {
    let mut owner = Gateway::new(false);
    let mut other = other(&owner);
    hear(&mut other, 0..5);
    assert!(other.engine.is_kept() && owner.disk.files().contains_key(FILE));
    assert!(owner.engine.take_spools(at(START_MS + 1_000)));
    assert!(!owner.disk.files().contains_key(FILE));
    assert!(!owner.engine.take_spools(at(START_MS + 1_100)));
    owner.restart(START_MS + 1_200);
    owner.run_until(START_MS + 1_200, START_MS + 60_000);
    assert_eq!(owner.receiver.totals.requests(), 5);
    assert_eq!(
        owner.status()["spooled"],
        0,
        "it was taken in by the process before"
    );
}

/// The owner dies after each change of the disk, and the next one continues.
#[test]
fn an_owner_that_dies_anywhere_counts_spooled_calls_once() {
    for changes in 0..8 {
        for torn in [0, 30] {
            let mut owner = Gateway::new(false);
            let mut other = other(&owner);
            hear(&mut other, 0..5);
            owner.disk.fail_after(changes, torn);
            owner.engine.take_spools(at(START_MS + 1_000));
            owner.write();
            owner.disk.be_well();
            owner.restart(START_MS + 2_000);
            owner.engine.take_spools(at(START_MS + 2_100));
            owner.run_until(START_MS + 2_100, START_MS + 60_000);
            assert_eq!(
                owner.receiver.totals.requests(),
                5,
                "behind {changes} changes"
            );
        }
    }
}

#[test]
fn a_failed_spool_write_stays_in_memory_and_is_retried() {
    let mut owner = Gateway::new(false);
    let mut other = other(&owner);
    owner.disk.fail_after(0, 7);
    hear(&mut other, 0..2);
    assert!(!other.engine.is_kept());
    owner.disk.files().clear();
    owner.disk.be_well();
    hear(&mut other, 2..3);
    other.run_until(START_MS + 400, START_MS + 10_000);
    assert!(other.engine.is_kept());
    assert_eq!(
        other.receiver.totals.requests(),
        0,
        "who owns the journal sends"
    );
    assert!(owner.engine.take_spools(at(START_MS + 11_000)));
    owner.run_until(START_MS + 11_000, START_MS + 60_000);
    assert_eq!(owner.receiver.totals.requests(), 3);
}

#[test]
fn a_former_owner_does_not_write_the_journal_and_spools_unwritten_events() {
    let mut former = Gateway::new(false);
    hear(&mut former, 0..1);
    // Received, and not written yet.
    let now = at(START_MS + 200);
    for (index, table) in agentwatch_openclaw::sources::SOURCES.iter().enumerate() {
        if table.source == "before_message_write"
            && let Some(facts) = crate::common::pick(index, &message(1))
        {
            former.engine.observe(index, facts, now);
        }
    }
    former.engine.become_spool(former.disk.other_host());
    former.write();
    let mut owner = Gateway::new(false);
    owner.disk = former.disk.clone();
    owner.restart(START_MS + 300);
    owner.engine.take_spools(at(START_MS + 400));
    owner.run_until(START_MS + 400, START_MS + 60_000);
    assert_eq!(owner.receiver.totals.requests(), 2);
}

#[test]
fn a_spool_that_is_not_read_is_bounded() {
    let owner = Gateway::new(false);
    let mut other = other(&owner);
    owner
        .disk
        .files()
        .insert(FILE.to_owned(), vec![0; 16 * 1024 * 1024]);
    hear(&mut other, 0..3);
    assert_eq!(other.status()["dropped_spool_full"], 3);
    other.advance(START_MS + 1_000);
    assert!(
        other
            .log
            .iter()
            .any(|line| line.contains("has not read what this one sees"))
    );
}
