//! Instants: whole µs since 1970 inside, ISO 8601 with an offset outside.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

/// Microseconds since 1970-01-01T00:00:00Z.
pub type Micros = i64;

/// One hour.
pub const HOUR: Micros = 3_600_000_000;
/// One day, of UTC.
pub const DAY: Micros = 24 * HOUR;

/// The current time.
pub fn now() -> Micros {
    Timestamp::now().as_microsecond()
}

/// Reads ISO 8601 with an offset or `Z`. Without either the time is UTC. A date alone is its midnight.
pub fn parse_iso(text: &str) -> Option<Micros> {
    parse_in(&TimeZone::UTC, text)
}

/// The same, but without an offset the time is of a zone.
pub fn parse_in(zone: &TimeZone, text: &str) -> Option<Micros> {
    let text = text.trim();
    if let Ok(instant) = text.parse::<Timestamp>() {
        return Some(instant.as_microsecond());
    }
    instant(zone, text.parse::<DateTime>().ok()?)
}

/// The instant at which the zone's clock shows this time; the earlier one if it shows it twice, the first one after it
/// if the clock skips it.
pub fn instant(zone: &TimeZone, civil: DateTime) -> Option<Micros> {
    let instant = zone.to_timestamp(civil).ok()?;
    Some(instant.as_microsecond())
}

/// What the zone's clock shows.
pub fn civil(zone: &TimeZone, instant: Micros) -> DateTime {
    let instant = Timestamp::from_microsecond(instant).unwrap_or_default();
    zone.to_datetime(instant)
}

/// Writes `2026-03-01T12:00:00.250000+00:00`. A zero fraction is omitted, as in AgentWatch.
pub fn iso(instant: Micros) -> String {
    let Ok(time) = Timestamp::from_microsecond(instant) else {
        return String::new();
    };
    let format = if instant.rem_euclid(1_000_000) == 0 {
        "%Y-%m-%dT%H:%M:%S+00:00"
    } else {
        "%Y-%m-%dT%H:%M:%S.%6f+00:00"
    };
    time.strftime(format).to_string()
}

/// Formats an instant in a zone like `strftime`; empty for instants out of range.
pub fn format_in(zone: &TimeZone, instant: Micros, format: &str) -> String {
    Timestamp::from_microsecond(instant)
        .map(|time| zone.to_datetime(time).strftime(format).to_string())
        .unwrap_or_default()
}

/// The instant `hours` before `instant`.
pub fn hours_before(instant: Micros, hours: i64) -> Micros {
    instant.saturating_sub(hours.saturating_mul(HOUR))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn four_spellings_of_one_instant_are_read() {
        let expected = Some(1_767_225_600_500_000);
        for text in [
            "2026-01-01T00:00:00.5Z",
            "2026-01-01T00:00:00.500+00:00",
            "2026-01-01T02:00:00.5+02:00",
            "2026-01-01 00:00:00.5",
        ] {
            assert_eq!(parse_iso(text), expected, "{text}");
        }
        assert_eq!(parse_iso("yesterday"), None);
    }

    #[test]
    fn instants_are_written_as_by_python() {
        assert_eq!(iso(1_767_225_600_000_000), "2026-01-01T00:00:00+00:00");
        assert_eq!(
            iso(1_767_225_600_250_000),
            "2026-01-01T00:00:00.250000+00:00"
        );
    }
}
