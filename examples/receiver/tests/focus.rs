//! The download of costs in FOCUS 1.3: its columns, rows and bounds.

use crate::support::{Folder, Server};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// The columns that FOCUS 1.3 requires in the dataset Cost and Usage, and whether it allows them to be empty.
/// Source: <https://focus.finops.org/focus-specification/v1-3/>.
const MANDATORY: [(&str, bool); 23] = [
    ("BilledCost", false),
    ("BillingAccountId", false),
    ("BillingAccountName", true),
    ("BillingCurrency", false),
    ("BillingPeriodEnd", false),
    ("BillingPeriodStart", false),
    ("ChargeCategory", false),
    ("ChargeClass", true),
    ("ChargeDescription", true),
    ("ChargePeriodEnd", false),
    ("ChargePeriodStart", false),
    ("ContractedCost", false),
    ("EffectiveCost", false),
    ("HostProviderName", true),
    ("InvoiceIssuerName", false),
    ("ListCost", false),
    ("PricingQuantity", true),
    ("PricingUnit", true),
    ("ProviderName", false),
    ("PublisherName", false),
    ("ServiceCategory", false),
    ("ServiceName", false),
    ("ServiceProviderName", false),
];

fn call(more: Value) -> Value {
    let mut call = json!({"model": "openai/gpt-5", "agent_name": "main", "gateway": "g1", "prompt_tokens": 1000,
                          "completion_tokens": 100, "cache_read_tokens": 400, "cost_usd": 0.1,
                          "cost_source": "table", "trigger": "user"});
    for (name, value) in more.as_object().unwrap() {
        call[name] = value.clone();
    }
    call
}

/// The cells of a line of CSV.
fn cells(line: &str) -> Vec<String> {
    let (mut found, mut is_quoted) = (vec![String::new()], false);
    let mut characters = line.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '"' if is_quoted && characters.next_if_eq(&'"').is_some() => {
                found.last_mut().unwrap().push('"');
            }
            '"' => is_quoted = !is_quoted,
            ',' if !is_quoted => found.push(String::new()),
            other => found.last_mut().unwrap().push(other),
        }
    }
    found
}

fn rows(server: &Server, query: &str) -> Vec<BTreeMap<String, String>> {
    let answer = server.get(&format!("/models/focus.csv?{query}"));
    assert_eq!(answer.status, 200, "{answer:?}");
    assert!(
        answer
            .header("content-type")
            .unwrap()
            .starts_with("text/csv")
    );
    // The body is sent in chunks, whose lengths stand on lines of their own.
    let lines = answer.text.split("\r\n").filter(|line| line.contains(','));
    let mut lines = lines.map(cells);
    let names = lines.next().unwrap();
    let sorted: BTreeSet<&String> = names.iter().collect();
    assert_eq!(sorted.len(), names.len());
    lines
        .map(|line| {
            assert_eq!(line.len(), names.len(), "{line:?}");
            names.iter().cloned().zip(line).collect()
        })
        .collect()
}

fn sum(rows: &[BTreeMap<String, String>], column: &str) -> f64 {
    rows.iter()
        .map(|row| row[column].parse::<f64>().unwrap())
        .sum()
}

#[test]
fn a_row_has_all_mandatory_columns_and_its_costs_agree() {
    let server = Server::start(&[]);
    let at = "2025-12-31T23:10:00Z";
    let calls = json!([
        call(json!({"timestamp": at})),
        call(json!({"timestamp": "2025-12-31T23:50:00Z", "cost_usd": 0.2})),
        call(
            json!({"timestamp": at, "model": "bare", "gateway": null, "cost_usd": 0, "cost_source": "unknown"})
        ),
    ]);
    server.post("model_usage", &calls);
    let rows = rows(&server, "from=2025-12-31T00:00:00Z&period=hour");
    assert_eq!(rows.len(), 2);
    for row in &rows {
        for (column, may_be_empty) in MANDATORY {
            let cell = row.get(column).unwrap_or_else(|| panic!("no {column}"));
            assert!(may_be_empty || !cell.is_empty(), "{column} is empty");
        }
        for cost in ["ContractedCost", "EffectiveCost", "ListCost"] {
            assert_eq!(row[cost], row["BilledCost"]);
        }
    }
    let priced = rows
        .iter()
        .find(|row| row["x_Model"] == "openai/gpt-5")
        .unwrap();
    for (column, value) in [
        ("BilledCost", "0.3"),
        ("BillingAccountId", "g1"),
        ("BillingCurrency", "USD"),
        ("BillingPeriodStart", "2025-12-01T00:00:00Z"),
        ("BillingPeriodEnd", "2026-01-01T00:00:00Z"),
        ("ChargeCategory", "Usage"),
        ("ChargeClass", ""),
        ("ChargeFrequency", "Usage-Based"),
        ("ChargePeriodStart", "2025-12-31T23:00:00Z"),
        ("ChargePeriodEnd", "2026-01-01T00:00:00Z"),
        ("ConsumedQuantity", "2200.0"),
        ("ConsumedUnit", "Tokens"),
        ("ProviderName", "openai"),
        ("ServiceProviderName", "openai"),
        ("ServiceCategory", "AI and Machine Learning"),
        ("ServiceName", "openai/gpt-5"),
        ("x_Requests", "2"),
        ("x_InputTokens", "2000"),
        ("x_CacheReadTokens", "800"),
        ("x_UnpricedRequests", "0"),
    ] {
        assert_eq!(priced[column], value, "{column}");
    }
    let tags: Value = serde_json::from_str(&priced["Tags"]).unwrap();
    let expected =
        json!({"agent": "main", "gateway": "g1", "trigger": "user", "cost_source": "table"});
    assert_eq!(tags, expected);
    let unpriced = rows.iter().find(|row| row["x_Model"] == "bare").unwrap();
    assert_eq!(unpriced["x_UnpricedRequests"], "1");
    assert_eq!(unpriced["ProviderName"], "unknown");
    assert_eq!(unpriced["BillingAccountId"], "unknown");
}

