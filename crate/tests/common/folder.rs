//! A session store on the disk, read by `std::fs` and SQLite, with a host that fails when it is told to.

use std::cell::{Cell as Flag, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::UNIX_EPOCH;

use agentwatch_openclaw::host::Fault;
use agentwatch_openclaw::sessions::host::{Cell, Cells, FileStat, OpenFile, StoreHost};
use agentwatch_openclaw::sessions::places::SessionStore;
use agentwatch_openclaw::sessions::reader::{Batch, Options, Step, StoreReader};
use rusqlite::types::{Value, ValueRef};
use rusqlite::{Connection, OpenFlags, params_from_iter};

/// `O_NONBLOCK`, so that no named pipe holds up the test.
const NO_WAIT: i32 = 0o4000;

/// A state directory, and whoever reads it. Removed at the end.
#[derive(Debug)]
pub struct Folder {
    /// Where it is.
    pub path: PathBuf,
    /// How it is read.
    pub host: Rc<Disk>,
    /// How far its sessions were read.
    pub bookmarks: BTreeMap<String, String>,
    /// `session.store`.
    pub store: Option<SessionStore>,
    /// What the last reading could not read.
    pub problems: Vec<String>,
    /// How many steps the last reading took.
    pub steps: usize,
}

/// A host over `std::fs`.
#[derive(Debug, Default)]
pub struct Disk {
    databases: RefCell<HashMap<String, Connection>>,
    /// How many calls there were.
    pub calls: Flag<u32>,
    /// The call that fails.
    pub fails_at: Flag<Option<u32>>,
    /// A folder that nobody may list.
    pub hidden: RefCell<Option<PathBuf>>,
    /// How many files are open.
    pub open: Rc<Flag<i32>>,
}

impl Disk {
    fn call(&self, path: &str) -> Result<(), Fault> {
        self.calls.set(self.calls.get() + 1);
        match self.fails_at.get() == Some(self.calls.get()) {
            true => Err(format!("{path} cannot be read: it fails")),
            false => Ok(()),
        }
    }
}

fn said(path: &str, error: impl ToString) -> Fault {
    format!("{path} cannot be read: {}", error.to_string())
}

fn unless_missing<T>(path: &str, result: std::io::Result<T>) -> Result<Option<T>, Fault> {
    match result {
        Ok(found) => Ok(Some(found)),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            Ok(None)
        }
        Err(error) => Err(said(path, error)),
    }
}

impl StoreHost for Disk {
    fn names(&self, folder: &str) -> Result<Vec<String>, Fault> {
        self.call(folder)?;
        if self.hidden.borrow().as_deref() == Some(Path::new(folder)) {
            return Err(said(folder, "permission denied"));
        }
        let entries = unless_missing(folder, fs::read_dir(folder))?;
        let names = entries.into_iter().flatten().flatten();
        Ok(names
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect())
    }

    fn real_path(&self, path: &str) -> Option<String> {
        let real = fs::canonicalize(path).ok()?;
        Some(real.to_string_lossy().into_owned())
    }

    fn stat(&self, path: &str) -> Result<Option<FileStat>, Fault> {
        self.call(path)?;
        let found = unless_missing(path, fs::metadata(path))?;
        let stat = |found: fs::Metadata| FileStat {
            bytes: found.len(),
            modified_ms: found
                .modified()
                .unwrap()
                .duration_since(UNIX_EPOCH)
                .unwrap()
                .as_millis() as u64,
        };
        Ok(found.map(stat))
    }

    fn open(&self, path: &str) -> Result<Box<dyn OpenFile>, Fault> {
        self.call(path)?;
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(NO_WAIT)
            .open(path)
            .map_err(|error| said(path, error))?;
        if !file.metadata().unwrap().is_file() {
            return Err(format!("{path} is not a file"));
        }
        self.open.set(self.open.get() + 1);
        let open = self.open.clone();
        let path = path.to_owned();
        Ok(Box::new(Opened { file, path, open }))
    }

    fn query(
        &self,
        database: &str,
        sql: &str,
        values: &[Cell],
        most_bytes: usize,
    ) -> Result<Vec<Cells>, Fault> {
        self.call(database)?;
        let fault = |error: rusqlite::Error| said(database, error);
        let mut databases = self.databases.borrow_mut();
        if !databases.contains_key(database) {
            let flags = OpenFlags::SQLITE_OPEN_READ_ONLY;
            let connection = Connection::open_with_flags(database, flags).map_err(fault)?;
            databases.insert(database.to_owned(), connection);
        }
        let mut statement = databases[database].prepare(sql).map_err(fault)?;
        let names: Vec<String> = statement
            .column_names()
            .into_iter()
            .map(str::to_owned)
            .collect();
        let values = values.iter().map(|cell| match cell {
            Cell::Null => Value::Null,
            Cell::Integer(number) => Value::Integer(*number),
            Cell::Text(text) => Value::Text(text.clone()),
            Cell::Blob(bytes) => Value::Blob(bytes.clone()),
        });
        let mut found = statement.query(params_from_iter(values)).map_err(fault)?;
        let (mut rows, mut weight) = (Vec::new(), 0);
        while let Some(row) = found.next().map_err(fault)? {
            let cells: Cells = (0..names.len())
                .map(|at| match row.get_ref(at).unwrap() {
                    ValueRef::Integer(number) => Cell::Integer(number),
                    ValueRef::Text(text) => Cell::Text(String::from_utf8_lossy(text).into()),
                    ValueRef::Blob(bytes) => Cell::Blob(bytes.to_vec()),
                    ValueRef::Null | ValueRef::Real(_) => Cell::Null,
                })
                .collect();
            let told = names.iter().position(|name| name == "bytes");
            weight += match told.and_then(|at| cells[at].integer()) {
                Some(bytes) => bytes as usize,
                None => cells.iter().map(size).sum(),
            };
            rows.push(cells);
            if weight >= most_bytes {
                break;
            }
        }
        Ok(rows)
    }

