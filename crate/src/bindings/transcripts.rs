//! Stored transcripts.

use std::cell::RefCell;

use wasm_bindgen::prelude::*;

use crate::transcript::{Reader, Scope};

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
