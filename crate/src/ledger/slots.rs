//! The slots of all calls that can be matched: one list in the order in which they came, and where each bucket's stand in
//! it. A list for each bucket would have room for more in every one of them.

use std::collections::VecDeque;

use indexmap::IndexMap;

use super::Slot;
use crate::call::CallId;

/// See above.
#[derive(Debug, Default)]
pub(super) struct Slots {
    list: VecDeque<Slot>,
    /// The number of the first of them; they count on, past the largest number too.
    first: u32,
    /// The numbers of each bucket's slots, in the order of the calls' ends.
    buckets: IndexMap<u64, VecDeque<u32>>,
}

impl Slots {
    pub(super) fn len(&self) -> usize {
        self.list.len()
    }

    /// From the one that came first.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Slot> {
        self.list.iter()
    }

    pub(super) fn get(&self, place: usize) -> Option<&Slot> {
        self.list.get(place)
    }

    pub(super) fn get_mut(&mut self, place: usize) -> Option<&mut Slot> {
        self.list.get_mut(place)
    }

    pub(super) fn buckets(&self) -> impl Iterator<Item = u64> {
        self.buckets.keys().copied()
    }

    /// Where the slots of a bucket stand among all, from the one that ended first.
    pub(super) fn places(&self, bucket: u64) -> impl DoubleEndedIterator<Item = usize> {
        let numbers = self.buckets.get(&bucket).into_iter().flatten();
        numbers.map(|number| self.place(*number))
    }

    /// Where a call's slot stands, in one of these buckets.
    pub(super) fn place_of(&self, id: CallId, buckets: &[u64]) -> Option<usize> {
        let mut places = buckets.iter().flat_map(|bucket| self.places(*bucket));
        places.find(|place| self.list.get(*place).is_some_and(|slot| slot.id == id))
    }

    /// Puts a slot among its bucket's, which are searched from the newest: a journal gives them in another order, and
    /// so does the session store.
    pub(super) fn insert(&mut self, slot: Slot) {
        let is_older = |place: usize| {
            let known = self.list.get(place);
            known.is_some_and(|known| known.ended_ms <= slot.ended_ms)
        };
        let newer = self.places(slot.bucket).rev();
        let newer = newer.take_while(|place| !is_older(*place)).count();
        let number = self.first.wrapping_add(self.list.len() as u32);
        let numbers = self.buckets.entry(slot.bucket).or_default();
        // Most sessions have few calls.
        if numbers.len() == numbers.capacity() {
            numbers.reserve_exact(1 + numbers.len() / 2);
        }
        numbers.insert(numbers.len() - newer, number);
        self.list.push_back(slot);
    }

    /// Gives up the one that came first.
    pub(super) fn forget_first(&mut self) {
        let Some(slot) = self.list.pop_front() else {
            return;
        };
        let number = self.first;
        self.first = number.wrapping_add(1);
        if let Some(numbers) = self.buckets.get_mut(&slot.bucket) {
            numbers.retain(|known| *known != number);
            if numbers.is_empty() {
                self.buckets.swap_remove(&slot.bucket);
            }
        }
    }

    fn place(&self, number: u32) -> usize {
        number.wrapping_sub(self.first) as usize
    }
}
