//! `model.call.completed` and `model.call.error`: the gateway's measurements around the request. With usage from
//! 2026.7.1, with cost from 2026.8.2. `model.usage`: the sum of a run, and each call outside of runs, of which nothing else
//! is told: completions of plugins (`api.runtime.llm.complete`, `api.runtime.subagent.complete`, by which 2026.9 writes
//! its dream diary at night) and `/btw`.

use super::{Event, Reject, Source, agent_of, context, cost, duration};
use crate::domain::call::{Origin, Outcome};
use crate::domain::observation::Observation;
use crate::domain::surface::Surface;
use crate::domain::usage::Used;
use crate::sources::facts::{Scalar, SourceTable, facts};
use crate::spending::prompt_bill::PromptStats;

facts! {
    /// Facts of `model.call.completed` and `model.call.error`.
    CallFacts = Diagnostic "model.call.completed" {
        provider: "event.provider",
        model: "event.model",
        usage: "usage:event.usage",
        session_key: "event.sessionKey",
        run_id: "event.runId",
        span_id: "event.trace.spanId",
        duration: "event.durationMs",
        ttfb: "event.timeToFirstByteMs",
        ts: "event.ts",
        unit: "event.observationUnit",
        failure_kind: "event.failureKind",
        system_chars: "event.promptStats.systemPromptChars",
        tool_chars: "event.promptStats.toolDefinitionsChars",
        message_chars: "event.promptStats.inputMessagesChars",
        prompt_chars: "event.promptStats.totalChars",
    }
}

facts! {
    /// Facts of `model.usage`. A call outside of runs has none of the last three.
    UsageFacts = Diagnostic "model.usage" {
        provider: "event.provider",
        model: "event.model",
        usage: "usage:event.usage",
        cost: "event.costUsd",
        session_key: "event.sessionKey",
        agent: "event.agentId",
        channel: "event.channel",
        ts: "event.ts",
        context: "event.context.limit",
        duration: "event.durationMs",
        last_call: "usage:event.lastCallUsage",
    }
}

const COMPLETED: SourceTable = CallFacts::TABLE;
const ERROR: SourceTable = CallFacts::TABLE.renamed("model.call.error");
const USAGE: SourceTable = UsageFacts::TABLE;

pub(crate) const SOURCES: &[Source] = &[
    Source::new(COMPLETED, |facts, table, at_ms| {
        read(CallFacts::new(facts), table, at_ms)
    }),
    Source::new(ERROR, |facts, table, at_ms| {
        read(CallFacts::new(facts), table, at_ms)
    }),
    Source::new(USAGE, |facts, table, at_ms| {
        usage(UsageFacts::new(facts), table, at_ms)
    }),
];

fn usage(facts: UsageFacts, table: SourceTable, at_ms: u64) -> Result<Event, Reject> {
    let marks = [facts.context(), facts.duration(), facts.last_call()];
    if marks.iter().any(|mark| !mark.is_absent()) {
        return context::aggregate(facts.session_key(), facts.usage(), table, at_ms);
    }
    let (Some(provider), Some(model)) = (facts.provider().owned(), facts.model().owned()) else {
        return Err(Reject::new(table.source, "no_model"));
    };
    let used = Used::of_fact(facts.usage());
    let session_key = facts.session_key().owned();
    Ok(Event::Call(Box::new(Observation {
        agent: facts
            .agent()
            .owned()
            .or_else(|| agent_of(session_key.as_deref())),
        provider,
        model,
        session_key,
        origin: Origin {
            channel: facts.channel().owned(),
            ..Origin::default()
        },
        usage: used.usage(),
        cost_usd: used.figure().or_else(|| cost(facts.cost())),
        broken_usage: used.is_broken,
        reported_zeros: used.usage().is_none() && !used.is_broken && used.is_reported,
        bill: used.bill,
        ..Observation::of(Surface::Diagnostic, event_time(facts.ts(), at_ms))
    })))
}

fn read(facts: CallFacts, table: SourceTable, at_ms: u64) -> Result<Event, Reject> {
    let source = table.source;
    let outcome = match (source == ERROR.source, facts.failure_kind().text()) {
        (false, _) => Outcome::Completed,
        (true, Some("aborted")) => Outcome::Aborted,
        (true, _) => Outcome::Failed,
    };
    let (Some(provider), Some(model)) = (facts.provider().owned(), facts.model().owned()) else {
        return Err(Reject::new(source, "no_model"));
    };
    let used = Used::of_fact(facts.usage());
    let usage = used.usage();
    let session_key = facts.session_key().owned();
    let duration_ms = duration(facts.duration());
    let ended_ms = event_time(facts.ts(), at_ms);
    let prompt = [
        facts.system_chars(),
        facts.tool_chars(),
        facts.message_chars(),
        facts.prompt_chars(),
    ];
    Ok(Event::Call(Box::new(Observation {
        agent: agent_of(session_key.as_deref()),
        provider,
        model,
        session_key,
        run_id: facts.run_id().owned(),
        prompt: PromptStats::of(prompt.map(Scalar::number)),
        span_id: facts.span_id().owned(),
        usage,
        cost_usd: used.figure(),
        started_ms: duration_ms.map(|ms| ended_ms.saturating_sub(ms as u64)),
        duration_ms,
        ttfb_ms: duration(facts.ttfb()),
        outcome,
        whole_turn: facts.unit().text() == Some("turn"),
        broken_usage: used.is_broken,
        reported_zeros: usage.is_none() && !used.is_broken && used.is_reported,
        bill: used.bill,
        ..Observation::of(Surface::Diagnostic, ended_ms)
    })))
}

/// The event's own time where it is plausible: events wait in a queue, but not for hours.
fn event_time(ts: &Scalar, at_ms: u64) -> u64 {
    ts.time_ms()
        .filter(|ts| *ts <= at_ms + 1_000 && *ts + 3_600_000 >= at_ms)
        .unwrap_or(at_ms)
}
