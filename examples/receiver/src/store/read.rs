//! The lists of AgentWatch's read side, newest first.

use crate::clock::{self, Micros};
use rusqlite::types::{Value as Sql, ValueRef};
use rusqlite::{Connection, Error, Result, Row, ffi, params_from_iter};
use serde_json::{Map, Value, json};
use std::collections::HashMap;

/// Maximum size of the texts in an answer, in bytes: a thousand logs may have 60 MB.
const ANSWER_MOST: usize = 8 * 1024 * 1024;
/// Maximum number of models, jobs, checks, names of metrics, spans or events in an answer.
pub const ROWS_MOST: i64 = 10_000;

/// A `SELECT` with optional conditions.
pub struct Select {
    sql: String,
    values: Vec<Sql>,
    conditions: usize,
}

impl Select {
    /// Starts with `SELECT … FROM …`, without conditions.
    pub fn new(sql: &str) -> Self {
        Self {
            sql: sql.to_owned(),
            values: Vec::new(),
            conditions: 0,
        }
    }

    /// Adds `condition`, which has one `?`, if there is a value for it.
    pub fn only(mut self, condition: &str, value: Option<impl Into<Sql>>) -> Self {
        if let Some(value) = value {
            self.sql += if self.conditions == 0 {
                " WHERE "
            } else {
                " AND "
            };
            self.sql += condition;
            self.values.push(value.into());
            self.conditions += 1;
        }
        self
    }

    /// Adds a clause after the conditions, such as an order.
    pub fn then(mut self, tail: &str) -> Self {
        self.sql += tail;
        self
    }

    /// Adds a limit and an offset.
    pub fn page(mut self, limit: i64, offset: i64) -> Self {
        self.sql += " LIMIT ? OFFSET ?";
        self.values.extend([limit.into(), offset.into()]);
        self
    }

    /// Runs it. Instants become ISO 8601 text; `metadata` and `tags` become objects unless `raw`.
    ///
    /// # Errors
    /// The SQLite error.
    pub fn rows(self, connection: &Connection, raw: bool) -> Result<Vec<Value>> {
        let mut statement = connection.prepare_cached(&self.sql)?;
        let names: Vec<String> = statement
            .column_names()
            .into_iter()
            .map(String::from)
            .collect();
        let mut rows = statement.query(params_from_iter(self.values))?;
        let mut list = Vec::new();
        let mut bytes = 0;
        while let Some(row) = rows.next()? {
            bytes += text_of(row, names.len())?;
            if bytes > ANSWER_MOST {
                return Err(Error::SqliteFailure(
                    ffi::Error::new(ffi::SQLITE_TOOBIG),
                    None,
                ));
            }
            list.push(object_of(row, &names, raw)?);
        }
        Ok(list)
    }
}

/// The bytes of text of a row.
fn text_of(row: &Row, columns: usize) -> Result<usize> {
    let mut bytes = 0;
    for index in 0..columns {
        bytes += row.get_ref(index)?.as_bytes().map_or(0, <[u8]>::len);
    }
    Ok(bytes)
}

fn object_of(row: &Row, names: &[String], raw: bool) -> Result<Value> {
    let mut object = Map::new();
    for (index, name) in names.iter().enumerate() {
        let value = match (name.as_str(), row.get_ref(index)?) {
            ("timestamp" | "started_at" | "ended_at" | "last_run", ValueRef::Integer(at)) => {
                clock::iso(at).into()
            }
            ("metadata" | "tags", ValueRef::Text(text)) if !raw => {
                serde_json::from_slice(text).unwrap_or_else(|_| json!({}))
            }
            (_, ValueRef::Integer(number)) => number.into(),
            (_, ValueRef::Real(number)) => number.into(),
            (_, ValueRef::Text(text)) => String::from_utf8_lossy(text).into(),
            (_, ValueRef::Null | ValueRef::Blob(_)) => Value::Null,
        };
        object.insert(name.clone(), value);
    }
    Ok(Value::Object(object))
}

/// A trace with its spans and their events, at most [`ROWS_MOST`] of each; `None` if there is no such trace.
///
/// # Errors
/// The SQLite error.
pub fn trace(connection: &Connection, id: &str) -> Result<Option<Value>> {
    let found = Select::new("SELECT * FROM traces")
        .only("id = ?", Some(id.to_owned()))
        .rows(connection, false)?;
    let Some(mut trace) = found.into_iter().next() else {
        return Ok(None);
    };
    let mut spans = Select::new("SELECT * FROM spans")
        .only("trace_id = ?", Some(id.to_owned()))
        .then(" ORDER BY started_at, rowid")
        .page(ROWS_MOST, 0)
        .rows(connection, false)?;
    let events = Select::new("SELECT e.* FROM spans s JOIN span_events e ON e.span_id = s.id")
        .only("s.trace_id = ?", Some(id.to_owned()))
        .then(" ORDER BY e.timestamp, e.rowid")
        .page(ROWS_MOST, 0)
        .rows(connection, false)?;
    let mut of_span: HashMap<String, Vec<Value>> = HashMap::new();
    for event in events {
        let span = event["span_id"].as_str().unwrap_or_default().to_owned();
        of_span.entry(span).or_default().push(event);
    }
    for span in &mut spans {
        let events = of_span.remove(span["id"].as_str().unwrap_or_default());
        span["events"] = events.unwrap_or_default().into();
    }
    trace["spans"] = spans.into();
    Ok(Some(trace))
}

