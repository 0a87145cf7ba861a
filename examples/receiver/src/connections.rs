//! Connections: their number, and their time limits.
//!
//! A connection either waits for its client (for a request, for the rest of a body, for its answer to be read) or is
//! working. At the limit, the connection that waited longest is closed for the new one, among those of the client that
//! has the most: a client that holds idle connections loses them to clients that send requests, and a working
//! connection is never closed for another.

use crate::client::Client;
use crate::waiting::{Answer, Body as Taken, Stream, Waiting};
use axum::Router;
use axum::body::Body;
use axum::http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::collections::HashMap;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tower::ServiceExt;

/// Interval of checks for timeouts.
const LOOK: Duration = Duration::from_secs(1);
/// How long to wait, at the limit with all connections working, before checking again.
const AGAIN: Duration = Duration::from_millis(20);
/// Number of file descriptors that are reserved for the database.
const FILES_LEFT: usize = 24;
/// Maximum size of a request's head, and size of one read, in bytes.
const BUFFER: usize = 64 * 1024;

/// Limits of connections.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Maximum number of connections.
    pub connections: usize,
    /// Time limit of a request's head, since the begin of the connection or the previous answer.
    pub head: Duration,
    /// Time limit without a transferred byte within a body or an answer.
    pub stall: Duration,
    /// Time limit of a request's whole body.
    pub body: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            // Many systems allow a process 1,024 files, some 256: see `make_room`.
            connections: 512,
            head: Duration::from_secs(30),
            stall: Duration::from_secs(30),
            body: Duration::from_secs(120),
        }
    }
}

/// Serves until `stop` is true, then closes idle connections and waits for the others.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    limits: Limits,
    mut stop: watch::Receiver<bool>,
) {
    let open = Arc::new(Open {
        bound: AtomicUsize::new(limits.connections),
        ..Open::default()
    });
    let mut tasks = JoinSet::new();
    let mut number = 0;
    loop {
        let accepted = tokio::select! {
            _ = stop.wait_for(|stopping| *stopping) => break,
            Some(_) = tasks.join_next() => continue,
            accepted = listener.accept() => accepted,
        };
        let (stream, client) = match accepted {
            Ok((stream, peer)) => (stream, Client::of(peer.ip())),
            Err(error) if is_of_the_client(&error) => continue,
            Err(error) => {
                open.shrink(&error);
                tokio::time::sleep(AGAIN).await;
                continue;
            }
        };
        tokio::select! {
            _ = stop.wait_for(|stopping| *stopping) => break,
            () = open.room() => {}
        }
        number += 1;
        let connection = open.enter(number, client);
        let (open, router, stop) = (Arc::clone(&open), router.clone(), stop.clone());
        tasks.spawn(async move {
            attend(stream, &connection, router, limits, stop).await;
            open.leave(number);
        });
    }
    drop(listener);
    while tasks.join_next().await.is_some() {}
}

/// Whether the connection broke before it was accepted.
fn is_of_the_client(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionRefused | ConnectionReset
    )
}

/// Serves one connection to its end.
async fn attend(
    stream: TcpStream,
    connection: &Arc<Connection>,
    router: Router,
    limits: Limits,
    mut stop: watch::Receiver<bool>,
) {
    // Answers are small; waiting to fill a packet would only delay them.
    let _ = stream.set_nodelay(true);
    let waiting = &connection.waiting;
    let client = connection.client;
    let service = service_fn(|request: Request<Incoming>| {
        waiting.got_head();
        let mut request =
            request.map(|body| Body::new(Taken::new(body, Arc::clone(&connection.waiting))));
        request.extensions_mut().insert(client);
        let answer = router.clone().oneshot(request);
        async {
            let answer = answer.await?;
            Ok::<_, std::convert::Infallible>(
                answer.map(|body| Answer::new(body, Arc::clone(&connection.waiting))),
            )
        }
    });
    let stream = Stream::new(stream, Arc::clone(&connection.waiting));
    let mut served = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(limits.head)
            .max_buf_size(BUFFER)
            .serve_connection(TokioIo::new(stream), service)
    );
    let mut is_stopping = false;
    loop {
        tokio::select! {
            // Errors of a single connection are not logged.
            _ = served.as_mut() => return,
            () = connection.closed.notified() => return,
            _ = stop.wait_for(|stopping| *stopping), if !is_stopping => {
                is_stopping = true;
                served.as_mut().graceful_shutdown();
            }
            () = tokio::time::sleep(LOOK.min(limits.stall)) => {
                if waiting.is_overdue(limits.stall, limits.body) {
                    return;
                }
            }
        }
    }
}

/// Shared state of one connection.
struct Connection {
    client: Client,
    waiting: Arc<Waiting>,
    closed: Notify,
}

/// All connections.
#[derive(Default)]
struct Open {
    bound: AtomicUsize,
    connections: Mutex<HashMap<u64, Arc<Connection>>>,
    left: Notify,
}

impl Open {
    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Arc<Connection>>> {
        self.connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(&self, number: u64, client: Client) -> Arc<Connection> {
        let connection = Arc::new(Connection {
            client,
            waiting: Arc::new(Waiting::for_a_request()),
            closed: Notify::new(),
        });
        self.lock().insert(number, Arc::clone(&connection));
        connection
    }

    fn leave(&self, number: u64) {
        self.lock().remove(&number);
        self.left.notify_one();
    }

    /// Returns once there is room for one more.
    async fn room(&self) {
        while !self.make_room() {
            tokio::select! {
                () = self.left.notified() => {}
                () = tokio::time::sleep(AGAIN) => {}
            }
        }
    }

    fn make_room(&self) -> bool {
        let mut connections = self.lock();
        while connections.len() >= self.bound.load(Ordering::Relaxed) {
            let Some(number) = dispensable(&connections) else {
                return false;
            };
            if let Some(connection) = connections.remove(&number) {
                connection.closed.notify_one();
            }
        }
        true
    }

    /// The process is out of file descriptors: lowers the limit of connections, since the database needs some too.
    fn shrink(&self, error: &std::io::Error) {
        let count = self.lock().len();
        let bound = count.saturating_sub(FILES_LEFT).max(1);
        if self.bound.fetch_min(bound, Ordering::Relaxed) > bound {
            eprintln!(
                "agentwatch-receiver: {error}: {bound} connections at once from now on; raise the limit of open files \
                 (ulimit -n) and start again"
            );
        }
        self.make_room();
    }
}

/// The waiting connection that is closed first, if any is waiting.
fn dispensable(connections: &HashMap<u64, Arc<Connection>>) -> Option<u64> {
    let now = Instant::now();
    let mut by_client: HashMap<Client, usize> = HashMap::new();
    let waiting: Vec<_> = connections
        .iter()
        .filter_map(|(number, connection)| {
            Some((*number, connection, connection.waiting.how_long(now)?))
        })
        .inspect(|(_, connection, _)| *by_client.entry(connection.client).or_default() += 1)
        .collect();
    let first = waiting
        .iter()
        .max_by_key(|(_, connection, waited)| (by_client.get(&connection.client), *waited))?;
    Some(first.0)
}

#[cfg(test)]
#[path = "connections_test.rs"]
mod tests;
