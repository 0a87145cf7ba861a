//! Sessions in an agent's SQLite database, which OpenClaw 2026.8 and later use. The database is opened read-only, while
//! the gateway may run.
//!
//! A row is a line of JSONL. So a session is read as a JSONL file: its rows in order, with a newline after each.
//! OpenClaw writes the same bytes to a file when a session is deleted.

use std::collections::HashSet;
use std::io::Read;
use std::ops::RangeInclusive;
use std::rc::Rc;

use ruzstd::decoding::StreamingDecoder;

use crate::host::Fault;

use super::host::{Cell, Cells, StoreHost};

/// Supported versions of the schema. The first is of OpenClaw 2026.8.2, the last of 2026.9.6; both were verified.
const KNOWN_VERSIONS: RangeInclusive<i64> = 19..=23;
/// Number of sessions that a query lists.
const LISTED_AT_ONCE: usize = 32;
/// Maximum size of the result of a query for small rows, in bytes.
const SMALL: usize = 1024 * 1024;
/// Maximum size of a decompressed row, in bytes.
const MAX_ROW: u64 = 256 * 1024 * 1024;

/// A session in a database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// The session's id.
    pub id: String,
    /// The session's key, if the database has it.
    pub key: Option<String>,
}

/// A row of a transcript, as stored.
#[derive(Debug)]
pub struct StoredRow {
    /// The row's number in the session.
    pub number: i64,
    text: Cell,
    packed: Cell,
}

/// An agent's open database.
#[derive(Debug)]
pub struct Database {
    host: Rc<dyn StoreHost>,
    /// The database's path.
    pub path: String,
    rows: String,
    lengths: String,
    archived: Vec<String>,
}

impl Drop for Database {
    fn drop(&mut self) {
        self.host.close(&self.path);
    }
}

const SESSION_KEY: &str = "SELECT session_key FROM session_windows WHERE session_id = ?";

