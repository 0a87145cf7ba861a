//! Sessions: the attributes that their calls inherit, and the sums of their counted calls, which are compared with
//! reported totals. The submodules read OpenClaw's session store.

use std::collections::VecDeque;

use indexmap::IndexMap;

use crate::domain::call::{Latency, LatencySource, Origin, Usage};
use crate::domain::identity;
use crate::domain::observation::Observation;
use crate::journal::Frame;
use crate::matching::Settled;
use crate::sources::{Aggregate, ModelTotal, SessionFacts};
use crate::spending::who::Who;

/// Maximum number of sessions; the least recently used are evicted.
const MAX_SESSIONS: usize = 4_096;
/// Maximum number of a session's calls that wait for a total.
const MAX_UNCOMPARED: usize = 256;
/// A total is reported right after its last call, whose own time may be a little later. Tolerance in ms.
const SAME_MOMENT_MS: u64 = 50;
/// Maximum number of models per session.
const MAX_MODELS: usize = 64;

/// Sums of one model's counted calls.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Counted {
    pub(crate) requests: u64,
    pub(crate) prompt: u64,
    pub(crate) completion: u64,
    pub(crate) cost_usd: f64,
}

impl Counted {
    fn of(call: &Settled) -> Self {
        let usage = call.usage.unwrap_or_default();
        Self {
            requests: 1,
            prompt: usage.prompt(),
            completion: usage.output,
            cost_usd: call.cost.usd,
        }
    }

    fn add(&mut self, more: &Self) {
        self.requests = self.requests.saturating_add(more.requests);
        self.prompt = self.prompt.saturating_add(more.prompt);
        self.completion = self.completion.saturating_add(more.completion);
        self.cost_usd += more.cost_usd;
    }
}

#[derive(Debug, Clone, Default)]
struct Session {
    last_used: u64,
    agent: Option<String>,
    run_id: Option<String>,
    trigger: Option<String>,
    /// Of the present run; `tool` is the last one that began.
    origin: Origin,
    /// When that tool began, in ms since 1970.
    tool_ms: u64,
    models: Vec<(String, Counted)>,
    /// Calls that were not compared with a total yet: end in ms since 1970, and tokens.
    uncompared: VecDeque<(u64, u64)>,
}

/// One request of a session's total that no call had counted.
#[derive(Debug, Clone, PartialEq)]
pub struct Missing {
    /// The model, by the name in the session's calls, else in the total.
    pub model: String,
    /// The request's share of the missing tokens.
    pub usage: Usage,
    /// The request's share of the missing cost, in USD.
    pub cost_usd: Option<f64>,
    /// The average latency.
    pub latency: Option<Latency>,
}

/// The sessions of one gateway.
#[derive(Debug, Default)]
pub struct Sessions {
    map: IndexMap<String, Session>,
    clock: u64,
    /// Sessions that were evicted because the table was full.
    pub evicted: u64,
}

impl Sessions {
    /// Number of sessions.
    pub fn len(&self) -> usize {
        self.map.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.map.is_empty()
    }

    /// Whether the session's last known run has this id.
    pub fn is_last_run(&self, key: &str, run_id: &str) -> bool {
        let session = self.map.get(key);
        session.is_some_and(|session| session.run_id.as_deref() == Some(run_id))
    }

    /// Stores a session's attributes.
    pub fn learn(&mut self, facts: SessionFacts) {
        let session = self.use_session(&facts.session_key);
        session.agent = facts.agent.or(session.agent.take());
        let is_same_run = facts.run_id.is_some() && facts.run_id == session.run_id;
        let is_other_run = facts.begins_run && !is_same_run;
        if facts.run_id.is_some() || facts.ended {
            session.run_id = facts.run_id;
        }
        let told = facts.origin;
        if is_other_run || facts.ended {
            let job = session.origin.job.take();
            session.origin = Origin {
                // A job's message may come before the run that it begins, and the job wakes no user's run.
                job: job.filter(|_| facts.trigger.as_deref() != Some("user") && !facts.ended),
                tool: session.origin.tool.take().filter(|_| !facts.ended),
                ..Origin::default()
            };
        }
        if facts.trigger.is_some() || facts.ended {
            session.trigger = facts.trigger;
        }
        let known = &mut session.origin;
        for (known, told) in [
            (&mut known.channel, told.channel),
            (&mut known.job, told.job),
            (&mut known.skill, told.skill),
        ] {
            *known = told.or(known.take());
        }
    }

