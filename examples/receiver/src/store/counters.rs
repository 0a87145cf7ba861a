//! Counters since the start of the process, for Prometheus.
//!
//! They come from the changes of the sums ([`super::rollup`]), after their transaction.

use super::histogram::Change;
use super::rollup::{Count, Sums};
use super::series::WHOLE;
use crate::clock::{DAY, Micros};
use agentwatch_openclaw::delivery::prometheus::counters::{
    Counters, FIGURES, Names, SERIES_MOST, SOURCES_MOST, cut,
};
use rusqlite::{Connection, Result};
use std::collections::BTreeMap;

/// Combinations with calls in this time before the start are there from the start, with zeros: without them Prometheus
/// would not see the first call after a restart.
const RECENT: Micros = 7 * DAY;

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

/// Changes of the figures, in their order.
fn changes(sums: &Sums) -> [i64; FIGURES] {
    let of = |count| sums.of(count);
    let minus = i64::saturating_sub;
    let (failed, aborted) = (of(Count::Failed), of(Count::Aborted));
    let (read, write) = (of(Count::CacheRead), of(Count::CacheWrite));
    let reasoning = of(Count::Reasoning);
    [
        minus(minus(of(Count::Calls), failed), aborted),
        failed,
        aborted,
        minus(minus(of(Count::Prompt), read), write),
        read,
        write,
        minus(of(Count::Completion), reasoning),
        reasoning,
        of(Count::CacheTold),
        of(Count::UnknownCost),
    ]
}

/// Zeros for the combinations of the days before `now`.
///
/// # Errors
/// The SQLite error.
pub fn recent(connection: &Connection, now: Micros) -> Result<Counters> {
    let mut counters = Counters::default();
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
    add(&mut counters, &zeros);
    Ok(counters)
}

/// Adds what a committed transaction has changed.
pub fn add(counters: &mut Counters, addition: &Addition) {
    // Together first: a call whose source of cost changes leaves one series for another, and stays one call.
    let mut all: BTreeMap<&Names, (Sums, Change)> = BTreeMap::new();
    for counted in &addition.calls {
        let (sums, durations) = all.entry(&counted.names).or_default();
        sums.add(&counted.sums);
        durations.merge(&counted.durations);
    }
    for (names, (sums, durations)) in all {
        let added = durations.added();
        counters.add(names, &changes(&sums), added, sums.latency_ms);
    }
    for counted in &addition.calls {
        let cost_usd = counted.sums.cost_usd;
        counters.add_cost(&counted.names, &counted.cost_source, cost_usd);
    }
    for failure in &addition.failures {
        let Failure {
            agent,
            model,
            is_aborted,
            errors,
        } = failure;
        counters.fail(agent, model, *is_aborted, *errors);
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
