//! Figures of incidents and the webhook, for the status.

use std::collections::VecDeque;

use serde::Serialize;

use super::{Incidents, Reported};
use crate::delivery::webhook::WebhookCounts;
use crate::spending::Nano;

/// Figures for the status. Times in ms since 1970.
#[derive(Debug, Clone, Serialize)]
pub struct IncidentStatus<'a> {
    /// The prompt cache.
    pub cache: CacheStatus<'a>,
    /// The runaway alarm.
    pub alarm: AlarmStatus<'a>,
    /// The webhook; none where none is set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub webhook: Option<WebhookStatus<'a>>,
}

/// Figures of the prompt cache.
#[derive(Debug, Clone, Serialize)]
pub struct CacheStatus<'a> {
    /// Number of days of the sums.
    pub days: usize,
    /// USD saved by reads on these days.
    pub saved_usd: f64,
    /// USD that writes cost above the input rate on these days.
    pub extra_usd: f64,
    /// Number of incidents.
    pub incidents: u64,
    /// Sum of their known prices, in USD.
    pub lost_usd: f64,
    /// The last incidents.
    pub last: &'a VecDeque<Reported>,
}

/// Figures of the runaway alarm.
#[derive(Debug, Clone, Serialize)]
pub struct AlarmStatus<'a> {
    /// Whether it is on.
    pub on: bool,
    /// Number of alarms.
    pub count: u64,
    /// The incidents that have not ended.
    pub open: Vec<Reported>,
    /// The last alarms.
    pub last: &'a VecDeque<Reported>,
}

/// Figures of the webhook.
#[derive(Debug, Clone, Serialize)]
pub struct WebhookStatus<'a> {
    /// Scheme, host and port.
    pub origin: &'a str,
    /// Number of notices that wait.
    pub waiting: usize,
    /// See there.
    #[serde(flatten)]
    pub counts: &'a WebhookCounts,
}

impl Incidents {
    pub(in crate::engine) fn status(&self) -> IncidentStatus<'_> {
        let state = &self.state;
        let days = || state.cache.days.days().map(|(_, day)| day.money);
        let open = state.alarm.open().map(|incident| Reported {
            at_ms: incident.began_ms,
            text: incident.words(),
        });
        IncidentStatus {
            cache: CacheStatus {
                days: days().count(),
                saved_usd: days().map(|money| money.saved).sum::<Nano>().usd(),
                extra_usd: days().map(|money| money.extra).sum::<Nano>().usd(),
                incidents: state.losses.0,
                lost_usd: state.losses.1.usd(),
                last: &state.last_losses,
            },
            alarm: AlarmStatus {
                on: self.has_alarm,
                count: state.alarms,
                open: open.collect(),
                last: &state.last_alarms,
            },
            webhook: self.webhook.as_ref().map(|webhook| WebhookStatus {
                origin: webhook.origin(),
                waiting: state.notices.len(),
                counts: &webhook.counts,
            }),
        }
    }
}
