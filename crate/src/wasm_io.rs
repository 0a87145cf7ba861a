//! The face of `io.wasm`: what meets the network and foreign formats. It holds no state that counts, so
//! an instance of it can be given up at any time.

use js_sys::{Array, Promise};
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::future_to_promise;

use crate::answer::{Answer, Reply};
use crate::http;
use crate::outbox::Request;

/// Makes a request, a POST where there is a body. The promise never rejects: it gives facts, as `core.wasm`
/// takes them in `answered`, with status 0 where there was no answer.
#[wasm_bindgen]
pub fn send(
    url: String,
    token: Option<String>,
    path: String,
    body: Option<String>,
    timeout_ms: u32,
) -> Promise {
    let request = Request { path, body };
    future_to_promise(async move {
        let reply = http::send(url, token, request, timeout_ms).await;
        Ok(facts(&reply).into())
    })
}

/// A reply as facts, in the order of [`Reply::from_facts`].
fn facts(reply: &Reply) -> Array {
    let Answer {
        is_taken,
        knows_ids,
        ids,
    } = &reply.answer;
    let ids: Option<Array> = ids
        .as_ref()
        .map(|ids| ids.iter().map(|id| JsValue::from(id.as_str())).collect());
    [
        JsValue::from(reply.status),
        JsValue::from(reply.retry_after_ms.map(|ms| ms as f64)),
        JsValue::from(reply.error.as_deref()),
        JsValue::from(*is_taken),
        JsValue::from(*knows_ids),
        JsValue::from(ids),
    ]
    .iter()
    .collect()
}
