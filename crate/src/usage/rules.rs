//! The names under which usage is told: one row a name, with what it counts and who tells it so.
//!
//! A name is a path below the usage object (dots between its parts, `[]` behind a list of usages). Several names may
//! count the same: the largest number is taken, so a placeholder zero hides nothing. Whether a cached count is a part
//! of the prompt's follows from both names (see [`Count`]), unless the total says otherwise (`settle.rs`).

use self::Count::{
    CacheRead, CacheReadInside, CacheReadOfOthers, CacheWrite, CacheWrite1h, CacheWrite5m,
    CacheWriteInside, CacheWriteOfOthers, CodeRuns, FileSearches, Input, Output, OutputMedia,
    OwnCacheRead, OwnCacheWrite, OwnInput, OwnOutput, Prompt, PromptBeside, PromptMedia, Reasoning,
    ReasoningBeside, Sources, Total, WebSearches,
};
use self::Meaning::{Counted, Money, Part, Word};

/// What a number counts. All but the last four are tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Count {
    /// The whole prompt. A cached count is a part of it.
    Prompt,
    /// The prompt without what the cache held, unless the cached count's own name says that it is a part.
    Input,
    /// Tokens of the prompt that no other count has.
    PromptBeside,
    /// The answer, with its reasoning.
    Output,
    /// Reasoning, a part of the answer.
    Reasoning,
    /// Reasoning that the answer's count leaves out.
    ReasoningBeside,
    /// Read from a cache; whether it is a part of the prompt follows from the prompt's name.
    CacheRead,
    /// Read from a cache, a part of the prompt whatever that is called.
    CacheReadInside,
    /// Written to a cache; whether it is a part of the prompt follows from the prompt's name.
    CacheWrite,
    /// Written to a cache, a part of the prompt whatever that is called.
    CacheWriteInside,
    /// Read from a cache, a part of the prompt unless that is told as [`Count::OwnInput`].
    CacheReadOfOthers,
    /// Written to a cache, likewise.
    CacheWriteOfOthers,
    /// OpenClaw's own `input`: the prompt without what the cache held. The own counts come before all others, unless zero.
    OwnInput,
    /// Its `output`.
    OwnOutput,
    /// Its `cacheRead`, beside the prompt.
    OwnCacheRead,
    /// Its `cacheWrite`, beside the prompt.
    OwnCacheWrite,
    /// Of the cache writes, those kept for five minutes.
    CacheWrite5m,
    /// Of the cache writes, those kept for an hour.
    CacheWrite1h,
    /// Sound and pictures in the prompt, which few providers leave out of its count.
    PromptMedia,
    /// Sound in the answer, likewise.
    OutputMedia,
    /// Everything together.
    Total,
    /// Searches of the web, each with a fee.
    WebSearches,
    /// Searches of stored files, each with a fee.
    FileSearches,
    /// Runs of code on the provider's machines, each with a fee.
    CodeRuns,
    /// Sources that a search brought, each with a fee.
    Sources,
}

/// How many counts there are.
pub const COUNTS: usize = Sources as usize + 1;

/// What a figure in USD is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Figure {
    /// What the provider bills.
    Billed,
    /// The same in units of 1e-10 USD.
    BilledTicks,
    /// What the provider behind a router bills to the operator's own key.
    Upstream,
    /// OpenClaw's figure, unless its origin says that the provider billed it.
    Openclaw,
}

/// What a text or a flag says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remark {
    /// Which service tier answered.
    Tier,
    /// `fast` where Anthropic's fast mode answered.
    Speed,
    /// Where the model ran: `us` costs more.
    Region,
    /// Whether the operator's own key was billed by the provider behind a router.
    OwnKey,
    /// `provider-billed` where OpenClaw's figure is the provider's.
    Origin,
    /// Of a part: what it was.
    Kind,
    /// Of a part: its model.
    Model,
}

