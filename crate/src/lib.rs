//! Counts the model calls of an OpenClaw gateway and delivers them to AgentWatch.
//!
//! The engine calls its host for files, synchronously ([`host::Host`]). Time comes in as an argument, requests go out as
//! values; JavaScript makes them ([`bindings`]).

pub mod agentwatch;
pub mod answer;
pub mod bindings;
pub mod call;
pub mod config;
pub mod core;
pub mod counter;
pub mod delivery;
mod event_stream;
pub mod facts;
pub mod files;
pub mod host;
pub mod identity;
pub mod invoice;
pub mod journal;
mod json;
mod json_stream;
pub mod ledger;
pub mod observe;
pub mod otlp;
pub mod pieces;
pub mod polled;
pub mod price;
pub mod prices;
pub mod records;
pub mod reporter;
pub mod sessions;
pub mod spending;
pub mod sse;
pub mod status;
pub mod tariff;
pub mod time;
pub mod transcript;
mod turn;
pub mod turns;
pub mod usage;
pub mod voice;
