//! Names and identities in the form in which they may leave: names are cleaned, and identities of people are replaced
//! by keyed hashes.

use siphasher::sip::SipHasher13;
use siphasher::sip128::{Hasher128, SipHasher24};
use std::hash::Hasher;

/// Maximum length of a model's or an agent's name, in characters.
const MAX_NAME: usize = 120;

/// Replaces identities by keyed hashes, unless the operator asked for plain ones.
#[derive(Clone)]
pub struct Identities {
    key: [u8; 16],
    plain: bool,
}

impl Identities {
    /// `key` is the installation's secret. With `plain`, identities are only cleaned.
    pub fn new(key: [u8; 16], plain: bool) -> Self {
        Self { key, plain }
    }

    /// Hash of a text, stable within one installation and meaningless to others.
    pub fn hash(&self, text: &str) -> String {
        if self.plain {
            return clean(text, MAX_NAME * 2);
        }
        let mut hasher = SipHasher24::new_with_key(&self.key);
        hasher.write(text.as_bytes());
        let hash = hasher.finish128().as_u128();
        hex(hash >> 64, *b"#0000000000000000")
    }

    /// A session's key: the prefix `agent:<id>:` identifies no person and is kept; the rest may be a phone number and
    /// is hashed.
    pub fn session_key(&self, key: &str) -> String {
        let mut parts = key.splitn(3, ':');
        match (parts.next(), parts.next(), parts.next()) {
            (Some("agent"), Some(agent), Some(rest)) if !rest.is_empty() => {
                format!("agent:{}:{}", clean(agent, MAX_NAME), self.hash(rest))
            }
            _ => self.hash(key),
        }
    }

    /// A run's id: a UUID is kept; any other text may contain a session's key and is hashed.
    pub fn run_id(&self, id: &str) -> String {
        let is_uuid = id.len() == 36 && id.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-');
        if is_uuid {
            id.to_owned()
        } else {
            self.hash(id)
        }
    }
}

/// Hash of some texts. It is equal in all processes and versions, since the journal stores it.
pub(crate) fn key_of(parts: &[&str]) -> u64 {
    let mut hasher = SipHasher13::new();
    for part in parts {
        hasher.write(part.as_bytes());
        hasher.write_u8(0xff);
    }
    hasher.finish()
}

impl std::fmt::Debug for Identities {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.debug_struct("Identities")
            .field("plain", &self.plain)
            .finish_non_exhaustive()
    }
}

/// Cleans the name of a model or an agent. AgentWatch writes names into its page unescaped, so characters outside the
/// usual set become `_`. The length is bounded.
pub fn name(text: &str) -> String {
    clean(text, MAX_NAME)
}

/// Writes a number in hexadecimal digits in the places of `form` that are `0`. Each record has several ids, and
/// `format!` takes ten times as long.
pub fn hex<const LENGTH: usize>(number: u128, mut form: [u8; LENGTH]) -> String {
    // In two halves: WebAssembly has no 128-bit numbers.
    let (mut low, mut high) = (number as u64, (number >> 64) as u64);
    for digit in form.iter_mut().rev().filter(|byte| **byte == b'0') {
        *digit = b"0123456789abcdef"[(low & 15) as usize];
        low = low >> 4 | high << 60;
        high >>= 4;
    }
    // The form is ASCII.
    String::from_utf8(form.to_vec()).unwrap_or_default()
}

fn clean(text: &str, max: usize) -> String {
    let text = text.trim();
    // Fast path: nearly all names are clean.
    if text.len() <= max && text.chars().all(is_usual) {
        return text.to_owned();
    }
    let cleaned = |c| if is_usual(c) { c } else { '_' };
    text.chars().take(max).map(cleaned).collect()
}

fn is_usual(c: char) -> bool {
    c.is_ascii_alphanumeric() || "-_./:@+ #".contains(c)
}

/// A word of a small vocabulary of OpenClaw's, such as a trigger; `None` for other texts.
pub fn word(text: &str) -> Option<String> {
    let fits = (1..=32).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_".contains(&b));
    fits.then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_key_keeps_its_agent_and_hashes_the_rest() {
        let identities = Identities::new([7; 16], false);
        let hidden = identities.session_key("agent:main:whatsapp:direct:+4915112345678");
        assert!(hidden.starts_with("agent:main:#"));
        assert!(!hidden.contains("4915112345678") && !hidden.contains("whatsapp"));
        assert_eq!(
            hidden,
            identities.session_key("agent:main:whatsapp:direct:+4915112345678")
        );
        let other = Identities::new([8; 16], false);
        assert_ne!(
            hidden,
            other.session_key("agent:main:whatsapp:direct:+4915112345678")
        );
        let plain = Identities::new([7; 16], true);
        assert_eq!(plain.session_key("agent:main:x"), "agent:main:x");
    }

    #[test]
    fn only_a_uuid_is_kept_as_a_run_id() {
        let identities = Identities::new([7; 16], false);
        let uuid = "44822069-6d64-48c5-a25d-b7b4cf2c6b7d";
        assert_eq!(identities.run_id(uuid), uuid);
        let announced = identities.run_id("announce:v1:agent:main:direct:+4915112345678");
        assert!(announced.starts_with('#') && announced.len() == 17);
    }

    #[test]
    fn a_hostile_name_is_cleaned() {
        assert_eq!(
            name("<script>alert(1)</script>"),
            "_script_alert_1__/script_"
        );
        assert_eq!(name("mock/m1"), "mock/m1");
        assert_eq!(name(&"x".repeat(1000)).len(), MAX_NAME);
        assert_eq!(word("cron"), Some("cron".into()));
        assert_eq!(word("+49151"), None);
    }
}
