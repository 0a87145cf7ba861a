//! Reads the model calls that OpenClaw's session store holds, in increments, while the gateway runs.
//!
//! The store's behaviour, as observed on real gateways:
//!
//! - Up to 2026.7: rows are appended to `agents/<agent>/sessions/<session>.jsonl`. `/new` and `sessions.reset` rename
//!   the file to `.jsonl.reset.<time>`, `sessions.delete` to `.jsonl.deleted.<time>`; the session then gets a new id.
//!   Compaction appends a row. 2026.3 truncates files: `sessions.compact` with `maxLines` copies the file to
//!   `.jsonl.bak.<time>` and keeps the last lines, without the header; a heartbeat that answers `HEARTBEAT_OK` is cut
//!   off again.
//! - From 2026.8: rows of `transcript_events` in `agents/<agent>/agent/openclaw-agent.sqlite`, in the order of `seq`
//!   from 0. `/new`, `sessions.reset` and compaction append rows to the same session; `sessions.delete` deletes its
//!   rows and then writes them, one a line, to `sessions/<session>.jsonl.deleted.<time>.<generation>.zst`. `rowid`
//!   identifies no row: SQLite may reuse it.
//! - Forks, rewinds, switches of branches and restored checkpoints create a new session (often with the same key) that
//!   begins with copies of the rows: same entry ids, same times. The fact `inherited` marks these copies.
//! - The move into the database archives the files: `session-sqlite-import-archive/<key>.<file>.imported-<time>` beside
//!   the folder of sessions.
//!
//! [`places`](super::places) lists the folders. A rewritten transcript is read again from its start; matching
//! recognises its rows by their entry ids.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::rc::Rc;

use crate::host::Fault;
use crate::sessions::transcript::Skipped;

use super::database::{Database, Session};
use super::files::{TranscriptFile, imported_transcripts, live_transcripts};
use super::host::StoreHost;
use super::keys::{Listed, SessionKeys};
use super::places::{SessionStore, StorePlace, store_places};
use super::reading::SessionReading;
use super::transcripts::Transcript;

/// Approximate number of bytes of a step. A step without a call takes some ms.
const STEP_BYTES: usize = 1024 * 1024;
/// Cost of a session without new rows, in bytes of a step.
const LOOK_BYTES: usize = STEP_BYTES / 32;

/// Options of a reader. Times are in ms since 1970.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The gateway's state directory.
    pub state_dir: String,
    /// The store in the configuration, read in addition to the state directory.
    pub store: Option<SessionStore>,
    /// Calls written before this time are skipped.
    pub since_ms: Option<u64>,
    /// Calls written at this time or later wait for a later reading.
    pub until_ms: Option<u64>,
    /// Reading of a session stops before the first call that waits, unless it was written after this time: then its clock
    /// was ahead, and was set back since, and it is read at once. `None`: calls that wait are left out, since another reading
    /// takes them.
    pub future_ms: Option<u64>,
}

/// Some calls of one session.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Batch {
    /// The session's name in the store, `<agent>/<session id>`: the key of its bookmark.
    pub session: String,
    /// The bookmark after these rows, to be stored together with them. Empty: the session is gone or nothing of it was
    /// read, and its bookmark may be removed.
    pub bookmark: String,
    /// The calls: JSON arrays of facts, separated by commas, in the order of
    /// [`StoredFacts`](crate::sources::stored::StoredFacts).
    pub rows: String,
    /// Lines that could not be used, since the reading of this transcript began.
    pub skipped: Option<Skipped>,
    /// The fault, if a session, a place or an index could not be read.
    pub problem: Option<String>,
}

/// The result of a step.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// Calls, a bookmark, or a problem.
    Batch(Batch),
    /// No batch yet. The caller may let other work run.
    Pause,
    /// The store is read to its end.
    Done,
}

/// Progress of a reader.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Number of sessions that are read.
    pub sessions: u64,
    /// Number of bytes of transcripts that are read, decompressed.
    pub bytes: u64,
}

