//! Server-sent events, cut at any byte.
//!
//! Names, ids and comments are passed over: the events that models send say in their data what they are. An event's data
//! is kept until the event ends, up to [`MAX_BYTES`]. The crates that parse such streams are bound to asynchronous ones, or keep
//! whatever comes.

use memchr::memchr2;

use crate::json::MAX_BYTES;

/// One event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event<'a> {
    /// Its data; lines are joined by `\n`.
    Data(&'a [u8]),
    /// It had more data than is kept.
    TooLong,
}

/// The events of one stream.
#[derive(Debug, Default)]
pub struct Events {
    /// The beginning of a line that has not ended.
    line: Vec<u8>,
    /// Whether there was more of that line than is kept.
    is_line_dropped: bool,
    /// The current event's data, where it has some.
    data: Option<Vec<u8>>,
    is_too_long: bool,
    /// Whether a carriage return has ended the last line, so that a line feed right behind it does not end another.
    is_behind_cr: bool,
    /// Whether a line has ended: a byte order mark may stand before the first one.
    has_begun: bool,
}

impl Events {
    /// Takes the next piece of the stream; `tell` gets the events that end in it.
    pub fn feed(&mut self, mut bytes: &[u8], tell: &mut dyn FnMut(Event)) {
        while let Some(first) = bytes.first() {
            if std::mem::take(&mut self.is_behind_cr) && *first == b'\n' {
                bytes = &bytes[1..];
                continue;
            }
            let Some(end) = memchr2(b'\n', b'\r', bytes) else {
                return self.keep(bytes);
            };
            self.is_behind_cr = bytes[end] == b'\r';
            self.end_line(&bytes[..end], tell);
            bytes = &bytes[end + 1..];
        }
    }

    /// Ends the stream: an event whose last line or whose blank line has not come is over too.
    pub fn finish(mut self, tell: &mut dyn FnMut(Event)) {
        self.end_line(&[], tell);
        self.end_event(tell);
    }

    fn keep(&mut self, piece: &[u8]) {
        if self.is_line_dropped {
            return;
        }
        let data = self.data.as_ref().map_or(0, Vec::len);
        if self.line.len() + data + piece.len() > MAX_BYTES {
            if self.line.iter().chain(piece).take(5).eq(b"data:") {
                self.is_too_long = true;
                self.data = None;
            }
            self.is_line_dropped = true;
            self.line = Vec::new();
            return;
        }
        self.line.extend_from_slice(piece);
    }

    fn end_line(&mut self, end: &[u8], tell: &mut dyn FnMut(Event)) {
        if !self.line.is_empty() {
            self.keep(end);
        }
        if std::mem::take(&mut self.is_line_dropped) {
            self.has_begun = true;
            return;
        }
        let mut kept = std::mem::take(&mut self.line);
        let line = if kept.is_empty() { end } else { &kept };
        let line = match std::mem::replace(&mut self.has_begun, true) {
            true => line,
            false => line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line),
        };
        match line.strip_prefix(b"data") {
            _ if line.is_empty() => self.end_event(tell),
            // A name without a colon is a field with an empty value.
            Some([]) => self.add(&[]),
            // One space behind the colon is no part of the value.
            Some([b':', b' ', value @ ..] | [b':', value @ ..]) => self.add(value),
            _ => {}
        }
        kept.clear();
        self.line = kept;
    }

    fn add(&mut self, line: &[u8]) {
        let is_first = self.data.is_none();
        let data = self.data.get_or_insert_default();
        if self.is_too_long || data.len() + line.len() >= MAX_BYTES {
            self.is_too_long = true;
            *data = Vec::new();
            return;
        }
        if !is_first {
            data.push(b'\n');
        }
        data.extend_from_slice(line);
    }

    fn end_event(&mut self, tell: &mut dyn FnMut(Event)) {
        let data = self.data.take();
        if std::mem::take(&mut self.is_too_long) {
            tell(Event::TooLong);
        } else if let Some(data) = data {
            tell(Event::Data(&data));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The events' data, with the stream cut as told; the last entry is what was never complete.
    fn split<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<String> {
        let mut told = Vec::new();
        let mut tell = |event: Event| {
            told.push(match event {
                Event::Data(data) => String::from_utf8_lossy(data).into_owned(),
                Event::TooLong => "too long".to_owned(),
            });
        };
        let mut events = Events::default();
        for piece in pieces {
            events.feed(piece, &mut tell);
        }
        events.finish(&mut tell);
        told
    }

    fn whole(stream: &str) -> Vec<String> {
        split([stream.as_bytes()])
    }

    #[test]
    fn lines_end_in_each_of_three_ways() {
        for end in ["\n", "\r\n", "\r"] {
            let stream = ["data: a", "data:b", "", "data:  c", "", "", "data", "", ""].join(end);
            assert_eq!(whole(&stream), ["a\nb", " c", ""], "{end:?}");
        }
    }

    #[test]
    fn what_is_no_data_is_passed_over() {
        let stream =
            ": note\nevent: data\ndatax: 1\ndat: 2\nid: 3\n\ndata: 4\nretry: 5\n\ndata: 6\n";
        assert_eq!(whole(stream), ["4", "6"]);
    }

    #[test]
    fn what_the_stream_ends_in_is_told_too() {
        for stream in ["data: a", "data: a\n", "data: a\r\n\r", "data: a\n\n"] {
            assert_eq!(whole(stream), ["a"], "{stream:?}");
        }
    }

    #[test]
    fn a_byte_order_mark_is_no_part_of_the_first_name() {
        assert_eq!(whole("\u{feff}data: a\n\n"), ["a"]);
        assert_eq!(whole("data: \u{feff}\n\n"), ["\u{feff}"]);
    }

    #[test]
    fn an_event_beyond_all_bounds_costs_itself_alone_and_no_memory() {
        let filler = [b'x'; 64 * 1024];
        let lines = [b"data: ", &filler[..1024], b"\n"].concat();
        for (begin, piece, told) in [
            // One line of data, many lines of it, and a comment, which is nothing in any case.
            ("data: ", &filler[..], &["too long", "b"][..]),
            ("", &lines[..], &["too long", "b"]),
            (": ", &filler[..], &["b"]),
        ] {
            let mut events = Events::default();
            let mut seen = Vec::new();
            let mut tell = |event: Event| {
                seen.push(match event {
                    Event::Data(data) => String::from_utf8_lossy(data).into_owned(),
                    Event::TooLong => "too long".to_owned(),
                });
            };
            events.feed(begin.as_bytes(), &mut tell);
            for _ in 0..MAX_BYTES / (piece.len() - 8) + 2 {
                events.feed(piece, &mut tell);
            }
            let data = events.data.as_ref().map_or(0, Vec::capacity);
            assert!(events.line.capacity() + data <= filler.len(), "{begin}");
            events.feed(b"\n\ndata: b\n\n", &mut tell);
            assert_eq!(seen, told, "{begin}");
        }
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
