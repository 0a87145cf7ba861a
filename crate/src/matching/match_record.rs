//! Match records: what identifies a call among its neighbours, and how well an observation fits.

use super::reasoning::is_added_twice;
use crate::domain::call::{CallId, Outcome, Usage};
use crate::domain::identity::key_of;
use crate::domain::observation::Observation;
use crate::domain::surface::{Match, Surface, SurfaceKind, Surfaces};
use crate::domain::time::Now;

/// Maximum distance in time between observations of one call with equal usage, in ms.
const EQUAL_WITHIN_MS: u64 = 2_000;
/// Maximum distance of the starts or the ends of observations of one call where a usage is unknown, in ms. The surfaces
/// of one call agree to 2 ms in every recorded run.
pub(super) const UNKNOWN_WITHIN_MS: u64 = 250;
/// Maximum distance of the starts of observations of one call whose usage differs, in ms.
const CHANGED_WITHIN_MS: u64 = 50;

/// An optional `u64` in half the memory of an `Option`: a busy gateway has 16,000 match records. `u64::MAX` means none;
/// no real figure is that large.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OptionalU64(u64);

impl OptionalU64 {
    const NONE: Self = Self(u64::MAX);

    pub(super) fn get(self) -> Option<u64> {
        (self != Self::NONE).then_some(self.0)
    }

    fn or(self, other: Option<u64>) -> Self {
        self.get().or(other).into()
    }
}

impl From<Option<u64>> for OptionalU64 {
    fn from(figure: Option<u64>) -> Self {
        figure.map_or(Self::NONE, Self)
    }
}

impl From<OptionalU64> for Option<u64> {
    fn from(figure: OptionalU64) -> Self {
        figure.get()
    }
}

/// The part of the usage by which calls are matched: the whole prompt and the output. `model:used` reports no more, and
/// only surfaces that read the provider's answer know the reasoning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tokens {
    pub(crate) prompt: OptionalU64,
    pub(super) output: u64,
}

impl Tokens {
    fn is_known(self) -> bool {
        self.prompt != OptionalU64::NONE
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

/// Identifies a call among its neighbours. It outlives the call, to suppress late observations.
#[derive(Debug, Clone, PartialEq)]
pub struct MatchRecord {
    pub(crate) id: CallId,
    pub(crate) bucket: u64,
    pub(crate) model: u64,
    pub(crate) span: OptionalU64,
    pub(crate) started_ms: OptionalU64,
    pub(crate) ended_ms: u64,
    pub(crate) usage: Tokens,
    pub(crate) seen: Surfaces,
    /// Whether a surface with reliable success reported an answer, or any surface reported usage.
    pub(crate) is_answered: bool,
    /// The call's key for duplicates; see [`super::duplicates`].
    pub(crate) call_key: OptionalU64,
    /// Hash of the provider's id of the answer. Absent in a record that the journal restored.
    pub(crate) answer: OptionalU64,
    /// It failed or was aborted, and was final without usage.
    pub(crate) is_unbilled: bool,
    /// Whether a surface reported several requests. Not in a record that the journal restored.
    pub(crate) is_several: bool,
    /// When this process first observed it, in s on the monotonic clock.
    pub(crate) first_seen_s: u32,
    /// Clock difference at the first observation; see [`clock_of`].
    pub(crate) clock_ms: u64,
}

/// How well an observation fits a match record; less is better. Distances in ms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fit {
    SameKey,
    Span,
    EqualUsage(u64),
    /// Usage that differs, of one answer by its id, or by the same sum in other parts. It ranks behind equal usage, since
    /// some servers give all answers one id.
    SameAnswer(u64),
    UnknownUsage(u64),
    ChangedUsage(u64),
}

impl MatchRecord {
    pub(super) fn new(id: CallId, observation: &Observation, clock_ms: u64) -> Self {
        let mut record = Self {
            id,
            bucket: bucket(&observation.model, observation.session_key.as_deref()),
            model: key_of(&[&observation.model]),
            span: OptionalU64::NONE,
            started_ms: OptionalU64::NONE,
            ended_ms: observation.ended_ms,
            usage: Tokens::from(None),
            seen: Surfaces::default(),
            is_answered: false,
            call_key: OptionalU64::NONE,
            answer: OptionalU64::NONE,
            is_unbilled: false,
            is_several: false,
            first_seen_s: 0,
            clock_ms,
        };
        record.absorb(observation, clock_ms);
        record
    }

    /// Whether this surface reported it.
    pub(super) fn has_reported(&self, surface: Surface) -> bool {
        self.seen.has(surface)
    }

