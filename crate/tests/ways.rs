//! A proxy beside the gateway: fields that only the proxy reports are sent once, whether it reports in time or late.

use crate::common::{Gateway, at};
use serde_json::{Value, json};

const START_MS: u64 = 1_795_000_000_000;
const END_MS: u64 = START_MS + 400;

fn message() -> Value {
    json!({
        "event": {"message": {
            "role": "assistant", "provider": "p", "model": "m", "stopReason": "stop", "timestamp": START_MS,
            "usage": {"input": 50, "output": 7, "cacheRead": 0, "cacheWrite": 0, "cost": {"total": 0.5}},
        }},
        "ctx": {"sessionKey": "agent:main:s", "agentId": "main"},
    })
}

/// An answer that was aborted before its usage was known.
fn aborted() -> Value {
    let mut message = message();
    message["event"]["message"]["stopReason"] = json!("aborted");
    message["event"]["message"]["usage"] = json!({"input": 0, "output": 0});
    message
}

fn proxied(extra: Value) -> Value {
    let mut call = json!({
        "provider": "p", "model": "m", "input": 50, "output": 7, "started": START_MS, "ended": END_MS,
        "duration": 400, "ttfb": 100.0, "ttft": 120.0, "request_id": "req_1", "response_model": "m-2026",
    });
    for (name, value) in extra.as_object().unwrap() {
        call[name] = value.clone();
    }
    json!({"event": call})
}

/// A gateway whose proxy has reported a first call.
fn behind_a_proxy() -> Gateway {
    let mut gateway = Gateway::new(false);
    let earlier =
        proxied(json!({"started": START_MS - 60_000, "ended": START_MS - 59_600, "input": 9}));
    gateway.hear("proxied", &earlier, START_MS - 59_000);
    gateway.run_until(START_MS - 59_000, START_MS);
    gateway
}

#[test]
fn a_call_waits_for_the_proxy_and_has_its_fields() {
    let mut gateway = behind_a_proxy();
    gateway.hear("before_message_write", &message(), END_MS);
    gateway.run_until(END_MS, END_MS + 1_500);
    assert_eq!(gateway.receiver.calls.len(), 1, "it waits");
    gateway.hear("proxied", &proxied(json!({"cost": 0.75})), END_MS + 1_500);
    gateway.run_until(END_MS + 1_500, END_MS + 9_000);
    let call = &gateway.receiver.calls[1];
    assert_eq!(call["agent_name"], "main");
    assert_eq!(
        (&call["ttfb_ms"], &call["ttft_ms"]),
        (&json!(100.0), &json!(120.0))
    );
    assert_eq!(
        (&call["request_id"], &call["response_model"]),
        (&json!("req_1"), &json!("m-2026"))
    );
    assert_eq!(
        (&call["cost_usd"], &call["cost_source"]),
        (&json!(0.75), &json!("provider"))
    );
    assert!(gateway.receiver.enrichments.is_empty());
}

#[test]
fn a_late_proxy_enriches_a_sent_call() {
    let mut gateway = Gateway::new(false);
    gateway.hear("before_message_write", &message(), END_MS);
    gateway.run_until(END_MS, END_MS + 9_000);
    gateway.hear("proxied", &proxied(json!({"cost": 0.75})), END_MS + 9_000);
    gateway.run_until(END_MS + 9_000, END_MS + 20_000);
    assert_eq!(gateway.receiver.calls.len(), 1);
    let expected = json!([{
        "id": gateway.receiver.calls[0]["id"], "ttfb_ms": 100.0, "ttft_ms": 120.0, "request_id": "req_1",
        "response_model": "m-2026", "cost_usd": 0.75, "cost_source": "provider",
    }]);
    assert_eq!(json!(gateway.receiver.enrichments), expected);
    gateway.restart(END_MS + 21_000);
    gateway.run_until(END_MS + 21_000, END_MS + 40_000);
    assert_eq!(json!(gateway.receiver.enrichments), expected, "once");
}

