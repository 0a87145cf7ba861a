//! Sums say what going through all calls says, whatever happened to the calls.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a failed unwrap is a failed test"
)]

use super::histogram::ERROR;
use super::query::{Filter, Survey};
use super::rollup::{CALL_COLUMNS, Call, Count, Sums};
use super::series::Dimension;
use super::stats::{Percentiles, model_stats, percentile};
use super::window::Window;
use super::{Repeat, Store};
use crate::clock::{DAY, HOUR, Micros};
use crate::config::Database;
use crate::records::{Batch, Enrichment, Metric, ModelUsage};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

/// Noon of some day.
const NOW: Micros = 1_767_225_600_000_000 + 12 * HOUR + 123;

struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }

    fn of<'a>(&mut self, all: &[&'a str]) -> &'a str {
        all[self.below(all.len() as u64) as usize]
    }

    /// Nothing in one of four cases.
    fn some<T>(&mut self, value: impl FnOnce(&mut Self) -> T) -> Option<T> {
        (self.below(4) > 0).then(|| value(self))
    }

    fn time(&mut self) -> Micros {
        match self.below(4) {
            // On the edges of hours and days, on purpose.
            0 => NOW - NOW % HOUR - self.below(60) as i64 * HOUR,
            1 => NOW - self.below(2 * 3600) as i64 * 1_000_000,
            _ => NOW - self.below(40 * 24 * 3600) as i64 * 1_000_000,
        }
    }

    fn usage(&mut self) -> ModelUsage<'static> {
        ModelUsage {
            // Few ids: many calls come again, whole or in part.
            id: format!("call-{}", self.below(150)).into(),
            timestamp: self.some(Self::time),
            agent_name: self.some(|d| d.of(&["main", "research"]).into()),
            model: self.some(|d| d.of(&["p/a", "p/b", "q/c"]).into()),
            prompt_tokens: self.some(|d| d.below(1000) as i64),
            completion_tokens: self.some(|d| d.below(100) as i64),
            cost_usd: self.some(|d| d.below(1_000_000) as f64 / 1e8),
            latency_ms: self.some(|d| d.below(100_000) as f64 / 7.0),
            gateway: self.some(|d| d.of(&["g1", "g2"]).into()),
            cache_read_tokens: self.some(|d| d.below(500) as i64),
            cache_write_tokens: self.some(|d| d.below(500) as i64),
            reasoning_tokens: self.some(|d| d.below(50) as i64),
            cost_source: self.some(|d| d.of(&["provider", "unknown", "table"]).into()),
            usage_source: self.some(|d| d.of(&["reported", "missing"]).into()),
            trigger: self.some(|d| d.of(&["user", "cron"]).into()),
            outcome: self.some(|d| d.of(&["completed", "failed", "aborted"]).into()),
            response_model: self.some(|d| d.of(&["a", "b-2026", "other"]).into()),
            ..ModelUsage::default()
        }
    }

    fn enrichment(&mut self) -> Enrichment<'static> {
        Enrichment {
            id: format!("call-{}", self.below(200)).into(),
            cost_usd: self.some(|d| d.below(1_000_000) as f64 / 1e8),
            cost_source: self.some(|d| d.of(&["provider", "configured"]).into()),
            response_model: self.some(|d| d.of(&["a", "other"]).into()),
            ..Enrichment::default()
        }
    }

    fn batch(&mut self) -> Batch<'static> {
        Batch {
            model_usage: (0..self.below(20)).map(|_| self.usage()).collect(),
            enrichments: (0..self.below(6)).map(|_| self.enrichment()).collect(),
            ..Batch::default()
        }
    }
}

/// A file for a database, gone with the value.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("receiver-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn open(&self) -> Store {
        Store::open(&Database::File(self.0.join("records.db"))).unwrap()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A call as it stands in the table.
struct Stored {
    at: Micros,
    values: [String; 5],
    sums: Sums,
    latency_ms: Option<f64>,
}

fn stored(store: &Store) -> Vec<Stored> {
    store
        .read(|connection| {
            let mut select =
                connection.prepare(&format!("SELECT {CALL_COLUMNS} FROM model_usage"))?;
            let rows = select.query_map([], |row| {
                let call = Call::of_row(row)?;
                Ok(Stored {
                    at: call.timestamp,
                    values: call.values.map(str::to_owned),
                    sums: call.sums(),
                    latency_ms: call.latency_ms,
                })
            })?;
            rows.collect()
        })
        .unwrap()
}

