//! What is kept on disk, and when it is written.

use std::collections::HashMap;
use std::rc::Rc;

use super::spool::Spool;
use super::{Engine, MAX_WAITING, MAX_WAITING_WITHOUT_DISK};
use crate::activity::records::{Record, Written};
use crate::domain::call::ModelCall;
use crate::domain::time::Now;
use crate::engine::log::Level;
use crate::host::{Fault, Host};
use crate::journal::Frame;
use crate::journal::Writes;
use crate::journal::files::{Op, SUFFIX, Write};
use crate::journal::log::Kind;
use crate::sources::Event;
use crate::sources::facts::Scalar;

/// Where the journal's files are.
pub(super) const JOURNAL: &str = "journal/";
/// Where a snapshot is written before it takes its file's place.
const SNAPSHOT: &str = "journal/snapshot.new";
/// How long changes are gathered before they are written, in ms.
const GATHER_MS: u64 = 250;
/// The same for marks of what has left: without them it would be sent again under its guard.
const GATHER_LEFT_MS: u64 = 1_000;
/// What is due this soon is done now, in ms: timers fire a moment early or late.
const SOON_MS: u64 = 20;
/// How long a disk that failed, or a file that cannot be read, is left alone, in ms.
pub(super) const PAUSE_MS: u64 = 5_000;

/// How the disk does.
#[derive(Debug, Default)]
pub(super) struct Disk {
    /// Where files are; without one everything lives as long as the process.
    pub(super) host: Option<Rc<dyn Host>>,
    /// When it is tried again since it failed: everything stays in memory until then.
    pub(super) failed_until: Option<u64>,
    /// When changes are to be written.
    pub(super) flush_at: Option<u64>,
    /// Another process owns the journal: what this one sees goes into files that the owner reads.
    pub(super) spool: Option<Spool>,
    /// Another process took the journal over.
    is_lost: bool,
    /// Where the files end that were appended to.
    ends: HashMap<String, u64>,
    /// Files to remove that a failure left: nobody asks for them again, and a process that finds them reads them.
    owed: Vec<String>,
    /// How often the file that is next to be read could not be, and when it is tried again.
    pub(super) unreadable: (u32, u64),
    /// Files of other processes, since when they are as they are.
    pub(super) seen: super::spool::Seen,
    /// Files of other processes that could not be read at the last look, and why.
    pub(super) seen_faults: Vec<Fault>,
}

impl Disk {
    /// Whether it takes changes of the journal.
    pub(super) fn takes(&self) -> bool {
        self.host.is_some() && self.spool.is_none() && self.failed_until.is_none()
    }

    /// Changes are to be written within so many ms.
    pub(super) fn flush_within(&mut self, ms: u64, now: Now) {
        let at = now.mono_ms + ms;
        self.flush_at = Some(self.flush_at.map_or(at, |due| due.min(at)));
    }
}

impl Engine {
    /// A finished call is on disk before it is sent.
    pub(super) fn append_call(&mut self, call: ModelCall, now: Now) {
        if self.disk.spool.is_some() {
            return;
        }
        self.counts.from_store += u64::from(call.stored);
        let takes = self.disk.takes();
        let most = match takes {
            true => MAX_WAITING,
            false => MAX_WAITING_WITHOUT_DISK,
        };
        // Not only what is on disk already: a long backlog must not hold up what is new.
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

    /// Any other record waits likewise.
    pub(super) fn report(&mut self, record: &Record, now: Now) {
        let record = record.written();
        if let Some(spool) = &mut self.disk.spool {
            return spool.tell(&Frame::Record(record));
        }
        self.append_record(record, now);
    }

    pub(super) fn append_record(&mut self, record: Written, now: Now) {
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
            collector.gave_up(unread, &mut self.log, now.mono_ms);
        }
    }

