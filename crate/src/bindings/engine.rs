//! The engine: synchronous, and never holding a borrow across a call of JavaScript.
//!
//! Facts come in as flat arrays that the shim made, those of events packed ([`super::packed`]); JSON text goes out.
//! Times are ms: `wall` since 1970, `mono` from any start but never going back.

use std::cell::RefCell;
use std::rc::Rc;

use js_sys::{Array, Uint8Array};
use wasm_bindgen::prelude::*;

use super::host::JsHost;
use super::packed::Packed;
use super::scalars::scalar;
use crate::delivery::calls::Request;
use crate::delivery::collector::Target;
use crate::delivery::reply::Reply;
use crate::domain::time::Now;
use crate::engine::Engine as Inner;
use crate::engine::log::LogLine;
use crate::engine::settings::RawSettings;
use crate::pricing::price::Price;
use crate::sources::SOURCES;
use crate::sources::facts::Scalar;

/// The table of sources: which scalar fields of which events cross, as JSON.
#[wasm_bindgen]
pub fn sources() -> String {
    json(&SOURCES)
}

/// The settings' names, in the order in which the constructor takes them, as JSON.
#[wasm_bindgen(js_name = settingNames)]
pub fn setting_names() -> String {
    json(&RawSettings::NAMES)
}

/// One gateway's engine.
#[wasm_bindgen]
pub struct Engine {
    machine: RefCell<Inner>,
    given: RefCell<Packed>,
    said: RefCell<Vec<LogLine>>,
}

#[wasm_bindgen]
impl Engine {
    /// A engine with its settings, in the order of [`setting_names`], judged; what is wrong with them is in the first advice's log.
    #[wasm_bindgen(constructor)]
    pub fn new(settings: JsValue, seed_high: u32, seed_low: u32) -> Engine {
        let raw = RawSettings::new(scalar(&settings).list().to_vec());
        let seed = u64::from(seed_high) << 32 | u64::from(seed_low);
        Engine {
            machine: RefCell::new(Inner::new(&raw, seed)),
            given: RefCell::default(),
            said: RefCell::default(),
        }
    }

    /// Tells whether the gateway's diagnostics are heard, and so worth waiting for.
    #[wasm_bindgen(js_name = expectDiagnostics)]
    pub fn expect_diagnostics(&self, expected: bool) {
        self.machine.borrow_mut().expect_diagnostics(expected);
    }

    /// Gives some events, as [`super::packed`] has them: `observe` takes them in. Those given before are forgotten.
    pub fn give(&self, numbers: Vec<f64>, texts: String) {
        self.given.replace(Packed::new(numbers, texts));
    }

    /// Takes the next of the given events in. The reason where it could not be read.
    pub fn observe(&self) -> Option<String> {
        let event = self.given.borrow_mut().next()?;
        self.machine
            .borrow_mut()
            .observe(event.source, event.facts, now(event.wall, event.mono))
            .map(str::to_owned)
    }

    /// Does what is due. In how many ms to call again; -1 for not before the next event. What is to be logged `said`
    /// tells.
    pub fn advance(&self, wall: f64, mono: f64) -> f64 {
        let advice = self.machine.borrow_mut().advance(now(wall, mono));
        self.said.borrow_mut().extend(advice.log);
        advice.wake_in_ms.map_or(-1.0, |ms| ms as f64)
    }

    /// What is to be logged and was not told yet, as JSON `[{level, text}, …]`.
    pub fn said(&self) -> Option<String> {
        let mut lines = self.said.take();
        lines.extend(self.machine.borrow_mut().said());
        (!lines.is_empty()).then(|| json(&lines))
    }

    /// The next request to make, if any is due: `[url, token, path, body]` for `send`, whose reply goes to
    /// `answered`. `hurry` leaves out gathering and pauses.
    pub fn begin(&self, wall: f64, mono: f64, hurry: bool) -> Option<Array> {
        let mut machine = self.machine.borrow_mut();
        let request = machine.begin(now(wall, mono), hurry)?;
        order(&machine, request)
    }

    /// Takes the reply to the last request, as `send` of another instance gives it; a further request where one
    /// follows at once. Anything else stands for no answer.
    pub fn answered(&self, reply: JsValue, wall: f64, mono: f64) -> Option<Array> {
        let reply = Reply::from_facts(scalar(&reply).list());
        let mut machine = self.machine.borrow_mut();
        let request = machine.answered(&reply, now(wall, mono))?;
        order(&machine, request)
    }

    /// A model whose price is to be told by `setPrice` before the next `advance`: `[provider, model]`.
    #[wasm_bindgen(js_name = wantsPrice)]
    pub fn wants_price(&self) -> Option<Array> {
        let (provider, model) = self.machine.borrow_mut().wants_price()?;
        Some(Array::of2(&provider.into(), &model.into()))
    }

    /// A model's price: an index into [`Price::SOURCES`], and its numbers, as [`Price::numbers`] has them.
    #[wasm_bindgen(js_name = setPrice)]
    pub fn set_price(&self, provider: &str, model: &str, source: u32, rates: &[f64]) {
        let source = Price::SOURCES[source as usize % Price::SOURCES.len()];
        let price = Price::of_numbers(source, rates);
        self.machine.borrow_mut().set_price(provider, model, price);
    }

    /// Makes calls final: the gateway stops. Where the journal keeps what is open, those stay open whose message is
    /// still to come.
    pub fn close(&self, wall: f64, mono: f64) {
        let mut machine = self.machine.borrow_mut();
        let keeps = machine.keeps();
        machine.close(keeps, now(wall, mono));
    }

