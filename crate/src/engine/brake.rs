//! Allowances in the engine: what counts as spent, what is under way, which calls are refused, and what is told of it.
//!
//! **Counted** is each call that becomes final and is a request, once, by the cost and the tokens with which it is
//! delivered: a row of the session store as well, and a call of another process that the spool told. A bill that a
//! proxy brings after that corrects the delivered call and not the spend. Calls that failed without usage cost nothing.
//!
//! **Journalled** is the spend before the call's own entry, in the same round of writes. After a kill between the two
//! the call is pending again and is counted when it is final: spend of a call that is not final is not restored.
//!
//! **Under way** is a call from its admission on, held by its session or by its request; from its first report on, held
//! by its id; until it is final.
//!
//! **Another process** may own the journal. It counts, and writes its state to [`FILE`]; this process decides by that
//! state and by its own calls: those under way, and those that ended within `ELSEWHERE_MS`.

#[cfg(test)]
mod tests;

use std::collections::HashSet;

use serde::Serialize;

use super::Engine;
use crate::activity::records::Meta;
use crate::activity::reporter::allowance_meta;
use crate::domain::call::{CallId, ModelCall, Outcome};
use crate::domain::identity::key_of;
use crate::domain::observation::Observation;
use crate::domain::time::{Now, iso};
use crate::engine::log::Level;
use crate::host::{Fault, Host};
use crate::journal::{self, Frame};
use crate::spending::Nano;
use crate::spending::allowance::{Amount, Brake, Ended, Entry, State, Stop, Verdict, Warning};
use crate::spending::history::History;
use crate::spending::settings::{Allowance, Limit, Then};
use crate::spending::who::{Told, Who};

/// The file with the owner's state, for other processes, and the name under which it is written.
const FILE: &str = "allowances.awj";
const NEW_FILE: &str = "allowances.awj.new";
/// Maximum size of the file, in bytes.
const MOST_BYTES: usize = 1024 * 1024;
/// Maximum number of reported calls that wait for a price; further ones are held by their expected cost.
const MAX_UNPRICED: usize = 64;
/// Interval of the records of spend, in ms.
const REPORT_EVERY_MS: u64 = 60_000;

/// A call that is about to begin, in the fields of its gateway.
#[derive(Debug, Clone, Copy, Default)]
pub struct Begin<'a> {
    /// Its attribution.
    pub told: Told<'a>,
    /// `provider/model`, if known.
    pub model: Option<&'a str>,
    /// The number of a proxy's request; a session's calls need none, since a session makes one call at a time.
    pub request: Option<u64>,
}

/// The state of one allowance, for the status.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AllowanceStatus {
    /// The allowance, in words.
    pub allowance: String,
    /// Spend in the window, in USD or tokens.
    pub spent: f64,
    /// The limit, in the same unit.
    pub limit: f64,
    /// `usd` or `tokens`.
    pub unit: &'static str,
    /// `hour`, `day` or `month`.
    pub per: &'static str,
    /// The zone of its window.
    pub zone: String,
    /// Filters: the agent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    /// The channel.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub channel: Option<String>,
    /// The trigger.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trigger: Option<String>,
    /// The cron job.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job: Option<String>,
    /// Spend in percent of the limit, rounded down.
    pub percent: u64,
    /// `warn` or `stop`.
    pub then: &'static str,
    /// Begin of the window, in ms since 1970; 0 before the first call.
    pub starts_ms: u64,
    /// End of the window, in ms since 1970.
    pub ends_ms: u64,
    /// Number of calls in the window.
    pub calls: u64,
    /// Number of these whose cost is unknown.
    pub unpriced: u64,
}

/// Numbers of the brake, for the status.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct BrakeStatus {
    /// Calls that were refused.
    pub stopped: u64,
    /// Calls that began and are not counted yet.
    pub under_way: usize,
    /// Calls that were reported after their window had closed.
    pub late: u64,
    /// Calls that began, and whose end was not reported in time.
    pub given_up: u64,
    /// Until when all calls pass, in ms since 1970.
    pub lifted_until_ms: Option<u64>,
}

/// The brake of one engine.
#[derive(Debug)]
pub(super) struct Braking {
    brake: Brake,
    stopped: u64,
    /// Changes that a recovery found, in order, and the calls that it found to be final.
    found: (Vec<Frame>, HashSet<CallId>),
    /// Whether the state changed since [`FILE`] was written.
    has_changed: bool,
    /// When each allowance's spend is reported next, on the monotonic clock, and the spend of the last report.
    reported: Vec<(u64, Limit)>,
    /// Reported calls whose model's price was not known yet, with the time of the report.
    unpriced: Vec<(CallId, Box<Observation>, Now)>,
    /// Allowances whose first refusal in a window was reported, with the window's end.
    told_stops: Vec<(String, u64)>,
}

