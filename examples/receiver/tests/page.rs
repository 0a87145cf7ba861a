//! What the Models page says of what was stored.

use crate::support::{Folder, Server};
use serde_json::{Value, json};

fn call(model: &str, more: Value) -> Value {
    let mut call = json!({"model": model, "agent_name": "main", "prompt_tokens": 100, "completion_tokens": 10,
                          "cost_usd": 0.5, "latency_ms": 1000, "cost_source": "openclaw", "trigger": "user",
                          "gateway": "g1", "session_key": "s_1"});
    for (name, value) in more.as_object().unwrap() {
        call[name] = value.clone();
    }
    call
}

/// The part of a page between two texts.
fn between<'a>(page: &'a str, from: &str, to: &str) -> &'a str {
    let rest = page
        .split_once(from)
        .unwrap_or_else(|| panic!("no {from}"))
        .1;
    rest.split_once(to).unwrap_or_else(|| panic!("no {to}")).0
}

#[test]
fn names_do_not_change_the_order_of_writing_around_them() {
    let server = Server::start(&[]);
    let name = "a\u{202e}b\u{1}c\u{2066}d";
    let more = json!({"agent_name": name, "channel": name, "job": name, "trigger": name, "gateway": name,
                      "session_key": name, "request_id": name, "response_model": name, "id": "1"});
    let answer = server.post("model_usage", &call(name, more));
    assert_eq!(answer.status, 200, "{}", answer.text);
    server.post(
        "logs",
        &json!({"message": name, "metadata": {"type": "alarm_began"}}),
    );
    for query in [
        "",
        "?calls=1",
        "?call=1",
        "?session=a%E2%80%AEb%01c%E2%81%A6d",
    ] {
        let page = server.get(&format!("/models{query}")).text;
        assert!(!page.contains(['\u{202e}', '\u{1}', '\u{2066}']), "{query}");
        assert!(page.contains("a\u{fffd}b\u{fffd}c\u{fffd}d"), "{query}");
        // A filter sends the name itself.
        assert!(
            page.contains(r#"<option value="a&#8238;b&#1;c&#8294;d">"#),
            "{query}"
        );
    }
    let filtered = server.get("/models?agent=a%E2%80%AEb%01c%E2%81%A6d").text;
    assert!(filtered.contains(r#"data-summary="requests"><span>1<"#));
}

#[test]
fn an_address_selects_calls_on_the_page_in_statistics_and_in_downloads() {
    let server = Server::start(&[]);
    server.post(
        "model_usage",
        &json!([
            call("p/a", json!({})),
            call(
                "p/a",
                json!({"agent_name": "cron agent", "trigger": "cron"})
            ),
            call("p/b", json!({"trigger": null, "gateway": "g2"})),
        ]),
    );
    for (query, requests) in [
        ("agent=main", 2),
        ("agent=cron%20agent", 1),
        ("model=p/a&trigger=user", 1),
        ("gateway=g2", 1),
        ("gateway=g3", 0),
        ("cost_source=openclaw&model=p/b", 1),
    ] {
        let sum = |rows: &[Value]| {
            rows.iter()
                .map(|row| row["requests"].as_i64().unwrap())
                .sum::<i64>()
        };
        let stats = server.list(&format!("/api/model-stats?{query}"));
        assert_eq!(sum(&stats), requests, "{query}");
        assert_eq!(
            sum(&server.list(&format!("/models/stats.json?{query}"))),
            requests
        );
        // Written in pieces, as it is read.
        let calls = server.get(&format!("/models/calls.json?{query}")).text;
        let calls = calls.matches(r#""agent_name":"#).count();
        assert_eq!(calls as i64, requests, "{query}");
        let page = server.get(&format!("/models?{query}")).text;
        if requests > 0 {
            let shown = between(&page, r#"data-summary="requests"><span>"#, "<");
            assert_eq!(shown, requests.to_string(), "{query}");
        } else {
            assert!(page.contains("with this filter"), "{query}");
        }
    }
    // What was not told can be asked for.
    let untold = server.get("/models?trigger=-").text;
    assert!(between(&untold, r#"id="rows">"#, "</table>").contains("p/b"));
}

#[test]
fn calls_that_move_twice_within_a_request_leave_no_empty_sums() {
    let server = Server::start(&[]);
    let told = |id: &str, cost: f64| {
        json!({"id": id, "model": "p/m", "agent_name": "main", "prompt_tokens": 10, "completion_tokens": 1,
               "cost_usd": cost, "cost_source": "table"})
    };
    let billed = |id: &str| json!({"id": id, "model": "p/m", "agent_name": "main", "cost_source": "provider"});
    // 0.1 + 0.2 - 0.1 - 0.2 is not 0.
    let calls = json!([told("a", 0.1), told("b", 0.2), billed("a"), billed("b")]);
    assert_eq!(server.post("model_usage", &calls).status, 200);
    let page = server.get("/models?agent=main").text;
    assert!(
        page.contains(r#"data-summary="requests"><span>2<"#),
        "{page}"
    );
    let sources = server.list("/api/breakdown?by=cost_source");
    assert_eq!(sources.len(), 1, "{sources:?}");
    assert_eq!(sources[0]["cost_source"], "provider");
}

#[test]
fn answers_that_do_not_show_their_range_refuse_an_unusable_one() {
    let server = Server::start(&[]);
    for (query, name) in [
        ("hours=744", "hours"),
        ("hours=many", "hours"),
        ("from=yesterday", "from"),
        ("from=2026-11-01&to=2026-11-31", "to"),
        ("to=2026-11-01", "to"),
        ("from=2026-11-02&to=2026-11-01", "to"),
    ] {
        for path in [
            "/models/focus.csv",
            "/models/calls.csv",
            "/models/stats.json",
            "/models/by-model.csv",
            "/api/sessions",
            "/api/prompt-bill",
        ] {
            let answer = server.get(&format!("{path}?{query}"));
            assert_eq!(answer.status, 422, "{path}?{query}: {}", answer.text);
            assert_eq!(answer.json()["field"], name, "{path}?{query}");
        }
        let page = server.get(&format!("/models?{query}"));
        assert_eq!(page.status, 200, "the page shows what it chose");
    }
    let usable = "from=2026-11-01&to=2026-11-02";
    assert_eq!(
        server.get(&format!("/models/focus.csv?{usable}")).status,
        200
    );
}

#[test]
fn a_cost_that_nobody_knows_is_said_until_somebody_does() {
    let server = Server::start(&[]);
    let unknown = json!({"id": "x", "cost_usd": 0, "cost_source": "unknown"});
    server.post("model_usage", &call("p/a", unknown));
    let page = server.get("/models").text;
    assert!(page.contains("1 of 1 call (100 %) has no known price. It is counted"));
    assert!(between(&page, r#"id="rows">"#, "</table>").contains("not known"));
    assert!(between(&page, r#"id="by-cost_source""#, "</section>").contains(">unknown</a>"));
    let known = json!({"enrichments": [{"id": "x", "cost_usd": 0.25, "cost_source": "provider"}]});
    server.post("batch", &known);
    let page = server.get("/models").text;
    assert!(!page.contains("have no known price") && !page.contains("not known"));
    assert!(between(&page, r#"id="by-cost_source""#, "</section>").contains(">provider</a>"));
    assert!(between(&page, r#"id="rows">"#, "</table>").contains("$0.2500"));
}

#[test]
fn failures_that_were_not_billed_count_too() {
    let server = Server::start(&[]);
    let errors = ["failed", "failed", "aborted"].map(|outcome| {
        json!({"name": "model_errors", "value": 1, "kind": "counter", "agent_name": "main",
               "tags": {"model": "p/down", "outcome": outcome}})
    });
    server.post("metrics", &json!(errors));
    let alone = server.get("/models").text;
    let row = between(&alone, "Errors and fallbacks", "</table>");
    assert!(row.contains("p/down</a><td>2<td>1<td>100 %<td>0"), "{row}");
    assert!(alone.contains(r#"data-summary="failed"><span>2</span><small>1 stopped"#));
    // One of them was billed: it is told of twice, and is one.
    server.post(
        "model_usage",
        &json!([
            call("p/down", json!({"outcome": "failed"})),
            call("p/down", json!({}))
        ]),
    );
    let both = server.get("/models").text;
    let row = between(&both, "Errors and fallbacks", "</table>");
    assert!(row.contains("p/down</a><td>2<td>1<td>75.0 %<td>1"), "{row}");
    let filtered = server.get("/models?trigger=user").text;
    assert!(filtered.contains("only calls that failed and were billed are known"));
    let listed = server.get("/models?failed=1").text;
    assert_eq!(
        between(&listed, r#"id="calls""#, "</table>")
            .matches("#call\"")
            .count(),
        1
    );
}

#[test]
fn a_failure_whose_model_is_no_text_is_one_without_a_name() {
    let server = Server::start(&[]);
    let errors = [json!(5), json!(true), json!({"a": 1})].map(|model| {
        json!({"name": "model_errors", "value": 1, "kind": "counter", "agent_name": "main",
               "tags": {"model": model, "outcome": 7}, "timestamp": "2026-03-01T12:12:00Z"})
    });
    server.post("metrics", &json!(errors));
    // Within one hour the points are read, in a longer range their sums.
    for range in [
        "from=2026-03-01T12:10:00Z&to=2026-03-01T12:20:00Z",
        "from=2026-03-01T10:00:00Z&to=2026-03-01T14:00:00Z",
    ] {
        let page = server.get(&format!("/models?{range}")).text;
        assert!(
            page.contains(r#"data-summary="failed"><span>3</span>"#),
            "{range}"
        );
    }
}

#[test]
fn a_record_of_a_clock_that_is_ahead_has_the_time_of_its_arrival() {
    let server = Server::start(&[]);
    server.post(
        "model_usage",
        &call(
            "p/m",
            json!({"id": "ahead", "timestamp": "2999-01-01T00:00:00Z"}),
        ),
    );
    let row = &server.list("/api/model-usage")[0];
    assert!(row["timestamp"].as_str().unwrap() < "2999", "{row}");
}

#[test]
fn a_model_that_answered_for_another_is_named() {
    let server = Server::start(&[]);
    let begun = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_millis() as u64
        - 60_000;
    let span = |id: String, model: &str, status: &str, late: u64| json!({"id": id, "name": format!("chat {model}"), "status": status, "started_at": begun + late});
    for turn in 0..3 {
        // In the last turn nobody answered.
        let second = if turn < 2 { "completed" } else { "failed" };
        let spans = [
            span(format!("{turn}a"), "p/a", "failed", 0),
            span(format!("{turn}b"), "p/b", second, 1000),
        ];
        server.post(
            "traces",
            &json!({"id": format!("t{turn}"), "name": "turn", "spans": spans}),
        );
    }
    server.post(
        "model_usage",
        &call("openrouter/auto", json!({"response_model": "p/other"})),
    );
    let page = server.get("/models").text;
    assert!(page.contains("p/a failed, p/b answered in 2 turns"));
    let row = between(&page, "Errors and fallbacks", "</table>");
    assert!(
        row.contains("openrouter/auto</a><td>0<td>0<td>0 %<td>0<td>0<td>1"),
        "{row}"
    );
}

#[test]
fn a_call_shows_all_that_is_known_of_it() {
    let server = Server::start(&[]);
    let known = json!({"id": "x/1", "request_id": "req_<1>", "ttft_ms": 12.5, "run_id": "r"});
    server.post("model_usage", &call("p/a", known));
    let page = server.get("/models?model=p/a&call=x/1").text;
    let fields = between(&page, r#"id="call""#, "</section>");
    for shown in [
        "<dt>request_id<dd>req_&lt;1&gt;",
        "<dt>ttft_ms<dd>12.5",
        "<dt>session_key<dd>s_1",
    ] {
        assert!(fields.contains(shown), "{shown}: {fields}");
    }
    assert!(between(&page, r#"id="sessions""#, "</table>").contains("s_1"));
    assert_eq!(server.get("/models?model=p/a&call=none").status, 200);
}

#[test]
fn downloads_are_files_and_ask_for_the_token() {
    let server = Server::start(&["--token", "s3cret"]);
    for file in ["stats.csv", "calls.json", "events"] {
        let path = format!("/models/{file}");
        assert_eq!(server.get(&path).status, 303, "{file}: to the sign-in");
    }
    let headers = [("authorization", "Bearer s3cret")];
    for (file, kind) in [
        ("stats.csv", "text/csv"),
        ("calls.json", "application/json"),
    ] {
        let answer = server.send("GET", &format!("/models/{file}"), &headers, b"");
        assert_eq!(answer.status, 200);
        assert!(answer.header("content-type").unwrap().starts_with(kind));
        assert!(
            answer
                .header("content-disposition")
                .unwrap()
                .starts_with("attachment")
        );
    }
}

#[test]
fn its_head_is_sent_before_the_database_is_read_and_a_fault_of_that_is_said() {
    let folder = Folder::new("page-fault");
    let server = Server::start_on(&folder.file(), &[]);
    let file = rusqlite::Connection::open(folder.file()).unwrap();
    file.execute_batch("DROP TABLE usage_hour; DROP TABLE usage_day; DROP TABLE model_usage")
        .unwrap();
    let page = server.get("/models");
    assert_eq!(page.status, 200);
    assert!(page.text.contains("<h1>Models</h1>"));
    assert!(
        page.text
            .contains(r#"role="alert">The store is unavailable"#)
    );
    assert!(page.text.contains("</html>"), "{}", page.text);
    assert_eq!(server.get("/api/model-stats").status, 503);
}

#[test]
fn the_page_is_in_the_zone_of_its_cookie_and_downloads_are_utc() {
    let server = Server::start(&[]);
    let late = json!({"timestamp": "2026-03-01T16:30:00Z"});
    server.post("model_usage", &call("p/a", late));
    let page = |query: &str, zone: &str| {
        let cookie = format!("other=1; zone={zone}");
        let path = format!("/models?from=2026-03-01T00:00&to=2026-03-08&calls=1{query}");
        server.send("GET", &path, &[("cookie", &cookie)], b"").text
    };
    let tokyo = page("", "Asia%2FTokyo");
    assert!(tokyo.contains(r#"Times are <span id="zone">Asia/Tokyo</span>"#));
    assert!(tokyo.contains(r#"From, Asia/Tokyo</label><input id="f-from" name="from" type="datetime-local" value="2026-03-01T00:00:00""#));
    assert!(tokyo.contains("the time from 2026-03-01 00:00 to 2026-03-08 00:00 Asia/Tokyo"));
    assert!(
        tokyo.contains("?from=2026-02-28T15:00:00Z&amp;to=2026-03-07T15:00:00Z"),
        "an address has no zone"
    );
    assert!(tokyo.contains("<time>2026-03-02 01:30:00</time>"));
    // Bars of six hours begin with the zone's days.
    let bars = between(&tokyo, r#"<g class="hit">"#, "</g>");
    assert!(
        bars.contains("<title>Sun 01 00:00: 0</title>")
            && bars.contains("<title>Mon 02 00:00: 110</title>"),
        "{bars}"
    );
    for unknown in ["", "UTC", "Mars%2FOlympus", "%3Cscript%3E"] {
        let utc = page("", unknown);
        assert!(
            utc.contains(r#"Times are <span id="zone">UTC</span>"#)
                && utc.contains("<time>2026-03-01 16:30:00</time>")
        );
    }
    // Days of half hours are not summed: the page says so.
    let note = "The days of the charts are UTC.";
    let month = |zone: &str| {
        let cookie = format!("zone={zone}");
        server
            .send(
                "GET",
                "/models?from=2026-02-10&to=2026-03-10",
                &[("cookie", &cookie)],
                b"",
            )
            .text
    };
    assert!(month("Asia%2FKolkata").contains(note) && !month("Asia%2FTokyo").contains(note));
    let bars = month("Asia%2FTokyo");
    assert!(between(&bars, r#"<g class="hit">"#, "</g>").contains("<title>02 Mar: 110</title>"));
    let download = "/models/calls.json?from=2026-03-01T16:00&to=2026-03-01T17:00";
    let with = [("cookie", "zone=Asia%2FTokyo")];
    assert!(
        server
            .send("GET", download, &with, b"")
            .text
            .contains("2026-03-01T16:30:00+00:00")
    );
}
