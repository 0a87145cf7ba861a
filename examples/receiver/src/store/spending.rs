//! The month's forecast, incidents and allowances: from sums of days, log records and metrics of the plugin.

use super::query::{Bars, Survey};
use super::series::Catalog;
use super::window::Window;
use crate::clock::{DAY, Micros};
use crate::store::query::Filter;
use agentwatch_openclaw::spending::Nano;
use agentwatch_openclaw::spending::forecast::{Days, Forecast, add, forecast};
use jiff::tz::TimeZone;
use rusqlite::{Connection, Result};
use serde_json::Value;
use std::collections::BTreeMap;

/// Number of days whose cost a forecast reads: four weeks, the day before them, and at most a month.
const DAYS: i64 = 31;
/// Maximum number of log records and of metrics that are looked at, the latest ones.
const LOOKED_AT: i64 = 5_000;
/// Maximum number of shown incidents, and of allowances.
const SHOWN: usize = 10;
/// Maximum number of allowances.
const ALLOWANCES: usize = 64;

/// The types of the plugin's log records of incidents; an alarm's end is no incident of its own.
const CACHE: &str = "cache_incident";
const ALARM: &str = "alarm_began";

/// An incident.
#[derive(Clone, Debug, PartialEq)]
pub struct Incident {
    pub at: Micros,
    /// Whether a session lost its cached prompt; else an alarm.
    pub is_cache: bool,
    /// In words, as the plugin wrote them.
    pub message: String,
    /// US dollars, where the plugin knows them.
    pub usd: Option<f64>,
}

/// Incidents of a window.
#[derive(Clone, Debug, Default)]
pub struct Incidents {
    /// The latest ones.
    pub shown: Vec<Incident>,
    /// Number of alarms.
    pub alarms: usize,
    /// Number of cache losses and their US dollars, by cause.
    pub causes: BTreeMap<String, (usize, f64)>,
    /// Whether there are more log records than were looked at.
    pub is_cut: bool,
}

/// The last figure of an allowance.
#[derive(Clone, Debug, PartialEq)]
pub struct Allowance {
    /// The allowance in words.
    pub words: String,
    /// The gateway's name, or the agent's.
    pub of: String,
    pub spent: f64,
    pub limit: f64,
    /// Whether spent and limit are tokens; else US dollars.
    pub is_tokens: bool,
    /// Whether calls are refused once it is spent.
    pub stops: bool,
    /// End of the window of `spent`.
    pub ends: Option<Micros>,
}

/// The forecast of the month, of the calls that pass a filter.
///
/// # Errors
/// The SQLite error.
pub fn month(
    connection: &Connection,
    catalog: &Catalog,
    filter: &Filter,
    now: Micros,
) -> Result<Option<Forecast>> {
    let today = now.div_euclid(DAY) * DAY;
    let from = today - DAYS * DAY;
    let survey = Survey::new(connection, catalog, Window { from, to: None }, filter)?;
    let starts: Vec<Micros> = (0..=DAYS).map(|day| from + day * DAY).collect();
    let bars = Bars {
        starts: starts.clone(),
        step: DAY,
    };
    let sums = survey.overview(&[], &bars)?.bars;
    let mut days = Days::default();
    let known = starts.into_iter().zip(sums);
    // The receiver may be younger than a month: days before its first call are no days without cost.
    let known = known.skip_while(|(_, sums)| sums.cost_usd <= 0.0);
    let ms = |at: Micros| u64::try_from(at / 1_000).unwrap_or(0);
    for (start, sums) in known {
        add(
            &mut days,
            &TimeZone::UTC,
            ms(start),
            Nano::of_usd(sums.cost_usd),
        );
    }
    Ok(forecast(&days, &TimeZone::UTC, ms(now)))
}

/// The incidents of a window, of one agent or of all.
///
/// # Errors
/// The SQLite error.
pub fn incidents(
    connection: &Connection,
    window: Window,
    agent: Option<&str>,
) -> Result<Incidents> {
    let mut found = Incidents::default();
    let mut statement = connection.prepare_cached(
        "SELECT timestamp, message, metadata FROM logs
         WHERE timestamp >= ?1 AND timestamp < ?2 AND (?3 IS NULL OR agent_name = ?3)
         ORDER BY timestamp DESC LIMIT ?4",
    )?;
    let mut rows = statement.query((window.from, window.end(), agent, LOOKED_AT))?;
    let mut looked_at = 0;
    while let Some(row) = rows.next()? {
        looked_at += 1;
        let metadata: Value = serde_json::from_str(&row.get::<_, String>(2)?).unwrap_or_default();
        let is_cache = match metadata["type"].as_str() {
            Some(CACHE) => true,
            Some(ALARM) => false,
            _ => continue,
        };
        let usd = metadata[if is_cache { "extra_usd" } else { "usd" }].as_f64();
        match is_cache {
            true => {
                let cause = metadata["cause"].as_str().unwrap_or("unknown").to_owned();
                // The plugin has six causes; whoever sends more has one row for them.
                let has_room = found.causes.len() < SHOWN || found.causes.contains_key(&cause);
                let cause = if has_room { cause } else { "other".into() };
                let (count, sum) = found.causes.entry(cause).or_default();
                *count += 1;
                *sum += usd.unwrap_or(0.0);
            }
            false => found.alarms += 1,
        }
        if found.shown.len() < SHOWN {
            found.shown.push(Incident {
                at: row.get(0)?,
                is_cache,
                message: row.get(1)?,
                usd,
            });
        }
    }
    found.is_cut = looked_at >= LOOKED_AT;
    Ok(found)
}

/// The last figure of each allowance, the most spent first.
///
/// # Errors
/// The SQLite error.
pub fn allowances(connection: &Connection, now: Micros) -> Result<Vec<Allowance>> {
    let mut statement = connection.prepare_cached(
        "SELECT agent_name, value, tags FROM metrics WHERE name = 'allowance_spent' AND timestamp >= ?1
         ORDER BY timestamp DESC LIMIT ?2",
    )?;
    let mut rows = statement.query((now - DAYS * DAY, LOOKED_AT))?;
    let mut found: Vec<Allowance> = Vec::new();
    while let Some(row) = rows.next()? {
        let of: String = row.get(0)?;
        let tags: Value = serde_json::from_str(&row.get::<_, String>(2)?).unwrap_or_default();
        let text = |name: &str| tags[name].as_str().unwrap_or_default();
        let is_known = |one: &Allowance| one.words == text("allowance") && one.of == of;
        let Some(limit) = tags["limit"].as_f64().filter(|limit| *limit > 0.0) else {
            continue;
        };
        if found.len() >= ALLOWANCES || found.iter().any(is_known) {
            continue;
        }
        let ends = crate::clock::parse_iso(text("window_end"));
        found.push(Allowance {
            words: text("allowance").to_owned(),
            // A call in the next window would have told its figure.
            spent: match ends.is_some_and(|ends| ends <= now) {
                true => 0.0,
                false => row.get(1)?,
            },
            limit,
            is_tokens: text("unit") == "tokens",
            stops: text("then") == "stop",
            ends: ends.filter(|ends| *ends > now),
            of,
        });
    }
    found.sort_by(|a, b| (b.spent / b.limit).total_cmp(&(a.spent / a.limit)));
    Ok(found)
}
