//! How long calls wait for their other surfaces, and for which of them.

use super::{Ledger, MAX_OPEN, MAX_SLOTS, Open, Slot};
use crate::observe::{Awaited, Observation, Surface};

/// How long a call waits for its other surfaces, in ms: diagnostics were seen up to 240 ms late.
pub const HOLD_BACK_MS: u64 = 1_000;
/// The same where `model_call_ended` alone told of a call, and the session store is read, which knows what it used: rows
/// are read once a minute when they are a minute old. While a gateway loads the plugin again nobody hears diagnostics,
/// and messages come seconds late, or never.
const STORED_HOLD_BACK_MS: u64 = 150_000;
/// The most providers of which surfaces are awaited.
const MAX_AWAITED: usize = 64;

impl Ledger {
    /// Lets those calls be ready that have waited for long enough.
    pub(super) fn end_waits(&mut self, mono_ms: u64) {
        // An open call keeps its slot, and with it all that came behind.
        let holds_up = |first: &Slot| self.open.contains_key(&first.id.key());
        let is_crowded = self.slots.len() >= MAX_SLOTS && self.slots.get(0).is_some_and(holds_up);
        let may_wait = self.reconciled_ms.is_some() && !is_crowded;
        let hold_back_ms = self.hold_back_ms();
        while let Some(&(first, id)) = self.waiting.front() {
            let open = self.open.get(&id.key());
            let is_over = mono_ms.saturating_sub(first) >= hold_back_ms;
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

    /// How long calls wait: for as long as the slowest surface that is awaited needs.
    pub(super) fn hold_back_ms(&self) -> u64 {
        let awaited = self.awaited.iter();
        let longest = awaited.filter_map(|(surface, _)| match surface.row().awaited {
            Awaited::OfProvider(ms) => Some(ms),
            _ => None,
        });
        longest.fold(HOLD_BACK_MS, u64::max)
    }

    /// From its first call of a provider on, such a surface is awaited; see [`Ledger::finish`].
    pub(super) fn await_more(&mut self, observation: &Observation) {
        let surface = observation.surface;
        let is_known = |(known, provider): &(Surface, String)| {
            *known == surface && *provider == observation.provider
        };
        if matches!(surface.row().awaited, Awaited::OfProvider(_))
            && self.awaited.len() < MAX_AWAITED
            && !self.awaited.iter().any(is_known)
        {
            self.awaited.push((surface, observation.provider.clone()));
        }
    }

    /// Whether a surface should tell of a call, and has not.
    pub(super) fn lacks_any(&self, open: &Open) -> bool {
        self.awaited.iter().any(|awaited| open.lacks(awaited))
    }
}

impl Open {
    /// Whether a surface should tell of this call, as it tells of the provider's others, and has not.
    pub(super) fn lacks(&self, (surface, provider): &(Surface, String)) -> bool {
        self.view(*surface).is_none() && !self.is_stored() && self.provider() == Some(provider)
    }

    /// Whether its message or its row may still tell what it used. What told without usage, and could have told it, has
    /// none.
    fn waits_for_store(&self, mono_ms: u64) -> bool {
        self.awaits_message()
            && self.views().all(|view| view.surface.row().usage.is_none())
            && mono_ms.saturating_sub(self.since_ms) < STORED_HOLD_BACK_MS
    }
}
