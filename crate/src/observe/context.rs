//! Events that describe a session, a run or the gateway, and totals that are compared, not counted.

use super::{Aggregate, Event, Reject, SessionFacts, agent_of, usage};
use crate::facts::{Scalar, SourceTable, facts};

facts! {
    /// Facts of `session_start` and `session_end`.
    LifecycleFacts = "session_start" {
        session_key: "event.sessionKey|ctx.sessionKey",
        agent: "ctx.agentId",
        reason: "event.reason",
    }
}

facts! {
    /// Facts of the diagnostics `run.started` and `run.completed`.
    RunFacts = "run.started" {
        session_key: "event.sessionKey",
        run_id: "event.runId",
        trigger: "event.trigger",
    }
}

facts! {
    /// Facts of the diagnostic `model.usage` and the hook `llm_output`: the total of a run.
    AggregateFacts = "model.usage" {
        session_key: "event.sessionKey|ctx.sessionKey",
        input: "event.usage.input",
        output: "event.usage.output",
        cache_read: "event.usage.cacheRead",
        cache_write: "event.usage.cacheWrite",
    }
}

facts! {
    /// Facts of the diagnostic `diagnostic.async_queue.dropped`.
    QueueDroppedFacts = "diagnostic.async_queue.dropped" {
        count: "event.droppedEvents",
    }
}

/// `gateway_start` and `gateway_stop` have no fact that we need.
pub(super) const GATEWAY_START: SourceTable = SourceTable {
    source: "gateway_start",
    only: None,
    fields: &[],
    list: None,
};
pub(super) const GATEWAY_STOP: SourceTable = GATEWAY_START.renamed("gateway_stop");
pub(super) const SESSION_START: SourceTable = LifecycleFacts::TABLE;
pub(super) const SESSION_END: SourceTable = LifecycleFacts::TABLE.renamed("session_end");
pub(super) const RUN_STARTED: SourceTable = RunFacts::TABLE;
pub(super) const RUN_COMPLETED: SourceTable = RunFacts::TABLE.renamed("run.completed");
pub(super) const MODEL_USAGE: SourceTable = AggregateFacts::TABLE;
pub(super) const LLM_OUTPUT: SourceTable = AggregateFacts::TABLE.renamed("llm_output");
pub(super) const QUEUE_DROPPED: SourceTable = QueueDroppedFacts::TABLE;

pub(super) fn session(facts: LifecycleFacts, table: SourceTable) -> Result<Event, Reject> {
    let session_key = required(facts.session_key(), table)?;
    Ok(Event::Session(SessionFacts {
        agent: facts
            .agent()
            .owned()
            .or_else(|| agent_of(Some(&session_key))),
        session_key,
        run_id: None,
        trigger: None,
        ended: table.source == SESSION_END.source,
        what: Some(match table.source == SESSION_END.source {
            true => "Session ended",
            false => "Session started",
        }),
        reason: facts.reason().owned(),
        ends_run: false,
    }))
}

/// A run's start tells its attributes; so does its end, for what still comes, where that was missed.
pub(super) fn run(facts: RunFacts, table: SourceTable) -> Result<Event, Reject> {
    let session_key = required(facts.session_key(), table)?;
    Ok(Event::Session(SessionFacts {
        agent: agent_of(Some(&session_key)),
        session_key,
        run_id: facts.run_id().owned(),
        trigger: facts.trigger().owned(),
        ended: false,
        what: None,
        reason: None,
        ends_run: table.source == RUN_COMPLETED.source,
    }))
}

pub(super) fn aggregate(
    facts: AggregateFacts,
    table: SourceTable,
    at_ms: u64,
) -> Result<Event, Reject> {
    let session_key = required(facts.session_key(), table)?;
    let mut broken = false;
    let fields = [
        facts.input(),
        facts.output(),
        facts.cache_read(),
        facts.cache_write(),
    ];
    match usage(fields, &mut broken) {
        Some(usage) => Ok(Event::Aggregate(Aggregate {
            source: table.source,
            session_key,
            usage,
            at_ms,
        })),
        None if broken => Err(Reject {
            source: table.source,
            reason: "bad_usage",
        }),
        None => Ok(Event::Ignored("no_usage")),
    }
}

/// More dropped events than this at once are no figure to add.
const MAX_DROPPED: f64 = 1e9;

pub(super) fn dropped(facts: QueueDroppedFacts) -> Event {
    Event::DiagnosticsDropped(
        facts
            .count()
            .amount()
            .map_or(1, |n| n.clamp(1.0, MAX_DROPPED) as u64),
    )
}

fn required(session_key: &Scalar, table: SourceTable) -> Result<String, Reject> {
    session_key.owned().ok_or(Reject {
        source: table.source,
        reason: "no_session",
    })
}
