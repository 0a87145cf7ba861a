//! Addresses in settings.

use std::net::{Ipv4Addr, Ipv6Addr};

/// Checks an http or https origin with an optional path. Credentials and queries are refused, since they would appear
/// in logs.
pub(crate) fn check_url(text: &str) -> Result<String, &'static str> {
    let rest = text
        .strip_prefix("http://")
        .or_else(|| text.strip_prefix("https://"))
        .ok_or("does not start with http:// or https://")?;
    let host = rest.split('/').next().unwrap_or_default();
    if host.contains('@') {
        return Err("holds credentials (use the setting token)");
    }
    if text.contains(['?', '#']) {
        return Err("holds a query or a fragment");
    }
    if !is_host(without_port(host)) {
        return Err("has no usable host");
    }
    if text.bytes().any(|b| b <= b' ') || !text.is_ascii() {
        return Err("holds blanks or characters outside ASCII");
    }
    // A host's name may end in `/models` only in its path.
    let (origin, path) = text.split_at(text.len() - rest.len() + host.len());
    let path = path.trim_end_matches('/');
    let path = path.strip_suffix("/models").unwrap_or(path);
    Ok([origin, path.trim_end_matches('/')].concat())
}

/// What a message may show of a refused address: scheme and host. The rest may hold a secret: credentials, a path, a
/// query, or all of it where the scheme is another one.
pub(crate) fn shown(text: &str) -> Option<String> {
    let text = text.trim();
    let scheme = ["http://", "https://"]
        .into_iter()
        .find(|scheme| text.starts_with(scheme))?;
    let rest = &text[scheme.len()..];
    let host = match rest.rsplit_once('@') {
        None => rest,
        Some((before, host)) if !before.contains(['@', '/', '\\', '?', '#']) => host,
        // Of these it is not known where the credentials end.
        Some(_) => "",
    };
    let is_of_a_host = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:[]".contains(&byte);
    let end = host.bytes().take_while(|byte| is_of_a_host(*byte)).count();
    let host = &host[..end];
    // What stands behind a colon and is no port may be a password, where the `@` was forgotten.
    let host = match host.rsplit_once(':') {
        Some((name, port)) if !host.ends_with(']') && port.bytes().any(|b| !b.is_ascii_digit()) => {
            name
        }
        _ => host,
    };
    Some([scheme, host].concat())
}

/// A problem of a setting's address.
pub(crate) fn complaint(setting: &str, text: &str, why: &str, example: &str) -> String {
    let shown = shown(text).map_or_else(String::new, |shown| format!(" \"{shown}\""));
    format!("{setting}{shown} {why}; set it to an address such as {example}")
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.parse::<u16>().is_ok() => name,
        _ => host,
    }
}

/// Whether a text is an IP address or a name. Addresses are read as `fetch` reads them: a name whose last label is a
/// number is an IPv4 address, and then only four parts from 0 to 255 are usable.
fn is_host(text: &str) -> bool {
    if let Some(inner) = text.strip_prefix('[') {
        let inner = inner.strip_suffix(']');
        return inner.is_some_and(|inner| inner.parse::<Ipv6Addr>().is_ok());
    }
    let labels = text.strip_suffix('.').unwrap_or(text);
    let last = labels.rsplit('.').next().unwrap_or_default();
    let digits = last.strip_prefix("0x").or(last.strip_prefix("0X"));
    let is_number = match digits {
        Some(digits) => digits.bytes().all(|byte| byte.is_ascii_hexdigit()),
        None => !last.is_empty() && last.bytes().all(|byte| byte.is_ascii_digit()),
    };
    if is_number {
        return text.parse::<Ipv4Addr>().is_ok();
    }
    let is_named = |label: &str| {
        !label.is_empty()
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    };
    labels.split('.').all(is_named)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_complaint_shows_scheme_and_host_alone() {
        for (text, expected) in [
            ("http://user:SECRET@host:9", Some("http://host:9")),
            (" https://SECRET@[::1]:9/SECRET ", Some("https://[::1]:9")),
            ("http://user:SEC/RET@host", Some("http://")),
            ("http://user:SEC?RET@host", Some("http://")),
            ("http://user:SEC@RET@host", Some("http://")),
            ("http://host/@SECRET", Some("http://")),
            ("http://host/SECRET?key=SECRET", Some("http://host")),
            ("http://host?key=SECRET", Some("http://host")),
            ("http://host#SECRET", Some("http://host")),
            ("http://host\\SECRET", Some("http://host")),
            ("http://10.0.0.256/x", Some("http://10.0.0.256")),
            ("http://user:SECRET", Some("http://user")),
            ("http://[::1]:SECRET", Some("http://[::1]")),
            ("http://", Some("http://")),
            ("ftp://user:SECRET@host", None),
            ("http:/SECRET", None),
            ("SECRET", None),
        ] {
            assert_eq!(shown(text).as_deref(), expected, "{text}");
            let says = complaint("url", text, "is wrong", "http://localhost:1");
            assert!(!says.contains("SECRET"), "{says}");
        }
        assert_eq!(
            complaint("url", "ftp://host", "is wrong", "http://localhost:1"),
            "url is wrong; set it to an address such as http://localhost:1"
        );
    }

    #[test]
    fn a_host_is_an_address_or_a_name() {
        for host in [
            "localhost",
            "receiver.example",
            "receiver.example.",
            "a-b_c.d1",
            "3com.example",
            "10.0.0.255",
            "127.0.0.1:80",
            "[::1]",
            "[2001:db8::1]:8080",
            "[::ffff:10.0.0.1]",
            "xn--bcher-kva.example",
        ] {
            let url = format!("https://{host}/x");
            assert_eq!(check_url(&url), Ok(url.clone()), "{host}");
        }
        for host in [
            "",
            ".",
            ":80",
            "a..b",
            ".a",
            "10.0.0.256",
            "10.0.0",
            "10.0.0.0.1",
            "256",
            "1.2.3.08",
            "0x7f.1",
            "a.0x1",
            "[zz]",
            "[]",
            "[::1",
            "::1",
            "[10.0.0.1]",
            "[::1]x",
            "[fe80::1%25eth0]",
            "a b",
            "a:b",
            "a:99999",
        ] {
            let found = check_url(&format!("https://{host}/x"));
            assert_eq!(found, Err("has no usable host"), "{host}");
        }
    }
}
