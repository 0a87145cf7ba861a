//! `before_message_write`: the assistant's message with its usage. The exact source up to 2026.6.x, and on all versions
//! the only one with the answer's id.

use super::{Event, Reject, Source, agent_of};
use crate::domain::call::Outcome;
use crate::domain::observation::Observation;
use crate::domain::surface::Surface;
use crate::domain::usage::Used;
use crate::sources::facts::facts;

facts! {
    /// Facts of `before_message_write`.
    MessageFacts = Hook "before_message_write" where "event.message.role" is "assistant" {
        provider: "event.message.provider",
        model: "event.message.model",
        usage: "usage:event.message.usage",
        stop_reason: "event.message.stopReason",
        response_id: "event.message.responseId",
        timestamp: "event.message.timestamp",
        session_key: "ctx.sessionKey",
        agent: "ctx.agentId",
        idempotency_key: "event.message.idempotencyKey",
    }
}

pub(crate) const SOURCES: &[Source] = &[Source::new(MessageFacts::TABLE, |facts, _, at_ms| {
    read(MessageFacts::new(facts), at_ms)
})];

/// Provider name of messages that no model wrote: OpenClaw's own injections and mirrors.
pub(crate) const NO_MODEL: &str = "openclaw";

/// Whether a message with this idempotency key is a copy from another tool's history, which OpenClaw 2026.9 imports when a
/// listed session is continued: `<catalog>-catalog:<thread>:<item>`. OpenClaw's own control page tells them by this too.
pub(crate) fn is_from_catalog(idempotency_key: &str) -> bool {
    let catalog = idempotency_key
        .split_once(':')
        .and_then(|(first, _)| first.strip_suffix("-catalog"));
    catalog.is_some_and(|name| !name.is_empty() && !name.contains(char::is_whitespace))
}

fn read(facts: MessageFacts, at_ms: u64) -> Result<Event, Reject> {
    let source = MessageFacts::TABLE.source;
    let is_imported = facts.idempotency_key().text().is_some_and(is_from_catalog);
    if is_imported || facts.provider().text() == Some(NO_MODEL) {
        return Ok(Event::Ignored("no_model_call"));
    }
    let (Some(provider), Some(model)) = (facts.provider().owned(), facts.model().owned()) else {
        return Err(Reject::new(source, "no_model"));
    };
    let used = Used::of_fact(facts.usage());
    let usage = used.usage();
    let session_key = facts.session_key().owned();
    let outcome = match facts.stop_reason().text() {
        Some("error") => Outcome::Failed,
        Some("aborted") => Outcome::Aborted,
        _ => Outcome::Completed,
    };
    Ok(Event::Call(Box::new(Observation {
        agent: facts
            .agent()
            .owned()
            .or_else(|| agent_of(session_key.as_deref())),
        provider,
        model,
        session_key,
        response_id: facts.response_id().owned(),
        usage,
        cost_usd: used.figure(),
        // Later than the end where the clock was set back in between.
        started_ms: facts.timestamp().time_ms(),
        outcome,
        broken_usage: used.is_broken,
        ends_turn: facts.stop_reason().text() != Some("toolUse"),
        bill: used.bill,
        ..Observation::of(Surface::Message, at_ms)
    })))
}
