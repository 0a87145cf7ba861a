//! The open turns of all sessions, and when each is over. A trace is made once, when its turn is over.
//!
//! A gateway that tells when a session is at work says so itself; of others only the time that passes does. Nothing here
//! may depend on how busy the machine is: what belongs to a turn may come late.

use std::collections::VecDeque;

use indexmap::IndexMap;

use crate::call::{IdMint, ModelCall, Outcome};
use crate::config::Settings;
use crate::observe::{Progress, Step, ToolCall};
use crate::records::{Meta, Status, TraceRecord};
use crate::time::Now;
use crate::turn::{IDLE_MS, Turn};

/// The most sessions with open turns; those untouched longest give way.
const MAX_SESSIONS: usize = 1_024;
/// How many of them give way at once.
const EVICTED: usize = MAX_SESSIONS / 32;
/// The most turns of one session that can be open at once.
const MAX_TURNS: usize = 4;

/// A session that has open turns, or is at work.
#[derive(Debug, Default)]
struct Session {
    turns: VecDeque<Turn>,
    /// Messages that the gateway processes.
    messages: u32,
    is_running: bool,
    /// Whether the gateway tells of its work at all.
    tells_work: bool,
    touch: u64,
    touched_mono: u64,
}

impl Session {
    fn is_at_work(&self) -> bool {
        self.messages > 0 || self.is_running
    }

    /// When its first turn is over, or when its work is given up as lost.
    fn due_at(&self) -> u64 {
        match self.turns.front() {
            // The one at work is the last.
            Some(turn) if self.turns.len() > 1 || !self.is_at_work() => {
                turn.over_at(self.tells_work)
            }
            Some(turn) => turn.touched_mono + IDLE_MS,
            None if self.is_at_work() => self.touched_mono + IDLE_MS,
            None => self.touched_mono,
        }
    }

    /// Whether something that begins now begins a turn, rather than going on with the last one.
    fn has_ended_turn(&self) -> bool {
        self.turns.back().is_some_and(|turn| {
            turn.finished_mono.is_some() && !(turn.has_failed && self.is_at_work())
        })
    }
}

/// The open turns of all sessions.
#[derive(Debug)]
pub struct Turns {
    sessions: IndexMap<String, Session>,
    over: VecDeque<Turn>,
    /// When the next turn may be over, as it was found when this was last looked for.
    next_due: Option<u64>,
    clock: u64,
    mint: IdMint,
    /// Turns that were ended for want of room.
    pub evicted: u64,
}

impl Turns {
    /// No turns yet.
    pub fn new(seed: u64) -> Self {
        Self {
            sessions: IndexMap::new(),
            over: VecDeque::new(),
            next_due: None,
            clock: 0,
            mint: IdMint::new(seed),
            evicted: 0,
        }
    }

    /// How many sessions have open turns, or are at work.
    pub fn len(&self) -> usize {
        self.sessions.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.sessions.is_empty()
    }

    /// A turn begins, if the session's last one is over; several events tell of the same beginning.
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

    /// A run begins: a turn of its own, unless it is the same run going on after a failed try, or the one that gave
    /// an answer before this was told.
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

    /// A conversation that others told of begins.
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

