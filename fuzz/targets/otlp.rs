//! The export to a collector: the same sums however segments grow between readings and whenever the process restarts;
//! bodies that are JSON; settings that never show a header's value.
#![no_main]

use agentwatch_openclaw::delivery::otlp::{Exporter, Resource, settings};
use agentwatch_openclaw_fuzz::{NOW_MS, dice, files, scalar};
use arbitrary::Unstructured;
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

fn exporter(state: &[u8]) -> Exporter {
    Exporter::new(
        state,
        Resource {
            gateway: "g".into(),
        },
        NOW_MS,
    )
}

/// Possible ends of a growing file at a reading.
fn ends(bytes: &[u8]) -> Vec<usize> {
    let mut dice = dice(bytes);
    let mut ends: Vec<usize> = (0..3)
        .map(|_| (dice.bits() % (bytes.len() as u64 + 1)) as usize)
        .collect();
    ends.push(bytes.len());
    ends.sort_unstable();
    ends
}

fuzz_target!(|data: &[u8]| {
    let [calls, records] = files(data, 2).try_into().unwrap();
    let mut whole = exporter(&[]);
    whole.calls("model-calls-0000000001.awj", &calls);
    let expected = whole.metrics(NOW_MS);
    assert!(
        expected
            .iter()
            .all(|body| serde_json::from_slice::<Value>(body).is_ok())
    );

    let mut growing = exporter(&[]);
    for end in ends(&calls) {
        growing.calls("model-calls-0000000001.awj", &calls[..end]);
        // Another process continues from the stored state.
        growing = exporter(&growing.state());
    }
    assert_eq!(growing.metrics(NOW_MS), expected);

    let mut spans = [0, 0];
    for (count, ends) in spans.iter_mut().zip([vec![records.len()], ends(&records)]) {
        let mut exporter = exporter(&[]);
        for end in ends {
            while let Some((key, Some(batch))) =
                exporter.traces("records-0000000001.awj", &records[..end])
            {
                let body: Value = serde_json::from_slice(&batch.body).expect("a body is JSON");
                let told = body["resourceSpans"][0]["scopeSpans"][0]["spans"]
                    .as_array()
                    .map(Vec::len);
                assert_eq!(told, Some(batch.spans as usize));
                *count += batch.spans;
                exporter.delivered(&key, batch.upto);
            }
        }
    }
    assert_eq!(spans[0], spans[1]);

    // Any state, and any setting.
    exporter(data).metrics(NOW_MS);
    let mut input = Unstructured::new(data);
    if let (Ok(setting), Ok(environment)) = (scalar(&mut input, 4), scalar(&mut input, 2)) {
        let target = settings::read(&setting, &environment);
        assert!(target.problems.is_empty() || (target.url.is_none() && target.headers.is_empty()));
        assert!(target.headers.iter().all(|(_, value)| value.is_ascii()));
    }
});
