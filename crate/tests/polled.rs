//! Sessions from a gateway's API become calls, each once.

use crate::common::stored;
use agentwatch_openclaw::domain::call::Outcome;
use agentwatch_openclaw::sessions::polled::{Look, Mark, Wanted, look};
use agentwatch_openclaw::sources::stored::StoredCall;
use serde_json::{Value, json};

/// The begin of the made-up session, in ms since 1970.
const BEGUN: u64 = 1_795_000_000_000;

/// A call of that session: begin and end (in ms after the session's begin), and tokens.
#[derive(Clone, Copy)]
struct Made(u64, u64, [u64; 4]);

fn call(n: u64) -> Made {
    Made(n * 1_000, n * 1_000 + 400, [100 + n, 20 + n, 600 + n, 0])
}

fn calls(numbers: std::ops::RangeInclusive<u64>) -> Vec<Made> {
    numbers.map(call).collect()
}

/// The answer to `sessions.usage.timeseries` in OpenClaw's format: neighbours are merged beyond 200 points.
fn series(made: &[Made], tells_begin: bool) -> String {
    let step = made.len().div_ceil(200).max(1);
    let points: Vec<Value> = made
        .chunks(step)
        .map(|chunk| {
            let all = |index: usize| chunk.iter().map(|Made(_, _, t)| t[index]).sum::<u64>();
            let Made(begun, ended, _) = chunk[chunk.len() - 1];
            json!({
                "timestamp": BEGUN + if tells_begin { begun } else { ended },
                "input": all(0), "output": all(1), "cacheRead": all(2), "cacheWrite": all(3),
                "totalTokens": all(0) + all(1) + all(2) + all(3),
                "cost": all(1) as f64 / 1_000.0,
            })
        })
        .collect();
    json!({"type": "res", "id": "1", "ok": true, "payload": {"sessionId": "s", "points": points}})
        .to_string()
}

/// A message in 2026.3.13's history, without an id.
fn old(Made(begun, _, [input, output, read, write]): Made) -> Value {
    json!({
        "role": "assistant", "content": [{"type": "text", "text": "what people wrote"}],
        "provider": "mock", "model": format!("m{}", input % 2), "stopReason": "stop", "timestamp": BEGUN + begun,
        "usage": {"input": input, "output": output, "cacheRead": read, "cacheWrite": write,
            "cost": {"total": output as f64 / 1_000.0}},
    })
}

/// The same in newer gateways' history.
fn new(made: Made) -> Value {
    let mut message = old(made);
    message["responseId"] = json!(format!("r{}", made.0));
    message["__openclaw"] =
        json!({"id": format!("e{}", made.0), "runId": "run", "recordTimestampMs": BEGUN + made.1});
    message
}

fn history(messages: Vec<Value>) -> Vec<String> {
    let mut all = vec![json!({"role": "user", "content": "hello", "usage": "none"})];
    all.extend(messages);
    vec![json!({"type": "res", "ok": true, "payload": {"messages": all}}).to_string()]
}

fn wanted() -> Wanted {
    Wanted {
        session_key: "agent:main:x".to_owned(),
        agent: Some("main".to_owned()),
        provider: Some("mock".to_owned()),
        model: Some("last".to_owned()),
        since_ms: 0,
    }
}

/// The calls of a result, as the engine reads them.
fn told(look: &Look) -> Vec<StoredCall> {
    let rows = look
        .calls
        .iter()
        .map(|call| serde_json::from_str(call.row.get()).unwrap());
    stored::calls(&rows.collect::<Vec<Value>>())
}

fn output_of(look: &Look) -> Vec<u64> {
    let calls = told(look);
    calls
        .iter()
        .map(|call| call.usage.unwrap_or_default().output)
        .collect()
}

fn outputs(made: &[Made]) -> Vec<u64> {
    made.iter().map(|Made(_, _, tokens)| tokens[1]).collect()
}

type Shown = fn(Made) -> Value;