    /// Owns the journal in the host's folder: goes on from the files that are there.
    pub fn open(&self, host: JsHost, wall: f64, mono: f64) {
        let host = Rc::new(host);
        self.machine.borrow_mut().open(host, now(wall, mono));
    }

    /// Another process owns the journal: what this one hears, and what it had not written yet, goes into files of its
    /// own, which the owner reads; their names begin and end so.
    #[wasm_bindgen(js_name = becomeSpool)]
    pub fn become_spool(&self, host: JsHost, prefix: &str, suffix: &str) {
        let host = Rc::new(host);
        self.machine.borrow_mut().become_spool(host, prefix, suffix);
    }

    /// A collector is told too, at an address and with headers, pairs of texts, under this gateway's name. Called before
    /// `open`.
    #[wasm_bindgen(js_name = tellCollector)]
    pub fn tell_collector(&self, url: String, headers: JsValue, gateway: String, seed: u32) {
        let pair = |pair: &Scalar| match pair.list() {
            [Scalar::Text(name), Scalar::Text(value)] => Some((name.clone(), value.clone())),
            _ => None,
        };
        let headers = scalar(&headers).list().iter().filter_map(pair).collect();
        let target = Target { url, headers };
        let mut machine = self.machine.borrow_mut();
        machine.tell_collector(target, gateway, seed.into());
    }

    /// The next request to the collector, if any is due: `[url, undefined, path, body, headers]` for `send`, whose reply
    /// goes to `answeredCollector`. `hurry` tells at once what is on disk.
    #[wasm_bindgen(js_name = beginCollector)]
    pub fn begin_collector(&self, wall: f64, mono: f64, hurry: bool) -> Option<Array> {
        let mut machine = self.machine.borrow_mut();
        let request = machine.begin_collector(now(wall, mono), hurry)?;
        let target = machine.collector()?;
        let body = Uint8Array::from(request.body.as_bytes());
        let headers: Array = target
            .headers
            .iter()
            .map(|(name, value)| Array::of2(&name.into(), &value.into()))
            .collect();
        let path = request.path;
        let order = Array::of4(
            &(&*target.url).into(),
            &JsValue::UNDEFINED,
            &path.into(),
            &body,
        );
        order.push(&headers);
        Some(order)
    }

    /// Takes the reply to the last request to the collector, likewise.
    #[wasm_bindgen(js_name = answeredCollector)]
    pub fn answered_collector(&self, reply: JsValue, wall: f64, mono: f64) {
        let reply = Reply::from_facts(scalar(&reply).list());
        let mut machine = self.machine.borrow_mut();
        machine.answered_collector(&reply, now(wall, mono));
    }

    /// Writes everything now. Whether it is on disk: where not, sending goes on from memory, and it is tried again later.
    pub fn flush(&self, wall: f64, mono: f64) -> bool {
        self.machine.borrow_mut().flush(now(wall, mono))
    }

    /// Whether everything that was told is on disk, as far as it can be.
    #[wasm_bindgen(js_name = isKept)]
    pub fn is_kept(&self) -> bool {
        self.machine.borrow().is_kept()
    }

    /// Takes in what other processes wrote since the last look; whether there was something.
    #[wasm_bindgen(js_name = takeSpools)]
    pub fn take_spools(&self, wall: f64, mono: f64) -> bool {
        self.machine.borrow_mut().take_spools(now(wall, mono))
    }

    /// Takes in rows of a session's file, facts each, and how far it was read with them, where that is known. A
    /// crash leaves both, or neither. Rows of `history` were written before anybody listened.
    #[wasm_bindgen(js_name = takeRows)]
    pub fn take_rows(
        &self,
        source: u32,
        rows: JsValue,
        file: &str,
        mark: Option<String>,
        history: bool,
        wall: f64,
        mono: f64,
    ) {
        let rows = scalar(&rows);
        self.machine.borrow_mut().take_rows(
            source as usize,
            rows.list(),
            (file, mark.as_deref()),
            history,
            now(wall, mono),
        );
    }

    /// All of these, as JSON `[[file, mark], …]`.
    pub fn bookmarks(&self) -> String {
        let machine = self.machine.borrow();
        let marks: Vec<(&str, &str)> = machine.bookmarks().collect();
        json(&marks)
    }

    /// Until when the session store is matched, in ms since 1970.
    #[wasm_bindgen(js_name = reconciledMs)]
    pub fn reconciled_ms(&self) -> Option<f64> {
        self.machine.borrow().reconciled_ms().map(|ms| ms as f64)
    }

    /// The session store was read up to there.
    #[wasm_bindgen(js_name = setReconciled)]
    pub fn set_reconciled(&self, until_ms: f64) {
        self.machine.borrow_mut().set_reconciled(until_ms as u64);
    }

    /// The status, as JSON.
    pub fn status(&self) -> String {
        json(&self.machine.borrow().status())
    }
}

fn order(machine: &Inner, request: Request) -> Option<Array> {
    let (url, token) = machine.target()?;
    let text = |text: Option<&str>| text.map_or(JsValue::UNDEFINED, JsValue::from_str);
    let Request { path, body } = request;
    // As bytes, which go out as they are: a text would be made anew three times on its way.
    let bytes = |body: String| Uint8Array::from(body.as_bytes()).into();
    let body: JsValue = body.map_or(JsValue::UNDEFINED, bytes);
    Some(Array::of4(&url.into(), &text(token), &path.into(), &body))
}

fn now(wall: f64, mono: f64) -> Now {
    Now {
        wall_ms: wall as u64,
        mono_ms: mono as u64,
    }
}

/// Our own types always serialize: finite numbers, valid text, string keys.
fn json<T: serde::Serialize>(value: &T) -> String {
    serde_json::to_string(value).unwrap_or_default()
}
