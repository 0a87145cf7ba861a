//! The journal on a disk that truncates, flips and invents bytes.

use crate::common::{Gateway, captures};
use agentwatch_openclaw::domain::usage::{Bill, Part, Tier};
use agentwatch_openclaw::journal::files::LEDGER;
use agentwatch_openclaw::journal::{
    self, FILE_HEADER, FRAME_HEADER, Frame, Reader, VERSION, format_v1,
};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use std::sync::OnceLock;

/// A ledger's file of a recorded gateway, with every kind of frame that a single owner writes.
fn journal_of_a_day() -> &'static [u8] {
    static JOURNAL: OnceLock<Vec<u8>> = OnceLock::new();
    JOURNAL.get_or_init(|| {
        let mut gateway = Gateway::new(true);
        let capture = captures().remove(3);
        gateway.replay(&capture.events);
        gateway.engine.bookmark("agents/main/x.jsonl", "1:2");
        gateway.engine.set_reconciled(capture.events[0].at_ms);
        gateway.write();
        let is_ledger = |(file, _): &(&String, &Vec<u8>)| file.starts_with(LEDGER);
        let mut bytes = gateway
            .disk
            .files()
            .iter()
            .find(is_ledger)
            .unwrap()
            .1
            .clone();
        gateway.engine.compact();
        gateway.write();
        let snapshot = gateway
            .disk
            .files()
            .iter()
            .find(is_ledger)
            .unwrap()
            .1
            .clone();
        bytes.extend(&snapshot[FILE_HEADER..]);
        bytes
    })
}

/// Offsets of all frames, and of the end of the last.
fn bounds(bytes: &[u8]) -> Vec<usize> {
    let mut reader = Reader::open(bytes).unwrap();
    let mut bounds: Vec<usize> = reader.by_ref().map(|(at, _)| at as usize).collect();
    bounds.push(reader.end());
    bounds
}

fn read(bytes: &[u8]) -> journal::Recovered {
    journal::read(bytes).unwrap()
}

/// A ledger's file that 0.1.0 wrote, for the same day.
const OF_0_1_0: &[u8] = include_bytes!("../../tests/fixtures/journal/0.1.0-ledger.bin");

#[test]
fn a_file_of_0_1_0_is_read_and_encodes_to_the_same_bytes() {
    let mut written = journal::begin_file();
    for (_, payload) in Reader::open(OF_0_1_0).unwrap() {
        let frame: Frame = format_v1::frame(payload).unwrap();
        journal::append_frame(&mut written, &frame);
    }
    assert_eq!(written, OF_0_1_0);
}

#[test]
fn a_frame_with_an_infinite_cost_is_corrupt() {
    let bytes = journal_of_a_day();
    let mut file = journal::begin_file();
    let mut spoilt = 0;
    for mut frame in read(bytes).frames {
        if let Frame::Seen(_, seen) = &mut frame
            && let Some(cost) = &mut seen.cost_usd
        {
            *cost = [f64::NAN, f64::INFINITY][spoilt % 2];
            spoilt += 1;
        }
        journal::append_frame(&mut file, &frame);
    }
    assert!(spoilt > 1);
    let mut gateway = Gateway::new(true);
    gateway
        .disk
        .files()
        .insert([LEDGER, "0000000001.awj"].concat(), file);
    gateway.restart(1_795_000_000_000);
    assert_eq!(gateway.status()["journal_corrupt"], spoilt);
    gateway.run_until(1_795_000_000_000, 1_795_000_060_000);
    assert!(
        gateway
            .receiver
            .calls
            .iter()
            .all(|call| call["cost_usd"].is_f64())
    );
}

/// 0.1.0 reads the observation, and not the bill behind it.
#[test]
fn the_bytes_of_a_call_with_a_bill_are_fixed() {
    let seen = read(OF_0_1_0)
        .frames
        .into_iter()
        .find_map(|frame| match frame {
            Frame::Seen(id, seen) => Some((id, seen)),
            _ => None,
        });
    let (id, mut seen) = seen.unwrap();
    let plain = format_v1::frame_bytes(&Frame::Seen(id, seen.clone()));
    let bill = Bill {
        is_billed: true,
        write_1h: 300,
        tier: Some(Tier::Flex),
        is_fast: false,
        is_us: true,
        web_searches: 1,
        file_searches: 2,
        code_runs: 3,
        sources: 4,
        parts: vec![Part {
            model: Some("m".to_owned()),
            tokens: [5, 6, 7, 8, 9],
        }],
    };
    seen.bill = Some(Box::new(bill.clone()));
    let with_bill = format_v1::frame_bytes(&Frame::Seen(id, seen.clone()));
    let bill_bytes = [
        1, 172, 2, 1, 1, 0, 1, 1, 2, 3, 4, 1, 1, 1, b'm', 5, 6, 7, 8, 9,
    ];
    assert_eq!(with_bill[..plain.len()], plain);
    let further = &with_bill[plain.len()..];
    // Of the first frame, a bill that is there, no further fields, a chat.
    assert_eq!(further, [&[23, 0, 1], &bill_bytes[..], &[0; 6]].concat());
    assert_eq!(format_v1::frame(&with_bill), Some(Frame::Seen(id, seen)));
}

