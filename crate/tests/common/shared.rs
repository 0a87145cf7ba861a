//! A folder on the real disk that processes of a test share, each with its own host. A host fails or stalls at any call.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, UNIX_EPOCH};

use agentwatch_openclaw::domain::time::Now;
use agentwatch_openclaw::host::{Fault, FileEntry, Host, Process};
use agentwatch_openclaw::lease::Lease;

/// Processes and clocks of one machine.
#[derive(Debug)]
pub struct Machine {
    /// The shared folder.
    pub folder: PathBuf,
    /// Ids of the processes that run.
    pub running: RefCell<BTreeSet<u32>>,
    /// The wall clock, in ms since 1970.
    pub wall_ms: Cell<u64>,
    mono_ms: Cell<u64>,
}

impl Default for Machine {
    fn default() -> Self {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let name = format!("agentwatch-shared-{}-{number}", std::process::id());
        Self {
            folder: std::env::temp_dir().join(name).join("agentwatch"),
            running: RefCell::default(),
            wall_ms: Cell::new(1_795_000_000_000),
            mono_ms: Cell::new(5_000),
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let parent = self.folder.parent().expect("a folder of the test");
        let _ = fs::remove_dir_all(parent);
    }
}

impl Machine {
    /// Lets time pass.
    pub fn pass(&self, ms: u64) {
        self.wall_ms.set(self.wall_ms.get() + ms);
        self.mono_ms.set(self.mono_ms.get() + ms);
    }

    /// Starts a process.
    pub fn start(self: &Rc<Self>, pid: u32) -> Rc<Shared> {
        self.start_on(pid, "here")
    }

    /// Starts a process on a machine of this name.
    pub fn start_on(self: &Rc<Self>, pid: u32, name: &str) -> Rc<Shared> {
        if name == "here" {
            self.running.borrow_mut().insert(pid);
        }
        Rc::new(Shared {
            machine: self.clone(),
            process: Process {
                pid,
                host: name.to_owned(),
                started_ms: self.wall_ms.get(),
                token: format!("token-{pid}-{}", self.mono_ms.get()),
            },
            calls: Cell::new(0),
            fails: Cell::new(None),
            before: RefCell::new(None),
        })
    }

    /// Ends a process at once.
    pub fn kill(&self, pid: u32) {
        self.running.borrow_mut().remove(&pid);
    }

    /// A path of the folder, whose parent is there.
    pub fn at(&self, path: &str) -> PathBuf {
        fs::create_dir_all(&self.folder).expect("a folder");
        self.folder.join(path)
    }
}

/// Work that other processes do while a call stalls.
type Stall = Box<dyn FnMut()>;

/// The host of one process.
pub struct Shared {
    machine: Rc<Machine>,
    process: Process,
    calls: Cell<u32>,
    /// The numbers of the calls that fail: from and to.
    fails: Cell<Option<(u32, u32)>>,
    /// The number of the call that stalls, and what happens meanwhile.
    before: RefCell<Option<(u32, Stall)>>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "process {}", self.process.pid)
    }
}

impl Shared {
    /// Fails at so many calls after some that work.
    pub fn fail_after(&self, calls: u32, most: u32) {
        self.calls.set(0);
        self.fails.set(Some((calls, calls.saturating_add(most))));
    }

    /// Works again.
    pub fn be_well(&self) {
        self.fails.set(None);
    }

    /// Stalls at a call after some that do not.
    pub fn stall_after(&self, calls: u32, stall: impl FnMut() + 'static) {
        self.calls.set(0);
        *self.before.borrow_mut() = Some((calls, Box::new(stall)));
    }

    /// Number of calls since the last `fail_after` or `stall_after`.
    pub fn calls(&self) -> u32 {
        self.calls.get()
    }

