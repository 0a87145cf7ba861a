//! The contract as this receiver keeps it: validated, atomic, idempotent.

use crate::support::Server;
use serde_json::{Value, json};

const AT: &str = "2026-01-02T03:04:05+00:00";

fn usage() -> Value {
    json!({"model": "p/m", "prompt_tokens": 10, "completion_tokens": 5, "cost_usd": 0.5, "latency_ms": 100,
           "agent_name": "a"})
}

fn with(mut record: Value, more: Value) -> Value {
    for (name, value) in more.as_object().unwrap() {
        record[name] = value.clone();
    }
    record
}

#[test]
fn every_endpoint_takes_one_record_or_an_array() {
    let server = Server::start(&[]);
    for (endpoint, record, answer) in [
        ("model_usage", usage(), "ids"),
        (
            "costs",
            json!({"model": "p/m", "input_tokens": 1, "output_tokens": 2}),
            "ids",
        ),
        ("traces", json!({"name": "n", "status": "running"}), "ids"),
        ("logs", json!({"level": "INFO", "message": "m"}), "ids"),
        (
            "health",
            json!({"name": "gateway", "status": "ok"}),
            "names",
        ),
        (
            "metrics",
            json!({"name": "n", "value": -1.5, "tags": {"a": "b"}}),
            "ids",
        ),
        (
            "cron_run",
            json!({"job_name": "j", "status": "timeout", "duration_ms": 5}),
            "ids",
        ),
    ] {
        let one = server.post(endpoint, &record);
        assert_eq!(
            (one.status, &one.json()["ingested"]),
            (200, &json!(1)),
            "{endpoint}: {one:?}"
        );
        let three = server
            .post(endpoint, &json!([record, record, record]))
            .json();
        assert_eq!(
            (&three["status"], &three["ingested"]),
            (&json!("ok"), &json!(3)),
            "{endpoint}"
        );
        assert_eq!(three[answer].as_array().unwrap().len(), 3, "{endpoint}");
        assert_eq!(
            server.post(endpoint, &json!([])).json()["ingested"],
            0,
            "{endpoint}"
        );
    }
    assert_eq!(server.list("/api/model-stats")[0]["requests"], 4);
    assert_eq!(server.list("/api/costs/usage").len(), 4);
    assert_eq!(server.list("/api/traces").len(), 4);
    assert_eq!(server.list("/api/logs?level=info").len(), 4);
    assert_eq!(
        server.list("/api/metrics?name=n")[0]["tags"],
        json!({"a": "b"})
    );
    assert_eq!(server.list("/api/health/gateway/history").len(), 4);
    assert_eq!(server.list("/api/cron-stats")[0]["consecutive_errors"], 4);
    assert_eq!(server.list("/api/cron-history/j").len(), 4);
}

#[test]
fn a_batch_counts_each_kind() {
    let server = Server::start(&[]);
    let batch = json!({
        "traces": [{"id": "t"}], "logs": [{}, {}], "health": [{}], "metrics": [{}], "other": [1],
        "costs": [{"id": "x", "model": "m"}], "model_usage": [with(usage(), json!({"id": "x"}))],
        "cron_runs": [{"status": "ok"}],
    });
    let answer = server.post("batch", &batch).json();
    let counts = json!({"traces": 1, "logs": 2, "health": 1, "costs": 1, "metrics": 1, "model_usage": 1,
                        "cron_runs": 1});
    assert_eq!(
        answer,
        json!({"status": "ok", "ingested": 8, "counts": counts})
    );
    assert_eq!(server.post("batch", &json!({})).json()["ingested"], 0);
}

