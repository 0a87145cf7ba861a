//! Readers: a source's flat facts become an [`Event`], or a [`Reject`] where they cannot be read.

pub mod answer;
mod anthropic;
mod bedrock;
mod context;
pub(crate) mod diagnostic;
pub mod ending;
pub mod facts;
mod gemini;
mod lifecycle;
pub mod litellm;
#[cfg(test)]
pub(crate) mod made_up;
pub(crate) mod message;
pub(crate) mod named;
mod ollama;
mod openai;
mod passed;
pub mod path;
mod progress;
pub mod proxied;
pub(crate) mod registry;
pub mod request;
pub mod stored;
pub(crate) mod timing;
mod trouble;

pub use self::lifecycle::{Command, CronRun, Direction, Message, SessionEvent, ToolCall};
pub use self::progress::{Progress, Step};
pub(crate) use self::registry::Source;
pub use self::registry::{SOURCES, read};
pub use self::trouble::ToolLoop;

use crate::domain::call::{Origin, Outcome, Usage};
use crate::domain::identity::Identities;
use crate::domain::observation::Observation;
use crate::sources::facts::Scalar;
use crate::spending::who::{Told, Who, job_id};

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
    /// Channel, cron job, skill and tool.
    pub origin: Origin,
    /// `ctx.channelId`, which may be a conversation; `None` after [`Event::hash_identities`].
    pub channel_id: Option<String>,
    /// Whether a run begins with this. It inherits nothing of the run before.
    pub begins_run: bool,
    /// Whether the session ended with this.
    pub ended: bool,
    /// Text for the log; `None` where nothing is logged.
    pub what: Option<&'static str>,
    /// The gateway's reason, one of its own words.
    pub reason: Option<String>,
    /// Whether this ends a run of the session.
    pub ends_run: bool,
}

/// Total that a gateway reports for a whole run. It is compared with the counted calls, never counted.
#[derive(Debug, Clone, PartialEq)]
pub struct Aggregate {
    /// Name of the source. Each source is compared separately.
    pub source: &'static str,
    /// The session's key.
    pub session_key: String,
    /// The sum over the run.
    pub usage: Usage,
    /// Time of arrival, in ms since 1970.
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
    /// How long it took, in ms.
    pub duration_ms: Option<f64>,
    /// The outcome, if this is the end.
    pub end: Option<Outcome>,
}

/// One model's entry in a `session:complete`.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelTotal {
    /// The model, with or without its provider.
    pub model: String,
    /// Number of requests; 1 where the entry has none.
    pub requests: u64,
    /// Tokens of the whole prompts.
    pub prompt_tokens: u64,
    /// Tokens of the answers.
    pub completion_tokens: u64,
    /// In USD.
    pub cost_usd: Option<f64>,
    /// Sum over its requests, in ms.
    pub latency_ms: Option<f64>,
}

/// A `session:complete`. The part of its totals that no call of the session has counted is counted from it.
#[derive(Debug, Clone, PartialEq)]
pub struct SessionTotals {
    /// `sessionKey`, else `sessionId`.
    pub key: String,
    /// The agent's name.
    pub agent: Option<String>,
    /// When, in ms since 1970.
    pub at_ms: u64,
    /// One entry per model.
    pub models: Vec<ModelTotal>,
}

/// A decoded event.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A surface reported a call.
    Call(Box<Observation>),
    /// A session began or ended, or a run did.
    Session(SessionFacts),
    /// Attributes of a session or a run, which later calls inherit. Nothing else follows from them.
    Attributes(SessionFacts),
    /// A run's total, to compare with.
    Aggregate(Aggregate),
    /// The gateway's diagnostic queue overflowed and dropped this many events.
    DiagnosticsDropped(u64),
    /// A turn of a session began: the user's message was stored.
    TurnBegan {
        /// The session's key.
        session_key: String,
        /// The agent's id.
        agent: Option<String>,
        /// The id of the cron job that wrote the message.
        job: Option<String>,
        /// What started the run, by the session's key.
        trigger: Option<String>,
    },
    /// A session's history is replaced: by a reset, else by a compaction.
    History {
        /// The session's key.
        session_key: String,
        /// Whether it is a reset.
        is_reset: bool,
    },
    /// The gateway detected a loop of a tool.
    Loop(ToolLoop),
    /// A message was received or sent.
    Message(Box<Message>),
    /// A user gave a command.
    Command(Command),
    /// A tool was called, or ended.
    Tool(ToolCall),
    /// An event for the log only.
    SessionEvent(SessionEvent),
    /// A cron job's run ended.
    Cron(CronRun),
    /// A conversation began or ended.
    Conversation(Conversation),
    /// A gateway's progress in a session's work.
    Progress(Progress),
    /// A session's totals.
    SessionComplete(SessionTotals),
    /// The gateway started.
    GatewayStarted,
    /// The gateway is about to stop.
    GatewayStopping,
    /// A POST reached a provider and was not counted as a call. Holds the provider and the shape of the path.
    Passed(String),
    /// Well-formed and not used. The text is the reason, for the counters.
    Ignored(&'static str),
}

