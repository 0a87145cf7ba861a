//! Sums of whole series by day or hour, a part at a time.

use super::query::Survey;
use super::rollup::{SUMS, Sums};
use super::rows::Table;
use super::series::{self, DIMENSIONS, Dimension, EVERYTHING, WHOLE};
use super::window::Range;
use crate::clock::Micros;
use rusqlite::{Connection, Result};

/// The calls of a period with equal dimensions.
#[derive(Clone, Debug)]
pub struct Row {
    /// In the order of [`Dimension`]; empty where records have none.
    pub values: [String; DIMENSIONS],
    pub sums: Sums,
}

/// The number of a range's rows that pass the survey's filter, at most `most`.
///
/// # Errors
/// The SQLite error.
pub fn count(survey: &Survey, table: Table, range: Range, most: usize) -> Result<usize> {
    let mut select = survey.connection.prepare_cached(&format!(
        "SELECT series FROM {} WHERE kind = {WHOLE} AND start >= ?1 AND start < ?2",
        table.name()
    ))?;
    let mut rows = select.query((range.from, range.to))?;
    let mut count = 0;
    while count < most
        && let Some(row) = rows.next()?
    {
        count += usize::from(survey.passing(row.get(0)?).is_some());
    }
    Ok(count)
}

/// The periods of a range that have calls.
///
/// # Errors
/// The SQLite error.
pub fn starts(connection: &Connection, table: Table, range: Range) -> Result<Vec<Micros>> {
    let mut select = connection.prepare_cached(&format!(
        "SELECT start FROM {} WHERE kind = {EVERYTHING} AND start >= ?1 AND start < ?2 ORDER BY start",
        table.name()
    ))?;
    let rows = select.query_map((range.from, range.to), |row| row.get(0))?;
    rows.collect()
}

/// Up to `most` rows of a period that pass the survey's filter, of series after a number; and the number to go on after,
/// `None` at the end.
///
/// # Errors
/// The SQLite error.
pub fn rows(
    survey: &Survey,
    table: Table,
    start: Micros,
    after: i64,
    most: usize,
) -> Result<(Vec<Row>, Option<i64>)> {
    let connection = survey.connection;
    let mut select = connection.prepare_cached(&format!(
        "SELECT series, {} FROM {} WHERE kind = {WHOLE} AND start = ?1 AND series > ?2 ORDER BY series",
        *SUMS,
        table.name()
    ))?;
    let mut found = Vec::new();
    let mut rows = select.query((start, after))?;
    while let Some(row) = rows.next()? {
        let number = row.get(0)?;
        let Some(numbers) = survey.passing(number) else {
            continue;
        };
        let mut values: [String; DIMENSIONS] = Default::default();
        for dimension in Dimension::ALL {
            let place = dimension as usize;
            values[place] = series::value(connection, dimension, numbers[place])?;
        }
        let sums = Sums::of_row(row, 1)?;
        found.push(Row { values, sums });
        if found.len() == most {
            return Ok((found, Some(i64::from(number))));
        }
    }
    Ok((found, None))
}
