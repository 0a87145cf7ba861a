//! Facts as JSON text. What is plain is copied as it stands; what is not is made plain.

use super::json::Value;
use crate::facts::MAX_TEXT;

/// Writes a value; what is unusable becomes an empty list, as the shim's `pick` has it.
pub fn write_value(value: Value, out: &mut String) {
    match value {
        Value::Absent => out.push_str("null"),
        Value::Plain(plain) => out.push_str(plain),
        Value::Unusable => out.push_str("[]"),
        Value::Text(raw) => match std::str::from_utf8(raw) {
            Ok(text) if raw.len() <= MAX_TEXT && !raw.contains(&b'\\') => {
                out.push('"');
                out.push_str(text);
                out.push('"');
            }
            _ => write_text(&unescaped(raw), out),
        },
    }
}

/// Writes a whole number.
pub fn write_number(number: u64, out: &mut String) {
    let mut left = number;
    let mut digits = [b'0'; 20];
    let mut start = digits.len();
    while start == digits.len() || left > 0 {
        start -= 1;
        digits[start] = b'0' + (left % 10) as u8;
        left /= 10;
    }
    out.extend(digits[start..].iter().map(|digit| *digit as char));
}

/// A text as a JSON string.
pub fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    write_text(text, &mut out);
    out
}

/// Writes a text of at most [`MAX_TEXT`] UTF-16 units.
fn write_text(text: &str, out: &mut String) {
    out.push('"');
    let mut units = 0;
    for char in text.chars() {
        units += char.len_utf16();
        if units > MAX_TEXT {
            break;
        }
        match char {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            control if control < ' ' => {
                const HEX: [char; 16] = [
                    '0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f',
                ];
                let code = control as usize;
                out.push_str("\\u00");
                out.push(HEX[code >> 4]);
                out.push(HEX[code & 15]);
            }
            other => out.push(other),
        }
    }
    out.push('"');
}

/// What a string's escapes stand for. Lone surrogates and bytes that are no UTF-8 become U+FFFD; what
/// lies far beyond [`MAX_TEXT`] is left out.
fn unescaped(raw: &[u8]) -> String {
    // An escape of six bytes is one unit.
    let raw = &raw[..raw.len().min(MAX_TEXT * 6)];
    let mut units: Vec<u16> = Vec::new();
    let mut out = String::new();
    let mut rest = raw;
    while let Some(end) = rest.iter().position(|byte| *byte == b'\\') {
        let (plain, escape) = rest.split_at(end);
        if !plain.is_empty() {
            flush(&mut units, &mut out);
            out.push_str(&String::from_utf8_lossy(plain));
        }
        let (unit, length) = match escape {
            [_, b'u', digits @ ..] => (hex(digits), 6),
            [_, b'b', ..] => (0x08, 2),
            [_, b'f', ..] => (0x0c, 2),
            [_, b'n', ..] => (0x0a, 2),
            [_, b'r', ..] => (0x0d, 2),
            [_, b't', ..] => (0x09, 2),
            [_, other, ..] => (u16::from(*other), 2),
            _ => (0xfffd, 1),
        };
        units.push(unit);
        rest = escape.get(length..).unwrap_or_default();
    }
    flush(&mut units, &mut out);
    out.push_str(&String::from_utf8_lossy(rest));
    out
}

fn flush(units: &mut Vec<u16>, out: &mut String) {
    out.extend(char::decode_utf16(units.drain(..)).map(|unit| unit.unwrap_or('\u{fffd}')));
}

fn hex(digits: &[u8]) -> u16 {
    let digits = digits
        .get(..4)
        .and_then(|four| std::str::from_utf8(four).ok());
    digits
        .and_then(|four| u16::from_str_radix(four, 16).ok())
        .unwrap_or(0xfffd)
}
