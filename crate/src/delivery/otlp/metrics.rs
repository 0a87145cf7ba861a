//! Sums of calls, and their metrics: `gen_ai.client.token.usage` and `gen_ai.client.operation.duration` of
//! OpenTelemetry's GenAI conventions, and `agentwatch.requests` and `agentwatch.cost.usd`, for which the conventions
//! have no metric.

use serde::Serialize;

use super::Resource as Sender;
use super::wire::{AnyValue, Int, KeyValue, Resource, SCOPE, Scope, nanos, provider_name, text};
use crate::domain::call::{CostSource, ModelCall, Outcome};
use crate::domain::identity;

/// The conventions' bucket boundaries, in tokens.
pub const TOKEN_BOUNDS: [f64; 14] = [
    1.0,
    4.0,
    16.0,
    64.0,
    256.0,
    1_024.0,
    4_096.0,
    16_384.0,
    65_536.0,
    262_144.0,
    1_048_576.0,
    4_194_304.0,
    16_777_216.0,
    67_108_864.0,
];
/// The conventions' bucket boundaries, in seconds.
pub const DURATION_BOUNDS: [f64; 14] = [
    0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92,
];
/// Maximum number of series. Calls of further models and agents go into one overflow series.
const MAX_SERIES: usize = 500;

/// Number of values per bucket, and their sum. The last bucket holds values above all boundaries.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Histogram {
    pub(crate) counts: [u64; 15],
    pub(crate) sum: f64,
}

impl Histogram {
    fn add(&mut self, bounds: &[f64; 14], value: f64) {
        // A value on a boundary belongs to the bucket below it.
        self.counts[bounds.partition_point(|bound| *bound < value)] += 1;
        self.sum += value;
    }

    fn count(&self) -> u64 {
        self.counts.iter().sum()
    }
}

/// Sums of one agent's calls to one model.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Series {
    pub(crate) provider: String,
    pub(crate) model: String,
    pub(crate) agent: Option<String>,
    /// Whether this is the overflow series: see [`MAX_SERIES`].
    pub(crate) is_overflow: bool,
    pub(crate) input: Histogram,
    pub(crate) output: Histogram,
    /// Durations in s, by [`Outcome`]: completed, failed, aborted.
    pub(crate) durations: [Histogram; 3],
    /// Number of requests and USD, by source of the cost.
    pub(crate) costs: Vec<(CostSource, u64, f64)>,
}

/// All sums of a gateway.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sums(pub(crate) Vec<Series>);

impl Sums {
    /// Adds a call.
    pub fn add(&mut self, call: &ModelCall) {
        let series = self.series(call);
        if let Some(usage) = call.usage {
            series.input.add(&TOKEN_BOUNDS, usage.prompt() as f64);
            series.output.add(&TOKEN_BOUNDS, usage.output as f64);
        }
        if let Some(latency) = call.latency {
            series.durations[call.outcome as usize].add(&DURATION_BOUNDS, latency.ms / 1_000.0);
        }
        let source = call.cost.source;
        let Some(at) = series.costs.iter().position(|(of, ..)| *of == source) else {
            series.costs.push((source, 1, call.cost.usd));
            return;
        };
        let (_, requests, usd) = &mut series.costs[at];
        *requests += 1;
        *usd += call.cost.usd;
    }

    fn series(&mut self, call: &ModelCall) -> &mut Series {
        let provider = identity::name(provider_name(&call.provider));
        let (model, agent) = (identity::name(&call.model), call.agent.as_deref());
        let agent = agent.map(identity::name);
        let is_it = |one: &Series| {
            !one.is_overflow && one.provider == provider && one.model == model && one.agent == agent
        };
        let is_full = self.0.len() >= MAX_SERIES;
        let found = self.0.iter().position(is_it).or_else(|| {
            let mut overflow = self.0.iter();
            is_full.then(|| overflow.position(|one| one.is_overflow))?
        });
        let at = found.unwrap_or_else(|| {
            self.0.push(match is_full {
                true => Series {
                    is_overflow: true,
                    ..Series::default()
                },
                false => Series {
                    provider,
                    model,
                    agent,
                    ..Series::default()
                },
            });
            self.0.len() - 1
        });
        &mut self.0[at]
    }

    /// JSON body for `/v1/metrics`; `None` before the first call. Times are ms since 1970.
    pub(super) fn body(&self, sender: &Sender, start_ms: u64, now_ms: u64) -> Option<String> {
        if self.0.is_empty() {
            return None;
        }
        let times = (nanos(start_ms), nanos(now_ms.max(start_ms)));
        let body = Body {
            resource_metrics: [ResourceMetrics {
                resource: sender.into(),
                scope_metrics: [ScopeMetrics {
                    scope: SCOPE,
                    metrics: [
                        self.token_usage(times),
                        self.duration(times),
                        self.requests(times),
                        self.cost(times),
                    ],
                }],
            }],
        };
        serde_json::to_string(&body).ok()
    }

