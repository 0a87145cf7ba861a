//! The counters in Prometheus' text format, version 0.0.4: `/metrics` of the receiver and of the plugin.

pub mod counters;

use std::fmt::{Display, Write};

use self::counters::{BOUNDS, Counters, Figure, Names, Pair, Tally};

/// The format's media type.
pub const TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";
/// Calls by the value of the label `outcome`.
const OUTCOMES: [(&str, Figure); 3] = [
    ("completed", Figure::Completed),
    ("failed", Figure::Failed),
    ("aborted", Figure::Aborted),
];
/// Tokens by the value of the label `kind`: each token has one.
const KINDS: [(&str, Figure); 5] = [
    ("input", Figure::Input),
    ("cache_read", Figure::CacheRead),
    ("cache_write", Figure::CacheWrite),
    ("output", Figure::Output),
    ("reasoning", Figure::Reasoning),
];

/// Names and values of labels.
pub type Labels<'a> = Vec<(&'static str, &'a str)>;
/// Labels with the figure of their series.
type Row<'a, T> = (Labels<'a>, Pair<T>);

/// A counter's value.
trait Value: Copy + Display {}
impl Value for u64 {}
impl Value for f64 {}

/// The text of an answer.
#[derive(Debug, Default)]
pub struct Text(pub String);

impl Text {
    /// A family with one sample, without labels.
    pub fn one(&mut self, name: &str, help: &str, value: impl Display) {
        self.samples(name, help, [(Vec::new(), value)]);
    }

    /// A family with a sample for each of these labels. It is a counter where its name ends with `_total`, else a gauge.
    pub fn samples<'a, T: Display>(
        &mut self,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = (Labels<'a>, T)>,
    ) {
        let kind = match name.ends_with("_total") {
            true => "counter",
            false => "gauge",
        };
        self.family(name, kind, help);
        for (labels, value) in samples {
            self.line(name, &labels, value);
        }
    }

    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = write!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    fn line(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        self.0 += name;
        for (index, (label, text)) in labels.iter().enumerate() {
            let before = if index == 0 { '{' } else { ',' };
            let _ = write!(self.0, "{before}{label}=\"{}\"", escape(text));
        }
        let end = if labels.is_empty() { "" } else { "}" };
        let _ = writeln!(self.0, "{end} {value}");
    }

    /// A counter, and the one of what was withdrawn from it. Zeros are written too: Prometheus sees no increase in the first
    /// value of a series.
    fn pair<T: Value>(&mut self, what: &str, help: &str, rows: &[Row<T>]) {
        let name = format!("agentwatch_{what}_total");
        self.family(&name, "counter", help);
        for (labels, pair) in rows {
            self.line(&name, labels, pair.added);
        }
        let name = format!("agentwatch_withdrawn_{what}_total");
        self.family(
            &name,
            "counter",
            &format!("To subtract from agentwatch_{what}_total: figures of calls that changed after they were counted."),
        );
        for (labels, pair) in rows {
            self.line(&name, labels, pair.withdrawn);
        }
    }
}

/// A label's value with the escapes of the format.
fn escape(text: &str) -> String {
    text.replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

/// The provider of a model: the part before the first slash, empty where there is none.
pub fn provider_of(model: &str) -> &str {
    model.split_once('/').map_or("", |(provider, _)| provider)
}

fn labels(names: &Names) -> Labels<'_> {
    vec![
        ("gateway", &names.gateway),
        ("agent", &names.agent),
        ("provider", provider_of(&names.model)),
        ("model", &names.model),
    ]
}

/// A figure for each value of a label.
fn by<'a>(
    counters: &'a Counters,
    label: &'static str,
    values: &[(&'static str, Figure)],
) -> Vec<Row<'a, u64>> {
    let rows = counters.calls.iter().flat_map(|(names, tally)| {
        values.iter().map(move |(value, figure)| {
            let mut labels = labels(names);
            if !label.is_empty() {
                labels.push((label, value));
            }
            (labels, tally.of(*figure))
        })
    });
    rows.collect()
}

/// The cost by its source.
fn cost_rows<'a>(names: &'a Names, tally: &'a Tally) -> impl Iterator<Item = Row<'a, f64>> {
    tally.cost_usd.iter().map(move |(source, cost)| {
        let mut labels = labels(names);
        labels.push(("cost_source", source));
        (labels, *cost)
    })
}

/// The families of calls, errors, and of what is left out.
pub fn calls(text: &mut Text, counters: &Counters) {
    text.pair(
        "requests",
        "Model calls, since the start of the process.",
        &by(counters, "outcome", &OUTCOMES),
    );
    text.pair(
        "tokens",
        "Tokens. Each has one kind: input excludes cached tokens, output excludes reasoning.",
        &by(counters, "kind", &KINDS),
    );
    text.pair(
        "cache_told_tokens",
        "Input tokens of calls that report caching: the base of the share of cache reads.",
        &by(counters, "", &[("", Figure::CacheTold)]),
    );
    text.pair(
        "unpriced_requests",
        "Model calls without a known cost; their cost counts as 0.",
        &by(counters, "", &[("", Figure::Unpriced)]),
    );
    let costs = |(names, tally)| cost_rows(names, tally);
    let rows: Vec<_> = counters.calls.iter().flat_map(costs).collect();
    text.pair("cost_usd", "Cost in US dollars.", &rows);
    durations(text, counters);
    errors(text, counters);
    let help =
        "Calls and errors that are counted under the name (other): more names than the bound.";
    text.one(
        "agentwatch_left_out_requests_total",
        help,
        counters.left_out,
    );
}

/// When the newest call ended, in seconds since 1970.
pub fn last_call(text: &mut Text, seconds: Option<f64>) {
    let name = "agentwatch_last_request_timestamp_seconds";
    let help = "When the newest model call ended.";
    text.samples(name, help, seconds.map(|seconds| (Vec::new(), seconds)));
}

fn durations(text: &mut Text, counters: &Counters) {
    let name = "agentwatch_request_duration_seconds";
    text.family(name, "histogram", "Duration of model calls.");
    for ((gateway, model), durations) in &counters.durations {
        let labels = [
            ("gateway", gateway.as_str()),
            ("provider", provider_of(model)),
            ("model", model),
        ];
        let mut calls = 0_u64;
        let bounds = BOUNDS.iter().map(f64::to_string).chain(["+Inf".to_owned()]);
        for (bound, count) in bounds.zip(durations.buckets) {
            calls = calls.saturating_add(count);
            let labels = [&labels[..], &[("le", &bound)]].concat();
            text.line(&format!("{name}_bucket"), &labels, calls);
        }
        text.line(&format!("{name}_sum"), &labels, durations.sum);
        text.line(&format!("{name}_count"), &labels, calls);
    }
}

fn errors(text: &mut Text, counters: &Counters) {
    let name = "agentwatch_model_errors_total";
    let help = "Model calls that failed or were stopped, billed or not, as the plugin counts them.";
    text.family(name, "counter", help);
    for ((agent, model, is_aborted), errors) in &counters.errors {
        let outcome = if *is_aborted { "aborted" } else { "failed" };
        let labels = [
            ("agent", agent.as_str()),
            ("provider", provider_of(model)),
            ("model", model),
            ("outcome", outcome),
        ];
        text.line(name, &labels, errors);
    }
}
