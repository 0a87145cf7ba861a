//! The ledger against a naive model. Surfaces report true calls with losses, repetitions, delays and clocks some ms
//! apart, while the engine restarts, the wall clock is set, and a proxy and LiteLLM report other figures than the
//! gateway. The model does no matching: a call that was billed or answered, and that any surface reported, counts once,
//! with its tokens.
//!
//! The plays leave out ambiguous cases: calls whose ends, or whose begins where a usage is unknown, are less than 300
//! ms apart; calls of equal usage less than 2.5 s apart, except pairs where every surface reports its session and every
//! call; the timing of a call whose usage neither message, diagnostic nor row reports; a repeated delivery after a
//! restart; calls of equal usage where the clock is set, since a late report of LiteLLM's then seems to belong to its
//! time of arrival (`clock.rs` covers the gateway's own reports). The clock is not set at the moment of a call's begin
//! or end, nor before a restart between two reports of one call. `PROPTEST_CASES=20000` plays more.

use std::collections::BTreeMap;

use crate::common::{Gateway, pick};
use agentwatch_openclaw::sources::SOURCES;
use agentwatch_openclaw::sources::facts::Scalar;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use serde_json::{Value, json};

const START_MS: u64 = 1_795_000_000_000;
/// Minimum distance of the begins, and of the ends, of calls, in ms.
const APART_MS: u64 = 300;
/// The same for calls of equal usage.
const EQUAL_APART_MS: u64 = 2_500;
/// When a row of the session store is read, in ms after it was written.
const SETTLED_MS: u64 = 60_000;
const MODELS: [&str; 2] = ["m", "n"];

/// A surface that may report a call.
#[derive(Debug, Clone, Copy, PartialEq)]
enum By {
    Timing,
    Message,
    Diagnostic,
    Named,
    Proxy,
    Litellm,
    Store,
}

const ALL: [By; 7] = [
    By::Timing,
    By::Message,
    By::Diagnostic,
    By::Named,
    By::Proxy,
    By::Litellm,
    By::Store,
];

