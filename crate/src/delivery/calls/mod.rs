//! The outlet of finished calls to AgentWatch: batches, guards, and the reason of every drop. Pure; requests and
//! replies are values.
//!
//! A stock AgentWatch has no ids for model usage, but it inserts a batch's costs before its model
//! usage and refuses a cost whose id it has. So every call travels as both, its cost as the guard: a
//! batch answered 500 is looked up by its guards, and what is found there has arrived.

mod guards;
mod trouble;

use std::collections::VecDeque;

use serde::Serialize;

use crate::delivery::agentwatch;
use crate::delivery::reply::Reply;
use crate::delivery::sender::Sender;
use crate::domain::call::{CallId, ModelCall};
use crate::domain::counter::Counter;
use crate::domain::identity;
use crate::domain::time::Now;
use crate::engine::settings::{Naming, Settings};
use crate::journal::log::Entry;
use guards::LookUp;

/// The most calls in one batch to a stock server: if it is killed inside of one, so many may have no usage.
const STOCK_BATCH: usize = 20;
/// The most calls in one batch to a receiver that knows ids.
const BATCH: usize = 200;
/// After so many failures a receiver is asked with a few calls only, until it takes them.
const FAILURES_BEFORE_PROBE: u32 = 3;
/// How many calls that is.
const PROBE_BATCH: usize = 10;
/// How many times a batch answered 500 without a guard is tried before it is taken apart.
const TRIES_BEFORE_SPLIT: u32 = 3;
/// How long a receiver's kind is believed, in ms.
const KIND_AGE_MS: u64 = 600_000;

/// What is known of the receiver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Receiver {
    /// Not asked yet.
    Unknown,
    /// Knows record ids: a record sent twice is one.
    Ids,
    /// AgentWatch 0.1.0: guarded batches.
    Stock,
    /// Has no `/batch`: `model_usage` alone, at least once.
    UsageOnly,
}

/// A request to make.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Request {
    /// The path and query, behind the configured address.
    pub path: String,
    /// The JSON body; `None` makes it a GET.
    pub body: Option<String>,
}

/// Something that the operator should hear.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Note {
    /// The receiver answered for the first time, or again after trouble.
    Reached(Receiver),
    /// Sending failed; the text says why and names the setting.
    Trouble(String),
    /// The receiver has the calls of this gateway from another one as well.
    ReportedTwice(String),
}

/// What was sent, for the status.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct CallCounts {
    /// Calls that arrived.
    pub delivered: u64,
    /// Calls that were found to have arrived although their answer was lost. A stock server that was killed behind
    /// their costs has no usage of them.
    pub confirmed: u64,
    /// Tries that failed and were made again.
    pub retried: u64,
    /// Calls whose cost arrived in a batch that broke inside: their usage may be missing.
    pub ambiguous: u64,
    /// Dropped calls by reason.
    pub dropped: Counter,
    /// Who else reports this gateway's calls, as the receiver said last.
    pub also_reported_by: Option<String>,
}

#[derive(Debug)]
enum Flight {
    Probe,
    Post { ids: Vec<CallId> },
    Guards(LookUp),
}

/// A call that waits, and how many had arrived when it was first refused alone.
#[derive(Debug)]
struct Item {
    call: ModelCall,
    entry: Entry,
    /// It may be sent once the disk has everything up to this.
    written_at: u64,
    /// The last try whose end is unknown: what went together arrived together.
    tried: Option<u64>,
    /// Read from disk: an earlier process may have sent it.
    read_back: bool,
    refused_at: Option<u64>,
}

/// The queue of finished calls and the state of sending them.
#[derive(Debug)]
pub struct Calls {
    queue: VecDeque<Item>,
    flight: Option<Flight>,
    receiver: Receiver,
    asked_mono_ms: Option<u64>,
    sender: Sender,
    troubled: bool,
    tries: u64,
    acknowledged: Vec<(CallId, Entry)>,
    refused: Vec<(ModelCall, u16)>,
    written: u64,
    history_as_usage: bool,
    counts: CallCounts,
}

