//! How fast the engine is natively, beside what bounds it. `tests/bench/core.mjs` builds it, gives it its inputs and reads
//! what it prints: a line of JSON with a value and a unit a name.
//!
//! Arguments: facts of events (JSON, `[[source, facts, wall], …]`), stored transcripts, a stream of a provider.

mod bounds;
mod events;

use std::collections::BTreeMap;

/// Name to value and unit.
type Figures = BTreeMap<&'static str, (f64, &'static str)>;

/// As the shim reads files and sockets.
const CHUNK: usize = 128 * 1024;

fn main() {
    let [events, transcripts, stream] = {
        let mut paths = std::env::args().skip(1);
        [(); 3].map(|()| std::fs::read(paths.next().unwrap()).unwrap())
    };
    let mut figures = Figures::new();
    events::measure(&events, &mut figures);
    bounds::transcripts(&transcripts, &mut figures);
    bounds::streams(&stream, &mut figures);
    println!("{}", serde_json::to_string(&figures).unwrap());
}

/// Seconds since the first call. What Linux tells of a thread's CPU is too coarse for some of these; the best of several
/// runs has no other process in it.
fn clock_seconds() -> f64 {
    static BEGUN: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
    let begun = BEGUN.get_or_init(std::time::Instant::now);
    begun.elapsed().as_secs_f64()
}

/// The best of several: seconds of some work, made ready unmeasured.
fn best<T>(mut ready: impl FnMut() -> T, mut work: impl FnMut(T)) -> f64 {
    (0..9)
        .map(|_| {
            let input = std::hint::black_box(ready());
            let begun = clock_seconds();
            work(input);
            clock_seconds() - begun
        })
        .fold(f64::INFINITY, f64::min)
}

/// The same in MB/s.
fn speed(bytes: &[u8], work: impl Fn(&[u8]) -> usize) -> f64 {
    let seconds = best(
        || (),
        |()| {
            std::hint::black_box(work(std::hint::black_box(bytes)));
        },
    );
    bytes.len() as f64 / 1e6 / seconds
}
