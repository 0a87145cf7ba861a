//! Observations of the same call, from any surface, become one [`ModelCall`], once.
//!
//! Matching is one to one. A surface sees a call at most once, so an observation joins only a call
//! that its surface has not seen yet: the one with the same span, else the nearest in time with the
//! same usage, else the nearest whose usage is unknown or, within a few ms, differs (another
//! plugin changed the message). Two calls with equal usage stay two calls.
//!
//! The one exception is the same call told again by the same surface; see `again.rs`.
//!
//! Which surfaces there are, and how each is matched, merged and awaited, says the table in `observe/surface.rs` alone.
//!
//! A call is final when every surface that is awaited has spoken, or after the hold-back; one of whose end alone a
//! surface told waits for its message or its row, where the session store is read.
//! What comes later finds the call's slot: it is suppressed, enriches the call where it knows more, or
//! counts it after all where nothing that was billed had been told.

mod again;
mod kept;
#[cfg(test)]
mod made_up_tests;
mod open;
mod reasoning;
mod slot;
mod slots;
mod waits;

use std::collections::VecDeque;

use indexmap::IndexMap;
use serde::Serialize;

use crate::call::{CallId, IdMint, Outcome};
use crate::observe::{Observation, Surface, Surfaces};
use crate::time::Now;

use again::Again;
pub(crate) use again::key_of_call;
use open::Open;
pub use open::{Enrichment, Settled};
pub use slot::Slot;
use slot::{Fit, UNKNOWN_WITHIN_MS, bucket, clock_of};
use slots::Slots;
pub use waits::HOLD_BACK_MS;

/// The most enrichments that wait for the receiver to be known.
const MAX_ENRICHMENTS: usize = 1_024;
/// Calls of a session arrive in the order of their ends, give or take this, in ms: a slot that ended
/// longer before a call's start is not that call's.
const ARRIVES_WITHIN_MS: u64 = 10_000;
/// How long a final call's slot stays to suppress late observations, in ms.
const SLOT_AGE_MS: u64 = 600_000;
/// The same in seconds.
const SLOT_AGE_S: u32 = (SLOT_AGE_MS / 1_000) as u32;
/// The most slots, and so the most calls that can be matched: they fill what a list of them grows to.
const MAX_SLOTS: usize = 16_384;
/// The most calls that can wait at once; beyond it the oldest is final at once.
const MAX_OPEN: usize = 16_384;

/// What the ledger did, for the status.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct LedgerCounts {
    /// Calls that were final.
    pub counted: u64,
    /// Observations that joined a call seen before.
    pub merged: u64,
    /// Of those, the ones that came after the call was final.
    pub late: u64,
    /// Observations of calls that were told before by the same surface.
    pub duplicates: u64,
    /// Calls whose surfaces disagreed about usage; that of the lowest rank was taken.
    pub conflicts: u64,
    /// Turn totals of foreign harnesses that stood for calls already seen one by one.
    pub turns_merged: u64,
    /// Slots given up for want of room before their age.
    pub evicted: u64,
}

/// Whether a call was told before.
enum Known {
    No,
    /// By the same surface, or nobody remembers by whom.
    Before,
    /// By others; its slot stands at this place.
    ByOthers(usize),
}

/// The ledger of one gateway.
#[derive(Debug)]
pub struct Ledger {
    mint: IdMint,
    expect_diagnostics: bool,
    /// The surfaces that told of a failure: others may call `completed` what failed.
    tells_failures: Surfaces,
    open: IndexMap<u64, Open>,
    waiting: VecDeque<(u64, CallId)>,
    ready: Vec<CallId>,
    slots: Slots,
    /// Until when the session store is matched, on the wall clock; `None` where nobody reads it.
    reconciled_ms: Option<u64>,
    /// Slots of calls that ended by then were given up before the store was matched with them.
    unmatchable_ms: u64,
    again: Again,
    /// The surfaces that are awaited, each with a provider of whose calls it tells.
    awaited: Vec<(Surface, String)>,
    enrichments: Vec<Enrichment>,
    /// How far the wall clock was ahead of the monotonic one at the last sighting; see [`clock_of`].
    clock_ms: u64,
    /// Until then, on the monotonic clock, sightings may be of calls from before the wall clock was set.
    reset_until_ms: u64,
    counts: LedgerCounts,
}

