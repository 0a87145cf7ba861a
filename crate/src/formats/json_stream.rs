//! Splits a JSON text that arrives in pieces of any size into its values: one document, several documents with or
//! without lines between them, or the entries of one list. A value is buffered until it ends, up to [`MAX_BYTES`].
//!
//! `serde_json` reads several values of one text, but neither a text that is still arriving nor a list entry by entry.

use memchr::memchr2;

use crate::formats::json::MAX_BYTES;
use crate::formats::sse::Event;

/// Splits one text. Values in it that are neither objects nor lists are skipped.
#[derive(Debug, Default)]
pub struct Values {
    /// The beginning of an incomplete value.
    value: Vec<u8>,
    /// Nesting depth of objects and lists.
    depth: usize,
    is_string: bool,
    is_escaped: bool,
    /// Whether the current value exceeds the limit.
    is_too_long: bool,
    /// Whether the first value has begun. A list that begins before it is the whole text.
    has_begun: bool,
    /// Whether the text is a list, and that it ended.
    list: Option<bool>,
}

impl Values {
    /// Reads the next piece of the text. `emit` receives the values that end in it.
    pub fn feed(&mut self, bytes: &[u8], emit: &mut dyn FnMut(Event)) {
        let (mut from, mut at) = (0, 0);
        while at < bytes.len() {
            if self.is_string {
                at += self.skip_string(&bytes[at..]);
                continue;
            }
            match bytes[at] {
                b'"' => self.is_string = true,
                b'[' if self.depth == 0 && !self.has_begun => {
                    self.has_begun = true;
                    self.list = Some(false);
                }
                b']' if self.depth == 0 && self.list.is_some() => self.list = Some(true),
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
                        self.end(&bytes[from..=at], emit);
                    }
                }
                // Another text, such as a page, may have brackets later.
                byte if self.depth == 0 && byte.is_ascii_graphic() => self.has_begun = true,
                _ => {}
            }
            at += 1;
        }
        if self.depth > 0 {
            self.buffer(&bytes[from..]);
        }
    }

    /// Ends the text. Returns whether an incomplete value exceeded the limit.
    pub fn finish(self) -> bool {
        self.is_too_long
    }

    /// Whether the text is one list that has ended.
    pub fn is_whole_list(&self) -> bool {
        self.list == Some(true) && self.depth == 0 && !self.is_string
    }

    /// Skips a string. Returns the number of its bytes in this piece.
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

    fn buffer(&mut self, piece: &[u8]) {
        if self.is_too_long || self.value.len() + piece.len() > MAX_BYTES {
            self.is_too_long = true;
            self.value = Vec::new();
            return;
        }
        self.value.extend_from_slice(piece);
    }

    fn end(&mut self, piece: &[u8], emit: &mut dyn FnMut(Event)) {
        if self.value.is_empty() && !self.is_too_long && piece.len() <= MAX_BYTES {
            return emit(Event::Data(piece));
        }
        self.buffer(piece);
        match std::mem::take(&mut self.is_too_long) {
            true => emit(Event::TooLong),
            false => emit(Event::Data(&self.value)),
        }
        self.value.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn split<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<String> {
        let mut seen = Vec::new();
        let mut emit = |event: Event| {
            seen.push(match event {
                Event::Data(data) => String::from_utf8_lossy(data).into_owned(),
                Event::TooLong => "too long".to_owned(),
            });
        };
        let mut values = Values::default();
        for piece in pieces {
            values.feed(piece, &mut emit);
        }
        if values.finish() {
            seen.push("too long".to_owned());
        }
        seen
    }

    #[test]
    fn a_list_is_whole_at_its_end_alone() {
        let is_whole = |text: &str| {
            let mut values = Values::default();
            for byte in text.as_bytes().chunks(1) {
                values.feed(byte, &mut |_| {});
            }
            values.is_whole_list()
        };
        let text = r#"[{"a":"]"},{"b":[1,[2]]}]"#;
        assert!(is_whole(text) && is_whole(" [ ]\n"));
        for end in 0..text.len() {
            assert!(!is_whole(&text[..end]), "{}", &text[..end]);
        }
        for text in ["", "<html><body>[1]</body>", r#"{"a":[]}"#, "null"] {
            assert!(!is_whole(text), "{text}");
        }
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
    fn a_too_long_value_affects_only_itself_and_takes_no_memory() {
        let filler = [b'x'; 64 * 1024];
        let mut values = Values::default();
        let mut seen = 0;
        values.feed(b"[{\"a\":\"", &mut |_| seen += 1);
        for _ in 0..=MAX_BYTES / filler.len() {
            values.feed(&filler, &mut |_| seen += 1);
        }
        assert_eq!((values.value.capacity(), seen), (0, 0));
        let mut seen = Vec::new();
        values.feed(b"\"},{\"b\":1}]", &mut |event| {
            seen.push(matches!(event, Event::Data(b"{\"b\":1}")));
        });
        assert_eq!(seen, [false, true]);
    }

    proptest! {
        #[test]
        fn values_are_the_same_however_the_text_is_cut(
            text in r#"(\{|\}|\[|\]|"|\\|,|:|[a-c1 ]|\n){0,60}"#,
            size in 1usize..9,
        ) {
            let bytes = text.as_bytes();
            prop_assert_eq!(split(bytes.chunks(size)), split([bytes]));
        }
    }
}
