//! Whole comparisons: a fake provider and a fake AgentWatch answer from one ledger.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::json;

use super::fake::{Call, DAY, NOW, play, record, stock, wanted};
use super::figures::{DAY_MS, day_of};
use super::requests::Step;
use super::*;

fn call() -> impl Strategy<Value = Call> {
    (
        0u64..6,
        0..DAY_MS,
        0usize..2,
        prop::array::uniform4(0u64..100_000),
        0u32..4_000_000,
    )
        .prop_map(|(day, ms, model, tokens, nano)| Call {
            day,
            ms,
            model,
            tokens,
            cost: f64::from(nano) * 1e-9,
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn a_ledger_is_exact_on_both_sides(
        calls in prop::collection::vec(call(), 1..60), provider in 0usize..3, is_stock: bool, cut in 1usize..2_000,
    ) {
        let provider = Provider::ALL[provider];
        let mut invoice = Invoice::new(wanted(provider), NOW).unwrap();
        play(&mut invoice, &calls, is_stock, cut);
        let outcome = invoice.result();
        prop_assert_eq!(outcome.status(), 0, "{:#?}", outcome);
        let all = &outcome.sums["all"];
        let of = |index: usize| calls.iter().map(|call| call.tokens[index]).sum::<u64>();
        for sum in [&all.ours, &all.theirs] {
            prop_assert_eq!(sum.input_tokens, of(0) + of(2) + of(3));
            prop_assert_eq!(sum.output_tokens, of(1));
            let cost: f64 = calls.iter().map(|call| call.cost).sum();
            prop_assert!((sum.cost_usd.unwrap().usd() - cost).abs() < 1e-9);
        }
        prop_assert_eq!(all.ours.calls, Some(calls.len() as u64));
        let lines = outcome.lines();
        prop_assert!(lines.iter().all(|line| line.chars().count() <= 80), "{:#?}", lines);
    }

    #[test]
    fn any_answer_is_read_or_refused(body in "\\PC{0,200}", provider in 0usize..3) {
        let mut invoice = Invoice::new(wanted(Provider::ALL[provider]), NOW).unwrap();
        for _ in 0..5 {
            let Some(_) = invoice.next_ask() else { break };
            invoice.feed(body.as_bytes());
            if invoice.answered(200, None, "").is_err() { break }
        }
        let _ = invoice.result().lines();
    }
}

fn one(day: u64, model: usize, tokens: [u64; 4], cost: f64) -> Call {
    Call {
        day,
        ms: 5,
        model,
        tokens,
        cost,
    }
}

#[test]
fn each_kind_of_difference_has_a_name() {
    let theirs = [
        one(0, 0, [100, 10, 50, 0], 0.25),
        one(1, 0, [100, 10, 0, 0], 0.25),
        one(2, 0, [100, 10, 0, 0], 0.25),
        one(3, 1, [7, 7, 0, 0], 0.125),
    ];
    let ours = [
        one(0, 0, [100, 10, 50, 0], 0.25),
        one(1, 0, [100, 10, 0, 0], 0.5),
        one(2, 0, [100, 11, 0, 0], 0.25),
        one(4, 0, [3, 3, 0, 0], 0.125),
    ];
    for provider in Provider::ALL {
        let mut invoice = Invoice::new(wanted(provider), NOW).unwrap();
        play(&mut invoice, &ours, false, 1_000);
        let mut other = Invoice::new(wanted(provider), NOW).unwrap();
        play(&mut other, &theirs, false, 1_000);
        invoice.theirs = other.theirs;
        let mut outcome = invoice.result();
        let verdicts: Vec<_> = outcome.rows.iter().map(|row| row.verdict.name()).collect();
        assert_eq!(
            verdicts,
            [
                "matched",
                "price_differs",
                "usage_differs",
                "only_theirs",
                "only_ours"
            ],
            "{provider:?}"
        );
        assert_eq!(outcome.status(), 1);
        assert_eq!(
            outcome.sums["price_differs"].ours.cost_usd.unwrap().usd(),
            0.5
        );
        assert_eq!(
            outcome.sums["price_differs"].theirs.cost_usd.unwrap().usd(),
            0.25
        );
        outcome.leave_out_matched();
        assert_eq!((outcome.rows.len(), outcome.sums["all"].rows), (4, 5));
        let text = outcome.lines().join("\n");
        assert!(
            text.contains("price differs ours") && !text.contains("both"),
            "{text}"
        );
    }
}

#[test]
fn a_day_that_may_still_change_is_pending() {
    let call = one(5, 0, [100, 10, 0, 0], 0.25);
    for (now, verdict, status) in [
        // Now: on 2026-11-15 itself, half a day after its end, and more than a day after its end.
        (DAY + 5 * DAY_MS + 1, "pending", 0),
        (DAY + 6 * DAY_MS + DAY_MS / 2, "pending", 0),
        (DAY + 7 * DAY_MS + 1, "only_ours", 1),
    ] {
        let mut invoice = Invoice::new(wanted(Provider::OpenAi), now).unwrap();
        play(&mut invoice, std::slice::from_ref(&call), false, 999);
        invoice.theirs = Theirs::default();
        let outcome = invoice.result();
        assert_eq!(outcome.rows[0].verdict.name(), verdict);
        assert_eq!(outcome.status(), status);
        let says = outcome.notes.join("\n");
        assert_eq!(
            says.contains("has not ended"),
            now < DAY + 6 * DAY_MS,
            "{says}"
        );
    }
}

#[test]
fn versions_are_rows_of_their_own_where_both_sides_name_them() {
    let sum = |tokens| Sum {
        input_tokens: tokens,
        ..Sum::default()
    };
    let side = |names: &[(&str, u64)]| {
        let of = |(name, tokens): &(&str, u64)| ((day_of(DAY), (*name).to_owned()), sum(*tokens));
        names.iter().map(of).collect::<BTreeMap<_, _>>()
    };
    let compared = |ours: &[(&str, u64)], theirs: &[(&str, u64)]| -> Vec<(String, &str)> {
        let rows = compare(&Sides {
            provider: Provider::OpenAi,
            ours: &side(ours),
            theirs: &side(theirs),
            aliases: &BTreeMap::new(),
            not_whole: &BTreeMap::new(),
            now_ms: NOW,
        });
        rows.into_iter()
            .map(|row| (row.model, row.verdict.name()))
            .collect()
    };
    let (may, august) = ("gpt-4o-2024-05-13", "gpt-4o-2024-08-06");
    assert_eq!(
        compared(&[(may, 1), (august, 2)], &[(may, 1), (august, 3)]),
        [
            (may.to_owned(), "matched"),
            (august.to_owned(), "usage_differs")
        ]
    );
    assert_eq!(
        compared(&[("gpt-4o", 1), (august, 2)], &[(august, 3)]),
        [("gpt-4o".to_owned(), "matched")]
    );
    assert_eq!(
        compared(
            &[("gpt-4o", 3)],
            &[(may, 1), (august, 2), ("gpt-4o-mini", 0)]
        ),
        [
            ("gpt-4o".to_owned(), "matched"),
            ("gpt-4o-mini".to_owned(), "matched")
        ]
    );
}

#[test]
fn what_agentwatch_010_does_not_list_is_said() {
    let calls: Vec<Call> = (0..1_500)
        .map(|index| one(index / 300, 0, [1, 1, 0, 0], 1e-3))
        .rev()
        .collect();
    let mut invoice = Invoice::new(wanted(Provider::OpenAi), NOW).unwrap();
    let paths = play(&mut invoice, &calls, true, 4_096);
    assert!(
        paths.iter().any(|path| path.contains("agent=a")),
        "each agent is asked for"
    );
    let outcome = invoice.result();
    let verdicts: Vec<_> = outcome.rows.iter().map(|row| row.verdict.name()).collect();
    assert_eq!(
        verdicts,
        ["not_whole", "not_whole", "matched", "matched", "matched"]
    );
    assert_eq!(outcome.status(), 1);
    assert!(
        outcome
            .notes
            .iter()
            .any(|note| note.contains("newest 1,000"))
    );
}

#[test]
fn pauses_are_as_told_and_end() {
    let start = || {
        let mut invoice = Invoice::new(wanted(Provider::OpenRouter), NOW).unwrap();
        invoice.steps.pop_front();
        invoice
    };
    let mut invoice = start();
    assert_eq!(
        invoice.answered(429, Some(7_000), ""),
        Ok(Said::Wait(7_000))
    );
    assert_eq!(
        invoice.answered(503, Some(3_000), ""),
        Ok(Said::Wait(3_000))
    );
    assert_eq!(invoice.answered(529, None, ""), Ok(Said::Wait(4_000)));
    let long = invoice.answered(429, Some(3_600_000), "").unwrap_err();
    assert!(long.contains("3600 s"), "{long}");
    let mut invoice = start();
    let said: Vec<_> = (0..6)
        .map(|_| invoice.answered(429, Some(1_000), ""))
        .collect();
    assert!(said[..5].iter().all(|said| *said == Ok(Said::Wait(1_000))));
    assert!(said[5].clone().unwrap_err().contains("6 times"));
    let mut invoice = start();
    let said: Vec<_> = (0..3)
        .map(|_| invoice.answered(0, None, "ECONNREFUSED"))
        .collect();
    assert!(said[2].clone().unwrap_err().contains("ECONNREFUSED"));
}

#[test]
fn a_list_that_breaks_off_is_read_again_or_refused() {
    let call = one(0, 0, [100, 10, 50, 0], 0.25);
    let list = json!([
        stock(record(Provider::OpenAi, 0, &call)),
        stock(record(Provider::OpenAi, 1, &call))
    ]);
    let text = list.to_string();
    for cut in [1, 20, text.len() - 30] {
        let mut invoice = Invoice::new(wanted(Provider::OpenAi), NOW).unwrap();
        let costs = Step::Costs {
            model: "openai/gpt-4o".to_owned(),
            agent: None,
            count: 2,
        };
        invoice.steps = [costs].into();
        invoice.feed(&text.as_bytes()[..cut]);
        assert_eq!(
            invoice.answered(0, None, "ECONNRESET"),
            Ok(Said::Wait(1_000))
        );
        invoice.feed(text.as_bytes());
        assert_eq!(invoice.answered(200, None, ""), Ok(Said::Next));
        let sums: Vec<_> = invoice.ours.models.values().collect();
        assert_eq!(
            sums[0].calls,
            Some(2),
            "each once, whatever was read before"
        );
        assert_eq!(invoice.ours.left_out.len(), 0);
        // A day's list is not checked for repeated records, so it cannot be requested again.
        invoice.steps = [Step::Day(day_of(DAY))].into();
        invoice.feed(&text.as_bytes()[..text.len() - 30]);
        let why = invoice.answered(0, None, "ECONNRESET").unwrap_err();
        assert!(why.contains("broke off (ECONNRESET)"), "{why}");
    }
}

#[test]
fn refusals_name_the_right_key_and_repeat_none() {
    for (provider, name) in [
        (Provider::OpenAi, "OPENAI_ADMIN_KEY"),
        (Provider::Anthropic, "ANTHROPIC_ADMIN_KEY"),
        (Provider::OpenRouter, "OPENROUTER_MANAGEMENT_KEY"),
    ] {
        for status in [401, 403] {
            let mut invoice = Invoice::new(wanted(provider), NOW).unwrap();
            invoice.steps.pop_front();
            invoice.feed(br#"{"error":{"message":"bad key sk-secret","type":"permission_error","code":"sk-secret"}}"#);
            let says = invoice.answered(status, None, "").unwrap_err();
            assert!(
                says.contains(name)
                    && says.contains("permission_error")
                    && !says.contains("sk-secret"),
                "{says}"
            );
        }
    }
}

#[test]
fn pages_without_end_are_refused() {
    let page = r#"{"data":[],"has_more":true,"next_page":"again"}"#;
    for (body, says) in [
        (page, "no end"),
        (
            r#"{"data":[],"has_more":true,"next_page":null}"#,
            "not where",
        ),
        ("<!DOCTYPE html><p>busy</p>", "HTML"),
        (r#"{"detail":"x"}"#, "something else"),
    ] {
        let mut invoice = Invoice::new(wanted(Provider::Anthropic), NOW).unwrap();
        invoice.steps.pop_front();
        let mut answer = || {
            invoice.feed(body.as_bytes());
            invoice.answered(200, None, "")
        };
        let last = (0..3).map(|_| answer()).find_map(Result::err).unwrap();
        assert!(last.contains(says), "{last}");
    }
}

#[test]
fn options_are_judged() {
    let new = |provider: &'static str, since: &'static str, until: Option<&'static str>| {
        let wanted = Wanted {
            provider,
            since,
            until,
            also: Vec::new(),
        };
        Invoice::new(wanted, NOW)
            .map(|invoice| [invoice.days.0.to_string(), invoice.days.1.to_string()])
    };
    let days = |first: &str, last: &str| Ok([first.to_owned(), last.to_owned()]);
    assert_eq!(new("openai", "10d", None), days("2026-11-10", "2026-11-19"));
    assert_eq!(
        new("openai", "1w", Some("2026-11-14")),
        days("2026-11-13", "2026-11-14")
    );
    assert_eq!(
        new("openai", "2026-11-20", None),
        days("2026-11-20", "2026-11-20")
    );
    assert_eq!(
        new("openai", "2026-11-09T23:30:00-05:00", Some("2027-01-01")),
        days("2026-11-10", "2026-11-20")
    );
    for (provider, since, until, says) in [
        (
            "azure",
            "10d",
            None,
            "--provider azure: there are openai, anthropic, openrouter",
        ),
        ("openai", "yesterday", None, "--since yesterday: not a day"),
        (
            "openai",
            "2026-13-01",
            None,
            "--since 2026-13-01: not a day",
        ),
        ("openai", "-1d", None, "--since -1d: not a day"),
        ("openai", "2026-11-21", None, "in the future"),
        ("openai", "10d", Some("2026-11-01"), "before --since"),
        ("openai", "400d", None, "more than 366 days"),
        ("openrouter", "40d", None, "write 2026-10-21 or later"),
    ] {
        let error = new(provider, since, until).unwrap_err();
        assert!(error.contains(says), "{error}");
    }
}

#[test]
fn rows_that_cannot_be_read_are_counted() {
    let mut theirs = Theirs::default();
    let body = json!({"data": [
        {"start_time": DAY / 1000, "results": [
            {"input_tokens": -1, "output_tokens": 2, "model": "m"},
            {"input_tokens": 1.5, "output_tokens": 2, "model": "m"},
            {"input_tokens": 5, "output_tokens": 2, "model": null},
            {"input_tokens": "5", "output_tokens": 2, "model": "m"},
        ]},
        {"results": []}, 7,
    ], "has_more": false});
    theirs
        .read(Provider::OpenAi, Report::Usage, &body.to_string())
        .unwrap();
    assert_eq!((theirs.unreadable, theirs.models.len()), (5, 1));
    let body = json!({"data": [{"start_time": DAY / 1000, "results": [
        {"amount": {"value": 1, "currency": "eur"}, "line_item": "m, input"},
        {"amount": {"value": "inf", "currency": "usd"}, "line_item": "m, input"},
        {"amount": {"value": "0.5", "currency": "usd"}, "line_item": "evals | m, input"},
        {"amount": {"value": -0.25, "currency": "usd"}, "line_item": "web search tool calls"},
        {"amount": {"value": 4.5e-6, "currency": "usd"}, "line_item": "m, cached input"},
    ]}]});
    theirs
        .read(Provider::OpenAi, Report::Costs, &body.to_string())
        .unwrap();
    assert_eq!(
        (
            theirs.unreadable,
            theirs.foreign_currency,
            theirs.charges.len()
        ),
        (6, 1, 2)
    );
    let sum = &theirs.models[&(day_of(DAY), "m".to_owned())];
    assert_eq!(sum.cost_usd.unwrap().usd(), 4.5e-6);
}

#[test]
fn calls_that_are_on_no_bill_are_left_out() {
    let mut invoice = Invoice::new(
        Wanted {
            also: vec!["openai-work".to_owned()],
            ..wanted(Provider::OpenAi)
        },
        NOW,
    )
    .unwrap();
    invoice.steps = [Step::Day(day_of(DAY))].into();
    let at = crate::domain::time::iso(DAY);
    let records = json!([
        {"timestamp": at, "model": "openai/m", "prompt_tokens": 1, "cost_usd": 0, "cost_source": "subscription"},
        {"timestamp": at, "model": "anthropic/m", "prompt_tokens": 1, "cost_usd": 1},
        {"timestamp": at, "model": "m", "prompt_tokens": 1, "cost_usd": 1},
        {"timestamp": at, "model": "m", "provider": "openai-work", "prompt_tokens": 4, "cost_usd": 1},
        {"timestamp": "x", "model": "openai/m"},
        {"timestamp": at, "model": "openai/m", "prompt_tokens": -1},
    ]);
    invoice.feed(records.to_string().as_bytes());
    assert_eq!(invoice.answered(200, None, ""), Ok(Said::Next));
    let left_out: Vec<_> = invoice.ours.left_out.clone().into_iter().collect();
    assert_eq!(
        left_out,
        [
            ("calls by subscription", 1),
            ("calls of no known provider", 1),
            ("calls of other providers", 1),
            ("records that cannot be read", 2)
        ]
    );
    assert_eq!(
        invoice.ours.models[&(day_of(DAY), "m".to_owned())].input_tokens,
        4
    );
}
