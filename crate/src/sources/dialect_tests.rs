use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::*;
use crate::formats::event_stream::tests::message;

fn read(target: impl Into<Target>, status: u16, bytes: &[u8], ending: Ending) -> Told {
    let mut answer = Answer::new(target, status);
    for piece in bytes.chunks(5) {
        answer.feed(piece);
    }
    answer.finish(ending)
}

fn told(api: Api, body: &str) -> Told {
    read(api, 200, body.as_bytes(), Ending::Whole)
}

/// `[input, output, cache_read, cache_write, reasoning]`
fn counts(told: &Told) -> [u64; 5] {
    let told = [
        told.input,
        told.output,
        told.cache_read,
        told.cache_write,
        told.reasoning,
    ];
    told.map(Option::unwrap_or_default)
}

fn sse(events: &[Value]) -> String {
    let events = events.iter().map(|event| format!("data: {event}\r\n\r\n"));
    events.collect()
}

fn gemini(usage: Value) -> Value {
    json!({
        "candidates": [{"content": {"parts": [{"text": "x"}], "role": "model"}, "finishReason": "STOP"}],
        "usageMetadata": usage, "modelVersion": "gemini-3-pro", "responseId": "r1",
    })
}

#[test]
fn gemini_counts_thoughts_tools_and_cached_parts() {
    for (usage, expected) in [
        // Thoughts are counted beside the candidates.
        (
            json!({"promptTokenCount": 20, "candidatesTokenCount": 198, "thoughtsTokenCount": 405, "totalTokenCount": 623}),
            [20, 603, 0, 0, 405],
        ),
        // The same without a total.
        (
            json!({"promptTokenCount": 20, "candidatesTokenCount": 198, "thoughtsTokenCount": 405}),
            [20, 603, 0, 0, 405],
        ),
        // The total says that thoughts are a part of the candidates.
        (
            json!({"promptTokenCount": 20, "candidatesTokenCount": 603, "thoughtsTokenCount": 405, "totalTokenCount": 623}),
            [20, 603, 0, 0, 405],
        ),
        // Tokens that tools put into the prompt: the documentation's example of URL context.
        (
            json!({"promptTokenCount": 27, "candidatesTokenCount": 45, "thoughtsTokenCount": 31, "toolUsePromptTokenCount": 10309, "totalTokenCount": 10412}),
            [10336, 76, 0, 0, 31],
        ),
        // The prompt includes the cached part.
        (
            json!({"promptTokenCount": 1200, "cachedContentTokenCount": 1000, "candidatesTokenCount": 34, "totalTokenCount": 1234}),
            [200, 34, 1000, 0, 0],
        ),
        (
            json!({"promptTokenCount": 7, "cachedContentTokenCount": 163, "candidatesTokenCount": 1, "totalTokenCount": 8}),
            [0, 1, 7, 0, 0],
        ),
        // No candidates, only thoughts: only the total has their number.
        (
            json!({"promptTokenCount": 20, "totalTokenCount": 623}),
            [20, 603, 0, 0, 0],
        ),
        (
            json!({"promptTokenCount": 20, "totalTokenCount": 20}),
            [20, 0, 0, 0, 0],
        ),
    ] {
        let body = gemini(usage);
        for body in [
            body.to_string(),
            format!("[{body}\n]"),
            sse(std::slice::from_ref(&body)),
        ] {
            let told = told(Api::Gemini, &body);
            assert_eq!(counts(&told), expected, "{body}");
            assert_eq!(told.outcome, Outcome::Completed);
            assert_eq!(told.response_id.as_deref(), Some("r1"));
            assert_eq!(told.response_model.as_deref(), Some("gemini-3-pro"));
        }
    }
}

