//! The reader itself.

use super::number::is_number;
use super::text::{Step, Text};
use super::{Found, Shape, Tell};
use crate::facts::MAX_TEXT;
use crate::find;

/// Keys beyond this many bytes are none of ours.
const MAX_KEY: usize = 64;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// A value is to begin.
    Value,
    /// The same, or the list ends.
    ValueOrEnd,
    /// A key is to begin, or the object ends.
    KeyOrEnd,
    /// A key is to begin.
    Key,
    /// Inside a key.
    InKey,
    /// The colon behind a key.
    Colon,
    /// Behind a value.
    Behind,
    /// Inside a text.
    InText,
    /// At the beginning of a text of which only matters whether there is something in it.
    Marking,
    /// Inside a number, `true`, `false` or `null`.
    InScalar,
    /// Inside an object or a list that nobody asked for.
    Passing,
    /// Inside a text of such.
    PassingText,
    /// The document is complete.
    Done,
    /// This is no JSON.
    Broken,
}

#[derive(Debug)]
struct Open<F: 'static> {
    shape: &'static Shape<F>,
    is_list: bool,
    is_empty: bool,
}

/// The reader of one document, or of a sequence of them.
#[derive(Debug)]
pub struct Scanner<F: 'static> {
    root: &'static Shape<F>,
    /// Whether further documents may follow the first.
    is_sequence: bool,
    open: Vec<Open<F>>,
    /// How many containers are open inside what is passed over.
    passing: u32,
    state: State,
    /// What the value at hand is to us.
    shape: Option<&'static Shape<F>>,
    /// Where the value at hand began.
    start: usize,
    /// The key, text or number at hand.
    text: Text,
    /// Whether the last byte was a backslash in a text that is passed over.
    is_escaped: bool,
    /// Bytes of earlier pieces.
    before: usize,
}

