//! A cursor over one line of JSON: it hands out scalars where it is asked to, and passes over all
//! else without keeping it. No recursion, no allocation.

use super::scan::string_end;

/// What is wrong with a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It is no JSON, or ends too early.
    Malformed,
    /// It nests deeper than [`MAX_DEPTH`].
    TooDeep,
}

/// As deep as serde_json goes.
pub const MAX_DEPTH: u32 = 127;

/// Longer numbers are none that a gateway writes.
const MAX_NUMBER: usize = 64;

/// A value as it stands in the line.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub enum Value<'a> {
    /// Missing or `null`.
    #[default]
    Absent,
    /// A number, `true` or `false`, as written.
    Plain(&'a str),
    /// What stands between a string's quotes, escapes as written.
    Text(&'a [u8]),
    /// An object, a list, or a number of absurd length: there, and unusable.
    Unusable,
}

/// A place in a line.
pub struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// The next byte that is no blank, without taking it.
    pub fn peek(&mut self) -> Result<u8, Fault> {
        while let Some(byte) = self.bytes.get(self.at) {
            match byte {
                b' ' | b'\t' | b'\r' | b'\n' => self.at += 1,
                other => return Ok(*other),
            }
        }
        Err(Fault::Malformed)
    }

    /// Takes that byte if it is this one.
    pub fn take(&mut self, wanted: u8) -> Result<bool, Fault> {
        let is_next = self.peek()? == wanted;
        self.at += usize::from(is_next);
        Ok(is_next)
    }

    /// Takes this byte, or fails.
    pub fn expect(&mut self, wanted: u8) -> Result<(), Fault> {
        match self.take(wanted)? {
            true => Ok(()),
            false => Err(Fault::Malformed),
        }
    }

    /// Whether nothing but blanks is left.
    pub fn is_at_end(&mut self) -> bool {
        self.peek().is_err()
    }

    /// The member's name, and the colon behind it.
    pub fn key(&mut self) -> Result<&'a [u8], Fault> {
        self.expect(b'"')?;
        let key = self.string()?;
        self.expect(b':')?;
        Ok(key)
    }

    /// The rest of a string whose opening quote was taken.
    fn string(&mut self) -> Result<&'a [u8], Fault> {
        let start = self.at;
        loop {
            let rest = self.bytes.get(self.at..).ok_or(Fault::Malformed)?;
            let end = string_end(rest).ok_or(Fault::Malformed)?;
            self.at += end + 1;
            match rest[end] {
                b'"' => return Ok(&self.bytes[start..self.at - 1]),
                b'\\' => self.escape()?,
                _ => return Err(Fault::Malformed),
            }
        }
    }

    /// What follows a backslash.
    fn escape(&mut self) -> Result<(), Fault> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let length = match rest {
            [b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't', ..] => 1,
            [b'u', a, b, c, d, ..] if [a, b, c, d].iter().all(|x| x.is_ascii_hexdigit()) => 5,
            _ => return Err(Fault::Malformed),
        };
        self.at += length;
        Ok(())
    }

    /// A value: scalars as they stand, the rest passed over.
    pub fn value(&mut self) -> Result<Value<'a>, Fault> {
        match self.peek()? {
            b'"' => {
                self.at += 1;
                self.string().map(Value::Text)
            }
            b'{' | b'[' => self.skip().map(|()| Value::Unusable),
            _ => self.plain(),
        }
    }

    /// A number or a literal.
    fn plain(&mut self) -> Result<Value<'a>, Fault> {
        let rest = &self.bytes[self.at..];
        for (literal, value) in [
            (&b"null"[..], Value::Absent),
            (b"true", Value::Plain("true")),
            (b"false", Value::Plain("false")),
        ] {
            if rest.starts_with(literal) {
                self.at += literal.len();
                return Ok(value);
            }
        }
        let length = number_length(rest).ok_or(Fault::Malformed)?;
        self.at += length;
        Ok(match std::str::from_utf8(&rest[..length]) {
            Ok(number) if length <= MAX_NUMBER => Value::Plain(number),
            _ => Value::Unusable,
        })
    }

    /// Passes over a value of any kind.
    pub fn skip(&mut self) -> Result<(), Fault> {
        // A bit for each level: whether it is an object.
        let mut objects: u128 = 0;
        let mut depth = 0;
        loop {
            // A value begins here.
            match self.peek()? {
                open @ (b'{' | b'[') => {
                    self.at += 1;
                    depth += 1;
                    if depth > MAX_DEPTH {
                        return Err(Fault::TooDeep);
                    }
                    let is_object = open == b'{';
                    objects = objects << 1 | u128::from(is_object);
                    if !self.take(if is_object { b'}' } else { b']' })? {
                        if is_object {
                            self.key()?;
                        }
                        continue;
                    }
                    depth -= 1;
                    objects >>= 1;
                }
                b'"' => {
                    self.at += 1;
                    self.string()?;
                }
                _ => {
                    self.plain()?;
                }
            }
            // A value ended here: so may what it is in.
            loop {
                if depth == 0 {
                    return Ok(());
                }
                let is_object = objects & 1 == 1;
                if self.take(b',')? {
                    if is_object {
                        self.key()?;
                    }
                    break;
                }
                self.expect(if is_object { b'}' } else { b']' })?;
                depth -= 1;
                objects >>= 1;
            }
        }
    }
}

/// How long the number is that the bytes begin with.
fn number_length(bytes: &[u8]) -> Option<usize> {
    let digits = |from: usize| {
        let rest = bytes.get(from..).unwrap_or_default();
        rest.iter().take_while(|byte| byte.is_ascii_digit()).count()
    };
    let mut at = usize::from(bytes.first() == Some(&b'-'));
    let whole = digits(at);
    if whole == 0 || (whole > 1 && bytes[at] == b'0') {
        return None;
    }
    at += whole;
    if bytes.get(at) == Some(&b'.') {
        let fraction = digits(at + 1);
        if fraction == 0 {
            return None;
        }
        at += 1 + fraction;
    }
    if matches!(bytes.get(at), Some(b'e' | b'E')) {
        at += 1;
        at += usize::from(matches!(bytes.get(at), Some(b'+' | b'-')));
        let exponent = digits(at);
        if exponent == 0 {
            return None;
        }
        at += exponent;
    }
    Some(at)
}
