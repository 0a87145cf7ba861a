//! What servers answer: it comes through as facts as it was read, and is no longer than it was.
#![no_main]

use agentwatch_openclaw::answer::{Answer, Reply};
use agentwatch_openclaw::facts::Scalar;
use agentwatch_openclaw_fuzz::common::scalar;
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

fn facts(reply: &Reply) -> Vec<Scalar> {
    let text = |text: &String| Scalar::Text(text.clone());
    let ids = reply.answer.ids.as_ref();
    vec![
        Scalar::Number(f64::from(reply.status)),
        reply
            .retry_after_ms
            .map_or(Scalar::Absent, |ms| Scalar::Number(ms as f64)),
        reply.error.as_ref().map_or(Scalar::Absent, text),
        Scalar::Bool(reply.answer.is_taken),
        Scalar::Bool(reply.answer.knows_ids),
        ids.map_or(Scalar::Absent, |ids| {
            Scalar::List(ids.iter().map(text).collect())
        }),
    ]
}

fuzz_target!(|data: &[u8]| {
    let body = String::from_utf8_lossy(data);
    let read = Reply::of(200, &body);
    let Answer {
        ids,
        rejected,
        is_taken,
        knows_ids,
    } = &read.answer;
    let length: usize = ids.iter().flatten().map(String::len).sum();
    assert!(length <= body.len());
    assert!(
        ids.is_none() || !(*is_taken || *knows_ids || *rejected > 0),
        "it says one thing"
    );
    // Blank texts are no ids of anything and do not cross.
    if ids.iter().flatten().all(|id| !id.trim().is_empty()) {
        let expected = Reply {
            answer: Answer {
                rejected: 0,
                ..read.answer.clone()
            },
            ..read.clone()
        };
        assert_eq!(Reply::from_facts(&facts(&read)), expected);
    }
    // Any facts are a reply.
    if let Ok(Value::Array(list)) = serde_json::from_str(&body) {
        let list: Vec<Scalar> = list.iter().map(scalar).collect();
        let reply = Reply::from_facts(&list);
        assert!(!reply.is_taken() || (200..=299).contains(&reply.status));
    }
});
