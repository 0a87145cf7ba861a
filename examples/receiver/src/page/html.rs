//! Statistics → HTML. Text goes through [`escape`], numbers are written by [`format`](super::format).

use super::format::{count, duration, escape, money, range, short};
use crate::store::stats::ModelStats;

/// The ranges to choose from: hours and what they are called.
const RANGES: [(i64, &str, &str); 5] = [
    (1, "1h", "1 hour"),
    (6, "6h", "6 hours"),
    (24, "24h", "24 hours"),
    (168, "7d", "7 days"),
    (720, "30d", "30 days"),
];

/// The Models page.
pub fn models(models: &[ModelStats], hours: i64, signed_in: bool) -> String {
    let total = Total::of(models);
    let rows: String = models.iter().map(|model| row(model, &total)).collect();
    let (shown, empty) = if models.is_empty() {
        (" hidden", "")
    } else {
        ("", " hidden")
    };
    let unknown = if total.unknown == 0 { " hidden" } else { "" };
    let sign_out = if signed_in {
        r#"<a href="/logout">Sign out</a>"#
    } else {
        ""
    };
    let content = format!(
        r#"<header>
<h1>Models</h1>
<nav aria-label="Time range">{ranges}</nav>
<p class="fresh"><span id="dot" aria-hidden="true"></span><span id="updated">live</span></p>
</header>
<p id="notice" role="status" aria-live="polite"></p>
<main data-hours="{hours}">
<dl class="summary">{summary}</dl>
<div id="calls"{shown}>
<table role="table">
<caption>Calls by model in the last {window}, highest cost first</caption>
<thead role="rowgroup"><tr role="row"><th role="columnheader" scope="col">Model</th><th role="columnheader" scope="col">Requests</th><th role="columnheader" scope="col">Prompt</th><th role="columnheader" scope="col">Completion</th><th role="columnheader" scope="col">Total</th><th role="columnheader" scope="col">Cost</th><th role="columnheader" scope="col">Average</th><th role="columnheader" scope="col">p50</th><th role="columnheader" scope="col">p95</th><th role="columnheader" scope="col">Share of tokens</th></tr></thead>
<tbody role="rowgroup" id="rows">{rows}</tbody>
</table>
<p id="unknown"{unknown}>Some calls came without a known price. They are counted, and add nothing to the cost.</p>
</div>
<section id="empty"{empty}>
<h2>No model calls in the last {window}</h2>
<p>Calls appear here the moment they arrive. To see one now:</p>
<pre tabindex="0"><code>curl <span id="origin">http://127.0.0.1:8470</span>/api/v1/ingest/model_usage \
  -H 'content-type: application/json' {authorization}\
  -d '{{"model":"example/model","prompt_tokens":1200,"completion_tokens":350,
       "cost_usd":0.0042,"latency_ms":1840,"agent_name":"main"}}'</code></pre>
</section>
</main>
<footer><span>AgentWatch receiver {version}</span>{sign_out}</footer>
<script src="/assets/models.js" defer></script>"#,
        ranges = ranges(hours),
        summary = summary(&total, models.len()),
        window = range(hours),
        version = env!("CARGO_PKG_VERSION"),
        // The token itself is never written into a page.
        authorization = if signed_in {
            "-H \"authorization: Bearer $AGENTWATCH_TOKEN\" "
        } else {
            ""
        },
    );
    document("Models", "models", &content)
}

/// The sign-in form.
pub fn sign_in(next: &str, refused: bool) -> String {
    let (error, describe) = if refused {
        (
            r#"<p class="error" role="alert" id="error">That is not the token.</p>"#,
            r#" aria-describedby="error""#,
        )
    } else {
        ("", "")
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
    document("Sign in", "sign-in", &content)
}

fn document(title: &str, class: &str, content: &str) -> String {
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
{content}
</body>
</html>
"#
    )
}

