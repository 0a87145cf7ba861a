//! Tells JavaScript where the module panicked, before the instance dies of it.

use std::cell::RefCell;

use js_sys::Function;
use wasm_bindgen::prelude::*;

thread_local! {
    static TOLD: RefCell<Option<Function>> = const { RefCell::new(None) };
}

/// From now on a panic calls this function with `file:line:column`. Its message is left out: it may quote what an event
/// or an answer held.
#[wasm_bindgen(js_name = onPanic)]
pub fn on_panic(told: Function) {
    TOLD.set(Some(told));
    std::panic::set_hook(Box::new(|panic| {
        let told = TOLD.take();
        if let (Some(told), Some(at)) = (told, panic.location()) {
            // What the function throws is of no use to a module that ends here.
            let _ = told.call1(&JsValue::NULL, &at.to_string().into());
        }
    }));
}
