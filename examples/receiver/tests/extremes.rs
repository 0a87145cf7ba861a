//! Numbers and names at the ends of what is taken: sums saturate, and nothing becomes a formula.

use crate::support::Server;
use serde_json::json;

#[test]
fn sums_saturate_wherever_they_are_made() {
    for sign in [1, -1] {
        let server = Server::start(&["--stock"]);
        for model in ["a", "b"] {
            for _ in 0..2 {
                let record = json!({"model": model, "prompt_tokens": sign * i64::MAX, "completion_tokens": sign * i64::MAX,
                                    "cost_usd": f64::MAX, "latency_ms": f64::MAX});
                assert_eq!(server.post("model_usage", &record).status, 200);
                let cost = json!({"model": model, "input_tokens": sign * i64::MAX, "output_tokens": 0,
                                  "estimated_cost_usd": f64::MAX});
                assert_eq!(server.post("costs", &cost).status, 200);
            }
        }
        let end = if sign > 0 { i64::MAX } else { i64::MIN + 1 };
        let is_end = |value: &serde_json::Value| value.as_i64().unwrap().abs_diff(end) <= 1;
        for row in server.list("/api/model-stats") {
            assert!(
                is_end(&row["prompt_tokens"]) && is_end(&row["total_tokens"]),
                "{row}"
            );
        }
        let costs = server.get("/api/costs").json();
        assert!(
            is_end(&costs["total_input_tokens"]) && is_end(&costs["total_tokens"]),
            "{costs}"
        );
        for page in [
            "/models",
            "/models?hours=1",
            "/models?hours=720&calls=1",
            "/models?model=a&calls=1&failed=1",
            "/models?from=0001-01-01&to=9999-12-31T23:59:59Z",
            "/models?from=-009999-01-01",
            "/models?from=9999-12-30",
            "/models/stats.csv",
            "/models/stats.json",
            "/models/calls.csv",
            "/models/calls.json",
            "/api/costs/usage",
            "/api/traces?offset=9223372036854775807",
        ] {
            let answer = server.get(page);
            assert_eq!(answer.status, 200, "{page}");
            assert!(!answer.text.contains("unavailable"), "{page}: {answer:?}");
            assert!(!page.starts_with("/models?") || answer.text.contains("</html>"));
        }
    }
}

#[test]
fn a_download_holds_no_formula() {
    let server = Server::start(&[]);
    let names = [
        " =1+1",
        "\n=1+1",
        "\u{ff1d}1+1",
        "\u{ff20}SUM(1)",
        "\t-1",
        "a;=1+1",
        "@cf/meta/llama",
    ];
    let record = |name: &&str| json!({"model": name, "agent_name": name, "session_key": name});
    let records: Vec<_> = names.iter().map(record).collect();
    assert_eq!(server.post("model_usage", &json!(records)).status, 200);
    for file in ["stats", "calls"] {
        let text = server.get(&format!("/models/{file}.csv")).text;
        for name in names {
            let written = match name.split_once(';') {
                Some((before, after)) => format!("\"{before};'{after}\""),
                None if name.starts_with(['\n', '\t']) => format!("\"'{}", &name[..1]),
                None => format!("\"'{name}\""),
            };
            assert!(text.contains(&written), "{file} {name:?}: {text}");
        }
    }
}
