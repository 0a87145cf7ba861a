//! Metrics and spans against the registry files of OpenTelemetry's GenAI conventions, in both forms of OTLP. The facts in
//! `tests/fixtures/semconv` are of the conventions' own model, and name its version.

use std::collections::{BTreeMap, BTreeSet};

use agentwatch_openclaw::activity::records::Written;
use agentwatch_openclaw::delivery::otlp::{Conventions, Exporter, Form, Resource, settings};
use agentwatch_openclaw::domain::call::{
    Cost, CostSource, IdMint, Latency, LatencySource, ModelCall, Origin, Outcome, Usage,
};
use agentwatch_openclaw::journal::{self, format_v1};
use agentwatch_openclaw::sources::facts::Scalar;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value as Told};
use opentelemetry_proto::tonic::metrics::v1::{Metric, metric::Data, number_data_point};
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use serde_json::Value;

const START: u64 = 1_795_000_000_000;
const ALL: [Conventions; 3] = [
    Conventions::Released,
    Conventions::Latest,
    Conventions::Both,
];

fn facts(name: &str) -> Value {
    let path = format!("../tests/fixtures/semconv/{name}.json");
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn released() -> Value {
    facts("v1.41.1")
}

fn latest() -> Value {
    facts("genai-066d4a7f")
}

/// Calls with each figure told, with none, failed and aborted.
fn calls() -> Vec<ModelCall> {
    let mut mint = IdMint::new(7);
    let usage = Usage {
        input: 10,
        output: 40,
        cache_read: 20,
        cache_write: 30,
        reasoning: 15,
    };
    let mut call =
        |provider: &str, usage: Option<Usage>, outcome, ttft_ms: Option<f64>| ModelCall {
            id: mint.mint(START),
            ended_ms: START,
            provider: provider.into(),
            model: "m".into(),
            agent: Some("main".into()),
            session_key: Some("k".into()),
            run_id: None,
            trigger: None,
            origin: Origin::default(),
            prompt: None,
            prompt_usd: None,
            cache_usd: None,
            operation: Default::default(),
            usage,
            cost: Cost {
                usd: if usage.is_some() { 0.5 } else { 0.0 },
                source: match usage {
                    Some(_) => CostSource::Table,
                    None => CostSource::Unknown,
                },
            },
            latency: Some(Latency {
                ms: 640.0,
                source: LatencySource::Measured,
            }),
            ttfb_ms: ttft_ms.map(|ms| ms - 1.0),
            ttft_ms,
            request_id: None,
            response_model: Some("m-1".into()),
            outcome,
            stored: false,
        };
    vec![
        call("openai", Some(usage), Outcome::Completed, Some(101.0)),
        call("azure-openai-responses", Some(usage), Outcome::Failed, None),
        call("a-server-of-my-own", None, Outcome::Aborted, None),
    ]
}

fn exporter(form: Form) -> Exporter {
    let gateway = "berlin".into();
    Exporter::new(&[], Resource { gateway }, START).with_form(form)
}

fn form(protobuf: bool, conventions: Conventions) -> Form {
    Form {
        protobuf,
        conventions,
        ..Form::default()
    }
}

fn metrics_of(form: Form, calls: &[ModelCall]) -> ExportMetricsServiceRequest {
    let mut bytes = journal::begin_file();
    for call in calls {
        journal::append(&mut bytes, &format_v1::call_bytes(call));
    }
    let mut exporter = exporter(form);
    exporter.calls("model-calls-1", &bytes);
    let body = exporter.metrics(START + 60_000).unwrap();
    match form.protobuf {
        true => ExportMetricsServiceRequest::decode(&*body).unwrap(),
        false => serde_json::from_slice(&body).unwrap(),
    }
}

const TRACE: &str = r#"{"agent_name":"main","name":"invoke_agent main","spans":[
    {"id":"000000000000000a","trace_id":"0123456789abcdef0123456789abcdef","parent_id":null,"name":"invoke_agent main",
     "status":"completed","started_at":"2026-11-18T11:06:40.000+00:00","ended_at":"2026-11-18T11:06:41.000+00:00",
     "metadata":{"gateway":"berlin","session_key":"k","spans_left_out":3,"channel":"telegram"}},
    {"id":"000000000000000b","trace_id":"0123456789abcdef0123456789abcdef","parent_id":"000000000000000a","name":"chat m",
     "status":"failed","started_at":"2026-11-18T11:06:40.000+00:00","ended_at":"2026-11-18T11:06:40.500+00:00",
     "metadata":{"gen_ai.operation.name":"chat","gen_ai.provider.name":"azure-openai-responses","gen_ai.request.model":"m",
       "gen_ai.response.model":"m-1","gen_ai.usage.input_tokens":60,"gen_ai.usage.output_tokens":40,
       "gen_ai.usage.cache_read.input_tokens":20,"gen_ai.usage.cache_creation.input_tokens":30,
       "gen_ai.usage.reasoning.output_tokens":15,"gen_ai.response.time_to_first_chunk":1,"cost_usd":2,"call_id":"c"}},
    {"id":"000000000000000d","trace_id":"0123456789abcdef0123456789abcdef","parent_id":"000000000000000a","name":"text_completion m",
     "status":"completed","started_at":"2026-11-18T11:06:40.000+00:00","ended_at":"2026-11-18T11:06:40.500+00:00",
     "metadata":{"gen_ai.operation.name":"text_completion","gen_ai.provider.name":"moonshot","gen_ai.request.model":"m"}},
    {"id":"000000000000000c","trace_id":"0123456789abcdef0123456789abcdef","parent_id":"000000000000000a",
     "name":"execute_tool read","status":"failed","started_at":"2026-11-18T11:06:40.500+00:00",
     "ended_at":"2026-11-18T11:06:41.000+00:00","metadata":{"gen_ai.operation.name":"execute_tool","gen_ai.tool.name":"read"}}]}"#;

