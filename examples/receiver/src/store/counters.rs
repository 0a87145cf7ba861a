//! Counters since the start of the process, for Prometheus: kept in memory, so that reading them costs nothing per call.
//!
//! They come from the changes of the sums ([`super::rollup`]), after their transaction. A counter never falls: when a
//! stored call changes later, what it loses is added to a second counter, of withdrawn figures. The difference of the two
//! is the sum of the stored calls.

use super::histogram::Change;
use super::rollup::{Count, Sums};
use super::series::WHOLE;
use crate::clock::{DAY, Micros};
use rusqlite::{Connection, Result};
use std::collections::BTreeMap;

/// Maximum number of combinations of gateway, agent and model. The calls of others are counted under [`OTHER`].
pub const SERIES_MOST: usize = 500;
/// Maximum number of combinations of gateway and model with a histogram of durations.
pub const DURATIONS_MOST: usize = 200;
/// Maximum number of sources of cost of a combination.
pub const SOURCES_MOST: usize = 16;
/// Maximum number of characters of a name; longer names are cut, and counted as one where the beginnings are equal.
const NAME_MOST: usize = 128;
/// Stands for all names without counters of their own.
pub const OTHER: &str = "(other)";
/// Combinations with calls in this time before the start are there from the start, with zeros: without them Prometheus
/// would not see the first call after a restart.
const RECENT: Micros = 7 * DAY;
/// Upper bounds of the buckets of durations, in seconds.
pub const BOUNDS: [f64; 12] = [
    0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 60.0, 120.0, 300.0,
];

/// Figures of a combination. Each call is in one of the first three, each token in one of the next five.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Figure {
    Completed,
    Failed,
    Aborted,
    /// Input tokens that were neither read from the provider's cache nor written to it.
    Input,
    CacheRead,
    CacheWrite,
    /// Output tokens without reasoning.
    Output,
    Reasoning,
    /// Input tokens of calls that report caching.
    CacheTold,
    /// Calls without a known cost.
    Unpriced,
}

const FIGURES: usize = Figure::Unpriced as usize + 1;

/// Gateway, agent and model, as sent.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Names {
    pub gateway: String,
    pub agent: String,
    pub model: String,
}

impl Names {
    fn other() -> Self {
        let other = || OTHER.to_owned();
        Self {
            gateway: other(),
            agent: other(),
            model: other(),
        }
    }
}

/// A counter, and the counter of what was withdrawn from it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Pair<T> {
    pub added: T,
    pub withdrawn: T,
}

impl Pair<u64> {
    fn add(&mut self, change: i64) {
        let side = if change < 0 {
            &mut self.withdrawn
        } else {
            &mut self.added
        };
        *side = side.saturating_add(change.unsigned_abs());
    }
}

impl Pair<f64> {
    fn add(&mut self, change: f64) {
        if change < 0.0 {
            self.withdrawn -= change;
        } else {
            self.added += change;
        }
    }
}

/// Counters of a combination.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tally {
    figures: [Pair<u64>; FIGURES],
    /// US dollars by source of the cost.
    pub cost_usd: BTreeMap<String, Pair<f64>>,
}

impl Tally {
    /// One counter.
    pub fn of(&self, figure: Figure) -> Pair<u64> {
        self.figures[figure as usize]
    }

    fn add(&mut self, sums: &Sums) {
        let of = |count| sums.of(count);
        let minus = i64::saturating_sub;
        let (failed, aborted) = (of(Count::Failed), of(Count::Aborted));
        let (read, write) = (of(Count::CacheRead), of(Count::CacheWrite));
        let reasoning = of(Count::Reasoning);
        let changes = [
            (
                Figure::Completed,
                minus(minus(of(Count::Calls), failed), aborted),
            ),
            (Figure::Failed, failed),
            (Figure::Aborted, aborted),
            (Figure::Input, minus(minus(of(Count::Prompt), read), write)),
            (Figure::CacheRead, read),
            (Figure::CacheWrite, write),
            (Figure::Output, minus(of(Count::Completion), reasoning)),
            (Figure::Reasoning, reasoning),
            (Figure::CacheTold, of(Count::CacheTold)),
            (Figure::Unpriced, of(Count::UnknownCost)),
        ];
        for (figure, change) in changes {
            self.figures[figure as usize].add(change);
        }
    }

    fn add_cost(&mut self, source: &str, cost_usd: f64) {
        let is_full = self.cost_usd.len() >= SOURCES_MOST && !self.cost_usd.contains_key(source);
        let source = if is_full { OTHER } else { source };
        let cost = self.cost_usd.entry(source.to_owned()).or_default();
        // Stock mode accepts huge costs, whose sum is no number.
        if cost_usd.is_finite() {
            cost.add(cost_usd);
        }
    }
}

/// A histogram of durations as Prometheus has them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Durations {
    /// Calls by bucket, each alone; the last one has no upper bound.
    pub buckets: [u64; BOUNDS.len() + 1],
    /// Seconds.
    pub sum: f64,
}

impl Durations {
    fn add(&mut self, sums: &Sums, change: &Change) {
        // A histogram has no withdrawn side: of a changed duration the earlier value stays.
        for (ms, calls) in change.added() {
            let seconds = ms / 1000.0;
            let place = BOUNDS.iter().take_while(|bound| seconds > **bound).count();
            self.buckets[place] = self.buckets[place].saturating_add(calls);
        }
        self.sum += sums.latency_ms.max(0.0) / 1000.0;
    }
}

