//! Single calls of some series in a range of time.
//!
//! The index `model_usage_calls` is ordered by hour and then by series: a batch touches few pages, and the calls of a
//! series are found without reading others.

use super::query::Survey;
use super::series::{DIMENSIONS, Number};
use super::window::Range;
use crate::clock::HOUR;
use rusqlite::{OptionalExtension, Result, Row, params};

/// Maximum number of series that are looked up one by one in an hour; for more, the whole hour is read.
pub const ONE_BY_ONE: usize = 32;

/// The calls of a survey's series in this range.
pub struct Singles<'s, 'a> {
    survey: &'s Survey<'a>,
    range: Range,
}

impl<'s, 'a> Singles<'s, 'a> {
    /// The series that pass the survey's filter.
    pub fn new(survey: &'s Survey<'a>, range: Range) -> Self {
        Self { survey, range }
    }

    /// Passes each call to `take` with the number and the values of its series, hour by hour. The first column of a row
    /// is the number, followed by `columns`, which the index has.
    ///
    /// # Errors
    /// The SQLite error, or the error of `take`.
    pub fn each(
        &self,
        columns: &str,
        mut take: impl FnMut(Number, &[Number; DIMENSIONS], &Row) -> Result<()>,
    ) -> Result<()> {
        let mut range = self.range;
        while let Some(hour) = self.hour(range, "")? {
            self.within(hour, columns, &mut take)?;
            range.from = (hour + 1) * HOUR;
        }
        Ok(())
    }

    /// The rows of the newest calls, by `seq`, newest first.
    ///
    /// # Errors
    /// The SQLite error.
    pub fn newest(&self, limit: usize) -> Result<Vec<i64>> {
        let mut keys: Vec<(i64, i64)> = Vec::new();
        let mut range = self.range;
        while keys.len() < limit
            && let Some(hour) = self.hour(range, "DESC")?
        {
            self.within(hour, "timestamp, seq", |_, _, row| {
                keys.push((row.get(1)?, row.get(2)?));
                if keys.len() >= 2 * limit + 64 {
                    keys.select_nth_unstable_by(limit, |a, b| b.cmp(a));
                    keys.truncate(limit);
                }
                Ok(())
            })?;
            range.to = hour * HOUR;
        }
        keys.sort_unstable_by(|a, b| b.cmp(a));
        keys.truncate(limit);
        Ok(keys.into_iter().map(|(_, seq)| seq).collect())
    }

    /// The first hour since 1970, or with `DESC` the last, with calls of any series. The query skips the hours in
    /// between.
    fn hour(&self, Range { from, to }: Range, order: &str) -> Result<Option<i64>> {
        let at: Option<i64> = self
            .survey
            .connection
            .prepare_cached(&format!(
                "SELECT timestamp FROM model_usage WHERE timestamp >= ?1 AND timestamp < ?2
                 ORDER BY timestamp {order} LIMIT 1"
            ))?
            .query_row((from, to), |row| row.get(0))
            .optional()?;
        Ok(at.map(|at| at.div_euclid(HOUR)))
    }

    fn within(
        &self,
        hour: i64,
        columns: &str,
        mut take: impl FnMut(Number, &[Number; DIMENSIONS], &Row) -> Result<()>,
    ) -> Result<()> {
        let Range { from, to } = self.range;
        let sql = format!(
            "SELECT series, {columns} FROM model_usage INDEXED BY model_usage_calls
             WHERE timestamp / {HOUR} = ?1 AND timestamp >= ?2 AND timestamp < ?3"
        );
        let connection = self.survey.connection;
        let few = self.survey.few().filter(|few| few.len() <= ONE_BY_ONE);
        let Some(few) = few else {
            let mut statement = connection.prepare_cached(&sql)?;
            let mut rows = statement.query((hour, from, to))?;
            while let Some(row) = rows.next()? {
                let number = row.get(0)?;
                if let Some(values) = self.survey.passing(number) {
                    take(number, values, row)?;
                }
            }
            return Ok(());
        };
        let mut statement = connection.prepare_cached(&format!("{sql} AND series = ?4"))?;
        for number in few {
            let Some(values) = self.survey.passing(*number) else {
                continue;
            };
            let mut rows = statement.query(params![hour, from, to, number])?;
            while let Some(row) = rows.next()? {
                take(*number, values, row)?;
            }
        }
        Ok(())
    }
}
