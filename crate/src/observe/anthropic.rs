//! Anthropic messages.

use super::answer::{Draft, End, Field, Kind};
use crate::json::Shape::{self, Leaf, Mark, Object};

/// A message, or one event of it: `message_start` has the message under `message`, `message_delta` has
/// the final usage.
pub(super) const MESSAGES: Shape<Field> = Object(&[
    ("type", Leaf(Field::Kind)),
    ("id", Leaf(Field::Id)),
    ("model", Leaf(Field::Model)),
    ("stop_reason", Leaf(Field::Finish)),
    ("usage", USAGE),
    ("error", Leaf(Field::Error)),
    (
        "message",
        Object(&[
            ("id", Leaf(Field::Id)),
            ("model", Leaf(Field::Model)),
            ("usage", USAGE),
        ]),
    ),
    // A tool's name comes before its arguments.
    ("content_block", Object(&[("name", Mark(Field::Token))])),
    (
        "delta",
        Object(&[
            ("text", Mark(Field::Token)),
            ("thinking", Mark(Field::Token)),
            ("partial_json", Mark(Field::Token)),
            ("stop_reason", Leaf(Field::Finish)),
        ]),
    ),
]);

/// The prompt's tokens leave out the cached ones.
const USAGE: Shape<Field> = Object(&[
    ("input_tokens", Leaf(Field::Input)),
    ("output_tokens", Leaf(Field::Output)),
    ("cache_read_input_tokens", Leaf(Field::CacheRead)),
    ("cache_creation_input_tokens", Leaf(Field::CacheWrite)),
]);

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
