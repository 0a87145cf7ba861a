//! Authentication: the token and the session, where requests carry them, and what is answered without them.
//!
//! The token permits everything. A session, whose id a browser has in a cookie, permits reading and signing out, but no
//! writing.

use crate::app::App;
use crate::client::Client;
use crate::config::Mode;
use crate::error::ApiError;
use crate::page;
use crate::sessions::LIFETIME;
use crate::throttle::{Door, RETRY_AFTER, TooMany};
use axum::extract::rejection::FormRejection;
use axum::extract::{Extension, Form, Query, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Redirect, Response};
use serde::Deserialize;
use std::collections::HashMap;
use std::time::Instant;
use subtle::ConstantTimeEq;

/// Access of a request.
enum Access {
    /// Full access, by the token.
    Full,
    /// Read access, by the cookie of this session.
    Session(u64),
    /// No access.
    None,
}

/// Admits requests with the token, requests with a session where reading is enough, and requests that need neither.
pub async fn require(State(app): State<App>, mut request: Request, next: Next) -> Response {
    let path = request.uri().path();
    if app.token.is_none() || is_open(path, app.mode) {
        return next.run(request).await;
    }
    let query = query_of(request.uri());
    // Prometheus is a program as well: it wants an answer, no form.
    let is_api = path.starts_with("/api/") || path == "/metrics";
    // AgentWatch shows the sign-in form for every request of a page.
    let is_page = !is_api && (request.method() == Method::GET || app.mode == Mode::Stock);
    let door = if is_api { Door::Api } else { Door::Form };
    let given = given_token(&query, request.headers());
    let session = session_of(&app, request.headers());
    let client = request.extensions().get().copied();
    let access = match given {
        // A token in the request decides, whether right or wrong; without one the session does.
        Some(given) => is_token(&app, client, door, &given).await.map(|is_right| {
            if is_right { Access::Full } else { Access::None }
        }),
        None => Ok(session.map_or(Access::None, Access::Session)),
    };
    match access {
        Err(TooMany) => too_many(),
        // Moves the token from the address bar, the history and the referrer into a cookie that no script can read.
        Ok(Access::Full) if is_page && query.contains_key("token") => {
            let onward = without_token(request.uri(), &query);
            signed_in(&app, redirect(app.mode, &onward))
        }
        Ok(Access::Full) => next.run(request).await,
        Ok(Access::Session(number)) if request.method().is_safe() => {
            request.extensions_mut().insert(Client::Session(number));
            next.run(request).await
        }
        Ok(_) if is_page => {
            let onward = match app.mode {
                Mode::Strict => encoded(&[("next", &without_token(request.uri(), &query))]),
                Mode::Stock => format!("next={path}"),
            };
            redirect(app.mode, &format!("/login?{onward}"))
        }
        Ok(_) => (
            StatusCode::UNAUTHORIZED,
            [(header::WWW_AUTHENTICATE, "Bearer")],
            axum::Json(serde_json::json!({"error": "Authentication required"})),
        )
            .into_response(),
    }
}

/// Paths that the sign-in form and monitors need; they show no records.
fn is_open(path: &str, mode: Mode) -> bool {
    let is_stock = mode == Mode::Stock;
    matches!(
        path,
        "/health" | "/healthz" | "/login" | "/logout" | "/favicon.ico"
    ) || path.starts_with("/assets/")
        || (is_stock
            && ["/metrics", "/health"]
                .iter()
                .any(|open| is_at_or_below(path, open)))
}

fn is_at_or_below(path: &str, folder: &str) -> bool {
    path.strip_prefix(folder)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Whether this is the token. Guesses are slowed down.
async fn is_token(
    app: &App,
    client: Option<Client>,
    door: Door,
    given: &str,
) -> Result<bool, TooMany> {
    let is_right = || {
        let token = app.token.as_deref().unwrap_or_default();
        given.as_bytes().ct_eq(token.as_bytes()).into()
    };
    app.throttle.judge(client, door, is_right).await
}

/// The first token found: query, `Authorization`, `X-AgentWatch-Token`.
fn given_token(query: &HashMap<String, String>, headers: &HeaderMap) -> Option<String> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    if let Some(token) = query.get("token").filter(|token| !token.is_empty()) {
        return Some(token.clone());
    }
    if let Some(token) = text("authorization").and_then(|value| value.strip_prefix("Bearer ")) {
        return Some(token.trim().to_owned());
    }
    text("x-agentwatch-token")
        .filter(|token| !token.is_empty())
        .map(|token| token.trim().to_owned())
}

