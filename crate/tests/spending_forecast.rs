//! The forecast of the month, and the cost of prompt parts.

use agentwatch_openclaw::domain::call::{Cost, CostSource, Usage};
use agentwatch_openclaw::domain::time::parse_iso;
use agentwatch_openclaw::pricing::price::Tier;
use agentwatch_openclaw::spending::Nano;
use agentwatch_openclaw::spending::daily::day_of;
use agentwatch_openclaw::spending::forecast::{self, Days, Forecast};
use agentwatch_openclaw::spending::prompt_bill::{PromptBills, PromptStats, prompt_usd};
use agentwatch_openclaw::spending::window::DAY_MS;
use jiff::tz::TimeZone;
use proptest::prelude::*;

const UTC: TimeZone = TimeZone::UTC;

fn ms(time: &str) -> u64 {
    parse_iso(time).unwrap()
}

/// Days up to `last`, with their cost.
fn days(last: &str, usd: &[f64]) -> Days {
    let mut days = Days::default();
    for (back, usd) in usd.iter().rev().enumerate() {
        forecast::add(
            &mut days,
            &UTC,
            ms(last) - back as u64 * DAY_MS,
            Nano::of_usd(*usd),
        );
    }
    days
}

fn of(days: &Days, now: &str) -> Option<Forecast> {
    forecast::forecast(days, &UTC, ms(now))
}

#[test]
fn a_steady_gateway_is_foreseen_exactly() {
    // Until noon of the 10th: 9.5 days at 2 USD each.
    let usd: Vec<f64> = (0..30).map(|_| 2.0).chain([1.0]).collect();
    let months = of(&days("2026-11-10T11:00:00Z", &usd), "2026-11-10T12:00:00Z").unwrap();
    assert_eq!(months.from_days, 28);
    assert!((months.spent_usd - 19.0).abs() < 1e-9);
    for figure in [months.expected_usd, months.low_usd, months.high_usd] {
        assert!((figure - 60.0).abs() < 1e-9, "{months:?}");
    }
    assert_eq!(months.month_ends_ms, ms("2026-12-01T00:00:00Z"));
}

#[test]
fn one_runaway_day_is_not_repeated() {
    let mut usd = vec![
        2.0, 2.5, 1.5, 2.0, 2.2, 1.8, 2.0, 2.0, 2.0, 2.1, 1.9, 2.0, 2.0, 2.0, 2.0,
    ];
    let usual = of(&days("2026-11-15T11:00:00Z", &usd), "2026-11-15T12:00:00Z").unwrap();
    usd[12] = 300.0;
    let after = of(&days("2026-11-15T11:00:00Z", &usd), "2026-11-15T12:00:00Z").unwrap();
    let more = after.spent_usd - usual.spent_usd;
    assert!((more - 298.0).abs() < 1e-9);
    // The spend counts in full; the expectation for the remaining days hardly changes.
    assert!(
        after.expected_usd - usual.expected_usd < more + 3.0,
        "{after:?}"
    );
}

#[test]
fn without_a_complete_day_there_is_none() {
    assert_eq!(of(&Days::default(), "2026-11-10T12:00:00Z"), None);
    // The day of the installation and today are incomplete.
    assert_eq!(
        of(
            &days("2026-11-10T11:00:00Z", &[3.0]),
            "2026-11-10T12:00:00Z"
        ),
        None
    );
    assert_eq!(
        of(
            &days("2026-11-10T11:00:00Z", &[3.0, 1.0]),
            "2026-11-10T12:00:00Z"
        ),
        None
    );
    let first = of(
        &days("2026-11-10T11:00:00Z", &[3.0, 4.0, 1.0]),
        "2026-11-10T12:00:00Z",
    );
    assert_eq!(first.unwrap().from_days, 1);
    // Days without a call count.
    let quiet = of(
        &days("2026-11-01T11:00:00Z", &[3.0, 4.0]),
        "2026-11-10T12:00:00Z",
    )
    .unwrap();
    assert_eq!((quiet.from_days, quiet.spent_usd), (9, 4.0));
}

