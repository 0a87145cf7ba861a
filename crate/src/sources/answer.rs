//! Reads the answer of a model's HTTP API in pieces of any size: a JSON document, a list or lines of them, server-sent
//! events, or Amazon's event stream. One event, or an answer that is no stream, is buffered up to
//! [`MAX_BYTES`](crate::formats::json::MAX_BYTES); otherwise only the fields of [`Told`] are kept.

use super::ending::{About, Ending};
use super::path::Target;
use super::{anthropic, bedrock, gemini, ollama, openai};
use crate::domain::call::{Operation, Outcome};
use crate::domain::usage::{self, Used};
use crate::formats::event_stream::{Message, Messages};
use crate::formats::json::{self, Value};
use crate::formats::json_stream::Values;
use crate::formats::sse::{Event, Events};

/// The API of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Api {
    /// OpenAI chat completions, with the extensions of compatible servers.
    Chat,
    /// OpenAI responses.
    Responses,
    /// Anthropic messages.
    Messages,
    /// Gemini's API.
    Gemini,
    /// Ollama's API.
    Ollama,
    /// Bedrock's `converse`.
    Converse,
    /// Bedrock's `invoke`, in the format of the model's maker.
    Invoke,
}

/// How a response's status or its equivalent says that it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum End {
    /// It has not ended yet.
    #[default]
    Open,
    /// Every choice has ended, but usage may follow.
    Finished,
    /// It is whole.
    Complete,
    /// Its client cancelled it.
    Cancelled,
}

/// Content of one document: an event's data, or a whole answer.
#[derive(Debug, Clone, Default)]
pub(crate) struct Draft {
    pub(crate) id: Option<String>,
    pub(crate) model: Option<String>,
    pub(crate) kind: Kind,
    pub(crate) end: End,
    pub(crate) has_error: bool,
    pub(crate) has_token: bool,
    /// Whether a field is present that only a model's answer has, even if it is empty.
    pub(crate) has_answer: bool,
    pub(crate) state: State,
    /// Whether the response continues without the connection, and when it was created and completed, in ms since 1970.
    pub(crate) is_background: bool,
    pub(crate) created_ms: Option<u64>,
    pub(crate) completed_ms: Option<u64>,
    pub(crate) usage: usage::Reading,
    /// Gemini's searches.
    pub(crate) queries: gemini::Queries,
    /// Counts of a platform such as Bedrock, used where the model's own format has none.
    pub(crate) metered: usage::Reading,
}

/// Whether a document is about a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum State {
    /// It is, or does not say.
    #[default]
    Call,
    /// The call is queued or still runs.
    Pending,
    /// No model was asked for an answer.
    NoCall,
}

/// Kinds of events that are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Kind {
    #[default]
    Other,
    /// Anthropic: the last event.
    Stop,
    /// An error.
    Error,
}

impl Draft {
    pub(crate) fn id(&mut self, value: Value) {
        self.id = value.name().or(self.id.take());
    }

    pub(crate) fn model(&mut self, value: Value) {
        self.model = value.name().or(self.model.take());
    }

    /// The kind of an event.
    pub(crate) fn kind(&mut self, value: Value) {
        self.kind = match value.text().as_deref() {
            Some("message_stop") => Kind::Stop,
            Some("error") => Kind::Error,
            _ => Kind::Other,
        };
    }

    /// The state of a response.
    pub(crate) fn status(&mut self, value: Value) {
        match value.text().as_deref() {
            Some("completed" | "incomplete") => self.end = End::Complete,
            Some("cancelled") => self.end = End::Cancelled,
            Some("failed") => self.has_error = true,
            Some("queued" | "in_progress") => self.state = State::Pending,
            _ => {}
        }
    }

    /// Merges the fields that are no counts: the last state, and all other fields once set.
    fn merge_state(&mut self, draft: &Self) {
        self.has_answer |= draft.has_answer;
        self.is_background |= draft.is_background;
        self.state = draft.state;
        self.created_ms = draft.created_ms.or(self.created_ms);
        self.completed_ms = draft.completed_ms.or(self.completed_ms);
        self.queries.extend(&draft.queries);
        let metered = std::mem::take(&mut self.metered);
        self.metered = draft.metered.clone().over(metered);
    }

    /// The reason for a choice's end; `null` while it has not ended.
    pub(crate) fn finish(&mut self, value: Value) {
        if let Some(reason) = value.text() {
            self.end = End::Finished;
            // OpenRouter's reason for a provider that broke off.
            self.has_error |= reason == "error";
        }
    }

