//! Readers of requests and answers for the proxy, and of LiteLLM's log. They never call JavaScript.

use wasm_bindgen::prelude::*;

use crate::sources::answer::{self, Api};
use crate::sources::ending::Ending;
use crate::sources::path::Target;
use crate::sources::{litellm, request};

/// Whether a request is a model call, or fetches the result of one.
#[wasm_bindgen(js_name = isModelCall)]
pub fn is_model_call(method: &str, path: &str) -> bool {
    Target::of(method, path).is_some()
}

/// The model that a path names, where the body does not.
#[wasm_bindgen(js_name = modelOfPath)]
pub fn model_of_path(method: &str, path: &str) -> Option<String> {
    Target::of(method, path)?.model
}

/// Reads the model from one request's body; see [`request::Request`].
#[wasm_bindgen]
#[derive(Default)]
pub struct RequestReader {
    reader: request::Request,
}

#[wasm_bindgen]
impl RequestReader {
    /// A reader of a new request.
    #[wasm_bindgen(constructor)]
    pub fn new() -> RequestReader {
        Self::default()
    }

    /// Takes the next piece of the body. Returns whether the model is known.
    pub fn feed(&mut self, bytes: &[u8]) -> bool {
        self.reader.feed(bytes)
    }

    /// The requested model.
    pub fn model(&self) -> Option<String> {
        self.reader.model()
    }

    /// The edit that makes a stream report its usage, as JSON `{at, remove, insert}`, once the whole body was read;
    /// `undefined` where none is needed.
    #[wasm_bindgen(js_name = wishForUsage)]
    pub fn wish_for_usage(&self) -> Option<String> {
        let edit = self.reader.wish_for_usage()?;
        serde_json::to_string(&edit).ok()
    }
}

/// The reader of one answer's body; see [`answer::Answer`].
#[wasm_bindgen]
pub struct AnswerReader {
    reader: answer::Answer,
}

#[wasm_bindgen]
impl AnswerReader {
    /// A reader of the answer with this HTTP status to such a request.
    #[wasm_bindgen(constructor)]
    pub fn new(method: &str, path: &str, status: u16) -> AnswerReader {
        let target = Target::of(method, path).unwrap_or(Api::Chat.into());
        Self {
            reader: answer::Answer::new(target, status),
        }
    }

    /// Takes a header of the answer. The name is in lower case.
    pub fn header(&mut self, name: &str, value: &str) {
        self.reader.header(name, value);
    }

    /// Takes the next piece of the body. Returns whether it contains a stream's first token.
    pub fn feed(&mut self, bytes: &[u8]) -> bool {
        self.reader.feed(bytes)
    }

    /// The usage and the outcome of the answer, as JSON of [`answer::Told`]. `ending`: 0 the body is whole, 1 the provider
    /// cut it, 2 the client left.
    pub fn finish(self, ending: u8) -> String {
        let told = self.reader.finish(match ending {
            0 => Ending::Whole,
            1 => Ending::Cut,
            _ => Ending::Left,
        });
        serde_json::to_string(&told).unwrap_or_default()
    }
}

/// The reader of one request of LiteLLM's generic API logger; see [`litellm::Log`].
#[wasm_bindgen]
#[derive(Default)]
pub struct LogReader {
    reader: litellm::Log,
}

#[wasm_bindgen]
impl LogReader {
    /// A reader of a new request.
    #[wasm_bindgen(constructor)]
    pub fn new() -> LogReader {
        Self::default()
    }

    /// Takes the next piece of the body.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.reader.feed(bytes);
    }

    /// The logged calls, as JSON `{calls, skipped}` of [`litellm::Logged`]; `{problem}` where the whole body is
    /// unreadable.
    pub fn finish(self) -> String {
        match self.reader.finish() {
            Ok(logged) => serde_json::to_string(&logged).unwrap_or_default(),
            Err(problem) => format!("{{\"problem\":\"{}\"}}", problem.text()),
        }
    }
}
