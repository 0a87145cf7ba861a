//! The outlet of records to AgentWatch: traces, logs, health, metrics and cron runs. Calls go first: records have
//! batches of their own, and are dropped before calls are. Delivery is at least once.

use std::collections::VecDeque;

use crate::activity::records::{self, Written};
use crate::delivery::calls::Request;
use crate::delivery::reply::Reply;
use crate::delivery::sender::Sender;
use crate::domain::counter::Counter;
use crate::journal::log::Entry;

/// Maximum total size of the queue, in bytes.
const MAX_BYTES: usize = 512 * 1024;
/// Maximum number of records in a batch to a stock AgentWatch, which inserts on its event loop: this many block it for
/// about 100 ms.
const BATCH: usize = 500;
/// Maximum number of records in a batch to a receiver that supports record ids.
const IDS_BATCH: usize = 1_000;
/// Maximum size of a batch, in bytes; a larger record is sent alone. The module's memory never shrinks, and it holds
/// the whole body.
const BATCH_BYTES: usize = 256 * 1024;
/// Factor of the calls' flush interval for which records are gathered: records are less urgent than calls.
const TIMES_AS_LONG: u64 = 2;
/// Number of failures after which a batch that is answered 500 is split.
const TRIES_BEFORE_SPLIT: u32 = 3;

#[derive(Debug)]
struct Item {
    record: Written,
    entry: Entry,
    /// Journal position: the record may be sent once the disk has everything up to it.
    written_at: u64,
    /// Number of delivered records when it was first refused alone.
    refused_at: Option<u64>,
}

/// Queue of records, and the state of their delivery.
#[derive(Debug)]
pub struct Records {
    queue: VecDeque<Item>,
    bytes: usize,
    written: u64,
    acknowledged: Vec<Entry>,
    in_flight: usize,
    /// Maximum number of records in a batch for the kind of receiver.
    most: usize,
    sender: Sender,
    /// Number of delivered records.
    pub delivered: u64,
    /// Number of dropped records by reason.
    pub dropped: Counter,
}

impl Records {
    /// Creates an outlet with an empty queue. `flush_interval_ms` is the calls' flush interval.
    pub fn new(flush_interval_ms: u64, seed: u64) -> Self {
        Self {
            queue: VecDeque::new(),
            bytes: 0,
            written: 0,
            acknowledged: Vec::new(),
            in_flight: 0,
            most: BATCH,
            sender: Sender::new(IDS_BATCH, TIMES_AS_LONG * flush_interval_ms, seed),
            delivered: 0,
            dropped: Counter::default(),
        }
    }

    /// Sets whether the receiver supports record ids.
    pub fn expect_ids(&mut self, expected: bool) {
        self.most = if expected { IDS_BATCH } else { BATCH };
    }

    fn limit(&self) -> usize {
        self.sender.batch_limit().min(self.most)
    }

    /// Number of queued records.
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// Whether the queue is empty.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Whether the queue has room for one more record.
    pub fn has_room(&self) -> bool {
        self.bytes < MAX_BYTES
    }

    /// Notes that the disk has everything up to `upto`: the records written by then may be sent.
    pub fn written(&mut self, upto: u64) {
        self.written = self.written.max(upto);
    }

    /// Takes the journal entries of the records that were delivered or dropped since the last call.
    pub fn take_acknowledged(&mut self) -> Vec<Entry> {
        std::mem::take(&mut self.acknowledged)
    }

    /// Queues a record. It may be sent once the disk has everything up to `written_at`.
    pub fn push(&mut self, record: Written, entry: Entry, written_at: u64, mono_ms: u64) {
        self.bytes += record.size();
        self.queue.push_back(Item {
            record,
            entry,
            written_at,
            refused_at: None,
        });
        self.sender.came(mono_ms);
    }

    /// Acknowledges every durable record: sending is off.
    pub fn acknowledge_durable(&mut self) {
        let is_written = |item: &&Item| item.written_at <= self.written;
        self.leave(self.queue.iter().take_while(is_written).count());
    }

