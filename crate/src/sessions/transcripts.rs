//! A stored transcript as a sequence of bytes, from a file or from a database.

use std::io::{BufRead, BufReader, Error, Read};
use std::rc::Rc;

use ruzstd::decoding::{FrameDecoder, StreamingDecoder};

use crate::host::Fault;

use super::bookmark::{Bookmark, TAIL_BYTES};
use super::database::{Database, Session};
use super::files::TranscriptFile;
use super::host::{OpenFile, StoreHost};

/// Size of a chunk, in bytes.
pub const CHUNK_BYTES: usize = 128 * 1024;

/// A transcript. A session may have several, which follow each other in time.
#[derive(Debug)]
pub enum Transcript {
    /// In a file.
    File(FileTranscript),
    /// In rows of a database.
    Rows(Rc<Database>, Session),
}

/// A transcript in a file, with the file's size and time when it was listed.
#[derive(Debug)]
pub struct FileTranscript {
    file: TranscriptFile,
    bytes: u64,
    modified_ms: u64,
}

impl Transcript {
    /// A transcript in a file; `None` if the file is missing, since it was renamed.
    ///
    /// # Errors
    /// If the file's size and time cannot be read.
    pub fn in_file(host: &dyn StoreHost, file: TranscriptFile) -> Result<Option<Self>, Fault> {
        let Some(stat) = host.stat(&file.path)? else {
            return Ok(None);
        };
        Ok(Some(Self::File(FileTranscript {
            file,
            bytes: stat.bytes,
            modified_ms: stat.modified_ms,
        })))
    }

    /// The transcript's name in the text of a fault.
    pub fn name(&self) -> String {
        match self {
            Self::File(FileTranscript { file, .. }) => file.path.clone(),
            Self::Rows(database, session) => {
                format!("{}, session {}", database.path, session.id)
            }
        }
    }

    /// The session's agent, if the file's name has it; otherwise the place's agent is valid.
    pub fn agent(&self) -> Option<&str> {
        match self {
            Self::File(FileTranscript { file, .. }) => file.agent.as_deref(),
            Self::Rows(..) => None,
        }
    }

    /// Size in bytes of a file that takes no further rows; `None` for other transcripts.
    pub fn closed(&self) -> Option<u64> {
        match self {
            Self::File(FileTranscript { file, bytes, .. }) => {
                (file.is_closed || file.is_packed).then_some(*bytes)
            }
            Self::Rows(..) => None,
        }
    }

    /// Whether the transcript certainly has nothing after the place.
    pub fn ends_at(&self, place: &Bookmark) -> bool {
        let Self::File(FileTranscript { file, bytes, .. }) = self else {
            return false;
        };
        let is_at_end = !file.is_packed && place.offset == *bytes;
        is_at_end || place.closed.is_some() && place.closed == self.closed()
    }

    /// Whether the transcript is a file that was last written before this time (ms since 1970).
    pub fn is_older(&self, ms: u64) -> bool {
        matches!(self, Self::File(found) if found.modified_ms < ms)
    }

    /// The end of an uncompressed file that was last written before this time (ms since 1970), in bytes.
    pub fn end_if_older(&self, ms: u64) -> Option<u64> {
        match self {
            Self::File(found) if !found.file.is_packed => {
                (found.modified_ms < ms && found.bytes > 0).then_some(found.bytes)
            }
            _ => None,
        }
    }

    /// The bytes before a place, as many as [`TAIL_BYTES`] or the whole line; `None` if the transcript has no such
    /// place.
    ///
    /// # Errors
    /// If the transcript cannot be read.
    pub fn tail(
        &self,
        host: &dyn StoreHost,
        offset: u64,
        row: Option<u64>,
    ) -> Result<Option<Vec<u8>>, Fault> {
        match self {
            Self::File(found) if found.file.is_packed => {
                packed_tail(host, &found.file.path, offset)
            }
            Self::File(found) if offset > found.bytes => Ok(None),
            Self::File(found) => {
                let length = offset.min(TAIL_BYTES as u64);
                let mut tail = vec![0; length as usize];
                let read = host
                    .open(&found.file.path)?
                    .read(offset - length, &mut tail)?;
                Ok((read == tail.len() && offset > 0).then_some(tail))
            }
            Self::Rows(database, session) => {
                let row = match row {
                    Some(row) => Some(row as i64),
                    None => database.row_ending_at(&session.id, offset)?,
                };
                let Some(row) = row else { return Ok(None) };
                let found = database.rows(&session.id, row - 1, 1)?.into_iter().next();
                let Some(found) = found.filter(|found| found.number == row) else {
                    return Ok(None);
                };
                let mut text = Vec::new();
                self.at_fault(found.append_to(&mut text))?;
                Ok(Some(text))
            }
        }
    }

    /// The bytes after a place.
    ///
    /// # Errors
    /// If the transcript cannot be read.
    pub fn chunks(&self, host: &dyn StoreHost, from: &Bookmark) -> Result<Chunks, Fault> {
        let source = match self {
            Self::File(FileTranscript { file, .. }) if file.is_packed => Source::Packed {
                packed: Some(Packed::open(host, &file.path)?),
                skip: from.offset,
            },
            Self::File(FileTranscript { file, .. }) => Source::Plain(host.open(&file.path)?),
            Self::Rows(database, session) => {
                let last = match (from.offset, from.row) {
                    (0, _) => None,
                    (_, Some(row)) => Some(row as i64),
                    (offset, None) => database.row_ending_at(&session.id, offset)?,
                };
                Source::Rows {
                    database: database.clone(),
                    session: session.id.clone(),
                    last: last.unwrap_or(-1),
                }
            }
        };
        Ok(Chunks {
            name: self.name(),
            source,
            end: from.offset,
            row_ends: Vec::new(),
        })
    }

