//! The open turns of all sessions, and when each ends. A turn becomes a trace once, when it has ended.
//!
//! Newer gateways report when a session is working; for others a timeout ends the turn. Nothing here may depend on the
//! machine's load: events of a turn may arrive late.

use std::collections::VecDeque;

use indexmap::IndexMap;

use crate::activity::records::{Meta, Status, TraceRecord};
use crate::activity::turn::{IDLE_MS, Turn};
use crate::domain::call::{IdMint, ModelCall, Outcome};
use crate::domain::time::Now;
use crate::engine::settings::Settings;
use crate::sources::{Progress, Step, ToolCall};

/// Maximum number of sessions with open turns; the least recently used are evicted.
const MAX_SESSIONS: usize = 1_024;
/// Number of sessions that are evicted at once.
const EVICTED: usize = MAX_SESSIONS / 32;
/// Maximum number of open turns of one session.
const MAX_TURNS: usize = 4;

/// A session that has open turns, or is working.
#[derive(Debug, Default)]
struct Session {
    turns: VecDeque<Turn>,
    /// Number of messages that the gateway is processing.
    messages: u32,
    is_running: bool,
    /// Whether the gateway reports the session's work at all.
    reports_work: bool,
    last_used: u64,
    touched_mono: u64,
}

impl Session {
    fn is_working(&self) -> bool {
        self.messages > 0 || self.is_running
    }

    /// When its first turn ends, or its work times out.
    fn due_at(&self) -> u64 {
        match self.turns.front() {
            // Only the last turn can be in progress.
            Some(turn) if self.turns.len() > 1 || !self.is_working() => {
                turn.over_at(self.reports_work)
            }
            Some(turn) => turn.touched_mono + IDLE_MS,
            None if self.is_working() => self.touched_mono + IDLE_MS,
            None => self.touched_mono,
        }
    }

    /// Whether an event that begins now starts a new turn instead of continuing the last one.
    fn has_ended_turn(&self) -> bool {
        self.turns.back().is_some_and(|turn| {
            turn.finished_mono.is_some() && !(turn.has_failed && self.is_working())
        })
    }
}

/// The open turns of all sessions.
#[derive(Debug)]
pub struct Turns {
    sessions: IndexMap<String, Session>,
    ended_turns: VecDeque<Turn>,
    /// When the next turn may end, as of the last check.
    next_due: Option<u64>,
    clock: u64,
    mint: IdMint,
    /// Turns that were ended early because the table was full.
    pub evicted: u64,
}

impl Turns {
    /// Creates an empty table; `seed` must differ between processes.
    pub fn new(seed: u64) -> Self {
        Self {
            sessions: IndexMap::new(),
            ended_turns: VecDeque::new(),
            next_due: None,
            clock: 0,
            mint: IdMint::new(seed),
            evicted: 0,
        }
    }

    /// Number of sessions that have open turns or are working.
    pub fn len(&self) -> usize {
        self.sessions.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.sessions.is_empty()
    }

    /// Begins a turn if the session's last one has ended. Several events report the same beginning.
    pub fn begin(
        &mut self,
        session: &str,
        channel: Option<&str>,
        agent: Option<&str>,
        at_ms: u64,
        now: Now,
    ) {
        let turn = self.current(session, at_ms, now, true);
        turn.channel = turn.channel.take().or(channel.map(str::to_owned));
        turn.agent = turn.agent.take().or(agent.map(str::to_owned));
    }

    /// Begins a run. It is a turn of its own, unless it continues the same run after a failed attempt, or its answer
    /// arrived before this event.
    pub fn begin_run(
        &mut self,
        session: &str,
        run_id: Option<&str>,
        agent: Option<&str>,
        now: Now,
    ) {
        if let Some(turn) = self.last(session)
            && run_id.is_some()
        {
            if turn.run_id.as_deref() == run_id {
                turn.finished_mono = None;
                turn.touched_mono = now.mono_ms;
                return;
            }
            if turn.run_id.is_none() && turn.is_answered {
                turn.run_id = run_id.map(str::to_owned);
                return;
            }
        }
        self.begin(session, None, agent, now.wall_ms, now);
        if let Some(turn) = self.last(session) {
            turn.run_id = run_id.map(str::to_owned);
        }
    }

    /// Begins a conversation that `conversation:start` reported.
    pub fn begin_conversation(
        &mut self,
        key: &str,
        channel: Option<&str>,
        agent: Option<&str>,
        at_ms: u64,
        now: Now,
    ) {
        self.begin(key, channel, agent, at_ms, now);
        if let Some(turn) = self.last(key) {
            turn.is_conversation = true;
        }
    }

