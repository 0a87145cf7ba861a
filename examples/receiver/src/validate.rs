//! JSON → records, everything checked before anything is stored.

use crate::error::Invalid;
use crate::fields::{Fault, Fields, MESSAGE_MAX, kind_of};
use crate::records::{
    Batch, CHECKS, Cost, CronRun, Enrichment, Health, Kind, LEVELS, Log, Metric, ModelUsage, RUNS,
    Span, SpanEvent, Trace, WORK, fresh_id,
};
use serde_json::{Value, json};

/// The list of a batch in which calls are enriched.
const ENRICHMENTS: &str = "enrichments";
const EMPTY_OBJECT: &str = "{}";

/// Reads one record or an array of them into `batch`, and gives the id (for health the name) of each.
///
/// # Errors
/// The first record that breaks the contract.
pub fn records(body: Value, kind: Kind, batch: &mut Batch) -> Result<Vec<Value>, Invalid> {
    let items = match body {
        Value::Array(items) => items,
        one => vec![one],
    };
    let read = |(record, item)| {
        let outcome = record_of(item, kind, batch);
        outcome.map_err(|Fault { field, message }| Invalid {
            list: None,
            record,
            field,
            message,
        })
    };
    items.into_iter().enumerate().map(read).collect()
}

/// Reads a `batch` object, and gives the number of records of each kind.
///
/// # Errors
/// The first record that breaks the contract, with the list it is in.
pub fn batch(body: Value, batch: &mut Batch) -> Result<Value, Invalid> {
    let whole = |message| Invalid {
        list: None,
        record: 0,
        field: String::new(),
        message,
    };
    let Value::Object(mut lists) = body else {
        return Err(whole(format!(
            "a batch is a JSON object of arrays, this is {}",
            kind_of(&body)
        )));
    };
    let mut counts = json!({});
    for kind in Kind::ALL {
        let list = kind.list();
        let count = match lists.remove(list) {
            None | Some(Value::Null) => 0,
            Some(items @ Value::Array(_)) => records(items, kind, batch)
                .map_err(|invalid| Invalid {
                    list: Some(list),
                    ..invalid
                })?
                .len(),
            Some(other) => {
                let message = format!("{list} has to be an array, this is {}", kind_of(&other));
                return Err(Invalid {
                    list: Some(list),
                    ..whole(message)
                });
            }
        };
        counts[list] = count.into();
    }
    if let Some(items) = lists.remove(ENRICHMENTS) {
        counts[ENRICHMENTS] = enrichments(items, batch)?.into();
    }
    Ok(counts)
}

/// Only batches have them, and only ours.
fn enrichments(items: Value, batch: &mut Batch) -> Result<usize, Invalid> {
    let invalid = |record, field, message| Invalid {
        list: Some(ENRICHMENTS),
        record,
        field,
        message,
    };
    let Value::Array(items) = items else {
        let message = format!(
            "{ENRICHMENTS} has to be an array, this is {}",
            kind_of(&items)
        );
        return Err(invalid(0, String::new(), message));
    };
    for (record, item) in items.into_iter().enumerate() {
        let known =
            enrichment(item).map_err(|Fault { field, message }| invalid(record, field, message))?;
        batch.enrichments.push(known);
    }
    Ok(batch.enrichments.len())
}

fn enrichment(item: Value) -> Result<Enrichment, Fault> {
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

fn record_of(item: Value, kind: Kind, batch: &mut Batch) -> Result<Value, Fault> {
    let mut fields = Fields::open(item, "")?;
    if kind == Kind::Health {
        let check = health(&mut fields)?;
        let name = check.name.clone();
        batch.health.push(check);
        return Ok(name.into());
    }
    let given = fields.name("id")?;
    let known = given.is_some();
    let id = given.unwrap_or_else(fresh_id);
    let answer = Value::from(id.as_str());
    match kind {
        Kind::Traces => trace(&mut fields, id, batch)?,
        Kind::Logs => batch.logs.push(log(&mut fields, id)?),
        Kind::Costs => batch.costs.push(cost(&mut fields, id, known)?),
        Kind::Metrics => batch.metrics.push(metric(&mut fields, id)?),
        Kind::ModelUsage => batch.model_usage.push(model_usage(&mut fields, id, known)?),
        Kind::CronRuns => batch.cron_runs.push(cron_run(&mut fields, id)?),
        Kind::Health => {}
    }
    Ok(answer)
}

/// A record that carries an id may be partial: what it leaves out or sets to null stays as it is.
/// One without an id is all there will ever be, so it has to name its model and leave nothing null.
fn need(fields: &Fields, known: bool, numbers: &[&str]) -> Result<(), Fault> {
    if known {
        return Ok(());
    }
    numbers.iter().try_for_each(|name| fields.refuse_null(name))
}

fn model_usage(f: &mut Fields, id: String, known: bool) -> Result<ModelUsage, Fault> {
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
        outcome: f.label("outcome")?,
        ttfb_ms: f.amount("ttfb_ms")?,
        ttft_ms: f.amount("ttft_ms")?,
        request_id: f.label("request_id")?,
        response_model: f.label("response_model")?,
    })
}

fn cost(f: &mut Fields, id: String, known: bool) -> Result<Cost, Fault> {
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

fn trace(f: &mut Fields, id: String, batch: &mut Batch) -> Result<(), Fault> {
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

/// The span of a trace that has none. Its id follows from the trace's, so that a trace which is posted again,
/// finished, finishes it too.
fn root_of(trace: &Trace) -> Span {
    Span {
        id: format!("{}.root", trace.id),
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

fn span(mut f: Fields, path: &str, trace_id: &str) -> Result<Span, Fault> {
    let events = f
        .array("events")?
        .into_iter()
        .enumerate()
        .map(|(index, item)| {
            let mut event = Fields::open(item, &format!("{path}events[{index}]."))?;
            Ok(SpanEvent {
                id: event.name("id")?.unwrap_or_else(fresh_id),
                timestamp: event.instant("timestamp")?,
                message: event.text("message", MESSAGE_MAX)?.unwrap_or_default(),
                metadata: event
                    .object("metadata")?
                    .unwrap_or_else(|| EMPTY_OBJECT.into()),
            })
        });
    Ok(Span {
        events: events.collect::<Result<_, Fault>>()?,
        id: f.name("id")?.unwrap_or_else(fresh_id),
        trace_id: trace_id.to_owned(),
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

fn log(f: &mut Fields, id: String) -> Result<Log, Fault> {
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

fn health(f: &mut Fields) -> Result<Health, Fault> {
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

fn metric(f: &mut Fields, id: String) -> Result<Metric, Fault> {
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

fn cron_run(f: &mut Fields, id: String) -> Result<CronRun, Fault> {
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
