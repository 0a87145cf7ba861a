//! Allowances: spend, warnings, stops, pending calls and lifts.

use crate::spending_world::{who, world};
use agentwatch_openclaw::domain::call::{Cost, CostSource, Usage};
use agentwatch_openclaw::domain::time::parse_iso;
use agentwatch_openclaw::spending::Nano;
use agentwatch_openclaw::spending::allowance::{
    Brake, Ended, State, Stop, UNDER_WAY_MS, Verdict, lift_ms,
};
use agentwatch_openclaw::spending::settings::Limit;
use agentwatch_openclaw::spending::who::Who;
use agentwatch_openclaw::spending::window::{DAY_MS, HOUR_MS};
use serde_json::{Value, json};

#[test]
fn warnings_come_once_a_window_at_80_and_100_percent() {
    let given = json!([{"usd": 1, "per": "day", "then": "warn"}]);
    let mut world = world(&given, "2026-11-29T12:00:00Z");
    let percents: Vec<Vec<u8>> = (0..12).map(|_| world.percents("main", 0.1)).collect();
    let expected = |n| match n {
        7 => vec![80],
        9 => vec![100],
        _ => vec![],
    };
    assert_eq!(percents, (0..12).map(expected).collect::<Vec<_>>());
    assert!(!world.stops("main"));
    // Both warnings come again the next day; one call that passes both levels gives the second only.
    world.pass(DAY_MS);
    assert_eq!(world.percents("main", 5.0), [100]);
    assert_eq!(world.percents("main", 5.0), Vec::<u8>::new());
    // A restart does not repeat warnings.
    world.restart(&given);
    assert_eq!(world.percents("main", 5.0), Vec::<u8>::new());
    // An allowance with a lower limit is a new allowance.
    world.pass(DAY_MS);
    world.spend("main", 0.5);
    world.restart(&json!([{"usd": 0.5, "per": "day", "then": "warn"}]));
    assert_eq!(world.brake.tick(world.now).len(), 1);
    assert!(world.brake.tick(world.now).is_empty());
    assert_eq!(world.spent(), 0.5);
}

#[test]
fn a_stop_names_the_allowance_and_the_way_out() {
    let given = json!([
        {"usd": 0.01, "per": "day", "agent": "main", "then": "stop"},
        {"tokens": 150, "per": "hour", "agent": "main", "then": "stop"},
    ]);
    let mut world = world(&given, "2026-11-29T12:20:00Z");
    assert!(!world.stops("main"));
    world.spend("main", 0.011);
    let stop = world.verdict("main").unwrap();
    // The allowance whose window ends last.
    assert_eq!(stop.limit, Limit::Usd(Nano::of_usd(0.01)));
    assert_eq!(stop.spent, Limit::Usd(Nano::of_usd(0.011)));
    assert_eq!(
        stop.resets_at_ms,
        parse_iso("2026-11-29T23:00:00Z").unwrap()
    );
    assert_eq!(stop.retry_after_s, 10 * 3_600 + 40 * 60);
    assert_eq!(
        stop.message,
        "AgentWatch stopped this call by the allowance of 0.010 USD a day for agent main: 0.011 USD are spent. \
         It is open again from 2026-11-30T00:00:00+01:00 on. To let calls pass for an hour: \
         openclaw agentwatch allow 1h, or /agentwatch allow 1h"
    );
    assert!(!world.stops("other"));
    // The call passes at the end of the window, and not 1 ms earlier.
    world.pass(stop.retry_after_s * 1_000 - 1);
    assert!(world.stops("main"));
    world.pass(1);
    assert!(!world.stops("main"));
}

#[test]
fn each_filter_stops_its_own_calls_alone() {
    for (filter, value) in [
        ("agent", "main"),
        ("channel", "telegram"),
        ("trigger", "cron"),
        ("job", "nightly"),
    ] {
        let mut given = json!({"usd": 1, "per": "month", "then": "stop"});
        given[filter] = json!(value);
        let mut world = world(&json!([given]), "2026-11-29T12:00:00Z");
        let fitting = Who {
            agent: Some("main".to_owned()),
            channel: Some("telegram".to_owned()),
            trigger: Some("cron".to_owned()),
            job: Some("nightly".to_owned()),
            ..Who::default()
        };
        let other = Who {
            agent: Some("work".to_owned()),
            channel: None,
            trigger: Some("user".to_owned()),
            job: Some("weekly".to_owned()),
            ..Who::default()
        };
        world.spend_by(&other, 5.0, world.now.wall_ms);
        assert_eq!(world.spent(), 0.0, "{filter}");
        world.spend_by(&fitting, 5.0, world.now.wall_ms);
        let now = world.now;
        let mut passes = |who: &Who| world.brake.admit(None, who, "m", now) == Verdict::Pass;
        assert!(
            !passes(&fitting) && passes(&other) && passes(&Who::default()),
            "{filter}"
        );
    }
}

