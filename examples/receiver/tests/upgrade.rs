//! A database of an earlier version is gone on with: nothing in it is lost, and its sums are there.

use crate::support::{Folder, Server};
use serde_json::json;

/// `model_usage` as version 1 made it.
const VERSION_1: &str = r#"CREATE TABLE model_usage (
    seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, timestamp INTEGER NOT NULL, agent_name TEXT NOT NULL,
    model TEXT NOT NULL, prompt_tokens INTEGER NOT NULL, completion_tokens INTEGER NOT NULL, cost_usd REAL NOT NULL,
    latency_ms REAL, cost_source TEXT, gateway TEXT, provider TEXT, cache_read_tokens INTEGER,
    cache_write_tokens INTEGER, reasoning_tokens INTEGER, usage_source TEXT, latency_source TEXT, session_key TEXT,
    run_id TEXT, "trigger" TEXT, outcome TEXT, ttfb_ms REAL);
CREATE INDEX model_usage_stats ON model_usage
    (timestamp, model, prompt_tokens, completion_tokens, cost_usd, latency_ms, cost_source);
CREATE TABLE metrics (
    id TEXT PRIMARY KEY, agent_name TEXT NOT NULL, name TEXT NOT NULL, value REAL NOT NULL, kind TEXT NOT NULL,
    tags TEXT NOT NULL, timestamp INTEGER NOT NULL, trace_id TEXT, span_id TEXT);
PRAGMA application_id = 0x41575278;
PRAGMA user_version = 1;"#;
/// What version 2 added.
const VERSION_2: &str = "ALTER TABLE model_usage ADD COLUMN ttft_ms REAL;
    ALTER TABLE model_usage ADD COLUMN request_id TEXT;
    ALTER TABLE model_usage ADD COLUMN response_model TEXT;
    PRAGMA user_version = 2;";
/// What version 3 had in the place of version 4's.
const VERSION_3: &str = "DROP INDEX model_usage_calls;
    DROP INDEX model_usage_unsummed;
    CREATE INDEX model_usage_series ON model_usage
        (series, timestamp, latency_ms, prompt_tokens, completion_tokens, cost_usd, flags, cache_read_tokens,
         cache_write_tokens, reasoning_tokens);
    PRAGMA user_version = 3;";
/// What versions up to 4 had not.
const VERSION_4: &str = "DELETE FROM usage_hour WHERE kind = 6;
    DELETE FROM usage_day WHERE kind = 6;
    DELETE FROM series WHERE kind = 6;
    ALTER TABLE series DROP COLUMN of_model;
    ALTER TABLE series DROP COLUMN of_agent;
    ALTER TABLE series DROP COLUMN of_trigger;
    ALTER TABLE series DROP COLUMN of_cost_source;
    ALTER TABLE series DROP COLUMN of_gateway;
    DROP INDEX spans_chat;
    DROP TABLE sums_state;
    PRAGMA user_version = 4;";
/// What version 7 had in the place of version 8's.
const VERSION_7: &str = "DROP TABLE allowances;
    CREATE TABLE allowances (
        agent_name TEXT NOT NULL, allowance TEXT NOT NULL, timestamp INTEGER NOT NULL, spent REAL NOT NULL,
        most REAL NOT NULL, is_tokens INTEGER NOT NULL, stops INTEGER NOT NULL, ends INTEGER,
        PRIMARY KEY (agent_name, allowance)) WITHOUT ROWID;
    PRAGMA user_version = 7;";
/// What versions up to 6 had not.
const VERSION_6: &str = "DROP TABLE cache_hour;
    DROP TABLE incidents;
    DROP TABLE allowances;
    ALTER TABLE model_usage DROP COLUMN cache_saved_usd;
    ALTER TABLE model_usage DROP COLUMN cache_write_extra_usd;
    PRAGMA user_version = 6;";
