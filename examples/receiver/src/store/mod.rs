//! The SQLite store: one writing connection and a few reading ones.
//!
//! All functions block; callers run on blocking threads.

pub mod brief;
pub mod cache;
pub mod calls;
pub mod counters;
#[cfg(test)]
mod counters_test;
pub mod errors;
pub mod first;
mod histogram;
mod kept;
pub mod periods;
pub mod prompts;
pub mod query;
pub mod read;
pub mod rollup;
pub mod rows;
pub mod series;
pub mod sessions;
pub mod singles;
pub mod spending;
pub mod stats;
#[cfg(test)]
mod sums_test;
mod upgrade;
mod usage;
pub mod window;
mod write;

use crate::clock::{self, Micros};
use crate::config::Database;
use crate::records::Batch;
use agentwatch_openclaw::delivery::prometheus::counters::Counters;
use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior};
use series::{Catalog, Interner};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use upgrade::{APPLICATION_ID, SCHEMA_VERSION};

pub use write::Repeat;

/// Number of open reading connections.
const READERS_KEPT: usize = 4;
/// Number of prepared statements per connection.
const STATEMENTS_KEPT: usize = 64;
/// How long to wait for another process that is writing to the same file.
const BUSY: Duration = Duration::from_secs(5);
/// Maximum time of one reading.
pub const READ_MOST: Duration = Duration::from_secs(10);
/// Interval of the time check, in steps of SQLite's virtual machine. A step is fast, but a comparison with a pattern takes
/// up to 0.1 s, and there is one in every few steps.
const STEPS: i32 = 100;
/// Maximum length of a text that is searched for, in bytes: the time of a comparison is the product of both lengths.
pub const SEARCH_MOST: usize = 256;

/// A database of records.
pub struct Store {
    /// `None` for a database in memory, which only its single connection sees. Closed before the writer: SQLite merges
    /// the log into the file when its last connection closes, and a read-only one cannot.
    readers: Option<Readers>,
    writer: Mutex<Writer>,
    catalog: Mutex<Arc<Catalog>>,
    /// Locked for moments, never while the database works.
    counters: Mutex<Counters>,
    failed_writes: AtomicU64,
}

struct Writer {
    connection: Connection,
    interner: Interner,
}

struct Readers {
    path: PathBuf,
    idle: Mutex<Vec<Connection>>,
    /// Detects writes by any process, including this one.
    watcher: Mutex<Connection>,
}

impl Store {
    /// Opens the database and creates its file (mode 0600) and tables if they do not exist.
    ///
    /// # Errors
    /// A sentence that names the file and the fix.
    pub fn open(database: &Database) -> Result<Self, String> {
        match database {
            Database::Memory => {
                let writer = Connection::open_in_memory().and_then(Writer::prepare);
                writer
                    .and_then(|writer| Self::of(writer, None))
                    .map_err(|e| format!("cannot open a database in memory: {e}"))
            }
            Database::File(path) => {
                let say = |reason: String| format!("--db {}: {reason}", path.display());
                create_private(path)
                    .map_err(|e| say(format!("{e}: give a file in a folder you can write")))?;
                let connection = Connection::open(path).map_err(|e| say(e.to_string()))?;
                check_ours(&connection).map_err(say)?;
                let writer = Writer::prepare(connection).map_err(|e| say(e.to_string()))?;
                let watcher = connect(path).map_err(|e| say(e.to_string()))?;
                let readers = Readers {
                    path: path.clone(),
                    idle: Mutex::default(),
                    watcher: Mutex::new(watcher),
                };
                Self::of(writer, Some(readers)).map_err(|e| say(e.to_string()))
            }
        }
    }

    fn of(writer: Writer, readers: Option<Readers>) -> rusqlite::Result<Self> {
        let counters = counters::recent(&writer.connection, clock::now())?;
        Ok(Self {
            counters: Mutex::new(counters),
            writer: Mutex::new(writer),
            catalog: Mutex::default(),
            failed_writes: AtomicU64::new(0),
            readers,
        })
    }

