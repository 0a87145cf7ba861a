//! The viewer's time zone: the script tells it in a cookie, and the server writes all times of the page in it.

use crate::clock::{self, DAY, HOUR, Micros};
use crate::store::query::Bars;
use axum::http::{HeaderMap, header};
use jiff::ToSpan;
use jiff::tz::{TimeZone, TimeZoneDatabase};

/// Name of the cookie. Its value is an IANA name with slashes and plus signs percent-encoded.
const COOKIE: &str = "zone";
/// Length of the parts of days that are bars.
const QUARTER: Micros = 6 * HOUR;

/// The zone of a request's cookie; UTC without one, and where it is unknown.
pub fn of(headers: &HeaderMap) -> TimeZone {
    let lines = headers.get_all(header::COOKIE).iter();
    let lines = lines.filter_map(|line| line.to_str().ok());
    let mut pairs = lines.flat_map(|line| line.split(';'));
    let name = pairs.find_map(|pair| {
        let (name, value) = pair.trim().split_once('=')?;
        (name == COOKIE).then_some(value)
    });
    let known = name
        .map(|name| TimeZoneDatabase::bundled().get(&name.replace("%2F", "/").replace("%2B", "+")));
    known.and_then(Result::ok).unwrap_or(TimeZone::UTC)
}

/// Its name.
pub fn name(zone: &TimeZone) -> &str {
    zone.iana_name().unwrap_or("UTC")
}

/// The bars from an instant to another that begin with the zone's days, or with each six hours of its clock. `None` for
/// bars of another length, and for zones that are no whole hours apart from UTC: sums are by hour of UTC.
pub fn bars(zone: &TimeZone, step: Micros, from: Micros, last: Micros) -> Option<Bars> {
    if step != DAY && step != QUARTER {
        return None;
    }
    let mut day = clock::civil(zone, from).date();
    let mut starts = Vec::new();
    loop {
        for hour in (0..24).step_by(usize::try_from(step / HOUR).ok()?) {
            let at = clock::instant(zone, day.at(hour, 0, 0, 0))?;
            if at % HOUR != 0 {
                return None;
            }
            if at > last {
                return Some(Bars {
                    starts,
                    step,
                    end: at,
                });
            }
            if at <= from {
                starts.clear();
            }
            starts.push(at);
        }
        day = day.checked_add(1.day()).ok()?;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;
    use axum::http::HeaderValue;

    fn zone(name: &str) -> TimeZone {
        let mut headers = HeaderMap::new();
        let cookie = format!("a=b; zone={name}; c=d");
        headers.insert(header::COOKIE, HeaderValue::from_str(&cookie).unwrap());
        of(&headers)
    }

    #[test]
    fn a_cookie_names_the_zone_and_anything_else_is_utc() {
        for (cookie, shown) in [
            ("Europe%2FBerlin", "Europe/Berlin"),
            ("Asia/Calcutta", "Asia/Calcutta"),
            (
                "America%2FArgentina%2FBuenos_Aires",
                "America/Argentina/Buenos_Aires",
            ),
            ("Etc%2FGMT%2B5", "Etc/GMT+5"),
            ("UTC", "UTC"),
            ("", "UTC"),
            ("Mars%2FOlympus", "UTC"),
            ("..%2F..%2Fetc%2Fpasswd", "UTC"),
            ("<script>", "UTC"),
        ] {
            assert_eq!(name(&zone(cookie)), shown, "{cookie}");
        }
        assert_eq!(name(&of(&HeaderMap::new())), "UTC");
    }

    #[test]
    fn bars_begin_with_the_days_of_the_zone_over_its_changes_of_offset() {
        let berlin = zone("Europe/Berlin");
        let at = |text: &str| clock::parse_iso(text).unwrap();
        // Summer time began on 29 March 2026 and ended on 25 October.
        for (from, last, lengths) in [
            ("2026-03-28T12:00Z", "2026-03-30T12:00Z", [24, 23, 24]),
            ("2026-10-24T12:00Z", "2026-10-26T12:00Z", [24, 25, 24]),
        ] {
            let bars = bars(&berlin, DAY, at(from), at(last)).unwrap();
            let ends = bars.starts.iter().skip(1).chain([&bars.end]);
            let hours = bars.starts.iter().zip(ends);
            let hours: Vec<Micros> = hours.map(|(start, end)| (end - start) / HOUR).collect();
            assert_eq!(hours, lengths);
            assert!(bars.starts[0] <= at(from) && bars.starts[1] > at(from));
        }
        let quarters = bars(
            &berlin,
            QUARTER,
            at("2026-03-28T12:00Z"),
            at("2026-03-29T12:00Z"),
        )
        .unwrap();
        let shown: Vec<String> = quarters
            .starts
            .iter()
            .map(|at| clock::format_in(&berlin, *at, "%d %H:%M"))
            .collect();
        assert_eq!(
            shown,
            ["28 12:00", "28 18:00", "29 00:00", "29 06:00", "29 12:00"]
        );
        // Half an hour apart from UTC, or too short to begin with a day.
        let kolkata = zone("Asia/Kolkata");
        assert!(bars(&kolkata, DAY, at("2026-03-28"), at("2026-03-29")).is_none());
        assert!(bars(&berlin, HOUR, at("2026-03-28"), at("2026-03-29")).is_none());
    }
}
