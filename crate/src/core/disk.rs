//! What is kept on disk: journalled, recovered, read back, taken over from other processes.

use super::{Core, MAX_WAITING, MAX_WAITING_WITHOUT_DISK};
use crate::call::ModelCall;
use crate::facts::Scalar;
use crate::journal::{self, FRAME_HEADER, Frame, MAX_PAYLOAD, Reader};
use crate::keeper::Writes;
use crate::observe::Event;
use crate::records::{Record, Written};
use crate::segments::Kind;
use crate::time::Now;
use crate::voice::Level;

/// So few calls in memory make room for those on disk.
const LOAD_BELOW: usize = 512;
/// How far a file of another process was read stands under such a name.
const SPOOL: &str = "spool/";

/// How the disk does.
#[derive(Debug)]
pub(super) struct Disk {
    /// It takes writes; otherwise everything stays in memory until it does again.
    takes: bool,
    /// What this process sees is told to another one, which sends it.
    is_spool: bool,
    spool: Vec<u8>,
}

impl Default for Disk {
    fn default() -> Self {
        Self {
            takes: true,
            is_spool: false,
            spool: Vec::new(),
        }
    }
}

impl Core {
    /// From here on another process of this host owns the journal: what this one sees goes into a file that the
    /// owner reads ([`Core::take_spool`]).
    pub fn become_spool(&mut self) {
        self.disk.is_spool = true;
    }

    /// A finished call is on disk before it is sent.
    pub(super) fn keep_call(&mut self, call: ModelCall, now: Now) {
        if self.disk.is_spool {
            return;
        }
        self.counts.from_store += u64::from(call.stored);
        let most = match self.disk.takes {
            true => MAX_WAITING,
            false => MAX_WAITING_WITHOUT_DISK,
        };
        // Not only what is on disk already: a long backlog must not hold up what is new.
        let has_room = self.outbox.len() < most;
        if !has_room && !self.disk.takes {
            return self.outbox.dropped("queue_full", 1);
        }
        self.counts.journalled += u64::from(self.disk.takes);
        let (position, written_at) = self.keeper.call(&call, has_room);
        if has_room {
            let written_at = if self.disk.takes { written_at } else { 0 };
            self.outbox.push(call, position, written_at, now.mono_ms);
        }
        self.shrink();
    }

    /// Any other record waits likewise.
    pub(super) fn report(&mut self, record: &Record, now: Now) {
        let record = record.written();
        if self.disk.is_spool {
            return journal::append_frame(&mut self.disk.spool, &Frame::Record(record));
        }
        self.keep_record(record, now);
    }

    fn keep_record(&mut self, record: Written, now: Now) {
        let has_room = self.extras.has_room();
        if !has_room && !self.disk.takes {
            return self.extras.dropped.add("queue_full");
        }
        let (position, written_at) = self.keeper.record(&record, has_room);
        if has_room {
            let written_at = if self.disk.takes { written_at } else { 0 };
            self.extras.push(record, position, written_at, now.mono_ms);
        }
        self.shrink();
    }

    fn shrink(&mut self) {
        let (calls, records) = self.keeper.shrink();
        self.outbox.dropped("disk_full", calls);
        self.extras.dropped.add_some("disk_full", records);
    }

    pub(super) fn keep_settled(&mut self) {
        // Who follows the journal has what is on disk; nobody else waits for it.
        if self.settings.is_off && self.disk.takes {
            self.outbox.let_go();
            self.extras.let_go();
        }
        self.keeper.calls_left(&self.outbox.take_settled());
        self.keeper.records_left(self.extras.take_settled());
        for (call, status) in self.outbox.take_refused() {
            let naming = &self.settings.naming;
            self.keeper
                .refuse(&crate::agentwatch::refused(&call, naming, status));
        }
    }

    /// What to write now, in order; `hand_out` gets the pieces of a snapshot. Call often; when all of it is done tell
    /// [`Core::written`].
    pub fn take_writes(&mut self, hand_out: &mut dyn FnMut(&[u8])) -> Writes {
        if self.disk.is_spool || !self.disk.takes {
            // It is the owner's to keep, or would fail as well: it is written anew when the disk takes writes again.
            self.keeper.discard();
            return Writes::of_spool(std::mem::take(&mut self.disk.spool));
        }
        let (ledger, sessions) = (&self.ledger, &self.sessions);
        let (bookmarks, reconciled_ms) = (&self.bookmarks, self.reconciled_ms);
        let marks = bookmarks
            .iter()
            .map(|(file, mark)| Frame::Bookmark(file.clone(), mark.clone()));
        let frames = ledger.frames().chain(sessions.frames()).chain(marks);
        let snapshot = frames.chain(reconciled_ms.map(Frame::Reconciled));
        self.keeper.take_writes(snapshot, hand_out)
    }

