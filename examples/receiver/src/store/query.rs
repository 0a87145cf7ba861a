//! Sums of the calls that a filter selects, from days and hours where these are whole, else from single calls.
//!
//! Two passes. The first ([`Survey::overview`]) counts every value in forty bytes, by the number of its series and without its
//! name. The second ([`Survey::details`]) reads all that is known of the few values that are shown.

use super::histogram::Histogram;
use super::rollup::{Call, Count, SUMS, Sums};
use super::series::{self, Catalog, Dimension, EVERYTHING, NONE, Number, WHOLE};
use super::singles::Singles;
use super::window::{Range, Window};
use crate::clock::{DAY, HOUR, Micros};
use rusqlite::{Connection, Result, Row};
use std::cell::OnceCell;
use std::cmp::Ordering;
use std::collections::HashMap;

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
}

/// The calls to be summed.
pub struct Survey<'a> {
    pub connection: &'a Connection,
    pub catalog: &'a Catalog,
    pub window: Window,
    pub filter: &'a Filter,
    /// The filter's values by their numbers.
    wanted: [Option<Number>; 5],
    few: OnceCell<Option<Vec<Number>>>,
}

/// The bars of charts: where each begins, ascending, and how much time it stands for.
#[derive(Clone, Debug, Default)]
pub struct Bars {
    pub starts: Vec<Micros>,
    pub step: Micros,
}

impl Bars {
    fn place(&self, at: Micros) -> Option<usize> {
        let start = at.div_euclid(self.step.max(1)) * self.step;
        self.starts.binary_search(&start).ok()
    }
}

/// What a value's calls come to, as far as it takes to rank values and to list them briefly.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Brief {
    pub cost_usd: f64,
    pub tokens: i64,
    pub calls: u32,
    pub unknown_cost: u32,
    pub failed: u32,
    pub aborted: u32,
    pub missing_usage: u32,
    pub rerouted: u32,
}

impl Brief {
    /// Adds another.
    pub fn add(&mut self, other: &Self) {
        self.cost_usd += other.cost_usd;
        self.tokens = self.tokens.saturating_add(other.tokens);
        for (count, more) in [
            (&mut self.calls, other.calls),
            (&mut self.unknown_cost, other.unknown_cost),
            (&mut self.failed, other.failed),
            (&mut self.aborted, other.aborted),
            (&mut self.missing_usage, other.missing_usage),
            (&mut self.rerouted, other.rerouted),
        ] {
            *count = count.saturating_add(more);
        }
    }

    /// Of all that is known.
    pub fn of(sums: &Sums) -> Self {
        let count = |what| sums.of(what).clamp(0, u32::MAX.into()) as u32;
        Self {
            cost_usd: sums.cost_usd,
            tokens: sums.tokens(),
            calls: count(Count::Calls),
            unknown_cost: count(Count::UnknownCost),
            failed: count(Count::Failed),
            aborted: count(Count::Aborted),
            missing_usage: count(Count::MissingUsage),
            rerouted: count(Count::Rerouted),
        }
    }

    /// The columns that [`Brief::of_row`] reads from the second on.
    const COLUMNS: &str =
        "cost_usd, prompt_tokens, completion_tokens, calls, unknown_cost, failed, aborted,
        missing_usage, rerouted";

    fn of_row(row: &Row) -> Result<Self> {
        let count = |index| {
            row.get(index)
                .map(|count: i64| count.clamp(0, u32::MAX.into()) as u32)
        };
        Ok(Self {
            cost_usd: row.get(1)?,
            tokens: row.get::<_, i64>(2)?.saturating_add(row.get(3)?),
            calls: count(4)?,
            unknown_cost: count(5)?,
            failed: count(6)?,
            aborted: count(7)?,
            missing_usage: count(8)?,
            rerouted: count(9)?,
        })
    }
}

