//! Detects calls of one gateway that are reported twice: by two surfaces on two hosts, or by two installations with one
//! name.

use crate::clock::Micros;
use crate::store::Store;
use rusqlite::{Result, params};
use std::collections::{BTreeMap, BTreeSet, HashSet};

/// The period that is checked.
const WINDOW: Micros = 6 * 3_600 * 1_000_000;
/// Maximum number of calls that are checked, the newest.
const MOST: i64 = 2_000;
/// Maximum distance of the ends in two reports of one call.
const CLOSE: Micros = 2_000_000;
/// Minimum number of common calls; fewer may be a coincidence.
const LEAST: usize = 5;
/// Minimum share of common calls, in percent of the calls of the gateway with fewer.
const SHARE: usize = 80;
/// Maximum number of reported pairs.
const PAIRS_MOST: usize = 20;

/// A reported call.
#[derive(Clone)]
struct Call {
    gateway: String,
    /// Without its provider, which one of the two may omit.
    model: String,
    prompt: i64,
    completion: i64,
    end: Micros,
}

/// Pairs of gateways that report the same calls, among the newest calls.
///
/// # Errors
/// The SQLite error.
pub fn reported_twice(store: &Store, now: Micros) -> Result<Vec<[String; 2]>> {
    let calls = store.read(|connection| {
        let mut statement = connection.prepare_cached(
            "SELECT gateway, model, prompt_tokens, completion_tokens, timestamp FROM model_usage
             WHERE timestamp >= ?1 ORDER BY timestamp DESC LIMIT ?2",
        )?;
        let rows = statement.query_map(params![now - WINDOW, MOST], |row| {
            let model: String = row.get(1)?;
            Ok(row.get::<_, Option<String>>(0)?.map(|gateway| Call {
                gateway,
                model: model.rsplit('/').next().unwrap_or_default().to_owned(),
                prompt: row.get(2).unwrap_or_default(),
                completion: row.get(3).unwrap_or_default(),
                end: row.get(4).unwrap_or_default(),
            }))
        })?;
        rows.filter_map(Result::transpose)
            .collect::<Result<Vec<_>>>()
    })?;
    Ok(pairs(calls))
}

/// Compares gateways pairwise. Only those with enough calls of different sizes are compared, so 2,000 calls have at
/// most 400 gateways. Call by call are compared only pairs with a common call.
fn pairs(mut calls: Vec<Call>) -> Vec<[String; 2]> {
    // Calls without tokens look all alike.
    calls.retain(|call| call.prompt != 0 || call.completion != 0);
    calls.sort_by_key(|call| call.end);
    let mut gateways: BTreeMap<&str, Vec<&Call>> = BTreeMap::new();
    for call in &calls {
        gateways.entry(&call.gateway).or_default().push(call);
    }
    gateways.retain(|_, told| sizes(told).len() >= LEAST);
    let gateways: Vec<(&str, Vec<&Call>)> = gateways.into_iter().collect();
    let mut found = Vec::new();
    for [one, other] in candidates(&gateways) {
        let ((one, ones), (other, others)) = (&gateways[one], &gateways[other]);
        if are_one(ones, others) {
            found.push([(*one).to_owned(), (*other).to_owned()]);
        }
        if found.len() == PAIRS_MOST {
            break;
        }
    }
    found
}

/// The sizes of calls, which differ within one gateway.
fn sizes(calls: &[&Call]) -> HashSet<(i64, i64)> {
    let sizes = calls.iter().map(|call| (call.prompt, call.completion));
    sizes.collect()
}

/// Pairs of indexes in `gateways` that may have a call in common, sorted.
fn candidates(gateways: &[(&str, Vec<&Call>)]) -> BTreeSet<[usize; 2]> {
    let told = gateways.iter().enumerate();
    let mut all: Vec<(usize, &Call)> = told
        .flat_map(|(place, (_, calls))| calls.iter().map(move |call| (place, *call)))
        .collect();
    let kind = |call: &Call| (call.prompt, call.completion);
    all.sort_by(|(_, a), (_, b)| {
        let order = kind(a).cmp(&kind(b));
        order
            .then_with(|| a.model.cmp(&b.model))
            .then_with(|| a.end.cmp(&b.end))
    });
    let mut pairs = BTreeSet::new();
    for (index, (place, call)) in all.iter().enumerate() {
        let later = all[index + 1..].iter();
        let same = later.take_while(|(_, other)| {
            kind(other) == kind(call)
                && other.model == call.model
                && other.end.saturating_sub(call.end) <= CLOSE
        });
        for (other, _) in same.filter(|(other, _)| other != place) {
            pairs.insert([*place.min(other), *place.max(other)]);
        }
    }
    pairs
}