/// Reads the store's rows after the bookmarks, a step at a time.
pub struct StoreReader {
    host: Rc<dyn StoreHost>,
    options: Options,
    bookmarks: BTreeMap<String, String>,
    places: Option<VecDeque<StorePlace>>,
    place: Option<PlaceReading>,
    /// Sessions that still exist.
    there: HashSet<String>,
    ready: VecDeque<Batch>,
    chunk: Vec<u8>,
    /// Progress so far.
    pub progress: Progress,
}

impl StoreReader {
    /// A new reader. The keys of `bookmarks` are sessions, as in [`Batch::session`].
    pub fn new(
        host: Rc<dyn StoreHost>,
        options: Options,
        bookmarks: BTreeMap<String, String>,
    ) -> Self {
        Self {
            host,
            options,
            bookmarks,
            places: None,
            place: None,
            there: HashSet::new(),
            ready: VecDeque::new(),
            chunk: Vec::new(),
            progress: Progress::default(),
        }
    }

    /// Continues until there is a batch, or about 1 MiB is read.
    ///
    /// # Errors
    /// If the places cannot be listed. A fault inside a place is the problem of a batch.
    pub fn step(&mut self) -> Result<Step, Fault> {
        let mut spent = 0;
        while spent < STEP_BYTES {
            if let Some(batch) = self.ready.pop_front() {
                return Ok(Step::Batch(batch));
            }
            let Some(place) = &mut self.place else {
                if self.next_place()? {
                    continue;
                }
                self.forget_missing();
                if self.ready.is_empty() {
                    return Ok(Step::Done);
                }
                continue;
            };
            let read = place.read_on(
                &self.options,
                &self.bookmarks,
                &mut self.chunk,
                &mut self.ready,
            );
            match read {
                Ok(Read::Bytes(bytes)) => {
                    self.progress.bytes += bytes as u64;
                    spent += bytes.max(LOOK_BYTES);
                }
                Ok(Read::Session(name)) => {
                    self.there.insert(name);
                    spent += LOOK_BYTES;
                }
                Ok(Read::EndOfSession) => self.progress.sessions += 1,
                Ok(Read::EndOfPlace(there)) => {
                    self.there.extend(there);
                    self.place = None;
                }
                Err(fault) => {
                    let place = place.place.clone();
                    self.give_up(&place, fault);
                }
            }
        }
        Ok(Step::Pause)
    }

    /// Opens the next place. Returns whether there is one.
    fn next_place(&mut self) -> Result<bool, Fault> {
        let Options {
            state_dir, store, ..
        } = &self.options;
        let places = match &mut self.places {
            Some(places) => places,
            None => {
                let found = store_places(&*self.host, state_dir, store.as_ref())?;
                self.places.insert(found.into())
            }
        };
        let Some(place) = places.pop_front() else {
            return Ok(false);
        };
        match PlaceReading::open(&self.host, place.clone(), &self.bookmarks) {
            Ok(reading) => self.place = Some(reading),
            Err(fault) => self.give_up(&place, fault),
        }
        Ok(true)
    }

    /// Skips an unreadable place. Its bookmarks are kept.
    fn give_up(&mut self, place: &StorePlace, fault: Fault) {
        self.there.extend(of_place(place, &self.bookmarks));
        self.ready.push_back(Batch {
            session: format!("{}/", place.name),
            problem: Some(fault),
            ..Batch::default()
        });
        self.place = None;
    }

    /// Adds a batch with an empty bookmark for each session that no longer exists.
    fn forget_missing(&mut self) {
        for session in std::mem::take(&mut self.bookmarks).into_keys() {
            if !self.there.contains(&session) {
                self.ready.push_back(Batch {
                    session,
                    ..Batch::default()
                });
            }
        }
    }
}