    fn call(&self) -> Result<(), Fault> {
        let number = self.calls.get();
        self.calls.set(number + 1);
        let stalls = self
            .before
            .borrow()
            .as_ref()
            .is_some_and(|(at, _)| *at == number);
        if stalls && let Some((_, mut stall)) = self.before.take() {
            stall();
        }
        match self.fails.get() {
            Some((from, to)) if (from..to).contains(&number) => Err("no space left".to_owned()),
            _ => Ok(()),
        }
    }

    fn full(&self, path: &str) -> PathBuf {
        self.machine.folder.join(path)
    }

    fn aside(&self, path: &str) -> Result<(), Fault> {
        let full = self.full(path);
        if full.is_dir() && !full.is_symlink() {
            let name = format!("{path}.damaged-{}", self.machine.mono_ms.get());
            fs::rename(&full, self.full(&name)).map_err(said)?;
        }
        Ok(())
    }
}

fn said(error: std::io::Error) -> Fault {
    error.to_string()
}

const NO_FOLLOW: i32 = 0o400_000;

impl Host for Shared {
    fn list(&self, folder: &str) -> Result<Vec<FileEntry>, Fault> {
        let entries = match fs::read_dir(self.full(folder)) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(said(error)),
        };
        let name = |entry: fs::DirEntry| entry.file_name().to_string_lossy().into_owned();
        let mut names: Vec<String> = entries.flatten().map(name).collect();
        names.sort();
        names.retain(|name| !name.ends_with(".new"));
        let entry = |name: String| {
            let path = format!("{folder}/{name}");
            Some(FileEntry {
                name,
                ..self.stat(&path)?
            })
        };
        Ok(names.into_iter().filter_map(entry).collect())
    }

    fn read(&self, path: &str, from: u64, most: usize) -> Result<Option<Vec<u8>>, Fault> {
        self.call()?;
        let mut options = OpenOptions::new();
        let file = match options
            .read(true)
            .custom_flags(NO_FOLLOW)
            .open(self.full(path))
        {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(said(error)),
        };
        let size = file.metadata().map_err(said)?.len().saturating_sub(from);
        let mut bytes = vec![0; most.min(size as usize)];
        let read = file.read_at(&mut bytes, from).map_err(said)?;
        bytes.truncate(read);
        Ok(Some(bytes))
    }

    fn append(&self, path: &str, bytes: &[u8], end: Option<u64>, _: bool) -> Result<(), Fault> {
        self.call()?;
        let full = self.full(path);
        fs::create_dir_all(full.parent().expect("a folder")).map_err(said)?;
        let mut options = OpenOptions::new();
        let mut file = options.append(true).create(true).open(full).map_err(said)?;
        let size = file.metadata().map_err(said)?.len();
        if end.is_some_and(|end| end != size) {
            return Err(format!("{path} was removed or changed"));
        }
        file.write_all(bytes).map_err(said)
    }

    fn rename(&self, from: &str, to: &str, _: bool) -> Result<(), Fault> {
        self.call()?;
        match fs::rename(self.full(from), self.full(to)) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(said(error)),
            _ => Ok(()),
        }
    }

    fn remove(&self, path: &str) -> Result<(), Fault> {
        self.call()?;
        self.aside(path)?;
        match fs::remove_file(self.full(path)) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(said(error)),
            _ => Ok(()),
        }
    }

    fn stat(&self, path: &str) -> Option<FileEntry> {
        self.call().ok()?;
        let found = fs::symlink_metadata(self.full(path)).ok()?;
        let modified = found.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
        let kind = found.file_type();
        let fault = if kind.is_dir() {
            Some("a folder")
        } else {
            kind.is_symlink().then_some("a symbolic link")
        };
        Some(FileEntry {
            name: path.to_owned(),
            bytes: found.len(),
            stamp: format!("{} {} {modified:?}", found.ino(), found.len()),
            modified_ms: modified.as_millis() as u64,
            fault: fault.map(|kind| format!("{} is {kind}, not a file", self.path(path))),
        })
    }

    fn create(&self, path: &str, text: &str) -> Result<bool, Fault> {
        self.call()?;
        fs::create_dir_all(&self.machine.folder).map_err(said)?;
        let beside = self.full(&format!("{path}.{}.new", self.process.token));
        fs::write(&beside, text).map_err(said)?;
        let linked = fs::hard_link(&beside, self.full(path));
        fs::remove_file(beside).map_err(said)?;
        match linked {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(said(error)),
        }
    }

    fn replace(&self, path: &str, text: &str) -> Result<(), Fault> {
        self.call()?;
        let beside = self.full(&format!("{path}.{}.new", self.process.token));
        fs::write(&beside, text).map_err(said)?;
        self.aside(path)?;
        fs::rename(beside, self.full(path)).map_err(said)
    }

    fn touch(&self, path: &str, wall_ms: u64) -> Result<(), Fault> {
        self.call()?;
        let file = File::options().append(true).open(self.full(path));
        let time = UNIX_EPOCH + Duration::from_millis(wall_ms);
        file.and_then(|file| file.set_modified(time)).map_err(said)
    }

    fn make_folder(&self, path: &str) -> Result<(), Fault> {
        self.call()?;
        DirBuilder::new()
            .mode(0o700)
            .create(self.full(path))
            .map_err(said)
    }

    fn remove_folder(&self, path: &str) -> Result<(), Fault> {
        self.call()?;
        let full = self.full(path);
        match fs::remove_dir(&full) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            Err(_) => {
                let name = format!("{path}.damaged-{}", self.machine.mono_ms.get());
                fs::rename(full, self.full(&name)).map_err(said)
            }
            Ok(()) => Ok(()),
        }
    }

    fn path(&self, path: &str) -> String {
        self.full(path).to_string_lossy().into_owned()
    }

    fn process(&self) -> Process {
        self.process.clone()
    }

    fn runs(&self, pid: u32) -> bool {
        self.machine.running.borrow().contains(&pid)
    }

    fn now(&self) -> Now {
        Now {
            wall_ms: self.machine.wall_ms.get(),
            mono_ms: self.machine.mono_ms.get(),
        }
    }
}

