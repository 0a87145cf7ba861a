//! AgentWatch 0.1.0 as recorded, with its leniency and its faults.
//!
//! Each record is stored as soon as it is read, so records before a bad one stay. An exception that AgentWatch does not
//! catch is a [`Crash`], which is answered 500 in plain text.

use crate::clock::{self, Micros};
use crate::json::Text;
use crate::python::{self, Crash, Read, dumps, float, int, object, text, truthy};
use crate::records::{
    Batch, CHECKS, Cost, CronRun, Health, Kind, LEVELS, Log, Metric, ModelUsage, Span, SpanEvent,
    Trace, WORK, fresh_id,
};
use crate::store::{Repeat, Store};
use serde_json::{Map, Value, json};

/// Stores one record or an array of them, one by one, and returns the id (for health checks the name) of each.
///
/// # Errors
/// At the first bad record; those before it stay.
pub fn records(body: &Value, kind: Kind, store: &Store) -> Read<Vec<Value>> {
    match body {
        Value::Array(items) => items.iter().map(|item| record(item, kind, store)).collect(),
        one => Ok(vec![record(one, kind, store)?]),
    }
}

/// Stores a batch in AgentWatch's order and returns the number of records of each kind.
///
/// # Errors
/// At the first bad record; those before it stay.
pub fn batch(body: &Value, store: &Store) -> Read<Value> {
    let lists = object(body)?;
    let mut counts = json!({});
    for kind in Kind::ALL {
        let ids = match lists.get(kind.list()) {
            None => Vec::new(),
            Some(Value::Array(items)) => items
                .iter()
                .map(|item| record(item, kind, store))
                .collect::<Read<Vec<_>>>()?,
            // Python iterates over an empty string or object without complaint.
            Some(Value::String(text)) if text.is_empty() => Vec::new(),
            Some(Value::Object(map)) if map.is_empty() => Vec::new(),
            Some(_) => return Err(Crash),
        };
        counts[kind.list()] = ids.len().into();
    }
    Ok(counts)
}

fn record(item: &Value, kind: Kind, store: &Store) -> Read<Value> {
    let f = Fields(object(item)?);
    let answer = match kind {
        Kind::Health => f.0.get("name").cloned().unwrap_or_else(|| "unknown".into()),
        // AgentWatch generates their ids.
        Kind::ModelUsage | Kind::CronRuns => fresh_id().into(),
        _ => {
            f.0.get("id")
                .filter(|id| truthy(id))
                .cloned()
                .unwrap_or_else(|| fresh_id().into())
        }
    };
    let id = text(&answer)?.ok_or(Crash)?;
    let mut batch = Batch::default();
    match kind {
        Kind::Traces => return trace(&f, id, store).map(|()| answer),
        Kind::Logs => batch.logs.push(log(&f, id)?),
        Kind::Health => batch.health.push(health(&f, id)?),
        Kind::Costs => batch.costs.push(cost(&f, id)?),
        Kind::Metrics => batch.metrics.push(metric(&f, id)?),
        Kind::ModelUsage => batch.model_usage.push(model_usage(&f, id)?),
        Kind::CronRuns => batch.cron_runs.push(cron_run(&f, id)?),
    }
    save(&batch, store)?;
    Ok(answer)
}

fn save(batch: &Batch, store: &Store) -> Read<()> {
    store
        .write(batch, clock::now(), Repeat::Refuse)
        .map_err(|_| Crash)
}

