//! Sums of calls by one dimension, sessions ranked by cost, and what the parts of prompts cost: for programs, as JSON or
//! CSV. The query selects calls as the page's does.

use super::address::{Address, UNTOLD};
use super::csv::line;
use crate::app::App;
use crate::clock::{self, DAY};
use crate::error::ApiError;
use crate::store::first::first;
use crate::store::prompts::{self, PARTS, Prompts};
use crate::store::query::{Bars, Survey};
use crate::store::series::{self, Dimension};
use crate::store::sessions;
use crate::store::stats::MODELS_MAX;
use axum::Json;
use axum::extract::{Query, State};
use jiff::tz::TimeZone;
use rusqlite::OptionalExtension;
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};

/// Maximum number of sessions in an answer.
pub const SESSIONS_MAX: usize = 1_000;
/// Number of sessions in an answer without `limit`.
const SESSIONS_USUAL: usize = 100;

/// Rows of named fields, with the same names in the same order.
pub type Rows = Vec<Vec<(String, Value)>>;
type Parameters = HashMap<String, String>;

/// Sums by a dimension, by cost: `GET /api/breakdown?by=channel`.
///
/// # Errors
/// `by` is no dimension, a parameter of the range is unusable, or the store fails.
pub async fn breakdown(State(app): State<App>, Query(query): Query<Parameters>) -> Answer {
    let by = query.get("by").map(String::as_str);
    let dimension = Dimension::ALL.into_iter().find(|d| by == Some(d.name()));
    let Some(dimension) = dimension else {
        let names = Dimension::ALL.map(Dimension::name).join(", ");
        let message = format!("by has to be one of {names}");
        return Err(ApiError::Query {
            name: "by",
            message,
        });
    };
    answer(of_dimension(app, Address::strictly_of(&query, TimeZone::UTC)?, dimension).await?)
}

/// Sessions by cost: `GET /api/sessions`. The calls of one are at `/api/model-usage?session=…`.
///
/// # Errors
/// `limit` is out of range, a parameter of the range is unusable, or the store fails.
pub async fn of_sessions(State(app): State<App>, Query(query): Query<Parameters>) -> Answer {
    let limit = match query.get("limit").map(|limit| limit.parse()) {
        None => SESSIONS_USUAL,
        Some(Ok(limit)) if (1..=SESSIONS_MAX).contains(&limit) => limit,
        Some(_) => {
            let message = format!("limit has to be a whole number from 1 to {SESSIONS_MAX}");
            return Err(ApiError::Query {
                name: "limit",
                message,
            });
        }
    };
    answer(ranked(app, Address::strictly_of(&query, TimeZone::UTC)?, limit).await?)
}

/// The parts of prompts, in all and by agent, day and month (UTC): `GET /api/prompt-bill`.
///
/// # Errors
/// A parameter of the range is unusable, or the store fails.
pub async fn prompt_bill(State(app): State<App>, Query(query): Query<Parameters>) -> Answer {
    let rows = bill(app, Address::strictly_of(&query, TimeZone::UTC)?).await?;
    let mut groups: HashMap<String, Vec<Value>> = HashMap::new();
    for row in rows {
        let by = row[0].1.as_str().unwrap_or_default().to_owned();
        groups.entry(by).or_default().push(object(row));
    }
    let mut of = |by: &str| groups.remove(by).unwrap_or_default();
    Ok(Json(json!({
        "estimate": true,
        "total": of("total").pop(),
        "by_agent": of("agent"),
        "other_agents": of("other_agents").pop(),
        "by_day": of("day"),
        "by_month": of("month"),
    })))
}

type Answer = Result<Json<Value>, ApiError>;

fn answer(rows: Rows) -> Answer {
    Ok(Json(objects(rows)))
}

/// Rows as JSON objects.
pub fn objects(rows: Rows) -> Value {
    rows.into_iter().map(object).collect()
}

fn object(row: Vec<(String, Value)>) -> Value {
    Value::Object(row.into_iter().collect())
}

/// The rows of a download: `sessions`, `prompt-bill`, or `by-` and a dimension's name.
///
/// # Errors
/// There is no such download, or the store fails.
pub async fn rows_of(app: App, name: &str, address: Address) -> Result<Rows, ApiError> {
    match name {
        "sessions" => ranked(app, address, SESSIONS_MAX).await,
        "prompt-bill" => bill(app, address).await,
        _ => {
            let by = name.strip_prefix("by-").ok_or(ApiError::NotFound)?;
            let dimension = Dimension::ALL.into_iter().find(|d| d.name() == by);
            of_dimension(app, address, dimension.ok_or(ApiError::NotFound)?).await
        }
    }
}

/// Rows as CSV, with the names of the first one.
pub fn csv(rows: &Rows) -> String {
    let Some(first) = rows.first() else {
        return String::new();
    };
    let names: Vec<Value> = first.iter().map(|(name, _)| json!(name)).collect();
    rows.iter().fold(line(&names), |text, row| {
        let values: Vec<Value> = row.iter().map(|(_, value)| value.clone()).collect();
        text + &line(&values)
    })
}

fn row<const N: usize>(fields: [(&str, Value); N]) -> Vec<(String, Value)> {
    let fields = fields.into_iter();
    fields
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}

