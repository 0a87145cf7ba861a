//! Downloads of the page's content: CSV for spreadsheets, JSON for programs. The query is the page's.

use super::address::Address;
use super::csv::line;
use super::focus;
use super::groups;
use crate::app::App;
use crate::client::Client;
use crate::clock;
use crate::downloads::Download;
use crate::error::ApiError;
use crate::store::calls::{self, FIELDS};
use crate::store::query::Survey;
use crate::store::rollup::Count;
use crate::store::stats::{self, ModelStats, Percentiles};
use axum::body::{Body, Bytes};
use axum::extract::{Extension, Path, Query, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use jiff::tz::TimeZone;
use serde_json::{Map, Value, json};
use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;

/// Maximum number of calls in a download, the latest ones.
const CALLS_MAX: usize = 1_000_000;
/// Number of calls that are read at once.
const AT_ONCE: usize = 500;
/// Maximum pause of a download's client.
const PATIENCE: Duration = Duration::from_secs(60);

/// Format of a download.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Format {
    Csv,
    Json,
}

impl Format {
    fn of(name: &str) -> Option<Self> {
        match name {
            "csv" => Some(Self::Csv),
            "json" => Some(Self::Json),
            _ => None,
        }
    }

    fn answer(self, name: &str, body: Body) -> Response {
        let (kind, end) = match self {
            Self::Csv => ("text/csv; charset=utf-8", "csv"),
            Self::Json => ("application/json", "json"),
        };
        let disposition = format!("attachment; filename=\"{name}.{end}\"");
        (
            [
                (header::CONTENT_TYPE, kind.to_owned()),
                (header::CONTENT_DISPOSITION, disposition),
            ],
            body,
        )
            .into_response()
    }
}

/// `GET /models/{stats|calls|sessions|prompt-bill|by-channel|…}.{csv|json}` and `focus.csv`, with the page's query.
///
/// # Errors
/// There is no such download, a parameter of the range is unusable, or the store fails.
pub async fn download(
    State(app): State<App>,
    Extension(client): Extension<Client>,
    Path(file): Path<String>,
    Query(query): Query<HashMap<String, String>>,
) -> Result<Response, ApiError> {
    let (name, end) = file.split_once('.').ok_or(ApiError::NotFound)?;
    let format = Format::of(end).ok_or(ApiError::NotFound)?;
    let address = Address::strictly_of(&query, TimeZone::UTC)?;
    match name {
        "stats" => models(app, address, format).await,
        "calls" => single(app, client, address, format).await,
        "focus" if format == Format::Csv => {
            let period = query.get("period").map(String::as_str);
            let body = focus::download(app, client, address, period).await?;
            Ok(format.answer("focus", body))
        }
        name => {
            let rows = groups::rows_of(app, name, address).await?;
            let text = match format {
                Format::Csv => groups::csv(&rows),
                Format::Json => groups::objects(rows).to_string(),
            };
            Ok(format.answer(name, Body::from(text)))
        }
    }
}

async fn models(app: App, address: Address, format: Format) -> Result<Response, ApiError> {
    let models = app
        .blocking(move |app| {
            let window = address.window(clock::now());
            Ok(app.store.survey(|connection, catalog| {
                let survey = Survey::new(connection, catalog, window, &address.filter)?;
                stats::model_stats(&survey, Percentiles::Bounded)
            })?)
        })
        .await?
        .0;
    let rows: Vec<Map<String, Value>> = models.iter().map(fields).collect();
    let text = match format {
        Format::Json => {
            Value::from(rows.into_iter().map(Value::Object).collect::<Vec<_>>()).to_string()
        }
        Format::Csv => {
            let names: Vec<&str> = COLUMNS.to_vec();
            rows.iter().fold(
                line(&names.iter().map(|name| json!(name)).collect::<Vec<_>>()),
                |text, row| {
                    text + &line(
                        &names
                            .iter()
                            .map(|name| row[*name].clone())
                            .collect::<Vec<_>>(),
                    )
                },
            )
        }
    };
    Ok(format.answer("models", Body::from(text)))
}

/// The columns of a download of models, in their order.
const COLUMNS: [&str; 18] = [
    "model",
    "requests",
    "prompt_tokens",
    "completion_tokens",
    "total_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "cache_told_prompt_tokens",
    "reasoning_tokens",
    "total_cost_usd",
    "unknown_cost_requests",
    "avg_latency_ms",
    "p50_latency_ms",
    "p95_latency_ms",
    "percentile_error",
    "failed_requests",
    "aborted_requests",
    "missing_usage_requests",
];

