//! The engine in a simulation where networks and disks fail and processes are killed, with a virtual clock.

use std::collections::HashSet;

use agentwatch_openclaw::delivery::calls::Request;
use agentwatch_openclaw::delivery::reply::Reply;
use agentwatch_openclaw::domain::call::IdMint;
use agentwatch_openclaw::domain::time::Now;
use agentwatch_openclaw::engine::Engine;
use agentwatch_openclaw::sources::SOURCES;
use serde_json::{Value, json};

use super::disk::Disk;
use super::server::{Dice, Fate, Kind, Server};
use super::{pick, settings};

pub const START_MS: u64 = 1_795_000_000_000;
/// How long changes are collected, how long a failed disk is left alone, how long a request may take, in ms.
pub const GATHER_MS: u64 = 250;
pub const DISK_PAUSE_MS: u64 = 5_000;
pub const TIMEOUT_MS: u64 = 10_000;
/// Backoff between two attempts, and its jitter.
pub const LONGEST_PAUSE_MS: u64 = 300_100;

/// State of the network for a while.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Weather {
    Well,
    /// All requests have the same result: no connection, or no acceptance.
    Dead(Fate),
    /// Each request has a random result.
    Rough,
}

/// A request in flight, and its answer with its time.
pub struct Flight {
    pub is_of_records: bool,
    pub reply: Reply,
    pub until_ms: u64,
}

/// A failed attempt, and the minimum time before the next one.
#[derive(Clone, Copy)]
pub struct Failure {
    pub at_ms: u64,
    pub asked_ms: u64,
}

pub struct World {
    pub seed: u64,
    pub dice: Dice,
    pub engine: Engine,
    /// The monotonic clock since the start of the simulation, in ms.
    pub now_ms: u64,
    /// When the current process began.
    pub born_ms: u64,
    /// How far the wall clock is ahead, in ms.
    pub ahead_ms: u64,
    pub server: Server,
    pub weather: Weather,
    pub flight: Option<Flight>,
    /// The last failures of calls and of other records, which have separate backoffs.
    pub failures: [Option<Failure>; 2],
    pub requests: u64,
    pub disk: Disk,
    pub disk_fails: bool,
    /// Number of calls; a call's prompt is its number.
    pub calls: u64,
    /// Calls that are being written, calls on disk, and calls that died with a process.
    pub unsafe_calls: Vec<u64>,
    pub lost: HashSet<u64>,
    /// Counts of dead processes.
    pub ambiguous: u64,
    pub dropped: u64,
}

impl World {
    pub fn new(seed: u64, kind: Kind) -> Self {
        let mut world = Self {
            seed,
            dice: Dice(IdMint::new(seed)),
            engine: engine(seed),
            now_ms: 1,
            born_ms: 0,
            ahead_ms: 0,
            server: Server::new(kind),
            weather: Weather::Well,
            flight: None,
            failures: [None; 2],
            requests: 0,
            disk: Disk::default(),
            disk_fails: false,
            calls: 0,
            unsafe_calls: Vec::new(),
            lost: HashSet::new(),
            ambiguous: 0,
            dropped: 0,
        };
        world.engine.open(world.disk.host(), world.now());
        if world.dice.below(4) == 0 {
            world.server.largest = 1 + world.dice.below(20) as usize;
        }
        world
    }

    pub fn now(&self) -> Now {
        Now {
            wall_ms: START_MS + self.ahead_ms + self.now_ms,
            mono_ms: self.now_ms - self.born_ms,
        }
    }

    // -----------------------------------------------------------------------------------------
    // Events

    /// Some calls happen, each with its own number.
    pub fn hear(&mut self, count: u64) {
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
                    self.engine.observe(index, facts, self.now());
                }
            }
            self.unsafe_calls.push(number);
        }
    }

    /// The process is killed, and another one continues.
    pub fn kill(&mut self) {
        let status = self.status();
        self.ambiguous += status["ambiguous"].as_u64().unwrap();
        self.dropped += dropped(&status);
        if self.dice.below(2) == 0 {
            // In the middle of a write.
            self.fail_some();
            self.engine.flush(self.now());
        }
        self.disk.be_well();
        self.lost.extend(self.unsafe_calls.drain(..));
        self.flight = None;
        self.failures = [None; 2];
        self.born_ms = self.now_ms;
        self.now_ms += 1 + self.dice.below(60_000);
        self.engine = engine(self.dice.0.bits());
        self.engine.open(self.disk.host(), self.now());
    }

    /// The disk accepts some changes, and the last of them in part.
    fn fail_some(&mut self) {
        let (changes, torn) = (self.dice.below(5), self.dice.below(200));
        self.disk.fail_after(changes, torn as usize);
    }

    pub fn change_weather(&mut self) {
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

    /// Sends a request; its answer arrives later.
    pub fn send(&mut self, request: &Request) -> Flight {
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
            // The receiver hangs, with or without having stored the batch.
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

    pub fn begin(&mut self) {
        if self.flight.is_some() {
            return;
        }
        let Some(request) = self.engine.begin(self.now(), false) else {
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

    pub fn answer(&mut self) {
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
            // After a too large batch, or a lookup, the next request follows at once.
            401 if !is_of_records => 15_000,
            0 | 401 | 502..=504 => 100,
            429 => 20_000,
            _ => 0,
        };
        self.failures[usize::from(is_of_records)] = (asked_ms > 0).then_some(Failure {
            at_ms: self.now_ms,
            asked_ms,
        });
        if let Some(request) = self.engine.answered(&reply, self.now()) {
            self.flight = Some(self.send(&request));
        }
    }

    /// Lets time pass, doing the work when it is due.
    pub fn pass(&mut self, ms: u64) {
        let end = self.now_ms + ms;
        for turns in 0.. {
            assert!(turns < 100_000, "seed {}: it never rests", self.seed);
            match self.disk_fails {
                true => self.fail_some(),
                false => self.disk.be_well(),
            }
            self.answer();
            self.begin();
            let advice = self.engine.advance(self.now());
            if self.engine.keeps() && self.engine.is_kept() {
                self.unsafe_calls.clear();
            }
            let answer = self.flight.as_ref().map(|flight| flight.until_ms);
            // Sending waits for the answer, writing does not.
            let least = if answer.is_some() { GATHER_MS } else { 0 };
            let wake = advice.wake_in_ms.map(|ms| self.now_ms + ms.max(least));
            match [wake, answer].into_iter().flatten().min() {
                Some(next) if next <= end => self.now_ms = next.max(self.now_ms + 1),
                _ => break,
            }
        }
        self.now_ms = self.now_ms.max(end);
    }

    pub fn status(&self) -> Value {
        serde_json::to_value(self.engine.status()).unwrap()
    }
}

pub fn engine(seed: u64) -> Engine {
    let raw = settings(r#"{"url": "http://receiver.test", "identities": "plain"}"#);
    Engine::new(&raw, seed)
}

/// Whether a request has records other than calls.
pub fn is_of_records(request: &Request) -> bool {
    let body = request.body.as_deref();
    body.is_some_and(|body| !body.contains("\"costs\""))
}

pub fn lost(why: &str) -> Reply {
    Reply {
        error: Some(why.to_owned()),
        ..Reply::default()
    }
}

pub fn dropped(status: &Value) -> u64 {
    let reasons = status["dropped"].as_object().unwrap();
    reasons.values().filter_map(Value::as_u64).sum()
}
