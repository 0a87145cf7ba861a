//! Matching: the observations of one call, from any surface, become one [`ModelCall`](crate::domain::call::ModelCall), once.
//!
//! Matching is one to one. A surface reports a call at most once, so an observation joins only a call that its surface
//! has not reported yet: the call with the same span, else the call with the same usage that is nearest in time, else
//! the call with the same answer by the provider's id, else the nearest call whose usage is unknown or, within a few ms,
//! differs (another plugin changed the message, or a gateway excludes tokens that are billed). Two calls with equal usage
//! stay two calls.
//!
//! Repeated reports of a call by the same surface are dropped: see `duplicates.rs`.
//!
//! The table in `domain/surface.rs` defines the surfaces: how each is matched, merged and awaited.
//!
//! A call is final when every awaited surface has reported it, or when the hold-back period ends. Where the session
//! store is read, a call of which only the end was reported waits longer, for its message or its row. An observation
//! that arrives after that finds the call's match record. It is suppressed; it enriches the call if it knows more; or
//! the call is counted late if no earlier observation had usage.

mod duplicates;
mod journalled;
#[cfg(test)]
mod made_up_tests;
mod match_record;
mod match_records;
mod pending;
mod reasoning;
mod waits;

use std::collections::VecDeque;

use indexmap::IndexMap;
use serde::Serialize;

use crate::domain::call::{CallId, IdMint, Outcome};
use crate::domain::identity::key_of;
use crate::domain::observation::Observation;
use crate::domain::surface::{Surface, Surfaces};
use crate::domain::time::Now;

use duplicates::Duplicates;
pub(crate) use duplicates::key_of_call;
pub use match_record::MatchRecord;
use match_record::{Fit, UNKNOWN_WITHIN_MS, bucket, clock_of};
use match_records::MatchRecords;
use pending::PendingCall;
pub use pending::{Enrichment, Settled};
pub use waits::HOLD_BACK_MS;

/// Maximum number of enrichments that wait for delivery.
const MAX_ENRICHMENTS: usize = 1_024;
/// Calls of a session arrive in the order of their ends, within this tolerance in ms: a match record that ended longer
/// before a call's start belongs to another call.
const ARRIVES_WITHIN_MS: u64 = 10_000;
/// How long the match record of a final call is kept to suppress late observations, in ms.
const RECORD_AGE_MS: u64 = 600_000;
/// The same in s.
const RECORD_AGE_S: u32 = (RECORD_AGE_MS / 1_000) as u32;
/// Maximum number of match records. A list that doubles its capacity is full at this number.
const MAX_RECORDS: usize = 16_384;
/// Maximum number of pending calls; beyond it the oldest becomes final.
const MAX_PENDING: usize = 16_384;

/// Counters for the status.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct MatcherCounts {
    /// Calls that became final.
    pub counted: u64,
    /// Observations that joined a known call.
    pub merged: u64,
    /// Merged observations that arrived after their call was final.
    pub late: u64,
    /// Repeated reports of a call by the same surface.
    pub duplicates: u64,
    /// Calls whose surfaces reported different usage; the surface with the lowest rank decides.
    pub conflicts: u64,
    /// Turn totals of foreign harnesses that were dropped, since the turn's calls were reported one by one.
    pub turns_merged: u64,
    /// Match records that were dropped before their age, because the table was full.
    pub evicted: u64,
}

/// Whether an observation repeats an earlier report.
enum Repeat {
    No,
    /// The same surface reported the call, or its match record is gone.
    BySameSurface,
    /// The call is known, and this report adds to it: other surfaces reported it, or a log without usage. Index of its
    /// match record.
    AddsTo(usize),
}

