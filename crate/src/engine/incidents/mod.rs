//! Cache incidents, the runaway alarm, and the webhook that reports both.
//!
//! Each incident is reported once, by a log line, a record for AgentWatch, the status and a notice for the webhook.
//! The state is journalled in the same write as a reported alarm: after a kill, the alarm was reported and is known, or
//! neither. A cache incident is reported with its call, which becomes final once. Other changes are journalled every
//! [`NOTE_EVERY_MS`] and with the ledger's snapshot. A kill forgets the later ones: an alarm may come later by them,
//! never twice.
//!
//! The state and the entry of a call are in two files. A kill between these writes leaves a call in the state that is
//! not final, so it is counted again: its cost is twice in the sum of one stream's hour. That reports nothing twice: a
//! write with a report has its incident as open, and a call that follows itself lost no cached tokens.
//!
//! Only the journal's owner has this state. Other processes' calls reach it by the spool; their tools do not.

mod notices;
pub mod status;

use std::collections::VecDeque;

use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

use super::Engine;
use super::log::Level;
use crate::activity::records::Meta;
use crate::delivery::webhook::{Notice, Webhook};
use crate::domain::call::{ModelCall, Outcome};
use crate::domain::identity::{hex, key_of};
use crate::domain::observation::Observation;
use crate::domain::time::{Now, iso};
use crate::journal::Frame;
use crate::sources::SessionFacts;
use crate::spending::Nano;
use crate::spending::alarm::{Alarm, Incident, Seen, Told};
use crate::spending::cache::{self, Cache};
use crate::spending::who::Who;

/// A cache incident from this price on is logged as a warning and reported to the webhook, in USD. Cheaper ones are
/// ordinary: each pause beyond the cache's life makes one.
pub const NOTABLE_USD: f64 = 0.05;
/// A call that ended longer ago is history: it is no part of the present hour's spend, in ms.
const LATE_MS: u64 = 15 * 60_000;
/// How long changes that led to no report stay unjournalled, in ms.
const NOTE_EVERY_MS: u64 = 5 * 60_000;
/// How often the end of an open incident is looked for, in ms.
const TICK_MS: u64 = 30_000;
/// The `type` of a cache incident.
const CACHE_INCIDENT: &str = "cache_incident";
/// Number of incidents in the status.
const LAST: usize = 5;

/// An incident in the status.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reported {
    /// When, in ms since 1970.
    pub at_ms: u64,
    /// Text for users.
    pub text: String,
}

/// The state in the journal, as postcard writes it. A state that cannot be read is replaced by an empty one.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct State {
    cache: Cache,
    alarm: Alarm,
    /// Number of cache incidents, and the sum of their known prices.
    losses: (u64, Nano),
    /// Number of alarms.
    alarms: u64,
    last_losses: VecDeque<Reported>,
    last_alarms: VecDeque<Reported>,
    notices: VecDeque<Notice>,
}

impl State {
    /// The bytes of the journal's frame.
    pub fn bytes(&self) -> Vec<u8> {
        // The state has only types that postcard supports, so encoding cannot fail.
        postcard::to_allocvec(self).unwrap_or_default()
    }
}

/// A report of an incident.
struct Report {
    /// Its `type`.
    kind: &'static str,
    /// Identifies the incident among those of its kind.
    about: String,
    level: Level,
    text: String,
    /// Whether it goes to the webhook.
    is_notice: bool,
}

/// The state, and what of it is not journalled.
#[derive(Debug)]
pub(in crate::engine) struct Incidents {
    state: State,
    webhook: Option<Webhook>,
    zone: TimeZone,
    has_alarm: bool,
    /// Whether the gateway reports what started a run. If not, a stored user's message stands for a person's.
    reports_triggers: bool,
    is_changed: bool,
    noted_ms: u64,
    ticked_ms: u64,
}

impl Incidents {
    pub(in crate::engine) fn new(
        (has_alarm, zone): (bool, TimeZone),
        webhook: Option<Webhook>,
    ) -> Self {
        Self {
            state: State::default(),
            webhook,
            zone,
            has_alarm,
            reports_triggers: false,
            is_changed: false,
            noted_ms: 0,
            ticked_ms: 0,
        }
    }

    /// The frame of the state, for a snapshot.
    pub(in crate::engine) fn frame(&self) -> Option<Frame> {
        (self.state != State::default()).then(|| Frame::Incidents(self.state.bytes()))
    }

