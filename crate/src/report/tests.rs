#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use jiff::tz::TimeZone;
use unicode_width::UnicodeWidthStr;

use super::*;
use crate::domain::call::CallId;
use crate::invoice::Said;
use crate::spending::Nano;
use crate::spending::history::Entry;

/// 2026-11-20 12:00 UTC.
const NOW: u64 = 1_795_176_000_000;

fn wanted(since: &str, by: &str, of_receiver: bool) -> Wanted {
    Wanted {
        since: Some(since.to_owned()),
        by: Some(by.to_owned()),
        zone: None,
        of_receiver,
    }
}

/// A report in a zone with this offset from UTC, in minutes.
fn wanted_at(minutes: i32, since: &str, by: &str, of_receiver: bool) -> Wanted {
    let offset = jiff::tz::Offset::from_seconds(minutes * 60).unwrap();
    Wanted {
        zone: Some((format!("UTC{minutes:+}"), TimeZone::fixed(offset))),
        ..wanted(since, by, of_receiver)
    }
}

fn entry(ago_ms: u64, model: &str, agent: &str, usd: f64) -> Entry {
    Entry {
        ended_ms: NOW - ago_ms,
        key: Key {
            model: model.to_owned(),
            agent: agent.to_owned(),
            trigger: "user".to_owned(),
            ..Key::default()
        },
        sums: Sums {
            calls: 1,
            usd: Nano::of_usd(usd),
            prompt: 10_000,
            output: 500,
            cache_read: 6_000,
            cache_write: 1_000,
            saved: Nano::of_usd(usd / 2.0),
            extra: Nano::of_usd(usd / 10.0),
            divided: 1,
            part_tokens: [2_000, 5_000, 3_000, 0],
            part_usd: [0.1, 0.3, 0.2, 0.0].map(|share| Nano::of_usd(share * usd)),
            ..Sums::default()
        },
    }
}

/// A ledger file with these entries.
fn ledger(entries: &[Entry]) -> Vec<u8> {
    let mut bytes = journal::begin_file();
    journal::append_frame(&mut bytes, &Frame::Begin);
    for (place, entry) in entries.iter().enumerate() {
        let frame = Frame::Tally(CallId(place as u128), Box::new(entry.clone()));
        journal::append_frame(&mut bytes, &frame);
    }
    bytes
}

fn report(entries: &[Entry], since: &str, by: &str) -> Report {
    let mut report = Report::new(&wanted(since, by, false), NOW).unwrap();
    report.ledger(&ledger(entries)).unwrap();
    report.finish();
    report
}

fn month() -> Vec<Entry> {
    let mut entries: Vec<Entry> = (0..20)
        .map(|day| entry(day * DAY_MS, "anthropic/claude-sonnet-4-6", "main", 2.0))
        .collect();
    let mut light = entry(HOUR_MS, "openai/gpt-5.2", "research", 0.25);
    light.sums.part_tokens = [500, 500, 9_000, 0];
    entries.push(light);
    entries.push(Entry {
        sums: Sums {
            calls: 1,
            unpriced: 1,
            prompt: 70,
            output: 5,
            ..Sums::default()
        },
        ..entry(2 * HOUR_MS, "ollama/qwen3-coder:30b", "", 0.0)
    });
    entries
}

#[test]
fn a_report_by_model_is_this_text() {
    let lines = report(&month(), "7d", "model")
        .output(Format::Text, "the state directory /home/a/.openclaw");
    assert_eq!(
        lines.join("\n"),
        include_str!("golden/model.txt").trim_end()
    );
}

#[test]
fn a_report_by_day_and_agent_is_this_text() {
    let lines = report(&month(), "2d", "day,agent")
        .output(Format::Text, "the state directory /home/a/.openclaw");
    assert_eq!(
        lines.join("\n"),
        include_str!("golden/day-agent.txt").trim_end()
    );
}