    /// A turn began: with the message of this cron job, or of a person.
    pub fn begin_turn(&mut self, key: &str, job: Option<String>) {
        let session = self.use_session(key);
        session.origin.job = job;
        session.origin.tool = None;
    }

    /// A message of this channel reached a session.
    pub fn received(&mut self, key: &str, channel: Option<String>) {
        if channel.is_some() {
            self.use_session(key).origin.channel = channel;
        }
    }

    /// A tool began in a session.
    pub fn tool_began(&mut self, key: &str, tool: &str, at_ms: u64) {
        let session = self.use_session(key);
        session.origin.tool = Some(identity::name(tool));
        session.tool_ms = at_ms;
    }

    /// Fills in what the session knows of a call that a live surface reports now. A stored row may be of an earlier run.
    pub fn attribute(&self, call: &mut Observation) {
        let key = call.session_key.as_deref();
        let Some(session) = key.and_then(|key| self.map.get(key)) else {
            return;
        };
        let is_of_run = call.run_id.is_some() && call.run_id == session.run_id;
        if call.surface.is_stored() && !is_of_run {
            return;
        }
        let (own, known) = (&mut call.origin, &session.origin);
        own.fill(known);
        call.trigger = call.trigger.take().or(session.trigger.clone());
        let began_ms = call.started_ms.unwrap_or(call.ended_ms);
        // A report may come after the next tool began.
        let tool = known.tool.as_ref().filter(|_| session.tool_ms <= began_ms);
        own.tool = own.tool.take().or_else(|| tool.cloned());
    }

    /// Fills in the attributes that the call's surfaces did not report.
    pub fn complete(&self, call: &mut Settled) {
        let key = call.session_key.as_deref();
        if let Some(session) = key.and_then(|key| self.map.get(key)) {
            call.agent = call.agent.take().or(session.agent.clone());
            call.run_id = call.run_id.take().or(session.run_id.clone());
            // The call's trigger comes from the session's key and wins: a gateway reports `user` for a subagent's run.
            call.trigger = call.trigger.take().or(session.trigger.clone());
            if !call.stored {
                call.origin.fill(&session.origin);
            }
        }
    }

    /// Fills in what the session knows of a call that begins, or was just reported.
    pub fn fill(&self, who: &mut Who) {
        let key = who.session.as_deref();
        let Some(session) = key.and_then(|key| self.map.get(key)) else {
            return;
        };
        for (own, known) in [
            (&mut who.agent, &session.agent),
            (&mut who.trigger, &session.trigger),
            (&mut who.channel, &session.origin.channel),
            (&mut who.job, &session.origin.job),
        ] {
            if own.is_none() {
                own.clone_from(known);
            }
        }
    }

    /// The model of a session's calls, `provider/model`; of several the one that was used first last.
    pub fn last_model(&self, key: &str) -> Option<String> {
        let (model, _) = self.map.get(key)?.models.last()?;
        Some(model.clone())
    }

    /// Adds a final call to its session's sums. Returns the journal frame.
    pub fn count(&mut self, call: &Settled) -> Option<Frame> {
        let key = call.session_key.as_ref()?;
        let counted = Counted::of(call);
        let name = full_name(call);
        let session = self.use_session(key);
        let tokens = counted.prompt + counted.completion;
        if session.uncompared.len() >= MAX_UNCOMPARED {
            session.uncompared.pop_front();
        }
        session.uncompared.push_back((call.ended_ms, tokens));
        let (_, sum) = session.model(&name)?;
        sum.add(&counted);
        Some(Frame::Counted(key.clone(), name, counted))
    }

    /// Restores sums from the journal.
    pub fn restore(&mut self, key: &str, model: &str, counted: &Counted) {
        let session = self.use_session(key);
        if let Some((_, sum)) = session.model(model) {
            sum.add(counted);
        }
    }

    /// All sums, for a snapshot.
    pub fn frames(&self) -> impl Iterator<Item = Frame> {
        self.map.iter().flat_map(|(key, session)| {
            let models = session.models.iter();
            models.map(|(name, sum)| Frame::Counted(key.clone(), name.clone(), *sum))
        })
    }

