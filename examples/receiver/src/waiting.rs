//! For how long a connection has waited for its client.
//!
//! The wrappers here tell [`Waiting`]: of the stream, when the client does not read; of a request's body, when it does not
//! send; of an answer's body, when it ends and the next request is waited for.

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

/// Since when a connection waits for what. Times are milliseconds since the first connection, 0 is not at all.
#[derive(Default)]
pub struct Waiting {
    /// For bytes of the client.
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
    // One that waits already has waited longer.
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
    /// Of a connection that was accepted now.
    pub fn for_a_request() -> Self {
        let waiting = Self::default();
        begin(&waiting.read);
        waiting
    }

    /// The head of a request has come: the server is at work.
    pub fn got_head(&self) {
        end(&self.read);
    }

    /// For how long it has waited for its client; none where it is at work.
    pub fn how_long(&self, now: Instant) -> Option<Duration> {
        let now = millis(now);
        passed(&self.read, now).max(passed(&self.write, now))
    }

    /// Whether a body or an answer takes longer than it may. For heads hyper has a timeout.
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
    /// Of a request whose head has come.
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
    /// Of a request that was answered.
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
    /// Of an accepted connection.
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
