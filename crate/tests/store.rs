//! Reads the session store: each call once, despite changes of the files and read errors.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

use crate::common::stored::facts;
use crate::folder::{Folder, insert};
use agentwatch_openclaw::sessions::places::SessionStore;
use agentwatch_openclaw::sessions::reader::{Options, Step, count_sessions};
use agentwatch_openclaw::sources::stored::{StoredFacts, read};
use serde_json::{Value, json};

/// Time of the first row, in ms since 1970. Rows are 1 s apart.
const BEGIN: u64 = 1_795_439_000_000;

/// A stored answer, identified by its input tokens.
fn answer(number: u64) -> String {
    long_answer(number, 20)
}

fn long_answer(number: u64, length: usize) -> String {
    let at = BEGIN + number * 1_000;
    let row = json!({
        "type": "message", "id": format!("e{number}"), "timestamp": at,
        "message": {
            "role": "assistant", "content": "x".repeat(length), "provider": "p", "model": "m",
            "usage": {"input": number, "output": 1}, "stopReason": "stop", "timestamp": at - 500,
        },
    });
    format!("{row}\n")
}

fn answers(numbers: impl IntoIterator<Item = u64>) -> String {
    numbers.into_iter().map(answer).collect()
}

fn sorted(mut numbers: Vec<u64>) -> Vec<u64> {
    numbers.sort_unstable();
    numbers
}

/// Packs a text as one zstd frame of raw blocks.
fn packed(text: &str) -> Vec<u8> {
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x58];
    let mut blocks = text.as_bytes().chunks(100_000).peekable();
    while let Some(block) = blocks.next() {
        let header = (block.len() as u32) << 3 | u32::from(blocks.peek().is_none());
        frame.extend_from_slice(&header.to_le_bytes()[..3]);
        frame.extend_from_slice(block);
    }
    frame
}

/// A folder with every storage format of sessions.
fn mixed() -> (Folder, Vec<u64>) {
    let folder = Folder::default();
    folder.write("ü 🦀.jsonl", answers(1..=40));
    folder.write("r.jsonl.reset.2026-11-24", answers(41..=45));
    folder.write("r.jsonl", answers(46..=50));
    folder.write(
        "d.jsonl.deleted.2026-11-24.a50b.zst",
        packed(&answers(51..=60)),
    );
    let database = folder.database("agents/main/agent/openclaw-agent.sqlite", &[]);
    insert(
        &database,
        "s",
        &[answer(61), long_answer(62, 300_000), answer(63)],
    );
    insert(&database, "t", &(64..=70).map(answer).collect::<Vec<_>>());
    fs::create_dir_all(folder.path.join("agents/ant")).unwrap();
    fs::write(
        folder.at("agents/ant/session-sqlite-import-archive/agent-ant-x.i.jsonl.imported-1"),
        answers(71..=75),
    )
    .unwrap();
    (folder, (1..=75).collect())
}

#[test]
fn each_call_is_read_once() {
    let (mut folder, all) = mixed();
    assert_eq!(sorted(folder.read()), all);
    assert_eq!(folder.problems, [""; 0]);
    let bookmarks = folder.bookmarks.clone();
    assert!(bookmarks.contains_key("main/ü 🦀") && bookmarks.contains_key("ant/i"));
    assert!(folder.read().is_empty());
    assert_eq!(folder.bookmarks, bookmarks);
    let host: std::rc::Rc<dyn agentwatch_openclaw::sessions::host::StoreHost> = folder.host.clone();
    assert_eq!(
        count_sessions(&host, folder.path.to_str().unwrap(), None),
        6
    );
}

#[test]
fn a_session_that_was_found_is_not_looked_for_in_the_archives() {
    let mut folder = Folder::default();
    let database = folder.database("agents/main/agent/openclaw-agent.sqlite", &[]);
    for number in 1..=50 {
        insert(&database, &format!("s{number}"), &[answer(number)]);
    }
    assert_eq!(folder.read().len(), 50);
    folder.host.calls.set(0);
    assert!(folder.read().is_empty());
    // Of each session its last row and what follows it, and some calls for the whole.
    let calls = folder.host.calls.get();
    assert!(calls < 50 * 2 + 25, "{calls}");
}

