//! The session store, for the engine of the process that owns the journal. Times are ms, those of the store since 1970.

use js_sys::Array;
use serde::Serialize;
use serde_wasm_bindgen::to_value;
use wasm_bindgen::prelude::*;

use super::engine::{Engine, now};
use super::scalars::scalar;
use crate::engine::store;
use crate::sessions::marks::Span;

/// Times of rows to read, in ms.
#[derive(Serialize)]
struct Times {
    since: f64,
    until: f64,
    /// History: the time of the monotonic clock at which the reading pauses.
    #[serde(skip_serializing_if = "Option::is_none")]
    end: Option<f64>,
    /// New rows: see [`Options`](crate::sessions::reader::Options).
    #[serde(skip_serializing_if = "Option::is_none")]
    future: Option<f64>,
}

impl From<Span> for Times {
    fn from(span: Span) -> Self {
        Self {
            since: span.since_ms as f64,
            until: span.until_ms as f64,
            end: None,
            future: None,
        }
    }
}

fn times(times: impl Into<Times>) -> Option<JsValue> {
    to_value(&times.into()).ok()
}

#[wasm_bindgen]
impl Engine {
    /// Sets the floor if there is none, and the time from which rows are matched; `begunWall` and `begunMono` are the start of
    /// this process. Returns that start by the present wall clock.
    #[wasm_bindgen(js_name = beginStore)]
    pub fn begin_store(
        &self,
        begun_wall: f64,
        begun_mono: f64,
        begins: bool,
        is_asked: bool,
        wall: f64,
        mono: f64,
    ) -> f64 {
        let begun = now(begun_wall, begun_mono);
        let now = now(wall, mono);
        let mut engine = self.engine.borrow_mut();
        engine.begin_store(begun, begins, is_asked, now) as f64
    }

    /// Time from which calls are counted; `undefined` before the first owner.
    pub fn floor(&self) -> Option<f64> {
        self.engine.borrow().floor_ms().map(|ms| ms as f64)
    }

    /// The span of history that is being filled in: `{since, until}`.
    pub fn history(&self) -> Option<JsValue> {
        self.engine.borrow().history().and_then(times)
    }

    /// Plans to fill in history. Returns the span that is filled in next; `undefined` if all of it is counted already.
    #[wasm_bindgen(js_name = planHistory)]
    pub fn plan_history(&self, since: f64, begun: f64, wall: f64, mono: f64) -> Option<JsValue> {
        let mut engine = self.engine.borrow_mut();
        let span = engine.plan_history(since as u64, begun as u64, now(wall, mono));
        span.and_then(times)
    }

    /// Whether history from a time on is counted or planned.
    #[wasm_bindgen(js_name = hasHistory)]
    pub fn has_history(&self, since: f64, begun: f64) -> bool {
        self.engine.borrow().has_history(since as u64, begun as u64)
    }

    /// The span of history to read, and the time of the monotonic clock at which the reading pauses: `{since, until, end}`.
    #[wasm_bindgen(js_name = historyToRead)]
    pub fn history_to_read(&self, wall: f64, mono: f64) -> Option<JsValue> {
        let mut engine = self.engine.borrow_mut();
        let span = engine.history_to_read(now(wall, mono))?;
        times(Times {
            end: Some(mono + store::HISTORY_SLICE_MS as f64),
            ..span.into()
        })
    }

    /// Ends the span of history, since it is read to its end.
    #[wasm_bindgen(js_name = endHistory)]
    pub fn end_history(&self, wall: f64, mono: f64) {
        self.engine.borrow_mut().end_history(now(wall, mono));
    }

    /// The new rows to read, at an age at which a process that counts alone counts them:
    /// `{since, until, future}`.
    #[wasm_bindgen(js_name = gapsToRead)]
    pub fn gaps_to_read(&self, alone: f64, wall: f64, mono: f64) -> Option<JsValue> {
        let now = now(wall, mono);
        let mut engine = self.engine.borrow_mut();
        let settled_after_ms = engine.settled_after_ms(alone as u64, now);
        let gaps = engine.gaps_to_read(settled_after_ms, now)?;
        times(Times {
            future: Some(gaps.future_ms as f64),
            ..gaps.span.into()
        })
    }

    /// Notes that new rows are read to the end of the store, without a problem.
    #[wasm_bindgen(js_name = gapsAreRead)]
    pub fn gaps_are_read(&self, since: f64, until: f64, wall: f64, mono: f64) {
        let span = Span {
            since_ms: since as u64,
            until_ms: until as u64,
        };
        self.engine
            .borrow_mut()
            .gaps_are_read(span, now(wall, mono));
    }

    /// The bookmarks of the sessions, for new rows or for the history: pairs of session and bookmark.
    #[wasm_bindgen(js_name = storeBookmarks)]
    pub fn store_bookmarks(&self, is_history: bool) -> Array {
        let marks = self.engine.borrow().store_bookmarks(is_history);
        let pair = |(session, mark): (String, String)| Array::of2(&session.into(), &mark.into());
        marks.into_iter().map(pair).collect()
    }

    /// Takes rows of a session (lists of facts) and the bookmark behind them, if known. A crash leaves both or neither.
    /// Returns the number of rows that are left out, since they have no time.
    #[wasm_bindgen(js_name = takeBatch)]
    pub fn take_batch(
        &self,
        source: u32,
        rows: JsValue,
        session: &str,
        mark: Option<String>,
        is_history: bool,
        wall: f64,
        mono: f64,
    ) -> u32 {
        let rows = scalar(&rows);
        let read = (session, mark.as_deref());
        let now = now(wall, mono);
        let mut engine = self.engine.borrow_mut();
        engine.take_batch(source as usize, rows.list(), read, is_history, now) as u32
    }

    /// Logs the problems of a look that the last look did not have.
    #[wasm_bindgen(js_name = reportStore)]
    pub fn report_store(&self, problems: Vec<String>) {
        self.engine.borrow_mut().report_store(problems);
    }

    /// Pause after a look that took some ms; `every` is the interval of looks.
    #[wasm_bindgen(js_name = storePause)]
    pub fn store_pause(&self, took: f64, every: f64, reads_history: bool) -> f64 {
        store::pause_after_ms(took as u64, every as u64, reads_history) as f64
    }
}
