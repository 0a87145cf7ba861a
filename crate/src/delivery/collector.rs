//! The outlet to an OpenTelemetry collector. It follows both logs of the journal: sums calls up to metrics, and tells
//! traces as spans. Its cursors, the segments' marks, are in one file with the sums, `otlp/state.awj`; a log keeps a
//! segment until that file says that it was read. So a collector that is away holds up nobody.

use std::collections::HashMap;

use serde::Serialize;

use super::signal::{Outcome, Signal, SignalCounts};
use crate::delivery::otlp::{Exporter, Resource};
use crate::delivery::reply::Reply;
use crate::domain::time::Now;
use crate::engine::log::Log;
use crate::host::{Fault, Host};
use crate::journal::log::{Kind, Position};
use crate::journal::{Foreign, Journal, Reader};

/// How soon what was written is looked at, in ms.
const LOOK_AFTER_MS: u64 = 500;
/// How often changed sums are told, in ms.
const METRICS_EVERY_MS: u64 = 10_000;
/// How often they are told anyhow: collectors take what is silent for gone.
const METRICS_ANYHOW_MS: u64 = 60_000;
/// How long a disk that failed is left alone, in ms.
const PAUSE_MS: u64 = 5_000;
/// The largest file that is read, in bytes.
const MOST_BYTES: usize = 64 * 1024 * 1024;
/// The folder of the state, and of segments that versions before this one put there.
const FOLDER: &str = "otlp";
const STATE: &str = "otlp/state.awj";
const NEW_STATE: &str = "otlp/state.new";

/// Where to send. Its headers are not for logs.
#[derive(Clone, Default)]
pub struct Target {
    /// The collector's address.
    pub url: String,
    /// Headers of each request.
    pub headers: Vec<(String, String)>,
}

impl std::fmt::Debug for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.debug_struct("Target").field("url", &self.url).finish()
    }
}

/// A request to the collector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The path, behind the target's address.
    pub path: &'static str,
    /// The JSON body.
    pub body: String,
}

/// What a status shows.
#[derive(Debug, Clone, Serialize)]
pub struct CollectorStatus<'a> {
    /// The collector's address.
    pub url: &'a str,
    /// Metrics.
    pub metrics: &'a SignalCounts,
    /// Traces.
    pub traces: &'a SignalCounts,
}

#[derive(Debug)]
enum Flight {
    Metrics,
    Traces { key: String, upto: u32, spans: u64 },
}

/// A file that is read, of the journal or of the folder that versions before this one moved segments to.
#[derive(Debug, Clone)]
struct File {
    path: String,
    /// As in the journal: the time in a moved segment's name is no part of its identity.
    name: String,
    bytes: u64,
    /// The segment's number; `None` for one that was moved.
    segment: Option<u32>,
}

/// See above.
#[derive(Debug)]
pub struct Collector {
    target: Target,
    gateway: String,
    exporter: Option<Exporter>,
    metrics: Signal,
    traces: Signal,
    flight: Option<Flight>,
    /// How large each file was when all of it was done with.
    done: HashMap<String, u64>,
    /// How many segments there were when marks of others were forgotten.
    segments: usize,
    /// There may be segments that a version before this one moved.
    has_moved: bool,
    has_news: bool,
    /// Marks have changed, and are yet to be written.
    is_changed: bool,
    has_traces: bool,
    told_ms: Option<u64>,
    look_ms: Option<u64>,
}

impl Collector {
    /// The outlet to a collector, for a gateway of this name.
    pub fn new(target: Target, gateway: String, seed: u64) -> Self {
        Self {
            target,
            gateway,
            exporter: None,
            metrics: Signal::new("/v1/metrics", seed),
            traces: Signal::new("/v1/traces", !seed),
            flight: None,
            done: HashMap::new(),
            segments: 0,
            has_moved: true,
            has_news: true,
            is_changed: false,
            has_traces: true,
            told_ms: None,
            look_ms: Some(0),
        }
    }

