//! `GET /api/*`: AgentWatch's read side and, outside stock mode, `/api/model-usage`.

use crate::app::App;
use crate::clock;
use crate::config::Mode;
use crate::error::ApiError;
use crate::page::groups;
use crate::prometheus;
use crate::records::{LEVELS, WORK};
use crate::store::SEARCH_MOST;
use crate::store::calls::CALL;
use crate::store::query::{Filter, Survey};
use crate::store::read::{self, Select};
use crate::store::rollup::Count;
use crate::store::series::Dimension;
use crate::store::stats::{self, ModelStats, Percentiles};
use crate::store::window::Window;
use axum::extract::{Path, Query, State};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::ops::RangeInclusive;

const COSTS: &str = "SELECT id, agent_name, model, input_tokens, output_tokens,
    input_tokens + output_tokens AS total_tokens, estimated_cost_usd, timestamp, trace_id, span_id, metadata FROM costs";
const NEWEST: &str = " ORDER BY timestamp DESC, rowid DESC";

/// The reading endpoints.
pub fn routes(mode: Mode) -> Router<App> {
    let router = Router::new()
        .route("/api/model-stats", get(model_stats))
        .route("/api/costs", get(cost_summary))
        .route("/api/costs/usage", get(costs))
        .route("/api/traces", get(traces))
        .route("/api/traces/{id}", get(trace))
        .route("/api/logs", get(logs))
        .route("/api/health", get(health))
        .route("/api/health/{name}/history", get(health_history))
        .route("/api/metrics", get(metrics))
        .route("/api/metrics/list", get(metric_names))
        .route("/api/cron-stats", get(cron_stats))
        .route("/api/cron-history/{job}", get(cron_history));
    match mode {
        Mode::Stock => router,
        Mode::Strict => router
            .route("/api/model-usage", get(model_usage))
            .route("/metrics", get(prometheus::scrape))
            .route("/api/breakdown", get(groups::breakdown))
            .route("/api/sessions", get(groups::of_sessions))
            .route("/api/prompt-bill", get(groups::prompt_bill)),
    }
}

/// The parameters of a request's query.
#[derive(serde::Deserialize)]
#[serde(transparent)]
struct Params(HashMap<String, String>);

impl Params {
    fn text(&self, name: &str) -> Option<String> {
        self.0.get(name).filter(|text| !text.is_empty()).cloned()
    }

    fn whole(
        &self,
        name: &'static str,
        range: RangeInclusive<i64>,
    ) -> Result<Option<i64>, ApiError> {
        let Some(text) = self.text(name) else {
            return Ok(None);
        };
        match text.parse() {
            Ok(number) if range.contains(&number) => Ok(Some(number)),
            _ => {
                let message = format!(
                    "{name} has to be a whole number from {} to {}",
                    range.start(),
                    range.end()
                );
                Err(ApiError::Query { name, message })
            }
        }
    }

    /// One of a few fixed words; AgentWatch expects no others.
    fn word(
        &self,
        name: &'static str,
        allowed: &[&str],
        mode: Mode,
    ) -> Result<Option<String>, ApiError> {
        match (self.text(name), mode) {
            (Some(word), Mode::Stock) if !allowed.contains(&word.as_str()) => Err(ApiError::Crash),
            (Some(word), Mode::Strict) if !allowed.contains(&word.as_str()) => {
                let message = format!("{name} has to be one of {}", allowed.join(", "));
                Err(ApiError::Query { name, message })
            }
            (word, _) => Ok(word),
        }
    }

    /// A pattern of texts that contain `search`.
    fn search(&self) -> Result<Option<String>, ApiError> {
        match self.text("search") {
            Some(text) if text.len() > SEARCH_MOST => Err(ApiError::Query {
                name: "search",
                message: format!("search has to be at most {SEARCH_MOST} bytes long"),
            }),
            text => Ok(text.map(|text| format!("%{text}%"))),
        }
    }

    fn limit(&self, default: i64, max: i64) -> Result<i64, ApiError> {
        Ok(self.whole("limit", 1..=max)?.unwrap_or(default))
    }

    fn offset(&self) -> Result<i64, ApiError> {
        Ok(self.whole("offset", 0..=i64::MAX)?.unwrap_or(0))
    }

    /// The start of the last `hours`, if requested.
    fn since(&self) -> Result<Option<i64>, ApiError> {
        let hours = self
            .whole("hours", 0..=1_000_000)?
            .filter(|hours| *hours > 0);
        Ok(hours.map(|hours| clock::hours_before(clock::now(), hours)))
    }

