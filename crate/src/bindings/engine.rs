//! The engine: synchronous, and never holding a borrow across a call of JavaScript.
//!
//! Facts come in as flat arrays, facts of events packed ([`super::packed`]); JSON text goes out.
//! Times are ms: `wall` since 1970, `mono` from any start but never going back.

use std::cell::RefCell;
use std::rc::Rc;

use js_sys::Reflect;
use serde::{Deserialize, Serialize};
use serde_wasm_bindgen::{from_value, to_value};
use wasm_bindgen::prelude::*;

use super::host::JsHost;
use super::http::Order;
use super::packed::Packed;
use super::scalars::scalar;
use crate::delivery::calls::Request;
use crate::delivery::collector::Target;
use crate::delivery::reply::Reply;
use crate::domain::time::Now;
use crate::engine::Engine as Inner;
use crate::engine::HostDrops;
use crate::engine::brake::Begin;
use crate::engine::log::LogLine;
use crate::engine::settings::RawSettings;
use crate::pricing::price::Price;
use crate::sources::SOURCES;
use crate::spending::who::Told;

/// The table of sources as JSON: the scalar fields of each event that cross.
#[wasm_bindgen]
pub fn sources() -> String {
    json(&SOURCES)
}

/// The duration of a lift in ms, from a text such as `1h`; 0 for `0`, which ends a lift. Another text gives the sentence
/// that says what is wrong.
#[wasm_bindgen(js_name = liftMs)]
pub fn lift_ms(text: &str) -> JsValue {
    match crate::spending::allowance::lift_ms(text) {
        Ok(ms) => (ms as f64).into(),
        Err(what) => what.into(),
    }
}

/// One gateway's engine.
#[wasm_bindgen]
pub struct Engine {
    pub(super) engine: RefCell<Inner>,
    given: RefCell<Packed>,
    lines: RefCell<Vec<LogLine>>,
}

#[wasm_bindgen]
impl Engine {
    /// An engine with an object of settings ([`RawSettings::NAMES`]). The first log lines name settings that are unusable.
    #[wasm_bindgen(constructor)]
    pub fn new(settings: JsValue, seed_high: u32, seed_low: u32) -> Engine {
        let given = |name: &str| Reflect::get(&settings, &name.into()).unwrap_or_default();
        let raw = RawSettings::from_names(|name| scalar(&given(name)));
        let seed = u64::from(seed_high) << 32 | u64::from(seed_low);
        Engine {
            engine: RefCell::new(Inner::new(&raw, seed)),
            given: RefCell::default(),
            lines: RefCell::default(),
        }
    }

    /// Sets whether the gateway sends diagnostics: a call waits for them only then.
    #[wasm_bindgen(js_name = expectDiagnostics)]
    pub fn expect_diagnostics(&self, expected: bool) {
        self.engine.borrow_mut().expect_diagnostics(expected);
    }

    /// Takes packed events ([`super::packed`]) for `observe`, in place of the events of an earlier call.
    pub fn give(&self, numbers: Vec<f64>, texts: String) {
        self.given.replace(Packed::new(numbers, texts));
    }

    /// Observes the next of these events. Returns the reason where it cannot be read.
    pub fn observe(&self) -> Option<String> {
        let event = self.given.borrow_mut().next()?;
        self.engine
            .borrow_mut()
            .observe(event.source, event.facts, now(event.wall, event.mono))
            .map(str::to_owned)
    }

    /// Runs due work. Returns the ms until the next call; -1 where that waits for an event.
    pub fn advance(&self, wall: f64, mono: f64) -> f64 {
        let advice = self.engine.borrow_mut().advance(now(wall, mono));
        self.lines.borrow_mut().extend(advice.log);
        advice.wake_in_ms.map_or(-1.0, |ms| ms as f64)
    }

    /// The log lines that JavaScript did not take yet, as JSON `[{level, text}, …]`.
    #[wasm_bindgen(js_name = logLines)]
    pub fn log_lines(&self) -> Option<String> {
        let mut lines = self.lines.take();
        lines.extend(self.engine.borrow_mut().log_lines());
        (!lines.is_empty()).then(|| json(&lines))
    }

