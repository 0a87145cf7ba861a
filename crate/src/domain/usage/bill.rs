//! What is billed beside tokens at their usual price: several requests in one call, cache writes that are kept for an
//! hour, service tiers, fees for searches, and the provider's own figure.

use serde::{Deserialize, Serialize};

use super::reading::{Reading, Tier};
use super::rules::{Count, Figure};
use super::settle::Tokens;
use crate::domain::call::Usage;
use crate::domain::identity;

/// Maximum number of parts; further ones are added up by model.
const MAX_PARTS: usize = 8;
/// Maximum length of a model's name, in characters; no price list has longer names.
const MAX_NAME: usize = 64;

/// One of several model requests that make up a call.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// Its model; `None` means the call's own.
    pub model: Option<String>,
    /// Tokens: input, output, cache reads, cache writes, and the part of the writes that is kept for an hour.
    pub tokens: [u64; 5],
}

impl Part {
    fn of(model: Option<&str>, tokens: &Tokens) -> Self {
        let Usage {
            input,
            output,
            cache_read,
            cache_write,
            ..
        } = tokens.usage;
        let name = model.map(|name| {
            let name = identity::name(name);
            name.chars().take(MAX_NAME).collect()
        });
        Self {
            model: name,
            tokens: [input, output, cache_read, cache_write, tokens.write_1h],
        }
    }

    /// Its tokens.
    pub fn usage(&self) -> Usage {
        let [input, output, cache_read, cache_write, _] = self.tokens;
        Usage {
            input,
            output,
            cache_read,
            cache_write,
            reasoning: 0,
        }
    }
}

/// See the module.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bill {
    /// Whether the reported cost is the provider's own figure.
    pub is_billed: bool,
    /// Part of the cache writes that is kept for an hour, in tokens.
    pub write_1h: u64,
    /// The service tier that answered; `None` where none was reported.
    pub tier: Option<Tier>,
    /// Whether Anthropic's fast mode answered.
    pub is_fast: bool,
    /// Whether the request was restricted to the United States.
    pub is_us: bool,
    /// Number of web searches.
    pub web_searches: u64,
    /// Number of searches in stored files.
    pub file_searches: u64,
    /// Number of code runs on the provider's machines.
    pub code_runs: u64,
    /// Number of sources that a search returned.
    pub sources: u64,
    /// The requests that make up the call, where there are several or one of another model.
    pub parts: Vec<Part>,
}

/// Maximum length of a bill's text, in bytes; longer texts do not cross.
const MAX_TEXT: usize = 1_000;

impl Bill {
    /// Serializes it for one fact, without its parts where these are too long.
    pub fn text(&self) -> Option<String> {
        let text = serde_json::to_string(self).ok()?;
        if text.len() <= MAX_TEXT {
            return Some(text);
        }
        let parts = Vec::new();
        serde_json::to_string(&Self {
            parts,
            ..self.clone()
        })
        .ok()
    }

    /// Reads the text of [`Self::text`].
    pub fn of_text(text: &str) -> Option<Box<Self>> {
        serde_json::from_str(text).ok()
    }
}

impl Reading {
    /// The tokens of the whole call, and of each request that it is made of where there are several.
    ///
    /// Anthropic reports compactions, advisors and fallbacks as `iterations`. Its own counts exclude compactions and
    /// advisors, and may be lower than the sum of the rest.
    pub(super) fn all_tokens(&self) -> (Option<Tokens>, Vec<Part>) {
        let own = self.tokens();
        let reported = |part: &Reading| Some((part.model.clone(), part.tokens()?, part.is_aside));
        let mut parts: Vec<_> = self.parts.iter().filter_map(reported).collect();
        if parts.is_empty() {
            return (own, Vec::new());
        }
        let has_own = |parts: &[(Option<String>, Tokens, bool)]| {
            let own = own.unwrap_or_default().usage;
            let all = sum(parts).usage;
            let has_inner = parts.iter().any(|(_, _, is_aside)| !is_aside);
            has_inner && all.prompt() >= own.prompt() && all.output >= own.output
        };
        if let (Some(own), false) = (own, has_own(&parts)) {
            parts.retain(|(_, _, is_aside)| *is_aside);
            parts.push((None, own, false));
        }
        let mut all = sum(&parts);
        let own = own.unwrap_or_default();
        all.usage.reasoning = all.usage.reasoning.max(own.usage.reasoning);
        all.write_1h = all.write_1h.max(own.write_1h.min(all.usage.cache_write));
        let listed = parts
            .iter()
            .map(|(model, tokens, _)| Part::of(model.as_deref(), tokens));
        let listed: Vec<Part> = listed.collect();
        let is_plain = listed.len() == 1 && listed.iter().all(|part| part.model.is_none());
        match is_plain {
            true => (Some(all), Vec::new()),
            false => (Some(all), merge_parts(listed)),
        }
    }

