//! Shared by the tests: recorded gateways, the shim's `pick`, and a gateway around the engine whose receiver adds up what
//! it gets.
#![allow(dead_code, reason = "each test uses a part of this")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

#[cfg(not(target_arch = "wasm32"))]
pub mod billing;
pub mod disk;
#[cfg(not(target_arch = "wasm32"))]
pub mod server;
#[cfg(all(unix, not(target_arch = "wasm32")))]
pub mod shared;
#[cfg(not(target_arch = "wasm32"))]
pub mod stored;
#[cfg(not(target_arch = "wasm32"))]
pub mod usage;
#[cfg(not(target_arch = "wasm32"))]
pub mod world;

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};

use agentwatch_openclaw::delivery::calls::Request;
use agentwatch_openclaw::delivery::reply::Reply;
use agentwatch_openclaw::delivery::webhook;
use agentwatch_openclaw::domain::time::Now;
use agentwatch_openclaw::domain::usage::fact_of;
use agentwatch_openclaw::engine::Engine;
use agentwatch_openclaw::engine::settings::RawSettings;
use agentwatch_openclaw::sources::SOURCES;
use agentwatch_openclaw::sources::facts::{Field, Scalar};
use serde_json::{Value, json};

use disk::Disk;

/// Difference of wall clock and monotonic clock in all tests, in ms.
const MONO_ORIGIN_MS: u64 = 1_700_000_000_000;

/// Both clocks at a time of the wall clock.
pub fn at(wall_ms: u64) -> Now {
    Now {
        wall_ms,
        mono_ms: wall_ms - MONO_ORIGIN_MS,
    }
}

// ---------------------------------------------------------------------------------------------
// Recorded gateways

/// A run of a real gateway.
pub struct Capture {
    /// Its version.
    pub version: &'static str,
    /// The events of its plugin, in order of arrival.
    pub events: Vec<Recorded>,
    /// The answers of its provider.
    pub provider: Totals,
    /// Whether this version emits an event for each call, with or without usage.
    pub tells_calls: bool,
    /// Whether those events have usage.
    pub tells_usage: bool,
    /// Failed calls that this version's diagnostics report as completed without usage.
    pub failures_shown_as_answers: u64,
    /// Its session store at the end: `{agent, session_id, row}` each.
    pub transcript: Vec<Value>,
}

/// One event that reached the plugin.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// The hook or the type of the diagnostic.
    pub source: String,
    /// `{event, ctx}`: the handler's arguments.
    pub args: Value,
    /// Time of arrival, in ms since 1970.
    pub at_ms: u64,
    /// The surface that reported it.
    pub by: By,
}

/// A surface of a gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// `before_message_write`.
    Message,
    /// `model.call.*`.
    CallDiagnostic,
    /// `model_call_ended`.
    Timing,
    /// Anything else: sessions, runs, totals, tools.
    Other,
}

/// Every recorded gateway.
pub fn captures() -> Vec<Capture> {
    vec![
        Capture {
            version: "2026.3.13",
            tells_calls: false,
            tells_usage: false,
            failures_shown_as_answers: 0,
            events: events(include_str!(
                "../../../tests/fixtures/captures/2026.3.13/events.jsonl"
            )),
            provider: provider(include_str!(
                "../../../tests/fixtures/captures/2026.3.13/provider.jsonl"
            )),
            transcript: lines(include_str!(
                "../../../tests/fixtures/captures/2026.3.13/transcript.jsonl"
            ))
            .collect(),
        },
        Capture {
            version: "2026.6.11",
            tells_calls: true,
            tells_usage: false,
            failures_shown_as_answers: 0,
            events: events(include_str!(
                "../../../tests/fixtures/captures/2026.6.11/events.jsonl"
            )),
            provider: provider(include_str!(
                "../../../tests/fixtures/captures/2026.6.11/provider.jsonl"
            )),
            transcript: lines(include_str!(
                "../../../tests/fixtures/captures/2026.6.11/transcript.jsonl"
            ))
            .collect(),
        },
        Capture {
            version: "2026.8.2",
            tells_calls: true,
            tells_usage: true,
            failures_shown_as_answers: 1,
            events: events(include_str!(
                "../../../tests/fixtures/captures/2026.8.2/events.jsonl"
            )),
            provider: provider(include_str!(
                "../../../tests/fixtures/captures/2026.8.2/provider.jsonl"
            )),
            transcript: lines(include_str!(
                "../../../tests/fixtures/captures/2026.8.2/transcript.jsonl"
            ))
            .collect(),
        },
        Capture {
            version: "2026.9.6",
            tells_calls: true,
            tells_usage: true,
            failures_shown_as_answers: 0,
            events: events(include_str!(
                "../../../tests/fixtures/captures/2026.9.6/events.jsonl"
            )),
            provider: provider(include_str!(
                "../../../tests/fixtures/captures/2026.9.6/provider.jsonl"
            )),
            transcript: lines(include_str!(
                "../../../tests/fixtures/captures/2026.9.6/transcript.jsonl"
            ))
            .collect(),
        },
    ]
}

