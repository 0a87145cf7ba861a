//! The answer of a model's HTTP API, read while it passes, cut at any byte: a JSON document, a list or lines of them,
//! server-sent events, or Amazon's event stream. An event, or an answer that is no stream, is kept until it is whole, up to
//! [`MAX_BYTES`](crate::json::MAX_BYTES); nothing else is but what [`Told`] has.

use super::ending::{About, Ending};
use super::path::Target;
use super::{anthropic, bedrock, gemini, ollama, openai};
use crate::call::Outcome;
use crate::event_stream::{Message, Messages};
use crate::json::{self, Value};
use crate::json_stream::Values;
use crate::sse::{Event, Events};
use crate::usage::{self, Used};

/// Which API is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Api {
    /// OpenAI chat completions, and what the many servers that speak it add.
    Chat,
    /// OpenAI responses.
    Responses,
    /// Anthropic messages.
    Messages,
    /// Gemini's own.
    Gemini,
    /// Ollama's own.
    Ollama,
    /// Bedrock's, the same for all models.
    Converse,
    /// Bedrock's, in the format of the model's maker.
    Invoke,
}

/// How a response's status, or what stands for it, says that it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum End {
    /// Not at all so far.
    #[default]
    Open,
    /// Every choice has ended, but usage may follow.
    Finished,
    /// It is whole.
    Complete,
    /// It was stopped by its client.
    Cancelled,
}

/// What one document (an event's data, or a whole answer) says.
#[derive(Debug, Clone, Default)]
pub(super) struct Draft {
    pub(super) id: Option<String>,
    pub(super) model: Option<String>,
    pub(super) kind: Kind,
    pub(super) end: End,
    pub(super) has_error: bool,
    pub(super) has_token: bool,
    /// Whether there is what only a model's answer has, be it empty.
    pub(super) has_answer: bool,
    pub(super) state: State,
    /// Whether the response goes on without the connection, and when it was made and completed, in ms since 1970.
    pub(super) is_background: bool,
    pub(super) created_ms: Option<u64>,
    pub(super) completed_ms: Option<u64>,
    pub(super) usage: usage::Reading,
    /// What somebody between the model and us counted: taken where the model's own format has no counts.
    pub(super) metered: usage::Reading,
}

/// Whether a document is about a call that was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum State {
    /// It is, or says nothing else.
    #[default]
    Call,
    /// The call is queued or still runs.
    Pending,
    /// No model was asked for an answer.
    NoCall,
}

/// The events that mean something to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Kind {
    #[default]
    Other,
    /// Anthropic: the last event.
    Stop,
    /// An error.
    Error,
}

impl Draft {
    pub(super) fn id(&mut self, value: Value) {
        self.id = value.name().or(self.id.take());
    }

    pub(super) fn model(&mut self, value: Value) {
        self.model = value.name().or(self.model.take());
    }

    /// The kind of an event.
    pub(super) fn kind(&mut self, value: Value) {
        self.kind = match value.text().as_deref() {
            Some("message_stop") => Kind::Stop,
            Some("error") => Kind::Error,
            _ => Kind::Other,
        };
    }

    /// The state of a response.
    pub(super) fn status(&mut self, value: Value) {
        match value.text().as_deref() {
            Some("completed" | "incomplete") => self.end = End::Complete,
            Some("cancelled") => self.end = End::Cancelled,
            Some("failed") => self.has_error = true,
            Some("queued" | "in_progress") => self.state = State::Pending,
            _ => {}
        }
    }

    /// Takes in what is not told by counts: the last state, and all else once.
    fn join(&mut self, draft: &Self) {
        self.has_answer |= draft.has_answer;
        self.is_background |= draft.is_background;
        self.state = draft.state;
        self.created_ms = draft.created_ms.or(self.created_ms);
        self.completed_ms = draft.completed_ms.or(self.completed_ms);
        let metered = std::mem::take(&mut self.metered);
        self.metered = draft.metered.clone().over(metered);
    }

    /// Why a choice ended; `null` where it has not.
    pub(super) fn finish(&mut self, value: Value) {
        if let Some(reason) = value.text() {
            self.end = End::Finished;
            // OpenRouter's word for a provider that broke off.
            self.has_error |= reason == "error";
        }
    }

    /// A part of the answer's content.
    pub(super) fn token(&mut self, value: Value) {
        self.has_token |= value.is_something();
    }

    /// An error, an object or a text.
    pub(super) fn error(&mut self, value: Value) {
        self.has_error |= value.is_object() || value.name().is_some();
    }
}

/// Whether there was usage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum UsageSource {
    /// The provider told it.
    Reported,
    /// It told none, or only zeros.
    Missing,
    /// It told what is no count, and nothing else.
    Broken,
}

impl UsageSource {
    /// Whether there was usage; `is_unread` where something was not read that may have had it.
    pub(super) fn of(used: &Used, is_unread: bool) -> Self {
        match used.tokens {
            Some(_) => Self::Reported,
            None if used.is_broken || is_unread => Self::Broken,
            None => Self::Missing,
        }
    }
}

