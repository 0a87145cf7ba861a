//! The metric `model_errors`: failed and aborted model calls, billed or not.

use super::counters::Failure;
use super::first::first;
use super::window::Window;
use crate::clock::{HOUR, Micros};
use rusqlite::{Connection, Result, ToSql};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// The metric's name.
pub const METRIC: &str = "model_errors";

/// Numbers of failed and aborted calls of a model.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Errors {
    /// The provider or the stream failed.
    pub failed: f64,
    /// The client or the user stopped them.
    pub aborted: f64,
}

/// Adds a point of the metric to its sums, and returns it.
///
/// # Errors
/// The SQLite error.
pub fn count(
    connection: &Connection,
    at: Micros,
    agent: &str,
    tags: &str,
    value: f64,
) -> Result<Failure> {
    // Tags were validated as an object.
    let tags: Value = serde_json::from_str(tags).unwrap_or_default();
    let tag = |name: &str| tags[name].as_str().unwrap_or_default();
    connection
        .prepare_cached(
            "INSERT INTO errors_hour (start, model, agent, outcome, errors) VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT DO UPDATE SET errors = errors + excluded.errors",
        )?
        .execute((at.div_euclid(HOUR) * HOUR, tag("model"), agent, tag("outcome"), value))?;
    Ok(Failure {
        agent: agent.to_owned(),
        model: tag("model").to_owned(),
        is_aborted: tag("outcome") == "aborted",
        errors: value,
    })
}

/// Counts the points in a database of an earlier version.
pub const TAKE_IN: &str = "INSERT INTO errors_hour (start, model, agent, outcome, errors)
    SELECT timestamp - timestamp % 3600000000, iif(json_type(tags, '$.model') = 'text', tags ->> 'model', ''), agent_name,
        iif(json_type(tags, '$.outcome') = 'text', tags ->> 'outcome', ''), sum(value)
    FROM metrics WHERE name = 'model_errors' AND json_valid(tags) GROUP BY 1, 2, 3, 4;";

/// Passes the errors of each model to `take`, filtered by model or agent. SQLite groups the models and stores what
/// exceeds its cache in a file.
///
/// # Errors
/// The SQLite error, or the error of `take`.
pub fn each_model(
    connection: &Connection,
    window: Window,
    model: Option<&str>,
    agent: Option<&str>,
    mut take: impl FnMut(&str, Errors) -> Result<()>,
) -> Result<()> {
    const HOURS: &str = "SELECT model, outcome, errors FROM errors_hour
        WHERE start >= ? AND start < ? AND (?1 IS NULL OR model = ?1) AND (?2 IS NULL OR agent = ?2)";
    // As `count` reads them: another value than a text is none.
    const POINTS: &str = "SELECT * FROM (
            SELECT iif(json_type(tags, '$.model') = 'text', tags ->> 'model', '') AS model,
                iif(json_type(tags, '$.outcome') = 'text', tags ->> 'outcome', ''), value FROM metrics
            WHERE name = 'model_errors' AND timestamp >= ? AND timestamp < ? AND json_valid(tags)
                AND (?2 IS NULL OR agent_name = ?2)
        ) WHERE ?1 IS NULL OR model = ?1";
    let parts = window.parts();
    let hours = parts.hours.iter().chain(&parts.days);
    let hours = hours.map(|range| (HOURS, *range));
    let ranges: Vec<_> = hours
        .chain(parts.edges.iter().map(|range| (POINTS, *range)))
        .collect();
    let mut values: Vec<&dyn ToSql> = vec![&model, &agent];
    let mut selects = Vec::new();
    for (select, range) in &ranges {
        let (from, to) = (values.len() + 1, values.len() + 2);
        let select = select.replacen(">= ?", &format!(">= ?{from}"), 1);
        selects.push(select.replacen("< ?", &format!("< ?{to}"), 1));
        values.extend([&range.from as &dyn ToSql, &range.to]);
    }
    let mut statement = connection.prepare_cached(&format!(
        "SELECT model, total(errors) FILTER (WHERE outcome <> 'aborted'), total(errors) FILTER (WHERE outcome = 'aborted')
         FROM (SELECT '' AS model, '' AS outcome, 0.0 AS errors WHERE 0 UNION ALL {}) GROUP BY model",
        selects.join(" UNION ALL ")
    ))?;
    let mut rows = statement.query(values.as_slice())?;
    while let Some(row) = rows.next()? {
        let errors = Errors {
            failed: row.get(1)?,
            aborted: row.get(2)?,
        };
        take(row.get_ref(0)?.as_str()?, errors)?;
    }
    Ok(())
}

/// A fallback: a model failed and another answered in the same turn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fallback {
    /// The model that failed.
    pub from: String,
    /// The model that answered.
    pub to: String,
    /// Number of turns.
    pub turns: i64,
}

/// Maximum number of failed calls that are checked for fallbacks, the latest ones.
const FAILED_MOST: usize = 1_000;
/// Maximum number of calls that are checked after a failed one.
const LATER_MOST: usize = 20;
/// Maximum number of fallbacks that are shown.
const FALLBACKS_MOST: usize = 20;

/// The latest failed calls.
pub const LATEST_FAILED: &str = "SELECT trace_id, name, started_at FROM spans
    WHERE status = 'failed' AND name GLOB 'chat *' AND started_at >= ?1 AND started_at < ?2
    ORDER BY started_at DESC LIMIT ?3";
/// The calls of a trace from an instant on.
pub const LATER: &str = "SELECT status, name FROM spans INDEXED BY spans_chat
    WHERE trace_id = ?1 AND name GLOB 'chat *' AND started_at >= ?2 ORDER BY started_at LIMIT ?3";

/// Fallbacks among the latest failed calls with traces, most frequent first.
///
/// # Errors
/// The SQLite error.
pub fn fallbacks(connection: &Connection, window: Window) -> Result<Vec<Fallback>> {
    // Both lists are bounded, since a trace may have any number of spans.
    let mut statement = connection.prepare_cached(LATEST_FAILED)?;
    let mut later = connection.prepare_cached(LATER)?;
    let mut turns: BTreeMap<(String, String), BTreeSet<String>> = BTreeMap::new();
    let mut rows = statement.query((window.from, window.end(), FAILED_MOST as i64))?;
    while let Some(row) = rows.next()? {
        let (trace, from): (String, String) = (row.get(0)?, row.get(1)?);
        let mut others = later.query((&trace, row.get::<_, i64>(2)?, LATER_MOST as i64))?;
        while let Some(other) = others.next()? {
            let to: String = other.get(1)?;
            if other.get_ref(0)?.as_str()? == "completed" && to != from {
                turns
                    .entry((from.clone(), to))
                    .or_default()
                    .insert(trace.clone());
            }
        }
    }
    let all = turns.into_iter().map(|((from, to), traces)| Fallback {
        from: from[CHAT..].to_owned(),
        to: to[CHAT..].to_owned(),
        turns: traces.len() as i64,
    });
    Ok(first(all, FALLBACKS_MOST, |a, b| {
        let order = b.turns.cmp(&a.turns);
        order.then_with(|| (&a.from, &a.to).cmp(&(&b.from, &b.to)))
    }))
}

/// Length of the prefix before the model in a span's name.
const CHAT: usize = "chat ".len();
