//! Guards: what a stock AgentWatch has of a batch whose end is unknown, found by the ids of its costs.

use super::{BATCH, Calls, Flight, Item, Note, Receiver, Request, TRIES_BEFORE_SPLIT};
use crate::delivery::agentwatch;
use crate::delivery::reply::Reply;
use crate::domain::call::CallId;
use crate::engine::settings::Naming;

/// A look-up of guards, one agent and model after the other, as the server filters by these.
#[derive(Debug)]
pub(super) struct LookUp {
    /// The calls that this request asks about.
    asked: Vec<CallId>,
    /// The calls still to be asked about.
    rest: Vec<CallId>,
    /// All calls of the batch that were found so far.
    found: Vec<CallId>,
    /// All calls of the batch that were not found.
    missing: Vec<CallId>,
    /// It follows a try whose end is unknown, and not an answer.
    is_before: bool,
}

impl LookUp {
    pub(super) fn of(rest: Vec<CallId>, is_before: bool) -> Self {
        Self {
            asked: Vec::new(),
            rest,
            found: Vec::new(),
            missing: Vec::new(),
            is_before,
        }
    }
}

impl Calls {
    /// Calls that a stock server may have by a try whose end is unknown. They are looked up before they are sent
    /// again: behind a 500 nobody could tell that try from one that broke inside.
    pub(super) fn in_doubt(&self) -> Vec<CallId> {
        if self.receiver != Receiver::Stock {
            return Vec::new();
        }
        let front = self.queue.iter().take(BATCH);
        let in_doubt = front.filter(|item| item.tried.is_some());
        in_doubt.map(|item| item.call.id).collect()
    }

    /// How a try ended is unknown.
    pub(super) fn note_try(&mut self, ids: &[CallId]) {
        self.tries += 1;
        for item in self.queue.iter_mut().take(ids.len()) {
            item.tried = Some(self.tries);
        }
    }

    /// Whether calls that are found at a server arrived whole: what went together with each of them is there too.
    fn are_whole(&self, found: &[CallId]) -> bool {
        let front = || self.queue.iter().take(BATCH);
        let is_found = |item: &&Item| found.contains(&item.call.id);
        let tries: Vec<Option<u64>> = front().filter(is_found).map(|item| item.tried).collect();
        front().all(|item| is_found(&item) || !tries.contains(&item.tried))
    }

    /// Asks which guards the server has of the next agent and model.
    pub(super) fn look_up(&mut self, mut look: LookUp, naming: &Naming) -> Option<Request> {
        let names: Vec<(CallId, String, String)> = self
            .queue
            .iter()
            .take(BATCH)
            .map(|item| &item.call)
            .filter(|call| look.rest.contains(&call.id))
            .map(|call| {
                let agent = agentwatch::agent_name(call, naming);
                (call.id, agent, agentwatch::model_name(call, naming))
            })
            .collect();
        let (_, agent, model) = names.first()?.clone();
        look.asked = names
            .iter()
            .filter(|(_, a, m)| *a == agent && *m == model)
            .map(|(id, _, _)| *id)
            .collect();
        look.rest.retain(|id| !look.asked.contains(id));
        self.flight = Some(Flight::Guards(look));
        Some(Request {
            path: format!(
                "/api/costs/usage?limit=1000&agent={}&model={}",
                query(&agent),
                query(&model)
            ),
            body: None,
        })
    }

    pub(super) fn looked_up(
        &mut self,
        mut look: LookUp,
        reply: &Reply,
        naming: &Naming,
        mono_ms: u64,
        notes: &mut Vec<Note>,
    ) -> Option<Request> {
        let rows = match reply.status {
            200..=299 => reply.answer.ids.as_deref(),
            // A server that has no such thing has no guards either.
            404 | 405 if look.is_before => Some(&[] as &[String]),
            _ => None,
        };
        let Some(rows) = rows else {
            self.failed(reply, mono_ms, notes);
            return None;
        };
        let (found, missing): (Vec<CallId>, Vec<CallId>) =
            std::mem::take(&mut look.asked).into_iter().partition(|id| {
                let id = id.to_string();
                rows.contains(&id)
            });
        look.found.extend(found);
        look.missing.extend(missing);
        if !look.rest.is_empty() {
            return self.look_up(look, naming);
        }
        let found = look.found.len() as u64;
        // A batch that broke inside has costs whose usage may be missing, and so may one of an earlier process.
        let is_own = |item: &Item| !item.read_back || !look.found.contains(&item.call.id);
        let are_own = self.queue.iter().take(BATCH).all(is_own);
        match look.is_before && are_own && self.are_whole(&look.found) {
            true => self.counts.confirmed += found,
            false => self.counts.ambiguous += found,
        }
        if look.is_before {
            for item in self.queue.iter_mut().take(BATCH) {
                item.tried = None;
            }
        }
        self.arrived(&look.found);
        match found {
            0 if look.is_before => {}
            0 => self.unguarded(&look.missing, reply, mono_ms, notes),
            // What is missing was stopped by a guard before it: it goes with the next batch.
            _ => self.recovered(notes),
        }
        None
    }

    /// A 500 for a batch of which nothing is stored: the server is ill, or one record is.
    fn unguarded(&mut self, ids: &[CallId], reply: &Reply, mono_ms: u64, notes: &mut Vec<Note>) {
        let broken = Reply {
            status: 500,
            ..reply.clone()
        };
        if self.sender.failures() >= TRIES_BEFORE_SPLIT {
            self.take_apart(ids, "refused", notes, &broken);
        }
        self.failed(&broken, mono_ms, notes);
    }
}

/// A text as a query value.
fn query(text: &str) -> String {
    text.bytes().fold(String::new(), |mut out, b| {
        match b {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                out.push(b as char);
            }
            _ => out.push_str(&format!("%{b:02X}")),
        }
        out
    })
}
