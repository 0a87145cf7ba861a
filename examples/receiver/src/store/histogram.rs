//! Histograms of latencies with buckets of growing width, so that a percentile of any number of calls costs the same
//! and has a known error.
//!
//! There are 32 buckets per doubling: a bucket is 2.2 % wide, and its geometric middle differs by at most [`ERROR`]
//! from its values.

/// Maximum relative error of a percentile from buckets. Below [`SMALLEST`] the percentile is zero.
pub const ERROR: f64 = 0.011;
/// The lower bound of the first bucket, in ms.
const SMALLEST: f64 = 1.0 / 1024.0;
const PER_DOUBLING: f64 = 32.0;
/// Number of buckets: from 1 µs to 10^12 ms, the maximum of a record, plus the bucket of zeros.
const BUCKETS: usize = 50 * 32 + 1;

/// The bucket of a latency in ms.
fn bucket_of(ms: f64) -> u16 {
    if ms < SMALLEST {
        return 0;
    }
    // The cast saturates, since stock mode accepts any latency.
    let index = ((ms / SMALLEST).log2() * PER_DOUBLING) as usize;
    index.saturating_add(1).min(BUCKETS - 1) as u16
}

/// The geometric middle of a bucket, in ms.
fn middle_of(bucket: usize) -> f64 {
    if bucket == 0 {
        return 0.0;
    }
    SMALLEST * ((bucket as f64 - 0.5) / PER_DOUBLING).exp2()
}

/// A change of some buckets, unsorted: the content of one request.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Change(Vec<(u16, i64)>);

impl Change {
    /// Adds `calls` of a latency; a negative number subtracts.
    pub fn add(&mut self, ms: f64, calls: i64) {
        let bucket = bucket_of(ms);
        match self.0.iter_mut().find(|(at, _)| *at == bucket) {
            Some((_, count)) => *count += calls,
            None => self.0.push((bucket, calls)),
        }
    }

    /// Adds another change.
    pub fn merge(&mut self, other: &Self) {
        for &(bucket, calls) in &other.0 {
            match self.0.iter_mut().find(|(at, _)| *at == bucket) {
                Some((_, count)) => *count += calls,
                None => self.0.push((bucket, calls)),
            }
        }
    }

    /// The middle of each bucket that grows, in ms, with the number of its new calls.
    pub fn added(&self) -> impl Iterator<Item = (f64, u64)> {
        let added = self.0.iter().filter(|(_, calls)| *calls > 0);
        added.map(|(bucket, calls)| (middle_of(usize::from(*bucket)), calls.unsigned_abs()))
    }

    /// Whether nothing is changed.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|(_, calls)| *calls == 0)
    }

    /// The stored form: ascending non-empty buckets, each as its distance from the previous one and its count.
    pub fn pack(&self) -> Vec<u8> {
        let mut buckets = self.0.clone();
        buckets.sort_unstable_by_key(|(bucket, _)| *bucket);
        let mut packed = Packed::default();
        for (bucket, calls) in buckets {
            packed.push(bucket, calls);
        }
        packed.bytes
    }
}

/// The sum of two packed histograms or changes.
pub fn add_packed(one: &[u8], other: &[u8]) -> Vec<u8> {
    let mut sum = Packed::default();
    sum.bytes.reserve(one.len() + other.len());
    let (mut one, mut other) = (unpack(one).peekable(), unpack(other).peekable());
    while let Some(&(bucket, _)) = one.peek().into_iter().chain(other.peek()).min() {
        let mut calls = 0;
        for side in [&mut one, &mut other] {
            calls += side
                .next_if(|(at, _)| *at == bucket)
                .map_or(0, |(_, calls)| calls);
        }
        sum.push(bucket, calls);
    }
    sum.bytes
}

/// A histogram that is being packed.
#[derive(Default)]
struct Packed {
    bytes: Vec<u8>,
    last: u16,
}

impl Packed {
    /// Adds a bucket, in ascending order.
    fn push(&mut self, bucket: u16, calls: i64) {
        if calls == 0 {
            return;
        }
        push(&mut self.bytes, u64::from(bucket - self.last));
        // Zigzag encoding, since a change may be negative.
        push(&mut self.bytes, ((calls << 1) ^ (calls >> 63)) as u64);
        self.last = bucket;
    }
}

fn push(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

fn pop(bytes: &mut std::slice::Iter<'_, u8>) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let byte = *bytes.next()?;
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(number);
        }
    }
    None
}

