//! The session store for JavaScript; see `js-shim/src/sessions/store.ts` and `js-shim/src/sessions/host.ts`.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use js_sys::{Array, Error, Uint8Array};
use serde_wasm_bindgen::from_value;
use wasm_bindgen::prelude::*;

use super::host::fault;
use crate::host::Fault;
use crate::sessions::host::{Cell, Cells, FileStat, OpenFile, StoreHost};
use crate::sessions::places::{self, SessionStore};
use crate::sessions::reader::{self, Batch, Options, Step};

#[wasm_bindgen]
extern "C" {
    /// Files and databases of the session store.
    #[derive(Debug)]
    pub type JsStoreHost;

    #[wasm_bindgen(method, catch)]
    fn names(this: &JsStoreHost, folder: &str) -> Result<Vec<String>, JsValue>;

    #[wasm_bindgen(method, js_name = realPath)]
    fn real_path(this: &JsStoreHost, path: &str) -> Option<String>;

    /// A [`FileStat`], or `undefined`.
    #[wasm_bindgen(method, catch)]
    fn stat(this: &JsStoreHost, path: &str) -> Result<JsValue, JsValue>;

    #[wasm_bindgen(method, catch)]
    fn open(this: &JsStoreHost, path: &str) -> Result<JsOpenFile, JsValue>;

    #[wasm_bindgen(method, catch)]
    fn query(
        this: &JsStoreHost,
        database: &str,
        sql: &str,
        values: Array,
        most_bytes: f64,
    ) -> Result<Array, JsValue>;

    #[wasm_bindgen(method)]
    fn close(this: &JsStoreHost, database: &str);

    /// An open file.
    #[derive(Debug)]
    pub type JsOpenFile;

    #[wasm_bindgen(method, catch)]
    fn read(this: &JsOpenFile, from: f64, into: &mut [u8]) -> Result<u32, JsValue>;

    #[wasm_bindgen(method)]
    fn close(this: &JsOpenFile);
}

fn cell(value: JsValue) -> Cell {
    if let Some(bytes) = value.dyn_ref::<Uint8Array>() {
        return Cell::Blob(bytes.to_vec());
    }
    let integer = value.as_f64().map(|number| Cell::Integer(number as i64));
    let text = || value.as_string().map(Cell::Text);
    integer.or_else(text).unwrap_or(Cell::Null)
}

fn value(cell: &Cell) -> JsValue {
    match cell {
        Cell::Null => JsValue::NULL,
        Cell::Integer(number) => JsValue::from_f64(*number as f64),
        Cell::Text(text) => JsValue::from_str(text),
        Cell::Blob(bytes) => Uint8Array::from(bytes.as_slice()).into(),
    }
}

impl StoreHost for JsStoreHost {
    fn names(&self, folder: &str) -> Result<Vec<String>, Fault> {
        JsStoreHost::names(self, folder).map_err(fault)
    }

    fn real_path(&self, path: &str) -> Option<String> {
        JsStoreHost::real_path(self, path)
    }

    fn stat(&self, path: &str) -> Result<Option<FileStat>, Fault> {
        let stat = JsStoreHost::stat(self, path).map_err(fault)?;
        Ok(from_value(stat).ok())
    }

    fn open(&self, path: &str) -> Result<Box<dyn OpenFile>, Fault> {
        let file = JsStoreHost::open(self, path).map_err(fault)?;
        Ok(Box::new(Opened(file)))
    }

    fn query(
        &self,
        database: &str,
        sql: &str,
        values: &[Cell],
        most_bytes: usize,
    ) -> Result<Vec<Cells>, Fault> {
        let values = values.iter().map(value).collect();
        let rows =
            JsStoreHost::query(self, database, sql, values, most_bytes as f64).map_err(fault)?;
        let cells = |row: JsValue| Array::from(&row).iter().map(cell).collect();
        Ok(rows.iter().map(cells).collect())
    }

    fn close(&self, database: &str) {
        JsStoreHost::close(self, database);
    }
}

#[derive(Debug)]
struct Opened(JsOpenFile);

