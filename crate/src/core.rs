//! The whole machine: events in, requests and log lines out.

use std::collections::{HashSet, VecDeque};

use serde::Serialize;

use crate::call::{CallId, Cost, CostSource, ModelCall, Outcome};
use crate::config::{RawSettings, Settings};
use crate::extras::Extras;
use crate::facts::Scalar;
use crate::identity;
use crate::journal::{self, Frame};
use crate::ledger::{HOLD_BACK_MS, Ledger, Settled};
use crate::observe::{
    Aggregate, Conversation, Direction, Event, Happening, Message, Observation, Reject, SOURCES,
    SessionFacts, SessionTotals,
};
use crate::outbox::{Note, Outbox, Receiver, Reply, Request};
use crate::records::Record;
use crate::reporter::Reporter;
use crate::sessions::{Missing, Sessions};
use crate::status::{Counts, Status};
use crate::time::Now;
use crate::turn::Turns;
use crate::voice::{Level, LogLine, Voice};

/// The most calls that wait for a receiver in memory, at some 300 bytes each.
const MAX_WAITING: usize = 25_000;
/// The most totals that wait to be compared.
const MAX_DEFERRED: usize = 4_096;

/// What the host does next.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Advice {
    /// In how many ms to call again; `None` until the next event.
    pub wake_in_ms: Option<u64>,
    /// Lines to log.
    pub log: Vec<LogLine>,
}

/// Totals to compare or to count once the calls before them had time to be final.
#[derive(Debug)]
enum Deferred {
    Compare(Aggregate),
    Complete(SessionTotals),
}

/// One gateway's core.
#[derive(Debug)]
pub struct Core {
    settings: Settings,
    ledger: Ledger,
    outbox: Outbox,
    sessions: Sessions,
    turns: Turns,
    reporter: Reporter,
    extras: Extras,
    extras_in_flight: bool,
    deferred: VecDeque<(u64, Deferred)>,
    journal: Vec<u8>,
    voice: Voice,
    counts: Counts,
    closing: bool,
    hears_llm_output: bool,
}

impl Core {
    /// A core with its settings judged; `seed` must differ between processes.
    pub fn new(raw: &RawSettings, seed: u64) -> Self {
        let (settings, problems) = Settings::validate(raw);
        let mut core = Self {
            outbox: Outbox::new(&settings, MAX_WAITING, seed.rotate_left(32)),
            ledger: Ledger::new(seed),
            sessions: Sessions::default(),
            turns: Turns::new(!seed),
            reporter: Reporter::new(seed.rotate_left(16)),
            extras: Extras::new(settings.flush_interval_ms, seed.rotate_left(48)),
            extras_in_flight: false,
            deferred: VecDeque::new(),
            journal: Vec::new(),
            voice: Voice::default(),
            counts: Counts::default(),
            closing: false,
            hears_llm_output: false,
            settings,
        };
        for problem in problems {
            core.voice.say(Level::Warn, problem, 0);
        }
        core
    }

    /// The server's address and the header that authorizes, for the one who posts.
    pub fn target(&self) -> Option<(&str, Option<&str>)> {
        let url = self.settings.url.as_deref()?;
        Some((url, self.settings.token.as_ref().map(|t| t.expose())))
    }

    /// Tells whether the gateway's diagnostics are heard.
    pub fn expect_diagnostics(&mut self, expected: bool) {
        self.ledger.expect_diagnostics(expected);
    }

