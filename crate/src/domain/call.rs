//! Domain types: one model call, its usage, its cost, its outcome.

use serde::{Deserialize, Serialize};

use crate::domain::identity;
use crate::spending::Nano;
use crate::spending::prompt_bill::PromptStats;
use crate::spending::who::Who;

/// Tokens of one call. `input` excludes cached tokens, as in OpenClaw.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Usage {
    /// Prompt tokens that were neither read from a cache nor written to one.
    pub input: u64,
    /// Tokens of the answer, including reasoning, as the provider bills them.
    pub output: u64,
    /// Prompt tokens read from the provider's cache.
    pub cache_read: u64,
    /// Prompt tokens written to the provider's cache.
    pub cache_write: u64,
    /// Reasoning tokens, a part of `output`; 0 where the source does not report them.
    pub reasoning: u64,
}

impl Usage {
    /// Tokens of the whole prompt: AgentWatch's `prompt_tokens`.
    pub fn prompt(&self) -> u64 {
        // Saturates, since a corrupt journal may hold any numbers.
        self.input
            .saturating_add(self.cache_read)
            .saturating_add(self.cache_write)
    }

    /// Whether all counts are zero. OpenClaw writes missing usage as zeros.
    pub fn is_zero(&self) -> bool {
        self.prompt() == 0 && self.output == 0
    }
}

/// Source of a cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CostSource {
    /// The provider's own figure.
    Provider,
    /// OpenClaw's figure, computed from the prices in the gateway's configuration.
    Openclaw,
    /// Computed from the prices in this plugin's settings.
    Configured,
    /// Computed from the built-in table of list prices.
    Table,
    /// A flat subscription: the call costs nothing extra.
    Subscription,
    /// Unknown; recorded as 0.
    Unknown,
}

impl CostSource {
    /// Its name in records.
    pub fn name(self) -> &'static str {
        match self {
            Self::Provider => "provider",
            Self::Openclaw => "openclaw",
            Self::Configured => "configured",
            Self::Table => "table",
            Self::Subscription => "subscription",
            Self::Unknown => "unknown",
        }
    }
}

/// What a call asks of the model, in the names of OpenTelemetry's `gen_ai.operation.name`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Operation {
    /// A chat, as all APIs but one have it.
    #[default]
    Chat,
    /// A text is continued: `/v1/completions`. Only a proxy sees it.
    TextCompletion,
}

impl Operation {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Chat => "chat",
            Self::TextCompletion => "text_completion",
        }
    }

    /// Whether it is a chat.
    pub fn is_chat(&self) -> bool {
        *self == Self::Chat
    }
}

/// The cost of a call.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cost {
    /// In USD.
    pub usd: f64,
    /// Source of the amount.
    pub source: CostSource,
}

/// Source of a latency.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LatencySource {
    /// Measured around the request, by the gateway or an intermediary.
    Measured,
    /// The time from the start of the call to the arrival of its message at the hook.
    Hook,
}

/// The latency of a call.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Latency {
    /// In ms.
    pub ms: f64,
    /// Source of the figure.
    pub source: LatencySource,
}

/// How a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The model answered.
    Completed,
    /// The provider or the stream failed.
    Failed,
    /// The client or the user stopped it.
    Aborted,
}

/// The id of one call: a time-ordered UUID, minted at the first observation and never changed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CallId(pub u128);

impl CallId {
    /// The id of a call that ended at `ended_ms`; `bits` are 64 well-mixed bits that are unique to the call.
    pub fn of(ended_ms: u64, bits: u64) -> Self {
        let high = (ended_ms & 0xffff_ffff_ffff) << 16 | 0x7000 | (bits & 0x0fff);
        let low = 0x8000_0000_0000_0000 | (bits >> 2);
        Self((high as u128) << 64 | low as u128)
    }

    /// Its random part, as a key for maps.
    pub fn key(self) -> u64 {
        self.0 as u64
    }
}

impl std::fmt::Display for CallId {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str(&identity::hex(
            self.0,
            *b"00000000-0000-0000-0000-000000000000",
        ))
    }
}

