//! Sums of calls by UTC hour and day, model, agent, channel, trigger and cron job, which the command `report` reads from
//! a state directory. AgentWatch acknowledges calls and the journal drops them, so these sums are all that stays there.
//!
//! A call is counted once, when it is final, on the hour and day when it ended. [`Entry`] is journalled with the call's
//! id before the call; a recovery applies it only if the call is final in the journal, since otherwise the call becomes
//! final again.

use std::collections::{BTreeMap, HashMap};

use serde::Serialize;

use super::Nano;
use super::cache::Money;
use super::prompt_bill::{PromptStats, prompt_usd};
use super::who::Who;
use super::window::{DAY_MS, HOUR_MS};
use crate::domain::call::{CallId, CostSource, ModelCall};
use crate::domain::identity;
use crate::pricing::price::Tier;

/// Number of days with sums: two months and a week.
pub const DAYS: u64 = 70;
/// Number of hours with sums: two days and the current hour.
pub const HOURS: u64 = 49;
/// Maximum number of rows of all days, and of all hours. Further combinations of a span are one row of its own.
const MAX_ROWS: usize = 4_096;
/// The model of the row of all further combinations.
const OTHERS: &str = "other models";

/// Length of the spans of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Span {
    /// A UTC hour.
    Hour,
    /// A UTC day.
    Day,
}

impl Span {
    const ALL: [Self; 2] = [Self::Hour, Self::Day];

    /// Length in ms.
    pub fn length_ms(self) -> u64 {
        match self {
            Self::Hour => HOUR_MS,
            Self::Day => DAY_MS,
        }
    }

    fn most(self) -> u64 {
        match self {
            Self::Hour => HOURS,
            Self::Day => DAYS,
        }
    }
}

/// What a row's calls have in common. A field that no source told is empty.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// `provider/model`.
    pub model: String,
    /// The agent.
    pub agent: String,
    /// The channel.
    pub channel: String,
    /// The trigger.
    pub trigger: String,
    /// The cron job.
    pub job: String,
}

impl Key {
    /// The attribution of its calls.
    pub(super) fn who(&self) -> Who {
        let told = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
        Who {
            agent: told(&self.agent),
            channel: told(&self.channel),
            trigger: told(&self.trigger),
            job: told(&self.job),
            ..Who::default()
        }
    }

    /// The key of a call.
    pub fn of(call: &ModelCall) -> Self {
        let text = |text: &Option<String>| text.as_deref().map_or_else(String::new, identity::name);
        Self {
            model: identity::name(&[&call.provider, "/", &call.model].concat()),
            agent: text(&call.agent),
            channel: text(&call.origin.channel),
            trigger: text(&call.trigger),
            job: text(&call.origin.job),
        }
    }
}

/// Sums of calls. Tokens of prompts include cached ones.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Sums {
    /// Calls.
    pub calls: u64,
    /// Calls of unknown cost: each adds 0 USD.
    pub unpriced: u64,
    /// Cost.
    pub usd: Nano,
    /// Tokens of prompts.
    pub prompt: u64,
    /// Tokens of answers.
    pub output: u64,
    /// Tokens read from the cache.
    pub cache_read: u64,
    /// Tokens written to the cache.
    pub cache_write: u64,
    /// USD saved by cache reads.
    pub saved: Nano,
    /// USD paid for cache writes, above the input rate.
    pub extra: Nano,
    /// Calls whose prompt is divided into parts.
    pub divided: u64,
    /// Number of these calls whose prompt cost is unknown.
    pub divided_unpriced: u64,
    /// Estimated tokens of the parts: see [`super::prompt_bill::PARTS`].
    pub part_tokens: [u64; 4],
    /// Estimated cost of the parts.
    pub part_usd: [Nano; 4],
}

/// Number of numbers in [`Sums`].
pub const NUMBERS: usize = 19;

impl Sums {
    /// The sums of one call. `write_1h` is the number of cache-write tokens that are kept for an hour.
    pub fn of(call: &ModelCall, write_1h: u64, rates: Option<&Tier>) -> Self {
        let usage = call.usage.unwrap_or_default();
        let money = rates.map_or_else(Money::default, |rates| Money::of(&usage, write_1h, rates));
        let mut sums = Self {
            calls: 1,
            unpriced: u64::from(call.cost.source == CostSource::Unknown),
            usd: Nano::of_usd(call.cost.usd),
            prompt: usage.prompt(),
            output: usage.output,
            cache_read: usage.cache_read,
            cache_write: usage.cache_write,
            saved: money.saved,
            extra: money.extra,
            ..Self::default()
        };
        if let Some(stats) = call.prompt.filter(|_| call.usage.is_some()) {
            let usd = prompt_usd(call.cost, &usage, write_1h, rates);
            sums.divide(&stats, usd);
        }
        sums
    }

