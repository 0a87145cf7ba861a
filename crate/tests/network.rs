//! The whole core against a network and a disk that fail in every way, while it is killed at any moment: months of
//! virtual time, a seed each. `SEEDS=1000` plays more of them, `FIRST=…` begins with a later one.
#![cfg(not(target_arch = "wasm32"))]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use std::collections::HashSet;

use agentwatch_openclaw::answer::Reply;
use agentwatch_openclaw::call::IdMint;
use agentwatch_openclaw::core::Core;
use agentwatch_openclaw::files::{Op, Write};
use agentwatch_openclaw::keeper::Writes;
use agentwatch_openclaw::observe::SOURCES;
use agentwatch_openclaw::outbox::Request;
use agentwatch_openclaw::time::Now;
use common::server::{Dice, Fate, Kind, Server};
use common::{Disk, pick, settings};
use serde_json::{Value, json};

const START_MS: u64 = 1_795_000_000_000;
/// What the shim does: how long changes are gathered, how long a disk that failed is left alone, how long a request may
/// take.
const GATHER_MS: u64 = 250;
const DISK_PAUSE_MS: u64 = 5_000;
const TIMEOUT_MS: u64 = 10_000;
/// A pause between two tries, and what comes on top of it.
const LONGEST_PAUSE_MS: u64 = 300_100;

/// What the network does for a while.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Weather {
    Well,
    /// The same to every request: nobody is there, or nobody who takes anything.
    Dead(Fate),
    /// Something else to each.
    Rough,
}

/// A request on its way, and what will come back when.
struct Flight {
    is_of_records: bool,
    reply: Reply,
    until_ms: u64,
}

/// A failed try, and how long the core is to leave the receiver alone at least.
#[derive(Clone, Copy)]
struct Failure {
    at_ms: u64,
    asked_ms: u64,
}

struct World {
    seed: u64,
    dice: Dice,
    core: Core,
    /// The clock that never goes back, from the beginning of all.
    now_ms: u64,
    /// When the process at hand began.
    born_ms: u64,
    /// How far the wall clock is ahead, in ms.
    ahead_ms: u64,
    server: Server,
    weather: Weather,
    flight: Option<Flight>,
    /// The last failures of calls, and of other records, which have pauses of their own.
    failures: [Option<Failure>; 2],
    requests: u64,
    /// What is on disk, what is on its way there, and since when.
    disk: Disk,
    pending: Vec<Write>,
    upto: u64,
    flush_at: Option<u64>,
    disk_fails: bool,
    /// Files that were to be deleted when the disk failed: it is done once it is well.
    owed: Vec<Write>,
    /// When a disk that failed is tried again.
    try_at: Option<u64>,
    /// How many calls happened; their prompts are their numbers.
    calls: u64,
    /// Calls that were on their way to the disk, those that are there, and those that a dead process took along.
    unsafe_calls: Vec<u64>,
    lost: HashSet<u64>,
    /// Counted by processes that are dead.
    ambiguous: u64,
    dropped: u64,
}

impl World {
    fn new(seed: u64, kind: Kind) -> Self {
        let mut world = Self {
            seed,
            dice: Dice(IdMint::new(seed)),
            core: core(seed),
            now_ms: 1,
            born_ms: 0,
            ahead_ms: 0,
            server: Server::new(kind),
            weather: Weather::Well,
            flight: None,
            failures: [None; 2],
            requests: 0,
            disk: Disk::default(),
            pending: Vec::new(),
            upto: 0,
            flush_at: None,
            disk_fails: false,
            owed: Vec::new(),
            try_at: None,
            calls: 0,
            unsafe_calls: Vec::new(),
            lost: HashSet::new(),
            ambiguous: 0,
            dropped: 0,
        };
        if world.dice.below(4) == 0 {
            world.server.largest = 1 + world.dice.below(20) as usize;
        }
        world
    }

    fn now(&self) -> Now {
        Now {
            wall_ms: START_MS + self.ahead_ms + self.now_ms,
            mono_ms: self.now_ms - self.born_ms,
        }
    }

