//! Tests with made-up surfaces: a source file and a table row are all that a surface needs. See `sources/made_up.rs`.

use super::{Matcher, Settled};
use crate::domain::call::{CostSource, Outcome};
use crate::domain::observation::Observation;
use crate::domain::surface::{SURFACES, Surface};
use crate::domain::time::Now;
use crate::journal::{Frame, format_v1};
use crate::sources::facts::{Gateways, Mechanism, Scalar, SourceTable};
use crate::sources::{Event, SOURCES, read};

const START_MS: u64 = 1_795_000_000_000;
const END_MS: u64 = START_MS + 400;

/// An observation by a source, of a call that began at [`START_MS`]. `own` replaces some facts.
fn observed(source: &str, own: &[(&str, Scalar)], at_ms: u64) -> Observation {
    let text = |text: &str| Scalar::Text(text.to_owned());
    let start = || Scalar::Number(START_MS as f64);
    let index = SOURCES.iter().position(|table| table.source == source);
    let index = index.unwrap_or_else(|| unreachable!("{source} is a source"));
    let fact = |name: &str| match own.iter().find(|(known, _)| *known == name) {
        Some((_, fact)) => fact.clone(),
        None => match name {
            "provider" => text("p"),
            "model" => text("m"),
            "input" => Scalar::Number(50.0),
            "output" => Scalar::Number(7.0),
            "usage" => usage(own),
            "started" | "timestamp" => start(),
            "ended" | "ts" => Scalar::Number(END_MS as f64),
            "duration" => Scalar::Number(400.0),
            "session_key" => text("agent:main:s"),
            _ => Scalar::Absent,
        },
    };
    let fields = SOURCES[index].fields.iter();
    let facts = fields.map(|field| fact(field.name)).collect();
    match read(index, facts, at_ms) {
        Ok(Event::Call(call)) => *call,
        other => unreachable!("{source} tells of a call: {other:?}"),
    }
}

/// The usage object of OpenClaw's own sources.
fn usage(own: &[(&str, Scalar)]) -> Scalar {
    let cost = own.iter().find(|(name, _)| *name == "cost");
    let cost = cost.and_then(|(_, cost)| cost.amount()).unwrap_or_default();
    let usage = serde_json::json!({"input": 50, "output": 7, "cost": {"total": cost}});
    crate::domain::usage::fact_of(&usage.to_string())
}

fn message() -> Observation {
    observed("before_message_write", &[], END_MS)
}

fn diagnostic() -> Observation {
    let cost = ("cost", Scalar::Number(0.5));
    observed("model.call.completed", &[cost], END_MS)
}

fn meter(own: &[(&str, Scalar)], at_ms: u64) -> Observation {
    observed("meter", own, at_ms)
}

fn echo(own: &[(&str, Scalar)]) -> Observation {
    observed("echo.call", own, END_MS)
}

fn now(wall_ms: u64) -> Now {
    Now {
        wall_ms,
        mono_ms: wall_ms - 1_790_000_000_000,
    }
}

/// A ledger that received these observations in order.
fn ledger(observed: impl IntoIterator<Item = Observation>) -> Matcher {
    let mut ledger = Matcher::new(1);
    ledger.expect_diagnostics(true);
    for observation in observed {
        ledger.observe(observation, now(END_MS));
    }
    ledger
}

/// The calls that are final after a minute.
fn settled(ledger: &mut Matcher) -> Vec<Settled> {
    ledger.due(now(END_MS + 60_000))
}

#[test]
fn its_source_is_listed_and_read() {
    let tables = serde_json::to_value(SOURCES).unwrap_or_default();
    let mut tables = tables.as_array().into_iter().flatten();
    let table = tables.find(|table| table["source"] == "echo.call");
    let table = table.cloned().unwrap_or_default();
    assert_eq!(
        (&table["mechanism"], &table["gateways"]),
        (&"diagnostic".into(), &"every".into())
    );
    // The shim has a list for each kind of gateway of hooks alone.
    let is_listed = |table: &SourceTable| match table.mechanism {
        Mechanism::Diagnostic | Mechanism::Internal => {
            matches!(table.gateways, Gateways::Every | Gateways::None)
        }
        _ => true,
    };
    let unlisted = SOURCES.iter().filter(|table| !is_listed(table));
    let unlisted: Vec<&str> = unlisted.map(|table| table.source).collect();
    assert!(unlisted.is_empty(), "never subscribed to: {unlisted:?}");
    assert_eq!(echo(&[]).surface, Surface::Echo);
    const { assert!(SURFACES > 8, "a byte has no room for them") };
}

#[test]
fn its_ranks_decide_which_figures_are_taken() {
    let free = ("cost", Scalar::Number(0.1));
    let failed = ("failed", Scalar::Bool(true));
    let dear = ("cost", Scalar::Number(2.0));
    // Its usage differs, so it matches by its times alone.
    let more = ("input", Scalar::Number(53.0));
    let all = [
        message(),
        diagnostic(),
        echo(&[failed, dear]),
        meter(&[free, more], END_MS + 40),
    ];
    for first in 0..all.len() {
        let mut order = all.to_vec();
        order.rotate_left(first);
        // The echo needs equal usage, and the meter's differs.
        order.sort_by_key(|observed| observed.surface == Surface::Meter);
        let mut ledger = ledger(order);
        let calls = settled(&mut ledger);
        let [call] = &calls[..] else {
            unreachable!("one call: {calls:?}");
        };
        assert_eq!(call.usage.map(|usage| usage.input), Some(53), "the meter's");
        assert_eq!(call.ended_ms, END_MS + 40, "the meter's");
        assert_eq!(call.outcome, Outcome::Failed, "the echo's");
        // The echo's cost belongs to other token counts.
        assert_eq!((call.cost.usd, call.cost.source), (0.1, CostSource::Table));
        assert_eq!(call.session_key.as_deref(), Some("agent:main:s"));
        assert_eq!(ledger.counts().conflicts, 1);
    }
    let mut alone = ledger([meter(&[("cost", Scalar::Number(0.1))], END_MS)]);
    let cost = settled(&mut alone).first().map(|call| call.cost);
    assert_eq!(cost.map(|cost| cost.source), Some(CostSource::Table));
}

