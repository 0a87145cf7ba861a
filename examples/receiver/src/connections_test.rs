#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use super::*;
use axum::body::{Bytes, to_bytes};
use axum::routing::{get, post};
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinHandle;

/// Longer than any test waits.
const EVER: Duration = Duration::from_secs(600);
const LIMITS: Limits = Limits {
    connections: 8,
    head: EVER,
    stall: EVER,
    body: EVER,
};

struct Server {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    served: JoinHandle<()>,
    /// Lets a request to `/work` be answered.
    release: Arc<Notify>,
    /// Notified of each request that `/work` begins.
    begun: Arc<Notify>,
}

async fn server(limits: Limits) -> Server {
    let (release, begun) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (released, begins) = (Arc::clone(&release), Arc::clone(&begun));
    let router = Router::new()
        .route("/", get(|| async { "here" }))
        .route(
            "/work",
            get(|| async move {
                begins.notify_one();
                released.notified().await;
                "done"
            }),
        )
        .route("/endless", get(|| async { endless() }))
        .route(
            "/body",
            post(|body: Body| async {
                let body = to_bytes(body, usize::MAX).await;
                body.map_or("broke off".to_owned(), |bytes| bytes.len().to_string())
            }),
        );
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopping) = watch::channel(false);
    let served = tokio::spawn(serve(listener, router, limits, stopping));
    Server {
        address,
        stop,
        served,
        release,
        begun,
    }
}

fn endless() -> Body {
    let chunk = Bytes::from(vec![b'x'; 64 * 1024]);
    let chunks = tokio_stream::iter(std::iter::repeat(chunk));
    Body::from_stream(tokio_stream::StreamExt::map(
        chunks,
        Ok::<_, std::io::Error>,
    ))
}

