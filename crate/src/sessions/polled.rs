//! Reconstructs the calls of a session from a gateway's API: `sessions.usage.timeseries` and `chat.history`.
//!
//! The series has one point per call: time, tokens, cost. It has no models, and beyond 200 calls a gateway merges
//! neighbouring calls, so that a point stands for several. The history has the messages that a chat shows, with the
//! names and the begin of each call, but omits some messages (a silent reply, for one). So the series gives the
//! amounts, and the history the calls. Both are read from the raw response, and texts of people are skipped.
//!
//! The counted calls of a session are stored as their number and sum ([`Mark`]). The sum of the series is exact with
//! and without merging, so the new calls are those that make up the difference.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::json;
use serde_json::value::RawValue;

use crate::domain::time::iso;
use crate::sessions::transcript::{Reader, Scope};

/// A gateway merges calls when a series would have more than 200 points, so a merged series has at least 101.
const EXACT_UP_TO: usize = 100;
/// Maximum number of tokens; a larger count is invalid.
const MAX_TOKENS: f64 = 1e12;

/// Tokens: input, output, cache reads, cache writes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Tokens([u64; 4]);

impl Tokens {
    fn plus(self, other: Self) -> Self {
        self.each(other, u64::saturating_add)
    }

    /// The difference; `None` where any count would be negative.
    fn minus(self, other: Self) -> Option<Self> {
        other
            .is_within(self)
            .then(|| self.each(other, u64::saturating_sub))
    }

    fn each(self, other: Self, of: fn(u64, u64) -> u64) -> Self {
        Self(std::array::from_fn(|index| {
            of(self.0[index], other.0[index])
        }))
    }

    fn is_within(self, other: Self) -> bool {
        self.0.iter().zip(other.0).all(|(one, other)| *one <= other)
    }

    fn is_zero(self) -> bool {
        self == Self::default()
    }
}

fn sum<'a>(all: impl IntoIterator<Item = &'a Tokens>) -> Tokens {
    all.into_iter().fold(Tokens::default(), |a, b| a.plus(*b))
}

/// The counted calls of a session: `<calls> <input> <output> <cache read> <cache write> <USD> <last, ms since 1970>`.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Mark {
    calls: u64,
    tokens: Tokens,
    cost_usd: f64,
    /// Time of the last counted point.
    last_ms: u64,
}

impl fmt::Display for Mark {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [input, output, read, write] = self.tokens.0;
        let (calls, cost, last) = (self.calls, self.cost_usd, self.last_ms);
        write!(out, "{calls} {input} {output} {read} {write} {cost} {last}")
    }
}

impl Mark {
    /// Reads a mark; an invalid text means that nothing was counted.
    pub fn parse(text: &str) -> Self {
        let words: Vec<&str> = text.split(' ').collect();
        let number = |index: usize| words.get(index)?.parse::<u64>().ok();
        let read = || {
            Some(Self {
                calls: number(0)?,
                tokens: Tokens([number(1)?, number(2)?, number(3)?, number(4)?]),
                cost_usd: words.get(5)?.parse().ok()?,
                last_ms: number(6)?,
            })
        };
        read().unwrap_or_default()
    }
}

/// A session from `sessions.list`, and which of its calls are wanted. Times in ms since 1970, by the gateway's clock.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// The session's key.
    pub session_key: String,
    /// The agent's id.
    pub agent: Option<String>,
    /// The provider of the session's last call, for calls that are not in the history.
    pub provider: Option<String>,
    /// The model of the session's last call.
    pub model: Option<String>,
    /// Calls that ended before this are not counted.
    pub since_ms: u64,
}

/// A call as a row of the session store, so that the same reader reads its names and usage.
#[derive(Debug, Clone, Serialize)]
pub struct Call {
    /// Facts of the source `stored`, in the order of its table.
    pub row: Box<RawValue>,
    /// The model's name.
    pub model: Option<String>,
    /// Tokens of the whole prompt.
    pub prompt: u64,
    /// Output tokens.
    pub completion: u64,
    /// When it ended, in ms since 1970.
    pub written: u64,
}

