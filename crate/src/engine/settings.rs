//! The operator's settings and their validation: each problem names the setting, its value and the fix.

use jiff::tz::TimeZone;

use crate::delivery::webhook;
use crate::domain::identity;
use crate::engine::address::{check_url, complaint};
use crate::engine::exposition;
use crate::sources::facts::Scalar;
use crate::spending::settings::{self as spending, Allowance};
use crate::spending::zones;

/// AgentWatch's default address.
pub const DEFAULT_URL: &str = "http://localhost:8470";
/// The default address inside a container: Docker's bridge to the host.
pub const DEFAULT_URL_IN_CONTAINER: &str = "http://172.17.0.1:8470";
/// How long a batch collects records, in ms.
pub const DEFAULT_FLUSH_INTERVAL_MS: u64 = 1_000;

/// Maximum size of the journal on disk, in MiB.
pub const DEFAULT_JOURNAL_MAX_MB: u64 = 64;

/// Raw settings from the gateway's configuration and the environment: any scalars. [`Settings::validate`] checks them.
#[derive(Debug, Default)]
pub struct RawSettings(Vec<Scalar>);

macro_rules! settings {
    ($($(#[$doc:meta])* $field:ident = $name:literal,)*) => {
        impl RawSettings {
            /// The settings' names.
            pub const NAMES: &'static [&'static str] = &[$($name),*];

            $(
                $(#[$doc])*
                pub fn $field(&self) -> &Scalar {
                    const INDEX: usize = crate::sources::facts::index_in(RawSettings::NAMES, $name);
                    crate::sources::facts::at(&self.0, INDEX)
                }
            )*
        }
    };
}

settings! {
    /// The server's address.
    url = "url",
    /// The server's token.
    token = "token",
    /// The template of `agent_name`.
    agent_name = "agentName",
    /// `full` or `bare`.
    model_name = "modelName",
    /// How long a batch collects records, in ms.
    flush_interval_ms = "flushIntervalMs",
    /// `hashed` or `plain`.
    identities = "identities",
    /// `costs` or `usage`: the list in which a stock AgentWatch gets calls that are older than 15 minutes.
    history = "history",
    /// `process` or `power`: the kind of failure that the journal survives.
    durability = "durability",
    /// Maximum size of the journal on disk, in MiB.
    journal_max_mb = "journalMaxMb",
    /// The gateway's name, if the operator sets one.
    gateway = "gateway",
    /// The installation's name, generated once by the host.
    installation = "installation",
    /// The installation's secret, 32 hexadecimal digits, generated once by the host.
    identity_key = "identityKey",
    /// Whether the gateway runs in a container.
    in_container = "inContainer",
    /// Whether the runaway alarm is on.
    alarm = "alarm",
    /// The zone of nights and days.
    zone = "zone",
    /// The webhook: an object as a list of pairs.
    webhook = "webhook",
    /// Allowances: a list of objects, each a list of pairs.
    allowance = "allowance",
    /// The port of `/metrics` on the loopback interface.
    metrics_port = "metricsPort",
    /// Time zones of the host; see `crate::spending::zones`.
    zones = "zones",
}

impl RawSettings {
    /// Settings by name; `find` returns `Absent` for missing ones.
    pub fn from_names(find: impl FnMut(&&'static str) -> Scalar) -> Self {
        Self(Self::NAMES.iter().map(find).collect())
    }
}

/// The form of the model's name in records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ModelName {
    /// `provider/model`.
    Full,
    /// The model alone.
    Bare,
}

/// Names in records.
#[derive(Debug, Clone)]
pub struct Naming {
    /// A stable id of the installation.
    pub gateway: String,
    /// A template with `{agent}` and `{gateway}`.
    pub agent_template: String,
    /// The form of the model's name.
    pub model_name: ModelName,
}

impl Naming {
    /// The agent's name by the template; `None` stands for the gateway.
    pub fn agent(&self, agent: Option<&str>) -> String {
        let mut parts = self.agent_template.split('{');
        let mut filled = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            let (value, rest) = match (part.strip_prefix("agent}"), part.strip_prefix("gateway}")) {
                (Some(rest), _) => (agent.unwrap_or("openclaw-gateway"), rest),
                (_, Some(rest)) => (self.gateway.as_str(), rest),
                _ => ("{", part),
            };
            filled.push_str(value);
            filled.push_str(rest);
        }
        identity::name(&filled)
    }
}

/// A token. Its `Debug` output hides it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// A secret with this text.
    pub fn new(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// The token, for the authorization header only.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Validated settings.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The server's address without a final slash; `None` where the setting is unusable or sending is off.
    pub url: Option<String>,
    /// Whether `url` is `false`: nothing is sent to an AgentWatch, and nothing waits for one.
    pub is_off: bool,
    /// The server's token.
    pub token: Option<Secret>,
    /// Names in records.
    pub naming: Naming,
    /// How long a batch collects records, in ms.
    pub flush_interval_ms: u64,
    /// Hashes identities.
    pub identities: identity::Identities,
    /// Whether a stock AgentWatch gets old calls as usage, which it dates with the hour of arrival.
    pub history_as_usage: bool,
    /// Whether the journal survives a power failure, by fsync.
    pub survives_power_cut: bool,
    /// Maximum size of the journal, in bytes: three quarters for calls, the rest for other records.
    pub journal_max_bytes: u64,
    /// Whether the runaway alarm is on.
    pub has_alarm: bool,
    /// The zone of nights and days; the machine's by default.
    pub zone: TimeZone,
    /// The webhook.
    pub webhook: Option<webhook::Target>,
    /// The port of `/metrics` on the loopback interface; `None`: it is not served.
    pub metrics_port: Option<u16>,
    /// Allowances in force.
    pub allowances: Vec<Allowance>,
}

impl Settings {
    /// Validates the raw settings. The second value lists the problems, one line each. An invalid setting falls back to
    /// its default; with an invalid address nothing is sent.
    pub fn validate(raw: &RawSettings) -> (Self, Vec<String>) {
        let mut problems = Vec::new();
        let configured = !raw.url().is_absent();
        let url = read_url(raw, &mut problems);
        let is_off = raw.url().flag() == Some(false);
        let identities = identity::Identities::new(
            raw.identity_key()
                .text()
                .and_then(parse_key)
                .unwrap_or_default(),
            choice(
                raw.identities(),
                "identities",
                &["hashed", "plain"],
                &mut problems,
            ) == "plain",
        );
        let allowances = read_allowances(raw, &identities, &mut problems);
        let settings = Self {
            is_off,
            token: read_token(raw, configured, &mut problems),
            url,
            naming: Naming {
                gateway: identity::name(
                    raw.gateway()
                        .text()
                        .or(raw.installation().text())
                        .unwrap_or("openclaw"),
                ),
                agent_template: raw.agent_name().text().unwrap_or("{agent}").to_owned(),
                model_name: match choice(
                    raw.model_name(),
                    "modelName",
                    &["full", "bare"],
                    &mut problems,
                ) {
                    "bare" => ModelName::Bare,
                    _ => ModelName::Full,
                },
            },
            flush_interval_ms: read_number(
                raw.flush_interval_ms(),
                ("flushIntervalMs", DEFAULT_FLUSH_INTERVAL_MS),
                (50, 60_000),
                &mut problems,
            ),
            history_as_usage: choice(raw.history(), "history", &["costs", "usage"], &mut problems)
                == "usage",
            survives_power_cut: choice(
                raw.durability(),
                "durability",
                &["process", "power"],
                &mut problems,
            ) == "power",
            journal_max_bytes: read_number(
                raw.journal_max_mb(),
                ("journalMaxMb", DEFAULT_JOURNAL_MAX_MB),
                (1, 4_096),
                &mut problems,
            ) * 1024
                * 1024,
            zone: read_zone(raw, &mut problems),
            has_alarm: read_flag(raw.alarm(), "alarm", &mut problems),
            webhook: webhook::Target::read(raw.webhook(), &mut problems),
            metrics_port: exposition::read_port(raw.metrics_port(), &mut problems),
            identities,
            allowances,
        };
        (settings, problems)
    }
}

fn read_url(raw: &RawSettings, problems: &mut Vec<String>) -> Option<String> {
    let default = match raw.in_container().flag() {
        Some(true) => DEFAULT_URL_IN_CONTAINER,
        _ => DEFAULT_URL,
    };
    if raw.url().is_absent() {
        return Some(default.to_owned());
    }
    if raw.url().flag() == Some(false) {
        return None;
    }
    let Some(text) = raw.url().text() else {
        problems.push(format!(
            "url is not a text; set it to an address such as {default}"
        ));
        return None;
    };
    match check_url(text.trim()) {
        Ok(url) => Some(url),
        Err(why) => {
            problems.push(complaint("url", text, why, default));
            None
        }
    }
}

/// Reads the token, which is sent only to an address that the operator configured.
fn read_token(
    raw: &RawSettings,
    url_configured: bool,
    problems: &mut Vec<String>,
) -> Option<Secret> {
    let token = raw.token().text()?.trim();
    if !token.bytes().all(|b| (0x21..=0x7e).contains(&b)) {
        problems.push("token holds characters that no header takes; copy it again".to_owned());
        return None;
    }
    if !url_configured {
        problems.push(
            "token is set but url is not: the token is not sent to a default address; set url"
                .to_owned(),
        );
        return None;
    }
    Some(Secret(token.to_owned()))
}

/// Reads a flag. The default is true.
fn read_flag(raw: &Scalar, setting: &str, problems: &mut Vec<String>) -> bool {
    if !raw.is_absent() && raw.flag().is_none() {
        problems.push(format!("{setting} is neither true nor false; true is used"));
    }
    raw.flag() != Some(false)
}

fn read_zone(raw: &RawSettings, problems: &mut Vec<String>) -> TimeZone {
    let zones = zones::read(raw.zones());
    let local = || {
        zones
            .first()
            .map_or(TimeZone::UTC, |(_, zone)| zone.clone())
    };
    if raw.zone().is_absent() {
        return local();
    }
    let name = raw.zone().text().unwrap_or_default();
    zones::find(&zones, name).unwrap_or_else(|| {
        problems.push(format!(
            "zone \"{}\" is unknown; set it to a name such as Europe/Berlin (the machine's zone is used)",
            identity::name(name)
        ));
        local()
    })
}

fn read_allowances(
    raw: &RawSettings,
    identities: &identity::Identities,
    problems: &mut Vec<String>,
) -> Vec<Allowance> {
    let zones = zones::read(raw.zones());
    let local = zones.first().map_or("UTC", |(name, _)| name);
    let find = |name: &str| zones::find(&zones, name);
    let (allowances, wrong) = spending::read(raw.allowance(), local, identities, &find);
    problems.extend(wrong);
    allowances
}

/// Reads a whole number within bounds.
fn read_number(
    raw: &Scalar,
    (setting, default): (&str, u64),
    (least, most): (u64, u64),
    problems: &mut Vec<String>,
) -> u64 {
    if raw.is_absent() {
        return default;
    }
    match raw.amount() {
        Some(n) if (least as f64..=most as f64).contains(&n) => n as u64,
        other => {
            let shown = other.map_or("that".to_owned(), |n| (n as u64).to_string());
            problems.push(format!(
                "{setting} cannot be {shown}; set it between {least} and {most} ({default} is used)"
            ));
            default
        }
    }
}

/// Reads one of a few words. The first is the default.
fn choice<'a>(
    raw: &Scalar,
    setting: &str,
    words: &[&'a str],
    problems: &mut Vec<String>,
) -> &'a str {
    let default = words.first().copied().unwrap_or_default();
    if raw.is_absent() {
        return default;
    }
    let text = raw.text().unwrap_or_default();
    match words.iter().find(|word| **word == text) {
        Some(word) => word,
        None => {
            problems.push(format!(
                "{setting} \"{}\" is not one of {}; {default} is used",
                identity::name(text),
                words.join(", ")
            ));
            default
        }
    }
}

