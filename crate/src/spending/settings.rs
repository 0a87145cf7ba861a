//! The setting `allowance`, validated:
//! `[{ usd | tokens, per: "hour" | "day" | "month", agent?, channel?, trigger?, job?, then: "warn" | "stop", zone? }]`.
//!
//! An allowance holds for all calls that fit what it names, together; one that names nothing holds for all calls. What is
//! wrong is told with its place, its value and the mend, and the allowance does not hold until then: a misspelt filter
//! would brake others than those that were meant. Objects come as lists of pairs, since facts have no others.

use jiff::tz::TimeZone;

use super::Nano;
use super::who::{Who, job_id};
use super::window::Per;
use crate::domain::identity::{self, Identities, key_of};
use crate::sources::facts::Scalar;

/// The most allowances.
pub const MOST: usize = 64;
/// More is a mistake in the unit.
const MOST_USD: f64 = 1e9;
/// More is a mistake; every whole number up to it is exact.
const MOST_TOKENS: f64 = 1e15;
/// What a place holds.
const NAMES: [&str; 9] = [
    "usd", "tokens", "per", "agent", "channel", "trigger", "job", "then", "zone",
];

/// How much may be spent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// Money, by what calls cost.
    Usd(Nano),
    /// Tokens of prompts and answers.
    Tokens(u64),
}

/// What follows once it is spent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// A warning.
    Warn,
    /// The next call is refused.
    Stop,
}

/// One allowance.
#[derive(Debug, Clone)]
pub struct Allowance {
    /// How much.
    pub limit: Limit,
    /// In which windows.
    pub per: Per,
    /// Whose calls; a `None` fits all. `job` is in the form in which it leaves.
    pub agent: Option<String>,
    /// See `agent`.
    pub channel: Option<String>,
    /// See `agent`.
    pub trigger: Option<String>,
    /// See `agent`.
    pub job: Option<String>,
    /// What follows.
    pub then: Then,
    /// The zone's name, and its rules.
    pub zone: (String, TimeZone),
}

impl Allowance {
    /// Whether a call falls under it.
    pub fn fits(&self, who: &Who) -> bool {
        let fits = |wanted: &Option<String>, is: &Option<String>| {
            wanted.as_ref().is_none_or(|wanted| {
                is.as_ref()
                    .is_some_and(|is| is.eq_ignore_ascii_case(wanted))
            })
        };
        fits(&self.agent, &who.agent)
            && fits(&self.channel, &who.channel)
            && fits(&self.trigger, &who.trigger)
            // Ids of jobs differ by their case too.
            && self.job.as_ref().is_none_or(|job| who.job.as_ref() == Some(job))
    }

    /// Hash of what is counted and when: allowances with the same scope share their sums, and keep them where the
    /// operator changes the limit.
    pub fn scope(&self) -> u64 {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        key_of(&[
            self.per.word(),
            &self.zone.0,
            &text(&self.agent),
            &text(&self.channel),
            &text(&self.trigger),
            &text(&self.job),
        ])
    }

    /// Hash of the whole allowance: what was warned of is known by it.
    pub fn mark(&self) -> u64 {
        let (unit, limit) = match self.limit {
            Limit::Usd(usd) => ("usd", usd.0),
            Limit::Tokens(tokens) => ("tokens", tokens),
        };
        let then = if self.then == Then::Stop {
            "stop"
        } else {
            "warn"
        };
        let scope = self.scope().to_string();
        key_of(&[&scope, unit, &limit.to_string(), then])
    }

    /// In words: `20.00 USD a day for agent main on channel telegram`.
    pub fn words(&self) -> String {
        let limit = match self.limit {
            Limit::Usd(usd) => usd.to_string(),
            Limit::Tokens(tokens) => format!("{tokens} tokens"),
        };
        let article = if self.per == Per::Hour { "an" } else { "a" };
        let mut words = format!("{limit} {article} {}", self.per.word());
        for (name, value) in [
            (" for agent ", &self.agent),
            (" on channel ", &self.channel),
            (" for trigger ", &self.trigger),
            (" for job ", &self.job),
        ] {
            if let Some(value) = value {
                words.push_str(name);
                words.push_str(&identity::name(value));
            }
        }
        words
    }
}

/// Every allowance that is well-formed, and what is wrong, a line each. `zones` finds a zone by its IANA name; `local`
/// is the name of the zone that holds where none is given, UTC where it is not found.
pub fn read(
    allowances: &Scalar,
    local: &str,
    identities: &Identities,
    zones: &dyn Fn(&str) -> Option<TimeZone>,
) -> (Vec<Allowance>, Vec<String>) {
    let mut problems = Vec::new();
    if !matches!(allowances, Scalar::Absent | Scalar::List(_)) {
        problems.push(
            "allowance is no list; set it to [{\"usd\": 20, \"per\": \"day\", \"then\": \"stop\"}]"
                .to_owned(),
        );
    }
    let entries = allowances.list();
    if entries.len() > MOST {
        problems.push(format!(
            "allowance has {} entries; at most {MOST} hold: join or remove some",
            entries.len()
        ));
    }
    let default = zones(local).map_or(("UTC".to_owned(), TimeZone::UTC), |zone| {
        (local.to_owned(), zone)
    });
    let read = |entry| one(entry, &default, identities, zones);
    let mut held = Vec::new();
    for (place, entry) in entries.iter().take(MOST).enumerate() {
        match read(entry) {
            Ok(allowance) => held.push(allowance),
            Err(what) => problems.push(format!(
                "allowance[{place}]{what}; until then this allowance does not hold"
            )),
        }
    }
    (held, problems)
}

