//! How long calls wait for their other surfaces, and of which a proxy tells too.

use super::{Ledger, Open};
use crate::observe::{Observation, Surface};

/// How long a call waits for its other surfaces, in ms: diagnostics were seen up to 240 ms late.
pub const HOLD_BACK_MS: u64 = 1_000;
/// The same where a proxy tells of calls: it is another process, whose file is read once a second.
const PROXIED_HOLD_BACK_MS: u64 = 3_000;
/// The most providers that are known to be behind a proxy.
const MAX_PROXIED: usize = 64;

impl Ledger {
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