    fn token_usage(&self, times: (Int, Int)) -> Metric<'_> {
        let points = self.0.iter().flat_map(|one| {
            [("input", &one.input), ("output", &one.output)].map(|(kind, histogram)| {
                one.histogram(
                    histogram,
                    &TOKEN_BOUNDS,
                    Some(("gen_ai.token.type", kind)),
                    times,
                )
            })
        });
        Metric::histogram(
            ("gen_ai.client.token.usage", "{token}"),
            points.flatten().collect(),
        )
    }

    fn duration(&self, times: (Int, Int)) -> Metric<'_> {
        let points = self.0.iter().flat_map(|one| {
            [
                (Outcome::Completed, None),
                (Outcome::Failed, Some(("error.type", "_OTHER"))),
                (Outcome::Aborted, Some(("error.type", "aborted"))),
            ]
            .map(|(outcome, label)| {
                let histogram = &one.durations[outcome as usize];
                one.histogram(histogram, &DURATION_BOUNDS, label, times)
            })
        });
        Metric::histogram(
            ("gen_ai.client.operation.duration", "s"),
            points.flatten().collect(),
        )
    }

    fn requests(&self, times: (Int, Int)) -> Metric<'_> {
        Metric::sum(
            ("agentwatch.requests", "{request}"),
            self.counters(true, times),
        )
    }

    fn cost(&self, times: (Int, Int)) -> Metric<'_> {
        Metric::sum(
            ("agentwatch.cost.usd", "{USD}"),
            self.counters(false, times),
        )
    }

    /// Points of the requests, or of their cost in USD.
    fn counters(
        &self,
        is_requests: bool,
        (start_time_unix_nano, time_unix_nano): (Int, Int),
    ) -> Vec<NumberPoint<'_>> {
        let of_one = |one| {
            let one: &Series = one;
            // A cost that is not known is not told as 0.
            let is_told = move |(source, ..): &&(CostSource, u64, f64)| {
                is_requests || *source != CostSource::Unknown
            };
            let point = move |(source, requests, usd): &(CostSource, u64, f64)| NumberPoint {
                attributes: one.attributes(Some(("agentwatch.cost.source", source_name(*source)))),
                start_time_unix_nano,
                time_unix_nano,
                as_int: is_requests.then_some(*requests),
                as_double: (!is_requests).then_some(*usd),
            };
            one.costs.iter().filter(is_told).map(point)
        };
        self.0.iter().flat_map(of_one).collect()
    }
}

impl Series {
    fn attributes<'a>(&'a self, more: Option<(&'a str, &'a str)>) -> Vec<KeyValue<'a>> {
        let mut all = match self.is_overflow {
            true => vec![KeyValue {
                key: "otel.metric.overflow".into(),
                value: AnyValue::Bool(true),
            }],
            false => vec![
                text("gen_ai.operation.name", "chat"),
                text("gen_ai.provider.name", &self.provider),
                text("gen_ai.request.model", &self.model),
            ],
        };
        let agent = self.agent.as_deref();
        all.extend(agent.map(|agent| text("gen_ai.agent.name", agent)));
        all.extend(more.map(|(key, value)| text(key, value)));
        all
    }

    fn histogram<'a>(
        &'a self,
        histogram: &'a Histogram,
        bounds: &'static [f64; 14],
        label: Option<(&'a str, &'a str)>,
        (start_time_unix_nano, time_unix_nano): (Int, Int),
    ) -> Option<HistogramPoint<'a>> {
        (histogram.count() > 0).then(|| HistogramPoint {
            attributes: self.attributes(label),
            start_time_unix_nano,
            time_unix_nano,
            count: histogram.count(),
            sum: histogram.sum,
            bucket_counts: histogram.counts,
            explicit_bounds: bounds,
        })
    }
}

fn source_name(source: CostSource) -> &'static str {
    match source {
        CostSource::Provider => "provider",
        CostSource::Openclaw => "openclaw",
        CostSource::Configured => "configured",
        CostSource::Table => "table",
        CostSource::Subscription => "subscription",
        CostSource::Unknown => "unknown",
    }
}

/// OTLP's `AGGREGATION_TEMPORALITY_CUMULATIVE`.
const CUMULATIVE: u8 = 2;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Body<'a> {
    resource_metrics: [ResourceMetrics<'a>; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ResourceMetrics<'a> {
    resource: Resource<'a>,
    scope_metrics: [ScopeMetrics<'a>; 1],
}

#[derive(Serialize)]
struct ScopeMetrics<'a> {
    scope: Scope,
    metrics: [Metric<'a>; 4],
}

#[derive(Serialize)]
struct Metric<'a> {
    name: &'static str,
    unit: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    histogram: Option<Histograms<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sum: Option<Counters<'a>>,
}

impl<'a> Metric<'a> {
    fn histogram(
        (name, unit): (&'static str, &'static str),
        data_points: Vec<HistogramPoint<'a>>,
    ) -> Self {
        let histogram = Histograms {
            aggregation_temporality: CUMULATIVE,
            data_points,
        };
        Self {
            name,
            unit,
            histogram: Some(histogram),
            sum: None,
        }
    }

    fn sum((name, unit): (&'static str, &'static str), data_points: Vec<NumberPoint<'a>>) -> Self {
        let sum = Counters {
            aggregation_temporality: CUMULATIVE,
            is_monotonic: true,
            data_points,
        };
        Self {
            name,
            unit,
            histogram: None,
            sum: Some(sum),
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Histograms<'a> {
    aggregation_temporality: u8,
    data_points: Vec<HistogramPoint<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Counters<'a> {
    aggregation_temporality: u8,
    is_monotonic: bool,
    data_points: Vec<NumberPoint<'a>>,
}

// Counts are serialized as numbers, which every decoder must accept: OpenTelemetry's Rust types before 0.30 silently
// lost points whose counts were strings.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct HistogramPoint<'a> {
    attributes: Vec<KeyValue<'a>>,
    start_time_unix_nano: Int,
    time_unix_nano: Int,
    count: u64,
    sum: f64,
    bucket_counts: [u64; 15],
    explicit_bounds: &'static [f64; 14],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct NumberPoint<'a> {
    attributes: Vec<KeyValue<'a>>,
    start_time_unix_nano: Int,
    time_unix_nano: Int,
    #[serde(skip_serializing_if = "Option::is_none")]
    as_int: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    as_double: Option<f64>,
}
