//! A wall clock that is set while a call's surfaces report: one call stays one, and two calls stay two.

use crate::common::Gateway;
use serde_json::{Value, json};

const START_MS: u64 = 1_795_000_000_000;
const TOOK_MS: u64 = 400;
const END_MS: u64 = START_MS + TOOK_MS;
/// Changes of the clock, in ms.
const JUMPS_MS: [i64; 10] = [
    -18_000_000,
    -3_000_000,
    -60_000,
    -5_000,
    -700,
    700,
    5_000,
    60_000,
    3_000_000,
    18_000_000,
];

/// A surface of the gateway.
#[derive(Debug, Clone, Copy, PartialEq)]
enum By {
    Message,
    Diagnostic,
    Timing,
    Named,
}

/// The surface's report of a call. `started_ms` is by the clock at that time, `ended_ms` by the clock now.
fn told(by: By, started_ms: u64, ended_ms: u64, tokens: u64) -> (&'static str, Value) {
    let usage = json!({"input": tokens, "output": 7, "cacheRead": 0, "cacheWrite": 0, "cost": {"total": 0.5}});
    let session = "agent:main:s";
    match by {
        By::Message => (
            "before_message_write",
            json!({
                "event": {"message": {"role": "assistant", "provider": "p", "model": "m", "usage": usage,
                    "stopReason": "stop", "timestamp": started_ms}},
                "ctx": {"sessionKey": session, "agentId": "main"},
            }),
        ),
        By::Diagnostic => (
            "model.call.completed",
            json!({"event": {"provider": "p", "model": "m", "usage": usage, "sessionKey": session,
                "durationMs": TOOK_MS, "ts": ended_ms}}),
        ),
        By::Timing => (
            "model_call_ended",
            json!({"event": {"provider": "p", "model": "m", "sessionKey": session, "durationMs": TOOK_MS,
                "outcome": "completed"}}),
        ),
        By::Named => (
            "model:used",
            json!({"event": {"model": "p/m", "promptTokens": tokens, "completionTokens": 7, "latencyMs": TOOK_MS,
                "sessionKey": session}}),
        ),
    }
}

/// A surface reports at a time; `ahead` is by how much the clock was ahead at the call's start and at its end.
fn tell(gateway: &mut Gateway, by: By, at_ms: u64, ahead: (i64, i64), tokens: u64) {
    let started_ms = START_MS.saturating_add_signed(ahead.0);
    let ended_ms = END_MS.saturating_add_signed(ahead.1);
    let (source, args) = told(by, started_ms, ended_ms, tokens);
    gateway.hear(source, &args, at_ms);
}

fn settled(mut gateway: Gateway, from_ms: u64) -> (u64, u64) {
    gateway.run_until(from_ms, from_ms + 20_000);
    let total = gateway.receiver.totals.0.get("p/m");
    total.map_or((0, 0), |total| (total.requests, total.prompt))
}

const PAIRS: [(By, By); 8] = [
    (By::Message, By::Diagnostic),
    (By::Diagnostic, By::Message),
    (By::Timing, By::Message),
    (By::Timing, By::Diagnostic),
    (By::Message, By::Timing),
    (By::Message, By::Named),
    (By::Named, By::Diagnostic),
    (By::Named, By::Message),
];

#[test]
fn setting_the_clock_between_two_observations_makes_no_second_call() {
    for jump in JUMPS_MS {
        for (first, second) in PAIRS {
            for late in [0, 30, 200] {
                let mut gateway = Gateway::new(true);
                tell(&mut gateway, first, END_MS, (0, 0), 50);
                gateway.run_until(END_MS, END_MS + late);
                gateway.ahead_ms = jump;
                tell(&mut gateway, second, END_MS + late, (0, jump), 50);
                let counted = settled(gateway, END_MS + late);
                assert_eq!(
                    counted,
                    (1, 50),
                    "{first:?}, {jump} ms, {second:?} {late} ms later"
                );
            }
        }
    }
}

/// Its time is from before the clock was set, since it waited in the gateway's queue.
#[test]
fn a_diagnostic_from_before_the_clock_was_set_matches_its_call() {
    for jump in JUMPS_MS {
        let mut gateway = Gateway::new(true);
        tell(&mut gateway, By::Message, END_MS, (0, 0), 50);
        gateway.run_until(END_MS, END_MS + 100);
        gateway.ahead_ms = jump;
        tell(&mut gateway, By::Diagnostic, END_MS + 100, (0, 0), 50);
        assert_eq!(settled(gateway, END_MS + 100), (1, 50), "{jump} ms");
    }
}

