//! Arbitrary values in an event's fields: nothing panics, other events are unaffected, and unusable values are counted
//! under a name.

use crate::common::{Gateway, Totals, at};
use agentwatch_openclaw::domain::usage::NAMES;
use agentwatch_openclaw::engine::settings::Settings;
use agentwatch_openclaw::sources::SOURCES;
use agentwatch_openclaw::sources::facts::Scalar;
use serde_json::{Value, json};

const NOW_MS: u64 = 1_795_000_000_000;

#[test]
fn the_problem_of_an_address_shows_no_part_of_it_that_may_be_a_secret() {
    for (url, problem) in [
        (
            "http://user:KEY@h:9/KEY",
            "url \"http://h:9\" holds credentials (use the setting token); set it to an address such as",
        ),
        (
            "https://h/KEY?token=KEY",
            "url \"https://h\" holds a query or a fragment; set it to",
        ),
        (
            "http://user:K/EY@h",
            "url \"http://\" has no usable host; set it to",
        ),
        (
            "http://h/KEY KEY",
            "url \"http://h\" holds blanks or characters outside ASCII; set it to",
        ),
        (
            "ftp://user:KEY@h",
            "url does not start with http:// or https://; set it to",
        ),
        (
            "KEY",
            "url does not start with http:// or https://; set it to",
        ),
    ] {
        let raw = crate::common::settings(&json!({ "url": url }).to_string());
        let (settings, problems) = Settings::validate(&raw);
        assert!(settings.url.is_none());
        assert_eq!(problems.len(), 1);
        let is_safe = problems[0].starts_with(problem) && !problems[0].contains("K");
        assert!(is_safe, "{problems:?}");
    }
}

/// Unusual values for any field.
fn strange() -> Vec<Scalar> {
    let number = Scalar::Number;
    let text = |text: &str| Scalar::Text(text.to_owned());
    vec![
        Scalar::Absent,
        Scalar::Bool(true),
        Scalar::Bool(false),
        number(0.0),
        number(-0.0),
        number(-1.0),
        number(0.5),
        number(1e12),
        number(1e12 + 1.0),
        number(1e308),
        number(f64::MAX),
        number(f64::MIN_POSITIVE),
        number(f64::NAN),
        number(f64::INFINITY),
        number(f64::NEG_INFINITY),
        text(""),
        text("   \n"),
        text("\u{0}"),
        // A lone surrogate becomes this when it crosses.
        text("\u{fffd}"),
        text("12"),
        text("<script>alert(1)</script>"),
        text("agent::"),
        text(":::::"),
        text("/"),
        text(&"x".repeat(1024)),
        text(&"\u{1f980}".repeat(512)),
        Scalar::List(vec![]),
        Scalar::List(vec![Scalar::List(vec![]), number(f64::NAN), Scalar::Absent]),
        Scalar::List(vec![Scalar::List(vec![text("m"), number(-5.0)]); 3]),
    ]
}

/// A complete event of a source, with usual values.
fn usual(source: usize) -> Vec<Scalar> {
    let usual = |name: &str| match name {
        "provider" => json!("p"),
        "model" => json!("m"),
        "input" | "output" | "cache_read" | "prompt_tokens" | "completion_tokens" => json!(10),
        "cache_write" => json!(0),
        "cost" => json!(0.5),
        "timestamp" | "ts" => json!(NOW_MS - 500),
        "duration" | "latency" | "ttfb" => json!(400),
        "session_key" => json!("agent:main:s"),
        "agent" => json!("main"),
        "count" => json!(1),
        "noise" | "is_group" => json!(false),
        "success" => json!(true),
        "models" | "error" | "preview" | "failure_kind" => Value::Null,
        _ => json!("x"),
    };
    let fields = SOURCES[source].fields.iter();
    fields
        .map(|field| match field.path.starts_with("usage:") {
            true => usage_with("", Scalar::Absent),
            false => crate::common::scalar(&usual(field.name)),
        })
        .collect()
}

/// The usual usage object with another value under one name.
fn usage_with(name: &str, value: Scalar) -> Scalar {
    let usual = [
        ("input", 10.0),
        ("output", 10.0),
        ("cacheRead", 10.0),
        ("cacheWrite", 0.0),
        ("cost.total", 0.5),
    ];
    let pairs = usual.iter().flat_map(|(known, number)| {
        let index = NAMES.iter().position(|name| name == known).unwrap();
        let value = match *known == name {
            true => value.clone(),
            false => Scalar::Number(*number),
        };
        [Scalar::Number(index as f64), value]
    });
    Scalar::List(pairs.collect())
}

/// A plain message of another session, which must always be counted.
fn good_message(tokens: u64) -> Value {
    json!({
        "event": {"message": {
            "role": "assistant", "provider": "p", "model": "good", "stopReason": "stop",
            "usage": {"input": tokens, "output": 1, "cost": {"total": 0.25}},
        }},
        "ctx": {"sessionKey": "agent:main:good"},
    })
}

/// Observes events of one source, then a good message, and returns the gateway after a minute.
fn observed(source: usize, events: impl Iterator<Item = Vec<Scalar>>) -> (Gateway, u64) {
    let mut gateway = Gateway::new(true);
    let mut wall = NOW_MS;
    for facts in events {
        wall += 5_000;
        gateway.engine.observe(source, facts, at(wall));
        gateway.run_until(wall, wall + 4_000);
    }
    gateway.hear("before_message_write", &good_message(7), wall + 5_000);
    gateway.run_until(wall + 5_000, wall + 65_000);
    (gateway, wall)
}

