//! The prices of the models that were met: asked for at first sight, so that they are there when a call is final.

use indexmap::IndexMap;

use super::Core;
use crate::call::Cost;
use crate::identity::key_of;
use crate::ledger::Settled;
use crate::price::Price;

/// The most models whose prices are remembered; those beyond have none.
const MAX_MODELS: usize = 2_048;

/// What is known, and what is to be asked.
#[derive(Debug, Default)]
pub(super) struct Prices {
    known: IndexMap<u64, Price>,
    wanted: Vec<(String, String)>,
}

impl Prices {
    /// A model was seen.
    pub fn want(&mut self, provider: &str, model: &str) {
        let key = key_of(&[provider, model]);
        if self.known.contains_key(&key) || self.known.len() >= MAX_MODELS {
            return;
        }
        self.known.insert(key, Price::UNKNOWN);
        self.wanted.push((provider.to_owned(), model.to_owned()));
    }

    /// What a final call cost, as far as that is known.
    pub fn cost(&self, settled: &Settled) -> Cost {
        let key = key_of(&[&settled.provider, &settled.model]);
        self.known.get(&key).map_or(settled.cost, |price| {
            price.of(settled.cost, settled.usage.as_ref())
        })
    }
}

impl Core {
    /// A model whose price is asked for, provider and name; the answer goes to [`Core::set_price`]. Ask before
    /// [`Core::advance`]: calls that are final are not priced later.
    pub fn wants_price(&mut self) -> Option<(String, String)> {
        self.prices.wanted.pop()
    }

    /// A model's price.
    pub fn set_price(&mut self, provider: &str, model: &str, price: Price) {
        self.prices.known.insert(key_of(&[provider, model]), price);
    }
}
