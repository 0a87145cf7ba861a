//! The brake: what was spent of each allowance in its window, and whether the next call may pass.
//!
//! **Spend** is counted when a call ends, by its true figure: USD from the cost, whatever its source; tokens of the whole
//! prompt and of the answer. A call belongs to the window in which it ended. One that is told of after that window closed
//! (the session store may tell of old calls) is counted as `late`, and in no later window. A call of unknown cost counts its
//! tokens, and as `unpriced`.
//!
//! **Warnings** come once a window at 80 % and once at 100 %; a single call that passes both gives the second alone.
//!
//! **A call may pass** under an allowance that stops, if what was spent, what calls under way will cost and what this one
//! will cost fit into the limit. What a call will cost is the robust mean of the last calls of that model and agent, else
//! of that model, else of all calls, else nothing. So calls that run at once pass the limit by the errors of these means,
//! not by their number; before the first call ever ended nothing is known, and calls that begin together then all pass.
//! Where nothing was spent and nothing is under way one call always passes: a mean that is wrong cannot lock a window.
//! A call under way is released when it ends, or after [`UNDER_WAY_MS`].
//!
//! **A lift** lets all calls pass for a time. They are counted all the same.
//!
//! **Clocks**: windows follow the wall clock, and only go forward. Where it is set back before the window's begin, the
//! window and its sums stay until the wall clock passes the window's end, or until the process has run for the usual
//! length of the window by the monotonic clock; then the window is the wall clock's. So setting a clock back opens nothing,
//! and one that was set years ahead and back again locks for no longer than one window. A lift ends when either clock says
//! so.
//!
//! **State** is [`State`], and [`Entry`] is what changes it: a state and the entries since then, applied in order, give
//! the same state again, but for what is left of a lift or of a clock set back: running time between the last entry and a
//! kill is not known. Calls under way are not in it: they died with the process.

use indexmap::IndexMap;

pub use super::meter::{Amount, Entry, Lift, Meter, Spent, State};
use super::meter::{number, words};
use super::settings::{self, Allowance, Limit, Then};
use super::who::Who;
use super::window::{DAY_MS, HOUR_MS, Window, written};
use super::{Nano, recent};
use crate::domain::call::{Cost, CostSource, Usage};
use crate::domain::time::Now;

/// How long a call is under way at most, in ms: longer than providers let an answer take.
pub const UNDER_WAY_MS: u64 = 15 * 60_000;
/// The most calls under way; the oldest gives way.
const MAX_UNDER_WAY: usize = 4_096;
/// The longest lift, in ms.
const MAX_LIFT_MS: u64 = 31 * DAY_MS;
/// When warnings come, in percent of the limit.
const LEVELS: [u8; 2] = [80, 100];

/// A call that ended, as the ledger tells it.
#[derive(Debug, Clone, Copy)]
pub struct Ended<'a> {
    /// Whose it is.
    pub who: &'a Who,
    /// `provider/model`.
    pub model: &'a str,
    /// What it cost.
    pub cost: Cost,
    /// Its tokens.
    pub usage: Option<Usage>,
    /// When it ended, in ms since 1970.
    pub ended_ms: u64,
}

/// Whether a call may pass.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// It may.
    Pass,
    /// It may not.
    Stop(Box<Stop>),
}

/// Why a call may not pass.
#[derive(Debug, Clone, PartialEq)]
pub struct Stop {
    /// The allowance, in words.
    pub allowance: String,
    /// What was spent in its window.
    pub spent: Limit,
    /// What may be.
    pub limit: Limit,
    /// When the window is over, in ms since 1970.
    pub resets_at_ms: u64,
    /// In how many seconds that is; at least 1.
    pub retry_after_s: u64,
    /// For the person at the other end: names the allowance, and how to lift it.
    pub message: String,
}

/// An allowance is spent, or nearly.
#[derive(Debug, Clone, PartialEq)]
pub struct Warning {
    /// The allowance, in words.
    pub allowance: String,
    /// 80 or 100.
    pub percent: u8,
    /// What was spent.
    pub spent: Limit,
    /// What may be.
    pub limit: Limit,
    /// The window.
    pub window: Window,
    /// Whether calls are refused from 100 % on.
    pub then: Then,
    /// For the log.
    pub message: String,
}

/// A call that has begun and not ended.
#[derive(Debug, Clone)]
struct UnderWay {
    /// A bit for each allowance that it falls under.
    fits: u64,
    amount: Amount,
    until_mono: u64,
}

