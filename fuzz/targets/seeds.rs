//! Writes the seeds of the fuzz targets into the folder that `FUZZ_SEEDS` names, one folder per target: recorded
//! answers, logs and transcripts, and the journal of a recorded gateway. It is not a target itself, but is built like
//! one, so that one build serves all, and ends after the seeds are written.
#![no_main]

use std::path::Path;
use std::{env, fs, io};

use agentwatch_openclaw::journal::Reader;
use agentwatch_openclaw_fuzz::common::{Capture, Gateway, captures, stored};
use agentwatch_openclaw_fuzz::parts_of;
use libfuzzer_sys::fuzz_target;

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures");

/// Writes a seed of a target.
fn seed(into: &Path, target: &str, name: &str, bytes: &[u8]) -> io::Result<()> {
    let folder = into.join(target);
    fs::create_dir_all(&folder)?;
    fs::write(folder.join(name), bytes)
}

/// The files of a folder of fixtures.
fn fixtures(folder: &str) -> io::Result<Vec<(String, Vec<u8>)>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(Path::new(FIXTURES).join(folder))? {
        let entry = entry?;
        files.push((
            entry.file_name().to_string_lossy().into_owned(),
            fs::read(entry.path())?,
        ));
    }
    Ok(files)
}

/// A recorded gateway's files of one kind, frame by frame, with the number of the kind.
fn payloads(gateway: &Gateway, prefix: &str, kind: u8, most: usize) -> Vec<(u8, Vec<u8>)> {
    let files = gateway.disk.files();
    let files = files.iter().filter(|(file, _)| file.starts_with(prefix));
    let readers = files.filter_map(|(_, bytes)| Reader::open(bytes).ok());
    let payloads = readers
        .flatten()
        .map(|(_, payload)| (kind, payload.to_vec()));
    payloads.take(most).collect()
}

fn journals(into: &Path, capture: &Capture) -> io::Result<()> {
    // Nothing is sent, so that everything stays on disk.
    let mut gateway = Gateway::with(
        r#"{"url": "http://receiver.test", "flushIntervalMs": 60000}"#,
        true,
    );
    for event in &capture.events {
        gateway.hear(&event.source, &event.args, event.at_ms);
        gateway
            .engine
            .advance(agentwatch_openclaw_fuzz::common::at(event.at_ms));
        gateway.write();
    }
    let name = capture.version;
    let ledger = payloads(&gateway, "ledger-", 0, 12);
    let calls = payloads(&gateway, "model-calls-", 1, 4);
    let records = payloads(&gateway, "records-", 2, 4);
    for (_, payload) in &ledger {
        seed(
            into,
            "journal",
            &format!("{name}-{}", payload.len()),
            payload,
        )?;
    }
    let spooled = ledger
        .iter()
        .filter(|(_, payload)| payload.first() == Some(&1))
        .cloned();
    seed(into, "spool", name, &parts_of(spooled))?;
    let renamed = |kind: u8, list: &[(u8, Vec<u8>)]| -> Vec<_> {
        list.iter()
            .map(|(_, payload)| (kind, payload.clone()))
            .collect()
    };
    let exported = [renamed(0, &calls), renamed(1, &records)].concat();
    seed(into, "otlp", name, &parts_of(exported))?;
    let all = [ledger, calls, records].concat();
    seed(into, "recovery", name, &parts_of(all))
}

fn write(into: &Path) -> io::Result<()> {
    for (name, bytes) in fixtures("answers")? {
        seed(into, "answer", &name, &bytes)?;
        seed(into, "sse", &name, &bytes)?;
    }
    for (name, bytes) in fixtures("litellm")? {
        // The begin of a conversation with its prices is as useful as the whole.
        seed(into, "litellm", &name, &bytes[..bytes.len().min(16 * 1024)])?;
        if name.starts_with("single") {
            seed(into, "litellm", "whole", &bytes)?;
        }
    }
    for (name, body) in [
        (
            "plain",
            r#" {"model":"m","stream":true,"messages":[{"role":"user","content":"a\"b"}]}"#,
        ),
        ("null", r#"{"stream":true,"stream_options":null}"#),
        (
            "said",
            r#"{"stream_options":{"include_usage":false,"a":[1]},"stream":true}"#,
        ),
        ("empty", r#"{"stream_options":{ },"stream":true}"#),
    ] {
        seed(into, "request", name, body.as_bytes())?;
    }
    for (name, body) in [
        ("taken", r#"{"status":"ok","ingested":2}"#),
        ("features", r#"{"features":["record_ids"]}"#),
        (
            "partial",
            r#"{"partialSuccess":{"rejectedSpans":"3","rejectedDataPoints":2}}"#,
        ),
        ("ids", r#"[{"id":"a","cost":1},{"id":"b"}]"#),
        ("facts", r#"[503,7000,null,false,true,["a"]]"#),
    ] {
        seed(into, "reply", name, body.as_bytes())?;
    }
    for capture in captures() {
        let rows = capture
            .transcript
            .iter()
            .take(8)
            .map(|one| stored::line(&one["row"]));
        let text: String = rows.collect();
        seed(into, "transcript", capture.version, text.as_bytes())?;
        journals(into, &capture)?;
    }
    seed(
        into,
        "transcript",
        "answer",
        stored::line(&stored::answer()).as_bytes(),
    )
}

fuzz_target!(
    init: {
        let into = env::var("FUZZ_SEEDS").expect("FUZZ_SEEDS names a folder");
        write(Path::new(&into)).expect("the folder can be written into");
    },
    |_data: &[u8]| {}
);