    fn close(&self, database: &str) {
        self.databases.borrow_mut().remove(database);
    }
}

fn size(cell: &Cell) -> usize {
    match cell {
        Cell::Text(text) => text.len(),
        Cell::Blob(bytes) => bytes.len(),
        _ => 0,
    }
}

#[derive(Debug)]
struct Opened {
    file: File,
    path: String,
    open: Rc<Flag<i32>>,
}

impl Drop for Opened {
    fn drop(&mut self) {
        self.open.set(self.open.get() - 1);
    }
}

impl OpenFile for Opened {
    fn read(&self, from: u64, into: &mut [u8]) -> Result<usize, Fault> {
        let read = self.file.read_at(into, from);
        read.map_err(|error| said(&self.path, error))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        assert_eq!(self.host.open.get(), 0, "every file is closed");
        assert!(self.host.databases.borrow().is_empty(), "every database");
        let _ = fs::remove_dir_all(&self.path);
    }
}

static MADE: AtomicU32 = AtomicU32::new(0);

impl Default for Folder {
    fn default() -> Self {
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let name = format!("agentwatch-sessions-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).unwrap();
        Self {
            path,
            host: Rc::default(),
            bookmarks: BTreeMap::new(),
            store: None,
            problems: Vec::new(),
            steps: 0,
        }
    }
}

impl Folder {
    /// A path in it, whose folder is there.
    pub fn at(&self, path: &str) -> PathBuf {
        let path = self.path.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        path
    }

    /// A file of the agent `main`.
    pub fn session(&self, name: &str) -> PathBuf {
        self.at(&format!("agents/main/sessions/{name}"))
    }

    /// Writes a file of the agent `main`.
    pub fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        fs::write(self.session(name), bytes).unwrap();
    }

    /// Appends to one.
    pub fn append(&self, name: &str, text: &str) {
        let path = self.session(name);
        let mut file = OpenOptions::new().append(true).open(path).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    /// A reader that goes on from the bookmarks.
    pub fn reader(&self, options: Options) -> StoreReader {
        let options = Options {
            state_dir: self.path.to_str().unwrap().to_owned(),
            store: self.store.clone(),
            ..options
        };
        StoreReader::new(self.host.clone(), options, self.bookmarks.clone())
    }

    /// Keeps what a batch tells; the input tokens of its calls, which tell them apart.
    pub fn keep(&mut self, batch: Batch) -> Vec<u64> {
        match (batch.problem, batch.bookmark.is_empty()) {
            (Some(problem), _) => self.problems.push(problem),
            (None, true) => drop(self.bookmarks.remove(&batch.session)),
            (None, false) => drop(self.bookmarks.insert(batch.session, batch.bookmark)),
        }
        let rows: Vec<serde_json::Value> =
            serde_json::from_str(&format!("[{}]", batch.rows)).unwrap();
        rows.iter()
            .map(|row| row[2][1].as_f64().unwrap() as u64)
            .collect()
    }

    /// Reads to the end; what is new.
    pub fn read_with(&mut self, options: Options) -> Vec<u64> {
        let mut reader = self.reader(options);
        self.problems.clear();
        self.steps = 0;
        let mut found = Vec::new();
        loop {
            self.steps += 1;
            match reader.step() {
                Ok(Step::Batch(batch)) => found.extend(self.keep(batch)),
                Ok(Step::Pause) => {}
                Ok(Step::Done) => return found,
                Err(fault) => {
                    self.problems.push(fault);
                    return found;
                }
            }
        }
    }

    /// The same, of all times.
    pub fn read(&mut self) -> Vec<u64> {
        self.read_with(Options::default())
    }

    /// A database in it, of the schema that packs rows, with rows of `text` in session `s`.
    pub fn database(&self, path: &str, rows: &[String]) -> Connection {
        let database = Connection::open(self.at(path)).unwrap();
        database
            .execute_batch(
                "PRAGMA user_version = 23;
                 CREATE TABLE session_windows (session_id TEXT PRIMARY KEY, session_key TEXT);
                 CREATE TABLE transcript_events (session_id TEXT, seq INTEGER, event_json TEXT,
                   event_zstd BLOB, event_utf8_bytes INTEGER, PRIMARY KEY (session_id, seq));
                 CREATE TABLE session_transcript_archives (session_id TEXT, generation TEXT);",
            )
            .unwrap();
        insert(&database, "s", rows);
        database
    }
}

/// Appends rows to a session of a database.
pub fn insert(database: &Connection, session: &str, rows: &[String]) {
    for row in rows {
        database
            .execute(
                "INSERT INTO transcript_events (session_id, seq, event_json) VALUES (?1,
                 (SELECT coalesce(max(seq), -1) + 1 FROM transcript_events WHERE session_id = ?1), ?2)",
                (session, row.trim_end()),
            )
            .unwrap();
    }
}
