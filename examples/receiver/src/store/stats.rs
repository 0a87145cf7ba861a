//! What the Models page shows: totals and exact percentiles for each model.

use crate::clock::Micros;
use rusqlite::{Connection, Result};
use std::collections::HashMap;

/// The calls of one model in a range of time.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ModelStats {
    /// The model string, exactly as sent.
    pub model: String,
    /// Number of calls.
    pub requests: u64,
    /// Input tokens, cached ones included.
    pub prompt_tokens: i64,
    /// Output tokens.
    pub completion_tokens: i64,
    /// US dollars.
    pub cost_usd: f64,
    /// Calls whose cost nobody knows; they add nothing to [`Self::cost_usd`].
    pub unknown_cost_requests: u64,
    /// Calls whose latency is known.
    pub timed_requests: u64,
    /// Milliseconds; none where no latency is known.
    pub avg_latency_ms: Option<f64>,
    /// Milliseconds, see [`percentile`].
    pub p50_latency_ms: Option<f64>,
    /// Milliseconds, see [`percentile`].
    pub p95_latency_ms: Option<f64>,
}

impl ModelStats {
    /// Prompt and completion tokens together. Stock mode takes negative and huge counts, hence saturating.
    pub fn total_tokens(&self) -> i64 {
        self.prompt_tokens.saturating_add(self.completion_tokens)
    }
}

/// Statistics of every model called since `since`, dearest first, then by name.
///
/// One sweep over the time range gathers the latencies of each model, which are then sorted here: exact, and
/// one visit a row, where a percentile query for each model would visit the range again each time.
///
/// # Errors
/// What SQLite says.
pub fn model_stats(connection: &Connection, since: Micros) -> Result<Vec<ModelStats>> {
    let mut statement = connection.prepare_cached(
        "SELECT model, prompt_tokens, completion_tokens, cost_usd, latency_ms, cost_source
         FROM model_usage WHERE timestamp >= ?1",
    )?;
    let mut rows = statement.query([since])?;
    let mut models: HashMap<String, (ModelStats, Vec<f64>)> = HashMap::new();
    while let Some(row) = rows.next()? {
        let name = row.get_ref(0)?.as_str()?;
        // Looked up by reference first: the name is copied once a model, not once a row.
        if !models.contains_key(name) {
            let stats = ModelStats {
                model: name.to_owned(),
                ..ModelStats::default()
            };
            models.insert(name.to_owned(), (stats, Vec::new()));
        }
        let Some((stats, latencies)) = models.get_mut(name) else {
            continue;
        };
        stats.requests += 1;
        stats.prompt_tokens = stats.prompt_tokens.saturating_add(row.get(1)?);
        stats.completion_tokens = stats.completion_tokens.saturating_add(row.get(2)?);
        stats.cost_usd += row.get::<_, f64>(3)?;
        latencies.extend(row.get::<_, Option<f64>>(4)?);
        stats.unknown_cost_requests +=
            u64::from(row.get_ref(5)?.as_str_or_null()? == Some("unknown"));
    }
    let mut all: Vec<ModelStats> = models.into_values().map(finish).collect();
    all.sort_by(|a, b| {
        b.cost_usd
            .total_cmp(&a.cost_usd)
            .then_with(|| a.model.cmp(&b.model))
    });
    Ok(all)
}

fn finish((mut stats, mut latencies): (ModelStats, Vec<f64>)) -> ModelStats {
    latencies.sort_unstable_by(f64::total_cmp);
    stats.timed_requests = latencies.len() as u64;
    if !latencies.is_empty() {
        stats.avg_latency_ms = Some(latencies.iter().sum::<f64>() / latencies.len() as f64);
    }
    stats.p50_latency_ms = percentile(&latencies, 0.50);
    stats.p95_latency_ms = percentile(&latencies, 0.95);
    stats
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
