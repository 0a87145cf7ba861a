//! Writes model calls and their sums.

use super::counters::{Counted, counted};
use super::rollup::{CALL_COLUMNS, CALL_WIDTH, Call, Changes, flags};
use super::series::Interner;
use super::write::Repeat;
use crate::clock::Micros;
use crate::records::{Enrichment, ModelUsage};
use rusqlite::{Connection, Result, params};

const COLUMNS: &str = r#"id, timestamp, agent_name, model, prompt_tokens, completion_tokens,
    cost_usd, latency_ms, cost_source, gateway, provider, cache_read_tokens, cache_write_tokens,
    reasoning_tokens, usage_source, latency_source, session_key, run_id, "trigger", outcome, ttfb_ms,
    ttft_ms, request_id, response_model, channel, job, skill, tool, system_chars, tool_chars, message_chars,
    other_chars, prompt_cost_usd, cache_saved_usd, cache_write_extra_usd, series, flags"#;

/// Writes calls within one transaction. Changes of the sums are written by [`Usage::finish`].
pub struct Usage<'a> {
    connection: &'a Connection,
    interner: &'a mut Interner,
    arrival: Micros,
    repeat: Repeat,
    changes: Changes,
}

impl<'a> Usage<'a> {
    /// Without calls yet. Records without a time get `arrival`.
    pub fn new(
        connection: &'a Connection,
        interner: &'a mut Interner,
        arrival: Micros,
        repeat: Repeat,
    ) -> Self {
        Self {
            connection,
            interner,
            arrival,
            repeat,
            changes: Changes::default(),
        }
    }

