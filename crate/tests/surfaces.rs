//! What is derived from the table of surfaces and sources: the shim's subscriptions, and the bytes in the journal. An
//! old file of format version 1 still has the meaning that it had when it was written.

use crate::common::Gateway;
use agentwatch_openclaw::journal::files::LEDGER;
use agentwatch_openclaw::journal::{self, FILE_HEADER, Frame, Reader};
use agentwatch_openclaw::sources::SOURCES;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::Path;

const START_MS: u64 = 1_795_000_000_000;

/// The ledger's file of [`journal_of_all_surfaces`], written when there were seven surfaces and a set of them was one
/// byte. It is never regenerated: a change that fails here needs a new version of the format.
const GOLDEN: &[u8] = include_bytes!("../../tests/fixtures/journal/surfaces-v1.awj");
/// The same since match records have keys for duplicates. It is never regenerated either.
const GOLDEN_WITH_KEYS: &[u8] = include_bytes!("../../tests/fixtures/journal/surfaces-v1-keys.awj");

/// A source of each of those surfaces, in the order of their bits.
const SURFACES: [&str; 7] = [
    "before_message_write",
    "model.call.completed",
    "model_call_ended",
    "model:used",
    "stored",
    "proxied",
    "litellm",
];

/// Begin of a call, which takes 400 ms.
fn start_of(call: usize) -> u64 {
    START_MS + 60_000 * call as u64
}

fn end_of(call: usize) -> u64 {
    start_of(call) + 400
}

/// A surface's report of a call. Rows of the session store have ids, so a second row needs another `entry`.
fn told(surface: &str, call: usize, model: &str, entry: &str) -> Value {
    let (started, ended, input) = (start_of(call), end_of(call), 100 + call);
    let session = "agent:main:s";
    let span = format!("span-{call}");
    let message = json!({
        "role": "assistant", "provider": "p", "model": model, "stopReason": "stop", "timestamp": started,
        "usage": {"input": input, "output": 7, "cost": {"total": 0.5}},
    });
    match surface {
        "before_message_write" => json!({
            "event": {"message": message},
            "ctx": {"sessionKey": session, "agentId": "main"},
        }),
        "model.call.completed" => json!({"event": {
            "provider": "p", "model": model, "usage": message["usage"], "sessionKey": session, "runId": "r",
            "durationMs": 400, "timeToFirstByteMs": 90, "ts": ended, "trace": {"spanId": span},
        }}),
        "model_call_ended" => json!({
            "event": {
                "provider": "p", "model": model, "sessionKey": session, "runId": "r", "durationMs": 400,
                "outcome": "completed",
            },
            "ctx": {"trace": {"spanId": span}},
        }),
        "model:used" => json!({"event": {
            "model": format!("p/{model}"), "promptTokens": input, "completionTokens": 7, "latencyMs": 400,
            "sessionKey": session,
        }}),
        "stored" => json!({
            "event": {"id": format!("{entry}-{call}"), "timestamp": ended, "message": message},
            "ctx": {"sessionId": "one", "sessionKey": session, "agentId": "main"},
        }),
        _ => json!({"event": {
            "provider": "p", "model": model, "input": input, "output": 7, "started": started, "ended": ended,
            "duration": 400, "ttfb": 80.0, "ttft": 120.0, "request_id": "req_1", "response_model": "m-2026",
            "cost": 0.25,
        }}),
    }
}

/// One surface reports the first call, one more each further call; then pending calls follow, each reported by one
/// surface.
fn journal_of_all_surfaces() -> Vec<u8> {
    let mut gateway = Gateway::new(true);
    for call in 0..SURFACES.len() {
        for surface in &SURFACES[..=call] {
            gateway.hear(surface, &told(surface, call, "m", "first"), end_of(call));
        }
        gateway.run_until(end_of(call), start_of(call + 1));
    }
    let after_all = SURFACES.len();
    for (index, surface) in SURFACES.iter().enumerate() {
        let model = format!("open-{index}");
        gateway.hear(
            surface,
            &told(surface, after_all, &model, "first"),
            end_of(after_all),
        );
    }
    gateway.engine.compact();
    gateway.write();
    let is_ledger = |(file, _): &(&String, &Vec<u8>)| file.starts_with(LEDGER);
    gateway
        .disk
        .files()
        .iter()
        .rfind(is_ledger)
        .unwrap()
        .1
        .clone()
}

