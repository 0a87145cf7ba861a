//! The host's functions, imported from JavaScript; see `js-shim/src/base/host-files.ts`.

use js_sys::{Array, Error};
use serde_wasm_bindgen::from_value;
use wasm_bindgen::prelude::*;

use crate::domain::time::Now;
use crate::host::{Fault, FileEntry, Host, Process};

#[wasm_bindgen]
extern "C" {
    /// Files of the plugin's own folder.
    #[derive(Debug)]
    pub type JsHost;

    /// A [`FileEntry`] for each file.
    #[wasm_bindgen(method, catch)]
    fn list(this: &JsHost, folder: &str) -> Result<Array, JsValue>;

    #[wasm_bindgen(method, catch)]
    fn read(this: &JsHost, path: &str, from: f64, most: u32) -> Result<Option<Vec<u8>>, JsValue>;

    #[wasm_bindgen(method, catch)]
    fn append(
        this: &JsHost,
        path: &str,
        bytes: &[u8],
        end: Option<f64>,
        durable: bool,
    ) -> Result<(), JsValue>;

    #[wasm_bindgen(method, catch)]
    fn rename(this: &JsHost, from: &str, to: &str, durable: bool) -> Result<(), JsValue>;

    #[wasm_bindgen(method, catch)]
    fn remove(this: &JsHost, path: &str) -> Result<(), JsValue>;

    /// A [`FileEntry`], or `undefined`.
    #[wasm_bindgen(method)]
    fn stat(this: &JsHost, path: &str) -> JsValue;

    #[wasm_bindgen(method, catch)]
    fn create(this: &JsHost, path: &str, text: &str) -> Result<bool, JsValue>;

    #[wasm_bindgen(method, catch)]
    fn replace(this: &JsHost, path: &str, text: &str) -> Result<(), JsValue>;

    #[wasm_bindgen(method, catch)]
    fn touch(this: &JsHost, path: &str, wall_ms: f64) -> Result<(), JsValue>;

    #[wasm_bindgen(method, catch, js_name = makeFolder)]
    fn make_folder(this: &JsHost, path: &str) -> Result<(), JsValue>;

    #[wasm_bindgen(method, catch, js_name = removeFolder)]
    fn remove_folder(this: &JsHost, path: &str) -> Result<(), JsValue>;

    #[wasm_bindgen(method)]
    fn path(this: &JsHost, path: &str) -> String;

    /// A [`Process`].
    #[wasm_bindgen(method)]
    fn process(this: &JsHost) -> JsValue;

    #[wasm_bindgen(method)]
    fn runs(this: &JsHost, pid: u32) -> bool;

    /// `[wall, mono]`.
    #[wasm_bindgen(method)]
    fn now(this: &JsHost) -> Vec<f64>;
}

/// The shim's functions throw only `Error`s.
pub(super) fn fault(error: JsValue) -> Fault {
    let message = error.dyn_ref::<Error>().map(Error::message);
    message.map_or_else(|| "no reason was given".to_owned(), String::from)
}

impl Host for JsHost {
    fn list(&self, folder: &str) -> Result<Vec<FileEntry>, Fault> {
        let files = JsHost::list(self, folder).map_err(fault)?;
        Ok(files
            .iter()
            .filter_map(|file| from_value(file).ok())
            .collect())
    }

    fn read(&self, path: &str, from: u64, most: usize) -> Result<Option<Vec<u8>>, Fault> {
        JsHost::read(self, path, from as f64, most as u32).map_err(fault)
    }

    fn append(
        &self,
        path: &str,
        bytes: &[u8],
        end: Option<u64>,
        durable: bool,
    ) -> Result<(), Fault> {
        let end = end.map(|end| end as f64);
        JsHost::append(self, path, bytes, end, durable).map_err(fault)
    }

    fn rename(&self, from: &str, to: &str, durable: bool) -> Result<(), Fault> {
        JsHost::rename(self, from, to, durable).map_err(fault)
    }

    fn remove(&self, path: &str) -> Result<(), Fault> {
        JsHost::remove(self, path).map_err(fault)
    }

    fn stat(&self, path: &str) -> Option<FileEntry> {
        from_value(JsHost::stat(self, path)).ok()
    }

    fn create(&self, path: &str, text: &str) -> Result<bool, Fault> {
        JsHost::create(self, path, text).map_err(fault)
    }

    fn replace(&self, path: &str, text: &str) -> Result<(), Fault> {
        JsHost::replace(self, path, text).map_err(fault)
    }

    fn touch(&self, path: &str, wall_ms: u64) -> Result<(), Fault> {
        JsHost::touch(self, path, wall_ms as f64).map_err(fault)
    }

    fn make_folder(&self, path: &str) -> Result<(), Fault> {
        JsHost::make_folder(self, path).map_err(fault)
    }

    fn remove_folder(&self, path: &str) -> Result<(), Fault> {
        JsHost::remove_folder(self, path).map_err(fault)
    }

    fn path(&self, path: &str) -> String {
        JsHost::path(self, path)
    }

    fn process(&self) -> Process {
        from_value(JsHost::process(self)).unwrap_or_default()
    }

    fn runs(&self, pid: u32) -> bool {
        JsHost::runs(self, pid)
    }

    fn now(&self) -> Now {
        let [wall, mono] = *JsHost::now(self) else {
            return Now::default();
        };
        Now {
            wall_ms: wall as u64,
            mono_ms: mono as u64,
        }
    }
}