/// The ledger of one gateway.
#[derive(Debug)]
pub struct Matcher {
    mint: IdMint,
    expect_diagnostics: bool,
    /// The surfaces that ever reported a failure. Some gateways report failed calls as `completed` on every surface.
    tells_failures: Surfaces,
    pending: IndexMap<u64, PendingCall>,
    waiting: VecDeque<(u64, CallId)>,
    ready: Vec<CallId>,
    /// Dropped turn totals, until they are taken.
    merged_turns: Vec<CallId>,
    records: MatchRecords,
    /// The session store is matched up to this time, in ms since 1970 on the wall clock; `None` where it is not read.
    reconciled_ms: Option<u64>,
    /// Match records of calls that ended at or before this time were dropped before the store was matched with them.
    unmatchable_ms: u64,
    duplicates: Duplicates,
    /// The awaited surfaces, each with a provider whose calls it reports.
    awaited: Vec<(Surface, String)>,
    /// Whether `awaited` changed since it was journalled.
    has_new_awaited: bool,
    enrichments: Vec<Enrichment>,
    /// Difference of wall clock and monotonic clock at the last live observation, in ms; see [`clock_of`].
    clock_ms: u64,
    /// Until this time on the monotonic clock, observations may be of calls from before the wall clock was set.
    reset_until_ms: u64,
    counts: MatcherCounts,
}

impl Matcher {
    /// An empty ledger; `seed` must differ between processes.
    pub fn new(seed: u64) -> Self {
        Self {
            mint: IdMint::new(seed),
            expect_diagnostics: false,
            tells_failures: Surfaces::default(),
            pending: IndexMap::new(),
            waiting: VecDeque::new(),
            ready: Vec::new(),
            merged_turns: Vec::new(),
            records: MatchRecords::default(),
            reconciled_ms: None,
            unmatchable_ms: 0,
            duplicates: Duplicates::default(),
            awaited: Vec::new(),
            has_new_awaited: false,
            enrichments: Vec::new(),
            clock_ms: 0,
            reset_until_ms: 0,
            counts: MatcherCounts::default(),
        }
    }

    /// Sets whether calls wait for their diagnostic: true once the gateway is known to emit diagnostics.
    pub fn expect_diagnostics(&mut self, expected: bool) {
        self.expect_diagnostics = expected;
    }

    /// Counters since the start.
    pub fn counts(&self) -> MatcherCounts {
        self.counts
    }

    /// Number of pending calls.
    pub fn open(&self) -> usize {
        self.pending.len()
    }

    /// Whether a call is not final yet.
    pub fn is_pending(&self, id: CallId) -> bool {
        self.pending.contains_key(&id.key())
    }

    /// Number of match records.
    pub fn match_records(&self) -> usize {
        self.records.len()
    }

    /// Takes in one observation. Returns the id of its call, or `None` for a repeated report.
    pub fn observe(&mut self, observation: Observation, now: Now) -> Option<CallId> {
        if observation.outcome != Outcome::Completed {
            self.tells_failures = self.tells_failures.with(observation.surface);
        }
        self.note_awaited(&observation);
        self.track_clock(&observation, now);
        let found = match self.find_repeat(&observation, now) {
            Repeat::BySameSurface => {
                self.counts.duplicates += 1;
                return None;
            }
            Repeat::AddsTo(index) => Some((index, Fit::SameKey)),
            Repeat::No => self.best_record(&observation, now),
        };
        if found.is_none() && self.duplicates.knows_row_of(&observation) {
            self.counts.duplicates += 1;
            return None;
        }
        self.duplicates.remember_recent(&observation, now.mono_ms);
        self.duplicates.remember_call(&observation);
        Some(match found {
            Some(found) => self.merge(found, observation, now),
            None if self.is_half_full() && is_old_row(&observation, now) => {
                self.add_history(observation, now)
            }
            None => {
                // `due` does this too, but many observations can arrive before it runs, and the list would double its
                // capacity.
                if self.records.len() >= MAX_RECORDS {
                    self.forget_old(now);
                }
                let id = self.mint.mint(now.wall_ms);
                self.add_call(id, observation, now);
                id
            }
        })
    }

    /// Whether half of the match records are taken. Old store rows get none from then on: calls that wait for their row
    /// need the room.
    fn is_half_full(&self) -> bool {
        self.records.len() >= MAX_RECORDS / 2
    }

    /// Takes in a session store row that is older than the first start of this plugin: a call of its own, which is not
    /// matched. `None` where the row is a duplicate. Other surfaces may still report the latest of these calls.
    pub fn observe_history(&mut self, observation: Observation, now: Now) -> Option<CallId> {
        if self.duplicates.knows(&observation) || self.duplicates.is_old_copy(&observation) {
            self.counts.duplicates += 1;
            return None;
        }
        self.duplicates.remember_call(&observation);
        Some(self.add_history(observation, now))
    }

