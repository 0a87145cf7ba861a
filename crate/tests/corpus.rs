//! The corpus of answers in `tests/fixtures/answers`: one file per provider, one answer per line, in the shapes of the
//! provider's API, each with its expected figures and the source in the provider's documentation. Each is read whole,
//! cut at every byte, and byte by byte.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use agentwatch_openclaw::sources::answer::{Answer, Told};
use agentwatch_openclaw::sources::ending::Ending;
use agentwatch_openclaw::sources::path::Target;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};

/// Expected figures of an answer, in tokens and USD.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Right {
    /// The whole prompt, including cache reads and writes.
    prompt: u64,
    cache_read: u64,
    cache_write: u64,
    /// The answer, reasoning included.
    completion: u64,
    reasoning: u64,
    outcome: String,
    /// Whether usage was reported.
    usage: String,
    /// The provider's bill.
    cost: Option<f64>,
    model: Option<String>,
    id: Option<String>,
}

/// An answer.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    case: String,
    /// Source of the figures' meaning in the provider's documentation.
    source: String,
    path: String,
    #[serde(default = "ok")]
    status: u16,
    /// The model in the request's body, where the answer has none.
    #[allow(dead_code, reason = "the proxy's test sends it")]
    asked: Option<String>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    /// `cut` by the provider or `left` by the client; whole otherwise.
    ending: Option<String>,
    body: Option<String>,
    /// The body in base64, where it is no text.
    base64: Option<String>,
    right: Right,
}

fn ok() -> u16 {
    200
}

impl Case {
    fn bytes(&self) -> Vec<u8> {
        match (&self.body, &self.base64) {
            (Some(body), None) => body.clone().into_bytes(),
            (None, Some(base64)) => STANDARD.decode(base64).unwrap(),
            _ => panic!("{}: a body, or one in base64", self.case),
        }
    }

    /// The reading of the answer in these pieces.
    fn told<'a>(&self, pieces: impl IntoIterator<Item = &'a [u8]>) -> Value {
        let mut answer = Answer::new(Target::of("POST", &self.path).unwrap(), self.status);
        for (name, value) in &self.headers {
            answer.header(name, value);
        }
        for piece in pieces {
            answer.feed(piece);
        }
        self.shown(&answer.finish(match self.ending.as_deref() {
            None => Ending::Whole,
            Some("cut") => Ending::Cut,
            Some("left") => Ending::Left,
            Some(other) => panic!("{other}"),
        }))
    }

    /// The reading in the format of [`Right`]; model, id and cost only where the case has them.
    fn shown(&self, told: &Told) -> Value {
        let count = |count: Option<u64>| count.unwrap_or(0);
        let right = &self.right;
        json!({
            "prompt": count(told.input) + count(told.cache_read) + count(told.cache_write),
            "cache_read": count(told.cache_read),
            "cache_write": count(told.cache_write),
            "completion": count(told.output),
            "reasoning": count(told.reasoning),
            "outcome": told.outcome,
            "usage": told.usage_source,
            "cost": right.cost.and(told.cost.as_ref()).map(|cost| cost.parse::<f64>().unwrap()),
            "model": right.model.as_ref().and(told.response_model.as_ref()),
            "id": right.id.as_ref().and(told.response_id.as_ref()),
        })
    }

    fn right(&self) -> Value {
        let right = &self.right;
        json!({
            "prompt": right.prompt, "cache_read": right.cache_read, "cache_write": right.cache_write,
            "completion": right.completion, "reasoning": right.reasoning, "outcome": right.outcome,
            "usage": right.usage, "cost": right.cost, "model": right.model, "id": right.id,
        })
    }
}

/// All answers, by provider.
fn corpus() -> BTreeMap<String, Vec<Case>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/answers");
    let mut corpus = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path
            .extension()
            .is_none_or(|extension| extension != "ndjson")
        {
            continue;
        }
        let provider = path.file_stem().unwrap().to_string_lossy().into_owned();
        let text = fs::read_to_string(&path).unwrap();
        let read = |line| {
            serde_json::from_str(line).unwrap_or_else(|error| panic!("{provider}: {error}: {line}"))
        };
        let cases = text.lines().map(read).collect();
        corpus.insert(provider, cases);
    }
    corpus
}

#[test]
fn the_corpus_has_many_providers_and_a_source_for_each_answer() {
    let corpus = corpus();
    let cases: Vec<&Case> = corpus.values().flatten().collect();
    assert!(corpus.len() >= 30, "{}", corpus.len());
    assert!(cases.len() >= 300, "{}", cases.len());
    for case in &cases {
        assert!(case.source.starts_with("https://"), "{}", case.case);
    }
    let names: BTreeSet<_> = corpus
        .iter()
        .flat_map(|(provider, cases)| cases.iter().map(move |case| (provider, &case.case)))
        .collect();
    assert_eq!(names.len(), cases.len(), "no two have the same name");
}

#[test]
fn each_answer_reads_as_documented() {
    let mut wrong = Vec::new();
    for (provider, cases) in corpus() {
        for case in cases {
            let told = case.told([&case.bytes()[..]]);
            if told != case.right() {
                wrong.push(format!(
                    "{provider}: {}\n  told  {told}\n  right {}",
                    case.case,
                    case.right()
                ));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "{} wrong:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

#[test]
fn each_answer_reads_the_same_cut_at_every_byte() {
    let cases: Vec<Case> = corpus().into_values().flatten().collect();
    let next = AtomicUsize::new(0);
    let work = || {
        while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
            let (bytes, right) = (case.bytes(), case.right());
            for at in 0..=bytes.len() {
                let told = case.told([&bytes[..at], &bytes[at..]]);
                assert_eq!(told, right, "{}: {} at {at}", case.path, case.case);
            }
            let told = case.told(bytes.chunks(1));
            assert_eq!(told, right, "{}: {} in bytes", case.path, case.case);
        }
    };
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(work);
        }
    });
}
