//! What becomes of a call that is final.

use super::Core;
use crate::call::{ModelCall, Outcome};
use crate::identity;
use crate::journal::Frame;
use crate::ledger::Settled;
use crate::outbox::Receiver;
use crate::records::Record;
use crate::time::Now;
use crate::voice::Level;

impl Core {
    pub(super) fn settle(&mut self, mut settled: Settled, now: Now) {
        self.sessions.complete(&mut settled);
        if let Some(frame) = self.sessions.count(&settled) {
            self.keeper.note(&frame);
        }
        self.enqueue(settled, false, now);
    }

    pub(super) fn enqueue(&mut self, settled: Settled, from_total: bool, now: Now) {
        // Traces are the business of the process in which the turn runs; the store's rows are no turn's.
        let traces = !from_total && !settled.elsewhere && !settled.stored;
        let cost = self.prices.cost(&settled);
        let call = ModelCall {
            id: settled.id,
            ended_ms: settled.ended_ms,
            provider: settled.provider,
            model: settled.model,
            agent: settled.agent,
            session_key: settled.session_key,
            run_id: settled.run_id,
            trigger: settled.trigger.as_deref().and_then(identity::word),
            usage: settled.usage,
            cost,
            latency: settled.latency,
            ttfb_ms: settled.ttfb_ms,
            ttft_ms: settled.ttft_ms,
            request_id: settled.request_id,
            response_model: settled.response_model,
            outcome: settled.outcome,
            stored: settled.stored,
        };
        if let (Some(session), true) = (&call.session_key, traces) {
            self.turns.call(session, &call, now);
        }
        if call.outcome != Outcome::Completed {
            for record in self.reporter.model_error(&call, &self.settings, now) {
                self.report(&record, now);
            }
        }
        if !call.is_request() {
            self.counts.model_errors += 1;
            self.keeper.note(&Frame::Closed(vec![call.id]));
            return;
        }
        self.counts.requests += 1;
        self.counts.last_call_ms = Some(call.ended_ms);
        if call.usage.is_none() {
            self.warn_of_missing_usage(&call);
        }
        self.keep_call(call, now);
    }

    /// Tells a receiver that knows ids what a proxy told of calls that have left.
    pub(super) fn enrich(&mut self, now: Now) {
        // A receiver can add to a call only when it has it.
        let is_behind = self.keeper.waiting().0 > 0;
        if self.outbox.receiver() == Receiver::Unknown || is_behind {
            return;
        }
        let outbox = &self.outbox;
        let known = self.ledger.take_enrichments(|id| !outbox.has(id));
        if outbox.receiver() == Receiver::Ids {
            for known in known {
                self.report(&Record::Enrichment(Box::new(known.into())), now);
            }
        }
    }

    fn warn_of_missing_usage(&mut self, call: &ModelCall) {
        self.counts.missing_usage += 1;
        let name = crate::agentwatch::model_name(call, &self.settings.naming);
        let text = format!(
            "{name} answers without usage, so its tokens are unknown and recorded as 0; if it is an \
             OpenAI-compatible endpoint, set models.providers.{}.models[].compat.supportsUsageInStreaming: true",
            identity::name(&call.provider)
        );
        // Once a model, not once a minute: it is a setting, and stays wrong until mended.
        self.voice.say_once(Level::Warn, text);
    }
}