    /// Divides the prompt of one call, which cost `usd`.
    pub fn divide(&mut self, stats: &PromptStats, usd: Option<Nano>) {
        self.divided = 1;
        self.divided_unpriced = u64::from(usd.is_none());
        self.part_tokens = stats.divide(self.prompt);
        self.part_usd = stats.divide(usd.unwrap_or_default().0).map(Nano);
    }

    /// Adds others.
    pub fn add(&mut self, other: &Self) {
        let mut numbers = self.numbers();
        for (sum, more) in numbers.iter_mut().zip(other.numbers()) {
            *sum = sum.saturating_add(more);
        }
        *self = Self::of_numbers(numbers);
    }

    /// All numbers, in the order of the journal's format.
    pub fn numbers(&self) -> [u64; NUMBERS] {
        let [t0, t1, t2, t3] = self.part_tokens;
        let [u0, u1, u2, u3] = self.part_usd.map(|usd| usd.0);
        [
            self.calls,
            self.unpriced,
            self.usd.0,
            self.prompt,
            self.output,
            self.cache_read,
            self.cache_write,
            self.saved.0,
            self.extra.0,
            self.divided,
            self.divided_unpriced,
            t0,
            t1,
            t2,
            t3,
            u0,
            u1,
            u2,
            u3,
        ]
    }

    /// Reads [`Self::numbers`].
    pub fn of_numbers(numbers: [u64; NUMBERS]) -> Self {
        let [
            calls,
            unpriced,
            usd,
            prompt,
            output,
            cache_read,
            cache_write,
            saved,
            extra,
            divided,
            divided_unpriced,
            t0,
            t1,
            t2,
            t3,
            u0,
            u1,
            u2,
            u3,
        ] = numbers;
        Self {
            calls,
            unpriced,
            usd: Nano(usd),
            prompt,
            output,
            cache_read,
            cache_write,
            saved: Nano(saved),
            extra: Nano(extra),
            divided,
            divided_unpriced,
            part_tokens: [t0, t1, t2, t3],
            part_usd: [u0, u1, u2, u3].map(Nano),
        }
    }
}

/// The contribution of one call.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// When the call ended, in ms since 1970.
    pub ended_ms: u64,
    /// Its key.
    pub key: Key,
    /// Its sums.
    pub sums: Sums,
}

/// The sums of a key in an hour or on a day.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// Length of the span.
    pub span: Span,
    /// Number of the span since 1970.
    pub number: u64,
    /// The key.
    pub key: Key,
    /// The sums.
    pub sums: Sums,
}

impl Row {
    /// Begin of the span, in ms since 1970.
    pub fn starts_ms(&self) -> u64 {
        self.number.saturating_mul(self.span.length_ms())
    }
}

/// The sums of a state directory.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct History {
    hours: BTreeMap<(u64, Key), Sums>,
    days: BTreeMap<(u64, Key), Sums>,
    /// Entries of a recovery whose calls are not known to be final yet.
    unsure: HashMap<CallId, Entry>,
}

impl History {
    /// Counts a call. `now_ms`, in ms since 1970, tells which spans are in the future.
    pub fn count(&mut self, entry: &Entry, now_ms: u64) {
        for span in Span::ALL {
            let row = Row {
                span,
                number: entry.ended_ms / span.length_ms(),
                key: entry.key.clone(),
                sums: entry.sums,
            };
            self.add(&row, now_ms);
        }
    }

    /// Adds a row of a snapshot.
    pub fn put(&mut self, row: &Row) {
        self.add(row, u64::MAX);
    }

    fn add(&mut self, row: &Row, now_ms: u64) {
        let rows = match row.span {
            Span::Hour => &mut self.hours,
            Span::Day => &mut self.days,
        };
        // By number and not by distance: one call under a clock that is ahead must not displace all others.
        if next_number(rows, row.number) != Some(row.number) {
            let numbers =
                std::iter::successors(next_number(rows, 0), |number| next_number(rows, number + 1));
            if numbers.count() as u64 >= row.span.most() {
                // What a clock that was ahead has counted goes before all others. It stays until there is no room: this clock
                // may be the one that is wrong.
                let future = now_ms.saturating_add(DAY_MS) / row.span.length_ms();
                let latest = rows.last_key_value().map(|((number, _), _)| *number);
                let oldest = next_number(rows, 0).unwrap_or_default();
                let goes = latest.filter(|latest| *latest > future).unwrap_or(oldest);
                if row.number < goes && goes == oldest {
                    return;
                }
                rows.retain(|(number, _), _| *number != goes);
            }
        }
        let mut place = (row.number, row.key.clone());
        if rows.len() >= MAX_ROWS && !rows.contains_key(&place) {
            place.1 = Key {
                model: OTHERS.to_owned(),
                ..Key::default()
            };
        }
        rows.entry(place).or_default().add(&row.sums);
    }

