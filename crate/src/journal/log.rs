//! Append-only logs in segments: one of finished calls, one of other records. An entry is appended once. AgentWatch's
//! acknowledgements are a cursor, with the runs of entries after it that were acknowledged out of order. Further
//! outlets may follow the log, each with its own cursor. A segment is removed when all outlets are past it. At the bound
//! on disk the oldest segment is dropped.

use std::collections::{BTreeMap, HashMap, VecDeque};

use super::cursor::Runs;
pub use super::segment::{Entry, Position};
use super::segment::{Segment, hash};
use super::{FILE_HEADER, FRAME_HEADER, Foreign, Frame, Reader, append};
use crate::journal::files::{Op, Write, number_of, numbered};
use crate::journal::pieces::Pieces;

/// Maximum number of journalled runs after a cursor. Entries of further runs are sent again after a kill.
const MOST_AHEAD: usize = 64;

/// A kind of log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Finished calls.
    Calls,
    /// Traces, logs, health, metrics, cron runs.
    Records,
}

impl Kind {
    /// Prefix of the names of its files. The ledger's files sort before both kinds.
    pub fn prefix(self) -> &'static str {
        match self {
            Kind::Calls => "model-calls-",
            Kind::Records => "records-",
        }
    }
}

/// A journalled cursor: the place before which all entries are acknowledged, and the acknowledged runs after it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cursor {
    /// All entries before this place are acknowledged.
    pub at: Position,
    /// Begin and end of each run of acknowledged entries after it.
    pub ahead: Vec<(Position, Position)>,
}

impl Cursor {
    /// Whether the entry that begins at this place is acknowledged.
    pub fn is_past(&self, place: Position) -> bool {
        let is_in = |(from, to): &(Position, Position)| *from <= place && place < *to;
        place < self.at || self.ahead.iter().any(is_in)
    }
}

/// Bytes that each following outlet has not read, by the outlet's name.
pub type Unread = BTreeMap<&'static str, u64>;

/// Entries with their payloads.
pub type Entries<'a> = Vec<(Entry, &'a [u8])>;

/// A segment that an outlet can read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Readable {
    /// The segment's number.
    pub number: u32,
    /// The file's name.
    pub file: String,
    /// The file's name and the hash of the first frame's header: a name may be reused, with other contents.
    pub key: String,
    /// Size in bytes, with the bytes that are yet to be written.
    pub bytes: u32,
    /// Nothing more is written to its file. A disk that failed may have written less than `bytes`.
    pub is_final: bool,
}

/// A log.
#[derive(Debug)]
pub struct Log {
    kind: Kind,
    cap_bytes: u64,
    segments: VecDeque<Segment>,
    next_number: u32,
    next_entry: u64,
    /// Entries that AgentWatch acknowledged.
    acknowledged: Runs,
    /// Entries that are acknowledged or in memory.
    held: Runs,
    has_moved: bool,
    /// The place up to which each following outlet has read, by the outlet's name.
    followers: BTreeMap<&'static str, Position>,
    /// Bytes of the last segment that are not handed out for writing yet.
    unwritten: Pieces,
    appends: Vec<Write>,
    deletions: Vec<Write>,
    /// The cursor of the earlier process, until all segments are recovered.
    restored: Cursor,
    /// Offsets by segment of entries that version 0.1.0 marked as acknowledged, until all segments are recovered.
    marked: HashMap<u32, Vec<u32>>,
}

impl Log {
    /// An empty log with a bound on its size in bytes.
    pub fn new(kind: Kind, cap_bytes: u64) -> Self {
        Self {
            kind,
            cap_bytes,
            segments: VecDeque::new(),
            next_number: 1,
            next_entry: 0,
            acknowledged: Runs::default(),
            held: Runs::default(),
            has_moved: false,
            followers: BTreeMap::new(),
            unwritten: Pieces::default(),
            appends: Vec::new(),
            deletions: Vec::new(),
            restored: Cursor::default(),
            marked: HashMap::new(),
        }
    }

    /// Size in bytes, with the bytes that are yet to be written.
    pub fn bytes(&self) -> u64 {
        self.segments.iter().map(|s| u64::from(s.bytes)).sum()
    }

    /// Number of unacknowledged entries that are on disk and not in memory.
    pub fn waiting(&self) -> usize {
        self.segments.iter().map(|s| s.waiting as usize).sum()
    }

