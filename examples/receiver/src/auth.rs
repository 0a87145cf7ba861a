//! The token: where it is looked for, and what is answered without it.

use crate::app::App;
use crate::config::Mode;
use crate::page;
use axum::extract::{Form, Query, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Redirect, Response};
use serde::Deserialize;
use std::collections::HashMap;
use std::hint::black_box;

const COOKIE: &str = "agentwatch_token";
/// A day, in seconds.
const COOKIE_AGE: u32 = 86_400;

/// Lets a request through that carries the token, or needs none.
pub async fn require(State(app): State<App>, request: Request, next: Next) -> Response {
    let path = request.uri().path();
    if app.mode == Mode::Strict && path.starts_with("/api/") && from_another_site(request.headers())
    {
        return (
            StatusCode::FORBIDDEN,
            axum::Json(serde_json::json!({"error": "Cross-site request refused"})),
        )
            .into_response();
    }
    let Some(token) = &app.token else {
        return next.run(request).await;
    };
    if is_open(path) {
        return next.run(request).await;
    }
    let query = query_of(request.uri());
    let given = given_token(&query, request.headers());
    let valid = given.is_some_and(|given| same(given.as_bytes(), token.as_bytes()));
    let is_page = !path.starts_with("/api/") && request.method() == Method::GET;
    match (valid, is_page) {
        // Out of the address bar, the history and the referrer, into a cookie no script can read.
        (true, true) if query.contains_key("token") => {
            with_cookie(token, Redirect::to(&without_token(request.uri(), &query)))
        }
        (true, _) => next.run(request).await,
        (false, true) => Redirect::to(&format!(
            "/login?{}",
            encoded(&[("next", &without_token(request.uri(), &query))])
        ))
        .into_response(),
        (false, false) => (
            StatusCode::UNAUTHORIZED,
            [(header::WWW_AUTHENTICATE, "Bearer")],
            axum::Json(serde_json::json!({"error": "Authentication required"})),
        )
            .into_response(),
    }
}

/// What the sign-in form needs and a monitor asks; nothing of it shows a record.
fn is_open(path: &str) -> bool {
    matches!(path, "/health" | "/healthz" | "/login" | "/favicon.ico")
        || path.starts_with("/assets/")
}

/// A page of another site may send requests to a loopback port; browsers say so.
fn from_another_site(headers: &HeaderMap) -> bool {
    headers
        .get("sec-fetch-site")
        .is_some_and(|site| site == "cross-site")
}

/// The first token found: query, `Authorization`, `X-AgentWatch-Token`, cookie.
fn given_token(query: &HashMap<String, String>, headers: &HeaderMap) -> Option<String> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    if let Some(token) = query.get("token").filter(|token| !token.is_empty()) {
        return Some(token.clone());
    }
    if let Some(token) = text("authorization").and_then(|value| value.strip_prefix("Bearer ")) {
        return Some(token.trim().to_owned());
    }
    if let Some(token) = text("x-agentwatch-token").filter(|token| !token.is_empty()) {
        return Some(token.trim().to_owned());
    }
    let cookies = headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok());
    cookies
        .flat_map(|line| line.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(name, _)| *name == COOKIE)
        .map(|(_, token)| token.to_owned())
}

/// Compares in a time that depends on the lengths alone.
fn same(given: &[u8], expected: &[u8]) -> bool {
    let difference = given
        .iter()
        .zip(expected)
        .fold(0, |all, (a, b)| black_box(all | (a ^ b)));
    given.len() == expected.len() && black_box(difference) == 0
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

/// Only an address of this server is a place to go on to.
fn local(next: &str) -> &str {
    let elsewhere = next.starts_with("//") || next.contains(['\\', '\r', '\n']);
    if next.starts_with('/') && !elsewhere {
        next
    } else {
        "/models"
    }
}

fn with_cookie(token: &str, response: impl IntoResponse) -> Response {
    let mut response = response.into_response();
    let cookie =
        format!("{COOKIE}={token}; Path=/; Max-Age={COOKIE_AGE}; HttpOnly; SameSite=Strict");
    if let Ok(value) = HeaderValue::from_str(&cookie) {
        response.headers_mut().insert(header::SET_COOKIE, value);
    }
    response
}

/// Where to go once signed in.
#[derive(Deserialize)]
pub struct Onward {
    next: Option<String>,
}

/// `GET /login`: the sign-in form.
pub async fn form(State(app): State<App>, Query(query): Query<Onward>) -> Response {
    if app.token.is_none() {
        return Redirect::to("/models").into_response();
    }
    page::sign_in(local(query.next.as_deref().unwrap_or("/models")), false).into_response()
}

/// What the sign-in form sends.
#[derive(Deserialize)]
pub struct SignIn {
    #[serde(default)]
    token: String,
    next: Option<String>,
}

/// `POST /login`: sets the cookie where the token is right.
pub async fn submit(State(app): State<App>, Form(sign_in): Form<SignIn>) -> Response {
    let next = local(sign_in.next.as_deref().unwrap_or("/models"));
    match &app.token {
        None => Redirect::to("/models").into_response(),
        Some(token) if same(sign_in.token.trim().as_bytes(), token.as_bytes()) => {
            with_cookie(token, Redirect::to(next))
        }
        Some(_) => (StatusCode::UNAUTHORIZED, page::sign_in(next, true)).into_response(),
    }
}

/// `GET /logout`: takes the cookie away.
pub async fn sign_out() -> Response {
    let cookie = format!("{COOKIE}=; Path=/; Max-Age=0; HttpOnly; SameSite=Strict");
    ([(header::SET_COOKIE, cookie)], Redirect::to("/login")).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_equal_only_as_a_whole() {
        assert!(same(b"secret", b"secret"));
        for wrong in ["", "secre", "secrets", "Secret", "secreT"] {
            assert!(!same(wrong.as_bytes(), b"secret"), "{wrong}");
        }
    }

    #[test]
    fn only_local_addresses_are_gone_on_to() {
        assert_eq!(local("/models?hours=1"), "/models?hours=1");
        for elsewhere in [
            "https://example.org",
            "//example.org",
            "/\\example.org",
            "models",
            "/a\r\nb",
        ] {
            assert_eq!(local(elsewhere), "/models", "{elsewhere}");
        }
    }
}
