//! Who owns a state directory, for commands.

use std::cell::RefCell;

use wasm_bindgen::prelude::*;

use super::host::JsHost;
use crate::lease::watch::{self, Look};

/// Watches the lease of a folder. It has to be freed.
#[wasm_bindgen]
pub struct OwnerWatch {
    host: JsHost,
    watch: RefCell<watch::Watch>,
}

#[wasm_bindgen]
impl OwnerWatch {
    /// A watch of the host's folder.
    #[wasm_bindgen(constructor)]
    pub fn new(host: JsHost) -> OwnerWatch {
        OwnerWatch {
            host,
            watch: RefCell::default(),
        }
    }

    /// The living owner as JSON `{pid, host, started, token, role}`, `undefined` where there is none, an empty text where a
    /// later look tells.
    pub fn look(&self) -> Option<String> {
        match self.watch.borrow_mut().look(&self.host) {
            Look::Nobody => None,
            Look::Later => Some(String::new()),
            Look::Owned(owner) => Some(json(&owner)),
        }
    }
}

/// What the lease's file of the host's folder tells, as JSON `{owner, lives, silent_s, fault}`.
#[wasm_bindgen(js_name = writtenOwner)]
pub fn written_owner(host: &JsHost) -> String {
    json(&watch::told(host))
}

fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}
