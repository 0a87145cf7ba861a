//! Calls, usage, cost, outcome, and the surfaces that tell of them.

pub mod call;
pub mod counter;
pub mod identity;
pub mod observation;
pub mod surface;
pub mod time;
pub mod usage;
