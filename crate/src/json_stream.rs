//! The values of a JSON text, cut at any byte: one document, documents one behind the other (a line each, or not), or the
//! entries of a list that is the whole text. Each value is kept until it ends, up to [`MAX_BYTES`], and told then.
//!
//! `serde_json` reads several values of one text, but neither a text that is still coming nor a list entry by entry.

use memchr::memchr2;

use crate::json::MAX_BYTES;
use crate::sse::Event;

/// The values of one text. What is neither an object nor a list within it is passed over.
#[derive(Debug, Default)]
pub struct Values {
    /// The beginning of a value that has not ended.
    value: Vec<u8>,
    /// How many objects and lists are open in it.
    depth: usize,
    is_string: bool,
    is_escaped: bool,
    /// Whether there was more of this value than is kept.
    is_too_long: bool,
    /// Whether the first value has begun: a list that begins before it is the whole text.
    has_begun: bool,
}

impl Values {
    /// Takes the next piece of the text; `tell` gets the values that end in it.
    pub fn feed(&mut self, bytes: &[u8], tell: &mut dyn FnMut(Event)) {
        let (mut from, mut at) = (0, 0);
        while at < bytes.len() {
            if self.is_string {
                at += self.skip_string(&bytes[at..]);
                continue;
            }
            match bytes[at] {
                b'"' => self.is_string = true,
                b'[' if self.depth == 0 && !self.has_begun => self.has_begun = true,
                b'{' | b'[' => {
                    if self.depth == 0 {
                        from = at;
                        self.has_begun = true;
                    }
                    self.depth += 1;
                }
                b'}' | b']' if self.depth > 0 => {
                    self.depth -= 1;
                    if self.depth == 0 {
                        self.end(&bytes[from..=at], tell);
                    }
                }
                _ => {}
            }
            at += 1;
        }
        if self.depth > 0 {
            self.keep(&bytes[from..]);
        }
    }

    /// Ends the text. Whether there was a value of which more came than is kept, and that did not end.
    pub fn finish(self) -> bool {
        self.is_too_long
    }

    /// Passes over a string; how many of these bytes belong to it.
    fn skip_string(&mut self, bytes: &[u8]) -> usize {
        if std::mem::take(&mut self.is_escaped) {
            return 1;
        }
        let Some(end) = memchr2(b'"', b'\\', bytes) else {
            return bytes.len();
        };
        self.is_escaped = bytes[end] == b'\\';
        self.is_string = self.is_escaped;
        end + 1
    }

    fn keep(&mut self, piece: &[u8]) {
        if self.is_too_long || self.value.len() + piece.len() > MAX_BYTES {
            self.is_too_long = true;
            self.value = Vec::new();
            return;
        }
        self.value.extend_from_slice(piece);
    }

    fn end(&mut self, piece: &[u8], tell: &mut dyn FnMut(Event)) {
        if self.value.is_empty() && !self.is_too_long && piece.len() <= MAX_BYTES {
            return tell(Event::Data(piece));
        }
        self.keep(piece);
        match std::mem::take(&mut self.is_too_long) {
            true => tell(Event::TooLong),
            false => tell(Event::Data(&self.value)),
        }
        self.value.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn split<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<String> {
        let mut told = Vec::new();
        let mut tell = |event: Event| {
            told.push(match event {
                Event::Data(data) => String::from_utf8_lossy(data).into_owned(),
                Event::TooLong => "too long".to_owned(),
            });
        };
        let mut values = Values::default();
        for piece in pieces {
            values.feed(piece, &mut tell);
        }
        if values.finish() {
            told.push("too long".to_owned());
        }
        told
    }

    #[test]
    fn a_text_is_one_value_or_several_or_a_list_of_them() {
        for (text, values) in [
            (r#"{"a":[1,{"b":2}]}"#, &[r#"{"a":[1,{"b":2}]}"#][..]),
            (
                "{\"a\":1}\n{\"b\":2}\r\n\n{}",
                &[r#"{"a":1}"#, r#"{"b":2}"#, "{}"],
            ),
            (
                "[{\"a\":1}\n,\r\n{\"b\":[2]}]",
                &[r#"{"a":1}"#, r#"{"b":[2]}"#],
            ),
            (
                r#"[1,"{",null,{"a":"]}\"\\"},[2]]"#,
                &[r#"{"a":"]}\"\\"}"#, "[2]"],
            ),
            (
                r#"{"a":"\\"}{"b":"\""}"#,
                &[r#"{"a":"\\"}"#, r#"{"b":"\""}"#],
            ),
            (r#"{"a":{"b":1}"#, &[]),
            ("[", &[]),
            ("]}", &[]),
        ] {
            assert_eq!(split([text.as_bytes()]), values, "{text}");
        }
    }

    #[test]
    fn a_value_beyond_all_bounds_costs_itself_alone_and_no_memory() {
        let filler = [b'x'; 64 * 1024];
        let mut values = Values::default();
        let mut seen = 0;
        values.feed(b"[{\"a\":\"", &mut |_| seen += 1);
        for _ in 0..=MAX_BYTES / filler.len() {
            values.feed(&filler, &mut |_| seen += 1);
        }
        assert_eq!((values.value.capacity(), seen), (0, 0));
        let mut told = Vec::new();
        values.feed(b"\"},{\"b\":1}]", &mut |event| {
            told.push(matches!(event, Event::Data(b"{\"b\":1}")));
        });
        assert_eq!(told, [false, true]);
    }

    proptest! {
        #[test]
        fn the_same_values_however_it_is_cut(
            text in r#"(\{|\}|\[|\]|"|\\|,|:|[a-c1 ]|\n){0,60}"#,
            size in 1usize..9,
        ) {
            let bytes = text.as_bytes();
            prop_assert_eq!(split(bytes.chunks(size)), split([bytes]));
        }
    }
}
