//! Makes logs, metrics, health and cron records of a gateway's events: the records of the earlier hook, without
//! content.

use std::collections::VecDeque;

use crate::activity::records::{CronRecord, HealthRecord, LogRecord, Meta, MetricRecord, Record};
use crate::domain::call::{IdMint, ModelCall, Outcome};
use crate::domain::identity::{name, word};
use crate::domain::time::{Now, iso};
use crate::engine::brake::{AllowanceStatus, number, then};
use crate::engine::settings::Settings;
use crate::sources::{Command, CronRun, Direction, Message, SessionEvent};
use crate::spending::allowance::{Stop, Warning};
use crate::spending::settings::Limit;

/// Maximum age of a received message that a reply is paired with, in ms.
const PENDING_MS: u64 = 600_000;
/// Maximum number of conversations that wait for a reply.
const MAX_PENDING: usize = 1_024;

/// The records of a message.
#[derive(Debug)]
pub struct MessageReport {
    /// Logs and metrics.
    pub records: Vec<Record>,
    /// Attributes for the delivery's span.
    pub meta: Meta,
    /// When the message that this one answers was received, in ms since 1970.
    pub received_ms: Option<u64>,
}

/// Makes records.
#[derive(Debug)]
pub struct Reporter {
    mint: IdMint,
    pending: VecDeque<(String, Now)>,
    has_started: bool,
}

impl Reporter {
    /// Creates a reporter; `seed` must differ between processes.
    pub fn new(seed: u64) -> Self {
        Self {
            mint: IdMint::new(seed),
            pending: VecDeque::new(),
            has_started: false,
        }
    }

    /// Records for the gateway's start; empty for repeated reports.
    pub fn gateway_started(&mut self, settings: &Settings, now: Now) -> Vec<Record> {
        if std::mem::replace(&mut self.has_started, true) {
            return Vec::new();
        }
        let agent_name = settings.naming.agent(None);
        let metadata = Meta::default().text("gateway", Some(settings.naming.gateway.clone()));
        let health = HealthRecord {
            name: "gateway",
            agent_name,
            status: "ok",
            message: "Gateway started",
            timestamp: iso(now.wall_ms),
            metadata: metadata.clone(),
        };
        let log = self.log(
            "info",
            "OpenClaw gateway started".to_owned(),
            metadata,
            None,
            settings,
            now,
        );
        vec![Record::Health(Box::new(health)), log]
    }

    /// Records for a message that was received or sent.
    pub fn message(&mut self, message: &Message, settings: &Settings, now: Now) -> MessageReport {
        let hashed = |text: &String| settings.identities.hash(text);
        let channel = name(&message.channel);
        let received = message.direction == Direction::Received;
        let peer = if received { "from" } else { "to" };
        let meta = Meta::default()
            .text(
                "direction",
                Some(if received { "inbound" } else { "outbound" }),
            )
            .text("channel", Some(channel.clone()))
            .text(peer, message.peer.as_ref().map(hashed))
            .text("conversation", message.conversation.as_ref().map(hashed))
            .flag("is_group", message.is_group)
            .text("preview", message.preview.clone());
        match message.direction {
            Direction::Received => self.received(message, (channel, meta), settings, now),
            Direction::Sent => self.sent(message, (channel, meta), settings, now),
        }
    }

    fn received(
        &mut self,
        message: &Message,
        (channel, meta): (String, Meta),
        settings: &Settings,
        now: Now,
    ) -> MessageReport {
        if let Some(conversation) = &message.conversation {
            self.pending.retain(|(known, _)| known != conversation);
            self.pending.push_back((conversation.clone(), now));
            if self.pending.len() > MAX_PENDING {
                self.pending.pop_front();
            }
        }
        let text = format!("Message received ({channel})");
        let tags = Meta::default().text("channel", Some(channel));
        MessageReport {
            records: vec![
                self.log("info", text, meta.clone(), None, settings, now),
                self.metric("messages_received", 1.0, tags, None, settings, now),
            ],
            meta,
            received_ms: None,
        }
    }