fn parse_key(text: &str) -> Option<[u8; 16]> {
    let number = u128::from_str_radix(text, 16).ok()?;
    (text.len() == 32).then(|| number.to_be_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(json: &str) -> (Settings, Vec<String>) {
        let json: serde_json::Value = serde_json::from_str(json).unwrap_or_default();
        let raw = RawSettings::from_names(|name| {
            serde_json::from_value(json[*name].clone()).unwrap_or_default()
        });
        Settings::validate(&raw)
    }

    #[test]
    fn without_settings_the_local_default_is_used() {
        let (settings, problems) = with("{}");
        assert_eq!(settings.url.as_deref(), Some("http://localhost:8470"));
        assert_eq!(settings.flush_interval_ms, 1_000);
        assert!(problems.is_empty());
        let (settings, _) = with(r#"{"inContainer": true}"#);
        assert_eq!(settings.url.as_deref(), Some("http://172.17.0.1:8470"));
    }

    #[test]
    fn a_pasted_address_is_normalized() {
        for (given, used) in [
            ("https://watch.example.com/", "https://watch.example.com"),
            ("https://models", "https://models"),
            ("http://models/models/", "http://models"),
            ("http://10.0.0.7:8470/models", "http://10.0.0.7:8470"),
            ("http://10.0.0.7:8470//models/", "http://10.0.0.7:8470"),
            ("http://[::1]:8470", "http://[::1]:8470"),
            ("https://h.example/base/", "https://h.example/base"),
        ] {
            let (settings, problems) = with(&format!(r#"{{"url": "{given}"}}"#));
            assert_eq!(settings.url.as_deref(), Some(used));
            assert!(problems.is_empty());
        }
    }

    #[test]
    fn a_wrong_address_sends_nothing_and_names_the_problem() {
        for given in [
            "watch.example.com",
            "ftp://x",
            "http://",
            "http://u:p@h",
            "http://h/?token=x",
            "http://h h",
            "http://h:99999",
        ] {
            let (settings, problems) = with(&format!(r#"{{"url": "{given}"}}"#));
            assert_eq!(settings.url, None, "{given}");
            assert!(
                problems[0].starts_with("url ") && problems[0].contains("set it to"),
                "{problems:?}"
            );
        }
    }

    #[test]
    fn a_token_is_used_only_with_a_configured_address() {
        let (settings, problems) = with(r#"{"token": "secret"}"#);
        assert!(settings.token.is_none());
        assert!(problems[0].contains("set url"));
        let (settings, problems) = with(r#"{"token": "secret", "url": "http://h"}"#);
        assert_eq!(settings.token.as_ref().map(Secret::expose), Some("secret"));
        assert!(problems.is_empty());
        assert!(!format!("{settings:?}").contains("secret"));
    }

    #[test]
    fn wrong_values_fall_back_and_are_named() {
        let (settings, problems) =
            with(r#"{"flushIntervalMs": 1, "modelName": "short", "identities": 3}"#);
        assert_eq!(settings.flush_interval_ms, 1_000);
        assert_eq!(settings.naming.model_name, ModelName::Full);
        assert_eq!(problems.len(), 3);
        assert!(
            problems
                .iter()
                .any(|p| p.contains("modelName \"short\" is not one of full, bare"))
        );
    }

    #[test]
    fn an_agents_name_follows_the_template() {
        let (settings, _) = with(r#"{"agentName": "{gateway}/{agent}", "gateway": "berlin"}"#);
        assert_eq!(settings.naming.agent(Some("main")), "berlin/main");
        assert_eq!(settings.naming.agent(None), "berlin/openclaw-gateway");
    }
}
