//! The outbox against a network that fails in every way: nothing is lost, nothing counts twice, the order is preserved.

use std::collections::HashSet;

use crate::common::server::{Dice, Fate, Kind, Server};
use agentwatch_openclaw::delivery::calls::{Calls, Request};
use agentwatch_openclaw::delivery::reply::Reply;
use agentwatch_openclaw::domain::call::{
    Cost, CostSource, IdMint, ModelCall, Origin, Outcome, Usage,
};
use agentwatch_openclaw::domain::time::Now;
use agentwatch_openclaw::engine::settings::{RawSettings, Settings};
use agentwatch_openclaw::journal::log::Entry;
use agentwatch_openclaw::sources::facts::Scalar;

/// A run of an outbox: calls arrive while the network fails as the seed determines.
struct Run {
    seed: u64,
    dice: Dice,
    outbox: Calls,
    settings: Settings,
    server: Server,
    pushed: Vec<String>,
    mono_ms: u64,
    requests: u64,
}

impl Run {
    fn new(seed: u64, kind: Kind) -> Self {
        let raw = RawSettings::from_names(|name| match *name {
            "url" => Scalar::Text("http://h".to_owned()),
            _ => Scalar::Absent,
        });
        let (settings, problems) = Settings::validate(&raw);
        assert!(problems.is_empty());
        Self {
            seed,
            dice: Dice(IdMint::new(seed)),
            outbox: Calls::new(&settings, seed),
            settings,
            server: Server::new(kind),
            pushed: Vec::new(),
            mono_ms: 0,
            requests: 0,
        }
    }

    fn push(&mut self) -> String {
        let n = self.pushed.len() as u64;
        let mut mint = IdMint::new(self.seed ^ n << 32);
        let call = ModelCall {
            id: mint.mint(1_795_000_000_000 + n),
            ended_ms: 1_795_000_000_000 + n,
            provider: "p".into(),
            model: ["m", "n"][self.dice.below(2) as usize].into(),
            agent: Some(["main", "ops"][self.dice.below(2) as usize].into()),
            session_key: None,
            run_id: None,
            trigger: None,
            origin: Origin::default(),
            prompt: None,
            prompt_usd: None,
            cache_usd: None,
            operation: Default::default(),
            usage: Some(Usage {
                input: n,
                ..Usage::default()
            }),
            cost: Cost {
                usd: 0.5,
                source: CostSource::Openclaw,
            },
            latency: None,
            ttfb_ms: None,
            ttft_ms: None,
            request_id: None,
            response_model: None,
            outcome: Outcome::Completed,
            stored: false,
        };
        let id = call.id.to_string();
        self.outbox.push(call, Entry::default(), 0, self.mono_ms);
        self.pushed.push(id.clone());
        id
    }

    /// Does the outbox's due work; `fate` decides the result of each request.
    fn step(&mut self, fate: &mut dyn FnMut(&mut Dice) -> Fate) {
        if let Some(due) = self.outbox.next_due() {
            self.mono_ms = self.mono_ms.max(due);
        }
        let now = Now {
            wall_ms: 1_795_000_000_000 + self.mono_ms,
            mono_ms: self.mono_ms,
        };
        let mut next = self.outbox.begin(&self.settings.naming, now, false);
        while let Some(request) = next {
            self.requests += 1;
            let chosen = fate(&mut self.dice);
            let reply = self.fare(&request, chosen);
            self.mono_ms += 1 + self.dice.below(50);
            let mut notes = Vec::new();
            let naming = &self.settings.naming;
            next = self
                .outbox
                .answered(&reply, naming, self.mono_ms, &mut notes);
        }
    }

    fn fare(&mut self, request: &Request, fate: Fate) -> Reply {
        let status = |status: u16, body: String| Reply::of(status, &body);
        let lost = |why: &str| Reply {
            error: Some(why.to_owned()),
            ..Reply::default()
        };
        match fate {
            Fate::Unreachable => lost("fetch failed"),
            Fate::Refused(code) => Reply {
                retry_after_ms: (code == 429).then_some(7_000),
                ..status(code, "<html>no</html>".into())
            },
            Fate::AnswerLost => {
                self.server.answer(request, u64::MAX);
                lost("timed out")
            }
            Fate::Garbled => {
                let (code, _) = self.server.answer(request, u64::MAX);
                status(code, "\u{0}<garbage".into())
            }
            Fate::Torn(inserts) => {
                let (code, body) = self.server.answer(request, inserts);
                status(code, body)
            }
            Fate::Good => {
                let (code, body) = self.server.answer(request, u64::MAX);
                status(code, body)
            }
        }
    }

