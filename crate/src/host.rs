//! What the engine asks of its host: files of the plugin's own folder, by synchronous calls. Paths are relative to that
//! folder, with `/`. Under Node the functions are in `js-shim/src/base/host-files.ts`; tests have hosts that fail.

use std::fmt::Debug;

/// Why a call failed, in words for the log.
pub type Fault = String;

/// A file of a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileEntry {
    /// Its name in the folder.
    pub name: String,
    /// How large it is.
    pub bytes: u64,
    /// Changes whenever the file does.
    pub stamp: String,
    /// Why it cannot be read: it counts for absent.
    pub fault: Option<Fault>,
}

/// Files of one folder, and whose they are.
pub trait Host: Debug {
    /// All files of a folder, sorted by name, but for those that are being written (`….new`). Empty where it is missing.
    fn list(&self, folder: &str) -> Vec<FileEntry>;

    /// At most so many bytes of a file, from an offset on; `None` where the file is missing.
    ///
    /// # Errors
    /// Where it is there and cannot be read.
    fn read(&self, path: &str, from: u64, most: usize) -> Result<Option<Vec<u8>>, Fault>;

    /// Appends to a file, all of it or nothing; makes the file, and its folder, where they are missing. `durable` bytes
    /// survive a power cut.
    ///
    /// # Errors
    /// What the file system says, and where the file does not end at `end`: somebody removed or changed it.
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
    /// What the file system says.
    fn rename(&self, from: &str, to: &str, durable: bool) -> Result<(), Fault>;

    /// Removes a file, if it is there.
    ///
    /// # Errors
    /// What the file system says.
    fn remove(&self, path: &str) -> Result<(), Fault>;

    /// Whether this process owns the folder. Asked before each change of the journal.
    ///
    /// # Errors
    /// Where it could not be made the owner, since the folder cannot be written.
    fn owns(&self) -> Result<bool, Fault>;

    /// Whether the process lives that writes this file of `spool/`; `None` where this machine cannot tell.
    fn lives(&self, spool_file: &str) -> Option<bool>;
}
