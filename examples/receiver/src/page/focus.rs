//! `/models/focus.csv`: costs in FOCUS 1.3, the FinOps Open Cost and Usage Specification, dataset Cost and Usage.
//!
//! A row is the sum of the calls of a charge period (a day or an hour of UTC) with equal values of all [`Dimension`]s;
//! [`agentwatch_openclaw::report::focus`] writes it.

use super::address::Address;
use super::export::stream;
use crate::app::App;
use crate::client::Client;
use crate::clock::{self, DAY, HOUR, Micros};
use crate::error::ApiError;
use crate::store::periods::{self, Row};
use crate::store::query::Survey;
use crate::store::rollup::Count;
use crate::store::rows::Table;
use crate::store::series::Dimension;
use crate::store::window::{Range, Window};
use agentwatch_openclaw::report::focus::{self, Charge};
use axum::body::Body;
use std::sync::Arc;

/// Maximum number of rows in a download.
const ROWS_MAX: usize = 1_000_000;
/// Number of rows that are read at once.
const AT_ONCE: usize = 500;
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
pub async fn download(
    app: App,
    client: Client,
    address: Address,
    period: Option<&str>,
) -> Result<Body, ApiError> {
    let (table, length) = table(period)?;
    let range = whole(address.window(clock::now()), length);
    let place = app.pools.downloads.take(client);
    let place = place.ok_or(ApiError::Overloaded)?;
    let address = Arc::new(address);
    let filter = address.filter.clone();
    let starts = app
        .blocking(move |app| {
            let window = Window {
                from: range.from,
                to: Some(range.to),
            };
            let count = app.store.survey(|connection, catalog| {
                let survey = Survey::new(connection, catalog, window, &filter)?;
                periods::count(&survey, table, range, ROWS_MAX + 1)
            })?;
            if count > ROWS_MAX {
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
        let mut text = focus::head() + "\r\n";
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
                    text += &charge(row, start, start.saturating_add(length));
                    text += "\r\n";
                }
                sender.send(std::mem::take(&mut text)).await?;
            }
        }
        sender.send(text).await
    }))
}

fn charge(row: &Row, start: Micros, end: Micros) -> String {
    let of = |dimension: Dimension| row.values[dimension as usize].as_str();
    let dimensions = Dimension::ALL.into_iter();
    let tags = dimensions.filter(|dimension| *dimension != Dimension::Model);
    let count = |count| row.sums.of(count);
    focus::row(&Charge {
        start_ms: start.div_euclid(1_000),
        end_ms: end.div_euclid(1_000),
        account: of(Dimension::Gateway),
        model: of(Dimension::Model),
        tags: tags.map(|tag| (tag.name(), of(tag))).collect(),
        calls: count(Count::Calls),
        unpriced: count(Count::UnknownCost),
        prompt: count(Count::Prompt),
        output: count(Count::Completion),
        cache_read: count(Count::CacheRead),
        cache_write: count(Count::CacheWrite),
        reasoning: Some(count(Count::Reasoning)),
        usd: row.sums.cost_usd,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

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