    // -----------------------------------------------------------------------------------------
    // What happens

    /// Some calls happen, each with a number of its own.
    fn hear(&mut self, count: u64) {
        for _ in 0..count {
            self.calls += 1;
            let number = self.calls;
            let Now { wall_ms, .. } = self.now();
            let model = ["m", "n"][self.dice.below(2) as usize];
            let agent = ["main", "ops"][self.dice.below(2) as usize];
            let args = json!({
                "event": {"message": {"role": "assistant", "provider": "p", "model": model, "stopReason": "stop",
                    "timestamp": wall_ms - 40, "usage": {"input": number, "output": 1, "cost": {"total": 0.001}}}},
                "ctx": {"sessionKey": format!("agent:{agent}:s"), "agentId": agent},
            });
            for (index, table) in SOURCES.iter().enumerate() {
                if table.source == "before_message_write"
                    && let Some(facts) = pick(index, &args)
                {
                    self.core.observe(index, facts, self.now());
                }
            }
            self.unsafe_calls.push(number);
        }
        self.collect();
    }

    /// The process is killed, and another one goes on.
    fn kill(&mut self) {
        let status = self.status();
        self.ambiguous += status["ambiguous"].as_u64().unwrap();
        self.dropped += dropped(&status);
        self.lost.extend(self.unsafe_calls.drain(..));
        self.pending.clear();
        self.owed.clear();
        self.flight = None;
        self.failures = [None; 2];
        (self.flush_at, self.try_at) = (None, None);
        self.born_ms = self.now_ms;
        self.now_ms += 1 + self.dice.below(60_000);
        self.core = core(self.dice.0.bits());
        for (file, bytes) in &self.disk.0 {
            self.core.recover(file, bytes);
        }
        self.core.recovered(self.now());
        self.collect();
    }

    fn change_weather(&mut self) {
        let refused = |code| Weather::Dead(Fate::Refused(code));
        let all = [
            Weather::Well,
            Weather::Rough,
            Weather::Rough,
            Weather::Dead(Fate::Unreachable),
            Weather::Dead(Fate::AnswerLost),
            Weather::Dead(Fate::Garbled),
            refused(401),
            refused(429),
            refused(500),
            refused(503),
        ];
        self.weather = all[self.dice.below(all.len() as u64) as usize];
    }

    // -----------------------------------------------------------------------------------------
    // The shim's part

    /// Takes the core's changes; they are written a moment later.
    fn collect(&mut self) {
        let Writes { upto, list } = self.core.take_writes();
        self.upto = upto;
        if !list.is_empty() {
            self.pending.extend(list);
            self.flush_at.get_or_insert(self.now_ms + GATHER_MS);
        }
    }

    fn flush(&mut self) {
        self.flush_at = None;
        let mut list = std::mem::take(&mut self.pending);
        if self.disk_fails {
            // It takes some of it, the last of that in part.
            let whole = self.dice.below(list.len() as u64 + 1) as usize;
            let torn = list.get(whole).cloned();
            let is_deletion = |write: &&Write| write.op == Op::Delete;
            let owed = list[whole..].iter().filter(is_deletion);
            self.owed.extend(owed.cloned());
            list.truncate(whole);
            if let Some(Write {
                file,
                op: Op::Append(bytes),
            }) = torn
            {
                let cut = self.dice.below(bytes.len() as u64 + 1) as usize;
                list.push(Write {
                    file,
                    op: Op::Append(bytes[..cut].to_vec()),
                });
            }
            self.disk.apply(Writes { upto: 0, list });
            self.core.disk_failed("no space left", self.now());
            self.try_at = Some(self.now_ms + DISK_PAUSE_MS);
            return;
        }
        list.append(&mut self.owed);
        self.disk.apply(Writes { upto: 0, list });
        self.core.written(self.upto);
        self.core.disk_mended(self.now());
        self.try_at = None;
        // Whatever the core knew when this was collected is on disk.
        self.unsafe_calls.clear();
    }

