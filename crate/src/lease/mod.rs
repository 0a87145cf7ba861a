//! The lease of a state directory: one process owns it, by a file with a heartbeat. Other processes spool their events for
//! the owner (`engine/spool.rs`). If the owner ends, one of them takes over.
//!
//! A gateway sees more of its calls than the proxy and LiteLLM's endpoint, whichever started first. So it claims the lease by a
//! file that it keeps fresh: these processes hand the lease over, and take none meanwhile.
//!
//! Times follow the host's monotonic clock. A file's date is of a wall clock, which may be wrong or may be set, so a lease is
//! stale if its file has not changed for [`STALE_MS`] since this process looked first.

pub mod owner;
pub mod unchanged;
pub mod watch;

use crate::host::{Fault, FileEntry, Host};
use owner::{Found, Owner};
use unchanged::Unchanged;

/// The file of the lease, in the state directory. Its modification time is the last heartbeat.
pub const FILE: &str = "owner.json";
/// The folder that lets one process at a time replace a stale lease: it is created atomically.
pub const GUARD: &str = "owner.json.takeover";
/// The file by which a gateway claims the lease; it names the gateway's process as the lease's file does.
pub const CLAIM: &str = "owner.json.claim";
/// The roles of the processes that hand the lease over to a gateway. A command that ends by itself does not.
const INTERMEDIARIES: [&str; 2] = ["proxy", "litellm"];
/// Time without a heartbeat after which a lease is stale, in ms.
pub const STALE_MS: u64 = 10_000;

/// The lease of one process, which holds it or may take it.
#[derive(Debug)]
pub struct Lease {
    owner: Owner,
    held: Option<Held>,
    unchanged: Unchanged,
}

/// A lease that this process took.
#[derive(Debug)]
struct Held {
    /// When the last heartbeat began, in ms of the monotonic clock.
    heartbeat_at: u64,
    /// Whether another process took the lease over.
    is_lost: bool,
}

impl Lease {
    /// The lease of this process in a role (`gateway`, `sync`, …), which it does not hold yet.
    pub fn new(host: &dyn Host, role: &str) -> Self {
        Self {
            owner: Owner::of(host.process(), role),
            held: None,
            unchanged: Unchanged::default(),
        }
    }

    /// Takes the lease, unless a living process has it. Returns whether this process holds it. `had` tells that an earlier
    /// engine of this process held it: then a damaged file is this process's own, and is restored.
    ///
    /// # Errors
    /// The file system's error, if the folder cannot be written.
    pub fn take(&mut self, host: &dyn Host, had: bool) -> Result<bool, Fault> {
        let now = host.now();
        let may_take = !self.is_anothers_claim(host);
        let is_new =
            may_take && host.stat(FILE).is_none() && host.create(FILE, &self.owner.text())?;
        let is_own = !is_new && self.is_own(host, had);
        let is_taken =
            is_new || is_own || (may_take && !self.is_alive(host) && self.replace_stale(host)?);
        if is_taken {
            self.held = Some(Held {
                heartbeat_at: now.mono_ms,
                is_lost: false,
            });
        }
        if is_own {
            // The earlier engine's last heartbeat may be so old that another process is about to take the lease over.
            self.heartbeat(host);
            return Ok(self.is_held(host));
        }
        Ok(is_taken)
    }

    /// Whether the file names this process: an earlier engine of it took the lease.
    fn is_own(&self, host: &dyn Host, had: bool) -> bool {
        let Found { owner, fault } = owner::read(host, FILE);
        match owner {
            Some(owner) => owner.token == self.owner.token,
            None => had && fault.is_some(),
        }
    }

    /// Claims the lease of an intermediary for this process, a gateway; to be called once a second while it has no lease.
    ///
    /// # Errors
    /// The file system's error.
    pub fn claim(&self, host: &dyn Host) -> Result<(), Fault> {
        let holder = owner::read(host, FILE).owner;
        if !holder.is_some_and(|holder| holder.is_intermediary()) {
            return self.unclaim(host);
        }
        if !claimed_by(host, &self.owner) {
            host.replace(CLAIM, &self.owner.text())?;
        }
        host.touch(CLAIM, host.now().wall_ms)
    }

    /// Removes this process's claim, if there is one.
    ///
    /// # Errors
    /// The file system's error.
    pub fn unclaim(&self, host: &dyn Host) -> Result<(), Fault> {
        match claimed_by(host, &self.owner) {
            true => host.remove(CLAIM),
            false => Ok(()),
        }
    }

    /// Whether this process is an intermediary, and a gateway claims the lease.
    pub fn is_claimed(&self, host: &dyn Host) -> bool {
        self.owner.is_intermediary() && self.is_anothers_claim(host)
    }

    /// Whether another process, a gateway, claims the lease. A claim that another machine's gateway left behind holds for
    /// [`STALE_MS`]; a clock that was set makes it invalid until the gateway's next look.
    fn is_anothers_claim(&self, host: &dyn Host) -> bool {
        let fresh = |file: &FileEntry| file.modified_ms.abs_diff(host.now().wall_ms) < STALE_MS;
        let lives = |by: &Owner| by.token != self.owner.token && by.lives(host) != Some(false);
        host.stat(CLAIM).as_ref().is_some_and(fresh)
            && owner::read(host, CLAIM).owner.as_ref().is_some_and(lives)
    }

