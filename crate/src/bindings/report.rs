//! The command `report`.

use std::cell::RefCell;

use wasm_bindgen::prelude::*;

use super::scalars::scalar;
use crate::invoice::Said;
use crate::report::{self, Format, Wanted};
use crate::spending::zones;

/// One report; see [`report::Report`]. Times are ms since 1970.
#[wasm_bindgen]
pub struct Report {
    report: RefCell<report::Report>,
}

#[wasm_bindgen]
impl Report {
    /// Judges the options of the command. `zone` is a list with the zone, as [`zones::read`] takes it.
    ///
    /// # Errors
    /// What is wrong with one, and the mend.
    #[wasm_bindgen(constructor)]
    pub fn new(
        since: Option<String>,
        by: Option<String>,
        zone: &JsValue,
        of_receiver: bool,
        now: f64,
    ) -> Result<Report, JsError> {
        let wanted = Wanted {
            since,
            by,
            zone: zones::read(&scalar(zone)).pop(),
            of_receiver,
        };
        let report = report::Report::new(&wanted, now as u64).map_err(|why| JsError::new(&why))?;
        Ok(Report {
            report: RefCell::new(report),
        })
    }

    /// Takes a ledger file of a state directory, in the order of the files' names.
    ///
    /// # Errors
    /// A newer version wrote it.
    pub fn ledger(&self, bytes: &[u8]) -> Result<(), JsError> {
        let taken = self.report.borrow_mut().ledger(bytes);
        taken.map_err(|why| JsError::new(&why))
    }

    /// Takes the allowances of the state directory's status, a JSON list.
    pub fn allowances(&self, json: &str) {
        self.report.borrow_mut().allowances(json);
    }

    /// The next request to the receiver, as JSON of [`crate::invoice::Ask`]; nothing once all is there.
    pub fn next(&self) -> Option<String> {
        let ask = self.report.borrow().next_ask()?;
        serde_json::to_string(&ask).ok()
    }

    /// Takes a piece of the body of an answer with status 200.
    pub fn feed(&self, bytes: &[u8]) {
        self.report.borrow_mut().feed(bytes);
    }

    /// The answer has ended, or there was none: status 0, and why. In how many ms the same request is to be made again; 0
    /// where it is not.
    ///
    /// # Errors
    /// What stands in the way, and what to do.
    pub fn answered(
        &self,
        status: u16,
        retry_after_ms: Option<f64>,
        why: &str,
    ) -> Result<f64, JsError> {
        let mut report = self.report.borrow_mut();
        let said = report.answered(status, retry_after_ms.map(|ms| ms as u64), why);
        match said.map_err(|why| JsError::new(&why))? {
            Said::Next => Ok(0.0),
            Said::Wait(ms) => Ok(ms.max(1) as f64),
        }
    }

    /// What limits the figures, in sentences, after [`Self::output`]; `text` and `json` have them too.
    pub fn notes(&self) -> Vec<String> {
        self.report.borrow().notes().to_vec()
    }

    /// The report's lines: `text`, `json`, `csv` or `focus`. `from` names its source: for people, and for `focus` the gateway.
    pub fn output(&self, format: &str, from: &str) -> Vec<String> {
        self.report.borrow_mut().finish();
        let format = match format {
            "json" => Format::Json,
            "csv" => Format::Csv,
            "focus" => Format::Focus,
            _ => Format::Text,
        };
        self.report.borrow().output(format, from)
    }
}
