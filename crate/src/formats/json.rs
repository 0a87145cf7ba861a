//! Reads foreign JSON with serde_json, one value at a time.
//!
//! A value stays raw text until a reader asks for it. So a number out of range, half a surrogate pair or a text in the
//! place of an object affects only itself, nesting has no limit, and no tree is built. Members of one name are all
//! handed out, in order; callers let the last one win, as JavaScript does. Bytes that are not UTF-8 become U+FFFD.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::sources::facts::cut;

/// Maximum size of one buffered JSON text, in bytes: an answer, an event of a stream, a line of a transcript.
pub const MAX_BYTES: usize = 8 * 1024 * 1024;

/// One value of a JSON text.
#[derive(Debug, Clone, Copy)]
pub struct Value<'a>(&'a RawValue);

/// Reads a text that is one JSON value; `None` for other texts. Python's `NaN` and `Infinity` are read as `null`.
pub fn read<T>(bytes: &[u8], take: impl FnOnce(Value) -> T) -> Option<T> {
    let text = text_of(bytes);
    if let Ok(value) = serde_json::from_str(&text) {
        return Some(take(Value(value)));
    }
    let text = without_nan(&text)?;
    let value = serde_json::from_str(&text).ok()?;
    Some(take(Value(value)))
}

/// Hands out the values of a text, with or without whitespace between them.
///
/// # Errors
/// The first syntax error; the values before it were handed out. See [`serde_json::Error::is_eof`].
pub fn read_all(text: &str, mut take: impl FnMut(Value)) -> serde_json::Result<()> {
    for value in serde_json::Deserializer::from_str(text).into_iter() {
        take(Value(value?));
    }
    Ok(())
}

/// Hands out the members of a text that is one object.
///
/// # Errors
/// The text is no object, or has a syntax error; the members before it were handed out.
pub fn read_object<'a>(text: &'a str, take: impl FnMut(&str, Value<'a>)) -> serde_json::Result<()> {
    let mut from = serde_json::Deserializer::from_str(text);
    from.deserialize_map(Members(take))?;
    from.end()
}

/// Decodes bytes without a byte order mark.
pub fn text_of(bytes: &[u8]) -> Cow<'_, str> {
    const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();
    String::from_utf8_lossy(bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(bytes))
}

/// Replaces Python's `NaN`, `Infinity` and `-Infinity` by `null`. `None` where the text has none of them.
pub fn without_nan(text: &str) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    let (mut is_string, mut is_escaped, mut is_changed) = (false, false, false);
    for part in text.split_inclusive(['"', '\\']) {
        if !is_string && (part.contains("NaN") || part.contains("Infinity")) {
            is_changed = true;
            let part = part.replace("-Infinity", "null");
            out.push_str(&part.replace("Infinity", "null").replace("NaN", "null"));
        } else {
            out.push_str(part);
        }
        // A quote or a backslash after a backslash is part of the string.
        let is_literal = std::mem::take(&mut is_escaped) && part.len() == 1;
        if !is_literal {
            is_string ^= part.ends_with('"');
            is_escaped = part.ends_with('\\');
        }
    }
    is_changed.then_some(out)
}

impl<'a> Value<'a> {
    /// The raw value.
    pub fn written(self) -> &'a RawValue {
        self.0
    }

    /// Its offset in the text that it was read from, in bytes.
    pub fn offset_in(self, text: &str) -> usize {
        self.0.get().as_ptr() as usize - text.as_ptr() as usize
    }

    /// Hands out the members of an object; other values have none.
    pub fn members(self, take: impl FnMut(&str, Value<'a>)) {
        if self.is_object() {
            // A `RawValue` is valid JSON, so this cannot fail.
            let _ = read_object(self.0.get(), take);
        }
    }

    /// Hands out the entries of a list. Another value is handed out itself.
    pub fn each(self, mut take: impl FnMut(Value<'a>)) {
        if self.is_list() {
            // Cannot fail either.
            let _ = serde_json::Deserializer::from_str(self.0.get()).deserialize_seq(Entries(take));
        } else {
            take(self);
        }
    }

    /// A text, cut to the shim's length; `None` for other values.
    pub fn text(self) -> Option<String> {
        if !self.begins(b"\"") {
            return None;
        }
        let Text(text) = serde_json::from_str(self.0.get()).ok()?;
        Some(cut(&text).to_owned())
    }

    /// A text that is not empty.
    pub fn name(self) -> Option<String> {
        self.text().filter(|text| !text.is_empty())
    }

    /// A number as it is written.
    pub fn number(self) -> Option<&'a str> {
        self.begins(b"-0123456789").then(|| self.0.get())
    }

    /// Whether it is `true`.
    pub fn is_true(self) -> bool {
        self.0.get() == "true"
    }

    /// Whether it is `null`.
    pub fn is_null(self) -> bool {
        self.0.get() == "null"
    }

    /// Whether it is an object.
    pub fn is_object(self) -> bool {
        self.begins(b"{")
    }

    /// Whether it is a list.
    pub fn is_list(self) -> bool {
        self.begins(b"[")
    }

    /// Whether it has content: neither `null` nor `false` nor an empty text.
    pub fn has_content(self) -> bool {
        !matches!(self.0.get(), "null" | "false" | "\"\"")
    }

    fn begins(self, first: &[u8]) -> bool {
        let begin = self.0.get().as_bytes().first();
        begin.is_some_and(|byte| first.contains(byte))
    }
}

/// A decoded string or key.
struct Text<'a>(Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Bytes;

        impl<'de> Visitor<'de> for Bytes {
            type Value = Text<'de>;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a string")
            }
            fn visit_borrowed_bytes<E>(self, bytes: &'de [u8]) -> Result<Text<'de>, E> {
                Ok(Text(String::from_utf8_lossy(bytes)))
            }
            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Owned(with_whole_characters(bytes.to_vec()))))
            }
        }

        // As bytes, since serde_json refuses half a surrogate pair in a `String`.
        from.deserialize_bytes(Bytes)
    }
}

/// Replaces each half of a surrogate pair by U+FFFD. In these bytes a half takes three bytes, as U+FFFD does.
fn with_whole_characters(mut bytes: Vec<u8>) -> String {
    for at in 2..bytes.len() {
        if let [0xed, 0xa0..=0xbf, 0x80..=0xbf] = bytes[at - 2..=at] {
            bytes[at - 2..=at].copy_from_slice("\u{fffd}".as_bytes());
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

struct Members<F>(F);

impl<'de, F: FnMut(&str, Value<'de>)> Visitor<'de> for Members<F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("an object")
    }
    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        while let Some(Text(key)) = map.next_key()? {
            (self.0)(&key, Value(map.next_value()?));
        }
        Ok(())
    }
}

struct Entries<F>(F);

impl<'de, F: FnMut(Value<'de>)> Visitor<'de> for Entries<F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a list")
    }
    fn visit_seq<A: SeqAccess<'de>>(mut self, mut entries: A) -> Result<(), A::Error> {
        while let Some(entry) = entries.next_element()? {
            (self.0)(Value(entry));
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "json_tests.rs"]
mod tests;
