//! The command `report`: what calls cost, by model, agent, channel, trigger, cron job, session or day.
//!
//! The figures come from a receiver's list of calls ([`receiver`]), or from the sums in a state directory's journal
//! ([`crate::spending::history`]). Days and months are those of a time zone. A state directory keeps the last two days by the
//! hour, and earlier ones by the UTC day: most of it is in one day of the zone, to which it is added.

pub mod csv;
pub mod focus;
mod money;
mod options;
mod receiver;
mod table;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use self::focus::Charge;
use self::money::Facts;
pub use self::options::{Dimension, Options, Wanted};
use self::receiver::Receiver;
use crate::journal::{self, Frame};
use crate::spending::history::{DAYS, HOURS, History, Key, Row, Span, Sums};
use crate::spending::window::{DAY_MS, HOUR_MS, date_of, written};

/// Maximum number of rows; the calls of further ones are one row.
const MAX_ROWS: usize = 20_000;
/// Name of the row of all further rows.
const OTHERS: &str = "others";

/// One report.
#[derive(Debug)]
pub struct Report {
    options: Options,
    /// The receiver, where it is asked; else the state directory's journal is read.
    receiver: Option<Receiver>,
    history: History,
    rows: BTreeMap<Vec<String>, Sums>,
    facts: Facts,
    /// The begin that was asked for, in ms since 1970. A state directory's rows may begin earlier: with a whole hour or day.
    begins_ms: u64,
    /// The state directory's sums of the UTC days since the begin, for FOCUS.
    charges: Vec<Row>,
    /// Allowances of the state directory's status.
    allowances: Vec<Value>,
    notes: Vec<String>,
}

/// Sums of a row, with its name for each dimension.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    /// In the order of the dimensions; empty where no source told it.
    pub names: Vec<String>,
    /// Its sums.
    pub sums: Sums,
}

/// Format of the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Lines of at most 80 columns.
    Text,
    /// One JSON document.
    Json,
    /// A table for spreadsheets.
    Csv,
    /// FOCUS 1.3, of a state directory: a row for each UTC day and key, whatever rows are by.
    Focus,
}

impl Report {
    /// Validates the options. `now_ms` is ms since 1970.
    ///
    /// # Errors
    /// A sentence that names the option, its value and the mend.
    pub fn new(wanted: &Wanted, now_ms: u64) -> Result<Self, String> {
        let options = Options::new(wanted, now_ms)?;
        let receiver = wanted.of_receiver.then(|| Receiver::new(&options));
        Ok(Self {
            receiver,
            history: History::default(),
            rows: BTreeMap::new(),
            facts: Facts::default(),
            begins_ms: options.since_ms,
            charges: Vec::new(),
            allowances: Vec::new(),
            notes: Vec::new(),
            options,
        })
    }

    /// Takes a ledger file of a state directory, in the order of the files' names.
    ///
    /// # Errors
    /// A newer version wrote it.
    pub fn ledger(&mut self, bytes: &[u8]) -> Result<(), String> {
        let recovered = journal::read(bytes).map_err(|foreign| {
            format!(
                "the journal has format {}, which this version does not read: use the version that wrote it",
                foreign.version
            )
        })?;
        for frame in recovered.frames {
            match frame {
                Frame::Begin => self.history = History::default(),
                Frame::Tally(id, entry) => self.history.recover(id, *entry),
                Frame::Tallied(row) => self.history.put(&row),
                _ => {}
            }
        }
        Ok(())
    }

    /// Takes the allowances of the state directory's status, a JSON list.
    pub fn allowances(&mut self, json: &str) {
        self.allowances = serde_json::from_str(json).unwrap_or_default();
    }

