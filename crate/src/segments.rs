//! Logs on disk in segments: finished calls, and the records beside them. An entry is appended before it
//! is sent and marked when it is gone; a segment whose entries are all gone is deleted, and the oldest one
//! is given up where the disk's bound is reached.

use std::collections::VecDeque;

use crate::files::{Op, Write};
use crate::journal::{self, FILE_HEADER, Foreign, Frame, Reader};
use crate::pieces::Pieces;

/// A segment is closed when it has this many bytes: it is read back as a whole.
const SEGMENT_BYTES: u32 = 128 * 1024;

/// Which log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Finished calls.
    Calls,
    /// Traces, logs, health, metrics, cron runs.
    Records,
}

impl Kind {
    /// How the names of its files begin. The ledger's files sort before both.
    pub fn prefix(self) -> &'static str {
        match self {
            Kind::Calls => "model-calls-",
            Kind::Records => "records-",
        }
    }
}

/// Where an entry stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// The segment's number.
    pub segment: u32,
    /// The entry's offset in it.
    pub offset: u32,
}

/// Entries with their payloads.
pub type Entries<'a> = Vec<(Position, &'a [u8])>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// On disk alone.
    Waiting,
    /// In memory too.
    Loaded,
    /// Delivered, or dropped for a counted reason.
    Gone,
}

/// An entry's offset, and its state in the last two bits: a backlog at its bound has half a million of them.
#[derive(Debug, Clone, Copy)]
struct Entry(u32);

impl Entry {
    fn new(offset: u32, state: State) -> Self {
        Self(offset << 2 | state as u32)
    }

    fn offset(self) -> u32 {
        self.0 >> 2
    }

    fn is(self, state: State) -> bool {
        self.0 & 3 == state as u32
    }

    fn set(&mut self, state: State) {
        *self = Self::new(self.offset(), state);
    }
}

#[derive(Debug)]
struct Segment {
    number: u32,
    bytes: u32,
    entries: Vec<Entry>,
    not_gone: usize,
    waiting: usize,
    /// Nothing is appended to it any more.
    is_closed: bool,
    /// All of it was handed out to be written.
    is_handed_out: bool,
}

/// One log.
#[derive(Debug)]
pub struct Segments {
    kind: Kind,
    cap_bytes: u64,
    segments: VecDeque<Segment>,
    next_number: u32,
    /// Bytes for the last segment that were not handed out to be written yet.
    unwritten: Pieces,
    appends: Vec<Write>,
    deletions: Vec<Write>,
    /// Marks read from the ledger's file, for segments that are yet to be read.
    marked: Vec<(u32, Vec<u32>)>,
}

impl Segments {
    /// An empty log of at most so many bytes.
    pub fn new(kind: Kind, cap_bytes: u64) -> Self {
        Self {
            kind,
            cap_bytes,
            segments: VecDeque::new(),
            next_number: 1,
            unwritten: Pieces::default(),
            appends: Vec::new(),
            deletions: Vec::new(),
            marked: Vec::new(),
        }
    }

    /// How many bytes are on disk, or soon.
    pub fn bytes(&self) -> u64 {
        self.segments.iter().map(|s| u64::from(s.bytes)).sum()
    }

    /// How many entries are on disk alone.
    pub fn waiting(&self) -> usize {
        self.segments.iter().map(|segment| segment.waiting).sum()
    }

    /// Appends an entry; `loaded` where it stays in memory too.
    pub fn append(&mut self, payload: &[u8], loaded: bool) -> Position {
        if self.segments.back().is_none_or(Segment::is_full) {
            self.begin_segment();
        }
        let Some(segment) = self.segments.back_mut() else {
            return Position::default();
        };
        let offset = segment.bytes;
        let end = self.unwritten.end();
        let before = end.len();
        journal::append(end, payload);
        segment.bytes += (end.len() - before) as u32;
        segment.is_handed_out = false;
        segment.not_gone += 1;
        segment.waiting += usize::from(!loaded);
        let state = if loaded {
            State::Loaded
        } else {
            State::Waiting
        };
        segment.entries.push(Entry::new(offset, state));
        Position {
            segment: segment.number,
            offset,
        }
    }

