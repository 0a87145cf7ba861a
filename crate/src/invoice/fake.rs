//! A fake provider and a fake AgentWatch that answer from one ledger.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::figures::{DAY_MS, day_of};
use super::{Invoice, Provider, Said, Wanted};

/// 2026-11-20T12:00:00Z
pub const NOW: u64 = 1_795_176_000_000;
/// 2026-11-10T00:00:00Z
pub const DAY: u64 = 1_794_268_800_000;

#[derive(Debug, Clone)]
pub struct Call {
    pub day: u64,
    pub ms: u64,
    pub model: usize,
    pub tokens: [u64; 4],
    pub cost: f64,
}

/// Tokens (four kinds), calls and USD.
type Total = ([u64; 4], u64, f64);

/// For each model: our name, the name in the answer, and the provider's name.
pub const MODELS: [(Provider, [[&str; 3]; 2]); 3] = [
    (
        Provider::OpenAi,
        [
            ["openai/gpt-4o", "gpt-4o-2024-08-06", "gpt-4o-2024-08-06"],
            ["openai/gpt-5-mini", "", "gpt-5-mini-2025-08-07"],
        ],
    ),
    (
        Provider::Anthropic,
        [
            [
                "anthropic/claude-sonnet-4-5",
                "",
                "claude-sonnet-4-5-20250929",
            ],
            [
                "claude-opus-4-1",
                "claude-opus-4-1-20250805",
                "claude-opus-4-1-20250805",
            ],
        ],
    ),
    (
        Provider::OpenRouter,
        [
            [
                "openrouter/openai/gpt-4.1",
                "openai/gpt-4.1-2025-04-14",
                "openai/gpt-4.1",
            ],
            [
                "openrouter/auto",
                "anthropic/claude-4.5-sonnet-20250929",
                "anthropic/claude-sonnet-4.5",
            ],
        ],
    ),
];

