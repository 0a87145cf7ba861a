//! Sums equal those of a scan over all calls, whatever happened to the calls.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a failed unwrap is a failed test"
)]

use super::brief::Brief;
use super::cache::Cache;
use super::errors::Errors;
use super::histogram::ERROR;
use super::prompts::{self, Prompts};
use super::query::{Bars, Filter, Survey};
use super::rollup::{CALL_COLUMNS, Call, Count, Sums};
use super::series::{self, DIMENSIONS, Dimension, Number};
use super::sessions;
use super::stats::{Percentiles, model_stats, percentile};
use super::window::Window;
use super::{Repeat, Store};
use crate::clock::{DAY, HOUR, Micros};
use crate::config::Database;
use crate::records::{Batch, Enrichment, Metric, ModelUsage, Prompt};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

/// Noon of some day.
const NOW: Micros = 1_767_225_600_000_000 + 12 * HOUR + 123;

pub struct Dice(pub u64);

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

    /// `None` in one of four cases.
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
            // Few ids, so that many calls are repeated, whole or in part.
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
            channel: self.some(|d| d.of(&["telegram", "webchat"]).into()),
            job: self.some(|d| d.of(&["nightly", "weekly"]).into()),
            session_key: self.some(|d| d.of(&["s1", "s2", "s3"]).into()),
            outcome: self.some(|d| d.of(&["completed", "failed", "aborted"]).into()),
            response_model: self.some(|d| d.of(&["a", "b-2026", "other"]).into()),
            prompt: Prompt {
                chars: [(); 4].map(|()| self.some(|d| d.below(1_000) as i64)),
                cost_usd: self.some(|d| d.below(1_000_000) as f64 / 1e9),
            },
            cache_saved_usd: self.some(|d| d.below(1_000_000) as f64 / 1e9),
            cache_write_extra_usd: self.some(|d| d.below(1_000_000) as f64 / 1e9),
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

    pub fn batch(&mut self) -> Batch<'static> {
        Batch {
            model_usage: (0..self.below(20)).map(|_| self.usage()).collect(),
            enrichments: (0..self.below(6)).map(|_| self.enrichment()).collect(),
            ..Batch::default()
        }
    }
}

/// A file for a database, deleted on drop.
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

/// A call in the table.
pub struct Stored {
    at: Micros,
    pub values: [String; DIMENSIONS],
    session: String,
    prompts: Option<Prompts>,
    cache: Option<Cache>,
    pub sums: Sums,
    latency_ms: Option<f64>,
}

