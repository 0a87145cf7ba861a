//! OTLP's messages, of which there are two forms: protobuf by `prost`, and protobuf's JSON by `serde`, with times and
//! attributes' integers as texts and ids in hexadecimal digits. Fields and their numbers are those of
//! `opentelemetry-proto` 1.x; those that are never set are left out.

use prost::{Message, Oneof};
use serde::{Serialize, Serializer};

use super::{Form, Resource as Sender};

/// The body of a request in a form.
pub(super) fn body(message: &(impl Message + Serialize), form: Form) -> Vec<u8> {
    match form.protobuf {
        true => message.encode_to_vec(),
        // Cannot fail: finite numbers and valid text always serialize.
        false => serde_json::to_vec(message).unwrap_or_default(),
    }
}

/// The body for `/v1/metrics`.
#[derive(Clone, PartialEq, Message, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct MetricsRequest {
    #[prost(message, repeated, tag = "1")]
    pub resource_metrics: Vec<ResourceMetrics>,
}

/// The metrics of a sender.
#[derive(Clone, PartialEq, Message, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ResourceMetrics {
    #[prost(message, optional, tag = "1")]
    pub resource: Option<Resource>,
    #[prost(message, repeated, tag = "2")]
    pub scope_metrics: Vec<ScopeMetrics>,
}

/// The metrics of a scope.
#[derive(Clone, PartialEq, Message, Serialize)]
pub(super) struct ScopeMetrics {
    #[prost(message, optional, tag = "1")]
    pub scope: Option<Scope>,
    #[prost(message, repeated, tag = "2")]
    pub metrics: Vec<Metric>,
}

/// A metric.
#[derive(Clone, PartialEq, Message, Serialize)]
pub(super) struct Metric {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(string, tag = "3")]
    pub unit: String,
    #[prost(oneof = "Data", tags = "7, 9")]
    #[serde(flatten)]
    pub data: Option<Data>,
}

/// The points of a metric.
#[derive(Clone, PartialEq, Oneof, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Data {
    #[prost(message, tag = "7")]
    Sum(Sum),
    #[prost(message, tag = "9")]
    Histogram(Histogram),
}

/// OTLP's `AGGREGATION_TEMPORALITY_CUMULATIVE`.
const CUMULATIVE: i32 = 2;

/// A counter.
#[derive(Clone, PartialEq, Message, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Sum {
    #[prost(message, repeated, tag = "1")]
    pub data_points: Vec<NumberPoint>,
    #[prost(int32, tag = "2")]
    pub aggregation_temporality: i32,
    #[prost(bool, tag = "3")]
    pub is_monotonic: bool,
}

/// A histogram.
#[derive(Clone, PartialEq, Message, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Histogram {
    #[prost(message, repeated, tag = "1")]
    pub data_points: Vec<HistogramPoint>,
    #[prost(int32, tag = "2")]
    pub aggregation_temporality: i32,
}

impl Metric {
    pub(super) fn histogram(name: &str, unit: &str, data_points: Vec<HistogramPoint>) -> Self {
        let histogram = Histogram {
            data_points,
            aggregation_temporality: CUMULATIVE,
        };
        Self {
            name: name.to_owned(),
            unit: unit.to_owned(),
            data: Some(Data::Histogram(histogram)),
        }
    }

