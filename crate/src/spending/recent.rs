//! Recent cost of calls by agent and model: the expected cost of pending calls.

use serde::{Deserialize, Serialize};

use super::allowance::Amount;
use super::{Nano, robust};
use crate::domain::identity::key_of;

/// Number of last calls of a pair in the mean.
const CALLS: usize = 12;
/// Maximum number of pairs of agent and model; beyond it the pair unused longest is dropped.
const MAX_PAIRS: usize = 128;

/// Keys of a call's agent and model.
#[derive(Debug, Clone, Copy)]
pub(super) struct Keys {
    /// Of the agent and the model.
    pub pair: u64,
    /// Of the agent.
    pub agent: u64,
    /// Of the model.
    pub model: u64,
}

impl Keys {
    pub(super) fn of(agent: Option<&str>, model: &str) -> Self {
        let agent = agent.unwrap_or_default();
        Self {
            pair: key_of(&[agent, model]),
            agent: key_of(&[agent]),
            model: key_of(&[model]),
        }
    }
}

/// The last calls of one agent and model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Pair {
    /// Key of the agent and the model.
    pub key: u64,
    /// Key of the agent.
    pub agent: u64,
    /// Key of the model.
    pub model: u64,
    /// Their cost, the oldest first.
    pub calls: Vec<Amount>,
}

impl Pair {
    fn amount(&self) -> Option<Amount> {
        mean(self.calls.iter())
    }
}

fn mean<'a>(calls: impl Iterator<Item = &'a Amount>) -> Option<Amount> {
    let (usd, tokens): (Vec<f64>, Vec<f64>) = calls
        .map(|call| (call.usd.usd(), call.tokens as f64))
        .unzip();
    Some(Amount {
        usd: Nano::of_usd(robust::mean(&usd)?),
        tokens: robust::mean(&tokens)?.round() as u64,
    })
}

/// The last calls of each pair, sorted by last use.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Recent(pub Vec<Pair>);

impl Recent {
    /// Adds a call that ended.
    pub(super) fn add(&mut self, keys: Keys, amount: Amount) {
        let known = self.0.iter().position(|pair| pair.key == keys.pair);
        let mut pair = match known {
            Some(place) => self.0.remove(place),
            None => Pair {
                key: keys.pair,
                agent: keys.agent,
                model: keys.model,
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

    /// Expected cost of a call: the robust mean of the last calls of its agent and model, else of the agent that
    /// used this model last, else of all models of its agent: a proxy knows no model before it has read the request.
    /// Before the first call without an agent, as a proxy makes it, such a call has the mean of all agents. `None` before the agent's first call:
    /// other agents' calls say nothing of it.
    pub(super) fn amount(&self, keys: Keys) -> Option<Amount> {
        let own = self.0.iter().find(|pair| pair.key == keys.pair);
        let same = self.0.iter().rev().find(|pair| pair.model == keys.model);
        let of_agent = self.0.iter().filter(|pair| pair.agent == keys.agent);
        match own.or(same) {
            Some(pair) => pair.amount(),
            None => mean(of_agent.flat_map(|pair| &pair.calls)).or_else(|| {
                let all = self.0.iter().flat_map(|pair| &pair.calls);
                (keys.agent == key_of(&[""])).then(|| mean(all))?
            }),
        }
    }
}
