//! A turn: what a session does between a request and its last answer, as one trace with a span for
//! each model call, tool and delivery.

use crate::call::{CallId, IdMint, ModelCall, Outcome, Usage};
use crate::config::Settings;
use crate::identity;
use crate::observe::Step;
use crate::records::{Meta, SpanRecord, Status, TraceRecord};
use crate::time::{Now, iso};

/// How long a finished turn waits for calls in the ledger's hold-back, in ms.
const GRACE_MS: u64 = 2_000;
/// The same for a turn of a channel of which no delivery was told: newer gateways take their time, in ms.
const DELIVERY_GRACE_MS: u64 = 8_000;
/// The same for a delivery that is under way, or whose failure is told later, in ms.
const LATE_DELIVERY_MS: u64 = 60_000;
/// The same after a failed answer where the gateway does not say whether it tries again, in ms.
const RETRY_GRACE_MS: u64 = 30_000;
/// A turn that nothing happened to for this long is over, in ms.
pub(crate) const IDLE_MS: u64 = 600_000;
/// The most spans of one turn; more are counted in the trace's metadata.
const MAX_SPANS: usize = 200;

/// A part of a turn. Times in ms since 1970. Its name and its attributes are made when it is told: they take several times
/// what they are made of, and many turns are open at once.
#[derive(Debug, Clone)]
struct Span {
    id: u64,
    started_ms: u64,
    ended_ms: u64,
    status: Status,
    part: Part,
}

/// What a part of a turn is.
#[derive(Debug, Clone)]
enum Part {
    Call(Box<CallPart>),
    /// A tool's name.
    Tool(String),
    /// A channel, and what is known of the message.
    Delivery(String, Meta),
}

#[derive(Debug, Clone)]
struct CallPart {
    id: CallId,
    provider: String,
    model: String,
    /// Nothing where nobody told it: zeros would be a figure.
    usage: Option<Usage>,
    usd: f64,
}

/// A tool that was called and has not ended.
#[derive(Debug, Clone)]
struct OpenTool {
    id: Option<String>,
    name: String,
    started_ms: u64,
}

/// A turn that is not told yet.
#[derive(Debug, Clone)]
pub(crate) struct Turn {
    /// The session's key, hidden already; empty for a message or a command alone.
    session: String,
    trace_id: u128,
    root_id: u64,
    pub started_ms: u64,
    pub ended_ms: u64,
    pub channel: Option<String>,
    pub agent: Option<String>,
    pub trigger: Option<String>,
    pub run_id: Option<String>,
    spans: Vec<Span>,
    spans_left_out: u64,
    tools: Vec<OpenTool>,
    /// How the call that ended last ended, and when.
    answer: Option<(u64, Status)>,
    /// Whether the turn's message was delivered, where that was told.
    delivery: Option<Status>,
    /// What others said of it.
    pub verdict: Option<Status>,
    pub is_conversation: bool,
    pub is_answered: bool,
    /// Whether the last answer failed: it may be tried again.
    pub has_failed: bool,
    /// Deliveries that began, less those that ended. Diagnostics come in their own order but later than
    /// hooks, so counts of both may pass through less than nothing.
    deliveries: i32,
    /// Deliveries that diagnostics say failed, less those that the hook told as failed.
    untold_failures: i32,
    pub touched_mono: u64,
    pub finished_mono: Option<u64>,
}