#[test]
fn an_enrichment_waits_until_the_receiver_is_known() {
    let mut gateway = Gateway::new(false);
    gateway.hear("before_message_write", &message(), END_MS);
    gateway.engine.advance(at(END_MS));
    gateway.hear("proxied", &proxied(json!({})), END_MS + 1);
    gateway.run_until(END_MS + 1, END_MS + 9_000);
    assert_eq!(gateway.receiver.enrichments.len(), 1);
}

#[test]
fn an_enrichment_follows_its_call() {
    let mut gateway = Gateway::new(false);
    gateway.hear("before_message_write", &message(), END_MS);
    gateway.run_until(END_MS, END_MS + 9_000);
    // A record that is sent before the next call is collected does not take that call's enrichment along.
    let next = END_MS + 20_000;
    let at_next = |value: Value| {
        let mut value = value;
        value["event"]["started"] = json!(next);
        value["event"]["ended"] = json!(next + 400);
        value
    };
    let command = json!({"event": {"type": "command", "action": "new", "sessionKey": "agent:main:s", "context": {}}});
    gateway.hear("command", &command, next);
    gateway.run_until(next, next + 100);
    let mut told = message();
    told["event"]["message"]["timestamp"] = json!(next);
    gateway.hear("before_message_write", &told, next + 100);
    gateway.run_until(next + 100, next + 110);
    gateway.hear("proxied", &at_next(proxied(json!({}))), next + 120);
    gateway.run_until(next + 120, next + 9_000);
    let order: Vec<&str> = gateway.receiver.order.iter().map(String::as_str).collect();
    let id = gateway.receiver.calls[1]["id"].as_str().unwrap();
    let call = order.iter().position(|what| *what == id).unwrap();
    let added = order
        .iter()
        .position(|what| *what == ["+", id].concat())
        .unwrap();
    assert!(call < added, "{order:?}");
}

#[test]
fn calls_do_not_wait_for_a_proxy_that_is_gone() {
    let mut gateway = behind_a_proxy();
    gateway.hear("before_message_write", &message(), END_MS);
    gateway.run_until(END_MS, END_MS + 9_000);
    assert_eq!(gateway.receiver.calls.len(), 2);
    let mut next = message();
    next["event"]["message"]["timestamp"] = json!(END_MS + 9_000);
    gateway.hear("before_message_write", &next, END_MS + 9_400);
    // The flush interval, and no hold-back period.
    gateway.run_until(END_MS + 9_400, END_MS + 10_400);
    assert_eq!(gateway.receiver.calls.len(), 3);
}

#[test]
fn a_billed_abort_counts_whenever_the_bill_arrives() {
    for (late, restarts) in [(500, false), (9_000, false), (9_000, true)] {
        let mut gateway = Gateway::new(false);
        gateway.hear("before_message_write", &aborted(), END_MS);
        let told = END_MS + late;
        gateway.run_until(END_MS, told);
        assert!(gateway.receiver.calls.is_empty());
        if restarts {
            gateway.restart(told);
        }
        let billed = proxied(json!({"outcome": "aborted"}));
        gateway.hear("proxied", &billed, told);
        gateway.run_until(told, told + 9_000);
        assert_eq!(gateway.receiver.totals.requests(), 1, "told {late} ms late");
        assert_eq!(gateway.receiver.totals.0["p/m"].prompt, 50);
        // Another intermediary reports the same.
        gateway.hear("litellm", &billed, told + 9_000);
        gateway.run_until(told + 9_000, told + 20_000);
        assert_eq!(gateway.receiver.totals.requests(), 1);
        gateway.restart(told + 21_000);
        gateway.run_until(told + 21_000, told + 40_000);
        assert_eq!(gateway.receiver.totals.requests(), 1);
    }
}

