//! Reads from disk: the journal at the start, later the calls and records that are not in memory.

use std::rc::Rc;

use super::disk::{JOURNAL, PAUSE_MS};
use super::{AWAITED, Engine};
use crate::domain::time::Now;
use crate::engine::log::Level;
use crate::host::{FileEntry, Host};
use crate::journal::Found;
use crate::journal::log::Kind;
use crate::journal::{Foreign, Frame};

/// Calls are read back while memory has fewer calls than this.
const LOAD_BELOW: usize = 512;
/// Maximum number of bytes that are read of a file. The journal's files are far smaller.
const MOST_BYTES: usize = 64 * 1024 * 1024;
/// Maximum number of retries of an unreadable file.
const READ_TRIES: u32 = 12;
/// Maximum number of files that the log or the status names.
const MOST_NAMED: usize = 5;

impl Engine {
    /// Opens the journal as its owner and recovers its files. Call before the first observation. Unreadable files are
    /// logged and skipped. A folder that cannot be listed is not written: see [`Engine::may_write`].
    pub fn open(&mut self, host: Rc<dyn Host>, now: Now) {
        let mut found = Found::default();
        let mut faults = Vec::new();
        let files = match host.list(JOURNAL.trim_end_matches('/')) {
            Ok(files) => files,
            Err(fault) => {
                self.disk.host = Some(host);
                self.disk.is_unlisted = true;
                return self.disk_failed(fault, now);
            }
        };
        for file in files {
            let path = [JOURNAL, &file.name].concat();
            match file
                .fault
                .map_or_else(|| host.read(&path, 0, MOST_BYTES), Err)
            {
                Ok(bytes) => {
                    let bytes = bytes.unwrap_or_default();
                    self.journal.recover(&file.name, &bytes, &mut found);
                }
                Err(fault) => {
                    self.journal.leave_out(&file.name, file.bytes);
                    faults.push(fault);
                }
            }
        }
        for fault in faults.into_iter().take(MOST_NAMED) {
            let mend = "it is left out; see that it is a file of the gateway's user, or remove it";
            self.log
                .add(Level::Warn, format!("{fault}: {mend}"), now.mono_ms);
        }
        self.disk.host = Some(host);
        self.recovered(found, now);
    }

    /// Whether the journal can be written as far as its files are known. Where they could not be listed at the start, new
    /// files would get the numbers of old ones, whose calls the cursors then pass over. So nothing is written until the
    /// folder turns out to hold no journal, or the next process recovers it.
    pub(super) fn may_write(&mut self, host: &dyn Host) -> bool {
        if self.disk.is_unlisted {
            let is_file = |file: &FileEntry| self.journal.has_file(&file.name);
            let files = host.list(JOURNAL.trim_end_matches('/'));
            self.disk.is_unlisted = files.map_or(true, |files| files.iter().any(is_file))
        }
        !self.disk.is_unlisted
    }

    fn recovered(&mut self, mut found: Found, now: Now) {
        self.journal.recovered(&mut found);
        self.counts.journal_corrupt += found.corrupt;
        for (file, foreign) in &found.foreign {
            self.keep_aside([JOURNAL, file].concat(), *foreign, now);
        }
        for frame in found.frames {
            self.restore(frame, now);
        }
        for id in found.final_calls {
            self.matcher.restore_final(id);
            self.history.is_final(id);
            self.braking.is_final(id);
        }
        self.history.recovered();
        self.braking.recovered();
        if self.braking.begin_new(&self.history, now) {
            self.journal.want_snapshot();
        }
        if let Some(awaited) = self.bookmarks.get(AWAITED) {
            self.matcher.restore_awaited(awaited);
        }
        if found.corrupt > 0 {
            let text = format!(
                "{} pieces of the journal were torn or corrupt and are left out",
                found.corrupt
            );
            self.log.add(Level::Warn, text, now.mono_ms);
        }
    }

    /// Reports a file of a newer version in the log and the status. The file is kept for that version.
    pub(super) fn keep_aside(&mut self, path: String, foreign: Foreign, now: Now) {
        let text = format!(
            "{path} has format {}, which this version does not read; it is left as it is for the newer version that wrote it",
            foreign.version
        );
        self.log.add(Level::Warn, text, now.mono_ms);
        if self.counts.newer_files.len() < MOST_NAMED {
            self.counts.newer_files.push(path);
        }
    }