    fn try_disk(&mut self) {
        self.core.try_disk();
        self.collect();
        self.flush_at = Some(self.now_ms);
        self.try_at = None;
    }

    /// How a request fares; its reply comes later.
    fn send(&mut self, request: &Request) -> Flight {
        self.requests += 1;
        let fate = match self.weather {
            Weather::Well => Fate::Good,
            Weather::Dead(fate) => fate,
            Weather::Rough => match self.dice.below(12) {
                0 => Fate::Unreachable,
                1 => Fate::AnswerLost,
                2 => Fate::Garbled,
                3 => Fate::Torn(self.dice.below(60)),
                4 => Fate::Refused(429),
                5 => Fate::Refused(401),
                6 => Fate::Refused(500),
                7 => Fate::Refused(502),
                _ => Fate::Good,
            },
        };
        let took = 1 + self.dice.below(200);
        let mut answered = |inserts| self.server.answer(request, inserts);
        let (reply, took) = match fate {
            Fate::Unreachable => (lost("fetch failed"), took),
            // The receiver hangs, with the batch or without.
            Fate::AnswerLost => {
                answered(u64::MAX);
                (lost("timed out"), TIMEOUT_MS)
            }
            Fate::Refused(code) => {
                let retry_after_ms = (code == 429).then_some(20_000);
                (
                    Reply {
                        retry_after_ms,
                        ..Reply::of(code, "{}")
                    },
                    took,
                )
            }
            Fate::Garbled => (Reply::of(answered(u64::MAX).0, "<html>"), took),
            Fate::Torn(inserts) => {
                let (code, body) = answered(inserts);
                (Reply::of(code, &body), took)
            }
            Fate::Good => {
                let (code, body) = answered(u64::MAX);
                (Reply::of(code, &body), took)
            }
        };
        Flight {
            is_of_records: is_of_records(request),
            reply,
            until_ms: self.now_ms + took,
        }
    }

    fn begin(&mut self) {
        if self.flight.is_some() {
            return;
        }
        let Some(request) = self.core.begin(self.now(), false) else {
            return;
        };
        if let Some(Failure { at_ms, asked_ms }) =
            self.failures[usize::from(is_of_records(&request))].take()
        {
            let pause = self.now_ms - at_ms;
            assert!(
                pause >= asked_ms,
                "seed {}: {pause} ms instead of {asked_ms}",
                self.seed
            );
        }
        self.flight = Some(self.send(&request));
    }

    fn answer(&mut self) {
        if self
            .flight
            .as_ref()
            .is_none_or(|flight| flight.until_ms > self.now_ms)
        {
            return;
        }
        let Some(Flight {
            is_of_records,
            reply,
            ..
        }) = self.flight.take()
        else {
            return;
        };
        let asked_ms = match reply.status {
            // A batch that is too large, or that is looked up, goes on at once.
            401 if !is_of_records => 15_000,
            0 | 401 | 502..=504 => 100,
            429 => 20_000,
            _ => 0,
        };
        self.failures[usize::from(is_of_records)] = (asked_ms > 0).then_some(Failure {
            at_ms: self.now_ms,
            asked_ms,
        });
        if let Some(request) = self.core.answered(&reply, self.now()) {
            self.flight = Some(self.send(&request));
        }
        self.collect();
    }