    /// Restores the state. Returns whether it could be read.
    pub(in crate::engine) fn restore(&mut self, bytes: &[u8]) -> bool {
        let state = postcard::from_bytes(bytes);
        let is_read = state.is_ok();
        // Notices stay where this process has no webhook: the next one may have the secret. They are sent for a day.
        self.state = state.unwrap_or_default();
        is_read
    }
}

fn keep(last: &mut VecDeque<Reported>, at_ms: u64, text: &str) {
    if last.len() >= LAST {
        last.pop_front();
    }
    last.push_back(Reported {
        at_ms,
        text: text.to_owned(),
    });
}

/// Attribution of an event of a session.
fn session_of(session: &str) -> Who {
    Who {
        agent: crate::sources::agent_of(Some(session)),
        session: Some(session.to_owned()),
        ..Who::default()
    }
}

impl Engine {
    /// Journals changes that led to no report, before the journal gets another owner.
    pub(in crate::engine) fn keep_incidents(&mut self, now: Now) {
        if self.incidents.is_changed && self.disk.spool.is_none() {
            self.note_incidents(now);
        }
    }

    /// Journals the state.
    fn note_incidents(&mut self, now: Now) {
        self.journal
            .note(&Frame::Incidents(self.incidents.state.bytes()));
        self.incidents.is_changed = false;
        self.incidents.noted_ms = now.mono_ms;
    }

    /// Takes a final call into the sums. `began_ms` and `write_1h` are those of the call; `is_sum` marks several
    /// requests, whose cached tokens say nothing about the next call.
    pub(in crate::engine) fn watch_call(
        &mut self,
        call: &ModelCall,
        (write_1h, is_sum): (u64, bool),
        now: Now,
    ) {
        let is_late = now.wall_ms.saturating_sub(call.ended_ms) > LATE_MS;
        if is_late || self.disk.spool.is_some() {
            return;
        }
        let who = call.who();
        if call.outcome == Outcome::Failed {
            self.watch(&who, Seen::Retry, now);
        }
        if call.is_request() {
            let usd = Nano::of_usd(call.cost.usd);
            self.watch(&who, Seen::Call { usd }, now);
        }
        let (Some(session), Some(usage), false) = (&call.session_key, call.usage, is_sum) else {
            return;
        };
        let took = call.latency.map_or(0.0, |latency| latency.ms) as u64;
        let of_cache = cache::Call {
            session,
            model: &format!("{}/{}", call.provider, call.model),
            usage,
            write_1h,
            began_ms: call.ended_ms.saturating_sub(took),
            ended_ms: call.ended_ms,
            fixed_chars: call.prompt.map(|prompt| prompt.fixed()),
            rates: self.prices.rates(call),
        };
        let Incidents { state, zone, .. } = &mut self.incidents;
        let lost = state.cache.call(&of_cache, zone);
        self.incidents.is_changed = true;
        if let Some(lost) = lost {
            self.report_loss(&who, &lost, now);
        }
    }

    fn report_loss(&mut self, who: &Who, lost: &cache::Incident, now: Now) {
        let whose = |name: &Option<String>| name.clone().unwrap_or("(none)".to_owned());
        let price = lost.extra.map_or("price unknown".to_owned(), |usd| {
            format!("{usd} more than reading them")
        });
        let text = format!(
            "agent {}, session {} lost {} cached tokens ({price}): {}",
            whose(&who.agent),
            whose(&who.session),
            lost.lost_tokens,
            lost.cause.words()
        );
        let state = &mut self.incidents.state;
        state.losses.0 += 1;
        state.losses.1 = state.losses.1.plus(lost.extra.unwrap_or_default());
        keep(&mut state.last_losses, lost.at_ms, &text);
        let is_notable = lost.extra.is_some_and(|usd| usd.usd() >= NOTABLE_USD);
        let level = match is_notable {
            true => Level::Warn,
            false => Level::Info,
        };
        // A provider that never reads what it wrote makes an incident of each call.
        let about = match is_notable {
            true => text.clone(),
            false => format!("cache {} {}", lost.cause.word(), whose(&who.session)),
        };
        if !self.log.add_about(level, &about, text.clone(), now.mono_ms) && !is_notable {
            return;
        }
        let mut meta = Meta::default()
            .text("cause", Some(lost.cause.word()))
            .count("lost_tokens", lost.lost_tokens)
            .number("expected_share", lost.expected_share)
            .number("share", lost.share)
            .count("idle_ms", lost.idle_ms);
        if let Some(usd) = lost.extra {
            meta = meta.number("extra_usd", usd.usd());
        }
        let report = Report {
            kind: CACHE_INCIDENT,
            about: format!("{} {}", lost.at_ms, whose(&who.session)),
            level,
            text,
            is_notice: is_notable,
        };
        self.report_incident(report, who, meta, now);
    }

