//! Final calls: pricing, journalling, records.

use super::Engine;
use crate::activity::records::Record;
use crate::delivery::calls::Receiver;
use crate::domain::call::{CacheUsd, ModelCall, Outcome};
use crate::domain::identity;
use crate::domain::time::Now;
use crate::engine::log::Level;
use crate::journal::Frame;
use crate::matching::Settled;
use crate::spending::history::{Entry, Key, Sums};
use crate::spending::prompt_bill::prompt_usd;

impl Engine {
    pub(super) fn settle(&mut self, mut settled: Settled, now: Now) {
        self.sessions.complete(&mut settled);
        if let Some(frame) = self.sessions.count(&settled) {
            self.journal.note(&frame);
        }
        self.enqueue(settled, false, now);
    }

    pub(super) fn enqueue(&mut self, settled: Settled, from_total: bool, now: Now) {
        // The process in which a turn runs makes its trace; rows of the store belong to no turn.
        let traces = !from_total && !settled.elsewhere && !settled.stored;
        let is_sum = settled.is_sum;
        let priced = self.prices.cost(&settled);
        if let Some(distance) = priced.implausible {
            self.warn_of_implausible_cost(&settled.provider, &settled.model, distance);
        }
        let write_1h = settled.bill.as_ref().map_or(0, |bill| bill.write_1h);
        let mut call = ModelCall {
            id: settled.id,
            ended_ms: settled.ended_ms,
            provider: settled.provider,
            model: settled.model,
            agent: settled.agent,
            session_key: settled.session_key,
            run_id: settled.run_id,
            trigger: settled.trigger.as_deref().and_then(identity::word),
            origin: settled.origin,
            prompt: settled.prompt,
            prompt_usd: None,
            cache_usd: None,
            usage: settled.usage,
            cost: priced.cost,
            latency: settled.latency,
            ttfb_ms: settled.ttfb_ms,
            ttft_ms: settled.ttft_ms,
            request_id: settled.request_id,
            response_model: settled.response_model,
            operation: settled.operation,
            outcome: settled.outcome,
            stored: settled.stored,
        };
        if let Some(usage) = call.usage {
            let rates = self.prices.rates(&call);
            let of_prompt = || prompt_usd(call.cost, &usage, write_1h, rates);
            call.prompt_usd = call.prompt.and_then(|_| of_prompt());
            call.cache_usd = CacheUsd::of(&usage, write_1h, rates);
        }
        self.watch_call(&call, (write_1h, is_sum), now);
        if let (Some(session), true) = (&call.session_key, traces) {
            self.turns.call(session, &call, now);
        }
        if call.outcome != Outcome::Completed {
            if let Some(exposition) = &mut self.exposition {
                exposition.fail(&call, &self.settings.naming);
            }
            // The owner gets the same observations, and reports the call.
            if self.disk.spool.is_none() {
                for record in self.reporter.model_error(&call, &self.settings, now) {
                    self.report(&record, now);
                }
            }
        }
        if !call.is_request() {
            self.costs_nothing(call.id);
            self.counts.model_errors += 1;
            self.journal.note(&Frame::Closed(vec![call.id]));
            return;
        }
        self.counts.requests += 1;
        let ended_ms = call.ended_ms.min(now.wall_ms);
        // A call that only the session store reported may have ended before others.
        self.counts.last_call_ms = self.counts.last_call_ms.max(Some(ended_ms));
        if call.usage.is_none() {
            self.warn_of_missing_usage(&call);
        }
        self.append_call(call, write_1h, now);
    }

    /// Adds a final call to the sums for reports.
    pub(super) fn tally(&mut self, call: &ModelCall, write_1h: u64, now: Now) {
        let entry = Entry {
            // Sources may report an end in the future.
            ended_ms: call.ended_ms.min(now.wall_ms),
            key: Key::of(call),
            sums: Sums::of(call, write_1h, self.prices.rates(call)),
        };
        self.history.count(&entry, now.wall_ms);
        self.journal.note(&Frame::Tally(call.id, Box::new(entry)));
    }

    /// Sends enrichments of calls that have left to a receiver that supports record ids.
    pub(super) fn enrich(&mut self, now: Now) {
        // A receiver can add to a call only after it got it.
        let is_behind = self.journal.waiting().0 > 0;
        if self.calls.receiver() == Receiver::Unknown || is_behind {
            return;
        }
        let calls = &self.calls;
        let known = self.matcher.take_enrichments(|id| !calls.has(id));
        if calls.receiver() == Receiver::Ids {
            for mut known in known {
                let billed = known.billed_usd;
                let prices = &self.prices;
                let distance =
                    billed.and_then(|usd| prices.is_late_figure_implausible(&known.seen, usd));
                if let Some(distance) = distance {
                    known.billed_usd = None;
                    self.warn_of_implausible_cost(
                        &known.seen.provider,
                        &known.seen.model,
                        distance,
                    );
                }
                self.report(&Record::Enrichment(Box::new(known.into())), now);
            }
        }
    }

    fn warn_of_implausible_cost(&mut self, provider: &str, model: &str, distance: f64) {
        self.counts.implausible_costs += 1;
        let name = identity::name(&format!("{provider}/{model}"));
        // In powers of ten, so that all calls of a model log the same line.
        let times = 10_u64.pow(distance.log10().clamp(3.0, 18.0) as u32);
        let text = format!(
            "the cost reported for {name} is more than {times} times above or below every price list, so it is in \
             another unit; it is ignored, and the call counts at list price; where \
             models.providers.{}.models[].cost is set, give USD per 1M tokens there",
            identity::name(provider)
        );
        self.log.add_once(Level::Warn, text);
    }

    fn warn_of_missing_usage(&mut self, call: &ModelCall) {
        self.counts.missing_usage += 1;
        let name = crate::delivery::agentwatch::model_name(call, &self.settings.naming);
        let text = format!(
            "{name} answers without usage, so its tokens are unknown and recorded as 0; if it is an \
             OpenAI-compatible endpoint, set models.providers.{}.models[].compat.supportsUsageInStreaming: true",
            identity::name(&call.provider)
        );
        // Once per model, not once per minute: it is a setting, and stays wrong until it is fixed.
        self.log.add_once(Level::Warn, text);
    }
}
