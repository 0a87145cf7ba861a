//! Creates the tables of the current version, or upgrades those of an earlier one.

use super::series::{self, Interner};
use super::{errors, rollup, sessions, spending, usage};
use rusqlite::{Connection, Result, TransactionBehavior};
use std::time::Duration;

/// `PRAGMA application_id` of the receiver's files: "AWRx".
pub const APPLICATION_ID: i32 = 0x4157_5278;
/// `PRAGMA user_version`: raised when the schema changes.
pub const SCHEMA_VERSION: i32 = 8;
/// Additions of version 2.
const FROM_1: &str = "ALTER TABLE model_usage ADD COLUMN ttft_ms REAL;
    ALTER TABLE model_usage ADD COLUMN request_id TEXT;
    ALTER TABLE model_usage ADD COLUMN response_model TEXT;";
/// Additions of version 3: sums of calls. Its index of whole rows is no longer needed.
const FROM_2: &str = "ALTER TABLE model_usage ADD COLUMN series INTEGER;
    ALTER TABLE model_usage ADD COLUMN flags INTEGER;
    DROP INDEX IF EXISTS model_usage_stats;";
/// Version 4 replaces it by an index that begins with the hour.
const FROM_3: &str = "DROP INDEX IF EXISTS model_usage_series;";
/// Version 5 adds the numbers of a series' values, and sums of everything.
const FROM_4: &str = "ALTER TABLE series ADD COLUMN of_model INTEGER;
    ALTER TABLE series ADD COLUMN of_agent INTEGER;
    ALTER TABLE series ADD COLUMN of_trigger INTEGER;
    ALTER TABLE series ADD COLUMN of_cost_source INTEGER;
    ALTER TABLE series ADD COLUMN of_gateway INTEGER;";
/// Version 6 adds channel, cron job, skill, tool and the parts of the prompt.
const FROM_5: &str = "ALTER TABLE model_usage ADD COLUMN channel TEXT;
    ALTER TABLE model_usage ADD COLUMN job TEXT;
    ALTER TABLE model_usage ADD COLUMN skill TEXT;
    ALTER TABLE model_usage ADD COLUMN tool TEXT;
    ALTER TABLE model_usage ADD COLUMN system_chars INTEGER;
    ALTER TABLE model_usage ADD COLUMN tool_chars INTEGER;
    ALTER TABLE model_usage ADD COLUMN message_chars INTEGER;
    ALTER TABLE model_usage ADD COLUMN other_chars INTEGER;
    ALTER TABLE model_usage ADD COLUMN prompt_cost_usd REAL;";
/// Version 7 adds what the cache saved and cost, incidents, and the last figures of allowances.
const FROM_6: &str = "ALTER TABLE model_usage ADD COLUMN cache_saved_usd REAL;
    ALTER TABLE model_usage ADD COLUMN cache_write_extra_usd REAL;";
/// Version 8: allowances are of a gateway. Their metrics, which stay, fill the new table.
const FROM_7: &str = "DROP TABLE IF EXISTS allowances;";
/// Version 6: its series are unique by channel and job, too. The new table is made by `schema.sql`.
const RENAME_SERIES: &str = "ALTER TABLE series RENAME TO earlier_series;";
const COPY_SERIES: &str = r#"INSERT INTO series (id, kind, model, agent, "trigger", cost_source, gateway, channel, job,
        of_model, of_agent, of_trigger, of_cost_source, of_gateway)
    SELECT id, kind, model, agent, "trigger", cost_source, gateway, '', '',
        of_model, of_agent, of_trigger, of_cost_source, of_gateway FROM earlier_series;
    DROP TABLE earlier_series;"#;
/// Number of rows of an earlier version that are summed in one transaction, which takes some tenths of a second.
const AT_ONCE: i64 = 5_000;
/// How long to wait for another process that creates or upgrades the same file.
const BUSY: Duration = Duration::from_secs(60);

/// Creates or upgrades the tables. An interrupted upgrade continues at the next start.
///
/// # Errors
/// The SQLite error.
pub fn prepare(connection: &mut Connection, interner: &mut Interner) -> Result<()> {
    connection.busy_timeout(BUSY)?;
    // For a new file: each batch touches and logs fewer pages.
    connection.pragma_update(None, "page_size", 8192)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    // In WAL mode, NORMAL keeps the file consistent through a power failure; at worst the last moments are lost.
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    // Fewer, larger checkpoints: 64 MiB of log between two, since sums are rewritten often.
    connection.pragma_update(None, "wal_autocheckpoint", 8192)?;
    connection.pragma_update(None, "cache_size", -65_536)?;
    rollup::add_functions(connection)?;

    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let version: i32 = transaction.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if version == 1 {
        transaction.execute_batch(FROM_1)?;
    }
    if (1..3).contains(&version) {
        transaction.execute_batch(FROM_2)?;
    }
    if (1..4).contains(&version) {
        transaction.execute_batch(FROM_3)?;
    }
    if (3..5).contains(&version) {
        transaction.execute_batch(FROM_4)?;
    }
    if (1..6).contains(&version) {
        transaction.execute_batch(FROM_5)?;
    }
    if (1..7).contains(&version) {
        transaction.execute_batch(FROM_6)?;
    }
    if version == 7 {
        transaction.execute_batch(FROM_7)?;
    }
    if (3..6).contains(&version) {
        transaction.execute_batch(RENAME_SERIES)?;
    }
    transaction.execute_batch(include_str!("schema.sql"))?;
    if (3..6).contains(&version) {
        transaction.execute_batch(COPY_SERIES)?;
    }
    if (1..3).contains(&version) {
        transaction.execute_batch(errors::TAKE_IN)?;
    }
    if (3..5).contains(&version) {
        transaction.execute_batch(series::NUMBER_VALUES)?;
        rollup::sum_everything(&transaction)?;
    }
    if (3..6).contains(&version) {
        rollup::sum_channels(&transaction)?;
        transaction.execute_batch(sessions::TAKE_IN)?;
    }
    if (1..7).contains(&version) {
        spending::take_in_incidents(&transaction)?;
    }
    if (1..8).contains(&version) {
        spending::take_in_allowances(&transaction)?;
    }
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.pragma_update(None, "user_version", SCHEMA_VERSION)?;
    transaction.commit()?;
    take_in(connection, interner)
}

/// Adds all rows to the sums that are not in them yet.
fn take_in(connection: &mut Connection, interner: &mut Interner) -> Result<()> {
    let mut entered = 0;
    loop {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let taken = usage::take_in(&transaction, interner, AT_ONCE)?;
        transaction.commit()?;
        if taken == 0 {
            break;
        }
        if entered == 0 {
            eprintln!("agentwatch-receiver: upgrading the database");
        }
        entered += taken;
    }
    if entered > 0 {
        eprintln!("agentwatch-receiver: upgraded, {entered} calls");
        connection.execute_batch("PRAGMA optimize")?;
    }
    Ok(())
}