fn spans_of(form: Form) -> Vec<Span> {
    let mut bytes = journal::begin_file();
    let record = Written::new(0, TRACE).unwrap();
    journal::append(&mut bytes, &format_v1::record_bytes(&record));
    let (_, batch) = exporter(form).traces("records-1", &bytes).unwrap();
    let body = batch.unwrap().body;
    let request: ExportTraceServiceRequest = match form.protobuf {
        true => ExportTraceServiceRequest::decode(&*body).unwrap(),
        false => serde_json::from_slice(&body).unwrap(),
    };
    request.resource_spans[0].scope_spans[0].spans.clone()
}

fn of_metrics(request: &ExportMetricsServiceRequest) -> &[Metric] {
    &request.resource_metrics[0].scope_metrics[0].metrics
}

fn told(attributes: &[KeyValue]) -> BTreeMap<&str, &Told> {
    let pair = |one| {
        let KeyValue { key, value, .. }: &KeyValue = one;
        (
            key.as_str(),
            value.as_ref().unwrap().value.as_ref().unwrap(),
        )
    };
    let all: BTreeMap<&str, &Told> = attributes.iter().map(pair).collect();
    assert_eq!(all.len(), attributes.len(), "no attribute is told twice");
    all
}

/// Attributes that are required where they are known, and the test's calls and spans know them.
const KNOWN: [&str; 3] = [
    "gen_ai.agent.name",
    "gen_ai.conversation.id",
    "gen_ai.request.model",
];

/// Asserts that all required attributes are there, and that each other one is of these conventions or in an own namespace.
fn assert_attributes(what: &str, attributes: &[KeyValue], known: &[&Value], failed: bool) {
    let all = told(attributes);
    let is_streamed = all.contains_key("gen_ai.response.time_to_first_chunk");
    for conventions in known {
        for (name, level) in conventions.as_object().unwrap() {
            let is_due = match &**name {
                _ if level == "required" => true,
                "error.type" => failed,
                "gen_ai.request.stream" => is_streamed,
                name => level == "conditionally_required" && KNOWN.contains(&name),
            };
            assert!(!is_due || all.contains_key(&**name), "{what} has {name}");
        }
    }
    for name in all.keys() {
        let is_known = known.iter().any(|known| known.get(name).is_some());
        // The conventions have the agent's name on other spans, and metrics may have more attributes.
        let is_own = name.starts_with("agentwatch.") || *name == "gen_ai.agent.name";
        assert!(is_known || is_own, "{what} has {name}, which is unknown");
    }
}

fn assert_members(facts: &Value, attributes: &[KeyValue]) {
    for (name, value) in told(attributes) {
        // Own values are allowed for providers, so their names by OpenClaw must not look like the conventions'.
        if let (Some(members), Told::StringValue(value)) = (facts["members"].get(name), value) {
            let is_member = members.as_array().unwrap().iter().any(|one| one == value);
            // `moonshot_ai` is of the newer conventions, and an own value in the released ones.
            let own = ["a-server-of-my-own", "moonshot_ai"].contains(&&**value);
            assert!(is_member || own, "{name} is {value}");
        }
    }
}

