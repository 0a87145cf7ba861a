//! The way out to OpenTelemetry: follows the journal, adds its calls up to metrics, and turns its traces into spans.
//!
//! It reads what the engine has written, as it is on disk, and has a progress of its own: how far each of the
//! journal's segments is added up, or was taken by the collector. Metrics are cumulative, so all of their state is a
//! few sums for each model and agent, kept with that progress in one file. In `io.wasm`.

pub mod metrics;
pub mod settings;
pub mod spans;
mod wire;

use std::collections::HashMap;

use self::metrics::Sums;
use crate::journal::format_v1::sums::{self, Mark};
use crate::journal::{self, FILE_HEADER, FRAME_HEADER, Reader, format_v1};

/// A batch of traces is closed when it has so many bytes of records.
const BATCH_BYTES: usize = 256 * 1024;

/// Who sends: OpenTelemetry's resource.
#[derive(Debug, Clone, Default)]
pub struct Resource {
    /// The gateway's name: `service.instance.id`, which keeps the sums of many gateways apart.
    pub gateway: String,
}

/// What is kept on disk.
#[derive(Debug, Default)]
pub struct Kept {
    /// Since when the sums count, in ms since 1970.
    pub start_ms: u64,
    /// The sums.
    pub sums: Sums,
    /// How far each segment is done with.
    pub marks: Vec<Mark>,
}

/// Some traces to send.
#[derive(Debug, PartialEq)]
pub struct Batch {
    /// The body for `/v1/traces`.
    pub body: String,
    /// How many spans are in it.
    pub spans: u32,
    /// To be told to [`Exporter::delivered`].
    pub upto: u32,
}

/// The exporter of one gateway.
#[derive(Debug)]
pub struct Exporter {
    resource: Resource,
    kept: Kept,
    /// The calls in segments that are still there: a disk that failed has some twice.
    ids: HashMap<u64, u32>,
    /// Segments whose calls are in `ids`.
    known: Vec<String>,
}

impl Exporter {
    /// Goes on from what [`Exporter::state`] gave; where that is missing or unreadable the sums begin anew, at `now_ms`.
    pub fn new(state: &[u8], resource: Resource, now_ms: u64) -> Self {
        let kept: Option<Kept> = Reader::open(state)
            .ok()
            .and_then(|mut frames| sums::state(frames.next()?.1));
        let start_ms = now_ms;
        Self {
            resource,
            kept: kept.unwrap_or(Kept {
                start_ms,
                ..Kept::default()
            }),
            ids: HashMap::new(),
            known: Vec::new(),
        }
    }

    /// Whether no call was summed up yet.
    pub fn is_empty(&self) -> bool {
        self.kept.sums.0.is_empty()
    }

    /// What is to be on disk before a segment that was read is given up.
    pub fn state(&self) -> Vec<u8> {
        let mut bytes = journal::begin_file();
        journal::append(&mut bytes, &sums::state_bytes(&self.kept));
        bytes
    }

    /// Adds up what is new in a segment of calls; the segment's key.
    pub fn calls(&mut self, name: &str, bytes: &[u8]) -> Option<String> {
        let (key, mark) = self.mark(name, bytes)?;
        let is_known = self.known.contains(&key);
        // Those that were added up by an earlier process are looked at once more, for their ids.
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

    /// The next traces of a segment of records; the segment's key, and nothing where all of it is done with.
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
        let body = spans::body(&traces, &self.resource);
        Some((key, Some(Batch { body, spans, upto })))
    }

    /// A segment is done with up to there.
    pub fn delivered(&mut self, key: &str, upto: u32) {
        match self.kept.marks.iter_mut().find(|mark| mark.file == key) {
            Some(mark) => mark.upto = upto,
            None => self.kept.marks.push(Mark {
                file: key.to_owned(),
                upto,
            }),
        }
    }

    /// These segments are still there; all others are forgotten.
    pub fn retain(&mut self, keys: &[String]) {
        self.kept.marks.retain(|mark| keys.contains(&mark.file));
        for index in 0..self.known.len() {
            // Numbers of segments stand in `ids`: a place is emptied, not closed.
            if !self.known[index].is_empty() && !keys.contains(&self.known[index]) {
                self.known[index].clear();
                self.ids.retain(|_, segment| *segment != index as u32);
            }
        }
    }

    /// The body for `/v1/metrics`; nothing before the first call.
    pub fn metrics(&self, now_ms: u64) -> Option<String> {
        self.kept
            .sums
            .body(&self.resource, self.kept.start_ms, now_ms)
    }

    fn mark(&self, name: &str, bytes: &[u8]) -> Option<(String, u32)> {
        // Of another version: nothing of it is understood.
        Reader::open(bytes.get(..FILE_HEADER)?).ok()?;
        let first = bytes.get(FILE_HEADER..FILE_HEADER + FRAME_HEADER)?;
        let hash = siphasher::sip::SipHasher13::new().hash(first);
        let key = format!("{name}#{hash:x}");
        let known = self.kept.marks.iter().find(|mark| mark.file == key);
        let upto = known.map_or(FILE_HEADER as u32, |mark| mark.upto);
        Some((key, upto))
    }
}
