//! Packed events: the numbers and the texts of many events cross in two pieces, which are copied once and decoded here. A
//! call of JavaScript for each fact costs more than counting it.
//!
//! An event is `source, wall, mono, count` and its facts; a fact is one of [`ABSENT`], [`FALSE`], [`TRUE`], [`NUMBER`] and
//! the number, [`TEXT`] and its length in UTF-16 units, [`LIST`] and its length and facts. Texts stand behind each other,
//! with one character behind each, so that halves of characters never meet. `js-shim/src/base/pack.ts` writes this.

use crate::sources::facts::Scalar;

/// The fact is not there.
pub const ABSENT: u8 = 0;
/// `false`.
pub const FALSE: u8 = 1;
/// `true`.
pub const TRUE: u8 = 2;
/// A number follows.
pub const NUMBER: u8 = 3;
/// A text's length follows.
pub const TEXT: u8 = 4;
/// A list's length and its facts follow.
pub const LIST: u8 = 5;

/// One event of many.
#[derive(Debug, Clone, PartialEq)]
pub struct PackedEvent {
    /// An index into the table of sources.
    pub source: usize,
    /// Arrival, in ms since 1970.
    pub wall: f64,
    /// Arrival, in ms of the monotonic clock.
    pub mono: f64,
    /// In the order of the source's table.
    pub facts: Vec<Scalar>,
}

/// Events that are not decoded yet.
#[derive(Debug, Default)]
pub struct Packed {
    numbers: Vec<f64>,
    texts: String,
    is_ascii: bool,
    at: usize,
    text_at: usize,
}

impl Packed {
    /// Packed events from their two pieces.
    pub fn new(numbers: Vec<f64>, texts: String) -> Self {
        Self {
            is_ascii: texts.is_ascii(),
            numbers,
            texts,
            at: 0,
            text_at: 0,
        }
    }

    fn number(&mut self) -> Option<f64> {
        let number = self.numbers.get(self.at).copied();
        self.at += 1;
        number
    }

    fn text(&mut self, units: usize) -> String {
        let rest = self.texts.get(self.text_at..).unwrap_or_default();
        let bytes = match self.is_ascii {
            true => units,
            false => bytes_of(rest, units),
        };
        let text = rest.get(..bytes).unwrap_or_default().to_owned();
        self.text_at += bytes + 1;
        text
    }

    fn facts(&mut self) -> Option<Vec<Scalar>> {
        let count = self.number()? as usize;
        let mut facts = Vec::with_capacity(count.min(self.numbers.len()));
        for _ in 0..count {
            facts.push(match self.number()? as u8 {
                FALSE => Scalar::Bool(false),
                TRUE => Scalar::Bool(true),
                NUMBER => Scalar::Number(self.number()?),
                TEXT => {
                    let units = self.number()? as usize;
                    Scalar::Text(self.text(units))
                }
                LIST => Scalar::List(self.facts()?),
                _ => Scalar::Absent,
            });
        }
        Some(facts)
    }
}

impl Iterator for Packed {
    type Item = PackedEvent;

    fn next(&mut self) -> Option<PackedEvent> {
        Some(PackedEvent {
            source: self.number()? as usize,
            wall: self.number()?,
            mono: self.number()?,
            facts: self.facts()?,
        })
    }
}

/// The number of bytes of so many UTF-16 units.
fn bytes_of(text: &str, units: usize) -> usize {
    let mut left = units;
    let end = text.char_indices().find(|(_, letter)| {
        let is_over = left == 0;
        left = left.saturating_sub(letter.len_utf16());
        is_over
    });
    end.map_or(text.len(), |(at, _)| at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Scalar {
        Scalar::Text(text.to_owned())
    }

    #[test]
    fn events_are_taken_apart_in_their_order() {
        let first = [7.0, 1e12, 5.0, 4.0, 4.0, 2.0, 0.0, 3.0, 0.5, 2.0];
        let list = [5.0, 2.0, 5.0, 1.0, 4.0, 1.0, 5.0, 0.0];
        let numbers = [&first[..], &[9.0, 2e12, 6.0, 2.0, 1.0], &list[..]].concat();
        let mut packed = Packed::new(numbers, "ab\0c\0".to_owned());
        let event = packed.next().unwrap_or_else(|| unreachable!());
        assert_eq!((event.source, event.wall, event.mono), (7, 1e12, 5.0));
        let expected = [
            text("ab"),
            Scalar::Absent,
            Scalar::Number(0.5),
            Scalar::Bool(true),
        ];
        assert_eq!(event.facts, expected);
        let event = packed.next().unwrap_or_else(|| unreachable!());
        let inner = [Scalar::List(vec![text("c")]), Scalar::List(vec![])];
        let expected = [Scalar::Bool(false), Scalar::List(inner.to_vec())];
        assert_eq!(
            (event.source, &event.facts[..]),
            (9, &expected[..]),
            "a list in a list"
        );
        assert_eq!(packed.next(), None);
    }

    #[test]
    fn lengths_are_those_of_javascript() {
        let numbers = vec![0.0, 0.0, 0.0, 3.0, 4.0, 4.0, 4.0, 1.0, 4.0, 1.0];
        // A half character becomes U+FFFD, one unit as before.
        let mut packed = Packed::new(numbers, "ü🦀x\0\u{fffd}\0z\0".to_owned());
        let facts = packed.next().map(|event| event.facts);
        assert_eq!(facts, Some(vec![text("ü🦀x"), text("\u{fffd}"), text("z")]));
    }

    #[test]
    fn what_is_cut_short_gives_no_event() {
        for end in 0..6 {
            let numbers = [0.0, 0.0, 0.0, 1.0, 4.0, 9.0];
            let mut packed = Packed::new(numbers[..end].to_vec(), String::new());
            assert_eq!(packed.next(), None, "{end}");
        }
    }
}
