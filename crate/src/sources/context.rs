//! Events about sessions, runs and the gateway, and totals for comparison.

use super::{Aggregate, Event, Reject, SessionFacts, Source, agent_of};
use crate::domain::call::Origin;
use crate::domain::usage::{self, Used};
use crate::sources::facts::{Gateways, Mechanism, Scalar, SourceTable, facts};

facts! {
    /// Facts of `session_start` and `session_end`.
    LifecycleFacts = Hook "session_start" {
        session_key: "event.sessionKey|ctx.sessionKey",
        agent: "ctx.agentId",
        reason: "event.reason",
    }
}

facts! {
    /// Facts of the diagnostics `run.started` and `run.completed`.
    RunFacts = Diagnostic "run.started" {
        session_key: "event.sessionKey",
        run_id: "event.runId",
        trigger: "event.trigger",
        channel: "event.channel",
    }
}

facts! {
    /// Facts of `llm_input` on 2026.3.13, which has no `run.started`.
    InputFacts = Hook "llm_input" {
        session_key: "ctx.sessionKey",
        agent: "ctx.agentId",
        trigger: "ctx.trigger",
        channel: "ctx.messageProvider",
        channel_id: "ctx.channelId",
    }
}

facts! {
    /// Facts of `skill.used`: a command began the run, or the model read the skill's file.
    SkillFacts = Diagnostic "skill.used" {
        session_key: "event.sessionKey",
        agent: "event.agentId",
        run_id: "event.runId",
        skill: "event.skillName",
    }
}

facts! {
    /// Facts of the hook `llm_output`: the total of a run.
    AggregateFacts = Hook "llm_output" {
        session_key: "event.sessionKey|ctx.sessionKey",
        usage: "usage:event.usage",
    }
}

facts! {
    /// Facts of the diagnostic `diagnostic.async_queue.dropped`.
    QueueDroppedFacts = Diagnostic "diagnostic.async_queue.dropped" {
        count: "event.droppedEvents",
    }
}

/// No field of `gateway_start` and `gateway_stop` is used.
pub(crate) const GATEWAY_START: SourceTable = SourceTable {
    source: "gateway_start",
    mechanism: Mechanism::Hook,
    gateways: Gateways::Every,
    only: None,
    fields: &[],
    list: None,
};
const GATEWAY_STOP: SourceTable = GATEWAY_START.renamed("gateway_stop");
const SESSION_START: SourceTable = LifecycleFacts::TABLE;
const SESSION_END: SourceTable = LifecycleFacts::TABLE.renamed("session_end");
const RUN_STARTED: SourceTable = RunFacts::TABLE;
const RUN_COMPLETED: SourceTable = RunFacts::TABLE.renamed("run.completed");
/// 2026.3.13 only: there the hook needs no grant, and its sum of a run is the only trace of messages that another
/// plugin withheld from this one. Newer gateways have diagnostics for that.
const LLM_OUTPUT: SourceTable = AggregateFacts::TABLE.on(Gateways::Older);
const QUEUE_DROPPED: SourceTable = QueueDroppedFacts::TABLE;
/// 2026.3.13 only: newer gateways withhold the hook without a grant, and have `run.started`.
const LLM_INPUT: SourceTable = InputFacts::TABLE.on(Gateways::Older);
const SKILL_USED: SourceTable = SkillFacts::TABLE;

pub(crate) const SOURCES: &[Source] = &[
    Source::new(SESSION_START, |facts, table, _| {
        session(LifecycleFacts::new(facts), table)
    }),
    Source::new(SESSION_END, |facts, table, _| {
        session(LifecycleFacts::new(facts), table)
    }),
    Source::new(RUN_STARTED, |facts, table, _| {
        run(RunFacts::new(facts), table)
    }),
    Source::new(RUN_COMPLETED, |facts, table, _| {
        run(RunFacts::new(facts), table)
    }),
    Source::new(LLM_OUTPUT, |facts, table, at_ms| {
        let facts = AggregateFacts::new(facts);
        aggregate(facts.session_key(), facts.usage(), table, at_ms)
    }),
    Source::new(QUEUE_DROPPED, |facts, _, _| {
        Ok(dropped(QueueDroppedFacts::new(facts)))
    }),
    Source::new(LLM_INPUT, |facts, table, _| {
        input(InputFacts::new(facts), table)
    }),
    Source::new(SKILL_USED, |facts, table, _| {
        skill(SkillFacts::new(facts), table)
    }),
    Source::new(GATEWAY_START, |_, _, _| Ok(Event::GatewayStarted)),
    Source::new(GATEWAY_STOP, |_, _, _| Ok(Event::GatewayStopping)),
];

