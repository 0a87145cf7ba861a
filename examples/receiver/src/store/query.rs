//! Sums of the calls that a filter selects, from days and hours where these are whole, else from single calls.

use super::histogram::Histogram;
use super::rollup::{Call, Count, SUMS, Sums};
use super::series::{Catalog, Dimension, Series, WHOLE};
use super::singles::Singles;
use super::window::{Range, Window};
use crate::clock::{DAY, HOUR, Micros};
use rusqlite::{Connection, Result};
use std::cell::OnceCell;
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
pub struct Survey<'a> {
    pub connection: &'a Connection,
    pub catalog: &'a Catalog,
    pub window: Window,
    pub filter: &'a Filter,
    /// The calls at the window's ends, once they were read: every sum wants them.
    edges: OnceCell<Vec<Single<'a>>>,
}

/// One call.
struct Single<'a> {
    series: &'a Series,
    at: Micros,
    sums: Sums,
    latency_ms: Option<f64>,
}

/// Sums by model and step of time, of any string that lives as long as the catalogue.
type Steps<'a> = BTreeMap<Micros, HashMap<&'a str, Sums>>;

/// All that is shown of the calls together.
pub struct Overview<'a, const N: usize> {
    /// By model.
    pub models: BTreeMap<String, Group>,
    /// By each of the dimensions that were asked for.
    pub by: [BTreeMap<String, Sums>; N],
    /// By the start of each step in which there were calls.
    pub steps: Steps<'a>,
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
    /// Of the calls in `window` those that pass `filter`.
    pub fn new(
        connection: &'a Connection,
        catalog: &'a Catalog,
        window: Window,
        filter: &'a Filter,
    ) -> Self {
        Self {
            connection,
            catalog,
            window,
            filter,
            edges: OnceCell::new(),
        }
    }

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

    /// Whether there are no more than `most` calls in the window, whatever the filter.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn is_small(&self, most: i64) -> Result<bool> {
        let count: i64 = self
            .connection
            .prepare_cached(
                "SELECT count(*) FROM (SELECT 1 FROM model_usage WHERE timestamp >= ?1 AND timestamp < ?2 LIMIT ?3)",
            )?
            .query_row((self.window.from, self.window.end(), most + 1), |row| row.get(0))?;
        Ok(count <= most)
    }

    /// Sums by one dimension. Of the model there are percentiles too.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn by(&self, dimension: Dimension) -> Result<BTreeMap<String, Group>> {
        let mut groups = Groups::default();
        self.visit(&self.wanted(Some(dimension)), DAY, |piece| {
            groups.add(dimension, &piece);
        })?;
        Ok(groups.finish())
    }

    /// Sums by model, by other dimensions and by model in each `step` of time. The calls are gone through once for all of
    /// it where the filter lets no single dimension do.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn overview<const N: usize>(
        &self,
        dimensions: [Dimension; N],
        step: Micros,
    ) -> Result<Overview<'a, N>> {
        let wanted = self.wanted(Some(Dimension::Model));
        let mut models = Groups::default();
        let mut steps = Steps::new();
        let mut whole: HashMap<&Series, Sums> = HashMap::new();
        self.visit(&wanted, step, |piece| {
            models.add(Dimension::Model, &piece);
            let start = piece.start.div_euclid(step) * step;
            let model = piece.series.get(Dimension::Model);
            let sums = steps.entry(start).or_default().entry(model).or_default();
            sums.add(piece.sums);
            if wanted.kind == WHOLE {
                whole.entry(piece.series).or_default().add(piece.sums);
            }
        })?;
        let mut by = [const { BTreeMap::new() }; N];
        let is_alone = |dimension: &Dimension| self.filter.is_only(*dimension);
        if wanted.kind != WHOLE && !dimensions.iter().all(is_alone) {
            self.visit(&self.wanted(None), DAY, |piece| {
                whole.entry(piece.series).or_default().add(piece.sums);
            })?;
        }
        for (sums, dimension) in by.iter_mut().zip(dimensions) {
            if is_alone(&dimension) {
                let groups = self.by(dimension)?.into_iter();
                *sums = groups.map(|(value, group)| (value, group.sums)).collect();
                continue;
            }
            for (series, more) in whole.iter().filter(|(_, sums)| sums.of(Count::Calls) > 0) {
                let value = series.get(dimension).to_owned();
                sums.entry(value).or_insert_with(Sums::default).add(more);
            }
        }
        Ok(Overview {
            models: models.finish(),
            by,
            steps,
        })
    }

    /// All latencies by model, from the single calls.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn latencies(&self) -> Result<HashMap<&'a str, Vec<f64>>> {
        let mut of_series: HashMap<i64, Vec<f64>> = HashMap::new();
        self.singles().each("latency_ms", |(number, _), row| {
            if let Some(ms) = row.get(1)? {
                of_series.entry(number).or_default().push(ms);
            }
            Ok(())
        })?;
        let mut models: HashMap<&str, Vec<f64>> = HashMap::new();
        for (number, series) in self.whole_series() {
            let all = models.entry(series.get(Dimension::Model)).or_default();
            all.append(of_series.entry(number).or_default());
        }
        Ok(models)
    }

    /// The single calls.
    pub fn singles(&self) -> Singles<'a, 'a> {
        let Window { from, .. } = self.window;
        let to = self.window.end();
        Singles::new(self.connection, self.whole_series(), Range { from, to })
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
            self.single(&wanted.whole, whole)?
                .iter()
                .for_each(|call| take(call.piece()));
            return Ok(());
        }
        if self.edges.get().is_none() {
            let mut calls = Vec::new();
            for range in &parts.edges {
                calls.append(&mut self.single(&wanted.whole, *range)?);
            }
            let _ = self.edges.set(calls);
        }
        for call in self.edges.get().into_iter().flatten() {
            take(call.piece());
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

    fn single(&self, wanted: &[(i64, &'a Series)], range: Range) -> Result<Vec<Single<'a>>> {
        const COLUMNS: &str =
            "timestamp, latency_ms, prompt_tokens, completion_tokens, cost_usd, flags,
            cache_read_tokens, cache_write_tokens, reasoning_tokens";
        let mut calls = Vec::new();
        Singles::new(self.connection, wanted.iter().copied(), range).each(
            COLUMNS,
            |(_, series), row| {
                let call = Call {
                    timestamp: row.get(1)?,
                    values: [0, 1, 2, 3, 4].map(|index| series.0[index].as_str()),
                    latency_ms: row.get(2)?,
                    prompt: row.get(3)?,
                    completion: row.get(4)?,
                    cost_usd: row.get(5)?,
                    flags: row.get(6)?,
                    cache_read: row.get(7)?,
                    cache_write: row.get(8)?,
                    reasoning: row.get(9)?,
                };
                calls.push(Single {
                    series,
                    at: call.timestamp,
                    sums: call.sums(),
                    latency_ms: call.latency_ms,
                });
                Ok(())
            },
        )?;
        Ok(calls)
    }
}

impl<'a> Single<'a> {
    fn piece(&self) -> Piece<'a, '_> {
        Piece {
            series: self.series,
            start: self.at,
            sums: &self.sums,
            latencies: self.latency_ms.map_or(Latencies::Untold, Latencies::One),
        }
    }
}

/// Groups that are being added up.
#[derive(Default)]
struct Groups<'a>(HashMap<&'a str, Group>);

impl<'a> Groups<'a> {
    fn add(&mut self, dimension: Dimension, piece: &Piece<'a, '_>) {
        let group = self.0.entry(piece.series.get(dimension)).or_default();
        group.sums.add(piece.sums);
        if dimension == Dimension::Model {
            let latencies = group.latencies.get_or_insert_default();
            match piece.latencies {
                Latencies::Untold => {}
                Latencies::One(ms) => latencies.add(ms),
                Latencies::Packed(packed) => latencies.add_packed(packed),
            }
        }
    }

    fn finish(self) -> BTreeMap<String, Group> {
        let groups = self.0.into_iter();
        let groups = groups.filter(|(_, group)| group.sums.of(Count::Calls) > 0);
        groups
            .map(|(value, group)| (value.to_owned(), group))
            .collect()
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
