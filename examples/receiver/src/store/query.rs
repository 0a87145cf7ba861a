//! Sums of the calls that a filter selects: from whole days and hours, and from single calls at the ends.
//!
//! Two passes: the first ([`Survey::overview`]) sums every value in 40 bytes, by the number of its series and without
//! its name. The second ([`Survey::details`]) reads the full figures of the few values that are shown.

use super::brief::Brief;
use super::histogram::Histogram;
use super::rollup::{Call, Count, Sums};
use super::rows::{self, Table};
use super::series::{self, Catalog, DIMENSIONS, Dimension, EVERYTHING, NONE, Number, WHOLE};
use super::singles::Singles;
use super::window::{Range, Window};
use crate::clock::{DAY, HOUR, Micros};
use rusqlite::{Connection, Result, Row};
use std::cell::OnceCell;
use std::collections::{HashMap, HashSet};

/// A filter of calls by the values of dimensions. An empty value means that it is missing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter(pub [Option<String>; DIMENSIONS]);

impl Filter {
    /// The required value of a dimension.
    pub fn get(&self, dimension: Dimension) -> Option<&str> {
        self.0[dimension as usize].as_deref()
    }

    /// Whether all calls pass.
    pub fn is_open(&self) -> bool {
        self.0.iter().all(Option::is_none)
    }

    /// Whether it filters by no other dimension.
    fn is_only(&self, dimension: Dimension) -> bool {
        Dimension::ALL
            .into_iter()
            .all(|other| other == dimension || self.get(other).is_none())
    }
}

/// A selection of calls to sum.
pub struct Survey<'a> {
    pub connection: &'a Connection,
    pub catalog: &'a Catalog,
    pub window: Window,
    pub filter: &'a Filter,
    /// The filter's values by their numbers.
    wanted: [Option<Number>; DIMENSIONS],
    /// The whole series that pass, if they are few.
    few: OnceCell<Option<Vec<Number>>>,
}

/// Maximum number of series whose rows are looked up one by one; for more, all rows are scanned.
const FEW: usize = 1_000;
/// Maximum number of series whose rows of a month's hours are looked up one by one.
const QUICK: usize = 64;

/// The bars of charts, one after the other.
#[derive(Clone, Debug, Default)]
pub struct Bars {
    /// Begins, ascending.
    pub starts: Vec<Micros>,
    /// The usual length; days of a zone may be longer or shorter.
    pub step: Micros,
    /// End of the last one.
    pub end: Micros,
}

impl Bars {
    /// `count` bars of the same length.
    pub fn even(first: Micros, step: Micros, count: i64) -> Self {
        Self {
            starts: (0..count).map(|index| first + index * step).collect(),
            step,
            end: first + count * step,
        }
    }

    /// The bar that contains an instant.
    pub fn place(&self, at: Micros) -> Option<usize> {
        let after = self.starts.partition_point(|start| *start <= at);
        after.checked_sub(1).filter(|_| at < self.end)
    }

    /// The longest unit whose sums are each in one bar: a UTC day, a UTC hour, or less.
    fn unit(&self) -> Micros {
        let is_of = |unit: Micros| {
            self.step % unit == 0 && self.starts.iter().all(|start| start % unit == 0)
        };
        [DAY, HOUR]
            .into_iter()
            .find(|unit| is_of(*unit))
            .unwrap_or(1)
    }
}

/// Sums by value.
pub struct Overview {
    /// All of them.
    pub total: Sums,
    /// All of them by bar.
    pub bars: Vec<Sums>,
    /// By number of the value.
    briefs: Vec<Brief>,
    /// The values of each requested dimension.
    values: [Vec<Number>; DIMENSIONS],
}

impl Overview {
    /// The values of a dimension with calls, unsorted.
    pub fn of(&self, dimension: Dimension) -> impl Iterator<Item = (Number, &Brief)> {
        let values = self.values[dimension as usize].iter();
        values
            .map(|number| (*number, &self.briefs[*number as usize]))
            .filter(|(_, brief)| brief.calls > 0)
    }

    /// The sums of a value; zero without calls.
    pub fn get(&self, number: Number) -> Brief {
        self.briefs
            .get(number as usize)
            .copied()
            .unwrap_or_default()
    }

