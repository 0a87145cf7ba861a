//! Sums of calls by hour and by day, updated in the transaction that changes the calls.
//!
//! Each call is in the sums of its whole series (all dimensions), of each dimension alone and of everything, by hour
//! and by day. A batch's changes are added up first and written once.

use super::histogram::{self, Change};
use super::series::{self, DIMENSIONS, Dimension, EVERYTHING, Ids, WHOLE};
use super::{cache, prompts, sessions};
use crate::clock::{DAY, HOUR, Micros};
use rusqlite::functions::FunctionFlags;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, Result, Row, ToSql};
use std::collections::{BTreeMap, HashMap};
use std::sync::LazyLock;

/// Figures of calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Count {
    /// Calls.
    Calls,
    /// Input tokens, cached ones included.
    Prompt,
    /// Output tokens.
    Completion,
    /// Input tokens read from the provider's cache.
    CacheRead,
    /// Input tokens written to it.
    CacheWrite,
    /// Input tokens of the calls that report caching: the base of the share of cache reads.
    CacheTold,
    /// Output tokens spent on reasoning.
    Reasoning,
    /// Calls without a known cost.
    UnknownCost,
    /// Calls with a known latency.
    Timed,
    /// Calls that failed but were billed.
    Failed,
    /// Calls that were aborted but billed.
    Aborted,
    /// Calls without reported usage: their zeros are no counts.
    MissingUsage,
    /// Calls that another than the requested model answered.
    Rerouted,
}

/// The columns of [`Count`], in its order.
pub const COUNTS: [&str; 13] = [
    "calls",
    "prompt_tokens",
    "completion_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "cache_told_tokens",
    "reasoning_tokens",
    "unknown_cost",
    "timed",
    "failed",
    "aborted",
    "missing_usage",
    "rerouted",
];

/// Sums of calls.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sums {
    counts: [i64; COUNTS.len()],
    /// US dollars.
    pub cost_usd: f64,
    /// Milliseconds of all calls whose latency is known.
    pub latency_ms: f64,
}

impl Sums {
    /// One count.
    pub fn of(&self, count: Count) -> i64 {
        self.counts[count as usize]
    }

    /// Prompt and completion tokens, saturating, since stock mode accepts negative and huge counts.
    pub fn tokens(&self) -> i64 {
        self.of(Count::Prompt)
            .saturating_add(self.of(Count::Completion))
    }

    /// Adds other sums.
    pub fn add(&mut self, other: &Self) {
        for (count, more) in self.counts.iter_mut().zip(other.counts) {
            *count = count.saturating_add(more);
        }
        self.cost_usd += other.cost_usd;
        self.latency_ms += other.latency_ms;
    }

    /// Reads the columns of [`SUMS`] from `first` on.
    ///
    /// # Errors
    /// The SQLite error.
    pub fn of_row(row: &Row, first: usize) -> Result<Self> {
        let mut sums = Self::default();
        for (index, count) in sums.counts.iter_mut().enumerate() {
            *count = row.get(first + index)?;
        }
        sums.cost_usd = row.get(first + COUNTS.len())?;
        sums.latency_ms = row.get(first + COUNTS.len() + 1)?;
        Ok(sums)
    }

    /// The values of a row, in the order of [`upsert`].
    fn row<'a>(
        &'a self,
        kind: &'a i64,
        start: &'a Micros,
        series: &'a i64,
        latencies: &'a Option<Vec<u8>>,
    ) -> Vec<&'a dyn ToSql> {
        let mut values: Vec<&dyn ToSql> = vec![kind, start, series];
        values.extend(self.counts.iter().map(|count| count as &dyn ToSql));
        values.extend([&self.cost_usd as &dyn ToSql, &self.latency_ms, latencies]);
        values
    }

    fn is_nothing(&self) -> bool {
        self.counts.iter().all(|count| *count == 0)
            && self.cost_usd == 0.0
            && self.latency_ms == 0.0
    }
}

/// The columns that [`Sums::of_row`] reads of a rollup table.
pub static SUMS: LazyLock<String> =
    LazyLock::new(|| format!("{}, cost_usd, latency_ms", COUNTS.join(", ")));

/// `model_usage.flags`: it failed.
pub const FAILED: i64 = 1;
/// `model_usage.flags`: it was aborted.
pub const ABORTED: i64 = 2;
/// `model_usage.flags`: its usage was not reported.
pub const MISSING_USAGE: i64 = 4;
/// `model_usage.flags`: another model answered.
pub const REROUTED: i64 = 8;

