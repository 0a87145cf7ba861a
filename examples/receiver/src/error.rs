//! Errors of requests, and their answers.

use crate::store::READ_MOST;
use axum::Json;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use rusqlite::ErrorCode;
use serde_json::json;

/// A fault of one record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalid {
    /// The list in the batch, for a batch.
    pub list: Option<&'static str>,
    /// Index of the record in its array, from 0.
    pub record: usize,
    /// Path of the field, such as `prompt_tokens` or `spans[1].status`; empty for the record as a whole.
    pub field: String,
    /// The fault, and the valid values.
    pub message: String,
}

/// Error of a request.
#[derive(Debug)]
pub enum ApiError {
    /// 400: the body is not JSON.
    NotJson(String),
    /// 422: a record breaks the contract. Nothing was stored.
    Invalid(Invalid),
    /// 422: a query parameter is outside its range.
    Query {
        /// The parameter.
        name: &'static str,
        /// Its valid values.
        message: String,
    },
    /// 413: the body is longer than this many bytes.
    TooLarge(usize),
    /// 413: the body has more than this many of the named items.
    TooMany {
        /// `records` or `JSON values`.
        what: &'static str,
        /// The bound.
        most: usize,
    },
    /// 404: nothing at this address.
    NotFound,
    /// 503: the store failed. The text goes to the log, not to the client.
    Store(String),
    /// 503: too many requests of this kind are waiting.
    Overloaded,
    /// 503: reading took longer than this many seconds and was aborted.
    TooLong(u64),
    /// 503: too many pages listen for changes.
    Busy,
    /// 500 in plain text, like AgentWatch 0.1.0 after an unexpected error.
    Crash,
}

impl ApiError {
    /// Logs the part that the answer does not contain.
    pub fn log(&self) {
        if let Self::Store(reason) = self {
            eprintln!("agentwatch-receiver: store: {reason}");
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        self.log();
        let (status, body) = match self {
            Self::NotJson(reason) => (
                StatusCode::BAD_REQUEST,
                json!({"error": format!("not JSON: {reason}")}),
            ),
            Self::Invalid(invalid) => {
                let mut body = json!({
                    "error": invalid.message, "record": invalid.record, "field": invalid.field,
                });
                if let Some(list) = invalid.list {
                    body["list"] = list.into();
                }
                (StatusCode::UNPROCESSABLE_ENTITY, body)
            }
            Self::Query { name, message } => {
                // AgentWatch uses the field `detail`.
                let detail = json!([{"loc": ["query", name], "msg": message}]);
                let body = json!({"error": message, "field": name, "detail": detail});
                (StatusCode::UNPROCESSABLE_ENTITY, body)
            }
            Self::TooLarge(limit) => (
                StatusCode::PAYLOAD_TOO_LARGE,
                json!({"error": format!("the body is longer than {limit} bytes: send smaller arrays")}),
            ),
            Self::TooMany { what, most } => (
                StatusCode::PAYLOAD_TOO_LARGE,
                json!({"error": format!("the body holds more than {most} {what}: send smaller arrays")}),
            ),
            Self::NotFound => (StatusCode::NOT_FOUND, json!({"detail": "Not Found"})),
            Self::Store(_) => {
                let body =
                    json!({"error": "the store is unavailable, nothing was taken: try again"});
                (StatusCode::SERVICE_UNAVAILABLE, body)
            }
            Self::Overloaded => {
                let body = json!({"error": "too many requests wait already, nothing was taken: try again in some seconds"});
                let again = [(header::RETRY_AFTER, "2")];
                return (StatusCode::SERVICE_UNAVAILABLE, again, Json(body)).into_response();
            }
            Self::TooLong(seconds) => (
                StatusCode::SERVICE_UNAVAILABLE,
                json!({"error": format!("reading took longer than {seconds} s: ask for fewer hours, or with a smaller limit or offset")}),
            ),
            Self::Busy => (
                StatusCode::SERVICE_UNAVAILABLE,
                json!({"error": "too many pages listen already: close some"}),
            ),
            Self::Crash => {
                return (StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error")
                    .into_response();
            }
        };
        (status, Json(body)).into_response()
    }
}

impl From<rusqlite::Error> for ApiError {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::OperationInterrupted) => Self::TooLong(READ_MOST.as_secs()),
            Some(ErrorCode::TooBig) => Self::Query {
                name: "limit",
                message: "the answer is too large: give a smaller limit".into(),
            },
            _ => Self::Store(error.to_string()),
        }
    }
}
