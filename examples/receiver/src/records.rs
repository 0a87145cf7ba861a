//! Validated records. `None` means that the sender omitted the field.
//!
//! Tokens are counts, money is in USD, durations are in ms, instants are [`Micros`].

use crate::clock::Micros;
use crate::json::Text;
use std::hash::{BuildHasher, RandomState};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// Values of `status` in a trace or a span.
pub const WORK: &[&str] = &["running", "completed", "failed"];
/// Values of `level` in a log.
pub const LEVELS: &[&str] = &["debug", "info", "warn", "error", "critical"];
/// Values of `status` in a health check.
pub const CHECKS: &[&str] = &["ok", "warn", "critical", "unknown"];
/// Values of `status` in a cron run.
pub const RUNS: &[&str] = &["ok", "error", "timeout"];

/// One call of a model.
#[derive(Debug, Default)]
pub struct ModelUsage<'a> {
    pub id: Text<'a>,
    pub timestamp: Option<Micros>,
    pub agent_name: Option<Text<'a>>,
    pub model: Option<Text<'a>>,
    pub prompt_tokens: Option<i64>,
    pub completion_tokens: Option<i64>,
    pub cost_usd: Option<f64>,
    pub latency_ms: Option<f64>,
    pub gateway: Option<Text<'a>>,
    pub provider: Option<Text<'a>>,
    pub cache_read_tokens: Option<i64>,
    pub cache_write_tokens: Option<i64>,
    pub reasoning_tokens: Option<i64>,
    pub cost_source: Option<Text<'a>>,
    pub usage_source: Option<Text<'a>>,
    pub latency_source: Option<Text<'a>>,
    pub session_key: Option<Text<'a>>,
    pub run_id: Option<Text<'a>>,
    pub trigger: Option<Text<'a>>,
    pub channel: Option<Text<'a>>,
    /// The cron job's id.
    pub job: Option<Text<'a>>,
    pub skill: Option<Text<'a>>,
    pub tool: Option<Text<'a>>,
    pub prompt: Prompt,
    /// US dollars that cache reads saved.
    pub cache_saved_usd: Option<f64>,
    /// US dollars that cache writes cost above the input rate.
    pub cache_write_extra_usd: Option<f64>,
    pub outcome: Option<Text<'a>>,
    pub ttfb_ms: Option<f64>,
    pub ttft_ms: Option<f64>,
    pub request_id: Option<Text<'a>>,
    pub response_model: Option<Text<'a>>,
}

/// What a call's prompt consists of.
#[derive(Clone, Copy, Debug, Default)]
pub struct Prompt {
    /// Characters of the system prompt, the tool definitions, the messages, and others.
    pub chars: [Option<i64>; 4],
    /// The prompt's share of the call's cost.
    pub cost_usd: Option<f64>,
}

/// Fields of a call that became known after it was sent. Changes an existing call and creates none.
#[derive(Debug, Default)]
pub struct Enrichment<'a> {
    pub id: Text<'a>,
    pub cost_usd: Option<f64>,
    pub cost_source: Option<Text<'a>>,
    pub ttfb_ms: Option<f64>,
    pub ttft_ms: Option<f64>,
    pub request_id: Option<Text<'a>>,
    pub response_model: Option<Text<'a>>,
}

/// The cost of one call.
#[derive(Debug, Default)]
pub struct Cost<'a> {
    pub id: Text<'a>,
    pub timestamp: Option<Micros>,
    pub agent_name: Option<Text<'a>>,
    pub model: Option<Text<'a>>,
    pub input_tokens: Option<i64>,
    pub output_tokens: Option<i64>,
    pub estimated_cost_usd: Option<f64>,
    pub trace_id: Option<Text<'a>>,
    pub span_id: Option<Text<'a>>,
    /// A JSON object, as text.
    pub metadata: Option<String>,
}

/// A trace. Its spans are in [`Batch::spans`].
#[derive(Debug)]
pub struct Trace<'a> {
    pub id: Text<'a>,
    pub agent_name: Text<'a>,
    pub name: Text<'a>,
    pub status: Text<'a>,
    pub started_at: Option<Micros>,
    pub ended_at: Option<Micros>,
    pub duration_ms: Option<f64>,
    pub metadata: String,
}

