//! How other processes learn who owns a state directory.

use serde::Serialize;

use super::owner::{self, Owner};
use super::unchanged::Unchanged;
use super::{FILE, STALE_MS, is_alive};
use crate::host::{Fault, Host};

/// Watches the lease of a folder that this process does not take.
#[derive(Debug, Default)]
pub struct Watch {
    unchanged: Unchanged,
    first: Option<String>,
}

/// What a look at the lease tells.
#[derive(Debug, PartialEq)]
pub enum Look {
    /// Nobody owns the folder.
    Nobody,
    /// This process owns it.
    Owned(Owner),
    /// A later look tells, at most [`STALE_MS`] after the first one.
    Later,
}

impl Watch {
    /// Looks at the lease, and judges it as [`super::Lease::take`] does. If the file's time is not recent, the file is watched
    /// for [`STALE_MS`]: another process may have the process id by now, or the clock was set.
    pub fn look(&mut self, host: &dyn Host) -> Look {
        let (file, owner) = (host.stat(FILE), owner::read(host, FILE).owner);
        let (Some(file), Some(owner), true) = (file, owner, is_alive(host, &mut self.unchanged))
        else {
            return Look::Nobody;
        };
        let first = self.first.get_or_insert_with(|| file.stamp.clone());
        let is_recent = file.modified_ms.abs_diff(host.now().wall_ms) < STALE_MS;
        match *first != file.stamp || is_recent {
            true => Look::Owned(owner),
            false => Look::Later,
        }
    }
}

/// What the lease's file tells.
#[derive(Debug, Serialize)]
pub struct Told {
    /// The owner that it names, whether the process lives or not.
    owner: Option<Owner>,
    /// Whether that process lives; `null` for a process of another machine.
    lives: Option<bool>,
    /// Time since its last heartbeat, in s, by the file's date, which may be wrong.
    silent_s: u64,
    /// The problem of the file.
    fault: Option<Fault>,
}

/// Reads the lease's file.
pub fn told(host: &dyn Host) -> Told {
    let owner::Found { owner, fault } = owner::read(host, FILE);
    let modified_ms = host.stat(FILE).map_or(0, |file| file.modified_ms);
    let silent_ms = host.now().wall_ms.saturating_sub(modified_ms);
    Told {
        lives: owner.as_ref().and_then(|owner| owner.lives(host)),
        owner,
        // A lease that is stale was silent for so long, whatever the clock says.
        silent_s: (silent_ms.max(STALE_MS) + 500) / 1_000,
        fault,
    }
}
