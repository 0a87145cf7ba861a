//! `POST /api/v1/ingest/*`.

use crate::app::App;
use crate::clock;
use crate::config::Mode;
use crate::error::ApiError;
use crate::records::{Batch, Kind};
use crate::store::Repeat;
use crate::{python, stock, twice, validate};
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};

/// Longest body. An array of 500 full records is about 300 KiB.
const BODY_MAX: usize = 8 * 1024 * 1024;
/// AgentWatch has no limit; ours in stock mode only keeps the process alive.
const STOCK_BODY_MAX: usize = 256 * 1024 * 1024;

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

/// Takes one kind of record, or (`None`) a batch of all kinds.
async fn ingest(app: App, kind: Option<Kind>, request: Request) -> Result<Json<Value>, ApiError> {
    let limit = match app.mode {
        Mode::Strict => BODY_MAX,
        Mode::Stock => STOCK_BODY_MAX,
    };
    let bytes = body_of(request, limit).await?;
    let mode = app.mode;
    // Parsing counts as work too: a body of 8 MiB takes tens of milliseconds.
    app.blocking(move |app| match mode {
        Mode::Strict => take_strict(app, kind, &bytes),
        Mode::Stock => take_stock(app, kind, &bytes),
    })
    .await
    .map(Json)
}

async fn body_of(request: Request, limit: usize) -> Result<Bytes, ApiError> {
    let length = request
        .headers()
        .get("content-length")
        .and_then(|v| v.to_str().ok()?.parse::<usize>().ok());
    if length.is_some_and(|length| length > limit) {
        return Err(ApiError::TooLarge(limit));
    }
    let body: Body = request.into_body();
    to_bytes(body, limit).await.map_err(|error| {
        let mut cause: &dyn std::error::Error = &error;
        while let Some(source) = cause.source() {
            cause = source;
        }
        // Either the limit was passed, or the sender went away and reads no answer.
        if cause.to_string().contains("length limit") {
            return ApiError::TooLarge(limit);
        }
        ApiError::NotJson("the body broke off".into())
    })
}

fn take_strict(app: &App, kind: Option<Kind>, bytes: &[u8]) -> Result<Value, ApiError> {
    let body =
        serde_json::from_slice(bytes).map_err(|error| ApiError::NotJson(error.to_string()))?;
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
