//! The session store for the process that owns the journal: fills in unreported calls, and the history from before the first
//! process counted.
//!
//! No call is counted twice, whichever processes run: rows from the floor on are matched with the reports of all processes, and
//! no process reported calls before the floor. The floor is the start of the first owner. It moves back when a span of history
//! is filled in to its end.

use super::Engine;
use crate::domain::time::Now;
use crate::engine::log::Level;
use crate::sessions::marks::{self, FLOOR, HISTORY, Span};
use crate::sources::SOURCES;
use crate::sources::facts::Scalar;

/// Minimum age of a row in a gateway with the plugin, in ms: by then every other surface has reported the call.
pub const SETTLED_AFTER_MS: u64 = 60_000;
/// Minimum age of a row if another process reported calls recently, in ms: its reports have more figures than rows.
const TOLD_SETTLED_AFTER_MS: u64 = 6_000;
/// How long a report of another process counts as recent, in ms.
const TOLD_LATELY_MS: u64 = 600_000;
/// Minimum step of the time up to which all rows are matched, in ms: each step is a write to the journal.
const RECONCILED_STEP_MS: u64 = 30_000;
/// How far the mark is moved before now after the clock was set back, in ms: longer than the interval of two looks, and
/// shorter than the age of the engine's match records.
const SET_BACK_MS: u64 = 300_000;
/// Ratio of the pause to the duration of a look, so that looks take at most a twentieth of a processor.
const PAUSE_PER_LOOK: u64 = 20;
const LONGEST_PAUSE_MS: u64 = 60_000;
/// Interval of looks at new rows while history is filled in, in ms.
pub const HISTORY_SLICE_MS: u64 = 2_000;

/// What the engine knows of the session store beside its marks.
#[derive(Debug, Default)]
pub(super) struct Store {
    /// When another process reported a call last, by the monotonic clock in ms.
    pub(super) told_at: Option<u64>,
    /// Problems of the last look.
    problems: Vec<String>,
}

/// The rows that a look reads. Times are in ms since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gaps {
    /// Rows of calls that are not matched yet, and are old enough.
    pub span: Span,
    /// Rows written after this time do not stop the reading: their clock was ahead, and was set back since.
    pub future_ms: u64,
}

impl Engine {
    /// Sets the floor if there is none, and the time from which rows are matched. `begun` is the start of this process, which
    /// observed no call that ended before; `begins` tells that it counts rows by itself, `is_asked` that a request asks for it.
    /// Returns the process's start by the present wall clock, in ms since 1970.
    pub fn begin_store(&mut self, begun: Now, begins: bool, is_asked: bool, now: Now) -> u64 {
        let mut begun_ms = begun.wall_ms;
        let floor = self.floor_ms();
        let is_ahead = floor.is_some_and(|floor| floor > now.wall_ms);
        if is_ahead {
            // The clock was ahead. Calls since this process's start are no history.
            let age_ms = now.mono_ms.saturating_sub(begun.mono_ms);
            begun_ms = begun_ms.min(now.wall_ms.saturating_sub(age_ms));
        }
        if is_ahead || floor.is_none() {
            self.mark(FLOOR, &begun_ms.to_string(), now);
        }
        if (begins || is_asked) && self.reconciled_ms.is_none() {
            let from_ms = if is_asked { now.wall_ms } else { begun_ms };
            self.set_reconciled(from_ms);
        }
        begun_ms
    }

    /// Time from which calls are counted, in ms since 1970; `None` before the first owner.
    pub fn floor_ms(&self) -> Option<u64> {
        marks::time(self.bookmarks.get(FLOOR)?)
    }

    /// The span before the floor that is being filled in.
    pub fn history(&self) -> Option<Span> {
        Span::parse(self.bookmarks.get(HISTORY)?)
    }

    /// Plans to fill in history from a time on (ms since 1970). A span that was begun earlier comes first. Returns the span
    /// that is filled in next; `None` if all of it is counted already.
    pub fn plan_history(&mut self, since_ms: u64, begun_ms: u64, now: Now) -> Option<Span> {
        if let Some(span) = self.history() {
            return Some(span);
        }
        let until_ms = self.floor_ms().unwrap_or(begun_ms);
        if since_ms >= until_ms {
            return None;
        }
        let span = Span { since_ms, until_ms };
        self.forget_history(now);
        self.mark(HISTORY, &span.text(), now);
        Some(span)
    }

    /// Whether history from a time on (ms since 1970) is counted or planned.
    pub fn has_history(&self, since_ms: u64, begun_ms: u64) -> bool {
        let planned = self.history().map(|span| span.since_ms);
        since_ms >= planned.or(self.floor_ms()).unwrap_or(begun_ms)
    }

    /// The span of history to read; `None` where none is left. A span whose end was interrupted is ended.
    pub fn history_to_read(&mut self, now: Now) -> Option<Span> {
        let span = self.history()?;
        if self.floor_ms().is_some_and(|floor| floor <= span.since_ms) {
            self.end_history(now);
            return None;
        }
        Some(span)
    }

