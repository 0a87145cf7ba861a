//! What the page shows, read from one state of the database. Of a million names it holds those that are shown.

use super::address::Address;
use super::failures::{Failures, failures};
use crate::clock::Micros;
use crate::store::Store;
use crate::store::brief::Brief;
use crate::store::calls::{self, Session};
use crate::store::errors::{self, Fallback};
use crate::store::first::first;
use crate::store::query::{Bars, Overview, Survey};
use crate::store::rollup::{Count, Sums};
use crate::store::series::{self, Dimension, Number};
use crate::store::stats::{self, EXACT_MAX, ModelStats, Percentiles};
use rusqlite::{Connection, Result};
use serde_json::Value;

/// How many single calls are listed.
pub const CALLS_SHOWN: usize = 40;
/// How many calls sessions are gathered from.
pub const CALLS_FOR_SESSIONS: usize = 1_000;
/// The most models on a page.
const MODELS_SHOWN: usize = 100;
/// The most models beside a list of calls.
const MODELS_BESIDE_CALLS: usize = 30;
/// Models with a colour of their own; the rest are drawn as one.
pub const COLOURS: usize = 6;
/// The most rows of a breakdown.
const ROWS_SHOWN: usize = 8;
/// The most values to choose from.
const CHOICES: usize = 500;
/// The most bars of a chart.
const BARS_MOST: i64 = 200;

/// All of it.
pub struct View {
    /// Models, dearest first.
    pub models: Vec<ModelStats>,
    /// How many models there are.
    pub models_in_all: usize,
    /// All models together.
    pub total: Sums,
    /// By agent, trigger, source of cost, gateway.
    pub breakdowns: [Breakdown; 4],
    /// Where the bars of the charts begin.
    pub bars: Bars,
    /// All models by bar.
    pub by_bar: Vec<Sums>,
    /// The models with a colour, the most important first, by bar.
    pub coloured: Vec<(String, Vec<Sums>)>,
    /// Calls that did not succeed.
    pub failures: Failures,
    /// A model failed, another answered.
    pub fallbacks: Vec<Fallback>,
    /// Values of each dimension, to choose from.
    pub choices: [Vec<String>; 5],
    /// The latest calls, where they are listed.
    pub calls: Vec<Value>,
    /// Their sessions.
    pub sessions: Vec<Session>,
    /// The one call that is asked for.
    pub call: Option<Value>,
}

/// What the values of a dimension come to.
pub struct Breakdown {
    pub dimension: Dimension,
    /// The dearest, and the calls without a known price however few they are.
    pub shown: Vec<(String, Brief)>,
    /// How many values there are besides.
    pub more: usize,
    /// What these come to.
    pub rest: Brief,
    /// Tokens of all values.
    pub tokens: i64,
}

impl View {
    /// Reads it. Blocks.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn read(store: &Store, address: &Address, now: Micros) -> Result<Self> {
        store.survey(|connection, catalog| {
            let window = address.window(now);
            let filter = &address.filter;
            let survey = Survey::new(connection, catalog, window, filter)?;
            let bars = bars(address, now, survey.is_small(EXACT_MAX)?);
            let overview = survey.overview(&Dimension::ALL, &bars)?;

            let most = if lists_calls(address) {
                MODELS_BESIDE_CALLS
            } else {
                MODELS_SHOWN
            };
            let dearest = stats::dearest(&overview, most);
            let coloured = coloured(&overview);
            let mut details = survey.details(&dearest, &coloured, &bars)?;
            let calls = overview.total.of(Count::Calls);
            let models = stats::stats_of(&survey, details.models, calls, Percentiles::Bounded)?;
            let mut by_colour = Vec::with_capacity(coloured.len());
            for number in coloured {
                let name = series::value(connection, Dimension::Model, number)?;
                by_colour.push((name, details.bars.remove(&number).unwrap_or_default()));
            }

            let breakdown = |dimension| breakdown(connection, &overview, dimension);
            let breakdowns = [
                breakdown(Dimension::Agent)?,
                breakdown(Dimension::Trigger)?,
                breakdown(Dimension::CostSource)?,
                breakdown(Dimension::Gateway)?,
            ];
            let fallbacks = if filter.is_open() {
                errors::fallbacks(connection, window)?
            } else {
                Vec::new()
            };
            let mut choices = [const { Vec::new() }; 5];
            for dimension in Dimension::ALL {
                choices[dimension as usize] = series::values(connection, dimension, CHOICES)?;
            }
            let failures = failures(&survey, &overview, &dearest)?;
            let (calls, sessions) = single(&survey, address)?;
            let call = match &address.call {
                Some(id) => calls::one(connection, id)?,
                None => None,
            };
            Ok(Self {
                models,
                models_in_all: overview.of(Dimension::Model).count(),
                total: overview.total,
                breakdowns,
                bars,
                by_bar: overview.bars,
                coloured: by_colour,
                failures,
                fallbacks,
                choices,
                calls,
                sessions,
                call,
            })
        })
    }

    /// How many calls of a model did not succeed, billed or not: failed, stopped.
    pub fn unsuccessful(&self, model: &ModelStats) -> (f64, f64) {
        let told = self.failures.told.get(&model.number);
        let told = told.copied().unwrap_or_default();
        (
            told.failed.max(model.sums.of(Count::Failed) as f64),
            told.aborted.max(model.sums.of(Count::Aborted) as f64),
        )
    }
}

