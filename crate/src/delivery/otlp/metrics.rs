//! Sums of calls, and their metrics: those of OpenTelemetry's GenAI conventions, and `agentwatch.requests` and
//! `agentwatch.cost.usd`, for which the conventions have no metric.

use super::wire::{
    self, HistogramPoint, KeyValue, Metric, MetricsRequest, Number, NumberPoint, ResourceMetrics,
    ScopeMetrics, Value, nanos, provider_name, text,
};
use super::{Form, Resource as Sender};
use crate::domain::call::{CostSource, ModelCall, Operation, Outcome};
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
/// The same: the conventions advise the same ones for the first chunk.
const FIRST_CHUNK_BOUNDS: [f64; 14] = DURATION_BOUNDS;
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

    /// Adds the tokens of a call, unless they are 0: sources do not tell 0 from none.
    fn add_tokens(&mut self, tokens: u64) {
        if tokens > 0 {
            self.add(&TOKEN_BOUNDS, tokens as f64);
        }
    }

    fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The values without those of these others, which it has, too.
    fn without(&self, others: [&Self; 2]) -> Self {
        let mut rest = self.clone();
        for other in others {
            for (count, less) in rest.counts.iter_mut().zip(other.counts) {
                *count = count.saturating_sub(less);
            }
            rest.sum = (rest.sum - other.sum).max(0.0);
        }
        rest
    }
}

/// What a series' calls have in common besides provider, model and agent. The first version of the state does not have it.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct About {
    pub(crate) operation: Operation,
    pub(crate) channel: Option<String>,
    pub(crate) trigger: Option<String>,
}

/// Sums of the calls of one agent, channel and trigger to one model.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Series {
    pub(crate) provider: String,
    pub(crate) model: String,
    pub(crate) agent: Option<String>,
    pub(crate) about: About,
    /// Input and output tokens of failed and of stopped calls; `input` and `output` have those of all calls.
    pub(crate) unfinished: [[Histogram; 2]; 2],
    /// Whether this is the overflow series: see [`MAX_SERIES`].
    pub(crate) is_overflow: bool,
    pub(crate) input: Histogram,
    pub(crate) output: Histogram,
    /// Durations in s, by [`Outcome`]: completed, failed, aborted.
    pub(crate) durations: [Histogram; 3],
    /// Number of requests and USD, by source of the cost.
    pub(crate) costs: Vec<(CostSource, u64, f64)>,
    pub(crate) more: More,
}

/// Sums that the first version of the state does not have.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct More {
    /// Tokens of prompts that were read from a cache.
    pub(crate) cache_read: u64,
    /// Tokens of prompts that were written to a cache.
    pub(crate) cache_write: u64,
    /// Reasoning tokens.
    pub(crate) reasoning: u64,
    /// Times to the first chunk of streams, in s.
    pub(crate) first_chunk: Histogram,
}

/// All sums of a gateway.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sums(pub(crate) Vec<Series>);

