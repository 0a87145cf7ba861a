//! The outlet of final calls to AgentWatch: batches, guards, and counts of dropped calls by reason. It does no I/O:
//! requests and replies are values.
//!
//! A stock AgentWatch has no ids for model usage, but it inserts a batch's costs before its model usage, and refuses a
//! cost whose id it has. So each call is sent as a cost and as usage. The cost's id is the guard: after a 500, the
//! guards are looked up, and calls whose guard the server has count as arrived.

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

/// Maximum number of calls in a batch to a stock server: if the server is killed within a batch, this many calls may
/// lose their usage.
const STOCK_BATCH: usize = 20;
/// Maximum number of calls in a batch to a receiver that supports record ids.
const BATCH: usize = 200;
/// Number of failures after which batches have at most [`PROBE_BATCH`] calls, until one is accepted.
const FAILURES_BEFORE_PROBE: u32 = 3;
/// Maximum number of calls in a batch after [`FAILURES_BEFORE_PROBE`] failures.
const PROBE_BATCH: usize = 10;
/// Number of failures after which a batch is split if the server answers 500 and stored none of its calls.
const TRIES_BEFORE_SPLIT: u32 = 3;
/// Age, in ms, after which the receiver's kind is requested again.
const KIND_AGE_MS: u64 = 600_000;

/// Kind of receiver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Receiver {
    /// Not known yet.
    Unknown,
    /// Supports record ids: a record that is sent twice is stored once.
    Ids,
    /// AgentWatch 0.1.0: batches with guards.
    Stock,
    /// Has no `/batch`: only `model_usage` is sent, at least once.
    UsageOnly,
}

/// A request to AgentWatch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Request {
    /// Path and query, relative to the configured address.
    pub path: String,
    /// JSON body; `None` for a GET.
    pub body: Option<String>,
}

/// A message to the operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Note {
    /// The receiver answered for the first time, or again after trouble.
    Reached(Receiver),
    /// Sending failed. The text has the reason and the setting that mends it.
    Trouble(String),
    /// The receiver refused the record of one call, which is dropped. The text has the reason.
    Refused(String),
    /// Another gateway, of this name, reports the same calls to the receiver.
    ReportedTwice(String),
}

/// Delivery counters for the status.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct CallCounts {
    /// Calls in batches that the receiver accepted.
    pub delivered: u64,
    /// Calls whose guard was found after a request whose answer was lost. Their usage is missing if the stock server
    /// was killed between costs and usage.
    pub confirmed: u64,
    /// Requests that failed and are retried.
    pub retried: u64,
    /// Calls whose cost arrived in a batch that the server aborted: their usage may be missing.
    pub ambiguous: u64,
    /// Number of dropped calls by reason.
    pub dropped: Counter,
    /// Name of another gateway that reports the same calls, from the receiver's last answer about its capabilities.
    pub also_reported_by: Option<String>,
}

#[derive(Debug)]
enum Flight {
    Probe,
    Post { ids: Vec<CallId> },
    Guards(LookUp),
}

/// A queued call.
#[derive(Debug)]
struct Item {
    call: ModelCall,
    entry: Entry,
    /// Journal position: the call may be sent once the disk has everything up to it.
    written_at: u64,
    /// Number of the last request with this call whose outcome is unknown. Calls with equal numbers were in one batch.
    tried: Option<u64>,
    /// Whether the call was read from the journal: an earlier process may have sent it.
    read_back: bool,
    refused_at: Option<u64>,
}

