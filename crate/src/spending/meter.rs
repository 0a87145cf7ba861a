//! Meters of allowances: the spend of the current window, and the journalled [`State`], changed by [`Entry`]. For the
//! rules see [`super::allowance`].

use serde::{Deserialize, Serialize};

use super::Nano;
use super::history::{History, Row, Span};
use super::recent::Recent;
use super::settings::{Allowance, Limit};
use super::window::{DAY_MS, Window};
use crate::domain::call::{Cost, Usage};

/// Spend, past or expected.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Amount {
    /// USD.
    pub usd: Nano,
    /// Prompt and output tokens.
    pub tokens: u64,
}

impl Amount {
    /// The amount of a call: its cost, and the tokens of the whole prompt and the output.
    pub fn of(cost: Cost, usage: Option<Usage>) -> Self {
        let usage = usage.unwrap_or_default();
        Self {
            usd: Nano::of_usd(cost.usd),
            tokens: usage.prompt().saturating_add(usage.output),
        }
    }

    pub(super) fn plus(self, other: Self) -> Self {
        Self {
            usd: self.usd.plus(other.usd),
            tokens: self.tokens.saturating_add(other.tokens),
        }
    }

    /// The amount in the unit of `limit`.
    pub(super) fn like(self, limit: Limit) -> Limit {
        match limit {
            Limit::Usd(_) => Limit::Usd(self.usd),
            Limit::Tokens(_) => Limit::Tokens(self.tokens),
        }
    }
}

/// A limit as a number, in 1e-9 USD or tokens.
pub(super) fn number(limit: Limit) -> u64 {
    match limit {
        Limit::Usd(usd) => usd.0,
        Limit::Tokens(tokens) => tokens,
    }
}

/// Formats a limit.
pub(super) fn words(limit: Limit) -> String {
    match limit {
        Limit::Usd(usd) => usd.to_string(),
        Limit::Tokens(tokens) => format!("{tokens} tokens"),
    }
}

/// Spend of the allowances with one scope, in their current window.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Meter {
    /// See [`Allowance::scope`].
    pub scope: u64,
    /// Current window; empty before the first call.
    pub window: Window,
    /// Spend in the window.
    pub spent: Amount,
    /// Number of calls in the window.
    pub calls: u64,
    /// Number of these calls whose cost is unknown.
    pub unpriced: u64,
    /// Running time of the process while the wall clock was before the window, in ms.
    pub behind_ms: u64,
    /// Last warning level in percent, by [`Allowance::mark`].
    pub told: Vec<(u64, u8)>,
}

impl Meter {
    /// Begins with the calls of the current window that the history has. Its spans are UTC's: where one crosses the begin
    /// of the window, it counts as a whole, or not, by its middle.
    pub(super) fn begin(&mut self, allowance: &Allowance, history: &History, wall_ms: u64) {
        let window = Window::of(allowance.per, &allowance.zone.1, wall_ms);
        // From here on the history has all hours, and before it whole days.
        let hours_from_ms = wall_ms.saturating_sub(DAY_MS) / DAY_MS * DAY_MS;
        let is_in = |row: &Row| {
            let is_hour = row.starts_ms() >= hours_from_ms;
            is_hour == (row.span == Span::Hour)
                && window.has(row.starts_ms() + row.span.length_ms() / 2)
        };
        let rows = history.rows().filter(is_in);
        for row in rows.filter(|row| allowance.fits(&row.key.who())) {
            self.window = window;
            self.spent = self.spent.plus(Amount {
                usd: row.sums.usd,
                tokens: row.sums.prompt.saturating_add(row.sums.output),
            });
            self.calls += row.sums.calls;
            self.unpriced += row.sums.unpriced;
        }
    }

    /// Moves to the window of `wall_ms` if the current window is over. Returns whether one was.
    pub(super) fn advance(&mut self, allowance: &Allowance, wall_ms: u64, ran_ms: u64) -> bool {
        if wall_ms < self.window.starts_ms {
            self.behind_ms = self.behind_ms.saturating_add(ran_ms);
            if self.behind_ms < allowance.per.usual_ms() {
                return false;
            }
        } else {
            self.behind_ms = 0;
            if wall_ms < self.window.ends_ms {
                return false;
            }
        }
        let next = Self {
            scope: self.scope,
            window: Window::of(allowance.per, &allowance.zone.1, wall_ms),
            ..Self::default()
        };
        std::mem::replace(self, next).window != Window::default()
    }

    /// Whether a call belongs to the window. `at_ms` is the time of its report.
    pub(super) fn holds(&self, allowance: &Allowance, ended_ms: u64, at_ms: u64) -> bool {
        match at_ms < self.window.starts_ms {
            // The clock was set back: the call is new unless it is old by the same clock.
            true => at_ms.saturating_sub(ended_ms) < allowance.per.usual_ms(),
            false => self.window.has(ended_ms),
        }
    }

    /// Spend in the unit of `limit`.
    pub fn spent_like(&self, limit: Limit) -> Limit {
        self.spent.like(limit)
    }

    /// Adds a call.
    pub(super) fn add(&mut self, spent: &Spent) {
        self.spent = self.spent.plus(spent.amount);
        self.calls += 1;
        self.unpriced += u64::from(!spent.is_priced);
    }

    /// Maximum time until the window ends, in ms.
    pub(super) fn left_ms(&self, allowance: &Allowance, wall_ms: u64) -> u64 {
        let by_wall = self.window.ends_ms.saturating_sub(wall_ms);
        match wall_ms < self.window.starts_ms {
            true => by_wall.min(allowance.per.usual_ms().saturating_sub(self.behind_ms)),
            false => by_wall,
        }
    }
}

/// A period in which all calls pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lift {
    /// End by the wall clock, in ms since 1970.
    pub until_ms: u64,
    /// Remaining time by the monotonic clock, in ms.
    pub left_ms: u64,
}

/// State in the journal.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// One meter per scope.
    pub meters: Vec<Meter>,
    /// Recent cost of calls.
    pub recent: Recent,
    /// The current lift.
    pub lift: Option<Lift>,
    /// Number of calls that were reported after one of their windows had closed.
    pub late: u64,
}

/// A change of the state. It is written before it is applied.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Entry {
    /// A call ended.
    Spent(Spent),
    /// A lift began; with no time left, it ended.
    Lift(Lift),
}

/// Spend of a call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Spent {
    /// Time of the report, in ms since 1970.
    pub at_ms: u64,
    /// Running time since the last entry, in ms.
    pub ran_ms: u64,
    /// When the call ended, in ms since 1970.
    pub ended_ms: u64,
    /// Scopes of the allowances that apply to it.
    pub scopes: Vec<u64>,
    /// Hash of its agent and model.
    pub pair: u64,
    /// Hash of its agent.
    pub agent: u64,
    /// Hash of its model.
    pub model: u64,
    /// Its cost and tokens.
    pub amount: Amount,
    /// Whether the cost is known.
    pub is_priced: bool,
    /// Whether usage was reported: calls without usage are left out of the recent cost.
    pub is_used: bool,
}
