//! The records beside model calls, as AgentWatch reads them: traces, logs, health, metrics, cron runs.

use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};

/// A value of metadata.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Value {
    /// A text.
    Text(String),
    /// A count.
    Count(u64),
    /// A figure.
    Number(f64),
    /// A boolean.
    Flag(bool),
}

/// Metadata, a flat object.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Meta(Vec<(&'static str, Value)>);

impl Meta {
    /// Adds a text, where there is one.
    pub fn text(mut self, name: &'static str, text: Option<impl Into<String>>) -> Self {
        if let Some(text) = text {
            self.0.push((name, Value::Text(text.into())));
        }
        self
    }

    /// Adds a count.
    pub fn count(mut self, name: &'static str, count: u64) -> Self {
        self.0.push((name, Value::Count(count)));
        self
    }

    /// Adds a figure.
    pub fn number(mut self, name: &'static str, number: f64) -> Self {
        self.0.push((name, Value::Number(number)));
        self
    }

    /// Adds a boolean.
    pub fn flag(mut self, name: &'static str, flag: bool) -> Self {
        self.0.push((name, Value::Flag(flag)));
        self
    }
}

impl Serialize for Meta {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in &self.0 {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

/// How a trace or a span ended. AgentWatch refuses any other word but `running`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Well.
    Completed,
    /// With an error, or stopped.
    Failed,
}

impl Status {
    /// The status of something that went well or not.
    pub fn of(is_good: bool) -> Self {
        if is_good {
            Status::Completed
        } else {
            Status::Failed
        }
    }
}

/// A span. Times are ISO 8601, durations ms.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SpanRecord {
    /// 16 hexadecimal digits.
    pub id: String,
    /// The trace's id.
    pub trace_id: String,
    /// The span above; `None` for the root.
    pub parent_id: Option<String>,
    /// What it is, by OpenTelemetry's GenAI conventions where these have a name.
    pub name: String,
    /// How it ended.
    pub status: Status,
    /// When it began.
    pub started_at: String,
    /// When it ended.
    pub ended_at: String,
    /// How long it took.
    pub duration_ms: u64,
    /// Attributes.
    pub metadata: Meta,
    /// Always empty; AgentWatch expects the list.
    pub events: [(); 0],
}

/// A record of `traces`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TraceRecord {
    /// 32 hexadecimal digits.
    pub id: String,
    /// The agent's name.
    pub agent_name: String,
    /// What it is.
    pub name: String,
    /// How it ended.
    pub status: Status,
    /// When it began.
    pub started_at: String,
    /// When it ended.
    pub ended_at: String,
    /// How long it took.
    pub duration_ms: u64,
    /// Attributes.
    pub metadata: Meta,
    /// The root first.
    pub spans: Vec<SpanRecord>,
}

/// A record of `logs`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LogRecord {
    /// A UUID.
    pub id: String,
    /// The agent's name.
    pub agent_name: String,
    /// `info`, `warn` or `error`.
    pub level: &'static str,
    /// What happened, without content.
    pub message: String,
    /// When.
    pub timestamp: String,
    /// Attributes.
    pub metadata: Meta,
}

/// A record of `health`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct HealthRecord {
    /// What is well or not.
    pub name: &'static str,
    /// The agent's name.
    pub agent_name: String,
    /// `ok`.
    pub status: &'static str,
    /// In words.
    pub message: &'static str,
    /// When.
    pub timestamp: String,
    /// Attributes.
    pub metadata: Meta,
}

/// A record of `metrics`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MetricRecord {
    /// A UUID.
    pub id: String,
    /// The agent's name.
    pub agent_name: String,
    /// What is measured.
    pub name: &'static str,
    /// The figure.
    pub value: f64,
    /// `counter` or `gauge`.
    pub kind: &'static str,
    /// Labels.
    pub tags: Meta,
    /// When.
    pub timestamp: String,
}

/// A record of `cron_run`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CronRecord {
    /// A UUID.
    pub id: String,
    /// The job's name.
    pub job_name: String,
    /// `ok`, `error` or `timeout`.
    pub status: &'static str,
    /// How long it took, in ms.
    pub duration_ms: Option<f64>,
    /// The agent's name.
    pub agent_name: String,
    /// When it ended.
    pub timestamp: String,
}

/// Any of them.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Record {
    /// Of `traces`.
    Trace(Box<TraceRecord>),
    /// Of `logs`.
    Log(Box<LogRecord>),
    /// Of `health`.
    Health(Box<HealthRecord>),
    /// Of `metrics`.
    Metric(Box<MetricRecord>),
    /// Of `cron_runs`.
    Cron(Box<CronRecord>),
}

/// The body of a batch of such records.
#[derive(Debug, Default, Serialize)]
pub struct RecordBatch<'a> {
    traces: Vec<&'a Record>,
    logs: Vec<&'a Record>,
    health: Vec<&'a Record>,
    metrics: Vec<&'a Record>,
    cron_runs: Vec<&'a Record>,
}

impl<'a> RecordBatch<'a> {
    /// Sorts records into their lists.
    pub fn of(records: impl Iterator<Item = &'a Record>) -> Self {
        let mut batch = Self::default();
        for record in records {
            match record {
                Record::Trace(_) => batch.traces.push(record),
                Record::Log(_) => batch.logs.push(record),
                Record::Health(_) => batch.health.push(record),
                Record::Metric(_) => batch.metrics.push(record),
                Record::Cron(_) => batch.cron_runs.push(record),
            }
        }
        batch
    }
}
