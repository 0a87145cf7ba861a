//! The answer of a model's HTTP API, read while it passes: whole or as server-sent events, cut at any
//! byte. An event, or an answer that is no stream, is kept until it is whole, up to [`MAX_BYTES`]; nothing else is but
//! what [`Told`] has.

use super::{anthropic, openai};
use crate::call::Outcome;
use crate::json::{self, MAX_BYTES, Value};
use crate::sse::{Event, Events};

/// Which API is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Api {
    /// OpenAI chat completions, and what the many servers that speak it add.
    Chat,
    /// OpenAI responses.
    Responses,
    /// Anthropic messages.
    Messages,
}

impl Api {
    /// The API that a path asks for; nothing where this is no call of a model that we count.
    pub fn of_path(path: &str) -> Option<Self> {
        let path = path.split(['?', '#']).next().unwrap_or_default();
        match path.trim_end_matches('/').rsplit('/').next()? {
            "completions" => Some(Self::Chat),
            "responses" => Some(Self::Responses),
            "messages" => Some(Self::Messages),
            _ => None,
        }
    }
}

/// Token counts as a provider tells them; each API has its own meaning for `input`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    pub(super) input: Option<u64>,
    pub(super) output: Option<u64>,
    pub(super) cache_read: Option<u64>,
    pub(super) cache_write: Option<u64>,
    pub(super) reasoning: Option<u64>,
    pub(super) total: Option<u64>,
    /// Whether a count could not be read.
    pub(super) is_broken: bool,
}

impl Counts {
    /// Whether nothing was told, or only zeros, which stand for nothing.
    pub(super) fn is_empty(&self) -> bool {
        let told = [self.input, self.output, self.cache_read, self.cache_write];
        !self.is_broken && told.iter().all(|count| count.unwrap_or_default() == 0)
    }

    /// Whether there was usage.
    pub(super) fn source(&self) -> UsageSource {
        match (self.is_broken, self.is_empty()) {
            (true, _) => UsageSource::Broken,
            (_, true) => UsageSource::Missing,
            _ => UsageSource::Reported,
        }
    }

    /// The counts where there was usage, else none.
    pub(super) fn if_reported(self) -> Self {
        match self.source() {
            UsageSource::Reported => self,
            _ => Self::default(),
        }
    }

    /// These counts over earlier ones, count by count.
    pub(super) fn over(self, earlier: Self) -> Self {
        Self {
            input: self.input.or(earlier.input),
            output: self.output.or(earlier.output),
            cache_read: self.cache_read.or(earlier.cache_read),
            cache_write: self.cache_write.or(earlier.cache_write),
            reasoning: self.reasoning.or(earlier.reasoning),
            total: self.total.or(earlier.total),
            is_broken: self.is_broken || earlier.is_broken,
        }
    }
}

/// The most tokens that one call can plausibly have.
const MAX_TOKENS: u64 = 1_000_000_000_000;

/// Takes a count in. Whether there was something that is none.
pub(super) fn read_count(value: Value, count: &mut Option<u64>) -> bool {
    if value.is_null() {
        return false;
    }
    let read = value.number().and_then(whole);
    *count = read.or(*count);
    read.is_none()
}

/// A number of tokens; a fraction is cut.
fn whole(number: &str) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if fraction.contains(['e', 'E']) {
        return None;
    }
    whole.parse().ok().filter(|count| *count <= MAX_TOKENS)
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
    pub(super) counts: Counts,
    pub(super) cost: Option<String>,
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
            _ => {}
        }
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

/// How the connection that brought the answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// With the answer's last byte.
    Whole,
    /// The provider broke it off.
    Cut,
    /// The client did.
    Left,
}

/// Whether there was usage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum UsageSource {
    /// The provider told it.
    Reported,
    /// It told none, or only zeros.
    Missing,
    /// It told what is no count.
    Broken,
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
    /// What was billed, in USD: the digits that the provider wrote.
    pub cost: Option<String>,
    /// Whether there was usage.
    pub usage_source: UsageSource,
    /// How it ended.
    pub outcome: Outcome,
}

/// How the answer's body is written. The first character tells, since servers are wrong about their
/// content type in both directions: errors as JSON under `text/event-stream`, streams under `text/plain`.
#[derive(Debug)]
enum Body {
    Unknown,
    Document(Vec<u8>),
    Events(Events),
    /// A document of which there was more than is kept.
    TooLong,
}

/// The reader of one answer.
#[derive(Debug)]
pub struct Answer {
    body: Body,
    told: Reading,
}

