//! Counters of calls since the start of a process, by gateway, agent and model: kept in memory, so that reading them costs
//! nothing per call.
//!
//! A counter never falls: when a counted call changes later, what it loses is added to a second counter, of withdrawn
//! figures. The difference of the two is the sum of the calls.

use std::collections::BTreeMap;

/// Maximum number of combinations of gateway, agent and model. The calls of others are counted under [`OTHER`].
pub const SERIES_MOST: usize = 500;
/// Maximum number of combinations of errors: two for each of the others, failed and stopped.
pub const ERRORS_MOST: usize = 2 * SERIES_MOST;
/// Maximum number of combinations of gateway and model with a histogram of durations.
pub const DURATIONS_MOST: usize = 200;
/// Maximum number of sources of cost of a combination.
pub const SOURCES_MOST: usize = 16;
/// Maximum number of characters of a name; longer names are cut, and counted as one where the beginnings are equal.
const NAME_MOST: usize = 128;
/// Stands for all names without counters of their own.
pub const OTHER: &str = "(other)";
/// Upper bounds of the buckets of durations, in seconds.
pub const BOUNDS: [f64; 12] = [
    0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 60.0, 120.0, 300.0,
];

/// Figures of a combination. Each call is in one of the first three, each token in one of the next five.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Figure {
    /// Calls that the model answered.
    Completed,
    /// Calls that failed.
    Failed,
    /// Calls that were stopped.
    Aborted,
    /// Input tokens that were neither read from the provider's cache nor written to it.
    Input,
    /// Input tokens that were read from the cache.
    CacheRead,
    /// Input tokens that were written to the cache.
    CacheWrite,
    /// Output tokens without reasoning.
    Output,
    /// Output tokens of reasoning.
    Reasoning,
    /// Input tokens of calls that report caching.
    CacheTold,
    /// Calls without a known cost.
    Unpriced,
}

/// Number of figures.
pub const FIGURES: usize = Figure::Unpriced as usize + 1;

/// Gateway, agent and model, as sent.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Names {
    /// The gateway.
    pub gateway: String,
    /// The agent.
    pub agent: String,
    /// `provider/model`, or the model alone.
    pub model: String,
}

impl Names {
    fn other() -> Self {
        let other = || OTHER.to_owned();
        Self {
            gateway: other(),
            agent: other(),
            model: other(),
        }
    }
}

/// A counter, and the counter of what was withdrawn from it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Pair<T> {
    /// What was counted.
    pub added: T,
    /// What was withdrawn of it.
    pub withdrawn: T,
}

impl Pair<u64> {
    fn add(&mut self, change: i64) {
        let side = if change < 0 {
            &mut self.withdrawn
        } else {
            &mut self.added
        };
        *side = side.saturating_add(change.unsigned_abs());
    }
}

impl Pair<f64> {
    fn add(&mut self, change: f64) {
        if change < 0.0 {
            self.withdrawn -= change;
        } else {
            self.added += change;
        }
    }
}

/// Counters of a combination.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tally {
    figures: [Pair<u64>; FIGURES],
    /// US dollars by source of the cost.
    pub cost_usd: BTreeMap<String, Pair<f64>>,
}

impl Tally {
    /// One counter.
    pub fn of(&self, figure: Figure) -> Pair<u64> {
        self.figures[figure as usize]
    }

    fn add(&mut self, changes: &[i64; FIGURES]) {
        for (figure, change) in self.figures.iter_mut().zip(changes) {
            figure.add(*change);
        }
    }

    fn add_cost(&mut self, source: &str, cost_usd: f64) {
        let is_full = self.cost_usd.len() >= SOURCES_MOST && !self.cost_usd.contains_key(source);
        let source = if is_full { OTHER } else { source };
        let cost = self.cost_usd.entry(source.to_owned()).or_default();
        // Stock mode accepts huge costs, whose sum is no number.
        if cost_usd.is_finite() {
            cost.add(cost_usd);
        }
    }
}