#[test]
fn frames_are_read_as_they_were_written() {
    let bytes = journal_of_a_day();
    let recovered = read(bytes);
    assert_eq!(recovered.corrupt, 0);
    assert_eq!(recovered.frames.len() + 1, bounds(bytes).len());
    for kind in [
        "Begin",
        "Seen",
        "MatchRecord",
        "Closed",
        "Cursor",
        "Counted",
        "Bookmark",
        "Reconciled",
    ] {
        let is_kind = |frame: &&Frame| format!("{frame:?}").starts_with(kind);
        assert!(recovered.frames.iter().find(is_kind).is_some(), "{kind}");
    }
    let mut again = journal::begin_file();
    for frame in &recovered.frames {
        journal::append_frame(&mut again, frame);
    }
    assert!(again == bytes);
}

#[test]
fn a_cut_at_any_byte_keeps_every_frame_before_it() {
    let bytes = journal_of_a_day();
    let bounds = bounds(bytes);
    let whole = read(bytes).frames;
    for cut in 0..bounds[40.min(bounds.len() - 1)] {
        let recovered = read(&bytes[..cut]);
        let before = bounds.partition_point(|bound| *bound <= cut).max(1) - 1;
        assert!(recovered.frames == whole[..before], "cut at {cut}");
        let is_torn = cut > 0 && cut != FILE_HEADER && !bounds.contains(&cut);
        assert_eq!(recovered.corrupt, u64::from(is_torn), "cut at {cut}");
    }
}

#[test]
fn an_empty_file_is_valid() {
    let recovered = read(&[]);
    assert!(recovered.frames.is_empty() && recovered.corrupt == 0);
}

/// The same file, of the next version of the format.
fn of_a_newer_version(bytes: &[u8]) -> Vec<u8> {
    let mut newer = bytes.to_vec();
    newer[4..6].copy_from_slice(&(VERSION + 1).to_le_bytes());
    // Its own check is right, so this is no flipped bit.
    let check = siphasher::sip::SipHasher13::new().hash(&newer[..6]) as u16;
    newer[6..8].copy_from_slice(&check.to_le_bytes());
    newer
}

#[test]
fn a_file_of_another_version_is_not_read() {
    let bytes = of_a_newer_version(journal_of_a_day());
    assert_eq!(journal::read(&bytes).unwrap_err().version, VERSION + 1);
}

#[test]
fn files_of_a_newer_version_are_named_and_stay_as_they_are() {
    let at = 1_795_000_000_000;
    let message = |tokens: u64| {
        serde_json::json!({
            "event": {"message": {"role": "assistant", "provider": "p", "model": "m", "stopReason": "stop",
                "timestamp": at, "usage": {"input": tokens, "output": 2, "cost": {"total": 0.001}}}},
            "ctx": {"sessionKey": "agent:main:s"},
        })
    };
    let mut gateway = Gateway::new(false);
    gateway.hear("before_message_write", &message(1), at + 50);
    gateway.advance(at + 5_000);
    gateway.write();
    let names: Vec<String> = gateway.disk.files().keys().cloned().collect();
    for prefix in [LEDGER, "model-calls-"] {
        assert!(
            names.iter().any(|name| name.starts_with(prefix)),
            "{names:?}"
        );
    }
    let newer: Vec<(String, Vec<u8>)> = gateway
        .disk
        .files()
        .iter()
        .map(|(name, bytes)| (name.clone(), of_a_newer_version(bytes)))
        .collect();
    gateway.disk.files().extend(newer.clone());
    gateway.restart(at + 10_000);
    for round in 0..3 {
        let at = at + 20_000 * (round + 1);
        gateway.hear("before_message_write", &message(10 + round), at);
        gateway.run_until(at, at + 10_000);
        gateway.engine.compact();
        gateway.write();
        gateway.restart(at + 11_000);
    }
    gateway.advance(at + 100_000);
    for (name, bytes) in &newer {
        assert!(gateway.disk.files().get(name) == Some(bytes), "{name}");
        let path = format!("journal/{name}");
        let named = gateway.status()["newer_files"].clone();
        assert!(
            named.as_array().unwrap().contains(&path.clone().into()),
            "{named}"
        );
        let said = format!("{path} has format {}", VERSION + 1);
        assert!(
            gateway.log.iter().any(|line| line.contains(&said)),
            "{said}"
        );
    }
    assert_eq!(
        gateway.receiver.totals.requests(),
        3,
        "what came later counts"
    );
    assert_eq!(gateway.status()["journal_corrupt"], 0);
}