/// The contribution of a call to sums.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    /// When it ended.
    pub timestamp: Micros,
    /// In the order of [`Dimension`]; empty if missing in the record.
    pub values: [&'a str; DIMENSIONS],
    /// The session's key; empty if missing.
    pub session: &'a str,
    /// Characters of the parts of the prompt, in the order of [`prompts::PARTS`].
    pub chars: [Option<i64>; 4],
    /// The prompt's share of the cost.
    pub prompt_cost_usd: Option<f64>,
    /// US dollars that cache reads saved, and that cache writes cost above the input rate.
    pub cache_usd: [Option<f64>; 2],
    pub prompt: i64,
    pub completion: i64,
    pub cache_read: Option<i64>,
    pub cache_write: Option<i64>,
    pub reasoning: Option<i64>,
    pub cost_usd: f64,
    pub latency_ms: Option<f64>,
    /// Of [`flags`].
    pub flags: i64,
}

/// What [`Call::of_row`] reads.
pub const CALL_COLUMNS: &str = r#"timestamp, model, agent_name, "trigger", cost_source, gateway, channel, job,
    session_key, prompt_tokens, completion_tokens, cache_read_tokens, cache_write_tokens, reasoning_tokens, cost_usd,
    latency_ms, outcome, usage_source, response_model, system_chars, tool_chars, message_chars, other_chars,
    prompt_cost_usd, cache_saved_usd, cache_write_extra_usd"#;
/// The number of [`CALL_COLUMNS`].
pub const CALL_WIDTH: usize = 26;

impl<'a> Call<'a> {
    /// Reads [`CALL_COLUMNS`].
    ///
    /// # Errors
    /// The SQLite error.
    pub fn of_row(row: &'a Row) -> Result<Self> {
        let text = |index| Ok::<_, rusqlite::Error>(row.get_ref(index)?.as_str_or_null()?);
        let mut values = [""; DIMENSIONS];
        for (index, value) in values.iter_mut().enumerate() {
            *value = text(index + 1)?.unwrap_or_default();
        }
        Ok(Self {
            timestamp: row.get(0)?,
            values,
            session: text(8)?.unwrap_or_default(),
            chars: [row.get(19)?, row.get(20)?, row.get(21)?, row.get(22)?],
            prompt_cost_usd: row.get(23)?,
            cache_usd: [row.get(24)?, row.get(25)?],
            prompt: row.get(9)?,
            completion: row.get(10)?,
            cache_read: row.get(11)?,
            cache_write: row.get(12)?,
            reasoning: row.get(13)?,
            cost_usd: row.get(14)?,
            latency_ms: row.get(15)?,
            flags: flags(values[0], text(16)?, text(17)?, text(18)?),
        })
    }

    /// Its sums.
    pub fn sums(&self) -> Sums {
        let mut sums = Sums {
            cost_usd: self.cost_usd,
            latency_ms: self.latency_ms.unwrap_or(0.0),
            ..Sums::default()
        };
        let mut set = |count: Count, value| sums.counts[count as usize] = value;
        let told = self.cache_read.is_some() || self.cache_write.is_some();
        let has = |flag| i64::from(self.flags & flag != 0);
        set(Count::Calls, 1);
        set(Count::Prompt, self.prompt);
        set(Count::Completion, self.completion);
        set(Count::CacheRead, self.cache_read.unwrap_or(0));
        set(Count::CacheWrite, self.cache_write.unwrap_or(0));
        set(Count::CacheTold, if told { self.prompt } else { 0 });
        set(Count::Reasoning, self.reasoning.unwrap_or(0));
        set(
            Count::UnknownCost,
            i64::from(self.values[Dimension::CostSource as usize] == "unknown"),
        );
        set(Count::Timed, i64::from(self.latency_ms.is_some()));
        set(Count::Failed, has(FAILED));
        set(Count::Aborted, has(ABORTED));
        set(Count::MissingUsage, has(MISSING_USAGE));
        set(Count::Rerouted, has(REROUTED));
        sums
    }
}

/// The flags of a call, from its texts.
pub fn flags(
    model: &str,
    outcome: Option<&str>,
    usage_source: Option<&str>,
    response_model: Option<&str>,
) -> i64 {
    let outcome = match outcome {
        Some("failed") => FAILED,
        Some("aborted") => ABORTED,
        _ => 0,
    };
    let missing = if usage_source == Some("missing") {
        MISSING_USAGE
    } else {
        0
    };
    let rerouted = if response_model.is_some_and(|answered| is_other(model, answered)) {
        REROUTED
    } else {
        0
    };
    outcome | missing | rerouted
}