    /// Journals every queued record again after a disk failure. `keep` appends a record and returns its new entry; the
    /// result is the old entries. The queued records may be sent before they are durable again, later records only
    /// after.
    pub fn journal_anew(&mut self, mut keep: impl FnMut(&Written) -> Entry) -> Vec<Entry> {
        self.written = 0;
        let anew = |item: &mut Item| {
            item.written_at = 0;
            std::mem::replace(&mut item.entry, keep(&item.record))
        };
        self.queue.iter_mut().map(anew).collect()
    }

    fn has_sendable(&self) -> bool {
        let oldest = self.queue.front();
        oldest.is_some_and(|item| item.written_at <= self.written)
    }

    /// The next request, if one is due. `hurry` skips gathering and backoff.
    pub fn begin(&mut self, mono_ms: u64, hurry: bool) -> Option<Request> {
        if self.in_flight > 0 || !self.has_sendable() {
            return None;
        }
        if !self.sender.may_begin(self.fills_a_batch(), mono_ms, hurry) {
            return None;
        }
        self.sender.begin(mono_ms);
        self.in_flight = self.next_batch();
        let batch = self.queue.iter().take(self.in_flight);
        let batch = batch.map(|item| &item.record);
        Some(Request {
            path: "/api/v1/ingest/batch".to_owned(),
            body: Some(records::batch(batch)),
        })
    }

    /// Whether the queue fills a batch.
    fn fills_a_batch(&self) -> bool {
        self.queue.len() >= self.limit() || self.bytes >= BATCH_BYTES
    }

    /// Number of records in the next batch.
    fn next_batch(&self) -> usize {
        let mut bytes = 0;
        let fits = |item: &&Item| {
            bytes += item.record.size();
            item.written_at <= self.written && bytes <= BATCH_BYTES
        };
        let batch = self.queue.iter().take(self.limit());
        batch.take_while(fits).count().max(1)
    }

    /// When the next request is due, in ms of the monotonic clock; `None` while a request is in flight or no record is
    /// durable.
    pub fn next_due(&self) -> Option<u64> {
        if self.in_flight > 0 || !self.has_sendable() {
            return None;
        }
        Some(self.sender.due_ms(self.fills_a_batch()))
    }

    /// Handles the reply to the request in flight.
    pub fn answered(&mut self, reply: &Reply, mono_ms: u64) {
        let size = std::mem::take(&mut self.in_flight);
        let is_patient = self.sender.failures() < TRIES_BEFORE_SPLIT;
        match reply.status {
            200..=299 if !reply.is_taken() => self.sender.failed(reply, mono_ms),
            200..=299 => {
                self.delivered += size as u64;
                self.leave(size);
                self.sender.recovered();
                self.sender.grow();
            }
            // A proxy in front of AgentWatch answers so while AgentWatch restarts.
            404 | 405 if is_patient || self.delivered > 0 => self.sender.failed(reply, mono_ms),
            404 | 405 => self.give_up(size, "no_batch_endpoint"),
            400 | 413 | 422 if size > 1 => self.sender.halve(size),
            400 | 413 | 422 => self.give_up(size, "refused"),
            500 if !is_patient && size > 1 => self.sender.halve(size),
            // A stock server also answers 500 to a log that it has already.
            500 if !is_patient && !self.is_server_suspect() => self.give_up(size, "refused"),
            _ => self.sender.failed(reply, mono_ms),
        }
    }

    /// Whether a 500 for the oldest record alone may be the server's fault: no other record has arrived since its first
    /// one. The record goes behind the others then, so that they are tried.
    fn is_server_suspect(&mut self) -> bool {
        let Some(mut item) = self.queue.pop_front() else {
            return false;
        };
        let is_suspect = *item.refused_at.get_or_insert(self.delivered) == self.delivered;
        match is_suspect {
            true => self.queue.push_back(item),
            false => self.queue.push_front(item),
        }
        is_suspect
    }

    fn give_up(&mut self, size: usize, reason: &'static str) {
        self.leave(size);
        for _ in 0..size {
            self.dropped.add(reason);
        }
    }

    fn leave(&mut self, size: usize) {
        for item in self.queue.drain(..size.min(self.queue.len())) {
            self.bytes -= item.record.size();
            self.acknowledged.push(item.entry);
        }
        self.sender.left(!self.queue.is_empty());
    }
}