pub fn names(provider: Provider) -> [[&'static str; 3]; 2] {
    let found = MODELS.iter().find(|(one, _)| *one == provider);
    found.map(|(_, names)| *names).unwrap()
}

pub fn record(provider: Provider, index: usize, call: &Call) -> Value {
    let [input, output, read, write] = call.tokens;
    let [model, answered, _] = names(provider)[call.model];
    json!({
        "id": format!("c{index}"),
        "timestamp": crate::domain::time::iso(DAY + call.day * DAY_MS + call.ms),
        "agent_name": "a",
        "model": model,
        "provider": provider.name(),
        "prompt_tokens": input + read + write,
        "completion_tokens": output,
        "cache_read_tokens": read,
        "cache_write_tokens": write,
        "cost_usd": call.cost,
        "cost_source": "table",
        "usage_source": "reported",
        "response_model": if answered.is_empty() { Value::Null } else { answered.into() },
    })
}

/// Converts a record to AgentWatch 0.1.0's shape: further fields are in `metadata`.
pub fn stock(mut record: Value) -> Value {
    let text = record.to_string();
    for (name, of) in [
        ("input_tokens", "prompt_tokens"),
        ("output_tokens", "completion_tokens"),
        ("estimated_cost_usd", "cost_usd"),
    ] {
        record[name] = record[of].take();
    }
    let object = record.as_object_mut().unwrap();
    object.retain(|name, value| !value.is_null() && !name.contains("cache") && name != "provider");
    object.insert("metadata".to_owned(), serde_json::from_str(&text).unwrap());
    record
}

/// The provider's pages of a report, two days each.
pub fn pages(provider: Provider, costs: bool, calls: &[Call]) -> Vec<Value> {
    let mut days: BTreeMap<u64, BTreeMap<usize, Total>> = BTreeMap::new();
    for call in calls {
        let sum = days
            .entry(call.day)
            .or_default()
            .entry(call.model)
            .or_default();
        for (sum, tokens) in sum.0.iter_mut().zip(call.tokens) {
            *sum += tokens;
        }
        sum.1 += 1;
        sum.2 += call.cost;
    }
    let row = |day: u64, model: usize, ([input, output, read, write], count, cost): Total| {
        let name = names(provider)[model][2];
        match (provider, costs) {
            (Provider::OpenAi, true) => vec![
                json!({"amount": {"value": cost / 4.0, "currency": "usd"}, "line_item": format!("{name}, input")}),
                json!({"amount": {"value": format!("{:.30}", cost * 3.0 / 4.0), "currency": "usd"},
                    "line_item": format!("{name}, output")}),
            ],
            (Provider::OpenAi, false) => {
                vec![json!({"object": "organization.usage.completions.result",
                "input_tokens": input + read + write, "output_tokens": output, "input_cached_tokens": read,
                "num_model_requests": count, "model": name, "batch": null})]
            }
            (Provider::Anthropic, true) => vec![json!({"amount": format!("{:.20}", cost * 100.0),
                "currency": "USD", "model": name, "cost_type": "tokens", "description": "Usage"})],
            (Provider::Anthropic, false) => vec![
                json!({"uncached_input_tokens": input, "output_tokens": output,
                "cache_read_input_tokens": read, "model": name,
                "cache_creation": {"ephemeral_1h_input_tokens": write / 2,
                    "ephemeral_5m_input_tokens": write - write / 2}}),
            ],
            (Provider::OpenRouter, _) => vec![
                json!({"date": day_of(DAY + day * DAY_MS).to_string(), "model": name,
                "model_permaslug": names(provider)[model][1], "usage": cost / 2.0,
                "byok_usage_inference": cost / 2.0, "requests": count,
                "prompt_tokens": input + read + write, "completion_tokens": output}),
            ],
        }
    };
    let bucket = |day: u64, results: Vec<Value>| match provider {
        Provider::OpenAi => {
            json!({"object": "bucket", "start_time": (DAY + day * DAY_MS) / 1000, "results": results})
        }
        _ => {
            json!({"starting_at": crate::domain::time::iso(DAY + day * DAY_MS), "results": results})
        }
    };
    let of = |day: u64| -> Vec<Value> {
        let models = days.get(&day).into_iter().flatten();
        models
            .flat_map(|(model, sum)| row(day, *model, *sum))
            .collect()
    };
    if provider == Provider::OpenRouter {
        return vec![json!({"data": (0..6).flat_map(of).collect::<Vec<_>>()})];
    }
    let mut pages = Vec::new();
    for first in [0, 2, 4] {
        let next = (first < 4).then(|| format!("page+{first}/{costs}="));
        pages.push(
            json!({"data": [bucket(first, of(first)), bucket(first + 1, of(first + 1))],
            "has_more": next.is_some(), "next_page": next}),
        );
    }
    pages
}

/// Answers requests until none is left. Returns their paths. `cut` is the size of the pieces of a body.
pub fn play(invoice: &mut Invoice, calls: &[Call], is_stock: bool, cut: usize) -> Vec<String> {
    let provider = invoice.provider;
    let mut paths = Vec::new();
    while let Some(ask) = invoice.next_ask() {
        assert!(paths.len() < 100, "{paths:?}");
        let path = ask.path.clone();
        let records = calls
            .iter()
            .enumerate()
            .map(|(index, call)| record(provider, index, call));
        let answer = if ask.of_provider {
            let pages = pages(provider, path.contains("cost"), calls);
            let at = path
                .split_once("page%2B")
                .map_or(0, |(_, rest)| rest[..1].parse::<usize>().unwrap() / 2 + 1);
            pages[at].to_string()
        } else if path.ends_with("capabilities") {
            match is_stock {
                true => json!({"detail": "Not Found"}).to_string(),
                false => json!({"features": ["record_ids"]}).to_string(),
            }
        } else if let Some((_, from)) = path.split_once("from=") {
            let day = &from[..10];
            let of_day = records.filter(|one| one["timestamp"].as_str().unwrap().starts_with(day));
            Value::from(of_day.collect::<Vec<_>>()).to_string()
        } else if path.starts_with("/api/costs?") {
            let mut models: BTreeMap<String, u64> = BTreeMap::new();
            for one in records {
                *models
                    .entry(one["model"].as_str().unwrap().to_owned())
                    .or_default() += 1;
            }
            let rows = models
                .into_iter()
                .map(|(model, count)| json!({"model": model, "count": count}));
            json!({"by_model": rows.collect::<Vec<_>>()}).to_string()
        } else {
            let (_, query) = path.split_once("model=").unwrap();
            let wanted = query.split('&').next().unwrap().replace("%2F", "/");
            let of_model = records
                .filter(|one| one["model"].as_str() == Some(&wanted))
                .map(stock);
            Value::from(of_model.take(1_000).collect::<Vec<_>>()).to_string()
        };
        let status = if is_stock && path.ends_with("capabilities") {
            404
        } else {
            200
        };
        for piece in answer.as_bytes().chunks(cut) {
            invoice.feed(piece);
        }
        assert_eq!(invoice.answered(status, None, ""), Ok(Said::Next), "{path}");
        paths.push(path);
    }
    paths
}

pub fn wanted(provider: Provider) -> Wanted<'static> {
    Wanted {
        provider: provider.name(),
        since: "2026-11-10",
        until: Some("2026-11-15"),
        also: Vec::new(),
    }
}
