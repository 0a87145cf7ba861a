//! Pending calls when the gateway stops or reloads the plugin.

use crate::common::Gateway;
use serde_json::{Value, json};

const ENDED_MS: u64 = 1_795_000_000_900;

/// 2026.9.6 reports a call's end some ms before it stores the message with its usage.
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

/// The message arrives, and the call has its tokens.
fn assert_counts_once(gateway: &mut Gateway) {
    gateway.hear("before_message_write", &message(), ENDED_MS + 5);
    gateway.run_until(ENDED_MS + 5, ENDED_MS + 60_000);
    assert_has_its_tokens(gateway);
}

fn assert_has_its_tokens(gateway: &Gateway) {
    let mut expected = crate::common::Totals::default();
    expected.add("p/m", 1, 30, 7, 0.5);
    let totals = &gateway.receiver.totals;
    totals.assert_equals(&expected, "once, with its tokens");
}

/// Stops a gateway with some reports of a call, with a journal that `keeps` pending calls or without, and sends the
/// final calls.
fn stop(heard: &[(&str, Value)], keeps: bool) -> Gateway {
    let mut gateway = Gateway::new(true);
    for (source, args) in heard {
        gateway.hear(source, args, ENDED_MS);
    }
    gateway.engine.close(keeps, gateway.now(ENDED_MS + 1));
    gateway.write();
    gateway.send(ENDED_MS + 1, true);
    gateway.write();
    gateway
}

#[test]
fn a_call_waits_for_its_message_in_the_journal() {
    let mut gateway = stop(&[("model.call.completed", end())], true);
    assert_eq!(gateway.receiver.totals.requests(), 0);
    gateway.restart(ENDED_MS + 4);
    assert_counts_once(&mut gateway);
}

#[test]
fn a_call_without_a_message_is_a_request_at_the_next_start() {
    let mut gateway = stop(&[("model.call.completed", end())], true);
    gateway.restart(ENDED_MS + 3_600_000);
    gateway.run_until(ENDED_MS + 3_600_000, ENDED_MS + 3_660_000);
    assert_eq!(gateway.receiver.totals.requests(), 1);
}

#[test]
fn without_a_journal_no_call_waits() {
    let gateway = stop(&[("model.call.completed", end())], false);
    assert_eq!(gateway.receiver.totals.requests(), 1);
}

#[test]
fn a_call_whose_usage_is_known_is_sent_before_the_end() {
    let gateway = stop(&[("before_message_write", message())], true);
    assert_eq!(gateway.receiver.totals.requests(), 1);
}

#[test]
fn the_gateways_stop_event_does_not_end_such_a_call() {
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

/// The same end in the gateway's timing, which has no usage.
fn timing() -> Value {
    json!({
        "event": {"provider": "p", "model": "m", "sessionKey": "s", "durationMs": 900, "outcome": "completed"},
        "ctx": {"trace": {"spanId": "a"}},
    })
}

/// A gateway that reported a call's end while it reloaded the plugin: the diagnostic is lost, and the message arrives
/// seconds late or never, since newer gateways refuse the former instance's hooks.
fn heard_of_the_end_alone() -> Gateway {
    let mut gateway = Gateway::new(true);
    gateway.engine.set_reconciled(ENDED_MS - 60_000);
    gateway.hear("model_call_ended", &timing(), ENDED_MS);
    gateway
}

/// The message in the session store.
fn row() -> Value {
    json!({
        "event": {"id": "e", "timestamp": ENDED_MS + 5, "message": message()["event"]["message"]},
        "ctx": {"sessionId": "one", "agentId": "main"},
    })
}

#[test]
fn a_call_with_only_an_end_gets_its_tokens_from_the_session_store() {
    let mut gateway = heard_of_the_end_alone();
    gateway.run_until(ENDED_MS, ENDED_MS + 110_000);
    assert_eq!(gateway.receiver.totals.requests(), 0);
    gateway.hear("stored", &row(), ENDED_MS + 110_000);
    gateway.run_until(ENDED_MS + 110_000, ENDED_MS + 400_000);
    assert_has_its_tokens(&gateway);
}

#[test]
fn a_repeated_end_keeps_the_first_time_across_two_restarts() {
    let mut gateway = heard_of_the_end_alone();
    gateway.hear("model_call_ended", &timing(), ENDED_MS + 300);
    gateway.write();
    gateway.restart(ENDED_MS + 500);
    gateway.engine.compact();
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
fn it_is_a_request_without_tokens_where_no_surface_has_more() {
    let mut gateway = heard_of_the_end_alone();
    gateway.run_until(ENDED_MS, ENDED_MS + 400_000);
    assert_eq!(gateway.receiver.totals.requests(), 1);
}

#[test]
fn a_diagnostic_without_usage_is_final() {
    // A compaction of 2026.6.
    let mut gateway = heard_of_the_end_alone();
    gateway.hear("model.call.completed", &end(), ENDED_MS + 5);
    gateway.run_until(ENDED_MS, ENDED_MS + 2_000);
    assert_eq!(gateway.receiver.totals.requests(), 1);
}

#[test]
fn calls_do_not_wait_for_a_session_store_that_is_not_read() {
    let mut gateway = Gateway::new(true);
    gateway.hear("model_call_ended", &timing(), ENDED_MS);
    gateway.run_until(ENDED_MS, ENDED_MS + 2_000);
    assert_eq!(gateway.receiver.totals.requests(), 1);
}
