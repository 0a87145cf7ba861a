//! The source of a call's cost, and implausible costs, from every source.

use crate::common::Gateway;
use crate::common::billing::*;
use agentwatch_openclaw::domain::usage::{Used, fact_of};
use agentwatch_openclaw::pricing::PriceBook;
use agentwatch_openclaw::sources::facts::Scalar;
use serde_json::{Value, json};

// ---------------------------------------------------------------------------------------------
// Whose bill

#[test]
fn a_providers_cost_is_read_under_each_name() {
    let usage = |more: Value| {
        let mut usage =
            json!({"prompt_tokens": 1_000, "completion_tokens": 100, "total_tokens": 1_100});
        usage
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        usage
    };
    for (more, usd) in [
        (json!({"cost": 0.0125}), 0.0125),
        (json!({"cost": "0.0125"}), 0.0125),
        (
            json!({"cost": 0.0125, "is_byok": false, "cost_details": {"upstream_inference_cost": 0.0125}}),
            0.0125,
        ),
        (
            json!({"cost": 0.0125, "is_byok": false, "cost_details": {"upstream_inference_cost": null}}),
            0.0125,
        ),
        // With the operator's own key: the router's fee plus the provider's bill.
        (
            json!({"cost": 0, "is_byok": true, "cost_details": {"upstream_inference_cost": 0.0125}}),
            0.0125,
        ),
        (
            json!({"cost": 0.0005, "is_byok": true, "cost_details": {"upstream_inference_cost": 0.012}}),
            0.0125,
        ),
        (
            json!({"cost": 0, "cost_details": {"upstream_inference_cost": 0.0125}}),
            0.0125,
        ),
        (json!({"estimated_cost": 0.0125}), 0.0125),
        (json!({"cost_in_usd_ticks": 125_000_000}), 0.0125),
        (
            json!({"cost": {"total_cost": 0.0125, "input_tokens_cost": 0.01}}),
            0.0125,
        ),
        (json!({"cost": {"usd": 0.0125, "eur": 0.011}}), 0.0125),
        (json!({"total_cost": 0.0125}), 0.0125),
        (json!({"cost_usd": "0.0125", "estimated_cost": 0}), 0.0125),
        (
            json!({"cost_usd_total": 0.0125, "cost_usd_input": 0.01, "cost_usd_output": 0.0025}),
            0.0125,
        ),
        // The two parts of the provider's bill without their sum, in chats and in responses.
        (
            json!({"cost": 0.0005, "is_byok": true, "cost_details": {
                "upstream_inference_cost": null,
                "upstream_inference_prompt_cost": 0.01, "upstream_inference_completions_cost": 0.002,
            }}),
            0.0125,
        ),
        (
            json!({"cost": 0, "is_byok": true, "cost_details": {
                "upstream_inference_input_cost": 0.01, "upstream_inference_output_cost": 0.0025,
            }}),
            0.0125,
        ),
        (
            json!({"cost": 0.0125, "is_byok": false, "cost_details": {
                "upstream_inference_cost": null,
                "upstream_inference_prompt_cost": 0.01, "upstream_inference_completions_cost": 0.0025,
            }}),
            0.0125,
        ),
        (
            json!({"cost": 0.0005, "is_byok": true, "cost_details": {
                "upstream_inference_cost": 0.012,
                "upstream_inference_prompt_cost": 0.01, "upstream_inference_completions_cost": 0.002,
            }}),
            0.0125,
        ),
    ] {
        assert_costs(BIG, usage(more), usd, "provider");
    }
    // The provider's bill to the own key is unknown: the fee alone is not the cost.
    assert_costs(
        BIG,
        usage(json!({"cost": 0, "is_byok": true})),
        0.015,
        "table",
    );
    // Nor is one of its parts.
    let part = json!({"upstream_inference_cost": null, "upstream_inference_prompt_cost": 0.01});
    assert_costs(
        BIG,
        usage(json!({"cost": 0, "is_byok": true, "cost_details": part})),
        0.015,
        "table",
    );
    // Implausible amounts.
    for odd in [json!(-1), json!("free"), json!([]), json!({}), json!(1e12)] {
        assert_costs(BIG, usage(json!({"cost": odd})), 0.015, "table");
    }
    // In each API's stream, and outside the usage.
    let event = |value: Value| format!("data: {value}\n\n");
    let messages = [
        event(json!({"type": "message_start", "message": {"usage": {"input_tokens": 0, "output_tokens": 0}}})),
        event(json!({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {
            "input_tokens": 1_000, "output_tokens": 100, "cost": 0.0125, "is_byok": false,
        }})),
        event(json!({"type": "message_stop"})),
    ]
    .concat();
    let responses = event(
        json!({"type": "response.completed", "response": {"status": "completed", "usage": {
            "input_tokens": 1_000, "output_tokens": 100, "cost_in_usd_ticks": 125_000_000,
        }}}),
    );
    let beside = json!({
        "choices": [{"message": {}, "finish_reason": "stop"}], "costDollars": {"total": 0.0125},
        "usage": usage(json!({})),
    });
    let gateway = json!({
        "choices": [{
            "message": {"content": "x", "provider_metadata": {"gateway": {"cost": "0.0125", "routing": {}}}},
            "finish_reason": "stop",
        }],
        "usage": usage(json!({})),
    });
    for (path, body) in [
        ("/api/v1/messages", messages),
        ("/v1/responses", responses),
        ("/chat/completions", beside.to_string()),
        ("/v1/chat/completions", gateway.to_string()),
    ] {
        let (call, _) = counted_of(&[proxied(path, BIG, &body)]);
        assert_cost(&call, 0.0125, "provider", &body);
    }
}

