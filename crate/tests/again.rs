//! Repeated reports of a call count once: from a restored, imported or branched history, from a batch that is sent
//! twice, from a bridge that logs a call twice, at any delay and after any restart.

use crate::common::{Gateway, at, pick};
use agentwatch_openclaw::domain::call::Outcome;
use agentwatch_openclaw::domain::time::iso;
use agentwatch_openclaw::sources::SOURCES;
use agentwatch_openclaw::sources::facts::Scalar;
use agentwatch_openclaw::sources::litellm::{Log, Logged};
use serde_json::{Value, json};

const START_MS: u64 = 1_795_918_851_435;
const DAY_MS: u64 = 86_400_000;

/// An answer that began this many ms after [`START_MS`].
fn answer(after_ms: u64, id: Option<&str>) -> Value {
    json!({
        "role": "assistant", "provider": "p", "model": "m", "api": "openai-completions",
        "usage": {"input": 100, "output": 10, "cacheRead": 0, "cacheWrite": 0, "cost": {"total": 0}},
        "stopReason": "stop", "timestamp": START_MS + after_ms, "responseId": id,
    })
}

fn told(message: &Value, session: &str) -> Value {
    json!({"event": {"message": message}, "ctx": {"sessionKey": session, "agentId": "main"}})
}

fn row(message: &Value, entry: &str, written_ms: u64) -> Value {
    json!({
        "event": {"id": entry, "timestamp": written_ms, "message": message},
        "ctx": {"sessionId": "a", "agentId": "main"},
    })
}

/// A payload of LiteLLM's log, for a call that began this many ms after [`START_MS`].
fn payload(after_ms: u64) -> Value {
    let began = (START_MS + after_ms) as f64 / 1e3;
    json!({
        "id": "chatcmpl-1", "litellm_call_id": "call-1", "call_type": "acompletion", "cache_hit": null,
        "stream": true, "status": "success", "custom_llm_provider": "openai", "startTime": began,
        "endTime": began + 1.5, "completionStartTime": began + 0.4, "model": "gpt-5", "model_group": "m",
        "metadata": {"usage_object": {"prompt_tokens": 1200, "completion_tokens": 34, "total_tokens": 1234,
            "prompt_tokens_details": {"cached_tokens": 1000}}},
        "response_cost": 0.00079, "prompt_tokens": 1200, "completion_tokens": 34,
    })
}

fn changed(mut value: Value, changes: Value) -> Value {
    for (name, change) in changes.as_object().unwrap() {
        value[name] = change.clone();
    }
    value
}

fn log(payloads: &Value) -> Logged {
    let mut log = Log::default();
    log.feed(payloads.to_string().as_bytes());
    log.finish().unwrap()
}

/// Posts a batch to the endpoint.
fn post(gateway: &mut Gateway, payloads: &Value, at_ms: u64) {
    for call in log(payloads).calls {
        let mut facts = serde_json::to_value(call).unwrap();
        facts["cost"] = json!(
            facts["cost"]
                .as_str()
                .and_then(|usd| usd.parse::<f64>().ok())
        );
        let is_failure = facts["outcome"] != json!(Outcome::Completed);
        facts["outcome"] = json!(if is_failure { "failed" } else { "completed" });
        gateway.hear("litellm", &json!({"event": facts}), at_ms);
    }
}

/// A report and its time.
type Told<'a> = (u64, &'a dyn Fn(&mut Gateway, u64));

/// Number of counted calls; the engine may be restarted between two reports.
fn counted(told: &[Told], restarts: bool, compacts: bool) -> u64 {
    let mut gateway = Gateway::new(false);
    let (mut now, mut before) = (START_MS, 0);
    for (at_ms, tell) in told {
        gateway.run_until(now, *at_ms);
        now = *at_ms;
        if restarts {
            before += requests(&gateway);
            if compacts {
                gateway.engine.compact();
                gateway.write();
            }
            gateway.restart(now);
        }
        tell(&mut gateway, now);
    }
    gateway.run_until(now, now + 10_000);
    before + requests(&gateway)
}

/// Number of calls that were counted since the last restart. The receiver supports record ids, so its totals would hide
/// a second count of a history.
fn requests(gateway: &Gateway) -> u64 {
    gateway.status()["requests"].as_u64().unwrap()
}

