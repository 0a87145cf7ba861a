//! Failed calls, their retries and failovers of recorded gateways: each failed call is one retry for the alarm, and the
//! `model.failover` that follows a failed call is none.

use crate::common::{By, Capture, Gateway, Recorded, captures};
use agentwatch_openclaw::spending::loops::RETRIES;
use serde_json::{Value, json};

const SETTINGS: &str = r#"{"url": "http://receiver.test"}"#;
const SESSION: &str = "agent:main:spy-fail500";
/// Time between two rounds of a recording, in ms.
const ROUND_MS: u64 = 100_000;

/// The failovers of the recordings: version, failed calls of the model before it, arrival in ms since 1970, and event.
const FAILOVERS: [(&str, usize, u64, &str); 2] = [
    (
        "2026.8.2",
        1,
        1_795_439_806_089,
        r#"{"type": "model.failover", "sessionId": "5d4fb262-fd1e-4ef7-8f8b-15e68d50f57f", "sessionKey": "agent:main:spy-fail500",
            "fromProvider": "mock", "fromModel": "mock-primary", "toProvider": "mock", "toModel": "mock-fallback",
            "reason": "timeout", "cascadeDepth": 0, "suspended": false, "seq": 425, "ts": 1795439806089,
            "trace": {"traceId": "e65a316e488016cb45e99998cd8c60f6", "spanId": "566124e8c39ec9fd", "traceFlags": "01"}}"#,
    ),
    (
        "2026.9.6",
        7,
        1_795_439_767_725,
        r#"{"type": "model.failover", "sessionId": "3fcab6d3-2ddb-48a5-bd86-272f9e92f310", "sessionKey": "agent:main:spy-fail500",
            "fromProvider": "mock", "fromModel": "mock-primary", "toProvider": "mock", "toModel": "mock-fallback",
            "reason": "server_error", "cascadeDepth": 0, "suspended": false, "seq": 742, "ts": 1795439767725,
            "trace": {"traceId": "4fb0d6f7f7299938830c63eafbebfbba", "spanId": "809139772f64131c", "traceFlags": "01"}}"#,
    ),
];

/// What the gateway reported of the model that fails, up to its failover.
fn until_failover(capture: &Capture, failover: (u64, &str)) -> Vec<Recorded> {
    let is_it = |event: &&Recorded| {
        let args = &event.args;
        let session = args["event"]["sessionKey"].as_str();
        let model = args["event"]["model"].as_str();
        let model = model.or(args["event"]["message"]["model"].as_str());
        session.or(args["ctx"]["sessionKey"].as_str()) == Some(SESSION)
            && model != Some("mock-fallback")
    };
    let mut events: Vec<Recorded> = capture.events.iter().filter(is_it).cloned().collect();
    let event: Value = serde_json::from_str(failover.1).unwrap();
    events.push(Recorded {
        source: "model.failover".to_owned(),
        args: json!({"event": event, "ctx": null}),
        at_ms: failover.0,
        by: By::Other,
    });
    events.sort_by_key(|event| event.at_ms);
    events
}

/// The same events in a later round: another model of the same run, with times and spans of its own.
fn later(value: &mut Value, round: u64) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| later(item, round)),
        Value::Object(fields) => {
            for (name, field) in fields {
                match field
                    .as_u64()
                    .filter(|_| name == "ts" || name == "timestamp")
                {
                    Some(ms) => *field = json!(ms + round * ROUND_MS),
                    None => later(field, round),
                }
                if let ("spanId", Some(span)) = (&**name, field.as_str()) {
                    *field = json!(format!("{round:08x}{}", &span[8..]));
                }
            }
        }
        _ => {}
    }
}

fn is_failure(event: &Recorded) -> bool {
    event.args["event"]["message"]["stopReason"] == "error"
}

/// Number of alarms after this many failed calls of one message. A cascade of models fails as the recorded one did.
fn alarms_after(failures: usize, recorded: &[Recorded]) -> Value {
    let run = recorded.iter().position(|one| one.source == "run.started");
    let mut events: Vec<Recorded> = Vec::new();
    let mut failed = 0;
    'rounds: for round in 0.. {
        // The user's message is before the first run.
        let begin = if round == 0 { 0 } else { run.unwrap() };
        for event in &recorded[begin..] {
            if is_failure(event) {
                failed += 1;
            }
            if failed > failures {
                break 'rounds;
            }
            let mut event = event.clone();
            event.at_ms += round * ROUND_MS;
            later(&mut event.args, round);
            events.push(event);
        }
    }
    // The call that the next failure belongs to has not ended.
    while events
        .last()
        .is_some_and(|event| event.by != By::CallDiagnostic)
    {
        events.pop();
    }
    let told = events.iter().filter(|event| is_failure(event)).count();
    assert_eq!(told, failures);
    let mut gateway = Gateway::with(SETTINGS, true);
    gateway.replay(&events);
    gateway.status()["alarm"]["count"].clone()
}

#[test]
fn each_failed_call_is_one_retry_and_its_failover_is_none() {
    for (version, failures, at_ms, event) in FAILOVERS {
        let all = captures();
        let capture = all.iter().find(|one| one.version == version).unwrap();
        let recorded = until_failover(capture, (at_ms, event));
        let failed = recorded.iter().filter(|event| is_failure(event)).count();
        assert_eq!(failed, failures, "{version}: each failed call is reported");
        let alarms = |failures| alarms_after(failures, &recorded);
        let limit = RETRIES as usize;
        assert_eq!(alarms(limit - 1), 0, "{version}");
        assert_eq!(alarms(limit), 1, "{version}");
    }
}
