//! Writes records as rows. Each list prepares its statement once.

use super::counters::{Addition, Failure};
use super::series::Interner;
use super::usage::Usage;
use super::{errors, spending};
use crate::clock::Micros;
use crate::records::{Batch, Cost, CronRun, Health, Log, Metric, Span, Trace};
use rusqlite::{CachedStatement, Connection, Result, params};

/// How a record with a known id is handled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repeat {
    /// It updates the stored record: model usage and costs take over the fields that it has.
    Merge,
    /// It is an error, as in AgentWatch 0.1.0 (which replaces traces and spans).
    Refuse,
}

/// Inserts everything in AgentWatch's order. The caller holds the transaction, and adds the result to the counters after
/// it.
pub fn insert(
    connection: &Connection,
    interner: &mut Interner,
    batch: &Batch,
    arrival: Micros,
    repeat: Repeat,
) -> Result<Addition> {
    let writer = Writer {
        connection,
        arrival,
        repeat,
    };
    writer.traces(&batch.traces)?;
    writer.spans(&batch.spans)?;
    writer.logs(&batch.logs)?;
    writer.health(&batch.health)?;
    writer.costs(&batch.costs)?;
    let failures = writer.metrics(&batch.metrics)?;
    let mut usage = Usage::new(connection, interner, arrival, repeat);
    usage.store(&batch.model_usage)?;
    usage.enrich(&batch.enrichments)?;
    let calls = usage.finish()?;
    writer.cron_runs(&batch.cron_runs)?;
    Ok(Addition { calls, failures })
}

struct Writer<'a> {
    connection: &'a Connection,
    arrival: Micros,
    repeat: Repeat,
}

