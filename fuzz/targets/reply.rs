//! Answers of servers: they cross unchanged, and do not grow.
#![no_main]

use agentwatch_openclaw::delivery::reply::{Answer, Reply};
use libfuzzer_sys::fuzz_target;

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
    let crossed = serde_json::to_value(&read).expect("it is plain data");
    let reply: Reply = serde_json::from_value(crossed).expect("it was a reply");
    assert_eq!(reply, read);
});