/// A machine without processes.
pub fn machine() -> Rc<Machine> {
    Rc::default()
}

/// A process that has tried to take the lease.
pub struct Member {
    /// Its host.
    pub host: Rc<Shared>,
    /// Its lease.
    pub lease: Lease,
}

impl Member {
    /// A gateway that has not tried yet.
    pub fn new(host: Rc<Shared>) -> Self {
        Self::in_role(host, "gateway")
    }

    /// A process that has not tried yet.
    pub fn in_role(host: Rc<Shared>, role: &str) -> Self {
        let lease = Lease::new(&*host, role);
        Self { host, lease }
    }

    /// Takes the lease, if that is possible.
    pub fn take(&mut self) -> bool {
        self.lease.take(&*self.host, false).unwrap()
    }

    /// A gateway's look: takes the lease, or claims it. Whether it has it.
    pub fn look(&mut self) -> bool {
        let is_taken = self.take();
        match is_taken {
            true => self.lease.unclaim(&*self.host).unwrap(),
            false => self.lease.claim(&*self.host).unwrap(),
        }
        is_taken
    }

    /// The heartbeat.
    pub fn beat(&mut self) {
        self.lease.heartbeat(&*self.host);
    }

    /// Whether it still has the lease.
    pub fn is_held(&mut self) -> bool {
        self.lease.is_held(&*self.host)
    }
}

/// The process that owns the folder.
pub fn owner(machine: &Rc<Machine>) -> Member {
    let mut owner = Member::new(machine.start(100));
    assert!(owner.take());
    owner
}

/// Tries once a second until the lease is this process's; the seconds that it took.
pub fn taken_after(machine: &Machine, member: &mut Member, most: u64) -> Option<u64> {
    (0..=most).find(|_| {
        let is_taken = member.take();
        machine.pass(1_000);
        is_taken
    })
}
