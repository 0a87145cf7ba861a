//! Refuses requests that a page of another site causes.
//!
//! A browser lets any page send requests to a loopback port, and a name that an attacker's name server resolves to
//! 127.0.0.1 (DNS rebinding) lets the page read the answers too. Three headers reveal this, and no page can set them:
//! `Host` has the name, `Origin` and `Sec-Fetch-Site` the page's site. Programs send neither of the last two.

use crate::app::App;
use crate::authority::Authority;
use axum::Json;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde_json::json;
use std::net::IpAddr;

/// The host names under which requests are accepted.
pub struct Hosts {
    /// Whether it listens on loopback only.
    is_local: bool,
    /// Configured names, normalized like [`Authority`].
    allowed: Vec<String>,
}

impl Hosts {
    /// For a server that listens at `bound`.
    pub fn new(bound: IpAddr, allowed: Vec<String>) -> Self {
        Self {
            is_local: bound.to_canonical().is_loopback(),
            allowed,
        }
    }

    /// An IP address cannot be rebound, so a server beyond loopback accepts all addresses: a container uses that of its
    /// bridge.
    fn allows(&self, host: &Authority) -> bool {
        let is_address = host
            .ip()
            .is_some_and(|ip| !self.is_local || ip.is_loopback());
        is_address || host.name == "localhost" || self.is_configured(host)
    }

    fn is_configured(&self, host: &Authority) -> bool {
        self.allowed.contains(&host.name)
    }
}

/// Why a request is refused.
#[derive(Debug, PartialEq, Eq)]
enum Refusal {
    /// `Host` is missing, repeated or invalid.
    NoHost,
    /// The name is not one of this server's.
    UnknownHost(String),
    /// The request comes from a page of another site.
    OtherSite,
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let (status, error) = match self {
            Self::NoHost => (
                StatusCode::BAD_REQUEST,
                "a request needs exactly one Host header with a host and its port".to_owned(),
            ),
            Self::UnknownHost(name) => (
                StatusCode::FORBIDDEN,
                format!(
                    "Host {name:?} is not a name of this receiver: ask for its IP address, or start it with \
                     --allow-host {name}"
                ),
            ),
            Self::OtherSite => (
                StatusCode::FORBIDDEN,
                "Cross-site request refused".to_owned(),
            ),
        };
        (status, Json(json!({"error": error}))).into_response()
    }
}

/// Middleware before all routes.
pub async fn check(State(app): State<App>, request: Request, next: Next) -> Response {
    match judge(&app.hosts, &request) {
        Ok(()) => next.run(request).await,
        Err(refusal) => refusal.into_response(),
    }
}

fn judge<B>(hosts: &Hosts, request: &axum::http::Request<B>) -> Result<(), Refusal> {
    let headers = request.headers();
    let host = only(headers, header::HOST.as_str())
        .and_then(Authority::parse)
        .ok_or(Refusal::NoHost)?;
    let mut named = vec![host.clone()];
    // `GET http://name/path`, as clients send it to proxies.
    if let Some(target) = request.uri().authority() {
        named.push(Authority::parse(target.as_str()).ok_or(Refusal::NoHost)?);
    }
    if let Some(stranger) = named.into_iter().find(|name| !hosts.allows(name)) {
        return Err(Refusal::UnknownHost(stranger.name));
    }
    if headers.contains_key(header::ORIGIN) {
        let origin = only(headers, header::ORIGIN.as_str()).and_then(origin_of);
        if !origin.is_some_and(|origin| is_own(hosts, &origin, &host)) {
            return Err(Refusal::OtherSite);
        }
    }
    let is_own_site = |site: &axum::http::HeaderValue| site == "same-origin" || site == "none";
    if !headers.get_all("sec-fetch-site").iter().all(is_own_site) && !opens_a_page(request) {
        return Err(Refusal::OtherSite);
    }
    Ok(())
}

/// Whether this is a link on another site, in a chat for example, to a page. That site gets nothing: it can neither
/// read nor frame the page, and the browser omits the session's cookie, which is `SameSite=Strict`.
fn opens_a_page<B>(request: &axum::http::Request<B>) -> bool {
    let is = |name, value| only(request.headers(), name) == Some(value);
    let is_page = matches!(request.uri().path(), "/" | "/models" | "/login");
    is_page
        && request.method() == Method::GET
        && is("sec-fetch-mode", "navigate")
        && is("sec-fetch-dest", "document")
}

