//! Sums by channel, cron job and session, and of the parts of prompts: as JSON and as downloads.

use crate::support::Server;
use serde_json::{Value, json};

fn filled() -> Server {
    let server = Server::start(&[]);
    let call = |id: &str, cost: f64, more: Value| {
        let mut call = json!({"id": id, "model": "p/a", "agent_name": "main", "prompt_tokens": 1000,
                              "completion_tokens": 10, "cost_usd": cost, "cost_source": "openclaw"});
        for (name, value) in more.as_object().unwrap() {
            call[name] = value.clone();
        }
        call
    };
    let stats = |system: i64, tools: i64, cost: Value| json!({"system_prompt": system, "tool_definitions": tools, "messages": 100, "other": 0, "cost_usd": cost});
    let answer = server.post(
        "model_usage",
        &json!([
            call(
                "1",
                0.5,
                json!({"channel": "telegram", "session_key": "agent:main:#1", "tool": "exec",
                "prompt_stats": stats(300, 600, json!(0.4))})
            ),
            call(
                "2",
                0.25,
                json!({"channel": "telegram", "session_key": "agent:main:#2", "skill": "weather"})
            ),
            call(
                "3",
                0.125,
                json!({"trigger": "cron", "job": "nightly", "session_key": "agent:main:#1",
                "prompt_stats": stats(100, 200, json!(null))})
            ),
            call(
                "4",
                2.0,
                json!({"agent_name": "work", "trigger": "cron", "job": "=weekly",
                "prompt_stats": stats(0, 900, json!(1.5))})
            ),
        ]),
    );
    assert_eq!(answer.status, 200, "{}", answer.text);
    server
}

/// The named fields of rows.
fn fields(rows: &[Value], names: &[&str]) -> Vec<Value> {
    let row = |row: &Value| names.iter().map(|name| row[*name].clone()).collect();
    rows.iter().map(row).collect()
}

#[test]
fn calls_are_grouped_by_each_dimension() {
    let server = filled();
    let by = |query: &str, name: &str| {
        let rows = server.list(&format!("/api/breakdown?by={name}{query}"));
        fields(&rows, &[name, "requests", "total_cost_usd"])
    };
    assert_eq!(
        by("", "channel"),
        [json!([null, 2, 2.125]), json!(["telegram", 2, 0.75])]
    );
    assert_eq!(
        by("", "job"),
        [
            json!(["=weekly", 1, 2.0]),
            json!([null, 2, 0.75]),
            json!(["nightly", 1, 0.125])
        ]
    );
    // The other parameters filter, as on the page.
    assert_eq!(
        by("&agent=main&channel=-", "job"),
        [json!(["nightly", 1, 0.125])]
    );
    assert_eq!(by("&job=nightly", "agent"), [json!(["main", 1, 0.125])]);
    let wrong = server.get("/api/breakdown?by=person");
    assert_eq!(wrong.status, 422);
    assert!(
        wrong.text.contains("by has to be one of model, agent"),
        "{}",
        wrong.text
    );
}

#[test]
fn sessions_are_ranked_by_cost_and_have_their_calls() {
    let server = filled();
    let names = [
        "session",
        "agent",
        "requests",
        "prompt_tokens",
        "total_cost_usd",
    ];
    let rows = server.list("/api/sessions");
    assert_eq!(
        fields(&rows, &names),
        [
            json!(["agent:main:#1", "main", 2, 2000, 0.625]),
            json!(["agent:main:#2", "main", 1, 1000, 0.25]),
        ]
    );
    assert_eq!(server.list("/api/sessions?limit=1").len(), 1);
    assert_eq!(server.list("/api/sessions?job=nightly").len(), 1);
    assert_eq!(server.get("/api/sessions?limit=0").status, 422);
    let key = "agent:main:%231";
    let calls = server.list(&format!("/api/model-usage?session={key}"));
    assert_eq!(
        fields(&calls, &["id", "tool"]),
        [json!(["3", null]), json!(["1", "exec"])]
    );
    let page = server.get(&format!("/models?session={key}")).text;
    assert!(page.contains("Latest calls") && page.contains("call=3") && !page.contains("call=2"));
    let download = server
        .get(&format!("/models/calls.csv?session={key}&channel=telegram"))
        .text;
    let is_call = |line: &&str| line.contains(",p/a,");
    assert_eq!(download.lines().filter(is_call).count(), 1, "{download}");
    assert!(download.contains("telegram") && download.contains("exec"));
}

