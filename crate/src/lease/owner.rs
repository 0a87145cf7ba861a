//! Processes, as the lease's file and the names of spool files have them.

use serde::Serialize;
use serde_json::Value;

use super::INTERMEDIARIES;
use crate::host::{Fault, Host, Process};

/// Start times of a process id that differ by less than this belong to the same process, in ms.
const SAME_START_MS: f64 = 2_000.0;
/// Largest file of a lease, in bytes.
const MOST_BYTES: u64 = 1024 * 1024;
/// Most characters of a text in it.
const MOST_TEXT: usize = 255;
/// Version of the spool's format, in the names of its files.
const SPOOL_FORMAT: &str = "v1";

/// The owner, as the lease's file names it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Owner {
    /// Id of the process.
    pub pid: u32,
    /// Name of its machine.
    pub host: String,
    /// Start of the process, in ms since 1970: process ids are reused.
    pub started: f64,
    /// Random id of the lease, the same for all engines of a process.
    pub token: String,
    /// Kind of the process: `gateway`, `sync`, …
    pub role: String,
}

impl Owner {
    /// A process in a role.
    pub fn of(process: Process, role: &str) -> Self {
        let Process {
            pid,
            host,
            started_ms,
            token,
        } = process;
        Self {
            pid,
            host,
            started: started_ms as f64,
            token,
            role: role.to_owned(),
        }
    }

    /// The text of the lease's file: one line of JSON.
    pub(super) fn text(&self) -> String {
        let quoted = |text: &str| Value::from(text).to_string();
        format!(
            "{{\"pid\":{},\"host\":{},\"started\":{:.0},\"token\":{},\"role\":{}}}\n",
            self.pid,
            quoted(&self.host),
            self.started,
            quoted(&self.token),
            quoted(&self.role),
        )
    }

    /// Whether it stands between a gateway and its providers.
    pub(super) fn is_intermediary(&self) -> bool {
        INTERMEDIARIES.contains(&self.role.as_str())
    }

    /// Whether the process still lives; `None` for a process of another machine.
    pub fn lives(&self, host: &dyn Host) -> Option<bool> {
        let this = host.process();
        (self.host == this.host).then(|| runs(host, &this, self.pid, self.started))
    }

    fn parse(value: &Value) -> Option<Self> {
        let text = |name: &str| {
            let text = value.get(name)?.as_str()?;
            is_text(text).then(|| text.to_owned())
        };
        Some(Self {
            pid: value.get("pid")?.as_f64().and_then(pid)?,
            host: text("host")?,
            started: value.get("started")?.as_f64()?,
            token: text("token")?,
            role: text("role")?,
        })
    }
}

/// Whether the process of an id that started at this time runs on this machine.
fn runs(host: &dyn Host, this: &Process, pid: u32, started: f64) -> bool {
    match pid == this.pid {
        true => (started - this.started_ms as f64).abs() < SAME_START_MS,
        false => host.runs(pid),
    }
}

/// The content of the lease's file, or of a claim. A damaged file counts as absent.
#[derive(Debug, Default)]
pub struct Found {
    /// The owner that it names, whether the process lives or not.
    pub owner: Option<Owner>,
    /// The problem of the file, beginning with its path; `None` where it is valid or missing.
    pub fault: Option<Fault>,
}

