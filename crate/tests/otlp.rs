//! The export to a collector, read back by OpenTelemetry's own types.

use std::collections::BTreeMap;

use agentwatch_openclaw::activity::records::{Meta, Record, SpanRecord, Status, TraceRecord};
use agentwatch_openclaw::delivery::otlp::{Conventions, Exporter, Form, Resource};
use agentwatch_openclaw::domain::call::{
    CallId, Cost, CostSource, IdMint, Latency, LatencySource, ModelCall, Operation, Origin,
    Outcome, Usage,
};
use agentwatch_openclaw::journal::{self, format_v1};
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value};
use opentelemetry_proto::tonic::metrics::v1::{
    HistogramDataPoint, Metric, NumberDataPoint, metric, number_data_point,
};
use opentelemetry_proto::tonic::trace::v1::Span;

const START: u64 = 1_795_000_000_000;

fn call(id: CallId, model: &str, usage: Option<Usage>, usd: f64) -> ModelCall {
    ModelCall {
        id,
        ended_ms: START,
        provider: "google".into(),
        model: model.into(),
        agent: Some("main".into()),
        session_key: None,
        run_id: None,
        trigger: None,
        origin: Origin::default(),
        prompt: None,
        prompt_usd: None,
        cache_usd: None,
        operation: Default::default(),
        usage,
        cost: Cost {
            usd,
            source: CostSource::Openclaw,
        },
        latency: Some(Latency {
            ms: 640.0,
            source: LatencySource::Measured,
        }),
        ttfb_ms: None,
        ttft_ms: None,
        request_id: None,
        response_model: None,
        outcome: Outcome::Completed,
        stored: false,
    }
}

fn some_calls(count: u64) -> Vec<ModelCall> {
    let mut mint = IdMint::new(7);
    (1..=count)
        .map(|n| {
            let usage = Usage {
                input: n,
                output: 4,
                cache_read: 2 * n,
                ..Usage::default()
            };
            call(mint.mint(START), "m", Some(usage), 0.25)
        })
        .collect()
}

/// A segment of the journal.
fn segment(calls: &[ModelCall]) -> Vec<u8> {
    let mut bytes = journal::begin_file();
    for call in calls {
        journal::append(&mut bytes, &format_v1::call_bytes(call));
    }
    bytes
}

fn exporter(state: &[u8], now_ms: u64) -> Exporter {
    let gateway = "berlin".into();
    Exporter::new(state, Resource { gateway }, now_ms)
}

fn metrics(exporter: &Exporter) -> BTreeMap<String, Metric> {
    let body = exporter.metrics(START + 60_000).unwrap_or_default();
    let request: ExportMetricsServiceRequest =
        serde_json::from_slice(&body).unwrap_or_else(|error| unreachable!("{error}"));
    let resource = &request.resource_metrics[0];
    let attributes = resource
        .resource
        .as_ref()
        .map(|one| labels(&one.attributes));
    assert_eq!(
        attributes.unwrap_or_default()["service.instance.id"],
        "berlin"
    );
    let all = resource.scope_metrics[0].metrics.clone();
    all.into_iter().map(|one| (one.name.clone(), one)).collect()
}

fn labels(attributes: &[KeyValue]) -> BTreeMap<String, String> {
    let text = |one: &KeyValue| match one.value.as_ref().and_then(|value| value.value.clone()) {
        Some(any_value::Value::StringValue(text)) => text,
        other => format!("{other:?}"),
    };
    attributes
        .iter()
        .map(|one| (one.key.clone(), text(one)))
        .collect()
}

fn histograms(metric: &Metric) -> Vec<HistogramDataPoint> {
    match &metric.data {
        Some(metric::Data::Histogram(histogram)) => {
            assert_eq!(histogram.aggregation_temporality, 2, "cumulative");
            histogram.data_points.clone()
        }
        other => unreachable!("{other:?}"),
    }
}

fn counters(metric: &Metric) -> Vec<NumberDataPoint> {
    match &metric.data {
        Some(metric::Data::Sum(sum)) => {
            assert!(sum.is_monotonic && sum.aggregation_temporality == 2);
            sum.data_points.clone()
        }
        other => unreachable!("{other:?}"),
    }
}