fn session(facts: LifecycleFacts, table: SourceTable) -> Result<Event, Reject> {
    let session_key = required(facts.session_key(), table)?;
    Ok(Event::Session(SessionFacts {
        agent: facts
            .agent()
            .owned()
            .or_else(|| agent_of(Some(&session_key))),
        session_key,
        ended: table.source == SESSION_END.source,
        what: Some(match table.source == SESSION_END.source {
            true => "Session ended",
            false => "Session started",
        }),
        reason: facts.reason().owned(),
        ..SessionFacts::default()
    }))
}

/// A run's start has its attributes. Its end repeats them, for later events, where the start was missed.
fn run(facts: RunFacts, table: SourceTable) -> Result<Event, Reject> {
    let session_key = required(facts.session_key(), table)?;
    Ok(Event::Session(SessionFacts {
        agent: agent_of(Some(&session_key)),
        session_key,
        run_id: facts.run_id().owned(),
        trigger: facts.trigger().owned(),
        origin: Origin {
            channel: facts.channel().owned(),
            ..Origin::default()
        },
        begins_run: table.source == RUN_STARTED.source,
        ends_run: table.source == RUN_COMPLETED.source,
        ..SessionFacts::default()
    }))
}

fn input(facts: InputFacts, table: SourceTable) -> Result<Event, Reject> {
    Ok(Event::Attributes(SessionFacts {
        session_key: required(facts.session_key(), table)?,
        agent: facts.agent().owned(),
        trigger: facts.trigger().owned(),
        origin: Origin {
            channel: facts.channel().owned(),
            ..Origin::default()
        },
        channel_id: facts.channel_id().owned(),
        begins_run: true,
        ..SessionFacts::default()
    }))
}

fn skill(facts: SkillFacts, table: SourceTable) -> Result<Event, Reject> {
    Ok(Event::Attributes(SessionFacts {
        session_key: required(facts.session_key(), table)?,
        agent: facts.agent().owned(),
        run_id: facts.run_id().owned(),
        origin: Origin {
            skill: facts.skill().owned(),
            ..Origin::default()
        },
        ..SessionFacts::default()
    }))
}

/// The sum of a run.
pub(super) fn aggregate(
    session_key: &Scalar,
    usage: &Scalar,
    table: SourceTable,
    at_ms: u64,
) -> Result<Event, Reject> {
    let session_key = required(session_key, table)?;
    // The `total` in a run's usage may be that of its last call.
    let used = Used::of(&usage::Reading::of_pairs(usage).without_total());
    match used.usage() {
        Some(usage) => Ok(Event::Aggregate(Aggregate {
            source: table.source,
            session_key,
            usage,
            at_ms,
        })),
        None if used.is_broken => Err(Reject::new(table.source, "bad_usage")),
        None => Ok(Event::Ignored("no_usage")),
    }
}

/// Maximum number of dropped events that one diagnostic may report.
const MAX_DROPPED: f64 = 1e9;

fn dropped(facts: QueueDroppedFacts) -> Event {
    Event::DiagnosticsDropped(
        facts
            .count()
            .amount()
            .map_or(1, |n| n.clamp(1.0, MAX_DROPPED) as u64),
    )
}

fn required(session_key: &Scalar, table: SourceTable) -> Result<String, Reject> {
    session_key
        .owned()
        .ok_or(Reject::new(table.source, "no_session"))
}
