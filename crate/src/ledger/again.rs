//! The same call told again: by a second registration of the plugin, from a history that was restored, imported or
//! branched, by a batch that was sent again, by a bridge that logs a call twice.
//!
//! A call is known again by a key: its begin time, its usage, and the id of the answer (of LiteLLM's call). The keys of the
//! last calls are match records as slots are, without what only matching between surfaces needs, so that many more of them
//! are kept: at least [`MAX_KEYS`], at most twice as many, in 18 bytes each, and the journal has them.

use std::collections::{HashSet, VecDeque};
use std::hash::Hasher;

use siphasher::sip::SipHasher13;

use super::slot::Tokens;
use crate::journal::Frame;
use crate::observe::{Heard, Observation, ToldAgain};

/// The least number of calls that are known again, whenever they are told.
pub const MAX_KEYS: usize = 32_768;
/// A surface without a key tells of a call again within this time, in ms.
const AT_ONCE_MS: u64 = 2_000;
/// A bridge logs a call again within this time, in ms: LiteLLM sends a batch every 10 s, and again after errors.
const BRIDGED_WITHIN_MS: u64 = 60_000;
/// The most observations that are remembered for such a time.
const MAX_RECENT: usize = 4_095;
/// No call takes a day: one that began so long before it was told, in ms, is a copy from a history.
const COPY_AGE_MS: u64 = 86_400_000;
/// So many keys stand in a frame of the journal.
const KEYS_A_FRAME: usize = 8_192;

/// What was told lately, and the keys of the last calls.
#[derive(Debug, Default)]
pub(super) struct Again {
    recent: VecDeque<Recent>,
    young: Keys,
    old: Keys,
    /// Keys of calls that began by then were given up.
    forgotten_ms: u64,
}

#[derive(Debug, Default)]
struct Keys {
    keys: HashSet<u64>,
    /// When the last of these calls began, in ms since 1970.
    until_ms: u64,
}

#[derive(Debug)]
struct Recent {
    at_ms: u64,
    within_ms: u64,
    print: u64,
    /// When the call began and ended, where its print does not say so.
    span: Option<(u64, u64)>,
}

impl Again {
    /// Whether the call of an observation is one of which its surface told within the last moments.
    pub(super) fn was_just_told(&mut self, observation: &Observation, mono_ms: u64) -> bool {
        while let Some(first) = self.recent.front() {
            let is_old = mono_ms.saturating_sub(first.at_ms) > BRIDGED_WITHIN_MS;
            if !is_old && self.recent.len() <= MAX_RECENT {
                break;
            }
            self.recent.pop_front();
        }
        let prints = [at_once(observation, mono_ms), bridged(observation, mono_ms)];
        let mut prints = prints.into_iter().flatten();
        prints.any(|print| self.recent.iter().any(|known| known.is_same(&print)))
    }

    /// Remembers what was told for moments.
    pub(super) fn was_told(&mut self, observation: &Observation, mono_ms: u64) {
        let prints = [at_once(observation, mono_ms), bridged(observation, mono_ms)];
        self.recent.extend(prints.into_iter().flatten());
    }

    /// Whether a call with this observation's key is known.
    pub(super) fn knows(&self, observation: &Observation) -> bool {
        observation.row.is_some_and(|key| self.has(key))
    }

    /// Whether an observation is a copy from a history so old that the key of its call may have been given up.
    pub(super) fn is_old_copy(&self, observation: &Observation) -> bool {
        let copies = observation.surface.row().told_again == ToldAgain::AnyTime;
        let began = observation.started_ms.filter(|_| copies);
        began.is_some_and(|began| {
            began <= self.forgotten_ms && observation.ended_ms.saturating_sub(began) > COPY_AGE_MS
        })
    }

    fn has(&self, key: u64) -> bool {
        self.young.keys.contains(&key) || self.old.keys.contains(&key)
    }

