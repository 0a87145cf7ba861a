//! Export to OpenTelemetry: reads the journal's segments, sums calls up to metrics, and turns traces into spans.
//!
//! The exporter has its own cursor in each segment. Metrics are cumulative: their state is a few sums for each model
//! and agent, stored in one file together with the cursors.

pub mod metrics;
pub mod settings;
pub mod spans;
mod wire;

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use self::metrics::Sums;
use crate::journal::format_v1::sums::{self, Mark};
use crate::journal::{self, FILE_HEADER, FRAME_HEADER, Reader, format_v1};

/// Size of a batch's records, in bytes, at which it is closed.
const BATCH_BYTES: usize = 256 * 1024;

/// The sender: OpenTelemetry's resource.
#[derive(Debug, Clone, Default)]
pub struct Resource {
    /// The gateway's name: `service.instance.id`, which keeps the sums of many gateways apart.
    pub gateway: String,
}

/// Which GenAI conventions names follow.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Conventions {
    /// The last release of `open-telemetry/semantic-conventions` that has them, 1.41.1.
    #[default]
    Released,
    /// Those in development, without a release yet: `open-telemetry/semantic-conventions-genai` at 066d4a7f.
    Latest,
    /// Both, side by side.
    Both,
}

impl Conventions {
    fn has_released(self) -> bool {
        self != Self::Latest
    }

    fn has_latest(self) -> bool {
        self != Self::Released
    }
}

/// How requests are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Form {
    /// Whether bodies are protobuf, not JSON.
    pub protobuf: bool,
    /// Whether the host compresses bodies with gzip.
    pub gzip: bool,
    /// Names of metrics and attributes.
    pub conventions: Conventions,
}

impl Form {
    /// The type of the bodies.
    pub fn content_type(self) -> &'static str {
        match self.protobuf {
            true => "application/x-protobuf",
            false => "application/json",
        }
    }
}

/// State on disk.
#[derive(Debug, Default)]
pub struct Kept {
    /// Start time of the sums, in ms since 1970.
    pub start_ms: u64,
    /// Sums by model and agent.
    pub sums: Sums,
    /// Start time of the sums that earlier versions do not have, in ms since 1970.
    pub more_start_ms: u64,
    /// Cursor in each segment.
    pub marks: Vec<Mark>,
}

/// A batch of traces.
#[derive(Debug, PartialEq)]
pub struct Batch {
    /// The body for `/v1/traces`.
    pub body: Vec<u8>,
    /// Number of spans in the body.
    pub spans: u32,
    /// Cursor behind the batch: the argument of [`Exporter::delivered`].
    pub upto: u32,
}

/// The exporter of one gateway.
#[derive(Debug)]
pub struct Exporter {
    resource: Resource,
    form: Form,
    kept: Kept,
    /// Calls in segments that still exist, by key, with the segment's index in `known`. A disk failure can store a call
    /// twice.
    ids: HashMap<u64, u32>,
    /// Keys of the segments whose calls are in `ids`.
    known: Vec<String>,
}

impl Exporter {
    /// Restores an exporter from the bytes of [`Exporter::state`]. Where these are missing or unreadable, the sums
    /// start at zero, at `now_ms` (ms since 1970).
    pub fn new(state: &[u8], resource: Resource, now_ms: u64) -> Self {
        let kept = Reader::open(state).ok().and_then(|mut frames| {
            let mut kept = sums::state(frames.next()?.1)?;
            let (more, split) = (frames.next(), frames.next());
            let is_damaged = split.is_none() && frames.end() != state.len();
            if !more.is_some_and(|(_, more)| sums::read_more(&mut kept, more)) {
                // The file is of an earlier version.
                kept.more_start_ms = now_ms;
            }
            let is_read = split.is_none_or(|(_, split)| sums::read_split(&mut kept, split));
            (is_read && !is_damaged).then_some(kept)
        });
        Self {
            resource,
            form: Form::default(),
            kept: kept.unwrap_or(Kept {
                start_ms: now_ms,
                more_start_ms: now_ms,
                ..Kept::default()
            }),
            ids: HashMap::new(),
            known: Vec::new(),
        }
    }

    /// Writes requests in this form.
    pub fn with_form(self, form: Form) -> Self {
        Self { form, ..self }
    }

    /// Whether the sums contain no call.
    pub fn is_empty(&self) -> bool {
        self.kept.sums.0.is_empty()
    }

