//! CSV (RFC 4180) without formulas: a spreadsheet computes a cell that begins with `=`, `+`, `-` or `@`, also behind
//! blanks, in full width, or after another separator. An apostrophe makes it text.

use super::{Dimension, Line, figures};

/// The head and the rows.
pub fn lines(by: &[Dimension], lines: &[Line]) -> Vec<String> {
    let sums = crate::spending::history::Sums::default();
    let names = by.iter().map(|by| by.name().to_owned());
    let head: Vec<String> = names
        .chain(figures(&sums).into_iter().map(|(name, _)| name))
        .collect();
    let row = |line: &Line| {
        let names = line.names.iter().map(|name| cell(name));
        let numbers = figures(&line.sums)
            .into_iter()
            .map(|(_, number)| number.to_string());
        names.chain(numbers).collect::<Vec<_>>().join(",")
    };
    std::iter::once(head.join(","))
        .chain(lines.iter().map(row))
        .collect()
}

fn cell(text: &str) -> String {
    let mut safe = String::with_capacity(text.len() + 2);
    for piece in text.split_inclusive(is_separator) {
        if piece.trim_start_matches(is_nothing).starts_with(is_sign) && !safe.ends_with('\'') {
            safe.push('\'');
        }
        safe.push_str(piece);
    }
    match safe == text && !text.contains(|c| c == '"' || is_separator(c)) {
        true => safe,
        false => ["\"", &safe.replace('"', "\"\""), "\""].concat(),
    }
}

/// Separators of cells in any spreadsheet.
fn is_separator(c: char) -> bool {
    matches!(c, ',' | ';' | '|' | '\t' | '\r' | '\n')
}

/// The begin of a formula, in all forms that Unicode treats alike.
fn is_sign(c: char) -> bool {
    matches!(
        c,
        '=' | '+' | '-' | '@' | '\u{207a}'..='\u{207c}' | '\u{208a}'..='\u{208c}' | '\u{2212}' | '\u{fe62}' | '\u{fe63}'
            | '\u{fe66}' | '\u{fe6b}' | '\u{ff0b}' | '\u{ff0d}' | '\u{ff1d}' | '\u{ff20}'
    )
}

/// What a spreadsheet may skip before a formula. Names have no control characters.
fn is_nothing(c: char) -> bool {
    c.is_whitespace() || c == '"' || c == super::table::REPLACED
}

#[cfg(test)]
mod tests {
    use super::cell;

    #[test]
    fn no_cell_is_a_formula_and_none_is_two() {
        for (text, written) in [
            ("openai/gpt-5 mini", "openai/gpt-5 mini"),
            ("a,\"b\"", "\"a,\"\"b\"\"\""),
            ("=1", "\"'=1\""),
            (" +1", "\"' +1\""),
            ("\u{ff1d}1", "\"'\u{ff1d}1\""),
            ("\u{fffd}@A", "\"'\u{fffd}@A\""),
            ("a;=1", "\"a;'=1\""),
            ("-", "\"'-\""),
        ] {
            assert_eq!(cell(text), written);
        }
    }
}
