//! A process with allowances whose clocks the test sets.
#![allow(dead_code, reason = "each test uses a part of this")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use agentwatch_openclaw::domain::call::{Cost, CostSource, Usage};
use agentwatch_openclaw::domain::identity::Identities;
use agentwatch_openclaw::domain::time::{Now, parse_iso};
use agentwatch_openclaw::sources::facts::Scalar;
use agentwatch_openclaw::spending::allowance::{
    Brake, Ended, Entry, State, Stop, Verdict, Warning,
};
use agentwatch_openclaw::spending::settings::{self, Allowance};
use agentwatch_openclaw::spending::who::Who;
use jiff::tz::TimeZone;
use serde_json::Value;

/// An object comes as a list of pairs.
pub fn scalar(value: &Value) -> Scalar {
    match value {
        Value::Null => Scalar::Absent,
        Value::Bool(flag) => Scalar::Bool(*flag),
        Value::Number(number) => Scalar::Number(number.as_f64().unwrap()),
        Value::String(text) => Scalar::Text(text.clone()),
        Value::Array(list) => Scalar::List(list.iter().map(scalar).collect()),
        Value::Object(map) => Scalar::List(
            map.iter()
                .map(|(name, value)| Scalar::List(vec![Scalar::Text(name.clone()), scalar(value)]))
                .collect(),
        ),
    }
}

pub fn zones(name: &str) -> Option<TimeZone> {
    match name {
        "UTC" => Some(TimeZone::UTC),
        "Europe/Berlin" => TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").ok(),
        _ => None,
    }
}

pub fn read(value: &Value) -> (Vec<Allowance>, Vec<String>) {
    let identities = Identities::new([7; 16], false);
    settings::read(&scalar(value), "Europe/Berlin", &identities, &zones)
}

pub fn allowances(value: &Value) -> Vec<Allowance> {
    let (allowances, problems) = read(value);
    assert!(problems.is_empty(), "{problems:?}");
    allowances
}

/// A process: both clocks go on together.
pub struct World {
    pub brake: Brake,
    pub now: Now,
    pub entries: Vec<Entry>,
}

pub fn world(value: &Value, at: &str) -> World {
    World {
        brake: Brake::new(allowances(value), State::default()),
        now: Now {
            wall_ms: parse_iso(at).unwrap(),
            mono_ms: 1_000,
        },
        entries: Vec::new(),
    }
}

pub fn who(agent: &str) -> Who {
    Who {
        agent: Some(agent.to_owned()),
        ..Who::default()
    }
}

impl World {
    pub fn pass(&mut self, ms: u64) {
        self.now.wall_ms += ms;
        self.now.mono_ms += ms;
    }

    pub fn spend_by(&mut self, who: &Who, usd: f64, ended_ms: u64) -> Vec<Warning> {
        let call = Ended {
            who,
            model: "anthropic/claude",
            cost: Cost {
                usd,
                source: CostSource::Provider,
            },
            usage: Some(Usage {
                input: 90,
                output: 10,
                ..Usage::default()
            }),
            ended_ms,
        };
        let entry = self.brake.spent(&call, self.now);
        let warnings = self.brake.apply(&entry);
        self.entries.push(entry);
        warnings
    }

    pub fn spend(&mut self, agent: &str, usd: f64) -> Vec<Warning> {
        self.spend_by(&who(agent), usd, self.now.wall_ms)
    }

    pub fn percents(&mut self, agent: &str, usd: f64) -> Vec<u8> {
        self.spend(agent, usd)
            .iter()
            .map(|warning| warning.percent)
            .collect()
    }

    pub fn verdict(&mut self, agent: &str) -> Option<Stop> {
        match self
            .brake
            .admit(None, &who(agent), "anthropic/claude", self.now)
        {
            Verdict::Pass => None,
            Verdict::Stop(stop) => Some(*stop),
        }
    }

    pub fn stops(&mut self, agent: &str) -> bool {
        self.verdict(agent).is_some()
    }

    pub fn spent(&mut self) -> f64 {
        self.brake.tick(self.now);
        self.brake.allowances().next().unwrap().1.spent.usd.usd()
    }

    /// Another process, with what was written.
    pub fn restart(&mut self, value: &Value) {
        let bytes = postcard::to_allocvec(self.brake.state()).unwrap();
        let state = postcard::from_bytes(&bytes).unwrap();
        self.brake = Brake::new(allowances(value), state);
        self.now.mono_ms = 5;
    }
}
