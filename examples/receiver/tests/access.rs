//! Who gets in: tokens, sessions, and guesses.

use crate::support::{Answer, Server};
use serde_json::json;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");
const API: &str = "/api/model-stats";
const INGEST: &str = "/api/v1/ingest/model_usage";

fn sign_in(server: &Server, body: &str) -> Answer {
    server.send("POST", "/login", &[FORM], body.as_bytes())
}

/// The name and the value of the cookie that an answer sets.
fn cookie(answer: &Answer) -> String {
    let set = answer.header("set-cookie").unwrap();
    set.split(';').next().unwrap().to_owned()
}

#[test]
fn the_token_is_taken_in_three_ways_and_in_no_cookie() {
    for mode in [
        &["--token", "s3cret"][..],
        &["--token", "s3cret", "--stock"][..],
    ] {
        let server = Server::start(mode);
        let ask =
            |path: &str, headers: &[(&str, &str)]| server.send("GET", path, headers, b"").status;
        assert_eq!(ask(API, &[("authorization", "Bearer s3cret")]), 200);
        assert_eq!(ask(API, &[("x-agentwatch-token", "s3cret")]), 200);
        assert_eq!(ask("/api/model-stats?token=s3cret", &[]), 200);
        let record = json!({"model": "m"}).to_string();
        let with = [("authorization", "Bearer s3cret")];
        assert_eq!(
            server.send("POST", INGEST, &with, record.as_bytes()).status,
            200
        );

        for name in [
            "agentwatch_token",
            "agentwatch_session",
            &format!("agentwatch_session_{}", server.port()),
        ] {
            assert_eq!(
                ask(API, &[("cookie", &format!("other=1; {name}=s3cret"))]),
                401
            );
        }
        assert_eq!(ask(API, &[("authorization", "Bearer wrong")]), 401);
        assert_eq!(ask(API, &[("authorization", "s3cret")]), 401);
        assert_eq!(ask("/api/model-stats?token=s3cre", &[]), 401);
        let refused = server.post("model_usage", &json!({"model": "m"}));
        assert_eq!(
            (refused.status, refused.json()),
            (401, json!({"error": "Authentication required"}))
        );
        assert_eq!(refused.header("www-authenticate"), Some("Bearer"));
        assert_eq!(ask("/health", &[]), 200);
    }
}

#[test]
fn the_page_takes_the_token_out_of_the_address() {
    let server = Server::start(&["--token", "s3cret"]);
    let linked = server.get("/models?hours=6&token=s3cret");
    assert_eq!(
        (linked.status, linked.header("location")),
        (303, Some("/models?hours=6"))
    );
    let set = linked.header("set-cookie").unwrap();
    let name = format!("agentwatch_session_{}=", server.port());
    assert!(set.starts_with(&name) && !set.contains("s3cret"), "{set}");
    assert!(
        set.contains("; HttpOnly") && set.contains("; SameSite=Strict"),
        "{set}"
    );
    let stranger = server.get("/models?hours=6");
    assert_eq!(
        stranger.header("location"),
        Some("/login?next=%2Fmodels%3Fhours%3D6")
    );
    let signed_in = sign_in(&server, "token=s3cret&next=%2Fmodels%3Fhours%3D6");
    assert_eq!(
        (signed_in.status, signed_in.header("location")),
        (303, Some("/models?hours=6"))
    );
    assert_ne!(cookie(&signed_in), cookie(&linked), "each has its own");
    let wrong = sign_in(&server, "token=wrong&next=%2F%22%3E%3Cb%3E");
    assert!(wrong.status == 401 && wrong.text.contains("That is not the token"));
    assert!(wrong.header("set-cookie").is_none() && !wrong.text.contains("<b>"));
}

