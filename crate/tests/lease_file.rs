//! The lease's file: what is read of it, and what becomes of it where it is damaged; and the names of spool files.

use std::fs;
use std::os::unix::fs::symlink;

use crate::common::shared::{Machine, Member, Shared, machine, owner as owner_of, taken_after};
use agentwatch_openclaw::lease::owner::{self, Writer, spool_names};
use agentwatch_openclaw::lease::{FILE, Lease};
use serde_json::{Value, json};

const HEARTBEAT_MS: u64 = 2_000;

/// Puts something in the place of the file.
type Damage = fn(&Machine);

/// What may stand in the place of the file.
fn damages() -> Vec<(&'static str, Damage)> {
    vec![
        ("missing", |machine| {
            fs::remove_file(machine.at(FILE)).unwrap_or_default();
        }),
        ("empty", |machine| put(machine, b"")),
        ("no JSON", |machine| put(machine, b"\0\0\0")),
        ("another document", |machine| put(machine, b"[1]")),
        ("a folder", |machine| {
            fs::remove_file(machine.at(FILE)).unwrap_or_default();
            fs::create_dir_all(machine.at(FILE).join("x")).unwrap();
        }),
        ("a symbolic link", |machine| {
            fs::remove_file(machine.at(FILE)).unwrap_or_default();
            symlink("/etc/passwd", machine.at(FILE)).unwrap();
        }),
        ("a huge file", |machine| {
            put(machine, b"");
            let file = fs::File::options().write(true).open(machine.at(FILE));
            file.unwrap().set_len(1 << 40).unwrap();
        }),
    ]
}

fn put(machine: &Machine, bytes: &[u8]) {
    fs::write(machine.at(FILE), bytes).unwrap();
}

#[test]
fn the_owner_restores_a_damaged_file_and_stays_the_owner() {
    for (what, damage) in damages() {
        let machine = machine();
        let mut first = owner_of(&machine);
        first.beat();
        let mut second = Member::new(machine.start(200));
        machine.pass(HEARTBEAT_MS);
        damage(&machine);
        if what != "missing" {
            assert!(!second.take(), "{what}");
        }
        first.beat();
        assert!(!second.take(), "{what}");
        assert_eq!(
            owner::read(&*first.host, FILE).owner.map(|o| o.pid),
            Some(100),
            "{what}"
        );
        assert!(first.lease.is_held_for_certain(&*first.host), "{what}");
        let passwd = fs::read_to_string("/etc/passwd").unwrap();
        assert!(
            passwd.contains("root"),
            "the target of a link is left alone"
        );
    }
}

#[test]
fn after_a_long_stop_a_missing_file_may_have_been_another_owners() {
    let machine = machine();
    let mut first = owner_of(&machine);
    first.beat();
    let mut second = Member::new(machine.start(200));
    assert!(!second.take());
    assert_eq!(taken_after(&machine, &mut second, 20), Some(10));
    second.lease.release(&*second.host).unwrap();
    first.beat();
    assert!(!first.lease.is_held(&*first.host));
    assert!(!machine.at(FILE).exists());
}

#[test]
fn the_next_engine_of_an_owner_tells_others_that_it_lives() {
    let machine = machine();
    let first = owner_of(&machine);
    let mut second = Member::new(machine.start(200));
    assert!(!second.take());
    machine.pass(9_000);
    let mut next = Lease::new(&*first.host, "gateway");
    assert!(next.take(&*first.host, true).unwrap());
    assert_eq!(taken_after(&machine, &mut second, 20), Some(10));
}

#[test]
fn a_damaged_file_without_an_owner_is_replaced_after_ten_seconds() {
    for (what, damage) in damages() {
        let machine = machine();
        damage(&machine);
        let mut next = Member::new(machine.start(200));
        let after = if what == "missing" { 0 } else { 10 };
        assert_eq!(taken_after(&machine, &mut next, 20), Some(after), "{what}");
        assert_eq!(
            owner::read(&*next.host, FILE).owner.map(|o| o.pid),
            Some(200),
            "{what}"
        );
    }
}

