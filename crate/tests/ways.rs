//! A proxy beside the gateway: what only it knows is told once, whether it comes in time or late.
#![cfg(not(target_arch = "wasm32"))]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{Gateway, at};
use serde_json::{Value, json};

const START_MS: u64 = 1_795_000_000_000;
const END_MS: u64 = START_MS + 400;

fn message() -> Value {
    json!({
        "event": {"message": {
            "role": "assistant", "provider": "p", "model": "m", "stopReason": "stop", "timestamp": START_MS,
            "usage": {"input": 50, "output": 7, "cacheRead": 0, "cacheWrite": 0, "cost": {"total": 0.5}},
        }},
        "ctx": {"sessionKey": "agent:main:s", "agentId": "main"},
    })
}

/// An answer that was stopped before anybody knew what it used.
fn aborted() -> Value {
    let mut message = message();
    message["event"]["message"]["stopReason"] = json!("aborted");
    message["event"]["message"]["usage"] = json!({"input": 0, "output": 0});
    message
}

fn proxied(extra: Value) -> Value {
    let mut call = json!({
        "provider": "p", "model": "m", "input": 50, "output": 7, "started": START_MS, "ended": END_MS,
        "duration": 400, "ttfb": 100.0, "ttft": 120.0, "request_id": "req_1", "response_model": "m-2026",
    });
    for (name, value) in extra.as_object().unwrap() {
        call[name] = value.clone();
    }
    json!({"event": call})
}

/// A gateway behind a proxy, as that proxy's first call showed.
fn behind_a_proxy() -> Gateway {
    let mut gateway = Gateway::new(false);
    let earlier =
        proxied(json!({"started": START_MS - 60_000, "ended": START_MS - 59_600, "input": 9}));
    gateway.hear("proxied", &earlier, START_MS - 59_000);
    gateway.run_until(START_MS - 59_000, START_MS);
    gateway
}

#[test]
fn a_call_waits_for_the_proxy_and_has_what_only_that_knows() {
    let mut gateway = behind_a_proxy();
    gateway.hear("before_message_write", &message(), END_MS);
    gateway.run_until(END_MS, END_MS + 1_500);
    assert_eq!(gateway.receiver.calls.len(), 1, "it waits");
    gateway.hear("proxied", &proxied(json!({"cost": 0.75})), END_MS + 1_500);
    gateway.run_until(END_MS + 1_500, END_MS + 9_000);
    let call = &gateway.receiver.calls[1];
    assert_eq!(call["agent_name"], "main");
    assert_eq!(
        (&call["ttfb_ms"], &call["ttft_ms"]),
        (&json!(100.0), &json!(120.0))
    );
    assert_eq!(
        (&call["request_id"], &call["response_model"]),
        (&json!("req_1"), &json!("m-2026"))
    );
    assert_eq!(
        (&call["cost_usd"], &call["cost_source"]),
        (&json!(0.75), &json!("provider"))
    );
    assert!(gateway.receiver.enrichments.is_empty());
}

#[test]
fn a_late_proxy_enriches_what_has_left() {
    let mut gateway = Gateway::new(false);
    gateway.hear("before_message_write", &message(), END_MS);
    gateway.run_until(END_MS, END_MS + 9_000);
    gateway.hear("proxied", &proxied(json!({"cost": 0.75})), END_MS + 9_000);
    gateway.run_until(END_MS + 9_000, END_MS + 20_000);
    assert_eq!(gateway.receiver.calls.len(), 1);
    let expected = json!([{
        "id": gateway.receiver.calls[0]["id"], "ttfb_ms": 100.0, "ttft_ms": 120.0, "request_id": "req_1",
        "response_model": "m-2026", "cost_usd": 0.75, "cost_source": "provider",
    }]);
    assert_eq!(json!(gateway.receiver.enrichments), expected);
    gateway.restart(END_MS + 21_000);
    gateway.run_until(END_MS + 21_000, END_MS + 40_000);
    assert_eq!(json!(gateway.receiver.enrichments), expected, "once");
}

