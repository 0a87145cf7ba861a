use super::*;
use crate::formats::json::MAX_BYTES;
use proptest::prelude::*;
use serde_json::json;

fn read(api: Api, status: u16, pieces: &[&[u8]], ending: Ending) -> Told {
    let mut answer = Answer::new(api, status);
    for piece in pieces {
        answer.feed(piece);
    }
    answer.finish(ending)
}

const APIS: [Api; 7] = [
    Api::Chat,
    Api::Responses,
    Api::Messages,
    Api::Gemini,
    Api::Ollama,
    Api::Converse,
    Api::Invoke,
];

fn told(api: Api, body: &str) -> Told {
    read(api, 200, &[body.as_bytes()], Ending::Whole)
}

/// `[input, output, cache_read, cache_write, reasoning]`
fn counts(told: &Told) -> [u64; 5] {
    [
        told.input,
        told.output,
        told.cache_read,
        told.cache_write,
        told.reasoning,
    ]
    .map(Option::unwrap_or_default)
}

fn stream(events: &[serde_json::Value]) -> String {
    events
        .iter()
        .map(|event| format!("data: {event}\n\n"))
        .collect()
}

/// The corpus: recorded and generated answers with their expected readings.
mod corpus {
    use super::*;

    struct Case {
        file: &'static str,
        body: &'static str,
        expected: &'static str,
    }

    macro_rules! case {
        ($name:literal) => {
            Case {
                file: $name,
                body: include_str!(concat!("../../../tests/fixtures/answers/", $name)),
                expected: include_str!(concat!(
                    "../../../tests/fixtures/answers/",
                    $name,
                    ".told.json"
                )),
            }
        };
    }

    const CASES: &[Case] = &[
        case!("chat-stream.sse"),
        case!("chat-whole.body"),
        case!("chat-tools.sse"),
        case!("chat-choices.sse"),
        case!("chat-usage-twice.sse"),
        case!("chat-no-usage.sse"),
        case!("chat-error.sse"),
        case!("chat-openrouter.sse"),
        case!("chat-deepseek.sse"),
        case!("chat-groq.sse"),
        case!("chat-xai.body"),
        case!("responses-stream.sse"),
        case!("responses-whole.body"),
        case!("responses-failed.sse"),
        case!("messages-stream.sse"),
        case!("messages-thinking-tools.sse"),
        case!("messages-whole.body"),
        case!("messages-error.sse"),
    ];

    fn api(file: &str) -> Api {
        match file.split('-').next() {
            Some("responses") => Api::Responses,
            Some("messages") => Api::Messages,
            _ => Api::Chat,
        }
    }

    fn expected(case: &Case) -> serde_json::Value {
        serde_json::from_str(case.expected).unwrap_or_default()
    }

    fn as_json(told: &Told) -> serde_json::Value {
        serde_json::to_value(told).unwrap_or_default()
    }

    #[test]
    fn each_answer_reads_as_expected() {
        for case in CASES {
            let told = told(api(case.file), case.body);
            let text = serde_json::to_string_pretty(&told).unwrap_or_default();
            assert_eq!(as_json(&told), expected(case), "{}:\n{text}", case.file);
        }
    }

    #[test]
    fn cut_at_every_byte_it_reads_the_same() {
        for case in CASES {
            let (api, bytes) = (api(case.file), case.body.as_bytes());
            for at in 0..=bytes.len() {
                let (left, right) = bytes.split_at(at);
                let told = read(api, 200, &[left, right], Ending::Whole);
                assert_eq!(as_json(&told), expected(case), "{} at {at}", case.file);
            }
            let pieces: Vec<&[u8]> = bytes.chunks(1).collect();
            let told = read(api, 200, &pieces, Ending::Whole);
            assert_eq!(as_json(&told), expected(case), "{} in bytes", case.file);
        }
    }

    #[test]
    fn with_other_line_ends_it_reads_the_same() {
        for case in CASES.iter().filter(|case| case.file.ends_with(".sse")) {
            for end in ["\r\n", "\r"] {
                let body = format!("\u{feff}: hello\n{}", case.body).replace('\n', end);
                assert_eq!(
                    as_json(&told(api(case.file), &body)),
                    expected(case),
                    "{} with {end:?}",
                    case.file
                );
            }
        }
    }

