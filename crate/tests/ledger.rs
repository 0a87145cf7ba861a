//! One call, one record: whichever surfaces report it, in any order, however many calls are equal.

use crate::common::{Gateway, Totals, at, pick};
use agentwatch_openclaw::sources::SOURCES;
use agentwatch_openclaw::sources::facts::Scalar;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use serde_json::{Value, json};

const START_MS: u64 = 1_795_000_000_000;

/// A call as it really happened.
#[derive(Clone, Debug)]
struct Call {
    session: String,
    model: &'static str,
    started_ms: u64,
    duration_ms: u64,
    tokens: u64,
    span: String,
    response_id: Option<String>,
    /// When its message, its diagnostic and its timing arrive, in ms after its end.
    message: Option<u64>,
    diagnostic: Option<u64>,
    timing: Option<u64>,
}

impl Call {
    fn ended_ms(&self) -> u64 {
        self.started_ms + self.duration_ms
    }

    fn usage(&self) -> Value {
        json!({"input": self.tokens, "output": 7, "cacheRead": 0, "cacheWrite": 0, "cost": {"total": 0.5}})
    }

    fn message(&self) -> Value {
        json!({
            "event": {"message": {
                "role": "assistant", "provider": "p", "model": self.model, "usage": self.usage(),
                "stopReason": "stop", "timestamp": self.started_ms, "responseId": self.response_id,
            }},
            "ctx": {"sessionKey": self.session, "agentId": "main"},
        })
    }

    fn diagnostic(&self) -> Value {
        json!({"event": {
            "provider": "p", "model": self.model, "usage": self.usage(), "sessionKey": self.session,
            "durationMs": self.duration_ms, "ts": self.ended_ms(), "trace": {"spanId": self.span},
        }})
    }

    fn timing(&self) -> Value {
        json!({
            "event": {
                "provider": "p", "model": self.model, "sessionKey": self.session,
                "durationMs": self.duration_ms, "outcome": "completed",
            },
            "ctx": {"trace": {"spanId": self.span}},
        })
    }