impl<F: Copy + 'static> Scanner<F> {
    /// A reader that looks for this shape.
    pub fn new(root: &'static Shape<F>) -> Self {
        Self {
            root,
            is_sequence: false,
            open: Vec::new(),
            passing: 0,
            state: State::Value,
            shape: Some(root),
            start: 0,
            text: Text::default(),
            is_escaped: false,
            before: 0,
        }
    }

    /// A reader that looks for this shape in each of several documents, one behind the other.
    pub fn sequence(root: &'static Shape<F>) -> Self {
        Self {
            is_sequence: true,
            ..Self::new(root)
        }
    }

    /// Begins a new document; what was allocated for the last one serves again.
    pub fn reset(&mut self) {
        let fresh = Self::new(self.root);
        let mut last = std::mem::replace(self, fresh);
        last.open.clear();
        self.open = last.open;
        self.text = last.text;
        self.is_sequence = last.is_sequence;
    }

    /// Whether a document has passed, whole, and nothing behind it.
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Whether this is no JSON.
    pub fn is_broken(&self) -> bool {
        self.state == State::Broken
    }

    /// Takes the next piece.
    pub fn feed(&mut self, bytes: &[u8], tell: Tell<'_, F>) {
        let mut index = 0;
        while let Some(&byte) = bytes.get(index) {
            match self.state {
                State::InText | State::InKey => index += self.text(&bytes[index..], tell),
                State::InScalar => index += self.scalar(&bytes[index..], tell),
                State::PassingText => index += self.passed_text(&bytes[index..]),
                State::Passing => index += self.passed(&bytes[index..]),
                State::Broken => break,
                _ => {
                    if self.step(byte, self.before + index, tell) {
                        index += 1;
                    }
                }
            }
        }
        self.before += bytes.len();
    }

    /// One byte outside of texts; whether it was used up.
    fn step(&mut self, byte: u8, at: usize, tell: Tell<'_, F>) -> bool {
        if self.state == State::Marking {
            if byte == b'"' {
                self.end_value();
                return true;
            }
            if let Some(Shape::Mark(field)) = self.wanted() {
                tell(*field, Found::Present, self.start);
            }
            self.state = State::PassingText;
            return false;
        }
        if matches!(byte, b' ' | b'\n' | b'\r' | b'\t') {
            return true;
        }
        match (self.state, byte) {
            (State::Done, _) if self.is_sequence => {
                self.shape = Some(self.root);
                self.state = State::Value;
                return false;
            }
            // A byte order mark.
            (State::Value, 0xef | 0xbb | 0xbf) if self.open.is_empty() => {}
            (State::ValueOrEnd, b']') | (State::KeyOrEnd, b'}') => self.close(at, tell),
            (State::Value | State::ValueOrEnd, _) => self.begin(byte, at, tell),
            (State::Key | State::KeyOrEnd, b'"') => {
                // One byte more than a key can have, so that a long one is not taken for its beginning.
                self.text.begin(MAX_KEY + 1);
                self.state = State::InKey;
            }
            (State::Colon, b':') => self.state = State::Value,
            (State::Behind, b',') => self.next(),
            (State::Behind, b']' | b'}') => {
                let is_list = self.open.last().is_some_and(|open| open.is_list);
                if is_list == (byte == b']') {
                    self.close(at, tell);
                } else {
                    self.state = State::Broken;
                }
            }
            _ => self.state = State::Broken,
        }
        true
    }

    /// A value begins.
    fn begin(&mut self, byte: u8, at: usize, tell: Tell<'_, F>) {
        self.start = at;
        self.text.begin(MAX_TEXT);
        if let Some(open) = self.open.last_mut() {
            open.is_empty = false;
        }
        match byte {
            b'"' => {
                self.state = match self.wanted() {
                    Some(Shape::Leaf(_) | Shape::Record(..)) => State::InText,
                    Some(Shape::Mark(_)) => State::Marking,
                    _ => State::PassingText,
                };
            }
            b'{' | b'[' => self.begin_container(byte == b'[', at, tell),
            b'-' | b'0'..=b'9' | b't' | b'f' | b'n' | b'N' | b'I' => {
                self.text.push(byte);
                self.state = State::InScalar;
            }
            _ => self.state = State::Broken,
        }
    }

    /// The shape of the value at hand; a scalar or an object in a list's place is its only entry.
    fn wanted(&self) -> Option<&'static Shape<F>> {
        match self.shape {
            Some(Shape::Each(entry)) => Some(entry),
            shape => shape,
        }
    }

    fn begin_container(&mut self, is_list: bool, at: usize, tell: Tell<'_, F>) {
        let shape = match (self.shape, is_list) {
            (Some(shape @ Shape::Each(_)), true) => Some(shape),
            (_, true) => None,
            (_, false) => match self.wanted() {
                Some(shape @ (Shape::Object(_) | Shape::Record(..))) => Some(shape),
                _ => None,
            },
        };
        if let Some(Shape::Leaf(field) | Shape::Mark(field)) = self.wanted() {
            tell(*field, Found::Present, at);
        }
        let Some(shape) = shape else {
            self.passing = 1;
            self.state = State::Passing;
            return;
        };
        if let Shape::Record(field, _) = shape {
            tell(*field, Found::Begin, at);
        }
        self.open.push(Open {
            shape,
            is_list,
            is_empty: true,
        });
        if let (true, Shape::Each(entry)) = (is_list, shape) {
            self.shape = Some(entry);
            self.state = State::ValueOrEnd;
        } else {
            self.state = State::KeyOrEnd;
        }
    }

    fn close(&mut self, at: usize, tell: Tell<'_, F>) {
        let Some(open) = self.open.pop() else {
            self.state = State::Broken;
            return;
        };
        if let (false, Shape::Record(field, _)) = (open.is_list, open.shape) {
            let is_empty = open.is_empty;
            tell(*field, Found::End { is_empty }, at);
        }
        self.end_value();
    }

    fn end_value(&mut self) {
        self.state = if self.open.is_empty() {
            State::Done
        } else {
            State::Behind
        };
    }

    /// Behind a comma.
    fn next(&mut self) {
        match self.open.last() {
            Some(open) if open.is_list => {
                self.shape = match open.shape {
                    Shape::Each(entry) => Some(entry),
                    _ => None,
                };
                self.state = State::Value;
            }
            _ => self.state = State::Key,
        }
    }

    fn end_text(&mut self, text: &[u8], tell: Tell<'_, F>) {
        if let Some(Shape::Leaf(field) | Shape::Record(field, _)) = self.wanted() {
            tell(*field, Found::Text(valid(text)), self.start);
        }
        self.end_value();
    }

    fn end_key(&mut self, key: &[u8]) {
        let members = match self.open.last().map(|open| open.shape) {
            Some(Shape::Object(members) | Shape::Record(_, members)) => *members,
            _ => &[],
        };
        self.shape = members
            .iter()
            .find(|(name, _)| name.as_bytes() == key)
            .map(|(_, shape)| shape);
        self.state = State::Colon;
    }

    /// Bytes of a number, `true`, `false` or `null`, which ends only with what follows it; how many were
    /// used up.
    fn scalar(&mut self, bytes: &[u8], tell: Tell<'_, F>) -> usize {
        for (index, &byte) in bytes.iter().enumerate() {
            if !(byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.')) {
                self.end_scalar(tell);
                return index;
            }
            self.text.push(byte);
        }
        bytes.len()
    }

    fn end_scalar(&mut self, tell: Tell<'_, F>) {
        let found = match self.text.kept() {
            // Python writes the other three, which no grammar has, for what is no number.
            b"null" | b"NaN" | b"Infinity" | b"-Infinity" => Found::Null,
            b"true" => Found::Bool(true),
            b"false" => Found::Bool(false),
            number if is_number(number) => Found::Number(valid(number)),
            _ => {
                self.state = State::Broken;
                return;
            }
        };
        match self.wanted() {
            Some(Shape::Leaf(field) | Shape::Record(field, _)) => tell(*field, found, self.start),
            Some(Shape::Mark(field)) if !matches!(found, Found::Null | Found::Bool(false)) => {
                tell(*field, Found::Present, self.start);
            }
            _ => {}
        }
        self.end_value();
    }

    /// Bytes of a text or key that is kept; how many were used up.
    fn text(&mut self, bytes: &[u8], tell: Tell<'_, F>) -> usize {
        let (used, rest) = match self.text.feed(bytes) {
            Step::More => return bytes.len(),
            Step::Broken => {
                self.state = State::Broken;
                return bytes.len();
            }
            Step::Over { used, rest } => (used, rest),
        };
        let mut text = std::mem::take(&mut self.text);
        let whole = text.whole(rest);
        if self.state == State::InKey {
            self.end_key(whole);
        } else {
            self.end_text(whole, tell);
        }
        self.text = text;
        used
    }

    /// Bytes of a text that nobody asked for.
    fn passed_text(&mut self, bytes: &[u8]) -> usize {
        let mut index = 0;
        if std::mem::take(&mut self.is_escaped) {
            index = 1;
        }
        while let Some(found) = find::either(&bytes[index.min(bytes.len())..], b'"', b'\\') {
            index += found + 1;
            if bytes[index - 1] == b'"' {
                if self.passing > 0 {
                    self.state = State::Passing;
                } else {
                    self.end_value();
                }
                return index;
            }
            if index == bytes.len() {
                self.is_escaped = true;
                return index;
            }
            index += 1;
        }
        bytes.len()
    }

    /// Bytes of an object or a list that nobody asked for.
    fn passed(&mut self, bytes: &[u8]) -> usize {
        for (index, &byte) in bytes.iter().enumerate() {
            match byte {
                b'"' => {
                    self.state = State::PassingText;
                    return index + 1;
                }
                b'{' | b'[' => self.passing = self.passing.saturating_add(1),
                b'}' | b']' => {
                    self.passing -= 1;
                    if self.passing == 0 {
                        self.end_value();
                        return index + 1;
                    }
                }
                _ => {}
            }
        }
        bytes.len()
    }
}

/// The text up to where it is no UTF-8 any more: it may be cut inside a character.
fn valid(bytes: &[u8]) -> &str {
    match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => std::str::from_utf8(&bytes[..error.valid_up_to()]).unwrap_or_default(),
    }
}