#[track_caller]
fn assert_good_arrived(gateway: &Gateway, what: &str) {
    let mut expected = Totals::default();
    expected.add("p/good", 1, 7, 1, 0.25);
    let mut totals = gateway.receiver.totals.clone();
    totals.0.retain(|model, _| model == "p/good");
    totals.assert_equals(&expected, what);
}

#[test]
fn any_field_may_have_any_value() {
    for (source, table) in SOURCES.iter().enumerate() {
        for (index, field) in table.fields.iter().enumerate() {
            let with = |strange: Scalar| {
                let mut facts = usual(source);
                facts[index] = strange;
                facts
            };
            let (gateway, _) = observed(source, strange().into_iter().map(with));
            let what = format!("{}: {}", table.source, field.name);
            assert_good_arrived(&gateway, &what);
            let status = gateway.status();
            for total in gateway.receiver.totals.0.values() {
                assert!(
                    total.cost_usd.is_finite() && total.cost_usd >= 0.0,
                    "{what}"
                );
                assert!(total.prompt <= 30 * 3_000_000_000_000, "{what}");
            }
            // The good message may have the same source.
            let seen = status["seen"][table.source].as_u64().unwrap();
            assert!(seen >= strange().len() as u64, "{what}: {status}");
        }
    }
}

#[test]
fn an_event_may_have_too_few_or_too_many_fields() {
    for (source, table) in SOURCES.iter().enumerate() {
        let whole = usual(source);
        let cut = (0..=whole.len()).map(|end| whole[..end].to_vec());
        let mut long = usual(source);
        long.extend(strange());
        let (gateway, _) = observed(source, cut.chain([long, strange()]));
        assert_good_arrived(&gateway, table.source);
    }
}

#[test]
fn an_unknown_source_is_counted_and_skipped() {
    let (gateway, _) = observed(10_000, std::iter::once(strange()));
    assert_good_arrived(&gateway, "source 10000");
    assert_eq!(
        gateway.status()["rejected"],
        json!({"unknown: unknown_source": 1})
    );
}

/// Index of a source by its name and, for the two of one name, its role.
fn source(name: &str) -> usize {
    SOURCES
        .iter()
        .position(|table| table.source == name)
        .unwrap()
}

fn message_with(field: &str, value: Scalar) -> Gateway {
    let source = source("before_message_write");
    let mut facts = usual(source);
    let index = SOURCES[source]
        .fields
        .iter()
        .position(|f| f.name == field)
        .unwrap();
    facts[index] = value;
    observed(source, std::iter::once(facts)).0
}

#[test]
fn a_message_without_a_model_is_rejected_by_reason() {
    for field in ["provider", "model"] {
        for value in [
            Scalar::Absent,
            Scalar::Text(" ".into()),
            Scalar::Number(1.0),
        ] {
            let gateway = message_with(field, value);
            let rejected = json!({"before_message_write: no_model": 1});
            assert_eq!(gateway.status()["rejected"], rejected, "{field}");
        }
    }
}

/// The call counts with its readable counts, and the status reports an unreadable one.
#[test]
fn an_unreadable_count_is_missing_and_the_others_count() {
    for (field, prompt, completion) in [
        ("input", 10, 10),
        ("output", 20, 0),
        ("cacheRead", 10, 10),
        ("cacheWrite", 20, 10),
    ] {
        for value in [
            Scalar::Number(f64::NAN),
            Scalar::Number(f64::INFINITY),
            Scalar::Number(1e13),
            Scalar::Text("NaN".into()),
            Scalar::Bool(true),
            Scalar::List(vec![]),
        ] {
            let gateway = message_with("usage", usage_with(field, value.clone()));
            let what = format!("{field} = {value:?}");
            let total = &gateway.receiver.totals.0["p/m"];
            assert_eq!(
                (total.requests, total.prompt, total.completion),
                (1, prompt, completion),
                "{what}"
            );
            assert_eq!(gateway.status()["broken_usage"], 1, "{what}");
        }
    }
}

#[test]
fn a_number_in_a_string_counts_and_a_negative_one_is_zero() {
    for (value, prompt) in [
        (Scalar::Text("10".into()), 20),
        (Scalar::Text(" 12.0 ".into()), 22),
        (Scalar::Number(-800.0), 10),
    ] {
        let gateway = message_with("usage", usage_with("input", value.clone()));
        let total = &gateway.receiver.totals.0["p/m"];
        assert_eq!((total.prompt, total.completion), (prompt, 10), "{value:?}");
        assert_eq!(gateway.status()["broken_usage"], 0, "{value:?}");
    }
}

#[test]
fn an_unusable_cost_or_time_does_not_affect_the_tokens() {
    for value in strange() {
        let gateway = message_with("usage", usage_with("cost.total", value.clone()));
        let total = &gateway.receiver.totals.0["p/m"];
        assert_eq!(
            (total.prompt, total.completion),
            (20, 10),
            "cost = {value:?}"
        );
    }
    for field in [
        "timestamp",
        "stop_reason",
        "response_id",
        "agent",
        "session_key",
    ] {
        for value in strange() {
            let gateway = message_with(field, value.clone());
            let total = &gateway.receiver.totals.0["p/m"];
            let counted = (total.requests, total.prompt, total.completion);
            assert_eq!(counted, (1, 20, 10), "{field} = {value:?}");
        }
    }
}

#[test]
fn names_are_sent_without_markup() {
    let gateway = message_with("model", Scalar::Text("<img src=x onerror=alert(1)>".into()));
    let names: Vec<&String> = gateway.receiver.totals.0.keys().collect();
    assert!(
        names
            .iter()
            .all(|name| !name.contains(['<', '>', '"', '\'', '&', '='])),
        "{names:?}"
    );
    assert_eq!(names.len(), 2);
}
