//! Single calls of some series in a range of time.
//!
//! The index `model_usage_calls` goes by the hour and within it by the series: what a batch adds stands on few pages, and
//! the calls of a series are found without reading those of others.

use super::series::Series;
use super::window::Range;
use crate::clock::HOUR;
use rusqlite::{Connection, OptionalExtension, Result, Row, params};

/// The most series that are looked up in an hour one by one; of more the whole hour is read.
const ONE_BY_ONE: usize = 32;

/// The calls of these series in this range.
pub struct Singles<'a, 'c> {
    connection: &'c Connection,
    wanted: Vec<(i64, &'a Series)>,
    range: Range,
}

impl<'a, 'c> Singles<'a, 'c> {
    /// Of the series with these numbers.
    pub fn new(
        connection: &'c Connection,
        wanted: impl IntoIterator<Item = (i64, &'a Series)>,
        range: Range,
    ) -> Self {
        Self {
            connection,
            wanted: wanted.into_iter().collect(),
            range,
        }
    }

    /// Gives each call with its series and the number of that, hour by hour. Of a row the first column is the number, then come `columns`, which the index has.
    ///
    /// # Errors
    /// What SQLite says, or `take`.
    pub fn each(
        &self,
        columns: &str,
        mut take: impl FnMut((i64, &'a Series), &Row) -> Result<()>,
    ) -> Result<()> {
        let mut range = self.range;
        let by_number = self.by_number();
        while let Some(hour) = self.hour(range, "")? {
            self.within(hour, columns, &by_number, &mut take)?;
            range.from = (hour + 1) * HOUR;
        }
        Ok(())
    }

    /// The rows of the newest calls, by `seq`, newest first.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn newest(&self, limit: usize) -> Result<Vec<i64>> {
        let mut keys: Vec<(i64, i64)> = Vec::new();
        let mut range = self.range;
        let by_number = self.by_number();
        while keys.len() < limit
            && let Some(hour) = self.hour(range, "DESC")?
        {
            self.within(hour, "timestamp, seq", &by_number, |_, row| {
                keys.push((row.get(1)?, row.get(2)?));
                Ok(())
            })?;
            range.to = hour * HOUR;
        }
        keys.sort_unstable_by(|a, b| b.cmp(a));
        keys.truncate(limit);
        Ok(keys.into_iter().map(|(_, seq)| seq).collect())
    }

    /// The first hour since 1970, or with `DESC` the last, in which there are calls of whatever series: those between
    /// are jumped over.
    fn hour(&self, Range { from, to }: Range, order: &str) -> Result<Option<i64>> {
        let at: Option<i64> = self
            .connection
            .prepare_cached(&format!(
                "SELECT timestamp FROM model_usage WHERE timestamp >= ?1 AND timestamp < ?2
                 ORDER BY timestamp {order} LIMIT 1"
            ))?
            .query_row((from, to), |row| row.get(0))
            .optional()?;
        Ok(at.map(|at| at.div_euclid(HOUR)))
    }

    /// The series by their numbers, which are small and dense: one is looked up for each call of an hour that is read.
    fn by_number(&self) -> Vec<Option<&'a Series>> {
        let mut by_number = Vec::new();
        for (number, series) in &self.wanted {
            let place = usize::try_from(*number).unwrap_or_default();
            if by_number.len() <= place {
                by_number.resize(place + 1, None);
            }
            by_number[place] = Some(*series);
        }
        by_number
    }

    fn within(
        &self,
        hour: i64,
        columns: &str,
        by_number: &[Option<&'a Series>],
        mut take: impl FnMut((i64, &'a Series), &Row) -> Result<()>,
    ) -> Result<()> {
        let Range { from, to } = self.range;
        let sql = format!(
            "SELECT series, {columns} FROM model_usage INDEXED BY model_usage_calls
             WHERE timestamp / {HOUR} = ?1 AND timestamp >= ?2 AND timestamp < ?3"
        );
        if self.wanted.len() > ONE_BY_ONE {
            let mut statement = self.connection.prepare_cached(&sql)?;
            let mut rows = statement.query((hour, from, to))?;
            while let Some(row) = rows.next()? {
                let number = row.get(0)?;
                let place = usize::try_from(number).unwrap_or_default();
                if let Some(Some(series)) = by_number.get(place) {
                    take((number, series), row)?;
                }
            }
            return Ok(());
        }
        let mut statement = self
            .connection
            .prepare_cached(&format!("{sql} AND series = ?4"))?;
        for (number, series) in &self.wanted {
            let mut rows = statement.query(params![hour, from, to, number])?;
            while let Some(row) = rows.next()? {
                take((*number, series), row)?;
            }
        }
        Ok(())
    }
}