/// Result of comparing a session with its mark.
#[derive(Debug, Default, Serialize)]
pub struct Look {
    /// The session's id, under which its mark is stored: after a reset a key has a new session.
    pub session_id: Option<String>,
    /// The new calls.
    pub calls: Vec<Call>,
    /// The mark after the new calls are counted.
    pub mark: String,
    /// Number of `calls` that are sums of several calls, which the gateway has merged.
    pub sums: u64,
    /// Number of `calls` without a message, sums excluded.
    pub unnamed: u64,
    /// Whether older messages may have the names of unnamed calls.
    pub wants_older: bool,
    /// Calls without a known model; they cannot be counted.
    pub nameless: u64,
    /// Points without tokens and without a message: a failure, or an answer without usage.
    pub untold: u64,
    /// Whether the transcript was truncated or rewritten, so that only times separate new calls from old ones.
    pub is_rewritten: bool,
}

#[derive(Deserialize)]
struct Reply<T> {
    payload: T,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Series {
    session_id: Option<String>,
    points: Vec<Usage>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Usage {
    /// Present in points of a series only.
    timestamp: Number,
    input: Number,
    output: Number,
    cache_read: Number,
    cache_write: Number,
    cost: Cost,
}

impl Usage {
    fn tokens(&self) -> Tokens {
        let all = [
            &self.input,
            &self.output,
            &self.cache_read,
            &self.cache_write,
        ];
        Tokens(all.map(|number| {
            number
                .0
                .filter(|n| (0.0..=MAX_TOKENS).contains(n))
                .unwrap_or(0.0) as u64
        }))
    }

    fn cost(&self) -> Option<f64> {
        self.cost.0.filter(|usd| *usd > 0.0 && usd.is_finite())
    }
}

/// A number; `None` for other values.
#[derive(Default, Clone, Copy)]
struct Number(Option<f64>);

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Ok(Self(serde_json::Value::deserialize(from)?.as_f64()))
    }
}

impl Number {
    fn ms(self) -> Option<u64> {
        self.0
            .filter(|ms| (0.0..=9e15).contains(ms))
            .map(|ms| ms as u64)
    }
}

/// A cost in USD: a number in a point, `{total}` in a message.
#[derive(Default)]
struct Cost(Option<f64>);

impl<'de> Deserialize<'de> for Cost {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let value = serde_json::Value::deserialize(from)?;
        Ok(Self(
            value.as_f64().or_else(|| value.get("total")?.as_f64()),
        ))
    }
}

#[derive(Deserialize)]
struct History {
    #[serde(default)]
    messages: Vec<Message>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Message {
    role: Lenient<String>,
    provider: Lenient<String>,
    model: Lenient<String>,
    usage: Lenient<Usage>,
    stop_reason: Lenient<String>,
    response_id: Lenient<String>,
    timestamp: Number,
    #[serde(rename = "__openclaw")]
    meta: Lenient<Meta>,
}

/// An optional member of a message. A value of the wrong type is treated as missing and affects no other member.
struct Lenient<T>(Option<T>);

impl<T> Default for Lenient<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<'de, T: serde::de::DeserializeOwned> Deserialize<'de> for Lenient<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let value = serde_json::Value::deserialize(from)?;
        Ok(Self(serde_json::from_value(value).ok()))
    }
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Meta {
    id: Lenient<String>,
    run_id: Lenient<String>,
    record_timestamp_ms: Number,
}

/// A message of a model.
#[derive(Default)]
struct Row {
    provider: Option<String>,
    model: Option<String>,
    stop_reason: Option<String>,
    response_id: Option<String>,
    entry: Option<String>,
    run_id: Option<String>,
    tokens: Tokens,
    cost: Option<f64>,
    begun_ms: Option<u64>,
    recorded_ms: Option<u64>,
    is_used: bool,
}

impl Row {
    fn of(message: Message) -> Option<Self> {
        if message.role.0.as_deref() != Some("assistant") {
            return None;
        }
        let (usage, meta) = (
            message.usage.0.unwrap_or_default(),
            message.meta.0.unwrap_or_default(),
        );
        Some(Self {
            provider: message.provider.0,
            model: message.model.0,
            stop_reason: message.stop_reason.0,
            response_id: message.response_id.0,
            entry: meta.id.0,
            run_id: meta.run_id.0,
            tokens: usage.tokens(),
            cost: usage.cost(),
            begun_ms: message.timestamp.ms(),
            recorded_ms: meta.record_timestamp_ms.ms(),
            is_used: false,
        })
    }