    /// The state file's content. It must be durable before a segment that was read is removed.
    pub fn state(&self) -> Vec<u8> {
        let mut bytes = journal::begin_file();
        journal::append(&mut bytes, &sums::state_bytes(&self.kept));
        // Version 0.1.0 reads the first frame alone.
        let are_split = self.kept.sums.are_split();
        if self.kept.sums.have_more() || are_split {
            journal::append(&mut bytes, &sums::more_bytes(&self.kept));
        }
        if are_split {
            journal::append(&mut bytes, &sums::split_bytes(&self.kept));
        }
        bytes
    }

    /// Adds the new calls of a segment to the sums and moves its cursor. Returns the segment's key; `None` if the bytes
    /// are not a segment of this format version.
    pub fn calls(&mut self, name: &str, bytes: &[u8]) -> Option<String> {
        let (key, mark) = self.mark(name, bytes)?;
        let is_known = self.known.contains(&key);
        // Calls that an earlier process added are read again for their ids.
        let from = if is_known { mark } else { FILE_HEADER as u32 };
        let segment = self.known.iter().position(|known| *known == key);
        let segment = segment.unwrap_or(self.known.len()) as u32;
        let mut reader = Reader::within(bytes.get(from as usize..)?);
        for (offset, payload) in reader.by_ref() {
            let Some(call) = format_v1::call(payload) else {
                continue;
            };
            let is_new = self.ids.insert(call.id.key(), segment).is_none();
            if is_new && from + offset >= mark {
                self.kept.sums.add(&call);
            }
        }
        let end = from + reader.end() as u32;
        if !is_known {
            self.known.push(key.clone());
        }
        self.delivered(&key, end.max(mark));
        Some(key)
    }

    /// The next traces of a segment. Returns the segment's key, and the batch; no batch where no trace is left. `None`
    /// if the bytes are not a segment of this format version.
    pub fn traces(&mut self, name: &str, bytes: &[u8]) -> Option<(String, Option<Batch>)> {
        let (key, mark) = self.mark(name, bytes)?;
        let mut reader = Reader::within(bytes.get(mark as usize..)?);
        let mut traces: Vec<spans::Trace> = Vec::new();
        let mut size = 0;
        for (_, payload) in reader.by_ref() {
            let Some(trace) = format_v1::record(payload)
                .and_then(|record| serde_json::from_str(record.trace()?).ok())
            else {
                continue;
            };
            size += payload.len();
            traces.push(trace);
            if size >= BATCH_BYTES {
                break;
            }
        }
        let upto = mark + reader.end() as u32;
        if traces.is_empty() {
            self.delivered(&key, upto.max(mark));
            return Some((key, None));
        }
        let spans = traces.iter().map(|trace| trace.spans.len() as u32).sum();
        let body = spans::body(&traces, &self.resource, self.form);
        Some((key, Some(Batch { body, spans, upto })))
    }

    /// Moves a segment's cursor to `upto`.
    pub fn delivered(&mut self, key: &str, upto: u32) {
        match self.kept.marks.iter_mut().find(|mark| mark.file == key) {
            Some(mark) => mark.upto = upto,
            None => self.kept.marks.push(Mark {
                file: key.to_owned(),
                upto,
            }),
        }
    }

    /// Number of segments with a cursor.
    pub fn cursors(&self) -> usize {
        self.kept.marks.len()
    }

    /// Drops the cursors and call ids of all segments other than these.
    pub fn retain(&mut self, keys: &[String]) {
        self.kept.marks.retain(|mark| keys.contains(&mark.file));
        for index in 0..self.known.len() {
            // `ids` refers to segments by index, so an entry is cleared, not removed.
            if !self.known[index].is_empty() && !keys.contains(&self.known[index]) {
                self.known[index].clear();
                self.ids.retain(|_, segment| *segment != index as u32);
            }
        }
    }

    /// Body for `/v1/metrics`; `None` before the first call. `now_ms` is ms since 1970.
    pub fn metrics(&self, now_ms: u64) -> Option<Vec<u8>> {
        let starts = metrics::Starts {
            sums_ms: self.kept.start_ms,
            more_ms: self.kept.more_start_ms,
        };
        let sums = &self.kept.sums;
        sums.body(&self.resource, self.form, starts, now_ms)
    }

    fn mark(&self, name: &str, bytes: &[u8]) -> Option<(String, u32)> {
        // A segment of another format version cannot be read.
        Reader::open(bytes.get(..FILE_HEADER)?).ok()?;
        let first = bytes.get(FILE_HEADER..FILE_HEADER + FRAME_HEADER)?;
        let hash = siphasher::sip::SipHasher13::new().hash(first);
        let key = format!("{name}#{hash:x}");
        let known = self.kept.marks.iter().find(|mark| mark.file == key);
        let upto = known.map_or(FILE_HEADER as u32, |mark| mark.upto);
        Some((key, upto))
    }
}