/// The result of [`PlaceReading::read_on`].
enum Read {
    /// Number of bytes that were read.
    Bytes(usize),
    /// A session was found.
    Session(String),
    /// The session is read to its end.
    EndOfSession,
    /// The place is read to its end; these further sessions with bookmarks still exist.
    EndOfPlace(Vec<String>),
}

/// Reads a place's sessions: first the sessions in the database, in the order of their ids, then the sessions that are
/// only in files.
struct PlaceReading {
    host: Rc<dyn StoreHost>,
    place: StorePlace,
    database: Option<Rc<Database>>,
    keys: SessionKeys,
    files: HashMap<String, Vec<TranscriptFile>>,
    /// Ids of the sessions in files, in order.
    order: VecDeque<String>,
    /// The next sessions of the database.
    listed: VecDeque<Session>,
    /// Id of the last session taken from the list; `None` after the last session of the database.
    last: Option<String>,
    /// Sessions with bookmarks that were not found yet.
    unfound: BTreeSet<String>,
    session: Option<SessionReading>,
}

impl PlaceReading {
    fn open(
        host: &Rc<dyn StoreHost>,
        place: StorePlace,
        bookmarks: &BTreeMap<String, String>,
    ) -> Result<Self, Fault> {
        let database = match &place.database {
            Some(path) => Database::open(host.clone(), path)?.map(Rc::new),
            None => None,
        };
        let mut files: HashMap<String, Vec<TranscriptFile>> = HashMap::new();
        let mut order = VecDeque::new();
        for file in files_of(&**host, &place)? {
            let of_session = files.entry(file.session_id.clone()).or_default();
            if of_session.is_empty() {
                order.push_back(file.session_id.clone());
            }
            of_session.push(file);
        }
        Ok(Self {
            host: host.clone(),
            keys: SessionKeys::new(place.indexes.clone()),
            last: database.as_ref().map(|_| String::new()),
            unfound: of_place(&place, bookmarks),
            place,
            database,
            files,
            order,
            listed: VecDeque::new(),
            session: None,
        })
    }

    fn read_on(
        &mut self,
        options: &Options,
        bookmarks: &BTreeMap<String, String>,
        chunk: &mut Vec<u8>,
        ready: &mut VecDeque<Batch>,
    ) -> Result<Read, Fault> {
        if let Some(session) = &mut self.session {
            let (host, keys, database) = (&*self.host, &mut self.keys, &self.database);
            let key = |id: &str| {
                let key = database.as_ref().map(|database| database.key_of(id));
                Ok(match key.transpose()?.flatten() {
                    Some(key) => Some(Listed { key, agent: None }),
                    None => keys.of(host, id),
                })
            };
            return Ok(match session.read_on(host, options, key, chunk, ready) {
                Some(bytes) => Read::Bytes(bytes),
                None => {
                    self.session = None;
                    Read::EndOfSession
                }
            });
        }
        let Some((id, transcripts)) = self.next_session(ready)? else {
            return self.end(ready).map(Read::EndOfPlace);
        };
        let name = format!("{}/{id}", self.place.name);
        self.unfound.remove(&name);
        let bookmark = bookmarks.get(&name).cloned().unwrap_or_default();
        let agent = self.place.agent.clone();
        self.session = Some(SessionReading::new(
            name.clone(),
            id,
            agent,
            transcripts,
            bookmark,
        ));
        Ok(Read::Session(name))
    }

    /// The next session with its transcripts, the oldest first. A session with a file that cannot be looked at is reported
    /// and skipped; its bookmark stays.
    fn next_session(
        &mut self,
        ready: &mut VecDeque<Batch>,
    ) -> Result<Option<(String, Vec<Transcript>)>, Fault> {
        while let (Some(database), Some(last)) = (self.database.clone(), &self.last) {
            if self.listed.is_empty() {
                self.listed = database.sessions_after(last)?.into();
            }
            self.last = self.listed.front().map(|session| session.id.clone());
            let Some(session) = self.listed.pop_front() else {
                break;
            };
            let id = session.id.clone();
            if let Some(mut transcripts) = self.in_files(&id, ready) {
                transcripts.push(Transcript::Rows(database, session));
                return Ok(Some((id, transcripts)));
            }
        }
        while let Some(id) = self.order.pop_front() {
            if self.files.contains_key(&id)
                && let Some(transcripts) = self.in_files(&id, ready)
            {
                return Ok(Some((id, transcripts)));
            }
        }
        Ok(None)
    }