/// A proxy's or LiteLLM's report of a call with other usage that began this many ms later, and took this many ms
/// longer.
fn beside(began_later: u64, took_longer: u64, input: u64) -> Value {
    proxied(json!({
        "input": input, "started": START_MS + began_later, "ended": END_MS + began_later + took_longer,
        "duration": 400 + took_longer, "request_id": "req_2",
    }))
}

/// A killed gateway had reported one of two calls that began at nearly the same time.
#[test]
fn an_unreported_call_does_not_match_its_neighbour() {
    for way in ["proxied", "litellm"] {
        for began_later in [0, 1, 20, 49] {
            for took_longer in [300, 5_000] {
                let mut gateway = Gateway::new(false);
                gateway.hear("before_message_write", &message(), END_MS);
                gateway.run_until(END_MS, END_MS + 300);
                gateway.restart(END_MS + 300);
                let told = END_MS + 9_000;
                gateway.run_until(END_MS + 300, told);
                gateway.hear(way, &beside(began_later, took_longer, 60), told);
                gateway.hear(way, &proxied(json!({})), told);
                gateway.run_until(told, told + 9_000);
                let total = &gateway.receiver.totals.0["p/m"];
                let counted = (total.requests, total.prompt);
                assert_eq!(
                    counted,
                    (2, 110),
                    "{way}, {began_later} ms, {took_longer} ms"
                );
            }
        }
    }
}

/// Another plugin changed the usage in the message.
#[test]
fn a_call_with_changed_usage_matches_the_proxys_report() {
    for way in ["proxied", "litellm"] {
        for (began_later, took_longer) in [(0, 0), (15, 0), (40, 20), (40, 200)] {
            let mut gateway = Gateway::new(false);
            gateway.hear("before_message_write", &message(), END_MS);
            gateway.run_until(END_MS, END_MS + 1_500);
            gateway.hear(way, &beside(began_later, took_longer, 60), END_MS + 1_500);
            gateway.run_until(END_MS + 1_500, END_MS + 9_000);
            let total = &gateway.receiver.totals.0["p/m"];
            assert_eq!((total.requests, total.prompt), (1, 50), "{way}");
            assert_eq!(gateway.status()["conflicts"], 1, "{way}");
        }
    }
}

/// A gateway excludes the tokens of a compaction, and on a busy one a call begins long before its request.
#[test]
fn a_call_with_other_usage_matches_by_the_answers_id() {
    let mut told = message();
    told["event"]["message"]["responseId"] = json!("msg_1");
    let whole = |id: &str| {
        json!({
            "input": 18_050, "output": 357, "started": START_MS + 120, "duration": 280, "response_id": id,
        })
    };
    for way in ["proxied", "litellm"] {
        for (id, calls) in [("msg_1", 1), ("msg_2", 2)] {
            for proxy_first in [true, false] {
                let mut gateway = behind_a_proxy();
                let mut ways = [
                    ("before_message_write", told.clone()),
                    (way, proxied(whole(id))),
                ];
                if proxy_first {
                    ways.reverse();
                }
                for (way, event) in ways {
                    gateway.hear(way, &event, END_MS + 50);
                }
                gateway.run_until(END_MS + 50, END_MS + 9_000);
                let requests = gateway.receiver.totals.requests() - 1;
                assert_eq!(requests, calls, "{way} {id}");
            }
        }
    }
}

/// 2026.3.13 counts what tools put into a prompt of Gemini as output, and its messages have no id of the answer.
#[test]
fn a_call_with_the_same_sum_of_tokens_matches_the_proxys_report() {
    for (output, calls) in [(10_007, 1), (10_008, 2)] {
        for proxy_first in [true, false] {
            let mut told = message();
            told["event"]["message"]["usage"]["output"] = json!(output);
            let whole =
                json!({"input": 10_050, "output": 7, "started": START_MS + 120, "duration": 280});
            let mut ways = [("before_message_write", told), ("proxied", proxied(whole))];
            if proxy_first {
                ways.reverse();
            }
            let mut gateway = behind_a_proxy();
            for (way, event) in ways {
                gateway.hear(way, &event, END_MS + 50);
            }
            gateway.run_until(END_MS + 50, END_MS + 9_000);
            assert_eq!(gateway.receiver.totals.requests() - 1, calls, "{output}");
        }
    }
}