    /// Calls arrive, the network fails for a while, and works again.
    fn play(&mut self, faults: &[Fate]) {
        let rounds = 1 + self.dice.below(20);
        for _ in 0..rounds {
            for _ in 0..self.dice.below(8) {
                self.push();
            }
            let faults = faults.to_vec();
            let mut fate = move |dice: &mut Dice| match dice.below(3) {
                0 => Fate::Good,
                _ => match faults[dice.below(faults.len() as u64) as usize] {
                    Fate::Torn(_) => Fate::Torn(dice.below(30)),
                    fault => fault,
                },
            };
            for _ in 0..self.dice.below(4) {
                self.step(&mut fate);
            }
        }
        self.recover();
    }

    /// The network works: everything is sent.
    fn recover(&mut self) {
        for _ in 0..500 {
            if self.outbox.is_empty() {
                return;
            }
            self.step(&mut |_| Fate::Good);
        }
        panic!(
            "seed {}: {} calls are never sent",
            self.seed,
            self.outbox.len()
        );
    }

    /// Nothing is lost or sent twice; a refused call may be overtaken.
    fn assert_each_once(&self) {
        let Self { seed, server, .. } = self;
        let arrived: HashSet<&String> = server.usage.iter().collect();
        assert_eq!(arrived.len(), server.usage.len(), "seed {seed}");
        assert_eq!(arrived, self.pushed.iter().collect(), "seed {seed}");
        assert_eq!(self.outbox.counts().dropped.total(), 0, "seed {seed}");
    }

    fn assert_each_once_in_order(&self) {
        let Self { seed, server, .. } = self;
        let expected: Vec<&String> = self
            .pushed
            .iter()
            .filter(|id| !server.torn.contains(*id))
            .collect();
        let got: Vec<&String> = server.usage.iter().collect();
        assert!(
            got == expected,
            "seed {seed}: {got:#?} is not {expected:#?}"
        );
        assert_eq!(self.outbox.counts().dropped.total(), 0, "seed {seed}");
    }
}

const SEEDS: u64 = 80;

/// All faults that affect whole requests.
const NETWORK: [Fate; 11] = [
    Fate::Unreachable,
    Fate::AnswerLost,
    Fate::AnswerLost,
    Fate::Garbled,
    Fate::Refused(429),
    Fate::Refused(401),
    Fate::Refused(403),
    Fate::Refused(302),
    Fate::Refused(502),
    Fate::Refused(503),
    Fate::Refused(504),
];

#[test]
fn a_receiver_with_record_ids_gets_each_call_once() {
    for seed in 0..SEEDS {
        let mut run = Run::new(seed, Kind::Ids);
        run.play(&NETWORK);
        run.assert_each_once_in_order();
    }
}

#[test]
fn a_stock_server_gets_each_call_once() {
    for seed in 0..SEEDS {
        let mut run = Run::new(seed, Kind::Stock);
        run.play(&NETWORK);
        run.assert_each_once_in_order();
        assert!(run.server.torn.is_empty(), "seed {seed}");
    }
}

/// A failing server answers 500 without having stored anything: its database is locked, or it is starting.
#[test]
fn a_temporary_failure_of_the_server_loses_nothing() {
    let faults = [
        Fate::Refused(500),
        Fate::Unreachable,
        Fate::Refused(500),
        Fate::AnswerLost,
    ];
    for kind in [Kind::Ids, Kind::Stock] {
        for seed in 0..SEEDS {
            let mut run = Run::new(seed, kind);
            run.play(&faults);
            run.assert_each_once();
        }
    }
}

/// For a whole night, with one waiting call.
#[test]
fn one_call_survives_a_long_failure() {
    for kind in [Kind::Ids, Kind::Stock] {
        for fault in [
            Fate::Unreachable,
            Fate::Refused(500),
            Fate::Refused(401),
            Fate::Refused(503),
        ] {
            let mut run = Run::new(1, kind);
            run.push();
            let mut up = false;
            for _ in 0..200 {
                run.step(&mut |_| {
                    if std::mem::replace(&mut up, true) {
                        fault
                    } else {
                        Fate::Good
                    }
                });
            }
            assert_eq!(run.outbox.len(), 1, "{kind:?} {fault:?}");
            run.recover();
            run.assert_each_once_in_order();
        }
    }
}

