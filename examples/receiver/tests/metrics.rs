//! What `/metrics` says, and to whom.

use crate::support::{Folder, Server};
use serde_json::{Value, json};
use std::collections::BTreeMap;

fn call(id: &str, more: Value) -> Value {
    let mut call = json!({"id": id, "model": "openai/gpt-5", "agent_name": "main", "gateway": "g1",
                          "prompt_tokens": 1000, "completion_tokens": 100, "cache_read_tokens": 400,
                          "cache_write_tokens": 50, "reasoning_tokens": 20, "cost_usd": 0.5,
                          "cost_source": "table", "latency_ms": 1200, "outcome": "completed"});
    for (name, value) in more.as_object().unwrap() {
        call[name] = value.clone();
    }
    call
}

/// The samples by name and labels; each family's head comes once, before its samples.
fn samples(text: &str) -> BTreeMap<String, f64> {
    let mut families: BTreeMap<&str, &str> = BTreeMap::new();
    let mut found = BTreeMap::new();
    for line in text.lines() {
        if let Some(head) = line.strip_prefix("# TYPE ") {
            let (name, kind) = head.split_once(' ').unwrap();
            assert!(families.insert(name, kind).is_none(), "{name} comes twice");
            continue;
        }
        if let Some(help) = line.strip_prefix("# HELP ") {
            assert!(help.split_once(' ').unwrap().1.len() > 10, "{line}");
            continue;
        }
        let (sample, value) = line.rsplit_once(' ').unwrap();
        let name = sample.split('{').next().unwrap();
        let family = ["_bucket", "_sum", "_count"]
            .iter()
            .find_map(|end| name.strip_suffix(end))
            .filter(|family| families.get(family) == Some(&"histogram"));
        let kind = families[family.unwrap_or(name)];
        assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
        let before = found.insert(sample.to_owned(), value.parse().unwrap());
        assert!(before.is_none(), "{sample} comes twice");
    }
    found
}

fn scraped(server: &Server) -> BTreeMap<String, f64> {
    let answer = server.get("/metrics");
    assert_eq!(answer.status, 200, "{answer:?}");
    let kind = answer.header("content-type").unwrap();
    assert!(kind.starts_with("text/plain; version=0.0.4"), "{kind}");
    samples(&answer.text)
}

const NAMES: &str = r#"gateway="g1",agent="main",provider="openai",model="openai/gpt-5""#;

