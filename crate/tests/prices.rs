//! The built-in price table against the crate that it was made from, and the settings.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use agentwatch_openclaw::domain::call::{Cost, CostSource, Usage};
use agentwatch_openclaw::pricing::{PriceBook, TABLE};
use agentwatch_openclaw::sources::facts::Scalar;
use genai_prices::{PriceRequest, UsageKey};
use proptest::prelude::*;

/// OpenClaw's names of providers and the crate's, where they differ.
const OTHER_NAMES: &[(&str, &str)] = &[
    ("amazon-bedrock", "aws"),
    ("anthropic-vertex", "google"),
    ("google-vertex", "google"),
    ("moonshot", "moonshotai"),
    ("xai", "x-ai"),
];

/// Uncached input, output, cache reads and cache writes; the prompts are on both sides of every tier's begin.
const SIZES: &[[u64; 4]] = &[
    [1, 0, 0, 0],
    [1_000, 100, 0, 0],
    [0, 7, 90_000, 0],
    [3, 1_234, 90_000, 20_000],
    [100_000, 1, 0, 0],
    [100_001, 1, 0, 0],
    [128_000, 8_192, 100, 1],
    [200_000, 64, 0, 0],
    [200_001, 64, 0, 0],
    [1, 9_999, 199_999, 1],
    [272_001, 3, 0, 0],
    [12_345, 6_789, 500_000, 487_655],
];

fn usage([input, output, cache_read, cache_write]: [u64; 4]) -> Usage {
    Usage {
        input,
        output,
        cache_read,
        cache_write,
        reasoning: 0,
    }
}

/// Midnight of the day on which the table was made.
fn table_day() -> SystemTime {
    let line = TABLE.lines().nth(1).unwrap_or_default();
    let date = line.split(' ').nth(1).unwrap_or_default();
    humantime::parse_rfc3339(&format!("{date}T00:00:00Z")).unwrap_or(UNIX_EPOCH)
}

fn is_hourly(provider: &str) -> bool {
    provider == "deepseek"
}

/// The crate's price; the highest of the day where prices vary by the hour.
fn oracle(provider: &str, model: &str, size: &Usage) -> Option<f64> {
    let name = OTHER_NAMES.iter().find(|(ours, _)| *ours == provider);
    let provider = name.map_or(provider, |(_, theirs)| theirs);
    let counts = genai_prices::Usage::from([
        (UsageKey::INPUT_TOKENS, size.prompt() as f64),
        (UsageKey::OUTPUT_TOKENS, size.output as f64),
        (UsageKey::CACHE_READ_TOKENS, size.cache_read as f64),
        (UsageKey::CACHE_WRITE_TOKENS, size.cache_write as f64),
    ]);
    let hours = if is_hourly(provider) { 0..48 } else { 24..25 };
    let prices = hours.filter_map(|half_hours| {
        let at = table_day() + Duration::from_secs(half_hours * 1_800);
        let request = PriceRequest::new(model, &counts)
            .with_provider_id(provider)
            .with_timestamp(at);
        Some(genai_prices::calculate(&request).ok()?.total_price)
    });
    prices.reduce(f64::max)
}

fn ours(book: &PriceBook, provider: &str, model: &str, size: &Usage) -> Cost {
    let unknown = Cost {
        usd: 0.0,
        source: CostSource::Unknown,
    };
    book.find(provider, model).of(unknown, Some(size))
}

fn book() -> PriceBook {
    PriceBook::new(
        &Scalar::Absent,
        &Scalar::Absent,
        &Scalar::Absent,
        TABLE.to_owned(),
    )
    .0
}

/// All providers of the table with all patterns of each model, and whether the model has rates.
fn patterns() -> Vec<(&'static str, &'static str, bool)> {
    let mut all = Vec::new();
    let mut names: Vec<&str> = Vec::new();
    for line in TABLE.lines().filter(|line| !line.starts_with(';')) {
        if let Some(section) = line.strip_prefix("= ") {
            let own = section.split(" > ").next().unwrap_or_default();
            names = own.split(' ').collect();
            continue;
        }
        let (patterns, rates) = line.split_once(' ').unwrap_or((line, ""));
        for pattern in patterns.split('|') {
            let positive = pattern.split('&').next().unwrap_or_default();
            let has_rates = !rates.is_empty();
            all.extend(names.iter().map(|name| (*name, positive, has_rates)));
        }
    }
    all
}