#[test]
fn a_bad_record_is_named_and_nothing_is_stored() {
    let server = Server::start(&[]);
    let wrong = |field: &str, value: Value| with(usage(), json!({field: value}));
    let long = "x".repeat(600);
    for (endpoint, record, field) in [
        ("model_usage", wrong("model", json!(null)), "model"),
        ("model_usage", wrong("model", json!("")), "model"),
        ("model_usage", wrong("model", json!(long)), "model"),
        ("model_usage", wrong("model", json!(7)), "model"),
        ("model_usage", json!({}), "model"),
        (
            "model_usage",
            wrong("prompt_tokens", json!(null)),
            "prompt_tokens",
        ),
        (
            "model_usage",
            wrong("prompt_tokens", json!(-1)),
            "prompt_tokens",
        ),
        (
            "model_usage",
            wrong("prompt_tokens", json!(1.5)),
            "prompt_tokens",
        ),
        (
            "model_usage",
            wrong("completion_tokens", json!("5")),
            "completion_tokens",
        ),
        (
            "model_usage",
            wrong("completion_tokens", json!(1e300)),
            "completion_tokens",
        ),
        ("model_usage", wrong("cost_usd", json!(-0.1)), "cost_usd"),
        ("model_usage", wrong("cost_usd", json!(true)), "cost_usd"),
        ("model_usage", wrong("latency_ms", json!([])), "latency_ms"),
        (
            "model_usage",
            wrong("timestamp", json!("yesterday")),
            "timestamp",
        ),
        ("model_usage", wrong("timestamp", json!(-5)), "timestamp"),
        ("model_usage", wrong("timestamp", json!(1e30)), "timestamp"),
        ("model_usage", json!(null), ""),
        (
            "costs",
            json!({"model": "m", "input_tokens": -1}),
            "input_tokens",
        ),
        ("costs", json!({"model": "m", "metadata": []}), "metadata"),
        ("traces", json!({"status": "done"}), "status"),
        (
            "traces",
            json!({"spans": [{}, {"status": "Running"}]}),
            "spans[1].status",
        ),
        (
            "traces",
            json!({"spans": [{"events": [{"message": 1}]}]}),
            "spans[0].events[0].message",
        ),
        ("traces", json!({"spans": {}}), "spans"),
        ("logs", json!({"level": "warning"}), "level"),
        ("health", json!({"status": "fine"}), "status"),
        ("metrics", json!({"value": "7"}), "value"),
        ("metrics", json!({"value": null}), "value"),
        ("cron_run", json!({"status": "failed"}), "status"),
        ("cron_run", json!({}), "status"),
    ] {
        let good = match endpoint {
            "cron_run" => json!({"status": "ok"}),
            _ => json!({"model": "good"}),
        };
        let answer = server.post(endpoint, &json!([good, record]));
        assert_eq!(answer.status, 422, "{endpoint} {record}: {answer:?}");
        let body = answer.json();
        assert_eq!(
            (&body["record"], &body["field"]),
            (&json!(1), &json!(field)),
            "{endpoint} {record}: {body}"
        );
        assert!(!body["error"].as_str().unwrap().is_empty());
    }
    for list in [
        "model-stats",
        "costs/usage",
        "traces",
        "logs",
        "health",
        "metrics",
        "cron-stats",
    ] {
        assert!(server.list(&format!("/api/{list}")).is_empty(), "{list}");
    }
}

#[test]
fn a_batch_is_all_or_nothing() {
    let server = Server::start(&[]);
    let batch = json!({"logs": [{"message": "before"}], "costs": [{"model": "m"}, {"model": 5}],
                       "model_usage": [usage()]});
    let answer = server.post("batch", &batch);
    assert_eq!(answer.status, 422);
    let body = answer.json();
    assert_eq!(
        (&body["list"], &body["record"], &body["field"]),
        (&json!("costs"), &json!(1), &json!("model"))
    );
    assert!(server.list("/api/logs").is_empty() && server.list("/api/costs/usage").is_empty());
    assert!(server.list("/api/model-stats").is_empty());
    assert_eq!(server.post("batch", &json!([])).status, 422);
    assert_eq!(
        server.post("batch", &json!({"logs": {}})).json()["list"],
        "logs"
    );
}

#[test]
fn what_is_no_json_or_too_long_is_refused() {
    let server = Server::start(&[]);
    for body in [&b"{bad"[..], b"", b"\xff\xfe", b"[1,]"] {
        assert_eq!(server.post_raw("model_usage", body).status, 400);
    }
    // Deep nesting must not end the process.
    assert_eq!(
        server
            .post_raw("model_usage", "[".repeat(100_000).as_bytes())
            .status,
        400
    );
    let big = vec![b' '; 8 * 1024 * 1024 + 1];
    assert_eq!(server.post_raw("model_usage", &big).status, 413);
    assert_eq!(server.post("model_usage", &usage()).status, 200);
}

#[test]
fn a_repeated_id_is_not_a_second_record() {
    let server = Server::start(&[]);
    for (endpoint, record, list) in [
        (
            "costs",
            json!({"id": "x", "model": "m", "timestamp": AT}),
            "costs/usage",
        ),
        ("logs", json!({"id": "x", "message": "m"}), "logs"),
        ("metrics", json!({"id": "x", "value": 1}), "metrics"),
        ("traces", json!({"id": "x"}), "traces"),
        (
            "cron_run",
            json!({"id": "x", "job_name": "j", "status": "ok"}),
            "cron-history/j",
        ),
        (
            "model_usage",
            with(usage(), json!({"id": "x"})),
            "model-usage",
        ),
    ] {
        for body in [record.clone(), record.clone(), json!([record, record])] {
            let answer = server.post(endpoint, &body);
            assert_eq!(
                (answer.status, &answer.json()["ids"][0]),
                (200, &json!("x")),
                "{endpoint}"
            );
        }
        assert_eq!(server.list(&format!("/api/{list}")).len(), 1, "{endpoint}");
    }
    assert_eq!(server.list("/api/model-stats")[0]["prompt_tokens"], 10);
}

