//! Attribution of calls by recorded gateways and by each source: what reaches the receiver, also after a kill.

use crate::common::{By, Gateway, captures};
use serde_json::{Value, json};
use std::collections::BTreeSet;

const START: u64 = 1_795_000_000_000;

/// Attribution of a received call, by the names of its fields; `-` for missing ones.
fn words<const N: usize>(call: &Value, names: [&str; N]) -> [String; N] {
    names.map(|name| call[name].as_str().unwrap_or("-").to_owned())
}

fn message(session: &str, started_ms: u64, stop: &str) -> Value {
    json!({
        "event": {"message": {
            "role": "assistant", "provider": "mock", "model": "m", "stopReason": stop, "timestamp": started_ms,
            "usage": {"input": started_ms % 1_000, "output": 7},
        }},
        "ctx": {"sessionKey": session, "agentId": "main"},
    })
}

fn user_turn(session: &str, job: Option<&str>) -> Value {
    json!({
        "event": {"message": {"role": "user", "provenance": {"jobId": job}}},
        "ctx": {"sessionKey": session, "agentId": "main"},
    })
}

#[test]
fn recorded_gateways_tell_channel_trigger_and_job() {
    for capture in captures() {
        let mut gateway = Gateway::new(capture.tells_calls);
        gateway.replay(&capture.events);
        let calls = &gateway.receiver.calls;
        let of = |needle: &str| {
            let found = calls.iter().filter(|call| {
                let key = call["session_key"].as_str();
                key.is_some_and(|key| key.contains(needle))
            });
            found.collect::<Vec<_>>()
        };
        let what = capture.version;
        let cron = of(":cron:");
        assert_eq!(cron.len(), 1, "{what}");
        let [channel, trigger, job] = words(cron[0], ["channel", "trigger", "job"]);
        let key = cron[0]["session_key"].as_str().unwrap_or_default();
        assert_eq!(
            (channel.as_str(), trigger.as_str()),
            ("-", "cron"),
            "{what}"
        );
        assert_eq!(key.split(':').nth(3), Some(job.as_str()), "{what}");
        let chat = of("spy-chat");
        assert!(!chat.is_empty(), "{what}");
        for call in chat {
            let told = words(call, ["channel", "job", "agent_name"]);
            assert_eq!(told, ["webchat", "-", "main"], "{what}");
        }
        // The first call of the turn is no tool's, the next two follow one.
        let tools: Vec<_> = of("spy-tool")
            .iter()
            .map(|call| words(call, ["tool"]))
            .collect();
        assert_eq!(tools, [["-"], ["read"], ["read"]], "{what}");
    }
}

#[test]
fn what_is_told_once_is_told_by_each_surface_alone() {
    for capture in captures() {
        for surface in [By::Message, By::CallDiagnostic] {
            if surface == By::CallDiagnostic && !capture.tells_usage {
                continue;
            }
            let mut gateway = Gateway::new(capture.tells_calls);
            gateway.replay(&capture.only(&[surface]));
            let told: BTreeSet<_> = gateway
                .receiver
                .calls
                .iter()
                .map(|call| words(call, ["channel"]))
                .collect();
            assert!(
                told.contains(&["webchat".to_owned()]),
                "{}",
                capture.version
            );
        }
    }
}

#[test]
fn prompt_stats_are_told_from_2026_7() {
    for capture in captures() {
        let mut gateway = Gateway::new(capture.tells_calls);
        gateway.replay(&capture.events);
        let calls = gateway.receiver.calls.iter();
        let told = calls.filter(|call| call["prompt_stats"].is_object());
        let sums: Vec<u64> = told
            .map(|call| {
                let parts = ["system_prompt", "tool_definitions", "messages", "other"];
                let chars = parts.map(|part| call["prompt_stats"][part].as_u64().unwrap_or(0));
                assert!(chars[0] > 0 && chars[1] > 0 && chars[2] > 0, "{chars:?}");
                chars.iter().sum()
            })
            .collect();
        assert_eq!(sums.len() > 8, capture.tells_usage, "{}", capture.version);
    }
}

