//! A row of a transcript: its kind, and its values as facts.

use std::borrow::Cow;

use serde::Serialize;
use serde_json::value::RawValue;

use crate::domain::time::parse_iso;
use crate::domain::usage::pairs;
use crate::formats::json::{Value, read_object};
use crate::sources::facts::{MAX_TEXT, Scalar};
use crate::sources::message::{NO_MODEL, is_from_catalog};

/// Maximum length of a number's text, in bytes. Gateways write shorter numbers.
const MAX_NUMBER: usize = 64;

/// Kind of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A message of a model call.
    Call,
    /// A message of a model call without a provider or a model.
    Nameless,
    /// A transcript's first row.
    Header,
    /// Anything else.
    Foreign,
}

/// The values of a row.
#[derive(Default)]
pub struct Row<'a> {
    kind: Option<Value<'a>>,
    entry: Option<Value<'a>>,
    written: Option<Value<'a>>,
    message: Message<'a>,
    /// Members beside the message, which OpenClaw's reader uses if the message lacks them.
    beside: Message<'a>,
}

#[derive(Default)]
struct Message<'a> {
    role: Option<Value<'a>>,
    provider: Option<Value<'a>>,
    model: Option<Value<'a>>,
    stop_reason: Option<Value<'a>>,
    response_id: Option<Value<'a>>,
    timestamp: Option<Value<'a>>,
    run_id: Option<Value<'a>>,
    usage: Option<Value<'a>>,
    idempotency_key: Option<Value<'a>>,
}

impl<'a> Row<'a> {
    /// Parses a row. Of two members with the same name the second is valid.
    pub fn read(line: &'a str) -> serde_json::Result<Self> {
        let mut row = Self::default();
        read_object(line, |key, value| match key {
            "type" => row.kind = Some(value),
            "id" => row.entry = Some(value),
            "timestamp" => row.written = Some(value),
            "message" => row.message = Message::of(value),
            "provider" => row.beside.provider = Some(value),
            "model" => row.beside.model = Some(value),
            "usage" => row.beside.usage = Some(value),
            _ => {}
        })?;
        Ok(row)
    }

    /// The row's kind.
    pub fn kind(&self) -> Kind {
        if is(self.kind, "session") {
            return Kind::Header;
        }
        let is_message = self.kind.is_none() || is(self.kind, "message");
        let is_answer = is_message && is(self.message.role, "assistant");
        if !is_answer || is(self.provider(), NO_MODEL) || self.is_imported() {
            return Kind::Foreign;
        }
        let is_named = |value: Option<Value>| {
            let name = value.and_then(Value::text);
            name.is_some_and(|name| !name.trim().is_empty())
        };
        match is_named(self.provider()) && is_named(self.model()) {
            true => Kind::Call,
            false => Kind::Nameless,
        }
    }

    /// Whether the row is a copy from another tool's history.
    fn is_imported(&self) -> bool {
        let key = self.message.idempotency_key.and_then(Value::text);
        key.is_some_and(|key| is_from_catalog(&key))
    }

    fn provider(&self) -> Option<Value<'a>> {
        let own = self.message.provider.filter(|name| name.text().is_some());
        own.or(self.beside.provider).or(self.message.provider)
    }

    fn model(&self) -> Option<Value<'a>> {
        let own = self.message.model.filter(|name| name.text().is_some());
        own.or(self.beside.model).or(self.message.model)
    }

    fn usage(&self) -> Option<Value<'a>> {
        let own = self.message.usage.filter(|usage| !usage.is_null());
        own.or(self.beside.usage)
    }

    /// A fact by its name in the table `stored`; `Absent` if the row lacks it.
    pub fn fact(&self, name: &str) -> Fact<'a> {
        let value = match name {
            "provider" => self.provider(),
            "model" => self.model(),
            "usage" => return self.usage().map_or(Fact::Absent, Fact::of_usage),
            "stop_reason" => self.message.stop_reason,
            "response_id" => self.message.response_id,
            "timestamp" => self.message.timestamp,
            "written" => return self.written_ms().map_or(Fact::Absent, Fact::Number),
            "entry" => self.entry,
            "run_id" => self.message.run_id,
            _ => None,
        };
        value.map_or(Fact::Absent, Fact::of)
    }

    /// Time at which the row was written, in ms since 1970.
    pub fn written_ms(&self) -> Option<u64> {
        let written = self.written?;
        match written.number() {
            Some(number) => ms(number),
            None => parse_iso(&written.text()?),
        }
    }

    /// Time of the row, in ms since 1970: when it was written, else when its call began.
    pub fn time_ms(&self) -> Option<u64> {
        self.written_ms().or_else(|| self.started_ms())
    }

    /// Time at which the call began, in ms since 1970.
    fn started_ms(&self) -> Option<u64> {
        ms(self.message.timestamp?.number()?)
    }
}

