//! A receiver that is unreachable for long: waiting calls go to disk, within bounds, and are sent in order.

use crate::common::{Gateway, Totals};
use agentwatch_openclaw::delivery::reply::Reply;
use serde_json::{Value, json};

const START_MS: u64 = 1_795_000_000_000;

fn message(index: u64) -> Value {
    json!({
        "event": {"message": {"role": "assistant", "provider": "p", "model": "m", "stopReason": "stop",
            "timestamp": START_MS + index * 100, "usage": {"input": 1 + index, "output": 2, "cost": {"total": 0.001}}}},
        "ctx": {"sessionKey": format!("agent:main:{}", index % 50)},
    })
}

/// Adds calls, 100 ms apart, while nothing is sent.
fn hear(gateway: &mut Gateway, calls: std::ops::Range<u64>) -> u64 {
    for index in calls.clone() {
        let at = START_MS + index * 100 + 50;
        gateway.hear("before_message_write", &message(index), at);
        if index % 64 == 0 {
            gateway.engine.advance(crate::common::at(at));
            gateway.write();
        }
    }
    let end = START_MS + calls.end * 100 + 2_000;
    gateway.engine.advance(crate::common::at(end));
    gateway.write();
    end
}

fn expected(calls: std::ops::Range<u64>) -> Totals {
    let mut totals = Totals::default();
    for index in calls {
        totals.add("p/m", 1, 1 + index, 2, 0.001);
    }
    totals
}

fn of_kind(gateway: &Gateway, prefix: &str) -> usize {
    let files = gateway.disk.files();
    files
        .iter()
        .filter(|(file, _)| file.starts_with(prefix))
        .map(|(_, bytes)| bytes.len())
        .sum()
}

#[test]
fn calls_beyond_memory_wait_on_disk_and_arrive() {
    let mut gateway = Gateway::new(false);
    let end = hear(&mut gateway, 0..9_000);
    assert_eq!(gateway.status()["waiting"], 9_000);
    gateway.run_until(end, end + 600_000);
    gateway
        .receiver
        .totals
        .assert_equals(&expected(0..9_000), "all");
    assert_eq!(gateway.status()["waiting"], 0);
    assert!(
        of_kind(&gateway, "model-calls-") < 300_000,
        "what is delivered leaves the disk"
    );
}

#[test]
fn a_restart_in_the_middle_of_a_backlog_changes_nothing() {
    let mut gateway = Gateway::new(false);
    let end = hear(&mut gateway, 0..9_000);
    for round in 0..6 {
        gateway.send(end + round, false);
        gateway.write();
        gateway.restart(end + round);
        gateway.run_until(end + round, end + round + 1);
    }
    gateway.run_until(end, end + 600_000);
    gateway
        .receiver
        .totals
        .assert_equals(&expected(0..9_000), "all");
    assert_eq!(gateway.status()["waiting"], 0);
}

#[test]
fn a_new_call_does_not_wait_for_the_whole_backlog() {
    let mut gateway = Gateway::new(false);
    let mut end = hear(&mut gateway, 0..15_000);
    let mut before_it = 0;
    // One request per round, as with a slow receiver; the new call arrives while the backlog is sent.
    for round in 0..1_000 {
        if round == 5 {
            end = hear(&mut gateway, 15_000..15_001);
            before_it = gateway.receiver.totals.requests();
        }
        gateway.advance(end);
        gateway.send_once(end);
        gateway.write();
        let newest = gateway
            .receiver
            .totals
            .0
            .get("p/m")
            .map_or(0, |t| t.largest);
        if newest == 15_001 {
            break;
        }
    }
    let waited = gateway.receiver.totals.requests() - before_it;
    assert!(waited < 6_000, "{waited} calls came before it");
    assert!(gateway.status()["waiting"].as_u64() > Some(5_000));
    gateway.run_until(end, end + 600_000);
    gateway
        .receiver
        .totals
        .assert_equals(&expected(0..15_001), "all");
}

