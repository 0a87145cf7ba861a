//! Bookmarks: the place up to which a session is read, an offset with a hash of the line before it. The journal stores
//! a bookmark as a short text.
//!
//! A session is a sequence of bytes in every form of storage. So a bookmark stays valid when the transcript is renamed,
//! compressed, or moved from a file into the database with the same lines. If the hash differs, the transcript was
//! rewritten.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

/// Number of bytes at the end of a line that are hashed. The end has the line's times and ids.
const LINE_BYTES: usize = 256;
/// Number of bytes before a place that its hash needs: the end of the line, and the newline.
pub const TAIL_BYTES: usize = LINE_BYTES + 1;
/// Maximum integer that JavaScript represents exactly.
const MAX_NUMBER: u64 = (1 << 53) - 1;

/// A place in a transcript. Everything before it is handed out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Bookmark {
    /// Offset from the transcript's start, in bytes.
    pub offset: u64,
    /// Hash of the line before the place, by [`hash_of_line`].
    pub hash: String,
    /// The next rows are inherited from another session if they are older than this, in ms since 1970.
    pub inherited_before_ms: Option<u64>,
    /// Number of the database row before the place.
    pub row: Option<u64>,
    /// Size in bytes of a file that is read to its end and takes no further rows.
    pub closed: Option<u64>,
}

impl Bookmark {
    /// Parses the journal's text; `None` if it is no bookmark.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('.');
        let offset = number(parts.next()?)?.filter(|offset| *offset > 0)?;
        let hash = parts.next().filter(|hash| !hash.is_empty())?.to_owned();
        let mut more = || parts.next().map_or(Some(None), number);
        Some(Self {
            offset,
            hash,
            inherited_before_ms: more()?,
            row: more()?,
            closed: more()?,
        })
    }

    /// The journal's text; empty for the start of the transcript.
    pub fn text(&self) -> String {
        if self.offset == 0 {
            return String::new();
        }
        let mut text = base36(self.offset);
        let rest = [self.inherited_before_ms, self.row, self.closed];
        let rest = rest.map(|number| number.map(base36).unwrap_or_default());
        for part in [&self.hash].into_iter().chain(&rest) {
            text.push('.');
            text.push_str(part);
        }
        text.truncate(text.trim_end_matches('.').len());
        text
    }
}

/// Parses a number in base 36. `Some(None)` for an empty part, `None` for an invalid part.
fn number(part: &str) -> Option<Option<u64>> {
    if part.is_empty() {
        return Some(None);
    }
    let number = u64::from_str_radix(part, 36).ok()?;
    (number <= MAX_NUMBER).then_some(Some(number))
}

fn base36(mut number: u64) -> String {
    let mut digits = Vec::new();
    loop {
        digits.push(char::from_digit((number % 36) as u32, 36).unwrap_or_default());
        number /= 36;
        if number == 0 {
            return digits.iter().rev().collect();
        }
    }
}

/// Hash of the last line of these bytes, with or without its newline.
pub fn hash_of_line(bytes: &[u8]) -> String {
    let line = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    let line = match memchr::memrchr(b'\n', line) {
        Some(newline) => &line[newline + 1..],
        None => line,
    };
    let line = &line[line.len().saturating_sub(LINE_BYTES)..];
    short_hash(line, 12)
}

/// The first `length` characters of a SHA-256 in base64url.
pub(super) fn short_hash(bytes: &[u8], length: usize) -> String {
    let mut text = URL_SAFE_NO_PAD.encode(Sha256::digest(bytes));
    text.truncate(length);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bookmark_is_the_text_that_earlier_versions_wrote() {
        let mut bookmark = Bookmark {
            offset: 1_234_567,
            hash: hash_of_line(b"before\nline\n"),
            ..Bookmark::default()
        };
        // Node: createHash("sha256").update("line").digest("base64url").slice(0, 12)
        assert_eq!(bookmark.text(), "qglj.OKnB5yFYTaKE");
        assert_eq!(Bookmark::parse(&bookmark.text()), Some(bookmark.clone()));
        bookmark.row = Some(0);
        assert_eq!(bookmark.text(), "qglj.OKnB5yFYTaKE..0");
        bookmark.closed = Some(35);
        bookmark.inherited_before_ms = Some(36);
        assert_eq!(bookmark.text(), "qglj.OKnB5yFYTaKE.10.0.z");
        assert_eq!(Bookmark::parse(&bookmark.text()), Some(bookmark));
    }

    #[test]
    fn what_is_no_bookmark_is_none() {
        for text in [
            "",
            "x",
            ".",
            "0.hash",
            "x.",
            "-1.x",
            "NaN",
            "1 .h",
            "1.h.-1",
            "1.h.🦀",
            "zzzzzzzzzzzz.h",
        ] {
            assert_eq!(Bookmark::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_hash_takes_the_end_of_the_last_line() {
        let long = [b'x'; 1_000];
        assert_eq!(hash_of_line(&long), hash_of_line(&long[..LINE_BYTES]));
        assert_eq!(hash_of_line(b"a\nb\n"), hash_of_line(b"b"));
        assert_ne!(hash_of_line(b"a\nb"), hash_of_line(b"a\n"));
        assert_eq!(hash_of_line(b""), hash_of_line(b"\n"));
    }
}
