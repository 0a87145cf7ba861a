//! All tests of the running receiver, as one program: each further program is linked with the receiver, and SQLite.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod support;

mod access;
mod bounds;
mod extremes;
mod focus;
mod groups;
mod guard;
#[cfg(target_os = "linux")]
mod machine;
mod metrics;
mod page;
mod process;
mod spending;
mod stock;
mod strict;
mod upgrade;

#[test]
fn every_file_of_tests_is_named_here() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests");
    for entry in std::fs::read_dir(folder).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let Some(module) = name.strip_suffix(".rs").filter(|name| *name != "all") else {
            continue;
        };
        assert!(
            include_str!("all.rs").contains(&format!("\nmod {module};\n")),
            "tests/{name} does not run: write `mod {module};` in tests/all.rs"
        );
    }
}
