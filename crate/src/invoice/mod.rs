//! The invoice: compares our figures with the figures of the provider's usage and cost API, by model and UTC day.
//!
//! [`Invoice`] returns the next request, takes its answer, and finally returns the comparison. It holds no key: the
//! host adds the key in the header that the request names.

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
use self::requests::Step;
use self::theirs::{Report, Theirs};
use crate::domain::time::parse_iso;
use crate::formats::json_stream::Values;

pub use self::requests::{Ask, Said};
pub(crate) use self::requests::{Patience, refused};

/// Maximum number of days in a comparison.
const MOST_DAYS: u64 = 366;
/// Number of past days that OpenRouter reports; the current day is not among them.
const OPENROUTER_DAYS: u64 = 30;
/// Maximum size, in bytes, of an answer that is buffered whole.
const MOST_BYTES: usize = 16 * 1024 * 1024;

/// The provider whose reports are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Provider {
    OpenAi,
    Anthropic,
    OpenRouter,
}

impl Provider {
    pub const ALL: [Self; 3] = [Self::OpenAi, Self::Anthropic, Self::OpenRouter];

    /// Name of the provider in OpenClaw and in options.
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

/// Options of the command, as text.
#[derive(Debug, Default)]
pub struct Wanted<'a> {
    pub provider: &'a str,
    pub since: &'a str,
    pub until: Option<&'a str>,
    /// Further provider ids in OpenClaw whose calls this provider bills.
    pub also: Vec<String>,
}

/// One comparison.
#[derive(Debug)]
pub struct Invoice {
    provider: Provider,
    /// First and last day, both compared.
    days: (Date, Date),
    now_ms: u64,
    steps: VecDeque<Step>,
    patience: Patience,
    theirs: Theirs,
    ours: Ours,
    cursors: BTreeSet<String>,
    /// Parser of a list of our calls. Other bodies go into `body`.
    values: Values,
    listed: Listed,
    body: Vec<u8>,
    is_too_long: bool,
    /// Number of distinct records of the current model in AgentWatch 0.1.0's lists.
    fresh: u64,
    /// Last day with missing calls, by the base of the model's name.
    not_whole: BTreeMap<String, Date>,
    is_stock: bool,
}

impl Invoice {
    /// Validates the options. `now_ms` is ms since 1970.
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

    /// The comparison. Complete once [`Invoice::next_ask`] returns `None`.
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

/// A charge that belongs to no model.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Charge {
    #[serde(serialize_with = "as_text")]
    pub day: Date,
    /// The provider's description.
    pub item: String,
    pub cost_usd: Usd,
}

/// Number of rows with one verdict, and the sums of both sides.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Group {
    pub rows: usize,
    pub ours: Sum,
    pub theirs: Sum,
}

/// The comparison; its JSON is the output of `--json`.
#[derive(Debug, Serialize)]
pub struct Outcome {
    provider: Provider,
    /// First day, in UTC. `until` is the last day; both are compared.
    #[serde(serialize_with = "as_text")]
    since: Date,
    #[serde(serialize_with = "as_text")]
    until: Date,
    rows: Vec<Row>,
    /// Charges that belong to no model. They are compared with nothing.
    other_charges: Vec<Charge>,
    /// Sums of all rows (`all`), and of the rows of each verdict.
    sums: BTreeMap<&'static str, Group>,
    other_charges_usd: Usd,
    left_out: BTreeMap<&'static str, u64>,
    /// Sentences that explain why rows may differ.
    notes: Vec<String>,
    /// Whether all rows match or are pending, and there are no other charges or unreadable rows.
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

    /// Exit status: 0 if everything matches, 1 if something differs, 2 if neither side has a call.
    pub fn status(&self) -> u8 {
        match self.is_alike {
            true if self.rows.is_empty() => 2,
            true => 0,
            false => 1,
        }
    }

    /// Leaves out rows that match; the sums keep them.
    pub fn leave_out_matched(&mut self) {
        self.rows.retain(|row| row.verdict != Verdict::Matched);
    }

    /// Lines of at most 80 characters.
    pub fn lines(&self) -> Vec<String> {
        table::lines(self)
    }
}

/// Parses an option's UTC day: a date, a time, or a number of days or weeks before `today`.
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
