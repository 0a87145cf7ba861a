//! Pending calls, and how the observations of one call are merged.

use crate::domain::call::{
    CallId, Cost, CostSource, Latency, LatencySource, Operation, Origin, Outcome, Usage,
};
use crate::domain::observation::Observation;
use crate::domain::surface::{Awaited, Row, SURFACES, Surface};
use crate::domain::usage::Bill;
use crate::spending::prompt_bill::PromptStats;

/// A final call, before it is priced and formatted.
#[derive(Debug, Clone, PartialEq)]
pub struct Settled {
    /// Minted at first sight.
    pub id: CallId,
    /// When it ended, in ms since 1970.
    pub ended_ms: u64,
    /// OpenClaw's name of the provider; empty where only the model was reported.
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
    /// Channel, cron job, skill and tool.
    pub origin: Origin,
    /// Characters of the parts of its prompt.
    pub prompt: Option<PromptStats>,
    /// Tokens; `None` where none were reported.
    pub usage: Option<Usage>,
    /// Its cost.
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
    /// What it asks.
    pub operation: Operation,
    /// How it ended.
    pub outcome: Outcome,
    /// What is billed beside tokens at their usual price.
    pub bill: Option<Box<Bill>>,
    /// Whether it is several requests: a turn of a foreign harness, or a call with parts.
    pub is_sum: bool,
    /// Whether only the session store reported it.
    pub stored: bool,
    /// Whether only other processes saw it.
    pub elsewhere: bool,
}

/// Fields that an intermediary reports about a call that was counted already.
#[derive(Debug, Clone, PartialEq)]
pub struct Enrichment {
    /// Id of the call.
    pub id: CallId,
    /// Time to the first byte, in ms.
    pub ttfb_ms: Option<f64>,
    /// Time to the first token, in ms.
    pub ttft_ms: Option<f64>,
    /// The provider's id of the request.
    pub request_id: Option<String>,
    /// The model that answered.
    pub response_model: Option<String>,
    /// The provider's bill, in USD.
    pub billed_usd: Option<f64>,
    /// The intermediary's observation. The bill is compared with its usage.
    pub seen: Box<Observation>,
}

impl Enrichment {
    /// The enrichment that an observation brings; `None` where it adds nothing.
    pub(super) fn of(id: CallId, observation: &Observation) -> Option<Self> {
        if !observation.surface.is_intermediary() {
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
        let has_content = known.ttfb_ms.is_some()
            || known.ttft_ms.is_some()
            || known.request_id.is_some()
            || known.response_model.is_some()
            || known.billed_usd.is_some();
        has_content.then_some(known)
    }
}

/// A call that still waits for its other surfaces.
#[derive(Debug)]
pub(super) struct PendingCall {
    pub(super) id: CallId,
    /// Since when it waits, in ms on the monotonic clock.
    pub(super) since_ms: u64,
    pub(super) observations: [Option<Box<Observation>>; SURFACES],
}

impl PendingCall {
    pub(super) fn new(id: CallId, since_ms: u64) -> Self {
        Self {
            id,
            since_ms,
            observations: [const { None }; SURFACES],
        }
    }

    /// OpenClaw's name of the provider, if any surface reported one.
    pub(super) fn provider(&self) -> Option<&str> {
        let mut told = self.observations().map(|o| o.provider.as_str());
        told.find(|provider| !provider.is_empty())
    }

    pub(super) fn observation(&self, surface: Surface) -> Option<&Observation> {
        self.observations[surface as usize].as_deref()
    }

    /// The observations so far.
    pub(super) fn observations(&self) -> impl Iterator<Item = &Observation> {
        self.observations
            .iter()
            .flatten()
            .map(|observation| &**observation)
    }

    /// Whether it was read from the session store: all other surfaces had their chance by then.
    pub(super) fn is_stored(&self) -> bool {
        self.observations()
            .any(|observation| observation.surface.is_stored())
    }

    pub(super) fn is_complete(&self, expect_diagnostics: bool) -> bool {
        let has_reported = |surface: Surface| match surface.row().awaited {
            Awaited::Always => self.observation(surface).is_some(),
            Awaited::WithDiagnostics => !expect_diagnostics || self.observation(surface).is_some(),
            // `Matcher::lacks_any` decides about these.
            Awaited::OfProvider(_) | Awaited::Never => true,
        };
        self.is_stored() || Surface::all().all(has_reported)
    }

    /// Whether the gateway reported the end of the call, but not its usage yet.
    pub(super) fn may_get_message(&self) -> bool {
        self.observations().all(|observation| {
            !observation.surface.row().has_reliable_success
                && observation.usage.is_none()
                && observation.outcome == Outcome::Completed
        })
    }

    /// Whether a surface that reports each answer reported it.
    fn is_answered(&self) -> bool {
        self.observations()
            .any(|observation| observation.surface.row().reports_answers)
    }

    /// The observation with all-zero usage, of a call without a reported answer.
    pub(super) fn unanswered(&self) -> Option<&Observation> {
        let mut observations = self.observations().filter(|_| !self.is_answered());
        observations.find(|observation| observation.reported_zeros)
    }

    /// The observation of a whole turn, of a call without a reported answer.
    pub(super) fn unanswered_turn(&self) -> Option<&Observation> {
        let mut observations = self.observations().filter(|_| !self.is_answered());
        observations.find(|observation| observation.whole_turn)
    }

    /// The figure of the surface with the lowest rank among those that report it.
    fn first<'a, T: ?Sized, R: Ord + Copy>(
        &'a self,
        rank: impl Fn(&Row) -> Option<R>,
        figure: impl Fn(&'a Observation) -> Option<&'a T>,
    ) -> Option<&'a T> {
        let ranked = self.observations().filter_map(|observation| {
            Some((rank(observation.surface.row())?, figure(observation)?))
        });
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
        // A surface that reports all requests of the call has the most complete usage.
        let usage = self
            .first(by_usage, |o| o.usage.as_ref().filter(|_| has_parts(o)))
            .or_else(|| self.first(by_usage, |o| o.usage.as_ref()))
            .copied();
        let has_cost = |o| {
            Some(o).filter(|o: &&Observation| {
                o.cost_usd.is_some() && o.cost_belongs_to(usage.as_ref())
            })
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
            origin: Origin {
                channel: self.first(by_name, |o| o.origin.channel.as_ref()).cloned(),
                job: self.first(by_name, |o| o.origin.job.as_ref()).cloned(),
                skill: self.first(by_name, |o| o.origin.skill.as_ref()).cloned(),
                tool: self.first(by_name, |o| o.origin.tool.as_ref()).cloned(),
            },
            prompt: self.first(by_name, |o| o.prompt.as_ref()).copied(),
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
            operation: self
                .observations()
                .map(|o| o.operation)
                .find(|operation| !operation.is_chat())
                .unwrap_or_default(),
            outcome: outcome.copied().unwrap_or(Outcome::Completed),
            is_sum: self.observations().any(|o| o.whole_turn || has_parts(o)),
            stored: self.observations().all(|o| o.surface.is_stored()),
            elsewhere: self.observations().all(|o| o.elsewhere),
        }
    }

    /// A measured duration, else the time from the start of the call to the arrival of its message at the hook.
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
