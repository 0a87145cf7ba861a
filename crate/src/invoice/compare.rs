//! Compares our figures with the provider's, by UTC day and model.

use std::collections::{BTreeMap, BTreeSet};

use jiff::civil::Date;
use serde::Serialize;

use super::Provider;
use super::figures::{DAY_MS, Sum, Usd, start_of};
use super::names::base;

/// Permitted difference of the costs per call, in USD: gateways round a call's cost.
const ROUNDING_USD: f64 = 1e-6;

/// Result of a row's comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    Matched,
    /// Equal tokens, different cost.
    PriceDiffers,
    /// Both sides have the model, with different tokens.
    UsageDiffers,
    OnlyOurs,
    OnlyTheirs,
    /// Different, on a day that has not ended or that ended less than a day ago.
    Pending,
    /// Different, on a day for which AgentWatch 0.1.0's lists are incomplete: they have the newest calls only.
    NotWhole,
}

impl Verdict {
    pub const ALL: [Self; 7] = [
        Self::Matched,
        Self::PriceDiffers,
        Self::UsageDiffers,
        Self::OnlyOurs,
        Self::OnlyTheirs,
        Self::Pending,
        Self::NotWhole,
    ];

    /// Name in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Matched => "matched",
            Self::PriceDiffers => "price_differs",
            Self::UsageDiffers => "usage_differs",
            Self::OnlyOurs => "only_ours",
            Self::OnlyTheirs => "only_theirs",
            Self::Pending => "pending",
            Self::NotWhole => "not_whole",
        }
    }
}

/// One model on one day.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    #[serde(serialize_with = "super::as_text")]
    pub day: Date,
    /// The model's name if both sides use the same names, else their common base.
    pub model: String,
    pub verdict: Verdict,
    pub ours: Option<Sum>,
    pub theirs: Option<Sum>,
    /// Our names of the model, over all days.
    pub our_names: BTreeSet<String>,
    /// The provider's names of the model, over all days.
    pub their_names: BTreeSet<String>,
}

/// Input of a comparison.
pub struct Sides<'a> {
    pub provider: Provider,
    pub ours: &'a BTreeMap<(Date, String), Sum>,
    pub theirs: &'a BTreeMap<(Date, String), Sum>,
    /// Alternative names in the provider's reports, with the usual name.
    pub aliases: &'a BTreeMap<String, String>,
    /// Last day with missing calls of ours, by the base of the model's name.
    pub not_whole: &'a BTreeMap<String, Date>,
    pub now_ms: u64,
}

#[derive(Default)]
struct Group {
    ours: BTreeSet<String>,
    theirs: BTreeSet<String>,
}

/// Joins both sides, sorted by day, then by model.
pub fn compare(sides: &Sides) -> Vec<Row> {
    let aliases: BTreeMap<String, &str> = sides
        .aliases
        .iter()
        .map(|(name, usual)| (base(sides.provider, name), usual.as_str()))
        .collect();
    let base_of = |name: &str| {
        let found = base(sides.provider, name);
        match aliases.get(&found) {
            Some(usual) => base(sides.provider, usual),
            None => found,
        }
    };
    let mut groups: BTreeMap<String, Group> = BTreeMap::new();
    for (_, name) in sides.ours.keys() {
        let group = groups.entry(base_of(name)).or_default();
        group.ours.insert(name.clone());
    }
    for (_, name) in sides.theirs.keys() {
        let group = groups.entry(base_of(name)).or_default();
        group.theirs.insert(name.clone());
    }
    // Versions of a model get rows of their own if both sides use the same names.
    let row_of = |name: &str| {
        let base = base_of(name);
        match groups.get(&base) {
            Some(group) if group.ours == group.theirs => name.to_owned(),
            _ => base,
        }
    };
    let mut rows: BTreeMap<(Date, String), Row> = BTreeMap::new();
    let mut take = |all: &BTreeMap<(Date, String), Sum>, is_ours: bool| {
        for ((day, name), sum) in all {
            let model = row_of(name);
            let row = rows.entry((*day, model.clone())).or_insert_with(|| Row {
                day: *day,
                model,
                verdict: Verdict::Matched,
                ours: None,
                theirs: None,
                our_names: BTreeSet::new(),
                their_names: BTreeSet::new(),
            });
            let side = if is_ours {
                &mut row.ours
            } else {
                &mut row.theirs
            };
            *side.get_or_insert_default() += sum;
        }
    };
    take(sides.ours, true);
    take(sides.theirs, false);
    let mut rows: Vec<Row> = rows.into_values().collect();
    for row in &mut rows {
        if let Some(group) = groups.get(&base_of(&row.model)) {
            let here = |names: &BTreeSet<String>| {
                names
                    .iter()
                    .filter(|name| row_of(name) == row.model)
                    .cloned()
                    .collect()
            };
            (row.our_names, row.their_names) = (here(&group.ours), here(&group.theirs));
        }
        row.verdict = verdict(row, sides);
    }
    rows
}

fn verdict(row: &Row, sides: &Sides) -> Verdict {
    let (ours, theirs) = (
        row.ours.clone().unwrap_or_default(),
        row.theirs.clone().unwrap_or_default(),
    );
    let is_same = is_same_usage(&ours, &theirs);
    let found = if row.theirs.is_none() && !ours.is_nothing() {
        Verdict::OnlyOurs
    } else if row.ours.is_none() && !theirs.is_nothing() {
        Verdict::OnlyTheirs
    } else if !is_same {
        Verdict::UsageDiffers
    } else if !is_same_cost(&ours, &theirs) {
        Verdict::PriceDiffers
    } else {
        return Verdict::Matched;
    };
    let cut = sides.not_whole.get(&base(sides.provider, &row.model));
    if cut.is_some_and(|until| row.day <= *until) {
        return Verdict::NotWhole;
    }
    let ends_ms = start_of(row.day) + DAY_MS;
    if ends_ms + DAY_MS > sides.now_ms {
        return Verdict::Pending;
    }
    found
}

fn is_same_usage(ours: &Sum, theirs: &Sum) -> bool {
    let is_same = |one: Option<u64>, other: Option<u64>| match (one, other) {
        (Some(one), Some(other)) => one == other,
        _ => true,
    };
    (ours.input_tokens, ours.output_tokens) == (theirs.input_tokens, theirs.output_tokens)
        && is_same(ours.cache_read_tokens, theirs.cache_read_tokens)
        && is_same(ours.cache_write_tokens, theirs.cache_write_tokens)
}

fn is_same_cost(ours: &Sum, theirs: &Sum) -> bool {
    let of = |sum: &Sum| sum.cost_usd.unwrap_or_default();
    let calls = ours.calls.unwrap_or_default().max(1);
    Usd::apart(of(ours), of(theirs)) <= ROUNDING_USD * calls as f64
}
