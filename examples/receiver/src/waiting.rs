//! How long a connection has been waiting for its client.
//!
//! The wrappers here update [`Waiting`]: the stream's when the client does not read, the request body's when it does
//! not send, the answer body's when it ends and the next request is awaited.

use axum::body::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Instant;

/// Begins of a connection's waits. Times are ms since the first connection; 0 means that it does not wait.
#[derive(Default)]
pub struct Waiting {
    /// For bytes from the client.
    read: AtomicU64,
    /// For the client to read.
    write: AtomicU64,
    /// For the whole of a request's body.
    body: AtomicU64,
}

fn millis(instant: Instant) -> u64 {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    let passed = instant.saturating_duration_since(*START).as_millis();
    u64::try_from(passed).unwrap_or(u64::MAX).saturating_add(1)
}

fn begin(since: &AtomicU64) {
    let now = millis(Instant::now());
    // An earlier begin stays.
    let _ = since.compare_exchange(0, now, Ordering::Relaxed, Ordering::Relaxed);
}

fn end(since: &AtomicU64) {
    since.store(0, Ordering::Relaxed);
}

fn passed(since: &AtomicU64, now: u64) -> Option<Duration> {
    match since.load(Ordering::Relaxed) {
        0 => None,
        since => Some(Duration::from_millis(now.saturating_sub(since))),
    }
}

impl Waiting {
    /// For a connection that was just accepted.
    pub fn for_a_request() -> Self {
        let waiting = Self::default();
        begin(&waiting.read);
        waiting
    }

    /// The head of a request has arrived: the server is working.
    pub fn got_head(&self) {
        end(&self.read);
    }

    /// How long it has waited for its client; `None` while it is working.
    pub fn how_long(&self, now: Instant) -> Option<Duration> {
        let now = millis(now);
        passed(&self.read, now).max(passed(&self.write, now))
    }

    /// Whether a body or an answer exceeds its time limit. hyper has a timeout for heads.
    pub fn is_overdue(&self, stall: Duration, body: Duration) -> bool {
        let now = millis(Instant::now());
        let is_over = |since, limit| passed(since, now).is_some_and(|passed| passed >= limit);
        let reads_a_body = self.body.load(Ordering::Relaxed) != 0;
        is_over(&self.write, stall)
            || is_over(&self.body, body)
            || (reads_a_body && is_over(&self.read, stall))
    }
}

/// The body of a request.
pub struct Body {
    body: hyper::body::Incoming,
    waiting: Arc<Waiting>,
}

impl Body {
    /// For a request whose head has arrived.
    pub fn new(body: hyper::body::Incoming, waiting: Arc<Waiting>) -> Self {
        Self { body, waiting }
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        begin(&self.waiting.body);
        let polled = Pin::new(&mut self.body).poll_frame(context);
        match &polled {
            Poll::Pending => begin(&self.waiting.read),
            Poll::Ready(_) => end(&self.waiting.read),
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        end(&self.waiting.read);
        end(&self.waiting.body);
    }
}

/// The body of an answer.
pub struct Answer {
    body: axum::body::Body,
    waiting: Arc<Waiting>,
}

impl Answer {
    /// For an answered request.
    pub fn new(body: axum::body::Body, waiting: Arc<Waiting>) -> Self {
        Self { body, waiting }
    }
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        begin(&self.waiting.read);
    }
}

/// A connection's stream.
pub struct Stream {
    stream: TcpStream,
    waiting: Arc<Waiting>,
}

impl Stream {
    /// For an accepted connection.
    pub fn new(stream: TcpStream, waiting: Arc<Waiting>) -> Self {
        Self { stream, waiting }
    }

    fn wrote<T>(&self, polled: Poll<T>) -> Poll<T> {
        match polled {
            Poll::Pending => begin(&self.waiting.write),
            Poll::Ready(_) => end(&self.waiting.write),
        }
        polled
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context,
        buffer: &mut ReadBuf,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.wrote(polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context,
        slices: &[io::IoSlice],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.wrote(polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
