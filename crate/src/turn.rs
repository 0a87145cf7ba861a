//! Turns: what a session does between a request and its last answer, as one trace with a span for
//! each model call, tool and delivery. A trace is made once, when its turn is over.

use std::collections::VecDeque;

use crate::call::{IdMint, ModelCall, Outcome};
use crate::config::Settings;
use crate::observe::ToolCall;
use crate::records::{Meta, SpanRecord, Status, TraceRecord};
use crate::table::{Table, key_of};
use crate::time::{Now, iso};

/// How long a finished turn waits for calls in the ledger's hold-back and for its delivery, in ms.
const GRACE_MS: u64 = 2_000;
/// The same for a turn of a channel that was not delivered yet: newer gateways take their time, in ms.
const DELIVERY_GRACE_MS: u64 = 8_000;
/// A turn that nothing happened to for this long is over, in ms.
const IDLE_MS: u64 = 600_000;
/// The most sessions with open turns; the one untouched longest gives way.
const MAX_SESSIONS: usize = 1_024;
/// The most turns of one session that can be open at once.
const MAX_TURNS: usize = 4;
/// The most spans of one turn; more are counted in the trace's metadata.
const MAX_SPANS: usize = 200;

/// A part of a turn. Times in ms since 1970.
#[derive(Debug, Clone)]
struct Span {
    id: u64,
    name: String,
    started_ms: u64,
    ended_ms: u64,
    status: Status,
    meta: Meta,
}

/// A tool that was called and has not ended.
#[derive(Debug, Clone)]
struct OpenTool {
    id: Option<String>,
    name: String,
    started_ms: u64,
}

#[derive(Debug, Clone)]
struct Turn {
    session: String,
    trace_id: u128,
    root_id: u64,
    started_ms: u64,
    ended_ms: u64,
    channel: Option<String>,
    agent: Option<String>,
    trigger: Option<String>,
    run_id: Option<String>,
    status: Status,
    spans: Vec<Span>,
    spans_left_out: u64,
    tools: Vec<OpenTool>,
    is_delivered: bool,
    is_conversation: bool,
    touch: u64,
    touched_mono: u64,
    finished_mono: Option<u64>,
}

/// The open turns of all sessions.
#[derive(Debug)]
pub struct Turns {
    sessions: Table<VecDeque<Turn>>,
    over: Vec<Turn>,
    clock: u64,
    mint: IdMint,
    /// Turns that were ended for want of room.
    pub evicted: u64,
}

impl Turns {
    /// No turns yet.
    pub fn new(seed: u64) -> Self {
        Self {
            sessions: Table::default(),
            over: Vec::new(),
            clock: 0,
            mint: IdMint::new(seed),
            evicted: 0,
        }
    }

    /// How many sessions have open turns.
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

