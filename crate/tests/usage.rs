//! Reading of usage, by kind of fault: each answer with its right value, from every source.

use crate::common::Gateway;
use crate::common::usage::*;
use agentwatch_openclaw::domain::usage::{Meaning, RULES, Remark};
use proptest::prelude::*;
use serde_json::{Value, json};

// A zero hides no number of the same answer

#[test]
fn a_zero_under_one_name_hides_no_number_under_another() {
    // A relay with both of OpenAI's formats that fills in one.
    assert_usage(
        json!({
            "prompt_tokens": 2_400, "completion_tokens": 61, "total_tokens": 2_461,
            "prompt_tokens_details": {"cached_tokens": 2_048}, "completion_tokens_details": {"reasoning_tokens": 0},
            "input_tokens": 0, "output_tokens": 0, "input_tokens_details": null,
        }),
        [2_400, 61, 2_048, 0, 0],
    );
    // LiteLLM, for OpenAI's models.
    assert_usage(
        json!({
            "prompt_tokens": 900, "completion_tokens": 30, "total_tokens": 930,
            "prompt_tokens_details": {"cached_tokens": 640},
            "cache_read_input_tokens": 0, "cache_creation_input_tokens": 0,
        }),
        [900, 30, 640, 0, 0],
    );
    // The reverse, and with the placeholder first.
    assert_usage(
        json!({"cached_tokens": 0, "prompt_tokens": 900, "completion_tokens": 30, "prompt_cache_hit_tokens": 640}),
        [900, 30, 640, 0, 0],
    );
    assert_usage(
        json!({"input": 0, "output": 0, "input_tokens": 7, "output_tokens": 5, "reasoningTokens": 0, "reasoning_tokens": 3}),
        [7, 5, 0, 0, 3],
    );
    // A zero sum beside its parts.
    assert_usage(
        json!({
            "input_tokens": 3, "output_tokens": 9, "cache_creation_input_tokens": 0,
            "cache_creation": {"ephemeral_5m_input_tokens": 200, "ephemeral_1h_input_tokens": 100},
        }),
        [303, 9, 0, 300, 0],
    );
}

