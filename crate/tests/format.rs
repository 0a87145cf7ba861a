//! Format version 1, byte by byte: `tests/fixtures/journal/format-v1-*.awj` contain a frame of each kind with every
//! field set. Later versions must read them, and write the same bytes. `WRITE_GOLDEN=1` writes missing files.

use std::fs;
use std::path::Path;

use agentwatch_openclaw::domain::surface::SURFACES;
use agentwatch_openclaw::journal::format_v1::spending::{
    Allowances, Amount, Lift, Meter, Pair, Spent,
};
use agentwatch_openclaw::journal::format_v1::sums::{
    self, Histogram, Mark, More as MoreSums, MoreOfSeries, Series, Split, SplitOfSeries, State,
};
use agentwatch_openclaw::journal::format_v1::{
    self as v1, Asked, Bill, CacheUsd, Call, Cost, CostSource, Counted, Cursor, Frame, Key,
    Latency, LatencySource, Log, MatchRecord, More, Observation, Operation, Outcome, Outlet, Part,
    Position, Record, SessionFacts, Span, Tier, Usage,
};
use agentwatch_openclaw::journal::{self, Reader};

const ID: u128 = 0x019a_0000_0000_7000_8000_0000_0000_0001;

fn usage() -> Usage {
    Usage {
        input: 1,
        output: 2,
        cache_read: 300,
        cache_write: 70_000,
        reasoning: u64::MAX,
    }
}

fn observation(surface: u32, outcome: Outcome) -> Observation<'static> {
    Observation {
        surface,
        provider: "provider",
        model: "modèle",
        session_key: Some("session"),
        run_id: Some("run"),
        span_id: Some("span"),
        trigger: Some("user"),
        agent: Some("main"),
        response_id: Some("response"),
        usage: Some(usage()),
        cost_usd: Some(0.25),
        started_ms: Some(1_795_000_000_000),
        ended_ms: 1_795_000_000_640,
        duration_ms: Some(640.5),
        ttfb_ms: Some(12.25),
        ttft_ms: Some(48.125),
        request_id: Some("request"),
        response_model: Some("model-2"),
        outcome,
        whole_turn: true,
        broken_usage: true,
        told_zeros: true,
        ends_turn: true,
        elsewhere: true,
        row: Some(u64::MAX - 1),
    }
}

fn nothing() -> Observation<'static> {
    Observation {
        surface: 0,
        provider: "",
        model: "",
        session_key: None,
        run_id: None,
        span_id: None,
        trigger: None,
        agent: None,
        response_id: None,
        usage: None,
        cost_usd: None,
        started_ms: None,
        ended_ms: 0,
        duration_ms: None,
        ttfb_ms: None,
        ttft_ms: None,
        request_id: None,
        response_model: None,
        outcome: Outcome::Completed,
        whole_turn: false,
        broken_usage: false,
        told_zeros: false,
        ends_turn: false,
        elsewhere: false,
        row: None,
    }
}

fn bill(tier: Tier) -> Bill<'static> {
    let part = |model| Part {
        model,
        tokens: [5, 6, 7, 8, 9],
    };
    Bill {
        is_billed: true,
        write_1h: 300,
        tier: Some(tier),
        is_fast: true,
        is_us: true,
        web_searches: 1,
        file_searches: 2,
        code_runs: 3,
        sources: 4,
        parts: vec![part(Some("m")), part(None)],
    }
}

