//! Validates the setting `prices`: `{"provider/model": {input, output, cacheRead?, cacheWrite?, tiers?}}`, or
//! `"subscription"` in the place of rates. Objects arrive as lists of pairs, since facts have no objects.

use crate::domain::call::CostSource;
use crate::domain::identity;
use crate::pricing::price::{Price, Tier};
use crate::sources::facts::Scalar;

/// The rates' names, in the order of a [`Tier`].
const RATES: [&str; 4] = ["input", "output", "cacheRead", "cacheWrite"];
/// Maximum price in USD per 1M tokens; a higher one is in another unit.
const MAX_USD: f64 = 1e5;
/// Maximum number of models, and of tiers per model.
const MAX_ENTRIES: usize = 1_024;

/// The models with valid prices. Problems are added to `problems`, one line each.
pub(super) fn read(prices: &Scalar, problems: &mut Vec<String>) -> Vec<(String, Price)> {
    if !matches!(prices, Scalar::Absent | Scalar::List(_)) {
        problems.push(
            "prices is no object; set it to {\"provider/model\": {\"input\": …, \"output\": …}}"
                .to_owned(),
        );
    }
    let pairs = prices.list().iter().take(MAX_ENTRIES).filter_map(pair);
    pairs
        .filter_map(|(model, value)| match price(value) {
            Ok(price) => Some((model.to_owned(), price)),
            Err(what) => {
                let model = identity::name(model);
                problems.push(
                    [
                        "prices.",
                        &model,
                        &what,
                        "; the model is not priced by it until this is fixed",
                    ]
                    .concat(),
                );
                None
            }
        })
        .collect()
}

fn pair(entry: &Scalar) -> Option<(&str, &Scalar)> {
    let [name, value] = entry.list() else {
        return None;
    };
    Some((name.text()?, value))
}

fn price(value: &Scalar) -> Result<Price, String> {
    match value {
        Scalar::Text(word) if word == "subscription" => Ok(Price::SUBSCRIPTION),
        Scalar::List(_) => Ok(Price {
            source: CostSource::Configured,
            tiers: tiers(value)?,
            ..Price::UNKNOWN
        }),
        _ => Err(
            " is neither prices nor \"subscription\"; give {\"input\": …, \"output\": …}"
                .to_owned(),
        ),
    }
}

fn tiers(value: &Scalar) -> Result<Vec<Tier>, String> {
    let mut all = vec![tier(value, None)?];
    let listed = value
        .list()
        .iter()
        .filter_map(pair)
        .find(|(name, _)| *name == "tiers");
    for entry in listed
        .map_or(&[][..], |(_, tiers)| tiers.list())
        .iter()
        .take(MAX_ENTRIES)
    {
        let next = tier(entry, all.first().copied())?;
        if all.last().is_some_and(|last| last[0] >= next[0]) {
            return Err(
                ".tiers do not begin one above the other; sort them by \"above\"".to_owned(),
            );
        }
        all.push(next);
    }
    for tier in &mut all {
        // Cached tokens are a part of the prompt, so by default they cost the input's rate of the same tier.
        let input = tier[1];
        let missing = tier.iter_mut().filter(|rate| rate.is_nan());
        missing.for_each(|rate| *rate = input);
    }
    Ok(all)
}

/// One tier, with a NaN for each missing rate of cached tokens. A further tier inherits missing rates from the first.
fn tier(value: &Scalar, first: Option<Tier>) -> Result<Tier, String> {
    let mut tier = first.unwrap_or([0.0, f64::NAN, f64::NAN, f64::NAN, f64::NAN]);
    for (name, value) in value.list().iter().filter_map(pair) {
        let place = match (name, first) {
            ("above", Some(_)) => 0,
            ("tiers", None) => continue,
            _ => {
                1 + RATES.iter().position(|rate| *rate == name).ok_or_else(|| {
                    let name = identity::name(name);
                    [
                        ".",
                        &name,
                        " is no setting; give input, output, cacheRead, cacheWrite or tiers",
                    ]
                    .concat()
                })?
            }
        };
        tier[place] = match value.amount() {
            Some(tokens) if place == 0 => tokens,
            Some(usd) if usd <= MAX_USD => usd,
            _ => {
                return Err([
                    ".",
                    name,
                    " is no number that can be meant; give USD per 1M tokens",
                ]
                .concat());
            }
        };
    }
    for (place, name) in RATES.iter().enumerate().take(2) {
        if tier[1 + place].is_nan() {
            return Err([".", name, " is missing; give USD per 1M tokens"].concat());
        }
    }
    Ok(tier)
}
