//! The page's frame. Texts are escaped by [`escape`], numbers are formatted by [`format`](super::format).

use super::address::{Address, RANGES, stamp};
use super::chart::{self, Figure};
use super::format::{count, counted, duration, escape, short};
use super::tables;
use super::view::View;
use super::{details, format, zone};
use crate::clock::Micros;
use crate::error::ApiError;
use crate::store::brief::Brief;
use crate::store::rollup::Count;
use crate::store::series::Dimension;

/// The Models page up to the end of its head, which needs no data: a browser renders it while the database is read.
pub fn beginning(address: &Address, now: Micros) -> String {
    let header = format!(
        r##"<a class="skip" href="#figures">Skip to the figures</a>
<header>
<h1>Models</h1>
<nav aria-label="Time range">{ranges}</nav>
<p class="fresh"><span id="dot" aria-hidden="true"></span><span id="updated">as of <time datetime="{now}">{time}</time></span></p>
</header>
<p id="notice" role="status"></p>
"##,
        ranges = ranges(address),
        now = stamp(now),
        time = address.time(now, "%H:%M:%S"),
    );
    open("Models", "models") + &header
}

/// The rest of the page.
pub fn rest(view: &View, address: &Address, signed_in: bool) -> String {
    let sign_out = if signed_in {
        // A link could be opened by a page of another site, or by a browser that prefetches.
        r#"<form method="post" action="/logout"><button class="link">Sign out</button></form>"#
    } else {
        ""
    };
    let content = format!(
        r##"<main data-events="/models/events">
{filter}
{body}
</main>
<footer><span>AgentWatch receiver {version}</span><span>Times are <span id="zone">{zone}</span>. <button type="button" id="other-zone" class="link" hidden></button></span><span>Download: {downloads}</span>{sign_out}</footer>
<script src="/assets/models.js" defer></script>"##,
        filter = filter(view, address),
        body = if view.models.is_empty() && view.failures.shown.is_empty() {
            // Allowances and the month's forecast do not depend on the range.
            empty(address, signed_in) + &super::spending::spending(view, address)
        } else {
            figures(view, address)
        },
        zone = zone::name(&address.zone),
        version = env!("CARGO_PKG_VERSION"),
        downloads = downloads(address),
    );
    content + END
}

/// The rest of the page after an error.
pub fn unavailable(error: &ApiError) -> String {
    let says = match error {
        ApiError::TooLong(seconds) => format!(
            "Reading took longer than {seconds} s. Choose a shorter range, or reload the page to try again."
        ),
        ApiError::Overloaded => {
            "Too many pages are read at once. Reload the page in some seconds.".to_owned()
        }
        _ => "The store is unavailable; the receiver's log says why. Reload the page to try again."
            .to_owned(),
    };
    format!(r#"<main><p class="banner" role="alert">{says}</p></main>{END}"#)
}

fn figures(view: &View, address: &Address) -> String {
    let models = match address.filter.get(Dimension::Model) {
        // A page of one model is opened for its calls.
        Some(_) => details::details(view, address) + &tables::models(view, address),
        None => tables::models(view, address) + &details::details(view, address),
    };
    format!(
        r#"<dl class="summary" id="figures" tabindex="-1">{summary}</dl>
{unknown}<div class="charts" id="charts">{tokens}{cost}{legend}{days}</div>
{spending}
{models}
{breakdowns}
{errors}"#,
        summary = summary(view),
        unknown = unknown(view),
        tokens = chart::chart(view, Figure::Tokens),
        cost = chart::chart(view, Figure::Cost),
        legend = chart::legend(view, address),
        days = chart::note(view, address),
        spending = super::spending::spending(view, address),
        breakdowns = tables::breakdowns(view, address),
        errors = tables::errors(view, address),
    )
}

fn empty(address: &Address, signed_in: bool) -> String {
    let window = escape(&address.says());
    if !address.filter.is_open() {
        let href = escape(
            &Address {
                filter: Default::default(),
                ..address.clone()
            }
            .query(),
        );
        return format!(
            r#"<section id="empty"><h2 id="figures" tabindex="-1">No model calls in {window} with this filter</h2><p><a href="{href}">Show all calls</a></p></section>"#
        );
    }
    // The token itself is never written into a page.
    let authorization = if signed_in {
        "-H \"authorization: Bearer $AGENTWATCH_TOKEN\" "
    } else {
        ""
    };
    format!(
        r#"<section id="empty"><h2 id="figures" tabindex="-1">No model calls in {window}</h2>
<p>Calls appear here the moment they arrive. To see one now:</p>
<pre tabindex="0"><code>curl <span id="origin">http://127.0.0.1:8470</span>/api/v1/ingest/model_usage \
  -H 'content-type: application/json' {authorization}\
  -d '{{"model":"example/model","prompt_tokens":1200,"completion_tokens":350,
       "cost_usd":0.0042,"latency_ms":1840,"agent_name":"main"}}'</code></pre></section>"#
    )
}