#[test]
fn whichever_call_of_the_host_fails_nothing_is_lost_or_read_twice() {
    let (mut folder, _) = mixed();
    folder.read();
    let calls = folder.host.calls.get();
    assert!(calls > 30, "{calls}");
    for fails_at in 1..=calls {
        let (mut folder, all) = mixed();
        folder.host.fails_at.set(Some(fails_at));
        let mut found = folder.read();
        if found.len() < all.len() {
            assert!(
                !folder.problems.is_empty(),
                "call {fails_at} fails silently"
            );
        }
        folder.host.fails_at.set(None);
        found.extend(folder.read());
        assert_eq!(sorted(found), all, "call {fails_at}");
        assert_eq!(folder.problems, [""; 0], "call {fails_at}");
        // A failure after everything was read loses no bookmark.
        folder.host.calls.set(0);
        folder.host.fails_at.set(Some(fails_at));
        assert!(folder.read().is_empty(), "call {fails_at}");
        folder.host.fails_at.set(None);
        assert!(folder.read().is_empty(), "call {fails_at}");
    }
}

#[test]
fn a_reading_that_ends_after_any_step_is_gone_on_with() {
    let (mut folder, all) = mixed();
    let mut found = Vec::new();
    loop {
        let mut reader = folder.reader(Options::default());
        let step = loop {
            match reader.step().unwrap() {
                Step::Pause => {}
                step => break step,
            }
        };
        match step {
            Step::Batch(batch) => found.extend(folder.keep(batch)),
            _ => break,
        }
    }
    assert_eq!(sorted(found), all);
}

#[test]
fn a_file_that_grows_or_is_replaced_while_it_is_read_loses_nothing() {
    let mut folder = Folder::default();
    folder.write("s.jsonl", answers(1..=4_000));
    let mut reader = folder.reader(Options::default());
    let mut found = Vec::new();
    for more in 4_001.. {
        match reader.step().unwrap() {
            Step::Batch(batch) => found.extend(folder.keep(batch)),
            Step::Pause => {}
            Step::Done => break,
        }
        match more {
            // The open file is read to its end, even if it is renamed.
            4_003 => {
                fs::rename(folder.session("s.jsonl"), folder.session("s.jsonl.reset.1")).unwrap();
                folder.write("s.jsonl", answers([9_000]));
            }
            4_001 | 4_002 => folder.append("s.jsonl", &answer(more)),
            _ => {}
        }
    }
    drop(reader);
    found.extend(folder.read());
    let all: Vec<u64> = (1..=4_002).chain([9_000]).collect();
    assert_eq!(sorted(found), all);
}

#[test]
fn what_is_no_file_holds_up_nothing_and_is_named() {
    let mut folder = Folder::default();
    folder.write("s.jsonl", answers([1]));
    let pipe = folder.session("pipe.jsonl");
    assert!(
        Command::new("mkfifo")
            .arg(&pipe)
            .status()
            .unwrap()
            .success()
    );
    fs::create_dir(folder.session("folder.jsonl")).unwrap();
    symlink("/nowhere", folder.session("dangling.jsonl")).unwrap();
    fs::write(folder.at("elsewhere"), answers([2])).unwrap();
    symlink(folder.at("elsewhere"), folder.session("linked.jsonl")).unwrap();
    assert_eq!(sorted(folder.read()), [1, 2]);
    let problems = sorted_texts(&folder.problems);
    let all = problems.join("\n");
    assert!(
        problems.len() == 2 && all.contains("pipe.jsonl is not a file"),
        "{all}"
    );
    assert!(all.contains("folder.jsonl is not a file"), "{all}");
    assert!(folder.read().is_empty());
}

fn sorted_texts(texts: &[String]) -> Vec<String> {
    let mut texts = texts.to_vec();
    texts.sort();
    texts
}