/// Both kinds of gateways: the format of messages, and whether a point's time is the begin.
const GATEWAYS: [(Shown, bool); 3] = [(old, false), (new, false), (new, true)];

#[test]
fn each_call_is_reported_once_with_its_names() {
    for (shown, tells_begin) in GATEWAYS {
        let mut mark = Mark::default();
        let mut seen = Vec::new();
        let mut models = Vec::new();
        for count in [1, 1, 2, 5, 5, 100, 101, 140, 199, 200] {
            let made = calls(1..=count);
            let messages = made.iter().map(|made| shown(*made)).collect();
            let look = look(
                &series(&made, tells_begin),
                &history(messages),
                &wanted(),
                mark,
            )
            .unwrap();
            seen.extend(output_of(&look));
            models.extend(told(&look).into_iter().map(|call| call.model));
            mark = Mark::parse(&look.mark);
            assert!(
                !look.is_rewritten && look.sums == 0 && look.untold == 0,
                "{count}: {look:?}"
            );
        }
        assert_eq!(seen, outputs(&calls(1..=200)));
        assert_eq!(models[..3], ["m1", "m0", "m1"]);
    }
}

#[test]
fn a_call_has_the_facts_of_its_row() {
    let made = [call(7)];
    let look = look(
        &series(&made, true),
        &history(vec![new(made[0])]),
        &wanted(),
        Mark::default(),
    )
    .unwrap();
    let call = told(&look).remove(0);
    let usage = call.usage.unwrap();
    let tokens = [
        usage.input,
        usage.output,
        usage.cache_read,
        usage.cache_write,
    ];
    assert_eq!((tokens, call.cost_usd), ([107, 27, 607, 0], Some(0.027)));
    assert_eq!(
        (call.started_ms, call.written_ms),
        (Some(BEGUN + 7_000), Some(BEGUN + 7_400))
    );
    let names = [&*call.provider, &call.model];
    assert_eq!(names, ["mock", "m1"]);
    let ids = [
        call.response_id,
        call.entry,
        call.run_id,
        call.session_id,
        call.agent,
        call.session_key,
    ];
    let ids = ids.map(Option::unwrap_or_default);
    assert_eq!(ids, ["r7000", "e7000", "run", "s", "main", "agent:main:x"]);
    let compared = &look.calls[0];
    assert_eq!(
        (compared.prompt, compared.completion, compared.written),
        (714, 27, BEGUN + 7_400)
    );
}

#[test]
fn merged_points_are_split_into_calls() {
    for (shown, tells_begin) in GATEWAYS {
        let mut mark = Mark::default();
        let mut seen = Vec::new();
        // The gateway merges two calls, then three, then four; one, several and no calls are new.
        for count in [150, 201, 202, 202, 203, 260, 399, 400, 401, 402, 601, 700] {
            let made = calls(1..=count);
            // Only the last 300 messages are shown.
            let messages = made
                .iter()
                .rev()
                .take(300)
                .rev()
                .map(|made| shown(*made))
                .collect();
            let look = look(
                &series(&made, tells_begin),
                &history(messages),
                &wanted(),
                mark,
            )
            .unwrap();
            assert!(!look.is_rewritten && look.sums == 0, "{count}: {look:?}");
            seen.extend(output_of(&look));
            mark = Mark::parse(&look.mark);
        }
        assert_eq!(seen, outputs(&calls(1..=700)));
    }
}

#[test]
fn calls_without_a_message_are_reported_as_sums() {
    let made = calls(1..=1_000);
    let messages = made.iter().skip(700).map(|made| new(*made)).collect();
    let look = look(
        &series(&made, true),
        &history(messages),
        &wanted(),
        Mark::default(),
    )
    .unwrap();
    // 700 calls in points of five, and 300 single ones.
    assert_eq!((look.sums, look.calls.len()), (140, 440));
    assert_eq!(
        output_of(&look).iter().sum::<u64>(),
        outputs(&made).iter().sum::<u64>()
    );
    let cost: f64 = told(&look).iter().filter_map(|call| call.cost_usd).sum();
    let expected = outputs(&made).iter().sum::<u64>() as f64 / 1_000.0;
    assert!((cost - expected).abs() < 1e-6, "{cost} {expected}");
}

