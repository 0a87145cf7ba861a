//! Numbers as JSON writes them.

/// JSON's grammar of numbers.
pub(super) fn is_number(bytes: &[u8]) -> bool {
    let rest = bytes.strip_prefix(b"-").unwrap_or(bytes);
    let (whole, rest) = digits(rest);
    if whole == 0 || (whole > 1 && bytes.iter().find(|byte| **byte != b'-') == Some(&b'0')) {
        return false;
    }
    let rest = match rest.strip_prefix(b".") {
        Some(rest) => match digits(rest) {
            (0, _) => return false,
            (_, rest) => rest,
        },
        None => rest,
    };
    let Some(rest) = rest.strip_prefix(b"e").or(rest.strip_prefix(b"E")) else {
        return rest.is_empty();
    };
    let rest = rest
        .strip_prefix(b"+")
        .or(rest.strip_prefix(b"-"))
        .unwrap_or(rest);
    matches!(digits(rest), (1.., []))
}

/// How many digits there are, and what follows them.
fn digits(bytes: &[u8]) -> (usize, &[u8]) {
    let count = bytes
        .iter()
        .take_while(|byte| byte.is_ascii_digit())
        .count();
    (count, &bytes[count..])
}
