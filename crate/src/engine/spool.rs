//! The spool: a process that does not own the journal appends its frames to its own files in `spool/`. The journal's
//! owner reads these files, and removes them when their writer is done with them.

use std::collections::HashMap;
use std::rc::Rc;

use super::Engine;
use super::disk::PAUSE_MS;
use crate::domain::observation::Observation;
use crate::domain::time::Now;
use crate::engine::log::Level;
use crate::host::{Fault, FileEntry, Host};
use crate::journal::{self, FRAME_HEADER, Frame, MAX_PAYLOAD, Reader, format_v1};
use crate::lease::owner::{Writer, spool_names};
use crate::sources::Event;

/// The folder, and the prefix of the names of its files' bookmarks.
pub(super) const FOLDER: &str = "spool/";
/// Maximum number of bytes that are read at once.
const MOST_AT_ONCE: usize = 256 * 1024;
/// Maximum length of a frame, in bytes. Bytes beyond it without a valid frame are corrupt.
const MOST_FRAME: usize = MAX_PAYLOAD + FRAME_HEADER;
/// Maximum size of all files of a writer, in bytes. It is reached only if the owner does not read.
const MOST_BYTES: u64 = 16 * 1024 * 1024;
/// Maximum size of a file, in bytes. The plugin writes no larger file.
const MOST_FILE: u64 = 2 * MOST_BYTES;
/// A writer begins a new file at this size, in bytes.
const FILE_BYTES: usize = 1024 * 1024;
/// Maximum size of a writer's unwritten frames, in bytes.
const MOST_PENDING: usize = 8 * 1024 * 1024;
/// A file of a writer on another machine is abandoned after this time without a change, in ms.
const ABANDONED_MS: u64 = 3_600_000;
/// Maximum number of faults that a look logs.
const MOST_NAMED: usize = 5;

/// This process's spool files.
#[derive(Debug)]
pub(super) struct Spool {
    /// Prefix and suffix of the files' names: `{prefix}{number}{suffix}`.
    name: (String, String),
    number: u32,
    /// Size of the current file, in bytes.
    bytes: usize,
    /// Unwritten frames.
    pending: Vec<u8>,
    /// Number of dropped frames.
    pub(super) dropped: u64,
}

impl Spool {
    /// Continues with the last file of this process, if an earlier engine of it wrote one: the owner removes the earlier
    /// files at any time.
    fn begin(host: &dyn Host, pending: Vec<u8>) -> Self {
        let name = spool_names(host);
        // Without a list it appends to its first file, whatever that has by now.
        let files = host.list(FOLDER.trim_end_matches('/')).unwrap_or_default();
        let own = files
            .iter()
            .filter(|file| file.name.starts_with(&name.0) && file.name.ends_with(&name.1));
        let numbered =
            own.filter_map(|file| Some((Writer::of(&file.name)?.number, file.bytes as usize)));
        let (number, bytes) = numbered.max().unwrap_or_default();
        Self {
            name,
            number,
            bytes,
            pending,
            dropped: 0,
        }
    }

    /// Adds a frame for the owner. A frame beyond [`MOST_PENDING`] is dropped and counted.
    pub(super) fn tell(&mut self, frame: &Frame) {
        let before = self.pending.len();
        journal::append_frame(&mut self.pending, frame);
        if self.pending.len() > MOST_PENDING {
            self.pending.truncate(before);
            self.dropped += 1;
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    fn flush(&mut self, host: &dyn Host) -> Result<(), Fault> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let own = |file: &FileEntry| file.name.starts_with(&self.name.0);
        let files = host.list(FOLDER.trim_end_matches('/'))?;
        let held: u64 = files
            .iter()
            .filter(|file| own(file))
            .map(|file| file.bytes)
            .sum();
        if held + self.pending.len() as u64 > MOST_BYTES {
            self.dropped += Reader::within(&self.pending).count() as u64;
            self.pending.clear();
            return Ok(());
        }
        // The owner removes a file when a later file exists and this one is read.
        if self.bytes > 0 && self.bytes + self.pending.len() > FILE_BYTES {
            self.number += 1;
            self.bytes = 0;
        }
        let (prefix, suffix) = &self.name;
        let path = format!("{FOLDER}{prefix}{}{suffix}", self.number);
        host.append(&path, &self.pending, None, false)?;
        self.bytes += self.pending.len();
        self.pending.clear();
        Ok(())
    }
}

impl Engine {
    /// Writes to the spool from now on, since another process owns the journal. The ledger's unwritten frames come first.
    pub fn become_spool(&mut self, host: Rc<dyn Host>) {
        let pending = self.journal.take_facts();
        self.disk.spool = Some(Spool::begin(&*host, pending));
        self.disk.host = Some(host);
    }

    pub(super) fn flush_spool(&mut self, host: &dyn Host, now: Now) -> bool {
        // Only the owner writes the journal.
        self.journal.discard();
        let Some(spool) = &mut self.disk.spool else {
            return true;
        };
        let result = spool.flush(host);
        if spool.dropped > 0 {
            let text = "the process that owns the journal has not read what this one sees for too long: model calls \
                        are lost; restart the gateway";
            self.log.add_once(Level::Warn, text.to_owned());
        }
        self.counts.dropped_spool_full = spool.dropped;
        self.counts.journal_error = result.err();
        let Some(why) = &self.counts.journal_error else {
            self.disk.failed_until = None;
            return true;
        };
        let text = format!("what the journal's owner is to be told cannot be written ({why})");
        self.log.add_about(Level::Warn, "spool", text, now.mono_ms);
        self.disk.failed_until = Some(now.mono_ms + PAUSE_MS);
        false
    }