#[test]
fn a_call_without_a_shown_message_counts() {
    for (shown, tells_begin) in GATEWAYS {
        for count in [3, 250] {
            let made = calls(1..=count);
            let mut mark = Mark::default();
            let mut tokens = 0;
            for upto in [count - 1, count] {
                let made = &made[..upto as usize];
                // A silent reply.
                let messages = made
                    .iter()
                    .filter(|Made(_, _, t)| t[1] != 20 + count)
                    .map(|made| shown(*made));
                let look = look(
                    &series(made, tells_begin),
                    &history(messages.collect()),
                    &wanted(),
                    mark,
                )
                .unwrap();
                tokens += output_of(&look).iter().sum::<u64>();
                mark = Mark::parse(&look.mark);
                if upto == count {
                    assert_eq!(look.calls.len(), 1);
                    assert_eq!(told(&look)[0].model, "last");
                    assert_eq!(look.unnamed + look.sums, 1);
                }
            }
            assert_eq!(tokens, outputs(&made).iter().sum::<u64>());
        }
    }
}

#[test]
fn equal_calls_without_messages_are_different_calls() {
    // A cron job that answers in silence, in a session of its own each hour.
    let keys: Vec<_> = [0, 3_600_000]
        .into_iter()
        .map(|later| {
            let Made(begun, ended, tokens) = call(1);
            let made = [Made(begun + later, ended + later, tokens)];
            let nothing = history(Vec::new());
            let look = look(&series(&made, false), &nothing, &wanted(), Mark::default()).unwrap();
            let [call] = <[StoredCall; 1]>::try_from(told(&look)).unwrap();
            call.into_observation(0).call_key
        })
        .collect();
    assert!(keys[0].is_some() && keys[0] != keys[1], "{keys:?}");
}

#[test]
fn a_message_newer_than_the_series_waits_for_it() {
    for (shown, tells_begin) in GATEWAYS {
        for count in [5, 250] {
            let (mut mark, mut seen) = (Mark::default(), Vec::new());
            for (known, shows) in [
                (count, count + 2),
                (count + 1, count + 3),
                (count + 4, count + 4),
            ] {
                let messages = calls(1..=shows).into_iter().map(shown).collect();
                let look = look(
                    &series(&calls(1..=known), tells_begin),
                    &history(messages),
                    &wanted(),
                    mark,
                )
                .unwrap();
                assert_eq!(look.sums, 0);
                seen.extend(output_of(&look));
                mark = Mark::parse(&look.mark);
            }
            assert_eq!(seen, outputs(&calls(1..=count + 4)));
        }
    }
}

#[test]
fn calls_without_usage_are_reported_by_their_messages() {
    let zero = Made(2_000, 2_400, [0; 4]);
    let made = [
        call(1),
        zero,
        Made(3_000, 3_400, [0; 4]),
        Made(4_000, 4_400, [0; 4]),
        call(5),
    ];
    let mut failed = old(made[2]);
    failed["stopReason"] = json!("error");
    let mut injected = old(made[3]);
    injected["provider"] = json!("openclaw");
    let messages = vec![old(made[0]), old(zero), failed, injected, old(made[4])];
    let look = look(
        &series(&made, true),
        &history(messages),
        &wanted(),
        Mark::default(),
    )
    .unwrap();
    // The engine decides whether a call without tokens counts; the gateway's own messages are no calls.
    let outcomes: Vec<_> = told(&look).iter().map(|call| call.outcome).collect();
    let completed = Outcome::Completed;
    assert_eq!(outcomes, [completed, completed, Outcome::Failed, completed]);
    let mark = Mark::parse(&look.mark);
    let again =
        agentwatch_openclaw::sessions::polled::look(&series(&made, true), &[], &wanted(), mark)
            .unwrap();
    assert!(again.calls.is_empty());
    let unshown = agentwatch_openclaw::sessions::polled::look(
        &series(&made, true),
        &[],
        &wanted(),
        Mark::default(),
    )
    .unwrap();
    assert_eq!((unshown.calls.len(), unshown.untold), (2, 3));
}

