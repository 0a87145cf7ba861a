//! What will have been spent by the end of the month, from the sums of days.
//!
//! Expected is what was spent in this month so far, and for each day that is left the robust mean of the complete days
//! before today, of the last 28 at most (whole weeks, as weekends differ). One runaway day counts as the second dearest.
//!
//! The range is made of the days' 10 % and 90 % quantiles (of less than a week the least and the dearest day): their
//! distance from the mean, times √(d + d²/n) for d days that are left and n complete ones, as sums of days that do not
//! depend on each other spread, and as the mean itself is uncertain. About three months of four end within it; of few
//! days it is wide, and `from_days` says so.
//!
//! Nothing that was spent more makes any of the figures less.

use jiff::tz::TimeZone;
use serde::Serialize;

use super::daily::{Daily, day_of};
use super::window::{DAY_MS, Per, Window};
use super::{Nano, robust};

/// Of how many complete days the forecast is, at most.
const MOST_DAYS: u64 = 28;
/// From this many days on quantiles say more than the extremes.
const WEEK: usize = 7;
/// The quantile below the range; as much is above.
const OUTSIDE: f64 = 0.1;

/// What was spent on each day: two months and a week.
pub type Days = Daily<Nano, 70>;

/// Counts what a call cost.
pub fn add(days: &mut Days, zone: &TimeZone, ended_ms: u64, usd: Nano) {
    if let Some(sum) = days.at(day_of(zone, ended_ms)) {
        *sum = sum.plus(usd);
    }
}

/// See the module. In USD.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Forecast {
    /// In this month so far.
    pub spent_usd: f64,
    /// At the month's end.
    pub expected_usd: f64,
    /// The lower end of the range.
    pub low_usd: f64,
    /// The upper end of the range.
    pub high_usd: f64,
    /// From how many complete days.
    pub from_days: usize,
    /// When the month ends, in ms since 1970.
    pub month_ends_ms: u64,
}

/// The forecast of the month that `now_ms` is in; `None` before the first complete day.
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
    // Of the days to come, and of the mean of the days that were; never more than all of them together.
    let known = complete.len() as f64;
    let spread = (left + left * left / known).sqrt().min(left);
    let end = |edge: f64| spent_usd + (left - spread) * mean + spread * edge;
    let expected_usd = spent_usd + left * mean;
    Some(Forecast {
        spent_usd,
        expected_usd,
        // The mean may lie outside where nearly all days are alike.
        low_usd: end(low).min(expected_usd),
        high_usd: end(high).max(expected_usd),
        from_days: complete.len(),
        month_ends_ms: month.ends_ms,
    })
}
