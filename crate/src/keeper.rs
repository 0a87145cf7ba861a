//! What is kept on disk, and in which order it is written: the ledger's file, the segments of calls and of
//! records, and what servers refused.
//!
//! The order makes a crash between any two writes harmless. What was seen of a call comes first, so that a call
//! that is on disk is always one that can be matched; marks of what is gone come a round later than the entry; a
//! snapshot comes last, and what it replaces goes after it.

use std::collections::HashMap;

use crate::call::{CallId, ModelCall};
use crate::files::{LEDGER, Op, Write, number_of, numbered};
use crate::journal::{self, Foreign, Frame, format_v1};
use crate::pieces::{PIECE_BYTES, Pieces};
use crate::records::Written;
use crate::segments::{Kind, Position, Segments};

/// The ledger's file is replaced by a snapshot when it has grown this much beyond twice the last one, in bytes.
const LEDGER_SLACK: usize = 256 * 1024;
/// The most bytes of refused records in one file; there are two, the older one goes.
const MAX_REFUSED: usize = 256 * 1024;
/// Where refused records are kept, and what was kept before these.
const REFUSED: [&str; 2] = ["refused.ndjson", "refused-older.ndjson"];

/// Writes to do, in order.
#[derive(Debug, Default)]
pub struct Writes {
    /// To be told to [`Keeper::written`] when all of them are done.
    pub upto: u64,
    /// The changes.
    pub list: Vec<Write>,
}

/// What is recovered from disk.
#[derive(Debug, Default)]
pub struct Found {
    /// The ledger's facts, in order.
    pub frames: Vec<Frame>,
    /// Calls that are final, and where each stands: they are not to be settled again.
    pub finals: Vec<(CallId, Position)>,
    /// Torn or corrupt frames.
    pub corrupt: u64,
    /// Files of another version, which are left alone.
    pub foreign: Vec<(String, Foreign)>,
}

/// Keeps everything.
#[derive(Debug)]
pub struct Keeper {
    delta: Pieces,
    together: Option<Vec<Frame>>,
    ledger_number: u32,
    /// Bytes in the ledger's current file; 0 where it is yet to begin.
    ledger_bytes: usize,
    snapshot_bytes: usize,
    wants_snapshot: bool,
    old_ledgers: Vec<u32>,
    calls: Segments,
    rest: Segments,
    appended: u64,
    refused: Vec<u8>,
    refused_bytes: usize,
}

impl Keeper {
    /// Nothing kept yet; at most so many bytes on disk, three quarters of them for calls.
    pub fn new(max_bytes: u64) -> Self {
        Self {
            delta: Pieces::default(),
            together: None,
            ledger_number: 1,
            ledger_bytes: 0,
            snapshot_bytes: 0,
            wants_snapshot: false,
            old_ledgers: Vec::new(),
            calls: Segments::new(Kind::Calls, max_bytes / 4 * 3),
            rest: Segments::new(Kind::Records, max_bytes / 4),
            appended: 0,
            refused: Vec::new(),
            refused_bytes: 0,
        }
    }

    /// Bytes on disk, or soon.
    pub fn bytes(&self) -> u64 {
        self.calls.bytes() + self.rest.bytes() + (self.ledger_bytes + self.delta.len()) as u64
    }

    /// Calls and records that are on disk alone.
    pub fn waiting(&self) -> (usize, usize) {
        (self.calls.waiting(), self.rest.waiting())
    }

    /// Keeps a fact of the ledger.
    pub fn note(&mut self, frame: &Frame) {
        match &mut self.together {
            Some(frames) => frames.push(frame.clone()),
            None => journal::append_frame(self.ledger_end(), frame),
        }
    }

    /// Where the ledger's file goes on.
    fn ledger_end(&mut self) -> &mut Vec<u8> {
        if self.ledger_bytes == 0 && self.delta.is_empty() {
            *self.delta.end() = journal::begin_file();
        }
        self.delta.end()
    }

    /// From here on facts are kept together: a crash leaves all of them, or none.
    pub fn begin_together(&mut self) {
        self.together = Some(Vec::new());
    }

