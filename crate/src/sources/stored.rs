//! A row of OpenClaw's session store: a stored assistant's message with its usage.
//!
//! The rows come from [`crate::sessions::transcript`], which reads them in the order of this table. The live surfaces have
//! reported most of these calls before.

use super::{Event, Reject, Source, agent_of};
use crate::domain::call::{Outcome, Usage};
use crate::domain::identity::key_of;
use crate::domain::observation::Observation;
use crate::domain::surface::Surface;
use crate::domain::usage::{Bill, Used};
use crate::sources::facts::facts;

facts! {
    /// Facts of a stored message. `event` is the row, `ctx` describes the transcript.
    StoredFacts = File "stored" where "event.message.role" is "assistant" {
        provider: "event.message.provider",
        model: "event.message.model",
        usage: "usage:event.message.usage",
        stop_reason: "event.message.stopReason",
        response_id: "event.message.responseId",
        timestamp: "event.message.timestamp",
        written: "time:event.timestamp",
        entry: "event.id",
        run_id: "event.message.__openclaw.runId",
        session_id: "ctx.sessionId",
        agent: "ctx.agentId",
        session_key: "ctx.sessionKey",
        inherited: "ctx.inherited",
    }
}

pub(crate) const SOURCES: &[Source] = &[Source::new(StoredFacts::TABLE, |facts, _, at_ms| {
    read(&StoredFacts::new(facts)).map(|call| call.into_event(at_ms))
})];

/// A call in the session store. Times in ms since 1970, cost in USD.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredCall {
    /// OpenClaw's name of the provider.
    pub provider: String,
    /// The provider's name of the model.
    pub model: String,
    /// Tokens; `None` where absent or all zero.
    pub usage: Option<Usage>,
    /// Whether a usage was reported that could not be read.
    pub broken_usage: bool,
    /// OpenClaw's figure, where it is above zero.
    pub cost_usd: Option<f64>,
    /// How the call ended.
    pub outcome: Outcome,
    /// Whether this ends a turn: an answer that calls no tool.
    pub ends_turn: bool,
    /// The provider's id of the answer. Some servers repeat ids.
    pub response_id: Option<String>,
    /// When the call began: equal on all surfaces, to the ms.
    pub started_ms: Option<u64>,
    /// When the row was written, which is when the call ended. Inherited rows of a fork keep their time.
    pub written_ms: Option<u64>,
    /// The row's id. Inherited rows of a fork keep it. Up to 2026.3 it has 8 hexadecimal digits and is not unique by
    /// itself.
    pub entry: Option<String>,
    /// The run's id, on newer gateways.
    pub run_id: Option<String>,
    /// The transcript's id. It does not identify a row, since forks inherit rows.
    pub session_id: Option<String>,
    /// The agent's id.
    pub agent: Option<String>,
    /// The session's key, where the store has it.
    pub session_key: Option<String>,
    /// What is billed beside tokens at their usual price.
    pub bill: Option<Box<Bill>>,
    /// Whether a fork inherited this row. Its call belongs to the session that was forked.
    pub inherited: bool,
}

impl StoredCall {
    /// Whether the row is a request: a failure or an abort without usage cost nothing.
    pub fn is_request(&self) -> bool {
        self.usage.is_some() || self.broken_usage || self.outcome == Outcome::Completed
    }

    /// The event for the ledger.
    pub fn into_event(self, at_ms: u64) -> Event {
        match self {
            // The original row is in the session that was forked.
            _ if self.inherited => Event::Ignored("inherited_row"),
            _ if !self.is_request() => Event::Ignored("no_request"),
            _ => Event::Call(Box::new(self.into_observation(at_ms))),
        }
    }

    /// Hash that identifies a row without a begin time. Copies of the row have the same hash. Made from the row's id,
    /// which is short on old gateways, the model and the usage.
    fn key_without_time(&self) -> Option<u64> {
        if self.started_ms.is_some() {
            return None;
        }
        let usage = self.usage.unwrap_or_default();
        let numbers = [usage.prompt(), usage.output].map(|number| number.to_string());
        let entry = self.entry.as_deref()?;
        let [prompt, output] = &numbers;
        Some(key_of(&[entry, &self.model, prompt, output]))
    }

    /// Converts it into an observation. `at_ms` is the end of a row without times.
    pub fn into_observation(self, at_ms: u64) -> Observation {
        let call_key = self.key_without_time();
        Observation {
            call_key,
            bill: self.bill,
            provider: self.provider,
            model: self.model,
            session_key: self.session_key,
            run_id: self.run_id,
            agent: self.agent,
            response_id: self.response_id,
            usage: self.usage,
            cost_usd: self.cost_usd,
            started_ms: self.started_ms,
            outcome: self.outcome,
            broken_usage: self.broken_usage,
            ..Observation::of(
                Surface::Stored,
                self.written_ms.or(self.started_ms).unwrap_or(at_ms),
            )
        }
    }
}

/// Reads a stored message's facts.
///
/// # Errors
/// A [`Reject`] where the row names no model.
pub fn read(facts: &StoredFacts) -> Result<StoredCall, Reject> {
    let (Some(provider), Some(model)) = (facts.provider().owned(), facts.model().owned()) else {
        return Err(Reject::new(StoredFacts::TABLE.source, "no_model"));
    };
    let used = Used::of_fact(facts.usage());
    let session_key = facts.session_key().owned();
    Ok(StoredCall {
        provider,
        model,
        usage: used.usage(),
        broken_usage: used.is_broken,
        cost_usd: used.figure(),
        outcome: match facts.stop_reason().text() {
            Some("error") => Outcome::Failed,
            Some("aborted") => Outcome::Aborted,
            _ => Outcome::Completed,
        },
        ends_turn: facts.stop_reason().text() != Some("toolUse"),
        response_id: facts.response_id().owned(),
        started_ms: facts.timestamp().time_ms(),
        written_ms: facts.written().time_ms(),
        entry: facts.entry().owned(),
        run_id: facts.run_id().owned(),
        session_id: facts.session_id().owned(),
        // Several agents may share a store: the key names the session's agent, the folder the store's.
        agent: agent_of(session_key.as_deref()).or_else(|| facts.agent().owned()),
        session_key,
        bill: used.bill,
        inherited: facts.inherited().flag() == Some(true),
    })
}
