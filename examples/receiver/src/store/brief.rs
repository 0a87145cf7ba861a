//! Sums that are kept for every value, however many there are.

use super::rollup::{Count, Sums};
use rusqlite::types::ValueRef;
use rusqlite::{Result, Row};

/// Sums of a value's calls, as far as ranking and short lists need them.
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

    /// From full sums.
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

    /// The columns that [`Brief::of_row`] reads from the second on. The lowest bit of the third says whether any later
    /// column is not zero: reading few columns saves most of the time of a million rows.
    pub const COLUMNS: &str = "cost_usd, prompt_tokens + completion_tokens,
        calls << 1 | ((unknown_cost | failed | aborted | missing_usage | rerouted) <> 0),
        unknown_cost, failed, aborted, missing_usage, rerouted";

    /// Reads [`Brief::COLUMNS`].
    ///
    /// # Errors
    /// The SQLite error.
    pub fn of_row(row: &Row) -> Result<Self> {
        let cut = |count: i64| count.clamp(0, u32::MAX.into()) as u32;
        let count = |index| row.get(index).map(cut);
        let calls: i64 = row.get(3)?;
        let mut brief = Self {
            cost_usd: row.get(1)?,
            tokens: match row.get_ref(2)? {
                ValueRef::Integer(tokens) => tokens,
                // Too large for 64 bits; the cast returns the largest number.
                other => other.as_f64()? as i64,
            },
            calls: cut(calls >> 1),
            ..Self::default()
        };
        if calls & 1 != 0 {
            brief.unknown_cost = count(4)?;
            brief.failed = count(5)?;
            brief.aborted = count(6)?;
            brief.missing_usage = count(7)?;
            brief.rerouted = count(8)?;
        }
        Ok(brief)
    }
}