impl Sums {
    /// Adds a call.
    pub fn add(&mut self, call: &ModelCall) {
        let series = self.series(call);
        if let Some(usage) = call.usage {
            series.input.add_tokens(usage.prompt());
            series.output.add_tokens(usage.output);
            let unfinished = match call.outcome {
                Outcome::Completed => None,
                Outcome::Failed => Some(0),
                Outcome::Aborted => Some(1),
            };
            if let Some(kind) = unfinished {
                let [input, output] = &mut series.unfinished[kind];
                input.add_tokens(usage.prompt());
                output.add_tokens(usage.output);
            }
            let more = &mut series.more;
            for (sum, tokens) in [
                (&mut more.cache_read, usage.cache_read),
                (&mut more.cache_write, usage.cache_write),
                (&mut more.reasoning, usage.reasoning),
            ] {
                *sum = sum.saturating_add(tokens);
            }
        }
        if let Some(ms) = call.first_chunk_ms() {
            let first_chunk = &mut series.more.first_chunk;
            first_chunk.add(&FIRST_CHUNK_BOUNDS, ms / 1_000.0);
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

    /// Whether any call has figures that the first version of the state does not have.
    pub(super) fn have_more(&self) -> bool {
        self.0.iter().any(|one| one.more != More::default())
    }

    /// Whether any series has a channel, a trigger or another operation, or calls that did not complete.
    pub(super) fn are_split(&self) -> bool {
        let is_split = |one: &Series| {
            one.about != About::default() || one.unfinished != <[[Histogram; 2]; 2]>::default()
        };
        self.0.iter().any(is_split)
    }

    fn series(&mut self, call: &ModelCall) -> &mut Series {
        let provider = identity::name(provider_name(&call.provider));
        let (model, agent) = (identity::name(&call.model), call.agent.as_deref());
        let agent = agent.map(identity::name);
        let about = About {
            operation: call.operation,
            channel: call.origin.channel.as_deref().map(identity::name),
            trigger: call.trigger.clone(),
        };
        let is_it = |one: &Series| {
            let is_same = one.model == model && one.about == about && one.agent == agent;
            !one.is_overflow && is_same && one.provider == provider
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
                    about,
                    ..Series::default()
                },
            });
            self.0.len() - 1
        });
        &mut self.0[at]
    }

    /// Body for `/v1/metrics`; `None` before the first call. Times are ms since 1970.
    pub(super) fn body(
        &self,
        sender: &Sender,
        form: Form,
        starts: Starts,
        now_ms: u64,
    ) -> Option<Vec<u8>> {
        if self.0.is_empty() {
            return None;
        }
        let times = |start_ms: u64| Times {
            start: nanos(start_ms),
            now: nanos(now_ms.max(start_ms)),
        };
        let (times, more_times) = (times(starts.sums_ms), times(starts.more_ms));
        let mut metrics = Vec::new();
        if form.conventions.has_released() {
            metrics.push(self.token_usage(times));
            metrics.push(self.duration("gen_ai.client.operation.duration", times));
        }
        metrics.push(self.requests(times));
        metrics.push(self.cost(times));
        if form.conventions.has_released() {
            let name = "gen_ai.client.operation.time_to_first_chunk";
            metrics.push(self.first_chunk(name, more_times));
        }
        if form.conventions.has_latest() {
            metrics.push(self.duration("gen_ai.client.inference.duration", times));
            let name = "gen_ai.client.inference.time_to_first_chunk";
            metrics.push(self.first_chunk(name, more_times));
            metrics.extend(self.token_counters(times, more_times));
            metrics.extend(self.operation_tokens(times));
        }
        // A metric without points tells nothing, and no collector wants it.
        metrics.retain(|metric| !metric.is_empty());
        let request = MetricsRequest {
            resource_metrics: vec![ResourceMetrics {
                resource: Some(sender.into()),
                scope_metrics: vec![ScopeMetrics {
                    scope: wire::scope(),
                    metrics,
                }],
            }],
        };
        Some(wire::body(&request, form))
    }

    fn token_usage(&self, times: Times) -> Metric {
        let points = self.0.iter().flat_map(|one| {
            [("input", &one.input), ("output", &one.output)].map(|(kind, histogram)| {
                let label = Some(("gen_ai.token.type", kind));
                one.histogram(histogram, &TOKEN_BOUNDS, label, times)
            })
        });
        let points = points.flatten().collect();
        Metric::histogram("gen_ai.client.token.usage", "{token}", points)
    }

    /// Tokens of each call, by the newer conventions.
    fn operation_tokens(&self, times: Times) -> [Metric; 2] {
        let names = ["input_tokens", "output_tokens"];
        [0, 1].map(|kind| {
            let points = self.0.iter().flat_map(|one| {
                let [failed, aborted] = one.unfinished.each_ref().map(|tokens| &tokens[kind]);
                let all = [&one.input, &one.output][kind];
                [
                    (&all.without([failed, aborted]), None),
                    (failed, Some(("error.type", "_OTHER"))),
                    (aborted, Some(("error.type", "aborted"))),
                ]
                .map(|(histogram, label)| one.histogram(histogram, &TOKEN_BOUNDS, label, times))
            });
            let name = ["gen_ai.client.inference.operation.", names[kind]].concat();
            Metric::histogram(&name, "{token}", points.flatten().collect())
        })
    }

    fn duration(&self, name: &str, times: Times) -> Metric {
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
        Metric::histogram(name, "s", points.flatten().collect())
    }

    fn first_chunk(&self, name: &str, times: Times) -> Metric {
        let points = self.0.iter().filter_map(|one| {
            one.histogram(&one.more.first_chunk, &FIRST_CHUNK_BOUNDS, None, times)
        });
        Metric::histogram(name, "s", points.collect())
    }

    /// The counters by kind of token of the newer conventions. Sources do not tell 0 from none, so 0 is left out.
    fn token_counters(&self, times: Times, more: Times) -> [Metric; 5] {
        type Tokens = fn(&Series) -> u64;
        let counters: [(&str, Times, Tokens); 5] = [
            ("input_tokens", times, |one| one.input.sum as u64),
            ("output_tokens", times, |one| one.output.sum as u64),
            ("cache_read.input_tokens", more, |one| one.more.cache_read),
            ("cache_write.input_tokens", more, |one| one.more.cache_write),
            ("reasoning.output_tokens", more, |one| one.more.reasoning),
        ];
        counters.map(|(name, times, tokens)| {
            let points = self.0.iter().filter_map(|one| {
                let tokens = Some(tokens(one)).filter(|tokens| *tokens > 0)?;
                let value = Number::Int(i64::try_from(tokens).unwrap_or(i64::MAX));
                // No source tells tokens by modality for all providers.
                Some(one.number(Some(("gen_ai.token.modality", "unknown")), value, times))
            });
            let name = ["gen_ai.client.inference.usage.", name].concat();
            Metric::counter(&name, "{token}", points.collect())
        })
    }

    fn requests(&self, times: Times) -> Metric {
        let points = self.0.iter().flat_map(|one| {
            one.costs.iter().map(move |(source, requests, _)| {
                let requests = i64::try_from(*requests).unwrap_or(i64::MAX);
                one.number(cost_source(*source), Number::Int(requests), times)
            })
        });
        Metric::counter("agentwatch.requests", "{request}", points.collect())
    }

    /// A cost that is not known is not told as 0.
    fn cost(&self, times: Times) -> Metric {
        let points = self.0.iter().flat_map(|one| {
            let known = one.costs.iter();
            let known = known.filter(|(source, ..)| *source != CostSource::Unknown);
            known.map(move |(source, _, usd)| {
                one.number(cost_source(*source), Number::Double(*usd), times)
            })
        });
        Metric::counter("agentwatch.cost.usd", "{USD}", points.collect())
    }
}

