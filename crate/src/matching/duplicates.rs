//! Detects repeated reports of one call. Causes: a second registration of the plugin; a history that was restored,
//! imported or branched; a batch that was sent twice; a bridge that logs a call twice.
//!
//! A duplicate is detected by the call's key: a hash of its begin time, its usage, and the id of the answer (for
//! LiteLLM, of the call). The two logs of a bridge differ in their begins, so LiteLLM's calls have two more keys with a
//! rounded begin, one of them without the usage. Keys are kept much longer than match records: at least the latest
//! [`MAX_KEYS`], at most twice as many, at 18 bytes each. The journal stores them.

use std::collections::{HashSet, VecDeque};
use std::hash::Hasher;

use siphasher::sip::SipHasher13;

use super::RECORD_AGE_MS;
use super::match_record::Tokens;
use crate::domain::call::{Outcome, Usage};
use crate::domain::observation::Observation;
use crate::domain::surface::{Repeats, SurfaceKind};
use crate::journal::Frame;

/// Number of the latest keys that are always kept. A call has one; one of LiteLLM's has three.
pub const MAX_KEYS: usize = 32_768;
/// Window, in ms, in which a surface without call keys may report a call twice.
const IMMEDIATE_WITHIN_MS: u64 = 2_000;
/// Window, in ms, in which a bridge may log a call twice: LiteLLM sends a batch every 10 s, and repeats it after
/// errors.
const BRIDGED_WITHIN_MS: u64 = 60_000;
/// Rounding of the begin, in ms, in the key by which the two logs of a bridge are one call at any time. They began some
/// ms apart; two calls whose begins differ by two steps are never one.
const BRIDGED_STEP_MS: u64 = 250;
/// Maximum number of recent observations that are compared within these windows.
const MAX_RECENT: usize = 4_095;
/// Age, in ms, from which a row is a copy out of a history: no call takes a day.
const COPY_AGE_MS: u64 = 86_400_000;
/// Number of keys in one journal frame.
const KEYS_A_FRAME: usize = 8_192;

/// The recent observations, and the keys of the last calls.
#[derive(Debug, Default)]
pub(super) struct Duplicates {
    recent: VecDeque<Recent>,
    current: Keys,
    previous: Keys,
    /// The keys of calls that began at or before this time may have been dropped. In ms since 1970.
    forgotten_ms: u64,
}

#[derive(Debug, Default)]
struct Keys {
    keys: HashSet<u64>,
    /// Begin time of the latest of these calls, in ms since 1970.
    until_ms: u64,
}

#[derive(Debug)]
struct Recent {
    at_ms: u64,
    within_ms: u64,
    fingerprint: u64,
    /// Begin and end of the call, in ms since 1970; `None` where the fingerprint contains the begin.
    span: Option<(u64, u64)>,
}

impl Duplicates {
    /// Whether the same surface reported the observation's call a moment ago.
    pub(super) fn is_recent_duplicate(&mut self, observation: &Observation, mono_ms: u64) -> bool {
        while let Some(first) = self.recent.front() {
            let is_old = mono_ms.saturating_sub(first.at_ms) > BRIDGED_WITHIN_MS;
            if !is_old && self.recent.len() <= MAX_RECENT {
                break;
            }
            self.recent.pop_front();
        }
        let fingerprints = [
            immediate_fingerprint(observation, mono_ms),
            bridge_fingerprint(observation, mono_ms),
        ];
        let mut fingerprints = fingerprints.into_iter().flatten();
        fingerprints.any(|fingerprint| self.recent.iter().any(|known| known.is_same(&fingerprint)))
    }

    /// Remembers an observation for [`Self::is_recent_duplicate`].
    pub(super) fn remember_recent(&mut self, observation: &Observation, mono_ms: u64) {
        let fingerprints = [
            immediate_fingerprint(observation, mono_ms),
            bridge_fingerprint(observation, mono_ms),
        ];
        self.recent.extend(fingerprints.into_iter().flatten());
    }

    /// Whether the observation's call is known by one of its keys.
    pub(super) fn knows(&self, observation: &Observation) -> bool {
        let is_known = observation.call_key.is_some_and(|key| self.has(key));
        is_known || self.knows_bridged(observation, observation.usage)
    }

    /// Whether an observation with usage may be the second log of a call whose first log had none.
    pub(super) fn may_complete(&self, observation: &Observation) -> bool {
        observation.usage.is_some() && self.knows_bridged(observation, None)
    }

    fn knows_bridged(&self, observation: &Observation, usage: Option<Usage>) -> bool {
        let step = bridge_step(observation).unwrap_or_default();
        let mut near = (step.saturating_sub(1)..=step + 1)
            .filter_map(|step| bridge_key(observation, usage, step));
        near.any(|key| self.has(key))
    }

