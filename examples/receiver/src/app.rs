//! What every handler has at hand.

use crate::config::Mode;
use crate::error::ApiError;
use crate::guard::Hosts;
use crate::page::live::Live;
use crate::pool::{Place, Pools};
use crate::sessions::Sessions;
use crate::store::Store;
use crate::throttle::Throttle;
use std::sync::Arc;

/// The server's state, cheap to clone.
#[derive(Clone)]
pub struct App {
    /// Where the records are.
    pub store: Arc<Store>,
    /// Which server to be.
    pub mode: Mode,
    /// The token that calls must carry, where there is one.
    pub token: Option<Arc<str>>,
    /// By which names this server may be asked.
    pub hosts: Arc<Hosts>,
    /// Who is signed in.
    pub sessions: Arc<Sessions>,
    /// The name of their cookie.
    pub cookie: Arc<str>,
    /// Slows down who guesses the token.
    pub throttle: Arc<Throttle>,
    /// Tells open pages of changes.
    pub live: Live,
    /// Threads for database work.
    pub pools: Pools,
}

impl App {
    /// Reads the database on a thread of the pool for reads.
    ///
    /// # Errors
    /// What `work` gives, or that too many read already.
    pub async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> Result<T, ApiError> + Send + 'static,
    ) -> Result<T, ApiError> {
        self.at(self.pools.reads.enter()?, work).await
    }

    /// Does database work on a thread of the pool of `place`.
    ///
    /// # Errors
    /// What `work` gives, or that the wait was too long.
    pub async fn at<T: Send + 'static>(
        &self,
        place: Place,
        work: impl FnOnce(&Self) -> Result<T, ApiError> + Send + 'static,
    ) -> Result<T, ApiError> {
        let app = self.clone();
        place.run(move || work(&app)).await
    }
}
