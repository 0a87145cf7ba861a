//! What was spent in the current window of an allowance, and what the journal keeps of it: [`State`], changed by
//! [`Entry`]. The rules are told in [`super::allowance`].

use serde::{Deserialize, Serialize};

use super::Nano;
use super::recent::Recent;
use super::settings::{Allowance, Limit};
use super::window::Window;

/// What was spent, or will be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Amount {
    /// Money.
    pub usd: Nano,
    /// Tokens of prompts and answers.
    pub tokens: u64,
}

impl Amount {
    pub(super) fn plus(self, other: Self) -> Self {
        Self {
            usd: self.usd.plus(other.usd),
            tokens: self.tokens.saturating_add(other.tokens),
        }
    }

    /// In the unit of a limit.
    pub(super) fn like(self, limit: Limit) -> Limit {
        match limit {
            Limit::Usd(_) => Limit::Usd(self.usd),
            Limit::Tokens(_) => Limit::Tokens(self.tokens),
        }
    }
}

/// The number of a limit, in 1e-9 USD or tokens.
pub(super) fn number(limit: Limit) -> u64 {
    match limit {
        Limit::Usd(usd) => usd.0,
        Limit::Tokens(tokens) => tokens,
    }
}

/// A limit in words.
pub(super) fn words(limit: Limit) -> String {
    match limit {
        Limit::Usd(usd) => usd.to_string(),
        Limit::Tokens(tokens) => format!("{tokens} tokens"),
    }
}

/// The current window of the allowances with one scope.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Meter {
    /// See [`Allowance::scope`].
    pub scope: u64,
    /// Empty before the first call.
    pub window: Window,
    /// What was spent in it.
    pub spent: Amount,
    /// How many calls that were.
    pub calls: u64,
    /// How many of them had no known cost.
    pub unpriced: u64,
    /// How long the process ran while the wall clock was before the window, in ms.
    pub behind_ms: u64,
    /// Which level was warned of, by [`Allowance::mark`].
    pub told: Vec<(u64, u8)>,
}

impl Meter {
    /// Goes on to the window of this time, if the current one is over.
    pub(super) fn advance(&mut self, allowance: &Allowance, wall_ms: u64, ran_ms: u64) {
        if wall_ms < self.window.starts_ms {
            self.behind_ms = self.behind_ms.saturating_add(ran_ms);
            if self.behind_ms < allowance.per.usual_ms() {
                return;
            }
        } else {
            self.behind_ms = 0;
            if wall_ms < self.window.ends_ms {
                return;
            }
        }
        *self = Self {
            scope: self.scope,
            window: Window::of(allowance.per, &allowance.zone.1, wall_ms),
            ..Self::default()
        };
    }

    /// Whether a call belongs to the window; `at_ms` is when it was told.
    pub(super) fn holds(&self, allowance: &Allowance, ended_ms: u64, at_ms: u64) -> bool {
        match at_ms < self.window.starts_ms {
            // The clock was set back. Whatever is told now is new, except what is old by the same clock.
            true => at_ms.saturating_sub(ended_ms) < allowance.per.usual_ms(),
            false => self.window.has(ended_ms),
        }
    }

    /// Counts a call.
    pub(super) fn add(&mut self, spent: &Spent) {
        self.spent = self.spent.plus(spent.amount);
        self.calls += 1;
        self.unpriced += u64::from(!spent.is_priced);
    }

    /// In how many ms the window is over, at the latest.
    pub(super) fn left_ms(&self, allowance: &Allowance, wall_ms: u64) -> u64 {
        let by_wall = self.window.ends_ms.saturating_sub(wall_ms);
        match wall_ms < self.window.starts_ms {
            true => by_wall.min(allowance.per.usual_ms().saturating_sub(self.behind_ms)),
            false => by_wall,
        }
    }
}

/// A time in which all calls pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lift {
    /// Its end by the wall clock.
    pub until_ms: u64,
    /// How much of it is left by the monotonic clock, in ms.
    pub left_ms: u64,
}

/// What the journal has to keep.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// One for each scope.
    pub meters: Vec<Meter>,
    /// What calls cost of late.
    pub recent: Recent,
    /// The lift, while there is one.
    pub lift: Option<Lift>,
    /// Calls that were told of after a window of theirs had closed.
    pub late: u64,
}

/// A change of the state: to be written before it is applied.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Entry {
    /// A call ended.
    Spent(Spent),
    /// A lift began, or ended where it is over at once.
    Lift(Lift),
}

/// What a call spent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Spent {
    /// When it was told, by the wall clock.
    pub at_ms: u64,
    /// How long the process ran since the last entry, in ms.
    pub ran_ms: u64,
    /// When it ended, by the wall clock.
    pub ended_ms: u64,
    /// The scopes that it falls under.
    pub scopes: Vec<u64>,
    /// Hash of its agent and model.
    pub pair: u64,
    /// Hash of its model.
    pub model: u64,
    /// What it cost.
    pub amount: Amount,
    /// Whether the cost was known.
    pub is_priced: bool,
    /// Whether anything was used: a failed call says nothing of what calls cost.
    pub is_used: bool,
}
