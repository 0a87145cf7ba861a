//! Reads the model calls that OpenClaw's session store holds, in increments, while the gateway runs.
//!
//! What the store does, as seen on real gateways:
//!
//! - Up to 2026.7: `agents/<agent>/sessions/<session>.jsonl`, appended to. `/new` and `sessions.reset` rename it to
//!   `.jsonl.reset.<time>`, `sessions.delete` to `.jsonl.deleted.<time>`; the session then gets a new id. Compaction
//!   appends a row. Only `sessions.compact` with `maxLines` of 2026.3 cuts a file: the last lines stay, without the
//!   header, and the whole is copied to `.jsonl.bak.<time>`.
//! - From 2026.8: rows of `transcript_events` in `agents/<agent>/agent/openclaw-agent.sqlite`, in the order of `seq`
//!   from 0. `/new`, `sessions.reset` and compaction append rows to the same session; `sessions.delete` deletes its
//!   rows and writes them, one a line, to `sessions/<session>.jsonl.deleted.<time>.<generation>.zst`, a moment later.
//!   `rowid` tells nothing: SQLite may give it out again.
//! - Forks, rewinds, switches of branches and restored checkpoints make a new session (often under the same key) that
//!   begins with copies of the rows: same entry ids, same times. The facts say `inherited` of these.
//! - The move into the database archives the files: `session-sqlite-import-archive/<key>.<file>.imported-<time>` beside
//!   the folder of sessions.
//!
//! [`places`](super::places) says where all of this may be. A transcript that was rewritten is read again from its start;
//! its rows are known by their entry ids.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::rc::Rc;

use crate::host::Fault;
use crate::sessions::transcript::Skipped;

use super::database::{Database, Session};
use super::files::{TranscriptFile, imported_transcripts, live_transcripts};
use super::host::StoreHost;
use super::keys::SessionKeys;
use super::places::{SessionStore, StorePlace, store_places};
use super::reading::SessionReading;
use super::transcripts::Transcript;

/// So many bytes are read in one step, about; a step without a call takes some ms.
const STEP_BYTES: usize = 1024 * 1024;
/// What looking at a session without anything new counts for, in bytes.
const LOOK_BYTES: usize = STEP_BYTES / 32;

/// What is asked of the store. Times are ms since 1970.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The gateway's state directory.
    pub state_dir: String,
    /// Where the configuration says that sessions are, besides the state directory.
    pub store: Option<SessionStore>,
    /// Calls written before this time are left out for good.
    pub since_ms: Option<u64>,
    /// Calls written at this time or later are left for later, and so are those behind them in the same session.
    pub until_ms: Option<u64>,
    /// But for those that say to have been written after this time: the clock was ahead, and was set back since.
    pub future_ms: Option<u64>,
}

/// Some calls of one session.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Batch {
    /// The session's name in the store, `<agent>/<session id>`: the key of its bookmark.
    pub session: String,
    /// How far the session was read, with these rows: to be kept once they are. Empty: it is gone, or nothing was read
    /// of it, and the bookmark may be dropped.
    pub bookmark: String,
    /// Facts in the order of [`StoredFacts`](crate::sources::stored::StoredFacts): JSON arrays with commas between them.
    pub rows: String,
    /// Lines that could not be used since reading this session began.
    pub skipped: Option<Skipped>,
    /// What could not be read, and why. The bookmark is the one that was given.
    pub problem: Option<String>,
}

/// What a step came to.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// Calls, or how far a session was read.
    Batch(Batch),
    /// Nothing yet; others may have their turn.
    Pause,
    /// Everything was read.
    Done,
}

/// How far a reading of the store is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Sessions that were looked at.
    pub sessions: u64,
    /// Bytes of transcripts that were read, unpacked.
    pub bytes: u64,
}

/// Reads what the store holds behind the bookmarks, a step at a time.
pub struct StoreReader {
    host: Rc<dyn StoreHost>,
    options: Options,
    bookmarks: BTreeMap<String, String>,
    places: Option<VecDeque<StorePlace>>,
    place: Option<PlaceReading>,
    /// Sessions that are still there.
    there: HashSet<String>,
    ready: VecDeque<Batch>,
    chunk: Vec<u8>,
    /// How far reading is.
    pub progress: Progress,
}

impl StoreReader {
    /// A reader that has read nothing; `bookmarks` by session, as [`Batch::session`] names it.
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

    /// Reads on, until there is a batch, or about a MB was read.
    ///
    /// # Errors
    /// Where it cannot be told which places there are. What cannot be read of a place is a batch's problem.
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