/// What versions up to 5 had not.
const VERSION_5: &str = r#"DELETE FROM usage_hour WHERE kind > 6;
    DELETE FROM usage_day WHERE kind > 6;
    DROP TABLE session_hour;
    DROP TABLE prompt_hour;
    DROP INDEX model_usage_session;
    ALTER TABLE model_usage DROP COLUMN channel;
    ALTER TABLE model_usage DROP COLUMN job;
    ALTER TABLE model_usage DROP COLUMN skill;
    ALTER TABLE model_usage DROP COLUMN tool;
    ALTER TABLE model_usage DROP COLUMN system_chars;
    ALTER TABLE model_usage DROP COLUMN tool_chars;
    ALTER TABLE model_usage DROP COLUMN message_chars;
    ALTER TABLE model_usage DROP COLUMN other_chars;
    ALTER TABLE model_usage DROP COLUMN prompt_cost_usd;
    ALTER TABLE series RENAME TO later;
    CREATE TABLE series (id INTEGER PRIMARY KEY, kind INTEGER NOT NULL, model TEXT NOT NULL, agent TEXT NOT NULL,
        "trigger" TEXT NOT NULL, cost_source TEXT NOT NULL, gateway TEXT NOT NULL, of_model INTEGER, of_agent INTEGER,
        of_trigger INTEGER, of_cost_source INTEGER, of_gateway INTEGER,
        UNIQUE (kind, model, agent, "trigger", cost_source, gateway));
    INSERT INTO series SELECT id, kind, model, agent, "trigger", cost_source, gateway, of_model, of_agent, of_trigger,
        of_cost_source, of_gateway FROM later WHERE kind < 7;
    DROP TABLE later;
    PRAGMA user_version = 5;"#;
/// More than enter the sums in one transaction.
const CALLS: i64 = 6_000;

fn filled(version: i32, test: &str) -> Folder {
    let folder = Folder::new(&format!("upgrade-{version}-{test}"));
    let mut file = rusqlite::Connection::open(folder.file()).unwrap();
    file.execute_batch(VERSION_1).unwrap();
    if version == 2 {
        file.execute_batch(VERSION_2).unwrap();
    }
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_micros() as i64;
    let transaction = file.transaction().unwrap();
    for n in 0..CALLS {
        transaction
            .prepare_cached(
                "INSERT INTO model_usage (id, timestamp, agent_name, model, prompt_tokens, completion_tokens, cost_usd,
                     latency_ms, cost_source, outcome) VALUES (?1, ?2, 'main', ?3, 10, 5, 0.25, ?4, ?5, 'completed')",
            )
            .unwrap()
            .execute((
                format!("call-{n}"),
                now - n * 180_000_000,
                format!("p/m{}", n % 3),
                (n % 1000) as f64,
                if n % 5 == 0 { "unknown" } else { "openclaw" },
            ))
            .unwrap();
    }
    transaction
        .execute(
            r#"INSERT INTO metrics VALUES ('e', 'main', 'model_errors', 1.0, 'counter',
                   '{"model":"p/m0","outcome":"failed"}', ?1, NULL, NULL)"#,
            [now - 7_200_000_000],
        )
        .unwrap();
    transaction.commit().unwrap();
    folder
}

#[test]
fn calls_of_an_earlier_version_are_in_the_sums() {
    for version in [1, 2] {
        let folder = filled(version, "sums");
        for start in ["first", "second"] {
            let server = Server::start_on(&folder.file(), &[]);
            let models = server.list("/api/model-stats?hours=720");
            assert_eq!(models.len(), 3, "version {version}, {start} start");
            let sum = |field: &str| {
                models
                    .iter()
                    .map(|m| m[field].as_i64().unwrap())
                    .sum::<i64>()
            };
            assert_eq!(sum("requests"), CALLS);
            assert_eq!(sum("unknown_cost_requests"), CALLS / 5);
            assert_eq!(sum("total_tokens"), CALLS * 15);
            assert!(
                models
                    .iter()
                    .all(|model| model["p50_latency_ms"].as_f64().unwrap() > 400.0)
            );
            let page = server.get("/models?hours=24").text;
            let errors = page.split("Errors and fallbacks").nth(1).unwrap();
            assert!(
                errors.contains("p/m0</a><td>1<td>0"),
                "the error is counted"
            );
        }
    }
}

