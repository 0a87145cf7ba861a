//! A disk in memory that fails on demand.

use std::cell::{Cell, RefCell, RefMut};
use std::collections::BTreeMap;
use std::rc::Rc;

use agentwatch_openclaw::domain::time::Now;
use agentwatch_openclaw::host::{Fault, FileEntry, Host, Process};
use agentwatch_openclaw::journal::files::{Op, Write};

type Files = BTreeMap<String, Vec<u8>>;

/// Files by path, those of the journal by name, and the id of the process that sees them. Clones share the same disk.
#[derive(Debug, Default, Clone)]
pub struct Disk(Rc<State>, u32);

#[derive(Debug, Default)]
struct State {
    files: RefCell<Files>,
    /// Number of changes before it fails, and number of bytes that remain of the failing one.
    takes: Cell<Option<(u64, usize)>>,
    changes: Cell<u64>,
    /// Whether files cannot be removed.
    keeps: Cell<bool>,
    /// Whether folders cannot be listed.
    hides: Cell<bool>,
    /// The file that cannot be read.
    sealed: RefCell<Option<String>>,
}

impl Disk {
    /// Its files.
    pub fn files(&self) -> RefMut<'_, Files> {
        self.0.files.borrow_mut()
    }

    /// The host for an engine.
    pub fn host(&self) -> Rc<dyn Host> {
        Rc::new(self.clone())
    }

    /// The host for an engine of the process 1, which ends before its spool files are read.
    pub fn other_host(&self) -> Rc<dyn Host> {
        Rc::new(Self(self.0.clone(), 1))
    }

    /// Fails after this many changes; of a refused write, `torn` bytes remain.
    pub fn fail_after(&self, changes: u64, torn: usize) {
        self.0.takes.set(Some((changes, torn)));
    }

    /// Works again.
    pub fn be_well(&self) {
        self.0.takes.set(None);
    }

    /// Makes it refuse to remove files, or removes them again.
    pub fn keep_files(&self, keeps: bool) {
        self.0.keeps.set(keeps);
    }

    /// Makes it refuse to list folders, or lists them again.
    pub fn hide_files(&self, hides: bool) {
        self.0.hides.set(hides);
    }

    /// Makes it refuse to read this file.
    pub fn seal(&self, file: Option<&str>) {
        *self.0.sealed.borrow_mut() = file.map(str::to_owned);
    }

    /// Number of changes so far.
    pub fn changes(&self) -> u64 {
        self.0.changes.get()
    }

    /// Applies the changes of a log without an engine.
    pub fn apply(&self, writes: Vec<Write>) {
        for Write { file, op } in writes {
            match op {
                Op::Append(bytes) => self.append(&file, &bytes, None, false).unwrap(),
                Op::Delete => self.remove(&file).unwrap(),
                _ => unreachable!("a log appends and deletes"),
            }
        }
    }

    fn change(&self) -> Result<(), usize> {
        match self.0.takes.get() {
            Some((0, torn)) => Err(torn),
            takes => {
                let left = takes.map(|(left, torn)| (left - 1, torn));
                self.0.takes.set(left);
                self.0.changes.set(self.0.changes.get() + 1);
                Ok(())
            }
        }
    }

    fn simple_change(&self) -> Result<(), Fault> {
        self.change().map_err(|_| full())
    }
}

fn full() -> Fault {
    "no space left".to_owned()
}

fn key(path: &str) -> &str {
    path.strip_prefix("journal/").unwrap_or(path)
}

impl Host for Disk {
    fn list(&self, folder: &str) -> Result<Vec<FileEntry>, Fault> {
        if self.0.hides.get() {
            return Err("too many open files".to_owned());
        }
        let prefix = format!("{folder}/");
        let name = |path: &String| match folder {
            "journal" => (!path.contains('/')).then(|| path.clone()),
            _ => path.strip_prefix(&prefix).map(str::to_owned),
        };
        let files = self.files();
        let entry = |(path, bytes): (&String, &Vec<u8>)| {
            Some(FileEntry {
                name: name(path).filter(|name| !name.ends_with(".new"))?,
                bytes: bytes.len() as u64,
                stamp: bytes.len().to_string(),
                modified_ms: 0,
                fault: None,
            })
        };
        Ok(files.iter().filter_map(entry).collect())
    }

    fn read(&self, path: &str, from: u64, most: usize) -> Result<Option<Vec<u8>>, Fault> {
        if self.0.sealed.borrow().as_deref() == Some(key(path)) {
            return Err(format!("{path} cannot be read"));
        }
        let files = self.files();
        let part = |bytes: &Vec<u8>| {
            bytes
                .iter()
                .skip(from as usize)
                .take(most)
                .copied()
                .collect()
        };
        Ok(files.get(key(path)).map(part))
    }

    fn append(&self, path: &str, bytes: &[u8], end: Option<u64>, _: bool) -> Result<(), Fault> {
        let change = self.change();
        let mut files = self.files();
        let file = files.entry(key(path).to_owned()).or_default();
        if end.is_some_and(|end| end != file.len() as u64) {
            return Err(format!("{path} was removed or changed"));
        }
        if let Err(torn) = change {
            file.extend(bytes.iter().take(torn));
            return Err(full());
        }
        file.extend(bytes);
        Ok(())
    }

    fn rename(&self, from: &str, to: &str, _: bool) -> Result<(), Fault> {
        self.simple_change()?;
        let mut files = self.files();
        if let Some(bytes) = files.remove(key(from)) {
            files.insert(key(to).to_owned(), bytes);
        }
        Ok(())
    }

    fn remove(&self, path: &str) -> Result<(), Fault> {
        if self.0.keeps.get() && !path.ends_with(".new") {
            return Err("operation not permitted".to_owned());
        }
        self.simple_change()?;
        self.files().remove(key(path));
        Ok(())
    }

    fn stat(&self, path: &str) -> Option<FileEntry> {
        let bytes = self.files().get(key(path))?.len() as u64;
        Some(FileEntry {
            name: path.to_owned(),
            bytes,
            stamp: bytes.to_string(),
            modified_ms: 0,
            fault: None,
        })
    }

    fn create(&self, path: &str, text: &str) -> Result<bool, Fault> {
        if self.files().contains_key(key(path)) {
            return Ok(false);
        }
        self.replace(path, text).map(|()| true)
    }

    fn replace(&self, path: &str, text: &str) -> Result<(), Fault> {
        self.simple_change()?;
        self.files().insert(key(path).to_owned(), text.into());
        Ok(())
    }

    fn touch(&self, _: &str, _: u64) -> Result<(), Fault> {
        self.simple_change()
    }

    fn make_folder(&self, path: &str) -> Result<(), Fault> {
        let is_made = self.create(path, "")?;
        is_made
            .then_some(())
            .ok_or_else(|| "it is there".to_owned())
    }

    fn remove_folder(&self, path: &str) -> Result<(), Fault> {
        self.remove(path)
    }

    fn path(&self, path: &str) -> String {
        path.to_owned()
    }

    fn process(&self) -> Process {
        Process {
            pid: self.1,
            host: "host".to_owned(),
            started_ms: 2,
            token: "token".to_owned(),
        }
    }

    fn runs(&self, _: u32) -> bool {
        false
    }

    fn now(&self) -> Now {
        Now::default()
    }
}