    /// Remembers a key; `began_ms` is when its call began.
    pub(super) fn remember(&mut self, key: Option<u64>, began_ms: u64) {
        let Some(key) = key.filter(|key| !self.has(*key)) else {
            return;
        };
        if self.young.keys.len() >= MAX_KEYS {
            self.forgotten_ms = self.forgotten_ms.max(self.old.until_ms);
            self.old = std::mem::take(&mut self.young);
        }
        self.young.keys.insert(key);
        self.young.until_ms = self.young.until_ms.max(began_ms);
    }

    /// All keys, for a fresh instance.
    pub(super) fn frames(&self) -> impl Iterator<Item = Frame> {
        [&self.old, &self.young].into_iter().flat_map(|of| {
            let mut all: Vec<u64> = of.keys.iter().copied().collect();
            // The same bytes each time.
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

    /// Takes keys from a journal.
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
        self.print == other.print
            && other.at_ms.saturating_sub(self.at_ms) <= self.within_ms
            && self.span.zip(other.span).is_none_or(overlap)
    }
}

/// The key by which a call is known whenever it is told again; `None` where its surface has no time of its own.
///
/// Without an id a live message is known in its own session alone: sessions that run side by side may begin calls in the
/// same ms. A row is known everywhere, since what was copied into other sessions is stored.
pub(crate) fn key_of_call(observation: &Observation) -> Option<u64> {
    let row = observation.surface.row();
    if row.told_again != ToldAgain::AnyTime {
        return None;
    }
    let began = observation.started_ms?;
    let id = observation.request_id.as_ref();
    let id = id.or(observation.response_id.as_ref());
    let session = observation.session_key.as_ref();
    let session = session.filter(|_| id.is_none() && row.heard == Heard::Live);
    let mut hasher = SipHasher13::new();
    hasher.write_u8(way_of(observation));
    write_texts(&mut hasher, &[Some(&observation.model), id, session]);
    hasher.write_u64(began);
    write_usage(&mut hasher, observation);
    Some(hasher.finish())
}

/// What two deliveries of one observation have in common, and two calls have not: its surface, session, model, usage and
/// outcome, its span, and a time of its own.
fn at_once(observation: &Observation, at_ms: u64) -> Option<Recent> {
    let time = match &observation.span_id {
        Some(_) => observation.duration_ms.map_or(0, f64::to_bits),
        None if observation.surface.row().told_again == ToldAgain::AtOnce => {
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
    write_usage(&mut hasher, observation);
    hasher.write_u64(time);
    hasher.write_u8(observation.surface as u8);
    Some(Recent {
        at_ms,
        within_ms: AT_ONCE_MS,
        print: hasher.finish(),
        span: None,
    })
}

/// What the two logs of a bridged call have in common: the id of the call, its usage, and that one runs within the other.
/// The kind of request, the answer's id and some ms of the times differ.
fn bridged(observation: &Observation, at_ms: u64) -> Option<Recent> {
    let row = observation.surface.row();
    let logs = observation.surface.is_way() && row.told_again == ToldAgain::AnyTime;
    let id = observation.request_id.as_ref().filter(|_| logs)?;
    let span = (observation.started_ms?, observation.ended_ms);
    observation.usage?;
    let mut hasher = SipHasher13::new();
    hasher.write_u8(way_of(observation));
    write_texts(&mut hasher, &[Some(id)]);
    write_usage(&mut hasher, observation);
    Some(Recent {
        at_ms,
        within_ms: BRIDGED_WITHIN_MS,
        print: hasher.finish(),
        span: Some(span),
    })
}

/// Which way between gateway and provider tells, if it is one: a proxy before LiteLLM has LiteLLM's id of the call, and is
/// another witness of it.
fn way_of(observation: &Observation) -> u8 {
    let surface = observation.surface;
    if surface.is_way() {
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

/// The whole prompt and the answer; without usage how the call ended, since a failure may be followed by an answer.
fn write_usage(hasher: &mut SipHasher13, observation: &Observation) {
    let tokens = Tokens::from(observation.usage);
    hasher.write_u64(tokens.prompt.get().unwrap_or(u64::MAX));
    hasher.write_u64(tokens.output);
    if observation.usage.is_none() {
        hasher.write_u8(observation.outcome as u8);
    }
}
