//! Reading the journal: all of it at the start, later the entries that are on disk and not in memory.

use std::collections::HashMap;

use super::log::{Entry, Kind, Log};
use super::store::{Journal, REFUSED};
use super::{Foreign, Frame, format_v1, read};
use crate::activity::records::Written;
use crate::domain::call::{CallId, ModelCall};
use crate::journal::files::{LEDGER, number_of};

/// The result of a recovery.
#[derive(Debug, Default)]
pub struct Found {
    /// The ledger's frames, in order.
    pub frames: Vec<Frame>,
    /// Ids of the calls in the log: they are final already.
    pub final_calls: Vec<CallId>,
    /// Number of torn or corrupt frames.
    pub corrupt: u64,
    /// Files of another version of the format, which are kept.
    pub foreign: Vec<(String, Foreign)>,
    /// The last entry of each call, by the key of its id.
    places: HashMap<u64, Entry>,
}

impl Journal {
    /// Recovers a file. Call in the order of the files' names, which puts the ledger first.
    pub fn recover(&mut self, file: &str, bytes: &[u8], found: &mut Found) {
        if file == REFUSED[0] {
            self.refused_bytes = bytes.len();
        } else if let Some(number) = number_of(file, LEDGER) {
            self.recover_ledger(number, file, bytes, found);
        } else if let Some(kind) = self.kind_of(file) {
            self.recover_segment(kind, file, bytes, found);
        }
    }

    /// Leaves a file out that cannot be read. No new file gets its number: it must not stand behind them once it can be
    /// read. A segment stays for the next process. Call in the order of the files' names, like [`Journal::recover`].
    pub fn leave_out(&mut self, file: &str, bytes: u64) {
        if let Some(number) = number_of(file, LEDGER) {
            self.ledger_number = self.ledger_number.max(number.saturating_add(1));
        } else if let Some(kind) = self.kind_of(file) {
            self.log(kind).leave_out(file, bytes);
        }
    }

    /// Whether a file of this name belongs to a journal.
    pub fn has_file(&self, file: &str) -> bool {
        number_of(file, LEDGER).is_some() || self.kind_of(file).is_some()
    }

    fn recover_ledger(&mut self, number: u32, file: &str, bytes: &[u8], found: &mut Found) {
        self.ledger_number = self.ledger_number.max(number + 1);
        match read(bytes) {
            Err(foreign) => found.foreign.push((file.to_owned(), foreign)),
            Ok(recovered) => {
                self.old_ledgers.push(number);
                // Its end may be torn: the next write replaces it by a snapshot.
                self.wants_snapshot = true;
                found.corrupt += recovered.corrupt;
                for frame in recovered.frames {
                    match frame {
                        Frame::Begin => found.frames.clear(),
                        frame => found.frames.push(frame),
                    }
                }
            }
        }
    }

    fn recover_segment(&mut self, kind: Kind, file: &str, bytes: &[u8], found: &mut Found) {
        // The ledger's files sort before the segments, so all cursors are known.
        self.restore_cursors(found);
        let (final_calls, places) = (&mut found.final_calls, &mut found.places);
        // A failed disk can leave two entries of a call. The call is sent once: the cursor decides for the last entry,
        // and the earlier entry is acknowledged.
        let see = |log: &mut Log, entry: Entry, payload: &[u8]| {
            if kind == Kind::Calls
                && let Some(id) = format_v1::call_id(payload)
            {
                final_calls.push(id);
                if let Some(earlier) = places.insert(id.key(), entry) {
                    log.acknowledge_one(earlier);
                }
            }
        };
        match self.log(kind).recover(file, bytes, see) {
            Ok(corrupt) => found.corrupt += corrupt,
            Err(foreign) => found.foreign.push((file.to_owned(), foreign)),
        }
    }

    fn restore_cursors(&mut self, found: &mut Found) {
        let is_progress = |frame: &mut Frame| matches!(frame, Frame::Cursor(..) | Frame::Gone(..));
        for frame in found.frames.extract_if(.., is_progress) {
            match frame {
                Frame::Cursor(kind, cursor) => self.log(kind).restore(cursor),
                Frame::Gone(kind, segment, offsets) => {
                    self.log(kind).restore_marks(segment, offsets);
                }
                _ => {}
            }
        }
    }

    /// Ends the recovery, after the last file.
    pub fn recovered(&mut self, found: &mut Found) {
        self.restore_cursors(found);
        self.calls.recovered();
        self.records.recovered();
    }

    /// The file of a log to read back next.
    pub fn to_load(&self, kind: Kind) -> Option<String> {
        match kind {
            Kind::Calls => self.calls.to_load(),
            Kind::Records => self.records.to_load(),
        }
    }

    /// Reads a segment's calls back. Returns the calls and the number of lost entries.
    pub fn load_calls(&mut self, file: &str, bytes: &[u8]) -> (Vec<(ModelCall, Entry)>, u64) {
        load(&mut self.calls, file, bytes, format_v1::call)
    }

    /// Reads a segment's records back. Returns the records and the number of lost entries.
    pub fn load_records(&mut self, file: &str, bytes: &[u8]) -> (Vec<(Written, Entry)>, u64) {
        load(&mut self.records, file, bytes, format_v1::record)
    }

    /// The log that a file belongs to.
    pub fn kind_of(&self, file: &str) -> Option<Kind> {
        [Kind::Calls, Kind::Records]
            .into_iter()
            .find(|kind| number_of(file, kind.prefix()).is_some())
    }
}

fn load<T>(
    log: &mut Log,
    file: &str,
    bytes: &[u8],
    read: fn(&[u8]) -> Option<T>,
) -> (Vec<(T, Entry)>, u64) {
    let Some((entries, lost)) = log.load(file, bytes) else {
        return (Vec::new(), 0);
    };
    let (mut good, mut bad) = (Vec::new(), Vec::new());
    for (entry, payload) in entries {
        match read(payload) {
            Some(one) => good.push((one, entry)),
            None => bad.push(entry),
        }
    }
    let lost = lost + bad.len() as u64;
    log.acknowledge(bad);
    (good, lost)
}