#[test]
fn counts_of_a_gemini_stream_are_cumulative_and_zeros_hide_none() {
    let chunk = |text: &str, usage: Value| json!({"candidates": [{"content": {"parts": [{"text": text}]}}], "usageMetadata": usage});
    let events = [
        chunk(
            "",
            json!({"promptTokenCount": 100, "cachedContentTokenCount": 60, "thoughtsTokenCount": 40, "totalTokenCount": 140}),
        ),
        chunk(
            "a",
            json!({"promptTokenCount": 100, "candidatesTokenCount": 3, "thoughtsTokenCount": 50, "totalTokenCount": 153}),
        ),
        json!({"candidates": [{"finishReason": "STOP"}], "usageMetadata": {"promptTokenCount": 100, "candidatesTokenCount": 9, "thoughtsTokenCount": 0, "totalTokenCount": 159}}),
    ];
    let told = told(Api::Gemini, &sse(&events));
    assert_eq!(counts(&told), [40, 59, 60, 0, 50]);
    let left = read(Api::Gemini, 200, sse(&events[..2]).as_bytes(), Ending::Left);
    assert_eq!(
        (counts(&left), left.outcome),
        ([40, 53, 60, 0, 50], Outcome::Aborted)
    );
    let mut answer = Answer::new(Api::Gemini, 200);
    let firsts = events.map(|event| answer.feed(format!("data: {event}\n\n").as_bytes()));
    assert_eq!(firsts, [false, true, false]);
}

#[test]
fn unusual_gemini_answers() {
    let blocked = json!({"promptFeedback": {"blockReason": "SAFETY"}, "usageMetadata": {"promptTokenCount": 9, "totalTokenCount": 9}});
    let told_of = told(Api::Gemini, &blocked.to_string());
    assert_eq!(
        (counts(&told_of), told_of.outcome),
        ([9, 0, 0, 0, 0], Outcome::Completed)
    );
    // Cloud Code Assist.
    let wrapped = json!({"response": gemini(json!({"promptTokenCount": 5, "candidatesTokenCount": 6, "totalTokenCount": 11}))});
    assert_eq!(
        counts(&told(Api::Gemini, &sse(&[wrapped]))),
        [5, 6, 0, 0, 0]
    );
    let error = json!({"error": {"code": 503, "message": "The model is overloaded.", "status": "UNAVAILABLE"}});
    let begun = json!({"candidates": [{"content": {"parts": [{"text": "x"}]}}], "usageMetadata": {"trafficType": "ON_DEMAND"}});
    let told_of = told(Api::Gemini, &sse(&[begun, error]));
    assert_eq!(
        (told_of.outcome, told_of.usage_source),
        (Outcome::Failed, UsageSource::Missing)
    );
}

#[test]
fn ollama_reports_counts_in_the_last_line() {
    let lines = "{\"model\":\"qwen3\",\"message\":{\"content\":\"x\"},\"done\":false}\n{\"model\":\"qwen3\",\"done\":true,\"done_reason\":\"stop\",\"prompt_eval_count\":77,\"eval_count\":8}";
    let told_of = told(Api::Ollama, lines);
    assert_eq!(
        (counts(&told_of), told_of.outcome),
        ([77, 8, 0, 0, 0], Outcome::Completed)
    );
    assert_eq!(told_of.response_model.as_deref(), Some("qwen3"));
    let whole =
        r#"{"model":"qwen3","response":"x","done":true,"prompt_eval_count":3,"eval_count":4}"#;
    assert_eq!(counts(&told(Api::Ollama, whole)), [3, 4, 0, 0, 0]);
    let cached = whole.replace(
        "\"eval_count\"",
        "\"prompt_eval_cached_count\":2,\"eval_count\"",
    );
    assert_eq!(counts(&told(Api::Ollama, &cached)), [1, 4, 2, 0, 0]);
    let cut = read(Api::Ollama, 200, &lines.as_bytes()[..60], Ending::Cut);
    assert_eq!(
        (cut.outcome, cut.usage_source),
        (Outcome::Failed, UsageSource::Missing)
    );
    let failed = told(
        Api::Ollama,
        "{\"message\":{\"content\":\"x\"},\"done\":false}\n{\"error\":\"unexpected EOF\"}\n",
    );
    assert_eq!(failed.outcome, Outcome::Failed);
    let loaded = told(
        Api::Ollama,
        r#"{"model":"m","response":"","done":true,"done_reason":"load"}"#,
    );
    assert_eq!(loaded.about, About::Nothing);
}

