//! `/models/focus.csv`: costs in FOCUS 1.3, the FinOps Open Cost and Usage Specification, dataset Cost and Usage.
//!
//! A row is the sum of the calls of a charge period (a day or an hour of UTC) with equal model, agent, gateway, trigger
//! and source of cost. The columns are the mandatory ones of FOCUS 1.3; `ProviderName` and `PublisherName`, which 1.3
//! deprecates in favour of `ServiceProviderName` and `HostProviderName`, but requires until a later version removes them; the
//! others that the receiver knows; and own ones, with the prefix `x_`.

use super::address::{Address, stamp};
use super::csv::line;
use super::export::stream;
use crate::app::App;
use crate::clock::{self, DAY, HOUR, Micros};
use crate::error::ApiError;
use crate::store::periods::{self, Row};
use crate::store::query::Survey;
use crate::store::rollup::Count;
use crate::store::rows::Table;
use crate::store::series::Dimension;
use crate::store::window::{Range, Window};
use agentwatch_openclaw::delivery::prometheus::provider_of;
use axum::body::Body;
use serde_json::{Map, Value};
use std::sync::Arc;

/// Maximum number of rows in a download.
const ROWS_MAX: i64 = 1_000_000;
/// Number of rows that are read at once.
const AT_ONCE: usize = 500;
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

/// Length of a charge period, from the parameter `period`.
fn table(period: Option<&str>) -> Result<(Table, Micros), ApiError> {
    match period {
        None | Some("" | "day") => Ok((Table::Days, DAY)),
        Some("hour") => Ok((Table::Hours, HOUR)),
        Some(_) => Err(ApiError::Query {
            name: "period",
            message: "period has to be day or hour".into(),
        }),
    }
}

/// The charge periods that a window touches, whole: their sums are not divisible.
fn whole(window: Window, length: Micros) -> Range {
    let up = |at: Micros| at.saturating_add(length - 1).div_euclid(length) * length;
    Range {
        from: window.from.div_euclid(length) * length,
        to: window.to.map_or(Micros::MAX, up),
    }
}

/// The rows are written while they are read, so that a million of them take no memory.
///
/// # Errors
/// There are too many rows, an unknown period was asked for, or the store fails.
pub async fn download(app: App, address: Address, period: Option<&str>) -> Result<Body, ApiError> {
    let (table, length) = table(period)?;
    let range = whole(address.window(clock::now()), length);
    let place = Arc::clone(&app.pools.downloads).try_acquire_owned();
    let place = place.map_err(|_| ApiError::Overloaded)?;
    let address = Arc::new(address);
    let starts = app
        .blocking(move |app| {
            let count = |c: &_| periods::count(c, table, range, ROWS_MAX + 1);
            if app.store.read(count)? > ROWS_MAX {
                return Err(ApiError::Query {
                    name: "hours",
                    message: format!(
                        "more than {ROWS_MAX} rows: ask for fewer hours, or period=day"
                    ),
                });
            }
            Ok(app.store.read(|c| periods::starts(c, table, range))?)
        })
        .await?;
    Ok(stream(place, |sender| async move {
        let names = COLUMNS.map(Value::from);
        let mut text = line(&names);
        for start in starts {
            let mut after = Some(0);
            while let Some(last) = after {
                let address = Arc::clone(&address);
                let read = app.blocking(move |app| {
                    let (from, to) = (start, start.saturating_add(length));
                    let window = Window { from, to: Some(to) };
                    Ok(app.store.survey(|connection, catalog| {
                        let survey = Survey::new(connection, catalog, window, &address.filter)?;
                        periods::rows(&survey, table, start, last, AT_ONCE)
                    })?)
                });
                let (rows, next) = read.await.map_err(|error| error.log())?;
                after = next;
                for row in &rows {
                    text += &line(&cells(row, start, start.saturating_add(length)));
                }
                sender.send(std::mem::take(&mut text)).await?;
            }
        }
        sender.send(text).await
    }))
}

/// The months around an instant: the first of its month and of the next one.
fn month(at: Micros) -> (String, String) {
    let number = |format| clock::format(at, format).parse::<u32>().unwrap_or(1);
    let (year, month) = (number("%Y"), number("%m"));
    let next = if month == 12 {
        (year + 1, 1)
    } else {
        (year, month + 1)
    };
    let first = |(year, month): (u32, u32)| format!("{year:04}-{month:02}-01T00:00:00Z");
    (first((year, month)), first(next))
}

/// A sum without the noise of floating point, and without an exponent.
fn decimal(usd: f64) -> Value {
    let text = format!("{usd:.12}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    // Only stock mode has negative costs, which as text would be a formula to a spreadsheet.
    if usd < 0.0 { usd.into() } else { text.into() }
}

fn cells(row: &Row, start: Micros, end: Micros) -> Vec<Value> {
    let of = |dimension: Dimension| row.values[dimension as usize].as_str();
    let or_unknown = |name: &str| if name.is_empty() { UNKNOWN } else { name }.to_owned();
    let model = of(Dimension::Model);
    let provider = or_unknown(provider_of(model));
    let account = or_unknown(of(Dimension::Gateway));
    let tags = Dimension::ALL
        .into_iter()
        .filter(|dimension| *dimension != Dimension::Model && !of(*dimension).is_empty())
        .map(|dimension| (dimension.name().to_owned(), of(dimension).into()));
    let tags = Value::from(tags.collect::<Map<_, _>>()).to_string();
    let count = |count| row.sums.of(count);
    let calls = count(Count::Calls);
    // Quantities are decimals: readers that guess a column's type would take whole ones for integers.
    let tokens = || Value::from(row.sums.tokens() as f64);
    let (first, next) = month(start);
    let calls_of = if calls == 1 { "call" } else { "calls" };
    let cost = || decimal(row.sums.cost_usd);
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
        format!("{calls} {calls_of} of {}", or_unknown(model)).into(),
        text("Usage-Based"),
        stamp(end).into(),
        stamp(start).into(),
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
        or_unknown(model).into(),
        text(&provider),
        text("Generative AI"),
        tags.into(),
        count(Count::CacheRead).into(),
        count(Count::CacheWrite).into(),
        count(Count::Prompt).into(),
        or_unknown(model).into(),
        count(Count::Completion).into(),
        count(Count::Reasoning).into(),
        calls.into(),
        count(Count::UnknownCost).into(),
    ];
    cells.to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_month_ends_with_the_next_one() {
        let at = |text| month(clock::parse_iso(text).unwrap_or_default());
        let of =
            |first: &str, next: &str| (format!("{first}T00:00:00Z"), format!("{next}T00:00:00Z"));
        assert_eq!(at("2026-12-31T23:00:00Z"), of("2026-12-01", "2027-01-01"));
        assert_eq!(at("2024-02-29"), of("2024-02-01", "2024-03-01"));
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

    #[test]
    fn a_window_becomes_whole_periods() {
        let of = |from, to| {
            let range = whole(Window { from, to }, HOUR);
            (range.from, range.to)
        };
        assert_eq!(of(1, Some(HOUR + 1)), (0, 2 * HOUR));
        assert_eq!(of(HOUR, Some(2 * HOUR)), (HOUR, 2 * HOUR));
        assert_eq!(of(HOUR, None), (HOUR, Micros::MAX));
    }
}