    /// Whether both are pieces of the same message.
    fn is_same(&self, other: &Self) -> bool {
        match (&self.entry, &other.entry) {
            (Some(one), Some(other)) => one == other,
            _ => self.begun_ms == other.begun_ms && self.tokens == other.tokens,
        }
    }
}

/// Compares a session in a gateway's API with its mark. `series` and `histories` are the raw frames; the pages of the
/// history are in order of time.
///
/// # Errors
/// Names the response that cannot be read.
pub fn look(
    series: &str,
    histories: &[String],
    wanted: &Wanted,
    mark: Mark,
) -> Result<Look, &'static str> {
    let Reply {
        payload: Series { session_id, points },
    } = serde_json::from_str(series).map_err(|_| "sessions.usage.timeseries cannot be read")?;
    let mut points: Vec<(u64, Tokens, Option<f64>)> = points
        .iter()
        .filter_map(|point| Some((point.timestamp.ms()?, point.tokens(), point.cost())))
        .collect();
    points.sort_by_key(|(ms, ..)| *ms);
    let mut rows = Vec::new();
    for history in histories {
        let Reply {
            payload: History { messages },
        } = serde_json::from_str(history).map_err(|_| "chat.history cannot be read")?;
        add_rows(&mut rows, messages);
    }
    let mut comparison = Comparison {
        wanted,
        mark,
        unnamed_from: None,
        result: Look {
            session_id,
            ..Look::default()
        },
    };
    if is_exact(&points, &rows, mark) {
        comparison.take_points(&points, &mut rows);
    } else {
        comparison.take_rows(&points, &rows);
    }
    let is_older = |ms: u64| {
        rows.iter()
            .any(|row| row.begun_ms.is_some_and(|begun| begun < ms))
    };
    comparison.result.wants_older = comparison.unnamed_from.is_some_and(|ms| !is_older(ms));
    comparison.result.mark = comparison.mark.to_string();
    Ok(comparison.result)
}

/// Adds the calls among messages. Pieces of one message, and a message on two pages, are added once.
fn add_rows(rows: &mut Vec<Row>, messages: Vec<Message>) {
    for row in messages.into_iter().filter_map(Row::of) {
        // Pieces are adjacent, and pages overlap by little.
        if !rows.iter().rev().take(64).any(|known| known.is_same(&row)) {
            rows.push(row);
        }
    }
}

type Points = [(u64, Tokens, Option<f64>)];

/// Whether each point is one call.
fn is_exact(points: &Points, rows: &[Row], mark: Mark) -> bool {
    if points.len() <= EXACT_UP_TO {
        return true;
    }
    let telling: Vec<&Row> = rows.iter().filter(|row| !row.tokens.is_zero()).collect();
    if mark.calls > points.len() as u64 || telling.len() > points.len() {
        return false;
    }
    let is_point = |row: &&&Row| points.iter().any(|(_, tokens, _)| *tokens == row.tokens);
    2 * telling.iter().filter(is_point).count() >= telling.len()
}

struct Comparison<'a> {
    wanted: &'a Wanted,
    mark: Mark,
    /// Time of the first call without a message.
    unnamed_from: Option<u64>,
    result: Look,
}