async fn of_dimension(app: App, address: Address, by: Dimension) -> Result<Rows, ApiError> {
    app.blocking(move |app| {
        let window = address.window(clock::now());
        Ok(app.store.survey(|connection, catalog| {
            let survey = Survey::new(connection, catalog, window, &address.filter)?;
            let overview = survey.overview(&[by], &Bars::default())?;
            let dearest = first(overview.of(by), MODELS_MAX, |(a, x), (b, y)| {
                let order = y.cost_usd.total_cmp(&x.cost_usd);
                order
                    .then_with(|| y.tokens.cmp(&x.tokens))
                    .then_with(|| a.cmp(b))
            });
            let mut rows = Rows::new();
            for (number, calls) in dearest {
                let value = series::value(connection, by, number)?;
                rows.push(row([
                    (by.name(), told(&value)),
                    ("requests", calls.calls.into()),
                    ("total_tokens", calls.tokens.into()),
                    ("total_cost_usd", calls.cost_usd.into()),
                    ("unknown_cost_requests", calls.unknown_cost.into()),
                    ("failed_requests", calls.failed.into()),
                    ("aborted_requests", calls.aborted.into()),
                ]));
            }
            Ok(rows)
        })?)
    })
    .await
}

async fn ranked(app: App, address: Address, limit: usize) -> Result<Rows, ApiError> {
    app.blocking(move |app| {
        let window = address.window(clock::now());
        Ok(app.store.survey(|connection, catalog| {
            let survey = Survey::new(connection, catalog, window, &address.filter)?;
            let (dearest, _) = sessions::dearest(&survey, limit)?;
            let mut last = connection.prepare_cached(
                r#"SELECT agent_name, channel, "trigger", job, timestamp FROM model_usage
                   WHERE session_key = ?1 AND timestamp >= ?2 AND timestamp < ?3 ORDER BY timestamp DESC LIMIT 1"#,
            )?;
            let mut rows = Rows::new();
            for of in dearest {
                let told = last
                    .query_row((&of.session, window.from, window.end()), |row| {
                        let text = |index| row.get::<_, Option<String>>(index).map(Value::from);
                        let at: i64 = row.get(4)?;
                        Ok([text(0)?, text(1)?, text(2)?, text(3)?, clock::iso(at).into()])
                    })
                    .optional()?;
                let [agent, channel, trigger, job, at] = told.unwrap_or_default();
                rows.push(row([
                    ("session", of.session.into()),
                    ("agent", agent),
                    ("channel", channel),
                    ("trigger", trigger),
                    ("job", job),
                    ("last", at),
                    ("requests", of.calls.into()),
                    ("prompt_tokens", of.prompt_tokens.into()),
                    ("completion_tokens", of.completion_tokens.into()),
                    ("total_cost_usd", of.cost_usd.into()),
                    ("unknown_cost_requests", of.unknown_cost.into()),
                ]));
            }
            Ok(rows)
        })?)
    })
    .await
}

async fn bill(app: App, address: Address) -> Result<Rows, ApiError> {
    app.blocking(move |app| {
        let window = address.window(clock::now());
        Ok(app.store.survey(|connection, catalog| {
            let survey = Survey::new(connection, catalog, window, &address.filter)?;
            let bill = prompts::bill(&survey, DAY, MODELS_MAX)?;
            let mut months: BTreeMap<String, Prompts> = BTreeMap::new();
            let mut rows = vec![of_prompts("total", Value::Null, &bill.total)];
            let agents = bill.by_agent.iter();
            rows.extend(agents.map(|(agent, sums)| of_prompts("agent", told(agent), sums)));
            let (more, rest) = &bill.rest;
            if *more > 0 {
                rows.push(of_prompts("other_agents", (*more).into(), rest));
            }
            for (at, sums) in &bill.by_step {
                let date = clock::iso(*at);
                let (day, month) = (date.get(..10), date.get(..7));
                rows.push(of_prompts("day", day.into(), sums));
                let month = months.entry(month.unwrap_or_default().to_owned());
                month.or_default().add(sums, 1);
            }
            let months = months.iter();
            rows.extend(
                months.map(|(month, sums)| of_prompts("month", month.as_str().into(), sums)),
            );
            Ok(rows)
        })?)
    })
    .await
}

fn of_prompts(by: &str, value: Value, sums: &Prompts) -> Vec<(String, Value)> {
    let fixed_tokens = sums.fixed_tokens();
    let mut fields = row([
        ("by", by.into()),
        ("value", value),
        ("requests", sums.calls.into()),
        ("unpriced_requests", sums.unpriced.into()),
        ("fixed_usd", sums.fixed_usd().into()),
        ("fixed_tokens", fixed_tokens.into()),
        (
            "fixed_tokens_per_request",
            (fixed_tokens / sums.calls.max(1)).into(),
        ),
    ]);
    for (index, part) in PARTS.into_iter().enumerate() {
        fields.push((format!("{part}_tokens"), sums.tokens[index].into()));
        fields.push((format!("{part}_usd"), sums.usd[index].into()));
    }
    fields
}

/// A value, or null where records did not tell it.
fn told(value: &str) -> Value {
    match value {
        "" | UNTOLD => Value::Null,
        value => value.into(),
    }
}