/// Start of the sums, in ms since 1970.
#[derive(Debug, Clone, Copy)]
pub(super) struct Starts {
    pub(super) sums_ms: u64,
    /// Of [`More`].
    pub(super) more_ms: u64,
}

/// The span of a sum, in ns since 1970.
#[derive(Debug, Clone, Copy)]
struct Times {
    start: u64,
    now: u64,
}

fn cost_source(source: CostSource) -> Option<(&'static str, &'static str)> {
    Some(("agentwatch.cost.source", source.name()))
}

impl Series {
    fn attributes(&self, more: Option<(&str, &str)>) -> Vec<KeyValue> {
        let mut all = match self.is_overflow {
            true => vec![KeyValue::of("otel.metric.overflow", Value::Bool(true))],
            false => vec![
                text("gen_ai.operation.name", self.about.operation.name()),
                text("gen_ai.provider.name", &self.provider),
                text("gen_ai.request.model", &self.model),
            ],
        };
        let agent = self.agent.as_deref();
        all.extend(agent.map(|agent| text("gen_ai.agent.name", agent)));
        for (key, value) in [
            ("agentwatch.channel", &self.about.channel),
            ("agentwatch.trigger", &self.about.trigger),
        ] {
            all.extend(value.as_deref().map(|value| text(key, value)));
        }
        all.extend(more.map(|(key, value)| text(key, value)));
        all
    }

    fn number(&self, label: Option<(&str, &str)>, value: Number, times: Times) -> NumberPoint {
        NumberPoint {
            attributes: self.attributes(label),
            start_time_unix_nano: times.start,
            time_unix_nano: times.now,
            value: Some(value),
        }
    }

    fn histogram(
        &self,
        histogram: &Histogram,
        bounds: &[f64; 14],
        label: Option<(&str, &str)>,
        times: Times,
    ) -> Option<HistogramPoint> {
        (histogram.count() > 0).then(|| HistogramPoint {
            attributes: self.attributes(label),
            start_time_unix_nano: times.start,
            time_unix_nano: times.now,
            count: histogram.count(),
            sum: Some(histogram.sum),
            bucket_counts: histogram.counts.into(),
            explicit_bounds: bounds.to_vec(),
        })
    }
}
