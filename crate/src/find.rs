//! Where the next byte of interest is, eight bytes at a time: most of what passes is of none.

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGHS: u64 = 0x8080_8080_8080_8080;

/// The index of the first byte that is one of the two.
pub fn either(bytes: &[u8], a: u8, b: u8) -> Option<usize> {
    let (all_a, all_b) = (ONES * u64::from(a), ONES * u64::from(b));
    let (words, _) = bytes.as_chunks::<8>();
    let whole = words.iter().position(|word| {
        let word = u64::from_le_bytes(*word);
        has_zero(word ^ all_a) | has_zero(word ^ all_b)
    });
    let from = whole.unwrap_or(words.len()) * 8;
    let rest = &bytes[from..];
    let found = rest.iter().position(|byte| *byte == a || *byte == b)?;
    Some(from + found)
}

const fn has_zero(word: u64) -> bool {
    word.wrapping_sub(ONES) & !word & HIGHS != 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn finds_what_a_look_at_each_byte_finds(bytes in prop::collection::vec(any::<u8>(), 0..80), a: u8, b: u8) {
            let plain = bytes.iter().position(|byte| *byte == a || *byte == b);
            prop_assert_eq!(either(&bytes, a, b), plain);
        }
    }
}
