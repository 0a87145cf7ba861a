//! What the total of a usage decides, from every source.

use crate::common::usage::*;
use serde_json::json;

// ---------------------------------------------------------------------------------------------
// The total decides

#[test]
fn reasoning_that_only_the_total_has_is_part_of_the_answer() {
    assert_usage(
        json!({"prompt_tokens": 33, "completion_tokens": 210, "total_tokens": 901}),
        [33, 868, 0, 0, 0],
    );
    // With a cached part, which the prompt includes.
    assert_usage(
        json!({
            "prompt_tokens": 1_033, "completion_tokens": 210, "total_tokens": 1_901,
            "prompt_tokens_details": {"cached_tokens": 500},
        }),
        [1_033, 868, 500, 0, 0],
    );
    // An answer of reasoning only.
    assert_usage(
        json!({"prompt_tokens": 33, "completion_tokens": 0, "total_tokens": 901}),
        [33, 868, 0, 0, 0],
    );
    assert_usage(
        json!({"input": 33, "output": 210, "cacheRead": 0, "cacheWrite": 0, "totalTokens": 901}),
        [33, 868, 0, 0, 0],
    );
}

#[test]
fn the_total_decides_whether_the_output_includes_reasoning() {
    let usage = |completion: u64, total: u64| {
        json!({
            "prompt_tokens": 100, "completion_tokens": completion, "total_tokens": total,
            "completion_tokens_details": {"reasoning_tokens": 300},
        })
    };
    // OpenAI; xAI; and servers whose total only excludes the impossible.
    assert_usage(usage(340, 440), [100, 340, 0, 0, 300]);
    assert_usage(usage(340, 740), [100, 640, 0, 0, 300]);
    assert_usage(usage(40, 440), [100, 340, 0, 0, 300]);
    assert_usage(
        json!({"input_tokens": 100, "output_tokens": 40, "output_tokens_details": {"reasoning_tokens": 300}}),
        [100, 340, 0, 0, 300],
    );
    // Gemini's names decide it.
    assert_usage(
        json!({"promptTokenCount": 100, "candidatesTokenCount": 40, "thoughtsTokenCount": 300, "totalTokenCount": 440}),
        [100, 340, 0, 0, 300],
    );
    // Anthropic's have a name of their own.
    assert_usage(
        json!({"input_tokens": 60, "output_tokens": 900, "output_tokens_details": {"thinking_tokens": 120}}),
        [60, 900, 0, 0, 120],
    );
}

#[test]
fn an_answer_is_no_smaller_than_the_reasoning_that_it_includes() {
    // Perplexity's deep research: neither the answer nor the total has its reasoning (bgeneto/open-webui-cost-tracker#6).
    assert_usage(
        json!({
            "prompt_tokens": 108, "completion_tokens": 3_256, "total_tokens": 3_364, "citation_tokens": 7_299,
            "num_search_queries": 74, "reasoning_tokens": 73_248,
        }),
        [108, 76_504, 0, 0, 73_248],
    );
    // By another name.
    assert_usage(
        json!({
            "input_tokens": 50, "output_tokens": 20, "total_tokens": 70,
            "output_tokens_details": {"reasoning_tokens": 31},
        }),
        [50, 51, 0, 0, 31],
    );
    // An answer of reasoning only, of which the answer's count lacks a token (vercel/ai#18614).
    assert_usage(
        json!({
            "prompt_tokens": 951, "completion_tokens": 6_000, "total_tokens": 6_952,
            "prompt_tokens_details": {"cached_tokens": 60}, "completion_tokens_details": {"reasoning_tokens": 6_001},
        }),
        [951, 6_001, 60, 0, 6_001],
    );
    // An answer as large as its reasoning.
    assert_usage(
        json!({
            "prompt_tokens": 9, "completion_tokens": 30, "total_tokens": 39,
            "completion_tokens_details": {"reasoning_tokens": 30},
        }),
        [9, 30, 0, 0, 30],
    );
}

#[test]
fn the_total_decides_whether_the_prompt_includes_the_cached_part() {
    // OpenAI's names, with a prompt that excludes the cached part.
    assert_usage(
        json!({
            "prompt_tokens": 300, "completion_tokens": 20, "total_tokens": 1_844,
            "prompt_tokens_details": {"cached_tokens": 1_524},
        }),
        [1_824, 20, 1_524, 0, 0],
    );
    // OpenClaw's names, with a prompt that includes it.
    assert_usage(
        json!({"input": 20_000, "output": 200, "cacheRead": 4_096, "cacheWrite": 0, "totalTokens": 20_200}),
        [20_000, 200, 4_096, 0, 0],
    );
    // Anthropic's names with OpenAI's counts, as a relay sends them in a part of its own.
    assert_usage(
        json!({
            "input_tokens": 2_100, "output_tokens": 30, "cache_read_input_tokens": 1_536,
            "billing_usage": {"openai_usage": {"prompt_tokens": 2_100, "completion_tokens": 30, "total_tokens": 2_130}},
        }),
        [2_100, 30, 1_536, 0, 0],
    );
    // The prompt includes one of the two.
    assert_usage(
        json!({
            "prompt_tokens": 500, "completion_tokens": 10, "total_tokens": 710,
            "cache_read_input_tokens": 400, "cache_creation_input_tokens": 200,
        }),
        [700, 10, 400, 200, 0],
    );
    // Neither reasoning nor the cached part is included.
    assert_usage(
        json!({
            "prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 460,
            "prompt_tokens_details": {"cached_tokens": 300}, "completion_tokens_details": {"reasoning_tokens": 50},
        }),
        [400, 60, 300, 0, 50],
    );
    // Anthropic's total that excludes the cached part changes nothing: so small a prompt cannot include it.
    assert_usage(
        json!({"input": 3, "output": 10, "cacheRead": 1_000, "cacheWrite": 0, "totalTokens": 13}),
        [1_003, 10, 1_000, 0, 0],
    );
}

