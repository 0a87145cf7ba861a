//! Answers of AgentWatch 0.1.0's web framework outside its routes.

use crate::app::App;
use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use tower::ServiceExt;

/// No route has this method, so an existing route answers 405.
const NOBODYS: Method = Method::TRACE;

/// Makes routes answer as in Starlette: they have no `HEAD`, and an address with an extra slash is redirected to the
/// one without it.
pub fn like_starlette(routes: Router<App>, app: &App) -> Router<App> {
    let routes = routes.with_state(app.clone());
    Router::new().fallback(move |request: Request| answer(routes.clone(), request))
}

async fn answer(routes: Router, mut request: Request) -> Response {
    if request.method() == Method::HEAD {
        *request.method_mut() = NOBODYS;
    }
    let shorter = without_slash(&request);
    let Ok(mut response) = routes.clone().oneshot(request).await;
    // In Starlette each method is a separate route, and the first one of the address answers.
    if let Some(allow) = response.headers_mut().get_mut(header::ALLOW)
        && let Some(first) = allow.to_str().ok().and_then(|all| all.split(',').next())
        && let Ok(first) = HeaderValue::from_str(first)
    {
        *allow = first;
    }
    match shorter {
        Some((path, location))
            if response.status() == StatusCode::NOT_FOUND && is_known(routes, &path).await =>
        {
            let location = [(header::LOCATION, location)];
            (StatusCode::TEMPORARY_REDIRECT, location).into_response()
        }
        _ => response,
    }
}

/// The path without final slashes, and the whole address with it.
fn without_slash(request: &Request) -> Option<(String, String)> {
    let path = request.uri().path();
    let shorter = path.trim_end_matches('/');
    if shorter == path {
        return None;
    }
    let host = request.headers().get(header::HOST)?.to_str().ok()?;
    let query = request.uri().query();
    let query = query.map(|query| format!("?{query}")).unwrap_or_default();
    Some((shorter.to_owned(), format!("http://{host}{shorter}{query}")))
}

async fn is_known(known: Router, path: &str) -> bool {
    let Ok(uri) = path.parse::<Uri>() else {
        return false;
    };
    let mut probe = Request::new(Body::empty());
    *probe.uri_mut() = uri;
    *probe.method_mut() = NOBODYS;
    let Ok(answer) = known.oneshot(probe).await;
    answer.status() == StatusCode::METHOD_NOT_ALLOWED
}