/// Names that match a pattern.
fn samples(pattern: &str) -> Vec<String> {
    ["", "-latest", "-20260305"]
        .iter()
        .filter(|tail| tail.is_empty() || pattern.contains('*'))
        .map(|tail| {
            let digits = pattern.replace("####-##-##", "2026-03-05");
            let digits = digits.replace("########", "20260305").replace('#', "7");
            digits.trim_start_matches('*').replace('*', tail)
        })
        .collect()
}

/// Asserts the crate's price. A model that the crate prices by more than tokens is unknown here.
fn assert_agrees(book: &PriceBook, provider: &str, model: &str, size: &Usage) -> bool {
    let cost = ours(book, provider, model, size);
    match (oracle(provider, model, size), cost.source) {
        (Some(usd), CostSource::Table) => {
            let gap = (usd - cost.usd).abs();
            assert!(
                gap <= 1e-9,
                "{provider}/{model} {size:?}: {usd} there, {} here",
                cost.usd
            );
            true
        }
        (None, source) => {
            assert_eq!(
                source,
                CostSource::Unknown,
                "{provider}/{model} is priced here alone"
            );
            false
        }
        (Some(_), _) => false,
    }
}

#[test]
fn every_model_of_the_table_has_the_crates_price_at_every_size() {
    let book = book();
    let mut priced = 0;
    for (provider, pattern, has_rates) in patterns() {
        for model in samples(pattern) {
            for size in SIZES {
                let is_priced = assert_agrees(&book, provider, &model, &usage(*size));
                assert!(is_priced || !has_rates, "{provider}/{model} is not priced");
                priced += u32::from(is_priced);
            }
        }
    }
    println!("{priced} prices compared");
    assert!(priced > 10_000, "{priced}");
}

#[test]
fn common_models_are_priced() {
    let book = book();
    for (provider, model) in [
        ("anthropic", "claude-opus-4-6"),
        ("anthropic", "claude-sonnet-4-5-20250929"),
        ("anthropic-vertex", "claude-sonnet-4-5@20250929"),
        ("openai", "gpt-5.5"),
        ("openai", "gpt-4o-mini-2024-07-18"),
        ("google", "gemini-3.5-flash"),
        ("xai", "grok-4.5"),
        ("mistral", "mistral-large-latest"),
        ("deepseek", "deepseek-chat"),
        ("moonshot", "kimi-k2.6"),
        ("zai", "glm-5.2"),
        (
            "amazon-bedrock",
            "us.anthropic.claude-sonnet-4-5-20250929-v1:0",
        ),
    ] {
        assert!(
            assert_agrees(&book, provider, model, &usage(SIZES[3])),
            "{provider}/{model} is not priced"
        );
    }
}

#[test]
fn a_custom_provider_has_no_price() {
    let cost = ours(&book(), "my-endpoint", "gpt-5.5", &usage(SIZES[1]));
    assert_eq!(cost.source, CostSource::Unknown);
}

#[test]
fn logins_and_local_servers_bill_nothing_per_call() {
    let settings =
        facts(&serde_json::json!({"claude-cli/claude-opus-4-6": {"input": 5, "output": 25}}));
    let logins = Scalar::List(vec![Scalar::Text("anthropic".into())]);
    let (book, problems) = PriceBook::new(&settings, &Scalar::Absent, &logins, TABLE.to_owned());
    assert!(problems.is_empty(), "{problems:?}");
    for (provider, model, source) in [
        ("ollama", "llama3", CostSource::Subscription),
        ("github-copilot", "gpt-5.5", CostSource::Subscription),
        ("anthropic", "claude-opus-4-6", CostSource::Subscription),
        ("claude-cli", "claude-opus-4-6", CostSource::Configured),
        ("openai", "gpt-5.5", CostSource::Table),
    ] {
        let cost = ours(&book, provider, model, &usage(SIZES[1]));
        assert_eq!(cost.source, source, "{provider}/{model}");
        assert_eq!(cost.usd == 0.0, source == CostSource::Subscription);
    }
}