#[test]
fn calls_at_once_overshoot_by_the_error_of_one_not_by_their_number() {
    let given = json!([{"usd": 1, "per": "day", "then": "stop"}]);
    let mut world = world(&given, "2026-11-29T12:00:00Z");
    for usd in [0.09, 0.11, 0.10, 0.10] {
        world.spend("main", usd);
    }
    // 0.40 USD are spent; the expected cost of each of the 50 concurrent calls is about 0.10 USD.
    let now = world.now;
    let passed: Vec<u64> = (0..50)
        .filter(|key| {
            world
                .brake
                .admit(Some(*key), &who("main"), "anthropic/claude", now)
                == Verdict::Pass
        })
        .collect();
    assert_eq!(passed.len(), 6);
    for key in passed {
        assert!(world.brake.release(key));
        world.spend("main", 0.105);
    }
    assert!((1.0..1.04).contains(&world.spent()), "{}", world.spent());
    assert!(world.stops("main") && !world.brake.release(0));
}

#[test]
fn a_call_of_an_unknown_model_is_expected_to_cost_what_its_agents_calls_cost() {
    let given = json!([{"usd": 1, "per": "day", "agent": "main", "then": "stop"}]);
    let mut world = world(&given, "2026-11-29T12:00:00Z");
    let now = world.now;
    for _ in 0..30 {
        world.spend("main", 0.01);
    }
    // Another agent's dear call says nothing of this agent's next one.
    world.spend("research", 2.0);
    assert_eq!(
        world.brake.admit(None, &who("main"), "", now),
        Verdict::Pass
    );
    // An agent without a call of its own, too.
    assert_eq!(world.brake.admit(None, &who("new"), "", now), Verdict::Pass);
    // Twelve calls of 0.10 USD: the next ones are expected to cost the same, and 0.20 USD are left.
    for _ in 0..5 {
        world.spend("main", 0.1);
    }
    let mut admitted = 0;
    while world.brake.admit(Some(admitted), &who("main"), "", now) == Verdict::Pass {
        admitted += 1;
    }
    assert!((1..=5).contains(&admitted), "{admitted}");
}

/// A proxy without `agent=` knows neither agent nor model before it reads the answer.
#[test]
fn a_call_without_an_agent_is_expected_to_cost_what_all_agents_calls_cost() {
    let given = json!([{"usd": 1, "per": "day", "then": "stop"}]);
    let mut world = world(&given, "2026-11-29T12:00:00Z");
    let now = world.now;
    for _ in 0..4 {
        world.spend("main", 0.2);
    }
    let admit = |request: u64| world.brake.admit(Some(request), &Who::default(), "", now);
    let admitted = (0..8).map(admit).filter(|of| *of == Verdict::Pass);
    assert_eq!(admitted.count(), 1);
}

#[test]
fn a_second_report_of_a_call_leaves_the_sessions_next_call_under_way() {
    let given = json!([{"usd": 1, "per": "day", "then": "stop"}]);
    let mut world = world(&given, "2026-11-29T12:00:00Z");
    let (session, first, now) = (Some(1), 100, world.now);
    let (main, model) = (who("main"), "anthropic/claude");
    assert_eq!(world.brake.admit(session, &main, model, now), Verdict::Pass);
    world
        .brake
        .reported(session, first, &main, model, None, now);
    assert_eq!(world.brake.under_way(), 1);
    assert_eq!(world.brake.admit(session, &main, model, now), Verdict::Pass);
    world
        .brake
        .reported(session, first, &main, model, None, now);
    assert_eq!(world.brake.under_way(), 2);
}

#[test]
fn a_call_that_only_calls_under_way_keep_out_is_tried_again_soon() {
    let given = json!([{"usd": 1, "per": "month", "then": "stop"}]);
    let mut world = world(&given, "2026-11-29T12:00:00Z");
    for _ in 0..8 {
        world.spend("main", 0.1);
    }
    let now = world.now;
    let main = who("main");
    assert_eq!(
        world.brake.admit(Some(1), &main, "anthropic/claude", now),
        Verdict::Pass
    );
    assert_eq!(
        world.brake.admit(Some(2), &main, "anthropic/claude", now),
        Verdict::Pass
    );
    let stop = world.verdict("main").unwrap();
    assert_eq!(stop.retry_after_s, 30);
    assert!(
        stop.message.contains("It may fit when they have ended"),
        "{}",
        stop.message
    );
    // Once the limit is spent, only the end of the window opens it.
    world.spend("main", 0.3);
    assert!(world.verdict("main").unwrap().retry_after_s > 60);
}

