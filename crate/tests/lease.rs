//! The lease of a state directory, on the real disk: of several processes at most one owns it, and the ownership of one that
//! ended passes on. Hosts fail or stall at any call.

use std::fs;
use std::os::unix::fs::symlink;
use std::time::{Duration, SystemTime};

use crate::common::shared::{Machine, Member, machine, owner, taken_after};
use agentwatch_openclaw::lease::owner as file;
use agentwatch_openclaw::lease::watch::{Look, Watch};
use agentwatch_openclaw::lease::{CLAIM, FILE, GUARD, Lease, STALE_MS};

const HEARTBEAT_MS: u64 = 2_000;

fn dated(machine: &Machine, path: &str, ahead: Duration) {
    let file = fs::File::open(machine.at(path)).unwrap();
    file.set_modified(SystemTime::now() + ahead).unwrap();
}

#[test]
fn the_file_has_the_format_of_earlier_versions() {
    let machine = machine();
    let owner = owner(&machine);
    let text = fs::read_to_string(machine.at(FILE)).unwrap();
    let line = r#"{"pid":100,"host":"here","started":1795000000000,"token":"token-100-5000","role":"gateway"}"#;
    assert_eq!(text, format!("{line}\n"));
    drop(owner);
}

#[test]
fn one_of_two_processes_owns_the_folder_until_it_releases_it() {
    let machine = machine();
    let mut first = owner(&machine);
    let mut second = Member::new(machine.start(200));
    for _ in 0..60 {
        assert!(!second.take() && first.is_held());
        first.beat();
        machine.pass(1_000);
    }
    first.lease.release(&*first.host).unwrap();
    assert!(!machine.at(FILE).exists());
    assert!(second.take());
    first.lease.release(&*first.host).unwrap();
    assert!(machine.at(FILE).exists(), "it was released once");
}

/// The other process runs at any call of the first one.
#[test]
fn of_two_processes_that_race_at_any_call_one_owns_the_folder() {
    for stale in [false, true] {
        for stalled in 0..16 {
            let machine = machine();
            if stale {
                drop(owner(&machine));
                machine.kill(100);
            }
            let mut first = Member::new(machine.start(200));
            let mut second = Member::new(machine.start(300));
            let (host, other) = (second.host.clone(), machine.clone());
            first.host.stall_after(stalled, move || {
                let mut lease = Lease::new(&*host, "gateway");
                // It takes a stale guard for an old one only after it saw it for long.
                let _ = lease.take(&*host, false).unwrap();
                other.pass(50);
            });
            let is_first = first.take();
            let is_second = second.take();
            assert!(!(is_first && is_second), "stalled at {stalled}");
            let known = file::read(&*first.host, FILE).owner;
            let by = known.map(|owner| owner.pid);
            match (is_first, is_second) {
                (true, false) => assert_eq!(by, Some(200), "stalled at {stalled}"),
                (false, true) => assert_eq!(by, Some(300), "stalled at {stalled}"),
                _ => {
                    // Neither wins where they meet in the guard: the next try does.
                    assert!(first.take() || second.take(), "stalled at {stalled}");
                }
            }
        }
    }
}

/// A proxy that started first, or while the gateway was away.
#[test]
fn a_gateway_gets_the_lease_of_a_proxy() {
    for role in ["proxy", "litellm"] {
        let machine = machine();
        let mut proxy = Member::in_role(machine.start(100), role);
        assert!(proxy.take() && !proxy.lease.is_claimed(&*proxy.host));
        let mut gateway = Member::new(machine.start(200));
        for _ in 0..20 {
            // The proxy waits for the answer to a request, for instance.
            assert!(!gateway.look());
            assert!(proxy.is_held() && proxy.lease.is_claimed(&*proxy.host));
            proxy.beat();
            machine.pass(1_000);
        }
        proxy.lease.hand_over(&*proxy.host).unwrap();
        assert!(!proxy.is_held());
        // Its next engine.
        proxy = Member::in_role(proxy.host.clone(), role);
        let mut other = Member::in_role(machine.start(300), "proxy");
        let mut command = Member::in_role(machine.start(400), "sync");
        assert!(
            !proxy.take() && !other.take() && !command.take(),
            "a gateway claims it"
        );
        assert!(gateway.look() && gateway.is_held());
        assert!(!machine.at(CLAIM).exists());
        assert!(!other.take() && gateway.is_held());
        gateway.lease.release(&*gateway.host).unwrap();
        assert!(other.take(), "no gateway claims it any more");
    }
}