    /// Lets so much time pass, doing what is due when it is due.
    fn pass(&mut self, ms: u64) {
        let end = self.now_ms + ms;
        for turns in 0.. {
            assert!(turns < 100_000, "seed {}: it never rests", self.seed);
            let is_due = |at: Option<u64>| at.is_some_and(|at| at <= self.now_ms);
            if is_due(self.try_at) {
                self.try_disk();
            }
            if self.flush_at.is_some_and(|at| at <= self.now_ms) {
                self.flush();
            }
            self.answer();
            if let Some(file) = self.core.to_load() {
                let bytes = self.disk.0.get(&file).cloned().unwrap_or_default();
                self.core.load(&file, &bytes, self.now());
            }
            self.begin();
            let advice = self.core.advance(self.now());
            self.collect();
            let wake = advice.wake_in_ms.map(|ms| self.now_ms + ms);
            let answer = self.flight.as_ref().map(|flight| flight.until_ms);
            // What is due waits for the answer.
            let wake = wake.filter(|_| answer.is_none());
            let next = [wake, answer, self.flush_at, self.try_at];
            match next.into_iter().flatten().min() {
                Some(next) if next <= end => self.now_ms = next.max(self.now_ms + 1),
                _ => break,
            }
        }
        self.now_ms = self.now_ms.max(end);
    }

    // -----------------------------------------------------------------------------------------
    // What is so

    fn status(&self) -> Value {
        serde_json::to_value(self.core.status()).unwrap()
    }

    /// A receiver that takes nothing is asked seldom.
    fn be_dead(&mut self) {
        let Weather::Dead(_) = self.weather else {
            return;
        };
        let before = self.requests;
        let hours = 1 + self.dice.below(6);
        self.pass(hours * 3_600_000);
        // A refused token is tried every 15 s, anything else after two and a half minutes on average.
        let most = match self.weather {
            Weather::Dead(Fate::Refused(401)) => 241 * hours,
            _ => 60 + 60 * hours,
        };
        let made = self.requests - before;
        assert!(
            made <= most,
            "seed {}: {made} requests in {hours} h of {:?}",
            self.seed,
            self.weather
        );
    }

    /// Nobody is there, the disk fails and is well again, and the process dies: what happened meanwhile is on disk.
    fn outage(&mut self) {
        self.weather = Weather::Dead(Fate::Unreachable);
        for disk_fails in [true, false] {
            self.disk_fails = disk_fails;
            let count = 1 + self.dice.below(8);
            self.hear(count);
            let ms = self.dice.below(20_000);
            self.pass(ms);
        }
        self.pass(DISK_PAUSE_MS + GATHER_MS);
        self.kill();
    }

    fn play(&mut self) {
        for _ in 0..4 + self.dice.below(12) {
            match self.dice.below(10) {
                0..=3 => {
                    let count = 1 + self.dice.below(8);
                    self.hear(count);
                }
                4 => self.change_weather(),
                5 => self.be_dead(),
                6 => self.disk_fails = !self.disk_fails && self.dice.below(2) == 0,
                7 => self.ahead_ms = self.dice.below(8) * 3_600_000,
                8 => self.outage(),
                _ => self.kill(),
            }
            let longest = [1, 300, 3_000, 60_000, 900_000][self.dice.below(5) as usize];
            let ms = self.dice.below(longest);
            self.pass(ms);
        }
        self.be_well();
    }

    /// Everything is well again, and nothing waits for long.
    fn be_well(&mut self) {
        (self.weather, self.disk_fails) = (Weather::Well, false);
        self.server.largest = usize::MAX;
        // The pause that was begun, the halves of what was too large, and turns that are over at last.
        self.pass(LONGEST_PAUSE_MS + 600_000);
        let status = self.status();
        let waiting = [
            &status["waiting"],
            &status["open"],
            &status["records_waiting"],
        ];
        assert_eq!(waiting, [0, 0, 0], "seed {}: {status}", self.seed);
        self.ambiguous += status["ambiguous"].as_u64().unwrap();
        self.dropped += dropped(&status);
        // What is delivered has left the disk, and nothing of it comes again.
        let (usage, requests) = (self.server.usage.len(), self.requests);
        self.core.compact();
        self.collect();
        self.pass(1_000);
        let kept = self
            .disk
            .0
            .iter()
            .filter(|(name, _)| !name.starts_with("ledger-"));
        let kept: usize = kept.map(|(_, bytes)| bytes.len()).sum();
        let files: Vec<(&String, usize)> = self
            .disk
            .0
            .iter()
            .map(|(name, bytes)| (name, bytes.len()))
            .collect();
        assert!(kept < 300_000, "seed {}: {kept} bytes {files:?}", self.seed);
        self.kill();
        self.pass(600_000);
        assert_eq!(
            (self.server.usage.len(), self.requests),
            (usage, requests),
            "seed {}",
            self.seed
        );
    }

