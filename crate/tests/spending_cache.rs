//! USD figures of the prompt cache, and incidents with their causes.

use agentwatch_openclaw::domain::call::Usage;
use agentwatch_openclaw::pricing::price::Tier;
use agentwatch_openclaw::spending::Nano;
use agentwatch_openclaw::spending::cache::{Cache, Call, Cause, Incident, Money};
use agentwatch_openclaw::spending::daily::day_of;
use jiff::tz::TimeZone;
use proptest::prelude::*;

const UTC: TimeZone = TimeZone::UTC;
const START_MS: u64 = 1_795_000_000_000;
/// USD per 1M tokens of input, output, cache read and cache write.
const RATES: Tier = [0.0, 3.0, 15.0, 0.3, 3.75];

fn usage(input: u64, cache_read: u64, cache_write: u64) -> Usage {
    Usage {
        input,
        output: 200,
        cache_read,
        cache_write,
        reasoning: 0,
    }
}

/// A session with consecutive calls, 10 s apart and 5 s long.
struct Chat {
    cache: Cache,
    now_ms: u64,
    model: &'static str,
    fixed_chars: Option<u64>,
    write_1h: bool,
}

impl Chat {
    fn new() -> Self {
        Self {
            cache: Cache::default(),
            now_ms: START_MS,
            model: "anthropic/claude",
            fixed_chars: Some(100_000),
            write_1h: false,
        }
    }

    /// A session with 40,000 cached tokens.
    fn warm() -> Self {
        let mut chat = Self::new();
        assert_eq!(chat.call(usage(10, 0, 38_000)), None);
        assert_eq!(chat.call(usage(10, 38_000, 2_000)), None);
        chat
    }

    fn call(&mut self, usage: Usage) -> Option<Incident> {
        let began_ms = self.now_ms + 5_000;
        self.now_ms = began_ms + 5_000;
        let call = Call {
            session: "agent:main:main",
            model: self.model,
            usage,
            write_1h: if self.write_1h { usage.cache_write } else { 0 },
            began_ms,
            ended_ms: self.now_ms,
            fixed_chars: self.fixed_chars,
            rates: Some(&RATES),
        };
        self.cache.call(&call, &UTC)
    }

    /// A call that reads nothing and writes the whole prompt again.
    fn cause(&mut self) -> Option<Cause> {
        self.call(usage(10, 0, 42_000))
            .map(|incident| incident.cause)
    }
}

#[test]
fn reads_save_and_writes_take() {
    let money = Money::of(&usage(1_000, 1_000_000, 300_000), 100_000, &RATES);
    assert_eq!(money.saved, Nano::of_usd(2.7));
    // 200,000 tokens at 3.75 USD, and 100,000 at twice the input rate.
    assert_eq!(money.written, Nano::of_usd(0.75 + 0.6));
    assert_eq!(money.extra, Nano::of_usd(1.35 - 0.9));
    // Writes at the input rate; and a subscription, whose rates are zero.
    assert_eq!(
        Money::of(&usage(0, 0, 100), 0, &[0.0, 3.0, 15.0, 0.3, 3.0]).extra,
        Nano(0)
    );
    assert_eq!(Money::of(&usage(5, 6, 7), 9, &[0.0; 5]), Money::default());
}

#[test]
fn an_incident_has_its_price() {
    let mut chat = Chat::warm();
    chat.now_ms += 10 * 60_000;
    let incident = chat.call(usage(10, 0, 42_000)).unwrap();
    assert_eq!(incident.lost_tokens, 40_000);
    // Written at 3.75 USD instead of read at 0.30 USD.
    assert_eq!(incident.extra, Some(Nano::of_usd(0.138)));
    assert!((incident.expected_share - 40_000.0 / 42_010.0).abs() < 1e-9);
    assert_eq!((incident.share, incident.idle_ms), (0.0, 605_000));
    // Without cache writes, the tokens were paid as input.
    let mut chat = Chat::warm();
    chat.now_ms += 10 * 60_000;
    let incident = chat.call(usage(42_010, 0, 0)).unwrap();
    assert_eq!(incident.extra, Some(Nano::of_usd(0.108)));
    // The day's sum contains the figures and the incident.
    let day = chat.cache.days.get(day_of(&UTC, chat.now_ms)).unwrap();
    assert_eq!(day.money.written, Nano::of_usd(0.15));
    assert_eq!(day.money.saved, Nano::of_usd(0.1026));
    assert_eq!(day.incidents[3], (1, Nano::of_usd(0.108)));
}

#[test]
fn each_cause_has_its_name() {
    assert_eq!(Chat::warm().cause(), Some(Cause::Unknown));

    let mut chat = Chat::warm();
    chat.now_ms += 5 * 60_000;
    assert_eq!(chat.cause(), Some(Cause::Idle));

    let mut chat = Chat::warm();
    chat.model = "anthropic/opus";
    assert_eq!(chat.cause(), Some(Cause::Model));

    let mut chat = Chat::warm();
    chat.fixed_chars = Some(101_234);
    assert_eq!(chat.cause(), Some(Cause::FixedPrompt));

    let mut chat = Chat::warm();
    chat.cache.compacted("agent:main:main", chat.now_ms);
    assert_eq!(chat.cause(), Some(Cause::Compaction));

    let mut chat = Chat::warm();
    chat.cache.reset("agent:main:main", chat.now_ms);
    chat.cache.compacted("agent:main:main", chat.now_ms);
    assert_eq!(chat.cause(), Some(Cause::Reset));

    // An unreported compaction: the prompt is much smaller than the last one.
    let mut chat = Chat::warm();
    let incident = chat.call(usage(10, 1_000, 15_000)).unwrap();
    assert_eq!(incident.cause, Cause::Compaction);
    // Tokens that are no longer in the prompt are not lost.
    assert_eq!(incident.lost_tokens, 15_010);
}

