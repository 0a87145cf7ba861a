//! The engine against a network and a disk that fail in every way, while it is killed at any moment: months of virtual
//! time, one seed each. `SEEDS=1000` plays more seeds, `FIRST=…` begins with a later one.

use std::collections::HashSet;

use crate::common::server::{Fate, Kind};
use crate::common::world::{DISK_PAUSE_MS, GATHER_MS, LONGEST_PAUSE_MS, Weather, World, dropped};

impl World {
    /// A receiver that accepts nothing gets few requests.
    fn be_dead(&mut self) {
        let Weather::Dead(_) = self.weather else {
            return;
        };
        let before = self.requests;
        let hours = 1 + self.dice.below(6);
        self.pass(hours * 3_600_000);
        // After a refused token the engine retries every 15 s, else every 2.5 min on average.
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

    /// The receiver is unreachable, the disk fails and works again, and the process dies: events in that time are on
    /// disk.
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

    /// Everything works again, and nothing waits for long.
    fn be_well(&mut self) {
        (self.weather, self.disk_fails) = (Weather::Well, false);
        self.server.largest = usize::MAX;
        // The current backoff, the halves of too large batches, and turns that end late.
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
        // Delivered calls have left the disk and are not sent again.
        let (usage, requests) = (self.server.usage.len(), self.requests);
        self.engine.compact();
        self.pass(1_000);
        let files: Vec<(String, usize)> = self
            .disk
            .files()
            .iter()
            .map(|(name, bytes)| (name.clone(), bytes.len()))
            .collect();
        let kept = files
            .iter()
            .filter(|(name, _)| !name.starts_with("ledger-"));
        let kept: usize = kept.map(|(_, bytes)| bytes).sum();
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

    /// The calls that must have arrived: all except those that a dead process had only in memory, which may.
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
            // A receiver that repeatedly answers 500 to one call, and accepts others, refuses that call.
            Kind::Ids => assert!(
                missing.len() as u64 <= self.dropped,
                "seed {seed}: {missing:?} are missing"
            ),
            // Each of them has a cost without usage.
            Kind::Stock => assert!(
                missing.len() as u64 <= self.ambiguous + self.dropped,
                "seed {seed}: {missing:?} are missing, {} are said to be ambiguous",
                self.ambiguous
            ),
        }
        assert!(
            self.dropped <= 2,
            "seed {seed}: {} were given up",
            self.dropped
        );
    }
}

/// The seeds from the environment.
fn seeds() -> std::ops::Range<u64> {
    let number = |name: &str| std::env::var(name).ok()?.parse().ok();
    let first = number("FIRST").unwrap_or(0);
    first..first + number("SEEDS").unwrap_or(120)
}

#[test]
fn a_receiver_with_record_ids_gets_each_call_once() {
    for seed in seeds() {
        let mut world = World::new(seed, Kind::Ids);
        world.play();
        world.assert_arrived();
    }
}

#[test]
fn a_stock_server_gets_no_call_twice_and_misses_only_ambiguous_ones() {
    for seed in seeds() {
        let mut world = World::new(seed, Kind::Stock);
        world.play();
        world.assert_arrived();
    }
}

/// In order, as long as no process dies and the server has no size limit.
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
            // Whole requests are lost, and each is looked up before it is repeated.
            assert_eq!(world.ambiguous, 0, "seed {seed}, {kind:?}");
        }
    }
}
