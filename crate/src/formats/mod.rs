//! Foreign formats, read in pieces that are cut anywhere.

pub(crate) mod event_stream;
pub(crate) mod json;
pub(crate) mod json_stream;
pub mod sse;
