//! The segmented log against a plain list: whatever is appended, loaded, sent and restarted in any order, each entry
//! leaves once.
#![cfg(not(target_arch = "wasm32"))]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use std::collections::BTreeMap;

use agentwatch_openclaw::journal::Frame;
use agentwatch_openclaw::segments::{Kind, Position, Segments};
use common::disk::Disk;
use proptest::prelude::*;

/// A step of a run.
#[derive(Debug, Clone)]
enum Step {
    /// Appends entries of this size, also to memory or not.
    Append(u8, u16, bool),
    /// Writes the pending bytes.
    Write,
    /// Reads a segment into memory; meanwhile this many entries are appended.
    Load(u8),
    /// This many entries in memory leave.
    Leave(u8),
    /// The process ends; another one continues from the disk and the marks.
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (1..60u8, 1..9_000u16, any::<bool>())
            .prop_map(|(n, size, loaded)| Step::Append(n, size, loaded)),
        Just(Step::Write),
        (0..3u8).prop_map(Step::Load),
        any::<u8>().prop_map(Step::Leave),
        Just(Step::Restart),
    ]
}

struct Run {
    log: Segments,
    disk: Disk,
    /// Entries in memory, in order.
    memory: Vec<(Position, u64)>,
    appended: u64,
    /// How often each entry left.
    left: BTreeMap<u64, u32>,
}

impl Run {
    fn write(&mut self) {
        let mut list = Vec::new();
        self.log.take_appends(&mut list);
        self.log.take_deletions(&mut list);
        self.disk.apply(list);
    }

    fn append(&mut self, size: u16, loaded: bool) {
        let mut payload = self.appended.to_le_bytes().to_vec();
        payload.resize(8 + usize::from(size), 7);
        let position = self.log.append(&payload, loaded);
        if loaded {
            self.memory.push((position, self.appended));
        }
        self.appended += 1;
    }

    fn load(&mut self, meanwhile: u8) -> bool {
        let Some(file) = self.log.to_load() else {
            return false;
        };
        let bytes = self.disk.files().get(&file).cloned().unwrap_or_default();
        for _ in 0..meanwhile {
            self.append(100, false);
        }
        let (entries, lost) = self.log.load(&file, &bytes).expect("it asked for it");
        assert_eq!(lost, 0, "nothing is lost");
        assert!(!entries.is_empty(), "{file} was worth reading");
        for (position, payload) in entries {
            let number = payload[..8].try_into().map(u64::from_le_bytes);
            self.memory.push((position, number.unwrap()));
        }
        true
    }

    fn leave(&mut self, count: usize) {
        let gone: Vec<(Position, u64)> =
            self.memory.drain(..count.min(self.memory.len())).collect();
        for (_, number) in &gone {
            *self.left.entry(*number).or_default() += 1;
        }
        let positions: Vec<Position> = gone.into_iter().map(|(position, _)| position).collect();
        self.log.gone(&positions);
    }

    fn restart(&mut self) {
        self.write();
        let marks: Vec<Frame> = self.log.frames().collect();
        self.log = Segments::new(Kind::Calls, u64::MAX);
        for mark in marks {
            if let Frame::Gone(_, number, offsets) = mark {
                self.log.restore_gone(number, offsets);
            }
        }
        for (file, bytes) in &*self.disk.files() {
            assert_eq!(self.log.recover(file, bytes, |_, _| {}), Ok(0));
        }
        self.log.recovered();
        self.memory.clear();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn each_entry_leaves_once(steps in proptest::collection::vec(step(), 1..60)) {
        let mut run = Run {
            log: Segments::new(Kind::Calls, u64::MAX),
            disk: Disk::default(),
            memory: Vec::new(),
            appended: 0,
            left: BTreeMap::new(),
        };
        for step in steps {
            match step {
                Step::Append(count, size, loaded) => for _ in 0..count {
                    run.append(size, loaded);
                },
                Step::Write => run.write(),
                Step::Load(meanwhile) => { run.load(meanwhile); }
                Step::Leave(count) => run.leave(count.into()),
                Step::Restart => run.restart(),
            }
        }
        run.write();
        while run.load(0) {}
        run.leave(usize::MAX);
        run.restart();
        prop_assert_eq!(run.left.len() as u64, run.appended);
        prop_assert!(run.left.values().all(|times| *times == 1));
        prop_assert_eq!(run.log.waiting(), 0);
        run.write();
        prop_assert!(run.disk.files().is_empty(), "what has left leaves the disk");
    }
}
