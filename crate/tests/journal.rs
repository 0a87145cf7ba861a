//! The journal against a disk that tears, flips and invents bytes.
#![cfg(not(target_arch = "wasm32"))]

mod common;

use agentwatch_openclaw::journal::{self, Frame};
use common::{Gateway, captures};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use std::sync::OnceLock;

const HEADER: usize = 8;

/// The journal of a recorded gateway, with every kind of frame.
fn journal_of_a_day() -> &'static [u8] {
    static JOURNAL: OnceLock<Vec<u8>> = OnceLock::new();
    JOURNAL.get_or_init(|| {
        let mut gateway = Gateway::new(true);
        let capture = captures().remove(3);
        gateway.replay(&capture.events);
        gateway.journal.extend(gateway.core.snapshot());
        gateway.journal
    })
}

/// Where each frame begins, and where the last ends.
fn bounds(bytes: &[u8]) -> Vec<usize> {
    let mut bounds = vec![0];
    let mut at = 0;
    while let Some(header) = bytes.get(at..at + 4) {
        let length = header.iter().rev().fold(0, |n, b| n << 8 | usize::from(*b));
        at += HEADER + length;
        bounds.push(at);
    }
    bounds
}

#[test]
fn frames_come_back_as_they_went() {
    let bytes = journal_of_a_day();
    let recovered = journal::read(bytes);
    assert_eq!(recovered.corrupt, 0);
    assert_eq!(recovered.frames.len() + 1, bounds(bytes).len());
    for kind in ["Seen", "Slot", "Final", "Settled"] {
        let is_kind = |frame: &&Frame| format!("{frame:?}").starts_with(kind);
        assert!(recovered.frames.iter().find(is_kind).is_some(), "{kind}");
    }
    let mut again = Vec::new();
    for frame in &recovered.frames {
        journal::append(&mut again, frame);
    }
    assert!(again == bytes);
}

#[test]
fn a_cut_anywhere_keeps_every_frame_before_it() {
    let bytes = journal_of_a_day();
    let bounds = bounds(bytes);
    let whole = journal::read(bytes).frames;
    for frame in 0..12 {
        for cut in bounds[frame]..bounds[frame + 1] {
            let recovered = journal::read(&bytes[..cut]);
            assert!(recovered.frames == whole[..frame], "cut at {cut}");
            assert_eq!(
                recovered.corrupt,
                u64::from(cut > bounds[frame]),
                "cut at {cut}"
            );
        }
    }
}

fn config() -> ProptestConfig {
    ProptestConfig {
        cases: 256,
        rng_seed: RngSeed::Fixed(20_261_123),
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

#[test]
fn a_flipped_byte_costs_one_frame_at_most() {
    let bytes = journal_of_a_day();
    let bounds = bounds(bytes);
    let whole = journal::read(bytes).frames;
    let flip = (0..bytes.len(), 1u8..=255);
    let mut runner = proptest::test_runner::TestRunner::new(config());
    let result = runner.run(&flip, |(at, by)| {
        let mut flipped = bytes.to_vec();
        flipped[at] ^= by;
        let recovered = journal::read(&flipped);
        let hit = bounds.partition_point(|bound| *bound <= at) - 1;
        prop_assert!(recovered.corrupt >= 1);
        prop_assert!(recovered.frames.starts_with(&whole[..hit]));
        if at - bounds[hit] >= 4 {
            prop_assert_eq!(recovered.frames.len(), whole.len() - 1);
            prop_assert!(recovered.frames[hit..] == whole[hit + 1..]);
        }
        Ok(())
    });
    assert!(result.is_ok(), "{result:?}");
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn bytes_that_are_no_journal_recover_nothing_and_break_nothing(bytes: Vec<u8>) {
        let recovered = journal::read(&bytes);
        prop_assert!(recovered.frames.is_empty());
        prop_assert_eq!(recovered.corrupt > 0, !bytes.is_empty());
    }

    /// A payload whose checksum is right and whose content is not, as another version may write.
    #[test]
    fn a_frame_of_another_version_costs_itself_alone(payload in proptest::collection::vec(any::<u8>(), 0..200)) {
        let bytes = journal_of_a_day();
        let end = bounds(bytes)[1];
        let sum = siphasher::sip::SipHasher13::new().hash(&payload) as u32;
        let mut mixed = (payload.len() as u32).to_le_bytes().to_vec();
        mixed.extend(sum.to_le_bytes());
        mixed.extend(&payload);
        mixed.extend(&bytes[..end]);
        let recovered = journal::read(&mixed);
        let first = journal::read(&bytes[..end]).frames;
        prop_assert_eq!(recovered.frames.last(), first.first());
    }
}
