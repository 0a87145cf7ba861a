//! Gemini's API, `generateContent` and `streamGenerateContent`, of Google AI, Vertex AI and Cloud Code Assist.
//!
//! <https://ai.google.dev/api/generate-content#UsageMetadata>: `promptTokenCount` includes the cached part and excludes
//! tokens that tools put into the prompt; `candidatesTokenCount` excludes thoughts; the total is the sum of all four.

use super::answer::Draft;
use crate::formats::json::Value;

/// A response, or one of a stream. Cloud Code Assist has each under `response`.
pub(crate) fn response(document: Value, draft: &mut Draft) {
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
        "usageMetadata" => draft.usage.add_usage(value),
        "error" => draft.error(value),
        _ => draft.usage.add_beside(key, value),
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

/// Any output of a model: a text, a function call and the like. A thought signature alone is no output.
fn content(part: Value, draft: &mut Draft) {
    part.members(|key, value| match key {
        "thought" | "thoughtSignature" => {}
        _ => draft.token(value),
    });
}
