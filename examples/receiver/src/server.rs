//! The server: routes, headers, start and stop.

use crate::app::App;
use crate::config::{Config, Database, Mode};
use crate::connections::{self, Limits};
use crate::error::ApiError;
use crate::guard::{self, Hosts};
use crate::page::live::Live;
use crate::pool::Pools;
use crate::starlette::like_starlette;
use crate::store::Store;
use crate::throttle::Throttle;
use crate::{auth, ingest, page, private, reads};
use axum::extract::{DefaultBodyLimit, Request};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::{from_fn_with_state, map_response};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::json;
use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// How long requests in progress may take after a stop signal.
const GRACE: Duration = Duration::from_secs(5);
/// All assets come from this server, and the page has no inline style or script.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// Serves until SIGTERM or SIGINT.
///
/// # Errors
/// A sentence with the problem.
pub async fn serve(config: Config) -> Result<(), String> {
    let store = open(&config.database)?;
    let address = SocketAddr::new(config.host, config.port);
    let listener = TcpListener::bind(address)
        .await
        .map_err(|e| match e.kind() {
            std::io::ErrorKind::AddrInUse => {
                format!(
                    "--port {}: already in use on {}: choose another, or 0",
                    config.port, config.host
                )
            }
            _ => format!("--host {} --port {}: {e}", config.host, config.port),
        })?;
    let bound = listener.local_addr().map_err(|e| e.to_string())?;
    if config.token.is_none() && !config.host.is_loopback() {
        eprintln!(
            "agentwatch-receiver: {bound} is open to the network without a token: set --token"
        );
    }
    let stop = stopping()?;
    let app = App {
        store: Arc::new(store),
        mode: config.mode,
        token: config.token.map(Arc::from),
        hosts: Arc::new(Hosts::new(config.host, config.allowed_hosts)),
        sessions: Arc::default(),
        // Cookies ignore ports, and another receiver on this host needs its own.
        cookie: format!("agentwatch_session_{}", bound.port()).into(),
        throttle: Arc::new(Throttle::new()),
        live: Live::new(stop.clone()),
        pools: Pools::default(),
    };
    tokio::spawn(page::live::watch(app.clone()));
    let mut grace = stop.clone();
    announce(bound, config.mode);

    let served = connections::serve(listener, router(app), Limits::default(), stop);
    tokio::select! {
        () = served => {}
        () = async {
            let _ = grace.wait_for(|stopping| *stopping).await;
            tokio::time::sleep(GRACE).await;
        } => {}
    }
    Ok(())
}

/// Opens the database and logs problems of its files' modes.
fn open(database: &Database) -> Result<Store, String> {
    let Database::File(path) = database else {
        return Store::open(database);
    };
    let say = |reason: String| format!("--db {}: {reason}", path.display());
    private::check(path).map_err(say)?;
    let store = Store::open(database)?;
    for mended in private::mend(path).map_err(say)? {
        eprintln!("agentwatch-receiver: {}", say(mended));
    }
    Ok(store)
}

/// The line with the address of the page. Scripts read it.
fn announce(bound: SocketAddr, mode: Mode) {
    let suffix = if mode == Mode::Stock {
        " (stock mode)"
    } else {
        ""
    };
    let mut stdout = std::io::stdout();
    let _ = writeln!(
        stdout,
        "agentwatch-receiver listening on http://{bound}/models{suffix}"
    );
    let _ = stdout.flush();
}

/// Becomes true at the first SIGTERM or SIGINT.
fn stopping() -> Result<watch::Receiver<bool>, String> {
    let handler = |kind| signal(kind).map_err(|e| format!("cannot listen for signals: {e}"));
    let (mut terminate, mut interrupt) = (
        handler(SignalKind::terminate())?,
        handler(SignalKind::interrupt())?,
    );
    let (sender, receiver) = watch::channel(false);
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        let _ = sender.send(true);
    });
    Ok(receiver)
}

