//! Whether one gateway's calls are reported twice: two ways on two hosts, which cannot know of each other, or two
//! installations of one name.

use crate::clock::Micros;
use crate::store::Store;
use rusqlite::{Result, params};
use std::collections::{HashMap, HashSet};

/// How far back is looked.
const WINDOW: Micros = 6 * 3_600 * 1_000_000;
/// The most calls that are looked at, the newest.
const MOST: i64 = 2_000;
/// The ends of one call, told by two, are this close at most.
const CLOSE: Micros = 2_000_000;
/// Fewer calls in common may be chance.
const LEAST: usize = 5;
/// How many percent of the calls of the one that told fewer have to be the other's too.
const SHARE: usize = 80;

/// A call that somebody told.
#[derive(Clone)]
struct Call {
    gateway: String,
    /// Without its provider, which one of two may leave out.
    model: String,
    prompt: i64,
    completion: i64,
    end: Micros,
}

/// Pairs of gateways that tell the same calls, as far as the newest calls show.
///
/// # Errors
/// What SQLite says.
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

fn pairs(mut calls: Vec<Call>) -> Vec<[String; 2]> {
    // Calls without tokens look all alike.
    calls.retain(|call| call.prompt + call.completion > 0);
    calls.sort_by_key(|call| call.end);
    let mut alike: HashMap<(&str, i64, i64), Vec<usize>> = HashMap::new();
    let mut candidates = HashSet::new();
    for (index, call) in calls.iter().enumerate() {
        let same = alike
            .entry((&call.model, call.prompt, call.completion))
            .or_default();
        for &earlier in same.iter().rev() {
            if call.end - calls[earlier].end > CLOSE {
                break;
            }
            candidates.insert(ordered(&calls[earlier].gateway, &call.gateway));
        }
        same.push(index);
    }
    candidates.retain(|[one, other]| one != other && are_one(&calls, one, other));
    let mut found: Vec<_> = candidates.into_iter().collect();
    found.sort();
    found
}

fn ordered(one: &str, other: &str) -> [String; 2] {
    let mut pair = [one.to_owned(), other.to_owned()];
    pair.sort();
    pair
}

/// Whether two tell the same calls, over the time in which both told any.
fn are_one(calls: &[Call], one: &str, other: &str) -> bool {
    let of = |name: &str| -> Vec<&Call> { calls.iter().filter(|c| c.gateway == name).collect() };
    let (mut ones, mut others) = (of(one), of(other));
    let first = |list: &[&Call]| list.first().map_or(0, |call| call.end);
    let last = |list: &[&Call]| list.last().map_or(0, |call| call.end);
    let from = first(&ones).max(first(&others)) - CLOSE;
    let to = last(&ones).min(last(&others)) + CLOSE;
    for list in [&mut ones, &mut others] {
        list.retain(|call| (from..=to).contains(&call.end));
    }
    let least = ones.len().min(others.len());
    let mut kinds = HashSet::new();
    let mut matched = 0;
    for call in ones {
        let is_same = |theirs: &&Call| {
            theirs.model == call.model
                && (theirs.prompt, theirs.completion) == (call.prompt, call.completion)
                && (theirs.end - call.end).abs() <= CLOSE
        };
        // Each of theirs is one call of ours at most.
        if let Some(at) = others.iter().position(is_same) {
            others.remove(at);
            matched += 1;
            kinds.insert((call.prompt, call.completion));
        }
    }
    // Two idle gateways may do the same at every full hour: what is one gateway has calls of many sizes in common.
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

    /// So many calls, a minute apart, each of its own size.
    fn calls(gateway: &str, count: i64, late: Micros) -> Vec<Call> {
        (0..count)
            .map(|i| call(gateway, "m", 100 + i, i * 60 * SECOND + late))
            .collect()
    }

    #[test]
    fn two_ways_of_one_gateway_are_found() {
        let told = [calls("plugin", 8, 0), calls("proxy", 6, 300_000)].concat();
        assert_eq!(pairs(told), [["plugin", "proxy"]]);
    }

    #[test]
    fn a_few_equal_calls_are_chance() {
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
    fn the_same_sizes_at_other_times_are_others() {
        let told = [calls("a", 9, 0), calls("b", 9, 3 * SECOND)].concat();
        assert!(pairs(told).is_empty());
    }

    #[test]
    fn idle_gateways_that_do_the_same_at_the_same_time_are_two() {
        let beat = |name: &'static str| (0..20).map(move |i| call(name, "m", 50, i * 60 * SECOND));
        assert!(pairs(beat("a").chain(beat("b")).collect()).is_empty());
    }

    #[test]
    fn calls_without_tokens_say_nothing() {
        let empty = |name: &'static str| {
            (0..9).map(move |i| Call {
                prompt: 0,
                completion: 0,
                ..call(name, "m", 0, i * 60 * SECOND)
            })
        };
        assert!(pairs(empty("a").chain(empty("b")).collect()).is_empty());
    }
}
