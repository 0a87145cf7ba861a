//! Observations of the same call, from any surface, become one [`ModelCall`], once.
//!
//! Matching is one to one. A surface sees a call at most once, so an observation joins only a call
//! that its surface has not seen yet: the one with the same span, else the nearest in time with the
//! same usage, else the nearest whose usage is unknown or, within a few ms, differs (another
//! plugin changed the message). Two calls with equal usage stay two calls.
//!
//! The one exception is the same observation delivered twice, by two registrations of the plugin: equal
//! in all that tells calls apart, its own times included, and hardly later.
//!
//! A call is final when both its message and its diagnostic have spoken, or after the hold-back.
//! What comes later finds the call's slot and is suppressed.

use std::collections::VecDeque;
use std::hash::Hasher;

use serde::{Deserialize, Serialize};
use siphasher::sip::SipHasher13;

use crate::call::{CallId, Cost, CostSource, IdMint, Latency, LatencySource, Outcome, Usage};
use crate::journal::Frame;
use crate::observe::{Observation, SURFACES, Surface};
use crate::table::{Table, key_of};
use crate::time::Now;

/// How long a call waits for its other surfaces, in ms: diagnostics were seen up to 240 ms late.
pub const HOLD_BACK_MS: u64 = 1_000;
/// Equal usage identifies a call within this distance in time, in ms.
const EQUAL_WITHIN_MS: u64 = 2_000;
/// A call of unknown usage is identified by its start or end alone, within this distance, in ms.
/// Surfaces of one call agree to 2 ms in every recorded run.
const UNKNOWN_WITHIN_MS: u64 = 250;
/// Calls whose usage differs are the same only if they began this close together, in ms.
const CHANGED_WITHIN_MS: u64 = 50;
/// The same observation again is a second delivery of it within this time, in ms.
const REPEATED_WITHIN_MS: u64 = 2_000;
/// The most observations that are remembered to tell second deliveries.
const MAX_RECENT: usize = 4_096;
/// Calls of a session arrive in the order of their ends, give or take this, in ms: a slot that ended
/// longer before a call's start is not that call's.
const ARRIVES_WITHIN_MS: u64 = 10_000;
/// How long a final call's slot stays to suppress late observations, in ms.
const SLOT_AGE_MS: u64 = 600_000;
/// The most slots, and so the most calls that can be matched.
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
    /// Observations that were delivered twice.
    pub duplicates: u64,
    /// Calls whose surfaces disagreed about usage; the diagnostic's was taken.
    pub conflicts: u64,
    /// Turn totals of foreign harnesses that stood for calls already seen one by one.
    pub turns_merged: u64,
    /// Slots given up for want of room before their age.
    pub evicted: u64,
}

/// A final call, before it is put into the form that leaves.
#[derive(Debug, Clone, PartialEq)]
pub struct Settled {
    /// Minted at first sight.
    pub id: CallId,
    /// When it ended, in ms since 1970.
    pub ended_ms: u64,
    /// OpenClaw's name of the provider; may be empty where only a model's name was told.
    pub provider: String,
    /// The provider's name of the model.
    pub model: String,
    /// The agent's id.
    pub agent: Option<String>,
    /// The session's key, in the form in which it may leave.
    pub session_key: Option<String>,
    /// The run's id, in the form in which it may leave.
    pub run_id: Option<String>,
    /// What started the run.
    pub trigger: Option<String>,
    /// Tokens; `None` where none were reported.
    pub usage: Option<Usage>,
    /// What it cost.
    pub cost: Cost,
    /// How long it took.
    pub latency: Option<Latency>,
    /// Time to the first byte, in ms.
    pub ttfb_ms: Option<f64>,
    /// How it ended.
    pub outcome: Outcome,
    /// Whether only the session store told of it.
    pub stored: bool,
    /// Whether only other processes saw it.
    pub elsewhere: bool,
}

/// What identifies a call among its neighbours; outlives the call to suppress late observations.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Slot {
    id: CallId,
    bucket: u64,
    model: u64,
    span: Option<u64>,
    started_ms: Option<u64>,
    ended_ms: u64,
    usage: Option<Usage>,
    seen: u8,
    /// Its row in the session store.
    row: Option<u64>,
}

/// A call that still waits for its other surfaces.
#[derive(Debug)]
struct Open {
    id: CallId,
    first_mono_ms: u64,
    views: [Option<Box<Observation>>; SURFACES],
}

