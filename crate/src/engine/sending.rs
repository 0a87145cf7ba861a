//! Requests to AgentWatch, their replies, and the log lines about them.

use super::Engine;
use crate::delivery::calls::{Calls, Note, Receiver, Request};
use crate::delivery::reply::Reply;
use crate::domain::time::Now;
use crate::engine::log::{Level, counted};

impl Engine {
    /// The next due request; `hurry` skips gathering and pauses.
    pub fn begin(&mut self, now: Now, hurry: bool) -> Option<Request> {
        self.settings.url.as_ref()?;
        // Only the journal's owner sends.
        if self.records_in_flight || self.is_lost() || self.disk.spool.is_some() {
            return None;
        }
        let naming = &self.settings.naming;
        let calls = self.calls.begin(naming, now, hurry);
        if calls.is_some() || !self.calls.is_free(now.mono_ms) {
            return calls;
        }
        // Calls have priority: other records wait while calls cannot be sent.
        let knows_ids = self.calls.receiver() == Receiver::Ids;
        self.records.expect_ids(knows_ids);
        let records = self.records.begin(now.mono_ms, hurry);
        self.records_in_flight = records.is_some();
        records
    }

    /// Takes the reply to the last request. May return a further request to make at once.
    pub fn answered(&mut self, reply: &Reply, now: Now) -> Option<Request> {
        if std::mem::take(&mut self.records_in_flight) {
            self.records.answered(reply, now.mono_ms);
            self.acknowledge_taken();
            return None;
        }
        let mut notes = Vec::new();
        let naming = &self.settings.naming;
        let taken = |calls: &Calls| calls.counts().delivered + calls.counts().confirmed;
        let before = taken(&self.calls);
        let next = self.calls.answered(reply, naming, now.mono_ms, &mut notes);
        if taken(&self.calls) > before {
            self.counts.last_delivery_ms = Some(now.wall_ms);
        }
        for note in notes {
            self.note(note, now);
        }
        self.acknowledge_taken();
        next
    }

    pub(super) fn next_sending(&self) -> Option<u64> {
        self.settings.url.as_ref()?;
        if self.records_in_flight {
            return None;
        }
        // Other records are sent when no request of calls is in flight or paused.
        let records = self.records.next_due().zip(self.calls.free_at());
        let records = records.map(|(due, free)| due.max(free));
        [self.calls.next_due(), records].into_iter().flatten().min()
    }

    fn note(&mut self, note: Note, now: Now) {
        match note {
            Note::Reached(receiver) => {
                let url = self.settings.url.clone().unwrap_or_default();
                let how = match receiver {
                    Receiver::Ids => "records carry ids, so none is counted twice",
                    Receiver::Stock => "stock server: guarded batches",
                    Receiver::UsageOnly | Receiver::Unknown => {
                        "no batch endpoint: a lost answer may count a call twice"
                    }
                };
                self.log.add(
                    Level::Info,
                    format!("delivering to {url} ({how})"),
                    now.mono_ms,
                );
            }
            Note::Trouble(text) => {
                self.counts.last_error = Some(text.clone());
                let waiting = self.calls.len() + self.journal.waiting().0;
                self.log.add_about(
                    Level::Warn,
                    &text,
                    format!(
                        "{text} ({}, nothing is lost yet)",
                        counted(waiting as u64, "call waits", "calls wait")
                    ),
                    now.mono_ms,
                );
            }
            Note::Refused(text) => {
                self.counts.last_error = Some(text.clone());
                self.log.add_about(Level::Warn, "refused", text, now.mono_ms);
            }
            Note::ReportedTwice(other) => self.log.add_once(
                Level::Warn,
                format!(
                    "AgentWatch has the calls of this gateway from \"{other}\" too: they count twice; choose one way for each gateway"
                ),
            ),
        }
    }
}
