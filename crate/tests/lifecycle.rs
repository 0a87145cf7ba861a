//! Turns, messages, tools and commands as traces, logs and metrics.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use std::collections::HashSet;

use agentwatch_openclaw::answer::Reply;
use agentwatch_openclaw::core::Core;
use agentwatch_openclaw::observe::SOURCES;
use common::{at, pick, settings};
use proptest::prelude::*;
use serde_json::{Value, json};

const START_MS: u64 = 1_795_000_000_000;

/// A core whose records are kept as they were sent.
struct Watched {
    core: Core,
    bodies: Vec<String>,
    now_ms: u64,
}

impl Watched {
    fn new() -> Self {
        let raw = settings(
            r#"{"url": "http://receiver.test", "identityKey": "00112233445566778899aabbccddeeff"}"#,
        );
        Self {
            core: Core::new(&raw, 11),
            bodies: Vec::new(),
            now_ms: START_MS,
        }
    }

    fn hear(&mut self, source: &str, args: &Value) {
        for (index, table) in SOURCES.iter().enumerate() {
            if table.source == source
                && let Some(facts) = pick(index, args)
            {
                self.core.observe(index, facts, at(self.now_ms));
            }
        }
        self.send();
    }

    fn wait(&mut self, ms: u64) {
        self.now_ms += ms;
        self.send();
    }

    fn send(&mut self) {
        self.core.advance(at(self.now_ms));
        let upto = self.core.take_writes().upto;
        self.core.written(upto);
        while let Some(request) = self.core.begin(at(self.now_ms), true) {
            self.bodies.extend(request.body.clone());
            let reply = Reply::of(200, r#"{"status": "ok", "features": ["record_ids"]}"#);
            self.core.answered(&reply, at(self.now_ms));
        }
    }

    /// Ends everything, and gives what was sent of a kind.
    fn close(&mut self) {
        self.core.close(at(self.now_ms));
        self.send();
    }

    fn sent(&self, kind: &str) -> Vec<Value> {
        self.bodies
            .iter()
            .map(|body| serde_json::from_str::<Value>(body).unwrap())
            .flat_map(|batch| batch[kind].as_array().cloned().unwrap_or_default())
            .collect()
    }
}

fn answer(session: &str, model: &str, stop: &str, started_ms: u64) -> Value {
    json!({
        "event": {"message": {"role": "assistant", "provider": "mock", "model": model,
            "usage": {"input": 10, "output": 5, "cacheRead": 0, "cacheWrite": 0, "cost": {"total": 0.001}},
            "stopReason": stop, "timestamp": started_ms}},
        "ctx": {"sessionKey": session, "agentId": "main"},
    })
}

fn user(session: &str) -> Value {
    json!({"event": {"message": {"role": "user"}}, "ctx": {"sessionKey": session, "agentId": "main"}})
}

fn received(session: Option<&str>, conversation: &str, text: &str) -> Value {
    json!({
        "event": {"content": text, "from": "+4915112345678", "sessionKey": session},
        "ctx": {"channelId": "telegram", "conversationId": conversation},
    })
}

fn sent(session: Option<&str>, conversation: &str, success: bool) -> Value {
    let error = (!success).then_some("403: the bot was blocked by Erika Mustermann");
    json!({
        "event": {"content": "an answer", "to": "+4915112345678", "success": success,
            "sessionKey": session, "error": error},
        "ctx": {"channelId": "telegram", "conversationId": conversation},
    })
}

fn tool(session: &str, id: &str, end: Option<u64>) -> Value {
    json!({
        "event": {"toolName": "read", "toolCallId": id, "durationMs": end},
        "ctx": {"sessionKey": session},
    })
}

fn names(trace: &Value) -> Vec<&str> {
    let spans = trace["spans"].as_array().unwrap();
    spans
        .iter()
        .map(|span| span["name"].as_str().unwrap())
        .collect()
}

/// What every trace must be: one root, first; every other span below it and within its time.
fn assert_sound(traces: &[Value]) {
    let mut ids = HashSet::new();
    for trace in traces {
        assert!(
            ids.insert(trace["id"].as_str().unwrap().to_owned()),
            "a trace was sent twice"
        );
        let spans = trace["spans"].as_array().unwrap();
        let root = &spans[0];
        assert_eq!(root["parent_id"], Value::Null);
        assert_eq!(root["started_at"], trace["started_at"]);
        assert_eq!(root["ended_at"], trace["ended_at"]);
        for span in spans {
            assert!(
                ids.insert(span["id"].as_str().unwrap().to_owned()),
                "a span's id twice"
            );
            assert_eq!(span["trace_id"], trace["id"]);
            assert!(["completed", "failed"].contains(&span["status"].as_str().unwrap()));
            // ISO times of one offset sort as text.
            let (start, end) = (span["started_at"].as_str(), span["ended_at"].as_str());
            assert!(start <= end, "{span}");
            assert!(
                start >= root["started_at"].as_str() && end <= root["ended_at"].as_str(),
                "{trace}"
            );
        }
        for span in &spans[1..] {
            assert_eq!(span["parent_id"], root["id"], "an orphan");
        }
    }
}

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
fn a_run_that_goes_on_with_its_fallback_stays_one_trace() {
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
    assert_eq!(gateway.sent("metrics").len(), 2, "two model_errors");
}

#[test]
fn a_message_without_a_session_is_a_trace_of_its_own_with_its_round_trip() {
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
fn a_delivery_beyond_the_first_of_a_turn_is_told_too() {
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
fn a_start_is_told_once_however_many_hooks_tell_it() {
    let mut gateway = Watched::new();
    for source in ["gateway_start", "gateway:startup", "gateway_start"] {
        gateway.hear(source, &json!({"event": {}}));
    }
    gateway.close();
    assert_eq!(gateway.sent("health").len(), 1);
    assert_eq!(gateway.sent("logs").len(), 1);
}

#[test]
fn a_cron_jobs_run_is_told_when_it_is_over() {
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
fn a_conversation_that_others_tell_of_is_a_trace_with_its_calls() {
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
fn a_tool_that_never_ends_ends_with_its_turn() {
    let mut gateway = Watched::new();
    gateway.hear("before_tool_call", &tool("agent:main:x", "t1", None));
    gateway.wait(700_000);
    let traces = gateway.sent("traces");
    assert_sound(&traces);
    assert_eq!(traces[0]["spans"][1]["status"], "failed");
}

/// One thing that may happen to a session.
fn happening(session: &str, kind: u8, now_ms: u64) -> (&'static str, Value) {
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
        _ => (
            "conversation:end",
            json!({"event": {"conversationId": session, "durationMs": 900}}),
        ),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn traces_are_sound_whatever_happens_in_whatever_order(
        steps in proptest::collection::vec((0u8..3, 0u8..15, prop_oneof![Just(0u64), 1u64..300, 2_000u64..9_000, Just(700_000)]), 0..60)
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
