//! Runs of adjacent entries of a log: the acknowledged entries, and the entries in memory. Entries are acknowledged
//! nearly in order, so a long log has few runs.

use super::log::Position;

/// Adjacent entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// The number of the first entry.
    first: u64,
    /// One more than the number of the last entry.
    next: u64,
    /// Where the first entry begins.
    from: Position,
    /// Where the last entry ends.
    to: Position,
}

impl Run {
    /// Where the first entry begins, and where the last entry ends.
    pub fn places(self) -> (Position, Position) {
        (self.from, self.to)
    }
}

/// Runs in ascending order; adjacent runs are merged.
#[derive(Debug, Default)]
pub struct Runs(Vec<Run>);

impl Runs {
    /// Adds an entry. Returns whether the entry is new.
    pub fn add(&mut self, number: u64, from: Position, to: Position) -> bool {
        // Most entries come after all runs.
        let at = match self.0.last() {
            Some(last) if last.next <= number => self.0.len(),
            _ => self.0.partition_point(|run| run.next <= number),
        };
        if self.0.get(at).is_some_and(|run| run.first <= number) {
            return false;
        }
        let joins_next = self.0.get(at).is_some_and(|run| run.first == number + 1);
        let joins_last = at > 0 && self.0[at - 1].next == number;
        match (joins_last, joins_next) {
            (true, true) => {
                let run = self.0.remove(at);
                (self.0[at - 1].next, self.0[at - 1].to) = (run.next, run.to);
            }
            (true, false) => (self.0[at - 1].next, self.0[at - 1].to) = (number + 1, to),
            (false, true) => (self.0[at].first, self.0[at].from) = (number, from),
            (false, false) => self.0.insert(
                at,
                Run {
                    first: number,
                    next: number + 1,
                    from,
                    to,
                },
            ),
        }
        true
    }

    /// Whether a run contains the entry of this number.
    pub fn has(&self, number: u64) -> bool {
        let at = self.0.partition_point(|run| run.next <= number);
        self.0.get(at).is_some_and(|run| run.first <= number)
    }

    /// Whether a run contains the entry that begins at this place.
    pub fn has_place(&self, place: Position) -> bool {
        let is_in = |run: &Run| run.from <= place && place < run.to;
        self.0.iter().any(is_in)
    }

    /// Drops the runs that end before this entry.
    pub fn forget_before(&mut self, number: u64) {
        let gone = self.0.partition_point(|run| run.next <= number);
        self.0.drain(..gone);
    }

    /// The end of the run that contains entry `first`, `None` where no run does; and the runs after it.
    pub fn split(&self, first: u64) -> (Option<Position>, &[Run]) {
        match self.0.first() {
            Some(run) if run.first <= first => (Some(run.to), &self.0[1..]),
            _ => (None, &self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(number: u64) -> Position {
        let (segment, offset) = (number as u32 / 10, number as u32 % 10);
        Position { segment, offset }
    }

    fn add(runs: &mut Runs, number: u64) -> bool {
        runs.add(number, place(number), place(number + 1))
    }

    #[test]
    fn entries_in_any_order_are_one_run_in_the_end() {
        let mut mint = crate::domain::call::IdMint::new(1);
        let mut left: Vec<u64> = (0..200).collect();
        let mut runs = Runs::default();
        while !left.is_empty() {
            let number = left.swap_remove(mint.bits() as usize % left.len());
            assert!(!runs.has(number) && add(&mut runs, number));
            assert!(runs.has(number) && !add(&mut runs, number));
            assert!(left.iter().all(|other| !runs.has(*other)));
            let sorted = runs.0.windows(2).all(|two| two[0].next < two[1].first);
            assert!(sorted, "{runs:?}");
        }
        assert_eq!(runs.split(0), (Some(place(200)), &[][..]));
        runs.forget_before(200);
        assert!(!runs.has(5));
    }

    #[test]
    fn what_is_ahead_of_a_gap_is_told_apart() {
        let mut runs = Runs::default();
        for number in [0, 1, 3, 4, 9] {
            add(&mut runs, number);
        }
        let (at, ahead) = runs.split(0);
        assert_eq!(at, Some(place(2)));
        let ahead: Vec<_> = ahead.iter().map(|run| run.places()).collect();
        assert_eq!(ahead, [(place(3), place(5)), (place(9), place(10))]);
        runs.forget_before(3);
        assert_eq!(runs.split(2).0, None);
    }
}
