//! Cache incidents, the runaway alarm, and the webhook that reports both.
//!
//! Each incident is reported once, by a log line, a record for AgentWatch, the status and a notice for the webhook.
//! The state is journalled together with what it reports, in the same write: after a kill, an incident was reported and
//! is known, or neither. Counts that led to no report are journalled every [`NOTE_EVERY_MS`] and with the ledger's
//! snapshot. A kill forgets the later ones: an alarm may come later by them, never twice.
//!
//! Only the journal's owner has this state. Other processes' calls reach it by the spool; their tools do not.

use std::collections::VecDeque;

use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

use super::Engine;
use super::log::Level;
use crate::activity::records::Meta;
use crate::delivery::reply::Reply;
use crate::delivery::webhook::{Notice, Request, Webhook, WebhookCounts};
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

/// Figures for the status. Times in ms since 1970.
#[derive(Debug, Clone, Serialize)]
pub struct IncidentStatus<'a> {
    /// The prompt cache.
    pub cache: CacheStatus<'a>,
    /// The runaway alarm.
    pub alarm: AlarmStatus<'a>,
    /// The webhook; none where none is set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub webhook: Option<WebhookStatus<'a>>,
}

/// Figures of the prompt cache.
#[derive(Debug, Clone, Serialize)]
pub struct CacheStatus<'a> {
    /// Number of days of the sums.
    pub days: usize,
    /// USD saved by reads on these days.
    pub saved_usd: f64,
    /// USD that writes cost above the input rate on these days.
    pub extra_usd: f64,
    /// Number of incidents.
    pub incidents: u64,
    /// Sum of their known prices, in USD.
    pub lost_usd: f64,
    /// The last incidents.
    pub last: &'a VecDeque<Reported>,
}

/// Figures of the runaway alarm.
#[derive(Debug, Clone, Serialize)]
pub struct AlarmStatus<'a> {
    /// Whether it is on.
    pub on: bool,
    /// Number of alarms.
    pub count: u64,
    /// The incidents that have not ended.
    pub open: Vec<Reported>,
    /// The last alarms.
    pub last: &'a VecDeque<Reported>,
}

/// Figures of the webhook.
#[derive(Debug, Clone, Serialize)]
pub struct WebhookStatus<'a> {
    /// Scheme, host and port.
    pub origin: &'a str,
    /// Number of notices that wait.
    pub waiting: usize,
    /// See there.
    #[serde(flatten)]
    pub counts: &'a WebhookCounts,
}

/// The state, and what of it is not journalled.
#[derive(Debug)]
pub(super) struct Incidents {
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
    pub(super) fn new(has_alarm: bool, webhook: Option<Webhook>) -> Self {
        Self {
            state: State::default(),
            webhook,
            zone: TimeZone::UTC,
            has_alarm,
            reports_triggers: false,
            is_changed: false,
            noted_ms: 0,
            ticked_ms: 0,
        }
    }

    /// The frame of the state, for a snapshot.
    pub(super) fn frame(&self) -> Option<Frame> {
        (self.state != State::default()).then(|| Frame::Incidents(self.state.bytes()))
    }

    /// Restores the state. Returns whether it could be read.
    pub(super) fn restore(&mut self, bytes: &[u8]) -> bool {
        let state = postcard::from_bytes(bytes);
        let is_read = state.is_ok();
        self.state = state.unwrap_or_default();
        if self.webhook.is_none() {
            self.state.notices.clear();
        }
        is_read
    }

