//! What the Models page says of the month, prompts, sessions, allowances and incidents.

use crate::support::Server;
use jiff::{Timestamp, ToSpan};
use serde_json::{Value, json};

/// The time some hours before now, or after it for negative ones.
fn ago(hours: i64) -> String {
    Timestamp::now()
        .checked_sub(hours.hours())
        .unwrap()
        .to_string()
}

fn call(hours_ago: i64, more: Value) -> Value {
    let mut call = json!({"model": "p/a", "agent_name": "main", "prompt_tokens": 1000, "completion_tokens": 10,
                          "cost_usd": 0.5, "cost_source": "openclaw", "timestamp": ago(hours_ago)});
    for (name, value) in more.as_object().unwrap() {
        call[name] = value.clone();
    }
    call
}

/// The card with this id.
fn card<'a>(page: &'a str, id: &str) -> &'a str {
    let from = format!(r#"<h2 id="{id}">"#);
    let rest = page.split_once(&from).unwrap_or_else(|| panic!("no {id}"));
    rest.1.split_once("</section>").unwrap().0
}

fn has(page: &str, id: &str) -> bool {
    page.contains(&format!(r#"<h2 id="{id}">"#))
}

#[test]
fn a_young_receiver_with_one_call_shows_no_guess() {
    let server = Server::start(&[]);
    server.post("model_usage", &call(0, json!({})));
    let page = server.get("/models").text;
    for id in [
        "month",
        "allowances",
        "incidents",
        "prompt",
        "dearest",
        "by-channel",
        "by-job",
    ] {
        assert!(!has(&page, id), "{id}");
    }
}

#[test]
fn the_month_is_foretold_from_complete_days() {
    let server = Server::start(&[]);
    let calls: Vec<Value> = (0..20)
        .map(|day| call(24 * day, json!({"cost_usd": 2})))
        .collect();
    server.post("model_usage", &json!(calls));
    let page = server.get("/models?hours=720").text;
    let month = card(&page, "month");
    // The first day is not complete, and today is not.
    assert!(month.contains("by 18 complete days"), "{month}");
    assert!(month.contains("<svg class=\"range\""));
    let filtered = server.get("/models?hours=720&agent=nobody").text;
    assert!(!has(&filtered, "month"));
}

#[test]
fn prompts_are_divided_and_sessions_ranked_with_their_calls() {
    let server = Server::start(&[]);
    let stats = json!({"system_prompt": 100, "tool_definitions": 600, "messages": 300, "other": 0, "cost_usd": 0.4});
    let calls: Vec<Value> = (1..=10)
        .map(|number| {
            call(1, json!({"session_key": format!("s_{number}"), "cost_usd": number, "channel": "telegram",
                           "job": "nightly", "prompt_stats": stats}))
        })
        .collect();
    server.post("model_usage", &json!(calls));
    let page = server.get("/models").text;
    let prompt = card(&page, "prompt");
    assert!(
        prompt.contains("Tool definitions<td>6,000<td>60.0 %<td>$2.40"),
        "{prompt}"
    );
    assert!(prompt.contains("cost $2.80 here"), "{prompt}");
    assert!(prompt.contains("estimate"));
    assert!(card(&page, "by-channel").contains(">telegram</a><td>10"));
    assert!(card(&page, "by-job").contains(">nightly</a><td>10"));
    let dearest = card(&page, "dearest");
    let (first, second) = (
        dearest.find(">s_10</a>").unwrap(),
        dearest.find(">s_9</a>").unwrap(),
    );
    assert!(
        first < second && dearest.contains("2 sessions were cheaper"),
        "{dearest}"
    );
    let of_one = server.get("/models?session=s_10").text;
    assert!(of_one.contains("Of session s_10."));
    assert!(card(&of_one, "calls").contains("Show those of all sessions"));
    assert_eq!(card(&of_one, "calls").matches("#call\"").count(), 1);
}

#[test]
fn the_rate_of_the_fixed_part_is_by_the_days_of_the_selected_calls() {
    let server = Server::start(&[]);
    let stats = json!({"system_prompt": 100, "tool_definitions": 0, "messages": 0, "other": 0, "cost_usd": 1.0});
    let of = |gateway: &str, hours| call(hours, json!({"gateway": gateway, "prompt_stats": stats}));
    server.post(
        "model_usage",
        &json!([
            of("old", 24 * 20),
            of("old", 0),
            of("new", 49),
            of("new", 0)
        ]),
    );
    let rate = |query: &str| -> f64 {
        let page = server.get(&format!("/models?hours=720{query}")).text;
        let card = card(&page, "prompt").to_owned();
        let (before, _) = card.split_once(" a day, ").unwrap();
        let (_, rate) = before.rsplit_once('$').unwrap();
        rate.parse().unwrap()
    };
    // Four dollars in 20 days for all, and two in 49 hours for the new one.
    assert!((0.19..0.21).contains(&rate("")), "{}", rate(""));
    assert!(
        (0.95..1.0).contains(&rate("&gateway=new")),
        "{}",
        rate("&gateway=new")
    );
}

#[test]
fn allowances_are_the_last_figures_of_their_windows() {
    let server = Server::start(&[]);
    server.post("model_usage", &call(1, json!({})));
    let metric = |hours_ago, words: &str, value: f64, end: String| {
        json!({"name": "allowance_spent", "agent_name": "g1", "kind": "gauge", "value": value, "timestamp": ago(hours_ago),
               "tags": {"allowance": words, "limit": 20, "unit": "usd", "per": "day", "then": "stop", "window_end": end}})
    };
    server.post(
        "metrics",
        &json!([
            metric(2, "20.00 USD a day", 3.0, ago(-5)),
            metric(1, "20.00 USD a day", 21.5, ago(-5)),
            metric(30, "20.00 USD a day for agent main", 19.0, ago(6)),
            {"name": "allowance_spent", "agent_name": "g1", "value": 1, "kind": "gauge", "tags": {"allowance": "no limit"}},
        ]),
    );
    let page = server.get("/models").text;
    let allowances = card(&page, "allowances");
    assert!(
        allowances.contains("$21.50<small>calls are refused</small><td>108 %"),
        "{allowances}"
    );
    assert!(!allowances.contains("$3.00") && !allowances.contains("no limit"));
    // Its window ended without another call.
    assert!(
        allowances.contains("$0.00<small>stops</small><td>0 %"),
        "{allowances}"
    );
    let filtered = server.get("/models?agent=main").text;
    assert!(!has(&filtered, "allowances"), "they are of no agent's page");
    let quiet = server.get("/models?from=2026-01-01&to=2026-01-02").text;
    assert!(
        quiet.contains("No model calls")
            && card(&quiet, "allowances").contains("calls are refused"),
        "{quiet}"
    );
}

#[test]
fn equal_allowances_of_two_gateways_are_two() {
    let server = Server::start(&[]);
    server.post("model_usage", &call(1, json!({})));
    for (gateway, spent) in [("berlin", 3.0), ("paris", 4.0), ("berlin", 5.0)] {
        let tags =
            json!({"allowance": "20.00 USD a day", "limit": 20, "unit": "usd", "gateway": gateway});
        let metric = json!({"name": "allowance_spent", "agent_name": "openclaw-gateway", "value": spent, "tags": tags});
        server.post("metrics", &metric);
    }
    let page = server.get("/models").text;
    let allowances = card(&page, "allowances");
    let rows: Vec<&str> = allowances
        .split("<tr")
        .filter(|row| row.contains("20.00 USD"))
        .collect();
    assert_eq!(rows.len(), 2, "{allowances}");
    assert!(rows[0].contains("berlin") && rows[0].contains("$5.00"));
    assert!(rows[1].contains("paris") && rows[1].contains("$4.00"));
}

#[test]
fn incidents_have_their_time_words_cost_and_causes_and_names_stay_text() {
    let server = Server::start(&[]);
    server.post("model_usage", &call(1, json!({})));
    let hostile = "<script>alert(1)</script>\u{202e}";
    let log = |kind: &str, agent: &str, message: &str, more: Value| {
        let mut metadata = more;
        metadata["type"] = json!(kind);
        json!({"level": "warn", "agent_name": agent, "message": message, "timestamp": ago(1), "metadata": metadata})
    };
    server.post(
        "logs",
        &json!([
            log(
                "cache_incident",
                "main",
                "lost a",
                json!({"cause": "idle", "extra_usd": 0.25})
            ),
            log(
                "cache_incident",
                "main",
                "lost b",
                json!({"cause": "fixed_prompt", "extra_usd": 0.5})
            ),
            log("cache_incident", "main", hostile, json!({"cause": hostile})),
            log("alarm_began", "other", "runs away", json!({"usd": 12})),
            log("alarm_ended", "other", "ended", json!({"usd": 12})),
            log("something", "main", "else", json!({})),
        ]),
    );
    let page = server.get("/models").text;
    let incidents = card(&page, "incidents");
    assert!(
        incidents.contains("1 alarm. 3 losses of the cache, $0.7500 in all:"),
        "{incidents}"
    );
    assert!(incidents.contains("1 fixed prompt") && incidents.contains("1 idle"));
    assert!(incidents.contains("runs away<td>$12.00"));
    assert!(!incidents.contains("ended<td>") && !incidents.contains("else<td>"));
    assert!(!page.contains("<script>alert"));
    let of_agent = server.get("/models?agent=main").text;
    assert!(!card(&of_agent, "incidents").contains("runs away"));
    let of_model = server.get("/models?model=p/a").text;
    assert!(!has(&of_model, "incidents"), "log records tell no model");
}

#[test]
fn a_busy_gateway_pushes_out_no_allowance_and_no_incident() {
    let server = Server::start(&[]);
    server.post("model_usage", &call(1, json!({})));
    let spent = |words: &str, value: f64, at: String| {
        json!({"name": "allowance_spent", "agent_name": "g1", "value": value, "timestamp": at,
               "tags": {"allowance": words, "limit": 20}})
    };
    let metrics = [
        spent("quiet", 19.0, ago(20)),
        spent("clock ahead", 1.0, ago(-48)),
    ];
    server.post("metrics", &json!(metrics));
    let lost: Vec<Value> = (0..12)
        .map(|_| {
            json!({"message": "lost", "timestamp": ago(20), "metadata":
                   {"type": "cache_incident", "cause": "idle", "extra_usd": 0.25}})
        })
        .collect();
    server.post("logs", &json!(lost));
    for _ in 0..6 {
        let busy: Vec<Value> = (0..1_000)
            .map(|n| spent("busy", f64::from(n) / 100.0, ago(1)))
            .collect();
        assert_eq!(server.post("metrics", &json!(busy)).status, 200);
        let logs: Vec<Value> = (0..1_000)
            .map(|n| json!({"message": format!("turn {n}"), "metadata": {"type": "turn"}}))
            .collect();
        assert_eq!(server.post("logs", &json!(logs)).status, 200);
    }
    server.post("metrics", &spent("clock ahead", 2.0, ago(0)));
    let page = server.get("/models").text;
    let allowances = card(&page, "allowances");
    for (words, share) in [
        ("quiet", "95.0 %"),
        ("busy", "50.0 %"),
        ("clock ahead", "10.0 %"),
    ] {
        let row = allowances.split_once(words).unwrap().1;
        assert!(
            row.split_once("<tr")
                .map_or(row, |(row, _)| row)
                .contains(share),
            "{words}: {row}"
        );
    }
    let incidents = card(&page, "incidents");
    assert!(
        incidents
            .contains("12 losses of the cache, $3.00 in all: 12 idle. The latest 10 are listed."),
        "{incidents}"
    );
    assert_eq!(incidents.matches("lost<td>").count(), 10);
}

#[test]
fn the_last_figures_of_1024_allowances_are_kept() {
    let server = Server::start(&[]);
    server.post("model_usage", &call(1, json!({})));
    for (name, at) in [("old", ago(9)), ("new", ago(1))] {
        let metrics: Vec<Value> = (0..1_000)
            .map(|n| {
                json!({"name": "allowance_spent", "value": 1, "timestamp": at,
                       "tags": {"allowance": format!("{name} {n}"), "limit": if name == "old" { 2 } else { 4 }}})
            })
            .collect();
        server.post("metrics", &json!(metrics));
    }
    let page = server.get("/models").text;
    let allowances = card(&page, "allowances");
    assert!(
        allowances.contains("960 further allowances are spent less."),
        "{allowances}"
    );
    assert_eq!(
        allowances
            .matches("<th scope=row><span class=name>old ")
            .count(),
        24
    );
    assert_eq!(
        allowances
            .matches("<th scope=row><span class=name>new ")
            .count(),
        40
    );
}

#[test]
fn the_cache_has_what_it_saved_what_writes_cost_and_what_losses_cost() {
    let server = Server::start(&[]);
    let told = |saved: f64, extra: f64, agent: &str| {
        call(
            1,
            json!({"cache_saved_usd": saved, "cache_write_extra_usd": extra, "agent_name": agent}),
        )
    };
    server.post(
        "model_usage",
        &json!([
            told(2.5, 0.25, "main"),
            told(0.5, 0.25, "other"),
            call(1, json!({}))
        ]),
    );
    let lost = json!({"message": "lost", "agent_name": "other", "metadata": {"type": "cache_incident", "extra_usd": 0.75}});
    server.post("logs", &lost);
    let cache = |query: &str| {
        card(
            &server.get(&format!("/models?hours=24{query}")).text,
            "cache",
        )
        .to_owned()
    };
    let all = cache("");
    for shown in [
        "by cache reads</small><td>$3.00",
        "plain input</small><td>$0.5000",
        "by 1 loss of a cached prompt; part of the cost</small><td>$0.7500",
        "In 2 calls with cached tokens and a known price, the cache saved $2.50 in all.",
    ] {
        assert!(all.contains(shown), "{shown}: {all}");
    }
    let main = cache("&agent=main");
    assert!(
        main.contains("<td>$2.50<svg") && !main.contains("loss of"),
        "{main}"
    );
    assert!(
        !cache("&model=p/a").contains("loss of"),
        "log records tell no model"
    );
    let downloaded = server.get("/models/calls.json?hours=24").text;
    for told in ["null", "0.5", "2.5"] {
        assert_eq!(
            downloaded
                .matches(&format!("\"cache_saved_usd\":{told},"))
                .count(),
            1
        );
    }
}
