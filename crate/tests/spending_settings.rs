//! The setting `allowance`, and the durations of lifts.

use crate::spending_world::{allowances, read};
use agentwatch_openclaw::spending::allowance::lift_ms;
use agentwatch_openclaw::spending::settings::Allowance;
use agentwatch_openclaw::spending::window::{DAY_MS, HOUR_MS};
use serde_json::{Value, json};

#[test]
fn a_setting_that_is_right_is_taken() {
    let given = json!([
        {"usd": 20, "per": "day", "then": "stop"},
        {"tokens": 2_000_000, "per": "hour", "agent": "main", "channel": "telegram", "then": "warn"},
        {"usd": 0.01, "per": "month", "trigger": "cron", "job": "nightly", "then": "stop", "zone": "UTC"},
    ]);
    let held = allowances(&given);
    let words: Vec<String> = held.iter().map(Allowance::words).collect();
    assert_eq!(
        words,
        [
            "20.00 USD a day",
            "2000000 tokens an hour for agent main on channel telegram",
            "0.010 USD a month for trigger cron for job nightly",
        ]
    );
    assert_eq!(
        (held[0].zone.0.as_str(), held[2].zone.0.as_str()),
        ("Europe/Berlin", "UTC")
    );
    assert!(read(&Value::Null).1.is_empty());
}

#[test]
fn what_is_wrong_is_named_with_its_value_and_the_mend() {
    let right = json!({"usd": 20, "per": "day", "then": "stop"});
    for (name, value, expected) in [
        (
            "usd",
            json!(-1),
            "allowance[1].usd -1 is no amount that can be meant; give USD above 0",
        ),
        ("usd", json!(0), ".usd 0 is no amount"),
        ("usd", json!("20"), ".usd \"20\" is no amount"),
        ("usd", json!(1e300), "is no amount"),
        ("usd", json!(1e-12), "is no amount"),
        (
            "usd",
            Value::Null,
            "allowance[1] has no amount; give usd or tokens",
        ),
        (
            "tokens",
            json!(5),
            "allowance[1] has usd and tokens; give one of them",
        ),
        (
            "per",
            json!("week"),
            ".per \"week\" is not one of hour, day, month",
        ),
        ("per", Value::Null, " has no per; give hour or day or month"),
        (
            "then",
            json!("block"),
            ".then \"block\" is not one of warn, stop",
        ),
        ("then", Value::Null, " has no then; give warn or stop"),
        (
            "zone",
            json!("Europe/Berlln"),
            ".zone \"Europe/Berlln\" is no zone that is known; give an IANA name",
        ),
        (
            "agent",
            json!(3),
            ".agent 3 is no name; give a text, or leave it out for all",
        ),
        ("channel", json!(" "), ".channel \"\" is no name"),
        (
            "agnet",
            json!("main"),
            ".agnet is no setting; give usd, tokens, per",
        ),
    ] {
        let mut wrong = right.clone();
        wrong[name] = value;
        let (held, problems) = read(&json!([right, wrong]));
        assert_eq!((held.len(), problems.len()), (1, 1), "{name} {problems:?}");
        assert!(problems[0].contains(expected), "{problems:?}");
        assert!(problems[0].ends_with("until then this allowance does not hold"));
    }
    for (given, expected) in [
        (json!(20), "allowance is no list; set it to [{\"usd\": 20,"),
        (json!("20 USD"), "allowance is no list"),
        (json!([20]), "allowance[0] is no object; give {"),
        (
            json!([{"tokens": 0.5, "per": "day", "then": "stop"}]),
            ".tokens 0.5 is no number",
        ),
        (
            Value::Array(vec![right.clone(); 70]),
            "allowance has 70 entries; at most 64 hold",
        ),
    ] {
        let (_, problems) = read(&given);
        assert!(
            problems.iter().any(|problem| problem.contains(expected)),
            "{problems:?}"
        );
    }
}

#[test]
fn a_lift_is_read_as_people_write_it() {
    for (text, ms) in [
        ("1h", HOUR_MS),
        (" 30m ", HOUR_MS / 2),
        ("2d", 2 * DAY_MS),
        ("31d", 31 * DAY_MS),
    ] {
        assert_eq!(lift_ms(text), Ok(ms));
    }
    for text in [
        "",
        "1",
        "h",
        "-1h",
        "0h",
        "1.5h",
        "32d",
        "1w",
        "99999999999999999999h",
        "1ü",
        "ü",
    ] {
        let problem = lift_ms(text).unwrap_err();
        assert!(problem.contains("such as 30m, 1h or 2d"), "{problem}");
    }
}
