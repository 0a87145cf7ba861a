//! Converts JSON to records and validates them all before anything is stored.

use crate::error::Invalid;
use crate::fields::{Fault, Fields, MESSAGE_MAX};
use crate::json::{Json, Text};
use crate::records::{
    Batch, CHECKS, Cost, CronRun, Enrichment, Health, Kind, LEVELS, Log, Metric, ModelUsage,
    Prompt, RUNS, Span, SpanEvent, Trace, WORK, fresh_id,
};
use serde_json::{Value, json};

/// The list of a batch in which calls are enriched.
const ENRICHMENTS: &str = "enrichments";
const EMPTY_OBJECT: &str = "{}";

/// Reads one record or an array of them into `batch` and returns their number.
///
/// # Errors
/// The first invalid record.
pub fn records<'a>(body: Json<'a>, kind: Kind, batch: &mut Batch<'a>) -> Result<usize, Invalid> {
    let items = match body {
        Json::Array(items) => items,
        one => vec![one],
    };
    let count = items.len();
    for (record, item) in items.into_iter().enumerate() {
        record_of(item, kind, batch).map_err(|Fault { field, message }| Invalid {
            list: None,
            record,
            field,
            message,
        })?;
    }
    Ok(count)
}

/// Reads a `batch` object and returns the number of records of each kind.
///
/// # Errors
/// The first invalid record, with its list.
pub fn batch<'a>(body: Json<'a>, batch: &mut Batch<'a>) -> Result<Value, Invalid> {
    let whole = |message| Invalid {
        list: None,
        record: 0,
        field: String::new(),
        message,
    };
    let Json::Object(mut lists) = body else {
        return Err(whole(format!(
            "a batch is a JSON object of arrays, this is {}",
            body.kind()
        )));
    };
    let mut counts = json!({});
    for kind in Kind::ALL {
        let list = kind.list();
        let count = match lists.take(list) {
            None => 0,
            Some(items @ Json::Array(_)) => {
                records(items, kind, batch).map_err(|invalid| Invalid {
                    list: Some(list),
                    ..invalid
                })?
            }
            Some(other) => {
                let message = format!("{list} has to be an array, this is {}", other.kind());
                return Err(Invalid {
                    list: Some(list),
                    ..whole(message)
                });
            }
        };
        counts[list] = count.into();
    }
    if lists.get(ENRICHMENTS).is_some() {
        let items = lists.take(ENRICHMENTS).unwrap_or(Json::Null);
        counts[ENRICHMENTS] = enrichments(items, batch)?.into();
    }
    Ok(counts)
}

/// Only this plugin's batches have them.
fn enrichments<'a>(items: Json<'a>, batch: &mut Batch<'a>) -> Result<usize, Invalid> {
    let invalid = |record, field, message| Invalid {
        list: Some(ENRICHMENTS),
        record,
        field,
        message,
    };
    let Json::Array(items) = items else {
        let message = format!("{ENRICHMENTS} has to be an array, this is {}", items.kind());
        return Err(invalid(0, String::new(), message));
    };
    for (record, item) in items.into_iter().enumerate() {
        let known =
            enrichment(item).map_err(|Fault { field, message }| invalid(record, field, message))?;
        batch.enrichments.push(known);
    }
    Ok(batch.enrichments.len())
}

fn enrichment(item: Json) -> Result<Enrichment, Fault> {
    let mut f = Fields::open(item, "")?;
    let Some(id) = f.name("id")? else {
        return Err(f.fault("id", "is missing: name the call that this is about"));
    };
    Ok(Enrichment {
        id,
        cost_usd: f.amount("cost_usd")?,
        cost_source: f.label("cost_source")?,
        ttfb_ms: f.amount("ttfb_ms")?,
        ttft_ms: f.amount("ttft_ms")?,
        request_id: f.label("request_id")?,
        response_model: f.label("response_model")?,
    })
}

fn record_of<'a>(item: Json<'a>, kind: Kind, batch: &mut Batch<'a>) -> Result<(), Fault> {
    let mut fields = Fields::open(item, "")?;
    if kind == Kind::Health {
        batch.health.push(health(&mut fields)?);
        return Ok(());
    }
    let given = fields.name("id")?;
    let known = given.is_some();
    let id = given.unwrap_or_else(|| fresh_id().into());
    match kind {
        Kind::Traces => trace(&mut fields, id, batch)?,
        Kind::Logs => batch.logs.push(log(&mut fields, id)?),
        Kind::Costs => batch.costs.push(cost(&mut fields, id, known)?),
        Kind::Metrics => batch.metrics.push(metric(&mut fields, id)?),
        Kind::ModelUsage => batch.model_usage.push(model_usage(&mut fields, id, known)?),
        Kind::CronRuns => batch.cron_runs.push(cron_run(&mut fields, id)?),
        Kind::Health => {}
    }
    Ok(())
}

