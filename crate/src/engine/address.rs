//! Addresses in settings.

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
    let name = host.rsplit_once(':').map_or(host, |(name, port)| {
        if port.parse::<u16>().is_ok() {
            name
        } else {
            host
        }
    });
    let is_ipv6 = name.starts_with('[') && name.ends_with(']');
    let is_name = name
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b));
    if name.is_empty() || !(is_ipv6 || is_name) {
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
