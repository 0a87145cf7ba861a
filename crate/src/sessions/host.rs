//! What reading the session store asks of its host, by synchronous calls. Nothing is ever written there. Under Node the
//! functions are in `js-shim/src/sessions/host.ts`; tests have hosts that fail.

use std::fmt::Debug;

use crate::host::Fault;

/// What is known of a path without opening it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileStat {
    /// The file's size.
    pub bytes: u64,
    /// When it was last written to, in ms since 1970.
    pub modified_ms: u64,
}

/// A value of a database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cell {
    /// There is none.
    Null,
    /// A whole number.
    Integer(i64),
    /// A text.
    Text(String),
    /// Bytes.
    Blob(Vec<u8>),
}

impl Cell {
    /// The number, where it is one.
    pub fn integer(&self) -> Option<i64> {
        match self {
            Self::Integer(number) => Some(*number),
            _ => None,
        }
    }

    /// The text, where it is one.
    pub fn text(self) -> Option<String> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }
}

/// The values of one row, in the order of the query's columns.
pub type Cells = Vec<Cell>;

/// Files and databases of the session store. Paths are absolute, with `/`. A fault is a whole sentence that begins with
/// the path, for the log.
pub trait StoreHost: Debug {
    /// The names in a folder, in any order. None where the folder is missing.
    ///
    /// # Errors
    /// Where it is there and cannot be listed.
    fn names(&self, folder: &str) -> Result<Vec<String>, Fault>;

    /// The path without symbolic links; `None` where it is missing or hidden from this user.
    fn real_path(&self, path: &str) -> Option<String>;

    /// What is known of a file, symbolic links followed; `None` where it is missing.
    ///
    /// # Errors
    /// Where that cannot be told.
    fn stat(&self, path: &str) -> Result<Option<FileStat>, Fault>;

    /// Opens a regular file, symbolic links followed. It stays the same file when the path is given to another one.
    ///
    /// # Errors
    /// Where it is missing, is no regular file, or cannot be opened. Never waits for a named pipe's other end.
    fn open(&self, path: &str) -> Result<Box<dyn OpenFile>, Fault>;

    /// Rows of a database that is opened read-only at the first query. Ends with the row at which all rows together
    /// weigh `most_bytes`; a column `bytes` tells a row's weight, otherwise its texts and blobs do.
    ///
    /// # Errors
    /// What SQLite says, and where this Node has no SQLite.
    fn query(
        &self,
        database: &str,
        sql: &str,
        values: &[Cell],
        most_bytes: usize,
    ) -> Result<Vec<Cells>, Fault>;

    /// Closes a database, if it is open.
    fn close(&self, database: &str);
}

/// A file that is open; dropping it closes it.
pub trait OpenFile: Debug {
    /// Reads bytes from an offset on; how many, 0 at the end.
    ///
    /// # Errors
    /// What the file system says.
    fn read(&self, from: u64, into: &mut [u8]) -> Result<usize, Fault>;
}
