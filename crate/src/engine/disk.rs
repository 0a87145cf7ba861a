//! The engine's journal on disk: what is appended, and when it is written.

use std::collections::HashMap;
use std::iter::once_with;
use std::rc::Rc;

use super::spool::Spool;
use super::{Engine, MAX_WAITING, MAX_WAITING_WITHOUT_DISK};
use crate::activity::records::{Record, Written};
use crate::delivery::collector::OUTLET;
use crate::domain::call::ModelCall;
use crate::domain::time::Now;
use crate::engine::log::Level;
use crate::host::{Fault, Host};
use crate::journal::Frame;
use crate::journal::Writes;
use crate::journal::files::{Op, SUFFIX, Write};
use crate::journal::log::Kind;
use crate::lease::Lease;
use crate::lease::unchanged::Unchanged;
use crate::sources::Event;
use crate::sources::facts::Scalar;

/// Folder of the journal's files.
pub(super) const JOURNAL: &str = "journal/";
/// A snapshot is written to this file and then renamed.
const SNAPSHOT: &str = "journal/snapshot.new";
/// How long changes of an event are gathered before they are written, in ms.
const GATHER_MS: u64 = 250;
/// The same for changes without an event, such as cursors, in ms. After a crash the acknowledged entries
/// after the last written cursor are sent again.
const GATHER_LEFT_MS: u64 = 1_000;
/// Tolerance of due times, in ms: a timer may fire a moment early.
const SOON_MS: u64 = 20;
/// Pause before a failed disk, or an unreadable file, is tried again, in ms.
pub(super) const PAUSE_MS: u64 = 5_000;

/// The state of the disk.
#[derive(Debug, Default)]
pub(super) struct Disk {
    /// Access to the files; without it everything is in memory only.
    pub(super) host: Option<Rc<dyn Host>>,
    /// When a failed disk is tried again, by the monotonic clock in ms. Until then everything stays in memory.
    pub(super) failed_until: Option<u64>,
    /// Whether the journal's folder could not be listed at the start.
    pub(super) is_unlisted: bool,
    /// When changes are written next, by the monotonic clock in ms.
    pub(super) flush_at: Option<u64>,
    /// The lease of the folder; without one no other process may want the folder.
    pub(super) lease: Option<Lease>,
    /// This process's spool, if another process owns the journal.
    pub(super) spool: Option<Spool>,
    /// Whether another process took the journal over.
    is_lost: bool,
    /// The expected end of each file that was appended to, in bytes.
    ends: HashMap<String, u64>,
    /// Files that are still to be deleted. They survive a failed write, since the next process would recover them.
    owed: Vec<String>,
    /// Failed tries of the file that is read back next, and when it is tried again, by the monotonic clock in ms.
    pub(super) unreadable: (u32, u64),
    /// Since when other processes' spool files have not changed.
    pub(super) seen: Unchanged,
    /// Faults of other processes' spool files at the last look.
    pub(super) seen_faults: Vec<Fault>,
}

impl Disk {
    /// Whether this process writes the journal and the disk works.
    pub(super) fn takes(&self) -> bool {
        self.host.is_some() && self.spool.is_none() && self.failed_until.is_none()
    }

    /// Schedules a write within this many ms.
    pub(super) fn flush_within(&mut self, ms: u64, now: Now) {
        let at = now.mono_ms + ms;
        self.flush_at = Some(self.flush_at.map_or(at, |due| due.min(at)));
    }
}

impl Engine {
    /// Appends a finished call to the journal and the queue. It is written before it is sent. `write_1h` is the number of
    /// cache-write tokens that are kept for an hour.
    pub(super) fn append_call(&mut self, call: ModelCall, write_1h: u64, now: Now) {
        self.spend(&call, now);
        if self.disk.spool.is_some() {
            return;
        }
        self.tally(&call, write_1h, now);
        if let Some(exposition) = &mut self.exposition {
            exposition.count(&call, &self.settings.naming);
        }
        self.counts.from_store += u64::from(call.stored);
        let takes = self.disk.takes();
        let most = match takes {
            true => MAX_WAITING,
            false => MAX_WAITING_WITHOUT_DISK,
        };
        // New calls go to memory even if older calls are only on disk: a long backlog must not delay new calls.
        let has_room = self.calls.len() < most;
        if !has_room && !takes {
            return self.calls.dropped("queue_full", 1);
        }
        self.counts.journalled += u64::from(takes);
        let (entry, written_at) = self.journal.call(&call, has_room);
        if has_room {
            let written_at = if takes { written_at } else { 0 };
            self.calls.push(call, entry, written_at, now.mono_ms);
        }
        self.shrink(now);
    }

