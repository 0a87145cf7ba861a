//! The outlet to a webhook: notices of alarms, cache incidents and allowances, one request each, oldest first. Delivery is
//! at least once: a notice that is sent again has the same `id`.
//!
//! A request's body is a JSON object. Its header `X-AgentWatch-Signature` is `sha256=` and the HMAC-SHA-256 of the body by
//! the webhook's secret, in hexadecimal digits. `sent` in the body is the time of the request, so the signature covers
//! it; `X-AgentWatch-Timestamp` repeats it. A receiver refuses old times and known ids, which makes replays useless.
//!
//! The secret is never sent. Logs and the status have the webhook's origin only: its path may be a secret.

use std::collections::VecDeque;

use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use super::reply::Reply;
use super::sender::Sender;
use crate::domain::counter::Counter;
use crate::domain::identity;
use crate::domain::time::{Now, iso};
use crate::engine::address::check_url;
use crate::engine::log::{Level, Log};
use crate::engine::settings::Secret;
use crate::sources::facts::Scalar;

/// Maximum number of notices that wait; beyond it the oldest is dropped.
pub const MAX_WAITING: usize = 256;
/// Maximum age of a notice, in ms.
pub const MAX_AGE_MS: u64 = 24 * 3_600_000;

/// A notice that waits for delivery. Stored in the journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    /// When it arose, in ms since 1970.
    pub at_ms: u64,
    /// The JSON object, without `sent`.
    pub body: String,
}

/// Address and secret of a webhook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    url: Secret,
    /// Scheme, host and port.
    origin: String,
    secret: Secret,
}

impl Target {
    /// Reads the setting `webhook`, an object as a list of pairs. Adds a text for each problem, with its mend.
    pub fn read(setting: &Scalar, problems: &mut Vec<String>) -> Option<Self> {
        if setting.is_absent() || setting.flag() == Some(false) {
            return None;
        }
        let mut problem = |text: &str| problems.push(format!("{text}; no webhook is called"));
        let mut fields = [None, None];
        for pair in setting.list() {
            match pair.list() {
                [Scalar::Text(name), value] if name == "url" => fields[0] = value.text(),
                [Scalar::Text(name), value] if name == "secret" => fields[1] = value.text(),
                [Scalar::Text(name), _] => {
                    let name = identity::name(name);
                    problem(&format!("webhook.{name} is unknown: set url and secret"));
                    return None;
                }
                _ => {}
            }
        }
        let [Some(url), secret] = fields.map(|field| field.map(str::trim)) else {
            problem("webhook has no url: set webhook.url to an https address");
            return None;
        };
        let origin = match origin_of(url) {
            Ok(origin) => origin,
            Err(why) => {
                problem(&format!(
                    "webhook.url {why}: set it to an https address, or to an http address of this machine"
                ));
                return None;
            }
        };
        let Some(secret) = secret else {
            problem(
                "webhook has no secret, or one that cannot be resolved: set webhook.secret to a random text that the \
                 receiver knows too",
            );
            return None;
        };
        Some(Self {
            url: Secret::new(url),
            origin,
            secret: Secret::new(secret),
        })
    }
}

/// The origin of a webhook's address. The address may have a path and a query. It is not part of an error, since it may
/// be a secret.
fn origin_of(url: &str) -> Result<String, &'static str> {
    let (address, query) = url.split_once('?').unwrap_or((url, ""));
    check_url(address)?;
    if !query
        .bytes()
        .all(|byte| (0x21..=0x7e).contains(&byte) && byte != b'#')
    {
        return Err("holds a fragment, blanks or characters outside ASCII");
    }
    let (scheme, rest) = address.split_once("://").unwrap_or_default();
    let host = rest.split('/').next().unwrap_or_default();
    let name = match host.split_once(']') {
        Some((name, _)) => name.trim_start_matches('['),
        None => host.split(':').next().unwrap_or_default(),
    };
    let ip = name.parse::<std::net::IpAddr>();
    let is_loopback = name == "localhost" || ip.is_ok_and(|ip| ip.is_loopback());
    match scheme == "https" || is_loopback {
        true => Ok(format!("{scheme}://{host}")),
        false => Err("is an http address of another machine"),
    }
}

/// A request to the webhook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The whole address. Never log it.
    pub url: String,
    /// The body, JSON.
    pub body: String,
    /// Headers beside the content type.
    pub headers: [(&'static str, String); 2],
}

/// Figures for the status.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct WebhookCounts {
    /// Notices that the webhook accepted.
    pub sent: u64,
    /// Notices that were dropped, by reason.
    pub dropped: Counter,
    /// The last error; `None` after a success.
    pub last_error: Option<String>,
}

/// State of the delivery. The waiting notices are an argument, since they are journalled with what they tell.
#[derive(Debug)]
pub struct Webhook {
    target: Target,
    sender: Sender,
    is_in_flight: bool,
    /// Figures for the status.
    pub counts: WebhookCounts,
}

impl Webhook {
    /// Creates an outlet; `seed` must differ between processes.
    pub fn new(target: Target, seed: u64) -> Self {
        Self {
            target,
            sender: Sender::new(1, 0, seed),
            is_in_flight: false,
            counts: WebhookCounts::default(),
        }
    }

    /// Scheme, host and port.
    pub fn origin(&self) -> &str {
        &self.target.origin
    }

