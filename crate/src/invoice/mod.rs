//! The invoice: our figures against what the provider's usage and cost API reports, model by UTC day.
//!
//! [`Invoice`] says which request to make next, takes the answer, and in the end has the comparison. It knows no key: the
//! host puts that into the header that a request names.

mod compare;
#[cfg(test)]
mod fake;
mod figures;
mod names;
mod ours;
mod requests;
mod table;
#[cfg(test)]
mod tests;
mod theirs;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use jiff::civil::Date;
use serde::{Serialize, Serializer};

use self::compare::{Row, Sides, Verdict, compare};
use self::figures::{DAY_MS, Sum, Usd, day_of, earlier, parse_day, start_of};
use self::ours::{Listed, Ours};
use self::requests::{Patience, Step};
use self::theirs::{Report, Theirs};
use crate::domain::time::parse_iso;
use crate::formats::json_stream::Values;

pub use self::requests::{Ask, Said};

/// The most days of a comparison.
const MOST_DAYS: u64 = 366;
/// So many days OpenRouter tells, those that have ended.
const OPENROUTER_DAYS: u64 = 30;
/// The most bytes of an answer that is read as a whole.
const MOST_BYTES: usize = 16 * 1024 * 1024;

/// Whose invoice it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Provider {
    OpenAi,
    Anthropic,
    OpenRouter,
}

impl Provider {
    pub const ALL: [Self; 3] = [Self::OpenAi, Self::Anthropic, Self::OpenRouter];

    /// The name that OpenClaw has for it too.
    pub fn name(self) -> &'static str {
        match self {
            Self::OpenAi => "openai",
            Self::Anthropic => "anthropic",
            Self::OpenRouter => "openrouter",
        }
    }

    pub fn title(self) -> &'static str {
        match self {
            Self::OpenAi => "OpenAI",
            Self::Anthropic => "Anthropic",
            Self::OpenRouter => "OpenRouter",
        }
    }
}

/// What was asked for, as text: options of the command.
#[derive(Debug, Default)]
pub struct Wanted<'a> {
    pub provider: &'a str,
    pub since: &'a str,
    pub until: Option<&'a str>,
    /// Further names that OpenClaw has for the provider.
    pub also: Vec<String>,
}

/// One comparison.
#[derive(Debug)]
pub struct Invoice {
    provider: Provider,
    /// The first and the last day.
    days: (Date, Date),
    now_ms: u64,
    steps: VecDeque<Step>,
    patience: Patience,
    theirs: Theirs,
    ours: Ours,
    cursors: BTreeSet<String>,
    /// The answer that is being read: a list of ours, or another body as a whole.
    values: Values,
    listed: Listed,
    body: Vec<u8>,
    is_too_long: bool,
    /// How many records of a model AgentWatch 0.1.0 has listed.
    fresh: u64,
    /// Up to which day calls of a model are missing, by what its names have in common.
    not_whole: BTreeMap<String, Date>,
    is_stock: bool,
}

impl Invoice {
    /// Judges the options. `now_ms` since 1970.
    ///
    /// # Errors
    /// A sentence that names the option, its value and the mend.
    pub fn new(wanted: Wanted, now_ms: u64) -> Result<Self, String> {
        let Some(provider) = Provider::ALL
            .into_iter()
            .find(|one| one.name() == wanted.provider)
        else {
            let names = Provider::ALL.map(Provider::name).join(", ");
            return Err(format!("--provider {}: there are {names}", wanted.provider));
        };
        let today = day_of(now_ms);
        let first = day("--since", wanted.since, today)?;
        let yesterday = earlier(today, 1);
        let last = match wanted.until {
            Some(text) => day("--until", text, today)?.min(today),
            None => yesterday.max(first),
        };
        if first > today {
            return Err(format!(
                "--since {}: that is in the future; write a day in the past",
                wanted.since
            ));
        }
        if first > last {
            return Err(format!(
                "--until {}: {last} is before --since ({first}); write a later day",
                wanted.until.unwrap_or_default()
            ));
        }
        if (start_of(last) - start_of(first)) / DAY_MS >= MOST_DAYS {
            return Err(format!(
                "--since {}: that are more than {MOST_DAYS} days; write a later day, or an earlier --until",
                wanted.since
            ));
        }
        let oldest = earlier(today, OPENROUTER_DAYS);
        if provider == Provider::OpenRouter && first < oldest {
            return Err(format!(
                "--since {}: OpenRouter reports the last {OPENROUTER_DAYS} days alone; write {oldest} or later",
                wanted.since
            ));
        }
        let mut names = wanted.also;
        names.push(provider.name().to_owned());
        let mut steps = VecDeque::from([Step::Kind]);
        let reports: &[Report] = match provider {
            Provider::OpenRouter => &[Report::Activity],
            _ => &[Report::Usage, Report::Costs],
        };
        steps.extend(reports.iter().map(|report| Step::report(*report)));
        Ok(Self {
            provider,
            days: (first, last),
            now_ms,
            steps,
            patience: Patience::default(),
            theirs: Theirs::default(),
            ours: Ours::new(names, (first, last)),
            cursors: BTreeSet::new(),
            values: Values::default(),
            listed: Listed::default(),
            body: Vec::new(),
            is_too_long: false,
            fresh: 0,
            not_whole: BTreeMap::new(),
            is_stock: false,
        })
    }