    #[test]
    fn a_truncated_answer_never_has_higher_counts() {
        for case in CASES {
            let (api, bytes) = (api(case.file), case.body.as_bytes());
            let full = told(api, case.body);
            for at in 0..bytes.len() {
                let told = read(api, 200, &[&bytes[..at]], Ending::Cut);
                let (some, all) = (counts(&told), counts(&full));
                let is_more = some.iter().zip(all).any(|(some, all)| *some > all);
                assert!(!is_more, "{} at {at}: {told:?}", case.file);
            }
        }
    }
}

#[test]
fn only_a_whole_document_counts() {
    let body = r#"{"id":"a","usage":{"prompt_tokens":12,"completion_tokens":34}}"#;
    assert_eq!(counts(&told(Api::Chat, body)), [12, 34, 0, 0, 0]);
    let cut = read(
        Api::Chat,
        200,
        &[&body.as_bytes()[..body.len() - 1]],
        Ending::Cut,
    );
    assert_eq!(cut.usage_source, UsageSource::Missing);
    assert_eq!(cut.outcome, Outcome::Failed);
}

#[test]
fn a_whole_event_without_its_blank_line_counts() {
    let body = "data: {\"usage\":{\"prompt_tokens\":12,\"completion_tokens\":34}}";
    assert_eq!(counts(&told(Api::Chat, body)), [12, 34, 0, 0, 0]);
    assert_eq!(
        told(Api::Chat, &body[..body.len() - 1]).usage_source,
        UsageSource::Missing
    );
}

#[test]
fn data_over_several_lines_is_one_document() {
    let body = "data: {\"usage\":\ndata: {\"prompt_tokens\":1\ndata:2}}\n\ndata: {\"usage\":{\"prompt_tokens\":1,\ndata: \"completion_tokens\":2}}\n\n";
    // `1
    // 2` is no number, so the first event has no usage.
    assert_eq!(counts(&told(Api::Chat, body)), [1, 2, 0, 0, 0]);
}

#[test]
fn all_zeros_are_missing_and_do_not_hide_an_earlier_usage() {
    let zeros = json!({"usage": {"prompt_tokens": 0, "completion_tokens": 0}});
    let usage = json!({"usage": {"prompt_tokens": 3, "completion_tokens": 1}});
    assert_eq!(
        told(Api::Chat, &zeros.to_string()).usage_source,
        UsageSource::Missing
    );
    assert_eq!(
        counts(&told(Api::Chat, &stream(&[usage, zeros]))),
        [3, 1, 0, 0, 0]
    );
}

#[test]
fn an_unreadable_count_is_missing_and_the_others_count() {
    for bad in [
        "\"NaN\"",
        "\"\"",
        "1000000000001",
        "1e999",
        "{}",
        "[7]",
        "true",
    ] {
        let body = |completion: u64| {
            format!("{{\"usage\":{{\"prompt_tokens\":{bad},\"completion_tokens\":{completion}}}}}")
        };
        assert_eq!(counts(&told(Api::Chat, &body(2))), [0, 2, 0, 0, 0], "{bad}");
        let nothing = told(Api::Chat, &body(0));
        assert_eq!(nothing.usage_source, UsageSource::Broken, "{bad}");
    }
    for (good, tokens) in [("\"7\"", 7), ("\" 8.0 \"", 8), ("1e3", 1_000), ("-1", 0)] {
        let body = format!("{{\"usage\":{{\"prompt_tokens\":{good},\"completion_tokens\":2}}}}");
        assert_eq!(
            counts(&told(Api::Chat, &body)),
            [tokens, 2, 0, 0, 0],
            "{good}"
        );
    }
    let fraction = r#"{"usage":{"input_tokens":12.0,"output_tokens":3.9}}"#;
    assert_eq!(counts(&told(Api::Messages, fraction)), [12, 3, 0, 0, 0]);
}

