//! A call whose surfaces still speak, and what they make of it together.

use crate::call::{CallId, Cost, CostSource, Latency, LatencySource, Outcome, Usage};
use crate::observe::{Observation, SURFACES, Surface};

/// A final call, before it is put into the form that leaves.
#[derive(Debug, Clone, PartialEq)]
pub struct Settled {
    /// Minted at first sight.
    pub id: CallId,
    /// When it ended, in ms since 1970.
    pub ended_ms: u64,
    /// OpenClaw's name of the provider; may be empty where only a model's name was told.
    pub provider: String,
    /// The provider's name of the model.
    pub model: String,
    /// The agent's id.
    pub agent: Option<String>,
    /// The session's key, in the form in which it may leave.
    pub session_key: Option<String>,
    /// The run's id, in the form in which it may leave.
    pub run_id: Option<String>,
    /// What started the run.
    pub trigger: Option<String>,
    /// Tokens; `None` where none were reported.
    pub usage: Option<Usage>,
    /// What it cost.
    pub cost: Cost,
    /// How long it took.
    pub latency: Option<Latency>,
    /// Time to the first byte, in ms.
    pub ttfb_ms: Option<f64>,
    /// Time to the first token, in ms.
    pub ttft_ms: Option<f64>,
    /// The provider's id of the request.
    pub request_id: Option<String>,
    /// The model that answered, where that is another name.
    pub response_model: Option<String>,
    /// How it ended.
    pub outcome: Outcome,
    /// Whether only the session store told of it.
    pub stored: bool,
    /// Whether only other processes saw it.
    pub elsewhere: bool,
}

/// What only a proxy knows of a call that was counted before it told.
#[derive(Debug, Clone, PartialEq)]
pub struct Enrichment {
    /// The call's.
    pub id: CallId,
    /// Time to the first byte, in ms.
    pub ttfb_ms: Option<f64>,
    /// Time to the first token, in ms.
    pub ttft_ms: Option<f64>,
    /// The provider's id of the request.
    pub request_id: Option<String>,
    /// The model that answered.
    pub response_model: Option<String>,
    /// What the provider billed, in USD.
    pub billed_usd: Option<f64>,
}

impl Enrichment {
    /// What an observation knows beyond the gateway's own; `None` where that is nothing.
    pub(super) fn of(id: CallId, observation: &Observation) -> Option<Self> {
        if !matches!(observation.surface, Surface::Proxied | Surface::Litellm) {
            return None;
        }
        let is_billed = observation.surface == Surface::Proxied;
        let known = Self {
            id,
            ttfb_ms: observation.ttfb_ms,
            ttft_ms: observation.ttft_ms,
            request_id: observation.request_id.clone(),
            response_model: observation.response_model.clone(),
            billed_usd: observation.cost_usd.filter(|_| is_billed),
        };
        let is_something = known.ttfb_ms.is_some()
            || known.ttft_ms.is_some()
            || known.request_id.is_some()
            || known.response_model.is_some()
            || known.billed_usd.is_some();
        is_something.then_some(known)
    }
}

/// A call that still waits for its other surfaces.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) id: CallId,
    /// Since when it waits, on the monotonic clock.
    pub(super) since_ms: u64,
    pub(super) views: [Option<Box<Observation>>; SURFACES],
}

impl Open {
    pub(super) fn new(id: CallId, since_ms: u64) -> Self {
        Self {
            id,
            since_ms,
            views: [const { None }; SURFACES],
        }
    }

    /// OpenClaw's name of the provider, where one was told.
    pub(super) fn provider(&self) -> Option<&str> {
        let told = self.views.iter().flatten().map(|o| o.provider.as_str());
        told.into_iter().find(|provider| !provider.is_empty())
    }

    pub(super) fn view(&self, surface: Surface) -> Option<&Observation> {
        self.views[surface as usize].as_deref()
    }

    pub(super) fn is_complete(&self, expect_diagnostics: bool) -> bool {
        // What was stored is told long after the others had their chance.
        if self.view(Surface::Stored).is_some() {
            return true;
        }
        let diagnostic = self.view(Surface::Diagnostic).is_some() || !expect_diagnostics;
        self.view(Surface::Message).is_some() && diagnostic
    }

