//! The prices of the models that occur. A price is requested at the first observation, so that it is known when the
//! call is final.

use indexmap::IndexMap;

use super::Engine;
use crate::domain::call::{Cost, CostSource, ModelCall, Usage};
use crate::domain::identity::key_of;
use crate::domain::observation::Observation;
use crate::domain::usage::{Bill, Part};
use crate::matching::Settled;
use crate::pricing::price::{IMPLAUSIBLE, Price, Tier, distance};
use crate::pricing::tariff;

/// Maximum number of models with prices; further ones have none.
const MAX_MODELS: usize = 2_048;

/// Known prices, and models whose price is to be requested.
#[derive(Debug, Default)]
pub(super) struct Prices {
    known: IndexMap<u64, Price>,
    wanted: Vec<(String, String)>,
}

impl Prices {
    /// Requests the price of a model at its first occurrence.
    pub fn want(&mut self, provider: &str, model: &str) {
        let key = key_of(&[provider, model]);
        if self.known.contains_key(&key) || self.known.len() >= MAX_MODELS {
            return;
        }
        self.known.insert(key, Price::UNKNOWN);
        self.wanted.push((provider.to_owned(), model.to_owned()));
    }

    /// Requests the prices of a call's models.
    pub fn want_all(&mut self, call: &Observation) {
        self.want(&call.provider, &call.model);
        let parts = call.bill.iter().flat_map(|bill| &bill.parts);
        for model in parts.filter_map(|part| part.model.as_deref()) {
            self.want(&call.provider, model);
        }
    }

    /// The rates of a call; `None` without a price.
    pub fn rates(&self, call: &ModelCall) -> Option<&Tier> {
        self.of(&call.provider, &call.model)?
            .rates(call.usage.as_ref()?)
    }

    fn of(&self, provider: &str, model: &str) -> Option<&Price> {
        self.known.get(&key_of(&[provider, model]))
    }

    /// The cost of a final call.
    pub fn cost(&self, call: &Settled) -> Priced {
        self.price(&Charged {
            provider: &call.provider,
            model: &call.model,
            usage: call.usage.as_ref(),
            bill: call.bill.as_deref(),
            cost: call.cost,
        })
    }

    /// The cost of a call by its first report; `None` where its model's price was requested and is not known yet.
    pub fn cost_of_report(&self, seen: &Observation) -> Option<Cost> {
        let (provider, model) = (&seen.provider, &seen.model);
        if self.wanted.iter().any(|(a, b)| (a, b) == (provider, model)) {
            return None;
        }
        let figure = seen.cost_usd.zip(seen.surface.row().cost);
        let (usd, source) = figure.map_or((0.0, CostSource::Unknown), |(usd, (_, source))| {
            (usd, source)
        });
        let priced = self.price(&Charged {
            provider,
            model,
            usage: seen.usage.as_ref(),
            bill: seen.bill.as_deref(),
            cost: Cost { usd, source },
        });
        Some(priced.cost)
    }

    /// How many times a provider's late figure is above or below all prices; `None` if it is plausible.
    pub fn is_late_figure_implausible(&self, seen: &Observation, usd: f64) -> Option<f64> {
        let priced = self.price(&Charged {
            provider: &seen.provider,
            model: &seen.model,
            usage: seen.usage.as_ref(),
            bill: seen.bill.as_deref(),
            cost: Cost {
                usd,
                source: CostSource::Provider,
            },
        });
        priced.implausible
    }

    fn price(&self, call: &Charged) -> Priced {
        let Some(price) = self.of(call.provider, call.model) else {
            return Priced::unchanged(call.cost);
        };
        let bill = call.bill;
        let charges = bill.map_or(0.0, |bill| tariff::charges(price.fees, bill));
        let computed = self
            .tokens(call, price, Price::compute)
            .map(|usd| usd + charges);
        let listed = self.tokens(call, price, Price::compute_by_list);
        let expected = [computed, listed.map(|usd| usd + charges)];
        let distance = expected
            .iter()
            .flatten()
            .map(|expected| distance(call.cost.usd, *expected))
            .reduce(f64::min);
        let reported = match distance {
            Some(distance) if distance >= IMPLAUSIBLE => Cost {
                usd: 0.0,
                source: CostSource::Unknown,
            },
            // OpenClaw's figure covers tokens only, without fees.
            _ if call.cost.source == CostSource::Openclaw => Cost {
                usd: call.cost.usd + charges,
                ..call.cost
            },
            _ => call.cost,
        };
        Priced {
            cost: price.of_computed(reported, computed),
            implausible: distance.filter(|distance| *distance >= IMPLAUSIBLE),
        }
    }

    /// The cost of a call's tokens in USD, each request of the call by its own model's price.
    fn tokens(
        &self,
        call: &Charged,
        price: &Price,
        by: fn(&Price, &Usage, u64) -> Option<f64>,
    ) -> Option<f64> {
        let usage = call.usage?;
        let Some(bill) = call.bill else {
            return by(price, usage, 0);
        };
        let factor = |model: &str| tariff::factor(call.provider, model, bill);
        let of_part = |part: &Part| {
            let model = part.model.as_deref().unwrap_or(call.model);
            let [.., write_1h] = part.tokens;
            let own = self.of(call.provider, model);
            let usd = own.and_then(|own| by(own, &part.usage(), write_1h));
            Some(factor(model) * usd.or_else(|| by(price, &part.usage(), write_1h))?)
        };
        // If the parts do not add up to the usage, they come from another observation.
        let sum = |of: fn(Usage) -> u64| {
            let parts = bill.parts.iter().map(|part| of(part.usage()));
            parts.fold(0, u64::saturating_add)
        };
        let (prompt, output) = (sum(|usage| usage.prompt()), sum(|usage| usage.output));
        match (prompt, output) == (usage.prompt(), usage.output) {
            true => bill.parts.iter().map(of_part).sum(),
            false => Some(factor(call.model) * by(price, usage, bill.write_1h)?),
        }
    }
}

/// The figures that a cost is computed from.
struct Charged<'a> {
    provider: &'a str,
    model: &'a str,
    usage: Option<&'a Usage>,
    bill: Option<&'a Bill>,
    cost: Cost,
}

/// The cost of a call, and whether a reported cost was ignored.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Priced {
    pub cost: Cost,
    /// How many times the ignored figure is above or below all prices; `None` if it was plausible.
    pub implausible: Option<f64>,
}

impl Priced {
    fn unchanged(cost: Cost) -> Self {
        Self {
            cost,
            implausible: None,
        }
    }
}

impl Engine {
    /// Takes a model whose price is needed: provider and name. The answer goes to [`Engine::set_price`]. Call this before
    /// [`Engine::advance`]: final calls are not priced later.
    pub fn wants_price(&mut self) -> Option<(String, String)> {
        let wanted = self.prices.wanted.pop();
        if wanted.is_none() {
            self.hold_unpriced();
        }
        wanted
    }

    /// Sets a model's price.
    pub fn set_price(&mut self, provider: &str, model: &str, price: Price) {
        self.prices.known.insert(key_of(&[provider, model]), price);
    }
}