#[test]
fn a_full_journal_drops_the_oldest_and_counts_them_exactly() {
    // The limit is 1 MiB; three quarters of it are for calls.
    let settings = r#"{"url": "http://receiver.test", "journalMaxMb": 1}"#;
    let mut gateway = Gateway::with(settings, false);
    let end = hear(&mut gateway, 0..14_000);
    assert!(of_kind(&gateway, "model-calls-") <= 768 * 1024 + 256 * 1024);
    let status = gateway.status();
    let dropped = status["dropped"]["disk_full"].as_u64().unwrap();
    assert!(dropped > 2_000, "{status}");
    assert_eq!(status["waiting"].as_u64().unwrap() + dropped, 14_000);
    gateway.run_until(end, end + 600_000);
    assert_eq!(gateway.receiver.totals.requests() + dropped, 14_000);
    gateway.restart(end + 700_000);
    gateway.run_until(end + 700_000, end + 800_000);
    assert_eq!(gateway.receiver.totals.requests() + dropped, 14_000);
}

/// A restart sends everything that the status does not count as dropped: what is in memory stays on disk.
#[test]
fn a_full_journal_keeps_the_calls_in_memory_on_disk() {
    let settings = r#"{"url": "http://receiver.test", "journalMaxMb": 1}"#;
    let mut gateway = Gateway::with(settings, false);
    let end = hear(&mut gateway, 0..14_000);
    let dropped = gateway.status()["dropped"]["disk_full"].as_u64().unwrap();
    gateway.restart(end);
    gateway.run_until(end, end + 600_000);
    assert_eq!(gateway.receiver.totals.requests() + dropped, 14_000);
}

#[test]
fn nothing_is_sent_before_it_is_on_disk() {
    let mut gateway = Gateway::new(false);
    let now = crate::common::at(START_MS + 5_000);
    let message = message(0);
    gateway.hear("before_message_write", &message, START_MS + 50);
    assert!(
        gateway.engine.begin(now, true).is_none(),
        "it is not final yet"
    );
    gateway.engine.advance(now);
    assert!(of_kind(&gateway, "model-calls-") > 0);
    assert!(gateway.engine.begin(now, true).is_some());
}

/// The disk fails after each of its changes: sending continues from memory, and all waiting calls are on disk once it
/// works.
#[test]
fn a_failing_disk_stops_nothing_and_is_repaired_once_it_works() {
    for changes in 0..4 {
        for torn in [0, 1, 40] {
            let mut gateway = Gateway::new(false);
            gateway.disk.fail_after(changes, torn);
            gateway.hear("before_message_write", &message(0), START_MS + 50);
            gateway.advance(START_MS + 3_000);
            let at = START_MS + 10_000;
            gateway.disk.fail_after(0, torn);
            gateway.hear("before_message_write", &message(100), at);
            gateway.advance(at + 2_000);
            let status = gateway.status();
            assert_eq!(status["journal_error"], "no space left");
            assert_eq!(status["waiting"], 2);
            gateway.disk.be_well();
            gateway.advance(at + 8_000);
            assert!(gateway.status()["journal_error"].is_null());
            assert!(
                gateway
                    .log
                    .iter()
                    .any(|line| line == "the journal is written again")
            );
            // The process dies before a request: both calls are on disk.
            gateway.restart(at + 9_000);
            gateway.run_until(at + 9_000, at + 60_000);
            let mut both = expected(0..1);
            both.add("p/m", 1, 101, 2, 0.001);
            gateway.receiver.totals.assert_equals(&both, "both");
        }
    }
}

#[test]
fn a_removed_journal_is_written_again() {
    let mut gateway = Gateway::new(false);
    let end = hear(&mut gateway, 0..10);
    gateway.disk.files().clear();
    let end = hear(&mut gateway, 10..11).max(end);
    assert!(
        gateway.status()["journal_error"]
            .as_str()
            .unwrap()
            .ends_with("was removed or changed")
    );
    gateway.advance(end + 6_000);
    assert!(gateway.status()["journal_error"].is_null());
    gateway.restart(end + 7_000);
    gateway.run_until(end + 7_000, end + 60_000);
    gateway
        .receiver
        .totals
        .assert_equals(&expected(0..11), "all");
}

/// New files would get the numbers of those that the folder has.
#[test]
fn a_journal_that_cannot_be_listed_stays_as_it_is_for_the_next_start() {
    let mut gateway = Gateway::new(false);
    let end = hear(&mut gateway, 0..100);
    let before = gateway.disk.files().clone();
    gateway.disk.hide_files(true);
    gateway.restart(end);
    gateway.advance(end);
    let end = hear(&mut gateway, 100..110).max(end);
    gateway.run_until(end, end + 60_000);
    let live = expected(100..110);
    gateway.receiver.totals.assert_equals(&live, "from memory");
    let says = |part: &str| gateway.log.iter().any(|line| line.contains(part));
    assert!(says("the journal cannot be listed (too many open files)"));
    assert!(says("restart the gateway"));
    gateway.disk.hide_files(false);
    gateway.run_until(end + 60_000, end + 120_000);
    assert_eq!(*gateway.disk.files(), before);
    gateway.restart(end + 120_000);
    gateway.run_until(end + 120_000, end + 180_000);
    let all = expected(0..110);
    gateway.receiver.totals.assert_equals(&all, "all");
}

