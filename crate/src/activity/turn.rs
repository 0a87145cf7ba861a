//! A turn: the work of a session between a request and its last answer. It becomes one trace with a span for each model
//! call, tool and delivery.

use crate::activity::records::{Meta, SpanRecord, Status, TraceRecord};
use crate::domain::call::{
    CallId, CostSource, IdMint, ModelCall, Operation, Origin, Outcome, Usage,
};
use crate::domain::identity;
use crate::domain::time::{Now, iso};
use crate::engine::settings::Settings;
use crate::sources::Step;

/// How long a finished turn waits for calls in the ledger's hold-back period, in ms.
const GRACE_MS: u64 = 2_000;
/// The same for a turn of a channel whose delivery was not reported yet, in ms: newer gateways deliver late.
const DELIVERY_GRACE_MS: u64 = 8_000;
/// The same for a delivery in progress, or one whose failure is reported later, in ms.
const LATE_DELIVERY_MS: u64 = 60_000;
/// The same after a failed answer where the gateway does not report whether it retries, in ms.
const RETRY_GRACE_MS: u64 = 30_000;
/// A turn without events for this long has ended, in ms.
pub(crate) const IDLE_MS: u64 = 600_000;
/// Maximum number of spans of one turn; further ones are counted in the trace's metadata.
const MAX_SPANS: usize = 200;

/// A part of a turn. Times in ms since 1970. Its name and attributes are generated when the trace is made: they take
/// several times the memory, and many turns are open at once.
#[derive(Debug, Clone)]
struct Span {
    id: u64,
    started_ms: u64,
    ended_ms: u64,
    status: Status,
    part: Part,
}

/// Kind and content of a span.
#[derive(Debug, Clone)]
enum Part {
    Call(Box<CallPart>),
    /// A tool call, with the tool's name.
    Tool(String),
    /// A delivery, with its channel and the message's attributes.
    Delivery(String, Meta),
}

#[derive(Debug, Clone)]
struct CallPart {
    id: CallId,
    provider: String,
    model: String,
    /// `None` where no surface reported it, since zeros would be a figure.
    usage: Option<Usage>,
    /// `None` where the cost is unknown.
    usd: Option<f64>,
    response_model: Option<String>,
    operation: Operation,
    first_chunk_ms: Option<f64>,
    was_aborted: bool,
    skill: Option<String>,
    /// The tool that ran before the call.
    tool: Option<String>,
}

/// A tool call in progress.
#[derive(Debug, Clone)]
struct OpenTool {
    id: Option<String>,
    name: String,
    started_ms: u64,
}

/// A turn whose trace is not made yet.
#[derive(Debug, Clone)]
pub(crate) struct Turn {
    /// The session's key, hashed already; empty for a message or a command without a session.
    session: String,
    trace_id: u128,
    root_id: u64,
    pub started_ms: u64,
    pub ended_ms: u64,
    pub channel: Option<String>,
    pub agent: Option<String>,
    pub trigger: Option<String>,
    /// Channel and cron job of its first call that has them.
    origin: Origin,
    pub run_id: Option<String>,
    spans: Vec<Span>,
    spans_left_out: u64,
    tools: Vec<OpenTool>,
    /// End and status of the call that ended last.
    answer: Option<(u64, Status)>,
    /// Status of the delivery of the turn's message, if it was reported.
    delivery: Option<Status>,
    /// Status that a `conversation:end` reported.
    pub reported_status: Option<Status>,
    pub is_conversation: bool,
    pub is_answered: bool,
    /// Whether the last answer failed; the gateway may retry it.
    pub has_failed: bool,
    /// Deliveries that began minus those that ended. Diagnostics arrive in order but later than hooks, so the
    /// difference may be negative for a while.
    deliveries: i32,
    /// Failed deliveries by diagnostics minus those that the hook reported.
    unreported_failures: i32,
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
            origin: Origin::default(),
            run_id: None,
            spans: Vec::new(),
            spans_left_out: 0,
            tools: Vec::new(),
            answer: None,
            delivery: None,
            reported_status: None,
            is_conversation: false,
            is_answered: false,
            has_failed: false,
            deliveries: 0,
            unreported_failures: 0,
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