#[test]
fn no_line_is_wider_than_a_terminal_whatever_the_names_and_figures() {
    let huge = Sums {
        calls: u64::MAX,
        usd: Nano(u64::MAX),
        prompt: u64::MAX / 2,
        output: u64::MAX / 2,
        unpriced: 12_345_678_901,
        ..Sums::default()
    };
    let names = [
        "x".repeat(300),
        "漢字".repeat(80),
        "\u{202e}evil\u{1b}[31m\r\n".to_owned(),
        "👩‍👩‍👧‍👦 é".repeat(30),
        "a name with blanks ".repeat(20),
    ];
    for by in [
        "model",
        "model,agent",
        "day,model,agent",
        "model,agent,channel,trigger,job,day",
    ] {
        let mut entries = month();
        for name in &names {
            let name = &table::clean(name);
            entries.push(Entry {
                sums: huge,
                ..entry(DAY_MS, name, name, 0.0)
            });
        }
        for line in report(&entries, "7d", by).output(Format::Text, &"/folder".repeat(50)) {
            assert!(line.width() <= 80, "{} columns: {line}", line.width());
            assert!(!line.contains(|c: char| c.is_control()), "{line:?}");
        }
    }
}

#[test]
fn hours_are_kept_for_two_days() {
    let entries = [
        entry(2 * HOUR_MS, "a/b", "main", 1.0),
        entry(20 * HOUR_MS, "a/b", "main", 10.0),
        entry(60 * HOUR_MS, "a/b", "main", 100.0),
    ];
    let spent = |since: &str| report(&entries, since, "model").lines().1.usd.usd();
    for since in ["3h", "11h", "12h", "2026-11-20T01:00"] {
        assert_eq!(spent(since), 1.0, "{since}");
    }
    assert_eq!(spent("1h"), 0.0);
    assert_eq!(spent("2026-11-19T14:00Z"), 11.0);
    assert_eq!(spent("30d"), 111.0);
    // Hours of that day are gone: the day as a whole is told, and that it is.
    let old = report(&entries, "2026-11-17T23:30:00Z", "model");
    assert_eq!(old.lines().1.usd.usd(), 111.0);
    assert!(
        old.notes
            .iter()
            .any(|note| note.contains("2026-11-17 00:00"))
    );
}

#[test]
fn a_snapshot_replaces_what_was_before_it() {
    let mut report = Report::new(&wanted("7d", "model", false), NOW).unwrap();
    report.ledger(&ledger(&month())).unwrap();
    let mut history = History::default();
    history.count(&entry(0, "a/b", "main", 1.0), 0);
    let mut bytes = journal::begin_file();
    journal::append_frame(&mut bytes, &Frame::Begin);
    for row in history.rows() {
        journal::append_frame(&mut bytes, &Frame::Tallied(Box::new(row)));
    }
    report.ledger(&bytes).unwrap();
    report.finish();
    assert_eq!(report.lines().1.usd.usd(), 1.0);
}

#[test]
fn wrong_options_are_named_with_their_value_and_the_mend() {
    let wrong = |since: &str, by: &str| Report::new(&wanted(since, by, false), NOW).unwrap_err();
    for since in [
        "",
        "7",
        "7x",
        "-7d",
        "2026-13-01",
        "last week",
        "99999999999999999999d",
    ] {
        assert!(
            wrong(since, "model").starts_with(&format!("--since {since}: not a time; write 12h")),
            "{since}"
        );
    }
    assert!(wrong("2027-01-01", "model").contains("in the future"));
    assert!(wrong("2020-01-01", "model").contains("more than 366 days"));
    assert!(wrong("7d", "color").starts_with("--by color: not one of model, agent"));
    assert!(wrong("7d", "model,model").contains("twice"));
    assert!(wrong("7d", "session").contains("--receiver"));
}