#[test]
fn a_folder_that_cannot_be_listed_costs_no_bookmark() {
    let (mut folder, all) = mixed();
    folder.read();
    let bookmarks = folder.bookmarks.clone();
    for hidden in ["agents/main/sessions", "agents/ant/sessions", "agents"] {
        *folder.host.hidden.borrow_mut() = Some(folder.path.join(hidden));
        assert!(folder.read().is_empty());
        assert_eq!(folder.problems.len(), 1, "{:?}", folder.problems);
        assert!(folder.problems[0].contains(hidden));
        assert_eq!(folder.bookmarks, bookmarks);
    }
    *folder.host.hidden.borrow_mut() = None;
    folder.append("r.jsonl", &answer(all.len() as u64 + 1));
    assert_eq!(folder.read(), [76]);
}

#[test]
fn a_step_is_short_however_many_sessions_there_are_and_however_large_they_are() {
    let mut folder = Folder::default();
    for number in 0..2_000 {
        folder.write(&format!("{number}.jsonl"), answers([number + 1]));
    }
    assert_eq!(folder.read().len(), 2_000);
    assert!(folder.read().is_empty());
    assert!(folder.steps > 2_000 / 64, "{} steps", folder.steps);
    let mut folder = Folder::default();
    // No line of this file is a call.
    let line = format!(
        "{}\n",
        json!({"type": "message", "text": "x".repeat(10_000)})
    );
    folder.write("s.jsonl", line.repeat(1_000));
    folder.read();
    assert!(folder.steps >= 10, "{} steps", folder.steps);
}

#[test]
fn packed_files_may_be_large_and_of_several_frames() {
    let mut folder = Folder::default();
    let (first, second) = (answers(1..=2_000), answers(2_001..=2_500));
    folder.write("s.jsonl", answers(1..=2_200));
    assert_eq!(folder.read().len(), 2_200);
    fs::remove_file(folder.session("s.jsonl")).unwrap();
    let frames = [packed(&first), packed(&second)].concat();
    folder.write("s.jsonl.deleted.1.zst", &frames);
    let expected: Vec<u64> = (2_201..=2_500).collect();
    assert_eq!(folder.read(), expected);
    assert!(folder.read().is_empty());
    for damaged in [&frames[..frames.len() - 10], b"no zstd".as_slice()] {
        folder.write("t.jsonl.deleted.1.zst", damaged);
        folder.read();
        assert_eq!(folder.problems.len(), 1);
        assert!(folder.problems[0].contains("t.jsonl.deleted.1.zst cannot be read"));
    }
}

#[test]
fn rows_of_several_mb_and_sessions_under_any_name_come_from_a_database() {
    let mut folder = Folder::default();
    let path = "agents/main/agent/openclaw-agent.sqlite";
    let database = folder.database(path, &[answer(1), long_answer(2, 5_000_000), answer(3)]);
    for (number, session) in ["", " ", "ü🦀", "a'b", "%", "zz"].into_iter().enumerate() {
        insert(&database, session, &[answer(10 + number as u64)]);
    }
    let found = sorted(folder.read());
    // A session without an id is skipped.
    assert_eq!(found, [1, 2, 3, 11, 12, 13, 14, 15]);
    assert!(folder.read().is_empty());
    insert(&database, "s", &[answer(4)]);
    database
        .execute("DELETE FROM transcript_events WHERE session_id = 'zz'", ())
        .unwrap();
    assert_eq!(folder.read(), [4]);
    assert!(!folder.bookmarks.contains_key("main/zz"));
}

#[test]
fn a_store_of_the_configuration_has_its_agents() {
    let keys =
        json!({"agent:ant:main": {"sessionId": "k"}, "broken": null, "other": {"sessionId": 5}});
    for (given, file, index) in [
        (
            "shared/sessions.json",
            "shared/k.jsonl",
            "shared/sessions.json",
        ),
        (
            "of/{agentId}/store.json",
            "of/bee/k.jsonl",
            "of/bee/store.json",
        ),
    ] {
        let mut folder = Folder::default();
        fs::write(folder.at(file), answers([1])).unwrap();
        fs::write(folder.at(index), keys.to_string()).unwrap();
        let path = folder.path.join(given).to_str().unwrap().to_owned();
        folder.store = Some(SessionStore { path, owner: None });
        let mut reader = folder.reader(Options::default());
        let Step::Batch(batch) = reader.step().unwrap() else {
            unreachable!("{given}: no batch")
        };
        assert!(batch.rows.contains("agent:ant:main"), "{}", batch.rows);
        assert!(batch.session.starts_with('~') && batch.session.ends_with("/k"));
        assert_eq!(batch.rows.contains("bee"), given.contains("agentId"));
    }
}