    pub(super) fn counter(name: &str, unit: &str, data_points: Vec<NumberPoint>) -> Self {
        let sum = Sum {
            data_points,
            aggregation_temporality: CUMULATIVE,
            is_monotonic: true,
        };
        Self {
            name: name.to_owned(),
            unit: unit.to_owned(),
            data: Some(Data::Sum(sum)),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        match &self.data {
            Some(Data::Sum(sum)) => sum.data_points.is_empty(),
            Some(Data::Histogram(histogram)) => histogram.data_points.is_empty(),
            None => true,
        }
    }
}

/// A point of a histogram. In JSON counts are numbers, which every decoder must accept: OpenTelemetry's Rust types
/// before 0.30 silently lost points whose counts were texts.
#[derive(Clone, PartialEq, Message, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct HistogramPoint {
    #[prost(message, repeated, tag = "9")]
    pub attributes: Vec<KeyValue>,
    #[prost(fixed64, tag = "2")]
    #[serde(serialize_with = "as_text")]
    pub start_time_unix_nano: u64,
    #[prost(fixed64, tag = "3")]
    #[serde(serialize_with = "as_text")]
    pub time_unix_nano: u64,
    #[prost(fixed64, tag = "4")]
    pub count: u64,
    #[prost(double, optional, tag = "5")]
    pub sum: Option<f64>,
    #[prost(fixed64, repeated, tag = "6")]
    pub bucket_counts: Vec<u64>,
    #[prost(double, repeated, tag = "7")]
    pub explicit_bounds: Vec<f64>,
}

/// A point of a counter.
#[derive(Clone, PartialEq, Message, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct NumberPoint {
    #[prost(message, repeated, tag = "7")]
    pub attributes: Vec<KeyValue>,
    #[prost(fixed64, tag = "2")]
    #[serde(serialize_with = "as_text")]
    pub start_time_unix_nano: u64,
    #[prost(fixed64, tag = "3")]
    #[serde(serialize_with = "as_text")]
    pub time_unix_nano: u64,
    #[prost(oneof = "Number", tags = "4, 6")]
    #[serde(flatten)]
    pub value: Option<Number>,
}

/// The value of a counter's point.
#[derive(Clone, Copy, PartialEq, Oneof, Serialize)]
pub(super) enum Number {
    #[prost(double, tag = "4")]
    #[serde(rename = "asDouble")]
    Double(f64),
    #[prost(sfixed64, tag = "6")]
    #[serde(rename = "asInt")]
    Int(i64),
}

/// The body for `/v1/traces`.
#[derive(Clone, PartialEq, Message, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct TracesRequest {
    #[prost(message, repeated, tag = "1")]
    pub resource_spans: Vec<ResourceSpans>,
}

/// The spans of a sender.
#[derive(Clone, PartialEq, Message, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ResourceSpans {
    #[prost(message, optional, tag = "1")]
    pub resource: Option<Resource>,
    #[prost(message, repeated, tag = "2")]
    pub scope_spans: Vec<ScopeSpans>,
}

/// The spans of a scope.
#[derive(Clone, PartialEq, Message, Serialize)]
pub(super) struct ScopeSpans {
    #[prost(message, optional, tag = "1")]
    pub scope: Option<Scope>,
    #[prost(message, repeated, tag = "2")]
    pub spans: Vec<Span>,
}

/// A span.
#[derive(Clone, PartialEq, Message, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Span {
    #[prost(bytes = "vec", tag = "1")]
    #[serde(serialize_with = "as_hex")]
    pub trace_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    #[serde(serialize_with = "as_hex")]
    pub span_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "4")]
    #[serde(serialize_with = "as_hex", skip_serializing_if = "Vec::is_empty")]
    pub parent_span_id: Vec<u8>,
    #[prost(string, tag = "5")]
    pub name: String,
    #[prost(int32, tag = "6")]
    pub kind: i32,
    #[prost(fixed64, tag = "7")]
    #[serde(serialize_with = "as_text")]
    pub start_time_unix_nano: u64,
    #[prost(fixed64, tag = "8")]
    #[serde(serialize_with = "as_text")]
    pub end_time_unix_nano: u64,
    #[prost(message, repeated, tag = "9")]
    pub attributes: Vec<KeyValue>,
    #[prost(message, optional, tag = "15")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<Status>,
}

/// How a span ended.
#[derive(Clone, PartialEq, Message, Serialize)]
pub(super) struct Status {
    #[prost(int32, tag = "3")]
    pub code: i32,
}

