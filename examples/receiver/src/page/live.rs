//! `GET /models/events`: server-sent events when records are stored. The page then requests the data itself.

use crate::app::App;
use crate::client::Client;
use crate::error::ApiError;
use crate::places::Places;
use axum::extract::{Extension, State};
use axum::response::sse::{Event, KeepAlive, Sse};
use std::convert::Infallible;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;

/// Interval of database checks while pages listen.
const LOOK: Duration = Duration::from_millis(400);
/// Minimum time between two events.
const PAUSE: Duration = Duration::from_secs(1);
/// Reconnection time of browsers.
const RETRY: Duration = Duration::from_secs(2);
/// Maximum number of listening pages per client, and in total.
const LISTENERS: (usize, usize) = (32, 160);

/// Notifies all listeners of changes; true once the server stops.
#[derive(Clone)]
pub struct Live {
    changes: watch::Sender<i64>,
    stop: watch::Receiver<bool>,
    places: Places,
}

impl Live {
    /// Without changes yet.
    pub fn new(stop: watch::Receiver<bool>) -> Self {
        Self {
            changes: watch::Sender::new(0),
            stop,
            places: Places::new(LISTENERS.0, LISTENERS.1),
        }
    }
}

/// Polls the database's version while pages listen. Every process that writes to the file changes it.
pub async fn watch(app: App) {
    let mut stop = app.live.stop.clone();
    loop {
        tokio::select! {
            _ = stop.wait_for(|stopping| *stopping) => return,
            () = tokio::time::sleep(LOOK) => {}
        }
        if app.live.changes.receiver_count() == 0 {
            continue;
        }
        // Requests that need the store report its errors.
        if let Ok(version) = app.blocking(|app| Ok(app.store.version()?)).await {
            app.live
                .changes
                .send_if_modified(|last| std::mem::replace(last, version) != version);
        }
    }
}

/// The events. `changed` has the database's version. The first one is sent at once, since a page may have missed some.
///
/// # Errors
/// Too many pages are listening.
pub async fn events(
    State(app): State<App>,
    Extension(client): Extension<Client>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, ApiError> {
    let place = app.live.places.take(client).ok_or(ApiError::Busy)?;
    let mut changes = app.live.changes.subscribe();
    let mut stop = app.live.stop.clone();
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(async move {
        let _place = place;
        loop {
            let version = *changes.borrow_and_update();
            let event = Event::default()
                .event("changed")
                .retry(RETRY)
                .data(version.to_string());
            if sender.send(Ok(event)).await.is_err() {
                return;
            }
            tokio::time::sleep(PAUSE).await;
            tokio::select! {
                changed = changes.changed() => if changed.is_err() { return },
                _ = stop.wait_for(|stopping| *stopping) => return,
                () = sender.closed() => return,
            }
        }
    });
    Ok(Sse::new(ReceiverStream::new(receiver)).keep_alive(KeepAlive::default()))
}