#[test]
fn the_pages_filter_selects_rows_and_each_call_is_in_one() {
    let server = Server::start(&[]);
    let calls: Vec<Value> = (0..48)
        .map(|hour| {
            let at = format!("2026-03-0{}T{:02}:30:00Z", 1 + hour / 24, hour % 24);
            let agent = if hour % 3 == 0 { "cron" } else { "main" };
            call(json!({"timestamp": at, "agent_name": agent}))
        })
        .collect();
    server.post("model_usage", &json!(calls));
    let window = "from=2026-03-01T00:00:00Z&to=2026-03-03T00:00:00Z";
    for (query, count, requests) in [
        (format!("{window}&period=day"), 4, 48.0),
        (window.to_owned(), 4, 48.0),
        (format!("{window}&period=hour"), 48, 48.0),
        (format!("{window}&agent=cron"), 2, 16.0),
        (
            format!("{window}&period=hour&agent=cron&model=openai/gpt-5"),
            16,
            16.0,
        ),
        (format!("{window}&gateway=g2"), 0, 0.0),
        // Periods are whole, whatever the window.
        (
            "from=2026-03-01T10:45:00Z&to=2026-03-01T11:15:00Z&period=hour".into(),
            2,
            2.0,
        ),
        (
            "from=2026-03-01T10:45:00Z&to=2026-03-01T11:15:00Z".into(),
            2,
            24.0,
        ),
    ] {
        let found = rows(&server, &query);
        assert_eq!(found.len(), count, "{query}");
        assert_eq!(sum(&found, "x_Requests"), requests, "{query}");
        assert!((sum(&found, "BilledCost") - requests / 10.0).abs() < 1e-9);
    }
    let wrong = server.get("/models/focus.csv?period=month");
    assert_eq!(
        (wrong.status, &wrong.json()["field"]),
        (422, &json!("period"))
    );
    assert_eq!(server.get("/models/focus.json").status, 404);
}

#[test]
fn many_names_come_in_parts_and_none_is_missing_or_twice() {
    let server = Server::start(&[]);
    for from in (0..1_700).step_by(850) {
        let calls: Vec<Value> = (from..from + 850)
            .map(|n| {
                call(json!({"model": format!("p/=m{n}"), "agent_name": format!("a{}", n % 2)}))
            })
            .collect();
        assert_eq!(server.post("model_usage", &json!(calls)).status, 200);
    }
    let all = rows(&server, "hours=48");
    let names: BTreeSet<&str> = all.iter().map(|row| row["x_Model"].as_str()).collect();
    assert_eq!((all.len(), names.len()), (1_700, 1_700));
    assert_eq!(rows(&server, "hours=48&agent=a1").len(), 850);
}

#[test]
fn more_rows_than_the_bound_are_refused_before_the_first() {
    let folder = Folder::new("focus-bound");
    let server = Server::start_on(&folder.file(), &[]);
    server.post(
        "model_usage",
        &call(json!({"timestamp": "2026-03-01T12:00:00Z"})),
    );
    let file = rusqlite::Connection::open(folder.file()).unwrap();
    file.execute_batch(
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 1030001)
         INSERT INTO usage_day SELECT 0, (SELECT series FROM usage_day WHERE kind = 0), i * 86400000000, 1, 0, 0, 0, 0, 0, 0, 0,
             0, 0, 0, 0, 0, 0, 0, NULL FROM n WHERE i > 30000",
    )
    .unwrap();
    let refused = server.get("/models/focus.csv?from=1970-01-01T00:00:00Z");
    assert_eq!(refused.status, 422, "{}", refused.head);
    assert!(
        refused.json()["error"]
            .as_str()
            .unwrap()
            .contains("fewer hours")
    );
    assert_eq!(
        rows(&server, "from=2026-01-01T00:00:00Z&to=2027-01-01T00:00:00Z").len(),
        1
    );
    // The bound is on the rows of the answer.
    assert_eq!(
        rows(&server, "from=1970-01-01T00:00:00Z&gateway=other").len(),
        0
    );
}

#[test]
fn it_asks_for_the_token_as_the_other_downloads_do() {
    let server = Server::start(&["--token", "s3cret"]);
    assert_eq!(
        server.get("/models/focus.csv").status,
        303,
        "to the sign-in"
    );
    let headers = [("authorization", "Bearer s3cret")];
    let answer = server.send("GET", "/models/focus.csv", &headers, b"");
    assert_eq!(answer.status, 200);
    let disposition = answer.header("content-disposition");
    assert_eq!(disposition, Some("attachment; filename=\"focus.csv\""));
}
