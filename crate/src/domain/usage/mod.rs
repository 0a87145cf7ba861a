//! Reads usage from all sources: messages, diagnostics, stored rows, providers' answers, LiteLLM's log and named
//! events.
//!
//! `rules.rs` is the table of names, `reading.rs` applies it, `settle.rs` decides what the numbers mean together,
//! `bill.rs` reads what is billed beside tokens at their usual price.

mod bill;
mod reading;
mod rules;
mod settle;

pub use self::bill::{Bill, Part};
pub(crate) use self::reading::pairs;
pub use self::reading::{MAX_PARTS, MAX_VALUES, Reading, Tier, count_of};
pub(crate) use self::rules::names_of;
pub use self::rules::{COUNTS, Count, Figure, Meaning, NAMES, RULES, Remark, Rule};
pub use self::settle::Tokens;

use crate::domain::call::Usage;
use crate::formats::json;
use crate::sources::facts::Scalar;

/// The usage of one call.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Used {
    /// Tokens; `None` where absent or all zero.
    pub tokens: Option<Tokens>,
    /// The cost in the usage object, in USD, zeros included.
    pub cost_usd: Option<f64>,
    /// Whether the cost is the provider's figure, not one that OpenClaw computed.
    pub is_billed: bool,
    /// Whether OpenClaw says that the provider billed this cost, even if it is zero.
    pub is_confirmed: bool,
    /// What is billed beside tokens at their usual price; `None` where nothing is.
    pub bill: Option<Box<Bill>>,
    /// Whether any count was unreadable.
    pub is_broken: bool,
    /// Whether any count was reported, even as zero.
    pub is_reported: bool,
}

impl Used {
    /// Evaluates a reading.
    pub fn of(reading: &Reading) -> Self {
        let (tokens, parts) = reading.all_tokens();
        // OpenClaw computes its cost from the names alone. Where the total shows another meaning, that cost belongs to
        // other token counts.
        let is_off =
            tokens.is_some_and(|tokens| tokens.is_by_total) && !reading.is_billed_by_provider;
        let cost = reading
            .cost()
            .filter(|(_, is_billed)| *is_billed || !is_off);
        let (cost_usd, is_billed) = cost.unzip();
        Self {
            tokens,
            cost_usd,
            is_billed: is_billed.unwrap_or_default(),
            is_confirmed: reading.is_billed_by_provider,
            bill: reading.bill(tokens.as_ref(), parts),
            is_broken: reading.is_broken,
            is_reported: reading.has_any_count(),
        }
    }

    /// Evaluates a fact of a field `usage:…`.
    pub fn of_fact(pairs: &Scalar) -> Self {
        Self::of(&Reading::of_pairs(pairs))
    }

    /// The bill without `is_billed`, for sources whose cost has a fixed origin.
    pub fn bill_of_tokens(&self) -> Option<Box<Bill>> {
        let bill = Bill {
            is_billed: false,
            ..*self.bill.clone()?
        };
        (bill != Bill::default()).then(|| Box::new(bill))
    }

    /// The tokens.
    pub fn usage(&self) -> Option<Usage> {
        self.tokens.map(|tokens| tokens.usage)
    }

    /// Input, output, cache reads, cache writes and reasoning, each `None` unless it was reported or follows from the
    /// total.
    pub fn counts(&self) -> [Option<u64>; 5] {
        let Some(Tokens {
            usage, reported, ..
        }) = self.tokens
        else {
            return [None; 5];
        };
        let counts = [
            usage.input,
            usage.output,
            usage.cache_read,
            usage.cache_write,
            usage.reasoning,
        ];
        std::array::from_fn(|index| Some(counts[index]).filter(|_| reported[index]))
    }

    /// The cost in USD, OpenClaw's or the provider's. OpenClaw's zero means "no prices configured" and is dropped,
    /// unless OpenClaw says that the provider billed it.
    pub fn figure(&self) -> Option<f64> {
        self.cost_usd.filter(|usd| *usd > 0.0 || self.is_confirmed)
    }
}

/// The fact that a usage object in JSON becomes, as `Pack.usage` of the shim makes it. `Absent` for other values.
pub fn fact_of(json: &str) -> Scalar {
    let fact = json::read(json.as_bytes(), |usage| {
        usage.is_object().then(|| Scalar::List(pairs(usage)))
    });
    fact.flatten().unwrap_or_default()
}
