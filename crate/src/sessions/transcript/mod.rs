//! Reads the model calls of a transcript of OpenClaw's session store: JSONL, in chunks that may end inside a line.
//!
//! Most lines are no model calls. A byte search skips lines without `"assistant"`; of other lines serde_json returns
//! the scalars of [`StoredFacts`]. The output is JSON text, one array for each call, in the order of that table.
//!
//! Messages of other roles, of the provider `openclaw` (`gateway-injected`, `delivery-mirror`), and of histories that were
//! imported from other tools are no model calls.
//! A failed or aborted call without usage is returned: the engine decides whether it counts.
//!
//! A session that was forked, rewound or restored gets a new transcript, which begins with copies of the old rows: same
//! ids, same times. Only some headers name the parent, but each header is new. So the rows after the header that are
//! older than the header, up to the first row that is not, are inherited.
//!
//! `JSON.stringify` writes the role without escapes; a line with an escaped role is not recognised.
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

/// Maximum length of a line, in bytes. A longer line is skipped, and counted if it may be a call.
pub const MAX_LINE: usize = MAX_BYTES;

/// Each line of a call contains these bytes. Text inside a line does not, since its quotes are escaped.
const MARK: &[u8] = b"\"assistant\"";

/// The session of a transcript, and the span of calls to read. Times are in ms since 1970.
#[derive(Debug, Clone, Default)]
pub struct Scope {
    /// The agent's id.
    pub agent: String,
    /// The transcript's id.
    pub session_id: String,
    /// The session's key, if the store has it.
    pub session_key: Option<String>,
    /// [`Reader::inherited_before_ms`] at the place where reading continues.
    pub inherited_before_ms: Option<u64>,
    /// Calls written before this time are skipped.
    pub since_ms: Option<u64>,
    /// Calls written at this time or later wait for a later reading.
    pub until_ms: Option<u64>,
    /// Reading stops before the first call that waits, unless it was written after this time: then its clock was ahead, and
    /// was set back since, and it is read at once. `None`: calls that wait are left out, since another reading takes them.
    pub future_ms: Option<u64>,
}

/// Lines that could not be used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Skipped {
    /// Number of lines that are no JSON.
    #[serde(skip_serializing_if = "is_zero")]
    pub malformed: u32,
    /// Number of lines longer than [`MAX_LINE`].
    #[serde(skip_serializing_if = "is_zero")]
    pub too_long: u32,
    /// Number of answers without a provider or a model.
    #[serde(skip_serializing_if = "is_zero")]
    pub no_model: u32,
}

fn is_zero(count: &u32) -> bool {
    *count == 0
}

impl Skipped {
    /// JSON `{reason: count}`, without zero counts.
    pub fn json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// State of a line that is too long to buffer.
#[derive(Debug, Default)]
struct LongLine {
    has_mark: bool,
    /// The last bytes, which may contain the beginning of the mark.
    tail: Vec<u8>,
    /// The last byte that is no whitespace.
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

/// Reads a transcript, from its start or from the end of any line.
#[derive(Debug)]
pub struct Reader {
    scope: Scope,
    /// The beginning of an incomplete line.
    partial: Vec<u8>,
    /// State of the incomplete line, if it is too long.
    long: Option<LongLine>,
    is_first_line: bool,
    fed: u64,
    consumed: u64,
    is_stopped: bool,
    skipped: Skipped,
}

impl Reader {
    /// A new reader.
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

    /// Reads a chunk. Appends the calls of all lines that end in it to `rows`, as JSON arrays separated by commas.
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

    /// Treats the incomplete line as complete, for a file that takes no further rows.
    pub fn finish(&mut self, rows: &mut String) {
        self.end_line(&[], rows);
        if !self.is_stopped {
            self.consumed = self.fed;
        }
    }

    /// Treats the incomplete line as complete if it is whole, for a file that was not written to for a while.
    pub fn finish_whole(&mut self, rows: &mut String) {
        if self.long.is_none() && Row::read(&text_of(trimmed(&self.partial))).is_ok() {
            self.finish(rows);
        }
    }

    /// Number of bytes of processed lines: a later reader continues at this offset.
    pub fn consumed(&self) -> u64 {
        self.consumed
    }

    /// Whether reading stopped at a call of `until_ms` or later.
    pub fn is_stopped(&self) -> bool {
        self.is_stopped
    }

    /// The next rows are inherited if they are older than this, in ms since 1970; `None` after the first row that is
    /// not inherited.
    pub fn inherited_before_ms(&self) -> Option<u64> {
        self.scope.inherited_before_ms
    }

    /// Counts of lines that could not be used.
    pub fn skipped(&self) -> Skipped {
        self.skipped
    }

    /// Buffers a piece of an incomplete line, unless the line is too long.
    fn keep(&mut self, piece: &[u8]) {
        if self.long.is_none() && self.partial.len() + piece.len() <= MAX_LINE {
            self.partial.extend_from_slice(piece);
            return;
        }
        let long = self.long.get_or_insert_default();
        long.see(&std::mem::take(&mut self.partial));
        long.see(piece);
    }

    /// Processes a line that ends with this piece.
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
        let line = trimmed(line);
        if line.is_empty() {
            return;
        }
        // While rows may be inherited, the times of other rows count too.
        let is_wanted =
            self.is_first_line || self.scope.inherited_before_ms.is_some() || has_mark(line);
        if !is_wanted {
            // The line is not parsed, but a truncated line is counted.
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
        let is_own = match (inherited_before, row.time_ms()) {
            (Some(before), Some(at)) => at >= before,
            _ => false,
        };
        match kind {
            Kind::Call => self.call(row, inherited_before.is_some() && !is_own, rows),
            Kind::Nameless => self.skipped.no_model += 1,
            Kind::Header | Kind::Foreign => {}
        }
        // A call at which reading stops is read again by a later reader.
        if is_own && !self.is_stopped {
            self.scope.inherited_before_ms = None;
        }
    }

    fn call(&mut self, row: &Row, inherited: bool, rows: &mut String) {
        if let Some(at) = row.time_ms() {
            let waits = self.scope.until_ms.is_some_and(|until| at >= until);
            match self.scope.future_ms {
                Some(future) if waits && at <= future => {
                    self.is_stopped = true;
                    return;
                }
                None if waits => return,
                _ => {}
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

/// A line without the space around it, and without the zeros that a power cut leaves before the next row.
fn trimmed(line: &[u8]) -> &[u8] {
    let is_filler = |byte: &u8| *byte == 0 || byte.is_ascii_whitespace();
    let begin = line.iter().position(|byte| !is_filler(byte));
    let end = line.iter().rposition(|byte| !is_filler(byte));
    begin
        .zip(end)
        .map_or(&[], |(begin, end)| &line[begin..=end])
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
