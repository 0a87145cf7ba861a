//! Shared state of all handlers.

use crate::config::Mode;
use crate::error::ApiError;
use crate::guard::Hosts;
use crate::page::live::Live;
use crate::pool::{Pools, Queued};
use crate::sessions::Sessions;
use crate::store::Store;
use crate::throttle::Throttle;
use std::sync::Arc;

/// The server's state, cheap to clone.
#[derive(Clone)]
pub struct App {
    /// The store.
    pub store: Arc<Store>,
    /// The server's mode.
    pub mode: Mode,
    /// The required token, if one is configured.
    pub token: Option<Arc<str>>,
    /// The host names under which requests are accepted.
    pub hosts: Arc<Hosts>,
    /// The open sessions.
    pub sessions: Arc<Sessions>,
    /// Name of the session cookie.
    pub cookie: Arc<str>,
    /// Slows down clients that guess the token.
    pub throttle: Arc<Throttle>,
    /// Notifies open pages of changes.
    pub live: Live,
    /// Threads for database work.
    pub pools: Pools,
}

impl App {
    /// Reads the database on a thread of the pool for reads.
    ///
    /// # Errors
    /// The error of `work`, or that too many reads are waiting.
    pub async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> Result<T, ApiError> + Send + 'static,
    ) -> Result<T, ApiError> {
        self.at(self.pools.reads.enter()?, work).await
    }

    /// Does database work on a thread of the pool that the request is queued for.
    ///
    /// # Errors
    /// The error of `work`, or that the wait was too long.
    pub async fn at<T: Send + 'static>(
        &self,
        queued: Queued,
        work: impl FnOnce(&Self) -> Result<T, ApiError> + Send + 'static,
    ) -> Result<T, ApiError> {
        let app = self.clone();
        queued.run(move || work(&app)).await
    }
}