fn of_kind(points: &[HistogramDataPoint], kind: &str) -> HistogramDataPoint {
    let is_it =
        |point: &&HistogramDataPoint| labels(&point.attributes)["gen_ai.token.type"] == kind;
    points.iter().find(is_it).cloned().unwrap_or_default()
}

/// Requests, prompt tokens, completion tokens and USD, as a collector would add them up.
fn totals(exporter: &Exporter) -> (u64, f64, f64, f64) {
    let all = metrics(exporter);
    let usage = histograms(&all["gen_ai.client.token.usage"]);
    let sum = |kind| of_kind(&usage, kind).sum.unwrap_or_default();
    let requests = match counters(&all["agentwatch.requests"])[0].value {
        Some(number_data_point::Value::AsInt(requests)) => requests as u64,
        _ => 0,
    };
    let usd = match counters(&all["agentwatch.cost.usd"])[0].value {
        Some(number_data_point::Value::AsDouble(usd)) => usd,
        _ => -1.0,
    };
    (requests, sum("input"), sum("output"), usd)
}

#[test]
fn opentelemetrys_own_types_read_the_metrics() {
    let mut exporter = exporter(&[], START);
    exporter.calls("model-calls-1", &segment(&some_calls(10)));
    assert_eq!(totals(&exporter), (10, 165.0, 40.0, 2.5));
    let all = metrics(&exporter);
    let usage = histograms(&all["gen_ai.client.token.usage"]);
    let input = of_kind(&usage, "input");
    assert_eq!(all["gen_ai.client.token.usage"].unit, "{token}");
    let names = labels(&input.attributes);
    assert_eq!(names["gen_ai.provider.name"], "gcp.gemini");
    assert_eq!(names["gen_ai.request.model"], "m");
    assert_eq!(names["gen_ai.operation.name"], "chat");
    assert_eq!(names["gen_ai.agent.name"], "main");
    assert_eq!(input.explicit_bounds.len(), 14);
    assert_eq!(
        (input.explicit_bounds[0], input.explicit_bounds[13]),
        (1.0, 67_108_864.0)
    );
    // Prompts of 3, 6, 9, 12, 15 and 18 to 30 tokens.
    assert_eq!(input.bucket_counts[..5], [0, 1, 4, 5, 0]);
    assert_eq!(input.bucket_counts.iter().sum::<u64>(), input.count);
    let output = of_kind(&usage, "output");
    assert_eq!(
        output.bucket_counts[1], 10,
        "4 tokens lie on a boundary, which belongs below"
    );
    assert_eq!(input.start_time_unix_nano, START * 1_000_000);
    assert_eq!(input.time_unix_nano, (START + 60_000) * 1_000_000);
    let durations = histograms(&all["gen_ai.client.operation.duration"]);
    assert_eq!(
        (durations[0].count, durations[0].bucket_counts[6]),
        (10, 10)
    );
    assert!((durations[0].sum.unwrap_or_default() - 6.4).abs() < 1e-9);
}

#[test]
fn channel_trigger_and_operation_divide_the_series_over_a_restart() {
    let mut calls = some_calls(4);
    for (place, call) in calls.iter_mut().enumerate().skip(1) {
        call.origin.channel = Some("telegram".into());
        call.trigger = (place > 1).then(|| "cron".into());
    }
    calls[3].operation = Operation::TextCompletion;
    let mut before = exporter(&[], START);
    before.calls("model-calls-1", &segment(&calls[..3]));
    let mut after = exporter(&before.state(), START + 5_000);
    after.calls("model-calls-1", &segment(&calls));
    let again = exporter(&after.state(), START + 9_000);
    for exporter in [after, again] {
        let points = counters(&metrics(&exporter)["agentwatch.requests"]);
        let of = |point: &NumberDataPoint| {
            let labels = labels(&point.attributes);
            [
                "agentwatch.channel",
                "agentwatch.trigger",
                "gen_ai.operation.name",
            ]
            .map(|name| labels.get(name).cloned().unwrap_or_default())
        };
        let all: Vec<[String; 3]> = points.iter().map(of).collect();
        let expected = [
            ["", "", "chat"],
            ["telegram", "", "chat"],
            ["telegram", "cron", "chat"],
            ["telegram", "cron", "text_completion"],
        ];
        assert_eq!(all, expected);
    }
}