#[test]
fn a_command_that_ends_by_itself_keeps_the_lease_until_then() {
    for role in ["sync", "ingest", "gateway"] {
        let machine = machine();
        let mut first = Member::in_role(machine.start(100), role);
        assert!(first.take());
        let mut gateway = Member::new(machine.start(200));
        assert!(!gateway.look() && !machine.at(CLAIM).exists());
        assert!(!first.lease.is_claimed(&*first.host));
        first.lease.release(&*first.host).unwrap();
        assert!(gateway.look());
    }
}

#[test]
fn a_gateway_that_ended_claims_nothing() {
    let machine = machine();
    let mut proxy = Member::in_role(machine.start(100), "proxy");
    assert!(proxy.take());
    for (place, seconds) in [("here", 0), ("there", 10)] {
        let mut gateway = Member::new(machine.start_on(200, place));
        assert!(!gateway.look() && proxy.lease.is_claimed(&*proxy.host));
        machine.kill(200);
        proxy.lease.release(&*proxy.host).unwrap();
        // Each engine has a lease of its own.
        let taken = (0..20).find(|_| {
            proxy = Member::in_role(proxy.host.clone(), "proxy");
            let is_taken = proxy.take();
            machine.pass(1_000);
            is_taken
        });
        assert_eq!(taken, Some(seconds), "{place}");
        assert!(!proxy.lease.is_claimed(&*proxy.host));
        assert!(Member::in_role(proxy.host.clone(), "proxy").take());
    }
}

#[test]
fn of_two_gateways_that_claim_one_gets_the_lease() {
    let machine = machine();
    let mut proxy = Member::in_role(machine.start(300), "proxy");
    let mut first = Member::new(machine.start(100));
    let mut second = Member::new(machine.start(200));
    assert!(proxy.take() && !first.look() && !second.look());
    proxy.lease.hand_over(&*proxy.host).unwrap();
    // The last claim is the second one's.
    assert!(!first.look() && second.look() && !first.look());
    assert!(!machine.at(CLAIM).exists());
}

#[test]
fn a_claim_under_a_clock_that_was_set_holds_from_the_next_look_on() {
    let machine = machine();
    let mut proxy = Member::in_role(machine.start(100), "proxy");
    let mut gateway = Member::new(machine.start(200));
    assert!(proxy.take() && !gateway.look());
    machine.wall_ms.set(machine.wall_ms.get() - 3_600_000);
    assert!(!proxy.lease.is_claimed(&*proxy.host));
    assert!(!gateway.look() && proxy.lease.is_claimed(&*proxy.host));
}

/// A disk that fails at any call of either.
#[test]
fn a_hand_over_that_fails_at_any_call_leaves_one_owner() {
    for calls in 0..12 {
        for gateway_fails in [false, true] {
            let machine = machine();
            let mut proxy = Member::in_role(machine.start(100), "proxy");
            assert!(proxy.take());
            let mut gateway = Member::new(machine.start(200));
            let failing = match gateway_fails {
                true => gateway.host.clone(),
                false => proxy.host.clone(),
            };
            failing.fail_after(calls, 3);
            let mut is_handed = false;
            for _ in 0..30 {
                let is_gateways = gateway.lease.take(&*gateway.host, false) == Ok(true);
                assert!(!is_gateways || is_handed, "call {calls}");
                if is_gateways {
                    break;
                }
                // The next look claims again.
                let _ = gateway.lease.claim(&*gateway.host);
                if !is_handed && proxy.lease.is_claimed(&*proxy.host) {
                    is_handed = proxy.lease.hand_over(&*proxy.host).is_ok();
                }
                proxy.beat();
                machine.pass(1_000);
            }
            let by = file::read(&*gateway.host, FILE).owner.unwrap();
            assert_eq!(by.pid, 200, "call {calls}");
            assert!(!proxy.is_held());
        }
    }
}

#[test]
fn the_lease_of_an_ended_process_is_taken_at_once() {
    let machine = machine();
    drop(owner(&machine));
    machine.kill(100);
    let mut next = Member::new(machine.start(200));
    assert!(next.take() && next.is_held());
    assert!(!machine.at(GUARD).exists());
}

#[test]
fn a_process_that_hangs_or_another_with_its_id_loses_the_lease_after_ten_seconds() {
    let machine = machine();
    let mut first = owner(&machine);
    let mut next = Member::new(machine.start(200));
    assert_eq!(taken_after(&machine, &mut next, 20), Some(10));
    assert!(!first.is_held(), "the late heartbeat reads the file");
    first.beat();
    let named = file::read(&*next.host, FILE).owner.unwrap();
    assert_eq!(named.pid, 200, "it does not write into another's lease");
    assert!(!first.lease.is_held_for_certain(&*first.host));
    first.lease.release(&*first.host).unwrap();
    assert!(next.lease.is_held_for_certain(&*next.host));
}