    /// Marks entries as gone; a closed segment without others is deleted.
    pub fn gone(&mut self, positions: &[Position]) {
        for position in positions {
            let Some(segment) = self.segment(position.segment) else {
                continue;
            };
            segment.mark_gone(position.offset);
        }
        self.delete_finished();
    }

    /// Gives up the oldest segments beyond the bound. How many entries were on disk alone, and so are lost.
    pub fn shrink(&mut self) -> u64 {
        let mut lost = 0;
        while self.segments.len() > 1 && self.bytes() > self.cap_bytes {
            let Some(segment) = self.segments.pop_front() else {
                break;
            };
            lost += segment.waiting as u64;
            self.deletions.push(self.write(segment.number, Op::Delete));
        }
        lost
    }

    /// The segment to read next: the oldest with entries that are on disk alone.
    pub fn to_load(&self) -> Option<String> {
        let is_readable = |segment: &&Segment| segment.waiting > 0 && segment.is_handed_out;
        let segment = self.segments.iter().find(is_readable);
        segment.map(|segment| self.name(segment.number))
    }

    /// Takes a segment's entries that were on disk alone into memory; `None` for a file that is none of these.
    /// Entries that the file does not have any more are gone: their number is the second part.
    pub fn load<'a>(&mut self, file: &str, bytes: &'a [u8]) -> Option<(Entries<'a>, u64)> {
        let number = self.number(file)?;
        let segment = self.segment(number)?;
        let mut found = Vec::new();
        for (offset, payload) in Reader::open(bytes).ok()? {
            if segment.load(offset) {
                let segment = number;
                found.push((Position { segment, offset }, payload));
            }
        }
        // What came while the file was read stands behind its end. A file that gave nothing has lost the rest too.
        let end = match found.is_empty() && segment.is_handed_out {
            true => u32::MAX,
            false => bytes.len() as u32,
        };
        let lost = segment.give_up_waiting(end);
        self.delete_finished();
        Some((found, lost))
    }

    /// Takes a mark from the ledger's file; the ledger's files are read before the segments.
    pub fn restore_gone(&mut self, number: u32, offsets: Vec<u32>) {
        match self.marked.iter_mut().find(|(of, _)| *of == number) {
            Some((_, known)) => known.extend(offsets),
            None => self.marked.push((number, offsets)),
        }
    }

    /// Takes a segment from disk, and shows each entry's payload; how many frames were corrupt.
    ///
    /// # Errors
    /// [`Foreign`] where its format has another version; it is left alone.
    pub fn recover(
        &mut self,
        file: &str,
        bytes: &[u8],
        mut see: impl FnMut(Position, &[u8]),
    ) -> Result<u64, Foreign> {
        let Some(number) = self.number(file) else {
            return Ok(0);
        };
        // Never written to again: its end may be torn.
        self.next_number = self.next_number.max(number + 1);
        let mut reader = Reader::open(bytes)?;
        let mut segment = Segment::new(number, bytes.len() as u32);
        segment.is_closed = true;
        segment.is_handed_out = true;
        for (offset, payload) in reader.by_ref() {
            segment.entries.push(Entry::new(offset, State::Waiting));
            let segment = number;
            see(Position { segment, offset }, payload);
        }
        segment.not_gone = segment.entries.len();
        segment.waiting = segment.entries.len();
        if let Some(index) = self.marked.iter().position(|(of, _)| *of == number) {
            for offset in self.marked.swap_remove(index).1 {
                segment.mark_gone(offset);
            }
        }
        let at = self.segments.partition_point(|s| s.number < number);
        self.segments.insert(at, segment);
        Ok(reader.corrupt)
    }

    /// Everything was recovered.
    pub fn recovered(&mut self) {
        self.marked.clear();
        self.delete_finished();
    }

    /// The marks of all segments, for a snapshot.
    pub fn frames(&self) -> impl Iterator<Item = Frame> {
        self.segments.iter().filter_map(|segment| {
            let gone: Vec<u32> = segment
                .entries
                .iter()
                .filter(|entry| entry.is(State::Gone))
                .map(|entry| entry.offset())
                .collect();
            (!gone.is_empty()).then_some(Frame::Gone(self.kind, segment.number, gone))
        })
    }

    /// Whether entries are to be appended.
    pub fn has_appends(&self) -> bool {
        !self.unwritten.is_empty() || !self.appends.is_empty()
    }

    /// Whether there is anything to write.
    pub fn has_changes(&self) -> bool {
        self.has_appends() || !self.deletions.is_empty()
    }

    /// What is to be appended; deletions come by [`Segments::take_deletions`], after the ledger's marks.
    pub fn take_appends(&mut self, writes: &mut Vec<Write>) {
        self.flush_unwritten();
        writes.append(&mut self.appends);
        for segment in &mut self.segments {
            segment.is_handed_out = true;
        }
    }

    /// The segments to delete.
    pub fn take_deletions(&mut self, writes: &mut Vec<Write>) {
        writes.append(&mut self.deletions);
    }

    /// The disk lost the end of the last segment: nothing more is appended to it.
    pub fn abandon_last(&mut self) {
        drop(self.unwritten.take());
        self.appends.clear();
        if let Some(segment) = self.segments.back_mut() {
            segment.is_closed = true;
        }
    }

    fn begin_segment(&mut self) {
        self.flush_unwritten();
        if let Some(segment) = self.segments.back_mut() {
            segment.is_closed = true;
            // A backlog at its bound has half a million entries: room for more of them is a few MiB.
            segment.entries.shrink_to_fit();
        }
        let number = self.next_number;
        self.next_number += 1;
        self.segments
            .push_back(Segment::new(number, FILE_HEADER as u32));
        *self.unwritten.end() = journal::begin_file();
        self.delete_finished();
    }

    fn flush_unwritten(&mut self) {
        let Some(last) = self.segments.back() else {
            return;
        };
        let number = last.number;
        for bytes in self.unwritten.take() {
            self.appends.push(self.write(number, Op::Append(bytes)));
        }
    }

    /// Deletes closed segments that have nothing left to send.
    fn delete_finished(&mut self) {
        let is_finished = |segment: &Segment| segment.not_gone == 0 && segment.is_closed;
        while let Some(index) = self.segments.iter().position(is_finished) {
            if let Some(segment) = self.segments.remove(index) {
                self.deletions.push(self.write(segment.number, Op::Delete));
            }
        }
    }

    fn segment(&mut self, number: u32) -> Option<&mut Segment> {
        let index = self
            .segments
            .binary_search_by_key(&number, |segment| segment.number)
            .ok()?;
        self.segments.get_mut(index)
    }

    fn write(&self, number: u32, op: Op) -> Write {
        Write {
            file: self.name(number),
            op,
        }
    }

    fn name(&self, number: u32) -> String {
        crate::files::numbered(self.kind.prefix(), number)
    }

    fn number(&self, file: &str) -> Option<u32> {
        crate::files::number_of(file, self.kind.prefix())
    }
}

