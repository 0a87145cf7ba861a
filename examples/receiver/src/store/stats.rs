//! What the Models page shows of each model: totals and percentiles.

use super::histogram;
use super::query::{Group, Survey};
use super::rollup::{Count, Sums};
use super::series::Dimension;
use rusqlite::Result;
use std::collections::BTreeMap;

/// The most timed calls of which percentiles are exact; of more they are read from a histogram.
pub const EXACT_MAX: i64 = 100_000;

/// The calls of one model in a range of time.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ModelStats {
    /// The model string, exactly as sent.
    pub model: String,
    /// What its calls come to.
    pub sums: Sums,
    /// US dollars; calls whose cost nobody knows add nothing.
    pub cost_usd: f64,
    /// Milliseconds; none where no latency is known.
    pub avg_latency_ms: Option<f64>,
    /// Milliseconds, see [`percentile`].
    pub p50_latency_ms: Option<f64>,
    /// Milliseconds, see [`percentile`].
    pub p95_latency_ms: Option<f64>,
    /// How far the percentiles may be from the exact ones, as a share of them: 0, or [`histogram::ERROR`].
    pub percentile_error: f64,
}

/// From how many calls on percentiles are read from a histogram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Percentiles {
    /// Never.
    Exact,
    /// From more than [`EXACT_MAX`] on.
    Bounded,
}

/// Statistics of every model that was called, dearest first, then by name.
///
/// # Errors
/// What SQLite says.
pub fn model_stats(survey: &Survey, percentiles: Percentiles) -> Result<Vec<ModelStats>> {
    stats_of(survey, survey.by(Dimension::Model)?, percentiles)
}

/// The same of sums by model that are there already.
///
/// # Errors
/// What SQLite says.
pub fn stats_of(
    survey: &Survey,
    groups: BTreeMap<String, Group>,
    percentiles: Percentiles,
) -> Result<Vec<ModelStats>> {
    let timed: i64 = groups
        .values()
        .map(|group| group.sums.of(Count::Timed))
        .sum();
    let mut all: Vec<ModelStats> = if percentiles == Percentiles::Exact || timed <= EXACT_MAX {
        let mut latencies = survey.latencies()?;
        let exact = |(model, group): (String, Group)| {
            let mut ms = latencies.remove(model.as_str()).unwrap_or_default();
            ms.sort_unstable_by(f64::total_cmp);
            stats(model, &group, 0.0, |share| percentile(&ms, share))
        };
        groups.into_iter().map(exact).collect()
    } else {
        let near = |(model, group): (String, Group)| {
            stats(model, &group, histogram::ERROR, |share| {
                group.latencies.as_ref()?.percentile(share)
            })
        };
        groups.into_iter().map(near).collect()
    };
    all.sort_by(|a, b| {
        b.cost_usd
            .total_cmp(&a.cost_usd)
            .then_with(|| a.model.cmp(&b.model))
    });
    Ok(all)
}

fn stats(model: String, group: &Group, error: f64, at: impl Fn(f64) -> Option<f64>) -> ModelStats {
    ModelStats {
        model,
        cost_usd: group.sums.cost_usd,
        avg_latency_ms: group.average(),
        p50_latency_ms: at(0.50),
        p95_latency_ms: at(0.95),
        percentile_error: error,
        sums: group.sums.clone(),
    }
}

/// The value at `share` (0 to 1) of an ascending slice, linear between the two closest ranks; none of an empty one.
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

    /// The definition, written the slow way: rank the values by counting, then weigh the two neighbours.
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
    fn of_nothing_there_is_no_percentile() {
        assert_eq!(percentile(&[], 0.5), None);
        assert_eq!(percentile(&[7.0], 0.95), Some(7.0));
    }
}
