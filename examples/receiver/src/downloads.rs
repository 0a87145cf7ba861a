//! Places of downloads, which last as long as a client takes to read.
//!
//! When all are taken, a new download replaces the one whose client has kept it waiting longest, among those of the client
//! that has the most: who reads slowly keeps a place while nobody needs it.

use crate::client::Client;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// Time that a download has waited for its client, in all, from which it may be replaced.
const REPLACED_AFTER: Duration = Duration::from_secs(10);

/// All places, cheap to clone.
#[derive(Clone)]
pub struct Downloads {
    held: Arc<Mutex<Vec<Arc<Held>>>>,
    most: usize,
}

struct Held {
    client: Client,
    pace: Mutex<Pace>,
    replaced: Notify,
}

/// How long a download has waited for its client, and since when it does so now.
#[derive(Default)]
struct Pace {
    waited: Duration,
    since: Option<Instant>,
}

/// A download, which has its place until this is dropped.
pub struct Download {
    downloads: Downloads,
    held: Arc<Held>,
}

impl Downloads {
    /// `most` places.
    pub fn new(most: usize) -> Self {
        Self {
            held: Arc::default(),
            most,
        }
    }

    /// Takes a place, if one is free or a download can be replaced.
    pub fn take(&self, client: Client) -> Option<Download> {
        let mut all = lock(&self.held);
        if all.len() >= self.most {
            let first = dispensable(&all)?;
            let replaced = all.swap_remove(first);
            replaced.replaced.notify_one();
        }
        let held = Arc::new(Held {
            client,
            pace: Mutex::default(),
            replaced: Notify::new(),
        });
        all.push(Arc::clone(&held));
        Some(Download {
            downloads: self.clone(),
            held,
        })
    }
}

/// The download that is replaced first, if any can be.
fn dispensable(all: &[Arc<Held>]) -> Option<usize> {
    let mut by_client: HashMap<Client, usize> = HashMap::new();
    for held in all {
        *by_client.entry(held.client).or_default() += 1;
    }
    let waiting = all.iter().enumerate().filter_map(|(index, held)| {
        let waited = lock(&held.pace).waited();
        (waited >= REPLACED_AFTER).then_some((by_client.get(&held.client), waited, index))
    });
    waiting.max().map(|(_, _, index)| index)
}

impl Pace {
    fn waited(&self) -> Duration {
        self.waited + self.since.map_or(Duration::ZERO, |since| since.elapsed())
    }
}

impl Download {
    /// Does what waits for the client.
    pub async fn waiting<T>(&self, work: impl Future<Output = T>) -> T {
        lock(&self.held.pace).since = Some(Instant::now());
        let done = work.await;
        let mut pace = lock(&self.held.pace);
        pace.waited = pace.waited();
        pace.since = None;
        done
    }

    /// Returns once another download has this place.
    pub async fn replaced(&self) {
        self.held.replaced.notified().await;
    }
}

impl Drop for Download {
    fn drop(&mut self) {
        lock(&self.downloads.held).retain(|other| !Arc::ptr_eq(other, &self.held));
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;
    use tokio::time::sleep;

    async fn is_replaced(place: &Download) -> bool {
        let soon = Duration::from_millis(1);
        tokio::time::timeout(soon, place.replaced()).await.is_ok()
    }

    #[tokio::test(start_paused = true)]
    async fn the_slowest_of_the_client_with_the_most_is_replaced() {
        let downloads = Downloads::new(4);
        let take = |session| downloads.take(Client::Session(session));
        let (alone, first, second, fast) = (take(1), take(2), take(2), take(2));
        let [alone, first, second, fast] = [alone, first, second, fast].map(Option::unwrap);
        alone.waiting(sleep(REPLACED_AFTER * 9)).await;
        first.waiting(sleep(REPLACED_AFTER / 2)).await;
        sleep(REPLACED_AFTER * 9).await;
        second.waiting(sleep(REPLACED_AFTER / 2)).await;
        let taken = take(3).unwrap();
        assert!(is_replaced(&alone).await, "the others were not slow");
        first.waiting(sleep(REPLACED_AFTER / 2)).await;
        second.waiting(sleep(REPLACED_AFTER)).await;
        let other = take(3).unwrap();
        assert!(is_replaced(&second).await && !is_replaced(&first).await);
        assert!(!is_replaced(&fast).await && !is_replaced(&taken).await);
        drop((alone, second));
        let third = take(3).unwrap();
        assert!(is_replaced(&first).await);
        assert!(take(3).is_none(), "nobody is slow");
        drop(fast);
        assert!(take(3).is_some());
        drop((first, taken, other, third));
        assert!(lock(&downloads.held).is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_that_goes_on_counts() {
        let downloads = Downloads::new(1);
        let place = downloads.take(Client::Session(1)).unwrap();
        let stalled = tokio::spawn(async move {
            tokio::select! {
                () = place.waiting(std::future::pending()) => {}
                () = place.replaced() => {}
            }
        });
        sleep(REPLACED_AFTER / 2).await;
        assert!(downloads.take(Client::Session(2)).is_none());
        sleep(REPLACED_AFTER).await;
        assert!(downloads.take(Client::Session(2)).is_some());
        stalled.await.unwrap();
    }
}