impl Database {
    /// Opens a database; `None` if it is missing, or if a gateway is still creating it.
    ///
    /// # Errors
    /// If the database cannot be read, or its schema has an unsupported version.
    pub fn open(host: Rc<dyn StoreHost>, path: &str) -> Result<Option<Self>, Fault> {
        if host.stat(path)?.is_none() {
            return Ok(None);
        }
        let mut database = Self {
            host,
            path: path.to_owned(),
            rows: String::new(),
            lengths: String::new(),
            archived: Vec::new(),
        };
        if !database.is_begun()? {
            return Ok(None);
        }
        let columns = database.check_schema()?;
        let has = |column: &'static str| {
            if columns.contains(column) {
                column
            } else {
                "NULL"
            }
        };
        let (packed, size) = (has("event_zstd"), has("event_utf8_bytes"));
        let is_utf8 = database.first("PRAGMA encoding", &[])?.and_then(Cell::text);
        // A BLOB avoids decoding the text to a JavaScript string and encoding it again.
        let json = match is_utf8.as_deref() {
            Some("UTF-8") => "CAST(event_json AS BLOB)",
            _ => "event_json",
        };
        let bytes = format!("coalesce({size}, length(CAST(event_json AS BLOB)))");
        let from = "FROM transcript_events WHERE session_id = ? AND seq > ? ORDER BY seq";
        database.rows = format!("SELECT seq, {json}, {packed}, {size} AS bytes {from}");
        database.lengths = format!("SELECT seq, {bytes} {from} LIMIT 256");
        for table in [
            "session_transcript_archives",
            "session_transcript_cold_archives",
        ] {
            if !database.columns_of(table)?.is_empty() {
                let query = format!("SELECT 1 FROM {table} WHERE session_id = ? LIMIT 1");
                database.archived.push(query);
            }
        }
        Ok(Some(database))
    }

    fn query(&self, sql: &str, values: &[Cell], most_bytes: usize) -> Result<Vec<Cells>, Fault> {
        self.host.query(&self.path, sql, values, most_bytes)
    }

    fn first(&self, sql: &str, values: &[Cell]) -> Result<Option<Cell>, Fault> {
        let rows = self.query(sql, values, SMALL)?;
        Ok(rows
            .into_iter()
            .next()
            .and_then(|row| row.into_iter().next()))
    }

    /// Whether the database is complete. A gateway is still creating a database without a version and without a row.
    fn is_begun(&self) -> Result<bool, Fault> {
        let has = |sql| self.first(sql, &[]).map(|first| first.is_some());
        Ok(self.version()? != 0
            || has("SELECT 1 FROM sqlite_schema WHERE name = 'transcript_events'")?
                && has("SELECT 1 FROM transcript_events LIMIT 1")?)
    }

    fn version(&self) -> Result<i64, Fault> {
        let version = self.first("PRAGMA user_version", &[])?;
        Ok(version.and_then(|version| version.integer()).unwrap_or(0))
    }

    /// Checks the schema. Returns the columns of `transcript_events`.
    fn check_schema(&self) -> Result<HashSet<String>, Fault> {
        let version = self.version()?;
        if !KNOWN_VERSIONS.contains(&version) {
            let (first, last) = KNOWN_VERSIONS.into_inner();
            return Err(format!(
                "{} has schema version {version}; {first} to {last} are known, so it is not read",
                self.path
            ));
        }
        let columns = self.columns_of("transcript_events")?;
        let needed = ["session_id", "seq", "event_json"];
        match needed.iter().find(|column| !columns.contains(**column)) {
            None => Ok(columns),
            Some(column) => Err(format!(
                "{} has no transcript_events.{column}, so it is not read",
                self.path
            )),
        }
    }

    fn columns_of(&self, table: &str) -> Result<HashSet<String>, Fault> {
        let sql = "SELECT name FROM pragma_table_info(?)";
        let rows = self.query(sql, &[Cell::Text(table.to_owned())], SMALL)?;
        let names = rows.into_iter().flatten();
        Ok(names.filter_map(Cell::text).collect())
    }

    /// The next sessions with rows after this id, in the order of their ids.
    ///
    /// # Errors
    /// SQLite's error.
    pub fn sessions_after(&self, id: &str) -> Result<Vec<Session>, Fault> {
        // Each step uses the index, so the cost does not depend on the number of rows of a session.
        let next = "SELECT min(session_id) FROM transcript_events WHERE session_id >";
        let sql = format!(
            "WITH RECURSIVE ids(id) AS (
               {next} ?
               UNION ALL SELECT ({next} ids.id) FROM ids WHERE ids.id IS NOT NULL LIMIT {LISTED_AT_ONCE})
             SELECT id, (SELECT session_key FROM session_windows WHERE session_id = id)
             FROM ids WHERE id IS NOT NULL"
        );
        let rows = self.query(&sql, &[Cell::Text(id.to_owned())], SMALL)?;
        let session = |row: Cells| {
            let mut cells = row.into_iter();
            Some(Session {
                id: cells.next()?.text()?,
                key: cells.next().and_then(Cell::text),
            })
        };
        Ok(rows.into_iter().filter_map(session).collect())
    }

    /// A session's key.
    ///
    /// # Errors
    /// SQLite's error.
    pub fn key_of(&self, id: &str) -> Result<Option<String>, Fault> {
        let key = self.first(SESSION_KEY, &[Cell::Text(id.to_owned())])?;
        Ok(key.and_then(Cell::text))
    }

    /// Whether a session's rows were archived: to a file that may not exist yet, or to cold storage.
    ///
    /// # Errors
    /// SQLite's error.
    pub fn has_archived(&self, id: &str) -> Result<bool, Fault> {
        for sql in &self.archived {
            if self.first(sql, &[Cell::Text(id.to_owned())])?.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The rows of a session after row `after` (-1 for all), up to the row at which their size reaches `most` bytes.
    ///
    /// # Errors
    /// SQLite's error.
    pub fn rows(&self, session: &str, after: i64, most: usize) -> Result<Vec<StoredRow>, Fault> {
        let values = [Cell::Text(session.to_owned()), Cell::Integer(after)];
        let rows = self.query(&self.rows, &values, most)?;
        let row = |cells: Cells| {
            let mut cells = cells.into_iter();
            Some(StoredRow {
                number: cells.next()?.integer()?,
                text: cells.next()?,
                packed: cells.next()?,
            })
        };
        Ok(rows.into_iter().filter_map(row).collect())
    }

    /// The number of the session's row that ends at an offset in bytes; `None` if no row ends there.
    ///
    /// # Errors
    /// SQLite's error.
    pub fn row_ending_at(&self, session: &str, offset: u64) -> Result<Option<i64>, Fault> {
        let (mut end, mut last) = (0, -1);
        loop {
            let values = [Cell::Text(session.to_owned()), Cell::Integer(last)];
            let rows = self.query(&self.lengths, &values, SMALL)?;
            if rows.is_empty() {
                return Ok(None);
            }
            for row in rows {
                let number = |at: usize| row.get(at).and_then(Cell::integer);
                end += number(1).unwrap_or(0) as u64 + 1;
                last = number(0).unwrap_or(i64::MAX);
                if end >= offset {
                    return Ok((end == offset).then_some(last));
                }
            }
        }
    }
}

impl StoredRow {
    /// Appends the row's text to `out`.
    ///
    /// # Errors
    /// If the row's compressed text is corrupt or too large.
    pub fn append_to(self, out: &mut Vec<u8>) -> Result<(), Fault> {
        match (self.text, self.packed) {
            (Cell::Text(text), _) => out.extend_from_slice(text.as_bytes()),
            (Cell::Blob(text), _) => out.extend_from_slice(&text),
            (_, Cell::Blob(packed)) => unpack(&packed, out)?,
            _ => {}
        }
        Ok(())
    }
}

fn unpack(packed: &[u8], out: &mut Vec<u8>) -> Result<(), Fault> {
    let mut decoder = StreamingDecoder::new(packed).map_err(|error| error.to_string())?;
    let end = out.len() as u64;
    let mut text = decoder.by_ref().take(MAX_ROW);
    text.read_to_end(out).map_err(|error| error.to_string())?;
    if out.len() as u64 - end == MAX_ROW {
        return Err(format!("a row has more than {MAX_ROW} bytes"));
    }
    Ok(())
}