/// The history of a store is read beside its new rows, and a clock that was ahead puts a new one among the old.
#[test]
fn a_younger_row_does_not_end_the_reading_of_history() {
    let mut folder = Folder::default();
    folder.write("s.jsonl", answers([1, 9, 2, 8, 3]));
    let history = Options {
        until_ms: Some(BEGIN + 5_000),
        ..Options::default()
    };
    assert_eq!(folder.read_with(history.clone()), [1, 2, 3]);
    assert_eq!(folder.read_with(history), [0; 0]);
}

#[test]
fn a_last_line_without_its_end_is_read_when_it_is_whole_and_nothing_is_written_any_more() {
    let mut folder = Folder::default();
    let (first, last) = (answer(1), answer(2));
    let settled = || Options {
        until_ms: Some(u64::MAX),
        future_ms: Some(u64::MAX),
        ..Options::default()
    };
    let half = &last[..100];
    folder.write("s.jsonl", first + half);
    assert_eq!(folder.read_with(settled()), [1]);
    folder.append("s.jsonl", last[100..].trim_end());
    // It was written to after the time up to which calls are read.
    let before = Options {
        until_ms: Some(BEGIN + 9_000),
        ..Options::default()
    };
    assert_eq!(folder.read_with(before), [0; 0]);
    assert_eq!(folder.read_with(settled()), [2]);
    assert_eq!(folder.read_with(settled()), [0; 0]);
    folder.append("s.jsonl", &("\n".to_owned() + &answer(3)));
    assert_eq!(folder.read_with(settled()), [3]);
}

#[test]
fn one_store_under_two_names_is_read_once() {
    let mut folder = Folder::default();
    folder.write("s.jsonl", answers([1]));
    symlink(
        folder.path.join("agents/main"),
        folder.path.join("agents/alias"),
    )
    .unwrap();
    let path = folder.session("sessions.json").to_str().unwrap().to_owned();
    folder.store = Some(SessionStore { path, owner: None });
    assert_eq!(folder.read(), [1]);
}

#[test]
fn calls_outside_of_the_time_that_is_asked_for_wait_or_are_left_out() {
    let mut folder = Folder::default();
    folder.write("s.jsonl", answers([1, 5, 2]));
    let until = |second: u64| Options {
        until_ms: Some(BEGIN + second * 1_000),
        ..Options::default()
    };
    let up_to = |second: u64, future: u64| Options {
        future_ms: Some(BEGIN + future * 1_000),
        ..until(second)
    };
    assert_eq!(folder.read_with(up_to(5, 9)), [1]);
    assert_eq!(folder.read_with(up_to(5, 9)), [0; 0]);
    // The clock was set back: a row from after `future_ms` is read at once.
    assert_eq!(folder.read_with(up_to(3, 4)), [5, 2]);
    let since = Options {
        since_ms: Some(BEGIN + 6_000),
        ..Options::default()
    };
    folder.append("s.jsonl", &answers([3, 7]));
    assert_eq!(folder.read_with(since), [7]);
}

/// Agent of each call of a folder, in the order of the input tokens.
fn agents(folder: &Folder) -> Vec<String> {
    let mut reader = folder.reader(Options::default());
    let mut found = Vec::new();
    loop {
        match reader.step().unwrap() {
            Step::Batch(batch) => {
                let rows: Vec<Value> = serde_json::from_str(&format!("[{}]", batch.rows)).unwrap();
                let call = |row: &Value| read(&StoredFacts::new(facts(row))).unwrap();
                found.extend(rows.iter().map(call));
            }
            Step::Pause => {}
            Step::Done => break,
        }
    }
    found.sort_by_key(|call| call.usage.unwrap().prompt());
    found.into_iter().map(|call| call.agent.unwrap()).collect()
}

