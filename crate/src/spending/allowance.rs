//! The brake: counts the spend of each allowance in its window, and decides whether the next call may pass.
//!
//! **Spend** is counted when a call ends: USD from the call's cost, whatever its source; tokens of the whole prompt and
//! the output. A call belongs to the window in which it ended. A call that is reported after that window closed (the
//! session store may report old calls) is counted as `late`, and in no later window. A call of unknown cost adds its
//! tokens, and is counted as `unpriced`.
//!
//! **Warnings** are given once per window at 80 % and once at 100 %; a call that passes both levels gives the second
//! only.
//!
//! **A call may pass** an allowance that stops, if the spend plus the expected cost of pending calls and of this call
//! is within the limit. The expected cost is the robust mean of the last calls of the agent and model, else of the
//! model, else of the agent, else the same of calls that were reported and are not final, else zero. So concurrent calls
//! exceed the limit by the errors of these means, not by their number; calls that begin before the first call was ever
//! reported all pass, and are expected to cost the mean from then on. If the spend is zero and no call is pending, one
//! call always passes: a wrong mean cannot lock a window. A pending call is released when it ends, or after
//! [`UNDER_WAY_MS`].
//!
//! **A lift** lets all calls pass for a time. They are still counted.
//!
//! **Clocks**: windows follow the wall clock, forward only. If the wall clock is set back before the window's begin,
//! the window and its sums stay until the wall clock passes the window's end, or until the process has run for the
//! window's usual length by the monotonic clock; then the wall clock's window begins. So setting the clock back opens
//! no window, and a clock that was years ahead and is corrected locks a window for no longer than its usual length. A
//! lift ends when either clock reaches its end.
//!
//! **State** is [`State`], changed by [`Entry`]: a state and the later entries, applied in order, restore the state.
//! The exceptions are the remaining time of a lift and the wait after a clock was set back: the running time between
//! the last entry and a kill is unknown. Pending calls are not part of the state: they end with the process.

use indexmap::IndexMap;

use super::history::History;
pub use super::meter::{Amount, Entry, Lift, Meter, Spent, State};
use super::meter::{number, words};
use super::recent::{Keys, Recent};
use super::settings::{self, Allowance, Limit, Then};
use super::who::Who;
use super::window::{DAY_MS, HOUR_MS, Window, written};
use crate::domain::call::{Cost, CostSource, Usage};
use crate::domain::time::Now;

/// Maximum time, in ms, for which a call is pending: longer than providers permit for an answer.
pub const UNDER_WAY_MS: u64 = 15 * 60_000;
/// Time, in ms, within which the process that owns the journal has read, counted and told the call of another process.
pub const ELSEWHERE_MS: u64 = 6_000;
/// Seconds after which a call is tried again that only calls under way keep out.
const RETRY_SOON_S: u64 = 30;
/// Maximum number of pending calls; beyond it the oldest is released.
const MAX_UNDER_WAY: usize = 4_096;
/// Longest lift, in ms.
const MAX_LIFT_MS: u64 = 31 * DAY_MS;
/// Levels of warnings, in percent of the limit.
const LEVELS: [u8; 2] = [80, 100];

/// A final call.
#[derive(Debug, Clone, Copy)]
pub struct Ended<'a> {
    /// Its attribution.
    pub who: &'a Who,
    /// `provider/model`.
    pub model: &'a str,
    /// Its cost.
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

/// Reason for a refusal.
#[derive(Debug, Clone, PartialEq)]
pub struct Stop {
    /// The allowance, in words.
    pub allowance: String,
    /// Spend in the current window.
    pub spent: Limit,
    /// The limit.
    pub limit: Limit,
    /// End of the window, in ms since 1970.
    pub resets_at_ms: u64,
    /// Seconds until the end of the window, at least 1; or a short time, where only calls under way keep the call out.
    pub retry_after_s: u64,
    /// Message for the user: names the allowance, and the command that lifts it.
    pub message: String,
}

/// A warning: an allowance has reached 80 % or 100 %.
#[derive(Debug, Clone, PartialEq)]
pub struct Warning {
    /// The allowance, in words.
    pub allowance: String,
    /// 80 or 100.
    pub percent: u8,
    /// Spend in the window.
    pub spent: Limit,
    /// The limit.
    pub limit: Limit,
    /// The window.
    pub window: Window,
    /// Whether calls are refused from 100 % on.
    pub then: Then,
    /// Message for the log.
    pub message: String,
}

/// A pending call.
#[derive(Debug, Clone)]
struct UnderWay {
    /// Bit set of the allowances that apply to the call, by index in `held`.
    fits: u64,
    keys: Keys,
    /// Its reported or expected cost; `None` if it began before a mean was known.
    amount: Option<Amount>,
    /// Whether the amount was reported.
    is_reported: bool,
    until_mono: u64,
    /// Whether the call has ended, and another process counts it soon.
    has_ended: bool,
}

