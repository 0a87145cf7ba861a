//! The prompt cache: money that reads saved and that writes took, and incidents where a session's cached share collapses.
//!
//! **Saved** is what cache reads would have cost more as input; **extra** is what cache writes cost more than input. Both
//! by the model's rates, which come in as an argument. Writes that are kept for an hour cost twice the input.
//!
//! **An incident**: what one call read from the cache or wrote to it is what the next call of that session can read. If it
//! reads less than half of that, and at least [`LEAST_TOKENS`] less, the rest was lost, and paid again as cache write or
//! as input; the difference to the rate of reads is the incident's price. A prompt that only grows reads all of it, however
//! small its share becomes. Calls of which half was not cached before cannot lose it.
//!
//! **Its cause**, the first that holds: the session was reset; it was compacted; the model is another one; the time since
//! the last call is beyond the cache's life (5 minutes, or an hour where the session wrote such entries; Anthropic's and
//! Gemini's figures, and the shortest of OpenAI's); the fixed prompt has another size (`promptStats`); the prompt is less
//! than 60 % of the last one, as after a compaction that nobody told of; else it is not known: the provider dropped the
//! entry, or the history was changed.

use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

use super::Nano;
use super::daily::{Daily, day_of};
use super::window::HOUR_MS;
use crate::domain::call::Usage;
use crate::domain::identity::key_of;
use crate::pricing::price::{Tier, WRITE_1H_RATE};

/// The life of a cache entry since its last use, in ms.
pub const LIFE_MS: u64 = 5 * 60_000;
/// The life of an entry that was written for an hour, in ms.
pub const LONG_LIFE_MS: u64 = HOUR_MS;
/// A smaller loss is none to tell of: a tool's answer takes as much. Providers cache from 1,024 to 4,096 tokens on.
pub const LEAST_TOKENS: u64 = 4_096;
/// A prompt that is smaller than this part of the last one lost history.
const SHRUNK: f64 = 0.6;
/// The most sessions that are remembered; the one untouched longest gives way.
const MAX_SESSIONS: usize = 1_024;

/// Money, by the rates of one call.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Money {
    /// What reads saved.
    pub saved: Nano,
    /// What writes cost.
    pub written: Nano,
    /// What of that is more than the same tokens would have cost as input.
    pub extra: Nano,
}

impl Money {
    /// Of a call, `write_1h` of whose cache writes are kept for an hour.
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

/// Why a cached prompt was lost, as far as events tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// The session was reset, or is a new one under its key.
    Reset,
    /// The history was compacted.
    Compaction,
    /// Another model, or another provider.
    Model,
    /// More time since the last call than the cache keeps entries.
    Idle,
    /// The system prompt or the tools have another size.
    FixedPrompt,
    /// The provider dropped the entry, or the history was changed.
    Unknown,
}

impl Cause {
    /// All, in the order of [`Day::incidents`].
    pub const ALL: [Self; 6] = [
        Self::Reset,
        Self::Compaction,
        Self::Model,
        Self::Idle,
        Self::FixedPrompt,
        Self::Unknown,
    ];

    /// For people.
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

/// A call, as far as the cache goes.
#[derive(Debug, Clone, Copy)]
pub struct Call<'a> {
    /// The session's key.
    pub session: &'a str,
    /// `provider/model`.
    pub model: &'a str,
    /// Its tokens.
    pub usage: Usage,
    /// Of the cache writes those that are kept for an hour.
    pub write_1h: u64,
    /// When it began, in ms since 1970; when it ended, where that is not known.
    pub began_ms: u64,
    /// When it ended.
    pub ended_ms: u64,
    /// Characters of system prompt and tools, where `promptStats` tells them.
    pub fixed_chars: Option<u64>,
    /// USD per 1M tokens, where they are known.
    pub rates: Option<&'a Tier>,
}

/// A cached prompt was lost.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Incident {
    /// When, in ms since 1970.
    pub at_ms: u64,
    /// Why, likely.
    pub cause: Cause,
    /// Tokens that were in the cache and were not read.
    pub lost_tokens: u64,
    /// What they cost more than by reading; `None` without rates.
    pub extra: Option<Nano>,
    /// The share of the prompt that could have been read, 0 to 1.
    pub expected_share: f64,
    /// The share that was.
    pub share: f64,
    /// Time since the session's last call, in ms.
    pub idle_ms: u64,
}

/// What is remembered of a session.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Session {
    key: u64,
    model: u64,
    ended_ms: u64,
    prompt: u64,
    /// Tokens that the cache has of its prompt.
    cached: u64,
    is_long: bool,
    fixed_chars: Option<u64>,
    was_reset: bool,
    was_compacted: bool,
}

/// Sums of a day.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Day {
    /// What the cache saved and took.
    pub money: Money,
    /// How many incidents, and their price, by [`Cause::ALL`].
    pub incidents: [(u64, Nano); 6],
}

/// See the module. State for the journal.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Cache {
    /// The one touched last is the last.
    sessions: Vec<Session>,
    /// By days of the zone that calls were told with.
    pub days: Daily<Day, 70>,
}

impl Cache {
    /// The session was reset: its next call has another history.
    pub fn reset(&mut self, session: &str) {
        if let Some(session) = self.known(session) {
            session.was_reset = true;
        }
    }

    /// The session's history was compacted.
    pub fn compacted(&mut self, session: &str) {
        if let Some(session) = self.known(session) {
            session.was_compacted = true;
        }
    }

    /// A call with usage ended. The incident, where the cached prompt was lost.
    pub fn call(&mut self, call: &Call, zone: &TimeZone) -> Option<Incident> {
        let last = self.take(call.session);
        let incident = last.as_ref().and_then(|last| last.lost_by(call));
        let (is_long, fixed_chars) = last.map_or((false, None), |last| {
            let is_same = last.model == key_of(&[call.model]);
            (last.is_long && is_same, last.fixed_chars)
        });
        if self.sessions.len() >= MAX_SESSIONS {
            self.sessions.remove(0);
        }
        self.sessions.push(Session {
            key: key_of(&[call.session]),
            model: key_of(&[call.model]),
            ended_ms: call.ended_ms,
            prompt: call.usage.prompt(),
            cached: call.usage.cache_read.saturating_add(call.usage.cache_write),
            is_long: is_long || call.write_1h > 0,
            fixed_chars: call.fixed_chars.or(fixed_chars),
            ..Session::default()
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

    fn known(&mut self, session: &str) -> Option<&mut Session> {
        let key = key_of(&[session]);
        self.sessions.iter_mut().find(|known| known.key == key)
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
        let fixed = self.fixed_chars.zip(call.fixed_chars);
        let has_shrunk = (call.usage.prompt() as f64) < SHRUNK * self.prompt as f64;
        match () {
            () if self.was_reset => Cause::Reset,
            () if self.was_compacted => Cause::Compaction,
            () if self.model != key_of(&[call.model]) => Cause::Model,
            () if idle_ms > life_ms => Cause::Idle,
            () if fixed.is_some_and(|(before, after)| before != after) => Cause::FixedPrompt,
            () if has_shrunk => Cause::Compaction,
            () => Cause::Unknown,
        }
    }
}

/// What lost tokens cost more than by reading them: as writes as far as the call has any, else as input.
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