/// A histogram of durations as Prometheus has them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Durations {
    /// Calls by bucket, each alone; the last one has no upper bound.
    pub buckets: [u64; BOUNDS.len() + 1],
    /// Seconds.
    pub sum: f64,
}

impl Durations {
    fn add(&mut self, added: impl Iterator<Item = (f64, u64)>, latency_ms: f64) {
        // A histogram has no withdrawn side: of a changed duration the earlier value stays.
        for (ms, calls) in added {
            let seconds = ms / 1000.0;
            let place = BOUNDS.iter().take_while(|bound| seconds > **bound).count();
            self.buckets[place] = self.buckets[place].saturating_add(calls);
        }
        self.sum += latency_ms.max(0.0) / 1000.0;
    }
}

/// All counters.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Counters {
    /// By gateway, agent and model.
    pub calls: BTreeMap<Names, Tally>,
    /// By gateway and model.
    pub durations: BTreeMap<(String, String), Durations>,
    /// Calls that failed or were stopped, billed or not, by agent, model and whether they were stopped.
    pub errors: BTreeMap<(String, String, bool), f64>,
    /// Calls and errors that were counted under [`OTHER`].
    pub left_out: u64,
}

impl Counters {
    /// Adds changes of the figures, in their order; new durations in ms, each with its number of calls; and the change of
    /// the sum of durations, in ms.
    pub fn add(
        &mut self,
        names: &Names,
        changes: &[i64; FIGURES],
        durations: impl Iterator<Item = (f64, u64)>,
        latency_ms: f64,
    ) {
        let key = self.key(names);
        if key != *names {
            let calls = [Figure::Completed, Figure::Failed, Figure::Aborted];
            let calls = calls.map(|figure| changes[figure as usize]);
            self.leave_out(calls.into_iter().fold(0, i64::saturating_add));
        }
        self.calls.entry(key).or_default().add(changes);
        let mut key = (names.gateway.clone(), names.model.clone());
        if self.durations.len() >= DURATIONS_MOST && !self.durations.contains_key(&key) {
            key = (OTHER.to_owned(), OTHER.to_owned());
        }
        let found = self.durations.entry(key).or_default();
        found.add(durations, latency_ms);
        // So that the first failure of a model in use is an increase.
        for is_aborted in [false, true] {
            let key = (names.agent.clone(), names.model.clone(), is_aborted);
            if self.errors.len() < ERRORS_MOST {
                self.errors.entry(key).or_default();
            }
        }
    }

    /// Adds a change of the cost, in USD. A combination is there from [`Self::add`] on.
    pub fn add_cost(&mut self, names: &Names, source: &str, cost_usd: f64) {
        let key = self.key(names);
        let tally = self.calls.entry(key).or_default();
        tally.add_cost(source, cost_usd);
    }

    /// The names under which a call is counted.
    fn key(&self, names: &Names) -> Names {
        if self.calls.len() < SERIES_MOST || self.calls.contains_key(names) {
            names.clone()
        } else {
            Names::other()
        }
    }

    /// Adds calls that failed or were stopped.
    pub fn fail(&mut self, agent: &str, model: &str, is_aborted: bool, errors: f64) {
        let (agent, model) = (cut(agent), cut(model));
        let mut key = (agent.to_owned(), model.to_owned(), is_aborted);
        if self.errors.len() >= ERRORS_MOST && !self.errors.contains_key(&key) {
            self.leave_out(1);
            key = (OTHER.to_owned(), OTHER.to_owned(), is_aborted);
        }
        // A counter does not fall.
        if errors.is_finite() && errors > 0.0 {
            *self.errors.entry(key).or_default() += errors;
        }
    }

    fn leave_out(&mut self, calls: i64) {
        self.left_out = self.left_out.saturating_add(calls.max(0).unsigned_abs());
    }
}

/// A name of at most [`NAME_MOST`] characters.
pub fn cut(name: &str) -> &str {
    match name.char_indices().nth(NAME_MOST) {
        Some((end, _)) => &name[..end],
        None => name,
    }
}
