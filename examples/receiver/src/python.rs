//! Emulates Python's and SQLite's type conversions of JSON in AgentWatch 0.1.0.

use crate::error::ApiError;
use crate::json::Text;
use rusqlite::Connection;
use serde::Serialize;
use serde_json::ser::{Formatter, Serializer};
use serde_json::{Map, Number, Value};
use std::borrow::Cow;
use std::io::{Result as Written, Write};

/// An exception that AgentWatch does not catch.
#[derive(Debug)]
pub struct Crash;

impl From<Crash> for ApiError {
    fn from(Crash: Crash) -> Self {
        Self::Crash
    }
}

/// A value as AgentWatch reads it.
pub type Read<T> = Result<T, Crash>;

/// The only field of the object that represents an integer beyond 64 bits.
const HUGE: &str = "\0";

/// Python's `json.loads(…)`.
///
/// Python's integers have any size, and SQLite refuses those beyond 64 bits, while it stores a float such as `1e20`.
/// Here both would become the same float, so an object represents such an integer.
///
/// # Errors
/// The text is not JSON.
pub fn loads(bytes: &[u8]) -> Read<Value> {
    serde_json::from_slice(&mark_huge(bytes)).map_err(|_| Crash)
}

fn mark_huge(json: &[u8]) -> Cow<'_, [u8]> {
    let mut marked = Vec::new();
    let (mut at, mut copied) = (0, 0);
    while let Some(&byte) = json.get(at) {
        let length = match byte {
            b'"' => string(&json[at..]),
            b'-' | b'0'..=b'9' => {
                let is_part = |b: &u8| b.is_ascii_alphanumeric() || b"+-.".contains(b);
                json[at..].iter().take_while(|b| is_part(b)).count()
            }
            _ => 1,
        };
        if is_huge_literal(&json[at..at + length]) {
            marked.extend_from_slice(&json[copied..at]);
            marked.extend_from_slice(br#"{"\u0000":""#);
            marked.extend_from_slice(&json[at..at + length]);
            marked.extend_from_slice(br#""}"#);
            copied = at + length;
        }
        at += length;
    }
    if marked.is_empty() {
        return json.into();
    }
    marked.extend_from_slice(&json[copied..]);
    marked.into()
}

/// The length of a string's literal, quotes included.
fn string(json: &[u8]) -> usize {
    let mut is_escaped = false;
    let end = json.iter().skip(1).position(|byte| {
        let is_end = *byte == b'"' && !is_escaped;
        is_escaped = *byte == b'\\' && !is_escaped;
        is_end
    });
    end.map_or(json.len(), |end| end + 2)
}

fn is_huge_literal(literal: &[u8]) -> bool {
    let digits = literal.strip_prefix(b"-").unwrap_or(literal);
    let is_whole = digits.iter().all(u8::is_ascii_digit) && !digits.starts_with(b"0");
    is_whole
        && digits.len() >= 19
        && std::str::from_utf8(literal).is_ok_and(|text| text.parse::<i64>().is_err())
}

/// An object's fields.
///
/// # Errors
/// The value is no object.
pub fn object(value: &Value) -> Read<&Map<String, Value>> {
    value
        .as_object()
        .filter(|map| !map.contains_key(HUGE))
        .ok_or(Crash)
}

/// Python's `json.dumps(…)`: the read side returns the text unchanged.
pub fn dumps(value: &Value) -> String {
    struct Python;
    impl Formatter for Python {
        fn begin_array_value<W: Write + ?Sized>(
            &mut self,
            out: &mut W,
            first: bool,
        ) -> Written<()> {
            out.write_all(if first { b"" } else { b", " })
        }

        fn begin_object_key<W: Write + ?Sized>(&mut self, out: &mut W, first: bool) -> Written<()> {
            out.write_all(if first { b"" } else { b", " })
        }

        fn begin_object_value<W: Write + ?Sized>(&mut self, out: &mut W) -> Written<()> {
            out.write_all(b": ")
        }

        fn write_string_fragment<W: Write + ?Sized>(
            &mut self,
            out: &mut W,
            text: &str,
        ) -> Written<()> {
            for letter in text.chars() {
                if letter.is_ascii() {
                    write!(out, "{letter}")?;
                    continue;
                }
                for unit in letter.encode_utf16(&mut [0; 2]) {
                    write!(out, "\\u{unit:04x}")?;
                }
            }
            Ok(())
        }
    }
    let mut text = Vec::new();
    let text = match value.serialize(&mut Serializer::with_formatter(&mut text, Python)) {
        Ok(()) => String::from_utf8(text).unwrap_or_else(|_| value.to_string()),
        Err(_) => value.to_string(),
    };
    with_huge(&text)
}

/// Writes huge integers as integers again. No string contains their opening: its quotes are escaped.
fn with_huge(text: &str) -> String {
    const OPENING: &str = r#"{"\u0000": ""#;
    let mut pieces = text.split(OPENING);
    let first = pieces.next().unwrap_or_default().to_owned();
    pieces.fold(first, |out, piece| match piece.split_once("\"}") {
        Some((digits, rest)) if is_huge_literal(digits.as_bytes()) => out + digits + rest,
        _ => out + OPENING + piece,
    })
}

/// What SQLite stores of a value in a text column.
///
/// # Errors
/// SQLite cannot store it.
pub fn text(value: &Value) -> Read<Option<Text<'static>>> {
    match value {
        Value::Null => Ok(None),
        Value::Bool(flag) => Ok(Some(i32::from(*flag).to_string().into())),
        Value::Number(number) if number.is_f64() => real_text(stored_number(number)?).map(Some),
        Value::Number(number) => Ok(Some(number.as_i64().ok_or(Crash)?.to_string().into())),
        Value::String(text) => Ok(Some(text.clone().into())),
        Value::Array(_) | Value::Object(_) => Err(Crash),
    }
}