impl Segment {
    fn new(number: u32, bytes: u32) -> Self {
        Self {
            number,
            bytes,
            entries: Vec::new(),
            not_gone: 0,
            waiting: 0,
            is_closed: false,
            is_handed_out: false,
        }
    }

    fn is_full(&self) -> bool {
        self.is_closed || self.bytes >= SEGMENT_BYTES
    }

    fn entry(&mut self, offset: u32) -> Option<&mut Entry> {
        let at = self
            .entries
            .binary_search_by_key(&offset, |entry| entry.offset());
        self.entries.get_mut(at.ok()?)
    }

    fn mark_gone(&mut self, offset: u32) {
        let Some(entry) = self.entry(offset) else {
            return;
        };
        let before = *entry;
        entry.set(State::Gone);
        self.waiting -= usize::from(before.is(State::Waiting));
        self.not_gone -= usize::from(!before.is(State::Gone));
    }

    /// Whether the entry was on disk alone; it is in memory now.
    fn load(&mut self, offset: u32) -> bool {
        match self.entry(offset) {
            Some(entry) if entry.is(State::Waiting) => entry.set(State::Loaded),
            _ => return false,
        }
        self.waiting -= 1;
        true
    }

    fn give_up_waiting(&mut self, end: u32) -> u64 {
        let mut lost = 0;
        for entry in &mut self.entries {
            if entry.is(State::Waiting) && entry.offset() < end {
                entry.set(State::Gone);
                lost += 1;
            }
        }
        self.waiting -= lost;
        self.not_gone -= lost;
        lost as u64
    }
}
