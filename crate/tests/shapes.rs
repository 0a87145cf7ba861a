//! Rows in all shapes that OpenClaw's reader of usage accepts: providers' names instead of OpenClaw's, usage and names
//! outside the message, several agents in one store.

use crate::common::stored::{answer, calls, facts, feed, line, rows_of, scope, skipped, with};
use agentwatch_openclaw::sessions::transcript::{Reader, Scope};
use agentwatch_openclaw::sources::stored::{StoredFacts, read};
use serde_json::{Value, json};

/// Whole prompt, output, cache reads and cache writes.
fn tokens(usage: &Value) -> [u64; 4] {
    let call = calls(&rows_of(&line(&with("/message/usage", usage.clone()))))
        .pop()
        .unwrap();
    assert!(!call.broken_usage, "{usage}");
    let usage = call.usage.unwrap_or_default();
    [
        usage.prompt(),
        usage.output,
        usage.cache_read,
        usage.cache_write,
    ]
}

#[test]
fn providers_names_are_read_like_openclaws() {
    for (usage, expected) in [
        // Anthropic: the input excludes cached tokens.
        (
            json!({"input_tokens": 3, "output_tokens": 10, "cache_read_input_tokens": 1000,
                "cache_creation_input_tokens": 50}),
            [1053, 10, 1000, 50],
        ),
        // OpenAI's chat completions: the prompt includes cached tokens.
        (
            json!({"prompt_tokens": 1200, "completion_tokens": 34, "total_tokens": 1234,
                "prompt_tokens_details": {"cached_tokens": 1000}}),
            [1200, 34, 1000, 0],
        ),
        // OpenAI's responses.
        (
            json!({"input_tokens": 900, "output_tokens": 5,
                "input_tokens_details": {"cached_tokens": 800, "cache_write_tokens": 60}}),
            [900, 5, 800, 60],
        ),
        // Codex and other command lines.
        (
            json!({"input_tokens": 500, "cached_input_tokens": 400, "output_tokens": 9}),
            [500, 9, 400, 0],
        ),
        (
            json!({"input": 100, "output": 9, "cached": 400}),
            [500, 9, 400, 0],
        ),
        (
            json!({"promptTokens": 70, "completionTokens": 8}),
            [70, 8, 0, 0],
        ),
        (
            json!({"inputTokens": 70, "outputTokens": 8, "cache_read": 30, "cache_write": 5}),
            [105, 8, 30, 5],
        ),
        // Moonshot.
        (
            json!({"prompt_tokens": 70, "completion_tokens": 8, "cached_tokens": 60}),
            [70, 8, 60, 0],
        ),
        // llama.cpp.
        (json!({"prompt_n": 41, "predicted_n": 6}), [41, 6, 0, 0]),
        (
            json!({"timings": {"prompt_n": 41, "predicted_n": 6}}),
            [41, 6, 0, 0],
        ),
        // The cached count exceeds the prompt.
        (
            json!({"prompt_tokens": 50, "completion_tokens": 8, "cached_tokens": 60}),
            [50, 8, 50, 0],
        ),
        // OpenClaw's own name ranks first; null counts as missing.
        (
            json!({"input": 5, "input_tokens": 900, "output": null, "output_tokens": 7}),
            [5, 7, 0, 0],
        ),
        (
            json!({"input": 5, "output": 1, "cacheRead": 2, "cacheWrite": 3, "prompt_tokens": 99,
                "cached_tokens": 98}),
            [10, 1, 2, 3],
        ),
    ] {
        assert_eq!(tokens(&usage), expected, "{usage}");
    }
}

#[test]
fn fields_outside_the_message_are_the_fallback() {
    let moved = |names: &[&str]| {
        let mut row = answer();
        for name in names {
            let value = row["message"].as_object_mut().unwrap().remove(*name);
            row[*name] = value.unwrap();
        }
        row
    };
    let expected = calls(&rows_of(&line(&answer())));
    for names in [
        &["usage"][..],
        &["provider", "model"],
        &["usage", "provider", "model"],
    ] {
        assert_eq!(calls(&rows_of(&line(&moved(names)))), expected, "{names:?}");
    }
    // The message's own fields rank first.
    let mut both = answer();
    both["usage"] = json!({"input": 9_999, "output": 9});
    (both["provider"], both["model"]) = (json!("q"), json!("n"));
    assert_eq!(calls(&rows_of(&line(&both))), expected);
    let mut nulls = moved(&["usage", "model"]);
    nulls["message"]["usage"] = Value::Null;
    nulls["message"]["model"] = Value::Null;
    assert_eq!(calls(&rows_of(&line(&nulls))), expected);
    // OpenClaw writes the type of each row; its reader does not require it.
    let mut untyped = answer();
    untyped.as_object_mut().unwrap().remove("type");
    assert_eq!(calls(&rows_of(&line(&untyped))), expected);
    // The gateway's own rows are no calls, wherever they are marked.
    let mut own = moved(&["provider"]);
    own["provider"] = json!("openclaw");
    assert!(rows_of(&line(&own)).is_empty());
    assert_eq!(skipped(&line(&own)).json(), "{}");
}

#[test]
fn the_agent_comes_from_the_sessions_key_else_from_the_folder() {
    for (key, agent) in [
        (Some("agent:main:main"), "main"),
        (Some("agent:side:main"), "side"),
        (Some("agent:ops:telegram:direct:1"), "ops"),
        (Some("global"), "folder"),
        (Some("agent:"), "folder"),
        (None, "folder"),
    ] {
        let scope = Scope {
            agent: "folder".into(),
            session_key: key.map(str::to_owned),
            ..scope()
        };
        let rows = feed(&mut Reader::new(scope), &[line(&answer()).as_bytes()]);
        let call = read(&StoredFacts::new(facts(&rows[0]))).unwrap();
        assert_eq!(call.agent.as_deref(), Some(agent), "{key:?}");
    }
}