    /// Number of requests since the start that the database could not take, such as on a full disk.
    pub fn failed_writes(&self) -> u64 {
        self.failed_writes.load(Ordering::Relaxed)
    }

    /// The counters since the start of the process.
    pub fn counters(&self) -> Counters {
        lock(&self.counters).clone()
    }

    /// Stores a batch in one transaction. Records without a time get `arrival`.
    ///
    /// # Errors
    /// The SQLite error; then nothing was stored.
    pub fn write(&self, batch: &Batch, arrival: Micros, repeat: Repeat) -> rusqlite::Result<()> {
        let mut writer = lock(&self.writer);
        let Writer {
            connection,
            interner,
        } = &mut *writer;
        let stored = connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .and_then(|transaction| {
                let added = write::insert(&transaction, interner, batch, arrival, repeat)?;
                transaction.commit().map(|()| added)
            });
        match stored {
            Ok(added) => {
                counters::add(&mut lock(&self.counters), &added);
                Ok(())
            }
            Err(error) => {
                interner.forget();
                // A repeated id is the sender's fault.
                if error.sqlite_error_code() != Some(ErrorCode::ConstraintViolation) {
                    self.failed_writes.fetch_add(1, Ordering::Relaxed);
                }
                Err(error)
            }
        }
    }

    /// A version number that changes with every write by any process.
    ///
    /// # Errors
    /// The SQLite error.
    pub fn version(&self) -> rusqlite::Result<i64> {
        match &self.readers {
            Some(readers) => {
                lock(&readers.watcher).pragma_query_value(None, "data_version", |row| row.get(0))
            }
            None => Ok(i64::try_from(lock(&self.writer).connection.total_changes()).unwrap_or(0)),
        }
    }

    /// Runs `query` on one state of the database with the series in it.
    ///
    /// # Errors
    /// The SQLite error.
    pub fn survey<T>(
        &self,
        query: impl FnOnce(&Connection, &Catalog) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<T> {
        self.read(|connection| {
            let transaction = connection.unchecked_transaction()?;
            let catalog = self.catalog_of(&transaction)?;
            query(&transaction, &catalog)
        })
    }

    fn catalog_of(&self, connection: &Connection) -> rusqlite::Result<Arc<Catalog>> {
        let mut held = lock(&self.catalog);
        if held.is_behind(connection)? {
            Arc::make_mut(&mut held).refresh(connection)?;
        }
        Ok(Arc::clone(&held))
    }

    /// Runs `query` on a connection that sees all completed writes.
    ///
    /// # Errors
    /// The SQLite error.
    pub fn read<T>(
        &self,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<T> {
        let Some(readers) = &self.readers else {
            return within(READ_MOST, &lock(&self.writer).connection, query);
        };
        let idle = lock(&readers.idle).pop();
        let connection = match idle {
            Some(connection) => connection,
            None => connect(&readers.path)?,
        };
        let outcome = within(READ_MOST, &connection, query);
        let mut idle = lock(&readers.idle);
        if idle.len() < READERS_KEPT {
            idle.push(connection);
        }
        outcome
    }
}

/// Runs `query` and interrupts it if it takes too long.
fn within<T>(
    most: Duration,
    connection: &Connection,
    query: impl FnOnce(&Connection) -> rusqlite::Result<T>,
) -> rusqlite::Result<T> {
    let end = Instant::now() + most;
    connection.progress_handler(STEPS, Some(move || Instant::now() > end))?;
    let outcome = query(connection);
    connection.progress_handler(0, None::<fn() -> bool>)?;
    outcome
}

impl Writer {
    fn prepare(mut connection: Connection) -> rusqlite::Result<Self> {
        let mut interner = Interner::default();
        connection.set_prepared_statement_cache_capacity(STATEMENTS_KEPT);
        upgrade::prepare(&mut connection, &mut interner)?;
        connection.busy_timeout(BUSY)?;
        Ok(Self {
            connection,
            interner,
        })
    }
}

/// A connection that only reads.
fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY)?;
    // Most data is read once, in order; the system caches the file.
    connection.pragma_update(None, "cache_size", -8_192)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS_KEPT);
    Ok(connection)
}