#[test]
fn a_damaged_division_of_the_series_is_a_fresh_start() {
    let mut calls = some_calls(1);
    calls[0].trigger = Some("cron".into());
    let mut before = exporter(&[], START);
    before.calls("model-calls-1", &segment(&calls));
    let mut state = before.state();
    let end = state.len() - 1;
    state[end] ^= 1;
    let mut anew = exporter(&state, START + 5_000);
    anew.calls("model-calls-1", &segment(&calls));
    let points = counters(&metrics(&anew)["agentwatch.requests"]);
    assert_eq!(points.len(), 1);
    assert_eq!(points[0].start_time_unix_nano, (START + 5_000) * 1_000_000);
}

#[test]
fn tokens_of_each_call_are_told_by_how_it_ended() {
    let mut calls = some_calls(6);
    calls[4].outcome = Outcome::Failed;
    calls[5].outcome = Outcome::Aborted;
    let form = Form {
        conventions: Conventions::Latest,
        ..Form::default()
    };
    let mut exporter = exporter(&[], START).with_form(form);
    exporter.calls("model-calls-1", &segment(&calls));
    let all = metrics(&exporter);
    let of = |name: &str| -> Vec<(String, u64, f64)> {
        let points = histograms(&all[name]);
        let of = |point: &HistogramDataPoint| {
            let error = labels(&point.attributes).get("error.type").cloned();
            let sum = point.sum.unwrap_or_default();
            (error.unwrap_or_default(), point.count, sum)
        };
        points.iter().map(of).collect()
    };
    let told = |error: &str, count, sum| (error.to_owned(), count, sum);
    assert_eq!(
        of("gen_ai.client.inference.operation.input_tokens"),
        [
            told("", 4, 30.0),
            told("_OTHER", 1, 15.0),
            told("aborted", 1, 18.0)
        ]
    );
    assert_eq!(
        of("gen_ai.client.inference.operation.output_tokens"),
        [
            told("", 4, 16.0),
            told("_OTHER", 1, 4.0),
            told("aborted", 1, 4.0)
        ]
    );
}

#[test]
fn a_growing_segment_is_added_once() {
    let calls = some_calls(100);
    let mut exporter = exporter(&[], START);
    for upto in [1, 40, 40, 100] {
        exporter.calls("model-calls-1", &segment(&calls[..upto]));
    }
    assert_eq!(totals(&exporter).0, 100);
}

#[test]
fn a_new_process_continues_from_the_stored_state() {
    let calls = some_calls(100);
    let mut before = exporter(&[], START);
    before.calls("model-calls-1", &segment(&calls[..60]));
    let state = before.state();
    // Added, and lost with the process before the state was stored.
    before.calls("model-calls-1", &segment(&calls[..80]));
    let mut after = exporter(&state, START + 5_000);
    after.calls("model-calls-1", &segment(&calls));
    assert_eq!(totals(&after).0, 100);
    let point = counters(&metrics(&after)["agentwatch.requests"])[0].clone();
    assert_eq!(
        point.start_time_unix_nano,
        START * 1_000_000,
        "the beginning stays"
    );
}

#[test]
fn an_unreadable_state_is_a_fresh_start() {
    let mut state = exporter(&[], START).state();
    let end = state.len() - 1;
    state[end] ^= 1;
    let mut anew = exporter(&state, START + 5_000);
    anew.calls("model-calls-1", &segment(&some_calls(1)));
    let point = counters(&metrics(&anew)["agentwatch.requests"])[0].clone();
    assert_eq!(point.start_time_unix_nano, (START + 5_000) * 1_000_000);
}