    /// Takes an event of a session into the alarm.
    fn watch(&mut self, who: &Who, seen: Seen, now: Now) {
        if !self.incidents.has_alarm || self.disk.spool.is_some() {
            return;
        }
        let Incidents { state, zone, .. } = &mut self.incidents;
        let told = state.alarm.see(who, seen, now.wall_ms, zone);
        self.incidents.is_changed = true;
        self.report_alarms(told, now);
    }

    /// Takes an observation of a call into the alarm, before the call is final: its tools fail before that.
    pub(in crate::engine) fn watch_observation(&mut self, seen: &Observation, now: Now) {
        let is_answer = seen.outcome == Outcome::Completed
            && (seen.usage.is_some() || seen.surface.row().reports_answers);
        if let Some(session) = seen.session_key.as_deref().filter(|_| is_answer)
            && !seen.surface.is_stored()
        {
            self.watch(&session_of(session), Seen::Answered, now);
        }
    }

    /// Takes the end of a tool call.
    pub(in crate::engine) fn watch_tool(
        &mut self,
        session: &str,
        name: &str,
        has_failed: bool,
        now: Now,
    ) {
        let seen = Seen::Tool { name, has_failed };
        self.watch(&session_of(session), seen, now);
    }

    /// Takes a loop of a tool that the gateway detected.
    pub(in crate::engine) fn watch_loop(&mut self, found: &crate::sources::ToolLoop, now: Now) {
        let seen = Seen::Loop {
            name: &found.tool,
            detector: &found.detector,
            is_critical: found.is_critical,
            count: found.count,
        };
        self.watch(&session_of(&found.session_key), seen, now);
    }

    /// Takes facts about a session: what started a run, or how the session ended.
    pub(in crate::engine) fn watch_session(&mut self, facts: &SessionFacts, now: Now) {
        let session = &facts.session_key;
        if let (Some(trigger), false) = (&facts.trigger, facts.ends_run) {
            self.incidents.reports_triggers = true;
            // 2026.9 reports each retry as the start of the same run.
            let run_id = facts.run_id.as_deref();
            let is_retry = run_id.is_some_and(|run| self.sessions.is_last_run(session, run));
            if trigger == "user" && !is_retry {
                self.watch(&session_of(session), Seen::Person, now);
            }
        }
        if facts.ended {
            match facts.reason.as_deref() {
                // A restarted gateway continues the session.
                Some("shutdown" | "restart" | "unknown") => {}
                Some("compaction") => self.watch_history(session, false, now),
                _ => self.watch_history(session, true, now),
            }
        }
    }

    /// Takes a user's message. `is_stored`: the gateway stored it, which it also does with a cron job's or a heartbeat's
    /// prompt; `trigger` is that of the session's key.
    pub(in crate::engine) fn watch_person(
        &mut self,
        session: &str,
        trigger: Option<&str>,
        is_stored: bool,
        now: Now,
    ) {
        if !(is_stored && self.incidents.reports_triggers) && trigger.is_none() {
            self.watch(&session_of(session), Seen::Person, now);
        }
    }

    /// Takes a change of a session's history.
    pub(in crate::engine) fn watch_history(&mut self, session: &str, is_reset: bool, now: Now) {
        let cache = &mut self.incidents.state.cache;
        match is_reset {
            true => cache.reset(session, now.wall_ms),
            false => cache.compacted(session, now.wall_ms),
        }
        self.incidents.is_changed = true;
    }

