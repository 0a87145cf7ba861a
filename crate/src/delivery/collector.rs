//! The outlet to an OpenTelemetry collector. It reads the journal's calls and records: it sums calls up to metrics, and
//! sends traces as spans. One file, `otlp/state.awj`, holds the sums and a cursor per segment. The journal keeps a
//! segment until its cursor is at the end, within the journal's disk budget, so an unreachable collector does not delay
//! AgentWatch.

use std::collections::HashMap;

use serde::Serialize;

use super::signal::{Outcome, Signal, SignalCounts, Unit};
use crate::delivery::otlp::{Exporter, Form, Resource};
use crate::delivery::reply::Reply;
use crate::domain::time::Now;
use crate::engine::log::Log;
use crate::host::{Fault, Host};
use crate::journal::log::{Kind, Position};
use crate::journal::{Foreign, Journal, Reader};

/// Delay between a journal write and its reading, in ms.
const LOOK_AFTER_MS: u64 = 500;
/// Interval of metrics that have changed, in ms.
const METRICS_EVERY_MS: u64 = 10_000;
/// Interval of unchanged metrics, in ms: collectors drop a series that is silent.
const METRICS_ANYHOW_MS: u64 = 60_000;
/// Pause after a failed read or write of a file, in ms.
const PAUSE_MS: u64 = 5_000;
/// Maximum number of bytes that are read of a file.
const MOST_BYTES: usize = 64 * 1024 * 1024;
/// The outlet's name, by which the journal knows how far it has read.
pub const OUTLET: &str = "collector";
/// Folder of the state. Earlier versions moved segments into it.
const FOLDER: &str = "otlp";
const STATE: &str = "otlp/state.awj";
const NEW_STATE: &str = "otlp/state.new";

/// The collector's address and headers. `Debug` leaves out the headers, which may hold keys.
#[derive(Clone, Default)]
pub struct Target {
    /// The collector's address.
    pub url: String,
    /// Headers of each request.
    pub headers: Vec<(String, String)>,
    /// Form of each request.
    pub form: Form,
}

impl std::fmt::Debug for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.debug_struct("Target").field("url", &self.url).finish()
    }
}

/// A request to the collector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Path, relative to the target's address.
    pub path: &'static str,
    /// The body, in the target's form.
    pub body: Vec<u8>,
}

/// Counters for the status.
#[derive(Debug, Clone, Serialize)]
pub struct CollectorStatus<'a> {
    /// The collector's address.
    pub url: &'a str,
    /// Counters of `/v1/metrics`.
    pub metrics: &'a SignalCounts,
    /// Counters of `/v1/traces`.
    pub traces: &'a SignalCounts,
}

#[derive(Debug)]
enum Flight {
    Metrics,
    Traces { key: String, upto: u32, spans: u64 },
}

/// A segment to read: in the journal, or moved by an earlier version into [`FOLDER`].
#[derive(Debug, Clone)]
struct File {
    path: String,
    /// File name in the journal, without the time that a moved segment's name starts with.
    name: String,
    bytes: u64,
    /// Segment number; `None` for a moved segment.
    segment: Option<u32>,
    /// Whether nothing more is written to it.
    is_final: bool,
}

impl File {
    /// Number of bytes of the file that are done with once these were read. A disk that failed may have written less than
    /// the log counts, and nothing comes behind them.
    fn read_bytes(&self, read: &[u8]) -> u64 {
        match self.is_final {
            true => self.bytes,
            false => read.len() as u64,
        }
    }
}

/// State of the outlet.
#[derive(Debug)]
pub struct Collector {
    target: Target,
    gateway: String,
    exporter: Option<Exporter>,
    metrics: Signal,
    traces: Signal,
    flight: Option<Flight>,
    /// Size, in bytes, of each file when it was last read to its end, by path.
    done: HashMap<String, u64>,
    /// Whether [`FOLDER`] may hold moved segments.
    has_moved: bool,
    has_news: bool,
    /// Whether cursors or sums have changed since the state was last written.
    is_changed: bool,
    /// Whether a collector has accepted traces since then.
    has_accepted: bool,
    has_traces: bool,
    told_ms: Option<u64>,
    /// When the state was last written.
    saved_ms: Option<u64>,
    /// Until when it pauses after a failed read or write of a file.
    rests_until_ms: u64,
    look_ms: Option<u64>,
}