    /// A run begins: a turn of its own, unless it is the same run going on after a failed try.
    pub fn begin_run(
        &mut self,
        session: &str,
        run_id: Option<&str>,
        agent: Option<&str>,
        now: Now,
    ) {
        let last = self.last(session);
        if let Some(turn) = last
            && run_id.is_some()
            && turn.run_id.as_deref() == run_id
        {
            turn.finished_mono = None;
            turn.touched_mono = now.mono_ms;
            return;
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
        turn.status = Status::of(outcome == Outcome::Completed);
        turn.ended_ms = turn.ended_ms.max(ended_ms);
        turn.finished_mono = Some(now.mono_ms);
    }

    /// The session's last answer was given: the turn is over once nothing more happens to it.
    pub fn finish(&mut self, session: &str, at_ms: u64, now: Now) {
        if let Some(turn) = self.last(session) {
            turn.ended_ms = turn.ended_ms.max(at_ms);
            turn.touched_mono = now.mono_ms;
            turn.finished_mono = Some(now.mono_ms);
        }
    }

    /// A model call is final, whether or not it is a request.
    pub fn call(&mut self, session: &str, call: &ModelCall, now: Now) {
        let took = call.latency.map_or(0.0, |latency| latency.ms) as u64;
        let started_ms = call.ended_ms.saturating_sub(took);
        // By its end: a call may begin a moment before its user's message is stored.
        let turn = self.current(session, call.ended_ms, now, false);
        turn.agent = turn.agent.take().or(call.agent.clone());
        turn.trigger = turn.trigger.take().or(call.trigger.clone());
        turn.run_id = turn.run_id.take().or(call.run_id.clone());
        turn.status = Status::of(call.outcome == Outcome::Completed);
        let usage = call.usage.unwrap_or_default();
        turn.add(Span {
            id: call.id.0 as u64,
            name: format!("chat {}", crate::identity::name(&call.model)),
            started_ms,
            ended_ms: call.ended_ms,
            status: turn.status,
            meta: Meta::default()
                .text("gen_ai.operation.name", Some("chat"))
                .text(
                    "gen_ai.provider.name",
                    Some(crate::identity::name(&call.provider)),
                )
                .text(
                    "gen_ai.request.model",
                    Some(crate::identity::name(&call.model)),
                )
                .count("gen_ai.usage.input_tokens", usage.prompt())
                .count("gen_ai.usage.output_tokens", usage.output)
                .number("cost_usd", call.cost.usd)
                .text("call_id", Some(call.id.to_string())),
        });
    }

    /// A tool was called, or ended.
    pub fn tool(&mut self, tool: &ToolCall, now: Now) {
        let id = self.mint.bits();
        let turn = self.current(&tool.session_key, now.wall_ms, now, false);
        turn.finished_mono = None;
        let Some((duration_ms, is_failed)) = tool.end else {
            if turn.tools.len() < MAX_SPANS {
                turn.tools.push(OpenTool {
                    id: tool.id.clone(),
                    name: tool.name.clone(),
                    started_ms: now.wall_ms,
                });
            }
            return;
        };
        let same = |open: &OpenTool| open.name == tool.name && open.id == tool.id;
        let open = turn.tools.iter().position(same);
        let began = open.map(|index| turn.tools.remove(index).started_ms);
        let told = duration_ms.map(|ms| now.wall_ms.saturating_sub(ms as u64));
        turn.add(tool_span(
            id,
            &tool.name,
            (told.or(began).unwrap_or(now.wall_ms), now.wall_ms),
            Status::of(!is_failed),
        ));
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
        let Some(turn) = self.last(session) else {
            return false;
        };
        if turn.is_delivered {
            return false;
        }
        turn.is_delivered = true;
        turn.channel = turn.channel.take().or(Some(channel.to_owned()));
        turn.status = Status::of(good);
        turn.touched_mono = now.mono_ms;
        if turn.spans.is_empty() {
            // A command's answer: no model call will finish this turn.
            turn.finished_mono = Some(now.mono_ms);
        }
        turn.add(Span {
            id,
            name: format!("deliver:{}", crate::identity::name(channel)),
            started_ms: now.wall_ms,
            ended_ms: now.wall_ms,
            status: Status::of(good),
            meta,
        });
        true
    }

    /// The traces of the turns that are over; `all` ends every turn.
    pub fn due(&mut self, settings: &Settings, now: Now, all: bool) -> Vec<TraceRecord> {
        let mut over = std::mem::take(&mut self.over);
        self.sessions.retain(|turns| {
            while turns.front().is_some_and(|turn| all || turn.is_over(now)) {
                over.extend(turns.pop_front());
            }
            !turns.is_empty()
        });
        over.into_iter()
            .filter(Turn::is_worth_telling)
            .map(|turn| turn.record(settings, &mut self.mint))
            .collect()
    }

    /// When the next turn may be over, on the monotonic clock.
    pub fn next_due(&self) -> Option<u64> {
        let fronts = self.sessions.values().filter_map(VecDeque::front);
        fronts.map(Turn::over_at).min()
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
        turn.channel = Some(channel.to_owned());
        turn.status = Status::of(good);
        turn.add(Span {
            id: self.mint.bits(),
            name: format!("deliver:{}", crate::identity::name(channel)),
            started_ms: now.wall_ms,
            ended_ms: now.wall_ms,
            status: Status::of(good),
            meta,
        });
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
        self.sessions.get_mut(key_of(&[session]))?.back_mut()
    }

    /// The turn that something at this time belongs to; a new one where there is none.
    fn current(&mut self, session: &str, at_ms: u64, now: Now, begins: bool) -> &mut Turn {
        self.clock += 1;
        let key = key_of(&[session]);
        if !self.sessions.contains(key) && self.sessions.len() >= MAX_SESSIONS {
            self.evict();
        }
        let turns = self.sessions.entry(key, VecDeque::new);
        let is_new = match turns.back() {
            None => true,
            Some(last) => begins && last.finished_mono.is_some(),
        };
        if is_new {
            if turns.len() >= MAX_TURNS {
                self.over.extend(turns.pop_front());
            }
            turns.push_back(Turn::new(session, &mut self.mint, at_ms, now));
        }
        // The last turn that had begun by then: a call may be final after the next turn began.
        let index = turns
            .iter()
            .rposition(|turn| turn.started_ms <= at_ms)
            .unwrap_or(0);
        let turn = &mut turns[index];
        turn.started_ms = turn.started_ms.min(at_ms);
        turn.touched_mono = now.mono_ms;
        turn.touch = self.clock;
        turn
    }

    /// Ends what was untouched longest, rarely and then much, so that it costs little.
    fn evict(&mut self) {
        // Each touch takes the next tick, so at most half of the sessions were touched since then.
        let limit = self.clock - (MAX_SESSIONS / 2) as u64;
        let (over, evicted) = (&mut self.over, &mut self.evicted);
        self.sessions.retain(|turns| {
            let stays = turns.back().is_some_and(|turn| turn.touch > limit);
            if !stays {
                *evicted += turns.len() as u64;
                over.extend(turns.drain(..));
            }
            stays
        });
    }
}

impl Turn {
    fn new(session: &str, mint: &mut IdMint, at_ms: u64, now: Now) -> Self {
        Self {
            session: session.to_owned(),
            trace_id: u128::from(mint.bits()) << 64 | u128::from(mint.bits()),
            root_id: mint.bits(),
            started_ms: at_ms,
            ended_ms: at_ms,
            channel: None,
            agent: None,
            trigger: None,
            run_id: None,
            status: Status::Completed,
            spans: Vec::new(),
            spans_left_out: 0,
            tools: Vec::new(),
            is_delivered: false,
            is_conversation: false,
            touch: 0,
            touched_mono: now.mono_ms,
            finished_mono: None,
        }
    }

