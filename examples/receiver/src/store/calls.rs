//! Single calls: the latest ones of a filter, their sessions, and one by id.

use super::query::Survey;
use super::read::Select;
use super::rollup::{ABORTED, FAILED};
use rusqlite::{Connection, Result};
use serde_json::Value;
use std::collections::HashMap;

/// Every field of a call, as `/api/model-usage` answers it.
pub const CALL: &str = r#"SELECT id, timestamp, agent_name, model, prompt_tokens, completion_tokens, cost_usd, latency_ms, gateway,
        provider, cache_read_tokens, cache_write_tokens, reasoning_tokens, cost_source, usage_source, latency_source,
        session_key, run_id, "trigger", outcome, ttfb_ms, ttft_ms, request_id,
        response_model, channel, job, skill, tool, system_chars, tool_chars, message_chars, other_chars,
        prompt_cost_usd, cache_saved_usd, cache_write_extra_usd
        FROM model_usage"#;
/// The fields of [`CALL`], in its order.
pub const FIELDS: [&str; 35] = [
    "id",
    "timestamp",
    "agent_name",
    "model",
    "prompt_tokens",
    "completion_tokens",
    "cost_usd",
    "latency_ms",
    "gateway",
    "provider",
    "cache_read_tokens",
    "cache_write_tokens",
    "reasoning_tokens",
    "cost_source",
    "usage_source",
    "latency_source",
    "session_key",
    "run_id",
    "trigger",
    "outcome",
    "ttfb_ms",
    "ttft_ms",
    "request_id",
    "response_model",
    "channel",
    "job",
    "skill",
    "tool",
    "system_chars",
    "tool_chars",
    "message_chars",
    "other_chars",
    "prompt_cost_usd",
    "cache_saved_usd",
    "cache_write_extra_usd",
];

/// The rows of the latest calls, newest first, by `seq`; with `failed`, only failed and aborted ones; with `session`, only
/// those of a session.
///
/// # Errors
/// The SQLite error.
pub fn latest(
    survey: &Survey,
    failed: bool,
    session: Option<&str>,
    limit: usize,
) -> Result<Vec<i64>> {
    let (from, to) = (survey.window.from, survey.window.end());
    if let Some(session) = session {
        return latest_of(survey, session, failed, limit);
    }
    if failed {
        return latest_failed(survey, limit);
    }
    if survey.filter.is_open() {
        let mut statement = survey.connection.prepare_cached(
            "SELECT seq FROM model_usage WHERE timestamp >= ?1 AND timestamp < ?2
             ORDER BY timestamp DESC, seq DESC LIMIT ?3",
        )?;
        let rows = statement.query_map((from, to, limit as i64), |row| row.get(0))?;
        return rows.collect();
    }
    survey.singles().newest(limit)
}

fn latest_of(survey: &Survey, session: &str, failed: bool, limit: usize) -> Result<Vec<i64>> {
    let mut statement = survey.connection.prepare_cached(&format!(
        "SELECT seq, series, flags & {} FROM model_usage
         WHERE session_key = ?1 AND timestamp >= ?2 AND timestamp < ?3 ORDER BY timestamp DESC, seq DESC",
        FAILED | ABORTED
    ))?;
    let mut rows = statement.query((session, survey.window.from, survey.window.end()))?;
    let mut found = Vec::new();
    while found.len() < limit
        && let Some(row) = rows.next()?
    {
        let is_shown = !failed || row.get::<_, i64>(2)? != 0;
        if is_shown && survey.passing(row.get(1)?).is_some() {
            found.push(row.get(0)?);
        }
    }
    Ok(found)
}

fn latest_failed(survey: &Survey, limit: usize) -> Result<Vec<i64>> {
    let mut statement = survey.connection.prepare_cached(&format!(
        "SELECT seq, series FROM model_usage INDEXED BY model_usage_failed
         WHERE flags & {} AND timestamp >= ?1 AND timestamp < ?2 ORDER BY timestamp DESC",
        FAILED | ABORTED
    ))?;
    let mut rows = statement.query((survey.window.from, survey.window.end()))?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        if survey.passing(row.get(1)?).is_some() {
            found.push(row.get(0)?);
        }
        if found.len() == limit {
            break;
        }
    }
    Ok(found)
}

/// The calls of these rows, with all their fields.
///
/// # Errors
/// The SQLite error.
pub fn rows(connection: &Connection, seqs: &[i64]) -> Result<Vec<Value>> {
    let mut calls = Vec::with_capacity(seqs.len());
    for seq in seqs {
        let found = Select::new(CALL)
            .only("seq = ?", Some(*seq))
            .rows(connection, false)?;
        calls.extend(found);
    }
    Ok(calls)
}

/// The call of an id.
///
/// # Errors
/// The SQLite error.
pub fn one(connection: &Connection, id: &str) -> Result<Option<Value>> {
    let found = Select::new(CALL)
        .only("id = ?", Some(id.to_owned()))
        .rows(connection, false)?;
    Ok(found.into_iter().next())
}

/// Sums of a session's calls among the given calls.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Session {
    /// The session's key as it was sent, mostly hashed; empty if missing.
    pub key: String,
    pub calls: i64,
    pub tokens: i64,
    pub cost_usd: f64,
    /// Instants of its first and its last call among them.
    pub first: i64,
    pub last: i64,
    pub unknown_cost: i64,
}

/// The sessions of these rows, the most recent first.
///
/// # Errors
/// The SQLite error.
pub fn sessions(connection: &Connection, newest_first: &[i64]) -> Result<Vec<Session>> {
    let mut statement = connection.prepare_cached(
        "SELECT ifnull(session_key, ''), prompt_tokens, completion_tokens, cost_usd, timestamp,
             ifnull(cost_source = 'unknown', 0) FROM model_usage WHERE seq = ?1",
    )?;
    let mut sessions: Vec<Session> = Vec::new();
    let mut places: HashMap<String, usize> = HashMap::new();
    for seq in newest_first {
        let mut rows = statement.query([seq])?;
        let Some(row) = rows.next()? else { continue };
        let key = row.get_ref(0)?.as_str()?;
        let place = *places.entry(key.to_owned()).or_insert_with(|| {
            sessions.push(Session {
                key: key.to_owned(),
                first: i64::MAX,
                last: i64::MIN,
                ..Session::default()
            });
            sessions.len() - 1
        });
        let session = &mut sessions[place];
        session.calls += 1;
        session.tokens = session
            .tokens
            .saturating_add(row.get(1)?)
            .saturating_add(row.get(2)?);
        session.cost_usd += row.get::<_, f64>(3)?;
        let at: i64 = row.get(4)?;
        (session.first, session.last) = (session.first.min(at), session.last.max(at));
        session.unknown_cost += row.get::<_, i64>(5)?;
    }
    Ok(sessions)
}