#[test]
fn a_process_id_that_this_process_has_now_is_no_living_owner() {
    let machine = machine();
    drop(owner(&machine));
    // The machine started again, and gives the same id.
    machine.pass(3_600_000);
    let mut next = Member::new(machine.start(100));
    assert!(next.take());
}

#[test]
fn a_process_of_another_machine_keeps_the_lease_by_its_heartbeat_alone() {
    let machine = machine();
    let mut there = Member::new(machine.start_on(100, "there"));
    assert!(there.take());
    let mut here = Member::new(machine.start(200));
    for _ in 0..30 {
        assert!(!here.take());
        there.beat();
        machine.pass(HEARTBEAT_MS);
    }
    assert_eq!(taken_after(&machine, &mut here, 20), Some(10));
}

#[test]
fn a_wall_clock_that_is_set_changes_no_ownership() {
    for jump in [-86_400_000_i64, -11_000, 11_000, 86_400_000] {
        let machine = machine();
        let mut first = owner(&machine);
        let mut second = Member::new(machine.start(200));
        for second_of_test in 0..40 {
            if second_of_test == 10 {
                let wall = machine.wall_ms.get().saturating_add_signed(jump);
                machine.wall_ms.set(wall);
            }
            if second_of_test % 2 == 0 {
                first.beat();
            }
            assert!(!second.take() && first.is_held(), "{jump}");
            machine.pass(1_000);
        }
        assert!(taken_after(&machine, &mut second, 20).is_some());
    }
}

#[test]
fn a_file_dated_in_the_future_is_stale_after_ten_seconds() {
    let machine = machine();
    drop(owner(&machine));
    dated(&machine, FILE, Duration::from_secs(400 * 86_400));
    let mut next = Member::new(machine.start(200));
    assert_eq!(taken_after(&machine, &mut next, 20), Some(10));
}

#[test]
fn a_guard_that_was_left_behind_stops_no_take_over() {
    type Put = fn(&Machine);
    let puts: [(&str, Put); 5] = [
        ("a folder", |machine| {
            fs::create_dir(machine.at(GUARD)).unwrap();
        }),
        ("a folder of the future", |machine| {
            fs::create_dir(machine.at(GUARD)).unwrap();
            dated(machine, GUARD, Duration::from_secs(365 * 86_400));
        }),
        ("a folder with something in it", |machine| {
            fs::create_dir_all(machine.at(GUARD).join("x")).unwrap();
        }),
        ("a file", |machine| {
            fs::write(machine.at(GUARD), "").unwrap();
        }),
        ("a symbolic link", |machine| {
            symlink("/nowhere", machine.at(GUARD)).unwrap();
        }),
    ];
    for (what, put) in puts {
        let machine = machine();
        drop(owner(&machine));
        machine.kill(100);
        put(&machine);
        let mut next = Member::new(machine.start(200));
        // Its age is known after ten seconds; the next try finds the way free.
        assert_eq!(taken_after(&machine, &mut next, 30), Some(12), "{what}");
        assert!(!machine.at(GUARD).exists(), "{what}");
    }
}

/// The disk fails at any call of the owner, for once or from then on.
#[test]
fn a_disk_that_fails_at_any_call_takes_the_lease_from_no_owner() {
    for most in [1, 3, u32::MAX] {
        for calls in 0..24 {
            let machine = machine();
            let mut first = owner(&machine);
            let mut second = Member::new(machine.start(200));
            first.host.fail_after(calls, most);
            for _ in 0..4 {
                first.beat();
                machine.pass(HEARTBEAT_MS);
                assert!(!second.take(), "at {calls}");
                assert!(first.is_held(), "at {calls}");
            }
            first.host.be_well();
            for _ in 0..10 {
                first.beat();
                machine.pass(HEARTBEAT_MS);
                assert!(!second.take() && first.is_held(), "at {calls}");
            }
        }
    }
}

/// Nobody can write the folder for longer than a heartbeat is valid.
#[test]
fn a_folder_that_is_read_only_for_a_while_keeps_its_owner() {
    let machine = machine();
    let mut first = owner(&machine);
    let mut second = Member::new(machine.start(200));
    first.host.fail_after(0, u32::MAX);
    for _ in 0..30 {
        first.beat();
        machine.pass(1_000);
        // It can read, and fails at its first change.
        second.host.fail_after(5, u32::MAX);
        assert!(!second.take());
    }
    first.host.be_well();
    second.host.be_well();
    // The other process looks first.
    assert!(!second.take());
    machine.pass(HEARTBEAT_MS);
    first.beat();
    assert!(!second.take() && first.is_held());
}