    /// The transcripts of a session in files, without files that were renamed since they were listed.
    fn in_files(&mut self, id: &str, ready: &mut VecDeque<Batch>) -> Option<Vec<Transcript>> {
        let files = self.files.remove(id).unwrap_or_default();
        let found = files
            .into_iter()
            .map(|file| Transcript::in_file(&*self.host, file));
        let transcripts: Result<Vec<Transcript>, Fault> =
            found.filter_map(Result::transpose).collect();
        let problem = match transcripts {
            Ok(transcripts) => return Some(transcripts),
            Err(fault) => fault,
        };
        ready.push_back(Batch {
            session: format!("{}/{id}", self.place.name),
            problem: Some(problem),
            ..Batch::default()
        });
        None
    }

    /// The further sessions with bookmarks that still exist. If one was not found, files are listed again: a session that
    /// was archived during the reading was found neither in the database nor in a file.
    fn end(&mut self, ready: &mut VecDeque<Batch>) -> Result<Vec<String>, Fault> {
        for problem in self.keys.problems.drain(..) {
            ready.push_back(Batch {
                session: format!("{}/", self.place.name),
                problem: Some(problem),
                ..Batch::default()
            });
        }
        let mut there = Vec::new();
        let unfound = std::mem::take(&mut self.unfound);
        if unfound.is_empty() {
            return Ok(there);
        }
        let files = files_of(&*self.host, &self.place)?;
        let again: HashSet<String> = files.into_iter().map(|file| file.session_id).collect();
        for session in unfound {
            let id = &session[self.place.name.len() + 1..];
            let is_archived = match &self.database {
                Some(database) => database.has_archived(id)?,
                None => false,
            };
            if again.contains(id) || is_archived {
                there.push(session);
            }
        }
        Ok(there)
    }
}

/// Number of sessions in all places. Unreadable places count 0.
pub fn count_sessions(
    host: &Rc<dyn StoreHost>,
    state_dir: &str,
    store: Option<&SessionStore>,
) -> usize {
    // A reader reports the fault.
    let places = store_places(&**host, state_dir, store).unwrap_or_default();
    let count = |place: &StorePlace| {
        let mut ids = HashSet::new();
        let files = files_of(&**host, place).unwrap_or_default();
        ids.extend(files.into_iter().map(|file| file.session_id));
        let open = |path: &String| Database::open(host.clone(), path).ok().flatten();
        if let Some(database) = place.database.as_ref().and_then(open) {
            let mut last = Some(String::new());
            while let Some(after) = last {
                let sessions = database.sessions_after(&after).unwrap_or_default();
                last = sessions.last().map(|session| session.id.clone());
                ids.extend(sessions.into_iter().map(|session| session.id));
            }
        }
        ids.len()
    };
    places.iter().map(count).sum()
}

/// A place's transcripts in files. Archived files are read too: the move into the database may have lost rows.
fn files_of(host: &dyn StoreHost, place: &StorePlace) -> Result<Vec<TranscriptFile>, Fault> {
    let mut files = imported_transcripts(host, place.archive.as_deref(), place.sharers.as_deref())?;
    files.extend(live_transcripts(host, place.folder.as_deref())?);
    Ok(files)
}

/// The sessions of a place with bookmarks.
fn of_place(place: &StorePlace, bookmarks: &BTreeMap<String, String>) -> BTreeSet<String> {
    let prefix = format!("{}/", place.name);
    let known = bookmarks.keys().filter(|name| name.starts_with(&prefix));
    known.cloned().collect()
}
