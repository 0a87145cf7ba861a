//! Stored rows and their readings.

use agentwatch_openclaw::domain::usage::NAMES;
use agentwatch_openclaw::sessions::transcript::{Reader, Scope, Skipped};
use agentwatch_openclaw::sources::facts::Scalar;
use agentwatch_openclaw::sources::stored::{StoredCall, StoredFacts, read};
use serde_json::{Value, json};

/// Default time of writing of the rows here.
pub const WRITTEN: &str = "2026-11-23T13:14:33.341Z";
/// The same in ms since 1970.
pub const WRITTEN_MS: u64 = 1_795_439_673_341;

/// The transcript of the rows here.
pub fn scope() -> Scope {
    Scope {
        agent: "main".into(),
        session_id: "s-1".into(),
        ..Scope::default()
    }
}

/// The rows that a reader makes of some chunks.
pub fn feed(reader: &mut Reader, chunks: &[&[u8]]) -> Vec<Value> {
    let mut rows = Vec::new();
    for chunk in chunks {
        let mut text = String::new();
        reader.feed(chunk, &mut text);
        let batch: Vec<Value> = serde_json::from_str(&format!("[{text}]")).unwrap();
        rows.extend(batch);
    }
    rows
}

/// The rows that a new reader makes of a text.
pub fn rows_of(text: &str) -> Vec<Value> {
    feed(&mut Reader::new(scope()), &[text.as_bytes()])
}

/// The calls of rows.
pub fn calls(rows: &[Value]) -> Vec<StoredCall> {
    let call = |row: &Value| read(&StoredFacts::new(facts(row))).unwrap();
    rows.iter().map(call).collect()
}

/// A row's facts, as the engine takes them.
pub fn facts(row: &Value) -> Vec<Scalar> {
    let fact = |value: &Value| match value.as_array() {
        Some(list) => Scalar::List(list.iter().map(super::scalar).collect()),
        None => super::scalar(value),
    };
    row.as_array().unwrap().iter().map(fact).collect()
}

/// Counts of the skipped lines of a text.
pub fn skipped(text: &str) -> Skipped {
    let mut reader = Reader::new(scope());
    feed(&mut reader, &[text.as_bytes()]);
    reader.skipped()
}

/// A stored answer with all fields.
pub fn answer() -> Value {
    json!({
        "type": "message", "id": "e-1", "parentId": "e-0", "timestamp": WRITTEN,
        "message": {
            "role": "assistant", "content": [{"type": "text", "text": "It is \"quoted\"\n{[\\"}],
            "api": "openai-completions", "provider": "mock", "model": "m1",
            "usage": {
                "input": 101, "output": 21, "cacheRead": 601, "cacheWrite": 3, "totalTokens": 726,
                "cost": {"input": 0.1, "output": 0.2, "cacheRead": 0.3, "cacheWrite": 0.4, "total": 1.0},
            },
            "stopReason": "stop", "timestamp": WRITTEN_MS - 200, "responseId": "chatcmpl-1",
            "__openclaw": {"runId": "r-1"},
        },
    })
}

/// That answer with another value in one place.
pub fn with(pointer: &str, value: Value) -> Value {
    let mut row = answer();
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    row.pointer_mut(parent).unwrap()[name] = value;
    row
}

/// A row as a line.
pub fn line(row: &Value) -> String {
    format!("{row}\n")
}

/// What the shim's `pick` copies by the table's paths.
pub fn picked(row: &Value) -> Value {
    let root =
        json!({"event": row, "ctx": {"sessionId": "s-1", "agentId": "main", "inherited": false}});
    let field = |path: &str| {
        if path.starts_with("usage:") {
            return usage(&row["message"]["usage"]);
        }
        let found = path
            .trim_start_matches("time:")
            .split('.')
            .try_fold(&root, |value, key| value.get(key));
        match found {
            Some(Value::Array(_) | Value::Object(_)) => json!([]),
            Some(found) if path.starts_with("time:") => json!(written_ms(found)),
            Some(found) => found.clone(),
            None => Value::Null,
        }
    };
    let fields = StoredFacts::TABLE.fields.iter();
    fields.map(|one| field(one.path)).collect()
}

/// What the shim copies of a usage object: pairs of a rule's number and a value.
fn usage(usage: &Value) -> Value {
    let mut pairs = Vec::new();
    let index = |name: &str| NAMES.iter().position(|known| *known == name);
    for (name, value) in usage.as_object().into_iter().flatten() {
        let leads_on = NAMES
            .iter()
            .any(|known| known.starts_with(&format!("{name}.")));
        match value.as_object().filter(|_| leads_on) {
            Some(object) => {
                for (inner, value) in object {
                    let index = index(&format!("{name}.{inner}"));
                    pairs.extend(index.map(|index| [json!(index), value.clone()]));
                }
            }
            None => pairs.extend(index(name).map(|index| [json!(index), value.clone()])),
        }
    }
    let as_fact = |value: &Value| match value {
        Value::Number(number) => json!(number.as_f64()),
        Value::Array(_) | Value::Object(_) => json!([]),
        other => other.clone(),
    };
    let told = pairs.iter().filter(|[_, value]| !value.is_null());
    let flat = told.flatten().map(as_fact);
    if usage.is_object() {
        flat.collect()
    } else {
        Value::Null
    }
}

fn written_ms(value: &Value) -> Option<u64> {
    let text = value.as_str()?;
    let at = humantime::parse_rfc3339(text).ok()?;
    Some(at.duration_since(std::time::UNIX_EPOCH).ok()?.as_millis() as u64)
}