fn ranges(hours: i64) -> String {
    let link = |(range, short, long): &(i64, &str, &str)| {
        let current = if *range == hours {
            r#" aria-current="page""#
        } else {
            ""
        };
        format!(r#"<a href="/models?hours={range}" aria-label="{long}"{current}>{short}</a>"#)
    };
    RANGES.iter().map(link).collect()
}

/// What all models come to together.
#[derive(Default)]
struct Total {
    requests: u64,
    prompt: i64,
    completion: i64,
    cost: f64,
    unknown: u64,
    latency: Option<f64>,
}

impl Total {
    fn of(models: &[ModelStats]) -> Self {
        let mut total = Self::default();
        let (mut timed, mut waited) = (0, 0.0);
        for model in models {
            total.requests += model.requests;
            total.prompt = total.prompt.saturating_add(model.prompt_tokens);
            total.completion = total.completion.saturating_add(model.completion_tokens);
            total.cost += model.cost_usd;
            total.unknown += model.unknown_cost_requests;
            timed += model.timed_requests;
            waited += model.avg_latency_ms.unwrap_or(0.0) * model.timed_requests as f64;
        }
        total.latency = (timed > 0).then(|| waited / timed as f64);
        total
    }

    fn tokens(&self) -> i64 {
        self.prompt.saturating_add(self.completion)
    }
}

fn summary(total: &Total, models: usize) -> String {
    let figure = |name: &str, label: &str, value: String, text: String, note: &str| {
        format!(
            r#"<div><dt>{label}</dt><dd data-summary="{name}" data-value="{value}"><span>{text}</span><small>{note}</small></dd></div>"#
        )
    };
    let whole =
        |name, label, number: i64| figure(name, label, number.to_string(), short(number), "");
    let average = total.latency.map(|ms| ms.to_string()).unwrap_or_default();
    [
        figure(
            "total_cost_usd",
            "Cost",
            total.cost.to_string(),
            money(total.cost),
            &unpriced(total.unknown, total.requests),
        ),
        whole(
            "requests",
            "Requests",
            i64::try_from(total.requests).unwrap_or(i64::MAX),
        ),
        whole("total_tokens", "Total tokens", total.tokens()),
        whole("prompt_tokens", "Prompt tokens", total.prompt),
        whole("completion_tokens", "Completion tokens", total.completion),
        figure(
            "avg_latency_ms",
            "Average latency",
            average,
            duration(total.latency),
            "",
        ),
        whole(
            "models",
            "Models",
            i64::try_from(models).unwrap_or(i64::MAX),
        ),
    ]
    .concat()
}

/// How many calls have no price; empty where all have.
fn unpriced(unknown: u64, requests: u64) -> String {
    if unknown == 0 {
        return String::new();
    }
    let whole = |number: u64| count(i64::try_from(number).unwrap_or(i64::MAX));
    format!("{} of {} unpriced", whole(unknown), whole(requests))
}

fn row(model: &ModelStats, total: &Total) -> String {
    let name = escape(&model.model);
    let cell = |field: &str, label: &str, value: String, text: String, note: &str| {
        format!(
            r#"<td role="cell" data-field="{field}" data-label="{label}" data-value="{value}"><span>{text}</span><small>{note}</small></td>"#
        )
    };
    let whole =
        |field, label, number: i64| cell(field, label, number.to_string(), count(number), "");
    let time = |field, label, ms: Option<f64>| {
        cell(
            field,
            label,
            ms.map(|ms| ms.to_string()).unwrap_or_default(),
            duration(ms),
            "",
        )
    };
    let cells = [
        whole(
            "requests",
            "Requests",
            i64::try_from(model.requests).unwrap_or(i64::MAX),
        ),
        whole("prompt_tokens", "Prompt", model.prompt_tokens),
        whole("completion_tokens", "Completion", model.completion_tokens),
        whole("total_tokens", "Total", model.total_tokens()),
        cell(
            "total_cost_usd",
            "Cost",
            model.cost_usd.to_string(),
            money(model.cost_usd),
            &unpriced(model.unknown_cost_requests, model.requests),
        ),
        time("avg_latency_ms", "Average", model.avg_latency_ms),
        time("p50_latency_ms", "p50", model.p50_latency_ms),
        time("p95_latency_ms", "p95", model.p95_latency_ms),
    ]
    .concat();
    let share = share(model.total_tokens(), total.tokens());
    format!(
        r#"<tr role="row" data-model="{name}"><th role="rowheader" scope="row">{name}</th>{cells}<td role="cell" class="share" data-label="Share of tokens"><span>{share:.1}%</span><svg viewBox="0 0 100 1" preserveAspectRatio="none" aria-hidden="true"><rect width="{share:.2}" height="1"/></svg></td></tr>"#
    )
}

/// A part of a whole, from 0 to 100.
fn share(part: i64, whole: i64) -> f64 {
    if whole <= 0 {
        0.0
    } else {
        (part as f64 / whole as f64 * 100.0).clamp(0.0, 100.0)
    }
}
