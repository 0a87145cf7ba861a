//! Events that explain cache incidents and raise the alarm: changes of a session's history, and loops that the gateway
//! detects itself.
//!
//! `before_compaction`, `after_compaction` and `before_reset` are in the types of all versions. 2026.3.13 calls
//! `before_reset` for neither `/new` nor `/reset`; there `session_end` tells. `tool.loop` needs
//! `tools.loopDetection.enabled`.

use super::{Event, Reject, Source};
use crate::sources::facts::{SourceTable, facts};

/// A loop of a tool that the gateway detected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToolLoop {
    /// The session's key.
    pub session_key: String,
    /// The tool's name.
    pub tool: String,
    /// The detector's name.
    pub detector: String,
    /// Whether the level is `critical`.
    pub is_critical: bool,
    /// Number of repetitions.
    pub count: u64,
}

facts! {
    /// Facts of the hooks about a session's history.
    HistoryFacts = Hook "before_compaction" {
        session_key: "ctx.sessionKey|event.sessionKey",
    }
}

facts! {
    /// Facts of the diagnostic `tool.loop`.
    LoopFacts = Diagnostic "tool.loop" {
        session_key: "event.sessionKey",
        tool: "event.toolName",
        detector: "event.detector",
        level: "event.level",
        count: "event.count",
    }
}

const COMPACTION_BEGINS: SourceTable = HistoryFacts::TABLE;
const COMPACTION_ENDED: SourceTable = COMPACTION_BEGINS.renamed("after_compaction");
const RESET: SourceTable = COMPACTION_BEGINS.renamed("before_reset");
const LOOP: SourceTable = LoopFacts::TABLE;

pub(crate) const SOURCES: &[Source] = &[
    Source::new(COMPACTION_BEGINS, |facts, _, _| {
        Ok(history(&HistoryFacts::new(facts), false))
    }),
    Source::new(COMPACTION_ENDED, |facts, _, _| {
        Ok(history(&HistoryFacts::new(facts), false))
    }),
    Source::new(RESET, |facts, _, _| {
        Ok(history(&HistoryFacts::new(facts), true))
    }),
    Source::new(LOOP, |facts, _, _| tool_loop(&LoopFacts::new(facts))),
];

fn history(facts: &HistoryFacts, is_reset: bool) -> Event {
    match facts.session_key().owned() {
        Some(session_key) => Event::History {
            session_key,
            is_reset,
        },
        None => Event::Ignored("no_session"),
    }
}

fn tool_loop(facts: &LoopFacts) -> Result<Event, Reject> {
    let reject = |reason| Reject::new(LOOP.source, reason);
    Ok(Event::Loop(ToolLoop {
        session_key: facts.session_key().owned().ok_or(reject("no_session"))?,
        tool: facts.tool().owned().ok_or(reject("no_tool"))?,
        detector: facts.detector().owned().unwrap_or_default(),
        is_critical: facts.level().text() == Some("critical"),
        count: facts.count().amount().unwrap_or_default() as u64,
    }))
}
