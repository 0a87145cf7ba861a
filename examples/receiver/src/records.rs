//! The records of the contract, validated. `None` means the sender did not say.
//!
//! Tokens are counts, money is US dollars, durations are milliseconds, instants are [`Micros`].

use crate::clock::Micros;
use std::hash::{BuildHasher, RandomState};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// What a trace's or a span's `status` can be.
pub const WORK: &[&str] = &["running", "completed", "failed"];
/// What a log's `level` can be.
pub const LEVELS: &[&str] = &["debug", "info", "warn", "error", "critical"];
/// What a health check's `status` can be.
pub const CHECKS: &[&str] = &["ok", "warn", "critical", "unknown"];
/// What a cron run's `status` can be.
pub const RUNS: &[&str] = &["ok", "error", "timeout"];

/// One call of a model.
#[derive(Debug, Default)]
pub struct ModelUsage {
    pub id: String,
    pub timestamp: Option<Micros>,
    pub agent_name: Option<String>,
    pub model: Option<String>,
    pub prompt_tokens: Option<i64>,
    pub completion_tokens: Option<i64>,
    pub cost_usd: Option<f64>,
    pub latency_ms: Option<f64>,
    pub gateway: Option<String>,
    pub provider: Option<String>,
    pub cache_read_tokens: Option<i64>,
    pub cache_write_tokens: Option<i64>,
    pub reasoning_tokens: Option<i64>,
    pub cost_source: Option<String>,
    pub usage_source: Option<String>,
    pub latency_source: Option<String>,
    pub session_key: Option<String>,
    pub run_id: Option<String>,
    pub trigger: Option<String>,
    pub outcome: Option<String>,
    pub ttfb_ms: Option<f64>,
    pub ttft_ms: Option<f64>,
    pub request_id: Option<String>,
    pub response_model: Option<String>,
}

/// What became known of a call after it was sent. It changes a call that is there and makes none.
#[derive(Debug, Default)]
pub struct Enrichment {
    pub id: String,
    pub cost_usd: Option<f64>,
    pub cost_source: Option<String>,
    pub ttfb_ms: Option<f64>,
    pub ttft_ms: Option<f64>,
    pub request_id: Option<String>,
    pub response_model: Option<String>,
}

/// What one call cost.
#[derive(Debug, Default)]
pub struct Cost {
    pub id: String,
    pub timestamp: Option<Micros>,
    pub agent_name: Option<String>,
    pub model: Option<String>,
    pub input_tokens: Option<i64>,
    pub output_tokens: Option<i64>,
    pub estimated_cost_usd: Option<f64>,
    pub trace_id: Option<String>,
    pub span_id: Option<String>,
    /// A JSON object, as text.
    pub metadata: Option<String>,
}

/// A piece of work. Its spans travel beside it in [`Batch::spans`].
#[derive(Debug)]
pub struct Trace {
    pub id: String,
    pub agent_name: String,
    pub name: String,
    pub status: String,
    pub started_at: Option<Micros>,
    pub ended_at: Option<Micros>,
    pub duration_ms: Option<f64>,
    pub metadata: String,
}

/// A part of a trace.
#[derive(Debug)]
pub struct Span {
    pub id: String,
    pub trace_id: String,
    pub parent_id: Option<String>,
    pub name: String,
    pub status: String,
    pub started_at: Option<Micros>,
    pub ended_at: Option<Micros>,
    pub duration_ms: Option<f64>,
    pub metadata: String,
    pub error: Option<String>,
    pub events: Vec<SpanEvent>,
}

/// Something that happened within a span.
#[derive(Debug)]
pub struct SpanEvent {
    pub id: String,
    pub timestamp: Option<Micros>,
    pub message: String,
    pub metadata: String,
}

/// A log line.
#[derive(Debug)]
pub struct Log {
    pub id: String,
    pub agent_name: String,
    pub level: String,
    pub message: String,
    pub timestamp: Option<Micros>,
    pub metadata: String,
    pub trace_id: Option<String>,
    pub span_id: Option<String>,
}

/// The outcome of a health check.
#[derive(Debug)]
pub struct Health {
    pub name: String,
    pub agent_name: String,
    pub status: String,
    pub message: Option<String>,
    pub timestamp: Option<Micros>,
    pub duration_ms: Option<f64>,
    pub metadata: String,
}

/// One point of a metric.
#[derive(Debug)]
pub struct Metric {
    pub id: String,
    pub agent_name: String,
    pub name: String,
    pub value: f64,
    pub kind: String,
    /// A JSON object, as text.
    pub tags: String,
    pub timestamp: Option<Micros>,
    pub trace_id: Option<String>,
    pub span_id: Option<String>,
}

/// One run of a scheduled job.
#[derive(Debug)]
pub struct CronRun {
    pub id: String,
    pub agent_name: Option<String>,
    pub job_name: String,
    pub status: String,
    pub duration_ms: Option<f64>,
    pub error: Option<String>,
    pub timestamp: Option<Micros>,
}

/// Everything one request brings, in the order in which it is stored.
#[derive(Debug, Default)]
pub struct Batch {
    pub traces: Vec<Trace>,
    pub spans: Vec<Span>,
    pub logs: Vec<Log>,
    pub health: Vec<Health>,
    pub costs: Vec<Cost>,
    pub metrics: Vec<Metric>,
    pub model_usage: Vec<ModelUsage>,
    pub cron_runs: Vec<CronRun>,
    pub enrichments: Vec<Enrichment>,
}

/// The kinds of record, in the order in which AgentWatch stores a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Traces,
    Logs,
    Health,
    Costs,
    Metrics,
    ModelUsage,
    CronRuns,
}

impl Kind {
    /// Every kind, in storing order.
    pub const ALL: [Self; 7] = [
        Self::Traces,
        Self::Logs,
        Self::Health,
        Self::Costs,
        Self::Metrics,
        Self::ModelUsage,
        Self::CronRuns,
    ];

    /// The name of its list in a batch.
    pub const fn list(self) -> &'static str {
        match self {
            Self::Traces => "traces",
            Self::Logs => "logs",
            Self::Health => "health",
            Self::Costs => "costs",
            Self::Metrics => "metrics",
            Self::ModelUsage => "model_usage",
            Self::CronRuns => "cron_runs",
        }
    }
}

/// A fresh id: 16 hexadecimal digits. Unique by a counter, unguessable by the process's random keys; no secret.
pub fn fresh_id() -> String {
    static KEYS: LazyLock<RandomState> = LazyLock::new(RandomState::new);
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    format!(
        "{:016x}",
        KEYS.hash_one(COUNTER.fetch_add(1, Ordering::Relaxed))
    )
}
