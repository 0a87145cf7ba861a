//! LiteLLM's generic API logger: `StandardLoggingPayload`s as an array, one a line, or a single one.
//!
//! A payload has the whole conversation in it, and the prices of its model; only what [`LoggedCall`] has is
//! looked at. Its token counts are OpenAI's, whatever the provider: the prompt includes the cached tokens.

use std::collections::BTreeMap;

use super::answer::{Counts, Field as Count, UsageSource};
use super::openai;
use crate::call::Outcome;
use crate::json::Shape::{self, Each, Leaf, Object, Record};
use crate::json::{Found, Scanner};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    Payload,
    Id,
    CallId,
    CallType,
    Status,
    CacheHit,
    Stream,
    Provider,
    Model,
    ModelGroup,
    Cost,
    StartTime,
    EndTime,
    FirstTokenTime,
    ErrorCode,
    Count(Count),
}

const PAYLOADS: Shape<Field> = Each(&PAYLOAD);

const PAYLOAD: Shape<Field> = Record(
    Field::Payload,
    &[
        ("id", Leaf(Field::Id)),
        ("litellm_call_id", Leaf(Field::CallId)),
        ("call_type", Leaf(Field::CallType)),
        ("status", Leaf(Field::Status)),
        ("cache_hit", Leaf(Field::CacheHit)),
        ("stream", Leaf(Field::Stream)),
        ("custom_llm_provider", Leaf(Field::Provider)),
        ("model", Leaf(Field::Model)),
        ("model_group", Leaf(Field::ModelGroup)),
        ("response_cost", Leaf(Field::Cost)),
        ("startTime", Leaf(Field::StartTime)),
        ("endTime", Leaf(Field::EndTime)),
        ("completionStartTime", Leaf(Field::FirstTokenTime)),
        ("prompt_tokens", Leaf(Field::Count(Count::Input))),
        ("completion_tokens", Leaf(Field::Count(Count::Output))),
        ("metadata", Object(&[("usage_object", USAGE)])),
        (
            "error_information",
            Object(&[("error_code", Leaf(Field::ErrorCode))]),
        ),
    ],
);

const USAGE: Shape<Field> = Object(&[
    (
        "prompt_tokens_details",
        Object(&[
            ("cached_tokens", Leaf(Field::Count(Count::CacheRead))),
            ("cache_write_tokens", Leaf(Field::Count(Count::CacheWrite))),
        ]),
    ),
    (
        "completion_tokens_details",
        Object(&[("reasoning_tokens", Leaf(Field::Count(Count::Reasoning)))]),
    ),
    (
        "cache_read_input_tokens",
        Leaf(Field::Count(Count::CacheRead)),
    ),
    (
        "cache_creation_input_tokens",
        Leaf(Field::Count(Count::CacheWrite)),
    ),
]);

/// One logged call, in the names of the table `litellm`.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct LoggedCall {
    /// LiteLLM's name of the provider that it asked.
    pub provider: Option<String>,
    /// The model that LiteLLM was asked for.
    pub model: Option<String>,
    /// The model that it asked.
    pub response_model: Option<String>,
    /// Prompt tokens that no cache held.
    pub input: Option<u64>,
    /// Tokens of the answer, reasoning included.
    pub output: Option<u64>,
    /// Prompt tokens read from a cache.
    pub cache_read: Option<u64>,
    /// Prompt tokens written to one.
    pub cache_write: Option<u64>,
    /// Tokens of reasoning, a part of `output`.
    pub reasoning: Option<u64>,
    /// LiteLLM's figure in USD: the digits that it wrote.
    pub cost: Option<String>,
    /// The answer's id.
    pub response_id: Option<String>,
    /// LiteLLM's id of the call, which its client gets as `x-litellm-call-id`.
    pub request_id: Option<String>,
    /// The HTTP status of a failure.
    pub status: Option<u64>,
    /// How it ended.
    pub outcome: Outcome,
    /// When LiteLLM began, in ms since 1970.
    pub started: Option<u64>,
    /// When it ended.
    pub ended: Option<u64>,
    /// How long it took, in ms.
    pub duration: Option<u64>,
    /// Time to the first token of a stream, in ms.
    pub ttft: Option<u64>,
    /// Whether there was usage.
    pub usage_source: UsageSource,
}

/// What a request of the logger holds.
#[derive(Debug, Default, PartialEq, serde::Serialize)]
pub struct Logged {
    /// Its calls.
    pub calls: Vec<LoggedCall>,
    /// How many payloads were no calls of a model, by reason.
    pub skipped: BTreeMap<&'static str, u32>,
}

/// Why a request of the logger could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unreadable {
    /// This is no JSON.
    NotJson,
    /// It ends in the middle of a payload.
    CutOff,
}

impl Unreadable {
    /// The reason, for a person.
    pub fn text(self) -> &'static str {
        match self {
            Self::NotJson => "not JSON",
            Self::CutOff => "cut off",
        }
    }
}

/// The reader of one request.
#[derive(Debug)]
pub struct Log {
    scanner: Scanner<Field>,
    draft: Draft,
    logged: Logged,
}

impl Default for Log {
    fn default() -> Self {
        Self {
            scanner: Scanner::sequence(&PAYLOADS),
            draft: Draft::default(),
            logged: Logged::default(),
        }
    }
}

