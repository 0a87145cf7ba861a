//! Formats a comparison as text: lines of at most 80 characters.

use super::compare::Verdict;
use super::figures::{DAY_MS, Sum, start_of};
use super::{Outcome, Provider};

/// Maximum number of characters in a line.
const WIDTH: usize = 80;
/// Maximum number of charges that are listed singly.
const MOST_CHARGES: usize = 20;

/// The table, the sums and the notes.
pub fn lines(outcome: &Outcome) -> Vec<String> {
    let Outcome { since, until, .. } = outcome;
    let title = outcome.provider.title();
    let mut out = vec![
        format!("AgentWatch against {title}, {since} to {until} (UTC)"),
        String::new(),
    ];
    out.push(line("day", "model", "", "", "tokens", "USD"));
    for row in &outcome.rows {
        let words = row.verdict.name().replace('_', " ");
        let day = row.day.to_string();
        let (ours, theirs) = (row.ours.as_ref(), row.theirs.as_ref());
        if row.verdict == Verdict::Matched {
            out.push(sum_line(&day, &row.model, &words, "both", ours.or(theirs)));
            continue;
        }
        out.push(sum_line(&day, &row.model, &words, "ours", ours));
        out.push(sum_line("", "", "", "theirs", theirs));
    }
    if outcome.rows.is_empty() {
        out.push(
            match outcome.sums.get("all").map_or(0, |group| group.rows) {
                0 => "no calls on either side".to_owned(),
                _ => "nothing differs".to_owned(),
            },
        );
    }
    out.push(String::new());
    for name in ["all"].into_iter().chain(Verdict::ALL.map(Verdict::name)) {
        let Some(group) = outcome.sums.get(name) else {
            continue;
        };
        let rows = match group.rows {
            1 => "1 row".to_owned(),
            rows => format!("{rows} rows"),
        };
        let words = name.replace('_', " ");
        out.push(sum_line("sum", &rows, &words, "ours", Some(&group.ours)));
        out.push(sum_line("", "", "", "theirs", Some(&group.theirs)));
    }
    charges(outcome, &mut out);
    if !outcome.notes.is_empty() {
        out.push(String::new());
    }
    out.extend(outcome.notes.iter().flat_map(|note| wrapped(note)));
    out
}

/// Charges that belong to no model, the largest first.
fn charges(outcome: &Outcome, out: &mut Vec<String>) {
    if outcome.other_charges.is_empty() {
        return;
    }
    out.push(String::new());
    let mut charges: Vec<_> = outcome.other_charges.iter().collect();
    charges.sort_by_key(|charge| std::cmp::Reverse(charge.cost_usd));
    for charge in charges.iter().take(MOST_CHARGES) {
        let day = charge.day.to_string();
        let cost = money(charge.cost_usd.usd());
        out.push(wide(&day, &charge.item, &cost));
    }
    let words = match charges.len() {
        1 => "1 charge of no model".to_owned(),
        count => format!("{count} charges of no model"),
    };
    out.push(wide("sum", &words, &money(outcome.other_charges_usd.usd())));
}

fn sum_line(day: &str, model: &str, words: &str, side: &str, sum: Option<&Sum>) -> String {
    let (tokens, cost) = match sum {
        Some(sum) => (
            grouped(sum.tokens()),
            sum.cost_usd
                .map_or("-".to_owned(), |cost| money(cost.usd())),
        ),
        None => ("-".to_owned(), "-".to_owned()),
    };
    line(day, model, words, side, &tokens, &cost)
}

/// Columns: day 10, model 25, verdict 13, side 6, tokens at least 11, cost the rest.
fn line(day: &str, model: &str, words: &str, side: &str, tokens: &str, cost: &str) -> String {
    let model = cut(model, 25);
    let head = format!("{day:10} {model:25} {words:13} {side:6}");
    let room = WIDTH.saturating_sub(head.chars().count() + 2 + cost.chars().count().max(9));
    let cost = format!("{cost:>9}");
    let text = format!("{head} {tokens:>room$} {cost}");
    text.trim_end().to_owned()
}

fn wide(day: &str, words: &str, cost: &str) -> String {
    let room = WIDTH.saturating_sub(12 + cost.chars().count());
    format!("{day:10} {:room$} {cost}", cut(words, room))
}

fn cut(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(most.saturating_sub(1)).collect();
    short.push('…');
    short
}

/// Groups digits: `1,234,567`.
fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// USD with six decimals; from 1,000 USD on, with two.
fn money(usd: f64) -> String {
    if usd.abs() < 1_000.0 {
        format!("{usd:.6}")
    } else {
        format!("{usd:.2}")
    }
}

fn wrapped(text: &str) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let last = lines.last().map_or(0, |line| line.chars().count());
        if last > 0 && last + 1 + word.chars().count() > WIDTH {
            lines.push("  ".to_owned());
        }
        if let Some(line) = lines.last_mut() {
            if !line.is_empty() && !line.ends_with("  ") {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines
}

/// Sentences that explain why rows may differ, and what the figures do not contain.
pub fn notes(outcome: &Outcome, is_stock: bool, now_ms: u64) -> Vec<String> {
    let title = outcome.provider.title();
    let mut notes = Vec::new();
    let has = |verdict: Verdict| outcome.sums.contains_key(verdict.name());
    let differs = outcome
        .rows
        .iter()
        .any(|row| row.verdict != Verdict::Matched);
    if differs || !outcome.other_charges.is_empty() {
        notes.push(format!(
            "{title} reports its whole organisation: what other programs and keys used is only theirs."
        ));
        notes.push(
            "Days are UTC. A call counts on the day when it ended here; the provider may count one over midnight on the day when it began."
                .to_owned(),
        );
    }
    let ends_ms = start_of(outcome.until) + DAY_MS;
    if ends_ms > now_ms {
        notes.push(format!(
            "{} has not ended: its figures grow on both sides.",
            outcome.until
        ));
        if outcome.provider == Provider::OpenRouter {
            notes.push("OpenRouter reports a day after it has ended.".to_owned());
        }
    }
    if has(Verdict::Pending) {
        notes.push(format!(
            "pending: {title} may report usage and costs up to a day late; compare again tomorrow."
        ));
    }
    if has(Verdict::NotWhole) {
        notes.push(
            "not whole: AgentWatch 0.1.0 lists the newest 1,000 costs of a model and agent alone, and there were more. Ask for later days, or use agentwatch-receiver."
                .to_owned(),
        );
    }
    if is_stock && outcome.rows.is_empty() {
        notes.push("AgentWatch 0.1.0 has no calls that this plugin sent.".to_owned());
    }
    let ours = outcome.sums.get("all").map(|group| &group.ours);
    if let Some(sum) = ours {
        for (count, words) in [
            (
                sum.unknown_cost_calls,
                "the cost is unknown here: they count as 0 USD",
            ),
            (
                sum.missing_usage_calls,
                "nobody told the tokens here: they count as 0",
            ),
        ] {
            match count {
                0 => {}
                1 => notes.push(format!("Of 1 call {words}.")),
                _ => notes.push(format!("Of {count} calls {words}.")),
            }
        }
    }
    if !outcome.other_charges.is_empty() {
        notes.push(
            "Charges of no model are searches, storage and the like: here their fees are part of a call's cost, where they are known."
                .to_owned(),
        );
    }
    for (why, count) in &outcome.left_out {
        notes.push(format!("left out: {count} {why}"));
    }
    notes
}