/// An answer of each API with these members outside its usage, whole and as the last event of a stream.
fn answers_with(beside: &Value) -> Vec<(&'static str, String)> {
    let with = |mut document: Value| {
        let members = beside.as_object().unwrap().clone();
        document.as_object_mut().unwrap().extend(members);
        document
    };
    let stream =
        |answer: &Value, last: Value| format!("data: {answer}\n\ndata: {}\n\n", with(last));
    let usage = json!({"prompt_tokens": 1_000, "completion_tokens": 100, "total_tokens": 1_100});
    let bare = json!({"input_tokens": 1_000, "output_tokens": 100});
    let chat =
        json!({"choices": [{"message": {}, "delta": {}, "finish_reason": "stop"}], "usage": usage});
    let message = json!({"type": "message", "stop_reason": "end_turn", "usage": bare});
    let response = json!({"status": "completed", "output": [], "usage": bare});
    let gemini = json!({
        "candidates": [{"finishReason": "STOP"}],
        "usageMetadata": {"promptTokenCount": 1_000, "candidatesTokenCount": 100, "totalTokenCount": 1_100},
    });
    let ping = json!({"type": "ping"});
    let last = json!({"id": "c", "choices": []});
    let paths = [
        ("/v1/chat/completions", chat, last),
        ("/v1/messages", message, ping.clone()),
        ("/v1/responses", response, ping.clone()),
        (
            "/v1/models/gemini-3-pro:streamGenerateContent",
            gemini,
            ping,
        ),
    ];
    let both = paths.map(|(path, answer, last)| {
        let streamed = stream(&answer, last);
        [(path, with(answer).to_string()), (path, streamed)]
    });
    both.into_iter().flatten().collect()
}

#[test]
fn what_a_router_took_is_the_cost_unless_it_took_nothing() {
    let gateway = |cost: &str, price: &str| {
        let routing = json!({"attempts": [{"credentialType": "byok", "success": true}]});
        json!({"gateway": {"cost": cost, "marketCost": price, "routing": routing}})
    };
    for (beside, expected) in [
        // opencode Zen; its zero is a free model, a subscription or an own key.
        (json!({"cost": "0.01250000"}), (0.0125, "provider")),
        (json!({"cost": "0"}), (0.015, "table")),
        // NanoGPT.
        (
            json!({"x_nanogpt_pricing": {
                "amount": 0.0125, "currency": "USD", "cost": 0.0125, "costUsd": 0.0125, "paymentSource": "USD",
                "inputTokens": 1_000, "outputTokens": 100,
            }}),
            (0.0125, "provider"),
        ),
        (
            json!({"x_nanogpt_pricing": {"amount": "0.0125"}}),
            (0.0125, "provider"),
        ),
        (
            json!({"x_nanogpt_pricing": {"amount": 0, "cost": 0, "costUsd": 0}}),
            (0.015, "table"),
        ),
        // Vercel; with an own key; for a free model.
        (
            json!({"provider_metadata": gateway("0.0125", "0.0125")}),
            (0.0125, "provider"),
        ),
        (
            json!({"provider_metadata": gateway("0", "0.0105")}),
            (0.015, "table"),
        ),
        (
            json!({"providerMetadata": gateway("0", "0.0105")}),
            (0.015, "table"),
        ),
        (
            json!({"provider_metadata": gateway("0", "0")}),
            (0.0, "provider"),
        ),
        // An object is no amount.
        (json!({"cost": {"currency": "USD"}}), (0.015, "table")),
    ] {
        for (path, body) in answers_with(&beside) {
            let (call, _) = counted_of(&[proxied(path, BIG, &body)]);
            let what = format!("{path}: {body}");
            assert_eq!(call["prompt_tokens"], 1_000, "{what}");
            assert_eq!(call["outcome"], "completed", "{what}");
            assert_cost(&call, expected.0, expected.1, &what);
        }
    }
}