    /// Part of the answer's content.
    pub(crate) fn token(&mut self, value: Value) {
        self.has_token |= value.has_content();
    }

    /// An error, an object or a text.
    pub(crate) fn error(&mut self, value: Value) {
        self.has_error |= value.is_object() || value.name().is_some();
    }
}

/// Whether usage was reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum UsageSource {
    /// The provider reported it.
    Reported,
    /// None, or only zeros.
    Missing,
    /// Only values that are no counts.
    Broken,
}

impl UsageSource {
    /// Classifies a usage. `is_unread` means that a part of the answer was not read, which may have had usage.
    pub(crate) fn of(used: &Used, is_unread: bool) -> Self {
        match used.tokens {
            Some(_) => Self::Reported,
            None if used.is_broken || is_unread => Self::Broken,
            None => Self::Missing,
        }
    }
}

/// A provider's answer. `input` excludes cached tokens, as in all of this crate.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Told {
    /// The model as the answer names it.
    pub response_model: Option<String>,
    /// What the request asked; not serialized for a chat.
    #[serde(skip_serializing_if = "Operation::is_chat")]
    pub operation: Operation,
    /// The answer's id.
    pub response_id: Option<String>,
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
    /// The bill in USD, in decimal digits.
    pub cost: Option<String>,
    /// What is billed beside tokens at their usual price, in the format of [`crate::domain::usage::Bill::text`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bill: Option<String>,
    /// Whether usage was reported.
    pub usage_source: UsageSource,
    /// How it ended.
    pub outcome: Outcome,
    /// What it is about; not serialized for a call.
    #[serde(skip_serializing_if = "About::is_call")]
    pub about: About,
    /// Whether the call continued in the background; not serialized if not.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub background: bool,
    /// When a background call was created by the provider's clock, in ms since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created: Option<u64>,
    /// When a background call was completed, in ms since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub completed: Option<u64>,
}

/// Format of the answer's body, recognized by its first character. Content types are unreliable in both directions:
/// servers send errors as JSON under `text/event-stream`, and streams under `text/plain`.
#[derive(Debug)]
enum Body {
    Unknown,
    Values(Values),
    Events(Events),
    Messages(Messages),
}

/// Reader of one answer.
#[derive(Debug)]
pub struct Answer {
    body: Body,
    reading: Reading,
}

/// State of the reader.
#[derive(Debug)]
pub(crate) struct Reading {
    pub(crate) target: Target,
    pub(crate) status: u16,
    /// All drafts so far, merged.
    pub(crate) sum: Draft,
    /// How the platform bills the call, whatever the model's own format says.
    billed: usage::Reading,
    /// Number of documents.
    documents: usize,
    /// Whether the stream ended with its end marker.
    pub(crate) is_done: bool,
    /// Whether an event or an answer was too long for the buffer.
    pub(crate) is_unread: bool,
}

impl Answer {
    /// Creates a reader of an answer to this request with this HTTP status.
    pub fn new(target: impl Into<Target>, status: u16) -> Self {
        Self {
            body: Body::Unknown,
            reading: Reading {
                target: target.into(),
                status,
                sum: Draft::default(),
                billed: usage::Reading::default(),
                documents: 0,
                is_done: false,
                is_unread: false,
            },
        }
    }

    /// Reads a header of the answer. `name` is in lower case.
    pub fn header(&mut self, name: &str, value: &str) {
        if self.reading.target.api == Api::Invoke {
            let reading = &mut self.reading;
            bedrock::header(name, value, &mut reading.sum.metered, &mut reading.billed);
        }
    }

    /// Reads the next piece of the body. Returns whether a stream's first token is in the event that ends in this
    /// piece.
    pub fn feed(&mut self, bytes: &[u8]) -> bool {
        let had_token = self.reading.sum.has_token;
        let bytes = match self.body {
            Body::Unknown => self.recognize(bytes),
            _ => bytes,
        };
        let reading = &mut self.reading;
        match &mut self.body {
            Body::Unknown => {}
            Body::Values(values) => values.feed(bytes, &mut |event| reading.event(event)),
            Body::Events(events) => events.feed(bytes, &mut |event| reading.event(event)),
            Body::Messages(messages) => {
                messages.feed(bytes, &mut |message| reading.message(message))
            }
        }
        !had_token && reading.sum.has_token
    }

