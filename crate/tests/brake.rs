//! Allowances in the engine: who is stopped, what is on disk, and what other processes know of it.

use crate::common::billing::{book, proxied};
use crate::common::{Gateway, at};
use agentwatch_openclaw::engine::brake::Begin;
use agentwatch_openclaw::sources::facts::Scalar;
use agentwatch_openclaw::spending::who::Told;
use serde_json::{Value, json};

const START_MS: u64 = 1_795_000_000_000;
const MINUTE_MS: u64 = 60_000;

fn gateway(allowance: &Value) -> Gateway {
    let settings = json!({
        "url": "http://receiver.test", "identities": "plain", "gateway": "berlin", "allowance": allowance,
    });
    Gateway::with(&settings.to_string(), false)
}

/// A cent a day for one agent.
fn a_cent() -> Value {
    json!([{"usd": 0.01, "per": "day", "agent": "dear", "then": "stop"}])
}

fn call(gateway: &mut Gateway, agent: &str, index: u64, usd: f64) {
    let session = format!("agent:{agent}:s");
    let at_ms = START_MS + index * 100;
    let event = json!({
        "event": {"message": {"role": "assistant", "provider": "p", "model": "m", "stopReason": "stop",
            "timestamp": at_ms, "usage": {"input": 1 + index, "output": 2, "cost": {"total": usd}}}},
        "ctx": {"sessionKey": session, "agentId": agent},
    });
    gateway.hear("before_message_write", &event, at_ms + 50);
}

fn stops(gateway: &mut Gateway, session: &str, at_ms: u64) -> Option<String> {
    let begin = Begin {
        told: Told {
            session_key: Some(session),
            ..Told::default()
        },
        ..Begin::default()
    };
    let now = gateway.now(at_ms);
    gateway.engine.admit(&begin, now).map(|stop| stop.message)
}

fn spent(gateway: &Gateway) -> f64 {
    gateway.status()["allowances"][0]["spent"].as_f64().unwrap()
}

#[test]
fn a_spent_allowance_stops_its_agent_and_no_other() {
    let mut gateway = gateway(&a_cent());
    for index in 0..3 {
        // After two calls of 0.004 USD a third one does not fit.
        let is_stopped = stops(&mut gateway, "agent:dear:s", START_MS + index * 100).is_some();
        assert_eq!(is_stopped, index == 2);
        call(&mut gateway, "dear", index, 0.004);
        call(&mut gateway, "other", 10 + index, 0.5);
        // Not final yet: the call counts by its reported figures.
        gateway.advance(START_MS + index * 100 + 60);
    }
    let message = stops(&mut gateway, "agent:dear:s", START_MS + 400).unwrap();
    assert!(
        message.contains("0.010 USD a day for agent dear") && message.contains("allow 1h"),
        "{message}"
    );
    assert_eq!(stops(&mut gateway, "agent:other:s", START_MS + 400), None);
    gateway.run_until(START_MS + 400, START_MS + MINUTE_MS);
    let status = gateway.status();
    assert_eq!(status["allowances"][0]["percent"], 120);
    assert_eq!(status["allowances"][0]["calls"], 3);
    assert_eq!(status["brake"]["stopped"], 2);
    // One record of the stop, however many calls it stops.
    let warnings = |word: &str| gateway.log.iter().filter(|l| l.contains(word)).count();
    assert_eq!((warnings("80 % of"), warnings("100 % of")), (1, 1));
    gateway.run_until(START_MS + MINUTE_MS, START_MS + 3 * MINUTE_MS);
    let logs = gateway.receiver.records("logs");
    let about: Vec<&Value> = logs
        .iter()
        .filter(|log| log["metadata"]["allowance"].is_string())
        .collect();
    assert_eq!(about.len(), 3, "{about:?}");
    let gauges = gateway.receiver.records("metrics");
    let gauge = gauges
        .iter()
        .rfind(|metric| metric["name"] == "allowance_spent")
        .unwrap();
    assert_eq!(gauge["value"], 0.012);
    assert_eq!(gauge["tags"]["limit"], 0.01);
    assert_eq!(gauge["tags"]["gateway"], "berlin");
    // The next day it is open again.
    let tomorrow = START_MS + 24 * 60 * MINUTE_MS;
    assert_eq!(stops(&mut gateway, "agent:dear:s", tomorrow), None);
}