#[test]
fn a_zero_in_a_later_event_hides_no_number_of_an_earlier_one() {
    let start =
        |usage: Value| json!({"type": "message_start", "message": {"id": "m", "usage": usage}});
    let delta = |usage: Value| json!({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": usage});
    let stop = json!({"type": "message_stop"});
    let messages = |first: Value, last: Value| stream(&[start(first), delta(last), stop.clone()]);
    assert_answer(
        "/v1/messages",
        &messages(
            json!({"input_tokens": 1_900, "output_tokens": 1}),
            json!({"input_tokens": 0, "output_tokens": 44}),
        ),
        [1_900, 44, 0, 0, 0],
    );
    assert_answer(
        "/v1/messages",
        &messages(
            json!({"input_tokens": 9, "cache_read_input_tokens": 800, "cache_creation_input_tokens": 70, "output_tokens": 1}),
            json!({"input_tokens": 9, "cache_read_input_tokens": 0, "cache_creation_input_tokens": 0, "output_tokens": 44}),
        ),
        [879, 44, 800, 70, 0],
    );
    // A number in a later event replaces an earlier one.
    assert_answer(
        "/v1/messages",
        &messages(
            json!({"input_tokens": 0, "output_tokens": 0}),
            json!({"input_tokens": 12, "output_tokens": 3}),
        ),
        [12, 3, 0, 0, 0],
    );
    let chunk = |usage: Value| json!({"choices": [], "usage": usage});
    let finish = json!({"choices": [{"delta": {"content": "x"}, "finish_reason": "stop"}]});
    // The last chunk omits the details, or has zeros.
    for last in [
        json!({"prompt_tokens": 1_400, "completion_tokens": 40, "total_tokens": 1_440}),
        json!({
            "prompt_tokens": 1_400, "completion_tokens": 40, "total_tokens": 1_440,
            "prompt_tokens_details": {"cached_tokens": 0}, "completion_tokens_details": null,
        }),
    ] {
        let first = json!({
            "prompt_tokens": 1_400, "completion_tokens": 40, "total_tokens": 1_440,
            "prompt_tokens_details": {"cached_tokens": 1_024}, "completion_tokens_details": {"reasoning_tokens": 8},
        });
        let body = stream(&[finish.clone(), chunk(first), chunk(last)]) + "data: [DONE]\n\n";
        assert_answer("/v1/chat/completions", &body, [1_400, 40, 1_024, 0, 8]);
    }
    // The total of an early chunk does not apply to a later one's counts.
    let early = json!({"prompt_tokens": 50, "completion_tokens": 1, "total_tokens": 51});
    let late = json!({"prompt_tokens": 50, "completion_tokens": 30});
    let body = stream(&[chunk(early), finish, chunk(late)]);
    assert_answer("/v1/chat/completions", &body, [50, 30, 0, 0, 0]);
}

// An unreadable count is treated as missing

#[test]
fn an_unreadable_count_affects_no_other() {
    for bad in [
        json!("NaN"),
        json!({}),
        json!([]),
        json!(true),
        json!(1e13),
        json!("many"),
    ] {
        for (usage, expected) in [
            (
                json!({"input": 1_000, "output": 50, "cacheRead": bad, "cacheWrite": 0}),
                [1_000, 50, 0, 0, 0],
            ),
            (
                json!({"prompt_tokens": bad, "completion_tokens": 50, "cached_tokens": 20}),
                [20, 50, 20, 0, 0],
            ),
            (
                json!({"input_tokens": 7, "output_tokens": bad, "cache_read_input_tokens": 20}),
                [27, 0, 20, 0, 0],
            ),
            // The total supplies the missing count.
            (
                json!({"prompt_tokens": 30, "completion_tokens": bad, "total_tokens": 35}),
                [30, 5, 0, 0, 0],
            ),
        ] {
            for (way, call) in by_all_ways(&usage) {
                assert_eq!(numbers(call.usage), expected, "{way}: {usage}");
            }
        }
        let nothing = json!({"input": bad, "output": 0});
        let message_of = json!({
            "event": {"message": {"role": "assistant", "provider": "p", "model": "m", "usage": nothing}}, "ctx": {},
        });
        let call = observed("before_message_write", &message_of);
        assert!(call.broken_usage && call.usage.is_none(), "{nothing}");
    }
}

#[test]
fn numbers_in_strings_are_numbers() {
    assert_usage(
        json!({"prompt_tokens": "120", "completion_tokens": " 7 ", "total_tokens": "127.0"}),
        [120, 7, 0, 0, 0],
    );
    assert_usage(
        json!({"input": "3", "output": "1e2", "cacheRead": "40", "cacheWrite": "5"}),
        [48, 100, 40, 5, 0],
    );
    assert_usage(
        json!({"input_tokens": "9", "output_tokens": 2.0, "input_tokens_details": {"cached_tokens": "4"}}),
        [9, 2, 4, 0, 0],
    );
}

#[test]
fn a_negative_prompt_is_zero_and_the_cached_part_counts() {
    // A relay whose prompt excludes the cached part, which the gateway subtracts again. Its total has the same fault.
    assert_usage(
        json!({"input": -700, "output": 40, "cacheRead": 900, "cacheWrite": 0, "totalTokens": 240}),
        [900, 40, 900, 0, 0],
    );
    assert_usage(
        json!({"input": -4, "output": 60, "cacheRead": 2_004, "cacheWrite": 0, "totalTokens": 2_060}),
        [2_004, 60, 2_004, 0, 0],
    );
    assert_usage(
        json!({"prompt_tokens": "-30", "completion_tokens": 6, "prompt_tokens_details": {"cached_tokens": 64}}),
        [64, 6, 64, 0, 0],
    );
    assert_usage(
        json!({"input": -1, "output": 6, "cacheRead": 50, "cacheWrite": 10, "totalTokens": 65}),
        [60, 6, 50, 10, 0],
    );
}

// All names, from all sources alike

#[test]
fn the_names_of_other_apis_are_read_too() {
    for (usage, expected) in [
        // Anthropic, Bedrock's converse and its invocation metrics.
        (
            json!({"input_tokens": 3, "output_tokens": 10, "cache_read_input_tokens": 1_000, "cache_creation_input_tokens": 50}),
            [1_053, 10, 1_000, 50, 0],
        ),
        (
            json!({"inputTokens": 3, "outputTokens": 10, "cacheReadInputTokens": 1_000, "cacheWriteInputTokens": 50, "totalTokens": 1_063}),
            [1_053, 10, 1_000, 50, 0],
        ),
        (
            json!({"inputTokenCount": 3, "outputTokenCount": 10, "cacheReadInputTokenCount": 1_000}),
            [1_003, 10, 1_000, 0, 0],
        ),
        // Codex's and Gemini's command lines.
        (
            json!({"input_tokens": 900, "cached_input_tokens": 800, "output_tokens": 40, "reasoning_output_tokens": 10, "total_tokens": 940}),
            [900, 40, 800, 0, 10],
        ),
        (
            json!({"input_tokens": 900, "cached": 800, "output_tokens": 40}),
            [900, 40, 800, 0, 0],
        ),
        // OpenAI responses, the AI SDK, Ollama, llama.cpp, Cohere.
        (
            json!({"input_tokens": 900, "input_tokens_details": {"cached_tokens": 800, "cache_write_tokens": 60}, "output_tokens": 4}),
            [900, 4, 800, 60, 0],
        ),
        (
            json!({"inputTokens": 900, "cachedInputTokens": 800, "outputTokens": 40, "reasoningTokens": 10, "totalTokens": 940}),
            [900, 40, 800, 0, 10],
        ),
        (
            json!({"prompt_eval_count": 70, "eval_count": 8}),
            [70, 8, 0, 0, 0],
        ),
        (
            json!({"timings": {"prompt_n": 70, "cache_n": 30, "predicted_n": 8}}),
            [100, 8, 30, 0, 0],
        ),
        (
            json!({"tokens": {"input_tokens": 70, "output_tokens": 8}, "billed_units": {"input_tokens": 7}}),
            [70, 8, 0, 0, 0],
        ),
        // Mistral, Perplexity's agents, Requesty.
        (
            json!({"prompt_tokens": 1_000, "completion_tokens": 4, "total_tokens": 1_004, "num_cached_tokens": 960}),
            [1_000, 4, 960, 0, 0],
        ),
        (
            json!({"prompt_tokens": 1_000, "completion_tokens": 4, "prompt_token_details": {"cached_tokens": 960}}),
            [1_000, 4, 960, 0, 0],
        ),
        (
            json!({
                "input_tokens": 3_681, "output_tokens": 50, "total_tokens": 3_731,
                "input_tokens_details": {"cache_read_input_tokens": 3_000, "cache_creation_input_tokens": 400},
            }),
            [3_681, 50, 3_000, 400, 0],
        ),
        (
            json!({
                "prompt_tokens": 20, "completion_tokens": 4,
                "prompt_tokens_details": {"cached_tokens": 9, "caching_tokens": 7},
            }),
            [20, 4, 9, 7, 0],
        ),
        // Qwen.
        (
            json!({
                "prompt_tokens": 3_019, "completion_tokens": 104, "total_tokens": 3_123,
                "prompt_tokens_details": {
                    "cached_tokens": 2_048,
                    "cache_creation": {"cache_creation_input_tokens": 500, "cache_type": "ephemeral"},
                },
            }),
            [3_019, 104, 2_048, 500, 0],
        ),
        (
            json!({
                "prompt_tokens": 1_700, "completion_tokens": 30, "total_tokens": 1_730,
                "prompt_tokens_details": {
                    "cached_tokens": 0, "cache_creation": {"ephemeral_5m_input_tokens": 1_605},
                },
            }),
            [1_700, 30, 0, 1_605, 0],
        ),
        (
            json!({
                "input_tokens": 1_524, "output_tokens": 1_534, "total_tokens": 3_058,
                "input_tokens_details": {"cached_tokens": 1_305},
                "output_tokens_details": {"reasoning_tokens": 1_187},
                "x_details": [{
                    "input_tokens": 1_524, "output_tokens": 1_534, "total_tokens": 3_058,
                    "output_tokens_details": {"reasoning_tokens": 1_187},
                    "prompt_tokens_details": {
                        "cache_creation": {"ephemeral_5m_input_tokens": 213}, "cache_creation_input_tokens": 213,
                        "cache_type": "ephemeral", "cached_tokens": 1_305,
                    },
                    "x_billing_type": "response_api",
                }],
            }),
            [1_524, 1_534, 1_305, 213, 1_187],
        ),
        // Gemini.
        (
            json!({
                "promptTokenCount": 70, "cachedContentTokenCount": 50, "toolUsePromptTokenCount": 9,
                "candidatesTokenCount": 8, "thoughtsTokenCount": 5, "totalTokenCount": 92,
            }),
            [79, 13, 50, 0, 5],
        ),
        // OpenClaw's diagnostics have the whole prompt, too.
        (
            json!({"input": 5, "output": 8, "cacheRead": 60, "cacheWrite": 4, "promptTokens": 69, "total": 77}),
            [69, 8, 60, 4, 0],
        ),
    ] {
        assert_usage(usage, expected);
    }
}

#[test]
fn counts_outside_the_usage_and_in_parts_of_events_are_read() {
    // llama.cpp's server, and Bedrock's last event of an Anthropic stream.
    let body = json!({
        "choices": [{"message": {}, "finish_reason": "stop"}],
        "timings": {"prompt_n": 12, "cache_n": 80, "predicted_n": 9, "predicted_ms": 300.5},
    });
    assert_answer("/v1/chat/completions", &body.to_string(), [92, 9, 80, 0, 0]);
    let body = stream(&[
        json!({"type": "message_start", "message": {"usage": {"input_tokens": 0, "output_tokens": 0}}}),
        json!({"type": "message_stop", "amazon-bedrock-invocationMetrics": {
            "inputTokenCount": 12, "outputTokenCount": 9, "invocationLatency": 400, "cacheReadInputTokenCount": 80,
        }}),
    ]);
    assert_answer("/model/m/messages", &body, [92, 9, 80, 0, 0]);
    // NanoGPT, in a stream without usage, and beside a usage with details.
    let pricing = json!({"costUsd": 1e-5, "inputTokens": 20, "outputTokens": 5});
    let finish = |more: Value| {
        let mut chunk = json!({"choices": [{"delta": {"content": "x"}, "finish_reason": "stop"}]});
        chunk["x_nanogpt_pricing"] = pricing.clone();
        chunk["usage"] = more;
        stream(&[chunk])
    };
    let path = "/api/v1/chat/completions";
    assert_answer(path, &finish(Value::Null), [20, 5, 0, 0, 0]);
    let usage = json!({
        "prompt_tokens": 20, "completion_tokens": 5, "total_tokens": 25,
        "prompt_tokens_details": {"cached_tokens": 16}, "completion_tokens_details": {"reasoning_tokens": 2},
    });
    assert_answer(path, &finish(usage), [20, 5, 16, 0, 2]);
    // LiteLLM has its own counts outside the provider's usage, too.
    let call = logged(&json!({
        "call_type": "acompletion", "prompt_tokens": 1_000, "completion_tokens": 30, "total_tokens": 1_030,
        "metadata": {"usage_object": {"prompt_tokens_details": {"cached_tokens": 700}}},
    }));
    assert_eq!(
        (call.input, call.output, call.cache_read),
        (Some(300), Some(30), Some(700))
    );
}

#[test]
fn the_totals_of_a_session_are_read_alike() {
    for (prompt, completion, expected) in [
        (json!("120"), json!(7), [120, 7]),
        (json!(120), json!({}), [120, 0]),
        (json!("NaN"), json!("7"), [0, 7]),
        (json!(-5), json!(7.0), [0, 7]),
    ] {
        let models =
            [json!({"model": "p/m", "promptTokens": prompt, "completionTokens": completion})];
        let mut gateway = Gateway::new(false);
        let args = json!({"event": {"sessionKey": "agent:main:s", "models": models}});
        gateway.hear("session:complete", &args, NOW_MS);
        gateway.run_until(NOW_MS, NOW_MS + 60_000);
        let total = &gateway.receiver.totals.0["p/m"];
        assert_eq!([total.prompt, total.completion], expected, "{models:?}");
    }
}

/// Puts a value under a name of the table, in nested objects where the name is a path.
fn put(usage: &mut Value, name: &str, value: Value) {
    let (above, last) = name.rsplit_once('.').unwrap_or(("", name));
    let mut object = usage;
    for part in above.split('.').filter(|part| !part.is_empty()) {
        if !object[part].is_object() {
            object[part] = json!({});
        }
        object = &mut object[part];
    }
    // `cost` may be an amount or an object.
    if !object[last].is_object() {
        object[last] = value;
    }
}

fn any_value() -> impl Strategy<Value = Value> {
    prop_oneof![
        6 => (0u64..5_000).prop_map(|count| json!(count)),
        1 => (0u64..5_000).prop_map(|count| json!(count.to_string())),
        1 => Just(json!(0)),
        1 => (-50i64..0).prop_map(|count| json!(count)),
        1 => Just(json!("NaN")),
        1 => Just(json!({})),
        1 => Just(Value::Null),
    ]
}

fn any_usage() -> impl Strategy<Value = Value> {
    let rules: Vec<_> = RULES
        .iter()
        .filter(|(_, meaning)| !matches!(meaning, Meaning::Part))
        .collect();
    prop::collection::vec((prop::sample::select(rules), any_value()), 0..12).prop_map(|members| {
        let mut usage = json!({});
        for ((name, meaning), value) in members {
            let value = match meaning {
                Meaning::Word(Remark::OwnKey) => json!(value == json!(0)),
                Meaning::Word(_) => {
                    json!(["flex", "fast", "us", "provider-billed"][value.to_string().len() % 4])
                }
                _ => value,
            };
            put(&mut usage, name, value);
        }
        usage
    })
}

proptest! {
    #[test]
    fn every_source_reads_a_usage_alike(usage in any_usage()) {
        let mut ways = by_all_ways(&usage).into_iter();
        let (_, first) = ways.next().unwrap();
        for (way, call) in ways {
            // An event without usage and without anything else is rejected.
            prop_assert_eq!(first.usage, call.usage, "{}", way);
        }
        let [prompt, _, read, write, _] = numbers(first.usage);
        prop_assert!(read + write <= prompt);
    }

    #[test]
    fn a_number_is_never_hidden(usage in any_usage(), tokens in 1u64..5_000) {
        // Whatever other names are present, except OpenClaw's own count, this number of output tokens is the minimum.
        let mut usage = usage;
        usage.as_object_mut().unwrap().remove("output");
        usage["completion_tokens"] = json!(tokens);
        for (way, call) in by_all_ways(&usage) {
            prop_assert!(numbers(call.usage)[1] >= tokens, "{}", way);
        }
    }
}
