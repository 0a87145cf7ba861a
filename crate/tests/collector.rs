//! The outlet to a collector: it receives each call and each trace despite failures of the collector, the disk and
//! AgentWatch, and a new process continues after a kill.

use std::collections::BTreeMap;
use std::fs;

use crate::common::Gateway;
use agentwatch_openclaw::delivery::collector::Target;
use agentwatch_openclaw::delivery::reply::Reply;
use agentwatch_openclaw::engine::Engine;
use agentwatch_openclaw::engine::settings::RawSettings;
use agentwatch_openclaw::journal::{self, VERSION, format_v1};
use serde_json::{Value, json};

const START_MS: u64 = 1_795_000_000_000;

/// A gateway that sends to a collector, too.
struct Run {
    gateway: Gateway,
    settings: RawSettings,
    seed: u64,
    /// HTTP status of the collector's answers.
    status: u16,
    retry_after_ms: Option<u64>,
    /// Time and path of each request.
    requests: Vec<(u64, &'static str)>,
    /// Number of arrivals of each span.
    spans: BTreeMap<String, u32>,
    /// The last sums: number of requests, and the start time.
    sums: (u64, String),
    /// Whether AgentWatch is unreachable.
    is_alone: bool,
}

/// A call in a turn of its own.
fn message(index: u64, at: u64) -> Value {
    json!({
                "event": {"message": {"role": "assistant", "provider": "p", "model": "m", "stopReason": "stop",
                    "timestamp": at - 50, "usage": {"input": 1 + index, "output": 2, "cost": {"total": 0.001}}}},
                "ctx": {"sessionKey": format!("agent:main:{index}"), "agentId": "main"},
    })
}

impl Run {
    fn new(settings: &str) -> Self {
        let mut run = Self {
            gateway: Gateway::new(false),
            settings: crate::common::settings(settings),
            seed: 0,
            status: 200,
            retry_after_ms: None,
            requests: Vec::new(),
            spans: BTreeMap::new(),
            sums: (0, String::new()),
            is_alone: false,
        };
        run.restart(START_MS);
        run
    }

    /// Kills the process and starts another one.
    fn restart(&mut self, at_ms: u64) {
        self.seed += 1;
        let mut engine = Engine::new(&self.settings, self.seed);
        let target = Target {
            url: "http://collector".to_owned(),
            headers: Vec::new(),
            ..Target::default()
        };
        engine.tell_collector(target, self.seed);
        engine.open(self.gateway.disk.host(), crate::common::at(at_ms));
        self.gateway.engine = engine;
    }

    fn answer(&mut self, path: &'static str, body: &[u8], at_ms: u64) -> Reply {
        self.requests.push((at_ms, path));
        let body: Value = serde_json::from_slice(body).unwrap();
        if self.status == 200 && path == "/v1/traces" {
            let spans = &body["resourceSpans"][0]["scopeSpans"][0]["spans"];
            for span in spans.as_array().unwrap() {
                let id = span["spanId"].as_str().unwrap().to_owned();
                *self.spans.entry(id).or_default() += 1;
            }
        } else if self.status == 200 {
            let metrics = &body["resourceMetrics"][0]["scopeMetrics"][0]["metrics"];
            let of_requests = |one: &&Value| one["name"] == "agentwatch.requests";
            let metric = metrics.as_array().unwrap().iter().find(of_requests);
            let points = &metric.unwrap()["sum"]["dataPoints"];
            let count = |point: &Value| point["asInt"].as_u64().unwrap();
            let begin = points[0]["startTimeUnixNano"].as_str().unwrap().to_owned();
            self.sums = (points.as_array().unwrap().iter().map(count).sum(), begin);
        }
        Reply {
            retry_after_ms: self.retry_after_ms,
            ..Reply::of(self.status, "{}")
        }
    }

    /// Sends everything that is due to the collector.
    fn tell(&mut self, at_ms: u64, hurry: bool) {
        let now = self.gateway.now(at_ms);
        for _ in 0..1_000 {
            let Some(request) = self.gateway.engine.begin_collector(now, hurry) else {
                return;
            };
            let reply = self.answer(request.path, &request.body, at_ms);
            self.gateway.engine.answered_collector(&reply, now);
        }
        panic!("it never ends");
    }

    /// Lets time pass, and does work when it is due.
    fn pass(&mut self, from_ms: u64, until_ms: u64) {
        let mut at = from_ms;
        for wakes in 0.. {
            assert!(wakes < 5_000, "it never rests");
            self.gateway.advance(at);
            if !self.is_alone {
                self.gateway.send(at, false);
            }
            self.tell(at, false);
            match self.gateway.advance(at).map(|ms| at + ms.max(1)) {
                Some(next) if next <= until_ms => at = next,
                _ => return,
            }
        }
    }