#[test]
fn what_is_known_before_the_receiver_is_waits_for_it() {
    let mut gateway = Gateway::new(false);
    gateway.hear("before_message_write", &message(), END_MS);
    gateway.core.advance(at(END_MS));
    gateway.hear("proxied", &proxied(json!({})), END_MS + 1);
    gateway.run_until(END_MS + 1, END_MS + 9_000);
    assert_eq!(gateway.receiver.enrichments.len(), 1);
}

#[test]
fn what_is_added_to_a_call_comes_behind_it() {
    let mut gateway = Gateway::new(false);
    gateway.hear("before_message_write", &message(), END_MS);
    gateway.run_until(END_MS, END_MS + 9_000);
    // A record that goes before the next call is gathered takes no part of that with it.
    let next = END_MS + 20_000;
    let at_next = |value: Value| {
        let mut value = value;
        value["event"]["started"] = json!(next);
        value["event"]["ended"] = json!(next + 400);
        value
    };
    let command = json!({"event": {"type": "command", "action": "new", "sessionKey": "agent:main:s", "context": {}}});
    gateway.hear("command", &command, next);
    gateway.run_until(next, next + 100);
    let mut told = message();
    told["event"]["message"]["timestamp"] = json!(next);
    gateway.hear("before_message_write", &told, next + 100);
    gateway.run_until(next + 100, next + 110);
    gateway.hear("proxied", &at_next(proxied(json!({}))), next + 120);
    gateway.run_until(next + 120, next + 9_000);
    let order: Vec<&str> = gateway.receiver.order.iter().map(String::as_str).collect();
    let id = gateway.receiver.calls[1]["id"].as_str().unwrap();
    let call = order.iter().position(|what| *what == id).unwrap();
    let added = order
        .iter()
        .position(|what| *what == ["+", id].concat())
        .unwrap();
    assert!(call < added, "{order:?}");
}

#[test]
fn nobody_waits_for_a_proxy_that_is_gone() {
    let mut gateway = behind_a_proxy();
    gateway.hear("before_message_write", &message(), END_MS);
    gateway.run_until(END_MS, END_MS + 9_000);
    assert_eq!(gateway.receiver.calls.len(), 2);
    let mut next = message();
    next["event"]["message"]["timestamp"] = json!(END_MS + 9_000);
    gateway.hear("before_message_write", &next, END_MS + 9_400);
    // The time for gathering, and no hold-back.
    gateway.run_until(END_MS + 9_400, END_MS + 10_400);
    assert_eq!(gateway.receiver.calls.len(), 3);
}

#[test]
fn what_an_aborted_answer_was_billed_counts_whenever_it_is_told() {
    for (late, restarts) in [(500, false), (9_000, false), (9_000, true)] {
        let mut gateway = Gateway::new(false);
        gateway.hear("before_message_write", &aborted(), END_MS);
        let told = END_MS + late;
        gateway.run_until(END_MS, told);
        assert!(gateway.receiver.calls.is_empty());
        if restarts {
            gateway.restart(told);
        }
        let billed = proxied(json!({"outcome": "aborted"}));
        gateway.hear("proxied", &billed, told);
        gateway.run_until(told, told + 9_000);
        assert_eq!(gateway.receiver.totals.requests(), 1, "told {late} ms late");
        assert_eq!(gateway.receiver.totals.0["p/m"].prompt, 50);
        // Another way tells the same.
        gateway.hear("litellm", &billed, told + 9_000);
        gateway.run_until(told + 9_000, told + 20_000);
        assert_eq!(gateway.receiver.totals.requests(), 1);
        gateway.restart(told + 21_000);
        gateway.run_until(told + 21_000, told + 40_000);
        assert_eq!(gateway.receiver.totals.requests(), 1);
    }
}
