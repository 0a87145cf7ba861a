//! Forecast of the month's spend from the sums of its days.
//!
//! The expected spend is the month's spend so far, plus, for each remaining day, the robust mean of the complete days
//! before today: at most the last 28 (whole weeks, since weekends differ). One runaway day counts as the second most
//! expensive.
//!
//! The range comes from the 10 % and 90 % quantiles of the days (with less than a week of days, from the cheapest and
//! the most expensive day): their distance from the mean, times √(d + d²/n) for d remaining and n complete days. The
//! first term is the spread of a sum of independent days, the second is the uncertainty of the mean. About three of
//! four months end within the range; with few days it is wide, and `from_days` shows their number.
//!
//! All figures are monotonic: more spend never reduces one.

use jiff::tz::TimeZone;
use serde::Serialize;

use super::daily::{Daily, day_of};
use super::window::{DAY_MS, Per, Window};
use super::{Nano, robust};

/// Maximum number of complete days in the forecast.
const MOST_DAYS: u64 = 28;
/// Number of days from which quantiles replace the extremes.
const WEEK: usize = 7;
/// Fraction of the days below the range, and above it.
const OUTSIDE: f64 = 0.1;

/// Spend by day, for two months and a week.
pub type Days = Daily<Nano, 70>;

/// Adds a call's cost.
pub fn add(days: &mut Days, zone: &TimeZone, ended_ms: u64, usd: Nano) {
    if let Some(sum) = days.at(day_of(zone, ended_ms)) {
        *sum = sum.plus(usd);
    }
}

/// The forecast of a month, in USD.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Forecast {
    /// Spend of the month so far.
    pub spent_usd: f64,
    /// Expected spend at the month's end.
    pub expected_usd: f64,
    /// Lower end of the range.
    pub low_usd: f64,
    /// Upper end of the range.
    pub high_usd: f64,
    /// Number of complete days.
    pub from_days: usize,
    /// When the month ends, in ms since 1970.
    pub month_ends_ms: u64,
}

/// The forecast of the month that contains `now_ms` (ms since 1970); `None` before the first complete day.
pub fn forecast(days: &Days, zone: &TimeZone, now_ms: u64) -> Option<Forecast> {
    let month = Window::of(Per::Month, zone, now_ms);
    let today = day_of(zone, now_ms);
    let usd = |day| days.get(day).map_or(0.0, |sum| sum.usd());
    let complete: Vec<f64> = days.complete(today, MOST_DAYS).map(usd).collect();
    let mean = robust::mean(&complete)?;
    let outside = match complete.len() < WEEK {
        true => 0.0,
        false => OUTSIDE,
    };
    let low = robust::quantile(&complete, outside)?;
    let high = robust::quantile(&complete, 1.0 - outside)?;
    let spent_usd: f64 = (day_of(zone, month.starts_ms)..=today).map(usd).sum();
    let left = month.ends_ms.saturating_sub(now_ms) as f64 / DAY_MS as f64;
    // Spread of the remaining days and of the mean; at most the sum of the days' distances.
    let known = complete.len() as f64;
    let spread = (left + left * left / known).sqrt().min(left);
    let end = |edge: f64| spent_usd + (left - spread) * mean + spread * edge;
    let expected_usd = spent_usd + left * mean;
    Some(Forecast {
        spent_usd,
        expected_usd,
        // The mean may lie outside the quantiles if nearly all days are alike.
        low_usd: end(low).min(expected_usd),
        high_usd: end(high).max(expected_usd),
        from_days: complete.len(),
        month_ends_ms: month.ends_ms,
    })
}
