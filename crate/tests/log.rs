//! Compares an append log with a plain list: each entry is delivered once, in any order of appends, loads, deliveries
//! and restarts.

use std::collections::BTreeMap;

use agentwatch_openclaw::domain::call::IdMint;

use crate::common::disk::Disk;
use agentwatch_openclaw::journal::log::{Cursor, Entry, Kind, Log, Position, Readable};
use proptest::prelude::*;

/// A step of a run.
#[derive(Debug, Clone)]
enum Step {
    /// Appends this many entries of this size, also to memory if true.
    Append(u8, u16, bool),
    /// Writes the pending bytes.
    Write,
    /// Reads a segment into memory; meanwhile this many entries are appended.
    Load(u8),
    /// Acknowledges this many entries in memory.
    Leave(u8),
    /// Acknowledges a third of the entries in memory, chosen by a seed.
    LeaveSome(u64),
    /// Restarts: another process continues from the disk and the cursor.
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
    /// Number of acknowledgements of each entry.
    left: BTreeMap<u64, u32>,
    /// Whether more runs were ahead of the cursor than the journal stores.
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

    /// Acknowledges some of the entries in memory, in any order.
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
        // Runs beyond the bound are sent again. In-order delivery leaves no runs.
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

fn payload(number: u64) -> Vec<u8> {
    let mut payload = number.to_le_bytes().to_vec();
    payload.resize(1_000, 7);
    payload
}

/// A log on disk, with no entry in memory.
fn on_disk(entries: u64) -> (Log, Disk) {
    let (mut log, disk) = (Log::new(Kind::Calls, u64::MAX), Disk::default());
    for number in 0..entries {
        log.append(&payload(number), false);
    }
    write(&mut log, &disk);
    (log, disk)
}

fn write(log: &mut Log, disk: &Disk) {
    let mut list = Vec::new();
    log.take_appends(&mut list);
    log.take_deletions(&mut list);
    disk.apply(list);
}

fn recovered(disk: &Disk, prepare: impl FnOnce(&mut Log)) -> Log {
    let mut log = Log::new(Kind::Calls, u64::MAX);
    prepare(&mut log);
    for (file, bytes) in &*disk.files() {
        log.recover(file, bytes, |_, _, _| {}).unwrap();
    }
    log.recovered();
    log
}

/// Reads all pending entries back, segment by segment. Returns them, and the number of lost entries.
fn read_back(log: &mut Log, disk: &Disk) -> (Vec<(Entry, u64)>, u64) {
    let (mut all, mut lost) = (Vec::new(), 0);
    while let Some(file) = log.to_load() {
        let bytes = disk.files().get(&file).cloned().unwrap_or_default();
        let (entries, missing) = log.load(&file, &bytes).unwrap();
        let number = |payload: &[u8]| u64::from_le_bytes(payload[..8].try_into().unwrap());
        all.extend(
            entries
                .iter()
                .map(|(entry, payload)| (*entry, number(payload))),
        );
        lost += missing;
    }
    (all, lost)
}

#[test]
fn what_0_1_0_marked_as_gone_is_not_sent_again() {
    let (_, disk) = on_disk(300);
    let mut marks: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for (file, bytes) in &*disk.files() {
        let reader = agentwatch_openclaw::journal::Reader::open(bytes).unwrap();
        let offsets: Vec<u32> = reader.map(|(offset, _)| offset).collect();
        let number = agentwatch_openclaw::journal::files::number_of(file, "model-calls-").unwrap();
        let third = offsets.iter().copied().step_by(3).rev().collect();
        marks.insert(number, third);
    }
    let gone: usize = marks.values().map(Vec::len).sum();
    let mut log = recovered(&disk, |log| {
        for (number, offsets) in marks {
            log.restore_marks(number, offsets);
        }
    });
    assert_eq!(log.waiting(), 300 - gone);
    let (waiting, lost) = read_back(&mut log, &disk);
    assert_eq!((waiting.len(), lost), (300 - gone, 0));
}

#[test]
fn a_file_that_lost_its_end_or_a_frame_costs_what_it_lost() {
    for (is_cut, lost) in [(true, 2), (false, 1)] {
        let (mut log, disk) = on_disk(20);
        let name = disk.files().keys().next().unwrap().clone();
        {
            let mut files = disk.files();
            let bytes = files.get_mut(&name).unwrap();
            match is_cut {
                true => bytes.truncate(bytes.len() - 1_500),
                // A byte in the third entry.
                false => bytes[2_600] ^= 1,
            }
        }
        let (entries, missing) = read_back(&mut log, &disk);
        assert_eq!(missing, lost);
        let numbers: Vec<u64> = entries.iter().map(|(_, number)| *number).collect();
        let expected = (0..20).filter(|number| match is_cut {
            true => *number < 18,
            false => *number != 2,
        });
        assert_eq!(numbers, expected.collect::<Vec<_>>());
        log.acknowledge(entries.iter().map(|(entry, _)| *entry));
        assert_eq!((log.waiting(), log.to_load()), (0, None));
        assert_eq!(log.cursor().ahead, [], "the cursor is past all of it");
    }
}

/// A restored cursor: entries that it is not past are read back, whatever their order.
#[test]
fn a_cursor_is_past_what_was_acknowledged_and_nothing_else() {
    let (mut log, disk) = on_disk(400);
    let (entries, _) = read_back(&mut log, &disk);
    let is_left = |number: u64| number < 150 || (200..260).contains(&number) || number == 399;
    let left = entries.iter().filter(|(_, number)| is_left(*number));
    log.acknowledge(left.map(|(entry, _)| *entry));
    write(&mut log, &disk);
    let cursor = log.cursor();
    assert_eq!(cursor.ahead.len(), 2, "two runs are ahead of it");
    assert_eq!(log.moved(), Some(cursor.clone()));
    assert_eq!(log.moved(), None);
    let mut next = recovered(&disk, |log| log.restore(cursor));
    let (waiting, lost) = read_back(&mut next, &disk);
    let numbers: Vec<u64> = waiting.iter().map(|(_, number)| *number).collect();
    let expected = (0..400).filter(|number| !is_left(*number));
    assert_eq!((numbers, lost), (expected.collect(), 0));
}

#[test]
fn the_number_of_an_acknowledged_segment_does_not_come_again() {
    let (mut log, disk) = on_disk(400);
    let (entries, _) = read_back(&mut log, &disk);
    log.acknowledge(entries.iter().map(|(entry, _)| *entry));
    write(&mut log, &disk);
    let cursor = log.cursor();
    disk.files().clear();
    let mut next = recovered(&disk, |log| log.restore(cursor.clone()));
    let entry = next.append(&payload(0), true);
    assert!(entry.segment > cursor.at.segment, "{entry:?} {cursor:?}");
    assert_eq!(next.cursor().at.segment, entry.segment);
    assert!(!cursor.is_past(Position {
        segment: entry.segment,
        offset: 8
    }));
    assert!(!Cursor::default().is_past(Position::default()));
}

/// Without a state directory nothing is written, and no file is to be deleted.
#[test]
fn a_log_that_nobody_writes_collects_no_deletions() {
    let mut log = Log::new(Kind::Calls, u64::MAX);
    for number in 0..100 {
        let entry = log.append(&payload(number), true);
        log.abandon_last();
        log.acknowledge([entry]);
    }
    let mut list = Vec::new();
    log.take_deletions(&mut list);
    assert_eq!(list, []);
}

fn inside(segment: &Readable) -> Position {
    Position {
        segment: segment.number,
        offset: segment.bytes - 1,
    }
}

/// A segment stays until AgentWatch and each following outlet have read it.
#[test]
fn a_following_outlet_keeps_what_it_has_not_read() {
    let (mut log, disk) = on_disk(400);
    log.follow("one", Some(Position::default()));
    let (entries, _) = read_back(&mut log, &disk);
    log.acknowledge(entries.iter().map(|(entry, _)| *entry));
    write(&mut log, &disk);
    let segments = log.readable();
    assert!(segments.len() > 2 && disk.files().len() == segments.len());
    for (index, segment) in segments.iter().enumerate() {
        log.follow("one", Some(inside(segment)));
        write(&mut log, &disk);
        assert_eq!(disk.files().len(), segments.len() - index);
    }
    log.follow("one", None);
    write(&mut log, &disk);
    assert!(disk.files().len() <= 1, "the last one is still open");
}

#[test]
fn of_two_following_outlets_the_one_that_has_read_less_keeps_segments() {
    for (ahead, behind) in [("one", "two"), ("two", "one")] {
        let (mut log, disk) = on_disk(400);
        log.follow(behind, Some(Position::default()));
        log.follow(ahead, Some(Position::default()));
        let (entries, _) = read_back(&mut log, &disk);
        log.acknowledge(entries.iter().map(|(entry, _)| *entry));
        let segments = log.readable();
        log.follow(ahead, segments.last().map(inside));
        write(&mut log, &disk);
        assert_eq!(disk.files().len(), segments.len(), "{behind} has read none");
        log.follow(behind, Some(inside(&segments[1])));
        // The outlet that is ahead reports again, as it does at each look.
        log.follow(ahead, segments.last().map(inside));
        write(&mut log, &disk);
        assert_eq!(disk.files().len(), segments.len() - 1, "{behind} has one");
        log.follow(behind, None);
        write(&mut log, &disk);
        assert_eq!(disk.files().len(), 1, "{ahead} alone follows");
    }
}

/// At the bound each outlet is told its own loss.
#[test]
fn each_following_outlet_loses_what_it_has_not_read() {
    let mut log = Log::new(Kind::Calls, 0);
    for number in 0..400 {
        log.append(&payload(number), false);
    }
    let segments = log.readable();
    assert!(segments.len() > 2);
    log.follow("one", Some(inside(&segments[0])));
    log.follow("two", segments.last().map(inside));
    let (_, unread) = log.shrink();
    let between = &segments[1..segments.len() - 1];
    let between: u64 = between.iter().map(|segment| u64::from(segment.bytes)).sum();
    assert_eq!(unread["one"], 1 + between);
    assert_eq!(unread["two"], 0);
}

#[test]
fn a_segment_number_ahead_of_the_cursor_is_not_reused() {
    let (mut log, disk) = (Log::new(Kind::Calls, u64::MAX), Disk::default());
    let entry = |n: u64| vec![n as u8; 1_000];
    let entries: Vec<Entry> = (0..400).map(|n| log.append(&entry(n), true)).collect();
    let write = |log: &mut Log| {
        let mut list = Vec::new();
        log.take_appends(&mut list);
        log.take_deletions(&mut list);
        disk.apply(list);
    };
    let recovered = |cursor: Cursor| {
        let mut log = Log::new(Kind::Calls, u64::MAX);
        log.restore(cursor);
        for (file, bytes) in &*disk.files() {
            log.recover(file, bytes, |_, _, _| {}).unwrap();
        }
        log.recovered();
        log
    };
    write(&mut log);
    // The newest segment is acknowledged before a backlog, and removed by the next process.
    let last = entries.last().unwrap().segment;
    log.acknowledge(
        entries
            .iter()
            .copied()
            .filter(|entry| entry.segment == last),
    );
    let mut log = recovered(log.cursor());
    let cursor = log.cursor();
    write(&mut log);
    let entry = recovered(cursor.clone()).append(&entry(9), true);
    let place = Position {
        segment: entry.segment,
        offset: 8,
    };
    assert!(!cursor.is_past(place), "{cursor:?} covers {entry:?}");
}