/// What the calls come to, by value.
pub struct Overview {
    /// All of them.
    pub total: Sums,
    /// All of them by bar.
    pub bars: Vec<Sums>,
    /// By number of the value.
    briefs: Vec<Brief>,
    /// The values of each dimension that was asked for.
    values: [Vec<Number>; 5],
}

impl Overview {
    /// The values of a dimension that has calls, in no order.
    pub fn of(&self, dimension: Dimension) -> impl Iterator<Item = (Number, &Brief)> {
        let values = self.values[dimension as usize].iter();
        values
            .map(|number| (*number, &self.briefs[*number as usize]))
            .filter(|(_, brief)| brief.calls > 0)
    }

    /// What a value's calls come to; nothing where it has none.
    pub fn get(&self, number: Number) -> Brief {
        self.briefs
            .get(number as usize)
            .copied()
            .unwrap_or_default()
    }

    fn add(&mut self, dimension: Dimension, number: Number, more: &Brief) {
        // A number that was given since the catalogue was read is in no row of this state of the database.
        let Some(brief) = self.briefs.get_mut(number as usize) else {
            return;
        };
        if brief.calls == 0 {
            self.values[dimension as usize].push(number);
        }
        brief.add(more);
    }
}

/// Sums and latencies of one model.
#[derive(Clone, Debug, Default)]
pub struct Group {
    pub sums: Sums,
    pub latencies: Histogram,
}

impl Group {
    /// Mean latency in ms; none where no call was timed.
    pub fn average(&self) -> Option<f64> {
        let timed = self.sums.of(Count::Timed);
        (timed > 0).then(|| self.sums.latency_ms / timed as f64)
    }
}

/// What is read of models that are shown.
#[derive(Default)]
pub struct Details {
    /// By the model's number.
    pub models: HashMap<Number, Group>,
    /// The same by bar.
    pub bars: HashMap<Number, Vec<Sums>>,
}

/// A table of sums.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Table {
    Hours,
    Days,
}

impl Table {
    const fn name(self) -> &'static str {
        match self {
            Self::Hours => "usage_hour",
            Self::Days => "usage_day",
        }
    }
}

/// Where the sums of a window are: single calls at its ends, and rows of tables between.
struct Parts {
    edges: Vec<Range>,
    /// For sums of the whole window.
    rows: Vec<(Table, Range)>,
    /// For sums by bar.
    bars: Vec<(Table, Range)>,
}

/// One call.
struct Single {
    at: Micros,
    sums: Sums,
    latency_ms: Option<f64>,
}

