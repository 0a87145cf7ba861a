//! Figures beside the rows: the month's forecast, the fixed part of prompts, and the cache.

use jiff::tz::TimeZone;
use serde::Serialize;

use crate::spending::Nano;
use crate::spending::daily::day_of;
use crate::spending::forecast::{self, Days, Forecast};
use crate::spending::history::Sums;
use crate::spending::prompt_bill::{self, Bill, Month, PromptBills};

/// Sums of the days that a forecast needs, and of the report's own calls.
#[derive(Debug, Default)]
pub struct Facts {
    days: Days,
    bills: PromptBills,
    /// The report's prompts by agent.
    own_bills: Vec<Bill>,
    own: Sums,
}

/// The figures. USD.
#[derive(Debug, Clone, Serialize)]
pub struct Money {
    /// `None` before the first complete day.
    pub forecast: Option<Forecast>,
    /// `None` without a call whose prompt is divided.
    pub prompt: Option<Prompt>,
    /// `None` without a cached token.
    pub cache: Option<Cache>,
}

/// What the system prompt and the tool definitions cost: estimates.
#[derive(Debug, Clone, Serialize)]
pub struct Prompt {
    /// Calls whose prompt is divided.
    pub calls: u64,
    /// Cost of the fixed part since the report's begin.
    pub fixed_usd: f64,
    /// Cost of these prompts.
    pub all_usd: f64,
    /// Cost of a month, from complete days.
    pub month: Option<Month>,
    /// Mean cost of the fixed part on a complete day.
    pub day_usd: Option<f64>,
    /// The agent with the most fixed tokens a call; empty for calls without an agent.
    pub heaviest_agent: String,
    /// Its fixed tokens a call.
    pub heaviest_tokens_a_call: u64,
}

/// The cache since the report's begin.
#[derive(Debug, Clone, Serialize)]
pub struct Cache {
    /// Share of prompt tokens that were read from the cache.
    pub read_share: f64,
    /// USD saved by reads; `None` where the source has no prices.
    pub saved_usd: Option<f64>,
    /// USD paid for writes, above the input rate; `None` where the source has no prices.
    pub extra_usd: Option<f64>,
}

impl Facts {
    /// Adds sums of a day, or a call, to those of the days.
    pub fn add(&mut self, zone: &TimeZone, at_ms: u64, agent: &str, sums: &Sums) {
        forecast::add(&mut self.days, zone, at_ms, sums.usd);
        if let Some(bill) = bill(agent, sums) {
            self.bills.put(day_of(zone, at_ms), &bill);
        }
    }

    /// Adds what is in the report's rows.
    pub fn count(&mut self, agent: &str, sums: &Sums) {
        self.own.add(sums);
        if let Some(bill) = bill(agent, sums) {
            prompt_bill::add(&mut self.own_bills, &bill);
        }
    }

    /// The figures at a time.
    pub fn money(&self, zone: &TimeZone, now_ms: u64) -> Money {
        let sums = &self.own;
        let has_prices = sums.saved > Nano(0) || sums.extra > Nano(0);
        Money {
            forecast: forecast::forecast(&self.days, zone, now_ms),
            prompt: self.prompt(zone, now_ms),
            cache: (sums.cache_read + sums.cache_write > 0).then(|| Cache {
                read_share: sums.cache_read as f64 / sums.prompt.max(1) as f64,
                saved_usd: has_prices.then(|| sums.saved.usd()),
                extra_usd: has_prices.then(|| sums.extra.usd()),
            }),
        }
    }

    fn prompt(&self, zone: &TimeZone, now_ms: u64) -> Option<Prompt> {
        let agents = &self.own_bills;
        let heaviest = agents.iter().max_by(|a, b| {
            let tokens = a.fixed_tokens_a_call().cmp(&b.fixed_tokens_a_call());
            tokens.then_with(|| b.agent.cmp(&a.agent))
        })?;
        let usd = |of: fn(&Bill) -> Nano| agents.iter().map(of).sum::<Nano>().usd();
        let month = self.bills.month(zone, now_ms);
        let date = crate::spending::window::date_of(zone, now_ms);
        Some(Prompt {
            calls: agents.iter().map(|bill| bill.calls).sum(),
            fixed_usd: usd(Bill::fixed_usd),
            all_usd: usd(Bill::all_usd),
            day_usd: month.map(|month| month.fixed_usd / f64::from(date.days_in_month())),
            month,
            heaviest_tokens_a_call: heaviest.fixed_tokens_a_call(),
            heaviest_agent: heaviest.agent.clone(),
        })
    }
}

/// The bill of divided prompts; `None` without one.
fn bill(agent: &str, sums: &Sums) -> Option<Bill> {
    (sums.divided > 0).then(|| Bill {
        agent: agent.to_owned(),
        calls: sums.divided,
        unpriced: sums.divided_unpriced,
        tokens: sums.part_tokens,
        usd: sums.part_usd,
    })
}
