//! Gemini's own API, `generateContent` and `streamGenerateContent`, of Google AI, Vertex AI and Cloud Code Assist.
//!
//! <https://ai.google.dev/api/generate-content#UsageMetadata>: `promptTokenCount` has the cached part in it and leaves out what
//! tools put into the prompt; `candidatesTokenCount` leaves out the thoughts; the total is the sum of all four.

use super::answer::{Counts, Draft, read_count};
use crate::json::Value;

/// A response, or one of a stream; Cloud Code Assist has each under `response`.
pub(super) fn response(document: Value, draft: &mut Draft) {
    document.members(|key, value| match key {
        "response" => value.members(|key, value| part(key, value, draft)),
        _ => part(key, value, draft),
    });
}

fn part(key: &str, value: Value, draft: &mut Draft) {
    match key {
        "responseId" => draft.id(value),
        "modelVersion" => draft.model(value),
        "candidates" => value.each(|candidate| self::candidate(candidate, draft)),
        // A prompt that was blocked is answered, and billed.
        "promptFeedback" => value.members(|key, value| {
            if key == "blockReason" {
                draft.has_answer = true;
                draft.finish(value);
            }
        }),
        "usageMetadata" => usage(value, &mut draft.counts),
        "error" => draft.error(value),
        _ => {}
    }
}

fn candidate(candidate: Value, draft: &mut Draft) {
    draft.has_answer = true;
    candidate.members(|key, value| match key {
        "finishReason" => draft.finish(value),
        "content" => value.members(|key, value| {
            if key == "parts" {
                value.each(|part| content(part, draft));
            }
        }),
        _ => {}
    });
}

/// A text, a function call, or anything else that a model makes; a signature of its thoughts alone is nothing.
fn content(part: Value, draft: &mut Draft) {
    part.members(|key, value| match key {
        "thought" | "thoughtSignature" => {}
        _ => draft.token(value),
    });
}

fn usage(value: Value, counts: &mut Counts) {
    value.members(|key, value| {
        let count = match key {
            "promptTokenCount" => &mut counts.input,
            "toolUsePromptTokenCount" => &mut counts.tool_use,
            "candidatesTokenCount" => &mut counts.output,
            "thoughtsTokenCount" => &mut counts.reasoning,
            "cachedContentTokenCount" => &mut counts.cache_read,
            "totalTokenCount" => &mut counts.total,
            _ => return,
        };
        counts.is_broken |= read_count(value, count);
    });
}

/// Counts are cumulative; those that an event leaves out, or tells as zero, stay as they were.
pub(super) fn merge(sum: &mut Counts, told: Counts) {
    let told_count = |count: Option<u64>| count.filter(|count| *count > 0);
    *sum = Counts {
        input: told_count(told.input),
        output: told_count(told.output),
        cache_read: told_count(told.cache_read),
        cache_write: told_count(told.cache_write),
        reasoning: told_count(told.reasoning),
        tool_use: told_count(told.tool_use),
        total: told_count(told.total),
        is_broken: told.is_broken,
    }
    .over(*sum);
}

/// The counts as they are meant here: the prompt with what tools put there and without what a cache held, the answer with
/// its thoughts. The total decides whether the thoughts are in the candidates' count, and tells what no other count does.
pub(super) fn normalize(told: Counts) -> Counts {
    let prompt = told.input.unwrap_or(0) + told.tool_use.unwrap_or(0);
    let candidates = told.output.unwrap_or(0);
    let thoughts = told.reasoning.unwrap_or(0);
    let apart = candidates + thoughts;
    let output = match told.total {
        Some(total) if total == prompt + candidates => candidates,
        Some(total) => apart.max(total.saturating_sub(prompt)),
        None => apart,
    };
    let cached = told.cache_read.map(|cached| cached.min(prompt));
    Counts {
        input: told
            .input
            .or(told.tool_use)
            .map(|_| prompt - cached.unwrap_or(0)),
        output: (output > 0).then_some(output).or(told.output),
        cache_read: cached,
        ..told
    }
}
