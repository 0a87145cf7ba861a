//! Engines of several processes on one folder of the real disk: each call counts once, whichever process is killed, hangs or
//! takes over. Hosts fail at any call.

use std::fs;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::common::shared::{Machine, Shared, machine};
use crate::common::{Gateway, SETTINGS, at};
use agentwatch_openclaw::lease::owner::spool_names;
use serde_json::{Value, json};

const START_MS: u64 = 1_795_000_000_000;

/// A gateway whose engine has joined the folder.
fn joined(host: &Rc<Shared>) -> Gateway {
    static SEED: AtomicU64 = AtomicU64::new(1);
    let seed = SEED.fetch_add(1, Ordering::Relaxed);
    let mut gateway = Gateway::unopened(SETTINGS, false, seed);
    gateway
        .engine
        .join(host.clone(), "gateway", false, at(START_MS));
    gateway
}

fn hear(gateway: &mut Gateway, calls: std::ops::Range<u64>) {
    for index in calls {
        let message = json!({
            "event": {"message": {"role": "assistant", "provider": "p", "model": "m", "stopReason": "stop",
                "timestamp": START_MS + index * 100, "usage": {"input": 1 + index, "output": 2, "cost": {"total": 0.001}}}},
            "ctx": {"sessionKey": "agent:main:s"},
        });
        gateway.hear(
            "before_message_write",
            &message,
            START_MS + index * 100 + 50,
        );
    }
}

fn ids(gateways: &[&Gateway]) -> Vec<String> {
    let calls = gateways.iter().flat_map(|gateway| &gateway.receiver.calls);
    let mut ids: Vec<String> = calls
        .map(|call| call["prompt_tokens"].to_string())
        .collect();
    ids.sort_by_key(|id| id.parse::<u64>().unwrap());
    ids
}

fn each_once(count: u64) -> Vec<String> {
    (1..=count).map(|tokens| tokens.to_string()).collect()
}

/// The owner is killed after any call of the disk; the process that spooled takes over.
#[test]
fn a_killed_owners_calls_and_those_of_the_spool_count_once() {
    for calls in 0..40 {
        let machine = machine();
        let (one, two) = (machine.start(100), machine.start(200));
        let mut owner = joined(&one);
        let mut other = joined(&two);
        assert_eq!(
            (owner.engine.standing(), other.engine.standing()),
            ("owner", "spool")
        );
        hear(&mut owner, 0..5);
        hear(&mut other, 5..10);
        // From some call on nothing of the owner reaches the disk: it is dead.
        one.fail_after(calls, u32::MAX);
        owner.engine.take_spools(at(START_MS + 2_000));
        owner.write();
        machine.kill(100);
        hear(&mut other, 10..12);
        assert!(other.engine.is_kept());
        assert!(
            other.engine.take_over(false, at(START_MS + 3_000)),
            "after {calls}"
        );
        let mut next = joined(&two);
        assert_eq!(next.engine.standing(), "owner");
        next.engine.take_spools(at(START_MS + 4_000));
        next.run_until(START_MS + 4_000, START_MS + 70_000);
        assert_eq!(ids(&[&next]), each_once(12), "after {calls}");
    }
}

/// A process that spools and the owner both make a call final; the owner alone reports its failure.
#[test]
fn a_failed_call_of_a_spooling_process_is_reported_once() {
    let machine = machine();
    let (one, two) = (machine.start(100), machine.start(200));
    let (mut owner, mut other) = (joined(&one), joined(&two));
    let failed = json!({
        "event": {"message": {"role": "assistant", "provider": "p", "model": "m", "stopReason": "error",
            "timestamp": START_MS, "usage": {"input": 0, "output": 0}}},
        "ctx": {"sessionKey": "agent:main:s"},
    });
    other.hear("before_message_write", &failed, START_MS + 50);
    other.run_until(START_MS + 50, START_MS + 20_000);
    owner.engine.take_spools(at(START_MS + 20_000));
    owner.run_until(START_MS + 20_000, START_MS + 90_000);
    owner.engine.take_spools(at(START_MS + 90_000));
    owner.run_until(START_MS + 90_000, START_MS + 120_000);
    let metrics = owner.receiver.records("metrics");
    let errors = metrics
        .iter()
        .filter(|metric| metric["name"] == "model_errors");
    assert_eq!(errors.count(), 1, "{metrics:?}");
}

