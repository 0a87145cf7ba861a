//! Recent cost of calls by agent and model: the expected cost of pending calls.

use serde::{Deserialize, Serialize};

use super::allowance::Amount;
use super::{Nano, robust};
use crate::domain::identity::key_of;

/// Number of last calls of a pair in the mean.
const CALLS: usize = 12;
/// Maximum number of pairs of agent and model; beyond it the pair unused longest is dropped.
const MAX_PAIRS: usize = 128;

/// Key of an agent and a model.
pub(super) fn pair(agent: Option<&str>, model: &str) -> u64 {
    key_of(&[agent.unwrap_or_default(), model])
}

/// Key of a model.
pub(super) fn model(model: &str) -> u64 {
    key_of(&[model])
}

/// The last calls of one agent and model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Pair {
    /// Key of the agent and the model.
    pub key: u64,
    /// Key of the model.
    pub model: u64,
    /// Their cost, the oldest first.
    pub calls: Vec<Amount>,
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

/// The last calls of each pair, sorted by last use.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Recent(pub Vec<Pair>);

impl Recent {
    /// Adds a call that ended.
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

    /// Expected cost of a call: the robust mean of the pair's last calls, else of the pair with this model that was
    /// used last, else of the pair that was used last; `None` before the first call.
    pub(super) fn amount(&self, key: u64, model: u64) -> Option<Amount> {
        let mut known = self.0.iter().rev();
        let own = self.0.iter().find(|pair| pair.key == key);
        let same = self.0.iter().rev().find(|pair| pair.model == model);
        own.or(same).or_else(|| known.next())?.amount()
    }
}