#[test]
fn each_metric_has_the_name_unit_kind_and_required_attributes_of_its_conventions() {
    let (released, latest) = (released(), latest());
    for conventions in ALL {
        let sources: &[&Value] = match conventions {
            Conventions::Released => &[&released],
            Conventions::Latest => &[&latest],
            Conventions::Both => &[&released, &latest],
        };
        let request = metrics_of(form(true, conventions), &calls());
        let mut found = BTreeSet::new();
        for metric in of_metrics(&request) {
            let points: Vec<&[KeyValue]> = match metric.data.as_ref().unwrap() {
                Data::Histogram(histogram) => {
                    let points = histogram.data_points.iter();
                    points.map(|point| &*point.attributes).collect()
                }
                Data::Sum(sum) => {
                    assert!(sum.is_monotonic);
                    let points = sum.data_points.iter();
                    points.map(|point| &*point.attributes).collect()
                }
                other => panic!("{other:?}"),
            };
            if metric.name.starts_with("agentwatch.") {
                continue;
            }
            let source = sources
                .iter()
                .find(|source| source["metrics"].get(&metric.name).is_some());
            let source = source.unwrap_or_else(|| panic!("{} is unknown", metric.name));
            let known = &source["metrics"][&metric.name];
            let kind = match metric.data {
                Some(Data::Histogram(_)) => "histogram",
                _ => "counter",
            };
            assert_eq!(known["unit"], metric.unit, "{}", metric.name);
            assert_eq!(known["instrument"], kind, "{}", metric.name);
            for attributes in &points {
                let known = [&known["attributes"]];
                assert_attributes(&metric.name, attributes, &known, false);
                assert_members(&released, attributes);
                assert_members(source, attributes);
            }
            // Of the calls one completed, one failed and one was stopped, which has no usage.
            let ends = points
                .iter()
                .map(|attributes| match told(attributes).get("error.type") {
                    Some(Told::StringValue(error)) => error,
                    _ => "",
                });
            let expected: &[&str] = match known["attributes"].get("error.type") {
                None => &[""],
                Some(_) if metric.name.ends_with(".duration") => &["", "_OTHER", "aborted"],
                Some(_) => &["", "_OTHER"],
            };
            let ends: BTreeSet<&str> = ends.collect();
            assert!(ends.iter().eq(expected), "{}: {ends:?}", metric.name);
            found.insert(metric.name.clone());
        }
        let expected = match conventions {
            Conventions::Released => 3,
            Conventions::Latest => 9,
            Conventions::Both => 12,
        };
        assert_eq!(found.len(), expected, "{found:?}");
    }
}

/// A span's name by a template, such as `execute_tool {gen_ai.tool.name}`.
fn name_by(template: &str, attributes: &BTreeMap<&str, &Told>) -> String {
    let mut name = template.to_owned();
    for (key, value) in attributes {
        if let Told::StringValue(value) = value {
            name = name.replace(&["{", key, "}"].concat(), value);
        }
    }
    name
}

/// The row of a span in the facts. All operations that ask a model for an answer are one kind of span.
fn row<'a>(facts: &'a Value, operation: &str) -> &'a Value {
    let kind = match operation {
        "text_completion" => "chat",
        other => other,
    };
    &facts["spans"][kind]
}

#[test]
fn each_span_has_the_name_kind_and_required_attributes_of_its_conventions() {
    let (released, latest) = (released(), latest());
    for conventions in ALL {
        let sources: &[&Value] = match conventions {
            Conventions::Released => &[&released],
            Conventions::Latest => &[&latest],
            Conventions::Both => &[&released, &latest],
        };
        let spans = spans_of(form(true, conventions));
        assert_eq!(spans.len(), 4);
        for span in &spans {
            let all = told(&span.attributes);
            let Told::StringValue(operation) = all["gen_ai.operation.name"] else {
                panic!("{all:?}");
            };
            let what = format!("{conventions:?}: {operation}");
            let kind = match span.kind {
                1 => "internal",
                3 => "client",
                other => panic!("{other}"),
            };
            let attributes = &span.attributes;
            for facts in sources {
                assert_eq!(row(facts, operation)["kind"], kind, "{what}");
                assert_members(facts, attributes);
            }
            let rows = sources.iter().map(|facts| row(facts, operation));
            let known: Vec<&Value> = rows.map(|row| &row["attributes"]).collect();
            assert_attributes(&what, attributes, &known, span.status.is_some());
            let template = row(&latest, operation)["name"].as_str().unwrap();
            assert_eq!(span.name, name_by(template, &all));
            for (name, value) in all {
                let kind = match value {
                    Told::StringValue(_) => "string",
                    Told::IntValue(_) => "int",
                    Told::DoubleValue(_) => "double",
                    Told::BoolValue(_) => "boolean",
                    other => panic!("{other:?}"),
                };
                for facts in sources {
                    let known = facts["types"].get(name);
                    assert!(known.is_none_or(|known| known == kind), "{what}: {name}");
                }
            }
        }
    }
}

