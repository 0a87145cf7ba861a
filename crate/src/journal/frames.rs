//! Files of frames.
//!
//! A file is a header (`AGWJ`, `version u16 LE`, `checksum u16 LE` of both) and frames. A frame is two sync bytes,
//! `length u32 LE`, `checksum u32 LE` of length and payload, and the payload. The reader skips a torn or corrupt frame:
//! it continues at the next sync bytes with a valid checksum.

use siphasher::sip::SipHasher13;

use super::format_v1;
use super::log::{Cursor, Kind};
use crate::activity::records::Written;
use crate::activity::sessions::Counted;
use crate::domain::call::CallId;
use crate::domain::observation::Observation;
use crate::matching::MatchRecord;
use crate::sources::SessionFacts;
use crate::spending::allowance::{Lift, Spent, State};
use crate::spending::history;

/// The version of the format. Files of other versions are not read and not changed.
pub const VERSION: u16 = 1;
/// Length of a file's header, in bytes.
pub const FILE_HEADER: usize = 8;

const MAGIC: [u8; 4] = *b"AGWJ";
const SYNC: [u8; 2] = [0xf5, 0x1e];
/// Length of a frame's header, in bytes.
pub const FRAME_HEADER: usize = 10;
/// Maximum length of a payload, in bytes. A trace with all its spans has some 100 KB.
pub const MAX_PAYLOAD: usize = 1024 * 1024;

/// A frame of a ledger file or of a spool file.
#[derive(Debug, Clone, PartialEq)]
pub enum Frame {
    /// A snapshot begins: it replaces all earlier frames.
    Begin,
    /// A surface's observation of the call with this id, which may be new.
    Seen(CallId, Box<Observation>),
    /// A final call's match record, which suppresses late observations.
    MatchRecord(Box<MatchRecord>),
    /// These calls are final and acknowledged.
    Closed(Vec<CallId>),
    /// Offsets of acknowledged entries of a segment. Version 0.1.0 wrote these.
    Gone(Kind, u32, Vec<u32>),
    /// Totals of a session and model; several frames add up.
    Counted(String, String, Counted),
    /// A bookmark: the name of a source, and the place up to which it is read. An empty place removes it.
    Bookmark(String, String),
    /// All rows that the session store wrote by this time (ms since 1970) are matched or counted.
    Reconciled(u64),
    /// A record of another process.
    Record(Written),
    /// Another process's facts about a session.
    Facts(Box<SessionFacts>),
    /// Frames that are written atomically, such as the rows of a file and the file's bookmark.
    Together(Vec<Frame>),
    /// Keys of reported calls, by which repeated reports are recognised.
    Told {
        /// The latest begin of these calls, in ms since 1970.
        until_ms: u64,
        /// Keys of calls that began by this time (ms since 1970) are dropped.
        forgotten_ms: u64,
        /// The keys, 8 bytes (LE) each.
        keys: Vec<u8>,
    },
    /// A request that another process forwarded and did not count as a call: its provider and the shape of its path.
    Passed(String),
    /// AgentWatch's cursor in a log. The last frame of a log is valid.
    Cursor(Kind, Cursor),
    /// A final call in the sums for reports.
    Tally(CallId, Box<history::Entry>),
    /// Sums for reports, of a snapshot.
    Tallied(Box<history::Row>),
    /// The state of cache incidents, alarms and the webhook, as bytes. The last frame is valid.
    Incidents(Vec<u8>),
    /// Spend of a final call, by the allowances that apply to it.
    Spent(CallId, Box<Spent>),
    /// A lift of the allowances began; with no time left, it ended.
    Lift(Lift),
    /// The state of the allowances, which replaces all earlier ones and their changes.
    Allowances(Box<State>),
}

/// The header of a file.
pub fn begin_file() -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    let check = checksum(&bytes) as u16;
    bytes.extend_from_slice(&check.to_le_bytes());
    bytes
}

/// Appends a frame with this payload.
pub fn append(out: &mut Vec<u8>, payload: &[u8]) {
    let length = (payload.len() as u32).to_le_bytes();
    out.extend_from_slice(&SYNC);
    out.extend_from_slice(&length);
    out.extend_from_slice(&frame_checksum(length, payload).to_le_bytes());
    out.extend_from_slice(payload);
}

/// Appends a frame of a ledger file.
pub fn append_frame(out: &mut Vec<u8>, frame: &Frame) {
    append(out, &format_v1::frame_bytes(frame));
}