impl Capture {
    /// The recorded events of these surfaces, and those that are about no call.
    pub fn only(&self, surfaces: &[By]) -> Vec<Recorded> {
        let kept = |event: &&Recorded| event.by == By::Other || surfaces.contains(&event.by);
        self.events.iter().filter(kept).cloned().collect()
    }
}

/// The events, with those of one surface arriving later; the times in the events do not change.
pub fn delayed(events: &[Recorded], surface: By, by_ms: u64) -> Vec<Recorded> {
    let mut events = events.to_vec();
    for event in &mut events {
        event.at_ms += u64::from(event.by == surface) * by_ms;
    }
    events.sort_by_key(|event| event.at_ms);
    events
}

fn lines(text: &str) -> impl Iterator<Item = Value> {
    text.lines()
        .map(|line| serde_json::from_str(line).expect("a fixture's line is JSON"))
}

fn events(text: &str) -> Vec<Recorded> {
    let event = |line: Value| {
        let source = line["hook"].as_str().or(line["diagnostic"].as_str());
        let source = source.expect("a source").to_owned();
        let by = match source.as_str() {
            "before_message_write" => By::Message,
            "model.call.completed" | "model.call.error" => By::CallDiagnostic,
            "model_call_ended" => By::Timing,
            _ => By::Other,
        };
        Recorded {
            source,
            args: json!({"event": line["event"], "ctx": line["ctx"]}),
            at_ms: line["ts"].as_u64().expect("a time"),
            by,
        }
    };
    lines(text).map(event).collect()
}

fn provider(text: &str) -> Totals {
    let mut totals = Totals::default();
    for request in lines(text) {
        let usage = &request["usage"];
        let answered = request["status"] == 200 && request["clientClosed"] == false;
        if usage.is_null() && !answered {
            continue;
        }
        let tokens = |name: &str| usage[name].as_u64().unwrap_or(0);
        let (input, cached, output) = (tokens("input"), tokens("cacheRead"), tokens("output"));
        let cost_usd = (input as f64 * 3.0 + output as f64 * 15.0 + cached as f64 * 0.3) / 1e6;
        let model = format!("mock/{}", request["model"].as_str().expect("a model"));
        totals.add(&model, 1, input + cached, output, cost_usd);
    }
    totals
}

// ---------------------------------------------------------------------------------------------
// Totals

/// Per model: requests, prompt tokens, completion tokens, USD.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Totals(pub BTreeMap<String, Total>);

/// One model's total.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Total {
    /// Number of requests.
    pub requests: u64,
    /// Tokens of the whole prompts.
    pub prompt: u64,
    /// Tokens of the answers.
    pub completion: u64,
    /// In USD.
    pub cost_usd: f64,
    /// The largest prompt.
    pub largest: u64,
}

impl Totals {
    /// Adds to a model's total.
    pub fn add(&mut self, model: &str, requests: u64, prompt: u64, completion: u64, usd: f64) {
        let total = self.0.entry(model.to_owned()).or_default();
        total.requests += requests;
        // Saturates, since a made-up journal may hold any numbers.
        total.prompt = total.prompt.saturating_add(prompt);
        total.largest = total.largest.max(prompt);
        total.completion = total.completion.saturating_add(completion);
        total.cost_usd += usd;
    }

    /// All requests of all models.
    pub fn requests(&self) -> u64 {
        self.0.values().map(|total| total.requests).sum()
    }

