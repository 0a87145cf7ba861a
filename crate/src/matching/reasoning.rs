//! Corrects reasoning tokens that a gateway added to the output a second time.
//!
//! OpenClaw 2026.3.13 adds `completion_tokens_details.reasoning_tokens` of a chat completion to `completion_tokens`,
//! which includes them already, and computes its total and its cost from the sum; 2026.5.28, 6.11, 7.1, 8.2 and 9.6 do
//! not (measured on each). The gateway's figures agree with each other, so only a surface that read the provider's
//! answer reveals the error.

use super::pending::{PendingCall, Settled};
use crate::domain::call::{Cost, CostSource, Usage};

/// Whether a gateway's `output` of a call with this whole `prompt` is the provider's output plus its reasoning.
pub(super) fn is_added_twice(prompt: u64, output: u64, provider: &Usage) -> bool {
    let reasoning = provider.reasoning;
    reasoning > 0
        && reasoning <= provider.output
        && prompt == provider.prompt()
        && output == provider.output + reasoning
}

impl PendingCall {
    /// Replaces a gateway's usage that contains the reasoning twice by the provider's. The gateway's cost of that usage
    /// is dropped.
    pub(super) fn count_reasoning_once(&self, settled: &mut Settled) {
        let Some(told) = settled.usage else { return };
        let seen = self
            .observations()
            .filter(|observation| observation.surface.is_intermediary());
        let mut seen = seen.filter_map(|observation| observation.usage);
        let Some(usage) = seen.find(|seen| is_added_twice(told.prompt(), told.output, seen)) else {
            return;
        };
        settled.usage = Some(usage);
        if settled.cost.source == CostSource::Openclaw {
            settled.cost = Cost {
                usd: 0.0,
                source: CostSource::Unknown,
            };
        }
    }
}