/// A panic under the lock leaves the connection usable: its transaction was rolled back on drop.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
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

/// Creates the file before SQLite does, readable by its owner only; the log beside it inherits the mode.
fn create_private(path: &Path) -> std::io::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    options.create(true).append(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENDLESS: &str =
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n";

    #[test]
    fn an_endless_reading_is_interrupted_and_the_connection_stays_usable() -> Result<(), String> {
        let store = Store::open(&Database::Memory)?;
        let connection = &lock(&store.writer).connection;
        let count = |sql: &str, most| {
            within(most, connection, |c| {
                c.query_row(sql, [], |row| row.get::<_, i64>(0))
            })
        };
        let error = count(ENDLESS, Duration::from_millis(50)).err();
        let code = error.and_then(|error| error.sqlite_error_code());
        assert_eq!(code, Some(rusqlite::ErrorCode::OperationInterrupted));
        assert_eq!(count("SELECT 7", Duration::ZERO), Ok(7));
        // Removes the time limit: writing has none.
        let many = ENDLESS.replace("FROM n)", "FROM n LIMIT 200000)");
        let counted = connection.query_row(&many, [], |row| row.get::<_, i64>(0));
        assert_eq!(counted, Ok(200_000));
        Ok(())
    }

    #[test]
    fn the_time_limit_holds_for_steps_that_take_long() -> Result<(), String> {
        use rusqlite::functions::FunctionFlags;
        use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
        let connection = Connection::open_in_memory().map_err(|error| error.to_string())?;
        let made = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&made);
        connection
            .create_scalar_function("compare", 1, FunctionFlags::SQLITE_UTF8, move |_| {
                Ok(counter.fetch_add(1, Relaxed) == 0)
            })
            .map_err(|error| error.to_string())?;
        let sql = ENDLESS.to_owned() + " WHERE compare(i)";
        let counted = within(Duration::ZERO, &connection, |c| {
            c.query_row(&sql, [], |row| row.get::<_, i64>(0))
        });
        assert!(counted.is_err());
        // A comparison with a pattern takes up to 0.1 s.
        assert!(
            made.load(Relaxed) <= 30,
            "{} comparisons",
            made.load(Relaxed)
        );
        Ok(())
    }

    #[test]
    fn lists_of_a_page_need_no_full_sort() -> Result<(), String> {
        let store = Store::open(&Database::Memory)?;
        let plans = [
            r#"SELECT "model" FROM series WHERE kind = 1 AND "agent" = '' AND "trigger" = '' AND "cost_source" = ''
                   AND "gateway" = '' AND "channel" = '' AND "job" = '' ORDER BY "model" LIMIT 500"#,
            r#"SELECT "gateway" FROM series WHERE kind = 5 AND "model" = '' AND "agent" = '' AND "trigger" = ''
                   AND "cost_source" = '' AND "channel" = '' AND "job" = '' ORDER BY "gateway" LIMIT 500"#,
            "SELECT start FROM session_hour WHERE start >= 1 AND start < 2",
            "SELECT id FROM series WHERE id > 5 AND id <= 9 AND +kind = 0",
            "SELECT series FROM usage_day WHERE kind = 1 AND start = 7 AND series = 3",
            "SELECT start FROM usage_hour WHERE kind = 6 AND start >= 1 AND start < 2",
            errors::LATEST_FAILED,
            errors::LATER,
        ];
        store
            .read(|connection| {
                for sql in plans {
                    let mut statement = connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}"))?;
                    let steps = statement.raw_query().mapped(|row| row.get::<_, String>(3));
                    let steps: Vec<String> = steps.collect::<Result<_, _>>()?;
                    let is_direct = |step: &String| {
                        step.starts_with("SEARCH") || step.contains("spans_failed_chat")
                    };
                    assert!(steps.iter().all(is_direct), "{sql}: {steps:?}");
                }
                Ok(())
            })
            .map_err(|error| error.to_string())
    }
}
