//! Activity of a gateway beside model calls: turns as traces, sessions, log records, health, metrics, cron runs.

pub mod records;
pub mod reporter;
pub mod sessions;
mod turn;
pub mod turns;