/// What a row's value means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meaning {
    /// A number.
    Counted(Count),
    /// An amount of money.
    Money(Figure),
    /// A text or a flag.
    Word(Remark),
    /// A list: each entry is the usage of one of several requests to models that the call is made of.
    Part,
}

/// A row of the table.
pub type Rule = (&'static str, Meaning);

/// The table. Sources: OpenClaw 2026.3.13 and 2026.9.6 (`normalizeUsage` in `agents/usage`); the providers' API references
/// and OpenAPI descriptions as of November 2026; the public sources of relays.
pub const RULES: &[Rule] = &[
    // OpenClaw's own shape, in messages, diagnostics and the session store.
    ("input", Counted(OwnInput)),
    ("output", Counted(OwnOutput)),
    ("cacheRead", Counted(OwnCacheRead)),
    ("cacheWrite", Counted(OwnCacheWrite)),
    ("cacheWrite1h", Counted(CacheWrite1h)),
    ("reasoningTokens", Counted(Reasoning)),
    ("total", Counted(Total)),
    ("totalTokens", Counted(Total)),
    ("cost.total", Money(Figure::Openclaw)),
    ("cost.totalOrigin", Word(Remark::Origin)),
    // What OpenClaw's `normalizeUsage` takes besides: older rows, and harnesses that keep the provider's shape.
    ("cache_read", Counted(CacheRead)),
    ("cache_write", Counted(CacheWrite)),
    ("reasoning_tokens", Counted(Reasoning)),
    ("cache_write_input_tokens", Counted(CacheWriteOfOthers)),
    // Codex's command line, and Gemini's.
    ("cached_input_tokens", Counted(CacheReadOfOthers)),
    ("reasoning_output_tokens", Counted(Reasoning)),
    ("cached", Counted(CacheReadOfOthers)),
    // OpenAI chat completions, and all who speak it.
    ("prompt_tokens", Counted(Prompt)),
    ("completion_tokens", Counted(Output)),
    ("total_tokens", Counted(Total)),
    (
        "prompt_tokens_details.cached_tokens",
        Counted(CacheReadInside),
    ),
    ("prompt_tokens_details.audio_tokens", Counted(PromptMedia)),
    (
        "completion_tokens_details.reasoning_tokens",
        Counted(Reasoning),
    ),
    (
        "completion_tokens_details.audio_tokens",
        Counted(OutputMedia),
    ),
    // OpenAI responses; xAI's as well.
    ("input_tokens", Counted(Input)),
    ("output_tokens", Counted(Output)),
    (
        "input_tokens_details.cached_tokens",
        Counted(CacheReadInside),
    ),
    ("input_tokens_details.audio_tokens", Counted(PromptMedia)),
    ("output_tokens_details.reasoning_tokens", Counted(Reasoning)),
    ("output_tokens_details.audio_tokens", Counted(OutputMedia)),
    // OpenRouter and LiteLLM, of models that write to caches.
    (
        "prompt_tokens_details.cache_write_tokens",
        Counted(CacheWriteInside),
    ),
    (
        "prompt_tokens_details.cache_creation_tokens",
        Counted(CacheWriteInside),
    ),
    (
        "prompt_tokens_details.cache_creation_input_tokens",
        Counted(CacheWriteInside),
    ),
    (
        "input_tokens_details.cache_write_tokens",
        Counted(CacheWriteInside),
    ),
    (
        "input_tokens_details.cache_creation_tokens",
        Counted(CacheWriteInside),
    ),
    (
        "prompt_tokens_details.cache_creation_token_details.ephemeral_5m_input_tokens",
        Counted(CacheWrite5m),
    ),
    (
        "prompt_tokens_details.cache_creation_token_details.ephemeral_1h_input_tokens",
        Counted(CacheWrite1h),
    ),
    // DeepSeek; Moonshot and StepFun.
    ("prompt_cache_hit_tokens", Counted(CacheReadInside)),
    ("cached_tokens", Counted(CacheReadInside)),
    // Mistral: what connectors added to the prompt.
    ("prompt_tokens_details.image_tokens", Counted(PromptMedia)),
    ("connector_tokens", Counted(PromptMedia)),
    // Relays of the new-api family.
    (
        "prompt_tokens_details.cached_creation_tokens",
        Counted(CacheWriteInside),
    ),
    (
        "input_tokens_details.cached_creation_tokens",
        Counted(CacheWriteInside),
    ),
    ("claude_cache_creation_5_m_tokens", Counted(CacheWrite5m)),
    ("claude_cache_creation_1_h_tokens", Counted(CacheWrite1h)),
    ("billing_usage.openai_usage.total_tokens", Counted(Total)),
    // Anthropic messages, there and on Vertex AI.
    ("cache_read_input_tokens", Counted(CacheRead)),
    ("cache_creation_input_tokens", Counted(CacheWrite)),
    (
        "cache_creation.ephemeral_5m_input_tokens",
        Counted(CacheWrite5m),
    ),
    (
        "cache_creation.ephemeral_1h_input_tokens",
        Counted(CacheWrite1h),
    ),
    ("output_tokens_details.thinking_tokens", Counted(Reasoning)),
    ("server_tool_use.web_search_requests", Counted(WebSearches)),
    ("speed", Word(Remark::Speed)),
    ("inference_geo", Word(Remark::Region)),
    ("iterations[]", Part),
    ("type", Word(Remark::Kind)),
    ("model", Word(Remark::Model)),
    // Amazon Bedrock: converse, and what it adds to Anthropic's streams.
    ("inputTokens", Counted(Input)),
    ("outputTokens", Counted(Output)),
    ("cacheReadInputTokens", Counted(CacheRead)),
    ("cacheWriteInputTokens", Counted(CacheWrite)),
    ("inputTokenCount", Counted(Input)),
    ("outputTokenCount", Counted(Output)),
    ("cacheReadInputTokenCount", Counted(CacheRead)),
    ("cacheWriteInputTokenCount", Counted(CacheWrite)),
    // Llama and Titan on Bedrock.
    ("prompt_token_count", Counted(Input)),
    ("generation_token_count", Counted(Output)),
    ("inputTextTokenCount", Counted(Input)),
    ("totalOutputTextTokenCount", Counted(Output)),
    // Gemini's `usageMetadata`. Thoughts are no part of the candidates, what tools brought no part of the prompt.
    ("promptTokenCount", Counted(Prompt)),
    ("toolUsePromptTokenCount", Counted(PromptBeside)),
    ("candidatesTokenCount", Counted(Output)),
    ("responseTokenCount", Counted(Output)),
    ("thoughtsTokenCount", Counted(ReasoningBeside)),
    ("cachedContentTokenCount", Counted(CacheReadInside)),
    ("totalTokenCount", Counted(Total)),
    ("trafficType", Word(Remark::Tier)),
    ("serviceTier", Word(Remark::Tier)),
    // Ollama's native API, and llama.cpp's timings, whose prompt is what was not cached.
    ("prompt_eval_count", Counted(Prompt)),
    ("prompt_eval_cached_count", Counted(CacheReadInside)),
    ("eval_count", Counted(Output)),
    ("prompt_n", Counted(Input)),
    ("predicted_n", Counted(Output)),
    ("cache_n", Counted(CacheRead)),
    ("timings.prompt_n", Counted(Input)),
    ("timings.predicted_n", Counted(Output)),
    ("timings.cache_n", Counted(CacheRead)),
    // Cohere.
    ("tokens.input_tokens", Counted(Input)),
    ("tokens.output_tokens", Counted(Output)),
    ("billed_units.input_tokens", Counted(Input)),
    ("billed_units.output_tokens", Counted(Output)),
    // Vercel's AI SDK and gateway, and others in camel case.
    ("promptTokens", Counted(Prompt)),
    ("completionTokens", Counted(Output)),
    ("cachedInputTokens", Counted(CacheReadInside)),
    (
        "inputTokenDetails.cacheReadTokens",
        Counted(CacheReadInside),
    ),
    (
        "inputTokenDetails.cacheWriteTokens",
        Counted(CacheWriteInside),
    ),
    ("outputTokenDetails.reasoningTokens", Counted(Reasoning)),
    ("promptTokensDetails.cachedTokens", Counted(CacheReadInside)),
    (
        "completionTokensDetails.reasoningTokens",
        Counted(Reasoning),
    ),
    // Fees. OpenRouter; LiteLLM, of Gemini; xAI's tools and its earlier search; Mistral's connectors; Perplexity.
    (
        "server_tool_use_details.web_search_requests",
        Counted(WebSearches),
    ),
    (
        "prompt_tokens_details.web_search_requests",
        Counted(WebSearches),
    ),
    (
        "server_side_tool_usage_details.web_search_calls",
        Counted(WebSearches),
    ),
    (
        "server_side_tool_usage_details.file_search_calls",
        Counted(FileSearches),
    ),
    (
        "server_side_tool_usage_details.document_search_calls",
        Counted(FileSearches),
    ),
    (
        "server_side_tool_usage_details.code_interpreter_calls",
        Counted(CodeRuns),
    ),
    ("num_sources_used", Counted(Sources)),
    ("connectors.web_search", Counted(WebSearches)),
    // The service tier: Anthropic in its usage, OpenAI beside it ([`BESIDE`]).
    ("service_tier", Word(Remark::Tier)),
    // The provider's own bill, in USD. OpenRouter, Requesty and others.
    ("cost", Money(Figure::Billed)),
    ("is_byok", Word(Remark::OwnKey)),
    (
        "cost_details.upstream_inference_cost",
        Money(Figure::Upstream),
    ),
    // Perplexity; relays with an amount for each currency; DeepInfra; xAI; others.
    ("cost.total_cost", Money(Figure::Billed)),
    ("cost.usd", Money(Figure::Billed)),
    ("cost.total_usd", Money(Figure::Billed)),
    ("estimated_cost", Money(Figure::Billed)),
    ("cost_in_usd_ticks", Money(Figure::BilledTicks)),
    ("total_cost", Money(Figure::Billed)),
    ("total_cost_usd", Money(Figure::Billed)),
    ("cost_usd", Money(Figure::Billed)),
    ("costUsd", Money(Figure::Billed)),
];

/// What an answer tells beside its usage object; paths begin at the answer.
pub const BESIDE: &[Rule] = &[
    // OpenAI, and Gemini's native API.
    ("service_tier", Word(Remark::Tier)),
    ("serviceTier", Word(Remark::Tier)),
    // llama.cpp's server.
    ("timings.prompt_n", Counted(Input)),
    ("timings.predicted_n", Counted(Output)),
    ("timings.cache_n", Counted(CacheRead)),
    // Vercel's gateway, of a message; Exa; AI/ML API.
    ("provider_metadata.gateway.cost", Money(Figure::Billed)),
    ("providerMetadata.gateway.cost", Money(Figure::Billed)),
    ("costDollars.total", Money(Figure::Billed)),
    ("meta.usage.usd_spent", Money(Figure::Billed)),
];

/// The names alone, in the order of the table: what crosses from JavaScript.
pub const NAMES: &[&str] = {
    const ALL: [&str; RULES.len()] = {
        let mut names = [""; RULES.len()];
        let mut index = 0;
        while index < names.len() {
            names[index] = RULES[index].0;
            index += 1;
        }
        names
    };
    &ALL
};

/// The names that cross for a field with this path: `usage:` says that a usage object stands there.
pub(crate) const fn names_of(path: &str) -> &'static [&'static str] {
    let (path, kind) = (path.as_bytes(), b"usage:");
    let mut index = 0;
    while index < kind.len() {
        if index >= path.len() || path[index] != kind[index] {
            return &[];
        }
        index += 1;
    }
    NAMES
}
