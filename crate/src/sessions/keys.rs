//! Session keys of sessions in files. OpenClaw up to 2026.7 stores the keys in an index file, later versions in the
//! database.

use std::collections::HashMap;

use crate::formats::json::{read_object, text_of};
use crate::host::Fault;

use super::host::{OpenFile, StoreHost};

/// Maximum size of an index file, in bytes.
const MAX_INDEX: usize = 64 * 1024 * 1024;
/// Number of bytes of a read.
const PIECE: usize = 256 * 1024;

/// An index file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Index {
    /// The file's path.
    pub path: String,
    /// Agent of its sessions without an agent.
    pub agent: String,
}

/// What an index says of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// The session's key.
    pub key: String,
    /// Agent of the session if its key has none; `None` if the place's agent is valid.
    pub agent: Option<String>,
}

/// The keys of a place's sessions. The index files are read at the first look-up.
#[derive(Debug)]
pub struct SessionKeys {
    indexes: Vec<Index>,
    found: Option<HashMap<String, Listed>>,
    /// A text for each index that could not be read.
    pub problems: Vec<String>,
}

impl SessionKeys {
    /// Keys from these index files.
    pub fn new(indexes: Vec<Index>) -> Self {
        Self {
            indexes,
            found: None,
            problems: Vec::new(),
        }
    }

    /// A session's key and agent; `None` if no index has it.
    pub fn of(&mut self, host: &dyn StoreHost, session_id: &str) -> Option<Listed> {
        let (indexes, problems) = (&self.indexes, &mut self.problems);
        let found = self.found.get_or_insert_with(|| {
            let mut found = HashMap::new();
            for index in indexes {
                if read_index(host, index, &mut found).is_err() {
                    let path = &index.path;
                    problems.push(format!(
                        "{path} cannot be read: its sessions are counted for the store's owner"
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
    Index { path, agent }: &Index,
    found: &mut HashMap<String, Listed>,
) -> Result<(), Fault> {
    if host.stat(path)?.is_none() {
        return Ok(());
    }
    let bytes = whole(&*host.open(path)?)?;
    let text = text_of(&bytes);
    let take = |key: &str, entry: crate::formats::json::Value| {
        let (mut id, mut file) = (None, None);
        entry.members(|name, value| match name {
            "sessionId" => id = value.text(),
            "sessionFile" => file = value.text(),
            _ => {}
        });
        let listed = || Listed {
            key: key.to_owned(),
            agent: Some(agent.clone()),
        };
        let file = file.as_deref().and_then(session_in);
        // Topics may share a session's id: then each has a file of its own.
        if let Some(file) = file.filter(|file| Some(*file) != id.as_deref()) {
            found.insert(file.to_owned(), listed());
            id = id.filter(|id| !found.contains_key(id));
        }
        if let Some(id) = id {
            found.insert(id, listed());
        }
    };
    match text.trim_ascii() {
        // `null` counts as an empty index.
        "null" => Ok(()),
        text => read_object(text, take).map_err(|error| error.to_string()),
    }
}

/// The id by which the transcripts of a folder are listed: `<id>.jsonl`.
fn session_in(path: &str) -> Option<&str> {
    let name = path.rsplit(['/', '\\']).next()?;
    name.strip_suffix(".jsonl")
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
