//! Loops: tools and model calls that fail repeatedly in a session.
//!
//! **Tools**: failures of a tool are counted once per answer of the model, since one answer may request many calls that
//! fail for one reason. Where no source reports answers, each failure counts. A loop is
//! - [`IN_A_ROW`] failures of one tool, or [`OF_ALL`] of several tools, without a success of any tool;
//! - [`STUBBORN`] failures of one tool without a success of it, whatever other tools did. The limit is high: a test may
//!   fail until the code is right;
//! - a `tool.loop` of the gateway, except warnings of polling, which may wait for something.
//!
//! **Retries**: [`RETRIES`] failed calls without a successful call. 2026.9 tries a call eight times for one message, then
//! fails over and tries the next model as often, which is ordinary.
//!
//! A user's message resets both counts, and so does [`QUIET_MS`] without a failure. An incident ends after [`QUIET_MS`]
//! without a failure, not with a success: a loop that succeeds now and then is one loop.

use serde::{Deserialize, Serialize};

use super::Nano;
use super::alarm::{ATTENDED_MS, Incident, Kind, Seen, Told};
use super::who::Who;
use crate::domain::identity;

/// Failures of one tool without a success of any tool.
pub const IN_A_ROW: u64 = 8;
/// Failures of all tools without a success of any tool.
pub const OF_ALL: u64 = 12;
/// Failures of one tool without a success of it.
pub const STUBBORN: u64 = 40;
/// Failed model calls in a row.
pub const RETRIES: u64 = 20;
/// Time without a failure that ends a loop, in ms.
pub const QUIET_MS: u64 = 10 * 60_000;

/// Maximum number of sessions; beyond it the session unused longest is dropped.
const MAX_SESSIONS: usize = 512;
/// Maximum number of tools that are counted in a session.
const MAX_TOOLS: usize = 8;

/// Failure counts of a tool.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Tool {
    name: String,
    /// Failures since a success of any tool.
    in_a_row: u64,
    /// Failures since a success of this tool.
    stubborn: u64,
}

/// State of a session.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Session {
    key: Option<String>,
    person_ms: Option<u64>,
    failed_ms: u64,
    tools: Vec<Tool>,
    retries: u64,
    /// Whether a source reports the model's answers.
    tells_answers: bool,
    /// Whether the model answered since the last counted tool failure.
    has_answered: bool,
    open: Vec<Incident>,
}

/// Sessions, sorted by last use.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Loops(Vec<Session>);

impl Loops {
    pub(super) fn see(&mut self, who: &Who, seen: Seen, at_ms: u64) -> Vec<Told> {
        if who.session.is_none() {
            return Vec::new();
        }
        let mut told = Vec::new();
        let mut known = self.0.iter();
        let known = known.rposition(|session| session.key == who.session);
        let mut session = match known {
            Some(place) => self.0.remove(place),
            None => Session {
                key: who.session.clone(),
                ..Session::default()
            },
        };
        session.pass(at_ms, &mut told);
        told.extend(session.see(who, seen, at_ms).map(Told::Began));
        if self.0.len() >= MAX_SESSIONS {
            // A dropped session ends its open incidents.
            told.extend(self.0.remove(0).open.into_iter().map(Told::Ended));
        }
        self.0.push(session);
        told
    }

    pub(super) fn tick(&mut self, at_ms: u64) -> Vec<Told> {
        let mut told = Vec::new();
        for session in &mut self.0 {
            session.pass(at_ms, &mut told);
        }
        told
    }

    pub(super) fn open(&self) -> impl Iterator<Item = &Incident> {
        self.0.iter().flat_map(|session| &session.open)
    }

    /// Whether a user attends the session; true if no source reported a user's message.
    pub(super) fn is_attended(&self, who: &Who, at_ms: u64) -> bool {
        let mut sessions = self.0.iter().rev();
        let session = sessions.find(|session| session.key == who.session);
        let person_ms = session.and_then(|session| session.person_ms);
        person_ms.is_none_or(|person_ms| at_ms.saturating_sub(person_ms) < ATTENDED_MS)
    }
}