impl Calls {
    /// An outlet where nothing waits.
    pub fn new(settings: &Settings, seed: u64) -> Self {
        Self {
            queue: VecDeque::new(),
            flight: None,
            receiver: Receiver::Unknown,
            asked_mono_ms: None,
            sender: Sender::new(BATCH, settings.flush_interval_ms, seed),
            troubled: false,
            tries: 0,
            acknowledged: Vec::new(),
            refused: Vec::new(),
            written: 0,
            history_as_usage: settings.history_as_usage,
            counts: CallCounts::default(),
        }
    }

    /// What was done so far.
    pub fn counts(&self) -> &CallCounts {
        &self.counts
    }

    /// How many calls wait, those under way included.
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Whether a call waits here, or is under way.
    pub fn has(&self, id: CallId) -> bool {
        self.queue.iter().any(|item| item.call.id == id)
    }

    /// When the way to the receiver is free for others, on the monotonic clock: not while a request
    /// is under way, nor while the receiver is in trouble.
    pub fn free_at(&self) -> Option<u64> {
        let free_at = self.sender.not_before_ms();
        self.flight.is_none().then_some(free_at)
    }

    /// Whether the way to the receiver is free for others.
    pub fn is_free(&self, mono_ms: u64) -> bool {
        self.free_at().is_some_and(|at| mono_ms >= at)
    }

    /// When the oldest waiting call ended, in ms since 1970.
    pub fn oldest_ms(&self) -> Option<u64> {
        self.queue.front().map(|item| item.call.ended_ms)
    }

    /// What is known of the receiver.
    pub fn receiver(&self) -> Receiver {
        self.receiver
    }

    /// The calls that AgentWatch acknowledged since this was last asked, or that were dropped.
    pub fn take_acknowledged(&mut self) -> Vec<(CallId, Entry)> {
        std::mem::take(&mut self.acknowledged)
    }

    /// The calls that the server refused alone since this was last asked, with the HTTP status.
    pub fn take_refused(&mut self) -> Vec<(ModelCall, u16)> {
        std::mem::take(&mut self.refused)
    }

    /// The disk has everything up to this: those calls may be sent.
    pub fn written(&mut self, upto: u64) {
        self.written = self.written.max(upto);
    }

    /// Sending is off: acknowledges everything that is on disk.
    pub fn acknowledge_durable(&mut self) {
        let written = self.written;
        let gone = self
            .queue
            .iter()
            .take_while(|item| item.written_at <= written);
        let count = gone.count();
        let left = self.queue.drain(..count);
        self.acknowledged
            .extend(left.map(|item| (item.call.id, item.entry)));
    }

    /// From here on the disk is waited for again.
    pub fn wait_for_disk(&mut self) {
        self.written = 0;
    }

    /// Lets every waiting call be kept anew: the disk had lost them. `keep` says where it stands now, and when
    /// it is on disk.
    pub fn journal_anew(&mut self, mut keep: impl FnMut(&ModelCall) -> (Entry, u64)) -> Vec<Entry> {
        let anew = |item: &mut Item| {
            let (entry, written_at) = keep(&item.call);
            item.written_at = written_at;
            std::mem::replace(&mut item.entry, entry)
        };
        self.queue.iter_mut().map(anew).collect()
    }

    /// Counts calls that were dropped before they came here.
    pub fn dropped(&mut self, reason: &'static str, count: u64) {
        self.counts.dropped.add_some(reason, count);
    }

    /// Puts a call into the queue. It may be sent once the disk has everything up to `written_at`.
    pub fn push(&mut self, call: ModelCall, entry: Entry, written_at: u64, mono_ms: u64) {
        self.put(call, entry, written_at, false, mono_ms);
    }

    /// The same for a call that waited on disk alone.
    pub fn push_read_back(&mut self, call: ModelCall, entry: Entry, mono_ms: u64) {
        self.put(call, entry, 0, true, mono_ms);
    }

