//! What the prompt cache saved and cost, as senders computed it by the model's rates: by whole series and hour.

use super::query::Survey;
use super::rollup::Call;
use super::window::Range;
use crate::clock::Micros;
use rusqlite::{Connection, Result};
use std::collections::HashMap;

/// Sums of the calls that told it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Cache {
    pub calls: i64,
    /// US dollars that cache reads saved.
    pub saved_usd: f64,
    /// US dollars that cache writes cost above the input rate.
    pub write_extra_usd: f64,
}

impl Cache {
    /// The figures of one call; `None` if it told none.
    pub fn of(call: &Call) -> Option<Self> {
        let [saved, extra] = call.cache_usd;
        (saved.is_some() || extra.is_some()).then(|| Self {
            calls: 1,
            saved_usd: saved.unwrap_or(0.0),
            write_extra_usd: extra.unwrap_or(0.0),
        })
    }

    /// Adds others (`times` 1), or subtracts them (-1).
    pub fn add(&mut self, other: &Self, times: i64) {
        self.calls += times * other.calls;
        self.saved_usd += times as f64 * other.saved_usd;
        self.write_extra_usd += times as f64 * other.write_extra_usd;
    }
}

/// Changes of sums, not yet written, by hour and whole series.
#[derive(Default)]
pub struct Changes(HashMap<(Micros, i64), Cache>);

impl Changes {
    /// Adds a call (`times` 1), or subtracts it (-1).
    pub fn add(&mut self, start: Micros, series: i64, call: &Call, times: i64) {
        if let Some(sums) = Cache::of(call) {
            self.0.entry((start, series)).or_default().add(&sums, times);
        }
    }

    /// Writes them.
    ///
    /// # Errors
    /// The SQLite error.
    pub fn write(self, connection: &Connection) -> Result<()> {
        let mut changes: Vec<_> = self.0.into_iter().collect();
        // In the order of the table, since neighbours are on the same page.
        changes.sort_unstable_by_key(|(key, _)| *key);
        let mut upsert = connection.prepare_cached(
            "INSERT INTO cache_hour (start, series, calls, saved_usd, write_extra_usd) VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT (start, series) DO UPDATE SET calls = calls + excluded.calls,
                 saved_usd = saved_usd + excluded.saved_usd,
                 write_extra_usd = write_extra_usd + excluded.write_extra_usd",
        )?;
        let mut delete = connection.prepare_cached(
            "DELETE FROM cache_hour WHERE start = ?1 AND series = ?2 AND calls = 0",
        )?;
        for ((start, series), sums) in changes {
            let Cache {
                calls,
                saved_usd,
                write_extra_usd,
            } = sums;
            upsert.execute((start, series, calls, saved_usd, write_extra_usd))?;
            if calls <= 0 {
                delete.execute((start, series))?;
            }
        }
        Ok(())
    }
}

/// Sums of whole hours of a survey.
///
/// # Errors
/// The SQLite error.
pub fn hours(survey: &Survey, ranges: &[Range]) -> Result<Cache> {
    let mut total = Cache::default();
    let mut select = survey.connection.prepare_cached(
        "SELECT series, calls, saved_usd, write_extra_usd FROM cache_hour WHERE start >= ?1 AND start < ?2",
    )?;
    for Range { from, to } in ranges {
        let mut rows = select.query((from, to))?;
        while let Some(row) = rows.next()? {
            if survey.passing(row.get(0)?).is_some() {
                let sums = Cache {
                    calls: row.get(1)?,
                    saved_usd: row.get(2)?,
                    write_extra_usd: row.get(3)?,
                };
                total.add(&sums, 1);
            }
        }
    }
    Ok(total)
}
