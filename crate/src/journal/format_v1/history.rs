//! Sums for the command `report`.

use serde::{Deserialize, Serialize};

use crate::spending::history::{self, NUMBERS, Sums};

/// What the calls of a sum have in common; an untold field is empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Key<'a> {
    /// `provider/model`.
    pub model: &'a str,
    /// The agent.
    pub agent: &'a str,
    /// The channel.
    pub channel: &'a str,
    /// The trigger.
    pub trigger: &'a str,
    /// The cron job.
    pub job: &'a str,
}

/// Calls, unpriced calls, 1e-9 USD, tokens of prompts, answers, cache reads and cache writes, 1e-9 USD saved by reads
/// and paid for writes above the input rate, calls with parts, of these unpriced, tokens and 1e-9 USD of the four parts.
pub type Numbers = [u64; NUMBERS];

/// Length of a span.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Span {
    /// A UTC hour.
    Hour,
    /// A UTC day.
    Day,
}

impl<'a> From<&'a history::Key> for Key<'a> {
    fn from(key: &'a history::Key) -> Self {
        let history::Key {
            model,
            agent,
            channel,
            trigger,
            job,
        } = key;
        Self {
            model,
            agent,
            channel,
            trigger,
            job,
        }
    }
}

impl From<Key<'_>> for history::Key {
    fn from(key: Key) -> Self {
        Self {
            model: key.model.to_owned(),
            agent: key.agent.to_owned(),
            channel: key.channel.to_owned(),
            trigger: key.trigger.to_owned(),
            job: key.job.to_owned(),
        }
    }
}

pub(super) fn entry(ended_ms: u64, key: Key, numbers: Numbers) -> history::Entry {
    history::Entry {
        ended_ms,
        key: key.into(),
        sums: Sums::of_numbers(numbers),
    }
}

pub(super) fn row(span: Span, number: u64, key: Key, numbers: Numbers) -> history::Row {
    history::Row {
        span: span.into(),
        number,
        key: key.into(),
        sums: Sums::of_numbers(numbers),
    }
}

impl From<Span> for history::Span {
    fn from(span: Span) -> Self {
        match span {
            Span::Hour => Self::Hour,
            Span::Day => Self::Day,
        }
    }
}

impl From<history::Span> for Span {
    fn from(span: history::Span) -> Self {
        match span {
            history::Span::Hour => Self::Hour,
            history::Span::Day => Self::Day,
        }
    }
}