    /// Its begin, else its end, in ms since 1970.
    pub(super) fn began_ms(&self) -> u64 {
        self.started_ms.get().unwrap_or(self.ended_ms)
    }

    /// Whether a surface that reports each answer reported it.
    pub(super) fn has_reported_answer(&self) -> bool {
        self.seen.meets(Surfaces::REPORT_ANSWERS)
    }

    /// Merges an observation into the record.
    pub(super) fn absorb(&mut self, observation: &Observation, clock_ms: u64) {
        if self.clock_ms == 0 {
            self.clock_ms = clock_ms;
        }
        let replaces_usage = self.replaces_usage(observation);
        self.seen = self.seen.with(observation.surface);
        self.is_answered |= is_answered(observation);
        self.is_several |= is_several(observation);
        self.span = self.span.or(span_hash(observation));
        self.call_key = self.call_key.or(observation.call_key);
        self.answer = self.answer.or(answer_hash(observation));
        self.started_ms = match observation.surface.row().row_start_ms {
            Some(0) => OptionalU64::from(observation.started_ms).or(self.started_ms.get()),
            _ => self.started_ms.or(observation.started_ms),
        };
        if !self.usage.is_known() || (replaces_usage && observation.usage.is_some()) {
            self.usage = observation.usage.into();
        }
    }

    /// Whether this observation is the first with usage of a call that was final without any. True once.
    pub(super) fn counts_late(&mut self, observation: &Observation) -> bool {
        let counts = self.is_unbilled && observation.usage.is_some();
        self.is_unbilled &= !counts;
        counts
    }

    /// Whether an observation's usage replaces the known one. The gateway's replaces an intermediary's, since all of
    /// the gateway's surfaces report the same usage. A surface that ranks before messages replaces theirs, since other
    /// plugins can change messages.
    fn replaces_usage(&self, observation: &Observation) -> bool {
        let answers = Surfaces::REPORT_ANSWERS.iter();
        let rank = |surface: Surface| surface.row().usage.unwrap_or(u8::MAX);
        let ranks_first = answers.map(rank).all(|of| rank(observation.surface) < of);
        self.is_by_intermediaries() || (ranks_first && !observation.surface.is_intermediary())
    }

    /// Whether the start of a stored row with other usage is close enough to this call's. A looser rule would match a
    /// row that no other surface reported with its neighbour's record, and the neighbour's own row would count again.
    fn has_start(&self, start_apart: Option<u64>) -> bool {
        let known = self
            .seen
            .iter()
            .filter_map(|surface| surface.row().row_start_ms);
        let apart = start_apart.zip(known.min());
        apart.is_none_or(|(apart, most)| apart <= most)
    }

    /// Whether only intermediaries reported it, and no surface of the gateway.
    fn is_by_intermediaries(&self) -> bool {
        self.seen.is_within(Surfaces::INTERMEDIARIES)
    }

    /// Whether an observation may be of another attempt of the call: a gateway reports failed attempts together with
    /// the answer, an intermediary reports each.
    fn is_other_attempt(&self, observation: &Observation) -> bool {
        match is_answered(observation) {
            true => !self.is_answered && self.seen.is_within(Surfaces::REPORT_ATTEMPTS),
            false => self.is_answered && Surfaces::REPORT_ATTEMPTS.has(observation.surface),
        }
    }

    /// By how many ms the wall clock was set since the first observation.
    fn clock_shift(&self, clock_ms: u64) -> i64 {
        match self.clock_ms == 0 || clock_ms == 0 {
            true => 0,
            false => clock_ms.wrapping_sub(self.clock_ms) as i64,
        }
    }

    /// Whether the usage is equal but for reasoning that a gateway counted twice.
    fn differs_by_reasoning(&self, observation: &Observation) -> bool {
        let prompt = self.usage.prompt.get();
        let told = observation.usage.as_ref().zip(prompt);
        told.is_some_and(|(usage, prompt)| is_added_twice(prompt, self.usage.output, usage))
    }

    /// Maximum distance of the starts where usage differs, in ms. The gateway's usage of several requests is less than the
    /// proxy's, so there the difference is no sign of two calls.
    fn changed_within_ms(&self, observation: &Observation) -> u64 {
        match self.is_several || is_several(observation) {
            true => UNKNOWN_WITHIN_MS,
            false => CHANGED_WITHIN_MS,
        }
    }

    /// Whether prompt and output have the same sum: 2026.3.13 counts what tools put into a prompt of Gemini as output.
    fn has_sum(&self, usage: Tokens) -> bool {
        let sum = |usage: Tokens| usage.prompt.get().map(|prompt| prompt + usage.output);
        sum(self.usage) == sum(usage)
    }

