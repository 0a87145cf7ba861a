//! Readers: a source's flat facts become an [`Event`]; what cannot be read becomes a [`Reject`].

pub mod answer;
mod anthropic;
mod bedrock;
mod context;
mod diagnostic;
pub mod ending;
mod gemini;
mod lifecycle;
pub mod litellm;
#[cfg(test)]
mod made_up;
pub(crate) mod message;
mod named;
mod ollama;
mod openai;
mod passed;
pub mod path;
mod progress;
pub mod proxied;
pub mod request;
mod sources;
pub mod stored;
mod surface;
mod timing;

pub use self::lifecycle::{Command, CronRun, Direction, Happening, Message, ToolCall};
pub use self::progress::{Progress, Step};
use self::sources::Source;
pub use self::sources::{SOURCES, read};
pub(crate) use self::surface::{Awaited, Heard, Match, Row, Surfaces, ToldAgain};
pub use self::surface::{SURFACES, Surface};

use crate::call::{CostSource, Outcome, Usage};
use crate::facts::Scalar;
use crate::identity::{Identities, trigger_of};
use crate::usage::Bill;

/// What one surface says of one call. Times in ms since 1970, durations in ms, cost in USD.
#[derive(Debug, Clone, PartialEq)]
pub struct Observation {
    /// Who says it.
    pub surface: Surface,
    /// OpenClaw's name of the provider.
    pub provider: String,
    /// The provider's name of the model.
    pub model: String,
    /// The session's key.
    pub session_key: Option<String>,
    /// The run's id.
    pub run_id: Option<String>,
    /// The trace's span: unique for a call where there is one.
    pub span_id: Option<String>,
    /// What started the run, as far as the session's key tells.
    pub trigger: Option<String>,
    /// The agent's id.
    pub agent: Option<String>,
    /// The provider's id of the answer; some servers repeat theirs.
    pub response_id: Option<String>,
    /// Tokens; `None` where absent or all zero.
    pub usage: Option<Usage>,
    /// OpenClaw's figure, where it is more than zero.
    pub cost_usd: Option<f64>,
    /// When the call began.
    pub started_ms: Option<u64>,
    /// When the call ended; the arrival where the source has no time of its own.
    pub ended_ms: u64,
    /// How long it took by the gateway's clock.
    pub duration_ms: Option<f64>,
    /// Time to the first byte.
    pub ttfb_ms: Option<f64>,
    /// Time to the first token of a stream; only a proxy knows.
    pub ttft_ms: Option<f64>,
    /// The provider's id of the request; only a proxy knows.
    pub request_id: Option<String>,
    /// The model that answered; only a proxy knows.
    pub response_model: Option<String>,
    /// How it ended.
    pub outcome: Outcome,
    /// Whether this reports a whole turn of a foreign harness rather than one request.
    pub whole_turn: bool,
    /// Whether there was usage that could not be read.
    pub broken_usage: bool,
    /// Whether the usage was told, and was all zeros.
    pub told_zeros: bool,
    /// Whether a turn is over with this: an answer that calls no tool.
    pub ends_turn: bool,
    /// Whether another process saw it, which tells of its turns itself.
    pub elsewhere: bool,
    /// Hash by which the call is known when it is told again; see `ledger/again.rs`.
    pub row: Option<u64>,
    /// What is billed beside tokens at their usual price. The journal has it in a frame of its own kind.
    pub bill: Option<Box<Bill>>,
}

impl Observation {
    /// The same with what is billed beside tokens.
    pub(crate) fn with_bill(self, bill: Box<Bill>) -> Self {
        Self {
            bill: Some(bill),
            ..self
        }
    }
}

impl Observation {
    /// Whether its cost is one of these tokens: a figure that a gateway or LiteLLM reckoned from other counts is not.
    pub(crate) fn reckoned_by(&self, usage: Option<&Usage>) -> bool {
        let is_billed = self
            .surface
            .row()
            .cost
            .is_some_and(|(_, source)| source == CostSource::Provider);
        let whole = |usage: &Usage| (usage.prompt(), usage.output);
        match (&self.usage, usage) {
            (Some(own), Some(taken)) => is_billed || whole(own) == whole(taken),
            _ => true,
        }
    }
}

/// A run's or a session's attributes, which later calls of that session inherit.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SessionFacts {
    /// The session's key.
    pub session_key: String,
    /// The run's id.
    pub run_id: Option<String>,
    /// What started the run.
    pub trigger: Option<String>,
    /// The agent's id.
    pub agent: Option<String>,
    /// Whether the session ended with this.
    pub ended: bool,
    /// What happened, where that is for the log.
    pub what: Option<&'static str>,
    /// The gateway's reason, one of its own words.
    pub reason: Option<String>,
    /// Whether a run of the session is over with this.
    pub ends_run: bool,
}

/// A total that a gateway reports for a whole run: never counted, only compared.
#[derive(Debug, Clone, PartialEq)]
pub struct Aggregate {
    /// Which of the aggregating sources this is: each is compared on its own.
    pub source: &'static str,
    /// The session's key.
    pub session_key: String,
    /// The sum over the run.
    pub usage: Usage,
    /// When it reached us, in ms since 1970.
    pub at_ms: u64,
}