    /// Reads the new frames of other processes' spool files. Returns whether there was anything to do. A file is
    /// removed when it is read to its end, its frames are journalled, and its writer has ended or has begun a later
    /// file. An unreadable file is logged and delays no other file.
    pub fn take_spools(&mut self, now: Now) -> bool {
        let Some(host) = self.disk.host.clone() else {
            return false;
        };
        if self.disk.failed_until.is_some() || self.disk.spool.is_some() {
            return false;
        }
        let files = match host.list(FOLDER.trim_end_matches('/')) {
            Ok(files) => files,
            Err(fault) => {
                let text = format!("what other processes saw cannot be read ({fault})");
                self.log.add_about(Level::Warn, "spool", text, now.mono_ms);
                return false;
            }
        };
        self.disk
            .seen
            .retain(|name| files.iter().any(|file| file.name == name));
        let mut newest: HashMap<&str, u32> = HashMap::new();
        for writer in files.iter().filter_map(|file| Writer::of(&file.name)) {
            let known = newest.entry(writer.token).or_default();
            *known = writer.number.max(*known);
        }
        let mut something = false;
        let mut faults = Vec::new();
        for file in &files {
            let Some(writer) = Writer::of(&file.name) else {
                continue;
            };
            let newest = newest.get(writer.token).copied();
            let is_followed = newest.is_some_and(|newest| newest > writer.number);
            match self.take_file(&*host, file, (&writer, is_followed), now) {
                Ok(had) => something |= had,
                Err(fault) => faults.push(format!("{fault}: it is left out; remove it")),
            }
        }
        let more = faults.len().saturating_sub(MOST_NAMED);
        faults.truncate(MOST_NAMED);
        if more > 0 {
            faults.push(format!("{FOLDER} holds {more} more such files"));
        }
        // A fault is logged when it appears, not at each look.
        for fault in &faults {
            if !self.disk.seen_faults.contains(fault) {
                self.log.add(Level::Warn, fault.clone(), now.mono_ms);
            }
        }
        self.disk.seen_faults = faults;
        something
    }

    fn take_file(
        &mut self,
        host: &dyn Host,
        file: &FileEntry,
        (writer, is_followed): (&Writer, bool),
        now: Now,
    ) -> Result<bool, Fault> {
        let FileEntry {
            name, bytes, fault, ..
        } = file;
        if let Some(fault) = fault {
            return Err(fault.clone());
        }
        if *bytes > MOST_FILE {
            return Err(format!(
                "{FOLDER}{name} holds {bytes} bytes, more than any process writes"
            ));
        }
        // Checked before the read: a writer that has ended by now appends nothing after the read.
        let is_abandoned = self.disk.seen.ms(name, &file.stamp, now.mono_ms) > ABANDONED_MS;
        let is_done = is_followed || !writer.lives(host).unwrap_or(!is_abandoned);
        let path = [FOLDER, name].concat();
        let mut most = MOST_AT_ONCE;
        let mut something = false;
        loop {
            let from = self.spool_offset(name);
            let bytes = host.read(&path, from as u64, most)?.unwrap_or_default();
            if self.take_spool(name, &bytes, now) > 0 {
                something = true;
            } else if bytes.len() == most && most < MOST_FRAME {
                most = 2 * MOST_FRAME;
            } else if is_done && self.flush(now) {
                host.remove(&path)?;
                self.forget_spool(name, !bytes.is_empty());
                return Ok(true);
            } else {
                return Ok(something);
            }
        }
    }

    /// Takes in bytes of another process's file from [`Engine::spool_offset`] on. Returns the number of bytes that are
    /// processed; an incomplete last frame is not.
    pub fn take_spool(&mut self, name: &str, bytes: &[u8], now: Now) -> usize {
        let mut reader = Reader::within(bytes);
        let mut frames = Vec::new();
        for (_, payload) in reader.by_ref() {
            frames.extend(format_v1::frame(payload));
        }
        let end = match reader.end() {
            // No frame is that long, so the beginning is corrupt.
            0 if bytes.len() > MOST_FRAME => {
                self.counts.journal_corrupt += 1;
                bytes.len() - MOST_FRAME
            }
            end => end,
        };
        self.journal.begin_together();
        for frame in frames {
            let seen = match frame {
                Frame::Seen(_, observation) => *observation,
                Frame::Facts(facts) => {
                    self.sessions.learn(*facts);
                    continue;
                }
                Frame::Record(record) => {
                    self.append_record(record, now);
                    continue;
                }
                Frame::Passed(path) => {
                    self.counts.uncounted.add(path);
                    continue;
                }
                _ => continue,
            };
            self.counts.spooled += 1;
            self.store.told_at = Some(now.mono_ms);
            let observation = Observation {
                elsewhere: true,
                ..seen
            };
            self.take(Event::Call(Box::new(observation)), now);
        }
        if end > 0 {
            let before = self.spool_offset(name);
            self.bookmark(&[FOLDER, name].concat(), &(before + end).to_string());
        }
        self.journal.end_together();
        self.note_event(now);
        end
    }

    /// The offset up to which another process's file is read, in bytes.
    pub fn spool_offset(&self, name: &str) -> usize {
        let mark = self.bookmarks.get(&[FOLDER, name].concat());
        mark.and_then(|mark| mark.parse().ok()).unwrap_or(0)
    }

    /// Removes the bookmark of a deleted file; `torn` counts its unreadable end as corrupt.
    fn forget_spool(&mut self, name: &str, torn: bool) {
        self.counts.journal_corrupt += u64::from(torn);
        self.bookmark(&[FOLDER, name].concat(), "");
    }
}
