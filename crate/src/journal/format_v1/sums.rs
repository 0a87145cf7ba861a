//! The state of the OpenTelemetry outlet, in `otlp/state.awj`: a file with a frame of [`State`], one of [`More`] and one of
//! [`Split`]. Version 0.1.0 neither has nor reads the second and the third.

use serde::{Deserialize, Serialize};

use super::convert::finite;
use super::{CostSource, Operation};
use crate::delivery::otlp::Kept;
use crate::delivery::otlp::metrics::{
    About, Histogram as Buckets, More as MoreSums, Series as Sum, Sums,
};

/// The state of the OpenTelemetry outlet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// Start of the sums, in ms since 1970.
    pub start_ms: u64,
    /// The sums.
    pub sums: Vec<Series>,
    /// The place in each segment up to which the outlet is done.
    pub marks: Vec<Mark>,
}

/// The place in a segment up to which the outlet is done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// `<file>#<hash>`: SipHash-1-3 of its first frame's header, in hexadecimal digits.
    pub file: String,
    /// The offset, in bytes.
    pub upto: u32,
}

/// Calls of one agent to one model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Series {
    /// The provider.
    pub provider: String,
    /// The model.
    pub model: String,
    /// The agent.
    pub agent: Option<String>,
    /// Whether it is the overflow series: the calls beyond the bound on series.
    pub is_overflow: bool,
    /// Input tokens of each call.
    pub input: Histogram,
    /// Output tokens of each call.
    pub output: Histogram,
    /// Durations of completed, failed and aborted calls.
    pub durations: [Histogram; 3],
    /// Requests and USD by source of the cost.
    pub costs: Vec<(CostSource, u64, f64)>,
}

/// A histogram.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Histogram {
    /// The number of values in each bucket.
    pub counts: [u64; 15],
    /// The sum of the values.
    pub sum: f64,
}

/// Further sums.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct More {
    /// Start of these sums, in ms since 1970.
    pub start_ms: u64,
    /// The sums of each series of [`State`], in its order.
    pub series: Vec<MoreOfSeries>,
}

/// Further sums of one agent's calls to one model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MoreOfSeries {
    /// Tokens that were read from a cache.
    pub cache_read: u64,
    /// Tokens that were written to a cache.
    pub cache_write: u64,
    /// Reasoning tokens.
    pub reasoning: u64,
    /// Times to the first chunk.
    pub first_chunk: Histogram,
}

/// What divides the series of [`State`] further, in its order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Split {
    /// One for each series.
    pub series: Vec<SplitOfSeries>,
}

/// What the calls of a series have in common besides provider, model and agent, and those that did not complete.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SplitOfSeries {
    /// What the calls ask.
    pub operation: Operation,
    /// The channel.
    pub channel: Option<String>,
    /// What started the runs.
    pub trigger: Option<String>,
    /// Input and output tokens of each failed call, and of each stopped call.
    pub unfinished: [[Histogram; 2]; 2],
}

/// The divisions as a frame's payload.
pub fn split_bytes(kept: &Kept) -> Vec<u8> {
    let of_one = |one: &Sum| {
        let About {
            operation,
            channel,
            trigger,
        } = &one.about;
        let histograms = |two: &[Buckets; 2]| two.each_ref().map(Histogram::from);
        SplitOfSeries {
            operation: (*operation).into(),
            channel: channel.clone(),
            trigger: trigger.clone(),
            unfinished: one.unfinished.each_ref().map(histograms),
        }
    };
    let series = kept.sums.0.iter().map(of_one).collect();
    postcard::to_allocvec(&Split { series }).unwrap_or_default()
}

/// Divides the series by a frame's payload. Returns whether it is of these series.
pub fn read_split(kept: &mut Kept, payload: &[u8]) -> bool {
    let Ok(Split { series }) = postcard::from_bytes(payload) else {
        return false;
    };
    if series.len() != kept.sums.0.len() {
        return false;
    }
    for (one, split) in kept.sums.0.iter_mut().zip(series) {
        let [failed, aborted] = split
            .unfinished
            .map(|[input, output]| Some([input.domain()?, output.domain()?]));
        let (Some(failed), Some(aborted)) = (failed, aborted) else {
            return false;
        };
        one.unfinished = [failed, aborted];
        one.about = About {
            operation: split.operation.into(),
            channel: split.channel,
            trigger: split.trigger,
        };
    }
    true
}

