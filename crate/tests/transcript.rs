//! Stored transcripts: which rows are calls, and up to which byte reading is complete.

use crate::common::stored::*;
use crate::common::{Totals, captures};
use agentwatch_openclaw::domain::call::Outcome;
use agentwatch_openclaw::sessions::transcript::{MAX_LINE, Reader, Scope, Skipped};
use serde_json::{Value, json};

// Fields of a row

#[test]
fn a_row_becomes_the_facts_of_the_table() {
    assert_eq!(rows_of(&line(&answer())), [picked(&answer())]);
    let call = &calls(&rows_of(&line(&answer())))[0];
    assert_eq!(
        (call.provider.as_str(), call.model.as_str()),
        ("mock", "m1")
    );
    let usage = call.usage.unwrap();
    assert_eq!((usage.prompt(), usage.output), (705, 21));
    assert_eq!(call.cost_usd, Some(1.0));
    assert_eq!(call.started_ms, Some(WRITTEN_MS - 200));
    assert_eq!(call.written_ms, Some(WRITTEN_MS));
    assert_eq!(call.entry.as_deref(), Some("e-1"));
    assert_eq!(call.run_id.as_deref(), Some("r-1"));
    assert_eq!(call.session_id.as_deref(), Some("s-1"));
    assert_eq!(call.agent.as_deref(), Some("main"));
    assert_eq!(call.session_key, None);
    assert!(call.is_request() && call.ends_turn && !call.inherited);
}

#[test]
fn the_session_key_is_read_where_the_store_has_it() {
    let mut reader = Reader::new(Scope {
        session_key: Some("agent:main:a \"b\"\n".into()),
        ..scope()
    });
    let rows = feed(&mut reader, &[line(&answer()).as_bytes()]);
    assert_eq!(
        calls(&rows)[0].session_key.as_deref(),
        Some("agent:main:a \"b\"\n")
    );
}

/// The title call of `/new` on 2026.3.13: input, cached input, output.
const TITLE: (u64, u64, u64) = (154, 654, 74);

#[test]
fn recorded_stores_match_the_providers_answers() {
    for capture in captures() {
        let mut totals = Totals::default();
        for call in calls(&recorded_rows(&capture.transcript)) {
            assert!(!call.inherited, "{}", capture.version);
            if call.is_request() {
                let usage = call.usage.unwrap_or_default();
                let model = format!("{}/{}", call.provider, call.model);
                let cost = call.cost_usd.unwrap_or(0.0);
                totals.add(&model, 1, usage.prompt(), usage.output, cost);
            }
        }
        let mut expected = capture.provider.clone();
        if capture.version == "2026.3.13" {
            let stored_nowhere = expected.0.get_mut("mock/mock-primary").unwrap();
            stored_nowhere.requests -= 1;
            stored_nowhere.prompt -= TITLE.0 + TITLE.1;
            stored_nowhere.completion -= TITLE.2;
            stored_nowhere.cost_usd -=
                (TITLE.0 as f64 * 3.0 + TITLE.1 as f64 * 0.3 + TITLE.2 as f64 * 15.0) / 1e6;
        }
        totals.assert_equals(&expected, capture.version);
    }
}

/// The rows of a recorded store, session by session.
fn recorded_rows(transcript: &[Value]) -> Vec<Value> {
    let mut rows = Vec::new();
    for session in transcript.chunk_by(|a, b| a["session_id"] == b["session_id"]) {
        let text: String = session.iter().map(|one| line(&one["row"])).collect();
        rows.extend(rows_of(&text));
    }
    rows
}

// ---------------------------------------------------------------------------------------------
// Which rows are calls

#[test]
fn rows_of_the_gateway_itself_are_no_calls() {
    for model in ["gateway-injected", "delivery-mirror"] {
        let mut row = with("/message/provider", json!("openclaw"));
        row["message"]["model"] = json!(model);
        assert!(rows_of(&line(&row)).is_empty(), "{model}");
        assert_eq!(skipped(&line(&row)), Skipped::default());
    }
}