/// A proxy's process tells the owner which answer it saw: the gateway's usage of it differs, and a busy gateway's call
/// begins long before its request.
#[test]
fn a_spooled_call_with_other_usage_matches_by_the_answers_id() {
    for (id, requests) in [("msg_1", 1), ("msg_2", 2)] {
        let machine = machine();
        let (one, two) = (machine.start(100), machine.start(200));
        let (mut owner, mut proxy) = (joined(&one), joined(&two));
        let message = json!({
            "event": {"message": {"role": "assistant", "provider": "p", "model": "m", "stopReason": "stop",
                "timestamp": START_MS, "responseId": "msg_1", "usage": {"input": 50, "output": 7}}},
            "ctx": {"sessionKey": "agent:main:s"},
        });
        let call = json!({"event": {
            "provider": "p", "model": "m", "input": 18_050, "output": 357, "started": START_MS + 300,
            "ended": START_MS + 500, "duration": 200, "response_id": id,
        }});
        owner.hear("before_message_write", &message, START_MS + 500);
        proxy.hear("proxied", &call, START_MS + 500);
        proxy.run_until(START_MS + 500, START_MS + 600);
        owner.engine.take_spools(at(START_MS + 600));
        owner.run_until(START_MS + 600, START_MS + 20_000);
        assert_eq!(owner.receiver.totals.requests(), requests, "{id}");
    }
}

/// A call of half a second, as a proxy reports it.
fn proxied(began: u64, input: u64) -> Value {
    json!({"event": {
        "provider": "p", "model": "m", "input": input, "output": 7, "started": began, "ended": began + 500, "duration": 500,
    }})
}

/// The same call, as the gateway reports it.
fn told(began: u64) -> Value {
    json!({
        "event": {"message": {"role": "assistant", "provider": "p", "model": "m", "stopReason": "stop",
            "timestamp": began, "usage": {"input": 50, "output": 7}}},
        "ctx": {"sessionKey": "agent:main:s"},
    })
}

/// An owner whose proxy has reported a first call.
fn behind_a_proxy(machine: &Rc<Machine>) -> (Gateway, Gateway) {
    let (mut owner, mut proxy) = (joined(&machine.start(100)), joined(&machine.start(200)));
    proxy.hear("proxied", &proxied(START_MS, 9), START_MS + 500);
    proxy.run_until(START_MS + 500, START_MS + 900);
    owner.engine.take_spools(at(START_MS + 900));
    owner.run_until(START_MS + 900, START_MS + 10_000);
    (owner, proxy)
}

/// The owner was away for longer than a call waits for its proxy, whose figures rank first.
#[test]
fn an_owner_that_was_away_reads_what_the_proxy_told_before_it_counts() {
    let machine = machine();
    let (mut owner, mut proxy) = behind_a_proxy(&machine);
    let began = START_MS + 10_000;
    owner.hear("before_message_write", &told(began), began + 500);
    proxy.hear("proxied", &proxied(began, 18_050), began + 500);
    proxy.run_until(began + 500, began + 1_000);
    owner.run_until(began + 5_000, began + 9_000);
    let total = &owner.receiver.totals.0["p/m"];
    assert_eq!((total.requests, total.prompt), (2, 9 + 18_050));
}

#[test]
fn the_next_owner_waits_for_the_proxy_from_its_first_call_on() {
    let machine = machine();
    let (owner, mut proxy) = behind_a_proxy(&machine);
    drop(owner);
    machine.kill(100);
    let mut next = joined(&machine.start(300));
    let mut began = START_MS + 20_000;
    next.hear("before_message_write", &told(began), began + 500);
    next.run_until(began + 500, began + 1_000);
    proxy.hear("proxied", &proxied(began, 18_050), began + 1_000);
    proxy.run_until(began + 1_000, began + 1_500);
    next.engine.take_spools(at(began + 1_500));
    next.run_until(began + 1_500, began + 9_000);
    assert_eq!(next.receiver.totals.0["p/m"].prompt, 18_050);
    // A proxy that is gone delays one call, and none of the next owner's.
    began += 20_000;
    next.hear("before_message_write", &told(began), began + 500);
    next.run_until(began + 500, began + 9_000);
    drop(next);
    machine.kill(300);
    let mut last = joined(&machine.start(400));
    began += 20_000;
    last.hear("before_message_write", &told(began), began + 500);
    last.run_until(began + 500, began + 600);
    assert_eq!(last.engine.status().open, 0);
}