    fn report_alarms(&mut self, told: Vec<Told>, now: Now) {
        let had_none = told.is_empty();
        for told in told {
            let (incident, is_begin) = match &told {
                Told::Began(incident) => (incident, true),
                Told::Ended(incident) => (incident, false),
            };
            let text = match is_begin {
                true => incident.words(),
                false => format!("over: {}", incident.words()),
            };
            let state = &mut self.incidents.state;
            if is_begin {
                state.alarms += 1;
                keep(&mut state.last_alarms, incident.began_ms, &text);
            }
            let (kind, level) = match is_begin {
                true => ("alarm_began", Level::Warn),
                false => ("alarm_ended", Level::Info),
            };
            let who = Who {
                agent: incident.agent.clone(),
                session: incident.session.clone(),
                ..Who::default()
            };
            let meta = meta_of(incident);
            self.log.add(level, text.clone(), now.mono_ms);
            let report = Report {
                kind,
                about: id_of(incident),
                level,
                text,
                is_notice: true,
            };
            self.report_incident(report, &who, meta, now);
        }
        if !had_none {
            let is_open = self.incidents.state.alarm.open().next().is_some();
            let record = self.reporter.spending_health(is_open, &self.settings, now);
            self.report(&record, now);
        }
    }

    /// Reports to AgentWatch, and to the webhook where it is a notice. A notice's state is journalled with it.
    fn report_incident(&mut self, report: Report, who: &Who, meta: Meta, now: Now) {
        let (agent, session) = (who.agent.as_deref(), who.session.as_deref());
        let of_record = Meta::default()
            .text("type", Some(report.kind))
            .text("session_key", session)
            .and(meta.clone());
        let level = match report.level {
            Level::Warn => "warn",
            Level::Info => "info",
        };
        let text = report.text.clone();
        let settings = &self.settings;
        let record = self
            .reporter
            .incident(level, text, of_record, agent, settings, now);
        self.report(&record, now);
        if !report.is_notice {
            return;
        }
        let of_notice = Meta::default().text("message", Some(report.text)).and(meta);
        match self.incidents.webhook.is_some() {
            true => {
                let of_kind = (report.kind, &*report.about);
                self.notify(of_kind, (agent, session), of_notice, now);
            }
            // It is reported with its call, which becomes final once; the state follows a little later.
            false if report.kind == CACHE_INCIDENT => self.incidents.is_changed = true,
            false => self.note_incidents(now),
        }
    }

    /// Ends incidents by time, and journals changes that led to no report.
    pub(in crate::engine) fn tick_incidents(&mut self, now: Now) {
        if self.disk.spool.is_some() {
            return;
        }
        if now.mono_ms.saturating_sub(self.incidents.ticked_ms) >= TICK_MS {
            self.incidents.ticked_ms = now.mono_ms;
            let Incidents { state, zone, .. } = &mut self.incidents;
            let told = state.alarm.tick(now.wall_ms, zone);
            self.report_alarms(told, now);
        }
        let unnoted_ms = now.mono_ms.saturating_sub(self.incidents.noted_ms);
        if self.incidents.is_changed && unnoted_ms >= NOTE_EVERY_MS {
            self.note_incidents(now);
        }
    }

    /// When work is due, in ms of the monotonic clock.
    pub(in crate::engine) fn next_for_incidents(&self) -> Option<u64> {
        let Incidents { state, webhook, .. } = &self.incidents;
        let has_open = state.alarm.open().next().is_some();
        let tick = has_open.then_some(self.incidents.ticked_ms + TICK_MS);
        let send = webhook.as_ref();
        let send = send.and_then(|webhook| webhook.next_due(&state.notices));
        [tick, send].into_iter().flatten().min()
    }
}

/// The id of an incident, the same at its begin and its end.
fn id_of(incident: &Incident) -> String {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let id = key_of(&[
        incident.kind.word(),
        &text(&incident.agent),
        &text(&incident.session),
        &text(&incident.job),
        &text(&incident.tool),
        &incident.began_ms.to_string(),
    ]);
    hex(id.into(), *b"0000000000000000")
}

/// An alarm's fields. Both reports of an incident have the same `incident`.
fn meta_of(incident: &Incident) -> Meta {
    let mut meta = Meta::default()
        .text("incident", Some(id_of(incident)))
        .text("kind", Some(incident.kind.word()))
        .text("began", Some(iso(incident.began_ms)))
        .text("trigger", incident.trigger.clone())
        .text("job", incident.job.clone())
        .text("tool", incident.tool.clone());
    if incident.count > 0 {
        meta = meta.count("count", incident.count);
    }
    if incident.usd > Nano(0) {
        meta = meta.number("usd", incident.usd.usd());
    }
    if let Some(usual) = incident.usual {
        meta = meta.number("usual_usd", usual.usd());
    }
    meta
}