/// The count without restarts, with restarts, and with restarts from a snapshot; all must be equal.
fn counts(told: &[Told]) -> u64 {
    let counts = [(false, false), (true, false), (true, true)]
        .map(|(restarts, compacts)| counted(told, restarts, compacts));
    assert_eq!(counts, [counts[0]; 3], "restarts change the count");
    counts[0]
}

/// Delays from zero to half a year.
const LATER_MS: [u64; 8] = [
    0,
    3_000,
    4_000,
    20_000,
    700_000,
    DAY_MS,
    40 * DAY_MS,
    180 * DAY_MS,
];

#[test]
fn a_message_of_a_restored_history_is_the_known_call() {
    for later in LATER_MS {
        for (id, session) in [
            (Some("resp-A"), "agent:main:s"),
            (Some("resp-A"), "agent:main:branched"),
            (Some("resp-A"), "agent:side:imported"),
            // 2026.3.13 stores no ids of answers.
            (None, "agent:main:s"),
        ] {
            let message = answer(0, id);
            let first = |gateway: &mut Gateway, at| {
                gateway.hear("before_message_write", &told(&message, "agent:main:s"), at);
            };
            let again = |gateway: &mut Gateway, at| {
                gateway.hear("before_message_write", &told(&message, session), at);
            };
            let at = START_MS + 900;
            let told: [Told; 2] = [(at, &first), (at + later, &again)];
            assert_eq!(counts(&told), 1, "{later} ms later, {id:?} in {session}");
        }
    }
}

#[test]
fn calls_that_differ_in_begin_id_or_usage_all_count() {
    let first = answer(0, Some("resp-A"));
    let mut more = first.clone();
    more["usage"]["output"] = json!(11);
    let others = [
        answer(1, Some("resp-A")),
        answer(60_000, Some("resp-A")),
        answer(0, Some("resp-B")),
        more,
    ];
    for other in others {
        let one = |gateway: &mut Gateway, at| {
            gateway.hear("before_message_write", &told(&first, "agent:main:s"), at);
        };
        let two = |gateway: &mut Gateway, at| {
            gateway.hear("before_message_write", &told(&other, "agent:main:s"), at);
        };
        let at = START_MS + 900;
        assert_eq!(counts(&[(at, &one), (at + 20_000, &two)]), 2, "{other}");
    }
    // Without ids, sessions that run side by side may begin calls in the same ms.
    let message = answer(0, None);
    let tell = |session: &'static str| {
        let told = told(&message, session);
        move |gateway: &mut Gateway, at| gateway.hear("before_message_write", &told, at)
    };
    let (one, two) = (tell("agent:main:s"), tell("agent:main:subagent:t"));
    assert_eq!(counts(&[(START_MS + 900, &one), (START_MS + 950, &two)]), 2);
}

#[test]
fn a_row_of_a_branched_history_is_the_known_call() {
    // Each with its entry and the time of writing: the same time, 20 s later, and the time of an import.
    let at = START_MS + 900;
    for id in [Some("resp-A"), None] {
        for written in [at, at + 20_000, at + 500_000] {
            let message = answer(0, id);
            let live = |gateway: &mut Gateway, now| {
                gateway.hear("before_message_write", &told(&message, "agent:main:s"), now);
            };
            let own =
                |gateway: &mut Gateway, now| gateway.hear("stored", &row(&message, "a", at), now);
            let copy = |gateway: &mut Gateway, now| {
                gateway.hear("stored", &row(&message, "b", written), now);
            };
            let late = at + 620_000;
            let everything: [Told; 4] = [
                (at, &live),
                (at + 70_000, &own),
                (late, &copy),
                (late + 1, &copy),
            ];
            assert_eq!(counts(&everything), 1, "{written}, {id:?}");
            assert_eq!(counts(&everything[1..]), 1, "{written}, {id:?}: rows alone");
        }
    }
}