    fn restore(&mut self, frame: Frame, now: Now) {
        match frame {
            Frame::Seen(id, observation) => {
                self.prices.want_all(&observation);
                self.matcher.restore(id, *observation, now);
            }
            Frame::MatchRecord(record) => self.matcher.restore_match_record(*record, now),
            Frame::Told {
                until_ms,
                forgotten_ms,
                keys,
            } => self.matcher.restore_told(until_ms, forgotten_ms, &keys),
            Frame::Closed(ids) => {
                for id in ids {
                    self.matcher.restore_final(id);
                    self.history.is_final(id);
                    self.braking.is_final(id);
                }
            }
            Frame::Tally(id, entry) => self.history.recover(id, *entry),
            Frame::Tallied(row) => self.history.put(&row),
            frame @ (Frame::Spent(..) | Frame::Lift(_) | Frame::Allowances(_)) => {
                self.braking.recover(frame);
            }
            Frame::Counted(session, model, counted) => {
                self.sessions.restore(&session, &model, &counted);
            }
            Frame::Bookmark(file, mark) if mark.is_empty() => {
                self.bookmarks.swap_remove(&file);
            }
            Frame::Bookmark(file, mark) => {
                self.bookmarks.insert(file, mark);
            }
            Frame::Reconciled(until_ms) => self.set_reconciled(until_ms),
            Frame::Incidents(state) => {
                self.counts.journal_corrupt += u64::from(!self.incidents.restore(&state));
            }
            Frame::Begin
            | Frame::Gone(..)
            | Frame::Cursor(..)
            | Frame::Record(_)
            | Frame::Facts(_)
            | Frame::Together(_)
            | Frame::Passed(_) => {}
        }
    }

    /// The segment to read back next; `None` without room in memory.
    pub(super) fn to_load(&self) -> Option<String> {
        if !self.disk.takes() {
            return None;
        }
        let calls = (self.calls.len() < LOAD_BELOW).then(|| self.journal.to_load(Kind::Calls));
        let records = self
            .records
            .has_room()
            .then(|| self.journal.to_load(Kind::Records));
        calls.flatten().or_else(|| records.flatten())
    }

    /// Reads segments back while memory has room.
    pub(super) fn read_back(&mut self, now: Now) {
        while let (Some(host), Some(file)) = (self.disk.host.clone(), self.to_load()) {
            let (tries, again_at) = self.disk.unreadable;
            if tries > 0 && now.mono_ms < again_at {
                return;
            }
            let bytes = match host.read(&[JOURNAL, &file].concat(), 0, MOST_BYTES) {
                Ok(bytes) => bytes.unwrap_or_default(),
                // The file exists, so it is tried again later.
                Err(fault) if tries < READ_TRIES => {
                    if tries == 0 {
                        let text = format!("{file} of the journal cannot be read ({fault})");
                        self.log.add(Level::Warn, text, now.mono_ms);
                    }
                    self.disk.unreadable = (tries + 1, now.mono_ms + PAUSE_MS);
                    return;
                }
                // After the last retry its entries are counted as lost.
                Err(_) => Vec::new(),
            };
            self.disk.unreadable = (0, 0);
            self.load(&file, &bytes, now);
        }
    }

    fn load(&mut self, file: &str, bytes: &[u8], now: Now) {
        match self.journal.kind_of(file) {
            Some(Kind::Calls) => {
                let (calls, lost) = self.journal.load_calls(file, bytes);
                for (call, entry) in calls {
                    self.calls.push_read_back(call, entry, now.mono_ms);
                }
                self.calls.dropped("journal_unreadable", lost);
            }
            Some(Kind::Records) => {
                let (records, lost) = self.journal.load_records(file, bytes);
                for (record, entry) in records {
                    self.records.push(record, entry, 0, now.mono_ms);
                }
                self.records.dropped.add_some("journal_unreadable", lost);
            }
            None => {}
        }
    }
}