impl<'a> Writer<'a> {
    /// Prepares `insert`, followed by `merge` if repeated ids are merged.
    fn statement(&self, insert: &str, merge: &str) -> Result<CachedStatement<'a>> {
        match self.repeat {
            Repeat::Merge => self.connection.prepare_cached(&format!("{insert} {merge}")),
            Repeat::Refuse => self.connection.prepare_cached(insert),
        }
    }

    fn costs(&self, records: &[Cost]) -> Result<()> {
        if records.is_empty() {
            return Ok(());
        }
        let mut statement = self.statement(
            "INSERT INTO costs (id, timestamp, agent_name, model, input_tokens, output_tokens,
                 estimated_cost_usd, trace_id, span_id, metadata)
             VALUES (?1, ifnull(?2, ?11), ifnull(?3, 'remote'), ifnull(?4, 'unknown'), ifnull(?5, 0),
                 ifnull(?6, 0), ?7, ?8, ?9, ifnull(?10, '{}'))",
            "ON CONFLICT (id) DO UPDATE SET
                 timestamp = ifnull(?2, timestamp), agent_name = ifnull(?3, agent_name),
                 model = ifnull(?4, model), input_tokens = ifnull(?5, input_tokens),
                 output_tokens = ifnull(?6, output_tokens),
                 estimated_cost_usd = ifnull(?7, estimated_cost_usd), trace_id = ifnull(?8, trace_id),
                 span_id = ifnull(?9, span_id), metadata = ifnull(?10, metadata)",
        )?;
        for r in records {
            statement.execute(params![
                r.id,
                r.timestamp,
                r.agent_name,
                r.model,
                r.input_tokens,
                r.output_tokens,
                r.estimated_cost_usd,
                r.trace_id,
                r.span_id,
                r.metadata,
                self.arrival,
            ])?;
        }
        Ok(())
    }

    /// A trace is replaced by a later record with its id. With merging, a late post does not reopen an ended trace.
    fn traces(&self, records: &[Trace]) -> Result<()> {
        if records.is_empty() {
            return Ok(());
        }
        let refuse = "INSERT OR REPLACE INTO traces (id, agent_name, name, status, started_at, ended_at, duration_ms,
                 metadata) VALUES (?1, ?2, ?3, ?4, ifnull(?5, ?9), ?6, ?7, ?8)";
        let merge = "INSERT INTO traces (id, agent_name, name, status, started_at, ended_at, duration_ms, metadata)
             VALUES (?1, ?2, ?3, ?4, ifnull(?5, ?9), ?6, ?7, ?8)
             ON CONFLICT (id) DO UPDATE SET agent_name = ?2, name = ?3, status = ?4,
                 started_at = ifnull(?5, started_at), ended_at = ?6, duration_ms = ?7, metadata = ?8
             WHERE NOT (?4 = 'running' AND status <> 'running')";
        let sql = if self.repeat == Repeat::Merge {
            merge
        } else {
            refuse
        };
        let mut statement = self.connection.prepare_cached(sql)?;
        for r in records {
            statement.execute(params![
                r.id,
                r.agent_name,
                r.name,
                r.status,
                r.started_at,
                r.ended_at,
                r.duration_ms,
                r.metadata,
                self.arrival,
            ])?;
        }
        Ok(())
    }

    fn spans(&self, records: &[Span]) -> Result<()> {
        if records.is_empty() {
            return Ok(());
        }
        let refuse = "INSERT OR REPLACE INTO spans (id, trace_id, parent_id, name, status, started_at, ended_at,
                 duration_ms, metadata, error) VALUES (?1, ?2, ?3, ?4, ?5, ifnull(?6, ?11), ?7, ?8, ?9, ?10)";
        let merge = "INSERT INTO spans (id, trace_id, parent_id, name, status, started_at, ended_at, duration_ms,
                 metadata, error)
             VALUES (?1, ?2, ?3, ?4, ?5, ifnull(?6, ?11), ?7, ?8, ?9, ?10)
             ON CONFLICT (id) DO UPDATE SET trace_id = ?2, parent_id = ?3, name = ?4, status = ?5,
                 started_at = ifnull(?6, started_at), ended_at = ?7, duration_ms = ?8, metadata = ?9, error = ?10
             WHERE NOT (?5 = 'running' AND status <> 'running')";
        let sql = if self.repeat == Repeat::Merge {
            merge
        } else {
            refuse
        };
        let mut statement = self.connection.prepare_cached(sql)?;
        let mut event_statement = self.connection.prepare_cached(
            "INSERT OR REPLACE INTO span_events (id, span_id, timestamp, message, metadata)
             VALUES (?1, ?2, ifnull(?3, ?6), ?4, ?5)",
        )?;
        for r in records {
            statement.execute(params![
                r.id,
                r.trace_id,
                r.parent_id,
                r.name,
                r.status,
                r.started_at,
                r.ended_at,
                r.duration_ms,
                r.metadata,
                r.error,
                self.arrival,
            ])?;
            for e in &r.events {
                event_statement.execute(params![
                    e.id,
                    r.id,
                    e.timestamp,
                    e.message,
                    e.metadata,
                    self.arrival
                ])?;
            }
        }
        Ok(())
    }

    fn logs(&self, records: &[Log]) -> Result<()> {
        if records.is_empty() {
            return Ok(());
        }
        let mut statement = self.statement(
            "INSERT INTO logs (id, agent_name, level, message, timestamp, metadata, trace_id, span_id)
             VALUES (?1, ?2, ?3, ?4, ifnull(?5, ?9), ?6, ?7, ?8)",
            "ON CONFLICT (id) DO NOTHING",
        )?;
        for r in records {
            let stored = statement.execute(params![
                r.id,
                r.agent_name,
                r.level,
                r.message,
                r.timestamp,
                r.metadata,
                r.trace_id,
                r.span_id,
                self.arrival,
            ])?;
            if stored == 1 {
                let at = r.timestamp.unwrap_or(self.arrival);
                spending::note_log(self.connection, at, &r.id, &r.agent_name, &r.metadata)?;
            }
        }
        Ok(())
    }

    fn health(&self, records: &[Health]) -> Result<()> {
        if records.is_empty() {
            return Ok(());
        }
        let mut statement = self.connection.prepare_cached(
            "INSERT INTO health_checks (name, agent_name, status, message, timestamp, duration_ms, metadata)
             VALUES (?1, ?2, ?3, ?4, ifnull(?5, ?8), ?6, ?7)",
        )?;
        for r in records {
            statement.execute(params![
                r.name,
                r.agent_name,
                r.status,
                r.message,
                r.timestamp,
                r.duration_ms,
                r.metadata,
                self.arrival,
            ])?;
        }
        Ok(())
    }

    fn metrics(&self, records: &[Metric]) -> Result<Vec<Failure>> {
        let mut failures = Vec::new();
        if records.is_empty() {
            return Ok(failures);
        }
        let mut statement = self.statement(
            "INSERT INTO metrics (id, agent_name, name, value, kind, tags, timestamp, trace_id, span_id)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ifnull(?7, ?10), ?8, ?9)",
            "ON CONFLICT (id) DO NOTHING",
        )?;
        for r in records {
            let stored = statement.execute(params![
                r.id,
                r.agent_name,
                r.name,
                r.value,
                r.kind,
                r.tags,
                r.timestamp,
                r.trace_id,
                r.span_id,
                self.arrival,
            ])?;
            let at = r.timestamp.unwrap_or(self.arrival);
            if stored == 1 && r.name == spending::METRIC {
                // A point of a clock that is ahead would stay the last one.
                let at = at.min(self.arrival);
                spending::note_spend(self.connection, at, &r.agent_name, &r.tags, r.value)?;
            }
            if stored == 1 && r.name == errors::METRIC {
                failures.push(errors::count(
                    self.connection,
                    at,
                    &r.agent_name,
                    &r.tags,
                    r.value,
                )?);
            }
        }
        Ok(failures)
    }

    fn cron_runs(&self, records: &[CronRun]) -> Result<()> {
        if records.is_empty() {
            return Ok(());
        }
        let mut statement = self.statement(
            "INSERT INTO cron_runs (id, agent_name, job_name, status, duration_ms, error, timestamp)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ifnull(?7, ?8))",
            "ON CONFLICT (id) DO NOTHING",
        )?;
        for r in records {
            statement.execute(params![
                r.id,
                r.agent_name,
                r.job_name,
                r.status,
                r.duration_ms,
                r.error,
                r.timestamp,
                self.arrival,
            ])?;
        }
        Ok(())
    }
}
