//! Recorded gateways, replayed: with surfaces in any order, missing surfaces and repeated events, the receiver's totals
//! equal the provider's.

use crate::common::{By, Capture, Gateway, Recorded, Totals, captures, delayed};

/// The receiver's totals after these events, with a gateway like the capture's.
fn counted(events: &[Recorded], expect_diagnostics: bool) -> Totals {
    let mut gateway = Gateway::new(expect_diagnostics);
    gateway.replay(events);
    gateway.receiver.totals
}

/// The provider's totals plus the failures that diagnostics alone show as answers: see `failures_shown_as_answers`.
fn provider_by_diagnostics_alone(capture: &Capture) -> Totals {
    let mut expected = capture.provider.clone();
    let failures = capture.failures_shown_as_answers;
    expected.add("mock/mock-primary", failures, 0, 0, 0.0);
    expected
}

#[test]
fn events_as_recorded() {
    for capture in captures() {
        assert!(capture.provider.requests() >= 9, "{}", capture.version);
        let totals = counted(&capture.events, capture.tells_calls);
        totals.assert_equals(&capture.provider, capture.version);
    }
}

#[test]
fn messages_first_or_diagnostics_first() {
    for capture in captures() {
        for late_ms in [0, 1, 50, 240, 600] {
            for surface in [By::Message, By::CallDiagnostic, By::Timing] {
                let events = delayed(&capture.events, surface, late_ms);
                let totals = counted(&events, capture.tells_calls);
                let what = format!("{}, {surface:?} {late_ms} ms late", capture.version);
                totals.assert_equals(&capture.provider, &what);
            }
        }
    }
}

#[test]
fn messages_alone_are_enough() {
    for capture in captures() {
        let events = capture.only(&[By::Message]);
        // Diagnostics may be expected and never arrive.
        for expected in [false, true] {
            let totals = counted(&events, expected);
            totals.assert_equals(&capture.provider, capture.version);
        }
    }
}

#[test]
fn messages_and_timings_are_enough_without_diagnostics() {
    for capture in captures() {
        let events = capture.only(&[By::Message, By::Timing]);
        counted(&events, false).assert_equals(&capture.provider, capture.version);
    }
}

#[test]
fn diagnostics_with_usage_alone_are_enough() {
    let mut tried = 0;
    for capture in captures().into_iter().filter(|c| c.tells_usage) {
        let events = capture.only(&[By::CallDiagnostic]);
        let expected = provider_by_diagnostics_alone(&capture);
        counted(&events, true).assert_equals(&expected, capture.version);
        tried += 1;
    }
    assert_eq!(tried, 2);
}

/// A surface reports a call at most once, so a repetition a moment later (two evaluations of the plugin's module, both
/// registered, both called) is a duplicate.
#[test]
fn every_event_delivered_twice_counts_once() {
    for capture in captures() {
        for apart_ms in [0, 4] {
            let events: Vec<Recorded> = capture
                .events
                .iter()
                .flat_map(|event| {
                    let mut again = event.clone();
                    again.at_ms += apart_ms;
                    [event.clone(), again]
                })
                .collect();
            let mut gateway = Gateway::new(capture.tells_calls);
            gateway.replay(&events);
            let what = format!("{}, {apart_ms} ms apart", capture.version);
            let totals = &gateway.receiver.totals;
            totals.assert_equals(&capture.provider, &what);
            let mut once = Gateway::new(capture.tells_calls);
            once.replay(&capture.events);
            assert_eq!(once.status()["duplicates"], 0, "{what}");
            let observed = once.status()["counted"].as_u64().unwrap_or_default()
                + once.status()["merged"].as_u64().unwrap_or_default();
            assert_eq!(gateway.status()["duplicates"], observed, "{what}");
        }
    }
}

/// A journal whose calls are all delivered has nothing to send, but still knows them: reports by other surfaces after
/// the restart add nothing.
#[test]
fn a_recovered_journal_sends_nothing_twice() {
    for capture in captures() {
        for surface in [By::Message, By::CallDiagnostic] {
            if surface == By::CallDiagnostic && !capture.tells_usage {
                continue;
            }
            let mut gateway = Gateway::new(capture.tells_calls);
            gateway.replay(&capture.only(&[surface]));
            let before = gateway.receiver.totals.clone();
            let last = gateway.status()["last_call_ms"].clone();
            assert!(last.is_u64(), "{}", capture.version);

            let others = match surface {
                By::Message => By::CallDiagnostic,
                _ => By::Message,
            };
            let late = delayed(&capture.only(&[others]), others, 180_000);
            let start = late.first().map_or(0, |event| event.at_ms);
            gateway.restart(start);
            gateway.replay(&late);
            let what = format!("{}, {surface:?} first", capture.version);
            gateway.receiver.totals.assert_equals(&before, &what);
            assert_eq!(gateway.status()["delivered"], 0, "{what}");
        }
    }
}

/// An observation after a call is final matches it and adds nothing.
#[test]
fn a_late_surface_adds_nothing() {
    for capture in captures().into_iter().filter(|c| c.tells_usage) {
        for late in [By::Message, By::CallDiagnostic] {
            let events = delayed(&capture.events, late, 180_000);
            let mut gateway = Gateway::new(true);
            gateway.replay(&events);
            let what = format!("{}, {late:?} three minutes late", capture.version);
            let expected = match late {
                // The message, which shows that this was no answer, arrived too late.
                By::Message => provider_by_diagnostics_alone(&capture),
                _ => capture.provider.clone(),
            };
            gateway.receiver.totals.assert_equals(&expected, &what);
            assert!(gateway.status()["late"].as_u64() > Some(8), "{what}");
        }
    }
}

/// The engine may die between any two events; the receiver supports record ids and continues.
#[test]
fn a_core_that_dies_at_any_moment_loses_and_repeats_nothing() {
    for capture in captures() {
        for dies_after in (0..capture.events.len()).step_by(3) {
            let mut gateway = Gateway::new(capture.tells_calls);
            let mut wall = capture.events[0].at_ms;
            for (index, event) in capture.events.iter().enumerate() {
                gateway.run_until(wall, event.at_ms);
                wall = event.at_ms;
                gateway.hear(&event.source, &event.args, wall);
                if index == dies_after {
                    gateway.restart(wall);
                }
            }
            gateway.run_until(wall, wall + 60_000);
            let what = format!("{}, dead after event {dies_after}", capture.version);
            let totals = &gateway.receiver.totals;
            totals.assert_equals(&capture.provider, &what);
        }
    }
}

/// The same with a snapshot instead of the journal.
#[test]
fn a_snapshot_replaces_its_journal() {
    for capture in captures() {
        for dies_after in (0..capture.events.len()).step_by(3) {
            let mut gateway = Gateway::new(capture.tells_calls);
            let mut wall = capture.events[0].at_ms;
            for (index, event) in capture.events.iter().enumerate() {
                gateway.run_until(wall, event.at_ms);
                wall = event.at_ms;
                gateway.hear(&event.source, &event.args, wall);
                if index == dies_after {
                    gateway.engine.compact();
                    gateway.write();
                    gateway.restart(wall);
                }
            }
            gateway.run_until(wall, wall + 60_000);
            let what = format!("{}, dead after event {dies_after}", capture.version);
            let totals = &gateway.receiver.totals;
            totals.assert_equals(&capture.provider, &what);
        }
    }
}
