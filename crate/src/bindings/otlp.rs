//! What OpenTelemetry collectors are told; see [`otlp`](crate::otlp). Times are ms since 1970.

use std::cell::RefCell;

use js_sys::Array;
use wasm_bindgen::prelude::*;

use super::scalars::scalar;
use crate::otlp::{self, Exporter, Resource};

/// Where to send: the setting `otlp`, and what the environment says, both with objects as lists of pairs. JSON
/// `{url, headers, problems}`, which is not for logs.
#[wasm_bindgen(js_name = otlpTarget)]
pub fn otlp_target(setting: JsValue, environment: JsValue) -> String {
    let target = otlp::settings::read(&scalar(&setting), &scalar(&environment));
    serde_json::to_string(&target).unwrap_or_default()
}

/// What follows a journal; see [`Exporter`].
#[wasm_bindgen]
pub struct Otlp {
    exporter: RefCell<Exporter>,
}

#[wasm_bindgen]
impl Otlp {
    /// Goes on from a state, or begins at a time.
    #[wasm_bindgen(constructor)]
    pub fn new(state: &[u8], gateway: String, wall: f64) -> Otlp {
        let resource = Resource { gateway };
        Otlp {
            exporter: RefCell::new(Exporter::new(state, resource, wall as u64)),
        }
    }

    /// What is to be on disk before a segment that was read is given up.
    pub fn state(&self) -> Vec<u8> {
        self.exporter.borrow().state()
    }

    /// Adds up a segment of calls; its key.
    pub fn calls(&self, name: &str, bytes: &[u8]) -> Option<String> {
        self.exporter.borrow_mut().calls(name, bytes)
    }

    /// The next traces of a segment of records: `[key, body, spans, upto]`, or `[key]`.
    pub fn traces(&self, name: &str, bytes: &[u8]) -> Option<Array> {
        let (key, batch) = self.exporter.borrow_mut().traces(name, bytes)?;
        let told = Array::of1(&key.into());
        if let Some(batch) = batch {
            told.push(&batch.body.into());
            told.push(&batch.spans.into());
            told.push(&batch.upto.into());
        }
        Some(told)
    }

    /// A segment's traces were taken up to there, or given up.
    pub fn delivered(&self, key: &str, upto: u32) {
        self.exporter.borrow_mut().delivered(key, upto);
    }

    /// The segments that are still there, by their keys.
    pub fn retain(&self, keys: Vec<String>) {
        self.exporter.borrow_mut().retain(&keys);
    }

    /// The body for `/v1/metrics`; nothing before the first call.
    pub fn metrics(&self, wall: f64) -> Option<String> {
        self.exporter.borrow().metrics(wall as u64)
    }
}
