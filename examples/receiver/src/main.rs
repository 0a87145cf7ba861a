//! An AgentWatch-compatible receiver: accepts records over HTTP, stores them in SQLite, shows them on a Models page.
//!
//! ```text
//! connections ─► guard ─► auth ─► ingest ─► validate (or stock) ─► store ─► reads, page
//! ```

mod app;
mod auth;
mod authority;
mod client;
mod clock;
mod config;
mod connections;
mod downloads;
mod error;
mod fields;
mod guard;
mod ingest;
mod json;
mod page;
mod places;
mod pool;
mod private;
mod prometheus;
mod python;
mod reads;
mod records;
mod server;
mod sessions;
mod starlette;
mod stock;
mod store;
mod throttle;
mod twice;
mod validate;
mod waiting;

use config::Command;
use std::io::Write;
use std::process::ExitCode;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("agentwatch-receiver: {message}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), String> {
    let token = std::env::var("AGENTWATCH_TOKEN").ok();
    match config::parse(std::env::args_os().skip(1), token)? {
        Command::Print(text) => {
            // A closed pipe is no error.
            let _ = std::io::stdout().write_all(text.as_bytes());
            Ok(())
        }
        Command::Serve(config) => tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .max_blocking_threads(pool::THREADS)
            .build()
            .map_err(|e| format!("cannot start: {e}"))?
            .block_on(server::serve(config)),
    }
}