fn fields(model: &ModelStats) -> Map<String, Value> {
    let of = |count| Value::from(model.sums.of(count));
    let values = [
        model.model.as_str().into(),
        of(Count::Calls),
        of(Count::Prompt),
        of(Count::Completion),
        model.sums.tokens().into(),
        of(Count::CacheRead),
        of(Count::CacheWrite),
        of(Count::CacheTold),
        of(Count::Reasoning),
        model.cost_usd.into(),
        of(Count::UnknownCost),
        model.avg_latency_ms.into(),
        model.p50_latency_ms.into(),
        model.p95_latency_ms.into(),
        model.percentile_error.into(),
        of(Count::Failed),
        of(Count::Aborted),
        of(Count::MissingUsage),
    ];
    COLUMNS
        .iter()
        .map(|name| (*name).to_owned())
        .zip(values)
        .collect()
}

/// Single calls are written while they are read, so that a million of them take no memory.
async fn single(
    app: App,
    client: Client,
    address: Address,
    format: Format,
) -> Result<Response, ApiError> {
    let place = app.pools.downloads.take(client);
    let place = place.ok_or(ApiError::Overloaded)?;
    let seqs = app
        .blocking(move |app| {
            let window = address.window(clock::now());
            Ok(app.store.survey(|connection, catalog| {
                let survey = Survey::new(connection, catalog, window, &address.filter)?;
                calls::latest(
                    &survey,
                    address.failed,
                    address.session.as_deref(),
                    CALLS_MAX,
                )
            })?)
        })
        .await?;
    let body = stream(place, |sender| async move {
        let mut text = match format {
            Format::Csv => line(&FIELDS.map(Value::from)),
            Format::Json => "[".into(),
        };
        let mut is_first = true;
        for some in seqs.chunks(AT_ONCE) {
            let some = some.to_vec();
            let read = app
                .blocking(move |app| Ok(app.store.read(|c| calls::rows(c, &some))?))
                .await;
            for call in read.map_err(|error| error.log())? {
                match format {
                    Format::Csv => text += &line(&FIELDS.map(|field| call[field].clone())),
                    Format::Json => {
                        text += if is_first { "\n" } else { ",\n" };
                        text += &call.to_string();
                    }
                }
                is_first = false;
            }
            sender.send(std::mem::take(&mut text)).await?;
        }
        if format == Format::Json {
            text += "\n]\n";
        }
        sender.send(text).await
    });
    Ok(format.answer("calls", body))
}

/// Where a download writes its text.
pub struct Sender {
    parts: mpsc::Sender<io::Result<Bytes>>,
    place: Arc<Download>,
}

impl Sender {
    /// Sends a part.
    ///
    /// # Errors
    /// The client is gone, or does not read.
    pub async fn send(&self, text: String) -> Result<(), ()> {
        let sent = self.parts.send_timeout(Ok(text.into()), PATIENCE);
        self.place.waiting(sent).await.map_err(|_| ())
    }
}

/// A body that `write` writes while the client reads it. After an error the connection is closed, so that the file does not
/// look complete.
pub fn stream<F>(place: Download, write: impl FnOnce(Sender) -> F) -> Body
where
    F: Future<Output = Result<(), ()>> + Send + 'static,
{
    let (sender, receiver) = mpsc::channel(2);
    let place = Arc::new(place);
    let written = write(Sender {
        parts: sender.clone(),
        place: Arc::clone(&place),
    });
    let is_whole = Arc::new(AtomicBool::new(false));
    let is_written = Arc::clone(&is_whole);
    tokio::spawn(async move {
        let written = tokio::select! {
            written = written => written,
            () = place.replaced() => Err(()),
        };
        is_written.store(written.is_ok(), Ordering::SeqCst);
        // The body ends when all senders are gone.
        drop(sender);
    });
    let end = std::iter::from_fn(move || {
        let error = "the store does not answer, or the client is slow";
        (!is_whole.swap(true, Ordering::SeqCst)).then(|| Err(io::Error::other(error)))
    });
    Body::from_stream(ReceiverStream::new(receiver).chain(tokio_stream::iter(end)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;
    use crate::downloads::Downloads;

    #[tokio::test(start_paused = true)]
    async fn a_client_that_does_not_read_loses_its_download_to_another() {
        let downloads = Downloads::new(2);
        let client = Client::Session(1);
        let long = || {
            let place = downloads.take(client)?;
            Some(stream(place, |sender| async move {
                for _ in 0..1_000 {
                    sender.send("text".into()).await?;
                }
                Ok(())
            }))
        };
        let first = long().unwrap();
        tokio::time::sleep(PATIENCE / 4).await;
        let _second = long().unwrap();
        assert!(long().is_some(), "the first has waited");
        let broken = axum::body::to_bytes(first, usize::MAX).await;
        assert!(broken.is_err(), "the file does not look complete");
    }
}