    /// Ends a conversation that `conversation:end` reported.
    pub fn end_conversation(
        &mut self,
        key: &str,
        channel: Option<&str>,
        outcome: Outcome,
        (started_ms, ended_ms): (Option<u64>, u64),
        now: Now,
    ) {
        let turn = self.current(key, started_ms.unwrap_or(ended_ms), now, false);
        turn.is_conversation = true;
        turn.channel = turn.channel.take().or(channel.map(str::to_owned));
        turn.reported_status = Some(Status::of(outcome == Outcome::Completed));
        turn.ended_ms = turn.ended_ms.max(ended_ms);
        turn.finished_mono = Some(now.mono_ms);
    }

    /// Notes the session's last answer or its failure: the turn ends once nothing more happens to it.
    pub fn answered(&mut self, session: &str, has_failed: bool, now: Now) {
        if let Some(turn) = self.last(session) {
            turn.is_answered = true;
            turn.has_failed = has_failed;
        }
        self.finish(session, now);
    }

    /// Ends a run of the session.
    pub fn finish(&mut self, session: &str, now: Now) {
        if let Some(turn) = self.last(session) {
            turn.ended_ms = turn.ended_ms.max(now.wall_ms);
            turn.touched_mono = now.mono_ms;
            turn.finished_mono = Some(now.mono_ms);
        }
    }

    /// Adds a final model call, whether or not it is a request.
    pub fn call(&mut self, session: &str, call: &ModelCall, now: Now) {
        // Compares the call's end: a call may begin shortly before its user's message is stored.
        self.current(session, call.ended_ms, now, false).call(call);
    }

    /// Adds the begin or the end of a tool call.
    pub fn tool(&mut self, tool: &ToolCall, now: Now) {
        let id = self.mint.bits();
        let turn = self.current(&tool.session_key, now.wall_ms, now, false);
        turn.finished_mono = None;
        match tool.end {
            None => turn.tool_began(tool.id.clone(), tool.name.clone(), now),
            Some((duration_ms, is_failed)) => turn.tool_ended(
                id,
                (&tool.id, &tool.name),
                (duration_ms, Status::of(!is_failed)),
                now,
            ),
        }
    }

    /// Updates the progress of a session's work.
    pub fn progress(&mut self, progress: &Progress, now: Now) {
        let session = self.session(&progress.session_key, now);
        match progress.step {
            Step::MessageBegan => session.messages = session.messages.saturating_add(1),
            Step::MessageEnded => session.messages = session.messages.saturating_sub(1),
            Step::RunBegan => session.is_running = true,
            Step::RunEnded => session.is_running = false,
            Step::DeliveryBegan | Step::DeliveryEnded | Step::DeliveryFailed => {
                if let Some(turn) = session.turns.back_mut() {
                    turn.delivery_step(progress.step);
                    turn.touched_mono = now.mono_ms;
                }
                return;
            }
        }
        session.reports_work = true;
        let is_working = session.is_working();
        if let Some(turn) = session.turns.back_mut() {
            turn.touched_mono = now.mono_ms;
            // The end of the work ends a turn without an answer too, and a failed answer is not retried. A turn without
            // content is not the reported one: diagnostics arrive later than hooks.
            if !is_working && turn.has_content() {
                turn.has_failed = false;
                turn.finished_mono.get_or_insert(now.mono_ms);
            }
        }
    }

    /// Adds the delivery of a message of the session. False where the turn has a delivery already, or there is no turn.
    pub fn deliver(
        &mut self,
        session: &str,
        channel: &str,
        meta: Meta,
        good: bool,
        now: Now,
    ) -> bool {
        let id = self.mint.bits();
        let Some(Session { turns, .. }) = self.sessions.get_mut(session) else {
            return false;
        };
        // A late failure belongs to the turn that waits for it.
        let waiting = turns.iter().position(Turn::awaits_failure_hook);
        let index = waiting.filter(|_| !good).or(turns.len().checked_sub(1));
        let Some(turn) = index.and_then(|index| turns.get_mut(index)) else {
            return false;
        };
        if !good {
            turn.failure_hook_arrived();
        }
        if turn.is_delivered() {
            return false;
        }
        turn.deliver(id, channel, meta, good, now);
        true
    }

    /// Ends the turns that are due, or all of them. [`Turns::take_trace`] returns their traces.
    pub fn end(&mut self, now: Now, all: bool) {
        let ended_turns = &mut self.ended_turns;
        let mut next = u64::MAX;
        self.sessions.retain(|_, session| {
            loop {
                let due = session.due_at();
                if !all && now.mono_ms < due {
                    next = next.min(due);
                    return true;
                }
                let Some(turn) = session.turns.pop_front() else {
                    return false;
                };
                ended_turns.push_back(turn);
            }
        });
        self.next_due = (next < u64::MAX).then_some(next);
    }

