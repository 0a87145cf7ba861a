//! Weeks of ordinary gateways.
#![allow(dead_code, reason = "each test uses a part of this")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use agentwatch_openclaw::domain::call::IdMint;
use agentwatch_openclaw::domain::time::parse_iso;
use agentwatch_openclaw::spending::who::Who;
use agentwatch_openclaw::spending::window::{DAY_MS, HOUR_MS};

pub const MINUTE_MS: u64 = 60_000;

/// An event of an ordinary week.
#[derive(Clone)]
pub struct Event {
    /// When, in ms since 1970.
    pub at_ms: u64,
    /// Whose.
    pub who: Who,
    /// What.
    pub what: What,
}

/// What happens: a user's message, an answer with its cost in USD, a failed call, a tool call and whether it failed.
#[derive(Clone, Copy)]
pub enum What {
    Person,
    Answer(f64),
    Retry,
    Tool(&'static str, bool),
}

/// A week.
pub struct Life {
    mint: IdMint,
    pub begins_ms: u64,
    pub events: Vec<Event>,
}

impl Life {
    pub fn new(seed: u64) -> Self {
        Self {
            mint: IdMint::new(seed),
            begins_ms: parse_iso("2026-11-09T00:00:00Z").unwrap(),
            events: Vec::new(),
        }
    }

    /// A random number from 0 to 1.
    fn random(&mut self) -> f64 {
        (self.mint.bits() >> 11) as f64 / (1u64 << 53) as f64
    }

    fn is(&mut self, chance: f64) -> bool {
        self.random() < chance
    }

    fn between(&mut self, least: u64, most: u64) -> u64 {
        least + (self.random() * (most - least + 1) as f64) as u64
    }

    /// A lognormal random number; `wide` is the standard deviation of the logarithm.
    fn about(&mut self, median: f64, wide: f64) -> f64 {
        let normal: f64 = (0..12).map(|_| self.random()).sum::<f64>() - 6.0;
        median * (wide * normal).exp()
    }

    pub fn add(&mut self, at_ms: u64, who: &Who, what: What) {
        let who = who.clone();
        self.events.push(Event { at_ms, who, what });
    }

    /// An answer, sometimes after failures of the provider.
    fn answer(&mut self, at_ms: u64, who: &Who, usd: f64) {
        if self.is(0.01) {
            let tries = self.between(1, 8);
            (0..tries).for_each(|n| self.add(at_ms - 9_000 + n * 1_000, who, What::Retry));
        }
        self.add(at_ms, who, What::Answer(usd));
    }

    /// Chats: bursts of messages in the daytime.
    fn chat(&mut self, agent: &str, days: std::ops::Range<u64>) {
        let usual = self.about(0.02, 0.8);
        for day in days {
            // Some days are quiet.
            let bursts = if self.is(0.2) { 0 } else { self.between(1, 10) };
            for _ in 0..bursts {
                let channel = self.between(0, 3);
                let who = session(agent, "user", None, channel);
                let mut at_ms =
                    self.begins_ms + day * DAY_MS + self.between(8 * 60, 23 * 60) * MINUTE_MS;
                for _ in 0..self.between(1, 15) {
                    at_ms += self.between(20, 180) * 1_000;
                    self.add(at_ms, &who, What::Person);
                    for _ in 0..self.between(1, 6) {
                        at_ms += self.between(3, 20) * 1_000;
                        let usd = self.about(usual, 0.8);
                        self.answer(at_ms, &who, usd);
                        if self.is(0.3) {
                            // Many pages at once, all of which fail sometimes.
                            let calls = if self.is(0.2) { self.between(2, 12) } else { 1 };
                            let has_failed = self.is(0.05);
                            (0..calls).for_each(|n| {
                                self.add(at_ms + 100 * n, &who, What::Tool("web_fetch", has_failed))
                            });
                        }
                    }
                    if self.is(0.03) {
                        self.subagents(agent, at_ms, usual);
                    }
                }
            }
        }
    }

    fn subagents(&mut self, agent: &str, at_ms: u64, usual: f64) {
        for n in 0..self.between(1, 10) {
            let number = self.mint.bits();
            let who = session(agent, "subagent", None, number);
            for call in 0..self.between(3, 15) {
                let usd = self.about(usual * 2.0, 0.6);
                self.answer(at_ms + call * 15_000 + n * 500, &who, usd);
                let has_failed = self.is(0.1);
                self.add(
                    at_ms + call * 15_000 + n * 500 + 400,
                    &who,
                    What::Tool("read", has_failed),
                );
            }
        }
    }