fn frames() -> Vec<Frame<'static>> {
    let slot = MatchRecord {
        id: ID,
        bucket: 1,
        model: 2,
        span: Some(3),
        started_ms: Some(4),
        ended_ms: 5,
        usage: Some(Usage {
            input: 6,
            output: 7,
            cache_read: 0,
            cache_write: 0,
            reasoning: 0,
        }),
        seen: 0b101_1010,
        is_answered: true,
        row: Some(8),
        is_unbilled: true,
    };
    let bare = MatchRecord {
        span: None,
        started_ms: None,
        usage: None,
        row: None,
        ..slot.clone()
    };
    let facts = SessionFacts {
        session_key: "session",
        run_id: Some("run"),
        trigger: Some("cron"),
        agent: Some("main"),
        ended: true,
        reason: Some("idle"),
        ends_run: true,
    };
    let counted = Counted {
        requests: 1,
        prompt: 2,
        completion: 3,
        cost_usd: 0.5,
    };
    let mut all = vec![
        Frame::Begin,
        Frame::Seen(ID, nothing()),
        Frame::MatchRecord(slot),
        Frame::MatchRecord(bare),
        Frame::Closed(vec![ID, u128::MAX]),
        Frame::Gone(Log::Calls, 7, vec![8, 300]),
        Frame::Gone(Log::Records, u32::MAX, vec![]),
        Frame::Counted("session", "model", counted),
        Frame::Bookmark("file", "mark"),
        Frame::Reconciled(1_795_000_000_000),
        Frame::Record(Record {
            list: 5,
            json: "{}",
        }),
        Frame::Facts(facts),
        Frame::Together(vec![Frame::Bookmark("a", ""), Frame::Reconciled(1)]),
        Frame::Told {
            until_ms: 1,
            forgotten_ms: 2,
            keys: b"12345678abcdefgh",
        },
        Frame::Passed("openai /v1/rerank"),
    ];
    for surface in 0..7 {
        let outcomes = [Outcome::Completed, Outcome::Failed, Outcome::Aborted];
        all.push(Frame::Seen(
            ID,
            observation(surface, outcomes[surface as usize % 3]),
        ));
    }
    for tier in [Tier::Standard, Tier::Flex, Tier::Batch, Tier::Priority] {
        all.push(Frame::SeenWith(
            ID,
            observation(6, Outcome::Completed),
            bill(tier),
        ));
    }
    let place = |segment, offset| Position { segment, offset };
    for log in [Log::Calls, Log::Records] {
        let cursor = Cursor {
            at: place(300, 70_000),
            ahead: vec![
                (place(300, 80_000), place(301, 8)),
                (place(u32::MAX, 0), place(u32::MAX, 1)),
            ],
        };
        all.push(Frame::Cursor(Outlet::AgentWatch, log, cursor));
    }
    for (bill, more) in [
        (Some(bill(Tier::Flex)), more()),
        (None, more()),
        (None, more_of_channel()),
    ] {
        all.push(Frame::SeenMore(
            ID,
            observation(2, Outcome::Failed),
            bill,
            more,
        ));
    }
    let key = Key {
        model: "provider/model",
        agent: "main",
        channel: "telegram",
        trigger: "cron",
        job: "job",
    };
    let numbers = std::array::from_fn(|place| 1 << place);
    all.push(Frame::Tally(ID, 1_795_000_000_640, key, numbers));
    for span in [Span::Hour, Span::Day] {
        all.push(Frame::Tallied(span, 20_775, key, numbers));
    }
    all.push(Frame::Incidents(b"state"));
    all.extend(spending());
    for (bill, more) in [(Some(bill(Tier::Flex)), more()), (None, More::default())] {
        let seen = observation(3, Outcome::Completed);
        all.push(Frame::SeenAs(
            ID,
            seen,
            bill,
            more,
            Operation::TextCompletion,
        ));
    }
    all
}

/// What is behind the frame in front of a payload.
fn further() -> [Frame<'static>; 2] {
    let operation = Operation::TextCompletion;
    [
        Frame::Further(0, Some(bill(Tier::Flex)), more(), operation),
        Frame::Further(2, None, more_of_channel(), Operation::Chat),
    ]
}

fn more() -> More<'static> {
    More {
        channel: Some("telegram"),
        job: Some("nightly"),
        skill: Some("weather"),
        tool: Some("exec"),
        prompt: Some([18_887, 81_729, 94, u64::MAX]),
    }
}

fn more_of_channel() -> More<'static> {
    More {
        channel: Some("telegram"),
        ..More::default()
    }
}

fn spending() -> [Frame<'static>; 3] {
    let amount = |usd| Amount {
        usd,
        tokens: 70_000,
    };
    let spent = Spent {
        at_ms: 1_795_000_000_700,
        ran_ms: 300,
        ended_ms: 1_795_000_000_640,
        scopes: vec![1, u64::MAX],
        pair: 2,
        agent: 9,
        model: 3,
        amount: amount(9_460_000),
        is_priced: true,
        is_used: true,
    };
    let lift = Lift {
        until_ms: 1_795_003_600_000,
        left_ms: 3_600_000,
    };
    let meter = Meter {
        scope: u64::MAX,
        starts_ms: 1_794_960_000_000,
        ends_ms: 1_795_046_400_000,
        spent: amount(300),
        calls: 4,
        unpriced: 5,
        behind_ms: 6,
        told: vec![(7, 80)],
    };
    let pair = Pair {
        key: 2,
        agent: 9,
        model: 3,
        calls: vec![amount(1), amount(2)],
    };
    let state = Allowances {
        meters: vec![meter],
        recent: vec![pair],
        lift: Some(lift),
        late: 8,
    };
    [
        Frame::Spent(ID, spent),
        Frame::Lift(lift),
        Frame::Allowances(state),
    ]
}