    fn put(
        &mut self,
        call: ModelCall,
        entry: Entry,
        written_at: u64,
        read_back: bool,
        mono_ms: u64,
    ) {
        self.queue.push_back(Item {
            call,
            entry,
            written_at,
            tried: None,
            read_back,
            refused_at: None,
        });
        self.sender.came(mono_ms);
    }

    /// The next request to make now, if any. Its reply goes to [`Calls::answered`].
    pub fn begin(&mut self, naming: &Naming, now: Now, hurry: bool) -> Option<Request> {
        let Now { wall_ms, mono_ms } = now;
        if self.flight.is_some() || !self.has_sendable() {
            return None;
        }
        let is_full = self.queue.len() >= self.most();
        if !self.sender.may_begin(is_full, mono_ms, hurry) {
            return None;
        }
        self.sender.begin(mono_ms);
        if self.is_kind_stale(mono_ms) {
            self.flight = Some(Flight::Probe);
            return Some(Request {
                path: "/api/v1/ingest/capabilities".to_owned(),
                body: None,
            });
        }
        let rest = self.in_doubt();
        if !rest.is_empty() {
            return self.look_up(LookUp::of(rest, true), naming);
        }
        Some(self.post(naming, wall_ms))
    }

    /// Whether the oldest call is on disk; the others stand behind it.
    fn has_sendable(&self) -> bool {
        let oldest = self.queue.front();
        oldest.is_some_and(|item| item.written_at <= self.written)
    }

    /// When something is to be sent, on the monotonic clock.
    pub fn next_due(&self) -> Option<u64> {
        if self.flight.is_some() || !self.has_sendable() {
            return None;
        }
        Some(self.sender.due_ms(self.queue.len() >= self.most()))
    }

    /// Takes a reply; may at once ask for a further request (a look-up of guards).
    pub fn answered(
        &mut self,
        reply: &Reply,
        naming: &Naming,
        mono_ms: u64,
        notes: &mut Vec<Note>,
    ) -> Option<Request> {
        match self.flight.take()? {
            Flight::Probe => {
                self.probed(reply, naming, mono_ms, notes);
                None
            }
            Flight::Post { ids } => self.posted(ids, reply, naming, mono_ms, notes),
            Flight::Guards(look) => self.looked_up(look, reply, naming, mono_ms, notes),
        }
    }

    fn is_kind_stale(&self, mono_ms: u64) -> bool {
        self.receiver == Receiver::Unknown
            || self
                .asked_mono_ms
                .is_none_or(|asked| mono_ms.saturating_sub(asked) > KIND_AGE_MS)
    }

    /// How many calls the next batch may have.
    fn most(&self) -> usize {
        let most = match self.receiver {
            _ if self.sender.failures() >= FAILURES_BEFORE_PROBE => PROBE_BATCH,
            Receiver::Ids => BATCH,
            _ => STOCK_BATCH,
        };
        most.min(self.sender.batch_limit())
    }