/// Whether the model that answered differs from the requested one. Providers answer with a dated or a shorter name of
/// the same model (`gpt-5` → `gpt-5-2026-01-01`), so one name that contains the other is the same.
fn is_other(asked: &str, answered: &str) -> bool {
    let bare = |name: &str| {
        name.rsplit('/')
            .next()
            .unwrap_or_default()
            .to_ascii_lowercase()
    };
    let (asked, answered) = (bare(asked), bare(answered));
    !asked.contains(&answered) && !answered.contains(&asked)
}

/// Changes of sums, not yet written.
#[derive(Default)]
pub struct Changes {
    series: HashMap<Key, (Sums, Change)>,
    sessions: sessions::Changes,
    prompts: prompts::Changes,
    cache: cache::Changes,
}

/// Kind, start and number of a series: the key of a row, in its order.
type Key = (i64, Micros, i64);

impl Changes {
    /// Adds a call (`times` 1) to the sums of its series, or subtracts it (-1).
    pub fn add(&mut self, ids: &Ids, call: &Call, times: i64) {
        let mut sums = call.sums();
        if times < 0 {
            sums.counts
                .iter_mut()
                .for_each(|count| *count = count.saturating_neg());
            (sums.cost_usd, sums.latency_ms) = (-sums.cost_usd, -sums.latency_ms);
        }
        let start = call.timestamp.div_euclid(HOUR) * HOUR;
        self.sessions.add(start, call.session, ids[0], &sums);
        self.prompts.add(start, ids[0], call, times);
        self.cache.add(start, ids[0], call, times);
        for (index, id) in ids.iter().enumerate() {
            let (total, latencies) = self.series.entry((index as i64, start, *id)).or_default();
            total.add(&sums);
            // Percentiles are shown by model, and for a filter's selection.
            if index as i64 <= Dimension::Model.kind()
                && let Some(ms) = call.latency_ms
            {
                latencies.add(ms, times);
            }
        }
    }

    /// The changes of whole series, over all hours.
    pub fn of_series(&self) -> BTreeMap<i64, (Sums, Change)> {
        let mut found: BTreeMap<i64, (Sums, Change)> = BTreeMap::new();
        let whole = self.series.iter().filter(|((kind, ..), _)| *kind == WHOLE);
        for ((_, _, series), (sums, latencies)) in whole {
            let (total, all) = found.entry(*series).or_default();
            total.add(sums);
            all.merge(latencies);
        }
        found
    }

    /// Writes all changes.
    ///
    /// # Errors
    /// The SQLite error.
    pub fn write(self, connection: &Connection) -> Result<()> {
        if self.series.is_empty() {
            return Ok(());
        }
        connection
            .prepare_cached("UPDATE sums_state SET changes = changes + 1")?
            .execute([])?;
        let mut days: HashMap<Key, (Sums, Change)> = HashMap::new();
        for ((kind, hour, series), (sums, latencies)) in &self.series {
            let day = hour.div_euclid(DAY) * DAY;
            let (total, all) = days.entry((*kind, day, *series)).or_default();
            total.add(sums);
            all.merge(latencies);
        }
        self.sessions.write(connection)?;
        self.prompts.write(connection)?;
        self.cache.write(connection)?;
        write_table(connection, "usage_hour", self.series)?;
        write_table(connection, "usage_day", days)
    }
}

/// The statement that adds to a row, or creates it.
fn upsert(table: &str) -> String {
    let marks = vec!["?"; COUNTS.len() + 6].join(", ");
    // Beyond 64 bits SQLite continues in floating point; the cast returns the largest integer.
    let counts: String = COUNTS
        .iter()
        .map(|name| format!("{name} = CAST({name} + excluded.{name} AS INTEGER), "))
        .collect();
    format!(
        "INSERT INTO {table} (kind, start, series, {sums}, latencies) VALUES ({marks})
         ON CONFLICT (kind, start, series) DO UPDATE SET {counts}cost_usd = cost_usd + excluded.cost_usd,
             latency_ms = latency_ms + excluded.latency_ms, latencies = latencies_add(latencies, excluded.latencies)",
        sums = *SUMS
    )
}

