//! Server-sent events, split at any byte.
//!
//! An event's data is handed on in pieces as it comes and never kept, so an event of any size costs no
//! memory and there is no bound to choose. Names, ids and comments are passed over: the events that
//! models send say in their data what they are.

use crate::find;

/// A piece of the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Piece<'a> {
    /// Bytes of the current event's data; its lines are joined by `\n`.
    Data(&'a [u8]),
    /// The event with the data before this is complete.
    End,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// A line is to begin.
    Line,
    /// So many bytes of `data` have come.
    Name(usize),
    /// Behind the colon: one space there is no part of the value.
    Colon,
    /// Inside a line of data.
    Data,
    /// Inside another line.
    Other,
}

const NAME: &[u8] = b"data";
/// What may stand before the first line.
const BYTE_ORDER_MARK: [u8; 3] = [0xef, 0xbb, 0xbf];

/// The splitter of one stream.
#[derive(Debug)]
pub struct Splitter {
    state: State,
    /// Whether a carriage return has ended a line, so that a line feed right behind it does not end another.
    is_behind_cr: bool,
    /// Whether the current event has a line of data.
    has_data: bool,
    /// How many bytes of the byte order mark have come; more than it has once the stream has begun.
    mark: usize,
}

impl Default for Splitter {
    fn default() -> Self {
        Self {
            state: State::Line,
            is_behind_cr: false,
            has_data: false,
            mark: 0,
        }
    }
}

impl Splitter {
    /// Takes the next piece of the stream.
    pub fn feed(&mut self, bytes: &[u8], tell: &mut dyn FnMut(Piece<'_>)) {
        let mut index = 0;
        while let Some(&byte) = bytes.get(index) {
            if self.mark < BYTE_ORDER_MARK.len() {
                if BYTE_ORDER_MARK[self.mark] == byte {
                    self.mark += 1;
                    index += 1;
                    continue;
                }
                self.mark = BYTE_ORDER_MARK.len();
            }
            if matches!(self.state, State::Data | State::Other) {
                index += self.value(&bytes[index..], tell);
                continue;
            }
            if self.step(byte, tell) {
                index += 1;
            }
        }
    }

    /// The rest of a line, or what there is of it.
    fn value(&mut self, bytes: &[u8], tell: &mut dyn FnMut(Piece<'_>)) -> usize {
        let end = find::either(bytes, b'\n', b'\r');
        let line = &bytes[..end.unwrap_or(bytes.len())];
        if self.state == State::Data && !line.is_empty() {
            tell(Piece::Data(line));
        }
        match end {
            Some(end) => {
                self.end_line(bytes[end]);
                end + 1
            }
            None => bytes.len(),
        }
    }

    /// One byte at a line's beginning; whether it was used up.
    fn step(&mut self, byte: u8, tell: &mut dyn FnMut(Piece<'_>)) -> bool {
        let is_second = std::mem::take(&mut self.is_behind_cr) && byte == b'\n';
        if self.state == State::Line && is_second {
            return true;
        }
        let is_end = matches!(byte, b'\n' | b'\r');
        match self.state {
            State::Line if is_end => {
                if std::mem::take(&mut self.has_data) {
                    tell(Piece::End);
                }
                self.end_line(byte);
            }
            State::Line => {
                self.state = State::Name(0);
                return false;
            }
            State::Name(length) if length == NAME.len() && byte == b':' => {
                self.begin_data(tell);
                self.state = State::Colon;
            }
            // A name without a colon is a field with an empty value.
            State::Name(length) if length == NAME.len() && is_end => {
                self.begin_data(tell);
                self.end_line(byte);
            }
            State::Name(length) if NAME.get(length) == Some(&byte) => {
                self.state = State::Name(length + 1);
            }
            State::Name(_) => {
                self.state = State::Other;
                return false;
            }
            _ => {
                self.state = State::Data;
                return byte == b' ';
            }
        }
        true
    }

    fn begin_data(&mut self, tell: &mut dyn FnMut(Piece<'_>)) {
        if std::mem::replace(&mut self.has_data, true) {
            tell(Piece::Data(b"\n"));
        }
    }

    fn end_line(&mut self, byte: u8) {
        self.is_behind_cr = byte == b'\r';
        self.state = State::Line;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The events' data, with the stream cut as told; the last entry is what was never complete.
    fn split<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<String> {
        let mut events = vec![Vec::new()];
        let mut splitter = Splitter::default();
        for piece in pieces {
            splitter.feed(piece, &mut |piece| match piece {
                Piece::Data(data) => events
                    .last_mut()
                    .into_iter()
                    .for_each(|event| event.extend(data)),
                Piece::End => events.push(Vec::new()),
            });
        }
        events
            .iter()
            .map(|event: &Vec<u8>| String::from_utf8_lossy(event).into_owned())
            .collect()
    }

    fn whole(stream: &str) -> Vec<String> {
        split([stream.as_bytes()])
    }

    #[test]
    fn lines_end_in_each_of_three_ways() {
        for end in ["\n", "\r\n", "\r"] {
            let stream = ["data: a", "data:b", "", "data:  c", "", "", "data", "", ""].join(end);
            assert_eq!(whole(&stream), ["a\nb", " c", "", ""], "{end:?}");
        }
    }

    #[test]
    fn what_is_no_data_is_passed_over() {
        let stream =
            ": note\nevent: data\ndatax: 1\ndat: 2\nid: 3\n\ndata: 4\nretry: 5\n\ndata: 6\n";
        assert_eq!(whole(stream), ["4", "6"]);
    }

    #[test]
    fn a_byte_order_mark_is_no_part_of_the_first_name() {
        assert_eq!(whole("\u{feff}data: a\n\n"), ["a", ""]);
        assert_eq!(whole("data: \u{feff}\n\n"), ["\u{feff}", ""]);
    }

    proptest! {
        #[test]
        fn the_same_events_however_it_is_cut(
            stream in "(data|data:|event:|:|[a-c ]|\r\n|\n|\r|\u{feff}){0,60}",
            cut in prop::collection::vec(0usize..200, 0..6),
        ) {
            let bytes = stream.as_bytes();
            let mut cuts: Vec<usize> = cut.into_iter().map(|at| at % (bytes.len() + 1)).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let pieces = cuts.windows(2).map(|pair| &bytes[pair[0]..pair[1]]);
            prop_assert_eq!(split(pieces), split([bytes]));
            prop_assert_eq!(split(bytes.chunks(1)), split([bytes]));
        }
    }
}