#[test]
fn a_folder_without_a_journal_is_written_once_it_can_be_listed() {
    let mut gateway = Gateway::new(false);
    gateway.disk.files().clear();
    gateway.disk.hide_files(true);
    gateway.restart(START_MS);
    let end = hear(&mut gateway, 0..10);
    gateway.disk.hide_files(false);
    gateway.advance(end + 6_000);
    assert!(gateway.status()["journal_error"].is_null());
    gateway.restart(end + 7_000);
    gateway.run_until(end + 7_000, end + 60_000);
    gateway
        .receiver
        .totals
        .assert_equals(&expected(0..10), "all");
}

#[test]
fn a_segment_that_cannot_be_read_is_sent_after_the_next_start() {
    let mut gateway = Gateway::new(false);
    let mut end = hear(&mut gateway, 0..3_000);
    let files = gateway.disk.files().clone();
    let mut segments = files.keys().filter(|name| name.starts_with("model-calls-"));
    let sealed = segments.nth(1).unwrap().clone();
    gateway.disk.seal(Some(&sealed));
    for _ in 0..2 {
        gateway.restart(end);
        gateway.run_until(end, end + 600_000);
        end += 700_000;
        let sent = gateway.receiver.totals.requests();
        assert!(0 < sent && sent < 3_000, "{sent}");
        assert_eq!(gateway.disk.files().get(&sealed), files.get(&sealed));
    }
    gateway.disk.seal(None);
    gateway.restart(end);
    gateway.run_until(end, end + 600_000);
    gateway
        .receiver
        .totals
        .assert_equals(&expected(0..3_000), "all");
    assert!(!gateway.disk.files().contains_key(&sealed));
}

/// The disk fails once and works at the next attempt.
fn fail_once(gateway: &mut Gateway, at_ms: u64) -> u64 {
    gateway.disk.fail_after(0, 0);
    gateway.engine.bookmark("something", "to write");
    gateway.write();
    assert_eq!(gateway.status()["journal_error"], "no space left");
    gateway.disk.be_well();
    gateway.advance(at_ms + 6_000);
    gateway.write();
    assert!(gateway.status()["journal_error"].is_null());
    at_ms + 6_000
}

/// Calls in memory are written again; calls on disk only stay in their file. Acknowledgement marks of moved calls do
/// not count as delivered calls.
#[test]
fn a_disk_failure_during_a_backlog_loses_nothing_across_restarts() {
    let mut gateway = Gateway::new(false);
    let end = hear(&mut gateway, 0..5_000);
    let mut end = fail_once(&mut gateway, end);
    for _ in 0..3 {
        assert_eq!(gateway.status()["waiting"], 5_000);
        gateway.restart(end);
        gateway.write();
        end += 1_000;
    }
    gateway.run_until(end, end + 600_000);
    gateway
        .receiver
        .totals
        .assert_equals(&expected(0..5_000), "all");
    assert_eq!(gateway.status()["waiting"], 0);
}

/// A command event, which yields one log record and one trace.
fn command(at_ms: u64) -> Value {
    json!({"event": {"type": "command", "action": "new", "sessionKey": "agent:main:s", "context": {}, "timestamp": at_ms}})
}

#[test]
fn waiting_records_are_on_disk_once_it_works() {
    let mut gateway = Gateway::new(false);
    let at = START_MS + 10_000;
    gateway.hear("command", &command(at), at);
    gateway.disk.fail_after(0, 0);
    gateway.hear("command", &command(at + 50), at + 50);
    gateway.advance(at + 100);
    let waiting = gateway.status()["records_waiting"].clone();
    assert!(waiting.as_u64() > Some(3), "{waiting}");
    gateway.disk.be_well();
    gateway.advance(at + 6_000);
    gateway.write();
    let at = at + 6_000;
    // The process dies before a request.
    for _ in 0..2 {
        gateway.restart(at + 200);
        gateway.write();
        assert_eq!(gateway.status()["records_waiting"], waiting);
    }
    gateway.run_until(at + 200, at + 60_000);
    assert_eq!(gateway.status()["records_delivered"], waiting);
    assert_eq!(of_kind(&gateway, "records-"), 0);
}

