//! Guards: the cost ids by which a stock AgentWatch is asked which calls of a batch it stored, after a request whose
//! outcome is unknown.

use super::{BATCH, Calls, Flight, Item, Note, Receiver, Request, TRIES_BEFORE_SPLIT};
use crate::delivery::agentwatch;
use crate::delivery::reply::Reply;
use crate::domain::call::CallId;
use crate::engine::settings::Naming;

/// A look-up of guards: one request per agent and model, since the server filters by these.
#[derive(Debug)]
pub(super) struct LookUp {
    /// Calls that the request in flight asks about.
    asked: Vec<CallId>,
    /// Calls that later requests ask about.
    rest: Vec<CallId>,
    /// Calls that the server has.
    found: Vec<CallId>,
    /// Calls that the server does not have.
    missing: Vec<CallId>,
    /// Whether the look-up precedes a retry, after a request without a clear answer. Otherwise it follows a 500.
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
    /// Queued calls that a stock server may have stored in a request whose outcome is unknown. They are looked up
    /// before the retry: after a 500 to the retry, their guards would not show which of the two requests stored them.
    pub(super) fn in_doubt(&self) -> Vec<CallId> {
        if self.receiver != Receiver::Stock {
            return Vec::new();
        }
        let front = self.queue.iter().take(BATCH);
        let in_doubt = front.filter(|item| item.tried.is_some());
        in_doubt.map(|item| item.call.id).collect()
    }

    /// Marks the calls of a request whose outcome is unknown.
    pub(super) fn note_try(&mut self, ids: &[CallId]) {
        self.tries += 1;
        for item in self.queue.iter_mut().take(ids.len()) {
            item.tried = Some(self.tries);
        }
    }

    /// Whether the calls that the server has include every call that was in the same requests. If not, the server may
    /// have stored costs without usage.
    fn are_whole(&self, found: &[CallId]) -> bool {
        let front = || self.queue.iter().take(BATCH);
        let is_found = |item: &&Item| found.contains(&item.call.id);
        let tries: Vec<Option<u64>> = front().filter(is_found).map(|item| item.tried).collect();
        front().all(|item| is_found(&item) || !tries.contains(&item.tried))
    }

    /// The request for the guards of the next agent and model.
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
            // A server without this endpoint has no guards.
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
        // A batch that a server aborted has costs whose usage may be missing; so may a batch of an earlier process.
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
            // A duplicate guard stopped the missing calls: the next batch contains them.
            _ => self.recovered(notes),
        }
        None
    }

    /// Handles a 500 to a batch if the server stored none of its calls: the server is broken, or one record is refused.
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

/// Percent-encodes a query value.
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
