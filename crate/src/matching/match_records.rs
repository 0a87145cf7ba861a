//! The match records of all calls: one list in order of arrival, and for each bucket the numbers of its records. A list
//! per bucket would reserve memory in every bucket.

use std::collections::VecDeque;

use indexmap::IndexMap;

use super::MatchRecord;
use crate::domain::call::CallId;

#[derive(Debug, Default)]
pub(super) struct MatchRecords {
    list: VecDeque<MatchRecord>,
    /// Number of the first record in `list`. Numbers grow by one per record and wrap at `u32::MAX`.
    first: u32,
    /// The numbers of each bucket's records, in the order of the calls' ends.
    buckets: IndexMap<u64, VecDeque<u32>>,
}

impl MatchRecords {
    pub(super) fn len(&self) -> usize {
        self.list.len()
    }

    /// In order of arrival.
    pub(super) fn iter(&self) -> impl Iterator<Item = &MatchRecord> {
        self.list.iter()
    }

    pub(super) fn get(&self, place: usize) -> Option<&MatchRecord> {
        self.list.get(place)
    }

    pub(super) fn get_mut(&mut self, place: usize) -> Option<&mut MatchRecord> {
        self.list.get_mut(place)
    }

    pub(super) fn buckets(&self) -> impl Iterator<Item = u64> {
        self.buckets.keys().copied()
    }

    /// Indexes of a bucket's records in `list`, in the order of the calls' ends.
    pub(super) fn places(&self, bucket: u64) -> impl DoubleEndedIterator<Item = usize> {
        let numbers = self.buckets.get(&bucket).into_iter().flatten();
        numbers.map(|number| self.place(*number))
    }

    /// Index of a call's record, which is in one of these buckets.
    pub(super) fn place_of(&self, id: CallId, buckets: &[u64]) -> Option<usize> {
        let mut places = buckets.iter().flat_map(|bucket| self.places(*bucket));
        places.find(|place| self.list.get(*place).is_some_and(|record| record.id == id))
    }

    /// The record of a recent call.
    pub(super) fn recent_mut(&mut self, id: CallId) -> Option<&mut MatchRecord> {
        self.list.iter_mut().rev().find(|record| record.id == id)
    }

    /// Adds a record and keeps its bucket sorted by end: the journal and the session store deliver records in another
    /// order.
    pub(super) fn insert(&mut self, record: MatchRecord) {
        let is_older = |place: usize| {
            let known = self.list.get(place);
            known.is_some_and(|known| known.ended_ms <= record.ended_ms)
        };
        let newer = self.places(record.bucket).rev();
        let newer = newer.take_while(|place| !is_older(*place)).count();
        let number = self.first.wrapping_add(self.list.len() as u32);
        let numbers = self.buckets.entry(record.bucket).or_default();
        // Most sessions have few calls.
        if numbers.len() == numbers.capacity() {
            numbers.reserve_exact(1 + numbers.len() / 2);
        }
        numbers.insert(numbers.len() - newer, number);
        self.list.push_back(record);
    }

    /// Drops the record that arrived first.
    pub(super) fn forget_first(&mut self) {
        let Some(record) = self.list.pop_front() else {
            return;
        };
        let number = self.first;
        self.first = number.wrapping_add(1);
        if let Some(numbers) = self.buckets.get_mut(&record.bucket) {
            // The oldest of a session is at the front, or near it.
            if let Some(place) = numbers.iter().position(|known| *known == number) {
                numbers.remove(place);
            }
            if numbers.is_empty() {
                self.buckets.swap_remove(&record.bucket);
            }
        }
    }

    fn place(&self, number: u32) -> usize {
        number.wrapping_sub(self.first) as usize
    }
}
