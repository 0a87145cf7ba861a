//! The options of the command.

use jiff::ToSpan;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use crate::domain::time::parse_iso;
use crate::spending::window::{DAY_MS, HOUR_MS, Per, Window, begin_of, date_of, written};

/// Maximum number of days in a report.
const MOST_DAYS: u64 = 366;

/// What rows are by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dimension {
    /// The model.
    Model,
    /// The agent.
    Agent,
    /// The channel.
    Channel,
    /// The trigger.
    Trigger,
    /// The cron job.
    Job,
    /// The session.
    Session,
    /// The day, in the report's zone.
    Day,
}

impl Dimension {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Model,
        Self::Agent,
        Self::Channel,
        Self::Trigger,
        Self::Job,
        Self::Session,
        Self::Day,
    ];

    /// Its name in options and outputs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Model => "model",
            Self::Agent => "agent",
            Self::Channel => "channel",
            Self::Trigger => "trigger",
            Self::Job => "job",
            Self::Session => "session",
            Self::Day => "day",
        }
    }
}

/// The options, as text.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// `--since`; seven days without it.
    pub since: Option<String>,
    /// `--by`; by model without it.
    pub by: Option<String>,
    /// `--zone` by its name; UTC without it.
    pub zone: Option<(String, TimeZone)>,
    /// Whether a receiver is asked.
    pub of_receiver: bool,
}

/// The validated options. Times are ms since 1970.
#[derive(Debug, Clone)]
pub struct Options {
    /// Begin of the report.
    pub since_ms: u64,
    /// Its end.
    pub now_ms: u64,
    /// What rows are by.
    pub by: Vec<Dimension>,
    /// The zone of days, months and shown times.
    pub zone: TimeZone,
    /// Its name.
    pub zone_name: String,
}

impl Options {
    /// Validates the options.
    ///
    /// # Errors
    /// A sentence that names the option, its value and the mend.
    pub fn new(wanted: &Wanted, now_ms: u64) -> Result<Self, String> {
        let since = wanted.since.as_deref().unwrap_or("7d");
        let utc = || ("UTC".to_owned(), TimeZone::UTC);
        let (zone_name, zone) = wanted.zone.clone().unwrap_or_else(utc);
        let since_ms = begin(since, &zone, now_ms).ok_or_else(|| {
            format!(
                "--since {since}: not a time; write 12h, 7d, 4w, today, yesterday, month, a date such as 2026-11-01, \
                 or a time such as 2026-11-01T22:00"
            )
        })?;
        if since_ms > now_ms {
            return Err(format!(
                "--since {since}: that is in the future; write a time in the past"
            ));
        }
        if now_ms - since_ms > MOST_DAYS * DAY_MS {
            return Err(format!(
                "--since {since}: that are more than {MOST_DAYS} days; write a later time"
            ));
        }
        let mut by = Vec::new();
        for word in wanted.by.as_deref().unwrap_or("model").split(',') {
            let word = word.trim();
            let found = Dimension::ALL.into_iter().find(|one| one.name() == word);
            let one = found.ok_or_else(|| {
                let names = Dimension::ALL.map(Dimension::name).join(", ");
                format!("--by {word}: not one of {names}; several are separated by a comma")
            })?;
            if by.contains(&one) {
                return Err(format!("--by {word}: it is there twice; name it once"));
            }
            by.push(one);
        }
        if by.contains(&Dimension::Session) && !wanted.of_receiver {
            return Err(
                "--by session: a state directory keeps no sums of sessions; ask the receiver with --receiver <url>"
                    .to_owned(),
            );
        }
        Ok(Self {
            since_ms,
            now_ms,
            by,
            zone,
            zone_name,
        })
    }

    /// The date of a time.
    pub fn day(&self, at_ms: u64) -> String {
        date_of(&self.zone, at_ms).to_string()
    }

    /// The day that contains a time.
    pub fn day_window(&self, at_ms: u64) -> Window {
        Window::of(Per::Day, &self.zone, at_ms)
    }

    /// `2026-11-01 22:00`.
    pub fn minute(&self, at_ms: u64) -> String {
        let text = written(&self.zone, at_ms);
        text.get(..16).unwrap_or(&text).replace('T', " ")
    }
}

/// The begin of the date some days before that of a time, in ms since 1970.
pub fn days_before(zone: &TimeZone, at_ms: u64, days: u64) -> Option<u64> {
    let days = i64::try_from(days).ok()?.days();
    begin_of(zone, date_of(zone, at_ms).checked_sub(days).ok()?)
}

/// The begin that an option names, in ms since 1970.
fn begin(text: &str, zone: &TimeZone, now_ms: u64) -> Option<u64> {
    let text = text.trim();
    match text {
        "today" => return days_before(zone, now_ms, 0),
        "yesterday" => return days_before(zone, now_ms, 1),
        "month" => return Some(Window::of(Per::Month, zone, now_ms).starts_ms),
        _ => {}
    }
    let count = |unit: char| text.strip_suffix(unit)?.trim().parse::<u64>().ok();
    if let Some(hours) = count('h') {
        let hour_ms = now_ms / HOUR_MS * HOUR_MS;
        return Some(hour_ms.saturating_sub(hours.checked_mul(HOUR_MS)?));
    }
    // More days than the calendar has are as many as there are.
    let most = |days: u64| days.min(now_ms / DAY_MS);
    if let Some(days) = count('d') {
        return days_before(zone, now_ms, most(days));
    }
    if let Some(weeks) = count('w') {
        return days_before(zone, now_ms, most(weeks.checked_mul(7)?));
    }
    parse_iso(text).or_else(|| moment(text, zone))
}

/// A date, or a time with or without seconds: of the zone, or with a `Z` of UTC.
fn moment(text: &str, zone: &TimeZone) -> Option<u64> {
    let (text, zone) = match text.strip_suffix('Z') {
        Some(text) => (text, &TimeZone::UTC),
        None => (text, zone),
    };
    let (date, time) = text.split_once(['T', ' ']).unwrap_or((text, "00:00"));
    let seconds = match time.len() {
        2 => ":00:00",
        5 => ":00",
        8 => "",
        _ => return None,
    };
    let civil: DateTime = [date, "T", time, seconds].concat().parse().ok()?;
    let at = zone.to_timestamp(civil).ok()?;
    u64::try_from(at.as_millisecond()).ok()
}