#[test]
fn times_are_read_in_each_form() {
    let begins = |since: &str| {
        Report::new(&wanted(since, "model", false), NOW)
            .unwrap()
            .options
            .since_ms
    };
    let midnight = NOW / DAY_MS * DAY_MS;
    for (since, begin) in [
        ("today", midnight),
        ("yesterday", midnight - DAY_MS),
        ("7d", midnight - 7 * DAY_MS),
        ("2w", midnight - 14 * DAY_MS),
        ("3h", NOW - 3 * HOUR_MS),
        ("month", midnight - 19 * DAY_MS),
        ("2026-11-19", midnight - DAY_MS),
        ("2026-11-19T22", midnight - 2 * HOUR_MS),
        ("2026-11-19 22:00", midnight - 2 * HOUR_MS),
        ("2026-11-19T22:00Z", midnight - 2 * HOUR_MS),
        ("2026-11-19T23:00:00+01:00", midnight - 2 * HOUR_MS),
    ] {
        assert_eq!(begins(since), begin, "{since}");
    }
}

#[test]
fn times_are_read_and_shown_in_the_zone() {
    let noon = NOW;
    // In Kiritimati it is 02:00 of the next day, in New York 07:00, in Kolkata 17:30.
    for (minutes, since, begin) in [
        (14 * 60, "today", noon - 2 * HOUR_MS),
        (14 * 60, "yesterday", noon - 26 * HOUR_MS),
        (14 * 60, "7d", noon - 2 * HOUR_MS - 7 * DAY_MS),
        (14 * 60, "2026-11-21", noon - 2 * HOUR_MS),
        (-5 * 60, "today", noon - 7 * HOUR_MS),
        (-5 * 60, "month", noon - 7 * HOUR_MS - 19 * DAY_MS),
        (-5 * 60, "2026-11-20 06:30", noon - HOUR_MS / 2),
        (-5 * 60, "2026-11-20T11:30Z", noon - HOUR_MS / 2),
        (-5 * 60, "3h", noon - 3 * HOUR_MS),
        (330, "today", noon - 17 * HOUR_MS - HOUR_MS / 2),
        (330, "2026-11-20T16", noon - HOUR_MS - HOUR_MS / 2),
    ] {
        let report = Report::new(&wanted_at(minutes, since, "model", false), NOW).unwrap();
        assert_eq!(report.options.since_ms, begin, "{minutes} {since}");
    }
    let report = Report::new(&wanted_at(-300, "today", "model", false), NOW).unwrap();
    let head = &report.output(Format::Text, "x")[0];
    assert_eq!(
        head,
        "What calls cost from 2026-11-20 00:00 to 2026-11-20 07:00 (UTC-300)"
    );
    let document: Value = serde_json::from_str(&report.output(Format::Json, "x").concat()).unwrap();
    assert_eq!(document["since"], "2026-11-20T00:00:00-05:00");
    assert_eq!(document["zone"], "UTC-300");
}

#[test]
fn a_state_directorys_days_are_of_the_zone_as_far_as_hours_are_kept() {
    // 06:00 of today, 23:00 of yesterday, noon of 17 November, all UTC.
    let entries = [
        entry(6 * HOUR_MS, "a/b", "main", 1.0),
        entry(13 * HOUR_MS, "a/b", "main", 10.0),
        entry(3 * DAY_MS, "a/b", "main", 100.0),
    ];
    let days = |minutes: i32, since: &str| {
        let mut report = Report::new(&wanted_at(minutes, since, "day", false), NOW).unwrap();
        report.ledger(&ledger(&entries)).unwrap();
        report.finish();
        let (lines, _) = report.lines();
        let days: Vec<(String, f64)> = lines
            .iter()
            .map(|line| (line.names[0].clone(), line.sums.usd.usd()))
            .collect();
        let is_said = report
            .notes
            .iter()
            .any(|note| note.contains("are UTC days"));
        (
            days,
            is_said,
            report.facts.money(&report.options.zone, NOW).forecast,
        )
    };
    let of = |list: &[(&str, f64)]| -> Vec<(String, f64)> {
        list.iter()
            .map(|(day, usd)| ((*day).to_owned(), *usd))
            .collect()
    };
    let (utc, is_said, _) = days(0, "7d");
    let expected = [
        ("2026-11-17", 100.0),
        ("2026-11-19", 10.0),
        ("2026-11-20", 1.0),
    ];
    assert_eq!((utc, is_said), (of(&expected), false));
    let (berlin, is_said, forecast) = days(60, "7d");
    let expected = [("2026-11-17", 100.0), ("2026-11-20", 11.0)];
    assert_eq!((berlin, is_said), (of(&expected), true));
    assert_eq!(forecast.unwrap().from_days, 2, "18 and 19 November");
    let (york, _, _) = days(-300, "7d");
    assert_eq!(
        york,
        of(&[
            ("2026-11-17", 100.0),
            ("2026-11-19", 10.0),
            ("2026-11-20", 1.0)
        ])
    );
    let (kiritimati, _, _) = days(14 * 60, "7d");
    assert_eq!(
        kiritimati,
        of(&[("2026-11-18", 100.0), ("2026-11-20", 11.0)])
    );
    assert_eq!(days(60, "today").0, of(&[("2026-11-20", 11.0)]));
    assert!(!days(60, "today").1, "hours are kept");
}