static UPSERT: LazyLock<[String; 2]> = LazyLock::new(|| ["usage_hour", "usage_day"].map(upsert));

fn write_table(
    connection: &Connection,
    table: &str,
    changes: HashMap<Key, (Sums, Change)>,
) -> Result<()> {
    let mut changes: Vec<_> = changes.into_iter().collect();
    // In the order of the table, since neighbours are on the same page.
    changes.sort_unstable_by_key(|(key, _)| *key);
    let mut statement = connection.prepare_cached(&UPSERT[usize::from(table == "usage_day")])?;
    for ((kind, start, series), (sums, latencies)) in &changes {
        if sums.is_nothing() && latencies.is_empty() {
            continue;
        }
        let packed = if latencies.is_empty() {
            None
        } else {
            Some(latencies.pack())
        };
        statement.execute(sums.row(kind, start, series, &packed).as_slice())?;
        if sums.of(Count::Calls) <= 0 {
            // A row without calls is deleted, with the rounding residue of its cost. It may be of calls that came and went.
            connection
                .prepare_cached(&format!(
                    "DELETE FROM {table} WHERE kind = ? AND start = ? AND series = ? AND calls = 0"
                ))?
                .execute([kind, start, series])?;
        }
    }
    Ok(())
}

/// Computes the sums of everything from those by agent, which earlier versions than 5 lack.
///
/// # Errors
/// The SQLite error.
pub fn sum_everything(connection: &Connection) -> Result<()> {
    for (table, upsert) in ["usage_hour", "usage_day"].iter().zip(UPSERT.iter()) {
        let mut starts: BTreeMap<Micros, Sums> = BTreeMap::new();
        let mut select = connection.prepare(&format!(
            "SELECT start, {} FROM {table} WHERE kind = ?1",
            *SUMS
        ))?;
        let mut rows = select.query([Dimension::Agent.kind()])?;
        while let Some(row) = rows.next()? {
            let sums = starts.entry(row.get(0)?).or_default();
            sums.add(&Sums::of_row(row, 1)?);
        }
        if starts.is_empty() {
            continue;
        }
        let number = series::everything(connection)?;
        let mut insert = connection.prepare(upsert)?;
        for (start, sums) in &starts {
            insert.execute(sums.row(&EVERYTHING, start, &number, &None).as_slice())?;
        }
    }
    Ok(())
}

/// Copies the sums of everything to those by channel and by job, which earlier versions than 6 lack: no call had either.
///
/// # Errors
/// The SQLite error.
pub fn sum_channels(connection: &Connection) -> Result<()> {
    let numbers = series::number_channels(connection)?;
    for (dimension, number) in [Dimension::Channel, Dimension::Job]
        .into_iter()
        .zip(numbers)
    {
        for table in ["usage_hour", "usage_day"] {
            connection.execute(
                &format!(
                    "INSERT INTO {table} (kind, start, series, {sums}, latencies)
                     SELECT ?1, start, ?2, {sums}, NULL FROM {table} WHERE kind = {EVERYTHING}",
                    sums = *SUMS
                ),
                [dimension.kind(), number],
            )?;
        }
    }
    Ok(())
}

/// Registers the SQL function that adds histograms.
///
/// # Errors
/// The SQLite error.
pub fn add_functions(connection: &Connection) -> Result<()> {
    let flags = FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DETERMINISTIC;
    connection.create_scalar_function("latencies_add", 2, flags, |context| {
        let bytes = |index| match context.get_raw(index) {
            ValueRef::Blob(bytes) => bytes,
            _ => &[][..],
        };
        let sum = histogram::add_packed(bytes(0), bytes(1));
        Ok(if sum.is_empty() { None } else { Some(sum) })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_longer_name_of_a_model_is_the_same_model() {
        for (asked, answered) in [
            ("openai/gpt-5", "gpt-5-2026-01-01"),
            (
                "openrouter/anthropic/claude-sonnet-4-5",
                "anthropic/claude-sonnet-4-5",
            ),
            ("p/M1", "m1"),
        ] {
            assert!(!is_other(asked, answered), "{asked} {answered}");
        }
        assert!(is_other("openrouter/auto", "anthropic/claude-sonnet-4-5"));
        assert_eq!(
            flags("a", Some("failed"), Some("missing"), Some("b")),
            FAILED | MISSING_USAGE | REROUTED
        );
        assert_eq!(flags("a", Some("completed"), Some("reported"), None), 0);
    }
}
