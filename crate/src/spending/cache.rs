//! The prompt cache: USD that reads saved and that writes cost, and incidents in which a session loses its cached
//! prompt.
//!
//! **Saved** is the cost of cache reads at the input rate, minus their cost. **Extra** is the cost of cache writes,
//! minus their cost at the input rate. The model's rates are an argument. Writes that are kept for an hour cost twice
//! the input rate.
//!
//! **An incident**: the tokens that one call read from the cache or wrote to it can be read by the session's next call.
//! If that call reads at most half of these tokens, and at least [`LEAST_TOKENS`] fewer, the others were lost, and paid
//! again as cache write or as input. The difference to the read rate is the incident's cost. A prompt that only grows
//! still reads all of these tokens, however small their share becomes. After a call that was cached by less than half,
//! no loss is reported.
//!
//! **Its cause** is the first that applies: the session was reset; it was compacted; the model changed; the time since
//! the last call exceeds the life of a cache entry (5 minutes, or an hour if the session wrote such entries; figures of
//! Anthropic and Gemini, and the shortest of OpenAI's); the fixed prompt changed its size (`promptStats`); the prompt
//! is smaller than 60 % of the last one, as after an unreported compaction. Otherwise the cause is unknown: the
//! provider dropped the entry, or the history changed.

use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

use super::Nano;
use super::daily::{Daily, day_of};
use super::window::HOUR_MS;
use crate::domain::call::{CacheUsd, Usage};
use crate::domain::identity::key_of;
use crate::pricing::price::{Tier, WRITE_1H_RATE};

/// Life of a cache entry after its last use, in ms.
pub const LIFE_MS: u64 = 5 * 60_000;
/// Life of an entry that was written for an hour, in ms.
pub const LONG_LIFE_MS: u64 = HOUR_MS;
/// Smallest loss, in tokens, that is an incident: one tool result can be as large. Providers cache prompts from 1,024
/// to 4,096 tokens on.
pub const LEAST_TOKENS: u64 = 4_096;
/// How late a call may be added after a call that ended later, in ms.
pub const LATE_MS: u64 = 10 * 60_000;
/// A prompt smaller than this fraction of the last one lost history.
const SHRUNK: f64 = 0.6;
/// Maximum number of sessions; beyond it the session unused longest is dropped.
const MAX_SESSIONS: usize = 1_024;

/// Cache savings and costs by a model's rates.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Money {
    /// USD saved by reads.
    pub saved: Nano,
    /// USD paid for writes.
    pub written: Nano,
    /// The part of `written` above the input rate.
    pub extra: Nano,
}

impl Money {
    /// Figures of one call. `write_1h` is the number of cache-write tokens that are kept for an hour.
    pub fn of(usage: &Usage, write_1h: u64, rates: &Tier) -> Self {
        let [_, input, _, read, write] = *rates;
        let write_1h = write_1h.min(usage.cache_write);
        let usd = |rate: f64, tokens: u64| rate * tokens as f64 / 1e6;
        let written =
            usd(write, usage.cache_write - write_1h) + usd(WRITE_1H_RATE * input, write_1h);
        Self {
            saved: Nano::of_usd(usd(input - read, usage.cache_read)),
            written: Nano::of_usd(written),
            extra: Nano::of_usd(written - usd(input, usage.cache_write)),
        }
    }

    fn add(&mut self, other: Self) {
        self.saved = self.saved.plus(other.saved);
        self.written = self.written.plus(other.written);
        self.extra = self.extra.plus(other.extra);
    }
}

impl CacheUsd {
    /// The figures of a call with cached tokens; `None` without rates.
    pub fn of(usage: &Usage, write_1h: u64, rates: Option<&Tier>) -> Option<Self> {
        if usage.cache_read == 0 && usage.cache_write == 0 {
            return None;
        }
        let Money { saved, extra, .. } = Money::of(usage, write_1h, rates?);
        Some(Self {
            saved,
            write_extra: extra,
        })
    }
}

/// Likely cause of a cache loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// The session was reset, or its key belongs to a new session.
    Reset,
    /// The history was compacted.
    Compaction,
    /// The model or the provider changed.
    Model,
    /// The session was idle for longer than the cache keeps entries.
    Idle,
    /// The size of the system prompt or of the tools changed.
    FixedPrompt,
    /// The provider dropped the entry, or the history changed.
    Unknown,
}

