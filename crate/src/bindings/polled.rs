//! Sessions as a gateway's usage API reports them.

use wasm_bindgen::prelude::*;

use crate::sessions::polled::{self, Mark, Wanted};

/// Compares a session's usage of a gateway with its counted calls; see [`polled::look`]. `series` is the frame that
/// answered `sessions.usage.timeseries`, `histories` are the answers to `chat.history`, in the order of time. Calls
/// that ended before `since` (ms since 1970, by the gateway's clock) are left out. The result is JSON.
///
/// # Errors
/// Names the unreadable part.
#[allow(clippy::too_many_arguments)]
#[wasm_bindgen(js_name = lookAtSession)]
pub fn look_at_session(
    series: &str,
    histories: Vec<String>,
    mark: &str,
    session_key: String,
    agent: Option<String>,
    provider: Option<String>,
    model: Option<String>,
    since: f64,
) -> Result<String, JsError> {
    let wanted = Wanted {
        session_key,
        agent,
        provider,
        model,
        since_ms: since as u64,
    };
    let look =
        polled::look(series, &histories, &wanted, Mark::parse(mark)).map_err(JsError::new)?;
    Ok(serde_json::to_string(&look).unwrap_or_default())
}