#[test]
fn the_newer_conventions_rename_what_is_written_to_a_cache() {
    let names = |conventions| -> Vec<bool> {
        let spans = spans_of(form(true, conventions));
        let (root, chat) = (told(&spans[0].attributes), told(&spans[1].attributes));
        vec![
            chat.contains_key("gen_ai.usage.cache_creation.input_tokens"),
            chat.contains_key("gen_ai.usage.cache_write.input_tokens"),
            root.contains_key("gen_ai.provider.name"),
        ]
    };
    assert_eq!(names(Conventions::Released), [true, false, true]);
    assert_eq!(names(Conventions::Latest), [false, true, false]);
    assert_eq!(names(Conventions::Both), [true, true, true]);
}

#[test]
fn protobuf_and_json_tell_the_same() {
    for conventions in ALL {
        assert_eq!(
            metrics_of(form(true, conventions), &calls()),
            metrics_of(form(false, conventions), &calls())
        );
        let [binary, text] = [true, false].map(|protobuf| spans_of(form(protobuf, conventions)));
        assert_eq!(binary, text);
        assert_eq!(binary[0].trace_id[..2], [0x01, 0x23]);
        assert_eq!(binary[1].parent_span_id, binary[0].span_id);
    }
}

#[test]
fn counters_by_kind_of_token_have_the_sums_and_no_untold_zero() {
    let both = form(true, Conventions::Both);
    let request = metrics_of(both, &calls());
    let sum = |name: &str| -> i64 {
        let metric = of_metrics(&request).iter().find(|one| one.name == name);
        match metric.and_then(|metric| metric.data.as_ref()) {
            Some(Data::Sum(sum)) => sum
                .data_points
                .iter()
                .map(|point| match point.value {
                    Some(number_data_point::Value::AsInt(tokens)) => tokens,
                    _ => 0,
                })
                .sum(),
            _ => -1,
        }
    };
    let counter = |name: &str| sum(&["gen_ai.client.inference.usage.", name].concat());
    let names = [
        "input_tokens",
        "output_tokens",
        "cache_read.input_tokens",
        "cache_write.input_tokens",
        "reasoning.output_tokens",
    ];
    assert_eq!(names.map(counter), [120, 80, 40, 60, 30]);
    // Without usage nothing is told of tokens and cost, and each metric has a point.
    let request = metrics_of(both, &calls()[2..]);
    let told: Vec<&str> = of_metrics(&request).iter().map(|one| &*one.name).collect();
    let expected = [
        "gen_ai.client.operation.duration",
        "agentwatch.requests",
        "gen_ai.client.inference.duration",
    ];
    assert_eq!(told, expected);
}

#[test]
fn a_count_that_a_source_did_not_tell_is_not_told_as_0() {
    let usage = Usage {
        output: 5,
        ..Usage::default()
    };
    let mut call = calls().remove(1);
    call.usage = Some(usage);
    let request = metrics_of(form(true, Conventions::Both), &[call]);
    for metric in of_metrics(&request) {
        if let Some(Data::Histogram(histogram)) = &metric.data
            && metric.unit == "{token}"
        {
            let sums = histogram.data_points.iter().map(|point| point.sum);
            assert_eq!(sums.collect::<Vec<_>>(), [Some(5.0)], "{}", metric.name);
        }
        let names = ["usage.input_tokens", "operation.input_tokens"];
        let is_input = names.iter().any(|name| metric.name.ends_with(name));
        assert!(!is_input, "{}", metric.name);
    }
}