fn config() -> ProptestConfig {
    ProptestConfig {
        cases: 512,
        rng_seed: RngSeed::Fixed(20_261_123),
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

#[test]
fn a_flipped_bit_affects_only_its_frame() {
    let bytes = journal_of_a_day();
    let bounds = bounds(bytes);
    let whole = read(bytes).frames;
    let flip = (0..bytes.len(), 0..8u32);
    let mut runner = proptest::test_runner::TestRunner::new(config());
    let result = runner.run(&flip, |(at, bit)| {
        let mut flipped = bytes.to_vec();
        flipped[at] ^= 1 << bit;
        let recovered = read(&flipped);
        prop_assert_eq!(recovered.corrupt, 1);
        if at < FILE_HEADER {
            prop_assert!(recovered.frames == whole);
            return Ok(());
        }
        let hit = bounds.partition_point(|bound| *bound <= at) - 1;
        prop_assert!(recovered.frames[..hit] == whole[..hit]);
        prop_assert!(recovered.frames[hit..] == whole[hit + 1..]);
        Ok(())
    });
    assert!(result.is_ok(), "{result:?}");
}

/// Foreign bytes in the middle affect only the frames that they cover.
#[test]
fn foreign_bytes_affect_only_the_frames_they_cover() {
    let bytes = journal_of_a_day();
    let bounds = bounds(bytes);
    let whole = read(bytes).frames;
    let hole = (FILE_HEADER..bytes.len(), 1..2_000usize, any::<u64>());
    let mut runner = proptest::test_runner::TestRunner::new(config());
    let result = runner.run(&hole, |(from, length, seed)| {
        let to = (from + length).min(bytes.len());
        let mut holed = bytes.to_vec();
        let mut mint = agentwatch_openclaw::domain::call::IdMint::new(seed);
        holed[from..to].fill_with(|| mint.bits() as u8);
        let recovered = read(&holed);
        let first = bounds.partition_point(|bound| *bound <= from) - 1;
        let behind = bounds.partition_point(|bound| *bound < to);
        prop_assert!(recovered.frames[..first] == whole[..first]);
        prop_assert!(
            recovered
                .frames
                .ends_with(&whole[behind.min(whole.len())..])
        );
        Ok(())
    });
    assert!(result.is_ok(), "{result:?}");
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn arbitrary_bytes_recover_nothing_and_do_not_panic(bytes: Vec<u8>) {
        let recovered = read(&bytes);
        prop_assert!(recovered.frames.is_empty());
        prop_assert_eq!(recovered.corrupt > 0, !bytes.is_empty());
    }

    /// A payload with a right checksum and invalid content.
    #[test]
    fn a_frame_with_invalid_content_affects_only_itself(payload in proptest::collection::vec(any::<u8>(), 0..200)) {
        let bytes = journal_of_a_day();
        let end = bounds(bytes)[1];
        let mut mixed = journal::begin_file();
        journal::append(&mut mixed, &payload);
        mixed.extend(&bytes[FILE_HEADER..end]);
        let first = read(&bytes[..end]).frames;
        let frames = read(&mixed).frames;
        prop_assert_eq!(frames.last(), first.first());
    }

    /// A wrong length does not affect later frames.
    #[test]
    fn a_wrong_length_affects_only_its_frame(length: u32) {
        let bytes = journal_of_a_day();
        let bounds = bounds(bytes);
        let mut lying = bytes.to_vec();
        let at = bounds[1] + 2;
        prop_assume!(lying[at..at + 4] != length.to_le_bytes());
        lying[at..at + 4].copy_from_slice(&length.to_le_bytes());
        let (recovered, whole) = (read(&lying).frames, read(bytes).frames);
        prop_assert!(bounds[2] - bounds[1] > FRAME_HEADER);
        prop_assert!(recovered[..1] == whole[..1] && recovered[1..] == whole[2..]);
    }
}