fn unpack(packed: &[u8]) -> impl Iterator<Item = (u16, i64)> {
    let mut bytes = packed.iter();
    let mut bucket = 0_u64;
    std::iter::from_fn(move || {
        bucket = u64::saturating_add(bucket, pop(&mut bytes)?);
        let calls = pop(&mut bytes)?;
        let calls = (calls >> 1) as i64 ^ -((calls & 1) as i64);
        Some((bucket.min(BUCKETS as u64 - 1) as u16, calls))
    })
}

/// The packed non-empty buckets, from which percentiles are read. For a model with few calls they are a few bytes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Histogram(Vec<u8>);

impl Histogram {
    /// Counts a latency.
    pub fn add(&mut self, ms: f64) {
        let mut one = Packed::default();
        one.push(bucket_of(ms), 1);
        self.add_packed(&one.bytes);
    }

    /// Adds a packed histogram.
    pub fn add_packed(&mut self, packed: &[u8]) {
        self.0 = add_packed(&self.0, packed);
    }

    /// The value at `share` (0 to 1), linear between the two closest ranks, each within [`ERROR`]; `None` for an empty
    /// histogram.
    pub fn percentile(&self, share: f64) -> Option<f64> {
        let calls: i64 = unpack(&self.0).map(|(_, calls)| calls).sum();
        let last = calls.checked_sub(1).filter(|last| *last >= 0)?;
        let rank = share * last as f64;
        let below = (rank.floor() as i64).min(last);
        let (low, high) = (self.at(below), self.at((below + 1).min(last)));
        Some(low + (high - low) * (rank - below as f64))
    }

    fn at(&self, rank: i64) -> f64 {
        let mut passed = 0;
        let bucket = unpack(&self.0).find(|(_, calls)| {
            passed += calls;
            passed > rank
        });
        middle_of(bucket.map_or(BUCKETS - 1, |(bucket, _)| usize::from(bucket)))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;
    use crate::store::stats::percentile;

    fn latencies(count: u64) -> Vec<f64> {
        let mut seed: u64 = 7;
        let mut next = || {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (seed >> 33) as f64 / f64::from(1_u32 << 31)
        };
        // From 1 µs to 1 h, evenly by magnitude.
        (0..count)
            .map(|_| 10_f64.powf(next() * 9.5 - 3.0))
            .collect()
    }

    #[test]
    fn a_percentile_is_within_its_error() {
        for count in [1, 2, 3, 10, 1_000, 20_000] {
            let mut values = latencies(count);
            let mut histogram = Histogram::default();
            values.iter().for_each(|ms| histogram.add(*ms));
            values.sort_unstable_by(f64::total_cmp);
            for share in [0.0, 0.5, 0.95, 0.99, 1.0] {
                let (exact, near) = (
                    percentile(&values, share).unwrap(),
                    histogram.percentile(share).unwrap(),
                );
                assert!(
                    (near - exact).abs() <= exact * ERROR,
                    "{share} of {count}: {near}, exactly {exact}"
                );
            }
        }
        assert_eq!(Histogram::default().percentile(0.5), None);
    }

    #[test]
    fn the_ends_of_the_scale_have_buckets() {
        for (ms, shown) in [
            (-5.0, 0.0),
            (0.0, 0.0),
            (1e-9, 0.0),
            (1e300, middle_of(BUCKETS - 1)),
            (f64::MAX, middle_of(BUCKETS - 1)),
        ] {
            let mut histogram = Histogram::default();
            histogram.add(ms);
            assert_eq!(histogram.percentile(0.5), Some(shown), "{ms}");
        }
        assert!(
            middle_of(BUCKETS - 1) > 1e12,
            "the most that a record may say"
        );
    }

    #[test]
    fn packed_changes_add_up_and_cancel_out() {
        let (mut more, mut fewer) = (Change::default(), Change::default());
        for ms in latencies(500) {
            more.add(ms, 3);
            fewer.add(ms, -2);
        }
        let rest = add_packed(&more.pack(), &fewer.pack());
        let (mut summed, mut counted) = (Histogram::default(), Histogram::default());
        summed.add_packed(&rest);
        latencies(500).into_iter().for_each(|ms| counted.add(ms));
        assert_eq!(summed, counted);
        let mut nothing = Change::default();
        nothing.add(5.0, 1);
        nothing.add(5.0, -1);
        assert!(nothing.is_empty() && nothing.pack().is_empty());
    }
}