    /// Hands the lease over to the gateway that claims it. Everything has to be written before.
    ///
    /// # Errors
    /// The file system's error; then this process still holds the lease.
    pub fn hand_over(&mut self, host: &dyn Host) -> Result<(), Fault> {
        if self.names_this(host) {
            host.remove(FILE)?;
        }
        if let Some(held) = &mut self.held {
            held.is_lost = true;
        }
        Ok(())
    }

    /// Whether this process may write: it holds the lease, or takes it now. `false` where another process took it over, or
    /// took it before this one could.
    ///
    /// # Errors
    /// If the folder cannot be written.
    pub fn owns(&mut self, host: &dyn Host) -> Result<bool, Fault> {
        if self.held.is_none() && !self.take(host, false)? {
            self.held = Some(Held {
                heartbeat_at: host.now().mono_ms,
                is_lost: true,
            });
        }
        Ok(self.is_held(host))
    }

    /// Whether no other process took the lease over. Reads the file only if the last heartbeat is late. A lease that could
    /// not be taken, since the folder cannot be written, is no other process's either.
    pub fn is_held(&mut self, host: &dyn Host) -> bool {
        let late_at = |held: &Held| held.heartbeat_at + STALE_MS / 2;
        let is_late = |held: &Held| !held.is_lost && host.now().mono_ms > late_at(held);
        if self.held.as_ref().is_some_and(is_late) {
            self.heartbeat(host);
        }
        self.held.as_ref().is_none_or(|held| !held.is_lost)
    }

    /// The same, by the file alone.
    pub fn is_held_for_certain(&self, host: &dyn Host) -> bool {
        self.held.is_none() || self.names_this(host)
    }

    fn names_this(&self, host: &dyn Host) -> bool {
        let owner = owner::read(host, FILE).owner;
        owner.is_some_and(|owner| owner.token == self.owner.token)
    }

    /// Tells other processes that this one lives, and learns whether one of them took the lease over. Restores a file that
    /// is missing or damaged, so that they find the owner.
    pub fn heartbeat(&mut self, host: &dyn Host) {
        let Some(held) = self.held.as_mut().filter(|held| !held.is_lost) else {
            return;
        };
        // This process may be stopped at any moment. So a heartbeat is as old as its beginning: if it took long, the next use
        // of the lease reads the file again.
        let now = host.now();
        let was_stopped = now.mono_ms.saturating_sub(held.heartbeat_at) >= STALE_MS;
        let Found { owner, fault } = owner::read(host, FILE);
        let is_others = match &owner {
            Some(owner) => owner.token != self.owner.token,
            // After so long another process may have damaged it, or ended and removed it.
            None => was_stopped,
        };
        if is_others {
            held.is_lost = true;
            return;
        }
        let text = self.owner.text();
        // A full or read-only disk does not end the lease: no other process can take it either.
        if fault.is_some() {
            host.replace(FILE, &text).unwrap_or_default();
        } else if owner.is_none()
            && host.create(FILE, &text) == Ok(false)
            && let Some(owner) = owner::read(host, FILE).owner
            && owner.token != self.owner.token
        {
            // Another process created it meanwhile.
            held.is_lost = true;
            return;
        }
        // The same holds for the time of the file.
        host.touch(FILE, now.wall_ms).unwrap_or_default();
        held.heartbeat_at = now.mono_ms;
    }

    /// Ends the lease and removes its file.
    ///
    /// # Errors
    /// The file system's error.
    pub fn release(&mut self, host: &dyn Host) -> Result<(), Fault> {
        match self.held.take().is_some() && self.names_this(host) {
            true => host.remove(FILE),
            false => Ok(()),
        }
    }

    fn is_alive(&mut self, host: &dyn Host) -> bool {
        is_alive(host, &mut self.unchanged)
    }

    /// Replaces a stale file.
    fn replace_stale(&mut self, host: &dyn Host) -> Result<bool, Fault> {
        if host.make_folder(GUARD).is_err() {
            let mut stale = |file: &FileEntry| {
                let now = host.now().mono_ms;
                self.unchanged.ms(GUARD, &file.stamp, now) > STALE_MS
            };
            match host.stat(GUARD) {
                // A takeover takes some ms, so an old folder is left over from a process that died.
                Some(guard) if stale(&guard) => host.remove_folder(GUARD)?,
                Some(_) => {}
                // The folder cannot be written, so the owner could not date its file either. It gets the time again.
                None => self.unchanged.retain(|name| name != FILE),
            }
            return Ok(false);
        }
        let replaced = match self.is_alive(host) {
            true => Ok(false),
            false => host
                .remove(FILE)
                .and_then(|()| host.create(FILE, &self.owner.text())),
        };
        host.remove_folder(GUARD)?;
        replaced
    }
}

fn claimed_by(host: &dyn Host, owner: &Owner) -> bool {
    let by = owner::read(host, CLAIM).owner;
    by.is_some_and(|by| by.token == owner.token)
}

/// Whether the lease's file is a living process's.
fn is_alive(host: &dyn Host, unchanged: &mut Unchanged) -> bool {
    let Some(file) = host.stat(FILE) else {
        return false;
    };
    let owner = owner::read(host, FILE).owner;
    // An ended process's lease is stale at once. A living process keeps its lease only by its heartbeat.
    if owner.is_some_and(|owner| owner.lives(host) == Some(false)) {
        return false;
    }
    unchanged.ms(FILE, &file.stamp, host.now().mono_ms) < STALE_MS
}