#[test]
fn a_call_of_an_earlier_version_can_be_enriched() {
    let folder = filled(1, "enriched");
    let server = Server::start_on(&folder.file(), &[]);
    let known = json!({"enrichments": [{"id": "call-0", "request_id": "req_1", "cost_source": "provider"}]});
    assert_eq!(server.post("batch", &known).status, 200);
    assert_eq!(
        server.list("/api/model-usage?id=call-0")[0]["request_id"],
        "req_1"
    );
    let unknown: i64 = server
        .list("/api/model-stats?hours=720")
        .iter()
        .map(|model| model["unknown_cost_requests"].as_i64().unwrap())
        .sum();
    assert_eq!(unknown, CALLS / 5 - 1);
}

#[test]
fn a_database_of_version_3_gets_the_index_by_the_hour() {
    let folder = filled(2, "hours");
    drop(Server::start_on(&folder.file(), &[]));
    let file = rusqlite::Connection::open(folder.file()).unwrap();
    file.execute_batch(VERSION_6).unwrap();
    file.execute_batch(VERSION_5).unwrap();
    file.execute_batch(VERSION_4).unwrap();
    file.execute_batch(VERSION_3).unwrap();
    drop(file);
    let server = Server::start_on(&folder.file(), &[]);
    let page = server.get("/models?hours=720&model=p/m1");
    assert_eq!(page.status, 200);
    let models = server.list("/api/model-stats?hours=720");
    let calls: i64 = models.iter().map(|m| m["requests"].as_i64().unwrap()).sum();
    assert_eq!(calls, CALLS, "counted once");
    drop(server);
    let file = rusqlite::Connection::open(folder.file()).unwrap();
    let indexes: String = file
        .query_row(
            "SELECT group_concat(name, ' ' ORDER BY name) FROM sqlite_schema
             WHERE type = 'index' AND tbl_name = 'model_usage' AND sql NOTNULL",
            [],
            |row| row.get(0),
        )
        .unwrap();
    assert_eq!(
        indexes,
        "model_usage_calls model_usage_failed model_usage_session model_usage_time model_usage_unsummed"
    );
}

#[test]
fn a_database_of_version_4_shows_the_same_page() {
    let folder = filled(2, "everything");
    let addresses = [
        "/models?from=2020-01-01",
        "/models?from=2020-01-01&agent=main",
        "/models?from=2020-01-01&model=p/m1&cost_source=unknown",
    ];
    let show = || -> Vec<String> {
        let server = Server::start_on(&folder.file(), &[]);
        let pages = addresses.map(|address| server.get(address).text);
        // The time of the page stands in its head, and the forecast of the month is of that time.
        let body = |page: &String| page.split_once("<main").unwrap().1.to_owned();
        let timeless = |page: String| match page.split_once(r#"<h2 id="month">"#) {
            Some((before, rest)) => [before, rest.split_once("</section>").unwrap().1].concat(),
            None => page,
        };
        pages.iter().map(body).map(timeless).collect()
    };
    let sums = |file: &rusqlite::Connection| -> Vec<(i64, i64, f64)> {
        ["usage_hour", "usage_day"]
            .iter()
            .flat_map(|table| {
                let sql = format!(
                    "SELECT start, calls, cost_usd FROM {table} WHERE kind = 6 ORDER BY start"
                );
                let mut select = file.prepare(&sql).unwrap();
                let rows = select.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)));
                rows.unwrap().map(Result::unwrap).collect::<Vec<_>>()
            })
            .collect()
    };
    let before = show();
    let file = rusqlite::Connection::open(folder.file()).unwrap();
    let kept = sums(&file);
    file.execute_batch(VERSION_6).unwrap();
    file.execute_batch(VERSION_5).unwrap();
    file.execute_batch(VERSION_4).unwrap();
    assert!(sums(&file).is_empty() && kept.len() > 12, "{kept:?}");
    drop(file);
    for (now, before) in show().iter().zip(&before) {
        let apart = now
            .lines()
            .zip(before.lines())
            .find(|(now, before)| now != before);
        assert_eq!(apart, None);
    }
    let file = rusqlite::Connection::open(folder.file()).unwrap();
    assert_eq!(sums(&file), kept);
}

