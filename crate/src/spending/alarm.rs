//! The runaway alarm: what spends more than it used to, and what fails again and again. Each incident is told twice, when
//! it begins and when it ends.
//!
//! **Spend** is compared by the clock hour, for each stream of an agent: each cron job, heartbeats, subagents, a person's
//! sessions, and those sessions while the person is away. A session is attended for [`ATTENDED_MS`] after a person's last
//! message, and where nobody tells of persons. A stream's usual hour is the median of its last [`HOURS`] hours in which it
//! spent anything. The alarm is at the most of
//! - [`LEAST_USD`] ([`LEAST_AT_NIGHT_USD`] for heartbeats and cron jobs from 0 to 6 o'clock: below nobody gets up),
//! - four times the usual hour, and the usual hour and eight times the spread around it,
//! - twice the dearest hour before: the same run may lie in one hour or in two.
//!
//! Before a stream has [`LEARNED`] such hours it is compared with a fixed figure: [`UNKNOWN_USD`], and
//! [`UNKNOWN_AT_NIGHT_USD`] for heartbeats and cron jobs at night. What a person attends is never told of below
//! [`ATTENDED_USD`]: working at other things than yesterday is ordinary, and who sees it may stop it.
//!
//! An incident of spend ends with the first hour that is below the alarm. One that lasts for [`ACCEPTED_MS`] is the new
//! usual, and ends with that. Hours of an incident are no part of what is usual.
//!
//! **Loops** of failing tools and of retries: see `loops.rs`.

use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

use super::loops::Loops;
use super::who::Who;
use super::window::{DAY_MS, HOUR_MS};
use super::{Nano, robust, window};
use crate::domain::identity::key_of;

/// How long a person's message makes a session an attended one, in ms.
pub const ATTENDED_MS: u64 = HOUR_MS;
/// The least that is alarmed of, in USD an hour.
pub const LEAST_USD: f64 = 5.0;
/// The same for heartbeats and cron jobs at night.
pub const LEAST_AT_NIGHT_USD: f64 = 2.5;
/// What a stream with no past may spend in an hour, in USD.
pub const UNKNOWN_USD: f64 = 25.0;
/// The same for heartbeats and cron jobs at night.
pub const UNKNOWN_AT_NIGHT_USD: f64 = 10.0;
/// What a person may spend in an hour at least, in USD: 200 calls of half a dollar, a dear hour of coding.
pub const ATTENDED_USD: f64 = 100.0;
/// From how many hours a stream has a past.
pub const LEARNED: usize = 5;
/// How many hours make the past.
pub const HOURS: usize = 48;
/// An incident that lasts so long, in ms, is the new usual.
pub const ACCEPTED_MS: u64 = DAY_MS;

/// So many times the usual hour.
const TIMES: f64 = 4.0;
/// So many times the spread above the usual hour.
const SPREADS: f64 = 8.0;
/// So many times the dearest hour.
const DEAREST: f64 = 2.0;
/// The hour in which nights end.
const NIGHT_ENDS: i8 = 6;
/// The most streams; the one that spent longest ago gives way.
const MAX_STREAMS: usize = 256;

/// What runs away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A stream spends more than it used to.
    Spend,
    /// A heartbeat or a cron job does so at night.
    NightSpend,
    /// A tool fails again and again.
    ToolLoop,
    /// Calls of the model fail and are tried again.
    Retries,
}

/// An incident. What does not apply is `None` or zero.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Incident {
    /// What runs away.
    pub kind: Kind,
    /// When it began, in ms since 1970.
    pub began_ms: u64,
    /// The agent.
    pub agent: Option<String>,
    /// The session, as it may leave: of spend the one whose call was one too many.
    pub session: Option<String>,
    /// What started the runs.
    pub trigger: Option<String>,
    /// The cron job.
    pub job: Option<String>,
    /// The tool.
    pub tool: Option<String>,
    /// What was spent in the hour when it began, and in the whole when it ends.
    pub usd: Nano,
    /// What is usual in an hour; `None` without a past.
    pub usual: Option<Nano>,
    /// Failures in a row.
    pub count: u64,
}

