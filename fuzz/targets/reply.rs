//! Answers of servers: they cross as facts unchanged, and do not grow.
#![no_main]

use agentwatch_openclaw::delivery::reply::{Answer, Reply};
use agentwatch_openclaw::sources::facts::Scalar;
use agentwatch_openclaw_fuzz::common::scalar;
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

fn facts(reply: &Reply) -> Vec<Scalar> {
    let text = |text: &String| Scalar::Text(text.clone());
    let texts = |list: &Vec<String>| Scalar::List(list.iter().map(text).collect());
    let ids = reply.answer.ids.as_ref();
    vec![
        Scalar::Number(f64::from(reply.status)),
        reply
            .retry_after_ms
            .map_or(Scalar::Absent, |ms| Scalar::Number(ms as f64)),
        reply.error.as_ref().map_or(Scalar::Absent, text),
        Scalar::Bool(reply.answer.is_taken),
        Scalar::Bool(reply.answer.knows_ids),
        ids.map_or(Scalar::Absent, texts),
        Scalar::Number(reply.answer.rejected as f64),
        Scalar::List(reply.answer.reported_twice.iter().map(texts).collect()),
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
        reported_twice,
    } = &read.answer;
    let told = || ids.iter().flatten().chain(reported_twice.iter().flatten());
    let length: usize = told().map(String::len).sum();
    assert!(length <= body.len());
    assert!(
        ids.is_none() || !(*is_taken || *knows_ids || *rejected > 0),
        "it says one thing"
    );
    // Blank texts do not cross, and numbers cross exactly up to 2^53.
    let is_exact = *rejected < 1 << 53;
    if is_exact && told().all(|text| !text.trim().is_empty()) {
        assert_eq!(Reply::from_facts(&facts(&read)), read);
    }
    // Any facts are a reply.
    if let Ok(Value::Array(list)) = serde_json::from_str(&body) {
        let list: Vec<Scalar> = list.iter().map(scalar).collect();
        let reply = Reply::from_facts(&list);
        assert!(!reply.is_taken() || (200..=299).contains(&reply.status));
    }
});
