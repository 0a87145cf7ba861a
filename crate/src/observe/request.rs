//! The request to a model's HTTP API, read while it passes: which model it asks, and where a wish for
//! usage would have to stand in it.

use crate::json::Found;
use crate::json::Scanner;
use crate::json::Shape::{self, Leaf, Object, Record};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    Model,
    Stream,
    Options,
    IncludeUsage,
}

const REQUEST: Shape<Field> = Object(&[
    ("model", Leaf(Field::Model)),
    ("stream", Leaf(Field::Stream)),
    (
        "stream_options",
        Record(
            Field::Options,
            &[("include_usage", Leaf(Field::IncludeUsage))],
        ),
    ),
]);

/// What the body has of `stream_options`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Options {
    Absent,
    /// `null`, at this offset.
    Null(usize),
    /// An object that begins at this offset and does not say whether usage is wanted.
    Silent {
        at: usize,
        is_empty: bool,
    },
    /// It says so, or is nothing that we know.
    Said,
}

/// A change of a body: at this offset so many bytes go, and the text comes.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Edit {
    /// Offset in bytes.
    pub at: usize,
    /// Bytes that go.
    pub remove: usize,
    /// What comes.
    pub insert: &'static str,
}

/// The reader of one request.
#[derive(Debug)]
pub struct Request {
    scanner: Scanner<Field>,
    model: Option<String>,
    is_stream: bool,
    options: Options,
    /// The offset of the body's brace.
    brace: Option<usize>,
    length: usize,
}

impl Default for Request {
    fn default() -> Self {
        Self {
            scanner: Scanner::new(&REQUEST),
            model: None,
            is_stream: false,
            options: Options::Absent,
            brace: None,
            length: 0,
        }
    }
}

impl Request {
    /// Takes the next piece of the body. Whether the model is known by now.
    pub fn feed(&mut self, bytes: &[u8]) -> bool {
        if self.brace.is_none() {
            let begin = bytes.iter().position(|byte| *byte == b'{');
            self.brace = begin.map(|index| self.length + index);
        }
        self.length += bytes.len();
        let Self {
            scanner,
            model,
            is_stream,
            options,
            ..
        } = self;
        scanner.feed(bytes, &mut |field, found, at| match (field, found) {
            (Field::Model, Found::Text(text)) => *model = Some(text.to_owned()),
            (Field::Stream, found) => *is_stream = found == Found::Bool(true),
            (Field::Options, Found::Begin) => {
                *options = Options::Silent {
                    at,
                    is_empty: false,
                };
            }
            (Field::Options, Found::End { is_empty: true }) => {
                if let Options::Silent { is_empty, .. } = options {
                    *is_empty = true;
                }
            }
            (Field::Options, Found::End { .. }) => {}
            (Field::Options, Found::Null) => *options = Options::Null(at),
            (Field::Options | Field::IncludeUsage, _) => *options = Options::Said,
            _ => {}
        });
        self.model.is_some()
    }

    /// The model that is asked.
    pub fn model(&self) -> Option<&str> {
        self.model.as_deref()
    }

    /// What makes the provider tell the usage of its stream, once the whole body has passed; nothing
    /// where it does so anyway, where the client has said whether it wants it, or where this is no body
    /// of a streaming request.
    pub fn wish_for_usage(&self) -> Option<Edit> {
        if !self.is_stream || !self.scanner.is_done() {
            return None;
        }
        let edit = |at, remove, insert| Some(Edit { at, remove, insert });
        match self.options {
            // The body has `stream` in it, so a comma is right.
            Options::Absent => edit(
                self.brace? + 1,
                0,
                r#""stream_options":{"include_usage":true},"#,
            ),
            Options::Null(at) => edit(at, "null".len(), r#"{"include_usage":true}"#),
            Options::Silent { at, is_empty: true } => edit(at + 1, 0, r#""include_usage":true"#),
            Options::Silent { at, .. } => edit(at + 1, 0, r#""include_usage":true,"#),
            Options::Said => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wished(body: &str) -> Option<String> {
        let mut request = Request::default();
        for byte in body.as_bytes().chunks(1) {
            request.feed(byte);
        }
        let Edit { at, remove, insert } = request.wish_for_usage()?;
        Some(format!("{}{insert}{}", &body[..at], &body[at + remove..]))
    }

    #[test]
    fn a_stream_is_asked_for_usage_with_nothing_else_changed() {
        let cases = [
            (
                r#" {"model":"m","stream":true}"#,
                r#" {"stream_options":{"include_usage":true},"model":"m","stream":true}"#,
            ),
            (
                r#"{"stream":true,"stream_options": null }"#,
                r#"{"stream":true,"stream_options": {"include_usage":true} }"#,
            ),
            (
                r#"{"stream":true,"stream_options":{ }}"#,
                r#"{"stream":true,"stream_options":{"include_usage":true }}"#,
            ),
            (
                r#"{"stream_options":{"a":[{"include_usage":1}]},"stream":true}"#,
                r#"{"stream_options":{"include_usage":true,"a":[{"include_usage":1}]},"stream":true}"#,
            ),
        ];
        for (body, expected) in cases {
            assert_eq!(wished(body).as_deref(), Some(expected));
            let parsed: serde_json::Value = serde_json::from_str(expected).unwrap_or_default();
            assert_eq!(parsed["stream_options"]["include_usage"], true);
        }
    }

    #[test]
    fn other_requests_stay_as_they_are() {
        for body in [
            r#"{"model":"m"}"#,
            r#"{"model":"m","stream":false}"#,
            r#"{"stream":"true"}"#,
            r#"{"stream":true,"stream_options":{"include_usage":false}}"#,
            r#"{"stream":true,"stream_options":{"include_usage":true}}"#,
            r#"{"stream":true,"stream_options":7}"#,
            r#"{"stream":true"#,
            r#"[{"stream":true}]"#,
            "stream",
            "",
        ] {
            assert_eq!(wished(body), None, "{body}");
        }
    }

    #[test]
    fn the_model_is_known_as_soon_as_it_has_passed() {
        let mut request = Request::default();
        assert!(!request.feed(br#"{"messages":[{"model":"no"}],"model":"gp"#));
        assert!(request.feed(br#"t-\u0035","#));
        assert_eq!(request.model(), Some("gpt-5"));
    }
}