/// The ledger of one gateway.
#[derive(Debug)]
pub struct Ledger {
    mint: IdMint,
    expect_diagnostics: bool,
    tells_errors: bool,
    open: Table<Open>,
    waiting: VecDeque<(u64, CallId)>,
    ready: Vec<CallId>,
    slots: Table<VecDeque<Slot>>,
    order: VecDeque<(Now, u64, CallId)>,
    /// Until when the session store is matched, on the wall clock; `None` where nobody reads it.
    reconciled_ms: Option<u64>,
    /// Slots of calls that ended by then were given up before the store was matched with them.
    unmatchable_ms: u64,
    recent: VecDeque<(u64, u64, CallId)>,
    counts: LedgerCounts,
}

/// How well an observation fits a slot; less is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fit {
    Span,
    EqualUsage(u64),
    UnknownUsage(u64),
    ChangedUsage(u64),
}

impl Ledger {
    /// An empty ledger; `seed` must differ between processes.
    pub fn new(seed: u64) -> Self {
        Self {
            mint: IdMint::new(seed),
            expect_diagnostics: false,
            tells_errors: false,
            open: Table::default(),
            waiting: VecDeque::new(),
            ready: Vec::new(),
            slots: Table::default(),
            order: VecDeque::new(),
            reconciled_ms: None,
            unmatchable_ms: 0,
            recent: VecDeque::new(),
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
        self.order.len()
    }

    /// Takes one observation in; the id of the call that it belongs to.
    pub fn observe(&mut self, observation: Observation, now: Now) -> CallId {
        self.tells_errors |=
            observation.surface == Surface::Diagnostic && observation.outcome != Outcome::Completed;
        let print = fingerprint(&observation);
        if let Some(id) = print.and_then(|print| self.delivered_before(print, now)) {
            self.counts.duplicates += 1;
            return id;
        }
        if let Some(id) = self.call_of_row(observation.row) {
            self.counts.duplicates += 1;
            return id;
        }
        let id = match self.best_slot(&observation) {
            Some((bucket, index, fit)) => self.join(bucket, index, fit, observation),
            // What nobody tells of any more takes no slot from those that still wait for the store.
            None if self.order.len() >= MAX_SLOTS / 2 && is_old_row(&observation, now) => {
                self.observe_history(observation, now)
            }
            None => {
                let id = self.mint.mint(now.wall_ms);
                self.begin(id, observation, now);
                id
            }
        };
        self.recent
            .extend(print.map(|print| (now.mono_ms, print, id)));
        id
    }

    /// Takes in a row of the session store that nobody else tells of, since it is older than anybody listened: it is a
    /// call of its own, and matched with nothing. Its id follows from the row, so that whoever reads the store anew
    /// tells receivers the same call.
    pub fn observe_history(&mut self, observation: Observation, now: Now) -> CallId {
        let id = match observation.row {
            Some(row) => CallId::of(observation.ended_ms, row),
            None => self.mint.mint(now.wall_ms),
        };
        match self.open.contains(id.key()) {
            true => self.counts.duplicates += 1,
            false => self.hold(id, observation, now),
        }
        id
    }

    /// The call whose row this is a copy of: forks and runs of jobs copy rows into other sessions.
    fn call_of_row(&self, row: Option<u64>) -> Option<CallId> {
        row?;
        let mut slots = self.slots.values().flatten();
        slots.find(|slot| slot.row == row).map(|slot| slot.id)
    }

    /// The call of an observation that is delivered for the second time.
    fn delivered_before(&mut self, print: u64, now: Now) -> Option<CallId> {
        while let Some(&(at, _, _)) = self.recent.front() {
            let is_old = now.mono_ms.saturating_sub(at) > REPEATED_WITHIN_MS;
            if !is_old && self.recent.len() <= MAX_RECENT {
                break;
            }
            self.recent.pop_front();
        }
        let same = |(_, known, _): &&(u64, u64, CallId)| *known == print;
        self.recent.iter().find(same).map(|(_, _, id)| *id)
    }

    /// Everything that matching needs, for a fresh instance.
    pub fn frames(&self) -> impl Iterator<Item = Frame> {
        let open = self.open.values().flat_map(|open| {
            let views = open.views.iter().flatten();
            views.map(|view| Frame::Seen(open.id, view.clone()))
        });
        let slots = self
            .slots
            .values()
            .flatten()
            .filter(|slot| !self.open.contains(slot.id.key()))
            .map(|slot| Frame::Slot(Box::new(slot.clone())));
        open.chain(slots)
    }

    /// Takes an observation from a journal, under the id that it had.
    pub fn restore(&mut self, id: CallId, observation: Observation, now: Now) {
        let is_known = |slot: &Slot| slot.id == id;
        let buckets = self.buckets(&observation);
        let bucket = buckets.into_iter().find(|bucket| {
            let slots = self.slots.get(*bucket);
            slots.is_some_and(|slots| slots.iter().any(is_known))
        });
        let known = bucket
            .and_then(|bucket| self.slots.get_mut(bucket))
            .and_then(|slots| slots.iter_mut().find(|slot| is_known(slot)));
        let Some(slot) = known else {
            return self.begin(id, observation, now);
        };
        slot.absorb(&observation);
        if let Some(open) = self.open.get_mut(id.key()) {
            let surface = observation.surface;
            open.views[surface as usize] = Some(Box::new(observation));
            if open.is_complete(self.expect_diagnostics) {
                self.ready.push(id);
            }
        }
    }

    /// Takes a final call's slot from a journal.
    pub fn restore_slot(&mut self, slot: Slot, now: Now) {
        let seen = Now {
            wall_ms: slot.ended_ms,
            ..now
        };
        self.order.push_back((seen, slot.bucket, slot.id));
        self.put(slot);
    }

    /// Puts a slot among its bucket's, which stand in the order of their ends: a gap that is filled late is older than
    /// what was told since.
    fn put(&mut self, slot: Slot) {
        let slots = self.slots.entry(slot.bucket, VecDeque::new);
        let before = slots
            .iter()
            .rev()
            .take_while(|other| other.ended_ms > slot.ended_ms)
            .count();
        slots.insert(slots.len() - before, slot);
    }

    /// Marks a restored call as final: it is not settled again.
    pub fn restore_final(&mut self, id: CallId) {
        self.open.remove(id.key());
        self.ready.retain(|ready| *ready != id);
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
        while let Some(&(first, id)) = self.waiting.front() {
            let gone = !self.open.contains(id.key());
            let expired = now.mono_ms.saturating_sub(first) >= HOLD_BACK_MS;
            if !gone && !expired && self.waiting.len() <= MAX_OPEN {
                break;
            }
            self.waiting.pop_front();
            if !gone {
                self.ready.push(id);
            }
        }
        let due = std::mem::take(&mut self.ready)
            .into_iter()
            .filter_map(|id| {
                let open = self.open.remove(id.key())?;
                self.finish(id, open)
            })
            .collect();
        self.forget_old(now);
        due
    }

    /// Every call that still waits, final or not: for a gateway that stops.
    pub fn close(&mut self, now: Now) -> Vec<Settled> {
        // In order of first sight; those that are no longer open are passed over.
        self.ready = self.waiting.iter().map(|(_, id)| *id).collect();
        self.due(now)
    }

    /// When the next call becomes final by itself, on the monotonic clock.
    pub fn next_due(&self) -> Option<u64> {
        if !self.ready.is_empty() {
            return Some(0);
        }
        self.waiting
            .iter()
            .find(|(_, id)| self.open.contains(id.key()))
            .map(|(first, _)| first + HOLD_BACK_MS)
    }

    /// The buckets in which an observation's call may be: where no session was told, any. The session store may
    /// have a call under another key than the gateway told: a job's run is kept with its job.
    fn buckets(&self, observation: &Observation) -> Vec<u64> {
        let model = observation.model.as_str();
        let own = bucket(model, observation.session_key.as_deref());
        let without_session = bucket(model, None);
        if own == without_session || observation.surface == Surface::Stored {
            self.slots.keys().collect()
        } else {
            vec![own, without_session]
        }
    }

    fn best_slot(&self, observation: &Observation) -> Option<(u64, usize, Fit)> {
        let buckets = self.buckets(observation);
        let began = observation.started_ms.unwrap_or(observation.ended_ms);
        let earliest = began.min(observation.ended_ms);
        buckets
            .iter()
            .filter_map(|bucket| Some((*bucket, self.slots.get(*bucket)?)))
            .flat_map(|(bucket, slots)| {
                // From the newest: what ended long before this call began is not it, nor is what is older.
                slots
                    .iter()
                    .enumerate()
                    .rev()
                    .take_while(|(_, slot)| slot.ended_ms + ARRIVES_WITHIN_MS >= earliest)
                    .filter_map(move |(index, slot)| Some((bucket, index, slot.fit(observation)?)))
            })
            .min_by_key(|(_, _, fit)| *fit)
    }

    fn begin(&mut self, id: CallId, observation: Observation, now: Now) {
        let slot = Slot::new(id, &observation);
        let bucket = slot.bucket;
        self.put(slot);
        let seen = Now {
            wall_ms: observation.ended_ms,
            ..now
        };
        self.order.push_back((seen, bucket, id));
        self.hold(id, observation, now);
    }

    /// A call waits for its other surfaces.
    fn hold(&mut self, id: CallId, observation: Observation, now: Now) {
        let surface = observation.surface;
        let mut open = Open {
            id,
            first_mono_ms: now.mono_ms,
            views: [const { None }; SURFACES],
        };
        open.views[surface as usize] = Some(Box::new(observation));
        self.waiting.push_back((open.first_mono_ms, id));
        if open.is_complete(self.expect_diagnostics) {
            self.ready.push(id);
        }
        self.open.insert(id.key(), open);
    }

    fn join(&mut self, bucket: u64, index: usize, fit: Fit, observation: Observation) -> CallId {
        let Some(slot) = self
            .slots
            .get_mut(bucket)
            .and_then(|slots| slots.get_mut(index))
        else {
            return CallId(0);
        };
        self.counts.merged += 1;
        if matches!(fit, Fit::ChangedUsage(_)) {
            self.counts.conflicts += 1;
        }
        slot.absorb(&observation);
        let id = slot.id;
        let Some(open) = self.open.get_mut(id.key()) else {
            self.counts.late += 1;
            return id;
        };
        let surface = observation.surface;
        open.views[surface as usize] = Some(Box::new(observation));
        if open.is_complete(self.expect_diagnostics) {
            self.ready.push(id);
        }
        id
    }

    fn finish(&mut self, id: CallId, open: Open) -> Option<Settled> {
        if open.is_lone_turn() && self.turn_was_seen(&open) {
            self.counts.turns_merged += 1;
            return None;
        }
        self.counts.counted += 1;
        let mut settled = open.settle(id);
        // 2026.7.1 has no event for a failed call: it says `completed`, with zeros, and no message.
        if open.is_unanswered() && !self.tells_errors {
            settled.outcome = Outcome::Failed;
        }
        Some(settled)
    }

    /// Whether calls of a foreign harness's turn were seen one by one, by their messages.
    fn turn_was_seen(&self, open: &Open) -> bool {
        let Some(turn) = &open.views[Surface::Diagnostic as usize] else {
            return false;
        };
        let started = turn.started_ms.unwrap_or(turn.ended_ms);
        let within = started.saturating_sub(UNKNOWN_WITHIN_MS)..=turn.ended_ms + UNKNOWN_WITHIN_MS;
        let bucket = bucket(&turn.model, turn.session_key.as_deref());
        self.slots.get(bucket).is_some_and(|slots| {
            slots
                .iter()
                .any(|slot| slot.saw(Surface::Message) && within.contains(&slot.ended_ms))
        })
    }

    fn forget_old(&mut self, now: Now) {
        while let Some(&(first, bucket, id)) = self.order.front() {
            let is_matched = self
                .reconciled_ms
                .is_none_or(|until| first.wall_ms <= until);
            let old = is_matched && now.mono_ms.saturating_sub(first.mono_ms) >= SLOT_AGE_MS;
            if !old && self.order.len() <= MAX_SLOTS {
                break;
            }
            if self.open.contains(id.key()) {
                break;
            }
            self.order.pop_front();
            if !old {
                self.counts.evicted += 1;
                self.unmatchable_ms = self.unmatchable_ms.max(first.wall_ms);
            }
            if let Some(slots) = self.slots.get_mut(bucket) {
                if let Some(index) = slots.iter().position(|slot| slot.id == id) {
                    slots.remove(index);
                }
                if slots.is_empty() {
                    self.slots.remove(bucket);
                }
            }
        }
    }
}

impl Slot {
    fn new(id: CallId, observation: &Observation) -> Self {
        let mut slot = Self {
            id,
            bucket: bucket(&observation.model, observation.session_key.as_deref()),
            model: key_of(&[&observation.model]),
            span: None,
            started_ms: None,
            ended_ms: observation.ended_ms,
            usage: None,
            seen: 0,
            row: None,
        };
        slot.absorb(observation);
        slot
    }

