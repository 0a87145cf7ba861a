//! LiteLLM's generic API logger: `StandardLoggingPayload`s as an array, one per line, or a single one.
//!
//! A payload contains the whole conversation and the model's prices; only the fields of [`LoggedCall`] are read.
//! LiteLLM's token counts follow OpenAI's for all providers: the prompt includes the cached tokens.

use std::collections::BTreeMap;

use super::answer::UsageSource;
use crate::domain::call::Outcome;
use crate::domain::time::parse_iso;
use crate::domain::usage::{self, Bill, Used};
use crate::formats::json::{self, Value};

/// Maximum size of a request, in bytes; the endpoint refuses a longer one.
const MAX_BODY: usize = 16 * 1024 * 1024;

/// One logged call. The field names are those of the table `litellm`.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct LoggedCall {
    /// LiteLLM's name of the provider.
    pub provider: Option<String>,
    /// The model in the request to LiteLLM.
    pub model: Option<String>,
    /// The model in LiteLLM's request to the provider.
    pub response_model: Option<String>,
    /// Prompt tokens outside the cache.
    pub input: Option<u64>,
    /// Tokens of the answer, reasoning included.
    pub output: Option<u64>,
    /// Prompt tokens read from a cache.
    pub cache_read: Option<u64>,
    /// Prompt tokens written to a cache.
    pub cache_write: Option<u64>,
    /// Tokens of reasoning, a part of `output`.
    pub reasoning: Option<u64>,
    /// LiteLLM's figure in USD, in LiteLLM's digits. The provider's figure where `bill` says so.
    pub cost: Option<String>,
    /// What is billed beside tokens at their usual price, in the format of [`Bill::text`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bill: Option<String>,
    /// The answer's id.
    pub response_id: Option<String>,
    /// LiteLLM's id of the call, sent to its client as `x-litellm-call-id`.
    pub request_id: Option<String>,
    /// The HTTP status of a failure.
    pub status: Option<u64>,
    /// How it ended.
    pub outcome: Outcome,
    /// When LiteLLM began, in ms since 1970.
    pub started: Option<u64>,
    /// When it ended, in ms since 1970.
    pub ended: Option<u64>,
    /// How long it took, in ms.
    pub duration: Option<u64>,
    /// Time to the first token of a stream, in ms.
    pub ttft: Option<u64>,
    /// Whether usage was reported.
    pub usage_source: UsageSource,
}

/// Content of a request of the logger.
#[derive(Debug, Default, PartialEq, serde::Serialize)]
pub struct Logged {
    /// Its calls.
    pub calls: Vec<LoggedCall>,
    /// Number of payloads that are no calls of a model, by reason.
    pub skipped: BTreeMap<&'static str, u32>,
}

/// Why a request of the logger could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unreadable {
    /// It is no JSON.
    NotJson,
    /// It ends in the middle of a payload.
    CutOff,
    /// It has more than 16 MiB.
    TooLong,
}

impl Unreadable {
    /// The reason as text.
    pub fn text(self) -> &'static str {
        match self {
            Self::NotJson => "not JSON",
            Self::CutOff => "cut off",
            Self::TooLong => "too long",
        }
    }
}

/// Reader of one request.
#[derive(Debug, Default)]
pub struct Log {
    body: Vec<u8>,
    is_too_long: bool,
}

impl Log {
    /// Reads the next piece of the body.
    pub fn feed(&mut self, bytes: &[u8]) {
        if self.is_too_long || self.body.len() + bytes.len() > MAX_BODY {
            self.is_too_long = true;
            self.body = Vec::new();
        } else {
            self.body.extend_from_slice(bytes);
        }
    }

    /// The logged calls, after the body ended.
    ///
    /// # Errors
    /// Where the body is not JSON from its first byte to its last. No call is taken from such a body.
    pub fn finish(self) -> Result<Logged, Unreadable> {
        if self.is_too_long {
            return Err(Unreadable::TooLong);
        }
        let text = json::text_of(&self.body);
        Logged::read(&text).or_else(|why| match json::without_nan(&text) {
            Some(text) => Logged::read(&text),
            None => Err(why),
        })
    }
}

