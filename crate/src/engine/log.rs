//! Lines for the gateway's log, without repetitions.

use serde::Serialize;

/// Time in which the same line is not logged again, in ms.
const QUIET_MS: u64 = 60_000;
/// Marks a line that is logged once per process.
const FOR_EVER: u64 = u64::MAX;
/// Maximum number of remembered lines. While all of them are recent, new lines are dropped.
const MAX_LINES: usize = 256;
/// Maximum number of lines that are logged once: foreign names are in some of them.
const MAX_ONCE: usize = 128;

/// `1 call`, `2 calls`.
pub fn counted(count: u64, one: &str, more: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { more })
}

/// The level of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Normal operation.
    Info,
    /// The operator should act.
    Warn,
}

/// A line for the gateway's log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LogLine {
    /// The level.
    pub level: Level,
    /// The text, without content, tokens or identities.
    pub text: String,
}

/// Collects log lines and suppresses repetitions within a minute.
#[derive(Debug, Default)]
pub struct Log {
    lines: Vec<LogLine>,
    logged: Vec<(String, u64)>,
}

impl Log {
    /// Logs a line.
    pub fn add(&mut self, level: Level, text: String, mono_ms: u64) {
        if self.may_log(&text, mono_ms, mono_ms) {
            self.lines.push(LogLine { level, text });
        }
    }

    /// Logs a line whose figures change; lines with the same `about` count as repetitions. Returns whether it was
    /// logged.
    pub fn add_about(&mut self, level: Level, about: &str, text: String, mono_ms: u64) -> bool {
        let may_log = self.may_log(about, mono_ms, mono_ms);
        if may_log {
            self.lines.push(LogLine { level, text });
        }
        may_log
    }

    /// Logs a line once per process.
    pub fn add_once(&mut self, level: Level, text: String) {
        if self.may_log(&text, 0, FOR_EVER) {
            self.lines.push(LogLine { level, text });
        }
    }

    /// Logs a line whose repetitions the caller prevents.
    pub fn push(&mut self, level: Level, text: String) {
        self.lines.push(LogLine { level, text });
    }

    /// Takes the collected lines.
    pub fn take(&mut self) -> Vec<LogLine> {
        std::mem::take(&mut self.lines)
    }

    /// Puts lines back in front of the collected ones.
    pub fn put_back(&mut self, mut lines: Vec<LogLine>) {
        lines.append(&mut self.lines);
        self.lines = lines;
    }

    fn may_log(&mut self, about: &str, mono_ms: u64, remembered_ms: u64) -> bool {
        let is_recent = |at: u64| at == FOR_EVER || mono_ms.saturating_sub(at) < QUIET_MS;
        if let Some((_, at)) = self.logged.iter_mut().find(|(known, _)| known == about) {
            let quiet = is_recent(*at);
            if !quiet {
                *at = remembered_ms;
            }
            return !quiet;
        }
        if self.logged.len() >= MAX_LINES {
            self.logged.retain(|(_, at)| is_recent(*at));
        }
        let once = self.logged.iter().filter(|(_, at)| *at == FOR_EVER);
        let has_room =
            self.logged.len() < MAX_LINES && (remembered_ms != FOR_EVER || once.count() < MAX_ONCE);
        if has_room {
            self.logged.push((about.to_owned(), remembered_ms));
        }
        has_room
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_line_is_not_logged_twice_a_minute() {
        let mut log = Log::default();
        for at in [0, 1_000, 59_999, 60_000, 60_001] {
            log.add(Level::Warn, "down".into(), at);
        }
        log.add(Level::Warn, "other".into(), 5);
        assert_eq!(log.take().len(), 3);
    }

    #[test]
    fn a_say_once_line_is_logged_once() {
        let mut log = Log::default();
        for _ in 0..3 {
            log.add_once(Level::Warn, "a setting".into());
        }
        assert_eq!(log.take().len(), 1);
    }

    #[test]
    fn lines_that_are_logged_once_leave_room_for_others() {
        let mut log = Log::default();
        for model in 0..1_000 {
            log.add_once(Level::Warn, format!("model {model} has no usage"));
        }
        log.add(Level::Warn, "the journal cannot be written".into(), 1);
        let lines = log.take();
        assert_eq!(lines.len(), MAX_ONCE + 1);
        assert_eq!(lines[MAX_ONCE].text, "the journal cannot be written");
    }

    #[test]
    fn the_number_of_remembered_lines_is_bounded() {
        let mut log = Log::default();
        for kind in 0..1_000 {
            log.add(Level::Info, format!("kind {kind}"), 1);
        }
        assert_eq!(log.take().len(), MAX_LINES);
    }
}