impl By {
    fn source(self, is_failure: bool) -> &'static str {
        match self {
            By::Timing => "model_call_ended",
            By::Message => "before_message_write",
            By::Diagnostic if is_failure => "model.call.error",
            By::Diagnostic => "model.call.completed",
            By::Named => "model:used",
            By::Proxy => "proxied",
            By::Litellm => "litellm",
            By::Store => "stored",
        }
    }

    /// Maximum delay of its report, in ms.
    fn latest_ms(self) -> u64 {
        match self {
            By::Timing => 3,
            By::Message => 30,
            By::Diagnostic => 600,
            // Its only time is its arrival. It identifies a call whose usage is still unknown, unlike its neighbours.
            By::Named => 40,
            By::Proxy => 2_500,
            By::Litellm => 30_000,
            By::Store => SETTLED_MS,
        }
    }

    /// Whether a repeated delivery can be distinguished from another call.
    fn may_repeat(self) -> bool {
        self != By::Named
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Fate {
    Answered,
    /// Aborted or broken off, but billed, as a proxy reports.
    Aborted,
}

/// Difference of the proxy's own figures, which count if they arrive in time. Comparisons of sums leave the proxy out.
const OF_THE_PROXY: u64 = 1_000_000_000;

/// Difference of a surface's prompt tokens from the gateway's.
fn changed_by(by: By) -> u64 {
    match by {
        By::Proxy => OF_THE_PROXY,
        _ => 500_000,
    }
}

/// The random draw of a call.
#[derive(Debug, Clone)]
struct Draw {
    gap_ms: u64,
    duration_ms: u64,
    session: u8,
    model: u8,
    usage: u8,
    is_aborted: bool,
    /// Whether it begins together with the previous one.
    is_close: bool,
    /// Whether intermediaries report other figures than the gateway.
    is_changed: bool,
    /// One bit per surface: which are silent, which report twice.
    losses: u8,
    repeats: u8,
    /// Delay of each report, in thousandths of the maximum.
    late: [u16; 7],
    /// Error of each surface's clock, in ms.
    off: [u8; 7],
}

/// A call as it really happened.
#[derive(Debug, Clone)]
struct Call {
    number: usize,
    started_ms: u64,
    ended_ms: u64,
    session: u8,
    model: &'static str,
    input: u64,
    /// Whether a neighbouring call has the same usage.
    is_paired: bool,
    fate: Fate,
    told: Vec<By>,
    draw: Draw,
    /// How far the wall clock was ahead at its begin and at its end, in ms.
    ahead_ms: (i64, i64),
}

impl Call {
    fn session(&self) -> String {
        format!("agent:main:s{}", self.session)
    }

    fn usage(&self, is_known: bool) -> Value {
        match is_known {
            true => {
                json!({"input": self.input, "output": 7, "cacheRead": 5, "cacheWrite": 0, "cost": {"total": 0.5}})
            }
            false => json!({"input": 0, "output": 0, "cacheRead": 0, "cacheWrite": 0}),
        }
    }

    /// A surface's report of it.
    fn told_by(&self, by: By) -> Value {
        // The store has the message, with its own time.
        let clock = if by == By::Store { By::Message } else { by };
        let off = u64::from(self.draw.off[clock as usize] % 4);
        let duration = self.ended_ms - self.started_ms;
        let off = if self.draw.is_close { 0 } else { off };
        let started = (self.started_ms + off).saturating_add_signed(self.ahead_ms.0);
        let ended = (self.ended_ms + off).saturating_add_signed(self.ahead_ms.1);
        let is_answered = self.fate == Fate::Answered;
        let stop = if is_answered { "stop" } else { "aborted" };
        let usage = self.usage(is_answered);
        match by {
            By::Message => json!({
                "event": {"message": {"role": "assistant", "provider": "p", "model": self.model, "usage": usage,
                    "stopReason": stop, "timestamp": started}},
                "ctx": {"sessionKey": self.session(), "agentId": "main"},
            }),
            By::Diagnostic => json!({"event": {
                "provider": "p", "model": self.model, "usage": usage, "sessionKey": self.session(),
                "durationMs": duration, "ts": ended, "trace": {"spanId": format!("span-{}", self.number)},
                "failureKind": (!is_answered).then_some("aborted"),
            }}),
            By::Timing => json!({
                "event": {"provider": "p", "model": self.model, "sessionKey": self.session(), "durationMs": duration,
                    "outcome": if is_answered { "completed" } else { "error" }},
                "ctx": {"trace": {"spanId": format!("span-{}", self.number)}},
            }),
            By::Named => {
                json!({"event": {"model": format!("p/{}", self.model), "promptTokens": self.input + 5,
                "completionTokens": 7}})
            }
            By::Proxy | By::Litellm => json!({"event": {
                "provider": "p", "model": self.model, "output": 7, "cache_read": 5,
                "input": self.input + changed_by(by) * u64::from(self.is_changed()),
                "reasoning": self.draw.off[0] % 3,
                // Its request begins after the gateway's, and ends before it.
                "started": started + u64::from(self.draw.off[by as usize] % 16), "ended": ended,
                "duration": duration, "response_id": format!("r-{by:?}-{}", self.number),
                "outcome": if is_answered { "completed" } else { "aborted" },
            }}),
            By::Store => json!({
                "event": {"id": format!("e{}", self.number), "timestamp": ended, "message": {
                    "role": "assistant", "provider": "p", "model": self.model, "stopReason": stop,
                    "timestamp": started, "usage": usage}},
                "ctx": {"sessionId": format!("id-{}", self.session), "agentId": "main"},
            }),
        }
    }

    /// The gateway's figures rank before LiteLLM's, and the proxy's before the gateway's if they arrive in time.
    fn is_changed(&self) -> bool {
        let own = [By::Message, By::Diagnostic];
        // Surfaces that are compared by sums must have equal figures.
        let is_told =
            own.iter().any(|by| self.told.contains(by)) && !self.told.contains(&By::Named);
        self.draw.is_changed && is_told && self.fate == Fate::Answered
    }

    fn tells_at(&self, by: By) -> u64 {
        let late = by.latest_ms() * u64::from(self.draw.late[by as usize]) / 1_000;
        self.ended_ms
            + if by == By::Store {
                SETTLED_MS + late
            } else {
                late
            }
    }

    /// Whether it counts: a surface reported an answer or a billed usage.
    fn counts(&self) -> bool {
        let knows = |by: &By| match self.fate {
            Fate::Answered => true,
            Fate::Aborted => matches!(by, By::Proxy | By::Litellm),
        };
        self.told.iter().any(knows)
    }
}

/// Calls from random draws, far enough apart to be distinguished.
fn calls(mut draws: Vec<Draw>, present: u8, may_be_equal: bool) -> Vec<Call> {
    let mut calls: Vec<Call> = Vec::new();
    let mut clock = START_MS;
    let has = |mask: u8, by: By| mask & (1 << by as u8) != 0;
    let is_strange = |by: By| has(present, by) && matches!(by, By::Named | By::Proxy | By::Litellm);
    let is_lossless = draws.iter().all(|draw| draw.losses == 0) && !ALL.into_iter().any(is_strange);
    let tells_all =
        |by: By| has(present, by) && matches!(by, By::Timing | By::Diagnostic | By::Named);
    let may_be_close = !draws.iter().any(|draw| draw.is_aborted) && !ALL.into_iter().any(tells_all);
    for draw in &mut draws {
        draw.is_close &= may_be_close;
    }
    let is_any_close = draws.iter().any(|draw| draw.is_close);
    for (number, mut draw) in draws.into_iter().enumerate() {
        // The gateway and its messages have the same clock.
        let gap_ms = match draw.is_close && number > 0 {
            true => 1 + draw.gap_ms % 45,
            false => APART_MS + draw.gap_ms,
        };
        draw.is_close = is_any_close;
        let started_ms = clock + gap_ms;
        clock = started_ms;
        let mut ended_ms = started_ms + draw.duration_ms;
        let near = |ended: u64| {
            calls
                .iter()
                .find(|call| call.ended_ms.abs_diff(ended) < APART_MS)
        };
        while let Some(call) = near(ended_ms) {
            ended_ms = call.ended_ms + APART_MS;
        }
        let is_equal = |call: &&Call| {
            let apart = [
                call.started_ms.abs_diff(started_ms),
                call.ended_ms.abs_diff(ended_ms),
            ];
            apart.iter().any(|ms| *ms < EQUAL_APART_MS)
        };
        let common = 1_000 + u64::from(draw.usage % 3);
        let equals = |call: &Call| call.input == common && is_equal(&call);
        let near: Vec<usize> = (0..calls.len())
            .filter(|index| equals(&calls[*index]))
            .collect();
        let may_pair = is_lossless && near.len() == 1 && !calls[near[0]].is_paired;
        let is_common =
            draw.usage <= 6 && may_be_equal && !is_any_close && (near.is_empty() || may_pair);
        let is_paired = is_common && may_pair;
        for index in near.into_iter().filter(|_| is_paired) {
            calls[index].is_paired = true;
        }
        let input = if is_common {
            common
        } else {
            2_000 + number as u64
        };
        let fate = if draw.is_aborted {
            Fate::Aborted
        } else {
            Fate::Answered
        };
        let mut told: Vec<By> = ALL
            .into_iter()
            .filter(|by| has(present, *by) && !has(draw.losses, *by))
            .collect();
        // Where only the timing arrives first, the call waits for a surface with usage, so that one must not be
        // missing.
        let knows = [By::Message, By::Diagnostic, By::Store];
        if !knows.iter().any(|by| told.contains(by)) {
            told.retain(|by| *by != By::Timing);
        }
        // A broken-off call has no `model:used`.
        if fate == Fate::Aborted {
            told.retain(|by| *by != By::Named);
        }
        calls.push(Call {
            number,
            started_ms,
            ended_ms,
            session: draw.session % 4,
            model: MODELS[usize::from(draw.model % 2)],
            input,
            is_paired,
            fate,
            told,
            draw,
            ahead_ms: (0, 0),
        });
    }
    calls
}

/// Changes of the clock: when, and how far it is ahead from then on, in ms. They exceed a play's length, so that no two
/// calls have the same times.
type Jumps = Vec<(u64, i64)>;

const AHEAD_MS: [i64; 6] = [
    -18_000_000,
    -3_600_000,
    -1_200_000,
    1_200_000,
    3_000_000,
    18_000_000,
];

fn ahead_at(jumps: &Jumps, at_ms: u64) -> i64 {
    let before = jumps.iter().rev().find(|(at, _)| *at <= at_ms);
    before.map_or(0, |(_, ahead)| *ahead)
}

/// Sets the clock while calls run and are reported, where they stay distinguishable.
fn jumps(calls: &mut [Call], drawn: &[(u16, u16, u8)], restarts: &[u64]) -> Jumps {
    let mut jumps: Jumps = Vec::new();
    for (of, after, ahead) in drawn {
        let Some(call) = calls.get(usize::from(*of) % calls.len().max(1)) else {
            continue;
        };
        let span = call.ended_ms - call.started_ms + 3_000;
        jumps.push((
            call.started_ms + u64::from(*after) * span / 65_536,
            AHEAD_MS[usize::from(*ahead) % AHEAD_MS.len()],
        ));
    }
    jumps.sort_unstable();
    jumps.retain(|(at, _)| {
        let moment = |call: &Call| {
            let ends = [call.started_ms, call.ended_ms];
            let is_at_end = ends.iter().any(|end| end.abs_diff(*at) < 25);
            let told = call.ended_ms..call.ended_ms + 2_700;
            let restarts = restarts.iter().any(|restart| told.contains(restart));
            is_at_end || (told.contains(at) && restarts)
        };
        !calls.iter().any(moment)
    });
    // At most once during the reports of a call.
    jumps.dedup_by_key(|(at, _)| (*at - START_MS) / 35_000);
    for call in calls {
        call.ahead_ms = (
            ahead_at(&jumps, call.started_ms),
            ahead_at(&jumps, call.ended_ms),
        );
        // Other figures match the call only where its begin and end agree with the gateway's.
        let late = call.started_ms..call.ended_ms + By::Litellm.latest_ms() + 1_000;
        call.draw.is_changed &= !jumps.iter().any(|(at, _)| late.contains(at));
        // Late reports have the new clock's time; only a message has its begin by the old clock.
        let knows_start = call.told.contains(&By::Diagnostic);
        let latest_ms = if knows_start { 700 } else { 31_000 };
        let told = call.ended_ms..call.ended_ms + latest_ms;
        let is_within = jumps.iter().any(|(at, _)| told.contains(at));
        if is_within && !call.told.contains(&By::Message) {
            call.told.retain(|by| match by {
                // The row that it waits for would have another time.
                By::Timing => knows_start,
                by => matches!(by, By::Diagnostic | By::Named),
            });
        }
    }
    jumps
}

/// Requests, prompt tokens and completion tokens of each model.
type Sums = BTreeMap<String, (u64, u64, u64)>;

fn expected(calls: &[Call]) -> Sums {
    let mut sums = Sums::new();
    for call in calls.iter().filter(|call| call.counts()) {
        let sum = sums.entry(format!("p/{}", call.model)).or_default();
        *sum = (sum.0 + 1, sum.1 + call.input + 5, sum.2 + 7);
    }
    sums
}

fn counted(gateway: &Gateway) -> Sums {
    let totals = gateway.receiver.totals.0.iter();
    totals
        .map(|(model, t)| {
            (
                model.clone(),
                (t.requests, t.prompt % OF_THE_PROXY, t.completion),
            )
        })
        .collect()
}

/// A step of a play, with its time.
#[derive(Debug, Clone)]
enum Step {
    Tell(&'static str, Value),
    Restart { compacts: bool },
}

/// When the engine restarts, and whether it has written a snapshot: at any time, or between two reports of a call.
fn restarts(calls: &[Call], drawn: &[(u32, bool)]) -> Vec<(u64, bool)> {
    let last = calls.iter().map(|call| call.ended_ms).max();
    let end = last.unwrap_or(START_MS) + 3 * SETTLED_MS;
    let restart = |(at, compacts): &(u32, bool)| {
        let of = calls.get(*at as usize % (2 * calls.len().max(1)));
        let part = |span: u64| u64::from(*at) * span / u64::from(u32::MAX);
        let at = match of {
            Some(call) => call.ended_ms + part(2_500),
            None => START_MS + part(end - START_MS),
        };
        (at, *compacts)
    };
    drawn.iter().map(restart).collect()
}

fn steps(calls: &[Call], restarts: &[(u64, bool)]) -> Vec<(u64, Step)> {
    let restart = |(at, compacts): &(u64, bool)| {
        let compacts = *compacts;
        (*at, Step::Restart { compacts })
    };
    let mut steps: Vec<(u64, Step)> = restarts.iter().map(restart).collect();
    let restarts: Vec<u64> = steps.iter().map(|(at, _)| *at).collect();
    for call in calls {
        for by in &call.told {
            let source = by.source(call.fate == Fate::Aborted);
            let (at, what) = (call.tells_at(*by), call.told_by(*by));
            steps.push((at, Step::Tell(source, what.clone())));
            let again = at + u64::from(call.draw.late[0]) % 1_900;
            let repeats = call.draw.repeats & (1 << *by as u8) != 0 && by.may_repeat();
            if repeats
                && !restarts
                    .iter()
                    .any(|restart| (at..=again).contains(restart))
            {
                steps.push((again, Step::Tell(source, what)));
            }
        }
    }
    steps.sort_by_key(|(at, _)| *at);
    steps
}

fn play(
    calls: &[Call],
    restarts: &[(u64, bool)],
    jumps: &Jumps,
    expect_diagnostics: bool,
) -> Gateway {
    let mut gateway = Gateway::new(expect_diagnostics);
    let stored = SOURCES
        .iter()
        .position(|table| table.source == "stored")
        .unwrap();
    gateway.engine.set_reconciled(START_MS);
    let mut wall = START_MS;
    for (at_ms, step) in steps(calls, restarts) {
        for (jump, ahead) in jumps.iter().filter(|(at, _)| *at < at_ms) {
            if *jump >= wall {
                gateway.run_until(wall, *jump);
                (wall, gateway.ahead_ms) = (*jump, *ahead);
            }
        }
        gateway.run_until(wall, at_ms);
        wall = at_ms;
        gateway.ahead_ms = ahead_at(jumps, wall);
        match step {
            Step::Tell("stored", row) => {
                let facts = Scalar::List(pick(stored, &row).unwrap());
                let now = gateway.now(wall);
                gateway
                    .engine
                    .take_rows(stored, &[facts], ("main/s", Some("1:1")), false, now);
                gateway.engine.set_reconciled(now.wall_ms - 2 * SETTLED_MS);
                gateway.write();
            }
            Step::Tell(source, args) => gateway.hear(source, &args, wall),
            Step::Restart { compacts } => {
                if compacts {
                    gateway.engine.compact();
                }
                gateway.write();
                gateway.restart(wall);
            }
        }
    }
    // Longer than the longest wait.
    gateway.run_until(wall, wall + 200_000);
    gateway
}

fn draw() -> impl Strategy<Value = Draw> {
    let mask = || prop_oneof![4 => Just(0u8), 1 => any::<u8>()];
    (
        (0u64..3_000, 20u64..4_000, any::<u8>(), any::<u8>(), 0u8..10),
        (prop::bool::weighted(0.1), mask(), mask()),
        (prop::bool::weighted(0.2), prop::bool::weighted(0.2)),
        prop::array::uniform7(0u16..=1_000),
        prop::array::uniform7(any::<u8>()),
    )
        .prop_map(
            |(
                (gap_ms, duration_ms, session, model, usage),
                (is_aborted, losses, repeats),
                (is_close, is_changed),
                late,
                off,
            )| Draw {
                gap_ms,
                duration_ms,
                session,
                model,
                usage,
                is_aborted,
                is_close,
                is_changed,
                losses,
                repeats,
                late,
                off,
            },
        )
}

fn config() -> ProptestConfig {
    let given = ProptestConfig::default();
    ProptestConfig {
        cases: if std::env::var_os("PROPTEST_CASES").is_some() {
            given.cases
        } else {
            256
        },
        rng_seed: RngSeed::Fixed(20_261_125),
        failure_persistence: None,
        ..given
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn each_call_counts_once_with_its_tokens(
        draws in prop::collection::vec(draw(), 1..16),
        // The surfaces of this gateway.
        present in any::<u8>(),
        drawn in prop::collection::vec((any::<u32>(), any::<bool>()), 0..4),
        set in prop::collection::vec((any::<u16>(), any::<u16>(), any::<u8>()), 0..3),
    ) {
        let mut calls = calls(draws, present, set.is_empty());
        let restarts = restarts(&calls, &drawn);
        let times: Vec<u64> = restarts.iter().map(|(at, _)| *at).collect();
        let jumps = jumps(&mut calls, &set, &times);
        let expect_diagnostics = present & (1 << By::Diagnostic as u8) != 0;
        let gateway = play(&calls, &restarts, &jumps, expect_diagnostics);
        let told = (&jumps, steps(&calls, &restarts));
        prop_assert_eq!(counted(&gateway), expected(&calls), "{:#?}", told);
        let status = gateway.status();
        prop_assert_eq!((&status["waiting"], &status["open"]), (&json!(0), &json!(0)), "{:#?}", told);
    }
}