/// The number of a frame's kind. The golden file contains all kinds.
fn kind(frame: &Frame) -> u8 {
    match frame {
        Frame::Begin => 0,
        Frame::Seen(..) => 1,
        Frame::MatchRecord(_) => 2,
        Frame::Closed(_) => 3,
        Frame::Gone(..) => 4,
        Frame::Counted(..) => 5,
        Frame::Bookmark(..) => 6,
        Frame::Reconciled(_) => 7,
        Frame::Record(_) => 8,
        Frame::Facts(_) => 9,
        Frame::Together(_) => 10,
        Frame::Told { .. } => 11,
        Frame::Passed(_) => 12,
        Frame::SeenWith(..) => 13,
        Frame::Cursor(..) => 14,
        Frame::SeenMore(..) => 15,
        Frame::Tally(..) => 16,
        Frame::Tallied(..) => 17,
        Frame::Incidents(_) => 18,
        Frame::Spent(..) => 19,
        Frame::Lift(_) => 20,
        Frame::Allowances(_) => 21,
        Frame::SeenAs(..) => 22,
        Frame::Further(..) => 23,
    }
}
const KINDS: u8 = 24;

const SOURCES: [CostSource; 6] = [
    CostSource::Provider,
    CostSource::Openclaw,
    CostSource::Configured,
    CostSource::Table,
    CostSource::Subscription,
    CostSource::Unknown,
];

fn calls() -> Vec<Call<'static>> {
    let call = |source| Call {
        id: ID,
        ended_ms: 1_795_000_000_640,
        provider: "provider",
        model: "model",
        agent: Some("main"),
        session_key: Some("session"),
        run_id: Some("run"),
        trigger: Some("heartbeat"),
        usage: Some(usage()),
        cost: Cost { usd: 0.125, source },
        latency: Some(Latency {
            ms: 640.5,
            source: LatencySource::Hook,
        }),
        ttfb_ms: Some(1.5),
        ttft_ms: Some(2.5),
        request_id: Some("request"),
        response_model: Some("model-2"),
        outcome: Outcome::Failed,
        stored: true,
    };
    let bare = Call {
        agent: None,
        session_key: None,
        run_id: None,
        trigger: None,
        usage: None,
        latency: Some(Latency {
            ms: 0.0,
            source: LatencySource::Measured,
        }),
        ttfb_ms: None,
        ttft_ms: None,
        request_id: None,
        response_model: None,
        outcome: Outcome::Aborted,
        stored: false,
        ..call(CostSource::Unknown)
    };
    let without_latency = Call {
        latency: None,
        ..bare.clone()
    };
    SOURCES
        .map(call)
        .into_iter()
        .chain([bare, without_latency])
        .collect()
}

fn state() -> State {
    let histogram = |sum| Histogram {
        counts: [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 300],
        sum,
    };
    let series = |agent: Option<&str>, is_overflow| Series {
        provider: "provider".to_owned(),
        model: "model".to_owned(),
        agent: agent.map(str::to_owned),
        is_overflow,
        input: histogram(1.5),
        output: histogram(2.5),
        durations: [3.5, 4.5, 5.5].map(histogram),
        costs: SOURCES.map(|source| (source, 7, 0.25)).to_vec(),
    };
    State {
        start_ms: 1_795_000_000_000,
        sums: vec![series(Some("main"), false), series(None, true)],
        marks: vec![Mark {
            file: "model-calls-0000000001.awj#1f".to_owned(),
            upto: 300,
        }],
    }
}