    /// The id is derived from the row, so that a second reading of the store sends the same id.
    fn add_history(&mut self, observation: Observation, now: Now) -> CallId {
        let began = observation.started_ms.unwrap_or(observation.ended_ms);
        let id = match observation.call_key {
            Some(key) => CallId::of(began, key),
            None => self.mint.mint(now.wall_ms),
        };
        if self.pending.contains_key(&id.key()) {
            self.counts.duplicates += 1;
        } else if self.is_half_full() || is_old_row(&observation, now) {
            self.add_pending(id, observation, now);
        } else {
            self.add_call(id, observation, now);
        }
        id
    }

    /// Whether the observation's call was reported before, and by which surface.
    fn find_repeat(&mut self, observation: &Observation, now: Now) -> Repeat {
        if self
            .duplicates
            .is_recent_duplicate(observation, now.mono_ms)
            || self.duplicates.is_old_copy(observation)
        {
            return Repeat::BySameSurface;
        }
        if !self.duplicates.knows(observation) {
            return match self.log_without_usage(observation) {
                Some(index) => Repeat::AddsTo(index),
                None => Repeat::No,
            };
        }
        // A message and its stored row have the same key.
        let is_its = |record: &MatchRecord| record.call_key.get() == observation.call_key;
        match self.records.iter().position(is_its) {
            Some(index) if self.is_unreported(index, observation) => Repeat::AddsTo(index),
            _ => Repeat::BySameSurface,
        }
    }

    /// Index of the match record of a pending call that a bridge logged without usage, and of which this is the second
    /// log.
    fn log_without_usage(&self, observation: &Observation) -> Option<usize> {
        if !self.duplicates.may_complete(observation) {
            return None;
        }
        let is_its = |record: &MatchRecord| {
            let pending = self.pending.get(&record.id.key());
            let known = pending.and_then(|pending| pending.observation(observation.surface));
            known.is_some_and(|known| {
                known.usage.is_none()
                    && known.outcome == Outcome::Completed
                    && known.request_id == observation.request_id
            })
        };
        self.records.iter().position(is_its)
    }

    fn is_unreported(&self, index: usize, observation: &Observation) -> bool {
        let record = self.records.get(index);
        record.is_some_and(|record| !record.has_reported(observation.surface))
    }

    /// Takes the enrichments of the calls for which `has_left` is true; the others stay.
    pub fn take_enrichments(&mut self, has_left: impl Fn(CallId) -> bool) -> Vec<Enrichment> {
        let known = std::mem::take(&mut self.enrichments);
        let (left, waiting) = known.into_iter().partition(|known| has_left(known.id));
        self.enrichments = waiting;
        left
    }

    /// Match records are searched in the order of their wall-clock times, which differs from the order of the calls for
    /// a while after the clock was set.
    fn track_clock(&mut self, observation: &Observation, now: Now) {
        let clock_ms = clock_of(observation, now);
        if clock_ms == 0 {
            return;
        }
        let is_first = self.clock_ms == 0;
        if !is_first && clock_ms.abs_diff(self.clock_ms) > UNKNOWN_WITHIN_MS {
            self.reset_until_ms = now.mono_ms + ARRIVES_WITHIN_MS;
        }
        self.clock_ms = clock_ms;
    }

    fn is_complete(&self, pending: &PendingCall) -> bool {
        pending.is_complete(self.expect_diagnostics) && !self.lacks_any(pending)
    }

    /// Sets the time (ms since 1970) up to which the session store is matched. From the first call on, match records
    /// wait for it.
    pub fn reconciled(&mut self, until_ms: u64) {
        self.reconciled_ms = Some(until_ms);
    }

    /// Whether the match record of a store row's call can still exist.
    pub fn is_matchable(&self, ended_ms: u64) -> bool {
        ended_ms > self.unmatchable_ms
    }

    /// A new id, for records that do not come from an observation.
    pub fn mint(&mut self, now: Now) -> CallId {
        self.mint.mint(now.wall_ms)
    }

    /// Takes the calls that are final now.
    pub fn due(&mut self, now: Now) -> Vec<Settled> {
        self.end_waits(now.mono_ms);
        let due = std::mem::take(&mut self.ready)
            .into_iter()
            .filter_map(|id| {
                let pending = self.pending.swap_remove(&id.key())?;
                self.finish(id, pending)
            })
            .collect();
        self.forget_old(now);
        due
    }

