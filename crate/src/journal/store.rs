//! What is on disk, and in which order it is written: the ledger's file, the logs of calls and of records, and what
//! servers refused.
//!
//! The order makes a crash between any two writes harmless. What was seen of a call comes first, so that a call
//! that is on disk is always one that can be matched; a cursor moves a round later than the entry comes; a
//! snapshot comes last, and what it replaces goes after it.

use super::log::{Entry, Kind, Log, Position, Readable};
use super::{Frame, MAX_PAYLOAD, append, append_frame, begin_file, format_v1};
use crate::activity::records::Written;
use crate::domain::call::{CallId, ModelCall};
use crate::journal::files::{LEDGER, Op, Write, numbered};
use crate::journal::pieces::{PIECE_BYTES, Pieces};

/// The ledger's file is replaced by a snapshot when it has grown this much beyond twice the last one, in bytes.
const LEDGER_SLACK: usize = 256 * 1024;
/// The most bytes of refused records in one file; there are two, the older one goes.
const MAX_REFUSED: usize = 256 * 1024;
/// Where refused records are kept, and what was kept before these.
pub(super) const REFUSED: [&str; 2] = ["refused.ndjson", "refused-older.ndjson"];

/// Writes to do, in order.
#[derive(Debug, Default)]
pub struct Writes {
    /// Entries that were appended up to this one are on disk when all of them are done.
    pub upto: u64,
    /// The changes.
    pub list: Vec<Write>,
}

/// The journal.
#[derive(Debug)]
pub struct Journal {
    delta: Pieces,
    together: Option<Vec<Frame>>,
    pub(super) ledger_number: u32,
    /// Bytes in the ledger's current file; 0 where it is yet to begin.
    ledger_bytes: usize,
    snapshot_bytes: usize,
    pub(super) wants_snapshot: bool,
    pub(super) old_ledgers: Vec<u32>,
    pub(super) calls: Log,
    pub(super) records: Log,
    appended: u64,
    refused: Vec<u8>,
    pub(super) refused_bytes: usize,
}

impl Journal {
    /// An empty journal of at most so many bytes, three quarters of them for calls.
    pub fn new(max_bytes: u64) -> Self {
        Self {
            delta: Pieces::default(),
            together: None,
            ledger_number: 1,
            ledger_bytes: 0,
            snapshot_bytes: 0,
            wants_snapshot: false,
            old_ledgers: Vec::new(),
            calls: Log::new(Kind::Calls, max_bytes / 4 * 3),
            records: Log::new(Kind::Records, max_bytes / 4),
            appended: 0,
            refused: Vec::new(),
            refused_bytes: 0,
        }
    }

    /// Bytes on disk, or soon.
    pub fn bytes(&self) -> u64 {
        self.calls.bytes() + self.records.bytes() + (self.ledger_bytes + self.delta.len()) as u64
    }

    /// Calls and records that wait on disk alone.
    pub fn waiting(&self) -> (usize, usize) {
        (self.calls.waiting(), self.records.waiting())
    }

    /// Notes a fact of the ledger.
    pub fn note(&mut self, frame: &Frame) {
        match &mut self.together {
            Some(frames) => frames.push(frame.clone()),
            None => append_frame(self.ledger_end(), frame),
        }
    }

    /// Where the ledger's file goes on.
    fn ledger_end(&mut self) -> &mut Vec<u8> {
        if self.ledger_bytes == 0 && self.delta.is_empty() {
            *self.delta.end() = begin_file();
        }
        self.delta.end()
    }

    /// From here on facts are noted together: a crash leaves all of them, or none.
    pub fn begin_together(&mut self) {
        self.together = Some(Vec::new());
    }

    /// The end of what is noted together.
    pub fn end_together(&mut self) {
        let frames = self.together.take().unwrap_or_default();
        let together = Frame::Together(frames);
        let payload = format_v1::frame_bytes(&together);
        match together {
            // What is too long for one frame stands alone.
            Frame::Together(frames) if payload.len() > MAX_PAYLOAD => {
                frames.iter().for_each(|frame| self.note(frame));
            }
            _ => append(self.ledger_end(), &payload),
        }
    }

    /// Appends a finished call, `held` where it stays in memory too. Its entry, and when it is on disk.
    pub fn call(&mut self, call: &ModelCall, held: bool) -> (Entry, u64) {
        self.appended += 1;
        let payload = format_v1::call_bytes(call);
        (self.calls.append(&payload, held), self.appended)
    }

    /// Appends a record, likewise.
    pub fn record(&mut self, record: &Written, held: bool) -> (Entry, u64) {
        self.appended += 1;
        let payload = format_v1::record_bytes(record);
        (self.records.append(&payload, held), self.appended)
    }

    /// Gives up what is beyond the disk's bound: how many calls and records AgentWatch loses by that, and how many bytes
    /// of records the collector.
    pub fn shrink(&mut self) -> (u64, u64, u64) {
        let (calls, _) = self.calls.shrink();
        let (records, unread) = self.records.shrink();
        // What was seen of lost calls must not make them anew.
        self.wants_snapshot |= calls > 0;
        (calls, records, unread)
    }

    /// AgentWatch is done with these calls.
    pub fn acknowledge_calls(&mut self, calls: &[(CallId, Entry)]) {
        if calls.is_empty() {
            return;
        }
        self.note(&Frame::Closed(calls.iter().map(|(id, _)| *id).collect()));
        self.calls
            .acknowledge(calls.iter().map(|(_, entry)| *entry));
    }