#[test]
fn cached_counts_are_no_more_than_the_prompt() {
    // Azure; then OpenRouter, which reports cache writes as reads, too.
    assert_usage(
        json!({
            "prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11,
            "prompt_tokens_details": {"cached_tokens": 170},
        }),
        [9, 2, 9, 0, 0],
    );
    assert_usage(
        json!({
            "prompt_tokens": 3_000, "completion_tokens": 80, "total_tokens": 3_080,
            "prompt_tokens_details": {"cached_tokens": 2_900, "cache_write_tokens": 2_900},
        }),
        [3_000, 80, 2_900, 100, 0],
    );
    assert_usage(
        json!({"prompt_tokens": 10, "completion_tokens": 2, "prompt_cache_hit_tokens": 64, "prompt_cache_miss_tokens": 0}),
        [10, 2, 10, 0, 0],
    );
}

#[test]
fn anthropics_cached_counts_beyond_a_whole_prompt_are_beside_it() {
    // LiteLLM (BerriAI/litellm#15056), whose total has the same fault; then a read, which it repeats in the details.
    let usage = |write: u64, read: u64, inside: u64| {
        json!({
            "prompt_tokens": 31, "completion_tokens": 467, "total_tokens": 498,
            "prompt_tokens_details": {"cached_tokens": inside},
            "cache_creation_input_tokens": write, "cache_read_input_tokens": read,
        })
    };
    assert_usage(usage(1_253, 0, 0), [1_284, 467, 0, 1_253, 0]);
    assert_usage(usage(0, 1_253, 0), [1_284, 467, 1_253, 0, 0]);
    assert_usage(usage(0, 1_253, 1_253), [1_284, 467, 1_253, 0, 0]);
    assert_usage(usage(200, 1_253, 1_253), [1_484, 467, 1_253, 200, 0]);
    // Counts that the prompt has room for are a part of it.
    assert_usage(usage(20, 0, 0), [31, 467, 0, 20, 0]);
    assert_usage(usage(10, 20, 20), [31, 467, 20, 10, 0]);
    // The reads are a named part that fits in, the writes are not.
    assert_usage(
        json!({
            "prompt_tokens": 500, "completion_tokens": 10, "prompt_tokens_details": {"cached_tokens": 400},
            "cache_read_input_tokens": 400, "cache_creation_input_tokens": 200,
        }),
        [700, 10, 400, 200, 0],
    );
}

#[test]
fn the_total_decides_whether_audio_is_included() {
    // Mistral's prompt excludes audio, OpenAI's includes it.
    let usage = |total: u64| {
        json!({
            "prompt_tokens": 11, "completion_tokens": 200, "total_tokens": total,
            "prompt_tokens_details": {"audio_tokens": 400, "cached_tokens": 0},
        })
    };
    assert_usage(usage(611), [411, 200, 0, 0, 0]);
    let inside = json!({
        "prompt_tokens": 500, "completion_tokens": 200, "total_tokens": 700,
        "prompt_tokens_details": {"audio_tokens": 400}, "completion_tokens_details": {"audio_tokens": 150},
    });
    assert_usage(inside, [500, 200, 0, 0, 0]);
    let answered = json!({
        "prompt_tokens": 50, "completion_tokens": 20, "total_tokens": 220,
        "completion_tokens_details": {"audio_tokens": 150},
    });
    assert_usage(answered, [50, 170, 0, 0, 0]);
}

#[test]
fn a_total_alone_is_usage() {
    assert_usage(
        json!({"input": 0, "output": 0, "cacheRead": 0, "cacheWrite": 0, "totalTokens": 40_100}),
        [40_100, 0, 0, 0, 0],
    );
    assert_usage(json!({"total_tokens": 77}), [77, 0, 0, 0, 0]);
    assert_usage(
        json!({"completion_tokens": 7, "total_tokens": 77}),
        [70, 7, 0, 0, 0],
    );
    assert_usage(
        json!({"prompt_tokens": 70, "total_tokens": 77}),
        [70, 7, 0, 0, 0],
    );
    // All zeros are no usage.
    for (way, call) in by_all_ways(&json!({"input": 0, "output": 0, "totalTokens": 0})) {
        assert_eq!(call.usage, None, "{way}");
    }
}