    fn add(&mut self, dimension: Dimension, number: Number, more: &Brief) {
        // A number that was assigned after the catalogue was read is in no row of this state.
        let Some(brief) = self.briefs.get_mut(number as usize) else {
            return;
        };
        if brief.calls == 0 && more.calls > 0 {
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
    /// Mean latency in ms; `None` without a timed call.
    pub fn average(&self) -> Option<f64> {
        let timed = self.sums.of(Count::Timed);
        (timed > 0).then(|| self.sums.latency_ms / timed as f64)
    }
}

/// Figures of the models that are shown.
#[derive(Default)]
pub struct Details {
    /// By the model's number.
    pub models: HashMap<Number, Group>,
    /// The same by bar.
    pub bars: HashMap<Number, Vec<Sums>>,
}

/// The parts of a window: single calls at its ends, and rows of tables between.
pub(super) struct Parts {
    pub edges: Vec<Range>,
    /// For sums of the whole window.
    rows: Vec<(Table, Range)>,
    /// For sums by bar.
    pub bars: Vec<(Table, Range)>,
}

/// One call.
struct Single {
    at: Micros,
    sums: Sums,
    latency_ms: Option<f64>,
}

impl<'a> Survey<'a> {
    /// The calls in `window` that pass `filter`.
    ///
    /// # Errors
    /// The SQLite error.
    pub fn new(
        connection: &'a Connection,
        catalog: &'a Catalog,
        window: Window,
        filter: &'a Filter,
    ) -> Result<Self> {
        let mut wanted = [None; DIMENSIONS];
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
    pub fn passing(&self, whole: Number) -> Option<&'a [Number; DIMENSIONS]> {
        let values = self.catalog.values(whole)?;
        self.passes(values).then_some(values)
    }

    fn passes(&self, values: &[Number; DIMENSIONS]) -> bool {
        let mut wanted = self.wanted.iter().zip(values);
        wanted.all(|(wanted, value)| wanted.is_none_or(|wanted| wanted == *value))
    }

    /// The whole series that pass, if they are few.
    pub fn few(&self) -> Option<&[Number]> {
        let found = self.few.get_or_init(|| self.whole(|_| true));
        found.as_deref()
    }

    /// The whole series that pass and have such values, where they are few.
    fn whole(&self, having: impl Fn(&[Number; DIMENSIONS]) -> bool) -> Option<Vec<Number>> {
        let all = self.catalog.all();
        let passing = all.filter(|(_, values)| self.passes(values) && having(values));
        let found: Vec<Number> = passing.map(|(number, _)| number).take(FEW + 1).collect();
        (found.len() <= FEW).then_some(found)
    }

    /// The kind of sums for a dimension: of it alone if the filter has no other dimension.
    fn kind(&self, dimension: Dimension) -> i64 {
        if self.filter.is_only(dimension) {
            dimension.kind()
        } else {
            WHOLE
        }
    }

    /// Whether a month's sums by the hour are read quickly: of all calls, of a model, or of few series.
    pub fn is_quick(&self) -> bool {
        let is_sum = self.filter.is_open() || self.filter.is_only(Dimension::Model);
        is_sum || self.few().is_some_and(|few| few.len() <= QUICK)
    }

    /// The kind of sums for all calls, and their numbers if they are few.
    fn total(&self) -> (i64, Option<Vec<Number>>) {
        if self.filter.is_open() {
            return (EVERYTHING, None);
        }
        match Dimension::ALL.into_iter().find(|d| self.filter.is_only(*d)) {
            Some(alone) => (alone.kind(), self.wanted[alone as usize].map(|n| vec![n])),
            None => (WHOLE, self.few().map(<[Number]>::to_vec)),
        }
    }

    /// Whether the window has at most `most` calls, whatever the filter.
    ///
    /// # Errors
    /// The SQLite error.
    pub fn is_small(&self, most: i64) -> Result<bool> {
        let count: i64 = self
            .connection
            .prepare_cached(
                "SELECT count(*) FROM (SELECT 1 FROM model_usage WHERE timestamp >= ?1 AND timestamp < ?2 LIMIT ?3)",
            )?
            .query_row((self.window.from, self.window.end(), most + 1), |row| row.get(0))?;
        Ok(count <= most)
    }

    /// The parts for bars of whole units: days, hours, or less.
    pub(super) fn parts(&self, unit: Micros) -> Parts {
        let parts = self.window.parts();
        if unit < HOUR {
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
        let by_day = unit == DAY;
        Parts {
            rows: of(Table::Days).collect(),
            bars: of(if by_day { Table::Days } else { Table::Hours }).collect(),
            edges: parts.edges,
        }
    }

    /// Total sums, sums by bar, and sums of each value of these dimensions.
    ///
    /// # Errors
    /// The SQLite error.
    pub fn overview(&self, dimensions: &[Dimension], bars: &Bars) -> Result<Overview> {
        // With a million names they take 80 MB: none without a dimension.
        let briefs = match dimensions {
            [] => Vec::new(),
            _ => vec![Brief::default(); self.catalog.numbers()],
        };
        let mut found = Overview {
            total: Sums::default(),
            bars: vec![Sums::default(); bars.starts.len()],
            briefs,
            values: Default::default(),
        };
        let add_total = |total: &mut Overview, at, sums: &Sums| {
            total.total.add(sums);
            if let Some(place) = bars.place(at) {
                total.bars[place].add(sums);
            }
        };
        let parts = self.parts(bars.unit());
        self.singles_in(&parts.edges, |values, single| {
            add_total(&mut found, single.at, &single.sums);
            for dimension in dimensions {
                let brief = Brief::of(&single.sums);
                found.add(*dimension, values[*dimension as usize], &brief);
            }
        })?;
        let (kind, numbers) = self.total();
        for (table, range) in &parts.bars {
            let take = |number, start, row: &Row| {
                if kind != WHOLE || self.passing(number).is_some() {
                    add_total(&mut found, start, &Sums::of_row(row, 3)?);
                }
                Ok(())
            };
            rows::sums(
                self.connection,
                *table,
                kind,
                *range,
                numbers.as_deref(),
                take,
            )?;
        }
        let is_shorter = dimensions.len() == DIMENSIONS && self.catalog.has_fewer_wholes();
        let (whole, alone): (Vec<Dimension>, Vec<Dimension>) = dimensions
            .iter()
            .partition(|d| is_shorter || self.kind(**d) == WHOLE);
        for (table, range) in &parts.rows {
            for dimension in &alone {
                let wanted = self.wanted[*dimension as usize].map(|number| [number]);
                let wanted = wanted.as_ref().map(<[Number; 1]>::as_slice);
                let rows = (*table, dimension.kind(), *range);
                self.catalog
                    .kept
                    .briefs(self.connection, rows, wanted, |number, brief| {
                        found.add(*dimension, number, brief);
                    })?;
            }
            if whole.is_empty() {
                continue;
            }
            let rows = (*table, WHOLE, *range);
            self.catalog
                .kept
                .briefs(self.connection, rows, self.few(), |number, brief| {
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

    /// Full figures of some models, and the same by bar for those in `by_bar`.
    ///
    /// # Errors
    /// The SQLite error.
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
        let parts = self.parts(bars.unit());
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
        let numbers = |wanted: &[Number]| match kind {
            WHOLE => {
                let wanted: HashSet<&Number> = wanted.iter().collect();
                self.whole(|values| wanted.contains(&values[model]))
            }
            _ => Some(wanted.to_vec()),
        };
        let value_of = |number| match kind {
            WHOLE => self.passing(number).map_or(NONE, |values| values[model]),
            _ => number,
        };
        let wanted = numbers(models);
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
            rows::sums(
                self.connection,
                *table,
                kind,
                *range,
                wanted.as_deref(),
                take,
            )?;
        }
        let wanted = numbers(by_bar);
        for (table, range) in &parts.bars {
            let take = |number, start, row: &Row| {
                if let (Some(found), Some(place)) =
                    (found.bars.get_mut(&value_of(number)), bars.place(start))
                {
                    found[place].add(&Sums::of_row(row, 3)?);
                }
                Ok(())
            };
            rows::sums(
                self.connection,
                *table,
                kind,
                *range,
                wanted.as_deref(),
                take,
            )?;
        }
        Ok(found)
    }

    /// All latencies of some models, from the single calls.
    ///
    /// # Errors
    /// The SQLite error.
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

    fn singles_in(
        &self,
        ranges: &[Range],
        mut take: impl FnMut(&[Number; DIMENSIONS], &Single),
    ) -> Result<()> {
        const COLUMNS: &str =
            "timestamp, latency_ms, prompt_tokens, completion_tokens, cost_usd, flags,
            cache_read_tokens, cache_write_tokens, reasoning_tokens";
        let unknown = series::find(self.connection, Dimension::CostSource, "unknown")?;
        for range in ranges {
            Singles::new(self, *range).each(COLUMNS, |_, values, row| {
                let is_unknown = values[Dimension::CostSource as usize] == unknown;
                let mut told = [""; DIMENSIONS];
                told[Dimension::CostSource as usize] = if is_unknown { "unknown" } else { "" };
                let call = Call {
                    timestamp: row.get(1)?,
                    values: told,
                    session: "",
                    chars: [None; 4],
                    prompt_cost_usd: None,
                    cache_usd: [None; 2],
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