fn router(app: App) -> Router {
    let sign_out = match app.mode {
        Mode::Strict => post(auth::sign_out),
        Mode::Stock => get(auth::sign_out).post(auth::sign_out),
    };
    let routes = Router::new()
        .merge(ingest::routes(app.mode))
        .merge(reads::routes(app.mode))
        .route("/", get(|| async { Redirect::temporary("/models") }))
        .merge(page::routes())
        .route("/login", get(auth::form).post(auth::submit))
        .route("/logout", sign_out)
        .route("/health", get(health))
        .fallback(|_: Request| async { ApiError::NotFound })
        .method_not_allowed_fallback(|| async {
            (
                StatusCode::METHOD_NOT_ALLOWED,
                Json(json!({"detail": "Method Not Allowed"})),
            )
        });
    let routes = match app.mode {
        Mode::Strict => routes.route("/healthz", get(health)),
        Mode::Stock => like_starlette(routes, &app),
    };
    routes
        .layer(from_fn_with_state(app.clone(), auth::require))
        .layer(from_fn_with_state(app.clone(), guard::check))
        .layer(map_response(headers))
        // Sign-in is the only other body; ingest sets its own limit.
        .layer(DefaultBodyLimit::max(64 * 1024))
        .with_state(app)
}

async fn health() -> impl IntoResponse {
    Json(
        json!({"status": "ok", "server": "agentwatch-receiver", "version": env!("CARGO_PKG_VERSION")}),
    )
}

/// Headers of every answer.
async fn headers(mut response: Response) -> Response {
    let headers = response.headers_mut();
    let mut set = |name, value| headers.insert(name, HeaderValue::from_static(value));
    set(header::CONTENT_SECURITY_POLICY, POLICY);
    set(header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    // Not `no-referrer`: with it a browser sends `Origin: null` for the server's own forms, which the guard refuses.
    set(header::REFERRER_POLICY, "same-origin");
    let resource = HeaderName::from_static("cross-origin-resource-policy");
    set(resource, "same-origin");
    headers
        .entry(header::CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;
    use crate::client::Client;
    use axum::body::Body;
    use axum::http::Method;
    use std::net::{IpAddr, Ipv4Addr};
    use tower::ServiceExt;

    fn app(token: &str) -> App {
        let host = IpAddr::from(Ipv4Addr::LOCALHOST);
        let (_, stop) = watch::channel(false);
        App {
            store: Arc::new(Store::open(&Database::Memory).unwrap()),
            mode: Mode::Strict,
            token: Some(token.into()),
            hosts: Arc::new(Hosts::new(host, Vec::new())),
            sessions: Arc::default(),
            cookie: "session".into(),
            throttle: Arc::new(Throttle::new()),
            live: Live::new(stop),
            pools: Pools::default(),
        }
    }

    /// All from one address. Neither `/` nor the unknown path reads the database.
    #[tokio::test(start_paused = true)]
    async fn sessions_and_programs_do_not_wait_for_guesses_at_the_form() {
        let router = router(app("s3cret"));
        let send = |method: Method, path: &str, head: (&str, &str), body: String| {
            let request = Request::builder()
                .method(method)
                .uri(path)
                .header(header::HOST, "localhost")
                .header(head.0, head.1)
                .extension(Client::of(Ipv4Addr::new(192, 0, 2, 1).into()))
                .body(Body::from(body));
            router.clone().oneshot(request.unwrap())
        };
        let form = ("content-type", "application/x-www-form-urlencoded");
        let sign_in = |token: &str| send(Method::POST, "/login", form, format!("token={token}"));
        let answer = sign_in("s3cret").await.unwrap();
        let cookie = answer.headers()[header::SET_COOKIE].to_str().unwrap();
        let cookie = cookie.split(';').next().unwrap().to_owned();

        let guesses: Vec<_> = (0..60)
            .map(|n| tokio::spawn(sign_in(&format!("guess{n}"))))
            .collect();
        let waiting = || guesses.iter().filter(|one| !one.is_finished()).count();
        // 20 are answered at once, 32 wait, the others are refused. While this task is ready the clock stands.
        while waiting() > 32 {
            tokio::task::yield_now().await;
        }
        let begun = tokio::time::Instant::now();
        for (path, head, status) in [
            ("/", ("cookie", &*cookie), StatusCode::TEMPORARY_REDIRECT),
            ("/", ("cookie", "session=none"), StatusCode::SEE_OTHER),
            (
                "/api/none",
                ("authorization", "Bearer s3cret"),
                StatusCode::NOT_FOUND,
            ),
            (
                "/api/none",
                ("authorization", "Bearer wrong"),
                StatusCode::UNAUTHORIZED,
            ),
        ] {
            let answer = send(Method::GET, path, head, String::new()).await.unwrap();
            assert_eq!(answer.status(), status, "{path} {head:?}");
        }
        assert_eq!((waiting(), begun.elapsed()), (32, Duration::ZERO));
        assert_eq!(
            sign_in("s3cret").await.unwrap().status(),
            StatusCode::TOO_MANY_REQUESTS
        );
    }
}
