//! The host's functions, imported from JavaScript; see `js-shim/src/base/host-files.ts`.

use js_sys::{Array, Error};
use wasm_bindgen::prelude::*;

use crate::host::{Fault, FileEntry, Host};

#[wasm_bindgen]
extern "C" {
    /// Files of the plugin's own folder.
    #[derive(Debug)]
    pub type JsHost;

    /// `[name, bytes, stamp, fault?]` of each file.
    #[wasm_bindgen(method)]
    fn list(this: &JsHost, folder: &str) -> Array;

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

    #[wasm_bindgen(method, catch)]
    fn owns(this: &JsHost) -> Result<bool, JsValue>;

    #[wasm_bindgen(method)]
    fn lives(this: &JsHost, spool_file: &str) -> Option<bool>;
}

/// The shim's functions throw only `Error`s.
pub(super) fn fault(error: JsValue) -> Fault {
    let message = error.dyn_ref::<Error>().map(Error::message);
    message.map_or_else(|| "no reason was given".to_owned(), String::from)
}

fn entry(entry: &JsValue) -> Option<FileEntry> {
    let entry: &Array = entry.dyn_ref()?;
    Some(FileEntry {
        name: entry.get(0).as_string()?,
        bytes: entry.get(1).as_f64()? as u64,
        stamp: entry.get(2).as_string()?,
        fault: entry.get(3).as_string(),
    })
}

impl Host for JsHost {
    fn list(&self, folder: &str) -> Vec<FileEntry> {
        let files = JsHost::list(self, folder);
        files.iter().filter_map(|file| entry(&file)).collect()
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

    fn owns(&self) -> Result<bool, Fault> {
        JsHost::owns(self).map_err(fault)
    }

    fn lives(&self, spool_file: &str) -> Option<bool> {
        JsHost::lives(self, spool_file)
    }
}
