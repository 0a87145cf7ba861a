//! Costs beyond tokens at their usual price, from every source.

use crate::common::billing::*;
use crate::common::{Gateway, at, pick};
use agentwatch_openclaw::domain::call::CallId;
use agentwatch_openclaw::journal::{Frame, append_frame};
use agentwatch_openclaw::pricing::PriceBook;
use agentwatch_openclaw::sources::facts::Scalar;
use agentwatch_openclaw::sources::{Event, SOURCES, read};
use serde_json::{Value, json};

// ---------------------------------------------------------------------------------------------
// Billing beyond tokens at their usual price

#[test]
fn cache_writes_for_an_hour_have_their_own_price() {
    // 1,000 at 10, 2,000 at 12.5 and 4,000 at twice 10.
    assert_costs(
        BIG,
        json!({
            "input_tokens": 1_000, "output_tokens": 0, "cache_creation_input_tokens": 6_000,
            "cache_creation": {"ephemeral_5m_input_tokens": 2_000, "ephemeral_1h_input_tokens": 4_000},
        }),
        0.115,
        "table",
    );
    assert_costs(
        BIG,
        json!({"input": 1_000, "output": 0, "cacheRead": 0, "cacheWrite": 6_000, "cacheWrite1h": 4_000}),
        0.115,
        "table",
    );
    // Bounded by the cache writes; zero without cache writes.
    assert_costs(
        BIG,
        json!({"input": 1_000, "output": 0, "cacheWrite": 4_000, "cacheWrite1h": 9_000}),
        0.09,
        "table",
    );
    assert_costs(
        BIG,
        json!({"input": 1_000, "output": 0, "cacheWrite1h": 0}),
        0.01,
        "table",
    );
    // In a stream, and under a relay's name.
    let event = |value: Value| format!("data: {value}\n\n");
    let body = [
        event(json!({"type": "message_start", "message": {"usage": {
            "input_tokens": 1_000, "cache_creation_input_tokens": 4_000, "output_tokens": 1,
            "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 4_000},
        }}})),
        event(json!({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 100}})),
        event(json!({"type": "message_stop"})),
    ]
    .concat();
    let (call, _) = counted_of(&[proxied("/v1/messages", BIG, &body)]);
    assert_cost(&call, 0.095, "table", "a stream");
    assert_costs(
        BIG,
        json!({
            "prompt_tokens": 5_000, "completion_tokens": 0, "total_tokens": 5_000,
            "prompt_tokens_details": {"cached_creation_tokens": 4_000}, "claude_cache_creation_1_h_tokens": 4_000,
        }),
        0.09,
        "table",
    );
}

#[test]
fn each_request_of_a_call_counts_at_its_models_price() {
    let part = |kind: &str, model: Option<&str>, input: u64, output: u64| {
        let mut part = json!({"type": kind, "input_tokens": input, "output_tokens": output});
        if let Some(model) = model {
            part["model"] = json!(model);
        }
        part
    };
    let usage = |input: u64, output: u64, iterations: &[Value]| json!({"input_tokens": input, "output_tokens": output, "iterations": iterations});
    for (usage, prompt, completion, usd) in [
        // A compaction, which the call's own counts exclude.
        (
            usage(
                2_000,
                100,
                &[
                    part("compaction", None, 18_000, 400),
                    part("message", None, 2_000, 100),
                ],
            ),
            20_000,
            500,
            0.225,
        ),
        // An advisor of another model.
        (
            usage(
                2_000,
                100,
                &[
                    part("message", None, 2_000, 100),
                    part("advisor_message", Some("small"), 9_000, 200),
                ],
            ),
            11_000,
            300,
            0.035,
        ),
        // A fallback: both models were called.
        (
            usage(
                2_000,
                100,
                &[
                    part("message", Some("big"), 2_000, 0),
                    part("fallback_message", Some("small"), 2_000, 100),
                ],
            ),
            4_000,
            100,
            0.0225,
        ),
        // Two answers around an advisor; the call's own prompt is the first one's.
        (
            usage(
                2_000,
                150,
                &[
                    part("message", None, 2_000, 100),
                    part("advisor_message", Some("small"), 1_000, 0),
                    part("message", None, 3_000, 50),
                ],
            ),
            6_000,
            150,
            0.0585,
        ),
        // A list of parts that the call's own counts exclude.
        (
            usage(2_000, 100, &[part("compaction", None, 18_000, 400)]),
            20_000,
            500,
            0.225,
        ),
        // An advisor without a known price costs as much as the call's own model.
        (
            usage(
                2_000,
                100,
                &[
                    part("message", None, 2_000, 100),
                    part("advisor_message", Some("stranger"), 1_000, 0),
                ],
            ),
            3_000,
            100,
            0.035,
        ),
        (
            usage(2_000, 100, &[part("message", None, 2_000, 100)]),
            2_000,
            100,
            0.025,
        ),
        (usage(2_000, 100, &[]), 2_000, 100, 0.025),
    ] {
        for event in by_all_ways(BIG, &usage) {
            let (call, _) = counted_of(std::slice::from_ref(&event));
            let what = format!("{} of {usage}", event.0);
            assert_eq!(
                (&call["prompt_tokens"], &call["completion_tokens"]),
                (&json!(prompt), &json!(completion)),
                "{what}"
            );
            assert_cost(&call, usd, "table", &what);
        }
    }
}

