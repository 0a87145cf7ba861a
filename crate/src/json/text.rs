//! A text that comes in pieces, taken out of its escapes and cut at a bound.

use crate::find;

/// Where an escape stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Escape {
    #[default]
    None,
    /// Behind the backslash.
    Begun,
    /// Behind `\u`: so many digits, and their value.
    Hex(u8, u16),
}

/// What became of a piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step<'a> {
    /// The text goes on.
    More,
    /// It is over.
    Over {
        /// How many bytes of the piece it had.
        used: usize,
        /// Its rest, behind what was kept.
        rest: &'a [u8],
    },
    /// There is an escape in it that JSON does not have.
    Broken,
}

/// The text at hand.
#[derive(Debug, Default)]
pub(super) struct Text {
    kept: Vec<u8>,
    /// How many bytes are kept at most.
    most: usize,
    escape: Escape,
    /// The first half of a surrogate pair, while the second is awaited.
    high: Option<u16>,
}

impl Text {
    /// Begins a new text, of which at most so many bytes are kept.
    pub(super) fn begin(&mut self, most: usize) {
        self.kept.clear();
        self.most = most;
        self.escape = Escape::None;
        self.high = None;
    }

    /// What was kept so far.
    pub(super) fn kept(&self) -> &[u8] {
        &self.kept
    }

    /// Keeps a byte as it is.
    pub(super) fn push(&mut self, byte: u8) {
        self.keep(&[byte]);
    }

    /// Takes the next piece, from behind the opening quote up to the closing one.
    pub(super) fn feed<'a>(&mut self, bytes: &'a [u8]) -> Step<'a> {
        let mut index = 0;
        while let Some(&byte) = bytes.get(index) {
            if self.escape != Escape::None {
                if !self.escaped(byte) {
                    return Step::Broken;
                }
                index += 1;
                continue;
            }
            let rest = &bytes[index..];
            let Some(length) = find::either(rest, b'"', b'\\') else {
                self.keep_plain(rest);
                break;
            };
            let plain = &rest[..length];
            index += length + 1;
            if rest[length] == b'"' {
                self.end_lone_surrogate();
                return Step::Over {
                    used: index,
                    rest: plain,
                };
            }
            self.keep_plain(plain);
            self.escape = Escape::Begun;
        }
        Step::More
    }

    /// The whole text, which is over with this rest.
    pub(super) fn whole<'a>(&'a mut self, rest: &'a [u8]) -> &'a [u8] {
        if self.kept.is_empty() {
            return &rest[..rest.len().min(self.most)];
        }
        self.keep(rest);
        &self.kept
    }

    /// A byte of an escape; whether JSON has such a one.
    fn escaped(&mut self, byte: u8) -> bool {
        if let Escape::Hex(digits, value) = self.escape {
            return self.hex(digits, value, byte);
        }
        if byte == b'u' {
            self.escape = Escape::Hex(0, 0);
            return true;
        }
        self.escape = Escape::None;
        self.end_lone_surrogate();
        let byte = match byte {
            b'n' => b'\n',
            b't' => b'\t',
            b'r' => b'\r',
            b'b' => 0x08,
            b'f' => 0x0c,
            b'"' | b'\\' | b'/' => byte,
            _ => return false,
        };
        self.keep(&[byte]);
        true
    }

    fn hex(&mut self, digits: u8, value: u16, byte: u8) -> bool {
        let Some(digit) = char::from(byte).to_digit(16) else {
            return false;
        };
        let value = value << 4 | digit as u16;
        if digits < 3 {
            self.escape = Escape::Hex(digits + 1, value);
            return true;
        }
        self.escape = Escape::None;
        match (self.high, value) {
            (Some(high), 0xdc00..=0xdfff) => {
                self.high = None;
                let code = 0x1_0000 + (u32::from(high - 0xd800) << 10) + u32::from(value - 0xdc00);
                self.keep_char(char::from_u32(code));
            }
            (_, 0xd800..=0xdbff) => {
                self.end_lone_surrogate();
                self.high = Some(value);
            }
            _ => {
                self.end_lone_surrogate();
                self.keep_char(char::from_u32(u32::from(value)));
            }
        }
        true
    }

    /// Half a pair without the other half is no character.
    fn end_lone_surrogate(&mut self) {
        if self.high.take().is_some() {
            self.keep_char(None);
        }
    }

    fn keep_char(&mut self, char: Option<char>) {
        let char = char.unwrap_or(char::REPLACEMENT_CHARACTER);
        self.keep(char.encode_utf8(&mut [0; 4]).as_bytes());
    }

    /// Bytes without an escape.
    fn keep_plain(&mut self, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.end_lone_surrogate();
            self.keep(bytes);
        }
    }

    fn keep(&mut self, bytes: &[u8]) {
        let room = self.most.saturating_sub(self.kept.len()).min(bytes.len());
        self.kept.extend_from_slice(&bytes[..room]);
    }
}