/// A kill between an acknowledgement and the next disk change: entries acknowledged meanwhile are sent again, and a
/// receiver with record ids counts them once. Entries that the cursor on disk is past are not sent again.
#[test]
fn a_kill_sends_again_what_the_cursor_on_disk_is_not_past() {
    for is_written in [true, false] {
        let mut gateway = Gateway::new(false);
        let end = hear(&mut gateway, 0..300);
        gateway.send(end, true);
        assert_eq!(gateway.status()["delivered"], 300);
        if is_written {
            gateway.advance(end);
            gateway.write();
        }
        gateway.restart(end + 1_000);
        let again = if is_written { 0 } else { 300 };
        assert_eq!(gateway.status()["waiting"], again);
        gateway.run_until(end + 1_000, end + 60_000);
        assert_eq!(gateway.status()["delivered"], again);
        let totals = &gateway.receiver.totals;
        totals.assert_equals(&expected(0..300), "each once");
    }
}

/// A disk that fails, and fails again behind any change of the retry: calls that were on disk before stay there.
#[test]
fn a_retry_that_fails_keeps_the_calls_that_were_on_disk() {
    for changes in 0..8 {
        let mut gateway = Gateway::new(false);
        let end = hear(&mut gateway, 0..10);
        assert_eq!(gateway.status()["waiting"], 10);
        gateway.disk.fail_after(0, 0);
        gateway.engine.bookmark("something", "to write");
        gateway.write();
        assert_eq!(gateway.status()["journal_error"], "no space left");
        gateway.disk.fail_after(changes, 0);
        gateway.advance(end + 6_000);
        gateway.disk.be_well();
        gateway.restart(end + 7_000);
        gateway.run_until(end + 7_000, end + 60_000);
        let totals = &gateway.receiver.totals;
        totals.assert_equals(&expected(0..10), &format!("behind {changes} changes"));
    }
}

/// Files that are no longer needed and cannot be removed cost room, not the journal.
#[test]
fn a_file_that_cannot_be_removed_does_not_stop_the_journal() {
    let mut gateway = Gateway::new(false);
    let end = hear(&mut gateway, 0..10);
    gateway.disk.keep_files(true);
    gateway.engine.compact();
    gateway.write();
    assert!(gateway.status()["journal_error"].is_null());
    let is_named = |line: &String| line.contains("cannot be removed");
    gateway.advance(end + 1_000);
    assert!(gateway.log.iter().any(is_named), "{:?}", gateway.log);
    gateway.disk.keep_files(false);
    gateway.engine.bookmark("something", "to write");
    gateway.write();
    let files = gateway.disk.files();
    let ledgers = files.keys().filter(|file| file.starts_with("ledger-"));
    assert_eq!(ledgers.count(), 1);
    drop(files);
    gateway.restart(end + 2_000);
    gateway.run_until(end + 2_000, end + 60_000);
    gateway
        .receiver
        .totals
        .assert_equals(&expected(0..10), "all calls");
}

/// A server that is ill, or away behind a proxy, gets each record once it is back.
#[test]
fn an_ill_server_costs_no_records() {
    for status in [500, 404] {
        let mut gateway = Gateway::new(false);
        let send = |gateway: &mut Gateway, from: u64, status: u16| {
            for at in (from..from + 120_000).step_by(100) {
                gateway.advance(at);
                while gateway.engine.begin(gateway.now(at), false).is_some() {
                    let taken = r#"{"status":"ok"}"#;
                    let reply = Reply::of(status, if status == 200 { taken } else { "" });
                    gateway.engine.answered(&reply, gateway.now(at));
                }
            }
        };
        gateway.hear("command", &command(START_MS), START_MS);
        send(&mut gateway, START_MS + 5_000, 200);
        let at = START_MS + 200_000;
        for index in 0..50 {
            gateway.hear("command", &command(at + index), at + index);
        }
        send(&mut gateway, at + 5_000, status);
        assert_eq!(gateway.status()["records_dropped"], json!({}), "{status}");
        send(&mut gateway, at + 1_000_000, 200);
        assert_eq!(gateway.status()["records_waiting"], 0, "{status}");
    }
}