    /// Appends another record, or spools it for the process that owns the journal.
    pub(super) fn report(&mut self, record: &Record, now: Now) {
        let record = record.written();
        if let Some(spool) = &mut self.disk.spool {
            return spool.tell(&Frame::Record(record));
        }
        self.append_record(record, now);
    }

    pub(super) fn append_record(&mut self, record: Written, now: Now) {
        // Without AgentWatch only a collector has a use for records, and for traces alone.
        if self.settings.is_off && (self.collector.is_none() || record.trace().is_none()) {
            return;
        }
        let takes = self.disk.takes();
        let has_room = self.records.has_room();
        if !has_room && !takes {
            return self.records.dropped.add("queue_full");
        }
        let (entry, written_at) = self.journal.record(&record, has_room);
        if has_room {
            let written_at = if takes { written_at } else { 0 };
            self.records.push(record, entry, written_at, now.mono_ms);
        }
        self.shrink(now);
    }

    fn shrink(&mut self, now: Now) {
        let (calls, records, unread) = self.journal.shrink();
        self.calls.dropped("disk_full", calls);
        self.records.dropped.add_some("disk_full", records);
        if let Some(collector) = &mut self.collector {
            let unread = unread.get(OUTLET).copied();
            collector.gave_up(unread.unwrap_or_default(), &mut self.log, now.mono_ms);
        }
    }

    pub(super) fn acknowledge_taken(&mut self) {
        // Sending is off: acknowledge everything that is durable.
        if self.settings.is_off && self.disk.takes() {
            self.calls.acknowledge_durable();
            self.records.acknowledge_durable();
        }
        self.journal
            .acknowledge_calls(&self.calls.take_acknowledged());
        let records = self.records.take_acknowledged();
        self.journal.acknowledge(Kind::Records, records);
        for (call, status) in self.calls.take_refused() {
            let naming = &self.settings.naming;
            self.journal
                .refuse(&crate::delivery::agentwatch::refused(&call, naming, status));
        }
    }

    /// Takes the pending changes; `hand_out` gets the pieces of a snapshot.
    fn take_writes(&mut self, hand_out: &mut dyn FnMut(&[u8])) -> Writes {
        let (ledger, sessions) = (&self.matcher, &self.sessions);
        let (bookmarks, reconciled_ms) = (&self.bookmarks, self.reconciled_ms);
        let sums = self.history.rows().map(|row| Frame::Tallied(Box::new(row)));
        let marks = bookmarks
            .iter()
            .map(|(file, mark)| Frame::Bookmark(file.clone(), mark.clone()));
        let frames = ledger.frames().chain(sessions.frames()).chain(marks);
        let frames = frames.chain(sums);
        let frames = frames.chain(reconciled_ms.map(Frame::Reconciled));
        // Encoded when they are asked for: most writes need no snapshot, and these hold the state of every session.
        let (braking, incidents) = (&self.braking, &self.incidents);
        let states = once_with(|| braking.frame()).chain(once_with(|| incidents.frame()));
        let snapshot = frames.chain(states.flatten());
        self.journal.take_writes(snapshot, hand_out)
    }

    /// Writes due changes, and reads entries back while memory has room.
    pub(super) fn write_due(&mut self, now: Now) {
        if self.disk.host.is_none() {
            return self.journal.discard();
        }
        let is_due = |at: Option<u64>| at.is_some_and(|at| at <= now.mono_ms + SOON_MS);
        // Calls and records are sent only after they are written.
        let is_urgent = self.disk.takes() && self.journal.has_entries();
        if is_urgent || is_due(self.disk.flush_at) || is_due(self.disk.failed_until) {
            self.flush(now);
        } else if self.disk.flush_at.is_none() && self.disk.takes() && self.journal.has_changes() {
            self.disk.flush_within(GATHER_LEFT_MS, now);
        }
        self.read_back(now);
    }

    /// When the next write or read is due, by the monotonic clock in ms.
    pub(super) fn next_write(&self) -> Option<u64> {
        let (tries, again_at) = self.disk.unreadable;
        // 0: memory has room, so the read is due now.
        let load = self.to_load().map(|_| if tries > 0 { again_at } else { 0 });
        let due = [self.disk.flush_at, self.disk.failed_until, load];
        due.into_iter().flatten().min()
    }

    /// Schedules the write of an event's changes.
    pub(super) fn note_event(&mut self, now: Now) {
        if self.disk.host.is_some() {
            self.disk.flush_within(GATHER_MS, now);
        }
    }

    /// Writes all changes now, also those that are gathered for longer: before another engine goes on. Returns whether the
    /// journal is on disk.
    pub fn flush_all(&mut self, now: Now) -> bool {
        self.keep_incidents(now);
        let is_written = self.flush(now);
        self.look_for_collector(now, true);
        is_written
    }

