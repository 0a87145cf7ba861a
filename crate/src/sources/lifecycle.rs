//! Messages, commands, tools, subagents and cron jobs: the events behind traces, logs and metrics. A message's text
//! does not cross; the flag `noise` is computed from it in the shim.

use super::{Event, Reject, Source, agent_of, duration};
use crate::sources::facts::{Gateways, Mechanism, SourceTable, facts};

/// Direction of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// To the gateway.
    Received,
    /// From the gateway.
    Sent,
}

/// A message of a channel.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    /// Its direction.
    pub direction: Direction,
    /// The channel's name.
    pub channel: String,
    /// The sender's or the receiver's id.
    pub peer: Option<String>,
    /// The conversation's id.
    pub conversation: Option<String>,
    /// The session's key, where the gateway reports it.
    pub session_key: Option<String>,
    /// Whether it belongs to a group chat.
    pub is_group: bool,
    /// Whether it was delivered; true for received messages.
    pub success: bool,
    /// Whether an error came with it. The error's text may hold content and does not cross.
    pub has_error: bool,
    /// The first 200 characters, where the operator asked for previews.
    pub preview: Option<String>,
}

/// A user's command, such as `/new`.
#[derive(Debug, Clone, PartialEq)]
pub struct Command {
    /// Its name, without the slash.
    pub name: String,
    /// The session's key.
    pub session_key: Option<String>,
    /// Its source, such as a channel.
    pub source: Option<String>,
    /// The sender's id.
    pub sender: Option<String>,
}

/// A call of a tool.
#[derive(Debug, Clone, PartialEq)]
pub struct ToolCall {
    /// The tool's name.
    pub name: String,
    /// The call's id, equal at begin and end.
    pub id: Option<String>,
    /// The session's key.
    pub session_key: String,
    /// At its end: the duration in ms, and whether it failed.
    pub end: Option<(Option<f64>, bool)>,
}

/// A finished run of a cron job.
#[derive(Debug, Clone, PartialEq)]
pub struct CronRun {
    /// The job's name, else its id.
    pub job: String,
    /// The agent's id.
    pub agent: Option<String>,
    /// `ok`, `error` or `timeout`.
    pub status: &'static str,
    /// How long it took, in ms.
    pub duration_ms: Option<f64>,
}

const COMPACTION_BEGAN: &str = "Compaction began";
const COMPACTION_ENDED: &str = "Compaction ended";

/// An event of a session or a subagent that is only logged.
#[derive(Debug, Clone, PartialEq)]
pub struct SessionEvent {
    /// The log line's text.
    pub what: &'static str,
    /// The session's key.
    pub session_key: String,
    /// The gateway's reason, one of its own words.
    pub reason: Option<String>,
}

impl SessionEvent {
    /// Whether the session's history is compacted.
    pub fn is_compaction(&self) -> bool {
        [COMPACTION_BEGAN, COMPACTION_ENDED].contains(&self.what)
    }
}

facts! {
    /// Facts of the typed hooks and the internal events of messages.
    MessageFacts = Hook "message_received" {
        noise: "noise:event.content|event.context.content|event.context.body",
        preview: "preview:event.content|event.context.content|event.context.body",
        channel: "ctx.channelId|event.context.channelId",
        from: "event.senderId|event.metadata.senderId|event.context.metadata.senderId|event.from|event.context.from",
        to: "event.to|event.context.to",
        conversation: "ctx.conversationId|event.context.conversationId",
        session_key: "event.sessionKey|ctx.sessionKey|event.context.sessionKey",
        is_group: "event.isGroup|event.context.isGroup",
        origin: "event.from|event.context.from|event.to|event.context.to",
        success: "event.success|event.context.success",
        error: "event.error|event.context.error",
    }
}

facts! {
    /// Facts of the internal events `command:*` and `session:*`.
    InternalFacts = Internal "command" {
        action: "event.action",
        session_key: "event.sessionKey",
        source: "event.context.commandSource",
        sender: "event.context.senderId",
    }
}

facts! {
    /// Facts of `before_tool_call` and `after_tool_call`.
    ToolFacts = Hook "before_tool_call" {
        name: "event.toolName|ctx.toolName",
        id: "event.toolCallId|ctx.toolCallId",
        session_key: "ctx.sessionKey|event.sessionKey",
        duration: "event.durationMs",
        error: "event.error",
    }
}

