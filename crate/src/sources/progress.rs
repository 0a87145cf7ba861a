//! Diagnostics about a gateway's progress in a session's work. Without them, the end of a turn can only be guessed from
//! the time that passes.

use super::{Event, Reject, Source};
use crate::sources::facts::{SourceTable, facts};

/// A step of a gateway's work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Processing of a message began.
    MessageBegan,
    /// Processing of a message ended. Some versions deliver the answer only now.
    MessageEnded,
    /// A run began, or continues with another attempt.
    RunBegan,
    /// A run ended.
    RunEnded,
    /// Delivery of a message began.
    DeliveryBegan,
    /// Delivery succeeded.
    DeliveryEnded,
    /// Delivery failed. 2026.9.6 calls the hook for a failure only when it gives up, some seconds later.
    DeliveryFailed,
}

/// A step and its session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// The session's key.
    pub session_key: String,
    /// The step.
    pub step: Step,
}

facts! {
    /// Facts of the diagnostic `session.state`.
    StateFacts = Diagnostic "session.state" {
        session_key: "event.sessionKey",
        state: "event.state",
        reason: "event.reason",
    }
}

facts! {
    /// Facts of the diagnostics `message.delivery.*`.
    DeliveryFacts = Diagnostic "message.delivery.started" {
        session_key: "event.sessionKey",
    }
}

const STATE: SourceTable = StateFacts::TABLE;
const DELIVERY_STARTED: SourceTable = DeliveryFacts::TABLE;
const DELIVERY_COMPLETED: SourceTable = DELIVERY_STARTED.renamed("message.delivery.completed");
const DELIVERY_ERROR: SourceTable = DELIVERY_STARTED.renamed("message.delivery.error");

pub(crate) const SOURCES: &[Source] = &[
    Source::new(STATE, |facts, _, _| state(StateFacts::new(facts))),
    Source::new(DELIVERY_STARTED, |facts, table, _| {
        Ok(delivery(DeliveryFacts::new(facts), table))
    }),
    Source::new(DELIVERY_COMPLETED, |facts, table, _| {
        Ok(delivery(DeliveryFacts::new(facts), table))
    }),
    Source::new(DELIVERY_ERROR, |facts, table, _| {
        Ok(delivery(DeliveryFacts::new(facts), table))
    }),
];

/// A message is in progress from its start to its end, whatever states come between: it may have several runs, with the
/// session idle between them.
fn state(facts: StateFacts) -> Result<Event, Reject> {
    let is_of_message = facts
        .reason()
        .text()
        .is_some_and(|reason| reason.starts_with("message_"));
    let step = match (facts.state().text(), is_of_message) {
        (Some("processing"), true) => Step::MessageBegan,
        (Some("processing"), false) => Step::RunBegan,
        (Some("idle"), true) => Step::MessageEnded,
        (Some("idle"), false) => Step::RunEnded,
        _ => return Ok(Event::Ignored("state")),
    };
    let session_key = facts
        .session_key()
        .owned()
        .ok_or(Reject::new(STATE.source, "no_session"))?;
    Ok(Event::Progress(Progress { session_key, step }))
}

fn delivery(facts: DeliveryFacts, table: SourceTable) -> Event {
    // A message without a session belongs to no turn.
    let Some(session_key) = facts.session_key().owned() else {
        return Event::Ignored("no_session");
    };
    let step = match table.source {
        source if source == DELIVERY_STARTED.source => Step::DeliveryBegan,
        source if source == DELIVERY_COMPLETED.source => Step::DeliveryEnded,
        _ => Step::DeliveryFailed,
    };
    Event::Progress(Progress { session_key, step })
}
