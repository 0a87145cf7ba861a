//! What the month will cost, allowances, and incidents.

use super::address::{Address, stamp};
use super::format::{count, counted, escape, money, percent, short};
use super::view::View;
use crate::store::cache::Cache;
use crate::store::prompts::{Bill, Prompts};
use crate::store::spending::{Allowance, Incidents};
use agentwatch_openclaw::spending::forecast::Forecast;
use jiff::tz::TimeZone;
use std::fmt::Write;

/// Names of the parts of prompts, in the order of their figures.
const PARTS: [&str; 4] = ["System prompt", "Tool definitions", "Messages", "Other"];
/// Mean number of days in a month.
const MONTH_DAYS: f64 = 30.4;

/// The cards; nothing where nothing is known.
pub fn spending(view: &View, address: &Address) -> String {
    let cards = [
        view.forecast.as_ref().map(month).unwrap_or_default(),
        allowances(&view.allowances, address),
        prompts(&view.prompts, view.days),
        cache(view),
        sessions(view, address),
        view.incidents
            .as_ref()
            .map(|found| incidents(found, address))
            .unwrap_or_default(),
    ]
    .concat();
    match cards.is_empty() {
        true => cards,
        false => format!(r#"<div class="cards spending">{cards}</div>"#),
    }
}

fn card(id: &str, title: &str, body: &str) -> String {
    format!(
        r#"<section class="card" aria-labelledby="{id}"><h2 id="{id}">{title}</h2>{body}</section>"#
    )
}

/// A table that scrolls in its card.
fn table(id: &str, heads: &[&str], rows: &str) -> String {
    let heads = heads
        .iter()
        .fold(String::new(), |out, head| out + "<th scope=col>" + head);
    format!(
        r#"<div class="wide" tabindex="0" role="group" aria-labelledby="{id}"><table><thead><tr>{heads}<tbody>{rows}</table></div>"#
    )
}

fn month((forecast, zone): &(Forecast, TimeZone)) -> String {
    let Forecast {
        spent_usd,
        expected_usd,
        low_usd,
        high_usd,
        from_days,
        ..
    } = forecast;
    let share = |usd: f64| (100.0 * usd / high_usd.max(1e-9)).clamp(0.0, 100.0);
    let picture = format!(
        r#"<svg class="range" aria-hidden="true"><rect class="maybe" x="{low:.1}%" width="{range:.1}%"/><rect width="{spent:.1}%"/></svg>"#,
        low = share(*low_usd),
        range = share(high_usd - low_usd),
        spent = share(*spent_usd),
    );
    card(
        "month",
        "This month",
        &format!(
            r#"<p class="figure">{} <small>so far</small></p>{picture}<p class="note">About {} at its end, between {} and {}, by {}. Months and days are {}.</p>"#,
            money(*spent_usd),
            money(*expected_usd),
            money(*low_usd),
            money(*high_usd),
            counted(*from_days as i64, "complete day", "complete days"),
            super::zone::name(zone),
        ),
    )
}

/// What fills prompts: a bar of the parts, their figures, and the fixed part by agent.
fn prompts(bill: &Bill, days: f64) -> String {
    let Prompts {
        calls,
        unpriced,
        tokens,
        usd,
    } = &bill.total;
    if *calls == 0 {
        return String::new();
    }
    let all = tokens
        .iter()
        .fold(0_i64, |sum, part| sum.saturating_add(*part));
    let (mut picture, mut rows, mut from) = (String::new(), String::new(), 0.0);
    for (index, part) in PARTS.iter().enumerate() {
        let share = tokens[index] as f64 / all.max(1) as f64;
        let _ = write!(
            picture,
            r#"<rect class="s{index}" x="{from:.1}%" width="{:.1}%"/>"#,
            100.0 * share
        );
        from += 100.0 * share;
        let _ = writeln!(
            rows,
            r#"<tr><th scope=row class="key s{index}">{part}<td>{}<td>{}<td>{}"#,
            short(tokens[index]),
            percent(share),
            money(usd[index]),
        );
    }
    let parts = table("prompt", &["Part", "Tokens", "Share", "Cost"], &rows);
    let agents = by_agent(bill);
    let fixed = bill.total.fixed_usd();
    let rate = fixed / days.max(1.0 / 24.0);
    let unknown = match unpriced {
        0 => String::new(),
        unpriced => format!(
            " Of {} the prompt's cost is not known.",
            counted(*unpriced, "call", "calls")
        ),
    };
    let costs = match unpriced < calls {
        true => format!(
            "The fixed part, system prompt and tools, cost {} here: {} a day, {} a month at this rate. ",
            money(fixed),
            money(rate),
            money(rate * MONTH_DAYS),
        ),
        false => String::new(),
    };
    let picture = format!(r#"<svg class="range" aria-hidden="true">{picture}</svg>"#);
    card(
        "prompt",
        "What fills the prompt",
        &format!(
            r#"{picture}{parts}<p class="note">{costs}An estimate by characters, of {}.{unknown}</p>{agents}"#,
            counted(*calls, "call", "calls"),
        ),
    )
}

/// The fixed part of prompts by agent.
fn by_agent(bill: &Bill) -> String {
    let mut rows = String::new();
    let mut row = |name: &str, sums: &Prompts| {
        let _ = writeln!(
            rows,
            "<tr><th scope=row>{name}<td>{}<td>{}<td>{}",
            count(sums.calls),
            short(sums.fixed_tokens() / sums.calls.max(1)),
            money(sums.fixed_usd()),
        );
    };
    for (agent, sums) in &bill.by_agent {
        row(&super::tables::plain(agent), sums);
    }
    let (more, rest) = &bill.rest;
    if *more > 0 {
        row(&format!("{} more", count(*more as i64)), rest);
    }
    let heads = ["Agent", "Requests", "Fixed tokens each", "Fixed cost"];
    table("prompt", &heads, &rows)
}

/// What the cache saved, what writing it cost, and what its losses cost.
fn cache(view: &View) -> String {
    let Cache {
        calls,
        saved_usd,
        write_extra_usd,
    } = view.prompts.cache;
    let losses = view.incidents.as_ref().map(Incidents::losses);
    let (lost, lost_usd) = losses.unwrap_or_default();
    if saved_usd + write_extra_usd + lost_usd <= 0.0 {
        return String::new();
    }
    let most = saved_usd.max(write_extra_usd).max(lost_usd);
    let mut rows = String::new();
    let mut row = |name: &str, note: &str, usd: f64| {
        let _ = writeln!(
            rows,
            "<tr><th scope=row>{name}<small>{note}</small><td>{}{}",
            money(usd),
            super::tables::bar(usd, most)
        );
    };
    row("Saved", "by cache reads", saved_usd);
    row(
        "Spent on writes",
        "above the price of plain input",
        write_extra_usd,
    );
    if lost > 0 {
        let lost = counted(
            lost as i64,
            "loss of a cached prompt",
            "losses of cached prompts",
        );
        row("Lost", &format!("by {lost}; part of the cost"), lost_usd);
    }
    let table = table("cache", &["Figure", "USD"], &rows);
    card(
        "cache",
        "Cache",
        &format!(
            r#"{table}<p class="note">In {} with cached tokens and a known price, the cache {}.</p>"#,
            counted(calls, "call", "calls"),
            match saved_usd >= write_extra_usd {
                true => format!("saved {} in all", money(saved_usd - write_extra_usd)),
                false => format!(
                    "cost {} more than it saved",
                    money(write_extra_usd - saved_usd)
                ),
            },
        ),
    )
}

/// Sessions by cost.
fn sessions(view: &View, address: &Address) -> String {
    let (shown, all) = &view.dearest;
    if shown.is_empty() {
        return String::new();
    }
    let mut rows = String::new();
    for one in shown {
        let unknown = match one.unknown_cost {
            0 => String::new(),
            unknown => format!("<small>{} unpriced</small>", count(unknown)),
        };
        let _ = writeln!(
            rows,
            "<tr><th scope=row>{}<td>{}<td>{}<td>{}{unknown}",
            super::details::of(address, &one.session),
            count(one.calls),
            short(one.prompt_tokens.saturating_add(one.completion_tokens)),
            money(one.cost_usd),
        );
    }
    let more = match all - shown.len() {
        0 => String::new(),
        more => format!(
            r#"<p class="note">{} cheaper.</p>"#,
            counted(more as i64, "session was", "sessions were")
        ),
    };
    let table = table("dearest", &["Session", "Requests", "Tokens", "Cost"], &rows);
    card("dearest", "Sessions by cost", &format!("{table}{more}"))
}

fn allowances((shown, all): &(Vec<Allowance>, usize), address: &Address) -> String {
    if shown.is_empty() {
        return String::new();
    }
    let mut rows = String::new();
    for one in shown {
        let amount = |amount: f64| match one.is_tokens {
            true => short(amount.round() as i64),
            false => money(amount),
        };
        let share = one.spent / one.limit;
        let class = if share >= 0.8 { " class=warn" } else { "" };
        let state = match (share >= 1.0, one.stops) {
            (true, true) => "<small>calls are refused</small>",
            (true, false) => "<small>spent</small>",
            (false, true) => "<small>stops</small>",
            (false, false) => "<small>warns</small>",
        };
        let ends = one.ends.map_or_else(
            || "–".to_owned(),
            |ends| {
                let text = address.time(ends, "%a %d %H:%M");
                format!(r#"<time datetime="{}">{text}</time>"#, stamp(ends))
            },
        );
        let _ = writeln!(
            rows,
            "<tr{class}><th scope=row>{}<small class=name>{}</small><td>{}{state}<td>{}{}<td>{ends}",
            super::tables::plain(&one.words),
            escape(&one.of),
            amount(one.spent),
            percent(share),
            super::tables::bar(one.spent, one.limit),
        );
    }
    let more = match all - shown.len() {
        0 => String::new(),
        more => format!(
            r#"<p class="note">{}.</p>"#,
            counted(
                more as i64,
                "further allowance is spent less",
                "further allowances are spent less"
            )
        ),
    };
    let heads = ["Allowance", "Spent", "Share", "Opens again"];
    card(
        "allowances",
        "Allowances",
        &(table("allowances", &heads, &rows) + &more),
    )
}

fn incidents(found: &Incidents, address: &Address) -> String {
    if found.shown.is_empty() {
        return String::new();
    }
    let mut rows = String::new();
    for one in &found.shown {
        let class = if one.is_cache { "" } else { " class=warn" };
        let text = address.time(one.at, "%a %d %H:%M");
        let _ = writeln!(
            rows,
            r#"<tr{class}><th scope=row><time datetime="{}">{text}</time><td class="text">{}<td>{}"#,
            stamp(one.at),
            escape(&one.message),
            one.usd.map_or_else(|| "–".into(), money),
        );
    }
    let mut note = match found.alarms {
        0 => String::new(),
        alarms => counted(alarms as i64, "alarm. ", "alarms. "),
    };
    let (losses, usd) = found.losses();
    if losses > 0 {
        let causes = found.causes.iter();
        let causes = causes.map(|(cause, (number, _))| {
            format!(
                "{} {}",
                count(*number as i64),
                escape(&cause.replace('_', " "))
            )
        });
        let _ = write!(
            note,
            "{} of the cache, {} in all: {}.",
            counted(losses as i64, "loss", "losses"),
            money(usd),
            causes.collect::<Vec<_>>().join(", ")
        );
    }
    if found.is_cut() {
        let _ = write!(
            note,
            " The latest {} are listed.",
            count(found.shown.len() as i64)
        );
    }
    let body = table("incidents", &["Time", "What happened", "Cost"], &rows);
    card(
        "incidents",
        "Incidents",
        &format!(r#"{body}<p class="note">{note}</p>"#),
    )
}
