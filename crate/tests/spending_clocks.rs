//! Allowances while clocks are set and processes are killed.

use std::collections::BTreeMap;

use crate::spending_world::{allowances, who, world, zones};
use agentwatch_openclaw::spending::Nano;
use agentwatch_openclaw::spending::allowance::{Brake, Entry, State, Verdict};
use agentwatch_openclaw::spending::window::{DAY_MS, HOUR_MS, Per, Window};
use proptest::prelude::*;
use serde_json::json;

#[test]
fn a_clock_set_back_opens_nothing() {
    let given = json!([{"usd": 1, "per": "day", "then": "stop"}]);
    for back_ms in [1, HOUR_MS, 13 * HOUR_MS, DAY_MS, 40 * DAY_MS] {
        let mut world = world(&given, "2026-11-29T12:00:00Z");
        world.spend("main", 2.0);
        world.now.wall_ms -= back_ms;
        assert!(world.stops("main"), "{back_ms}");
        world.restart(&given);
        assert!(world.stops("main"), "{back_ms}");
        // Spend in the meantime counts.
        world.spend("main", 1.0);
        assert_eq!(world.spent(), 3.0, "{back_ms}");
        let stop = world.verdict("main").unwrap();
        assert!(stop.retry_after_s <= 24 * 3_600 + 13 * 3_600, "{stop:?}");
    }
}

#[test]
fn a_clock_set_far_ahead_and_back_locks_for_one_window_at_most() {
    for (per, usual_ms) in [("hour", HOUR_MS), ("day", DAY_MS), ("month", 31 * DAY_MS)] {
        let given = json!([{"usd": 1, "per": per, "then": "stop"}]);
        let mut world = world(&given, "2026-11-29T12:00:00Z");
        world.now.wall_ms += 4 * 365 * DAY_MS;
        world.spend("main", 2.0);
        world.now.wall_ms -= 4 * 365 * DAY_MS;
        let stop = world.verdict("main").unwrap();
        assert_eq!(stop.retry_after_s, usual_ms / 1_000, "{per}");
        world.pass(usual_ms - 1);
        assert!(world.stops("main"), "{per}");
        world.pass(1);
        assert!(!world.stops("main"), "{per}");
        // From then on the wall clock defines the window.
        let window = world.brake.allowances().next().unwrap().1.window;
        assert!(window.has(world.now.wall_ms), "{per}");
    }
}

#[test]
fn a_call_counts_in_the_window_in_which_it_ended() {
    let given = json!([{"usd": 1, "per": "day", "then": "stop", "zone": "UTC"}]);
    let mut world = world(&given, "2026-11-29T23:59:59Z");
    world.spend("main", 0.5);
    let ended_ms = world.now.wall_ms;
    // Reported just after midnight, before any other event: the call and its warning belong to yesterday.
    world.pass(3_000);
    let warnings = world.spend_by(&who("main"), 0.4, ended_ms);
    assert_eq!(warnings.iter().map(|w| w.percent).collect::<Vec<_>>(), [80]);
    assert!(warnings[0].window.has(ended_ms));
    assert_eq!(world.spent(), 0.0);
    // The session store reports calls of last week.
    world.spend_by(&who("main"), 50.0, ended_ms - 6 * DAY_MS);
    assert_eq!((world.spent(), world.brake.state().late), (0.0, 2));
    // A call whose end is in the future, by another clock.
    world.spend_by(&who("main"), 0.25, world.now.wall_ms + HOUR_MS);
    assert_eq!(world.spent(), 0.25);
}

/// A step of a gateway's run.
#[derive(Debug, Clone)]
enum Step {
    Pass(u64),
    Begin(u8),
    End { mills: u16, late_ms: u64 },
    Kill,
    Snapshot,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0..3 * HOUR_MS).prop_map(Step::Pass),
        3 => any::<u8>().prop_map(Step::Begin),
        6 => (0u16..400, 0..5_000u64).prop_map(|(mills, late_ms)| Step::End { mills, late_ms }),
        1 => Just(Step::Kill),
        1 => Just(Step::Snapshot),
    ]
}

