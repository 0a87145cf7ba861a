//! The counters and the stored calls agree, whatever happened to the calls, and no counter falls.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a failed unwrap is a failed test"
)]

use super::counters::recent;
use super::rollup::{Count, Sums};
use super::sums_test::{Dice, stored};
use super::{Repeat, Store};
use crate::clock::{DAY, HOUR};
use crate::config::Database;
use crate::records::{Batch, ModelUsage};
use agentwatch_openclaw::delivery::prometheus::counters::{
    Counters, DURATIONS_MOST, Figure, Names, OTHER, SERIES_MOST, SOURCES_MOST,
};
use std::collections::BTreeMap;

const NOW: i64 = 1_767_225_600_000_000 + 12 * HOUR;

fn net(counters: &Counters, names: &Names, figures: &[Figure]) -> i64 {
    let tally = &counters.calls[names];
    let net = |figure: &Figure| {
        let pair = tally.of(*figure);
        pair.added.cast_signed() - pair.withdrawn.cast_signed()
    };
    figures.iter().map(net).sum()
}

fn assert_counters(store: &Store, before: &Counters) {
    let counters = store.counters();
    let mut expected: BTreeMap<Names, (Sums, BTreeMap<String, f64>)> = BTreeMap::new();
    for call in stored(store) {
        let [model, agent, _, source, gateway, ..] = call.values;
        let names = Names {
            gateway,
            agent,
            model,
        };
        let (sums, costs) = expected.entry(names).or_default();
        sums.add(&call.sums);
        *costs.entry(source).or_default() += call.sums.cost_usd;
    }
    for (names, (sums, costs)) in &expected {
        let of = |figures: &[Figure]| net(&counters, names, figures);
        let calls = of(&[Figure::Completed, Figure::Failed, Figure::Aborted]);
        assert_eq!(calls, sums.of(Count::Calls), "{names:?}");
        let prompt = of(&[Figure::Input, Figure::CacheRead, Figure::CacheWrite]);
        assert_eq!(prompt, sums.of(Count::Prompt), "{names:?}");
        let completion = of(&[Figure::Output, Figure::Reasoning]);
        assert_eq!(completion, sums.of(Count::Completion), "{names:?}");
        for (figure, count) in [
            (Figure::Failed, Count::Failed),
            (Figure::Aborted, Count::Aborted),
            (Figure::CacheRead, Count::CacheRead),
            (Figure::CacheWrite, Count::CacheWrite),
            (Figure::Reasoning, Count::Reasoning),
            (Figure::CacheTold, Count::CacheTold),
            (Figure::Unpriced, Count::UnknownCost),
        ] {
            assert_eq!(of(&[figure]), sums.of(count), "{figure:?} of {names:?}");
        }
        for (source, cost) in costs {
            let pair = counters.calls[names].cost_usd[source];
            let given = pair.added - pair.withdrawn;
            assert!((given - cost).abs() < 1e-9, "{source} of {names:?}");
        }
    }
    for (names, earlier) in &before.calls {
        let later = &counters.calls[names];
        for figure in [Figure::Completed, Figure::Input, Figure::Unpriced] {
            let (a, b) = (earlier.of(figure), later.of(figure));
            assert!(a.added <= b.added && a.withdrawn <= b.withdrawn);
        }
        for (source, a) in &earlier.cost_usd {
            let b = later.cost_usd[source];
            assert!(a.added <= b.added && a.withdrawn <= b.withdrawn);
        }
    }
}

#[test]
fn added_less_withdrawn_is_what_the_stored_calls_sum_up_to() {
    for seed in 0..4 {
        let mut dice = Dice(seed * 31 + 7);
        let store = Store::open(&Database::Memory).unwrap();
        for _ in 0..40 {
            let before = store.counters();
            store.write(&dice.batch(), NOW, Repeat::Merge).unwrap();
            assert_counters(&store, &before);
        }
    }
}