/// What a provider's answer told. `input` leaves out what the cache held, as everywhere here.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Told {
    /// The model as the answer names it.
    pub response_model: Option<String>,
    /// The answer's id.
    pub response_id: Option<String>,
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
    /// What was billed, in USD.
    pub cost: Option<String>,
    /// What is billed beside tokens at their usual price, as [`crate::usage::Bill::text`] has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bill: Option<String>,
    /// Whether there was usage.
    pub usage_source: UsageSource,
    /// How it ended.
    pub outcome: Outcome,
    /// What it is about; not written where that is a call.
    #[serde(skip_serializing_if = "About::is_call")]
    pub about: About,
    /// Whether the call went on in the background; not written where it did not.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub background: bool,
    /// When a call in the background was made by the provider's clock, in ms since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created: Option<u64>,
    /// When it was over.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub completed: Option<u64>,
}

/// How the answer's body is written. The first character tells, since servers are wrong about their
/// content type in both directions: errors as JSON under `text/event-stream`, streams under `text/plain`.
#[derive(Debug)]
enum Body {
    Unknown,
    Values(Values),
    Events(Events),
    Messages(Messages),
}

/// The reader of one answer.
#[derive(Debug)]
pub struct Answer {
    body: Body,
    told: Reading,
}

/// What was read so far.
#[derive(Debug)]
pub(super) struct Reading {
    pub(super) target: Target,
    pub(super) status: u16,
    /// All drafts so far, one over the other.
    pub(super) sum: Draft,
    /// How many documents there were.
    documents: usize,
    /// Whether the stream said that it is done.
    pub(super) is_done: bool,
    /// Whether there was an event, or a whole answer, of which there was more than is kept.
    pub(super) is_unread: bool,
}

impl Answer {
    /// A reader of an answer with this HTTP status to such a request.
    pub fn new(target: impl Into<Target>, status: u16) -> Self {
        Self {
            body: Body::Unknown,
            told: Reading {
                target: target.into(),
                status,
                sum: Draft::default(),
                documents: 0,
                is_done: false,
                is_unread: false,
            },
        }
    }

    /// Takes in a header of the answer, whose name is in small letters.
    pub fn header(&mut self, name: &str, value: &str) {
        if self.told.target.api == Api::Invoke {
            bedrock::header(name, value, &mut self.told.sum.metered);
        }
    }

    /// Takes the next piece of the body. Whether a stream's first token is in it: in the event that ends in it.
    pub fn feed(&mut self, bytes: &[u8]) -> bool {
        let had_token = self.told.sum.has_token;
        let bytes = match self.body {
            Body::Unknown => self.recognize(bytes),
            _ => bytes,
        };
        let told = &mut self.told;
        match &mut self.body {
            Body::Unknown => {}
            Body::Values(values) => values.feed(bytes, &mut |event| told.event(event)),
            Body::Events(events) => events.feed(bytes, &mut |event| told.event(event)),
            Body::Messages(messages) => messages.feed(bytes, &mut |message| told.message(message)),
        }
        !had_token && told.sum.has_token
    }

    /// What the answer told, now that its connection ended.
    pub fn finish(self, ending: Ending) -> Told {
        let mut told = self.told;
        let is_values = matches!(self.body, Body::Values(_));
        match self.body {
            Body::Unknown | Body::Messages(_) => {}
            Body::Values(values) => told.is_unread |= values.finish(),
            // A stream that ends without the blank line has still told what its last event says, if that is whole.
            Body::Events(events) => events.finish(&mut |event| told.event(event)),
        }
        let is_document = is_values && told.documents == 1 && ending == Ending::Whole;
        told.finish(ending, is_document)
    }

    /// Finds out how the body is written; the bytes from there on.
    fn recognize<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let is_blank = |byte: &u8| byte.is_ascii_whitespace() || matches!(byte, 0xef | 0xbb | 0xbf);
        let Some(begin) = bytes.iter().position(|byte| !is_blank(byte)) else {
            return &[];
        };
        self.body = match bytes[begin] {
            b'{' | b'[' => Body::Values(Values::default()),
            // The first byte of a length below 16 MiB; no text begins with it.
            0 => Body::Messages(Messages::default()),
            _ => Body::Events(Events::default()),
        };
        &bytes[begin..]
    }
}

impl Reading {
    fn event(&mut self, event: Event) {
        match event {
            Event::Data(b"[DONE]") => self.is_done = true,
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

    /// An event's data, or the whole answer: what it says counts if it is whole.
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
        self.sum.join(&draft);
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
        let mut usage = self.sum.usage;
        if self.target.api == Api::Chat && openai::searches_by_itself(self.sum.model.as_deref()) {
            usage.add_count(usage::Count::WebSearches, 1);
        }
        let used = Used::of(&usage);
        // What was not read may well have had usage.
        let usage_source = UsageSource::of(&used, self.is_unread);
        let [input, output, cache_read, cache_write, reasoning] = used.counts();
        Told {
            response_model: self.sum.model,
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