impl Cause {
    /// All causes, in the order of [`Day::incidents`].
    pub const ALL: [Self; 6] = [
        Self::Reset,
        Self::Compaction,
        Self::Model,
        Self::Idle,
        Self::FixedPrompt,
        Self::Unknown,
    ];

    /// Its name in records.
    pub fn word(self) -> &'static str {
        match self {
            Self::Reset => "reset",
            Self::Compaction => "compaction",
            Self::Model => "model",
            Self::Idle => "idle",
            Self::FixedPrompt => "fixed_prompt",
            Self::Unknown => "unknown",
        }
    }

    /// Text for users.
    pub fn words(self) -> &'static str {
        match self {
            Self::Reset => "the session was reset",
            Self::Compaction => "the history was compacted",
            Self::Model => "another model answered",
            Self::Idle => "the session was idle for longer than the cache lives",
            Self::FixedPrompt => "the system prompt or the tools changed",
            Self::Unknown => "the provider dropped it, or the history was changed",
        }
    }
}

/// The fields of a call that concern the cache.
#[derive(Debug, Clone, Copy)]
pub struct Call<'a> {
    /// The session's key.
    pub session: &'a str,
    /// `provider/model`.
    pub model: &'a str,
    /// Its tokens.
    pub usage: Usage,
    /// Cache-write tokens that are kept for an hour.
    pub write_1h: u64,
    /// When it began, in ms since 1970; its end if the begin is unknown.
    pub began_ms: u64,
    /// When it ended, in ms since 1970.
    pub ended_ms: u64,
    /// Characters of the system prompt and the tools, from `promptStats`.
    pub fixed_chars: Option<u64>,
    /// USD per 1M tokens, if known.
    pub rates: Option<&'a Tier>,
}

/// A session lost its cached prompt.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Incident {
    /// When the call ended, in ms since 1970.
    pub at_ms: u64,
    /// Likely cause.
    pub cause: Cause,
    /// Cached tokens that the call did not read.
    pub lost_tokens: u64,
    /// Additional cost of these tokens over reading them; `None` without rates.
    pub extra: Option<Nano>,
    /// Share of the prompt that could have been read, 0 to 1.
    pub expected_share: f64,
    /// Share of the prompt that was read, 0 to 1.
    pub share: f64,
    /// Time since the session's last call, in ms.
    pub idle_ms: u64,
}

/// State of a session.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Session {
    key: u64,
    model: u64,
    ended_ms: u64,
    prompt: u64,
    /// Cached tokens of its prompt.
    cached: u64,
    is_long: bool,
    fixed_chars: Option<u64>,
    /// When the session was last reset, in ms since 1970; 0 if no later call is to be explained by it.
    reset_ms: u64,
    /// The same of a compaction.
    compacted_ms: u64,
}

/// Sums of one day.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Day {
    /// Cache savings and costs.
    pub money: Money,
    /// Number of incidents and their cost, by [`Cause::ALL`].
    pub incidents: [(u64, Nano); 6],
}

/// Sessions and sums by day. Stored in the journal.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Cache {
    /// Sorted by last use.
    sessions: Vec<Session>,
    /// By day, in the zone passed to [`Cache::call`].
    pub days: Daily<Day, 70>,
}

impl Cache {
    /// Notes a reset at a time in ms since 1970: the session's calls after it have another history. A call may be added
    /// after a reset that it preceded.
    pub fn reset(&mut self, session: &str, at_ms: u64) {
        self.session(session).reset_ms = at_ms;
    }

    /// Notes a compaction of the session's history, as [`Cache::reset`] does.
    pub fn compacted(&mut self, session: &str, at_ms: u64) {
        self.session(session).compacted_ms = at_ms;
    }

