//! Limited places for long requests, with a limit per client: open pages that listen.

use crate::client::Client;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Places of one kind.
#[derive(Clone)]
pub struct Places(Arc<Inner>);

struct Inner {
    taken: Mutex<HashMap<Client, usize>>,
    each: usize,
    all: usize,
}

/// A taken place, until this is dropped.
pub struct Place {
    places: Places,
    client: Client,
}

impl Places {
    /// `all` places, at most `each` per client.
    pub fn new(each: usize, all: usize) -> Self {
        Self(Arc::new(Inner {
            taken: Mutex::default(),
            each,
            all,
        }))
    }

    /// Takes a place, if one is free for this client.
    pub fn take(&self, client: Client) -> Option<Place> {
        let mut taken = self.lock();
        let all: usize = taken.values().sum();
        let own = taken.entry(client).or_default();
        if *own >= self.0.each || all >= self.0.all {
            if *own == 0 {
                taken.remove(&client);
            }
            return None;
        }
        *own += 1;
        Some(Place {
            places: self.clone(),
            client,
        })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Client, usize>> {
        self.0.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.lock();
        if let Some(own) = taken.get_mut(&self.client) {
            *own -= 1;
            if *own == 0 {
                taken.remove(&self.client);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_limited_per_client() {
        let places = Places::new(2, 5);
        let take = |session| places.take(Client::Session(session));
        let mut held = vec![
            take(1),
            take(1),
            take(1),
            take(2),
            take(2),
            take(3),
            take(4),
        ];
        let has: Vec<bool> = held.iter().map(Option::is_some).collect();
        assert_eq!(has, [true, true, false, true, true, true, false]);
        held.remove(0);
        assert!(take(4).is_some(), "dropped at once");
        assert!(take(1).is_some());
        drop(held);
        assert!(places.lock().is_empty());
    }
}
