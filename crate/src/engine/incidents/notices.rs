//! Notices for the webhook: made here, and sent by `delivery/webhook.rs`.

use super::Incidents;
use crate::activity::records::Meta;
use crate::delivery::reply::Reply;
use crate::delivery::webhook::{Notice, Request};
use crate::domain::identity::{hex, key_of};
use crate::domain::time::{Now, iso};
use crate::engine::Engine;

impl Engine {
    /// Reports to the webhook, if one is set. `kind` is the notice's `type`, and `about` what it tells, which two
    /// notices of a kind never share; `meta` follows the common fields: `type`, `id`, `at`, `gateway`, `agent`, `session`.
    /// It is sent after the next write of the journal.
    pub(in crate::engine) fn notify(
        &mut self,
        (kind, about): (&'static str, &str),
        (agent, session): (Option<&str>, Option<&str>),
        meta: Meta,
        now: Now,
    ) {
        if self.incidents.webhook.is_none() || self.disk.spool.is_some() {
            return;
        }
        // Of what the notice tells: should a disk that fails make it be told again, it has the same id.
        let gateway = &self.settings.naming.gateway;
        let id = key_of(&["notice", gateway, kind, about]);
        let common = Meta::default()
            .text("type", Some(kind))
            .text("id", Some(hex(id.into(), *b"0000000000000000")))
            .text("at", Some(iso(now.wall_ms)))
            .text("gateway", Some(self.settings.naming.gateway.clone()))
            .text("agent", agent)
            .text("session", session);
        let body = serde_json::to_string(&common.and(meta)).unwrap_or_default();
        let notice = Notice {
            at_ms: now.wall_ms,
            body,
        };
        let Incidents { state, webhook, .. } = &mut self.incidents;
        if let Some(webhook) = webhook {
            webhook.push(&mut state.notices, notice, now.mono_ms);
        }
        self.note_incidents(now);
    }

    /// The next due request to the webhook; `hurry` skips the backoff.
    pub fn begin_webhook(&mut self, now: Now, hurry: bool) -> Option<Request> {
        if self.incidents.state.notices.is_empty() || self.is_lost() || self.disk.spool.is_some() {
            return None;
        }
        // A notice is on disk before it is sent, unless the disk fails.
        if self.disk.takes() && self.journal.has_changes() {
            self.flush(now);
        }
        let Incidents { state, webhook, .. } = &mut self.incidents;
        webhook.as_mut()?.begin(&mut state.notices, now, hurry)
    }

    /// Takes the reply to the last request to the webhook.
    pub fn answered_webhook(&mut self, reply: &Reply, now: Now) {
        let Incidents { state, webhook, .. } = &mut self.incidents;
        let Some(webhook) = webhook else {
            return;
        };
        let notices = &mut state.notices;
        if webhook.answered(notices, reply, &mut self.log, now.mono_ms) {
            self.note_incidents(now);
        }
    }
}
