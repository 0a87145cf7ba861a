//! A row of OpenClaw's session store: an assistant's message as it was kept, with its usage.
//!
//! The rows come from [`crate::transcript`], which reads them in the order of this table. What they
//! tell, the live surfaces told before, unless nobody listened then.

use super::{Event, Observation, Reject, Source, Surface, agent_of};
use crate::call::{Outcome, Usage};
use crate::facts::facts;
use crate::identity::key_of;
use crate::usage::{Bill, Used};

facts! {
    /// Facts of a stored message. `event` is the row, `ctx` where it was found.
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

pub(super) const SOURCES: &[Source] = &[Source::new(StoredFacts::TABLE, |facts, _, at_ms| {
    read(&StoredFacts::new(facts)).map(|call| call.into_event(at_ms))
})];

/// A call as the store keeps it. Times in ms since 1970, cost in USD.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredCall {
    /// OpenClaw's name of the provider.
    pub provider: String,
    /// The provider's name of the model.
    pub model: String,
    /// Tokens; `None` where absent or all zero.
    pub usage: Option<Usage>,
    /// Whether there was usage that could not be read.
    pub broken_usage: bool,
    /// OpenClaw's figure, where it is more than zero.
    pub cost_usd: Option<f64>,
    /// How the call ended.
    pub outcome: Outcome,
    /// Whether a turn is over with this: an answer that calls no tool.
    pub ends_turn: bool,
    /// The provider's id of the answer; some servers repeat theirs.
    pub response_id: Option<String>,
    /// When the call began: the same on every surface, to the ms.
    pub started_ms: Option<u64>,
    /// When the row was written: when the call ended. A fork's inherited rows keep theirs.
    pub written_ms: Option<u64>,
    /// The row's id, which a fork's inherited rows keep too. 8 hexadecimal digits up to 2026.3, so
    /// unique only together with more.
    pub entry: Option<String>,
    /// The run's id, on newer gateways.
    pub run_id: Option<String>,
    /// The transcript's id: no part of a row's identity, since forks inherit rows.
    pub session_id: Option<String>,
    /// The agent's id.
    pub agent: Option<String>,
    /// The session's key, where the store tells it.
    pub session_key: Option<String>,
    /// What is billed beside tokens at their usual price.
    pub bill: Option<Box<Bill>>,
    /// Whether a fork inherited this row: its call belongs to the session that it was forked from.
    pub inherited: bool,
}

impl StoredCall {
    /// Whether there was a request at all: a failure or an abort without usage cost nothing.
    pub fn is_request(&self) -> bool {
        self.usage.is_some() || self.broken_usage || self.outcome == Outcome::Completed
    }

    /// What it means to the ledger.
    pub fn into_event(self, at_ms: u64) -> Event {
        match self {
            // Its own row stands in the session that this one was forked from.
            _ if self.inherited => Event::Ignored("inherited_row"),
            _ if !self.is_request() => Event::Ignored("no_request"),
            _ => Event::Call(Box::new(self.into_observation(at_ms))),
        }
    }

    /// What a copy of the row has in common with it where the row does not tell when its call began: its own id, which is
    /// short on old gateways, and what was used.
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

    /// The same as an observation, made at `at_ms`.
    pub fn into_observation(self, at_ms: u64) -> Observation {
        let row = self.key_without_time();
        Observation {
            row,
            bill: self.bill,
            surface: Surface::Stored,
            provider: self.provider,
            model: self.model,
            session_key: self.session_key,
            run_id: self.run_id,
            trigger: None,
            span_id: None,
            agent: self.agent,
            response_id: self.response_id,
            usage: self.usage,
            cost_usd: self.cost_usd,
            started_ms: self.started_ms,
            ended_ms: self.written_ms.or(self.started_ms).unwrap_or(at_ms),
            duration_ms: None,
            ttfb_ms: None,
            ttft_ms: None,
            request_id: None,
            response_model: None,
            outcome: self.outcome,
            whole_turn: false,
            broken_usage: self.broken_usage,
            told_zeros: false,
            // Its turn was over long ago.
            ends_turn: false,
            elsewhere: false,
        }
    }
}

/// Reads a stored message's facts.
///
/// # Errors
/// A [`Reject`] where the row names no model.
pub fn read(facts: &StoredFacts) -> Result<StoredCall, Reject> {
    let (Some(provider), Some(model)) = (facts.provider().owned(), facts.model().owned()) else {
        return Err(Reject {
            source: StoredFacts::TABLE.source,
            reason: "no_model",
        });
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
        // Several agents may share a store: the key says whose session it is, the folder whose store.
        agent: agent_of(session_key.as_deref()).or_else(|| facts.agent().owned()),
        session_key,
        bill: used.bill,
        inherited: facts.inherited().flag() == Some(true),
    })
}