/// Events before the assistant's message, and the call's channel, trigger, job, skill and tool.
type Case = (Vec<(&'static str, Value)>, &'static str, [&'static str; 5]);

fn cases() -> Vec<Case> {
    let run = |session: &str, rest: Value| {
        let mut event = json!({"runId": "r1", "sessionKey": session});
        for (name, value) in rest.as_object().into_iter().flatten() {
            event[name] = value.clone();
        }
        ("run.started", json!({ "event": event }))
    };
    let skill = |run_id: &str| {
        let event =
            json!({"runId": run_id, "sessionKey": "agent:main:main", "skillName": "weather"});
        ("skill.used", json!({ "event": event }))
    };
    let tool = |session: &str, source| {
        let event = json!({"toolName": "exec", "toolCallId": "t"});
        (
            source,
            json!({"event": event, "ctx": {"sessionKey": session, "toolName": "exec"}}),
        )
    };
    let main = "agent:main:main";
    vec![
        // The session's key alone.
        (
            vec![],
            "agent:main:telegram:direct:17",
            ["telegram", "-", "-", "-", "-"],
        ),
        (
            vec![],
            "agent:main:cron:nightly",
            ["-", "cron", "nightly", "-", "-"],
        ),
        // An agent or a group that is called `cron` is no job.
        (vec![], "agent:cron:main", ["-", "-", "-", "-", "-"]),
        (
            vec![],
            "agent:main:irc:channel:cron",
            ["irc", "-", "-", "-", "-"],
        ),
        // Diagnostics of the run.
        (
            vec![run(main, json!({"channel": "discord", "trigger": "user"}))],
            main,
            ["discord", "user", "-", "-", "-"],
        ),
        // A run inherits no channel of the run before.
        (
            vec![
                run(main, json!({"channel": "discord", "trigger": "user"})),
                run(main, json!({"runId": "r2", "trigger": "heartbeat"})),
            ],
            main,
            ["-", "heartbeat", "-", "-", "-"],
        ),
        // The hook of 2026.3.13.
        (
            vec![(
                "llm_input",
                json!({"ctx": {"sessionKey": main, "channelId": "telegram", "trigger": "user"}}),
            )],
            main,
            ["telegram", "user", "-", "-", "-"],
        ),
        (
            vec![(
                "llm_input",
                json!({"ctx": {"sessionKey": main, "messageProvider": "slack", "channelId": "C1"}}),
            )],
            main,
            ["slack", "-", "-", "-", "-"],
        ),
        // A message.
        (
            vec![(
                "message_received",
                json!({
                    "event": {"content": "hi", "from": "+4915112345678", "sessionKey": main},
                    "ctx": {"channelId": "whatsapp", "sessionKey": main},
                }),
            )],
            main,
            ["whatsapp", "-", "-", "-", "-"],
        ),
        // A job that wakes the main session.
        (
            vec![
                ("before_message_write", user_turn(main, Some("nightly"))),
                run(main, json!({"trigger": "cron"})),
            ],
            main,
            ["-", "cron", "nightly", "-", "-"],
        ),
        (
            vec![
                ("before_message_write", user_turn(main, Some("nightly"))),
                ("before_message_write", user_turn(main, None)),
            ],
            main,
            ["-", "-", "-", "-", "-"],
        ),
        // Skills.
        (
            vec![run(main, json!({"trigger": "user"})), skill("r1")],
            main,
            ["-", "user", "-", "weather", "-"],
        ),
        (
            vec![skill("r1"), run(main, json!({"runId": "r2"}))],
            main,
            ["-", "-", "-", "-", "-"],
        ),
        // Tools: of this session, in this turn.
        (
            vec![tool(main, "before_tool_call")],
            main,
            ["-", "-", "-", "-", "exec"],
        ),
        (
            vec![tool("agent:main:other", "before_tool_call")],
            main,
            ["-", "-", "-", "-", "-"],
        ),
        (
            vec![
                tool(main, "before_tool_call"),
                tool(main, "after_tool_call"),
                ("before_message_write", user_turn(main, None)),
            ],
            main,
            ["-", "-", "-", "-", "-"],
        ),
    ]
}

#[test]
fn each_source_tells_its_fields_and_a_kill_loses_none() {
    let names = ["channel", "trigger", "job", "skill", "tool"];
    for kill in [false, true] {
        for (number, (events, session, expected)) in cases().into_iter().enumerate() {
            // The call waits for its diagnostic.
            let mut gateway = Gateway::new(true);
            for (source, args) in &events {
                gateway.hear(source, args, START);
            }
            gateway.hear(
                "before_message_write",
                &message(session, START + 50, "stop"),
                START + 90,
            );
            if kill {
                gateway.restart(START + 100);
            }
            gateway.run_until(START + 100, START + 10_000);
            let what = format!("case {number}, {session}, killed: {kill}");
            assert_eq!(gateway.receiver.calls.len(), 1, "{what}");
            let told = words(&gateway.receiver.calls[0], names);
            assert_eq!(told, expected, "{what}");
        }
    }
}

/// A finished call that no receiver took before a kill.
#[test]
fn a_finished_call_keeps_its_attribution_on_disk() {
    let mut gateway = Gateway::new(false);
    let session = "agent:main:telegram:direct:17";
    gateway.hear(
        "before_message_write",
        &message(session, START, "stop"),
        START + 40,
    );
    gateway.advance(START + 40);
    gateway.write();
    gateway.restart(START + 100);
    gateway.run_until(START + 100, START + 10_000);
    assert_eq!(gateway.receiver.calls.len(), 1);
    assert_eq!(gateway.receiver.calls[0]["channel"], "telegram");
    assert_eq!(
        gateway.engine.status().counts.requests,
        0,
        "it was final before"
    );
}

#[test]
fn identities_are_hidden() {
    let settings = r#"{"url": "http://receiver.test"}"#;
    let mut gateway = Gateway::with(settings, false);
    let number = "+4915112345678";
    let session = format!("agent:main:cron:{number}");
    gateway.hear(
        "before_message_write",
        &user_turn("agent:main:main", Some(number)),
        START,
    );
    for (session, at) in [(session.as_str(), START), ("agent:main:main", START + 9)] {
        gateway.hear(
            "before_message_write",
            &message(session, at, "stop"),
            at + 40,
        );
    }
    gateway.run_until(START + 100, START + 10_000);
    let jobs: Vec<_> = gateway
        .receiver
        .calls
        .iter()
        .map(|call| &call["job"])
        .collect();
    assert_eq!(jobs.len(), 2);
    assert!(
        jobs.iter()
            .all(|job| job.as_str().is_some_and(|job| job.starts_with('#'))),
        "{jobs:?}"
    );
    for bytes in gateway.disk.files().values() {
        assert!(
            !bytes
                .windows(10)
                .any(|part| part == &number.as_bytes()[1..11])
        );
    }
}

#[test]
fn traces_have_the_same_attribution() {
    let session = "agent:main:cron:nightly";
    let mut gateway = Gateway::new(false);
    let tool = json!({"event": {"toolName": "exec"}, "ctx": {"sessionKey": session}});
    gateway.hear("before_message_write", &user_turn(session, None), START);
    gateway.hear(
        "before_message_write",
        &message(session, START + 1, "toolUse"),
        START + 20,
    );
    gateway.hear("before_tool_call", &tool, START + 25);
    gateway.hear("after_tool_call", &tool, START + 30);
    gateway.hear(
        "before_message_write",
        &message(session, START + 35, "stop"),
        START + 60,
    );
    gateway.run_until(START + 60, START + 300_000);
    let [trace] = gateway.receiver.traces.as_slice() else {
        panic!("{:?}", gateway.receiver.traces);
    };
    assert_eq!(
        words(&trace["metadata"], ["trigger", "job", "channel"]),
        ["cron", "nightly", "-"]
    );
    let spans = trace["spans"].as_array().into_iter().flatten();
    let calls = spans.filter(|span| span["name"] == "chat m");
    let tools: Vec<_> = calls
        .map(|call| words(&call["metadata"], ["tool"]))
        .collect();
    assert_eq!(tools, [["-"], ["exec"]]);
}
