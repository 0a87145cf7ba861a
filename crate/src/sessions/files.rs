//! Names of transcript files: JSONL files, and the files to which OpenClaw renames them when a session is reset,
//! deleted, truncated, or moved into the database.

use crate::host::Fault;

use super::host::StoreHost;

/// A file with a session's transcript.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TranscriptFile {
    /// The session's id.
    pub session_id: String,
    /// The file's path.
    pub path: String,
    /// The session's agent, if the file's name has it.
    pub agent: Option<String>,
    /// Sort key of a session's files: archived files come first, in order of time.
    order: String,
    /// Whether OpenClaw writes no more to the file.
    pub is_closed: bool,
    /// Whether the file is compressed with zstd.
    pub is_packed: bool,
}

/// The transcripts in a folder, in order: `<session>.jsonl[.zst]` and
/// `<session>.jsonl.<reset|deleted|bak>.<time>[.zst]`.
///
/// # Errors
/// If the folder cannot be listed.
pub fn live_transcripts(
    host: &dyn StoreHost,
    folder: Option<&str>,
) -> Result<Vec<TranscriptFile>, Fault> {
    list(host, folder, live)
}

/// The transcripts in the archive folder, in order. OpenClaw 2026.8 and later put a file there after moving its rows
/// into the database: `<session key>.<file>.imported-<time>`. `sharers` are the known agents whose sessions may be there;
/// `None` if all are those of one agent.
///
/// # Errors
/// If the folder cannot be listed.
pub fn imported_transcripts(
    host: &dyn StoreHost,
    folder: Option<&str>,
    sharers: Option<&[String]>,
) -> Result<Vec<TranscriptFile>, Fault> {
    list(host, folder, |name| imported(name, sharers))
}

fn list(
    host: &dyn StoreHost,
    folder: Option<&str>,
    parse: impl Fn(&str) -> Option<TranscriptFile>,
) -> Result<Vec<TranscriptFile>, Fault> {
    let Some(folder) = folder else {
        return Ok(Vec::new());
    };
    let mut names = host.names(folder)?;
    names.sort_unstable();
    let mut files: Vec<TranscriptFile> = names
        .iter()
        .filter_map(|name| {
            let path = [folder, "/", name].concat();
            Some(TranscriptFile {
                path,
                ..parse(name)?
            })
        })
        .collect();
    files.sort_by(|a, b| a.order.cmp(&b.order));
    Ok(files)
}

/// The part of a name after `.jsonl`: the time of archiving, if any, and whether the file is compressed.
struct Ending<'a> {
    archived: Option<&'a str>,
    is_packed: bool,
}

impl<'a> Ending<'a> {
    fn of(rest: &'a str) -> Option<Self> {
        if rest.is_empty() || rest == ".zst" {
            return Some(Self {
                archived: None,
                is_packed: !rest.is_empty(),
            });
        }
        let when = [".reset.", ".deleted.", ".bak."]
            .iter()
            .find_map(|why| rest.strip_prefix(why))?;
        let packed = when.strip_suffix(".zst").filter(|when| !when.is_empty());
        let archived = packed.unwrap_or(when);
        (!archived.is_empty()).then_some(Self {
            archived: Some(archived),
            is_packed: packed.is_some(),
        })
    }
}

fn live(name: &str) -> Option<TranscriptFile> {
    let mut splits = name.match_indices(".jsonl");
    let (id, ending) = splits.find_map(|(at, found)| {
        let ending = Ending::of(&name[at + found.len()..])?;
        (at > 0).then(|| (&name[..at], ending))
    })?;
    let order = ending.archived.map(|when| format!("0 {when}"));
    (!is_copy(id)).then(|| TranscriptFile {
        session_id: id.to_owned(),
        path: String::new(),
        agent: None,
        is_closed: order.is_some(),
        order: order.unwrap_or_else(|| "1".to_owned()),
        is_packed: ending.is_packed,
    })
}

fn imported(name: &str, sharers: Option<&[String]>) -> Option<TranscriptFile> {
    let (file, when) = name.rsplit_once(".imported-")?;
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    let (whole, part) = when.split_once('.').unwrap_or((when, "0"));
    if !is_number(whole) || !is_number(part) {
        return None;
    }
    let (named, ending) = file.rmatch_indices(".jsonl").find_map(|(at, found)| {
        let ending = Ending::of(&file[at + found.len()..])?;
        Some((&file[..at], ending))
    })?;
    let (key, id) = match named.rsplit_once('.') {
        Some((key, id)) if !key.is_empty() => (key, id),
        Some(_) => return None,
        None => ("", named),
    };
    if id.is_empty() || is_copy(&[key, id].join(".")) {
        return None;
    }
    Some(TranscriptFile {
        session_id: id.to_owned(),
        path: String::new(),
        agent: sharers.and_then(|sharers| agent_in(key, sharers)),
        // Sorts before the files that were archived in the sessions' folder later.
        order: format!("- {when}"),
        is_closed: true,
        is_packed: ending.is_packed,
    })
}