proptest! {
    /// Compares with a list of all calls: sums by window and verdicts are exact for any order of kills.
    #[test]
    fn sums_are_exact_over_restarts(steps in prop::collection::vec(step(), 1..120)) {
        let given = json!([
            {"usd": 1, "per": "hour", "then": "stop"},
            {"usd": 3, "per": "day", "agent": "main", "then": "stop"},
            {"usd": 9, "per": "month", "then": "warn"},
        ]);
        let mut world = world(&given, "2026-10-24T12:00:00Z");
        let zone = zones("Europe/Berlin").unwrap();
        let (mut snapshot, mut calls) = (State::default(), Vec::new());
        let mut warned: BTreeMap<(String, u64, u8), u32> = BTreeMap::new();
        for step in steps {
            match step {
                Step::Pass(ms) => world.pass(ms),
                Step::Begin(key) => {
                    world.brake.admit(Some(key.into()), &who("main"), "anthropic/claude", world.now);
                }
                Step::End { mills, late_ms } => {
                    world.pass(late_ms);
                    // The call ended at the beginning of this pause, in which the brake was not used.
                    let ended_ms = world.now.wall_ms - late_ms;
                    calls.push((ended_ms, mills));
                    for warning in world.spend_by(&who("main"), f64::from(mills) / 1e3, ended_ms) {
                        let key = (warning.allowance, warning.window.starts_ms, warning.percent);
                        *warned.entry(key).or_default() += 1;
                    }
                }
                Step::Snapshot => {
                    snapshot = world.brake.state().clone();
                    world.entries.clear();
                }
                Step::Kill => {
                    let bytes = postcard::to_allocvec(&(&snapshot, &world.entries)).unwrap();
                    let (state, entries): (State, Vec<Entry>) = postcard::from_bytes(&bytes).unwrap();
                    let mut brake = Brake::new(allowances(&given), state);
                    for entry in &entries {
                        brake.apply(entry);
                    }
                    world.brake.tick(world.now);
                    brake.tick(world.now);
                    prop_assert_eq!(brake.state(), world.brake.state());
                    world.brake = brake;
                    world.now.mono_ms = 0;
                }
            }
            world.brake.tick(world.now);
            for (allowance, meter) in world.brake.allowances() {
                let window = Window::of(allowance.per, &zone, world.now.wall_ms);
                prop_assert_eq!(meter.window, window);
                let own = calls.iter().filter(|(ended_ms, _)| window.has(*ended_ms));
                let expected: u64 = own.map(|(_, mills)| u64::from(*mills) * 1_000_000).sum();
                prop_assert_eq!(meter.spent.usd, Nano(expected));
                let is_spent = |per| allowance.per == per && expected >= match per { Per::Hour => 1, Per::Day => 3, Per::Month => u64::MAX / 2_000_000_000 } * 1_000_000_000;
                if is_spent(Per::Hour) || is_spent(Per::Day) {
                    let mut asked = Brake::new(allowances(&given), world.brake.state().clone());
                    let verdict = asked.admit(None, &who("main"), "anthropic/claude", world.now);
                    prop_assert!(verdict != Verdict::Pass);
                }
            }
        }
        prop_assert!(warned.values().all(|times| *times == 1), "{:?}", warned);
    }

    /// For any concurrent calls: the spend exceeds the limit by at most the errors of the expected cost.
    #[test]
    fn overshoot_is_the_error(
        learned in prop::collection::vec(50u64..150, 1..20),
        real in prop::collection::vec(50u64..150, 1..200),
        limit in 300u64..3_000,
    ) {
        let given = json!([{"usd": limit as f64 / 1e3, "per": "day", "then": "stop"}]);
        let mut world = world(&given, "2026-11-29T12:00:00Z");
        for mills in &learned {
            world.spend("main", *mills as f64 / 1e3);
        }
        let before = world.spent();
        let now = world.now;
        let passed: Vec<&u64> = real.iter().enumerate().filter(|(key, _)| {
            world.brake.admit(Some(*key as u64), &who("main"), "anthropic/claude", now) == Verdict::Pass
        }).map(|(_, mills)| mills).collect();
        // The mean is at least 0.05 USD, and each call exceeds it by at most 0.1 USD.
        let errors = passed.len() as f64 * 0.1;
        let spent: f64 = passed.iter().map(|mills| **mills as f64 / 1e3).sum();
        let room = (limit as f64 / 1e3 - before).max(0.0);
        prop_assert!(spent <= room + errors + 1e-9, "{spent} {room} {errors}");
        prop_assert!(passed.len() as f64 * 0.05 <= room + 1e-9);
    }

    /// Whatever the wall clock does within a process that runs for less than a window: the spend is at most one limit.
    #[test]
    fn a_clock_that_only_goes_back_opens_nothing(
        backs in prop::collection::vec((0..3 * DAY_MS, 0..HOUR_MS, any::<bool>()), 1..20),
    ) {
        let given = json!([{"usd": 1, "per": "day", "then": "stop"}]);
        let mut world = world(&given, "2026-11-29T12:00:00Z");
        world.spend("main", 1.0);
        for (back_ms, pass_ms, restarts) in backs {
            world.now.wall_ms -= back_ms;
            // Less than a day in all, and never past midnight.
            world.pass(pass_ms / 3);
            if restarts {
                world.restart(&given);
            }
            prop_assert!(world.stops("main"));
        }
    }
}