    pub(super) fn status(&self) -> IncidentStatus<'_> {
        let state = &self.state;
        let days = || state.cache.days.days().map(|(_, day)| day.money);
        let open = state.alarm.open().map(|incident| Reported {
            at_ms: incident.began_ms,
            text: incident.words(),
        });
        IncidentStatus {
            cache: CacheStatus {
                days: days().count(),
                saved_usd: days().map(|money| money.saved.usd()).sum(),
                extra_usd: days().map(|money| money.extra.usd()).sum(),
                incidents: state.losses.0,
                lost_usd: state.losses.1.usd(),
                last: &state.last_losses,
            },
            alarm: AlarmStatus {
                on: self.has_alarm,
                count: state.alarms,
                open: open.collect(),
                last: &state.last_alarms,
            },
            webhook: self.webhook.as_ref().map(|webhook| WebhookStatus {
                origin: webhook.origin(),
                waiting: state.notices.len(),
                counts: &webhook.counts,
            }),
        }
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
    /// Reports to the webhook, if one is set. `kind` is the notice's `type`; `meta` follows the common fields: `type`,
    /// `id`, `at`, `gateway`, `agent`, `session`. It is sent after the next write of the journal.
    pub(super) fn notify(
        &mut self,
        kind: &'static str,
        (agent, session): (Option<&str>, Option<&str>),
        meta: Meta,
        now: Now,
    ) {
        if self.incidents.webhook.is_none() || self.disk.spool.is_some() {
            return;
        }
        let common = Meta::default()
            .text("type", Some(kind))
            .text("id", Some(self.matcher.mint(now).to_string()))
            .text("at", Some(iso(now.wall_ms)))
            .text("gateway", Some(self.settings.naming.gateway.clone()))
            .text("agent", agent)
            .text("session", session);
        let body = serde_json::to_string(&common.and(meta)).unwrap_or_default();
        let notice = Notice {
            at_ms: now.wall_ms,
            body,
        };
        let Incidents { state, webhook, .. } = &mut self.incidents;
        if let Some(webhook) = webhook {
            webhook.push(&mut state.notices, notice, now.mono_ms);
        }
        self.note_incidents(now);
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
    pub(super) fn watch_call(
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
        let agent = who.agent.as_deref();
        let session = who.session.as_deref();
        let price = lost.extra.map_or("price unknown".to_owned(), |usd| {
            format!("{usd} more than reading them")
        });
        let text = format!(
            "agent {}, session {} lost {} cached tokens ({price}): {}",
            agent.unwrap_or("(none)"),
            session.unwrap_or("(none)"),
            lost.lost_tokens,
            lost.cause.words()
        );
        let is_notable = lost.extra.is_some_and(|usd| usd.usd() >= NOTABLE_USD);
        let (level, word) = match is_notable {
            true => (Level::Warn, "warn"),
            false => (Level::Info, "info"),
        };
        let mut meta = Meta::default()
            .text("cause", Some(lost.cause.word()))
            .count("lost_tokens", lost.lost_tokens)
            .number("expected_share", lost.expected_share)
            .number("share", lost.share)
            .count("idle_ms", lost.idle_ms);
        if let Some(usd) = lost.extra {
            meta = meta.number("extra_usd", usd.usd());
        }
        let state = &mut self.incidents.state;
        state.losses.0 += 1;
        state.losses.1 = state.losses.1.plus(lost.extra.unwrap_or_default());
        keep(&mut state.last_losses, lost.at_ms, &text);
        self.report_incident(
            "cache_incident",
            (level, word),
            text,
            who,
            meta,
            is_notable,
            now,
        );
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
    pub(super) fn watch_observation(&mut self, seen: &Observation, now: Now) {
        let is_answer = seen.outcome == Outcome::Completed
            && (seen.usage.is_some() || seen.surface.row().reports_answers);
        if let Some(session) = seen.session_key.as_deref().filter(|_| is_answer)
            && !seen.surface.is_stored()
        {
            self.watch(&session_of(session), Seen::Answered, now);
        }
    }

    /// Takes the end of a tool call.
    pub(super) fn watch_tool(&mut self, session: &str, name: &str, has_failed: bool, now: Now) {
        let seen = Seen::Tool { name, has_failed };
        self.watch(&session_of(session), seen, now);
    }

    /// Takes a loop of a tool that the gateway detected.
    pub(super) fn watch_loop(&mut self, found: &crate::sources::ToolLoop, now: Now) {
        let seen = Seen::Loop {
            name: &found.tool,
            detector: &found.detector,
            is_critical: found.is_critical,
            count: found.count,
        };
        self.watch(&session_of(&found.session_key), seen, now);
    }

    /// Takes facts about a session: what started a run, or how the session ended.
    pub(super) fn watch_session(&mut self, facts: &SessionFacts, now: Now) {
        let session = &facts.session_key;
        if let (Some(trigger), false) = (&facts.trigger, facts.ends_run) {
            self.incidents.reports_triggers = true;
            if trigger == "user" {
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
    pub(super) fn watch_person(
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
    pub(super) fn watch_history(&mut self, session: &str, is_reset: bool, now: Now) {
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
                true => ("alarm_began", (Level::Warn, "warn")),
                false => ("alarm_ended", (Level::Info, "info")),
            };
            let who = Who {
                agent: incident.agent.clone(),
                session: incident.session.clone(),
                ..Who::default()
            };
            let meta = meta_of(incident);
            self.report_incident(kind, level, text, &who, meta, true, now);
        }
        if !had_none {
            let is_open = self.incidents.state.alarm.open().next().is_some();
            let record = self.reporter.spending_health(is_open, &self.settings, now);
            self.report(&record, now);
        }
    }

    #[allow(clippy::too_many_arguments, reason = "one report has all of these")]
    fn report_incident(
        &mut self,
        kind: &'static str,
        (level, word): (Level, &'static str),
        text: String,
        who: &Who,
        meta: Meta,
        is_notice: bool,
        now: Now,
    ) {
        let (agent, session) = (who.agent.as_deref(), who.session.as_deref());
        let of_record = Meta::default()
            .text("type", Some(kind))
            .text("session_key", session)
            .and(meta.clone());
        let record =
            self.reporter
                .incident(word, text.clone(), of_record, agent, &self.settings, now);
        self.report(&record, now);
        let of_notice = Meta::default()
            .text("message", Some(text.clone()))
            .and(meta);
        match is_notice && self.incidents.webhook.is_some() {
            true => self.notify(kind, (agent, session), of_notice, now),
            false => self.note_incidents(now),
        }
        self.log.add(level, text, now.mono_ms);
    }

    /// Ends incidents by time, and journals changes that led to no report.
    pub(super) fn tick_incidents(&mut self, now: Now) {
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
    pub(super) fn next_for_incidents(&self) -> Option<u64> {
        let Incidents { state, webhook, .. } = &self.incidents;
        let has_open = state.alarm.open().next().is_some();
        let tick = has_open.then_some(self.incidents.ticked_ms + TICK_MS);
        let send = webhook.as_ref();
        let send = send.and_then(|webhook| webhook.next_due(&state.notices));
        [tick, send].into_iter().flatten().min()
    }

    /// The next due request to the webhook; `hurry` skips the backoff.
    pub fn begin_webhook(&mut self, now: Now, hurry: bool) -> Option<Request> {
        if self.incidents.state.notices.is_empty() || self.is_lost() || self.disk.spool.is_some() {
            return None;
        }
        // A notice is on disk before it is sent, unless the disk fails.
        if self.disk.takes() && self.journal.has_changes() {
            self.flush(now);
        }
        let Incidents { state, webhook, .. } = &mut self.incidents;
        webhook.as_mut()?.begin(&mut state.notices, now, hurry)
    }

    /// Takes the reply to the last request to the webhook.
    pub fn answered_webhook(&mut self, reply: &Reply, now: Now) {
        let Incidents { state, webhook, .. } = &mut self.incidents;
        let Some(webhook) = webhook else {
            return;
        };
        let notices = &mut state.notices;
        if webhook.answered(notices, reply, &mut self.log, now.mono_ms) {
            self.note_incidents(now);
        }
    }
}

/// An alarm's fields. Both reports of an incident have the same `incident`.
fn meta_of(incident: &Incident) -> Meta {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let id = key_of(&[
        incident.kind.word(),
        &text(&incident.agent),
        &text(&incident.session),
        &text(&incident.job),
        &text(&incident.tool),
        &incident.began_ms.to_string(),
    ]);
    let mut meta = Meta::default()
        .text("incident", Some(hex(id.into(), *b"0000000000000000")))
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