impl<'a> Survey<'a> {
    /// Of the calls in `window` those that pass `filter`.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn new(
        connection: &'a Connection,
        catalog: &'a Catalog,
        window: Window,
        filter: &'a Filter,
    ) -> Result<Self> {
        let mut wanted = [None; 5];
        for dimension in Dimension::ALL {
            if let Some(value) = filter.get(dimension) {
                wanted[dimension as usize] = Some(series::find(connection, dimension, value)?);
            }
        }
        Ok(Self {
            connection,
            catalog,
            window,
            filter,
            wanted,
            few: OnceCell::new(),
        })
    }

    /// The values of a whole series that passes.
    pub fn passing(&self, whole: Number) -> Option<&'a [Number; 5]> {
        let values = self.catalog.values(whole)?;
        self.passes(values).then_some(values)
    }

    fn passes(&self, values: &[Number; 5]) -> bool {
        let mut wanted = self.wanted.iter().zip(values);
        wanted.all(|(wanted, value)| wanted.is_none_or(|wanted| wanted == *value))
    }

    /// The whole series that pass, where they are no more than `most`.
    pub fn few(&self, most: usize) -> Option<&[Number]> {
        let found = self.few.get_or_init(|| {
            let all = self.catalog.all();
            let passing = all.filter(|(_, values)| self.passes(values));
            let found: Vec<Number> = passing.map(|(number, _)| number).take(most + 1).collect();
            (found.len() <= most).then_some(found)
        });
        found.as_deref()
    }

    /// Of which kind the sums of a dimension are: of it alone where the filter asks for no other.
    fn kind(&self, dimension: Dimension) -> i64 {
        if self.filter.is_only(dimension) {
            dimension.kind()
        } else {
            WHOLE
        }
    }

    /// Of which kind the sums of all calls are, and of which number.
    fn total(&self) -> (i64, Option<Number>) {
        if self.filter.is_open() {
            return (EVERYTHING, None);
        }
        let alone = Dimension::ALL.into_iter().find(|d| self.filter.is_only(*d));
        alone.map_or((WHOLE, None), |d| (d.kind(), self.wanted[d as usize]))
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

    fn parts(&self, step: Micros) -> Parts {
        let parts = self.window.parts();
        if step % HOUR != 0 {
            let (from, to) = (self.window.from, self.window.end());
            return Parts {
                edges: vec![Range { from, to }],
                rows: Vec::new(),
                bars: Vec::new(),
            };
        }
        let of = |days| {
            let hours = parts.hours.iter().map(|range| (Table::Hours, *range));
            hours.chain(parts.days.iter().map(move |range| (days, *range)))
        };
        let by_day = step % DAY == 0;
        Parts {
            rows: of(Table::Days).collect(),
            bars: of(if by_day { Table::Days } else { Table::Hours }).collect(),
            edges: parts.edges,
        }
    }

    /// Sums of everything, in all and by bar, and of each value of these dimensions.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn overview(&self, dimensions: &[Dimension], bars: &Bars) -> Result<Overview> {
        let mut found = Overview {
            total: Sums::default(),
            bars: vec![Sums::default(); bars.starts.len()],
            briefs: vec![Brief::default(); self.catalog.numbers()],
            values: Default::default(),
        };
        let add_total = |total: &mut Overview, at, sums: &Sums| {
            total.total.add(sums);
            if let Some(place) = bars.place(at) {
                total.bars[place].add(sums);
            }
        };
        let parts = self.parts(bars.step);
        self.singles_in(&parts.edges, |values, single| {
            add_total(&mut found, single.at, &single.sums);
            for dimension in dimensions {
                let brief = Brief::of(&single.sums);
                found.add(*dimension, values[*dimension as usize], &brief);
            }
        })?;
        let (kind, number) = self.total();
        for (table, range) in &parts.bars {
            let take = |number, start, row: &Row| {
                if kind != WHOLE || self.passing(number).is_some() {
                    add_total(&mut found, start, &Sums::of_row(row, 3)?);
                }
                Ok(())
            };
            match number {
                Some(number) => self.of_numbers(*table, kind, *range, &[number], take)?,
                None => self.of_kind(*table, kind, *range, take)?,
            }
        }
        let (whole, alone): (Vec<Dimension>, Vec<Dimension>) =
            dimensions.iter().partition(|d| self.kind(**d) == WHOLE);
        for (table, range) in &parts.rows {
            for dimension in &alone {
                let wanted = self.wanted[*dimension as usize];
                self.briefs(*table, dimension.kind(), *range, wanted, |number, brief| {
                    found.add(*dimension, number, brief);
                })?;
            }
            if whole.is_empty() {
                continue;
            }
            self.briefs(*table, WHOLE, *range, None, |number, brief| {
                let Some(values) = self.passing(number) else {
                    return;
                };
                for dimension in &whole {
                    found.add(*dimension, values[*dimension as usize], brief);
                }
            })?;
        }
        Ok(found)
    }

    /// All that is known of some models, and the same by bar of those in `by_bar`.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn details(&self, models: &[Number], by_bar: &[Number], bars: &Bars) -> Result<Details> {
        let model = Dimension::Model as usize;
        let groups = models.iter().map(|number| (*number, Group::default()));
        let empty = vec![Sums::default(); bars.starts.len()];
        let mut found = Details {
            models: groups.collect(),
            bars: by_bar
                .iter()
                .map(|number| (*number, empty.clone()))
                .collect(),
        };
        let parts = self.parts(bars.step);
        self.singles_in(&parts.edges, |values, single| {
            if let Some(group) = found.models.get_mut(&values[model]) {
                group.sums.add(&single.sums);
                if let Some(ms) = single.latency_ms {
                    group.latencies.add(ms);
                }
            }
            if let (Some(found), Some(place)) =
                (found.bars.get_mut(&values[model]), bars.place(single.at))
            {
                found[place].add(&single.sums);
            }
        })?;
        let kind = self.kind(Dimension::Model);
        let value_of = |number| match kind {
            WHOLE => self.passing(number).map_or(NONE, |values| values[model]),
            _ => number,
        };
        for (table, range) in &parts.rows {
            let take = |number, _, row: &Row| {
                if let Some(group) = found.models.get_mut(&value_of(number)) {
                    group.sums.add(&Sums::of_row(row, 3)?);
                    if let Some(packed) = row.get_ref(2)?.as_blob_or_null()? {
                        group.latencies.add_packed(packed);
                    }
                }
                Ok(())
            };
            match kind {
                WHOLE => self.of_kind(*table, kind, *range, take)?,
                _ => self.of_numbers(*table, kind, *range, models, take)?,
            }
        }
        if by_bar.is_empty() {
            return Ok(found);
        }
        for (table, range) in &parts.bars {
            let take = |number, start, row: &Row| {
                if let (Some(found), Some(place)) =
                    (found.bars.get_mut(&value_of(number)), bars.place(start))
                {
                    found[place].add(&Sums::of_row(row, 3)?);
                }
                Ok(())
            };
            match kind {
                WHOLE => self.of_kind(*table, kind, *range, take)?,
                _ => self.of_numbers(*table, kind, *range, by_bar, take)?,
            }
        }
        Ok(found)
    }

    /// All latencies of some models, from the single calls.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn latencies(&self, models: &[Number]) -> Result<HashMap<Number, Vec<f64>>> {
        let mut found: HashMap<Number, Vec<f64>> =
            models.iter().map(|model| (*model, Vec::new())).collect();
        self.singles().each("latency_ms", |_, values, row| {
            let model = &values[Dimension::Model as usize];
            if let (Some(all), Some(ms)) = (found.get_mut(model), row.get(1)?) {
                all.push(ms);
            }
            Ok(())
        })?;
        Ok(found)
    }

    /// The single calls.
    pub fn singles(&self) -> Singles<'_, 'a> {
        let Window { from, .. } = self.window;
        let to = self.window.end();
        Singles::new(self, Range { from, to })
    }

    /// Gives the sums of all rows of a kind.
    fn of_kind(
        &self,
        table: Table,
        kind: i64,
        range: Range,
        mut take: impl FnMut(Number, Micros, &Row) -> Result<()>,
    ) -> Result<()> {
        let mut statement = self.connection.prepare_cached(&format!(
            "SELECT series, start, latencies, {} FROM {} WHERE kind = ?1 AND start >= ?2 AND start < ?3",
            *SUMS,
            table.name()
        ))?;
        let mut rows = statement.query((kind, range.from, range.to))?;
        while let Some(row) = rows.next()? {
            take(row.get(0)?, row.get(1)?, row)?;
        }
        Ok(())
    }

    /// Gives the sums of the rows of some numbers alone, without reading any others.
    fn of_numbers(
        &self,
        table: Table,
        kind: i64,
        range: Range,
        numbers: &[Number],
        mut take: impl FnMut(Number, Micros, &Row) -> Result<()>,
    ) -> Result<()> {
        let name = table.name();
        // Whenever there are calls, there is a row of everything.
        let mut starts = self.connection.prepare_cached(&format!(
            "SELECT start FROM {name} WHERE kind = {EVERYTHING} AND start >= ?1 AND start < ?2"
        ))?;
        let mut one = self.connection.prepare_cached(&format!(
            "SELECT series, start, latencies, {} FROM {name} WHERE kind = ?1 AND start = ?2 AND series = ?3",
            *SUMS
        ))?;
        let mut starts = starts.query((range.from, range.to))?;
        while let Some(row) = starts.next()? {
            let start: Micros = row.get(0)?;
            for number in numbers {
                let mut rows = one.query((kind, start, number))?;
                if let Some(row) = rows.next()? {
                    take(*number, start, row)?;
                }
            }
        }
        Ok(())
    }

    /// Gives a few figures of all rows of a kind, or of one number.
    fn briefs(
        &self,
        table: Table,
        kind: i64,
        range: Range,
        number: Option<Number>,
        mut take: impl FnMut(Number, &Brief),
    ) -> Result<()> {
        if let Some(number) = number {
            return self.of_numbers(table, kind, range, &[number], |number, _, row| {
                take(number, &Brief::of(&Sums::of_row(row, 3)?));
                Ok(())
            });
        }
        let mut statement = self.connection.prepare_cached(&format!(
            "SELECT series, {} FROM {} WHERE kind = ?1 AND start >= ?2 AND start < ?3",
            Brief::COLUMNS,
            table.name()
        ))?;
        let mut rows = statement.query((kind, range.from, range.to))?;
        while let Some(row) = rows.next()? {
            take(row.get(0)?, &Brief::of_row(row)?);
        }
        Ok(())
    }

    fn singles_in(
        &self,
        ranges: &[Range],
        mut take: impl FnMut(&[Number; 5], &Single),
    ) -> Result<()> {
        const COLUMNS: &str =
            "timestamp, latency_ms, prompt_tokens, completion_tokens, cost_usd, flags,
            cache_read_tokens, cache_write_tokens, reasoning_tokens";
        let unknown = series::find(self.connection, Dimension::CostSource, "unknown")?;
        for range in ranges {
            Singles::new(self, *range).each(COLUMNS, |_, values, row| {
                let is_unknown = values[Dimension::CostSource as usize] == unknown;
                let call = Call {
                    timestamp: row.get(1)?,
                    values: ["", "", "", if is_unknown { "unknown" } else { "" }, ""],
                    latency_ms: row.get(2)?,
                    prompt: row.get(3)?,
                    completion: row.get(4)?,
                    cost_usd: row.get(5)?,
                    flags: row.get(6)?,
                    cache_read: row.get(7)?,
                    cache_write: row.get(8)?,
                    reasoning: row.get(9)?,
                };
                let single = Single {
                    at: call.timestamp,
                    sums: call.sums(),
                    latency_ms: call.latency_ms,
                };
                take(values, &single);
                Ok(())
            })?;
        }
        Ok(())
    }
}

/// The first `most` in an order, without ever holding many more.
pub struct First<T, F> {
    kept: Vec<T>,
    most: usize,
    order: F,
}

impl<T, F: FnMut(&T, &T) -> Ordering> First<T, F> {
    /// Nothing yet.
    pub fn new(most: usize, order: F) -> Self {
        Self {
            kept: Vec::new(),
            most,
            order,
        }
    }

    /// Takes one in, where it is among the first.
    pub fn push(&mut self, one: T) {
        self.kept.push(one);
        if self.kept.len() >= 2 * self.most + 64 {
            self.kept.select_nth_unstable_by(self.most, &mut self.order);
            self.kept.truncate(self.most);
        }
    }

    /// The first, in order.
    pub fn finish(mut self) -> Vec<T> {
        self.kept.sort_by(&mut self.order);
        self.kept.truncate(self.most);
        self.kept
    }
}

/// The first `most` in an order, without ever holding many more.
pub fn first<T>(
    all: impl Iterator<Item = T>,
    most: usize,
    order: impl FnMut(&T, &T) -> Ordering,
) -> Vec<T> {
    let mut first = First::new(most, order);
    all.for_each(|one| first.push(one));
    first.finish()
}
