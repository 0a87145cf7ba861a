//! Journal files with arbitrary bytes: good frames are read as they were written, and a bad frame affects only itself.
#![no_main]

use agentwatch_openclaw::journal::{self, FILE_HEADER, FRAME_HEADER, Frame, MAX_PAYLOAD, Reader};
use agentwatch_openclaw_fuzz as _;
use libfuzzer_sys::fuzz_target;

/// The payloads of a file, with their offsets.
fn payloads(bytes: &[u8]) -> Vec<(u32, Vec<u8>)> {
    let reader = Reader::within(bytes);
    reader.map(|(at, payload)| (at, payload.to_vec())).collect()
}

fuzz_target!(|data: &[u8]| {
    // The input itself.
    if let Ok(mut reader) = Reader::open(data) {
        let mut end = FILE_HEADER.min(data.len());
        for (at, payload) in reader.by_ref() {
            assert!(at as usize >= end && payload.len() <= MAX_PAYLOAD);
            end = at as usize + FRAME_HEADER + payload.len();
        }
        assert!(end <= data.len() && reader.end() <= data.len());
    }
    // A good frame is read, whatever bytes surround it.
    let mut good = Vec::new();
    journal::append_frame(
        &mut good,
        &Frame::Bookmark("main/one".into(), "100:1".into()),
    );
    let around = [&good[..], data, &good[..], data].concat();
    let found = payloads(&around);
    assert!(found.iter().any(|(at, _)| *at == 0));
    let second = (good.len() + data.len()) as u32;
    assert!(found.iter().any(|(at, _)| *at == second), "behind {data:?}");
    // A frame encodes to the bytes that it was read from.
    for (at, payload) in &found {
        let mut again = Vec::new();
        journal::append(&mut again, payload);
        assert_eq!(around[*at as usize..][..again.len()], again[..]);
    }
    // Any payload is a frame or affects only itself; frames encode to what they were read from.
    let mut file = journal::begin_file();
    journal::append(&mut file, data);
    file.extend_from_slice(&good);
    let recovered = journal::read(&file).expect("it is ours");
    assert!(matches!(recovered.frames.last(), Some(Frame::Bookmark(..))));
    // Groups are not nested; one level of grouping is undone.
    let is_flat = |frame: &Frame| !matches!(frame, Frame::Together(_));
    if !recovered.frames.iter().all(is_flat) {
        return;
    }
    let mut again = journal::begin_file();
    for frame in &recovered.frames {
        journal::append_frame(&mut again, frame);
    }
    let twice = journal::read(&again).expect("it is ours").frames;
    // NaN is not equal to itself, but has the same text.
    assert_eq!(format!("{twice:?}"), format!("{:?}", recovered.frames));
});