pub fn stored(store: &Store) -> Vec<Stored> {
    store
        .read(|connection| {
            let mut select =
                connection.prepare(&format!("SELECT {CALL_COLUMNS} FROM model_usage"))?;
            let rows = select.query_map([], |row| {
                let call = Call::of_row(row)?;
                Ok(Stored {
                    at: call.timestamp,
                    values: call.values.map(str::to_owned),
                    session: call.session.to_owned(),
                    prompts: Prompts::of(&call),
                    cache: Cache::of(&call),
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
        [None; DIMENSIONS],
        [Some("p/a"), None, None, None, None, None, None],
        [None, Some("main"), None, None, None, None, None],
        [None, None, Some(""), None, Some("g1"), None, None],
        [Some("p/b"), None, None, Some("unknown"), None, None, None],
        [None, None, None, None, None, Some("telegram"), None],
        [None, None, None, None, None, Some(""), Some("nightly")],
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
                    let survey = Survey::new(connection, catalog, window, &filter)?;
                    assert_survey(&survey, &wanted, &context);
                    Ok(())
                })
                .unwrap();
        }
    }
}

fn assert_survey(survey: &Survey, wanted: &[&Stored], context: &str) {
    let connection = survey.connection;
    let name = |dimension, number| series::value(connection, dimension, number).unwrap();
    // The last ones begin with the days of another zone.
    let shifted = [(6 * HOUR, 2 * HOUR), (DAY, 5 * HOUR), (DAY, 11 * HOUR / 2)];
    let even = [HOUR / 4, HOUR, 6 * HOUR, DAY, 7 * DAY].map(|step| (step, 0));
    for (step, shift) in even.into_iter().chain(shifted) {
        let start = |call: &Stored| (call.at - shift).div_euclid(step) * step + shift;
        let starts: BTreeSet<Micros> = wanted.iter().map(|call| start(call)).collect();
        let bars = Bars {
            end: starts.last().map_or(0, |last| last + step),
            starts: starts.into_iter().collect(),
            step,
        };
        let overview = survey.overview(&Dimension::ALL, &bars).unwrap();
        let sum_of = |passes: &dyn Fn(&Stored) -> bool| {
            let mut sums = Sums::default();
            let calls = wanted.iter().filter(|call| passes(call));
            calls.for_each(|call| sums.add(&call.sums));
            sums
        };
        let context = format!("by {step} in {context}");
        assert_near(&overview.total, &sum_of(&|_| true), &context);
        let mut by_bar: BTreeMap<Micros, Sums> = BTreeMap::new();
        for call in wanted {
            by_bar.entry(start(call)).or_default().add(&call.sums);
        }
        for (at, sums) in bars.starts.iter().zip(&overview.bars) {
            assert_near(sums, &by_bar[at], &context);
        }
        for dimension in Dimension::ALL {
            let of = |call: &Stored| call.values[dimension as usize].clone();
            let expected: BTreeSet<String> = wanted.iter().map(|call| of(call)).collect();
            let mut given = BTreeSet::new();
            for (number, brief) in overview.of(dimension) {
                let value = name(dimension, number);
                let sums = sum_of(&|call| of(call) == value);
                let (expected, cost_usd) = (Brief::of(&sums), brief.cost_usd);
                assert!((cost_usd - sums.cost_usd).abs() < 1e-9, "{value} {context}");
                assert_eq!(
                    *brief,
                    Brief {
                        cost_usd,
                        ..expected
                    },
                    "{value} {context}"
                );
                given.insert(value);
            }
            assert_eq!(given, expected, "{context}");
        }
        let models: Vec<Number> = overview.of(Dimension::Model).map(|(n, _)| n).collect();
        let details = survey.details(&models, &models, &bars).unwrap();
        for number in &models {
            let model = name(Dimension::Model, *number);
            let context = format!("{model} {context}");
            let sums = sum_of(&|call| call.values[0] == model);
            assert_near(&details.models[number].sums, &sums, &context);
            let mut by_bar: BTreeMap<Micros, Sums> = BTreeMap::new();
            for call in wanted.iter().filter(|call| call.values[0] == model) {
                by_bar.entry(start(call)).or_default().add(&call.sums);
            }
            for (at, sums) in bars.starts.iter().zip(&details.bars[number]) {
                let expected = by_bar.get(at).cloned().unwrap_or_default();
                assert_near(sums, &expected, &context);
            }
        }
    }
    assert_sessions(survey, wanted, context);
    assert_prompts(survey, wanted, context);
    let none = Bars::default();
    let (models, count) = model_stats(survey, Percentiles::Exact).unwrap();
    assert_eq!(models.len(), count, "{context}");
    let numbers: Vec<Number> = models.iter().map(|model| model.number).collect();
    let groups = survey.details(&numbers, &[], &none).unwrap().models;
    for model in models {
        let mut ms: Vec<f64> = wanted
            .iter()
            .filter(|call| call.values[0] == model.model)
            .filter_map(|call| call.latency_ms)
            .collect();
        ms.sort_unstable_by(f64::total_cmp);
        for (share, given) in [(0.5, model.p50_latency_ms), (0.95, model.p95_latency_ms)] {
            let exact = percentile(&ms, share);
            assert_eq!(given, exact, "{share} of {} in {context}", model.model);
            let near = groups[&model.number].latencies.percentile(share);
            assert_eq!(near.is_some(), exact.is_some(), "{context}");
            let (near, exact) = (near.unwrap_or(0.0), exact.unwrap_or(0.0));
            assert!(
                (near - exact).abs() <= exact * ERROR + 0.001,
                "{near}, exactly {exact}, in {context}"
            );
        }
    }
}

fn assert_sessions(survey: &Survey, wanted: &[&Stored], context: &str) {
    let (ranked, count) = sessions::dearest(survey, 2).unwrap();
    let told = wanted.iter().filter(|call| !call.session.is_empty());
    let mut expected: BTreeMap<&str, Sums> = BTreeMap::new();
    told.for_each(|call| expected.entry(&call.session).or_default().add(&call.sums));
    assert_eq!(count, expected.len(), "{context}");
    assert_eq!(ranked.len(), count.min(2), "{context}");
    let dearest = expected
        .values()
        .map(|sums| sums.cost_usd)
        .fold(0.0, f64::max);
    assert!(
        ranked
            .first()
            .is_none_or(|first| (first.cost_usd - dearest).abs() < 1e-9),
        "{context}"
    );
    for session in &ranked {
        let sums = &expected[session.session.as_str()];
        assert!((session.cost_usd - sums.cost_usd).abs() < 1e-9, "{context}");
        let counts = [
            (session.calls, Count::Calls),
            (session.prompt_tokens, Count::Prompt),
            (session.completion_tokens, Count::Completion),
            (session.unknown_cost, Count::UnknownCost),
        ];
        for (given, count) in counts {
            assert_eq!(given, sums.of(count), "{count:?} in {context}");
        }
    }
}

fn assert_prompts(survey: &Survey, wanted: &[&Stored], context: &str) {
    let bill = prompts::bill(survey, DAY, 100).unwrap();
    let mut by_agent: BTreeMap<&str, Prompts> = BTreeMap::new();
    let mut by_day: BTreeMap<Micros, Prompts> = BTreeMap::new();
    let mut total = Prompts::default();
    let mut cache = Cache::default();
    for call in wanted {
        if let Some(sums) = &call.cache {
            cache.add(sums, 1);
        }
        if let Some(sums) = &call.prompts {
            total.add(sums, 1);
            let agent = call.values[Dimension::Agent as usize].as_str();
            by_agent.entry(agent).or_default().add(sums, 1);
            by_day
                .entry(call.at.div_euclid(DAY) * DAY)
                .or_default()
                .add(sums, 1);
        }
    }
    let near = |given: &Prompts, expected: &Prompts| {
        assert_eq!(given.tokens, expected.tokens, "{context}");
        let counts = |of: &Prompts| (of.calls, of.unpriced);
        assert_eq!(counts(given), counts(expected), "{context}");
        let apart = given
            .usd
            .iter()
            .zip(expected.usd)
            .map(|(a, b)| (a - b).abs());
        assert!(apart.fold(0.0, f64::max) < 1e-9, "{context}: {given:?}");
    };
    near(&bill.total, &total);
    assert_eq!(bill.cache.calls, cache.calls, "{context}");
    for (given, expected) in [
        (bill.cache.saved_usd, cache.saved_usd),
        (bill.cache.write_extra_usd, cache.write_extra_usd),
    ] {
        assert!((given - expected).abs() < 1e-9, "{context}: {given}");
    }
    assert_eq!(bill.by_agent.len(), by_agent.len(), "{context}");
    assert!(
        bill.by_agent
            .is_sorted_by(|(_, a), (_, b)| a.fixed_usd() >= b.fixed_usd())
    );
    for (agent, given) in &bill.by_agent {
        near(given, &by_agent[agent.as_str()]);
    }
    assert!(bill.by_step.keys().eq(by_day.keys()), "{context}");
    for (day, given) in &bill.by_step {
        near(given, &by_day[day]);
    }
}

#[test]
fn sums_equal_all_calls_after_inserts_repeats_enrichments_and_restarts() {
    for seed in 0..3 {
        let folder = Folder::new(&format!("sums-{seed}"));
        let mut dice = Dice(seed * 977 + 3);
        let mut store = folder.open();
        for round in 0..3 {
            for _ in 0..15 {
                let batch = dice.batch();
                store.write(&batch, NOW, Repeat::Merge).unwrap();
                if dice.below(3) == 0 {
                    // The same again, as after a lost answer.
                    store.write(&batch, NOW, Repeat::Merge).unwrap();
                }
                if dice.below(4) == 0 {
                    // Refused as a whole at its last record, including its new names.
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
fn sums_of_calls_with_names_of_their_own_equal_all_calls() {
    let folder = Folder::new("sums-names");
    let store = folder.open();
    let mut dice = Dice(7);
    let model_usage = (0..40).map(|number| {
        let name = |of: &str| Some(format!("{of}{number}").into());
        ModelUsage {
            id: format!("named-{number}").into(),
            model: name("p/m"),
            agent_name: name("a"),
            trigger: name("t"),
            cost_source: name("c"),
            gateway: name("g"),
            channel: name("telegram"),
            job: name("j"),
            ..dice.usage()
        }
    });
    let batch = Batch {
        model_usage: model_usage.collect(),
        ..Batch::default()
    };
    store.write(&batch, NOW, Repeat::Merge).unwrap();
    let fewer = |_: &_, catalog: &series::Catalog| Ok(catalog.has_fewer_wholes());
    assert!(store.survey(fewer).unwrap());
    let survey = |connection: &_, catalog: &_| {
        let (window, filter) = (Window { from: 0, to: None }, Filter::default());
        let survey = Survey::new(connection, catalog, window, &filter)?;
        let bill = prompts::bill(&survey, DAY, 3)?;
        let all = prompts::bill(&survey, DAY, 100)?;
        assert_eq!(bill.by_agent, all.by_agent[..3]);
        let mut sum = bill.rest.1;
        bill.by_agent.iter().for_each(|(_, one)| sum.add(one, 1));
        assert_eq!((sum.calls, sum.tokens), (all.total.calls, all.total.tokens));
        assert_eq!(bill.rest.0 + 3, all.by_agent.len());
        Ok(())
    };
    store.survey(survey).unwrap();
    assert_sums(&store, "names of their own");
}

#[test]
fn two_stores_on_one_file_have_equal_sums() {
    let folder = Folder::new("sums-two");
    let stores = [folder.open(), folder.open()];
    let mut dice = Dice(11);
    for turn in 0..40 {
        let batch = dice.batch();
        stores[turn % 2].write(&batch, NOW, Repeat::Merge).unwrap();
        // Both read, so that each has read the other's series.
        assert_eq!(stored(&stores[0]).len(), stored(&stores[1]).len());
    }
    for store in &stores {
        assert_sums(store, "two stores");
    }
}

#[test]
fn an_interrupted_upgrade_continues() {
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
                "UPDATE model_usage SET series = NULL, flags = NULL; DELETE FROM usage_hour; DELETE FROM usage_day;
                 DELETE FROM session_hour; DELETE FROM prompt_hour; DELETE FROM cache_hour",
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
        let found = |model: Option<&str>, agent: Option<&str>| {
            let mut found = Vec::new();
            let take = |name: &str, errors: Errors| {
                found.push((name.to_owned(), errors.failed, errors.aborted));
                Ok(())
            };
            let each = |c: &_| super::errors::each_model(c, window, model, agent, take);
            store.read(each).unwrap();
            found
        };
        let once = [("p/a".to_owned(), expected, expected)];
        assert_eq!(found(None, Some("main")), once, "{hours} h");
        assert_eq!(found(Some("p/a"), None), once, "{hours} h");
        assert!(found(Some("p/b"), None).is_empty());
        assert!(found(None, Some("other")).is_empty());
    }
}

#[test]
fn cached_figures_are_valid_until_the_sums_change() {
    let folder = Folder::new("sums-kept");
    let stores = [folder.open(), folder.open()];
    let mut dice = Dice(23);
    let (window, filter) = (Window { from: 0, to: None }, Filter::default());
    let calls = |store: &Store| -> u32 {
        let survey = |connection: &_, catalog: &_| {
            let survey = Survey::new(connection, catalog, window, &filter)?;
            let overview = survey.overview(&[Dimension::Model], &Bars::default())?;
            Ok(overview.of(Dimension::Model).map(|(_, b)| b.calls).sum())
        };
        store.survey(survey).unwrap()
    };
    for turn in 0..6 {
        stores[turn % 2]
            .write(&dice.batch(), NOW, Repeat::Merge)
            .unwrap();
        let expected = stored(&stores[0]).len();
        // Both count it, whichever wrote it; the second time from the cache.
        for store in [&stores[0], &stores[1], &stores[0]] {
            assert_eq!(calls(store) as usize, expected, "turn {turn}");
        }
    }
}
