//! The metric `model_errors`: model calls that failed or were stopped, whether they were billed or not.

use super::window::Window;
use crate::clock::{HOUR, Micros};
use rusqlite::{Connection, Result};
use serde_json::Value;
use std::collections::BTreeMap;

/// The metric's name.
pub const METRIC: &str = "model_errors";

/// What became of the calls of a model that did not succeed.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Errors {
    /// The provider or the stream failed.
    pub failed: f64,
    /// Somebody stopped them.
    pub aborted: f64,
}

/// Adds a point of the metric to its sums.
///
/// # Errors
/// What SQLite says.
pub fn count(
    connection: &Connection,
    at: Micros,
    agent: &str,
    tags: &str,
    value: f64,
) -> Result<()> {
    // Tags were an object when they came in.
    let tags: Value = serde_json::from_str(tags).unwrap_or_default();
    let tag = |name: &str| tags[name].as_str().unwrap_or_default();
    connection
        .prepare_cached(
            "INSERT INTO errors_hour (start, model, agent, outcome, errors) VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT DO UPDATE SET errors = errors + excluded.errors",
        )?
        .execute((at.div_euclid(HOUR) * HOUR, tag("model"), agent, tag("outcome"), value))
        .map(drop)
}

/// Counts the points that a database of an earlier version holds.
pub const TAKE_IN: &str = "INSERT INTO errors_hour (start, model, agent, outcome, errors)
    SELECT timestamp - timestamp % 3600000000, ifnull(tags ->> 'model', ''), agent_name,
        ifnull(tags ->> 'outcome', ''), sum(value)
    FROM metrics WHERE name = 'model_errors' AND json_valid(tags) GROUP BY 1, 2, 3, 4;";

/// Errors by model, of one model or agent where these are given.
///
/// # Errors
/// What SQLite says.
pub fn by_model(
    connection: &Connection,
    window: Window,
    model: Option<&str>,
    agent: Option<&str>,
) -> Result<BTreeMap<String, Errors>> {
    const SUMS: &str = "SELECT model, outcome, sum(errors) FROM errors_hour
        WHERE start >= ?1 AND start < ?2 AND (?3 IS NULL OR model = ?3) AND (?4 IS NULL OR agent = ?4)
        GROUP BY model, outcome";
    const POINTS: &str =
        "SELECT ifnull(tags ->> 'model', ''), ifnull(tags ->> 'outcome', ''), value FROM metrics
        WHERE name = 'model_errors' AND timestamp >= ?1 AND timestamp < ?2 AND json_valid(tags)
            AND (?3 IS NULL OR tags ->> 'model' = ?3) AND (?4 IS NULL OR agent_name = ?4)";
    let parts = window.parts();
    let hours = parts
        .hours
        .iter()
        .chain(&parts.days)
        .map(|range| (SUMS, *range));
    let edges = parts.edges.iter().map(|range| (POINTS, *range));
    let mut models: BTreeMap<String, Errors> = BTreeMap::new();
    for (sql, range) in hours.chain(edges) {
        let mut statement = connection.prepare_cached(sql)?;
        let mut rows = statement.query((range.from, range.to, model, agent))?;
        while let Some(row) = rows.next()? {
            let errors = models.entry(row.get(0)?).or_default();
            match row.get_ref(1)?.as_str()? {
                "aborted" => errors.aborted += row.get::<_, f64>(2)?,
                _ => errors.failed += row.get::<_, f64>(2)?,
            }
        }
    }
    Ok(models)
}

/// A model failed and another answered in the same turn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fallback {
    /// The model that failed.
    pub from: String,
    /// The model that answered.
    pub to: String,
    /// In how many turns.
    pub turns: i64,
}

/// Fallbacks among the latest thousand failed calls that traces tell of, most frequent first.
///
/// # Errors
/// What SQLite says.
pub fn fallbacks(connection: &Connection, window: Window) -> Result<Vec<Fallback>> {
    let mut statement = connection.prepare_cached(
        "WITH failed AS (
             SELECT trace_id, name, started_at FROM spans
             WHERE status = 'failed' AND name GLOB 'chat *' AND started_at >= ?1 AND started_at < ?2
             ORDER BY started_at DESC LIMIT 1000)
         SELECT substr(f.name, 6), substr(s.name, 6), count(DISTINCT f.trace_id) FROM failed f
         JOIN spans s ON s.trace_id = f.trace_id AND s.status = 'completed' AND s.name GLOB 'chat *'
             AND s.name <> f.name AND s.started_at >= f.started_at
         GROUP BY 1, 2 ORDER BY 3 DESC, 1, 2 LIMIT 20",
    )?;
    let rows = statement.query_map((window.from, window.end()), |row| {
        Ok(Fallback {
            from: row.get(0)?,
            to: row.get(1)?,
            turns: row.get(2)?,
        })
    })?;
    rows.collect()
}
