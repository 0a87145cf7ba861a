//! The ways out: what is sent when, and what is tried again.

pub mod collector;
pub mod sender;
