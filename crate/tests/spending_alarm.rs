//! The runaway alarm: incidents are reported once, ordinary work is not.

use agentwatch_openclaw::domain::time::parse_iso;
use agentwatch_openclaw::spending::Nano;
use agentwatch_openclaw::spending::alarm::{Alarm, Incident, Kind, Seen, Told};
use agentwatch_openclaw::spending::loops::{IN_A_ROW, OF_ALL, QUIET_MS, RETRIES, STUBBORN};
use agentwatch_openclaw::spending::who::Who;
use agentwatch_openclaw::spending::window::{DAY_MS, HOUR_MS};
use jiff::tz::TimeZone;

const MINUTE_MS: u64 = 60_000;

struct World {
    alarm: Alarm,
    now_ms: u64,
    began: Vec<Incident>,
    ended: Vec<Incident>,
}

fn world(at: &str) -> World {
    World {
        alarm: Alarm::default(),
        now_ms: parse_iso(at).unwrap(),
        began: Vec::new(),
        ended: Vec::new(),
    }
}

fn who(trigger: &str, job: Option<&str>) -> Who {
    Who {
        agent: Some("main".to_owned()),
        trigger: Some(trigger.to_owned()),
        job: job.map(str::to_owned),
        session: Some("agent:main:#1".to_owned()),
        ..Who::default()
    }
}

impl World {
    fn hear(&mut self, told: Vec<Told>) {
        for told in told {
            match told {
                Told::Began(incident) => self.began.push(incident),
                Told::Ended(incident) => self.ended.push(incident),
            }
        }
    }

    fn see(&mut self, who: &Who, seen: Seen) {
        let told = self.alarm.see(who, seen, self.now_ms, &TimeZone::UTC);
        self.hear(told);
    }

    fn pass(&mut self, ms: u64) {
        self.now_ms += ms;
        let told = self.alarm.tick(self.now_ms, &TimeZone::UTC);
        self.hear(told);
    }

    fn spend(&mut self, who: &Who, usd: f64) {
        self.see(
            who,
            Seen::Call {
                usd: Nano::of_usd(usd),
            },
        );
    }

    /// The model calls a tool, which succeeds or fails.
    fn tool(&mut self, name: &str, has_failed: bool) {
        let who = who("user", None);
        self.now_ms += 2_000;
        self.see(&who, Seen::Answered);
        self.see(&who, Seen::Tool { name, has_failed });
    }

    fn kinds(&self) -> Vec<Kind> {
        self.began.iter().map(|incident| incident.kind).collect()
    }
}

#[test]
fn a_loop_of_a_failing_tool_is_told_within_ten_calls_and_once() {
    let mut world = world("2026-11-29T12:00:00Z");
    world.see(&who("user", None), Seen::Person);
    let mut calls = 0;
    while world.began.is_empty() {
        world.tool("exec", true);
        calls += 1;
    }
    assert_eq!(calls, IN_A_ROW);
    const { assert!(IN_A_ROW <= 10) };
    for _ in 0..500 {
        world.tool("exec", true);
    }
    // A loop with occasional successes is one loop.
    for _ in 0..100 {
        world.tool("exec", false);
        (0..9).for_each(|_| world.tool("exec", true));
    }
    assert_eq!(
        (world.kinds(), world.ended.len()),
        (vec![Kind::ToolLoop], 0)
    );
    assert_eq!(world.alarm.open().count(), 1);
    world.pass(QUIET_MS);
    assert_eq!((world.ended.len(), world.alarm.open().count()), (1, 0));
    let ended = &world.ended[0];
    assert_eq!(
        (ended.tool.as_deref(), ended.began_ms),
        (Some("exec"), world.began[0].began_ms)
    );
    assert!(ended.count > 500, "{}", ended.count);
    assert_eq!(
        world.began[0].words(),
        "tool exec of agent main, session agent:main:#1 has failed 8 times in a row"
    );
    // A later loop is a new incident.
    (0..20).for_each(|_| world.tool("exec", true));
    assert_eq!(world.began.len(), 2);
}

#[test]
fn two_tools_in_turn_and_a_stubborn_one_are_loops_too() {
    let mut turns = world("2026-11-29T12:00:00Z");
    let mut calls = 0;
    while turns.began.is_empty() {
        turns.tool(["read", "exec"][calls % 2], true);
        calls += 1;
    }
    assert_eq!(calls as u64, OF_ALL);

    let mut stubborn = world("2026-11-29T12:00:00Z");
    let mut rounds = 0;
    while stubborn.began.is_empty() {
        stubborn.tool("exec", true);
        stubborn.tool("edit", false);
        rounds += 1;
    }
    assert_eq!(rounds, STUBBORN);
}