    /// Appends an entry; `held`: the caller keeps it in memory too.
    pub fn append(&mut self, payload: &[u8], held: bool) -> Entry {
        if self.segments.back().is_none_or(Segment::is_full) {
            self.begin_segment();
        }
        let Some(segment) = self.segments.back_mut() else {
            return Entry::default();
        };
        let end = self.unwritten.end();
        let before = end.len();
        append(end, payload);
        if segment.entries == 0 {
            segment.hash = hash(&end[before..before + FRAME_HEADER]);
        }
        let offset = segment.bytes;
        segment.bytes += (end.len() - before) as u32;
        segment.is_handed_out = false;
        let entry = segment.add_entry(offset, segment.bytes);
        self.next_entry += 1;
        if held {
            self.hold(entry);
        }
        entry
    }

    /// Acknowledges entries for AgentWatch.
    pub fn acknowledge(&mut self, entries: impl IntoIterator<Item = Entry>) {
        for entry in entries {
            self.acknowledge_one(entry);
        }
        self.remove_finished();
    }

    pub(super) fn acknowledge_one(&mut self, entry: Entry) {
        self.hold(entry);
        let Some(index) = self.index(entry.segment) else {
            return;
        };
        let segment = &mut self.segments[index];
        let number = segment.first + u64::from(entry.index);
        let (from, to) = (entry.place(entry.offset), entry.place(entry.end));
        if self.acknowledged.add(number, from, to) {
            segment.unacknowledged -= 1;
            self.has_moved = true;
        }
    }

    /// Marks an entry as acknowledged or in memory.
    fn hold(&mut self, entry: Entry) {
        let Some(index) = self.index(entry.segment) else {
            return;
        };
        let segment = &mut self.segments[index];
        let number = segment.first + u64::from(entry.index);
        let (from, to) = (entry.place(entry.offset), entry.place(entry.end));
        if self.held.add(number, from, to) {
            segment.waiting -= 1;
        }
    }

    /// The cursor if it moved since the last call; `None` otherwise.
    pub fn moved(&mut self) -> Option<Cursor> {
        std::mem::take(&mut self.has_moved).then(|| self.cursor())
    }

    /// AgentWatch's cursor.
    pub fn cursor(&self) -> Cursor {
        let beginning = Position {
            segment: self.segments.front().map_or(self.next_number, |s| s.number),
            offset: 0,
        };
        let Some(first) = self.segments.front() else {
            return Cursor {
                at: beginning,
                ahead: Vec::new(),
            };
        };
        let (at, ahead) = self.acknowledged.split(first.first);
        let ahead = ahead.iter().take(MOST_AHEAD).map(|run| run.places());
        Cursor {
            at: at.unwrap_or(beginning).max(beginning),
            ahead: ahead.collect(),
        }
    }

    /// Sets the place up to which the outlet of this name has read; its state with this place is on disk. `None`: the
    /// outlet no longer follows, so no segment is kept for it.
    pub fn follow(&mut self, outlet: &'static str, at: Option<Position>) {
        match at {
            Some(at) => self.followers.insert(outlet, at),
            None => self.followers.remove(outlet),
        };
        self.remove_finished();
    }

    /// The segments with entries, oldest first.
    pub fn readable(&self) -> Vec<Readable> {
        let is_readable = |segment: &&Segment| segment.entries > 0 && !segment.is_left_out;
        let segments = self.segments.iter().filter(is_readable);
        let readable = |segment: &Segment| {
            let file = self.name(segment.number);
            Readable {
                number: segment.number,
                key: format!("{file}#{:x}", segment.hash),
                file,
                bytes: segment.bytes,
                is_final: segment.is_closed && segment.is_handed_out,
            }
        };
        segments.map(readable).collect()
    }

    /// Drops the oldest segments beyond the bound; those with entries in memory, which a restart would lose, come last.
    /// Returns the number of entries that AgentWatch loses (those on disk and not in memory), and the bytes that each
    /// following outlet loses.
    pub fn shrink(&mut self) -> (u64, Unread) {
        let (mut lost, mut unread) = (0, Unread::new());
        while self.segments.len() > 1 && self.bytes() > self.cap_bytes {
            let is_on_disk_only = |s: &Segment| s.waiting == s.unacknowledged && s.is_closed;
            let oldest = self.segments.iter().position(is_on_disk_only);
            let Some(segment) = self.segments.remove(oldest.unwrap_or(0)) else {
                break;
            };
            lost += u64::from(segment.waiting);
            for (outlet, at) in &self.followers {
                *unread.entry(outlet).or_default() += segment.unread(*at);
            }
            self.has_moved = true;
            self.delete(&segment);
        }
        self.forget_runs();
        (lost, unread)
    }

