//! The status as one JSON document: events seen, calls counted, sent and lost.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::delivery::calls::{CallCounts, Receiver};
use crate::delivery::collector::CollectorStatus;
use crate::domain::counter::Counter;
use crate::engine::brake::{AllowanceStatus, BrakeStatus};
use crate::engine::incidents::status::IncidentStatus;
use crate::matching::MatcherCounts;

/// Counters beside those of the ledger and the outlet of calls.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Counts {
    /// Events by source.
    pub seen: Counter,
    /// Events that could not be read, by source and reason.
    pub rejected: Counter,
    /// Well-formed events that are not used, by reason.
    pub ignored: Counter,
    /// Calls that receivers count as requests.
    pub requests: u64,
    /// Requests without reported usage.
    pub missing_usage: u64,
    /// Calls that failed or were aborted without usage; they are no requests.
    pub model_errors: u64,
    /// Calls whose usage had an unreadable count.
    pub broken_usage: u64,
    /// Calls whose reported cost was ignored, because no price list explains it.
    pub implausible_costs: u64,
    /// Tokens in totals of runs that no observed call accounts for.
    pub tokens_unseen: u64,
    /// Diagnostic events that the gateway dropped under load.
    pub diagnostics_dropped: u64,
    /// Calls that only a `session:complete` reported.
    pub from_totals: u64,
    /// `conversation:start` and `conversation:end` events.
    pub conversations: u64,
    /// Torn or corrupt frames of the journal.
    pub journal_corrupt: u64,
    /// Files of the plugin's folder that a newer version wrote: they are left as they are, and read by that version.
    pub newer_files: Vec<String>,
    /// Calls that were journalled.
    pub journalled: u64,
    /// Calls that only the session store reported.
    pub from_store: u64,
    /// POSTs that a proxy forwarded to providers and did not count as calls.
    pub uncounted: Paths,
    /// Observations that other processes on this host spooled.
    pub spooled: u64,
    /// Observations that were dropped because the spool was full.
    pub dropped_spool_full: u64,
    /// The last error of writing the journal; `None` while writing works.
    pub journal_error: Option<String>,
    /// When the last call ended, in ms since 1970.
    pub last_call_ms: Option<u64>,
    /// When AgentWatch last took calls, in ms since 1970.
    pub last_delivery_ms: Option<u64>,
    /// The last error of sending.
    pub last_error: Option<String>,
}

/// Maximum number of paths with a counter of their own.
const MAX_PATHS: usize = 32;
/// The name under which further paths are counted.
const OTHER_PATHS: &str = "other paths";

/// Requests by provider and shape of their path.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(transparent)]
pub struct Paths(BTreeMap<String, u64>);

impl Paths {
    /// Counts a request. Returns whether it is the first one of a path with a counter of its own.
    pub fn add(&mut self, path: String) -> bool {
        let is_new = !self.0.contains_key(&path);
        let has_room = self.0.len() < MAX_PATHS;
        let path = match is_new && !has_room {
            true => OTHER_PATHS.to_owned(),
            false => path,
        };
        *self.0.entry(path).or_default() += 1;
        is_new && has_room
    }
}

/// The document. Times in ms since 1970.
#[derive(Debug, Clone, Serialize)]
pub struct Status<'a> {
    /// The receiver's address; `None` where the setting is unusable or sending is off.
    pub url: Option<&'a str>,
    /// The gateway's name, as records have it.
    pub gateway: &'a str,
    /// The receiver's kind, as far as it is known.
    pub receiver: Receiver,
    /// See there.
    #[serde(flatten)]
    pub counts: &'a Counts,
    /// See there.
    #[serde(flatten)]
    pub matcher: MatcherCounts,
    /// See there.
    #[serde(flatten)]
    pub outbox: &'a CallCounts,
    /// Number of pending calls.
    pub open: usize,
    /// Number of calls that wait to be sent.
    pub waiting: usize,
    /// When the oldest of these calls ended.
    pub oldest_unsent_ms: Option<u64>,
    /// Sessions and turns that were evicted because their tables were full.
    pub forgotten: u64,
    /// Size of the journal on disk, in bytes.
    pub journal_bytes: u64,
    /// Number of other records that wait to be sent.
    pub records_waiting: usize,
    /// Number of other records that were delivered.
    pub records_delivered: u64,
    /// Other records that were dropped, by reason.
    pub records_dropped: &'a Counter,
    /// What a collector was told; none where there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub otlp: Option<CollectorStatus<'a>>,
    /// Cache incidents, alarms and the webhook.
    #[serde(flatten)]
    pub incidents: IncidentStatus<'a>,
    /// The allowances in force, with their spend.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allowances: Vec<AllowanceStatus>,
    /// Numbers of the brake; none without an allowance.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub brake: Option<BrakeStatus>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_beyond_the_maximum_are_counted_together() {
        let mut paths = Paths::default();
        let firsts = (0..100).filter(|n| paths.add(format!("openai /v1/{n}")));
        assert_eq!(firsts.count(), MAX_PATHS);
        assert!(!paths.add("openai /v1/0".to_owned()));
        assert_eq!(paths.0.len(), MAX_PATHS + 1);
        assert_eq!(paths.0.get(OTHER_PATHS), Some(&(100 - MAX_PATHS as u64)));
        assert_eq!(paths.0.get("openai /v1/0"), Some(&2));
    }
}