    fn number(&self, name: &'static str) -> Result<Option<f64>, ApiError> {
        let wrong = |_| ApiError::Query {
            name,
            message: format!("{name} has to be a number"),
        };
        self.text(name)
            .map(|text| text.parse().map_err(wrong))
            .transpose()
    }
}

type Answer = Result<Json<Value>, ApiError>;

async fn list(app: App, select: Select, raw: bool) -> Answer {
    app.blocking(move |app| Ok(Json(app.store.read(|c| select.rows(c, raw))?.into())))
        .await
}

async fn model_stats(State(app): State<App>, Query(params): Query<Params>) -> Answer {
    let hours = params.whole("hours", 1..=720)?.unwrap_or(24);
    let window = Window {
        from: clock::hours_before(clock::now(), hours),
        to: None,
    };
    // AgentWatch has no filter here, and its percentiles are always exact.
    let (filter, percentiles) = match app.mode {
        Mode::Stock => (Filter::default(), Percentiles::Exact),
        Mode::Strict => (
            Filter(Dimension::ALL.map(|dimension| params.text(dimension.name()))),
            Percentiles::Bounded,
        ),
    };
    app.blocking(move |app| {
        let (models, _) = app.store.survey(|connection, catalog| {
            let survey = Survey::new(connection, catalog, window, &filter)?;
            stats::model_stats(&survey, percentiles)
        })?;
        let rows = models.into_iter().map(|model| rounded(model, app.mode));
        Ok(Json(
            rows.map(|model| stats_json(&model, app.mode)).collect(),
        ))
    })
    .await
}

/// AgentWatch rounds to 0.1 ms and 0.000001 USD. Outside stock mode more digits are kept, since a million cheap calls
/// add up.
fn rounded(mut model: ModelStats, mode: Mode) -> ModelStats {
    let (money, time) = match mode {
        Mode::Stock => (6, 1),
        Mode::Strict => (9, 3),
    };
    model.cost_usd = round(model.cost_usd, money);
    model.p50_latency_ms = model.p50_latency_ms.map(|ms| round(ms, time));
    model.p95_latency_ms = model.p95_latency_ms.map(|ms| round(ms, time));
    // AgentWatch treats an average of zero as missing.
    let shown = |ms: &f64| mode == Mode::Strict || *ms != 0.0;
    model.avg_latency_ms = model.avg_latency_ms.filter(shown).map(|ms| round(ms, time));
    model
}

/// One row of `/api/model-stats`; fields after the percentiles are additions.
fn stats_json(model: &ModelStats, mode: Mode) -> Value {
    let sums = &model.sums;
    let mut row = json!({
        "model": model.model,
        "requests": sums.of(Count::Calls),
        "prompt_tokens": sums.of(Count::Prompt),
        "completion_tokens": sums.of(Count::Completion),
        "total_tokens": sums.tokens(),
        "total_cost_usd": model.cost_usd,
        "avg_latency_ms": model.avg_latency_ms,
        "p50_latency_ms": model.p50_latency_ms,
        "p95_latency_ms": model.p95_latency_ms,
    });
    if mode == Mode::Strict {
        row["timed_requests"] = sums.of(Count::Timed).into();
        row["unknown_cost_requests"] = sums.of(Count::UnknownCost).into();
        row["cache_read_tokens"] = sums.of(Count::CacheRead).into();
        row["failed_requests"] = sums.of(Count::Failed).into();
        row["aborted_requests"] = sums.of(Count::Aborted).into();
        row["percentile_error"] = model.percentile_error.into();
    }
    row
}

/// Rounds to `digits` decimals, half to even, as Python's `round` does.
fn round(value: f64, digits: usize) -> f64 {
    format!("{value:.digits$}").parse().unwrap_or(value)
}

async fn model_usage(State(app): State<App>, Query(params): Query<Params>) -> Answer {
    let select = Select::new(CALL)
        .only("id = ?", params.text("id"))
        .only("agent_name = ?", params.text("agent"))
        .only("model = ?", params.text("model"))
        .only("session_key = ?", params.text("session"))
        .only("channel = ?", params.text("channel"))
        .only("job = ?", params.text("job"))
        .only("timestamp >= ?", params.since()?)
        .then(NEWEST)
        .page(params.limit(100, 1000)?, params.offset()?);
    list(app, select, false).await
}

async fn costs(State(app): State<App>, Query(params): Query<Params>) -> Answer {
    let select = Select::new(COSTS)
        .only("agent_name = ?", params.text("agent"))
        .only("model = ?", params.text("model"))
        .only("timestamp >= ?", params.since()?)
        .then(NEWEST)
        .page(params.limit(100, 1000)?, 0);
    list(app, select, false).await
}

