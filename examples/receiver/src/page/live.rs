//! `GET /models/events`: says when something was stored, as server-sent events. What it is, the page asks itself.

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

/// How often the database is looked at while somebody listens.
const LOOK: Duration = Duration::from_millis(400);
/// The shortest time between two events: a page that is read needs no more.
const PAUSE: Duration = Duration::from_secs(1);
/// How soon a browser that lost the connection comes back.
const RETRY: Duration = Duration::from_secs(2);
/// The most pages of one client that listen at once, and of all clients.
const LISTENERS: (usize, usize) = (32, 160);

/// Tells all listeners of changes; true once the server stops.
#[derive(Clone)]
pub struct Live {
    changes: watch::Sender<i64>,
    stop: watch::Receiver<bool>,
    places: Places,
}

impl Live {
    /// Nothing has changed yet.
    pub fn new(stop: watch::Receiver<bool>) -> Self {
        Self {
            changes: watch::Sender::new(0),
            stop,
            places: Places::new(LISTENERS.0, LISTENERS.1),
        }
    }
}

/// Looks at the database's version while somebody listens. It changes with every process that writes to the file.
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
        // A store that does not answer is said by the requests that need it.
        if let Ok(version) = app.blocking(|app| Ok(app.store.version()?)).await {
            app.live
                .changes
                .send_if_modified(|last| std::mem::replace(last, version) != version);
        }
    }
}

/// The events. `changed` carries the database's version; the first one comes at once, since a page may have missed some.
///
/// # Errors
/// Where too many listen already.
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