    /// Adds calls, 1 s apart, each in a turn of its own.
    fn hear(&mut self, calls: std::ops::Range<u64>) -> u64 {
        for index in calls.clone() {
            let at = START_MS + index * 1_000;
            self.gateway
                .hear("before_message_write", &message(index, at), at);
        }
        START_MS + calls.end * 1_000
    }

    fn status(&self) -> Value {
        self.gateway.status()["otlp"].clone()
    }

    fn files(&self, part: &str) -> Vec<String> {
        let files = self.gateway.disk.files();
        files
            .keys()
            .filter(|name| name.contains(part))
            .cloned()
            .collect()
    }
}

const BOTH: &str = r#"{"url": "http://receiver.test", "identities": "plain"}"#;
const ALONE: &str = r#"{"url": false, "identities": "plain"}"#;
const HOUR_MS: u64 = 3_600_000;

#[test]
fn a_collector_is_told_each_call_and_each_trace_and_nothing_waits() {
    for settings in [BOTH, ALONE] {
        let mut run = Run::new(settings);
        let end = run.hear(0..300);
        run.pass(end, end + HOUR_MS);
        assert_eq!(run.sums.0, 300);
        assert!(run.spans.len() >= 300 && run.spans.values().all(|times| *times == 1));
        let status = run.gateway.status();
        assert_eq!(
            (&status["waiting"], &status["records_waiting"]),
            (&json!(0), &json!(0))
        );
        assert_eq!(run.status()["traces"]["sent"], run.spans.len());
        // Entries that both outlets have acknowledged leave the disk by the next start.
        run.restart(end + HOUR_MS);
        run.pass(end + HOUR_MS, end + 2 * HOUR_MS);
        assert_eq!(
            run.files("model-calls-").len() + run.files("records-").len(),
            0
        );
        assert_eq!(run.sums.0, 300);
        assert!(run.spans.values().all(|times| *times == 1));
    }
}

#[test]
fn the_state_with_all_sums_is_written_as_often_as_they_are_sent() {
    let mut run = Run::new(BOTH);
    let (mut last, mut writes) = (None, 0);
    for index in 0..60 {
        let end = run.hear(index..index + 1);
        run.pass(end - 1_000, end);
        let state = run.gateway.disk.files().get("otlp/state.awj").cloned();
        writes += u32::from(state != last);
        last = state;
    }
    assert!((5..=8).contains(&writes), "{writes} times in a minute");
    let end = START_MS + 60_000;
    run.pass(end, end + 20_000);
    assert_eq!(run.sums.0, 60);
}

#[test]
fn the_state_is_written_before_another_engine_goes_on() {
    let mut run = Run::new(BOTH);
    let state = |run: &Run| run.gateway.disk.files().get("otlp/state.awj").cloned();
    let end = run.hear(0..1);
    run.pass(end, end + 2_000);
    let first = state(&run);
    let at = end + 2_000;
    run.gateway
        .hear("before_message_write", &message(1, at), at);
    run.pass(at, at + 3_000);
    assert_eq!(state(&run), first, "it is written every ten seconds");
    // As before changed settings take effect.
    let now = run.gateway.now(at + 3_000);
    assert!(run.gateway.engine.flush_all(now));
    assert_ne!(state(&run), first);
}

#[test]
fn sums_have_each_call_of_a_journal_that_holds_few_seconds() {
    let mut run = Run::new(r#"{"url": "http://receiver.test", "journalMaxMb": 1}"#);
    let mut at = START_MS;
    for index in 0..10_000 {
        at = START_MS + index / 2;
        run.gateway
            .hear("before_message_write", &message(index, at), at);
        if index % 200 == 0 {
            run.pass(at, at + 100);
        }
    }
    run.pass(at, at + HOUR_MS);
    assert_eq!(run.sums.0, 10_000);
}

#[test]
fn without_agentwatch_only_traces_for_a_collector_are_written() {
    let failed = |index: u64, at: u64| {
        let mut call = message(index, at);
        call["event"]["message"]["stopReason"] = json!("error");
        call
    };
    let mut run = Run::new(ALONE);
    let mut alone = Gateway::with(ALONE, false);
    for index in 0..5 {
        let at = START_MS + index * 1_000;
        run.gateway
            .hear("before_message_write", &failed(index, at), at);
        alone.hear("before_message_write", &failed(index, at), at);
    }
    (run.is_alone, run.status) = (true, 503);
    run.pass(START_MS + 5_000, START_MS + HOUR_MS);
    alone.run_until(START_MS + 5_000, START_MS + HOUR_MS);
    let written = |gateway: &Gateway| {
        let files = gateway.disk.files();
        let records = files
            .iter()
            .filter(|(name, _)| name.starts_with("records-"));
        let bytes: Vec<u8> = records.flat_map(|(_, bytes)| bytes.clone()).collect();
        String::from_utf8_lossy(&bytes).into_owned()
    };
    let traces = written(&run.gateway);
    assert!(traces.contains("chat m"), "{traces}");
    assert!(!traces.contains("Model call failed"), "{traces}");
    assert_eq!(written(&alone), "");
}

#[test]
fn a_collector_that_is_away_holds_up_nobody_and_is_told_all_of_it_later() {
    let mut run = Run::new(BOTH);
    run.status = 503;
    run.retry_after_ms = Some(20_000);
    let end = run.hear(0..50);
    run.pass(end, end + HOUR_MS);
    assert_eq!(run.gateway.receiver.totals.requests(), 50);
    assert_eq!((run.sums.0, run.spans.len()), (0, 0));
    let error = run.status()["traces"]["last_error"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(error.contains("HTTP 503"), "{error}");
    for path in ["/v1/traces", "/v1/metrics"] {
        let tries: Vec<u64> = run
            .requests
            .iter()
            .filter(|one| one.1 == path)
            .map(|one| one.0)
            .collect();
        assert!((10..200).contains(&tries.len()), "{}", tries.len());
        assert!(
            tries.windows(2).all(|two| two[1] - two[0] >= 20_000),
            "{path} is left alone"
        );
    }
    (run.status, run.retry_after_ms) = (200, None);
    run.pass(end + HOUR_MS, end + 2 * HOUR_MS);
    assert_eq!(run.sums.0, 50);
    assert!(run.spans.len() >= 50 && run.spans.values().all(|times| *times == 1));
}

/// Kills the process after each number of disk changes: the sums contain each call once, and each trace arrives.
#[test]
fn a_process_that_is_killed_anywhere_sums_each_call_once() {
    for changes in 0..24 {
        let mut run = Run::new(BOTH);
        let end = run.hear(0..20);
        run.pass(end, end + 2_000);
        let begin = run.sums.1.clone();
        // The collector outlet reads the disk only: it never sees calls that were sent to AgentWatch from memory alone.
        run.is_alone = true;
        run.gateway.disk.fail_after(changes, 7);
        let end = run.hear(20..30).max(end);
        run.pass(end, end + 3_000);
        run.gateway.disk.be_well();
        run.is_alone = false;
        run.restart(end + 4_000);
        run.pass(end + 4_000, end + HOUR_MS);
        let heard = run.gateway.receiver.totals.requests();
        assert_eq!(run.sums.0, heard, "behind {changes} changes");
        assert!(heard >= 20, "{heard}");
        assert!(
            begin.is_empty() || run.sums.1 == begin,
            "the beginning stays"
        );
    }
}

#[test]
fn what_a_collector_refuses_is_not_tried_again() {
    let mut run = Run::new(BOTH);
    run.status = 400;
    let end = run.hear(0..5);
    run.pass(end, end + HOUR_MS);
    let of_traces = run.requests.iter().filter(|one| one.1 == "/v1/traces");
    assert!(of_traces.count() <= 5);
    assert!(run.status()["traces"]["refused"].as_u64() >= Some(5));
    run.status = 200;
    run.pass(end + HOUR_MS, end + 2 * HOUR_MS);
    assert!(run.spans.is_empty());
    assert_eq!(run.sums.0, 5, "sums are in the next request");
}

#[test]
fn traces_that_nobody_takes_have_a_bound_and_the_oldest_go_counted() {
    let mut run = Run::new(r#"{"url": "http://receiver.test", "journalMaxMb": 1}"#);
    run.status = 503;
    let mut end = START_MS;
    for round in 0..20 {
        end = run.hear(round * 50..(round + 1) * 50);
        run.pass(end, end + 1_000);
    }
    run.pass(end, end + HOUR_MS);
    let bytes: usize = run
        .files("records-")
        .iter()
        .map(|name| run.gateway.disk.files()[name].len())
        .sum();
    assert!(
        bytes <= 256 * 1024 + 128 * 1024 + 64 * 1024,
        "{bytes} bytes"
    );
    assert!(
        run.status()["traces"]["given_up_bytes"].as_u64() > Some(128 * 1024),
        "{}",
        run.status()
    );
    assert!(
        run.gateway
            .log
            .iter()
            .any(|line| line.contains("the oldest of what waits for /v1/traces is given up"))
    );
    assert_eq!(
        run.gateway.status()["records_dropped"],
        json!({}),
        "AgentWatch has them"
    );
    run.status = 200;
    run.pass(end + HOUR_MS, end + 2 * HOUR_MS);
    assert_eq!(run.sums.0, 1_000, "sums are of all calls");
    assert!(!run.spans.is_empty() && run.spans.values().all(|times| *times == 1));
}

/// A segment that version 0.1.0 moved to `delivery/otlp/`: AgentWatch had acknowledged it, the collector had not.
#[test]
fn a_segment_that_an_older_version_moved_is_told_and_then_removed() {
    let root = "../tests/fixtures/upgrade/0.1.0/totals/agentwatch";
    let moved = "otlp/1795439861710-records-0000000001.awj";
    let mut run = Run::new(ALONE);
    for name in [moved, "otlp/state.awj"] {
        let bytes = fs::read(format!("{root}/{name}")).unwrap();
        run.gateway.disk.files().insert(name.to_owned(), bytes);
    }
    let before = run.gateway.disk.files()[moved].clone();
    run.status = 503;
    run.restart(START_MS + 1_000);
    run.pass(START_MS + 1_000, START_MS + 60_000);
    assert!(run.gateway.disk.files()[moved] == before, "it waits");
    run.status = 200;
    run.pass(START_MS + 60_000, START_MS + HOUR_MS);
    assert!(!run.spans.is_empty() && run.spans.values().all(|times| *times == 1));
    assert_eq!(run.files(moved).len(), 0);
}

#[test]
fn a_state_of_a_newer_version_is_kept_aside_and_named() {
    let mut state = journal::begin_file();
    state[4..6].copy_from_slice(&(VERSION + 1).to_le_bytes());
    let check = siphasher::sip::SipHasher13::new().hash(&state[..6]) as u16;
    state[6..8].copy_from_slice(&check.to_le_bytes());
    state.extend_from_slice(b"whatever it holds");
    let mut run = Run::new(BOTH);
    for round in 1..3 {
        let name = "otlp/state.awj".to_owned();
        run.gateway.disk.files().insert(name, state.clone());
        run.restart(START_MS + round * 1_000);
        let end = run.hear(round * 10..round * 10 + 3);
        run.pass(end, end + 60_000);
        let named = run.gateway.status()["newer_files"].clone();
        let aside = run.files("state-v2");
        assert_eq!(aside.len() as u64, round);
        assert!(aside.iter().any(|name| named == json!([name])), "{named}");
        for name in aside {
            assert!(run.gateway.disk.files()[&name] == state, "{name}");
        }
    }
    assert!(run.sums.0 >= 3);
}

#[test]
fn cursors_of_removed_segments_are_dropped() {
    let mut run = Run::new(BOTH);
    for index in 0..1_500 {
        let at = START_MS + index * 360_000;
        run.gateway
            .hear("before_message_write", &message(index, at), at);
        run.pass(at, at + 350_000);
    }
    let files = run.gateway.disk.files();
    let state = journal::Reader::open(&files["otlp/state.awj"])
        .unwrap()
        .next();
    let state = format_v1::sums::state(state.unwrap().1).unwrap();
    assert!(state.marks.len() <= 4, "{} cursors", state.marks.len());
}

#[test]
fn segments_beside_a_disk_failure_are_removed_and_the_outlet_rests() {
    let mut run = Run::new(BOTH);
    let end = run.hear(0..20);
    run.pass(end, end + 60_000);
    run.gateway.disk.fail_after(0, 0);
    let end = run.hear(60..62) + 60_000;
    run.pass(end, end + 2_000);
    run.gateway.disk.be_well();
    run.pass(end + 2_000, end + HOUR_MS / 4);
    let before = run.gateway.disk.changes();
    run.pass(end + HOUR_MS / 4, end + HOUR_MS / 2);
    assert_eq!(run.gateway.disk.changes(), before, "an idle outlet writes");
    for round in 0..20 {
        let end = run.hear(4_000 + round * 100..4_000 + (round + 1) * 100);
        run.pass(end, end + 500);
    }
    let end = START_MS + 7_000_000;
    run.pass(end, end + 60_000);
    let left = run.files("model-calls");
    assert!(left.len() <= 2, "{left:?}");
}