    fn saw(&self, surface: Surface) -> bool {
        self.seen & (1 << surface as u8) != 0
    }

    /// Takes over what identifies the call better than what was known.
    fn absorb(&mut self, observation: &Observation) {
        self.seen |= 1 << observation.surface as u8;
        self.span = self.span.or(span_hash(observation));
        self.row = self.row.or(observation.row);
        self.started_ms = self.started_ms.or(observation.started_ms);
        if self.usage.is_none() || observation.surface == Surface::Diagnostic {
            self.usage = observation.usage.or(self.usage);
        }
    }

    /// `model:used` tells whole prompts only, so with it only the sums can be compared.
    fn same_usage(&self, surface: Surface, a: &Usage, b: &Usage) -> bool {
        let sums = surface == Surface::Named || self.seen == 1 << Surface::Named as u8;
        a == b || (sums && a.prompt() == b.prompt() && a.output == b.output)
    }

    fn fit(&self, observation: &Observation) -> Option<Fit> {
        if self.saw(observation.surface) || self.model != key_of(&[&observation.model]) {
            return None;
        }
        match (self.span, span_hash(observation)) {
            (Some(a), Some(b)) if a == b => return Some(Fit::Span),
            (Some(_), Some(_)) => return None,
            _ => {}
        }
        let start_apart = self
            .started_ms
            .zip(observation.started_ms)
            .map(|(a, b)| a.abs_diff(b));
        let end_apart = self.ended_ms.abs_diff(observation.ended_ms);
        let apart = start_apart.map_or(end_apart, |start| start.min(end_apart));
        match self.usage.zip(observation.usage) {
            Some((a, b)) if self.same_usage(observation.surface, &a, &b) => {
                (apart <= EQUAL_WITHIN_MS).then_some(Fit::EqualUsage(apart))
            }
            None => (apart <= UNKNOWN_WITHIN_MS).then_some(Fit::UnknownUsage(apart)),
            Some(_) if observation.surface == Surface::Named => None,
            Some(_) => start_apart
                .filter(|apart| *apart <= CHANGED_WITHIN_MS)
                .map(Fit::ChangedUsage),
        }
    }
}

impl Open {
    fn view(&self, surface: Surface) -> Option<&Observation> {
        self.views[surface as usize].as_deref()
    }