#[test]
fn most_months_end_within_the_range() {
    // Realistic days: most are cheap, some cost three times as much, weekends are quiet.
    let mut state = 88_172_645_463_325_252u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as f64 / (1u64 << 53) as f64
    };
    let (mut within, mut all) = (0, 0);
    for _ in 0..400 {
        let usd: Vec<f64> = (0..58)
            .map(|day| {
                let weekday = if day % 7 < 5 { 1.0 } else { 0.3 };
                weekday * 5.0 * (1.0 + 2.0 * random().powi(4)) * (0.5 + random())
            })
            .collect();
        // November 10: ten days have passed, twenty remain.
        let known = days("2026-11-10T23:00:00Z", &usd[..38]);
        let forecast = of(&known, "2026-11-10T23:59:59Z").unwrap();
        let end: f64 = usd[28..].iter().sum();
        within += i32::from((forecast.low_usd..=forecast.high_usd).contains(&end));
        all += 1;
    }
    assert!(within * 100 >= all * 70, "{within} of {all}");
}

proptest! {
    #[test]
    fn figures_are_in_order(usd in prop::collection::vec(0.0..1e4f64, 3..60), hour in 0u64..24) {
        let days = days("2026-11-17T00:00:00Z", &usd);
        let now = ms("2026-11-17T00:00:00Z") + hour * 3_600_000;
        let forecast = forecast::forecast(&days, &UTC, now).unwrap();
        prop_assert!(forecast.spent_usd <= forecast.low_usd + 1e-6);
        prop_assert!(forecast.low_usd <= forecast.expected_usd);
        prop_assert!(forecast.expected_usd <= forecast.high_usd);
    }

    #[test]
    fn more_spent_is_never_less_foreseen(
        usd in prop::collection::vec(0.0..1e3f64, 3..60),
        day in any::<prop::sample::Index>(),
        more in 0.0..1e4f64,
        now in prop::sample::select(vec!["2026-11-17T06:00:00Z", "2026-11-17T23:00:00Z"]),
    ) {
        let before = of(&days(now, &usd), now).unwrap();
        let mut dearer = usd.clone();
        dearer[day.index(usd.len())] += more;
        let after = of(&days(now, &dearer), now).unwrap();
        for (before, after) in [
            (before.spent_usd, after.spent_usd),
            (before.expected_usd, after.expected_usd),
            (before.low_usd, after.low_usd),
            (before.high_usd, after.high_usd),
        ] {
            prop_assert!(after >= before - 1e-6, "{before} {after}");
        }
    }

    #[test]
    fn parts_add_up(chars in prop::array::uniform4(0u64..1_000_000_000), amount in any::<u64>()) {
        let [system, tools, messages, other] = chars.map(|chars| chars as f64);
        let total = system + tools + messages + other;
        if let Some(stats) = PromptStats::of([Some(system), Some(tools), Some(messages), Some(total)]) {
            prop_assert_eq!(stats.chars, chars);
            let parts = stats.divide(amount);
            prop_assert_eq!(parts.iter().sum::<u64>(), amount);
            for (part, chars) in parts.iter().zip(chars) {
                let share = amount as f64 * chars as f64 / total;
                prop_assert!((*part as f64 - share).abs() <= 1.0 + share * 1e-9);
            }
        }
    }
}

/// USD per 1M tokens of input, output, cache read and cache write.
const RATES: Tier = [0.0, 3.0, 15.0, 0.3, 3.75];

