//! The table of names under which usage is reported: one row per name, with its meaning and its sources.
//!
//! A name is a path below the usage object, with dots between its parts and `[]` after a list of usages. Several names
//! may have the same meaning: the largest number is taken, so a placeholder zero hides nothing. Whether the prompt's
//! count includes a cached count follows from both names (see [`Count`]), unless the total says otherwise
//! (`settle.rs`).

use self::Count::{
    CacheRead, CacheReadInside, CacheReadOfOthers, CacheWrite, CacheWrite1h, CacheWrite5m,
    CacheWriteInside, CacheWriteOfOthers, CodeRuns, FileSearches, Input, Output, OutputMedia,
    OwnCacheRead, OwnCacheWrite, OwnInput, OwnOutput, Prompt, PromptBeside, PromptMedia, Reasoning,
    ReasoningBeside, Sources, Total, WebSearches,
};
use self::Meaning::{Counted, Money, Part, Word};

/// Meaning of a number. All but the last six count tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Count {
    /// The whole prompt, including cached tokens.
    Prompt,
    /// The prompt without cached tokens, unless the cached count's name says that it is a part.
    Input,
    /// Prompt tokens that no other count includes.
    PromptBeside,
    /// The answer, including its reasoning.
    Output,
    /// Reasoning that the answer's count includes.
    Reasoning,
    /// Reasoning that the answer's count excludes.
    ReasoningBeside,
    /// Read from a cache. The prompt's name decides whether it is a part of the prompt.
    CacheRead,
    /// Read from a cache, always a part of the prompt.
    CacheReadInside,
    /// Written to a cache. The prompt's name decides whether it is a part of the prompt.
    CacheWrite,
    /// Written to a cache, always a part of the prompt.
    CacheWriteInside,
    /// Read from a cache, a part of the prompt unless that is a [`Count::OwnInput`].
    CacheReadOfOthers,
    /// Written to a cache, a part of the prompt unless that is a [`Count::OwnInput`].
    CacheWriteOfOthers,
    /// OpenClaw's `input`: the prompt without cached tokens. OpenClaw's own counts take precedence unless they are
    /// zero.
    OwnInput,
    /// OpenClaw's `output`.
    OwnOutput,
    /// OpenClaw's `cacheRead`, not a part of the prompt.
    OwnCacheRead,
    /// OpenClaw's `cacheWrite`, not a part of the prompt.
    OwnCacheWrite,
    /// Part of the cache writes that is kept for 5 minutes.
    CacheWrite5m,
    /// Part of the cache writes that is kept for 1 hour.
    CacheWrite1h,
    /// Audio and images in the prompt. Few providers exclude them from its count.
    PromptMedia,
    /// Audio in the answer. Few providers exclude it from its count.
    OutputMedia,
    /// The total.
    Total,
    /// Web searches, each with a fee.
    WebSearches,
    /// Web searches that the answer lists. They count where the provider reports no number of them.
    ListedWebSearches,
    /// Searches of X, each with the fee of a web search.
    XSearches,
    /// Searches in stored files, each with a fee.
    FileSearches,
    /// Code runs on the provider's machines, each with a fee.
    CodeRuns,
    /// Sources that a search returned, each with a fee.
    Sources,
}

/// Number of counts.
pub const COUNTS: usize = Sources as usize + 1;

/// Meaning of an amount of money. All but the last are in USD.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Figure {
    /// The provider's bill.
    Billed,
    /// What a router took from the operator's credit: nothing for a free call, for one of a subscription, and for one
    /// that another provider bills to the operator's own key.
    Debited,
    /// The router's price of the call, whoever bills it.
    Price,
    /// The bill of the provider behind a router to the operator's own key.
    Upstream,
    /// The prompt's part of that bill.
    UpstreamPrompt,
    /// The answer's part of that bill.
    UpstreamAnswer,
    /// OpenClaw's figure, the provider's where its origin says so.
    Openclaw,
    /// The provider's bill, in units of 1e-10 USD.
    BilledTicks,
}

/// Number of amounts in USD.
pub const FIGURES: usize = Figure::Openclaw as usize + 1;

/// Meaning of a text or a flag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remark {
    /// The service tier that answered.
    Tier,
    /// `fast` for Anthropic's fast mode.
    Speed,
    /// The region: `us` costs more.
    Region,
    /// Whether the provider behind a router billed the operator's own key.
    OwnKey,
    /// `provider-billed` where OpenClaw's figure is the provider's.
    Origin,
    /// Kind of a part.
    Kind,
    /// Model of a part.
    Model,
}