#[test]
fn a_call_that_a_failing_disk_wrote_twice_counts_once() {
    let calls = some_calls(10);
    let mut exporter = exporter(&[], START);
    let first = exporter.calls("model-calls-1", &segment(&calls[..5]));
    let second = exporter.calls("model-calls-2", &segment(&calls));
    assert_eq!(totals(&exporter).0, 10);
    // File numbers are reused; the content is another segment.
    exporter.retain(&[second.unwrap_or_default()]);
    assert_ne!(
        first,
        exporter.calls("model-calls-1", &segment(&calls[5..]))
    );
    assert_eq!(totals(&exporter).0, 10);
}

#[test]
fn a_torn_end_is_read_once_it_is_complete() {
    let bytes = segment(&some_calls(3));
    let mut exporter = exporter(&[], START);
    exporter.calls("model-calls-1", &bytes[..bytes.len() - 4]);
    assert_eq!(totals(&exporter).0, 2);
    exporter.calls("model-calls-1", &bytes);
    assert_eq!(totals(&exporter).0, 3);
}

#[test]
fn models_beyond_the_bound_are_one_series() {
    let mut mint = IdMint::new(1);
    let calls: Vec<ModelCall> = (0..700)
        .map(|n| call(mint.mint(START), &format!("m{n}"), None, 0.5))
        .collect();
    let mut exporter = exporter(&[], START);
    exporter.calls("model-calls-1", &segment(&calls));
    let points = counters(&metrics(&exporter)["agentwatch.requests"]);
    assert_eq!(points.len(), 501);
    let overflow =
        |point: &&NumberDataPoint| labels(&point.attributes).contains_key("otel.metric.overflow");
    let value = points.iter().find(overflow).and_then(|point| point.value);
    assert_eq!(value, Some(number_data_point::Value::AsInt(200)));
}

fn trace(n: u64) -> Record {
    let id = format!("{n:032x}");
    let span = |number: u64, parent: Option<u64>, name: &str, status, metadata| SpanRecord {
        id: format!("{number:016x}"),
        trace_id: id.clone(),
        parent_id: parent.map(|parent| format!("{parent:016x}")),
        name: name.into(),
        status,
        started_at: "2026-11-18T11:06:40.000+00:00".into(),
        ended_at: "2026-11-18T11:06:40.640+00:00".into(),
        duration_ms: 640,
        metadata,
        events: [],
    };
    let chat = Meta::default()
        .text("gen_ai.provider.name", Some("mistral"))
        .count("gen_ai.usage.input_tokens", 123)
        .number("cost_usd", 2.0);
    let root = Meta::default()
        .text("gateway", Some("berlin"))
        .text("session_key", Some("k"));
    Record::Trace(Box::new(TraceRecord {
        id: id.clone(),
        agent_name: "main".into(),
        name: "invoke_agent main".into(),
        status: Status::Completed,
        started_at: "2026-11-18T11:06:40.000+00:00".into(),
        ended_at: "2026-11-18T11:06:40.640+00:00".into(),
        duration_ms: 640,
        metadata: Meta::default(),
        spans: vec![
            span(1, None, "invoke_agent main", Status::Completed, root),
            span(2, Some(1), "chat m", Status::Failed, chat),
        ],
    }))
}

fn records(count: u64) -> Vec<u8> {
    let mut bytes = journal::begin_file();
    for n in 1..=count {
        journal::append(&mut bytes, &format_v1::record_bytes(&trace(n).written()));
    }
    bytes
}

fn spans(body: &[u8]) -> Vec<Span> {
    let request: ExportTraceServiceRequest =
        serde_json::from_slice(body).unwrap_or_else(|error| unreachable!("{error}"));
    request.resource_spans[0].scope_spans[0].spans.clone()
}

