//! Costs in FOCUS 1.3, the FinOps Open Cost and Usage Specification, dataset Cost and Usage: of the command `report` and of
//! the receiver.
//!
//! A row is the sum of the calls of a charge period (a day or an hour of UTC) with equal names and source of cost. The
//! columns are the mandatory ones of FOCUS 1.3; `ProviderName` and `PublisherName`, which 1.3 deprecates in favour of
//! `ServiceProviderName` and `HostProviderName`, but requires until a later version removes them; the others that are
//! known; and own ones, with the prefix `x_`.

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};
use serde_json::{Map, Value};

use super::csv::line;
use crate::delivery::prometheus::provider_of;

/// Stands for a name that no record has, in columns that may not be empty.
const UNKNOWN: &str = "unknown";

/// The columns, in alphabetical order, as the specification has them.
const COLUMNS: [&str; 37] = [
    "BilledCost",
    "BillingAccountId",
    "BillingAccountName",
    "BillingCurrency",
    "BillingPeriodEnd",
    "BillingPeriodStart",
    "ChargeCategory",
    "ChargeClass",
    "ChargeDescription",
    "ChargeFrequency",
    "ChargePeriodEnd",
    "ChargePeriodStart",
    "ConsumedQuantity",
    "ConsumedUnit",
    "ContractedCost",
    "EffectiveCost",
    "HostProviderName",
    "InvoiceId",
    "InvoiceIssuerName",
    "ListCost",
    "PricingQuantity",
    "PricingUnit",
    "ProviderName",
    "PublisherName",
    "ServiceCategory",
    "ServiceName",
    "ServiceProviderName",
    "ServiceSubcategory",
    "Tags",
    "x_CacheReadTokens",
    "x_CacheWriteTokens",
    "x_InputTokens",
    "x_Model",
    "x_OutputTokens",
    "x_ReasoningTokens",
    "x_Requests",
    "x_UnpricedRequests",
];

/// A row. Times in ms since 1970; tokens of the prompt include cached ones.
#[derive(Debug, Clone, PartialEq)]
pub struct Charge<'a> {
    /// Begin of the charge period.
    pub start_ms: i64,
    /// Its end.
    pub end_ms: i64,
    /// The gateway.
    pub account: &'a str,
    /// `provider/model`.
    pub model: &'a str,
    /// Further names: agent, channel and the like. Empty ones are left out.
    pub tags: Vec<(&'static str, &'a str)>,
    /// Calls.
    pub calls: i64,
    /// Calls of unknown cost.
    pub unpriced: i64,
    /// Tokens of prompts.
    pub prompt: i64,
    /// Tokens of answers, reasoning included.
    pub output: i64,
    /// Tokens read from the cache.
    pub cache_read: i64,
    /// Tokens written to the cache.
    pub cache_write: i64,
    /// Tokens of reasoning; `None` where they are not kept.
    pub reasoning: Option<i64>,
    /// Cost in USD.
    pub usd: f64,
}

/// The line of names.
pub fn head() -> String {
    line(&COLUMNS.map(Value::from))
}

fn time(ms: i64) -> Timestamp {
    Timestamp::from_millisecond(ms).unwrap_or_default()
}

/// The months around a time: the first of its month and of the next one.
fn month(ms: i64) -> (String, String) {
    let first = TimeZone::UTC.to_datetime(time(ms)).date().first_of_month();
    let next = first.checked_add(1.month()).unwrap_or(first);
    let text = |date: Date| format!("{date}T00:00:00Z");
    (text(first), text(next))
}

/// A sum without the noise of floating point, and without an exponent.
fn decimal(usd: f64) -> Value {
    let text = format!("{usd:.12}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    // Only stock mode has negative costs, which as text would be a formula to a spreadsheet.
    if usd < 0.0 { usd.into() } else { text.into() }
}

/// A row's line.
pub fn row(charge: &Charge) -> String {
    let or_unknown = |name: &str| if name.is_empty() { UNKNOWN } else { name }.to_owned();
    let model = or_unknown(charge.model);
    let provider = or_unknown(provider_of(charge.model));
    let account = or_unknown(charge.account);
    let tags = charge.tags.iter().filter(|(_, name)| !name.is_empty());
    let tags = tags.map(|(tag, name)| ((*tag).to_owned(), (*name).into()));
    let tags = Value::from(tags.collect::<Map<_, _>>()).to_string();
    let calls = charge.calls;
    // Quantities are decimals: readers that guess a column's type would take whole ones for integers.
    let tokens = || Value::from(charge.prompt.saturating_add(charge.output) as f64);
    let (first, next) = month(charge.start_ms);
    let calls_of = if calls == 1 { "call" } else { "calls" };
    let cost = || decimal(charge.usd);
    let text = |text: &str| Value::from(text);
    let cells: [Value; COLUMNS.len()] = [
        cost(),
        text(&account),
        text(&account),
        text("USD"),
        next.into(),
        first.into(),
        text("Usage"),
        Value::Null,
        format!("{calls} {calls_of} of {model}").into(),
        text("Usage-Based"),
        time(charge.end_ms).to_string().into(),
        time(charge.start_ms).to_string().into(),
        tokens(),
        text("Tokens"),
        cost(),
        cost(),
        // Who runs the provider's machines is not known.
        Value::Null,
        // Nor is the invoice.
        Value::Null,
        text(&provider),
        cost(),
        tokens(),
        text("Tokens"),
        text(&provider),
        text(&provider),
        text("AI and Machine Learning"),
        text(&model),
        text(&provider),
        text("Generative AI"),
        tags.into(),
        charge.cache_read.into(),
        charge.cache_write.into(),
        charge.prompt.into(),
        text(&model),
        charge.output.into(),
        charge.reasoning.into(),
        calls.into(),
        charge.unpriced.into(),
    ];
    line(&cells)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_month_ends_with_the_next_one() {
        for (at, first, next) in [
            ("2026-12-31T23:00:00Z", "2026-12-01", "2027-01-01"),
            ("2024-02-29T00:00:00Z", "2024-02-01", "2024-03-01"),
        ] {
            let at: Timestamp = at.parse().unwrap_or_default();
            let of = |date: &str| format!("{date}T00:00:00Z");
            assert_eq!(month(at.as_millisecond()), (of(first), of(next)));
        }
    }

    #[test]
    fn costs_have_no_exponent_and_no_noise() {
        for (usd, written) in [
            (0.1 + 0.2, "0.3"),
            (1e-9, "0.000000001"),
            (0.0, "0"),
            (1500.0, "1500"),
        ] {
            assert_eq!(decimal(usd), Value::from(written));
        }
    }
}
