//! Whatever is stored and asked for, an answer takes a bounded amount of memory and work.

use crate::support::{Folder, Server};
use serde_json::{Value, json};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::{SystemTime, UNIX_EPOCH};

const NAMES: usize = 20_000;

/// Stores so many calls, made by `call`.
fn fill(server: &Server, calls: usize, call: impl Fn(usize) -> Value) {
    for from in (0..calls).step_by(1_000) {
        let records: Vec<Value> = (from..calls.min(from + 1_000)).map(&call).collect();
        assert_eq!(server.post("model_usage", &json!(records)).status, 200);
    }
}

fn call(number: usize) -> Value {
    json!({"model": format!("p/m{number:05}"), "agent_name": "main", "prompt_tokens": 100, "completion_tokens": 10,
           "cost_usd": number as f64 / 1000.0, "latency_ms": 1000 + number, "cost_source": "openclaw",
           "trigger": "user", "gateway": "g1", "outcome": if number.is_multiple_of(4) { "failed" } else { "completed" }})
}

/// The part of a page between two texts.
fn between<'a>(page: &'a str, from: &str, to: &str) -> &'a str {
    let rest = page
        .split_once(from)
        .unwrap_or_else(|| panic!("no {from}"))
        .1;
    rest.split_once(to).unwrap_or_else(|| panic!("no {to}")).0
}

/// The most memory that the server ever had, in MB.
fn peak(server: &Server) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.child.id())).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kilobytes: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kilobytes / 1024)
}

fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    now.as_millis() as u64
}