#[test]
fn each_request_of_a_call_has_the_tier_of_its_prompt() {
    let mut gateway = Gateway::new(false);
    let usage = json!({
        "input_tokens": 3_000, "output_tokens": 0,
        "iterations": [
            {"type": "compaction", "input_tokens": 8_000, "output_tokens": 0},
            {"type": "message", "input_tokens": 3_000, "output_tokens": 0},
        ],
    });
    let (source, args) = proxied("/v1/messages", BIG, &anthropic(&usage));
    gateway.hear(source, &args, NOW_MS);
    let table = "= p\nbig 10 50 >10000 1000 1000\n".to_owned();
    let book = PriceBook::new(&Scalar::Absent, &Scalar::Absent, &Scalar::Absent, table).0;
    assert_cost(
        &settle(&mut gateway, &book),
        0.11,
        "table",
        "two prompts below the tier",
    );
}

#[test]
fn requests_beyond_the_maximum_keep_their_cost() {
    let parts: Vec<Value> = (0..30)
        .map(|index| json!({"type": "message", "model": (["big", "small"][index % 2]), "input_tokens": 1_000, "output_tokens": 0}))
        .collect();
    let usage = json!({"input_tokens": 1_000, "output_tokens": 0, "iterations": parts});
    assert_costs(BIG, usage, 0.165, "table");
}

#[test]
fn the_surface_with_all_requests_wins_also_after_a_restart() {
    // The gateway reads the call's own counts, the proxy those of all requests.
    let usage = json!({
        "input_tokens": 2_000, "output_tokens": 100,
        "iterations": [
            {"type": "message", "input_tokens": 2_000, "output_tokens": 100},
            {"type": "advisor_message", "model": "small", "input_tokens": 9_000, "output_tokens": 200},
        ],
    });
    let own = json!({"input": 2_000, "output": 100, "cacheRead": 0, "cacheWrite": 0});
    let both = [
        message(BIG, &own),
        proxied("/v1/messages", BIG, &anthropic(&usage)),
    ];
    let (call, _) = counted_of(&both);
    assert_eq!(
        (&call["prompt_tokens"], &call["agent_name"]),
        (&json!(11_000), &json!("main"))
    );
    assert_cost(&call, 0.035, "table", "both");
    let mut gateway = Gateway::new(false);
    let (source, args) = &both[1];
    gateway.hear(source, args, NOW_MS);
    // Another process on this host spools them for the journal's owner.
    let mut owner = Gateway::new(false);
    owner
        .engine
        .take_spool("proxy", &spooled(source, args), at(NOW_MS));
    let call = settle(&mut owner, &book(&Scalar::Absent));
    assert_cost(&call, 0.035, "table", "by way of the spool");
    gateway.restart(NOW_MS + 1);
    let call = settle(&mut gateway, &book(&Scalar::Absent));
    assert_eq!(call["prompt_tokens"], 11_000);
    assert_cost(&call, 0.035, "table", "after a restart");
}

