//! Days, money, and sums of calls.

use std::ops::AddAssign;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::Offset;
use serde::{Serialize, Serializer};

use crate::domain::time::parse_iso;
use crate::sources::facts::Scalar;

/// Length of a UTC day, in ms.
pub const DAY_MS: u64 = 86_400_000;

/// The UTC day of a time in ms since 1970.
pub fn day_of(ms: u64) -> Date {
    let ms = i64::try_from(ms).unwrap_or(i64::MAX);
    let at = Timestamp::from_millisecond(ms).unwrap_or(Timestamp::MAX);
    Offset::UTC.to_datetime(at).date()
}

/// Start of a UTC day, in ms since 1970; 0 for days before 1970.
pub fn start_of(day: Date) -> u64 {
    let at = Offset::UTC.to_timestamp(day.at(0, 0, 0, 0));
    at.map_or(0, |at| u64::try_from(at.as_millisecond()).unwrap_or(0))
}

/// The day `days` days later.
pub fn later(day: Date, days: u64) -> Date {
    day_of(start_of(day).saturating_add(days.saturating_mul(DAY_MS)))
}

/// The day `days` days earlier.
pub fn earlier(day: Date, days: u64) -> Date {
    day_of(start_of(day).saturating_sub(days.saturating_mul(DAY_MS)))
}

/// Parses a text that starts with a day such as `2026-11-01`.
pub fn parse_day(text: &str) -> Option<Date> {
    let text = text.get(..10)?;
    parse_iso(&[text, "T00:00:00Z"].concat()).map(day_of)
}

/// USD in units of 10^-18, so that sums of many small amounts are exact.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Usd(i128);

impl Usd {
    const UNITS: f64 = 1e18;

    /// Converts USD; `None` if the amount is not finite or reaches 10^12.
    pub fn of(usd: f64) -> Option<Self> {
        (usd.abs() < 1e12).then(|| Self((usd * Self::UNITS).round() as i128))
    }

    pub fn usd(self) -> f64 {
        self.0 as f64 / Self::UNITS
    }

    pub fn is_zero(self) -> bool {
        self.0 == 0
    }

    /// Absolute difference of two amounts, in USD.
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

/// A finite number, or a string of one: some APIs send strings.
pub fn number(told: &Scalar) -> Option<f64> {
    let value = match told {
        Scalar::Number(value) => *value,
        Scalar::Text(text) => text.trim().parse().ok()?,
        _ => return None,
    };
    value.is_finite().then_some(value)
}

/// A count: `Some(None)` if absent; `None` if it is negative, fractional, not a number, or above 2^53.
pub fn count(told: &Scalar) -> Option<Option<u64>> {
    const MOST: f64 = 9_007_199_254_740_992.0;
    if told.is_absent() {
        return Some(None);
    }
    let value = number(told)?;
    ((0.0..=MOST).contains(&value) && value.fract() == 0.0).then_some(Some(value as u64))
}

/// A count, 0 if absent; `None` as for [`count`].
pub fn count_or_0(told: &Scalar) -> Option<u64> {
    count(told).map(Option::unwrap_or_default)
}

/// Sum of calls: of one model on one day, or of many rows.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Sum {
    /// Number of calls; `None` where a report has none.
    pub calls: Option<u64>,
    /// Prompt tokens, including cache reads and cache writes.
    pub input_tokens: u64,
    /// Output tokens, including reasoning.
    pub output_tokens: u64,
    /// Prompt tokens that were read from a cache; `None` where a report has none.
    pub cache_read_tokens: Option<u64>,
    /// Prompt tokens that were written to a cache; `None` where a report has none.
    pub cache_write_tokens: Option<u64>,
    /// Cost in USD; `None` where no source has one.
    pub cost_usd: Option<Usd>,
    /// Number of calls whose cost is unknown: each adds 0 USD.
    #[serde(skip_serializing_if = "is_none")]
    pub unknown_cost_calls: u64,
    /// Number of calls whose usage is missing: each adds 0 tokens.
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

    /// Whether tokens and cost are zero.
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