    /// Lets the next writes replace the ledger's file by a snapshot.
    pub fn compact(&mut self) {
        self.keeper.want_snapshot();
    }

    /// Everything up to there is on disk, and may be sent.
    pub fn written(&mut self, upto: u64) {
        self.outbox.written(upto);
        self.extras.written(upto);
    }

    /// The disk took none or only a part of the last writes. Sending goes on from memory.
    pub fn disk_failed(&mut self, why: &str, now: Now) {
        self.disk.takes = false;
        self.written(u64::MAX);
        self.keeper.discard();
        let text = format!(
            "the journal cannot be written ({why}): calls are sent from memory, and those that wait are lost if \
             the gateway is killed; make room, or make the folder writable"
        );
        self.counts.journal_error = Some(why.to_owned());
        self.voice
            .say_about(Level::Warn, "journal", text, now.mono_ms);
    }

    /// Lets the disk be tried again: everything that is needed is written anew.
    pub fn try_disk(&mut self) {
        if std::mem::replace(&mut self.disk.takes, true) {
            return;
        }
        self.keeper.write_anew();
        let keeper = &mut self.keeper;
        // It was allowed to be sent without the disk, and still is.
        let old = self.outbox.keep_anew(|call| (keeper.call(call, true).0, 0));
        self.keeper.forget(Kind::Calls, &old);
        self.outbox.wait_for_disk();
        let keeper = &mut self.keeper;
        let old = self
            .extras
            .keep_anew(|record| keeper.record(record, true).0);
        self.keeper.forget(Kind::Records, &old);
    }

    /// The disk is well again.
    pub fn disk_mended(&mut self, now: Now) {
        if self.counts.journal_error.take().is_some() {
            let text = "the journal is written again".to_owned();
            self.voice.say(Level::Info, text, now.mono_ms);
        }
    }

    /// Takes one of the files that another process left; the host hands them over in the order of their names,
    /// then calls [`Core::recovered`].
    pub fn recover(&mut self, file: &str, bytes: &[u8]) {
        self.keeper.recover(file, bytes, &mut self.found);
    }

    /// Goes on from the files that were handed over.
    pub fn recovered(&mut self, now: Now) {
        let found = std::mem::take(&mut self.found);
        self.counts.journal_corrupt += found.corrupt;
        for (file, foreign) in &found.foreign {
            let text = format!(
                "{file} of the journal has format {}, which this version does not read; it is left as it is",
                foreign.version
            );
            self.voice.say(Level::Warn, text, now.mono_ms);
        }
        for frame in found.frames {
            self.restore(frame, now);
        }
        self.keeper.recovered(&found.finals);
        for (id, _) in found.finals {
            self.ledger.restore_final(id);
        }
        if found.corrupt > 0 {
            let text = format!(
                "{} pieces of the journal were torn or corrupt and are left out",
                found.corrupt
            );
            self.voice.say(Level::Warn, text, now.mono_ms);
        }
    }

    fn restore(&mut self, frame: Frame, now: Now) {
        match frame {
            Frame::Seen(id, observation) => {
                self.prices.want(&observation.provider, &observation.model);
                self.ledger.restore(id, *observation, now);
            }
            Frame::Slot(slot) => self.ledger.restore_slot(*slot, now),
            Frame::Closed(ids) => ids.into_iter().for_each(|id| self.ledger.restore_final(id)),
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
            Frame::Begin
            | Frame::Gone(..)
            | Frame::Record(_)
            | Frame::Facts(_)
            | Frame::Together(_) => {}
        }
    }

    /// A file of the journal that is to be read into memory: what waits there alone can be sent now.
    pub fn to_load(&self) -> Option<String> {
        if !self.disk.takes {
            return None;
        }
        let calls = (self.outbox.len() < LOAD_BELOW).then(|| self.keeper.to_load(Kind::Calls));
        let records = self
            .extras
            .has_room()
            .then(|| self.keeper.to_load(Kind::Records));
        calls.flatten().or_else(|| records.flatten())
    }