#[test]
fn a_message_of_a_branch_joins_the_row_of_its_session_for_good() {
    // The plugin was away when session a asked; within ten minutes session b inherits the message.
    let message = answer(0, Some("resp-A"));
    let at = START_MS + 900;
    let row = changed(
        row(&message, "a", at),
        json!({"ctx": {"sessionId": "a", "sessionKey": "agent:main:a", "agentId": "main"}}),
    );
    let stored = |gateway: &mut Gateway, now| gateway.hear("stored", &row, now);
    let branch = |gateway: &mut Gateway, now| {
        gateway.hear("before_message_write", &told(&message, "agent:main:b"), now);
    };
    let nothing = |_: &mut Gateway, _| {};
    let (read, branched) = (at + 70_000, at + 130_000);
    let everything: [Told; 4] = [
        (read, &stored),
        (branched, &branch),
        (branched + 60_000, &nothing),
        (branched + 120_000, &nothing),
    ];
    assert_eq!(counts(&everything), 1);
}

#[test]
fn a_copy_in_the_store_may_precede_its_hook() {
    let message = answer(0, Some("resp-A"));
    let at = START_MS + 900;
    let stored = |gateway: &mut Gateway, now| gateway.hear("stored", &row(&message, "a", at), now);
    let live = |gateway: &mut Gateway, now| {
        gateway.hear("before_message_write", &told(&message, "agent:main:s"), now);
    };
    for later in [0, 5_000, 800_000] {
        let told: [Told; 2] = [(at + 70_000, &stored), (at + 70_000 + later, &live)];
        assert_eq!(counts(&told), 1, "{later} ms later");
    }
}

fn take_history(gateway: &mut Gateway, rows: &[Value], now: u64) {
    let source = SOURCES.iter().position(|table| table.source == "stored");
    let source = source.unwrap();
    let rows: Vec<Scalar> = rows
        .iter()
        .map(|row| Scalar::List(pick(source, row).unwrap()))
        .collect();
    let read = ("/history/main/a", None);
    gateway.engine.take_rows(source, &rows, read, true, at(now));
    gateway.write();
}

#[test]
fn copies_in_a_backfilled_history_count_once() {
    let (a, b) = (answer(0, Some("resp-A")), answer(60_000, Some("resp-B")));
    let written = [START_MS + 900, START_MS + 60_900];
    let rows = [
        row(&a, "1000001b", written[0]),
        row(&b, "1000001c", written[1]),
        row(&a, "1000001d", written[0]),
        row(&b, "1000001e", written[1] + 500_000),
    ];
    let late = START_MS + 30 * DAY_MS;
    let all = |gateway: &mut Gateway, now| take_history(gateway, &rows, now);
    let half = |gateway: &mut Gateway, now| take_history(gateway, &rows[..2], now);
    assert_eq!(counts(&[(late, &all)]), 2);
    // After a crash, reading starts again, with other copies.
    assert_eq!(counts(&[(late, &half), (late + 60_000, &all)]), 2);
    // A session that was read is restored, and the hook reports its history again.
    let live = |gateway: &mut Gateway, now| {
        gateway.hear("before_message_write", &told(&a, "agent:main:s"), now);
    };
    assert_eq!(counts(&[(late, &all), (late + 60_000, &live)]), 2);
}

#[test]
fn other_surfaces_find_a_call_of_the_history() {
    // LiteLLM logs a call that ended a moment before the history was read.
    let mut message = answer(0, Some("chatcmpl-1"));
    message["usage"] = json!({"input": 200, "output": 34, "cacheRead": 1000, "cacheWrite": 0});
    let rows = [row(&message, "a", START_MS + 1_500)];
    let read = |gateway: &mut Gateway, now| take_history(gateway, &rows, now);
    let logged = |gateway: &mut Gateway, now| post(gateway, &json!([payload(0)]), now);
    let at = START_MS + 20_000;
    assert_eq!(counts(&[(at, &read), (at + 5_000, &logged)]), 1);
    // The hook restores a history without ids, long after its calls.
    let message = answer(0, None);
    let rows = [row(&message, "a", START_MS + 900)];
    let read = |gateway: &mut Gateway, now| take_history(gateway, &rows, now);
    let live = |gateway: &mut Gateway, now| {
        gateway.hear("before_message_write", &told(&message, "agent:main:s"), now);
    };
    for at in [START_MS + 20_000, START_MS + 700_000, START_MS + 9 * DAY_MS] {
        for later in [5_000, 700_000, DAY_MS] {
            let told: [Told; 2] = [(at, &read), (at + later, &live)];
            assert_eq!(counts(&told), 1, "{at}, {later} ms later");
        }
    }
}