#[test]
fn opentelemetrys_own_types_read_the_spans() {
    let mut exporter = exporter(&[], START);
    let (_, batch) = exporter
        .traces("records-1", &records(1))
        .unwrap_or_default();
    let batch = batch
        .map(|batch| (batch.body, batch.spans))
        .unwrap_or_default();
    let spans = spans(&batch.0);
    assert_eq!((spans.len(), batch.1), (2, 2));
    let (root, chat) = (&spans[0], &spans[1]);
    assert_eq!(root.trace_id, 1_u128.to_be_bytes());
    assert_eq!(root.span_id, 1_u64.to_be_bytes());
    assert!(root.parent_span_id.is_empty() && root.status.is_none());
    assert_eq!(chat.parent_span_id, root.span_id);
    assert_eq!((chat.kind, root.kind), (3, 1));
    assert_eq!(
        chat.end_time_unix_nano - chat.start_time_unix_nano,
        640_000_000
    );
    assert_eq!(chat.status.as_ref().map(|status| status.code), Some(2));
    let names = labels(&chat.attributes);
    assert_eq!(names["gen_ai.provider.name"], "mistral_ai");
    assert_eq!(names["gen_ai.usage.input_tokens"], "Some(IntValue(123))");
    assert_eq!(names["agentwatch.cost.usd"], "Some(DoubleValue(2.0))");
    let names = labels(&root.attributes);
    assert_eq!(names["gen_ai.conversation.id"], "k");
    assert_eq!(names["gen_ai.operation.name"], "invoke_agent");
    assert_eq!(names["gen_ai.provider.name"], "mistral_ai");
    assert!(!names.contains_key("gateway"));
    assert_eq!(labels(&chat.attributes)["gen_ai.conversation.id"], "k");
}

#[test]
fn own_attributes_have_an_own_namespace_and_what_was_not_told_is_not_told_as_0() {
    let call = r#"{"gen_ai.provider.name":"azure-openai-responses","error.type":"aborted",
        "gen_ai.response.time_to_first_chunk":1,"cost_usd":2}"#;
    let json = format!(
        r#"{{"id":"t","agent_name":"main","name":"n","spans":[{},{}]}}"#,
        json_span(
            "invoke_agent main",
            "completed",
            r#"{"spans_left_out":0,"channel":"telegram"}"#
        ),
        json_span("chat m", "failed", call),
    );
    let mut bytes = journal::begin_file();
    let record = agentwatch_openclaw::activity::records::Written::new(0, &json);
    journal::append(
        &mut bytes,
        &record
            .map(|one| format_v1::record_bytes(&one))
            .unwrap_or_default(),
    );
    let (_, batch) = exporter(&[], START)
        .traces("records-1", &bytes)
        .unwrap_or_default();
    let spans = spans(&batch.map(|batch| batch.body).unwrap_or_default());
    let root = labels(&spans[0].attributes);
    let names: Vec<&str> = root.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        [
            "agentwatch.channel",
            "gen_ai.agent.name",
            "gen_ai.operation.name",
            "gen_ai.provider.name"
        ]
    );
    assert_eq!(root["gen_ai.provider.name"], "azure.ai.openai");
    let chat = labels(&spans[1].attributes);
    assert_eq!(chat["error.type"], "aborted");
    assert_eq!(
        chat["gen_ai.response.time_to_first_chunk"],
        "Some(DoubleValue(1.0))"
    );
    assert_eq!(chat["agentwatch.cost.usd"], "Some(DoubleValue(2.0))");
}

fn json_span(name: &str, status: &str, metadata: &str) -> String {
    format!(
        r#"{{"id":"0000000000000001","trace_id":"{:032x}","parent_id":null,"name":"{name}","status":"{status}",
        "started_at":"2026-11-18T11:06:40.000+00:00","ended_at":"2026-11-18T11:06:40.640+00:00","metadata":{metadata}}}"#,
        1
    )
}

#[test]
fn traces_are_sent_until_they_are_accepted() {
    let bytes = records(1_000);
    let mut exporter = exporter(&[], START);
    let mut told = 0;
    for round in 0.. {
        assert!(round < 100, "it comes to an end");
        let again = exporter.traces("records-1", &bytes);
        let Some((key, Some(batch))) = exporter.traces("records-1", &bytes) else {
            break;
        };
        assert_eq!(
            again.and_then(|(_, batch)| batch).map(|one| one.body),
            Some(batch.body.clone())
        );
        told += spans(&batch.body).len();
        exporter.delivered(&key, batch.upto);
        exporter = self::exporter(&exporter.state(), START);
    }
    assert_eq!(told, 2_000);
}
