//! State directories of 0.1.0: each frame of each file has the same meaning today, and encodes to the same bytes, so
//! that 0.1.0 can read the files of this version. `tests/unit/upgrade.test.mjs` takes over whole directories.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use agentwatch_openclaw::delivery::otlp::{Exporter, Resource};
use agentwatch_openclaw::journal::{FILE_HEADER, Reader, format_v1};

/// Every file below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    paths
        .flat_map(|path| match path.is_dir() {
            true => files(&path),
            false => vec![path],
        })
        .collect()
}

/// Decodes and encodes a frame's payload.
fn again(kind: &str, payload: &[u8]) -> Vec<u8> {
    match kind {
        "facts" => format_v1::frame_bytes(&format_v1::frame(payload).unwrap()),
        "calls" => format_v1::call_bytes(&format_v1::call(payload).unwrap()),
        _ => format_v1::record_bytes(&format_v1::record(payload).unwrap()),
    }
}

/// Kind of a file's frames.
fn kind_of(path: &Path) -> Option<&'static str> {
    let name = path.file_name()?.to_str()?;
    let kinds = [
        ("ledger-", "facts"),
        ("v1_", "facts"),
        ("model-calls-", "calls"),
        ("records-", "records"),
    ];
    let found = kinds.iter().find(|(part, _)| name.contains(part));
    found.map(|(_, kind)| *kind)
}

#[test]
fn each_frame_of_0_1_0_is_read_and_encodes_to_the_same_bytes() {
    let mut found: BTreeMap<&str, usize> = BTreeMap::new();
    for path in files(Path::new("../tests/fixtures/upgrade/0.1.0")) {
        let bytes = fs::read(&path).unwrap();
        if path.ends_with("state.awj") {
            let state = Exporter::new(&bytes, Resource::default(), 0).state();
            assert!(state == bytes, "{}", path.display());
            *found.entry("sums").or_default() += 1;
        }
        let Some(kind) = kind_of(&path) else { continue };
        let is_spool = path.parent().unwrap().ends_with("spool");
        let mut reader = match is_spool {
            true => Reader::within(&bytes),
            false => Reader::open(&bytes).unwrap(),
        };
        for (at, payload) in reader.by_ref() {
            assert!(
                again(kind, payload) == payload,
                "{} at {at}",
                path.display()
            );
            *found.entry(kind).or_default() += 1;
        }
        assert_eq!(reader.corrupt, 0, "{}", path.display());
        assert!(reader.end() == bytes.len() && bytes.len() > FILE_HEADER);
    }
    assert_eq!(
        found.keys().copied().collect::<Vec<_>>(),
        ["calls", "facts", "records", "sums"]
    );
    assert!(
        found["facts"] > 50 && found["calls"] > 5 && found["records"] > 20,
        "{found:?}"
    );
}
