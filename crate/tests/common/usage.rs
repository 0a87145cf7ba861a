//! The same usage from every source, and its reading.

use agentwatch_openclaw::domain::call::Usage;
use agentwatch_openclaw::domain::observation::Observation;
use agentwatch_openclaw::sources::answer::{Answer, Told};
use agentwatch_openclaw::sources::ending::Ending;
use agentwatch_openclaw::sources::litellm::{Log, LoggedCall};
use agentwatch_openclaw::sources::path::Target;
use agentwatch_openclaw::sources::{Event, SOURCES, read};
use serde_json::{Value, json};

use super::stored::{calls, line, rows_of, with};
use super::{at, pick};

/// End of the calls here, in ms since 1970.
pub const NOW_MS: u64 = 1_795_000_000_000;

/// A source's event as an observation.
pub fn observed(source: &str, args: &Value) -> Observation {
    let told = SOURCES.iter().enumerate().find_map(|(index, table)| {
        let facts = (table.source == source).then(|| pick(index, args))??;
        Some(read(index, facts, at(NOW_MS).wall_ms).unwrap())
    });
    match told {
        Some(Event::Call(call)) => *call,
        other => panic!("{source}: {other:?}"),
    }
}

/// The proxy's reading of an answer.
pub fn told(path: &str, body: &str) -> Told {
    let mut answer = Answer::new(Target::of("POST", path).unwrap(), 200);
    answer.feed(body.as_bytes());
    answer.finish(Ending::Whole)
}

/// The proxy's report of a call.
pub fn proxied(provider: &str, told: &Told) -> Observation {
    let mut event = serde_json::to_value(told).unwrap();
    event["provider"] = json!(provider);
    event["model"] = json!("m");
    event["cost"] = json!(
        told.cost
            .as_deref()
            .map(|cost| cost.parse::<f64>().unwrap())
    );
    observed("proxied", &json!({"event": event}))
}

pub fn logged(payload: &Value) -> LoggedCall {
    let mut log = Log::default();
    log.feed(payload.to_string().as_bytes());
    log.finish().unwrap().calls.remove(0)
}

/// A chat completion with this usage.
pub fn chat(usage: &Value) -> String {
    json!({
        "id": "c", "choices": [{"message": {"content": "x"}, "finish_reason": "stop"}], "usage": usage,
    })
    .to_string()
}

/// A message of Anthropic's API with this usage.
pub fn message(usage: &Value) -> String {
    json!({"type": "message", "id": "m", "stop_reason": "end_turn", "usage": usage}).to_string()
}

/// Events of a stream.
pub fn stream(events: &[Value]) -> String {
    let events = events.iter().map(|event| format!("data: {event}\n\n"));
    events.collect()
}

/// The same usage in the format of each source.
pub fn by_all_ways(usage: &Value) -> Vec<(&'static str, Observation)> {
    let message_of = json!({
        "event": {"message": {"role": "assistant", "provider": "p", "model": "m", "usage": usage}}, "ctx": {},
    });
    let diagnostic = json!({"event": {"provider": "p", "model": "m", "usage": usage}});
    let row = line(&with("/message/usage", usage.clone()));
    let stored = calls(&rows_of(&row)).remove(0).into_observation(NOW_MS);
    let response = json!({"id": "r", "status": "completed", "usage": usage}).to_string();
    let payload = json!({"call_type": "acompletion", "metadata": {"usage_object": usage}});
    let mut litellm = serde_json::to_value(logged(&payload)).unwrap();
    litellm["provider"] = json!("p");
    litellm["model"] = json!("m");
    litellm["cost"] = Value::Null;
    let named = json!({"event": {"model": "p/m", "usage": usage}});
    vec![
        ("message", observed("before_message_write", &message_of)),
        ("diagnostic", observed("model.call.completed", &diagnostic)),
        ("store", stored),
        (
            "chat",
            proxied("p", &told("/v1/chat/completions", &chat(usage))),
        ),
        (
            "messages",
            proxied("p", &told("/v1/messages", &message(usage))),
        ),
        ("responses", proxied("p", &told("/v1/responses", &response))),
        ("litellm", observed("litellm", &json!({"event": litellm}))),
        ("named", observed("model:used", &named)),
    ]
}

/// Prompt, completion, cache reads, cache writes and reasoning.
pub fn numbers(usage: Option<Usage>) -> [u64; 5] {
    let usage = usage.unwrap_or_default();
    [
        usage.prompt(),
        usage.output,
        usage.cache_read,
        usage.cache_write,
        usage.reasoning,
    ]
}

/// Asserts the numbers of a usage from every source.
#[track_caller]
pub fn assert_usage(usage: Value, expected: [u64; 5]) {
    for (way, call) in by_all_ways(&usage) {
        assert_eq!(numbers(call.usage), expected, "{way}: {usage}");
        assert!(!call.broken_usage, "{way}: {usage}");
    }
}

/// Asserts the numbers of an answer through the proxy, however it is cut.
#[track_caller]
pub fn assert_answer(path: &str, body: &str, expected: [u64; 5]) {
    for size in [body.len(), 7, 1] {
        let mut answer = Answer::new(Target::of("POST", path).unwrap(), 200);
        for piece in body.as_bytes().chunks(size) {
            answer.feed(piece);
        }
        let told = answer.finish(Ending::Whole);
        assert_eq!(numbers(proxied("p", &told).usage), expected, "{body}");
    }
}
