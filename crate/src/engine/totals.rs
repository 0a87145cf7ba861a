//! Totals that a gateway reports beside its calls. A difference is logged, or counted as calls.

use super::Engine;
use crate::activity::sessions::Missing;
use crate::domain::call::{Cost, CostSource, Origin, Outcome};
use crate::domain::time::Now;
use crate::engine::log::Level;
use crate::matching::{HOLD_BACK_MS, Settled};
use crate::sources::{Aggregate, SessionTotals};

/// Maximum number of totals that wait to be compared.
const MAX_DEFERRED: usize = 4_096;

/// Totals that are compared or counted once the calls before them had time to become final.
#[derive(Debug)]
pub(super) enum Deferred {
    Compare(Aggregate),
    Complete(SessionTotals),
}

impl Engine {
    pub(super) fn defer(&mut self, what: Deferred, now: Now) {
        self.deferred
            .push_back((now.mono_ms + HOLD_BACK_MS + 1, what));
        if self.deferred.len() > MAX_DEFERRED {
            self.run_deferred(now, true);
        }
    }

    pub(super) fn run_deferred(&mut self, now: Now, all: bool) {
        while let Some((at, _)) = self.deferred.front() {
            if *at > now.mono_ms && !all {
                break;
            }
            match self.deferred.pop_front() {
                Some((_, Deferred::Compare(aggregate))) => self.compare(&aggregate, now),
                Some((_, Deferred::Complete(totals))) => self.complete(&totals, now),
                None => break,
            }
        }
    }

    fn compare(&mut self, aggregate: &Aggregate, now: Now) {
        // A gateway that reports both totals reports the same run in both.
        self.has_llm_output |= aggregate.source == "llm_output";
        if self.has_llm_output && aggregate.source != "llm_output" {
            return;
        }
        let unseen = self.sessions.compare(aggregate);
        if unseen == 0 {
            return;
        }
        self.counts.tokens_unseen += unseen;
        // Each difference is logged in a line of its own, with its number of tokens.
        self.log.add(
            Level::Warn,
            format!(
                "{} reports {unseen} tokens more than its messages showed: another plugin blocks or \
                 changes messages before they reach this plugin, and this gateway has no other source",
                aggregate.source
            ),
            now.mono_ms,
        );
    }

    fn complete(&mut self, totals: &SessionTotals, now: Now) {
        for total in &totals.models {
            for missing in self.sessions.remainder(&totals.key, total) {
                self.counts.from_totals += 1;
                let settled = self.missing_call(totals, missing, now);
                self.enqueue(settled, true, now);
            }
        }
    }

    fn missing_call(&mut self, totals: &SessionTotals, missing: Missing, now: Now) -> Settled {
        let (provider, model) = crate::sources::split_model(&missing.model);
        Settled {
            id: self.matcher.mint(now),
            ended_ms: totals.at_ms,
            provider,
            model,
            agent: totals.agent.clone(),
            session_key: Some(totals.key.clone()),
            run_id: None,
            trigger: None,
            origin: Origin::default(),
            prompt: None,
            usage: Some(missing.usage).filter(|usage| !usage.is_zero()),
            cost: Cost {
                usd: missing.cost_usd.unwrap_or(0.0),
                source: match missing.cost_usd {
                    Some(_) => CostSource::Openclaw,
                    None => CostSource::Unknown,
                },
            },
            latency: missing.latency,
            ttfb_ms: None,
            ttft_ms: None,
            request_id: None,
            response_model: None,
            operation: Default::default(),
            outcome: Outcome::Completed,
            bill: None,
            is_sum: true,
            stored: false,
            elsewhere: false,
        }
    }
}
