//! Time, which always comes in from outside.

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
    let mut text = rfc3339(ms.min(253_402_300_799_999));
    text.truncate(text.len() - 1);
    text + "+00:00"
}

#[cfg(not(target_arch = "wasm32"))]
fn rfc3339(ms: u64) -> String {
    let at = std::time::UNIX_EPOCH + std::time::Duration::from_millis(ms);
    humantime::format_rfc3339_millis(at).to_string()
}

/// The host formats dates as well as a library would, at no size.
#[cfg(target_arch = "wasm32")]
fn rfc3339(ms: u64) -> String {
    js_sys::Date::new(&(ms as f64).into())
        .to_iso_string()
        .into()
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
