//! The face of `core.wasm`, which counts: small, synchronous, and never holding a borrow across a call
//! of JavaScript.
//!
//! Facts come in as flat arrays that the shim made; JSON text goes out. Times are ms: `wall` since
//! 1970, `mono` from any start but never going back.
//!
//! An instance that trapped is dead, and promises that come back to it would throw where nobody
//! catches; this module never has any. Requests are made by `io.wasm`.

use std::cell::RefCell;

use wasm_bindgen::prelude::*;

use crate::config::RawSettings;
use crate::core::Core as Machine;
use crate::facts::Scalar;
use crate::observe::SOURCES;
use crate::outbox::{Reply, Request};
use crate::time::Now;

/// The table of sources: which scalar fields of which events cross, as JSON.
#[wasm_bindgen]
pub fn sources() -> String {
    json(&SOURCES)
}

/// What `begin` and `answered` ask the host to send.
#[derive(serde::Serialize)]
struct Order<'a> {
    url: &'a str,
    token: Option<&'a str>,
    #[serde(flatten)]
    request: Request,
}

/// One gateway's core.
#[wasm_bindgen]
pub struct Core {
    machine: RefCell<Machine>,
}

#[wasm_bindgen]
impl Core {
    /// A core with its settings judged; what is wrong with them is in the first advice's log.
    #[wasm_bindgen(constructor)]
    pub fn new(settings: JsValue, seed_high: u32, seed_low: u32) -> Core {
        let raw: RawSettings = serde_wasm_bindgen::from_value(settings).unwrap_or_default();
        let seed = u64::from(seed_high) << 32 | u64::from(seed_low);
        Core {
            machine: RefCell::new(Machine::new(&raw, seed)),
        }
    }

    /// Tells whether the gateway's diagnostics are heard, and so worth waiting for.
    #[wasm_bindgen(js_name = expectDiagnostics)]
    pub fn expect_diagnostics(&self, expected: bool) {
        self.machine.borrow_mut().expect_diagnostics(expected);
    }

    /// Takes one event in. `source` is an index into [`sources`], `facts` an array in its order. The
    /// reason where it could not be read.
    pub fn observe(&self, source: u32, facts: JsValue, wall: f64, mono: f64) -> Option<String> {
        let facts: Vec<Scalar> = serde_wasm_bindgen::from_value(facts).unwrap_or_default();
        self.machine
            .borrow_mut()
            .observe(source as usize, facts, now(wall, mono))
            .map(str::to_owned)
    }

    /// Does what is due; JSON `{wake_in_ms: number | null, log: [{level, text}]}`.
    pub fn advance(&self, wall: f64, mono: f64) -> String {
        json(&self.machine.borrow_mut().advance(now(wall, mono)))
    }

    /// The next request to make, if any is due: `{url, token, path, body}` as JSON for `send`, whose
    /// reply goes to `answered`. `hurry` leaves out gathering and pauses.
    pub fn begin(&self, wall: f64, mono: f64, hurry: bool) -> Option<String> {
        let mut machine = self.machine.borrow_mut();
        let request = machine.begin(now(wall, mono), hurry)?;
        order(&machine, request)
    }

    /// Takes the reply to the last request; a further request where one follows at once.
    pub fn answered(&self, reply: &str, wall: f64, mono: f64) -> Option<String> {
        let reply: Reply = serde_json::from_str(reply).unwrap_or_default();
        let mut machine = self.machine.borrow_mut();
        let request = machine.answered(&reply, now(wall, mono))?;
        order(&machine, request)
    }

    /// Makes every call final: the gateway stops.
    pub fn close(&self, wall: f64, mono: f64) {
        self.machine.borrow_mut().close(now(wall, mono));
    }

    /// The journal's frames since this was last asked.
    pub fn journal(&self) -> Vec<u8> {
        self.machine.borrow_mut().take_journal()
    }

    /// The whole state as frames, in the journal's place.
    pub fn snapshot(&self) -> Vec<u8> {
        self.machine.borrow_mut().snapshot()
    }

    /// Goes on from a journal that another instance wrote.
    pub fn recover(&self, journal: &[u8], wall: f64, mono: f64) {
        self.machine.borrow_mut().recover(journal, now(wall, mono));
    }

    /// The status, as JSON.
    pub fn status(&self) -> String {
        json(&self.machine.borrow().status())
    }
}

fn order(machine: &Machine, request: Request) -> Option<String> {
    let (url, token) = machine.target()?;
    Some(json(&Order {
        url,
        token,
        request,
    }))
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
