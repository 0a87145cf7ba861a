//! What is on disk: files of frames, from which the next process goes on.
//!
//! A file is a header (`AGWJ`, the format's version, a check of both) and frames. A frame is two bytes
//! that mark its beginning, `length u32 LE`, `checksum u32 LE` of length and payload, and the payload. A
//! torn or corrupt frame costs itself alone: reading goes on at the next beginning whose checksum is right.

use siphasher::sip::SipHasher13;

use super::format_v1;
use super::log::{Cursor, Kind};
use crate::activity::records::Written;
use crate::activity::sessions::Counted;
use crate::domain::call::CallId;
use crate::domain::observation::Observation;
use crate::domain::usage::Bill;
use crate::matching::MatchRecord;
use crate::sources::SessionFacts;

/// The version of the format; a file of another one is left alone.
pub const VERSION: u16 = 1;
/// How many bytes stand before a file's first frame.
pub const FILE_HEADER: usize = 8;

const MAGIC: [u8; 4] = *b"AGWJ";
const SYNC: [u8; 2] = [0xf5, 0x1e];
/// How many bytes stand before a frame's payload.
pub const FRAME_HEADER: usize = 10;
/// The longest payload: a trace with all its spans has some 100 KB.
pub const MAX_PAYLOAD: usize = 1024 * 1024;

/// One fact of the ledger's file.
#[derive(Debug, Clone, PartialEq)]
pub enum Frame {
    /// A snapshot begins: what the files before this one say is void.
    Begin,
    /// A surface saw a call that was minted or already known under this id.
    Seen(CallId, Box<Observation>),
    /// A final call's identity, kept to suppress late observations.
    MatchRecord(Box<MatchRecord>),
    /// These calls are final and nothing of them is to be sent any more.
    Closed(Vec<CallId>),
    /// These entries of a segment left, by their offsets. Version 0.1.0 wrote this.
    Gone(Kind, u32, Vec<u32>),
    /// So much of a model was counted for a session; several add up.
    Counted(String, String, Counted),
    /// How far one of the files that others write was read.
    Bookmark(String, String),
    /// Everything that the session store had written by then (ms since 1970) is matched or counted.
    Reconciled(u64),
    /// A record that another process made.
    Record(Written),
    /// What another process learned of a session.
    Facts(Box<SessionFacts>),
    /// Facts that are all there, or none of them: what was read from a file, and how far it was read.
    Together(Vec<Frame>),
    /// Keys of calls, by which they are known when they are told again.
    Told {
        /// When the last of them began, in ms since 1970.
        until_ms: u64,
        /// Keys of calls that began by then (ms since 1970) were given up.
        forgotten_ms: u64,
        /// The keys, of 8 bytes (LE) each.
        keys: Vec<u8>,
    },
    /// A request that another process passed on and counted as no call: its provider and the shape of its path.
    Passed(String),
    /// As `Seen`, of a call of which more is billed than tokens at their usual price.
    SeenWith(CallId, Box<Observation>, Box<Bill>),
    /// How far AgentWatch is with a log. The last one says it.
    Cursor(Kind, Cursor),
}

impl Frame {
    /// A surface saw a call.
    pub fn seen(id: CallId, mut observation: Box<Observation>) -> Self {
        match observation.bill.take() {
            Some(bill) => Self::SeenWith(id, observation, bill),
            None => Self::Seen(id, observation),
        }
    }
}

/// The bytes with which a file begins.
pub fn begin_file() -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    let check = checksum(&bytes) as u16;
    bytes.extend_from_slice(&check.to_le_bytes());
    bytes
}

/// Appends a frame around a payload.
pub fn append(out: &mut Vec<u8>, payload: &[u8]) {
    let length = (payload.len() as u32).to_le_bytes();
    out.extend_from_slice(&SYNC);
    out.extend_from_slice(&length);
    out.extend_from_slice(&frame_checksum(length, payload).to_le_bytes());
    out.extend_from_slice(payload);
}

/// Appends one fact of the ledger's file.
pub fn append_frame(out: &mut Vec<u8>, frame: &Frame) {
    append(out, &format_v1::frame_bytes(frame));
}

/// A file that another version of the plugin wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Foreign {
    /// The version of its format.
    pub version: u16,
}

/// Reads the payloads of a file, each with its frame's offset.
#[derive(Debug)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    end: usize,
    /// Torn or corrupt frames, counted as one where they stand together.
    pub corrupt: u64,
}

impl<'a> Reader<'a> {
    /// Reads a whole file.
    ///
    /// # Errors
    /// [`Foreign`] where its format has another version.
    pub fn open(bytes: &'a [u8]) -> Result<Self, Foreign> {
        let mut reader = Self::within(bytes);
        let Some(header) = bytes.get(..FILE_HEADER) else {
            // Cut inside its header, or before it was written.
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

    /// Reads frames that begin anywhere in a file, without its header.
    pub fn within(bytes: &'a [u8]) -> Self {
        Self {
            bytes,
            at: 0,
            end: 0,
            corrupt: 0,
        }
    }

    /// Where the last good frame ended.
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

/// What reading a ledger's file gave.
#[derive(Debug, Default)]
pub struct Recovered {
    /// The good frames, in order.
    pub frames: Vec<Frame>,
    /// How many frames were torn, corrupt, or of no known kind.
    pub corrupt: u64,
}

/// Reads every good frame of a ledger's file.
///
/// # Errors
/// [`Foreign`] where its format has another version.
pub fn read(bytes: &[u8]) -> Result<Recovered, Foreign> {
    Ok(frames(Reader::open(bytes)?))
}

/// The facts that a reader finds.
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

/// SipHash, since it is in the module anyway and needs no tables.
fn checksum(bytes: &[u8]) -> u32 {
    SipHasher13::new().hash(bytes) as u32
}

fn frame_checksum(length: [u8; 4], payload: &[u8]) -> u32 {
    checksum(payload) ^ u32::from_le_bytes(length).wrapping_mul(0x9e37_79b1)
}
