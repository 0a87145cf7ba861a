//! Messages and conversations: the parts of turns, and the records that are made at once.

use super::Engine;
use crate::activity::records::Record;
use crate::domain::time::Now;
use crate::sources::{Conversation, Direction, Message};
use crate::spending::who;

impl Engine {
    pub(super) fn message(&mut self, message: &Message, now: Now) {
        let report = self.reporter.message(message, &self.settings, now);
        for record in report.records {
            self.report(&record, now);
        }
        let session = message.session_key.as_deref();
        if message.direction == Direction::Received {
            if let Some(session) = session {
                let channel = who::channel(&message.channel);
                self.sessions.received(session, channel);
                self.watch_person(session, None, false, now);
                self.turns
                    .begin(session, Some(&message.channel), None, now.wall_ms, now);
            }
            return;
        }
        let (meta, good) = (report.meta, message.success);
        let has_turn = session.is_some_and(|session| {
            self.turns
                .deliver(session, &message.channel, meta.clone(), good, now)
        });
        if !has_turn {
            let trace = self.turns.message_trace(
                &self.settings,
                &message.channel,
                report.received_ms,
                (meta, good),
                now,
            );
            self.report(&Record::Trace(Box::new(trace)), now);
        }
    }

    pub(super) fn conversation(&mut self, conversation: &Conversation, now: Now) {
        self.counts.conversations += 1;
        let Conversation { key, at_ms, .. } = conversation;
        let channel = conversation.channel.as_deref();
        match conversation.end {
            None => {
                let agent = conversation.agent.as_deref();
                self.turns
                    .begin_conversation(key, channel, agent, *at_ms, now);
            }
            Some(outcome) => {
                let took = conversation.duration_ms.map(|ms| ms as u64);
                let started = took.map(|ms| at_ms.saturating_sub(ms));
                self.turns
                    .end_conversation(key, channel, outcome, (started, *at_ms), now);
            }
        }
    }
}