    /// Settles the pending calls of a gateway that stops. Where a journal `keeps` them, calls whose message is still to
    /// come stay pending: the message follows the end by some ms, and the next instance receives it.
    pub fn close(&mut self, keeps: bool, now: Now) -> Vec<Settled> {
        // In order of first observation. Calls that are no longer pending are skipped.
        let waiting = self.waiting.iter().map(|(_, id)| *id);
        let is_over = |id: &CallId| {
            let pending = self.pending.get(&id.key());
            !keeps || pending.is_some_and(|pending| !pending.may_get_message())
        };
        self.ready = waiting.filter(is_over).collect();
        self.due(now)
    }

    /// Takes the ids of the turn totals that were dropped, since the turn's calls were reported one by one.
    pub fn take_merged_turns(&mut self) -> Vec<CallId> {
        std::mem::take(&mut self.merged_turns)
    }

    /// When the next call becomes final without a further observation, in ms on the monotonic clock.
    pub fn next_due(&self) -> Option<u64> {
        if !self.ready.is_empty() {
            return Some(0);
        }
        self.waiting
            .iter()
            .find(|(_, id)| self.pending.contains_key(&id.key()))
            .map(|(first, _)| first + self.hold_back_ms())
    }

    /// The buckets that may hold an observation's call; all of them where no session was reported. The session store
    /// may file a call under another key than the gateway reported: a job's run under its job.
    fn buckets(&self, observation: &Observation) -> Vec<u64> {
        let model = observation.model.as_str();
        let own = bucket(model, observation.session_key.as_deref());
        let without_session = bucket(model, None);
        if own == without_session || observation.surface.is_stored() {
            self.records.buckets().collect()
        } else {
            vec![own, without_session]
        }
    }

    /// Index of the best match record, and how well it fits.
    fn best_record(&self, observation: &Observation, now: Now) -> Option<(usize, Fit)> {
        let clock = clock_of(observation, now);
        let is_reset = now.mono_ms < self.reset_until_ms;
        let buckets = self.buckets(observation);
        let model = key_of(&[&observation.model]);
        let began = observation.started_ms.unwrap_or(observation.ended_ms);
        let earliest = began.min(observation.ended_ms);
        buckets
            .iter()
            .flat_map(|bucket| {
                // From the newest. A record that ended long before this call began is another call, and so are all
                // older records.
                let newest_first = self.records.places(*bucket).rev();
                newest_first
                    .filter_map(|index| Some((index, self.records.get(index)?)))
                    .take_while(move |(_, record)| {
                        is_reset || record.ended_ms + ARRIVES_WITHIN_MS >= earliest
                    })
                    .filter_map(move |(index, record)| {
                        Some((index, record.fit(observation, model, clock)?))
                    })
            })
            .min_by_key(|(_, fit)| *fit)
    }

    fn add_call(&mut self, id: CallId, observation: Observation, now: Now) {
        let mut record = MatchRecord::new(id, &observation, clock_of(&observation, now));
        record.first_seen_s = seconds(now);
        self.records.insert(record);
        self.add_pending(id, observation, now);
    }

    fn add_pending(&mut self, id: CallId, observation: Observation, now: Now) {
        self.waiting.push_back((now.mono_ms, id));
        self.pending
            .insert(id.key(), PendingCall::new(id, now.mono_ms));
        self.add_observation(id, observation, false, now);
    }

    fn merge(&mut self, (index, fit): (usize, Fit), observation: Observation, now: Now) -> CallId {
        let Some(record) = self.records.get_mut(index) else {
            return CallId(0);
        };
        self.counts.merged += 1;
        if matches!(fit, Fit::ChangedUsage(_) | Fit::SameAnswer(_)) {
            self.counts.conflicts += 1;
        }
        record.absorb(&observation, clock_of(&observation, now));
        let id = record.id;
        let counts_late = record.counts_late(&observation);
        if !self.pending.contains_key(&id.key()) {
            self.counts.late += 1;
        }
        self.add_observation(id, observation, counts_late, now);
        id
    }