fn ranges(address: &Address) -> String {
    let link = |(range, short, long): &(i64, &str, &str)| {
        let is_current = address.from.is_none() && *range == address.hours;
        let current = if is_current {
            r#" aria-current="page""#
        } else {
            ""
        };
        let other = Address {
            hours: *range,
            from: None,
            to: None,
            call: None,
            ..address.clone()
        };
        format!(
            r#"<a href="{}" aria-label="{short}, {long}"{current}>{short}</a>"#,
            escape(&other.query())
        )
    };
    RANGES.iter().map(link).collect()
}

/// A form that opens an address, without a script.
fn filter(view: &View, address: &Address) -> String {
    let set = Dimension::ALL
        .iter()
        .filter(|dimension| address.filter.get(**dimension).is_some())
        .count()
        + usize::from(address.from.is_some());
    let (open, note) = match set {
        0 => ("", String::new()),
        1 => (" open", " (1 set)".into()),
        more => (" open", format!(" ({more} set)")),
    };
    let choices: String = [
        Dimension::Model,
        Dimension::Agent,
        Dimension::Gateway,
        Dimension::Channel,
        Dimension::Job,
        Dimension::Trigger,
        Dimension::CostSource,
    ]
    .into_iter()
    .map(|dimension| tables::choice(view, address, dimension))
    .collect();
    let zone = zone::name(&address.zone);
    let instant = |name: &str, label: &str, at: Option<i64>| {
        let value = at
            .map(|at| address.time(at, "%Y-%m-%dT%H:%M:%S"))
            .unwrap_or_default();
        format!(
            r#"<p><label for="f-{name}">{label}, {zone}</label><input id="f-{name}" name="{name}" type="datetime-local" value="{value}"></p>"#
        )
    };
    let clear = if set > 0 {
        let clean = Address {
            hours: address.hours,
            ..Address::default()
        };
        format!(r#"<a href="{}">Clear</a>"#, escape(&clean.query()))
    } else {
        String::new()
    };
    format!(
        r#"<details id="filter"{open}><summary>Filter{note}</summary><form method="get" action="/models"><input type="hidden" name="hours" value="{hours}">{choices}{from}{to}<p class="act"><button>Apply</button>{clear}</p></form></details>"#,
        hours = address.hours,
        from = instant("from", "From", address.from),
        to = instant("to", "To", address.to),
    )
}

fn downloads(address: &Address) -> String {
    let query = escape(
        &Address {
            calls: false,
            call: None,
            ..address.clone()
        }
        .query(),
    );
    format!(
        r#"models as <a href="/models/stats.csv{query}">CSV</a> or <a href="/models/stats.json{query}">JSON</a>, calls as <a href="/models/calls.csv{query}">CSV</a> or <a href="/models/calls.json{query}">JSON</a>, costs as <a href="/models/focus.csv{query}">FOCUS</a>"#
    )
}

fn summary(view: &View) -> String {
    let total = &view.total;
    let figure = |name: &str, label: &str, text: String, note: String| {
        let note = if note.is_empty() {
            note
        } else {
            format!("<small>{note}</small>")
        };
        format!(
            r#"<div><dt>{label}</dt><dd data-summary="{name}"><span>{text}</span>{note}</dd></div>"#
        )
    };
    let timed = total.of(Count::Timed);
    let average = (timed > 0).then(|| total.latency_ms / timed as f64);
    let (failed, aborted) = (view.failures.failed, view.failures.aborted);
    let whole = |number: f64| count(number.round() as i64);
    let unknown = match total.of(Count::UnknownCost) {
        0 => String::new(),
        unknown => format!(
            "{} of {} unpriced",
            count(unknown),
            count(total.of(Count::Calls))
        ),
    };
    let stopped = if aborted > 0.0 {
        format!("{} stopped", whole(aborted))
    } else {
        String::new()
    };
    let read = match total.of(Count::CacheRead) {
        0 => String::new(),
        read => format!("{} tokens read", short(read)),
    };
    let prompt = format!(
        "{} prompt, {} completion",
        short(total.of(Count::Prompt)),
        short(total.of(Count::Completion))
    );
    [
        figure(
            "total_cost_usd",
            "Cost",
            tables::cost(&Brief::of(total)),
            unknown,
        ),
        figure(
            "requests",
            "Requests",
            short(total.of(Count::Calls)),
            String::new(),
        ),
        figure("total_tokens", "Tokens", short(total.tokens()), prompt),
        figure("cached", "Cache hits", tables::cached(total), read),
        figure(
            "avg_latency_ms",
            "Average latency",
            duration(average),
            String::new(),
        ),
        figure("failed", "Failed", whole(failed), stopped),
        figure(
            "models",
            "Models",
            count(view.models_in_all as i64),
            String::new(),
        ),
    ]
    .concat()
}

/// A note about missing costs precedes all costs.
fn unknown(view: &View) -> String {
    let (unknown, calls) = (
        view.total.of(Count::UnknownCost),
        view.total.of(Count::Calls),
    );
    if unknown == 0 {
        return String::new();
    }
    format!(
        r#"<p id="unknown" class="banner">{} of {} ({}) {}</p>
"#,
        count(unknown),
        counted(calls, "call", "calls"),
        format::percent(unknown as f64 / calls.max(1) as f64),
        if unknown == 1 {
            "has no known price. It is counted, and adds nothing to the cost."
        } else {
            "have no known price. They are counted, and add nothing to the cost."
        }
    )
}

/// The sign-in form.
pub fn sign_in(next: &str, problem: Option<&str>) -> String {
    let (error, describe) = match problem {
        Some(problem) => (
            format!(
                r#"<p class="error" role="alert" id="error">{}</p>"#,
                escape(problem)
            ),
            r#" aria-describedby="error""#,
        ),
        None => (String::new(), ""),
    };
    let content = format!(
        r#"<main>
<form method="post" action="/login">
<h1>Models</h1>
<p>This receiver asks for its token.</p>
{error}<label for="token">Token</label>
<input id="token" name="token" type="password" autocomplete="current-password" required autofocus{describe}>
<input type="hidden" name="next" value="{next}">
<button>Sign in</button>
</form>
</main>"#,
        next = escape(next),
    );
    open("Sign in", "sign-in") + &content + END
}

fn open(title: &str, class: &str) -> String {
    format!(
        r#"<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title} · AgentWatch receiver</title>
<link rel="icon" href="/assets/icon.svg">
<link rel="stylesheet" href="/assets/models.css">
</head>
<body class="{class}">
"#
    )
}

const END: &str = "\n</body>\n</html>\n";