#[test]
fn a_refused_batch_counts_nothing() {
    let store = Store::open(&Database::Memory).unwrap();
    let call = |id: &'static str| ModelUsage {
        id: id.into(),
        ..ModelUsage::default()
    };
    let batch = |ids: &[&'static str]| Batch {
        model_usage: ids.iter().map(|id| call(id)).collect(),
        ..Batch::default()
    };
    store.write(&batch(&["a"]), NOW, Repeat::Refuse).unwrap();
    let before = store.counters();
    assert!(
        store
            .write(&batch(&["b", "a"]), NOW, Repeat::Refuse)
            .is_err()
    );
    assert_eq!(store.counters(), before);
}

#[test]
fn a_changed_source_of_cost_leaves_one_call_and_one_duration() {
    let store = Store::open(&Database::Memory).unwrap();
    for source in ["unknown", "table", "provider"] {
        let call = ModelUsage {
            id: "a".into(),
            cost_source: Some(source.into()),
            latency_ms: Some(700.0),
            ..ModelUsage::default()
        };
        let batch = Batch {
            model_usage: vec![call],
            ..Batch::default()
        };
        store.write(&batch, NOW, Repeat::Merge).unwrap();
    }
    let counters = store.counters();
    let (_, tally) = counters.calls.first_key_value().unwrap();
    let completed = tally.of(Figure::Completed);
    assert_eq!((completed.added, completed.withdrawn), (1, 0));
    let (_, durations) = counters.durations.first_key_value().unwrap();
    assert_eq!(durations.buckets.iter().sum::<u64>(), 1);
    assert!((durations.sum - 0.7).abs() < 1e-9);
}

#[test]
fn names_beyond_the_bound_are_counted_together() {
    let store = Store::open(&Database::Memory).unwrap();
    let most = SERIES_MOST + 120;
    let call = |number: usize| ModelUsage {
        id: format!("{number}").into(),
        model: Some(format!("p/{number}").into()),
        cost_source: Some(format!("s{number}").into()),
        cost_usd: Some(0.5),
        latency_ms: Some(10.0),
        ..ModelUsage::default()
    };
    let batch = Batch {
        model_usage: (0..most).map(call).collect(),
        ..Batch::default()
    };
    store.write(&batch, NOW, Repeat::Merge).unwrap();
    let counters = store.counters();
    assert_eq!(counters.calls.len(), SERIES_MOST + 1);
    assert_eq!(counters.durations.len(), DURATIONS_MOST + 1);
    assert_eq!(counters.left_out, 120);
    let calls = counters.calls.values();
    let all: u64 = calls.map(|tally| tally.of(Figure::Completed).added).sum();
    assert_eq!(all, most as u64);
    let other = counters
        .calls
        .iter()
        .find(|(names, _)| names.model == OTHER);
    // Each name has two counters of errors from its first call on.
    assert_eq!(counters.errors.len(), 2 * SERIES_MOST);
    let costs = &other.unwrap().1.cost_usd;
    assert_eq!(costs.len(), SOURCES_MOST + 1);
    let cost: f64 = costs.values().map(|pair| pair.added).sum();
    assert!((cost - 60.0).abs() < 1e-9);
}

#[test]
fn recent_names_are_there_from_the_start_with_zeros() {
    let store = Store::open(&Database::Memory).unwrap();
    for (model, age) in [("p/new", DAY), ("p/old", 30 * DAY)] {
        let call = ModelUsage {
            id: model.into(),
            model: Some(model.into()),
            timestamp: Some(NOW - age),
            ..ModelUsage::default()
        };
        let batch = Batch {
            model_usage: vec![call],
            ..Batch::default()
        };
        store.write(&batch, NOW, Repeat::Merge).unwrap();
    }
    let counters = store.read(|c| recent(c, NOW)).unwrap();
    let names: Vec<&str> = counters.calls.keys().map(|n| n.model.as_str()).collect();
    assert_eq!(names, ["p/new"]);
    let tally = counters.calls.values().next().unwrap();
    assert_eq!(tally.of(Figure::Completed).added, 0);
    assert_eq!(counters.durations.len(), 1);
}