facts! {
    /// Facts of `subagent_spawned` and `subagent_ended`.
    SubagentFacts = Hook "subagent_spawned" {
        session_key: "event.childSessionKey|event.targetSessionKey",
        reason: "event.outcome|event.reason",
    }
}

facts! {
    /// Facts of `cron_changed`.
    CronFacts = Hook "cron_changed" where "event.action" is "finished" {
        name: "event.job.name",
        id: "event.jobId",
        agent: "event.agentId|event.job.agentId",
        status: "event.status|event.job.state.lastRunStatus",
        duration: "event.durationMs|event.job.state.lastDurationMs",
    }
}

facts! {
    /// Facts of `before_message_write` for a user's message: a turn begins.
    UserTurnFacts = Hook "before_message_write" where "event.message.role" is "user" {
        session_key: "ctx.sessionKey",
        agent: "ctx.agentId",
        job: "event.message.provenance.jobId",
    }
}

const MESSAGE_RECEIVED: SourceTable = MessageFacts::TABLE;
const MESSAGE_SENT: SourceTable = MessageFacts::TABLE.renamed("message_sent");
const INTERNAL_RECEIVED: SourceTable = MESSAGE_RECEIVED
    .renamed("message:received")
    .by(Mechanism::HookFile);
const INTERNAL_SENT: SourceTable = INTERNAL_RECEIVED.renamed("message:sent");
const COMMAND: SourceTable = InternalFacts::TABLE;
const SESSION: SourceTable = InternalFacts::TABLE.renamed("session");
const BEFORE_TOOL: SourceTable = ToolFacts::TABLE;
const AFTER_TOOL: SourceTable = ToolFacts::TABLE.renamed("after_tool_call");
const SUBAGENT_SPAWNED: SourceTable = SubagentFacts::TABLE;
const SUBAGENT_ENDED: SourceTable = SubagentFacts::TABLE.renamed("subagent_ended");
/// 2026.3.13 does not know this hook.
const CRON: SourceTable = CronFacts::TABLE.on(Gateways::Newer);
const USER_TURN: SourceTable = UserTurnFacts::TABLE;

const GATEWAY_STARTUP: SourceTable = super::context::GATEWAY_START
    .renamed("gateway:startup")
    .by(Mechanism::HookFile);

pub(crate) const SOURCES: &[Source] = &[
    Source::new(USER_TURN, |facts, _, _| {
        Ok(user_turn(UserTurnFacts::new(facts)))
    }),
    Source::new(MESSAGE_RECEIVED, |facts, _, _| {
        Ok(message(MessageFacts::new(facts), Direction::Received))
    }),
    Source::new(MESSAGE_SENT, |facts, _, _| {
        Ok(message(MessageFacts::new(facts), Direction::Sent))
    }),
    Source::new(INTERNAL_RECEIVED, |facts, _, _| {
        Ok(message(MessageFacts::new(facts), Direction::Received))
    }),
    Source::new(INTERNAL_SENT, |facts, _, _| {
        Ok(message(MessageFacts::new(facts), Direction::Sent))
    }),
    Source::new(COMMAND, |facts, _, _| command(InternalFacts::new(facts))),
    Source::new(SESSION, |facts, _, _| {
        Ok(session(InternalFacts::new(facts)))
    }),
    Source::new(BEFORE_TOOL, |facts, table, _| {
        tool(ToolFacts::new(facts), table)
    }),
    Source::new(AFTER_TOOL, |facts, table, _| {
        tool(ToolFacts::new(facts), table)
    }),
    Source::new(SUBAGENT_SPAWNED, |facts, table, _| {
        subagent(SubagentFacts::new(facts), table)
    }),
    Source::new(SUBAGENT_ENDED, |facts, table, _| {
        subagent(SubagentFacts::new(facts), table)
    }),
    Source::new(CRON, |facts, _, _| cron(CronFacts::new(facts))),
    Source::new(GATEWAY_STARTUP, |_, _, _| Ok(Event::GatewayStarted)),
];