#[test]
fn bedrock_converse_reports_usage_in_a_document_and_in_an_event_stream() {
    let usage = json!({"inputTokens": 125, "outputTokens": 60, "totalTokens": 1185, "cacheReadInputTokens": 800, "cacheWriteInputTokens": 200});
    let whole = json!({"output": {"message": {"role": "assistant", "content": [{"text": "x"}]}}, "stopReason": "end_turn", "usage": usage, "metrics": {"latencyMs": 7}});
    let expected = [125, 60, 800, 200, 0];
    let told_of = told(Api::Converse, &whole.to_string());
    assert_eq!(
        (counts(&told_of), told_of.outcome),
        (expected, Outcome::Completed)
    );
    let events = [
        ("messageStart", json!({"role": "assistant", "p": "ab"})),
        (
            "contentBlockDelta",
            json!({"contentBlockIndex": 0, "delta": {"text": "x"}, "p": "a"}),
        ),
        ("contentBlockStop", json!({"contentBlockIndex": 0})),
        ("messageStop", json!({"stopReason": "end_turn"})),
        (
            "metadata",
            json!({"usage": usage, "metrics": {"latencyMs": 7}}),
        ),
    ];
    let framed = |name: &str, event: &Value| {
        let headers = [
            (":event-type", name),
            (":content-type", "application/json"),
            (":message-type", "event"),
        ];
        message(&headers, event.to_string().as_bytes())
    };
    let pieces = events.each_ref().map(|(name, event)| framed(name, event));
    let mut answer = Answer::new(Api::Converse, 200);
    let firsts = pieces.each_ref().map(|piece| answer.feed(piece));
    assert_eq!(firsts, [false, true, false, false, false]);
    assert_eq!(counts(&answer.finish(Ending::Whole)), expected);
    let bytes = pieces.concat();
    for at in 0..=bytes.len() {
        let mut answer = Answer::new(Api::Converse, 200);
        answer.feed(&bytes[..at]);
        answer.feed(&bytes[at..]);
        assert_eq!(counts(&answer.finish(Ending::Whole)), expected, "{at}");
    }
    let exception = message(
        &[
            (":exception-type", "throttlingException"),
            (":message-type", "exception"),
        ],
        b"{\"message\":\"slow\"}",
    );
    let failed = read(
        Api::Converse,
        200,
        &[&pieces[1][..], &exception].concat(),
        Ending::Whole,
    );
    assert_eq!(
        (failed.outcome, failed.usage_source),
        (Outcome::Failed, UsageSource::Missing)
    );
}

#[test]
fn bedrock_invoke_answers_in_the_format_of_the_models_maker() {
    for (body, expected) in [
        (
            json!({"type": "message", "model": "claude", "content": [], "stop_reason": "end_turn", "usage": {"input_tokens": 5, "output_tokens": 6, "cache_read_input_tokens": 7, "cache_creation_input_tokens": 8}}),
            [5, 6, 7, 8, 0],
        ),
        (
            json!({"output": {"message": {}}, "stopReason": "end_turn", "usage": {"inputTokens": 5, "outputTokens": 6, "totalTokens": 11, "cacheReadInputTokenCount": 7, "cacheWriteInputTokenCount": 0}}),
            [5, 6, 7, 0, 0],
        ),
        (
            json!({"generation": "x", "prompt_token_count": 5, "generation_token_count": 6, "stop_reason": "stop"}),
            [5, 6, 0, 0, 0],
        ),
        (
            json!({"inputTextTokenCount": 5, "results": [{"tokenCount": 4, "outputText": "x", "completionReason": "FINISH"}, {"tokenCount": 2, "outputText": "y", "completionReason": "FINISH"}]}),
            [5, 6, 0, 0, 0],
        ),
        (
            json!({"choices": [{"message": {"content": "x"}, "finish_reason": "stop"}], "usage": {"prompt_tokens": 12, "completion_tokens": 6, "total_tokens": 18, "prompt_tokens_details": {"cached_tokens": 7}}}),
            [5, 6, 7, 0, 0],
        ),
    ] {
        let told = told(Api::Invoke, &body.to_string());
        assert_eq!(
            (counts(&told), told.outcome),
            (expected, Outcome::Completed),
            "{body}"
        );
    }
    let embedding = json!({"embedding": [0.1], "inputTextTokenCount": 5});
    assert_eq!(
        told(Api::Invoke, &embedding.to_string()).about,
        About::Nothing
    );
    // Mistral's and Cohere's formats have no counts; the headers do.
    let mut answer = Answer::new(Api::Invoke, 200);
    answer.header("x-amzn-bedrock-input-token-count", "5");
    answer.header("x-amzn-bedrock-output-token-count", "6");
    answer.header("x-amzn-bedrock-invocation-latency", "900");
    answer.feed(
        json!({"outputs": [{"text": "x", "stop_reason": "stop"}]})
            .to_string()
            .as_bytes(),
    );
    let told = answer.finish(Ending::Whole);
    assert_eq!(
        (counts(&told), told.outcome),
        ([5, 6, 0, 0, 0], Outcome::Completed)
    );
}

