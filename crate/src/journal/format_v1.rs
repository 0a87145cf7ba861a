//! Version 1 of everything on disk, as postcard writes it: frozen. Domain types convert to these structs and back, so a
//! field of the domain can come and go without a change of the files. Nothing here is changed, moved or removed; a new
//! kind of frame stands at the end of [`Frame`]. A new field needs a new version with a reader for this one.
//! `tests/fixtures/journal/format-v1.awj` has a frame of each kind with every field set.
//!
//! Times are ms since 1970, durations ms, costs USD. Texts are borrowed, both from the domain and from a file's bytes.

mod calls;
mod convert;
mod cursors;
pub mod sums;

pub use self::convert::{call, call_bytes, call_id, frame, frame_bytes, record, record_bytes};

use serde::{Deserialize, Serialize};

/// A fact of the ledger's file, or of a spool file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Frame<'a> {
    /// A snapshot begins.
    Begin,
    /// A surface saw a call.
    Seen(u128, #[serde(borrow)] Observation<'a>),
    /// A final call's match record.
    MatchRecord(MatchRecord),
    /// Calls that are final, with nothing left to send.
    Closed(Vec<u128>),
    /// Offsets of entries of a segment that were acknowledged, by version 0.1.0.
    Gone(Log, u32, Vec<u32>),
    /// What was counted for a session and model.
    Counted(&'a str, &'a str, Counted),
    /// How far a foreign file was read.
    Bookmark(&'a str, &'a str),
    /// Until when the session store is matched.
    Reconciled(u64),
    /// A record that another process made.
    Record(#[serde(borrow)] Record<'a>),
    /// What another process learned of a session.
    Facts(#[serde(borrow)] SessionFacts<'a>),
    /// Frames that are all there, or none of them.
    Together(#[serde(borrow)] Vec<Frame<'a>>),
    /// Keys of calls, 8 bytes (LE) each.
    Told {
        /// When the last of them began.
        until_ms: u64,
        /// Keys of calls that began by then were given up.
        forgotten_ms: u64,
        /// The keys.
        keys: &'a [u8],
    },
    /// A request that another process passed on and did not count.
    Passed(&'a str),
    /// As `Seen`, with a bill.
    SeenWith(
        u128,
        #[serde(borrow)] Observation<'a>,
        #[serde(borrow)] Bill<'a>,
    ),
    /// How far an outlet is with a log. Version 0.1.0 skips it as unreadable.
    Cursor(Outlet, Log, Cursor),
}

/// Which log of segments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Log {
    /// `model-calls-*.awj`.
    Calls,
    /// `records-*.awj`.
    Records,
}

/// Whose cursor. The collector's is in its own state, with its sums.
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

/// How far an outlet is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    /// All entries before it are acknowledged.
    pub at: Position,
    /// Where runs of acknowledged entries behind it begin and end.
    pub ahead: Vec<(Position, Position)>,
}

/// What a surface says of a call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Observation<'a> {
    /// The surface's row in the table of surfaces.
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
    /// Whether it is a whole turn.
    pub whole_turn: bool,
    /// Whether its usage could not be read.
    pub broken_usage: bool,
    /// Whether its usage was all zeros.
    pub told_zeros: bool,
    /// Whether a turn is over with it.
    pub ends_turn: bool,
    /// Whether another process saw it.
    pub elsewhere: bool,
    /// Key of the call.
    pub row: Option<u64>,
}

/// Tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Prompt without what the cache held.
    pub input: u64,
    /// Answer.
    pub output: u64,
    /// Cache reads.
    pub cache_read: u64,
    /// Cache writes.
    pub cache_write: u64,
    /// Reasoning, a part of the answer.
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

/// What is billed beside tokens at their usual price.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bill<'a> {
    /// Whether the cost is the provider's own.
    pub is_billed: bool,
    /// Cache writes that are kept for an hour, in tokens.
    pub write_1h: u64,
    /// Service tier.
    pub tier: Option<Tier>,
    /// Anthropic's fast mode.
    pub is_fast: bool,
    /// Bound to the United States.
    pub is_us: bool,
    /// Searches of the web.
    pub web_searches: u64,
    /// Searches of files.
    pub file_searches: u64,
    /// Runs of code.
    pub code_runs: u64,
    /// Sources of a search.
    pub sources: u64,
    /// The requests of the call.
    #[serde(borrow)]
    pub parts: Vec<Part<'a>>,
}

/// A service tier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Tier {
    /// Usual.
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
    /// Input, output, cache reads, cache writes, writes for an hour.
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
    /// Surfaces that told of it, a bit each.
    pub seen: u16,
    /// Whether an answer was told.
    pub is_answered: bool,
    /// Key of the call.
    pub row: Option<u64>,
    /// Whether it ended badly without usage.
    pub is_unbilled: bool,
}

/// What was counted of a model.
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

/// A record for AgentWatch. In a segment it is the list's number, one byte, and the JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record<'a> {
    /// Which list of a batch.
    pub list: u8,
    /// Its JSON.
    pub json: &'a str,
}

/// What was learned of a session.
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
    /// Whether a run is over.
    pub ends_run: bool,
}

/// A finished call: an entry of the log of calls.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Call<'a> {
    /// Its id.
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
    /// Whether only the session store told of it.
    pub stored: bool,
}

/// A cost.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    /// Figure.
    pub usd: f64,
    /// Where it comes from.
    pub source: CostSource,
}

/// Where a cost comes from.
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
    /// Nobody knows.
    Unknown,
}

/// A duration.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// Figure.
    pub ms: f64,
    /// How it was taken.
    pub source: LatencySource,
}

/// How a duration was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum LatencySource {
    /// Around the request.
    Measured,
    /// To the hook.
    Hook,
}
