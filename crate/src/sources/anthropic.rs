//! Anthropic messages.

use super::answer::{Draft, End, Kind};
use crate::formats::json::Value;

/// A message, or one event of its stream: `message_start` has the message under `message`, `message_delta` has the
/// final usage.
pub(crate) fn message(document: Value, draft: &mut Draft) {
    document.members(|key, value| match key {
        "type" => draft.kind(value),
        "stop_reason" => draft.finish(value),
        "content" => draft.has_answer = true,
        "error" => draft.error(value),
        "message" => value.members(|key, value| part_of_message(key, value, draft)),
        // A tool's name comes before its arguments.
        "content_block" => value.members(|key, value| {
            if key == "name" {
                draft.token(value);
            }
        }),
        "delta" => value.members(|key, value| match key {
            "text" | "thinking" | "partial_json" => draft.token(value),
            "stop_reason" => draft.finish(value),
            _ => {}
        }),
        _ => part_of_message(key, value, draft),
    });
}

fn part_of_message(key: &str, value: Value, draft: &mut Draft) {
    match key {
        "id" => draft.id(value),
        "model" => draft.model(value),
        "usage" => draft.usage.add_usage(value),
        "amazon-bedrock-invocationMetrics" => draft.metered.add_usage(value),
        _ => draft.usage.add_beside(key, value),
    }
}

/// Usage in `message_delta` is cumulative and may leave out counts of `message_start`.
pub(crate) fn merge(sum: &mut Draft, draft: Draft) {
    sum.usage = draft.usage.over(std::mem::take(&mut sum.usage));
    sum.id = sum.id.take().or(draft.id);
    sum.model = draft.model.or(sum.model.take());
    sum.has_error |= draft.has_error || draft.kind == Kind::Error;
    sum.has_token |= draft.has_token;
    if draft.kind == Kind::Stop {
        sum.end = End::Complete;
    } else if draft.end != End::Open {
        sum.end = draft.end;
    }
}