impl Braking {
    pub(super) fn new(allowances: Vec<Allowance>) -> Self {
        Self {
            reported: vec![(0, Limit::Tokens(u64::MAX)); allowances.len()],
            brake: Brake::new(allowances, State::default()),
            stopped: 0,
            found: Default::default(),
            has_changed: false,
            unpriced: Vec::new(),
            told_stops: Vec::new(),
        }
    }

    /// The frame of a snapshot.
    pub(super) fn frame(&self) -> Option<Frame> {
        let state = self.brake.state();
        (*state != State::default()).then(|| Frame::Allowances(Box::new(state.clone())))
    }

    /// Takes a frame of a recovery.
    pub(super) fn recover(&mut self, frame: Frame) {
        // A call that was closed without usage and got it later is final once more, behind its spend.
        if let Frame::Spent(id, _) = &frame {
            self.found.1.remove(id);
        }
        self.found.0.push(frame);
    }

    /// The journal has this call as final.
    pub(super) fn is_final(&mut self, id: CallId) {
        self.found.1.insert(id);
    }

    /// Ends a recovery. Calls that are not final become final later, and count then. Warnings were given by the process
    /// that counted the call.
    pub(super) fn recovered(&mut self) {
        let (frames, mut final_calls) = std::mem::take(&mut self.found);
        self.has_changed |= !frames.is_empty();
        for frame in frames {
            match frame {
                Frame::Allowances(state) => self.brake.follow(*state),
                Frame::Spent(id, spent) if final_calls.remove(&id) => {
                    let _ = self.brake.apply(&Entry::Spent(*spent));
                }
                Frame::Lift(lift) => {
                    let _ = self.brake.apply(&Entry::Lift(lift));
                }
                _ => {}
            }
        }
    }

    /// Ends a recovery, behind [`Braking::recovered`]. Returns whether an allowance is new and has calls already.
    pub(super) fn begin_new(&mut self, history: &History, now: Now) -> bool {
        let has_begun = self.brake.begin_new(history, now.wall_ms);
        self.has_changed |= has_begun;
        has_begun
    }
}

impl Engine {
    /// Whether a call that begins now may pass. A call that passes is under way until it is counted, or until
    /// [`Engine::end_request`]. A call that may not pass is counted as stopped. Calls that are due count first, and are
    /// written by the next [`Engine::advance`]: the answer does not wait for the disk.
    pub fn admit(&mut self, begin: &Begin, now: Now) -> Option<Stop> {
        if !self.braking.brake.is_in_force() {
            return None;
        }
        self.settle_due(now);
        self.follow_owner();
        let mut who = Who::of(&begin.told, &self.settings.identities);
        self.sessions.fill(&mut who);
        let known = || self.sessions.last_model(who.session.as_deref()?);
        let model = begin.model.map(str::to_owned).or_else(known);
        let key = match begin.request {
            Some(number) => Some(request_key(number)),
            None => who.session.as_deref().map(session_key),
        };
        let verdict = self
            .braking
            .brake
            .admit(key, &who, &model.unwrap_or_default(), now);
        let Verdict::Stop(stop) = verdict else {
            return None;
        };
        self.braking.stopped += 1;
        self.log.add_about(
            Level::Warn,
            &stop.allowance,
            stop.message.clone(),
            now.mono_ms,
        );
        self.tell_first_stop(&stop, &who, now);
        Some(*stop)
    }

    /// A proxy's request is over: it was reported, or made no call.
    pub fn end_request(&mut self, number: u64) {
        self.braking.brake.release(request_key(number));
    }

    /// Lifts all allowances for `for_ms`; 0 ends a lift. Only the journal's owner does.
    pub fn lift(&mut self, for_ms: u64, now: Now) {
        if self.disk.spool.is_some() {
            return;
        }
        let entry = self.braking.brake.lift(for_ms, now);
        let Entry::Lift(lift) = entry else { return };
        self.journal.note(&Frame::Lift(lift));
        let _ = self.braking.brake.apply(&entry);
        self.braking.has_changed = true;
        let text = match lift.left_ms {
            0 => "the allowances hold again".to_owned(),
            _ => format!(
                "an operator lifted the allowances: all calls pass until {}, and are counted",
                iso(lift.until_ms)
            ),
        };
        self.log.add(Level::Info, text.clone(), now.mono_ms);
        let record = self
            .reporter
            .lifted(text, lift.until_ms, &self.settings, now);
        self.report(&record, now);
        self.note_event(now);
    }

