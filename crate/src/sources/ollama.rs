//! Ollama's API, `/api/chat` and `/api/generate`: one object, or one per line; the last line has the counts.
//!
//! <https://github.com/ollama/ollama/blob/main/docs/api.md>: `prompt_eval_count` is the prompt's tokens, `eval_count`
//! the answer's, thinking included. Newer servers report the cached part of the prompt (`prompt_eval_cached_count`). A
//! response that only loads or unloads a model (`done_reason`) has no counts.

use super::answer::{Draft, End, State};
use crate::formats::json::Value;

/// An answer, or one line of it.
pub(crate) fn line(document: Value, draft: &mut Draft) {
    document.members(|key, value| match key {
        "model" => draft.model(value),
        "done" if value.is_true() => draft.end = End::Complete,
        "done_reason" => {
            if matches!(value.text().as_deref(), Some("load" | "unload")) {
                draft.state = State::NoCall;
            }
        }
        "message" => value.members(|key, value| match key {
            "content" | "thinking" => draft.token(value),
            "tool_calls" => value.each(|call| draft.token(call)),
            _ => {}
        }),
        "response" | "thinking" => draft.token(value),
        "error" => draft.error(value),
        _ => draft.usage.add_member(key, value),
    });
}