impl Logged {
    fn read(text: &str) -> Result<Self, Unreadable> {
        let (mut logged, mut is_empty) = (Self::default(), true);
        let read = json::read_all(text, |document| {
            is_empty = false;
            document.each(|payload| logged.take(payload));
        });
        match read {
            Ok(()) if is_empty => Err(Unreadable::CutOff),
            Ok(()) => Ok(logged),
            Err(error) if error.is_eof() => Err(Unreadable::CutOff),
            Err(_) => Err(Unreadable::NotJson),
        }
    }

    fn take(&mut self, payload: Value) {
        let call = match payload.is_object() {
            true => Draft::of(payload).call(),
            false => Err("no_payload"),
        };
        match call {
            Ok(call) => self.calls.push(call),
            Err(reason) => *self.skipped.entry(reason).or_default() += 1,
        }
    }
}

#[derive(Debug, Clone, Default)]
struct Draft {
    id: Option<String>,
    call_id: Option<String>,
    call_type: Option<String>,
    is_failure: bool,
    is_cached: bool,
    is_stream: bool,
    provider: Option<String>,
    model: Option<String>,
    model_group: Option<String>,
    cost: Option<String>,
    /// In µs since 1970, like the next two.
    started: Option<u64>,
    ended: Option<u64>,
    first_token: Option<u64>,
    status: Option<u64>,
    usage: usage::Reading,
}

/// Call types that are a model's answer to a conversation, without the `a` of asynchronous ones. Embeddings, images,
/// speech, the messages of Assistants, and responses that are fetched, cancelled or deleted are not. See `CallTypes` in
/// LiteLLM's `types/utils.py`.
const CALL_TYPES: [&str; 9] = [
    "completion",
    "text_completion",
    "anthropic_messages",
    "responses",
    "responses_websocket",
    "compact_responses",
    "generate_content",
    "generate_content_stream",
    "create_interaction",
];
/// Call types of requests that LiteLLM passes on unread. They may be of any API, so only those with usage are calls of
/// a model.
const PASS_THROUGH: [&str; 2] = ["pass_through_endpoint", "llm_passthrough_route"];

impl Draft {
    fn of(payload: Value) -> Self {
        let mut draft = Self::default();
        payload.members(|key, value| draft.take(key, value));
        draft
    }

    fn take(&mut self, key: &str, value: Value) {
        let digits = || value.number();
        match key {
            "id" => self.id = value.name(),
            "litellm_call_id" => self.call_id = value.name(),
            "call_type" => self.call_type = value.name(),
            "status" => self.is_failure = value.text().as_deref() == Some("failure"),
            "cache_hit" => self.is_cached = value.is_true(),
            "stream" => self.is_stream = value.is_true(),
            "custom_llm_provider" => self.provider = value.name(),
            "model" => self.model = value.name(),
            "model_group" => self.model_group = value.name(),
            "response_cost" => self.cost = digits().map(str::to_owned),
            "startTime" => self.started = time(value),
            "endTime" => self.ended = time(value),
            "completionStartTime" => self.first_token = time(value),
            "prompt_tokens" | "completion_tokens" | "total_tokens" => {
                self.usage.add_member(key, value);
            }
            "metadata" => value.members(|key, value| {
                if key == "usage_object" {
                    self.usage.add_usage(value);
                }
            }),
            "error_information" => value.members(|key, value| {
                if key == "error_code" {
                    self.status = value.text().and_then(|code| code.parse().ok());
                }
            }),
            _ => {}
        }
    }

