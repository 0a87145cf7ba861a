//! The price book: prices of the operator's settings, of the gateway's configuration and of a built-in table of list
//! prices, and providers that bill nothing per call. The engine gets the few numbers of each model that occurs.

pub mod price;
mod settings;
mod table;
pub mod tariff;

use crate::domain::call::{CostSource, Usage};
use crate::domain::identity;
use crate::pricing::price::{IMPLAUSIBLE, Price, distance};
use crate::sources::facts::Scalar;

/// The built-in table as text. The package ships it as a file.
#[cfg(not(target_arch = "wasm32"))]
pub const TABLE: &str = include_str!("table.txt");

/// OpenClaw's providers that bill nothing per call: flat subscriptions with a login or plan, command line tools with
/// such a login, and local servers. Providers that accept both keys and logins (`anthropic`, `openai`) are not listed.
const NOT_BILLED: &[&str] = &[
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

/// The price book.
#[derive(Debug, Default)]
pub struct PriceBook {
    /// Prices of the gateway's configuration, by the model's reference.
    openclaw: Vec<(String, Price)>,
    /// Prices of the settings, by the model's reference or `provider/*`.
    configured: Vec<(String, Price)>,
    /// Providers that the gateway's configuration uses by login only.
    by_login: Vec<String>,
    table: String,
}

impl PriceBook {
    /// Validates the settings. `prices` and `openclaw` (the gateway's configuration) are objects as lists of pairs (see
    /// `settings.rs`), `by_login` is a list of providers. The second value lists the problems of the prices, one line
    /// each; a model with a problem has no price.
    pub fn new(
        prices: &Scalar,
        openclaw: &Scalar,
        by_login: &Scalar,
        table: String,
    ) -> (Self, Vec<String>) {
        let mut problems = Vec::new();
        // Problems in the gateway's configuration are the gateway's to report.
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
                let problem = problem_of_unit(&table, model, price);
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
            None if self.is_not_billed(provider) => return Price::SUBSCRIPTION,
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

    fn is_not_billed(&self, provider: &str) -> bool {
        NOT_BILLED.contains(&provider) || self.by_login.iter().any(|known| known == provider)
    }
}

/// The problem of a price that is in another unit than the list price.
fn problem_of_unit(table: &str, model: &str, price: &Price) -> Option<String> {
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
    let (usd, expected) = (price.compute(&usual, 0)?, list.compute(&usual, 0)?);
    let is_far = distance(usd, expected) >= IMPLAUSIBLE;
    is_far.then(|| {
        let way = if usd < expected { "below" } else { "beyond" };
        format!(
            " are more than 1,000 times {way} the list price; give USD per 1M tokens; the model is not priced by them until this is fixed"
        )
    })
}

fn named(prices: &[(String, Price)], name: &str) -> Option<Price> {
    let found = prices
        .iter()
        .find(|(key, _)| key.eq_ignore_ascii_case(name));
    found.map(|(_, price)| price.clone())
}

/// Without a provider, the model's name alone is the reference.
fn reference(provider: &str, model: &str) -> String {
    match provider {
        "" => model.to_owned(),
        _ => [provider, "/", model].concat(),
    }
}
