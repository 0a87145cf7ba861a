//! What a call costs where nobody told: its model's rates, applied to its tokens.

use crate::call::{Cost, CostSource, Usage};

/// A tier's rates: the prompt beyond which it holds, in tokens, and USD per 1M tokens of input, output, cache read and
/// cache write.
pub type Tier = [f64; 5];

/// What is known of a model's price.
#[derive(Debug, Clone, PartialEq)]
pub struct Price {
    /// `Openclaw`, `Configured`, `Table`, `Subscription`, or `Unknown` where nothing is known.
    pub source: CostSource,
    /// In the order of their prompts, the first from 0 on; none for a subscription.
    pub tiers: Vec<Tier>,
}

impl Price {
    /// Nothing is known.
    pub const UNKNOWN: Self = Self {
        source: CostSource::Unknown,
        tiers: Vec::new(),
    };

    /// Its calls cost nothing each.
    pub const SUBSCRIPTION: Self = Self {
        source: CostSource::Subscription,
        tiers: Vec::new(),
    };

    /// The numbers that stand for the sources where prices cross.
    pub const SOURCES: [CostSource; 5] = [
        CostSource::Unknown,
        CostSource::Configured,
        CostSource::Table,
        CostSource::Subscription,
        CostSource::Openclaw,
    ];

    /// What a call with such usage costs, given what is known of its cost already.
    ///
    /// A figure of the provider stands. A subscription makes any other one void: OpenClaw reckons with list prices
    /// there too. Then OpenClaw's figure stands, then its prices, then those of the settings, then a table's.
    pub fn of(&self, known: Cost, usage: Option<&Usage>) -> Cost {
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
        let usd = match (self.source, usage) {
            (CostSource::Subscription, _) => Some(0.0),
            (_, Some(usage)) => self.reckon(usage),
            _ => None,
        };
        usd.map_or(known, |usd| Cost {
            usd,
            source: self.source,
        })
    }

    /// The tier is chosen by the whole prompt, and holds for all of it.
    fn reckon(&self, usage: &Usage) -> Option<f64> {
        let prompt = usage.prompt() as f64;
        let holds = |tier: &&Tier| tier[0] < prompt || tier[0] == 0.0;
        let [_, rates @ ..] = self.tiers.iter().rev().find(holds)?;
        let tokens = [
            usage.input,
            usage.output,
            usage.cache_read,
            usage.cache_write,
        ];
        let parts = rates
            .iter()
            .zip(tokens)
            .map(|(rate, tokens)| rate * tokens as f64);
        Some(parts.sum::<f64>() / 1e6)
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
        Price { source, tiers }
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
    fn the_provider_is_believed_first_and_a_table_last() {
        use CostSource::{Configured, Openclaw, Provider, Subscription, Table, Unknown};
        let order = [Provider, Subscription, Openclaw, Configured, Table, Unknown];
        for (rank, source) in order.into_iter().enumerate() {
            for (other, price_source) in order.into_iter().enumerate() {
                if !Price::SOURCES.contains(&price_source) {
                    continue;
                }
                let cost = price(price_source).of(known(source), Some(&USAGE));
                let expected = if other < rank { price_source } else { source };
                assert_eq!(cost.source, expected, "{source:?} and {price_source:?}");
            }
        }
    }

    #[test]
    fn a_call_without_usage_has_no_known_cost_but_under_a_subscription() {
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