    fn call(self) -> Result<LoggedCall, &'static str> {
        let call_type = self.call_type.as_deref().ok_or("no_call_type")?;
        let call_type = call_type.trim_start_matches('_');
        let is_of = |types: &[&str]| {
            let plain = call_type.strip_prefix('a').unwrap_or(call_type);
            types.contains(&call_type) || types.contains(&plain)
        };
        let is_passed = is_of(&PASS_THROUGH);
        if !is_passed && !is_of(&CALL_TYPES) {
            return Err("no_model_call");
        }
        let used = Used::of(&self.usage);
        if is_passed && used.tokens.is_none() && !used.is_broken {
            return Err("passed_through_without_usage");
        }
        // LiteLLM answered from its cache: no model was called and nothing is billed.
        if self.is_cached {
            return Err("answered_from_cache");
        }
        let [input, output, cache_read, cache_write, reasoning] = used.counts();
        let since_start = |time: Option<u64>| time?.checked_sub(self.started?);
        Ok(LoggedCall {
            provider: self.provider,
            model: self.model_group.or_else(|| self.model.clone()),
            response_model: self.model,
            input,
            output,
            cache_read,
            cache_write,
            reasoning,
            // LiteLLM passes on the provider's bill in the usage.
            cost: match used.cost_usd {
                Some(usd) if used.is_billed && usd > 0.0 => Some(usd.to_string()),
                _ => self.cost,
            },
            bill: used.bill.as_deref().and_then(Bill::text),
            response_id: self.id,
            request_id: self.call_id,
            status: self.status,
            outcome: if self.is_failure {
                Outcome::Failed
            } else {
                Outcome::Completed
            },
            started: self.started.map(|micros| micros / 1_000),
            ended: self.ended.map(|micros| micros / 1_000),
            duration: since_start(self.ended).map(to_ms),
            ttft: since_start(self.first_token)
                .filter(|_| self.is_stream)
                .map(to_ms),
            usage_source: UsageSource::of(&used, false),
        })
    }
}

fn to_ms(micros: u64) -> u64 {
    (micros + 500) / 1_000
}

/// A time as s since 1970 or in ISO 8601 with an offset, in µs since 1970.
fn time(value: Value) -> Option<u64> {
    if let Some(seconds) = value.number() {
        return micros(seconds);
    }
    let text = value.text()?;
    micros(&text).or_else(|| parse_iso(&text)?.checked_mul(1_000))
}

