//! The runaway alarm: detects unusual spend and repeated failures. Each incident is reported twice: at its begin and
//! its end.
//!
//! **Spend** is compared per clock hour, for each stream of an agent: each cron job, heartbeats, subagents, a user's
//! attended sessions, and sessions without attendance. A session is attended for [`ATTENDED_MS`] after a user's last
//! message, and always if no source reports users' messages. A stream's usual hour is the median of its last [`HOURS`]
//! hours with spend. The threshold is the maximum of
//! - [`LEAST_USD`] ([`LEAST_AT_NIGHT_USD`] for heartbeats and cron jobs from 0 to 6 o'clock),
//! - four times the usual hour, and the usual hour plus eight times its spread,
//! - twice the most expensive hour: one run may lie in one hour or in two.
//!
//! A stream with fewer than [`LEARNED`] such hours has a fixed threshold: [`UNKNOWN_USD`], or [`UNKNOWN_AT_NIGHT_USD`]
//! for heartbeats and cron jobs at night. The threshold of an attended stream is at least [`ATTENDED_USD`]: its work
//! varies from day to day, and the user sees it and can stop it.
//!
//! An incident of spend ends with the first hour below the threshold, or after [`ACCEPTED_MS`]: its hours then become
//! part of the usual ones. Until then, hours of an incident do not count as usual.
//!
//! **Loops** of failing tools and of retries: see `loops.rs`.

use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

use super::loops::Loops;
use super::who::Who;
use super::window::{DAY_MS, HOUR_MS};
use super::{Nano, robust, window};
use crate::domain::identity::key_of;

/// Time for which a user's message makes a session attended, in ms.
pub const ATTENDED_MS: u64 = HOUR_MS;
/// Lowest threshold, in USD per hour.
pub const LEAST_USD: f64 = 5.0;
/// Lowest threshold for heartbeats and cron jobs at night, in USD per hour.
pub const LEAST_AT_NIGHT_USD: f64 = 2.5;
/// Threshold of a stream without a past, in USD per hour.
pub const UNKNOWN_USD: f64 = 25.0;
/// Threshold of heartbeats and cron jobs at night without a past, in USD per hour.
pub const UNKNOWN_AT_NIGHT_USD: f64 = 10.0;
/// Lowest threshold of an attended stream, in USD per hour: 200 calls at 0.50 USD, an expensive hour of coding.
pub const ATTENDED_USD: f64 = 100.0;
/// Number of hours from which a stream has a past.
pub const LEARNED: usize = 5;
/// Maximum number of hours in the past.
pub const HOURS: usize = 48;
/// Duration, in ms, from which an incident's spend becomes usual.
pub const ACCEPTED_MS: u64 = DAY_MS;

/// Threshold as a multiple of the usual hour.
const TIMES: f64 = 4.0;
/// Threshold above the usual hour, as a multiple of the spread.
const SPREADS: f64 = 8.0;
/// Threshold as a multiple of the most expensive hour.
const DEAREST: f64 = 2.0;
/// Hour of the clock at which the night ends. It begins at 0.
const NIGHT_ENDS: i8 = 6;
/// Maximum number of streams; beyond it the stream that spent longest ago is dropped.
const MAX_STREAMS: usize = 256;

/// Kind of incident.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A stream spends more than usual.
    Spend,
    /// A heartbeat or a cron job spends more than usual at night.
    NightSpend,
    /// A tool fails repeatedly.
    ToolLoop,
    /// Model calls fail and are retried.
    Retries,
}

impl Kind {
    /// Its name in records.
    pub fn word(self) -> &'static str {
        match self {
            Self::Spend => "spend",
            Self::NightSpend => "night_spend",
            Self::ToolLoop => "tool_loop",
            Self::Retries => "retries",
        }
    }
}

/// An incident. Fields that do not apply are `None` or zero.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Incident {
    /// Kind.
    pub kind: Kind,
    /// When it began, in ms since 1970.
    pub began_ms: u64,
    /// The agent.
    pub agent: Option<String>,
    /// The session's key, in the form that may leave the host. For spend: the session whose call exceeded the
    /// threshold.
    pub session: Option<String>,
    /// Trigger of the runs, such as `cron`.
    pub trigger: Option<String>,
    /// The cron job.
    pub job: Option<String>,
    /// The tool.
    pub tool: Option<String>,
    /// USD of the hour when it begins; USD of the whole incident when it ends.
    pub usd: Nano,
    /// USD of a usual hour; `None` without a past.
    pub usual: Option<Nano>,
    /// Failures in a row.
    pub count: u64,
}