    /// Whether an observation is a message out of a history whose stored row was counted. Without an id, the keys of both
    /// differ by the session.
    pub(super) fn knows_row_of(&self, observation: &Observation) -> bool {
        let is_live = observation.surface.row().kind == SurfaceKind::Live;
        let took_ms = |began| observation.ended_ms.saturating_sub(began);
        let is_copy = observation.started_ms.map(took_ms) > Some(RECORD_AGE_MS);
        is_live && is_copy && key_in(observation, None).is_some_and(|key| self.has(key))
    }

    /// Whether an observation is a copy from a history that is so old that its call's key may have been dropped.
    pub(super) fn is_old_copy(&self, observation: &Observation) -> bool {
        let copies = observation.surface.row().repeats.have_keys();
        let began = observation.started_ms.filter(|_| copies);
        began.is_some_and(|began| {
            began <= self.forgotten_ms && observation.ended_ms.saturating_sub(began) > COPY_AGE_MS
        })
    }

    fn has(&self, key: u64) -> bool {
        self.current.keys.contains(&key) || self.previous.keys.contains(&key)
    }

    /// Remembers the keys of an observation's call.
    pub(super) fn remember_call(&mut self, observation: &Observation) {
        let began_ms = observation.started_ms.unwrap_or(observation.ended_ms);
        self.remember(observation.call_key, began_ms);
        let step = bridge_step(observation).unwrap_or_default();
        for usage in [observation.usage, None] {
            self.remember(bridge_key(observation, usage, step), began_ms);
        }
    }

    /// Remembers a key. `began_ms` is the begin of its call, in ms since 1970.
    pub(super) fn remember(&mut self, key: Option<u64>, began_ms: u64) {
        let Some(key) = key.filter(|key| !self.has(*key)) else {
            return;
        };
        if self.current.keys.len() >= MAX_KEYS {
            self.forgotten_ms = self.forgotten_ms.max(self.previous.until_ms);
            self.previous = std::mem::take(&mut self.current);
        }
        self.current.keys.insert(key);
        self.current.until_ms = self.current.until_ms.max(began_ms);
    }

    /// All keys as journal frames.
    pub(super) fn frames(&self) -> impl Iterator<Item = Frame> {
        [&self.previous, &self.current].into_iter().flat_map(|of| {
            let mut all: Vec<u64> = of.keys.iter().copied().collect();
            // Makes the frames' bytes deterministic.
            all.sort_unstable();
            let frame = |keys: &[u64]| Frame::Told {
                until_ms: of.until_ms,
                forgotten_ms: self.forgotten_ms,
                keys: keys.iter().flat_map(|key| key.to_le_bytes()).collect(),
            };
            let frames: Vec<Frame> = all.chunks(KEYS_A_FRAME).map(frame).collect();
            frames
        })
    }

    /// Adds keys that were read from a journal frame: each is 8 bytes, little endian.
    pub(super) fn restore(&mut self, until_ms: u64, forgotten_ms: u64, keys: &[u8]) {
        self.forgotten_ms = self.forgotten_ms.max(forgotten_ms);
        let (keys, _) = keys.as_chunks::<8>();
        for key in keys {
            self.remember(Some(u64::from_le_bytes(*key)), until_ms);
        }
    }
}

impl Recent {
    fn is_same(&self, other: &Self) -> bool {
        let overlap = |(a, b): ((u64, u64), (u64, u64))| a.0 <= b.1 && b.0 <= a.1;
        self.fingerprint == other.fingerprint
            && other.at_ms.saturating_sub(self.at_ms) <= self.within_ms
            && self.span.zip(other.span).is_none_or(overlap)
    }
}

/// The key that detects repeated reports of a call; `None` for surfaces that do not report a begin time. An intermediary's
/// call with usage has one without a begin too, if it has an id.
///
/// Without an id, the key of a live message includes its session: sessions that run side by side may begin calls in the
/// same ms. The key of a stored row does not, since a row that was copied into another session is a duplicate.
pub(crate) fn key_of_call(observation: &Observation) -> Option<u64> {
    let is_live = observation.surface.row().kind == SurfaceKind::Live;
    let session = observation.session_key.as_ref();
    let session = session.filter(|_| is_live && id_of(observation).is_none());
    key_in(observation, session)
}

/// The key of a call in a session.
fn key_in(observation: &Observation, session: Option<&String>) -> Option<u64> {
    if !observation.surface.row().repeats.have_keys() {
        return None;
    }
    let id = id_of(observation);
    let is_known_by_id =
        id.is_some() && observation.surface.is_intermediary() && observation.usage.is_some();
    let began = observation.started_ms;
    let began = began.or(is_known_by_id.then_some(u64::MAX))?;
    let mut hasher = SipHasher13::new();
    hasher.write_u8(intermediary_number(observation));
    write_texts(&mut hasher, &[Some(&observation.model), id, session]);
    hasher.write_u64(began);
    write_usage(&mut hasher, observation.usage, observation.outcome);
    Some(hasher.finish())
}

