//! Sums of the calls that a filter selects, from days and hours where these are whole, else from single calls.

use super::histogram::Histogram;
use super::rollup::{Call, Count, SUMS, Sums};
use super::series::{Catalog, Dimension, Series, WHOLE};
use super::window::{Range, Window};
use crate::clock::{DAY, HOUR, Micros};
use rusqlite::{Connection, Result};
use std::collections::{BTreeMap, HashMap};
use std::sync::LazyLock;

/// Which calls: those whose dimensions have these values, where one is given. An empty value is one that was not told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter(pub [Option<String>; 5]);

impl Filter {
    /// What a dimension has to be.
    pub fn get(&self, dimension: Dimension) -> Option<&str> {
        self.0[dimension as usize].as_deref()
    }

    /// Whether all calls pass.
    pub fn is_open(&self) -> bool {
        self.0.iter().all(Option::is_none)
    }

    /// Whether it asks for no dimension but this.
    fn is_only(&self, dimension: Dimension) -> bool {
        Dimension::ALL
            .into_iter()
            .all(|other| other == dimension || self.get(other).is_none())
    }

    fn passes(&self, series: &Series) -> bool {
        self.0
            .iter()
            .zip(&series.0)
            .all(|(wanted, value)| wanted.as_ref().is_none_or(|wanted| wanted == value))
    }
}

/// The calls to be summed.
#[derive(Clone, Copy)]
pub struct Survey<'a> {
    pub connection: &'a Connection,
    pub catalog: &'a Catalog,
    pub window: Window,
    pub filter: &'a Filter,
}

/// Sums and latencies of one value of a dimension.
#[derive(Clone, Debug, Default)]
pub struct Group {
    pub sums: Sums,
    /// Only by model.
    pub latencies: Option<Box<Histogram>>,
}

impl Group {
    /// Mean latency in ms; none where no call was timed.
    pub fn average(&self) -> Option<f64> {
        let timed = self.sums.of(Count::Timed);
        (timed > 0).then(|| self.sums.latency_ms / timed as f64)
    }
}

/// A part of the sums: of a series in the hour or the day from `start` on, or a single call at `start`.
struct Piece<'a, 'p> {
    series: &'a Series,
    start: Micros,
    sums: &'p Sums,
    latencies: Latencies<'p>,
}

enum Latencies<'a> {
    Untold,
    One(f64),
    Packed(&'a [u8]),
}

/// The series to add up, by number.
struct Wanted<'a> {
    /// Of which kind the sums are: of a dimension alone where that is enough, else whole.
    kind: i64,
    sums: HashMap<i64, &'a Series>,
    /// Whole series, for single calls.
    whole: Vec<(i64, &'a Series)>,
}

impl<'a> Survey<'a> {
    /// The numbers of the whole series that pass.
    pub fn whole_series(&self) -> Vec<(i64, &'a Series)> {
        self.of_kind(WHOLE)
    }

    fn of_kind(&self, wanted: i64) -> Vec<(i64, &'a Series)> {
        let passing = |series: &Series| match wanted {
            WHOLE => self.filter.passes(series),
            // Of a dimension alone the others are empty.
            kind => {
                let index = kind as usize - 1;
                self.filter.0[index]
                    .as_ref()
                    .is_none_or(|value| *value == series.0[index])
            }
        };
        let all = self.catalog.series.iter();
        let mut found: Vec<_> = all
            .filter(|(_, (kind, series))| *kind == wanted && passing(series))
            .map(|(id, (_, series))| (*id, series))
            .collect();
        found.sort_unstable_by_key(|(id, _)| *id);
        found
    }

