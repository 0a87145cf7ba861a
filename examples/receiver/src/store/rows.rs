//! The rows of the tables of sums.

use super::rollup::SUMS;
use super::series::{EVERYTHING, Number};
use super::window::Range;
use crate::clock::Micros;
use rusqlite::{Connection, Result, Row};

/// A table of sums.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Table {
    /// By hour.
    Hours,
    /// By day.
    Days,
}

impl Table {
    /// Its name in the database.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Hours => "usage_hour",
            Self::Days => "usage_day",
        }
    }
}

/// Passes the sums of the rows of a kind to `take`: of all rows, or of some numbers.
///
/// # Errors
/// The SQLite error, or the error of `take`.
pub fn sums(
    connection: &Connection,
    table: Table,
    kind: i64,
    range: Range,
    numbers: Option<&[Number]>,
    take: impl FnMut(Number, Micros, &Row) -> Result<()>,
) -> Result<()> {
    match numbers {
        Some(numbers) => of_numbers(connection, table, kind, range, numbers, take),
        None => of_kind(connection, table, kind, range, take),
    }
}

fn of_kind(
    connection: &Connection,
    table: Table,
    kind: i64,
    range: Range,
    mut take: impl FnMut(Number, Micros, &Row) -> Result<()>,
) -> Result<()> {
    let mut statement = connection.prepare_cached(&format!(
        "SELECT series, start, latencies, {} FROM {} WHERE kind = ?1 AND start >= ?2 AND start < ?3",
        *SUMS,
        table.name()
    ))?;
    let mut rows = statement.query((kind, range.from, range.to))?;
    while let Some(row) = rows.next()? {
        take(row.get(0)?, row.get(1)?, row)?;
    }
    Ok(())
}

/// Passes the sums of the rows of some numbers to `take`, and reads no others.
///
/// # Errors
/// The SQLite error, or the error of `take`.
pub fn of_numbers(
    connection: &Connection,
    table: Table,
    kind: i64,
    range: Range,
    numbers: &[Number],
    mut take: impl FnMut(Number, Micros, &Row) -> Result<()>,
) -> Result<()> {
    let name = table.name();
    // If there are calls, there is a row of everything.
    let mut starts = connection.prepare_cached(&format!(
        "SELECT start FROM {name} WHERE kind = {EVERYTHING} AND start >= ?1 AND start < ?2"
    ))?;
    let mut one = connection.prepare_cached(&format!(
        "SELECT series, start, latencies, {} FROM {name} WHERE kind = ?1 AND start = ?2 AND series = ?3",
        *SUMS
    ))?;
    let mut starts = starts.query((range.from, range.to))?;
    while let Some(row) = starts.next()? {
        let start: Micros = row.get(0)?;
        for number in numbers {
            let mut rows = one.query((kind, start, number))?;
            if let Some(row) = rows.next()? {
                take(*number, start, row)?;
            }
        }
    }
    Ok(())
}