/// A part of a trace.
#[derive(Debug)]
pub struct Span<'a> {
    pub id: Text<'a>,
    pub trace_id: Text<'a>,
    pub parent_id: Option<Text<'a>>,
    pub name: Text<'a>,
    pub status: Text<'a>,
    pub started_at: Option<Micros>,
    pub ended_at: Option<Micros>,
    pub duration_ms: Option<f64>,
    pub metadata: String,
    pub error: Option<Text<'a>>,
    pub events: Vec<SpanEvent<'a>>,
}

/// An event within a span.
#[derive(Debug)]
pub struct SpanEvent<'a> {
    pub id: Text<'a>,
    pub timestamp: Option<Micros>,
    pub message: Text<'a>,
    pub metadata: String,
}

/// A log line.
#[derive(Debug)]
pub struct Log<'a> {
    pub id: Text<'a>,
    pub agent_name: Text<'a>,
    pub level: Text<'a>,
    pub message: Text<'a>,
    pub timestamp: Option<Micros>,
    pub metadata: String,
    pub trace_id: Option<Text<'a>>,
    pub span_id: Option<Text<'a>>,
}

/// The outcome of a health check.
#[derive(Debug)]
pub struct Health<'a> {
    pub name: Text<'a>,
    pub agent_name: Text<'a>,
    pub status: Text<'a>,
    pub message: Option<Text<'a>>,
    pub timestamp: Option<Micros>,
    pub duration_ms: Option<f64>,
    pub metadata: String,
}

/// One point of a metric.
#[derive(Debug)]
pub struct Metric<'a> {
    pub id: Text<'a>,
    pub agent_name: Text<'a>,
    pub name: Text<'a>,
    pub value: f64,
    pub kind: Text<'a>,
    /// A JSON object, as text.
    pub tags: String,
    pub timestamp: Option<Micros>,
    pub trace_id: Option<Text<'a>>,
    pub span_id: Option<Text<'a>>,
}

/// One run of a scheduled job.
#[derive(Debug)]
pub struct CronRun<'a> {
    pub id: Text<'a>,
    pub agent_name: Option<Text<'a>>,
    pub job_name: Text<'a>,
    pub status: Text<'a>,
    pub duration_ms: Option<f64>,
    pub error: Option<Text<'a>>,
    pub timestamp: Option<Micros>,
}

/// All records of one request, in the order in which they are stored.
#[derive(Debug, Default)]
pub struct Batch<'a> {
    pub traces: Vec<Trace<'a>>,
    pub spans: Vec<Span<'a>>,
    pub logs: Vec<Log<'a>>,
    pub health: Vec<Health<'a>>,
    pub costs: Vec<Cost<'a>>,
    pub metrics: Vec<Metric<'a>>,
    pub model_usage: Vec<ModelUsage<'a>>,
    pub cron_runs: Vec<CronRun<'a>>,
    pub enrichments: Vec<Enrichment<'a>>,
}

impl Batch<'_> {
    /// The ids of its records of one kind (for health checks the names), in order of arrival.
    pub fn ids(&self, kind: Kind) -> Vec<&str> {
        match kind {
            Kind::Traces => self.traces.iter().map(|r| &*r.id).collect(),
            Kind::Logs => self.logs.iter().map(|r| &*r.id).collect(),
            Kind::Health => self.health.iter().map(|r| &*r.name).collect(),
            Kind::Costs => self.costs.iter().map(|r| &*r.id).collect(),
            Kind::Metrics => self.metrics.iter().map(|r| &*r.id).collect(),
            Kind::ModelUsage => self.model_usage.iter().map(|r| &*r.id).collect(),
            Kind::CronRuns => self.cron_runs.iter().map(|r| &*r.id).collect(),
        }
    }
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

/// A new id of 16 hexadecimal digits. Unique by a counter and unpredictable by the process's random keys, but no
/// secret.
pub fn fresh_id() -> String {
    static KEYS: LazyLock<RandomState> = LazyLock::new(RandomState::new);
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    format!(
        "{:016x}",
        KEYS.hash_one(COUNTER.fetch_add(1, Ordering::Relaxed))
    )
}