    /// Ends the reading.
    pub fn finish(&mut self) {
        if self.receiver.is_some() {
            return self.finish_receiver();
        }
        self.history.count_all();
        let Options {
            now_ms, since_ms, ..
        } = self.options;
        // Hours are kept for two days, days for seventy.
        let kept_ms = (now_ms / HOUR_MS).saturating_sub(HOURS - 1) * HOUR_MS;
        // The first UTC day of which all hours are kept.
        let hours_ms = kept_ms.next_multiple_of(DAY_MS);
        let hour_ms = since_ms / HOUR_MS * HOUR_MS;
        let has_hours = hour_ms >= kept_ms;
        let (since_ms, from_ms) = match has_hours {
            true => (hour_ms, hour_ms),
            false => (self.options.day_window(since_ms).starts_ms, hours_ms),
        };
        let history = std::mem::take(&mut self.history);
        for row in history.rows() {
            let starts_ms = row.starts_ms();
            // Its middle: most of it is in one day of the zone.
            let at_ms = starts_ms + row.span.length_ms() / 2;
            if (row.span == Span::Hour) == (starts_ms >= hours_ms) {
                let zone = &self.options.zone;
                self.facts.add(zone, at_ms, &row.key.agent, &row.sums);
            }
            let is_of_report = match row.span {
                Span::Hour => starts_ms >= from_ms,
                Span::Day => !has_hours && starts_ms < from_ms && at_ms >= since_ms,
            };
            if is_of_report {
                self.add(at_ms, &row.key, "", &row.sums);
            }
            // Billing data is in UTC, and a day that was written once is the same in the next file.
            if row.span == Span::Day && starts_ms + DAY_MS > self.begins_ms {
                self.charges.push(row);
            }
        }
        if since_ms < self.options.since_ms {
            self.options.since_ms = since_ms;
            let from = self.options.minute(since_ms);
            self.notes.push(format!(
                "A state directory keeps hours for two days: this report begins at {from}."
            ));
        }
        // The first day of the zone of which all hours are kept.
        let first = match self.options.day_window(hours_ms) {
            day if day.starts_ms < hours_ms => day.ends_ms,
            day => day.starts_ms,
        };
        if since_ms < hours_ms && first > hours_ms {
            let date = date_of(&self.options.zone, first);
            self.notes.push(format!(
                "A state directory keeps hours for two days: days before {date} are UTC days."
            ));
        }
        if now_ms / DAY_MS >= DAYS && since_ms / DAY_MS <= now_ms / DAY_MS - DAYS {
            self.notes
                .push(format!("A state directory keeps {DAYS} days of sums."));
        }
        self.notes.push(
            "From a state directory: the calls of one gateway that this version of the plugin counted, without sessions. \
             A receiver has the calls of all gateways, and sessions: --receiver <url>."
                .to_owned(),
        );
    }

    fn add(&mut self, at_ms: u64, key: &Key, session: &str, sums: &Sums) {
        let name = |dimension: &Dimension| match dimension {
            Dimension::Model => key.model.clone(),
            Dimension::Agent => key.agent.clone(),
            Dimension::Channel => key.channel.clone(),
            Dimension::Trigger => key.trigger.clone(),
            Dimension::Job => key.job.clone(),
            Dimension::Session => session.to_owned(),
            Dimension::Day => self.options.day(at_ms),
        };
        let mut names: Vec<String> = self.options.by.iter().map(name).collect();
        if self.rows.len() >= MAX_ROWS && !self.rows.contains_key(&names) {
            names = vec![OTHERS.to_owned(); names.len()];
        }
        self.rows.entry(names).or_default().add(sums);
        self.facts.count(&key.agent, sums);
    }

