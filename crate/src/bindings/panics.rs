//! Reports the location of a panic to JavaScript, before the instance traps.

use std::cell::RefCell;

use js_sys::Function;
use wasm_bindgen::prelude::*;

thread_local! {
    static TOLD: RefCell<Option<Function>> = const { RefCell::new(None) };
}

/// Makes a panic call this function with `file:line:column`. The message is left out: it may quote content.
#[wasm_bindgen(js_name = onPanic)]
pub fn on_panic(told: Function) {
    TOLD.set(Some(told));
    std::panic::set_hook(Box::new(|panic| {
        let told = TOLD.take();
        if let (Some(told), Some(at)) = (told, panic.location()) {
            // The instance ends here, so an error of the function has no receiver.
            let _ = told.call1(&JsValue::NULL, &at.to_string().into());
        }
    }));
}