/// Asserts that a file has these payloads, and that each is the same after it is read and written.
fn assert_golden(
    name: &str,
    payloads: impl Iterator<Item = Vec<u8>>,
    again: fn(&[u8]) -> Option<Vec<u8>>,
) {
    let path = Path::new("../tests/fixtures/journal").join(name);
    let payloads: Vec<Vec<u8>> = payloads.collect();
    let mut bytes = journal::begin_file();
    for payload in &payloads {
        journal::append(&mut bytes, payload);
    }
    if !path.exists() && std::env::var("WRITE_GOLDEN").is_ok() {
        fs::write(&path, &bytes).unwrap();
    }
    let golden = fs::read(&path).unwrap();
    assert!(golden == bytes, "{name} would be written in another way");
    let read = Reader::open(&golden).unwrap();
    let mut found = 0;
    for (index, (_, payload)) in read.enumerate() {
        let again = again(payload);
        assert_eq!(again.as_deref(), Some(payload), "{name}, frame {index}");
        found += 1;
    }
    assert_eq!(found, payloads.len(), "{name}");
}

#[test]
fn facts_have_the_bytes_of_version_1() {
    let frames = frames();
    let further = further();
    for number in 0..KINDS {
        let mut all = frames.iter().chain(&further);
        let is_there = all.any(|frame| kind(frame) == number);
        assert!(is_there, "kind {number}");
    }
    assert_golden(
        "format-v1-ledger.awj",
        frames
            .iter()
            .map(|frame| postcard::to_allocvec(frame).unwrap()),
        |payload| {
            let frame = v1::frame(payload)?;
            let again = v1::frame_bytes(&frame);
            match payload[0] {
                // `SeenWith`, `SeenMore` and `SeenAs` are read, and written as `Seen` and `Further`.
                13 | 15 | 22 => (v1::frame(&again)? == frame).then(|| payload.to_vec()),
                _ => Some(again),
            }
        },
    );
    let seen = |surface| Frame::Seen(ID, observation(surface, Outcome::Completed));
    let tally = frames.iter().find(|frame| kind(frame) == 16).unwrap();
    let bookmark = Frame::Bookmark("file", "place");
    // A surface may report a call twice: each observation has its own fields.
    let together = Frame::Together(vec![seen(3), bookmark, seen(3)]);
    let payloads = [
        vec![seen(3), further[0].clone()],
        vec![
            together.clone(),
            further[0].clone(),
            further[1].clone(),
            tally.clone(),
        ],
        vec![together, further[1].clone()],
    ];
    let payloads = payloads.map(|frames| {
        let bytes = frames
            .iter()
            .map(|frame| postcard::to_allocvec(frame).unwrap());
        bytes.flatten().collect::<Vec<u8>>()
    });
    // Version 0.1.0 reads a payload up to what it knows.
    for payload in &payloads {
        let first: Frame = postcard::from_bytes(payload).unwrap();
        assert!(kind(&first) <= 10);
    }
    assert_golden("format-v1-further.awj", payloads.into_iter(), |payload| {
        Some(v1::frame_bytes(&v1::frame(payload)?))
    });
    // A frame's first byte is the number of its kind.
    for frame in &frames {
        assert_eq!(postcard::to_allocvec(frame).unwrap()[0], kind(frame));
    }
}

#[test]
fn calls_have_the_bytes_of_version_1() {
    let calls = calls();
    let first = postcard::to_allocvec(&calls[0]).unwrap();
    let [of_all, of_channel] =
        [more(), more_of_channel()].map(|more| postcard::to_extend(&more, first.clone()).unwrap());
    let priced = postcard::to_extend(&798_300_u64, of_all.clone()).unwrap();
    let cache = |has_prompt| CacheUsd {
        has_prompt,
        saved: 102_600_000,
        write_extra: 1_500,
    };
    let nothing = CacheUsd {
        has_prompt: false,
        saved: 0,
        write_extra: 0,
    };
    let asked = |has_cache| Asked {
        has_cache,
        operation: Operation::TextCompletion,
    };
    let further = [
        postcard::to_extend(&(more(), 798_300_u64, cache(true)), first.clone()),
        postcard::to_extend(&(More::default(), 0_u64, cache(false)), first.clone()),
        postcard::to_extend(
            &(more(), 798_300_u64, cache(true), asked(true)),
            first.clone(),
        ),
        postcard::to_extend(
            &(More::default(), 0_u64, nothing, asked(false)),
            first.clone(),
        ),
    ];
    let further = further.map(Result::unwrap);
    let more = [of_all, of_channel, priced].into_iter().chain(further);
    let more: Vec<Vec<u8>> = more.collect();
    // Version 0.1.0 reads an entry up to what it knows.
    for entry in &more {
        assert_eq!(postcard::from_bytes::<Call>(entry), Ok(calls[0].clone()));
    }
    let plain = calls
        .iter()
        .map(|call| postcard::to_allocvec(call).unwrap());
    assert_golden("format-v1-calls.awj", plain.chain(more), |payload| {
        Some(v1::call_bytes(&v1::call(payload)?))
    });
    let bytes = v1::call_bytes(&v1::call(&postcard::to_allocvec(&calls[0]).unwrap()).unwrap());
    assert_eq!(v1::call_id(&bytes).unwrap().0, ID);
}

