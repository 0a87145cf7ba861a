//! The Models page: complete as the server sends it, kept current by a small script.

mod format;
mod html;

use crate::app::App;
use crate::error::ApiError;
use crate::reads;
use axum::extract::{Query, State};
use axum::http::header;
use axum::response::{Html, IntoResponse};
use serde::Deserialize;

/// The page's query.
#[derive(Deserialize)]
pub struct Range {
    hours: Option<String>,
}

/// `GET /models?hours=1..720`. What is no such number is taken as the day, since a page has nobody to tell.
///
/// # Errors
/// Where the store does not answer.
pub async fn models(
    State(app): State<App>,
    Query(range): Query<Range>,
) -> Result<Html<String>, ApiError> {
    let hours = range
        .hours
        .and_then(|text| text.parse::<i64>().ok())
        .filter(|hours| (1..=720).contains(hours));
    let hours = hours.unwrap_or(24);
    let models = reads::last_hours(&app, hours).await?;
    Ok(Html(html::models(&models, hours, app.token.is_some())))
}

/// The sign-in form; `refused` after a wrong token.
pub fn sign_in(next: &str, refused: bool) -> Html<String> {
    Html(html::sign_in(next, refused))
}

/// `GET /assets/models.css`
pub async fn style() -> impl IntoResponse {
    (
        [(header::CONTENT_TYPE, "text/css; charset=utf-8")],
        include_str!("models.css"),
    )
}

/// `GET /assets/models.js`
pub async fn script() -> impl IntoResponse {
    (
        [(header::CONTENT_TYPE, "text/javascript; charset=utf-8")],
        include_str!("models.js"),
    )
}

/// `GET /assets/icon.svg`
pub async fn icon() -> impl IntoResponse {
    (
        [(header::CONTENT_TYPE, "image/svg+xml")],
        include_str!("icon.svg"),
    )
}