fn message(facts: MessageFacts, direction: Direction) -> Event {
    if facts.noise().flag() != Some(false) {
        return Event::Ignored("noise");
    }
    let peer = match direction {
        Direction::Received => facts.from(),
        Direction::Sent => facts.to(),
    };
    let channel = facts.channel().text().unwrap_or("unknown");
    // Typed hooks mark a group only in the sender's address and in the session's key.
    let is_group = [facts.origin(), facts.session_key()]
        .iter()
        .any(|fact| fact.text().is_some_and(|text| text.contains(":group:")));
    Event::Message(Box::new(Message {
        direction,
        channel: channel.to_owned(),
        peer: peer.text().map(|id| bare(channel, id)),
        conversation: facts.conversation().text().map(|id| bare(channel, id)),
        session_key: facts.session_key().owned(),
        is_group: is_group || facts.is_group().flag() == Some(true),
        success: direction == Direction::Received || facts.success().flag() != Some(false),
        has_error: !facts.error().is_absent(),
        preview: facts.preview().owned(),
    }))
}

/// Strips the channel's name from an id: one conversation is `telegram:17` in some events and `17` in others.
fn bare(channel: &str, id: &str) -> String {
    let rest = id
        .strip_prefix(channel)
        .and_then(|rest| rest.strip_prefix(':'))
        .unwrap_or(id);
    rest.strip_prefix("group:").unwrap_or(rest).to_owned()
}

fn command(facts: InternalFacts) -> Result<Event, Reject> {
    let name = facts
        .action()
        .owned()
        .ok_or(Reject::new(COMMAND.source, "no_action"))?;
    Ok(Event::Command(Command {
        name,
        session_key: facts.session_key().owned(),
        source: facts.source().owned(),
        sender: facts.sender().owned(),
    }))
}

fn session(facts: InternalFacts) -> Event {
    let what = match facts.action().text() {
        Some("compact:before") => COMPACTION_BEGAN,
        Some("compact:after") => COMPACTION_ENDED,
        _ => return Event::Ignored("session"),
    };
    match facts.session_key().owned() {
        Some(session_key) => Event::SessionEvent(SessionEvent {
            what,
            session_key,
            reason: None,
        }),
        None => Event::Ignored("session"),
    }
}

fn tool(facts: ToolFacts, table: SourceTable) -> Result<Event, Reject> {
    let reject = |reason| Reject::new(table.source, reason);
    let is_end = table.source == AFTER_TOOL.source;
    Ok(Event::Tool(ToolCall {
        name: facts.name().owned().ok_or(reject("no_tool"))?,
        id: facts.id().owned(),
        session_key: facts.session_key().owned().ok_or(reject("no_session"))?,
        end: is_end.then(|| (duration(facts.duration()), !facts.error().is_absent())),
    }))
}

fn subagent(facts: SubagentFacts, table: SourceTable) -> Result<Event, Reject> {
    let session_key = facts
        .session_key()
        .owned()
        .ok_or(Reject::new(table.source, "no_session"))?;
    let is_end = table.source == SUBAGENT_ENDED.source;
    Ok(Event::SessionEvent(SessionEvent {
        what: if is_end {
            "Subagent ended"
        } else {
            "Subagent spawned"
        },
        session_key,
        reason: facts.reason().owned().filter(|_| is_end),
    }))
}

fn cron(facts: CronFacts) -> Result<Event, Reject> {
    let job = facts
        .name()
        .text()
        .or(facts.id().text())
        .ok_or(Reject::new(CRON.source, "no_job"))?;
    Ok(Event::Cron(CronRun {
        job: job.to_owned(),
        agent: facts.agent().owned(),
        status: match facts.status().text() {
            Some("error" | "failed") => "error",
            Some("timeout") => "timeout",
            _ => "ok",
        },
        duration_ms: duration(facts.duration()),
    }))
}

fn user_turn(facts: UserTurnFacts) -> Event {
    match facts.session_key().owned() {
        Some(session_key) => Event::TurnBegan {
            agent: facts
                .agent()
                .owned()
                .or_else(|| agent_of(Some(&session_key))),
            trigger: None,
            session_key,
            job: facts.job().owned(),
        },
        None => Event::Ignored("no_session"),
    }
}
