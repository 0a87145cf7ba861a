//! Records in AgentWatch's wire format: the fields of AgentWatch 0.1.0, and further fields for receivers that read
//! more.

use serde::{Serialize, Serializer};

use crate::domain::call::{CostSource, LatencySource, ModelCall, Outcome, Usage};
use crate::domain::identity;
use crate::domain::time::iso;
use crate::engine::settings::{ModelName, Naming};
use crate::spending::Nano;

/// Age in ms from which a stock AgentWatch gets calls of the session store in `costs` only, since it stamps usage with
/// the time of arrival.
pub const STOCK_HISTORY_MS: u64 = 15 * 60_000;

/// Whether a source reported a call's usage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum UsageSource {
    /// The provider reported it.
    Reported,
    /// No source reported it: the zeros mean "unknown".
    Missing,
}

/// Fields beyond AgentWatch's own, equal in `model_usage` and in `costs.metadata`.
#[derive(Debug, Clone, Serialize)]
pub struct Details<'a> {
    gateway: &'a str,
    provider: &'a str,
    cache_read_tokens: u64,
    cache_write_tokens: u64,
    reasoning_tokens: u64,
    cost_source: CostSource,
    usage_source: UsageSource,
    #[serde(skip_serializing_if = "Option::is_none")]
    latency_source: Option<LatencySource>,
    #[serde(skip_serializing_if = "Option::is_none")]
    session_key: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    run_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    trigger: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    channel: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    job: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    skill: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prompt_stats: Option<PromptChars>,
    /// In USD, by the model's rates.
    #[serde(skip_serializing_if = "Option::is_none")]
    cache_saved_usd: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cache_write_extra_usd: Option<f64>,
    outcome: Outcome,
    #[serde(skip_serializing_if = "Option::is_none")]
    ttfb_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ttft_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_model: Option<&'a str>,
}

/// Characters of the parts of a prompt, as the gateway counted them, and the prompt's share of the cost.
#[derive(Debug, Clone, Serialize)]
struct PromptChars {
    system_prompt: u64,
    tool_definitions: u64,
    messages: u64,
    other: u64,
    /// In USD, by the model's rates.
    #[serde(skip_serializing_if = "Option::is_none")]
    cost_usd: Option<f64>,
}

impl PromptChars {
    fn of(call: &ModelCall) -> Option<Self> {
        let [system_prompt, tool_definitions, messages, other] = call.prompt?.chars;
        Some(Self {
            system_prompt,
            tool_definitions,
            messages,
            other,
            cost_usd: call.prompt_usd.map(Nano::usd),
        })
    }
}

/// A record of `/api/v1/ingest/model_usage`. Tokens, USD, ms.
#[derive(Debug, Clone, Serialize)]
pub struct ModelUsageRecord<'a> {
    id: String,
    timestamp: String,
    model: String,
    agent_name: String,
    prompt_tokens: u64,
    completion_tokens: u64,
    cost_usd: f64,
    latency_ms: Option<f64>,
    #[serde(flatten)]
    details: Details<'a>,
}

/// A record of `/api/v1/ingest/costs`. Its id guards a batch against being counted twice. Tokens, USD.
#[derive(Debug, Clone, Serialize)]
pub struct CostRecord<'a> {
    id: String,
    timestamp: String,
    model: String,
    agent_name: String,
    input_tokens: u64,
    output_tokens: u64,
    estimated_cost_usd: f64,
    metadata: Details<'a>,
}

/// Usual size of a call in a batch's body, in bytes: the body then grows at most once.
const BODY_BYTES: usize = 1_280;

/// The body of `/api/v1/ingest/batch`, as JSON, in the order in which a stock server inserts it. Each call is a cost,
/// whose id is the guard, and a usage. Calls for which `is_history` is true are costs only.
pub fn batch_json<'a>(
    calls: impl Iterator<Item = &'a ModelCall> + Clone,
    naming: &'a Naming,
    is_history: impl Fn(&ModelCall) -> bool,
) -> String {
    let mut body = Vec::with_capacity(calls.clone().count() * BODY_BYTES);
    let costs = calls.clone().map(|call| cost(call, naming));
    let usages = calls.filter(|call| !is_history(call));
    let usages = usages.map(|call| model_usage(call, naming));
    body.extend_from_slice(b"{\"costs\":");
    list(&mut body, costs);
    body.extend_from_slice(b",\"model_usage\":");
    list(&mut body, usages);
    body.push(b'}');
    String::from_utf8(body).unwrap_or_default()
}