fn shared(path: &str, files: &[(&str, String)]) -> Folder {
    let mut folder = Folder::default();
    for (file, text) in files {
        fs::write(folder.at(file), text).unwrap();
    }
    let path = folder.path.join(path).to_str().unwrap().to_owned();
    folder.store = Some(SessionStore { path, owner: None });
    folder
}

#[test]
fn an_archived_file_belongs_to_the_agent_of_its_place() {
    let folder = Folder::default();
    let archived = |agent: &str, name: &str, number: u64| {
        let path = format!("agents/{agent}/session-sqlite-import-archive/{name}.jsonl.imported-1");
        fs::write(folder.at(&path), answer(number)).unwrap();
    };
    archived("my-agent", "agent_my-agent_main.a", 1);
    archived("my_agent", "agent_my_agent_main.b", 2);
    archived("main", "agent_old_main.c", 3);
    assert_eq!(agents(&folder), ["my-agent", "my_agent", "main"]);
}

#[test]
fn an_archived_file_of_a_shared_place_belongs_to_the_agent_in_its_name() {
    let archived =
        |name: &str| format!("session-sqlite-import-archive/agent_{name}.jsonl.imported-1");
    let names = ["my-agent_main.a", "my_agent_main.b", "gone_main.c"].map(archived);
    let [a, b, c] = &names;
    let folder = shared(
        "shared/sessions.json",
        &[
            (a, answer(1)),
            (b, answer(2)),
            (c, answer(3)),
            ("agents/my_agent/sessions/d.jsonl", answer(4)),
        ],
    );
    assert_eq!(
        agents(&folder),
        ["my-agent", "my_agent", "gone", "my_agent"]
    );
}

/// OpenClaw up to 2026.7: `session.store` may name the default agent's own place for all agents.
#[test]
fn the_index_of_a_shared_store_in_an_agents_folder_tells_the_agents() {
    let index =
        json!({"agent:main:main": {"sessionId": "a"}, "agent:side:main": {"sessionId": "b"}});
    let place = "agents/main/sessions";
    let files = [
        (&*format!("{place}/a.jsonl"), answer(1)),
        (&*format!("{place}/b.jsonl"), answer(2)),
        (&*format!("{place}/sessions.json"), index.to_string()),
    ];
    let path = format!("{place}/sessions.json");
    assert_eq!(agents(&shared(&path, &files)), ["main", "side"]);
    // The store of one agent has an index of its own, which says nothing more.
    let path = "agents/{agentId}/sessions/sessions.json";
    assert_eq!(agents(&shared(path, &files)), ["main", "main"]);
}

/// A topic has a file of its own, `<session id>-topic-<number>.jsonl`, which the index names.
#[test]
fn a_file_that_the_index_names_belongs_to_the_session_there() {
    let index = json!({
        "agent:main:main": {"sessionId": "a"},
        "agent:side:telegram:group:1:topic:5": {"sessionId": "a", "sessionFile": "/old/shared/a-topic-5.jsonl"},
    });
    let files = [
        ("shared/a.jsonl", answer(1)),
        ("shared/a-topic-5.jsonl", answer(2)),
        ("shared/sessions.json", index.to_string()),
    ];
    assert_eq!(
        agents(&shared("shared/sessions.json", &files)),
        ["main", "side"]
    );
}

#[test]
fn a_configured_database_in_an_agents_folder_belongs_to_that_agent() {
    let path = "far/agents/ant/agent/openclaw-agent.sqlite";
    let folder = shared(path, &[]);
    folder.database(path, &[answer(1)]);
    assert_eq!(agents(&folder), ["ant"]);
}

/// OpenClaw's older keys have no agent: the index of one agent says whose sessions they are.
#[test]
fn a_session_without_an_agent_belongs_to_the_agent_of_its_index() {
    let index = |id: &str| json!({"main": {"sessionId": id}}).to_string();
    let files = [
        ("flat/a.jsonl", answer(1)),
        ("flat/b.jsonl", answer(2)),
        ("flat/main.json", index("a")),
        ("flat/side.json", index("b")),
    ];
    assert_eq!(
        agents(&shared("flat/{agentId}.json", &files)),
        ["main", "side"]
    );
}