    /// Asserts equal totals: counts exactly, costs within 1e-6 USD.
    #[track_caller]
    pub fn assert_equals(&self, expected: &Totals, what: &str) {
        let counts = |totals: &Totals| {
            let count = |(model, t): (&String, &Total)| {
                (model.clone(), (t.requests, t.prompt, t.completion))
            };
            totals.0.iter().map(count).collect::<BTreeMap<_, _>>()
        };
        assert_eq!(counts(self), counts(expected), "{what}");
        for (model, total) in &self.0 {
            let apart = (total.cost_usd - expected.0[model].cost_usd).abs();
            assert!(
                apart < 1e-6,
                "{what}: the cost of {model} is {apart} USD off"
            );
        }
    }
}

// ---------------------------------------------------------------------------------------------
// The shim's `pick`, from JSON

/// Copies a source's declared scalars from a handler's arguments; `None` where the table's `only` does not match.
pub fn pick(source: usize, args: &Value) -> Option<Vec<Scalar>> {
    let table = &SOURCES[source];
    if let Some((path, wanted)) = table.only
        && first(args, path).text() != Some(wanted)
    {
        return None;
    }
    let row = |root: &Value, fields: &[Field]| -> Vec<Scalar> {
        let fact = |field: &Field| match field.path.strip_prefix("usage:") {
            Some(path) => usage(root, path),
            None => first(root, field.path),
        };
        fields.iter().map(fact).collect()
    };
    let mut facts = row(args, table.fields);
    if let Some(list) = table.list {
        let found = list
            .path
            .split('|')
            .find_map(|path| follow(args, path)?.as_array());
        let entries = found.into_iter().flatten().take(list.max);
        let entries = entries.map(|entry| Scalar::List(row(entry, list.fields)));
        *facts.last_mut().expect("a list has a field") = Scalar::List(entries.collect());
    }
    Some(facts)
}

/// The usage object at the first of these paths that has one.
fn usage(root: &Value, path: &str) -> Scalar {
    let found = path.split('|').find_map(|one| follow(root, one));
    found.map_or(Scalar::Absent, |usage| fact_of(&usage.to_string()))
}

/// The first present alternative of a field.
fn first(root: &Value, path: &str) -> Scalar {
    let (kind, path) = match path.split_once(':') {
        Some((kind @ ("noise" | "preview" | "time"), rest)) => (kind, rest),
        _ => ("", path),
    };
    let found = path.split('|').map(|one| match follow(root, one) {
        Some(value) => scalar(value),
        None => Scalar::Absent,
    });
    let fact = found.into_iter().find(|fact| !fact.is_absent());
    match (kind, fact.unwrap_or_default()) {
        ("noise", fact) => Scalar::Bool(fact.text().is_none()),
        ("preview", _) => Scalar::Absent,
        (_, fact) => fact,
    }
}

fn follow<'a>(root: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.').try_fold(root, |value, key| value.get(key))
}

/// A JSON value as the shim would copy it.
pub fn scalar(value: &Value) -> Scalar {
    match value {
        Value::Null => Scalar::Absent,
        Value::Bool(flag) => Scalar::Bool(*flag),
        Value::Number(number) => Scalar::Number(number.as_f64().expect("a number")),
        Value::String(text) => Scalar::Text(text.clone()),
        Value::Array(_) | Value::Object(_) => Scalar::List(Vec::new()),
    }
}

// ---------------------------------------------------------------------------------------------
// A receiver and a gateway

/// An AgentWatch that supports record ids: it counts a record once.
#[derive(Default)]
pub struct Receiver {
    pub ids: BTreeSet<String>,
    /// The counted totals.
    pub totals: Totals,
    /// The calls, as they first arrived.
    pub calls: Vec<Value>,
    /// The enrichments.
    pub enrichments: Vec<Value>,
    /// The traces.
    pub traces: Vec<Value>,
    /// Records of the other lists, once per id.
    pub others: BTreeMap<String, Vec<Value>>,
    /// The ids of calls and enrichments in order of arrival; those of enrichments have a plus.
    pub order: Vec<String>,
    /// Whether a body that is no batch is refused, as AgentWatch does; otherwise it fails the test.
    pub refuses_rubbish: bool,
}

