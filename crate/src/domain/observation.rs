//! One surface's report of one call.

use crate::domain::call::{CostSource, Operation, Origin, Outcome, Usage};
use crate::domain::surface::Surface;
use crate::domain::usage::Bill;
use crate::spending::prompt_bill::PromptStats;

/// One surface's report of one call. Times in ms since 1970, durations in ms, cost in USD.
#[derive(Debug, Clone, PartialEq)]
pub struct Observation {
    /// The reporting surface.
    pub surface: Surface,
    /// OpenClaw's name of the provider.
    pub provider: String,
    /// The provider's name of the model.
    pub model: String,
    /// The session's key.
    pub session_key: Option<String>,
    /// The run's id.
    pub run_id: Option<String>,
    /// The trace's span; unique per call.
    pub span_id: Option<String>,
    /// What started the run.
    pub trigger: Option<String>,
    /// Channel, cron job, skill and tool.
    pub origin: Origin,
    /// Characters of the parts of its prompt.
    pub prompt: Option<PromptStats>,
    /// The agent's id.
    pub agent: Option<String>,
    /// The provider's id of the answer. Some servers repeat ids.
    pub response_id: Option<String>,
    /// Tokens; `None` where absent or all zero.
    pub usage: Option<Usage>,
    /// The source's figure; OpenClaw's only where it is above zero.
    pub cost_usd: Option<f64>,
    /// When the call began.
    pub started_ms: Option<u64>,
    /// When the call ended; the time of arrival where the source has none.
    pub ended_ms: u64,
    /// How long it took by the gateway's clock.
    pub duration_ms: Option<f64>,
    /// Time to the first byte.
    pub ttfb_ms: Option<f64>,
    /// Time to the first token of a stream; reported by intermediaries only.
    pub ttft_ms: Option<f64>,
    /// The provider's id of the request; reported by intermediaries only.
    pub request_id: Option<String>,
    /// The model that answered; reported by intermediaries only.
    pub response_model: Option<String>,
    /// What the call asks; reported by intermediaries only.
    pub operation: Operation,
    /// How it ended.
    pub outcome: Outcome,
    /// Whether this reports a whole turn of a foreign harness rather than one request.
    pub whole_turn: bool,
    /// Whether a usage was reported that could not be read.
    pub broken_usage: bool,
    /// Whether all-zero usage was reported.
    pub reported_zeros: bool,
    /// Whether this ends a turn: an answer that calls no tool.
    pub ends_turn: bool,
    /// Whether another process observed it. That process reports its turns.
    pub elsewhere: bool,
    /// Hash that identifies the call in repeated reports; see `matching/duplicates.rs`.
    pub call_key: Option<u64>,
    /// What is billed beside tokens at their usual price. Stored in a journal frame of its own.
    pub bill: Option<Box<Bill>>,
}

impl Observation {
    /// A report that tells nothing but a call's end.
    pub(crate) fn of(surface: Surface, ended_ms: u64) -> Self {
        Self {
            surface,
            ended_ms,
            provider: String::new(),
            model: String::new(),
            session_key: None,
            run_id: None,
            span_id: None,
            trigger: None,
            origin: Origin::default(),
            prompt: None,
            agent: None,
            response_id: None,
            usage: None,
            cost_usd: None,
            started_ms: None,
            duration_ms: None,
            ttfb_ms: None,
            ttft_ms: None,
            request_id: None,
            response_model: None,
            operation: Operation::default(),
            outcome: Outcome::Completed,
            whole_turn: false,
            broken_usage: false,
            reported_zeros: false,
            ends_turn: false,
            elsewhere: false,
            call_key: None,
            bill: None,
        }
    }
}

impl Observation {
    /// Whether its cost belongs to these tokens. A cost that a gateway or LiteLLM computed from other counts does not.
    pub(crate) fn cost_belongs_to(&self, usage: Option<&Usage>) -> bool {
        let is_billed = self
            .surface
            .row()
            .cost
            .is_some_and(|(_, source)| source == CostSource::Provider);
        let whole = |usage: &Usage| (usage.prompt(), usage.output);
        match (&self.usage, usage) {
            (Some(own), Some(taken)) => is_billed || whole(own) == whole(taken),
            _ => true,
        }
    }
}