/// Cost totals, and the same for at most [`ROWS_MOST`] models, highest cost first.
///
/// # Errors
/// The SQLite error.
pub fn cost_summary(
    connection: &Connection,
    agent: Option<String>,
    since: Option<i64>,
) -> Result<Value> {
    // SQLite's own sum of integers fails beyond 64 bits.
    const SUMS: &str = "count(*) AS count, CAST(total(input_tokens) AS INTEGER) AS input_tokens,
        CAST(total(output_tokens) AS INTEGER) AS output_tokens, total(estimated_cost_usd) AS cost_usd";
    let of = |what: &str, tail: &str, most| {
        Select::new(&format!("SELECT {what}{SUMS} FROM costs"))
            .only("agent_name = ?", agent.clone())
            .only("timestamp >= ?", since)
            .then(tail)
            .page(most, 0)
            .rows(connection, false)
    };
    let by_model = of(
        "model, ",
        " GROUP BY model ORDER BY cost_usd DESC, model",
        ROWS_MOST,
    )?;
    let all = of("", "", 1)?.into_iter().next().unwrap_or_default();
    let whole = |field: &str| all[field].as_i64().unwrap_or(0);
    let (input, output) = (whole("input_tokens"), whole("output_tokens"));
    let cost = all["cost_usd"].as_f64().unwrap_or(0.0);
    Ok(json!({
        "record_count": whole("count"),
        "total_input_tokens": input,
        "total_output_tokens": output,
        "total_tokens": input.saturating_add(output),
        "total_cost_usd": (cost * 1e4).round() / 1e4,
        "by_model": by_model,
    }))
}

/// At most [`ROWS_MOST`] jobs, by name, with the last run and the counts of the latest hundred runs.
///
/// # Errors
/// The SQLite error.
pub fn cron_stats(connection: &Connection) -> Result<Vec<Value>> {
    let jobs = Select::new("SELECT DISTINCT job_name FROM cron_runs ORDER BY job_name")
        .page(ROWS_MOST, 0)
        .rows(connection, false)?;
    jobs.iter()
        .map(|job| {
            let name = job["job_name"].as_str().unwrap_or_default();
            Ok(job_stats(name, &cron_history(connection, name, 100)?))
        })
        .collect()
}

fn job_stats(name: &str, newest_first: &[Value]) -> Value {
    let tenth = |number: f64| (number * 10.0).round() / 10.0;
    let ok = |run: &Value| run["status"] == "ok";
    let successes = newest_first.iter().filter(|run| ok(run)).count();
    let durations: Vec<f64> = newest_first
        .iter()
        .filter_map(|run| run["duration_ms"].as_f64())
        .collect();
    let average = durations.iter().sum::<f64>() / durations.len() as f64;
    let last = newest_first.first().cloned().unwrap_or_default();
    json!({
        "job_name": name,
        "last_status": last["status"],
        "last_run": last["timestamp"],
        "last_error": last["error"],
        "success_rate": tenth(successes as f64 / newest_first.len().max(1) as f64 * 100.0),
        "total_runs": newest_first.len(),
        "consecutive_errors": newest_first.iter().take_while(|run| !ok(run)).count(),
        "avg_duration_ms": (!durations.is_empty()).then(|| tenth(average)),
    })
}

/// The latest runs of one job, newest first.
///
/// # Errors
/// The SQLite error.
pub fn cron_history(connection: &Connection, job: &str, limit: i64) -> Result<Vec<Value>> {
    Select::new("SELECT * FROM cron_runs")
        .only("job_name = ?", Some(job.to_owned()))
        .then(" ORDER BY timestamp DESC, rowid DESC")
        .page(limit, 0)
        .rows(connection, false)
}

/// The time of the newest call up to `now`: a gateway's clock may be ahead.
///
/// # Errors
/// The SQLite error.
pub fn last_call(connection: &Connection, now: Micros) -> Result<Option<Micros>> {
    connection
        .prepare_cached("SELECT max(timestamp) FROM model_usage WHERE timestamp <= ?1")?
        .query_row([now], |row| row.get(0))
}
