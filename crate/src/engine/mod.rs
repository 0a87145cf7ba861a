//! The engine: events in, requests and log lines out.

pub(crate) mod address;
pub mod brake;
mod collector;
mod disk;
mod exposition;
mod final_calls;
pub mod incidents;
mod joining;
pub mod log;
mod messages;
mod prices;
mod recover;
mod sending;
pub mod settings;
mod spool;
pub mod status;
pub mod store;
mod totals;

use std::collections::VecDeque;

use indexmap::IndexMap;
use serde::Serialize;

pub use self::exposition::HostDrops;
use crate::activity::records::Record;
use crate::activity::reporter::Reporter;
use crate::activity::sessions::Sessions;
use crate::activity::turns::Turns;
use crate::delivery::calls::Calls;
use crate::delivery::collector::Collector;
use crate::delivery::records::Records;
use crate::delivery::webhook::Webhook;
use crate::domain::call::{CallId, Outcome};
use crate::domain::observation::Observation;
use crate::domain::time::Now;
use crate::engine::log::{Level, Log, LogLine, counted};
use crate::engine::settings::{RawSettings, Settings};
use crate::engine::status::{Counts, Status};
use crate::journal::Frame;
use crate::journal::Journal;
use crate::matching::{Matcher, key_of_call};
use crate::sources::facts::Scalar;
use crate::sources::{Event, Reject, SOURCES, SessionEvent, SessionFacts};
use crate::spending::history::History;
use totals::Deferred;

/// Bookmark of the surfaces that calls wait for; see [`crate::matching::Matcher::take_awaited`].
const AWAITED: &str = "/awaited";
/// Maximum number of calls that wait for a receiver in memory, at about 500 bytes each; further ones wait on disk.
const MAX_WAITING: usize = 4_096;
/// The same while the disk fails.
const MAX_WAITING_WITHOUT_DISK: usize = 16_384;
/// Number of traces that one round makes, unless a quarter of the ended turns is more: when a busy gateway becomes
/// idle, hundreds of turns end together.
const MAX_TRACES: usize = 64;

/// Instructions for the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Advice {
    /// When to call again, in ms; `None` means at the next event.
    pub wake_in_ms: Option<u64>,
    /// Lines to log.
    pub log: Vec<LogLine>,
}

/// Whether and how the gateway stops.
#[derive(Debug, Default, PartialEq, Eq)]
enum Closing {
    #[default]
    No,
    /// It stops, and pending calls stay in the journal.
    Kept,
    /// It stops, and no later instance continues.
    All,
}

/// One gateway's engine.
#[derive(Debug)]
pub struct Engine {
    settings: Settings,
    matcher: Matcher,
    calls: Calls,
    sessions: Sessions,
    turns: Turns,
    reporter: Reporter,
    records: Records,
    records_in_flight: bool,
    collector: Option<Collector>,
    deferred: VecDeque<(u64, Deferred)>,
    journal: Journal,
    disk: disk::Disk,
    store: store::Store,
    bookmarks: IndexMap<String, String>,
    reconciled_ms: Option<u64>,
    prices: prices::Prices,
    braking: brake::Braking,
    history: History,
    exposition: Option<exposition::Exposition>,
    incidents: incidents::Incidents,
    log: Log,
    counts: Counts,
    closing: Closing,
    has_llm_output: bool,
    /// Numbers of lost calls and other records in the last log line.
    logged_losses: (u64, u64),
}

impl Engine {
    /// Creates an engine and validates its settings; `seed` must differ between processes.
    pub fn new(raw: &RawSettings, seed: u64) -> Self {
        let (settings, problems) = Settings::validate(raw);
        let mut engine = Self {
            calls: Calls::new(&settings, seed.rotate_left(32)),
            matcher: Matcher::new(seed),
            sessions: Sessions::default(),
            turns: Turns::new(!seed),
            reporter: Reporter::new(seed.rotate_left(16)),
            records: Records::new(settings.flush_interval_ms, seed.rotate_left(48)),
            records_in_flight: false,
            collector: None,
            deferred: VecDeque::new(),
            journal: Journal::new(settings.journal_max_bytes),
            disk: disk::Disk::default(),
            store: store::Store::default(),
            bookmarks: IndexMap::new(),
            reconciled_ms: None,
            prices: prices::Prices::default(),
            braking: brake::Braking::new(settings.allowances.clone()),
            history: History::default(),
            exposition: settings.metrics_port.map(|_| Default::default()),
            incidents: incidents::Incidents::new(
                (settings.has_alarm, settings.zone.clone()),
                settings
                    .webhook
                    .clone()
                    .map(|target| Webhook::new(target, seed.rotate_left(24))),
            ),
            log: Log::default(),
            counts: Counts::default(),
            closing: Closing::default(),
            has_llm_output: false,
            logged_losses: (0, 0),
            settings,
        };
        for problem in problems {
            engine.log.add(Level::Warn, problem, 0);
        }
        engine
    }

