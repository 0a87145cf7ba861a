//! Formats numbers and texts for display.

use std::fmt::Write;

/// Stands for a character that is not shown.
const REPLACED: &str = "\u{fffd}";

/// `1,234,567`
pub fn count(number: i64) -> String {
    let digits = number.unsigned_abs().to_string();
    let mut text = String::from(if number < 0 { "-" } else { "" });
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1.23M` from a million on, else like [`count`].
pub fn short(number: i64) -> String {
    let size = number as f64;
    for (unit, letter) in [(1e12, 'T'), (1e9, 'B'), (1e6, 'M')] {
        if size.abs() >= unit {
            return format!("{:.2}{letter}", size / unit);
        }
    }
    count(number)
}

/// US dollars, with as many decimals as needed: `$12.50`, `$0.0312`, `$0.000041`.
pub fn money(dollars: f64) -> String {
    let sign = if dollars < 0.0 { "-" } else { "" };
    let size = dollars.abs();
    if size >= 1.0 {
        let cents = (size * 100.0).round();
        return format!(
            "{sign}${}.{:02}",
            count((cents / 100.0).trunc() as i64),
            (cents % 100.0) as i64
        );
    }
    match size {
        0.0 => "$0.00".into(),
        s if s >= 0.01 => format!("{sign}${s:.4}"),
        s if s >= 0.000_000_5 => format!("{sign}${s:.6}"),
        _ => format!("{sign}<$0.000001"),
    }
}

/// A duration in ms: `340 ms`, `1.24 s`, `2 m 05 s`; a dash for `None`.
pub fn duration(ms: Option<f64>) -> String {
    match ms {
        None => "–".into(),
        Some(ms) if ms < 999.5 => format!("{ms:.0} ms"),
        Some(ms) if ms < 59_995.0 => format!("{:.2} s", ms / 1000.0),
        Some(ms) => {
            let seconds = (ms / 1000.0).round() as i64;
            format!("{} m {:02} s", count(seconds / 60), seconds % 60)
        }
    }
}

/// A share: `12.5 %`, `100 %`.
pub fn percent(share: f64) -> String {
    let percent = share * 100.0;
    if percent != 0.0 && percent < 99.95 {
        format!("{percent:.1} %")
    } else {
        format!("{percent:.0} %")
    }
}

/// `1 call`, `12,345 calls`.
pub fn counted(number: i64, one: &str, more: &str) -> String {
    format!("{} {}", count(number), if number == 1 { one } else { more })
}

/// `hour`, `24 hours`, `7 days`, to follow "the last".
pub fn range(hours: i64) -> String {
    match hours {
        1 => "hour".into(),
        h if h > 24 && h % 24 == 0 => format!("{} days", h / 24),
        h => format!("{h} hours"),
    }
}

/// Escapes text for an element or a quoted attribute. What browsers do not show, and what changes the order of writing
/// of its neighbours, is replaced.
pub fn escape(text: &str) -> String {
    exactly(&text.replace(is_hidden, REPLACED))
}

/// Whether a character is a control, but for blanks, or one of Unicode's controls of the direction of writing.
pub fn is_hidden(character: char) -> bool {
    match character {
        '\t' | '\n' | '\r' => false,
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
            true
        }
        other => other.is_control(),
    }
}

/// Escapes text for an attribute that is not shown, but sent back: hidden characters by their numbers, which HTML reads
/// as others for a few old controls.
pub fn exactly(text: &str) -> String {
    text.chars()
        .fold(String::with_capacity(text.len()), |mut out, character| {
            match character {
                '&' => out.push_str("&amp;"),
                '<' => out.push_str("&lt;"),
                '>' => out.push_str("&gt;"),
                '"' => out.push_str("&quot;"),
                '\'' => out.push_str("&#39;"),
                other if is_hidden(other) => {
                    let _ = write!(out, "&#{};", u32::from(other));
                }
                other => out.push(other),
            }
            out
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_formatted_at_every_size() {
        assert_eq!(
            [count(0), count(999), count(1000), count(-1_234_567)],
            ["0", "999", "1,000", "-1,234,567"]
        );
        assert_eq!(
            [short(999_999), short(1_240_000), short(2_500_000_000)],
            ["999,999", "1.24M", "2.50B"]
        );
        assert_eq!(
            [
                money(0.0),
                money(1234.5),
                money(1.999),
                money(0.0312),
                money(0.000_041),
                money(1e-9)
            ],
            [
                "$0.00",
                "$1,234.50",
                "$2.00",
                "$0.0312",
                "$0.000041",
                "<$0.000001"
            ]
        );
        assert_eq!(
            [
                duration(None),
                duration(Some(340.4)),
                duration(Some(1240.0)),
                duration(Some(125_000.0))
            ],
            ["–", "340 ms", "1.24 s", "2 m 05 s"]
        );
        assert_eq!(
            [percent(0.0), percent(0.125), percent(1.0)],
            ["0 %", "12.5 %", "100 %"]
        );
        assert_eq!(
            [range(1), range(24), range(168)],
            ["hour", "24 hours", "7 days"]
        );
    }

    #[test]
    fn markup_is_escaped() {
        let escaped = "&lt;b a=&quot;1&quot; c=&#39;2&#39;&gt;&amp;";
        for escape in [escape, exactly] {
            assert_eq!(escape(r#"<b a="1" c='2'>&"#), escaped);
            assert_eq!(escape("a\tb\nc é 模"), "a\tb\nc é 模");
        }
    }

    #[test]
    fn hidden_characters_are_replaced_or_written_by_their_numbers() {
        for hidden in "\0\u{1}\u{8}\u{b}\u{c}\u{1b}\u{7f}\u{9b}\u{61c}\u{200e}\u{200f}\u{202a}\u{202e}\u{2066}\u{2069}".chars() {
            let text = format!("a{hidden}b");
            assert_eq!(escape(&text), "a\u{fffd}b", "{text:?}");
            assert_eq!(exactly(&text), format!("a&#{};b", u32::from(hidden)));
        }
    }
}