    /// The rows: by day, else the highest cost first; and their sum.
    fn lines(&self) -> (Vec<Line>, Sums) {
        let mut sum = Sums::default();
        let mut lines: Vec<Line> = Vec::with_capacity(self.rows.len());
        for (names, sums) in &self.rows {
            sum.add(sums);
            lines.push(Line {
                names: names.clone(),
                sums: *sums,
            });
        }
        let day = self.options.by.iter().position(|by| *by == Dimension::Day);
        lines.sort_by(|a, b| {
            let days = day.map(|day| a.names[day].cmp(&b.names[day]));
            let tokens = |line: &Line| line.sums.prompt.saturating_add(line.sums.output);
            days.unwrap_or(std::cmp::Ordering::Equal)
                .then_with(|| b.sums.usd.cmp(&a.sums.usd))
                .then_with(|| tokens(b).cmp(&tokens(a)))
                .then_with(|| a.names.cmp(&b.names))
        });
        (lines, sum)
    }

    /// What limits the figures, in sentences; texts and JSON documents have them too.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// The report, line by line. `from` names its source: for people, and for FOCUS the gateway.
    pub fn output(&self, format: Format, from: &str) -> Vec<String> {
        let (lines, sum) = self.lines();
        match format {
            Format::Text => table::lines(self, from, &lines, &sum),
            Format::Csv => csv::lines(&self.options.by, &lines),
            Format::Focus => self.charges(from),
            Format::Json => vec![self.document(from, &lines, &sum).to_string()],
        }
    }

    fn charges(&self, gateway: &str) -> Vec<String> {
        let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        let line = |row: &Row| {
            let Key {
                model,
                agent,
                channel,
                trigger,
                job,
            } = &row.key;
            let sums = &row.sums;
            focus::row(&Charge {
                start_ms: number(row.starts_ms()),
                end_ms: number(row.starts_ms().saturating_add(row.span.length_ms())),
                account: gateway,
                model,
                tags: vec![
                    ("agent", agent),
                    ("channel", channel),
                    ("gateway", gateway),
                    ("job", job),
                    ("trigger", trigger),
                ],
                calls: number(sums.calls),
                unpriced: number(sums.unpriced),
                prompt: number(sums.prompt),
                output: number(sums.output),
                cache_read: number(sums.cache_read),
                cache_write: number(sums.cache_write),
                // A state directory does not sum them up.
                reasoning: None,
                usd: sums.usd.usd(),
            })
        };
        let rows = self.charges.iter().map(line);
        std::iter::once(focus::head()).chain(rows).collect()
    }

    fn document(&self, from: &str, lines: &[Line], sum: &Sums) -> Value {
        let Options {
            since_ms,
            now_ms,
            by,
            zone,
            zone_name,
        } = &self.options;
        let row = |line: &Line| {
            let mut row = Map::new();
            for (by, name) in by.iter().zip(&line.names) {
                let name = (!name.is_empty()).then(|| name.clone());
                row.insert(by.name().to_owned(), json!(name));
            }
            row.extend(figures(&line.sums));
            Value::Object(row)
        };
        let money = self.facts.money(zone, *now_ms);
        let allowances: Vec<Value> = self
            .allowances
            .iter()
            .map(|told| table::of_now(told, *now_ms as f64))
            .collect();
        json!({
            "from": from,
            "since": written(zone, *since_ms),
            "until": written(zone, *now_ms),
            "zone": zone_name,
            "by": by.iter().map(|by| by.name()).collect::<Vec<_>>(),
            "rows": lines.iter().map(row).collect::<Vec<_>>(),
            "sum": figures(sum),
            "forecast": money.forecast,
            "prompt": money.prompt,
            "cache": money.cache,
            "allowances": allowances,
            "notes": self.notes,
        })
    }
}

/// A row's figures for programs.
fn figures(sums: &Sums) -> Map<String, Value> {
    let figures = json!({
        "calls": sums.calls,
        "prompt_tokens": sums.prompt,
        "completion_tokens": sums.output,
        "cache_read_tokens": sums.cache_read,
        "cache_write_tokens": sums.cache_write,
        "cost_usd": sums.usd.usd(),
        "unpriced_calls": sums.unpriced,
    });
    match figures {
        Value::Object(figures) => figures,
        _ => Map::new(),
    }
}