    /// Adds a final model call, whether or not it is a request.
    pub fn call(&mut self, call: &ModelCall) {
        let took = call.latency.map_or(0.0, |latency| latency.ms) as u64;
        let status = Status::of(call.outcome == Outcome::Completed);
        self.agent = self.agent.take().or(call.agent.clone());
        self.trigger = self.trigger.take().or(call.trigger.clone());
        self.run_id = self.run_id.take().or(call.run_id.clone());
        self.origin.fill(&call.origin);
        // Compares ends, since calls become final in any order.
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
                usd: (call.cost.source != CostSource::Unknown).then_some(call.cost.usd),
                response_model: call.response_model.as_deref().map(identity::name),
                operation: call.operation,
                first_chunk_ms: call.first_chunk_ms(),
                was_aborted: call.outcome == Outcome::Aborted,
                skill: call.origin.skill.clone(),
                tool: call.origin.tool.clone(),
            })),
        });
    }

    /// Adds a tool call that began.
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

    /// Ends a tool call; `span_id` is the id of its span.
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
        let reported = duration_ms.map(|ms| now.wall_ms.saturating_sub(ms as u64));
        let times = (reported.or(began).unwrap_or(now.wall_ms), now.wall_ms);
        self.add(tool_span(span_id, name, times, status));
    }

    /// Whether the delivery of its message succeeded or failed.
    pub fn is_delivered(&self) -> bool {
        self.delivery.is_some()
    }

    /// Adds the delivery of a message.
    pub fn deliver(&mut self, id: u64, channel: &str, meta: Meta, good: bool, now: Now) {
        let status = Status::of(good);
        self.delivery = Some(status);
        self.channel = self.channel.take().or(Some(channel.to_owned()));
        self.touched_mono = now.mono_ms;
        if self.spans.is_empty() {
            // The answer to a command: no model call ends this turn.
            self.finished_mono = Some(now.mono_ms);
        }
        self.add(delivery_span(id, channel, meta, status, now));
    }

    /// Updates the progress of deliveries.
    pub fn delivery_step(&mut self, step: Step) {
        match step {
            Step::DeliveryBegan => self.deliveries = self.deliveries.saturating_add(1),
            Step::DeliveryEnded => self.deliveries = self.deliveries.saturating_sub(1),
            Step::DeliveryFailed => {
                self.deliveries = self.deliveries.saturating_sub(1);
                self.unreported_failures = self.unreported_failures.saturating_add(1);
            }
            _ => {}
        }
    }

    /// Whether the hook still has to report a failed delivery of this turn.
    pub fn awaits_failure_hook(&self) -> bool {
        self.unreported_failures > 0
    }

    /// Notes that the hook reported a failed delivery of this turn.
    pub fn failure_hook_arrived(&mut self) {
        self.unreported_failures = self.unreported_failures.saturating_sub(1);
    }

    /// Whether the turn needs a trace. A turn without content, such as a command's, has its log record already.
    pub fn needs_trace(&self) -> bool {
        self.has_content() || self.is_conversation
    }

    /// Whether it has a call, a tool or a delivery.
    pub fn has_content(&self) -> bool {
        !self.spans.is_empty() || !self.tools.is_empty()
    }

    /// When it ends if nothing more happens, in ms on the monotonic clock. `reports_work` means that the gateway reports
    /// the work of sessions, so the session is known to be idle.
    pub fn over_at(&self, reports_work: bool) -> u64 {
        match self.finished_mono {
            Some(finished) => finished.max(self.touched_mono) + self.grace_ms(reports_work),
            None => self.touched_mono + IDLE_MS,
        }
    }

    fn grace_ms(&self, reports_work: bool) -> u64 {
        if self.is_conversation {
            GRACE_MS
        } else if self.deliveries > 0 || self.unreported_failures > 0 {
            LATE_DELIVERY_MS
        } else if self.is_delivered() {
            GRACE_MS
        } else if self.has_failed && !reports_work {
            RETRY_GRACE_MS
        } else if self.channel.is_some() {
            DELIVERY_GRACE_MS
        } else {
            GRACE_MS
        }
    }

    /// The reported status; else failed if the last answer or the delivery failed.
    fn status(&self) -> Status {
        let answer = self.answer.map(|(_, status)| status);
        let is_good = [answer, self.delivery]
            .into_iter()
            .flatten()
            .all(|status| status == Status::Completed);
        self.reported_status.unwrap_or(Status::of(is_good))
    }

    fn name(&self, agent: &str) -> String {
        match &self.channel {
            Some(channel) => format!("conversation:{}", identity::name(channel)),
            None => format!("invoke_agent {agent}"),
        }
    }

    /// The turn as a trace.
    pub fn record(mut self, settings: &Settings, mint: &mut IdMint) -> TraceRecord {
        // A tool that did not end is ended with its turn, so no span stays open.
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
            .text(
                "channel",
                self.channel
                    .as_deref()
                    .map(identity::name)
                    .or(self.origin.channel),
            )
            .text("job", self.origin.job)
            .told_count("spans_left_out", self.spans_left_out);
        let times = (self.started_ms, self.ended_ms);
        let described = (name.clone(), metadata.clone());
        let root = span_record((self.root_id, &trace_id, None), times, status, described);
        let mut spans = vec![root];
        spans.extend(self.spans.into_iter().map(|span| {
            let ids = (span.id, trace_id.as_str(), Some(root_id.as_str()));
            let times = (span.started_ms, span.ended_ms);
            span_record(ids, times, span.status, span.part.described())
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
    /// The span's name and attributes.
    fn described(self) -> (String, Meta) {
        match self {
            Part::Call(call) => (
                format!("{} {}", call.operation.name(), call.model),
                tokens(call.usage, Meta::default())
                    .text("gen_ai.operation.name", Some(call.operation.name()))
                    .text("gen_ai.provider.name", Some(call.provider))
                    .text("gen_ai.request.model", Some(call.model))
                    .text("gen_ai.response.model", call.response_model)
                    .told_number(
                        "gen_ai.response.time_to_first_chunk",
                        call.first_chunk_ms.map(|ms| ms / 1_000.0),
                    )
                    .told_number("cost_usd", call.usd)
                    .text("error.type", call.was_aborted.then_some("aborted"))
                    .text("skill", call.skill)
                    .text("tool", call.tool)
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
            // Sources do not tell a count of 0 from none.
            .told_count("gen_ai.usage.input_tokens", usage.prompt())
            .told_count("gen_ai.usage.output_tokens", usage.output)
            .told_count("gen_ai.usage.cache_read.input_tokens", usage.cache_read)
            .told_count(
                "gen_ai.usage.cache_creation.input_tokens",
                usage.cache_write,
            )
            .told_count("gen_ai.usage.reasoning.output_tokens", usage.reasoning),
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