/// Queue of final calls, and the state of their delivery.
#[derive(Debug)]
pub struct Calls {
    queue: VecDeque<Item>,
    flight: Option<Flight>,
    receiver: Receiver,
    asked_mono_ms: Option<u64>,
    /// Whether the server took a batch: a 404 is a proxy's then.
    takes_batches: bool,
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
    /// Creates an outlet with an empty queue.
    pub fn new(settings: &Settings, seed: u64) -> Self {
        Self {
            queue: VecDeque::new(),
            flight: None,
            receiver: Receiver::Unknown,
            asked_mono_ms: None,
            takes_batches: false,
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

    /// Delivery counters.
    pub fn counts(&self) -> &CallCounts {
        &self.counts
    }

    /// Number of queued calls, including calls in flight.
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// Whether the queue is empty.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Whether the queue has this call. Calls in flight are in the queue.
    pub fn has(&self, id: CallId) -> bool {
        self.queue.iter().any(|item| item.call.id == id)
    }

    /// When other outlets may send to the receiver, in ms of the monotonic clock: after the backoff. `None` while a
    /// request is in flight.
    pub fn free_at(&self) -> Option<u64> {
        let free_at = self.sender.not_before_ms();
        self.flight.is_none().then_some(free_at)
    }

    /// Whether other outlets may send to the receiver now.
    pub fn is_free(&self, mono_ms: u64) -> bool {
        self.free_at().is_some_and(|at| mono_ms >= at)
    }

    /// When the first queued call ended, in ms since 1970.
    pub fn oldest_ms(&self) -> Option<u64> {
        self.queue.front().map(|item| item.call.ended_ms)
    }

    /// The receiver's kind.
    pub fn receiver(&self) -> Receiver {
        self.receiver
    }

    /// Takes the calls that were delivered or dropped since the last call, with their journal entries.
    pub fn take_acknowledged(&mut self) -> Vec<(CallId, Entry)> {
        std::mem::take(&mut self.acknowledged)
    }

    /// Takes the calls that the server refused singly since the last call, with the HTTP status.
    pub fn take_refused(&mut self) -> Vec<(ModelCall, u16)> {
        std::mem::take(&mut self.refused)
    }

    /// Notes that the disk has everything up to `upto`: the calls written by then may be sent.
    pub fn written(&mut self, upto: u64) {
        self.written = self.written.max(upto);
    }

    /// Acknowledges every durable call: sending is off.
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

    /// Resets the durable position after a disk failure: later calls wait for the disk again.
    pub fn wait_for_disk(&mut self) {
        self.written = 0;
    }

    /// Journals every queued call again after a disk failure. `keep` appends a call, and returns its new entry and the
    /// position at which it may be sent. The result is the old entries.
    pub fn journal_anew(&mut self, mut keep: impl FnMut(&ModelCall) -> (Entry, u64)) -> Vec<Entry> {
        let anew = |item: &mut Item| {
            let (entry, written_at) = keep(&item.call);
            item.written_at = written_at;
            std::mem::replace(&mut item.entry, entry)
        };
        self.queue.iter_mut().map(anew).collect()
    }

    /// Counts calls that were dropped before they were queued.
    pub fn dropped(&mut self, reason: &'static str, count: u64) {
        self.counts.dropped.add_some(reason, count);
    }

    /// Queues a call. It may be sent once the disk has everything up to `written_at`.
    pub fn push(&mut self, call: ModelCall, entry: Entry, written_at: u64, mono_ms: u64) {
        self.put(call, entry, written_at, false, mono_ms);
    }

    /// Queues a call that was read from the journal.
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

    /// The next request, if one is due; [`Calls::answered`] takes its reply. `hurry` skips gathering and backoff.
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

    /// Whether the first queued call is durable; the queue is in journal order.
    fn has_sendable(&self) -> bool {
        let oldest = self.queue.front();
        oldest.is_some_and(|item| item.written_at <= self.written)
    }

    /// When the next request is due, in ms of the monotonic clock; `None` while a request is in flight or no call is
    /// durable.
    pub fn next_due(&self) -> Option<u64> {
        if self.flight.is_some() || !self.has_sendable() {
            return None;
        }
        Some(self.sender.due_ms(self.queue.len() >= self.most()))
    }

    /// Handles the reply to the request in flight. Returns a further request where guards are to be looked up.
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

    /// Maximum number of calls in the next batch.
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
        // A duplicate cost id makes a stock server abort the batch after the costs, before the usage. Possible
        // duplicates, which are calls read from the journal, get batches of their own, per segment.
        let origin = |item: &Item| {
            let has_guards = self.receiver == Receiver::Stock && item.read_back;
            has_guards.then_some(item.entry.segment)
        };
        let first = self.queue.front().and_then(origin);
        let is_sendable = |item: &&Item| item.written_at <= written && origin(item) == first;
        let sendable = self.queue.iter().take(most).take_while(is_sendable).count();
        let most = sendable.max(1);
        // A call that was refused singly is sent singly.
        let suspect = self
            .queue
            .iter()
            .take(most)
            .position(|item| item.refused_at.is_some());
        let size = suspect.map_or(most, |index| index.max(1));
        let calls = self.queue.iter().take(size).map(|item| &item.call);
        let ids: Vec<CallId> = calls.clone().map(|call| call.id).collect();
        // A stock server stamps usage with the time of arrival. Old calls go in costs only, which have their own time.
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
                    // Cannot fail: records consist of finite numbers and valid text.
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
                self.takes_batches |= self.receiver != Receiver::UsageOnly;
                self.arrived(&ids);
                self.recovered(notes);
            }
            // A proxy in front of AgentWatch answers so while AgentWatch restarts.
            (404 | 405, Receiver::Stock | Receiver::Ids)
                if self.takes_batches || self.sender.failures() < TRIES_BEFORE_SPLIT =>
            {
                self.asked_mono_ms = None;
                self.failed(reply, mono_ms, notes);
            }
            (404 | 405, Receiver::Stock | Receiver::Ids) => {
                self.receiver = Receiver::UsageOnly;
            }
            (404 | 405, _) => {
                self.receiver = Receiver::Unknown;
                self.failed(reply, mono_ms, notes);
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
        // Calls in flight are at the front of the queue.
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