    /// Writes all changes now. Returns whether they are on disk; after a failure sending continues from memory, and the
    /// write is tried again later.
    pub fn flush(&mut self, now: Now) -> bool {
        self.disk.flush_at = None;
        let Some(host) = self.disk.host.clone() else {
            return true;
        };
        if self.disk.spool.is_some() {
            return self.flush_spool(&*host, now);
        }
        if self.disk.failed_until.is_some_and(|at| at > now.mono_ms) {
            // `journal_anew` appends everything again when the disk works.
            self.journal.discard();
            return false;
        }
        if !self.may_write(&*host) {
            self.disk.failed_until = Some(now.mono_ms + PAUSE_MS);
            self.journal.discard();
            return false;
        }
        let lease = self.disk.lease.as_mut();
        let result = match lease.map_or(Ok(true), |lease| lease.owns(&*host)) {
            Ok(true) => self.write(&*host, now),
            Ok(false) => {
                self.disk.is_lost = true;
                // There is no write to try again.
                self.disk.failed_until = None;
                return false;
            }
            Err(fault) => Err(fault),
        };
        match result {
            Ok(()) => true,
            Err(fault) => {
                self.disk_failed(fault, now);
                false
            }
        }
    }

    fn write(&mut self, host: &dyn Host, now: Now) -> Result<(), Fault> {
        if self.disk.failed_until.take().is_some() {
            self.journal_anew();
        }
        if self.journal.has_changes() || !self.disk.owed.is_empty() {
            let upto = self.write_changes(host, now)?;
            self.written(upto);
            if let Some(collector) = &mut self.collector {
                collector.wake(now.mono_ms);
            }
        }
        self.write_allowances(host)?;
        if self.counts.journal_error.take().is_some() {
            let text = "the journal is written again".to_owned();
            self.log.add(Level::Info, text, now.mono_ms);
        }
        Ok(())
    }

    fn write_changes(&mut self, host: &dyn Host, now: Now) -> Result<u64, Fault> {
        let durable = self.settings.survives_power_cut;
        let mut snapshot: Option<Result<(), Fault>> = None;
        let mut snapshot_bytes = 0;
        let Writes { upto, list } = self.take_writes(&mut |piece| {
            snapshot_bytes += piece.len() as u64;
            let begun = snapshot.take().unwrap_or_else(|| host.remove(SNAPSHOT));
            snapshot = Some(begun.and_then(|()| host.append(SNAPSHOT, piece, None, false)));
        });
        let mut snapshot = snapshot.unwrap_or(Ok(()));
        let mut list = list.into_iter();
        for Write { file, op } in list.by_ref() {
            let path = [JOURNAL, &file].concat();
            let done = match op {
                Op::Append(bytes) => self.append(host, &path, &bytes, durable),
                Op::Replace(bytes) => host
                    .remove(SNAPSHOT)
                    .and_then(|()| host.append(SNAPSHOT, &bytes, None, durable))
                    .and_then(|()| host.rename(SNAPSHOT, &path, durable)),
                Op::Snapshot => {
                    self.disk.ends.insert(path.clone(), snapshot_bytes);
                    std::mem::replace(&mut snapshot, Ok(()))
                        // Once for all pieces: each may take a slow disk 100 ms.
                        .and_then(|()| host.append(SNAPSHOT, &[], None, durable))
                        .and_then(|()| host.rename(SNAPSHOT, &path, durable))
                }
                Op::Rename(to) => host.rename(&path, &[JOURNAL, to].concat(), durable),
                Op::Delete => {
                    self.disk.owed.push(file);
                    Ok(())
                }
            };
            if done.is_err() {
                let undone = list.filter(|write| write.op == Op::Delete);
                self.disk.owed.extend(undone.map(|write| write.file));
                return done.map(|()| 0);
            }
        }
        // The files that replace these are written by now.
        for file in std::mem::take(&mut self.disk.owed) {
            let path = [JOURNAL, &file].concat();
            self.disk.ends.remove(&path);
            if let Err(fault) = host.remove(&path) {
                // It costs room and nothing else: the cursors and the snapshot supersede it.
                let text = format!(
                    "{path} is no longer needed and cannot be removed ({fault}); remove it"
                );
                self.log
                    .add_about(Level::Warn, "removal", text, now.mono_ms);
                self.disk.owed.push(file);
            }
        }
        Ok(upto)
    }

    fn append(
        &mut self,
        host: &dyn Host,
        path: &str,
        bytes: &[u8],
        durable: bool,
    ) -> Result<(), Fault> {
        let end = self.disk.ends.get(path).copied();
        host.append(path, bytes, end, durable)?;
        if path.ends_with(SUFFIX) {
            let before = end.unwrap_or(0);
            self.disk
                .ends
                .insert(path.to_owned(), before + bytes.len() as u64);
        }
        Ok(())
    }