/// The session of a request's cookie. Another server on this host may have set a cookie of the same name.
fn session_of(app: &App, headers: &HeaderMap) -> Option<u64> {
    let now = Instant::now();
    let cookies = headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok());
    cookies
        .flat_map(|line| line.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .filter(|(name, _)| *name == &*app.cookie)
        .find_map(|(_, id)| app.sessions.find(id, now))
}

fn query_of(uri: &Uri) -> HashMap<String, String> {
    Query::try_from_uri(uri)
        .map(|Query(map)| map)
        .unwrap_or_default()
}

fn without_token(uri: &Uri, query: &HashMap<String, String>) -> String {
    let mut kept: Vec<(&str, &str)> = query
        .iter()
        .filter(|(name, _)| *name != "token")
        .map(|(n, v)| (n.as_str(), v.as_str()))
        .collect();
    kept.sort_unstable();
    let path = local(uri.path());
    if kept.is_empty() {
        path.to_owned()
    } else {
        format!("{path}?{}", encoded(&kept))
    }
}

fn encoded(pairs: &[(&str, &str)]) -> String {
    let escape = |text: &str| {
        text.bytes().fold(String::new(), |mut out, byte| {
            if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
                out.push(char::from(byte));
            } else {
                out.push_str(&format!("%{byte:02X}"));
            }
            out
        })
    };
    pairs
        .iter()
        .map(|(name, value)| format!("{}={}", escape(name), escape(value)))
        .collect::<Vec<_>>()
        .join("&")
}

/// Accepts only this server's pages as a target after signing in. They are listed, since browsers resolve `//host`,
/// `/\\host` and `/<tab>/host` to another site.
fn local(next: &str) -> &str {
    let (path, query) = next.split_once('?').unwrap_or((next, ""));
    let is_file = |file: &str| {
        let is_plain = |b: u8| b.is_ascii_alphanumeric() || b == b'.';
        file.starts_with(|first: char| first.is_ascii_alphanumeric()) && file.bytes().all(is_plain)
    };
    let is_page =
        matches!(path, "/" | "/models") || path.strip_prefix("/models/").is_some_and(is_file);
    if is_page && query.bytes().all(|b| b.is_ascii_graphic()) {
        next
    } else {
        "/models"
    }
}

/// A redirection that the client follows by GET, with the status code of the emulated server.
fn redirect(mode: Mode, to: &str) -> Response {
    match mode {
        Mode::Strict => Redirect::to(to).into_response(),
        Mode::Stock => (StatusCode::FOUND, [(header::LOCATION, to)]).into_response(),
    }
}

/// Opens a session and sets its cookie.
fn signed_in(app: &App, mut response: Response) -> Response {
    let id = match app.sessions.open(Instant::now()) {
        Ok(id) => id,
        Err(error) => {
            return ApiError::Store(format!("no random numbers: {error}")).into_response();
        }
    };
    set_cookie(app, &mut response, &id, LIFETIME.as_secs());
    response
}

fn set_cookie(app: &App, response: &mut Response, value: &str, age: u64) {
    let name = &app.cookie;
    let cookie = format!("{name}={value}; Path=/; Max-Age={age}; HttpOnly; SameSite=Strict");
    if let Ok(value) = HeaderValue::from_str(&cookie) {
        response.headers_mut().insert(header::SET_COOKIE, value);
    }
}

fn too_many() -> Response {
    let seconds = RETRY_AFTER.as_secs();
    let error = format!("Too many wrong tokens from this address: try again in {seconds} s");
    (
        StatusCode::TOO_MANY_REQUESTS,
        [(header::RETRY_AFTER, seconds.to_string())],
        axum::Json(serde_json::json!({"error": error})),
    )
        .into_response()
}