/// The spool file that another process writes for an event.
fn spooled(source: &str, args: &Value) -> Vec<u8> {
    let index = SOURCES
        .iter()
        .position(|table| table.source == source)
        .unwrap();
    let facts = pick(index, args).unwrap();
    let Event::Call(call) = read(index, facts, NOW_MS).unwrap() else {
        panic!("no call");
    };
    let mut bytes = Vec::new();
    append_frame(&mut bytes, &Frame::Seen(CallId(7), call));
    bytes
}

#[test]
fn a_service_tier_has_its_price() {
    let usage = |tier: &str| json!({"prompt_tokens": 1_000_000, "completion_tokens": 0, "service_tier": tier});
    for (model, tier, usd) in [
        (("openai", "gpt-5"), "flex", 0.625),
        (("openai", "gpt-5"), "batch", 0.625),
        (("openai", "gpt-5"), "priority", 2.5),
        (("openai", "gpt-5"), "fast", 2.5),
        (("openai", "gpt-6-sol"), "fast", 8.0),
        (("openai", "gpt-5"), "default", 1.25),
        (("openai", "gpt-5"), "auto", 1.25),
        (("openai", "gpt-5-mini"), "priority", 0.45),
        (("openai", "gpt-4.1"), "priority", 3.5),
        (("openai", "gpt-4o-mini"), "priority", 0.25),
        (("anthropic", "claude-sonnet-4-6"), "batch", 1.5),
        (("anthropic", "claude-sonnet-4-6"), "priority", 3.0),
        (("anthropic", "claude-sonnet-4-6"), "standard", 3.0),
        (("google", "gemini-2.5-flash"), "FLEX", 0.15),
        (("google", "gemini-2.5-flash"), "ON_DEMAND_PRIORITY", 0.54),
    ] {
        assert_costs(model, usage(tier), usd, "table");
    }
    // OpenAI reports it outside the usage: at the answer's top level, in a chunk, or in the response.
    let usage =
        json!({"prompt_tokens": 1_000_000, "completion_tokens": 0, "total_tokens": 1_000_000});
    let choices = json!([{"message": {"content": "x"}, "finish_reason": "stop"}]);
    let whole = json!({"choices": choices, "usage": usage, "service_tier": "flex"}).to_string();
    let chunks = [
        json!({"choices": [{"delta": {"content": "x"}, "finish_reason": "stop"}], "service_tier": "flex"}),
        json!({"choices": [], "usage": usage, "service_tier": null}),
    ];
    let chunks: String = chunks
        .iter()
        .map(|chunk| format!("data: {chunk}\n\n"))
        .collect();
    let response = |kind: &str, tier: &str, usage: Value| json!({"type": kind, "response": {"status": "completed", "service_tier": tier, "usage": usage}});
    let responses = [
        response("response.created", "auto", Value::Null),
        response(
            "response.completed",
            "flex",
            json!({"input_tokens": 1_000_000, "output_tokens": 0}),
        ),
    ];
    let responses: String = responses
        .iter()
        .map(|event| format!("data: {event}\n\n"))
        .collect();
    for (path, body) in [
        ("/v1/chat/completions", whole.as_str()),
        ("/v1/chat/completions", &chunks),
        ("/v1/responses", &responses),
        ("/v1/responses", &whole),
    ] {
        let (call, _) = counted_of(&[proxied(path, ("openai", "gpt-5"), body)]);
        assert_cost(&call, 0.625, "table", body);
    }
}