#[test]
fn further_sums_survive_a_restart_and_an_older_state_begins_them_anew() {
    let mut bytes = journal::begin_file();
    for call in calls() {
        journal::append(&mut bytes, &format_v1::call_bytes(&call));
    }
    let mut before = exporter(form(true, Conventions::Latest));
    before.calls("model-calls-1", &bytes);
    let state = before.state();
    let again = |state: &[u8]| {
        let gateway = "berlin".into();
        let exporter = Exporter::new(state, Resource { gateway }, START + 5_000);
        let exporter = exporter.with_form(form(true, Conventions::Latest));
        exporter.metrics(START + 60_000)
    };
    assert_eq!(again(&state), before.metrics(START + 60_000));
    // Version 0.1.0 has the first frame alone.
    let mut older = journal::begin_file();
    let first = journal::Reader::open(&state).unwrap().next().unwrap().1;
    journal::append(&mut older, first);
    let body = again(&older).unwrap();
    let request = ExportMetricsServiceRequest::decode(&*body).unwrap();
    let names: Vec<&str> = of_metrics(&request)
        .iter()
        .map(|one| &*one.name)
        .filter(|name| name.contains("cache") || name.contains("first_chunk"))
        .collect();
    assert_eq!(names, [""; 0]);
}

#[test]
fn settings_and_variables_choose_the_form() {
    let text = |text: &str| Scalar::Text(text.to_owned());
    let object = |pairs: &[(&str, &str)]| {
        let pair = |(name, value): &(&str, &str)| Scalar::List(vec![text(name), text(value)]);
        let url = [("url", "http://c:4318")];
        Scalar::List(url.iter().chain(pairs).map(pair).collect())
    };
    let variables = |values: [&str; 5]| Scalar::List(values.map(text).into());
    let of = |setting: &Scalar, values| settings::read(setting, &variables(values));
    let none = ["", "", "", "", ""];
    assert_eq!(of(&object(&[]), none).form, Form::default());
    let both = object(&[("protocol", "http/protobuf"), ("compression", "gzip")]);
    let chosen = of(&both, none).form;
    assert!(chosen.protobuf && chosen.gzip);
    // Without `true` the variables of the exporter are not used, but the one of all instrumentations is.
    let all = [
        "http/dup, gen_ai_latest_experimental",
        "http://e:4318",
        "",
        "http/protobuf",
        "gzip",
    ];
    let chosen = of(&object(&[]), all);
    assert_eq!(chosen.url.as_deref(), Some("http://c:4318"));
    assert_eq!(chosen.form, form(false, Conventions::Latest));
    let chosen = of(&Scalar::Bool(true), all);
    assert_eq!(chosen.url.as_deref(), Some("http://e:4318"));
    assert!(chosen.form.protobuf && chosen.form.gzip);
    let dup = "gen_ai_latest_experimental,gen_ai_latest_experimental/dup";
    let chosen = of(&object(&[]), [dup, "", "", "", ""]);
    assert_eq!(chosen.form.conventions, Conventions::Both);
    for (setting, values, problem) in [
        (
            object(&[("protocol", "grpc")]),
            none,
            "otlp.protocol is \"grpc\"; set it to http/protobuf or http/json",
        ),
        (
            object(&[("compression", "zstd")]),
            none,
            "otlp.compression is \"zstd\"; set it to gzip or none",
        ),
        (
            Scalar::Bool(true),
            ["", "http://e:4317", "", "grpc", ""],
            "OTEL_EXPORTER_OTLP_PROTOCOL is \"grpc\"; set it to http/protobuf or http/json",
        ),
        (
            object(&[("url", "http://user:KEY@h:1/KEY")]),
            none,
            "otlp.url \"http://h:1\" holds credentials (use the setting token); set it to an address",
        ),
        (
            object(&[("url", "http://h/v1?api_key=KEY")]),
            none,
            "otlp.url \"http://h\" holds a query or a fragment; set it to an address",
        ),
        (
            Scalar::Bool(true),
            ["", "grpc://user:KEY@h", "", "", ""],
            "OTEL_EXPORTER_OTLP_ENDPOINT does not start with http:// or https://; set it to",
        ),
        (
            Scalar::Bool(true),
            none,
            "otlp is true, and OTEL_EXPORTER_OTLP_ENDPOINT is not set",
        ),
    ] {
        let target = of(&setting, values);
        assert!(target.url.is_none());
        assert!(
            target.problems[0].starts_with(problem) && !target.problems[0].contains("KEY"),
            "{:?}",
            target.problems
        );
    }
}