    /// The server's address and the token for the authorization header.
    pub fn target(&self) -> Option<(&str, Option<&str>)> {
        let url = self.settings.url.as_deref()?;
        Some((url, self.settings.token.as_ref().map(|t| t.expose())))
    }

    /// The port of `/metrics`, where it is served.
    pub fn metrics_port(&self) -> Option<u16> {
        self.settings.metrics_port
    }

    /// Sets whether the gateway's diagnostics are received.
    pub fn expect_diagnostics(&mut self, expected: bool) {
        self.matcher.expect_diagnostics(expected);
    }

    /// Takes in one event. `source` is an index into [`SOURCES`]. Never fails: an unreadable event is counted by its
    /// reason, which is also returned.
    pub fn observe(&mut self, source: usize, facts: Vec<Scalar>, now: Now) -> Option<&'static str> {
        match self.read(source, facts, now) {
            Ok(event) => {
                self.take(event, now);
                self.note_event(now);
                None
            }
            Err(reason) => Some(reason),
        }
    }

    fn read(&mut self, source: usize, facts: Vec<Scalar>, now: Now) -> Result<Event, &'static str> {
        if let Some(table) = SOURCES.get(source) {
            self.counts.seen.add(table.source);
        }
        match crate::sources::read(source, facts, now.wall_ms) {
            Ok(mut event) => {
                event.hash_identities(&self.settings.identities);
                Ok(event)
            }
            Err(Reject { source, reason }) => {
                self.counts.rejected.add_pair(source, reason);
                Err(reason)
            }
        }
    }

    fn take(&mut self, event: Event, now: Now) {
        match event {
            Event::Call(observation) => self.take_call(*observation, now),
            Event::Session(facts) => self.session(facts, now),
            Event::Attributes(facts) => {
                self.tell_owner(|| Frame::Facts(Box::new(facts.clone())));
                self.sessions.learn(facts);
            }
            Event::Aggregate(aggregate) => self.defer(Deferred::Compare(aggregate), now),
            Event::SessionComplete(totals) => {
                for total in &totals.models {
                    let (provider, model) = crate::sources::split_model(&total.model);
                    self.prices.want(&provider, &model);
                }
                self.defer(Deferred::Complete(totals), now);
            }
            Event::DiagnosticsDropped(count) => self.diagnostics_dropped(count, now),
            Event::Conversation(conversation) => self.conversation(&conversation, now),
            Event::TurnBegan {
                session_key,
                agent,
                job,
                trigger,
            } => {
                let trigger = trigger.or(job.as_ref().map(|_| "cron".to_owned()));
                self.watch_person(&session_key, trigger.as_deref(), true, now);
                let agent = agent.as_deref();
                self.sessions.begin_turn(&session_key, job);
                self.turns
                    .begin(&session_key, None, agent, now.wall_ms, now);
            }
            Event::Message(message) => self.message(&message, now),
            Event::History {
                session_key,
                is_reset,
            } => self.watch_history(&session_key, is_reset, now),
            Event::Loop(found) => self.watch_loop(&found, now),
            Event::Command(command) => {
                if let (Some(session), "new" | "reset") = (&command.session_key, &*command.name) {
                    self.watch_history(session, true, now);
                }
                let record = self.reporter.command(&command, &self.settings, now);
                self.report(&record, now);
                let meta = Reporter::command_meta(&command, &self.settings);
                let trace = self
                    .turns
                    .command_trace(&self.settings, &command.name, meta, now);
                self.report(&Record::Trace(Box::new(trace)), now);
            }
            Event::Tool(tool) => {
                if tool.end.is_none() {
                    let key = &tool.session_key;
                    self.sessions.tool_began(key, &tool.name, now.wall_ms);
                }
                self.turns.tool(&tool, now);
                if let Some((_, has_failed)) = tool.end {
                    self.watch_tool(&tool.session_key, &tool.name, has_failed, now);
                }
            }
            Event::Progress(progress) => self.turns.progress(&progress, now),
            Event::SessionEvent(session_event) => {
                if session_event.is_compaction() {
                    self.watch_history(&session_event.session_key, false, now);
                }
                let record = self
                    .reporter
                    .session_event(&session_event, &self.settings, now);
                self.report(&record, now);
            }
            Event::Cron(run) => {
                let record = self.reporter.cron(&run, &self.settings, now);
                self.report(&record, now);
            }
            Event::GatewayStopping => self.closing = Closing::Kept,
            Event::GatewayStarted => self.gateway_started(now),
            Event::Passed(path) => self.passed(path),
            Event::Ignored(why) => self.counts.ignored.add(why),
        }
    }

    fn take_call(&mut self, mut observation: Observation, now: Now) {
        if observation.surface.is_stored() && !self.is_gap(&observation) {
            return;
        }
        observation.call_key = observation.call_key.or_else(|| key_of_call(&observation));
        // Another process knows its runs itself.
        if !observation.elsewhere {
            self.sessions.attribute(&mut observation);
        }
        let ended_turn = observation
            .session_key
            .clone()
            .filter(|_| observation.ends_turn);
        let has_failed = observation.outcome == Outcome::Failed;
        self.prices.want_all(&observation);
        self.watch_observation(&observation, now);
        let for_journal = observation.clone();
        let Some(id) = self.matcher.observe(observation, now) else {
            return;
        };
        self.hold_reported(id, &for_journal, now);
        self.note_seen(id, for_journal);
        if let Some(session) = ended_turn {
            self.turns.answered(&session, has_failed, now);
        }
    }

    fn take_history(&mut self, mut observation: Observation, now: Now) {
        observation.call_key = observation.call_key.or_else(|| key_of_call(&observation));
        self.prices.want_all(&observation);
        let for_journal = observation.clone();
        if let Some(id) = self.matcher.observe_history(observation, now) {
            self.note_seen(id, for_journal);
        }
    }

    fn note_seen(&mut self, id: CallId, for_journal: Observation) {
        self.counts.broken_usage += u64::from(for_journal.broken_usage);
        let frame = Frame::Seen(id, Box::new(for_journal));
        self.journal.note(&frame);
        self.tell_owner(|| frame);
    }

    /// Whether a row of the session store can be matched, or be counted as a call of its own.
    fn is_gap(&mut self, row: &Observation) -> bool {
        if !self.matcher.is_matchable(row.ended_ms) {
            self.counts.ignored.add("stored_unmatchable");
            return false;
        }
        true
    }

    fn session(&mut self, facts: SessionFacts, now: Now) {
        self.watch_session(&facts, now);
        if let Some(what) = facts.what {
            let session_event = SessionEvent {
                what,
                session_key: facts.session_key.clone(),
                reason: facts.reason.clone(),
            };
            let record = self
                .reporter
                .session_event(&session_event, &self.settings, now);
            self.report(&record, now);
        } else if facts.ends_run {
            self.turns.finish(&facts.session_key, now);
            self.end_of_run(&facts.session_key);
        } else {
            let agent = facts.agent.as_deref();
            let run_id = facts.run_id.as_deref();
            self.turns.begin_run(&facts.session_key, run_id, agent, now);
        }
        self.tell_owner(|| Frame::Facts(Box::new(facts.clone())));
        self.sessions.learn(facts);
    }

    /// Reported once per process: two hooks and several registrations report the same start.
    fn gateway_started(&mut self, now: Now) {
        for record in self.reporter.gateway_started(&self.settings, now) {
            self.report(&record, now);
        }
    }

    /// Does the work that is due. Call it after events, after replies, and when the last advice says so.
    pub fn advance(&mut self, now: Now) -> Advice {
        self.settle_due(now);
        self.enrich(now);
        self.run_deferred(now, false);
        self.end_turns(now, false);
        self.tick_incidents(now);
        self.look_at_allowances(now);
        self.acknowledge_taken();
        self.write_due(now);
        self.look_for_collector(now, false);
        self.log_losses(now);
        Advice {
            wake_in_ms: self.next_due().map(|at| at.saturating_sub(now.mono_ms)),
            log: self.log.take(),
        }
    }

    /// Makes the calls final that are due. [`Engine::advance`] writes them.
    fn settle_due(&mut self, now: Now) {
        // This process may have been away for longer than a call waits: what a proxy told meanwhile comes first. It may have
        // lost the journal as well: then the spool is another process's.
        if self.matcher.would_miss(now) && self.is_held() {
            self.take_spools(now);
        }
        let due = match std::mem::take(&mut self.closing) {
            Closing::No => self.matcher.due(now),
            closing => self.matcher.close(closing == Closing::Kept, now),
        };
        for settled in due {
            self.settle(settled, now);
        }
        for id in self.matcher.take_merged_turns() {
            self.costs_nothing(id);
        }
        if let Some(awaited) = self.matcher.take_awaited() {
            self.bookmark(AWAITED, &awaited);
        }
    }

    fn end_turns(&mut self, now: Now, all: bool) {
        self.turns.end(now, all);
        // The rest in the next rounds: records wait in memory until they are written.
        let share = if all { 1 } else { 4 };
        for _ in 0..MAX_TRACES.max(self.turns.ended() / share) {
            let Some(trace) = self.turns.take_trace(&self.settings) else {
                break;
            };
            self.report(&Record::Trace(Box::new(trace)), now);
        }
    }

    /// Logs the losses by reason if there are new ones.
    fn log_losses(&mut self, now: Now) {
        let calls = &self.calls.counts().dropped;
        let lost = (calls.total(), self.records.dropped.total());
        if lost == self.logged_losses {
            return;
        }
        let text = format!(
            "lost so far: {} ({}) and {} ({})",
            counted(lost.0, "call", "calls"),
            calls.in_words(),
            counted(lost.1, "other record", "other records"),
            self.records.dropped.in_words()
        );
        if self.log.add_about(Level::Warn, "lost", text, now.mono_ms) {
            self.logged_losses = lost;
        }
    }

    /// Makes calls final and counts all totals, when the gateway stops or reloads the plugin. Where the journal `keeps`
    /// pending calls, a call whose message is still to come waits for it in the next instance.
    pub fn close(&mut self, keeps: bool, now: Now) {
        self.closing = if keeps { Closing::Kept } else { Closing::All };
        let log = self.advance(now).log;
        self.run_deferred(now, true);
        self.end_turns(now, true);
        self.keep_incidents(now);
        self.log.put_back(log);
    }

    /// Takes the log lines that no advice returned.
    pub fn log_lines(&mut self) -> Vec<LogLine> {
        self.log.take()
    }

    /// The status.
    pub fn status(&self) -> Status<'_> {
        Status {
            url: self.settings.url.as_deref(),
            gateway: &self.settings.naming.gateway,
            receiver: self.calls.receiver(),
            counts: &self.counts,
            matcher: self.matcher.counts(),
            outbox: self.calls.counts(),
            open: self.matcher.open(),
            waiting: self.calls.len() + self.journal.waiting().0,
            oldest_unsent_ms: self.calls.oldest_ms(),
            forgotten: self.sessions.evicted + self.turns.evicted,
            records_waiting: self.records.len() + self.journal.waiting().1,
            journal_bytes: self.journal.bytes(),
            records_delivered: self.records.delivered,
            records_dropped: &self.records.dropped,
            otlp: self.collector.as_ref().map(Collector::status),
            incidents: self.incidents.status(),
            allowances: self.allowances(),
            brake: self.brake_status(),
        }
    }

    fn next_due(&self) -> Option<u64> {
        [
            self.matcher.next_due(),
            self.turns.next_due(),
            self.deferred.front().map(|(at, _)| *at),
            self.next_sending(),
            self.next_write(),
            self.next_for_collector(),
            self.next_for_incidents(),
            self.next_for_allowances(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    fn passed(&mut self, path: String) {
        self.tell_owner(|| Frame::Passed(path.clone()));
        let text = format!(
            "a POST to {path} was passed on and is not counted: this version does not know it as a model call; \
             the provider may bill it all the same"
        );
        if self.counts.uncounted.add(path) {
            self.log.add_once(Level::Warn, text);
        }
    }

    fn diagnostics_dropped(&mut self, count: u64, now: Now) {
        self.counts.diagnostics_dropped += count;
        self.log.add_about(
            Level::Warn,
            "diagnostics dropped",
            format!(
                "the gateway dropped {count} diagnostic events for overload; calls are counted by \
                 their messages, compactions among them may be missing"
            ),
            now.mono_ms,
        );
    }
}