fn assert_near(given: &Sums, expected: &Sums, context: &str) {
    for count in [
        Count::Calls,
        Count::Prompt,
        Count::Completion,
        Count::CacheRead,
        Count::CacheWrite,
        Count::CacheTold,
        Count::Reasoning,
        Count::UnknownCost,
        Count::Timed,
        Count::Failed,
        Count::Aborted,
        Count::MissingUsage,
        Count::Rerouted,
    ] {
        assert_eq!(
            given.of(count),
            expected.of(count),
            "{count:?} of {context}"
        );
    }
    assert!(
        (given.cost_usd - expected.cost_usd).abs() < 1e-9,
        "{context}: {given:?}, not {expected:?}"
    );
    assert!(
        (given.latency_ms - expected.latency_ms).abs() < 1e-4,
        "{context}"
    );
}

fn assert_sums(store: &Store, context: &str) {
    let all = stored(store);
    let windows = [
        Window {
            from: NOW - HOUR / 3,
            to: None,
        },
        Window {
            from: NOW - 24 * HOUR,
            to: None,
        },
        Window {
            from: NOW - 30 * DAY,
            to: None,
        },
        Window { from: 0, to: None },
        Window {
            from: NOW - 20 * DAY - 7,
            to: Some(NOW - 3 * DAY + HOUR / 2),
        },
    ];
    let filters = [
        [None; 5],
        [Some("p/a"), None, None, None, None],
        [None, Some("main"), None, None, None],
        [None, None, Some(""), None, Some("g1")],
        [Some("p/b"), None, None, Some("unknown"), None],
    ];
    for window in windows {
        for filter in &filters {
            let filter = Filter(filter.map(|value| value.map(str::to_owned)));
            let mut wanted = Vec::new();
            for call in &all {
                let passes = (window.from..window.end()).contains(&call.at)
                    && filter
                        .0
                        .iter()
                        .zip(&call.values)
                        .all(|(f, v)| f.as_ref().is_none_or(|f| f == v));
                if passes {
                    wanted.push(call);
                }
            }
            let context = format!("{context}, {window:?}, {filter:?}");
            store
                .survey(|connection, catalog| {
                    let survey = Survey::new(connection, catalog, window, &filter);
                    assert_survey(&survey, &wanted, &context);
                    Ok(())
                })
                .unwrap();
        }
    }
}

fn assert_survey(survey: &Survey, wanted: &[&Stored], context: &str) {
    for step in [HOUR / 4, HOUR, 6 * HOUR, DAY, 7 * DAY] {
        let overview = survey.overview(Dimension::ALL, step).unwrap();
        for (dimension, sums) in Dimension::ALL.into_iter().zip(overview.by) {
            let mut expected: BTreeMap<&str, Sums> = BTreeMap::new();
            for call in wanted {
                let value = call.values[dimension as usize].as_str();
                expected.entry(value).or_default().add(&call.sums);
            }
            let given: Vec<&String> = sums.keys().collect();
            assert_eq!(given, expected.keys().collect::<Vec<_>>(), "{context}");
            for (value, sums) in &sums {
                let context = format!("{value:?} by {step} in {context}");
                assert_near(sums, &expected[value.as_str()], &context);
                if dimension == Dimension::Model {
                    assert_near(&overview.models[value].sums, sums, &context);
                }
            }
        }
        let mut expected: BTreeMap<(Micros, &str), Sums> = BTreeMap::new();
        for call in wanted {
            let key = (call.at.div_euclid(step) * step, call.values[0].as_str());
            expected.entry(key).or_default().add(&call.sums);
        }
        let steps = overview.steps;
        let given = steps
            .iter()
            .flat_map(|(at, models)| models.keys().map(|model| (*at, *model)));
        assert_eq!(
            given.collect::<BTreeSet<_>>(),
            expected.keys().copied().collect(),
            "{context}"
        );
        for ((at, model), sums) in &expected {
            assert_near(
                &steps[at][model],
                sums,
                &format!("{model} at {at} by {step} in {context}"),
            );
        }
    }
    let groups = survey.by(Dimension::Model).unwrap();
    for model in model_stats(survey, Percentiles::Exact).unwrap() {
        let mut ms: Vec<f64> = wanted
            .iter()
            .filter(|call| call.values[0] == model.model)
            .filter_map(|call| call.latency_ms)
            .collect();
        ms.sort_unstable_by(f64::total_cmp);
        for (share, given) in [(0.5, model.p50_latency_ms), (0.95, model.p95_latency_ms)] {
            let exact = percentile(&ms, share);
            assert_eq!(given, exact, "{share} of {} in {context}", model.model);
            let near = groups[&model.model]
                .latencies
                .as_ref()
                .and_then(|all| all.percentile(share));
            assert_eq!(near.is_some(), exact.is_some(), "{context}");
            let (near, exact) = (near.unwrap_or(0.0), exact.unwrap_or(0.0));
            assert!(
                (near - exact).abs() <= exact * ERROR + 0.001,
                "{near}, exactly {exact}, in {context}"
            );
        }
    }
}

