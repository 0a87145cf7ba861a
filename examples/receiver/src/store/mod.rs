//! The SQLite store: one connection that writes, a few that read beside it.
//!
//! Everything here blocks; callers are on blocking threads.

pub mod read;
pub mod stats;
mod write;

use crate::clock::Micros;
use crate::config::Database;
use crate::records::Batch;
use rusqlite::{Connection, OpenFlags, TransactionBehavior};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

pub use write::Repeat;

/// `PRAGMA application_id` of our files: "AWRx".
const APPLICATION_ID: i32 = 0x4157_5278;
/// `PRAGMA user_version`: raised when the schema changes.
const SCHEMA_VERSION: i32 = 2;
/// What version 2 has and version 1 had not.
const FROM_1: &str = "ALTER TABLE model_usage ADD COLUMN ttft_ms REAL;
    ALTER TABLE model_usage ADD COLUMN request_id TEXT;
    ALTER TABLE model_usage ADD COLUMN response_model TEXT;";
/// Reading connections kept open.
const READERS_KEPT: usize = 4;
/// Statements kept prepared for each connection.
const STATEMENTS_KEPT: usize = 64;
/// How long to wait for another process that is writing to the same file.
const BUSY: Duration = Duration::from_secs(5);

/// A database of records.
pub struct Store {
    writer: Mutex<Connection>,
    /// `None` for a database in memory, which only its one connection can see.
    readers: Option<Readers>,
}

struct Readers {
    path: PathBuf,
    idle: Mutex<Vec<Connection>>,
}

impl Store {
    /// Opens the database, and makes its file (mode 0600) and tables where they do not exist.
    ///
    /// # Errors
    /// One sentence that names the file and says what to do.
    pub fn open(database: &Database) -> Result<Self, String> {
        match database {
            Database::Memory => {
                let writer = Connection::open_in_memory().and_then(prepare);
                let writer =
                    writer.map_err(|e| format!("cannot open a database in memory: {e}"))?;
                Ok(Self {
                    writer: Mutex::new(writer),
                    readers: None,
                })
            }
            Database::File(path) => {
                let say = |reason: String| format!("--db {}: {reason}", path.display());
                create_private(path)
                    .map_err(|e| say(format!("{e}: give a file in a folder you can write")))?;
                let connection = Connection::open(path).map_err(|e| say(e.to_string()))?;
                check_ours(&connection).map_err(say)?;
                let writer = prepare(connection).map_err(|e| say(e.to_string()))?;
                let readers = Readers {
                    path: path.clone(),
                    idle: Mutex::default(),
                };
                Ok(Self {
                    writer: Mutex::new(writer),
                    readers: Some(readers),
                })
            }
        }
    }

    /// Stores a batch in one transaction: all of it or nothing. Records without a time of their own get `arrival`.
    ///
    /// # Errors
    /// What SQLite says; then nothing was stored.
    pub fn write(&self, batch: &Batch, arrival: Micros, repeat: Repeat) -> rusqlite::Result<()> {
        let mut writer = lock(&self.writer);
        let transaction = writer.transaction_with_behavior(TransactionBehavior::Immediate)?;
        write::insert(&transaction, batch, arrival, repeat)?;
        transaction.commit()
    }

    /// Runs `query` on a connection that sees every write which has returned.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn read<T>(
        &self,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<T> {
        let Some(readers) = &self.readers else {
            return query(&lock(&self.writer));
        };
        let idle = lock(&readers.idle).pop();
        let connection = match idle {
            Some(connection) => connection,
            None => readers.connect()?,
        };
        let outcome = query(&connection);
        let mut idle = lock(&readers.idle);
        if idle.len() < READERS_KEPT {
            idle.push(connection);
        }
        outcome
    }
}

impl Readers {
    fn connect(&self) -> rusqlite::Result<Connection> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&self.path, flags)?;
        connection.busy_timeout(BUSY)?;
        connection.set_prepared_statement_cache_capacity(STATEMENTS_KEPT);
        Ok(connection)
    }
}

/// A panic while the lock was held cannot leave the connection half-way: its transaction rolled back on drop.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn prepare(connection: Connection) -> rusqlite::Result<Connection> {
    connection.busy_timeout(BUSY)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS_KEPT);
    connection.pragma_update(None, "journal_mode", "WAL")?;
    // In WAL mode NORMAL keeps the file whole through a power cut; at worst the last moments are lost.
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    // Fewer, larger checkpoints: 16 MiB of log between two.
    connection.pragma_update(None, "wal_autocheckpoint", 4096)?;
    connection.pragma_update(None, "cache_size", -32_768)?;
    let version: i32 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if version == 1 {
        connection.execute_batch(FROM_1)?;
    }
    connection.execute_batch(include_str!("schema.sql"))?;
    connection.pragma_update(None, "application_id", APPLICATION_ID)?;
    connection.pragma_update(None, "user_version", SCHEMA_VERSION)?;
    Ok(connection)
}

/// Refuses a file that another program, or a later version of this one, has written.
fn check_ours(connection: &Connection) -> Result<(), String> {
    let pragma = |name: &str| connection.pragma_query_value(None, name, |row| row.get::<_, i32>(0));
    let tables = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| {
        row.get::<_, i64>(0)
    });
    let read = |e: rusqlite::Error| format!("{e}: this is no database of ours, give another path");
    let (tables, application) = (
        tables.map_err(read)?,
        pragma("application_id").map_err(read)?,
    );
    let version = pragma("user_version").map_err(read)?;
    if tables > 0 && application != APPLICATION_ID {
        return Err("this database belongs to another program: give another path".into());
    }
    if version > SCHEMA_VERSION {
        return Err(format!(
            "schema version {version} is newer than {SCHEMA_VERSION}: use a newer receiver"
        ));
    }
    Ok(())
}

/// Makes the file before SQLite does, readable by its owner only; the log beside it inherits the mode.
fn create_private(path: &Path) -> std::io::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    options.create(true).append(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path).map(drop)
}