#[test]
fn a_check_counts_calls_that_are_due_and_leaves_their_write_for_later() {
    let mut gateway = gateway(&a_cent());
    for index in 0..4 {
        call(&mut gateway, "dear", index, 0.0025);
    }
    let changes = gateway.disk.changes();
    let at_ms = START_MS + MINUTE_MS;
    assert!(stops(&mut gateway, "agent:dear:s", at_ms).is_some());
    assert_eq!(spent(&gateway), 0.01);
    assert_eq!(gateway.disk.changes(), changes);
    gateway.run_until(at_ms, at_ms + 5_000);
    assert!(gateway.disk.changes() > changes);
    assert_eq!(gateway.receiver.totals.requests(), 4);
}

#[test]
fn calls_at_once_exceed_the_limit_by_the_error_of_their_mean() {
    let mut gateway = gateway(&json!([{"usd": 1, "per": "day", "agent": "dear", "then": "stop"}]));
    for index in 0..6 {
        call(&mut gateway, "dear", index, 0.1);
    }
    gateway.run_until(START_MS + 700, START_MS + 10_000);
    let admitted: Vec<String> = (0..8)
        .map(|n| format!("agent:dear:{n}"))
        .filter(|session| stops(&mut gateway, session, START_MS + 10_000).is_none())
        .collect();
    assert_eq!(admitted.len(), 4);
    // A run that ends without a call gives its place to another.
    let ended =
        json!({"event": {"runId": "r", "sessionKey": "agent:dear:0", "outcome": "completed"}});
    gateway.hear("run.completed", &ended, START_MS + 10_100);
    assert_eq!(stops(&mut gateway, "agent:dear:9", START_MS + 10_200), None);
}

