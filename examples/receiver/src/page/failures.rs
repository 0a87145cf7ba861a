//! Failed and aborted calls, from the metric `model_errors` and from the calls themselves.

use crate::store::brief::Brief;
use crate::store::errors::{self, Errors};
use crate::store::first::First;
use crate::store::query::{Overview, Survey};
use crate::store::rollup::Count;
use crate::store::series::{self, Dimension, Number};
use rusqlite::Result;
use std::cmp::Ordering;
use std::collections::HashMap;

/// Maximum number of models that are shown.
const SHOWN: usize = 12;

/// Their figures.
pub struct Failures {
    /// Calls that failed, billed or not.
    pub failed: f64,
    /// Aborted calls, billed or not.
    pub aborted: f64,
    /// The models with the most such calls.
    pub shown: Vec<Failing>,
    /// Number of further models.
    pub more: usize,
    /// Whether the metric covers the selected calls.
    pub is_told: bool,
    /// The metric's figures of the models in the table.
    pub told: HashMap<Number, Errors>,
}

/// A model with failed, aborted or unexpected calls.
pub struct Failing {
    pub model: String,
    /// Its billed calls.
    pub billed: Brief,
    pub failed: f64,
    pub aborted: f64,
}

/// A model by its number, or by its name if none of its calls was billed.
enum Model {
    Number(Number),
    Name(String),
}

/// Collects them. The metric covers billed and unbilled calls; where it was not sent, only the billed ones are known,
/// so the larger count is taken.
///
/// # Errors
/// The SQLite error.
pub fn failures(survey: &Survey, overview: &Overview, of_table: &[Number]) -> Result<Failures> {
    let (connection, filter) = (survey.connection, survey.filter);
    // The metric has the model and the agent only.
    let untold = [
        Dimension::Trigger,
        Dimension::CostSource,
        Dimension::Gateway,
        Dimension::Channel,
        Dimension::Job,
    ];
    let is_told = untold.into_iter().all(|other| filter.get(other).is_none());
    let mut found = Failures {
        failed: overview.total.of(Count::Failed) as f64,
        aborted: overview.total.of(Count::Aborted) as f64,
        shown: Vec::new(),
        more: 0,
        is_told,
        told: HashMap::new(),
    };
    let mut count = 0;
    let mut first = First::new(SHOWN, by_number_of_calls);
    let mut take = |model, billed: Brief, failed: f64, aborted: f64| {
        if failed + aborted > 0.0 || billed.missing_usage > 0 || billed.rerouted > 0 {
            count += 1;
            first.push((model, billed, failed, aborted));
        }
    };
    let mut is_taken = vec![false; if is_told { survey.catalog.numbers() } else { 0 }];
    if is_told {
        let (model, agent) = (filter.get(Dimension::Model), filter.get(Dimension::Agent));
        errors::each_model(connection, survey.window, model, agent, |name, told| {
            let number = series::find(connection, Dimension::Model, name)?;
            let billed = overview.get(number);
            let failed = told.failed.max(billed.failed.into());
            let aborted = told.aborted.max(billed.aborted.into());
            found.failed += failed - f64::from(billed.failed);
            found.aborted += aborted - f64::from(billed.aborted);
            if of_table.contains(&number) {
                found.told.insert(number, told);
            }
            let model = match is_taken.get_mut(number as usize) {
                Some(is_taken) if billed.calls > 0 => {
                    *is_taken = true;
                    Model::Number(number)
                }
                _ => Model::Name(name.to_owned()),
            };
            take(model, billed, failed, aborted);
            Ok(())
        })?;
    }
    for (number, billed) in overview.of(Dimension::Model) {
        if !is_taken.get(number as usize).copied().unwrap_or(false) {
            let (failed, aborted) = (billed.failed.into(), billed.aborted.into());
            take(Model::Number(number), *billed, failed, aborted);
        }
    }
    for (model, billed, failed, aborted) in first.finish() {
        let model = match model {
            Model::Number(number) => series::value(connection, Dimension::Model, number)?,
            Model::Name(name) => name,
        };
        found.shown.push(Failing {
            model,
            billed,
            failed,
            aborted,
        });
    }
    found.shown.sort_by(|a, b| {
        let order = (b.failed + b.aborted).total_cmp(&(a.failed + a.aborted));
        order.then_with(|| a.model.cmp(&b.model))
    });
    found.more = count - found.shown.len();
    Ok(found)
}

fn by_number_of_calls(a: &(Model, Brief, f64, f64), b: &(Model, Brief, f64, f64)) -> Ordering {
    (b.2 + b.3).total_cmp(&(a.2 + a.3))
}
