//! The state of allowances, and its changes.

use serde::{Deserialize, Serialize};

use crate::spending::Nano;
use crate::spending::allowance as domain;
use crate::spending::recent;
use crate::spending::window::Window;

/// An amount: 1e-9 USD, and tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Amount {
    /// 1e-9 USD.
    pub usd: u64,
    /// Prompt and output tokens.
    pub tokens: u64,
}

/// Spend of a final call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spent {
    /// Time of the report.
    pub at_ms: u64,
    /// Running time since the last entry.
    pub ran_ms: u64,
    /// End of the call.
    pub ended_ms: u64,
    /// Scopes of the allowances that apply.
    pub scopes: Vec<u64>,
    /// Hash of agent and model.
    pub pair: u64,
    /// Hash of the agent.
    pub agent: u64,
    /// Hash of the model.
    pub model: u64,
    /// Cost and tokens.
    pub amount: Amount,
    /// Whether the cost is known.
    pub is_priced: bool,
    /// Whether usage was reported.
    pub is_used: bool,
}

/// A period in which all calls pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lift {
    /// End by the wall clock.
    pub until_ms: u64,
    /// Remaining running time; 0 ends a lift.
    pub left_ms: u64,
}

/// Spend of the allowances of one scope.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meter {
    /// Hash of filters and window.
    pub scope: u64,
    /// Begin of the window.
    pub starts_ms: u64,
    /// End of the window, exclusive.
    pub ends_ms: u64,
    /// Spend in the window.
    pub spent: Amount,
    /// Calls in the window.
    pub calls: u64,
    /// Calls of unknown cost.
    pub unpriced: u64,
    /// Running time while the wall clock was before the window.
    pub behind_ms: u64,
    /// Last warning in percent, by hash of the allowance.
    pub told: Vec<(u64, u8)>,
}

/// Recent calls of an agent and a model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pair {
    /// Hash of agent and model.
    pub key: u64,
    /// Hash of the agent.
    pub agent: u64,
    /// Hash of the model.
    pub model: u64,
    /// The oldest first.
    pub calls: Vec<Amount>,
}

/// The state of allowances.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Allowances {
    /// One per scope.
    pub meters: Vec<Meter>,
    /// In the order of their last use.
    pub recent: Vec<Pair>,
    /// The current lift.
    pub lift: Option<Lift>,
    /// Calls that were reported after their window had closed.
    pub late: u64,
}

impl From<domain::Amount> for Amount {
    fn from(domain::Amount { usd, tokens }: domain::Amount) -> Self {
        Self { usd: usd.0, tokens }
    }
}

impl From<Amount> for domain::Amount {
    fn from(Amount { usd, tokens }: Amount) -> Self {
        let usd = Nano(usd);
        Self { usd, tokens }
    }
}

impl From<domain::Lift> for Lift {
    fn from(domain::Lift { until_ms, left_ms }: domain::Lift) -> Self {
        Self { until_ms, left_ms }
    }
}

impl From<Lift> for domain::Lift {
    fn from(Lift { until_ms, left_ms }: Lift) -> Self {
        Self { until_ms, left_ms }
    }
}

impl From<&domain::Spent> for Spent {
    fn from(spent: &domain::Spent) -> Self {
        let domain::Spent {
            at_ms,
            ran_ms,
            ended_ms,
            scopes,
            pair,
            agent,
            model,
            amount,
            is_priced,
            is_used,
        } = spent;
        Self {
            at_ms: *at_ms,
            ran_ms: *ran_ms,
            ended_ms: *ended_ms,
            scopes: scopes.clone(),
            pair: *pair,
            agent: *agent,
            model: *model,
            amount: (*amount).into(),
            is_priced: *is_priced,
            is_used: *is_used,
        }
    }
}

impl From<Spent> for domain::Spent {
    fn from(spent: Spent) -> Self {
        let Spent {
            at_ms,
            ran_ms,
            ended_ms,
            scopes,
            pair,
            agent,
            model,
            amount,
            is_priced,
            is_used,
        } = spent;
        Self {
            at_ms,
            ran_ms,
            ended_ms,
            scopes,
            pair,
            agent,
            model,
            amount: amount.into(),
            is_priced,
            is_used,
        }
    }
}

impl From<&domain::Meter> for Meter {
    fn from(meter: &domain::Meter) -> Self {
        let domain::Meter {
            scope,
            window: Window { starts_ms, ends_ms },
            spent,
            calls,
            unpriced,
            behind_ms,
            told,
        } = meter;
        Self {
            scope: *scope,
            starts_ms: *starts_ms,
            ends_ms: *ends_ms,
            spent: (*spent).into(),
            calls: *calls,
            unpriced: *unpriced,
            behind_ms: *behind_ms,
            told: told.clone(),
        }
    }
}

impl From<Meter> for domain::Meter {
    fn from(meter: Meter) -> Self {
        let Meter {
            scope,
            starts_ms,
            ends_ms,
            spent,
            calls,
            unpriced,
            behind_ms,
            told,
        } = meter;
        Self {
            scope,
            window: Window { starts_ms, ends_ms },
            spent: spent.into(),
            calls,
            unpriced,
            behind_ms,
            told,
        }
    }
}

impl From<&recent::Pair> for Pair {
    fn from(pair: &recent::Pair) -> Self {
        let recent::Pair {
            key,
            agent,
            model,
            calls,
        } = pair;
        Self {
            key: *key,
            agent: *agent,
            model: *model,
            calls: calls.iter().map(|call| (*call).into()).collect(),
        }
    }
}

impl From<Pair> for recent::Pair {
    fn from(pair: Pair) -> Self {
        let Pair {
            key,
            agent,
            model,
            calls,
        } = pair;
        Self {
            key,
            agent,
            model,
            calls: calls.into_iter().map(Into::into).collect(),
        }
    }
}

impl From<&domain::State> for Allowances {
    fn from(state: &domain::State) -> Self {
        let domain::State {
            meters,
            recent,
            lift,
            late,
        } = state;
        Self {
            meters: meters.iter().map(Meter::from).collect(),
            recent: recent.0.iter().map(Pair::from).collect(),
            lift: lift.map(Lift::from),
            late: *late,
        }
    }
}

impl From<Allowances> for domain::State {
    fn from(state: Allowances) -> Self {
        let Allowances {
            meters,
            recent,
            lift,
            late,
        } = state;
        Self {
            meters: meters.into_iter().map(Into::into).collect(),
            recent: recent::Recent(recent.into_iter().map(Into::into).collect()),
            lift: lift.map(Into::into),
            late,
        }
    }
}