#[test]
fn bedrock_bills_the_tier_of_its_header_whatever_the_body_says() {
    let body = json!({
        "choices": [{"message": {"content": "x"}, "finish_reason": "stop"}], "service_tier": "default",
        "usage": {"prompt_tokens": 5, "completion_tokens": 6, "total_tokens": 11},
    });
    let tier = |header: Option<&str>| {
        let mut answer = Answer::new(Api::Invoke, 200);
        if let Some(tier) = header {
            answer.header("x-amzn-bedrock-service-tier", tier);
        }
        answer.feed(body.to_string().as_bytes());
        let told = answer.finish(Ending::Whole);
        assert_eq!(counts(&told), [5, 6, 0, 0, 0]);
        let bill = told.bill.and_then(|bill| usage::Bill::of_text(&bill));
        bill.and_then(|bill| bill.tier)
    };
    assert_eq!(tier(Some("priority")), Some(usage::Tier::Priority));
    assert_eq!(tier(Some("flex")), Some(usage::Tier::Flex));
    for standard in [None, Some("default"), Some(""), Some("\"")] {
        assert_eq!(tier(standard), None, "{standard:?}");
    }
}

#[test]
fn bedrock_invoke_streams_the_makers_own_events_in_frames() {
    let metrics = json!({"inputTokenCount": 5, "outputTokenCount": 6, "invocationLatency": 9, "firstByteLatency": 3});
    let streams = [
        vec![
            json!({"type": "message_start", "message": {"model": "claude", "usage": {"input_tokens": 5, "cache_read_input_tokens": 7, "output_tokens": 1}}}),
            json!({"type": "content_block_delta", "delta": {"type": "text_delta", "text": "x"}}),
            json!({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 6}}),
            json!({"type": "message_stop", "amazon-bedrock-invocationMetrics": {"inputTokenCount": 12, "outputTokenCount": 6}}),
        ],
        vec![
            json!({"messageStart": {"role": "assistant"}}),
            json!({"contentBlockDelta": {"delta": {"text": "x"}, "contentBlockIndex": 0}}),
            json!({"messageStop": {"stopReason": "end_turn"}}),
            json!({"metadata": {"usage": {"inputTokens": 5, "outputTokens": 6, "cacheReadInputTokenCount": 7}, "metrics": {}}}),
        ],
        vec![
            json!({"generation": "x", "prompt_token_count": 5, "generation_token_count": 1, "stop_reason": null}),
            json!({"generation": "", "prompt_token_count": null, "generation_token_count": 6, "stop_reason": "stop", "amazon-bedrock-invocationMetrics": metrics}),
        ],
        vec![
            json!({"text": "x", "is_finished": false}),
            json!({"is_finished": true, "finish_reason": "COMPLETE", "amazon-bedrock-invocationMetrics": metrics}),
        ],
    ];
    for (events, cached) in streams.iter().zip([7, 7, 0, 0]) {
        let frames = events.iter().map(|event| {
            let payload = json!({"bytes": STANDARD.encode(event.to_string()), "p": "abcd"});
            let headers = [(":event-type", "chunk"), (":message-type", "event")];
            message(&headers, payload.to_string().as_bytes())
        });
        let bytes: Vec<u8> = frames.flatten().collect();
        let told = read(Api::Invoke, 200, &bytes, Ending::Whole);
        assert_eq!(
            (counts(&told), told.outcome),
            ([5, 6, cached, 0, 0], Outcome::Completed),
            "{events:?}"
        );
    }
}