/// A header's value, if the header is present once.
fn only<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?.to_str().ok()?;
    values.next().is_none().then_some(value)
}

/// An origin's scheme and authority. `null` has none: files, and sandboxed frames.
fn origin_of(text: &str) -> Option<(u16, Authority)> {
    let (port, authority) = match text.split_once("://")? {
        ("http", rest) => (80, rest),
        ("https", rest) => (443, rest),
        _ => return None,
    };
    Some((port, Authority::parse(authority)?))
}

/// Whether an origin is this server. Behind a proxy that ends TLS, `Host` may be the proxy's own name for this server;
/// then the origin must be a configured name, at the default port of its scheme.
fn is_own(hosts: &Hosts, (usual, origin): &(u16, Authority), host: &Authority) -> bool {
    let port = origin.port.unwrap_or(*usual);
    let is_same = origin.name == host.name && port == host.port.unwrap_or(*usual);
    is_same || (hosts.is_configured(origin) && port == *usual)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;
    use std::net::Ipv4Addr;

    const HOST: &str = "127.0.0.1:8470";

    fn local() -> Hosts {
        Hosts::new(Ipv4Addr::LOCALHOST.into(), vec!["aw.example.com".into()])
    }

    fn open() -> Hosts {
        Hosts::new(Ipv4Addr::UNSPECIFIED.into(), vec!["aw.example.com".into()])
    }

    fn asked(hosts: &Hosts, method: &str, path: &str, headers: &[(&str, &str)]) -> u16 {
        let mut request = axum::http::Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        match judge(hosts, &request.body(()).unwrap()) {
            Ok(()) => 200,
            Err(refusal) => refusal.into_response().status().as_u16(),
        }
    }

    #[test]
    fn only_own_host_names_are_accepted() {
        let name = |hosts: &Hosts, host: &str| asked(hosts, "GET", "/api/logs", &[("host", host)]);
        for own in [
            "127.0.0.1",
            "127.0.0.1:8470",
            "127.8.9.10:1",
            "localhost",
            "LocalHost:8470",
            "localhost.:8470",
            "[::1]:8470",
            "[0:0:0:0:0:0:0:1]",
            "[::ffff:127.0.0.1]:8470",
            "aw.example.com",
            "AW.example.com.:443",
        ] {
            assert_eq!(name(&local(), own), 200, "{own}");
            assert_eq!(name(&open(), own), 200, "{own}");
        }
        for address in ["172.17.0.1:8470", "0.0.0.0:8470", "[2001:db8::1]:8470"] {
            assert_eq!(name(&local(), address), 403, "{address}");
            assert_eq!(name(&open(), address), 200, "{address}");
        }
        for foreign in [
            "evil.com",
            "evil.com.",
            "localhost.evil.com:8470",
            "127.0.0.1.nip.io:8470",
            "evil-localhost",
            "xlocalhost",
            "localhost.localdomain",
            "a.localhost",
            "127.1",
            "0x7f000001",
            "2130706433",
            "127.0.0.1.evil.com",
            "x.aw.example.com",
            "aw.example.com.evil.com",
        ] {
            assert_eq!(name(&local(), foreign), 403, "{foreign}");
            assert_eq!(name(&open(), foreign), 403, "{foreign}");
        }
        for unreadable in [
            "",
            "localhost@evil.com",
            "evil.com@localhost",
            "localhost/evil.com",
            "localhost, evil.com",
            "[::1%25lo]",
            "::1",
            "localhost:http",
        ] {
            assert_eq!(name(&local(), unreadable), 400, "{unreadable}");
        }
    }

    #[test]
    fn a_request_names_one_host() {
        assert_eq!(asked(&local(), "GET", "/health", &[]), 400);
        let two = [("host", "localhost"), ("host", "localhost")];
        assert_eq!(asked(&local(), "GET", "/health", &two), 400);
        let other = [("host", "localhost"), ("host", "evil.com")];
        assert_eq!(asked(&local(), "GET", "/health", &other), 400);
        let host = [("host", HOST)];
        assert_eq!(asked(&local(), "GET", "http://evil.com/health", &host), 403);
        assert_eq!(
            asked(&local(), "GET", "http://127.0.0.1/health", &host),
            200
        );
    }

    #[test]
    fn a_foreign_origin_is_refused_at_every_address() {
        let from = |host: &str, origin: &str| {
            let headers = [("host", host), ("origin", origin)];
            let answers = ["GET", "POST", "OPTIONS", "DELETE"]
                .map(|method| asked(&local(), method, "/api/v1/ingest/batch", &headers));
            assert!(answers.iter().all(|answer| *answer == answers[0]));
            answers[0]
        };
        for (host, origin) in [
            (HOST, "http://127.0.0.1:8470"),
            ("localhost:8470", "http://LOCALHOST:8470"),
            ("localhost", "http://localhost"),
            ("localhost:80", "http://localhost"),
            ("[::1]:8470", "http://[0::1]:8470"),
            ("aw.example.com", "https://aw.example.com"),
            // A proxy with its own name for this server.
            (HOST, "https://aw.example.com"),
        ] {
            assert_eq!(from(host, origin), 200, "{origin} at {host}");
        }
        for origin in [
            "null",
            "",
            "http://evil.com",
            "http://127.0.0.1:3000",
            "http://127.0.0.1",
            "http://localhost:8470",
            "http://127.0.0.1:8470.evil.com",
            "http://127.0.0.1:8470@evil.com",
            "http://127.0.0.1:8470/",
            "http://127.0.0.1:8470 http://evil.com",
            "https://127.0.0.1",
            "file://127.0.0.1:8470",
            "chrome-extension://127.0.0.1:8470",
            "127.0.0.1:8470",
            "//127.0.0.1:8470",
            "https://aw.example.com:9999",
            "https://aw.example.com.evil.com",
        ] {
            assert_eq!(from(HOST, origin), 403, "{origin:?}");
        }
        let own = ("origin", "http://127.0.0.1:8470");
        let two = [("host", HOST), own, ("origin", "http://evil.com")];
        assert_eq!(asked(&local(), "POST", "/login", &two), 403);
        let mapped = [("host", HOST), ("origin", "http://evil.com")];
        assert_eq!(asked(&open(), "POST", "/login", &mapped), 403);
    }

    #[test]
    fn other_sites_may_only_link_to_pages() {
        let ask = |method: &str, path: &str, site: &str, mode: &str, dest: &str| {
            let headers = [
                ("host", HOST),
                ("sec-fetch-site", site),
                ("sec-fetch-mode", mode),
                ("sec-fetch-dest", dest),
            ];
            asked(&local(), method, path, &headers)
        };
        for site in ["same-origin", "none"] {
            assert_eq!(ask("GET", "/api/logs", site, "cors", "empty"), 200);
            assert_eq!(ask("POST", "/logout", site, "navigate", "document"), 200);
        }
        for site in ["cross-site", "same-site", "", "Same-Origin", "none, none"] {
            for page in [
                "/",
                "/models",
                "/models?hours=1&token=x",
                "/login?next=/models",
            ] {
                assert_eq!(
                    ask("GET", page, site, "navigate", "document"),
                    200,
                    "{page}"
                );
                assert_eq!(ask("POST", page, site, "navigate", "document"), 403);
                assert_eq!(ask("GET", page, site, "navigate", "iframe"), 403);
                assert_eq!(ask("GET", page, site, "no-cors", "image"), 403);
                assert_eq!(ask("GET", page, site, "cors", "empty"), 403);
            }
            for path in [
                "/api/logs",
                "/models/events",
                "/models/calls.csv",
                "/models/focus.csv",
                "/metrics",
                "/models/",
                "/logout",
                "/assets/models.js",
                "/health",
            ] {
                assert_eq!(
                    ask("GET", path, site, "navigate", "document"),
                    403,
                    "{path}"
                );
            }
        }
        let alone = [("host", HOST), ("sec-fetch-site", "cross-site")];
        assert_eq!(asked(&local(), "GET", "/models", &alone), 403);
        let two = [
            ("host", HOST),
            ("sec-fetch-site", "same-origin"),
            ("sec-fetch-site", "cross-site"),
        ];
        assert_eq!(asked(&local(), "GET", "/api/logs", &two), 403);
        // Node's fetch sends `Sec-Fetch-Mode` only.
        let node = [("host", HOST), ("sec-fetch-mode", "cors")];
        assert_eq!(asked(&local(), "POST", "/api/v1/ingest/batch", &node), 200);
    }
}