impl Comparison<'_> {
    /// Takes the new points as calls.
    fn take_points(&mut self, points: &Points, rows: &mut [Row]) {
        let last_ms = self.mark.last_ms;
        let fresh: Vec<usize> = match self.fresh_points(points) {
            Some(fresh) => fresh.collect(),
            None => {
                self.result.is_rewritten = true;
                let is_known = |(ms, ..): &&(u64, Tokens, Option<f64>)| *ms <= last_ms;
                self.mark = mark_of(points.iter().filter(is_known));
                self.mark.last_ms = last_ms;
                (0..points.len())
                    .filter(|index| points[*index].0 > last_ms)
                    .collect()
            }
        };
        // Rows of counted calls are assigned first, so that new calls do not take them.
        let found: Vec<Option<usize>> = points.iter().map(|point| row_of(point, rows)).collect();
        for index in fresh {
            let (ms, tokens, cost) = points[index];
            let row = found[index].map(|row| &rows[row]);
            self.count(ms, tokens, cost);
            match row {
                None if tokens.is_zero() => self.result.untold += 1,
                _ => {
                    self.result.unnamed += u64::from(row.is_none());
                    self.emit(row, ms, tokens, cost);
                }
            }
        }
    }

    /// The new points: adjacent ones that make up the difference, the latest ones where several ranges fit. After a
    /// clock was set back, new points precede old ones.
    fn fresh_points(&self, points: &Points) -> Option<std::ops::Range<usize>> {
        let size = points.len().checked_sub(self.mark.calls as usize)?;
        let all = sum(points.iter().map(|(_, tokens, _)| tokens));
        let rest = all.minus(self.mark.tokens)?;
        let starts = (0..=points.len() - size).rev();
        let mut windows = starts.map(|start| start..start + size);
        windows
            .find(|window| sum(points[window.clone()].iter().map(|(_, tokens, _)| tokens)) == rest)
    }

    /// Takes the new rows of the history as calls, since a point may be the sum of several calls.
    fn take_rows(&mut self, points: &Points, rows: &[Row]) {
        let all = sum(points.iter().map(|(_, tokens, _)| tokens));
        let total_cost: f64 = points.iter().filter_map(|(_, _, cost)| *cost).sum();
        let end_ms = points.last().map_or(0, |(ms, ..)| *ms);
        let Some(rest) = all.minus(self.mark.tokens) else {
            // Only the time separates the rest of a truncated transcript from new calls.
            self.result.is_rewritten = true;
            let last_ms = self.mark.last_ms;
            let fresh: Vec<&Row> = rows
                .iter()
                .filter(|row| row.begun_ms > Some(last_ms))
                .collect();
            let known = all
                .minus(sum(fresh.iter().map(|row| &row.tokens)))
                .unwrap_or(all);
            self.mark = Mark {
                tokens: known,
                ..self.mark
            };
            return self.take_suffix(fresh.into_iter(), end_ms);
        };
        let (run, taken) = self.fresh_rows(rows, rest);
        let suffix = &rows[run];
        let missing = rest.minus(taken).unwrap_or_default();
        if !missing.is_zero() {
            let known: f64 = suffix.iter().filter_map(|row| row.cost).sum();
            let cost = total_cost - self.mark.cost_usd - known;
            self.take_missing(points, missing, cost);
        }
        self.take_suffix(suffix.iter(), end_ms);
    }

    /// The new rows, and their sum: adjacent rows near the end that make up the difference. The history is read after
    /// the series, so the last rows may be newer than the series. If no range fits, a message is not shown: then it is
    /// the longest range whose sum does not exceed the difference.
    fn fresh_rows(&self, rows: &[Row], rest: Tokens) -> (std::ops::Range<usize>, Tokens) {
        const NEWER_AT_MOST: usize = 32;
        let run_to = |end: usize| {
            let (mut start, mut taken) = (end, Tokens::default());
            for (index, row) in rows[..end].iter().enumerate().rev() {
                let more = taken.plus(row.tokens);
                let is_old = row.begun_ms.is_some_and(|ms| ms <= self.mark.last_ms);
                if taken == rest || is_old || !more.is_within(rest) {
                    break;
                }
                (start, taken) = (index, more);
            }
            (start..end, taken)
        };
        let ends = (0..=rows.len()).rev().take(NEWER_AT_MOST);
        let mut runs = ends.map(run_to);
        runs.find(|(_, taken)| *taken == rest)
            .unwrap_or_else(|| run_to(rows.len()))
    }

    /// Counts rows of the history, in order of time.
    fn take_suffix<'r>(&mut self, rows: impl Iterator<Item = &'r Row>, end_ms: u64) {
        for row in rows {
            let ms = row.begun_ms.unwrap_or(end_ms);
            let cost = row.cost;
            self.count(ms, row.tokens, cost);
            self.emit(Some(row), ms, row.tokens, cost);
        }
    }

    /// Counts new tokens without a message, one sum per point that contains them: they follow the counted ones.
    fn take_missing(&mut self, points: &Points, missing: Tokens, cost: f64) {
        let from = self.mark.tokens;
        let to = from.plus(missing);
        let within = |tokens: Tokens| tokens.each(from, u64::max).each(to, u64::min);
        let all: u64 = missing.0.iter().sum();
        let mut before = Tokens::default();
        for (ms, tokens, _) in points {
            let after = before.plus(*tokens);
            let piece = within(after).each(within(before), u64::saturating_sub);
            before = after;
            if piece.is_zero() {
                continue;
            }
            let share = piece.0.iter().sum::<u64>() as f64 / all as f64;
            let cost = Some(cost * share).filter(|usd| *usd > 0.0);
            self.count(*ms, piece, cost);
            self.result.sums += 1;
            self.emit(None, *ms, piece, cost);
        }
    }

    fn count(&mut self, ms: u64, tokens: Tokens, cost: Option<f64>) {
        self.mark.calls += 1;
        self.mark.tokens = self.mark.tokens.plus(tokens);
        self.mark.cost_usd += cost.unwrap_or_default();
        self.mark.last_ms = self.mark.last_ms.max(ms);
    }

    fn emit(&mut self, row: Option<&Row>, ms: u64, tokens: Tokens, cost: Option<f64>) {
        let wanted = self.wanted;
        let written = written_ms(row, ms);
        let unshown = Row::default();
        let shown = row.unwrap_or(&unshown);
        if row.is_none() {
            self.unnamed_from.get_or_insert(ms);
        }
        if written < wanted.since_ms {
            return;
        }
        let or = |reported: &Option<String>, else_: &Option<String>| {
            reported.as_ref().or(else_.as_ref()).cloned()
        };
        let model = or(&shown.model, &wanted.model);
        let [input, output, cache_read, cache_write] = tokens.0;
        let line = json!({
            "type": "message",
            // Rows have ids from 2026.5 on. A call without a message has no begin either: its point's time identifies it.
            "id": shown.entry.clone().unwrap_or_else(|| format!("polled {ms}")),
            "timestamp": iso(written),
            "message": {
                "role": "assistant",
                "provider": or(&shown.provider, &wanted.provider),
                "model": model,
                "usage": {
                    "input": input, "output": output, "cacheRead": cache_read, "cacheWrite": cache_write,
                    "cost": cost.or(shown.cost).map(|total| json!({ "total": total })),
                },
                "stopReason": shown.stop_reason,
                "responseId": shown.response_id,
                "timestamp": shown.begun_ms,
                "__openclaw": { "runId": shown.run_id },
            },
        });
        let mut reader = Reader::new(Scope {
            agent: wanted.agent.clone().unwrap_or_default(),
            session_id: self.result.session_id.clone().unwrap_or_default(),
            session_key: Some(wanted.session_key.clone()),
            ..Scope::default()
        });
        let mut rows = String::new();
        reader.feed(format!("{line}\n").as_bytes(), &mut rows);
        self.result.nameless += u64::from(reader.skipped().no_model);
        // A message that the gateway itself wrote makes no row.
        let Ok(row) = RawValue::from_string(rows) else {
            return;
        };
        self.result.calls.push(Call {
            row,
            model,
            prompt: input + cache_read + cache_write,
            completion: output,
            written,
        });
    }
}

