//! LiteLLM's log: the same calls wherever it is cut; each payload is a call, or is skipped for a reason.
#![no_main]

use agentwatch_openclaw::sources::facts::MAX_TEXT;
use agentwatch_openclaw::sources::litellm::Log;
use agentwatch_openclaw_fuzz::assert_same_however_cut;
use libfuzzer_sys::fuzz_target;
use serde_json::{Deserializer, Value};

/// Number of payloads by serde_json; `None` for other texts.
fn payloads(data: &[u8]) -> Option<usize> {
    let documents: Result<Vec<Value>, _> = Deserializer::from_slice(data).into_iter().collect();
    let documents = documents.ok().filter(|documents| !documents.is_empty())?;
    let count = |document: &Value| document.as_array().map_or(1, Vec::len);
    Some(documents.iter().map(count).sum())
}

fuzz_target!(|data: &[u8]| {
    let logged = assert_same_however_cut(data, |pieces| {
        let mut log = Log::default();
        pieces.iter().for_each(|piece| log.feed(piece));
        log.finish()
    });
    if let Some(payloads) = payloads(data) {
        let logged = logged.as_ref().expect("what is JSON is read");
        let skipped: u32 = logged.skipped.values().sum();
        assert_eq!(logged.calls.len() + skipped as usize, payloads);
    }
    for call in logged.iter().flat_map(|logged| &logged.calls) {
        let texts = [
            &call.provider,
            &call.model,
            &call.response_model,
            &call.response_id,
            &call.request_id,
        ];
        assert!(texts.iter().all(|text| {
            text.as_ref()
                .is_none_or(|text| text.encode_utf16().count() <= MAX_TEXT)
        }));
    }
});
