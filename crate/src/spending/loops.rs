//! Loops: tools and calls of the model that fail again and again in a session.
//!
//! **Tools**: failures of one tool are counted once for each answer of the model, since one answer may ask for many calls
//! that all fail for one reason. Where no answers are told each failure counts. A loop is
//! - [`IN_A_ROW`] failures of one tool, or [`OF_ALL`] of several in turn, while no tool succeeded;
//! - [`STUBBORN`] failures of one tool that did not succeed in between, whatever other tools did: a test that fails
//!   until the code is right is ordinary;
//! - a `tool.loop` of the gateway, except warnings of polling, which may wait for something.
//!
//! **Retries**: [`RETRIES`] failed calls, attempts and failovers while no call succeeded. 2026.9 tries a call eight times
//! for one message, then fails over and tries the next model as often, which is ordinary.
//!
//! Both begin anew with a person's message, and after [`QUIET_MS`] without a failure. An incident ends after
//! [`QUIET_MS`] without one, not with a success: a loop that succeeds now and then is one loop.

use serde::{Deserialize, Serialize};

use super::Nano;
use super::alarm::{ATTENDED_MS, Incident, Kind, Seen, Told};
use super::who::Who;
use crate::domain::identity;

/// Failures of one tool in a row.
pub const IN_A_ROW: u64 = 8;
/// Failures of all tools in a row.
pub const OF_ALL: u64 = 12;
/// Failures of one tool without a success of it.
pub const STUBBORN: u64 = 40;
/// Failed calls of the model in a row.
pub const RETRIES: u64 = 20;
/// After such a time without a failure a loop is over, in ms.
pub const QUIET_MS: u64 = 10 * 60_000;

/// The most sessions; the one untouched longest gives way.
const MAX_SESSIONS: usize = 512;
/// The most tools of a session that are told apart.
const MAX_TOOLS: usize = 8;

/// Failures of a tool.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Tool {
    name: String,
    /// Since any tool succeeded.
    in_a_row: u64,
    /// Since this one did.
    stubborn: u64,
}

/// What is known of a session.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Session {
    key: Option<String>,
    person_ms: Option<u64>,
    failed_ms: u64,
    tools: Vec<Tool>,
    retries: u64,
    /// Whether answers are told.
    tells_answers: bool,
    /// Whether the model answered since the last failure of a tool that counted.
    has_answered: bool,
    open: Vec<Incident>,
}

/// See the module. The session touched last is the last.
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
            // Incidents that nobody would end any more end.
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

    /// Whether a person attends the session; so too where nobody tells of persons.
    pub(super) fn is_attended(&self, who: &Who, at_ms: u64) -> bool {
        let mut sessions = self.0.iter().rev();
        let session = sessions.find(|session| session.key == who.session);
        let person_ms = session.and_then(|session| session.person_ms);
        person_ms.is_none_or(|person_ms| at_ms.saturating_sub(person_ms) < ATTENDED_MS)
    }
}

impl Session {
    /// Ends what had no failure for long.
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

    /// The incident that begins with this.
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

    /// An incident, unless one of its kind is open.
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
