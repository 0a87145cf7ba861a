//! Reads a session from its bookmark on, through all its transcripts.

use std::collections::VecDeque;

use crate::host::Fault;
use crate::sessions::transcript::{Reader, Scope, Skipped};

use super::bookmark::{Bookmark, hash_of_line};
use super::host::StoreHost;
use super::keys::Listed;
use super::reader::{Batch, Options};
use super::transcripts::{Chunks, Transcript, last_bytes};

/// The reading of one session.
pub struct SessionReading {
    name: String,
    id: String,
    agent: String,
    /// The unread transcripts, the oldest first.
    transcripts: VecDeque<Transcript>,
    /// The bookmark, until its transcript is located.
    given: Option<String>,
    /// The start in the next transcript.
    from: Bookmark,
    /// The latest bookmark.
    kept: String,
    current: Option<Reading>,
}

impl SessionReading {
    /// Starts reading a session.
    pub fn new(
        name: String,
        id: String,
        agent: String,
        transcripts: Vec<Transcript>,
        bookmark: String,
    ) -> Self {
        Self {
            name,
            id,
            agent,
            transcripts: transcripts.into(),
            kept: bookmark.clone(),
            given: Some(bookmark),
            from: Bookmark::default(),
            current: None,
        }
    }

    /// Reads a chunk. Returns its size in bytes, or `None` at the session's end or after a fault, which becomes a
    /// batch. `key_of` looks up the session's key.
    pub fn read_on(
        &mut self,
        host: &dyn StoreHost,
        options: &Options,
        key_of: impl FnOnce(&str) -> Result<Option<Listed>, Fault>,
        chunk: &mut Vec<u8>,
        ready: &mut VecDeque<Batch>,
    ) -> Option<usize> {
        match self.try_read_on(host, options, key_of, chunk, ready) {
            Ok(read) => read,
            Err(fault) => {
                ready.push_back(Batch {
                    session: self.name.clone(),
                    bookmark: self.kept.clone(),
                    problem: Some(fault),
                    ..Batch::default()
                });
                None
            }
        }
    }

    fn try_read_on(
        &mut self,
        host: &dyn StoreHost,
        options: &Options,
        key_of: impl FnOnce(&str) -> Result<Option<Listed>, Fault>,
        chunk: &mut Vec<u8>,
        ready: &mut VecDeque<Batch>,
    ) -> Result<Option<usize>, Fault> {
        if let Some(given) = self.given.take() {
            let place = Bookmark::parse(&given);
            if let (Some(place), 1) = (&place, self.transcripts.len())
                && self.transcripts[0].ends_at(place)
            {
                return Ok(None);
            }
            self.locate(host, place, options)?;
        }
        let reading = match &mut self.current {
            Some(reading) => reading,
            None => {
                let Some(transcript) = self.transcripts.pop_front() else {
                    return Ok(None);
                };
                let (key, listed_for) = match &transcript {
                    Transcript::Rows(_, session) => (session.key.clone(), None),
                    Transcript::File(_) => key_of(&self.id)?
                        .map_or((None, None), |listed| (Some(listed.key), listed.agent)),
                };
                let agent = transcript.agent().or(listed_for.as_deref());
                let scope = Scope {
                    agent: agent.unwrap_or(&self.agent).to_owned(),
                    session_id: self.id.clone(),
                    session_key: key,
                    inherited_before_ms: self.from.inherited_before_ms,
                    since_ms: options.since_ms,
                    until_ms: options.until_ms,
                    future_ms: options.future_ms,
                };
                let from = std::mem::take(&mut self.from);
                let chunks = transcript.chunks(host, &from)?;
                let mut reading =
                    Reading::new(Reader::new(scope), chunks, transcript.closed(), from);
                reading.is_quiet = options.until_ms.is_some_and(|ms| transcript.is_older(ms));
                self.current.insert(reading)
            }
        };
        let found = reading.read_on(chunk)?;
        let bookmark = reading.bookmark();
        let is_new = !bookmark.is_empty() && bookmark != self.kept;
        if !found.rows.is_empty() || found.is_last && (is_new || found.skipped.is_some()) {
            if is_new {
                self.kept = bookmark;
            }
            ready.push_back(Batch {
                session: self.name.clone(),
                bookmark: self.kept.clone(),
                rows: found.rows,
                skipped: found.skipped,
                problem: None,
            });
        }
        if found.is_last {
            if reading.is_stopped() {
                self.transcripts.clear();
            }
            self.current = None;
        }
        Ok(Some(found.bytes))
    }