    /// Takes the bytes of such a file; none where it could not be read: what it held is lost, and counted.
    pub fn load(&mut self, file: &str, bytes: &[u8], now: Now) {
        match self.keeper.kind_of(file) {
            Some(Kind::Calls) => {
                let (calls, lost) = self.keeper.load_calls(file, bytes);
                for (call, position) in calls {
                    self.outbox.push_read_back(call, position, now.mono_ms);
                }
                self.outbox.dropped("journal_unreadable", lost);
            }
            Some(Kind::Records) => {
                let (records, lost) = self.keeper.load_records(file, bytes);
                for (record, position) in records {
                    self.extras.push(record, position, 0, now.mono_ms);
                }
                self.extras.dropped.add_some("journal_unreadable", lost);
            }
            None => {}
        }
    }

    /// Takes in what another process wrote into its own file, from `offset` on: how far it was read. Its last
    /// frame may be yet to be written.
    pub fn take_spool(&mut self, name: &str, bytes: &[u8], now: Now) -> usize {
        let mut reader = Reader::within(bytes);
        let mut frames = Vec::new();
        for (_, payload) in reader.by_ref() {
            frames.extend(postcard::from_bytes::<Frame>(payload).ok());
        }
        let end = match reader.end() {
            // No frame is that long: what stands here is none, whatever comes behind it.
            0 if bytes.len() > MAX_PAYLOAD + FRAME_HEADER => {
                self.counts.journal_corrupt += 1;
                bytes.len() - MAX_PAYLOAD - FRAME_HEADER
            }
            end => end,
        };
        self.keeper.begin_together();
        for frame in frames {
            match frame {
                Frame::Seen(_, mut observation) => {
                    self.counts.spooled += 1;
                    observation.elsewhere = true;
                    self.take(Event::Call(observation), now);
                }
                Frame::Facts(facts) => self.sessions.learn(*facts),
                Frame::Record(record) => self.keep_record(record, now),
                _ => {}
            }
        }
        if end > 0 {
            let before = self.spool_offset(name);
            self.bookmark(&[SPOOL, name].concat(), &(before + end).to_string());
        }
        self.keeper.end_together();
        end
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
        self.keeper.begin_together();
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
        self.keeper.end_together();
    }

    /// How far another process's file was read.
    pub fn spool_offset(&self, name: &str) -> usize {
        let mark = self.bookmarks.get(&[SPOOL, name].concat());
        mark.and_then(|mark| mark.parse().ok()).unwrap_or(0)
    }

    /// Another process's file is read to its end and gone; `torn` where a piece of it could not be read.
    pub fn forget_spool(&mut self, name: &str, torn: bool) {
        self.counts.journal_corrupt += u64::from(torn);
        self.bookmark(&[SPOOL, name].concat(), "");
    }

    /// Remembers how far a file was read, together with what was read from it; an empty mark forgets the file.
    pub fn bookmark(&mut self, file: &str, mark: &str) {
        let frame = Frame::Bookmark(file.to_owned(), mark.to_owned());
        self.keeper.note(&frame);
        match mark.is_empty() {
            true => self.bookmarks.swap_remove(file),
            false => self.bookmarks.insert(file.to_owned(), mark.to_owned()),
        };
    }

    /// How far each file of the session store was read.
    pub fn bookmarks(&self) -> impl Iterator<Item = (&str, &str)> {
        let marks = self.bookmarks.iter();
        let own = marks.filter(|(file, _)| !file.starts_with(SPOOL));
        own.map(|(file, mark)| (file.as_str(), mark.as_str()))
    }

    /// Until when the session store is matched, in ms since 1970; `None` where it never was.
    pub fn reconciled_ms(&self) -> Option<u64> {
        self.reconciled_ms
    }

    /// The session store was read up to there: everything in it is matched or counted.
    pub fn set_reconciled(&mut self, until_ms: u64) {
        self.reconciled_ms = Some(until_ms);
        self.ledger.reconciled(until_ms);
        self.keeper.note(&Frame::Reconciled(until_ms));
    }

    /// Whether the journal is to survive a power cut, by fsync.
    pub fn survives_power_cut(&self) -> bool {
        self.settings.survives_power_cut
    }

    /// What a process that does not own the journal tells the one that does.
    pub(super) fn tell_owner(&mut self, frame: impl FnOnce() -> Frame) {
        if self.disk.is_spool {
            journal::append_frame(&mut self.disk.spool, &frame());
        }
    }
}