#[test]
fn records_have_the_bytes_of_version_1() {
    let records = (0..6_u8).map(|list| [&[list], r#"{"id":"ä"}"#.as_bytes()].concat());
    assert_golden("format-v1-records.awj", records, |payload| {
        Some(v1::record_bytes(&v1::record(payload)?))
    });
}

#[test]
fn the_collectors_state_has_the_bytes_of_version_1() {
    let state = postcard::to_allocvec(&state()).unwrap();
    assert_golden("format-v1-otlp.awj", [state].into_iter(), |payload| {
        Some(sums::state_bytes(&sums::state(payload)?))
    });
}

#[test]
fn the_collectors_further_sums_have_the_bytes_of_version_1() {
    let of_series = |cache_read| MoreOfSeries {
        cache_read,
        cache_write: 2,
        reasoning: 300,
        first_chunk: state().sums[0].input.clone(),
    };
    let more = MoreSums {
        start_ms: 1_795_000_000_001,
        series: vec![of_series(1), of_series(400)],
    };
    let bytes = postcard::to_allocvec(&more).unwrap();
    assert_golden("format-v1-otlp-more.awj", [bytes].into_iter(), |payload| {
        let state = postcard::to_allocvec(&state()).unwrap();
        let mut kept = sums::state(&state)?;
        sums::read_more(&mut kept, payload).then(|| sums::more_bytes(&kept))
    });
}

#[test]
fn the_collectors_divisions_have_the_bytes_of_version_1() {
    let histogram = || state().sums[0].input.clone();
    let of_series = |operation, channel: Option<&str>| SplitOfSeries {
        operation,
        channel: channel.map(str::to_owned),
        trigger: channel.map(|_| "cron".to_owned()),
        unfinished: std::array::from_fn(|_| std::array::from_fn(|_| histogram())),
    };
    let series = vec![
        of_series(Operation::TextCompletion, Some("telegram")),
        of_series(Operation::Chat, None),
    ];
    let bytes = postcard::to_allocvec(&Split { series }).unwrap();
    assert_golden("format-v1-otlp-split.awj", [bytes].into_iter(), |payload| {
        let state = postcard::to_allocvec(&state()).unwrap();
        let mut kept = sums::state(&state)?;
        sums::read_split(&mut kept, payload).then(|| sums::split_bytes(&kept))
    });
}

#[test]
fn what_is_no_amount_is_not_read() {
    for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        let mut seen = observation(0, Outcome::Completed);
        type Field = for<'a> fn(&'a mut Observation<'static>) -> &'a mut Option<f64>;
        let fields: [Field; 4] = [
            |seen| &mut seen.cost_usd,
            |seen| &mut seen.duration_ms,
            |seen| &mut seen.ttfb_ms,
            |seen| &mut seen.ttft_ms,
        ];
        for field in fields {
            let before = field(&mut seen).replace(bad);
            let bytes = postcard::to_allocvec(&Frame::Seen(ID, seen.clone())).unwrap();
            assert_eq!(v1::frame(&bytes), None);
            *field(&mut seen) = before;
        }
        let mut call = calls().remove(0);
        call.cost.usd = bad;
        assert_eq!(v1::call(&postcard::to_allocvec(&call).unwrap()), None);
    }
    let unknown_surface = Frame::Seen(ID, observation(SURFACES as u32, Outcome::Completed));
    assert_eq!(
        v1::frame(&postcard::to_allocvec(&unknown_surface).unwrap()),
        None
    );
}
