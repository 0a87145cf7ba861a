//! `GET /metrics`: the counters in Prometheus' text format.

use crate::app::App;
use crate::clock;
use crate::error::ApiError;
use crate::store::read;
use agentwatch_openclaw::delivery::prometheus::{self, TYPE, Text};
use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;

/// The counters since the start, and the time of the last call.
///
/// # Errors
/// The store fails, or too many reads are waiting.
pub async fn scrape(State(app): State<App>) -> Result<impl IntoResponse, ApiError> {
    let text = app
        .blocking(|app| {
            let last = app.store.read(|c| read::last_call(c, clock::now()))?;
            let mut text = Text::default();
            prometheus::calls(&mut text, &app.store.counters());
            prometheus::last_call(&mut text, last.map(|last| last as f64 / 1e6));
            let help = "Requests that the store could not take; their senders send them again.";
            let failed = app.store.failed_writes();
            text.samples(
                "agentwatch_receiver_failed_writes_total",
                help,
                [(vec![], failed)],
            );
            let version = vec![("version", env!("CARGO_PKG_VERSION"))];
            let help = "The receiver's version.";
            text.samples("agentwatch_receiver_info", help, [(version, 1)]);
            Ok(text.0)
        })
        .await?;
    Ok(([(header::CONTENT_TYPE, TYPE)], text))
}