    /// The calls that have to be there: all but those that a dead process took along, which may be.
    fn assert_arrived(&self) {
        let seed = self.seed;
        let prompts = &self.server.prompts;
        let arrived: HashSet<u64> = prompts.iter().copied().collect();
        assert_eq!(
            arrived.len(),
            prompts.len(),
            "seed {seed}: a call came twice"
        );
        let must: Vec<u64> = (1..=self.calls)
            .filter(|n| !self.lost.contains(n))
            .collect();
        let missing: Vec<u64> = must
            .iter()
            .copied()
            .filter(|n| !arrived.contains(n))
            .collect();
        match self.server.kind {
            Kind::Ids => assert!(missing.is_empty(), "seed {seed}: {missing:?} are missing"),
            // A cost without its usage is there for each.
            Kind::Stock => assert!(
                missing.len() as u64 <= self.ambiguous && missing.len() <= self.server.torn.len(),
                "seed {seed}: {missing:?} are missing, {} are said to be ambiguous",
                self.ambiguous
            ),
        }
        assert_eq!(self.dropped, 0, "seed {seed}");
    }
}

fn core(seed: u64) -> Core {
    let raw = settings(r#"{"url": "http://receiver.test", "identities": "plain"}"#);
    Core::new(&raw, seed)
}

/// Traces, logs and the like travel without calls.
fn is_of_records(request: &Request) -> bool {
    let body = request.body.as_deref();
    body.is_some_and(|body| !body.contains("\"costs\""))
}

fn lost(why: &str) -> Reply {
    Reply {
        error: Some(why.to_owned()),
        ..Reply::default()
    }
}

fn dropped(status: &Value) -> u64 {
    let reasons = status["dropped"].as_object().unwrap();
    reasons.values().filter_map(Value::as_u64).sum()
}

/// The seeds to play, by the environment.
fn seeds() -> std::ops::Range<u64> {
    let number = |name: &str| std::env::var(name).ok()?.parse().ok();
    let first = number("FIRST").unwrap_or(0);
    first..first + number("SEEDS").unwrap_or(120)
}

#[test]
fn a_receiver_that_knows_ids_gets_each_call_once_whatever_happens() {
    for seed in seeds() {
        let mut world = World::new(seed, Kind::Ids);
        world.play();
        world.assert_arrived();
    }
}

#[test]
fn a_stock_server_gets_no_call_twice_and_misses_none_that_is_not_counted_as_ambiguous() {
    for seed in seeds() {
        let mut world = World::new(seed, Kind::Stock);
        world.play();
        world.assert_arrived();
    }
}

/// In the order in which they happened, where no process dies and the server's size is none.
#[test]
fn calls_arrive_in_their_order() {
    for seed in seeds() {
        for kind in [Kind::Ids, Kind::Stock] {
            let mut world = World::new(seed, kind);
            world.server.largest = usize::MAX;
            for _ in 0..10 {
                let count = 1 + world.dice.below(8);
                world.hear(count);
                world.weather = match world.dice.below(4) {
                    0 => Weather::Well,
                    1 => Weather::Dead(Fate::AnswerLost),
                    2 => Weather::Dead(Fate::Refused(503)),
                    _ => Weather::Dead(Fate::Unreachable),
                };
                let ms = world.dice.below(400_000);
                world.pass(ms);
            }
            world.be_well();
            let expected: Vec<u64> = (1..=world.calls).collect();
            assert_eq!(world.server.prompts, expected, "seed {seed}, {kind:?}");
            // Whole requests are lost, and each is looked up before it is made again.
            assert_eq!(world.ambiguous, 0, "seed {seed}, {kind:?}");
        }
    }
}
