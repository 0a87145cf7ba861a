//! `/metrics` of the plugin: the calls that this instance made final, and the state of its delivery, in Prometheus' text
//! format. The families of calls are the receiver's. Counters of calls begin at 0 with each instance; those of alarms and
//! cache incidents go on.

use std::collections::BTreeMap;

use super::Engine;
use crate::delivery::agentwatch::{agent_name, model_name};
use crate::delivery::prometheus::counters::{Counters, FIGURES, Names, cut};
use crate::delivery::prometheus::{self, Labels, Text};
use crate::domain::call::{CostSource, ModelCall, Outcome};
use crate::domain::counter::Counter;
use crate::domain::identity;
use crate::engine::settings::{ModelName, Naming};
use crate::sources::facts::Scalar;
use crate::spending::history::{Key, Span};
use crate::spending::window::DAY_MS;

/// Names with calls in this number of days have zeros from the start: Prometheus sees no increase in the first value of a
/// series.
const RECENT_DAYS: u64 = 7;

/// Sources of costs that are not 0.
const SOURCES: [CostSource; 4] = [
    CostSource::Provider,
    CostSource::Openclaw,
    CostSource::Configured,
    CostSource::Table,
];

/// Counters for `/metrics`; they are kept only where the setting `metricsPort` is set.
#[derive(Debug, Default)]
pub(super) struct Exposition {
    counters: Counters,
    has_recent: bool,
}

/// Numbers of events that the host dropped before the engine saw them.
#[derive(Debug, Clone, Copy, Default)]
pub struct HostDrops {
    /// The queue or the ring was full.
    pub queue_full: u64,
    /// The engine trapped at them.
    pub trap: u64,
}

impl Exposition {
    /// Counts a final call that receivers count as a request.
    pub(super) fn count(&mut self, call: &ModelCall, naming: &Naming) {
        let names = names(&agent_name(call, naming), &model_name(call, naming), naming);
        let latency = call.latency.map(|latency| (latency.ms, 1));
        let latency_ms = latency.map_or(0.0, |(ms, _)| ms);
        let durations = latency.into_iter();
        self.counters
            .add(&names, &figures(call), durations, latency_ms);
        if call.cost.source != CostSource::Unknown {
            let source = call.cost.source.name();
            self.counters.add_cost(&names, source, call.cost.usd);
        }
    }

    /// Counts a call that failed or was stopped, billed or not.
    pub(super) fn fail(&mut self, call: &ModelCall, naming: &Naming) {
        let is_aborted = call.outcome == Outcome::Aborted;
        let (agent, model) = (agent_name(call, naming), model_name(call, naming));
        self.counters.fail(&agent, &model, is_aborted, 1.0);
    }

    /// Zeros for the names of recent calls of earlier instances.
    fn know(&mut self, key: &Key, naming: &Naming) {
        let agent = Some(&*key.agent).filter(|agent| !agent.is_empty());
        let model = match (naming.model_name, key.model.split_once('/')) {
            (ModelName::Bare, Some((_, model))) => model,
            (_, Some(("", model))) => model,
            _ => &key.model,
        };
        let names = names(&naming.agent(agent), model, naming);
        let nothing = std::iter::empty();
        self.counters.add(&names, &[0; FIGURES], nothing, 0.0);
        for source in SOURCES {
            self.counters.add_cost(&names, source.name(), 0.0);
        }
    }
}

/// Reads a port; none without the setting.
pub(super) fn read_port(raw: &Scalar, problems: &mut Vec<String>) -> Option<u16> {
    if raw.is_absent() {
        return None;
    }
    let port = raw.amount().filter(|port| port.fract() == 0.0);
    let port = port.filter(|port| (1.0..=65_535.0).contains(port));
    if port.is_none() {
        let shown = match raw {
            Scalar::Number(number) => number.to_string(),
            Scalar::Text(text) => format!("\"{}\"", identity::name(text)),
            _ => "that".to_owned(),
        };
        problems.push(format!(
            "metricsPort cannot be {shown}; set it to a port from 1 to 65535 such as 9464 (metrics are not served)"
        ));
    }
    port.map(|port| port as u16)
}

fn names(agent: &str, model: &str, naming: &Naming) -> Names {
    Names {
        gateway: cut(&naming.gateway).to_owned(),
        agent: cut(agent).to_owned(),
        model: cut(model).to_owned(),
    }
}

/// What one call adds to each [`prometheus::counters::Figure`].
fn figures(call: &ModelCall) -> [i64; FIGURES] {
    let is = |outcome| i64::from(call.outcome == outcome);
    let usage = call.usage.unwrap_or_default();
    let tokens = |tokens: u64| i64::try_from(tokens).unwrap_or(i64::MAX);
    [
        is(Outcome::Completed),
        is(Outcome::Failed),
        is(Outcome::Aborted),
        tokens(usage.input),
        tokens(usage.cache_read),
        tokens(usage.cache_write),
        tokens(usage.output.saturating_sub(usage.reasoning)),
        tokens(usage.reasoning),
        tokens(usage.prompt()),
        i64::from(call.cost.source == CostSource::Unknown),
    ]
}

/// A sample for each reason.
fn reasons<'a>(counter: &'a Counter) -> impl Iterator<Item = (Labels<'a>, u64)> {
    let counts = counter.counts();
    counts.map(|((reason, _), count)| (vec![("reason", reason)], count))
}