    pub(super) fn acknowledge_taken(&mut self) {
        // Who follows the journal has what is on disk; nobody else waits for it.
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

    /// What to write now, in order; `hand_out` gets the pieces of a snapshot.
    fn take_writes(&mut self, hand_out: &mut dyn FnMut(&[u8])) -> Writes {
        let (ledger, sessions) = (&self.matcher, &self.sessions);
        let (bookmarks, reconciled_ms) = (&self.bookmarks, self.reconciled_ms);
        let marks = bookmarks
            .iter()
            .map(|(file, mark)| Frame::Bookmark(file.clone(), mark.clone()));
        let frames = ledger.frames().chain(sessions.frames()).chain(marks);
        let snapshot = frames.chain(reconciled_ms.map(Frame::Reconciled));
        self.journal.take_writes(snapshot, hand_out)
    }

    /// Writes what is due, and reads back what there is room for.
    pub(super) fn write_due(&mut self, now: Now) {
        if self.disk.host.is_none() {
            return self.journal.discard();
        }
        let is_due = |at: Option<u64>| at.is_some_and(|at| at <= now.mono_ms + SOON_MS);
        // What is to be sent waits for that.
        let is_urgent = self.disk.takes() && self.journal.has_entries();
        if is_urgent || is_due(self.disk.flush_at) || is_due(self.disk.failed_until) {
            self.flush(now);
        } else if self.disk.flush_at.is_none() && self.disk.takes() && self.journal.has_changes() {
            self.disk.flush_within(GATHER_LEFT_MS, now);
        }
        self.read_back(now);
    }

    /// When something is to be written, or read back.
    pub(super) fn next_write(&self) -> Option<u64> {
        let (tries, again_at) = self.disk.unreadable;
        // There is room in memory for what waits on disk.
        let load = self.to_load().map(|_| if tries > 0 { again_at } else { 0 });
        let due = [self.disk.flush_at, self.disk.failed_until, load];
        due.into_iter().flatten().min()
    }

    /// An event was taken in: what came of it is written a moment later.
    pub(super) fn note_event(&mut self, now: Now) {
        if self.disk.host.is_some() {
            self.disk.flush_within(GATHER_MS, now);
        }
    }

    /// Writes everything now. Whether it is on disk: where not, sending goes on from memory, and it is tried again later.
    pub fn flush(&mut self, now: Now) -> bool {
        self.disk.flush_at = None;
        let Some(host) = self.disk.host.clone() else {
            return true;
        };
        if self.disk.spool.is_some() {
            return self.flush_spool(&*host, now);
        }
        if self.disk.failed_until.is_some_and(|at| at > now.mono_ms) {
            // It is written anew when the disk takes changes again.
            self.journal.discard();
            return false;
        }
        let result = match host.owns() {
            Ok(true) => self.write(&*host, now),
            Ok(false) => {
                self.disk.is_lost = true;
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
            let upto = self.write_changes(host)?;
            self.written(upto);
            if let Some(collector) = &mut self.collector {
                collector.wake(now.mono_ms);
            }
        }
        if self.counts.journal_error.take().is_some() {
            let text = "the journal is written again".to_owned();
            self.log.add(Level::Info, text, now.mono_ms);
        }
        Ok(())
    }

    fn write_changes(&mut self, host: &dyn Host) -> Result<u64, Fault> {
        let durable = self.settings.survives_power_cut;
        let mut snapshot: Option<Result<(), Fault>> = None;
        let mut snapshot_bytes = 0;
        let Writes { upto, list } = self.take_writes(&mut |piece| {
            snapshot_bytes += piece.len() as u64;
            let begun = snapshot.take().unwrap_or_else(|| host.remove(SNAPSHOT));
            snapshot = Some(begun.and_then(|()| host.append(SNAPSHOT, piece, None, durable)));
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
        // What replaces these files is there by now.
        while let Some(file) = self.disk.owed.first().cloned() {
            let path = [JOURNAL, &file].concat();
            self.disk.ends.remove(&path);
            host.remove(&path)?;
            self.disk.owed.remove(0);
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

    /// Whether everything that was told is on disk, as far as it can be.
    pub fn is_kept(&self) -> bool {
        match &self.disk.spool {
            Some(spool) => spool.is_empty(),
            None => !self.disk.takes() || !self.journal.has_changes(),
        }
    }

    /// Whether what is open is kept for whoever comes next.
    pub fn keeps(&self) -> bool {
        self.disk.takes()
    }

    /// Whether another process took the journal over: nothing is written or sent any more.
    pub(super) fn is_lost(&self) -> bool {
        self.disk.is_lost
    }

    /// Lets the next writes replace the ledger's file by a snapshot.
    pub fn compact(&mut self) {
        self.journal.want_snapshot();
    }

    fn written(&mut self, upto: u64) {
        self.calls.written(upto);
        self.records.written(upto);
    }

    /// The disk took none or only a part of the last changes. Sending goes on from memory.
    fn disk_failed(&mut self, why: Fault, now: Now) {
        self.disk.failed_until = Some(now.mono_ms + PAUSE_MS);
        self.disk.ends.clear();
        self.written(u64::MAX);
        self.journal.discard();
        let text = format!(
            "the journal cannot be written ({why}): calls are sent from memory, and those that wait are lost if \
             the gateway is killed; make room, or make the folder writable"
        );
        self.counts.journal_error = Some(why);
        self.log
            .add_about(Level::Warn, "journal", text, now.mono_ms);
    }

    /// Everything that is needed is written anew.
    fn journal_anew(&mut self) {
        self.journal.write_anew();
        let journal = &mut self.journal;
        // It was allowed to be sent without the disk, and still is.
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

    /// Takes in some rows of the session store, and how far it was read with them. Rows of `history` were written
    /// before anybody listened, and are matched with nothing.
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

    /// Remembers how far a file was read, together with what was read from it; an empty mark forgets the file.
    pub fn bookmark(&mut self, file: &str, mark: &str) {
        let frame = Frame::Bookmark(file.to_owned(), mark.to_owned());
        self.journal.note(&frame);
        match mark.is_empty() {
            true => self.bookmarks.swap_remove(file),
            false => self.bookmarks.insert(file.to_owned(), mark.to_owned()),
        };
    }

    /// How far each file of the session store was read.
    pub fn bookmarks(&self) -> impl Iterator<Item = (&str, &str)> {
        let marks = self.bookmarks.iter();
        let own = marks.filter(|(file, _)| !file.starts_with(super::spool::FOLDER));
        own.map(|(file, mark)| (file.as_str(), mark.as_str()))
    }

    /// Until when the session store is matched, in ms since 1970; `None` where it never was.
    pub fn reconciled_ms(&self) -> Option<u64> {
        self.reconciled_ms
    }

    /// The session store was read up to there: everything in it is matched or counted.
    pub fn set_reconciled(&mut self, until_ms: u64) {
        self.reconciled_ms = Some(until_ms);
        self.matcher.reconciled(until_ms);
        self.journal.note(&Frame::Reconciled(until_ms));
    }

    /// What a process that does not own the journal tells the one that does.
    pub(super) fn tell_owner(&mut self, frame: impl FnOnce() -> Frame) {
        if let Some(spool) = &mut self.disk.spool {
            spool.tell(&frame());
        }
    }
}
