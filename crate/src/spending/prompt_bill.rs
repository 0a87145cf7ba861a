//! Tokens and cost of the parts of prompts: an estimate.
//!
//! `promptStats` of `model.call.completed` (from 2026.7) counts characters: `systemPromptChars`, `toolDefinitionsChars`
//! and `inputMessagesChars` (both as JSON), and `totalChars`, their sum. A prompt's tokens and cost are divided by
//! these shares. This is an estimate: JSON has another ratio of characters to tokens than prose, an image counts by the
//! length of its encoding, and the cached part of a prompt, which is its beginning, is cheaper. No content is read.
//!
//! The prompt's cost is a share of the call's cost: the model's rates divide the cost between prompt and output. The
//! fixed part is the system prompt and the tools: every call pays for it.

use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

use super::daily::{Daily, Day, day_of};
use super::window::date_of;
use super::{Nano, robust};
use crate::domain::call::{Cost, CostSource, Usage};
use crate::pricing::price::{Tier, WRITE_1H_RATE};

/// Maximum plausible number of characters in a prompt.
const MOST_CHARS: f64 = 1e12;
/// Maximum number of agents with a bill of their own on a day.
const MAX_AGENTS: usize = 32;
/// Name of the bill of all further agents.
const OTHERS: &str = "other agents";
/// Maximum number of complete days from which a month is extrapolated: whole weeks.
const MOST_DAYS: u64 = 28;

/// Parts of a prompt, in the order of all arrays of this module.
pub const PARTS: [&str; 4] = ["system prompt", "tool definitions", "messages", "other"];

/// Characters of the parts of a prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PromptStats {
    /// Characters by [`PARTS`].
    pub chars: [u64; 4],
}

impl PromptStats {
    /// Reads `systemPromptChars`, `toolDefinitionsChars`, `inputMessagesChars` and `totalChars`; `None` if all are
    /// absent or zero, or one is implausible.
    pub fn of(told: [Option<f64>; 4]) -> Option<Self> {
        let is_possible = |chars: &f64| (0.0..=MOST_CHARS).contains(chars);
        if told.iter().flatten().any(|chars| !is_possible(chars)) {
            return None;
        }
        let [system, tools, messages, total] = told.map(|chars| chars.unwrap_or_default() as u64);
        let other = total.saturating_sub(system + tools + messages);
        let chars = [system, tools, messages, other];
        (chars.iter().sum::<u64>() > 0).then_some(Self { chars })
    }

    /// Characters of the fixed part.
    pub fn fixed(&self) -> u64 {
        let [system, tools, _, _] = self.chars;
        system + tools
    }

    /// Divides an amount by the shares of the parts. The results add up to the amount.
    pub fn divide(&self, amount: u64) -> [u64; 4] {
        let total: u128 = self.chars.iter().map(|chars| u128::from(*chars)).sum();
        let (mut until, mut given) = (0, 0);
        self.chars.map(|chars| {
            until += u128::from(chars);
            let sum = (u128::from(amount) * until).checked_div(total);
            // At most `amount`, so the cast is exact.
            let sum = sum.unwrap_or_default() as u64;
            let part = sum - given;
            given = sum;
            part
        })
    }
}

/// A call's prompt cost: the share of the call's cost that the model's rates assign to the prompt. `write_1h` is the
/// number of cache-write tokens that are kept for an hour. `None` if the cost or the rates are unknown.
pub fn prompt_usd(cost: Cost, usage: &Usage, write_1h: u64, rates: Option<&Tier>) -> Option<Nano> {
    match cost.source {
        CostSource::Unknown => return None,
        _ if cost.usd == 0.0 => return Some(Nano(0)),
        _ => {}
    }
    let [_, input, output, read, write] = *rates?;
    let write_1h = write_1h.min(usage.cache_write);
    let prompt = input * usage.input as f64
        + read * usage.cache_read as f64
        + write * (usage.cache_write - write_1h) as f64
        + WRITE_1H_RATE * input * write_1h as f64;
    let all = prompt + output * usage.output as f64;
    (all > 0.0).then(|| Nano::of_usd(cost.usd * prompt / all))
}

/// Sum of an agent's prompts.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Bill {
    /// The agent's name; empty for calls without an agent, or for the sum of all agents.
    pub agent: String,
    /// Calls with `promptStats`.
    pub calls: u64,
    /// Number of these calls whose prompt cost is unknown.
    pub unpriced: u64,
    /// Estimated tokens by [`PARTS`].
    pub tokens: [u64; 4],
    /// Estimated cost by [`PARTS`].
    pub usd: [Nano; 4],
}

