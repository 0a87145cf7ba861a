//! The report for people: lines of at most 80 columns of a terminal. A wide character takes two columns.

use serde_json::Value;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use super::{Line, Report};
use crate::spending::history::Sums;
use crate::spending::window::date_of;

/// Maximum number of columns in a line.
const WIDTH: usize = 80;
/// Maximum number of listed rows; the others are one row.
const MOST_LINES: usize = 40;
/// Width of the columns of figures: calls, tokens, cached, USD, share. A blank precedes each.
const FIGURES: [usize; 5] = [7, 8, 6, 10, 5];
/// Maximum number of characters of a name.
const MOST_NAME: usize = 300;
const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
/// Stands for a character that a terminal would obey, or that has no width.
pub const REPLACED: char = '\u{fffd}';

/// Bounds a name, and replaces characters that are not shown: a terminal would obey some of them, and an order of
/// writing would reach over the columns behind it.
pub fn clean(name: &str) -> String {
    let shown = |c: char| match c {
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' => {
            REPLACED
        }
        '\u{2060}'..='\u{206f}'
        | '\u{feff}'
        | '\u{fff9}'..='\u{fffb}'
        | '\u{e0000}'..='\u{e007f}' => REPLACED,
        c if c.is_control() => REPLACED,
        c => c,
    };
    name.trim().chars().take(MOST_NAME).map(shown).collect()
}

/// The lines.
pub fn lines(report: &Report, from: &str, lines: &[Line], sum: &Sums) -> Vec<String> {
    let options = &report.options;
    let mut out = vec![
        format!(
            "What calls cost from {} to {} ({})",
            options.minute(options.since_ms),
            options.minute(options.now_ms),
            cut(&clean(&options.zone_name), 22)
        ),
        cut(&clean(&format!("of {from}")), WIDTH),
        String::new(),
    ];
    if lines.is_empty() {
        out.push("There are no calls in this time.".to_owned());
    } else {
        out.extend(rows(report, lines, sum));
    }
    let figures = figures(report, sum);
    if !figures.is_empty() {
        out.push(String::new());
        out.extend(figures.iter().flat_map(|text| wrapped(text)));
    }
    if !report.notes.is_empty() {
        out.push(String::new());
        out.extend(report.notes.iter().flat_map(|note| wrapped(note)));
    }
    out
}

fn rows(report: &Report, lines: &[Line], sum: &Sums) -> Vec<String> {
    let by = &report.options.by;
    let rest = WIDTH - FIGURES.iter().map(|width| width + 1).sum::<usize>();
    let listed = &lines[..lines.len().min(MOST_LINES)];
    // A day takes its ten columns, other names share the rest.
    let is_day = |place: usize| by[place] == super::Dimension::Day;
    let days = usize::from((0..by.len()).any(is_day));
    let others = by.len() - days;
    let blanks = by.len() - 1;
    let room = rest.saturating_sub(blanks + 10 * days);
    let width = |place: usize| match is_day(place) {
        true if others == 0 => rest,
        true => 10,
        false => room / others,
    };
    let names = |names: &[String]| {
        let cells = names.iter().enumerate().map(|(place, name)| {
            let name = match name.as_str() {
                "" => "not told",
                name => name,
            };
            left(name, width(place))
        });
        left(&cells.collect::<Vec<_>>().join(" "), rest)
    };
    let heads: Vec<String> = by.iter().map(|by| by.name().to_owned()).collect();
    let head = ["calls", "tokens", "cached", "USD", "share"].map(str::to_owned);
    let mut out = vec![row(&names(&heads), &head)];
    out.extend(
        listed
            .iter()
            .map(|line| row(&names(&line.names), &cells(&line.sums, sum))),
    );
    let more = lines.get(listed.len()..).unwrap_or_default();
    if !more.is_empty() {
        let mut sums = Sums::default();
        more.iter().for_each(|line| sums.add(&line.sums));
        let name = left(&format!("{} more", more.len()), rest);
        out.push(row(&name, &cells(&sums, sum)));
    }
    out.push(row(&left("sum", rest), &cells(sum, sum)));
    out
}

fn row(name: &str, cells: &[String; 5]) -> String {
    let cells = cells.iter().zip(FIGURES);
    let cells = cells.map(|(cell, width)| format!(" {cell:>width$}"));
    [name, &cells.collect::<String>()]
        .concat()
        .trim_end()
        .to_owned()
}

fn cells(sums: &Sums, all: &Sums) -> [String; 5] {
    let tokens = sums.prompt.saturating_add(sums.output);
    let usd = match sums.unpriced > 0 && sums.unpriced == sums.calls && sums.usd.0 == 0 {
        true => "not known".to_owned(),
        false => money(sums.usd.usd()),
    };
    [
        short(sums.calls),
        short(tokens),
        percent(sums.cache_read as f64, sums.prompt as f64),
        usd,
        percent(sums.usd.usd(), all.usd.usd()),
    ]
}

