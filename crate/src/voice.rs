//! What is said in the gateway's log: loud at start, quiet after.

use serde::Serialize;

/// The same line is not logged twice within this time, in ms.
const QUIET_MS: u64 = 60_000;
/// The time of a line that is logged once only.
const FOR_EVER: u64 = u64::MAX;
/// The most lines that are told apart when keeping quiet; beyond them nothing new is said.
const MAX_LINES: usize = 256;

/// `1 call`, `2 calls`.
pub fn counted(count: u64, one: &str, more: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { more })
}

/// How loud a line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// As it should be.
    Info,
    /// Something to mend.
    Warn,
}

/// A line for the gateway's log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LogLine {
    /// How loud.
    pub level: Level,
    /// The text, without content, tokens or identities.
    pub text: String,
}

/// Lines to log, none of them twice a minute.
#[derive(Debug, Default)]
pub struct Voice {
    lines: Vec<LogLine>,
    spoken: Vec<(String, u64)>,
}

impl Voice {
    /// Logs a line.
    pub fn say(&mut self, level: Level, text: String, mono_ms: u64) {
        if self.may_speak(&text, mono_ms, mono_ms) {
            self.lines.push(LogLine { level, text });
        }
    }

    /// Logs a line whose figures change, but which is about the same thing; whether it was its time.
    pub fn say_about(&mut self, level: Level, about: &str, text: String, mono_ms: u64) -> bool {
        let may_speak = self.may_speak(about, mono_ms, mono_ms);
        if may_speak {
            self.lines.push(LogLine { level, text });
        }
        may_speak
    }

    /// Logs a line once only.
    pub fn say_once(&mut self, level: Level, text: String) {
        if self.may_speak(&text, 0, FOR_EVER) {
            self.lines.push(LogLine { level, text });
        }
    }

    /// The lines to log now.
    pub fn take(&mut self) -> Vec<LogLine> {
        std::mem::take(&mut self.lines)
    }

    /// Keeps lines for the next time.
    pub fn put_back(&mut self, mut lines: Vec<LogLine>) {
        lines.append(&mut self.lines);
        self.lines = lines;
    }

    fn may_speak(&mut self, about: &str, mono_ms: u64, remembered_ms: u64) -> bool {
        let is_recent = |at: u64| at == FOR_EVER || mono_ms.saturating_sub(at) < QUIET_MS;
        if let Some((_, at)) = self.spoken.iter_mut().find(|(known, _)| known == about) {
            let quiet = is_recent(*at);
            if !quiet {
                *at = remembered_ms;
            }
            return !quiet;
        }
        if self.spoken.len() >= MAX_LINES {
            self.spoken.retain(|(_, at)| is_recent(*at));
        }
        let has_room = self.spoken.len() < MAX_LINES;
        if has_room {
            self.spoken.push((about.to_owned(), remembered_ms));
        }
        has_room
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_line_is_not_logged_twice_a_minute() {
        let mut voice = Voice::default();
        for at in [0, 1_000, 59_999, 60_000, 60_001] {
            voice.say(Level::Warn, "down".into(), at);
        }
        voice.say(Level::Warn, "other".into(), 5);
        assert_eq!(voice.take().len(), 3);
    }

    #[test]
    fn what_is_said_once_is_said_once() {
        let mut voice = Voice::default();
        for _ in 0..3 {
            voice.say_once(Level::Warn, "a setting".into());
        }
        assert_eq!(voice.take().len(), 1);
    }

    #[test]
    fn a_thousand_kinds_of_lines_stay_bounded() {
        let mut voice = Voice::default();
        for kind in 0..1_000 {
            voice.say(Level::Info, format!("kind {kind}"), 1);
        }
        assert_eq!(voice.take().len(), MAX_LINES);
    }
}
