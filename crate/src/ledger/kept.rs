//! What of the ledger is kept on disk, and how a fresh one goes on from it.

use super::slot::clock_of;
use super::{Ledger, Slot};
use crate::call::CallId;
use crate::journal::Frame;
use crate::observe::Observation;
use crate::time::Now;

impl Ledger {
    /// Everything that matching needs, for a fresh instance.
    pub fn frames(&self) -> impl Iterator<Item = Frame> {
        let open = self.open.values().flat_map(|open| {
            let views = open.views.iter().flatten();
            views.map(|view| Frame::Seen(open.id, view.clone()))
        });
        let slots = self
            .slots
            .values()
            .flatten()
            .filter(|slot| !self.open.contains(slot.id.key()))
            .map(|slot| Frame::Slot(Box::new(slot.clone())));
        open.chain(slots)
    }

    /// Takes an observation from a journal, under the id that it had.
    pub fn restore(&mut self, id: CallId, observation: Observation, now: Now) {
        self.look_at_clock(&observation, now);
        let is_known = |slot: &Slot| slot.id == id;
        let buckets = self.buckets(&observation);
        let bucket = buckets.into_iter().find(|bucket| {
            let slots = self.slots.get(*bucket);
            slots.is_some_and(|slots| slots.iter().any(is_known))
        });
        let known = bucket
            .and_then(|bucket| self.slots.get_mut(bucket))
            .and_then(|slots| slots.iter_mut().find(|slot| is_known(slot)));
        let Some(slot) = known else {
            return self.begin(id, observation, now);
        };
        slot.absorb(&observation, clock_of(&observation, now));
        let counts_after_all = slot.counts_after_all(&observation);
        self.view(id, observation, counts_after_all, now);
        // What was known of a final call was told before.
        self.enrichments.clear();
    }

    /// Takes a final call's slot from a journal.
    pub fn restore_slot(&mut self, slot: Slot, now: Now) {
        let seen = Now {
            wall_ms: slot.ended_ms,
            ..now
        };
        self.order.push_back((seen, slot.bucket, slot.id));
        self.insert(slot);
    }

    /// Marks a restored call as final: it is not settled again.
    pub fn restore_final(&mut self, id: CallId) {
        self.ready.retain(|ready| *ready != id);
        if let Some(open) = self.open.remove(id.key()) {
            self.mark(&open.settle(id), &open);
        }
    }
}