impl<'a> Message<'a> {
    fn of(value: Value<'a>) -> Self {
        let mut message = Self::default();
        value.members(|key, value| match key {
            "role" => message.role = Some(value),
            "provider" => message.provider = Some(value),
            "model" => message.model = Some(value),
            "stopReason" => message.stop_reason = Some(value),
            "responseId" => message.response_id = Some(value),
            "timestamp" => message.timestamp = Some(value),
            "usage" => message.usage = Some(value),
            "idempotencyKey" => message.idempotency_key = Some(value),
            "__openclaw" => message.run_id = member(value, "runId"),
            _ => {}
        });
        message
    }
}

fn member<'a>(value: Value<'a>, name: &str) -> Option<Value<'a>> {
    let mut found = None;
    value.members(|key, value| {
        if key == name {
            found = Some(value);
        }
    });
    found
}

/// Whether a value is this text without escapes, as `JSON.stringify` writes it.
fn is(value: Option<Value>, text: &str) -> bool {
    let written = value.and_then(|value| {
        let written = value.written().get();
        written.strip_prefix('"')?.strip_suffix('"')
    });
    written == Some(text)
}

/// The integer part of a number's text, in ms.
fn ms(number: &str) -> Option<u64> {
    number.split('.').next()?.parse().ok()
}

/// A fact as JSON, equal to the copy that the shim's `pick` makes.
#[derive(Serialize)]
#[serde(untagged)]
pub enum Fact<'a> {
    /// No value.
    Absent,
    /// `true` or `false`.
    Flag(bool),
    /// An integer.
    Number(u64),
    /// The row's JSON text, unchanged.
    Written(&'a RawValue),
    /// A floating-point number.
    Fraction(f64),
    /// A text, truncated if it is too long.
    Text(Cow<'a, str>),
    /// The values of a usage object.
    Usage(Vec<Fact<'a>>),
    /// A present value that is unusable: an object, a list, or a number that is too long.
    Unusable([(); 0]),
}

impl<'a> Fact<'a> {
    fn of_usage(usage: Value) -> Self {
        match usage.is_object() {
            true => Self::Usage(pairs(usage).into_iter().map(Self::of_scalar).collect()),
            false => Self::Absent,
        }
    }

    fn of_scalar(scalar: Scalar) -> Self {
        match scalar {
            Scalar::Absent => Self::Absent,
            Scalar::Bool(flag) => Self::Flag(flag),
            Scalar::Number(number) if number.is_finite() => Self::Fraction(number),
            Scalar::Text(text) => Self::Text(text.into()),
            // JSON cannot express NaN or infinities.
            Scalar::Number(_) | Scalar::List(_) => Self::Unusable([]),
        }
    }

    fn of(value: Value<'a>) -> Self {
        let written = value.written().get();
        match written.as_bytes() {
            b"null" => Self::Absent,
            [b'"', ..] if written.len() <= MAX_TEXT && !written.contains('\\') => {
                Self::Written(value.written())
            }
            [b'"', ..] => Self::Text(value.text().unwrap_or_default().into()),
            [b'{' | b'[', ..] => Self::Unusable([]),
            _ if written.len() > MAX_NUMBER => Self::Unusable([]),
            _ => Self::Written(value.written()),
        }
    }
}