    /// The end of what is kept together.
    pub fn end_together(&mut self) {
        let frames = self.together.take().unwrap_or_default();
        let together = Frame::Together(frames);
        let payload = format_v1::frame_bytes(&together);
        match together {
            // What is too long for one frame stands alone.
            Frame::Together(frames) if payload.len() > journal::MAX_PAYLOAD => {
                frames.iter().for_each(|frame| self.note(frame));
            }
            _ => journal::append(self.ledger_end(), &payload),
        }
    }

    /// Keeps a finished call, `loaded` where it stays in memory too. Where it stands, and when it is on disk.
    pub fn call(&mut self, call: &ModelCall, loaded: bool) -> (Position, u64) {
        self.appended += 1;
        let payload = format_v1::call_bytes(call);
        (self.calls.append(&payload, loaded), self.appended)
    }

    /// Keeps a record, likewise.
    pub fn record(&mut self, record: &Written, loaded: bool) -> (Position, u64) {
        self.appended += 1;
        (
            self.rest.append(&format_v1::record_bytes(record), loaded),
            self.appended,
        )
    }

    /// Gives up what is beyond the disk's bound: how many calls and records are lost by that.
    pub fn shrink(&mut self) -> (u64, u64) {
        let lost = (self.calls.shrink(), self.rest.shrink());
        // What was seen of lost calls must not make them anew.
        self.wants_snapshot |= lost.0 > 0;
        lost
    }

    /// These calls have left.
    pub fn calls_left(&mut self, settled: &[(CallId, Position)]) {
        if settled.is_empty() {
            return;
        }
        self.note(&Frame::Closed(settled.iter().map(|(id, _)| *id).collect()));
        let positions: Vec<Position> = settled.iter().map(|(_, position)| *position).collect();
        self.left(Kind::Calls, positions);
    }

    /// These records have left.
    pub fn records_left(&mut self, positions: Vec<Position>) {
        if !positions.is_empty() {
            self.left(Kind::Records, positions);
        }
    }

    fn left(&mut self, kind: Kind, positions: Vec<Position>) {
        // Most leave in the order in which they came: neighbours share a frame.
        for group in positions.chunk_by(|a, b| a.segment == b.segment) {
            let offsets = group.iter().map(|position| position.offset).collect();
            if let Some(first) = group.first() {
                self.note(&Frame::Gone(kind, first.segment, offsets));
            }
        }
        self.segments(kind).gone(&positions);
    }

    /// Entries that were kept anew elsewhere.
    pub fn forget(&mut self, kind: Kind, positions: &[Position]) {
        self.segments(kind).gone(positions);
    }