#[test]
fn a_row_without_a_begin_is_identified_by_its_entry() {
    let mut message = answer(0, None);
    message["timestamp"] = Value::Null;
    let written = START_MS + 900;
    let tell = |entry: &'static str| {
        let row = row(&message, entry, written);
        move |gateway: &mut Gateway, now| gateway.hear("stored", &row, now)
    };
    let (one, other) = (tell("e-1"), tell("e-2"));
    let late = written + 70_000;
    assert_eq!(counts(&[(late, &one), (late + 900_000, &one)]), 1);
    assert_eq!(counts(&[(late, &one), (late + 900_000, &other)]), 2);
}

#[test]
fn a_batch_that_litellm_repeats_counts_once() {
    let batch = json!([payload(0)]);
    let at = START_MS + 2_000;
    let tell = |gateway: &mut Gateway, now| post(gateway, &batch, now);
    for later in [0, 3_000, 12_000, 700_000, DAY_MS] {
        let told: [Told; 3] = [
            (at, &tell),
            (at + later, &tell),
            (at + later + 12_000, &tell),
        ];
        assert_eq!(counts(&told), 1, "{later} ms later");
    }
    // Some versions generate a new answer id at each logging.
    let renamed = json!([changed(payload(0), json!({"id": "chatcmpl-2"}))]);
    let again = |gateway: &mut Gateway, now| post(gateway, &renamed, now);
    assert_eq!(counts(&[(at, &tell), (at + 12_000, &again)]), 1);
    // Without LiteLLM's id, the answer's id identifies the call.
    let bare = json!([changed(payload(0), json!({"litellm_call_id": null}))]);
    let tell_bare = |gateway: &mut Gateway, now| post(gateway, &bare, now);
    assert_eq!(counts(&[(at, &tell_bare), (at + 12_000, &tell_bare)]), 1);
}

#[test]
fn a_background_response_that_is_fetched_twice_is_one_call() {
    // The proxy reports the provider's times at each fetch.
    let response = |id: &str| {
        json!({"event": {
            "provider": "openai", "model": null, "response_model": "gpt-5", "response_id": id,
            "input": 100, "output": 10, "usage_source": "reported", "outcome": "completed",
            "started": START_MS, "ended": START_MS + 9_000, "duration": 9_000,
        }})
    };
    let fetch = |id: &'static str| {
        move |gateway: &mut Gateway, now| gateway.hear("proxied", &response(id), now)
    };
    let (one, other) = (fetch("resp_1"), fetch("resp_2"));
    let at = START_MS + 10_000;
    for later in [1_000, 60_000, DAY_MS] {
        assert_eq!(counts(&[(at, &one), (at + later, &one)]), 1, "{later}");
    }
    assert_eq!(counts(&[(at, &one), (at + 60_000, &other)]), 2);
}

#[test]
fn litellm_calls_with_equal_usage_but_other_begins_or_ids_are_two() {
    let at = START_MS + 2_000;
    let one = |gateway: &mut Gateway, now| post(gateway, &json!([payload(0)]), now);
    for other in [
        payload(5_000),
        changed(payload(0), json!({"litellm_call_id": "call-2"})),
        changed(
            payload(40),
            json!({"litellm_call_id": "call-2", "id": "chatcmpl-2"}),
        ),
    ] {
        let batch = json!([other]);
        let two = |gateway: &mut Gateway, now| post(gateway, &batch, now);
        assert_eq!(counts(&[(at, &one), (at + 5_000, &two)]), 2, "{other}");
    }
}