    /// Adds a call with usage. Returns the incident if the call lost the cached prompt. A call that ended up to
    /// [`LATE_MS`] before the session's last one is left out.
    pub fn call(&mut self, call: &Call, zone: &TimeZone) -> Option<Incident> {
        let last = self.take(call.session);
        let is_late = |last: &Session| {
            // More than that: the clock was set back.
            (1..=LATE_MS).contains(&last.ended_ms.saturating_sub(call.ended_ms))
        };
        if last.as_ref().is_some_and(is_late) {
            self.sessions.extend(last);
            return None;
        }
        let later = |at_ms: u64| if at_ms > call.ended_ms { at_ms } else { 0 };
        let (reset_ms, compacted_ms) = last.as_ref().map_or((0, 0), |last| {
            (later(last.reset_ms), later(last.compacted_ms))
        });
        let incident = last.as_ref().and_then(|last| last.lost_by(call));
        let (is_long, fixed_chars) = last.map_or((false, None), |last| {
            let is_same = last.model == key_of(&[call.model]);
            (last.is_long && is_same, last.fixed_chars)
        });
        self.push(Session {
            key: key_of(&[call.session]),
            model: key_of(&[call.model]),
            ended_ms: call.ended_ms,
            prompt: call.usage.prompt(),
            cached: call.usage.cache_read.saturating_add(call.usage.cache_write),
            is_long: is_long || call.write_1h > 0,
            fixed_chars: call.fixed_chars.or(fixed_chars),
            reset_ms,
            compacted_ms,
        });
        if let Some(day) = self.days.at(day_of(zone, call.ended_ms)) {
            if let Some(rates) = call.rates {
                day.money.add(Money::of(&call.usage, call.write_1h, rates));
            }
            if let Some(incident) = &incident {
                let place = Cause::ALL.iter().position(|cause| *cause == incident.cause);
                let (count, usd) = &mut day.incidents[place.unwrap_or_default()];
                *count += 1;
                *usd = usd.plus(incident.extra.unwrap_or_default());
            }
        }
        incident
    }

    fn push(&mut self, session: Session) {
        if self.sessions.len() >= MAX_SESSIONS {
            self.sessions.remove(0);
        }
        self.sessions.push(session);
    }

    fn session(&mut self, session: &str) -> &mut Session {
        let key = key_of(&[session]);
        let known = self.sessions.iter().position(|known| known.key == key);
        let place = known.unwrap_or_else(|| {
            self.push(Session {
                key,
                ..Session::default()
            });
            self.sessions.len() - 1
        });
        &mut self.sessions[place]
    }

    fn take(&mut self, session: &str) -> Option<Session> {
        let key = key_of(&[session]);
        let place = self.sessions.iter().position(|known| known.key == key)?;
        Some(self.sessions.remove(place))
    }
}

impl Session {
    fn lost_by(&self, call: &Call) -> Option<Incident> {
        let prompt = call.usage.prompt();
        let expected = self.cached.min(prompt);
        let read = call.usage.cache_read;
        let lost_tokens = expected.saturating_sub(read);
        let was_cached = self.cached >= self.prompt.div_ceil(2);
        if !was_cached || lost_tokens < LEAST_TOKENS || read > expected / 2 {
            return None;
        }
        let idle_ms = call.began_ms.saturating_sub(self.ended_ms);
        let share = |tokens: u64| tokens as f64 / prompt.max(1) as f64;
        Some(Incident {
            at_ms: call.ended_ms,
            cause: self.cause(call, idle_ms),
            lost_tokens,
            extra: call.rates.map(|rates| price_of(lost_tokens, call, rates)),
            expected_share: share(expected),
            share: share(read),
            idle_ms,
        })
    }

    fn cause(&self, call: &Call, idle_ms: u64) -> Cause {
        let life_ms = match self.is_long {
            true => LONG_LIFE_MS,
            false => LIFE_MS,
        };
        let is_between = |at_ms: u64| at_ms > 0 && at_ms <= call.ended_ms;
        let fixed = self.fixed_chars.zip(call.fixed_chars);
        let has_shrunk = (call.usage.prompt() as f64) < SHRUNK * self.prompt as f64;
        match () {
            () if is_between(self.reset_ms) => Cause::Reset,
            () if is_between(self.compacted_ms) => Cause::Compaction,
            () if self.model != key_of(&[call.model]) => Cause::Model,
            () if idle_ms > life_ms => Cause::Idle,
            () if fixed.is_some_and(|(before, after)| before != after) => Cause::FixedPrompt,
            () if has_shrunk => Cause::Compaction,
            () => Cause::Unknown,
        }
    }
}

/// Additional cost of lost tokens over reading them: as cache writes up to the call's number of these, the rest as
/// input.
fn price_of(lost_tokens: u64, call: &Call, rates: &Tier) -> Nano {
    let [_, input, _, read, write] = *rates;
    let written = lost_tokens.min(call.usage.cache_write);
    let long = call.write_1h.min(written);
    let usd = |rate: f64, tokens: u64| (rate - read).max(0.0) * tokens as f64 / 1e6;
    Nano::of_usd(
        usd(write, written - long)
            + usd(WRITE_1H_RATE * input, long)
            + usd(input, lost_tokens - written),
    )
}
