//! Reads model calls out of a transcript of OpenClaw's session store: JSONL, in chunks cut anywhere.
//!
//! A store is mostly text that we do not want: lines without an `"assistant"` are passed over by a
//! search, the rest is read by a cursor that keeps the few scalars of [`StoredFacts`] and looks at
//! nothing else. What comes out is JSON text, one array a call, in that table's order.
//!
//! Rows that are no model's: those of other roles, and those of the provider `openclaw`
//! (`gateway-injected`, `delivery-mirror`). A failed or aborted call without usage is handed out:
//! what it means is decided where calls are counted.
//!
//! A session that was forked, rewound or restored gets a new transcript, which begins with copies of
//! the old one's rows: same ids, same times, and only some headers name the parent. The header is new.
//! So rows behind it that are older than it, up to the first that is not, are inherited.
//! As `JSON.stringify` writes them, names of members
//! and of roles have no escapes; a line written otherwise is not recognised.
//!
//! [`StoredFacts`]: crate::observe::stored::StoredFacts

mod json;
mod row;
mod scan;
mod write;

use self::json::Fault;
use self::row::{Extent, FACTS, Kind, Row, slot};
use self::write::{quoted, write_number, write_value};

/// The longest line that is read, in bytes; a longer one is skipped and counted.
pub const MAX_LINE: usize = 16 * 1024 * 1024;

/// From so many bytes on the beginning of a line tells whether the rest is worth keeping.
const FIRST_PROBE: usize = 1024;

/// Where a transcript was found, and what of it is wanted. Times in ms since 1970.
#[derive(Debug, Clone, Default)]
pub struct Scope {
    /// The agent's id.
    pub agent: String,
    /// The transcript's id.
    pub session_id: String,
    /// The session's key, where the store tells it.
    pub session_key: Option<String>,
    /// What [`Reader::heritage_ms`] said where reading goes on.
    pub heritage_ms: Option<u64>,
    /// Calls written before this are left out.
    pub since_ms: Option<u64>,
    /// Reading ends before the first call that was written at this time or later.
    pub until_ms: Option<u64>,
    /// Calls that say to have been written after this do not end it: the clock was ahead, and was set back since.
    pub future_ms: Option<u64>,
}

/// Lines that could not be used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Skipped {
    /// No JSON.
    pub malformed: u32,
    /// Nested too deep.
    pub too_deep: u32,
    /// Longer than [`MAX_LINE`].
    pub too_long: u32,
    /// A model's answer without the model's name.
    pub no_model: u32,
}

impl Skipped {
    /// JSON `{reason: count}`, without those that did not occur.
    pub fn json(&self) -> String {
        let mut out = String::from("{");
        for (reason, count) in [
            ("malformed", self.malformed),
            ("too_deep", self.too_deep),
            ("too_long", self.too_long),
            ("no_model", self.no_model),
        ] {
            if count == 0 {
                continue;
            }
            out.push_str(if out.len() > 1 { ",\"" } else { "\"" });
            out.push_str(reason);
            out.push_str("\":");
            write_number(u64::from(count), &mut out);
        }
        out + "}"
    }
}

/// What is done with the rest of a line.
#[derive(Debug, Clone, Copy)]
enum Rest {
    Kept,
    /// The line is no call's; the last byte of it that was no blank.
    Foreign(u8),
    /// The line was counted.
    Dropped,
}

/// Reads one transcript, from its start or from the end of any line.
#[derive(Debug)]
pub struct Reader {
    scope: Scope,
    /// The facts that every row of this transcript shares, as JSON.
    shared: [(usize, String); 3],
    /// The beginning of a line whose end has not come yet.
    partial: Vec<u8>,
    next_probe: usize,
    /// Whether the rest of the line is wanted.
    rest: Rest,
    is_first_line: bool,
    fed: u64,
    consumed: u64,
    is_stopped: bool,
    skipped: Skipped,
}

