//! Access to the session store, by synchronous calls that only read. `js-shim/src/sessions/host.ts` implements it for
//! Node; tests implement hosts that fail.

use std::fmt::Debug;

use serde::Deserialize;

use crate::host::Fault;

/// Size and time of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FileStat {
    /// The file's size, in bytes.
    pub bytes: u64,
    /// Time of the last write, in ms since 1970.
    pub modified_ms: u64,
}

/// A value of a database row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cell {
    /// NULL.
    Null,
    /// An integer.
    Integer(i64),
    /// A text.
    Text(String),
    /// Bytes.
    Blob(Vec<u8>),
}

impl Cell {
    /// The integer; `None` for other values.
    pub fn integer(&self) -> Option<i64> {
        match self {
            Self::Integer(number) => Some(*number),
            _ => None,
        }
    }

    /// The text; `None` for other values.
    pub fn text(self) -> Option<String> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }
}

/// The values of a row, in the order of the query's columns.
pub type Cells = Vec<Cell>;

/// Files and databases of the session store. Paths are absolute, with `/`. A fault is a sentence for the log that
/// begins with the path.
pub trait StoreHost: Debug {
    /// The names in a folder, in any order; empty if the folder is missing.
    ///
    /// # Errors
    /// If the folder exists and cannot be listed.
    fn names(&self, folder: &str) -> Result<Vec<String>, Fault>;

    /// The path with symbolic links resolved; `None` if it is missing or inaccessible.
    fn real_path(&self, path: &str) -> Option<String>;

    /// A file's size and time, symbolic links followed; `None` if it is missing.
    ///
    /// # Errors
    /// The file system's error.
    fn stat(&self, path: &str) -> Result<Option<FileStat>, Fault>;

    /// Opens a regular file, symbolic links followed. The open file stays the same if its path is reused.
    ///
    /// # Errors
    /// If the file is missing, is no regular file, or cannot be opened. Never blocks on a named pipe.
    fn open(&self, path: &str) -> Result<Box<dyn OpenFile>, Fault>;

    /// Rows of a database, which is opened read-only at the first query. Ends with the row at which the size of all
    /// rows reaches `most_bytes`. A row's size is its column `bytes`, or else the size of its texts and blobs.
    ///
    /// # Errors
    /// SQLite's error, or that this Node has no SQLite.
    fn query(
        &self,
        database: &str,
        sql: &str,
        values: &[Cell],
        most_bytes: usize,
    ) -> Result<Vec<Cells>, Fault>;

    /// Closes a database if it is open.
    fn close(&self, database: &str);
}

/// An open file. Dropping it closes it.
pub trait OpenFile: Debug {
    /// Reads bytes from an offset on. Returns their number; 0 at the end.
    ///
    /// # Errors
    /// The file system's error.
    fn read(&self, from: u64, into: &mut [u8]) -> Result<usize, Fault>;
}
