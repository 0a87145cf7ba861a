//! Reads calls from a receiver: the list of each day (`/models/calls.json` of agentwatch-receiver).

use std::collections::VecDeque;

use jiff::tz::TimeZone;
use serde::Deserialize;

use super::options::days_before;
use super::{Options, Report, table};
use crate::domain::time::parse_iso;
use crate::formats::json_stream::Values;
use crate::formats::sse::Event;
use crate::invoice::{Ask, Patience, Said, refused};
use crate::sources::facts::Scalar;
use crate::spending::Nano;
use crate::spending::history::{Key, Sums};
use crate::spending::prompt_bill::PromptStats;
use crate::spending::window::{Per, Window, written};

/// Number of days before today that a forecast reads: four weeks, and the day before them.
const FORECAST_DAYS: u64 = 29;
/// Maximum number of calls that agentwatch-receiver lists.
const DOWNLOAD: u64 = 1_000_000;
/// Maximum size, in bytes, of the receiver's answer about itself.
const MOST_BYTES: usize = 1024 * 1024;

/// A request.
#[derive(Debug, Clone, PartialEq)]
enum Step {
    /// What the receiver can do.
    Kind,
    /// The calls of a day.
    Day(Window),
}

/// The requests, and the lists that arrive.
#[derive(Debug)]
pub struct Receiver {
    steps: VecDeque<Step>,
    patience: Patience,
    values: Values,
    body: Vec<u8>,
    /// Records of the current list.
    records: u64,
    unreadable: u64,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Capabilities {
    features: Option<Vec<String>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Record {
    timestamp: Option<String>,
    model: Option<String>,
    agent_name: Option<String>,
    channel: Option<String>,
    trigger: Option<String>,
    job: Option<String>,
    session_key: Option<String>,
    prompt_tokens: Scalar,
    completion_tokens: Scalar,
    cache_read_tokens: Scalar,
    cache_write_tokens: Scalar,
    cost_usd: Scalar,
    cost_source: Option<String>,
    cache_saved_usd: Scalar,
    cache_write_extra_usd: Scalar,
    /// Characters of the prompt's parts.
    system_chars: Scalar,
    tool_chars: Scalar,
    message_chars: Scalar,
    other_chars: Scalar,
    prompt_cost_usd: Scalar,
}

impl Receiver {
    /// The requests of a report.
    pub fn new(options: &Options) -> Self {
        let now_ms = options.now_ms;
        let month_ms = Window::of(Per::Month, &options.zone, now_ms).starts_ms;
        let first_ms = days_before(&options.zone, now_ms, FORECAST_DAYS).unwrap_or(month_ms);
        let first = options.day_window(options.since_ms.min(month_ms).min(first_ms));
        let next = |day: &Window| Some(options.day_window(day.ends_ms));
        let days = std::iter::successors(Some(first), next);
        let days = days
            .take_while(|day| day.starts_ms <= now_ms)
            .map(Step::Day);
        Self {
            steps: std::iter::once(Step::Kind).chain(days).collect(),
            patience: Patience::default(),
            values: Values::default(),
            body: Vec::new(),
            records: 0,
            unreadable: 0,
        }
    }
}

impl Report {
    /// The next request to the receiver; `None` once all answers are there.
    pub fn next_ask(&self) -> Option<Ask> {
        let path = match self.receiver.as_ref()?.steps.front()? {
            Step::Kind => "/api/v1/ingest/capabilities".to_owned(),
            Step::Day(day) => {
                let utc = |ms| written(&TimeZone::UTC, ms).replace("+00:00", "Z");
                let [from, to] = [day.starts_ms, day.ends_ms].map(utc);
                format!("/models/calls.json?from={from}&to={to}")
            }
        };
        Some(Ask::of_agentwatch(path))
    }

    /// Takes a piece of the body of an answer with status 200. Pieces may end anywhere.
    pub fn feed(&mut self, bytes: &[u8]) {
        let Some(mut receiver) = self.receiver.take() else {
            return;
        };
        match receiver.steps.front() {
            Some(Step::Day(_)) => {
                let (records, unreadable) = (&mut receiver.records, &mut receiver.unreadable);
                receiver.values.feed(bytes, &mut |event| {
                    *records += 1;
                    let record = match event {
                        Event::Data(bytes) => serde_json::from_slice::<Record>(bytes).ok(),
                        Event::TooLong => None,
                    };
                    let taken = record.and_then(|record| self.take(record));
                    *unreadable += u64::from(taken.is_none());
                });
            }
            _ if receiver.body.len() + bytes.len() <= MOST_BYTES => {
                receiver.body.extend_from_slice(bytes);
            }
            _ => {}
        }
        self.receiver = Some(receiver);
    }

    fn take(&mut self, record: Record) -> Option<()> {
        let at_ms = parse_iso(record.timestamp.as_deref()?)?;
        let tokens = |told: &Scalar| match told {
            Scalar::Absent => Some(0),
            told => told.amount().map(|tokens| tokens as u64),
        };
        let usd = |told: &Scalar| Nano::of_usd(told.amount().unwrap_or_default());
        let name = |name: Option<String>| name.map_or_else(String::new, |name| table::clean(&name));
        let key = Key {
            model: name(Some(record.model?)),
            agent: name(record.agent_name),
            channel: name(record.channel),
            trigger: name(record.trigger),
            job: name(record.job),
        };
        let mut sums = Sums {
            calls: 1,
            unpriced: u64::from(record.cost_source.as_deref() == Some("unknown")),
            usd: usd(&record.cost_usd),
            prompt: tokens(&record.prompt_tokens)?,
            output: tokens(&record.completion_tokens)?,
            cache_read: tokens(&record.cache_read_tokens)?,
            cache_write: tokens(&record.cache_write_tokens)?,
            saved: usd(&record.cache_saved_usd),
            extra: usd(&record.cache_write_extra_usd),
            ..Sums::default()
        };
        let chars = [
            &record.system_chars,
            &record.tool_chars,
            &record.message_chars,
            &record.other_chars,
        ];
        let chars = chars.map(|told| told.amount().unwrap_or_default() as u64);
        if chars.iter().any(|chars| *chars > 0) {
            let usd = record.prompt_cost_usd.amount().map(Nano::of_usd);
            sums.divide(&PromptStats { chars }, usd);
        }
        let zone = &self.options.zone;
        self.facts.add(zone, at_ms, &key.agent, &sums);
        if at_ms >= self.options.since_ms && at_ms <= self.options.now_ms {
            self.add(at_ms, &key, &name(record.session_key), &sums);
        }
        Some(())
    }

    /// Handles the end of an answer. `status` is 0 if there was no answer or it broke off; `why` then has the reason.
    ///
    /// # Errors
    /// A sentence with the obstacle and the mend.
    pub fn answered(
        &mut self,
        status: u16,
        retry_after_ms: Option<u64>,
        why: &str,
    ) -> Result<Said, String> {
        let Some(receiver) = &mut self.receiver else {
            return Ok(Said::Next);
        };
        if matches!(status, 0 | 408 | 429 | 500 | 502..=504 | 529) {
            // The calls that arrived are counted: the same list would count them again.
            if receiver.records > 0 {
                return Err(format!("AgentWatch's list broke off ({why}): try again"));
            }
            receiver.values = Values::default();
            receiver.body.clear();
            let wait = receiver
                .patience
                .pause("AgentWatch", status, retry_after_ms, why);
            return wait.map(Said::Wait);
        }
        receiver.patience = Patience::default();
        let body = std::mem::take(&mut receiver.body);
        let records = std::mem::take(&mut receiver.records);
        let is_cut = !std::mem::take(&mut receiver.values).is_whole_list();
        match receiver.steps.pop_front() {
            Some(Step::Kind) => {
                let told: Capabilities = serde_json::from_slice(&body).unwrap_or_default();
                if matches!(status, 404 | 405) || (status == 200 && told.features.is_none()) {
                    return Err(
                        "this AgentWatch lists no calls by time: leave out --receiver to read the state directory, or \
                         name an agentwatch-receiver"
                            .to_owned(),
                    );
                }
                if status != 200 {
                    return Err(refused(status));
                }
            }
            _ if status != 200 => return Err(refused(status)),
            _ if is_cut => return Err("AgentWatch's list breaks off: try again".to_owned()),
            _ if records >= DOWNLOAD => {
                return Err(format!(
                    "there are more than {DOWNLOAD} calls on one day, and AgentWatch lists no more"
                ));
            }
            _ => {}
        }
        Ok(Said::Next)
    }

    pub(super) fn finish_receiver(&mut self) {
        let unreadable = self.receiver.as_ref().map_or(0, |one| one.unreadable);
        if unreadable > 0 {
            self.notes.push(format!(
                "left out: {unreadable} records that cannot be read"
            ));
        }
    }
}
