//! What is known of sessions: the attributes that calls inherit, and how much each was counted, to
//! compare with totals that others report.

use std::collections::VecDeque;

use indexmap::IndexMap;

use crate::call::{Latency, LatencySource, Usage};
use crate::journal::Frame;
use crate::ledger::Settled;
use crate::observe::{Aggregate, ModelTotal, SessionFacts};

/// The most sessions that are remembered; the one untouched longest gives way.
const MAX_SESSIONS: usize = 4_096;
/// The most calls of a session that wait for a total to be compared with.
const MAX_UNCOMPARED: usize = 256;
/// A total is told right behind its last call, whose own time may be taken a little later, in ms.
const SAME_MOMENT_MS: u64 = 50;
/// The most models that are told apart in one session.
const MAX_MODELS: usize = 64;

/// What was counted of one model.
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
    touched: u64,
    agent: Option<String>,
    run_id: Option<String>,
    trigger: Option<String>,
    models: Vec<(String, Counted)>,
    /// Calls that no total was compared with yet: when each ended, and its tokens.
    uncompared: VecDeque<(u64, u64)>,
}

/// A part of a session's total that no call had counted: one record for each missing request.
#[derive(Debug, Clone, PartialEq)]
pub struct Missing {
    /// The model, as the session's calls name it, else as the total does.
    pub model: String,
    /// The request's share of the tokens.
    pub usage: Usage,
    /// The request's share of the cost, in USD.
    pub cost_usd: Option<f64>,
    /// The average latency.
    pub latency: Option<Latency>,
}

/// The sessions of one gateway.
#[derive(Debug, Default)]
pub struct Sessions {
    map: IndexMap<String, Session>,
    clock: u64,
    /// Sessions forgotten for want of room.
    pub evicted: u64,
}

impl Sessions {
    /// How many sessions are remembered.
    pub fn len(&self) -> usize {
        self.map.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.map.is_empty()
    }

    /// Takes a session's attributes in.
    pub fn learn(&mut self, facts: SessionFacts) {
        let session = self.touch(&facts.session_key);
        session.agent = facts.agent.or(session.agent.take());
        if facts.run_id.is_some() || facts.ended {
            session.run_id = facts.run_id;
        }
        if facts.trigger.is_some() || facts.ended {
            session.trigger = facts.trigger;
        }
    }

    /// Fills in what a call's own surfaces did not say.
    pub fn complete(&self, call: &mut Settled) {
        let key = call.session_key.as_deref();
        if let Some(session) = key.and_then(|key| self.map.get(key)) {
            call.agent = call.agent.take().or(session.agent.clone());
            call.run_id = call.run_id.take().or(session.run_id.clone());
            // A gateway calls a subagent's run `user`; the session's key knows better.
            call.trigger = call.trigger.take().or(session.trigger.clone());
        }
    }

    /// Counts a final call for its session; the fact to journal.
    pub fn count(&mut self, call: &Settled) -> Option<Frame> {
        let key = call.session_key.as_ref()?;
        let counted = Counted::of(call);
        let name = full_name(call);
        let session = self.touch(key);
        let tokens = counted.prompt + counted.completion;
        if session.uncompared.len() >= MAX_UNCOMPARED {
            session.uncompared.pop_front();
        }
        session.uncompared.push_back((call.ended_ms, tokens));
        let (_, sum) = session.model(&name)?;
        sum.add(&counted);
        Some(Frame::Counted(key.clone(), name, counted))
    }

    /// Takes what another process had counted.
    pub fn restore(&mut self, key: &str, model: &str, counted: &Counted) {
        let session = self.touch(key);
        if let Some((_, sum)) = session.model(model) {
            sum.add(counted);
        }
    }

    /// What was counted so far, for a snapshot.
    pub fn frames(&self) -> impl Iterator<Item = Frame> {
        self.map.iter().flat_map(|(key, session)| {
            let models = session.models.iter();
            models.map(|(name, sum)| Frame::Counted(key.clone(), name.clone(), *sum))
        })
    }

    /// Compares a run's total with the calls that had ended by then. The tokens that nobody saw; 0
    /// where more was counted than the total holds (a compaction, say).
    pub fn compare(&mut self, aggregate: &Aggregate) -> u64 {
        let session = self.touch(&aggregate.session_key);
        let was_full = session.uncompared.len() >= MAX_UNCOMPARED;
        let until = aggregate.at_ms + SAME_MOMENT_MS;
        let mut counted = 0;
        session.uncompared.retain(|(ended_ms, tokens)| {
            let is_part = *ended_ms <= until;
            counted += if is_part { *tokens } else { 0 };
            !is_part
        });
        if session.uncompared.is_empty() {
            // Most are, and most sessions have nothing more to come.
            session.uncompared = VecDeque::new();
        }
        let total = aggregate.usage.prompt() + aggregate.usage.output;
        // A list that overflowed has forgotten calls, and proves nothing.
        if was_full {
            0
        } else {
            total.saturating_sub(counted)
        }
    }

    /// The part of a session's total that its calls had not counted, which is counted with this.
    pub fn remainder(&mut self, key: &str, total: &ModelTotal) -> Vec<Missing> {
        let session = self.touch(key);
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

    fn touch(&mut self, key: &str) -> &mut Session {
        self.clock += 1;
        if !self.map.contains_key(key) && self.map.len() >= MAX_SESSIONS {
            self.forget_untouched();
        }
        let session = self.map.entry(key.to_owned()).or_default();
        session.touched = self.clock;
        session
    }

    /// Forgets what was untouched longest, rarely and then much, so that it costs little.
    fn forget_untouched(&mut self) {
        let before = self.map.len();
        // Each touch takes the next tick, so at most half of the sessions were touched since then.
        let limit = self.clock - (MAX_SESSIONS / 2) as u64;
        self.map.retain(|_, session| session.touched > limit);
        self.evicted += (before - self.map.len()) as u64;
    }
}

impl Session {
    /// The count of a model, which totals may name with or without its provider.
    fn model(&mut self, name: &str) -> Option<(&String, &mut Counted)> {
        let same = |known: &str| known == name || bare(known) == name || known == bare(name);
        match self.models.iter().position(|(known, _)| same(known)) {
            Some(index) => self.models.get_mut(index),
            None if self.models.len() < MAX_MODELS => {
                // Most have one: room for four would be the larger part of a session.
                self.models.reserve_exact(1);
                self.models.push((name.to_owned(), Counted::default()));
                self.models.last_mut()
            }
            None => None,
        }
        .map(|(name, counted)| (&*name, counted))
    }
}

/// The part of `total` that falls to one of `parts`; all parts add up to it exactly.
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