/// A record with an id may be partial: fields that are missing or null stay as they are. A record without an id is
/// complete, so it must name its model and have no nulls.
fn need(fields: &Fields, known: bool, numbers: &[&str]) -> Result<(), Fault> {
    if known {
        return Ok(());
    }
    numbers.iter().try_for_each(|name| fields.refuse_null(name))
}

fn model_usage<'a>(
    f: &mut Fields<'a, '_>,
    id: Text<'a>,
    known: bool,
) -> Result<ModelUsage<'a>, Fault> {
    need(
        f,
        known,
        &["prompt_tokens", "completion_tokens", "cost_usd"],
    )?;
    let model = f.name("model")?;
    if model.is_none() && !known {
        return Err(f.fault("model", "is missing: name the model that was called"));
    }
    Ok(ModelUsage {
        id,
        timestamp: f.instant("timestamp")?,
        agent_name: f.label("agent_name")?,
        model,
        prompt_tokens: f.count("prompt_tokens")?,
        completion_tokens: f.count("completion_tokens")?,
        cost_usd: f.amount("cost_usd")?,
        latency_ms: f.amount("latency_ms")?,
        gateway: f.label("gateway")?,
        provider: f.label("provider")?,
        cache_read_tokens: f.count("cache_read_tokens")?,
        cache_write_tokens: f.count("cache_write_tokens")?,
        reasoning_tokens: f.count("reasoning_tokens")?,
        cost_source: f.label("cost_source")?,
        usage_source: f.label("usage_source")?,
        latency_source: f.label("latency_source")?,
        session_key: f.label("session_key")?,
        run_id: f.label("run_id")?,
        trigger: f.label("trigger")?,
        channel: f.label("channel")?,
        job: f.label("job")?,
        skill: f.label("skill")?,
        tool: f.label("tool")?,
        prompt: f.nested("prompt_stats", |f| {
            Ok(Prompt {
                chars: [
                    f.count("system_prompt")?,
                    f.count("tool_definitions")?,
                    f.count("messages")?,
                    f.count("other")?,
                ],
                cost_usd: f.amount("cost_usd")?,
            })
        })?,
        cache_saved_usd: f.amount("cache_saved_usd")?,
        cache_write_extra_usd: f.amount("cache_write_extra_usd")?,
        outcome: f.label("outcome")?,
        ttfb_ms: f.amount("ttfb_ms")?,
        ttft_ms: f.amount("ttft_ms")?,
        request_id: f.label("request_id")?,
        response_model: f.label("response_model")?,
    })
}

fn cost<'a>(f: &mut Fields<'a, '_>, id: Text<'a>, known: bool) -> Result<Cost<'a>, Fault> {
    need(f, known, &["input_tokens", "output_tokens"])?;
    let model = f.name("model")?;
    if model.is_none() && !known {
        return Err(f.fault("model", "is missing: name the model that was called"));
    }
    Ok(Cost {
        id,
        timestamp: f.instant("timestamp")?,
        agent_name: f.label("agent_name")?,
        model,
        input_tokens: f.count("input_tokens")?,
        output_tokens: f.count("output_tokens")?,
        estimated_cost_usd: f.amount("estimated_cost_usd")?,
        trace_id: f.label("trace_id")?,
        span_id: f.label("span_id")?,
        metadata: f.object("metadata")?,
    })
}

fn trace<'a>(f: &mut Fields<'a, '_>, id: Text<'a>, batch: &mut Batch<'a>) -> Result<(), Fault> {
    let trace = Trace {
        agent_name: f.label("agent_name")?.unwrap_or_else(|| "remote".into()),
        name: f.name("name")?.unwrap_or_else(|| "unnamed".into()),
        status: f
            .word("status", WORK, false)?
            .unwrap_or_else(|| "completed".into()),
        started_at: f.instant("started_at")?,
        ended_at: f.instant("ended_at")?,
        duration_ms: f.amount("duration_ms")?,
        metadata: f.object("metadata")?.unwrap_or_else(|| EMPTY_OBJECT.into()),
        id,
    };
    let spans = f.array("spans")?;
    if spans.is_empty() {
        batch.spans.push(root_of(&trace));
    }
    for (index, item) in spans.into_iter().enumerate() {
        let path = format!("spans[{index}].");
        batch
            .spans
            .push(span(Fields::open(item, &path)?, &path, &trace.id)?);
    }
    batch.traces.push(trace);
    Ok(())
}

