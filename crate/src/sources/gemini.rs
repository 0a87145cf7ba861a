//! Gemini's API, `generateContent` and `streamGenerateContent`, of Google AI, Vertex AI and Cloud Code Assist.
//!
//! <https://ai.google.dev/api/generate-content#UsageMetadata>: `promptTokenCount` includes the cached part and excludes
//! tokens that tools put into the prompt; `candidatesTokenCount` excludes thoughts; the total is the sum of all four.

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};

use super::answer::Draft;
use crate::formats::json::Value;

/// Maximum number of search queries that are told apart in one answer.
const MAX_QUERIES: usize = 256;

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
        "groundingMetadata" => value.members(|key, value| {
            if key == "webSearchQueries" {
                value.each(|query| draft.queries.add(query));
            }
        }),
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

/// The queries with which an answer's model searched the web, as hashes: a query may be a part of the prompt.
#[derive(Debug, Clone, Default)]
pub(crate) struct Queries(BTreeSet<u64>);

impl Queries {
    fn add(&mut self, query: Value) {
        let text = query.text().unwrap_or_default();
        if !text.trim().is_empty() && self.0.len() < MAX_QUERIES {
            let mut hasher = DefaultHasher::new();
            text.hash(&mut hasher);
            self.0.insert(hasher.finish());
        }
    }

    /// Adds those of a later event.
    pub(crate) fn extend(&mut self, later: &Self) {
        let room = MAX_QUERIES.saturating_sub(self.0.len());
        self.0.extend(later.0.iter().take(room));
    }

    /// The number of searches that are billed: each query once, up to Gemini 2 each prompt once. See
    /// <https://ai.google.dev/gemini-api/docs/google-search#pricing>.
    pub(crate) fn billed(&self, model: Option<&str>) -> u64 {
        let by_prompt = |name: &str| name.contains("gemini-1") || name.contains("gemini-2");
        let count = self.0.len() as u64;
        if model.is_some_and(by_prompt) {
            return count.min(1);
        }
        count
    }
}