impl Collector {
    /// Creates an outlet for the gateway of this name.
    pub fn new(target: Target, gateway: String, seed: u64) -> Self {
        Self {
            target,
            gateway,
            exporter: None,
            metrics: Signal::new("/v1/metrics", Unit::Point, seed),
            traces: Signal::new("/v1/traces", Unit::Span, !seed),
            flight: None,
            done: HashMap::new(),
            has_moved: true,
            has_news: true,
            is_changed: false,
            has_accepted: false,
            has_traces: true,
            told_ms: None,
            saved_ms: None,
            rests_until_ms: 0,
            look_ms: Some(0),
        }
    }

    /// Pauses after a failed read or write of a file.
    pub fn rest(&mut self, mono_ms: u64) {
        self.rests_until_ms = mono_ms + PAUSE_MS;
        self.look_ms = Some(self.rests_until_ms);
        self.has_traces = false;
    }

    /// The collector's address and headers.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// Counters for the status.
    pub fn status(&self) -> CollectorStatus<'_> {
        CollectorStatus {
            url: &self.target.url,
            metrics: &self.metrics.counts,
            traces: &self.traces.counts,
        }
    }

    /// Notes a journal write: the journal is read a moment later.
    pub fn wake(&mut self, mono_ms: u64) {
        self.look_at(mono_ms + LOOK_AFTER_MS);
    }

    fn look_at(&mut self, mono_ms: u64) {
        let at = mono_ms.max(self.rests_until_ms);
        self.look_ms = Some(self.look_ms.map_or(at, |known| known.min(at)));
    }

    /// Counts bytes of records that the journal dropped before the collector accepted them, and logs a warning.
    pub fn gave_up(&mut self, bytes: u64, log: &mut Log, mono_ms: u64) {
        if bytes == 0 {
            return;
        }
        self.traces.counts.given_up_bytes += bytes;
        let text = "was away for too long: the oldest of what waits for /v1/traces is given up";
        let url = self.target.url.clone();
        self.traces.log_trouble(&url, text.to_owned(), log, mono_ms);
    }

    /// When work is due, in ms of the monotonic clock.
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

    /// Reads new journal entries, if that is due. `hurry` reads at once. Adds files of another format version to
    /// `aside`.
    ///
    /// # Errors
    /// If a file cannot be read or written. The caller retries after [`Collector::rest`].
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
        self.look_ms = None;
        let calls = self.files(host, journal, Kind::Calls)?;
        for file in &calls {
            self.add(host, file, aside)?;
        }
        // The state has all sums, so it is written as often as they are sent, and not for each call. Until then the journal keeps
        // what was added: the next process adds it again. A trace that was accepted would be sent again, so it is written at once.
        let save_at_ms = self.saved_ms.map_or(0, |at| at + METRICS_EVERY_MS);
        let can_wait = self.is_changed && !self.has_accepted && !hurry;
        if can_wait && now.mono_ms < save_at_ms {
            self.look_at(save_at_ms);
        } else {
            self.save(host, now)?;
            for file in calls.iter().filter(|file| file.segment.is_none()) {
                self.remove_moved(host, file)?;
            }
            journal.follow(Kind::Calls, OUTLET, self.read_up_to(&calls));
        }
        let records = self.files(host, journal, Kind::Records)?;
        journal.follow(Kind::Records, OUTLET, self.read_up_to(&records));
        self.has_traces = records.iter().any(|file| !self.is_done(file));
        self.forget_marks(journal);
        Ok(())
    }

    /// Loads the state of an earlier process.
    fn open(
        &mut self,
        host: &dyn Host,
        aside: &mut Vec<(String, Foreign)>,
        now: Now,
    ) -> Result<(), Fault> {
        if self.exporter.is_some() {
            return Ok(());
        }
        // A damaged or missing state is replaced: the sums start at zero. A fault of the moment is none of it.
        let is_damaged = || host.stat(STATE).is_some_and(|file| file.fault.is_some());
        let mut state = match host.read(STATE, 0, MOST_BYTES) {
            Err(fault) if !is_damaged() => return Err(fault),
            found => found.ok().flatten().unwrap_or_default(),
        };
        if let Err(foreign) = Reader::open(&state) {
            let path = free_name(host, foreign.version)?;
            host.rename(STATE, &path, false)?;
            aside.push((path, foreign));
            state.clear();
        }
        let gateway = self.gateway.clone();
        let exporter = Exporter::new(&state, Resource { gateway }, now.wall_ms);
        self.exporter = Some(exporter.with_form(self.target.form));
        // Saved at once: cumulative metrics need one start time, and a process that restarts before the first save
        // would choose another.
        self.is_changed = state.is_empty();
        self.save(host, now)?;
        self.saved_ms = None;
        Ok(())
    }

    /// Writes the state, if it changed.
    fn save(&mut self, host: &dyn Host, now: Now) -> Result<(), Fault> {
        let Some(exporter) = self.exporter.as_ref().filter(|_| self.is_changed) else {
            return Ok(());
        };
        host.remove(NEW_STATE)?;
        host.append(NEW_STATE, &exporter.state(), None, false)?;
        host.rename(NEW_STATE, STATE, false)?;
        (self.is_changed, self.has_accepted) = (false, false);
        self.saved_ms = Some(now.mono_ms);
        Ok(())
    }

    /// Files of a kind, oldest first.
    ///
    /// # Errors
    /// Where the folder cannot be listed.
    fn files(
        &mut self,
        host: &dyn Host,
        journal: &Journal,
        kind: Kind,
    ) -> Result<Vec<File>, Fault> {
        let mut files = Vec::new();
        if self.has_moved {
            let found = host.list(FOLDER)?;
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
                    is_final: true,
                })
            }));
        }
        files.extend(journal.readable(kind).into_iter().map(|segment| File {
            path: format!("journal/{}", segment.file),
            name: segment.file,
            bytes: segment.bytes.into(),
            segment: Some(segment.number),
            is_final: segment.is_final,
        }));
        Ok(files)
    }

    fn is_done(&self, file: &File) -> bool {
        self.done.get(&file.path) == Some(&file.bytes)
    }

    /// Position up to which the segments are read without a gap.
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

    /// Adds the new calls of a file to the sums.
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
        self.done.insert(file.path.clone(), file.read_bytes(&bytes));
        Ok(())
    }

    /// Removes a moved segment once the written state covers it. A segment of a newer format version stays.
    fn remove_moved(&mut self, host: &dyn Host, file: &File) -> Result<(), Fault> {
        let head = host.read(&file.path, 0, crate::journal::FILE_HEADER)?;
        if Reader::open(&head.unwrap_or_default()).is_ok() {
            host.remove(&file.path)?;
            self.done.remove(&file.path);
        }
        Ok(())
    }

    /// Drops the cursors of removed segments. While moved segments exist, all cursors stay: theirs are not in the
    /// journal's list.
    fn forget_marks(&mut self, journal: &Journal) {
        let mut all = journal.readable(Kind::Calls);
        all.extend(journal.readable(Kind::Records));
        let cursors = self.exporter.as_ref().map_or(0, Exporter::cursors);
        if self.has_moved || cursors <= all.len() {
            return;
        }
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

    /// The next request, if one is due. `hurry` sends changed metrics at once, but not during a backoff. Adds files of
    /// another format version to `aside`.
    ///
    /// # Errors
    /// If a file cannot be read or written. The caller retries after [`Collector::rest`].
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
        let files = self.files(host, journal, Kind::Records)?;
        let request = self.next_traces(host, &files, aside)?;
        journal.follow(Kind::Records, OUTLET, self.read_up_to(&files));
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
            self.look_at(0);
            self.done.insert(file.path.clone(), file.read_bytes(&bytes));
            if file.segment.is_none() {
                self.remove_moved(host, file)?;
            }
        }
        self.has_traces = false;
        Ok(None)
    }

    /// Handles the reply to the request in flight.
    pub fn answered(&mut self, reply: &Reply, log: &mut Log, now: Now) {
        let url = self.target.url.clone();
        match self.flight.take() {
            None => {}
            Some(Flight::Metrics) => {
                let outcome = self.metrics.answered(&url, reply, 1, log, now.mono_ms);
                // The next request contains these sums as well, since metrics are cumulative.
                self.has_news |= outcome == Outcome::Later;
            }
            Some(Flight::Traces { key, upto, spans }) => {
                let outcome = self.traces.answered(&url, reply, spans, log, now.mono_ms);
                if outcome != Outcome::Later
                    && let Some(exporter) = &mut self.exporter
                {
                    exporter.delivered(&key, upto);
                    (self.is_changed, self.has_accepted) = (true, true);
                    self.look_at(now.mono_ms);
                }
            }
        }
    }
}

/// A free file name for the state of a newer format version.
fn free_name(host: &dyn Host, version: u16) -> Result<String, Fault> {
    let taken = host.list(FOLDER)?;
    let names = std::iter::once(String::new()).chain((1..).map(|number| format!("-{number}")));
    let mut names = names.map(|more| format!("state-v{version}{more}.awj"));
    let free = names.find(|name| taken.iter().all(|file| file.name != *name));
    Ok(format!("{FOLDER}/{}", free.unwrap_or_default()))
}