/// The sentences below the table.
fn figures(report: &Report, sum: &Sums) -> Vec<String> {
    let options = &report.options;
    let facts = &report.facts;
    let money_of = facts.money(&options.zone, options.now_ms);
    let mut out = Vec::new();
    if sum.unpriced > 0 {
        let (has, adds) = match sum.unpriced {
            1 => ("has", "adds"),
            _ => ("have", "add"),
        };
        out.push(format!(
            "{} of {} calls {has} no known price, and {adds} nothing to the cost.",
            grouped(sum.unpriced),
            grouped(sum.calls)
        ));
    }
    if let Some(forecast) = money_of.forecast {
        let date = date_of(&options.zone, options.now_ms);
        let month = MONTHS[usize::from(date.month().unsigned_abs()) - 1];
        let days = match forecast.from_days {
            1 => "1 complete day".to_owned(),
            days => format!("{days} complete days"),
        };
        out.push(format!(
            "{month}: {} USD so far; about {} USD at its end, between {} and {}, by {days}.",
            money(forecast.spent_usd),
            money(forecast.expected_usd),
            money(forecast.low_usd),
            money(forecast.high_usd),
        ));
    }
    if let Some(prompt) = money_of.prompt {
        let share = percent(prompt.fixed_usd, prompt.all_usd);
        out.push(format!(
            "Fixed part of prompts (system prompt and tools; an estimate by characters): {} USD, {share} of what prompts cost.",
            money(prompt.fixed_usd)
        ));
        if let (Some(day), Some(month)) = (prompt.day_usd, prompt.month) {
            out.push(format!(
                "That is about {} USD a day and {} USD a month.",
                money(day),
                money(month.fixed_usd)
            ));
        }
        let agent = match prompt.heaviest_agent.as_str() {
            "" => "calls without an agent".to_owned(),
            agent => format!("agent {}", clean(agent)),
        };
        out.push(format!(
            "The heaviest: {agent}, with about {} tokens in each call.",
            grouped(prompt.heaviest_tokens_a_call)
        ));
    }
    if let Some(cache) = money_of.cache {
        let share = percent(cache.read_share, 1.0);
        out.push(match (cache.saved_usd, cache.extra_usd) {
            (Some(saved), Some(extra)) => format!(
                "Cache: {share} of prompt tokens were read from it, which saved {} USD; writing it cost {} USD above plain input.",
                money(saved),
                money(extra)
            ),
            _ => format!("Cache: {share} of prompt tokens were read from it."),
        });
    }
    let now_ms = options.now_ms as f64;
    let allowances = report.allowances.iter();
    out.extend(allowances.filter_map(|told| allowance(told, now_ms)));
    out
}

/// An allowance of the status. Nothing is spent of a window that began after the status was written.
pub fn of_now(told: &Value, now_ms: f64) -> Value {
    let mut told = told.clone();
    if told["ends_ms"].as_f64().is_some_and(|ends| ends <= now_ms) {
        for name in ["spent", "percent", "unpriced"] {
            if told[name].is_number() {
                told[name] = 0.into();
            }
        }
    }
    told
}

/// An allowance of the status, in words; nothing is spent in a window that the status does not know yet.
fn allowance(told: &Value, now_ms: f64) -> Option<String> {
    let told = of_now(told, now_ms);
    let words = clean(told["allowance"].as_str()?);
    let percent = told["percent"].as_f64()?;
    let then = match (told["then"] == "stop", percent >= 100.0) {
        (true, true) => "calls are refused",
        (true, false) => "calls are refused from 100 % on",
        (false, _) => "it only warns",
    };
    Some(format!(
        "Allowance of {words}: {percent:.0} % are spent; {then}."
    ))
}

/// Fills a text to a width, or cuts it with an ellipsis.
fn left(text: &str, width: usize) -> String {
    let text = cut(text, width);
    let blanks = width.saturating_sub(text.width());
    [text, " ".repeat(blanks)].concat()
}

fn cut(text: &str, most: usize) -> String {
    if text.width() <= most {
        return text.to_owned();
    }
    let mut width = 1;
    let fits = |c: &char| {
        width += c.width().unwrap_or(0);
        width <= most
    };
    let mut short: String = text.chars().take_while(fits).collect();
    short.push('…');
    short
}

/// A number in at most 7 columns: `999,999`, `12.3M`.
fn short(number: u64) -> String {
    let number_f = number as f64;
    match number {
        0..=999_999 => grouped(number),
        1_000_000..1_000_000_000 => format!("{:.2}M", number_f / 1e6),
        1_000_000_000..1_000_000_000_000 => format!("{:.2}G", number_f / 1e9),
        1_000_000_000_000..1_000_000_000_000_000 => format!("{:.2}T", number_f / 1e12),
        _ => format!("{:.0}P", number_f / 1e15),
    }
}

/// USD in at most 10 columns: with cents, with further digits below a dollar.
fn money(usd: f64) -> String {
    match usd {
        0.0 => "0.00".to_owned(),
        usd if usd < 0.000_1 => format!("{usd:.6}"),
        usd if usd < 1.0 => format!("{usd:.4}"),
        usd if usd < 999_999.995 => {
            let cents = (usd * 100.0).round() as u64;
            format!("{}.{:02}", grouped(cents / 100), cents % 100)
        }
        usd => short(usd.round() as u64),
    }
}

fn percent(part: f64, whole: f64) -> String {
    match whole > 0.0 {
        true => format!("{:.0} %", 100.0 * part / whole),
        false => "–".to_owned(),
    }
}

/// Groups digits: `1,234,567`.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Breaks a sentence into lines.
fn wrapped(text: &str) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let word = cut(word, WIDTH - 2);
        let last = lines.last().map_or(0, |line| line.width());
        if last > 0 && last + 1 + word.width() > WIDTH {
            lines.push("  ".to_owned());
        }
        if let Some(line) = lines.last_mut() {
            if !line.is_empty() && !line.ends_with("  ") {
                line.push(' ');
            }
            line.push_str(&word);
        }
    }
    lines
}
