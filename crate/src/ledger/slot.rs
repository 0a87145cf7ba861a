//! What tells a call from its neighbours, and how well an observation fits it.

use super::reasoning::is_added_twice;
use crate::call::{CallId, Outcome, Usage};
use crate::identity::key_of;
use crate::observe::{Heard, Match, Observation, Surface, Surfaces};
use crate::time::Now;

/// Equal usage identifies a call within this distance in time, in ms.
const EQUAL_WITHIN_MS: u64 = 2_000;
/// A call of unknown usage is identified by its start or end alone, within this distance, in ms.
/// Surfaces of one call agree to 2 ms in every recorded run.
pub(super) const UNKNOWN_WITHIN_MS: u64 = 250;
/// Calls whose usage differs are the same only if they began this close together, in ms.
const CHANGED_WITHIN_MS: u64 = 50;

/// A figure that may be unknown, in half the room of an `Option`, of which a busy gateway's slots would have 16,000 each.
/// Nothing real is as large as what stands for none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Maybe(u64);

impl Maybe {
    const NONE: Self = Self(u64::MAX);

    pub(super) fn get(self) -> Option<u64> {
        (self != Self::NONE).then_some(self.0)
    }

    fn or(self, other: Option<u64>) -> Self {
        self.get().or(other).into()
    }
}

impl From<Option<u64>> for Maybe {
    fn from(figure: Option<u64>) -> Self {
        figure.map_or(Self::NONE, Self)
    }
}

impl From<Maybe> for Option<u64> {
    fn from(figure: Maybe) -> Self {
        figure.get()
    }
}

/// What calls are matched by of their usage: the whole prompt and the answer. `model:used` knows no more of it, and only
/// who reads the provider's answer knows how much of it was reasoning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tokens {
    pub(super) prompt: Maybe,
    pub(super) output: u64,
}

impl Tokens {
    fn is_known(self) -> bool {
        self.prompt != Maybe::NONE
    }
}

impl From<Option<Usage>> for Tokens {
    fn from(usage: Option<Usage>) -> Self {
        Self {
            prompt: usage.map(|usage| usage.prompt()).into(),
            output: usage.unwrap_or_default().output,
        }
    }
}

impl From<Tokens> for Option<Usage> {
    fn from(tokens: Tokens) -> Self {
        tokens.prompt.get().map(|input| Usage {
            input,
            output: tokens.output,
            ..Usage::default()
        })
    }
}

/// What identifies a call among its neighbours; outlives the call to suppress late observations.
#[derive(Debug, Clone, PartialEq)]
pub struct Slot {
    pub(crate) id: CallId,
    pub(crate) bucket: u64,
    pub(crate) model: u64,
    pub(crate) span: Maybe,
    pub(crate) started_ms: Maybe,
    pub(crate) ended_ms: u64,
    pub(crate) usage: Tokens,
    pub(crate) seen: Surfaces,
    /// Whether anything that knows told of an answer, or of what was billed.
    pub(crate) is_answered: bool,
    /// The key by which it is known when it is told again; see [`super::again`].
    pub(crate) row: Maybe,
    /// It failed or was stopped, and nothing that told of it in time knew of any usage.
    pub(crate) is_unbilled: bool,
    /// When this process heard of it first, on the monotonic clock, in whole seconds: that is all its age needs.
    pub(crate) heard_s: u32,
    /// The clock by which this process heard of it first; see [`clock_of`].
    pub(crate) clock_ms: u64,
}

/// How well an observation fits a slot; less is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fit {
    Told,
    Span,
    EqualUsage(u64),
    UnknownUsage(u64),
    ChangedUsage(u64),
}

