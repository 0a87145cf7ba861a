//! OpenAI chat completions and responses, with what the many servers that speak them add to the usage.

use super::answer::{Counts, Draft, End, Kind, read_count};
use crate::json::Value;

/// A chat completion, or one chunk of it.
pub(super) fn chat(document: Value, draft: &mut Draft) {
    document.members(|key, value| match key {
        "id" => draft.id(value),
        "model" => draft.model(value),
        "choices" => {
            draft.has_answer = true;
            value.each(|choice| self::choice(choice, draft));
        }
        "usage" => usage(value, draft),
        // Groq's streams.
        "x_groq" => value.members(|key, value| {
            if key == "usage" {
                usage(value, draft);
            }
        }),
        "error" => draft.error(value),
        _ => {}
    });
}

fn choice(choice: Value, draft: &mut Draft) {
    choice.members(|key, value| match key {
        "delta" => value.members(|key, value| match key {
            "content" | "reasoning" | "reasoning_content" | "refusal" => draft.token(value),
            "tool_calls" => value.each(|call| draft.token(call)),
            _ => {}
        }),
        "finish_reason" => draft.finish(value),
        // Completions of old have their text here.
        "text" => draft.token(value),
        // Moonshot's streams.
        "usage" => usage(value, draft),
        "error" => draft.error(value),
        _ => {}
    });
}

/// A response, or one event of it: those that tell of the whole response have it under `response`.
pub(super) fn response(document: Value, draft: &mut Draft) {
    document.members(|key, value| match key {
        "type" => draft.kind(value),
        "delta" => draft.token(value),
        "response" => value.members(|key, value| part_of_response(key, value, draft)),
        _ => part_of_response(key, value, draft),
    });
}

fn part_of_response(key: &str, value: Value, draft: &mut Draft) {
    match key {
        "id" => draft.id(value),
        "model" => draft.model(value),
        "status" => draft.status(value),
        "output" => draft.has_answer = true,
        "background" => draft.is_background = value.is_true(),
        "created_at" => draft.created_ms = seconds(value).or(draft.created_ms),
        "completed_at" => draft.completed_ms = seconds(value).or(draft.completed_ms),
        "error" => draft.error(value),
        "usage" => usage(value, draft),
        _ => {}
    }
}

/// Seconds since 1970, as ms.
fn seconds(value: Value) -> Option<u64> {
    let seconds: f64 = value.number()?.parse().ok()?;
    Some((seconds * 1_000.0) as u64)
}

/// The prompt's tokens include the cached ones.
fn usage(value: Value, Draft { counts, cost, .. }: &mut Draft) {
    value.members(|key, value| {
        let count = match key {
            "prompt_tokens" | "input_tokens" => &mut counts.input,
            "completion_tokens" | "output_tokens" => &mut counts.output,
            "total_tokens" => &mut counts.total,
            // DeepSeek, Moonshot, LiteLLM.
            "prompt_cache_hit_tokens" | "cached_tokens" => &mut counts.cache_read,
            "cache_creation_input_tokens" => &mut counts.cache_write,
            "prompt_tokens_details"
            | "input_tokens_details"
            | "completion_tokens_details"
            | "output_tokens_details" => return details(value, counts),
            "cost" => return read_cost(value, cost),
            _ => return,
        };
        counts.is_broken |= read_count(value, count);
    });
}

/// OpenRouter tells the cost in USD, Perplexity an object of several.
fn read_cost(value: Value, cost: &mut Option<String>) {
    let mut read = |value: Value| {
        if let Some(number) = value.number() {
            *cost = Some(number.to_owned());
        }
    };
    read(value);
    value.members(|key, value| {
        if key == "total_cost" {
            read(value);
        }
    });
}

/// What of a prompt a cache held, and what of an answer is reasoning.
pub(super) fn details(value: Value, counts: &mut Counts) {
    value.members(|key, value| {
        let count = match key {
            "cached_tokens" => &mut counts.cache_read,
            "cache_write_tokens" | "cache_creation_input_tokens" => &mut counts.cache_write,
            "reasoning_tokens" => &mut counts.reasoning,
            _ => return,
        };
        counts.is_broken |= read_count(value, count);
    });
}

/// Usage is cumulative where it is told more than once, so the last one counts, whole.
pub(super) fn merge(sum: &mut Draft, draft: Draft) {
    if !draft.counts.is_empty() {
        sum.counts = draft.counts;
    }
    sum.id = sum.id.take().or(draft.id);
    // Azure's first chunk names no model, and routers name theirs late.
    sum.model = draft.model.or(sum.model.take());
    sum.cost = draft.cost.or(sum.cost.take());
    sum.has_error |= draft.has_error || draft.kind == Kind::Error;
    sum.has_token |= draft.has_token;
    if draft.end != End::Open {
        sum.end = draft.end;
    }
}

/// The counts as they are meant here: the prompt without what a cache held, the answer with its reasoning.
pub(super) fn normalize(told: Counts) -> Counts {
    let cached = told.cache_read.unwrap_or(0) + told.cache_write.unwrap_or(0);
    let reasoning = told.reasoning.unwrap_or(0);
    let apart = told.input.unwrap_or(0) + told.output.unwrap_or(0) + reasoning;
    // xAI counts reasoning apart from the answer; its total shows that.
    let is_apart = reasoning > 0 && told.total == Some(apart);
    Counts {
        input: told.input.map(|input| input.saturating_sub(cached)),
        output: told
            .output
            .map(|output| if is_apart { output + reasoning } else { output }),
        ..told
    }
}
