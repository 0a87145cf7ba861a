//! OpenClaw's session store: which places there are, which files and rows hold a session, how far each is read.

pub mod bookmark;
pub mod database;
pub mod files;
pub mod host;
pub mod keys;
pub mod places;
pub mod polled;
pub mod reader;
mod reading;
pub mod transcript;
pub mod transcripts;