impl Bill {
    fn add(&mut self, other: &Self) {
        self.calls = self.calls.saturating_add(other.calls);
        self.unpriced = self.unpriced.saturating_add(other.unpriced);
        for (sum, part) in self.tokens.iter_mut().zip(other.tokens) {
            *sum = sum.saturating_add(part);
        }
        for (sum, part) in self.usd.iter_mut().zip(other.usd) {
            *sum = sum.plus(part);
        }
    }

    /// Tokens of all parts.
    pub fn all_tokens(&self) -> u64 {
        self.tokens
            .iter()
            .fold(0, |sum, part| sum.saturating_add(*part))
    }

    /// Cost of the fixed part.
    pub fn fixed_usd(&self) -> Nano {
        let [system, tools, _, _] = self.usd;
        system.plus(tools)
    }

    /// Cost of all parts.
    pub fn all_usd(&self) -> Nano {
        self.usd.iter().fold(Nano(0), |sum, part| sum.plus(*part))
    }

    /// Mean tokens of the fixed part per call.
    pub fn fixed_tokens_a_call(&self) -> u64 {
        let [system, tools, _, _] = self.tokens;
        let sum = system.saturating_add(tools);
        sum.checked_div(self.calls).unwrap_or_default()
    }
}

/// Bills of agents by day.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct PromptBills(Daily<Vec<Bill>, 35>);

/// Cost of a month, extrapolated from complete days.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Month {
    /// Cost of the fixed part, in USD.
    pub fixed_usd: f64,
    /// Cost of the whole prompts, in USD.
    pub all_usd: f64,
    /// Number of complete days.
    pub from_days: usize,
}

impl PromptBills {
    /// Adds a call. `prompt_usd` is the result of [`prompt_usd`].
    pub fn add(
        &mut self,
        zone: &TimeZone,
        agent: Option<&str>,
        (usage, ended_ms): (&Usage, u64),
        stats: &PromptStats,
        prompt_usd: Option<Nano>,
    ) {
        let Some(bills) = self.0.at(day_of(zone, ended_ms)) else {
            return;
        };
        let usd = stats.divide(prompt_usd.unwrap_or_default().0);
        let call = Bill {
            agent: String::new(),
            calls: 1,
            unpriced: u64::from(prompt_usd.is_none()),
            tokens: stats.divide(usage.prompt()),
            usd: usd.map(Nano),
        };
        let agent = agent.unwrap_or_default();
        bill_of(bills, agent).add(&call);
    }

    /// Adds an agent's sum of a day, or a part of it.
    pub fn put(&mut self, day: Day, bill: &Bill) {
        if let Some(bills) = self.0.at(day) {
            add(bills, bill);
        }
    }

    /// Sum of all agents on a day.
    pub fn day(&self, day: Day) -> Bill {
        let mut sum = Bill::default();
        for bill in self.0.get(day).into_iter().flatten() {
            sum.add(bill);
        }
        sum
    }

    /// Extrapolated cost of the month that contains `now_ms`; `None` before the first complete day.
    pub fn month(&self, zone: &TimeZone, now_ms: u64) -> Option<Month> {
        let days = self.0.complete(day_of(zone, now_ms), MOST_DAYS);
        let bills: Vec<Bill> = days.map(|day| self.day(day)).collect();
        let length = f64::from(date_of(zone, now_ms).days_in_month());
        let of = |usd: fn(&Bill) -> Nano| {
            let days: Vec<f64> = bills.iter().map(|bill| usd(bill).usd()).collect();
            Some(robust::mean(&days)? * length)
        };
        Some(Month {
            fixed_usd: of(Bill::fixed_usd)?,
            all_usd: of(Bill::all_usd)?,
            from_days: bills.len(),
        })
    }
}

/// Adds to the bill of the same agent.
pub fn add(bills: &mut Vec<Bill>, bill: &Bill) {
    bill_of(bills, &bill.agent).add(bill);
}

/// The agent's bill; the bill of [`OTHERS`] if there are too many agents.
fn bill_of<'b>(bills: &'b mut Vec<Bill>, agent: &str) -> &'b mut Bill {
    let is_new = !bills.iter().any(|bill| bill.agent == agent);
    let agent = match is_new && bills.len() >= MAX_AGENTS {
        true => OTHERS,
        false => agent,
    };
    let place = bills.iter().position(|bill| bill.agent == agent);
    let place = place.unwrap_or_else(|| {
        bills.push(Bill {
            agent: agent.to_owned(),
            ..Bill::default()
        });
        bills.len() - 1
    });
    &mut bills[place]
}
