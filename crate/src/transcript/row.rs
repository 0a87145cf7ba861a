//! One row of a transcript: which of its values are wanted, and where they stand in the facts.

use super::json::{Cursor, Fault, Value};
use crate::facts::index_of;
use crate::observe::message::NO_MODEL;
use crate::observe::stored::StoredFacts;
use crate::time::parse_iso;

/// How many facts a row becomes.
pub const FACTS: usize = StoredFacts::TABLE.fields.len();

/// Where a fact stands.
pub const fn slot(name: &str) -> usize {
    index_of(StoredFacts::TABLE.fields, name)
}

// What decides about a row, and is no fact of it.
const TYPE: usize = FACTS;
const ROLE: usize = FACTS + 1;
const SLOTS: usize = FACTS + 2;

/// The objects that are entered.
#[derive(Clone, Copy)]
enum Level {
    Row,
    Message,
    Usage,
    Cost,
    Openclaw,
}

/// What a member of an object is to us.
enum Member {
    Foreign,
    Kept(usize),
    Entered(Level),
}

fn member(level: Level, key: &[u8]) -> Member {
    use Member::{Entered, Foreign, Kept};
    match (level, key) {
        (Level::Row, b"type") => Kept(TYPE),
        (Level::Row, b"id") => Kept(const { slot("entry") }),
        (Level::Row, b"timestamp") => Kept(const { slot("written") }),
        (Level::Row, b"message") => Entered(Level::Message),
        (Level::Message, b"role") => Kept(ROLE),
        (Level::Message, b"provider") => Kept(const { slot("provider") }),
        (Level::Message, b"model") => Kept(const { slot("model") }),
        (Level::Message, b"stopReason") => Kept(const { slot("stop_reason") }),
        (Level::Message, b"responseId") => Kept(const { slot("response_id") }),
        (Level::Message, b"timestamp") => Kept(const { slot("timestamp") }),
        (Level::Message, b"usage") => Entered(Level::Usage),
        (Level::Message, b"__openclaw") => Entered(Level::Openclaw),
        (Level::Usage, b"input") => Kept(const { slot("input") }),
        (Level::Usage, b"output") => Kept(const { slot("output") }),
        (Level::Usage, b"cacheRead") => Kept(const { slot("cache_read") }),
        (Level::Usage, b"cacheWrite") => Kept(const { slot("cache_write") }),
        (Level::Usage, b"cost") => Entered(Level::Cost),
        (Level::Cost, b"total") => Kept(const { slot("cost") }),
        (Level::Openclaw, b"runId") => Kept(const { slot("run_id") }),
        _ => Foreign,
    }
}

/// The values that belong to an object: a second one of the same name replaces it whole.
fn belongings(level: Level) -> &'static [usize] {
    const USAGE: [usize; 5] = [
        slot("input"),
        slot("output"),
        slot("cache_read"),
        slot("cache_write"),
        slot("cost"),
    ];
    const MESSAGE: [usize; 12] = [
        ROLE,
        slot("provider"),
        slot("model"),
        slot("stop_reason"),
        slot("response_id"),
        slot("timestamp"),
        slot("run_id"),
        USAGE[0],
        USAGE[1],
        USAGE[2],
        USAGE[3],
        USAGE[4],
    ];
    const COST: [usize; 1] = [slot("cost")];
    const OPENCLAW: [usize; 1] = [slot("run_id")];
    match level {
        Level::Row => &[],
        Level::Message => &MESSAGE,
        Level::Usage => &USAGE,
        Level::Cost => &COST,
        Level::Openclaw => &OPENCLAW,
    }
}

/// What a row is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// An assistant's message with a model call behind it.
    Call,
    /// The same without a provider or a model.
    Nameless,
    /// A transcript's first row.
    Header,
    /// Anything else.
    Foreign,
}

/// How far a row is read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// Until it shows itself to be foreign; it is not judged further.
    Enough,
    /// To its end.
    Whole,
}

/// The values of one row.
pub struct Row<'a> {
    values: [Value<'a>; SLOTS],
    extent: Extent,
}

impl<'a> Row<'a> {
    /// Reads a row.
    pub fn read(line: &'a [u8], extent: Extent) -> Result<(Self, Kind), Fault> {
        let mut row = Self {
            values: [Value::Absent; SLOTS],
            extent,
        };
        let mut cursor = Cursor::new(line);
        cursor.expect(b'{')?;
        if row.enter(&mut cursor, Level::Row)?.is_none() {
            return Ok((row, Kind::Foreign));
        }
        if !cursor.is_at_end() {
            return Err(Fault::Malformed);
        }
        let kind = row.kind();
        Ok((row, kind))
    }

    /// Reads an object whose brace was taken; `None` once the row is known to be foreign. It calls
    /// itself for the few objects that it enters, never deeper.
    fn enter(&mut self, cursor: &mut Cursor<'a>, level: Level) -> Result<Option<()>, Fault> {
        if cursor.take(b'}')? {
            return Ok(Some(()));
        }
        loop {
            match member(level, cursor.key()?) {
                Member::Foreign => cursor.skip()?,
                Member::Kept(slot) => {
                    self.values[slot] = cursor.value()?;
                    if self.extent == Extent::Enough && self.is_foreign() {
                        return Ok(None);
                    }
                }
                Member::Entered(level) => {
                    for slot in belongings(level) {
                        self.values[*slot] = Value::Absent;
                    }
                    if !cursor.take(b'{')? {
                        cursor.skip()?;
                    } else if self.enter(cursor, level)?.is_none() {
                        return Ok(None);
                    }
                }
            }
            if !cursor.take(b',')? {
                return cursor.expect(b'}').map(Some);
            }
        }
    }

    fn is_foreign(&self) -> bool {
        let other = |slot: usize, wanted: &[&[u8]]| match self.values[slot] {
            Value::Absent => false,
            Value::Text(text) => !wanted.contains(&text),
            _ => true,
        };
        other(TYPE, &[b"message", b"session"]) || other(ROLE, &[b"assistant"])
    }

    fn kind(&self) -> Kind {
        let is = |slot: usize, text: &str| self.values[slot] == Value::Text(text.as_bytes());
        if is(TYPE, "session") {
            return Kind::Header;
        }
        if !is(TYPE, "message") || !is(ROLE, "assistant") || is(slot("provider"), NO_MODEL) {
            return Kind::Foreign;
        }
        let is_named = |slot: usize| match self.values[slot] {
            Value::Text(text) => text.iter().any(|byte| !byte.is_ascii_whitespace()),
            _ => false,
        };
        match is_named(slot("provider")) && is_named(slot("model")) {
            true => Kind::Call,
            false => Kind::Nameless,
        }
    }

    /// A value by its slot.
    pub fn value(&self, slot: usize) -> Value<'a> {
        self.values[slot]
    }

    /// When the row was written, in ms since 1970.
    pub fn written_ms(&self) -> Option<u64> {
        match self.values[slot("written")] {
            Value::Text(text) => parse_iso(std::str::from_utf8(text).ok()?),
            Value::Plain(number) => ms(number),
            _ => None,
        }
    }

    /// When the call began, likewise.
    pub fn started_ms(&self) -> Option<u64> {
        match self.values[slot("timestamp")] {
            Value::Plain(number) => ms(number),
            _ => None,
        }
    }
}

/// Whole ms of a number as written.
fn ms(number: &str) -> Option<u64> {
    number.split('.').next()?.parse().ok()
}
