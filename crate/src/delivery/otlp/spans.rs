//! Maps traces of the journal, which are in AgentWatch's shape, to OpenTelemetry's spans. Trace and span ids are the
//! journal's, so a collector can recognize a trace that is sent twice.

use std::borrow::Cow;

use serde::de::{Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize};

use super::Resource as Sender;
use super::wire::{AnyValue, Int, KeyValue, Resource, SCOPE, Scope, nanos, provider_name, text};
use crate::domain::time::parse_iso;
use crate::sources::facts::Scalar;

/// A trace of the journal.
#[derive(Debug, Deserialize)]
pub struct Trace {
    agent_name: String,
    /// Spans, the root first.
    pub spans: Vec<Span>,
}

/// A span of the journal.
#[derive(Debug, Deserialize)]
pub struct Span {
    id: String,
    trace_id: String,
    parent_id: Option<String>,
    name: String,
    status: String,
    started_at: String,
    ended_at: String,
    metadata: Attributes,
}

/// A flat object that keeps the order of its fields.
#[derive(Debug, Default)]
struct Attributes(Vec<(String, Scalar)>);

impl Attributes {
    fn text(&self, name: &str) -> Option<&str> {
        let (_, value) = self.0.iter().find(|(known, _)| known == name)?;
        value.text()
    }
}

impl<'de> Deserialize<'de> for Attributes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs;

        impl<'de> Visitor<'de> for Pairs {
            type Value = Attributes;

            fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Attributes, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Attributes(pairs))
            }
        }

        deserializer.deserialize_map(Pairs)
    }
}

/// JSON body for `/v1/traces`.
pub(super) fn body(traces: &[Trace], sender: &Sender) -> String {
    let spans = traces.iter().flat_map(|trace| {
        let turn = Turn::of(trace);
        trace.spans.iter().map(move |span| wire(span, &turn))
    });
    let body = Body {
        resource_spans: [ResourceSpans {
            resource: sender.into(),
            scope_spans: [ScopeSpans {
                scope: SCOPE,
                spans: spans.collect(),
            }],
        }],
    };
    // Cannot fail: finite numbers and valid text always serialize.
    serde_json::to_string(&body).unwrap_or_default()
}

const INTERNAL: u8 = 1;
const CLIENT: u8 = 3;
const ERROR: u8 = 2;

/// What the spans of a trace have in common.
struct Turn<'a> {
    agent: &'a str,
    /// The session's key.
    conversation: Option<&'a str>,
    /// The provider of the last call; the gateway itself if there is no call.
    provider: &'a str,
}

impl<'a> Turn<'a> {
    fn of(trace: &'a Trace) -> Self {
        let mut calls = trace.spans.iter().rev();
        let provider = calls.find_map(|span| span.metadata.text("gen_ai.provider.name"));
        let root = trace.spans.first();
        Self {
            agent: &trace.agent_name,
            conversation: root.and_then(|root| root.metadata.text("session_key")),
            provider: provider.map_or("openclaw", provider_name),
        }
    }
}

fn wire<'a>(span: &'a Span, turn: &Turn<'a>) -> WireSpan<'a> {
    let mut attributes: Vec<KeyValue> = span
        .metadata
        .0
        .iter()
        .filter_map(|(name, value)| attribute(name, value))
        .collect();
    let is_call = span.metadata.text("gen_ai.provider.name").is_some();
    if span.name.starts_with("invoke_agent ") {
        attributes.push(text("gen_ai.operation.name", "invoke_agent"));
        attributes.push(text("gen_ai.provider.name", turn.provider));
        attributes.push(text("gen_ai.agent.name", turn.agent));
    }
    if is_call {
        let id = turn.conversation;
        attributes.extend(id.map(|id| text("gen_ai.conversation.id", id)));
        attributes.push(text("gen_ai.agent.name", turn.agent));
    }
    let has_failed = span.status == "failed";
    if has_failed && span.metadata.text("error.type").is_none() {
        attributes.push(text("error.type", "_OTHER"));
    }
    WireSpan {
        trace_id: &span.trace_id,
        span_id: &span.id,
        parent_span_id: span.parent_id.as_deref(),
        name: &span.name,
        kind: if is_call { CLIENT } else { INTERNAL },
        start_time_unix_nano: nanos(parse_iso(&span.started_at).unwrap_or_default()),
        end_time_unix_nano: nanos(parse_iso(&span.ended_at).unwrap_or_default()),
        attributes,
        status: has_failed.then_some(Status { code: ERROR }),
    }
}

/// Attributes whose whole numbers are doubles, too.
const DOUBLES: [&str; 2] = ["agentwatch.cost.usd", "gen_ai.response.time_to_first_chunk"];

/// Maps a metadata field to an attribute: by the GenAI conventions where they have it, else in the namespace
/// `agentwatch`. The gateway is a resource attribute.
fn attribute<'a>(name: &'a str, value: &'a Scalar) -> Option<KeyValue<'a>> {
    let key: Cow<str> = match name {
        "gateway" => return None,
        // Earlier versions told that none was left out.
        "spans_left_out" if value.number() == Some(0.0) => return None,
        "session_key" => "gen_ai.conversation.id".into(),
        "cost_usd" => "agentwatch.cost.usd".into(),
        "call_id" => "agentwatch.call.id".into(),
        "run_id" => "agentwatch.run.id".into(),
        "error.type" => name.into(),
        _ if name.starts_with("gen_ai.") => name.into(),
        _ => ["agentwatch.", name].concat().into(),
    };
    let value = match value {
        Scalar::Text(text) if key == "gen_ai.provider.name" => AnyValue::Text(provider_name(text)),
        Scalar::Text(text) => AnyValue::Text(text),
        Scalar::Bool(flag) => AnyValue::Bool(*flag),
        Scalar::Number(number) if !DOUBLES.contains(&&*key) && number.fract() == 0.0 => {
            AnyValue::Int(Int(*number as u64))
        }
        Scalar::Number(number) => AnyValue::Double(*number),
        Scalar::Absent | Scalar::List(_) => return None,
    };
    Some(KeyValue { key, value })
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Body<'a> {
    resource_spans: [ResourceSpans<'a>; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ResourceSpans<'a> {
    resource: Resource<'a>,
    scope_spans: [ScopeSpans<'a>; 1],
}

#[derive(Serialize)]
struct ScopeSpans<'a> {
    scope: Scope,
    spans: Vec<WireSpan<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct WireSpan<'a> {
    trace_id: &'a str,
    span_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    parent_span_id: Option<&'a str>,
    name: &'a str,
    kind: u8,
    start_time_unix_nano: Int,
    end_time_unix_nano: Int,
    attributes: Vec<KeyValue<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<Status>,
}

#[derive(Serialize)]
struct Status {
    code: u8,
}
