//! Attribution of a call: agent, channel, trigger, cron job, session, and skill or tool where reported.
//!
//! Sources, in order of precedence:
//! - **agent**: `ctx.agentId`; the second part of the session's key.
//! - **channel**: `ctx.channel` (2026.9), `ctx.messageProvider` and the `channel` of the diagnostics `run.started`,
//!   `context.assembled`, `message.*`; the session's key; `ctx.channelId`, if it is a channel's name: it is a channel
//!   on 2026.3 and the id of a conversation on 2026.9.
//! - **trigger**: the session's key (a gateway calls a subagent's run `user`); `ctx.trigger`, or the `trigger` of
//!   `run.started`.
//! - **job**: `ctx.jobId` (2026.9) and `provenance.jobId` of the message that begins the turn; the session's key.
//! - **skill**: `skill.used`, until the run ends.
//! - **tool**: the `toolName` of `before_tool_call`: the session's last tool that began before the call did.
//!
//! Session keys have these shapes (`openclaw/plugin-sdk/routing`, `docs/channels/channel-routing.md`), all with or
//! without the prefix `agent:<id>:`, in any case of letters:
//! - `main`, or another name that the operator gave the main session; `global`
//! - `<channel>:(direct|dm|group|channel):<id>`, `<channel>:<account>:(direct|dm):<id>`, `(direct|dm):<id>`,
//!   `<channel>:slash:<user>`, each optionally followed by `:thread:<id>` or `:topic:<id>`; `<channel>:<id>` of older
//!   versions
//! - `cron:<job>`, `cron:<job>:run:<run>`
//! - `subagent:<id>`, nested any number of times
//! - any of these followed by `:heartbeat`, or `heartbeat` alone
//! - `acp:…`, `hook:…`, `explicit:…`, `dashboard:…`, `boot:…` and keys that plugins define: no channel.
//!
//! The result may leave the host: it contains ids of people and conversations only as a keyed hash, in the session's
//! key.

use serde::{Deserialize, Serialize};

use crate::domain::identity::{self, Identities};

/// Channels of OpenClaw's plugins (`docs/channels`). A key's first part, or `ctx.channelId`, counts as a channel
/// without further evidence only if it is in this list.
const CHANNELS: &[&str] = &[
    "bluebubbles",
    "discord",
    "email",
    "facetime",
    "feishu",
    "googlechat",
    "imessage",
    "irc",
    "line",
    "matrix",
    "mattermost",
    "msteams",
    "nextcloud-talk",
    "nostr",
    "qqbot",
    "signal",
    "slack",
    "sms",
    "synology-chat",
    "telegram",
    "tlon",
    "twitch",
    "voice",
    "webchat",
    "wechat",
    "whatsapp",
    "zalo",
    "zalouser",
];

/// Maximum length, in bytes, of a job id that is not hashed.
const MAX_JOB: usize = 64;

/// Attribution of a call, in a form that may leave the host. Unreported fields are `None`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Who {
    /// OpenClaw's id of the agent.
    pub agent: Option<String>,
    /// The channel's name, such as `telegram`.
    pub channel: Option<String>,
    /// `user`, `cron`, `heartbeat`, `subagent`, `manual`, `memory`, `overflow`.
    pub trigger: Option<String>,
    /// The cron job's id: see [`job_id`].
    pub job: Option<String>,
    /// The session's key: see [`Identities::session_key`].
    pub session: Option<String>,
    /// The skill in use.
    pub skill: Option<String>,
    /// The tool that ran before the call, in the same turn.
    pub tool: Option<String>,
}

/// A gateway's raw fields; the module names their sources.
#[derive(Debug, Clone, Copy, Default)]
pub struct Told<'a> {
    /// `sessionKey`.
    pub session_key: Option<&'a str>,
    /// `ctx.agentId`.
    pub agent: Option<&'a str>,
    /// `ctx.channel`, `ctx.messageProvider` or the `channel` of a diagnostic.
    pub channel: Option<&'a str>,
    /// `ctx.channelId`.
    pub channel_id: Option<&'a str>,
    /// `ctx.trigger` or the `trigger` of a diagnostic.
    pub trigger: Option<&'a str>,
    /// `ctx.jobId`.
    pub job: Option<&'a str>,
    /// The `skillName` of `skill.used`.
    pub skill: Option<&'a str>,
    /// `ctx.toolName`.
    pub tool: Option<&'a str>,
}

