//! The answer of a model's HTTP API, read while it passes: whole or as server-sent events, cut at any
//! byte. Nothing of it is kept but what [`Told`] has.

use super::{anthropic, openai};
use crate::call::Outcome;
use crate::json::{Found, Scanner, Shape};
use crate::sse::{Piece, Splitter};

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

    fn shape(self) -> &'static Shape<Field> {
        match self {
            Self::Chat => &openai::CHAT,
            Self::Responses => &openai::RESPONSES,
            Self::Messages => &anthropic::MESSAGES,
        }
    }
}

/// What is looked for in an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field {
    /// The answer's id.
    Id,
    /// The model as the answer names it.
    Model,
    /// What kind of event this is.
    Kind,
    /// The state of a response.
    Status,
    /// Why a choice ended.
    Finish,
    /// A part of the answer's content.
    Token,
    /// An error object, or an error's text.
    Error,
    /// Tokens of the prompt, those from a cache included where the API does so.
    Input,
    /// Tokens of the answer.
    Output,
    /// Prompt tokens from a cache.
    CacheRead,
    /// Prompt tokens written to one.
    CacheWrite,
    /// Tokens of reasoning.
    Reasoning,
    /// All tokens.
    Total,
    /// The cost in USD.
    Cost,
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

    /// Takes a count in; other fields are none.
    pub(super) fn set(&mut self, field: Field, found: Found<'_>) {
        let slot = match field {
            Field::Input => &mut self.input,
            Field::Output => &mut self.output,
            Field::CacheRead => &mut self.cache_read,
            Field::CacheWrite => &mut self.cache_write,
            Field::Reasoning => &mut self.reasoning,
            Field::Total => &mut self.total,
            _ => return,
        };
        match found {
            Found::Null => {}
            Found::Number(number) => match count(number) {
                Some(count) => *slot = Some(count),
                None => self.is_broken = true,
            },
            _ => self.is_broken = true,
        }
    }
}

/// The most tokens that one call can plausibly have.
const MAX_TOKENS: u64 = 1_000_000_000_000;

/// A number of tokens; a fraction is cut.
fn count(number: &str) -> Option<u64> {
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
    fn take(&mut self, field: Field, found: Found<'_>) {
        match (field, found) {
            (Field::Id, Found::Text(text)) if !text.is_empty() => self.id = Some(text.to_owned()),
            (Field::Model, Found::Text(text)) if !text.is_empty() => {
                self.model = Some(text.to_owned());
            }
            (Field::Kind, Found::Text(text)) => {
                self.kind = match text {
                    "message_stop" => Kind::Stop,
                    "error" => Kind::Error,
                    _ => Kind::Other,
                }
            }
            (Field::Status, Found::Text(text)) => match text {
                "completed" | "incomplete" => self.end = End::Complete,
                "cancelled" => self.end = End::Cancelled,
                "failed" => self.has_error = true,
                _ => {}
            },
            (Field::Finish, Found::Text(text)) => {
                self.end = End::Finished;
                // OpenRouter's word for a provider that broke off.
                self.has_error |= text == "error";
            }
            (Field::Token, Found::Present) => self.has_token = true,
            (Field::Error, Found::Present) => self.has_error = true,
            (Field::Error, Found::Text(text)) => self.has_error |= !text.is_empty(),
            (Field::Cost, Found::Number(number)) => self.cost = Some(number.to_owned()),
            (
                Field::Input
                | Field::Output
                | Field::CacheRead
                | Field::CacheWrite
                | Field::Reasoning
                | Field::Total,
                found,
            ) => self.counts.set(field, found),
            _ => {}
        }
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
enum Framing {
    Unknown,
    Document,
    Events {
        splitter: Splitter,
        /// How much of `[DONE]` the current event's data is.
        done: usize,
    },
}

const DONE: &[u8] = b"[DONE]";

/// The reader of one answer.
#[derive(Debug)]
pub struct Answer {
    api: Api,
    status: u16,
    framing: Framing,
    scanner: Scanner<Field>,
    draft: Draft,
    /// All drafts so far, one over the other.
    sum: Draft,
    is_done: bool,
}

impl Answer {
    /// A reader of an answer with this HTTP status.
    pub fn new(api: Api, status: u16) -> Self {
        Self {
            api,
            status,
            framing: Framing::Unknown,
            scanner: Scanner::new(api.shape()),
            draft: Draft::default(),
            sum: Draft::default(),
            is_done: false,
        }
    }

    /// Takes the next piece of the body. Whether a stream's first token is in it.
    pub fn feed(&mut self, bytes: &[u8]) -> bool {
        let had_token = self.sum.has_token;
        let bytes = match self.framing {
            Framing::Unknown => self.recognize(bytes),
            _ => bytes,
        };
        match &mut self.framing {
            Framing::Unknown => false,
            Framing::Document => {
                let draft = &mut self.draft;
                self.scanner
                    .feed(bytes, &mut |field, found, _| draft.take(field, found));
                false
            }
            Framing::Events { .. } => {
                self.feed_events(bytes);
                !had_token && self.sum.has_token
            }
        }
    }

    /// What the answer told, now that its connection ended.
    pub fn finish(mut self, ending: Ending) -> Told {
        // A stream that ends without the blank line has still told what its last event says, if that is whole.
        self.end_document();
        let counts = match self.api {
            Api::Chat | Api::Responses => openai::normalize(self.sum.counts),
            Api::Messages => self.sum.counts,
        };
        let usage_source = counts.source();
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

    /// Finds out how the body is written; the bytes from there on.
    fn recognize<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let is_blank = |byte: &u8| byte.is_ascii_whitespace() || matches!(byte, 0xef | 0xbb | 0xbf);
        let Some(begin) = bytes.iter().position(|byte| !is_blank(byte)) else {
            return &[];
        };
        self.framing = match bytes[begin] {
            b'{' | b'[' => Framing::Document,
            _ => Framing::Events {
                splitter: Splitter::default(),
                done: 0,
            },
        };
        &bytes[begin..]
    }

    fn feed_events(&mut self, bytes: &[u8]) {
        let Framing::Events { mut splitter, done } =
            std::mem::replace(&mut self.framing, Framing::Unknown)
        else {
            return;
        };
        let mut done = done;
        splitter.feed(bytes, &mut |piece| match piece {
            Piece::Data(data) => {
                if done < DONE.len() && DONE[done..].starts_with(data) {
                    done += data.len();
                } else {
                    done = DONE.len() + 1;
                }
                let draft = &mut self.draft;
                self.scanner
                    .feed(data, &mut |field, found, _| draft.take(field, found));
            }
            Piece::End => {
                self.is_done |= done == DONE.len();
                done = 0;
                self.end_document();
            }
        });
        self.framing = Framing::Events { splitter, done };
    }

    /// An event's data, or the whole answer, is over: what it says counts if it was whole.
    fn end_document(&mut self) {
        let draft = std::mem::take(&mut self.draft);
        if self.scanner.is_done() {
            match self.api {
                Api::Messages => anthropic::merge(&mut self.sum, draft),
                Api::Chat | Api::Responses => openai::merge(&mut self.sum, draft),
            }
        }
        self.scanner.reset();
    }

    fn outcome(&self, ending: Ending) -> Outcome {
        let has_usage = !self.sum.counts.is_empty();
        let is_complete = match self.sum.end {
            End::Complete | End::Cancelled => true,
            // Who leaves before the usage has not seen the whole answer, though its text has ended.
            End::Finished => self.is_done || has_usage || ending == Ending::Whole,
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
