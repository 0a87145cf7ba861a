//! Where a model's price comes from: the operator's settings, what is known to be no spend, and a built-in table of
//! list prices. The core is told the few numbers of each model that it meets.

mod settings;
mod table;

use crate::call::{CostSource, Usage};
use crate::facts::Scalar;
use crate::identity;
use crate::price::{IMPLAUSIBLE, Price, distance};
use crate::tariff;

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
        let mut configured = settings::read(prices, &mut problems);
        for (place, prices) in [
            (
                "prices in the gateway's models.providers of ",
                &mut openclaw,
            ),
            ("prices.", &mut configured),
        ] {
            prices.retain(|(model, price)| {
                let problem = far_from_list(&table, model, price);
                let is_near = problem.is_none();
                problems
                    .extend(problem.map(|what| [place, &identity::name(model), &what].concat()));
                is_near
            });
        }
        let texts = by_login.list().iter().filter_map(Scalar::owned);
        let book = Self {
            openclaw,
            configured,
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
        let (list, fees) = table::find(&self.table, provider, model).unwrap_or_default();
        let fees = tariff::fees(model, fees);
        match named(&self.openclaw, &reference(provider, model)).or(configured) {
            Some(price) => Price {
                fees,
                list,
                ..price
            },
            None if list.is_empty() => Price {
                fees,
                ..Price::UNKNOWN
            },
            None => Price {
                source: CostSource::Table,
                tiers: list,
                fees,
                list: Vec::new(),
            },
        }
    }

    fn configured(&self, provider: &str, model: &str) -> Option<Price> {
        let named = |name: &str| named(&self.configured, name);
        named(&reference(provider, model)).or_else(|| named(&[provider, "/*"].concat()))
    }

    fn is_no_spend(&self, provider: &str) -> bool {
        NOT_SPEND.contains(&provider) || self.by_login.iter().any(|known| known == provider)
    }
}

/// What is wrong with a price that is in another unit than the list's.
fn far_from_list(table: &str, model: &str, price: &Price) -> Option<String> {
    let (provider, name) = model.split_once('/')?;
    let (list, _) = table::find(table, provider, name)?;
    let usual = Usage {
        input: 1_000_000,
        output: 1_000_000,
        ..Usage::default()
    };
    let list = Price {
        tiers: list,
        ..Price::UNKNOWN
    };
    let (usd, expected) = (price.reckon(&usual, 0)?, list.reckon(&usual, 0)?);
    let is_far = distance(usd, expected) >= IMPLAUSIBLE;
    is_far.then(|| {
        let way = if usd < expected { "below" } else { "beyond" };
        format!(
            " are more than 1,000 times {way} the list price; give USD per 1M tokens; until then the model is not priced by them"
        )
    })
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
