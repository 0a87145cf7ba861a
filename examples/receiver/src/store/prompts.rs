//! Cost of the parts of prompts: an estimate. A prompt's tokens and its share of the cost are divided by the characters of
//! its parts, which the gateway counts. JSON has another ratio of characters to tokens than prose, and the cached part of
//! a prompt, its beginning, is cheaper.

use super::cache::{self, Cache};
use super::first::first as best;
use super::query::Survey;
use super::rollup::{CALL_COLUMNS, CALL_WIDTH, Call};
use super::series::{self, Dimension, Number};
use super::window::Range;
use crate::clock::{HOUR, Micros};
use rusqlite::{Connection, Result, Row};
use std::collections::{BTreeMap, HashMap};

/// The parts of a prompt. The first two are the fixed part: every call pays for them.
pub const PARTS: [&str; 4] = ["system_prompt", "tool_definitions", "messages", "other"];

/// Sums of prompts whose parts are known.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Prompts {
    pub calls: i64,
    /// Number of these calls whose prompt cost is unknown.
    pub unpriced: i64,
    /// Tokens by [`PARTS`].
    pub tokens: [i64; 4],
    /// US dollars by [`PARTS`].
    pub usd: [f64; 4],
}

impl Prompts {
    /// The sums of one call; `None` if its parts are unknown.
    pub fn of(call: &Call) -> Option<Self> {
        let chars = call.chars.map(Option::unwrap_or_default);
        let all: i128 = chars.iter().map(|chars| i128::from(*chars)).sum();
        if all <= 0 {
            return None;
        }
        let mut sums = Self {
            calls: 1,
            unpriced: i64::from(call.prompt_cost_usd.is_none()),
            ..Self::default()
        };
        let (mut until, mut given) = (0, 0);
        for (index, chars) in chars.into_iter().enumerate() {
            // The rounded parts add up to the whole.
            until += i128::from(chars);
            let sum = (i128::from(call.prompt) * until / all) as i64;
            sums.tokens[index] = sum - given;
            given = sum;
            sums.usd[index] = call.prompt_cost_usd.unwrap_or(0.0) * (chars as f64 / all as f64);
        }
        Some(sums)
    }

    /// Adds others (`times` 1), or subtracts them (-1).
    pub fn add(&mut self, other: &Self, times: i64) {
        self.calls += times * other.calls;
        self.unpriced += times * other.unpriced;
        for (sum, more) in self.tokens.iter_mut().zip(other.tokens) {
            *sum = sum.saturating_add(more.saturating_mul(times));
        }
        for (sum, more) in self.usd.iter_mut().zip(other.usd) {
            *sum += times as f64 * more;
        }
    }

    /// Tokens of the fixed part.
    pub fn fixed_tokens(&self) -> i64 {
        self.tokens[0].saturating_add(self.tokens[1])
    }

    /// US dollars of the fixed part.
    pub fn fixed_usd(&self) -> f64 {
        self.usd[0] + self.usd[1]
    }

    fn of_row(row: &Row, first: usize) -> Result<Self> {
        let mut sums = Self {
            calls: row.get(first)?,
            unpriced: row.get(first + 1)?,
            ..Self::default()
        };
        for index in 0..PARTS.len() {
            sums.tokens[index] = row.get(first + 2 + index)?;
            sums.usd[index] = row.get(first + 2 + PARTS.len() + index)?;
        }
        Ok(sums)
    }
}

/// Changes of sums, not yet written, by hour and whole series.
#[derive(Default)]
pub struct Changes(HashMap<(Micros, i64), Prompts>);

const COLUMNS: [&str; 10] = [
    "calls",
    "unpriced",
    "system_tokens",
    "tool_tokens",
    "message_tokens",
    "other_tokens",
    "system_usd",
    "tool_usd",
    "message_usd",
    "other_usd",
];

impl Changes {
    /// Adds a call (`times` 1), or subtracts it (-1).
    pub fn add(&mut self, start: Micros, series: i64, call: &Call, times: i64) {
        if let Some(sums) = Prompts::of(call) {
            self.0.entry((start, series)).or_default().add(&sums, times);
        }
    }

