//! The journal: the ledger's file, the logs of calls and records, the refused calls, and the order of their writes.
//!
//! The order makes a crash between any two writes harmless. Observations come before finished calls, so each call on
//! disk can be matched. A cursor passes an entry in a later round of writes than the one that appends the entry. A
//! snapshot is written last, and the files that it replaces are deleted after it.

use super::log::{Entry, Kind, Log, Position, Readable, Unread};
use super::{Frame, MAX_PAYLOAD, append, append_frame, begin_file, format_v1};
use crate::activity::records::Written;
use crate::domain::call::{CallId, ModelCall};
use crate::journal::files::{LEDGER, Op, Write, numbered};
use crate::journal::pieces::{PIECE_BYTES, Pieces};

/// A snapshot replaces the ledger's file when it is this much larger than twice the last snapshot, in bytes.
const LEDGER_SLACK: usize = 256 * 1024;
/// Maximum size of a file of refused calls, in bytes. There are two files; the older one is overwritten.
const MAX_REFUSED: usize = 256 * 1024;
/// Files of refused calls: the current one and the older one.
pub(super) const REFUSED: [&str; 2] = ["refused.ndjson", "refused-older.ndjson"];

/// Changes to write, in order.
#[derive(Debug, Default)]
pub struct Writes {
    /// Number of entries, counted since the start, that are on disk when all changes are written.
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
    /// Size of the ledger's current file, in bytes; 0 before its first write.
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
    /// An empty journal. `max_bytes` bounds the logs; three quarters are for calls, one quarter for records.
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

    /// Size in bytes, with the bytes that are yet to be written.
    pub fn bytes(&self) -> u64 {
        self.calls.bytes() + self.records.bytes() + (self.ledger_bytes + self.delta.len()) as u64
    }

    /// Numbers of calls and of records that are on disk and not in memory, unacknowledged.
    pub fn waiting(&self) -> (usize, usize) {
        (self.calls.waiting(), self.records.waiting())
    }

    /// Appends a frame to the ledger.
    pub fn note(&mut self, frame: &Frame) {
        match &mut self.together {
            Some(frames) => frames.push(frame.clone()),
            None => append_frame(self.ledger_end(), frame),
        }
    }

    /// The unwritten end of the ledger's file.
    fn ledger_end(&mut self) -> &mut Vec<u8> {
        if self.ledger_bytes == 0 && self.delta.is_empty() {
            *self.delta.end() = begin_file();
        }
        self.delta.end()
    }

    /// Begins a group of frames that are written atomically.
    pub fn begin_together(&mut self) {
        self.together = Some(Vec::new());
    }

    /// Ends the group and appends it.
    pub fn end_together(&mut self) {
        let frames = self.together.take().unwrap_or_default();
        let together = Frame::Together(frames);
        let payload = format_v1::frame_bytes(&together);
        match together {
            // A group that exceeds a frame is appended frame by frame.
            Frame::Together(frames) if payload.len() > MAX_PAYLOAD => {
                frames.iter().for_each(|frame| self.note(frame));
            }
            _ => append(self.ledger_end(), &payload),
        }
    }

    /// Appends a finished call; `held`: it stays in memory too. Returns its entry and its number: it is on
    /// disk when [`Writes::upto`] reaches this number.
    pub fn call(&mut self, call: &ModelCall, held: bool) -> (Entry, u64) {
        self.appended += 1;
        let payload = format_v1::call_bytes(call);
        (self.calls.append(&payload, held), self.appended)
    }

    /// Appends a record, as [`Journal::call`] does.
    pub fn record(&mut self, record: &Written, held: bool) -> (Entry, u64) {
        self.appended += 1;
        let payload = format_v1::record_bytes(record);
        (self.records.append(&payload, held), self.appended)
    }

    /// Drops the oldest segments beyond the bound. Returns the numbers of calls and of records that AgentWatch loses,
    /// and the bytes of records that each following outlet loses.
    pub fn shrink(&mut self) -> (u64, u64, Unread) {
        let (calls, _) = self.calls.shrink();
        let (records, unread) = self.records.shrink();
        // The snapshot drops the observations of lost calls, which a recovery would turn into calls again.
        self.wants_snapshot |= calls > 0;
        (calls, records, unread)
    }

    /// Acknowledges calls for AgentWatch.
    pub fn acknowledge_calls(&mut self, calls: &[(CallId, Entry)]) {
        if calls.is_empty() {
            return;
        }
        self.note(&Frame::Closed(calls.iter().map(|(id, _)| *id).collect()));
        self.calls
            .acknowledge(calls.iter().map(|(_, entry)| *entry));
    }

    /// Acknowledges entries for AgentWatch.
    pub fn acknowledge(&mut self, kind: Kind, entries: Vec<Entry>) {
        self.log(kind).acknowledge(entries);
    }

    /// The segments of a log with entries, oldest first.
    pub fn readable(&self, kind: Kind) -> Vec<Readable> {
        match kind {
            Kind::Calls => self.calls.readable(),
            Kind::Records => self.records.readable(),
        }
    }

    /// Sets the place in a log up to which the outlet of this name has read; `None` where it no longer follows the log.
    pub fn follow(&mut self, kind: Kind, outlet: &'static str, at: Option<Position>) {
        self.log(kind).follow(outlet, at);
    }

    /// Appends a refused call, one line of JSON, to the file of refused calls.
    pub fn refuse(&mut self, line: &str) {
        self.refused.extend_from_slice(line.as_bytes());
        self.refused.push(b'\n');
    }

    /// Takes the pending changes. If a snapshot is due, `hand_out` gets the frames of `snapshot` in pieces: a whole
    /// snapshot would double the memory of the ledger, and a WebAssembly module never gives memory back.
    pub fn take_writes(
        &mut self,
        snapshot: impl Iterator<Item = Frame>,
        hand_out: &mut dyn FnMut(&[u8]),
    ) -> Writes {
        let mut list = Vec::new();
        // An entry is sent after it is on disk, so the entries before a cursor are on disk already. But a snapshot that is
        // written behind a failing disk follows entries that are appended again: a cursor ahead of them would acknowledge
        // their only copies. It comes with the snapshot.
        if !self.wants_snapshot {
            for kind in [Kind::Calls, Kind::Records] {
                let log = self.log(kind);
                if let Some(frame) = log.moved().map(|cursor| log.frame(cursor)) {
                    append_frame(self.ledger_end(), &frame);
                }
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

    /// Whether any change waits to be written.
    pub fn has_changes(&self) -> bool {
        !self.delta.is_empty()
            || self.wants_snapshot
            || !self.refused.is_empty()
            || self.calls.has_changes()
            || self.records.has_changes()
    }

    /// Whether calls or records wait to be written; they are sent only after that.
    pub fn has_entries(&self) -> bool {
        self.calls.has_appends() || self.records.has_appends()
    }

    /// Takes the ledger's unwritten frames, for another process that owns the journal now.
    pub fn take_facts(&mut self) -> Vec<u8> {
        self.delta.take().flatten().collect()
    }

    /// Drops all unwritten changes: the disk may have a part of them.
    pub fn discard(&mut self) {
        drop(self.delta.take());
        self.refused.clear();
        self.calls.abandon_last();
        self.records.abandon_last();
    }

    /// Drops all unwritten changes and starts new files, with a snapshot of the ledger.
    pub fn write_anew(&mut self) {
        self.discard();
        self.want_snapshot();
    }

    /// Makes the next writes replace the ledger's file by a snapshot.
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
        let cursors = [&mut self.calls, &mut self.records].map(|log| {
            log.moved();
            log.frame(log.cursor())
        });
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