/// An attribute.
#[derive(Clone, PartialEq, Message, Serialize)]
pub(super) struct KeyValue {
    #[prost(string, tag = "1")]
    pub key: String,
    #[prost(message, optional, tag = "2")]
    pub value: Option<AnyValue>,
}

/// An attribute's value.
#[derive(Clone, PartialEq, Message, Serialize)]
pub(super) struct AnyValue {
    #[prost(oneof = "Value", tags = "1, 2, 3, 4")]
    #[serde(flatten)]
    pub value: Option<Value>,
}

/// The kinds of values.
#[derive(Clone, PartialEq, Oneof, Serialize)]
pub(super) enum Value {
    #[prost(string, tag = "1")]
    #[serde(rename = "stringValue")]
    Text(String),
    #[prost(bool, tag = "2")]
    #[serde(rename = "boolValue")]
    Bool(bool),
    #[prost(int64, tag = "3")]
    #[serde(rename = "intValue", serialize_with = "as_text")]
    Int(i64),
    #[prost(double, tag = "4")]
    #[serde(rename = "doubleValue")]
    Double(f64),
}

impl KeyValue {
    pub(super) fn of(key: impl Into<String>, value: Value) -> Self {
        Self {
            key: key.into(),
            value: Some(AnyValue { value: Some(value) }),
        }
    }
}

pub(super) fn text(key: &str, value: &str) -> KeyValue {
    KeyValue::of(key, Value::Text(value.to_owned()))
}

/// The sender's attributes.
#[derive(Clone, PartialEq, Message, Serialize)]
pub(super) struct Resource {
    #[prost(message, repeated, tag = "1")]
    pub attributes: Vec<KeyValue>,
}

impl From<&Sender> for Resource {
    fn from(sender: &Sender) -> Self {
        let attributes = [
            ("service.name", "agentwatch-openclaw"),
            ("service.version", env!("CARGO_PKG_VERSION")),
            ("service.instance.id", &*sender.gateway),
        ];
        Self {
            attributes: attributes.map(|(key, value)| text(key, value)).into(),
        }
    }
}

/// The instrumentation scope.
#[derive(Clone, PartialEq, Message, Serialize)]
pub(super) struct Scope {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(string, tag = "2")]
    pub version: String,
}

/// This plugin as a scope.
pub(super) fn scope() -> Option<Scope> {
    Some(Scope {
        name: "agentwatch-openclaw".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    })
}

/// A time in ns, from ms since 1970.
pub(super) fn nanos(ms: u64) -> u64 {
    ms.saturating_mul(1_000_000)
}

/// A 64-bit integer as protobuf's JSON has it.
fn as_text<T: std::fmt::Display, S: Serializer>(number: &T, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(number)
}

fn as_hex<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
    use std::fmt::Write;
    let text = bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a text cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    });
    to.serialize_str(&text)
}

/// The bytes of an id in hexadecimal digits; none where it is no such id.
pub(super) fn id_bytes(id: &str) -> Vec<u8> {
    let pair = |at: usize| u8::from_str_radix(id.get(at..at + 2)?, 16).ok();
    let bytes: Option<Vec<u8>> = (0..id.len()).step_by(2).map(pair).collect();
    bytes.unwrap_or_default()
}

/// Maps OpenClaw's provider name to the name in the GenAI conventions, where these define one.
pub(super) fn provider_name(provider: &str) -> &str {
    match provider {
        "amazon-bedrock" | "amazon-bedrock-mantle" => "aws.bedrock",
        // OpenClaw's name of an Azure provider is the API's behind `azure-openai`, and users name their own after it.
        "azure" | "microsoft-foundry" => "azure.ai.openai",
        azure if azure.starts_with("azure-openai") => "azure.ai.openai",
        "google" | "google-gemini-cli" => "gcp.gemini",
        "google-vertex" | "anthropic-vertex" => "gcp.vertex_ai",
        "mistral" => "mistral_ai",
        "moonshot" => "moonshot_ai",
        "xai" => "x_ai",
        other => other,
    }
}
