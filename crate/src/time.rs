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

/// The time that `YYYY-MM-DDTHH:MM:SS[.fff](Z|±HH:MM)` tells, in ms since 1970.
pub fn parse_iso(text: &str) -> Option<u64> {
    let bytes = text.as_bytes();
    let number = |from: usize, length: usize| -> Option<u64> {
        let digits = bytes.get(from..from + length)?;
        digits.iter().try_fold(0, |sum, digit| {
            digit
                .is_ascii_digit()
                .then(|| sum * 10 + u64::from(digit - b'0'))
        })
    };
    let stands = |at: usize, byte: u8| bytes.get(at) == Some(&byte);
    let punctuated = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')];
    if !punctuated.iter().all(|(at, byte)| stands(*at, *byte)) {
        return None;
    }
    let days = days_since_1970(number(0, 4)?, number(5, 2)?, number(8, 2)?)?;
    let (hour, minute, second) = (number(11, 2)?, number(14, 2)?, number(17, 2)?);
    if hour > 24 || minute > 59 || second > 60 {
        return None;
    }
    let mut at = 19;
    let mut ms = 0;
    if stands(at, b'.') {
        let length = bytes[at + 1..]
            .iter()
            .take_while(|b| b.is_ascii_digit())
            .count();
        let known = length.min(3);
        ms = number(at + 1, known)? * [1, 100, 10, 1][known];
        at += 1 + length;
    }
    let local = ((days * 24 + hour) * 60 + minute) * 60_000 + second * 1_000 + ms;
    match bytes.get(at)? {
        b'Z' if bytes.len() == at + 1 => Some(local),
        sign @ (b'+' | b'-') if bytes.len() == at + 6 && stands(at + 3, b':') => {
            let offset = (number(at + 1, 2)? * 60 + number(at + 4, 2)?) * 60_000;
            match sign {
                b'+' => local.checked_sub(offset),
                _ => Some(local + offset),
            }
        }
        _ => None,
    }
}

/// Days from 1970-01-01 to a date of the Gregorian calendar.
fn days_since_1970(year: u64, month: u64, day: u64) -> Option<u64> {
    if year < 1970 || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    // Counted from March on, leap days come last.
    let (year, month) = match month {
        1 | 2 => (year - 1, month + 9),
        _ => (year, month - 3),
    };
    let whole = year * 365 + year / 4 - year / 100 + year / 400;
    Some(whole + (month * 153 + 2) / 5 + day - 1 - 719_468)
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
    use super::{iso, parse_iso};

    #[test]
    fn a_time_is_written_for_old_pythons_too() {
        assert_eq!(iso(1_795_439_673_341), "2026-11-23T13:14:33.341+00:00");
        assert_eq!(iso(u64::MAX), "9999-12-31T23:59:59.999+00:00");
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
    fn what_is_no_time_is_none() {
        for text in [
            "",
            "now",
            "2026-11-23",
            "2026-13-01T00:00:00Z",
            "2026-11-23T13:14:33",
            "2026-11-23T25:14:33Z",
        ] {
            assert_eq!(parse_iso(text), None, "{text}");
        }
        assert_eq!(parse_iso("1969-12-31T23:59:59Z"), None);
        assert_eq!(parse_iso("2026-11-23T13:14:33.Z"), Some(1_795_439_673_000));
    }
}
