//! Turns, messages, tools and commands as traces, logs and metrics.

use crate::watched::{Watched, answer, assert_sound, names, received, sent, tool, user};
use proptest::prelude::*;
use serde_json::{Value, json};

#[test]
fn a_turn_is_one_trace_with_its_calls_tools_and_delivery() {
    let mut gateway = Watched::new();
    let session = "agent:main:telegram:direct:7";
    gateway.hear("message_received", &received(Some(session), "7", "hello"));
    gateway.hear("before_message_write", &user(session));
    gateway.hear(
        "run.started",
        &json!({"event": {"sessionKey": session, "runId": "44822069-6d64-48c5-a25d-b7b4cf2c6b7d", "trigger": "user"}}),
    );
    gateway.wait(200);
    gateway.hear(
        "before_message_write",
        &answer(session, "m1", "toolUse", gateway.now_ms - 150),
    );
    gateway.hear("before_tool_call", &tool(session, "t1", None));
    gateway.wait(30);
    gateway.hear("after_tool_call", &tool(session, "t1", Some(30)));
    gateway.wait(200);
    gateway.hear(
        "before_message_write",
        &answer(session, "m1", "stop", gateway.now_ms - 150),
    );
    gateway.wait(20);
    gateway.hear("message_sent", &sent(Some(session), "7", true));
    gateway.wait(10_000);
    let traces = gateway.sent("traces");
    assert_sound(&traces);
    assert_eq!(traces.len(), 1, "{traces:?}");
    assert_eq!(
        names(&traces[0]),
        [
            "conversation:telegram",
            "chat m1",
            "execute_tool read",
            "chat m1",
            "deliver:telegram"
        ]
        .map(str::to_owned)
        .iter()
        .map(String::as_str)
        .collect::<Vec<_>>()
    );
    assert_eq!(traces[0]["agent_name"], "main");
    assert_eq!(traces[0]["metadata"]["trigger"], "user");
    assert_eq!(gateway.sent("model_usage").len(), 2);
}

#[test]
fn a_run_that_continues_with_its_fallback_is_one_trace() {
    let mut gateway = Watched::new();
    let session = "agent:main:x";
    let run =
        json!({"event": {"sessionKey": session, "runId": "44822069-6d64-48c5-a25d-b7b4cf2c6b7d"}});
    for (model, stop) in [("m1", "error"), ("m1", "error"), ("m2", "stop")] {
        gateway.hear("run.started", &run);
        gateway.wait(100);
        gateway.hear(
            "before_message_write",
            &answer(session, model, stop, gateway.now_ms - 90),
        );
        gateway.wait(1_500);
    }
    gateway.wait(10_000);
    let traces = gateway.sent("traces");
    assert_sound(&traces);
    assert_eq!(traces.len(), 1);
    assert_eq!(traces[0]["status"], "completed");
    let metrics = gateway.sent("metrics");
    assert_eq!(metrics.len(), 2, "two model_errors");
    assert!(
        metrics.iter().all(|metric| metric["agent_name"] == "main"),
        "{metrics:?}"
    );
}

#[test]
fn a_message_without_a_session_is_a_trace_with_its_response_time() {
    let mut gateway = Watched::new();
    gateway.hear("message_received", &received(None, "7", "hello"));
    gateway.wait(1_234);
    gateway.hear("message_sent", &sent(None, "7", true));
    gateway.close();
    let traces = gateway.sent("traces");
    assert_sound(&traces);
    assert_eq!(
        names(&traces[0]),
        ["conversation:telegram", "deliver:telegram"]
    );
    assert_eq!(traces[0]["duration_ms"], 1_234);
    let metrics = gateway.sent("metrics");
    let named = |name: &str| metrics.iter().filter(|m| m["name"] == name).count();
    assert_eq!(
        (
            named("messages_received"),
            named("messages_sent"),
            named("response_time_ms")
        ),
        (1, 1, 1)
    );
}

#[test]
fn a_failed_delivery_is_a_failed_trace_and_a_log_without_the_errors_text() {
    let mut gateway = Watched::new();
    gateway.hear("message_sent", &sent(None, "7", false));
    gateway.close();
    let traces = gateway.sent("traces");
    assert_eq!(traces[0]["status"], "failed");
    let logs = gateway.sent("logs");
    assert_eq!(logs[0]["level"], "error");
    assert!(!gateway.bodies.join("").contains("Mustermann"));
}

#[test]
fn a_second_delivery_of_a_turn_is_reported_too() {
    let mut gateway = Watched::new();
    let session = "agent:main:x";
    gateway.hear("message_received", &received(Some(session), "7", "hello"));
    for _ in 0..3 {
        gateway.hear("message_sent", &sent(Some(session), "7", true));
    }
    gateway.close();
    assert_eq!(gateway.sent("traces").len(), 3);
    assert_sound(&gateway.sent("traces"));
}

#[test]
fn a_command_is_a_log_and_a_trace() {
    let mut gateway = Watched::new();
    gateway.hear(
        "command",
        &json!({"event": {"type": "command", "action": "new", "sessionKey": "agent:main:+4915112345678",
            "context": {"commandSource": "telegram", "senderId": "4915112345678"}}}),
    );
    gateway.close();
    assert_eq!(names(&gateway.sent("traces")[0]), ["command:new"]);
    assert_eq!(gateway.sent("logs")[0]["message"], "Command: /new");
    assert!(!gateway.bodies.join("").contains("4915112345678"));
}

