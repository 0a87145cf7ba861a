//! Servers that store everything, and network faults.

use std::collections::{HashMap, HashSet};

use agentwatch_openclaw::delivery::calls::Request;
use agentwatch_openclaw::domain::call::IdMint;
use serde_json::{Value, json};

/// Reproducible random numbers.
pub struct Dice(pub IdMint);

impl Dice {
    pub fn below(&mut self, n: u64) -> u64 {
        self.0.bits() % n
    }
}

/// Result of the next request.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Fate {
    /// Request and answer arrive.
    Good,
    /// Nothing listens.
    Unreachable,
    /// The request arrives; the answer is lost.
    AnswerLost,
    /// The server answers this status without reading the request.
    Refused(u16),
    /// The request arrives; an intermediary corrupts the answer's body.
    Garbled,
    /// The server dies inside the batch, after this many inserts, and answers 500.
    Torn(u64),
}

/// The kinds of servers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    /// AgentWatch 0.1.0, as recorded: a batch's costs are inserted before its model usage, each on its own, and a cost
    /// with a known id is an error.
    Stock,
    /// A receiver that announces support for record ids.
    Ids,
}

/// A server that stores everything.
pub struct Server {
    pub kind: Kind,
    /// Ids of costs, in order.
    pub costs: Vec<(String, String, String)>,
    /// Ids of model usage, in order. A stock server does not store them; the test does.
    pub usage: Vec<String>,
    /// The prompt of each call, in tokens.
    pub prompts: Vec<u64>,
    /// Calls with a stored cost and no usage, since the server died in between.
    pub torn: HashSet<String>,
    /// Maximum number of records in a body.
    pub largest: usize,
    /// A record that this server cannot store.
    pub poison: Option<String>,
}

impl Server {
    pub fn new(kind: Kind) -> Self {
        Self {
            kind,
            costs: Vec::new(),
            usage: Vec::new(),
            prompts: Vec::new(),
            torn: HashSet::new(),
            largest: usize::MAX,
            poison: None,
        }
    }

    pub fn answer(&mut self, request: &Request, inserts: u64) -> (u16, String) {
        match &request.body {
            Some(body) => self.batch(&serde_json::from_str(body).unwrap(), inserts),
            None if request.path.ends_with("/capabilities") => match self.kind {
                Kind::Ids => (200, json!({"features": ["record_ids"]}).to_string()),
                Kind::Stock => (404, "not found".into()),
            },
            None => (200, self.guards(&request.path)),
        }
    }

    fn batch(&mut self, batch: &Value, mut inserts: u64) -> (u16, String) {
        let records = |kind: &str| batch[kind].as_array().cloned().unwrap_or_default();
        let text = |record: &Value, name: &str| record[name].as_str().unwrap().to_owned();
        let (costs, usage) = (records("costs"), records("model_usage"));
        if costs.len() > self.largest {
            return (413, "too large".into());
        }
        assert_eq!(costs.len(), usage.len(), "a call travels as both");
        let mut guarded = Vec::new();
        for cost in &costs {
            let id = text(cost, "id");
            let known = self.costs.iter().any(|(known, _, _)| *known == id);
            if known && self.kind == Kind::Ids {
                continue;
            }
            if known || inserts == 0 || self.poison.as_deref() == Some(&id) {
                // The costs before it in the batch are stored, without usage.
                self.torn.extend(guarded);
                return (500, "Internal Server Error".into());
            }
            inserts -= 1;
            let row = (id.clone(), text(cost, "agent_name"), text(cost, "model"));
            self.costs.push(row);
            guarded.push(id);
        }
        for record in &usage {
            let id = text(record, "id");
            if self.kind == Kind::Ids && self.usage.contains(&id) {
                continue;
            }
            if inserts == 0 {
                let stored: HashSet<&String> = self.usage.iter().collect();
                let missing = guarded.iter().filter(|id| !stored.contains(id));
                self.torn.extend(missing.cloned());
                return (500, "Internal Server Error".into());
            }
            inserts -= 1;
            self.usage.push(id);
            self.prompts.push(record["prompt_tokens"].as_u64().unwrap());
        }
        (200, json!({"status": "ok"}).to_string())
    }

    fn guards(&self, path: &str) -> String {
        let query = path.strip_prefix("/api/costs/usage?").expect(path);
        let query: HashMap<&str, String> = query
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .map(|(name, value)| (name, value.replace("%2F", "/")))
            .collect();
        let rows = self
            .costs
            .iter()
            .rev()
            .filter(|(_, agent, model)| *agent == query["agent"] && *model == query["model"])
            .take(query["limit"].parse().unwrap())
            .map(|(id, _, _)| json!({"id": id}));
        Value::Array(rows.collect()).to_string()
    }
}