/// Whether a file is a copy of a transcript, `<session>.checkpoint.<id>.jsonl`, or another kind of record,
/// `<session>.trajectory.jsonl`.
fn is_copy(id: &str) -> bool {
    let mut parts = id.split('.').skip(1);
    parts.any(|part| part == "checkpoint" || part == "trajectory")
}

/// The agent in a session's key as it stands in the archive's file names, with one character in place of its colons:
/// `agent_main_…`. The agent's id may contain that character: then the longest known id that fits is meant.
fn agent_in(key: &str, sharers: &[String]) -> Option<String> {
    let rest = key.strip_prefix("agent")?;
    let colon = rest.chars().next().filter(|c| !c.is_ascii_alphanumeric())?;
    let rest = &rest[colon.len_utf8()..];
    let fits = |agent: &&str| {
        let after = rest.strip_prefix(*agent);
        after.is_some_and(|after| after.starts_with(colon))
    };
    let known = sharers.iter().map(String::as_str).filter(fits);
    let agent = known.max_by_key(|agent| agent.len());
    let agent = agent.or_else(|| Some(rest.split_once(colon)?.0))?;
    (!agent.is_empty()).then(|| agent.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_which_session_a_file_holds_and_what_became_of_it() {
        for (name, id, order, is_packed) in [
            ("s.jsonl", "s", "1", false),
            ("ü 🦀.jsonl", "ü 🦀", "1", false),
            ("a.b.jsonl", "a.b", "1", false),
            ("s.jsonl.reset.2026", "s", "0 2026", false),
            ("s.jsonl.deleted.2026.a50b.zst", "s", "0 2026.a50b", true),
            ("s.jsonl.bak.2026", "s", "0 2026", false),
            ("s.jsonl.zst", "s", "1", true),
            ("a.jsonl.b.jsonl", "a.jsonl.b", "1", false),
        ] {
            let file = live(name).map(|file| (file.session_id, file.order, file.is_packed));
            assert_eq!(file, Some((id.into(), order.into(), is_packed)), "{name}");
        }
        for name in [
            "sessions.json",
            ".jsonl",
            "s.jsonl.lock",
            "s.jsonl-stage",
            "s.jsonl.reset.",
            "s.jsonl.reset",
            "s.checkpoint.1f0e.jsonl",
            "s.trajectory.jsonl",
            "notes.txt",
            "",
        ] {
            assert_eq!(live(name), None, "{name}");
        }
    }

    #[test]
    fn a_name_in_the_archive_says_the_agent_too() {
        for (name, id, agent) in [
            ("agent-main-x.s.jsonl.imported-1795", "s", Some("main")),
            ("agent:ant:x.s.jsonl.imported-1795.25", "s", Some("ant")),
            ("agent_my-ant_main.s.jsonl.imported-1", "s", Some("my-ant")),
            ("agent_my_ant_main.s.jsonl.imported-1", "s", Some("my_ant")),
            ("agent_my_main.s.jsonl.imported-1", "s", Some("my")),
            ("agent_new_main.s.jsonl.imported-1", "s", Some("new")),
            ("s.jsonl.imported-1", "s", None),
            ("k.s.jsonl.reset.2026.zst.imported-1", "s", None),
            ("agent-main.s.jsonl.imported-1", "s", None),
        ] {
            let sharers = ["my", "my_ant"].map(str::to_owned);
            let file = imported(name, Some(&sharers)).map(|file| (file.session_id, file.agent));
            assert_eq!(file, Some((id.into(), agent.map(str::to_owned))), "{name}");
            let own = imported(name, None).map(|file| (file.session_id, file.agent));
            assert_eq!(own, Some((id.into(), None)), "{name}");
        }
        for name in [
            "s.jsonl",
            "s.jsonl.imported-",
            "s.jsonl.imported-x",
            "s.jsonl.imported-1.",
            ".s.jsonl.imported-1",
            "k.s.checkpoint.x.jsonl.imported-1",
        ] {
            assert_eq!(imported(name, None), None, "{name}");
        }
    }
}