#[test]
fn a_guard_and_its_usage_count_once_each_however_often_they_are_sent() {
    let server = Server::start(&[]);
    let batch = json!({"costs": [{"id": "x", "model": "m", "estimated_cost_usd": 0.5}],
                       "model_usage": [with(usage(), json!({"id": "x"}))]});
    for _ in 0..3 {
        assert_eq!(server.post("batch", &batch).status, 200);
    }
    assert_eq!(server.list("/api/costs/usage").len(), 1);
    assert_eq!(server.list("/api/model-stats")[0]["requests"], 1);
}

#[test]
fn a_later_record_enriches_an_earlier_one() {
    let server = Server::start(&[]);
    server.post(
        "model_usage",
        &with(
            usage(),
            json!({"id": "x", "timestamp": AT, "cost_source": "unknown"}),
        ),
    );
    let later = json!({"id": "x", "model": null, "prompt_tokens": null, "cost_usd": 0.75, "cost_source": "provider",
                       "gateway": "g", "session_key": "s", "cache_read_tokens": 3, "ttfb_ms": 12.5});
    assert_eq!(server.post("model_usage", &later).status, 200);
    let rows = server.list("/api/model-usage?id=x");
    assert_eq!(rows.len(), 1);
    assert_eq!(
        rows[0],
        json!({
            "id": "x", "timestamp": AT, "agent_name": "a", "model": "p/m", "prompt_tokens": 10,
            "completion_tokens": 5, "cost_usd": 0.75, "latency_ms": 100.0, "gateway": "g", "provider": null,
            "cache_read_tokens": 3, "cache_write_tokens": null, "reasoning_tokens": null,
            "cost_source": "provider", "usage_source": null, "latency_source": null, "session_key": "s", "channel": null, "job": null,
            "skill": null, "tool": null, "system_chars": null, "tool_chars": null, "message_chars": null,
            "other_chars": null, "prompt_cost_usd": null, "cache_saved_usd": null, "cache_write_extra_usd": null,
            "run_id": null, "trigger": null, "outcome": null, "ttfb_ms": 12.5, "ttft_ms": null,
            "request_id": null, "response_model": null,
        })
    );
    server.post(
        "costs",
        &json!({"id": "c", "model": "m", "input_tokens": 4, "metadata": {"a": 1}}),
    );
    server.post(
        "costs",
        &json!({"id": "c", "estimated_cost_usd": 2.5, "metadata": {"b": 2}}),
    );
    let cost = &server.list("/api/costs/usage")[0];
    assert_eq!(cost["metadata"], json!({"b": 2}));
    assert_eq!(
        (&cost["estimated_cost_usd"], &cost["input_tokens"]),
        (&json!(2.5), &json!(4))
    );
}

#[test]
fn a_record_keeps_its_own_time() {
    let server = Server::start(&[]);
    let hours_ago = |hours: u64| {
        let now = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap();
        (now.as_millis() as u64) - hours * 3_600_000
    };
    for hours in [0, 2, 30, 800] {
        server.post(
            "model_usage",
            &with(usage(), json!({"timestamp": hours_ago(hours)})),
        );
    }
    let requests =
        |hours: u32| server.list(&format!("/api/model-stats?hours={hours}"))[0]["requests"].clone();
    assert_eq!(
        [requests(1), requests(24), requests(720)],
        [1, 2, 3].map(Value::from)
    );
    for spelling in [
        json!(AT),
        json!("2026-01-02T03:04:05Z"),
        json!(1_767_323_045_000_u64),
    ] {
        server.post(
            "costs",
            &json!({"id": "c", "model": "m", "timestamp": spelling}),
        );
        assert_eq!(server.list("/api/costs/usage")[0]["timestamp"], AT);
    }
}

#[test]
fn a_trace_ends_once() {
    let server = Server::start(&[]);
    server.post(
        "traces",
        &json!({"id": "t", "status": "running", "started_at": AT}),
    );
    server.post(
        "traces",
        &json!({"id": "t", "status": "completed", "duration_ms": 5}),
    );
    // Sent first, arrived last.
    server.post(
        "traces",
        &json!({"id": "t", "status": "running", "started_at": AT}),
    );
    let trace = server.get("/api/traces/t").json();
    assert_eq!(
        (&trace["status"], &trace["started_at"]),
        (&json!("completed"), &json!(AT))
    );
    let spans = trace["spans"].as_array().unwrap();
    assert_eq!((spans.len(), &spans[0]["status"]), (1, &json!("completed")));
    assert_eq!(server.get("/api/traces/none").json(), json!({}));
}