    /// Ends the span of history, since it is read to its end.
    pub fn end_history(&mut self, now: Now) {
        let Some(span) = self.history() else {
            return;
        };
        // A row from just before the floor may be appended, or its line completed, after the history of its session was read.
        let settled_ms = span.until_ms.saturating_sub(SETTLED_AFTER_MS);
        let matched_lately = settled_ms + 1..=span.until_ms + SETTLED_AFTER_MS;
        if self
            .reconciled_ms
            .is_some_and(|ms| matched_lately.contains(&ms))
        {
            self.set_reconciled(settled_ms);
        }
        // In this order: after an interruption the remaining marks are recognised as done by the floor.
        self.mark(FLOOR, &span.since_ms.to_string(), now);
        self.mark(HISTORY, "", now);
        self.forget_history(now);
    }

    fn forget_history(&mut self, now: Now) {
        for (session, _) in self.store_bookmarks(true) {
            self.mark(&marks::name(&session, true), "", now);
        }
    }

    /// The bookmarks of the sessions, for new rows or for the history: session and bookmark.
    pub fn store_bookmarks(&self, is_history: bool) -> Vec<(String, String)> {
        let own = |(name, mark): (&str, &str)| {
            let session = marks::session(name, is_history)?;
            Some((session.to_owned(), mark.to_owned()))
        };
        self.bookmarks().filter_map(own).collect()
    }

    /// The new rows to read, of this age or older (ms); `None` where there are none.
    pub fn gaps_to_read(&mut self, settled_after_ms: u64, now: Now) -> Option<Gaps> {
        // Otherwise rows written before the clock reaches the mark again would count as matched.
        if self.reconciled_ms.is_some_and(|ms| ms > now.wall_ms) {
            self.set_reconciled(now.wall_ms.saturating_sub(SET_BACK_MS));
        }
        let since_ms = self.reconciled_ms?;
        let until_ms = now.wall_ms.saturating_sub(settled_after_ms);
        (since_ms < until_ms).then_some(Gaps {
            span: Span { since_ms, until_ms },
            future_ms: now.wall_ms + SETTLED_AFTER_MS,
        })
    }

    /// Notes that new rows are read to the end of the store, without a problem: with one the unread rows are matched later.
    pub fn gaps_are_read(&mut self, gaps: Span, now: Now) {
        // Younger rows may still be missing in the store.
        let matched_ms = gaps
            .until_ms
            .min(now.wall_ms.saturating_sub(SETTLED_AFTER_MS));
        if matched_ms >= gaps.since_ms + RECONCILED_STEP_MS {
            self.set_reconciled(matched_ms);
        }
    }

    /// Takes in rows of a session and its bookmark; `None` leaves the bookmark as it is. Returns the number of rows of the
    /// history without a time, which belong to no span and are left out.
    pub fn take_batch(
        &mut self,
        source: usize,
        rows: &[Scalar],
        (session, mark): (&str, Option<&str>),
        is_history: bool,
        now: Now,
    ) -> usize {
        let name = marks::name(session, is_history);
        let known = self.bookmarks.get(&name).map_or("", String::as_str);
        let mark = mark.filter(|mark| *mark != known);
        let times = time_fields(source);
        let has_time = |row: &&Scalar| {
            let told = |at: &usize| {
                let fact = row.list().get(*at);
                matches!(fact, Some(Scalar::Number(_) | Scalar::Text(_)))
            };
            !is_history || times.iter().any(told)
        };
        let timed: Vec<Scalar> = rows.iter().filter(has_time).cloned().collect();
        if !timed.is_empty() || mark.is_some() {
            self.take_rows(source, &timed, (&name, mark), is_history, now);
        }
        rows.len() - timed.len()
    }

    /// Minimum age of a row before it is counted, in ms. `alone_ms` is the age if this process alone counts.
    pub fn settled_after_ms(&self, alone_ms: u64, now: Now) -> u64 {
        let told_ms = self.store.told_at.map(|at| now.mono_ms.saturating_sub(at));
        match told_ms.is_some_and(|ms| ms < TOLD_LATELY_MS) {
            true => alone_ms.max(TOLD_SETTLED_AFTER_MS),
            false => alone_ms,
        }
    }

    /// Logs the problems of a look that the last look did not have.
    pub fn report_store(&mut self, problems: Vec<String>) {
        for problem in &problems {
            if !self.store.problems.contains(problem) {
                self.log.push(Level::Warn, problem.clone());
            }
        }
        self.store.problems = problems;
    }

    fn mark(&mut self, name: &str, mark: &str, now: Now) {
        self.bookmark(name, mark);
        self.note_event(now);
    }
}

/// Indexes of the times of a row.
fn time_fields(source: usize) -> Vec<usize> {
    let fields = SOURCES.get(source).map_or(&[][..], |table| table.fields);
    let is_time = |name: &str| name == "written" || name == "timestamp";
    let named = fields.iter().enumerate();
    named
        .filter(|(_, field)| is_time(field.name))
        .map(|(at, _)| at)
        .collect()
}

/// Pause after a look that took `took_ms`, in ms; `every_ms` is the interval of looks.
pub fn pause_after_ms(took_ms: u64, every_ms: u64, reads_history: bool) -> u64 {
    match reads_history {
        true => every_ms.min(HISTORY_SLICE_MS),
        false => every_ms.max(took_ms.saturating_mul(PAUSE_PER_LOOK).min(LONGEST_PAUSE_MS)),
    }
}