#[test]
fn a_page_of_many_models_holds_those_that_it_shows() {
    let folder = Folder::new("bounds-models");
    let server = Server::start_on(&folder.file(), &[]);
    fill(&server, NAMES, call);
    for query in [
        "hours=24",
        "hours=24&agent=main",
        "hours=1&trigger=user&gateway=g1",
    ] {
        let page = server.get(&format!("/models?{query}"));
        assert_eq!(page.status, 200);
        let page = page.text;
        assert!(page.len() < 200_000, "{query}: {} bytes", page.len());
        let rows = between(&page, r#"id="rows">"#, "</table>");
        assert_eq!(rows.matches("<tr>").count(), 100, "{query}");
        // The dearest first; what is not shown is one number, and in the sums.
        assert!(rows.trim_start().starts_with("<tr><th scope=row><a href"));
        assert!(rows.find("p/m19999").unwrap() < rows.find("p/m19998").unwrap());
        assert!(
            page.contains("19,900 more models are in the sums above"),
            "{query}"
        );
        assert!(
            page.contains(r#"data-summary="requests"><span>20,000"#),
            "{query}"
        );
        assert!(
            page.contains(r#"data-summary="models"><span>20,000"#),
            "{query}"
        );
        assert!(
            page.contains(r#"data-summary="failed"><span>5,000"#),
            "{query}"
        );
        assert!(page.contains("$199,990.00"), "{query}");
        assert!(page.contains("19,994 more"), "{query}: of the legend");
        let failures = between(&page, "Errors and fallbacks", "</section>");
        assert_eq!(
            failures.matches("<tr><th scope=row>").count(),
            12,
            "{query}"
        );
        let choice = between(&page, r#"id="f-model""#, "</select>");
        assert_eq!(choice.matches("<option").count(), 501, "{query}");
        // Latencies are of those that are shown: 20,999 ms, the slowest.
        assert!(rows.contains("<td>21.00 s<td>21.00 s<td>21.00 s"), "{rows}");
    }
    let one = server.get("/models?model=p/m00007").text;
    assert!(one.contains(r#"data-summary="requests"><span>1<"#));
    assert!(between(&one, r#"id="by-agent""#, "</section>").contains(">main</a><td>1"));
    std::thread::scope(|scope| {
        for hours in 0..8 {
            let server = &server;
            scope.spawn(move || {
                let page = server.get(&format!("/models?hours={}", 24 + hours));
                assert!(page.text.contains("19,900 more models"), "{}", page.head);
            });
        }
    });
    for mode in [&[][..], &["--stock"][..]] {
        let server = Server::start_on(&folder.file(), mode);
        let stats = server.list("/api/model-stats");
        assert_eq!(stats.len(), 10_000, "{mode:?}");
        assert_eq!(stats[0]["model"], "p/m19999", "the dearest stay");
        assert_eq!(stats[0]["p95_latency_ms"], 20_999.0);
        let csv = server.get("/models/stats.csv").text;
        assert_eq!(csv.lines().count(), 10_001, "{mode:?}");
    }
    // It took 20 KB a name and page, three gigabytes of these.
    assert!(
        peak(&server).is_none_or(|peak| peak < 250),
        "{:?} MB",
        peak(&server)
    );
}

#[test]
fn names_of_every_dimension_and_of_errors_are_shown_within_bounds() {
    let server = Server::start(&[]);
    fill(&server, 3_000, |number| {
        json!({"model": format!("p/m{number}"), "agent_name": format!("a{number}"), "cost_usd": number, "prompt_tokens": 1,
               "trigger": format!("t{number}"), "gateway": format!("g{number}"), "session_key": format!("s{number}"),
               "cost_source": if number == 0 { "unknown".into() } else { format!("c{number}") }})
    });
    let errors: Vec<Value> = (0..3_000)
        .map(|number| {
            json!({"name": "model_errors", "value": 1 + number % 7, "kind": "counter", "agent_name": "main",
                   "tags": {"model": format!("p/m{}", number + 1_500), "outcome": "failed"}})
        })
        .collect();
    assert_eq!(server.post("metrics", &json!(errors)).status, 200);
    let page = server.get("/models?calls=1").text;
    assert!(page.len() < 300_000, "{} bytes", page.len());
    for id in ["by-agent", "by-trigger", "by-gateway"] {
        let table = between(&page, &format!(r#"id="{id}""#), "</table>");
        assert!(table.contains("2,992 more<td>2,992<td>2,992"), "{table}");
    }
    // What nobody has priced is shown however little it is.
    let sources = between(&page, r#"id="by-cost_source""#, "</table>");
    assert!(
        sources.contains(">unknown</a><td>1") && sources.contains("2,991 more"),
        "{sources}"
    );
    assert!(page.contains("2,988 more models had failures"));
    assert!(page.contains("and 980 earlier sessions"));
    let sum: u32 = (0..3_000).map(|number| 1 + number % 7).sum();
    let failed = between(&page, r#"data-summary="failed"><span>"#, "<");
    assert_eq!(failed.replace(',', ""), sum.to_string());
}

#[test]
fn agents_of_a_prompt_bill_are_bounded_and_the_rest_is_one_sum() {
    const AGENTS: usize = 10_500;
    let server = Server::start(&[]);
    fill(&server, AGENTS, |number| {
        let stats =
            json!({"system_prompt": 1, "tool_definitions": 1, "cost_usd": number as f64 / 1e4});
        json!({"model": "p/m", "agent_name": format!("a{number:05}"), "prompt_tokens": 10, "prompt_stats": stats})
    });
    let bill = server.get("/api/prompt-bill").json();
    let agents = bill["by_agent"].as_array().unwrap();
    assert_eq!(agents.len(), 10_000);
    assert_eq!(agents[0]["value"], "a10499", "the dearest stay");
    assert_eq!(agents[9_999]["value"], "a00500");
    let rest = &bill["other_agents"];
    assert_eq!(
        (&rest["value"], &rest["requests"]),
        (&json!(500), &json!(500))
    );
    let usd = |row: &Value| row["fixed_usd"].as_f64().unwrap();
    let sum: f64 = agents.iter().map(usd).sum();
    assert!((sum + usd(rest) - usd(&bill["total"])).abs() < 1e-6);
    assert_eq!(bill["total"]["requests"], AGENTS);
    let csv = server.get("/models/prompt-bill.csv").text;
    assert!(csv.lines().count() < 10_010, "{}", csv.lines().count());
    assert!(csv.contains("\nother_agents,500,500,"));

    let page = server.get("/models").text;
    let card = between(&page, "What fills the prompt", "</section>");
    assert_eq!(card.matches(">a10").count(), 6);
    assert!(card.contains("10,494 more<td>10,494<td>"), "{card}");
}

#[test]
fn a_searched_text_is_bounded() {
    for mode in [&[][..], &["--stock"][..]] {
        let server = Server::start(mode);
        server.post("logs", &json!({"message": "x".repeat(300)}));
        server.post("traces", &json!({"id": "t", "name": "x".repeat(300)}));
        for list in ["logs", "traces"] {
            let search = |length| server.get(&format!("/api/{list}?search={}", "x".repeat(length)));
            assert_eq!(search(256).json().as_array().unwrap().len(), 1);
            let refused = search(257);
            assert_eq!(
                (refused.status, &refused.json()["field"]),
                (422, &json!("search"))
            );
        }
    }
}

#[test]
fn a_request_brings_a_bounded_number_of_records() {
    let server = Server::start(&[]);
    let empty = |count: usize| format!("[{}]", vec!["{}"; count].join(","));
    let ids = |count: usize| {
        let all: Vec<String> = (0..count).map(|n| format!(r#"{{"id":"i{n}"}}"#)).collect();
        format!("[{}]", all.join(","))
    };
    let trace = |spans: &str| format!(r#"{{"id":"t","spans":{spans}}}"#);
    let span = |events: &str| trace(&format!(r#"[{{"id":"s","events":{events}}}]"#));
    for (endpoint, body) in [
        ("logs", empty(10_001)),
        ("health", empty(10_001)),
        ("metrics", empty(10_001)),
        ("traces", empty(10_001)),
        ("costs", ids(10_001)),
        ("model_usage", ids(10_001)),
        ("cron_run", empty(10_001)),
        // The largest that is read, nearly 2.8 million.
        ("logs", empty(2_790_000)),
        ("traces", trace(&empty(10_000))),
        (
            "traces",
            format!("[{},{}]", trace(&empty(5_000)), trace(&empty(5_000))),
        ),
        ("traces", span(&empty(9_999))),
        (
            "batch",
            format!(r#"{{"logs":{},"metrics":{}}}"#, empty(6_000), empty(4_001)),
        ),
        (
            "batch",
            format!(r#"{{"traces":[{}]}}"#, span(&empty(9_999))),
        ),
        ("batch", format!(r#"{{"enrichments":{}}}"#, ids(10_001))),
    ] {
        let answer = server.post_raw(endpoint, body.as_bytes());
        let start = &body[..body.len().min(60)];
        assert_eq!(answer.status, 413, "{endpoint} {start}: {}", answer.text);
        let says = answer.json()["error"].to_string();
        assert!(
            says.contains("10000 records") || says.contains("500000 JSON values"),
            "{endpoint} {start}: {says}"
        );
    }
    for metadata in [
        format!("[{}1]", "1,".repeat(500_000)),
        format!(r#"{{"a":[{}1]}}"#, "[],".repeat(500_000)),
        format!("{{{}\"b\":1}}", r#""a":1,"#.repeat(500_000)),
    ] {
        let answer = server.post_raw("logs", format!(r#"{{"metadata":{metadata}}}"#).as_bytes());
        assert_eq!(answer.status, 413);
        assert!(
            answer.text.contains("500000 JSON values"),
            "{}",
            answer.text
        );
    }
    assert!(server.list("/api/logs?limit=1000").is_empty());
    assert!(server.list("/api/traces").is_empty());
    assert!(
        peak(&server).is_none_or(|peak| peak < 250),
        "{:?} MB",
        peak(&server)
    );

    assert_eq!(
        server.post_raw("logs", empty(10_000).as_bytes()).status,
        200
    );
    // Arrays of a record's own are no records.
    let tags = json!({"list": vec![7; 20_000]});
    assert_eq!(server.post("logs", &json!({"metadata": tags})).status, 200);
    assert_eq!(
        server
            .post_raw("traces", trace(&empty(9_999)).as_bytes())
            .status,
        200
    );
}

#[test]
fn in_stock_mode_the_bound_is_far_above_what_clients_send() {
    let server = Server::start(&["--stock"]);
    let empty = |count: usize| format!("[{}]", vec!["{}"; count].join(","));
    let refused = server.post_raw("logs", empty(50_001).as_bytes());
    assert_eq!(refused.status, 413);
    assert!(refused.text.contains("50000 records"), "{}", refused.text);
    assert_eq!(
        server.post_raw("logs", b"[{}").status,
        500,
        "no JSON is a crash, as there"
    );
    assert!(server.list("/api/logs").is_empty());
}

#[test]
fn long_names_of_stock_mode_are_shown_by_their_beginning() {
    let server = Server::start(&["--stock"]);
    for end in ["a", "b"] {
        let model = "ü".repeat(100_000) + end;
        assert_eq!(
            server.post("model_usage", &json!({"model": model})).status,
            200
        );
    }
    let stats = server.list("/api/model-stats");
    assert_eq!(stats[0]["model"].as_str().unwrap(), "ü".repeat(256));
    assert_eq!((stats.len(), &stats[0]["requests"]), (1, &json!(2)));
    let page = server.get("/models").text;
    assert!(page.len() < 60_000, "{} bytes", page.len());
}

#[test]
fn downloads_at_once_are_bounded() {
    use std::io::Write;
    let folder = Folder::new("bounds-downloads");
    let server = Server::start_on(&folder.file(), &[]);
    let long = |number: usize| format!("{number:0500}");
    fill(&server, 3_000, |number| {
        json!({"model": "p/m", "session_key": long(number), "run_id": long(number), "request_id": long(number),
               "provider": long(number)})
    });
    let begun = std::time::Instant::now();
    // Who asks and does not read keeps a place: more stands in the file than in the buffers of a connection.
    let stalled: Vec<std::net::TcpStream> = (0..8)
        .map(|_| {
            let mut stream = std::net::TcpStream::connect(&server.address).unwrap();
            let host = &server.address;
            write!(
                stream,
                "GET /models/calls.json HTTP/1.1\r\nhost: {host}\r\n\r\n"
            )
            .unwrap();
            stream.peek(&mut [0]).unwrap();
            stream
        })
        .collect();
    let refused = server.get("/models/calls.json?model=none");
    // After ten seconds a new download replaces one of these.
    if begun.elapsed() < std::time::Duration::from_secs(9) {
        assert_eq!(refused.status, 503);
        assert!(refused.header("retry-after").is_some());
    }
    assert_eq!(server.get("/models").status, 200);
    drop(stalled);
    let again = (0..1_500).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(20));
        server.get("/models/calls.json?model=none").status == 200
    });
    assert!(again, "places come back");
}

#[test]
fn a_trace_of_many_spans_is_shown_within_bounds() {
    let server = Server::start(&[]);
    let begun = now_ms() - 60_000;
    for part in 0..4 {
        let spans: Vec<Value> = (0..5_000)
            .map(|index| {
                let number = part * 5_000 + index;
                json!({"id": format!("s{number:05}"), "name": format!("chat p/m{}", number % 3),
                       "status": if number % 2 == 0 { "failed" } else { "completed" }, "started_at": begun + number,
                       "events": if number % 2 == 0 { json!([{"message": "e"}]) } else { json!([]) }})
            })
            .collect();
        let half = |spans: &[Value]| {
            let trace = json!({"id": "t", "name": "turn", "spans": spans});
            assert_eq!(server.post("traces", &trace).status, 200);
        };
        half(&spans[..2_500]);
        half(&spans[2_500..]);
    }
    server.post("model_usage", &call(1));
    let page = server.get("/models").text;
    assert!(
        page.contains("p/m0 failed, p/m1 answered in 1 turn"),
        "{page}"
    );
    let trace = server.get("/api/traces/t").json();
    let spans = trace["spans"].as_array().unwrap();
    assert_eq!(spans.len(), 10_000);
    assert_eq!(
        (&spans[0]["id"], &spans[9_999]["id"]),
        (&json!("s00000"), &json!("s09999"))
    );
    assert_eq!(spans[0]["events"].as_array().unwrap().len(), 1);
    assert_eq!(spans[1]["events"].as_array().unwrap().len(), 0);
}

#[test]
fn an_answer_that_would_be_too_large_is_refused_with_what_helps() {
    let server = Server::start(&[]);
    let logs = vec![json!({"message": "x".repeat(60_000)}); 100];
    for _ in 0..3 {
        assert_eq!(server.post("logs", &json!(logs)).status, 200);
    }
    let refused = server.get("/api/logs?limit=1000");
    assert_eq!(refused.status, 422);
    assert_eq!(refused.json()["field"], "limit");
    assert_eq!(server.list("/api/logs?limit=100").len(), 100);
}

#[test]
fn what_the_database_does_not_take_is_refused_and_counted_for_prometheus() {
    let folder = Folder::new("bounds-unwritten");
    let server = Server::start_on(&folder.file(), &[]);
    let failed = |count: u64| {
        let text = server.get("/metrics").text;
        text.contains(&format!(
            "\nagentwatch_receiver_failed_writes_total {count}\n"
        ))
    };
    assert!(failed(0));
    let other = rusqlite::Connection::open(folder.file()).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    assert_eq!(server.post("model_usage", &call(1)).status, 503);
    other.execute_batch("COMMIT").unwrap();
    assert_eq!(server.post("model_usage", &call(1)).status, 200);
    assert!(failed(1));
}

#[test]
fn a_database_that_another_process_has_locked_is_read_and_what_waits_is_bounded() {
    let folder = Folder::new("bounds-locked");
    let server = Server::start_on(&folder.file(), &[]);
    server.post("model_usage", &call(1));
    let other = rusqlite::Connection::open(folder.file()).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let (answered, refused) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let held = std::time::Instant::now();
    std::thread::scope(|scope| {
        let posts: Vec<_> = (0..80)
            .map(|number| {
                let (server, answered, refused) = (&server, &answered, &refused);
                scope.spawn(move || {
                    let answer = server.post("model_usage", &call(number));
                    if answer.status == 503 {
                        assert!(answer.header("retry-after").is_some(), "{answer:?}");
                        refused.fetch_add(1, SeqCst);
                    } else {
                        answered.fetch_add(1, SeqCst);
                    }
                    answer.status
                })
            })
            .collect();
        // As many as have no place are told at once.
        let begun = std::time::Instant::now();
        while refused.load(SeqCst) < 16 && begun.elapsed().as_secs() < 20 {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        for path in ["/models", "/api/model-stats", "/api/v1/ingest/capabilities"] {
            let answer = server.get(path);
            assert_eq!(answer.status, 200, "{path}");
            assert!(!answer.text.contains("The store is unavailable"), "{path}");
        }
        assert_eq!(answered.load(SeqCst), 0, "the lock is held");
        other.execute_batch("COMMIT").unwrap();
        let was_short = held.elapsed().as_secs() < 4;
        let stored = posts.into_iter().map(|post| post.join().unwrap());
        let stored = stored.filter(|status| *status == 200).count();
        // Who waits for longer than five seconds is told to come again.
        assert!(stored == 64 || (!was_short && stored < 64), "{stored}");
    });
}
