//! Reads the answers of receivers and collectors. Another instance of the module parses foreign formats; the engine
//! gets the result.

use prost::Message;
use serde::{Deserialize, Serialize};

use crate::sources::facts::Scalar;

/// The result of a request.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Reply {
    /// The HTTP status; 0 without an answer.
    pub status: u16,
    /// `Retry-After`, in ms.
    pub retry_after_ms: Option<u64>,
    /// The error where there was no answer.
    pub error: Option<String>,
    /// Fields of the body.
    pub answer: Answer,
}

/// Fields of an answer's body.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Answer {
    /// The body confirms that AgentWatch accepted a batch.
    pub is_taken: bool,
    /// The receiver supports record ids.
    pub knows_ids: bool,
    /// Ids of the records, where the body is a list of records.
    pub ids: Option<Vec<String>>,
    /// Number of records that a collector rejected from a request that it accepted.
    pub rejected: u32,
    /// Pairs of gateways that sent the same calls.
    pub reported_twice: Vec<Vec<String>>,
}

impl Reply {
    /// An answer with a status and a body.
    pub fn of(status: u16, body: &str) -> Self {
        Self {
            status,
            answer: Answer::of_json(body),
            ..Self::default()
        }
    }

    /// Whether AgentWatch accepted a batch. A success status alone may come from something in between.
    pub fn is_taken(&self) -> bool {
        (200..=299).contains(&self.status) && self.answer.is_taken
    }
}

#[derive(Deserialize)]
struct Row {
    id: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Object {
    status: String,
    features: Vec<String>,
    reported_twice: Vec<Vec<String>>,
    #[serde(rename = "partialSuccess")]
    partial_success: Partial,
}

/// OTLP's partial success. Protobuf's JSON permits numbers as strings.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Partial {
    rejected_spans: Scalar,
    rejected_data_points: Scalar,
}

impl Partial {
    fn rejected(&self) -> u32 {
        let count = |scalar: &Scalar| match scalar {
            Scalar::Number(count) => *count as u64,
            other => other.text().and_then(|text| text.parse().ok()).unwrap_or(0),
        };
        saturated(count(&self.rejected_spans).saturating_add(count(&self.rejected_data_points)))
    }
}

fn saturated(count: u64) -> u32 {
    count.try_into().unwrap_or(u32::MAX)
}

/// The same in OTLP's protobuf, of traces and of metrics.
#[derive(Message)]
struct Exported {
    #[prost(message, optional, tag = "1")]
    partial_success: Option<Rejected>,
}

#[derive(Message)]
struct Rejected {
    #[prost(int64, tag = "1")]
    count: i64,
}

impl Answer {
    /// Reads a body by its content type. A collector answers a request in its encoding.
    pub fn read(body: &[u8], content_type: &str) -> Self {
        if !content_type.starts_with("application/x-protobuf") {
            return Self::of_json(&String::from_utf8_lossy(body));
        }
        let exported = Exported::decode(body).unwrap_or_default();
        let rejected = exported.partial_success.unwrap_or_default().count;
        Self {
            rejected: saturated(rejected.max(0) as u64),
            ..Self::default()
        }
    }

    /// Reads a body of one of the three formats; other bodies give the default.
    pub fn of_json(body: &str) -> Self {
        if body.trim_start().starts_with('[') {
            let rows: Option<Vec<Row>> = serde_json::from_str(body).ok();
            let ids = rows.map(|rows| rows.into_iter().map(|row| row.id).collect());
            return Self {
                ids,
                ..Self::default()
            };
        }
        let object: Object = serde_json::from_str(body).unwrap_or_default();
        Self {
            is_taken: object.status == "ok",
            knows_ids: object.features.iter().any(|f| f == "record_ids"),
            ids: None,
            reported_twice: object.reported_twice,
            rejected: object.partial_success.rejected(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_has_one_of_three_formats_or_none() {
        let taken = Answer::of_json(r#"{"status":"ok","ingested":2,"ids":[1,2]}"#);
        assert!(taken.is_taken && !taken.knows_ids);
        assert!(Answer::of_json(r#"{"features":["record_ids"]}"#).knows_ids);
        let twice = r#"{"features":["record_ids"],"reported_twice":[["a","b"]]}"#;
        assert_eq!(Answer::of_json(twice).reported_twice, [["a", "b"]]);
        for body in [
            r#"{"partialSuccess":{"rejectedSpans":"3"}}"#,
            r#"{"partialSuccess":{"rejectedDataPoints":3}}"#,
        ] {
            assert_eq!(Answer::of_json(body).rejected, 3, "{body}");
        }
        let ids = Answer::of_json(r#"[{"id":"a","cost":1},{"id":"b"}]"#).ids;
        assert_eq!(ids, Some(vec!["a".to_owned(), "b".to_owned()]));
        for nothing in [
            "",
            "<html>ok</html>",
            "true",
            r#"{"status":1}"#,
            r#"[{"x":1}]"#,
        ] {
            assert_eq!(Answer::of_json(nothing), Answer::default(), "{nothing}");
        }
    }

    #[test]
    fn a_collector_rejects_records_in_protobuf_too() {
        let read = |body: &[u8]| Answer::read(body, "application/x-protobuf").rejected;
        assert_eq!(read(&[0x0a, 0x02, 0x08, 0x03]), 3);
        // With a message; without a partial success; torn; below zero.
        assert_eq!(read(&[0x0a, 0x06, 0x08, 0x05, 0x12, 0x02, b'n', b'o']), 5);
        for nothing in [&[][..], &[0x0a, 0x02, 0x08]] {
            assert_eq!(read(nothing), 0);
        }
        assert_eq!(
            read(
                &Exported {
                    partial_success: Some(Rejected { count: -1 })
                }
                .encode_to_vec()
            ),
            0
        );
        let json = br#"{"partialSuccess":{"rejectedSpans":3}}"#;
        assert_eq!(Answer::read(json, "application/json").rejected, 3);
        // A number beyond JavaScript's exact ones would not cross, and the answer with it.
        let most = br#"{"partialSuccess":{"rejectedSpans":"9223372036854775807"}}"#;
        assert_eq!(Answer::read(most, "application/json").rejected, u32::MAX);
    }
}