#[test]
fn its_row_decides_how_it_is_matched() {
    let more = || ("input", Scalar::Number(53.0));
    let mut unequal = ledger([message(), diagnostic(), echo(&[more()])]);
    assert_eq!(settled(&mut unequal).len(), 2, "the echo needs equal usage");
    let mut changed = ledger([message(), diagnostic(), meter(&[more()], END_MS)]);
    assert_eq!(settled(&mut changed).len(), 1, "the meter does not");
    // An intermediary with other usage needs an end that agrees too.
    let late = meter(&[more()], END_MS + 400);
    let mut late = ledger([message(), diagnostic(), late]);
    assert_eq!(settled(&mut late).len(), 2);
    // A failure without usage is an attempt of its own only on surfaces that report attempts.
    let failure = |source: &str| {
        let none = |name| (name, Scalar::Absent);
        let failed = ("failed", Scalar::Bool(true));
        let outcome = ("outcome", Scalar::Text("failed".into()));
        let own = [none("input"), none("output"), failed, outcome];
        observed(source, &own, END_MS)
    };
    for (source, calls) in [("meter", 1), ("proxied", 2), ("echo.call", 2)] {
        let mut ledger = ledger([message(), diagnostic(), failure(source)]);
        assert_eq!(settled(&mut ledger).len(), calls, "{source}");
    }
}

#[test]
fn its_row_decides_how_long_it_is_awaited() {
    let mut ledger = ledger([meter(&[("started", Scalar::Number(1e12))], END_MS)]);
    assert_eq!(settled(&mut ledger).len(), 1, "the surface is now awaited");
    let later = |observation: Observation, by_ms: u64| Observation {
        started_ms: observation.started_ms.map(|start| start + by_ms),
        ended_ms: observation.ended_ms + by_ms,
        ..observation
    };
    let mut complete_at = |by_ms: u64| {
        for observed in [message(), diagnostic()] {
            ledger.observe(later(observed, by_ms), now(END_MS + by_ms));
        }
        let waits_for = [0, 7_900, 8_100].map(|after| {
            let at = now(END_MS + by_ms + after);
            ledger.due(at).len()
        });
        waits_for.map(|calls| calls == 1)
    };
    assert_eq!(complete_at(600_000), [false, false, true]);
    // It did not report that call, so later calls do not wait for it.
    assert_eq!(complete_at(700_000), [true, false, false]);
    ledger.observe(later(meter(&[], END_MS), 800_000), now(END_MS + 800_000));
    for observed in [message(), diagnostic()] {
        ledger.observe(later(observed, 800_000), now(END_MS + 800_000));
    }
    let done = ledger.due(now(END_MS + 800_000));
    assert_eq!(done.len(), 1, "all surfaces reported");
}

#[test]
fn its_open_observation_is_journalled_and_restored() {
    let cost = ("cost", Scalar::Number(2.0));
    let failed = ("failed", Scalar::Bool(true));
    for own in [echo(&[cost, failed]), meter(&[], END_MS + 40)] {
        for observed in [
            vec![own.clone()],
            vec![message(), diagnostic(), own.clone()],
        ] {
            let mut before = ledger(observed);
            let frames: Vec<Vec<u8>> = before
                .frames()
                .map(|frame| format_v1::frame_bytes(&frame))
                .collect();
            let mut after = Matcher::new(2);
            after.expect_diagnostics(true);
            let mut restored = Vec::new();
            for bytes in &frames {
                match format_v1::frame(bytes) {
                    Some(Frame::Seen(id, seen)) => {
                        restored.push(seen.surface);
                        after.restore(id, *seen, now(END_MS));
                    }
                    Some(Frame::Told {
                        until_ms,
                        forgotten_ms,
                        keys,
                    }) => after.restore_told(until_ms, forgotten_ms, &keys),
                    other => unreachable!("an observation: {other:?}"),
                }
            }
            assert!(restored.contains(&own.surface), "{restored:?}");
            let expected = settled(&mut before);
            assert_eq!(expected.len(), 1);
            assert_eq!(settled(&mut after), expected);
        }
    }
}

#[test]
fn a_restored_match_record_suppresses_its_repeats() {
    let mut before = ledger([message(), diagnostic(), echo(&[]), meter(&[], END_MS)]);
    assert_eq!(settled(&mut before).len(), 1);
    let frames: Vec<Vec<u8>> = before
        .frames()
        .map(|frame| format_v1::frame_bytes(&frame))
        .collect();
    for (again, calls) in [("meter", 1), ("echo.call", 1), ("litellm", 0)] {
        let mut after = Matcher::new(2);
        for bytes in &frames {
            match format_v1::frame(bytes) {
                Some(Frame::MatchRecord(record)) => {
                    after.restore_match_record(*record, now(END_MS))
                }
                other => unreachable!("a match record: {other:?}"),
            }
        }
        after.observe(observed(again, &[], END_MS), now(END_MS));
        assert_eq!(settled(&mut after).len(), calls, "{again}");
    }
}