impl Turn {
    pub fn new(session: &str, mint: &mut IdMint, at_ms: u64, now: Now) -> Self {
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
            spans: Vec::new(),
            spans_left_out: 0,
            tools: Vec::new(),
            answer: None,
            delivery: None,
            verdict: None,
            is_conversation: false,
            is_answered: false,
            has_failed: false,
            deliveries: 0,
            untold_failures: 0,
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

    /// A model call is final, whether or not it is a request.
    pub fn call(&mut self, call: &ModelCall) {
        let took = call.latency.map_or(0.0, |latency| latency.ms) as u64;
        let status = Status::of(call.outcome == Outcome::Completed);
        self.agent = self.agent.take().or(call.agent.clone());
        self.trigger = self.trigger.take().or(call.trigger.clone());
        self.run_id = self.run_id.take().or(call.run_id.clone());
        // By its end: calls become final in any order.
        if self.answer.is_none_or(|(at_ms, _)| at_ms <= call.ended_ms) {
            self.answer = Some((call.ended_ms, status));
        }
        self.add(Span {
            id: call.id.key(),
            started_ms: call.ended_ms.saturating_sub(took),
            ended_ms: call.ended_ms,
            status,
            part: Part::Call(Box::new(CallPart {
                id: call.id,
                provider: identity::name(&call.provider),
                model: identity::name(&call.model),
                usage: call.usage,
                usd: call.cost.usd,
            })),
        });
    }

    /// A tool was called.
    pub fn tool_began(&mut self, id: Option<String>, name: String, now: Now) {
        if self.tools.len() < MAX_SPANS {
            let started_ms = now.wall_ms;
            self.tools.push(OpenTool {
                id,
                name,
                started_ms,
            });
        }
    }

    /// A tool ended; `span_id` is for its span.
    pub fn tool_ended(
        &mut self,
        span_id: u64,
        (id, name): (&Option<String>, &str),
        (duration_ms, status): (Option<f64>, Status),
        now: Now,
    ) {
        let same = |open: &OpenTool| open.name == name && open.id == *id;
        let open = self.tools.iter().position(same);
        let began = open.map(|index| self.tools.remove(index).started_ms);
        let told = duration_ms.map(|ms| now.wall_ms.saturating_sub(ms as u64));
        let times = (told.or(began).unwrap_or(now.wall_ms), now.wall_ms);
        self.add(tool_span(span_id, name, times, status));
    }

    /// Whether a message of it was delivered, or could not be.
    pub fn is_delivered(&self) -> bool {
        self.delivery.is_some()
    }

    /// A message of it was sent.
    pub fn deliver(&mut self, id: u64, channel: &str, meta: Meta, good: bool, now: Now) {
        let status = Status::of(good);
        self.delivery = Some(status);
        self.channel = self.channel.take().or(Some(channel.to_owned()));
        self.touched_mono = now.mono_ms;
        if self.spans.is_empty() {
            // A command's answer: no model call will finish this turn.
            self.finished_mono = Some(now.mono_ms);
        }
        self.add(delivery_span(id, channel, meta, status, now));
    }

    /// The gateway says how it is getting on with a delivery.
    pub fn delivery_step(&mut self, step: Step) {
        match step {
            Step::DeliveryBegan => self.deliveries = self.deliveries.saturating_add(1),
            Step::DeliveryEnded => self.deliveries = self.deliveries.saturating_sub(1),
            Step::DeliveryFailed => {
                self.deliveries = self.deliveries.saturating_sub(1);
                self.untold_failures = self.untold_failures.saturating_add(1);
            }
            _ => {}
        }
    }

    /// Whether the hook has yet to tell that a delivery of this turn failed.
    pub fn owes_a_failure(&self) -> bool {
        self.untold_failures > 0
    }

    /// The hook told that a delivery of this turn failed.
    pub fn pay_a_failure(&mut self) {
        self.untold_failures = self.untold_failures.saturating_sub(1);
    }

    /// A turn in which nothing happened, such as a command's, has its log already.
    pub fn is_worth_telling(&self) -> bool {
        self.has_content() || self.is_conversation
    }

    /// Whether a call, a tool or a delivery is in it.
    pub fn has_content(&self) -> bool {
        !self.spans.is_empty() || !self.tools.is_empty()
    }

    /// When it is over, if nothing more happens; `tells_work` says whether the gateway tells when the session is at
    /// work, so that it is known to be idle.
    pub fn over_at(&self, tells_work: bool) -> u64 {
        match self.finished_mono {
            Some(finished) => finished.max(self.touched_mono) + self.grace_ms(tells_work),
            None => self.touched_mono + IDLE_MS,
        }
    }

    fn grace_ms(&self, tells_work: bool) -> u64 {
        if self.is_conversation {
            GRACE_MS
        } else if self.deliveries > 0 || self.untold_failures > 0 {
            LATE_DELIVERY_MS
        } else if self.is_delivered() {
            GRACE_MS
        } else if self.has_failed && !tells_work {
            RETRY_GRACE_MS
        } else if self.channel.is_some() {
            DELIVERY_GRACE_MS
        } else {
            GRACE_MS
        }
    }

    /// As others said; else failed where the last answer is, or where it did not get through.
    fn status(&self) -> Status {
        let answer = self.answer.map(|(_, status)| status);
        let is_good = [answer, self.delivery]
            .into_iter()
            .flatten()
            .all(|status| status == Status::Completed);
        self.verdict.unwrap_or(Status::of(is_good))
    }

    fn name(&self, agent: &str) -> String {
        match &self.channel {
            Some(channel) => format!("conversation:{}", identity::name(channel)),
            None => format!("invoke_agent {agent}"),
        }
    }

    /// The turn as a trace.
    pub fn record(mut self, settings: &Settings, mint: &mut IdMint) -> TraceRecord {
        // A tool that never ended is ended with its turn: no span stays open behind it.
        for tool in std::mem::take(&mut self.tools) {
            let times = (tool.started_ms, self.ended_ms.max(tool.started_ms));
            self.add(tool_span(mint.bits(), &tool.name, times, Status::Failed));
        }
        let starts = self.spans.iter().map(|span| span.started_ms);
        self.started_ms = starts.chain([self.started_ms]).min().unwrap_or_default();
        let status = self.status();
        let naming = &settings.naming;
        let agent = naming.agent(self.agent.as_deref());
        let name = self.name(&agent);
        let trace_id = identity::hex(self.trace_id, [b'0'; 32]);
        let root_id = identity::hex(self.root_id.into(), [b'0'; 16]);
        let metadata = Meta::default()
            .text("gateway", Some(naming.gateway.clone()))
            .text(
                "session_key",
                Some(self.session).filter(|session| !session.is_empty()),
            )
            .text("run_id", self.run_id)
            .text("trigger", self.trigger)
            .text("channel", self.channel.as_deref().map(identity::name))
            .count("spans_left_out", self.spans_left_out);
        let times = (self.started_ms, self.ended_ms);
        let shown = (name.clone(), metadata.clone());
        let root = span_record((self.root_id, &trace_id, None), times, status, shown);
        let mut spans = vec![root];
        spans.extend(self.spans.into_iter().map(|span| {
            let ids = (span.id, trace_id.as_str(), Some(root_id.as_str()));
            let times = (span.started_ms, span.ended_ms);
            span_record(ids, times, span.status, span.part.shown())
        }));
        TraceRecord {
            id: trace_id,
            agent_name: agent,
            name,
            status,
            started_at: iso(self.started_ms),
            ended_at: iso(self.ended_ms),
            duration_ms: self.ended_ms - self.started_ms,
            metadata,
            spans,
        }
    }
}

impl Part {
    /// Its name and its attributes.
    fn shown(self) -> (String, Meta) {
        match self {
            Part::Call(call) => (
                format!("chat {}", call.model),
                tokens(call.usage, Meta::default())
                    .text("gen_ai.operation.name", Some("chat"))
                    .text("gen_ai.provider.name", Some(call.provider))
                    .text("gen_ai.request.model", Some(call.model))
                    .number("cost_usd", call.usd)
                    .text("call_id", Some(call.id.to_string())),
            ),
            Part::Tool(name) => (
                format!("execute_tool {name}"),
                Meta::default()
                    .text("gen_ai.operation.name", Some("execute_tool"))
                    .text("gen_ai.tool.name", Some(name)),
            ),
            Part::Delivery(channel, meta) => (format!("deliver:{channel}"), meta),
        }
    }
}

fn tokens(usage: Option<Usage>, meta: Meta) -> Meta {
    match usage {
        Some(usage) => meta
            .count("gen_ai.usage.input_tokens", usage.prompt())
            .count("gen_ai.usage.output_tokens", usage.output),
        None => meta,
    }
}

fn span_record(
    (id, trace_id, parent): (u64, &str, Option<&str>),
    (started_ms, ended_ms): (u64, u64),
    status: Status,
    (name, metadata): (String, Meta),
) -> SpanRecord {
    SpanRecord {
        id: identity::hex(id.into(), [b'0'; 16]),
        trace_id: trace_id.to_owned(),
        parent_id: parent.map(str::to_owned),
        name,
        status,
        started_at: iso(started_ms),
        ended_at: iso(ended_ms),
        duration_ms: ended_ms.saturating_sub(started_ms),
        metadata,
        events: [],
    }
}

fn tool_span(id: u64, name: &str, (started_ms, ended_ms): (u64, u64), status: Status) -> Span {
    Span {
        id,
        started_ms: started_ms.min(ended_ms),
        ended_ms,
        status,
        part: Part::Tool(identity::name(name)),
    }
}

fn delivery_span(id: u64, channel: &str, meta: Meta, status: Status, now: Now) -> Span {
    Span {
        id,
        started_ms: now.wall_ms,
        ended_ms: now.wall_ms,
        status,
        part: Part::Delivery(identity::name(channel), meta),
    }
}
