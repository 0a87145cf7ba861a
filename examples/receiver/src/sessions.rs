//! Sessions of signed-in browsers: random ids in memory only, so that a restart signs everyone out.
//!
//! The token itself is in no cookie: a browser sends cookies to every port of a host.

use std::collections::VecDeque;
use std::fmt::Write;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use subtle::ConstantTimeEq;

/// How long a session lasts.
pub const LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);
/// Maximum number of sessions. A further one ends the oldest.
const SESSIONS_MAX: usize = 64;
/// Bytes of randomness in an id.
const ID_BYTES: usize = 32;

/// The sessions of a server, oldest first.
#[derive(Default)]
pub struct Sessions(Mutex<State>);

#[derive(Default)]
struct State {
    open: VecDeque<Session>,
    opened: u64,
}

struct Session {
    number: u64,
    id: String,
    ends: Instant,
}

impl Sessions {
    /// Opens a session and returns its id for the cookie.
    ///
    /// # Errors
    /// The system has no random numbers.
    pub fn open(&self, now: Instant) -> Result<String, getrandom::Error> {
        let mut bytes = [0; ID_BYTES];
        getrandom::fill(&mut bytes)?;
        let id = bytes.iter().fold(String::new(), |mut id, byte| {
            let _ = write!(id, "{byte:02x}");
            id
        });
        let mut state = self.current(now);
        if state.open.len() >= SESSIONS_MAX {
            state.open.pop_front();
        }
        state.opened += 1;
        let number = state.opened;
        state.open.push_back(Session {
            number,
            id: id.clone(),
            ends: now + LIFETIME,
        });
        Ok(id)
    }

    /// The number of the open session that has this id. The number is no secret.
    pub fn find(&self, id: &str, now: Instant) -> Option<u64> {
        // All ids are compared, so that the time reveals nothing.
        let state = self.current(now);
        state.open.iter().fold(None, |found, session| {
            let is_it: bool = session.id.as_bytes().ct_eq(id.as_bytes()).into();
            if is_it { Some(session.number) } else { found }
        })
    }

    /// Ends a session and signs out all holders of its id.
    pub fn end(&self, number: u64, now: Instant) {
        self.current(now)
            .open
            .retain(|session| session.number != number);
    }

    /// The sessions that have not expired.
    fn current(&self, now: Instant) -> MutexGuard<'_, State> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.open.retain(|session| session.ends > now);
        state
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    #[test]
    fn a_session_is_open_until_it_ends_or_expires() {
        let (sessions, now) = (Sessions::default(), Instant::now());
        let (one, other) = (sessions.open(now).unwrap(), sessions.open(now).unwrap());
        assert!(one != other && one.len() == 2 * ID_BYTES);
        let number = sessions.find(&one, now).unwrap();
        assert_ne!(sessions.find(&other, now), Some(number));
        for wrong in ["", &one[1..], &format!("{one}0"), &one.to_uppercase()] {
            if *wrong != one {
                assert_eq!(sessions.find(wrong, now), None, "{wrong}");
            }
        }
        sessions.end(number, now);
        assert_eq!(sessions.find(&one, now), None);
        assert!(sessions.find(&other, now + LIFETIME / 2).is_some());
        assert_eq!(sessions.find(&other, now + LIFETIME), None);
    }

    #[test]
    fn a_further_session_ends_the_oldest() {
        let (sessions, now) = (Sessions::default(), Instant::now());
        let ids: Vec<_> = (0..=SESSIONS_MAX)
            .map(|_| sessions.open(now).unwrap())
            .collect();
        let is_open = |id: &String| sessions.find(id, now).is_some();
        assert!(!is_open(&ids[0]) && ids[1..].iter().all(is_open));
    }
}
