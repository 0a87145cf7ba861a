//! Clock readings and time formats. The host passes the time in.

use jiff::Timestamp;
use jiff::fmt::temporal::DateTimePrinter;
use jiff::tz::Offset;

/// The host's two clocks at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Now {
    /// The wall clock, in ms since 1970. It may jump; it only dates records.
    pub wall_ms: u64,
    /// The monotonic clock, in ms from any start. All waits use it.
    pub mono_ms: u64,
}

/// Formats a time in ISO 8601 with a numeric offset: AgentWatch runs on Python versions that cannot read `Z`.
pub fn iso(ms: u64) -> String {
    const PRINTER: DateTimePrinter = DateTimePrinter::new().precision(Some(3));
    // The format ends with the year 9999; later times are written as its last moment.
    let ms = i64::try_from(ms).unwrap_or(i64::MAX);
    let at = Timestamp::from_millisecond(ms).unwrap_or(Timestamp::MAX);
    PRINTER.timestamp_with_offset_to_string(&at, Offset::UTC)
}

/// Reads an ISO 8601 time with an offset, in ms since 1970. `None` for other texts and for times before 1970.
pub fn parse_iso(text: &str) -> Option<u64> {
    let at: Timestamp = text.parse().ok()?;
    u64::try_from(at.as_millisecond()).ok()
}

#[cfg(all(test, not(target_arch = "wasm32")))]
mod tests {
    use super::{iso, parse_iso};

    #[test]
    fn a_time_is_written_with_a_numeric_offset() {
        assert_eq!(iso(1_795_439_673_341), "2026-11-23T13:14:33.341+00:00");
        assert_eq!(iso(0), "1970-01-01T00:00:00.000+00:00");
        for nonsense in [253_402_300_800_000, i64::MAX as u64, u64::MAX] {
            assert_eq!(iso(nonsense), "9999-12-30T22:00:00.999+00:00");
        }
    }

    #[test]
    fn each_day_has_its_date() {
        for day in 0..60_000 {
            let ms = day * 86_400_000 + day % 86_400 * 1_000 + day % 1_000;
            let at = std::time::UNIX_EPOCH + std::time::Duration::from_millis(ms);
            let known = humantime::format_rfc3339_millis(at).to_string();
            assert_eq!(iso(ms), known.replace('Z', "+00:00"));
        }
    }

    #[test]
    fn a_written_time_is_read_again() {
        for ms in [
            0,
            951_782_399_999,
            951_782_400_000,
            1_795_439_673_341,
            4_107_542_399_123,
        ] {
            assert_eq!(parse_iso(&iso(ms)), Some(ms));
        }
        assert_eq!(
            parse_iso("2026-11-23T13:14:33.341Z"),
            Some(1_795_439_673_341)
        );
        assert_eq!(parse_iso("2026-11-23T13:14:33Z"), Some(1_795_439_673_000));
        assert_eq!(parse_iso("2026-11-23T13:14:33.3Z"), Some(1_795_439_673_300));
        assert_eq!(
            parse_iso("2026-11-23T14:14:33.341999+01:00"),
            Some(1_795_439_673_341)
        );
        assert_eq!(
            parse_iso("2026-11-23T12:14:33-01:00"),
            Some(1_795_439_673_000)
        );
    }

    #[test]
    fn other_texts_are_no_times() {
        for text in [
            "",
            "now",
            "2026-11-23",
            "2026-13-01T00:00:00Z",
            "2026-11-23T13:14:33",
            "2026-11-23T25:14:33Z",
            "2026-11-23T13:14:33.Z",
            "2026-11-23T13:14:33.3Z ",
            "1969-12-31T23:59:59Z",
            "-000001-01-01T00:00:00Z",
        ] {
            assert_eq!(parse_iso(text), None, "{text}");
        }
    }
}