    /// The gateway's reports of it: time, source, event.
    fn told(&self) -> Vec<(u64, &'static str, Value)> {
        let at = |late: u64| self.ended_ms() + late;
        [
            self.timing
                .map(|late| (at(late), "model_call_ended", self.timing())),
            self.message
                .map(|late| (at(late), "before_message_write", self.message())),
            self.diagnostic
                .map(|late| (at(late), "model.call.completed", self.diagnostic())),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}

/// A call without reports yet.
fn call(session: &str, started_ms: u64, tokens: u64) -> Call {
    Call {
        session: format!("agent:main:{session}"),
        model: "m",
        started_ms,
        duration_ms: 400,
        tokens,
        span: format!("span-{session}-{started_ms}-{tokens}"),
        response_id: None,
        message: None,
        diagnostic: None,
        timing: None,
    }
}

fn tell(gateway: &mut Gateway, mut told: Vec<(u64, &'static str, Value)>) {
    told.sort_by_key(|(at, _, _)| *at);
    let mut wall = START_MS;
    for (at, source, args) in told {
        gateway.run_until(wall, at);
        gateway.hear(source, &args, at);
        wall = at;
    }
    gateway.run_until(wall, wall + 10_000);
}

/// The naive model: each reported call is a request, with its usage if that was reported.
fn expected(calls: &[Call]) -> Totals {
    let mut totals = Totals::default();
    for call in calls {
        let model = format!("p/{}", call.model);
        if call.message.or(call.diagnostic).is_some() {
            totals.add(&model, 1, call.tokens, 7, 0.5);
        } else if call.timing.is_some() {
            totals.add(&model, 1, 0, 0, 0.0);
        }
    }
    totals
}

fn check(calls: &[Call], expect_diagnostics: bool) -> Gateway {
    let mut gateway = Gateway::new(expect_diagnostics);
    tell(&mut gateway, calls.iter().flat_map(Call::told).collect());
    let totals = &gateway.receiver.totals;
    totals.assert_equals(&expected(calls), "the receiver's totals");
    assert_eq!(gateway.status()["counted"], expected(calls).requests());
    assert_eq!(gateway.status()["duplicates"], 0);
    gateway
}

fn config(cases: u32) -> ProptestConfig {
    ProptestConfig {
        cases,
        rng_seed: RngSeed::Fixed(20_261_123),
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

/// One session's calls in sequence, each with a longer prompt than the one before. Each is reported by its own subset
/// of the surfaces.
fn session(name: usize) -> impl Strategy<Value = Vec<Call>> {
    let one = (
        (300u64..4_000, 20u64..3_000),
        proptest::option::of(0u64..30),
        proptest::option::of(0u64..600),
        proptest::option::of(0u64..3),
        proptest::option::of(0u8..4),
        any::<bool>(),
    );
    proptest::collection::vec(one, 0..12).prop_map(move |parts| {
        let mut clock = START_MS;
        let mut calls = Vec::new();
        for (index, ((gap, duration_ms), message, diagnostic, timing, response, other)) in
            parts.into_iter().enumerate()
        {
            let mut call = call(&format!("s{name}"), clock + gap, 100 + index as u64);
            call.duration_ms = duration_ms;
            call.model = if other { "m" } else { "n" };
            call.response_id = response.map(|n| format!("chatcmpl-{n}"));
            (call.message, call.diagnostic, call.timing) = (message, diagnostic, timing);
            clock = call.ended_ms();
            calls.push(call);
        }
        calls
    })
}

proptest! {
    #![proptest_config(config(192))]

    /// Sessions run in parallel, with equal usage across sessions.
    #[test]
    fn a_call_counts_once_whichever_surfaces_report_it(
        sessions in (session(0), session(1), session(2), session(3)),
        expect_diagnostics: bool,
    ) {
        let (a, b, c, d) = sessions;
        check(&[a, b, c, d].concat(), expect_diagnostics);
    }

    /// Calls of one session at the same time with equal usage: only their number is known.
    #[test]
    fn equal_calls_of_one_session_all_count(
        starts in proptest::collection::vec((0u64..500, 20u64..500, 0u64..30, 0u64..600), 1..10),
        by_message: bool,
        by_diagnostic: bool,
        expect_diagnostics: bool,
    ) {
        let calls: Vec<Call> = starts.into_iter().enumerate().map(|(index, times)| {
            let (after, duration_ms, message, diagnostic) = times;
            // Two messages of one session that began in the same ms without ids count as one.
            let mut call = call("s", START_MS + after * 10 + index as u64, 50);
            call.duration_ms = duration_ms;
            call.message = by_message.then_some(message);
            call.diagnostic = by_diagnostic.then_some(diagnostic);
            call
        }).collect();
        let in_window = calls.iter().map(|c| c.started_ms).max() <= Some(START_MS + 1_200);
        if by_message != by_diagnostic || in_window {
            check(&calls, expect_diagnostics);
        }
    }

    /// The same with an engine that dies after any event.
    #[test]
    fn a_call_counts_once_though_the_core_dies(calls in session(0), dies_after in 0usize..30) {
        let mut told: Vec<_> = calls.iter().flat_map(Call::told).collect();
        told.sort_by_key(|(at, _, _)| *at);
        let mut gateway = Gateway::new(true);
        let mut wall = START_MS;
        for (index, (at, source, args)) in told.into_iter().enumerate() {
            gateway.run_until(wall, at);
            gateway.hear(source, &args, at);
            wall = at;
            if index == dies_after {
                gateway.restart(wall);
            }
        }
        gateway.run_until(wall, wall + 10_000);
        gateway.receiver.totals.assert_equals(&expected(&calls), "after a restart");
    }
}

// An observation that is delivered twice

/// Reports two messages `apart_ms` apart.
fn two_messages(one: &Call, other: &Call, apart_ms: u64) -> Gateway {
    let mut gateway = Gateway::new(false);
    let at = one.ended_ms();
    let told = vec![
        (at, "before_message_write", one.message()),
        (at + apart_ms, "before_message_write", other.message()),
    ];
    tell(&mut gateway, told);
    gateway
}

#[test]
fn a_message_delivered_to_two_registrations_is_one_call() {
    let told = call("s", START_MS, 50);
    for apart_ms in [0, 1, 1_500] {
        let gateway = two_messages(&told, &told, apart_ms);
        assert_eq!(gateway.receiver.totals.requests(), 1);
        assert_eq!(gateway.status()["duplicates"], 1);
    }
}

#[test]
fn equal_messages_with_different_ids_are_two_calls() {
    let (mut one, mut other) = (call("s", START_MS, 50), call("s", START_MS, 50));
    one.response_id = Some("chatcmpl-1".into());
    other.response_id = Some("chatcmpl-2".into());
    let gateway = two_messages(&one, &other, 0);
    assert_eq!(gateway.receiver.totals.requests(), 2);
    assert_eq!(gateway.status()["duplicates"], 0);
}

#[test]
fn a_repeated_response_id_alone_is_no_duplicate() {
    let (mut one, mut other) = (call("s", START_MS, 50), call("s", START_MS + 1, 50));
    one.response_id = Some("chatcmpl-7".into());
    other.response_id = Some("chatcmpl-7".into());
    assert_eq!(two_messages(&one, &other, 1).receiver.totals.requests(), 2);
}

#[test]
fn messages_that_differ_in_session_usage_or_start_are_two_calls() {
    let one = call("s", START_MS, 50);
    for other in [
        call("t", START_MS, 50),
        call("s", START_MS, 51),
        call("s", START_MS + 1, 50),
    ] {
        let gateway = two_messages(&one, &other, 0);
        assert_eq!(gateway.receiver.totals.requests(), 2, "{other:?}");
    }
}

#[test]
fn messages_without_a_time_are_two_calls() {
    let told = call("s", START_MS, 50);
    let mut args = told.message();
    args["event"]["message"]["timestamp"] = Value::Null;
    let mut gateway = Gateway::new(false);
    let message = (told.ended_ms(), "before_message_write", args);
    tell(&mut gateway, vec![message.clone(), message]);
    assert_eq!(gateway.receiver.totals.requests(), 2);
}

#[test]
fn diagnostics_are_identified_by_their_spans() {
    let one = call("s", START_MS, 50);
    let mut other = one.clone();
    for (span, requests) in [(one.span.clone(), 1), ("another".to_owned(), 2)] {
        other.span = span;
        let at = one.ended_ms();
        let told = vec![
            (at, "model.call.completed", one.diagnostic()),
            (at + 2, "model.call.completed", other.diagnostic()),
        ];
        let mut gateway = Gateway::new(true);
        tell(&mut gateway, told);
        assert_eq!(gateway.receiver.totals.requests(), requests);
    }
}

// ---------------------------------------------------------------------------------------------
// `session:complete`

fn complete(models: Value) -> Value {
    json!({"event": {"sessionKey": "agent:main:s", "models": models}})
}

#[test]
fn a_total_counts_only_uncounted_requests() {
    let mut told = call("s", START_MS, 50);
    told.message = Some(0);
    let models = json!([{"model": "p/m", "requests": 4, "promptTokens": 150, "completionTokens": 20, "costUsd": 2.0}]);
    let at = told.ended_ms() + 10;
    for times in 1..=2 {
        let mut events = told.told();
        for _ in 0..times {
            events.push((at, "session:complete", complete(models.clone())));
        }
        let mut gateway = Gateway::new(false);
        tell(&mut gateway, events);
        let mut expected = Totals::default();
        expected.add("p/m", 4, 150, 20, 2.0);
        gateway
            .receiver
            .totals
            .assert_equals(&expected, "told twice at most");
        assert_eq!(gateway.status()["from_totals"], 3);
    }
}

#[test]
fn a_total_of_counted_calls_adds_nothing() {
    let mut told = call("s", START_MS, 50);
    told.message = Some(0);
    for name in ["m", "p/m"] {
        let models =
            json!([{"model": name, "requests": 1, "promptTokens": 50, "completionTokens": 7}]);
        let mut events = told.told();
        events.push((told.ended_ms(), "session:complete", complete(models)));
        let mut gateway = Gateway::new(false);
        tell(&mut gateway, events);
        assert_eq!(gateway.receiver.totals.requests(), 1, "{name}");
    }
}

proptest! {
    #![proptest_config(config(128))]

    /// A total is divided among its requests exactly.
    #[test]
    fn the_shares_of_a_total_add_up_to_it(
        requests in 1u64..50, prompt in 1u64..1_000_000, completion in 1u64..1_000_000, cost in 0.001f64..50.0,
    ) {
        let models = json!([{
            "model": "q/x", "requests": requests, "promptTokens": prompt, "completionTokens": completion,
            "costUsd": cost,
        }]);
        let mut gateway = Gateway::new(false);
        tell(&mut gateway, vec![(START_MS, "session:complete", complete(models))]);
        let mut expected = Totals::default();
        expected.add("q/x", requests, prompt, completion, cost);
        gateway.receiver.totals.assert_equals(&expected, "a total of unseen calls");
    }
}

/// `model:used` may have no session; a restored engine still knows its call.
#[test]
fn a_call_reported_without_a_session_counts_once_across_a_restart() {
    for is_late in [false, true] {
        let told = call("s", START_MS, 50);
        let used = json!({"event": {"model": "p/m", "promptTokens": 50, "completionTokens": 7}});
        let (at, mut gateway) = (told.ended_ms(), Gateway::new(true));
        gateway.hear("before_message_write", &told.message(), at);
        let heard = if is_late { at + 1_900 } else { at };
        gateway.run_until(at, heard);
        if is_late {
            gateway.engine.compact();
            gateway.write();
        }
        gateway.hear("model:used", &used, heard);
        gateway.restart(heard);
        gateway.run_until(heard, heard + 10_000);
        let mut expected = Totals::default();
        expected.add("p/m", 1, 50, 7, 0.5);
        gateway
            .receiver
            .totals
            .assert_equals(&expected, if is_late { "late" } else { "at once" });
        assert_eq!(gateway.status()["counted"], u64::from(!is_late));
    }
}

#[test]
fn a_total_knows_what_was_counted_before_a_restart() {
    let mut told = call("s", START_MS, 50);
    told.message = Some(0);
    let models = json!([{"model": "m", "requests": 1, "promptTokens": 50, "completionTokens": 7}]);
    let mut gateway = Gateway::new(false);
    tell(&mut gateway, told.told());
    let at = told.ended_ms() + 20_000;
    gateway.restart(at);
    gateway.hear("session:complete", &complete(models), at);
    gateway.run_until(at, at + 10_000);
    assert_eq!(gateway.receiver.totals.requests(), 1);
}

/// A `completed` diagnostic with all-zero usage: how 2026.7.1 reports an abort.
fn completed_with_zeros(span: &str, at_ms: u64) -> Value {
    json!({"event": {"provider": "mock", "model": "m1", "sessionKey": "agent:main:x", "durationMs": 900, "ts": at_ms,
        "trace": {"spanId": span}, "usage": {"input": 0, "output": 0, "cacheRead": 0, "cacheWrite": 0}}})
}

#[test]
fn zeros_without_a_message_are_a_failure_where_failures_are_not_reported() {
    let start = 1_795_000_000_000;
    let mut gateway = Gateway::new(true);
    gateway.hear(
        "model.call.completed",
        &completed_with_zeros("a", start),
        start,
    );
    gateway.run_until(start, start + 5_000);
    assert_eq!(gateway.status()["requests"], 0);
    assert_eq!(gateway.status()["model_errors"], 1);
}

#[test]
fn zeros_without_a_message_are_an_answer_where_failures_are_reported() {
    let start = 1_795_000_000_000;
    let mut gateway = Gateway::new(true);
    let mut failed = completed_with_zeros("a", start);
    failed["event"]["failureKind"] = json!("aborted");
    gateway.hear("model.call.error", &failed, start);
    gateway.hear(
        "model.call.completed",
        &completed_with_zeros("b", start + 3_000),
        start + 3_000,
    );
    gateway.run_until(start, start + 9_000);
    assert_eq!(gateway.status()["requests"], 1);
    assert_eq!(gateway.status()["missing_usage"], 1);
    assert_eq!(gateway.status()["model_errors"], 1);
}

/// A stored row as the reader of the session store passes it.
fn stored(call_started_ms: u64, written_ms: u64, entry: &str, session: &str) -> Value {
    json!({
        "event": {"id": entry, "timestamp": written_ms, "message": {"role": "assistant", "provider": "p", "model": "m",
            "stopReason": "stop", "timestamp": call_started_ms,
            "usage": {"input": 50, "output": 7, "cost": {"total": 0.5}}}},
        "ctx": {"sessionId": session, "agentId": "main"},
    })
}

#[test]
fn a_stored_row_matches_a_known_call_or_is_a_call_of_its_own() {
    let (start, end) = (START_MS, START_MS + 900);
    let mut gateway = Gateway::new(false);
    let told = call("s", start, 50);
    gateway.hear("before_message_write", &told.message(), told.ended_ms());
    let late = end + 70_000;
    gateway.run_until(end, late);
    // A job's run is reported under its own key, and stored under its job's.
    let mut first = stored(start, told.ended_ms(), "a", "one");
    first["ctx"]["sessionKey"] = json!("agent:main:cron:job");
    gateway.hear("stored", &first, late);
    gateway.run_until(late, late + 2_000);
    assert_eq!(gateway.receiver.totals.requests(), 1, "it was told");
    // An unreported call with the same figures, and its copy in a fork.
    let other = stored(start + 30_000, start + 31_000, "b", "one");
    gateway.hear("stored", &other, late + 3_000);
    let copied = stored(start + 30_000, start + 31_000, "b", "two");
    gateway.hear("stored", &copied, late + 3_000);
    gateway.run_until(late + 3_000, late + 9_000);
    assert_eq!(gateway.receiver.totals.requests(), 2);
    assert_eq!(gateway.status()["from_store"], 1);
    // The restored state is enough to match them.
    gateway.restart(late + 10_000);
    gateway.hear("stored", &copied, late + 10_000);
    gateway.hear("stored", &first, late + 10_000);
    gateway.run_until(late + 10_000, late + 20_000);
    assert_eq!(gateway.receiver.totals.requests(), 2);
}

/// A killed gateway had reported one of two calls that began at nearly the same time, and had stored both.
#[test]
fn an_unreported_stored_row_does_not_match_its_neighbour() {
    for apart in [1, 20, 49] {
        let mut gateway = Gateway::new(false);
        let told = call("s", START_MS + apart, 50);
        gateway.hear("before_message_write", &told.message(), told.ended_ms());
        let late = told.ended_ms() + 70_000;
        gateway.run_until(told.ended_ms(), late);
        let mut untold = stored(START_MS, told.ended_ms() + 5, "a", "other");
        untold["event"]["message"]["usage"]["input"] = json!(60);
        gateway.hear("stored", &untold, late);
        let own = stored(told.started_ms, told.ended_ms(), "b", "one");
        gateway.hear("stored", &own, late);
        gateway.run_until(late, late + 9_000);
        let mut expected = Totals::default();
        expected.add("p/m", 2, 110, 14, 1.0);
        gateway
            .receiver
            .totals
            .assert_equals(&expected, "each once");
    }
}

/// A journal has pending calls first, and older calls after them.
#[test]
fn a_stored_row_matches_a_call_that_was_pending_at_a_restart() {
    let mut gateway = Gateway::new(true);
    let mut older = call("s", START_MS, 40);
    (older.message, older.diagnostic) = (Some(0), Some(0));
    tell(&mut gateway, older.told());
    let open = call("s", START_MS + 60_000, 50);
    gateway.hear("before_message_write", &open.message(), open.ended_ms());
    for after in [10, 20] {
        gateway.engine.compact();
        gateway.write();
        gateway.restart(open.ended_ms() + after);
    }
    let late = open.ended_ms() + 70_000;
    gateway.run_until(open.ended_ms() + 30, late);
    assert_eq!(gateway.receiver.totals.requests(), 2);
    let mut row = stored(open.started_ms, open.ended_ms(), "a", "one");
    row["ctx"]["sessionKey"] = json!(open.session);
    gateway.hear("stored", &row, late);
    gateway.run_until(late, late + 9_000);
    assert_eq!(gateway.receiver.totals.requests(), 2);
}

/// The bookmark and the rows of one reading are one frame: a torn write keeps both, or neither.
#[test]
fn a_torn_write_repeats_no_stored_row() {
    let source = SOURCES
        .iter()
        .position(|table| table.source == "stored")
        .unwrap();
    let late = START_MS + 600_000;
    let rows: Vec<Scalar> = (0..5)
        .map(|index| {
            let start = START_MS + index * 10_000;
            let row = stored(start, start + 900, &format!("row{index}"), "one");
            Scalar::List(pick(source, &row).unwrap())
        })
        .collect();
    let read = ("main/one", Some("100:1"));
    let mut whole = Gateway::new(false);
    whole.engine.take_rows(source, &rows, read, false, at(late));
    whole.write();
    let (file, bytes) = whole
        .disk
        .files()
        .first_key_value()
        .map(|(k, v)| (k.clone(), v.clone()))
        .unwrap();
    assert!(file.starts_with("ledger-") && bytes.len() > 300);
    for cut in (0..=bytes.len()).step_by(7) {
        let mut gateway = Gateway::new(false);
        gateway
            .disk
            .files()
            .insert(file.clone(), bytes[..cut].to_vec());
        gateway.restart(late + 1_000);
        let is_marked = gateway.engine.bookmarks().next().is_some();
        if !is_marked {
            gateway
                .engine
                .take_rows(source, &rows, read, false, at(late + 2_000));
        }
        gateway.run_until(late + 2_000, late + 20_000);
        assert_eq!(gateway.receiver.totals.requests(), 5, "cut at {cut}");
    }
}
