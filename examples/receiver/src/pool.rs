//! Thread pools, one per kind of work, each with a bounded queue.
//!
//! Ingest, reads and pages have a pool each: a request that waits for one pool takes no thread of another.

use crate::downloads::Downloads;
use crate::error::ApiError;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

/// Ingest: one request is parsed while another is written.
const WRITES: usize = 2;
/// Lists, statistics and downloads.
const READS: usize = 4;
/// Pages: each may take tens of MB with a million names.
const PAGES: usize = 2;
/// Threads for database work: those of the pools, and a few for cancelled work that has not ended yet.
pub const THREADS: usize = WRITES + READS + PAGES + 8;
/// Maximum number of waiting requests per pool.
const QUEUE: usize = 62;
/// Maximum number of downloads of single calls: each takes 8 MB while it is read.
const DOWNLOADS: usize = 8;
/// Maximum wait for a thread.
const PATIENCE: Duration = Duration::from_secs(20);
/// Maximum size of all buffered bodies, in bytes.
const BODIES: usize = 128 * 1024 * 1024;

/// The pools of the server, cheap to clone.
#[derive(Clone)]
pub struct Pools {
    /// `POST /api/v1/ingest/*`
    pub writes: Pool,
    /// `GET /api/*` and downloads
    pub reads: Pool,
    /// `GET /models`
    pub pages: Pool,
    /// Places of downloads of single calls.
    pub downloads: Downloads,
    /// Permits for bytes of request bodies.
    pub bodies: Arc<Semaphore>,
}

impl Default for Pools {
    fn default() -> Self {
        Self {
            writes: Pool::new(WRITES, QUEUE),
            reads: Pool::new(READS, QUEUE),
            pages: Pool::new(PAGES, QUEUE),
            downloads: Downloads::new(DOWNLOADS),
            bodies: Arc::new(Semaphore::new(BODIES)),
        }
    }
}

/// A number of threads and a queue.
#[derive(Clone)]
pub struct Pool {
    places: Arc<Semaphore>,
    threads: Arc<Semaphore>,
}

/// A request in the queue of a pool.
pub struct Queued {
    pool: Pool,
    place: OwnedSemaphorePermit,
}

impl Pool {
    fn new(threads: usize, queue: usize) -> Self {
        Self {
            places: Arc::new(Semaphore::new(threads + queue)),
            threads: Arc::new(Semaphore::new(threads)),
        }
    }

    /// Takes a place in the queue.
    ///
    /// # Errors
    /// The queue is full.
    pub fn enter(&self) -> Result<Queued, ApiError> {
        let place = Arc::clone(&self.places).try_acquire_owned();
        Ok(Queued {
            pool: self.clone(),
            place: place.map_err(|_| ApiError::Overloaded)?,
        })
    }
}

impl Queued {
    /// Waits for a thread and runs blocking work on it. The thread stays taken until the work ends, even if no request
    /// waits for it any more.
    ///
    /// # Errors
    /// The error of `work`, that the wait was too long, or that the work panicked.
    pub async fn run<T: Send + 'static>(
        self,
        work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
    ) -> Result<T, ApiError> {
        let Self { pool, place } = self;
        let thread = timeout(PATIENCE, pool.threads.acquire_owned()).await;
        let Ok(Ok(thread)) = thread else {
            return Err(ApiError::Overloaded);
        };
        let outcome = tokio::task::spawn_blocking(move || {
            let _held = (thread, place);
            work()
        });
        outcome
            .await
            .unwrap_or_else(|error| Err(ApiError::Store(error.to_string())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_full_queue_refuses_requests_and_affects_no_other_pool() {
        let pools = Pools::default();
        let full: Vec<_> = std::iter::from_fn(|| pools.writes.enter().ok()).collect();
        assert_eq!(full.len(), WRITES + QUEUE);
        assert!(matches!(pools.writes.enter(), Err(ApiError::Overloaded)));
        for pool in [&pools.reads, &pools.pages] {
            let answer = match pool.enter() {
                Ok(place) => place.run(|| Ok(7)).await.ok(),
                Err(_) => None,
            };
            assert_eq!(answer, Some(7));
        }
        drop(full);
        assert!(pools.writes.enter().is_ok(), "places come back");
    }

    #[tokio::test]
    async fn concurrent_work_is_limited_to_the_threads() {
        use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
        let pool = Pool::new(2, 20);
        let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let mut all = tokio::task::JoinSet::new();
        for _ in 0..20 {
            let (pool, running, most) = (pool.clone(), Arc::clone(&running), Arc::clone(&most));
            all.spawn(async move {
                let place = pool.enter()?;
                let work = move || {
                    most.fetch_max(running.fetch_add(1, SeqCst) + 1, SeqCst);
                    std::thread::sleep(Duration::from_millis(3));
                    running.fetch_sub(1, SeqCst);
                    Ok(())
                };
                place.run(work).await
            });
        }
        while let Some(outcome) = all.join_next().await {
            assert!(matches!(outcome, Ok(Ok(()))), "{outcome:?}");
        }
        assert_eq!(most.load(SeqCst), 2);
    }
}