/// An allowance that holds.
#[derive(Debug)]
struct Held {
    allowance: Allowance,
    scope: u64,
    mark: u64,
    /// The place of its meter.
    place: usize,
}

/// See the module.
#[derive(Debug)]
pub struct Brake {
    held: Vec<Held>,
    state: State,
    under_way: IndexMap<u64, UnderWay>,
    last_mono: Option<u64>,
    /// Calls under way that never ended, or were too many.
    pub given_up: u64,
}

impl Brake {
    /// A brake with the state that an earlier process left. Scopes that no allowance has any more are forgotten. At most
    /// [`settings::MOST`] allowances hold.
    pub fn new(allowances: Vec<Allowance>, state: State) -> Self {
        let mut meters: Vec<Meter> = Vec::new();
        let mut held = Vec::new();
        for allowance in allowances.into_iter().take(settings::MOST) {
            let scope = allowance.scope();
            let known = meters.iter().position(|meter| meter.scope == scope);
            let place = known.unwrap_or_else(|| {
                let kept = state.meters.iter().find(|meter| meter.scope == scope);
                meters.push(kept.cloned().unwrap_or(Meter {
                    scope,
                    ..Meter::default()
                }));
                meters.len() - 1
            });
            held.push(Held {
                mark: allowance.mark(),
                allowance,
                scope,
                place,
            });
        }
        for meter in &mut meters {
            let is_held = |mark| held.iter().any(|held| held.mark == mark);
            meter.told.retain(|(mark, _)| is_held(*mark));
        }
        Self {
            held,
            state: State { meters, ..state },
            under_way: IndexMap::new(),
            last_mono: None,
            given_up: 0,
        }
    }

    /// The state, for a snapshot.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Each allowance with what was spent of it.
    pub fn allowances(&self) -> impl Iterator<Item = (&Allowance, &Meter)> {
        let meters = &self.state.meters;
        let each = self.held.iter();
        each.filter_map(|held| Some((&held.allowance, meters.get(held.place)?)))
    }

    /// How many calls are under way.
    pub fn under_way(&self) -> usize {
        self.under_way.len()
    }

    /// Whether all calls pass for a time, and until when by the wall clock.
    pub fn lifted_until(&mut self, now: Now) -> Option<u64> {
        self.advance(now);
        let lift = self.state.lift?;
        Some(lift.until_ms.min(now.wall_ms.saturating_add(lift.left_ms)))
    }

    /// The entry of a call that ended: to be written, then applied.
    pub fn spent(&mut self, call: &Ended, now: Now) -> Entry {
        let usage = call.usage.unwrap_or_default();
        let fitting = self
            .held
            .iter()
            .filter(|held| held.allowance.fits(call.who));
        let mut scopes: Vec<u64> = fitting.map(|held| held.scope).collect();
        scopes.sort_unstable();
        scopes.dedup();
        Entry::Spent(Spent {
            at_ms: now.wall_ms,
            ran_ms: self.ran(now),
            // No call ends later than it is told of.
            ended_ms: call.ended_ms.min(now.wall_ms),
            scopes,
            pair: recent::pair(call.who.agent.as_deref(), call.model),
            model: recent::model(call.model),
            amount: Amount {
                usd: Nano::of_usd(call.cost.usd),
                tokens: usage.prompt().saturating_add(usage.output),
            },
            is_priced: call.cost.source != CostSource::Unknown,
            is_used: call.usage.is_some(),
        })
    }

    /// The entry by which all calls pass for a time, in ms; for 0 a lift is over.
    pub fn lift(&self, for_ms: u64, now: Now) -> Entry {
        let left_ms = for_ms.min(MAX_LIFT_MS);
        Entry::Lift(Lift {
            until_ms: now.wall_ms.saturating_add(left_ms),
            left_ms,
        })
    }

    /// Applies what was written, now or by an earlier process. What is to be warned of.
    pub fn apply(&mut self, entry: &Entry) -> Vec<Warning> {
        match entry {
            Entry::Lift(lift) => self.state.lift = Some(*lift).filter(|lift| lift.left_ms > 0),
            Entry::Spent(spent) => return self.count(spent),
        }
        Vec::new()
    }

    /// What is to be warned of though no call ended: the operator may have lowered a limit.
    pub fn tick(&mut self, now: Now) -> Vec<Warning> {
        self.advance(now);
        self.warnings()
    }

