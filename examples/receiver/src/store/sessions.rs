//! Sums of sessions: updated in the transaction that changes the calls, and ranked by cost.

use super::query::Survey;
use super::rollup::{Count, Sums};
use super::rows::Table;
use super::series::Number;
use super::window::Range;
use crate::clock::{HOUR, Micros};
use rusqlite::{Connection, Result, Row};
use std::collections::HashMap;

/// Sums of a session's calls in a window.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ranked {
    /// The session's key as it was sent, mostly hashed.
    pub session: String,
    pub calls: i64,
    pub prompt_tokens: i64,
    pub completion_tokens: i64,
    pub unknown_cost: i64,
    /// US dollars.
    pub cost_usd: f64,
}

/// Changes of sums, not yet written, by hour, session and whole series.
#[derive(Default)]
pub struct Changes(HashMap<(Micros, String, i64), Ranked>);

impl Changes {
    /// Adds a call's sums, which are negative for a call that is subtracted. A call without a session is in none.
    pub fn add(&mut self, start: Micros, session: &str, series: i64, sums: &Sums) {
        if session.is_empty() {
            return;
        }
        let key = (start, session.to_owned(), series);
        self.0.entry(key).or_default().add(&Ranked {
            session: String::new(),
            calls: sums.of(Count::Calls),
            prompt_tokens: sums.of(Count::Prompt),
            completion_tokens: sums.of(Count::Completion),
            unknown_cost: sums.of(Count::UnknownCost),
            cost_usd: sums.cost_usd,
        });
    }

    /// Writes them.
    ///
    /// # Errors
    /// The SQLite error.
    pub fn write(self, connection: &Connection) -> Result<()> {
        let mut changes: Vec<_> = self.0.into_iter().collect();
        // In the order of the table, since neighbours are on the same page.
        changes.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        let mut upsert = connection.prepare_cached(
            "INSERT INTO session_hour (start, session, series, calls, prompt_tokens, completion_tokens, unknown_cost,
                 cost_usd) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
             ON CONFLICT (start, session, series) DO UPDATE SET calls = calls + excluded.calls,
                 prompt_tokens = CAST(prompt_tokens + excluded.prompt_tokens AS INTEGER),
                 completion_tokens = CAST(completion_tokens + excluded.completion_tokens AS INTEGER),
                 unknown_cost = unknown_cost + excluded.unknown_cost, cost_usd = cost_usd + excluded.cost_usd",
        )?;
        let mut delete = connection.prepare_cached(
            "DELETE FROM session_hour WHERE start = ?1 AND session = ?2 AND series = ?3 AND calls = 0",
        )?;
        for ((start, session, series), sums) in &changes {
            upsert.execute((
                start,
                session,
                series,
                sums.calls,
                sums.prompt_tokens,
                sums.completion_tokens,
                sums.unknown_cost,
                sums.cost_usd,
            ))?;
            if sums.calls <= 0 {
                delete.execute((start, session, series))?;
            }
        }
        Ok(())
    }
}

impl Ranked {
    fn add(&mut self, more: &Self) {
        for (sum, more) in [
            (&mut self.calls, more.calls),
            (&mut self.prompt_tokens, more.prompt_tokens),
            (&mut self.completion_tokens, more.completion_tokens),
            (&mut self.unknown_cost, more.unknown_cost),
        ] {
            *sum = sum.saturating_add(more);
        }
        self.cost_usd += more.cost_usd;
    }
}

/// Sums the calls of earlier versions than 6, as far as they are in the other sums.
pub const TAKE_IN: &str = "INSERT INTO session_hour
    SELECT timestamp / 3600000000 * 3600000000, session_key, series, count(*),
        CAST(total(prompt_tokens) AS INTEGER), CAST(total(completion_tokens) AS INTEGER),
        CAST(total(ifnull(cost_source = 'unknown', 0)) AS INTEGER), total(cost_usd)
    FROM model_usage WHERE session_key <> '' AND series IS NOT NULL GROUP BY 1, 2, 3";

const OF_HOURS: &str =
    "SELECT session, series, calls, prompt_tokens, completion_tokens, unknown_cost, cost_usd
    FROM session_hour WHERE start >= ?1 AND start < ?2";
const OF_CALLS: &str = "SELECT session_key, series, 1, prompt_tokens, completion_tokens,
    ifnull(cost_source = 'unknown', 0), cost_usd
    FROM model_usage WHERE timestamp >= ?1 AND timestamp < ?2 AND session_key <> ''";

/// The sessions of a survey with the highest cost, then with the most tokens, and the number of all sessions.
///
/// # Errors
/// The SQLite error.
pub fn dearest(survey: &Survey, most: usize) -> Result<(Vec<Ranked>, usize)> {
    let parts = survey.parts(HOUR);
    let hours = parts.bars.iter().map(|(table, range)| {
        debug_assert_eq!(*table, Table::Hours);
        (OF_HOURS, *range)
    });
    let ranges: Vec<(&str, Range)> = hours
        .chain(parts.edges.iter().map(|range| (OF_CALLS, *range)))
        .collect();
    if ranges.is_empty() {
        return Ok((Vec::new(), 0));
    }
    let selects = ranges.iter().enumerate().map(|(index, (sql, _))| {
        let bound = |by: usize| format!("?{}", 2 * index + by);
        sql.replace("?1", &bound(1)).replace("?2", &bound(2))
    });
    // SQLite sorts on disk, so that memory has one session at a time and those that are shown.
    let sql = format!(
        "{} ORDER BY 1",
        selects.collect::<Vec<_>>().join(" UNION ALL ")
    );
    let bounds = ranges.iter().flat_map(|(_, range)| [range.from, range.to]);
    let mut statement = survey.connection.prepare(&sql)?;
    let mut rows = statement.query(rusqlite::params_from_iter(bounds))?;
    let (mut ranked, mut all) = (Vec::new(), 0);
    let mut last: Option<Ranked> = None;
    let mut finish = |session: Option<Ranked>| {
        let Some(session) = session else { return };
        all += 1;
        ranked.push(session);
        if ranked.len() >= most.saturating_mul(2).max(1_024) {
            keep_dearest(&mut ranked, most);
        }
    };
    while let Some(row) = rows.next()? {
        let series: Number = row.get(1)?;
        if survey.passing(series).is_none() {
            continue;
        }
        let session = row.get_ref(0)?.as_str()?;
        match &mut last {
            Some(sum) if sum.session == session => sum.add(&of_row(row)?),
            _ => {
                let next = Ranked {
                    session: session.to_owned(),
                    ..of_row(row)?
                };
                finish(last.replace(next));
            }
        }
    }
    finish(last);
    keep_dearest(&mut ranked, most);
    Ok((ranked, all))
}

fn keep_dearest(ranked: &mut Vec<Ranked>, most: usize) {
    ranked.sort_unstable_by(|a, b| {
        let tokens = |of: &Ranked| of.prompt_tokens.saturating_add(of.completion_tokens);
        b.cost_usd
            .total_cmp(&a.cost_usd)
            .then_with(|| tokens(b).cmp(&tokens(a)))
            .then_with(|| a.session.cmp(&b.session))
    });
    ranked.truncate(most);
}

fn of_row(row: &Row) -> Result<Ranked> {
    Ok(Ranked {
        session: String::new(),
        calls: row.get(2)?,
        prompt_tokens: row.get(3)?,
        completion_tokens: row.get(4)?,
        unknown_cost: row.get(5)?,
        cost_usd: row.get(6)?,
    })
}