    fn add(&mut self, span: Span) {
        self.ended_ms = self.ended_ms.max(span.ended_ms);
        if self.spans.len() < MAX_SPANS {
            self.spans.push(span);
        } else {
            self.spans_left_out += 1;
        }
    }

    /// A turn in which nothing happened, such as a command's, has its log already.
    fn is_worth_telling(&self) -> bool {
        !self.spans.is_empty() || !self.tools.is_empty() || self.is_conversation
    }

    fn over_at(&self) -> u64 {
        match self.finished_mono {
            Some(finished)
                if self.channel.is_some() && !self.is_delivered && !self.is_conversation =>
            {
                finished.max(self.touched_mono) + DELIVERY_GRACE_MS
            }
            Some(finished) => finished.max(self.touched_mono) + GRACE_MS,
            None => self.touched_mono + IDLE_MS,
        }
    }

    fn is_over(&self, now: Now) -> bool {
        now.mono_ms >= self.over_at()
    }

    fn name(&self, agent: &str) -> String {
        match &self.channel {
            Some(channel) => format!("conversation:{}", crate::identity::name(channel)),
            None => format!("invoke_agent {agent}"),
        }
    }

    fn record(mut self, settings: &Settings, mint: &mut IdMint) -> TraceRecord {
        // A tool that never ended is ended with its turn: no span stays open behind it.
        for tool in std::mem::take(&mut self.tools) {
            let times = (tool.started_ms, self.ended_ms.max(tool.started_ms));
            self.add(tool_span(mint.bits(), &tool.name, times, Status::Failed));
        }
        let starts = self.spans.iter().map(|span| span.started_ms);
        self.started_ms = starts.chain([self.started_ms]).min().unwrap_or_default();
        let naming = &settings.naming;
        let agent = naming.agent(self.agent.as_deref());
        let name = self.name(&agent);
        let trace_id = format!("{:032x}", self.trace_id);
        let root_id = format!("{:016x}", self.root_id);
        let metadata = Meta::default()
            .text("gateway", Some(naming.gateway.clone()))
            .text(
                "session_key",
                Some(self.session).filter(|session| !session.is_empty()),
            )
            .text("run_id", self.run_id)
            .text("trigger", self.trigger)
            .text(
                "channel",
                self.channel.as_deref().map(crate::identity::name),
            )
            .count("spans_left_out", self.spans_left_out);
        let root = Span {
            id: self.root_id,
            name: name.clone(),
            started_ms: self.started_ms,
            ended_ms: self.ended_ms,
            status: self.status,
            meta: metadata.clone(),
        };
        let mut spans = vec![root.record(&trace_id, None)];
        spans.extend(
            self.spans
                .into_iter()
                .map(|span| span.record(&trace_id, Some(&root_id))),
        );
        TraceRecord {
            id: trace_id,
            agent_name: agent,
            name,
            status: self.status,
            started_at: iso(self.started_ms),
            ended_at: iso(self.ended_ms),
            duration_ms: self.ended_ms - self.started_ms,
            metadata,
            spans,
        }
    }
}

impl Span {
    fn record(self, trace_id: &str, parent: Option<&str>) -> SpanRecord {
        SpanRecord {
            id: format!("{:016x}", self.id),
            trace_id: trace_id.to_owned(),
            parent_id: parent.map(str::to_owned),
            name: self.name,
            status: self.status,
            started_at: iso(self.started_ms),
            ended_at: iso(self.ended_ms),
            duration_ms: self.ended_ms.saturating_sub(self.started_ms),
            metadata: self.meta,
            events: [],
        }
    }
}

fn tool_span(id: u64, name: &str, (started_ms, ended_ms): (u64, u64), status: Status) -> Span {
    let name = crate::identity::name(name);
    Span {
        id,
        started_ms: started_ms.min(ended_ms),
        ended_ms,
        status,
        meta: Meta::default()
            .text("gen_ai.operation.name", Some("execute_tool"))
            .text("gen_ai.tool.name", Some(name.clone())),
        name: format!("execute_tool {name}"),
    }
}