    fn sent(
        &mut self,
        message: &Message,
        (channel, meta): (String, Meta),
        settings: &Settings,
        now: Now,
    ) -> MessageReport {
        let received = message.conversation.as_ref().and_then(|conversation| {
            let index = self
                .pending
                .iter()
                .position(|(known, _)| known == conversation)?;
            let (_, at) = self.pending.remove(index)?;
            (now.mono_ms.saturating_sub(at.mono_ms) <= PENDING_MS).then_some(at)
        });
        let success = if message.success { "true" } else { "false" };
        let tags = Meta::default().text("channel", Some(channel.clone()));
        let sent = tags.clone().text("success", Some(success));
        let mut records = vec![self.metric("messages_sent", 1.0, sent, None, settings, now)];
        if let Some(at) = received {
            let took = now.mono_ms.saturating_sub(at.mono_ms) as f64;
            records.push(self.metric("response_time_ms", took, tags, None, settings, now));
        }
        if !message.success && message.has_error {
            let text = format!("Message delivery failed ({channel})");
            records.push(self.log("error", text, meta.clone(), None, settings, now));
        }
        MessageReport {
            records,
            meta: meta.flag("success", message.success),
            received_ms: received.map(|at| at.wall_ms),
        }
    }

    /// A command's attributes.
    pub fn command_meta(command: &Command, settings: &Settings) -> Meta {
        let identities = &settings.identities;
        Meta::default()
            .text("command", Some(name(&command.name)))
            .text("session_key", command.session_key.clone())
            .text("source", command.source.as_deref().and_then(word))
            .text(
                "sender",
                command
                    .sender
                    .as_ref()
                    .map(|sender| identities.hash(sender)),
            )
    }

    /// The record of a command.
    pub fn command(&mut self, command: &Command, settings: &Settings, now: Now) -> Record {
        let text = format!("Command: /{}", name(&command.name));
        let meta = Self::command_meta(command, settings);
        self.log("info", text, meta, None, settings, now)
    }

    /// The record of an event of a session.
    pub fn session_event(
        &mut self,
        session_event: &SessionEvent,
        settings: &Settings,
        now: Now,
    ) -> Record {
        let agent = crate::sources::agent_of(Some(&session_event.session_key));
        let meta = Meta::default()
            .text("session_key", Some(session_event.session_key.clone()))
            .text("reason", session_event.reason.as_deref().and_then(word));
        let text = session_event.what.to_owned();
        self.log("info", text, meta, agent.as_deref(), settings, now)
    }

    /// Records for a model call that failed or was aborted.
    pub fn model_error(&mut self, call: &ModelCall, settings: &Settings, now: Now) -> Vec<Record> {
        let model = crate::delivery::agentwatch::model_name(call, &settings.naming);
        let outcome = match call.outcome {
            Outcome::Aborted => "aborted",
            _ => "failed",
        };
        let level = if call.outcome == Outcome::Aborted {
            "warn"
        } else {
            "error"
        };
        let tags = Meta::default()
            .text("model", Some(model.clone()))
            .text("outcome", Some(outcome));
        let meta = tags.clone().text("session_key", call.session_key.clone());
        let text = format!("Model call {outcome}: {model}");
        let agent = call.agent.as_deref();
        vec![
            self.log(level, text, meta, agent, settings, now),
            self.metric("model_errors", 1.0, tags, agent, settings, now),
        ]
    }

    /// The record of a finished run of a cron job.
    pub fn cron(&mut self, run: &CronRun, settings: &Settings, now: Now) -> Record {
        Record::Cron(Box::new(CronRecord {
            id: self.mint.mint(now.wall_ms).to_string(),
            job_name: name(&run.job),
            status: run.status,
            duration_ms: run.duration_ms,
            agent_name: settings.naming.agent(run.agent.as_deref()),
            timestamp: iso(now.wall_ms),
        }))
    }

    /// The record of an incident: a cache loss, or an alarm.
    pub fn incident(
        &mut self,
        level: &'static str,
        text: String,
        meta: Meta,
        agent: Option<&str>,
        settings: &Settings,
        now: Now,
    ) -> Record {
        self.log(level, text, meta, agent, settings, now)
    }