    /// The comparison, once there is nothing more to ask.
    pub fn result(&self) -> Outcome {
        let in_days = |day: &Date| (self.days.0..=self.days.1).contains(day);
        let mut theirs = self.theirs.models.clone();
        theirs.retain(|(day, _), _| in_days(day));
        let rows = compare(&Sides {
            provider: self.provider,
            ours: &self.ours.models,
            theirs: &theirs,
            aliases: &self.theirs.aliases,
            not_whole: &self.not_whole,
            now_ms: self.now_ms,
        });
        let charges = self.theirs.charges.iter();
        let charges = charges
            .filter(|((day, _), _)| in_days(day))
            .map(|((day, item), cost_usd)| Charge {
                day: *day,
                item: item.clone(),
                cost_usd: *cost_usd,
            })
            .collect();
        let mut left_out = self.ours.left_out.clone();
        for (why, count) in [
            ("report rows that cannot be read", self.theirs.unreadable),
            (
                "report rows in another currency",
                self.theirs.foreign_currency,
            ),
        ] {
            if count > 0 {
                left_out.insert(why, count);
            }
        }
        Outcome::new(self, rows, charges, left_out)
    }
}

/// A cost of no model.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Charge {
    #[serde(serialize_with = "as_text")]
    pub day: Date,
    /// The provider's words for it.
    pub item: String,
    pub cost_usd: Usd,
}

/// The rows of a verdict.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Group {
    pub rows: usize,
    pub ours: Sum,
    pub theirs: Sum,
}

/// A comparison: what `--json` prints.
#[derive(Debug, Serialize)]
pub struct Outcome {
    provider: Provider,
    /// The first and the last day, both compared.
    #[serde(serialize_with = "as_text")]
    since: Date,
    #[serde(serialize_with = "as_text")]
    until: Date,
    rows: Vec<Row>,
    /// Costs of no model, which nothing of ours is compared with.
    other_charges: Vec<Charge>,
    /// Of all rows, and of those of each verdict.
    sums: BTreeMap<&'static str, Group>,
    other_charges_usd: Usd,
    left_out: BTreeMap<&'static str, u64>,
    /// Why rows may not match, in sentences.
    notes: Vec<String>,
    /// Whether everything that could be compared is alike.
    is_alike: bool,
}

impl Outcome {
    fn new(
        invoice: &Invoice,
        rows: Vec<Row>,
        other_charges: Vec<Charge>,
        left_out: BTreeMap<&'static str, u64>,
    ) -> Self {
        let mut sums: BTreeMap<&'static str, Group> = BTreeMap::new();
        for row in &rows {
            for name in ["all", row.verdict.name()] {
                let group = sums.entry(name).or_default();
                group.rows += 1;
                group.ours += row.ours.as_ref().unwrap_or(&Sum::default());
                group.theirs += row.theirs.as_ref().unwrap_or(&Sum::default());
            }
        }
        let mut other_charges_usd = Usd::default();
        for charge in &other_charges {
            other_charges_usd += charge.cost_usd;
        }
        let is_alike = rows
            .iter()
            .all(|row| matches!(row.verdict, Verdict::Matched | Verdict::Pending))
            && other_charges_usd.is_zero()
            && !left_out
                .keys()
                .any(|why| why.contains("read") || why.contains("currency"));
        let mut outcome = Self {
            provider: invoice.provider,
            since: invoice.days.0,
            until: invoice.days.1,
            rows,
            other_charges,
            sums,
            other_charges_usd,
            left_out,
            notes: Vec::new(),
            is_alike,
        };
        outcome.notes = table::notes(&outcome, invoice.is_stock, invoice.now_ms);
        outcome
    }

    /// The exit status: 0 all is alike, 1 something differs, 2 neither side has a call.
    pub fn status(&self) -> u8 {
        match self.is_alike {
            true if self.rows.is_empty() => 2,
            true => 0,
            false => 1,
        }
    }

    /// As lines of at most 80 characters. `differing` leaves out rows that match.
    pub fn lines(&self, differing: bool) -> Vec<String> {
        table::lines(self, differing)
    }
}

/// The UTC day that an option names: a date, a time, or so many days ago.
fn day(option: &str, text: &str, today: Date) -> Result<Date, String> {
    let text = text.trim();
    let ago = |unit: char, days: u64| {
        let count: u64 = text.strip_suffix(unit)?.trim().parse().ok()?;
        (count <= 10_000).then(|| earlier(today, count * days))
    };
    let date = || parse_day(text).filter(|_| text.len() == 10);
    let time = || parse_iso(text).map(day_of);
    ago('d', 1)
        .or_else(|| ago('w', 7))
        .or_else(date)
        .or_else(time)
        .ok_or_else(|| {
            format!(
                "{option} {text}: not a day; write 30d or 4w, or a date such as 2026-11-01, in UTC"
            )
        })
}

fn as_text<S: Serializer>(day: &Date, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(day)
}
