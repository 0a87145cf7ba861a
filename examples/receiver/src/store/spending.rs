//! The month's forecast, incidents and allowances: from sums of days, and from log records and metrics of the plugin,
//! which are noted in tables of their own as they arrive.

use super::query::{Bars, Survey};
use super::series::{Catalog, cut};
use super::window::Window;
use crate::clock::{self, DAY, HOUR, Micros};
use crate::store::query::Filter;
use agentwatch_openclaw::spending::Nano;
use agentwatch_openclaw::spending::forecast::{Days, Forecast, add, forecast};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use rusqlite::{Connection, Result};
use serde_json::Value;
use std::collections::BTreeMap;

/// Number of days whose cost a forecast reads: four weeks, the day before them, and at most a month.
const DAYS: i64 = 31;
/// Maximum number of shown incidents, and of causes.
const SHOWN: usize = 10;
/// Maximum number of shown allowances.
const ALLOWANCES: usize = 64;
/// Maximum number of allowances whose last figure is kept: those with the latest figures.
const ALLOWANCES_KEPT: i64 = 1_024;

/// The metric of allowances.
pub const METRIC: &str = "allowance_spent";
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
    /// Number of cache losses and their US dollars, by cause. Further causes are one.
    pub causes: BTreeMap<String, (usize, f64)>,
}

impl Incidents {
    /// Number and US dollars of all cache losses.
    pub fn losses(&self) -> (usize, f64) {
        let causes = self.causes.values();
        causes.fold((0, 0.0), |(losses, usd), (more, cost)| {
            (losses + more, usd + cost)
        })
    }

    /// Whether there are more than the shown ones.
    pub fn is_cut(&self) -> bool {
        self.alarms + self.losses().0 > self.shown.len()
    }
}

/// The last figure of an allowance.
#[derive(Clone, Debug, PartialEq)]
pub struct Allowance {
    /// The allowance in words.
    pub words: String,
    /// The gateway's name; where it is unknown, the agent's.
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

/// The forecast of the month in a zone, of the calls that pass a filter, and the zone: UTC where its hours are too many, and for zones
/// that are no whole hours apart from UTC.
///
/// # Errors
/// The SQLite error.
pub fn month(
    connection: &Connection,
    catalog: &Catalog,
    filter: &Filter,
    now: Micros,
    zone: &TimeZone,
) -> Result<Option<(Forecast, TimeZone)>> {
    let today = now.div_euclid(DAY) * DAY;
    // Days before the first are no days without cost, wherever it begins.
    let from = today - DAYS * DAY;
    let survey = Survey::new(connection, catalog, Window { from, to: None }, filter)?;
    // Sums are by hour of UTC.
    let has_whole_hours = |at: Micros| {
        let at = Timestamp::from_microsecond(at).unwrap_or_default();
        zone.to_offset(at).seconds() % 3_600 == 0
    };
    let zone = match survey.is_quick() && [from, now].into_iter().all(has_whole_hours) {
        true => zone.clone(),
        false => TimeZone::UTC,
    };
    let unit = match zone == TimeZone::UTC {
        true => DAY,
        false => HOUR,
    };
    let bars = Bars::even(from, unit, (DAYS + 1) * DAY / unit);
    let sums = survey.overview(&[], &bars)?.bars;
    let mut days = Days::default();
    let known = bars.starts.into_iter().zip(sums);
    // The receiver may be younger than a month: days before its first call are no days without cost.
    let known = known.skip_while(|(_, sums)| sums.cost_usd <= 0.0);
    let ms = |at: Micros| u64::try_from(at / 1_000).unwrap_or(0);
    for (start, sums) in known {
        add(&mut days, &zone, ms(start), Nano::of_usd(sums.cost_usd));
    }
    Ok(forecast(&days, &zone, ms(now)).map(|forecast| (forecast, zone)))
}

/// Keeps a log record's incident; most log records are none.
///
/// # Errors
/// The SQLite error.
pub fn note_log(
    connection: &Connection,
    at: Micros,
    id: &str,
    agent: &str,
    metadata: &str,
) -> Result<()> {
    if !metadata.contains(CACHE) && !metadata.contains(ALARM) {
        return Ok(());
    }
    let metadata: Value = serde_json::from_str(metadata).unwrap_or_default();
    let (cause, usd) = match metadata["type"].as_str() {
        Some(CACHE) => (
            Some(metadata["cause"].as_str().unwrap_or("unknown")),
            "extra_usd",
        ),
        Some(ALARM) => (None, "usd"),
        _ => return Ok(()),
    };
    connection
        .prepare_cached(
            "INSERT INTO incidents (timestamp, log, agent_name, cause, usd) VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT DO NOTHING",
        )?
        .execute((at, id, agent, cause.map(cut), metadata[usd].as_f64()))?;
    Ok(())
}

/// Keeps a point of [`METRIC`] if it is its allowance's last one. A point without a limit is no allowance's.
///
/// # Errors
/// The SQLite error.
pub fn note_spend(
    connection: &Connection,
    at: Micros,
    agent: &str,
    tags: &str,
    spent: f64,
) -> Result<()> {
    let tags: Value = serde_json::from_str(tags).unwrap_or_default();
    let text = |name: &str| tags[name].as_str().unwrap_or_default();
    let Some(limit) = tags["limit"].as_f64().filter(|limit| *limit > 0.0) else {
        return Ok(());
    };
    connection
        .prepare_cached(
            "INSERT INTO allowances (gateway, agent_name, allowance, timestamp, spent, most, is_tokens, stops, ends)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
             ON CONFLICT (gateway, agent_name, allowance) DO UPDATE SET timestamp = ?4, spent = ?5, most = ?6,
                 is_tokens = ?7, stops = ?8, ends = ?9 WHERE timestamp <= ?4",
        )?
        .execute((
            // Senders before 0.2.0 do not name it.
            cut(text("gateway")),
            cut(agent),
            cut(text("allowance")),
            at,
            spent,
            limit,
            text("unit") == "tokens",
            text("then") == "stop",
            crate::clock::parse_iso(text("window_end")),
        ))?;
    connection
        .prepare_cached(
            "DELETE FROM allowances WHERE (gateway, agent_name, allowance) IN (
                 SELECT gateway, agent_name, allowance FROM allowances ORDER BY timestamp DESC LIMIT -1 OFFSET ?1)",
        )?
        .execute([ALLOWANCES_KEPT])?;
    Ok(())
}

