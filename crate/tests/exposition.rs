//! The plugin's `/metrics`: its figures are the calls', and its series are bounded.

use std::collections::BTreeMap;

use crate::common::Gateway;
use agentwatch_openclaw::engine::HostDrops;
use serde_json::{Value, json};

const START_MS: u64 = 1_795_000_000_000;
const HOUR_MS: u64 = 3_600_000;

fn gateway(more: &Value) -> Gateway {
    let mut settings = json!({
        "url": "http://receiver.test", "identities": "plain", "gateway": "berlin", "metricsPort": 9464,
    });
    for (name, value) in more.as_object().unwrap() {
        settings[name] = value.clone();
    }
    Gateway::with(&settings.to_string(), false)
}

/// A call of some agent and model; `usd` as OpenClaw computed it, `stop` as its stop reason.
fn call(gateway: &mut Gateway, index: u64, agent: &str, model: &str, usd: f64, stop: &str) {
    let at_ms = START_MS + index * 1_000;
    let event = json!({
        "event": {"message": {"role": "assistant", "provider": "p", "model": model, "stopReason": stop,
            "timestamp": at_ms, "usage": {"input": 10, "output": 4, "cacheRead": 5, "cacheWrite": 1,
            "cost": {"total": usd}}}},
        "ctx": {"sessionKey": format!("agent:{agent}:s{index}"), "agentId": agent},
    });
    gateway.hear("before_message_write", &event, at_ms + 50);
}

fn text(gateway: &mut Gateway, at_ms: u64) -> String {
    let dropped = HostDrops {
        queue_full: 3,
        trap: 0,
    };
    gateway.engine.metrics(at_ms, dropped).unwrap()
}

/// The samples by name and labels; the head of each family comes once.
fn samples(text: &str) -> BTreeMap<String, f64> {
    let mut heads: Vec<&str> = Vec::new();
    let mut found = BTreeMap::new();
    for line in text.lines() {
        if let Some(head) = line.strip_prefix("# TYPE ") {
            let name = head.split(' ').next().unwrap();
            assert!(!heads.contains(&name), "{name} comes twice");
            heads.push(name);
        } else if !line.starts_with("# HELP ") {
            let (sample, value) = line.rsplit_once(' ').unwrap();
            let before = found.insert(sample.to_owned(), value.parse().unwrap());
            assert!(before.is_none(), "{sample} comes twice");
        }
    }
    found
}

fn sum(samples: &BTreeMap<String, f64>, name: &str, label: &str) -> f64 {
    let of = samples
        .iter()
        .filter(|(sample, _)| sample.split('{').next() == Some(name) && sample.contains(label));
    of.map(|(_, value)| value).sum()
}

#[test]
fn calls_are_counted_in_the_receivers_families() {
    let mut gateway = gateway(&json!({"allowance": [{"usd": 2, "per": "day", "then": "warn"}]}));
    call(&mut gateway, 0, "main", "m", 0.25, "stop");
    call(&mut gateway, 1, "main", "m", 0.25, "stop");
    call(&mut gateway, 2, "ant", "n", 0.5, "error");
    gateway.run_until(START_MS + 3_000, START_MS + HOUR_MS);
    let found = samples(&text(&mut gateway, START_MS + HOUR_MS));
    let names = r#"gateway="berlin",agent="main",provider="p",model="p/m""#;
    for (sample, value) in [
        (format!("agentwatch_requests_total{{{names},outcome=\"completed\"}}"), 2.0),
        (format!("agentwatch_withdrawn_requests_total{{{names},outcome=\"completed\"}}"), 0.0),
        (format!("agentwatch_tokens_total{{{names},kind=\"input\"}}"), 20.0),
        (format!("agentwatch_tokens_total{{{names},kind=\"cache_read\"}}"), 10.0),
        (format!("agentwatch_tokens_total{{{names},kind=\"cache_write\"}}"), 2.0),
        (format!("agentwatch_tokens_total{{{names},kind=\"output\"}}"), 8.0),
        (format!("agentwatch_cost_usd_total{{{names},cost_source=\"openclaw\"}}"), 0.5),
        (
            "agentwatch_model_errors_total{agent=\"ant\",provider=\"p\",model=\"p/n\",outcome=\"failed\"}".into(),
            1.0,
        ),
        ("agentwatch_delivered_requests_total".into(), 3.0),
        ("agentwatch_waiting_requests".into(), 0.0),
        ("agentwatch_dropped_events_total{reason=\"queue_full\"}".into(), 3.0),
        ("agentwatch_alarms_total".into(), 0.0),
        ("agentwatch_left_out_requests_total".into(), 0.0),
    ] {
        assert_eq!(found.get(&sample), Some(&value), "{sample} of {found:#?}");
    }
    assert_eq!(sum(&found, "agentwatch_requests_total", "failed"), 1.0);
    assert_eq!(
        sum(&found, "agentwatch_allowance_used_ratio", "USD a day"),
        0.5
    );
    let last = found["agentwatch_last_request_timestamp_seconds"];
    assert!(
        (last - (START_MS + 2_050) as f64 / 1_000.0).abs() < 0.1,
        "{last}"
    );
    assert!(found.contains_key("agentwatch_last_delivery_timestamp_seconds"));
}