/// An allowance in force.
#[derive(Debug)]
struct Held {
    allowance: Allowance,
    scope: u64,
    mark: u64,
    /// Index of its meter.
    place: usize,
}

/// The allowances in force, their spend, and the pending calls.
#[derive(Debug)]
pub struct Brake {
    held: Vec<Held>,
    state: State,
    under_way: IndexMap<u64, UnderWay>,
    last_mono: Option<u64>,
    /// Whether time ended a lift or a window; cleared by whoever stores the state.
    pub has_passed: bool,
    /// Number of pending calls that were released without an end, by age or by `MAX_UNDER_WAY`.
    pub given_up: u64,
}

impl Brake {
    /// Restores a brake from the state of an earlier process. Meters of scopes without an allowance are kept until their
    /// window ends: another process, or a corrected setting, may have the allowance. At most [`settings::MOST`]
    /// allowances apply, and as many further meters are kept.
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
        let is_foreign = |meter: &&Meter| !held.iter().any(|held| held.scope == meter.scope);
        let foreign = state.meters.iter().filter(is_foreign).cloned();
        meters.extend(foreign.take(settings::MOST));
        Self {
            held,
            state: State { meters, ..state },
            under_way: IndexMap::new(),
            last_mono: None,
            has_passed: false,
            given_up: 0,
        }
    }

    /// Begins the meters that the state does not have with the calls of their window from before the allowance was set.
    /// Returns whether there were any.
    pub fn begin_new(&mut self, history: &History, wall_ms: u64) -> bool {
        let mut has_begun = false;
        for held in &self.held {
            if let Some(meter) = self.state.meters.get_mut(held.place)
                && meter.window == Window::default()
            {
                meter.begin(&held.allowance, history, wall_ms);
                has_begun |= meter.calls > 0;
            }
        }
        has_begun
    }

    /// The state to be stored in a snapshot.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Each allowance with its meter.
    pub fn allowances(&self) -> impl Iterator<Item = (&Allowance, &Meter)> {
        let meters = &self.state.meters;
        let each = self.held.iter();
        each.filter_map(|held| Some((&held.allowance, meters.get(held.place)?)))
    }

    /// Number of pending calls.
    pub fn under_way(&self) -> usize {
        self.under_way.len()
    }

    /// End of the current lift by the wall clock, in ms since 1970; `None` without a lift.
    pub fn lifted_until(&mut self, now: Now) -> Option<u64> {
        self.advance(now);
        let lift = self.state.lift?;
        Some(lift.until_ms.min(now.wall_ms.saturating_add(lift.left_ms)))
    }

    /// The entry of a call that ended: the caller writes it, then applies it.
    pub fn spent(&mut self, call: &Ended, now: Now) -> Entry {
        let fitting = self
            .held
            .iter()
            .filter(|held| held.allowance.fits(call.who));
        let mut scopes: Vec<u64> = fitting.map(|held| held.scope).collect();
        scopes.sort_unstable();
        scopes.dedup();
        let keys = Keys::of(call.who.agent.as_deref(), call.model);
        Entry::Spent(Spent {
            at_ms: now.wall_ms,
            ran_ms: self.ran(now),
            // Sources may report an end in the future.
            ended_ms: call.ended_ms.min(now.wall_ms),
            scopes,
            pair: keys.pair,
            agent: keys.agent,
            model: keys.model,
            amount: Amount::of(call.cost, call.usage),
            is_priced: call.cost.source != CostSource::Unknown,
            is_used: call.usage.is_some(),
        })
    }

    /// The entry that lets all calls pass for `for_ms`; 0 ends a lift.
    pub fn lift(&mut self, for_ms: u64, now: Now) -> Entry {
        // The time before it is not part of it.
        self.advance(now);
        let left_ms = for_ms.min(MAX_LIFT_MS);
        Entry::Lift(Lift {
            until_ms: now.wall_ms.saturating_add(left_ms),
            left_ms,
        })
    }

    /// Applies an entry, new or from the journal. Returns new warnings.
    pub fn apply(&mut self, entry: &Entry) -> Vec<Warning> {
        match entry {
            Entry::Lift(lift) => self.state.lift = Some(*lift).filter(|lift| lift.left_ms > 0),
            Entry::Spent(spent) => return self.count(spent),
        }
        Vec::new()
    }

    /// Returns warnings that need no new call: the operator may have lowered a limit.
    pub fn tick(&mut self, now: Now) -> Vec<Warning> {
        self.advance(now);
        self.warnings()
    }

    /// Whether any allowance is in force.
    pub fn is_in_force(&self) -> bool {
        !self.held.is_empty()
    }

    /// Whether a call that begins now may pass. With a `key` it is then pending until [`Brake::release`]; without one
    /// the call is only judged.
    pub fn admit(&mut self, key: Option<u64>, who: &Who, model: &str, now: Now) -> Verdict {
        self.advance(now);
        let keys = Keys::of(who.agent.as_deref(), model);
        let reported = self.reported_calls();
        let next = self.expected(keys, &reported);
        if self.state.lift.is_none()
            && let Some(stop) = self.stop(key, who, next.unwrap_or_default(), &reported, now)
        {
            return Verdict::Stop(Box::new(stop));
        }
        if let Some(key) = key {
            let begun = UnderWay {
                fits: self.fits(who),
                keys,
                amount: next,
                is_reported: false,
                until_mono: now.mono_ms.saturating_add(UNDER_WAY_MS),
                has_ended: false,
            };
            self.hold(key, begun);
        }
        Verdict::Pass
    }

    /// A call under way, with the key `begun`, was reported under its own key: from now on it is held by its reported
    /// figures, else by its expected cost, until [`Brake::release`].
    pub fn reported(
        &mut self,
        begun: Option<u64>,
        key: u64,
        who: &Who,
        model: &str,
        amount: Option<Amount>,
        now: Now,
    ) {
        // A later report of the same call leaves the session's next call, which may have begun, under way.
        if let Some(begun) = begun.filter(|_| !self.under_way.contains_key(&key)) {
            self.under_way.shift_remove(&begun);
        }
        let keys = Keys::of(who.agent.as_deref(), model);
        let call = UnderWay {
            fits: self.fits(who),
            keys,
            amount: amount.or_else(|| self.state.recent.amount(keys)),
            is_reported: amount.is_some(),
            until_mono: now.mono_ms.saturating_add(UNDER_WAY_MS),
            has_ended: false,
        };
        self.hold(key, call);
    }

    /// Whether a call is held by its reported figures.
    pub fn is_reported(&self, key: u64) -> bool {
        self.under_way
            .get(&key)
            .is_some_and(|call| call.is_reported)
    }

    /// A call ended whose spend another process counts: it is held until that process's state has it.
    pub fn counted_elsewhere(
        &mut self,
        key: u64,
        who: &Who,
        model: &str,
        amount: Amount,
        now: Now,
    ) {
        let call = UnderWay {
            fits: self.fits(who),
            keys: Keys::of(who.agent.as_deref(), model),
            amount: Some(amount),
            is_reported: true,
            until_mono: now.mono_ms.saturating_add(ELSEWHERE_MS),
            has_ended: true,
        };
        self.hold(key, call);
    }

    fn hold(&mut self, key: u64, call: UnderWay) {
        if self.under_way.len() >= MAX_UNDER_WAY && !self.under_way.contains_key(&key) {
            self.under_way.shift_remove_index(0);
            self.given_up += 1;
        }
        self.under_way.insert(key, call);
    }

    /// The calls that were reported and are not final.
    fn reported_calls(&self) -> Recent {
        let mut reported = Recent::default();
        for call in self.under_way.values().filter(|call| call.is_reported) {
            if let Some(amount) = call.amount.filter(|amount| amount.tokens > 0) {
                reported.add(call.keys, amount);
            }
        }
        reported
    }

    /// The expected cost of a call; `None` before the agent's first call was reported.
    fn expected(&self, keys: Keys, reported: &Recent) -> Option<Amount> {
        let known = self.state.recent.amount(keys);
        known.or_else(|| reported.amount(keys))
    }

    /// Replaces the state by the state of the process that counts.
    pub fn follow(&mut self, state: State) {
        let own = std::mem::take(&mut self.held);
        let allowances = own.into_iter().map(|held| held.allowance).collect();
        let next = Self::new(allowances, state);
        self.held = next.held;
        self.state = next.state;
        // That process subtracts the time that passes.
        self.last_mono = None;
    }

    /// Releases a pending call. Returns whether it was pending.
    pub fn release(&mut self, key: u64) -> bool {
        self.under_way.shift_remove(&key).is_some()
    }

    /// The allowance that stops a call; of several, the one whose window ends last.
    fn stop(
        &self,
        key: Option<u64>,
        who: &Who,
        next: Amount,
        reported: &Recent,
        now: Now,
    ) -> Option<Stop> {
        let fitting = self.fits(who);
        let others = self.under_way.iter();
        let others: Vec<(u64, Amount)> = others
            .filter(|(other, _)| Some(**other) != key)
            .map(|(_, call)| {
                let amount = call.amount.or_else(|| self.expected(call.keys, reported));
                (call.fits, amount.unwrap_or_default())
            })
            .collect();
        let allowances = self.allowances().enumerate();
        let may_stop = allowances.filter(|(place, (allowance, _))| {
            allowance.then == Then::Stop && fitting & (1 << place) != 0
        });
        let stopping = may_stop.filter(|(place, (allowance, meter))| {
            let others = others.iter().filter(|(fits, _)| fits & (1 << place) != 0);
            let (count, begun) = others
                .fold((0, Amount::default()), |(count, sum), (_, amount)| {
                    (count + 1, sum.plus(*amount))
                });
            let limit = number(allowance.limit);
            let spent = number(meter.spent.like(allowance.limit));
            let taken = meter.spent.plus(begun);
            let all = number(taken.plus(next).like(allowance.limit));
            let is_first = spent == 0 && count == 0;
            // Without a known mean, the next call is expected to cost nothing: the limit itself is the bound.
            let is_over = number(taken.like(allowance.limit)) >= limit || all > limit;
            is_over && !is_first
        });
        let longest =
            stopping.max_by_key(|(_, (allowance, meter))| meter.left_ms(allowance, now.wall_ms));
        let (place, (allowance, meter)) = longest?;
        let left_ms = meter.left_ms(allowance, now.wall_ms).max(1);
        let resets_at_ms = now.wall_ms.saturating_add(left_ms);
        let spent = meter.spent.like(allowance.limit);
        // Calls under way may cost less than expected.
        let may_fit_soon = number(spent) < number(allowance.limit)
            && self.under_way.iter().any(|(other, call)| {
                Some(*other) != key && !call.has_ended && call.fits & (1 << place) != 0
            });
        let retry_after_s = left_ms.div_ceil(1_000);
        let (retry_after_s, when) = match may_fit_soon {
            true => (
                retry_after_s.min(RETRY_SOON_S),
                "It may fit when they have ended, and is open again",
            ),
            false => (retry_after_s, "It is open again"),
        };
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
                "AgentWatch stopped this call by the allowance of {}: {why}. {when} from {} on. \
                 To let calls pass for an hour: openclaw agentwatch allow 1h, or /agentwatch allow 1h",
                allowance.words(),
                written(&allowance.zone.1, resets_at_ms.div_ceil(1_000) * 1_000),
            ),
            allowance: allowance.words(),
            spent,
            limit: allowance.limit,
            resets_at_ms,
            retry_after_s,
        })
    }

    /// Bit set of the allowances that apply to a call.
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
            // Reported just after its window ended, before any other entry closed the window.
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
            let Spent {
                pair, agent, model, ..
            } = *spent;
            let keys = Keys { pair, agent, model };
            self.state.recent.add(keys, spent.amount);
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
            let has_ended = meter.advance(&held.allowance, now.wall_ms, ran_ms);
            self.has_passed |= has_ended;
        }
        // Those of allowances keep their places, since they come first.
        let held = &self.held;
        self.state.meters.retain(|meter| {
            now.wall_ms < meter.window.ends_ms || held.iter().any(|held| held.scope == meter.scope)
        });
        let given_up = &mut self.given_up;
        self.under_way.retain(|_, call| {
            let is_held = now.mono_ms < call.until_mono;
            *given_up += u64::from(!is_held && !call.has_ended);
            is_held
        });
    }

    fn pass_lift(&mut self, wall_ms: u64, ran_ms: u64) {
        if let Some(lift) = &mut self.state.lift {
            lift.left_ms = lift.left_ms.saturating_sub(ran_ms);
        }
        let ended = self
            .state
            .lift
            .take_if(|lift| lift.left_ms == 0 || wall_ms >= lift.until_ms);
        self.has_passed |= ended.is_some();
    }

    /// Running time since the last call of this function, in ms.
    fn ran(&mut self, now: Now) -> u64 {
        let last = self.last_mono.replace(now.mono_ms);
        now.mono_ms.saturating_sub(last.unwrap_or(now.mono_ms))
    }
}

/// Each meter with one allowance of its scope: allowances of one scope have the same windows.
fn placed<'a>(
    held: &'a [Held],
    meters: &'a mut [Meter],
) -> impl Iterator<Item = (&'a Held, &'a mut Meter)> {
    let meters = meters.iter_mut().enumerate();
    meters.filter_map(|(place, meter)| Some((held.iter().find(|held| held.place == place)?, meter)))
}

/// New warnings of the allowances with this meter.
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

/// Parses the duration of a lift: `30m`, `1h` or `2d`, at most 31 days; `0` ends a lift. Returns ms.
///
/// # Errors
/// A sentence with the value and the mend.
pub fn lift_ms(text: &str) -> Result<u64, String> {
    let text = text.trim();
    if text == "0" {
        return Ok(0);
    }
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