#[test]
fn signing_in_leads_to_no_other_site() {
    let server = Server::start(&["--token", "s3cret"]);
    for next in [
        "/%09/evil.com",
        "/%0a/evil.com",
        "/%0d%0a/evil.com",
        "//evil.com",
        "%2f%2fevil.com",
        "/%2fevil.com",
        "/%5cevil.com",
        "%5c%5cevil.com",
        "%09//evil.com",
        "https:evil.com",
        "https://evil.com/models",
        "/%20/evil.com",
        "/%c2%a0/evil.com",
        "/%e3%80%80/evil.com",
        "/%ef%bc%8f/evil.com",
        "/%e2%80%a8/evil.com",
        "/%00/evil.com",
        "/models/..//evil.com",
        "/.%09./evil.com",
        "/models%0d%0aset-cookie:%20a=b",
    ] {
        let signed_in = sign_in(&server, &format!("token=s3cret&next={next}"));
        let to = (signed_in.status, signed_in.header("location"));
        assert_eq!(to, (303, Some("/models")), "{next}");
        let form = server.get(&format!("/login?next={next}")).text;
        assert!(
            form.contains(r#"name="next" value="/models""#),
            "{next}: {form}"
        );
    }
    for path in ["//evil.com/", "//evil.com/models", "/models//evil.com"] {
        let sent = server.get(&format!("{path}?token=s3cret"));
        assert_eq!(sent.header("location"), Some("/models"), "{path}");
        let asked = server.get(path);
        assert_eq!(
            asked.header("location"),
            Some("/login?next=%2Fmodels"),
            "{path}"
        );
    }
}

#[test]
fn a_session_reads_and_writes_nothing() {
    for mode in [&[][..], &["--stock"]] {
        let server = Server::start(&[&["--token", "s3cret"], mode].concat());
        let cookie = cookie(&sign_in(&server, "token=s3cret"));
        let with = [("cookie", &*cookie)];
        let ask = |method: &str, path: &str| {
            server
                .send(method, path, &with, b"{\"model\":\"m\"}")
                .status
        };
        for path in ["/models", "/models/stats.json", API, "/api/logs"] {
            assert_eq!(ask("GET", path), 200, "{path}");
        }
        for endpoint in [
            "traces",
            "logs",
            "health",
            "costs",
            "metrics",
            "model_usage",
            "cron_run",
            "batch",
        ] {
            assert_eq!(
                ask("POST", &format!("/api/v1/ingest/{endpoint}")),
                401,
                "{endpoint}"
            );
        }
        for method in ["POST", "PUT", "DELETE", "PATCH"] {
            assert_eq!(ask(method, API), 401, "{method}");
        }
        // What opens other doors besides does not change that.
        let both = [("cookie", &*cookie), ("authorization", "Bearer wrong")];
        assert_eq!(server.send("GET", API, &both, b"").status, 401);
        let other = format!(
            "{}_1={}",
            "agentwatch_session",
            cookie.split_once('=').unwrap().1
        );
        assert_eq!(
            server.send("GET", API, &[("cookie", &other)], b"").status,
            401
        );
        let tossed = format!("{}=tossed; {cookie}", cookie.split_once('=').unwrap().0);
        assert_eq!(
            server.send("GET", API, &[("cookie", &tossed)], b"").status,
            200
        );

        let stats = server.send("GET", "/api/model-stats?token=s3cret", &[], b"");
        assert_eq!(stats.json(), json!([]), "nothing was stored");
    }
}

#[test]
fn signing_out_ends_the_session_and_only_this_one() {
    let server = Server::start(&["--token", "s3cret"]);
    let (mine, other) = (
        sign_in(&server, "token=s3cret"),
        sign_in(&server, "token=s3cret"),
    );
    let (mine, other) = (cookie(&mine), cookie(&other));
    let reads = |cookie: &str| server.send("GET", API, &[("cookie", cookie)], b"").status == 200;
    assert!(reads(&mine) && reads(&other));
    let page = server
        .send("GET", "/models", &[("cookie", &mine)], b"")
        .text;
    assert!(page.contains(r#"<form method="post" action="/logout"><button"#));

    // A link, an image and a form of another site end nothing.
    assert_eq!(
        server
            .send("GET", "/logout", &[("cookie", &mine)], b"")
            .status,
        405
    );
    let foreign = [("cookie", &*mine), ("origin", "https://evil.com")];
    assert_eq!(server.send("POST", "/logout", &foreign, b"").status, 403);
    let foreign = [
        ("cookie", &*mine),
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-mode", "navigate"),
        ("sec-fetch-dest", "document"),
    ];
    assert_eq!(server.send("POST", "/logout", &foreign, b"").status, 403);
    assert!(reads(&mine));

    let out = server.send("POST", "/logout", &[("cookie", &mine)], b"");
    assert_eq!((out.status, out.header("location")), (303, Some("/login")));
    assert!(out.header("set-cookie").unwrap().contains("Max-Age=0"));
    assert!(!reads(&mine), "whoever kept the cookie is out");
    assert!(reads(&other));
}

#[test]
fn receivers_on_one_host_have_cookies_of_their_own() {
    let servers = [0, 1].map(|_| Server::start(&["--token", "s3cret"]));
    let cookies = [0, 1].map(|index| cookie(&sign_in(&servers[index], "token=s3cret")));
    let name = |cookie: &str| cookie.split_once('=').unwrap().0.to_owned();
    assert_ne!(name(&cookies[0]), name(&cookies[1]));
    let both = cookies.join("; ");
    for server in &servers {
        assert_eq!(
            server.send("GET", API, &[("cookie", &both)], b"").status,
            200
        );
    }
}

#[test]
fn guesses_are_slowed_down_and_shut_nobody_out() {
    let server = Server::start(&["--token", "s3cret"]);
    let guess = |n: usize, door: usize| {
        let token = format!("guess{n}");
        match door {
            0 => sign_in(&server, &format!("token={token}")).status,
            1 => {
                server
                    .send(
                        "GET",
                        API,
                        &[("authorization", &format!("Bearer {token}"))],
                        b"",
                    )
                    .status
            }
            2 => server.get(&format!("{API}?token={token}")).status,
            _ => server.get(&format!("/models?token={token}")).status,
        }
    };
    let begun = Instant::now();
    let lasts = Duration::from_secs(2);
    let judged: usize = std::thread::scope(|scope| {
        let guessers: Vec<_> = (0..48)
            .map(|guesser| {
                scope.spawn(move || {
                    (0..)
                        .take_while(|_| begun.elapsed() < lasts)
                        .filter(|n| guess(guesser * 100_000 + n, guesser % 4) != 429)
                        .count()
                })
            })
            .collect();
        guessers.into_iter().map(|g| g.join().unwrap()).sum()
    });
    assert!(judged < 200, "{judged} guesses");
    // The owner waits for those that were waiting, and no longer.
    let begun = Instant::now();
    let bearer = [("authorization", "Bearer s3cret")];
    while server.send("GET", API, &bearer, b"").status != 200 {
        assert!(begun.elapsed() < Duration::from_secs(60));
        std::thread::sleep(Duration::from_millis(100));
    }
    while sign_in(&server, "token=s3cret").status != 303 {
        assert!(begun.elapsed() < Duration::from_secs(60));
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn each_client_has_places_to_listen() {
    let server = Server::start(&["--token", "s3cret"]);
    let listen = |cookie: &str| {
        let mut stream = TcpStream::connect(&server.address).unwrap();
        let head =
            format!("GET /models/events HTTP/1.1\r\nhost: localhost\r\ncookie: {cookie}\r\n\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        let mut status = [0; 12];
        stream.read_exact(&mut status).unwrap();
        (stream, String::from_utf8_lossy(&status).ends_with("200"))
    };
    let (one, other) = (
        cookie(&sign_in(&server, "token=s3cret")),
        cookie(&sign_in(&server, "token=s3cret")),
    );
    let held: Vec<_> = (0..40).map(|_| listen(&one)).collect();
    assert_eq!(held.iter().filter(|(_, listens)| *listens).count(), 32);
    assert!(listen(&other).1, "another client has its own");
    drop(held);
    let begun = Instant::now();
    while !listen(&one).1 {
        assert!(
            begun.elapsed() < Duration::from_secs(30),
            "places come back"
        );
        std::thread::sleep(Duration::from_millis(50));
    }
}