#[test]
fn the_journals_bytes_are_fixed() {
    // The order of pending calls is not part of the format. A cursor stands where older files have marks of entries, and
    // sums, the state of incidents, ids of answers and the list of awaited surfaces are in newer ones alone. A call may have
    // further keys: a frame has any number.
    let is_progress = |frame: &Frame| {
        matches!(
            frame,
            Frame::Gone(..)
                | Frame::Cursor(..)
                | Frame::Tally(..)
                | Frame::Tallied(_)
                | Frame::Incidents(_)
        ) || matches!(frame, Frame::Bookmark(name, _) if name == "/awaited")
    };
    let frames = |bytes: &[u8]| -> (BTreeSet<Vec<u8>>, BTreeSet<Vec<u8>>) {
        let (mut others, mut all_keys) = (BTreeSet::new(), BTreeSet::new());
        for (_, payload) in Reader::open(bytes).unwrap() {
            match journal::format_v1::frame(payload) {
                Some(Frame::Told {
                    until_ms,
                    forgotten_ms,
                    keys,
                }) => {
                    all_keys.extend(keys.chunks(8).map(<[u8]>::to_vec));
                    let without_keys = Frame::Told {
                        until_ms,
                        forgotten_ms,
                        keys: Vec::new(),
                    };
                    others.insert(journal::format_v1::frame_bytes(&without_keys));
                }
                Some(frame) if is_progress(&frame) => {}
                Some(Frame::Seen(id, mut seen)) => {
                    seen.response_id = None;
                    others.insert(journal::format_v1::frame_bytes(&Frame::Seen(id, seen)));
                }
                _ => drop(others.insert(payload.to_vec())),
            }
        }
        (others, all_keys)
    };
    let (today, keys) = frames(&journal_of_all_surfaces());
    let (golden, golden_keys) = frames(GOLDEN_WITH_KEYS);
    assert!(today == golden, "other bytes");
    assert!(keys.is_superset(&golden_keys), "other keys");
    assert!(today.len() > 14, "a frame for each call");
    assert!(golden_keys.len() > 7, "{}", golden_keys.len());
    for golden in [GOLDEN, GOLDEN_WITH_KEYS] {
        let mut again = journal::begin_file();
        for frame in journal::read(golden).unwrap().frames {
            journal::append_frame(&mut again, &frame);
        }
        assert!(again == golden, "they do not come back as they went");
        assert!(again.len() > FILE_HEADER);
    }
}

/// Number of counted calls when a gateway with the old file receives one more report of a call.
fn counted_again(surface: &str, call: usize) -> u64 {
    let mut gateway = Gateway::new(true);
    let file = [LEDGER, "0000000001.awj"].concat();
    gateway.disk.files().insert(file, GOLDEN.to_vec());
    gateway.restart(end_of(call));
    let before = gateway.status()["counted"].as_u64().unwrap();
    assert_eq!(gateway.status()["journal_corrupt"], 0);
    // The pending calls become final some seconds later.
    let open = SURFACES.len() as u64;
    let args = told(surface, call, "m", "again");
    gateway.hear(surface, &args, end_of(call));
    gateway.run_until(end_of(call), end_of(call) + 20_000);
    gateway.status()["counted"].as_u64().unwrap() - before - open
}

/// A surface reports a call once, so a further report is a new call unless the file has the surface's first one.
#[test]
fn an_old_journal_has_the_reporting_surfaces_of_each_call() {
    for call in 0..SURFACES.len() {
        for (index, surface) in SURFACES.iter().enumerate() {
            let had_told = index <= call;
            let counted = counted_again(surface, call);
            assert_eq!(counted, u64::from(had_told), "{surface} of call {call}");
        }
    }
}