#[test]
fn a_start_is_reported_once_however_many_hooks_report_it() {
    let mut gateway = Watched::new();
    for source in ["gateway_start", "gateway:startup", "gateway_start"] {
        gateway.hear(source, &json!({"event": {}}));
    }
    gateway.close();
    assert_eq!(gateway.sent("health").len(), 1);
    assert_eq!(gateway.sent("logs").len(), 1);
}

#[test]
fn a_cron_jobs_run_is_reported_when_it_ends() {
    let mut gateway = Watched::new();
    let event = |action: &str| {
        json!({"event": {"action": action, "jobId": "j1", "agentId": "main", "status": "error", "durationMs": 500,
            "error": "secret text", "job": {"name": "nightly"}}})
    };
    for action in ["added", "started", "finished"] {
        gateway.hear("cron_changed", &event(action));
    }
    gateway.close();
    let runs = gateway.sent("cron_runs");
    assert_eq!(runs.len(), 1);
    assert_eq!(
        (&runs[0]["job_name"], &runs[0]["status"]),
        (&json!("nightly"), &json!("error"))
    );
    assert!(!gateway.bodies.join("").contains("secret text"));
}

#[test]
fn a_reported_conversation_is_a_trace_with_its_calls() {
    let mut gateway = Watched::new();
    gateway.hear(
        "conversation:start",
        &json!({"event": {"conversationId": "c1", "channel": "whatsapp"}}),
    );
    gateway.wait(500);
    gateway.hear(
        "model:used",
        &json!({"event": {"model": "openai/gpt", "promptTokens": 7, "completionTokens": 3, "latencyMs": 400, "conversationId": "c1"}}),
    );
    gateway.wait(1_500);
    gateway.hear(
        "conversation:end",
        &json!({"event": {"conversationId": "c1", "status": "error"}}),
    );
    gateway.wait(10_000);
    let traces = gateway.sent("traces");
    assert_sound(&traces);
    assert_eq!(names(&traces[0]), ["conversation:whatsapp", "chat gpt"]);
    assert_eq!(traces[0]["status"], "failed");
}

#[test]
fn a_tool_without_an_end_ends_with_its_turn() {
    let mut gateway = Watched::new();
    gateway.hear("before_tool_call", &tool("agent:main:x", "t1", None));
    gateway.wait(700_000);
    let traces = gateway.sent("traces");
    assert_sound(&traces);
    assert_eq!(traces[0]["spans"][1]["status"], "failed");
}

/// A random event of a session.
fn happening(session: &str, kind: u8, now_ms: u64) -> (&'static str, Value) {
    let work = |state: &str, reason: &str| json!({"event": {"sessionKey": session, "state": state, "reason": reason}});
    match kind {
        0 => (
            "message_received",
            received(Some(session), session, "hello"),
        ),
        1 => ("before_message_write", user(session)),
        2 => (
            "run.started",
            json!({"event": {"sessionKey": session, "runId": "r", "trigger": "user"}}),
        ),
        3 => (
            "before_message_write",
            answer(session, "m1", "toolUse", now_ms - 40),
        ),
        4 => (
            "before_message_write",
            answer(session, "m1", "stop", now_ms - 90),
        ),
        5 => (
            "before_message_write",
            answer(session, "m2", "error", now_ms - 10),
        ),
        6 => ("before_tool_call", tool(session, "t1", None)),
        7 => ("after_tool_call", tool(session, "t1", Some(50))),
        8 => ("after_tool_call", tool(session, "t2", Some(5_000))),
        9 => ("message_sent", sent(Some(session), session, true)),
        10 => ("message_sent", sent(None, session, false)),
        11 => (
            "session_end",
            json!({"event": {"sessionKey": session, "reason": "new"}}),
        ),
        12 => (
            "run.completed",
            json!({"event": {"sessionKey": session, "runId": "r"}}),
        ),
        13 => (
            "conversation:start",
            json!({"event": {"conversationId": session}}),
        ),
        14 => (
            "conversation:end",
            json!({"event": {"conversationId": session, "durationMs": 900}}),
        ),
        15 => ("message.delivery.started", work("", "")),
        16 => ("message.delivery.completed", work("", "")),
        17 => ("message.delivery.error", work("", "")),
        18 => ("session.state", work("processing", "message_start")),
        19 => ("session.state", work("idle", "message_completed")),
        20 => ("session.state", work("processing", "run_started")),
        _ => ("session.state", work("idle", "run_completed")),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn traces_are_well_formed_for_any_events_in_any_order(
        steps in proptest::collection::vec((0u8..3, 0u8..22, prop_oneof![Just(0u64), 1u64..300, 2_000u64..9_000, Just(700_000)]), 0..60)
    ) {
        let mut gateway = Watched::new();
        for (session, kind, wait_ms) in steps {
            let session = format!("agent:main:direct:+49151000{session}");
            let (source, args) = happening(&session, kind, gateway.now_ms);
            gateway.hear(source, &args);
            gateway.wait(wait_ms);
        }
        gateway.close();
        assert_sound(&gateway.sent("traces"));
        let all = gateway.bodies.join("");
        prop_assert!(!all.contains("49151000"), "a phone number left");
        prop_assert!(!all.contains("hello"), "a message's text left");
        prop_assert!(!all.contains("running"));
    }
}