#[test]
fn statistics_are_exact() {
    let server = Server::start(&[]);
    let latencies = [100.0, 900.0, 300.0, 200.0, 1000.0];
    let mut records: Vec<Value> = latencies
        .iter()
        .map(|ms| with(usage(), json!({"latency_ms": ms})))
        .collect();
    records.push(with(
        usage(),
        json!({"latency_ms": null, "cost_usd": 0.0, "cost_source": "unknown"}),
    ));
    records.push(with(
        usage(),
        json!({"model": "P/M", "cost_usd": 9.0, "latency_ms": null}),
    ));
    server.post("model_usage", &Value::from(records));
    assert_eq!(
        server.get("/api/model-stats?hours=1").json(),
        json!([
            {"model": "P/M", "requests": 1, "prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15,
             "total_cost_usd": 9.0, "avg_latency_ms": null, "p50_latency_ms": null, "p95_latency_ms": null,
             "timed_requests": 0, "unknown_cost_requests": 0, "cache_read_tokens": 0, "failed_requests": 0,
             "aborted_requests": 0, "percentile_error": 0.0},
            {"model": "p/m", "requests": 6, "prompt_tokens": 60, "completion_tokens": 30, "total_tokens": 90,
             "total_cost_usd": 2.5, "avg_latency_ms": 500.0, "p50_latency_ms": 300.0, "p95_latency_ms": 980.0,
             "timed_requests": 5, "unknown_cost_requests": 1, "cache_read_tokens": 0, "failed_requests": 0,
             "aborted_requests": 0, "percentile_error": 0.0},
        ])
    );
    for hours in ["0", "721", "x", "-1", "1.5"] {
        assert_eq!(
            server
                .get(&format!("/api/model-stats?hours={hours}"))
                .status,
            422,
            "{hours}"
        );
    }
    assert_eq!(server.get("/api/traces?status=bogus").status, 422);
}

#[test]
fn it_says_what_it_can_do() {
    let server = Server::start(&[]);
    let features = [
        "record_ids",
        "record_timestamps",
        "atomic_batches",
        "enrichment",
    ];
    assert_eq!(
        server.get("/api/v1/ingest/capabilities").json(),
        json!({"server": "agentwatch-receiver", "version": env!("CARGO_PKG_VERSION"), "features": features, "reported_twice": []})
    );
    assert_eq!(server.get("/nope").json(), json!({"detail": "Not Found"}));
    assert_eq!(server.get("/api/v1/ingest/logs").status, 405);
}

#[test]
fn it_says_which_gateways_report_the_same_calls() {
    let server = Server::start(&[]);
    let now = jiff::Timestamp::now().as_millisecond();
    let calls = |gateway: &str, late_ms: i64| -> Vec<Value> {
        (0..6)
            .map(|i| {
                let at = now - 60_000 * (i + 1) + late_ms;
                let more = json!({"id": format!("{gateway}{i}"), "gateway": gateway, "timestamp": at,
                    "prompt_tokens": 100 + i});
                with(usage(), more)
            })
            .collect()
    };
    for (gateway, late_ms) in [("berlin", 0), ("proxy", 250), ("paris", 30_000)] {
        assert_eq!(
            server
                .post("model_usage", &json!(calls(gateway, late_ms)))
                .status,
            200
        );
    }
    assert_eq!(
        server.get("/api/v1/ingest/capabilities").json()["reported_twice"],
        json!([["berlin", "proxy"]])
    );
}

#[test]
fn an_enrichment_changes_a_call_that_is_there_and_makes_none() {
    let server = Server::start(&[]);
    server.post("model_usage", &with(usage(), json!({"id": "x"})));
    let known = json!({"enrichments": [
        {"id": "x", "cost_usd": 0.75, "cost_source": "provider", "ttft_ms": 9.5, "request_id": "req_1"},
        {"id": "y", "ttft_ms": 1.0},
    ]});
    let answer = server.post("batch", &known);
    assert_eq!(answer.json()["counts"]["enrichments"], 2);
    let rows = server.list("/api/model-usage");
    assert_eq!(rows.len(), 1);
    let row = &rows[0];
    assert_eq!(
        (&row["cost_usd"], &row["cost_source"]),
        (&json!(0.75), &json!("provider"))
    );
    assert_eq!(
        (&row["ttft_ms"], &row["request_id"]),
        (&json!(9.5), &json!("req_1"))
    );
    assert_eq!(
        (&row["prompt_tokens"], &row["ttfb_ms"]),
        (&json!(10), &Value::Null)
    );
    let nameless = json!({"enrichments": [{"ttft_ms": 1.0}]});
    assert_eq!(server.post("batch", &nameless).status, 422);
}