#[test]
fn the_note_about_utc_days_names_the_first_whole_day_of_the_zone() {
    let note = |minutes: i32| {
        let mut report = Report::new(&wanted_at(minutes, "7d", "day", false), NOW).unwrap();
        report.ledger(&ledger(&[])).unwrap();
        report.finish();
        let note = report.notes().iter().find(|note| note.contains("UTC days"));
        note.cloned().unwrap_or_default()
    };
    assert!(note(0).is_empty());
    // Hours are kept from 18 November 13:00 on, and whole UTC days from the 19th on: 09:00 in Tokyo, 19:00 of the 18th in
    // New York.
    assert!(note(540).contains("days before 2026-11-20 are UTC days"));
    assert!(note(-300).contains("days before 2026-11-19 are UTC days"));
}

#[test]
fn today_is_no_part_of_yesterday_in_a_zone_of_half_hours() {
    // In Kolkata it is 17:30. Calls of 00:10 and of yesterday's noon, by its clock.
    let midnight = 17 * HOUR_MS + HOUR_MS / 2;
    let entries = [
        entry(midnight - HOUR_MS / 6, "a/b", "main", 1.0),
        entry(midnight + 12 * HOUR_MS, "a/b", "main", 10.0),
    ];
    let mut report = Report::new(&wanted_at(330, "today", "day", false), NOW).unwrap();
    report.ledger(&ledger(&entries)).unwrap();
    report.finish();
    let (lines, _) = report.lines();
    assert_eq!(lines.len(), 1);
    assert_eq!(lines[0].names, ["2026-11-20"]);
    let document: Value = serde_json::from_str(&report.output(Format::Json, "x").concat()).unwrap();
    assert_eq!(document["sum"]["cost_usd"], 1.0);
    assert_eq!(document["cache"]["saved_usd"], 0.5);
    assert_eq!(document["prompt"]["calls"], 1);
}

#[test]
fn a_receiver_is_asked_for_days_of_the_zone() {
    let calls = r#"[{"timestamp":"2026-11-19T23:30:00Z","model":"a/b","cost_usd":2}]"#;
    let mut report = Report::new(&wanted_at(60, "today", "day", true), NOW).unwrap();
    let paths = ask(&mut report, calls);
    assert_eq!(
        paths.last().unwrap(),
        "/models/calls.json?from=2026-11-19T23:00:00Z&to=2026-11-20T23:00:00Z"
    );
    let (lines, _) = report.lines();
    assert_eq!(lines[0].names, ["2026-11-20"]);
}

/// A receiver with these calls on each day.
fn ask(report: &mut Report, calls: &str) -> Vec<String> {
    let mut paths = Vec::new();
    while let Some(ask) = report.next_ask() {
        let body = match ask.path.starts_with("/models/") {
            true => calls,
            false => "{\"features\": []}",
        };
        for piece in body.as_bytes().chunks(7) {
            report.feed(piece);
        }
        paths.push(ask.path);
        assert_eq!(report.answered(200, None, "").unwrap(), Said::Next);
    }
    report.finish();
    paths
}