/// What was read so far.
#[derive(Debug)]
struct Reading {
    api: Api,
    status: u16,
    /// All drafts so far, one over the other.
    sum: Draft,
    /// Whether the stream said that it is done.
    is_done: bool,
    /// Whether there was an event, or a whole answer, of which there was more than is kept.
    is_unread: bool,
}

impl Answer {
    /// A reader of an answer with this HTTP status.
    pub fn new(api: Api, status: u16) -> Self {
        Self {
            body: Body::Unknown,
            told: Reading {
                api,
                status,
                sum: Draft::default(),
                is_done: false,
                is_unread: false,
            },
        }
    }

    /// Takes the next piece of the body. Whether a stream's first token is in it: in the event that ends in it.
    pub fn feed(&mut self, bytes: &[u8]) -> bool {
        let had_token = self.told.sum.has_token;
        let bytes = match self.body {
            Body::Unknown => self.recognize(bytes),
            _ => bytes,
        };
        match &mut self.body {
            Body::Unknown | Body::TooLong => false,
            Body::Document(kept) if kept.len() + bytes.len() > MAX_BYTES => {
                self.body = Body::TooLong;
                false
            }
            Body::Document(kept) => {
                kept.extend_from_slice(bytes);
                false
            }
            Body::Events(events) => {
                events.feed(bytes, &mut |event| self.told.event(event));
                !had_token && self.told.sum.has_token
            }
        }
    }

    /// What the answer told, now that its connection ended.
    pub fn finish(self, ending: Ending) -> Told {
        let mut told = self.told;
        match self.body {
            Body::Unknown => {}
            Body::Document(bytes) => told.document(&bytes),
            // A stream that ends without the blank line has still told what its last event says, if that is whole.
            Body::Events(events) => events.finish(&mut |event| told.event(event)),
            Body::TooLong => told.is_unread = true,
        }
        told.finish(ending)
    }

    /// Finds out how the body is written; the bytes from there on.
    fn recognize<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let is_blank = |byte: &u8| byte.is_ascii_whitespace() || matches!(byte, 0xef | 0xbb | 0xbf);
        let Some(begin) = bytes.iter().position(|byte| !is_blank(byte)) else {
            return &[];
        };
        self.body = match bytes[begin] {
            b'{' | b'[' => Body::Document(Vec::new()),
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

    /// An event's data, or the whole answer: what it says counts if it is whole.
    fn document(&mut self, bytes: &[u8]) {
        let draft = json::read(bytes, |document| {
            let mut draft = Draft::default();
            match self.api {
                Api::Chat => openai::chat(document, &mut draft),
                Api::Responses => openai::response(document, &mut draft),
                Api::Messages => anthropic::message(document, &mut draft),
            }
            draft
        });
        match (draft, self.api) {
            (None, _) => {}
            (Some(draft), Api::Chat | Api::Responses) => openai::merge(&mut self.sum, draft),
            (Some(draft), Api::Messages) => anthropic::merge(&mut self.sum, draft),
        }
    }

    fn finish(self, ending: Ending) -> Told {
        let counts = match self.api {
            Api::Chat | Api::Responses => openai::normalize(self.sum.counts),
            Api::Messages => self.sum.counts,
        };
        let usage_source = match counts.source() {
            // What was not read may well have had it.
            UsageSource::Missing if self.is_unread => UsageSource::Broken,
            source => source,
        };
        let outcome = self.outcome(ending);
        let counts = counts.if_reported();
        Told {
            response_model: self.sum.model,
            response_id: self.sum.id,
            input: counts.input,
            output: counts.output,
            cache_read: counts.cache_read,
            cache_write: counts.cache_write,
            reasoning: counts.reasoning,
            cost: self.sum.cost,
            usage_source,
            outcome,
        }
    }

    fn outcome(&self, ending: Ending) -> Outcome {
        let has_usage = !self.sum.counts.is_empty();
        let is_complete = match self.sum.end {
            End::Complete | End::Cancelled => true,
            // Who leaves before the usage has not seen the whole answer, though its text has ended.
            End::Finished => self.is_done || has_usage || ending == Ending::Whole,
            // Nobody has read how it ended.
            End::Open if self.is_unread => ending == Ending::Whole,
            End::Open => self.is_done,
        };
        match ending {
            _ if self.status >= 300 || self.sum.has_error => Outcome::Failed,
            _ if self.sum.end == End::Cancelled => Outcome::Aborted,
            _ if is_complete => Outcome::Completed,
            Ending::Left => Outcome::Aborted,
            Ending::Whole | Ending::Cut => Outcome::Failed,
        }
    }
}

#[cfg(test)]
#[path = "answer_tests.rs"]
mod tests;