/// Meaning of a row's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meaning {
    /// A number.
    Counted(Count),
    /// An amount of money.
    Money(Figure),
    /// A text or a flag.
    Word(Remark),
    /// A list with the usage of each model request that the call is made of.
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
    // Further names that OpenClaw's `normalizeUsage` reads: older rows, and harnesses that keep the provider's shape.
    ("cache_read", Counted(CacheRead)),
    ("cache_write", Counted(CacheWrite)),
    ("reasoning_tokens", Counted(Reasoning)),
    ("cache_write_input_tokens", Counted(CacheWriteOfOthers)),
    // Codex's command line, and Gemini's.
    ("cached_input_tokens", Counted(CacheReadOfOthers)),
    ("reasoning_output_tokens", Counted(Reasoning)),
    ("cached", Counted(CacheReadOfOthers)),
    // OpenAI chat completions, and compatible servers.
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
    // OpenRouter and LiteLLM, for models that write to caches.
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
    // Perplexity's Agent API (langchain-ai/langchain#39897).
    (
        "input_tokens_details.cache_read_input_tokens",
        Counted(CacheReadInside),
    ),
    (
        "input_tokens_details.cache_creation_input_tokens",
        Counted(CacheWriteInside),
    ),
    // Requesty (its handler in cline/cline).
    (
        "prompt_tokens_details.caching_tokens",
        Counted(CacheWriteInside),
    ),
    // Qwen: explicit caches, and in its responses the session's cache (Alibaba's page on context caches).
    (
        "prompt_tokens_details.cache_creation.cache_creation_input_tokens",
        Counted(CacheWriteInside),
    ),
    (
        "prompt_tokens_details.cache_creation.ephemeral_5m_input_tokens",
        Counted(CacheWrite5m),
    ),
    ("x_details[]", Part),
    // DeepSeek; Moonshot and StepFun.
    ("prompt_cache_hit_tokens", Counted(CacheReadInside)),
    ("cached_tokens", Counted(CacheReadInside)),
    // Mistral: caches (vercel/ai#14382), and tokens that connectors added to the prompt.
    ("num_cached_tokens", Counted(CacheReadInside)),
    (
        "prompt_token_details.cached_tokens",
        Counted(CacheReadInside),
    ),
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
    // Amazon Bedrock: converse, and its additions to Anthropic's streams.
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
    // Gemini's `usageMetadata`. The candidates' count excludes thoughts, the prompt's excludes tokens that tools
    // brought.
    ("promptTokenCount", Counted(Prompt)),
    ("toolUsePromptTokenCount", Counted(PromptBeside)),
    ("candidatesTokenCount", Counted(Output)),
    ("responseTokenCount", Counted(Output)),
    ("thoughtsTokenCount", Counted(ReasoningBeside)),
    ("cachedContentTokenCount", Counted(CacheReadInside)),
    ("totalTokenCount", Counted(Total)),
    ("trafficType", Word(Remark::Tier)),
    ("serviceTier", Word(Remark::Tier)),
    // Ollama's API, and llama.cpp's timings, whose prompt count excludes cached tokens.
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
    // Fees. OpenRouter; LiteLLM for Gemini; xAI's tools and its earlier search; Mistral's connectors; Perplexity.
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
        "server_side_tool_usage_details.x_search_calls",
        Counted(Count::XSearches),
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
    // Its parts, in chats and in responses.
    (
        "cost_details.upstream_inference_prompt_cost",
        Money(Figure::UpstreamPrompt),
    ),
    (
        "cost_details.upstream_inference_completions_cost",
        Money(Figure::UpstreamAnswer),
    ),
    (
        "cost_details.upstream_inference_input_cost",
        Money(Figure::UpstreamPrompt),
    ),
    (
        "cost_details.upstream_inference_output_cost",
        Money(Figure::UpstreamAnswer),
    ),
    // Perplexity; relays with an amount for each currency; DeepInfra; xAI; LLM Gateway; others.
    ("cost.total_cost", Money(Figure::Billed)),
    ("cost.usd", Money(Figure::Billed)),
    ("cost.total_usd", Money(Figure::Billed)),
    ("estimated_cost", Money(Figure::Billed)),
    ("cost_in_usd_ticks", Money(Figure::BilledTicks)),
    ("cost_usd_total", Money(Figure::Billed)),
    ("total_cost", Money(Figure::Billed)),
    ("total_cost_usd", Money(Figure::Billed)),
    ("cost_usd", Money(Figure::Billed)),
    ("costUsd", Money(Figure::Billed)),
];

/// Members of an answer outside its usage object; paths begin at the answer.
pub const BESIDE: &[Rule] = &[
    // OpenAI, Gemini's native API, and Amazon Bedrock.
    ("service_tier", Word(Remark::Tier)),
    ("serviceTier", Word(Remark::Tier)),
    ("serviceTier.type", Word(Remark::Tier)),
    // OpenAI, also on Bedrock.
    ("tool_usage.web_search.num_requests", Counted(WebSearches)),
    // llama.cpp's server.
    ("timings.prompt_n", Counted(Input)),
    ("timings.predicted_n", Counted(Output)),
    ("timings.cache_n", Counted(CacheRead)),
    // opencode Zen, in a last event or in the whole answer (its `handler.ts` and `provider.ts`).
    ("cost", Money(Figure::Debited)),
    // NanoGPT, in the last chunk of a stream, which may have no usage (anomalyco/opencode#48478).
    ("x_nanogpt_pricing.costUsd", Money(Figure::Debited)),
    ("x_nanogpt_pricing.cost", Money(Figure::Debited)),
    ("x_nanogpt_pricing.amount", Money(Figure::Debited)),
    ("x_nanogpt_pricing.inputTokens", Counted(Prompt)),
    ("x_nanogpt_pricing.outputTokens", Counted(Output)),
    // Vercel's gateway, of a message or an answer (its page on provider filtering and ordering).
    ("provider_metadata.gateway.cost", Money(Figure::Debited)),
    ("provider_metadata.gateway.marketCost", Money(Figure::Price)),
    ("providerMetadata.gateway.cost", Money(Figure::Debited)),
    ("providerMetadata.gateway.marketCost", Money(Figure::Price)),
    // Exa; AI/ML API.
    ("costDollars.total", Money(Figure::Billed)),
    ("meta.usage.usd_spent", Money(Figure::Billed)),
];

/// The names in the order of the table. They cross to the shim.
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

/// The names for a field with this path: those of the table where the path starts with `usage:`.
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