    /// Coding sessions: 200 calls per hour, a tool call after each, and tests that fail until the code is right.
    fn coding(&mut self, agent: &str, days: std::ops::Range<u64>) {
        let usual = self.about(0.08, 0.4).min(0.2);
        for day in days {
            let mut at_ms =
                self.begins_ms + day * DAY_MS + self.between(8 * 60, 11 * 60) * MINUTE_MS;
            for _ in 0..if self.is(0.6) { self.between(1, 3) } else { 0 } {
                let number = self.mint.bits();
                let who = session(agent, "user", None, number);
                let ends_ms = at_ms + self.between(30, 180) * MINUTE_MS;
                let mut speaks_ms = at_ms;
                let mut red = 0;
                while at_ms < ends_ms {
                    if at_ms >= speaks_ms {
                        self.add(at_ms, &who, What::Person);
                        speaks_ms = at_ms + self.between(3, 40) * MINUTE_MS;
                    }
                    at_ms += self.between(10, 26) * 1_000;
                    let usd = self.about(usual, 0.7);
                    self.answer(at_ms, &who, usd);
                    if red == 0 && self.is(0.05) {
                        // Twice as many calls, half of them failing tests.
                        red = 2 * self.between(1, 8);
                    }
                    let (tool, has_failed) = match red {
                        0 => (
                            ["read", "edit", "exec", "grep"][self.between(0, 3) as usize],
                            self.is(0.12),
                        ),
                        red if red % 2 == 0 => ("exec", true),
                        _ => ("edit", self.is(0.1)),
                    };
                    red = red.saturating_sub(1);
                    self.add(at_ms + 1_000, &who, What::Tool(tool, has_failed));
                }
                at_ms += self.between(20, 120) * MINUTE_MS;
            }
        }
    }

    /// Jobs at fixed times, at night and hourly; some begin in the middle of the week.
    fn cron(&mut self, agent: &str) {
        for job in 0..self.between(1, 5) {
            let is_hourly = self.is(0.3);
            let every_ms = if is_hourly { HOUR_MS } else { DAY_MS };
            let usual = if is_hourly {
                self.about(0.05, 0.8).min(0.5)
            } else {
                self.about(0.6, 1.0).min(6.0)
            };
            let first = self.begins_ms + self.between(0, 3) * DAY_MS;
            let mut at_ms = first + self.between(0, every_ms / MINUTE_MS - 1) * MINUTE_MS;
            while at_ms < self.begins_ms + 7 * DAY_MS {
                let who = session(agent, "cron", Some(job), at_ms);
                let calls = self.between(3, 40);
                // At most 9 USD: a new job that spends more than 10 USD in an hour of the night is a true alarm.
                let whole = self.about(usual, 0.35).min(9.0);
                for call in 0..calls {
                    let at_ms = at_ms + call * 12_000;
                    self.answer(at_ms, &who, whole / calls as f64);
                    let has_failed = self.is(0.1);
                    self.add(at_ms + 900, &who, What::Tool("exec", has_failed));
                }
                at_ms += every_ms;
            }
        }
    }

    /// Heartbeats, some of which have work to do. Their one tool is broken on some days.
    fn heartbeats(&mut self, agent: &str) {
        let usual = self.about(0.02, 0.6);
        let who = session(agent, "heartbeat", None, 1);
        for beat in 0..7 * 48 {
            let at_ms = self.begins_ms + beat * 30 * MINUTE_MS + self.between(0, 60) * 1_000;
            let calls = if self.is(0.05) {
                self.between(5, 20)
            } else {
                1
            };
            let is_broken = beat / 48 == 3;
            for call in 0..calls {
                let usd = self.about(usual, 0.5);
                self.answer(at_ms + call * 8_000, &who, usd);
                let has_failed = call == 0 && is_broken || self.is(0.05);
                self.add(
                    at_ms + call * 8_000 + 500,
                    &who,
                    What::Tool("mail", has_failed),
                );
            }
        }
    }

    /// A gateway of one of five kinds, with an agent whose first day is in the middle of the week.
    pub fn gateway(seed: u64) -> Self {
        let mut life = Self::new(seed);
        match seed % 5 {
            0 => life.chat("main", 0..7),
            1 => life.coding("main", 0..7),
            2 => life.cron("main"),
            3 => life.heartbeats("main"),
            _ => {
                life.chat("main", 0..7);
                life.coding("main", 3..7);
                life.cron("main");
                life.heartbeats("main");
            }
        }
        let first = life.between(2, 6);
        match seed % 3 {
            0 => life.chat("new", first..7),
            1 => life.coding("new", first..7),
            _ => {}
        }
        life.events.sort_by_key(|event| event.at_ms);
        life
    }
}

/// A session of an agent.
pub fn session(agent: &str, trigger: &str, job: Option<u64>, number: u64) -> Who {
    Who {
        agent: Some(agent.to_owned()),
        trigger: Some(trigger.to_owned()),
        job: job.map(|job| format!("job-{job}")),
        session: Some(format!("agent:{agent}:#{trigger}{number}")),
        ..Who::default()
    }
}
