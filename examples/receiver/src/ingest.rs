//! `POST /api/v1/ingest/*`.

use crate::app::App;
use crate::clock;
use crate::config::Mode;
use crate::error::ApiError;
use crate::json::{self as text, Json as Read, Unreadable};
use crate::records::{Batch, Kind};
use crate::store::Repeat;
use crate::{python, stock, twice, validate};
use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_stream::StreamExt;

/// Limits of a request.
struct Bounds {
    /// Maximum size of its body, in bytes.
    bytes: usize,
    /// Maximum number of records, including spans and events.
    records: usize,
    /// Maximum number of JSON values: each takes memory, even if it is two bytes of text.
    values: usize,
}

/// An array of 500 full records is about 300 KiB, and the plugin sends no more at once.
const STRICT: Bounds = Bounds {
    bytes: 8 * 1024 * 1024,
    records: 10_000,
    values: 500_000,
};
/// AgentWatch has no limits; these only protect the process.
const STOCK: Bounds = Bounds {
    bytes: 64 * 1024 * 1024,
    records: 50_000,
    values: 2_000_000,
};

/// The ingest endpoints.
pub fn routes(mode: Mode) -> Router<App> {
    let one = |kind| {
        post(move |State(app): State<App>, request: Request| ingest(app, Some(kind), request))
    };
    let router = Router::new()
        .route("/api/v1/ingest/traces", one(Kind::Traces))
        .route("/api/v1/ingest/logs", one(Kind::Logs))
        .route("/api/v1/ingest/health", one(Kind::Health))
        .route("/api/v1/ingest/costs", one(Kind::Costs))
        .route("/api/v1/ingest/metrics", one(Kind::Metrics))
        .route("/api/v1/ingest/model_usage", one(Kind::ModelUsage))
        .route("/api/v1/ingest/cron_run", one(Kind::CronRuns))
        .route(
            "/api/v1/ingest/batch",
            post(|State(app): State<App>, request: Request| ingest(app, None, request)),
        );
    match mode {
        Mode::Stock => router,
        Mode::Strict => router.route("/api/v1/ingest/capabilities", get(capabilities)),
    }
}

async fn capabilities(State(app): State<App>) -> Result<Json<Value>, ApiError> {
    let pairs = app
        .blocking(|app| Ok(twice::reported_twice(&app.store, clock::now())?))
        .await?;
    Ok(Json(json!({
        "server": "agentwatch-receiver",
        "version": env!("CARGO_PKG_VERSION"),
        "features": ["record_ids", "record_timestamps", "atomic_batches", "enrichment"],
        "reported_twice": pairs,
    })))
}

/// Accepts one kind of record, or (`None`) a batch of all kinds.
async fn ingest(app: App, kind: Option<Kind>, request: Request) -> Result<Json<Value>, ApiError> {
    let bounds = match app.mode {
        Mode::Strict => &STRICT,
        Mode::Stock => &STOCK,
    };
    let (bytes, held) = body_of(request, bounds.bytes, &app.pools.bodies).await?;
    // Taken only now, so that slow senders hold no place. Parsing counts as work too: 8 MiB take tens of milliseconds.
    let place = app.pools.writes.enter()?;
    app.at(place, move |app| {
        let body = parse(&bytes, kind, bounds, app.mode)?;
        let answer = match app.mode {
            Mode::Strict => take_strict(app, kind, body),
            Mode::Stock => take_stock(app, kind, &bytes),
        };
        drop(held);
        answer
    })
    .await
    .map(Json)
}