    /// Counts a final call.
    pub(super) fn spend(&mut self, call: &ModelCall, now: Now) {
        let brake = &mut self.braking.brake;
        brake.release(call.id.key());
        if !brake.is_in_force() {
            return;
        }
        let who = call.who();
        let model = format!("{}/{}", call.provider, call.model);
        if self.disk.spool.is_some() {
            let amount = Amount::of(call.cost, call.usage);
            return brake.counted_elsewhere(call.id.key(), &who, &model, amount, now);
        }
        let ended = Ended {
            who: &who,
            model: &model,
            cost: call.cost,
            usage: call.usage,
            ended_ms: call.ended_ms,
        };
        let entry = brake.spent(&ended, now);
        let Entry::Spent(spent) = &entry else { return };
        self.journal
            .note(&Frame::Spent(call.id, Box::new(spent.clone())));
        let warnings = brake.apply(&entry);
        self.braking.has_changed = true;
        self.warn_of_spend(warnings, now);
    }

    /// A call is final that is no request.
    pub(super) fn costs_nothing(&mut self, id: CallId) {
        self.braking.brake.release(id.key());
    }

    /// A call was reported that is not final yet.
    pub(super) fn hold_reported(&mut self, id: CallId, seen: &Observation, now: Now) {
        if !self.braking.brake.is_in_force() || !self.matcher.is_pending(id) {
            return;
        }
        // A report without usage adds nothing to a call that is held by its figures.
        if seen.usage.is_none() && self.braking.brake.is_reported(id.key()) {
            return;
        }
        let mut who = Who {
            agent: seen.agent.clone(),
            channel: seen.origin.channel.clone(),
            trigger: seen.trigger.clone(),
            job: seen.origin.job.clone(),
            session: seen.session_key.clone(),
            ..Who::default()
        };
        self.sessions.fill(&mut who);
        let begun = seen.session_key.as_deref().map(session_key);
        let model = format!("{}/{}", seen.provider, seen.model);
        let cost = self.prices.cost_of_report(seen);
        let amount = match (seen.usage, cost) {
            (Some(usage), Some(cost)) => Some(Amount::of(cost, Some(usage))),
            // Final calls that failed without usage cost nothing.
            (None, _) if seen.outcome == Outcome::Failed => Some(Amount::default()),
            _ => None,
        };
        if seen.usage.is_some() && cost.is_none() && self.braking.unpriced.len() < MAX_UNPRICED {
            self.braking
                .unpriced
                .push((id, Box::new(seen.clone()), now));
        }
        self.braking
            .brake
            .reported(begun, id.key(), &who, &model, amount, now);
    }

    /// No price is wanted any more: calls that were reported before theirs was known are held by it. One that was not found
    /// is unknown.
    pub(super) fn hold_unpriced(&mut self) {
        for (id, seen, now) in std::mem::take(&mut self.braking.unpriced) {
            self.hold_reported(id, &seen, now);
        }
    }

    /// A session's run is over: a call that was admitted for it and did not begin is no longer under way.
    pub(super) fn end_of_run(&mut self, session: &str) {
        self.braking.brake.release(session_key(session));
    }

    /// Warnings and records that are due without a call.
    pub(super) fn look_at_allowances(&mut self, now: Now) {
        if !self.braking.brake.is_in_force() || self.disk.spool.is_some() {
            return;
        }
        let warnings = self.braking.brake.tick(now);
        if self.braking.brake.has_passed {
            self.note_event(now);
        }
        self.warn_of_spend(warnings, now);
        if self
            .next_for_allowances()
            .is_some_and(|at| at <= now.mono_ms)
        {
            self.report_spend(now);
        }
    }

    /// When a changed spend is reported next, by the monotonic clock in ms.
    pub(super) fn next_for_allowances(&self) -> Option<u64> {
        let held = self.braking.brake.allowances();
        let reported = held.zip(&self.braking.reported);
        let changed = reported
            .filter(|((allowance, meter), (_, last))| meter.spent_like(allowance.limit) != *last);
        let due = changed.map(|(_, (at_ms, _))| *at_ms).min();
        due.filter(|_| self.disk.spool.is_none())
    }

    /// The allowances and their spend, for the status.
    pub(super) fn allowances(&self) -> Vec<AllowanceStatus> {
        let held = self.braking.brake.allowances();
        held.map(|(allowance, meter)| {
            let (spent, limit) = (
                number(meter.spent_like(allowance.limit)),
                number(allowance.limit),
            );
            AllowanceStatus {
                allowance: allowance.words(),
                spent,
                limit,
                unit: match allowance.limit {
                    Limit::Usd(_) => "usd",
                    Limit::Tokens(_) => "tokens",
                },
                per: allowance.per.word(),
                zone: allowance.zone.0.clone(),
                agent: allowance.agent.clone(),
                channel: allowance.channel.clone(),
                trigger: allowance.trigger.clone(),
                job: allowance.job.clone(),
                percent: (spent * 100.0 / limit) as u64,
                then: then(allowance.then),
                starts_ms: meter.window.starts_ms,
                ends_ms: meter.window.ends_ms,
                calls: meter.calls,
                unpriced: meter.unpriced,
            }
        })
        .collect()
    }