/// OpenClaw 2026.9.6, `session-catalog-history-import` and `session-catalog-history`: assistant rows with zeros, and with
/// `native-history` or the item's own model. Other keys are those of OpenClaw's own runs.
#[test]
fn rows_of_a_history_imported_from_another_tool_are_no_calls() {
    let keyed = |key: &str| line(&with("/message/idempotencyKey", json!(key)));
    for key in [
        "codex-catalog:thread-1:item-1",
        "claude-catalog:t:0",
        "codex-catalog:t:continuation-notice",
    ] {
        assert!(rows_of(&keyed(key)).is_empty(), "{key}");
        assert_eq!(skipped(&keyed(key)), Skipped::default(), "{key}");
    }
    for key in [
        "r-1:assistant",
        "r:x-catalog:1",
        "-catalog:1",
        "my x-catalog:1",
        "x-catalog",
    ] {
        assert_eq!(rows_of(&keyed(key)).len(), 1, "{key}");
    }
}

#[test]
fn other_rows_are_no_calls() {
    let text = json!("the \"assistant\" said");
    for row in [
        with("/type", json!("custom_message")),
        with("/message/role", json!("user")),
        with("/message/role", json!("toolResult")),
        json!({"type": "message", "message": {"content": ["assistant"], "role": "user"}}),
        json!({"type": "compaction", "summary": text, "id": "assistant"}),
        json!({"type": "message", "message": "assistant"}),
        json!({"type": "message", "message": ["assistant"]}),
        json!({"role": "assistant"}),
        json!({}),
    ] {
        assert!(rows_of(&line(&row)).is_empty(), "{row}");
        assert_eq!(skipped(&line(&row)), Skipped::default(), "{row}");
    }
}

#[test]
fn failures_and_aborts_are_rows_but_no_requests() {
    for (reason, outcome) in [("error", Outcome::Failed), ("aborted", Outcome::Aborted)] {
        let mut row = with("/message/stopReason", json!(reason));
        row["message"]["usage"] =
            json!({"input": 0, "output": 0, "cacheRead": 0, "cacheWrite": 0, "cost": {"total": 0}});
        let call = &calls(&rows_of(&line(&row)))[0];
        assert_eq!(
            (call.outcome, call.usage, call.cost_usd),
            (outcome, None, None)
        );
        assert!(!call.is_request());
        // A billed call is a request, however it ended.
        let billed = &calls(&rows_of(&line(&with("/message/stopReason", json!(reason)))))[0];
        assert!(billed.is_request());
    }
}

#[test]
fn an_answer_without_usage_is_a_request_with_unknown_tokens() {
    for usage in [
        Value::Null,
        json!({}),
        json!({"input": 0, "output": 0}),
        json!(7),
    ] {
        let call = &calls(&rows_of(&line(&with("/message/usage", usage))))[0];
        assert_eq!(call.usage, None);
        assert!(call.is_request() && !call.broken_usage);
    }
    let call = &calls(&rows_of(&line(&with(
        "/message/usage/input",
        json!("many"),
    ))))[0];
    assert!(call.broken_usage && call.is_request());
}

