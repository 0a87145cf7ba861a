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

use agentwatch_openclaw::call::IdMint;

use agentwatch_openclaw::journal::log::{Entry, Kind, Log};
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
    /// A third of the entries in memory leave, chosen by a seed.
    LeaveSome(u64),
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
        any::<u64>().prop_map(Step::LeaveSome),
        Just(Step::Restart),
    ]
}

struct Run {
    log: Log,
    disk: Disk,
    /// Entries in memory, in order.
    memory: Vec<(Entry, u64)>,
    appended: u64,
    /// How often each entry left.
    left: BTreeMap<u64, u32>,
    /// More runs were ahead of the cursor than are journalled.
    may_be_twice: bool,
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
        let entry = self.log.append(&payload, loaded);
        if loaded {
            self.memory.push((entry, self.appended));
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
        for (entry, payload) in entries {
            let number = payload[..8].try_into().map(u64::from_le_bytes);
            self.memory.push((entry, number.unwrap()));
        }
        true
    }

    fn leave(&mut self, count: usize) {
        let left: Vec<(Entry, u64)> = self.memory.drain(..count.min(self.memory.len())).collect();
        self.acknowledge(&left);
    }

    /// Some of the entries in memory leave, in any order.
    fn leave_some(&mut self, seed: u64) {
        let mut mint = IdMint::new(seed);
        let (left, stay) = std::mem::take(&mut self.memory)
            .into_iter()
            .partition(|_| mint.bits().is_multiple_of(3));
        self.memory = stay;
        self.acknowledge(&left);
    }

    fn acknowledge(&mut self, left: &[(Entry, u64)]) {
        for (_, number) in left {
            *self.left.entry(*number).or_default() += 1;
        }
        self.log.acknowledge(left.iter().map(|(entry, _)| *entry));
    }

    fn restart(&mut self) {
        self.write();
        let cursor = self.log.cursor();
        // Runs beyond the bound are sent again; there are none as long as all is sent in order.
        let is_whole = cursor.ahead.len() < 64;
        self.log = Log::new(Kind::Calls, u64::MAX);
        self.log.restore(cursor);
        for (file, bytes) in &*self.disk.files() {
            assert_eq!(self.log.recover(file, bytes, |_, _, _| {}), Ok(0));
        }
        self.log.recovered();
        self.memory.clear();
        self.may_be_twice |= !is_whole;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn each_entry_leaves_once(steps in proptest::collection::vec(step(), 1..60)) {
        let mut run = Run {
            log: Log::new(Kind::Calls, u64::MAX),
            disk: Disk::default(),
            memory: Vec::new(),
            appended: 0,
            left: BTreeMap::new(),
            may_be_twice: false,
        };
        for step in steps {
            match step {
                Step::Append(count, size, loaded) => for _ in 0..count {
                    run.append(size, loaded);
                },
                Step::Write => run.write(),
                Step::Load(meanwhile) => { run.load(meanwhile); }
                Step::Leave(count) => run.leave(count.into()),
                Step::LeaveSome(seed) => run.leave_some(seed),
                Step::Restart => run.restart(),
            }
        }
        run.write();
        while run.load(0) {}
        run.leave(usize::MAX);
        run.restart();
        prop_assert_eq!(run.left.len() as u64, run.appended);
        prop_assert!(run.may_be_twice || run.left.values().all(|times| *times == 1));
        prop_assert_eq!(run.log.waiting(), 0);
        run.write();
        prop_assert!(run.disk.files().is_empty(), "what has left leaves the disk");
    }
}
