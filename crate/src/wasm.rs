//! The face of `core.wasm`, which counts: small, synchronous, and never holding a borrow across a call
//! of JavaScript.
//!
//! Facts come in as flat arrays that the shim made, those of events packed ([`crate::packed`]); JSON text goes out.
//! Times are ms: `wall` since 1970, `mono` from any start but never going back.
//!
//! An instance that trapped is dead, and promises that come back to it would throw where nobody
//! catches; this module never has any. Requests are made by `io.wasm`.

use std::cell::RefCell;

use js_sys::{Array, Uint8Array};
use wasm_bindgen::prelude::*;

use crate::answer::Reply;
use crate::config::RawSettings;
use crate::core::Core as Machine;
use crate::crossing::scalar;
use crate::files::{Op, Write};
use crate::observe::SOURCES;
use crate::outbox::Request;
use crate::packed::Packed;
use crate::price::Price;
use crate::time::Now;
use crate::voice::LogLine;

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

/// One gateway's core.
#[wasm_bindgen]
pub struct Core {
    machine: RefCell<Machine>,
    given: RefCell<Packed>,
    said: RefCell<Vec<LogLine>>,
}

#[wasm_bindgen]
impl Core {
    /// A core with its settings, in the order of [`setting_names`], judged; what is wrong with them is in the first advice's log.
    #[wasm_bindgen(constructor)]
    pub fn new(settings: JsValue, seed_high: u32, seed_low: u32) -> Core {
        let raw = RawSettings::new(scalar(&settings).list().to_vec());
        let seed = u64::from(seed_high) << 32 | u64::from(seed_low);
        Core {
            machine: RefCell::new(Machine::new(&raw, seed)),
            given: RefCell::default(),
            said: RefCell::default(),
        }
    }

    /// Tells whether the gateway's diagnostics are heard, and so worth waiting for.
    #[wasm_bindgen(js_name = expectDiagnostics)]
    pub fn expect_diagnostics(&self, expected: bool) {
        self.machine.borrow_mut().expect_diagnostics(expected);
    }

