//! Events: read, matched, journalled, made into records, and all of it together.

use std::rc::Rc;

use agentwatch_openclaw::bindings::packed::Packed;
use agentwatch_openclaw::delivery::reply::Reply;
use agentwatch_openclaw::domain::call::CallId;
use agentwatch_openclaw::domain::observation::Observation;
use agentwatch_openclaw::domain::time::Now;
use agentwatch_openclaw::engine::Engine;
use agentwatch_openclaw::engine::settings::RawSettings;
use agentwatch_openclaw::host::{Fault, FileEntry, Host, Process};
use agentwatch_openclaw::journal::{self, Frame};
use agentwatch_openclaw::matching::Matcher;
use agentwatch_openclaw::sources::facts::Scalar;
use agentwatch_openclaw::sources::{self, Event};

use crate::{Figures, best, clock_seconds};

/// After so many events what is due is done.
const BATCH: usize = 20;

type Told = (usize, Vec<Scalar>, u64);

/// An event as it crosses, and when it came, in ms since 1970.
#[derive(serde::Deserialize)]
struct OnePacked {
    numbers: Vec<f64>,
    texts: String,
    wall: u64,
}

impl OnePacked {
    fn told(self) -> Option<Told> {
        let event = Packed::new(self.numbers, self.texts).next()?;
        Some((event.source, event.facts, self.wall))
    }
}

/// All figures of events.
pub fn measure(json: &[u8], figures: &mut Figures) {
    let packed: Vec<OnePacked> = serde_json::from_slice(json).unwrap();
    let told: Vec<Told> = packed.into_iter().filter_map(OnePacked::told).collect();
    let mut add = |name, count: usize, seconds: f64| {
        figures.insert(name, (count as f64 / seconds, "/s"));
    };
    let read = |(source, facts, wall): Told| sources::read(source, facts, wall);
    let seconds = best(
        || told.clone(),
        |told| {
            told.into_iter().for_each(|one| {
                std::hint::black_box(read(one)).ok();
            });
        },
    );
    add("events read, native", told.len(), seconds);

    let calls: Vec<(Observation, u64)> = told
        .iter()
        .cloned()
        .filter_map(|one| match (one.2, read(one)) {
            (wall, Ok(Event::Call(call))) => Some((*call, wall)),
            _ => None,
        })
        .collect();
    let count = calls.len();
    let seconds = best(|| calls.clone(), matched);
    add("observations matched, native", count, seconds);

    let frames: Vec<Frame> = calls
        .into_iter()
        .map(|(call, _)| Frame::Seen(CallId(1), Box::new(call)))
        .collect();
    let file = written(&frames);
    let seconds = best(
        || (),
        |()| {
            std::hint::black_box(written(&frames));
        },
    );
    add("journal, frames written, native", frames.len(), seconds);
    let seconds = best(
        || (),
        |()| assert_eq!(journal::read(&file).unwrap().frames.len(), frames.len()),
    );
    add("journal, frames recovered, native", frames.len(), seconds);

    let (mut of_records, mut records, mut of_all) = (f64::INFINITY, 0, f64::INFINITY);
    for _ in 0..5 {
        let begun = clock_seconds();
        let (seconds, sent) = whole(told.clone());
        of_all = of_all.min(clock_seconds() - begun);
        of_records = of_records.min(seconds);
        records = sent;
    }
    add("records made, native", records, of_records);
    add("events in all, native", told.len(), of_all);
}

fn matched(calls: Vec<(Observation, u64)>) {
    let mut ledger = Matcher::new(1);
    ledger.expect_diagnostics(true);
    for (index, (call, wall)) in calls.into_iter().enumerate() {
        ledger.observe(call, at(wall));
        if index % BATCH == 0 {
            std::hint::black_box(ledger.due(at(wall)));
        }
    }
}

fn written(frames: &[Frame]) -> Vec<u8> {
    let mut file = journal::begin_file();
    for frame in frames {
        journal::append_frame(&mut file, frame);
    }
    file
}

/// Takes everything at once, and keeps nothing.
#[derive(Debug)]
struct NoDisk;

impl Host for NoDisk {
    fn list(&self, _: &str) -> Result<Vec<FileEntry>, Fault> {
        Ok(Vec::new())
    }
    fn read(&self, _: &str, _: u64, _: usize) -> Result<Option<Vec<u8>>, Fault> {
        Ok(None)
    }
    fn append(&self, _: &str, _: &[u8], _: Option<u64>, _: bool) -> Result<(), Fault> {
        Ok(())
    }
    fn rename(&self, _: &str, _: &str, _: bool) -> Result<(), Fault> {
        Ok(())
    }
    fn remove(&self, _: &str) -> Result<(), Fault> {
        Ok(())
    }
    fn stat(&self, _: &str) -> Option<FileEntry> {
        None
    }
    fn create(&self, _: &str, _: &str) -> Result<bool, Fault> {
        Ok(true)
    }
    fn replace(&self, _: &str, _: &str) -> Result<(), Fault> {
        Ok(())
    }
    fn touch(&self, _: &str, _: u64) -> Result<(), Fault> {
        Ok(())
    }
    fn make_folder(&self, _: &str) -> Result<(), Fault> {
        Ok(())
    }
    fn remove_folder(&self, _: &str) -> Result<(), Fault> {
        Ok(())
    }
    fn path(&self, path: &str) -> String {
        path.to_owned()
    }
    fn process(&self) -> Process {
        Process {
            pid: 1,
            host: String::new(),
            started_ms: 0,
            token: String::new(),
        }
    }
    fn runs(&self, _: u32) -> bool {
        false
    }
    fn now(&self) -> Now {
        Now::default()
    }
}

/// Everything, with a receiver that takes everything at once: the seconds of making requests, and their records.
fn whole(told: Vec<Told>) -> (f64, usize) {
    let url = Scalar::Text("http://receiver.test".to_owned());
    let raw = RawSettings::from_names(|name| match *name {
        "url" => url.clone(),
        _ => Scalar::Absent,
    });
    let mut engine = Engine::new(&raw, 1);
    engine.expect_diagnostics(true);
    engine.open(Rc::new(NoDisk), at(told.first().map_or(0, |told| told.2)));
    let (mut seconds, mut records) = (0.0, 0);
    for (index, (source, facts, wall)) in told.into_iter().enumerate() {
        let now = at(wall);
        engine.observe(source, facts, now);
        if index % BATCH != 0 {
            continue;
        }
        engine.advance(now);
        engine.flush(now);
        let begun = clock_seconds();
        let mut next = engine.begin(now, false);
        seconds += clock_seconds() - begun;
        while let Some(request) = next {
            let body = request.body.as_deref();
            records += body.map_or(0, |body| body.matches("\"latency_ms\"").count());
            let reply = match body {
                None => r#"{"features": ["record_ids"]}"#,
                Some(_) => r#"{"status": "ok"}"#,
            };
            next = engine.answered(&Reply::of(200, reply), now);
        }
    }
    (seconds, records)
}

fn at(wall_ms: u64) -> Now {
    Now {
        wall_ms,
        mono_ms: wall_ms - 1_700_000_000_000,
    }
}