impl Receiver {
    /// Answers a request.
    pub fn answer(&mut self, request: &Request) -> Reply {
        let body = match &request.body {
            None => r#"{"features": ["record_ids"]}"#.to_owned(),
            Some(body) => {
                let batch = serde_json::from_str(body);
                if batch.is_err() && self.refuses_rubbish {
                    return Reply::of(400, "");
                }
                let batch: Value = batch.expect("a batch is JSON");
                for record in batch["model_usage"].as_array().into_iter().flatten() {
                    self.take(record);
                }
                for list in ["logs", "health", "metrics"] {
                    let others = self.others.entry(list.to_owned()).or_default();
                    for record in batch[list].as_array().into_iter().flatten() {
                        let is_known = |known: &Value| known["id"] == record["id"];
                        if record["id"].is_null() || !others.iter().any(is_known) {
                            others.push(record.clone());
                        }
                    }
                }
                let traces = batch["traces"].as_array().into_iter().flatten();
                self.traces.extend(traces.cloned());
                let known = batch["enrichments"].as_array().into_iter().flatten();
                for known in known {
                    let Some(id) = known["id"].as_str() else {
                        assert!(self.refuses_rubbish, "an enrichment has an id");
                        continue;
                    };
                    self.order.push(["+", id].concat());
                    self.enrichments.push(known.clone());
                }
                r#"{"status": "ok"}"#.to_owned()
            }
        };
        Reply::of(200, &body)
    }

    /// The records of a list other than calls.
    pub fn records(&self, list: &str) -> &[Value] {
        self.others.get(list).map_or(&[], Vec::as_slice)
    }

    fn take(&mut self, record: &Value) {
        let id = record["id"].as_str().expect("an id").to_owned();
        if !self.ids.insert(id) {
            return;
        }
        self.order
            .push(record["id"].as_str().expect("an id").to_owned());
        self.calls.push(record.clone());
        let count = |name: &str| record[name].as_u64().expect(name);
        self.totals.add(
            record["model"].as_str().expect("a model"),
            1,
            count("prompt_tokens"),
            count("completion_tokens"),
            record["cost_usd"].as_f64().expect("a cost"),
        );
    }
}

/// Settings from JSON, as the shim passes them.
pub fn settings(json: &str) -> RawSettings {
    let json: Value = serde_json::from_str(json).expect("settings");
    RawSettings::from_names(|name| json.get(*name).map_or(Scalar::Absent, pairs))
}

/// A setting as the shim passes it: an object is a list of pairs.
fn pairs(value: &Value) -> Scalar {
    match value {
        Value::Object(map) => {
            let pair = |(name, value)| Scalar::List(vec![Scalar::Text(name), pairs(&value)]);
            Scalar::List(map.clone().into_iter().map(pair).collect())
        }
        Value::Array(list) => Scalar::List(list.iter().map(pairs).collect()),
        other => scalar(other),
    }
}

/// Settings of a gateway whose receiver is [`Receiver`].
pub const SETTINGS: &str = r#"{"url": "http://receiver.test", "identities": "plain"}"#;

/// The engine with a test's version of the shim's pipeline: events, time, requests.
pub struct Gateway {
    /// The engine.
    pub engine: Engine,
    /// The receiver, which outlives the engine.
    pub receiver: Receiver,
    /// All log lines.
    pub log: Vec<String>,
    /// The journal's files.
    pub disk: Disk,
    /// The requests that the webhook accepted.
    pub notices: Vec<webhook::Request>,
    /// The webhook's next answers; then 200.
    pub webhook_answers: Vec<u16>,
    /// How far the wall clock is ahead, in ms. All times that are passed to these functions are true times.
    pub ahead_ms: i64,
    /// The settings of the next engine, as JSON.
    pub settings: String,
    expect_diagnostics: bool,
    seed: u64,
    /// The last time that was passed to these functions.
    last_ms: Cell<u64>,
}

impl Gateway {
    /// A gateway; `expect_diagnostics` as after its subscription.
    pub fn new(expect_diagnostics: bool) -> Self {
        Self::with(SETTINGS, expect_diagnostics)
    }

    /// A gateway with settings, as JSON.
    pub fn with(settings: &str, expect_diagnostics: bool) -> Self {
        let mut gateway = Self::unopened(settings, expect_diagnostics, 1);
        let now = gateway.now(MONO_ORIGIN_MS);
        gateway.engine.open(gateway.disk.host(), now);
        gateway
    }