    fn is_complete(&self, expect_diagnostics: bool) -> bool {
        // What was stored is told long after the others had their chance.
        if self.view(Surface::Stored).is_some() {
            return true;
        }
        let diagnostic = self.view(Surface::Diagnostic).is_some() || !expect_diagnostics;
        self.view(Surface::Message).is_some() && diagnostic
    }

    fn is_unanswered(&self) -> bool {
        let diagnostic = self.view(Surface::Diagnostic);
        self.view(Surface::Message).is_none() && diagnostic.is_some_and(|call| call.told_zeros)
    }

    fn is_lone_turn(&self) -> bool {
        self.view(Surface::Message).is_none()
            && self
                .view(Surface::Diagnostic)
                .is_some_and(|turn| turn.whole_turn)
    }

    /// The first figure that a surface has, asked in this order.
    fn first<T>(&self, order: &[Surface], figure: impl Fn(&Observation) -> Option<T>) -> Option<T> {
        order
            .iter()
            .filter_map(|surface| self.view(*surface))
            .find_map(figure)
    }

    fn settle(&self, id: CallId) -> Settled {
        use Surface::{Diagnostic, Litellm, Message, Named, Proxied, Stored, Timing};
        // The gateway's own diagnostic cannot be changed by another plugin; the message can.
        let truest = [Diagnostic, Message, Proxied, Litellm, Named, Stored, Timing];
        let speakers = [Message, Diagnostic, Timing, Proxied, Litellm, Named, Stored];
        let outcome = self.first(&speakers, |o| Some(o.outcome));
        // What a provider bills is the truth; OpenClaw and LiteLLM reckon with prices.
        let cost = [
            (&[Proxied][..], CostSource::Provider),
            (
                &[Diagnostic, Message, Named, Stored][..],
                CostSource::Openclaw,
            ),
            (&[Litellm][..], CostSource::Table),
        ]
        .into_iter()
        .find_map(|(of, source)| Some((self.first(of, |o| o.cost_usd)?, source)));
        Settled {
            id,
            ended_ms: self
                .first(
                    &[Diagnostic, Timing, Proxied, Message, Litellm, Named, Stored],
                    |o| Some(o.ended_ms),
                )
                .unwrap_or_default(),
            provider: self
                .first(&truest, |o| {
                    Some(o.provider.clone()).filter(|provider| !provider.is_empty())
                })
                .unwrap_or_default(),
            model: self
                .first(&truest, |o| Some(o.model.clone()))
                .unwrap_or_default(),
            agent: self.first(&speakers, |o| o.agent.clone()),
            session_key: self.first(&truest, |o| o.session_key.clone()),
            run_id: self.first(&truest, |o| o.run_id.clone()),
            trigger: self.first(&truest, |o| o.trigger.clone()),
            usage: self.first(&truest, |o| o.usage),
            cost: Cost {
                usd: cost.map_or(0.0, |(usd, _)| usd),
                source: cost.map_or(CostSource::Unknown, |(_, source)| source),
            },
            latency: self.latency(),
            ttfb_ms: self.first(&[Proxied, Diagnostic, Timing, Litellm], |o| o.ttfb_ms),
            outcome: outcome.unwrap_or(Outcome::Completed),
            stored: self.views.iter().flatten().all(|o| o.surface == Stored),
            elsewhere: self.views.iter().flatten().all(|o| o.elsewhere),
        }
    }