/// The target page after signing in.
#[derive(Deserialize)]
pub struct Onward {
    next: Option<String>,
}

/// `GET /login`: the sign-in form.
pub async fn form(State(app): State<App>, Query(query): Query<Onward>) -> Response {
    if app.token.is_none() {
        return match app.mode {
            Mode::Strict => Redirect::to("/models"),
            Mode::Stock => Redirect::temporary("/"),
        }
        .into_response();
    }
    page::sign_in(local(query.next.as_deref().unwrap_or("/models")), None).into_response()
}

/// Fields of the sign-in form.
#[derive(Default, Deserialize)]
pub struct SignIn {
    #[serde(default)]
    token: String,
    next: Option<String>,
}

/// `POST /login`: opens a session if the token is right.
pub async fn submit(
    State(app): State<App>,
    client: Option<Extension<Client>>,
    form: Result<Form<SignIn>, FormRejection>,
) -> Response {
    let sign_in = match form {
        Ok(Form(sign_in)) => sign_in,
        // AgentWatch treats an invalid form as an empty one.
        Err(_) if app.mode == Mode::Stock => SignIn::default(),
        Err(rejection) => return rejection.into_response(),
    };
    let first = match app.mode {
        Mode::Strict => "/models",
        Mode::Stock => "/",
    };
    let next = local(sign_in.next.as_deref().unwrap_or(first));
    if app.token.is_none() {
        return redirect(app.mode, "/");
    }
    let client = client.map(|Extension(client)| client);
    match is_token(&app, client, Door::Form, sign_in.token.trim()).await {
        Ok(true) => signed_in(&app, redirect(app.mode, next)),
        Ok(false) => {
            let form = page::sign_in(next, Some("That is not the token."));
            (StatusCode::UNAUTHORIZED, form).into_response()
        }
        Err(TooMany) => {
            let form = page::sign_in(
                next,
                Some("Too many wrong tokens. Try again in some seconds."),
            );
            let mut response = too_many();
            let (head, body) = form.into_response().into_parts();
            response.headers_mut().extend(head.headers);
            *response.body_mut() = body;
            response
        }
    }
}

/// `POST /logout` (AgentWatch: `GET`): ends the session and deletes the cookie. The guard has refused requests from
/// other sites, and browsers omit the cookie in them.
pub async fn sign_out(State(app): State<App>, headers: HeaderMap) -> Response {
    if let Some(number) = session_of(&app, &headers) {
        app.sessions.end(number, Instant::now());
    }
    let mut response = redirect(app.mode, "/login");
    set_cookie(&app, &mut response, "", 0);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sign_in_redirects_only_to_pages_of_this_server() {
        for page in [
            "/",
            "/models",
            "/models?hours=1&model=a%2Fb",
            "/models/calls.csv?hours=1",
            "/models?next=//example.org",
        ] {
            assert_eq!(local(page), page);
        }
        for elsewhere in [
            "",
            "models",
            "https://example.org",
            "https:/models",
            "javascript:alert(1)",
            "//example.org",
            "///example.org",
            "//models",
            "/\\example.org",
            "\\\\example.org",
            "\\/models",
            "/\t/example.org",
            "\t//example.org",
            " //example.org",
            "/ /example.org",
            "/\r\n/example.org",
            "/\u{a0}/example.org",
            "/\u{2028}/example.org",
            "/\u{feff}/example.org",
            "/\u{3000}/example.org",
            "/\0/example.org",
            "/\u{ff0f}example.org",
            "/%09/example.org",
            "/%2fexample.org",
            "/%5cexample.org",
            "/.//example.org",
            "/..//example.org",
            "/models//example.org",
            "/models/..",
            "/models/..//example.org",
            "/models/%2e%2e/",
            "/models@example.org",
            "/models\\..",
            "/models.example.org",
            "/models?a\r\nset-cookie: a=b",
            "/models?a=\tb",
            "/models?\u{e4}",
            "/login?next=//example.org",
            "/logout",
            "/api/logs",
        ] {
            assert_eq!(local(elsewhere), "/models", "{elsewhere:?}");
        }
    }
}