impl Server {
    async fn open(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    async fn ask(&self, path: &str) -> TcpStream {
        let mut stream = self.open().await;
        send(
            &mut stream,
            &format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n"),
        )
        .await;
        stream
    }
}

async fn send(stream: &mut TcpStream, text: &str) {
    stream.write_all(text.as_bytes()).await.unwrap();
}

/// Reads until `end` has come.
async fn answered(stream: &mut TcpStream, end: &str) -> bool {
    let mut read = Vec::new();
    while !String::from_utf8_lossy(&read).ends_with(end) {
        if matches!(stream.read_buf(&mut read).await, Ok(0) | Err(_)) {
            return false;
        }
    }
    true
}

/// Whether the server ends the connection, which has to come soon.
async fn is_closed(stream: &mut TcpStream) -> bool {
    let mut rest = Vec::new();
    let read = stream.read_to_end(&mut rest);
    tokio::time::timeout(EVER / 10, read).await.is_ok()
}

fn is_open(stream: &TcpStream) -> bool {
    let read = stream.try_read(&mut [0]);
    read.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
}

#[tokio::test]
async fn a_request_is_served_though_others_hold_connections() {
    let server = server(LIMITS).await;
    let mut held = Vec::new();
    for index in 0..60 {
        let mut stream = server.open().await;
        match index % 4 {
            0 => {}
            1 => send(&mut stream, "GET / HTTP/1.1\r\nhost:").await,
            2 => {
                send(
                    &mut stream,
                    "POST /body HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n1",
                )
                .await
            }
            _ => {
                send(&mut stream, "GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
                assert!(answered(&mut stream, "here").await, "then it is kept alive");
            }
        }
        held.push(stream);
        let mut asked = server.ask("/").await;
        assert!(answered(&mut asked, "here").await, "{index}");
    }
    for stream in &mut held[..40] {
        assert!(is_closed(stream).await);
    }
    assert!(is_open(held.last().unwrap()));
}

#[tokio::test]
async fn a_connection_with_an_unread_answer_is_closed_first() {
    let server = server(LIMITS).await;
    let mut held = Vec::new();
    for index in 0..30 {
        held.push(server.ask("/endless").await);
        let mut asked = server.ask("/").await;
        assert!(answered(&mut asked, "here").await, "{index}");
    }
}

#[tokio::test]
async fn a_working_connection_is_not_closed_for_another() {
    let server = server(Limits {
        connections: 2,
        ..LIMITS
    })
    .await;
    let mut working = Vec::new();
    for _ in 0..2 {
        working.push(server.ask("/work").await);
        server.begun.notified().await;
    }
    let mut third = server.ask("/").await;
    let early = tokio::time::timeout(AGAIN * 5, answered(&mut third, "here")).await;
    assert!(early.is_err(), "it waits for room");
    server.release.notify_one();
    assert!(answered(&mut third, "here").await);
    server.release.notify_one();
    let done = futures_of(working).await;
    assert!(done.iter().all(|done| *done));
}

async fn futures_of(streams: Vec<TcpStream>) -> Vec<bool> {
    let mut done = Vec::new();
    for mut stream in streams {
        done.push(answered(&mut stream, "done").await);
    }
    done
}

#[tokio::test]
async fn the_client_with_the_most_connections_loses_them_first() {
    let open = Open {
        bound: AtomicUsize::new(6),
        ..Open::default()
    };
    let client = |last| Client::of([192, 0, 2, last].into());
    let enter = async |number, client| {
        tokio::time::sleep(Duration::from_millis(2)).await;
        assert!(open.make_room());
        open.enter(number, client)
    };
    let quiet = enter(0, client(1)).await;
    quiet.waiting.got_head();
    let idle = enter(1, client(1)).await;
    for number in 2..40 {
        enter(number, client(2)).await;
    }
    let left = || {
        let mut left: Vec<u64> = open.lock().keys().copied().collect();
        left.sort_unstable();
        left
    };
    assert_eq!(
        left(),
        [0, 1, 36, 37, 38, 39],
        "the oldest of the other client go"
    );
    idle.waiting.got_head();
    for number in 40..50 {
        enter(number, client(3)).await;
    }
    assert!(left().starts_with(&[0, 1]), "who is at work stays");
}

#[tokio::test]
async fn slow_connections_end() {
    let short = Duration::from_millis(150);
    let head = server(Limits {
        head: short,
        ..LIMITS
    })
    .await;
    for begun in ["", "GET", "GET / HTTP/1.1\r\nhost: x\r\n"] {
        let mut stream = head.open().await;
        send(&mut stream, begun).await;
        assert!(is_closed(&mut stream).await, "{begun:?}");
    }
    let mut idle = head.ask("/").await;
    assert!(is_closed(&mut idle).await, "kept alive for nothing");

    let stall = server(Limits {
        stall: short,
        ..LIMITS
    })
    .await;
    for body in [
        "content-length: 9\r\n\r\n1",
        "transfer-encoding: chunked\r\n\r\n1\r\n",
    ] {
        let mut stream = stall.open().await;
        send(
            &mut stream,
            &format!("POST /body HTTP/1.1\r\nhost: x\r\n{body}"),
        )
        .await;
        assert!(is_closed(&mut stream).await, "{body:?}");
    }
    // It is closed although it was still readable: the buffered bytes arrive, and then the end.
    let mut unread = stall.ask("/endless").await;
    tokio::time::sleep(short * 4).await;
    assert!(is_closed(&mut unread).await);
    let mut working = stall.ask("/work").await;
    tokio::time::sleep(short * 3).await;
    stall.release.notify_one();
    assert!(answered(&mut working, "done").await, "work is no stall");
}

#[tokio::test]
async fn a_body_sent_byte_by_byte_times_out() {
    let server = server(Limits {
        stall: Duration::from_millis(200),
        body: Duration::from_millis(500),
        ..LIMITS
    })
    .await;
    let mut stream = server.open().await;
    send(
        &mut stream,
        "POST /body HTTP/1.1\r\nhost: x\r\ncontent-length: 9999\r\n\r\n",
    )
    .await;
    let mut sent = 0;
    while stream.write_all(b"x").await.is_ok() {
        sent += 1;
        assert!(sent < 1000, "it goes on for ever");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(sent > 10, "it was no stall");
}

#[tokio::test]
async fn a_stop_ends_idle_connections_and_finishes_the_others() {
    let server = server(LIMITS).await;
    let mut idle = server.open().await;
    let mut working = server.ask("/work").await;
    server.begun.notified().await;
    server.stop.send(true).unwrap();
    assert!(is_closed(&mut idle).await);
    server.release.notify_one();
    assert!(answered(&mut working, "done").await);
    server.served.await.unwrap();
}