    fn latency(&self) -> Option<Latency> {
        use Surface::{Diagnostic, Litellm, Message, Named, Proxied, Timing};
        let measured = [Diagnostic, Timing, Proxied, Litellm, Named];
        let measured = self.first(&measured, |o| o.duration_ms);
        let hook = || {
            self.first(&[Message], |o| {
                Some((o.ended_ms - o.started_ms.filter(|s| *s <= o.ended_ms)?) as f64)
            })
        };
        match measured {
            Some(ms) => Some(Latency {
                ms,
                source: LatencySource::Measured,
            }),
            None => hook().map(|ms| Latency {
                ms,
                source: LatencySource::Hook,
            }),
        }
    }
}

/// Whether this is a stored row whose call no other surface tells of any more.
fn is_old_row(observation: &Observation, now: Now) -> bool {
    observation.surface == Surface::Stored
        && now.wall_ms.saturating_sub(observation.ended_ms) >= SLOT_AGE_MS
}

fn bucket(model: &str, session_key: Option<&str>) -> u64 {
    key_of(&[model, session_key.unwrap_or_default()])
}

/// What two deliveries of one observation have in common, and two calls have not: its surface, session,
/// model, usage and outcome, the ids that it has, and a time of its own. `None` where its only time is that of
/// its arrival.
fn fingerprint(observation: &Observation) -> Option<u64> {
    let time = match (&observation.span_id, observation.surface) {
        (Some(_), _) => observation
            .duration_ms
            .map(f64::to_bits)
            .unwrap_or_default(),
        (None, Surface::Message | Surface::Diagnostic | Surface::Proxied | Surface::Litellm) => {
            observation.started_ms?
        }
        // A stored row is told apart by where it was read.
        (None, Surface::Timing | Surface::Named | Surface::Stored) => return None,
    };
    let mut hasher = SipHasher13::new();
    let texts = [
        Some(&observation.provider),
        Some(&observation.model),
        observation.session_key.as_ref(),
        observation.span_id.as_ref(),
        observation.response_id.as_ref(),
    ];
    for text in texts {
        hasher.write(text.map_or(&[][..], |text| text.as_bytes()));
        hasher.write_u8(0xff);
    }
    let usage = observation.usage.unwrap_or_default();
    let tokens = [
        usage.input,
        usage.output,
        usage.cache_read,
        usage.cache_write,
    ];
    for number in tokens {
        hasher.write_u64(number);
    }
    hasher.write_u64(time);
    hasher.write_u8(observation.surface as u8);
    hasher.write_u8(observation.outcome as u8);
    Some(hasher.finish())
}

fn span_hash(observation: &Observation) -> Option<u64> {
    observation.span_id.as_deref().map(|span| key_of(&[span]))
}