/// A `conversation:start` or `conversation:end`.
#[derive(Debug, Clone, PartialEq)]
pub struct Conversation {
    /// `conversationId`, else `sessionKey`.
    pub key: String,
    /// The channel's name.
    pub channel: Option<String>,
    /// The agent's name.
    pub agent: Option<String>,
    /// When, in ms since 1970.
    pub at_ms: u64,
    /// How long it took, where told.
    pub duration_ms: Option<f64>,
    /// Whether this is the end, and if so, whether a good one.
    pub end: Option<Outcome>,
}

/// One model's line of a `session:complete`.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelTotal {
    /// The model, with or without its provider.
    pub model: String,
    /// How many requests; 1 where not told.
    pub requests: u64,
    /// The whole prompts' tokens.
    pub prompt_tokens: u64,
    /// The answers' tokens.
    pub completion_tokens: u64,
    /// In USD.
    pub cost_usd: Option<f64>,
    /// Of all its requests together, in ms.
    pub latency_ms: Option<f64>,
}

/// A `session:complete`: what calls of the session did not yet count is counted from it.
#[derive(Debug, Clone, PartialEq)]
pub struct SessionTotals {
    /// `sessionKey`, else `sessionId`.
    pub key: String,
    /// The agent's name.
    pub agent: Option<String>,
    /// When, in ms since 1970.
    pub at_ms: u64,
    /// One line a model.
    pub models: Vec<ModelTotal>,
}

/// What an event means.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A surface saw a call.
    Call(Box<Observation>),
    /// A call began: nothing is known of it yet but that.
    CallStarted,
    /// A session or a run told its attributes.
    Session(SessionFacts),
    /// A run's total, to compare with.
    Aggregate(Aggregate),
    /// The gateway's diagnostic queue overflowed and dropped so many events.
    DiagnosticsDropped(u64),
    /// A turn of a session began: its user's message is stored.
    TurnBegan {
        /// The session's key.
        session_key: String,
        /// The agent's id.
        agent: Option<String>,
    },
    /// A message was received or sent.
    Message(Box<Message>),
    /// Somebody gave a command.
    Command(Command),
    /// A tool was called, or ended.
    Tool(ToolCall),
    /// Something that is only logged.
    Happening(Happening),
    /// A cron job's run is over.
    Cron(CronRun),
    /// A conversation began or ended.
    Conversation(Conversation),
    /// A gateway said how far it is with a session's work.
    Progress(Progress),
    /// A session's totals.
    SessionComplete(SessionTotals),
    /// The gateway started.
    GatewayStarted,
    /// The gateway is about to stop.
    GatewayStopping,
    /// A POST reached a provider and was counted as no call: the provider and the shape of its path.
    Passed(String),
    /// Well-formed, and not for us; the text says why, for the counters.
    Ignored(&'static str),
}

impl Event {
    /// Replaces what may hold a person's identity (session keys, run ids) by what may leave: nothing behind this
    /// point, in memory or on disk, knows more.
    pub fn hide(&mut self, identities: &Identities) {
        let key = |key: &mut String| *key = identities.session_key(key);
        let run = |id: &mut Option<String>| {
            if let Some(id) = id {
                *id = identities.run_id(id);
            }
        };
        match self {
            Event::Call(call) => {
                call.trigger = call.session_key.as_deref().and_then(trigger_of);
                call.session_key.iter_mut().for_each(key);
                run(&mut call.run_id);
            }
            Event::Session(facts) => {
                key(&mut facts.session_key);
                run(&mut facts.run_id);
            }
            Event::Aggregate(aggregate) => key(&mut aggregate.session_key),
            Event::TurnBegan { session_key, .. } => key(session_key),
            Event::Message(message) => message.session_key.iter_mut().for_each(key),
            Event::Command(command) => command.session_key.iter_mut().for_each(key),
            Event::Tool(tool) => key(&mut tool.session_key),
            Event::Happening(happening) => key(&mut happening.session_key),
            Event::Conversation(conversation) => key(&mut conversation.key),
            Event::Progress(progress) => key(&mut progress.session_key),
            Event::SessionComplete(totals) => key(&mut totals.key),
            Event::CallStarted
            | Event::DiagnosticsDropped(_)
            | Event::Cron(_)
            | Event::GatewayStarted
            | Event::GatewayStopping
            | Event::Passed(_)
            | Event::Ignored(_) => {}
        }
    }
}

/// Why an event could not be read. Both parts are from a fixed set, so that counters stay bounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reject {
    /// The source's name.
    pub source: &'static str,
    /// What was wrong.
    pub reason: &'static str,
}

/// A cost in USD. Zero stands for "no prices configured", so it is no figure.
fn cost(scalar: &Scalar) -> Option<f64> {
    scalar.amount().filter(|usd| *usd > 0.0 && *usd < 1e9)
}

/// A duration in ms of at most a day.
fn duration(scalar: &Scalar) -> Option<f64> {
    scalar.amount().filter(|ms| *ms <= 86_400_000.0)
}

/// The agent's id in a session key, `agent:<id>:…`.
pub(crate) fn agent_of(session_key: Option<&str>) -> Option<String> {
    let rest = session_key?.strip_prefix("agent:")?;
    let id = rest.split(':').next()?;
    (!id.is_empty()).then(|| id.to_owned())
}

/// `provider/model` taken apart; a bare name has an empty provider.
pub(crate) fn split_model(name: &str) -> (String, String) {
    match name.split_once('/') {
        Some((provider, model)) if !provider.is_empty() && !model.is_empty() => {
            (provider.to_owned(), model.to_owned())
        }
        _ => (String::new(), name.to_owned()),
    }
}