    /// Whether no change waits to be written; `true` without a working disk.
    pub fn is_kept(&self) -> bool {
        match &self.disk.spool {
            Some(spool) => spool.is_empty(),
            None => !self.disk.takes() || !self.journal.has_changes(),
        }
    }

    /// Whether pending calls are on disk for the next process.
    pub fn keeps(&self) -> bool {
        self.disk.takes()
    }

    /// Whether another process took the journal over. Then this process writes and sends nothing.
    pub(super) fn is_lost(&self) -> bool {
        self.disk.is_lost
    }

    /// Makes the next writes replace the ledger's file by a snapshot.
    pub fn compact(&mut self) {
        self.journal.want_snapshot();
    }

    fn written(&mut self, upto: u64) {
        self.calls.written(upto);
        self.records.written(upto);
    }

    /// Handles a failed write, which may be partly on disk: everything is sent from memory.
    pub(super) fn disk_failed(&mut self, why: Fault, now: Now) {
        self.disk.failed_until = Some(now.mono_ms + PAUSE_MS);
        self.disk.ends.clear();
        self.written(u64::MAX);
        self.journal.discard();
        let (fails, mend) = match self.disk.is_unlisted {
            false => ("written", "make room, or make the folder writable"),
            true => (
                "listed",
                "make its folder readable, and restart the gateway",
            ),
        };
        let text = format!(
            "the journal cannot be {fails} ({why}): calls are sent from memory, and those that wait are lost if \
             the gateway is killed; {mend}"
        );
        self.counts.journal_error = Some(why);
        self.log
            .add_about(Level::Warn, "journal", text, now.mono_ms);
    }

    /// Appends all calls and records in memory to new files, and acknowledges their old entries.
    fn journal_anew(&mut self) {
        self.journal.write_anew();
        let journal = &mut self.journal;
        // 0: these calls may still be sent before they are written.
        let old = self
            .calls
            .journal_anew(|call| (journal.call(call, true).0, 0));
        journal.acknowledge(Kind::Calls, old);
        self.calls.wait_for_disk();
        let old = self
            .records
            .journal_anew(|record| journal.record(record, true).0);
        journal.acknowledge(Kind::Records, old);
    }

    /// Takes in rows of the session store. `read` is the name of the bookmark and its new place; `None` leaves the
    /// bookmark as it is. Rows and bookmark are journalled atomically. Rows of `history` are from before the
    /// first process counted, and are not matched.
    pub fn take_rows(
        &mut self,
        source: usize,
        rows: &[Scalar],
        read: (&str, Option<&str>),
        history: bool,
        now: Now,
    ) {
        self.journal.begin_together();
        for row in rows {
            match self.read(source, row.list().to_vec(), now) {
                Ok(Event::Call(row)) if history => self.take_history(*row, now),
                Ok(event) => self.take(event, now),
                Err(_) => {}
            }
        }
        let (file, mark) = read;
        if let Some(mark) = mark {
            self.bookmark(file, mark);
        }
        self.journal.end_together();
        self.note_event(now);
    }

    /// Sets a file's bookmark; an empty mark removes it.
    pub fn bookmark(&mut self, file: &str, mark: &str) {
        let frame = Frame::Bookmark(file.to_owned(), mark.to_owned());
        self.journal.note(&frame);
        match mark.is_empty() {
            true => self.bookmarks.swap_remove(file),
            false => self.bookmarks.insert(file.to_owned(), mark.to_owned()),
        };
    }

    /// The bookmarks without those of the spool: name and mark.
    pub fn bookmarks(&self) -> impl Iterator<Item = (&str, &str)> {
        let marks = self.bookmarks.iter();
        let own = marks.filter(|(file, _)| !file.starts_with(super::spool::FOLDER));
        own.map(|(file, mark)| (file.as_str(), mark.as_str()))
    }

    /// Time up to which the session store is matched, in ms since 1970; `None` if it never was.
    pub fn reconciled_ms(&self) -> Option<u64> {
        self.reconciled_ms
    }

    /// Sets the time up to which all rows of the session store are matched or counted, in ms since 1970.
    pub fn set_reconciled(&mut self, until_ms: u64) {
        self.reconciled_ms = Some(until_ms);
        self.matcher.reconciled(until_ms);
        self.journal.note(&Frame::Reconciled(until_ms));
    }

    /// Appends a frame to the spool, if another process owns the journal.
    pub(super) fn tell_owner(&mut self, frame: impl FnOnce() -> Frame) {
        if let Some(spool) = &mut self.disk.spool {
            spool.tell(&frame());
        }
    }
}
