//! Answers of models, whole or streamed, of each API: the reading is the same wherever they are cut, and within bounds.
#![no_main]

use agentwatch_openclaw::sources::answer::{Answer, Api, Told, UsageSource};
use agentwatch_openclaw::sources::ending::Ending;
use agentwatch_openclaw::sources::facts::MAX_TEXT;
use agentwatch_openclaw_fuzz::assert_same_however_cut;
use libfuzzer_sys::fuzz_target;

/// Maximum number of tokens that is accepted.
const MAX_TOKENS: u64 = 1_000_000_000_000;

fn assert_bounded(told: &Told) {
    for text in [&told.response_model, &told.response_id, &told.cost] {
        assert!(
            text.as_ref()
                .is_none_or(|text| text.encode_utf16().count() <= MAX_TEXT)
        );
    }
    let counts = [
        told.input,
        told.output,
        told.cache_read,
        told.cache_write,
        told.reasoning,
    ];
    // Counts are added where a provider reports parts of them, and for each request of a call.
    assert!(
        counts
            .iter()
            .flatten()
            .all(|count| *count <= 200 * MAX_TOKENS)
    );
    match told.usage_source {
        UsageSource::Reported => assert!(counts.iter().flatten().any(|count| *count > 0)),
        UsageSource::Missing | UsageSource::Broken => {
            assert!(counts.iter().all(Option::is_none), "{told:?}");
        }
    }
    if let Some(cost) = &told.cost {
        cost.parse::<f64>().expect("a cost is a number");
    }
}

fuzz_target!(|data: &[u8]| {
    for api in [
        Api::Chat,
        Api::Responses,
        Api::Messages,
        Api::Gemini,
        Api::Ollama,
        Api::Converse,
        Api::Invoke,
    ] {
        for (status, ending) in [
            (200, Ending::Whole),
            (200, Ending::Left),
            (500, Ending::Cut),
        ] {
            let (told, firsts) = assert_same_however_cut(data, |pieces| {
                let mut answer = Answer::new(api, status);
                let firsts = pieces.iter().filter(|piece| answer.feed(piece)).count();
                (answer.finish(ending), firsts)
            });
            assert!(firsts <= 1, "a first token comes once");
            assert_bounded(&told);
        }
    }
});
