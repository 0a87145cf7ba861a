//! Reads the request to a model's HTTP API: the model, and where `stream_options` has to ask for usage.

use std::borrow::Cow;

use crate::formats::json::{self, MAX_BYTES, Value};

/// The body's `stream_options`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Options {
    Absent,
    /// `null`, at this offset in bytes.
    Null(usize),
    /// An object at this offset in bytes, without `include_usage`.
    Undecided {
        at: usize,
        is_empty: bool,
    },
    /// An object with `include_usage`, or an unknown value.
    Decided,
}

/// A change of a body: `remove` bytes at `at` are replaced by `insert`.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Edit {
    /// Offset in bytes.
    pub at: usize,
    /// Number of bytes to remove.
    pub remove: usize,
    /// Text to insert.
    pub insert: &'static str,
}

/// Fields of the body as far as it has arrived.
struct Fields {
    model: Option<String>,
    is_stream: bool,
    options: Options,
    is_whole: bool,
}

impl Fields {
    fn of(text: &str) -> Self {
        let mut fields = Self {
            model: None,
            is_stream: false,
            options: Options::Absent,
            is_whole: false,
        };
        let read = json::read_object(text, |key, value| match key {
            "model" => fields.model = value.name().or(fields.model.take()),
            "stream" => fields.is_stream = value.is_true(),
            "stream_options" => fields.options = Options::of(value, value.offset_in(text)),
            _ => {}
        });
        fields.is_whole = read.is_ok();
        fields
    }
}

impl Options {
    fn of(value: Value, at: usize) -> Self {
        if value.is_null() {
            return Self::Null(at);
        }
        if !value.is_object() {
            return Self::Decided;
        }
        let (mut is_empty, mut is_decided) = (true, false);
        value.members(|key, _| {
            is_empty = false;
            is_decided |= key == "include_usage";
        });
        match is_decided {
            true => Self::Decided,
            false => Self::Undecided { at, is_empty },
        }
    }
}

/// Reader of one request.
#[derive(Debug, Default)]
pub struct Request {
    /// The beginning of the body, up to [`MAX_BYTES`].
    body: Vec<u8>,
    is_longer: bool,
    is_known: bool,
    /// Length at which the model is looked up again. It doubles, so that all lookups together cost no more than a few
    /// times the body's length.
    next_look: usize,
}

impl Request {
    /// Reads the next piece of the body. Returns whether the model is known.
    pub fn feed(&mut self, bytes: &[u8]) -> bool {
        let room = bytes.len().min(MAX_BYTES - self.body.len());
        self.is_longer |= room < bytes.len();
        self.body.extend_from_slice(&bytes[..room]);
        if !self.is_known && self.body.len() >= self.next_look {
            self.next_look = self.body.len() * 2;
            self.is_known = self.model().is_some();
        }
        self.is_known
    }

    /// The requested model.
    pub fn model(&self) -> Option<String> {
        Fields::of(&json::text_of(&self.body)).model
    }

    /// The edit that makes the provider report usage in its stream, once the whole body has passed. `None` where the
    /// provider reports it anyway, where the client has decided about it, or where this is no body of a streaming
    /// request.
    pub fn wish_for_usage(&self) -> Option<Edit> {
        // It is unknown how a provider reads a body that is not UTF-8.
        let Cow::Borrowed(text) = json::text_of(&self.body) else {
            return None;
        };
        let fields = Fields::of(text);
        if !fields.is_stream || !fields.is_whole || self.is_longer {
            return None;
        }
        let mark = self.body.len() - text.len();
        let edit = |at, remove, insert| {
            let at = mark + at;
            Some(Edit { at, remove, insert })
        };
        match fields.options {
            // The body has at least the member `stream`, so a comma follows.
            Options::Absent => edit(
                text.find('{')? + 1,
                0,
                r#""stream_options":{"include_usage":true},"#,
            ),
            Options::Null(at) => edit(at, "null".len(), r#"{"include_usage":true}"#),
            Options::Undecided { at, is_empty: true } => edit(at + 1, 0, r#""include_usage":true"#),
            Options::Undecided { at, .. } => edit(at + 1, 0, r#""include_usage":true,"#),
            Options::Decided => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edited(body: &str) -> Option<String> {
        let mut request = Request::default();
        for byte in body.as_bytes().chunks(1) {
            request.feed(byte);
        }
        let Edit { at, remove, insert } = request.wish_for_usage()?;
        Some(format!("{}{insert}{}", &body[..at], &body[at + remove..]))
    }

    #[test]
    fn a_stream_request_gets_only_the_usage_option_added() {
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
            (
                "\u{feff}{\"stream\":true,\"stream_options\":null}",
                "\u{feff}{\"stream\":true,\"stream_options\":{\"include_usage\":true}}",
            ),
        ];
        for (body, expected) in cases {
            assert_eq!(edited(body).as_deref(), Some(expected));
            let parsed: serde_json::Value =
                serde_json::from_str(expected.trim_start_matches('\u{feff}')).unwrap_or_default();
            assert_eq!(parsed["stream_options"]["include_usage"], true);
        }
    }

    #[test]
    fn other_requests_are_not_changed() {
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
            assert_eq!(edited(body), None, "{body}");
        }
    }

    #[test]
    fn the_model_is_known_from_the_beginning_of_a_body() {
        let mut request = Request::default();
        assert!(request.feed(br#"{"model":"gpt-\u0035","messages":[{"model":"no"#));
        assert_eq!(request.model().as_deref(), Some("gpt-5"));
    }

    #[test]
    fn a_model_at_the_end_is_known_once_the_body_is_whole() {
        let body = r#"{"messages":[{"model":"no"}],"stream":true,"model":"gpt-5"}"#;
        let mut request = Request::default();
        body.as_bytes().chunks(1).for_each(|byte| {
            request.feed(byte);
        });
        assert_eq!(request.model().as_deref(), Some("gpt-5"));
    }

    #[test]
    fn the_last_of_two_members_with_one_name_is_read() {
        let body = r#"{"model":"a","stream":false,"model":"b","stream":true,"stream_options":7,"stream_options":{}}"#;
        let mut request = Request::default();
        request.feed(body.as_bytes());
        assert_eq!(request.model().as_deref(), Some("b"));
        let expected = body.replace("{}}", r#"{"include_usage":true}}"#);
        assert_eq!(edited(body), Some(expected));
    }

    #[test]
    fn a_body_that_is_no_utf8_keeps_its_model_and_its_bytes() {
        let mut request = Request::default();
        request.feed(b"{\"model\":\"m\xff\",\"stream\":true}");
        assert_eq!(request.model().as_deref(), Some("m\u{fffd}"));
        assert_eq!(request.wish_for_usage(), None);
    }

    #[test]
    fn a_long_body_is_buffered_up_to_a_limit() {
        let mut request = Request::default();
        let begin = br#"{"model":"m","stream":true,"messages":""#;
        let filler = [b'x'; 64 * 1024];
        assert!(request.feed(begin));
        for _ in 0..=MAX_BYTES / filler.len() {
            request.feed(&filler);
        }
        request.feed(br#""}"#);
        assert_eq!(request.body.len(), MAX_BYTES);
        assert_eq!(request.model().as_deref(), Some("m"));
        assert_eq!(request.wish_for_usage(), None);
    }
}
