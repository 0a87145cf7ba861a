//! Reads model calls out of a transcript of OpenClaw's session store: JSONL, in chunks cut anywhere.
//!
//! A store is mostly text that we do not want: lines without an `"assistant"` are passed over by a
//! search, of the rest serde_json hands out the few scalars of [`StoredFacts`]. What comes out is JSON text, one array a
//! call, in that table's order.
//!
//! Rows that are no model's: those of other roles, and those of the provider `openclaw`
//! (`gateway-injected`, `delivery-mirror`). A failed or aborted call without usage is handed out:
//! what it means is decided where calls are counted.
//!
//! A session that was forked, rewound or restored gets a new transcript, which begins with copies of
//! the old one's rows: same ids, same times, and only some headers name the parent. The header is new.
//! So rows behind it that are older than it, up to the first that is not, are inherited.
//! As `JSON.stringify` writes it, the role has no escapes; a line written otherwise is not recognised.
//!
//! [`StoredFacts`]: crate::sources::stored::StoredFacts

mod row;

use std::borrow::Cow;

use memchr::{memchr, memmem};
use serde::Serialize;

use self::row::{Fact, Kind, Row};
use crate::formats::json::{MAX_BYTES, text_of};
use crate::sources::facts::cut;
use crate::sources::stored::StoredFacts;

/// The longest line that is read, in bytes; a longer one is skipped, and counted where it may be a call's.
pub const MAX_LINE: usize = MAX_BYTES;

/// What every line that we want has in it. It stands in no text of others, where its quotes would be escaped.
const MARK: &[u8] = b"\"assistant\"";

/// Where a transcript was found, and what of it is wanted. Times in ms since 1970.
#[derive(Debug, Clone, Default)]
pub struct Scope {
    /// The agent's id.
    pub agent: String,
    /// The transcript's id.
    pub session_id: String,
    /// The session's key, where the store tells it.
    pub session_key: Option<String>,
    /// What [`Reader::inherited_before_ms`] said where reading goes on.
    pub inherited_before_ms: Option<u64>,
    /// Calls written before this are left out.
    pub since_ms: Option<u64>,
    /// Reading ends before the first call that was written at this time or later.
    pub until_ms: Option<u64>,
    /// Calls that say to have been written after this do not end it: the clock was ahead, and was set back since.
    pub future_ms: Option<u64>,
}

/// Lines that could not be used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Skipped {
    /// No JSON.
    #[serde(skip_serializing_if = "is_zero")]
    pub malformed: u32,
    /// Longer than [`MAX_LINE`].
    #[serde(skip_serializing_if = "is_zero")]
    pub too_long: u32,
    /// A model's answer without the model's name.
    #[serde(skip_serializing_if = "is_zero")]
    pub no_model: u32,
}

fn is_zero(count: &u32) -> bool {
    *count == 0
}

impl Skipped {
    /// JSON `{reason: count}`, without those that did not occur.
    pub fn json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// A line that is too long to keep, as far as it has come.
#[derive(Debug, Default)]
struct LongLine {
    has_mark: bool,
    /// The last bytes, in which the mark may have begun.
    tail: Vec<u8>,
    /// The last byte that was no blank.
    last: u8,
}

impl LongLine {
    fn see(&mut self, piece: &[u8]) {
        const OVERLAP: usize = MARK.len() - 1;
        self.tail
            .extend_from_slice(&piece[..piece.len().min(OVERLAP)]);
        self.has_mark |= has_mark(&self.tail) || has_mark(piece);
        if piece.len() >= OVERLAP {
            self.tail.clear();
            self.tail.extend_from_slice(&piece[piece.len() - OVERLAP..]);
        } else {
            self.tail.drain(..self.tail.len().saturating_sub(OVERLAP));
        }
        self.last = *piece.trim_ascii_end().last().unwrap_or(&self.last);
    }
}

fn has_mark(bytes: &[u8]) -> bool {
    memmem::find(bytes, MARK).is_some()
}

/// Reads one transcript, from its start or from the end of any line.
#[derive(Debug)]
pub struct Reader {
    scope: Scope,
    /// The beginning of a line whose end has not come yet.
    partial: Vec<u8>,
    /// That line, once it is too long.
    long: Option<LongLine>,
    is_first_line: bool,
    fed: u64,
    consumed: u64,
    is_stopped: bool,
    skipped: Skipped,
}

impl Reader {
    /// A reader that has read nothing.
    pub fn new(scope: Scope) -> Self {
        Self {
            scope,
            partial: Vec::new(),
            long: None,
            is_first_line: true,
            fed: 0,
            consumed: 0,
            is_stopped: false,
            skipped: Skipped::default(),
        }
    }

    /// Reads on. `rows` gets the calls of all lines that end in this chunk, as JSON arrays with commas
    /// between them.
    pub fn feed(&mut self, chunk: &[u8], rows: &mut String) {
        let mut rest = chunk;
        while !self.is_stopped {
            let Some(end) = memchr(b'\n', rest) else {
                self.fed += rest.len() as u64;
                self.keep(rest);
                return;
            };
            self.end_line(&rest[..end], rows);
            if !self.is_stopped {
                self.fed += end as u64 + 1;
                self.consumed = self.fed;
            }
            rest = &rest[end + 1..];
        }
    }