impl Log {
    /// Takes the next piece of the body.
    pub fn feed(&mut self, bytes: &[u8]) {
        let Self {
            scanner,
            draft,
            logged,
        } = self;
        scanner.feed(bytes, &mut |field, found, _| match (field, found) {
            (Field::Payload, Found::End { .. }) => {
                match std::mem::take(draft).call() {
                    Ok(call) => logged.calls.push(call),
                    Err(reason) => *logged.skipped.entry(reason).or_default() += 1,
                };
            }
            (Field::Payload, Found::Begin) => *draft = Draft::default(),
            (Field::Payload, _) => *logged.skipped.entry("no_payload").or_default() += 1,
            _ => draft.take(field, found),
        });
    }

    /// What was logged, now that the body has ended.
    ///
    /// # Errors
    /// Where the body is not JSON from its first byte to its last. Nothing of it is to be taken then.
    pub fn finish(self) -> Result<Logged, Unreadable> {
        match self.scanner {
            scanner if scanner.is_broken() => Err(Unreadable::NotJson),
            scanner if scanner.is_done() => Ok(self.logged),
            _ => Err(Unreadable::CutOff),
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
    /// In µs since 1970.
    started: Option<u64>,
    ended: Option<u64>,
    first_token: Option<u64>,
    status: Option<u64>,
    counts: Counts,
}

/// The calls that are a model's answer to a conversation; embeddings, images and speech are not.
const CALL_TYPES: [&str; 4] = ["completion", "messages", "responses", "generate_content"];

impl Draft {
    fn take(&mut self, field: Field, found: Found<'_>) {
        let owned = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        match (field, found) {
            (Field::Count(count), found) => self.counts.set(count, found),
            (Field::Id, Found::Text(text)) => self.id = owned(text),
            (Field::CallId, Found::Text(text)) => self.call_id = owned(text),
            (Field::CallType, Found::Text(text)) => self.call_type = owned(text),
            (Field::Status, Found::Text(text)) => self.is_failure = text == "failure",
            (Field::CacheHit, found) => self.is_cached = found == Found::Bool(true),
            (Field::Stream, found) => self.is_stream = found == Found::Bool(true),
            (Field::Provider, Found::Text(text)) => self.provider = owned(text),
            (Field::Model, Found::Text(text)) => self.model = owned(text),
            (Field::ModelGroup, Found::Text(text)) => self.model_group = owned(text),
            (Field::Cost, Found::Number(number)) => self.cost = owned(number),
            (Field::StartTime, Found::Number(number)) => self.started = micros(number),
            (Field::EndTime, Found::Number(number)) => self.ended = micros(number),
            (Field::FirstTokenTime, Found::Number(number)) => self.first_token = micros(number),
            (Field::ErrorCode, Found::Text(text)) => self.status = text.parse().ok(),
            _ => {}
        }
    }

    fn call(self) -> Result<LoggedCall, &'static str> {
        let call_type = self.call_type.as_deref().ok_or("no_call_type")?;
        if !CALL_TYPES.iter().any(|part| call_type.contains(part)) {
            return Err("no_model_call");
        }
        // LiteLLM answered by itself: no model was asked and nothing is billed.
        if self.is_cached {
            return Err("answered_from_cache");
        }
        let told = openai::normalize(self.counts);
        let usage_source = told.source();
        let counts = told.if_reported();
        let since_start = |time: Option<u64>| time?.checked_sub(self.started?);
        Ok(LoggedCall {
            provider: self.provider,
            model: self.model_group.or_else(|| self.model.clone()),
            response_model: self.model,
            input: counts.input,
            output: counts.output,
            cache_read: counts.cache_read,
            cache_write: counts.cache_write,
            reasoning: counts.reasoning,
            cost: self.cost,
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
            usage_source,
        })
    }
}

fn to_ms(micros: u64) -> u64 {
    (micros + 500) / 1_000
}

/// Seconds since 1970 with a fraction, in µs.
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
    /// What the scripted provider had answered to the calls of `ARRAY` and `LINES`, one a payload. To the
    /// third it told no usage: LiteLLM counts by itself then, and does not say so.
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
    fn recorded_logs_tell_what_the_provider_answered() {
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
    fn a_log_tells_the_same_wherever_it_is_cut() {
        for body in [ARRAY, LINES, SINGLE] {
            for size in [1, 7, 1000] {
                assert_eq!(read(body, size), read(body, usize::MAX));
            }
        }
    }

    #[test]
    fn what_is_not_whole_is_refused() {
        for body in [ARRAY, LINES, SINGLE] {
            let body = body.trim_end();
            assert_eq!(read(&body[..body.len() - 1], 50), Err(Unreadable::CutOff));
        }
        assert_eq!(read("", 1), Err(Unreadable::CutOff));
        assert_eq!(read("hello", 1), Err(Unreadable::NotJson));
        assert_eq!(read("{}]", 1), Err(Unreadable::NotJson));
    }

    #[test]
    fn what_is_no_call_of_a_model_is_skipped_by_its_reason() {
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
    fn seconds_become_micros() {
        assert_eq!(micros("1795534842.95628"), Some(1_795_534_842_956_280));
        assert_eq!(micros("1.1234567"), Some(1_123_456));
        assert_eq!(micros("7"), Some(7_000_000));
        assert_eq!(micros("1e9"), None);
        assert_eq!(micros("-1.0"), None);
    }
}