#[test]
fn a_receiver_is_asked_for_each_day_of_the_forecast() {
    let calls = r#"[{"timestamp":"2026-11-20T11:00:00Z","model":"a/b","agent_name":"main","session_key":"s","prompt_tokens":100,
        "completion_tokens":5,"cost_usd":0.5,"cache_read_tokens":60,"cache_saved_usd":0.25,"cache_write_extra_usd":0.05,"system_chars":10,"tool_chars":60,"message_chars":30,"prompt_cost_usd":0.4},{"timestamp":"2026-11-20T01:00:00Z","model":"a/b","cost_usd":2},{"model":"x"}]"#;
    let mut report = Report::new(&wanted("12h", "session,model", true), NOW).unwrap();
    let paths = ask(&mut report, calls);
    assert_eq!(paths.len(), 31);
    assert_eq!(
        paths[1],
        "/models/calls.json?from=2026-10-22T00:00:00Z&to=2026-10-23T00:00:00Z"
    );
    let (lines, sum) = report.lines();
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[1].names, ["s", "a/b"]);
    // The same list came on each of the 30 days.
    assert_eq!((sum.calls, sum.usd.usd()), (60, 75.0));
    assert!(report.notes[0].contains("30 records"), "{:?}", report.notes);
    let document: Value = serde_json::from_str(&report.output(Format::Json, "x").concat()).unwrap();
    let cache = &document["cache"];
    assert_eq!(
        (&cache["saved_usd"], &cache["extra_usd"]),
        (&json!(7.5), &json!(1.5))
    );
    let prompt = &document["prompt"];
    assert_eq!(
        (&prompt["calls"], &prompt["heaviest_tokens_a_call"]),
        (&json!(30), &json!(70))
    );
    assert_eq!(
        prompt["fixed_usd"]
            .as_f64()
            .map(|usd| (usd * 100.0).round()),
        Some(840.0)
    );
}

#[test]
fn a_receiver_without_lists_and_a_refused_token_are_said() {
    let first = |status| {
        let mut report = Report::new(&wanted("7d", "model", true), NOW).unwrap();
        report.answered(status, None, "").unwrap_err()
    };
    assert!(first(404).contains("leave out --receiver"));
    assert!(first(401).contains("AGENTWATCH_TOKEN"));
    let mut report = Report::new(&wanted("7d", "model", true), NOW).unwrap();
    assert!(matches!(
        report.answered(503, Some(10), ""),
        Ok(Said::Wait(10))
    ));
}

/// The begin is no midnight, and days of a state directory and of a receiver hold calls before it.
#[test]
fn cache_and_fixed_part_are_those_of_the_rows() {
    let entries: Vec<Entry> = [(HOUR_MS / 2, 0.5), (11 * HOUR_MS, 4.0), (3 * DAY_MS, 8.0)]
        .into_iter()
        .map(|(ago_ms, usd)| entry(ago_ms, "a/b", "main", usd))
        .collect();
    let calls = r#"[{"timestamp":"2026-11-20T11:30:00Z","model":"a/b","agent_name":"main","prompt_tokens":10000,"cost_usd":0.5,
        "cache_read_tokens":6000,"cache_saved_usd":0.25,"system_chars":2,"tool_chars":5,"message_chars":3,"prompt_cost_usd":0.3},
        {"timestamp":"2026-11-20T01:00:00Z","model":"a/b","agent_name":"main","prompt_tokens":10000,"cost_usd":4,
        "cache_read_tokens":6000,"cache_saved_usd":2,"system_chars":2,"tool_chars":5,"message_chars":3,"prompt_cost_usd":2.4}]"#;
    let mut asked = Report::new(&wanted("1h", "model", true), NOW).unwrap();
    ask(&mut asked, calls);
    for (report, times) in [(report(&entries, "1h", "model"), 1), (asked, 30)] {
        let document = report.output(Format::Json, "x").concat();
        let document: Value = serde_json::from_str(&document).unwrap();
        assert_eq!(document["sum"]["calls"], times);
        assert_eq!(document["prompt"]["calls"], times);
        let saved = document["cache"]["saved_usd"].as_f64().unwrap();
        assert_eq!(saved, 0.25 * f64::from(times));
    }
}

