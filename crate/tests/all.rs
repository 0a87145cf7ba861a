//! All native tests, as one program: each further program is linked with the crate, and compiles `common` again.
#![cfg(not(target_arch = "wasm32"))]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;
#[cfg(unix)]
#[path = "common/folder.rs"]
mod folder;
mod spending_life;
mod spending_world;
#[path = "common/watched.rs"]
mod watched;

mod again;
mod attribution;
mod backlog;
mod bad_input;
mod billing;
mod bills;
mod bounds;
mod brake;
mod captures;
mod clock;
mod collector;
mod corpus;
mod exposition;
mod failover;
mod format;
mod history;
mod incidents;
mod incidents_week;
mod journal;
#[cfg(unix)]
mod lease;
#[cfg(unix)]
mod lease_file;
mod ledger;
mod lifecycle;
mod log;
mod model;
mod network;
mod otlp;
mod outbox;
mod outside_runs;
mod polled;
mod prices;
mod report;
mod semconv;
mod shapes;
#[cfg(unix)]
mod sharing;
mod spending_alarm;
mod spending_allowance;
mod spending_cache;
mod spending_clocks;
mod spending_forecast;
mod spending_settings;
mod spending_weeks;
mod spending_who;
mod spending_windows;
mod spool;
mod stops;
#[cfg(unix)]
mod store;
mod store_watch;
mod surfaces;
mod transcript;
mod transcript_values;
mod turns;
mod upgrade;
mod usage;
mod usage_total;
mod ways;

#[test]
fn every_file_of_tests_is_named_here() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests");
    for entry in std::fs::read_dir(folder).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        // `wasm.rs` is the module's.
        let Some(module) = name
            .strip_suffix(".rs")
            .filter(|name| !["all", "wasm"].contains(name))
        else {
            continue;
        };
        assert!(
            include_str!("all.rs").contains(&format!("\nmod {module};\n")),
            "tests/{name} does not run: write `mod {module};` in tests/all.rs"
        );
    }
}