    /// Whether a call may pass that begins now. It is under way from then on if it has a `key`, which its end is told
    /// with; without one it is only asked.
    pub fn admit(&mut self, key: Option<u64>, who: &Who, model: &str, now: Now) -> Verdict {
        self.advance(now);
        let pair = recent::pair(who.agent.as_deref(), model);
        let next = self.state.recent.amount(pair, recent::model(model));
        let next = next.unwrap_or_default();
        if self.state.lift.is_none()
            && let Some(stop) = self.stop(key, who, next, now)
        {
            return Verdict::Stop(Box::new(stop));
        }
        if let Some(key) = key {
            if self.under_way.len() >= MAX_UNDER_WAY && !self.under_way.contains_key(&key) {
                self.under_way.shift_remove_index(0);
                self.given_up += 1;
            }
            let begun = UnderWay {
                fits: self.fits(who),
                amount: next,
                until_mono: now.mono_ms.saturating_add(UNDER_WAY_MS),
            };
            self.under_way.insert(key, begun);
        }
        Verdict::Pass
    }

    /// A call that was under way has ended. Whether it was.
    pub fn release(&mut self, key: u64) -> bool {
        self.under_way.shift_remove(&key).is_some()
    }

    /// The allowance that stops a call: of several the one that is closed longest.
    fn stop(&self, key: Option<u64>, who: &Who, next: Amount, now: Now) -> Option<Stop> {
        let fitting = self.fits(who);
        let allowances = self.allowances().enumerate();
        let may_stop = allowances.filter(|(place, (allowance, _))| {
            allowance.then == Then::Stop && fitting & (1 << place) != 0
        });
        let stopping = may_stop.filter(|(place, (allowance, meter))| {
            let others = self.under_way.iter();
            let others = others
                .filter(|(other, call)| Some(**other) != key && call.fits & (1 << place) != 0);
            let (count, begun) = others.fold((0, Amount::default()), |(count, sum), (_, call)| {
                (count + 1, sum.plus(call.amount))
            });
            let limit = number(allowance.limit);
            let spent = number(meter.spent.like(allowance.limit));
            let taken = meter.spent.plus(begun);
            let all = number(taken.plus(next).like(allowance.limit));
            let is_first = spent == 0 && count == 0;
            // Where nothing is known of the next call, the limit itself is the end.
            let is_over = number(taken.like(allowance.limit)) >= limit || all > limit;
            is_over && !is_first
        });
        let longest = stopping
            .map(|(_, stopping)| stopping)
            .max_by_key(|(allowance, meter)| meter.left_ms(allowance, now.wall_ms));
        let (allowance, meter) = longest?;
        let left_ms = meter.left_ms(allowance, now.wall_ms).max(1);
        let resets_at_ms = now.wall_ms.saturating_add(left_ms);
        let spent = meter.spent.like(allowance.limit);
        let why = match number(spent) >= number(allowance.limit) {
            true => format!("{} are spent", words(spent)),
            false => format!(
                "{} are spent, and with the calls under way the next one, about {}, does not fit",
                words(spent),
                words(next.like(allowance.limit))
            ),
        };
        Some(Stop {
            message: format!(
                "AgentWatch stopped this call by the allowance of {}: {why}. It is open again from {} on. \
                 To let calls pass for an hour: openclaw agentwatch allow 1h, or /agentwatch allow 1h",
                allowance.words(),
                written(&allowance.zone.1, resets_at_ms.div_ceil(1_000) * 1_000),
            ),
            allowance: allowance.words(),
            spent,
            limit: allowance.limit,
            resets_at_ms,
            retry_after_s: left_ms.div_ceil(1_000),
        })
    }

    /// A bit for each allowance that a call falls under.
    fn fits(&self, who: &Who) -> u64 {
        let fitting = self.held.iter().enumerate();
        let fitting = fitting.filter(|(_, held)| held.allowance.fits(who));
        fitting.fold(0, |bits, (place, _)| bits | 1 << place)
    }

    fn count(&mut self, spent: &Spent) -> Vec<Warning> {
        let mut warnings = Vec::new();
        let mut is_late = false;
        self.pass_lift(spent.at_ms, spent.ran_ms);
        for (held, meter) in placed(&self.held, &mut self.state.meters) {
            let is_hit = spent.scopes.contains(&meter.scope);
            // Told of a moment after its window ended, before anything else was.
            let is_last =
                is_hit && meter.window.has(spent.ended_ms) && spent.at_ms >= meter.window.ends_ms;
            if is_last {
                meter.add(spent);
                warnings.extend(warnings_of(&self.held, held.place, meter));
                is_late = true;
            }
            meter.advance(&held.allowance, spent.at_ms, spent.ran_ms);
            if is_hit && !is_last {
                match meter.holds(&held.allowance, spent.ended_ms, spent.at_ms) {
                    true => meter.add(spent),
                    false => is_late = true,
                }
            }
        }
        self.state.late += u64::from(is_late);
        if spent.is_used {
            self.state.recent.add(spent.pair, spent.model, spent.amount);
        }
        warnings.extend(self.warnings());
        warnings
    }