/// The span of a trace without spans. Its id is derived from the trace's, so that a repeated post of the trace updates
/// it too.
fn root_of<'a>(trace: &Trace<'a>) -> Span<'a> {
    Span {
        id: format!("{}.root", trace.id).into(),
        trace_id: trace.id.clone(),
        parent_id: None,
        name: trace.name.clone(),
        status: trace.status.clone(),
        started_at: trace.started_at,
        ended_at: trace.ended_at,
        duration_ms: trace.duration_ms,
        metadata: trace.metadata.clone(),
        error: None,
        events: Vec::new(),
    }
}

fn span<'a>(mut f: Fields<'a, '_>, path: &str, trace_id: &Text<'a>) -> Result<Span<'a>, Fault> {
    let events = f
        .array("events")?
        .into_iter()
        .enumerate()
        .map(|(index, item)| {
            let path = format!("{path}events[{index}].");
            let mut event = Fields::open(item, &path)?;
            Ok(SpanEvent {
                id: event.name("id")?.unwrap_or_else(|| fresh_id().into()),
                timestamp: event.instant("timestamp")?,
                message: event.text("message", MESSAGE_MAX)?.unwrap_or_default(),
                metadata: event
                    .object("metadata")?
                    .unwrap_or_else(|| EMPTY_OBJECT.into()),
            })
        });
    Ok(Span {
        events: events.collect::<Result<_, Fault>>()?,
        id: f.name("id")?.unwrap_or_else(|| fresh_id().into()),
        trace_id: trace_id.clone(),
        parent_id: f.label("parent_id")?,
        name: f.name("name")?.unwrap_or_else(|| "unnamed".into()),
        status: f
            .word("status", WORK, false)?
            .unwrap_or_else(|| "completed".into()),
        started_at: f.instant("started_at")?,
        ended_at: f.instant("ended_at")?,
        duration_ms: f.amount("duration_ms")?,
        metadata: f.object("metadata")?.unwrap_or_else(|| EMPTY_OBJECT.into()),
        error: f.text("error", MESSAGE_MAX)?,
    })
}

fn log<'a>(f: &mut Fields<'a, '_>, id: Text<'a>) -> Result<Log<'a>, Fault> {
    Ok(Log {
        id,
        agent_name: f.label("agent_name")?.unwrap_or_else(|| "remote".into()),
        level: f
            .word("level", LEVELS, true)?
            .unwrap_or_else(|| "info".into()),
        message: f.text("message", MESSAGE_MAX)?.unwrap_or_default(),
        timestamp: f.instant("timestamp")?,
        metadata: f.object("metadata")?.unwrap_or_else(|| EMPTY_OBJECT.into()),
        trace_id: f.label("trace_id")?,
        span_id: f.label("span_id")?,
    })
}

fn health<'a>(f: &mut Fields<'a, '_>) -> Result<Health<'a>, Fault> {
    Ok(Health {
        name: f.name("name")?.unwrap_or_else(|| "unknown".into()),
        agent_name: f.label("agent_name")?.unwrap_or_else(|| "remote".into()),
        status: f
            .word("status", CHECKS, true)?
            .unwrap_or_else(|| "unknown".into()),
        message: Some(f.text("message", MESSAGE_MAX)?.unwrap_or_default()),
        timestamp: f.instant("timestamp")?,
        duration_ms: f.amount("duration_ms")?,
        metadata: f.object("metadata")?.unwrap_or_else(|| EMPTY_OBJECT.into()),
    })
}

fn metric<'a>(f: &mut Fields<'a, '_>, id: Text<'a>) -> Result<Metric<'a>, Fault> {
    f.refuse_null("value")?;
    Ok(Metric {
        id,
        agent_name: f.label("agent_name")?.unwrap_or_else(|| "remote".into()),
        name: f.name("name")?.unwrap_or_else(|| "unnamed".into()),
        value: f.number("value")?.unwrap_or(0.0),
        kind: f.label("kind")?.unwrap_or_else(|| "gauge".into()),
        tags: f.object("tags")?.unwrap_or_else(|| EMPTY_OBJECT.into()),
        timestamp: f.instant("timestamp")?,
        trace_id: f.label("trace_id")?,
        span_id: f.label("span_id")?,
    })
}

fn cron_run<'a>(f: &mut Fields<'a, '_>, id: Text<'a>) -> Result<CronRun<'a>, Fault> {
    let Some(status) = f.word("status", RUNS, false)? else {
        return Err(f.fault("status", format!("is missing: one of {}", RUNS.join(", "))));
    };
    Ok(CronRun {
        id,
        status,
        agent_name: f.label("agent_name")?,
        job_name: f.name("job_name")?.unwrap_or_else(|| "unknown".into()),
        duration_ms: f.amount("duration_ms")?,
        error: f.text("error", MESSAGE_MAX)?,
        timestamp: f.instant("timestamp")?,
    })
}
