//! Concurrent requests for one page share one reading: every open page reloads when records are stored.

use crate::error::ApiError;
use axum::body::Bytes;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// The pages that are being read, by address.
#[derive(Clone, Default)]
pub struct Shared {
    pages: Arc<Mutex<HashMap<String, Arc<Page>>>>,
}

/// A page and the start of its reading.
type Page = tokio::sync::Mutex<Option<(Instant, Bytes)>>;

impl Shared {
    /// Returns a page with everything that was stored before this call: one whose reading starts after it for another
    /// request, else one that `read` reads.
    ///
    /// # Errors
    /// The error of `read`.
    pub async fn page<F: Future<Output = Result<String, ApiError>>>(
        &self,
        address: String,
        read: impl FnOnce() -> F,
    ) -> Result<Bytes, ApiError> {
        let asked = Instant::now();
        let page = {
            let mut pages = self.pages.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(pages.entry(address.clone()).or_default())
        };
        let mut last = page.lock().await;
        let text = match &*last {
            Some((begun, text)) if *begun >= asked => Ok(text.clone()),
            _ => {
                let begun = Instant::now();
                read().await.map(|text| {
                    let text = Bytes::from(text);
                    *last = Some((begun, text.clone()));
                    text
                })
            }
        };
        drop(last);
        let mut pages = self.pages.lock().unwrap_or_else(PoisonError::into_inner);
        // No other request waits for it.
        if Arc::strong_count(&page) <= 2 {
            pages.remove(&address);
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
    use std::time::Duration;

    #[tokio::test]
    async fn concurrent_requests_read_a_page_at_most_twice() {
        let (shared, reads) = (Shared::default(), Arc::new(AtomicUsize::new(0)));
        let mut all = tokio::task::JoinSet::new();
        for _ in 0..64 {
            let (shared, reads) = (shared.clone(), Arc::clone(&reads));
            all.spawn(async move {
                let read = || async {
                    let count = reads.fetch_add(1, SeqCst);
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    Ok(count.to_string())
                };
                shared.page("?hours=24".into(), read).await.is_ok()
            });
        }
        while let Some(outcome) = all.join_next().await {
            assert!(matches!(outcome, Ok(true)));
        }
        assert!(reads.load(SeqCst) <= 2, "{}", reads.load(SeqCst));
        assert!(shared.pages.lock().is_ok_and(|pages| pages.is_empty()));
    }

    #[tokio::test]
    async fn later_requests_get_later_pages_and_addresses_are_separate() {
        let shared = Shared::default();
        for (address, text) in [("a", "1"), ("a", "2"), ("b", "3")] {
            let page = shared.page(address.into(), || async { Ok(text.to_owned()) });
            assert_eq!(page.await.ok(), Some(Bytes::from(text)));
        }
        let fails = shared.page("a".into(), || async { Err(ApiError::Overloaded) });
        assert!(matches!(fails.await, Err(ApiError::Overloaded)));
        let again = shared.page("a".into(), || async { Ok("4".to_owned()) });
        assert_eq!(again.await.ok(), Some(Bytes::from("4")));
    }
}
