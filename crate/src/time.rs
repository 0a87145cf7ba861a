//! Time, which always comes in from outside.

use std::time::{Duration, UNIX_EPOCH};

/// The two clocks of the host at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Now {
    /// The wall clock: ms since 1970. It may jump; it only dates records.
    pub wall_ms: u64,
    /// A clock that never goes back, in ms from any start: it drives every wait.
    pub mono_ms: u64,
}

/// An ISO 8601 time with its offset written out: AgentWatch runs on Pythons that do not read `Z`.
pub fn iso(ms: u64) -> String {
    // Beyond the year 9999 the format ends; such a time is nonsense and is shown as the last one.
    let at = UNIX_EPOCH + Duration::from_millis(ms.min(253_402_300_799_999));
    let text = humantime::format_rfc3339_millis(at).to_string();
    text.replace('Z', "+00:00")
}

#[cfg(test)]
mod tests {
    use super::iso;

    #[test]
    fn a_time_is_written_for_old_pythons_too() {
        assert_eq!(iso(1_795_439_673_341), "2026-11-23T13:14:33.341+00:00");
        assert_eq!(iso(u64::MAX), "9999-12-31T23:59:59.999+00:00");
    }
}
