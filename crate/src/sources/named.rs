//! The four events with documented payloads: `conversation:start`, `conversation:end`, `model:used` and
//! `session:complete`. No gateway emits them today; a future version or a third party may.

use super::{
    Conversation, Event, ModelTotal, Reject, SessionTotals, Source, agent_of, cost, duration,
    split_model,
};
use crate::domain::call::Outcome;
use crate::domain::observation::Observation;
use crate::domain::surface::Surface;
use crate::domain::usage::{self, Used, count_of};
use crate::sources::facts::{Gateways, ListTable, Scalar, SourceTable, facts};

facts! {
    /// Facts of `conversation:start` and `conversation:end`.
    ConversationFacts = HookFile "conversation:start" {
        conversation_id: "event.conversationId|event.context.conversationId",
        session_key: "event.sessionKey|event.context.sessionKey",
        channel: "event.channel|event.context.channel",
        agent: "event.agentName|event.context.agentName",
        timestamp: "time:event.timestamp|event.context.timestamp",
        duration: "event.durationMs|event.context.durationMs",
        status: "event.status|event.context.status",
    }
}

facts! {
    /// Facts of `model:used`.
    ModelUsedFacts = HookFile "model:used" {
        model: "event.model|event.context.model",
        usage: "usage:event.usage|event.context.usage",
        event: "usage:event",
        context: "usage:event.context",
        latency: "event.latencyMs|event.context.latencyMs",
        conversation_id: "event.conversationId|event.context.conversationId",
        session_key: "event.sessionKey|event.context.sessionKey",
        agent: "event.agentName|event.context.agentName",
    }
}

facts! {
    /// Facts of `session:complete`; its `models` follow as a list of [`TotalFacts`].
    SessionCompleteFacts = HookFile "session:complete" {
        session_key: "event.sessionKey|event.context.sessionKey",
        session_id: "event.sessionId|event.context.sessionId",
        agent: "event.agentName|event.context.agentName",
        timestamp: "time:event.timestamp|event.context.timestamp",
        models: "",
    }
}

facts! {
    /// One of the `models` of a `session:complete`; paths start at the entry.
    TotalFacts = HookFile "session:complete.models" {
        model: "model",
        requests: "requests",
        prompt_tokens: "promptTokens",
        completion_tokens: "completionTokens",
        cost: "costUsd",
        latency: "latencyMs",
    }
}

const CONVERSATION_START: SourceTable = ConversationFacts::TABLE.on(Gateways::None);
const CONVERSATION_END: SourceTable = CONVERSATION_START.renamed("conversation:end");
const MODEL_USED: SourceTable = ModelUsedFacts::TABLE.on(Gateways::None);
const SESSION_COMPLETE: SourceTable = SourceTable {
    list: Some(ListTable {
        path: "event.models|event.context.models",
        max: 100,
        fields: TotalFacts::TABLE.fields,
    }),
    ..SessionCompleteFacts::TABLE.on(Gateways::None)
};

pub(crate) const SOURCES: &[Source] = &[
    Source::new(CONVERSATION_START, |facts, table, at_ms| {
        conversation(ConversationFacts::new(facts), table, at_ms)
    }),
    Source::new(CONVERSATION_END, |facts, table, at_ms| {
        conversation(ConversationFacts::new(facts), table, at_ms)
    }),
    Source::new(MODEL_USED, |facts, _, at_ms| {
        model_used(ModelUsedFacts::new(facts), at_ms)
    }),
    Source::new(SESSION_COMPLETE, |facts, _, at_ms| {
        session_complete(facts, at_ms)
    }),
];

/// Maximum number of requests that one entry of a `session:complete` may stand for.
const MAX_REQUESTS: f64 = 10_000.0;

fn conversation(facts: ConversationFacts, table: SourceTable, at_ms: u64) -> Result<Event, Reject> {
    let key = facts
        .conversation_id()
        .text()
        .or(facts.session_key().text());
    let Some(key) = key else {
        return Err(Reject::new(table.source, "no_conversation"));
    };
    let end = (table.source == CONVERSATION_END.source).then(|| match facts.status().text() {
        Some("failed" | "error" | "timeout") => Outcome::Failed,
        Some("aborted" | "cancelled") => Outcome::Aborted,
        _ => Outcome::Completed,
    });
    Ok(Event::Conversation(Conversation {
        key: key.to_owned(),
        channel: facts.channel().owned(),
        agent: facts
            .agent()
            .owned()
            .or_else(|| agent_of(facts.session_key().text())),
        at_ms: facts.timestamp().time_ms().unwrap_or(at_ms),
        duration_ms: duration(facts.duration()),
        end,
    }))
}

fn model_used(facts: ModelUsedFacts, at_ms: u64) -> Result<Event, Reject> {
    let reject = |reason| Reject::new(MODEL_USED.source, reason);
    let name = facts.model().text().ok_or(reject("no_model"))?;
    let (provider, model) = split_model(name);
    // The counts are in the event, in its context, or in a usage object of either.
    let reading = usage::Reading::of_pairs(facts.event())
        .over(usage::Reading::of_pairs(facts.context()))
        .over(usage::Reading::of_pairs(facts.usage()));
    let used = Used::of(&reading);
    let duration_ms = duration(facts.latency());
    Ok(Event::Call(Box::new(Observation {
        provider,
        model,
        agent: facts
            .agent()
            .owned()
            .or_else(|| agent_of(facts.session_key().text())),
        session_key: facts
            .session_key()
            .owned()
            .or(facts.conversation_id().owned()),
        usage: used.usage(),
        cost_usd: used.figure(),
        started_ms: duration_ms.map(|ms| at_ms.saturating_sub(ms as u64)),
        duration_ms,
        broken_usage: used.is_broken,
        bill: used.bill_of_tokens(),
        ..Observation::of(Surface::Named, at_ms)
    })))
}

fn session_complete(facts: Vec<Scalar>, at_ms: u64) -> Result<Event, Reject> {
    let facts = SessionCompleteFacts::new(facts);
    let reject = |reason| Reject::new(SESSION_COMPLETE.source, reason);
    let key = facts.session_key().text().or(facts.session_id().text());
    let key = key.ok_or(reject("no_session"))?.to_owned();
    let models = facts
        .models()
        .list()
        .iter()
        .map(|total| {
            TotalFacts::new(total.list().to_vec())
                .total()
                .ok_or(reject("bad_total"))
        })
        .collect::<Result<Vec<_>, _>>()?;
    Ok(Event::SessionComplete(SessionTotals {
        agent: facts.agent().owned().or_else(|| agent_of(Some(&key))),
        key,
        at_ms: facts.timestamp().time_ms().unwrap_or(at_ms),
        models,
    }))
}

impl TotalFacts {
    fn total(self) -> Option<ModelTotal> {
        let requests = match self.requests() {
            Scalar::Absent => 1.0,
            requests => requests.amount().filter(|n| *n <= MAX_REQUESTS)?,
        };
        // A single unreadable count is treated as missing.
        let prompt = count_of(self.prompt_tokens());
        let completion = count_of(self.completion_tokens());
        Some(ModelTotal {
            model: self.model().owned()?,
            requests: requests as u64,
            prompt_tokens: prompt.or(completion.map(|_| 0))?,
            completion_tokens: completion.or(prompt.map(|_| 0))?,
            cost_usd: cost(self.cost()),
            latency_ms: duration(self.latency()),
        })
    }
}
