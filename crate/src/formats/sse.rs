//! Splits a stream of server-sent events that arrives in pieces of any size.
//!
//! Names, ids and comments are skipped: the data of models' events identify their kind. An event's data is buffered
//! until the event ends, up to [`MAX_BYTES`]. Some servers leave out the blank line between events: a line that begins
//! another JSON value begins another event. The existing crates for such streams require asynchronous streams, or buffer
//! without a limit.

use memchr::memchr2;

use crate::formats::json::MAX_BYTES;

/// One event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event<'a> {
    /// Its data, with lines joined by `\n`.
    Data(&'a [u8]),
    /// Its data exceeded the limit.
    TooLong,
}

/// Splits one stream.
#[derive(Debug, Default)]
pub struct Events {
    /// The beginning of an incomplete line.
    line: Vec<u8>,
    /// Whether that line exceeded the limit and was dropped.
    is_line_dropped: bool,
    /// The current event's data; `None` before its first data line.
    data: Option<Vec<u8>>,
    is_too_long: bool,
    /// Whether a carriage return ended the last line. A line feed directly after it belongs to the same line end.
    follows_cr: bool,
    /// Whether a line has ended. A byte order mark may precede the first one.
    has_begun: bool,
}

impl Events {
    /// Reads the next piece of the stream. `emit` receives the events that end in it.
    pub fn feed(&mut self, mut bytes: &[u8], emit: &mut dyn FnMut(Event)) {
        while let Some(first) = bytes.first() {
            if std::mem::take(&mut self.follows_cr) && *first == b'\n' {
                bytes = &bytes[1..];
                continue;
            }
            let Some(end) = memchr2(b'\n', b'\r', bytes) else {
                return self.buffer(bytes);
            };
            self.follows_cr = bytes[end] == b'\r';
            self.end_line(&bytes[..end], emit);
            bytes = &bytes[end + 1..];
        }
    }

    /// Ends the stream. An event without its last line end or its blank line is complete too.
    pub fn finish(mut self, emit: &mut dyn FnMut(Event)) {
        self.end_line(&[], emit);
        self.end_event(emit);
    }

    fn buffer(&mut self, piece: &[u8]) {
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

    fn end_line(&mut self, end: &[u8], emit: &mut dyn FnMut(Event)) {
        if !self.line.is_empty() {
            self.buffer(end);
        }
        if std::mem::take(&mut self.is_line_dropped) {
            self.has_begun = true;
            return;
        }
        let mut buffered = std::mem::take(&mut self.line);
        let line = if buffered.is_empty() { end } else { &buffered };
        let line = match std::mem::replace(&mut self.has_begun, true) {
            true => line,
            false => line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line),
        };
        match line.strip_prefix(b"data") {
            _ if line.is_empty() => self.end_event(emit),
            // A name without a colon is a field with an empty value.
            Some([]) => self.add(&[]),
            // One space after the colon is not part of the value.
            Some([b':', b' ', value @ ..] | [b':', value @ ..]) => {
                if self.begins_another(value) {
                    self.end_event(emit);
                }
                self.add(value);
            }
            _ => {}
        }
        buffered.clear();
        self.line = buffered;
    }

