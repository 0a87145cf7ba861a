//! The price of a model, and the cost of a call by it.

use serde::{Deserialize, Serialize};

use crate::domain::call::{Cost, CostSource, Usage};

/// A tier: the prompt length above which it applies, in tokens, and the rates in USD per 1M tokens of input, output,
/// cache reads and cache writes.
pub type Tier = [f64; 5];

/// Fees that are billed beside tokens, in USD per 1,000.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Fees {
    /// Web searches.
    pub web_searches: f64,
    /// Searches in stored files.
    pub file_searches: f64,
}

/// The price of a model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Price {
    /// `Openclaw`, `Configured`, `Table`, `Subscription`, or `Unknown` without a price.
    pub source: CostSource,
    /// In the order of their prompt lengths, the first from 0; empty for a subscription.
    pub tiers: Vec<Tier>,
    /// Fees beside tokens.
    pub fees: Fees,
    /// The list price, where the price is a different one. Reported costs are compared with it.
    pub list: Vec<Tier>,
}

/// Anthropic: rate of cache writes that are kept for an hour, as a factor on the input's rate. All of the 72 models for
/// which the crate `genai-prices` 0.2.1 has both rates have this factor (`crate/tests/prices.rs`), and OpenClaw
/// 2026.9.6 computes alike.
pub const WRITE_1H_RATE: f64 = 2.0;

/// A cost that is this many times above or below all prices is in another unit.
pub const IMPLAUSIBLE: f64 = 1_000.0;

impl Price {
    /// No price is known.
    pub const UNKNOWN: Self = Self::bare(CostSource::Unknown);

    /// The calls of a subscription cost nothing extra.
    pub const SUBSCRIPTION: Self = Self::bare(CostSource::Subscription);

    const fn bare(source: CostSource) -> Self {
        Self {
            source,
            tiers: Vec::new(),
            fees: Fees {
                web_searches: 0.0,
                file_searches: 0.0,
            },
            list: Vec::new(),
        }
    }

    /// The cost of a call with this usage, given its `known` cost.
    ///
    /// A figure of the provider is kept. A subscription replaces any other one, since OpenClaw computes list prices
    /// there too. Then OpenClaw's figure comes first, then its prices, then those of the settings, then the table's.
    pub fn of(&self, known: Cost, usage: Option<&Usage>) -> Cost {
        self.of_computed(known, usage.and_then(|usage| self.compute(usage, 0)))
    }

    /// The same with a computed cost in USD; `None` where it cannot be computed.
    pub fn of_computed(&self, known: Cost, computed: Option<f64>) -> Cost {
        let applies = match self.source {
            CostSource::Subscription => known.source != CostSource::Provider,
            CostSource::Openclaw => matches!(
                known.source,
                CostSource::Configured | CostSource::Table | CostSource::Unknown
            ),
            CostSource::Configured => {
                matches!(known.source, CostSource::Table | CostSource::Unknown)
            }
            _ => known.source == CostSource::Unknown,
        };
        if !applies {
            return known;
        }
        let usd = match self.source {
            CostSource::Subscription => Some(0.0),
            _ => computed,
        };
        usd.map_or(known, |usd| Cost {
            usd,
            source: self.source,
        })
    }

    /// The cost of tokens in USD. `write_1h` is the part of the cache writes that is kept for an hour.
    pub fn compute(&self, usage: &Usage, write_1h: u64) -> Option<f64> {
        compute(&self.tiers, usage, write_1h)
    }

    /// The tier of a prompt's length; `None` without a price.
    pub fn rates(&self, usage: &Usage) -> Option<&Tier> {
        rates(&self.tiers, usage)
    }

    /// [`Self::compute`] by the list price; `None` where [`Self::list`] is empty.
    pub fn compute_by_list(&self, usage: &Usage, write_1h: u64) -> Option<f64> {
        compute(&self.list, usage, write_1h)
    }
}

/// The whole prompt selects the tier, which applies to all tokens.
fn rates<'t>(tiers: &'t [Tier], usage: &Usage) -> Option<&'t Tier> {
    let prompt = usage.prompt() as f64;
    let holds = |tier: &&Tier| tier[0] < prompt || tier[0] == 0.0;
    tiers.iter().rev().find(holds)
}

fn compute(tiers: &[Tier], usage: &Usage, write_1h: u64) -> Option<f64> {
    let [_, input, output, cache_read, cache_write] = rates(tiers, usage)?;
    let write_1h = write_1h.min(usage.cache_write);
    let parts = [
        input * usage.input as f64,
        output * usage.output as f64,
        cache_read * usage.cache_read as f64,
        cache_write * (usage.cache_write - write_1h) as f64,
        WRITE_1H_RATE * input * write_1h as f64,
    ];
    Some(parts.iter().sum::<f64>() / 1e6)
}

/// How many times a figure is above or below the expected one; 1 where one of them is zero.
pub fn distance(usd: f64, expected: f64) -> f64 {
    match usd > 0.0 && expected > 0.0 {
        true => (usd / expected).max(expected / usd),
        false => 1.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const USAGE: Usage = Usage {
        input: 1_000,
        output: 100,
        cache_read: 2_000,
        cache_write: 500,
        reasoning: 50,
    };

    fn known(source: CostSource) -> Cost {
        Cost { usd: 7.0, source }
    }

    fn price(source: CostSource) -> Price {
        let tiers = vec![[0.0, 3.0, 15.0, 0.3, 3.75], [3_500.0, 6.0, 22.5, 0.6, 7.5]];
        Price {
            source,
            tiers,
            ..Price::UNKNOWN
        }
    }

    #[test]
    fn each_kind_of_token_has_its_rate() {
        let cost = price(CostSource::Table).of(known(CostSource::Unknown), Some(&USAGE));
        assert_eq!(cost.source, CostSource::Table);
        assert!((cost.usd - 0.006_975).abs() < 1e-12, "{}", cost.usd);
    }

    #[test]
    fn the_whole_prompt_chooses_the_tier() {
        let more = Usage {
            cache_read: 2_001,
            ..USAGE
        };
        let cost = price(CostSource::Table).of(known(CostSource::Unknown), Some(&more));
        assert!((cost.usd - 0.013_200_6).abs() < 1e-12, "{}", cost.usd);
    }

    #[test]
    fn sources_of_costs_have_an_order() {
        use CostSource::{Configured, Openclaw, Provider, Subscription, Table, Unknown};
        let order = [Provider, Subscription, Openclaw, Configured, Table, Unknown];
        for (rank, source) in order.into_iter().enumerate() {
            for (other, price_source) in order.into_iter().enumerate() {
                if price_source == Provider {
                    continue;
                }
                let cost = price(price_source).of(known(source), Some(&USAGE));
                let expected = if other < rank { price_source } else { source };
                assert_eq!(cost.source, expected, "{source:?} and {price_source:?}");
            }
        }
    }

    #[test]
    fn without_usage_only_a_subscription_gives_a_cost() {
        let unknown = Cost {
            usd: 0.0,
            source: CostSource::Unknown,
        };
        assert_eq!(price(CostSource::Table).of(unknown, None), unknown);
        let cost = price(CostSource::Subscription).of(unknown, None);
        assert_eq!((cost.usd, cost.source), (0.0, CostSource::Subscription));
        assert_eq!(Price::UNKNOWN.of(unknown, Some(&USAGE)), unknown);
    }
}
