//! Events of every source with any values in their fields, in any order, with restarts in between: every event is
//! counted, every call arrives once, and all sent figures are finite.
#![no_main]

use agentwatch_openclaw::sources::SOURCES;
use agentwatch_openclaw_fuzz::common::{Gateway, at};
use agentwatch_openclaw_fuzz::{NOW_MS, scalar};
use arbitrary::Unstructured;
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

/// The sum of an object's numbers.
fn sum(value: &Value) -> u64 {
    value
        .as_object()
        .into_iter()
        .flatten()
        .filter_map(|(_, count)| count.as_u64())
        .sum()
}

fn play(input: &mut Unstructured, gateway: &mut Gateway) -> arbitrary::Result<()> {
    let (mut wall, mut heard, mut requests) = (NOW_MS, 0, 0);
    for _ in 0..input.int_in_range(0..=24)? {
        let source = input.choose_index(SOURCES.len())?;
        let fields = SOURCES[source].fields.len();
        let facts = (0..fields)
            .map(|_| scalar(input, 2))
            .collect::<arbitrary::Result<_>>()?;
        gateway.engine.observe(source, facts, at(wall));
        heard += 1;
        gateway.write();
        let later = wall + u64::from(input.arbitrary::<u16>()? % 4_000);
        if input.ratio(1, 3)? {
            gateway.run_until(wall, later);
        }
        wall = later;
        if input.ratio(1, 12)? {
            assert_eq!(sum(&gateway.status()["seen"]), heard);
            requests += gateway.status()["requests"].as_u64().unwrap();
            gateway.restart(wall);
            heard = 0;
        }
    }
    assert_eq!(sum(&gateway.status()["seen"]), heard);
    gateway.engine.close(false, at(wall));
    gateway.write();
    gateway.run_until(wall, wall + 600_000);
    let status = gateway.status();
    requests += status["requests"].as_u64().unwrap();
    assert_eq!(gateway.receiver.calls.len() as u64, requests, "{status}");
    assert_eq!(
        (&status["waiting"], &status["open"]),
        (&0.into(), &0.into()),
        "{status}"
    );
    for total in gateway.receiver.totals.0.values() {
        assert!(total.cost_usd.is_finite() && total.cost_usd >= 0.0);
    }
    Ok(())
}

fuzz_target!(|data: &[u8]| {
    let mut input = Unstructured::new(data);
    let mut gateway = Gateway::new(input.arbitrary().unwrap_or_default());
    // The input ends here.
    let _ = play(&mut input, &mut gateway);
});
