//! When an outlet sends: gathering, batch size, and retries with backoff, at least as long as `Retry-After` asks. Each
//! of AgentWatch's calls, AgentWatch's records and a collector's two signals has its own sender.

use crate::delivery::reply::Reply;
use crate::domain::call::IdMint;

/// First backoff after a failure, in ms. It doubles with each failure, up to [`LONGEST_PAUSE_MS`].
const FIRST_PAUSE_MS: u64 = 1_000;
/// Longest backoff, in ms; longer values of `Retry-After` are cut to it.
const LONGEST_PAUSE_MS: u64 = 300_000;
/// Shortest backoff, in ms.
const SHORTEST_PAUSE_MS: u64 = 100;
/// Interval of retries after a refused token, in ms.
const TOKEN_PAUSE_MS: u64 = 15_000;

/// Batch size and backoff of one outlet. Times are of the monotonic clock, in ms.
#[derive(Debug)]
pub struct Sender {
    /// Current maximum number of entries in a batch; refusals reduce it.
    batch_limit: usize,
    /// Maximum number of entries in a batch without refusals.
    most: usize,
    failures: u32,
    not_before_ms: u64,
    gather_until_ms: Option<u64>,
    /// When the last request began.
    begun_ms: u64,
    flush_interval_ms: u64,
    draw: IdMint,
}

impl Sender {
    /// Creates a sender of batches of at most `most` entries. Entries are gathered for `flush_interval_ms`.
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

    /// Current maximum number of entries in a batch.
    pub fn batch_limit(&self) -> usize {
        self.batch_limit
    }

    /// Number of failed requests since the last success.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// End of the backoff, in ms of the monotonic clock.
    pub fn not_before_ms(&self) -> u64 {
        self.not_before_ms
    }

    /// Notes a new entry. The first entry after a quiet interval is due at once; entries within the flush interval of
    /// the last request are gathered.
    pub fn came(&mut self, mono_ms: u64) {
        let until = self.begun_ms + self.flush_interval_ms;
        self.gather_until_ms.get_or_insert(until.max(mono_ms));
    }

    /// When the next request is due, in ms of the monotonic clock. A full batch does not wait for further entries.
    pub fn due_ms(&self, is_full: bool) -> u64 {
        let gathered = self.gather_until_ms.filter(|_| !is_full);
        gathered.unwrap_or(0).max(self.not_before_ms)
    }

    /// Whether a request may begin. `hurry` skips gathering and backoff.
    pub fn may_begin(&self, is_full: bool, mono_ms: u64, hurry: bool) -> bool {
        hurry || mono_ms >= self.due_ms(is_full)
    }

    /// Notes that a request begins.
    pub fn begin(&mut self, mono_ms: u64) {
        self.begun_ms = mono_ms;
    }

    /// Notes that entries were acknowledged. The remaining entries are gathered from the begin of that request.
    pub fn left(&mut self, is_left: bool) {
        self.gather_until_ms = is_left.then_some(self.begun_ms + self.flush_interval_ms);
    }

    /// Doubles the batch limit, up to its maximum.
    pub fn grow(&mut self) {
        self.batch_limit = (self.batch_limit * 2).min(self.most);
    }

    /// Halves the batch limit after a refused batch of `size` entries, to isolate the entry at fault.
    pub fn halve(&mut self, size: usize) {
        self.batch_limit = (size / 2).max(1);
    }

    /// Notes a success: ends the backoff.
    pub fn recovered(&mut self) {
        self.failures = 0;
        self.not_before_ms = 0;
    }

    /// Notes a failure: starts the backoff, or a longer pause if `Retry-After` asks for it.
    pub fn failed(&mut self, reply: &Reply, mono_ms: u64) {
        self.failures = self.failures.saturating_add(1);
        let pause = self.jittered_pause();
        self.pause(pause, reply, mono_ms);
    }

    /// Notes a refused token: the next try is after `TOKEN_PAUSE_MS`, or later if `Retry-After` asks for it.
    pub fn token_refused(&mut self, reply: &Reply, mono_ms: u64) {
        self.failures = self.failures.saturating_add(1);
        self.pause(TOKEN_PAUSE_MS, reply, mono_ms);
    }

    fn pause(&mut self, pause_ms: u64, reply: &Reply, mono_ms: u64) {
        let asked = reply.retry_after_ms.unwrap_or(0).min(LONGEST_PAUSE_MS);
        self.not_before_ms = mono_ms + pause_ms.max(asked);
    }

    /// Backoff with full jitter: uniform between zero and the doubled backoff, so that many gateways do not retry at
    /// once.
    fn jittered_pause(&mut self) -> u64 {
        let doubled = FIRST_PAUSE_MS << self.failures.saturating_sub(1).min(16);
        SHORTEST_PAUSE_MS + self.draw.bits() % doubled.min(LONGEST_PAUSE_MS)
    }
}