impl Incident {
    /// Text for users.
    pub fn words(&self) -> String {
        let mut whose = format!("agent {}", self.agent.as_deref().unwrap_or("(none)"));
        for (name, value) in [(", job ", &self.job), (", session ", &self.session)] {
            if let Some(value) = value {
                whose.push_str(name);
                whose.push_str(value);
            }
        }
        let usual = self.usual.map_or("it has no past".to_owned(), |usual| {
            format!("{usual} are usual")
        });
        match self.kind {
            Kind::Spend => format!("{whose} has spent {} in an hour ({usual})", self.usd),
            Kind::NightSpend => {
                format!(
                    "{whose} has spent {} in an hour at night ({usual})",
                    self.usd
                )
            }
            Kind::ToolLoop => format!(
                "tool {} of {whose} has failed {} times in a row",
                self.tool.as_deref().unwrap_or("(none)"),
                self.count
            ),
            Kind::Retries => format!("calls of {whose} have failed {} times in a row", self.count),
        }
    }
}

/// A change to report.
#[derive(Debug, Clone, PartialEq)]
pub enum Told {
    /// An incident began.
    Began(Incident),
    /// It ended.
    Ended(Incident),
}

/// An event of a session.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Seen<'a> {
    /// A final call.
    Call {
        /// Its cost.
        usd: Nano,
    },
    /// A user's message began a turn: the first `run.started` of a run with the trigger `user`, `message:received`, or a
    /// user's message.
    Person,
    /// The model answered: an assistant's message, or `model.call.completed`. Sources may report one answer twice.
    Answered,
    /// A model call failed (aborts excluded). This is the only source of retries: `model.failover` (2026.8.2, 2026.9.6)
    /// reports a model's last failed call again, or a model that was not called (no key, cooldown), which costs nothing.
    /// `run.attempt` is in the types of 2026.9.6, and no version emits it.
    Retry,
    /// A tool call ended: `after_tool_call`, `tool.execution.completed` or `tool.execution.error`.
    Tool {
        /// Its name.
        name: &'a str,
        /// Whether it failed.
        has_failed: bool,
    },
    /// The gateway detected a loop: `tool.loop`.
    Loop {
        /// The tool's name.
        name: &'a str,
        /// `event.detector`.
        detector: &'a str,
        /// Whether `event.level` is `critical`.
        is_critical: bool,
        /// `event.count`.
        count: u64,
    },
}

/// Spend of a stream of calls.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Stream {
    key: u64,
    /// Current hour, in hours since 1970.
    hour: u64,
    spent: Nano,
    /// Spend of past hours with spend, without hours of incidents.
    past: Vec<Nano>,
    /// Spend of the past hours of the open incident.
    odd: Vec<Nano>,
    open: Option<Incident>,
    /// Whether it belongs to a user and is attended.
    is_attended: bool,
    /// Whether it consists of heartbeats or of a cron job, which run at night.
    is_clockwork: bool,
}

impl Stream {
    /// Lowest threshold of the stream, in USD per hour.
    fn least(&self, is_night: bool) -> f64 {
        match (self.is_attended, is_night && self.is_clockwork) {
            (true, _) => ATTENDED_USD,
            (false, true) => LEAST_AT_NIGHT_USD,
            (false, false) => LEAST_USD,
        }
    }

    /// The usual hour and the threshold.
    fn bounds(&self, is_night: bool) -> (Option<Nano>, Nano) {
        let least = self.least(is_night);
        let past: Vec<f64> = self.past.iter().map(|hour| hour.usd()).collect();
        let Some((usual, spread)) = robust::spread(&past).filter(|_| past.len() >= LEARNED) else {
            let unknown = match is_night && self.is_clockwork {
                true => UNKNOWN_AT_NIGHT_USD,
                false => UNKNOWN_USD,
            };
            return (None, Nano::of_usd(least.max(unknown)));
        };
        let dearest = past.iter().copied().fold(0.0, f64::max);
        let bounds = [TIMES * usual, usual + SPREADS * spread, DEAREST * dearest];
        let most = bounds.into_iter().fold(least, f64::max);
        (Some(Nano::of_usd(usual)), Nano::of_usd(most))
    }