#[test]
fn a_zero_counts_as_a_bill_only_from_the_provider() {
    let usage = |cost: Value| json!({"input": 1_000, "output": 100, "cacheRead": 0, "cacheWrite": 0, "cost": cost});
    let billed =
        usage(json!({"input": 0, "output": 0, "total": 0, "totalOrigin": "provider-billed"}));
    for event in [
        message(BIG, &billed),
        stored(BIG, &billed),
        diagnostic(BIG, &billed),
    ] {
        let (call, _) = counted_of(std::slice::from_ref(&event));
        assert_cost(&call, 0.0, "provider", event.0);
    }
    // A provider's figure that OpenClaw passes on; a zero that no provider billed.
    let billed = usage(json!({"total": 0.02, "totalOrigin": "provider-billed"}));
    for event in [
        message(BIG, &billed),
        stored(BIG, &billed),
        diagnostic(BIG, &billed),
    ] {
        let (call, _) = counted_of(std::slice::from_ref(&event));
        assert_cost(&call, 0.02, "provider", event.0);
    }
    for cost in [
        json!({"total": 0}),
        json!({"total": 0, "totalOrigin": "estimated"}),
        json!(0),
    ] {
        for event in [
            message(BIG, &usage(cost.clone())),
            stored(BIG, &usage(cost)),
        ] {
            let (call, _) = counted_of(std::slice::from_ref(&event));
            assert_cost(&call, 0.015, "table", event.0);
        }
    }
    // A model that is free at a router.
    let free =
        json!({"prompt_tokens": 1_000, "completion_tokens": 100, "cost": 0, "is_byok": false});
    let (call, _) = counted_of(&[proxied("/v1/chat/completions", BIG, &chat(&free))]);
    assert_cost(&call, 0.0, "provider", "a router");
}

#[test]
fn an_implausible_cost_is_ignored_and_logged() {
    let usage = |usd: f64| json!({"input": 1_000, "output": 100, "cost": {"total": usd}});
    for (usd, is_believed) in [
        (0.015, true),
        (0.015 / 900.0, true),
        (0.015 * 900.0, true),
        (0.015 / 1_100.0, false),
        (0.015 * 1_100.0, false),
        (1.5e-8, false),
        (15_000.0, false),
    ] {
        for event in [
            message(BIG, &usage(usd)),
            stored(BIG, &usage(usd)),
            diagnostic(BIG, &usage(usd)),
        ] {
            let (call, gateway) = counted_of(std::slice::from_ref(&event));
            let (expected, source) = if is_believed {
                (usd, "openclaw")
            } else {
                (0.015, "table")
            };
            assert_cost(&call, expected, source, event.0);
            let said = gateway
                .log
                .iter()
                .filter(|line| line.contains("every price list"))
                .count();
            assert_eq!(said, usize::from(!is_believed), "{:?}", gateway.log);
            let count = usize::from(!is_believed);
            assert_eq!(gateway.status()["implausible_costs"], count);
        }
    }
    // A provider's figure in another unit, and LiteLLM's.
    let cents = json!({"prompt_tokens": 1_000, "completion_tokens": 100, "cost": 1.5e6});
    let (call, _) = counted_of(&[proxied("/v1/chat/completions", BIG, &chat(&cents))]);
    assert_cost(&call, 0.015, "table", "a provider");
    let payload = json!({
        "call_type": "acompletion", "model": "big", "prompt_tokens": 1_000, "completion_tokens": 100,
        "response_cost": 1.5e-8,
    });
    let (call, _) = counted_of(&[litellm("p", &payload)]);
    assert_cost(&call, 0.015, "table", "LiteLLM");
    // Without a price there is nothing to compare with.
    let (call, gateway) = counted_of(&[message(("p", "stranger"), &usage(1e-9))]);
    assert_cost(&call, 1e-9, "openclaw", "no price");
    assert_eq!(gateway.status()["implausible_costs"], 0);
}

