//! Calls of a session as a gateway's API tells them: `sessions.usage.timeseries` and `chat.history`.
//!
//! The series has a point a call: when, how many tokens, what it cost. It names no model, and beyond 200 calls a gateway
//! adds neighbouring calls up, so that a point stands for several. The history has the messages that a chat shows, with
//! the names and the beginning of each call, but leaves messages out (a silent reply, for one). So the series says what
//! was used, and the history says by which calls. Both are read as they came over the wire, and what people wrote is
//! passed over.
//!
//! What was counted of a session is remembered as a number of calls and their sum ([`Mark`]). The sum of the series is
//! exact in each of its forms, so the calls that are new are those that make up the difference.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::json;
use serde_json::value::RawValue;

use crate::time::iso;
use crate::transcript::{Reader, Scope};

/// A gateway adds calls up where a series would have more than 200 points, so one that did has at least 101.
const EXACT_UP_TO: usize = 100;
/// A count beyond this is none.
const MAX_TOKENS: f64 = 1e12;

/// Tokens: input, output, cache read, cache write.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Tokens([u64; 4]);

impl Tokens {
    fn plus(self, other: Self) -> Self {
        self.each(other, u64::saturating_add)
    }

    /// The difference; nothing where any count would be negative.
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

/// What was counted of a session: `<calls> <input> <output> <cache read> <cache write> <USD> <last, ms since 1970>`.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Mark {
    calls: u64,
    tokens: Tokens,
    cost_usd: f64,
    /// The time of the last point that was counted.
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
    /// Reads a mark; nothing was counted where it is none.
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

/// A session as `sessions.list` tells it, and which of its calls are wanted. Times in ms since 1970, by the gateway's clock.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// The session's key.
    pub session_key: String,
    /// The agent's id.
    pub agent: Option<String>,
    /// The provider of the session's last call, for calls that the history does not show.
    pub provider: Option<String>,
    /// Its model.
    pub model: Option<String>,
    /// Calls that ended before this are not counted.
    pub since_ms: u64,
}

/// A call, told as a row of the session store: what reads those has its one reader of names and usage.
#[derive(Debug, Clone, Serialize)]
pub struct Call {
    /// Facts of the source `stored`, in the order of its table.
    pub row: Box<RawValue>,
    /// The model's name.
    pub model: Option<String>,
    /// Tokens of the whole prompt.
    pub prompt: u64,
    /// Tokens of the answer.
    pub completion: u64,
    /// When it ended, in ms since 1970.
    pub written: u64,
}

/// What a look at a session came to.
#[derive(Debug, Default, Serialize)]
pub struct Look {
    /// The session's id, by which its mark is kept: a key gets a new session at a reset.
    pub session_id: Option<String>,
    /// The calls that were not counted before.
    pub calls: Vec<Call>,
    /// The mark once they are.
    pub mark: String,
    /// How many of `calls` are sums of several calls that the gateway tells no more apart.
    pub sums: u64,
    /// How many of `calls`, sums aside, no message names.
    pub unnamed: u64,
    /// Whether older messages may name calls that the newer ones do not.
    pub wants_older: bool,
    /// Calls of which nobody tells the model: they cannot be counted.
    pub nameless: u64,
    /// Points without tokens of which the history says nothing: a failure, or an answer without usage.
    pub untold: u64,
    /// Whether the transcript was cut or written anew, so that calls were told apart by their times alone.
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
    /// Of a point of a series.
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

/// A number; nothing where it is none.
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

/// A cost in USD: a point's is a number, a message's is `{total}`.
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
    role: Told<String>,
    provider: Told<String>,
    model: Told<String>,
    usage: Told<Usage>,
    stop_reason: Told<String>,
    response_id: Told<String>,
    timestamp: Number,
    #[serde(rename = "__openclaw")]
    meta: Told<Meta>,
}

/// A member of a message; one of another kind than it has to be is none, and spoils nothing else.
struct Told<T>(Option<T>);

impl<T> Default for Told<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<'de, T: serde::de::DeserializeOwned> Deserialize<'de> for Told<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let value = serde_json::Value::deserialize(from)?;
        Ok(Self(serde_json::from_value(value).ok()))
    }
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Meta {
    id: Told<String>,
    run_id: Told<String>,
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

    /// Whether it is the same message: one that was shown in pieces.
    fn is_same(&self, other: &Self) -> bool {
        match (&self.entry, &other.entry) {
            (Some(one), Some(other)) => one == other,
            _ => self.begun_ms == other.begun_ms && self.tokens == other.tokens,
        }
    }
}

/// Compares what a gateway tells of a session with what was counted of it. `series` and `histories` are the frames as
/// they came; the pages of the history stand in the order of time.
///
/// # Errors
/// What of it cannot be read.
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
    let mut looking = Looking {
        wanted,
        mark,
        unnamed_from: None,
        look: Look {
            session_id,
            ..Look::default()
        },
    };
    if is_exact(&points, &rows, mark) {
        looking.take_points(&points, &mut rows);
    } else {
        looking.take_rows(&points, &rows);
    }
    let is_older = |ms: u64| {
        rows.iter()
            .any(|row| row.begun_ms.is_some_and(|begun| begun < ms))
    };
    looking.look.wants_older = looking.unnamed_from.is_some_and(|ms| !is_older(ms));
    looking.look.mark = looking.mark.to_string();
    Ok(looking.look)
}