    /// Finds the youngest transcript with the bookmark's place. If no transcript has it, reading starts with the first
    /// transcript.
    fn locate(
        &mut self,
        host: &dyn StoreHost,
        place: Option<Bookmark>,
        options: &Options,
    ) -> Result<(), Fault> {
        let Some(place) = place else {
            return self.pass_over_old(host, options);
        };
        for index in (0..self.transcripts.len()).rev() {
            let tail = self.transcripts[index].tail(host, place.offset, place.row)?;
            if tail.is_some_and(|tail| hash_of_line(&tail) == place.hash) {
                self.transcripts.drain(..index);
                self.from = place;
                return Ok(());
            }
        }
        Ok(())
    }

    /// Skips a single file that was last written before `since_ms`, and ends with a whole line.
    fn pass_over_old(&mut self, host: &dyn StoreHost, options: &Options) -> Result<(), Fault> {
        let (Some(since), 1) = (options.since_ms, self.transcripts.len()) else {
            return Ok(());
        };
        let only = &self.transcripts[0];
        if let Some(offset) = only.end_if_older(since)
            && let Some(tail) = only.tail(host, offset, None)?
            && tail.ends_with(b"\n")
        {
            let hash = hash_of_line(&tail);
            self.from = Bookmark {
                offset,
                hash,
                ..Bookmark::default()
            };
        }
        Ok(())
    }
}

/// The result of reading a chunk.
struct Found {
    rows: String,
    skipped: Option<Skipped>,
    bytes: usize,
    /// Whether the transcript is read to its end.
    is_last: bool,
}

/// The reading of one transcript.
struct Reading {
    reader: Reader,
    chunks: Chunks,
    closed: Option<u64>,
    /// Whether nothing was written to the file since the time up to which calls are read.
    is_quiet: bool,
    /// The offset at which reading began.
    from: u64,
    place: Bookmark,
    /// The last bytes before `end`.
    tail: Vec<u8>,
    end: u64,
}

impl Reading {
    fn new(reader: Reader, chunks: Chunks, closed: Option<u64>, from: Bookmark) -> Self {
        Self {
            reader,
            chunks,
            closed,
            is_quiet: false,
            from: from.offset,
            end: from.offset,
            place: from,
            tail: Vec::new(),
        }
    }

    fn read_on(&mut self, chunk: &mut Vec<u8>) -> Result<Found, Fault> {
        let mut rows = String::new();
        let is_more = self.chunks.next(chunk)?;
        self.reader.feed(chunk, &mut rows);
        self.follow(chunk);
        let is_last = !is_more || self.is_stopped();
        if is_last && self.closed.is_some() && !self.is_stopped() {
            self.reader.finish(&mut rows);
            self.follow(&[]);
            if !self.is_stopped() {
                self.place.closed = self.closed;
            }
        } else if is_last && self.is_quiet && !self.is_stopped() {
            self.reader.finish_whole(&mut rows);
            self.follow(&[]);
        }
        let skipped = Some(self.reader.skipped());
        Ok(Found {
            rows,
            skipped: skipped.filter(|skipped| is_last && *skipped != Skipped::default()),
            bytes: chunk.len(),
            is_last,
        })
    }

    /// Whether reading stopped at a call that is too new.
    fn is_stopped(&self) -> bool {
        self.reader.is_stopped()
    }

    /// Moves the place to the end of the last processed line.
    fn follow(&mut self, chunk: &[u8]) {
        let offset = self.from + self.reader.consumed();
        if offset > self.place.offset {
            let of_chunk = &chunk[..offset.saturating_sub(self.end) as usize];
            self.place = Bookmark {
                offset,
                hash: hash_of_line(&last_bytes(&self.tail, of_chunk)),
                row: self.chunks.row_at(offset),
                ..Bookmark::default()
            };
        }
        self.tail = last_bytes(&self.tail, chunk);
        self.end += chunk.len() as u64;
    }

    fn bookmark(&self) -> String {
        let inherited_before_ms = self.reader.inherited_before_ms();
        let place = self.place.clone();
        Bookmark {
            inherited_before_ms,
            ..place
        }
        .text()
    }
}