/// The names of the sources whose table has a property, as the shim gets it.
fn sources(holds: impl Fn(&Value) -> bool) -> BTreeSet<String> {
    let tables = serde_json::to_value(SOURCES).unwrap();
    let tables = tables.as_array().unwrap().iter();
    let names = tables.filter(|table| holds(table));
    names
        .map(|table| table["source"].as_str().unwrap().to_owned())
        .collect()
}

fn names<const N: usize>(names: [&str; N]) -> BTreeSet<String> {
    names.map(str::to_owned).into()
}

#[test]
fn typed_hooks_are_derived_from_the_sources() {
    let hooks = |gateways: &str| {
        sources(|table| table["mechanism"] == "hook" && table["gateways"] == gateways)
    };
    let every = [
        "before_message_write",
        "before_tool_call",
        "after_tool_call",
        "before_compaction",
        "after_compaction",
        "before_reset",
        "session_start",
        "session_end",
        "message_received",
        "message_sent",
        "subagent_spawned",
        "subagent_ended",
        "gateway_start",
        "gateway_stop",
    ];
    assert_eq!(hooks("every"), names(every));
    let newer = ["model_call_ended", "cron_changed"];
    assert_eq!(hooks("newer"), names(newer));
    assert_eq!(hooks("older"), names(["llm_input", "llm_output"]));
    assert_eq!(hooks("none"), names([]));
}

#[test]
fn diagnostics_are_derived_from_the_sources() {
    let expected = [
        "model.call.completed",
        "model.call.error",
        "model.usage",
        "run.started",
        "run.completed",
        "skill.used",
        "session.state",
        "message.delivery.started",
        "message.delivery.completed",
        "message.delivery.error",
        "diagnostic.async_queue.dropped",
        "tool.loop",
    ];
    let diagnostics = sources(|table| table["mechanism"] == "diagnostic");
    assert_eq!(diagnostics, names(expected));
    let everywhere = sources(|table| table["gateways"] == "every");
    assert!(
        everywhere.is_superset(&diagnostics),
        "one list for all gateways"
    );
}

#[test]
fn internal_events_are_derived_from_the_sources() {
    let internal = sources(|table| table["mechanism"] == "internal");
    assert_eq!(internal, names(["command", "session"]));
    // A HOOK.md handler subscribes to whole families of events.
    let families = sources(|table| {
        ["internal", "hook_file"].contains(&table["mechanism"].as_str().unwrap())
            && table["gateways"] != "none"
    });
    let family = |name: &String| name.split(':').next().unwrap().to_owned();
    let families: BTreeSet<String> = families.iter().map(family).collect();
    let expected = ["gateway", "message", "command", "session"];
    assert_eq!(families, names(expected));
    let nowhere = sources(|table| table["gateways"] == "none");
    let asked_for = [
        "conversation:start",
        "conversation:end",
        "model:used",
        "session:complete",
    ];
    assert_eq!(nowhere, names(asked_for), "no gateway emits them");
}

#[test]
fn sources_without_a_subscription_are_derived_too() {
    assert_eq!(
        sources(|table| table["mechanism"] == "file"),
        names(["stored"])
    );
    let requests = sources(|table| table["mechanism"] == "request");
    assert_eq!(requests, names(["proxied", "litellm", "passed"]));
}

/// Files of a folder that name a surface.
fn naming_a_surface(folder: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(naming_a_surface(&path));
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let mut after = text.split("Surface::").skip(1);
        if after.any(|rest| rest.starts_with(|next: char| next.is_uppercase() || next == '{')) {
            found.insert(path.file_name().unwrap().to_str().unwrap().to_owned());
        }
    }
    found
}

#[test]
fn only_the_table_and_its_own_file_name_a_surface() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let table = std::fs::read_to_string(source.join("domain/surface.rs")).unwrap();
    let own = |file: &String| {
        let module = file.trim_end_matches(".rs");
        table.contains(&format!("sources: {module}::"))
    };
    let mut others = naming_a_surface(&source);
    others.retain(|file| !own(file));
    assert_eq!(others, names(["made_up_tests.rs"]));
}