    /// Adds an observation to a pending call. For a final call it becomes an enrichment; with `reopens`, the call is
    /// pending again.
    fn add_observation(&mut self, id: CallId, observation: Observation, reopens: bool, now: Now) {
        if reopens {
            self.waiting.push_back((now.mono_ms, id));
            self.pending
                .insert(id.key(), PendingCall::new(id, now.mono_ms));
        }
        let Some(pending) = self.pending.get_mut(&id.key()) else {
            if self.enrichments.len() < MAX_ENRICHMENTS {
                self.enrichments.extend(Enrichment::of(id, &observation));
            }
            return;
        };
        // The first observation of a surface wins: a journal holds repeated deliveries too, whose times may be later. A
        // bridge's log with usage replaces one without.
        let known = &mut pending.observations[observation.surface as usize];
        let lacks = |known: &Observation| known.usage.is_none() && observation.usage.is_some();
        if known.as_deref().is_none_or(lacks) {
            *known = Some(Box::new(observation));
        }
        let is_complete = self
            .pending
            .get(&id.key())
            .is_some_and(|pending| reopens || self.is_complete(pending));
        if is_complete {
            self.ready.push(id);
        }
    }

    fn finish(&mut self, id: CallId, pending: PendingCall) -> Option<Settled> {
        let turn = pending.unanswered_turn();
        if turn.is_some_and(|turn| self.turn_is_counted(id, turn)) {
            self.counts.turns_merged += 1;
            self.merged_turns.push(id);
            return None;
        }
        self.counts.counted += 1;
        // A surface that did not report this call may be gone: calls do not wait for it until it reports again.
        let before = self.awaited.len();
        self.awaited.retain(|awaited| !pending.lacks(awaited));
        self.has_new_awaited |= self.awaited.len() < before;
        let mut settled = pending.settle(id);
        pending.count_reasoning_once(&mut settled);
        // 2026.7.1 has no event for a failed call: it says `completed`, with zeros, and no message.
        let unanswered = pending.unanswered();
        if unanswered.is_some_and(|told| !self.tells_failures.has(told.surface)) {
            settled.outcome = Outcome::Failed;
        }
        self.mark(&settled);
        Some(settled)
    }

    /// Stores in the match record whether any usage was reported.
    fn mark(&mut self, settled: &Settled) {
        if let Some(record) = self.records.recent_mut(settled.id) {
            record.is_unbilled = settled.usage.is_none() && settled.outcome != Outcome::Completed;
        }
    }

    /// Whether calls of a foreign harness's turn were reported one by one, by their messages.
    fn turn_is_counted(&self, id: CallId, turn: &Observation) -> bool {
        let started = turn.started_ms.unwrap_or(turn.ended_ms);
        let within = started.saturating_sub(UNKNOWN_WITHIN_MS)..=turn.ended_ms + UNKNOWN_WITHIN_MS;
        let bucket = bucket(&turn.model, turn.session_key.as_deref());
        let records = || {
            let places = self.records.places(bucket);
            places.filter_map(|index| self.records.get(index))
        };
        let own = records().find(|record| record.id == id);
        let clock = own.map_or(0, |record| record.clock_ms);
        records()
            .filter(|record| record.has_reported_answer())
            .any(|record| within.contains(&record.ended_by(clock)))
    }

    fn forget_old(&mut self, now: Now) {
        while let Some(first) = self.records.get(0) {
            let ended_ms = first.ended_ms;
            let is_matched = self.reconciled_ms.is_none_or(|until| ended_ms <= until);
            let age_s = seconds(now).saturating_sub(first.first_seen_s);
            // Whole seconds make it look up to one second older.
            let old = is_matched && age_s > RECORD_AGE_S;
            if !old && self.records.len() < MAX_RECORDS {
                break;
            }
            if self.pending.contains_key(&first.id.key()) {
                break;
            }
            self.records.forget_first();
            if !old {
                self.counts.evicted += 1;
                // A call under a clock that was ahead says nothing of the rows until then.
                self.unmatchable_ms = self.unmatchable_ms.max(ended_ms.min(now.wall_ms));
            }
        }
    }
}

fn seconds(now: Now) -> u32 {
    (now.mono_ms / 1_000) as u32
}

/// Whether this is a stored row so old that no other surface reports its call any more.
fn is_old_row(observation: &Observation, now: Now) -> bool {
    observation.surface.is_stored()
        && now.wall_ms.saturating_sub(observation.ended_ms) >= RECORD_AGE_MS
}
