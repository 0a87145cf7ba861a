//! Counts the model calls of an OpenClaw gateway and delivers them to AgentWatch.
//!
//! The engine calls its host for files, synchronously ([`host::Host`]). Time comes in as an argument, requests go out as
//! values; JavaScript makes them ([`bindings`]).

pub mod activity;
pub mod bindings;
pub mod delivery;
pub mod domain;
pub mod engine;
pub mod formats;
pub mod host;
pub mod invoice;
pub mod journal;
pub mod lease;
pub mod matching;
pub mod pricing;
pub mod report;
pub mod sessions;
pub mod sources;
pub mod spending;
