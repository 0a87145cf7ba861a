//! Shared by the fuzz targets: ways of cutting, files of frames with arbitrary bytes, and the gateway of the engine's own
//! tests. A target fails by panicking.

use std::hash::{DefaultHasher, Hasher};

use agentwatch_openclaw::domain::call::IdMint;
use agentwatch_openclaw::journal;
use agentwatch_openclaw::sources::facts::Scalar;
use arbitrary::{Result, Unstructured};

#[path = "../../crate/tests/common/mod.rs"]
pub mod common;

/// The wall clock of all targets, in ms since 1970.
pub const NOW_MS: u64 = 1_795_000_000_000;

/// Longer inputs are not cut into single bytes, since that finds nothing new.
const CUT_TO_BYTES: usize = 4_096;

/// The system's random numbers, of which std's hash maps make their keys: with other keys in each run, a seed of libFuzzer gives
/// other inputs, and a failed input may pass.
#[unsafe(no_mangle)]
extern "C" fn getrandom(to: *mut u8, length: usize, _flags: u32) -> isize {
    // SAFETY: it is the length of the caller's buffer.
    unsafe { to.write_bytes(7, length) };
    length as isize
}

/// Random numbers derived from the input, so that failures can be reproduced.
pub fn dice(data: &[u8]) -> IdMint {
    let mut hasher = DefaultHasher::new();
    hasher.write(data);
    IdMint::new(hasher.finish())
}

/// The input cut in several ways: whole, into bytes, and twice at random.
pub fn cut(data: &[u8]) -> Vec<Vec<&[u8]>> {
    let mut dice = dice(data);
    let mut ways = vec![vec![data]];
    if data.len() <= CUT_TO_BYTES {
        ways.push(data.chunks(1).collect());
    }
    for _ in 0..2 {
        let mut cuts: Vec<usize> = (0..1 + dice.bits() % 6)
            .map(|_| (dice.bits() % (data.len() as u64 + 1)) as usize)
            .collect();
        cuts.extend([0, data.len()]);
        cuts.sort_unstable();
        let pieces = cuts.windows(2).map(|pair| &data[pair[0]..pair[1]]);
        ways.push(pieces.collect());
    }
    ways
}

/// Asserts that a function has the same result however the input is cut.
pub fn assert_same_however_cut<T: PartialEq + std::fmt::Debug>(
    data: &[u8],
    read: impl Fn(&[&[u8]]) -> T,
) -> T {
    let whole = read(&[data]);
    for pieces in cut(data) {
        assert_eq!(read(&pieces), whole, "cut into {} pieces", pieces.len());
    }
    whole
}

/// The files that an input encodes: parts of `kind, length (2 bytes LE), payload`. Each payload becomes a frame of the
/// file of that kind, with a right checksum.
pub fn files(data: &[u8], kinds: usize) -> Vec<Vec<u8>> {
    let mut files = vec![journal::begin_file(); kinds];
    for (kind, payload) in parts(data) {
        journal::append(&mut files[usize::from(kind) % kinds], payload);
    }
    files
}

fn parts(mut data: &[u8]) -> Vec<(u8, &[u8])> {
    let mut parts = Vec::new();
    while let [kind, low, high, rest @ ..] = data {
        let length = usize::from(u16::from_le_bytes([*low, *high])).min(rest.len());
        parts.push((*kind, &rest[..length]));
        data = &rest[length..];
    }
    parts
}

/// The input that encodes such files.
pub fn parts_of(payloads: impl IntoIterator<Item = (u8, Vec<u8>)>) -> Vec<u8> {
    let mut data = Vec::new();
    for (kind, payload) in payloads {
        data.push(kind);
        data.extend((payload.len() as u16).to_le_bytes());
        data.extend(payload);
    }
    data
}

/// Any scalar that the shim may pass. Times and counts are frequent, since readers use them.
pub fn scalar(input: &mut Unstructured, depth: u32) -> Result<Scalar> {
    Ok(match input.int_in_range(0..=11u8)? {
        0 | 1 => Scalar::Absent,
        2 => Scalar::Bool(input.arbitrary()?),
        3 | 4 => Scalar::Number(f64::from(input.arbitrary::<u16>()?)),
        5 => Scalar::Number(NOW_MS as f64 + f64::from(input.arbitrary::<i16>()?)),
        6 => Scalar::Number(input.arbitrary()?),
        7 | 8 => Scalar::Text(word(input)?.to_owned()),
        9 => Scalar::Text(input.arbitrary::<&str>()?.chars().take(1024).collect()),
        _ if depth == 0 => Scalar::Absent,
        _ => {
            let entries = input.int_in_range(0..=6)?;
            Scalar::List(
                (0..entries)
                    .map(|_| scalar(input, depth - 1))
                    .collect::<Result<_>>()?,
            )
        }
    })
}

/// A word that some reader knows.
fn word<'a>(input: &mut Unstructured<'a>) -> Result<&'a str> {
    const WORDS: &[&str] = &[
        "p",
        "m",
        "n",
        "p/m",
        "openclaw",
        "agent:main:s",
        "agent:main:cron:job",
        "agent:ops:t",
        "main",
        "stop",
        "toolUse",
        "error",
        "aborted",
        "failed",
        "completed",
        "span-1",
        "span-2",
        "r-1",
        "new",
        "reset",
        "command",
        "session",
        "user",
        "assistant",
        "broken",
        "subscription",
        "url",
        "headers",
        "http://receiver.test",
        "input",
        "output",
        "tiers",
        "above",
        "hashed",
        "plain",
        "bare",
        "idle",
        "processing",
        "heartbeat",
        "telegram",
    ];
    input.choose(WORDS).copied()
}