    /// Whether both report one answer, by the provider's id of it.
    fn has_answer(&self, observation: &Observation) -> bool {
        let told = answer_hash(observation);
        told.is_some() && self.answer.get() == told
    }

    /// Its end, converted to the wall clock at another moment.
    pub(super) fn ended_by(&self, clock_ms: u64) -> u64 {
        let clock_shift = self.clock_shift(clock_ms);
        self.ended_ms.saturating_add_signed(clock_shift)
    }

    /// How well an observation fits; `None` if it is of another call. `model` is the key of the observation's model.
    pub(super) fn fit(&self, observation: &Observation, model: u64, clock_ms: u64) -> Option<Fit> {
        if self.seen.has(observation.surface) || self.model != model {
            return None;
        }
        match (self.span.get(), span_hash(observation)) {
            (Some(a), Some(b)) if a == b => return Some(Fit::Span),
            (Some(_), Some(_)) => return None,
            _ => {}
        }
        let clock_shift = self.clock_shift(clock_ms);
        let ends_apart = self.ended_by(clock_ms).abs_diff(observation.ended_ms);
        // After the clock was set back, wall-clock times repeat.
        if clock_shift < -(UNKNOWN_WITHIN_MS as i64) && ends_apart > EQUAL_WITHIN_MS {
            return None;
        }
        // The times in an event may be from before or after the clock was set.
        let apart = |ours: u64, theirs: u64| {
            let set = ours.saturating_add_signed(clock_shift);
            set.abs_diff(theirs).min(ours.abs_diff(theirs))
        };
        let start_apart = self
            .started_ms
            .get()
            .zip(observation.started_ms)
            .map(|(ours, theirs)| apart(ours, theirs));
        let end_apart = apart(self.ended_ms, observation.ended_ms);
        let apart = start_apart.map_or(end_apart, |start| start.min(end_apart));
        // Only times identify the call here: of calls that begin together the gateway may report one, and an
        // intermediary all.
        let by_intermediary =
            || observation.surface.is_intermediary() || self.is_by_intermediaries();
        let usage = Tokens::from(observation.usage);
        let needs = |how| observation.surface.row().matched_by == how;
        let both_known = self.usage.is_known() && usage.is_known();
        match both_known.then(|| self.usage == usage || self.differs_by_reasoning(observation)) {
            Some(true) => (apart <= EQUAL_WITHIN_MS).then_some(Fit::EqualUsage(apart)),
            _ if needs(Match::SameStart) && !self.has_start(start_apart) => None,
            Some(_)
                if apart <= EQUAL_WITHIN_MS
                    && (self.has_answer(observation)
                        || (by_intermediary() && self.has_sum(usage))) =>
            {
                Some(Fit::SameAnswer(apart))
            }
            None if self.is_other_attempt(observation) => None,
            None => (apart <= UNKNOWN_WITHIN_MS).then_some(Fit::UnknownUsage(apart)),
            Some(_) if needs(Match::EqualUsage) => None,
            Some(_) if by_intermediary() && end_apart > UNKNOWN_WITHIN_MS => None,
            Some(_) => start_apart
                .filter(|apart| *apart <= self.changed_within_ms(observation))
                .map(Fit::ChangedUsage),
        }
    }
}

/// Difference of wall clock and monotonic clock at a live observation, in ms. A change means that the clock was set. 0
/// for observations by other processes, and for stored rows.
pub(super) fn clock_of(observation: &Observation, now: Now) -> u64 {
    let is_live = observation.surface.row().kind == SurfaceKind::Live;
    match is_live && !observation.elsewhere {
        true => now.wall_ms.wrapping_sub(now.mono_ms),
        false => 0,
    }
}

/// Whether an observation shows that the model answered, or has usage.
fn is_answered(observation: &Observation) -> bool {
    let knows = observation.surface.row().has_reliable_success;
    observation.usage.is_some() || (knows && observation.outcome == Outcome::Completed)
}

pub(super) fn bucket(model: &str, session_key: Option<&str>) -> u64 {
    key_of(&[model, session_key.unwrap_or_default()])
}

/// Whether an observation is of several requests in one call.
fn is_several(observation: &Observation) -> bool {
    let bill = observation.bill.as_ref();
    bill.is_some_and(|bill| !bill.parts.is_empty())
}

fn answer_hash(observation: &Observation) -> Option<u64> {
    let id = observation.response_id.as_deref()?;
    Some(key_of(&[id]))
}

fn span_hash(observation: &Observation) -> Option<u64> {
    observation.span_id.as_deref().map(|span| key_of(&[span]))
}
