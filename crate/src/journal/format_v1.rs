//! Version 1 of the format on disk, encoded by postcard: frozen. Domain types convert to these structs and back, so the
//! domain's fields can change and the files stay the same. No field or variant here is changed, moved or removed. A new
//! kind of frame is appended to [`Frame`]. A payload has a frame that version 0.1.0 reads, and further frames behind it
//! (`payload.rs`): 0.1.0 reads the first one, so it knows each call after a downgrade.
//! Of the files `tests/fixtures/journal/format-v1-*.awj`, `-ledger` has a frame of each kind with every field set and
//! `-further` payloads of several frames; `-calls`, `-records` and `-otlp` have the payloads of the other files.
//!
//! Times are in ms since 1970, durations in ms, costs in USD. Strings borrow from the domain or from a file's bytes.

mod calls;
mod convert;
mod cursors;
mod history;
mod payload;
pub mod spending;
pub mod sums;

pub use self::calls::{call, call_bytes, call_id};
pub use self::convert::{record, record_bytes};
pub use self::history::{Key, Numbers, Span};
pub use self::payload::{frame, frame_bytes};

use serde::{Deserialize, Serialize};

/// A frame of a ledger file or of a spool file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Frame<'a> {
    /// A snapshot begins.
    Begin,
    /// A surface's observation of the call with this id.
    Seen(u128, #[serde(borrow)] Observation<'a>),
    /// A final call's match record.
    MatchRecord(MatchRecord),
    /// Ids of final calls that are acknowledged.
    Closed(Vec<u128>),
    /// Offsets of acknowledged entries of a segment. Version 0.1.0 wrote these.
    Gone(Log, u32, Vec<u32>),
    /// Totals of a session and model.
    Counted(&'a str, &'a str, Counted),
    /// A bookmark: the name of a source, and the place up to which it is read.
    Bookmark(&'a str, &'a str),
    /// Time up to which the session store is matched, in ms since 1970.
    Reconciled(u64),
    /// A record of another process.
    Record(#[serde(borrow)] Record<'a>),
    /// Another process's facts about a session.
    Facts(#[serde(borrow)] SessionFacts<'a>),
    /// Frames that are written atomically.
    Together(#[serde(borrow)] Vec<Frame<'a>>),
    /// Keys of reported calls, by which repeated reports are recognised.
    Told {
        /// The latest begin of these calls.
        until_ms: u64,
        /// Keys of calls that began by this time are dropped.
        forgotten_ms: u64,
        /// The keys, 8 bytes (LE) each.
        keys: &'a [u8],
    },
    /// A request that another process forwarded and did not count.
    Passed(&'a str),
    /// `Seen` with a bill.
    SeenWith(
        u128,
        #[serde(borrow)] Observation<'a>,
        #[serde(borrow)] Bill<'a>,
    ),
    /// An outlet's cursor in a log. Version 0.1.0 skips it as unreadable.
    Cursor(Outlet, Log, Cursor),
    /// `Seen` with a bill, if there is one, and further fields. Version 0.1.0 skips it as unreadable.
    SeenMore(
        u128,
        #[serde(borrow)] Observation<'a>,
        #[serde(borrow)] Option<Bill<'a>>,
        #[serde(borrow)] More<'a>,
    ),
    /// A final call in the sums for reports: its id, its end, its key and its numbers. Version 0.1.0 skips it as
    /// unreadable.
    Tally(u128, u64, #[serde(borrow)] Key<'a>, Numbers),
    /// Sums for reports: the span's length, its number since 1970, the key and the numbers. Version 0.1.0 skips it as
    /// unreadable.
    Tallied(Span, u64, #[serde(borrow)] Key<'a>, Numbers),
    /// The state of cache incidents, alarms and the webhook; see `engine/incidents/`.
    Incidents(&'a [u8]),
    /// Spend of the final call with this id.
    Spent(u128, spending::Spent),
    /// A lift of the allowances.
    Lift(spending::Lift),
    /// The state of the allowances: it replaces all earlier ones and their changes.
    Allowances(spending::Allowances),
    /// `SeenMore` of a call that is no chat. Nothing writes `SeenWith`, `SeenMore` and `SeenAs` any more.
    SeenAs(
        u128,
        #[serde(borrow)] Observation<'a>,
        #[serde(borrow)] Option<Bill<'a>>,
        #[serde(borrow)] More<'a>,
        Operation,
    ),
    /// Bill and further fields of an observation: of the `Seen` in front of it, or of the frame with this index in the
    /// `Together` in front of it.
    Further(
        u32,
        #[serde(borrow)] Option<Bill<'a>>,
        #[serde(borrow)] More<'a>,
        Operation,
    ),
}

/// What a call asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Operation {
    /// A chat.
    Chat,
    /// A text is continued.
    TextCompletion,
}

/// Further fields of an observation, or of a finished call.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct More<'a> {
    /// The channel's name.
    pub channel: Option<&'a str>,
    /// The cron job's id.
    pub job: Option<&'a str>,
    /// The skill in use.
    pub skill: Option<&'a str>,
    /// The tool that ran before.
    pub tool: Option<&'a str>,
    /// Characters of the prompt: system prompt, tool definitions, messages, other.
    pub prompt: Option<[u64; 4]>,
}

/// A log of segments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Log {
    /// `model-calls-*.awj`.
    Calls,
    /// `records-*.awj`.
    Records,
}

/// The outlet of a cursor. The collector's cursors are in its own state, with its sums.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outlet {
    /// AgentWatch.
    AgentWatch,
}

/// A place in a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// The segment's number.
    pub segment: u32,
    /// The offset in it, in bytes.
    pub offset: u32,
}

/// The place up to which an outlet has acknowledged a log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    /// All entries before this place are acknowledged.
    pub at: Position,
    /// Begin and end of each run of acknowledged entries after it.
    pub ahead: Vec<(Position, Position)>,
}

/// A surface's observation of a call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Observation<'a> {
    /// Index of the surface in the table of surfaces.
    pub surface: u32,
    /// The provider.
    pub provider: &'a str,
    /// The model.
    pub model: &'a str,
    /// The session's key.
    pub session_key: Option<&'a str>,
    /// The run's id.
    pub run_id: Option<&'a str>,
    /// The trace's span.
    pub span_id: Option<&'a str>,
    /// What started the run.
    pub trigger: Option<&'a str>,
    /// The agent's id.
    pub agent: Option<&'a str>,
    /// The provider's id of the answer.
    pub response_id: Option<&'a str>,
    /// Tokens.
    pub usage: Option<Usage>,
    /// Cost.
    pub cost_usd: Option<f64>,
    /// Start.
    pub started_ms: Option<u64>,
    /// End.
    pub ended_ms: u64,
    /// Duration.
    pub duration_ms: Option<f64>,
    /// Time to the first byte.
    pub ttfb_ms: Option<f64>,
    /// Time to the first token.
    pub ttft_ms: Option<f64>,
    /// The provider's id of the request.
    pub request_id: Option<&'a str>,
    /// The model that answered.
    pub response_model: Option<&'a str>,
    /// How it ended.
    pub outcome: Outcome,
    /// Whether the figures are the sums of a whole turn.
    pub whole_turn: bool,
    /// Whether the usage is unreadable.
    pub broken_usage: bool,
    /// Whether the usage is all zeros.
    pub told_zeros: bool,
    /// Whether the call ends its turn.
    pub ends_turn: bool,
    /// Whether another process observed the call.
    pub elsewhere: bool,
    /// Key of the call.
    pub row: Option<u64>,
}

/// Tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Prompt tokens without cache reads and writes.
    pub input: u64,
    /// Tokens of the answer.
    pub output: u64,
    /// Tokens read from the cache.
    pub cache_read: u64,
    /// Tokens written to the cache.
    pub cache_write: u64,
    /// Tokens of reasoning, a part of the answer.
    pub reasoning: u64,
}

/// How a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// Answered.
    Completed,
    /// Failed.
    Failed,
    /// Stopped.
    Aborted,
}

/// Billed items and conditions other than tokens at the standard price.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bill<'a> {
    /// Whether the cost is the provider's own figure.
    pub is_billed: bool,
    /// Tokens written to the one-hour cache.
    pub write_1h: u64,
    /// Service tier.
    pub tier: Option<Tier>,
    /// Anthropic's fast mode.
    pub is_fast: bool,
    /// Inference only in the United States.
    pub is_us: bool,
    /// Web searches.
    pub web_searches: u64,
    /// File searches.
    pub file_searches: u64,
    /// Code executions.
    pub code_runs: u64,
    /// Search sources.
    pub sources: u64,
    /// The requests of the call.
    #[serde(borrow)]
    pub parts: Vec<Part<'a>>,
}

/// A service tier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Tier {
    /// Standard.
    Standard,
    /// Flex.
    Flex,
    /// Batch.
    Batch,
    /// Priority.
    Priority,
}