    /// Compares a run's total with the calls that had ended by then. Returns the number of tokens that no call accounts
    /// for; 0 where the calls have more than the total (after a compaction, for example).
    pub fn compare(&mut self, aggregate: &Aggregate) -> u64 {
        let session = self.use_session(&aggregate.session_key);
        let was_full = session.uncompared.len() >= MAX_UNCOMPARED;
        let until = aggregate.at_ms + SAME_MOMENT_MS;
        let mut counted = 0;
        session.uncompared.retain(|(ended_ms, tokens)| {
            let is_part = *ended_ms <= until;
            counted += if is_part { *tokens } else { 0 };
            !is_part
        });
        if session.uncompared.is_empty() {
            // Frees the memory: most sessions have no further calls.
            session.uncompared = VecDeque::new();
        }
        let total = aggregate.usage.prompt() + aggregate.usage.output;
        // An overflowed list lacks calls, so the difference means nothing.
        if was_full {
            0
        } else {
            total.saturating_sub(counted)
        }
    }

    /// The requests of a session's total that its calls had not counted. They are counted with this.
    pub fn remainder(&mut self, key: &str, total: &ModelTotal) -> Vec<Missing> {
        let session = self.use_session(key);
        let Some((model, counted)) = session.model(&total.model) else {
            return Vec::new();
        };
        let model = model.clone();
        let requests = total.requests.saturating_sub(counted.requests);
        if requests == 0 {
            return Vec::new();
        }
        let prompt = total.prompt_tokens.saturating_sub(counted.prompt);
        let completion = total.completion_tokens.saturating_sub(counted.completion);
        let cost = total.cost_usd.map(|usd| (usd - counted.cost_usd).max(0.0));
        counted.requests += requests;
        counted.prompt += prompt;
        counted.completion += completion;
        counted.cost_usd += cost.unwrap_or(0.0);
        (0..requests)
            .map(|index| Missing {
                model: model.clone(),
                usage: Usage {
                    input: share(prompt, requests, index),
                    output: share(completion, requests, index),
                    ..Usage::default()
                },
                cost_usd: cost.map(|usd| usd / requests as f64),
                latency: total.latency_ms.map(|ms| Latency {
                    ms: ms / total.requests.max(1) as f64,
                    source: LatencySource::Measured,
                }),
            })
            .collect()
    }

    fn use_session(&mut self, key: &str) -> &mut Session {
        self.clock += 1;
        if !self.map.contains_key(key) && self.map.len() >= MAX_SESSIONS {
            self.evict();
        }
        let session = self.map.entry(key.to_owned()).or_default();
        session.last_used = self.clock;
        session
    }

    /// Evicts the least recently used sessions, rarely and many at once, so that it costs little.
    fn evict(&mut self) {
        let before = self.map.len();
        // Each use takes the next tick, so at most half of the sessions were used since then.
        let limit = self.clock - (MAX_SESSIONS / 2) as u64;
        self.map.retain(|_, session| session.last_used > limit);
        self.evicted += (before - self.map.len()) as u64;
    }
}

impl Session {
    /// The sums of a model. Totals may name it with or without its provider.
    fn model(&mut self, name: &str) -> Option<(&String, &mut Counted)> {
        let same = |known: &str| known == name || bare(known) == name || known == bare(name);
        match self.models.iter().position(|(known, _)| same(known)) {
            Some(index) => self.models.get_mut(index),
            None if self.models.len() < MAX_MODELS => {
                // Most sessions have one model: capacity for four would be the larger part of a session.
                self.models.reserve_exact(1);
                self.models.push((name.to_owned(), Counted::default()));
                self.models.last_mut()
            }
            None => None,
        }
        .map(|(name, counted)| (&*name, counted))
    }
}

/// The share of one of `parts` in `total`. All shares add up to it exactly.
fn share(total: u64, parts: u64, index: u64) -> u64 {
    total / parts + u64::from(index < total % parts)
}

fn bare(name: &str) -> &str {
    name.split_once('/').map_or(name, |(_, model)| model)
}

fn full_name(call: &Settled) -> String {
    if call.provider.is_empty() {
        call.model.clone()
    } else {
        format!("{}/{}", call.provider, call.model)
    }
}
