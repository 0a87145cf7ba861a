//! How long calls wait for their other surfaces, and of which a proxy tells too.

use super::{Ledger, MAX_OPEN, MAX_SLOTS, Open, Slot};
use crate::observe::{Observation, Surface};

/// How long a call waits for its other surfaces, in ms: diagnostics were seen up to 240 ms late.
pub const HOLD_BACK_MS: u64 = 1_000;
/// The same where a proxy tells of calls: it is another process, whose file is read once a second.
const PROXIED_HOLD_BACK_MS: u64 = 3_000;
/// The same where `model_call_ended` alone told of a call, and the session store is read, which knows what it used: rows
/// are read once a minute when they are a minute old. While a gateway loads the plugin again nobody hears diagnostics,
/// and messages come seconds late, or never.
const STORED_HOLD_BACK_MS: u64 = 150_000;
/// The most providers that are known to be behind a proxy.
const MAX_PROXIED: usize = 64;

impl Ledger {
    /// Lets those calls be ready that have waited for long enough.
    pub(super) fn end_waits(&mut self, mono_ms: u64) {
        // An open call keeps its slot, and with it all that came behind.
        let holds_up = |first: &Slot| self.open.contains_key(&first.id.key());
        let is_crowded = self.slots.len() >= MAX_SLOTS && self.slots.get(0).is_some_and(holds_up);
        let may_wait = self.reconciled_ms.is_some() && !is_crowded;
        while let Some(&(first, id)) = self.waiting.front() {
            let open = self.open.get(&id.key());
            let is_over = mono_ms.saturating_sub(first) >= self.hold_back_ms();
            if open.is_some() && !is_over && self.waiting.len() <= MAX_OPEN {
                break;
            }
            self.waiting.pop_front();
            match open {
                // Asked again each time: what has been told meanwhile makes it final.
                Some(open) if is_over && may_wait && open.waits_for_store(mono_ms) => {
                    self.waiting.push_back((mono_ms, id));
                }
                Some(_) => self.ready.push(id),
                None => {}
            }
        }
    }

    /// How long calls wait.
    pub(super) fn hold_back_ms(&self) -> u64 {
        match self.proxied.is_empty() {
            true => HOLD_BACK_MS,
            false => PROXIED_HOLD_BACK_MS,
        }
    }

    /// From its first call on, a proxy is waited for; see [`Ledger::finish`].
    pub(super) fn hear_proxy(&mut self, observation: &Observation) {
        if observation.surface != Surface::Proxied
            || self.proxied.contains(&observation.provider)
            || self.proxied.len() >= MAX_PROXIED
        {
            return;
        }
        self.proxied.push(observation.provider.clone());
    }

    /// Whether a proxy should tell of a call, and has not.
    pub(super) fn lacks_proxy(&self, open: &Open) -> bool {
        open.view(Surface::Proxied).is_none()
            && open.view(Surface::Stored).is_none()
            && open
                .provider()
                .is_some_and(|provider| self.proxied.iter().any(|known| known == provider))
    }
}

impl Open {
    /// Whether its message or its row may still tell what it used. What a diagnostic told without usage has none.
    fn waits_for_store(&self, mono_ms: u64) -> bool {
        self.awaits_message()
            && self.view(Surface::Diagnostic).is_none()
            && mono_ms.saturating_sub(self.since_ms) < STORED_HOLD_BACK_MS
    }
}
