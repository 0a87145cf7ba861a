//! The Models page: complete without JavaScript, updated live with it.

mod address;
mod chart;
mod csv;
mod details;
mod export;
mod failures;
mod focus;
mod format;
pub mod groups;
mod html;
pub mod live;
mod shared;
mod spending;
mod tables;
mod view;
mod zone;

use crate::app::App;
use crate::clock;
use crate::error::ApiError;
use address::Address;
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Query, State};
use axum::http::{HeaderMap, header};
use axum::response::{Html, IntoResponse};
use axum::routing::get;
use shared::Shared;
use std::collections::HashMap;
use std::convert::Infallible;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use view::View;

/// Routes of the page, its events, its downloads and its assets.
pub fn routes() -> Router<App> {
    let shared = Shared::default();
    Router::new()
        .route(
            "/models",
            get(move |app, query, headers| models(app, query, headers, shared.clone())),
        )
        .route("/models/events", get(live::events))
        .route("/models/{file}", get(export::download))
        .route("/assets/models.css", get(style))
        .route("/assets/models.js", get(script))
        .route("/assets/icon.svg", get(icon))
}

/// `GET /models?hours=1..720&model=…`, see [`Address`]. Its head is sent before the database is read, so that a browser
/// can load the assets meanwhile.
///
/// # Errors
/// Too many pages are being read.
async fn models(
    State(app): State<App>,
    Query(query): Query<HashMap<String, String>>,
    headers: HeaderMap,
    shared: Shared,
) -> Result<impl IntoResponse, ApiError> {
    let place = app.pools.pages.enter()?;
    let address = Address::of(&query, zone::of(&headers));
    let signed_in = app.token.is_some();
    let now = clock::now();
    let beginning = html::beginning(&address, now);
    let (sender, receiver) = mpsc::channel::<Result<Bytes, Infallible>>(2);
    tokio::spawn(async move {
        // The client is gone.
        if sender.send(Ok(beginning.into())).await.is_err() {
            return;
        }
        let read = || {
            let address = address.clone();
            app.at(place, move |app| {
                let view = View::read(&app.store, &address, now)?;
                Ok(html::rest(&view, &address, signed_in))
            })
        };
        let key = address.query() + " " + zone::name(&address.zone);
        let rest = match shared.page(key, read).await {
            Ok(text) => text,
            Err(error) => {
                error.log();
                html::unavailable(&error).into()
            }
        };
        let _ = sender.send(Ok(rest)).await;
    });
    Ok(Html(Body::from_stream(ReceiverStream::new(receiver))))
}

/// The sign-in form; `problem` is the reason for showing it again.
pub fn sign_in(next: &str, problem: Option<&str>) -> Html<String> {
    Html(html::sign_in(next, problem))
}

async fn style() -> impl IntoResponse {
    (
        [(header::CONTENT_TYPE, "text/css; charset=utf-8")],
        include_str!("models.css"),
    )
}

async fn script() -> impl IntoResponse {
    (
        [(header::CONTENT_TYPE, "text/javascript; charset=utf-8")],
        include_str!("models.js"),
    )
}

async fn icon() -> impl IntoResponse {
    (
        [(header::CONTENT_TYPE, "image/svg+xml")],
        include_str!("icon.svg"),
    )
}