    /// The next request to AgentWatch, if one is due: an [`Order`], whose reply goes to `answered`. `hurry` skips gathering
    /// and pauses.
    pub fn begin(&self, wall: f64, mono: f64, hurry: bool) -> Option<JsValue> {
        let mut engine = self.engine.borrow_mut();
        let request = engine.begin(now(wall, mono), hurry)?;
        order(&engine, &request)
    }

    /// Takes the reply to the last request, as `send` of another instance returns it; another value means no answer.
    /// Returns the request that follows at once, if any.
    pub fn answered(&self, reply: JsValue, wall: f64, mono: f64) -> Option<JsValue> {
        let mut engine = self.engine.borrow_mut();
        let request = engine.answered(&read(reply), now(wall, mono))?;
        order(&engine, &request)
    }

    /// A model whose price `setPrice` has to set before the next `advance`, as JSON `{provider, model}`.
    #[wasm_bindgen(js_name = wantsPrice)]
    pub fn wants_price(&self) -> Option<String> {
        let (provider, model) = self.engine.borrow_mut().wants_price()?;
        Some(json(&Wanted { provider, model }))
    }

    /// Sets a model's [`Price`], as `find` of [`PriceBook`](super::prices::PriceBook) returns it; another value leaves it
    /// unknown.
    #[wasm_bindgen(js_name = setPrice)]
    pub fn set_price(&self, provider: &str, model: &str, price: JsValue) {
        let price = from_value(price).unwrap_or(Price::UNKNOWN);
        self.engine.borrow_mut().set_price(provider, model, price);
    }

    /// Makes calls final, since the gateway stops. Where the journal keeps pending calls, calls whose message has not
    /// come stay pending.
    pub fn close(&self, wall: f64, mono: f64) {
        let mut engine = self.engine.borrow_mut();
        let keeps = engine.keeps();
        engine.close(keeps, now(wall, mono));
    }

    /// Continues from the files of the host's folder, which no other process wants.
    pub fn open(&self, host: JsHost, wall: f64, mono: f64) {
        let host = Rc::new(host);
        self.engine.borrow_mut().open(host, now(wall, mono));
    }

    /// Joins the processes that share the host's folder, in a role: as the owner of its journal, or as a writer of spool
    /// files. `had` tells that an earlier engine of this process was the owner. Returns `owner` or `spool`.
    pub fn join(&self, host: JsHost, role: &str, had: bool, wall: f64, mono: f64) -> String {
        let mut engine = self.engine.borrow_mut();
        engine.join(Rc::new(host), role, had, now(wall, mono));
        engine.standing().to_owned()
    }

    /// Writes observations to spool files from now on, for the process that owns the journal.
    #[wasm_bindgen(js_name = becomeSpool)]
    pub fn become_spool(&self, host: JsHost) {
        self.engine.borrow_mut().become_spool(Rc::new(host));
    }

    /// Takes the journal over if its owner ended, or handed it over to this process, which `claims` it as a gateway. Returns
    /// whether a new engine has to join, which is the owner.
    #[wasm_bindgen(js_name = takeOver)]
    pub fn take_over(&self, claims: bool, wall: f64, mono: f64) -> bool {
        self.engine.borrow_mut().take_over(claims, now(wall, mono))
    }

    /// Spools from now on, since another process took the journal over.
    pub fn lose(&self) {
        self.engine.borrow_mut().lose();
    }

    /// Tells other processes that the journal's owner lives.
    pub fn heartbeat(&self) {
        self.engine.borrow_mut().heartbeat();
    }

    /// Whether no other process took the journal over. Reads the file only if the last heartbeat is late.
    #[wasm_bindgen(js_name = isHeld)]
    pub fn is_held(&self) -> bool {
        self.engine.borrow_mut().is_held()
    }

    /// The same, by the file alone.
    #[wasm_bindgen(js_name = isHeldForCertain)]
    pub fn is_held_for_certain(&self) -> bool {
        self.engine.borrow_mut().is_held_for_certain()
    }

    /// Whether this process, an intermediary, owns the journal and a gateway claims it.
    #[wasm_bindgen(js_name = isClaimed)]
    pub fn is_claimed(&self) -> bool {
        self.engine.borrow_mut().is_claimed()
    }

    /// Writes everything and hands the journal over to the gateway that claims it. Returns whether that is done.
    #[wasm_bindgen(js_name = handOver)]
    pub fn hand_over(&self, wall: f64, mono: f64) -> bool {
        self.engine.borrow_mut().hand_over(now(wall, mono))
    }

