//! An engine whose records are inspected, and events of a session.
#![allow(dead_code, reason = "each test uses a part of this")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::HashSet;

use agentwatch_openclaw::delivery::reply::Reply;
use agentwatch_openclaw::engine::Engine;
use agentwatch_openclaw::sources::SOURCES;
use serde_json::{Value, json};

use crate::common::disk::Disk;
use crate::common::{at, pick, settings};

const START_MS: u64 = 1_795_000_000_000;

/// An engine whose sent records are stored.
pub struct Watched {
    pub engine: Engine,
    pub bodies: Vec<String>,
    pub now_ms: u64,
}

impl Watched {
    /// An engine that sends to a receiver that accepts everything.
    pub fn new() -> Self {
        let raw = settings(
            r#"{"url": "http://receiver.test", "identityKey": "00112233445566778899aabbccddeeff"}"#,
        );
        let mut engine = Engine::new(&raw, 11);
        engine.open(Disk::default().host(), at(START_MS));
        Self {
            engine,
            bodies: Vec::new(),
            now_ms: START_MS,
        }
    }

    /// An event.
    pub fn hear(&mut self, source: &str, args: &Value) {
        for (index, table) in SOURCES.iter().enumerate() {
            if table.source == source
                && let Some(facts) = pick(index, args)
            {
                self.engine.observe(index, facts, at(self.now_ms));
            }
        }
        self.send();
    }

    /// Lets time pass.
    pub fn wait(&mut self, ms: u64) {
        self.now_ms += ms;
        self.send();
    }

    fn send(&mut self) {
        self.engine.advance(at(self.now_ms));
        while let Some(request) = self.engine.begin(at(self.now_ms), true) {
            self.bodies.extend(request.body.clone());
            let reply = Reply::of(200, r#"{"status": "ok", "features": ["record_ids"]}"#);
            self.engine.answered(&reply, at(self.now_ms));
        }
    }

    /// Closes the engine.
    pub fn close(&mut self) {
        self.engine.close(false, at(self.now_ms));
        self.send();
    }

    /// The sent records of a kind.
    pub fn sent(&self, kind: &str) -> Vec<Value> {
        self.bodies
            .iter()
            .map(|body| serde_json::from_str::<Value>(body).unwrap())
            .flat_map(|batch| batch[kind].as_array().cloned().unwrap_or_default())
            .collect()
    }
}

/// An answer of a model.
pub fn answer(session: &str, model: &str, stop: &str, started_ms: u64) -> Value {
    json!({
        "event": {"message": {"role": "assistant", "provider": "mock", "model": model,
            "usage": {"input": 10, "output": 5, "cacheRead": 0, "cacheWrite": 0, "cost": {"total": 0.001}},
            "stopReason": stop, "timestamp": started_ms}},
        "ctx": {"sessionKey": session, "agentId": "main"},
    })
}

/// A user's message.
pub fn user(session: &str) -> Value {
    json!({"event": {"message": {"role": "user"}}, "ctx": {"sessionKey": session, "agentId": "main"}})
}

/// A message of a channel.
pub fn received(session: Option<&str>, conversation: &str, text: &str) -> Value {
    json!({
        "event": {"content": text, "from": "+4915112345678", "sessionKey": session},
        "ctx": {"channelId": "telegram", "conversationId": conversation},
    })
}

/// The bot's answer, delivered or not.
pub fn sent(session: Option<&str>, conversation: &str, success: bool) -> Value {
    let error = (!success).then_some("403: the bot was blocked by Erika Mustermann");
    json!({
        "event": {"content": "an answer", "to": "+4915112345678", "success": success,
            "sessionKey": session, "error": error},
        "ctx": {"channelId": "telegram", "conversationId": conversation},
    })
}

/// A call of a tool, or its end.
pub fn tool(session: &str, id: &str, end: Option<u64>) -> Value {
    json!({
        "event": {"toolName": "read", "toolCallId": id, "durationMs": end},
        "ctx": {"sessionKey": session},
    })
}

/// Names of the spans.
pub fn names(trace: &Value) -> Vec<&str> {
    let spans = trace["spans"].as_array().unwrap();
    spans
        .iter()
        .map(|span| span["name"].as_str().unwrap())
        .collect()
}

/// Asserts that every trace is well-formed: one root, first; all other spans below it and within its time.
pub fn assert_sound(traces: &[Value]) {
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
            // ISO times with one offset sort as text.
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
