//! The face of `io.wasm`: what meets the network and foreign formats. It holds no state that counts, so
//! an instance of it can be given up at any time.

use std::cell::RefCell;

use js_sys::{Array, Promise};
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::future_to_promise;

use crate::answer::{Answer, Reply};
use crate::http;
use crate::transcript::{Reader, Scope};

/// Makes a request, a POST where there is a body, a text or bytes. The promise never rejects: it gives facts, as `core.wasm`
/// takes them in `answered`, with status 0 where there was no answer. `headers` are pairs of texts.
#[wasm_bindgen]
pub fn send(
    url: String,
    token: Option<String>,
    path: String,
    body: JsValue,
    timeout_ms: u32,
    headers: Option<Array>,
) -> Promise {
    let text = |value: JsValue| value.as_string().unwrap_or_default();
    let mut all: Vec<(String, String)> = headers
        .iter()
        .flat_map(Array::iter)
        .map(|pair| Array::from(&pair))
        .map(|pair| (text(pair.get(0)), text(pair.get(1))))
        .collect();
    all.extend(token.map(|token| ("authorization".to_owned(), ["Bearer ", &token].concat())));
    future_to_promise(async move {
        let reply = http::send([url, path].concat(), all, body, timeout_ms).await;
        Ok(facts(&reply)?)
    })
}

/// A reply as facts, in the order of [`Reply::from_facts`].
fn facts(reply: &Reply) -> Result<JsValue, serde_wasm_bindgen::Error> {
    let Answer {
        is_taken,
        knows_ids,
        ids,
        rejected,
        reported_twice,
    } = &reply.answer;
    serde_wasm_bindgen::to_value(&(
        reply.status,
        reply.retry_after_ms,
        &reply.error,
        is_taken,
        knows_ids,
        ids,
        rejected,
        reported_twice,
    ))
}

/// Reads the model calls of one stored transcript; see [`transcript`](crate::transcript). Times are ms
/// since 1970. It has to be freed.
#[wasm_bindgen]
pub struct TranscriptReader {
    reader: RefCell<Reader>,
}

#[wasm_bindgen]
impl TranscriptReader {
    /// A reader that starts at the transcript's beginning, or, with the `heritage` of an earlier one, at
    /// the end of any line. Calls before `since` are left out; `until` ends the reading, and those after `future` do not.
    #[wasm_bindgen(constructor)]
    pub fn new(
        agent: String,
        session_id: String,
        session_key: Option<String>,
        heritage: Option<f64>,
        since: Option<f64>,
        until: Option<f64>,
        future: Option<f64>,
    ) -> TranscriptReader {
        let ms = |time: Option<f64>| time.map(|ms| ms as u64);
        TranscriptReader {
            reader: RefCell::new(Reader::new(Scope {
                agent,
                session_id,
                session_key,
                heritage_ms: ms(heritage),
                since_ms: ms(since),
                until_ms: ms(until),
                future_ms: ms(future),
            })),
        }
    }

    /// Reads a chunk, cut anywhere. The calls in it, as arrays of facts with commas between them.
    pub fn feed(&self, chunk: &[u8]) -> String {
        let mut rows = String::new();
        self.reader.borrow_mut().feed(chunk, &mut rows);
        rows
    }

    /// Takes what is left for a whole line; likewise.
    pub fn finish(&self) -> String {
        let mut rows = String::new();
        self.reader.borrow_mut().finish(&mut rows);
        rows
    }

    /// How many of the bytes fed are done with.
    pub fn consumed(&self) -> f64 {
        self.reader.borrow().consumed() as f64
    }

    /// Whether reading ended before a call of `until` or later.
    #[wasm_bindgen(js_name = isStopped)]
    pub fn is_stopped(&self) -> bool {
        self.reader.borrow().is_stopped()
    }

    /// What a reader that goes on from here has to know.
    pub fn heritage(&self) -> Option<f64> {
        self.reader.borrow().heritage_ms().map(|ms| ms as f64)
    }

    /// The lines that could not be used so far, as JSON `{reason: count}`.
    pub fn skipped(&self) -> String {
        self.reader.borrow().skipped().json()
    }
}