#[test]
fn an_answer_without_an_end_reason_is_no_failure() {
    for (api, body, expected) in [
        (
            Api::Chat,
            json!({"choices": [{"message": {"content": "x"}, "finish_details": {"type": "max_tokens"}}], "usage": {"prompt_tokens": 1118, "completion_tokens": 16}}),
            [1118, 16, 0, 0, 0],
        ),
        (
            Api::Chat,
            json!({"choices": [{"text": "x", "log_probs": null}], "model": "palmyra-x4"}),
            [0; 5],
        ),
        (
            Api::Responses,
            json!({"id": "resp_c", "object": "response.compaction", "output": [], "usage": {"input_tokens": 139, "output_tokens": 438, "total_tokens": 577}}),
            [139, 438, 0, 0, 0],
        ),
        (
            Api::Messages,
            json!({"content": [{"type": "text", "text": "x"}], "usage": {"input_tokens": 3, "output_tokens": 4}}),
            [3, 4, 0, 0, 0],
        ),
        (
            Api::Gemini,
            json!({"candidates": [{"content": {}}], "usageMetadata": {"promptTokenCount": 3, "totalTokenCount": 3}}),
            [3, 0, 0, 0, 0],
        ),
    ] {
        let told_of = told(api, &body.to_string());
        assert_eq!(
            (counts(&told_of), told_of.outcome, told_of.about),
            (expected, Outcome::Completed, About::Call),
            "{body}"
        );
        let failed = read(api, 500, body.to_string().as_bytes(), Ending::Whole);
        assert_eq!(failed.outcome, Outcome::Failed);
    }
    // A stream whose only sign of its end is the usage in its last event.
    let stream = sse(&[
        json!({"choices": [{"delta": {"content": "x"}}]}),
        json!({"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 4}}),
    ]);
    assert_eq!(told(Api::Chat, &stream).outcome, Outcome::Completed);
    // Anthropic reports the prompt's usage at the beginning, which is no sign of an end.
    let begun = sse(&[
        json!({"type": "message_start", "message": {"usage": {"input_tokens": 3, "output_tokens": 1}}}),
    ]);
    assert_eq!(told(Api::Messages, &begun).outcome, Outcome::Failed);
}

#[test]
fn a_document_that_is_neither_answer_nor_error_is_no_call() {
    for body in ["{}", r#"{"request_id":"deferred-1"}"#, r#"{"status":1}"#] {
        assert_eq!(told(Api::Chat, body).about, About::Nothing, "{body}");
    }
    for body in [r#"{"error":{"message":"no"}}"#, "<html>", "", "{"] {
        let told = told(Api::Chat, body);
        assert_eq!(
            (told.about, told.outcome),
            (About::Call, Outcome::Failed),
            "{body}"
        );
    }
}

#[test]
fn a_background_response_is_a_call_once_it_is_complete() {
    let fetch = || Target::of("GET", "/v1/responses/resp_1").unwrap_or(Api::Chat.into());
    let response = |status: &str, usage: Value| json!({"id": "resp_1", "object": "response", "background": true, "created_at": 1_780_000_000, "completed_at": 1_780_000_009, "status": status, "model": "gpt-5", "output": [], "usage": usage, "error": null});
    let usage = json!({"input_tokens": 12, "output_tokens": 3, "total_tokens": 15});
    let queued = response("queued", Value::Null).to_string();
    let done = response("completed", usage.clone()).to_string();
    for target in [Api::Responses.into(), fetch()] {
        let pending = read(target, 200, queued.as_bytes(), Ending::Whole);
        assert_eq!(
            (pending.about, pending.usage_source),
            (About::Pending, UsageSource::Missing)
        );
    }
    let told_of = read(fetch(), 200, done.as_bytes(), Ending::Whole);
    assert_eq!(
        (told_of.about, told_of.outcome),
        (About::Call, Outcome::Completed)
    );
    assert_eq!(
        (told_of.background, told_of.created, told_of.completed),
        (true, Some(1_780_000_000_000), Some(1_780_000_009_000))
    );
    assert_eq!(counts(&told_of), [12, 3, 0, 0, 0]);
    // A client that leaves the stream of a background response may fetch it later; other responses cannot be fetched.
    for (background, about) in [(true, About::Pending), (false, About::Call)] {
        let begun = json!({"type": "response.created", "response": {"id": "resp_1", "status": "in_progress", "background": background}});
        let stream = sse(&[
            begun,
            json!({"type": "response.output_text.delta", "delta": "x"}),
        ]);
        let left = read(Api::Responses, 200, stream.as_bytes(), Ending::Left);
        assert_eq!((left.about, left.outcome), (about, Outcome::Aborted));
    }
    let failed = response("failed", Value::Null).to_string();
    let told_of = read(fetch(), 200, failed.as_bytes(), Ending::Whole);
    assert_eq!(
        (told_of.about, told_of.outcome),
        (About::Call, Outcome::Failed)
    );
    let unknown = json!({"error": {"message": "not found"}}).to_string();
    assert_eq!(
        read(fetch(), 404, unknown.as_bytes(), Ending::Whole).about,
        About::Nothing
    );
}
