//! Data of the page, read from one state of the database. Of a million names, memory has those that are shown.

use super::address::Address;
use super::failures::{Failures, failures};
use super::zone;
use crate::clock::{DAY, Micros};
use crate::store::Store;
use crate::store::brief::Brief;
use crate::store::calls::{self, Session};
use crate::store::errors::{self, Fallback};
use crate::store::first::first;
use crate::store::prompts::{self, Bill};
use crate::store::query::{Bars, Overview, Survey};
use crate::store::rollup::{Count, Sums};
use crate::store::series::{self, DIMENSIONS, Dimension, Number};
use crate::store::sessions::{self, Ranked};
use crate::store::spending::{self, Allowance, Incidents};
use crate::store::stats::{self, EXACT_MAX, ModelStats, Percentiles};
use agentwatch_openclaw::spending::forecast::Forecast;
use jiff::tz::TimeZone;
use rusqlite::{Connection, Result};
use serde_json::Value;

/// Maximum number of listed calls.
pub const CALLS_SHOWN: usize = 40;
/// Number of calls from which sessions are collected.
pub const CALLS_FOR_SESSIONS: usize = 1_000;
/// Maximum number of models on a page.
const MODELS_SHOWN: usize = 100;
/// Maximum number of models beside a list of calls.
const MODELS_BESIDE_CALLS: usize = 30;
/// Number of models with their own colour; the rest is one group.
pub const COLOURS: usize = 6;
/// Maximum number of rows in a breakdown.
const ROWS_SHOWN: usize = 8;
/// Maximum number of agents whose prompts are shown.
const AGENTS_SHOWN: usize = 6;
/// Maximum number of sessions that are ranked by cost.
const DEAREST_SESSIONS: usize = 8;
/// Maximum number of selectable values.
const CHOICES: usize = 500;
/// Maximum number of bars in a chart.
const BARS_MOST: i64 = 200;

/// The data of the page.
pub struct View {
    /// Models, highest cost first.
    pub models: Vec<ModelStats>,
    /// Number of models.
    pub models_in_all: usize,
    /// All models together.
    pub total: Sums,
    /// By agent, channel, cron job, trigger, source of cost, gateway.
    pub breakdowns: [Breakdown; 6],
    /// The bars of charts.
    pub bars: Bars,
    /// The zone in which they begin with days.
    pub bars_zone: TimeZone,
    /// All models by bar.
    pub by_bar: Vec<Sums>,
    /// The models with their own colour by bar, the most important first.
    pub coloured: Vec<(String, Vec<Sums>)>,
    /// Failed and aborted calls.
    pub failures: Failures,
    /// Fallbacks from a failed model to another one.
    pub fallbacks: Vec<Fallback>,
    /// Selectable values of each dimension.
    pub choices: [Vec<String>; DIMENSIONS],
    /// The latest calls, if listed.
    pub calls: Vec<Value>,
    /// Their sessions.
    pub sessions: Vec<Session>,
    /// The selected call.
    pub call: Option<Value>,
    /// The sessions with the highest cost, and the number of all.
    pub dearest: (Vec<Ranked>, usize),
    /// What fills prompts.
    pub prompts: Bill,
    /// Length of the window, in days.
    pub days: f64,
    /// The month's forecast, and the zone of its days.
    pub forecast: Option<(Forecast, TimeZone)>,
    /// Incidents; `None` where the filter selects what log records do not tell.
    pub incidents: Option<Incidents>,
    /// Allowances and their number, if nothing is filtered.
    pub allowances: (Vec<Allowance>, usize),
}

/// Sums by the values of a dimension.
pub struct Breakdown {
    pub dimension: Dimension,
    /// The values with the highest cost, and the calls without a known price, however few.
    pub shown: Vec<(String, Brief)>,
    /// Number of further values.
    pub more: usize,
    /// Sums of the further values.
    pub rest: Brief,
    /// Tokens of all values.
    pub tokens: i64,
}