#[test]
fn what_fails_in_ordinary_work_is_no_loop() {
    let mut world = world("2026-11-29T12:00:00Z");
    let user = who("user", None);
    // One answer requests twenty pages while the network is down.
    world.see(&user, Seen::Answered);
    (0..20).for_each(|_| {
        world.see(
            &user,
            Seen::Tool {
                name: "web_fetch",
                has_failed: true,
            },
        )
    });
    // A user who repeats a request.
    for _ in 0..10 {
        world.see(&user, Seen::Person);
        (0..IN_A_ROW - 1).for_each(|_| world.tool("exec", true));
    }
    // A heartbeat with a broken tool.
    for _ in 0..48 {
        world.pass(30 * MINUTE_MS);
        world.tool("mail", true);
    }
    // Polling, with the gateway's warning.
    world.see(
        &user,
        Seen::Loop {
            name: "process",
            detector: "known_poll_no_progress",
            is_critical: false,
            count: 10,
        },
    );
    assert_eq!(world.kinds(), []);
}

#[test]
fn a_loop_that_the_gateway_tells_is_told_at_once() {
    for (detector, is_critical) in [("generic_repeat", false), ("known_poll_no_progress", true)] {
        let mut world = world("2026-11-29T12:00:00Z");
        let seen = Seen::Loop {
            name: "process",
            detector,
            is_critical,
            count: 20,
        };
        (0..3).for_each(|_| world.see(&who("cron", Some("nightly")), seen));
        assert_eq!(world.kinds(), [Kind::ToolLoop]);
        assert_eq!(
            (world.began[0].count, world.began[0].job.as_deref()),
            (20, Some("nightly"))
        );
    }
}

#[test]
fn where_no_answers_are_told_each_failure_counts() {
    let mut world = world("2026-11-29T12:00:00Z");
    for _ in 0..IN_A_ROW {
        world.see(
            &who("user", None),
            Seen::Tool {
                name: "exec",
                has_failed: true,
            },
        );
    }
    assert_eq!(world.kinds(), [Kind::ToolLoop]);
}

#[test]
fn retries_are_told_where_no_call_succeeds() {
    let mut world = world("2026-11-29T12:00:00Z");
    let user = who("user", None);
    for _ in 0..10 {
        (0..RETRIES - 1).for_each(|_| world.see(&user, Seen::Retry));
        world.see(&user, Seen::Answered);
    }
    assert_eq!(world.kinds(), []);
    (0..100).for_each(|_| world.see(&user, Seen::Retry));
    assert_eq!(world.kinds(), [Kind::Retries]);
    world.pass(QUIET_MS);
    assert_eq!(world.ended[0].count, 100);
}

/// A job that spends this much per day at this hour.
fn nightly(world: &mut World, job: &Who, usd: f64, days: u64) {
    for _ in 0..days {
        world.spend(job, usd);
        world.pass(DAY_MS);
    }
}

#[test]
fn a_job_that_spends_more_than_it_used_to_is_told() {
    let job = who("cron", Some("nightly"));
    for (at, kind, usd) in [
        ("2026-11-10T02:10:00Z", Kind::NightSpend, 2.6),
        ("2026-11-10T14:10:00Z", Kind::Spend, 5.1),
    ] {
        let mut world = world(at);
        nightly(&mut world, &job, 0.5, 6);
        // Many calls within one hour.
        world.spend(&job, usd - 0.2);
        assert_eq!(world.kinds(), []);
        (0..30).for_each(|_| world.spend(&job, 0.1));
        assert_eq!(world.kinds(), [kind]);
        let began = &world.began[0];
        assert_eq!(
            (began.usual, began.job.as_deref()),
            (Some(Nano::of_usd(0.5)), Some("nightly"))
        );
        assert!(
            began.words().ends_with("(0.500 USD are usual)"),
            "{}",
            began.words()
        );
        // The incident ends with the first usual hour, and its own hour does not count as usual.
        world.pass(HOUR_MS);
        assert_eq!(world.ended.len(), 0);
        world.pass(HOUR_MS);
        assert_eq!(world.ended.len(), 1);
        assert!(world.ended[0].usd > Nano::of_usd(usd));
        world.pass(DAY_MS - 2 * HOUR_MS);
        nightly(&mut world, &job, 0.5, 2);
        world.spend(&job, usd + 0.1);
        assert_eq!(world.began.len(), 2);
    }
}