/// Feeds a text, this many bytes of filling, and another text.
fn filled(api: Api, begin: &str, filling: usize, end: &str) -> Answer {
    let mut answer = Answer::new(api, 200);
    answer.feed(begin.as_bytes());
    let filler = [b'x'; 64 * 1024];
    for _ in 0..filling / filler.len() {
        answer.feed(&filler);
    }
    answer.feed(end.as_bytes());
    answer
}

#[test]
fn a_too_long_answer_has_broken_usage() {
    let end = r#""}}],"usage":{"prompt_tokens":3,"completion_tokens":1}}"#;
    let begin = r#"{"choices":[{"message":{"content":""#;
    let filled = |filling| filled(Api::Chat, begin, filling, end);
    let told = filled(MAX_BYTES - 64 * 1024).finish(Ending::Whole);
    assert_eq!(counts(&told), [3, 1, 0, 0, 0]);
    for (ending, outcome) in [
        (Ending::Whole, Outcome::Completed),
        (Ending::Cut, Outcome::Failed),
        (Ending::Left, Outcome::Aborted),
    ] {
        let answer = filled(MAX_BYTES);
        let told = answer.finish(ending);
        assert_eq!(
            (told.usage_source, told.outcome),
            (UsageSource::Broken, outcome)
        );
    }
}