#[test]
fn bedrock_reports_its_tier_and_how_long_a_cache_keeps_what_was_written() {
    let path = "/model/m/converse";
    let converse = |usage: Value, more: Value| {
        let mut body = json!({"output": {"message": {}}, "stopReason": "end_turn", "usage": usage});
        body.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        body.to_string()
    };
    let nova = ("amazon-bedrock", "us.amazon.nova-pro-v1:0");
    let tokens = json!({"inputTokens": 100_000, "outputTokens": 1_000, "totalTokens": 101_000});
    for (tier, usd) in [
        ("priority", 0.1456),
        ("flex", 0.0416),
        ("default", 0.0832),
        ("reserved", 0.0832),
    ] {
        let whole = converse(tokens.clone(), json!({"serviceTier": {"type": tier}}));
        let event = json!({"metadata": {"usage": tokens, "serviceTier": {"type": tier}}});
        let events =
            json!({"messageStop": {"stopReason": "end_turn"}}).to_string() + &event.to_string();
        for body in [whole, events] {
            let (call, _) = counted_of(&[proxied(path, nova, &body)]);
            assert_cost(&call, usd, "table", &body);
        }
    }
    let claude = (
        "amazon-bedrock",
        "global.anthropic.claude-sonnet-4-5-20250929-v1:0",
    );
    for (details, usd) in [
        // 100,000 at twice 3, or at 3.75.
        (json!([{"ttl": "1h", "inputTokens": 100_000}]), 0.60033),
        (json!([{"ttl": "5m", "inputTokens": 100_000}]), 0.37533),
        (
            json!([{"ttl": "1h", "inputTokens": 60_000}, {"ttl": "5m", "inputTokens": 40_000}]),
            0.51033,
        ),
        (json!([{"ttl": "1d", "inputTokens": 100_000}]), 0.37533),
        (json!([]), 0.37533),
        (json!(null), 0.37533),
    ] {
        let usage = json!({
            "inputTokens": 10, "outputTokens": 20, "totalTokens": 100_030, "cacheWriteInputTokens": 100_000,
            "cacheDetails": details,
        });
        let body = converse(usage, json!({}));
        let (call, _) = counted_of(&[proxied(path, claude, &body)]);
        assert_eq!(call["prompt_tokens"], 100_010, "{body}");
        assert_cost(&call, usd, "table", &body);
    }
}

#[test]
fn fast_modes_and_regions_have_their_price() {
    let usage = |more: Value| {
        let mut usage = json!({"input_tokens": 100_000, "output_tokens": 10_000});
        usage
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        usage
    };
    let opus = ("anthropic", "claude-opus-4-6");
    assert_costs(
        opus,
        usage(json!({"speed": "standard", "inference_geo": "global"})),
        0.75,
        "table",
    );
    assert_costs(opus, usage(json!({"speed": "fast"})), 4.5, "table");
    assert_costs(opus, usage(json!({"inference_geo": "us"})), 0.825, "table");
    assert_costs(
        opus,
        usage(json!({"speed": "fast", "inference_geo": "us"})),
        4.95,
        "table",
    );
    // The fast mode of newer models.
    for (model, usd) in [
        ("claude-opus-4.7", 4.5),
        ("claude-opus-4-8", 1.5),
        ("claude-opus-5", 1.5),
        ("claude-opus-5-5-20261001", 1.2),
    ] {
        assert_costs(
            ("anthropic", model),
            usage(json!({"speed": "fast"})),
            usd,
            "table",
        );
    }
}

#[test]
fn searches_of_gemini_have_fees() {
    // Up to Gemini 2 each prompt has a fee of 0.035, since then each query one of 0.014.
    let chunk = |model: &str, queries: Value| {
        json!({
            "candidates": [{
                "content": {"parts": [{"text": "x"}]}, "finishReason": "STOP",
                "groundingMetadata": {"webSearchQueries": queries, "groundingChunks": []},
            }],
            "usageMetadata": {"promptTokenCount": 1_000, "candidatesTokenCount": 100, "totalTokenCount": 1_100},
            "modelVersion": model,
        })
    };
    for (model, queries, usd) in [
        (
            "gemini-3-pro-preview",
            vec![json!(["a", "b"]), json!(null)],
            0.0312,
        ),
        // Some queries are empty, and some told twice.
        (
            "gemini-3-pro-preview",
            vec![json!(["", "a", "a"]), json!(["a", "b"])],
            0.0312,
        ),
        ("gemini-3-pro-preview", vec![json!(["", " "])], 0.0032),
        ("gemini-3-pro-preview", vec![json!([])], 0.0032),
        (
            "gemini-2.5-flash",
            vec![json!(["a", "b"]), json!(["c"])],
            0.03555,
        ),
    ] {
        let chunks = queries.into_iter().map(|queries| chunk(model, queries));
        let body: String = chunks.map(|chunk| format!("data: {chunk}\n\n")).collect();
        let path = format!("/v1beta/models/{model}:streamGenerateContent");
        let (call, _) = counted_of(&[proxied(&path, ("google", model), &body)]);
        assert_cost(&call, usd, "table", &body);
    }
}