#[test]
fn litellm_logs_without_a_start_or_with_a_written_one_count_once() {
    let at = START_MS + 2_000;
    let written = |after_ms| iso(START_MS + after_ms);
    for times in [
        json!({"startTime": null, "completionStartTime": null}),
        json!({"startTime": null, "completionStartTime": null, "endTime": null}),
        json!({"startTime": written(0), "endTime": written(1_500)}),
        json!({"startTime": "1795918851.435", "endTime": "1795918852.935"}),
    ] {
        let batch = json!([changed(payload(0), times)]);
        let other = json!([changed(
            batch[0].clone(),
            json!({"litellm_call_id": "call-2"})
        )]);
        let one = |gateway: &mut Gateway, now| post(gateway, &batch, now);
        let two = |gateway: &mut Gateway, now| post(gateway, &other, now);
        for later in [10_000, DAY_MS] {
            assert_eq!(counts(&[(at, &one), (at + later, &one)]), 1, "{batch}");
            assert_eq!(counts(&[(at, &one), (at + later, &two)]), 2, "{batch}");
        }
    }
    let times = json!({"startTime": written(0), "endTime": written(1_500)});
    assert_eq!(log(&json!([changed(payload(0), times)])), {
        log(&json!([payload(0)]))
    });
}

#[test]
fn a_call_that_a_bridge_logs_twice_counts_once() {
    let at = START_MS + 2_000;
    let minute = 65_000;
    let bridges = [
        ("anthropic_messages", "acompletion"),
        ("aresponses", "acompletion"),
        ("acompletion", "aresponses"),
        ("agenerate_content", "acompletion"),
    ];
    for (outer, inner) in bridges {
        let outer = changed(payload(0), json!({"call_type": outer, "id": "resp_1"}));
        let inner = changed(
            payload(12),
            json!({"call_type": inner, "endTime": outer["endTime"]}),
        );
        for batch in [json!([inner, outer]), json!([outer, inner])] {
            let tell = |gateway: &mut Gateway, now| post(gateway, &batch, now);
            for later in [10_000, minute, 2 * DAY_MS] {
                let told: [Told; 2] = [(at, &tell), (at + later, &tell)];
                assert_eq!(counts(&told), 1, "{batch}, again {later} ms later");
            }
        }
        let first = |gateway: &mut Gateway, now| post(gateway, &json!([inner]), now);
        let second = |gateway: &mut Gateway, now| post(gateway, &json!([outer]), now);
        for later in [10_000, minute] {
            let told: [Told; 2] = [(at, &first), (at + later, &second)];
            assert_eq!(counts(&told), 1, "in two batches, {later} ms apart");
        }
    }
    // Calls of a client that uses one id for all its calls all count, short ones soon behind each other too.
    for took_ms in [1_500, 500] {
        let call = |after_ms: u64| {
            let ended = (START_MS + after_ms + took_ms) as f64 / 1e3;
            json!([changed(payload(after_ms), json!({"endTime": ended}))])
        };
        let (first, next) = (call(0), call(took_ms + 1));
        let one = |gateway: &mut Gateway, now| post(gateway, &first, now);
        let two = |gateway: &mut Gateway, now| post(gateway, &next, now);
        let told: [Told; 2] = [(at, &one), (at + took_ms + 1, &two)];
        assert_eq!(counts(&told), 2, "{took_ms} ms");
    }
}

#[test]
fn a_bridge_may_log_one_of_two_without_usage() {
    let at = START_MS + 2_000;
    let none =
        json!({"prompt_tokens": 0, "completion_tokens": 0, "metadata": {"usage_object": null}});
    let outer = changed(
        payload(0),
        json!({"call_type": "anthropic_messages", "id": "msg_1"}),
    );
    let bare = changed(outer, none);
    let (full, more) = (
        payload(7),
        changed(payload(7), json!({"prompt_tokens": 1300, "metadata": {}})),
    );
    for batch in [
        json!([full, bare]),
        json!([bare, full]),
        json!([bare, bare]),
    ] {
        let tell = |gateway: &mut Gateway, now| post(gateway, &batch, now);
        for later in [10_000, 65_000, 2 * DAY_MS] {
            let told: [Told; 2] = [(at, &tell), (at + later, &tell)];
            assert_eq!(counts(&told), 1, "{batch}, again {later} ms later");
        }
        let mut gateway = Gateway::new(false);
        tell(&mut gateway, at);
        gateway.restart(at + 10);
        gateway.run_until(at + 10, at + 20_000);
        let tokens = if batch[0] == batch[1] { 0 } else { 1_234 };
        let status = gateway.status();
        assert_eq!(status["requests"], 1, "{batch}");
        let totals = gateway.receiver.totals.0.values();
        let told: u64 = totals.map(|total| total.prompt + total.completion).sum();
        assert_eq!(told, tokens, "{batch}");
    }
    // A failed try is none of them, and other tokens are another call's.
    let failed = changed(bare.clone(), json!({"status": "failure"}));
    for (batch, calls) in [(json!([failed, full]), 1), (json!([full, more]), 2)] {
        let tell = |gateway: &mut Gateway, now| post(gateway, &batch, now);
        assert_eq!(counts(&[(at, &tell)]), calls, "{batch}");
    }
}