    /// Takes an entry of a recovery; it counts once [`Self::is_final`] names its call.
    pub fn recover(&mut self, id: CallId, entry: Entry) {
        self.unsure.insert(id, entry);
    }

    /// The journal has this call as final.
    pub fn is_final(&mut self, id: CallId) {
        if let Some(entry) = self.unsure.remove(&id) {
            self.count(&entry, u64::MAX);
        }
    }

    /// Ends a recovery: calls that are not final become final later, and count then.
    pub fn recovered(&mut self) {
        self.unsure = HashMap::new();
    }

    /// Ends the reading of another process's files: each of its calls is or becomes final.
    pub fn count_all(&mut self) {
        for entry in std::mem::take(&mut self.unsure).into_values() {
            self.count(&entry, u64::MAX);
        }
    }

    /// All rows. Boxed: each user would get code of its own for the walk through both maps, 2 KB in all.
    pub fn rows(&self) -> Box<dyn Iterator<Item = Row> + '_> {
        let spans = [(Span::Hour, &self.hours), (Span::Day, &self.days)];
        Box::new(spans.into_iter().flat_map(|(span, rows)| {
            rows.iter().map(move |((number, key), sums)| Row {
                span,
                number: *number,
                key: key.clone(),
                sums: *sums,
            })
        }))
    }
}

/// The first number of a span from this one on.
fn next_number(rows: &BTreeMap<(u64, Key), Sums>, from: u64) -> Option<u64> {
    let mut later = rows.range((from, Key::default())..);
    later.next().map(|((number, _), _)| *number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(ended_ms: u64, model: &str, usd: u64) -> Entry {
        Entry {
            ended_ms,
            key: Key {
                model: model.to_owned(),
                ..Key::default()
            },
            sums: Sums {
                calls: 1,
                usd: Nano(usd),
                ..Sums::default()
            },
        }
    }

    /// Counts a call when it ends.
    fn count(history: &mut History, ended_ms: u64, model: &str, usd: u64) {
        history.count(&entry(ended_ms, model, usd), ended_ms);
    }

    fn spent(history: &History, span: Span) -> u64 {
        let rows = history.rows().filter(|row| row.span == span);
        rows.map(|row| row.sums.usd.0).sum()
    }

    #[test]
    fn old_spans_are_dropped_and_further_combinations_are_one_row() {
        let mut history = History::default();
        for day in 0..100 {
            count(&mut history, day * DAY_MS, "m", 1);
        }
        count(&mut history, 0, "m", 1);
        assert_eq!(spent(&history, Span::Day), DAYS);
        assert_eq!(spent(&history, Span::Hour), HOURS);
        let mut history = History::default();
        for model in 0..2 * MAX_ROWS {
            count(&mut history, 5, &model.to_string(), 1);
        }
        assert_eq!(spent(&history, Span::Day), 2 * MAX_ROWS as u64);
        assert_eq!(history.rows().count(), 2 * (MAX_ROWS + 1));
    }

    #[test]
    fn a_call_under_a_clock_that_is_ahead_displaces_one_span() {
        let mut history = History::default();
        for day in 0..2 * DAYS {
            count(&mut history, day * DAY_MS, "m", 1);
        }
        count(&mut history, 1_000 * DAY_MS, "m", 1_000);
        let now_ms = 2 * DAYS * DAY_MS;
        count(&mut history, now_ms, "m", 1);
        assert_eq!(spent(&history, Span::Day), DAYS);
        assert_eq!(spent(&history, Span::Hour), HOURS);
    }

    #[test]
    fn a_call_under_a_clock_that_is_behind_displaces_one_span() {
        let mut history = History::default();
        for day in 100..100 + DAYS {
            count(&mut history, day * DAY_MS, "m", 1);
        }
        // The clock is set back by some days, where there is no room for another one, and then set right.
        count(&mut history, (90 + DAYS) * DAY_MS, "n", 1);
        count(&mut history, 99 * DAY_MS, "n", 1);
        assert_eq!(spent(&history, Span::Day), DAYS + 1);
    }

    #[test]
    fn an_entry_counts_once_its_call_is_final() {
        let mut history = History::default();
        for id in [1, 2] {
            history.recover(CallId(id), entry(5, "m", 1));
        }
        history.is_final(CallId(2));
        history.is_final(CallId(2));
        history.is_final(CallId(3));
        history.recovered();
        assert_eq!(spent(&history, Span::Day), 1);
        history.count_all();
        assert_eq!(spent(&history, Span::Day), 1);
    }

    #[test]
    fn sums_are_their_numbers() {
        let mut numbers = [0; NUMBERS];
        numbers
            .iter_mut()
            .enumerate()
            .for_each(|(place, number)| *number = place as u64 + 1);
        let mut sums = Sums::of_numbers(numbers);
        assert_eq!(sums.numbers(), numbers);
        sums.add(&sums.clone());
        assert_eq!(sums.numbers(), numbers.map(|number| 2 * number));
    }
}
