//! A call whose surfaces still speak, and what they make of it together.

use crate::call::{CallId, Cost, CostSource, Latency, LatencySource, Outcome, Usage};
use crate::observe::{Awaited, Observation, Row, SURFACES, Surface};
use crate::usage::Bill;

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
    /// What is billed beside tokens at their usual price.
    pub bill: Option<Box<Bill>>,
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
    /// The sighting that this is of: what the bill is compared with.
    pub seen: Box<Observation>,
}

impl Enrichment {
    /// What an observation knows beyond the gateway's own; `None` where that is nothing.
    pub(super) fn of(id: CallId, observation: &Observation) -> Option<Self> {
        if !observation.surface.is_way() {
            return None;
        }
        let cost = observation.surface.row().cost;
        let has_own = observation.bill.as_ref().is_some_and(|bill| bill.is_billed);
        let is_billed = has_own || cost.is_some_and(|(_, source)| source == CostSource::Provider);
        let known = Self {
            id,
            ttfb_ms: observation.ttfb_ms,
            ttft_ms: observation.ttft_ms,
            request_id: observation.request_id.clone(),
            response_model: observation.response_model.clone(),
            billed_usd: observation.cost_usd.filter(|_| is_billed),
            seen: Box::new(observation.clone()),
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
        let mut told = self.views().map(|o| o.provider.as_str());
        told.find(|provider| !provider.is_empty())
    }

    pub(super) fn view(&self, surface: Surface) -> Option<&Observation> {
        self.views[surface as usize].as_deref()
    }

    /// What was told of it so far.
    pub(super) fn views(&self) -> impl Iterator<Item = &Observation> {
        self.views.iter().flatten().map(|view| &**view)
    }

    /// Whether the gateway stored it: that is told long after the others had their chance.
    pub(super) fn is_stored(&self) -> bool {
        self.views().any(|view| view.surface.is_stored())
    }

    pub(super) fn is_complete(&self, expect_diagnostics: bool) -> bool {
        let has_told = |surface: Surface| match surface.row().awaited {
            Awaited::Always => self.view(surface).is_some(),
            Awaited::WithDiagnostics => !expect_diagnostics || self.view(surface).is_some(),
            // Of these the ledger knows who is awaited.
            Awaited::OfProvider(_) | Awaited::Never => true,
        };
        self.is_stored() || Surface::all().all(has_told)
    }

    /// Whether the gateway told that the call is over, and not yet what it used.
    pub(super) fn awaits_message(&self) -> bool {
        self.views().all(|view| {
            !view.surface.row().knows_success
                && view.usage.is_none()
                && view.outcome == Outcome::Completed
        })
    }

    /// Whether its answer was told as such.
    fn is_answered(&self) -> bool {
        self.views().any(|view| view.surface.row().tells_answers)
    }

    /// What told that it used nothing, where nothing told of its answer.
    pub(super) fn unanswered(&self) -> Option<&Observation> {
        let mut views = self.views().filter(|_| !self.is_answered());
        views.find(|view| view.told_zeros)
    }

    /// What told of a whole turn, where nothing told of its answer.
    pub(super) fn lone_turn(&self) -> Option<&Observation> {
        let mut views = self.views().filter(|_| !self.is_answered());
        views.find(|view| view.whole_turn)
    }

    /// The figure of the surface with the lowest rank, of those that have one.
    fn first<'a, T: ?Sized, R: Ord + Copy>(
        &'a self,
        rank: impl Fn(&Row) -> Option<R>,
        figure: impl Fn(&'a Observation) -> Option<&'a T>,
    ) -> Option<&'a T> {
        let ranked = self
            .views()
            .filter_map(|view| Some((rank(view.surface.row())?, figure(view)?)));
        ranked
            .min_by_key(|(rank, _)| *rank)
            .map(|(_, figure)| figure)
    }

    pub(super) fn settle(&self, id: CallId) -> Settled {
        let by_usage = |row: &Row| row.usage;
        let by_name = |row: &Row| Some(row.names());
        let by_outcome = |row: &Row| Some(row.outcome);
        let by_time = |row: &Row| Some(row.time);
        let by_request = |row: &Row| row.request;
        let by_cost = |row: &Row| row.cost.map(|(rank, _)| rank);
        let has_parts =
            |o: &Observation| o.bill.as_ref().is_some_and(|bill| !bill.parts.is_empty());
        // Who was told all requests that the call is made of knows best.
        let usage = self
            .first(by_usage, |o| o.usage.as_ref().filter(|_| has_parts(o)))
            .or_else(|| self.first(by_usage, |o| o.usage.as_ref()))
            .copied();
        let has_cost = |o| {
            Some(o).filter(|o: &&Observation| o.cost_usd.is_some() && o.reckoned_by(usage.as_ref()))
        };
        let told_cost = self.first(by_cost, has_cost);
        let cost = told_cost.and_then(|o| {
            let (usd, (_, source)) = o.cost_usd.zip(o.surface.row().cost)?;
            let is_billed = o.bill.as_ref().is_some_and(|bill| bill.is_billed);
            let source = if is_billed {
                CostSource::Provider
            } else {
                source
            };
            Some(Cost { usd, source })
        });
        let outcome = self.first(by_outcome, |o| Some(&o.outcome));
        let name = |name: Option<&str>| name.unwrap_or_default().to_owned();
        Settled {
            id,
            ended_ms: self
                .first(by_time, |o| Some(&o.ended_ms))
                .copied()
                .unwrap_or_default(),
            provider: name(self.first(by_name, |o| {
                Some(o.provider.as_str()).filter(|name| !name.is_empty())
            })),
            model: name(self.first(by_name, |o| Some(o.model.as_str()))),
            agent: self.first(by_outcome, |o| o.agent.as_ref()).cloned(),
            session_key: self.first(by_name, |o| o.session_key.as_ref()).cloned(),
            run_id: self.first(by_name, |o| o.run_id.as_ref()).cloned(),
            trigger: self.first(by_name, |o| o.trigger.as_ref()).cloned(),
            usage,
            bill: self
                .first(by_usage, |o| o.bill.as_ref().filter(|_| has_parts(o)))
                .or_else(|| self.first(by_usage, |o| o.bill.as_ref()))
                .cloned(),
            cost: cost.unwrap_or(Cost {
                usd: 0.0,
                source: CostSource::Unknown,
            }),
            latency: self.latency(),
            ttfb_ms: self.first(by_request, |o| o.ttfb_ms.as_ref()).copied(),
            ttft_ms: self.first(by_request, |o| o.ttft_ms.as_ref()).copied(),
            request_id: self.first(by_request, |o| o.request_id.as_ref()).cloned(),
            response_model: self
                .first(by_request, |o| o.response_model.as_ref())
                .cloned(),
            outcome: outcome.copied().unwrap_or(Outcome::Completed),
            stored: self.views().all(|o| o.surface.is_stored()),
            elsewhere: self.views().all(|o| o.elsewhere),
        }
    }

    /// A duration that was measured; else the time from the start to the arrival at the hook.
    fn latency(&self) -> Option<Latency> {
        let of = |source| move |row: &Row| (row.latency == Some(source)).then_some(row.time);
        let measured = of(LatencySource::Measured);
        let measured = self.first(measured, |o| o.duration_ms.as_ref()).copied();
        let hook = || {
            let has_span = |o: &Observation| o.started_ms.is_some_and(|start| start <= o.ended_ms);
            let told = self.first(of(LatencySource::Hook), |o| Some(o).filter(|o| has_span(o)))?;
            Some((told.ended_ms - told.started_ms?) as f64)
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
