//! Delivery: the three outlets (AgentWatch's calls, AgentWatch's records, a collector's signals), their batches and
//! retries, and the wire formats.

pub mod agentwatch;
pub mod calls;
pub mod collector;
pub mod otlp;
pub mod prometheus;
pub mod records;
pub mod reply;
pub mod sender;
mod signal;
pub mod webhook;
