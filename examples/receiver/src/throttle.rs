//! Slows down clients that guess the token.
//!
//! Wrong tokens are counted by the client's address. After many guesses, further tokens from this address, right ones
//! too, are checked one after the other, a few per second: if a right token were answered at once, a client could treat
//! each late answer as a no. A right token uses no quota, so its sender waits for the guesses before it and for nothing
//! else, and guessing blocks others only while it lasts.

use crate::client::Client;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::Instant;

/// Number of wrong tokens that are answered at once after a quiet time.
const BURST: f64 = 20.0;
/// Number of wrong tokens that are answered per second after that.
const PER_SECOND: f64 = 5.0;
/// Maximum number of waiting tokens per address; further ones are refused.
const WAITING_MAX: usize = 32;
/// Maximum number of waiting tokens in total: each holds a connection that cannot be closed for another.
const WAITING_ALL: usize = 128;
/// Number of counters of a door, which addresses share: this bounds the memory that an attacker can use.
const LANES: usize = 64;

/// `Retry-After` where too many tokens are waiting.
pub const RETRY_AFTER: Duration =
    Duration::from_millis((WAITING_MAX as f64 / PER_SECOND * 1000.0) as u64);

/// Kinds of places for tokens. Guesses at one do not delay the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// The sign-in form, and links that hold a token.
    Form,
    /// What programs send.
    Api,
}

/// Too many tokens of this address are waiting. This one was not checked.
#[derive(Debug, PartialEq, Eq)]
pub struct TooMany;

/// Counts of wrong tokens.
pub struct Throttle {
    lanes: [Vec<Lane>; 2],
    places: Semaphore,
    keys: RandomState,
}

struct Lane {
    left: Mutex<Left>,
    places: Semaphore,
    // A fair lock: waiting clients get it in order of arrival.
    turn: tokio::sync::Mutex<()>,
}

/// Number of wrong tokens that are still answered at once.
struct Left {
    guesses: f64,
    at: Instant,
}

impl Throttle {
    /// Without guesses yet.
    pub fn new() -> Self {
        let lane = || Lane {
            left: Mutex::new(Left {
                guesses: BURST,
                at: Instant::now(),
            }),
            places: Semaphore::new(WAITING_MAX),
            turn: tokio::sync::Mutex::default(),
        };
        Self {
            places: Semaphore::new(WAITING_ALL),
            lanes: [(); 2].map(|()| std::iter::repeat_with(lane).take(LANES).collect()),
            keys: RandomState::new(),
        }
    }

    fn lane(&self, client: Option<Client>, door: Door) -> &Lane {
        &self.lanes[door as usize][self.keys.hash_one(client) as usize % LANES]
    }

    /// Checks a token of a client by `is_right`, at once or when its turn has come.
    ///
    /// # Errors
    /// Too many tokens are waiting.
    pub async fn judge(
        &self,
        client: Option<Client>,
        door: Door,
        is_right: impl FnOnce() -> bool,
    ) -> Result<bool, TooMany> {
        let lane = self.lane(client, door);
        let nobody_waits = lane.places.available_permits() == WAITING_MAX;
        if nobody_waits && lane.wait().is_zero() {
            return Ok(lane.judge(is_right));
        }
        let _place = lane.places.try_acquire().map_err(|_| TooMany)?;
        let _place_of_all = self.places.try_acquire().map_err(|_| TooMany)?;
        let _turn = lane.turn.lock().await;
        tokio::time::sleep(lane.wait()).await;
        Ok(lane.judge(is_right))
    }
}

impl Lane {
    /// How long until a further guess is answered.
    fn wait(&self) -> Duration {
        let mut left = self.left();
        left.refill();
        Duration::from_secs_f64((1.0 - left.guesses).max(0.0) / PER_SECOND)
    }

    fn judge(&self, is_right: impl FnOnce() -> bool) -> bool {
        let mut left = self.left();
        left.refill();
        let is_right = is_right();
        if !is_right {
            left.guesses -= 1.0;
        }
        is_right
    }

    fn left(&self) -> MutexGuard<'_, Left> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Left {
    fn refill(&mut self) {
        let now = Instant::now();
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.guesses = BURST.min(self.guesses + passed * PER_SECOND);
        self.at = now;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;
    use std::net::Ipv4Addr;
    use std::sync::Arc;

    fn client(last: u8) -> Client {
        Client::of(Ipv4Addr::new(192, 0, 2, last).into())
    }

    /// Two addresses that do not share a count.
    fn strangers(throttle: &Throttle) -> (Client, Client) {
        let lane = |last| std::ptr::from_ref(throttle.lane(Some(client(last)), Door::Api));
        let other = (2..).find(|last| lane(*last) != lane(1));
        (client(1), client(other.unwrap()))
    }

    #[tokio::test(start_paused = true)]
    async fn guesses_are_slow_after_the_first_few_and_right_tokens_stay_right() {
        let throttle = Throttle::new();
        let (guesser, other) = strangers(&throttle);
        let begun = Instant::now();
        for _ in 0..BURST as usize {
            assert_eq!(
                throttle.judge(Some(guesser), Door::Api, || false).await,
                Ok(false)
            );
        }
        assert_eq!(begun.elapsed(), Duration::ZERO);
        for _ in 0..100 {
            assert_eq!(
                throttle.judge(Some(guesser), Door::Api, || false).await,
                Ok(false)
            );
        }
        let passed = begun.elapsed().as_secs_f64();
        assert!((19.0..21.0).contains(&passed), "{passed}");
        assert_eq!(
            throttle.judge(Some(guesser), Door::Api, || true).await,
            Ok(true)
        );
        let begun = Instant::now();
        for _ in 0..1000 {
            let right = throttle.judge(Some(guesser), Door::Api, || true).await;
            assert_eq!(right, Ok(true), "it uses up nothing");
        }
        assert_eq!(
            throttle.judge(Some(other), Door::Api, || false).await,
            Ok(false)
        );
        assert_eq!(begun.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn a_right_token_is_accepted_during_guesses() {
        let throttle = Arc::new(Throttle::new());
        for _ in 0..BURST as usize {
            throttle
                .judge(Some(client(1)), Door::Form, || false)
                .await
                .unwrap();
        }
        let guesses: Vec<_> = (0..500)
            .map(|_| {
                let throttle = Arc::clone(&throttle);
                tokio::spawn(
                    async move { throttle.judge(Some(client(1)), Door::Form, || false).await },
                )
            })
            .collect();
        tokio::task::yield_now().await;
        let mut turned_away = 0;
        let begun = Instant::now();
        while throttle.judge(Some(client(1)), Door::Form, || true).await == Err(TooMany) {
            turned_away += 1;
            tokio::time::sleep(RETRY_AFTER).await;
        }
        assert!(turned_away <= 1 && begun.elapsed() < 3 * RETRY_AFTER);
        let mut judged = 0;
        for guess in guesses {
            judged += usize::from(guess.await.unwrap().is_ok());
        }
        assert_eq!(judged, WAITING_MAX, "the others were turned away unjudged");
    }
}