/// Keeps the calls among messages. A message that was shown in pieces is one, and so is one on two pages.
fn add_rows(rows: &mut Vec<Row>, messages: Vec<Message>) {
    for row in messages.into_iter().filter_map(Row::of) {
        // Pieces stand together, and pages overlap by little.
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

struct Looking<'a> {
    wanted: &'a Wanted,
    mark: Mark,
    /// When the first call was that no message names.
    unnamed_from: Option<u64>,
    look: Look,
}

impl Looking<'_> {
    /// Each point is a call.
    fn take_points(&mut self, points: &Points, rows: &mut [Row]) {
        let last_ms = self.mark.last_ms;
        let fresh: Vec<usize> = match self.fresh_points(points) {
            Some(fresh) => fresh.collect(),
            None => {
                self.look.is_rewritten = true;
                let is_known = |(ms, ..): &&(u64, Tokens, Option<f64>)| *ms <= last_ms;
                self.mark = mark_of(points.iter().filter(is_known));
                self.mark.last_ms = last_ms;
                (0..points.len())
                    .filter(|index| points[*index].0 > last_ms)
                    .collect()
            }
        };
        // Rows of calls that were counted are not for others.
        let found: Vec<Option<usize>> = points.iter().map(|point| row_of(point, rows)).collect();
        for index in fresh {
            let (ms, tokens, cost) = points[index];
            let row = found[index].map(|row| &rows[row]);
            self.count(ms, tokens, cost);
            match row {
                None if tokens.is_zero() => self.look.untold += 1,
                _ => {
                    self.look.unnamed += u64::from(row.is_none());
                    self.emit(row, ms, tokens, cost);
                }
            }
        }
    }

    /// The points that were not counted: so many neighbours that make up the difference, the latest ones if it can be.
    /// A clock that was set back puts new ones before old ones.
    fn fresh_points(&self, points: &Points) -> Option<std::ops::Range<usize>> {
        let size = points.len().checked_sub(self.mark.calls as usize)?;
        let all = sum(points.iter().map(|(_, tokens, _)| tokens));
        let rest = all.minus(self.mark.tokens)?;
        let starts = (0..=points.len() - size).rev();
        let mut windows = starts.map(|start| start..start + size);
        windows
            .find(|window| sum(points[window.clone()].iter().map(|(_, tokens, _)| tokens)) == rest)
    }

    /// A point may be the sum of several calls: the calls are those of the history.
    fn take_rows(&mut self, points: &Points, rows: &[Row]) {
        let all = sum(points.iter().map(|(_, tokens, _)| tokens));
        let total_cost: f64 = points.iter().filter_map(|(_, _, cost)| *cost).sum();
        let end_ms = points.last().map_or(0, |(ms, ..)| *ms);
        let Some(rest) = all.minus(self.mark.tokens) else {
            // What is left of a transcript that was cut cannot be told from what is new, but by the time.
            self.look.is_rewritten = true;
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

    /// The rows that were not counted, and their sum: neighbours at the end that make up what is new. The history is
    /// asked for after the series, so the last ones may be newer than that. Where none do, a message is not shown: then it
    /// is the longest run that is no more than what is new.
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

    /// Calls of the history, in the order of time.
    fn take_suffix<'r>(&mut self, rows: impl Iterator<Item = &'r Row>, end_ms: u64) {
        for row in rows {
            let ms = row.begun_ms.unwrap_or(end_ms);
            let cost = row.cost;
            self.count(ms, row.tokens, cost);
            self.emit(Some(row), ms, row.tokens, cost);
        }
    }

    /// What is new and in no message, with the points that it is in: it lies behind what was counted.
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
            self.look.sums += 1;
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
        let or = |told: &Option<String>, else_: &Option<String>| {
            told.as_ref().or(else_.as_ref()).cloned()
        };
        let model = or(&shown.model, &wanted.model);
        let [input, output, cache_read, cache_write] = tokens.0;
        let line = json!({
            "type": "message",
            // A row has an id from 2026.5 on; without one the call's figures alone tell it from others.
            "id": shown.entry.as_deref().unwrap_or("polled"),
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
            session_id: self.look.session_id.clone().unwrap_or_default(),
            session_key: Some(wanted.session_key.clone()),
            ..Scope::default()
        });
        let mut rows = String::new();
        reader.feed(format!("{line}\n").as_bytes(), &mut rows);
        self.look.nameless += u64::from(reader.skipped().no_model);
        // What a gateway wrote itself, in a model's name, makes no row.
        let Ok(row) = RawValue::from_string(rows) else {
            return;
        };
        self.look.calls.push(Call {
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

/// The message of a point, which then is no other's: with the same tokens, and the same time or the nearest before. The
/// point's time is that of the message's row, from 2026.8 on that of its beginning.
fn row_of(point: &(u64, Tokens, Option<f64>), rows: &mut [Row]) -> Option<usize> {
    let (ms, tokens, _) = *point;
    let is_at = |row: &Row| row.begun_ms == Some(ms) || row.recorded_ms == Some(ms);
    let free = || rows.iter().enumerate().filter(|(_, row)| !row.is_used);
    let equal = || free().filter(|(_, row)| row.tokens == tokens);
    let before = || equal().filter(|(_, row)| row.begun_ms.is_some_and(|begun| begun <= ms));
    let found = equal()
        .find(|(_, row)| is_at(row))
        .or_else(|| before().max_by_key(|(_, row)| row.begun_ms))
        // Its usage has other names than a gateway's own.
        .or_else(|| free().find(|(_, row)| is_at(row) && row.tokens.is_zero()))
        .map(|(index, _)| index)?;
    rows[found].is_used = true;
    Some(found)
}

/// When a call ended: its row was written then. Where only the time of a point is known it is that.
fn written_ms(row: Option<&Row>, point_ms: u64) -> u64 {
    let recorded = row.and_then(|row| row.recorded_ms);
    recorded.unwrap_or(point_ms)
}