    /// A conversation that others told of is over.
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
        turn.verdict = Some(Status::of(outcome == Outcome::Completed));
        turn.ended_ms = turn.ended_ms.max(ended_ms);
        turn.finished_mono = Some(now.mono_ms);
    }

    /// The session's last answer was given, or failed: the turn is over once nothing more happens to it.
    pub fn answered(&mut self, session: &str, has_failed: bool, now: Now) {
        if let Some(turn) = self.last(session) {
            turn.is_answered = true;
            turn.has_failed = has_failed;
        }
        self.finish(session, now);
    }

    /// A run of the session is over.
    pub fn finish(&mut self, session: &str, now: Now) {
        if let Some(turn) = self.last(session) {
            turn.ended_ms = turn.ended_ms.max(now.wall_ms);
            turn.touched_mono = now.mono_ms;
            turn.finished_mono = Some(now.mono_ms);
        }
    }

    /// A model call is final, whether or not it is a request.
    pub fn call(&mut self, session: &str, call: &ModelCall, now: Now) {
        // By its end: a call may begin a moment before its user's message is stored.
        self.current(session, call.ended_ms, now, false).call(call);
    }

    /// A tool was called, or ended.
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

    /// The gateway says how far it is with a session's work.
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
        session.tells_work = true;
        let is_at_work = session.is_at_work();
        if let Some(turn) = session.turns.back_mut() {
            turn.touched_mono = now.mono_ms;
            // A turn without an answer is over as well, and a failed answer is tried no more. A turn in which nothing
            // happened yet is not the one that the gateway means: diagnostics come later than hooks.
            if !is_at_work && turn.has_content() {
                turn.has_failed = false;
                turn.finished_mono.get_or_insert(now.mono_ms);
            }
        }
    }

    /// A message of the session was sent. False where the turn has had its delivery, or there is none.
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
        // A failure that is told late belongs to the turn that waits for it.
        let owing = turns.iter().position(Turn::owes_a_failure);
        let index = owing.filter(|_| !good).or(turns.len().checked_sub(1));
        let Some(turn) = index.and_then(|index| turns.get_mut(index)) else {
            return false;
        };
        if !good {
            turn.pay_a_failure();
        }
        if turn.is_delivered() {
            return false;
        }
        turn.deliver(id, channel, meta, good, now);
        true
    }

    /// Ends the turns that are over, or every turn: [`Turns::told`] gives their traces.
    pub fn end(&mut self, now: Now, all: bool) {
        let over = &mut self.over;
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
                over.push_back(turn);
            }
        });
        self.next_due = (next < u64::MAX).then_some(next);
    }

    /// How many turns have ended and were not told.
    pub fn ended(&self) -> usize {
        self.over.len()
    }

    /// The trace of the next turn that has ended. One after the other: a trace takes more memory than its turn, and many
    /// can end at once.
    pub fn told(&mut self, settings: &Settings) -> Option<TraceRecord> {
        while let Some(turn) = self.over.pop_front() {
            if turn.is_worth_telling() {
                return Some(turn.record(settings, &mut self.mint));
            }
        }
        self.over = VecDeque::new();
        None
    }

    /// When the next turn may be over, on the monotonic clock: as [`Turns::end`] left it. At once where one is that was
    /// not told.
    pub fn next_due(&self) -> Option<u64> {
        match self.over.is_empty() {
            true => self.next_due,
            false => Some(0),
        }
    }

    /// A trace of a message alone, where no turn is known to be its own.
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

    /// A trace of a command, which takes no time worth measuring.
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
        record.name = format!("command:{}", crate::identity::name(name));
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
        session.touch = self.clock;
        session.touched_mono = now.mono_ms;
        session
    }

    /// The turn that something at this time belongs to; a new one where there is none.
    fn current(&mut self, key: &str, at_ms: u64, now: Now, begins: bool) -> &mut Turn {
        self.session(key, now);
        let session = self.sessions.entry(key.to_owned()).or_default();
        if session.turns.is_empty() || (begins && session.has_ended_turn()) {
            if session.turns.len() >= MAX_TURNS {
                self.over.extend(session.turns.pop_front());
            }
            // Most have one, and a turn's room is a few hundred bytes.
            session.turns.reserve_exact(1);
            session
                .turns
                .push_back(Turn::new(key, &mut self.mint, at_ms, now));
        }
        // The last turn that had begun by then: a call may be final after the next turn began.
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

    /// Ends what was untouched longest: many at once, so that it costs little, and not so many that all their traces
    /// at once take much.
    fn evict(&mut self) {
        let mut touches: Vec<u64> = self
            .sessions
            .values()
            .map(|session| session.touch)
            .collect();
        touches.sort_unstable();
        let limit = touches.get(EVICTED - 1).copied().unwrap_or_default();
        let (over, evicted) = (&mut self.over, &mut self.evicted);
        self.sessions.retain(|_, session| {
            let stays = session.touch > limit;
            if !stays {
                *evicted += session.turns.len() as u64;
                over.extend(session.turns.drain(..));
            }
            stays
        });
    }
}