    /// Adds a notice.
    pub fn push(&mut self, waiting: &mut VecDeque<Notice>, notice: Notice, mono_ms: u64) {
        // The first notice may be in flight.
        if waiting.len() >= MAX_WAITING && waiting.remove(usize::from(self.is_in_flight)).is_some()
        {
            self.counts.dropped.add("queue_full");
        }
        waiting.push_back(notice);
        self.sender.came(mono_ms);
    }

    /// The next request, if one is due; `hurry` skips the backoff.
    pub fn begin(
        &mut self,
        waiting: &mut VecDeque<Notice>,
        now: Now,
        hurry: bool,
    ) -> Option<Request> {
        if self.is_in_flight || !self.sender.may_begin(true, now.mono_ms, hurry) {
            return None;
        }
        let is_old = |notice: &Notice| now.wall_ms.saturating_sub(notice.at_ms) > MAX_AGE_MS;
        while waiting.front().is_some_and(is_old) {
            waiting.pop_front();
            self.counts.dropped.add("too_old");
        }
        let notice = waiting.front()?;
        self.is_in_flight = true;
        self.sender.begin(now.mono_ms);
        let sent = iso(now.wall_ms);
        let rest = notice.body.strip_prefix('{').unwrap_or_default();
        let body = format!("{{\"sent\":\"{sent}\",{rest}");
        let signature = sign(self.target.secret.expose(), &body);
        Some(Request {
            url: self.target.url.expose().to_owned(),
            headers: [
                ("x-agentwatch-signature", format!("sha256={signature}")),
                ("x-agentwatch-timestamp", sent),
            ],
            body,
        })
    }

    /// Handles the reply to the request in flight. Returns whether its notice left the queue.
    pub fn answered(
        &mut self,
        waiting: &mut VecDeque<Notice>,
        reply: &Reply,
        log: &mut Log,
        mono_ms: u64,
    ) -> bool {
        if !std::mem::take(&mut self.is_in_flight) {
            return false;
        }
        let is_taken = (200..=299).contains(&reply.status);
        let is_refused = matches!(reply.status, 400 | 410 | 413 | 422);
        if is_taken {
            self.sender.recovered();
            self.counts.sent += 1;
            self.counts.last_error = None;
        } else {
            let why = match reply.status {
                0 => reply.error.clone().unwrap_or("no answer".to_owned()),
                status => format!("HTTP {status}"),
            };
            let what = match (reply.status, is_refused) {
                (_, true) => "refuses a notice, which is dropped",
                (300..=399, _) => {
                    "redirects, which is not followed: set webhook.url to the address itself"
                }
                (401 | 403, _) => {
                    "does not accept the request: compare webhook.secret with the receiver's"
                }
                _ => "does not answer; the notice is sent again",
            };
            let text = format!("webhook: {} {what} ({why})", self.target.origin);
            log.add_about(Level::Warn, &format!("webhook {why}"), text, mono_ms);
            self.counts.last_error = Some(why);
            match is_refused {
                true => self.counts.dropped.add("refused"),
                false => self.sender.failed(reply, mono_ms),
            }
        }
        let has_left = is_taken || is_refused;
        if has_left {
            waiting.pop_front();
            self.sender.left(!waiting.is_empty());
        }
        has_left
    }

    /// When the next request is due, in ms of the monotonic clock.
    pub fn next_due(&self, waiting: &VecDeque<Notice>) -> Option<u64> {
        (!self.is_in_flight && !waiting.is_empty()).then(|| self.sender.due_ms(true))
    }
}

/// HMAC-SHA-256 in hexadecimal digits.
fn sign(secret: &str, body: &str) -> String {
    // Any length of key is valid.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret.as_bytes()) else {
        return String::new();
    };
    mac.update(body.as_bytes());
    let digits = mac.finalize().into_bytes();
    digits.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(url: &str, secret: &str) -> Result<Target, Vec<String>> {
        let text = |text: &str| Scalar::Text(text.to_owned());
        let pair = |name: &str, value: &str| Scalar::List(vec![text(name), text(value)]);
        let setting = Scalar::List(vec![pair("url", url), pair("secret", secret)]);
        let mut problems = Vec::new();
        Target::read(&setting, &mut problems).ok_or(problems)
    }

    #[test]
    fn the_signature_is_rfc_4231s() {
        assert_eq!(
            sign("Jefe", "what do ya want for nothing?"),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
    }

    #[test]
    fn only_https_and_this_machine_are_called() {
        for (url, origin) in [
            (
                "https://hooks.example/a/SECRET?sig=x%20y",
                "https://hooks.example",
            ),
            ("http://localhost:9/x", "http://localhost:9"),
            ("http://127.8.0.1/x", "http://127.8.0.1"),
            ("http://[::1]:9", "http://[::1]:9"),
        ] {
            let target = read(url, "s");
            assert_eq!(target.as_ref().map(|one| &*one.origin), Ok(origin));
            assert!(!format!("{target:?}").contains("SECRET"));
        }
        for url in [
            "http://hooks.example/SECRET",
            "http://localhost.example/SECRET",
            "http://127.0.0.1.example/SECRET",
            "https://u:SECRET@h/",
            "https://h/SECRET#x",
            "https://h/SECRET?a b",
            "ftp://h/SECRET",
            "SECRET",
        ] {
            let problems = read(url, "s").err().unwrap_or_default();
            assert_eq!(problems.len(), 1, "{url}");
            assert!(problems[0].starts_with("webhook.url ") && problems[0].contains("set it to"));
            assert!(!problems[0].contains("SECRET"), "{problems:?}");
        }
        let problems = read("https://h/", "  ").err().unwrap_or_default();
        assert!(problems[0].contains("webhook.secret"), "{problems:?}");
    }
}