    /// Releases the journal for other processes. Returns why that failed.
    pub fn release(&self) -> Option<String> {
        self.engine.borrow_mut().release().err()
    }

    /// Adds an OpenTelemetry collector at an address, with headers (pairs of texts), the form of requests (JSON, as
    /// `otlpTarget` gives it) and the gateway's name. Called before `open`.
    #[wasm_bindgen(js_name = tellCollector)]
    pub fn tell_collector(&self, url: String, headers: JsValue, form: &str, seed: u32) {
        let target = Target {
            url,
            headers: from_value(headers).unwrap_or_default(),
            form: serde_json::from_str(form).unwrap_or_default(),
        };
        let mut engine = self.engine.borrow_mut();
        engine.tell_collector(target, seed.into());
    }

    /// The next request to the collector, if any is due: an [`Order`], whose reply goes to `answeredCollector`. `hurry` skips
    /// pauses. Where the headers have a `content-encoding`, the caller encodes the body.
    #[wasm_bindgen(js_name = beginCollector)]
    pub fn begin_collector(&self, wall: f64, mono: f64, hurry: bool) -> Option<JsValue> {
        let mut engine = self.engine.borrow_mut();
        let request = engine.begin_collector(now(wall, mono), hurry)?;
        let target = engine.collector()?;
        let given = target.headers.iter();
        let own = [("content-type", target.form.content_type())];
        let encoding = target.form.gzip.then_some(("content-encoding", "gzip"));
        Order {
            url: &target.url,
            token: None,
            path: request.path,
            body: Some(&request.body),
            headers: given
                .map(|(name, value)| (&**name, &**value))
                .chain(own)
                .chain(encoding)
                .collect(),
        }
        .to_js()
    }

    /// Takes the reply to the last request to the collector.
    #[wasm_bindgen(js_name = answeredCollector)]
    pub fn answered_collector(&self, reply: JsValue, wall: f64, mono: f64) {
        let mut engine = self.engine.borrow_mut();
        engine.answered_collector(&read(reply), now(wall, mono));
    }

    /// The next request to the webhook, if any is due: an [`Order`], whose reply goes to `answeredWebhook`. `hurry` skips
    /// pauses.
    #[wasm_bindgen(js_name = beginWebhook)]
    pub fn begin_webhook(&self, wall: f64, mono: f64, hurry: bool) -> Option<JsValue> {
        let mut engine = self.engine.borrow_mut();
        let request = engine.begin_webhook(now(wall, mono), hurry)?;
        let headers = request.headers.iter();
        Order {
            url: &request.url,
            token: None,
            path: "",
            body: Some(request.body.as_bytes()),
            headers: headers.map(|(name, value)| (*name, &**value)).collect(),
        }
        .to_js()
    }

    /// Takes the reply to the last request to the webhook.
    #[wasm_bindgen(js_name = answeredWebhook)]
    pub fn answered_webhook(&self, reply: JsValue, wall: f64, mono: f64) {
        let mut engine = self.engine.borrow_mut();
        engine.answered_webhook(&read(reply), now(wall, mono));
    }

    /// Whether a call that begins now may pass: nothing where it may, else `{message, retryAfterS}`. `request` is the number of a
    /// proxy's request.
    pub fn admit(
        &self,
        caller: JsValue,
        request: Option<f64>,
        wall: f64,
        mono: f64,
    ) -> Option<JsValue> {
        let caller: Caller = from_value(caller).unwrap_or_default();
        let begin = caller.begin(request.map(|number| number as u64));
        let stop = self.engine.borrow_mut().admit(&begin, now(wall, mono))?;
        to_value(&Refusal {
            message: stop.message,
            retry_after_s: stop.retry_after_s,
        })
        .ok()
    }

    /// A proxy's request is over.
    #[wasm_bindgen(js_name = endRequest)]
    pub fn end_request(&self, request: f64) {
        self.engine.borrow_mut().end_request(request as u64);
    }

    /// Lifts all allowances for some ms; 0 ends a lift.
    pub fn lift(&self, for_ms: f64, wall: f64, mono: f64) {
        self.engine
            .borrow_mut()
            .lift(for_ms as u64, now(wall, mono));
    }

