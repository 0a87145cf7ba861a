//! Anthropic messages.

use super::answer::{Counts, Draft, End, Kind, read_count};
use crate::json::Value;

/// A message, or one event of it: `message_start` has the message under `message`, `message_delta` has
/// the final usage.
pub(super) fn message(document: Value, draft: &mut Draft) {
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
        "usage" => usage(value, draft),
        _ => {}
    }
}

/// The prompt's tokens leave out the cached ones.
fn usage(value: Value, Draft { counts, .. }: &mut Draft) {
    let mut iterations = None;
    value.members(|key, value| {
        let count = match key {
            "iterations" => return iterations = Some(value),
            "input_tokens" => &mut counts.input,
            "output_tokens" => &mut counts.output,
            "cache_read_input_tokens" => &mut counts.cache_read,
            "cache_creation_input_tokens" => &mut counts.cache_write,
            _ => return,
        };
        counts.is_broken |= read_count(value, count);
    });
    if let Some(iterations) = iterations {
        add_compactions(iterations, counts);
    }
}

/// Compactions are billed, and stand beside the message's own counts.
/// <https://platform.claude.com/docs/en/build-with-claude/compaction#understanding-usage>
fn add_compactions(iterations: Value, counts: &mut Counts) {
    iterations.each(|iteration| {
        let mut draft = Draft::default();
        let mut is_compaction = false;
        iteration.members(|key, value| {
            is_compaction |= key == "type" && value.text().as_deref() == Some("compaction");
        });
        if !is_compaction {
            return;
        }
        usage(iteration, &mut draft);
        let add = |sum: &mut Option<u64>, more: Option<u64>| {
            if let Some(more) = more {
                *sum = Some(sum.unwrap_or(0) + more);
            }
        };
        add(&mut counts.input, draft.counts.input);
        add(&mut counts.output, draft.counts.output);
        add(&mut counts.cache_read, draft.counts.cache_read);
        add(&mut counts.cache_write, draft.counts.cache_write);
        counts.is_broken |= draft.counts.is_broken;
    });
}

/// `message_delta` is cumulative and may leave out what `message_start` told: the last of each count counts.
pub(super) fn merge(sum: &mut Draft, draft: Draft) {
    sum.counts = draft.counts.over(sum.counts);
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
