//! Records beside model calls, in AgentWatch's wire format: traces, logs, health, metrics, cron runs.

use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};

use crate::domain::call::CostSource;
use crate::matching::Enrichment;

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
    /// Adds a text, unless it is `None`.
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

    /// Adds a count, unless it is 0.
    pub fn told_count(self, name: &'static str, count: u64) -> Self {
        match count {
            0 => self,
            _ => self.count(name, count),
        }
    }

    /// Adds a figure, unless it is `None`.
    pub fn told_number(self, name: &'static str, number: Option<f64>) -> Self {
        match number {
            Some(number) => self.number(name, number),
            None => self,
        }
    }

    /// Adds a figure.
    pub fn number(mut self, name: &'static str, number: f64) -> Self {
        self.0.push((name, Value::Number(number)));
        self
    }

    /// Adds all values of another one.
    pub fn and(mut self, other: Self) -> Self {
        self.0.extend(other.0);
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

/// How a trace or a span ended. Besides these AgentWatch accepts only `running`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Successfully.
    Completed,
    /// With an error, or aborted.
    Failed,
}

impl Status {
    /// The status of a success or a failure.
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
    /// Its name, by OpenTelemetry's GenAI conventions where these define one.
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
    /// Its name.
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
    /// The text, without content.
    pub message: String,
    /// When.
    pub timestamp: String,
    /// Attributes.
    pub metadata: Meta,
}

/// A record of `health`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct HealthRecord {
    /// The component.
    pub name: &'static str,
    /// The agent's name.
    pub agent_name: String,
    /// `ok`.
    pub status: &'static str,
    /// A text.
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
    /// The metric's name.
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

/// A record of `enrichments`, for receivers that support record ids: fields of a call that became known after it was
/// sent.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct EnrichmentRecord {
    /// Id of the call.
    pub id: String,
    /// Time to the first byte, in ms.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttfb_ms: Option<f64>,
    /// Time to the first token, in ms.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttft_ms: Option<f64>,
    /// The provider's id of the request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// The model that answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub response_model: Option<String>,
    /// The provider's bill, in USD.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost_usd: Option<f64>,
    /// Always `provider`; present with a cost.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost_source: Option<CostSource>,
}

impl From<Enrichment> for EnrichmentRecord {
    fn from(known: Enrichment) -> Self {
        Self {
            id: known.id.to_string(),
            ttfb_ms: known.ttfb_ms,
            ttft_ms: known.ttft_ms,
            request_id: known.request_id,
            response_model: known.response_model,
            cost_usd: known.billed_usd,
            cost_source: known.billed_usd.map(|_| CostSource::Provider),
        }
    }
}

/// Any record.
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
    /// Of `enrichments`.
    Enrichment(Box<EnrichmentRecord>),
}

/// Usual maximum size of a record's JSON, in bytes.
const RECORD_BYTES: usize = 1024;

/// The lists of a batch, in the order of their numbers on disk, which never change.
const LISTS: [&str; 6] = [
    "traces",
    "logs",
    "health",
    "metrics",
    "cron_runs",
    "enrichments",
];

impl Record {
    fn list(&self) -> u8 {
        match self {
            Record::Trace(_) => 0,
            Record::Log(_) => 1,
            Record::Health(_) => 2,
            Record::Metric(_) => 3,
            Record::Cron(_) => 4,
            Record::Enrichment(_) => 5,
        }
    }

    /// The record in the form in which it waits, in memory and on disk: its list's number and its JSON.
    pub fn written(&self) -> Written {
        let mut json = Vec::with_capacity(RECORD_BYTES);
        // Finite numbers and valid text always serialize.
        let _ = serde_json::to_writer(&mut json, self);
        json.shrink_to_fit();
        Written {
            list: self.list(),
            json: String::from_utf8(json).unwrap_or_default(),
        }
    }
}

/// A record that waits to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    list: u8,
    json: String,
}

impl Written {
    /// A record from its list's number and its JSON; `None` for an unknown list.
    pub fn new(list: u8, json: &str) -> Option<Self> {
        Some(Self {
            list: Some(list).filter(|list| usize::from(*list) < LISTS.len())?,
            json: json.to_owned(),
        })
    }

    /// The list's number and the JSON.
    pub fn parts(&self) -> (u8, &str) {
        (self.list, &self.json)
    }

    /// The JSON of a trace; `None` for other records.
    pub fn trace(&self) -> Option<&str> {
        (self.list == 0).then_some(&*self.json)
    }

    /// Its approximate size in memory, in bytes.
    pub fn size(&self) -> usize {
        self.json.len() + 64
    }
}

/// The body of a batch of records, as JSON.
pub fn batch<'a>(records: impl Iterator<Item = &'a Written> + Clone) -> String {
    let bytes: usize = records.clone().map(|record| record.json.len() + 1).sum();
    let names: usize = LISTS.iter().map(|list| list.len() + 6).sum();
    let mut body = String::with_capacity(bytes + names);
    body.push('{');
    for (number, list) in LISTS.iter().enumerate() {
        let mut own = records
            .clone()
            .filter(|record| usize::from(record.list) == number)
            .peekable();
        if own.peek().is_none() {
            continue;
        }
        let separator = if body.len() > 1 { "," } else { "" };
        for part in [separator, "\"", list, "\":["] {
            body.push_str(part);
        }
        while let Some(record) = own.next() {
            body.push_str(&record.json);
            body.push_str(if own.peek().is_some() { "," } else { "]" });
        }
    }
    body.push('}');
    body
}
