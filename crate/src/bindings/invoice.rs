//! Compares our figures with a provider's invoice.

use std::cell::RefCell;

use serde::Serialize;
use wasm_bindgen::prelude::*;

use crate::invoice::{self, Outcome, Said, Wanted};

#[derive(Serialize)]
struct Compared {
    status: u8,
    lines: Vec<String>,
    outcome: Outcome,
}

/// One comparison; see [`invoice::Invoice`]. Times are ms since 1970.
#[wasm_bindgen]
pub struct Invoice {
    invoice: RefCell<invoice::Invoice>,
}

#[wasm_bindgen]
impl Invoice {
    /// Judges the options of the command.
    ///
    /// # Errors
    /// What is wrong with one, and the mend.
    #[wasm_bindgen(constructor)]
    pub fn new(
        provider: &str,
        since: &str,
        until: Option<String>,
        also: Vec<String>,
        now: f64,
    ) -> Result<Invoice, JsError> {
        let wanted = Wanted {
            provider,
            since,
            until: until.as_deref(),
            also,
        };
        let invoice =
            invoice::Invoice::new(wanted, now as u64).map_err(|why| JsError::new(&why))?;
        Ok(Invoice {
            invoice: RefCell::new(invoice),
        })
    }

    /// The next request, as JSON of [`invoice::Ask`]; nothing once all is there.
    pub fn next(&self) -> Option<String> {
        let ask = self.invoice.borrow_mut().next_ask()?;
        serde_json::to_string(&ask).ok()
    }

    /// Takes a piece of an answer's body: of AgentWatch where its status is 200, of the provider always.
    pub fn feed(&self, bytes: &[u8]) {
        self.invoice.borrow_mut().feed(bytes);
    }

    /// The answer has ended, or there was none: status 0, and why. In how many ms the same request is to be made again; 0 where it is not.
    ///
    /// # Errors
    /// What stands in the way, and what to do.
    pub fn answered(
        &self,
        status: u16,
        retry_after_ms: Option<f64>,
        why: &str,
    ) -> Result<f64, JsError> {
        let mut invoice = self.invoice.borrow_mut();
        let said = invoice.answered(status, retry_after_ms.map(|ms| ms as u64), why);
        match said.map_err(|why| JsError::new(&why))? {
            Said::Next => Ok(0.0),
            Said::Wait(ms) => Ok(ms.max(1) as f64),
        }
    }

    /// The comparison, as JSON `{status, lines, outcome}`: the exit status, lines for people, and what `--json` prints. `differing`
    /// leaves out rows that match.
    pub fn result(&self, differing: bool) -> String {
        let mut outcome = self.invoice.borrow().result();
        let status = outcome.status();
        if differing {
            outcome.leave_out_matched();
        }
        let lines = outcome.lines();
        serde_json::to_string(&Compared {
            status,
            lines,
            outcome,
        })
        .unwrap_or_default()
    }
}