    /// Takes one event in: `source` is an index into [`SOURCES`]. Never fails; what cannot be read
    /// is counted by its reason, which is also returned.
    pub fn observe(&mut self, source: usize, facts: Vec<Scalar>, now: Now) -> Option<&'static str> {
        if let Some(table) = SOURCES.get(source) {
            self.counts.seen.add(table.source);
        }
        match crate::observe::read(source, facts, now.wall_ms) {
            Ok(event) => {
                self.take(event, now);
                None
            }
            Err(Reject { source, reason }) => {
                self.counts.rejected.add_pair(source, reason);
                Some(reason)
            }
        }
    }

    fn take(&mut self, event: Event, now: Now) {
        match event {
            Event::Call(observation) => self.take_call(*observation, now),
            Event::Session(facts) => self.session(facts, now),
            Event::Aggregate(aggregate) => self.defer(Deferred::Compare(aggregate), now),
            Event::SessionComplete(totals) => self.defer(Deferred::Complete(totals), now),
            Event::DiagnosticsDropped(count) => self.diagnostics_dropped(count, now),
            Event::Conversation(conversation) => self.conversation(&conversation, now),
            Event::TurnBegan { session_key, agent } => {
                let agent = agent.as_deref();
                self.turns
                    .begin(&session_key, None, agent, now.wall_ms, now);
            }
            Event::Message(message) => self.message(&message, now),
            Event::Command(command) => {
                let record = self.reporter.command(&command, &self.settings, now);
                self.extras.push(record, now.mono_ms);
                let meta = Reporter::command_meta(&command, &self.settings);
                let trace = self
                    .turns
                    .command_trace(&self.settings, &command.name, meta, now);
                self.extras
                    .push(Record::Trace(Box::new(trace)), now.mono_ms);
            }
            Event::Tool(tool) => self.turns.tool(&tool, now),
            Event::Happening(happening) => {
                let record = self.reporter.happening(&happening, &self.settings, now);
                self.extras.push(record, now.mono_ms);
            }
            Event::Cron(run) => {
                let record = self.reporter.cron(&run, &self.settings, now);
                self.extras.push(record, now.mono_ms);
            }
            Event::GatewayStopping => self.closing = true,
            Event::GatewayStarted => self.gateway_started(now),
            Event::CallStarted => {}
            Event::Ignored(why) => self.counts.ignored.add(why),
        }
    }

    fn take_call(&mut self, observation: Observation, now: Now) {
        self.counts.broken_usage += u64::from(observation.broken_usage);
        let ended_turn = observation
            .session_key
            .clone()
            .filter(|_| observation.ends_turn);
        let mut for_journal = observation.clone();
        let id = self.ledger.observe(observation, now);
        // What is not needed to match or to settle is no business of the journal's.
        for_journal.response_id = None;
        journal::append(&mut self.journal, &Frame::Seen(id, Box::new(for_journal)));
        if let Some(session) = ended_turn {
            self.turns.finish(&session, now.wall_ms, now);
        }
    }

    fn session(&mut self, facts: SessionFacts, now: Now) {
        if let Some(what) = facts.what {
            let happening = Happening {
                what,
                session_key: facts.session_key.clone(),
                reason: facts.reason.clone(),
            };
            let record = self.reporter.happening(&happening, &self.settings, now);
            self.extras.push(record, now.mono_ms);
        } else if facts.ends_run {
            self.turns.finish(&facts.session_key, now.wall_ms, now);
        } else {
            let run_id = facts.run_id.as_deref();
            let run_id = run_id.map(|id| self.settings.identities.run_id(id));
            let agent = facts.agent.as_deref();
            self.turns
                .begin_run(&facts.session_key, run_id.as_deref(), agent, now);
        }
        self.sessions.learn(facts);
    }

    fn message(&mut self, message: &Message, now: Now) {
        let report = self.reporter.message(message, &self.settings, now);
        for record in report.records {
            self.extras.push(record, now.mono_ms);
        }
        let session = message.session_key.as_deref();
        if message.direction == Direction::Received {
            if let Some(session) = session {
                self.turns
                    .begin(session, Some(&message.channel), None, now.wall_ms, now);
            }
            return;
        }
        let (meta, good) = (report.meta, message.success);
        let joined = session.is_some_and(|session| {
            self.turns
                .deliver(session, &message.channel, meta.clone(), good, now)
        });
        if !joined {
            let trace = self.turns.message_trace(
                &self.settings,
                &message.channel,
                report.received_ms,
                (meta, good),
                now,
            );
            self.extras
                .push(Record::Trace(Box::new(trace)), now.mono_ms);
        }
    }

    /// Once a process: two hooks and several registrations tell of the same start.
    fn gateway_started(&mut self, now: Now) {
        for record in self.reporter.gateway_started(&self.settings, now) {
            self.extras.push(record, now.mono_ms);
        }
    }

    /// Does what is due. Call after events, after replies, and when the last advice says so.
    pub fn advance(&mut self, now: Now) -> Advice {
        let due = match std::mem::take(&mut self.closing) {
            true => self.ledger.close(now),
            false => self.ledger.due(now),
        };
        for settled in due {
            self.settle(settled, now);
        }
        self.run_deferred(now, false);
        for trace in self.turns.due(&self.settings, now, false) {
            self.extras
                .push(Record::Trace(Box::new(trace)), now.mono_ms);
        }
        self.journal_settled();
        Advice {
            wake_in_ms: self.next_due().map(|at| at.saturating_sub(now.mono_ms)),
            log: self.voice.take(),
        }
    }

    /// Makes every call final and every total count: the gateway stops.
    pub fn close(&mut self, now: Now) {
        self.closing = true;
        let log = self.advance(now).log;
        self.run_deferred(now, true);
        for trace in self.turns.due(&self.settings, now, true) {
            self.extras
                .push(Record::Trace(Box::new(trace)), now.mono_ms);
        }
        self.voice.put_back(log);
    }

    /// The next request to make, if any is due; `hurry` leaves out gathering and pauses.
    pub fn begin(&mut self, now: Now, hurry: bool) -> Option<Request> {
        self.settings.url.as_ref()?;
        if self.extras_in_flight {
            return None;
        }
        let naming = &self.settings.naming;
        let calls = self.outbox.begin(naming, now.mono_ms, hurry);
        if calls.is_some() || !self.outbox.is_free(now.mono_ms) {
            return calls;
        }
        // Calls go first: the rest waits while they cannot be sent.
        let extras = self.extras.begin(now.mono_ms, hurry);
        self.extras_in_flight = extras.is_some();
        extras
    }

    /// Takes the reply to the last request; may ask for a further one at once.
    pub fn answered(&mut self, reply: &Reply, now: Now) -> Option<Request> {
        if std::mem::take(&mut self.extras_in_flight) {
            self.extras.answered(reply, now.mono_ms);
            return None;
        }
        let mut notes = Vec::new();
        let naming = &self.settings.naming;
        let next = self.outbox.answered(reply, naming, now.mono_ms, &mut notes);
        for note in notes {
            self.note(note, now);
        }
        self.journal_settled();
        next
    }

    /// The frames to keep since this was last asked.
    pub fn take_journal(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.journal)
    }

    /// Everything that a fresh instance needs, in as few frames as it takes: replaces the journal.
    pub fn snapshot(&mut self) -> Vec<u8> {
        self.journal.clear();
        let mut out = Vec::new();
        for frame in self.ledger.frames() {
            journal::append(&mut out, &frame);
        }
        for call in self.outbox.waiting() {
            journal::append(&mut out, &Frame::Final(Box::new(call.clone())));
        }
        out
    }

    /// Goes on from a journal that another instance wrote.
    pub fn recover(&mut self, bytes: &[u8], now: Now) {
        let recovered = journal::read(bytes);
        self.counts.journal_corrupt += recovered.corrupt;
        let mut waiting: Vec<ModelCall> = Vec::new();
        let mut settled: HashSet<CallId> = HashSet::new();
        for frame in recovered.frames {
            match frame {
                Frame::Seen(id, observation) => self.ledger.restore(id, *observation, now),
                Frame::Slot(slot) => self.ledger.restore_slot(*slot, now),
                Frame::Final(call) => {
                    self.ledger.restore_final(call.id);
                    waiting.push(*call);
                }
                Frame::Settled(ids) => {
                    for id in ids {
                        self.ledger.restore_final(id);
                        settled.insert(id);
                    }
                }
            }
        }
        for call in waiting {
            if !settled.contains(&call.id) {
                self.outbox.push(call, now.mono_ms);
            }
        }
    }

    /// Everything that a status shows.
    pub fn status(&self) -> Status<'_> {
        Status {
            url: self.settings.url.as_deref(),
            receiver: self.outbox.receiver(),
            counts: &self.counts,
            ledger: self.ledger.counts(),
            outbox: self.outbox.counts(),
            open: self.ledger.open(),
            waiting: self.outbox.len(),
            oldest_unsent_ms: self.outbox.oldest_ms(),
            forgotten: self.sessions.evicted + self.turns.evicted,
            records_waiting: self.extras.len(),
            records_delivered: self.extras.delivered,
            records_dropped: &self.extras.dropped,
        }
    }

    fn next_due(&self) -> Option<u64> {
        [
            self.ledger.next_due(),
            self.turns.next_due(),
            self.deferred.front().map(|(at, _)| *at),
            self.next_sending(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    fn next_sending(&self) -> Option<u64> {
        self.settings.url.as_ref()?;
        if self.extras_in_flight {
            return None;
        }
        // The rest goes when the calls' way is free.
        let extras = self.extras.next_due().zip(self.outbox.free_at());
        let extras = extras.map(|(due, free)| due.max(free));
        [self.outbox.next_due(), extras].into_iter().flatten().min()
    }

    fn settle(&mut self, mut settled: Settled, now: Now) {
        let trigger = self.sessions.complete(&mut settled);
        self.sessions.count(&settled);
        self.enqueue(settled, trigger, false, now);
    }

    fn enqueue(&mut self, settled: Settled, trigger: Option<String>, from_total: bool, now: Now) {
        let session = settled.session_key.clone();
        let identities = &self.settings.identities;
        let call = ModelCall {
            id: settled.id,
            ended_ms: settled.ended_ms,
            provider: settled.provider,
            model: settled.model,
            agent: settled.agent,
            session_key: settled.session_key.map(|key| identities.session_key(&key)),
            run_id: settled.run_id.map(|id| identities.run_id(&id)),
            trigger: trigger.as_deref().and_then(identity::word),
            usage: settled.usage,
            cost: settled.cost,
            latency: settled.latency,
            ttfb_ms: settled.ttfb_ms,
            outcome: settled.outcome,
        };
        if let (Some(session), false) = (session, from_total) {
            self.turns.call(&session, &call, now);
        }
        if call.outcome != Outcome::Completed {
            for record in self.reporter.model_error(&call, &self.settings, now) {
                self.extras.push(record, now.mono_ms);
            }
        }
        if !call.is_request() {
            self.counts.model_errors += 1;
            journal::append(&mut self.journal, &Frame::Settled(vec![call.id]));
            return;
        }
        self.counts.requests += 1;
        self.counts.last_call_ms = Some(call.ended_ms);
        if call.usage.is_none() {
            self.warn_of_missing_usage(&call);
        }
        journal::append(&mut self.journal, &Frame::Final(Box::new(call.clone())));
        self.outbox.push(call, now.mono_ms);
    }

    fn warn_of_missing_usage(&mut self, call: &ModelCall) {
        self.counts.missing_usage += 1;
        let name = crate::agentwatch::model_name(call, &self.settings.naming);
        let text = format!(
            "{name} answers without usage, so its tokens are unknown and recorded as 0; if it is an \
             OpenAI-compatible endpoint, set models.providers.{}.models[].compat.supportsUsageInStreaming: true",
            identity::name(&call.provider)
        );
        // Once a model, not once a minute: it is a setting, and stays wrong until mended.
        self.voice.say_once(Level::Warn, text);
    }

    fn defer(&mut self, what: Deferred, now: Now) {
        self.deferred
            .push_back((now.mono_ms + HOLD_BACK_MS + 1, what));
        if self.deferred.len() > MAX_DEFERRED {
            self.run_deferred(now, true);
        }
    }

    fn run_deferred(&mut self, now: Now, all: bool) {
        while let Some((at, _)) = self.deferred.front() {
            if *at > now.mono_ms && !all {
                break;
            }
            match self.deferred.pop_front() {
                Some((_, Deferred::Compare(aggregate))) => self.compare(&aggregate, now),
                Some((_, Deferred::Complete(totals))) => self.complete(&totals, now),
                None => break,
            }
        }
    }

    fn compare(&mut self, aggregate: &Aggregate, now: Now) {
        // Where a gateway tells both, both tell of the same run.
        self.hears_llm_output |= aggregate.source == "llm_output";
        if self.hears_llm_output && aggregate.source != "llm_output" {
            return;
        }
        let unseen = self.sessions.compare(aggregate);
        if unseen == 0 {
            return;
        }
        self.counts.tokens_unseen += unseen;
        // Each loss is a line of its own: what is lost is said to the token.
        self.voice.say(
            Level::Warn,
            format!(
                "{} reports {unseen} tokens more than its messages showed: another plugin blocks or \
                 changes messages before they reach us, and this gateway has no other source",
                aggregate.source
            ),
            now.mono_ms,
        );
    }

    fn complete(&mut self, totals: &SessionTotals, now: Now) {
        for total in &totals.models {
            for missing in self.sessions.remainder(&totals.key, total) {
                self.counts.from_totals += 1;
                let settled = self.missing_call(totals, missing, now);
                self.enqueue(settled, None, true, now);
            }
        }
    }

    fn missing_call(&mut self, totals: &SessionTotals, missing: Missing, now: Now) -> Settled {
        let (provider, model) = crate::observe::split_model(&missing.model);
        Settled {
            id: self.ledger.mint(now),
            ended_ms: totals.at_ms,
            provider,
            model,
            agent: totals.agent.clone(),
            session_key: Some(totals.key.clone()),
            run_id: None,
            usage: Some(missing.usage).filter(|usage| !usage.is_zero()),
            cost: Cost {
                usd: missing.cost_usd.unwrap_or(0.0),
                source: match missing.cost_usd {
                    Some(_) => CostSource::Openclaw,
                    None => CostSource::Unknown,
                },
            },
            latency: missing.latency,
            ttfb_ms: None,
            outcome: Outcome::Completed,
        }
    }

    fn conversation(&mut self, conversation: &Conversation, now: Now) {
        self.counts.conversations += 1;
        let Conversation { key, at_ms, .. } = conversation;
        let channel = conversation.channel.as_deref();
        match conversation.end {
            None => {
                let agent = conversation.agent.as_deref();
                self.turns
                    .begin_conversation(key, channel, agent, *at_ms, now);
            }
            Some(outcome) => {
                let took = conversation.duration_ms.map(|ms| ms as u64);
                let started = took.map(|ms| at_ms.saturating_sub(ms));
                self.turns
                    .end_conversation(key, channel, outcome, (started, *at_ms), now);
            }
        }
    }

    fn diagnostics_dropped(&mut self, count: u64, now: Now) {
        self.counts.diagnostics_dropped += count;
        self.voice.say_about(
            Level::Warn,
            "diagnostics dropped",
            format!(
                "the gateway dropped {count} diagnostic events for overload; calls are counted by \
                 their messages, compactions among them may be missing"
            ),
            now.mono_ms,
        );
    }

    fn note(&mut self, note: Note, now: Now) {
        match note {
            Note::Reached(receiver) => {
                let url = self.settings.url.clone().unwrap_or_default();
                let how = match receiver {
                    Receiver::Ids => "records carry ids, so none is counted twice",
                    Receiver::Stock => "stock server: guarded batches",
                    Receiver::UsageOnly | Receiver::Unknown => {
                        "no batch endpoint: a lost answer may count a call twice"
                    }
                };
                self.voice.say(
                    Level::Info,
                    format!("delivering to {url} ({how})"),
                    now.mono_ms,
                );
            }
            Note::Trouble(text) => {
                self.counts.last_error = Some(text.clone());
                let waiting = self.outbox.len();
                self.voice.say_about(
                    Level::Warn,
                    &text,
                    format!("{text} ({waiting} calls wait, nothing is lost yet)"),
                    now.mono_ms,
                );
            }
        }
    }

    fn journal_settled(&mut self) {
        let settled = self.outbox.take_settled();
        if !settled.is_empty() {
            journal::append(&mut self.journal, &Frame::Settled(settled));
        }
    }
}