    /// Goes on with the next place, if there is one.
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

    /// Nothing of this place's is known to be gone.
    fn give_up(&mut self, place: &StorePlace, fault: Fault) {
        self.there.extend(of_place(place, &self.bookmarks));
        self.ready.push_back(Batch {
            session: format!("{}/", place.name),
            problem: Some(fault),
            ..Batch::default()
        });
        self.place = None;
    }

    /// Bookmarks of sessions that are nowhere.
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

/// What reading on came to.
enum Read {
    /// So many bytes were read.
    Bytes(usize),
    /// A session was found.
    Session(String),
    /// It was read.
    EndOfSession,
    /// These sessions are still there.
    EndOfPlace(Vec<String>),
}

/// The reading of one place's sessions: those of the database, in the order of their ids, then those in files alone.
struct PlaceReading {
    host: Rc<dyn StoreHost>,
    place: StorePlace,
    database: Option<Rc<Database>>,
    keys: SessionKeys,
    files: HashMap<String, Vec<TranscriptFile>>,
    /// The sessions in files, in their order.
    order: VecDeque<String>,
    /// Sessions of the database that are read next.
    listed: VecDeque<Session>,
    /// The last session that was listed; `None` once there is no further one.
    last: Option<String>,
    known: Vec<String>,
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
            known: of_place(&place, bookmarks),
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
                    None => keys.of(host, id),
                    key => key,
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
        let Some((id, transcripts)) = self.next_session()? else {
            return self.end(ready).map(Read::EndOfPlace);
        };
        let name = format!("{}/{id}", self.place.name);
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

    /// The next session with all that is kept of it, the oldest first.
    fn next_session(&mut self) -> Result<Option<(String, Vec<Transcript>)>, Fault> {
        if let (Some(database), Some(last)) = (self.database.clone(), &self.last) {
            if self.listed.is_empty() {
                self.listed = database.sessions_after(last)?.into();
            }
            self.last = self.listed.front().map(|session| session.id.clone());
            if let Some(session) = self.listed.pop_front() {
                let mut transcripts = self.in_files(&session.id)?;
                let id = session.id.clone();
                transcripts.push(Transcript::Rows(database, session));
                return Ok(Some((id, transcripts)));
            }
        }
        while let Some(id) = self.order.pop_front() {
            if self.files.contains_key(&id) {
                let transcripts = self.in_files(&id)?;
                return Ok(Some((id, transcripts)));
            }
        }
        Ok(None)
    }

    /// The transcripts of a session in files, without those that were renamed meanwhile.
    fn in_files(&mut self, id: &str) -> Result<Vec<Transcript>, Fault> {
        let files = self.files.remove(id).unwrap_or_default();
        let found = files
            .into_iter()
            .map(|file| Transcript::in_file(&*self.host, file));
        found.filter_map(Result::transpose).collect()
    }

    /// Which of the known sessions are there: one that was archived while we read was met in neither place.
    fn end(&mut self, ready: &mut VecDeque<Batch>) -> Result<Vec<String>, Fault> {
        for problem in self.keys.problems.drain(..) {
            ready.push_back(Batch {
                session: format!("{}/", self.place.name),
                problem: Some(problem),
                ..Batch::default()
            });
        }
        let files = files_of(&*self.host, &self.place)?;
        let again: HashSet<String> = files.into_iter().map(|file| file.session_id).collect();
        let mut there = Vec::new();
        for session in self.known.drain(..) {
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

/// How many sessions the stores hold; those of places that cannot be read are left out.
pub fn count_sessions(
    host: &Rc<dyn StoreHost>,
    state_dir: &str,
    store: Option<&SessionStore>,
) -> usize {
    // Reading them says why.
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

/// A place's transcripts in files. What was archived when it was moved into the database may not all have arrived there.
fn files_of(host: &dyn StoreHost, place: &StorePlace) -> Result<Vec<TranscriptFile>, Fault> {
    let mut files = imported_transcripts(host, place.archive.as_deref())?;
    files.extend(live_transcripts(host, place.folder.as_deref())?);
    Ok(files)
}

/// The sessions of a place that have bookmarks.
fn of_place(place: &StorePlace, bookmarks: &BTreeMap<String, String>) -> Vec<String> {
    let prefix = format!("{}/", place.name);
    let known = bookmarks.keys().filter(|name| name.starts_with(&prefix));
    known.cloned().collect()
}
