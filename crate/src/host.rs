//! The functions of the host: files of the plugin's own folder, by synchronous calls. Paths are relative to that
//! folder, with `/`. Under Node the functions are in `js-shim/src/base/host-files.ts`; tests have hosts that fail.

use std::fmt::Debug;

/// The reason of a failed call, for the log.
pub type Fault = String;

/// A file of a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileEntry {
    /// Its name in the folder.
    pub name: String,
    /// Size in bytes.
    pub bytes: u64,
    /// Differs after every change of the file.
    pub stamp: String,
    /// Why it is unreadable; the engine treats it as absent.
    pub fault: Option<Fault>,
}

/// Files of one folder, and whose they are.
pub trait Host: Debug {
    /// All files of a folder, sorted by name, without files that are being written (`….new`). Empty where it is missing.
    fn list(&self, folder: &str) -> Vec<FileEntry>;

    /// At most so many bytes of a file, from an offset on; `None` where the file is missing.
    ///
    /// # Errors
    /// Where the file exists and is unreadable.
    fn read(&self, path: &str, from: u64, most: usize) -> Result<Option<Vec<u8>>, Fault>;

    /// Appends to a file, all of it or nothing; makes the file, and its folder, where they are missing. `durable` bytes
    /// survive a power cut.
    ///
    /// # Errors
    /// The file system's error; also where the file does not end at `end`, since another process removed or changed it.
    fn append(
        &self,
        path: &str,
        bytes: &[u8],
        end: Option<u64>,
        durable: bool,
    ) -> Result<(), Fault>;

    /// Gives a file another name, in place of a file that has it; does nothing where it is missing.
    ///
    /// # Errors
    /// The file system's error.
    fn rename(&self, from: &str, to: &str, durable: bool) -> Result<(), Fault>;

    /// Removes a file, if it is there.
    ///
    /// # Errors
    /// The file system's error.
    fn remove(&self, path: &str) -> Result<(), Fault>;

    /// Whether this process owns the folder. Asked before each change of the journal.
    ///
    /// # Errors
    /// Where the folder cannot be written, so that this process cannot become the owner.
    fn owns(&self) -> Result<bool, Fault>;

    /// Whether the process that writes this file of `spool/` is alive; `None` where that is unknown.
    fn lives(&self, spool_file: &str) -> Option<bool>;
}