    /// A file could not be read or written: it is tried again a while later.
    pub fn rest(&mut self, mono_ms: u64) {
        self.look_ms = Some(mono_ms + PAUSE_MS);
        self.has_traces = false;
    }

    /// Where it sends.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// What a status shows.
    pub fn status(&self) -> CollectorStatus<'_> {
        CollectorStatus {
            url: &self.target.url,
            metrics: &self.metrics.counts,
            traces: &self.traces.counts,
        }
    }

    /// Something was written: it is looked at a moment later.
    pub fn wake(&mut self, mono_ms: u64) {
        self.look_ms.get_or_insert(mono_ms + LOOK_AFTER_MS);
    }

    /// So many bytes of records were given up before the collector took them.
    pub fn gave_up(&mut self, bytes: u64, log: &mut Log, mono_ms: u64) {
        if bytes == 0 {
            return;
        }
        self.traces.counts.given_up_bytes += bytes;
        let text = "was away for too long: the oldest of what waits for /v1/traces is given up";
        let url = self.target.url.clone();
        self.traces.log_trouble(&url, text.to_owned(), log, mono_ms);
    }

    /// When there is something to do.
    pub fn next_due(&self) -> Option<u64> {
        let metrics = self.exporter.as_ref().filter(|one| !one.is_empty());
        let metrics = metrics.map(|_| self.metrics_due_ms());
        let traces = self.has_traces.then(|| self.traces.sender.not_before_ms());
        let sends = match self.flight {
            None => [metrics, traces],
            Some(_) => [None; 2],
        };
        sends.into_iter().flatten().chain(self.look_ms).min()
    }

    fn metrics_due_ms(&self) -> u64 {
        let every = match self.has_news {
            true => METRICS_EVERY_MS,
            false => METRICS_ANYHOW_MS,
        };
        let due = self.told_ms.map_or(0, |told| told + every);
        due.max(self.metrics.sender.not_before_ms())
    }

    /// Reads what is new in the journal, where that is due.
    ///
    /// # Errors
    /// Where a file cannot be read or written; it is tried again.
    pub fn look(
        &mut self,
        host: &dyn Host,
        journal: &mut Journal,
        aside: &mut Vec<(String, Foreign)>,
        now: Now,
        hurry: bool,
    ) -> Result<(), Fault> {
        if !hurry && self.look_ms.is_none_or(|at| now.mono_ms < at) {
            return Ok(());
        }
        self.open(host, aside, now)?;
        let calls = self.files(host, journal, Kind::Calls);
        for file in &calls {
            self.add(host, file, aside)?;
        }
        self.save(host)?;
        for file in calls.iter().filter(|file| file.segment.is_none()) {
            self.remove_moved(host, file)?;
        }
        journal.follow(Kind::Calls, self.read_up_to(&calls));
        let records = self.files(host, journal, Kind::Records);
        journal.follow(Kind::Records, self.read_up_to(&records));
        self.has_traces = records.iter().any(|file| !self.is_done(file));
        self.forget_marks(journal);
        self.look_ms = None;
        Ok(())
    }

    /// Goes on from the state of an earlier process.
    fn open(
        &mut self,
        host: &dyn Host,
        aside: &mut Vec<(String, Foreign)>,
        now: Now,
    ) -> Result<(), Fault> {
        if self.exporter.is_some() {
            return Ok(());
        }
        // What is no file is replaced: sums begin anew.
        let state = host.read(STATE, 0, MOST_BYTES).ok().flatten();
        let mut state = state.unwrap_or_default();
        if let Err(foreign) = Reader::open(&state) {
            let path = free_name(host, foreign.version);
            host.rename(STATE, &path, false)?;
            aside.push((path, foreign));
            state.clear();
        }
        let gateway = self.gateway.clone();
        self.exporter = Some(Exporter::new(&state, Resource { gateway }, now.wall_ms));
        // A new beginning is the beginning: another one would go back behind what was told.
        self.is_changed = state.is_empty();
        self.save(host)
    }

    fn save(&mut self, host: &dyn Host) -> Result<(), Fault> {
        let Some(exporter) = self.exporter.as_ref().filter(|_| self.is_changed) else {
            return Ok(());
        };
        host.remove(NEW_STATE)?;
        host.append(NEW_STATE, &exporter.state(), None, false)?;
        host.rename(NEW_STATE, STATE, false)?;
        self.is_changed = false;
        Ok(())
    }

    /// Files of a kind, the oldest first.
    fn files(&mut self, host: &dyn Host, journal: &Journal, kind: Kind) -> Vec<File> {
        let mut files = Vec::new();
        if self.has_moved {
            let found = host.list(FOLDER);
            let moved = |name: &str| -> Option<String> {
                let (time, name) = name.split_once('-')?;
                let is_time = !time.is_empty() && time.bytes().all(|byte| byte.is_ascii_digit());
                is_time.then(|| name.to_owned())
            };
            self.has_moved = found.iter().any(|file| moved(&file.name).is_some());
            files.extend(found.iter().filter_map(|file| {
                let name = moved(&file.name)?;
                let is_it = name.starts_with(kind.prefix()) && file.fault.is_none();
                is_it.then(|| File {
                    path: format!("{FOLDER}/{}", file.name),
                    name,
                    bytes: file.bytes,
                    segment: None,
                })
            }));
        }
        files.extend(journal.readable(kind).into_iter().map(|segment| File {
            path: format!("journal/{}", segment.file),
            name: segment.file,
            bytes: segment.bytes.into(),
            segment: Some(segment.number),
        }));
        files
    }

    fn is_done(&self, file: &File) -> bool {
        self.done.get(&file.path) == Some(&file.bytes)
    }

    /// Up to where files are done with, one after the other.
    fn read_up_to(&self, files: &[File]) -> Option<Position> {
        let segments = || files.iter().filter_map(|file| Some((file.segment?, file)));
        let undone = segments().find(|(_, file)| !self.is_done(file));
        let at = match undone {
            Some((segment, file)) => {
                let offset = self.done.get(&file.path).copied().unwrap_or(0);
                (segment, offset as u32)
            }
            None => segments()
                .next_back()
                .map_or((0, 0), |(segment, file)| (segment, file.bytes as u32)),
        };
        let (segment, offset) = at;
        Some(Position { segment, offset })
    }

    /// Adds up the new calls of a file.
    fn add(
        &mut self,
        host: &dyn Host,
        file: &File,
        aside: &mut Vec<(String, Foreign)>,
    ) -> Result<(), Fault> {
        if self.is_done(file) {
            return Ok(());
        }
        let bytes = host.read(&file.path, 0, MOST_BYTES)?.unwrap_or_default();
        if let Some(exporter) = &mut self.exporter {
            if let Err(foreign) = Reader::open(&bytes) {
                aside.push((file.path.clone(), foreign));
            }
            exporter.calls(&file.name, &bytes);
            self.is_changed = true;
            self.has_news = true;
        }
        self.done.insert(file.path.clone(), bytes.len() as u64);
        Ok(())
    }

    /// A moved segment is removed when the state says that it is done with. One of a newer version stays.
    fn remove_moved(&mut self, host: &dyn Host, file: &File) -> Result<(), Fault> {
        let head = host.read(&file.path, 0, crate::journal::FILE_HEADER)?;
        if Reader::open(&head.unwrap_or_default()).is_ok() {
            host.remove(&file.path)?;
            self.done.remove(&file.path);
        }
        Ok(())
    }

    /// Marks of segments that are gone are of no use; numbers of moved ones may stand for others.
    fn forget_marks(&mut self, journal: &Journal) {
        let mut all = journal.readable(Kind::Calls);
        all.extend(journal.readable(Kind::Records));
        if self.has_moved || all.len() >= self.segments {
            self.segments = self.segments.max(all.len());
            return;
        }
        self.segments = all.len();
        let paths: Vec<String> = all
            .iter()
            .map(|one| format!("journal/{}", one.file))
            .collect();
        self.done.retain(|path, _| paths.contains(path));
        let keys: Vec<String> = all.into_iter().map(|segment| segment.key).collect();
        if let Some(exporter) = &mut self.exporter {
            exporter.retain(&keys);
        }
    }

    /// The next request, if any is due; with `hurry` sums that changed are told at once. Pauses hold all the same.
    ///
    /// # Errors
    /// Where a file cannot be read or written; it is tried again.
    pub fn begin(
        &mut self,
        host: &dyn Host,
        journal: &mut Journal,
        aside: &mut Vec<(String, Foreign)>,
        now: Now,
        hurry: bool,
    ) -> Result<Option<Request>, Fault> {
        if self.flight.is_some() {
            return Ok(None);
        }
        let metrics_due_ms = match hurry && self.has_news {
            true => self.metrics.sender.not_before_ms(),
            false => self.metrics_due_ms(),
        };
        let Some(exporter) = self.exporter.as_ref() else {
            return Ok(None);
        };
        if now.mono_ms >= metrics_due_ms
            && let Some(body) = exporter.metrics(now.wall_ms)
        {
            self.has_news = false;
            self.told_ms = Some(now.mono_ms);
            self.flight = Some(Flight::Metrics);
            return Ok(Some(Request {
                path: self.metrics.path,
                body,
            }));
        }
        let is_free = now.mono_ms >= self.traces.sender.not_before_ms();
        if !self.has_traces || !is_free {
            return Ok(None);
        }
        let files = self.files(host, journal, Kind::Records);
        let request = self.next_traces(host, &files, aside)?;
        journal.follow(Kind::Records, self.read_up_to(&files));
        Ok(request)
    }

    fn next_traces(
        &mut self,
        host: &dyn Host,
        files: &[File],
        aside: &mut Vec<(String, Foreign)>,
    ) -> Result<Option<Request>, Fault> {
        for file in files {
            if self.is_done(file) {
                continue;
            }
            let bytes = host.read(&file.path, 0, MOST_BYTES)?.unwrap_or_default();
            if let Err(foreign) = Reader::open(&bytes) {
                aside.push((file.path.clone(), foreign));
            }
            let Some(exporter) = &mut self.exporter else {
                return Ok(None);
            };
            if let Some((key, Some(batch))) = exporter.traces(&file.name, &bytes) {
                self.flight = Some(Flight::Traces {
                    key,
                    upto: batch.upto,
                    spans: batch.spans.into(),
                });
                return Ok(Some(Request {
                    path: self.traces.path,
                    body: batch.body,
                }));
            }
            self.is_changed = true;
            self.look_ms.get_or_insert(0);
            self.done.insert(file.path.clone(), bytes.len() as u64);
            if file.segment.is_none() {
                self.remove_moved(host, file)?;
            }
        }
        self.has_traces = false;
        Ok(None)
    }

    /// Takes the reply to the last request.
    pub fn answered(&mut self, reply: &Reply, log: &mut Log, now: Now) {
        let url = self.target.url.clone();
        match self.flight.take() {
            None => {}
            Some(Flight::Metrics) => {
                let outcome = self.metrics.answered(&url, reply, 1, log, now.mono_ms);
                // Sums that did not arrive are in the next ones.
                self.has_news |= outcome == Outcome::Later;
            }
            Some(Flight::Traces { key, upto, spans }) => {
                let outcome = self.traces.answered(&url, reply, spans, log, now.mono_ms);
                if outcome != Outcome::Later
                    && let Some(exporter) = &mut self.exporter
                {
                    exporter.delivered(&key, upto);
                    self.is_changed = true;
                    self.look_ms.get_or_insert(now.mono_ms);
                }
            }
        }
    }
}

/// A name for a state of a newer version that no file has.
fn free_name(host: &dyn Host, version: u16) -> String {
    let taken = host.list(FOLDER);
    let names = std::iter::once(String::new()).chain((1..).map(|number| format!("-{number}")));
    let mut names = names.map(|more| format!("state-v{version}{more}.awj"));
    let free = names.find(|name| taken.iter().all(|file| file.name != *name));
    format!("{FOLDER}/{}", free.unwrap_or_default())
}
