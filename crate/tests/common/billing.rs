//! The cost of a call that one source reported.

use agentwatch_openclaw::pricing::{PriceBook, TABLE};
use agentwatch_openclaw::sources::answer::Answer;
use agentwatch_openclaw::sources::ending::Ending;
use agentwatch_openclaw::sources::facts::Scalar;
use agentwatch_openclaw::sources::litellm::Log;
use agentwatch_openclaw::sources::path::Target;
use serde_json::{Value, json};

use super::Gateway;

/// End of the calls here, in ms since 1970.
pub const NOW_MS: u64 = 1_795_000_000_000;

/// A table with round prices of made-up models, and OpenAI's and Anthropic's own.
pub fn book(openclaw: &Scalar) -> PriceBook {
    let table = format!("= p\nbig* 10 50 1 12.5 web=10 file=2.5\nsmall 1 5 .1 1.25\n{TABLE}");
    PriceBook::new(&Scalar::Absent, openclaw, &Scalar::Absent, table).0
}

/// A gateway after some events, and its only call.
pub fn counted_of(events: &[(&str, Value)]) -> (Value, Gateway) {
    let mut gateway = Gateway::new(false);
    for (source, args) in events {
        gateway.hear(source, args, NOW_MS);
    }
    (settle(&mut gateway, &book(&Scalar::Absent)), gateway)
}

pub fn settle(gateway: &mut Gateway, book: &PriceBook) -> Value {
    while let Some((provider, model)) = gateway.engine.wants_price() {
        let price = book.find(&provider, &model);
        gateway.engine.set_price(&provider, &model, price);
    }
    gateway.run_until(NOW_MS, NOW_MS + 300_000);
    assert_eq!(gateway.receiver.calls.len(), 1);
    gateway.receiver.calls[0].clone()
}

/// The proxy's report of an answer.
pub fn proxied(path: &str, (provider, model): (&str, &str), body: &str) -> (&'static str, Value) {
    let mut answer = Answer::new(Target::of("POST", path).unwrap(), 200);
    answer.feed(body.as_bytes());
    let mut event = serde_json::to_value(answer.finish(Ending::Whole)).unwrap();
    event["cost"] = as_number(&event["cost"]);
    event["provider"] = json!(provider);
    event["model"] = json!(model);
    event["started"] = json!(NOW_MS - 400);
    event["ended"] = json!(NOW_MS);
    ("proxied", json!({"event": event}))
}

pub fn as_number(digits: &Value) -> Value {
    json!(digits.as_str().map(|digits| digits.parse::<f64>().unwrap()))
}

pub fn litellm(provider: &str, payload: &Value) -> (&'static str, Value) {
    let mut log = Log::default();
    log.feed(payload.to_string().as_bytes());
    let call = log.finish().unwrap().calls.remove(0);
    let mut event = serde_json::to_value(call).unwrap();
    event["cost"] = as_number(&event["cost"]);
    event["provider"] = json!(provider);
    ("litellm", json!({"event": event}))
}

pub fn message((provider, model): (&str, &str), usage: &Value) -> (&'static str, Value) {
    let message = json!({
        "role": "assistant", "provider": provider, "model": model, "stopReason": "stop", "usage": usage,
        "timestamp": NOW_MS - 400,
    });
    (
        "before_message_write",
        json!({"event": {"message": message}, "ctx": {"sessionKey": "agent:main:s"}}),
    )
}

pub fn stored(model: (&str, &str), usage: &Value) -> (&'static str, Value) {
    let (_, mut args) = message(model, usage);
    args["event"]["id"] = json!("e-1");
    args["event"]["timestamp"] = json!(NOW_MS);
    args["ctx"] = json!({"sessionId": "s", "agentId": "main"});
    ("stored", args)
}

pub fn diagnostic((provider, model): (&str, &str), usage: &Value) -> (&'static str, Value) {
    let event = json!({"provider": provider, "model": model, "usage": usage, "ts": NOW_MS, "durationMs": 400});
    ("model.call.completed", json!({"event": event}))
}

/// An answer of each API with this usage.
pub fn chat(usage: &Value) -> String {
    let choices = json!([{"message": {"content": "x"}, "finish_reason": "stop"}]);
    json!({"id": "c", "choices": choices, "usage": usage}).to_string()
}

pub fn anthropic(usage: &Value) -> String {
    json!({"type": "message", "id": "m", "stop_reason": "end_turn", "usage": usage}).to_string()
}

/// The same usage of a model in the format of each source.
pub fn by_all_ways(of: (&str, &str), usage: &Value) -> Vec<(&'static str, Value)> {
    let (provider, model) = of;
    vec![
        proxied("/v1/messages", of, &anthropic(usage)),
        proxied("/v1/chat/completions", of, &chat(usage)),
        message(of, usage),
        stored(of, usage),
        diagnostic(of, usage),
        litellm(
            provider,
            &json!({"call_type": "acompletion", "model": model, "metadata": {"usage_object": usage}}),
        ),
    ]
}

#[track_caller]
pub fn assert_cost(call: &Value, usd: f64, source: &str, what: &str) {
    let told = call["cost_usd"].as_f64().unwrap();
    assert!((told - usd).abs() < 1e-9, "{what}: {told} instead of {usd}");
    assert_eq!(call["cost_source"], source, "{what}");
}

/// Asserts the cost of a usage from each source.
#[track_caller]
pub fn assert_costs(of: (&str, &str), usage: Value, usd: f64, source: &str) {
    for event in by_all_ways(of, &usage) {
        let (call, _) = counted_of(std::slice::from_ref(&event));
        assert_cost(&call, usd, source, &format!("{} of {usage}", event.0));
    }
}

/// The expensive model of the table.
pub const BIG: (&str, &str) = ("p", "big");