impl Incident {
    /// For people.
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

/// What is to be told.
#[derive(Debug, Clone, PartialEq)]
pub enum Told {
    /// An incident began.
    Began(Incident),
    /// It ended.
    Ended(Incident),
}

/// What was seen of a session.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Seen<'a> {
    /// A call is final, and cost this much.
    Call {
        /// What it cost.
        usd: Nano,
    },
    /// A person's message began a turn: `run.started` or `session.turn.created` with the trigger `user`,
    /// `message:received`, a user's message.
    Person,
    /// The model answered: an assistant's message, or `model.call.completed`. The same answer may be told twice.
    Answered,
    /// A call of the model failed (an abort is none), a run was tried again (`run.attempt` above 1), or another model took
    /// over (`model.failover`).
    Retry,
    /// A tool ended: `after_tool_call`, or `tool.execution.completed` and `.error`.
    Tool {
        /// Its name.
        name: &'a str,
        /// Whether it failed.
        has_failed: bool,
    },
    /// The gateway found a loop: `tool.loop`.
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

/// What a stream of calls spends.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Stream {
    key: u64,
    /// The current hour since 1970.
    hour: u64,
    spent: Nano,
    /// Hours that are over, in which anything was spent, outside of incidents.
    past: Vec<Nano>,
    /// Hours of the incident.
    odd: Vec<Nano>,
    open: Option<Incident>,
    /// Whether it is a person's and attended.
    is_attended: bool,
    /// Whether it works at night on its own.
    is_clockwork: bool,
}

impl Stream {
    /// Below this nothing is alarmed of, whatever is usual.
    fn least(&self, is_night: bool) -> f64 {
        match (self.is_attended, is_night && self.is_clockwork) {
            (true, _) => ATTENDED_USD,
            (false, true) => LEAST_AT_NIGHT_USD,
            (false, false) => LEAST_USD,
        }
    }

    /// The usual hour, and what is alarmed of.
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

    /// Goes on to the hour of this time. What ended with the one before.
    fn advance(&mut self, at_ms: u64, zone: &TimeZone) -> Option<Told> {
        let hour = at_ms / HOUR_MS;
        if hour <= self.hour {
            // A clock that was set back goes on with the same hour, under its new name.
            self.hour = hour;
            return None;
        }
        let (_, most) = self.bounds(is_night(zone, self.hour * HOUR_MS));
        let is_odd = self.open.is_some() && self.spent > most;
        // Where an hour passed without a call, an incident is over too.
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

/// Remembers an hour in which something was spent.
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

/// See the module. State for the journal.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Alarm {
    /// The one that spent last is the last.
    streams: Vec<Stream>,
    loops: Loops,
}

impl Alarm {
    /// Takes in what was seen at this time. What is to be told.
    pub fn see(&mut self, who: &Who, seen: Seen, at_ms: u64, zone: &TimeZone) -> Vec<Told> {
        let mut told = self.loops.see(who, seen, at_ms);
        if let Seen::Call { usd } = seen {
            told.extend(self.spend(who, usd, at_ms, zone));
        }
        told
    }

    /// What ended by the time that passed.
    pub fn tick(&mut self, at_ms: u64, zone: &TimeZone) -> Vec<Told> {
        let mut told = self.loops.tick(at_ms);
        let streams = self.streams.iter_mut();
        told.extend(streams.filter_map(|stream| stream.advance(at_ms, zone)));
        told
    }

    /// The incidents that have not ended.
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
        // A person's session without the person is a stream of its own.
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
            // An incident that nobody would end any more ends.
            let gone = self.streams.remove(0).open;
            told.extend(gone.map(Told::Ended));
        }
        self.streams.push(stream);
        told
    }
}
