//! The processes that share a folder: one owns the journal, the others spool for it.

use std::rc::Rc;

use super::Engine;
use crate::domain::time::Now;
use crate::engine::log::Level;
use crate::host::{Fault, Host};
use crate::lease::Lease;

impl Engine {
    /// Joins the processes that share the host's folder: as the owner of its journal, whose files it recovers, or as a writer
    /// of spool files. Call before the first observation. `had` tells that an earlier engine of this process was the owner.
    pub fn join(&mut self, host: Rc<dyn Host>, role: &str, had: bool, now: Now) {
        let mut lease = Lease::new(&*host, role);
        // No other process can own a folder that cannot be written, and its files may be readable. The first write takes the
        // lease, or reports the error.
        let is_owner = lease.take(&*host, had).unwrap_or(true);
        self.disk.lease = Some(lease);
        match is_owner {
            true => self.open(host, now),
            false => self.become_spool(host),
        }
    }

    /// This process's relation to the journal: `memory` where there is none, `owner`, or `spool`.
    pub fn standing(&self) -> &'static str {
        match (&self.disk.host, &self.disk.spool) {
            (None, _) => "memory",
            (Some(_), None) => "owner",
            (Some(_), Some(_)) => "spool",
        }
    }

    /// Takes the lease over if its owner ended, or handed it over to this process, which `claims` it as a gateway. Returns
    /// whether this process has it: then a new engine has to join, which is the owner. Everything has to be flushed before.
    pub fn take_over(&mut self, claims: bool, now: Now) -> bool {
        let (Some(host), Some(lease), Some(_)) =
            (&self.disk.host, &mut self.disk.lease, &self.disk.spool)
        else {
            return false;
        };
        let taken = lease.take(&**host, false).and_then(|is_taken| {
            match claims && !is_taken {
                true => lease.claim(&**host)?,
                false => lease.unclaim(&**host)?,
            }
            Ok(is_taken)
        });
        taken.unwrap_or_else(|fault| {
            let text = format!("the journal's folder cannot be looked at ({fault})");
            self.log
                .add_about(Level::Warn, "take-over", text, now.mono_ms);
            false
        })
    }

    /// Spools from now on, since another process took the journal over.
    pub fn lose(&mut self) {
        if let Some(host) = self.disk.host.clone() {
            self.become_spool(host);
        }
    }

    /// Renews the lease of an owner.
    pub fn heartbeat(&mut self) {
        if let Some((host, lease)) = self.owned() {
            lease.heartbeat(host);
        }
    }

    /// Whether no other process took the journal over. Reads the file only if the last heartbeat is late.
    pub fn is_held(&mut self) -> bool {
        self.owned().is_none_or(|(host, lease)| lease.is_held(host))
    }

    /// The same, by the file alone.
    pub fn is_held_for_certain(&mut self) -> bool {
        self.owned()
            .is_none_or(|(host, lease)| lease.is_held_for_certain(host))
    }

    /// Whether this process, an intermediary, owns the journal and a gateway claims it.
    pub fn is_claimed(&mut self) -> bool {
        self.owned()
            .is_some_and(|(host, lease)| lease.is_claimed(host))
    }

    /// Writes everything and hands the journal over to the gateway that claims it. Returns whether that is done; if not, this
    /// process still owns the journal.
    pub fn hand_over(&mut self, now: Now) -> bool {
        if !self.flush_all(now) {
            return false;
        }
        let done = self
            .owned()
            .map_or(Ok(()), |(host, lease)| lease.hand_over(host));
        if let Err(fault) = &done {
            let text = format!("the journal cannot be handed over to the gateway ({fault})");
            self.log
                .add_about(Level::Warn, "hand-over", text, now.mono_ms);
        }
        done.is_ok()
    }

    /// Releases the journal, or this process's claim to it, for other processes.
    ///
    /// # Errors
    /// The file system's error.
    pub fn release(&mut self) -> Result<(), Fault> {
        if let (Some(host), Some(lease)) = (&self.disk.host, &self.disk.lease) {
            lease.unclaim(&**host)?;
        }
        self.owned()
            .map_or(Ok(()), |(host, lease)| lease.release(host))
    }

    /// The lease of an owner.
    fn owned(&mut self) -> Option<(&dyn Host, &mut Lease)> {
        if self.disk.spool.is_some() {
            return None;
        }
        Some((self.disk.host.as_deref()?, self.disk.lease.as_mut()?))
    }
}