fn model_usage(f: &Fields, id: Text<'static>) -> Read<ModelUsage<'static>> {
    Ok(ModelUsage {
        id,
        model: Some(f.needed("model", "unknown")?),
        agent_name: Some(f.needed("agent_name", "unknown")?),
        prompt_tokens: Some(f.get("prompt_tokens").map_or(Ok(0), int)?),
        completion_tokens: Some(f.get("completion_tokens").map_or(Ok(0), int)?),
        cost_usd: Some(f.get("cost_usd").map_or(Ok(0.0), float)?),
        latency_ms: f.some("latency_ms").map(float).transpose()?,
        ..ModelUsage::default()
    })
}

fn cost(f: &Fields, id: Text<'static>) -> Read<Cost<'static>> {
    let zero = Value::from(0);
    let (input, output) = (
        f.get("input_tokens").unwrap_or(&zero),
        f.get("output_tokens").unwrap_or(&zero),
    );
    // Python adds them: two numbers or two texts, but not one of each, and the sum must fit in 64 bits.
    let is_too_large = |(a, b): (i64, i64)| a.checked_add(b).is_none();
    let whole = input.as_i64().zip(output.as_i64());
    if input.is_string() != output.is_string() || whole.is_some_and(is_too_large) {
        return Err(Crash);
    }
    // The model must be a text for the price lookup.
    let is_named = f.get("model").is_none_or(Value::is_string);
    if f.some("estimated_cost_usd").is_none() && !is_named {
        return Err(Crash);
    }
    Ok(Cost {
        id,
        timestamp: f.instant("timestamp")?,
        agent_name: Some(f.needed("agent_name", "remote")?),
        model: Some(f.needed("model", "unknown")?),
        input_tokens: Some(python::stored_count(input)?),
        output_tokens: Some(python::stored_count(output)?),
        // AgentWatch estimates the cost from a price list; for a model that is not in it, that is 0.
        estimated_cost_usd: Some(f.number("estimated_cost_usd")?.unwrap_or(0.0)),
        trace_id: f.text("trace_id")?,
        span_id: f.text("span_id")?,
        metadata: Some(f.json("metadata")),
    })
}

/// The trace and its root are stored first, then each further span as it is read.
fn trace(f: &Fields, id: Text<'static>, store: &Store) -> Read<()> {
    let trace = Trace {
        agent_name: f.needed("agent_name", "remote")?,
        name: f.needed("name", "unnamed")?,
        status: f.word("status", "completed", WORK, false)?,
        started_at: f.instant("started_at")?,
        ended_at: f.ended_at()?,
        duration_ms: f.number("duration_ms")?,
        metadata: f.json("metadata"),
        id,
    };
    let items = match f.some("spans") {
        None => &[][..],
        Some(Value::Array(items)) => items,
        Some(other) if !truthy(other) => &[][..],
        Some(_) => return Err(Crash),
    };
    let spans = items
        .iter()
        .map(|item| object(item).map(Fields))
        .collect::<Read<Vec<_>>>()?;
    let orphan = |span: &Fields| !span.get("parent_id").is_some_and(truthy);
    let root = spans.iter().position(orphan);
    let mut first = Batch::default();
    match root {
        Some(index) => first.spans.push(span(&spans[index], &trace.id)?),
        None if spans.is_empty() => first.spans.push(synthetic_root(&trace)),
        None => {}
    }
    let trace_id = trace.id.clone();
    first.traces.push(trace);
    save(&first, store)?;
    for (index, fields) in spans.iter().enumerate() {
        if Some(index) != root {
            save(
                &Batch {
                    spans: vec![span(fields, &trace_id)?],
                    ..Batch::default()
                },
                store,
            )?;
        }
    }
    Ok(())
}

/// A new id each time: a trace that is posted twice without spans has two roots.
fn synthetic_root(trace: &Trace<'static>) -> Span<'static> {
    Span {
        id: fresh_id().into(),
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

fn span(f: &Fields, trace_id: &Text<'static>) -> Read<Span<'static>> {
    let event = |item: &Value| {
        let e = Fields(object(item)?);
        Ok(SpanEvent {
            id: e.id()?,
            timestamp: e.instant("timestamp")?,
            message: e.needed("message", "")?,
            metadata: e.json("metadata"),
        })
    };
    let events = match f.get("events") {
        None => Vec::new(),
        Some(Value::Array(items)) => items.iter().map(event).collect::<Read<_>>()?,
        Some(_) => return Err(Crash),
    };
    Ok(Span {
        id: f.id()?,
        trace_id: trace_id.clone(),
        parent_id: f.text("parent_id")?,
        name: f.needed("name", "unnamed")?,
        status: f.word("status", "completed", WORK, false)?,
        started_at: f.instant("started_at")?,
        ended_at: f.ended_at()?,
        duration_ms: f.number("duration_ms")?,
        metadata: f.json("metadata"),
        error: f.text("error")?,
        events,
    })
}

fn log(f: &Fields, id: Text<'static>) -> Read<Log<'static>> {
    Ok(Log {
        id,
        agent_name: f.needed("agent_name", "remote")?,
        level: f.word("level", "info", LEVELS, true)?,
        message: f.needed("message", "")?,
        timestamp: f.instant("timestamp")?,
        metadata: f.json("metadata"),
        trace_id: f.text("trace_id")?,
        span_id: f.text("span_id")?,
    })
}

fn health(f: &Fields, name: Text<'static>) -> Read<Health<'static>> {
    Ok(Health {
        name,
        agent_name: f.needed("agent_name", "remote")?,
        status: f.word("status", "unknown", CHECKS, true)?,
        message: f.get("message").map_or(Ok(Some(Text::default())), text)?,
        timestamp: f.instant("timestamp")?,
        duration_ms: f.number("duration_ms")?,
        metadata: f.json("metadata"),
    })
}

fn metric(f: &Fields, id: Text<'static>) -> Read<Metric<'static>> {
    Ok(Metric {
        id,
        agent_name: f.needed("agent_name", "remote")?,
        name: f.needed("name", "unnamed")?,
        value: f.get("value").map_or(Ok(0.0), float)?,
        kind: f.needed("kind", "gauge")?,
        tags: f.json("tags"),
        timestamp: f.instant("timestamp")?,
        trace_id: f.text("trace_id")?,
        span_id: f.text("span_id")?,
    })
}

fn cron_run(f: &Fields, id: Text<'static>) -> Read<CronRun<'static>> {
    Ok(CronRun {
        id,
        agent_name: f.text("agent_name")?,
        job_name: f.needed("job_name", "unknown")?,
        status: f.needed("status", "unknown")?,
        duration_ms: f.some("duration_ms").map(float).transpose()?,
        error: f.text("error")?,
        timestamp: None,
    })
}

/// A record's fields, read as Python and SQLite's type affinity do.
struct Fields<'a>(&'a Map<String, Value>);

impl<'a> Fields<'a> {
    fn get(&self, name: &str) -> Option<&'a Value> {
        self.0.get(name)
    }

    /// The field, if it is present and not null.
    fn some(&self, name: &str) -> Option<&'a Value> {
        self.get(name).filter(|value| !value.is_null())
    }

    fn text(&self, name: &str) -> Read<Option<Text<'static>>> {
        self.some(name).map_or(Ok(None), text)
    }

    /// Text in a column without null.
    fn needed(&self, name: &str, default: &str) -> Read<Text<'static>> {
        self.get(name)
            .map_or(Ok(Some(default.to_owned().into())), text)?
            .ok_or(Crash)
    }

    fn id(&self) -> Read<Text<'static>> {
        let given = self.get("id").filter(|id| truthy(id));
        given
            .map_or_else(|| Ok(Some(fresh_id().into())), text)?
            .ok_or(Crash)
    }

    fn word(&self, name: &str, default: &str, allowed: &[&str], fold: bool) -> Read<Text<'static>> {
        let mut word = match self.get(name) {
            None => default.to_owned(),
            Some(Value::String(word)) => word.clone(),
            Some(_) => return Err(Crash),
        };
        if fold {
            word = word.to_lowercase();
        }
        if allowed.contains(&word.as_str()) {
            Ok(word.into())
        } else {
            Err(Crash)
        }
    }

    /// The time of arrival if the field is missing or unreadable, but a number is a crash.
    fn instant(&self, name: &str) -> Read<Option<Micros>> {
        match self.get(name).filter(|value| truthy(value)) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(clock::parse_iso(text)),
            Some(_) => Err(Crash),
        }
    }

    /// An unreadable end becomes the current time.
    fn ended_at(&self) -> Read<Option<Micros>> {
        let given = self.get("ended_at").is_some_and(truthy);
        let instant = self.instant("ended_at")?;
        Ok(given.then(|| instant.unwrap_or_else(clock::now)))
    }

    /// A number that is stored without conversion by Python.
    fn number(&self, name: &str) -> Read<Option<f64>> {
        match self.some(name) {
            None => Ok(None),
            Some(Value::Array(_) | Value::Object(_)) => Err(Crash),
            Some(Value::Number(number)) => python::stored_number(number).map(Some),
            Some(value) => Ok(Some(float(value).unwrap_or(0.0))),
        }
    }

    fn json(&self, name: &str) -> String {
        self.get(name).map_or_else(|| "{}".to_owned(), dumps)
    }
}