impl Reader {
    /// A reader that has read nothing.
    pub fn new(scope: Scope) -> Self {
        let key = scope.session_key.as_deref();
        Self {
            shared: [
                (slot("session_id"), quoted(&scope.session_id)),
                (slot("agent"), quoted(&scope.agent)),
                (
                    slot("session_key"),
                    key.map_or_else(|| "null".to_owned(), quoted),
                ),
            ],
            scope,
            partial: Vec::new(),
            next_probe: FIRST_PROBE,
            rest: Rest::Kept,
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
            let Some(end) = scan::newline(rest) else {
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
    pub fn heritage_ms(&self) -> Option<u64> {
        self.scope.heritage_ms
    }

    /// The lines that could not be used so far.
    pub fn skipped(&self) -> Skipped {
        self.skipped
    }

    /// Keeps the beginning of a line, unless it shows that the line is not wanted.
    fn keep(&mut self, piece: &[u8]) {
        match &mut self.rest {
            Rest::Kept => {}
            Rest::Foreign(last) => return see_last(last, piece),
            Rest::Dropped => return,
        }
        if piece.is_empty() {
            return;
        }
        if self.partial.len() + piece.len() > MAX_LINE {
            self.skipped.too_long += 1;
            self.drop_line(Rest::Dropped);
            return;
        }
        self.partial.extend_from_slice(piece);
        // Among rows that may be inherited, those tell too that are no calls.
        if self.partial.len() < self.next_probe || self.scope.heritage_ms.is_some() {
            return;
        }
        self.next_probe = self.partial.len() * 2;
        let mut last = 0;
        see_last(&mut last, &self.partial);
        // Behind a brace nobody knows yet whether that was all of it.
        let row = Row::read(&self.partial, Extent::Enough);
        if last != b'}' && matches!(row, Ok((_, Kind::Foreign))) {
            self.drop_line(Rest::Foreign(last));
        }
    }

    fn drop_line(&mut self, rest: Rest) {
        self.rest = rest;
        self.partial = Vec::new();
    }

    /// A line ends with this.
    fn end_line(&mut self, end: &[u8], rows: &mut String) {
        self.next_probe = FIRST_PROBE;
        match std::mem::replace(&mut self.rest, Rest::Kept) {
            Rest::Dropped => {}
            Rest::Foreign(mut last) => {
                see_last(&mut last, end);
                self.skipped.malformed += u32::from(last != b'}');
            }
            Rest::Kept if self.partial.is_empty() => self.line(end, rows),
            Rest::Kept => {
                let mut line = std::mem::take(&mut self.partial);
                line.extend_from_slice(end);
                self.line(&line, rows);
                line.clear();
                self.partial = line;
            }
        }
        self.is_first_line = false;
    }

    fn line(&mut self, line: &[u8], rows: &mut String) {
        let line = line.trim_ascii();
        if line.len() > MAX_LINE {
            self.skipped.too_long += 1;
            return;
        }
        // Not worth reading to its end, but a line that broke off is to be seen.
        let is_whole = line.is_empty() || (line.starts_with(b"{") && line.ends_with(b"}"));
        let may_inherit = self.scope.heritage_ms.is_some();
        if !may_inherit && !self.is_first_line && !scan::has_mark(line) {
            self.skipped.malformed += u32::from(!is_whole);
            return;
        }
        let extent = match may_inherit {
            true => Extent::Whole,
            false => Extent::Enough,
        };
        match Row::read(line, extent) {
            Ok((row, Kind::Header)) if self.is_first_line => {
                self.scope.heritage_ms = row.written_ms();
            }
            Ok((_, Kind::Foreign)) if !is_whole => self.skipped.malformed += 1,
            Ok((row, kind)) => self.row(&row, kind, rows),
            Err(_) if line.is_empty() => {}
            Err(Fault::Malformed) => self.skipped.malformed += 1,
            Err(Fault::TooDeep) => self.skipped.too_deep += 1,
        }
    }

    fn row(&mut self, row: &Row, kind: Kind, rows: &mut String) {
        let heritage = self.scope.heritage_ms;
        let is_own = match (heritage, row.written_ms()) {
            (Some(heritage), Some(written)) => written >= heritage,
            _ => false,
        };
        match kind {
            Kind::Call => self.call(row, heritage.is_some() && !is_own, rows),
            Kind::Nameless => self.skipped.no_model += 1,
            Kind::Header | Kind::Foreign => {}
        }
        // A call that is left for later is read again, and tells again.
        if is_own && !self.is_stopped {
            self.scope.heritage_ms = None;
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
        rows.push_str(if rows.is_empty() { "[" } else { ",[" });
        for index in 0..FACTS {
            if index > 0 {
                rows.push(',');
            }
            if index == slot("written") {
                match written {
                    Some(ms) => write_number(ms, rows),
                    None => rows.push_str("null"),
                }
            } else if index == slot("inherited") {
                rows.push_str(if inherited { "true" } else { "false" });
            } else if let Some((_, json)) = self.shared.iter().find(|(slot, _)| *slot == index) {
                rows.push_str(json);
            } else {
                write_value(row.value(index), rows);
            }
        }
        rows.push(']');
    }
}

/// Remembers the last byte that is no blank.
fn see_last(last: &mut u8, piece: &[u8]) {
    *last = *piece.trim_ascii_end().last().unwrap_or(last);
}
