//! Failures: backoff, isolation of a refused record, and the operator's messages.

use super::{Calls, Note};
use crate::delivery::reply::Reply;
use crate::domain::call::CallId;

impl Calls {
    /// Halves a refused batch to isolate the record at fault. A batch of one call is dropped and kept in
    /// `refused.ndjson`.
    pub(super) fn take_apart(
        &mut self,
        ids: &[CallId],
        reason: &'static str,
        notes: &mut Vec<Note>,
        reply: &Reply,
    ) {
        if ids.len() > 1 {
            return self.sender.halve(ids.len());
        }
        if let Some(id) = ids.first() {
            if reply.status == 500 && self.is_server_suspect(*id) {
                return;
            }
            if let Some(index) = self.queue.iter().position(|item| item.call.id == *id)
                && let Some(item) = self.queue.remove(index)
            {
                self.acknowledged.push((*id, item.entry));
                self.refused.push((item.call, reply.status));
                self.counts.dropped.add(reason);
            }
            notes.push(Note::Refused(format!(
                "the server refused a call's record (HTTP {}): the call is dropped, and its record kept in refused.ndjson \
                 where the disk is written; the rest goes on",
                reply.status
            )));
        }
    }

    /// Whether the server rather than this record may cause the 500: true until another call arrives after the record's
    /// first refusal alone. The record moves to the end of the queue, so that the others are tried.
    fn is_server_suspect(&mut self, id: CallId) -> bool {
        let arrived = self.counts.delivered + self.counts.confirmed + self.counts.ambiguous;
        let Some(index) = self.queue.iter().position(|item| item.call.id == id) else {
            return false;
        };
        let Some(mut item) = self.queue.remove(index) else {
            return false;
        };
        let is_suspect = *item.refused_at.get_or_insert(arrived) == arrived;
        self.queue.push_back(item);
        is_suspect
    }

    pub(super) fn recovered(&mut self, notes: &mut Vec<Note>) {
        self.sender.recovered();
        if std::mem::take(&mut self.troubled) {
            notes.push(Note::Reached(self.receiver));
        }
    }

    pub(super) fn failed(&mut self, reply: &Reply, mono_ms: u64, notes: &mut Vec<Note>) {
        self.counts.retried += 1;
        self.troubled = true;
        match reply.status {
            401 | 403 => self.sender.token_refused(reply, mono_ms),
            _ => self.sender.failed(reply, mono_ms),
        }
        notes.push(Note::Trouble(explain(reply)));
    }
}

/// The error in words, with the setting that mends it.
fn explain(reply: &Reply) -> String {
    let error = reply.error.as_deref().unwrap_or("no answer");
    match reply.status {
        0 => format!("AgentWatch cannot be reached ({error}); is it running, and is url right?"),
        301 | 302 | 303 | 307 | 308 => format!(
            "AgentWatch answers with a redirect (HTTP {}), which is not followed; set url to the address behind it",
            reply.status
        ),
        401 => "AgentWatch refuses the token (HTTP 401); set token".to_owned(),
        403 => "AgentWatch refuses the host name in url (HTTP 403); start it with --allow-host and that name, and look \
             whether a proxy before it refuses the gateway"
            .to_owned(),
        429 => "AgentWatch asks to slow down (HTTP 429)".to_owned(),
        200..=299 => format!(
            "what answers HTTP {} is no AgentWatch; set url to its own address",
            reply.status
        ),
        status => format!("AgentWatch answers HTTP {status}"),
    }
}
