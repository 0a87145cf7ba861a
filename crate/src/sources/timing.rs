//! `model_call_ended`: time and outcome, no usage. Where diagnostics are off, the only report of some calls.

use super::{Event, Reject, Source, agent_of, duration};
use crate::domain::call::Outcome;
use crate::domain::observation::Observation;
use crate::domain::surface::Surface;
use crate::sources::facts::{Gateways, facts};

facts! {
    /// Facts of `model_call_ended`.
    EndedFacts = Hook "model_call_ended" {
        provider: "event.provider",
        model: "event.model",
        session_key: "event.sessionKey",
        run_id: "event.runId",
        span_id: "ctx.trace.spanId",
        duration: "event.durationMs",
        ttfb: "event.timeToFirstByteMs",
        outcome: "event.outcome",
        failure_kind: "event.failureKind",
    }
}

/// 2026.3.13 does not know this hook.
pub(crate) const SOURCES: &[Source] = &[Source::new(
    EndedFacts::TABLE.on(Gateways::Newer),
    |facts, _, at_ms| ended(EndedFacts::new(facts), at_ms),
)];

fn ended(facts: EndedFacts, at_ms: u64) -> Result<Event, Reject> {
    let (Some(provider), Some(model)) = (facts.provider().owned(), facts.model().owned()) else {
        return Err(Reject::new(EndedFacts::TABLE.source, "no_model"));
    };
    let session_key = facts.session_key().owned();
    let duration_ms = duration(facts.duration());
    let outcome = match (facts.outcome().text(), facts.failure_kind().text()) {
        (_, Some("aborted")) => Outcome::Aborted,
        (Some("error"), _) => Outcome::Failed,
        _ => Outcome::Completed,
    };
    Ok(Event::Call(Box::new(Observation {
        agent: agent_of(session_key.as_deref()),
        provider,
        model,
        session_key,
        run_id: facts.run_id().owned(),
        span_id: facts.span_id().owned(),
        started_ms: duration_ms.map(|ms| at_ms.saturating_sub(ms as u64)),
        duration_ms,
        ttfb_ms: duration(facts.ttfb()),
        outcome,
        ..Observation::of(Surface::Timing, at_ms)
    })))
}