    /// Writes everything now. Returns whether it is on disk; if not, calls are sent from memory and the write is retried.
    pub fn flush(&self, wall: f64, mono: f64) -> bool {
        self.engine.borrow_mut().flush(now(wall, mono))
    }

    /// The same, with what is gathered for longer: before another engine goes on.
    #[wasm_bindgen(js_name = flushAll)]
    pub fn flush_all(&self, wall: f64, mono: f64) -> bool {
        self.engine.borrow_mut().flush_all(now(wall, mono))
    }

    /// Whether every observation is on disk, or the disk takes none.
    #[wasm_bindgen(js_name = isKept)]
    pub fn is_kept(&self) -> bool {
        self.engine.borrow().is_kept()
    }

    /// Reads new spool files of other processes. Returns whether there were any.
    #[wasm_bindgen(js_name = takeSpools)]
    pub fn take_spools(&self, wall: f64, mono: f64) -> bool {
        self.engine.borrow_mut().take_spools(now(wall, mono))
    }

    /// Takes rows of a session (lists of facts) and the bookmark behind them, if known. A crash leaves both or neither.
    /// Rows of `history` are from before the plugin ran, and match no other observation.
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
        self.engine.borrow_mut().take_rows(
            source as usize,
            rows.list(),
            (file, mark.as_deref()),
            history,
            now(wall, mono),
        );
    }

    /// All bookmarks, as JSON `[[file, bookmark], …]`.
    pub fn bookmarks(&self) -> String {
        let engine = self.engine.borrow();
        let marks: Vec<(&str, &str)> = engine.bookmarks().collect();
        json(&marks)
    }

    /// The port of `/metrics`, where the settings ask for it.
    #[wasm_bindgen(js_name = metricsPort)]
    pub fn metrics_port(&self) -> Option<u16> {
        self.engine.borrow().metrics_port()
    }

    /// The text for `/metrics`; nothing where it is not served. The numbers are events that the host dropped because its
    /// queue was full, and because the module trapped at them.
    pub fn metrics(&self, wall: f64, queue_full: f64, trap: f64) -> Option<String> {
        let dropped = HostDrops {
            queue_full: queue_full as u64,
            trap: trap as u64,
        };
        let mut engine = self.engine.borrow_mut();
        engine.metrics(wall as u64, dropped)
    }

    /// The status, as JSON.
    pub fn status(&self) -> String {
        json(&self.engine.borrow().status())
    }
}

/// The fields of a gateway, or of a proxy, that tell whose call begins.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Caller {
    session_key: Option<String>,
    agent: Option<String>,
    channel: Option<String>,
    channel_id: Option<String>,
    trigger: Option<String>,
    job: Option<String>,
    tool: Option<String>,
    /// `provider/model`.
    model: Option<String>,
}

impl Caller {
    fn begin(&self, request: Option<u64>) -> Begin<'_> {
        fn text(text: &Option<String>) -> Option<&str> {
            text.as_deref().filter(|text| !text.trim().is_empty())
        }
        Begin {
            told: Told {
                session_key: text(&self.session_key),
                agent: text(&self.agent),
                channel: text(&self.channel),
                channel_id: text(&self.channel_id),
                trigger: text(&self.trigger),
                job: text(&self.job),
                tool: text(&self.tool),
                skill: None,
            },
            model: text(&self.model),
            request,
        }
    }
}

/// Why a call may not pass, and the seconds until it may.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Refusal {
    message: String,
    retry_after_s: u64,
}

/// A model whose price is wanted.
#[derive(Serialize)]
struct Wanted {
    provider: String,
    model: String,
}

/// What `send` returned; a value of another shape means no answer.
fn read(reply: JsValue) -> Reply {
    from_value(reply).unwrap_or_default()
}

fn order(engine: &Inner, request: &Request) -> Option<JsValue> {
    let (url, token) = engine.target()?;
    Order {
        url,
        token,
        path: &request.path,
        body: request.body.as_deref().map(str::as_bytes),
        headers: Vec::new(),
    }
    .to_js()
}

pub(super) fn now(wall: f64, mono: f64) -> Now {
    Now {
        wall_ms: wall as u64,
        mono_ms: mono as u64,
    }
}

/// Our own types always serialize: finite numbers, valid text, string keys.
fn json<T: serde::Serialize>(value: &T) -> String {
    serde_json::to_string(value).unwrap_or_default()
}