/// The bars of the window, empty ones too.
fn bars(address: &Address, now: Micros, is_fine: bool) -> Bars {
    let step = address.step(now, is_fine);
    let window = address.window(now);
    let first = window.from.div_euclid(step) * step;
    let last = window.to.map_or(now, |to| to - 1).max(window.from);
    // What is dated in the future is in the sums and in no bar.
    let count = (last - first).div_euclid(step) + 1;
    let starts = (0..count.min(BARS_MOST)).map(|index| first + index * step);
    Bars {
        starts: starts.collect(),
        step,
    }
}

/// The models with colours: those with the most tokens and cost, the same in both charts, most first.
fn coloured(overview: &Overview) -> Vec<Number> {
    let weight = |brief: &Brief| (brief.tokens.max(0) as f64, brief.cost_usd.max(0.0));
    let models = || overview.of(Dimension::Model);
    let (mut tokens, mut cost) = (1e-12_f64, 1e-12_f64);
    for (_, brief) in models() {
        let (more_tokens, more_cost) = weight(brief);
        (tokens, cost) = (tokens.max(more_tokens), cost.max(more_cost));
    }
    let weighed = models().map(|(number, brief)| {
        let weight = weight(brief);
        (number, weight.0 / tokens + weight.1 / cost)
    });
    let first = first(weighed, COLOURS, |(a, x), (b, y)| {
        y.total_cmp(x).then_with(|| a.cmp(b))
    });
    first.into_iter().map(|(number, _)| number).collect()
}

fn breakdown(
    connection: &Connection,
    overview: &Overview,
    dimension: Dimension,
) -> Result<Breakdown> {
    let by_cost = |a: &Brief, b: &Brief| {
        let order = b.cost_usd.total_cmp(&a.cost_usd);
        order.then_with(|| b.tokens.cmp(&a.tokens))
    };
    let mut numbers: Vec<Number> = first(overview.of(dimension), ROWS_SHOWN, |(a, x), (b, y)| {
        by_cost(x, y).then_with(|| a.cmp(b))
    })
    .into_iter()
    .map(|(number, _)| number)
    .collect();
    if dimension == Dimension::CostSource {
        // What nobody has priced is shown however little it is.
        let unknown = series::find(connection, dimension, "unknown")?;
        if overview.get(unknown).calls > 0 && !numbers.contains(&unknown) {
            numbers.push(unknown);
        }
    }
    let mut shown = Vec::with_capacity(numbers.len());
    for number in &numbers {
        let value = series::value(connection, dimension, *number)?;
        shown.push((value, overview.get(*number)));
    }
    shown.sort_by(|(a, x), (b, y)| by_cost(x, y).then_with(|| a.cmp(b)));
    let (mut more, mut rest, mut tokens) = (0, Brief::default(), 0_i64);
    for (number, brief) in overview.of(dimension) {
        tokens = tokens.saturating_add(brief.tokens);
        if !numbers.contains(&number) {
            more += 1;
            rest.add(brief);
        }
    }
    Ok(Breakdown {
        dimension,
        shown,
        more,
        rest,
        tokens,
    })
}

/// The single calls and sessions of a page that lists them: one of a model does, another where it is asked to.
fn single(survey: &Survey, address: &Address) -> Result<(Vec<Value>, Vec<Session>)> {
    if !lists_calls(address) {
        return Ok((Vec::new(), Vec::new()));
    }
    let seqs = calls::latest(survey, address.failed, CALLS_FOR_SESSIONS)?;
    let calls = calls::rows(survey.connection, &seqs[..seqs.len().min(CALLS_SHOWN)])?;
    Ok((calls, calls::sessions(survey.connection, &seqs)?))
}

/// Whether a page lists single calls.
pub fn lists_calls(address: &Address) -> bool {
    address.calls || address.failed || address.filter.get(Dimension::Model).is_some()
}
