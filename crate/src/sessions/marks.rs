//! The marks among the journal's bookmarks. Their names begin with a slash, unlike those of sessions.
//!
//! - `/inbox`: the place up to which a worker has read its ring; see `js-shim/src/worker/pipeline.ts`.
//! - `/floor`: calls that ended at this time (ms since 1970) or later are counted.
//! - `/history`: the span before the floor that is being filled in, `<since>-<until>` in ms since 1970.
//! - `/history/<session>`: the bookmark of a session for that span.

/// Name of the floor's mark.
pub const FLOOR: &str = "/floor";
/// Name of the mark of the history's span.
pub const HISTORY: &str = "/history";
/// Prefix of the bookmarks of the history.
pub const HISTORY_PREFIX: &str = "/history/";
/// The last time that JavaScript's dates reach, in ms since 1970.
const LAST_MS: u64 = 8_640_000_000_000_000;

/// A span of time, in ms since 1970, without `until_ms`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// Its first ms.
    pub since_ms: u64,
    /// The ms after its last one.
    pub until_ms: u64,
}

impl Span {
    /// Reads a span; `None` for other texts and for a span without a time.
    pub fn parse(text: &str) -> Option<Self> {
        let (since, until) = text.split_once('-')?;
        let (since_ms, until_ms) = (time(since)?, time(until)?);
        (since_ms < until_ms).then_some(Self { since_ms, until_ms })
    }

    /// The text of its mark.
    pub fn text(self) -> String {
        format!("{}-{}", self.since_ms, self.until_ms)
    }
}

/// Reads a time, in ms since 1970.
pub fn time(text: &str) -> Option<u64> {
    text.parse().ok().filter(|ms| *ms <= LAST_MS)
}

/// The name of the bookmark of a session, for new rows or for the history.
pub fn name(session: &str, is_history: bool) -> String {
    match is_history {
        true => [HISTORY_PREFIX, session].concat(),
        false => session.to_owned(),
    }
}

/// The session of a bookmark of new rows, or of the history; `None` for another mark.
pub fn session(name: &str, is_history: bool) -> Option<&str> {
    match is_history {
        true => name.strip_prefix(HISTORY_PREFIX),
        false => (!name.starts_with('/')).then_some(name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_is_read_as_it_is_written() {
        let span = Span {
            since_ms: 0,
            until_ms: LAST_MS,
        };
        assert_eq!(Span::parse(&span.text()), Some(span));
        for text in [
            "",
            "-",
            "1",
            "1-",
            "-1",
            "2-1",
            "1-1",
            "1-2-3",
            "a-b",
            "1-8640000000000001",
        ] {
            assert_eq!(Span::parse(text), None, "{text}");
        }
    }

    #[test]
    fn the_name_of_a_bookmark_tells_its_session() {
        for is_history in [false, true] {
            let name = name("main/s", is_history);
            assert_eq!(session(&name, is_history), Some("main/s"));
            assert_eq!(session(&name, !is_history), None);
            for mark in [FLOOR, HISTORY, "/inbox"] {
                assert_eq!(session(mark, is_history), None, "{mark}");
            }
        }
    }
}
