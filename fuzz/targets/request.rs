//! Requests to models: the edit adds the usage option and changes nothing else in the body.
#![no_main]

use agentwatch_openclaw::sources::facts::MAX_TEXT;
use agentwatch_openclaw::sources::request::{Edit, Request};
use agentwatch_openclaw_fuzz::assert_same_however_cut;
use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};

fuzz_target!(|data: &[u8]| {
    let (model, edit) = assert_same_however_cut(data, |pieces| {
        let mut request = Request::default();
        for piece in pieces {
            request.feed(piece);
        }
        (request.model(), request.wish_for_usage())
    });
    assert!(model.is_none_or(|model| model.encode_utf16().count() <= MAX_TEXT));
    let Ok(mut body) = serde_json::from_slice::<Value>(data) else {
        return;
    };
    let Some(Edit { at, remove, insert }) = edit else {
        return;
    };
    let edited = [&data[..at], insert.as_bytes(), &data[at + remove..]].concat();
    let edited: Value = serde_json::from_slice(&edited).expect("it is still JSON");
    if !body["stream_options"].is_object() {
        body["stream_options"] = json!({});
    }
    body["stream_options"]["include_usage"] = json!(true);
    assert_eq!(edited, body);
});