/// Further sums as a frame's payload.
pub fn more_bytes(kept: &Kept) -> Vec<u8> {
    let of_one = |one: &Sum| {
        let MoreSums {
            cache_read,
            cache_write,
            reasoning,
            first_chunk,
        } = &one.more;
        MoreOfSeries {
            cache_read: *cache_read,
            cache_write: *cache_write,
            reasoning: *reasoning,
            first_chunk: first_chunk.into(),
        }
    };
    let more = More {
        start_ms: kept.more_start_ms,
        series: kept.sums.0.iter().map(of_one).collect(),
    };
    postcard::to_allocvec(&more).unwrap_or_default()
}

/// Adds further sums from a frame's payload. Returns whether they are those of these series.
pub fn read_more(kept: &mut Kept, payload: &[u8]) -> bool {
    let Ok(More { start_ms, series }) = postcard::from_bytes(payload) else {
        return false;
    };
    let of_one = |one: MoreOfSeries| {
        Some(MoreSums {
            cache_read: one.cache_read,
            cache_write: one.cache_write,
            reasoning: one.reasoning,
            first_chunk: one.first_chunk.domain()?,
        })
    };
    let more: Option<Vec<MoreSums>> = series.into_iter().map(of_one).collect();
    let Some(more) = more.filter(|more| more.len() == kept.sums.0.len()) else {
        return false;
    };
    for (one, more) in kept.sums.0.iter_mut().zip(more) {
        one.more = more;
    }
    kept.more_start_ms = start_ms;
    true
}

/// The state as a frame's payload.
pub fn state_bytes(kept: &Kept) -> Vec<u8> {
    let Kept {
        start_ms,
        sums,
        marks,
        // `More` has it.
        more_start_ms: _,
    } = kept;
    let state = State {
        start_ms: *start_ms,
        sums: sums.0.iter().map(Series::from).collect(),
        marks: marks.clone(),
    };
    // The state has only types that postcard supports, so encoding cannot fail.
    postcard::to_allocvec(&state).unwrap_or_default()
}

/// The state from a frame's payload.
pub fn state(payload: &[u8]) -> Option<Kept> {
    let State {
        start_ms,
        sums,
        marks,
    } = postcard::from_bytes(payload).ok()?;
    let sums: Option<Vec<Sum>> = sums.into_iter().map(Series::domain).collect();
    Some(Kept {
        start_ms,
        sums: Sums(sums?),
        marks,
        more_start_ms: 0,
    })
}

impl From<&Sum> for Series {
    fn from(sum: &Sum) -> Self {
        let Sum {
            provider,
            model,
            agent,
            is_overflow,
            input,
            output,
            durations,
            costs,
            // `More` and `Split` have these.
            more: _,
            about: _,
            unfinished: _,
        } = sum;
        let cost =
            |(source, requests, usd): &(_, u64, f64)| (CostSource::from(*source), *requests, *usd);
        Self {
            provider: provider.clone(),
            model: model.clone(),
            agent: agent.clone(),
            is_overflow: *is_overflow,
            input: input.into(),
            output: output.into(),
            durations: durations.each_ref().map(Histogram::from),
            costs: costs.iter().map(cost).collect(),
        }
    }
}

impl Series {
    fn domain(self) -> Option<Sum> {
        let [answered, failed, stopped] = self.durations;
        let cost = |(source, requests, usd): (CostSource, u64, f64)| {
            Some((source.into(), requests, finite(usd)?))
        };
        Some(Sum {
            provider: self.provider,
            model: self.model,
            agent: self.agent,
            is_overflow: self.is_overflow,
            input: self.input.domain()?,
            output: self.output.domain()?,
            durations: [answered.domain()?, failed.domain()?, stopped.domain()?],
            costs: self.costs.into_iter().map(cost).collect::<Option<_>>()?,
            more: MoreSums::default(),
            about: About::default(),
            unfinished: Default::default(),
        })
    }
}

impl From<&Buckets> for Histogram {
    fn from(buckets: &Buckets) -> Self {
        let Buckets { counts, sum } = buckets;
        Self {
            counts: *counts,
            sum: *sum,
        }
    }
}

impl Histogram {
    fn domain(self) -> Option<Buckets> {
        Some(Buckets {
            counts: self.counts,
            sum: finite(self.sum)?,
        })
    }
}