impl Ledger {
    /// An empty ledger; `seed` must differ between processes.
    pub fn new(seed: u64) -> Self {
        Self {
            mint: IdMint::new(seed),
            expect_diagnostics: false,
            tells_failures: Surfaces::default(),
            open: IndexMap::new(),
            waiting: VecDeque::new(),
            ready: Vec::new(),
            slots: Slots::default(),
            reconciled_ms: None,
            unmatchable_ms: 0,
            again: Again::default(),
            awaited: Vec::new(),
            enrichments: Vec::new(),
            clock_ms: 0,
            reset_until_ms: 0,
            counts: LedgerCounts::default(),
        }
    }

    /// Whether a call's diagnostic is worth waiting for: set once the gateway is known to have them.
    pub fn expect_diagnostics(&mut self, expected: bool) {
        self.expect_diagnostics = expected;
    }

    /// What was done so far.
    pub fn counts(&self) -> LedgerCounts {
        self.counts
    }

    /// How many calls wait for their other surfaces.
    pub fn open(&self) -> usize {
        self.open.len()
    }

    /// How many calls can still be matched.
    pub fn slots(&self) -> usize {
        self.slots.len()
    }

    /// Takes one observation in; the id of the call that it belongs to, unless its surface told of that call before.
    pub fn observe(&mut self, observation: Observation, now: Now) -> Option<CallId> {
        if observation.outcome != Outcome::Completed {
            self.tells_failures = self.tells_failures.with(observation.surface);
        }
        self.await_more(&observation);
        self.look_at_clock(&observation, now);
        let known = match self.find_known(&observation, now) {
            Known::Before => {
                self.counts.duplicates += 1;
                return None;
            }
            Known::ByOthers(place) => Some((place, Fit::Told)),
            Known::No => self.best_slot(&observation, now),
        };
        self.again.was_told(&observation, now.mono_ms);
        self.remember(&observation);
        Some(match known {
            Some(found) => self.join(found, observation, now),
            // Old rows of the store take no slot from calls that still wait for theirs.
            None if self.slots.len() >= MAX_SLOTS / 2 && is_old_row(&observation, now) => {
                self.hold_history(observation, now)
            }
            None => {
                // Not only when it is due: many come in one go, and the list would grow to twice its size for them.
                if self.slots.len() >= MAX_SLOTS {
                    self.forget_old(now);
                }
                let id = self.mint.mint(now.wall_ms);
                self.begin(id, observation, now);
                id
            }
        })
    }

    /// Takes in a row of the session store that nobody else tells of, since it is older than anybody listened: it is a
    /// call of its own, and matched with nothing. `None` where it is a copy of one that was told before.
    pub fn observe_history(&mut self, observation: Observation, now: Now) -> Option<CallId> {
        if self.again.knows(&observation) || self.again.is_old_copy(&observation) {
            self.counts.duplicates += 1;
            return None;
        }
        self.remember(&observation);
        Some(self.hold_history(observation, now))
    }

    /// Its id follows from the row, so that whoever reads the store anew tells receivers the same call.
    fn hold_history(&mut self, observation: Observation, now: Now) -> CallId {
        let began = observation.started_ms.unwrap_or(observation.ended_ms);
        let id = match observation.row {
            Some(key) => CallId::of(began, key),
            None => self.mint.mint(now.wall_ms),
        };
        match self.open.contains_key(&id.key()) {
            true => self.counts.duplicates += 1,
            false => self.hold(id, observation, now),
        }
        id
    }

    /// Whether the call of an observation was told before, and by whom.
    fn find_known(&mut self, observation: &Observation, now: Now) -> Known {
        if self.again.was_just_told(observation, now.mono_ms) || self.again.is_old_copy(observation)
        {
            return Known::Before;
        }
        if !self.again.knows(observation) {
            return Known::No;
        }
        // A message and its row have the same key.
        let is_its = |slot: &Slot| slot.row.get() == observation.row;
        match self.slots.iter().position(is_its) {
            Some(place) if self.is_untold(place, observation) => Known::ByOthers(place),
            _ => Known::Before,
        }
    }

    fn is_untold(&self, place: usize, observation: &Observation) -> bool {
        let slot = self.slots.get(place);
        slot.is_some_and(|slot| !slot.has_told(observation.surface))
    }

    /// Remembers an observation's key for as long as there is room.
    fn remember(&mut self, observation: &Observation) {
        let began = observation.started_ms.unwrap_or(observation.ended_ms);
        self.again.remember(observation.row, began);
    }

    /// What final calls are known to have beyond what was counted; of those that have left, the others stay.
    pub fn take_enrichments(&mut self, has_left: impl Fn(CallId) -> bool) -> Vec<Enrichment> {
        let known = std::mem::take(&mut self.enrichments);
        let (left, waiting) = known.into_iter().partition(|known| has_left(known.id));
        self.enrichments = waiting;
        left
    }