    /// Number of ended turns whose trace was not taken.
    pub fn ended(&self) -> usize {
        self.ended_turns.len()
    }

    /// Takes the trace of the next ended turn. One at a time: a trace takes more memory than its turn, and many can end
    /// at once.
    pub fn take_trace(&mut self, settings: &Settings) -> Option<TraceRecord> {
        while let Some(turn) = self.ended_turns.pop_front() {
            if turn.needs_trace() {
                return Some(turn.record(settings, &mut self.mint));
            }
        }
        self.ended_turns = VecDeque::new();
        None
    }

    /// When the next turn may end, in ms on the monotonic clock, as of the last [`Turns::end`]. 0 while traces wait to
    /// be taken.
    pub fn next_due(&self) -> Option<u64> {
        match self.ended_turns.is_empty() {
            true => self.next_due,
            false => Some(0),
        }
    }

    /// The trace of a message that belongs to no known turn.
    pub fn message_trace(
        &mut self,
        settings: &Settings,
        channel: &str,
        received_ms: Option<u64>,
        (meta, good): (Meta, bool),
        now: Now,
    ) -> TraceRecord {
        let mut turn = Turn::new("", &mut self.mint, received_ms.unwrap_or(now.wall_ms), now);
        turn.deliver(self.mint.bits(), channel, meta, good, now);
        turn.record(settings, &mut self.mint)
    }

    /// The trace of a command. Its duration is nominal.
    pub fn command_trace(
        &mut self,
        settings: &Settings,
        name: &str,
        meta: Meta,
        now: Now,
    ) -> TraceRecord {
        let mut turn = Turn::new("", &mut self.mint, now.wall_ms, now);
        turn.ended_ms = now.wall_ms + 1;
        let mut record = turn.record(settings, &mut self.mint);
        record.name = format!("command:{}", crate::domain::identity::name(name));
        record.metadata = meta;
        if let Some(root) = record.spans.first_mut() {
            root.name.clone_from(&record.name);
            root.metadata = record.metadata.clone();
        }
        record
    }

    fn last(&mut self, session: &str) -> Option<&mut Turn> {
        self.sessions.get_mut(session)?.turns.back_mut()
    }

    fn session(&mut self, key: &str, now: Now) -> &mut Session {
        self.clock += 1;
        if !self.sessions.contains_key(key) && self.sessions.len() >= MAX_SESSIONS {
            self.evict();
        }
        let session = self.sessions.entry(key.to_owned()).or_default();
        session.last_used = self.clock;
        session.touched_mono = now.mono_ms;
        session
    }

    /// The turn of an event at this time; a new one where there is none.
    fn current(&mut self, key: &str, at_ms: u64, now: Now, begins: bool) -> &mut Turn {
        self.session(key, now);
        let session = self.sessions.entry(key.to_owned()).or_default();
        if session.turns.is_empty() || (begins && session.has_ended_turn()) {
            if session.turns.len() >= MAX_TURNS {
                self.ended_turns.extend(session.turns.pop_front());
            }
            // Most sessions have one turn, and a turn takes a few hundred bytes.
            session.turns.reserve_exact(1);
            session
                .turns
                .push_back(Turn::new(key, &mut self.mint, at_ms, now));
        }
        // The last turn that had begun by then: a call may become final after the next turn began.
        let index = session
            .turns
            .iter()
            .rposition(|turn| turn.started_ms <= at_ms)
            .unwrap_or(0);
        let turn = &mut session.turns[index];
        turn.started_ms = turn.started_ms.min(at_ms);
        turn.touched_mono = now.mono_ms;
        turn
    }

    /// Ends the turns of the least recently used sessions: many at once, so that it costs little, but not so many that
    /// all their traces at once take much memory.
    fn evict(&mut self) {
        let mut touches: Vec<u64> = self
            .sessions
            .values()
            .map(|session| session.last_used)
            .collect();
        touches.sort_unstable();
        let limit = touches.get(EVICTED - 1).copied().unwrap_or_default();
        let (ended_turns, evicted) = (&mut self.ended_turns, &mut self.evicted);
        self.sessions.retain(|_, session| {
            let is_kept = session.last_used > limit;
            if !is_kept {
                *evicted += session.turns.len() as u64;
                ended_turns.extend(session.turns.drain(..));
            }
            is_kept
        });
    }
}