#[test]
fn sums_are_those_of_all_calls_after_inserts_repeats_enrichments_and_restarts() {
    for seed in 0..3 {
        let folder = Folder::new(&format!("sums-{seed}"));
        let mut dice = Dice(seed * 977 + 3);
        let mut store = folder.open();
        for round in 0..3 {
            for _ in 0..15 {
                let batch = dice.batch();
                store.write(&batch, NOW, Repeat::Merge).unwrap();
                if dice.below(3) == 0 {
                    // The same again: an answer that was lost.
                    store.write(&batch, NOW, Repeat::Merge).unwrap();
                }
                if dice.below(4) == 0 {
                    // Refused as a whole at its last record, new names and all.
                    let mut twice = dice.batch();
                    twice.model_usage = ["new", "newer"]
                        .map(|model| ModelUsage {
                            id: "twice".into(),
                            model: Some(format!("{model}-{round}-{}", dice.0).into()),
                            ..ModelUsage::default()
                        })
                        .into();
                    assert!(store.write(&twice, NOW, Repeat::Refuse).is_err());
                }
            }
            drop(store);
            store = folder.open();
            assert_sums(&store, &format!("seed {seed}, round {round}"));
        }
    }
}

#[test]
fn two_stores_on_one_file_keep_the_same_sums() {
    let folder = Folder::new("sums-two");
    let stores = [folder.open(), folder.open()];
    let mut dice = Dice(11);
    for turn in 0..40 {
        let batch = dice.batch();
        stores[turn % 2].write(&batch, NOW, Repeat::Merge).unwrap();
        // Both read, so that both know series of the other.
        assert_eq!(stored(&stores[0]).len(), stored(&stores[1]).len());
    }
    for store in &stores {
        assert_sums(store, "two stores");
    }
}

#[test]
fn an_upgrade_that_was_interrupted_is_gone_on_with() {
    let folder = Folder::new("sums-upgrade");
    let store = folder.open();
    let mut dice = Dice(5);
    for _ in 0..20 {
        store.write(&dice.batch(), NOW, Repeat::Merge).unwrap();
    }
    let calls = stored(&store).len();
    {
        let mut writer = super::lock(&store.writer);
        let super::Writer {
            connection,
            interner,
        } = &mut *writer;
        connection
            .execute_batch(
                "UPDATE model_usage SET series = NULL, flags = NULL; DELETE FROM usage_hour; DELETE FROM usage_day",
            )
            .unwrap();
        assert_eq!(super::usage::take_in(connection, interner, 30).unwrap(), 30);
    }
    drop(store);
    let store = folder.open();
    assert_eq!(stored(&store).len(), calls);
    assert_sums(&store, "after an upgrade in two starts");
}

#[test]
fn errors_are_counted_by_hour_once() {
    let folder = Folder::new("sums-errors");
    let store = folder.open();
    let error = |id: String, hours: i64, outcome: &str| Metric {
        id: id.into(),
        agent_name: "main".into(),
        name: "model_errors".into(),
        value: 1.0,
        kind: "counter".into(),
        tags: format!(r#"{{"model":"p/a","outcome":"{outcome}"}}"#),
        timestamp: Some(NOW - hours * HOUR - 60_000_000),
        trace_id: None,
        span_id: None,
    };
    let ages = [0, 1, 5, 23, 24, 60];
    let metrics = |outcome: &'static str| -> Vec<Metric> {
        ages.iter()
            .map(|hours| error(format!("{outcome}-{hours}"), *hours, outcome))
            .collect()
    };
    for _ in 0..2 {
        let batch = Batch {
            metrics: [metrics("failed"), metrics("aborted")]
                .into_iter()
                .flatten()
                .collect(),
            ..Batch::default()
        };
        store.write(&batch, NOW, Repeat::Merge).unwrap();
    }
    for (hours, expected) in [(1, 1.0), (3, 2.0), (24, 4.0), (25, 5.0), (720, 6.0)] {
        let window = Window {
            from: NOW - hours * HOUR,
            to: None,
        };
        let found = store
            .read(|c| super::errors::by_model(c, window, None, Some("main")))
            .unwrap();
        assert_eq!(
            (found["p/a"].failed, found["p/a"].aborted),
            (expected, expected),
            "{hours} h"
        );
        let other = store
            .read(|c| super::errors::by_model(c, window, Some("p/b"), None))
            .unwrap();
        assert!(other.is_empty());
    }
}