#[test]
fn an_answer_without_a_model_is_counted_and_skipped() {
    for pointer in ["/message/provider", "/message/model"] {
        for value in [Value::Null, json!(" "), json!(1), json!({})] {
            let text = line(&with(pointer, value));
            assert!(rows_of(&text).is_empty());
            assert_eq!(skipped(&text).json(), r#"{"no_model":1}"#);
        }
    }
}

#[test]
fn leading_rows_older_than_their_header_are_inherited() {
    let header = |at: &str| line(&json!({"type": "session", "id": "s-1", "timestamp": at}));
    let forked = header("2026-11-23T13:15:00.000Z");
    let user = line(&with("/message/role", json!("user")));
    let own = line(&with("/timestamp", json!("2026-11-23T13:15:00.000Z")));
    let inherited = |rows: &[Value]| calls(rows).iter().map(|c| c.inherited).collect::<Vec<_>>();
    let text = forked.clone() + &user + &line(&answer()) + &line(&answer()) + &own;
    let mut reader = Reader::new(scope());
    let rows = feed(&mut reader, &[text.as_bytes()]);
    assert_eq!(inherited(&rows), [true, true, false]);
    // Rows after an own row are not inherited, even if the clock was set back.
    assert_eq!(reader.inherited_before_ms(), None);
    let later = feed(&mut reader, &[line(&answer()).as_bytes()]);
    assert_eq!(inherited(&later), [false]);

    // Reading may continue among inherited rows if the time is stored.
    let mut first = Reader::new(scope());
    feed(&mut first, &[(forked + &user).as_bytes()]);
    let mut second = Reader::new(Scope {
        inherited_before_ms: first.inherited_before_ms(),
        ..scope()
    });
    let rows = feed(&mut second, &[(line(&answer()) + &own).as_bytes()]);
    assert_eq!(inherited(&rows), [true, false]);

    // A plain session whose clock was set back before the first answer, and one without a header.
    let setting = line(&json!({"type": "model_change", "timestamp": "2026-11-23T13:15:00.001Z"}));
    let plain = header("2026-11-23T13:15:00.000Z") + &setting + &line(&answer());
    assert_eq!(inherited(&rows_of(&plain)), [false]);
    assert_eq!(inherited(&rows_of(&(user + &line(&answer())))), [false]);
}

/// OpenClaw's own usage reader dates a row without a time by its message.
#[test]
fn a_row_without_a_time_is_as_old_as_its_message() {
    let header = |at: &str| line(&json!({"type": "session", "id": "s-1", "timestamp": at}));
    let undated = line(&with("/timestamp", json!(null)));
    for (at, inherited) in [
        ("2026-11-23T13:14:33.000Z", false),
        ("2026-11-23T13:15:00.000Z", true),
    ] {
        let rows = rows_of(&(header(at) + &undated));
        assert_eq!(calls(&rows)[0].inherited, inherited, "{at}");
    }
}

/// A file system may fill the end of a file with zeros when the power is cut.
#[test]
fn zeros_before_a_row_cost_nothing() {
    let zeros = "\0".repeat(5_000);
    let text = line(&answer()) + &zeros + &line(&answer()) + &zeros + "\n" + &zeros;
    assert_eq!(rows_of(&text).len(), 2);
    assert_eq!(skipped(&text), Skipped::default());
}

// ---------------------------------------------------------------------------------------------
// Spans of time

#[test]
fn reading_ends_before_the_first_call_that_is_too_young() {
    let young = with("/timestamp", json!("2026-11-23T13:15:00.000Z"));
    let user = with("/message/role", json!("user"));
    let before = line(&answer()) + &line(&user);
    let text = before.clone() + &line(&young) + &line(&answer());
    for until_ms in [WRITTEN_MS + 1, 1_795_439_700_000] {
        let mut reader = Reader::new(Scope {
            until_ms: Some(until_ms),
            future_ms: Some(u64::MAX),
            ..scope()
        });
        assert_eq!(feed(&mut reader, &[text.as_bytes()]).len(), 1);
        assert!(reader.is_stopped());
        assert_eq!(reader.consumed(), before.len() as u64);
        assert!(feed(&mut reader, &[text.as_bytes()]).is_empty());
        assert_eq!(reader.consumed(), before.len() as u64);
    }
    // Where a row has no time of writing, the call's begin counts.
    let mut reader = Reader::new(Scope {
        until_ms: Some(WRITTEN_MS - 200),
        future_ms: Some(u64::MAX),
        ..scope()
    });
    assert!(
        feed(
            &mut reader,
            &[line(&with("/timestamp", Value::Null)).as_bytes()]
        )
        .is_empty()
    );
    assert!(reader.is_stopped());
}

#[test]
fn a_call_in_the_future_does_not_block_reading() {
    let of = |at: &str| line(&with("/timestamp", json!(at)));
    let future = of("2026-11-23T18:14:33.341Z");
    let text = line(&answer()) + &future + &line(&answer()) + &of("2026-11-23T13:15:00.000Z");
    let mut reader = Reader::new(Scope {
        until_ms: Some(WRITTEN_MS + 1),
        future_ms: Some(WRITTEN_MS + 60_000),
        ..scope()
    });
    assert_eq!(feed(&mut reader, &[text.as_bytes()]).len(), 3);
    assert!(reader.is_stopped(), "the last one is too young");
}

#[test]
fn history_leaves_out_calls_that_are_too_young() {
    let young = with("/timestamp", json!("2026-11-23T13:15:00.000Z"));
    let text = line(&answer()) + &line(&young) + &line(&answer());
    let mut reader = Reader::new(Scope {
        until_ms: Some(WRITTEN_MS + 1),
        ..scope()
    });
    assert_eq!(feed(&mut reader, &[text.as_bytes()]).len(), 2);
    assert_eq!(
        (reader.is_stopped(), reader.consumed()),
        (false, text.len() as u64)
    );
}

#[test]
fn older_calls_are_skipped_permanently() {
    let old = line(&answer());
    let mut reader = Reader::new(Scope {
        since_ms: Some(WRITTEN_MS + 1),
        ..scope()
    });
    let young = line(&with("/timestamp", json!("2026-11-23T13:15:00.000Z")));
    assert_eq!(
        feed(&mut reader, &[(old.clone() + &young).as_bytes()]).len(),
        1
    );
    assert_eq!(reader.consumed(), (old.len() + young.len()) as u64);
}

// ---------------------------------------------------------------------------------------------
// Lines

#[test]
fn chunks_may_be_cut_anywhere() {
    let other = line(&with("/message/role", json!("user"))) + "\n" + "{\"torn\n";
    let text = other + &line(&answer()) + &line(&with("/id", json!("e-2")));
    let whole = rows_of(&text);
    assert_eq!(whole.len(), 2);
    for cut in 0..=text.len() {
        let (a, b) = text.as_bytes().split_at(cut);
        let mut reader = Reader::new(scope());
        assert_eq!(feed(&mut reader, &[a, b]), whole, "cut at {cut}");
        assert_eq!(reader.consumed(), text.len() as u64);
        assert_eq!(reader.skipped(), skipped(&text));

        // The same with another reader that continues where the first one stopped.
        let mut first = Reader::new(scope());
        let mut rows = feed(&mut first, &[a]);
        let mut second = Reader::new(scope());
        rows.extend(feed(
            &mut second,
            &[&text.as_bytes()[first.consumed() as usize..]],
        ));
        assert_eq!(rows, whole, "resumed at {cut}");
    }
    for size in [1, 2, 3, 7] {
        let chunks: Vec<_> = text.as_bytes().chunks(size).collect();
        assert_eq!(feed(&mut Reader::new(scope()), &chunks), whole);
    }
}

/// A line without a call is not buffered once that is known, which depends on the cuts; the result does not.
#[test]
fn long_lines_without_calls_read_the_same_wherever_they_are_cut() {
    let padding = "x".repeat(3_000);
    let user = with("/message/role", json!("user"));
    let mut long = user.clone();
    long["message"]["content"] = json!(padding);
    let long = long.to_string();
    let header = line(&json!({"type": "session", "id": "s-1", "timestamp": WRITTEN}));
    // A user's message as the first own row, and an answer after it with the clock set back.
    let forked =
        header + &long + "\n" + &line(&with("/timestamp", json!("2026-11-23T13:14:33.000Z")));
    let broken = line(&user) + &long[..2_900] + "\n" + &line(&answer());
    let behind = line(&user) + &long + "\"assistant\"\n" + &line(&answer());
    for (text, malformed) in [(forked, 0), (broken, 1), (behind, 1)] {
        let whole = rows_of(&text);
        assert_eq!((whole.len(), skipped(&text).malformed), (1, malformed));
        for cut in 0..=text.len() {
            let (a, b) = text.as_bytes().split_at(cut);
            let mut reader = Reader::new(scope());
            assert_eq!(feed(&mut reader, &[a, b]), whole, "cut at {cut}");
            assert_eq!(reader.skipped(), skipped(&text), "cut at {cut}");
        }
    }
}

#[test]
fn an_incomplete_last_line_waits_unless_the_file_is_finished() {
    let text = answer().to_string();
    let mut reader = Reader::new(scope());
    assert!(feed(&mut reader, &[text.as_bytes()]).is_empty());
    assert_eq!(reader.consumed(), 0);
    let mut rows = String::new();
    reader.finish(&mut rows);
    assert_eq!(
        serde_json::from_str::<Value>(&rows).unwrap(),
        picked(&answer())
    );
    assert_eq!(reader.consumed(), text.len() as u64);
}

#[test]
fn broken_lines_are_counted_and_affect_only_themselves() {
    let good = line(&answer());
    let half = &good[..good.len() / 2];
    let deep = format!(
        "{{\"type\":\"message\",\"x\":{}\"assistant\"",
        "[".repeat(100_000)
    );
    for (broken, reason) in [
        (half, "malformed"),
        ("{\"assistant\":", "malformed"),
        ("\"assistant\"", "malformed"),
        ("{\"a\":\"assistant\"} {}", "malformed"),
        ("{\"a\":\"assistant\",}", "malformed"),
        ("{\"a\":[\"assistant\"}]", "malformed"),
        ("{\"a\":01,\"b\":\"assistant\"}", "malformed"),
        ("{\"a\":NaN,\"b\":\"assistant\"}", "malformed"),
        ("{\"a\":\"\\x\",\"b\":\"assistant\"}", "malformed"),
        ("{\"a\":\"\u{1}\",\"b\":\"assistant\"}", "malformed"),
        ("garbage", "malformed"),
        (&deep, "malformed"),
    ] {
        let text = good.clone() + broken + "\n" + &good;
        assert_eq!(rows_of(&text).len(), 2, "{broken:.60}");
        assert_eq!(
            skipped(&text).json(),
            format!("{{\"{reason}\":1}}"),
            "{broken:.60}"
        );
    }
    // A truncated line, directly followed by the next one.
    let glued = half.to_owned() + &good + &good;
    assert_eq!(rows_of(&glued).len(), 1);
    assert_eq!(skipped(&glued).malformed, 1);
    assert_eq!(skipped("\n\r\n  \n"), Skipped::default());
}

#[test]
fn nesting_of_a_row_has_no_limit() {
    let deep = "[".repeat(100_000) + &"]".repeat(100_000);
    for place in [
        "\"x\":",
        "\"message\":{\"x\":",
        "\"message\":{\"usage\":{\"x\":",
    ] {
        let end = "}".repeat(place.matches('{').count());
        let row = format!("{{{place}{deep}{end},{}", &line(&answer())[1..]);
        assert_eq!(rows_of(&row), [picked(&answer())], "{place}");
    }
    let usage = line(&with("/message/usage", json!("@"))).replace("\"@\"", &deep);
    assert_eq!(calls(&rows_of(&usage))[0].usage, None);
}

#[test]
fn a_too_long_line_is_skipped_and_counted_wherever_it_is_cut() {
    let long = format!("{{\"x\":\"{}\",\"assistant\":1}}\n", "a".repeat(MAX_LINE));
    let text = line(&answer()) + &long + &line(&answer());
    let mark = text.find("\"assistant\":1").unwrap();
    let mut cuts: Vec<usize> = (mark - 2..mark + 13).collect();
    cuts.extend([0, 1, mark - MAX_LINE, text.len()]);
    for cut in cuts {
        let (a, b) = text.as_bytes().split_at(cut);
        let mut reader = Reader::new(scope());
        assert_eq!(feed(&mut reader, &[a, b]).len(), 2, "cut at {cut}");
        assert_eq!(reader.skipped().json(), r#"{"too_long":1}"#, "cut at {cut}");
    }
    let mut reader = Reader::new(scope());
    let chunks: Vec<_> = text.as_bytes().chunks(7).collect();
    for chunk in chunks {
        reader.feed(chunk, &mut String::new());
    }
    assert_eq!(reader.skipped().json(), r#"{"too_long":1}"#);
    assert_eq!(reader.consumed(), text.len() as u64);
}

#[test]
fn a_too_long_line_takes_bounded_memory() {
    let head = "{\"x\":\"";
    let mut reader = Reader::new(scope());
    let mut rows = feed(&mut reader, &[line(&answer()).as_bytes(), head.as_bytes()]);
    let filler = vec![b'a'; 256 * 1024];
    for _ in 0..=MAX_LINE / filler.len() {
        rows.extend(feed(&mut reader, &[&filler]));
    }
    rows.extend(feed(
        &mut reader,
        &[b"\",\"assistant\":1}\n", line(&answer()).as_bytes()],
    ));
    assert_eq!(rows.len(), 2);
    assert_eq!(reader.skipped().json(), r#"{"too_long":1}"#);
}

#[test]
fn a_long_line_without_a_call_is_not_buffered() {
    let mut reader = Reader::new(scope());
    feed(
        &mut reader,
        &[b"{\"type\":\"message\",\"message\":{\"role\":\"toolResult\",\"content\":\""],
    );
    let filler = vec![b'a'; 256 * 1024];
    for _ in 0..=MAX_LINE / filler.len() {
        feed(&mut reader, &[&filler]);
    }
    assert_eq!(
        feed(&mut reader, &[b"\"}}\n", line(&answer()).as_bytes()]).len(),
        1
    );
    assert_eq!(reader.skipped(), Skipped::default());
}
