//! The operator's settings with any values: each problem is reported without the token, and with an invalid address
//! nothing is sent.
#![no_main]

use agentwatch_openclaw::engine::settings::{RawSettings, Settings};
use agentwatch_openclaw::sources::facts::Scalar;
use agentwatch_openclaw_fuzz::scalar;
use arbitrary::Unstructured;
use libfuzzer_sys::fuzz_target;

const TOKEN: &str = "a-token-that-nobody-may-see";

fn play(input: &mut Unstructured) -> arbitrary::Result<()> {
    let token = input.ratio(1, 2)?;
    let mut failed = None;
    let raw = RawSettings::from_names(|name| match *name {
        "token" if token => Scalar::Text(TOKEN.to_owned()),
        _ => scalar(input, 1).unwrap_or_else(|error| {
            failed = Some(error);
            Scalar::Absent
        }),
    });
    let (settings, problems) = Settings::validate(&raw);
    let shown = format!("{settings:?} {problems:?}");
    assert!(!shown.contains(TOKEN), "{shown}");
    assert!(problems.iter().all(|problem| !problem.trim().is_empty()));
    assert!((50..=60_000).contains(&settings.flush_interval_ms));
    if let Some(url) = &settings.url {
        assert!(
            url.starts_with("http://") || url.starts_with("https://"),
            "{url}"
        );
        assert!(
            !url.ends_with('/') && !url.contains(char::is_whitespace),
            "{url:?}"
        );
    }
    let name = settings.naming.agent(Some("main"));
    assert!(!name.contains(['<', '>', '"', '\'', '&']), "{name}");
    Ok(())
}

fuzz_target!(|data: &[u8]| {
    let _ = play(&mut Unstructured::new(data));
});