#[test]
fn a_call_that_waits_is_shown_as_waiting() {
    let mut gateway = gateway(&json!({}));
    call(&mut gateway, 0, "main", "m", 0.25, "stop");
    for second in 0..60 {
        // Nothing is sent.
        gateway.advance(START_MS + second * 1_000);
    }
    let found = samples(&text(&mut gateway, START_MS + 60_000));
    assert_eq!(found["agentwatch_waiting_requests"], 1.0);
    assert_eq!(found["agentwatch_delivered_requests_total"], 0.0);
    assert!(!found.contains_key("agentwatch_last_delivery_timestamp_seconds"));
}

#[test]
fn a_restart_begins_at_zero_and_keeps_the_names() {
    let mut gateway = gateway(&json!({}));
    call(&mut gateway, 0, "main", "m", 0.25, "stop");
    gateway.run_until(START_MS, START_MS + HOUR_MS);
    gateway.restart(START_MS + HOUR_MS);
    let found = samples(&text(&mut gateway, START_MS + HOUR_MS));
    let names = r#"gateway="berlin",agent="main",provider="p",model="p/m""#;
    let of = |name: &str, label: &str| found[&format!("{name}{{{names},{label}}}")];
    assert_eq!(
        of("agentwatch_requests_total", r#"outcome="completed""#),
        0.0
    );
    assert_eq!(
        of("agentwatch_cost_usd_total", r#"cost_source="openclaw""#),
        0.0
    );
}

#[test]
fn the_newest_call_is_known_to_its_hour_after_a_restart_and_never_goes_back() {
    const NEWEST: &str = "agentwatch_last_request_timestamp_seconds";
    let mut gateway = gateway(&json!({}));
    assert!(!samples(&text(&mut gateway, START_MS)).contains_key(NEWEST));
    call(&mut gateway, 7_200, "main", "m", 0.25, "stop");
    let at_ms = START_MS + 2 * HOUR_MS;
    gateway.run_until(at_ms, at_ms + 60_000);
    let of = |gateway: &mut Gateway, at_ms| samples(&text(gateway, at_ms))[NEWEST] * 1_000.0;
    assert_eq!(of(&mut gateway, at_ms + 60_000), at_ms as f64);
    gateway.restart(at_ms + 3 * HOUR_MS);
    let known = of(&mut gateway, at_ms + 3 * HOUR_MS);
    assert!(
        (at_ms as f64..=(at_ms + HOUR_MS) as f64).contains(&known),
        "{known}"
    );
}

#[test]
fn equal_allowances_are_one_sample() {
    let one = json!({"usd": 2, "per": "day", "then": "warn", "zone": "UTC"});
    let mut gateway = gateway(&json!({"allowance": [one.clone(), one]}));
    let found = samples(&text(&mut gateway, START_MS));
    let held = found
        .keys()
        .filter(|sample| sample.starts_with("agentwatch_allowance_used_ratio"));
    assert_eq!(held.count(), 1);
}

#[test]
fn names_beyond_the_bound_are_counted_together() {
    let mut gateway = gateway(&json!({}));
    for index in 0..600 {
        call(
            &mut gateway,
            index,
            "main",
            &format!("m{index}"),
            0.25,
            "stop",
        );
    }
    gateway.run_until(START_MS, START_MS + HOUR_MS);
    let found = samples(&text(&mut gateway, START_MS + HOUR_MS));
    assert_eq!(sum(&found, "agentwatch_requests_total", "completed"), 600.0);
    assert_eq!(sum(&found, "agentwatch_cost_usd_total", "berlin"), 125.0);
    assert_eq!(found["agentwatch_left_out_requests_total"], 100.0);
}

#[test]
fn without_the_setting_there_is_no_text_and_a_wrong_port_is_named() {
    let mut without = gateway(&json!({"metricsPort": null}));
    assert_eq!(without.engine.metrics(START_MS, HostDrops::default()), None);
    for port in [
        json!(0),
        json!(65_536),
        json!(-1),
        json!(9464.5),
        json!("9464"),
        json!(true),
    ] {
        let mut gateway = gateway(&json!({ "metricsPort": port }));
        gateway.advance(START_MS);
        assert_eq!(gateway.engine.metrics_port(), None, "{port}");
        let said = gateway.log.join("\n");
        assert!(
            said.contains("metricsPort cannot be") && said.contains("such as 9464"),
            "{port}: {said}"
        );
    }
}