async fn cost_summary(State(app): State<App>, Query(params): Query<Params>) -> Answer {
    let (agent, since) = (params.text("agent"), params.since()?);
    app.blocking(move |app| {
        Ok(Json(
            app.store.read(|c| read::cost_summary(c, agent, since))?,
        ))
    })
    .await
}

/// As in AgentWatch, `metadata` is text here and an object in `/api/traces/{id}`.
async fn traces(State(app): State<App>, Query(params): Query<Params>) -> Answer {
    let select = Select::new("SELECT * FROM traces")
        .only("agent_name = ?", params.text("agent"))
        .only("status = ?", params.word("status", WORK, app.mode)?)
        .only("name LIKE ?", params.search()?)
        .only("duration_ms >= ?", params.number("min_duration_ms")?)
        .only("duration_ms <= ?", params.number("max_duration_ms")?)
        .only("started_at >= ?", params.since()?)
        .then(" ORDER BY started_at DESC, rowid DESC")
        .page(params.limit(50, 500)?, params.offset()?);
    list(app, select, true).await
}

async fn trace(State(app): State<App>, Path(id): Path<String>) -> Answer {
    let found = app
        .blocking(move |app| Ok(app.store.read(|c| read::trace(c, &id))?))
        .await?;
    Ok(Json(found.unwrap_or_else(|| json!({}))))
}

async fn logs(State(app): State<App>, Query(mut params): Query<Params>) -> Answer {
    if let Some(level) = params.0.get_mut("level") {
        level.make_ascii_lowercase();
    }
    let select = Select::new("SELECT * FROM logs")
        .only("agent_name = ?", params.text("agent"))
        .only("level = ?", params.word("level", LEVELS, app.mode)?)
        .only("message LIKE ?", params.search()?)
        .only("timestamp >= ?", params.since()?)
        .then(NEWEST)
        .page(params.limit(100, 1000)?, 0);
    list(app, select, false).await
}

/// The latest result of each check.
async fn health(State(app): State<App>, Query(params): Query<Params>) -> Answer {
    let select = Select::new("SELECT h.* FROM health_checks h")
        .only("h.agent_name = ?", params.text("agent"))
        .only(
            "h.timestamp = (SELECT max(timestamp) FROM health_checks l
                 WHERE l.name = h.name AND l.agent_name = h.agent_name AND ?)",
            Some(1),
        )
        .then(" ORDER BY h.agent_name, h.name, h.id")
        .page(read::ROWS_MOST, 0);
    list(app, select, false).await
}

async fn health_history(
    State(app): State<App>,
    Path(name): Path<String>,
    Query(params): Query<Params>,
) -> Answer {
    let select = Select::new("SELECT * FROM health_checks")
        .only("name = ?", Some(name))
        .only("agent_name = ?", params.text("agent"))
        .then(NEWEST)
        .page(params.limit(100, 500)?, 0);
    list(app, select, false).await
}

async fn metrics(State(app): State<App>, Query(params): Query<Params>) -> Answer {
    let select = Select::new("SELECT * FROM metrics")
        .only("name = ?", params.text("name"))
        .only("agent_name = ?", params.text("agent"))
        .only("timestamp >= ?", params.since()?)
        .then(NEWEST)
        .page(params.limit(100, 1000)?, 0);
    list(app, select, false).await
}

async fn metric_names(State(app): State<App>, Query(params): Query<Params>) -> Answer {
    let select = Select::new(
        "SELECT name, kind, count(*) AS count, agent_name,
             (SELECT value FROM metrics l WHERE l.name = m.name AND l.agent_name = m.agent_name
              ORDER BY timestamp DESC, rowid DESC LIMIT 1) AS latest_value
         FROM metrics m",
    )
    .only("m.agent_name = ?", params.text("agent"))
    .then(" GROUP BY name, agent_name ORDER BY name")
    .page(read::ROWS_MOST, 0);
    list(app, select, false).await
}

async fn cron_stats(State(app): State<App>) -> Answer {
    app.blocking(|app| Ok(Json(app.store.read(read::cron_stats)?.into())))
        .await
}

async fn cron_history(
    State(app): State<App>,
    Path(job): Path<String>,
    Query(params): Query<Params>,
) -> Answer {
    let limit = params.limit(50, 200)?;
    app.blocking(move |app| {
        Ok(Json(
            app.store
                .read(|c| read::cron_history(c, &job, limit))?
                .into(),
        ))
    })
    .await
}