/// The id of the call, else of its answer.
fn id_of(observation: &Observation) -> Option<&String> {
    let id = observation.request_id.as_ref();
    id.or(observation.response_id.as_ref())
}

/// Fingerprint of an observation that is delivered twice at once: its surface, session, model, usage, outcome, span,
/// and its duration or begin. No two calls share it.
fn immediate_fingerprint(observation: &Observation, at_ms: u64) -> Option<Recent> {
    let time = match &observation.span_id {
        Some(_) => observation.duration_ms.map_or(0, f64::to_bits),
        None if observation.surface.row().repeats == Repeats::Immediately => {
            observation.started_ms?
        }
        None => return None,
    };
    let texts = [
        Some(&observation.provider),
        Some(&observation.model),
        observation.session_key.as_ref(),
        observation.span_id.as_ref(),
        observation.response_id.as_ref(),
    ];
    let mut hasher = SipHasher13::new();
    write_texts(&mut hasher, &texts);
    write_usage(&mut hasher, observation.usage, observation.outcome);
    hasher.write_u64(time);
    hasher.write_u8(observation.surface as u8);
    Some(Recent {
        at_ms,
        within_ms: IMMEDIATE_WITHIN_MS,
        fingerprint: hasher.finish(),
        span: None,
    })
}

/// Fingerprint of a call that a bridge logs twice: the call's id and its usage. The spans of both logs overlap. The
/// kind of request, the answer's id and some ms of the times differ.
fn bridge_fingerprint(observation: &Observation, at_ms: u64) -> Option<Recent> {
    let row = observation.surface.row();
    let logs = observation.surface.is_intermediary() && row.repeats.have_keys();
    let id = observation.request_id.as_ref().filter(|_| logs)?;
    let span = (observation.started_ms?, observation.ended_ms);
    observation.usage?;
    let mut hasher = SipHasher13::new();
    hasher.write_u8(intermediary_number(observation));
    write_texts(&mut hasher, &[Some(id)]);
    write_usage(&mut hasher, observation.usage, observation.outcome);
    Some(Recent {
        at_ms,
        within_ms: BRIDGED_WITHIN_MS,
        fingerprint: hasher.finish(),
        span: Some(span),
    })
}

/// The step of time in which a call began that a bridge may log twice.
fn bridge_step(observation: &Observation) -> Option<u64> {
    let may_be_two = observation.surface.row().repeats == Repeats::AnyTimeAsTwo;
    let began = observation.started_ms.filter(|_| may_be_two)?;
    Some(began / BRIDGED_STEP_MS)
}

/// The key of a call that a bridge may log twice: as [`bridge_fingerprint`], with the step of its begin. Where the call
/// succeeded, one of the logs may lack the usage.
fn bridge_key(observation: &Observation, usage: Option<Usage>, step: u64) -> Option<u64> {
    bridge_step(observation)?;
    let is_known = usage.is_some() || observation.outcome == Outcome::Completed;
    let id = observation.request_id.as_ref().filter(|_| is_known)?;
    let mut hasher = SipHasher13::new();
    hasher.write_u8(intermediary_number(observation));
    write_texts(&mut hasher, &[Some(id)]);
    hasher.write_u64(step);
    write_usage(&mut hasher, usage, observation.outcome);
    Some(hasher.finish())
}

/// Number of the reporting intermediary, 0 for other surfaces. A proxy before LiteLLM reports LiteLLM's call id too,
/// and is a second witness of the call, not a duplicate.
fn intermediary_number(observation: &Observation) -> u8 {
    let surface = observation.surface;
    if surface.is_intermediary() {
        1 + surface as u8
    } else {
        0
    }
}

fn write_texts(hasher: &mut SipHasher13, texts: &[Option<&String>]) {
    for text in texts {
        hasher.write(text.map_or(&[][..], |text| text.as_bytes()));
        hasher.write_u8(0xff);
    }
}

/// Hashes the whole prompt and the output; without usage the outcome, since an answer may follow a failure.
fn write_usage(hasher: &mut SipHasher13, usage: Option<Usage>, outcome: Outcome) {
    let tokens = Tokens::from(usage);
    hasher.write_u64(tokens.prompt.get().unwrap_or(u64::MAX));
    hasher.write_u64(tokens.output);
    if usage.is_none() {
        hasher.write_u8(outcome as u8);
    }
}
