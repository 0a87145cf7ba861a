//! CSV (RFC 4180) without formulas, of the command `report` and of the receiver.
//!
//! A spreadsheet treats a cell that begins with `=`, `+`, `-` or `@` as a formula. Some skip blanks and invisible
//! characters before it, treat the full-width forms alike, or always separate cells at `;`. An apostrophe before the
//! cell makes it text.

use serde_json::Value;

use super::table::REPLACED;
use super::{Dimension, Line, figures};

/// The head and the rows.
pub(super) fn lines(by: &[Dimension], lines: &[Line]) -> Vec<String> {
    let sums = crate::spending::history::Sums::default();
    let names = by.iter().map(|by| Value::from(by.name()));
    let numbers = figures(&sums).into_iter().map(|(name, _)| name.into());
    let head: Vec<Value> = names.chain(numbers).collect();
    let row = |one: &Line| {
        let names = one.names.iter().map(|name| Value::from(name.as_str()));
        let numbers = figures(&one.sums).into_iter().map(|(_, number)| number);
        line(&names.chain(numbers).collect::<Vec<_>>())
    };
    std::iter::once(line(&head))
        .chain(lines.iter().map(row))
        .collect()
}

/// A line of cells, without its end.
pub fn line(values: &[Value]) -> String {
    let cells: Vec<String> = values.iter().map(cell).collect();
    cells.join(",")
}

fn cell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => {
            let safe = without_formulas(text);
            if safe == *text && !text.contains(|c| c == '"' || is_separator(c)) {
                return safe;
            }
            format!("\"{}\"", safe.replace('"', "\"\""))
        }
        other => other.to_string(),
    }
}

/// Separators of cells or lines in any spreadsheet.
fn is_separator(character: char) -> bool {
    matches!(character, ',' | ';' | '|' | '\t' | '\r' | '\n')
}

fn without_formulas(text: &str) -> String {
    let mut safe = String::with_capacity(text.len() + 1);
    if text.starts_with(is_nothing) {
        safe.push('\'');
    }
    for piece in text.split_inclusive(is_separator) {
        if piece.trim_start_matches(is_nothing).starts_with(is_sign) && !safe.ends_with('\'') {
            safe.push('\'');
        }
        safe.push_str(piece);
    }
    safe
}

/// Begin of a formula, in all forms that Unicode treats alike.
fn is_sign(character: char) -> bool {
    matches!(
        character,
        '=' | '+'
            | '-'
            | '@'
            | '\u{207a}'..='\u{207c}'
            | '\u{208a}'..='\u{208c}'
            | '\u{2212}'
            | '\u{fe62}'
            | '\u{fe63}'
            | '\u{fe66}'
            | '\u{fe6b}'
            | '\u{ff0b}'
            | '\u{ff0d}'
            | '\u{ff1d}'
            | '\u{ff20}'
    )
}

/// Characters that a spreadsheet may skip before a formula: blanks, and what Unicode's property
/// `Default_Ignorable_Code_Point` and the interlinear annotations leave invisible.
fn is_nothing(character: char) -> bool {
    character.is_whitespace()
        || character.is_control()
        || matches!(
            character,
            '"' | REPLACED | '\u{ad}'
                | '\u{34f}'
                | '\u{61c}'
                | '\u{115f}'..='\u{1160}'
                | '\u{17b4}'..='\u{17b5}'
                | '\u{180b}'..='\u{180f}'
                | '\u{200b}'..='\u{200f}'
                | '\u{202a}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{2800}'
                | '\u{3164}'
                | '\u{fe00}'..='\u{fe0f}'
                | '\u{feff}'
                | '\u{ffa0}'
                | '\u{fff0}'..='\u{fffb}'
                | '\u{1bca0}'..='\u{1bca3}'
                | '\u{1d173}'..='\u{1d17a}'
                | '\u{e0000}'..='\u{e0fff}'
        )
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_cell_is_one_cell() {
        for (value, written) in [
            (json!("plain"), "plain"),
            (json!("openai/gpt-5 mini"), "openai/gpt-5 mini"),
            (json!("a,\"b\""), "\"a,\"\"b\"\"\""),
            (json!("two\nlines"), "\"two\nlines\""),
            (json!("a; b"), "\"a; b\""),
            (json!("x@y"), "x@y"),
            (json!(-1.5), "-1.5"),
            (Value::Null, ""),
        ] {
            assert_eq!(cell(&value), written);
        }
    }

    #[test]
    fn no_cell_is_a_formula() {
        for text in [
            "=HYPERLINK(1)",
            "+1",
            "-1",
            "@SUM(1)",
            " =1",
            "\u{b}=1",
            "\u{c}=1",
            "\0=1",
            "\u{a0}=1",
            "\u{3000}=1",
            "\u{2028}=1",
            "\u{200b}=1",
            "\u{feff}=1",
            "\u{202e}=1",
            "\u{34f}=1",
            "\u{115f}=1",
            "\u{17b4}=1",
            "\u{180b}=1",
            "\u{2800}=1",
            "\u{3164}=1",
            "\u{fe0f}=1",
            "\u{ffa0}=1",
            "\u{fff9}=1",
            "\u{1bca0}=1",
            "\u{1d173}=1",
            "\u{e0041}=1",
            "\u{e0100}=1",
            "\u{ff1d}1",
            "\u{ff0b}1",
            "\u{ff0d}1",
            "\u{ff20}A",
            " \u{ff1d}1",
            "\u{2212}1",
            "\u{fe66}1",
            "\"=1",
            // A blank or a line break alone: no model has such a name.
            " plain",
            "\nplain",
        ] {
            let written = cell(&json!(text));
            let expected = format!("\"'{}\"", text.replace('"', "\"\""));
            assert_eq!(written, expected, "{text:?}");
        }
        // With other separators, each cell is text too.
        for (text, written) in [
            ("a;=1", "\"a;'=1\""),
            ("a; =1", "\"a;' =1\""),
            ("a\t=1", "\"a\t'=1\""),
            ("a,=1", "\"a,'=1\""),
            ("a|\u{ff1d}1", "\"a|'\u{ff1d}1\""),
            ("a\r\n=1", "\"a\r\n'=1\""),
            ("\t=1", "\"'\t'=1\""),
            ("\n=1", "\"'\n'=1\""),
            ("\r\n =1", "\"'\r\n' =1\""),
            ("=a;=b", "\"'=a;'=b\""),
        ] {
            assert_eq!(cell(&json!(text)), written, "{text:?}");
        }
    }
}
