//! OpenAI chat completions and responses, with what the many servers that speak them add to the usage.

use super::answer::{Counts, Draft, End, Field, Kind};
use crate::json::Shape::{self, Each, Leaf, Mark, Object, Record};

/// A chat completion, or one chunk of it.
pub(super) const CHAT: Shape<Field> = Object(&[
    ("id", Leaf(Field::Id)),
    ("model", Leaf(Field::Model)),
    ("choices", Each(&CHOICE)),
    ("usage", USAGE),
    // Groq's streams.
    ("x_groq", Object(&[("usage", USAGE)])),
    ("error", Leaf(Field::Error)),
]);

const CHOICE: Shape<Field> = Object(&[
    ("delta", DELTA),
    ("finish_reason", Leaf(Field::Finish)),
    // Completions of old have their text here.
    ("text", Mark(Field::Token)),
    // Moonshot's streams.
    ("usage", USAGE),
    ("error", Leaf(Field::Error)),
]);

const DELTA: Shape<Field> = Object(&[
    ("content", Mark(Field::Token)),
    ("reasoning", Mark(Field::Token)),
    ("reasoning_content", Mark(Field::Token)),
    ("refusal", Mark(Field::Token)),
    ("tool_calls", Each(&Mark(Field::Token))),
]);

/// A response, or one event of it: those that tell of the whole response have it under `response`.
pub(super) const RESPONSES: Shape<Field> = Object(&[
    ("type", Leaf(Field::Kind)),
    ("id", Leaf(Field::Id)),
    ("model", Leaf(Field::Model)),
    ("status", Leaf(Field::Status)),
    ("error", Leaf(Field::Error)),
    ("usage", USAGE),
    ("delta", Mark(Field::Token)),
    (
        "response",
        Object(&[
            ("id", Leaf(Field::Id)),
            ("model", Leaf(Field::Model)),
            ("status", Leaf(Field::Status)),
            ("error", Leaf(Field::Error)),
            ("usage", USAGE),
        ]),
    ),
]);

/// The prompt's tokens include the cached ones.
const USAGE: Shape<Field> = Object(&[
    ("prompt_tokens", Leaf(Field::Input)),
    ("input_tokens", Leaf(Field::Input)),
    ("completion_tokens", Leaf(Field::Output)),
    ("output_tokens", Leaf(Field::Output)),
    ("total_tokens", Leaf(Field::Total)),
    ("prompt_tokens_details", PROMPT_DETAILS),
    ("input_tokens_details", PROMPT_DETAILS),
    ("completion_tokens_details", ANSWER_DETAILS),
    ("output_tokens_details", ANSWER_DETAILS),
    // DeepSeek, Moonshot, LiteLLM.
    ("prompt_cache_hit_tokens", Leaf(Field::CacheRead)),
    ("cached_tokens", Leaf(Field::CacheRead)),
    ("cache_creation_input_tokens", Leaf(Field::CacheWrite)),
    // OpenRouter, in USD; Perplexity, as an object.
    (
        "cost",
        Record(Field::Cost, &[("total_cost", Leaf(Field::Cost))]),
    ),
]);

const PROMPT_DETAILS: Shape<Field> = Object(&[
    ("cached_tokens", Leaf(Field::CacheRead)),
    ("cache_write_tokens", Leaf(Field::CacheWrite)),
    ("cache_creation_input_tokens", Leaf(Field::CacheWrite)),
]);

const ANSWER_DETAILS: Shape<Field> = Object(&[("reasoning_tokens", Leaf(Field::Reasoning))]);

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