impl Session {
    /// Ends incidents and counts after [`QUIET_MS`] without a failure.
    fn pass(&mut self, at_ms: u64, told: &mut Vec<Told>) {
        // A clock that was set back must not keep an incident open.
        self.failed_ms = self.failed_ms.min(at_ms);
        self.person_ms = self.person_ms.map(|person_ms| person_ms.min(at_ms));
        if at_ms - self.failed_ms >= QUIET_MS {
            told.extend(self.open.drain(..).map(Told::Ended));
            self.tools.clear();
            self.retries = 0;
        }
    }

    /// Handles an event. Returns the incident that begins with it.
    fn see(&mut self, who: &Who, seen: Seen, at_ms: u64) -> Option<Incident> {
        match seen {
            Seen::Call { .. } => None,
            Seen::Person => {
                self.person_ms = Some(at_ms);
                self.tools.clear();
                self.retries = 0;
                None
            }
            Seen::Answered => {
                self.retries = 0;
                self.tells_answers = true;
                self.has_answered = true;
                None
            }
            Seen::Retry => {
                self.failed_ms = at_ms;
                self.retries += 1;
                let count = self.retries;
                let is_loop = count >= RETRIES;
                self.begin(is_loop, who, (Kind::Retries, None, count), at_ms)
            }
            Seen::Tool {
                name,
                has_failed: false,
            } => {
                let name = identity::name(name);
                self.tools.retain_mut(|tool| {
                    tool.in_a_row = 0;
                    tool.name != name
                });
                None
            }
            Seen::Tool { name, .. } => {
                self.failed_ms = at_ms;
                if self.tells_answers && !std::mem::take(&mut self.has_answered) {
                    return None;
                }
                let (in_a_row, stubborn) = self.fail(identity::name(name));
                let of_all: u64 = self.tools.iter().map(|tool| tool.in_a_row).sum();
                let is_loop = in_a_row >= IN_A_ROW || of_all >= OF_ALL || stubborn >= STUBBORN;
                let count = in_a_row.max(stubborn);
                self.begin(is_loop, who, (Kind::ToolLoop, Some(name), count), at_ms)
            }
            Seen::Loop {
                name,
                detector,
                is_critical,
                count,
            } => {
                self.failed_ms = at_ms;
                let is_loop = is_critical || detector != "known_poll_no_progress";
                self.begin(is_loop, who, (Kind::ToolLoop, Some(name), count), at_ms)
            }
        }
    }

    fn fail(&mut self, name: String) -> (u64, u64) {
        let known = self.tools.iter().position(|tool| tool.name == name);
        let mut tool = match known {
            Some(place) => self.tools.remove(place),
            None => Tool {
                name,
                ..Tool::default()
            },
        };
        tool.in_a_row += 1;
        tool.stubborn += 1;
        let counts = (tool.in_a_row, tool.stubborn);
        if self.tools.len() >= MAX_TOOLS {
            self.tools.remove(0);
        }
        self.tools.push(tool);
        counts
    }

    /// Begins an incident, unless one of its kind is open.
    fn begin(
        &mut self,
        is_loop: bool,
        who: &Who,
        (kind, tool, count): (Kind, Option<&str>, u64),
        at_ms: u64,
    ) -> Option<Incident> {
        if let Some(open) = self.open.iter_mut().find(|open| open.kind == kind) {
            open.count = open.count.max(count);
            return None;
        }
        if !is_loop {
            return None;
        }
        let incident = Incident {
            kind,
            began_ms: at_ms,
            agent: who.agent.clone(),
            session: who.session.clone(),
            trigger: who.trigger.clone(),
            job: who.job.clone(),
            tool: tool.map(identity::name),
            usd: Nano(0),
            usual: None,
            count,
        };
        self.open.push(incident.clone());
        Some(incident)
    }
}