/// An object as the shim passes it: lists of pairs.
fn facts(value: &serde_json::Value) -> Scalar {
    use serde_json::Value;
    match value {
        Value::Null => Scalar::Absent,
        Value::Bool(flag) => Scalar::Bool(*flag),
        Value::Number(number) => Scalar::Number(number.as_f64().unwrap_or(f64::NAN)),
        Value::String(text) => Scalar::Text(text.clone()),
        Value::Array(list) => Scalar::List(list.iter().map(facts).collect()),
        Value::Object(map) => Scalar::List(
            map.iter()
                .map(|(name, value)| Scalar::List(vec![Scalar::Text(name.clone()), facts(value)]))
                .collect(),
        ),
    }
}

fn configured(prices: serde_json::Value) -> (PriceBook, Vec<String>) {
    PriceBook::new(
        &facts(&prices),
        &Scalar::Absent,
        &Scalar::Absent,
        TABLE.to_owned(),
    )
}

#[test]
fn configured_prices_rank_before_the_table_and_models_before_providers() {
    let (book, problems) = configured(serde_json::json!({
        "mine/*": {"input": 1, "output": 2},
        "mine/big": {"input": 3, "output": 15, "cacheRead": 0.3, "cacheWrite": 3.75,
            "tiers": [{"above": 2_000, "input": 6, "output": 22.5}]},
        "mine/plain": {"input": 3, "output": 15, "tiers": [{"above": 2_000, "input": 6, "output": 22.5}]},
        "openai/gpt-5.5": {"input": 0, "output": 0},
        "anthropic/*": "subscription",
    }));
    assert!(problems.is_empty(), "{problems:?}");
    for (provider, model, size, usd, source) in [
        (
            "mine",
            "small",
            [1_000, 100, 1_000, 0],
            0.0022,
            CostSource::Configured,
        ),
        (
            "mine",
            "big",
            [1_000, 100, 800, 200],
            0.00549,
            CostSource::Configured,
        ),
        (
            "mine",
            "big",
            [1_000, 100, 801, 200],
            0.009_240_3,
            CostSource::Configured,
        ),
        (
            "mine",
            "plain",
            [1_000, 100, 2_000, 0],
            0.020_25,
            CostSource::Configured,
        ),
        (
            "openai",
            "gpt-5.5",
            [1_000, 100, 0, 0],
            0.0,
            CostSource::Configured,
        ),
        (
            "anthropic",
            "claude-opus-4-6",
            [1_000, 100, 0, 0],
            0.0,
            CostSource::Subscription,
        ),
    ] {
        let cost = ours(&book, provider, model, &usage(size));
        assert_eq!(cost.source, source, "{provider}/{model}");
        assert!(
            (cost.usd - usd).abs() < 1e-12,
            "{provider}/{model}: {}",
            cost.usd
        );
    }
}

#[test]
fn implausible_prices_are_reported_and_ignored() {
    for (value, says) in [
        (
            serde_json::json!(7),
            "prices.m/x is neither prices nor \"subscription\"",
        ),
        (
            serde_json::json!({"input": "3", "output": 1}),
            "prices.m/x.input is no number",
        ),
        (
            serde_json::json!({"input": -3, "output": 1}),
            "prices.m/x.input is no number",
        ),
        (
            serde_json::json!({"input": 3}),
            "prices.m/x.output is missing",
        ),
        (
            serde_json::json!({"input": 3, "output": 4, "cache": 1}),
            "prices.m/x.cache is no setting",
        ),
        (
            serde_json::json!({"input": 3, "output": 4, "tiers": [{"above": 5, "input": 1}, {"above": 5}]}),
            "prices.m/x.tiers do not begin one above the other",
        ),
    ] {
        let (book, problems) =
            configured(serde_json::json!({"m/x": value, "m/y": {"input": 1, "output": 1}}));
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(problems[0].starts_with(says), "{problems:?}");
        let source = |model| ours(&book, "m", model, &usage(SIZES[1])).source;
        assert_eq!(
            (source("x"), source("y")),
            (CostSource::Unknown, CostSource::Configured)
        );
    }
    let (_, problems) = PriceBook::new(
        &Scalar::Bool(true),
        &Scalar::Absent,
        &Scalar::Absent,
        String::new(),
    );
    assert!(problems[0].starts_with("prices is no object; set it to"));
}