impl OpenFile for Opened {
    fn read(&self, from: u64, into: &mut [u8]) -> Result<usize, Fault> {
        let read = self.0.read(from as f64, into).map_err(fault)?;
        Ok(read as usize)
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// Reads OpenClaw's session store behind bookmarks. It has to be freed.
#[wasm_bindgen]
pub struct StoreReader(RefCell<reader::StoreReader>);

#[wasm_bindgen]
impl StoreReader {
    /// A reader that has read nothing. `store` is a [`SessionStore`] or `undefined`; `bookmarks` are pairs of a session and its
    /// bookmark. Times are ms since 1970, see [`Options`].
    #[wasm_bindgen(constructor)]
    pub fn new(
        host: JsStoreHost,
        state_dir: String,
        store: JsValue,
        bookmarks: Array,
        since: Option<f64>,
        until: Option<f64>,
        future: Option<f64>,
    ) -> StoreReader {
        let ms = |time: Option<f64>| time.map(|ms| ms as u64);
        let options = Options {
            state_dir,
            store: from_value(store).ok(),
            since_ms: ms(since),
            until_ms: ms(until),
            future_ms: ms(future),
        };
        let pair = |pair: JsValue| {
            let pair = Array::from(&pair);
            Some((pair.get(0).as_string()?, pair.get(1).as_string()?))
        };
        let bookmarks: BTreeMap<String, String> = bookmarks.iter().filter_map(pair).collect();
        let reader = reader::StoreReader::new(Rc::new(host), options, bookmarks);
        StoreReader(RefCell::new(reader))
    }

    /// Reads about a MB at most. Returns a batch as JSON `{file, bookmark, rows, skipped?, problem?}`, an empty text where
    /// none is complete yet, `undefined` at the end.
    ///
    /// # Errors
    /// Where the places of the store cannot be listed.
    pub fn step(&self) -> Result<Option<String>, Error> {
        match self.0.borrow_mut().step() {
            Ok(Step::Batch(batch)) => Ok(Some(json(&batch))),
            Ok(Step::Pause) => Ok(Some(String::new())),
            Ok(Step::Done) => Ok(None),
            Err(fault) => Err(Error::new(&fault)),
        }
    }

    /// Number of sessions that were looked at.
    pub fn sessions(&self) -> f64 {
        self.0.borrow().progress.sessions as f64
    }

    /// Number of transcript bytes that were read, unpacked.
    pub fn bytes(&self) -> f64 {
        self.0.borrow().progress.bytes as f64
    }
}

/// Rows are JSON already.
fn json(batch: &Batch) -> String {
    let quoted = |text: &str| serde_json::to_string(text).unwrap_or_default();
    let (file, bookmark) = (quoted(&batch.session), quoted(&batch.bookmark));
    let mut text = format!(
        r#"{{"file":{file},"bookmark":{bookmark},"rows":[{}]"#,
        batch.rows
    );
    if let Some(skipped) = &batch.skipped {
        text.push_str(&format!(r#","skipped":{}"#, skipped.json()));
    }
    if let Some(problem) = &batch.problem {
        text.push_str(&format!(r#","problem":{}"#, quoted(problem)));
    }
    text.push('}');
    text
}

/// Number of sessions in the stores, without places that cannot be read.
#[wasm_bindgen(js_name = countSessions)]
pub fn count_sessions(host: JsStoreHost, state_dir: &str, store: JsValue) -> usize {
    let host: Rc<dyn StoreHost> = Rc::new(host);
    let store: Option<SessionStore> = from_value(store).ok();
    reader::count_sessions(&host, state_dir, store.as_ref())
}

/// Whether the configured store has a session.
///
/// # Errors
/// Where a folder of stores cannot be listed.
#[wasm_bindgen(js_name = hasStore)]
pub fn has_store(host: JsStoreHost, state_dir: &str, store: JsValue) -> Result<bool, Error> {
    let error = |fault: String| Error::new(&fault);
    let store: SessionStore = from_value(store).map_err(|fault| error(fault.to_string()))?;
    places::has_store(&host, state_dir, &store).map_err(error)
}