#[test]
fn a_late_cost_is_checked_too() {
    for (usd, is_believed) in [(0.02, true), (2e6, false)] {
        let mut gateway = Gateway::new(false);
        let told = json!({"input": 1_000, "output": 100, "cost": {"total": 0.015}});
        let (source, args) = message(BIG, &told);
        gateway.hear(source, &args, NOW_MS);
        settle(&mut gateway, &book(&Scalar::Absent));
        let usage = json!({"prompt_tokens": 1_000, "completion_tokens": 100, "cost": usd});
        let (source, args) = proxied("/v1/chat/completions", BIG, &chat(&usage));
        let later = NOW_MS + 300_000;
        gateway.hear(source, &args, later);
        gateway.run_until(later, later + 60_000);
        let told: Vec<_> = gateway
            .receiver
            .enrichments
            .iter()
            .filter_map(|one| one["cost_usd"].as_f64())
            .collect();
        assert_eq!(told, if is_believed { vec![usd] } else { vec![] });
        assert_eq!(
            gateway.status()["implausible_costs"],
            usize::from(!is_believed)
        );
    }
}

/// An object as the shim passes it: lists of pairs.
fn pairs(value: &Value) -> Scalar {
    match value {
        Value::Object(map) => {
            let pair = |(name, value): (&String, &Value)| {
                Scalar::List(vec![Scalar::Text(name.clone()), pairs(value)])
            };
            Scalar::List(map.iter().map(pair).collect())
        }
        other => crate::common::scalar(other),
    }
}

#[test]
fn prices_in_another_unit_are_reported_and_ignored() {
    // USD per token instead of per 1M tokens, in the gateway's configuration and in the settings.
    let a_token = pairs(
        &json!({"p/big": {"input": 1e-5, "output": 5e-5}, "p/small": {"input": 2, "output": 9}}),
    );
    let table = "= p\nbig* 10 50 1 12.5\nsmall 1 5\n".to_owned();
    let unknown = Scalar::Absent;
    let (book, problems) = PriceBook::new(&unknown, &a_token, &unknown, table.clone());
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert!(
        problems[0].contains("models.providers of p/big")
            && problems[0].contains("USD per 1M tokens")
    );
    let mut gateway = Gateway::new(false);
    let told = json!({"input": 1_000, "output": 100, "cost": {"total": 1.5e-8}});
    let (source, args) = message(BIG, &told);
    gateway.hear(source, &args, NOW_MS);
    assert_cost(
        &settle(&mut gateway, &book),
        0.015,
        "table",
        "the gateway's own price is no witness",
    );
    let (_, problems) = PriceBook::new(&a_token, &unknown, &unknown, table);
    assert!(
        problems[0].starts_with("prices.p/big are more than 1,000 times below"),
        "{problems:?}"
    );
}

/// OpenClaw computes its cost from the names alone.
#[test]
fn openclaws_cost_of_other_tokens_is_ignored() {
    let told = |total: u64, origin: Option<&str>| {
        let usage = json!({
            "input": 1_200, "output": 34, "cacheRead": 1_000, "cacheWrite": 0, "totalTokens": total,
            "cost": {"total": 0.01, "totalOrigin": origin},
        });
        let used = Used::of_fact(&fact_of(&usage.to_string()));
        (used.usage().unwrap().prompt(), used.figure())
    };
    assert_eq!(told(2_234, None), (2_200, Some(0.01)));
    // The total shows that the prompt includes the cached part.
    assert_eq!(told(1_234, None), (1_200, None));
    assert_eq!(told(1_234, Some("provider-billed")), (1_200, Some(0.01)));
}