impl Who {
    /// Attribution by these fields.
    pub fn of(told: &Told, identities: &Identities) -> Self {
        let key = told.session_key.and_then(Key::of).unwrap_or_default();
        let job = told.job.filter(|job| !job.trim().is_empty());
        Self {
            agent: told.agent.or(key.agent).and_then(named),
            channel: told
                .channel
                .and_then(channel)
                .or(key.channel)
                .or(told.channel_id.and_then(known_channel)),
            trigger: key
                .trigger
                .or_else(|| told.trigger.and_then(identity::word)),
            job: job.or(key.job).map(|job| job_id(job, identities)),
            session: told.session_key.map(|key| identities.session_key(key)),
            skill: told.skill.and_then(named),
            tool: told.tool.and_then(named),
        }
    }
}

/// A job id in the form that may leave the host: unchanged if it is an id as OpenClaw makes it (a UUID) or a word with
/// a letter, else a keyed hash, since it may be a person's number or address.
pub fn job_id(job: &str, identities: &Identities) -> String {
    let job = job.trim();
    let is_word = job.len() <= MAX_JOB
        && job.bytes().any(|b| b.is_ascii_alphabetic())
        && job
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
    match is_word {
        true => job.to_owned(),
        false => identities.run_id(job),
    }
}

/// Fields of a session's key.
#[derive(Debug, Default, PartialEq)]
struct Key<'a> {
    agent: Option<&'a str>,
    channel: Option<String>,
    trigger: Option<String>,
    job: Option<&'a str>,
}

impl<'a> Key<'a> {
    fn of(key: &'a str) -> Option<Self> {
        let parts: Vec<&str> = key.trim().split(':').collect();
        let (agent, body) = match parts.as_slice() {
            // As in OpenClaw, a key with an agent but no session, or a session but no agent, has no agent.
            [head, agent, body @ ..] if is(head, "agent") => {
                let is_whole =
                    !agent.trim().is_empty() && body.first().is_some_and(|p| !p.is_empty());
                (Some(agent.trim()).filter(|_| is_whole), body)
            }
            body => (None, body),
        };
        let (head, rest) = body.split_first()?;
        // Only the first part defines the kind of session: a conversation or an agent may be called `cron`.
        let trigger = match is_heartbeat(body) {
            true => Some("heartbeat".to_owned()),
            false => trigger_of(head),
        };
        let job = rest.first().filter(|job| !job.is_empty());
        Some(Self {
            agent,
            job: job.copied().filter(|_| is(head, "cron")),
            channel: channel_of(head, rest),
            trigger,
        })
    }
}

/// The trigger that a key's first part names.
fn trigger_of(head: &str) -> Option<String> {
    let triggers = ["cron", "subagent", "heartbeat"].into_iter();
    let named = triggers.filter(|trigger| is(head, trigger));
    named.map(str::to_owned).next()
}

/// Whether a key belongs to a heartbeat's own session: its last part is `heartbeat`, and the other parts are a whole
/// key.
fn is_heartbeat(body: &[&str]) -> bool {
    let Some((last, before)) = body.split_last() else {
        return false;
    };
    let is_whole = match before {
        // `irc:channel:heartbeat` is a conversation; `cron:heartbeat` is a job.
        [_, kind] => !is_peer(kind) && !is(kind, "slash"),
        [_, _, kind] => !(is(kind, "direct") || is(kind, "dm")),
        [head] => !(is(head, "cron") || is(head, "subagent") || is_peer(head)),
        _ => true,
    };
    is(last, "heartbeat") && is_whole
}

fn channel_of(head: &str, rest: &[&str]) -> Option<String> {
    match rest {
        [kind, id, ..] if (is_peer(kind) || is(kind, "slash")) && !id.is_empty() => channel(head),
        [_, kind, id, ..] if (is(kind, "direct") || is(kind, "dm")) && !id.is_empty() => {
            channel(head)
        }
        [_, ..] => known_channel(head),
        [] => None,
    }
}

fn is_peer(kind: &str) -> bool {
    ["direct", "dm", "group", "channel"]
        .iter()
        .any(|known| is(kind, known))
}

fn is(part: &str, word: &str) -> bool {
    part.eq_ignore_ascii_case(word)
}

fn named(text: &str) -> Option<String> {
    let text = text.trim();
    (!text.is_empty()).then(|| identity::name(text))
}

/// Validates a channel's name. Gateways write triggers and `unknown` into this field; those are not channels. A name
/// has a letter.
pub(crate) fn channel(text: &str) -> Option<String> {
    let name = identity::word(&text.trim().to_ascii_lowercase())?;
    let has_letter = name.bytes().any(|b| b.is_ascii_alphabetic());
    (has_letter && trigger_of(&name).is_none() && !is(&name, "unknown")).then_some(name)
}

fn known_channel(text: &str) -> Option<String> {
    channel(text).filter(|name| CHANNELS.contains(&name.as_str()))
}
