//! The options of the command.

use jiff::tz::TimeZone;

use crate::domain::time::parse_iso;
use crate::spending::window::{DAY_MS, HOUR_MS, Per, Window, date_of, written};

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
    /// The UTC day.
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
}

impl Options {
    /// Validates the options.
    ///
    /// # Errors
    /// A sentence that names the option, its value and the mend.
    pub fn new(wanted: &Wanted, now_ms: u64) -> Result<Self, String> {
        let since = wanted.since.as_deref().unwrap_or("7d");
        let since_ms = begin(since, now_ms).ok_or_else(|| {
            format!(
                "--since {since}: not a time; write 12h, 7d, 4w, today, yesterday, month, a date such as 2026-11-01, \
                 or a time such as 2026-11-01T22:00Z, in UTC"
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
        })
    }

    /// The UTC day of a time.
    pub fn day(&self, at_ms: u64) -> String {
        date_of(&TimeZone::UTC, at_ms).to_string()
    }

    /// `2026-11-01 22:00`.
    pub fn minute(&self, at_ms: u64) -> String {
        let text = written(&TimeZone::UTC, at_ms);
        text.get(..16).unwrap_or(&text).replace('T', " ")
    }
}

/// The begin that an option names, in ms since 1970.
fn begin(text: &str, now_ms: u64) -> Option<u64> {
    let text = text.trim();
    let today_ms = now_ms / DAY_MS * DAY_MS;
    let ago = |unit: char, length_ms: u64, from_ms: u64| {
        let count: u64 = text.strip_suffix(unit)?.trim().parse().ok()?;
        Some(from_ms.saturating_sub(count.checked_mul(length_ms)?))
    };
    match text {
        "today" => return Some(today_ms),
        "yesterday" => return Some(today_ms.saturating_sub(DAY_MS)),
        "month" => return Some(Window::of(Per::Month, &TimeZone::UTC, now_ms).starts_ms),
        _ => {}
    }
    ago('h', HOUR_MS, now_ms / HOUR_MS * HOUR_MS)
        .or_else(|| ago('d', DAY_MS, today_ms))
        .or_else(|| ago('w', 7 * DAY_MS, today_ms))
        .or_else(|| parse_iso(&with_zone(text)))
}

/// Completes a date, or a time without seconds or zone, to a time that [`parse_iso`] reads.
fn with_zone(text: &str) -> String {
    let (date, time) = text.split_once(['T', ' ']).unwrap_or((text, "00:00"));
    let time = time.trim_end_matches('Z');
    match time.len() {
        2 => [date, "T", time, ":00:00Z"].concat(),
        5 => [date, "T", time, ":00Z"].concat(),
        8 => [date, "T", time, "Z"].concat(),
        _ => text.to_owned(),
    }
}
