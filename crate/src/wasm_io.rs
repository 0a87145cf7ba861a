//! The face of `io.wasm`: what meets the network and foreign formats. It holds no state that counts, so
//! an instance of it can be given up at any time.

use js_sys::Promise;
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::future_to_promise;

use crate::http;
use crate::outbox::Request;

/// Makes a request, a POST where there is a body. The promise never rejects: it gives
/// `{status, retry_after_ms, body, error}` as JSON, with status 0 where there was no answer.
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
        // Numbers and valid text always serialize.
        Ok(JsValue::from(
            serde_json::to_string(&reply).unwrap_or_default(),
        ))
    })
}
