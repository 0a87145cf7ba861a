//! What calls cost of late, by agent and model: by it calls under way are reserved.

use serde::{Deserialize, Serialize};

use super::allowance::Amount;
use super::{Nano, robust};
use crate::domain::identity::key_of;

/// Of how many calls of an agent and a model the mean is.
const CALLS: usize = 12;
/// The most pairs of agent and model; the one unused longest gives way.
const MAX_PAIRS: usize = 128;

/// The key of an agent and a model.
pub(super) fn pair(agent: Option<&str>, model: &str) -> u64 {
    key_of(&[agent.unwrap_or_default(), model])
}

/// The key of a model.
pub(super) fn model(model: &str) -> u64 {
    key_of(&[model])
}

/// The last calls of an agent and a model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Pair {
    key: u64,
    model: u64,
    calls: Vec<Amount>,
}

impl Pair {
    fn amount(&self) -> Option<Amount> {
        let usd: Vec<f64> = self.calls.iter().map(|call| call.usd.usd()).collect();
        let tokens: Vec<f64> = self.calls.iter().map(|call| call.tokens as f64).collect();
        Some(Amount {
            usd: Nano::of_usd(robust::mean(&usd)?),
            tokens: robust::mean(&tokens)?.round() as u64,
        })
    }
}

/// See the module. The pair used last is the last.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Recent(Vec<Pair>);

impl Recent {
    /// A call of this pair ended.
    pub(super) fn add(&mut self, key: u64, model: u64, amount: Amount) {
        let known = self.0.iter().position(|pair| pair.key == key);
        let mut pair = match known {
            Some(place) => self.0.remove(place),
            None => Pair {
                key,
                model,
                calls: Vec::new(),
            },
        };
        if pair.calls.len() >= CALLS {
            pair.calls.remove(0);
        }
        pair.calls.push(amount);
        if self.0.len() >= MAX_PAIRS {
            self.0.remove(0);
        }
        self.0.push(pair);
    }

    /// What a call of this pair will cost: the robust mean of its last ones, else that of the pair with this model that
    /// was used last, else of any pair; `None` before the first call.
    pub(super) fn amount(&self, key: u64, model: u64) -> Option<Amount> {
        let mut known = self.0.iter().rev();
        let own = self.0.iter().find(|pair| pair.key == key);
        let same = self.0.iter().rev().find(|pair| pair.model == model);
        own.or(same).or_else(|| known.next())?.amount()
    }
}