impl Event {
    /// Replaces values that may identify a person (session keys, run ids) by hashes. Memory and disk only ever hold the
    /// result.
    pub fn hash_identities(&mut self, identities: &Identities) {
        let key = |key: &mut String| *key = identities.session_key(key);
        let run = |id: &mut Option<String>| {
            if let Some(id) = id {
                *id = identities.run_id(id);
            }
        };
        match self {
            Event::Call(call) => {
                let told = (&mut call.agent, &mut call.trigger, &mut call.origin);
                call.session_key = attribute(call.session_key.as_deref(), None, told, identities);
                run(&mut call.run_id);
            }
            Event::Session(facts) | Event::Attributes(facts) => {
                let told = (&mut facts.agent, &mut facts.trigger, &mut facts.origin);
                let channel_id = facts.channel_id.take();
                let key = attribute(
                    Some(&facts.session_key),
                    channel_id.as_deref(),
                    told,
                    identities,
                );
                facts.session_key = key.unwrap_or_default();
                run(&mut facts.run_id);
            }
            Event::Aggregate(aggregate) => key(&mut aggregate.session_key),
            Event::TurnBegan {
                session_key,
                job,
                trigger,
                ..
            } => {
                let told = Told {
                    session_key: Some(session_key),
                    ..Told::default()
                };
                *trigger = Who::of(&told, identities).trigger;
                key(session_key);
                job.iter_mut()
                    .for_each(|job| *job = job_id(job, identities));
            }
            Event::Message(message) => message.session_key.iter_mut().for_each(key),
            Event::Command(command) => command.session_key.iter_mut().for_each(key),
            Event::Tool(tool) => key(&mut tool.session_key),
            Event::History { session_key, .. } => key(session_key),
            Event::Loop(found) => key(&mut found.session_key),
            Event::SessionEvent(session_event) => key(&mut session_event.session_key),
            Event::Conversation(conversation) => key(&mut conversation.key),
            Event::Progress(progress) => key(&mut progress.session_key),
            Event::SessionComplete(totals) => key(&mut totals.key),
            Event::DiagnosticsDropped(_)
            | Event::Cron(_)
            | Event::GatewayStarted
            | Event::GatewayStopping
            | Event::Passed(_)
            | Event::Ignored(_) => {}
        }
    }
}

/// Completes a call's or a run's attribution from its session's key, and hides identities in it. Returns the key in the
/// form in which it may leave.
fn attribute(
    session_key: Option<&str>,
    channel_id: Option<&str>,
    (agent, trigger, origin): (&mut Option<String>, &mut Option<String>, &mut Origin),
    identities: &Identities,
) -> Option<String> {
    let told = Told {
        session_key,
        agent: agent.as_deref(),
        channel: origin.channel.as_deref(),
        channel_id,
        trigger: trigger.as_deref(),
        job: origin.job.as_deref(),
        skill: origin.skill.as_deref(),
        tool: origin.tool.as_deref(),
    };
    let who = Who::of(&told, identities);
    *agent = who.agent;
    *trigger = who.trigger;
    *origin = Origin {
        channel: who.channel,
        job: who.job,
        skill: who.skill,
        tool: who.tool,
    };
    who.session
}

/// Why an event could not be read. Both parts are from a fixed set, so that counters stay bounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reject {
    /// The source's name.
    pub source: &'static str,
    /// The reason.
    pub reason: &'static str,
}

impl Reject {
    pub(crate) const fn new(source: &'static str, reason: &'static str) -> Self {
        Self { source, reason }
    }
}

/// A cost in USD. Zero means "no prices configured" and is dropped.
fn cost(scalar: &Scalar) -> Option<f64> {
    scalar.amount().filter(|usd| *usd > 0.0 && *usd < 1e9)
}

/// A duration in ms of at most a day.
fn duration(scalar: &Scalar) -> Option<f64> {
    scalar.amount().filter(|ms| *ms <= 86_400_000.0)
}

/// The agent's id in a session key `agent:<id>:…`.
pub(crate) fn agent_of(session_key: Option<&str>) -> Option<String> {
    let rest = session_key?.strip_prefix("agent:")?;
    let id = rest.split(':').next()?;
    (!id.is_empty()).then(|| id.to_owned())
}

/// Splits `provider/model`. The provider of a bare name is empty.
pub(crate) fn split_model(name: &str) -> (String, String) {
    match name.split_once('/') {
        Some((provider, model)) if !provider.is_empty() && !model.is_empty() => {
            (provider.to_owned(), model.to_owned())
        }
        _ => (String::new(), name.to_owned()),
    }
}