#[test]
fn programs_get_the_same_figures() {
    let report = report(&month(), "2d", "day,agent");
    let document: Value = serde_json::from_str(&report.output(Format::Json, "x").concat()).unwrap();
    assert_eq!(document["rows"].as_array().unwrap().len(), 5);
    assert_eq!(document["sum"]["cost_usd"], 6.25);
    assert_eq!(document["sum"]["unpriced_calls"], 1);
    assert_eq!(document["rows"][0]["day"], "2026-11-18");
    assert_eq!(document["prompt"]["heaviest_agent"], "main");
    assert!(document["forecast"]["high_usd"].as_f64() >= document["forecast"]["low_usd"].as_f64());
    let csv = report.output(Format::Csv, "x");
    assert_eq!(csv.len(), 6);
    assert!(csv[0].starts_with("day,agent,"), "{}", csv[0]);
    assert!(csv[1].starts_with("2026-11-18,main,"), "{}", csv[1]);
}

#[test]
fn allowances_of_the_status_are_told_with_what_follows() {
    let mut report = report(&month(), "7d", "model");
    let of = |allowance: &str, percent: u64, then: &str, ends_ms: u64| json!({"allowance": allowance, "percent": percent, "then": then, "ends_ms": ends_ms});
    report.allowances(
        &json!([
            of("20.00 USD a day", 86, "stop", NOW + 1),
            of("1.00 USD an hour", 101, "stop", NOW + 1),
            of("5.00 USD a month", 140, "warn", NOW + 1),
            of("2.00 USD a day", 200, "stop", NOW),
        ])
        .to_string(),
    );
    let text = report.output(Format::Text, "x").join("\n");
    for words in [
        "20.00 USD a day: 86 % are spent; calls are refused from 100 % on.",
        "1.00 USD an hour: 101 % are spent; calls are refused.",
        "5.00 USD a month: 140 % are spent; it only warns.",
        "2.00 USD a day: 0 % are spent;",
    ] {
        assert!(text.contains(&format!("Allowance of {words}")), "{text}");
    }
    let json: Value = serde_json::from_str(&report.output(Format::Json, "x").join("\n")).unwrap();
    let percents = json["allowances"]
        .as_array()
        .unwrap()
        .iter()
        .map(|told| &told["percent"]);
    assert_eq!(percents.collect::<Vec<_>>(), [86, 101, 140, 0]);
}

#[test]
fn focus_has_a_row_for_each_utc_day_and_key_with_the_sums_of_the_report() {
    let cell = |line: &str, name: &str| {
        let head = focus::head();
        let place = head.split(',').position(|known| known == name).unwrap();
        // Only the tags have commas, and they come behind these columns.
        line.split(',').nth(place).unwrap().to_owned()
    };
    // Days are whole: a report of some hours has the sums of its day.
    for (since, same) in [("30d", "30d"), ("today", "today"), ("11h", "today")] {
        let (_, sum) = report(&month(), same, "model").lines();
        let report = report(&month(), since, "model");
        let lines = report.output(Format::Focus, "berlin");
        assert_eq!(lines[0], focus::head());
        let total = |name: &str| -> f64 {
            let cells = lines[1..].iter().map(|row| cell(row, name));
            cells.map(|cell| cell.parse::<f64>().unwrap()).sum()
        };
        assert!(
            (total("BilledCost") - sum.usd.usd()).abs() < 1e-6,
            "{since}"
        );
        assert_eq!(
            total("ConsumedQuantity") as u64,
            sum.prompt + sum.output,
            "{since}"
        );
        for row in &lines[1..] {
            let [start, end] = ["ChargePeriodStart", "ChargePeriodEnd"].map(|name| {
                let time: jiff::Timestamp = cell(row, name).parse().unwrap();
                time.as_millisecond() as u64
            });
            assert_eq!((start % DAY_MS, end - start), (0, DAY_MS), "{row}");
            assert_eq!(cell(row, "BillingAccountId"), "berlin");
            assert!(row.contains(r#"""gateway"":""berlin"""#), "{row}");
        }
    }
}