    fn post(&mut self, naming: &Naming, wall_ms: u64) -> Request {
        let most = self.most();
        let written = self.written;
        // A guard that is there already stops a stock server's batch behind costs whose usage is then missing:
        // what may have arrived comes first in its batch, or in one of its own.
        let origin = |item: &Item| {
            let has_guards = self.receiver == Receiver::Stock && item.read_back;
            has_guards.then_some(item.entry.segment)
        };
        let first = self.queue.front().and_then(origin);
        let is_sendable = |item: &&Item| item.written_at <= written && origin(item) == first;
        let sendable = self.queue.iter().take(most).take_while(is_sendable).count();
        let most = sendable.max(1);
        // What was refused alone may be at fault, and goes alone.
        let suspect = self
            .queue
            .iter()
            .take(most)
            .position(|item| item.refused_at.is_some());
        let size = suspect.map_or(most, |index| index.max(1));
        let calls = self.queue.iter().take(size).map(|item| &item.call);
        let ids: Vec<CallId> = calls.clone().map(|call| call.id).collect();
        // A stock server would count what is told late in the hour of its arrival; costs have their own time.
        let too_old = wall_ms.saturating_sub(agentwatch::STOCK_HISTORY_MS);
        let is_history = |call: &ModelCall| {
            self.receiver == Receiver::Stock
                && !self.history_as_usage
                && call.stored
                && call.ended_ms < too_old
        };
        let (path, body) = match self.receiver {
            Receiver::UsageOnly => {
                let records: Vec<_> = calls.map(|c| agentwatch::model_usage(c, naming)).collect();
                (
                    "/api/v1/ingest/model_usage",
                    // Records are made of finite numbers and valid text, which always serialize.
                    serde_json::to_string(&records).unwrap_or_default(),
                )
            }
            _ => (
                "/api/v1/ingest/batch",
                agentwatch::batch_json(calls, naming, is_history),
            ),
        };
        self.flight = Some(Flight::Post { ids });
        Request {
            path: path.to_owned(),
            body: Some(body),
        }
    }

    fn probed(&mut self, reply: &Reply, naming: &Naming, mono_ms: u64, notes: &mut Vec<Note>) {
        let before = self.receiver;
        match reply.status {
            200..=299 => {
                self.receiver = if reply.answer.knows_ids {
                    Receiver::Ids
                } else {
                    Receiver::Stock
                };
            }
            404 | 405 | 501 => self.receiver = Receiver::Stock,
            _ => return self.failed(reply, mono_ms, notes),
        }
        self.asked_mono_ms = Some(mono_ms);
        if before == Receiver::Unknown {
            self.troubled = false;
            notes.push(Note::Reached(self.receiver));
        }
        let own = |pair: &&Vec<String>| pair.contains(&naming.gateway);
        let pair = reply.answer.reported_twice.iter().find(own);
        let other = pair.and_then(|pair| pair.iter().find(|name| **name != naming.gateway));
        self.counts.also_reported_by = other.map(|name| identity::name(name));
        let twice = self.counts.also_reported_by.clone();
        notes.extend(twice.map(Note::ReportedTwice));
    }

    fn posted(
        &mut self,
        ids: Vec<CallId>,
        reply: &Reply,
        naming: &Naming,
        mono_ms: u64,
        notes: &mut Vec<Note>,
    ) -> Option<Request> {
        match (reply.status, self.receiver) {
            (200..=299, _) if !reply.is_taken() => {
                self.note_try(&ids);
                self.failed(reply, mono_ms, notes);
            }
            (200..=299, _) => {
                self.counts.delivered += ids.len() as u64;
                self.arrived(&ids);
                self.recovered(notes);
            }
            (404 | 405, Receiver::Stock | Receiver::Ids) => {
                self.receiver = Receiver::UsageOnly;
            }
            (500, Receiver::Stock) => {
                return self.look_up(LookUp::of(ids, false), naming);
            }
            (413, _) if ids.len() > 1 => self.sender.halve(ids.len()),
            (400 | 413 | 422, _) => self.take_apart(&ids, "refused", notes, reply),
            (500, _) if self.sender.failures() >= TRIES_BEFORE_SPLIT => {
                self.take_apart(&ids, "refused", notes, reply);
                self.failed(reply, mono_ms, notes);
            }
            (status, _) => {
                if status == 0 || status >= 500 {
                    self.note_try(&ids);
                }
                self.failed(reply, mono_ms, notes);
            }
        }
        None
    }

    fn arrived(&mut self, ids: &[CallId]) {
        // What was under way stands at the front.
        let front: Vec<Item> = self.queue.drain(..BATCH.min(self.queue.len())).collect();
        for item in front.into_iter().rev() {
            if ids.contains(&item.call.id) {
                self.acknowledged.push((item.call.id, item.entry));
            } else {
                self.queue.push_front(item);
            }
        }
        self.sender.grow();
        self.sender.left(!self.queue.is_empty());
    }
}
