//! Sums by calendar day, for a bounded number of days.

use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

use super::window::{DAY_MS, begin_of, date_of};

/// Days since 1970-01-01.
pub type Day = u64;

/// Day of a time (ms since 1970) in a zone.
pub fn day_of(zone: &TimeZone, at_ms: u64) -> Day {
    number(date_of(zone, at_ms))
}

/// Number of a date; 0 before 1970.
pub fn number(date: Date) -> Day {
    begin_of(&TimeZone::UTC, date).unwrap_or_default() / DAY_MS
}

/// The last `MAX` days that have a sum, in ascending order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Daily<T, const MAX: usize>(Vec<(Day, T)>);

impl<T, const MAX: usize> Default for Daily<T, MAX> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T: Default, const MAX: usize> Daily<T, MAX> {
    /// The sum of a day, for changes; `None` if the day was dropped already.
    pub fn at(&mut self, day: Day) -> Option<&mut T> {
        let place = match self.0.binary_search_by_key(&day, |(known, _)| *known) {
            Ok(place) => place,
            Err(0) if self.0.len() >= MAX => return None,
            Err(place) => {
                self.0.insert(place, (day, T::default()));
                let surplus = usize::from(self.0.len() > MAX);
                self.0.drain(..surplus);
                place - surplus
            }
        };
        self.0.get_mut(place).map(|(_, sum)| sum)
    }

    /// The sum of a day.
    pub fn get(&self, day: Day) -> Option<&T> {
        let place = self
            .0
            .binary_search_by_key(&day, |(known, _)| *known)
            .ok()?;
        self.0.get(place).map(|(_, sum)| sum)
    }

    /// All days with a sum.
    pub fn days(&self) -> impl DoubleEndedIterator<Item = (Day, &T)> {
        self.0.iter().map(|(day, sum)| (*day, sum))
    }

    /// The complete days before `today`, at most `most`, including days without a sum. The first day with a sum is
    /// incomplete: it began before the plugin did.
    pub fn complete(&self, today: Day, most: u64) -> std::ops::Range<Day> {
        let first = self.0.first().map_or(today, |(day, _)| *day);
        let begin = (first + 1).max(today.saturating_sub(most));
        begin.min(today)..today
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_days_are_forgotten() {
        let mut daily = Daily::<u64, 3>::default();
        for day in [5, 3, 9, 4, 5, 2] {
            if let Some(sum) = daily.at(day) {
                *sum += 1;
            }
        }
        let days: Vec<_> = daily.days().map(|(day, sum)| (day, *sum)).collect();
        assert_eq!(days, [(4, 1), (5, 2), (9, 1)]);
        assert_eq!((daily.get(9), daily.get(8)), (Some(&1), None));
        assert_eq!(daily.complete(8, 28), 5..8);
        assert_eq!(daily.complete(8, 2), 6..8);
        assert!(daily.complete(4, 28).is_empty() && daily.complete(1, 28).is_empty());
    }
}
