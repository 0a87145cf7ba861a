//! The ways out: what is sent when, and what is tried again.

pub mod calls;
pub mod collector;
pub mod records;
pub mod sender;
mod signal;
