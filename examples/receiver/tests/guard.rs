//! What pages of other sites may not do.

use crate::support::Server;
use serde_json::json;
use std::io::{Read, Write};
use std::net::TcpStream;

const API: &str = "/api/model-stats";
const INGEST: &str = "/api/v1/ingest/model_usage";

/// Sends lines as they are, and gives the status.
fn raw(server: &Server, text: &str) -> u16 {
    let mut stream = TcpStream::connect(&server.address).unwrap();
    stream.write_all(text.as_bytes()).unwrap();
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    answer
        .split(' ')
        .nth(1)
        .unwrap_or_else(|| panic!("{answer:?}"))
        .parse()
        .unwrap()
}

#[test]
fn the_guard_stands_before_everything() {
    let record = r#"{"model":"m"}"#;
    for args in [
        &[][..],
        &["--stock"],
        &["--token", "s3cret"],
        &["--token", "s3cret", "--stock"],
    ] {
        let server = Server::start(args);
        let paths = [
            "/",
            "/models",
            "/models/events",
            "/models/stats.csv",
            "/assets/models.js",
            "/login",
            "/logout",
            "/health",
            "/nothing",
            API,
            INGEST,
            "/api/v1/ingest/batch",
        ];
        for path in paths {
            for method in ["GET", "POST", "HEAD", "OPTIONS", "PUT"] {
                let ask = |host: &str, more: &str| {
                    let length = record.len();
                    raw(
                        &server,
                        &format!(
                            "{method} {path} HTTP/1.1\r\n{host}connection: close\r\n{more}content-length: {length}\r\nauthorization: Bearer s3cret\r\n\r\n{record}"
                        ),
                    )
                };
                let own = format!("host: {}\r\n", server.address);
                for (host, more, status) in [
                    ("host: evil.com\r\n", "", 403),
                    ("host: localhost.evil.com\r\n", "", 403),
                    ("host: 127.0.0.1.nip.io:8470\r\n", "", 403),
                    ("host: 192.168.1.7\r\n", "", 403),
                    ("", "", 400),
                    ("host: localhost\r\nhost: evil.com\r\n", "", 400),
                    (&own, "origin: http://evil.com\r\n", 403),
                    (&own, "origin: null\r\n", 403),
                    (&own, "origin: http://localhost:3000\r\n", 403),
                    (&own, "sec-fetch-site: same-site\r\n", 403),
                    (
                        &own,
                        "sec-fetch-site: cross-site\r\nsec-fetch-mode: no-cors\r\n",
                        403,
                    ),
                ] {
                    let answer = ask(host, more);
                    // A stranger learns nothing of what is there.
                    assert_eq!(answer, status, "{method} {path} {host}{more}");
                }
            }
        }
        let preflight = "origin: https://evil.com\r\naccess-control-request-method: POST\r\naccess-control-request-headers: content-type\r\n";
        let head = format!(
            "OPTIONS {INGEST} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{preflight}\r\n"
        );
        let mut stream = TcpStream::connect(&server.address).unwrap();
        stream.write_all(head.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(
            answer.starts_with("HTTP/1.1 403")
                && !answer.to_lowercase().contains("access-control-"),
            "{answer}"
        );
        let stored = server.send("GET", API, &[("authorization", "Bearer s3cret")], b"");
        assert_eq!(stored.json(), json!([]));
    }
}

#[test]
fn programs_and_own_pages_and_links_get_through() {
    let server = Server::start(&["--allow-host", "aw.example.com"]);
    let post = |headers: &[(&str, &str)]| {
        server
            .send("POST", INGEST, headers, br#"{"model":"m"}"#)
            .status
    };
    assert_eq!(post(&[]), 200);
    assert_eq!(
        post(&[("sec-fetch-mode", "cors"), ("user-agent", "node")]),
        200,
        "Node's fetch"
    );
    let origin = format!("http://{}", server.address);
    assert_eq!(
        post(&[("origin", &origin), ("sec-fetch-site", "same-origin")]),
        200
    );
    for host in [
        "localhost",
        "LOCALHOST.:1",
        "[::1]:8470",
        "aw.example.com",
        "127.0.0.1",
    ] {
        assert_eq!(
            raw(
                &server,
                &format!("GET /health HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n")
            ),
            200,
            "{host}"
        );
    }
    let link = [
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-mode", "navigate"),
        ("sec-fetch-dest", "document"),
    ];
    assert_eq!(
        server.send("GET", "/models?hours=6", &link, b"").status,
        200
    );
    assert_eq!(server.send("GET", API, &link, b"").status, 403);
    let page = server.get("/models");
    assert_eq!(
        page.header("cross-origin-resource-policy"),
        Some("same-origin")
    );
    // With `no-referrer` browsers call the origin of our own forms `null`.
    assert_eq!(page.header("referrer-policy"), Some("same-origin"));
}

#[test]
fn a_container_asks_by_the_address_of_its_bridge() {
    let server = Server::start(&["--host", "0.0.0.0", "--token", "s3cret"]);
    let address = format!("127.0.0.1:{}", server.port());
    let ask = |host: &str| {
        let mut stream = TcpStream::connect(&address).unwrap();
        let head = format!("GET /health HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    for host in [
        "172.17.0.1:8470",
        "0.0.0.0:8470",
        "[fe80::1]:8470",
        "localhost:8470",
    ] {
        assert!(ask(host).starts_with("HTTP/1.1 200"), "{host}");
    }
    let refused = ask("receiver.evil.com:8470");
    assert!(
        refused.starts_with("HTTP/1.1 403") && refused.contains("--allow-host receiver.evil.com"),
        "{refused}"
    );
}
