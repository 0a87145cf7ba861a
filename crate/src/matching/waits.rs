//! How long pending calls wait, and for which surfaces.

use super::{MAX_PENDING, MAX_RECORDS, MatchRecord, Matcher, PendingCall};
use crate::domain::observation::Observation;
use crate::domain::surface::{Awaited, Surface};
use crate::domain::time::Now;

/// Hold-back period of a call, in ms. Diagnostics arrived up to 240 ms late in recorded runs.
pub const HOLD_BACK_MS: u64 = 1_000;
/// The same for a call that only `model_call_ended` reported, where the session store is read and will supply its
/// usage. Rows are read once a minute, when they are a minute old. While a gateway reloads the plugin, diagnostics are
/// lost, and messages arrive seconds late or never.
const STORED_HOLD_BACK_MS: u64 = 150_000;
/// Maximum number of pairs of awaited surface and provider.
const MAX_AWAITED: usize = 64;

impl Matcher {
    /// Makes the calls ready whose hold-back period is over.
    pub(super) fn end_waits(&mut self, mono_ms: u64) {
        // Records are dropped in order of arrival, so a pending call at the front blocks the table.
        let holds_up = |first: &MatchRecord| self.pending.contains_key(&first.id.key());
        let is_crowded =
            self.records.len() >= MAX_RECORDS && self.records.get(0).is_some_and(holds_up);
        let may_wait = self.reconciled_ms.is_some() && !is_crowded;
        let hold_back_ms = self.hold_back_ms();
        while let Some(&(first, id)) = self.waiting.front() {
            let pending = self.pending.get(&id.key());
            let is_over = mono_ms.saturating_sub(first) >= hold_back_ms;
            if pending.is_some() && !is_over && self.waiting.len() <= MAX_PENDING {
                break;
            }
            self.waiting.pop_front();
            match pending {
                // Checked anew at each turn, since later observations make the call final.
                Some(pending) if is_over && may_wait && pending.waits_for_store(mono_ms) => {
                    self.waiting.push_back((mono_ms, id));
                }
                Some(_) => self.ready.push(id),
                None => {}
            }
        }
    }

    /// Hold-back period of all calls: that of the slowest awaited surface, in ms.
    pub(super) fn hold_back_ms(&self) -> u64 {
        let awaited = self.awaited.iter();
        let longest = awaited.filter_map(|(surface, _)| match surface.row().awaited {
            Awaited::OfProvider(ms) => Some(ms),
            _ => None,
        });
        longest.fold(HOLD_BACK_MS, u64::max)
    }

    /// A surface is awaited from its first report of a provider's call on; see [`Matcher::finish`].
    pub(super) fn note_awaited(&mut self, observation: &Observation) {
        self.wait_for(observation.surface, &observation.provider);
    }

    fn wait_for(&mut self, surface: Surface, provider: &str) {
        let is_known = |known: &(Surface, String)| known.0 == surface && known.1 == provider;
        if matches!(surface.row().awaited, Awaited::OfProvider(_))
            && self.awaited.len() < MAX_AWAITED
            && !self.awaited.iter().any(is_known)
        {
            self.awaited.push((surface, provider.to_owned()));
            self.has_new_awaited = true;
        }
    }

    /// The awaited surfaces as a text for the journal, where they changed since the last call. Empty: none is awaited.
    pub fn take_awaited(&mut self) -> Option<String> {
        if !std::mem::take(&mut self.has_new_awaited) {
            return None;
        }
        let awaited = self.awaited.iter();
        let awaited: Vec<(u8, &str)> = awaited
            .map(|(surface, of)| (*surface as u8, &**of))
            .collect();
        match awaited.is_empty() {
            true => Some(String::new()),
            false => serde_json::to_string(&awaited).ok(),
        }
    }

    /// Waits for the surfaces of a text of [`Self::take_awaited`]: calls of the next process wait for a proxy from the
    /// first one on.
    pub fn restore_awaited(&mut self, text: &str) {
        let awaited: Vec<(u8, String)> = serde_json::from_str(text).unwrap_or_default();
        for (number, provider) in awaited {
            if let Some(surface) = Surface::all().find(|surface| *surface as u8 == number) {
                self.wait_for(surface, &provider);
            }
        }
        self.has_new_awaited = false;
    }

    /// Whether a call is due whose awaited surface has not reported it.
    pub fn would_miss(&self, now: Now) -> bool {
        let is_over = |first: u64| now.mono_ms.saturating_sub(first) >= self.hold_back_ms();
        let due = self
            .waiting
            .iter()
            .take_while(|(first, _)| is_over(*first))
            .filter_map(|(_, id)| self.pending.get(&id.key()));
        !self.awaited.is_empty() && due.into_iter().any(|pending| self.lacks_any(pending))
    }

    /// Whether an awaited surface has not reported the call.
    pub(super) fn lacks_any(&self, pending: &PendingCall) -> bool {
        self.awaited.iter().any(|awaited| pending.lacks(awaited))
    }
}

impl PendingCall {
    /// Whether this surface, which reports this provider's calls, has not reported this one.
    pub(super) fn lacks(&self, (surface, provider): &(Surface, String)) -> bool {
        self.observation(*surface).is_none()
            && !self.is_stored()
            && self.provider() == Some(provider)
    }

    /// Whether its message or its row may still bring its usage. A surface that reports usage and reported none settles
    /// the question.
    fn waits_for_store(&self, mono_ms: u64) -> bool {
        self.may_get_message()
            && self
                .observations()
                .all(|observation| observation.surface.row().usage.is_none())
            && mono_ms.saturating_sub(self.since_ms) < STORED_HOLD_BACK_MS
    }
}