#[test]
fn a_cache_for_an_hour_lives_so_long() {
    for (minutes, cause) in [(59, Cause::Unknown), (61, Cause::Idle)] {
        let mut chat = Chat::new();
        chat.write_1h = true;
        chat.call(usage(10, 0, 40_000));
        // A call without writes keeps the life of the entries.
        chat.call(usage(100, 40_000, 0));
        chat.now_ms += minutes * 60_000;
        assert_eq!(chat.cause(), Some(cause), "{minutes}");
    }
}

#[test]
fn what_happened_is_over_with_the_next_call() {
    let mut chat = Chat::warm();
    chat.cache.compacted("agent:main:main", chat.now_ms);
    assert_eq!(chat.cause(), Some(Cause::Compaction));
    assert_eq!(chat.call(usage(10, 42_000, 1_000)), None);
    assert_eq!(chat.cause(), Some(Cause::Unknown));
    // Resets of unknown sessions are ignored.
    chat.cache.reset("agent:other:main", chat.now_ms);
}

#[test]
fn writes_that_nobody_reads_are_told_each_time() {
    let mut chat = Chat::new();
    assert_eq!(chat.cause(), None);
    for _ in 0..3 {
        assert_eq!(chat.cause(), Some(Cause::Unknown));
    }
}

#[test]
fn what_is_small_or_was_not_cached_is_no_incident() {
    // A short prompt.
    let mut chat = Chat::new();
    chat.call(usage(10, 0, 4_000));
    assert_eq!(chat.call(usage(5_000, 0, 0)), None);
    // A provider without a cache.
    let mut chat = Chat::new();
    for tokens in [10_000, 20_000, 90_000] {
        assert_eq!(chat.call(usage(tokens, 0, 0)), None);
    }
    // Only a small part was cached, such as the system prompt.
    let mut chat = Chat::new();
    chat.call(usage(80_000, 10_000, 0));
    assert_eq!(chat.call(usage(95_000, 0, 0)), None);
    // After a reset the fixed prompt is still read.
    let mut chat = Chat::warm();
    chat.cache.reset("agent:main:main", chat.now_ms);
    assert_eq!(chat.call(usage(10, 22_000, 1_000)), None);
}

#[test]
fn sessions_are_bounded() {
    let mut cache = Cache::default();
    for n in 0..20_000u64 {
        let session = format!("agent:main:{n}");
        let call = Call {
            session: &session,
            model: "m",
            usage: usage(u64::MAX, u64::MAX, u64::MAX),
            write_1h: u64::MAX,
            began_ms: n * 3_600_000,
            ended_ms: n * 3_600_000,
            fixed_chars: Some(u64::MAX),
            rates: Some(&RATES),
        };
        assert_eq!(cache.call(&call, &UTC), None);
    }
    let bytes = postcard::to_allocvec(&cache).unwrap().len();
    assert!(bytes < 128 * 1024, "{bytes}");
}

proptest! {
    /// Ordinary growth: each call reads the cached tokens; new tokens are written or not.
    #[test]
    fn ordinary_growth_is_quiet(
        new in prop::collection::vec((0u64..120_000, any::<bool>(), 0u64..290_000), 1..60),
        block in prop::sample::select(vec![1u64, 128, 1_024]),
    ) {
        let mut chat = Chat::new();
        let (mut cached, mut prompt) = (0u64, 20_000u64);
        for (more, writes, pause_ms) in new {
            chat.now_ms += pause_ms;
            prompt += more;
            // Some providers cache whole blocks only.
            let read = cached / block * block;
            let fresh = prompt - read;
            let used = if writes { usage(3, read, fresh) } else { usage(fresh, read, 0) };
            prop_assert_eq!(chat.call(used), None);
            cached = if writes { prompt } else { read };
        }
    }

    /// The incident's cost is at most the cost of the call's prompt.
    #[test]
    fn a_price_is_a_part_of_the_prompts(before in prop::array::uniform3(0u64..1_000_000), after in prop::array::uniform3(0u64..1_000_000)) {
        let mut chat = Chat::new();
        let used = |[input, read, write]: [u64; 3]| usage(input, read, write);
        chat.call(used(before));
        if let Some(incident) = chat.call(used(after)) {
            let [input, read, write] = after;
            let prompt = (input as f64 * 3.0 + read as f64 * 0.3 + write as f64 * 3.75) / 1e6;
            prop_assert!(incident.extra.unwrap() <= Nano::of_usd(prompt));
            prop_assert!(incident.lost_tokens <= input + write);
        }
    }
}
