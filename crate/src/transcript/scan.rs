//! Searches over raw bytes, eight at a time: most of a store is text that nobody has to look at.

const ONES: u64 = u64::from_ne_bytes([0x01; 8]);
const HIGHS: u64 = u64::from_ne_bytes([0x80; 8]);

/// The high bit of each byte that is zero; bits above the lowest one may be wrong.
const fn zeros(word: u64) -> u64 {
    word.wrapping_sub(ONES) & !word & HIGHS
}

const fn repeat(byte: u8) -> u64 {
    ONES * byte as u64
}

/// The first byte that `is_match` takes; `marks` tells it for eight at once: the lowest mark must be
/// right.
fn find(bytes: &[u8], marks: impl Fn(u64) -> u64, is_match: impl Fn(u8) -> bool) -> Option<usize> {
    let (words, rest) = bytes.as_chunks::<8>();
    for (index, word) in words.iter().enumerate() {
        let found = marks(u64::from_le_bytes(*word));
        if found != 0 {
            return Some(index * 8 + found.trailing_zeros() as usize / 8);
        }
    }
    let tail = rest.iter().position(|byte| is_match(*byte))?;
    Some(words.len() * 8 + tail)
}

/// Where the first newline is.
pub fn newline(bytes: &[u8]) -> Option<usize> {
    find(
        bytes,
        |word| zeros(word ^ repeat(b'\n')),
        |byte| byte == b'\n',
    )
}

/// Where the first byte is that does not simply belong to a string: a quote, a backslash, a control
/// character.
pub fn string_end(bytes: &[u8]) -> Option<usize> {
    find(
        bytes,
        |word| {
            let controls = word.wrapping_sub(repeat(0x20)) & !word & HIGHS;
            controls | zeros(word ^ repeat(b'"')) | zeros(word ^ repeat(b'\\'))
        },
        |byte| byte < 0x20 || byte == b'"' || byte == b'\\',
    )
}

/// What every row that we want has in it.
const MARK: &[u8] = b"\"assistant\"";

/// How far the search may go on when a byte stands where the mark's last one should be.
const SHIFTS: [u8; 256] = {
    let mut shifts = [MARK.len() as u8; 256];
    let mut index = 0;
    while index < MARK.len() - 1 {
        shifts[MARK[index] as usize] = (MARK.len() - 1 - index) as u8;
        index += 1;
    }
    shifts
};

/// Whether a line has `"assistant"` in it, by Horspool's search: it looks at every tenth byte or so.
pub fn has_mark(line: &[u8]) -> bool {
    let last = MARK.len() - 1;
    let mut at = last;
    while let Some(byte) = line.get(at) {
        if *byte == MARK[last] && line[at - last..at] == MARK[..last] {
            return true;
        }
        at += SHIFTS[*byte as usize] as usize;
    }
    false
}
