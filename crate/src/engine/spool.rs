//! What processes that do not own the journal tell the one that does: each appends to files of its own in `spool/`,
//! which the owner reads, and removes when their writer is done with them.

use std::collections::HashMap;

use super::Engine;
use super::disk::PAUSE_MS;
use crate::domain::observation::Observation;
use crate::domain::time::Now;
use crate::engine::log::Level;
use crate::host::{Fault, FileEntry, Host};
use crate::journal::{self, FRAME_HEADER, Frame, MAX_PAYLOAD, Reader, format_v1};
use crate::sources::Event;

/// The folder, and how the name of a bookmark begins that says how far one of its files was read.
pub(super) const FOLDER: &str = "spool/";
/// The most bytes that are taken in at once.
const MOST_AT_ONCE: usize = 256 * 1024;
/// Beyond the longest frame: a frame that is not whole within so many bytes never will be.
const MOST_FRAME: usize = MAX_PAYLOAD + FRAME_HEADER;
/// The most bytes of one writer's files; a process that writes more has an owner that reads nothing.
const MOST_BYTES: u64 = 16 * 1024 * 1024;
/// A larger file is none of the plugin's.
const MOST_FILE: u64 = 2 * MOST_BYTES;
/// A writer begins a new file behind so many bytes.
const FILE_BYTES: usize = 1024 * 1024;
/// The most bytes that a writer keeps in memory for a disk that takes nothing.
const MOST_PENDING: usize = 8 * 1024 * 1024;
/// A writer on another machine is gone when its file did not change for so long, in ms.
const ABANDONED_MS: u64 = 3_600_000;
/// How many files that cannot be read are named at a look.
const MOST_NAMED: usize = 5;

/// A process's own files.
#[derive(Debug)]
pub(super) struct Spool {
    /// How their names begin, and how they end: `{prefix}{number}{suffix}`.
    name: (String, String),
    number: u32,
    /// Bytes in the current file.
    bytes: usize,
    /// Frames that are not on disk yet.
    pending: Vec<u8>,
    /// Frames that the owner will never read.
    pub(super) dropped: u64,
}

impl Spool {
    /// A frame for the owner.
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
        let files = host.list(FOLDER.trim_end_matches('/'));
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
        // The owner removes a file that others follow as soon as it is read.
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

/// Since when files of other processes are as they are, by the monotonic clock: a file's date is of a wall clock.
#[derive(Debug, Default)]
pub(super) struct Seen(HashMap<String, (String, u64)>);

impl Seen {
    /// For how long a file has not changed, in ms; 0 at the first look.
    fn unchanged_ms(&mut self, file: &FileEntry, now: Now) -> u64 {
        match self.0.get(&file.name) {
            Some((stamp, since)) if *stamp == file.stamp => now.mono_ms.saturating_sub(*since),
            _ => {
                let seen = (file.stamp.clone(), now.mono_ms);
                self.0.insert(file.name.clone(), seen);
                0
            }
        }
    }
}

/// Who writes a file: names are `v1_{pid}_{started}_{token}_{number}_{host}`.
fn writer_of(name: &str) -> Option<(&str, u32)> {
    let mut parts = name.split('_');
    let format = parts.next()?;
    let token = parts.nth(2)?;
    let number = parts.next()?.parse().ok()?;
    (format == "v1" && !token.is_empty()).then_some((token, number))
}

impl Engine {
    /// Another process owns the journal: what this one sees goes into files of its own, which the owner reads. Their
    /// names begin and end so. What was told and is not on disk comes first.
    pub fn become_spool(&mut self, host: std::rc::Rc<dyn Host>, prefix: &str, suffix: &str) {
        self.disk.host = Some(host);
        self.disk.spool = Some(Spool {
            name: (prefix.to_owned(), suffix.to_owned()),
            number: 0,
            bytes: 0,
            pending: self.journal.take_facts(),
            dropped: 0,
        });
    }

    pub(super) fn flush_spool(&mut self, host: &dyn Host, now: Now) -> bool {
        // It is the owner's to keep.
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

    /// Takes in what other processes wrote since the last look; whether there was something. A file is removed when it
    /// is read, what it said is on disk, and its writer is gone or has begun another one. A file that cannot be read
    /// holds up no other.
    pub fn take_spools(&mut self, now: Now) -> bool {
        let Some(host) = self.disk.host.clone() else {
            return false;
        };
        if self.disk.failed_until.is_some() || self.disk.spool.is_some() {
            return false;
        }
        let files = host.list(FOLDER.trim_end_matches('/'));
        self.disk
            .seen
            .0
            .retain(|name, _| files.iter().any(|file| file.name == *name));
        let mut newest: HashMap<&str, u32> = HashMap::new();
        for (token, number) in files.iter().filter_map(|file| writer_of(&file.name)) {
            let known = newest.entry(token).or_default();
            *known = number.max(*known);
        }
        let mut something = false;
        let mut faults = Vec::new();
        for file in &files {
            let Some((token, number)) = writer_of(&file.name) else {
                continue;
            };
            let is_followed = newest.get(token).is_some_and(|newest| *newest > number);
            match self.take_file(&*host, file, is_followed, now) {
                Ok(had) => something |= had,
                Err(fault) => faults.push(format!("{fault}: it is left out; remove it")),
            }
        }
        let more = faults.len().saturating_sub(MOST_NAMED);
        faults.truncate(MOST_NAMED);
        if more > 0 {
            faults.push(format!("{FOLDER} holds {more} more such files"));
        }
        // Each is told once, and again when it has been away.
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
        is_followed: bool,
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
        // Asked before the file is read: a writer that is gone by then writes nothing behind that.
        let is_abandoned = self.disk.seen.unchanged_ms(file, now) > ABANDONED_MS;
        let is_done = is_followed || !host.lives(name).unwrap_or(!is_abandoned);
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

    /// Takes in what another process wrote into its own file, from [`Engine::spool_offset`] on: how far it was read. Its
    /// last frame may be yet to be written.
    pub fn take_spool(&mut self, name: &str, bytes: &[u8], now: Now) -> usize {
        let mut reader = Reader::within(bytes);
        let mut frames = Vec::new();
        for (_, payload) in reader.by_ref() {
            frames.extend(format_v1::frame(payload));
        }
        let end = match reader.end() {
            // No frame is that long: what stands here is none, whatever comes behind it.
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
                Frame::SeenWith(_, observation, bill) => observation.with_bill(bill),
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

    /// How far another process's file was read, in bytes.
    pub fn spool_offset(&self, name: &str) -> usize {
        let mark = self.bookmarks.get(&[FOLDER, name].concat());
        mark.and_then(|mark| mark.parse().ok()).unwrap_or(0)
    }

    /// Another process's file is read to its end and gone; `torn` where a piece of it could not be read.
    fn forget_spool(&mut self, name: &str, torn: bool) {
        self.counts.journal_corrupt += u64::from(torn);
        self.bookmark(&[FOLDER, name].concat(), "");
    }
}
