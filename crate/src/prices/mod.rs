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
    /// Of the gateway's configuration, by the model's reference.
    openclaw: Vec<(String, Price)>,
    /// By the model's reference, or `provider/*`.
    configured: Vec<(String, Price)>,
    /// Providers that are used by login alone, as the gateway's configuration says.
    by_login: Vec<String>,
    table: String,
}

impl PriceBook {
    /// Judges the settings: `prices` is the object as a list of pairs (see `settings.rs`), `openclaw` the same of the
    /// gateway's configuration, `by_login` a list of providers. The second part lists what is wrong with `prices`, a
    /// line each; a model whose prices are wrong has none.
    pub fn new(
        prices: &Scalar,
        openclaw: &Scalar,
        by_login: &Scalar,
        table: String,
    ) -> (Self, Vec<String>) {
        let mut problems = Vec::new();
        // Its own mistakes are the gateway's to tell.
        let mut openclaw = settings::read(openclaw, &mut Vec::new());
        for (_, price) in &mut openclaw {
            price.source = CostSource::Openclaw;
        }
        let texts = by_login.list().iter().filter_map(Scalar::owned);
        let book = Self {
            openclaw,
            configured: settings::read(prices, &mut problems),
            by_login: texts.collect(),
            table,
        };
        (book, problems)
    }

    /// The price of a model, by OpenClaw's name of the provider and the provider's name of the model.
    pub fn find(&self, provider: &str, model: &str) -> Price {
        let configured = self.configured(provider, model);
        match &configured {
            Some(price) if price.source == CostSource::Subscription => return price.clone(),
            Some(_) => {}
            None if self.is_no_spend(provider) => return Price::SUBSCRIPTION,
            None => {}
        }
        named(&self.openclaw, &reference(provider, model))
            .or(configured)
            .or_else(|| {
                let tiers = table::find(&self.table, provider, model)?;
                let source = CostSource::Table;
                Some(Price { source, tiers })
            })
            .unwrap_or(Price::UNKNOWN)
    }

    fn configured(&self, provider: &str, model: &str) -> Option<Price> {
        let named = |name: &str| named(&self.configured, name);
        named(&reference(provider, model)).or_else(|| named(&[provider, "/*"].concat()))
    }

    fn is_no_spend(&self, provider: &str) -> bool {
        NOT_SPEND.contains(&provider) || self.by_login.iter().any(|known| known == provider)
    }
}

fn named(prices: &[(String, Price)], name: &str) -> Option<Price> {
    let found = prices
        .iter()
        .find(|(key, _)| key.eq_ignore_ascii_case(name));
    found.map(|(_, price)| price.clone())
}

/// Where no provider was told, the bare name stands for the model.
fn reference(provider: &str, model: &str) -> String {
    match provider {
        "" => model.to_owned(),
        _ => [provider, "/", model].concat(),
    }
}