/// One request of several in a call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part<'a> {
    /// Its model.
    pub model: Option<&'a str>,
    /// Tokens: input, output, cache reads, cache writes, writes to the one-hour cache.
    pub tokens: [u64; 5],
}

/// A final call's match record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MatchRecord {
    /// The call's id.
    pub id: u128,
    /// Hash of model and session.
    pub bucket: u64,
    /// Hash of the model.
    pub model: u64,
    /// Hash of the span.
    pub span: Option<u64>,
    /// Start.
    pub started_ms: Option<u64>,
    /// End.
    pub ended_ms: u64,
    /// The whole prompt as `input`, and the answer.
    pub usage: Option<Usage>,
    /// Surfaces that reported the call, one bit each.
    pub seen: u16,
    /// Whether a surface reported an answer.
    pub is_answered: bool,
    /// Key of the call.
    pub row: Option<u64>,
    /// Whether the call failed or was aborted, without usage.
    pub is_unbilled: bool,
}

/// Totals of a model.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Counted {
    /// Requests.
    pub requests: u64,
    /// Prompt tokens.
    pub prompt: u64,
    /// Completion tokens.
    pub completion: u64,
    /// Cost.
    pub cost_usd: f64,
}

/// A record for AgentWatch. An entry of a segment is the list's number in one byte, followed by the JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record<'a> {
    /// Number of the batch's list.
    pub list: u8,
    /// The record's JSON.
    pub json: &'a str,
}

/// Facts about a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionFacts<'a> {
    /// The session's key.
    pub session_key: &'a str,
    /// The run's id.
    pub run_id: Option<&'a str>,
    /// What started the run.
    pub trigger: Option<&'a str>,
    /// The agent's id.
    pub agent: Option<&'a str>,
    /// Whether the session ended.
    pub ended: bool,
    /// The gateway's reason.
    pub reason: Option<&'a str>,
    /// Whether the run ended.
    pub ends_run: bool,
}

/// What the prompt cache saved and cost in a call, in 1e-9 USD.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CacheUsd {
    /// Whether the prompt's share of the cost, which precedes this, is known; else it is 0.
    pub has_prompt: bool,
    /// Saved by reads.
    pub saved: u64,
    /// Paid for writes, above the input rate.
    pub write_extra: u64,
}

/// What a call that is no chat asks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Asked {
    /// Whether the figures of [`CacheUsd`], which precede this, are known; else they are 0.
    pub has_cache: bool,
    /// What it asks.
    pub operation: Operation,
}

/// A finished call: an entry of the log of calls. If the entry goes on, [`More`] follows, and then the prompt's share of
/// the cost in 1e-9 USD, a `u64`, then [`CacheUsd`], and then [`Asked`]. Version 0.1.0 reads none of them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Call<'a> {
    /// The call's id.
    pub id: u128,
    /// End.
    pub ended_ms: u64,
    /// The provider.
    pub provider: &'a str,
    /// The model.
    pub model: &'a str,
    /// The agent's id.
    pub agent: Option<&'a str>,
    /// The session's key.
    pub session_key: Option<&'a str>,
    /// The run's id.
    pub run_id: Option<&'a str>,
    /// What started the run.
    pub trigger: Option<&'a str>,
    /// Tokens.
    pub usage: Option<Usage>,
    /// Cost.
    pub cost: Cost,
    /// Duration.
    pub latency: Option<Latency>,
    /// Time to the first byte.
    pub ttfb_ms: Option<f64>,
    /// Time to the first token.
    pub ttft_ms: Option<f64>,
    /// The provider's id of the request.
    pub request_id: Option<&'a str>,
    /// The model that answered.
    pub response_model: Option<&'a str>,
    /// How it ended.
    pub outcome: Outcome,
    /// Whether only the session store reported the call.
    pub stored: bool,
}

/// A cost.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    /// USD.
    pub usd: f64,
    /// Source of the figure.
    pub source: CostSource,
}

/// Source of a cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum CostSource {
    /// The provider.
    Provider,
    /// OpenClaw.
    Openclaw,
    /// The plugin's settings.
    Configured,
    /// The table of list prices.
    Table,
    /// A subscription.
    Subscription,
    /// The cost is unknown.
    Unknown,
}

/// A duration.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// Ms.
    pub ms: f64,
    /// How the duration was measured.
    pub source: LatencySource,
}

/// How a duration was measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum LatencySource {
    /// Around the model request.
    Measured,
    /// From the start of the call to a hook.
    Hook,
}
