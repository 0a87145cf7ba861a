//! The outlet of records to AgentWatch: traces, logs, health, metrics and cron runs. Sent behind the calls and in batches
//! of their own, dropped before them, at least once.

use std::collections::VecDeque;

use crate::activity::records::{self, Written};
use crate::delivery::calls::Request;
use crate::delivery::reply::Reply;
use crate::delivery::sender::Sender;
use crate::domain::counter::Counter;
use crate::journal::log::Entry;

/// The most bytes of records that wait in memory.
const MAX_BYTES: usize = 512 * 1024;
/// The most records in one batch to a stock AgentWatch, which inserts on its event loop: so many hold it for 100 ms.
const BATCH: usize = 500;
/// The same for receivers that know ids.
const IDS_BATCH: usize = 1_000;
/// The most bytes in one batch, a record of more alone: a body is in memory as a whole, which a module never gives back.
const BATCH_BYTES: usize = 256 * 1024;
/// They are gathered for so many times as long as calls are: nobody waits for them in the same way.
const TIMES_AS_LONG: u64 = 2;
/// How many times a batch is tried before it is taken apart.
const TRIES_BEFORE_SPLIT: u32 = 3;

#[derive(Debug)]
struct Item {
    record: Written,
    entry: Entry,
    /// It may be sent once the disk has everything up to this.
    written_at: u64,
}

/// Records that wait, and the state of sending them.
#[derive(Debug)]
pub struct Records {
    queue: VecDeque<Item>,
    bytes: usize,
    written: u64,
    acknowledged: Vec<Entry>,
    in_flight: usize,
    /// How many a batch may have, whatever was refused.
    most: usize,
    sender: Sender,
    /// Records that arrived.
    pub delivered: u64,
    /// Records that were dropped, by reason.
    pub dropped: Counter,
}

impl Records {
    /// An outlet where nothing waits, beside one that gathers calls for so many ms.
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

    /// Tells whether the receiver knows ids.
    pub fn expect_ids(&mut self, expected: bool) {
        self.most = if expected { IDS_BATCH } else { BATCH };
    }

    fn limit(&self) -> usize {
        self.sender.batch_limit().min(self.most)
    }

    /// How many records wait.
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// Whether none does.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Whether there is room for one more record.
    pub fn has_room(&self) -> bool {
        self.bytes < MAX_BYTES
    }

    /// The disk has everything up to this: those records may be sent.
    pub fn written(&mut self, upto: u64) {
        self.written = self.written.max(upto);
    }

    /// The records that left since this was last asked, delivered or dropped.
    pub fn take_acknowledged(&mut self) -> Vec<Entry> {
        std::mem::take(&mut self.acknowledged)
    }

    /// Puts a record into the queue. It may be sent once the disk has everything up to `written_at`.
    pub fn push(&mut self, record: Written, entry: Entry, written_at: u64, mono_ms: u64) {
        self.bytes += record.size();
        self.queue.push_back(Item {
            record,
            entry,
            written_at,
        });
        self.sender.came(mono_ms);
    }

    /// Sending is off: acknowledges everything that is on disk.
    pub fn acknowledge_durable(&mut self) {
        let is_written = |item: &&Item| item.written_at <= self.written;
        self.leave(self.queue.iter().take_while(is_written).count());
    }

    /// Lets every waiting record be kept anew: the disk had lost them. `keep` says where it stands now. They may be
    /// sent at once, as before; from here on the disk is waited for again.
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

    /// The next request to make now, if any.
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

    /// Whether more would not fit into a batch.
    fn fills_a_batch(&self) -> bool {
        self.queue.len() >= self.limit() || self.bytes >= BATCH_BYTES
    }

    /// How many records the next batch has.
    fn next_batch(&self) -> usize {
        let mut bytes = 0;
        let fits = |item: &&Item| {
            bytes += item.record.size();
            item.written_at <= self.written && bytes <= BATCH_BYTES
        };
        let batch = self.queue.iter().take(self.limit());
        batch.take_while(fits).count().max(1)
    }

    /// When something is to be sent, on the monotonic clock.
    pub fn next_due(&self) -> Option<u64> {
        if self.in_flight > 0 || !self.has_sendable() {
            return None;
        }
        Some(self.sender.due_ms(self.fills_a_batch()))
    }

    /// Takes the reply to the last request.
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
            404 | 405 => self.give_up(size, "no_batch_endpoint"),
            400 | 413 | 422 if size > 1 => self.sender.halve(size),
            400 | 413 | 422 => self.give_up(size, "refused"),
            500 if !is_patient && size > 1 => self.sender.halve(size),
            // Alone and still refused: a stock server says 500 also to a log that it has already.
            500 if !is_patient => self.give_up(size, "refused"),
            _ => self.sender.failed(reply, mono_ms),
        }
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