    fn at_fault<T>(&self, result: Result<T, Fault>) -> Result<T, Fault> {
        result.map_err(|fault| format!("{} cannot be read: {fault}", self.name()))
    }
}

/// The bytes of a transcript, in chunks.
pub struct Chunks {
    name: String,
    source: Source,
    /// The offset at the end of the last chunk.
    end: u64,
    /// End offsets and numbers of the last chunk's rows.
    row_ends: Vec<(u64, i64)>,
}

enum Source {
    Plain(Box<dyn OpenFile>),
    Packed {
        packed: Option<Packed>,
        /// Number of bytes that are still to be skipped.
        skip: u64,
    },
    Rows {
        database: Rc<Database>,
        session: String,
        last: i64,
    },
}

impl Chunks {
    /// Replaces `chunk` by the next bytes, which may be empty. Returns whether there may be more. A chunk has at most
    /// [`CHUNK_BYTES`], except that a database row is never split.
    ///
    /// # Errors
    /// If the transcript cannot be read.
    pub fn next(&mut self, chunk: &mut Vec<u8>) -> Result<bool, Fault> {
        let name = &self.name;
        let at_fault =
            |fault: &dyn ToString| format!("{name} cannot be read: {}", fault.to_string());
        self.row_ends.clear();
        let is_more = match &mut self.source {
            Source::Plain(file) => {
                chunk.resize(CHUNK_BYTES, 0);
                let read = file.read(self.end, chunk)?;
                chunk.truncate(read);
                read > 0
            }
            Source::Packed { packed, skip } => {
                chunk.clear();
                let Some(open) = packed.take() else {
                    return Ok(false);
                };
                *packed = open.next(chunk).map_err(|error| at_fault(&error))?;
                let passed = (*skip).min(chunk.len() as u64);
                chunk.drain(..passed as usize);
                *skip -= passed;
                true
            }
            Source::Rows {
                database,
                session,
                last,
            } => {
                chunk.clear();
                let rows = database.rows(session, *last, CHUNK_BYTES)?;
                let is_more = !rows.is_empty();
                for row in rows {
                    *last = row.number;
                    row.append_to(chunk).map_err(|fault| at_fault(&fault))?;
                    chunk.push(b'\n');
                    self.row_ends.push((self.end + chunk.len() as u64, *last));
                }
                is_more
            }
        };
        self.end += chunk.len() as u64;
        Ok(is_more)
    }

    /// The number of the database row that ends at an offset in the last chunk.
    pub fn row_at(&self, offset: u64) -> Option<u64> {
        let at = self.row_ends.binary_search_by_key(&offset, |(end, _)| *end);
        at.ok().map(|at| self.row_ends[at].1 as u64)
    }
}

/// [`Read`] of a file from its start.
struct FromStart {
    file: Box<dyn OpenFile>,
    at: u64,
}

impl Read for FromStart {
    fn read(&mut self, into: &mut [u8]) -> Result<usize, Error> {
        let read = self.file.read(self.at, into).map_err(Error::other)?;
        self.at += read as u64;
        Ok(read)
    }
}

/// A file compressed with zstd. OpenClaw 2026.8 and later archive deleted sessions in this format.
struct Packed(Box<Decoder>);

type Decoder = StreamingDecoder<BufReader<FromStart>, FrameDecoder>;

impl Packed {
    fn open(host: &dyn StoreHost, path: &str) -> Result<Self, Fault> {
        let file = host.open(path)?;
        let file = BufReader::with_capacity(CHUNK_BYTES, FromStart { file, at: 0 });
        Self::frame(file).map_err(|error| format!("{path} cannot be read: {error}"))
    }

    fn frame(file: BufReader<FromStart>) -> Result<Self, Error> {
        let decoder = StreamingDecoder::new(file).map_err(Error::other)?;
        Ok(Self(Box::new(decoder)))
    }

    /// Appends the next chunk. Returns the reader of the rest; `None` at the end.
    fn next(mut self, chunk: &mut Vec<u8>) -> Result<Option<Self>, Error> {
        let mut part = self.0.by_ref().take(CHUNK_BYTES as u64);
        if part.read_to_end(chunk)? > 0 {
            return Ok(Some(self));
        }
        // A file may have several zstd frames.
        let mut file = self.0.into_inner();
        match file.fill_buf()?.is_empty() {
            true => Ok(None),
            false => Self::frame(file).map(Some),
        }
    }
}

fn packed_tail(host: &dyn StoreHost, path: &str, offset: u64) -> Result<Option<Vec<u8>>, Fault> {
    let mut packed = Some(Packed::open(host, path)?);
    let (mut before, mut tail, mut chunk) = (0, Vec::new(), Vec::new());
    while let Some(open) = packed {
        chunk.clear();
        packed = open
            .next(&mut chunk)
            .map_err(|error| format!("{path} cannot be read: {error}"))?;
        let wanted = (offset - before).min(chunk.len() as u64);
        tail = last_bytes(&tail, &chunk[..wanted as usize]);
        before += wanted;
        if before == offset {
            return Ok(Some(tail));
        }
    }
    Ok(None)
}

/// The last [`TAIL_BYTES`] of two adjacent pieces.
pub fn last_bytes(before: &[u8], piece: &[u8]) -> Vec<u8> {
    let of_piece = &piece[piece.len().saturating_sub(TAIL_BYTES)..];
    let missing = TAIL_BYTES - of_piece.len();
    [&before[before.len().saturating_sub(missing)..], of_piece].concat()
}