#[test]
fn a_prompt_is_divided_by_its_characters() {
    // Figures of a gateway's first call with 2026.9.6.
    let stats =
        PromptStats::of([Some(18_887.0), Some(81_729.0), Some(94.0), Some(100_710.0)]).unwrap();
    assert_eq!(
        (stats.chars, stats.fixed()),
        ([18_887, 81_729, 94, 0], 100_616)
    );
    let usage = Usage {
        input: 1_000,
        output: 2_000,
        cache_read: 20_000,
        cache_write: 4_000,
        reasoning: 0,
    };
    let cost = Cost {
        usd: 0.054,
        source: CostSource::Provider,
    };
    // By the rates: 0.003 + 0.006 + 0.015 USD for the prompt, 0.03 USD for the output.
    let usd = prompt_usd(cost, &usage, 0, Some(&RATES)).unwrap();
    assert_eq!(usd, Nano::of_usd(0.024));
    let mut bills = PromptBills::default();
    let now = ms("2026-11-10T12:00:00Z");
    bills.add(&UTC, Some("main"), (&usage, now), &stats, Some(usd));
    bills.add(&UTC, Some("main"), (&usage, now), &stats, None);
    let day = bills.day(day_of(&UTC, now));
    assert_eq!((day.calls, day.unpriced, day.all_tokens()), (2, 1, 50_000));
    assert_eq!(day.all_usd(), usd);
    let share = day.fixed_usd().usd() / usd.usd();
    assert!((share - 100_616.0 / 100_710.0).abs() < 1e-6, "{share}");
    assert_eq!(day.fixed_tokens_a_call(), 24_976);
}

#[test]
fn what_is_not_known_is_not_made_up() {
    let usage = Usage {
        input: 10,
        output: 10,
        ..Usage::default()
    };
    let cost = |usd, source| Cost { usd, source };
    let unknown = cost(0.0, CostSource::Unknown);
    assert_eq!(prompt_usd(unknown, &usage, 0, Some(&RATES)), None);
    let provider = cost(0.5, CostSource::Provider);
    assert_eq!(prompt_usd(provider, &usage, 0, None), None);
    assert_eq!(prompt_usd(provider, &usage, 0, Some(&[0.0; 5])), None);
    let flat = cost(0.0, CostSource::Subscription);
    assert_eq!(prompt_usd(flat, &usage, 0, None), Some(Nano(0)));
    for nothing in [
        [None; 4],
        [Some(0.0); 4],
        [Some(-1.0), Some(5.0), None, None],
        [Some(f64::NAN), Some(5.0), None, None],
        [Some(1e300), None, None, None],
    ] {
        assert_eq!(PromptStats::of(nothing), None);
    }
    // Without a total, or with one below the sum of the parts, the parts count.
    let stats = PromptStats::of([Some(1.0), Some(2.0), None, Some(1.0)]).unwrap();
    assert_eq!(stats.chars, [1, 2, 0, 0]);
}

#[test]
fn the_month_is_found_in_bounded_room() {
    let usage = Usage {
        input: 10_000,
        ..Usage::default()
    };
    let stats =
        |tools: f64| PromptStats::of([Some(1_000.0), Some(tools), Some(1_000.0), None]).unwrap();
    let mut bills = PromptBills::default();
    let first = ms("2026-11-01T12:00:00Z");
    for day in 0..12 {
        let ended_ms = first + day * DAY_MS;
        for _ in 0..10 {
            bills.add(
                &UTC,
                Some("chat"),
                (&usage, ended_ms),
                &stats(2_000.0),
                Some(Nano::of_usd(0.04)),
            );
        }
        bills.add(
            &UTC,
            Some("coder"),
            (&usage, ended_ms),
            &stats(8_000.0),
            Some(Nano::of_usd(0.04)),
        );
    }
    let month = bills.month(&UTC, first + 11 * DAY_MS).unwrap();
    assert_eq!(month.from_days, 10);
    assert!((month.all_usd - 30.0 * 0.44).abs() < 1e-6, "{month:?}");
    assert!(
        (month.fixed_usd - 30.0 * (0.3 + 0.036)).abs() < 1e-6,
        "{month:?}"
    );
    for day in 0..400 {
        for agent in 0..100 {
            let agent = format!("agent-{agent}");
            bills.add(
                &UTC,
                Some(&agent),
                (&usage, first + day * DAY_MS),
                &stats(1.0),
                None,
            );
        }
    }
    let bytes = postcard::to_allocvec(&bills).unwrap().len();
    assert!(bytes < 64 * 1024, "{bytes}");
    assert_eq!(bills.day(day_of(&UTC, first + 399 * DAY_MS)).calls, 100);
}
