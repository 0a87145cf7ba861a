//! Conversion between finished calls and [`super::Call`].

use super as v1;
use super::convert::{finite, finite_or_none, owned};
use crate::domain::call::{CallId, Cost, Latency, ModelCall, Usage};

impl<'a> From<&'a ModelCall> for v1::Call<'a> {
    fn from(call: &'a ModelCall) -> Self {
        let ModelCall {
            id,
            ended_ms,
            provider,
            model,
            agent,
            session_key,
            run_id,
            trigger,
            usage,
            cost,
            latency,
            ttfb_ms,
            ttft_ms,
            request_id,
            response_model,
            outcome,
            stored,
        } = call;
        Self {
            id: id.0,
            ended_ms: *ended_ms,
            provider,
            model,
            agent: agent.as_deref(),
            session_key: session_key.as_deref(),
            run_id: run_id.as_deref(),
            trigger: trigger.as_deref(),
            usage: usage.map(v1::Usage::from),
            cost: v1::Cost {
                usd: cost.usd,
                source: cost.source.into(),
            },
            latency: latency.map(|Latency { ms, source }| v1::Latency {
                ms,
                source: source.into(),
            }),
            ttfb_ms: *ttfb_ms,
            ttft_ms: *ttft_ms,
            request_id: request_id.as_deref(),
            response_model: response_model.as_deref(),
            outcome: (*outcome).into(),
            stored: *stored,
        }
    }
}

impl v1::Call<'_> {
    pub(super) fn domain(self) -> Option<ModelCall> {
        let latency = match self.latency {
            None => None,
            Some(v1::Latency { ms, source }) => Some(Latency {
                ms: finite(ms)?,
                source: source.into(),
            }),
        };
        Some(ModelCall {
            id: CallId(self.id),
            ended_ms: self.ended_ms,
            provider: self.provider.to_owned(),
            model: self.model.to_owned(),
            agent: owned(self.agent),
            session_key: owned(self.session_key),
            run_id: owned(self.run_id),
            trigger: owned(self.trigger),
            usage: self.usage.map(Usage::from),
            cost: Cost {
                usd: finite(self.cost.usd)?,
                source: self.cost.source.into(),
            },
            latency,
            ttfb_ms: finite_or_none(self.ttfb_ms)?,
            ttft_ms: finite_or_none(self.ttft_ms)?,
            request_id: owned(self.request_id),
            response_model: owned(self.response_model),
            outcome: self.outcome.into(),
            stored: self.stored,
        })
    }
}