    /// Keeps what a server refused, as a line of JSON.
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
        for bytes in self.delta.take() {
            self.ledger_bytes += bytes.len();
            list.push(Write {
                file: numbered(LEDGER, self.ledger_number),
                op: Op::Append(bytes),
            });
        }
        self.calls.take_appends(&mut list);
        self.rest.take_appends(&mut list);
        if self.wants_snapshot || self.ledger_bytes > 2 * self.snapshot_bytes + LEDGER_SLACK {
            self.write_snapshot(snapshot, hand_out, &mut list);
        }
        self.calls.take_deletions(&mut list);
        self.rest.take_deletions(&mut list);
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
            || self.rest.has_changes()
    }

    /// Whether calls or records are to be written: they wait for that to be sent.
    pub fn has_entries(&self) -> bool {
        self.calls.has_appends() || self.rest.has_appends()
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
        self.rest.abandon_last();
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
        let mut piece = journal::begin_file();
        let mut bytes = 0;
        journal::append_frame(&mut piece, &Frame::Begin);
        for frame in frames.chain(self.calls.frames()).chain(self.rest.frames()) {
            if piece.len() >= PIECE_BYTES {
                bytes += piece.len();
                hand_out(&piece);
                piece.clear();
            }
            journal::append_frame(&mut piece, &frame);
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

    /// Takes a file from disk; the host hands them over in the order of their names.
    pub fn recover(&mut self, file: &str, bytes: &[u8], found: &mut Found) {
        if file == REFUSED[0] {
            self.refused_bytes = bytes.len();
        } else if let Some(number) = number_of(file, LEDGER) {
            self.recover_ledger(number, file, bytes, found);
        } else if let Some(kind) = self.kind_of(file) {
            self.recover_segment(kind, file, bytes, found);
        }
    }

    fn recover_ledger(&mut self, number: u32, file: &str, bytes: &[u8], found: &mut Found) {
        self.ledger_number = self.ledger_number.max(number + 1);
        match journal::read(bytes) {
            Err(foreign) => found.foreign.push((file.to_owned(), foreign)),
            Ok(recovered) => {
                self.old_ledgers.push(number);
                // Its end may be torn: it is not appended to, but replaced at once.
                self.wants_snapshot = true;
                found.corrupt += recovered.corrupt;
                for frame in recovered.frames {
                    match frame {
                        Frame::Begin => found.frames.clear(),
                        frame => found.frames.push(frame),
                    }
                }
            }
        }
    }

    fn recover_segment(&mut self, kind: Kind, file: &str, bytes: &[u8], found: &mut Found) {
        // The ledger's files sort before these: all marks are known by now.
        for frame in &mut found.frames {
            if let Frame::Gone(of, number, offsets) = frame {
                let offsets = std::mem::take(offsets);
                self.segments(*of).restore_gone(*number, offsets);
            }
        }
        let finals = &mut found.finals;
        let see = |position: Position, payload: &[u8]| {
            if kind == Kind::Calls
                && let Some(id) = format_v1::call_id(payload)
            {
                finals.push((id, position));
            }
        };
        match self.segments(kind).recover(file, bytes, see) {
            Ok(corrupt) => found.corrupt += corrupt,
            Err(foreign) => found.foreign.push((file.to_owned(), foreign)),
        }
    }

    /// All files were handed over; `finals` are the calls in them. A call that stands there twice, since a disk
    /// failed between, is sent once: its last copy says whether it has left. The others are gone in any case, and a
    /// mark of theirs only says that the call was moved.
    pub fn recovered(&mut self, finals: &[(CallId, Position)]) {
        let mut places: HashMap<u64, Position> = HashMap::new();
        for (id, position) in finals {
            if let Some(earlier) = places.insert(id.key(), *position) {
                self.left(Kind::Calls, vec![earlier]);
            }
        }
        self.calls.recovered();
        self.rest.recovered();
    }

    /// The segment of calls, or of records, to read next.
    pub fn to_load(&self, kind: Kind) -> Option<String> {
        match kind {
            Kind::Calls => self.calls.to_load(),
            Kind::Records => self.rest.to_load(),
        }
    }

    /// Takes a segment's calls into memory, and how many of it are lost.
    pub fn load_calls(&mut self, file: &str, bytes: &[u8]) -> (Vec<(ModelCall, Position)>, u64) {
        let Some((entries, mut lost)) = self.calls.load(file, bytes) else {
            return (Vec::new(), 0);
        };
        let read = |(position, payload): (Position, &[u8])| (format_v1::call(payload), position);
        let (good, bad): (Vec<_>, Vec<_>) = entries
            .into_iter()
            .map(read)
            .partition(|(call, _)| call.is_some());
        lost += bad.len() as u64;
        self.left(
            Kind::Calls,
            bad.into_iter().map(|(_, position)| position).collect(),
        );
        let calls = good
            .into_iter()
            .filter_map(|(call, position)| Some((call?, position)));
        (calls.collect(), lost)
    }

    /// Takes a segment's records into memory, likewise.
    pub fn load_records(&mut self, file: &str, bytes: &[u8]) -> (Vec<(Written, Position)>, u64) {
        let Some((entries, mut lost)) = self.rest.load(file, bytes) else {
            return (Vec::new(), 0);
        };
        let mut records = Vec::new();
        let mut bad = Vec::new();
        for (position, payload) in entries {
            match format_v1::record(payload) {
                Some(record) => records.push((record, position)),
                None => bad.push(position),
            }
        }
        lost += bad.len() as u64;
        self.left(Kind::Records, bad);
        (records, lost)
    }

    /// Which log a file belongs to.
    pub fn kind_of(&self, file: &str) -> Option<Kind> {
        [Kind::Calls, Kind::Records]
            .into_iter()
            .find(|kind| number_of(file, kind.prefix()).is_some())
    }

    fn segments(&mut self, kind: Kind) -> &mut Segments {
        match kind {
            Kind::Calls => &mut self.calls,
            Kind::Records => &mut self.rest,
        }
    }
}