#[test]
fn an_owner_that_hung_writes_and_sends_nothing_and_spools_for_the_next() {
    let machine = machine();
    let (one, two) = (machine.start(100), machine.start(200));
    let mut first = joined(&one);
    hear(&mut first, 0..3);
    let mut second = joined(&two);
    let tries = (0..15).find(|_| {
        let is_taken = second.engine.take_over(false, at(START_MS + 1_000));
        machine.pass(1_000);
        is_taken
    });
    assert_eq!(tries, Some(10));
    let mut next = joined(&two);
    assert_eq!(next.engine.standing(), "owner");
    // It wakes up: what it hears now is not written into the journal of the other.
    hear(&mut first, 3..5);
    assert!(!first.engine.is_held() && !first.engine.is_held_for_certain());
    first.send(START_MS + 20_000, true);
    assert_eq!(ids(&[&first]), Vec::<String>::new());
    first.engine.lose();
    first.write();
    assert!(first.engine.is_kept() && first.engine.is_held());
    assert_eq!(first.engine.standing(), "spool");
    next.engine.take_spools(at(START_MS + 21_000));
    next.run_until(START_MS + 21_000, START_MS + 90_000);
    assert_eq!(ids(&[&first, &next]), each_once(5));
    // The next engine of the first process spools too.
    assert_eq!(joined(&one).engine.standing(), "spool");
}

#[test]
fn the_next_engine_of_a_spooling_process_continues_its_last_file() {
    let machine = machine();
    let mut owner = joined(&machine.start(100));
    let two = machine.start(200);
    let (prefix, suffix) = spool_names(&*two);
    fs::create_dir_all(machine.at("spool")).unwrap();
    for number in [2, 10] {
        fs::write(machine.at(&format!("spool/{prefix}{number}{suffix}")), "").unwrap();
    }
    let mut other = joined(&two);
    hear(&mut other, 0..3);
    let last = machine.at(&format!("spool/{prefix}10{suffix}"));
    assert!(fs::metadata(last).unwrap().len() > 0);
    assert!(!machine.at(&format!("spool/{prefix}0{suffix}")).exists());
    owner.engine.take_spools(at(START_MS + 2_000));
    owner.run_until(START_MS + 2_000, START_MS + 70_000);
    assert_eq!(ids(&[&owner]), each_once(3));
}

/// A full disk from any call on: the owner sends from memory, and the folder stays its own.
#[test]
fn an_owner_whose_disk_fails_at_any_call_counts_each_call_once() {
    for calls in 0..30 {
        let machine = machine();
        let (one, two) = (machine.start(100), machine.start(200));
        let mut owner = joined(&one);
        let mut other = joined(&two);
        hear(&mut owner, 0..3);
        one.fail_after(calls, 20);
        hear(&mut owner, 3..6);
        owner.run_until(START_MS + 1_000, START_MS + 20_000);
        assert!(
            !other.engine.take_over(false, at(START_MS + 20_000)),
            "after {calls}"
        );
        one.be_well();
        owner.engine.heartbeat();
        owner.run_until(START_MS + 20_000, START_MS + 90_000);
        assert!(owner.engine.is_held_for_certain(), "after {calls}");
        assert_eq!(ids(&[&owner]), each_once(6), "after {calls}");
        // Nothing is left for the next owner.
        owner.engine.release().unwrap();
        assert!(other.engine.take_over(false, at(START_MS + 90_000)));
        let mut next = joined(&two);
        next.run_until(START_MS + 90_000, START_MS + 160_000);
        assert_eq!(ids(&[&owner, &next]), each_once(6), "after {calls}");
    }
}

/// The folder cannot be written when the process starts: no other process can own it either.
#[test]
fn an_owner_without_a_lease_takes_it_when_the_disk_works() {
    let machine = machine();
    let (one, two) = (machine.start(100), machine.start(200));
    one.fail_after(0, u32::MAX);
    let mut owner = joined(&one);
    assert_eq!(owner.engine.standing(), "owner");
    hear(&mut owner, 0..3);
    owner.run_until(START_MS + 1_000, START_MS + 3_000);
    assert!(!machine.at("owner.json").exists());
    one.be_well();
    owner.run_until(START_MS + 3_000, START_MS + 90_000);
    owner.write();
    assert_eq!(joined(&two).engine.standing(), "spool");
    assert_eq!(ids(&[&owner]), each_once(3));
}

/// The folder can be written again, and another process takes it first.
#[test]
fn an_owner_without_a_lease_spools_for_the_process_that_took_it() {
    let machine = machine();
    let (one, two) = (machine.start(100), machine.start(200));
    one.fail_after(0, u32::MAX);
    let mut first = joined(&one);
    hear(&mut first, 0..3);
    first.run_until(START_MS + 1_000, START_MS + 3_000);
    let mut owner = joined(&two);
    assert_eq!(owner.engine.standing(), "owner");
    one.be_well();
    first.run_until(START_MS + 3_000, START_MS + 90_000);
    first.write();
    assert!(!first.engine.is_held(), "it is no second owner");
    first.engine.lose();
    hear(&mut first, 3..5);
    owner.engine.take_spools(at(START_MS + 91_000));
    owner.run_until(START_MS + 91_000, START_MS + 200_000);
    assert_eq!(ids(&[&first, &owner]), each_once(5));
}