fn one(
    entry: &Scalar,
    default: &(String, TimeZone),
    identities: &Identities,
    zones: &dyn Fn(&str) -> Option<TimeZone>,
) -> Result<Allowance, String> {
    let pairs: Vec<(&str, &Scalar)> = entry.list().iter().filter_map(pair).collect();
    if pairs.is_empty() {
        return Err(
            " is no object; give {\"usd\": …, \"per\": \"day\", \"then\": \"stop\"}".to_owned(),
        );
    }
    if let Some((name, _)) = pairs.iter().find(|(name, _)| !NAMES.contains(name)) {
        let name = identity::name(name);
        return Err(format!(".{name} is no setting; give {}", NAMES.join(", ")));
    }
    let find = |name: &str| {
        let mut found = pairs.iter().filter(|(known, _)| *known == name);
        found.next().map_or(&Scalar::Absent, |(_, value)| value)
    };
    let filter = |name| text(find(name), name);
    Ok(Allowance {
        limit: limit(find("usd"), find("tokens"))?,
        per: match word(find("per"), "per", &["hour", "day", "month"])? {
            "hour" => Per::Hour,
            "day" => Per::Day,
            _ => Per::Month,
        },
        agent: filter("agent")?.map(|agent| identity::name(&agent)),
        channel: filter("channel")?,
        trigger: filter("trigger")?,
        job: filter("job")?.map(|job| job_id(&job, identities)),
        then: match word(find("then"), "then", &["warn", "stop"])? {
            "warn" => Then::Warn,
            _ => Then::Stop,
        },
        zone: match text(find("zone"), "zone")? {
            None => default.clone(),
            Some(name) => match zones(&name) {
                Some(zone) => (name, zone),
                None => {
                    let name = identity::name(&name);
                    return Err(format!(
                        ".zone \"{name}\" is no zone that is known; give an IANA name such as \
                         \"Europe/Berlin\" or \"UTC\""
                    ));
                }
            },
        },
    })
}

fn limit(usd: &Scalar, tokens: &Scalar) -> Result<Limit, String> {
    match (usd.is_absent(), tokens.is_absent()) {
        (true, true) => Err(" has no amount; give usd or tokens".to_owned()),
        (false, false) => Err(
            " has usd and tokens; give one of them, and the other in an entry of its own"
                .to_owned(),
        ),
        (false, true) => match usd
            .amount()
            .filter(|usd| *usd <= MOST_USD)
            .map(Nano::of_usd)
        {
            Some(usd) if usd > Nano(0) => Ok(Limit::Usd(usd)),
            _ => Err(format!(
                ".usd {} is no amount that can be meant; give USD above 0, such as 20",
                shown(usd)
            )),
        },
        (true, false) => match tokens.amount().filter(|n| (1.0..=MOST_TOKENS).contains(n)) {
            Some(tokens) => Ok(Limit::Tokens(tokens as u64)),
            None => Err(format!(
                ".tokens {} is no number that can be meant; give tokens from 1 on, such as 2000000",
                shown(tokens)
            )),
        },
    }
}

fn pair(entry: &Scalar) -> Option<(&str, &Scalar)> {
    let [name, value] = entry.list() else {
        return None;
    };
    Some((name.text()?, value))
}

/// One of a few words.
fn word<'w>(value: &Scalar, name: &str, words: &[&'w str]) -> Result<&'w str, String> {
    let wanted = words.iter().find(|word| value.text() == Some(word));
    wanted.copied().ok_or_else(|| match value.is_absent() {
        true => format!(" has no {name}; give {}", words.join(" or ")),
        false => format!(
            ".{name} {} is not one of {}",
            shown(value),
            words.join(", ")
        ),
    })
}

/// A name, where there is one.
fn text(value: &Scalar, name: &str) -> Result<Option<String>, String> {
    match (value.is_absent(), value.text()) {
        (true, _) => Ok(None),
        (false, Some(text)) => Ok(Some(text.trim().to_owned())),
        (false, None) => Err(format!(
            ".{name} {} is no name; give a text, or leave it out for all",
            shown(value)
        )),
    }
}

/// A value as it may stand in a log.
fn shown(value: &Scalar) -> String {
    match value {
        Scalar::Absent => "nothing".to_owned(),
        Scalar::Bool(flag) => flag.to_string(),
        Scalar::Number(number) => number.to_string(),
        Scalar::Text(text) => format!("\"{}\"", identity::name(text)),
        Scalar::List(_) => "that".to_owned(),
    }
}