    /// Stores calls, or merges them into those with the same ids.
    ///
    /// # Errors
    /// The SQLite error.
    pub fn store(&mut self, records: &[ModelUsage]) -> Result<()> {
        if records.is_empty() {
            return Ok(());
        }
        let repeat = match self.repeat {
            Repeat::Merge => "ON CONFLICT (id) DO NOTHING",
            Repeat::Refuse => "",
        };
        let mut insert = self.connection.prepare_cached(&format!(
            "INSERT INTO model_usage ({COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14,
                 ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22, ?23, ?24, ?25, ?26, ?27, ?28, ?29, ?30, ?31, ?32, ?33, ?34, ?35, ?36, ?37)
                 {repeat}"
        ))?;
        for r in records {
            let call = call_of(r, self.arrival);
            let [model, agent, ..] = call.values;
            let ids = self.interner.ids(self.connection, call.values)?;
            let inserted = insert.execute(params![
                r.id,
                call.timestamp,
                agent,
                model,
                call.prompt,
                call.completion,
                call.cost_usd,
                r.latency_ms,
                r.cost_source,
                r.gateway,
                r.provider,
                r.cache_read_tokens,
                r.cache_write_tokens,
                r.reasoning_tokens,
                r.usage_source,
                r.latency_source,
                r.session_key,
                r.run_id,
                r.trigger,
                r.outcome,
                r.ttfb_ms,
                r.ttft_ms,
                r.request_id,
                r.response_model,
                r.channel,
                r.job,
                r.skill,
                r.tool,
                r.prompt.chars[0],
                r.prompt.chars[1],
                r.prompt.chars[2],
                r.prompt.chars[3],
                r.prompt.cost_usd,
                r.cache_saved_usd,
                r.cache_write_extra_usd,
                ids[0],
                call.flags,
            ])?;
            if inserted == 1 {
                self.changes.add(&ids, &call, 1);
            } else {
                self.merge(r)?;
            }
        }
        Ok(())
    }

    fn merge(&mut self, r: &ModelUsage) -> Result<()> {
        self.change(&r.id, |connection| {
            connection
                .prepare_cached(
                    r#"UPDATE model_usage SET
                           timestamp = ifnull(?2, timestamp), agent_name = ifnull(?3, agent_name),
                           model = ifnull(?4, model), prompt_tokens = ifnull(?5, prompt_tokens),
                           completion_tokens = ifnull(?6, completion_tokens), cost_usd = ifnull(?7, cost_usd),
                           latency_ms = ifnull(?8, latency_ms), cost_source = ifnull(?9, cost_source),
                           gateway = ifnull(?10, gateway), provider = ifnull(?11, provider),
                           cache_read_tokens = ifnull(?12, cache_read_tokens),
                           cache_write_tokens = ifnull(?13, cache_write_tokens),
                           reasoning_tokens = ifnull(?14, reasoning_tokens), usage_source = ifnull(?15, usage_source),
                           latency_source = ifnull(?16, latency_source), session_key = ifnull(?17, session_key),
                           run_id = ifnull(?18, run_id), "trigger" = ifnull(?19, "trigger"),
                           outcome = ifnull(?20, outcome), ttfb_ms = ifnull(?21, ttfb_ms),
                           ttft_ms = ifnull(?22, ttft_ms), request_id = ifnull(?23, request_id),
                           response_model = ifnull(?24, response_model), channel = ifnull(?25, channel),
                           job = ifnull(?26, job), skill = ifnull(?27, skill), tool = ifnull(?28, tool),
                           system_chars = ifnull(?29, system_chars), tool_chars = ifnull(?30, tool_chars),
                           message_chars = ifnull(?31, message_chars), other_chars = ifnull(?32, other_chars),
                           prompt_cost_usd = ifnull(?33, prompt_cost_usd),
                           cache_saved_usd = ifnull(?34, cache_saved_usd),
                           cache_write_extra_usd = ifnull(?35, cache_write_extra_usd)
                       WHERE id = ?1"#,
                )?
                .execute(params![
                    r.id,
                    r.timestamp,
                    r.agent_name,
                    r.model,
                    r.prompt_tokens,
                    r.completion_tokens,
                    r.cost_usd,
                    r.latency_ms,
                    r.cost_source,
                    r.gateway,
                    r.provider,
                    r.cache_read_tokens,
                    r.cache_write_tokens,
                    r.reasoning_tokens,
                    r.usage_source,
                    r.latency_source,
                    r.session_key,
                    r.run_id,
                    r.trigger,
                    r.outcome,
                    r.ttfb_ms,
                    r.ttft_ms,
                    r.request_id,
                    r.response_model,
                    r.channel,
                    r.job,
                    r.skill,
                    r.tool,
                    r.prompt.chars[0],
                    r.prompt.chars[1],
                    r.prompt.chars[2],
                    r.prompt.chars[3],
                    r.prompt.cost_usd,
                    r.cache_saved_usd,
                    r.cache_write_extra_usd,
                ])
                .map(drop)
        })
    }

    /// Applies enrichments to existing calls.
    ///
    /// # Errors
    /// The SQLite error.
    pub fn enrich(&mut self, records: &[Enrichment]) -> Result<()> {
        for r in records {
            self.change(&r.id, |connection| {
                connection
                    .prepare_cached(
                        "UPDATE model_usage SET cost_usd = ifnull(?2, cost_usd), cost_source = ifnull(?3, cost_source),
                             prompt_cost_usd = iif(?2 IS NOT NULL AND cost_usd > 0, prompt_cost_usd * ?2 / cost_usd, prompt_cost_usd),
                             ttfb_ms = ifnull(?4, ttfb_ms), ttft_ms = ifnull(?5, ttft_ms),
                             request_id = ifnull(?6, request_id), response_model = ifnull(?7, response_model)
                         WHERE id = ?1",
                    )?
                    .execute(params![
                        r.id,
                        r.cost_usd,
                        r.cost_source,
                        r.ttfb_ms,
                        r.ttft_ms,
                        r.request_id,
                        r.response_model
                    ])
                    .map(drop)
            })?;
            self.connection
                .prepare_cached("UPDATE costs SET estimated_cost_usd = ifnull(?2, estimated_cost_usd) WHERE id = ?1")?
                .execute(params![r.id, r.cost_usd])?;
        }
        Ok(())
    }

    /// Runs `update` on the call of this id, if it exists, and moves it from its old sums to its new ones.
    fn change(&mut self, id: &str, update: impl FnOnce(&Connection) -> Result<()>) -> Result<()> {
        if self.count(id, -1)?.is_none() {
            return Ok(());
        }
        update(self.connection)?;
        let Some((series, flags)) = self.count(id, 1)? else {
            return Ok(());
        };
        self.connection
            .prepare_cached("UPDATE model_usage SET series = ?2, flags = ?3 WHERE id = ?1")?
            .execute(params![id, series, flags])
            .map(drop)
    }

    /// Adds the stored call to the sums, or subtracts it. Returns its series and its flags.
    fn count(&mut self, id: &str, times: i64) -> Result<Option<(i64, i64)>> {
        let mut select = self.connection.prepare_cached(&format!(
            "SELECT {CALL_COLUMNS} FROM model_usage WHERE id = ?1"
        ))?;
        let mut rows = select.query([id])?;
        let Some(row) = rows.next()? else {
            return Ok(None);
        };
        let call = Call::of_row(row)?;
        let ids = self.interner.ids(self.connection, call.values)?;
        self.changes.add(&ids, &call, times);
        Ok(Some((ids[0], call.flags)))
    }

    /// Writes the changes of the sums, and returns them by series.
    ///
    /// # Errors
    /// The SQLite error.
    pub fn finish(self) -> Result<Vec<Counted>> {
        let by_series = self.changes.of_series().into_iter();
        let counted = by_series
            .map(|(series, (sums, latencies))| counted(self.connection, series, sums, latencies));
        let counted = counted.collect::<Result<_>>()?;
        self.changes.write(self.connection)?;
        Ok(counted)
    }
}