#[test]
fn a_too_long_event_does_not_hide_the_usage_of_another() {
    let usage = json!({"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 1}});
    let end = format!("\"}}}}]}}\n\ndata: {usage}\n\ndata: [DONE]\n\n");
    let begin = "data: {\"choices\":[{\"delta\":{\"content\":\"";
    let told = filled(Api::Chat, begin, MAX_BYTES, &end).finish(Ending::Whole);
    assert_eq!(counts(&told), [3, 1, 0, 0, 0]);
    let without = "\"}}]}\n\ndata: [DONE]\n\n";
    let told = filled(Api::Chat, begin, MAX_BYTES, without).finish(Ending::Whole);
    assert_eq!(
        (told.usage_source, told.outcome),
        (UsageSource::Broken, Outcome::Completed)
    );
}

#[test]
fn a_stream_without_blank_lines_is_read_event_by_event() {
    let text = "x".repeat(64 * 1024);
    let chunk = json!({"choices": [{"delta": {"content": text}}]});
    let line = format!("data: {chunk}\nid: 7\n");
    let mut answer = Answer::new(Api::Chat, 200);
    let firsts = [(); 3].map(|()| answer.feed(line.as_bytes()));
    assert_eq!(firsts, [false, true, false]);
    for _ in 0..MAX_BYTES / text.len() {
        answer.feed(line.as_bytes());
    }
    let usage = json!({"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 1}});
    answer.feed(format!("data: {usage}\ndata: [DONE]").as_bytes());
    let told = answer.finish(Ending::Whole);
    assert_eq!(counts(&told), [3, 1, 0, 0, 0]);
    assert_eq!(told.outcome, Outcome::Completed);
}

/// Servers in Python and in C write such answers. The odd parts are outside the usage.
#[test]
fn invalid_parts_of_an_answer_do_not_hide_its_usage() {
    let usage = br#""usage":{"prompt_tokens":3,"completion_tokens":1}"#;
    let deep = [vec![b'['; 10_000], vec![b']'; 10_000]].concat();
    let odd: [&[u8]; 9] = [
        br#""logprobs":[NaN,-Infinity,Infinity]"#,
        br#""text":"\ud800","id":"\udc00""#,
        br#""\ud800":1"#,
        b"\"text\":\"\xff\xed\xa0\x80\",\"id\":\"\xc3\"",
        br#""created":1e999,"id":1e999,"choices":-1e999"#,
        br#""usage":{"prompt_tokens":7,"completion_tokens":9}"#,
        br#""usage":"\ud800","usage":1e999,"usage":null"#,
        br#""choices":{"delta":7},"error":null,"model":[]"#,
        &[b"\"x\":", &deep[..]].concat(),
    ];
    for odd in odd {
        let body = [b"{", odd, b",", usage, b"}"].concat();
        for body in [
            body.clone(),
            [b"data: ", &body[..], b"\n\ndata: [DONE]\n\n"].concat(),
        ] {
            let pieces: Vec<&[u8]> = body.chunks(7).collect();
            let told = read(Api::Chat, 200, &pieces, Ending::Whole);
            let odd = String::from_utf8_lossy(&odd[..odd.len().min(60)]);
            assert_eq!(counts(&told), [3, 1, 0, 0, 0], "{odd}");
        }
    }
}

#[test]
fn a_client_that_leaves_before_the_end_aborts_the_call() {
    let text = json!({"choices": [{"delta": {"content": "a"}, "finish_reason": null}]});
    let finish = json!({"choices": [{"delta": {}, "finish_reason": "stop"}]});
    let usage = json!({"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 1}});
    let outcome = |events: &[serde_json::Value], done: bool, ending| {
        let body = stream(events) + if done { "data: [DONE]\n\n" } else { "" };
        read(Api::Chat, 200, &[body.as_bytes()], ending).outcome
    };
    let events = [text, finish, usage];
    assert_eq!(outcome(&events[..1], false, Ending::Left), Outcome::Aborted);
    assert_eq!(outcome(&events[..2], false, Ending::Left), Outcome::Aborted);
    assert_eq!(
        outcome(&events[..2], true, Ending::Left),
        Outcome::Completed
    );
    assert_eq!(outcome(&events, false, Ending::Left), Outcome::Completed);
    assert_eq!(outcome(&events[..1], false, Ending::Cut), Outcome::Failed);
    assert_eq!(outcome(&events[..1], false, Ending::Whole), Outcome::Failed);
    assert_eq!(
        outcome(&events[..2], false, Ending::Whole),
        Outcome::Completed
    );
}

#[test]
fn an_http_error_is_a_failure_whatever_its_body() {
    for body in ["", "{\"error\":{}}", "<html>", "data: {}\n\n"] {
        let told = read(Api::Messages, 529, &[body.as_bytes()], Ending::Whole);
        assert_eq!(
            (told.outcome, told.usage_source),
            (Outcome::Failed, UsageSource::Missing)
        );
    }
}

#[test]
fn the_first_token_is_signalled_once_in_its_piece() {
    let head = "data: {\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\n\n";
    let token = "data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\n";
    let mut answer = Answer::new(Api::Chat, 200);
    let seen = [head, &token[..40], &token[40..], token].map(|piece| answer.feed(piece.as_bytes()));
    assert_eq!(seen, [false, false, true, false]);
}

proptest! {
    #[test]
    fn arbitrary_bytes_do_not_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..300),
        api in prop::sample::select(APIS.to_vec()),
    ) {
        let pieces: Vec<&[u8]> = bytes.chunks(1).collect();
        prop_assert_eq!(
            read(api, 200, &pieces, Ending::Whole),
            read(api, 200, &[&bytes], Ending::Whole)
        );
    }

    /// An answer of a model in any pieces: the usage is that of its last event.
    #[test]
    fn generated_streams_read_the_same_however_they_are_cut(
        texts in prop::collection::vec("[a-z\"\\\\\n{}é😀]{0,12}", 0..8),
        usage in [0u64..1_000_000, 1..1_000_000, 0..1_000],
        comments in any::<bool>(),
        end in prop::sample::select(vec!["\n", "\r\n", "\r"]),
        size in 1usize..40,
    ) {
        let [fresh, output, cached] = usage;
        let mut body = String::new();
        for text in &texts {
            let chunk = json!({"id": "c", "model": "m", "choices": [{"index": 0, "delta": {"content": text}}], "usage": null});
            body += &format!("data: {chunk}{end}{end}");
            if comments {
                body += &format!(": keep-alive{end}{end}event: ping{end}");
            }
        }
        let last = json!({"id": "c", "choices": [], "usage": {
            "prompt_tokens": fresh + cached, "completion_tokens": output,
            "prompt_tokens_details": {"cached_tokens": cached},
        }});
        body += &format!("data: {last}{end}{end}data: [DONE]{end}{end}");
        let pieces: Vec<&[u8]> = body.as_bytes().chunks(size).collect();
        let told = read(Api::Chat, 200, &pieces, Ending::Whole);
        prop_assert_eq!(counts(&told), [fresh, output, cached, 0, 0]);
        prop_assert_eq!(told.outcome, Outcome::Completed);
    }
}
