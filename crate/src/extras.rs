//! The outbox of what is not a model call: traces, logs, health, metrics and cron runs. Sent behind
//! the calls and in batches of their own, dropped before them, at least once.

use std::collections::VecDeque;

use crate::answer::Reply;
use crate::call::IdMint;
use crate::counter::Counter;
use crate::journal::log::Entry;
use crate::outbox::Request;
use crate::records::{self, Written};

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
/// The first pause after a failure, in ms; doubled each time, up to [`LONGEST_PAUSE_MS`].
const FIRST_PAUSE_MS: u64 = 1_000;
/// The longest pause between two tries, in ms.
const LONGEST_PAUSE_MS: u64 = 300_000;

#[derive(Debug)]
struct Item {
    record: Written,
    entry: Entry,
    /// It may be sent once the disk has everything up to this.
    written_at: u64,
}

/// Records that wait, and the state of sending them.
#[derive(Debug)]
pub struct Extras {
    queue: VecDeque<Item>,
    bytes: usize,
    written: u64,
    settled: Vec<Entry>,
    in_flight: usize,
    /// How many a batch may have, whatever was refused.
    most: usize,
    batch_limit: usize,
    failures: u32,
    not_before_ms: u64,
    gather_until_ms: Option<u64>,
    /// When the last request was begun.
    begun_ms: u64,
    flush_interval_ms: u64,
    pause: IdMint,
    /// Records that arrived.
    pub delivered: u64,
    /// Records that were dropped, by reason.
    pub dropped: Counter,
}

impl Extras {
    /// An empty outbox, where calls are gathered for so many ms.
    pub fn new(flush_interval_ms: u64, seed: u64) -> Self {
        Self {
            queue: VecDeque::new(),
            bytes: 0,
            written: 0,
            settled: Vec::new(),
            in_flight: 0,
            most: BATCH,
            batch_limit: IDS_BATCH,
            failures: 0,
            not_before_ms: 0,
            gather_until_ms: None,
            begun_ms: 0,
            flush_interval_ms: TIMES_AS_LONG * flush_interval_ms,
            pause: IdMint::new(seed),
            delivered: 0,
            dropped: Counter::default(),
        }
    }

    /// Tells whether the receiver knows ids.
    pub fn expect_ids(&mut self, expected: bool) {
        self.most = if expected { IDS_BATCH } else { BATCH };
    }

    fn limit(&self) -> usize {
        self.batch_limit.min(self.most)
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
    pub fn take_settled(&mut self) -> Vec<Entry> {
        std::mem::take(&mut self.settled)
    }

    /// Puts a record into the queue. It may be sent once the disk has everything up to `written_at`.
    pub fn push(&mut self, record: Written, entry: Entry, written_at: u64, mono_ms: u64) {
        self.bytes += record.size();
        self.queue.push_back(Item {
            record,
            entry,
            written_at,
        });
        let until = self.begun_ms + self.flush_interval_ms;
        self.gather_until_ms.get_or_insert(until.max(mono_ms));
    }

    /// Nobody is to be told: what is on disk has left.
    pub fn let_go(&mut self) {
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
        let gathered =
            self.fills_a_batch() || self.gather_until_ms.is_none_or(|until| mono_ms >= until);
        if !hurry && (mono_ms < self.not_before_ms || !gathered) {
            return None;
        }
        self.begun_ms = mono_ms;
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
        let gathered = match self.gather_until_ms {
            Some(until) if !self.fills_a_batch() => until,
            _ => 0,
        };
        Some(gathered.max(self.not_before_ms))
    }

    /// Takes the reply to the last request.
    pub fn answered(&mut self, reply: &Reply, mono_ms: u64) {
        let size = std::mem::take(&mut self.in_flight);
        match reply.status {
            200..=299 if !reply.is_taken() => self.failed(reply, mono_ms),
            200..=299 => {
                self.delivered += size as u64;
                self.leave(size);
                self.failures = 0;
                self.not_before_ms = 0;
                self.batch_limit = (self.batch_limit * 2).min(IDS_BATCH);
            }
            404 | 405 => self.give_up(size, "no_batch_endpoint"),
            400 | 413 | 422 if size > 1 => self.batch_limit = (size / 2).max(1),
            400 | 413 | 422 => self.give_up(size, "refused"),
            500 if self.failures >= TRIES_BEFORE_SPLIT && size > 1 => {
                self.batch_limit = (size / 2).max(1);
            }
            // Alone and still refused: a stock server says 500 also to a log that it has already.
            500 if self.failures >= TRIES_BEFORE_SPLIT => self.give_up(size, "refused"),
            _ => self.failed(reply, mono_ms),
        }
    }

    fn failed(&mut self, reply: &Reply, mono_ms: u64) {
        self.failures = self.failures.saturating_add(1);
        let doubled = FIRST_PAUSE_MS << self.failures.saturating_sub(1).min(16);
        let pause = 100 + self.pause.bits() % doubled.min(LONGEST_PAUSE_MS);
        let asked = reply.retry_after_ms.unwrap_or(0).min(LONGEST_PAUSE_MS);
        self.not_before_ms = mono_ms + pause.max(asked);
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
            self.settled.push(item.entry);
        }
        // What is left came meanwhile: it is gathered as if it had come with the request.
        let is_left = !self.queue.is_empty();
        self.gather_until_ms = is_left.then_some(self.begun_ms + self.flush_interval_ms);
    }
}
