//! Calendar windows in zones with daylight saving time, by POSIX rules, which need no zone database.

use agentwatch_openclaw::domain::time::parse_iso;
use agentwatch_openclaw::spending::window::{HOUR_MS, Per, Window, begin_of, date_of, written};
use jiff::tz::TimeZone;
use proptest::prelude::*;

const ZONES: &[&str] = &[
    "UTC0",
    "CET-1CEST,M3.5.0,M10.5.0/3",
    "EST5EDT,M3.2.0,M11.1.0",
    // Zones with an offset or a saving time that is no whole hour.
    "<+0545>-5:45",
    "<+1030>-10:30<+11>-11,M10.1.0,M4.1.0",
    // Clocks that move at midnight: a date without a midnight, and one with two.
    "EET-2EEST,M3.5.0/0,M10.5.0/0",
    "<-04>4<-03>,M9.1.6/24,M4.1.6/24",
    "<-01>1<+00>,M3.5.0/0,M10.5.0/1",
    "<+14>-14",
    "<-12>12",
];

fn zone(rule: &str) -> TimeZone {
    TimeZone::posix(rule).unwrap()
}

fn ms(time: &str) -> u64 {
    parse_iso(time).unwrap()
}

fn berlin(per: Per, time: &str) -> (String, String, u64) {
    let zone = zone(ZONES[1]);
    let window = Window::of(per, &zone, ms(time));
    let hours = window.length_ms() / HOUR_MS;
    (
        written(&zone, window.starts_ms),
        written(&zone, window.ends_ms),
        hours,
    )
}

#[test]
fn days_have_23_and_25_hours_where_the_clocks_move() {
    for (time, starts, ends, hours) in [
        (
            "2026-11-29T12:00:00Z",
            "2026-11-29T00:00:00+01:00",
            "2026-11-30T00:00:00+01:00",
            24,
        ),
        (
            "2026-03-29T12:00:00Z",
            "2026-03-29T00:00:00+01:00",
            "2026-03-30T00:00:00+02:00",
            23,
        ),
        (
            "2026-10-25T12:00:00Z",
            "2026-10-25T00:00:00+02:00",
            "2026-10-26T00:00:00+01:00",
            25,
        ),
        (
            "2026-11-29T23:00:00Z",
            "2026-11-30T00:00:00+01:00",
            "2026-12-01T00:00:00+01:00",
            24,
        ),
        (
            "2026-11-29T22:59:59.999Z",
            "2026-11-29T00:00:00+01:00",
            "2026-11-30T00:00:00+01:00",
            24,
        ),
    ] {
        assert_eq!(
            berlin(Per::Day, time),
            (starts.to_owned(), ends.to_owned(), hours),
            "{time}"
        );
    }
}

#[test]
fn months_end_with_their_last_day() {
    for (time, starts, ends, days) in [
        (
            "2026-02-14T12:00:00Z",
            "2026-02-01T00:00:00+01:00",
            "2026-03-01T00:00:00+01:00",
            28,
        ),
        (
            "2028-02-29T12:00:00Z",
            "2028-02-01T00:00:00+01:00",
            "2028-03-01T00:00:00+01:00",
            29,
        ),
        (
            "2026-12-31T22:59:59Z",
            "2026-12-01T00:00:00+01:00",
            "2027-01-01T00:00:00+01:00",
            31,
        ),
        (
            "2026-12-31T23:00:00Z",
            "2027-01-01T00:00:00+01:00",
            "2027-02-01T00:00:00+01:00",
            31,
        ),
    ] {
        let hours = days * 24;
        assert_eq!(
            berlin(Per::Month, time),
            (starts.to_owned(), ends.to_owned(), hours),
            "{time}"
        );
    }
    // March lacks an hour; October has an additional one.
    assert_eq!(berlin(Per::Month, "2026-03-05T00:00:00Z").2, 31 * 24 - 1);
    assert_eq!(berlin(Per::Month, "2026-10-05T00:00:00Z").2, 31 * 24 + 1);
}

#[test]
fn the_hour_that_the_clock_shows_twice_is_two_windows() {
    let (first, second) = ("2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z");
    let starts = [first, second].map(|time| berlin(Per::Hour, time).0);
    assert_eq!(
        starts,
        ["2026-10-25T02:00:00+02:00", "2026-10-25T02:00:00+01:00"]
    );
    // A zone with an offset of three quarters of an hour has its own hours.
    let kathmandu = zone(ZONES[3]);
    let window = Window::of(Per::Hour, &kathmandu, ms("2026-11-29T12:30:00Z"));
    assert_eq!(
        written(&kathmandu, window.starts_ms),
        "2026-11-29T18:00:00+05:45"
    );
}

#[test]
fn a_date_without_a_midnight_begins_later() {
    let cairo = zone(ZONES[5]);
    let window = Window::of(Per::Day, &cairo, ms("2026-03-29T12:00:00Z"));
    assert_eq!(
        written(&cairo, window.starts_ms),
        "2026-03-29T01:00:00+03:00"
    );
    assert_eq!(window.length_ms(), 23 * HOUR_MS);
}

#[test]
fn nonsense_has_a_window_too() {
    for at_ms in [0, 1, u64::MAX, i64::MAX as u64] {
        for rule in ZONES {
            for per in [Per::Hour, Per::Day, Per::Month] {
                let window = Window::of(per, &zone(rule), at_ms);
                assert!(window.starts_ms < window.ends_ms, "{window:?}");
            }
        }
    }
}

proptest! {
    #[test]
    fn windows_hold_their_moment_and_abut(
        at_ms in 86_400_000u64 * 40..4_102_444_800_000,
        rule in prop::sample::select(ZONES.to_vec()),
    ) {
        let zone = zone(rule);
        for per in [Per::Hour, Per::Day, Per::Month] {
            let window = Window::of(per, &zone, at_ms);
            prop_assert!(window.has(at_ms));
            prop_assert!(window.length_ms() <= per.usual_ms() + 2 * HOUR_MS);
            prop_assert_eq!(Window::of(per, &zone, window.starts_ms), window);
            prop_assert_eq!(Window::of(per, &zone, window.ends_ms - 1), window);
            let before = Window::of(per, &zone, window.starts_ms - 1);
            prop_assert_eq!(before.ends_ms, window.starts_ms);
            let after = Window::of(per, &zone, window.ends_ms);
            prop_assert_eq!(after.starts_ms, window.ends_ms);
        }
        let day = Window::of(Per::Day, &zone, at_ms);
        prop_assert_eq!(begin_of(&zone, date_of(&zone, at_ms)), Some(day.starts_ms));
        prop_assert!(Window::of(Per::Month, &zone, at_ms).has(day.starts_ms));
    }

    /// At each clock change.
    #[test]
    fn windows_abut_where_the_clocks_move(
        year in 2026i16..2040,
        minutes in 0u64..72 * 60,
        rule in prop::sample::select(ZONES.to_vec()),
    ) {
        let zone = zone(rule);
        for change in zone.following(jiff::civil::date(year, 1, 1).to_zoned_datetime(zone.clone()).unwrap().timestamp()).take(2) {
            let at_ms = change.timestamp().as_millisecond() as u64 - 36 * HOUR_MS + minutes * 60_000;
            for per in [Per::Hour, Per::Day, Per::Month] {
                let window = Window::of(per, &zone, at_ms);
                prop_assert!(window.has(at_ms));
                prop_assert_eq!(Window::of(per, &zone, window.ends_ms).starts_ms, window.ends_ms);
                prop_assert_eq!(Window::of(per, &zone, window.starts_ms - 1).ends_ms, window.starts_ms);
            }
        }
    }
}
