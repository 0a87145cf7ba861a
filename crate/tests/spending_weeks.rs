//! Weeks of ordinary gateways, one per seed, without an alarm; and the same weeks with a runaway at the end.

use crate::spending_life::{Event, Life, MINUTE_MS, What, session};
use agentwatch_openclaw::spending::Nano;
use agentwatch_openclaw::spending::alarm::{Alarm, Incident, Kind, Seen, Told};
use agentwatch_openclaw::spending::window::DAY_MS;
use jiff::tz::TimeZone;

/// Number of weeks; `SEEDS=2000` plays more.
fn seeds() -> u64 {
    let more = std::env::var("SEEDS")
        .ok()
        .and_then(|seeds| seeds.parse().ok());
    more.unwrap_or(200)
}

fn play(life: &Life, alarm: &mut Alarm) -> Vec<Incident> {
    let mut began = Vec::new();
    let mut hear = |told: Vec<Told>| {
        began.extend(told.into_iter().filter_map(|told| match told {
            Told::Began(incident) => Some(incident),
            Told::Ended(_) => None,
        }));
    };
    let mut ticked_ms = life.begins_ms;
    for Event { at_ms, who, what } in &life.events {
        if *at_ms - ticked_ms > 10 * MINUTE_MS {
            ticked_ms = *at_ms;
            hear(alarm.tick(ticked_ms, &TimeZone::UTC));
        }
        let seen = match what {
            What::Person => Seen::Person,
            What::Retry => Seen::Retry,
            What::Tool(name, has_failed) => Seen::Tool {
                name,
                has_failed: *has_failed,
            },
            What::Answer(usd) => {
                hear(alarm.see(who, Seen::Answered, *at_ms, &TimeZone::UTC));
                Seen::Call {
                    usd: Nano::of_usd(*usd),
                }
            }
        };
        hear(alarm.see(who, seen, *at_ms, &TimeZone::UTC));
    }
    began
}

#[test]
fn weeks_of_ordinary_gateways_are_quiet() {
    let mut events = 0;
    for seed in 0..seeds() {
        let life = Life::gateway(seed);
        events += life.events.len();
        let began = play(&life, &mut Alarm::default());
        assert!(began.is_empty(), "seed {seed}: {}", began[0].words());
    }
    // The weeks contain enough events.
    assert!(events as u64 > seeds() * 2_500, "{events}");
}

#[test]
fn what_runs_away_after_such_a_week_is_told() {
    for seed in 0..seeds() {
        let life = Life::gateway(seed);
        let mut alarm = Alarm::default();
        play(&life, &mut alarm);
        let mut runaway = Life::new(seed);
        runaway.begins_ms += 7 * DAY_MS + 90 * MINUTE_MS;
        let begins_ms = runaway.begins_ms;
        // A loop of 754 calls for 70 USD, by a heartbeat at night, and a loop of a failing tool in a chat.
        let beat = session("main", "heartbeat", None, 1);
        let chat = session("main", "user", None, 1);
        for call in 0..754 {
            runaway.add(begins_ms + call * 12_000, &beat, What::Answer(70.0 / 754.0));
        }
        for call in 0..10 {
            runaway.add(begins_ms + call * 5_000, &chat, What::Answer(0.01));
            runaway.add(
                begins_ms + call * 5_000 + 900,
                &chat,
                What::Tool("exec", true),
            );
        }
        runaway.events.sort_by_key(|event| event.at_ms);
        let began = play(&runaway, &mut alarm);
        let mut kinds: Vec<Kind> = began.iter().map(|incident| incident.kind).collect();
        kinds.sort_by_key(|kind| *kind as u8);
        assert_eq!(kinds, [Kind::NightSpend, Kind::ToolLoop], "seed {seed}");
        let spend = began
            .iter()
            .find(|incident| incident.kind == Kind::NightSpend)
            .unwrap();
        assert!(
            spend.usd <= Nano::of_usd(20.0),
            "seed {seed}: {}",
            spend.words()
        );
    }
}
