//! `proxied`: a call that passed through the reverse proxy, which read the provider's usage and measured the time.
//! `litellm`: a call that a LiteLLM proxy logged. Neither has a session, so both are matched by the call's properties.

use super::{Event, Reject, Source, cost, duration};
use crate::domain::call::{Operation, Outcome, Usage};
use crate::domain::identity;
use crate::domain::observation::Observation;
use crate::domain::surface::Surface;
use crate::domain::usage::{Bill, count_of};
use crate::sources::facts::{Scalar, SourceTable, facts};

facts! {
    /// Facts of a call that passed through the proxy. The field names are those of `ProxiedCall` in the shim.
    ProxiedFacts = Request "proxied" {
        provider: "event.provider",
        model: "event.model",
        response_model: "event.response_model",
        input: "event.input",
        output: "event.output",
        cache_read: "event.cache_read",
        cache_write: "event.cache_write",
        reasoning: "event.reasoning",
        cost: "event.cost",
        response_id: "event.response_id",
        request_id: "event.request_id",
        status: "event.status",
        outcome: "event.outcome",
        started: "event.started",
        ended: "event.ended",
        duration: "event.duration",
        ttfb: "event.ttfb",
        ttft: "event.ttft",
        usage_source: "event.usage_source",
        bill: "event.bill",
        agent: "event.agent",
        operation: "event.operation",
    }
}

/// The table of `proxied`.
pub const PROXIED: SourceTable = ProxiedFacts::TABLE;
/// The table of `litellm`: the same facts, made by `sources/litellm.rs`.
pub const LITELLM: SourceTable = ProxiedFacts::TABLE.renamed("litellm");

pub(crate) const PROXIED_SOURCES: &[Source] = &[Source::new(PROXIED, |facts, table, at_ms| {
    read(ProxiedFacts::new(facts), table, Surface::Proxied, at_ms)
})];
pub(crate) const LITELLM_SOURCES: &[Source] = &[Source::new(LITELLM, |facts, table, at_ms| {
    read(ProxiedFacts::new(facts), table, Surface::Litellm, at_ms)
})];

/// Reads a call of one of these tables as an observation of this surface.
///
/// # Errors
/// A [`Reject`] where neither the request nor the answer has a model, or the provider is missing.
pub fn read(
    facts: ProxiedFacts,
    table: SourceTable,
    surface: Surface,
    at_ms: u64,
) -> Result<Event, Reject> {
    let source = table.source;
    let model = facts
        .model()
        .owned()
        .or_else(|| facts.response_model().owned());
    let (Some(provider), Some(model)) = (facts.provider().owned(), model) else {
        return Err(Reject::new(source, "no_model"));
    };
    let mut broken_usage = facts.usage_source().text() == Some("broken");
    let mut count = |scalar| {
        let count = count_of(scalar);
        broken_usage |= count.is_none();
        count.unwrap_or_default()
    };
    let usage = Usage {
        input: count(facts.input()),
        output: count(facts.output()),
        cache_read: count(facts.cache_read()),
        cache_write: count(facts.cache_write()),
        reasoning: count(facts.reasoning()),
    };
    // A call may have waited in a spool, so its own end is used if it is plausible.
    let ended_ms = facts
        .ended()
        .time_ms()
        .filter(|ended| *ended <= at_ms + 1_000)
        .unwrap_or(at_ms);
    Ok(Event::Call(Box::new(Observation {
        provider,
        model,
        agent: name(facts.agent()),
        response_id: facts.response_id().owned(),
        usage: Some(usage).filter(|usage| !usage.is_zero()),
        // A provider that bills reports free calls as zero. LiteLLM's zero means a model without a price.
        cost_usd: cost(facts.cost()).or_else(|| {
            let is_free = surface == Surface::Proxied && facts.cost().amount() == Some(0.0);
            is_free.then_some(0.0)
        }),
        // Later than the end where the clock was set back in between.
        started_ms: facts.started().time_ms(),
        duration_ms: duration(facts.duration()),
        ttfb_ms: duration(facts.ttfb()),
        ttft_ms: duration(facts.ttft()),
        request_id: name(facts.request_id()),
        response_model: name(facts.response_model()),
        operation: match facts.operation().text() {
            Some("text_completion") => Operation::TextCompletion,
            _ => Operation::Chat,
        },
        outcome: outcome(facts.outcome()),
        broken_usage,
        bill: facts.bill().text().and_then(Bill::of_text),
        ..Observation::of(surface, ended_ms)
    })))
}

/// Cleans a foreign name or id.
fn name(scalar: &Scalar) -> Option<String> {
    scalar.owned().map(|text| identity::name(&text))
}

pub(crate) fn outcome(scalar: &Scalar) -> Outcome {
    match scalar.text() {
        Some("failed") => Outcome::Failed,
        Some("aborted") => Outcome::Aborted,
        _ => Outcome::Completed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(values: &[(&str, Scalar)]) -> ProxiedFacts {
        let fields = ProxiedFacts::TABLE.fields.iter();
        ProxiedFacts::new(
            fields
                .map(|field| {
                    let value = values.iter().find(|(name, _)| *name == field.name);
                    value.map(|(_, value)| value.clone()).unwrap_or_default()
                })
                .collect(),
        )
    }

    fn text(text: &str) -> Scalar {
        Scalar::Text(text.to_owned())
    }

    fn call(facts: ProxiedFacts, table: SourceTable, at_ms: u64) -> Option<Box<Observation>> {
        match read(facts, table, Surface::Proxied, at_ms) {
            Ok(Event::Call(call)) => Some(call),
            _ => None,
        }
    }

    #[test]
    fn a_call_has_the_requested_model() {
        let at = 1_795_439_673_341;
        let facts = facts(&[
            ("provider", text("openai")),
            ("model", text("gpt-5")),
            ("response_model", text("gpt-5-2025-08-07")),
            ("input", Scalar::Number(7.0)),
            ("output", Scalar::Number(5.0)),
            ("reasoning", Scalar::Number(2.0)),
            ("cost", Scalar::Number(0.25)),
            ("operation", text("text_completion")),
            ("outcome", text("failed")),
            ("ended", Scalar::Number(at as f64 - 10.0)),
            ("started", Scalar::Number(at as f64 - 210.0)),
            ("duration", Scalar::Number(200.5)),
        ]);
        let call = call(facts, PROXIED, at).unwrap_or_else(|| unreachable!("no call"));
        let expected = Usage {
            input: 7,
            output: 5,
            reasoning: 2,
            ..Usage::default()
        };
        assert_eq!(call.usage, Some(expected));
        assert_eq!((call.model.as_str(), call.cost_usd), ("gpt-5", Some(0.25)));
        assert_eq!((call.started_ms, call.ended_ms), (Some(at - 210), at - 10));
        assert_eq!(call.outcome, Outcome::Failed);
        assert_eq!(call.operation, Operation::TextCompletion);
    }

    #[test]
    fn unreadable_usage_differs_from_missing_usage() {
        let broken = facts(&[
            ("provider", text("openai")),
            ("response_model", text("m")),
            ("usage_source", text("broken")),
        ]);
        let call = call(broken, LITELLM, 1).unwrap_or_else(|| unreachable!("no call"));
        assert!(call.broken_usage && call.usage.is_none());
        let nobody = facts(&[("model", text("m"))]);
        assert!(read(nobody, LITELLM, Surface::Litellm, 1).is_err());
    }
}
