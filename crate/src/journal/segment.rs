//! Segments of a log, and places in them.

/// A segment is full at this number of bytes. It is read back as a whole, so it is small.
const SEGMENT_BYTES: u32 = 128 * 1024;

/// A place in a log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// The segment's number.
    pub segment: u32,
    /// The offset in it, in bytes.
    pub offset: u32,
}

/// The position of an entry in a log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Entry {
    /// The segment's number.
    pub segment: u32,
    /// The entry's index in the segment.
    pub(super) index: u32,
    /// Where its frame begins, in bytes.
    pub(super) offset: u32,
    /// Where its frame ends, in bytes.
    pub(super) end: u32,
}

impl Entry {
    pub(super) fn place(self, offset: u32) -> Position {
        Position {
            segment: self.segment,
            offset,
        }
    }
}

#[derive(Debug)]
pub(super) struct Segment {
    pub(super) number: u32,
    /// The number of its first entry, counted over the whole log.
    pub(super) first: u64,
    pub(super) bytes: u32,
    pub(super) entries: u32,
    /// Number of entries that AgentWatch has not acknowledged.
    pub(super) unacknowledged: u32,
    /// Number of unacknowledged entries that are not in memory.
    pub(super) waiting: u32,
    /// Hash of the first frame's header, which distinguishes segments with the same number.
    pub(super) hash: u64,
    /// Whether it takes no further entries.
    pub(super) is_closed: bool,
    /// Whether all its bytes were handed out for writing.
    pub(super) is_handed_out: bool,
    /// Whether any of its bytes were.
    pub(super) has_file: bool,
    /// Whether it could not be read at the start. Its entries are unknown, so it counts as one that is in memory.
    pub(super) is_left_out: bool,
}

impl Segment {
    pub(super) fn new(number: u32, first: u64, bytes: u32) -> Self {
        Self {
            number,
            first,
            bytes,
            entries: 0,
            unacknowledged: 0,
            waiting: 0,
            hash: 0,
            is_closed: false,
            is_handed_out: false,
            has_file: false,
            is_left_out: false,
        }
    }

    pub(super) fn is_full(&self) -> bool {
        self.is_closed || self.bytes >= SEGMENT_BYTES
    }

    pub(super) fn add_entry(&mut self, offset: u32, end: u32) -> Entry {
        let entry = Entry {
            segment: self.number,
            index: self.entries,
            offset,
            end,
        };
        self.entries += 1;
        self.unacknowledged += 1;
        self.waiting += 1;
        entry
    }

    /// Number of bytes from a place to the segment's end; 0 for a segment without entries.
    pub(super) fn unread(&self, at: Position) -> u64 {
        let read = match at.segment.cmp(&self.number) {
            std::cmp::Ordering::Less => 0,
            std::cmp::Ordering::Equal => at.offset,
            std::cmp::Ordering::Greater => self.bytes,
        };
        match self.entries {
            0 => 0,
            _ => u64::from(self.bytes.saturating_sub(read)),
        }
    }
}

/// Hash of a frame's header, which distinguishes segments with the same number.
pub(super) fn hash(header: &[u8]) -> u64 {
    siphasher::sip::SipHasher13::new().hash(header)
}
