//! Host and port of a URL, as in the headers `Host` and `Origin`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A normalized host and port: two equal ones reach the same server by the same name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authority {
    /// In lower case, without a final dot; an IPv6 address without brackets.
    pub name: String,
    /// The port, if present.
    pub port: Option<u16>,
}

impl Authority {
    /// Reads `name`, `name:port`, `192.0.2.1:port`, `[2001:db8::1]:port`. Other forms (with a user, a zone, a path) are
    /// refused.
    pub fn parse(text: &str) -> Option<Self> {
        let (name, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (address, rest) = rest.split_once(']')?;
                let address: Ipv6Addr = address.parse().ok()?;
                (address.to_string(), rest)
            }
            None => {
                let end = text.find(':').unwrap_or(text.len());
                let (name, rest) = text.split_at_checked(end)?;
                (domain(name)?, rest)
            }
        };
        let port = match port.strip_prefix(':') {
            // `parse` accepts a sign, which no port has.
            Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => {
                Some(digits.parse().ok()?)
            }
            None if port.is_empty() => None,
            _ => return None,
        };
        Some(Self { name, port })
    }

    /// The IP address, if the name is one. An IPv4-mapped IPv6 address becomes the IPv4 address.
    pub fn ip(&self) -> Option<IpAddr> {
        let ip = self.name.parse::<IpAddr>().ok()?;
        Some(ip.to_canonical())
    }
}

/// Whether this is a domain name or an IPv4 address. Browsers never send other spellings of an IPv4 address (`127.1`,
/// `0x7f000001`); here they are names like any other.
fn domain(text: &str) -> Option<String> {
    let name = text.strip_suffix('.').unwrap_or(text);
    let is_label = |label: &str| {
        !label.is_empty()
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b))
    };
    if name.len() > 253 || !name.split('.').all(is_label) {
        return None;
    }
    match name.parse::<Ipv4Addr>() {
        Ok(address) => Some(address.to_string()),
        Err(_) => Some(name.to_ascii_lowercase()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_host_has_one_spelling() {
        for (text, name, port) in [
            ("localhost", "localhost", None),
            ("LOCALHOST.:8470", "localhost", Some(8470)),
            ("127.0.0.1:80", "127.0.0.1", Some(80)),
            ("[::1]:8470", "::1", Some(8470)),
            ("[0:0:0:0:0:0:0:1]", "::1", None),
            ("a_b.Example.com", "a_b.example.com", None),
        ] {
            let authority = Authority::parse(text);
            let expected = Some(Authority {
                name: name.into(),
                port,
            });
            assert_eq!(authority, expected, "{text}");
        }
        let mapped = Authority::parse("[::ffff:127.0.0.1]:1").and_then(|a| a.ip());
        assert!(mapped.is_some_and(|ip| ip.is_loopback()));
    }

    #[test]
    fn invalid_authorities_are_refused() {
        for text in [
            "",
            ".",
            "a..b",
            ":80",
            "localhost:",
            "localhost:+80",
            "localhost:65536",
            "localhost:80:80",
            "user@localhost",
            "localhost/evil",
            "localhost evil",
            "localhost\\evil",
            "localhost,evil",
            "localhost#",
            "[::1",
            "[::1]evil",
            "[::1%25lo]",
            "[localhost]",
            "::1",
            "l\u{f6}calhost",
        ] {
            assert_eq!(Authority::parse(text), None, "{text:?}");
        }
    }
}