    /// Slots are searched in the order of their times, which is another than that of the calls where the clock was set.
    fn look_at_clock(&mut self, observation: &Observation, now: Now) {
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

    fn is_complete(&self, open: &Open) -> bool {
        open.is_complete(self.expect_diagnostics) && !self.lacks_any(open)
    }

    /// The session store is matched with all calls until then (ms since 1970); from now on slots wait for it.
    pub fn reconciled(&mut self, until_ms: u64) {
        self.reconciled_ms = Some(until_ms);
    }

    /// Whether a row of the session store can still be matched with the call that it may be.
    pub fn is_matchable(&self, ended_ms: u64) -> bool {
        ended_ms > self.unmatchable_ms
    }

    /// A new id, for records that are no observation of a gateway's call.
    pub fn mint(&mut self, now: Now) -> CallId {
        self.mint.mint(now.wall_ms)
    }

    /// The calls that are final now.
    pub fn due(&mut self, now: Now) -> Vec<Settled> {
        self.end_waits(now.mono_ms);
        let due = std::mem::take(&mut self.ready)
            .into_iter()
            .filter_map(|id| {
                let open = self.open.swap_remove(&id.key())?;
                self.finish(id, open)
            })
            .collect();
        self.forget_old(now);
        due
    }

    /// Every call that still waits, final or not: for a gateway that stops. Where a journal `keeps` them, those stay
    /// open whose message is still to come: it follows the end by some ms, and the next instance hears it.
    pub fn close(&mut self, keeps: bool, now: Now) -> Vec<Settled> {
        // In order of first sight; those that are no longer open are passed over.
        let waiting = self.waiting.iter().map(|(_, id)| *id);
        let is_over = |id: &CallId| {
            let open = self.open.get(&id.key());
            !keeps || open.is_some_and(|open| !open.awaits_message())
        };
        self.ready = waiting.filter(is_over).collect();
        self.due(now)
    }

    /// When the next call becomes final by itself, on the monotonic clock.
    pub fn next_due(&self) -> Option<u64> {
        if !self.ready.is_empty() {
            return Some(0);
        }
        self.waiting
            .iter()
            .find(|(_, id)| self.open.contains_key(&id.key()))
            .map(|(first, _)| first + self.hold_back_ms())
    }

    /// The buckets in which an observation's call may be: where no session was told, any. The session store may
    /// have a call under another key than the gateway told: a job's run is kept with its job.
    fn buckets(&self, observation: &Observation) -> Vec<u64> {
        let model = observation.model.as_str();
        let own = bucket(model, observation.session_key.as_deref());
        let without_session = bucket(model, None);
        if own == without_session || observation.surface.is_stored() {
            self.slots.buckets().collect()
        } else {
            vec![own, without_session]
        }
    }

    /// The place of the slot that fits best, and how well it does.
    fn best_slot(&self, observation: &Observation, now: Now) -> Option<(usize, Fit)> {
        let clock = clock_of(observation, now);
        let is_reset = now.mono_ms < self.reset_until_ms;
        let buckets = self.buckets(observation);
        let began = observation.started_ms.unwrap_or(observation.ended_ms);
        let earliest = began.min(observation.ended_ms);
        buckets
            .iter()
            .flat_map(|bucket| {
                // From the newest: what ended long before this call began is not it, nor is what is older.
                let newest_first = self.slots.places(*bucket).rev();
                newest_first
                    .filter_map(|place| Some((place, self.slots.get(place)?)))
                    .take_while(move |(_, slot)| {
                        is_reset || slot.ended_ms + ARRIVES_WITHIN_MS >= earliest
                    })
                    .filter_map(move |(place, slot)| Some((place, slot.fit(observation, clock)?)))
            })
            .min_by_key(|(_, fit)| *fit)
    }

    fn begin(&mut self, id: CallId, observation: Observation, now: Now) {
        let mut slot = Slot::new(id, &observation, clock_of(&observation, now));
        slot.heard_s = seconds(now);
        self.slots.insert(slot);
        self.hold(id, observation, now);
    }

    /// A call waits for its other surfaces.
    fn hold(&mut self, id: CallId, observation: Observation, now: Now) {
        self.waiting.push_back((now.mono_ms, id));
        self.open.insert(id.key(), Open::new(id, now.mono_ms));
        self.view(id, observation, false, now);
    }

    fn join(&mut self, (place, fit): (usize, Fit), observation: Observation, now: Now) -> CallId {
        let Some(slot) = self.slots.get_mut(place) else {
            return CallId(0);
        };
        self.counts.merged += 1;
        if matches!(fit, Fit::ChangedUsage(_)) {
            self.counts.conflicts += 1;
        }
        slot.absorb(&observation, clock_of(&observation, now));
        let id = slot.id;
        let counts_after_all = slot.counts_after_all(&observation);
        if !self.open.contains_key(&id.key()) {
            self.counts.late += 1;
        }
        self.view(id, observation, counts_after_all, now);
        id
    }

    /// Lets an open call have one more view. A final one is enriched by it, or opened again where it
    /// `counts_after_all`.
    fn view(&mut self, id: CallId, observation: Observation, counts_after_all: bool, now: Now) {
        if counts_after_all {
            self.waiting.push_back((now.mono_ms, id));
            self.open.insert(id.key(), Open::new(id, now.mono_ms));
        }
        let Some(open) = self.open.get_mut(&id.key()) else {
            if self.enrichments.len() < MAX_ENRICHMENTS {
                self.enrichments.extend(Enrichment::of(id, &observation));
            }
            return;
        };
        // A journal has second deliveries too, whose times may be later.
        let view = &mut open.views[observation.surface as usize];
        view.get_or_insert_with(|| Box::new(observation));
        let is_complete = self
            .open
            .get(&id.key())
            .is_some_and(|open| counts_after_all || self.is_complete(open));
        if is_complete {
            self.ready.push(id);
        }
    }

    fn finish(&mut self, id: CallId, open: Open) -> Option<Settled> {
        let turn = open.lone_turn();
        if turn.is_some_and(|turn| self.turn_was_seen(id, turn)) {
            self.counts.turns_merged += 1;
            return None;
        }
        self.counts.counted += 1;
        // Who did not tell is gone, or did not get this call: it is awaited no more before it tells again.
        self.awaited.retain(|awaited| !open.lacks(awaited));
        let mut settled = open.settle(id);
        open.count_reasoning_once(&mut settled);
        // 2026.7.1 has no event for a failed call: it says `completed`, with zeros, and no message.
        let unanswered = open.unanswered();
        if unanswered.is_some_and(|told| !self.tells_failures.has(told.surface)) {
            settled.outcome = Outcome::Failed;
        }
        self.mark(&settled, &open);
        Some(settled)
    }

    /// Lets the slot of a call know whether it was billed, as far as that was told.
    fn mark(&mut self, settled: &Settled, open: &Open) {
        let Some(seen) = open.views().next() else {
            return;
        };
        let place = self.slots.place_of(settled.id, &self.buckets(seen));
        if let Some(slot) = place.and_then(|place| self.slots.get_mut(place)) {
            slot.is_unbilled = settled.usage.is_none() && settled.outcome != Outcome::Completed;
        }
    }

    /// Whether calls of a foreign harness's turn were seen one by one, by their messages.
    fn turn_was_seen(&self, id: CallId, turn: &Observation) -> bool {
        let started = turn.started_ms.unwrap_or(turn.ended_ms);
        let within = started.saturating_sub(UNKNOWN_WITHIN_MS)..=turn.ended_ms + UNKNOWN_WITHIN_MS;
        let bucket = bucket(&turn.model, turn.session_key.as_deref());
        let slots = || {
            let places = self.slots.places(bucket);
            places.filter_map(|place| self.slots.get(place))
        };
        let own = slots().find(|slot| slot.id == id);
        let clock = own.map_or(0, |slot| slot.clock_ms);
        slots()
            .filter(|slot| slot.saw_answer())
            .any(|slot| within.contains(&slot.ended_by(clock)))
    }

    fn forget_old(&mut self, now: Now) {
        while let Some(first) = self.slots.get(0) {
            let ended_ms = first.ended_ms;
            let is_matched = self.reconciled_ms.is_none_or(|until| ended_ms <= until);
            let age_s = seconds(now).saturating_sub(first.heard_s);
            // In whole seconds it may seem to be up to one older than it is.
            let old = is_matched && age_s > SLOT_AGE_S;
            if !old && self.slots.len() < MAX_SLOTS {
                break;
            }
            if self.open.contains_key(&first.id.key()) {
                break;
            }
            self.slots.forget_first();
            if !old {
                self.counts.evicted += 1;
                self.unmatchable_ms = self.unmatchable_ms.max(ended_ms);
            }
        }
    }
}

fn seconds(now: Now) -> u32 {
    (now.mono_ms / 1_000) as u32
}

/// Whether this is a stored row whose call no other surface tells of any more.
fn is_old_row(observation: &Observation, now: Now) -> bool {
    observation.surface.is_stored()
        && now.wall_ms.saturating_sub(observation.ended_ms) >= SLOT_AGE_MS
}