/// Before 2026.5.28 a message has no id of the answer.
#[test]
fn a_call_of_several_requests_matches_without_an_id() {
    let parts = json!({"is_billed": false, "write_1h": 0, "tier": null, "is_fast": false, "is_us": false,
        "web_searches": 0, "file_searches": 0, "code_runs": 0, "sources": 0,
        "parts": [{"model": null, "tokens": [18_050, 357, 0, 0, 0]}]});
    let whole = json!({
        "input": 18_050, "output": 357, "started": START_MS + 120, "duration": 280, "bill": parts.to_string(),
    });
    for proxy_first in [true, false] {
        let mut gateway = behind_a_proxy();
        let mut ways = [
            ("before_message_write", message()),
            ("proxied", proxied(whole.clone())),
        ];
        if proxy_first {
            ways.reverse();
        }
        for (way, event) in ways {
            gateway.hear(way, &event, END_MS + 50);
        }
        gateway.run_until(END_MS + 50, END_MS + 9_000);
        assert_eq!(gateway.receiver.totals.requests() - 1, 1);
    }
}

/// Only a reader of the provider's answer knows the number of reasoning tokens.
#[test]
fn a_call_matches_though_only_a_proxy_reports_reasoning() {
    for way in ["proxied", "litellm"] {
        let mut gateway = Gateway::new(false);
        gateway.hear("before_message_write", &message(), END_MS);
        gateway.run_until(END_MS, END_MS + 500);
        // On a busy gateway a call begins long before its request.
        let reasoned = json!({"reasoning": 5, "started": START_MS + 120, "duration": 280});
        gateway.hear(way, &proxied(reasoned), END_MS + 500);
        gateway.run_until(END_MS + 500, END_MS + 9_000);
        assert_eq!(gateway.receiver.totals.requests(), 1, "{way}");
        assert_eq!(gateway.status()["conflicts"], 0, "{way}");
    }
}

/// OpenClaw 2026.3.13 adds the reasoning to an output that includes it already.
#[test]
fn reasoning_that_a_gateway_added_twice_counts_once_with_a_proxy() {
    let mut twice = message();
    twice["event"]["message"]["usage"]["output"] = json!(7 + 5);
    for way in ["proxied", "litellm"] {
        for began_later in [0, 120] {
            let mut gateway = behind_a_proxy();
            gateway.hear("before_message_write", &twice, END_MS);
            let reasoned = json!({
                "reasoning": 5, "started": START_MS + began_later, "duration": 400 - began_later,
            });
            gateway.hear(way, &proxied(reasoned), END_MS + 50);
            gateway.run_until(END_MS + 50, END_MS + 9_000);
            let calls = &gateway.receiver.calls[1..];
            assert_eq!(calls.len(), 1, "{way}");
            assert_eq!(calls[0]["completion_tokens"], 7, "{way}");
            assert_eq!(calls[0]["reasoning_tokens"], 5, "{way}");
            // The gateway computed its cost from the wrong count.
            assert_ne!(calls[0]["cost_source"], "openclaw", "{way}");
        }
    }
}

/// The gateway's figures agree with each other, so only the provider's answer reveals the error.
#[test]
fn reasoning_is_not_subtracted_from_a_similar_output() {
    for (output, reasoning) in [(7, 5), (13, 5), (12, 0), (12, 6)] {
        let mut told = message();
        told["event"]["message"]["usage"]["output"] = json!(output);
        let mut gateway = behind_a_proxy();
        gateway.hear("before_message_write", &told, END_MS);
        // The proxy's figures rank before the gateway's; LiteLLM's may be estimates.
        gateway.hear(
            "litellm",
            &proxied(json!({"reasoning": reasoning})),
            END_MS + 50,
        );
        gateway.run_until(END_MS + 50, END_MS + 9_000);
        assert_eq!(gateway.receiver.calls[1]["completion_tokens"], output);
        assert_eq!(gateway.receiver.calls[1]["cost_source"], "openclaw");
    }
}