/// Whether two gateways report the same calls, in the time that both cover. Both lists are in order of time.
fn are_one<'a>(ones: &[&'a Call], others: &[&'a Call]) -> bool {
    let first = |list: &[&Call]| list.first().map_or(0, |call| call.end);
    let last = |list: &[&Call]| list.last().map_or(0, |call| call.end);
    let from = first(ones).max(first(others)).saturating_sub(CLOSE);
    let to = last(ones).min(last(others)).saturating_add(CLOSE);
    let within = |list: &[&'a Call]| -> Vec<&'a Call> {
        let list = list.iter().copied();
        list.filter(|call| (from..=to).contains(&call.end))
            .collect()
    };
    let (ones, mut others) = (within(ones), within(others));
    let least = ones.len().min(others.len());
    let mut kinds = HashSet::new();
    let mut matched = 0;
    for call in ones {
        let is_same = |theirs: &&Call| {
            theirs.model == call.model
                && (theirs.prompt, theirs.completion) == (call.prompt, call.completion)
                && theirs.end.abs_diff(call.end) <= CLOSE.unsigned_abs()
        };
        // Each call of the one matches at most one call of the other.
        if let Some(at) = others.iter().position(is_same) {
            others.remove(at);
            matched += 1;
            kinds.insert((call.prompt, call.completion));
        }
    }
    // Two idle gateways may make equal calls every hour: one gateway in two reports has common calls of many sizes.
    kinds.len() >= LEAST && matched * 100 >= least * SHARE
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Micros = 1_000_000;

    fn call(gateway: &str, model: &str, tokens: i64, end: Micros) -> Call {
        Call {
            gateway: gateway.to_owned(),
            model: model.to_owned(),
            prompt: tokens,
            completion: 7,
            end,
        }
    }

    /// This many calls, a minute apart, each with its own size.
    fn calls(gateway: &str, count: i64, late: Micros) -> Vec<Call> {
        (0..count)
            .map(|i| call(gateway, "m", 100 + i, i * 60 * SECOND + late))
            .collect()
    }

    #[test]
    fn two_reports_of_one_gateway_are_found() {
        let told = [calls("plugin", 8, 0), calls("proxy", 6, 300_000)].concat();
        assert_eq!(pairs(told), [["plugin", "proxy"]]);
    }

    #[test]
    fn a_few_equal_calls_are_a_coincidence() {
        let told = [calls("a", 4, 0), calls("b", 4, 0)].concat();
        assert!(pairs(told).is_empty());
    }

    #[test]
    fn two_gateways_with_a_few_calls_in_common_are_two() {
        let own = (0..20).map(|i| call("b", "m", 1_000 + i, i * 60 * SECOND));
        let told = [calls("a", 30, 0), calls("b", 6, 0), own.collect::<Vec<_>>()].concat();
        assert!(pairs(told).is_empty());
    }

    #[test]
    fn equal_sizes_at_other_times_do_not_match() {
        let told = [calls("a", 9, 0), calls("b", 9, 3 * SECOND)].concat();
        assert!(pairs(told).is_empty());
    }

    #[test]
    fn idle_gateways_with_equal_scheduled_calls_are_two() {
        let beat = |name: &'static str| (0..20).map(move |i| call(name, "m", 50, i * 60 * SECOND));
        assert!(pairs(beat("a").chain(beat("b")).collect()).is_empty());
    }

    #[test]
    fn calls_without_tokens_are_ignored() {
        let empty = |name: &'static str| {
            (0..9).map(move |i| Call {
                prompt: 0,
                completion: 0,
                ..call(name, "m", 0, i * 60 * SECOND)
            })
        };
        assert!(pairs(empty("a").chain(empty("b")).collect()).is_empty());
    }

    #[test]
    fn the_number_of_reported_pairs_is_bounded() {
        // The maximum number of comparable gateways, all reporting the same calls at the same time.
        let all: Vec<Call> = (0..400)
            .flat_map(|n| calls(&format!("g{n:03}"), 5, 0))
            .collect();
        let found = pairs(all);
        assert_eq!(found.len(), PAIRS_MOST);
        assert_eq!(found[0], ["g000", "g001"]);
        let one_each = (0..2_000).map(|n| call(&format!("g{n}"), "m", 100, 0));
        assert!(pairs(one_each.collect()).is_empty());
    }

    #[test]
    fn the_largest_counts_do_not_overflow() {
        let huge = |name: &'static str| {
            (0..6).map(move |i| Call {
                prompt: i64::MAX - i,
                completion: i64::MAX,
                ..call(name, "m", 0, i64::MAX - i)
            })
        };
        assert_eq!(pairs(huge("a").chain(huge("b")).collect()), [["a", "b"]]);
    }
}
