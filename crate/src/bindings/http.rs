//! Requests, through gloo-net, which binds the host's `fetch`.

use gloo_net::http::{Request as HttpRequest, RequestBuilder, Response};
use gloo_timers::callback::Timeout;
use js_sys::{Promise, Reflect, Uint8Array};
use serde::{Serialize, Serializer};
use serde_wasm_bindgen::{from_value, to_value};
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::{JsFuture, future_to_promise};
use web_sys::{AbortController, DomException, ReadableStreamDefaultReader, RequestRedirect};

use super::scalars::scalar;
use crate::delivery::reply::{Answer, Reply};

/// The most bytes of an answer that are read: a look-up of 1,000 guards is about 600 KB.
const MAX_BODY: usize = 4 * 1024 * 1024;

/// A request that the engine wants, as the host gives it to [`send`] of another instance.
#[derive(Serialize)]
pub(super) struct Order<'a> {
    pub url: &'a str,
    pub token: Option<&'a str>,
    pub path: &'a str,
    #[serde(serialize_with = "bytes")]
    pub body: Option<&'a [u8]>,
    pub headers: Vec<(&'a str, &'a str)>,
}

impl Order<'_> {
    /// `{url, token, path, body, headers}`, the body as a `Uint8Array`.
    pub(super) fn to_js(&self) -> Option<JsValue> {
        to_value(self).ok()
    }
}

/// As bytes: wasm-bindgen and fetch would copy a text three times.
fn bytes<S: Serializer>(body: &Option<&[u8]>, serializer: S) -> Result<S::Ok, S::Error> {
    match body {
        Some(body) => serializer.serialize_bytes(body),
        None => serializer.serialize_none(),
    }
}

/// Makes a request, a POST where there is a body, a text or bytes. The promise never rejects. It resolves to
/// a [`Reply`], with status 0 where there was no answer. `headers` are pairs of texts.
#[wasm_bindgen]
pub fn send(
    url: String,
    token: Option<String>,
    path: String,
    body: JsValue,
    timeout_ms: u32,
    headers: JsValue,
) -> Promise {
    let mut all: Vec<(String, String)> = from_value(headers).unwrap_or_default();
    all.extend(token.map(|token| ("authorization".to_owned(), ["Bearer ", &token].concat())));
    future_to_promise(async move {
        let reply = make([url, path].concat(), all, body, timeout_ms).await;
        Ok(to_value(&reply)?)
    })
}

/// The collector of the setting `otlp` and of the environment, as JSON `{url, headers, form, problems}`. It may
/// contain secrets: never log it.
#[wasm_bindgen(js_name = otlpTarget)]
pub fn otlp_target(setting: JsValue, environment: JsValue) -> String {
    let target = crate::delivery::otlp::settings::read(&scalar(&setting), &scalar(&environment));
    serde_json::to_string(&target).unwrap_or_default()
}

/// Makes a request. The reply contains the error, if any. A redirect is not followed, so
/// that keys go to the configured origin only.
async fn make(
    address: String,
    headers: Vec<(String, String)>,
    body: JsValue,
    timeout_ms: u32,
) -> Reply {
    match try_make(&address, &headers, body, timeout_ms).await {
        Ok(reply) => reply,
        Err(error) => Reply {
            error: Some(error),
            ..Reply::default()
        },
    }
}

async fn try_make(
    address: &str,
    headers: &[(String, String)],
    body: JsValue,
    timeout_ms: u32,
) -> Result<Reply, String> {
    let deadline = Deadline::after(timeout_ms).ok_or("no request can be made here")?;
    let builder = match body.is_undefined() {
        false => HttpRequest::post(address).header("content-type", "application/json"),
        true => HttpRequest::get(address),
    };
    let builder = with_headers(builder, headers)
        .redirect(RequestRedirect::Manual)
        .abort_signal(Some(&deadline.controller.signal()));
    let built = match body.is_undefined() {
        false => builder.body(body),
        true => builder.build(),
    };
    let response = built
        .map_err(|e| why(&e, address))?
        .send()
        .await
        .map_err(|e| why(&e, address))?;
    let retry_after_ms = response
        .headers()
        .get("retry-after")
        .and_then(|text| text.trim().parse::<u64>().ok())
        .map(|seconds| seconds.min(u32::MAX.into()) * 1_000);
    let content_type = response.headers().get("content-type").unwrap_or_default();
    Ok(Reply {
        status: response.status(),
        retry_after_ms,
        error: None,
        answer: Answer::read(
            &read_body(&response).await.unwrap_or_default(),
            &content_type,
        ),
    })
}

/// Aborts a request that takes too long. `AbortSignal.timeout` would also fire behind each request that has ended: a
/// wake-up, and an abort, for nothing.
struct Deadline {
    controller: AbortController,
    /// Cleared where this is dropped.
    _timer: Timeout,
}

impl Deadline {
    fn after(ms: u32) -> Option<Self> {
        let controller = AbortController::new().ok()?;
        let late = controller.clone();
        let timer = Timeout::new(ms, move || {
            let reason = DomException::new_with_message_and_name("timed out", "TimeoutError");
            late.abort_with_reason(&reason.map_or(JsValue::NULL, JsValue::from));
        });
        Some(Self {
            controller,
            _timer: timer,
        })
    }
}

fn with_headers(builder: RequestBuilder, headers: &[(String, String)]) -> RequestBuilder {
    let builder = builder.header(
        "user-agent",
        concat!("agentwatch-openclaw/", env!("CARGO_PKG_VERSION")),
    );
    headers.iter().fold(builder, |builder, (name, value)| {
        builder.header(name, value)
    })
}

/// The body. A body longer than [`MAX_BODY`] is dropped: AgentWatch sends none.
async fn read_body(response: &Response) -> Option<Vec<u8>> {
    let stream = response.body()?;
    let reader: ReadableStreamDefaultReader = stream.get_reader().dyn_into().ok()?;
    let mut bytes: Vec<u8> = Vec::new();
    loop {
        let chunk = JsFuture::from(reader.read()).await.ok()?;
        if Reflect::get(&chunk, &"done".into()).ok()?.is_truthy() {
            return Some(bytes);
        }
        let value: Uint8Array = Reflect::get(&chunk, &"value".into())
            .ok()?
            .dyn_into()
            .ok()?;
        if bytes.len() + value.length() as usize > MAX_BODY {
            // The promise resolves when the connection is closed, which nothing waits for.
            let _ = reader.cancel();
            return None;
        }
        bytes.extend(value.to_vec());
    }
}

/// The error's text without the address, whose path may be a secret: Node's error for an unusable one contains it.
fn why(error: &gloo_net::Error, address: &str) -> String {
    let text = match error {
        gloo_net::Error::JsError(e) if e.name == "TimeoutError" => "timed out".to_owned(),
        gloo_net::Error::JsError(e) => format!("{}: {}", e.name, e.message),
        other => other.to_string(),
    };
    text.replace(address, "the address")
}
