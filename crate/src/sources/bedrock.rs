//! Amazon Bedrock: `converse` and `converse-stream`, and `invoke`, which answers in the format of the model's maker.
//!
//! <https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_TokenUsage.html>: `inputTokens` excludes cache
//! reads and cache writes, as Anthropic's count does.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::answer::{Draft, State};
use super::{anthropic, openai};
use crate::domain::usage::{self, Count};
use crate::formats::json::{self, Value};

/// An answer of `converse`, or an event of `converse-stream`.
pub(crate) fn converse(document: Value, draft: &mut Draft) {
    document.members(|key, value| match key {
        "output" => draft.has_answer = true,
        "usage" => {
            draft.usage.add_usage(value);
            value.members(|key, value| {
                if key == "cacheDetails" {
                    cache_writes(value, &mut draft.usage);
                }
            });
        }
        "serviceTier" => draft.usage.add_beside(key, value),
        "stopReason" => draft.finish(value),
        // A tool's name comes before its arguments.
        "delta" | "start" => value.members(|_, value| draft.token(value)),
        // Nova's own stream wraps the events in these names.
        "contentBlockStart" | "contentBlockDelta" | "messageStop" | "metadata" => {
            converse(value, draft);
        }
        _ => {}
    });
}

/// Adds the cache writes by the time for which the cache keeps them. See
/// <https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_CacheDetail.html>.
fn cache_writes(details: Value, usage: &mut usage::Reading) {
    details.each(|detail| {
        let (mut ttl, mut written) = (None, usage::Reading::default());
        detail.members(|key, value| match key {
            "ttl" => ttl = value.text(),
            _ => written.add_member(key, value),
        });
        let tokens = written.count(Count::Input);
        match ttl.as_deref() {
            Some("5m") => usage.add_count(Count::CacheWrite5m, tokens),
            Some("1h") => usage.add_count(Count::CacheWrite1h, tokens),
            _ => {}
        }
    });
}

/// An answer of `invoke`, or an event of its stream: in Anthropic's, Amazon's or Meta's format, or a chat completion
/// for the others.
pub(crate) fn invoke(document: Value, draft: &mut Draft) {
    let (mut is_chat, mut results) = (false, 0);
    document.members(|key, value| match key {
        "choices" => is_chat = true,
        // Titan reports tokens per result.
        "results" => {
            value.each(|result| results = titan_result(result, draft).saturating_add(results))
        }
        "generation" | "outputText" | "text" | "generations" | "outputs" | "completion" => {
            draft.has_answer = true;
            draft.token(value);
        }
        "finish_reason" | "completionReason" => draft.finish(value),
        "embedding" | "embeddings" | "images" => draft.state = State::NoCall,
        // Bedrock's own counts, after the last event of any model's stream.
        "amazon-bedrock-invocationMetrics" => draft.metered.add_usage(value),
        // Llama and Titan.
        "prompt_token_count"
        | "inputTextTokenCount"
        | "generation_token_count"
        | "totalOutputTextTokenCount" => draft.usage.add_member(key, value),
        _ => {}
    });
    draft.usage.add_count(Count::Output, results);
    if is_chat {
        return openai::chat(document, draft);
    }
    anthropic::message(document, draft);
    converse(document, draft);
}

fn titan_result(result: Value, draft: &mut Draft) -> u64 {
    let mut used = usage::Reading::default();
    draft.has_answer = true;
    result.members(|key, value| match key {
        "tokenCount" => used.add_member("totalOutputTextTokenCount", value),
        "completionReason" => draft.finish(value),
        _ => {}
    });
    used.count(Count::Output)
}

/// Reads a header of an answer of `invoke`: Bedrock's own counts, for all models, and the tier that it bills. See
/// <https://docs.aws.amazon.com/bedrock/latest/userguide/inference-invoke.html> and
/// <https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_InvokeModel.html>.
pub(crate) fn header(
    name: &str,
    value: &str,
    metered: &mut usage::Reading,
    billed: &mut usage::Reading,
) {
    let count = match name {
        "x-amzn-bedrock-input-token-count" => "inputTokenCount",
        "x-amzn-bedrock-output-token-count" => "outputTokenCount",
        "x-amzn-bedrock-cache-read-input-token-count" => "cacheReadInputTokenCount",
        "x-amzn-bedrock-cache-write-input-token-count" => "cacheWriteInputTokenCount",
        "x-amzn-bedrock-service-tier" => {
            let text = serde_json::Value::from(value).to_string();
            json::read(text.as_bytes(), |tier| {
                billed.add_beside("serviceTier", tier)
            });
            return;
        }
        _ => return,
    };
    json::read(value.as_bytes(), |value| metered.add_member(count, value));
}

/// Extracts the model's event from an event of `invoke-with-response-stream`.
pub(crate) fn unwrapped(payload: &[u8]) -> Option<Vec<u8>> {
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