/// A gateway retries when a provider is busy; its message's begin is that of the first attempt.
#[test]
fn failed_attempts_do_not_match_the_answers_message() {
    let failed = proxied(json!({
        "input": null, "output": null, "ended": START_MS + 30, "duration": 30, "status": 429, "outcome": "failed",
    }));
    let answered = proxied(json!({"started": START_MS + 100, "duration": 300}));
    for (message_at, tries_at) in [(0, 500), (0, 9_000), (500, 0)] {
        let mut gateway = Gateway::new(false);
        let first = message_at.min(tries_at);
        gateway.run_until(END_MS, END_MS + first);
        for at in [first, message_at.max(tries_at)] {
            gateway.run_until(END_MS + first, END_MS + at);
            match at == message_at {
                true => gateway.hear("before_message_write", &message(), END_MS + at),
                false => {
                    gateway.hear("proxied", &failed, END_MS + at);
                    gateway.hear("proxied", &answered, END_MS + at);
                }
            }
        }
        gateway.run_until(END_MS + 9_000, END_MS + 20_000);
        let total = &gateway.receiver.totals.0["p/m"];
        assert_eq!(
            (total.requests, total.prompt),
            (1, 50),
            "{message_at}, {tries_at}"
        );
    }
}

/// 2026.3.13 adds reasoning a second time; other gateways exclude the tokens of a compaction.
#[test]
fn the_providers_figures_rank_first_and_the_gateways_report_is_the_same_call() {
    let whole = json!({"input": 18_050, "output": 357});
    let diagnostic = json!({"event": {
        "provider": "p", "model": "m", "sessionKey": "agent:main:s", "durationMs": 190, "ts": END_MS,
        "usage": {"input": 50, "output": 7, "cacheRead": 0, "cacheWrite": 0},
    }});
    let mut gateway = behind_a_proxy();
    gateway.hear("before_message_write", &message(), END_MS);
    gateway.hear("proxied", &proxied(whole), END_MS + 500);
    // Its start is computed from its end and far from the message's; its usage is the message's.
    gateway.hear("model.call.completed", &diagnostic, END_MS + 700);
    gateway.run_until(END_MS + 700, END_MS + 9_000);
    let [_, call] = &gateway.receiver.calls[..] else {
        panic!("{:?}", gateway.receiver.calls);
    };
    let tokens = (&call["prompt_tokens"], &call["completion_tokens"]);
    assert_eq!(tokens, (&json!(18_050), &json!(357)));
    // OpenClaw's figure belongs to other token counts.
    assert_eq!(call["cost_source"], "unknown");
}

/// A proxy before LiteLLM reports LiteLLM's call id, and so does LiteLLM's log.
#[test]
fn a_proxy_before_litellm_reports_the_same_call() {
    for ways in [["litellm", "proxied"], ["proxied", "litellm"]] {
        for began in [0, 3] {
            let mut gateway = behind_a_proxy();
            gateway.hear("before_message_write", &message(), END_MS);
            for way in ways {
                let more = match way {
                    "proxied" => json!({"response_id": "a"}),
                    _ => json!({"response_id": "a", "started": START_MS + began, "ttfb": null}),
                };
                gateway.hear(way, &proxied(more), END_MS + 50);
            }
            gateway.run_until(END_MS + 50, END_MS + 9_000);
            assert_eq!(gateway.receiver.totals.requests(), 2, "{ways:?}");
            assert_eq!(gateway.receiver.calls[1]["ttfb_ms"], 100.0, "{ways:?}");
        }
    }
}