#[test]
fn calls_are_counted_by_outcome_kind_of_token_and_source_of_cost() {
    let server = Server::start(&[]);
    let failed =
        json!({"outcome": "failed", "cost_source": "unknown", "cost_usd": 0, "latency_ms": 95});
    let calls = json!([
        call("a", json!({})),
        call("b", json!({})),
        call("c", failed)
    ]);
    server.post("model_usage", &calls);
    let errors = json!({"name": "model_errors", "value": 3, "kind": "counter", "agent_name": "main",
                        "tags": {"model": "openai/gpt-5", "outcome": "failed"}});
    server.post("metrics", &errors);
    let found = scraped(&server);
    for (name, label, value) in [
        ("requests_total", r#"outcome="completed""#, 2.0),
        ("requests_total", r#"outcome="failed""#, 1.0),
        ("requests_total", r#"outcome="aborted""#, 0.0),
        ("tokens_total", r#"kind="input""#, 1650.0),
        ("tokens_total", r#"kind="cache_read""#, 1200.0),
        ("tokens_total", r#"kind="cache_write""#, 150.0),
        ("tokens_total", r#"kind="output""#, 240.0),
        ("tokens_total", r#"kind="reasoning""#, 60.0),
        ("cost_usd_total", r#"cost_source="table""#, 1.0),
        ("cost_usd_total", r#"cost_source="unknown""#, 0.0),
    ] {
        let sample = format!("agentwatch_{name}{{{NAMES},{label}}}");
        assert_eq!(found.get(&sample), Some(&value), "{sample}");
    }
    for (name, value) in [
        ("cache_told_tokens_total", 3000.0),
        ("unpriced_requests_total", 1.0),
    ] {
        assert_eq!(found[&format!("agentwatch_{name}{{{NAMES}}}")], value);
    }
    let durations = r#"gateway="g1",provider="openai",model="openai/gpt-5""#;
    for (sample, value) in [
        (format!("bucket{{{durations},le=\"0.1\"}}"), 1.0),
        (format!("bucket{{{durations},le=\"1\"}}"), 1.0),
        (format!("bucket{{{durations},le=\"2.5\"}}"), 3.0),
        (format!("bucket{{{durations},le=\"+Inf\"}}"), 3.0),
        (format!("count{{{durations}}}"), 3.0),
        (format!("sum{{{durations}}}"), 2.495),
    ] {
        let given = found[&format!("agentwatch_request_duration_seconds_{sample}")];
        assert!((given - value).abs() < 1e-9, "{sample}: {given}");
    }
    let errors = r#"agentwatch_model_errors_total{agent="main",provider="openai",model="openai/gpt-5",outcome="failed"}"#;
    assert_eq!(found[errors], 3.0);
    assert_eq!(found["agentwatch_left_out_requests_total"], 0.0);
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs_f64();
    let last = found["agentwatch_last_request_timestamp_seconds"];
    assert!((now - last).abs() < 60.0, "{last}");
}

#[test]
fn a_repeated_call_counts_once_and_a_changed_one_withdraws_what_it_had() {
    let server = Server::start(&[]);
    for _ in 0..3 {
        server.post("model_usage", &call("a", json!({})));
    }
    let cheaper =
        json!({"enrichments": [{"id": "a", "cost_usd": 0.25, "cost_source": "provider"}]});
    server.post("batch", &cheaper);
    let found = scraped(&server);
    let of = |name: &str, label: &str| found.get(&format!("agentwatch_{name}{{{NAMES},{label}}}"));
    assert_eq!(of("requests_total", r#"outcome="completed""#), Some(&1.0));
    assert_eq!(
        of("withdrawn_requests_total", r#"outcome="completed""#),
        Some(&0.0)
    );
    assert_eq!(of("cost_usd_total", r#"cost_source="table""#), Some(&0.5));
    assert_eq!(
        of("withdrawn_cost_usd_total", r#"cost_source="table""#),
        Some(&0.5)
    );
    assert_eq!(
        of("cost_usd_total", r#"cost_source="provider""#),
        Some(&0.25)
    );
}

#[test]
fn names_are_escaped_and_cut_and_those_not_told_are_empty() {
    let server = Server::start(&[]);
    let strange = json!({"model": "a\\b\"c\nd", "gateway": null, "agent_name": "x".repeat(300)});
    server.post("model_usage", &call("a", strange));
    let text = server.get("/metrics").text;
    let agent = "x".repeat(128);
    let line = format!(
        r#"agentwatch_requests_total{{gateway="",agent="{agent}",provider="",model="a\\b\"c\nd",outcome="completed"}} 1"#
    );
    assert!(text.contains(&line), "{text}");
}

#[test]
fn many_names_take_a_bounded_number_of_series_and_no_call_is_missing() {
    let server = Server::start(&[]);
    for from in (0..3_000).step_by(1_000) {
        let calls: Vec<Value> = (from..from + 1_000)
            .map(|n| {
                call(
                    &n.to_string(),
                    json!({"model": format!("p/m{n}"), "cost_source": format!("s{n}")}),
                )
            })
            .collect();
        assert_eq!(server.post("model_usage", &json!(calls)).status, 200);
    }
    let found = scraped(&server);
    assert!(found.len() < 17_000, "{}", found.len());
    let sum = |name: &str| -> f64 {
        let of_name = found.iter().filter(|(sample, _)| sample.starts_with(name));
        of_name.map(|(_, value)| value).sum()
    };
    assert_eq!(sum("agentwatch_requests_total{"), 3_000.0);
    assert!((sum("agentwatch_cost_usd_total{") - 1_500.0).abs() < 1e-6);
    assert_eq!(sum("agentwatch_request_duration_seconds_count{"), 3_000.0);
    assert_eq!(found["agentwatch_left_out_requests_total"], 2_500.0);
}

#[test]
fn after_a_restart_the_names_are_there_with_zeros() {
    let folder = Folder::new("metrics-restart");
    let first = Server::start_on(&folder.file(), &[]);
    first.post("model_usage", &call("a", json!({})));
    drop(first);
    let second = Server::start_on(&folder.file(), &[]);
    let sample = format!("agentwatch_requests_total{{{NAMES},outcome=\"completed\"}}");
    assert_eq!(scraped(&second)[&sample], 0.0);
    assert!(scraped(&second)["agentwatch_last_request_timestamp_seconds"] > 1.7e9);
    second.post("model_usage", &call("b", json!({})));
    assert_eq!(scraped(&second)[&sample], 1.0);
}

#[test]
fn it_wants_the_token_and_an_own_host_and_no_other_site() {
    let server = Server::start(&["--token", "s3cret"]);
    let ask = |headers: &[(&str, &str)]| server.send("GET", "/metrics", headers, b"");
    let refused = ask(&[]);
    assert_eq!(refused.status, 401, "no form for a program");
    assert_eq!(refused.header("www-authenticate"), Some("Bearer"));
    assert_eq!(ask(&[("authorization", "Bearer wrong")]).status, 401);
    let right = ("authorization", "Bearer s3cret");
    assert_eq!(ask(&[right]).status, 200);
    for other in [
        ("origin", "https://example.com"),
        ("sec-fetch-site", "cross-site"),
    ] {
        assert_eq!(ask(&[right, other]).status, 403, "{other:?}");
    }
    let post = server.send("POST", "/metrics", &[right], b"");
    assert_eq!(post.status, 405);
    let stock = Server::start(&["--stock"]);
    assert_eq!(stock.get("/metrics").status, 404, "as in AgentWatch 0.1.0");
}
