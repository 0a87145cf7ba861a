//! What AgentWatch 0.1.0 answers, written down from a running one beside which these were tried.

use crate::support::Server;
use serde_json::{Value, json};

/// Endpoint, body, status, and how many records are taken where it is 200.
type Row = (&'static str, &'static str, u16, usize);

const TABLE: &[Row] = &[
    ("model_usage", "{}", 200, 1),
    ("model_usage", "[]", 200, 0),
    ("model_usage", "[{},{}]", 200, 2),
    ("model_usage", "{bad", 500, 0),
    ("model_usage", "", 500, 0),
    ("model_usage", "null", 500, 0),
    ("model_usage", "\"text\"", 500, 0),
    ("model_usage", "[[{}]]", 500, 0),
    ("model_usage", r#"{"model":null}"#, 500, 0),
    ("model_usage", r#"{"model":""}"#, 200, 1),
    ("model_usage", r#"{"model":5}"#, 200, 1),
    ("model_usage", r#"{"model":[]}"#, 500, 0),
    ("model_usage", r#"{"agent_name":null}"#, 500, 0),
    ("model_usage", r#"{"prompt_tokens":null}"#, 500, 0),
    ("model_usage", r#"{"prompt_tokens":"5"}"#, 200, 1),
    ("model_usage", r#"{"prompt_tokens":" 7 "}"#, 200, 1),
    ("model_usage", r#"{"prompt_tokens":"1e3"}"#, 500, 0),
    ("model_usage", r#"{"prompt_tokens":5.7}"#, 200, 1),
    ("model_usage", r#"{"prompt_tokens":true}"#, 200, 1),
    ("model_usage", r#"{"prompt_tokens":-3}"#, 200, 1),
    (
        "model_usage",
        r#"{"prompt_tokens":1000000000000000000000}"#,
        500,
        0,
    ),
    ("model_usage", r#"{"cost_usd":"1e3"}"#, 200, 1),
    ("model_usage", r#"{"cost_usd":"x"}"#, 500, 0),
    ("model_usage", r#"{"cost_usd":null}"#, 500, 0),
    ("model_usage", r#"{"latency_ms":null}"#, 200, 1),
    ("model_usage", r#"{"latency_ms":""}"#, 500, 0),
    ("costs", "{}", 200, 1),
    ("costs", r#"{"input_tokens":null}"#, 500, 0),
    ("costs", r#"{"input_tokens":"5"}"#, 500, 0),
    (
        "costs",
        r#"{"input_tokens":"5","output_tokens":"6","estimated_cost_usd":1}"#,
        200,
        1,
    ),
    ("costs", r#"{"estimated_cost_usd":"x"}"#, 200, 1),
    ("costs", r#"{"estimated_cost_usd":[]}"#, 500, 0),
    ("costs", r#"{"timestamp":5}"#, 500, 0),
    ("costs", r#"{"timestamp":0}"#, 200, 1),
    ("costs", r#"{"timestamp":"yesterday"}"#, 200, 1),
    ("costs", r#"{"metadata":null}"#, 200, 1),
    ("costs", r#"{"trace_id":{}}"#, 500, 0),
    // SQLite takes integers of 64 bits, floats of any size, and makes text of numbers.
    ("model_usage", r#"{"model":9223372036854775808}"#, 500, 0),
    ("model_usage", r#"{"model":-9223372036854775809}"#, 500, 0),
    ("model_usage", r#"{"model":1e30}"#, 200, 1),
    (
        "model_usage",
        r#"{"agent_name":18446744073709551616}"#,
        500,
        0,
    ),
    (
        "model_usage",
        r#"{"prompt_tokens":9223372036854775807}"#,
        200,
        1,
    ),
    (
        "model_usage",
        r#"{"prompt_tokens":9223372036854775808}"#,
        500,
        0,
    ),
    ("model_usage", r#"{"prompt_tokens":9.21e18}"#, 200, 1),
    ("model_usage", r#"{"prompt_tokens":9.3e18}"#, 500, 0),
    ("model_usage", r#"{"prompt_tokens":"1_000"}"#, 200, 1),
    ("model_usage", r#"{"prompt_tokens":"1__0"}"#, 500, 0),
    ("model_usage", r#"{"prompt_tokens":"1e18"}"#, 500, 0),
    ("model_usage", r#"{"cost_usd":"1_0.5"}"#, 200, 1),
    (
        "model_usage",
        r#"{"cost_usd":100000000000000000000}"#,
        200,
        1,
    ),
    ("model_usage", r#"{"other":100000000000000000000}"#, 200, 1),
    ("model_usage", "[100000000000000000000]", 500, 0),
    (
        "costs",
        r#"{"estimated_cost_usd":100000000000000000000}"#,
        500,
        0,
    ),
    ("costs", r#"{"estimated_cost_usd":1e20}"#, 200, 1),
    ("costs", r#"{"trace_id":100000000000000000000}"#, 500, 0),
    ("costs", r#"{"metadata":100000000000000000000}"#, 200, 1),
    (
        "costs",
        r#"{"input_tokens":9223372036854775807,"output_tokens":1}"#,
        500,
        0,
    ),
    ("costs", r#"{"input_tokens":1e19}"#, 200, 1),
    (
        "costs",
        r#"{"input_tokens":"1e18","output_tokens":"x","estimated_cost_usd":1}"#,
        200,
        1,
    ),
    ("costs", r#"{"model":5}"#, 500, 0),
    ("costs", r#"{"model":5,"estimated_cost_usd":1}"#, 200, 1),
    ("health", r#"{"duration_ms":100000000000000000000}"#, 500, 0),
    ("logs", r#"{"id":100000000000000000000}"#, 500, 0),
    ("batch", r#"{"logs":100000000000000000000}"#, 500, 0),
    ("batch", "100000000000000000000", 500, 0),
    ("traces", r#"{"duration_ms":100000000000000000000}"#, 500, 0),
    ("traces", "{}", 200, 1),
    ("traces", r#"{"status":null}"#, 500, 0),
    ("traces", r#"{"status":"RUNNING"}"#, 500, 0),
    ("traces", r#"{"spans":null}"#, 200, 1),
    ("traces", r#"{"spans":[{}]}"#, 200, 1),
    ("traces", r#"{"spans":[null]}"#, 500, 0),
    ("traces", r#"{"spans":[{"events":null}]}"#, 500, 0),
    ("logs", "{}", 200, 1),
    ("logs", r#"{"level":"INFO"}"#, 200, 1),
    ("logs", r#"{"level":"warning"}"#, 500, 0),
    ("logs", r#"{"level":null}"#, 500, 0),
    ("logs", r#"{"message":null}"#, 500, 0),
    ("logs", r#"{"message":5}"#, 200, 1),
    ("health", "{}", 200, 1),
    ("health", r#"{"status":"CRITICAL"}"#, 200, 1),
    ("health", r#"{"status":"fine"}"#, 500, 0),
    ("health", r#"{"name":null}"#, 500, 0),
    ("health", r#"{"message":null}"#, 200, 1),
    ("metrics", "{}", 200, 1),
    ("metrics", r#"{"value":"7"}"#, 200, 1),
    ("metrics", r#"{"value":null}"#, 500, 0),
    ("metrics", r#"{"kind":"whatever"}"#, 200, 1),
    ("cron_run", "{}", 200, 1),
    ("cron_run", r#"{"status":"whatever"}"#, 200, 1),
    ("cron_run", r#"{"status":null}"#, 500, 0),
    ("cron_run", r#"{"duration_ms":""}"#, 500, 0),
    ("batch", "{}", 200, 0),
    ("batch", "[]", 500, 0),
    ("batch", "null", 500, 0),
    ("batch", r#"{"other":[1]}"#, 200, 0),
    ("batch", r#"{"logs":null}"#, 500, 0),
    ("batch", r#"{"logs":{}}"#, 200, 0),
    ("batch", r#"{"logs":"x"}"#, 500, 0),
];

#[test]
fn answers_as_recorded() {
    let server = Server::start(&["--stock"]);
    assert!(
        server.line.ends_with("/models (stock mode)\n"),
        "{}",
        server.line
    );
    for (endpoint, body, status, taken) in TABLE {
        let answer = server.post_raw(endpoint, body.as_bytes());
        assert_eq!(answer.status, *status, "{endpoint} {body}: {answer:?}");
        if *status == 500 {
            assert_eq!(answer.text, "Internal Server Error", "{endpoint} {body}");
            assert!(
                answer
                    .header("content-type")
                    .unwrap()
                    .starts_with("text/plain")
            );
            continue;
        }
        let answer = answer.json();
        assert_eq!(
            (&answer["status"], &answer["ingested"]),
            (&json!("ok"), &json!(taken)),
            "{endpoint} {body}"
        );
        let list = match *endpoint {
            "health" => "names",
            "batch" => "counts",
            _ => "ids",
        };
        assert!(!answer[list].is_null(), "{endpoint} {body}: {answer}");
    }
}

#[test]
fn model_usage_has_no_ids_and_no_times() {
    let server = Server::start(&["--stock"]);
    let record =
        json!({"id": "x", "model": "m", "timestamp": "2020-01-01T00:00:00Z", "prompt_tokens": 1});
    assert_ne!(
        server.post("model_usage", &record).json()["ids"],
        json!(["x"])
    );
    server.post("model_usage", &record);
    assert_eq!(server.list("/api/model-stats?hours=1")[0]["requests"], 2);
}

#[test]
fn what_stands_before_a_bad_record_stays() {
    let server = Server::start(&["--stock"]);
    assert_eq!(
        server
            .post(
                "model_usage",
                &json!([{"model": "a"}, {"model": null}, {"model": "b"}])
            )
            .status,
        500
    );
    let models: Vec<Value> = server
        .list("/api/model-stats")
        .iter()
        .map(|row| row["model"].clone())
        .collect();
    assert_eq!(models, ["a"]);
    let batch = json!({"model_usage": [{"model": "c"}], "costs": [{"id": "ok"}, {"input_tokens": null}],
                       "logs": [{"message": "before"}], "metrics": [{"name": "after"}]});
    assert_eq!(server.post("batch", &batch).status, 500);
    assert_eq!(server.list("/api/logs")[0]["message"], "before");
    assert_eq!(server.list("/api/costs/usage")[0]["id"], "ok");
    assert!(server.list("/api/metrics").is_empty());
    assert_eq!(server.list("/api/model-stats").len(), 1);
    let trace = json!({"id": "t", "spans": [{"id": "root"}, {"id": "bad", "parent_id": "root", "status": "x"}]});
    assert_eq!(server.post("traces", &trace).status, 500);
    assert_eq!(
        server.get("/api/traces/t").json()["spans"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
}

#[test]
fn a_repeated_id_is_refused_but_a_trace_is_replaced() {
    let server = Server::start(&["--stock"]);
    let guarded = json!({"costs": [{"id": "g"}], "model_usage": [{"model": "m"}]});
    let statuses: Vec<u16> = (0..3)
        .map(|_| server.post("batch", &guarded).status)
        .collect();
    assert_eq!(statuses, [200, 500, 500]);
    assert_eq!(server.list("/api/model-stats")[0]["requests"], 1);
    for endpoint in ["logs", "metrics"] {
        assert_eq!(server.post(endpoint, &json!({"id": "x"})).status, 200);
        assert_eq!(
            server.post(endpoint, &json!({"id": "x"})).status,
            500,
            "{endpoint}"
        );
    }
    for status in ["running", "completed"] {
        assert_eq!(
            server
                .post("traces", &json!({"id": "t", "status": status}))
                .status,
            200
        );
    }
    let trace = server.get("/api/traces/t").json();
    assert_eq!(trace["status"], "completed");
    // The root of the running trace runs for ever.
    assert_eq!(trace["spans"].as_array().unwrap().len(), 2);
}

#[test]
fn the_read_side_has_the_stock_shapes() {
    let server = Server::start(&["--stock"]);
    for ms in [1, 2, 3, 4, 10, 100] {
        let record = json!({"model": "m", "prompt_tokens": -1, "latency_ms": f64::from(ms) * 1.37});
        server.post("model_usage", &record);
    }
    server.post("model_usage", &json!({"model": "z", "latency_ms": 0}));
    let rows = server.list("/api/model-stats");
    assert_eq!(
        rows[0],
        json!({"model": "m", "requests": 6, "prompt_tokens": -6, "completion_tokens": 0, "total_tokens": -6,
               "total_cost_usd": 0.0, "avg_latency_ms": 27.4, "p50_latency_ms": 4.8, "p95_latency_ms": 106.2})
    );
    assert_eq!(
        (&rows[1]["avg_latency_ms"], &rows[1]["p50_latency_ms"]),
        (&json!(null), &json!(0.0))
    );
    let invalid = server.get("/api/model-stats?hours=721");
    assert_eq!(
        (invalid.status, &invalid.json()["detail"][0]["loc"]),
        (422, &json!(["query", "hours"]))
    );
    assert_eq!(server.get("/api/traces?status=bogus").status, 500);
    assert_eq!(
        server.get("/api/v1/ingest/capabilities").json(),
        json!({"detail": "Not Found"})
    );
    assert_eq!(server.get("/api/model-usage").status, 404);
    server.post("traces", &json!({"id": "t", "metadata": {"a": [1, "ü"]}}));
    let text = r#"{"a": [1, "\u00fc"]}"#;
    assert_eq!(server.list("/api/traces")[0]["metadata"], text);
    assert_eq!(
        server.get("/api/traces/t").json()["metadata"],
        json!({"a": [1, "ü"]})
    );
}

#[test]
fn numbers_become_text_as_sqlite_writes_them() {
    let server = Server::start(&["--stock"]);
    let body =
        r#"[{"model":1e18},{"model":0.1},{"model":5},{"model":true},{"model":1E5},{"model":-0.0}]"#;
    assert_eq!(server.post_raw("model_usage", body.as_bytes()).status, 200);
    let rows = server.list("/api/model-stats");
    let models: Vec<&str> = rows
        .iter()
        .map(|row| row["model"].as_str().unwrap())
        .collect();
    assert_eq!(models, ["0.0", "0.1", "1", "1.0e+18", "100000.0", "5"]);
    let body = r#"{"id":"t","metadata":{"n":123456789012345678901234567890}}"#;
    assert_eq!(server.post_raw("traces", body.as_bytes()).status, 200);
    let trace = &server.list("/api/traces")[0];
    assert_eq!(
        trace["metadata"],
        r#"{"n": 123456789012345678901234567890}"#
    );
}

/// Method, path, and what is answered: status, `location` without the server, `allow`.
type Asked = (
    &'static str,
    &'static str,
    u16,
    Option<&'static str>,
    Option<&'static str>,
);

fn assert_answers(server: &Server, table: &[Asked]) {
    let origin = format!("http://{}", server.address);
    for (method, path, status, location, allow) in table {
        let answer = server.send(method, path, &[], b"{}");
        let to = answer.header("location").map(|to| to.replace(&origin, ""));
        let seen = (answer.status, to.as_deref(), answer.header("allow"));
        assert_eq!(seen, (*status, *location, *allow), "{method} {path}");
    }
}

#[test]
fn addresses_and_methods_are_answered_as_recorded() {
    let (get, post) = (Some("GET"), Some("POST"));
    assert_answers(
        &Server::start(&["--stock"]),
        &[
            ("GET", "/models/", 307, Some("/models"), None),
            (
                "GET",
                "/api/model-stats/",
                307,
                Some("/api/model-stats"),
                None,
            ),
            (
                "GET",
                "/api/model-stats//?hours=6",
                307,
                Some("/api/model-stats?hours=6"),
                None,
            ),
            (
                "POST",
                "/api/v1/ingest/batch/",
                307,
                Some("/api/v1/ingest/batch"),
                None,
            ),
            ("DELETE", "/api/traces/x/", 307, Some("/api/traces/x"), None),
            ("GET", "/nothing/", 404, None, None),
            ("GET", "//evil.com/", 404, None, None),
            ("GET", "/api/", 404, None, None),
            ("HEAD", "/models", 405, None, get),
            ("HEAD", "/api/model-stats", 405, None, get),
            ("HEAD", "/api/v1/ingest/batch", 405, None, post),
            ("HEAD", "/nothing", 404, None, None),
            ("POST", "/api/model-stats", 405, None, get),
            ("GET", "/api/v1/ingest/batch", 405, None, post),
            ("PUT", "/login", 405, None, get),
            ("GET", "/login", 307, Some("/"), None),
            ("POST", "/login", 302, Some("/"), None),
            ("GET", "/logout", 302, Some("/login"), None),
            ("GET", "/healthz", 404, None, None),
        ],
    );
    assert_answers(
        &Server::start(&["--stock", "--token", "s3cret"]),
        &[
            ("GET", "/models", 302, Some("/login?next=/models"), None),
            (
                "GET",
                "/models?hours=6",
                302,
                Some("/login?next=/models"),
                None,
            ),
            ("POST", "/nothing", 302, Some("/login?next=/nothing"), None),
            ("HEAD", "/api/model-stats", 401, None, None),
            ("GET", "/api/model-stats/", 401, None, None),
            ("GET", "/login/", 302, Some("/login?next=/login/"), None),
            ("POST", "/login", 401, None, None),
            ("GET", "/health", 200, None, None),
            ("GET", "/health/x", 404, None, None),
            ("GET", "/metrics", 404, None, None),
            ("GET", "/metrics/x", 404, None, None),
        ],
    );
}