/// Inserts a record with a new id.
fn call_of<'a>(r: &'a ModelUsage, arrival: Micros) -> Call<'a> {
    let model = r.model.as_deref().unwrap_or("unknown");
    Call {
        timestamp: r.timestamp.unwrap_or(arrival),
        values: [
            model,
            r.agent_name.as_deref().unwrap_or("unknown"),
            r.trigger.as_deref().unwrap_or_default(),
            r.cost_source.as_deref().unwrap_or_default(),
            r.gateway.as_deref().unwrap_or_default(),
            r.channel.as_deref().unwrap_or_default(),
            r.job.as_deref().unwrap_or_default(),
        ],
        session: r.session_key.as_deref().unwrap_or_default(),
        chars: r.prompt.chars,
        prompt_cost_usd: r.prompt.cost_usd,
        cache_usd: [r.cache_saved_usd, r.cache_write_extra_usd],
        prompt: r.prompt_tokens.unwrap_or(0),
        completion: r.completion_tokens.unwrap_or(0),
        cache_read: r.cache_read_tokens,
        cache_write: r.cache_write_tokens,
        reasoning: r.reasoning_tokens,
        cost_usd: r.cost_usd.unwrap_or(0.0),
        latency_ms: r.latency_ms,
        flags: flags(
            model,
            r.outcome.as_deref(),
            r.usage_source.as_deref(),
            r.response_model.as_deref(),
        ),
    }
}

/// Adds up to `limit` rows of an earlier version's database to the sums.
///
/// # Errors
/// The SQLite error.
pub fn take_in(connection: &Connection, interner: &mut Interner, limit: i64) -> Result<usize> {
    let mut changes = Changes::default();
    let mut taken = 0;
    let mut select = connection.prepare_cached(&format!(
        "SELECT {CALL_COLUMNS}, seq FROM model_usage WHERE series IS NULL LIMIT ?1"
    ))?;
    let mut update = connection
        .prepare_cached("UPDATE model_usage SET series = ?2, flags = ?3 WHERE seq = ?1")?;
    let mut entered = Vec::new();
    let mut rows = select.query([limit])?;
    while let Some(row) = rows.next()? {
        let call = Call::of_row(row)?;
        let ids = interner.ids(connection, call.values)?;
        changes.add(&ids, &call, 1);
        entered.push((row.get::<_, i64>(CALL_WIDTH)?, ids[0], call.flags));
    }
    drop(rows);
    for row in entered {
        taken += update.execute(row)?;
    }
    changes.write(connection)?;
    Ok(taken)
}
