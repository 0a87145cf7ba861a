//! A byte buffer in pieces of one size. A `Vec` that doubles needs three times its size for a moment and fragments the
//! memory, and a WebAssembly module never gives memory back. A new piece reuses the place of a freed one.

/// A piece is full at this number of bytes.
pub const PIECE_BYTES: usize = 32 * 1024;
/// Spare capacity in bytes, since the last write into a piece may exceed [`PIECE_BYTES`].
const SLACK: usize = PIECE_BYTES / 8;

/// A byte buffer in pieces.
#[derive(Debug, Default)]
pub struct Pieces {
    full: Vec<Vec<u8>>,
    last: Vec<u8>,
}

impl Pieces {
    /// Number of bytes.
    pub fn len(&self) -> usize {
        self.full.iter().map(Vec::len).sum::<usize>() + self.last.len()
    }

    /// Whether it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.last.is_empty()
    }

    /// The piece that takes the next bytes.
    pub fn end(&mut self) -> &mut Vec<u8> {
        if self.last.len() >= PIECE_BYTES {
            let piece = Vec::with_capacity(PIECE_BYTES + SLACK);
            self.full.push(std::mem::replace(&mut self.last, piece));
        }
        &mut self.last
    }

    /// Takes all pieces, in order.
    pub fn take(&mut self) -> impl Iterator<Item = Vec<u8>> + use<> {
        let Self { full, last } = std::mem::take(self);
        full.into_iter()
            .chain(Some(last).filter(|last| !last.is_empty()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_went_in_comes_out_and_no_piece_grows_far() {
        let mut pieces = Pieces::default();
        let mut all = Vec::new();
        for number in 0..2_000_u32 {
            let bytes = number.to_le_bytes().repeat(1 + number as usize % 30);
            pieces.end().extend_from_slice(&bytes);
            all.extend(bytes);
            assert_eq!(pieces.len(), all.len());
        }
        let taken: Vec<Vec<u8>> = pieces.take().collect();
        assert!(taken.len() > 3 && taken.concat() == all);
        assert!(
            taken
                .iter()
                .all(|piece| piece.capacity() <= PIECE_BYTES * 2)
        );
        assert!(pieces.is_empty() && pieces.take().next().is_none());
    }
}
