//! What fills the prompts, and what that costs: an estimate.
//!
//! `promptStats` of `model.call.completed` (from 2026.7) counts characters: `systemPromptChars`, `toolDefinitionsChars`
//! and `inputMessagesChars` (both as JSON), and `totalChars`, their sum. A call's prompt is divided by these shares, its
//! tokens and its cost alike. That is an estimate: characters of JSON make other numbers of tokens than prose does, an
//! image counts by the length of its encoding, and of a prompt that the cache holds in part the first part is cheaper.
//! No content is read.
//!
//! The prompt's cost is the call's cost in the proportion in which the model's rates divide it between prompt and answer.
//! The fixed part is the system prompt and the tools: it is paid with every call, whatever is asked.

use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

use super::daily::{Daily, Day, day_of};
use super::window::date_of;
use super::{Nano, robust};
use crate::domain::call::{Cost, CostSource, Usage};
use crate::pricing::price::{Tier, WRITE_1H_RATE};

/// More characters than this are none of a prompt.
const MOST_CHARS: f64 = 1e12;
/// The most agents that are told apart on a day.
const MAX_AGENTS: usize = 32;
/// The name of all others.
const OTHERS: &str = "other agents";
/// Of how many complete days a month is extrapolated, at most: whole weeks.
const MOST_DAYS: u64 = 28;

/// The parts of a prompt, in the order of the arrays here.
pub const PARTS: [&str; 4] = ["system prompt", "tool definitions", "messages", "other"];

/// Characters of a prompt's parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PromptStats {
    /// Of each of [`PARTS`].
    pub chars: [u64; 4],
}

impl PromptStats {
    /// Of `systemPromptChars`, `toolDefinitionsChars`, `inputMessagesChars` and `totalChars` as they came; `None` where
    /// nothing is told, or what is told cannot be.
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

    /// An amount, divided by the parts' shares; its parts add up to it.
    pub fn divide(&self, amount: u64) -> [u64; 4] {
        let total: u128 = self.chars.iter().map(|chars| u128::from(*chars)).sum();
        let (mut until, mut given) = (0, 0);
        self.chars.map(|chars| {
            until += u128::from(chars);
            let sum = (u128::from(amount) * until).checked_div(total);
            // No more than the amount.
            let sum = sum.unwrap_or_default() as u64;
            let part = sum - given;
            given = sum;
            part
        })
    }
}

/// What a call's prompt cost: of its cost the part that the model's rates have for the prompt. `None` where the cost or
/// the rates are not known.
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

/// What an agent's prompts cost.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Bill {
    /// The agent's name; empty where none was told, or for all agents.
    pub agent: String,
    /// Calls with `promptStats`.
    pub calls: u64,
    /// Those of them whose prompt has no known cost.
    pub unpriced: u64,
    /// Tokens by [`PARTS`], estimated.
    pub tokens: [u64; 4],
    /// Money by [`PARTS`], estimated.
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

    /// Tokens of the whole prompts.
    pub fn all_tokens(&self) -> u64 {
        self.tokens
            .iter()
            .fold(0, |sum, part| sum.saturating_add(*part))
    }

    /// What the fixed part cost.
    pub fn fixed_usd(&self) -> Nano {
        let [system, tools, _, _] = self.usd;
        system.plus(tools)
    }

    /// What the whole prompts cost.
    pub fn all_usd(&self) -> Nano {
        self.usd.iter().fold(Nano(0), |sum, part| sum.plus(*part))
    }

    /// Tokens of the fixed part, for each call.
    pub fn fixed_tokens_a_call(&self) -> u64 {
        let [system, tools, _, _] = self.tokens;
        let sum = system.saturating_add(tools);
        sum.checked_div(self.calls).unwrap_or_default()
    }
}

/// Bills of agents, by day.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct PromptBills(Daily<Vec<Bill>, 35>);

/// What a month would cost, extrapolated from the complete days.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Month {
    /// The fixed part, in USD.
    pub fixed_usd: f64,
    /// The whole prompts, in USD.
    pub all_usd: f64,
    /// From how many complete days.
    pub from_days: usize,
}

impl PromptBills {
    /// Counts a call. `prompt_usd` as [`prompt_usd`] has it.
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

    /// The sum over all agents of a day.
    pub fn day(&self, day: Day) -> Bill {
        let mut sum = Bill::default();
        for bill in self.0.get(day).into_iter().flatten() {
            sum.add(bill);
        }
        sum
    }

    /// Each agent's sum over the days from `since` on, the dearest fixed part first.
    pub fn agents(&self, since: Day) -> Vec<Bill> {
        let mut sums: Vec<Bill> = Vec::new();
        for (_, bills) in self.0.days().filter(|(day, _)| *day >= since) {
            for bill in bills {
                bill_of(&mut sums, &bill.agent).add(bill);
            }
        }
        sums.sort_by(|a, b| {
            b.fixed_usd()
                .cmp(&a.fixed_usd())
                .then(a.agent.cmp(&b.agent))
        });
        sums
    }

    /// The agent with the most tokens in the fixed part of each call, over the days from `since` on.
    pub fn heaviest(&self, since: Day) -> Option<Bill> {
        let agents = self.agents(since).into_iter();
        agents.max_by_key(Bill::fixed_tokens_a_call)
    }

    /// What the month of `now_ms` would cost; `None` before the first complete day.
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

/// The agent's bill, or that of all others where there are too many.
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
