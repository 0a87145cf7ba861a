//! Conversion between finished calls and [`super::Call`], and between further fields and [`super::More`].

use super as v1;
use super::convert::{finite, finite_or_none, owned};
use crate::domain::call::{CacheUsd, CallId, Cost, Latency, ModelCall, Operation, Origin, Usage};
use crate::spending::Nano;
use crate::spending::prompt_bill::PromptStats;

/// A call as an entry of its log.
pub fn call_bytes(call: &ModelCall) -> Vec<u8> {
    let bytes = postcard::to_allocvec(&v1::Call::from(call)).unwrap_or_default();
    let more = v1::More::of(&call.origin, call.prompt.as_ref());
    let has_prompt = call.prompt_usd.is_some();
    let Nano(prompt) = call.prompt_usd.unwrap_or_default();
    let cache = |CacheUsd { saved, write_extra }| v1::CacheUsd {
        has_prompt,
        saved: saved.0,
        write_extra: write_extra.0,
    };
    let bytes = match (has_prompt, call.cache_usd) {
        _ if !call.operation.is_chat() => {
            let asked = v1::Asked {
                has_cache: call.cache_usd.is_some(),
                operation: call.operation.into(),
            };
            let cache = cache(call.cache_usd.unwrap_or_default());
            postcard::to_extend(&(more, prompt, cache, asked), bytes)
        }
        (false, None) if more == v1::More::default() => Ok(bytes),
        (false, None) => postcard::to_extend(&more, bytes),
        (true, None) => postcard::to_extend(&(more, prompt), bytes),
        (_, Some(known)) => postcard::to_extend(&(more, prompt, cache(known)), bytes),
    };
    bytes.unwrap_or_default()
}

/// A call from its entry.
pub fn call(payload: &[u8]) -> Option<ModelCall> {
    let (call, rest) = postcard::take_from_bytes::<v1::Call>(payload).ok()?;
    let mut call = call.domain()?;
    if !rest.is_empty() {
        let (more, rest) = postcard::take_from_bytes::<v1::More>(rest).ok()?;
        (call.origin, call.prompt) = more.domain();
        if !rest.is_empty() {
            let (nano, rest) = postcard::take_from_bytes::<u64>(rest).ok()?;
            call.prompt_usd = Some(Nano(nano));
            if !rest.is_empty() {
                let (cache, rest) = postcard::take_from_bytes::<v1::CacheUsd>(rest).ok()?;
                call.prompt_usd = call.prompt_usd.filter(|_| cache.has_prompt);
                call.cache_usd = Some(CacheUsd {
                    saved: Nano(cache.saved),
                    write_extra: Nano(cache.write_extra),
                });
                if !rest.is_empty() {
                    let asked = postcard::from_bytes::<v1::Asked>(rest).ok()?;
                    call.cache_usd = call.cache_usd.filter(|_| asked.has_cache);
                    call.operation = asked.operation.into();
                }
            }
        }
    }
    Some(call)
}

/// The id of the call in an entry.
pub fn call_id(payload: &[u8]) -> Option<CallId> {
    Some(CallId(postcard::take_from_bytes::<u128>(payload).ok()?.0))
}

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
            // `More` and what follows it have these.
            origin: _,
            prompt: _,
            prompt_usd: _,
            cache_usd: _,
            operation: _,
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
    fn domain(self) -> Option<ModelCall> {
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
            origin: Origin::default(),
            prompt: None,
            prompt_usd: None,
            cache_usd: None,
            operation: Operation::Chat,
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

impl<'a> v1::More<'a> {
    pub(super) fn of(origin: &'a Origin, prompt: Option<&PromptStats>) -> Self {
        let Origin {
            channel,
            job,
            skill,
            tool,
        } = origin;
        Self {
            channel: channel.as_deref(),
            job: job.as_deref(),
            skill: skill.as_deref(),
            tool: tool.as_deref(),
            prompt: prompt.map(|PromptStats { chars }| *chars),
        }
    }

    pub(super) fn domain(self) -> (Origin, Option<PromptStats>) {
        let origin = Origin {
            channel: owned(self.channel),
            job: owned(self.job),
            skill: owned(self.skill),
            tool: owned(self.tool),
        };
        (origin, self.prompt.map(|chars| PromptStats { chars }))
    }
}

impl From<Operation> for v1::Operation {
    fn from(operation: Operation) -> Self {
        match operation {
            Operation::Chat => Self::Chat,
            Operation::TextCompletion => Self::TextCompletion,
        }
    }
}

impl From<v1::Operation> for Operation {
    fn from(operation: v1::Operation) -> Self {
        match operation {
            v1::Operation::Chat => Self::Chat,
            v1::Operation::TextCompletion => Self::TextCompletion,
        }
    }
}