/// The disk fails at any call of the process that takes the lease.
#[test]
fn a_take_over_that_fails_at_any_call_leaves_a_lease_that_is_taken_later() {
    for most in [1, 2, u32::MAX] {
        for calls in 0..24 {
            let machine = machine();
            drop(owner(&machine));
            machine.kill(100);
            let mut next = Member::new(machine.start(200));
            next.host.fail_after(calls, most);
            let tried = next.lease.take(&*next.host, false);
            if tried == Ok(true) {
                let named = file::read(&*machine.start(300), FILE).owner.unwrap();
                assert_eq!(named.pid, 200, "at {calls}");
            }
            next.host.be_well();
            assert!(taken_after(&machine, &mut next, 30).is_some(), "at {calls}");
            let mut third = Member::new(machine.start(300));
            assert!(!third.take(), "at {calls}");
        }
    }
}

#[test]
fn an_owner_that_was_stopped_for_long_leaves_a_file_alone_that_it_cannot_read() {
    let machine = machine();
    let mut first = owner(&machine);
    machine.pass(STALE_MS);
    let mut next = Member::new(machine.start(200));
    assert_eq!(taken_after(&machine, &mut next, 20), Some(10));
    // The file can be looked at, and cannot be read.
    first.host.fail_after(1, 1);
    first.beat();
    first.host.be_well();
    assert!(!first.is_held());
    assert!(next.lease.is_held_for_certain(&*next.host));
}

/// While the owner stalls at any call, another process takes over.
#[test]
fn an_owner_that_stalls_at_any_call_learns_that_it_lost_the_lease() {
    for stalled in 0..6 {
        let machine = machine();
        let mut first = owner(&machine);
        let clock = machine.clone();
        let host = machine.start(200);
        let other = host.clone();
        first.host.stall_after(stalled, move || {
            let mut next = Lease::new(&*other, "gateway");
            assert!((0..12).any(|_| {
                let is_taken = next.take(&*other, false).unwrap();
                clock.pass(1_000);
                is_taken
            }));
        });
        for _ in 0..3 {
            first.beat();
            machine.pass(HEARTBEAT_MS);
        }
        let named = file::read(&*host, FILE).owner.unwrap();
        assert_eq!(named.pid, 200, "stalled at {stalled}");
        assert!(!first.is_held(), "stalled at {stalled}");
    }
}

#[test]
fn a_folder_that_cannot_be_written_has_no_other_owner() {
    let machine = machine();
    let host = machine.start(100);
    let mut lease = Lease::new(&*host, "gateway");
    host.fail_after(0, u32::MAX);
    assert!(lease.take(&*host, false).is_err());
    assert!(lease.owns(&*host).is_err() && lease.is_held(&*host));
    assert!(lease.is_held_for_certain(&*host));
    host.be_well();
    assert_eq!(lease.owns(&*host), Ok(true));
    let mut other = Member::new(machine.start(200));
    assert!(!other.take());
    assert_eq!(other.lease.owns(&*other.host), Ok(false));
    assert!(!other.is_held());
}

#[test]
fn a_watch_names_the_living_owner_and_takes_nothing() {
    let machine = machine();
    let host = machine.start(300);
    let mut watch = Watch::default();
    assert_eq!(watch.look(&*host), Look::Nobody);
    let mut first = owner(&machine);
    first.beat();
    let looked = Watch::default().look(&*host);
    assert!(matches!(looked, Look::Owned(owner) if owner.pid == 100));
    // Not recent, and it beats again while the watch looks.
    machine.wall_ms.set(machine.wall_ms.get() + 86_400_000);
    let mut watch = Watch::default();
    assert_eq!(watch.look(&*host), Look::Later);
    machine.pass(1_000);
    first.beat();
    assert!(matches!(watch.look(&*host), Look::Owned(owner) if owner.pid == 100));
    // Not recent, and nobody beats.
    machine.wall_ms.set(machine.wall_ms.get() + 86_400_000);
    let mut watch = Watch::default();
    for _ in 0..STALE_MS / 1_000 {
        assert_eq!(watch.look(&*host), Look::Later);
        machine.pass(1_000);
    }
    assert_eq!(watch.look(&*host), Look::Nobody);
    machine.kill(100);
    assert_eq!(Watch::default().look(&*host), Look::Nobody);
    assert!(machine.at(FILE).exists());
}