#[test]
fn the_next_engine_of_an_owner_keeps_a_damaged_lease() {
    for (what, damage) in damages() {
        let machine = machine();
        let first = owner_of(&machine);
        damage(&machine);
        let mut next = Lease::new(&*first.host, "gateway");
        assert!(next.take(&*first.host, true).unwrap(), "{what}");
        next.heartbeat(&*first.host);
        assert!(next.is_held_for_certain(&*first.host), "{what}");
        // Another process's lease is not this one's.
        let other = json!({"pid": 7, "host": "x", "started": 1, "token": "y", "role": "sync"});
        put(&machine, other.to_string().as_bytes());
        let mut next = Lease::new(&*first.host, "gateway");
        assert!(!next.take(&*first.host, true).unwrap(), "{what}");
    }
}

#[test]
fn the_problem_of_a_file_is_told_with_its_path() {
    let problems = [
        (1, "is empty"),
        (2, "is no JSON"),
        (3, "does not hold what it should"),
        (4, "is a folder, not a file"),
        (5, "is a symbolic link, not a file"),
        (
            6,
            "holds 1099511627776 bytes, more than the 1048576 that it may",
        ),
    ];
    for (which, problem) in problems {
        let machine = machine();
        let (_, damage) = damages()[which];
        damage(&machine);
        let found = owner::read(&*machine.start(1), FILE);
        let path = machine.at(FILE);
        assert_eq!(
            found.fault.unwrap(),
            format!("{} {problem}", path.display())
        );
        assert_eq!(found.owner, None);
    }
}

#[test]
fn a_document_names_an_owner_only_where_each_field_has_its_type() {
    let machine = machine();
    let host = machine.start(1);
    let good = json!({"pid": 7, "host": "h", "started": 1.5, "token": "t", "role": "gateway", "more": [1]});
    let is_owner = |document: &Value| {
        put(&machine, document.to_string().as_bytes());
        owner::read(&*host, FILE).owner.is_some()
    };
    machine.at(FILE);
    assert!(is_owner(&good));
    let long = "x".repeat(256);
    for (name, value) in [
        ("pid", json!(0)),
        ("pid", json!(-1)),
        ("pid", json!(1.5)),
        ("pid", json!("7")),
        ("pid", json!(2_u64.pow(31))),
        ("started", json!(null)),
        ("started", json!("1")),
        ("host", json!("")),
        ("host", json!(7)),
        ("host", json!(long)),
        ("token", json!(null)),
        ("token", json!(["t"])),
        ("role", json!("\u{1b}[2J")),
        ("role", json!("\u{202e}txt")),
        ("role", json!("a\nb")),
        ("role", json!("\u{e000}")),
    ] {
        let mut document = good.clone();
        document[name] = value;
        assert!(!is_owner(&document), "{document}");
        document.as_object_mut().unwrap().remove(name);
        assert!(!is_owner(&document), "{document}");
    }
    for document in [json!(null), json!([]), json!(7), json!("x"), json!({})] {
        assert!(!is_owner(&document), "{document}");
    }
    let mut document = good;
    document["host"] = json!("Zoë's 🦀 machine");
    assert!(is_owner(&document));
}

#[test]
fn the_name_of_a_spool_file_tells_whether_its_writer_lives() {
    let machine = machine();
    let (one, two) = (machine.start(100), machine.start_on(200, "a_b/ü'(1)"));
    let named = |host: &Shared| {
        let (prefix, suffix) = spool_names(host);
        format!("{prefix}3{suffix}")
    };
    assert_eq!(named(&one), "v1_100_1795000000000_token-10_3_here");
    assert_eq!(
        named(&two),
        "v1_200_1795000000000_token-20_3_a_b%2F%C3%BC'(1)"
    );
    let lives = |host: &Shared, name: &str| Writer::of(name).and_then(|writer| writer.lives(host));
    assert_eq!(lives(&one, &named(&one)), Some(true));
    assert_eq!(lives(&two, &named(&two)), Some(true));
    assert_eq!(lives(&one, &named(&two)), None, "on another machine");
    let three = machine.start(300);
    assert_eq!(lives(&three, &named(&one)), Some(true));
    machine.kill(100);
    assert_eq!(lives(&three, &named(&one)), Some(false));
    assert_eq!(
        lives(&three, "v1_300_12_token_0_here"),
        Some(false),
        "another process had this id"
    );
    for name in [
        "notes.txt",
        "v2_100_1_token_0_here",
        "v1_100_1__0_here",
        "v1_0_1_token_0_here",
        "v1_100_1_token_x_here",
        "v1_1_2_%_0_%E0%A4%A",
        "v1_",
    ] {
        assert_eq!(lives(&one, name), None, "{name}");
    }
}
