//! The functions of the host: files of the plugin's own folder, by synchronous calls. Paths are relative to that
//! folder, with `/`. Under Node the functions are in `js-shim/src/base/host-files.ts`; tests have hosts that fail.

use std::fmt::Debug;

use serde::Deserialize;

use crate::domain::time::Now;

/// The reason of a failed call, for the log.
pub type Fault = String;

/// A file of a folder.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FileEntry {
    /// Its name in the folder.
    pub name: String,
    /// Size in bytes.
    pub bytes: u64,
    /// Differs after every change of the file.
    pub stamp: String,
    /// Its date, in ms since 1970.
    pub modified_ms: u64,
    /// Why it is unreadable; the engine treats it as absent.
    pub fault: Option<Fault>,
}

/// The process that runs this.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct Process {
    /// Its id.
    pub pid: u32,
    /// The name of its machine.
    pub host: String,
    /// Its start, in ms since 1970.
    #[serde(rename = "started")]
    pub started_ms: u64,
    /// Its random name, the same for all engines of the process.
    pub token: String,
}

/// Files of one folder, and processes.
pub trait Host: Debug {
    /// All files of a folder, sorted by name, without files that are being written (`….new`). Empty where it is missing.
    ///
    /// # Errors
    /// Where the folder exists and is unreadable.
    fn list(&self, folder: &str) -> Result<Vec<FileEntry>, Fault>;

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

    /// A file or folder without following a symbolic link; `None` where it is missing.
    fn stat(&self, path: &str) -> Option<FileEntry>;

    /// Creates a file with its complete text, and its folder; both survive a power cut. Of several processes one succeeds.
    /// Returns whether this one did; `false` where the file is there.
    ///
    /// # Errors
    /// The file system's error.
    fn create(&self, path: &str, text: &str) -> Result<bool, Fault>;

    /// Replaces a file, so that a reader finds the old text or the new one.
    ///
    /// # Errors
    /// The file system's error.
    fn replace(&self, path: &str, text: &str) -> Result<(), Fault>;

    /// Sets a file's date, in ms since 1970.
    ///
    /// # Errors
    /// The file system's error.
    fn touch(&self, path: &str, wall_ms: u64) -> Result<(), Fault>;

    /// Creates a folder. Of several processes one succeeds.
    ///
    /// # Errors
    /// The file system's error; also where anything has that name.
    fn make_folder(&self, path: &str) -> Result<(), Fault>;

    /// Removes an empty folder, if it is there. Anything else of that name gets another one.
    ///
    /// # Errors
    /// The file system's error.
    fn remove_folder(&self, path: &str) -> Result<(), Fault>;

    /// The whole path, for the log.
    fn path(&self, path: &str) -> String;

    /// This process.
    fn process(&self) -> Process;

    /// Whether a process of this machine has this id.
    fn runs(&self, pid: u32) -> bool;

    /// Both clocks.
    fn now(&self) -> Now;
}
