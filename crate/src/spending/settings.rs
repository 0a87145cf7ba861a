//! The setting `allowance`, validated: `[{ usd | tokens, per: "hour" | "day" | "month", agent?, channel?, trigger?,
//! job?, then: "warn" | "stop", zone? }]`.
//!
//! An allowance covers the sum of all calls that match its filters; without filters, all calls. An invalid entry is
//! reported with its index, its value and the mend, and does not apply: a misspelt filter would stop other calls than
//! the operator meant. Objects come as lists of pairs, since facts have no objects.

use jiff::tz::TimeZone;

use super::Nano;
use super::who::{Who, job_id};
use super::window::Per;
use crate::domain::identity::{self, Identities, key_of};
use crate::sources::facts::Scalar;

/// Maximum number of allowances.
pub const MOST: usize = 64;
/// Maximum USD; a larger number has the wrong unit.
const MOST_USD: f64 = 1e9;
/// Maximum tokens; every integer up to it is exact as an `f64`.
const MOST_TOKENS: f64 = 1e15;
/// Fields of an entry.
const NAMES: [&str; 9] = [
    "usd", "tokens", "per", "agent", "channel", "trigger", "job", "then", "zone",
];

/// Amount of an allowance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// USD.
    Usd(Nano),
    /// Prompt and output tokens.
    Tokens(u64),
}

/// Effect of a spent allowance.
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
    /// Amount per window.
    pub limit: Limit,
    /// Kind of windows.
    pub per: Per,
    /// Filter by agent; `None` matches all calls.
    pub agent: Option<String>,
    /// Filter by channel; `None` matches all calls.
    pub channel: Option<String>,
    /// Filter by trigger; `None` matches all calls.
    pub trigger: Option<String>,
    /// Filter by cron job, in the form of [`job_id`]; `None` matches all calls.
    pub job: Option<String>,
    /// Effect once it is spent.
    pub then: Then,
    /// Name and rules of the zone.
    pub zone: (String, TimeZone),
    /// Whether the setting names the zone. Processes of one state directory may have different zones by default.
    pub names_zone: bool,
}

impl Allowance {
    /// Whether the filters match a call.
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
            // Job ids are case-sensitive.
            && self.job.as_ref().is_none_or(|job| who.job.as_ref() == Some(job))
    }

    /// Hash of the filters and the windows. Allowances with one scope share their sums, and keep them when the operator
    /// changes the limit.
    pub fn scope(&self) -> u64 {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        // Calls are matched in any case of letters.
        let name = |name: &Option<String>| text(name).to_ascii_lowercase();
        key_of(&[
            self.per.word(),
            if self.names_zone { &self.zone.0 } else { "" },
            &name(&self.agent),
            &name(&self.channel),
            &name(&self.trigger),
            &text(&self.job),
        ])
    }

    /// Hash of the whole allowance: identifies its warnings.
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

    /// Text for users: `20.00 USD a day for agent main on channel telegram`.
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

/// Reads the setting. Returns the valid allowances, and one line per problem. `zones` finds a zone by its IANA name;
/// `local` is the name of the default zone, UTC if it is not found.
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
        names_zone: !find("zone").is_absent(),
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

/// Reads one of a few words.
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

/// Reads an optional name.
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

/// Formats a value for a log.
fn shown(value: &Scalar) -> String {
    match value {
        Scalar::Absent => "nothing".to_owned(),
        Scalar::Bool(flag) => flag.to_string(),
        Scalar::Number(number) => number.to_string(),
        Scalar::Text(text) => format!("\"{}\"", identity::name(text)),
        Scalar::List(_) => "that".to_owned(),
    }
}
