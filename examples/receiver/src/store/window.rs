//! A range of time, and its division into days, hours and single calls.

use crate::clock::{DAY, HOUR, Micros};

/// From an instant, up to another one if given. An open window includes records in the future.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// The first instant.
    pub from: Micros,
    /// The first instant after it.
    pub to: Option<Micros>,
}

/// The instants from `from` up to `to`, exclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    pub from: Micros,
    pub to: Micros,
}

/// A window as whole days, the whole hours around them, and partial hours at its ends.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parts {
    pub days: Vec<Range>,
    pub hours: Vec<Range>,
    pub edges: Vec<Range>,
}

impl Window {
    /// Its end; `i64::MAX` if open.
    pub fn end(self) -> Micros {
        self.to.unwrap_or(Micros::MAX)
    }

    /// Its parts, which cover it exactly once.
    pub fn parts(self) -> Parts {
        let whole = Range {
            from: self.from,
            to: self.end(),
        };
        let (edges, hours) = whole.split(HOUR);
        let Some(hours) = hours else {
            return Parts {
                edges,
                ..Parts::default()
            };
        };
        let (hours, days) = hours.split(DAY);
        Parts {
            days: days.into_iter().collect(),
            hours,
            edges,
        }
    }
}

impl Range {
    /// The parts before and after the whole `unit`s, and these. An open end counts as whole.
    fn split(self, unit: Micros) -> (Vec<Self>, Option<Self>) {
        let up = self.from.saturating_add(unit - 1).div_euclid(unit) * unit;
        let down = match self.to {
            Micros::MAX => Micros::MAX,
            to => to.div_euclid(unit) * unit,
        };
        if up >= down {
            return (vec![self], None);
        }
        let ends = [
            Self {
                from: self.from,
                to: up,
            },
            Self {
                from: down,
                to: self.to,
            },
        ];
        let ends = ends.into_iter().filter(|end| end.from < end.to).collect();
        (ends, Some(Self { from: up, to: down }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_cover_the_window_once() {
        let minute = HOUR / 60;
        for from in [
            0,
            1,
            7 * minute,
            HOUR,
            23 * HOUR + minute,
            DAY,
            3 * DAY + 5 * HOUR,
        ] {
            for length in [
                1,
                minute,
                HOUR,
                2 * HOUR,
                DAY - 1,
                DAY,
                DAY + HOUR,
                3 * DAY + 7 * minute,
            ] {
                for to in [Some(from + length), None] {
                    let window = Window { from, to };
                    let parts = window.parts();
                    let mut all =
                        [parts.days.clone(), parts.hours.clone(), parts.edges.clone()].concat();
                    all.sort_unstable_by_key(|range| range.from);
                    assert_eq!(all.first().map(|range| range.from), Some(from));
                    assert_eq!(all.last().map(|range| range.to), Some(window.end()));
                    assert!(
                        all.windows(2).all(|pair| pair[0].to == pair[1].from),
                        "{window:?}: {parts:?}"
                    );
                    let aligned = |ranges: &[Range], unit| {
                        ranges.iter().all(|r| {
                            r.from % unit == 0 && (r.to % unit == 0 || r.to == Micros::MAX)
                        })
                    };
                    assert!(
                        aligned(&parts.days, DAY) && aligned(&parts.hours, HOUR),
                        "{parts:?}"
                    );
                    let small = parts
                        .edges
                        .iter()
                        .all(|r| r.to - r.from < HOUR || parts.hours.is_empty());
                    assert!(
                        small && parts.edges.len() <= 2 && parts.hours.len() <= 2,
                        "{parts:?}"
                    );
                }
            }
        }
    }
}