/// Writes a list record by record: collecting the records first would take as much memory as the body.
fn list(body: &mut Vec<u8>, records: impl Iterator<Item = impl Serialize>) {
    // Cannot fail: records consist of finite numbers and valid text.
    let _ = serde_json::Serializer::new(body).collect_seq(records);
}

/// A call that a server refused with this HTTP status, as a JSON line for the file of refused calls.
pub fn refused(call: &ModelCall, naming: &Naming, status: u16) -> String {
    #[derive(Serialize)]
    struct Refused<'a> {
        refused_with: u16,
        #[serde(flatten)]
        record: ModelUsageRecord<'a>,
    }
    let line = Refused {
        refused_with: status,
        record: model_usage(call, naming),
    };
    // Cannot fail: finite numbers and valid text always serialize.
    serde_json::to_string(&line).unwrap_or_default()
}

/// One call as model usage.
pub fn model_usage<'a>(call: &'a ModelCall, naming: &'a Naming) -> ModelUsageRecord<'a> {
    let usage = call.usage.unwrap_or_default();
    ModelUsageRecord {
        id: call.id.to_string(),
        timestamp: iso(call.ended_ms),
        model: model_name(call, naming),
        agent_name: agent_name(call, naming),
        prompt_tokens: usage.prompt(),
        completion_tokens: usage.output,
        cost_usd: call.cost.usd,
        latency_ms: call.latency.map(|latency| latency.ms),
        details: details(call, naming, &usage),
    }
}

fn cost<'a>(call: &'a ModelCall, naming: &'a Naming) -> CostRecord<'a> {
    let usage = call.usage.unwrap_or_default();
    CostRecord {
        id: call.id.to_string(),
        timestamp: iso(call.ended_ms),
        model: model_name(call, naming),
        agent_name: agent_name(call, naming),
        input_tokens: usage.prompt(),
        output_tokens: usage.output,
        // Always present: without it the server would compute an estimate.
        estimated_cost_usd: call.cost.usd,
        metadata: details(call, naming, &usage),
    }
}

fn details<'a>(call: &'a ModelCall, naming: &'a Naming, usage: &Usage) -> Details<'a> {
    Details {
        gateway: &naming.gateway,
        provider: &call.provider,
        cache_read_tokens: usage.cache_read,
        cache_write_tokens: usage.cache_write,
        reasoning_tokens: usage.reasoning,
        cost_source: call.cost.source,
        usage_source: match call.usage {
            Some(_) => UsageSource::Reported,
            None => UsageSource::Missing,
        },
        latency_source: call.latency.map(|latency| latency.source),
        session_key: call.session_key.as_deref(),
        run_id: call.run_id.as_deref(),
        trigger: call.trigger.as_deref(),
        channel: call.origin.channel.as_deref(),
        job: call.origin.job.as_deref(),
        skill: call.origin.skill.as_deref(),
        tool: call.origin.tool.as_deref(),
        prompt_stats: PromptChars::of(call),
        cache_saved_usd: call.cache_usd.map(|cache| cache.saved.usd()),
        cache_write_extra_usd: call.cache_usd.map(|cache| cache.write_extra.usd()),
        outcome: call.outcome,
        ttfb_ms: call.ttfb_ms,
        ttft_ms: call.ttft_ms,
        request_id: call.request_id.as_deref(),
        response_model: call.response_model.as_deref(),
    }
}

/// OpenClaw's reference `provider/model`, or the model alone where the settings say so.
pub fn model_name(call: &ModelCall, naming: &Naming) -> String {
    match naming.model_name {
        ModelName::Full if !call.provider.is_empty() => {
            identity::name(&format!("{}/{}", call.provider, call.model))
        }
        _ => identity::name(&call.model),
    }
}

/// The agent's name by the template. A call without an agent belongs to the gateway.
pub fn agent_name(call: &ModelCall, naming: &Naming) -> String {
    naming.agent(call.agent.as_deref())
}