    /// Takes what is left for a whole line: for a file that nobody writes to any more.
    pub fn finish(&mut self, rows: &mut String) {
        self.end_line(&[], rows);
        if !self.is_stopped {
            self.consumed = self.fed;
        }
    }

    /// How many of the bytes fed belong to lines that are done with: reading may go on from there.
    pub fn consumed(&self) -> u64 {
        self.consumed
    }

    /// Whether a call was met that is too young; nothing is read any more.
    pub fn is_stopped(&self) -> bool {
        self.is_stopped
    }

    /// Rows that follow are inherited if they are older than this; `None` once an own row was met.
    pub fn inherited_before_ms(&self) -> Option<u64> {
        self.scope.inherited_before_ms
    }

    /// The lines that could not be used so far.
    pub fn skipped(&self) -> Skipped {
        self.skipped
    }

    /// Keeps the beginning of a line, unless it is too long.
    fn keep(&mut self, piece: &[u8]) {
        if self.long.is_none() && self.partial.len() + piece.len() <= MAX_LINE {
            self.partial.extend_from_slice(piece);
            return;
        }
        let long = self.long.get_or_insert_default();
        long.see(&std::mem::take(&mut self.partial));
        long.see(piece);
    }

    /// A line ends with this.
    fn end_line(&mut self, end: &[u8], rows: &mut String) {
        if self.partial.is_empty() && self.long.is_none() && end.len() <= MAX_LINE {
            self.line(end, rows);
        } else {
            self.keep(end);
            let mut line = std::mem::take(&mut self.partial);
            match self.long.take() {
                Some(LongLine { has_mark: true, .. }) => self.skipped.too_long += 1,
                Some(LongLine { last, .. }) => self.skipped.malformed += u32::from(last != b'}'),
                None => self.line(&line, rows),
            }
            line.clear();
            self.partial = line;
        }
        self.is_first_line = false;
    }

    fn line(&mut self, line: &[u8], rows: &mut String) {
        let line = line.trim_ascii();
        if line.is_empty() {
            return;
        }
        // Among rows that may be inherited, those tell too that are no calls.
        let is_wanted =
            self.is_first_line || self.scope.inherited_before_ms.is_some() || has_mark(line);
        if !is_wanted {
            // Not worth reading, but a line that broke off is to be seen.
            let is_whole = line.starts_with(b"{") && line.ends_with(b"}");
            self.skipped.malformed += u32::from(!is_whole);
            return;
        }
        let text = text_of(line);
        let Ok(row) = Row::read(&text) else {
            self.skipped.malformed += 1;
            return;
        };
        match row.kind() {
            Kind::Header if self.is_first_line => self.scope.inherited_before_ms = row.written_ms(),
            kind => self.row(&row, kind, rows),
        }
    }

    fn row(&mut self, row: &Row, kind: Kind, rows: &mut String) {
        let inherited_before = self.scope.inherited_before_ms;
        let is_own = match (inherited_before, row.written_ms()) {
            (Some(before), Some(written)) => written >= before,
            _ => false,
        };
        match kind {
            Kind::Call => self.call(row, inherited_before.is_some() && !is_own, rows),
            Kind::Nameless => self.skipped.no_model += 1,
            Kind::Header | Kind::Foreign => {}
        }
        // A call that is left for later is read again, and tells again.
        if is_own && !self.is_stopped {
            self.scope.inherited_before_ms = None;
        }
    }

    fn call(&mut self, row: &Row, inherited: bool, rows: &mut String) {
        let written = row.written_ms();
        if let Some(at) = written.or_else(|| row.started_ms()) {
            let is_of_future = self.scope.future_ms.is_some_and(|future| at > future);
            if !is_of_future && self.scope.until_ms.is_some_and(|until| at >= until) {
                self.is_stopped = true;
                return;
            }
            if self.scope.since_ms.is_some_and(|since| at < since) {
                return;
            }
        }
        let fact = |name| match name {
            "session_id" => text(&self.scope.session_id),
            "agent" => text(&self.scope.agent),
            "session_key" => self.scope.session_key.as_deref().map_or(Fact::Absent, text),
            "inherited" => Fact::Flag(inherited),
            name => row.fact(name),
        };
        let fields = StoredFacts::TABLE.fields.iter();
        let facts: Vec<Fact> = fields.map(|field| fact(field.name)).collect();
        if !rows.is_empty() {
            rows.push(',');
        }
        rows.push_str(&serde_json::to_string(&facts).unwrap_or_default());
    }
}

fn text(text: &str) -> Fact<'_> {
    Fact::Text(Cow::Borrowed(cut(text)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_kept_of_a_line_beyond_all_bounds() {
        let mut reader = Reader::new(Scope::default());
        let filler = [b'x'; 256 * 1024];
        let mut most = 0;
        for _ in 0..4 * MAX_LINE / filler.len() {
            reader.feed(&filler, &mut String::new());
            most = most.max(reader.partial.capacity());
        }
        assert!(most <= MAX_LINE);
        let tail = reader.long.as_ref().map(|long| long.tail.capacity());
        assert_eq!(reader.partial.capacity(), 0);
        assert!(tail.is_some_and(|tail| tail < 100));
    }
}