    /// Writes them.
    ///
    /// # Errors
    /// The SQLite error.
    pub fn write(self, connection: &Connection) -> Result<()> {
        let mut changes: Vec<_> = self.0.into_iter().collect();
        // In the order of the table, since neighbours are on the same page.
        changes.sort_unstable_by_key(|(key, _)| *key);
        let add = COLUMNS.map(|name| format!("{name} = {name} + excluded.{name}"));
        let mut upsert = connection.prepare_cached(&format!(
            "INSERT INTO prompt_hour (start, series, {}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)
             ON CONFLICT (start, series) DO UPDATE SET {}",
            COLUMNS.join(", "),
            add.join(", ")
        ))?;
        let mut delete = connection.prepare_cached(
            "DELETE FROM prompt_hour WHERE start = ?1 AND series = ?2 AND calls = 0",
        )?;
        for ((start, series), sums) in &changes {
            let ([t0, t1, t2, t3], [u0, u1, u2, u3]) = (sums.tokens, sums.usd);
            let (calls, unpriced) = (sums.calls, sums.unpriced);
            upsert.execute((
                start, series, calls, unpriced, t0, t1, t2, t3, u0, u1, u2, u3,
            ))?;
            if calls <= 0 {
                delete.execute((start, series))?;
            }
        }
        Ok(())
    }
}

/// Sums of the prompts of a survey.
#[derive(Clone, Debug, Default)]
pub struct Bill {
    pub total: Prompts,
    /// The agents with the dearest fixed part, by that, then by name.
    pub by_agent: Vec<(String, Prompts)>,
    /// Number of further agents, and their sums.
    pub rest: (usize, Prompts),
    /// Time of the first call, or of its hour.
    pub first: Option<Micros>,
    /// By start of the time step.
    pub by_step: BTreeMap<Micros, Prompts>,
    /// What the cache saved and cost.
    pub cache: Cache,
}

/// Sums the prompts of a survey, also by time step, which is a multiple of an hour, and by agent for `most` of these.
///
/// # Errors
/// The SQLite error.
pub fn bill(survey: &Survey, step: Micros, most: usize) -> Result<Bill> {
    let mut bill = Bill::default();
    let mut agents: HashMap<Number, Prompts> = HashMap::new();
    let mut take = |series: Number, at: Micros, sums: &Prompts| {
        let Some(values) = survey.passing(series) else {
            return;
        };
        bill.total.add(sums, 1);
        bill.first = Some(bill.first.map_or(at, |first| first.min(at)));
        let agent = values[Dimension::Agent as usize];
        agents.entry(agent).or_default().add(sums, 1);
        let start = at.div_euclid(step) * step;
        bill.by_step.entry(start).or_default().add(sums, 1);
    };
    let parts = survey.parts(HOUR);
    let mut hours = survey.connection.prepare_cached(&format!(
        "SELECT series, start, {} FROM prompt_hour WHERE start >= ?1 AND start < ?2",
        COLUMNS.join(", ")
    ))?;
    for (_, Range { from, to }) in &parts.bars {
        let mut rows = hours.query((from, to))?;
        while let Some(row) = rows.next()? {
            take(row.get(0)?, row.get(1)?, &Prompts::of_row(row, 2)?);
        }
    }
    let whole: Vec<Range> = parts.bars.iter().map(|(_, range)| *range).collect();
    let mut cache = cache::hours(survey, &whole)?;
    let mut calls = survey.connection.prepare_cached(&format!(
        "SELECT {CALL_COLUMNS}, series FROM model_usage WHERE timestamp >= ?1 AND timestamp < ?2"
    ))?;
    for Range { from, to } in &parts.edges {
        let mut rows = calls.query((from, to))?;
        while let Some(row) = rows.next()? {
            let call = Call::of_row(row)?;
            if let Some(sums) = Prompts::of(&call) {
                take(row.get(CALL_WIDTH)?, call.timestamp, &sums);
            }
            if let Some(sums) = Cache::of(&call)
                && survey.passing(row.get(CALL_WIDTH)?).is_some()
            {
                cache.add(&sums, 1);
            }
        }
    }
    bill.cache = cache;
    let by_cost = |a: &Prompts, b: &Prompts| b.fixed_usd().total_cmp(&a.fixed_usd());
    let shown = best(agents.iter(), most, |(a, x), (b, y)| {
        by_cost(x, y).then_with(|| a.cmp(b))
    });
    let shown: Vec<Number> = shown.into_iter().map(|(agent, _)| *agent).collect();
    for agent in shown {
        let sums = agents.remove(&agent).unwrap_or_default();
        let name = series::value(survey.connection, Dimension::Agent, agent)?;
        bill.by_agent.push((name, sums));
    }
    bill.by_agent
        .sort_by(|(a, x), (b, y)| by_cost(x, y).then_with(|| a.cmp(b)));
    bill.rest.0 = agents.len();
    for sums in agents.values() {
        bill.rest.1.add(sums, 1);
    }
    Ok(bill)
}