    /// Whether the gateway told that the call is over, and not yet what it used.
    pub(super) fn awaits_message(&self) -> bool {
        let mut views = self.views.iter().flatten();
        views.all(|view| {
            matches!(view.surface, Surface::Diagnostic | Surface::Timing)
                && view.usage.is_none()
                && view.outcome == Outcome::Completed
        })
    }

    pub(super) fn is_unanswered(&self) -> bool {
        let diagnostic = self.view(Surface::Diagnostic);
        self.view(Surface::Message).is_none() && diagnostic.is_some_and(|call| call.told_zeros)
    }

    pub(super) fn is_lone_turn(&self) -> bool {
        self.view(Surface::Message).is_none()
            && self
                .view(Surface::Diagnostic)
                .is_some_and(|turn| turn.whole_turn)
    }

    /// The first figure that a surface has, asked in this order.
    fn first<T>(&self, order: &[Surface], figure: impl Fn(&Observation) -> Option<T>) -> Option<T> {
        order
            .iter()
            .filter_map(|surface| self.view(*surface))
            .find_map(figure)
    }

    pub(super) fn settle(&self, id: CallId) -> Settled {
        use Surface::{Diagnostic, Litellm, Message, Named, Proxied, Stored, Timing};
        // The gateway's own diagnostic cannot be changed by another plugin; the message can.
        let truest = [Diagnostic, Message, Proxied, Litellm, Named, Stored, Timing];
        let speakers = [Message, Diagnostic, Timing, Proxied, Litellm, Named, Stored];
        let outcome = self.first(&speakers, |o| Some(o.outcome));
        // What a provider bills is the truth; OpenClaw and LiteLLM reckon with prices.
        let cost = [
            (&[Proxied][..], CostSource::Provider),
            (
                &[Diagnostic, Message, Named, Stored][..],
                CostSource::Openclaw,
            ),
            (&[Litellm][..], CostSource::Table),
        ]
        .into_iter()
        .find_map(|(of, source)| Some((self.first(of, |o| o.cost_usd)?, source)));
        Settled {
            id,
            ended_ms: self
                .first(
                    &[Diagnostic, Timing, Proxied, Message, Litellm, Named, Stored],
                    |o| Some(o.ended_ms),
                )
                .unwrap_or_default(),
            provider: self
                .first(&truest, |o| {
                    Some(o.provider.clone()).filter(|provider| !provider.is_empty())
                })
                .unwrap_or_default(),
            model: self
                .first(&truest, |o| Some(o.model.clone()))
                .unwrap_or_default(),
            agent: self.first(&speakers, |o| o.agent.clone()),
            session_key: self.first(&truest, |o| o.session_key.clone()),
            run_id: self.first(&truest, |o| o.run_id.clone()),
            trigger: self.first(&truest, |o| o.trigger.clone()),
            usage: self.first(&truest, |o| o.usage),
            cost: Cost {
                usd: cost.map_or(0.0, |(usd, _)| usd),
                source: cost.map_or(CostSource::Unknown, |(_, source)| source),
            },
            latency: self.latency(),
            ttfb_ms: self.first(&[Proxied, Diagnostic, Timing, Litellm], |o| o.ttfb_ms),
            ttft_ms: self.first(&[Proxied, Litellm], |o| o.ttft_ms),
            request_id: self.first(&[Proxied, Litellm], |o| o.request_id.clone()),
            response_model: self.first(&[Proxied, Litellm], |o| o.response_model.clone()),
            outcome: outcome.unwrap_or(Outcome::Completed),
            stored: self.views.iter().flatten().all(|o| o.surface == Stored),
            elsewhere: self.views.iter().flatten().all(|o| o.elsewhere),
        }
    }

    fn latency(&self) -> Option<Latency> {
        use Surface::{Diagnostic, Litellm, Message, Named, Proxied, Timing};
        let measured = [Diagnostic, Timing, Proxied, Litellm, Named];
        let measured = self.first(&measured, |o| o.duration_ms);
        let hook = || {
            self.first(&[Message], |o| {
                Some((o.ended_ms - o.started_ms.filter(|s| *s <= o.ended_ms)?) as f64)
            })
        };
        match measured {
            Some(ms) => Some(Latency {
                ms,
                source: LatencySource::Measured,
            }),
            None => hook().map(|ms| Latency {
                ms,
                source: LatencySource::Hook,
            }),
        }
    }
}