/// Reads the lease's file, or a claim.
pub fn read(host: &dyn Host, name: &str) -> Found {
    let Some(file) = host.stat(name) else {
        return Found::default();
    };
    let fault = |fault: Fault| Found {
        owner: None,
        fault: Some(fault),
    };
    let wrong = |what: &str| fault(format!("{} {what}", host.path(name)));
    if file.bytes > MOST_BYTES {
        let bytes = file.bytes;
        return wrong(&format!(
            "holds {bytes} bytes, more than the {MOST_BYTES} that it may"
        ));
    }
    let read = file
        .fault
        .map_or_else(|| host.read(name, 0, MOST_BYTES as usize), Err);
    let bytes = match read {
        Ok(Some(bytes)) => bytes,
        Ok(None) => return Found::default(),
        Err(why) => return fault(why),
    };
    let text = String::from_utf8_lossy(&bytes);
    if text.trim().is_empty() {
        return wrong("is empty");
    }
    match serde_json::from_str(&text).map(|value| Owner::parse(&value)) {
        Ok(Some(owner)) => Found {
            owner: Some(owner),
            fault: None,
        },
        Ok(None) => wrong("does not hold what it should"),
        Err(_) => wrong("is no JSON"),
    }
}

/// A process id. 0 and negative numbers are process groups.
fn pid(number: f64) -> Option<u32> {
    let is_pid = number.fract() == 0.0 && number > 0.0 && number < f64::from(1_u32 << 31);
    is_pid.then_some(number as u32)
}

/// Whether a text is short and has no control characters and no invisible ones, which could change what a terminal shows.
fn is_text(text: &str) -> bool {
    let mut length = 0;
    let is_shown = text.chars().all(|c| {
        length += 1;
        length <= MOST_TEXT && !c.is_control() && !is_invisible(c)
    });
    is_shown && length > 0
}

/// Unicode's format characters and private characters.
fn is_invisible(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{600}'..='\u{605}' | '\u{61c}' | '\u{6dd}' | '\u{70f}' | '\u{890}'..='\u{891}' | '\u{8e2}'
        | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
        | '\u{e000}'..='\u{f8ff}' | '\u{fff0}'..='\u{fffb}' | '\u{fffe}'..='\u{ffff}' | '\u{110bd}' | '\u{110cd}'
        | '\u{13430}'..='\u{1343f}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..)
}

/// A process that writes spool files, by the name of one: `v1_{pid}_{started}_{token}_{number}_{host}`.
#[derive(Debug)]
pub struct Writer<'a> {
    pid: Option<u32>,
    started: f64,
    /// Names the writer.
    pub token: &'a str,
    /// The file's number.
    pub number: u32,
    /// As [`encoded`] has it.
    host: &'a str,
}

impl<'a> Writer<'a> {
    /// The writer of a file; `None` for a file that the plugin did not write.
    pub fn of(name: &'a str) -> Option<Self> {
        let mut parts = name.splitn(6, '_');
        let mut next = || parts.next();
        if next()? != SPOOL_FORMAT {
            return None;
        }
        let (process, started, token) = (next()?, next()?, next()?);
        let writer = Self {
            pid: process.parse().ok().and_then(pid),
            started: started.parse().unwrap_or(f64::NAN),
            token,
            number: next()?.parse().ok()?,
            host: next().unwrap_or_default(),
        };
        (!token.is_empty()).then_some(writer)
    }

    /// Whether the writer lives; `None` if this machine cannot tell.
    pub fn lives(&self, host: &dyn Host) -> Option<bool> {
        let this = host.process();
        let pid = self.pid.filter(|_| self.host == encoded(&this.host))?;
        Some(runs(host, &this, pid, self.started))
    }
}

/// Prefix and suffix of the names of this process's spool files; the file's number stands between them.
pub fn spool_names(host: &dyn Host) -> (String, String) {
    let Process {
        pid,
        host,
        started_ms,
        token,
    } = host.process();
    let token: String = token.chars().take(8).collect();
    let prefix = format!("{SPOOL_FORMAT}_{pid}_{started_ms}_{token}_");
    (prefix, format!("_{}", encoded(&host)))
}

/// A text as JavaScript's `encodeURIComponent` writes it.
fn encoded(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        match byte {
            b'-' | b'_' | b'.' | b'!' | b'~' | b'*' | b'\'' | b'(' | b')' => {
                encoded.push(byte.into());
            }
            _ if byte.is_ascii_alphanumeric() => encoded.push(byte.into()),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}