impl std::fmt::Debug for CallId {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

/// Mints [`CallId`]s (UUID version 7) from the time and a seed that the host draws.
#[derive(Debug, Clone)]
pub struct IdMint {
    state: u64,
}

impl IdMint {
    /// Creates a mint. `seed` must differ between processes.
    pub fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// 64 pseudo-random bits (splitmix64).
    pub fn bits(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A new id for a call first seen at `now_ms`.
    pub fn mint(&mut self, now_ms: u64) -> CallId {
        CallId::of(now_ms, self.bits())
    }
}

/// What a call was made for, besides its agent, session and trigger. After [`Event::hash_identities`] in the form in
/// which it may leave; see [`crate::spending::who`].
///
/// [`Event::hash_identities`]: crate::sources::Event::hash_identities
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Origin {
    /// The channel's name, such as `telegram`.
    pub channel: Option<String>,
    /// The cron job's id.
    pub job: Option<String>,
    /// The skill in use.
    pub skill: Option<String>,
    /// The tool that ran before the call, in the same turn.
    pub tool: Option<String>,
}

impl Origin {
    /// Takes channel, job and skill of its run where they are unknown here.
    pub(crate) fn fill(&mut self, run: &Self) {
        for (own, known) in [
            (&mut self.channel, &run.channel),
            (&mut self.job, &run.job),
            (&mut self.skill, &run.skill),
        ] {
            if own.is_none() {
                own.clone_from(known);
            }
        }
    }

    /// Whether nothing is known.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// What the prompt cache saved and cost in one call, by the model's rates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CacheUsd {
    /// USD saved by reads.
    pub saved: Nano,
    /// USD paid for writes, above the input rate.
    pub write_extra: Nano,
}

/// One final call, as receivers get it.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelCall {
    /// Minted at the first observation.
    pub id: CallId,
    /// When it ended, in ms since 1970.
    pub ended_ms: u64,
    /// OpenClaw's name of the provider.
    pub provider: String,
    /// The provider's name of the model.
    pub model: String,
    /// OpenClaw's id of the agent, if known.
    pub agent: Option<String>,
    /// The session's key, hashed as far as settings ask for it.
    pub session_key: Option<String>,
    /// The run's id, hashed as far as settings ask for it.
    pub run_id: Option<String>,
    /// `user`, `cron`, `heartbeat`, `subagent`.
    pub trigger: Option<String>,
    /// Channel, cron job, skill and tool.
    pub origin: Origin,
    /// Characters of the parts of its prompt; from 2026.7.
    pub prompt: Option<PromptStats>,
    /// The prompt's share of the cost by the model's rates, where `prompt` and the rates are known.
    pub prompt_usd: Option<Nano>,
    /// What the prompt cache saved and cost, of a call with cached tokens where the rates are known.
    pub cache_usd: Option<CacheUsd>,
    /// Tokens; `None` where none were reported.
    pub usage: Option<Usage>,
    /// Its cost.
    pub cost: Cost,
    /// Its latency.
    pub latency: Option<Latency>,
    /// Time to the first byte of the answer, in ms.
    pub ttfb_ms: Option<f64>,
    /// Time to the first token of the answer, in ms.
    pub ttft_ms: Option<f64>,
    /// The provider's id of the request.
    pub request_id: Option<String>,
    /// The model that answered, by the provider's name.
    pub response_model: Option<String>,
    /// What it asks.
    pub operation: Operation,
    /// How it ended.
    pub outcome: Outcome,
    /// Whether only the session store reported it.
    pub stored: bool,
}

impl ModelCall {
    /// Time to the first chunk of a streamed answer, in ms; `None` where the answer may have come in one piece. Gateways
    /// stream each call; a proxy, which has the request's id, also sees answers that are no streams, without a first token.
    pub fn first_chunk_ms(&self) -> Option<f64> {
        let is_streamed = self.ttft_ms.is_some() || self.request_id.is_none();
        self.ttfb_ms.filter(|_| is_streamed).or(self.ttft_ms)
    }

    /// Its whole attribution.
    pub fn who(&self) -> Who {
        let Origin {
            channel,
            job,
            skill,
            tool,
        } = self.origin.clone();
        Who {
            agent: self.agent.clone(),
            channel,
            trigger: self.trigger.clone(),
            job,
            session: self.session_key.clone(),
            skill,
            tool,
        }
    }

    /// Whether receivers count it as a request: it has usage, or it succeeded.
    pub fn is_request(&self) -> bool {
        self.usage.is_some() || self.outcome == Outcome::Completed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_version_7_uuids_in_order_of_time() {
        let mut mint = IdMint::new(7);
        let (a, b) = (mint.mint(1_795_439_673_341), mint.mint(1_795_439_673_342));
        assert!(a < b);
        let text = a.to_string();
        assert_eq!(text.len(), 36);
        assert_eq!(&text[14..15], "7");
        assert!("89ab".contains(&text[19..20]));
    }

    #[test]
    fn a_prompt_includes_cached_tokens() {
        let usage = Usage {
            input: 1,
            cache_read: 2,
            cache_write: 4,
            output: 8,
            reasoning: 3,
        };
        assert_eq!(usage.prompt(), 7);
        assert!(!usage.is_zero());
        assert!(Usage::default().is_zero());
    }
}