    /// The result, after the connection ended.
    pub fn finish(self, ending: Ending) -> Told {
        let mut reading = self.reading;
        let is_values = matches!(self.body, Body::Values(_));
        match self.body {
            Body::Unknown | Body::Messages(_) => {}
            Body::Values(values) => reading.is_unread |= values.finish(),
            // A stream may end without the blank line after its last event. The event counts if it is whole.
            Body::Events(events) => events.finish(&mut |event| reading.event(event)),
        }
        let is_document = is_values && reading.documents == 1 && ending == Ending::Whole;
        reading.finish(ending, is_document)
    }

    /// Recognizes the body's format. Returns the bytes from its first character on.
    fn recognize<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let is_blank = |byte: &u8| byte.is_ascii_whitespace() || matches!(byte, 0xef | 0xbb | 0xbf);
        let Some(begin) = bytes.iter().position(|byte| !is_blank(byte)) else {
            return &[];
        };
        self.body = match bytes[begin] {
            b'{' | b'[' => Body::Values(Values::default()),
            // First byte of a length below 16 MiB. No text begins with it.
            0 => Body::Messages(Messages::default()),
            _ => Body::Events(Events::default()),
        };
        &bytes[begin..]
    }
}

impl Reading {
    fn event(&mut self, event: Event) {
        match event {
            Event::Data(data) if data.trim_ascii() == b"[DONE]" => self.is_done = true,
            Event::Data(data) => self.document(data),
            Event::TooLong => self.is_unread = true,
        }
    }

    fn message(&mut self, message: Message) {
        match message {
            Message::Event(payload) if self.target.api == Api::Invoke => {
                if let Some(bytes) = bedrock::unwrapped(payload) {
                    self.document(&bytes);
                }
            }
            Message::Event(payload) => self.document(payload),
            Message::Exception => self.sum.has_error = true,
            Message::Unread => self.is_unread = true,
        }
    }

    /// Reads an event's data or the whole answer. Incomplete JSON is skipped.
    fn document(&mut self, bytes: &[u8]) {
        let draft = json::read(bytes, |document| {
            let mut draft = Draft::default();
            match self.target.api {
                Api::Chat => openai::chat(document, &mut draft),
                Api::Responses => openai::response(document, &mut draft),
                Api::Messages => anthropic::message(document, &mut draft),
                Api::Gemini => gemini::response(document, &mut draft),
                Api::Ollama => ollama::line(document, &mut draft),
                Api::Converse => bedrock::converse(document, &mut draft),
                Api::Invoke => bedrock::invoke(document, &mut draft),
            }
            draft
        });
        let Some(draft) = draft else {
            return;
        };
        self.documents += 1;
        self.sum.merge_state(&draft);
        match self.target.api {
            Api::Chat | Api::Responses | Api::Ollama | Api::Gemini => {
                openai::merge(&mut self.sum, draft)
            }
            Api::Messages | Api::Converse | Api::Invoke => anthropic::merge(&mut self.sum, draft),
        }
    }

    fn finish(mut self, ending: Ending, is_document: bool) -> Told {
        if !self.has_usage() {
            self.sum.usage = std::mem::take(&mut self.sum.metered);
        }
        let about = self.about(is_document);
        let outcome = self.outcome(ending, is_document);
        let times = self.sum.is_background;
        let mut usage = self.billed.over(self.sum.usage);
        if self.target.api == Api::Chat && openai::searches_by_itself(self.sum.model.as_deref()) {
            usage.add_count(usage::Count::WebSearches, 1);
        }
        let searches = self.sum.queries.billed(self.sum.model.as_deref());
        usage.add_count(usage::Count::WebSearches, searches);
        let used = Used::of(&usage);
        // The part that was not read may have had usage.
        let usage_source = UsageSource::of(&used, self.is_unread);
        let [input, output, cache_read, cache_write, reasoning] = used.counts();
        Told {
            response_model: self.sum.model,
            operation: self.target.operation,
            response_id: self.sum.id,
            input,
            output,
            cache_read,
            cache_write,
            reasoning,
            cost: used.cost_usd.map(|usd| usd.to_string()),
            bill: used.bill_of_tokens().and_then(|bill| bill.text()),
            usage_source,
            outcome,
            about,
            background: self.sum.is_background,
            created: self.sum.created_ms.filter(|_| times),
            completed: self.sum.completed_ms.filter(|_| times),
        }
    }
}

#[cfg(test)]
#[path = "answer_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "dialect_tests.rs"]
mod dialects;
