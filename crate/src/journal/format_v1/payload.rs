//! Payloads of the ledger and of spool files: one frame, or a frame that version 0.1.0 reads and further frames behind it.

use super as v1;
use crate::journal::Frame;

/// A frame's payload: a frame that version 0.1.0 reads, if there is one, and behind it what 0.1.0 has no kinds for. 0.1.0 reads
/// the first frame of a payload alone, so after a downgrade it still knows the calls.
pub fn frame_bytes(frame: &Frame) -> Vec<u8> {
    let mut further = Vec::new();
    let first = match frame {
        Frame::Together(frames) => {
            let mut known = Vec::new();
            for frame in frames {
                let encoded = v1::Frame::from(frame);
                if !encoded.is_in_first_version() {
                    further.push(encoded);
                    continue;
                }
                further.extend(further_fields(frame, known.len()));
                known.push(encoded);
            }
            v1::Frame::Together(known)
        }
        frame => {
            further.extend(further_fields(frame, 0));
            frame.into()
        }
    };
    let mut bytes = Vec::new();
    for frame in [first].iter().chain(&further) {
        // A frame has only types that postcard supports, so encoding cannot fail.
        bytes.extend(postcard::to_allocvec(frame).unwrap_or_default());
    }
    bytes
}

/// What `Seen` does not have of the observation of the frame with this index.
fn further_fields(frame: &Frame, index: usize) -> Option<v1::Frame<'_>> {
    let Frame::Seen(_, seen) = frame else {
        return None;
    };
    let bill = seen.bill.as_deref().map(v1::Bill::from);
    let more = v1::More::of(&seen.origin, seen.prompt.as_ref());
    let has_any = bill.is_some() || more != v1::More::default() || !seen.operation.is_chat();
    has_any.then(|| v1::Frame::Further(index as u32, bill, more, seen.operation.into()))
}

/// A frame from its payload, or `Together` from a payload with several; `None` for a payload that is no frame of this version.
pub fn frame(payload: &[u8]) -> Option<Frame> {
    let (first, mut rest) = postcard::take_from_bytes::<v1::Frame>(payload).ok()?;
    let first = first.domain()?;
    let is_group = matches!(first, Frame::Together(_));
    let mut frames = match first {
        Frame::Together(frames) => frames,
        frame => vec![frame],
    };
    // What a newer version wrote behind the frames of this one is not read.
    while let Ok((frame, left)) = postcard::take_from_bytes::<v1::Frame>(rest) {
        rest = left;
        match frame {
            v1::Frame::Further(index, bill, more, operation) => {
                if let Some(Frame::Seen(_, seen)) = frames.get_mut(index as usize) {
                    seen.bill = bill.map(|bill| Box::new(bill.into()));
                    (seen.origin, seen.prompt) = more.domain();
                    seen.operation = operation.into();
                }
            }
            frame => frames.extend(frame.domain()),
        }
    }
    match is_group || frames.len() > 1 {
        true => Some(Frame::Together(frames)),
        false => frames.pop(),
    }
}

impl v1::Frame<'_> {
    /// Whether version 0.1.0 reads it.
    fn is_in_first_version(&self) -> bool {
        matches!(
            self,
            Self::Begin
                | Self::Seen(..)
                | Self::MatchRecord(_)
                | Self::Closed(_)
                | Self::Gone(..)
                | Self::Counted(..)
                | Self::Bookmark(..)
                | Self::Reconciled(_)
                | Self::Record(_)
                | Self::Facts(_)
                | Self::Together(_)
        )
    }
}