/// A stock server that dies inside a batch keeps the costs that it had inserted: the usage of these calls is lost,
/// which the outbox cannot detect. All others arrive once.
#[test]
fn a_stock_server_that_dies_inside_a_batch_loses_at_most_that_batch() {
    let mut torn = 0;
    for seed in 0..SEEDS {
        let mut run = Run::new(seed, Kind::Stock);
        run.play(&[Fate::Torn(0), Fate::Good, Fate::Unreachable]);
        run.assert_each_once_in_order();
        let counts = run.outbox.counts();
        let told = counts.ambiguous + counts.confirmed;
        assert!(told >= run.server.torn.len() as u64, "seed {seed}");
        torn += run.server.torn.len();
    }
    assert!(torn > 30, "the servers died often enough: {torn}");
}

#[test]
fn waiting_calls_are_sent_batch_after_batch() {
    for kind in [Kind::Ids, Kind::Stock] {
        let mut run = Run::new(1, kind);
        for _ in 0..400 {
            run.push();
        }
        while !run.outbox.is_empty() {
            run.step(&mut |_| Fate::Good);
        }
        run.assert_each_once_in_order();
        // A request takes at most 50 ms, and calls beyond full batches are collected for a second.
        let at_most = run.requests * 50 + 1_000;
        assert!(run.mono_ms <= at_most, "{kind:?}: {} ms", run.mono_ms);
    }
}

#[test]
fn a_receiver_with_record_ids_completes_a_torn_batch() {
    for seed in 0..SEEDS {
        let mut run = Run::new(seed, Kind::Ids);
        run.play(&[Fate::Torn(0), Fate::AnswerLost, Fate::Good]);
        let usage: HashSet<&String> = run.server.usage.iter().collect();
        assert_eq!(usage.len(), run.server.usage.len(), "seed {seed}");
        assert_eq!(usage, run.pushed.iter().collect(), "seed {seed}");
    }
}

#[test]
fn a_too_large_body_is_halved() {
    for kind in [Kind::Ids, Kind::Stock] {
        for seed in 0..50 {
            let mut run = Run::new(seed, kind);
            run.server.largest = 1 + seed as usize % 7;
            run.play(&NETWORK);
            run.assert_each_once_in_order();
        }
    }
}

/// A record that the server cannot store is found by halving, and only that one is dropped.
#[test]
fn a_refused_record_affects_only_itself() {
    for kind in [Kind::Ids, Kind::Stock] {
        for calls in [1, 2, 9, 120] {
            let mut run = Run::new(7, kind);
            let poison = run.dice.below(calls) as usize;
            for _ in 0..calls {
                run.push();
            }
            run.server.poison = Some(run.pushed[poison].clone());
            for _ in 0..400 {
                run.push();
                run.step(&mut |_| Fate::Good);
                if run.outbox.counts().dropped.get("refused") > 0 {
                    break;
                }
            }
            run.recover();
            let usage: HashSet<&String> = run.server.usage.iter().collect();
            // A stock server keeps the costs, but not the usage, of the calls before it in the batch.
            let torn = |id: &String| kind == Kind::Stock && run.server.torn.contains(id);
            let arrived = |id: &&String| **id != run.pushed[poison] && !torn(id);
            let expected: HashSet<&String> = run.pushed.iter().filter(arrived).collect();
            assert!(usage == expected, "{kind:?}, one of {calls}");
            assert_eq!(
                usage.len(),
                run.server.usage.len(),
                "{kind:?}, one of {calls}"
            );
            assert_eq!(
                run.outbox.counts().dropped.get("refused"),
                1,
                "{kind:?}, one of {calls}"
            );
        }
    }
}

#[test]
fn retry_after_is_respected() {
    let mut run = Run::new(1, Kind::Ids);
    run.push();
    run.step(&mut |_| Fate::Good);
    let asked = run.mono_ms;
    run.step(&mut |_| Fate::Refused(429));
    assert!(run.outbox.next_due() >= Some(asked + 7_000));
}

#[test]
fn backoff_grows_and_is_bounded() {
    let mut run = Run::new(3, Kind::Ids);
    run.push();
    let mut longest = 0;
    for _ in 0..60 {
        run.step(&mut |_| Fate::Unreachable);
        let pause = run.outbox.next_due().unwrap() - run.mono_ms;
        longest = longest.max(pause);
        assert!((50..=300_100).contains(&pause), "{pause}");
    }
    assert!(longest > 60_000, "{longest}");
}