/// SQLite writes `1e18` as `1.0e+18`.
fn real_text(number: f64) -> Read<Text<'static>> {
    thread_local! {
        static SQLITE: rusqlite::Result<Connection> = Connection::open_in_memory();
    }
    SQLITE.with(|sqlite| {
        let sqlite = sqlite.as_ref().map_err(|_| Crash)?;
        let cast = sqlite.query_row("SELECT CAST(?1 AS TEXT)", [number], |row| row.get(0));
        cast.map(|text: String| text.into()).map_err(|_| Crash)
    })
}

/// What SQLite stores of a number in a column of reals.
///
/// # Errors
/// An integer beyond 64 bits.
pub fn stored_number(number: &Number) -> Read<f64> {
    if number.is_u64() && number.as_i64().is_none() {
        return Err(Crash);
    }
    number.as_f64().ok_or(Crash)
}

/// What SQLite stores of a value in an integer column, as far as the receiver stores it: text that is no number is 0,
/// and fractions are cut off.
///
/// # Errors
/// SQLite cannot store it.
pub fn stored_count(value: &Value) -> Read<i64> {
    match value {
        Value::Bool(flag) => Ok(i64::from(*flag)),
        Value::Number(number) => match number.as_i64() {
            Some(whole) => Ok(whole),
            // A cast saturates.
            None => stored_number(number).map(|real| real as i64),
        },
        Value::String(text) => {
            let text = text.trim();
            let real = || text.parse().ok().filter(|real: &f64| real.is_finite());
            Ok(text
                .parse()
                .unwrap_or_else(|_| real().unwrap_or(0.0) as i64))
        }
        _ => Err(Crash),
    }
}

/// Python's `int(…)`, within 64 bits.
///
/// # Errors
/// Python raises an exception.
pub fn int(value: &Value) -> Read<i64> {
    match value {
        Value::Bool(flag) => Ok(i64::from(*flag)),
        Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(whole), _) => Ok(whole),
            // 2^63 is the first number that is too large, and is a float.
            (None, Some(float)) if float.abs() < 9_223_372_036_854_775_808.0 => {
                Ok(float.trunc() as i64)
            }
            _ => Err(Crash),
        },
        Value::String(text) => literal(text)?.parse().map_err(|_| Crash),
        _ => Err(Crash),
    }
}

/// Python's `float(…)`, without infinities.
///
/// # Errors
/// Python raises an exception, or the number is not finite.
pub fn float(value: &Value) -> Read<f64> {
    let number = match value {
        Value::Bool(flag) => f64::from(u8::from(*flag)),
        Value::Number(number) => number.as_f64().ok_or(Crash)?,
        Value::String(text) => literal(text)?.parse().map_err(|_| Crash)?,
        // The approximation of a huge integer is precise enough.
        Value::Object(map) => match map.get(HUGE) {
            Some(Value::String(digits)) => digits.parse().map_err(|_| Crash)?,
            _ => return Err(Crash),
        },
        _ => return Err(Crash),
    };
    if number.is_finite() {
        Ok(number)
    } else {
        Err(Crash)
    }
}

/// Converts a number's text for Rust: Python accepts blanks around it, and `_` between two digits.
fn literal(text: &str) -> Read<String> {
    let text = text.trim();
    let is_digit = |at: Option<&u8>| at.is_some_and(u8::is_ascii_digit);
    let bytes = text.as_bytes();
    for (at, _) in text.match_indices('_') {
        if at == 0 || !is_digit(bytes.get(at - 1)) || !is_digit(bytes.get(at + 1)) {
            return Err(Crash);
        }
    }
    Ok(text.replace('_', ""))
}

/// Python's truth value.
pub fn truthy(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(flag) => *flag,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(map) => !map.is_empty(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_of_any_size_differ_from_floats() {
        for (json, dumped) in [
            (
                r#"{"a":[9223372036854775808,1e20]}"#,
                r#"{"a": [9223372036854775808, 1e+20]}"#,
            ),
            ("-9223372036854775809", "-9223372036854775809"),
            ("-9223372036854775808", "-9223372036854775808"),
            (
                r#""123456789012345678901234567890""#,
                r#""123456789012345678901234567890""#,
            ),
            (
                r#""a\"123456789012345678901234567890""#,
                r#""a\"123456789012345678901234567890""#,
            ),
            (r#"{"\u0000":"x"}"#, r#"{"\u0000": "x"}"#),
        ] {
            let value = loads(json.as_bytes());
            assert_eq!(
                value.ok().map(|value| dumps(&value)).as_deref(),
                Some(dumped)
            );
        }
        for broken in [
            "00000000000000000000001",
            "{\"a",
            "\"\\",
            "1234567890123456789012x",
            "-",
        ] {
            assert!(loads(broken.as_bytes()).is_err(), "{broken}");
        }
    }
}