#[test]
fn what_has_no_past_has_a_fixed_bound() {
    for (at, trigger, least) in [
        ("2026-11-10T02:10:00Z", "heartbeat", 10.0),
        ("2026-11-10T12:10:00Z", "heartbeat", 25.0),
        ("2026-11-10T02:10:00Z", "user", 100.0),
    ] {
        let mut world = world(at);
        let who = who(trigger, None);
        world.see(&who, Seen::Person);
        let mut spent = 0.0;
        while world.began.is_empty() {
            world.spend(&who, 0.5);
            spent += 0.5;
        }
        assert_eq!(spent, least + 0.5, "{at} {trigger}");
        assert!(world.began[0].words().ends_with("(it has no past)"));
    }
}

#[test]
fn a_session_whose_person_went_away_is_watched_closer() {
    let mut world = world("2026-11-10T12:00:00Z");
    let user = who("user", None);
    world.see(&user, Seen::Person);
    for _ in 0..180 {
        world.pass(MINUTE_MS);
        world.spend(&user, 0.9);
    }
    // 54 USD per hour are usual while a user attends.
    assert_eq!(world.kinds(), [Kind::Spend]);
    let minutes =
        (world.began[0].began_ms - parse_iso("2026-11-10T12:00:00Z").unwrap()) / MINUTE_MS;
    assert!((60..120).contains(&minutes), "{minutes}");
    // If no source reports users' messages, every session is attended.
    let mut quiet = Alarm::default();
    let told: usize = (0..180)
        .map(|minute| {
            let seen = Seen::Call {
                usd: Nano::of_usd(0.9),
            };
            quiet
                .see(
                    &user,
                    seen,
                    world.now_ms + minute * MINUTE_MS,
                    &TimeZone::UTC,
                )
                .len()
        })
        .sum();
    assert_eq!(told, 0);
}

#[test]
fn what_lasts_for_a_day_is_the_new_usual() {
    let mut world = world("2026-11-10T00:00:00Z");
    let beat = who("heartbeat", None);
    for hour in 0..120 {
        let usd = if hour < 24 { 0.5 } else { 8.0 };
        world.spend(&beat, usd / 2.0);
        world.spend(&beat, usd / 2.0);
        world.pass(HOUR_MS);
    }
    assert_eq!((world.began.len(), world.ended.len()), (1, 1));
    let lasted = world.ended[0].usd.usd();
    assert!((180.0..220.0).contains(&lasted), "{lasted}");
}

#[test]
fn clocks_that_are_set_keep_nothing_open_for_ever() {
    let mut world = world("2026-11-10T12:00:00Z");
    let beat = who("heartbeat", None);
    world.now_ms += 4 * 365 * DAY_MS;
    world.spend(&beat, 30.0);
    (0..IN_A_ROW).for_each(|_| world.tool("exec", true));
    assert_eq!(world.began.len(), 2);
    world.now_ms -= 4 * 365 * DAY_MS;
    world.pass(0);
    world.pass(2 * HOUR_MS);
    assert_eq!((world.ended.len(), world.alarm.open().count()), (2, 0));
}

#[test]
fn the_state_is_bounded_and_is_written_and_read() {
    let mut world = world("2026-11-10T12:00:00Z");
    let mut told = 0;
    for n in 0..20_000u64 {
        let who = Who {
            agent: Some(format!("agent-{}", n % 1_000)),
            session: Some(format!("agent:a:#{n}")),
            job: Some(format!("job-{n}")),
            ..Who::default()
        };
        world.spend(&who, 50.0);
        let name = format!("tool-{n}");
        for _ in 0..9 {
            world.see(
                &who,
                Seen::Tool {
                    name: &name,
                    has_failed: true,
                },
            );
        }
        told += 2;
        world.now_ms += 1_000;
    }
    assert_eq!(world.began.len(), told);
    let bytes = postcard::to_allocvec(&world.alarm).unwrap();
    assert!(bytes.len() < 512 * 1024, "{}", bytes.len());
    let read: Alarm = postcard::from_bytes(&bytes).unwrap();
    assert_eq!(read, world.alarm);
    // Dropped streams have ended their incidents.
    world.pass(2 * HOUR_MS);
    assert_eq!((world.ended.len(), world.alarm.open().count()), (told, 0));
}