/// The proxy's calls have no cost of their own, and no model before they are read. The first ones are not final yet.
#[test]
fn calls_at_once_behind_calls_that_are_not_final_are_held_by_their_price() {
    let mut gateway = gateway(&json!([{"usd": 1, "per": "day", "then": "stop"}]));
    let prices = book(&Scalar::Absent);
    let admit = |gateway: &mut Gateway, request: u64| {
        let begin = Begin {
            request: Some(request),
            ..Begin::default()
        };
        gateway.engine.admit(&begin, at(START_MS + 100)).is_none()
    };
    // It begins before any cost is known, and is expected to cost as much as the others from then on.
    assert!(admit(&mut gateway, 1));
    for id in 0..5 {
        let answer = json!({"id": format!("chatcmpl-{id}"), "model": "big",
            "choices": [{"index": 0, "message": {"role": "assistant", "content": "x"}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 9_500, "completion_tokens": 100, "total_tokens": 9_600}});
        let (source, event) = proxied("/v1/chat/completions", ("p", "big"), &answer.to_string());
        gateway.hear(source, &event, START_MS);
        while let Some((provider, model)) = gateway.engine.wants_price() {
            let price = prices.find(&provider, &model);
            gateway.engine.set_price(&provider, &model, price);
        }
    }
    gateway.advance(START_MS + 60);
    assert_eq!(gateway.status()["counted"], 0);
    let admitted = (2..10).filter(|request| admit(&mut gateway, *request));
    // 0.1 USD each: five were reported and one is under way.
    assert_eq!(admitted.count(), 4);
}

/// A kill after each change of the disk, with each number of bytes of the next one: the spend is never below what was
/// delivered, and equal to it once all calls are final.
#[test]
fn a_kill_at_any_byte_neither_loses_nor_doubles_spend() {
    // The ledger's frames, the call's entry, and the records.
    for changes in 0..3 {
        for torn in (0..450).step_by(if changes == 0 { 1 } else { 9 }) {
            let what = format!("{changes} changes, {torn} bytes");
            let mut gateway = gateway(&a_cent());
            call(&mut gateway, "dear", 0, 0.001);
            gateway.run_until(START_MS + 60, START_MS + 5_000);
            assert_eq!(gateway.receiver.totals.requests(), 1);
            gateway.disk.fail_after(changes, torn);
            call(&mut gateway, "dear", 60, 0.001);
            gateway.advance(START_MS + 8_000);
            gateway.write();
            gateway.disk.be_well();
            gateway.restart(START_MS + 9_000);
            assert!(spent(&gateway) > 0.001 - 1e-12, "{what}");
            gateway.run_until(START_MS + 9_000, START_MS + MINUTE_MS);
            let counted = gateway.receiver.totals.requests();
            assert!(
                (spent(&gateway) - counted as f64 * 0.001).abs() < 1e-12,
                "{what}"
            );
            gateway.restart(START_MS + 2 * MINUTE_MS);
            assert!(
                (spent(&gateway) - counted as f64 * 0.001).abs() < 1e-12,
                "{what}"
            );
        }
    }
}

#[test]
fn a_clock_that_is_set_back_opens_nothing() {
    let mut gateway = gateway(&a_cent());
    call(&mut gateway, "dear", 0, 0.02);
    gateway.run_until(START_MS + 60, START_MS + 5_000);
    gateway.ahead_ms = -3 * 24 * 60 * 60_000;
    assert!(stops(&mut gateway, "agent:dear:s", START_MS + 6_000).is_some());
    gateway.restart(START_MS + 7_000);
    assert!(stops(&mut gateway, "agent:dear:s", START_MS + 8_000).is_some());
}

#[test]
fn a_lift_lets_calls_pass_and_survives_a_restart() {
    let mut gateway = gateway(&a_cent());
    call(&mut gateway, "dear", 0, 0.02);
    gateway.run_until(START_MS + 60, START_MS + 5_000);
    gateway.engine.lift(60 * MINUTE_MS, at(START_MS + 5_000));
    gateway.write();
    assert_eq!(stops(&mut gateway, "agent:dear:s", START_MS + 6_000), None);
    gateway.restart(START_MS + 7_000);
    assert_eq!(stops(&mut gateway, "agent:dear:s", START_MS + 8_000), None);
    let until = START_MS + 5_000 + 60 * MINUTE_MS;
    assert_eq!(gateway.status()["brake"]["lifted_until_ms"], until);
    assert!(stops(&mut gateway, "agent:dear:s", until + 1_000).is_some());
    // Another lift, ended by hand.
    gateway.engine.lift(60 * MINUTE_MS, at(until + 2_000));
    gateway.engine.lift(0, at(until + 3_000));
    gateway.write();
    gateway.restart(until + 4_000);
    assert!(stops(&mut gateway, "agent:dear:s", until + 5_000).is_some());
}

/// A process that does not own the journal refuses by the owner's state and by its own calls of the last seconds.
#[test]
fn another_process_refuses_by_the_owners_state() {
    let mut owner = gateway(&a_cent());
    let mut other = gateway(&a_cent());
    other.disk = owner.disk.clone();
    other.engine.become_spool(owner.disk.other_host());
    call(&mut other, "dear", 0, 0.02);
    other.run_until(START_MS + 60, START_MS + 2_000);
    // The owner has not read it yet.
    assert!(stops(&mut other, "agent:dear:s", START_MS + 2_000).is_some());
    assert_eq!(stops(&mut owner, "agent:dear:s", START_MS + 2_000), None);
    assert!(owner.engine.take_spools(at(START_MS + 2_100)));
    owner.run_until(START_MS + 2_100, START_MS + 5_000);
    assert!(stops(&mut owner, "agent:dear:s", START_MS + 5_000).is_some());
    // From here on by the owner's state.
    assert!(stops(&mut other, "agent:dear:s", START_MS + MINUTE_MS).is_some());
    assert_eq!(
        stops(&mut other, "agent:other:s", START_MS + MINUTE_MS),
        None
    );
    owner.engine.lift(60 * MINUTE_MS, at(START_MS + MINUTE_MS));
    owner.write();
    assert_eq!(
        stops(&mut other, "agent:dear:s", START_MS + 2 * MINUTE_MS),
        None
    );
}

/// The owner leaves the window of a clock that was ahead after a day of running time, without a further call.
#[test]
fn another_process_leaves_the_window_of_a_clock_that_was_ahead_with_the_owner() {
    let ahead_ms = 10 * 24 * 60 * MINUTE_MS;
    let mut owner = gateway(&a_cent());
    let mut other = gateway(&a_cent());
    other.disk = owner.disk.clone();
    other.engine.become_spool(owner.disk.other_host());
    owner.ahead_ms = ahead_ms as i64;
    let event = json!({
        "event": {"message": {"role": "assistant", "provider": "p", "model": "m", "stopReason": "stop",
            "timestamp": START_MS + ahead_ms, "usage": {"input": 1, "output": 2, "cost": {"total": 0.02}}}},
        "ctx": {"sessionKey": "agent:dear:s", "agentId": "dear"},
    });
    owner.hear("before_message_write", &event, START_MS + 50);
    owner.run_until(START_MS + 60, START_MS + 5_000);
    owner.ahead_ms = 0;
    let mut at_ms = START_MS + 5_000;
    for hour in 0..26 {
        let is_stopped = stops(&mut other, "agent:dear:s", at_ms).is_some();
        assert_eq!(is_stopped, hour < 25, "{hour}");
        let next_ms = START_MS + (hour + 1) * 60 * MINUTE_MS;
        owner.run_until(at_ms, next_ms);
        owner.advance(next_ms);
        at_ms = next_ms;
    }
}

/// The proxy answers no call for an hour, then the operator lifts the allowances.
#[test]
fn a_lift_lasts_as_long_in_a_process_that_was_idle_before_it() {
    let mut owner = gateway(&a_cent());
    let mut other = gateway(&a_cent());
    other.disk = owner.disk.clone();
    other.engine.become_spool(owner.disk.other_host());
    call(&mut owner, "dear", 0, 0.02);
    owner.run_until(START_MS + 60, START_MS + 5_000);
    assert!(stops(&mut other, "agent:dear:s", START_MS + 6_000).is_some());
    let lifted_ms = START_MS + 90 * MINUTE_MS;
    // The owner was idle for as long.
    owner.engine.lift(60 * MINUTE_MS, at(lifted_ms));
    owner.write();
    for minutes in [1, 30, 59] {
        let at_ms = lifted_ms + minutes * MINUTE_MS;
        assert_eq!(stops(&mut other, "agent:dear:s", at_ms), None, "{minutes}");
        assert_eq!(stops(&mut owner, "agent:dear:s", at_ms), None, "{minutes}");
    }
    let until_ms = lifted_ms + 61 * MINUTE_MS;
    assert!(stops(&mut owner, "agent:dear:s", until_ms).is_some());
    assert!(stops(&mut other, "agent:dear:s", until_ms).is_some());
}

/// A process in a container has UTC; after a typing error the gateway has no allowance until it is restarted.
#[test]
fn processes_with_another_zone_or_no_allowance_keep_the_spend() {
    let with = |offset_s: i64, allowance: Value| {
        let settings = json!({"url": "http://receiver.test", "identities": "plain", "allowance": allowance,
            "zones": [[format!("zone{offset_s}"), offset_s]]});
        Gateway::with(&settings.to_string(), false)
    };
    let mut owner = with(3_600, a_cent());
    call(&mut owner, "dear", 0, 0.02);
    owner.run_until(START_MS + 60, START_MS + 5_000);
    let mut other = with(0, a_cent());
    other.disk = owner.disk.clone();
    other.engine.become_spool(owner.disk.other_host());
    assert!(stops(&mut other, "agent:dear:s", START_MS + 6_000).is_some());
    for allowance in [a_cent(), json!(null), a_cent()] {
        let mut next = with(0, allowance);
        next.disk = owner.disk.clone();
        next.restart(START_MS + 7_000);
        next.run_until(START_MS + 7_000, START_MS + 9_000);
        owner = next;
    }
    assert!(stops(&mut owner, "agent:dear:s", START_MS + 9_000).is_some());
}

/// An allowance covers its whole window: the calls of the day and of the month count, those of yesterday for the month
/// alone. It is begun once.
#[test]
fn an_allowance_that_is_set_within_its_window_begins_with_the_calls_of_the_window() {
    let day_ms = 24 * 60 * MINUTE_MS;
    let mut gateway = gateway(&json!([]));
    call(&mut gateway, "dear", 0, 0.004);
    call(&mut gateway, "other", 10, 0.5);
    gateway.run_until(START_MS + 1_100, START_MS + MINUTE_MS);
    call(&mut gateway, "Dear", day_ms / 100, 0.02);
    let mut at_ms = START_MS + day_ms + MINUTE_MS;
    gateway.run_until(START_MS + day_ms + 60, at_ms);
    let both = |more: Value| {
        json!([{"usd": 0.01, "per": "day", "agent": "dear", "then": "stop"},
            {"usd": 9, "per": "month", "agent": "DEAR", "then": "warn"}, more])
    };
    let settings = |allowance: Value| {
        json!({"url": "http://receiver.test", "identities": "plain", "allowance": allowance})
            .to_string()
    };
    for more in [json!({}), json!({"usd": 1, "per": "month", "then": "warn"})] {
        gateway.settings = settings(both(more));
        for _ in 0..2 {
            gateway.restart(at_ms);
            gateway.run_until(at_ms, at_ms + MINUTE_MS);
            at_ms += MINUTE_MS;
        }
    }
    assert!(stops(&mut gateway, "agent:dear:s", at_ms).is_some());
    call(&mut gateway, "dear", (at_ms - START_MS) / 100, 0.1);
    gateway.run_until(at_ms + 60, at_ms + MINUTE_MS);
    gateway.restart(at_ms + MINUTE_MS);
    let status = gateway.status();
    let spent = |place: usize| {
        let allowance = &status["allowances"][place];
        (allowance["spent"].as_f64().unwrap() * 1e6).round() / 1e6
    };
    let calls = [0, 1, 2].map(|place| status["allowances"][place]["calls"].clone());
    assert_eq!([spent(0), spent(1), spent(2)], [0.12, 0.124, 0.624]);
    assert_eq!(calls, [json!(2), json!(3), json!(4)]);
}

/// The turn's total of a foreign harness is dropped, since its calls were reported one by one.
#[test]
fn a_dropped_total_of_a_turn_is_not_under_way() {
    let settings = json!({
        "url": "http://receiver.test", "identities": "plain",
        "allowance": [{"usd": 5, "per": "day", "then": "stop"}],
    });
    let mut gateway = Gateway::with(&settings.to_string(), true);
    call(&mut gateway, "dear", 0, 1.0);
    call(&mut gateway, "dear", 1, 1.0);
    gateway.run_until(START_MS + 160, START_MS + 5_000);
    let turn = json!({"event": {
        "provider": "p", "model": "m", "sessionKey": "agent:dear:s", "observationUnit": "turn",
        "durationMs": 5_600, "outcome": "completed", "costUsd": 2.0, "usage": {"input": 3, "output": 4},
    }});
    gateway.hear("model.call.completed", &turn, START_MS + 5_000);
    gateway.run_until(START_MS + 5_000, START_MS + MINUTE_MS);
    let status = gateway.status();
    assert_eq!(status["turns_merged"], 1, "{status}");
    assert_eq!(status["brake"]["under_way"], 0, "{status}");
    assert_eq!(spent(&gateway), 2.0);
}

#[test]
fn an_unusable_allowance_is_named_and_stops_nothing() {
    let mut gateway = gateway(&json!([{"usd": -1, "per": "day", "then": "stop"}]));
    gateway.advance(START_MS);
    let named = |line: &String| line.contains("allowance[0].usd -1");
    assert!(gateway.log.iter().any(named), "{:?}", gateway.log);
    call(&mut gateway, "dear", 0, 5.0);
    gateway.run_until(START_MS + 60, START_MS + 5_000);
    assert_eq!(stops(&mut gateway, "agent:dear:s", START_MS + 6_000), None);
    assert!(gateway.status()["allowances"].is_null());
}
