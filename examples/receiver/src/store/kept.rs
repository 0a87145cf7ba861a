//! Cache of figures of all rows of a kind, valid while the sums do not change: concurrent pages read the same figures.

use super::brief::Brief;
use super::rollup::Sums;
use super::rows::{self, Table};
use super::series::Number;
use super::window::Range;
use rusqlite::{Connection, Result};
use std::sync::{Arc, Mutex, PoisonError};

/// Minimum number of rows: reading fewer is as fast as the cache. Tests cache all, to detect stale figures.
const LEAST: usize = if cfg!(test) { 1 } else { 20_000 };
/// Maximum number of rows: a million take 24 MB.
const MOST: usize = 2_000_000;
/// Maximum number of cached readings.
const READINGS: usize = 2;

/// The last readings, for example of models by day and of a filter.
#[derive(Clone, Debug, Default)]
pub struct Kept(Arc<Mutex<Vec<Arc<Reading>>>>);

/// A reading, and the state of the sums that it belongs to.
#[derive(Debug)]
struct Reading {
    of: (i64, Table, i64, Range),
    rows: Vec<Common>,
    /// The counts of few rows.
    rare: Vec<(Number, Brief)>,
}

/// The columns of every row.
#[derive(Clone, Copy, Debug)]
struct Common {
    number: Number,
    calls: u32,
    cost_usd: f64,
    tokens: i64,
}

impl Reading {
    /// Whether it is small enough for the cache.
    fn push(&mut self, number: Number, brief: &Brief) -> bool {
        let (calls, cost_usd, tokens) = (brief.calls, brief.cost_usd, brief.tokens);
        self.rows.push(Common {
            number,
            calls,
            cost_usd,
            tokens,
        });
        let rare = Brief {
            calls: 0,
            cost_usd: 0.0,
            tokens: 0,
            ..*brief
        };
        if rare != Brief::default() {
            self.rare.push((number, rare));
        }
        self.rows.len() < MOST
    }

    fn each(&self, take: &mut impl FnMut(Number, &Brief)) {
        for row in &self.rows {
            let brief = Brief {
                calls: row.calls,
                cost_usd: row.cost_usd,
                tokens: row.tokens,
                ..Brief::default()
            };
            take(row.number, &brief);
        }
        for (number, rare) in &self.rare {
            take(*number, rare);
        }
    }
}

impl Kept {
    /// Passes figures of the rows of a kind to `take`, of all rows or of some numbers; a row may come in two parts.
    ///
    /// # Errors
    /// The SQLite error.
    pub fn briefs(
        &self,
        connection: &Connection,
        (table, kind, range): (Table, i64, Range),
        numbers: Option<&[Number]>,
        mut take: impl FnMut(Number, &Brief),
    ) -> Result<()> {
        if let Some(numbers) = numbers {
            return rows::of_numbers(connection, table, kind, range, numbers, |number, _, row| {
                take(number, &Brief::of(&Sums::of_row(row, 3)?));
                Ok(())
            });
        }
        let of = (state(connection)?, table, kind, range);
        if let Some(reading) = self.find(&of) {
            reading.each(&mut take);
            return Ok(());
        }
        let mut reading = Some(Reading {
            of,
            rows: Vec::new(),
            rare: Vec::new(),
        });
        let mut statement = connection.prepare_cached(&format!(
            "SELECT series, {} FROM {} WHERE kind = ?1 AND start >= ?2 AND start < ?3",
            Brief::COLUMNS,
            table.name()
        ))?;
        let mut rows = statement.query((kind, range.from, range.to))?;
        while let Some(row) = rows.next()? {
            let (number, brief) = (row.get(0)?, Brief::of_row(row)?);
            take(number, &brief);
            if reading
                .as_mut()
                .is_some_and(|reading| !reading.push(number, &brief))
            {
                reading = None;
            }
        }
        if let Some(reading) = reading.filter(|reading| reading.rows.len() >= LEAST) {
            self.keep(reading);
        }
        Ok(())
    }

    fn find(&self, of: &(i64, Table, i64, Range)) -> Option<Arc<Reading>> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.iter().find(|reading| reading.of == *of).cloned()
    }

    fn keep(&self, reading: Reading) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Readings of earlier states are obsolete.
        kept.retain(|other| other.of.0 == reading.of.0 && other.of != reading.of);
        kept.truncate(READINGS - 1);
        kept.insert(0, Arc::new(reading));
    }
}

/// The version of the sums in the state that is read: it differs after any change by any process.
fn state(connection: &Connection) -> Result<i64> {
    connection
        .prepare_cached("SELECT changes FROM sums_state")?
        .query_row([], |row| row.get(0))
}
