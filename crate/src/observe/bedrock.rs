//! Amazon Bedrock: `converse` and `converse-stream`, and `invoke`, which answers in the format of the model's maker.
//!
//! <https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_TokenUsage.html>: `inputTokens` leaves out what a cache held or
//! took, as Anthropic's count does.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::answer::{Counts, Draft, State, read_count};
use super::{anthropic, openai};
use crate::json::{self, Value};

/// An answer of `converse`, or an event of `converse-stream`.
pub(super) fn converse(document: Value, draft: &mut Draft) {
    document.members(|key, value| match key {
        "output" => draft.has_answer = true,
        "usage" => usage(value, &mut draft.counts),
        "stopReason" => draft.finish(value),
        // Of a tool the name comes before its arguments.
        "delta" | "start" => value.members(|_, value| draft.token(value)),
        // Nova's own stream has these events' names around them.
        "contentBlockStart" | "contentBlockDelta" | "messageStop" | "metadata" => {
            converse(value, draft);
        }
        _ => {}
    });
}

fn usage(value: Value, counts: &mut Counts) {
    value.members(|key, value| {
        let count = match key {
            "inputTokens" => &mut counts.input,
            "outputTokens" => &mut counts.output,
            "cacheReadInputTokens" | "cacheReadInputTokenCount" => &mut counts.cache_read,
            "cacheWriteInputTokens" | "cacheWriteInputTokenCount" => &mut counts.cache_write,
            _ => return,
        };
        counts.is_broken |= read_count(value, count);
    });
}

/// An answer of `invoke`, or an event of its stream: Anthropic's, Amazon's, Meta's, or a chat completion of the others.
pub(super) fn invoke(document: Value, draft: &mut Draft) {
    let (mut is_chat, mut results) = (false, 0);
    document.members(|key, value| {
        let count = match key {
            "choices" => return is_chat = true,
            // Titan tells the tokens of each of its results.
            "results" => {
                return value.each(|result| results += titan_result(result, draft));
            }
            "generation" | "outputText" | "text" | "generations" | "outputs" | "completion" => {
                draft.has_answer = true;
                return draft.token(value);
            }
            "finish_reason" | "completionReason" => return draft.finish(value),
            "embedding" | "embeddings" | "images" => return draft.state = State::NoCall,
            "amazon-bedrock-invocationMetrics" => return metrics(value, &mut draft.metered),
            // Llama.
            "prompt_token_count" | "inputTextTokenCount" => &mut draft.counts.input,
            "generation_token_count" | "totalOutputTextTokenCount" => &mut draft.counts.output,
            _ => return,
        };
        draft.counts.is_broken |= read_count(value, count);
    });
    if results > 0 {
        draft.counts.output = Some(results);
    }
    if is_chat {
        openai::chat(document, draft);
        draft.counts = openai::normalize(draft.counts);
        return;
    }
    anthropic::message(document, draft);
    converse(document, draft);
}

fn titan_result(result: Value, draft: &mut Draft) -> u64 {
    let mut count = None;
    draft.has_answer = true;
    result.members(|key, value| match key {
        "tokenCount" => draft.counts.is_broken |= read_count(value, &mut count),
        "completionReason" => draft.finish(value),
        _ => {}
    });
    count.unwrap_or(0)
}

/// What Bedrock itself counted, told behind the last event of any model's stream.
fn metrics(value: Value, counts: &mut Counts) {
    value.members(|key, value| {
        let count = match key {
            "inputTokenCount" => &mut counts.input,
            "outputTokenCount" => &mut counts.output,
            "cacheReadInputTokenCount" => &mut counts.cache_read,
            "cacheWriteInputTokenCount" => &mut counts.cache_write,
            _ => return,
        };
        counts.is_broken |= read_count(value, count);
    });
}

/// Takes in a header of an answer of `invoke`: the same counts, whatever the model. See
/// <https://docs.aws.amazon.com/bedrock/latest/userguide/inference-invoke.html>.
pub(super) fn header(name: &str, value: &str, counts: &mut Counts) {
    let count = match name {
        "x-amzn-bedrock-input-token-count" => &mut counts.input,
        "x-amzn-bedrock-output-token-count" => &mut counts.output,
        "x-amzn-bedrock-cache-read-input-token-count" => &mut counts.cache_read,
        "x-amzn-bedrock-cache-write-input-token-count" => &mut counts.cache_write,
        _ => return,
    };
    counts.is_broken |=
        json::read(value.as_bytes(), |value| read_count(value, count)).unwrap_or(true);
}

/// The model's own event in an event of `invoke-with-response-stream`.
pub(super) fn unwrapped(payload: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = None;
    json::read(payload, |document| {
        document.members(|key, value| {
            if key == "bytes" {
                let text = value.written().get().trim_matches('"');
                bytes = STANDARD.decode(text).ok();
            }
        });
    });
    bytes
}
