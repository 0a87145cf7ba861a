//! Delivery: what is sent when, what is sent again, and the records on the wire.

pub mod agentwatch;
pub mod calls;
pub mod collector;
pub mod otlp;
pub mod records;
pub mod reply;
pub mod sender;
mod signal;