/// Keeps the incidents of a database of an earlier version.
///
/// # Errors
/// The SQLite error.
pub fn take_in_incidents(connection: &Connection) -> Result<()> {
    let mut logs = connection.prepare(
        "SELECT timestamp, id, agent_name, metadata FROM logs
         WHERE instr(metadata, ?1) OR instr(metadata, ?2)",
    )?;
    let mut rows = logs.query([CACHE, ALARM])?;
    while let Some(row) = rows.next()? {
        let [id, agent, metadata] = [1, 2, 3].map(|index| row.get::<_, String>(index));
        note_log(connection, row.get(0)?, &id?, &agent?, &metadata?)?;
    }
    Ok(())
}

/// Keeps the last figures of allowances of a database of an earlier version.
///
/// # Errors
/// The SQLite error.
pub fn take_in_allowances(connection: &Connection) -> Result<()> {
    let mut metrics = connection
        .prepare("SELECT timestamp, value, agent_name, tags FROM metrics WHERE name = ?1")?;
    let mut rows = metrics.query([METRIC])?;
    while let Some(row) = rows.next()? {
        let [agent, tags] = [2, 3].map(|index| row.get::<_, String>(index));
        // The sender's clock may have been ahead.
        let at: Micros = row.get(0)?;
        note_spend(
            connection,
            at.min(clock::now()),
            &agent?,
            &tags?,
            row.get(1)?,
        )?;
    }
    Ok(())
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
    let range = (window.from, window.end(), agent);
    let mut found = Incidents::default();
    let mut sums = connection.prepare_cached(
        "SELECT cause, count(*), total(usd) FROM incidents
         WHERE timestamp >= ?1 AND timestamp < ?2 AND (?3 IS NULL OR agent_name = ?3)
         GROUP BY cause ORDER BY count(*) DESC",
    )?;
    let mut rows = sums.query(range)?;
    while let Some(row) = rows.next()? {
        let count = usize::try_from(row.get::<_, i64>(1)?).unwrap_or(0);
        let usd: f64 = row.get(2)?;
        let Some(cause) = row.get::<_, Option<String>>(0)? else {
            found.alarms = count;
            continue;
        };
        // The plugin has six causes; whoever sends more has one row for them.
        let cause = match found.causes.len() < SHOWN {
            true => cause,
            false => "other".to_owned(),
        };
        let (counted, sum) = found.causes.entry(cause).or_default();
        *counted += count;
        *sum += usd;
    }
    let mut latest = connection.prepare_cached(
        "SELECT i.timestamp, i.cause IS NOT NULL, l.message, i.usd FROM incidents i JOIN logs l ON l.id = i.log
         WHERE i.timestamp >= ?1 AND i.timestamp < ?2 AND (?3 IS NULL OR i.agent_name = ?3)
         ORDER BY i.timestamp DESC LIMIT ?4",
    )?;
    let (from, to, agent) = range;
    let rows = latest.query_map((from, to, agent, SHOWN as i64), |row| {
        Ok(Incident {
            at: row.get(0)?,
            is_cache: row.get(1)?,
            message: row.get(2)?,
            usd: row.get(3)?,
        })
    })?;
    found.shown = rows.collect::<Result<_>>()?;
    Ok(found)
}

/// The last figures of allowances of the last month, the most spent first, and their number.
///
/// # Errors
/// The SQLite error.
pub fn allowances(connection: &Connection, now: Micros) -> Result<(Vec<Allowance>, usize)> {
    let mut statement = connection.prepare_cached(
        "SELECT allowance, iif(gateway = '', agent_name, gateway), spent, most, is_tokens, stops, ends FROM allowances
         WHERE timestamp >= ?1 ORDER BY allowance, gateway, agent_name",
    )?;
    let rows = statement.query_map([now - DAYS * DAY], |row| {
        let ends: Option<Micros> = row.get(6)?;
        Ok(Allowance {
            words: row.get(0)?,
            of: row.get(1)?,
            // A call in the next window would have told its figure.
            spent: match ends.is_some_and(|ends| ends <= now) {
                true => 0.0,
                false => row.get(2)?,
            },
            limit: row.get(3)?,
            is_tokens: row.get(4)?,
            stops: row.get(5)?,
            ends: ends.filter(|ends| *ends > now),
        })
    })?;
    let mut found: Vec<Allowance> = rows.collect::<Result<_>>()?;
    found.sort_by(|a, b| (b.spent / b.limit).total_cmp(&(a.spent / a.limit)));
    let all = found.len();
    found.truncate(ALLOWANCES);
    Ok((found, all))
}
