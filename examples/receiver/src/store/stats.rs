//! Figures of each model on the Models page: totals and percentiles.

use super::first::first;
use super::histogram;
use super::query::{Bars, Group, Overview, Survey};
use super::rollup::{Count, Sums};
use super::series::{self, Dimension, Number};
use super::singles::ONE_BY_ONE;
use rusqlite::Result;
use std::collections::HashMap;

/// Maximum number of calls with exact percentiles; for more they are read from a histogram.
pub const EXACT_MAX: i64 = 100_000;
/// The same for AgentWatch's own figures, which are always exact.
const EXACT_MAX_STOCK: i64 = 2_000_000;
/// Maximum number of models in a list.
pub const MODELS_MAX: usize = 10_000;

/// The calls of one model in a range of time.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ModelStats {
    /// The model string, exactly as sent.
    pub model: String,
    /// The number of its series.
    pub number: Number,
    /// Sums of its calls.
    pub sums: Sums,
    /// US dollars; calls without a known cost add nothing.
    pub cost_usd: f64,
    /// Milliseconds; `None` without a known latency.
    pub avg_latency_ms: Option<f64>,
    /// Milliseconds, see [`percentile`].
    pub p50_latency_ms: Option<f64>,
    /// Milliseconds, see [`percentile`].
    pub p95_latency_ms: Option<f64>,
    /// Maximum relative error of the percentiles: 0, or [`histogram::ERROR`].
    pub percentile_error: f64,
}

/// Number of calls above which percentiles are read from a histogram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Percentiles {
    /// Above two million: AgentWatch's figures are always exact.
    Exact,
    /// Above [`EXACT_MAX`].
    Bounded,
}

/// Statistics of the [`MODELS_MAX`] models with the highest cost, by cost, then by name, and the number of all called
/// models.
///
/// # Errors
/// The SQLite error.
pub fn model_stats(survey: &Survey, percentiles: Percentiles) -> Result<(Vec<ModelStats>, usize)> {
    let none = Bars::default();
    let overview = survey.overview(&[Dimension::Model], &none)?;
    let numbers = dearest(&overview, MODELS_MAX);
    let groups = survey.details(&numbers, &[], &none)?.models;
    let stats = stats_of(survey, groups, overview.total.of(Count::Calls), percentiles)?;
    Ok((stats, overview.of(Dimension::Model).count()))
}

/// The numbers of the models with the highest cost, by cost; of equal ones the earliest first.
pub fn dearest(overview: &Overview, most: usize) -> Vec<Number> {
    let models = overview.of(Dimension::Model);
    let first = first(models, most, |(a, x), (b, y)| {
        y.cost_usd.total_cmp(&x.cost_usd).then_with(|| a.cmp(b))
    });
    first.into_iter().map(|(number, _)| number).collect()
}

/// Statistics of some models, by cost, then by name. `calls` is the number of calls of all models in the window.
///
/// # Errors
/// The SQLite error.
pub fn stats_of(
    survey: &Survey,
    groups: HashMap<Number, Group>,
    calls: i64,
    percentiles: Percentiles,
) -> Result<Vec<ModelStats>> {
    let is_exact = match percentiles {
        Percentiles::Exact => calls <= EXACT_MAX_STOCK,
        // If many series select few of many calls, more is read than needed.
        Percentiles::Bounded if calls > EXACT_MAX => false,
        Percentiles::Bounded => {
            let few = survey.few().is_some_and(|few| few.len() <= ONE_BY_ONE);
            few || survey.is_small(10 * EXACT_MAX)?
        }
    };
    let numbers: Vec<Number> = groups.keys().copied().collect();
    let mut latencies = if is_exact {
        survey.latencies(&numbers)?
    } else {
        HashMap::new()
    };
    let mut all = Vec::with_capacity(groups.len());
    for (number, group) in groups {
        let model = series::value(survey.connection, Dimension::Model, number)?;
        let mut ms = latencies.remove(&number).unwrap_or_default();
        ms.sort_unstable_by(f64::total_cmp);
        let at = |share| match is_exact {
            true => percentile(&ms, share),
            false => group.latencies.percentile(share),
        };
        all.push(ModelStats {
            model,
            number,
            cost_usd: group.sums.cost_usd,
            avg_latency_ms: group.average(),
            p50_latency_ms: at(0.50),
            p95_latency_ms: at(0.95),
            percentile_error: if is_exact { 0.0 } else { histogram::ERROR },
            sums: group.sums,
        });
    }
    all.sort_by(|a, b| {
        b.cost_usd
            .total_cmp(&a.cost_usd)
            .then_with(|| a.model.cmp(&b.model))
    });
    Ok(all)
}

/// The value at `share` (0 to 1) of an ascending slice, linear between the two closest ranks; `None` for an empty one.
pub fn percentile(ascending: &[f64], share: f64) -> Option<f64> {
    let last = ascending.len().checked_sub(1)?;
    let rank = share * last as f64;
    let below = (rank.floor() as usize).min(last);
    let (low, high) = (ascending[below], ascending[(below + 1).min(last)]);
    Some(low + (high - low) * (rank - below as f64))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    /// The slow definition: rank the values by counting, then weight the two neighbours.
    fn naive(values: &[f64], hundredths: usize) -> f64 {
        let at = |rank: usize| {
            *values
                .iter()
                .find(|v| {
                    let smaller = values.iter().filter(|o| o < v).count();
                    let equal = values.iter().filter(|o| o == v).count();
                    (smaller..smaller + equal).contains(&rank)
                })
                .unwrap()
        };
        let position = hundredths * (values.len() - 1);
        let (below, rest) = (position / 100, position % 100);
        if rest == 0 {
            return at(below);
        }
        (at(below) * (100 - rest) as f64 + at(below + 1) * rest as f64) / 100.0
    }

    #[test]
    fn percentiles_agree_with_the_naive_definition() {
        let mut seed: u64 = 42;
        for length in 1..=120 {
            let mut values: Vec<f64> = (0..length)
                .map(|_| {
                    seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    ((seed >> 33) % 500) as f64 / 4.0
                })
                .collect();
            let (p50, p95) = (naive(&values, 50), naive(&values, 95));
            values.sort_unstable_by(f64::total_cmp);
            assert!(
                (percentile(&values, 0.50).unwrap() - p50).abs() < 1e-9,
                "p50 of {length}"
            );
            assert!(
                (percentile(&values, 0.95).unwrap() - p95).abs() < 1e-9,
                "p95 of {length}"
            );
        }
    }

    #[test]
    fn an_empty_slice_has_no_percentile() {
        assert_eq!(percentile(&[], 0.5), None);
        assert_eq!(percentile(&[7.0], 0.95), Some(7.0));
    }
}
