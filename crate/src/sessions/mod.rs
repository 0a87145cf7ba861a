//! OpenClaw's session store: its places, the files and rows of each session, and the bookmarks of the reader.

pub mod bookmark;
pub mod database;
pub mod files;
pub mod host;
pub mod keys;
pub mod marks;
pub mod places;
pub mod polled;
pub mod reader;
mod reading;
pub mod transcript;
pub mod transcripts;