#[test]
fn old_calls_are_skipped_permanently() {
    let made = calls(1..=4);
    let messages = || history(calls(1..=4).into_iter().map(new).collect());
    let late = Wanted {
        since_ms: BEGUN + 3_000,
        ..wanted()
    };
    let first = look(&series(&made, true), &messages(), &late, Mark::default()).unwrap();
    assert_eq!(output_of(&first), [23, 24]);
    let mark = Mark::parse(&first.mark);
    let second = look(&series(&made, true), &messages(), &wanted(), mark).unwrap();
    assert!(second.calls.is_empty());
}

#[test]
fn setting_the_clock_back_loses_no_call() {
    let before = [call(10), call(11)];
    let first = look(&series(&before, false), &[], &wanted(), Mark::default()).unwrap();
    let mut after = vec![call(3), call(4)];
    after.extend(before);
    let second = look(
        &series(&after, false),
        &[],
        &wanted(),
        Mark::parse(&first.mark),
    )
    .unwrap();
    assert_eq!(
        (output_of(&second), second.is_rewritten),
        (vec![23, 24], false)
    );
}

#[test]
fn calls_of_a_truncated_transcript_are_separated_by_time() {
    let first = look(
        &series(&calls(1..=9), false),
        &[],
        &wanted(),
        Mark::default(),
    )
    .unwrap();
    let second = look(
        &series(&calls(6..=12), false),
        &[],
        &wanted(),
        Mark::parse(&first.mark),
    )
    .unwrap();
    assert_eq!(
        (output_of(&second), second.is_rewritten),
        (outputs(&calls(10..=12)), true)
    );
    let third = look(
        &series(&calls(6..=13), false),
        &[],
        &wanted(),
        Mark::parse(&second.mark),
    )
    .unwrap();
    assert_eq!(
        (output_of(&third), third.is_rewritten),
        (outputs(&calls(13..=13)), false)
    );
}

#[test]
fn equal_calls_all_count() {
    let same = |n: u64| Made(n * 1_000, n * 1_000 + 400, [5, 6, 7, 8]);
    let (mut mark, mut count) = (Mark::default(), 0);
    for upto in [1, 2, 2, 7, 120, 230, 300] {
        let made: Vec<Made> = (1..=upto).map(same).collect();
        let messages = made.iter().map(|made| new(*made)).collect();
        let look = look(&series(&made, true), &history(messages), &wanted(), mark).unwrap();
        count += look.calls.len();
        mark = Mark::parse(&look.mark);
        assert_eq!(count as u64, upto);
    }
}

#[test]
fn an_invalid_answer_is_refused_and_odd_counts_affect_only_themselves() {
    for text in [
        "",
        "{}",
        "[]",
        r#"{"payload": {"points": 5}}"#,
        r#"{"payload": {}}"#,
    ] {
        assert!(
            look(text, &[], &wanted(), Mark::default()).is_err(),
            "{text}"
        );
    }
    let odd = r#"{"payload": {"points": [
        {"timestamp": 5, "input": -1, "output": 7, "cacheRead": "x", "cacheWrite": 1e300, "cost": null},
        {"timestamp": "x", "input": 5}, {"timestamp": 9, "output": 3}
    ]}}"#;
    let look = look(
        odd,
        &["{\"payload\": {}}".to_owned()],
        &wanted(),
        Mark::default(),
    )
    .unwrap();
    assert_eq!(output_of(&look), [7, 3]);
    for mark in ["", "x", "1 2 3", "1 2 3 4 5 x 7"] {
        assert_eq!(Mark::parse(mark), Mark::default());
    }
}
