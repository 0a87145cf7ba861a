//! What the page shows, read from one state of the database.

use super::address::Address;
use crate::clock::Micros;
use crate::store::Store;
use crate::store::calls::{self, Session};
use crate::store::errors::{self, Errors, Fallback};
use crate::store::query::Survey;
use crate::store::rollup::{Count, Sums};
use crate::store::series::Dimension;
use crate::store::stats::{self, EXACT_MAX, ModelStats, Percentiles};
use rusqlite::Result;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// How many single calls are listed.
pub const CALLS_SHOWN: usize = 40;
/// How many calls sessions are gathered from.
pub const CALLS_FOR_SESSIONS: usize = 1_000;

/// All of it.
pub struct View {
    /// When it was read.
    pub now: Micros,
    /// By model, dearest first.
    pub models: Vec<ModelStats>,
    /// All models together.
    pub total: Sums,
    /// By agent, trigger, source of cost, gateway: what is called, and what it comes to.
    pub breakdowns: [(Dimension, BTreeMap<String, Sums>); 4],
    /// How much time a bar of the charts stands for.
    pub step: Micros,
    /// By step and model; empty steps are not in it.
    pub steps: BTreeMap<Micros, HashMap<String, Sums>>,
    /// By model, from the metric `model_errors`; none where the filter asks for what the metric does not tell.
    pub errors: Option<BTreeMap<String, Errors>>,
    /// A model failed, another answered.
    pub fallbacks: Vec<Fallback>,
    /// All values of each dimension, to choose from.
    pub choices: [BTreeSet<String>; 5],
    /// The latest calls, where they are listed.
    pub calls: Vec<Value>,
    /// Their sessions.
    pub sessions: Vec<Session>,
    /// The one call that is asked for.
    pub call: Option<Value>,
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
            let survey = Survey::new(connection, catalog, window, filter);
            let step = address.step(now, survey.is_small(EXACT_MAX)?);
            let dimensions = [
                Dimension::Agent,
                Dimension::Trigger,
                Dimension::CostSource,
                Dimension::Gateway,
            ];
            let overview = survey.overview(dimensions, step)?;
            let mut sums = overview.by.into_iter();
            let breakdowns =
                dimensions.map(|dimension| (dimension, sums.next().unwrap_or_default()));
            let steps = overview.steps.into_iter().map(|(start, models)| {
                let models = models
                    .into_iter()
                    .map(|(model, sums)| (model.to_owned(), sums));
                (start, models.collect())
            });
            let models = stats::stats_of(&survey, overview.models, Percentiles::Bounded)?;
            let mut total = Sums::default();
            models.iter().for_each(|model| total.add(&model.sums));
            // The metric tells the model and the agent, and nothing else.
            let told = [
                Dimension::Trigger,
                Dimension::CostSource,
                Dimension::Gateway,
            ];
            let is_told = told
                .into_iter()
                .all(|dimension| filter.get(dimension).is_none());
            let (model, agent) = (filter.get(Dimension::Model), filter.get(Dimension::Agent));
            let errors = if is_told {
                Some(errors::by_model(connection, window, model, agent)?)
            } else {
                None
            };
            let fallbacks = if filter.is_open() {
                errors::fallbacks(connection, window)?
            } else {
                Vec::new()
            };

            let mut choices = [const { BTreeSet::new() }; 5];
            for (kind, series) in catalog.series.values() {
                for dimension in Dimension::ALL
                    .into_iter()
                    .filter(|dimension| dimension.kind() == *kind)
                {
                    choices[dimension as usize].insert(series.get(dimension).to_owned());
                }
            }
            let (calls, sessions) = details(&survey, address)?;
            let call = match &address.call {
                Some(id) => calls::one(connection, id)?,
                None => None,
            };
            Ok(Self {
                now,
                models,
                total,
                breakdowns,
                step,
                steps: steps.collect(),
                errors,
                fallbacks,
                choices,
                calls,
                sessions,
                call,
            })
        })
    }

    /// How many calls of a model did not succeed, billed or not: failed, stopped. The metric tells of both kinds; where
    /// it was not sent, only those that were billed are known.
    pub fn unsuccessful(&self, model: &str, sums: &Sums) -> (f64, f64) {
        let told = self
            .errors
            .as_ref()
            .and_then(|errors| errors.get(model))
            .copied()
            .unwrap_or_default();
        (
            told.failed.max(sums.of(Count::Failed) as f64),
            told.aborted.max(sums.of(Count::Aborted) as f64),
        )
    }

    /// The starts of all steps of the window, empty ones too.
    pub fn starts(&self, address: &Address) -> Vec<Micros> {
        let window = address.window(self.now);
        let first = window.from.div_euclid(self.step) * self.step;
        let last = window.to.map_or(self.now, |to| to - 1).max(window.from);
        // What is dated in the future is in the sums and in no bar.
        let count = (last - first).div_euclid(self.step) + 1;
        (0..count.min(200))
            .map(|index| first + index * self.step)
            .collect()
    }
}

/// The single calls and sessions of a page that lists them: one of a model does, another where it is asked to.
fn details(survey: &Survey, address: &Address) -> Result<(Vec<Value>, Vec<Session>)> {
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
