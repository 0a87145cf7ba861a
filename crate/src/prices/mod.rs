//! Where a model's price comes from: the operator's settings, what is known to be no spend, and a built-in table of
//! list prices. In `io.wasm`; the core is told the few numbers of each model that it meets.

mod settings;
mod table;

use crate::call::CostSource;
use crate::facts::Scalar;
use crate::price::Price;

/// The built-in table, as text; the shipped package has it in a file of its own.
#[cfg(not(target_arch = "wasm32"))]
pub const TABLE: &str = include_str!("table.txt");

/// OpenClaw's providers whose calls cost nothing each: flat subscriptions by a login or a plan of their own, command
/// line tools with such a login, and servers on one's own machines. Providers that take keys and logins alike
/// (`anthropic`, `openai`) are not among them.
const NOT_SPEND: &[&str] = &[
    "apple-fm",
    "byteplus-plan",
    "claude-cli",
    "claude-max-api-proxy",
    "codex",
    "codex-cli",
    "copilot-proxy",
    "github-copilot",
    "google-antigravity",
    "google-gemini-cli",
    "kimi-coding",
    "llama-cpp",
    "llamacpp",
    "lmstudio",
    "minimax-portal",
    "ollama",
    "ollama-cloud",
    "openai-codex",
    "opencode-go",
    "qwen-oauth",
    "qwen-portal",
    "sglang",
    "vllm",
    "volcengine-plan",
    "xiaomi-token-plan",
];

/// All that is known of prices.
#[derive(Debug, Default)]
pub struct PriceBook {
    /// By the model's reference, or `provider/*`.
    configured: Vec<(String, Price)>,
    /// Providers that are used by login alone, as the gateway's configuration says.
    by_login: Vec<String>,
    table: String,
}

impl PriceBook {
    /// Judges the settings: `prices` is the object as a list of pairs (see `settings.rs`), `by_login` a list of
    /// providers. The second part lists what is wrong, a line each; a model whose prices are wrong has none.
    pub fn new(prices: &Scalar, by_login: &Scalar, table: String) -> (Self, Vec<String>) {
        let mut problems = Vec::new();
        let texts = by_login.list().iter().filter_map(Scalar::owned);
        let book = Self {
            configured: settings::read(prices, &mut problems),
            by_login: texts.collect(),
            table,
        };
        (book, problems)
    }

    /// The price of a model, by OpenClaw's name of the provider and the provider's name of the model.
    pub fn find(&self, provider: &str, model: &str) -> Price {
        self.configured(provider, model)
            .or_else(|| self.not_spend(provider))
            .or_else(|| {
                let tiers = table::find(&self.table, provider, model)?;
                let source = CostSource::Table;
                Some(Price { source, tiers })
            })
            .unwrap_or(Price::UNKNOWN)
    }

    fn configured(&self, provider: &str, model: &str) -> Option<Price> {
        let named = |name: &str| {
            let mut all = self.configured.iter();
            all.find(|(key, _)| key.eq_ignore_ascii_case(name))
                .map(|(_, price)| price.clone())
        };
        // Where no provider was told, the bare name stands for the model.
        let own = match provider {
            "" => model.to_owned(),
            _ => [provider, "/", model].concat(),
        };
        named(&own).or_else(|| named(&[provider, "/*"].concat()))
    }

    fn not_spend(&self, provider: &str) -> Option<Price> {
        let is_listed =
            NOT_SPEND.contains(&provider) || self.by_login.iter().any(|known| known == provider);
        is_listed.then_some(Price {
            source: CostSource::Subscription,
            tiers: Vec::new(),
        })
    }
}
