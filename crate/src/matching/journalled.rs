//! Journal frames of the ledger, and how a new ledger is restored from them.

use super::match_record::clock_of;
use super::{MatchRecord, Matcher, seconds};
use crate::domain::call::CallId;
use crate::domain::observation::Observation;
use crate::domain::time::Now;
use crate::journal::Frame;

impl Matcher {
    /// Everything that matching needs, as journal frames.
    pub fn frames(&self) -> impl Iterator<Item = Frame> {
        let pending = self.pending.values().flat_map(|pending| {
            let observations = pending.observations.iter().flatten();
            observations.map(|observation| Frame::Seen(pending.id, observation.clone()))
        });
        let records = self
            .records
            .iter()
            .filter(|record| !self.pending.contains_key(&record.id.key()))
            .map(|record| Frame::MatchRecord(Box::new(record.clone())));
        // Keys come first: restoring an observation or a match record whose key is known does not add the key again.
        self.duplicates.frames().chain(pending).chain(records)
    }

    /// Restores an observation from the journal, under the call id that it had.
    pub fn restore(&mut self, id: CallId, observation: Observation, now: Now) {
        self.track_clock(&observation, now);
        self.duplicates.remember_call(&observation);
        let place = self.records.place_of(id, &self.buckets(&observation));
        let Some(record) = place.and_then(|place| self.records.get_mut(place)) else {
            return self.add_call(id, observation, now);
        };
        record.absorb(&observation, clock_of(&observation, now));
        let counts_late = record.counts_late(&observation);
        self.add_observation(id, observation, counts_late, now);
        // Enrichments of final calls were delivered before the restart.
        self.enrichments.clear();
    }

    /// Restores the match record of a final call from the journal.
    pub fn restore_match_record(&mut self, mut record: MatchRecord, now: Now) {
        record.first_seen_s = seconds(now);
        self.duplicates
            .remember(record.call_key.get(), record.began_ms());
        self.records.insert(record);
    }

    /// Restores call keys from the journal: see [`Frame::Told`].
    pub fn restore_told(&mut self, until_ms: u64, forgotten_ms: u64, keys: &[u8]) {
        self.duplicates.restore(until_ms, forgotten_ms, keys);
    }

    /// Marks a restored call as final, so that it is not settled again.
    pub fn restore_final(&mut self, id: CallId) {
        self.ready.retain(|ready| *ready != id);
        if let Some(pending) = self.pending.swap_remove(&id.key()) {
            self.mark(&pending.settle(id));
        }
    }
}