    /// Gives some events, as [`crate::packed`] has them: `observe` takes them in. Those given before are forgotten.
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
        let lines = self.said.take();
        (!lines.is_empty()).then(|| json(&lines))
    }

    /// The next request to make, if any is due: `[url, token, path, body]` for `send`, whose reply goes to
    /// `answered`. `hurry` leaves out gathering and pauses.
    pub fn begin(&self, wall: f64, mono: f64, hurry: bool) -> Option<Array> {
        let mut machine = self.machine.borrow_mut();
        let request = machine.begin(now(wall, mono), hurry)?;
        order(&machine, request)
    }

    /// Takes the reply to the last request, as `send` of `io.wasm` gives it; a further request where one
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

    /// A model's price: an index into [`Price::SOURCES`], and five numbers a tier, as [`Price::tiers`] has them.
    #[wasm_bindgen(js_name = setPrice)]
    pub fn set_price(&self, provider: &str, model: &str, source: u32, rates: &[f64]) {
        let (tiers, _) = rates.as_chunks();
        let price = Price {
            source: Price::SOURCES[source as usize % Price::SOURCES.len()],
            tiers: tiers.to_vec(),
        };
        self.machine.borrow_mut().set_price(provider, model, price);
    }

    /// Makes calls final: the gateway stops. Where the journal `keeps` what is open, those stay open whose message is
    /// still to come.
    pub fn close(&self, keeps: bool, wall: f64, mono: f64) {
        self.machine.borrow_mut().close(keeps, now(wall, mono));
    }

    /// Changes of the journal's files, in order: `[upto, [file, what, with], …]`, where `what` is `append` or
    /// `replace` with bytes, `rename` with a name, or `delete`. When all of them are done `upto` goes to `written`.
    /// Nothing where there are none.
    pub fn writes(&self) -> Option<Array> {
        // Each piece leaves the module as it is made.
        let mut pieces = Vec::new();
        let mut hand_out = |piece: &[u8]| pieces.push(Uint8Array::from(piece));
        let writes = self.machine.borrow_mut().take_writes(&mut hand_out);
        if writes.list.is_empty() {
            return None;
        }
        let list = Array::of1(&JsValue::from(writes.upto as f64));
        for Write { file, op } in writes.list {
            let (what, with) = match op {
                Op::Append(bytes) => ("append", Uint8Array::from(&bytes[..]).into()),
                Op::Replace(bytes) => ("replace", Uint8Array::from(&bytes[..]).into()),
                Op::Snapshot => ("replace", joined(&pieces).into()),
                Op::Rename(name) => ("rename", JsValue::from(name)),
                Op::Delete => ("delete", JsValue::NULL),
            };
            list.push(&Array::of3(&file.into(), &what.into(), &with));
        }
        Some(list)
    }

    /// All changes up to there are done.
    pub fn written(&self, upto: f64) {
        self.machine.borrow_mut().written(upto as u64);
    }

    /// The disk did not take the last changes; sending goes on from memory until `tryDisk`.
    #[wasm_bindgen(js_name = diskFailed)]
    pub fn disk_failed(&self, why: &str, wall: f64, mono: f64) {
        self.machine.borrow_mut().disk_failed(why, now(wall, mono));
    }

    /// The disk is to be tried again: the next changes write everything anew.
    #[wasm_bindgen(js_name = tryDisk)]
    pub fn try_disk(&self) {
        self.machine.borrow_mut().try_disk();
    }

    /// The disk took that.
    #[wasm_bindgen(js_name = diskMended)]
    pub fn disk_mended(&self, wall: f64, mono: f64) {
        self.machine.borrow_mut().disk_mended(now(wall, mono));
    }

    /// Takes one of the journal's files; in the order of their names, then `recovered`.
    pub fn recover(&self, file: &str, bytes: &[u8]) {
        self.machine.borrow_mut().recover(file, bytes);
    }

    /// Goes on from the files that were handed over.
    pub fn recovered(&self, wall: f64, mono: f64) {
        self.machine.borrow_mut().recovered(now(wall, mono));
    }

    /// The file that `load` is to get, if any.
    #[wasm_bindgen(js_name = toLoad)]
    pub fn to_load(&self) -> Option<String> {
        self.machine.borrow().to_load()
    }

    /// Takes the bytes of a file that waited on disk; no bytes where it cannot be read.
    pub fn load(&self, file: &str, bytes: &[u8], wall: f64, mono: f64) {
        self.machine.borrow_mut().load(file, bytes, now(wall, mono));
    }

    /// Another process owns the journal: `writes` gives what is appended to a file that the owner reads.
    #[wasm_bindgen(js_name = becomeSpool)]
    pub fn become_spool(&self) {
        self.machine.borrow_mut().become_spool();
    }

    /// Takes in what another process wrote, from `spoolOffset` on; how many bytes of it were whole.
    #[wasm_bindgen(js_name = takeSpool)]
    pub fn take_spool(&self, name: &str, bytes: &[u8], wall: f64, mono: f64) -> u32 {
        self.machine
            .borrow_mut()
            .take_spool(name, bytes, now(wall, mono)) as u32
    }

    /// How far another process's file was read.
    #[wasm_bindgen(js_name = spoolOffset)]
    pub fn spool_offset(&self, name: &str) -> u32 {
        self.machine.borrow().spool_offset(name) as u32
    }

    /// Another process's file is read to its end and gone; `torn` where a piece of it could not be read.
    #[wasm_bindgen(js_name = forgetSpool)]
    pub fn forget_spool(&self, name: &str, torn: bool) {
        self.machine.borrow_mut().forget_spool(name, torn);
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

    /// Whether the journal is to survive a power cut, by fsync.
    #[wasm_bindgen(js_name = survivesPowerCut)]
    pub fn survives_power_cut(&self) -> bool {
        self.machine.borrow().survives_power_cut()
    }

    /// The status, as JSON.
    pub fn status(&self) -> String {
        json(&self.machine.borrow().status())
    }
}

/// One array of all pieces.
fn joined(pieces: &[Uint8Array]) -> Uint8Array {
    let whole = Uint8Array::new_with_length(pieces.iter().map(Uint8Array::length).sum());
    let mut at = 0;
    for piece in pieces {
        whole.set(piece, at);
        at += piece.length();
    }
    whole
}

fn order(machine: &Machine, request: Request) -> Option<Array> {
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