#[test]
fn the_parts_of_prompts_have_a_cost() {
    let server = filled();
    let bill: Value = server.get("/api/prompt-bill").json();
    assert_eq!(bill["estimate"], true);
    let total = &bill["total"];
    let names = [
        "requests",
        "unpriced_requests",
        "system_prompt_tokens",
        "tool_definitions_tokens",
        "messages_tokens",
    ];
    assert_eq!(
        fields(std::slice::from_ref(total), &names),
        [json!([3, 1, 300 + 250, 600 + 500 + 900, 100 + 250 + 100])]
    );
    let usd = |row: &Value, name: &str| row[name].as_f64().unwrap();
    let near = |given: f64, expected: f64| {
        assert!((given - expected).abs() < 1e-9, "{given}, not {expected}")
    };
    near(usd(total, "system_prompt_usd"), 0.4 * 0.3);
    near(usd(total, "tool_definitions_usd"), 0.4 * 0.6 + 1.5 * 0.9);
    near(usd(total, "fixed_usd"), 0.4 * 0.9 + 1.5 * 0.9);
    // The agent with the dearest fixed part comes first.
    let agents = bill["by_agent"].as_array().unwrap();
    assert_eq!(
        fields(agents, &["value", "requests", "fixed_tokens_per_request"]),
        [json!(["work", 1, 900]), json!(["main", 2, (900 + 750) / 2])]
    );
    for by in ["by_day", "by_month"] {
        let rows = bill[by].as_array().unwrap();
        let sum: f64 = rows.iter().map(|row| usd(row, "fixed_usd")).sum();
        near(sum, usd(total, "fixed_usd"));
    }
    let main: Value = server.get("/api/prompt-bill?agent=main").json();
    assert_eq!(main["total"]["requests"], 2);
    // The bill of a call may come later: its parts cost their share of it.
    let late = json!([{"id": "1", "cost_usd": 0.25, "cost_source": "provider"}]);
    server.post("batch", &json!({"enrichments": late}));
    let main: Value = server.get("/api/prompt-bill?agent=main").json();
    near(usd(&main["total"], "fixed_usd"), 0.4 * 0.9 * 0.25 / 0.5);
}

#[test]
fn groups_can_be_downloaded() {
    let server = filled();
    let csv = server.get("/models/by-job.csv");
    assert_eq!(csv.header("content-type"), Some("text/csv; charset=utf-8"));
    let lines: Vec<&str> = csv.text.lines().collect();
    assert_eq!(
        lines[0],
        "job,requests,total_tokens,total_cost_usd,unknown_cost_requests,failed_requests,aborted_requests"
    );
    assert!(
        lines[1].starts_with("\"'=weekly\",1,1010,2.0,"),
        "{}",
        lines[1]
    );
    let sessions: Value = server.get("/models/sessions.json").json();
    assert_eq!(sessions[0]["session"], "agent:main:#1");
    let bill = server.get("/models/prompt-bill.csv").text;
    assert!(bill.starts_with("by,value,requests,"), "{bill}");
    assert_eq!(bill.lines().count(), 1 + 1 + 2 + 1 + 1);
    for missing in ["by-person.csv", "sessions.xml", "others.csv"] {
        assert_eq!(server.get(&format!("/models/{missing}")).status, 404);
    }
}

#[test]
fn a_later_record_moves_a_call_to_its_channel() {
    let server = filled();
    server.post(
        "model_usage",
        &json!({"id": "4", "channel": "slack", "session_key": "agent:work:#9"}),
    );
    let rows = server.list("/api/breakdown?by=channel");
    assert_eq!(
        fields(&rows, &["channel", "total_cost_usd"]),
        [
            json!(["slack", 2.0]),
            json!(["telegram", 0.75]),
            json!([null, 0.125])
        ]
    );
    assert_eq!(server.list("/api/sessions")[0]["session"], "agent:work:#9");
    let wrong = json!({"model": "m", "prompt_tokens": 1, "completion_tokens": 1, "prompt_stats": {"other": -1}});
    let refused = server.post("model_usage", &wrong);
    assert_eq!(refused.status, 422);
    assert!(
        refused.text.contains("prompt_stats.other"),
        "{}",
        refused.text
    );
}

#[test]
fn stock_mode_has_no_such_addresses() {
    let server = Server::start(&["--stock"]);
    for path in [
        "/api/breakdown?by=channel",
        "/api/sessions",
        "/api/prompt-bill",
    ] {
        assert_eq!(server.get(path).status, 404, "{path}");
    }
}
