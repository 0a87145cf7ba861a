//! Reads our calls from a receiver's list: `/models/calls.json` of agentwatch-receiver, with all fields, or
//! `/api/costs/usage` of AgentWatch 0.1.0, which has the further fields in `metadata`.

use std::collections::{BTreeMap, BTreeSet};

use jiff::civil::Date;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::figures::{Sum, Usd, count_or_0, day_of, number};
use crate::domain::time::parse_iso;
use crate::formats::json_stream::Values;
use crate::formats::sse::Event;
use crate::sources::facts::Scalar;

/// Filters of our calls, and the sums of the calls that pass.
#[derive(Debug)]
pub struct Ours {
    /// Provider ids in OpenClaw whose calls this provider bills.
    names: Vec<String>,
    days: (Date, Date),
    pub models: BTreeMap<(Date, String), Sum>,
    /// Number of calls and records that are in no sum, by reason.
    pub left_out: BTreeMap<&'static str, u64>,
    /// Ids of records in overlapping lists, which count once.
    seen: BTreeSet<String>,
}

/// Summary of one list of records.
#[derive(Debug, Default)]
pub struct Listed {
    pub records: u64,
    /// Number of records of AgentWatch 0.1.0's list that no earlier list had.
    pub fresh: u64,
    pub agents: BTreeSet<String>,
    /// Day of the oldest record.
    pub oldest: Option<Date>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Record {
    id: Option<String>,
    timestamp: Option<String>,
    agent_name: Option<String>,
    model: Option<String>,
    #[serde(alias = "input_tokens")]
    prompt_tokens: Scalar,
    #[serde(alias = "output_tokens")]
    completion_tokens: Scalar,
    #[serde(alias = "estimated_cost_usd")]
    cost_usd: Scalar,
    provider: Option<String>,
    cache_read_tokens: Scalar,
    cache_write_tokens: Scalar,
    cost_source: Option<String>,
    usage_source: Option<String>,
    response_model: Option<String>,
    /// The fields from `provider` on, as an object or as a string of its JSON.
    metadata: Option<Box<RawValue>>,
}

impl Record {
    /// The object in `metadata`; without `metadata`, the record itself.
    fn details(&mut self) -> Self {
        let Some(metadata) = self.metadata.take() else {
            return std::mem::take(self);
        };
        let object = match serde_json::from_str::<String>(metadata.get()) {
            Ok(text) => serde_json::from_str(&text),
            Err(_) => serde_json::from_str(metadata.get()),
        };
        object.unwrap_or_default()
    }
}

impl Ours {
    pub fn new(names: Vec<String>, days: (Date, Date)) -> Self {
        Self {
            names,
            days,
            models: BTreeMap::new(),
            left_out: BTreeMap::new(),
            seen: BTreeSet::new(),
        }
    }

    /// Takes a piece of a list; pieces may end anywhere. `once` skips records that an earlier list had.
    pub fn feed(&mut self, values: &mut Values, bytes: &[u8], once: bool, listed: &mut Listed) {
        values.feed(bytes, &mut |event| {
            listed.records += 1;
            let record = match event {
                Event::Data(bytes) => std::str::from_utf8(bytes)
                    .ok()
                    .and_then(|text| serde_json::from_str::<Record>(text).ok()),
                Event::TooLong => None,
            };
            if record
                .and_then(|record| self.take(record, once, listed))
                .is_none()
            {
                self.leave_out("records that cannot be read");
            }
        });
    }

    fn take(&mut self, mut record: Record, once: bool, listed: &mut Listed) -> Option<()> {
        let day = day_of(parse_iso(record.timestamp.as_deref()?)?);
        listed.oldest = Some(listed.oldest.map_or(day, |oldest| oldest.min(day)));
        if once {
            listed.agents.extend(record.agent_name.take());
            if !self.seen.insert(record.id.take()?) {
                return Some(());
            }
            listed.fresh += 1;
        }
        let (first, last) = self.days;
        if !(first..=last).contains(&day) {
            return Some(());
        }
        let model = record.model.take()?;
        let tokens = [
            count_or_0(&record.prompt_tokens)?,
            count_or_0(&record.completion_tokens)?,
        ];
        let cost = match &record.cost_usd {
            Scalar::Absent => Usd::default(),
            cost => Usd::of(number(cost)?)?,
        };
        let details = record.details();
        let (prefix, short) = model.split_once('/').unwrap_or(("", &model));
        let provider = details.provider.as_deref().filter(|name| !name.is_empty());
        if provider.is_none() && prefix.is_empty() {
            self.leave_out("calls of no known provider");
            return Some(());
        }
        let provider = provider.unwrap_or(prefix);
        if !self.names.iter().any(|name| name == provider) {
            self.leave_out("calls of other providers");
            return Some(());
        }
        // The API's bill does not contain calls by subscription.
        if details.cost_source.as_deref() == Some("subscription") {
            self.leave_out("calls by subscription");
            return Some(());
        }
        // With `modelName: "model"` the name has no provider before it, and OpenRouter's own names contain a slash.
        let asked = if prefix == provider { short } else { &model };
        let name = details.response_model.filter(|name| !name.is_empty());
        let sum = Sum {
            calls: Some(1),
            input_tokens: tokens[0],
            output_tokens: tokens[1],
            cache_read_tokens: Some(count_or_0(&details.cache_read_tokens)?),
            cache_write_tokens: Some(count_or_0(&details.cache_write_tokens)?),
            cost_usd: Some(cost),
            unknown_cost_calls: u64::from(details.cost_source.as_deref() == Some("unknown")),
            missing_usage_calls: u64::from(details.usage_source.as_deref() == Some("missing")),
        };
        let name = name.unwrap_or_else(|| asked.to_owned());
        *self.models.entry((day, name)).or_default() += &sum;
        Some(())
    }

    fn leave_out(&mut self, why: &'static str) {
        *self.left_out.entry(why).or_default() += 1;
    }
}