    /// A gateway whose engine has no disk yet. Engines with the same seed give the same ids.
    pub fn unopened(settings: &str, expect_diagnostics: bool, seed: u64) -> Self {
        let mut gateway = Self {
            engine: Engine::new(&RawSettings::default(), 0),
            receiver: Receiver::default(),
            log: Vec::new(),
            disk: Disk::default(),
            notices: Vec::new(),
            webhook_answers: Vec::new(),
            ahead_ms: 0,
            settings: settings.to_owned(),
            expect_diagnostics,
            seed,
            last_ms: Cell::new(MONO_ORIGIN_MS),
        };
        gateway.engine = gateway.fresh_core();
        gateway
    }

    /// Both clocks at a time.
    pub fn now(&self, at_ms: u64) -> Now {
        self.last_ms.set(at_ms);
        Now {
            wall_ms: at_ms.saturating_add_signed(self.ahead_ms),
            ..at(at_ms)
        }
    }

    fn fresh_core(&mut self) -> Engine {
        let raw = settings(&self.settings);
        self.seed += 1;
        let mut engine = Engine::new(&raw, self.seed);
        engine.expect_diagnostics(self.expect_diagnostics);
        engine
    }

    /// Replaces the engine by one that continues from the journal, as the shim does after a crash.
    pub fn restart(&mut self, wall_ms: u64) {
        self.engine = self.fresh_core();
        let now = self.now(wall_ms);
        self.engine.open(self.disk.host(), now);
    }

    /// Passes one event to every source of this name.
    pub fn hear(&mut self, source: &str, args: &Value, wall_ms: u64) {
        for (index, table) in SOURCES.iter().enumerate() {
            if table.source == source
                && let Some(facts) = pick(index, args)
            {
                let now = self.now(wall_ms);
                self.engine.observe(index, facts, now);
            }
        }
        self.write();
    }

    /// Advances the time, doing the work when it is due.
    pub fn run_until(&mut self, from_ms: u64, until_ms: u64) {
        let mut wall = from_ms;
        for wakes in 0.. {
            assert!(
                wakes < 10_000,
                "the engine asks to be woken again and again"
            );
            self.advance(wall);
            self.write();
            self.advance(wall);
            self.send(wall, false);
            // The consequences of the answers are on disk before time passes.
            self.advance(wall);
            self.write();
            let wake = self.advance(wall);
            match wake.map(|ms| wall + ms.max(1)) {
                Some(next) if next <= until_ms => wall = next,
                _ => return,
            }
        }
    }

    /// Does the due work. Returns when to call again, in ms.
    pub fn advance(&mut self, wall_ms: u64) -> Option<u64> {
        let now = self.now(wall_ms);
        let advice = self.engine.advance(now);
        let lines = advice.log.into_iter().map(|line| line.text);
        self.log.extend(lines);
        advice.wake_in_ms
    }

    /// Sends all due requests.
    pub fn send(&mut self, wall_ms: u64, hurry: bool) {
        let mut next = self.engine.begin(self.now(wall_ms), hurry);
        while let Some(request) = next {
            let reply = self.receiver.answer(&request);
            next = self.engine.answered(&reply, self.now(wall_ms));
            next = next.or_else(|| self.engine.begin(self.now(wall_ms), hurry));
        }
        let now = self.now(wall_ms);
        while let Some(request) = self.engine.begin_webhook(now, hurry) {
            let status = match self.webhook_answers.is_empty() {
                true => 200,
                false => self.webhook_answers.remove(0),
            };
            self.engine.answered_webhook(&Reply::of(status, ""), now);
            self.notices.extend((status == 200).then_some(request));
        }
    }

    /// Sends one request, and those that follow from its answer.
    pub fn send_once(&mut self, wall_ms: u64) {
        let mut next = self.engine.begin(self.now(wall_ms), true);
        while let Some(request) = next {
            let reply = self.receiver.answer(&request);
            next = self.engine.answered(&reply, self.now(wall_ms));
        }
    }

    /// Passes events at their times, then a minute without events.
    pub fn replay(&mut self, events: &[Recorded]) {
        let mut wall = events.first().map_or(MONO_ORIGIN_MS, |event| event.at_ms);
        for event in events {
            self.run_until(wall, event.at_ms);
            wall = event.at_ms;
            self.hear(&event.source, &event.args, wall);
        }
        self.run_until(wall, wall + 60_000);
    }

    /// The status, as JSON.
    pub fn status(&self) -> Value {
        serde_json::to_value(self.engine.status()).expect("a status is JSON")
    }

    /// Writes everything.
    pub fn write(&mut self) {
        let now = self.now(self.last_ms.get());
        self.engine.flush(now);
    }
}