    /// AgentWatch is done with these entries.
    pub fn acknowledge(&mut self, kind: Kind, entries: Vec<Entry>) {
        self.log(kind).acknowledge(entries);
    }

    /// What an outlet that follows a log can read of it, from the oldest segment.
    pub fn readable(&self, kind: Kind) -> Vec<Readable> {
        match kind {
            Kind::Calls => self.calls.readable(),
            Kind::Records => self.records.readable(),
        }
    }

    /// An outlet follows a log, and needs nothing of it before this place any more; or none does.
    pub fn follow(&mut self, kind: Kind, at: Option<Position>) {
        self.log(kind).follow(at);
    }

    /// Writes down what a server refused, as a line of JSON.
    pub fn refuse(&mut self, line: &str) {
        self.refused.extend_from_slice(line.as_bytes());
        self.refused.push(b'\n');
    }

    /// What to write now. `snapshot` gives everything that the ledger knows, one after the other, and `hand_out` gets
    /// it piece by piece: all of it at once would take as much memory as the ledger itself, which a module never gives
    /// back.
    pub fn take_writes(
        &mut self,
        snapshot: impl Iterator<Item = Frame>,
        hand_out: &mut dyn FnMut(&[u8]),
    ) -> Writes {
        let mut list = Vec::new();
        // What it has passed was on disk before it was sent.
        for kind in [Kind::Calls, Kind::Records] {
            let log = self.log(kind);
            if let Some(frame) = log.moved().map(|cursor| log.frame(cursor)) {
                append_frame(self.ledger_end(), &frame);
            }
        }
        for bytes in self.delta.take() {
            self.ledger_bytes += bytes.len();
            list.push(Write {
                file: numbered(LEDGER, self.ledger_number),
                op: Op::Append(bytes),
            });
        }
        self.calls.take_appends(&mut list);
        self.records.take_appends(&mut list);
        if self.wants_snapshot || self.ledger_bytes > 2 * self.snapshot_bytes + LEDGER_SLACK {
            self.write_snapshot(snapshot, hand_out, &mut list);
        }
        self.calls.take_deletions(&mut list);
        self.records.take_deletions(&mut list);
        self.write_refused(&mut list);
        Writes {
            upto: self.appended,
            list,
        }
    }

    /// Whether there is something to write.
    pub fn has_changes(&self) -> bool {
        !self.delta.is_empty()
            || self.wants_snapshot
            || !self.refused.is_empty()
            || self.calls.has_changes()
            || self.records.has_changes()
    }

    /// Whether calls or records are to be written: they wait for that to be sent.
    pub fn has_entries(&self) -> bool {
        self.calls.has_appends() || self.records.has_appends()
    }

    /// Facts of the ledger that are not written yet, for another process that owns the journal now.
    pub fn take_facts(&mut self) -> Vec<u8> {
        self.delta.take().flatten().collect()
    }

    /// Throws away what is not written: the disk may have it in part, or not at all.
    pub fn discard(&mut self) {
        drop(self.delta.take());
        self.refused.clear();
        self.calls.abandon_last();
        self.records.abandon_last();
    }

    /// From here on everything is written anew, into new files.
    pub fn write_anew(&mut self) {
        self.discard();
        self.want_snapshot();
    }

    /// Lets the next writes replace the ledger's file by a snapshot.
    pub fn want_snapshot(&mut self) {
        self.wants_snapshot = true;
    }

    fn write_snapshot(
        &mut self,
        frames: impl Iterator<Item = Frame>,
        hand_out: &mut dyn FnMut(&[u8]),
        list: &mut Vec<Write>,
    ) {
        let mut piece = begin_file();
        let mut bytes = 0;
        append_frame(&mut piece, &Frame::Begin);
        let cursors = [&self.calls, &self.records].map(|log| log.frame(log.cursor()));
        for frame in frames.chain(cursors) {
            if piece.len() >= PIECE_BYTES {
                bytes += piece.len();
                hand_out(&piece);
                piece.clear();
            }
            append_frame(&mut piece, &frame);
        }
        hand_out(&piece);
        self.wants_snapshot = false;
        self.old_ledgers.push(self.ledger_number);
        self.ledger_number += 1;
        self.snapshot_bytes = bytes + piece.len();
        self.ledger_bytes = self.snapshot_bytes;
        list.push(Write {
            file: numbered(LEDGER, self.ledger_number),
            op: Op::Snapshot,
        });
        for number in std::mem::take(&mut self.old_ledgers) {
            list.push(Write {
                file: numbered(LEDGER, number),
                op: Op::Delete,
            });
        }
    }

    fn write_refused(&mut self, list: &mut Vec<Write>) {
        let lines = std::mem::take(&mut self.refused);
        if lines.is_empty() {
            return;
        }
        let [current, older] = REFUSED;
        self.refused_bytes += lines.len();
        let op = match self.refused_bytes > MAX_REFUSED {
            false => Op::Append(lines),
            true => {
                self.refused_bytes = lines.len();
                list.push(Write {
                    file: current.to_owned(),
                    op: Op::Rename(older),
                });
                Op::Replace(lines)
            }
        };
        list.push(Write {
            file: current.to_owned(),
            op,
        });
    }

    pub(super) fn log(&mut self, kind: Kind) -> &mut Log {
        match kind {
            Kind::Calls => &mut self.calls,
            Kind::Records => &mut self.records,
        }
    }
}