    /// Numbers of the brake; `None` without an allowance.
    pub(super) fn brake_status(&self) -> Option<BrakeStatus> {
        let Braking { brake, stopped, .. } = &self.braking;
        brake.is_in_force().then(|| BrakeStatus {
            stopped: *stopped,
            under_way: brake.under_way(),
            late: brake.state().late,
            given_up: brake.given_up,
            lifted_until_ms: brake.state().lift.map(|lift| lift.until_ms),
        })
    }

    /// Writes the state for other processes, if it changed.
    pub(super) fn write_allowances(&mut self, host: &dyn Host) -> Result<(), Fault> {
        // Other processes do not subtract a lift's time, nor that of a window from a clock that was ahead.
        let has_passed = std::mem::take(&mut self.braking.brake.has_passed);
        if !std::mem::take(&mut self.braking.has_changed) && !has_passed {
            return Ok(());
        }
        let state = Frame::Allowances(Box::new(self.braking.brake.state().clone()));
        let mut bytes = journal::begin_file();
        journal::append_frame(&mut bytes, &state);
        let written = host
            .remove(NEW_FILE)
            .and_then(|()| host.append(NEW_FILE, &bytes, None, false))
            .and_then(|()| host.rename(NEW_FILE, FILE, false));
        self.braking.has_changed = written.is_err();
        written
    }

    /// Takes the state of the process that owns the journal. A file that is missing or unreadable changes nothing.
    fn follow_owner(&mut self) {
        let (Some(host), true) = (self.disk.host.clone(), self.disk.spool.is_some()) else {
            return;
        };
        let bytes = host.read(FILE, 0, MOST_BYTES).ok().flatten();
        let frames = bytes.and_then(|bytes| journal::read(&bytes).ok());
        for frame in frames.into_iter().flat_map(|found| found.frames) {
            if let Frame::Allowances(state) = frame {
                self.braking.brake.follow(*state);
            }
        }
    }

    fn warn_of_spend(&mut self, warnings: Vec<Warning>, now: Now) {
        for warning in warnings {
            self.log
                .add(Level::Warn, warning.message.clone(), now.mono_ms);
            let record = self.reporter.allowance(&warning, &self.settings, now);
            self.report(&record, now);
            let meta = Meta::default()
                .text("message", Some(warning.message.clone()))
                .and(allowance_meta(&warning));
            let Warning {
                allowance, percent, ..
            } = &warning;
            let then = then(warning.then);
            let about = format!(
                "{allowance} {then} {percent} {}",
                iso(warning.window.starts_ms)
            );
            self.notify(("allowance", &about), (None, None), meta, now);
        }
    }

    /// Reports the first refusal of an allowance in its window. Further ones are only counted.
    fn tell_first_stop(&mut self, stop: &Stop, who: &Who, now: Now) {
        let told = &mut self.braking.told_stops;
        // The end of a window that follows a clock which was set back moves with the clock.
        told.retain(|(_, until_ms)| *until_ms > now.wall_ms);
        if told.iter().any(|(known, _)| *known == stop.allowance) {
            return;
        }
        told.push((stop.allowance.clone(), stop.resets_at_ms));
        let agent = who.agent.as_deref();
        let record = self.reporter.stopped(stop, agent, &self.settings, now);
        self.report(&record, now);
    }

    /// Reports the spend of each allowance as a metric, where it changed, once a minute.
    fn report_spend(&mut self, now: Now) {
        let states = self.allowances();
        let held = self.braking.brake.allowances();
        let reported = held.zip(&mut self.braking.reported).zip(states);
        let mut due = Vec::new();
        for (((allowance, meter), (at_ms, last)), state) in reported {
            let spent = meter.spent_like(allowance.limit);
            // Amounts of different units differ, so the first spend is always reported.
            if spent != *last && now.mono_ms >= *at_ms {
                *last = spent;
                *at_ms = now.mono_ms + REPORT_EVERY_MS;
                due.push(state);
            }
        }
        for state in due {
            let record = self.reporter.spend(&state, &self.settings, now);
            self.report(&record, now);
        }
    }
}

fn session_key(session: &str) -> u64 {
    key_of(&["session", session])
}

fn request_key(number: u64) -> u64 {
    key_of(&["request", &number.to_string()])
}

pub(crate) fn then(then: Then) -> &'static str {
    match then {
        Then::Warn => "warn",
        Then::Stop => "stop",
    }
}

/// A limit or a spend in USD or tokens.
pub(crate) fn number(limit: Limit) -> f64 {
    match limit {
        Limit::Usd(usd) => Nano::usd(usd),
        Limit::Tokens(tokens) => tokens as f64,
    }
}
