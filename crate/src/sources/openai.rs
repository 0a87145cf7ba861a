//! OpenAI chat completions and responses.

use super::answer::{Draft, End, Kind};
use crate::domain::usage::Count;
use crate::formats::json::Value;

/// A chat completion, or one chunk of it.
pub(crate) fn chat(document: Value, draft: &mut Draft) {
    document.members(|key, value| match key {
        "id" => draft.id(value),
        "model" => draft.model(value),
        "choices" => {
            draft.has_answer |= value.is_list();
            value.each(|choice| self::choice(choice, draft));
        }
        "usage" => draft.usage.add_usage(value),
        // Groq's streams.
        "x_groq" => value.members(|key, value| {
            if key == "usage" {
                draft.usage.add_usage(value);
            }
        }),
        "error" => draft.error(value),
        // Older servers of vLLM, and Mistral.
        "object" => draft.has_error |= value.text().as_deref() == Some("error"),
        // MiniMax.
        "base_resp" => value.members(|key, value| {
            let is_error = key == "status_code" && !matches!(value.number(), None | Some("0"));
            draft.has_error |= is_error;
        }),
        _ => draft.usage.add_beside(key, value),
    });
}

fn choice(choice: Value, draft: &mut Draft) {
    choice.members(|key, value| match key {
        "delta" => value.members(|key, value| match key {
            "content" | "reasoning" | "reasoning_content" | "refusal" => draft.token(value),
            "tool_calls" => value.each(|call| draft.token(call)),
            _ => draft.usage.add_beside(key, value),
        }),
        "message" => value.members(|key, value| draft.usage.add_beside(key, value)),
        "finish_reason" => draft.finish(value),
        // Legacy completions have their text here.
        "text" => draft.token(value),
        // Moonshot's streams.
        "usage" => draft.usage.add_usage(value),
        "error" => draft.error(value),
        _ => {}
    });
}

/// A response, or one event of its stream. Events about the whole response have it under `response`.
pub(crate) fn response(document: Value, draft: &mut Draft) {
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
        "background" => draft.is_background = value.is_true(),
        "created_at" => draft.created_ms = seconds(value).or(draft.created_ms),
        "completed_at" => draft.completed_ms = seconds(value).or(draft.completed_ms),
        "error" => draft.error(value),
        "usage" => draft.usage.add_usage(value),
        "output" => {
            draft.has_answer = true;
            searches(value, draft);
        }
        _ => draft.usage.add_beside(key, value),
    }
}

/// Converts s since 1970 to ms.
fn seconds(value: Value) -> Option<u64> {
    let seconds: f64 = value.number()?.parse().ok()?;
    Some((seconds * 1_000.0) as u64)
}

/// Whether a model searches the web for each chat completion. Its usage does not count these searches.
pub(crate) fn searches_by_itself(model: Option<&str>) -> bool {
    model.is_some_and(|name| name.contains("-search-preview") || name.contains("-search-api"))
}

/// Counts searches, which have fees but are not in the usage: each is an entry of the response's output. Opening a page,
/// searching in it and a search that failed are free.
fn searches(output: Value, draft: &mut Draft) {
    let (mut web, mut files) = (0, 0);
    output.each(|item| {
        let (mut kind, mut action, mut has_failed) = (None, None, false);
        item.members(|key, value| match key {
            "type" => kind = value.text(),
            "status" => has_failed = value.text().as_deref() == Some("failed"),
            "action" => value.members(|key, value| {
                if key == "type" {
                    action = value.text();
                }
            }),
            _ => {}
        });
        match (kind.as_deref(), action.as_deref()) {
            _ if has_failed => {}
            (Some("web_search_call"), None | Some("search")) => web += 1,
            (Some("file_search_call"), _) => files += 1,
            _ => {}
        }
    });
    draft.usage.add_count(Count::ListedWebSearches, web);
    draft.usage.add_count(Count::FileSearches, files);
}

/// Merges a chunk or an event into the sum of the earlier ones.
pub(crate) fn merge(sum: &mut Draft, draft: Draft) {
    sum.usage = draft.usage.over(std::mem::take(&mut sum.usage));
    sum.id = sum.id.take().or(draft.id);
    // Azure's first chunk has no model, and routers report theirs late.
    sum.model = draft.model.or(sum.model.take());
    sum.has_error |= draft.has_error || draft.kind == Kind::Error;
    sum.has_token |= draft.has_token;
    if draft.end != End::Open {
        sum.end = draft.end;
    }
}
