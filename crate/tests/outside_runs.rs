//! Calls outside of runs, of which a gateway tells `model.usage` alone: completions of plugins, and `/btw`.

use crate::common::Gateway;
use serde_json::{Value, json};

const AT_MS: u64 = 1_795_000_000_000;

/// A completion by `api.runtime.subagent.complete`, as 2026.9.6 tells the calls of its dream diary.
fn completion(extra: Value) -> Value {
    let mut event = json!({
        "type": "model.usage", "agentId": "ant", "provider": "mock", "model": "m1",
        "usage": {"input": 152, "output": 72, "cacheRead": 652, "cacheWrite": 0, "promptTokens": 804, "total": 876},
        "costUsd": 0.0017, "seq": 33, "ts": AT_MS,
    });
    for (name, value) in extra.as_object().unwrap() {
        event[name] = value.clone();
    }
    json!({"event": event, "ctx": null})
}

/// What is left of these events once nothing is awaited any more.
fn heard(events: &[(&str, Value)]) -> Gateway {
    let mut gateway = Gateway::new(true);
    for (source, event) in events {
        gateway.hear(source, event, AT_MS);
    }
    gateway.run_until(AT_MS, AT_MS + 300_000);
    gateway
}

#[test]
fn a_completion_of_a_plugin_counts_once() {
    let gateway = heard(&[("model.usage", completion(json!({})))]);
    let [call] = gateway.receiver.calls.as_slice() else {
        unreachable!("{:?}", gateway.receiver.calls)
    };
    let told =
        ["agent_name", "model", "prompt_tokens", "completion_tokens"].map(|name| &call[name]);
    assert_eq!(
        told,
        [&json!("ant"), &json!("mock/m1"), &json!(804), &json!(72)]
    );
    assert_eq!(
        (&call["cost_usd"], &call["cost_source"]),
        (&json!(0.0017), &json!("openclaw"))
    );
}

#[test]
fn a_side_question_has_its_session_and_its_channel() {
    let event = json!({"sessionKey": "agent:main:s", "agentId": "main", "channel": "telegram"});
    let gateway = heard(&[("model.usage", completion(event))]);
    let call = &gateway.receiver.calls[0];
    assert_eq!(call["session_key"], "agent:main:s");
    assert_eq!(call["channel"], "telegram");
    assert_eq!(gateway.receiver.calls.len(), 1);
}

#[test]
fn equal_completions_at_the_same_time_are_two_calls() {
    let event = completion(json!({}));
    let gateway = heard(&[("model.usage", event.clone()), ("model.usage", event)]);
    assert_eq!(gateway.receiver.calls.len(), 2);
}

#[test]
fn a_completion_behind_the_proxy_is_one_call() {
    let proxied = json!({"event": {
        "provider": "mock", "model": "m1", "input": 152, "output": 72, "cache_read": 652,
        "started": AT_MS - 400, "ended": AT_MS, "duration": 400, "request_id": "req_1",
    }});
    for order in [[0, 1], [1, 0]] {
        let events = [
            ("model.usage", completion(json!({}))),
            ("proxied", proxied.clone()),
        ];
        let gateway = heard(&order.map(|place| events[place].clone()));
        assert_eq!(
            gateway.receiver.calls.len(),
            1,
            "{:?}",
            gateway.receiver.calls
        );
        assert_eq!(gateway.receiver.calls[0]["agent_name"], "ant");
    }
}

#[test]
fn the_sum_of_a_run_is_no_call() {
    let session = json!({"sessionKey": "agent:main:s"});
    for mark in [
        json!({"durationMs": 239}),
        json!({"context": {"limit": 128_000, "used": 876}}),
        json!({"lastCallUsage": {"input": 152, "output": 72, "cacheRead": 652, "total": 876}}),
    ] {
        let mut event = completion(session.clone());
        for (name, value) in mark.as_object().unwrap() {
            event["event"][name] = value.clone();
        }
        let gateway = heard(&[("model.usage", event)]);
        assert_eq!(gateway.receiver.calls.len(), 0, "{mark}");
    }
}

#[test]
fn a_completion_without_a_model_is_counted_as_unreadable() {
    let gateway = heard(&[("model.usage", completion(json!({"model": null})))]);
    assert_eq!(gateway.receiver.calls.len(), 0);
    assert_eq!(
        gateway.status()["rejected"]["model.usage: no_model"],
        1,
        "{}",
        gateway.status()
    );
}