/// All counters.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Counters {
    pub calls: BTreeMap<Names, Tally>,
    /// By gateway and model.
    pub durations: BTreeMap<(String, String), Durations>,
    /// The metric `model_errors`, by agent, model and whether the client stopped the call.
    pub errors: BTreeMap<(String, String, bool), f64>,
    /// Calls and errors that were counted under [`OTHER`].
    pub left_out: u64,
}

/// A change of the sums by one combination of all dimensions.
#[derive(Debug)]
pub struct Counted {
    pub names: Names,
    pub cost_source: String,
    pub sums: Sums,
    pub durations: Change,
}

/// Points of the metric `model_errors`.
#[derive(Debug)]
pub struct Failure {
    pub agent: String,
    pub model: String,
    pub is_aborted: bool,
    pub errors: f64,
}

/// What a transaction adds to the counters.
#[derive(Debug, Default)]
pub struct Addition {
    pub calls: Vec<Counted>,
    pub failures: Vec<Failure>,
}

impl Counters {
    /// Zeros for the combinations of the days before `now`.
    ///
    /// # Errors
    /// The SQLite error.
    pub fn recent(connection: &Connection, now: Micros) -> Result<Self> {
        let mut counters = Self::default();
        let mut select = connection.prepare(
            "SELECT DISTINCT series FROM usage_day WHERE kind = ?1 AND start >= ?2 AND start <= ?3 LIMIT ?4",
        )?;
        let from = now.saturating_sub(RECENT);
        // A combination has several series, by trigger and by source of cost.
        let most = (SERIES_MOST * SOURCES_MOST) as i64;
        let mut rows = select.query((WHOLE, from, now, most))?;
        let mut zeros = Addition::default();
        while let Some(row) = rows.next()? {
            let (sums, none) = (Sums::default(), Change::default());
            zeros
                .calls
                .push(counted(connection, row.get(0)?, sums, none)?);
        }
        counters.add(&zeros);
        Ok(counters)
    }

    /// Adds what a committed transaction has changed.
    pub fn add(&mut self, addition: &Addition) {
        // Together first: a call whose source of cost changes leaves one series for another, and stays one call.
        let mut all: BTreeMap<&Names, (Sums, Change)> = BTreeMap::new();
        for counted in &addition.calls {
            let (sums, durations) = all.entry(&counted.names).or_default();
            sums.add(&counted.sums);
            durations.merge(&counted.durations);
        }
        for (names, (sums, durations)) in all {
            let key = self.key(names);
            if key != *names {
                self.leave_out(sums.of(Count::Calls));
            }
            self.calls.entry(key).or_default().add(&sums);
            let mut key = (names.gateway.clone(), names.model.clone());
            if self.durations.len() >= DURATIONS_MOST && !self.durations.contains_key(&key) {
                key = (OTHER.to_owned(), OTHER.to_owned());
            }
            let found = self.durations.entry(key).or_default();
            found.add(&sums, &durations);
            // So that the first failure of a model in use is an increase.
            for is_aborted in [false, true] {
                let key = (names.agent.clone(), names.model.clone(), is_aborted);
                if self.errors.len() < SERIES_MOST {
                    self.errors.entry(key).or_default();
                }
            }
        }
        for counted in &addition.calls {
            let key = self.key(&counted.names);
            let tally = self.calls.entry(key).or_default();
            tally.add_cost(&counted.cost_source, counted.sums.cost_usd);
        }
        for failure in &addition.failures {
            self.fail(failure);
        }
    }

    /// The names under which a call is counted.
    fn key(&self, names: &Names) -> Names {
        if self.calls.len() < SERIES_MOST || self.calls.contains_key(names) {
            names.clone()
        } else {
            Names::other()
        }
    }

    fn fail(&mut self, failure: &Failure) {
        let (agent, model) = (cut(&failure.agent), cut(&failure.model));
        let mut key = (agent.to_owned(), model.to_owned(), failure.is_aborted);
        if self.errors.len() >= SERIES_MOST && !self.errors.contains_key(&key) {
            self.leave_out(1);
            key = (OTHER.to_owned(), OTHER.to_owned(), failure.is_aborted);
        }
        // A counter does not fall.
        if failure.errors.is_finite() && failure.errors > 0.0 {
            *self.errors.entry(key).or_default() += failure.errors;
        }
    }

    fn leave_out(&mut self, calls: i64) {
        self.left_out = self.left_out.saturating_add(calls.max(0).unsigned_abs());
    }
}

/// A change with the names of its series.
///
/// # Errors
/// The SQLite error.
pub fn counted(
    connection: &Connection,
    series: i64,
    sums: Sums,
    durations: Change,
) -> Result<Counted> {
    connection
        .prepare_cached("SELECT gateway, agent, model, cost_source FROM series WHERE id = ?1")?
        .query_row([series], |row| {
            let name = |index| Ok::<_, rusqlite::Error>(cut(row.get_ref(index)?.as_str()?).into());
            let names = Names {
                gateway: name(0)?,
                agent: name(1)?,
                model: name(2)?,
            };
            Ok(Counted {
                names,
                cost_source: name(3)?,
                sums,
                durations,
            })
        })
}

fn cut(name: &str) -> &str {
    match name.char_indices().nth(NAME_MOST) {
        Some((end, _)) => &name[..end],
        None => name,
    }
}