impl Slot {
    pub(super) fn new(id: CallId, observation: &Observation, clock_ms: u64) -> Self {
        let mut slot = Self {
            id,
            bucket: bucket(&observation.model, observation.session_key.as_deref()),
            model: key_of(&[&observation.model]),
            span: Maybe::NONE,
            started_ms: Maybe::NONE,
            ended_ms: observation.ended_ms,
            usage: Tokens::from(None),
            seen: Surfaces::default(),
            is_answered: false,
            row: Maybe::NONE,
            is_unbilled: false,
            heard_s: 0,
            clock_ms,
        };
        slot.absorb(observation, clock_ms);
        slot
    }

    /// Whether a surface told of it.
    pub(super) fn has_told(&self, surface: Surface) -> bool {
        self.seen.has(surface)
    }

    /// When it began, as far as that is known, in ms since 1970.
    pub(super) fn began_ms(&self) -> u64 {
        self.started_ms.get().unwrap_or(self.ended_ms)
    }

    /// Whether its answer was told as such.
    pub(super) fn saw_answer(&self) -> bool {
        self.seen.meets(Surfaces::OF_ANSWERS)
    }

    /// Takes over what identifies the call better than what was known.
    pub(super) fn absorb(&mut self, observation: &Observation, clock_ms: u64) {
        if self.clock_ms == 0 {
            self.clock_ms = clock_ms;
        }
        let is_truer = self.is_truer(observation);
        self.seen = self.seen.with(observation.surface);
        self.is_answered |= is_answered(observation);
        self.span = self.span.or(span_hash(observation));
        self.row = self.row.or(observation.row);
        self.started_ms = match observation.surface.row().row_start_ms {
            Some(0) => Maybe::from(observation.started_ms).or(self.started_ms.get()),
            _ => self.started_ms.or(observation.started_ms),
        };
        if !self.usage.is_known() || (is_truer && observation.usage.is_some()) {
            self.usage = observation.usage.into();
        }
    }

    /// Whether this counts a call of which nothing billed was known; once.
    pub(super) fn counts_after_all(&mut self, observation: &Observation) -> bool {
        let counts = self.is_unbilled && observation.usage.is_some();
        self.is_unbilled &= !counts;
        counts
    }

    /// Whether an observation's usage replaces what was told before: the gateway's replaces what was seen on the way, since
    /// the gateway says the same everywhere; and another plugin can change an answer's usage, so what ranks before it is
    /// truer.
    fn is_truer(&self, observation: &Observation) -> bool {
        let answers = Surfaces::OF_ANSWERS.iter();
        let rank = |surface: Surface| surface.row().usage.unwrap_or(u8::MAX);
        let ranks_first = answers.map(rank).all(|of| rank(observation.surface) < of);
        self.is_by_ways() || (ranks_first && !observation.surface.is_way())
    }

    /// Whether a stored row of other usage has the start that this call's row would have: a row of which nobody told
    /// would take its neighbour's slot, and the neighbour's own row would count again.
    fn has_start(&self, start_apart: Option<u64>) -> bool {
        let known = self
            .seen
            .iter()
            .filter_map(|surface| surface.row().row_start_ms);
        let apart = start_apart.zip(known.min());
        apart.is_none_or(|(apart, most)| apart <= most)
    }

    /// Whether it was seen on its way alone, and by nobody of the gateway.
    fn is_by_ways(&self) -> bool {
        self.seen.is_within(Surfaces::ON_THE_WAY)
    }

    /// Whether an observation may be of another try of the call: a gateway tells of those that failed together with the
    /// answer, who sees them pass tells of each.
    fn is_another_try(&self, observation: &Observation) -> bool {
        match is_answered(observation) {
            true => !self.is_answered && self.seen.is_within(Surfaces::OF_TRIES),
            false => self.is_answered && Surfaces::OF_TRIES.has(observation.surface),
        }
    }

    /// By how much the wall clock was set since this was heard, in ms.
    fn set_by(&self, clock_ms: u64) -> i64 {
        match self.clock_ms == 0 || clock_ms == 0 {
            true => 0,
            false => clock_ms.wrapping_sub(self.clock_ms) as i64,
        }
    }

