//! What a gateway that stops, or that loads the plugin again, makes of calls whose surfaces have not all spoken.
#![cfg(not(target_arch = "wasm32"))]

mod common;

use common::Gateway;
use serde_json::{Value, json};

const ENDED_MS: u64 = 1_795_000_000_900;

/// 2026.9.6 tells that a call ended some ms before it stores the message that has its usage.
fn end() -> Value {
    json!({"event": {
        "provider": "p", "model": "m", "sessionKey": "s", "durationMs": 900, "ts": ENDED_MS,
        "trace": {"spanId": "a"},
    }})
}

fn message() -> Value {
    json!({
        "event": {"message": {
            "role": "assistant", "provider": "p", "model": "m", "stopReason": "stop",
            "usage": {"input": 30, "output": 7, "cacheRead": 0, "cacheWrite": 0, "cost": {"total": 0.5}},
            "timestamp": ENDED_MS - 900,
        }},
        "ctx": {"sessionKey": "s", "agentId": "main"},
    })
}

/// The message comes, and the call has its tokens.
fn assert_counts_once(gateway: &mut Gateway) {
    gateway.hear("before_message_write", &message(), ENDED_MS + 5);
    gateway.run_until(ENDED_MS + 5, ENDED_MS + 60_000);
    assert_has_its_tokens(gateway);
}

fn assert_has_its_tokens(gateway: &Gateway) {
    let mut expected = common::Totals::default();
    expected.add("p/m", 1, 30, 7, 0.5);
    let totals = &gateway.receiver.totals;
    totals.assert_equals(&expected, "once, with its tokens");
}

/// Stops a gateway that heard some of a call, with a journal that `keeps` what is open or without, and sends what is final.
fn stop(heard: &[(&str, Value)], keeps: bool) -> Gateway {
    let mut gateway = Gateway::new(true);
    for (source, args) in heard {
        gateway.hear(source, args, ENDED_MS);
    }
    gateway.core.close(keeps, gateway.now(ENDED_MS + 1));
    gateway.write();
    gateway.send(ENDED_MS + 1, true);
    gateway.write();
    gateway
}

#[test]
fn a_call_whose_message_is_still_to_come_waits_for_it_in_the_journal() {
    let mut gateway = stop(&[("model.call.completed", end())], true);
    assert_eq!(gateway.receiver.totals.requests(), 0);
    gateway.restart(ENDED_MS + 4);
    assert_counts_once(&mut gateway);
}

#[test]
fn a_call_whose_message_never_came_is_a_request_at_the_next_start() {
    let mut gateway = stop(&[("model.call.completed", end())], true);
    gateway.restart(ENDED_MS + 3_600_000);
    gateway.run_until(ENDED_MS + 3_600_000, ENDED_MS + 3_660_000);
    assert_eq!(gateway.receiver.totals.requests(), 1);
}

#[test]
fn without_a_journal_nobody_could_wait() {
    let gateway = stop(&[("model.call.completed", end())], false);
    assert_eq!(gateway.receiver.totals.requests(), 1);
}

#[test]
fn a_call_whose_usage_is_known_is_sent_before_the_end() {
    let gateway = stop(&[("before_message_write", message())], true);
    assert_eq!(gateway.receiver.totals.requests(), 1);
}

#[test]
fn the_gateways_own_word_that_it_stops_ends_no_such_call_either() {
    let events = [
        ("model.call.completed", end()),
        ("gateway_stop", json!({"event": {}, "ctx": {}})),
    ];
    let mut gateway = Gateway::new(true);
    for (source, args) in &events {
        gateway.hear(source, args, ENDED_MS);
    }
    gateway.run_until(ENDED_MS, ENDED_MS + 4);
    assert_counts_once(&mut gateway);
}

/// The same as the gateway's timing tells it, which knows of no usage at all.
fn timing() -> Value {
    json!({
        "event": {"provider": "p", "model": "m", "sessionKey": "s", "durationMs": 900, "outcome": "completed"},
        "ctx": {"trace": {"spanId": "a"}},
    })
}

/// A gateway that told of a call's end while it loaded the plugin again: nobody heard the diagnostic, and the message comes
/// seconds late, or never, since newer gateways refuse the former instance's hooks.
fn heard_of_the_end_alone() -> Gateway {
    let mut gateway = Gateway::new(true);
    gateway.core.set_reconciled(ENDED_MS - 60_000);
    gateway.hear("model_call_ended", &timing(), ENDED_MS);
    gateway
}

/// The message as the session store has it.
fn row() -> Value {
    json!({
        "event": {"id": "e", "timestamp": ENDED_MS + 5, "message": message()["event"]["message"]},
        "ctx": {"sessionId": "one", "agentId": "main"},
    })
}

#[test]
fn a_call_of_which_only_the_end_was_told_has_its_tokens_from_the_session_store() {
    let mut gateway = heard_of_the_end_alone();
    gateway.run_until(ENDED_MS, ENDED_MS + 110_000);
    assert_eq!(gateway.receiver.totals.requests(), 0);
    gateway.hear("stored", &row(), ENDED_MS + 110_000);
    gateway.run_until(ENDED_MS + 110_000, ENDED_MS + 400_000);
    assert_has_its_tokens(&gateway);
}

#[test]
fn its_end_told_twice_is_still_of_the_first_time_behind_two_restarts() {
    let mut gateway = heard_of_the_end_alone();
    gateway.hear("model_call_ended", &timing(), ENDED_MS + 300);
    gateway.write();
    gateway.restart(ENDED_MS + 500);
    gateway.core.compact();
    gateway.write();
    gateway.restart(ENDED_MS + 900);
    gateway.hear("stored", &row(), ENDED_MS + 110_000);
    gateway.run_until(ENDED_MS + 110_000, ENDED_MS + 400_000);
    assert_has_its_tokens(&gateway);
}

#[test]
fn its_message_may_come_seconds_later() {
    let mut gateway = heard_of_the_end_alone();
    gateway.run_until(ENDED_MS, ENDED_MS + 5_000);
    gateway.hear("before_message_write", &message(), ENDED_MS + 5_000);
    gateway.run_until(ENDED_MS + 5_000, ENDED_MS + 8_000);
    assert_has_its_tokens(&gateway);
}

#[test]
fn it_is_a_request_without_tokens_where_nobody_knows_more() {
    let mut gateway = heard_of_the_end_alone();
    gateway.run_until(ENDED_MS, ENDED_MS + 400_000);
    assert_eq!(gateway.receiver.totals.requests(), 1);
}

#[test]
fn a_diagnostic_without_usage_is_the_last_word() {
    // A compaction of 2026.6.
    let mut gateway = heard_of_the_end_alone();
    gateway.hear("model.call.completed", &end(), ENDED_MS + 5);
    gateway.run_until(ENDED_MS, ENDED_MS + 2_000);
    assert_eq!(gateway.receiver.totals.requests(), 1);
}

#[test]
fn nobody_waits_for_a_session_store_that_is_not_read() {
    let mut gateway = Gateway::new(true);
    gateway.hear("model_call_ended", &timing(), ENDED_MS);
    gateway.run_until(ENDED_MS, ENDED_MS + 2_000);
    assert_eq!(gateway.receiver.totals.requests(), 1);
}
