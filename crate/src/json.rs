//! Finds declared scalars in JSON that comes in pieces, and holds nothing else of it.
//!
//! An answer of a model is read while it passes, so its text must cost neither memory nor time. This
//! reader keeps a stack as deep as its declaration and one scalar; what nobody asked for is passed over
//! byte by byte. Cut anywhere, the same document gives the same findings.
//!
//! It is strict where it looks and lenient where it does not: inside what is passed over, only texts and
//! brackets are told apart.

use crate::facts::MAX_TEXT;

/// What of a document is wanted.
#[derive(Debug)]
pub enum Shape<F: 'static> {
    /// This value: a scalar as it is, of anything else that it is there.
    Leaf(F),
    /// Only that there is something: a text with a character in it, `true`, a number, an object, a list.
    Mark(F),
    /// These members of an object.
    Object(&'static [(&'static str, Shape<F>)]),
    /// The same, and where the object begins and ends; also its value where it is a scalar.
    Record(F, &'static [(&'static str, Shape<F>)]),
    /// Each entry of a list; a value that is no list is its own only entry.
    Each(&'static Shape<F>),
}

/// One finding.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Found<'a> {
    /// `null`.
    Null,
    /// A boolean.
    Bool(bool),
    /// A number, as it is written; it follows JSON's grammar.
    Number(&'a str),
    /// A text, cut at [`MAX_TEXT`] bytes.
    Text(&'a str),
    /// Something is there.
    Present,
    /// A record begins.
    Begin,
    /// A record ends.
    End {
        /// Whether it had no member at all.
        is_empty: bool,
    },
}

/// Who is told of findings: the field, the finding, and the offset in the document at which it begins
/// (at which it ends, for [`Found::End`]).
pub type Tell<'t, F> = &'t mut dyn FnMut(F, Found<'_>, usize);

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

/// Where an escape in a text stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Escape {
    None,
    /// Behind the backslash.
    Begun,
    /// Behind `\u`: so many digits, and their value.
    Hex(u8, u16),
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
    text: Vec<u8>,
    escape: Escape,
    /// The first half of a surrogate pair, while the second is awaited.
    high: Option<u16>,
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
            text: Vec::new(),
            escape: Escape::None,
            high: None,
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
        last.text.clear();
        self.open = last.open;
        self.text = last.text;
        self.is_sequence = last.is_sequence;
    }

    /// Whether a document has passed, whole, and nothing behind it.
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Whether nothing has come but white space.
    pub fn is_blank(&self) -> bool {
        self.state == State::Value && self.open.is_empty()
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
                State::PassingText => index += self.passed_text(&bytes[index..]),
                State::Passing => index += self.passed(&bytes[index..]),
                State::Broken => break,
                _ => {
                    // A number ends only with what follows it, which is then looked at again.
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
        if self.state == State::InScalar {
            let is_part = byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.');
            if is_part && self.text.len() < MAX_KEY {
                self.text.push(byte);
                return true;
            }
            self.end_scalar(tell);
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
                self.text.clear();
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
        if let Some(open) = self.open.last_mut() {
            open.is_empty = false;
        }
        match byte {
            b'"' => {
                self.text.clear();
                self.state = match self.wanted() {
                    Some(Shape::Leaf(_) | Shape::Mark(_) | Shape::Record(..)) => State::InText,
                    _ => State::PassingText,
                };
            }
            b'{' | b'[' => self.begin_container(byte == b'[', at, tell),
            b'-' | b'0'..=b'9' | b't' | b'f' | b'n' | b'N' | b'I' => {
                self.text.clear();
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

    fn end_key(&mut self) {
        let members = match self.open.last().map(|open| open.shape) {
            Some(Shape::Object(members) | Shape::Record(_, members)) => *members,
            _ => &[],
        };
        let key = self.text.as_slice();
        self.shape = members
            .iter()
            .find(|(name, _)| name.as_bytes() == key)
            .map(|(_, shape)| shape);
        self.state = State::Colon;
    }

    fn end_text(&mut self, tell: Tell<'_, F>) {
        match self.wanted() {
            Some(Shape::Mark(field)) if !self.text.is_empty() => {
                tell(*field, Found::Present, self.start);
            }
            Some(Shape::Leaf(field) | Shape::Record(field, _)) => {
                tell(*field, Found::Text(valid(&self.text)), self.start);
            }
            _ => {}
        }
        self.end_value();
    }

    fn end_scalar(&mut self, tell: Tell<'_, F>) {
        let found = match self.text.as_slice() {
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
        for (index, &byte) in bytes.iter().enumerate() {
            match (self.escape, byte) {
                (Escape::None, b'"') => {
                    self.lone_surrogate();
                    if self.state == State::InKey {
                        self.end_key();
                    } else {
                        self.end_text(tell);
                    }
                    return index + 1;
                }
                (Escape::None, b'\\') => self.escape = Escape::Begun,
                (Escape::None, _) => {
                    self.lone_surrogate();
                    self.keep(&[byte]);
                }
                (Escape::Begun, b'u') => self.escape = Escape::Hex(0, 0),
                (Escape::Begun, _) => {
                    self.lone_surrogate();
                    self.escape = Escape::None;
                    match byte {
                        b'n' => self.keep(b"\n"),
                        b't' => self.keep(b"\t"),
                        b'r' => self.keep(b"\r"),
                        b'b' => self.keep(b"\x08"),
                        b'f' => self.keep(b"\x0c"),
                        b'"' | b'\\' | b'/' => self.keep(&[byte]),
                        _ => self.state = State::Broken,
                    }
                }
                (Escape::Hex(digits, value), _) => self.hex(digits, value, byte),
            }
            if self.state == State::Broken {
                return bytes.len();
            }
        }
        bytes.len()
    }

    fn hex(&mut self, digits: u8, value: u16, byte: u8) {
        let Some(digit) = char::from(byte).to_digit(16) else {
            self.state = State::Broken;
            return;
        };
        let value = value << 4 | digit as u16;
        if digits < 3 {
            self.escape = Escape::Hex(digits + 1, value);
            return;
        }
        self.escape = Escape::None;
        match (self.high, value) {
            (Some(high), 0xdc00..=0xdfff) => {
                self.high = None;
                let code = 0x1_0000 + (u32::from(high - 0xd800) << 10) + u32::from(value - 0xdc00);
                self.keep_char(char::from_u32(code));
            }
            (_, 0xd800..=0xdbff) => {
                self.lone_surrogate();
                self.high = Some(value);
            }
            _ => {
                self.lone_surrogate();
                self.keep_char(char::from_u32(u32::from(value)));
            }
        }
    }

    /// Half a pair without the other half is no character.
    fn lone_surrogate(&mut self) {
        if self.high.take().is_some() {
            self.keep_char(None);
        }
    }

    fn keep_char(&mut self, char: Option<char>) {
        let char = char.unwrap_or(char::REPLACEMENT_CHARACTER);
        self.keep(char.encode_utf8(&mut [0; 4]).as_bytes());
    }

    fn keep(&mut self, bytes: &[u8]) {
        let most = match (self.state, self.wanted()) {
            // One byte more than a key can have, so that a long one is not taken for its beginning.
            (State::InKey, _) => MAX_KEY + 1,
            (_, Some(Shape::Mark(_))) => 1,
            _ => MAX_TEXT,
        };
        if self.text.len() < most {
            self.text.extend_from_slice(bytes);
        }
    }

    /// Bytes of a text that nobody asked for.
    fn passed_text(&mut self, bytes: &[u8]) -> usize {
        let mut index = 0;
        if self.escape == Escape::Begun {
            self.escape = Escape::None;
            index = 1;
        }
        while let Some(found) = bytes[index.min(bytes.len())..]
            .iter()
            .position(|byte| matches!(byte, b'"' | b'\\'))
        {
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
                self.escape = Escape::Begun;
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

/// JSON's grammar of numbers.
fn is_number(bytes: &[u8]) -> bool {
    let rest = bytes.strip_prefix(b"-").unwrap_or(bytes);
    let (whole, rest) = digits(rest);
    if whole == 0 || (whole > 1 && bytes.iter().find(|byte| **byte != b'-') == Some(&b'0')) {
        return false;
    }
    let rest = match rest.strip_prefix(b".") {
        Some(rest) => match digits(rest) {
            (0, _) => return false,
            (_, rest) => rest,
        },
        None => rest,
    };
    let Some(rest) = rest.strip_prefix(b"e").or(rest.strip_prefix(b"E")) else {
        return rest.is_empty();
    };
    let rest = rest
        .strip_prefix(b"+")
        .or(rest.strip_prefix(b"-"))
        .unwrap_or(rest);
    matches!(digits(rest), (1.., []))
}

/// How many digits there are, and what follows them.
fn digits(bytes: &[u8]) -> (usize, &[u8]) {
    let count = bytes
        .iter()
        .take_while(|byte| byte.is_ascii_digit())
        .count();
    (count, &bytes[count..])
}

#[cfg(test)]
#[path = "json_tests.rs"]
mod tests;