fn provider() -> impl Strategy<Value = &'static str> {
    let names: Vec<&'static str> = patterns().into_iter().map(|(name, ..)| name).collect();
    prop::sample::select(names)
}

#[test]
fn a_number_that_is_no_date_is_part_of_the_name() {
    let (book, size) = (book(), usage(SIZES[0]));
    for tail in ["20251621", "20250230", "20250900"] {
        let model = format!("gpt-6.1-terra-{tail}");
        assert!(!assert_agrees(&book, "openai", &model, &size), "{model}");
    }
    assert!(assert_agrees(
        &book,
        "openai",
        "gpt-6.1-terra-20251221",
        &size
    ));
}

proptest! {
    /// Names close to a model's: table and crate find the same model, or none.
    #[test]
    fn names_match_as_in_the_crate(
        provider in provider(),
        (_, pattern, _) in prop::sample::select(patterns()),
        tail in "(|-latest|-2025[01][0-9]2[0-9]|-tts|-mini|@20250901|:free|-v1:0|[a-z0-9.-]{1,6})",
        size in prop::sample::select(SIZES),
    ) {
        let name = pattern.replace('*', "").replace('#', "1") + &tail;
        assert_agrees(&book(), provider, &name, &usage(size));
    }
}

/// The crate's price with one more kind of count.
fn oracle_with(provider: &str, model: &str, more: &[(UsageKey, f64)]) -> Option<f64> {
    let name = OTHER_NAMES.iter().find(|(ours, _)| *ours == provider);
    let provider = name.map_or(provider, |(_, theirs)| theirs);
    let counts = genai_prices::Usage::from_iter(more.iter().cloned());
    let request = PriceRequest::new(model, &counts)
        .with_provider_id(provider)
        .with_timestamp(table_day() + Duration::from_secs(43_200));
    Some(genai_prices::calculate(&request).ok()?.total_price)
}

#[test]
fn cache_writes_for_an_hour_cost_twice_the_input_as_in_the_crate() {
    let book = book();
    let mut compared = 0;
    for (provider, pattern, _) in patterns() {
        let model = pattern.replace('*', "").replace('#', "1");
        let tokens = [
            (UsageKey::INPUT_TOKENS, 1_000.0),
            (UsageKey::CACHE_WRITE_TOKENS, 1_000.0),
        ];
        let hour = (UsageKey::CACHE_WRITE_1H_TOKENS, 1_000.0);
        let with_hour = [&tokens[..], &[hour]].concat();
        let there = oracle_with(provider, &model, &with_hour);
        // A model without such a price in the crate is charged there as for other writes.
        if there.is_none() || there == oracle_with(provider, &model, &tokens) {
            continue;
        }
        let here = book
            .find(provider, &model)
            .compute(&usage([0, 0, 0, 1_000]), 1_000);
        let gap = (here.unwrap_or(f64::NAN) - there.unwrap_or(f64::NAN)).abs();
        assert!(
            gap < 1e-9,
            "{provider}/{model}: {there:?} there, {here:?} here"
        );
        compared += 1;
    }
    assert!(compared > 60, "{compared}");
}

#[test]
fn fees_equal_the_crates() {
    let book = book();
    let mut compared = 0;
    for (provider, pattern, _) in patterns() {
        let model = pattern.replace('*', "").replace('#', "1");
        let price = book.find(provider, &model);
        // Models that the crate prices per request too are unknown here.
        if price.source != CostSource::Table {
            continue;
        }
        let fees = price.fees;
        for (key, fee) in [
            (UsageKey::WEB_SEARCHES, fees.web_searches),
            (UsageKey::STORAGE_SEARCHES, fees.file_searches),
        ] {
            let there = oracle_with(provider, &model, &[(key, 1_000.0)]).unwrap_or(0.0);
            if there > 0.0 {
                assert!(
                    (there - fee).abs() < 1e-9,
                    "{provider}/{model}: {there} there, {fee} here"
                );
                compared += 1;
            }
        }
    }
    assert!(compared > 60, "{compared}");
}

#[test]
fn the_tables_date_is_not_in_the_future() {
    assert!(table_day() > UNIX_EPOCH && table_day() < SystemTime::now());
}