impl View {
    /// Reads the data. Blocks.
    ///
    /// # Errors
    /// The SQLite error.
    pub fn read(store: &Store, address: &Address, now: Micros) -> Result<Self> {
        store.survey(|connection, catalog| {
            let window = address.window(now);
            let filter = &address.filter;
            let survey = Survey::new(connection, catalog, window, filter)?;
            let (bars, bars_zone) = bars(address, now, &survey)?;
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
                breakdown(Dimension::Channel)?,
                breakdown(Dimension::Job)?,
                breakdown(Dimension::Trigger)?,
                breakdown(Dimension::CostSource)?,
                breakdown(Dimension::Gateway)?,
            ];
            let fallbacks = if filter.is_open() {
                errors::fallbacks(connection, window)?
            } else {
                Vec::new()
            };
            let mut choices = [const { Vec::new() }; DIMENSIONS];
            for dimension in Dimension::ALL {
                choices[dimension as usize] = series::values(connection, dimension, CHOICES)?;
            }
            let failures = failures(&survey, &overview, &dearest)?;
            let (calls, sessions) = single(&survey, address)?;
            let call = match &address.call {
                Some(id) => calls::one(connection, id)?,
                None => None,
            };
            let untold = Dimension::ALL
                .into_iter()
                .filter(|d| *d != Dimension::Agent);
            let incidents = match untold.into_iter().any(|d| filter.get(d).is_some()) {
                true => None,
                false => Some(spending::incidents(
                    connection,
                    window,
                    filter.get(Dimension::Agent),
                )?),
            };
            let allowances = match filter.is_open() {
                true => spending::allowances(connection, now)?,
                false => (Vec::new(), 0),
            };
            let prompts = prompts::bill(&survey, DAY, AGENTS_SHOWN)?;
            // The selected calls may have begun later than the window.
            let first = prompts.first.unwrap_or(window.from);
            let end = window.to.map_or(now, |to| to.min(now));
            let days = end - first.max(window.from);
            Ok(Self {
                dearest: sessions::dearest(&survey, DEAREST_SESSIONS)?,
                days: days as f64 / DAY as f64,
                prompts,
                forecast: spending::month(connection, catalog, filter, now, &address.zone)?,
                incidents,
                allowances,
                models,
                models_in_all: overview.of(Dimension::Model).count(),
                total: overview.total,
                breakdowns,
                bars,
                bars_zone,
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

    /// Number of failed and of aborted calls of a model, billed or not.
    pub fn unsuccessful(&self, model: &ModelStats) -> (f64, f64) {
        let told = self.failures.told.get(&model.number);
        let told = told.copied().unwrap_or_default();
        (
            told.failed.max(model.sums.of(Count::Failed) as f64),
            told.aborted.max(model.sums.of(Count::Aborted) as f64),
        )
    }
}

/// The bars of the window, including empty ones: of the viewer's days, or of UTC's where their hours are too many.
fn bars(address: &Address, now: Micros, survey: &Survey) -> Result<(Bars, TimeZone)> {
    let step = address.step(now, survey.is_small(EXACT_MAX)?);
    let window = address.window(now);
    let first = window.from.div_euclid(step) * step;
    let last = window.to.map_or(now, |to| to - 1).max(window.from);
    if address.zone != TimeZone::UTC && survey.is_quick() {
        let bars = zone::bars(&address.zone, step, window.from, last);
        if let Some(bars) = bars {
            return Ok((bars, address.zone.clone()));
        }
    }
    // Calls in the future are in the sums but in no bar.
    let count = (last - first).div_euclid(step) + 1;
    let zone = match step < DAY {
        true => address.zone.clone(),
        false => TimeZone::UTC,
    };
    Ok((Bars::even(first, step, count.min(BARS_MOST)), zone))
}

/// The models with colours: those with the most tokens and cost, equal in both charts, highest first.
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
        // Calls without a price are shown, however few.
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

/// The calls and sessions of a page that lists them: a page of one model, or one with the option.
fn single(survey: &Survey, address: &Address) -> Result<(Vec<Value>, Vec<Session>)> {
    if !lists_calls(address) {
        return Ok((Vec::new(), Vec::new()));
    }
    let seqs = calls::latest(
        survey,
        address.failed,
        address.session.as_deref(),
        CALLS_FOR_SESSIONS,
    )?;
    let calls = calls::rows(survey.connection, &seqs[..seqs.len().min(CALLS_SHOWN)])?;
    Ok((calls, calls::sessions(survey.connection, &seqs)?))
}

/// Whether a page lists single calls.
pub fn lists_calls(address: &Address) -> bool {
    address.calls
        || address.failed
        || address.session.is_some()
        || address.filter.get(Dimension::Model).is_some()
}