impl Engine {
    /// The text for `/metrics`; `None` where the setting `metricsPort` is not set. `now_ms` is ms since 1970.
    pub fn metrics(&mut self, now_ms: u64, dropped: HostDrops) -> Option<String> {
        let exposition = self.exposition.as_mut()?;
        if !std::mem::replace(&mut exposition.has_recent, true) {
            let first = (now_ms / DAY_MS).saturating_sub(RECENT_DAYS);
            let rows = self.history.rows();
            let recent = rows.filter(|row| row.span == Span::Day && row.number >= first);
            let recent: Vec<_> = recent.collect();
            // The latest first: names are bounded.
            for row in recent.iter().rev() {
                exposition.know(&row.key, &self.settings.naming);
            }
        }
        let mut text = Text::default();
        prometheus::calls(&mut text, &self.exposition.as_ref()?.counters);
        let newest = || {
            let rows = self.history.rows().filter(|row| row.span == Span::Hour);
            let end = rows.map(|row| row.starts_ms() + row.span.length_ms()).max();
            end.map(|end| end.min(now_ms))
        };
        // No call has ended since the start: a call of an earlier process ended in its hour.
        let last_ms = self.counts.last_call_ms.or_else(newest);
        prometheus::last_call(&mut text, last_ms.map(|ms| ms as f64 / 1_000.0));
        self.delivery_metrics(&mut text, dropped);
        self.spending_metrics(&mut text);
        let version = vec![("version", env!("CARGO_PKG_VERSION"))];
        let help = "The plugin's version.";
        text.samples("agentwatch_plugin_info", help, [(version, 1)]);
        Some(text.0)
    }

    fn delivery_metrics(&self, text: &mut Text, dropped: HostDrops) {
        let status = self.status();
        let calls = status.outbox;
        for (name, help, value) in [
            (
                "agentwatch_pending_requests",
                "Calls that are not final yet.",
                status.open as u64,
            ),
            (
                "agentwatch_waiting_requests",
                "Final calls that wait to be sent to AgentWatch.",
                status.waiting as u64,
            ),
            (
                "agentwatch_waiting_records",
                "Other records that wait to be sent to AgentWatch.",
                status.records_waiting as u64,
            ),
            (
                "agentwatch_journal_bytes",
                "Size of the journal on disk.",
                status.journal_bytes,
            ),
            (
                "agentwatch_delivered_requests_total",
                "Calls that AgentWatch has taken.",
                calls.delivered + calls.confirmed,
            ),
            (
                "agentwatch_delivery_retries_total",
                "Requests to AgentWatch that failed and were repeated.",
                calls.retried,
            ),
        ] {
            text.one(name, help, value);
        }
        let delivered_ms = self.counts.last_delivery_ms;
        text.samples(
            "agentwatch_last_delivery_timestamp_seconds",
            "When AgentWatch last took calls.",
            delivered_ms.map(|ms| (Vec::new(), ms as f64 / 1_000.0)),
        );
        text.samples(
            "agentwatch_dropped_requests_total",
            "Final calls that were lost, by reason.",
            reasons(&calls.dropped),
        );
        text.samples(
            "agentwatch_dropped_records_total",
            "Other records that were lost, by reason.",
            reasons(status.records_dropped),
        );
        let events = [
            ("queue_full", dropped.queue_full),
            ("spool_full", self.counts.dropped_spool_full),
            ("trap", dropped.trap),
        ];
        text.samples(
            "agentwatch_dropped_events_total",
            "Events that were lost before they were counted, by reason.",
            events.map(|(reason, count)| (vec![("reason", reason)], count)),
        );
        let rejected = self.counts.rejected.counts();
        text.samples(
            "agentwatch_rejected_events_total",
            "Events that could not be read, by source and reason.",
            rejected.map(|((source, reason), count)| {
                (vec![("source", source), ("reason", reason)], count)
            }),
        );
    }

    fn spending_metrics(&self, text: &mut Text) {
        // Equal entries of the setting are one sample.
        let allowances = self.allowances().into_iter().map(|one| {
            let names = (one.allowance, one.then, one.zone);
            (names, one.spent / one.limit)
        });
        let allowances: BTreeMap<_, _> = allowances.collect();
        text.samples(
            "agentwatch_allowance_used_ratio",
            "Spend in the window of an allowance, as a share of its limit: 1 is all of it.",
            allowances.iter().map(|((allowance, then, zone), used)| {
                let labels = [("allowance", &**allowance), ("then", then), ("zone", zone)];
                (labels.to_vec(), used)
            }),
        );
        if let Some(brake) = self.brake_status() {
            text.one(
                "agentwatch_stopped_requests_total",
                "Calls that an allowance stopped.",
                brake.stopped,
            );
        }
        let incidents = self.incidents.status();
        text.one(
            "agentwatch_alarms_total",
            "Runaway alarms.",
            incidents.alarm.count,
        );
        text.one(
            "agentwatch_open_alarms",
            "Incidents with an alarm that have not ended.",
            incidents.alarm.open.len(),
        );
        text.one(
            "agentwatch_cache_incidents_total",
            "Losses of the prompt cache.",
            incidents.cache.incidents,
        );
    }
}
