//! Selects the first items in an order.

use std::cmp::Ordering;

/// The first `most` in an order, without ever holding many more.
pub struct First<T, F> {
    kept: Vec<T>,
    most: usize,
    order: F,
}

impl<T, F: FnMut(&T, &T) -> Ordering> First<T, F> {
    /// Empty.
    pub fn new(most: usize, order: F) -> Self {
        Self {
            kept: Vec::new(),
            most,
            order,
        }
    }

    /// Adds an item, if it is among the first.
    pub fn push(&mut self, one: T) {
        self.kept.push(one);
        if self.kept.len() >= 2 * self.most + 64 {
            self.kept.select_nth_unstable_by(self.most, &mut self.order);
            self.kept.truncate(self.most);
        }
    }

    /// The first, in order.
    pub fn finish(mut self) -> Vec<T> {
        self.kept.sort_by(&mut self.order);
        self.kept.truncate(self.most);
        self.kept
    }
}

/// The first `most` in an order, without ever holding many more.
pub fn first<T>(
    all: impl Iterator<Item = T>,
    most: usize,
    order: impl FnMut(&T, &T) -> Ordering,
) -> Vec<T> {
    let mut first = First::new(most, order);
    all.for_each(|one| first.push(one));
    first.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_items_equal_those_of_a_full_sort() {
        let all: Vec<u64> = (0..5_000_u64)
            .map(|n| n.wrapping_mul(7_919) % 5_003)
            .collect();
        let mut sorted = all.clone();
        sorted.sort_unstable();
        for most in [0, 1, 7, 100, 4_999, 6_000] {
            let found = first(all.iter().copied(), most, u64::cmp);
            assert_eq!(found, sorted[..most.min(5_000)], "{most}");
        }
    }
}