    fn warnings(&mut self) -> Vec<Warning> {
        let meters = self.state.meters.iter_mut().enumerate();
        meters
            .flat_map(|(place, meter)| warnings_of(&self.held, place, meter))
            .collect()
    }

    fn advance(&mut self, now: Now) {
        let ran_ms = self.ran(now);
        self.pass_lift(now.wall_ms, ran_ms);
        for (held, meter) in placed(&self.held, &mut self.state.meters) {
            meter.advance(&held.allowance, now.wall_ms, ran_ms);
        }
        let before = self.under_way.len();
        self.under_way
            .retain(|_, call| now.mono_ms < call.until_mono);
        self.given_up += (before - self.under_way.len()) as u64;
    }

    fn pass_lift(&mut self, wall_ms: u64, ran_ms: u64) {
        if let Some(lift) = &mut self.state.lift {
            lift.left_ms = lift.left_ms.saturating_sub(ran_ms);
        }
        self.state
            .lift
            .take_if(|lift| lift.left_ms == 0 || wall_ms >= lift.until_ms);
    }

    /// How long the process ran since this was last asked.
    fn ran(&mut self, now: Now) -> u64 {
        let last = self.last_mono.replace(now.mono_ms);
        now.mono_ms.saturating_sub(last.unwrap_or(now.mono_ms))
    }
}

/// Each meter once, with an allowance of its scope: these have the same windows.
fn placed<'a>(
    held: &'a [Held],
    meters: &'a mut [Meter],
) -> impl Iterator<Item = (&'a Held, &'a mut Meter)> {
    let meters = meters.iter_mut().enumerate();
    meters.filter_map(|(place, meter)| Some((held.iter().find(|held| held.place == place)?, meter)))
}

/// What is to be warned of the allowances with this meter.
fn warnings_of(held: &[Held], place: usize, meter: &mut Meter) -> Vec<Warning> {
    let mut warnings = Vec::new();
    for Held {
        allowance, mark, ..
    } in held.iter().filter(|held| held.place == place)
    {
        let spent = meter.spent.like(allowance.limit);
        let share = u128::from(number(spent)) * 100;
        let reached =
            |level: &&u8| share >= u128::from(number(allowance.limit)) * u128::from(**level);
        let Some(level) = LEVELS.iter().rfind(reached) else {
            continue;
        };
        match meter.told.iter_mut().find(|(known, _)| known == mark) {
            Some((_, told)) if *told >= *level => continue,
            Some((_, told)) => *told = *level,
            None => meter.told.push((*mark, *level)),
        }
        let next = match (allowance.then, level) {
            (Then::Stop, 100) => {
                "; calls are stopped until then, or until it is lifted: openclaw agentwatch allow 1h"
            }
            _ => "",
        };
        warnings.push(Warning {
            message: format!(
                "{} are spent, {level} % of the allowance of {}, whose window ends at {}{next}",
                words(spent),
                allowance.words(),
                written(&allowance.zone.1, meter.window.ends_ms),
            ),
            allowance: allowance.words(),
            percent: *level,
            spent,
            limit: allowance.limit,
            window: meter.window,
            then: allowance.then,
        });
    }
    warnings
}

/// How long a lift is to last, in ms, from `30m`, `1h` or `2d`, at most 31 days; else what is wrong.
pub fn lift_ms(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let unit_ms = match text.bytes().last() {
        Some(b'm') => 60_000,
        Some(b'h') => HOUR_MS,
        Some(b'd') => DAY_MS,
        _ => 0,
    };
    let count = text.get(..text.len().saturating_sub(1));
    let count: Option<u64> = count.and_then(|count| count.parse().ok());
    let ms = count.and_then(|count| count.checked_mul(unit_ms));
    ms.filter(|ms| (1..=MAX_LIFT_MS).contains(ms)).ok_or_else(|| {
        let text = crate::domain::identity::name(text);
        format!("allow \"{text}\" is no time; give minutes, hours or days up to 31d, such as 30m, 1h or 2d")
    })
}