    /// The file to read back next: the oldest segment with entries that are on disk and not in memory.
    pub fn to_load(&self) -> Option<String> {
        let is_readable = |segment: &&Segment| segment.waiting > 0 && segment.is_handed_out;
        let segment = self.segments.iter().find(is_readable);
        segment.map(|segment| self.name(segment.number))
    }

    /// Reads back a segment's entries that are on disk and not in memory; `None` for a file that is no segment of this
    /// log. Entries that are missing from the file are acknowledged: their number is the second value.
    pub fn load<'a>(&mut self, file: &str, bytes: &'a [u8]) -> Option<(Entries<'a>, u64)> {
        let number = self.number(file)?;
        let segment = &self.segments[self.index(number)?];
        let (first, is_handed_out) = (segment.first, segment.is_handed_out);
        let waiting = |index: &u32| !self.held.has(first + u64::from(*index));
        let waiting: Vec<u32> = (0..segment.entries).filter(waiting).collect();
        let (mut found, mut reader) = (Vec::new(), Reader::open(bytes).ok()?);
        let in_file: Vec<(u32, &[u8])> = reader.by_ref().collect();
        // In an intact file each entry is at its index. In a damaged file the indexes of the missing entries are
        // unknown. A file that is not wholly handed out may lack its newest entries and is intact all the same.
        let is_whole =
            reader.corrupt == 0 && (in_file.len() == segment.entries as usize || !is_handed_out);
        let places: Vec<(u32, u32, &[u8])> = in_file
            .iter()
            .enumerate()
            .map(|(index, (offset, payload))| (index as u32, *offset, *payload))
            .filter(|(index, offset, _)| match is_whole {
                true => waiting.binary_search(index).is_ok(),
                false => !self.held.has_place(Position {
                    segment: number,
                    offset: *offset,
                }),
            })
            .collect();
        for ((_, offset, payload), index) in places.iter().zip(&waiting) {
            let entry = Entry {
                segment: number,
                index: *index,
                offset: *offset,
                end: offset + (FRAME_HEADER + payload.len()) as u32,
            };
            found.push((entry, *payload));
        }
        for (entry, _) in &found {
            self.hold(*entry);
        }
        let lost: Vec<Entry> = waiting[found.len().min(waiting.len())..]
            .iter()
            .filter(|_| is_handed_out)
            .map(|index| Entry {
                segment: number,
                index: *index,
                offset: bytes.len() as u32,
                end: bytes.len() as u32,
            })
            .collect();
        let count = lost.len() as u64;
        self.acknowledge(lost);
        Some((found, count))
    }

    /// Restores the cursor of an earlier process. Call before the segments are recovered.
    pub fn restore(&mut self, cursor: Cursor) {
        // The number of an acknowledged segment is not reused: the cursor would cover the new segment's entries.
        let ends = cursor.ahead.iter().map(|(_, end)| *end);
        let behind = |end: Position| end.segment.saturating_add(u32::from(end.offset > 0));
        let next = ends.chain([cursor.at]).map(behind).max();
        self.next_number = self.next_number.max(next.unwrap_or(0));
        self.restored = cursor;
    }

    /// Restores acknowledgements of version 0.1.0. Call before the segments are recovered.
    pub fn restore_marks(&mut self, segment: u32, offsets: Vec<u32>) {
        self.next_number = self.next_number.max(segment.saturating_add(1));
        self.marked.entry(segment).or_default().extend(offsets);
    }

    /// Recovers a segment from disk and passes each entry with its payload to `see`. Returns the number of corrupt
    /// frames. Call in the order of the segments' numbers.
    ///
    /// # Errors
    /// [`Foreign`] where the file has another version of the format; the file is kept.
    pub fn recover(
        &mut self,
        file: &str,
        bytes: &[u8],
        mut see: impl FnMut(&mut Self, Entry, &[u8]),
    ) -> Result<u64, Foreign> {
        let Some(number) = self.number(file) else {
            return Ok(0);
        };
        // Nothing is appended to a recovered segment: its end may be torn.
        self.next_number = self.next_number.max(number.saturating_add(1));
        let mut reader = Reader::open(bytes)?;
        let mut marked = self.marked.remove(&number).unwrap_or_default();
        marked.sort_unstable();
        let mut segment = Segment::new(number, self.next_entry, bytes.len() as u32);
        segment.is_closed = true;
        (segment.is_handed_out, segment.has_file) = (true, true);
        if let Some(header) = bytes.get(FILE_HEADER..FILE_HEADER + FRAME_HEADER) {
            segment.hash = hash(header);
        }
        self.segments.push_back(segment);
        for (offset, payload) in reader.by_ref() {
            let Some(segment) = self.segments.back_mut() else {
                break;
            };
            let entry = segment.add_entry(offset, offset + (FRAME_HEADER + payload.len()) as u32);
            self.next_entry += 1;
            let is_done = self.restored.is_past(entry.place(offset));
            if is_done || marked.binary_search(&offset).is_ok() {
                self.acknowledge_one(entry);
            }
            see(self, entry, payload);
        }
        Ok(reader.corrupt)
    }

    /// Keeps a segment that cannot be read: as one entry that is never acknowledged, so that the cursor stays before it
    /// and the next process recovers it.
    pub fn leave_out(&mut self, file: &str, bytes: u64) {
        let Some(number) = self.number(file) else {
            return;
        };
        self.next_number = self.next_number.max(number.saturating_add(1));
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        let mut segment = Segment::new(number, self.next_entry, bytes);
        (segment.is_closed, segment.has_file, segment.is_left_out) = (true, true, true);
        (segment.entries, segment.unacknowledged) = (1, 1);
        self.next_entry += 1;
        self.segments.push_back(segment);
    }

    /// Ends the recovery: removes the finished segments.
    pub fn recovered(&mut self) {
        self.marked.clear();
        self.restored = Cursor::default();
        self.remove_finished();
    }

    /// Whether entries wait to be written.
    pub fn has_appends(&self) -> bool {
        !self.unwritten.is_empty() || !self.appends.is_empty()
    }

    /// Whether any change waits to be written.
    pub fn has_changes(&self) -> bool {
        self.has_appends() || self.has_moved || !self.deletions.is_empty()
    }

    /// Moves the pending appends to `writes`. Deletions follow by [`Log::take_deletions`], after the cursor.
    pub fn take_appends(&mut self, writes: &mut Vec<Write>) {
        self.flush_unwritten();
        writes.append(&mut self.appends);
        for segment in &mut self.segments {
            (segment.is_handed_out, segment.has_file) = (true, true);
        }
    }

    /// Moves the pending deletions of segments to `writes`.
    pub fn take_deletions(&mut self, writes: &mut Vec<Write>) {
        writes.append(&mut self.deletions);
    }

    /// Drops the unwritten bytes and closes the last segment: the file on disk may lack its end.
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
        }
        let number = self.next_number;
        self.next_number += 1;
        self.segments
            .push_back(Segment::new(number, self.next_entry, FILE_HEADER as u32));
        *self.unwritten.end() = super::begin_file();
        self.remove_finished();
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

    /// Removes closed segments that all outlets are past.
    fn remove_finished(&mut self) {
        // The outlet that has read least decides.
        let least = self.followers.values().min().copied();
        let is_finished = |segment: &Segment| {
            let is_read = least.is_none_or(|at| segment.unread(at) == 0);
            segment.unacknowledged == 0 && segment.is_closed && is_read
        };
        while let Some(index) = self.segments.iter().position(is_finished) {
            if let Some(segment) = self.segments.remove(index) {
                self.delete(&segment);
            }
        }
        self.forget_runs();
    }

    /// Deletes the file of a removed segment, if there is one: a log that nobody writes has none.
    fn delete(&mut self, segment: &Segment) {
        let delete = self.write(segment.number, Op::Delete);
        if segment.has_file || self.appends.iter().any(|write| write.file == delete.file) {
            self.deletions.push(delete);
        }
    }

    /// Drops the runs of removed segments.
    fn forget_runs(&mut self) {
        let first = self.segments.front().map_or(self.next_entry, |s| s.first);
        self.acknowledged.forget_before(first);
        self.held.forget_before(first);
    }

    fn index(&self, number: u32) -> Option<usize> {
        let found = self.segments.binary_search_by_key(&number, |s| s.number);
        found.ok()
    }

    fn write(&self, number: u32, op: Op) -> Write {
        Write {
            file: self.name(number),
            op,
        }
    }

    fn name(&self, number: u32) -> String {
        numbered(self.kind.prefix(), number)
    }

    fn number(&self, file: &str) -> Option<u32> {
        number_of(file, self.kind.prefix())
    }

    /// The cursor as a frame of the ledger.
    pub fn frame(&self, cursor: Cursor) -> Frame {
        Frame::Cursor(self.kind, cursor)
    }
}
