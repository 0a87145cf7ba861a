//! Time, which always comes in from outside.

/// The two clocks of the host at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Now {
    /// The wall clock: ms since 1970. It may jump; it only dates records.
    pub wall_ms: u64,
    /// A clock that never goes back, in ms from any start: it drives every wait.
    pub mono_ms: u64,
}

/// An ISO 8601 time with its offset written out: AgentWatch runs on Pythons that do not read `Z`. Each record has some of
/// them, so it is written here: asking the host, or the formatter of texts, takes ten times as long.
pub fn iso(ms: u64) -> String {
    // Beyond the year 9999 the format ends; such a time is nonsense and is shown as the last one.
    let ms = ms.min(253_402_300_799_999);
    let (year, month, day) = date(ms / 86_400_000);
    let mut text = *b"YYYY-MM-DDThh:mm:ss.fff+00:00";
    let parts = [
        (3, 4, year),
        (6, 2, month),
        (9, 2, day),
        (12, 2, ms / 3_600_000 % 24),
        (15, 2, ms / 60_000 % 60),
        (18, 2, ms / 1_000 % 60),
        (22, 3, ms % 1_000),
    ];
    for (last, length, mut number) in parts {
        for at in 0..length {
            text[last - at] = b'0' + (number % 10) as u8;
            number /= 10;
        }
    }
    // Nothing but ASCII stands in it.
    String::from_utf8(text.to_vec()).unwrap_or_default()
}

/// The date of the Gregorian calendar so many days after 1970-01-01.
fn date(days: u64) -> (u64, u64, u64) {
    // Counted from 0000-03-01 on, in spans of 400 years: leap days come last.
    let days = days + 719_468;
    let (span, of_span) = (days / 146_097, days % 146_097);
    let year = (of_span - of_span / 1_460 + of_span / 36_524 - of_span / 146_096) / 365;
    let of_year = of_span - (365 * year + year / 4 - year / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let (month, next) = match from_march {
        0..=9 => (from_march + 3, 0),
        _ => (from_march - 9, 1),
    };
    (span * 400 + year + next, month, day)
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

#[cfg(all(test, not(target_arch = "wasm32")))]
mod tests {
    use super::{iso, parse_iso};

    #[test]
    fn a_time_is_written_for_old_pythons_too() {
        assert_eq!(iso(1_795_439_673_341), "2026-11-23T13:14:33.341+00:00");
        assert_eq!(iso(u64::MAX), "9999-12-31T23:59:59.999+00:00");
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