fn mark_of<'a>(points: impl Iterator<Item = &'a (u64, Tokens, Option<f64>)>) -> Mark {
    let mut mark = Mark::default();
    for (_, tokens, cost) in points {
        mark.calls += 1;
        mark.tokens = mark.tokens.plus(*tokens);
        mark.cost_usd += cost.unwrap_or_default();
    }
    mark
}

/// Finds the message of a point and marks it as used: equal tokens, and the same time or the nearest before. A point's
/// time is that of the message's row; from 2026.8 on it is the message's begin.
fn row_of(point: &(u64, Tokens, Option<f64>), rows: &mut [Row]) -> Option<usize> {
    let (ms, tokens, _) = *point;
    let is_at = |row: &Row| row.begun_ms == Some(ms) || row.recorded_ms == Some(ms);
    let free = || rows.iter().enumerate().filter(|(_, row)| !row.is_used);
    let equal = || free().filter(|(_, row)| row.tokens == tokens);
    let before = || equal().filter(|(_, row)| row.begun_ms.is_some_and(|begun| begun <= ms));
    let found = equal()
        .find(|(_, row)| is_at(row))
        .or_else(|| before().max_by_key(|(_, row)| row.begun_ms))
        // A message whose usage has another provider's names has no tokens here.
        .or_else(|| free().find(|(_, row)| is_at(row) && row.tokens.is_zero()))
        .map(|(index, _)| index)?;
    rows[found].is_used = true;
    Some(found)
}

/// When a call ended: when its row was written, else the point's time.
fn written_ms(row: Option<&Row>, point_ms: u64) -> u64 {
    let recorded = row.and_then(|row| row.recorded_ms);
    recorded.unwrap_or(point_ms)
}