    /// The cost in USD, and whether it is the provider's figure.
    pub(super) fn cost(&self) -> Option<(f64, bool)> {
        let billed = match (self.charged(), self.upstream(), self.has_own_key) {
            // With the operator's own key the router bills its fee, and the provider the rest.
            (Some(fee), Some(upstream), Some(true)) => Some(fee + upstream),
            (Some(0.0), Some(upstream), None) => Some(upstream),
            // The provider's bill is unknown.
            (Some(_), None, Some(true)) => return None,
            (Some(billed), _, _) => Some(billed),
            (None, upstream, _) => upstream,
        };
        match (billed, self.amount(Figure::Openclaw)) {
            (Some(0.0) | None, Some(usd)) => Some((usd, self.is_billed_by_provider)),
            (Some(usd), _) => Some((usd, true)),
            (None, None) => None,
        }
    }

    /// The bill of the provider or router, in USD. A router that took nothing has billed the call only if its price is
    /// nothing, too.
    fn charged(&self) -> Option<f64> {
        let is_free = self.amount(Figure::Price) == Some(0.0);
        let debited = self.amount(Figure::Debited);
        let debited = debited.filter(|usd| *usd > 0.0 || is_free);
        match (self.amount(Figure::Billed), debited) {
            (Some(billed), Some(debited)) => Some(billed.max(debited)),
            (billed, debited) => billed.or(debited),
        }
    }

    /// The bill of the provider behind a router, in USD.
    fn upstream(&self) -> Option<f64> {
        let parts = self.amount(Figure::UpstreamPrompt);
        let parts = parts.zip(self.amount(Figure::UpstreamAnswer));
        let sum = parts.map(|(prompt, answer)| prompt + answer);
        self.amount(Figure::Upstream).or(sum)
    }

    /// The bill beside these tokens; `None` where it is empty.
    pub(super) fn bill(&self, tokens: Option<&Tokens>, parts: Vec<Part>) -> Option<Box<Bill>> {
        let bill = Bill {
            is_billed: self.cost().is_some_and(|(_, is_billed)| is_billed),
            write_1h: tokens.map_or(0, |tokens| tokens.write_1h),
            tier: self.tier.filter(|tier| *tier != Tier::Standard),
            is_fast: self.is_fast,
            is_us: self.is_us,
            web_searches: self.web_searches(),
            file_searches: self.count(Count::FileSearches),
            code_runs: self.count(Count::CodeRuns),
            sources: self.count(Count::Sources),
            parts,
        };
        (bill != Bill::default()).then(|| Box::new(bill))
    }

    /// The number of searches with the fee of a web search.
    fn web_searches(&self) -> u64 {
        let reported = match self.count(Count::WebSearches) {
            0 => self.count(Count::ListedWebSearches),
            reported => reported,
        };
        reported.saturating_add(self.count(Count::XSearches))
    }
}

fn sum(parts: &[(Option<String>, Tokens, bool)]) -> Tokens {
    let tokens = parts.iter().map(|(_, tokens, _)| tokens);
    tokens.fold(Tokens::default(), |all, tokens| all.plus(tokens))
}

/// Reduces the parts to [`MAX_PARTS`].
fn merge_parts(parts: Vec<Part>) -> Vec<Part> {
    if parts.len() <= MAX_PARTS {
        return parts;
    }
    let mut all: Vec<Part> = Vec::new();
    for part in parts {
        let is_full = all.len() == MAX_PARTS;
        let of_model = all.iter().position(|known| known.model == part.model);
        // A ninth model is priced as the call's own.
        match of_model.or(is_full.then_some(0)) {
            Some(index) => {
                for (sum, more) in all[index].tokens.iter_mut().zip(part.tokens) {
                    *sum = sum.saturating_add(more);
                }
            }
            None => all.push(part),
        }
    }
    all
}