    /// Whether it is the same usage, in which a gateway counted the reasoning twice.
    fn has_reasoning_of(&self, observation: &Observation) -> bool {
        let prompt = self.usage.prompt.get();
        let told = observation.usage.as_ref().zip(prompt);
        told.is_some_and(|(usage, prompt)| is_added_twice(prompt, self.usage.output, usage))
    }

    /// When it ended, as another moment's clock would have it.
    pub(super) fn ended_by(&self, clock_ms: u64) -> u64 {
        let set_by = self.set_by(clock_ms);
        self.ended_ms.saturating_add_signed(set_by)
    }

    pub(super) fn fit(&self, observation: &Observation, clock_ms: u64) -> Option<Fit> {
        if self.seen.has(observation.surface) || self.model != key_of(&[&observation.model]) {
            return None;
        }
        match (self.span.get(), span_hash(observation)) {
            (Some(a), Some(b)) if a == b => return Some(Fit::Span),
            (Some(_), Some(_)) => return None,
            _ => {}
        }
        let set_by = self.set_by(clock_ms);
        let heard_apart = self.ended_by(clock_ms).abs_diff(observation.ended_ms);
        // Times come again: calls an hour apart may say the same.
        if set_by < -(UNKNOWN_WITHIN_MS as i64) && heard_apart > EQUAL_WITHIN_MS {
            return None;
        }
        // What an event says of itself may be of before the clock was set, or of after.
        let apart = |ours: u64, theirs: u64| {
            let set = ours.saturating_add_signed(set_by);
            set.abs_diff(theirs).min(ours.abs_diff(theirs))
        };
        let start_apart = self
            .started_ms
            .get()
            .zip(observation.started_ms)
            .map(|(ours, theirs)| apart(ours, theirs));
        let end_apart = apart(self.ended_ms, observation.ended_ms);
        let apart = start_apart.map_or(end_apart, |start| start.min(end_apart));
        // Nothing but its times tells whose it is: of calls that begin together one may be told of by the gateway, and
        // all by who saw them pass.
        let has_passed = || observation.surface.is_way() || self.is_by_ways();
        let usage = Tokens::from(observation.usage);
        let needs = |how| observation.surface.row().matched_by == how;
        let is_told = self.usage.is_known() && usage.is_known();
        match is_told.then(|| self.usage == usage || self.has_reasoning_of(observation)) {
            Some(true) => (apart <= EQUAL_WITHIN_MS).then_some(Fit::EqualUsage(apart)),
            _ if needs(Match::SameStart) && !self.has_start(start_apart) => None,
            None if self.is_another_try(observation) => None,
            None => (apart <= UNKNOWN_WITHIN_MS).then_some(Fit::UnknownUsage(apart)),
            Some(_) if needs(Match::EqualUsage) => None,
            Some(_) if has_passed() && end_apart > UNKNOWN_WITHIN_MS => None,
            Some(_) => start_apart
                .filter(|apart| *apart <= CHANGED_WITHIN_MS)
                .map(Fit::ChangedUsage),
        }
    }
}

/// How far the wall clock is ahead of the monotonic one while this process hears of a call, in ms: where it differs, the
/// clock was set meanwhile. 0 where others heard of it, or read of it.
pub(super) fn clock_of(observation: &Observation, now: Now) -> u64 {
    let is_heard = observation.surface.row().heard == Heard::Live;
    match is_heard && !observation.elsewhere {
        true => now.wall_ms.wrapping_sub(now.mono_ms),
        false => 0,
    }
}

/// Whether an observation knows of an answer, or of what was billed.
fn is_answered(observation: &Observation) -> bool {
    let knows = observation.surface.row().knows_success;
    observation.usage.is_some() || (knows && observation.outcome == Outcome::Completed)
}

pub(super) fn bucket(model: &str, session_key: Option<&str>) -> u64 {
    key_of(&[model, session_key.unwrap_or_default()])
}

fn span_hash(observation: &Observation) -> Option<u64> {
    observation.span_id.as_deref().map(|span| key_of(&[span]))
}
