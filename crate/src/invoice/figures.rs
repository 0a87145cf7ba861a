//! Days, amounts of money and sums of calls.

use std::ops::AddAssign;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::Offset;
use serde::{Serialize, Serializer};

use crate::domain::time::parse_iso;
use crate::sources::facts::Scalar;

/// The length of a day, in ms.
pub const DAY_MS: u64 = 86_400_000;

/// The UTC day of a time in ms since 1970.
pub fn day_of(ms: u64) -> Date {
    let ms = i64::try_from(ms).unwrap_or(i64::MAX);
    let at = Timestamp::from_millisecond(ms).unwrap_or(Timestamp::MAX);
    Offset::UTC.to_datetime(at).date()
}

/// The first moment of a UTC day, in ms since 1970; 0 of earlier ones.
pub fn start_of(day: Date) -> u64 {
    let at = Offset::UTC.to_timestamp(day.at(0, 0, 0, 0));
    at.map_or(0, |at| u64::try_from(at.as_millisecond()).unwrap_or(0))
}

/// The day so many days later.
pub fn later(day: Date, days: u64) -> Date {
    day_of(start_of(day).saturating_add(days.saturating_mul(DAY_MS)))
}

/// The day so many days earlier.
pub fn earlier(day: Date, days: u64) -> Date {
    day_of(start_of(day).saturating_sub(days.saturating_mul(DAY_MS)))
}

/// A day that begins a text, such as `2026-11-01`.
pub fn parse_day(text: &str) -> Option<Date> {
    let text = text.get(..10)?;
    parse_iso(&[text, "T00:00:00Z"].concat()).map(day_of)
}

/// USD, in units of 10^-18: sums of many small amounts stay exact.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Usd(i128);

impl Usd {
    const UNITS: f64 = 1e18;

    /// An amount in USD; nothing where it is not finite, or more than any bill has.
    pub fn of(usd: f64) -> Option<Self> {
        (usd.abs() < 1e12).then(|| Self((usd * Self::UNITS).round() as i128))
    }

    pub fn usd(self) -> f64 {
        self.0 as f64 / Self::UNITS
    }

    pub fn is_zero(self) -> bool {
        self.0 == 0
    }

    /// How far two amounts are apart, in USD.
    pub fn apart(self, other: Self) -> f64 {
        Self(self.0.saturating_sub(other.0).saturating_abs()).usd()
    }
}

impl AddAssign for Usd {
    fn add_assign(&mut self, other: Self) {
        self.0 = self.0.saturating_add(other.0);
    }
}

impl Serialize for Usd {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.usd())
    }
}

/// A number, which some APIs write as a text.
pub fn number(told: &Scalar) -> Option<f64> {
    let value = match told {
        Scalar::Number(value) => *value,
        Scalar::Text(text) => text.trim().parse().ok()?,
        _ => return None,
    };
    value.is_finite().then_some(value)
}

/// A count, `None` inside where none was told; nothing where it is negative, broken, or more than 2^53.
pub fn count(told: &Scalar) -> Option<Option<u64>> {
    const MOST: f64 = 9_007_199_254_740_992.0;
    if told.is_absent() {
        return Some(None);
    }
    let value = number(told)?;
    ((0.0..=MOST).contains(&value) && value.fract() == 0.0).then_some(Some(value as u64))
}

/// The same, with 0 where none was told.
pub fn count_or_0(told: &Scalar) -> Option<u64> {
    count(told).map(Option::unwrap_or_default)
}

/// What calls come to: of a model on a day, or of many.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Sum {
    /// How many calls; `None` where a report does not tell.
    pub calls: Option<u64>,
    /// Tokens of prompts, with those read from and written to a cache.
    pub input_tokens: u64,
    /// Tokens of answers, with reasoning.
    pub output_tokens: u64,
    /// Of the prompts' tokens, those read from a cache; `None` where a report does not tell.
    pub cache_read_tokens: Option<u64>,
    /// Of the prompts' tokens, those written to a cache; likewise.
    pub cache_write_tokens: Option<u64>,
    /// `None` where no amount was told.
    pub cost_usd: Option<Usd>,
    /// Calls of which nobody knows the cost: 0 is in the sum for each.
    #[serde(skip_serializing_if = "is_none")]
    pub unknown_cost_calls: u64,
    /// Calls of which nobody told the tokens: 0 is in the sum for each.
    #[serde(skip_serializing_if = "is_none")]
    pub missing_usage_calls: u64,
}

fn is_none(count: &u64) -> bool {
    *count == 0
}

impl Sum {
    pub fn tokens(&self) -> u64 {
        self.input_tokens.saturating_add(self.output_tokens)
    }

    /// Whether nothing was used and nothing is to be paid.
    pub fn is_nothing(&self) -> bool {
        self.tokens() == 0 && self.cost_usd.is_none_or(Usd::is_zero)
    }
}

impl AddAssign<&Sum> for Sum {
    fn add_assign(&mut self, other: &Sum) {
        let plus = |one: &mut Option<u64>, other: Option<u64>| {
            if let Some(other) = other {
                *one = Some(one.unwrap_or_default().saturating_add(other));
            }
        };
        plus(&mut self.calls, other.calls);
        plus(&mut self.cache_read_tokens, other.cache_read_tokens);
        plus(&mut self.cache_write_tokens, other.cache_write_tokens);
        self.input_tokens = self.input_tokens.saturating_add(other.input_tokens);
        self.output_tokens = self.output_tokens.saturating_add(other.output_tokens);
        if let Some(cost) = other.cost_usd {
            *self.cost_usd.get_or_insert_default() += cost;
        }
        self.unknown_cost_calls += other.unknown_cost_calls;
        self.missing_usage_calls += other.missing_usage_calls;
    }
}