    /// Whether this line of data cannot belong to the current event, because no JSON text has an opening bracket directly
    /// after a closing one.
    fn begins_another(&self, line: &[u8]) -> bool {
        let data = self.data.as_deref().unwrap_or_default();
        // In this order a run of blanks is scanned once: the line behind it is not blank.
        matches!(line.trim_ascii_start().first(), Some(b'{' | b'['))
            && matches!(data.trim_ascii_end().last(), Some(b'}' | b']'))
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

    fn end_event(&mut self, emit: &mut dyn FnMut(Event)) {
        let data = self.data.take();
        if std::mem::take(&mut self.is_too_long) {
            emit(Event::TooLong);
        } else if let Some(data) = data {
            emit(Event::Data(&data));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The events' data of a stream in pieces.
    fn split<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<String> {
        let mut seen_data = Vec::new();
        let mut emit = |event: Event| {
            seen_data.push(match event {
                Event::Data(data) => String::from_utf8_lossy(data).into_owned(),
                Event::TooLong => "too long".to_owned(),
            });
        };
        let mut events = Events::default();
        for piece in pieces {
            events.feed(piece, &mut emit);
        }
        events.finish(&mut emit);
        seen_data
    }

    fn whole(stream: &str) -> Vec<String> {
        split([stream.as_bytes()])
    }

    #[test]
    fn lines_have_three_kinds_of_ends() {
        for end in ["\n", "\r\n", "\r"] {
            let stream = ["data: a", "data:b", "", "data:  c", "", "", "data", "", ""].join(end);
            assert_eq!(whole(&stream), ["a\nb", " c", ""], "{end:?}");
        }
    }

    #[test]
    fn other_fields_are_skipped() {
        let stream =
            ": note\nevent: data\ndatax: 1\ndat: 2\nid: 3\n\ndata: 4\nretry: 5\n\ndata: 6\n";
        assert_eq!(whole(stream), ["4", "6"]);
    }

    #[test]
    fn the_last_event_needs_no_line_end() {
        for stream in ["data: a", "data: a\n", "data: a\r\n\r", "data: a\n\n"] {
            assert_eq!(whole(stream), ["a"], "{stream:?}");
        }
    }

    #[test]
    fn another_json_value_is_another_event() {
        for end in ["\n", "\r\n", "\r"] {
            let stream = [
                "data: {\"a\":1}",
                "id: 0",
                "data: {\"b\":",
                "data: [{}",
                "data: ]} ",
                "data:  [2]",
                "event: c",
                "data: {}",
                "data: [DONE] ",
                "data: {}",
            ];
            let expected = [
                "{\"a\":1}",
                "{\"b\":\n[{}\n]} ",
                " [2]",
                "{}",
                "[DONE] ",
                "{}",
            ];
            assert_eq!(whole(&stream.join(end)), expected, "{end:?}");
        }
        // Text is no JSON, but no provider's event is a text with such lines.
        assert_eq!(whole("data: a\ndata: {}\ndata: b\n"), ["a\n{}\nb"]);
    }

    #[test]
    fn many_empty_lines_take_no_time() {
        // Quadratic work would take minutes.
        assert_eq!(whole(&"data:\n".repeat(1_000_000))[0].len(), 999_999);
    }

    #[test]
    fn a_byte_order_mark_before_the_first_name_is_skipped() {
        assert_eq!(whole("\u{feff}data: a\n\n"), ["a"]);
        assert_eq!(whole("data: \u{feff}\n\n"), ["\u{feff}"]);
    }

    #[test]
    fn a_too_long_event_affects_only_itself_and_takes_no_memory() {
        let filler = [b'x'; 64 * 1024];
        let lines = [b"data: ", &filler[..1024], b"\n"].concat();
        for (begin, piece, seen_data) in [
            // One data line, many data lines, and a comment, which is skipped in any case.
            ("data: ", &filler[..], &["too long", "b"][..]),
            ("", &lines[..], &["too long", "b"]),
            (": ", &filler[..], &["b"]),
        ] {
            let mut events = Events::default();
            let mut seen = Vec::new();
            let mut emit = |event: Event| {
                seen.push(match event {
                    Event::Data(data) => String::from_utf8_lossy(data).into_owned(),
                    Event::TooLong => "too long".to_owned(),
                });
            };
            events.feed(begin.as_bytes(), &mut emit);
            for _ in 0..MAX_BYTES / (piece.len() - 8) + 2 {
                events.feed(piece, &mut emit);
            }
            let data = events.data.as_ref().map_or(0, Vec::capacity);
            assert!(events.line.capacity() + data <= filler.len(), "{begin}");
            events.feed(b"\n\ndata: b\n\n", &mut emit);
            assert_eq!(seen, seen_data, "{begin}");
        }
    }

    proptest! {
        #[test]
        fn events_are_the_same_however_the_stream_is_cut(
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
