//! What tells a call from its neighbours, and how well an observation fits it.

use std::hash::Hasher;

use serde::{Deserialize, Serialize};
use siphasher::sip::SipHasher13;

use crate::call::{CallId, Usage};
use crate::observe::{Observation, Surface};
use crate::table::key_of;

/// Equal usage identifies a call within this distance in time, in ms.
const EQUAL_WITHIN_MS: u64 = 2_000;
/// A call of unknown usage is identified by its start or end alone, within this distance, in ms.
/// Surfaces of one call agree to 2 ms in every recorded run.
pub(super) const UNKNOWN_WITHIN_MS: u64 = 250;
/// Calls whose usage differs are the same only if they began this close together, in ms.
const CHANGED_WITHIN_MS: u64 = 50;
/// A stored row has its message's own start, so without equal usage it is another call's unless that is the same: a
/// row of which nobody told would take its neighbour's slot, and the neighbour's own row would count again. Where no
/// message was told, a diagnostic's start is some ms off, and other surfaces' more.
const STORED_WITHIN_MS: u64 = 10;

/// What identifies a call among its neighbours; outlives the call to suppress late observations.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Slot {
    pub(super) id: CallId,
    pub(super) bucket: u64,
    model: u64,
    span: Option<u64>,
    started_ms: Option<u64>,
    pub(super) ended_ms: u64,
    usage: Option<Usage>,
    seen: u8,
    /// Its row in the session store.
    pub(super) row: Option<u64>,
    /// It failed or was stopped, and nothing that told of it in time knew of any usage.
    pub(super) is_unbilled: bool,
}

/// How well an observation fits a slot; less is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fit {
    Span,
    EqualUsage(u64),
    UnknownUsage(u64),
    ChangedUsage(u64),
}

impl Slot {
    pub(super) fn new(id: CallId, observation: &Observation) -> Self {
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
            is_unbilled: false,
        };
        slot.absorb(observation);
        slot
    }

    pub(super) fn saw(&self, surface: Surface) -> bool {
        self.seen & (1 << surface as u8) != 0
    }

    /// Takes over what identifies the call better than what was known.
    pub(super) fn absorb(&mut self, observation: &Observation) {
        self.seen |= 1 << observation.surface as u8;
        self.span = self.span.or(span_hash(observation));
        self.row = self.row.or(observation.row);
        self.started_ms = match observation.surface {
            Surface::Message => observation.started_ms.or(self.started_ms),
            _ => self.started_ms.or(observation.started_ms),
        };
        if self.usage.is_none() || observation.surface == Surface::Diagnostic {
            self.usage = observation.usage.or(self.usage);
        }
    }

    /// Whether this counts a call of which nothing billed was known; once.
    pub(super) fn counts_after_all(&mut self, observation: &Observation) -> bool {
        let counts = self.is_unbilled && observation.usage.is_some();
        self.is_unbilled &= !counts;
        counts
    }

    /// `model:used` tells whole prompts only, so with it only the sums can be compared.
    fn same_usage(&self, surface: Surface, a: &Usage, b: &Usage) -> bool {
        let sums = surface == Surface::Named || self.seen == 1 << Surface::Named as u8;
        a == b || (sums && a.prompt() == b.prompt() && a.output == b.output)
    }

    /// Whether a stored row of other usage may be this call's; anything else may.
    fn may_be_stored_as(&self, observation: &Observation, start_apart: Option<u64>) -> bool {
        if observation.surface != Surface::Stored {
            return true;
        }
        let most = match (self.saw(Surface::Message), self.saw(Surface::Diagnostic)) {
            (true, _) => 0,
            (false, true) => STORED_WITHIN_MS,
            (false, false) => return true,
        };
        start_apart.is_none_or(|apart| apart <= most)
    }

    pub(super) fn fit(&self, observation: &Observation) -> Option<Fit> {
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
            _ if !self.may_be_stored_as(observation, start_apart) => None,
            None => (apart <= UNKNOWN_WITHIN_MS).then_some(Fit::UnknownUsage(apart)),
            Some(_) if observation.surface == Surface::Named => None,
            Some(_) => start_apart
                .filter(|apart| *apart <= CHANGED_WITHIN_MS)
                .map(Fit::ChangedUsage),
        }
    }
}

pub(super) fn bucket(model: &str, session_key: Option<&str>) -> u64 {
    key_of(&[model, session_key.unwrap_or_default()])
}

/// What two deliveries of one observation have in common, and two calls have not: its surface, session,
/// model, usage and outcome, the ids that it has, and a time of its own. `None` where its only time is that of
/// its arrival.
pub(super) fn fingerprint(observation: &Observation) -> Option<u64> {
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