/// A file of another version of the format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Foreign {
    /// The version of its format.
    pub version: u16,
}

/// Iterates over a file's payloads, each with the offset of its frame.
#[derive(Debug)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    end: usize,
    /// Number of torn or corrupt frames; adjacent ones count as one.
    pub corrupt: u64,
}

impl<'a> Reader<'a> {
    /// Reads a whole file.
    ///
    /// # Errors
    /// [`Foreign`] where the file has another version of the format.
    pub fn open(bytes: &'a [u8]) -> Result<Self, Foreign> {
        let mut reader = Self::within(bytes);
        let Some(header) = bytes.get(..FILE_HEADER) else {
            // The file is truncated inside its header, or empty.
            reader.corrupt = u64::from(!bytes.is_empty());
            reader.at = bytes.len();
            return Ok(reader);
        };
        let version = u16::from_le_bytes([header[4], header[5]]);
        let is_whole = header[..4] == MAGIC
            && u16::from_le_bytes([header[6], header[7]]) == checksum(&header[..6]) as u16;
        match is_whole {
            true if version != VERSION => return Err(Foreign { version }),
            true => {}
            false => reader.corrupt += 1,
        }
        reader.at = FILE_HEADER;
        reader.end = FILE_HEADER;
        Ok(reader)
    }

    /// Reads frames from bytes without a file header.
    pub fn within(bytes: &'a [u8]) -> Self {
        Self {
            bytes,
            at: 0,
            end: 0,
            corrupt: 0,
        }
    }

    /// Where the last valid frame ended, in bytes.
    pub fn end(&self) -> usize {
        self.end
    }

    fn frame_at(&self, at: usize) -> Option<&'a [u8]> {
        let rest = self.bytes.get(at..)?.strip_prefix(&SYNC)?;
        let (length, rest) = rest.split_first_chunk::<4>()?;
        let (sum, rest) = rest.split_first_chunk::<4>()?;
        let size = u32::from_le_bytes(*length) as usize;
        if size > MAX_PAYLOAD {
            return None;
        }
        let payload = rest.get(..size)?;
        (u32::from_le_bytes(*sum) == frame_checksum(*length, payload)).then_some(payload)
    }

    fn next_beginning(&self, from: usize) -> Option<usize> {
        let rest = self.bytes.get(from..)?;
        let found = rest.windows(2).position(|pair| pair == SYNC)?;
        Some(from + found)
    }
}

impl<'a> Iterator for Reader<'a> {
    /// The frame's offset in the bytes, and its payload.
    type Item = (u32, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let mut is_corrupt = false;
        while self.at < self.bytes.len() {
            if let Some(payload) = self.frame_at(self.at) {
                let offset = self.at as u32;
                self.at += FRAME_HEADER + payload.len();
                self.end = self.at;
                self.corrupt += u64::from(is_corrupt);
                return Some((offset, payload));
            }
            is_corrupt = true;
            self.at = self.next_beginning(self.at + 1).unwrap_or(self.bytes.len());
        }
        self.corrupt += u64::from(is_corrupt);
        None
    }
}

/// The frames of a ledger file.
#[derive(Debug, Default)]
pub struct Recovered {
    /// The valid frames, in order.
    pub frames: Vec<Frame>,
    /// Number of frames that are torn, corrupt, or of an unknown kind.
    pub corrupt: u64,
}

/// Reads all valid frames of a ledger file.
///
/// # Errors
/// [`Foreign`] where the file has another version of the format.
pub fn read(bytes: &[u8]) -> Result<Recovered, Foreign> {
    Ok(frames(Reader::open(bytes)?))
}

/// Decodes all frames of a reader, with those inside [`Frame::Together`].
pub fn frames(mut reader: Reader) -> Recovered {
    let mut recovered = Recovered::default();
    for (_, payload) in reader.by_ref() {
        match format_v1::frame(payload) {
            Some(Frame::Together(frames)) => recovered.frames.extend(frames),
            Some(frame) => recovered.frames.push(frame),
            None => recovered.corrupt += 1,
        }
    }
    recovered.corrupt += reader.corrupt;
    recovered
}

/// SipHash: the module already contains it, and it needs no tables.
fn checksum(bytes: &[u8]) -> u32 {
    SipHasher13::new().hash(bytes) as u32
}

fn frame_checksum(length: [u8; 4], payload: &[u8]) -> u32 {
    checksum(payload) ^ u32::from_le_bytes(length).wrapping_mul(0x9e37_79b1)
}