#[test]
fn polls_are_no_calls() {
    let polls = [
        "aget_responses",
        "get_responses",
        "acancel_responses",
        "adelete_responses",
        "delete_responses",
        "alist_input_items",
        "alist_responses",
        "aget_interaction",
        "acancel_interaction",
        "aretrieve_batch",
        "aretrieve_fine_tuning_job",
    ];
    let payloads: Vec<Value> = polls
        .iter()
        .map(|call_type| changed(payload(0), json!({"call_type": call_type})))
        .collect();
    let logged = log(&json!(payloads));
    assert_eq!(logged.calls.len(), 0);
    assert_eq!(
        logged.skipped.get("no_model_call"),
        Some(&(polls.len() as u32))
    );
    for call_type in [
        "completion",
        "acompletion",
        "responses",
        "aresponses",
        "anthropic_messages",
    ] {
        let made = log(&json!([changed(
            payload(0),
            json!({"call_type": call_type})
        )]));
        assert_eq!(made.calls.len(), 1, "{call_type}");
    }
}

/// OpenClaw 2026.9.6 writes up to 200 such messages when a session of another tool is continued.
#[test]
fn messages_of_a_history_imported_from_another_tool_are_no_calls() {
    let imported = changed(
        answer(0, None),
        json!({"model": "native-history", "usage": {"input": 0, "output": 0, "cacheRead": 0, "cacheWrite": 0},
            "idempotencyKey": "codex-catalog:thread-1:item-1"}),
    );
    let own = changed(answer(5, None), json!({"idempotencyKey": "r-1:assistant"}));
    let tell = |message: &Value| {
        let told = told(message, "agent:main:s");
        move |gateway: &mut Gateway, at| gateway.hear("before_message_write", &told, at)
    };
    let (imported, own) = (tell(&imported), tell(&own));
    assert_eq!(
        counts(&[(START_MS + 900, &imported), (START_MS + 950, &own)]),
        1
    );
}

/// The last 32,768 calls are recognized. Older ones are recognized by age, if the copy was written a day later.
#[test]
fn memory_is_bounded_and_old_copies_are_recognized() {
    let (kept, all) = (32_768, 70_000);
    let mut gateway = Gateway::new(false);
    let rows = |from: u64, to: u64, later_ms: u64| -> Vec<Value> {
        (from..to)
            .map(|index| {
                let message = answer(index * 10_000, None);
                let written = START_MS + index * 10_000 + 900 + later_ms;
                row(&message, &format!("{index}/{later_ms}"), written)
            })
            .collect()
    };
    let late = START_MS + 60 * DAY_MS;
    for from in (0..all).step_by(2_000) {
        take_history(&mut gateway, &rows(from, from + 2_000, 0), late);
        gateway.run_until(late, late + 1_000);
    }
    assert_eq!(requests(&gateway), all);
    gateway.engine.compact();
    gateway.write();
    let bytes: usize = gateway.disk.files().values().map(Vec::len).sum();
    assert!(bytes < 2 * kept as usize * 9 + 100_000, "{bytes} bytes");
    gateway.restart(late + 2_000);
    let again = |gateway: &mut Gateway, rows: &[Value]| {
        let before = requests(gateway);
        take_history(gateway, rows, late + 3_000);
        gateway.run_until(late + 3_000, late + 20_000);
        requests(gateway) - before
    };
    let last = rows(all - kept, all - kept + 100, 0);
    assert_eq!(again(&mut gateway, &last), 0, "they are known");
    let old = rows(0, 100, 2 * DAY_MS);
    assert_eq!(again(&mut gateway, &old), 0, "no call takes a day");
    let untold = rows(all, all + 100, 2 * DAY_MS);
    assert_eq!(again(&mut gateway, &untold), 100, "nobody told of these");
}
