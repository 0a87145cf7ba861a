//! Maps traces of the journal, which are in AgentWatch's shape, to OpenTelemetry's spans. Trace and span ids are the
//! journal's, so a collector can recognize a trace that is sent twice.

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};

use super::wire::{
    self, KeyValue, ResourceSpans, ScopeSpans, TracesRequest, Value, id_bytes, nanos,
    provider_name, text,
};
use super::{Conventions, Form, Resource as Sender};
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

    fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(known, _)| known == name)
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

/// Body for `/v1/traces`.
pub(super) fn body(traces: &[Trace], sender: &Sender, form: Form) -> Vec<u8> {
    let spans = traces.iter().flat_map(|trace| {
        let turn = Turn::of(trace);
        let of_trace = move |span| wire(span, &turn, form.conventions);
        trace.spans.iter().map(of_trace)
    });
    let request = TracesRequest {
        resource_spans: vec![ResourceSpans {
            resource: Some(sender.into()),
            scope_spans: vec![ScopeSpans {
                scope: wire::scope(),
                spans: spans.collect(),
            }],
        }],
    };
    wire::body(&request, form)
}

const INTERNAL: i32 = 1;
const CLIENT: i32 = 3;
const ERROR: i32 = 2;

/// What the spans of a trace have in common.
struct Turn<'a> {
    agent: &'a str,
    /// The session's key.
    conversation: Option<&'a str>,
    /// The provider of the last call; the gateway itself if there is no call.
    provider: &'a str,
    /// The model of the last call.
    model: Option<&'a str>,
}

impl<'a> Turn<'a> {
    fn of(trace: &'a Trace) -> Self {
        let of_last_call = |name| {
            let mut spans = trace.spans.iter().rev();
            spans.find_map(|span| span.metadata.text(name))
        };
        let provider = of_last_call("gen_ai.provider.name");
        let root = trace.spans.first();
        Self {
            agent: &trace.agent_name,
            conversation: root.and_then(|root| root.metadata.text("session_key")),
            provider: provider.map_or("openclaw", provider_name),
            model: of_last_call("gen_ai.request.model"),
        }
    }
}

fn wire(span: &Span, turn: &Turn, conventions: Conventions) -> wire::Span {
    let mut attributes: Vec<KeyValue> = span
        .metadata
        .0
        .iter()
        .flat_map(|(name, value)| attribute(name, value, conventions))
        .collect();
    let is_call = span.metadata.text("gen_ai.provider.name").is_some();
    if span.name.starts_with("invoke_agent ") {
        attributes.push(text("gen_ai.operation.name", "invoke_agent"));
        // The newer conventions have both on agents of other processes alone.
        if conventions.has_released() {
            attributes.push(text("gen_ai.provider.name", turn.provider));
            let model = turn.model;
            attributes.extend(model.map(|model| text("gen_ai.request.model", model)));
        }
        attributes.push(text("gen_ai.agent.name", turn.agent));
    }
    let is_tool = span.metadata.text("gen_ai.tool.name").is_some();
    // The newer conventions also have both on tools.
    if is_call || (is_tool && conventions.has_latest()) {
        let id = turn.conversation;
        attributes.extend(id.map(|id| text("gen_ai.conversation.id", id)));
        attributes.push(text("gen_ai.agent.name", turn.agent));
    }
    // Only a stream has a first chunk.
    if span.metadata.has("gen_ai.response.time_to_first_chunk") {
        attributes.push(KeyValue::of("gen_ai.request.stream", Value::Bool(true)));
    }
    if is_tool {
        // The conventions' name of a tool that the model's client runs, which the gateway is.
        attributes.push(text("gen_ai.tool.type", "function"));
    }
    let has_failed = span.status == "failed";
    if has_failed && span.metadata.text("error.type").is_none() {
        attributes.push(text("error.type", "_OTHER"));
    }
    wire::Span {
        trace_id: id_bytes(&span.trace_id),
        span_id: id_bytes(&span.id),
        parent_span_id: id_bytes(span.parent_id.as_deref().unwrap_or_default()),
        name: span.name.clone(),
        kind: if is_call { CLIENT } else { INTERNAL },
        start_time_unix_nano: nanos(parse_iso(&span.started_at).unwrap_or_default()),
        end_time_unix_nano: nanos(parse_iso(&span.ended_at).unwrap_or_default()),
        attributes,
        status: has_failed.then_some(wire::Status { code: ERROR }),
    }
}

/// Attributes whose whole numbers are doubles, too.
const DOUBLES: [&str; 2] = ["agentwatch.cost.usd", "gen_ai.response.time_to_first_chunk"];

/// Tokens that were written to a cache: the name in the released conventions, which the journal has, and the newer one.
const CACHE_WRITES: [&str; 2] = [
    "gen_ai.usage.cache_creation.input_tokens",
    "gen_ai.usage.cache_write.input_tokens",
];

/// Maps a metadata field to attributes: by the GenAI conventions where they have it, else in the namespace `agentwatch`.
/// The gateway is a resource attribute.
fn attribute(name: &str, value: &Scalar, conventions: Conventions) -> Vec<KeyValue> {
    let own;
    let key = match name {
        "gateway" => return Vec::new(),
        // Earlier versions told that none was left out.
        "spans_left_out" if value.number() == Some(0.0) => return Vec::new(),
        "session_key" => "gen_ai.conversation.id",
        "cost_usd" => "agentwatch.cost.usd",
        "call_id" => "agentwatch.call.id",
        "run_id" => "agentwatch.run.id",
        "error.type" => name,
        _ if name.starts_with("gen_ai.") => name,
        _ => {
            own = ["agentwatch.", name].concat();
            &own
        }
    };
    let value = match value {
        Scalar::Text(text) if key == "gen_ai.provider.name" => {
            Value::Text(provider_name(text).to_owned())
        }
        Scalar::Text(text) => Value::Text(text.clone()),
        Scalar::Bool(flag) => Value::Bool(*flag),
        Scalar::Number(number) if !DOUBLES.contains(&key) && number.fract() == 0.0 => {
            Value::Int(*number as i64)
        }
        Scalar::Number(number) => Value::Double(*number),
        Scalar::Absent | Scalar::List(_) => return Vec::new(),
    };
    let [released, latest] = CACHE_WRITES;
    if key != released {
        return vec![KeyValue::of(key, value)];
    }
    [
        (released, conventions.has_released()),
        (latest, conventions.has_latest()),
    ]
    .into_iter()
    .filter(|(_, is_told)| *is_told)
    .map(|(key, _)| KeyValue::of(key, value.clone()))
    .collect()
}