/// Converts s since 1970 with a fraction to µs.
fn micros(seconds: &str) -> Option<u64> {
    let (whole, fraction) = seconds.split_once('.').unwrap_or((seconds, ""));
    let whole: u64 = whole.parse().ok()?;
    let mut micros = 0;
    for place in 0..6 {
        let digit = fraction.as_bytes().get(place).copied().unwrap_or(b'0');
        if !digit.is_ascii_digit() {
            return None;
        }
        micros = micros * 10 + u64::from(digit - b'0');
    }
    whole.checked_mul(1_000_000)?.checked_add(micros)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ARRAY: &str = include_str!("../../../tests/fixtures/litellm/json_array.body");
    const LINES: &str = include_str!("../../../tests/fixtures/litellm/ndjson.body");
    const SINGLE: &str = include_str!("../../../tests/fixtures/litellm/single.body");
    /// The scripted provider's answers to the calls of `ARRAY` and `LINES`, one per payload. The third had no usage:
    /// LiteLLM then estimates it without saying so.
    const EXPECTED: &str = include_str!("../../../tests/fixtures/litellm/expected.json");

    fn read(body: &str, size: usize) -> Result<Logged, Unreadable> {
        let mut log = Log::default();
        for piece in body.as_bytes().chunks(size) {
            log.feed(piece);
        }
        log.finish()
    }

    fn figures(logged: &Logged) -> Vec<serde_json::Value> {
        let figure = |call: &LoggedCall| {
            let usage = [call.input, call.output, call.cache_read, call.cache_write];
            serde_json::json!({
                "model": call.model,
                "outcome": call.outcome,
                "usage": usage.map(Option::unwrap_or_default).to_vec(),
                "cost": call.cost,
                "status": call.status,
            })
        };
        logged.calls.iter().map(figure).collect()
    }

    #[test]
    fn recorded_logs_match_the_providers_answers() {
        let expected: Vec<serde_json::Value> = serde_json::from_str(EXPECTED).unwrap_or_default();
        for body in [ARRAY, LINES] {
            let logged = read(body, usize::MAX).unwrap_or_default();
            assert_eq!(figures(&logged), expected);
            for call in &logged.calls {
                assert!(call.started.is_some() && call.started <= call.ended);
                assert!(call.duration.is_some_and(|ms| ms < 10_000));
                assert!(call.ttft <= call.duration && call.request_id.is_some());
            }
        }
        let single = read(SINGLE, usize::MAX).unwrap_or_default();
        assert_eq!(figures(&single), expected[..1]);
        let id = single
            .calls
            .first()
            .and_then(|call| call.response_id.as_deref());
        assert_eq!(id, Some("chatcmpl-00000001"));
    }

    #[test]
    fn a_log_reads_the_same_wherever_it_is_cut() {
        for body in [ARRAY, LINES, SINGLE] {
            for size in [1, 7, 1000] {
                assert_eq!(read(body, size), read(body, usize::MAX));
            }
        }
    }

    #[test]
    fn an_incomplete_body_is_refused() {
        for body in [ARRAY, LINES, SINGLE] {
            let body = body.trim_end();
            assert_eq!(read(&body[..body.len() - 1], 50), Err(Unreadable::CutOff));
        }
        assert_eq!(read("", 1), Err(Unreadable::CutOff));
        assert_eq!(read("hello", 1), Err(Unreadable::NotJson));
        assert_eq!(read("{}]", 1), Err(Unreadable::NotJson));
    }

    #[test]
    fn payloads_without_a_model_call_are_skipped_by_reason() {
        let body =
            r#"[{"call_type":"aembedding"},{"call_type":"acompletion","cache_hit":true},{},7]"#;
        let logged = read(body, 9).unwrap_or_default();
        assert!(logged.calls.is_empty());
        let reasons = [
            "answered_from_cache",
            "no_call_type",
            "no_model_call",
            "no_payload",
        ];
        assert_eq!(logged.skipped.keys().copied().collect::<Vec<_>>(), reasons);
    }

    #[test]
    fn the_call_type_decides_what_is_a_model_call() {
        let typed = |call_type: &str, tokens: u64| {
            let body = serde_json::json!({"call_type": call_type, "model": "m", "prompt_tokens": tokens, "completion_tokens": tokens});
            let logged = read(&body.to_string(), 50).unwrap_or_default();
            (logged.calls.len(), logged.skipped.keys().next().copied())
        };
        for call_type in [
            "acompletion",
            "text_completion",
            "atext_completion",
            "anthropic_messages",
            "aanthropic_messages",
            "aresponses",
            "_aresponses_websocket",
            "acompact_responses",
            "agenerate_content_stream",
            "pass_through_endpoint",
            "llm_passthrough_route",
            "allm_passthrough_route",
        ] {
            assert_eq!(typed(call_type, 7), (1, None), "{call_type}");
        }
        for call_type in [
            "aembedding",
            "a_add_message",
            "aget_messages",
            "get_responses",
            "aget_responses",
            "acancel_responses",
            "adelete_responses",
            "alist_input_items",
        ] {
            assert_eq!(
                typed(call_type, 7),
                (0, Some("no_model_call")),
                "{call_type}"
            );
        }
        for call_type in PASS_THROUGH {
            let why = Some("passed_through_without_usage");
            assert_eq!(typed(call_type, 0), (0, why), "{call_type}");
        }
        assert_eq!(typed("acompletion", 0), (1, None));
    }

    #[test]
    fn an_odd_payload_does_not_affect_others() {
        let odd = r#"{"call_type":"completion","id":"\ud800","response_cost":NaN,"prompt_tokens":1e999,"x":1e999}"#;
        let good =
            r#"{"call_type":"completion","call_type":"acompletion","id":"b","prompt_tokens":7}"#;
        let logged = read(&format!("[{odd},[],{good}]"), 11).unwrap_or_default();
        let seen: Vec<_> = logged
            .calls
            .iter()
            .map(|call| (call.response_id.as_deref(), call.usage_source, call.input))
            .collect();
        let expected = [
            (Some("\u{fffd}"), UsageSource::Broken, None),
            (Some("b"), UsageSource::Reported, Some(7)),
        ];
        assert_eq!(seen, expected);
        assert_eq!(logged.skipped, BTreeMap::from([("no_payload", 1)]));
    }

    #[test]
    fn a_log_beyond_the_limit_is_refused_and_not_buffered() {
        let mut log = Log::default();
        let filler = [b' '; 64 * 1024];
        for _ in 0..=MAX_BODY / filler.len() {
            log.feed(&filler);
        }
        assert_eq!(log.body.capacity(), 0);
        log.feed(b"{}");
        assert_eq!(log.finish(), Err(Unreadable::TooLong));
    }

    #[test]
    fn seconds_convert_to_micros() {
        assert_eq!(micros("1795534842.95628"), Some(1_795_534_842_956_280));
        assert_eq!(micros("1.1234567"), Some(1_123_456));
        assert_eq!(micros("7"), Some(7_000_000));
        assert_eq!(micros("1e9"), None);
        assert_eq!(micros("-1.0"), None);
    }
}
