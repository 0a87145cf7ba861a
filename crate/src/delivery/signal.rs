//! Delivery of one signal (metrics or traces) to a collector. OTLP defines which answers are retried.

use serde::Serialize;

use super::sender::Sender;
use crate::delivery::reply::Reply;
use crate::engine::log::{Level, Log, counted};

/// Counters of one signal, for the status.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct SignalCounts {
    /// Records that the collector accepted.
    pub sent: u64,
    /// Records that the collector rejected from requests that it accepted (OTLP's partial success).
    pub rejected: u64,
    /// Records in requests that the collector refused for good.
    pub refused: u64,
    /// Bytes of records that the journal dropped, for want of disk space, before the collector accepted them.
    pub given_up_bytes: u64,
    /// The last error; `None` after a success.
    pub last_error: Option<String>,
}

/// Result of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Taken,
    Refused,
    Later,
}

/// What a collector rejects a number of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    /// A record is a span.
    Span,
    /// A record is a request with all points.
    Point,
}

/// State of one signal's delivery.
#[derive(Debug)]
pub(super) struct Signal {
    pub(super) path: &'static str,
    unit: Unit,
    pub(super) sender: Sender,
    is_reached: bool,
    pub(super) counts: SignalCounts,
}

impl Signal {
    pub(super) fn new(path: &'static str, unit: Unit, seed: u64) -> Self {
        Self {
            path,
            unit,
            sender: Sender::new(1, 0, seed),
            is_reached: false,
            counts: SignalCounts::default(),
        }
    }

    pub(super) fn log_trouble(&mut self, url: &str, trouble: String, log: &mut Log, mono_ms: u64) {
        log.add(Level::Warn, format!("otlp: {url} {trouble}"), mono_ms);
        self.counts.last_error = Some(trouble);
    }

    /// Handles an answer. As OTLP/HTTP defines, no answer, 429, 502, 503 and 504 are retried; other errors are final.
    pub(super) fn answered(
        &mut self,
        url: &str,
        reply: &Reply,
        records: u64,
        log: &mut Log,
        mono_ms: u64,
    ) -> Outcome {
        let path = self.path;
        let why = match reply.status {
            0 => reply.error.clone().unwrap_or("no answer".to_owned()),
            status => format!("HTTP {status}"),
        };
        match reply.status {
            200..=299 => {
                let rejected = u64::from(reply.answer.rejected);
                self.sender.recovered();
                self.counts.last_error = None;
                self.counts.sent += match self.unit {
                    Unit::Span => records.saturating_sub(rejected),
                    Unit::Point => records,
                };
                self.counts.rejected += rejected;
                if rejected > 0 {
                    let left_out = match self.unit {
                        Unit::Span => counted(rejected, "span", "spans"),
                        Unit::Point => counted(rejected, "point", "points"),
                    };
                    let text = format!("left out {left_out} of {path}");
                    self.log_trouble(url, text, log, mono_ms);
                }
                if !std::mem::replace(&mut self.is_reached, true) {
                    let text = format!("otlp: delivering to {url}{path}");
                    log.add(Level::Info, text, mono_ms);
                }
                Outcome::Taken
            }
            0 | 429 | 502..=504 => {
                self.sender.failed(reply, mono_ms);
                let text =
                    format!("does not take {path} ({why}); tried again, AgentWatch is not held up");
                self.log_trouble(url, text, log, mono_ms);
                Outcome::Later
            }
            status => {
                self.counts.refused += records;
                let text = format!(
                    "refuses {path} ({why}), which OTLP has not tried again; {}",
                    mend(status)
                );
                self.log_trouble(url, text, log, mono_ms);
                Outcome::Refused
            }
        }
    }
}

fn mend(status: u16) -> &'static str {
    match status {
        300..=399 => "it sends elsewhere; set otlp.url to the address itself",
        401 | 403 => "set otlp.headers to what it wants",
        404 | 405 => "set otlp.url to the address of its OTLP/HTTP receiver, usually on port 4318",
        _ => "see the collector's log",
    }
}
