//! What of the ledger is kept on disk, and how a fresh one goes on from it.

use super::slot::clock_of;
use super::{Ledger, Slot, seconds};
use crate::call::CallId;
use crate::journal::Frame;
use crate::observe::Observation;
use crate::time::Now;

impl Ledger {
    /// Everything that matching needs, for a fresh instance.
    pub fn frames(&self) -> impl Iterator<Item = Frame> {
        let open = self.open.values().flat_map(|open| {
            let views = open.views.iter().flatten();
            views.map(|view| Frame::seen(open.id, view.clone()))
        });
        let slots = self
            .slots
            .iter()
            .filter(|slot| !self.open.contains_key(&slot.id.key()))
            .map(|slot| Frame::Slot(Box::new(slot.clone())));
        // In this order: what is known already is not remembered anew.
        self.again.frames().chain(open).chain(slots)
    }

    /// Takes an observation from a journal, under the id that it had.
    pub fn restore(&mut self, id: CallId, observation: Observation, now: Now) {
        self.look_at_clock(&observation, now);
        self.remember(&observation);
        let place = self.slots.place_of(id, &self.buckets(&observation));
        let Some(slot) = place.and_then(|place| self.slots.get_mut(place)) else {
            return self.begin(id, observation, now);
        };
        slot.absorb(&observation, clock_of(&observation, now));
        let counts_after_all = slot.counts_after_all(&observation);
        self.view(id, observation, counts_after_all, now);
        // What was known of a final call was told before.
        self.enrichments.clear();
    }

    /// Takes a final call's slot from a journal.
    pub fn restore_slot(&mut self, mut slot: Slot, now: Now) {
        slot.heard_s = seconds(now);
        self.again.remember(slot.row.get(), slot.began_ms());
        self.slots.insert(slot);
    }

    /// Takes keys of calls from a journal.
    pub fn restore_told(&mut self, until_ms: u64, forgotten_ms: u64, keys: &[u8]) {
        self.again.restore(until_ms, forgotten_ms, keys);
    }

    /// Marks a restored call as final: it is not settled again.
    pub fn restore_final(&mut self, id: CallId) {
        self.ready.retain(|ready| *ready != id);
        if let Some(open) = self.open.swap_remove(&id.key()) {
            self.mark(&open.settle(id), &open);
        }
    }
}
