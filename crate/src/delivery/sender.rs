//! When an outlet sends: gathering, the size of a batch, retries with growing pauses, and what a receiver asks for. The
//! three outlets have one each: AgentWatch's calls, AgentWatch's records, and a collector's signals.

use crate::delivery::reply::Reply;
use crate::domain::call::IdMint;

/// The first pause after a failure, in ms; doubled each time, up to [`LONGEST_PAUSE_MS`].
const FIRST_PAUSE_MS: u64 = 1_000;
/// The longest pause between two tries, in ms.
const LONGEST_PAUSE_MS: u64 = 300_000;
/// The shortest, in ms.
const SHORTEST_PAUSE_MS: u64 = 100;
/// How often a refused token is tried again, in ms.
const TOKEN_PAUSE_MS: u64 = 15_000;

/// See above. Times are of the monotonic clock, in ms.
#[derive(Debug)]
pub struct Sender {
    /// How many entries a batch may have, by what was refused.
    batch_limit: usize,
    /// The same while nothing is refused.
    most: usize,
    failures: u32,
    not_before_ms: u64,
    gather_until_ms: Option<u64>,
    /// When the last request was begun.
    begun_ms: u64,
    flush_interval_ms: u64,
    draw: IdMint,
}

impl Sender {
    /// A sender of batches of at most so many entries, which are gathered for so many ms.
    pub fn new(most: usize, flush_interval_ms: u64, seed: u64) -> Self {
        Self {
            batch_limit: most,
            most,
            failures: 0,
            not_before_ms: 0,
            gather_until_ms: None,
            begun_ms: 0,
            flush_interval_ms,
            draw: IdMint::new(seed),
        }
    }

    /// How many entries a batch may have.
    pub fn batch_limit(&self) -> usize {
        self.batch_limit
    }

    /// How many tries failed since one went well.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// The receiver is left alone until then.
    pub fn not_before_ms(&self) -> u64 {
        self.not_before_ms
    }

    /// An entry came. The first one after a pause goes at once, those that follow it are gathered.
    pub fn came(&mut self, mono_ms: u64) {
        let until = self.begun_ms + self.flush_interval_ms;
        self.gather_until_ms.get_or_insert(until.max(mono_ms));
    }

    /// When the next request is due; `is_full` where a batch is.
    pub fn due_ms(&self, is_full: bool) -> u64 {
        let gathered = self.gather_until_ms.filter(|_| !is_full);
        gathered.unwrap_or(0).max(self.not_before_ms)
    }

    /// Whether a request may be made; `hurry` leaves out gathering and pauses.
    pub fn may_begin(&self, is_full: bool, mono_ms: u64, hurry: bool) -> bool {
        hurry || mono_ms >= self.due_ms(is_full)
    }

    /// A request is made.
    pub fn begin(&mut self, mono_ms: u64) {
        self.begun_ms = mono_ms;
    }

    /// Entries were acknowledged. What is left came meanwhile: it is gathered as if it had come with the request.
    pub fn left(&mut self, is_left: bool) {
        self.gather_until_ms = is_left.then_some(self.begun_ms + self.flush_interval_ms);
    }

    /// Larger batches are tried again.
    pub fn grow(&mut self) {
        self.batch_limit = (self.batch_limit * 2).min(self.most);
    }

    /// A batch of so many was refused: the next one has half of them, so that the entry at fault is found.
    pub fn halve(&mut self, size: usize) {
        self.batch_limit = (size / 2).max(1);
    }

    /// A request went well.
    pub fn recovered(&mut self) {
        self.failures = 0;
        self.not_before_ms = 0;
    }

    /// A request failed, and is made again after a pause that the receiver may ask for.
    pub fn failed(&mut self, reply: &Reply, mono_ms: u64) {
        self.failures = self.failures.saturating_add(1);
        let pause = self.jittered_pause();
        self.pause(pause, reply, mono_ms);
    }

    /// The same where a token was refused.
    pub fn token_refused(&mut self, reply: &Reply, mono_ms: u64) {
        self.failures = self.failures.saturating_add(1);
        self.pause(TOKEN_PAUSE_MS, reply, mono_ms);
    }

    fn pause(&mut self, pause_ms: u64, reply: &Reply, mono_ms: u64) {
        let asked = reply.retry_after_ms.unwrap_or(0).min(LONGEST_PAUSE_MS);
        self.not_before_ms = mono_ms + pause_ms.max(asked);
    }

    /// Full jitter: anything between nothing and the doubled pause, so that many do not come at once.
    fn jittered_pause(&mut self) -> u64 {
        let doubled = FIRST_PAUSE_MS << self.failures.saturating_sub(1).min(16);
        SHORTEST_PAUSE_MS + self.draw.bits() % doubled.min(LONGEST_PAUSE_MS)
    }
}