    fn wanted(&self, dimension: Option<Dimension>) -> Wanted<'a> {
        let whole = self.whole_series();
        let alone = dimension.filter(|dimension| self.filter.is_only(*dimension));
        let kind = alone.map_or(WHOLE, Dimension::kind);
        let sums = if kind == WHOLE {
            whole.iter().copied().collect()
        } else {
            self.of_kind(kind).into_iter().collect()
        };
        Wanted { kind, sums, whole }
    }

    /// Sums by one dimension. Of the model there are percentiles too.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn by(&self, dimension: Dimension) -> Result<BTreeMap<String, Group>> {
        let wanted = self.wanted(Some(dimension));
        let mut groups: HashMap<&str, Group> = HashMap::new();
        self.visit(&wanted, DAY, |piece| {
            let group = groups.entry(piece.series.get(dimension)).or_default();
            group.sums.add(piece.sums);
            if dimension == Dimension::Model {
                let latencies = group.latencies.get_or_insert_default();
                match piece.latencies {
                    Latencies::Untold => {}
                    Latencies::One(ms) => latencies.add(ms),
                    Latencies::Packed(packed) => latencies.add_packed(packed),
                }
            }
        })?;
        Ok(groups
            .into_iter()
            .filter(|(_, group)| group.sums.of(Count::Calls) > 0)
            .map(|(value, group)| (value.to_owned(), group))
            .collect())
    }

    /// Sums by each of several dimensions. Where the filter lets no single dimension do, the calls are gone through once.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn by_each<const N: usize>(
        &self,
        dimensions: [Dimension; N],
    ) -> Result<[BTreeMap<String, Sums>; N]> {
        let mut all = [const { BTreeMap::new() }; N];
        let mut rest = Vec::new();
        for (index, dimension) in dimensions.into_iter().enumerate() {
            if self.filter.is_only(dimension) {
                let groups = self.by(dimension)?;
                all[index] = groups
                    .into_iter()
                    .map(|(value, group)| (value, group.sums))
                    .collect();
            } else {
                rest.push((index, dimension));
            }
        }
        if !rest.is_empty() {
            let mut by_series: HashMap<&Series, Sums> = HashMap::new();
            self.visit(&self.wanted(None), DAY, |piece| {
                by_series.entry(piece.series).or_default().add(piece.sums);
            })?;
            for (series, sums) in by_series
                .iter()
                .filter(|(_, sums)| sums.of(Count::Calls) > 0)
            {
                for (index, dimension) in &rest {
                    all[*index]
                        .entry(series.get(*dimension).to_owned())
                        .or_insert_with(Sums::default)
                        .add(sums);
                }
            }
        }
        Ok(all)
    }

    /// Sums by model in each `step` of time, by the step's start.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn over_time(&self, step: Micros) -> Result<BTreeMap<Micros, HashMap<&'a str, Sums>>> {
        let wanted = self.wanted(Some(Dimension::Model));
        let mut steps: BTreeMap<Micros, HashMap<&str, Sums>> = BTreeMap::new();
        self.visit(&wanted, step, |piece| {
            let start = piece.start.div_euclid(step) * step;
            let models = steps.entry(start).or_default();
            models
                .entry(piece.series.get(Dimension::Model))
                .or_default()
                .add(piece.sums);
        })?;
        Ok(steps)
    }

    /// All latencies by model, from the single calls.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn latencies(&self) -> Result<HashMap<&'a str, Vec<f64>>> {
        let mut models: HashMap<&str, Vec<f64>> = HashMap::new();
        let mut statement = self.connection.prepare_cached(
            "SELECT latency_ms FROM model_usage
             WHERE series = ?1 AND timestamp >= ?2 AND timestamp < ?3 AND latency_ms IS NOT NULL",
        )?;
        for (id, series) in self.whole_series() {
            let all = models.entry(series.get(Dimension::Model)).or_default();
            let mut rows = statement.query((id, self.window.from, self.window.end()))?;
            while let Some(row) = rows.next()? {
                all.push(row.get(0)?);
            }
        }
        Ok(models)
    }

    /// Goes through the sums in parts no longer than `longest`.
    fn visit(
        &self,
        wanted: &Wanted<'a>,
        longest: Micros,
        mut take: impl FnMut(Piece<'a, '_>),
    ) -> Result<()> {
        let whole = Range {
            from: self.window.from,
            to: self.window.end(),
        };
        let parts = self.window.parts();
        if longest % HOUR != 0 {
            return self.single(&wanted.whole, whole, &mut take);
        }
        for range in &parts.edges {
            self.single(&wanted.whole, *range, &mut take)?;
        }
        let days = if longest % DAY == 0 {
            &BY_DAY
        } else {
            &BY_HOUR
        };
        for range in &parts.hours {
            self.summed(&BY_HOUR, wanted, *range, &mut take)?;
        }
        for range in &parts.days {
            self.summed(days, wanted, *range, &mut take)?;
        }
        Ok(())
    }

    fn summed(
        &self,
        sql: &str,
        wanted: &Wanted<'a>,
        range: Range,
        take: &mut impl FnMut(Piece<'a, '_>),
    ) -> Result<()> {
        let mut statement = self.connection.prepare_cached(sql)?;
        let mut rows = statement.query((wanted.kind, range.from, range.to))?;
        while let Some(row) = rows.next()? {
            let Some(series) = wanted.sums.get(&row.get(2)?) else {
                continue;
            };
            let latencies = row.get_ref(1)?.as_blob_or_null()?;
            take(Piece {
                series,
                start: row.get(0)?,
                sums: &Sums::of_row(row, 3)?,
                latencies: latencies.map_or(Latencies::Untold, Latencies::Packed),
            });
        }
        Ok(())
    }

    fn single(
        &self,
        wanted: &[(i64, &'a Series)],
        range: Range,
        take: &mut impl FnMut(Piece<'a, '_>),
    ) -> Result<()> {
        let mut statement = self.connection.prepare_cached(
            "SELECT timestamp, latency_ms, prompt_tokens, completion_tokens, cost_usd, flags, cache_read_tokens,
                 cache_write_tokens, reasoning_tokens
             FROM model_usage WHERE series = ?1 AND timestamp >= ?2 AND timestamp < ?3",
        )?;
        for (id, series) in wanted {
            let values = [0, 1, 2, 3, 4].map(|index| series.0[index].as_str());
            let mut rows = statement.query((id, range.from, range.to))?;
            while let Some(row) = rows.next()? {
                let call = Call {
                    timestamp: row.get(0)?,
                    values,
                    latency_ms: row.get(1)?,
                    prompt: row.get(2)?,
                    completion: row.get(3)?,
                    cost_usd: row.get(4)?,
                    flags: row.get(5)?,
                    cache_read: row.get(6)?,
                    cache_write: row.get(7)?,
                    reasoning: row.get(8)?,
                };
                take(Piece {
                    series,
                    start: call.timestamp,
                    sums: &call.sums(),
                    latencies: call.latency_ms.map_or(Latencies::Untold, Latencies::One),
                });
            }
        }
        Ok(())
    }
}

fn by_table(table: &str) -> String {
    format!(
        "SELECT start, latencies, series, {} FROM {table} WHERE kind = ?1 AND start >= ?2 AND start < ?3",
        *SUMS
    )
}

static BY_HOUR: LazyLock<String> = LazyLock::new(|| by_table("usage_hour"));
static BY_DAY: LazyLock<String> = LazyLock::new(|| by_table("usage_day"));