#[test]
fn a_database_of_version_5_gets_sums_by_channel_job_and_session() {
    let folder = filled(2, "channels");
    drop(Server::start_on(&folder.file(), &[]));
    let file = rusqlite::Connection::open(folder.file()).unwrap();
    file.execute_batch(VERSION_6).unwrap();
    file.execute_batch(VERSION_5).unwrap();
    file.execute_batch("UPDATE model_usage SET session_key = 's-' || (seq % 7)")
        .unwrap();
    drop(file);
    for start in ["first", "second"] {
        let server = Server::start_on(&folder.file(), &[]);
        let more = json!({"id": start, "model": "p/m0", "prompt_tokens": 1, "completion_tokens": 1, "cost_usd": 9.0,
                          "channel": "telegram", "job": "nightly", "session_key": "s-3"});
        server.post("model_usage", &more);
        let new = if start == "first" { 1 } else { 2 };
        for by in ["channel", "job"] {
            let rows = server.list(&format!("/api/breakdown?by={by}&from=2020-01-01"));
            let told: Vec<_> = rows
                .iter()
                .map(|row| (&row[by], &row["requests"]))
                .collect();
            let name = if by == "job" { "nightly" } else { "telegram" };
            assert_eq!(told.len(), 2, "{rows:?}");
            assert!(told.contains(&(&json!(null), &json!(CALLS))), "{told:?}");
            assert!(told.contains(&(&json!(name), &json!(new))), "{told:?}");
        }
        let sessions = server.list("/api/sessions?from=2020-01-01");
        assert_eq!(sessions.len(), 7);
        let calls: i64 = sessions
            .iter()
            .map(|s| s["requests"].as_i64().unwrap())
            .sum();
        assert_eq!(calls, CALLS + new);
        assert_eq!(sessions[0]["session"], "s-3", "the dearest first");
        assert_eq!(sessions[0]["channel"], "telegram");
    }
}

#[test]
fn a_database_of_version_6_or_7_shows_its_incidents_and_allowances() {
    let folder = filled(2, "incidents");
    let server = Server::start_on(&folder.file(), &[]);
    server.post(
        "logs",
        &json!([
            {"message": "lost", "metadata": {"type": "cache_incident", "cause": "idle", "extra_usd": 0.5}},
            {"message": "runs away", "metadata": {"type": "alarm_began", "usd": 12}},
            {"message": "names a cache_incident", "metadata": {"type": "other"}},
        ]),
    );
    let spent = |value: f64| {
        json!({"name": "allowance_spent", "value": value,
            "tags": {"allowance": "9.00 USD a day", "limit": 9, "gateway": "berlin"}})
    };
    server.post("metrics", &spent(3.0));
    server.post("metrics", &spent(4.5));
    let cards = |server: &Server| {
        ["incidents", "allowances"].map(|id| {
            let page = server.get("/models").text;
            let (_, rest) = page.split_once(&format!(r#"<h2 id="{id}">"#)).unwrap();
            rest.split_once("</section>").unwrap().0.to_owned()
        })
    };
    let before = cards(&server);
    assert!(before[0].contains("1 alarm. 1 loss of the cache, $0.5000 in all: 1 idle."));
    assert!(before[1].contains("50.0 %"), "{before:?}");
    drop(server);
    let earlier = [VERSION_7, VERSION_6, ""];
    for (start, of_version) in ["first", "second", "third"].into_iter().zip(earlier) {
        let file = rusqlite::Connection::open(folder.file()).unwrap();
        file.execute_batch(of_version).unwrap();
        drop(file);
        let server = Server::start_on(&folder.file(), &[]);
        assert_eq!(cards(&server), before, "{start}");
        let call = json!({"id": start, "model": "p/m0", "prompt_tokens": 9, "cost_usd": 1, "cache_saved_usd": 0.25});
        server.post("model_usage", &call);
    }
    let server = Server::start_on(&folder.file(), &[]);
    assert!(
        server
            .get("/models")
            .text
            .contains("by cache reads</small><td>$0.5000"),
        "of the calls after version 6"
    );
}