    /// Moves to the hour of `at_ms`. Returns the incident that ended with the hour before.
    fn advance(&mut self, at_ms: u64, zone: &TimeZone) -> Option<Told> {
        let hour = at_ms / HOUR_MS;
        if hour <= self.hour {
            // A clock that was set back continues the same hour, under its new number.
            self.hour = hour;
            return None;
        }
        let (_, most) = self.bounds(is_night(zone, self.hour * HOUR_MS));
        let is_odd = self.open.is_some() && self.spent > most;
        // An hour without a call ends an incident, too.
        let is_over = !is_odd || hour > self.hour + 1;
        let spent = std::mem::take(&mut self.spent);
        self.hour = hour;
        match is_odd {
            true => keep(&mut self.odd, spent),
            false => keep(&mut self.past, spent),
        }
        let began_ms = self.open.as_ref()?.began_ms;
        let is_accepted = at_ms.saturating_sub(began_ms) >= ACCEPTED_MS;
        if !is_over && !is_accepted {
            return None;
        }
        let odd = std::mem::take(&mut self.odd);
        let whole = odd.iter().fold(Nano(0), |sum, hour| sum.plus(*hour));
        if is_accepted {
            odd.into_iter().for_each(|hour| keep(&mut self.past, hour));
        }
        let incident = self.open.take()?;
        Some(Told::Ended(Incident {
            usd: incident.usd.max(whole),
            ..incident
        }))
    }
}

/// Adds an hour with spend.
fn keep(hours: &mut Vec<Nano>, spent: Nano) {
    if spent > Nano(0) {
        let surplus = (hours.len() + 1).saturating_sub(HOURS);
        hours.drain(..surplus);
        hours.push(spent);
    }
}

fn is_night(zone: &TimeZone, at_ms: u64) -> bool {
    window::hour_of(zone, at_ms) < NIGHT_ENDS
}

/// Streams and loops. Stored in the journal.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Alarm {
    /// Sorted by last spend.
    streams: Vec<Stream>,
    loops: Loops,
}

impl Alarm {
    /// Handles an event. Returns the incidents that begin or end.
    pub fn see(&mut self, who: &Who, seen: Seen, at_ms: u64, zone: &TimeZone) -> Vec<Told> {
        let mut told = self.loops.see(who, seen, at_ms);
        if let Seen::Call { usd } = seen {
            told.extend(self.spend(who, usd, at_ms, zone));
        }
        told
    }

    /// Returns the incidents that ended by time.
    pub fn tick(&mut self, at_ms: u64, zone: &TimeZone) -> Vec<Told> {
        let mut told = self.loops.tick(at_ms);
        let streams = self.streams.iter_mut();
        told.extend(streams.filter_map(|stream| stream.advance(at_ms, zone)));
        told
    }

    /// The open incidents.
    pub fn open(&self) -> impl Iterator<Item = &Incident> {
        let spend = self
            .streams
            .iter()
            .filter_map(|stream| stream.open.as_ref());
        spend.chain(self.loops.open())
    }

    fn spend(&mut self, who: &Who, usd: Nano, at_ms: u64, zone: &TimeZone) -> Vec<Told> {
        let trigger = who.trigger.as_deref().unwrap_or("user");
        let is_clockwork = who.job.is_some() || ["cron", "heartbeat"].contains(&trigger);
        let is_attended = !is_clockwork && self.loops.is_attended(who, at_ms);
        let word = |text: &Option<String>| text.clone().unwrap_or_default();
        // Unattended sessions of an agent are one stream, whatever their trigger.
        let class = match (is_clockwork, is_attended) {
            (false, false) => "alone",
            _ => trigger,
        };
        let key = key_of(&[&word(&who.agent), class, &word(&who.job)]);
        let known = self.streams.iter().rposition(|stream| stream.key == key);
        let mut stream = match known {
            Some(place) => self.streams.remove(place),
            None => Stream {
                key,
                hour: at_ms / HOUR_MS,
                spent: Nano(0),
                past: Vec::new(),
                odd: Vec::new(),
                open: None,
                is_attended,
                is_clockwork,
            },
        };
        let mut told: Vec<Told> = stream.advance(at_ms, zone).into_iter().collect();
        stream.spent = stream.spent.plus(usd);
        let is_night = is_night(zone, at_ms);
        let may_be = stream.open.is_none() && stream.spent.usd() > stream.least(is_night);
        let bounds = may_be.then(|| stream.bounds(is_night));
        if let Some((usual, _)) = bounds.filter(|(_, most)| stream.spent > *most) {
            let incident = Incident {
                kind: match is_night && is_clockwork {
                    true => Kind::NightSpend,
                    false => Kind::Spend,
                },
                began_ms: at_ms,
                agent: who.agent.clone(),
                session: who.session.clone(),
                trigger: who.trigger.clone(),
                job: who.job.clone(),
                tool: None,
                usd: stream.spent,
                usual,
                count: 0,
            };
            told.push(Told::Began(incident.clone()));
            stream.open = Some(incident);
        }
        if self.streams.len() >= MAX_STREAMS {
            // A dropped stream ends its open incident.
            let gone = self.streams.remove(0).open;
            told.extend(gone.map(Told::Ended));
        }
        self.streams.push(stream);
        told
    }
}