#[test]
fn setting_the_clock_during_a_call_makes_no_second_call() {
    for jump in JUMPS_MS {
        for (first, second) in PAIRS {
            let mut gateway = Gateway::new(true);
            gateway.run_until(START_MS, START_MS + 10);
            gateway.ahead_ms = jump;
            tell(&mut gateway, first, END_MS, (0, jump), 50);
            gateway.run_until(END_MS, END_MS + 30);
            tell(&mut gateway, second, END_MS + 30, (0, jump), 50);
            let counted = settled(gateway, END_MS + 30);
            assert_eq!(counted, (1, 50), "{first:?}, {second:?}, {jump} ms");
        }
    }
}

/// Two registrations of the plugin receive the same message.
#[test]
fn a_message_delivered_twice_around_a_clock_change_is_one_call() {
    for jump in JUMPS_MS {
        for is_within in [true, false] {
            let mut gateway = Gateway::new(false);
            gateway.ahead_ms = if is_within { jump } else { 0 };
            tell(&mut gateway, By::Message, END_MS, (0, 0), 50);
            gateway.ahead_ms = jump;
            tell(&mut gateway, By::Message, END_MS + 1, (0, 0), 50);
            assert_eq!(
                settled(gateway, END_MS + 1),
                (1, 50),
                "{jump} ms, {is_within}"
            );
        }
    }
}

#[test]
fn calls_before_and_after_a_clock_change_stay_two() {
    for jump in JUMPS_MS {
        for (first, second) in PAIRS {
            // Only one surface reports each, with equal figures.
            for after in [3_000, jump.unsigned_abs()] {
                if !(3_000..500_000).contains(&after) || first == By::Timing || second == By::Timing
                {
                    continue;
                }
                let mut gateway = Gateway::new(true);
                tell(&mut gateway, first, END_MS, (0, 0), 50);
                gateway.run_until(END_MS, END_MS + after);
                gateway.ahead_ms = jump;
                let ahead = jump + after as i64;
                tell(&mut gateway, second, END_MS + after, (ahead, ahead), 50);
                let counted = settled(gateway, END_MS + after);
                assert_eq!(
                    counted,
                    (2, 100),
                    "{first:?}, {jump} ms, {second:?} {after} ms later"
                );
            }
        }
    }
}

/// The turn's total repeats the usage of a foreign harness's calls.
#[test]
fn a_turns_total_with_a_clock_change_is_not_counted_beside_its_calls() {
    for jump in JUMPS_MS {
        let mut gateway = Gateway::new(true);
        tell(&mut gateway, By::Message, END_MS, (0, 0), 50);
        gateway.run_until(END_MS, END_MS + 5_000);
        gateway.ahead_ms = jump;
        let ended_ms = (END_MS + 5_000).saturating_add_signed(jump);
        let (source, mut turn) = told(By::Diagnostic, 0, ended_ms, 80);
        turn["event"]["observationUnit"] = json!("turn");
        turn["event"]["durationMs"] = json!(5_600);
        gateway.hear(source, &turn, END_MS + 5_000);
        assert_eq!(settled(gateway, END_MS + 5_000), (1, 50), "{jump} ms");
    }
}

/// An instance is restored from the journal after a trap.
#[test]
fn setting_the_clock_after_a_restart_makes_no_second_call() {
    for jump in JUMPS_MS {
        let mut gateway = Gateway::new(true);
        tell(&mut gateway, By::Message, END_MS, (0, 0), 50);
        gateway.restart(END_MS + 10);
        gateway.run_until(END_MS + 10, END_MS + 20);
        gateway.ahead_ms = jump;
        tell(&mut gateway, By::Diagnostic, END_MS + 20, (0, jump), 50);
        assert_eq!(settled(gateway, END_MS + 20), (1, 50), "{jump} ms");
    }
}

/// Match records of earlier calls are in between, in order of time.
#[test]
fn a_clock_that_repeats_times_makes_no_second_call() {
    for jump in JUMPS_MS {
        let mut gateway = Gateway::new(true);
        let before = START_MS - 60_000;
        let (source, args) = told(By::Message, before, before + TOOK_MS, 40);
        gateway.hear(source, &args, before + TOOK_MS);
        gateway.run_until(before + TOOK_MS, END_MS);
        gateway.ahead_ms = jump;
        tell(&mut gateway, By::Message, END_MS, (jump, jump), 50);
        gateway.ahead_ms = 0;
        tell(&mut gateway, By::Diagnostic, END_MS, (jump, 0), 50);
        assert_eq!(settled(gateway, END_MS), (2, 90), "{jump} ms");
    }
}
