//! The keys of sessions in files. OpenClaw up to 2026.7 keeps them in a file of their own, later in the database.

use std::collections::HashMap;

use crate::formats::json::{read_object, text_of};
use crate::host::Fault;

use super::host::{OpenFile, StoreHost};

/// The largest index that is read, in bytes.
const MAX_INDEX: usize = 64 * 1024 * 1024;
/// How much of it is read at a time, in bytes.
const PIECE: usize = 256 * 1024;

/// The keys of one place's sessions, read from their files once somebody asks.
#[derive(Debug)]
pub struct SessionKeys {
    indexes: Vec<String>,
    found: Option<HashMap<String, String>>,
    /// Which indexes could not be read.
    pub problems: Vec<String>,
}

impl SessionKeys {
    /// Nothing is read yet.
    pub fn new(indexes: Vec<String>) -> Self {
        Self {
            indexes,
            found: None,
            problems: Vec::new(),
        }
    }

    /// A session's key, as far as an index tells it.
    pub fn of(&mut self, host: &dyn StoreHost, session_id: &str) -> Option<String> {
        let (indexes, problems) = (&self.indexes, &mut self.problems);
        let found = self.found.get_or_insert_with(|| {
            let mut found = HashMap::new();
            for index in indexes {
                if read_index(host, index, &mut found).is_err() {
                    problems.push(format!(
                        "{index} cannot be read: its sessions are counted for the store's owner"
                    ));
                }
            }
            found
        });
        found.get(session_id).cloned()
    }
}

fn read_index(
    host: &dyn StoreHost,
    path: &str,
    found: &mut HashMap<String, String>,
) -> Result<(), Fault> {
    if host.stat(path)?.is_none() {
        return Ok(());
    }
    let bytes = whole(&*host.open(path)?)?;
    let text = text_of(&bytes);
    let take = |key: &str, entry: crate::formats::json::Value| {
        let mut id = None;
        entry.members(|name, value| {
            if name == "sessionId" {
                id = value.text();
            }
        });
        if let Some(id) = id {
            found.insert(id, key.to_owned());
        }
    };
    match text.trim_ascii() {
        // Nothing that an index could be, and no fault either.
        "null" => Ok(()),
        text => read_object(text, take).map_err(|error| error.to_string()),
    }
}

fn whole(file: &dyn OpenFile) -> Result<Vec<u8>, Fault> {
    let mut bytes = Vec::new();
    loop {
        let end = bytes.len();
        if end > MAX_INDEX {
            return Err(format!("more than {MAX_INDEX} bytes"));
        }
        bytes.resize(end + PIECE, 0);
        let read = file.read(end as u64, &mut bytes[end..])?;
        bytes.truncate(end + read);
        if read == 0 {
            return Ok(bytes);
        }
    }
}
