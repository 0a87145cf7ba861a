//! OTLP's JSON: protobuf's JSON, with 64-bit integers as strings.

use std::borrow::Cow;

use serde::{Serialize, Serializer};

use super::Resource as Sender;

/// An attribute.
#[derive(Debug, Serialize)]
pub(super) struct KeyValue<'a> {
    pub key: Cow<'a, str>,
    pub value: AnyValue<'a>,
}

/// An attribute's value.
#[derive(Debug, Serialize)]
pub(super) enum AnyValue<'a> {
    #[serde(rename = "stringValue")]
    Text(&'a str),
    #[serde(rename = "intValue")]
    Int(Int),
    #[serde(rename = "doubleValue")]
    Double(f64),
    #[serde(rename = "boolValue")]
    Bool(bool),
}

/// A 64-bit integer, serialized as a string.
#[derive(Debug, Clone, Copy)]
pub(super) struct Int(pub u64);

impl Serialize for Int {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0.to_string())
    }
}

/// A time in ns, from ms since 1970.
pub(super) fn nanos(ms: u64) -> Int {
    Int(ms.saturating_mul(1_000_000))
}

pub(super) fn text<'a>(key: &'a str, value: &'a str) -> KeyValue<'a> {
    KeyValue {
        key: Cow::Borrowed(key),
        value: AnyValue::Text(value),
    }
}

/// The sender's attributes.
#[derive(Debug, Serialize)]
pub(super) struct Resource<'a> {
    attributes: [KeyValue<'a>; 3],
}

impl<'a> From<&'a Sender> for Resource<'a> {
    fn from(sender: &'a Sender) -> Self {
        Self {
            attributes: [
                text("service.name", "agentwatch-openclaw"),
                text("service.version", env!("CARGO_PKG_VERSION")),
                text("service.instance.id", &sender.gateway),
            ],
        }
    }
}

/// The instrumentation scope.
#[derive(Debug, Serialize)]
pub(super) struct Scope {
    name: &'static str,
    version: &'static str,
}

pub(super) const SCOPE: Scope = Scope {
    name: "agentwatch-openclaw",
    version: env!("CARGO_PKG_VERSION"),
};

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
