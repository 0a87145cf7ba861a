//! Sessions in the database of an agent, which OpenClaw 2026.8 and later keep. It is opened read-only and never changed;
//! the gateway may run.
//!
//! A row is a line of what would be the JSONL file, and so a session is read as if it were one: its rows in their order,
//! a newline behind each. OpenClaw itself writes it like that when the session is deleted.

use std::collections::HashSet;
use std::io::Read;
use std::ops::RangeInclusive;
use std::rc::Rc;

use ruzstd::decoding::StreamingDecoder;

use crate::host::Fault;

use super::host::{Cell, Cells, StoreHost};

/// The versions of the schema whose first and last were looked at: 2026.8.2's and 2026.9.6's.
const KNOWN_VERSIONS: RangeInclusive<i64> = 19..=23;
/// How many sessions are listed at a time.
const LISTED_AT_ONCE: usize = 32;
/// The most bytes of an answer that has a few small rows.
const SMALL: usize = 1024 * 1024;
/// The largest row, unpacked, in bytes.
const MAX_ROW: u64 = 256 * 1024 * 1024;

/// A session in a database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// Its id.
    pub id: String,
    /// Its key.
    pub key: Option<String>,
}

/// A row, as it is stored.
#[derive(Debug)]
pub struct StoredRow {
    /// Its number in the session.
    pub number: i64,
    text: Cell,
    packed: Cell,
}

/// One agent's database, open.
#[derive(Debug)]
pub struct Database {
    host: Rc<dyn StoreHost>,
    /// Where it is.
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
    /// Opens a database; `None` where it is missing, or a gateway has made its file and has not got further.
    ///
    /// # Errors
    /// Where it cannot be read, or its schema is not known.
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
        // SQLite hands out the bytes as they are: a text would be decoded and encoded again.
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

    /// Whether there may be something to read: without a version and without a row, the gateway is still at it.
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

    /// Looks at the schema; the columns of the rows' table.
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

    /// Some sessions that have rows, in the order of their ids, behind this one.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn sessions_after(&self, id: &str) -> Result<Vec<Session>, Fault> {
        // From one session to the next by the index, however many rows each has.
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
    /// What SQLite says.
    pub fn key_of(&self, id: &str) -> Result<Option<String>, Fault> {
        let key = self.first(SESSION_KEY, &[Cell::Text(id.to_owned())])?;
        Ok(key.and_then(Cell::text))
    }

    /// Whether a session's rows were archived: into a file that may not be there yet, or into cold storage.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn has_archived(&self, id: &str) -> Result<bool, Fault> {
        for sql in &self.archived {
            if self.first(sql, &[Cell::Text(id.to_owned())])?.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The rows of a session behind one (-1 for all), until they weigh so many bytes.
    ///
    /// # Errors
    /// What SQLite says.
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

    /// The number of the session's row that ends at an offset, if one does.
    ///
    /// # Errors
    /// What SQLite says.
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
    /// Appends its text.
    ///
    /// # Errors
    /// Where it is packed and broken.
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