#[test]
fn searches_have_fees() {
    let usage = |more: Value| {
        let mut usage = json!({"input_tokens": 1_000, "output_tokens": 100});
        usage
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        usage
    };
    for (more, usd) in [
        (
            json!({"server_tool_use": {"web_search_requests": 4, "web_fetch_requests": 9}}),
            0.055,
        ),
        (
            json!({"server_tool_use": {"web_search_requests": 0}}),
            0.015,
        ),
        (json!({"server_tool_use": null}), 0.015),
        (
            json!({"prompt_tokens_details": {"web_search_requests": 2}}),
            0.035,
        ),
        (
            json!({"server_side_tool_usage_details": {"web_search_calls": 1, "file_search_calls": 2, "code_interpreter_calls": 3}}),
            0.045,
        ),
        (
            json!({"server_side_tool_usage_details": {"web_search_calls": 1, "x_search_calls": 2, "mcp_calls": 4}}),
            0.045,
        ),
        (json!({"num_sources_used": 2}), 0.065),
        (json!({"connectors": {"web_search": 1}}), 0.025),
    ] {
        assert_costs(BIG, usage(more), usd, "table");
    }
    // A tier changes the price of tokens only, not the fees.
    assert_costs(
        BIG,
        usage(json!({"service_tier": "flex", "server_tool_use": {"web_search_requests": 1}})),
        0.0175,
        "table",
    );
    // OpenAI reports searches only in the answer's output.
    let output = json!([
        {"type": "web_search_call", "action": {"type": "search", "query": "x"}},
        {"type": "web_search_call", "action": {"type": "open_page"}},
        {"type": "web_search_call"},
        {"type": "file_search_call"},
        {"type": "message", "content": []},
    ]);
    let usage = json!({"input_tokens": 1_000, "output_tokens": 100});
    let whole = json!({"status": "completed", "output": output, "usage": usage});
    let events = [
        json!({"type": "response.output_item.done", "item": output[0]}),
        json!({"type": "response.completed", "response": whole}),
    ];
    let events: String = events
        .iter()
        .map(|event| format!("data: {event}\n\n"))
        .collect();
    for body in [whole.to_string(), events] {
        let (call, _) = counted_of(&[proxied("/v1/responses", BIG, &body)]);
        assert_cost(&call, 0.0375, "table", &body);
    }
    // A search that failed is free, and the provider's own number counts.
    let search = |status: &str| json!({"type": "web_search_call", "status": status, "action": {"type": "search"}});
    let requests = |number: u64| json!({"web_search": {"num_requests": number}});
    for (output, tool_usage, usd) in [
        (
            json!([search("completed"), search("failed")]),
            json!(null),
            0.025,
        ),
        (
            json!([search("completed"), search("completed")]),
            requests(1),
            0.025,
        ),
        (json!([]), requests(3), 0.045),
        (json!([search("completed")]), requests(0), 0.025),
        (json!([search("failed")]), requests(0), 0.015),
    ] {
        let mut whole = json!({"status": "completed", "output": output, "usage": usage, "tool_usage": tool_usage});
        let events = [
            json!({"type": "response.created", "response": {"status": "in_progress", "tool_usage": requests(0)}}),
            json!({"type": "response.completed", "response": whole}),
        ];
        let events: String = events
            .iter()
            .map(|event| format!("data: {event}\n\n"))
            .collect();
        whole["choices"] = json!([{"message": {"content": "x"}, "finish_reason": "stop"}]);
        for body in [whole.to_string(), events] {
            let (call, _) = counted_of(&[proxied("/v1/responses", BIG, &body)]);
            assert_cost(&call, usd, "table", &body);
        }
    }
    // Search models search for each chat completion, without reporting it.
    let usage = json!({"prompt_tokens": 1_000, "completion_tokens": 100});
    let choices = json!([{"message": {"content": "x"}, "finish_reason": "stop"}]);
    let body =
        json!({"model": "big-search-preview-2025-03-11", "choices": choices, "usage": usage});
    let (call, _) = counted_of(&[proxied("/v1/chat/completions", BIG, &body.to_string())]);
    assert_cost(&call, 0.025, "table", "a model that searches");
    // OpenClaw's figure covers tokens only.
    let told = json!({"input": 1_000, "output": 100, "cost": {"total": 0.02}, "server_tool_use": {"web_search_requests": 2}});
    let (call, _) = counted_of(&[message(BIG, &told)]);
    assert_cost(&call, 0.04, "openclaw", "a message");
}
