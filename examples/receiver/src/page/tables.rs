//! Models, breakdowns and errors as tables. Optional closing tags are omitted, so that a page with a hundred models is
//! small.

use super::address::{Address, UNTOLD};
use super::format::{count, counted, duration, escape, exactly, is_hidden, money, percent};
use super::view::{Breakdown, View};
use crate::store::brief::Brief;
use crate::store::rollup::{Count, Sums};
use crate::store::series::Dimension;
use crate::store::stats::{MODELS_MAX, ModelStats};
use std::fmt::Write;

/// Length, in bytes, from which a name has a title.
const LONG: usize = 40;

/// Display text of a dimension's value.
pub fn name(value: &str) -> String {
    if value.is_empty() {
        "not told".into()
    } else {
        escape(value)
    }
}

/// The attribute that has the whole of a long name: the style sheet cuts it after three lines.
fn title(value: &str) -> String {
    match value.len() > LONG {
        true => format!(r#" title="{}""#, escape(value)),
        false => String::new(),
    }
}

/// A name without a link.
pub fn plain(value: &str) -> String {
    format!("<span class=name{}>{}</span>", title(value), name(value))
}

/// A link to the same page with one dimension set.
fn link(address: &Address, dimension: Dimension, value: &str) -> String {
    let title = title(value);
    format!(
        r#"<a href="{}"{title}>{}</a>"#,
        escape(&address.with(dimension, Some(value)).query()),
        name(value)
    )
}

/// Note with the number of calls without a price; empty if all have one, or if none has one and [`cost`] says so.
fn unpriced(calls: &Brief) -> String {
    match calls.unknown_cost {
        0 => String::new(),
        _ if is_unknown(calls) => String::new(),
        unknown => format!(
            "<small>{} of {} unpriced</small>",
            count(unknown.into()),
            count(calls.calls.into())
        ),
    }
}

/// Whether no price of any call is known.
fn is_unknown(calls: &Brief) -> bool {
    calls.unknown_cost > 0 && calls.unknown_cost == calls.calls && calls.cost_usd == 0.0
}

/// Cost of calls; `not known` if no call has a known price.
pub fn cost(calls: &Brief) -> String {
    if is_unknown(calls) {
        "not known".into()
    } else {
        money(calls.cost_usd)
    }
}

/// Share of cached input in the input of the calls that report caching; a dash without such calls.
pub fn cached(sums: &Sums) -> String {
    match sums.of(Count::CacheTold) {
        ..=0 => "–".into(),
        told => percent(sums.of(Count::CacheRead) as f64 / told as f64),
    }
}

/// The table of models.
pub fn models(view: &View, address: &Address) -> String {
    let tokens = view.total.tokens();
    let rows: String = view
        .models
        .iter()
        .map(|model| row(view, address, model, tokens))
        .collect();
    let more = match view.models_in_all - view.models.len() {
        0 => String::new(),
        more => format!(
            "<p class=note>{} more {} in the sums above and in the downloads{}; a filter brings {} here.</p>",
            count(more as i64),
            if more == 1 { "model is" } else { "models are" },
            if view.models_in_all > MODELS_MAX {
                format!(", of which {} are the most", count(MODELS_MAX as i64))
            } else {
                String::new()
            },
            if more == 1 { "it" } else { "them" },
        ),
    };
    let error = match view.models.first() {
        Some(model) if model.percentile_error > 0.0 => format!(
            "<p class=note>p50 and p95 are within {} of the exact figures: of more than 100,000 calls they are read from a histogram.</p>",
            percent(model.percentile_error)
        ),
        _ => String::new(),
    };
    format!(
        r#"<section aria-labelledby="models-head"><h2 id="models-head">Models</h2><div class="wide" tabindex="0" role="group" aria-labelledby="models-head"><table id="models"><caption>Calls by model in {window}, highest cost first. Latency in p50 and p95: half, and 95 % of the calls took no longer.</caption><thead><tr><th scope=col>Model<th scope=col data-field=requests>Requests<th scope=col data-field=prompt_tokens>Prompt<th scope=col data-field=cached>Cached<th scope=col data-field=completion_tokens>Completion<th scope=col data-field=total_tokens>Total<th scope=col data-field=total_cost_usd>Cost<th scope=col data-field=cost_share>Cost share<th scope=col data-field=avg_latency_ms>Average<th scope=col data-field=p50_latency_ms>p50<th scope=col data-field=p95_latency_ms>p95<th scope=col data-field=failed>Failed<tbody id="rows">{rows}</table></div>{more}{error}</section>"#,
        window = escape(&address.says()),
    )
}

fn row(view: &View, address: &Address, model: &ModelStats, all: i64) -> String {
    let sums = &model.sums;
    let whole = |what: Count| count(sums.of(what));
    let (failed, _) = view.unsuccessful(model);
    let brief = Brief::of(sums);
    format!(
        "<tr><th scope=row>{link}<td>{calls}<td>{prompt}<td>{cached}<td>{completion}<td>{total}{bar}<td>{cost}{unpriced}<td>{share}<td>{avg}<td>{p50}<td>{p95}<td>{failed}\n",
        link = link(address, Dimension::Model, &model.model),
        calls = whole(Count::Calls),
        prompt = whole(Count::Prompt),
        cached = cached(sums),
        completion = whole(Count::Completion),
        total = count(sums.tokens()),
        bar = bar(sums.tokens() as f64, all as f64),
        cost = cost(&brief),
        unpriced = unpriced(&brief),
        share = match view.total.cost_usd > 0.0 {
            true => percent(brief.cost_usd / view.total.cost_usd),
            false => "–".into(),
        },
        avg = duration(model.avg_latency_ms),
        p50 = duration(model.p50_latency_ms),
        p95 = duration(model.p95_latency_ms),
        failed = count(failed.round() as i64),
    )
}

/// A bar of a share, if it is long enough to be visible.
pub fn bar(part: f64, whole: f64) -> String {
    let share = if whole > 0.0 {
        (part / whole * 100.0).clamp(0.0, 100.0)
    } else {
        0.0
    };
    if share < 1.5 {
        return String::new();
    }
    format!("<svg aria-hidden=true><rect width={share:.0}% /></svg>")
}

/// All breakdowns, side by side.
pub fn breakdowns(view: &View, address: &Address) -> String {
    let shown = view.breakdowns.iter().filter(|breakdown| {
        match breakdown.dimension {
            // One gateway is no breakdown.
            Dimension::Gateway => breakdown.shown.len() > 1,
            // Neither is a channel or a job that no call tells.
            Dimension::Channel | Dimension::Job => {
                breakdown.shown.iter().any(|(value, _)| !value.is_empty())
            }
            _ => true,
        }
    });
    let tables: String = shown.map(|shown| breakdown(address, shown)).collect();
    format!(r#"<div class="cards">{tables}</div>"#)
}

fn breakdown(address: &Address, breakdown: &Breakdown) -> String {
    let (dimension, tokens) = (breakdown.dimension, breakdown.tokens);
    let title = match dimension {
        Dimension::Agent => "By agent",
        Dimension::Trigger => "By trigger",
        Dimension::CostSource => "By source of the cost",
        Dimension::Gateway => "By gateway",
        Dimension::Channel => "By channel",
        Dimension::Job => "By cron job",
        Dimension::Model => "By model",
    };
    let mut rows = String::new();
    for (value, calls) in &breakdown.shown {
        let is_unknown = dimension == Dimension::CostSource && value == "unknown";
        let class = if is_unknown { " class=warn" } else { "" };
        let _ = write!(
            rows,
            "<tr{class}><th scope=row>{}{}",
            link(address, dimension, value),
            figures(calls, tokens)
        );
    }
    if breakdown.more > 0 {
        let _ = write!(
            rows,
            "<tr><th scope=row>{} more{}",
            count(breakdown.more as i64),
            figures(&breakdown.rest, tokens)
        );
    }
    let id = dimension.name();
    format!(
        r#"<section class="card" aria-labelledby="by-{id}"><h2 id="by-{id}">{title}</h2><div class="wide" tabindex="0" role="group" aria-labelledby="by-{id}"><table><thead><tr><th scope=col>{head}<th scope=col>Requests<th scope=col>Tokens<th scope=col>Cost<tbody>{rows}</table></div></section>"#,
        head = label(dimension),
    )
}

fn figures(calls: &Brief, tokens: i64) -> String {
    format!(
        "<td>{}<td>{}{}<td>{}{}\n",
        count(calls.calls.into()),
        super::format::short(calls.tokens),
        bar(calls.tokens as f64, tokens as f64),
        cost(calls),
        unpriced(calls),
    )
}

/// Display name of a dimension.
pub const fn label(dimension: Dimension) -> &'static str {
    match dimension {
        Dimension::Model => "Model",
        Dimension::Agent => "Agent",
        Dimension::Trigger => "Trigger",
        Dimension::CostSource => "Source of cost",
        Dimension::Gateway => "Gateway",
        Dimension::Channel => "Channel",
        Dimension::Job => "Cron job",
    }
}

/// Failed calls, aborted calls, and fallback models.
pub fn errors(view: &View, address: &Address) -> String {
    let mut body = String::new();
    for failing in &view.failures.shown {
        let (failed, aborted) = (failing.failed, failing.aborted);
        let billed = failing.billed.failed.saturating_add(failing.billed.aborted);
        // Billed failed calls are among the requests, others are not.
        let tried =
            f64::from(failing.billed.calls) + (failed + aborted - f64::from(billed)).max(0.0);
        let whole = |number: f64| count(number.round() as i64);
        let share = if tried > 0.0 {
            percent((failed + aborted) / tried)
        } else {
            "–".into()
        };
        let _ = writeln!(
            body,
            "<tr><th scope=row>{}<td>{}<td>{}<td>{share}<td>{}<td>{}<td>{}",
            link(
                &Address {
                    failed: true,
                    ..address.clone()
                },
                Dimension::Model,
                &failing.model
            ),
            whole(failed),
            whole(aborted),
            count(billed.into()),
            count(failing.billed.missing_usage.into()),
            count(failing.billed.rerouted.into()),
        );
    }
    let note = match (view.failures.is_told, view.failures.more) {
        (false, _) => {
            "<p class=note>With this filter only calls that failed and were billed are known.</p>"
                .into()
        }
        (_, 0) => String::new(),
        (_, more) => format!(
            "<p class=note>{} had failures.</p>",
            counted(more as i64, "more model", "more models")
        ),
    };
    let table = if body.is_empty() {
        "<p class=note>No call failed, was stopped or came without usage.</p>".to_owned()
    } else {
        format!(
            r#"<div class="wide" tabindex="0" role="group" aria-labelledby="errors-head"><table><thead><tr><th scope=col>Model<th scope=col>Failed<th scope=col>Stopped<th scope=col>Share<th scope=col>Billed all the same<th scope=col>Usage not reported<th scope=col>Answered by another model<tbody>{body}</table></div>"#
        )
    };
    let mut turns = String::new();
    for fallback in &view.fallbacks {
        let times = counted(fallback.turns, "turn", "turns");
        let _ = write!(
            turns,
            "<li>{} failed, {} answered in {times}",
            escape(&fallback.from),
            escape(&fallback.to)
        );
    }
    let turns = if turns.is_empty() {
        String::new()
    } else {
        format!("<h3>Fallbacks</h3><ul class=\"plain\">{turns}</ul>")
    };
    format!(
        r#"<section class="card" aria-labelledby="errors-head"><h2 id="errors-head">Errors and fallbacks</h2>{table}{note}{turns}</section>"#
    )
}

/// The selection for one dimension.
pub fn choice(view: &View, address: &Address, dimension: Dimension) -> String {
    let current = address.filter.get(dimension);
    let mut options = String::new();
    let mut values: Vec<&str> = view.choices[dimension as usize]
        .iter()
        .map(String::as_str)
        .collect();
    // A bookmarked address may select a value that no longer exists.
    if let Some(value) = current.filter(|value| !values.contains(value)) {
        values.push(value);
    }
    for value in values {
        let selected = if current == Some(value) {
            " selected"
        } else {
            ""
        };
        // The element's text is the value, if they are equal.
        let sent = match value {
            "" => format!(r#" value="{UNTOLD}""#),
            // Browsers collapse white space in the values that they send.
            value
                if value.contains(is_hidden)
                    || value.split_whitespace().collect::<Vec<_>>().join(" ") != value =>
            {
                format!(r#" value="{}""#, exactly(value))
            }
            _ => String::new(),
        };
        let _ = write!(options, "<option{sent}{selected}>{}", name(value));
    }
    let id = dimension.name();
    format!(
        r#"<p><label for="f-{id}">{}</label><select id="f-{id}" name="{id}"><option value="">All{options}</select></p>"#,
        label(dimension)
    )
}