#[test]
fn a_call_whose_end_nobody_tells_is_given_up() {
    let given = json!([{"usd": 1, "per": "day", "then": "stop"}]);
    let mut world = world(&given, "2026-11-29T12:00:00Z");
    world.spend("main", 0.6);
    let who = who("main");
    assert_eq!(
        world
            .brake
            .admit(Some(1), &who, "anthropic/claude", world.now),
        Verdict::Stop(Box::new(world.verdict("main").unwrap()))
    );
    world.pass(DAY_MS);
    // With no spend, one call passes, whatever its expected cost.
    assert_eq!(
        world
            .brake
            .admit(Some(1), &who, "anthropic/claude", world.now),
        Verdict::Pass
    );
    assert!(world.stops("main"));
    // The same call may be admitted again.
    assert_eq!(
        world
            .brake
            .admit(Some(1), &who, "anthropic/claude", world.now),
        Verdict::Pass
    );
    world.pass(UNDER_WAY_MS);
    assert!(!world.stops("main"));
    assert_eq!((world.brake.given_up, world.brake.under_way()), (1, 0));
    // The number of pending calls is bounded.
    let now = world.now;
    let mut lifted = Brake::new(Vec::new(), State::default());
    for key in 0..10_000 {
        lifted.admit(Some(key), &who, "m", now);
    }
    assert_eq!(
        (lifted.under_way(), lifted.given_up),
        (4_096, 10_000 - 4_096)
    );
}

#[test]
fn a_mean_that_is_wrong_locks_no_window() {
    let given = json!([{"usd": 1, "per": "day", "then": "stop"}]);
    let mut world = world(&given, "2026-11-29T12:00:00Z");
    world.spend("main", 30.0);
    assert!(world.stops("main"));
    for _ in 0..20 {
        world.pass(DAY_MS);
        assert!(!world.stops("main"));
        world.spend("main", 0.01);
    }
    // The mean contains the last calls by then.
    assert!(!world.stops("main"));
}

#[test]
fn a_lift_lets_calls_pass_for_its_time() {
    let given = json!([{"usd": 1, "per": "day", "then": "stop"}]);
    let mut world = world(&given, "2026-11-29T12:00:00Z");
    world.spend("main", 2.0);
    assert!(world.stops("main"));
    let entry = world.brake.lift(lift_ms("1h").unwrap(), world.now);
    world.brake.apply(&entry);
    assert!(!world.stops("main"));
    assert_eq!(
        world.brake.lifted_until(world.now),
        Some(world.now.wall_ms + HOUR_MS)
    );
    world.pass(HOUR_MS / 2);
    world.restart(&given);
    assert!(!world.stops("main"));
    world.spend("main", 1.0);
    world.pass(HOUR_MS / 2);
    assert!(world.stops("main"));
    assert_eq!(
        (world.spent(), world.brake.lifted_until(world.now)),
        (3.0, None)
    );
    // A lift can be ended, and setting the clock back does not extend it.
    for ends_by in ["hand", "monotonic clock"] {
        let entry = world.brake.lift(HOUR_MS, world.now);
        world.brake.apply(&entry);
        assert!(!world.stops("main"));
        if ends_by == "hand" {
            let entry = world.brake.lift(0, world.now);
            world.brake.apply(&entry);
        } else {
            world.now.wall_ms -= HOUR_MS;
            world.pass(HOUR_MS);
        }
        assert!(world.stops("main"), "{ends_by}");
    }
}

#[test]
fn an_unknown_cost_counts_tokens_and_is_said() {
    let given = json!([{"tokens": 1_000, "per": "day", "then": "stop"}, {"usd": 1, "per": "day", "then": "stop"}]);
    let mut world = world(&given, "2026-11-29T12:00:00Z");
    let usage = Usage {
        input: 100,
        output: 50,
        cache_read: 700,
        cache_write: 150,
        reasoning: 20,
    };
    let cost = Cost {
        usd: 0.0,
        source: CostSource::Unknown,
    };
    let who = who("main");
    let call = Ended {
        who: &who,
        model: "local/m",
        cost,
        usage: Some(usage),
        ended_ms: world.now.wall_ms,
    };
    let entry = world.brake.spent(&call, world.now);
    let warnings = world.brake.apply(&entry);
    assert_eq!(
        warnings.iter().map(|w| w.spent).collect::<Vec<_>>(),
        [Limit::Tokens(1_000)]
    );
    let meter = world.brake.allowances().next().unwrap().1;
    assert_eq!(
        (meter.spent.tokens, meter.calls, meter.unpriced),
        (1_000, 1, 1)
    );
    assert!(matches!(
        world.verdict("main"),
        Some(Stop {
            limit: Limit::Tokens(1_000),
            ..
        })
    ));
}

#[test]
fn the_state_is_bounded() {
    let filters =
        (0..64).map(|n| json!({"usd": 1, "per": "hour", "agent": format!("a{n}"), "then": "stop"}));
    let mut world = world(&Value::Array(filters.collect()), "2026-11-29T12:00:00Z");
    for n in 0..5_000 {
        world.pass(60_000);
        world.spend(&format!("a{n}"), 1e9);
        world.entries.clear();
    }
    let bytes = postcard::to_allocvec(world.brake.state()).unwrap().len();
    assert!(bytes < 64 * 1024, "{bytes}");
}