/// The body and its memory permits. Permits are taken as bytes arrive, so a body that is announced and not sent takes
/// none.
async fn body_of(
    request: Request,
    limit: usize,
    bodies: &Arc<Semaphore>,
) -> Result<(Bytes, OwnedSemaphorePermit), ApiError> {
    let length = request
        .headers()
        .get("content-length")
        .and_then(|v| v.to_str().ok()?.parse::<usize>().ok());
    if length.is_some_and(|length| length > limit) {
        return Err(ApiError::TooLarge(limit));
    }
    let room = |bytes: usize| {
        let bytes = u32::try_from(bytes).map_err(|_| ApiError::TooLarge(limit))?;
        let room = Arc::clone(bodies).try_acquire_many_owned(bytes);
        room.map_err(|_| ApiError::Overloaded)
    };
    let mut held = room(0)?;
    let mut body = Vec::new();
    let mut chunks = request.into_body().into_data_stream();
    while let Some(chunk) = chunks.next().await {
        // The sender is gone and reads no answer.
        let chunk = chunk.map_err(|_| ApiError::NotJson("the body broke off".into()))?;
        if body.len() + chunk.len() > limit {
            return Err(ApiError::TooLarge(limit));
        }
        held.merge(room(chunk.len())?);
        body.extend_from_slice(&chunk);
    }
    Ok((body.into(), held))
}

/// Reads a body within its limits.
fn parse<'a>(
    bytes: &'a [u8],
    kind: Option<Kind>,
    bounds: &Bounds,
    mode: Mode,
) -> Result<Read<'a>, ApiError> {
    let too_many = |what, most| Err(ApiError::TooMany { what, most });
    match text::parse(bytes, bounds.values) {
        Ok(body) if rows_in(&body, kind) > bounds.records => {
            too_many("records (spans and events count too)", bounds.records)
        }
        Ok(body) => Ok(body),
        Err(Unreadable::TooManyValues) => too_many("JSON values", bounds.values),
        Err(Unreadable::NotJson(_)) if mode == Mode::Stock => Err(ApiError::Crash),
        Err(Unreadable::NotJson(error)) => Err(ApiError::NotJson(error.to_string())),
    }
}

/// The lists of rows within a record: the spans of a trace, the events of a span.
const NESTED: &[&str] = &["spans", "events"];

/// Number of rows that a body becomes.
fn rows_in(body: &Read, kind: Option<Kind>) -> usize {
    match (body, kind) {
        (Read::Object(lists), None) => lists.values().map(|list| rows_of(list, NESTED)).sum(),
        (Read::Object(_), Some(_)) => row(body, NESTED),
        _ => rows_of(body, NESTED),
    }
}

fn rows_of(list: &Read, nested: &[&str]) -> usize {
    match list {
        Read::Array(items) => items.iter().map(|item| row(item, nested)).sum(),
        _ => 0,
    }
}

/// A record and its nested rows.
fn row(record: &Read, nested: &[&str]) -> usize {
    match (record, nested) {
        (Read::Object(fields), [list, rest @ ..]) => {
            1 + fields.get(list).map_or(0, |list| rows_of(list, rest))
        }
        _ => 1,
    }
}

fn take_strict(app: &App, kind: Option<Kind>, body: Read) -> Result<Value, ApiError> {
    let mut batch = Batch::default();
    let answer = match kind {
        Some(kind) => {
            validate::records(body, kind, &mut batch).map_err(ApiError::Invalid)?;
            let ids = batch.ids(kind).into_iter().map(Value::from);
            ids_answer(kind, ids.collect())
        }
        None => counts_answer(validate::batch(body, &mut batch).map_err(ApiError::Invalid)?),
    };
    app.store.write(&batch, clock::now(), Repeat::Merge)?;
    Ok(answer)
}

fn take_stock(app: &App, kind: Option<Kind>, bytes: &[u8]) -> Result<Value, ApiError> {
    let body = python::loads(bytes)?;
    Ok(match kind {
        Some(kind) => ids_answer(kind, stock::records(&body, kind, &app.store)?),
        None => counts_answer(stock::batch(&body, &app.store)?),
    })
}

fn ids_answer(kind: Kind, ids: Vec<Value>) -> Value {
    let list = if kind == Kind::Health { "names" } else { "ids" };
    json!({"status": "ok", "ingested": ids.len(), list: ids})
}

fn counts_answer(counts: Value) -> Value {
    let total: u64 = counts
        .as_object()
        .into_iter()
        .flat_map(|c| c.values())
        .filter_map(Value::as_u64)
        .sum();
    json!({"status": "ok", "ingested": total, "counts": counts})
}
