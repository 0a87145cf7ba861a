//! The status: what was seen, counted, sent and lost, as one JSON document.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::counter::Counter;
use crate::ledger::LedgerCounts;
use crate::outbox::{OutboxCounts, Receiver};

/// Counters that neither the ledger nor the outbox keeps.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Counts {
    /// Events by source.
    pub seen: Counter,
    /// Events that could not be read, by source and reason.
    pub rejected: Counter,
    /// Well-formed events that are not for us, by reason.
    pub ignored: Counter,
    /// Calls that receivers count.
    pub requests: u64,
    /// Of those, the ones whose tokens nobody reported.
    pub missing_usage: u64,
    /// Calls that failed or were stopped without usage: no requests.
    pub model_errors: u64,
    /// Calls whose usage could not be read.
    pub broken_usage: u64,
    /// Calls of which a cost was told that no price list explains; it is not believed.
    pub implausible_costs: u64,
    /// Tokens that a run's total showed and no call did.
    pub tokens_unseen: u64,
    /// Diagnostic events that the gateway dropped for overload.
    pub diagnostics_dropped: u64,
    /// Calls that only a `session:complete` told of.
    pub from_totals: u64,
    /// `conversation:start` and `conversation:end` events.
    pub conversations: u64,
    /// Torn or corrupt frames of the journal.
    pub journal_corrupt: u64,
    /// Files of the plugin's folder that a newer version wrote: they are left as they are, and read by that version.
    pub newer_files: Vec<String>,
    /// Calls that were journalled.
    pub journalled: u64,
    /// Calls that only the session store told of.
    pub from_store: u64,
    /// POSTs that a proxy passed on to providers and counted as no calls.
    pub uncounted: Paths,
    /// Observations of calls that other processes on this host had made.
    pub spooled: u64,
    /// Observations that the process that owns the journal will never be told.
    pub dropped_spool_full: u64,
    /// Why the journal could not be written last; none while it can.
    pub journal_error: Option<String>,
    /// When the last call ended, in ms since 1970.
    pub last_call_ms: Option<u64>,
    /// Why sending failed last.
    pub last_error: Option<String>,
}

/// The most paths that are told apart.
const MAX_PATHS: usize = 32;
/// What the others are counted as.
const OTHER_PATHS: &str = "other paths";

/// Requests by provider and shape of their path.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(transparent)]
pub struct Paths(BTreeMap<String, u64>);

impl Paths {
    /// Counts a request. Whether it is the first one of a path that is told apart.
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
    /// Where calls are sent; none where the setting is unusable.
    pub url: Option<&'a str>,
    /// What is known of the receiver.
    pub receiver: Receiver,
    /// See there.
    #[serde(flatten)]
    pub counts: &'a Counts,
    /// See there.
    #[serde(flatten)]
    pub ledger: LedgerCounts,
    /// See there.
    #[serde(flatten)]
    pub outbox: &'a OutboxCounts,
    /// Calls that wait for their other surfaces.
    pub open: usize,
    /// Calls that wait to be sent.
    pub waiting: usize,
    /// When the oldest of these ended.
    pub oldest_unsent_ms: Option<u64>,
    /// Sessions and turns that were forgotten for want of room.
    pub forgotten: u64,
    /// Bytes that the journal takes on disk.
    pub journal_bytes: u64,
    /// Other records that wait to be sent.
    pub records_waiting: usize,
    /// Other records that arrived.
    pub records_delivered: u64,
    /// Other records that were dropped, by reason.
    pub records_dropped: &'a Counter,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_beyond_a_number_are_counted_together() {
        let mut paths = Paths::default();
        let firsts = (0..100).filter(|n| paths.add(format!("openai /v1/{n}")));
        assert_eq!(firsts.count(), MAX_PATHS);
        assert!(!paths.add("openai /v1/0".to_owned()));
        assert_eq!(paths.0.len(), MAX_PATHS + 1);
        assert_eq!(paths.0.get(OTHER_PATHS), Some(&(100 - MAX_PATHS as u64)));
        assert_eq!(paths.0.get("openai /v1/0"), Some(&2));
    }
}