    /// Health of the agents' spending: a warning while an alarm is open.
    pub fn spending_health(&self, is_open: bool, settings: &Settings, now: Now) -> Record {
        let (status, message) = match is_open {
            true => ("warn", "An agent runs away"),
            false => ("ok", "No agent runs away"),
        };
        Record::Health(Box::new(HealthRecord {
            name: "spending",
            agent_name: settings.naming.agent(None),
            status,
            message,
            timestamp: iso(now.wall_ms),
            metadata: Meta::default().text("gateway", Some(settings.naming.gateway.clone())),
        }))
    }

    /// The record of a warning: an allowance is spent to 80 % or 100 %.
    pub fn allowance(&mut self, warning: &Warning, settings: &Settings, now: Now) -> Record {
        let level = if warning.percent >= 100 {
            "error"
        } else {
            "warn"
        };
        let meta = allowance_meta(warning);
        let text = format!("Allowance: {}", warning.message);
        self.log(level, text, meta, None, settings, now)
    }

    /// The record of the first call that an allowance refused in a window.
    pub fn stopped(
        &mut self,
        stop: &Stop,
        agent: Option<&str>,
        settings: &Settings,
        now: Now,
    ) -> Record {
        let meta = amounts(stop.spent, stop.limit)
            .text("allowance", Some(stop.allowance.clone()))
            .flag("stopped", true)
            .text("window_end", Some(iso(stop.resets_at_ms)));
        self.log("error", stop.message.clone(), meta, agent, settings, now)
    }

    /// The record of a lift, or of its end.
    pub fn lifted(&mut self, text: String, until_ms: u64, settings: &Settings, now: Now) -> Record {
        let meta = Meta::default().text("lifted_until", Some(iso(until_ms)));
        self.log("warn", text, meta, None, settings, now)
    }

    /// The present spend of an allowance, as a gauge.
    pub fn spend(&mut self, state: &AllowanceStatus, settings: &Settings, now: Now) -> Record {
        let tags = Meta::default()
            .text("allowance", Some(state.allowance.clone()))
            .text("gateway", Some(settings.naming.gateway.clone()))
            .number("limit", state.limit)
            .text("unit", Some(state.unit))
            .text("per", Some(state.per))
            .text("then", Some(state.then))
            .text("window_start", Some(iso(state.starts_ms)))
            .text("window_end", Some(iso(state.ends_ms)));
        Record::Metric(Box::new(MetricRecord {
            id: self.mint.mint(now.wall_ms).to_string(),
            agent_name: settings.naming.agent(state.agent.as_deref()),
            name: "allowance_spent",
            value: state.spent,
            kind: "gauge",
            tags,
            timestamp: iso(now.wall_ms),
        }))
    }

    fn log(
        &mut self,
        level: &'static str,
        message: String,
        metadata: Meta,
        agent: Option<&str>,
        settings: &Settings,
        now: Now,
    ) -> Record {
        Record::Log(Box::new(LogRecord {
            id: self.mint.mint(now.wall_ms).to_string(),
            agent_name: settings.naming.agent(agent),
            level,
            message,
            timestamp: iso(now.wall_ms),
            metadata,
        }))
    }

    fn metric(
        &mut self,
        name: &'static str,
        value: f64,
        tags: Meta,
        agent: Option<&str>,
        settings: &Settings,
        now: Now,
    ) -> Record {
        Record::Metric(Box::new(MetricRecord {
            id: self.mint.mint(now.wall_ms).to_string(),
            agent_name: settings.naming.agent(agent),
            name,
            value,
            kind: "counter",
            tags,
            timestamp: iso(now.wall_ms),
        }))
    }
}

/// Spend and limit, in the unit of the limit.
fn amounts(spent: Limit, limit: Limit) -> Meta {
    let (spent_name, limit_name) = match limit {
        Limit::Usd(_) => ("spent_usd", "limit_usd"),
        Limit::Tokens(_) => ("spent_tokens", "limit_tokens"),
    };
    Meta::default()
        .number(spent_name, number(spent))
        .number(limit_name, number(limit))
}

/// Attributes of a warning.
pub fn allowance_meta(warning: &Warning) -> Meta {
    amounts(warning.spent, warning.limit)
        .text("allowance", Some(warning.allowance.clone()))
        .count("percent", warning.percent.into())
        .text("then", Some(then(warning.then)))
        .text("window_start", Some(iso(warning.window.starts_ms)))
        .text("window_end", Some(iso(warning.window.ends_ms)))
}
