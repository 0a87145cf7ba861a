//! Reads the built-in table. A section begins with a provider's names (`= openai`, with a fallback provider after a
//! `>`). Each further line has a model's patterns, rates and fees. The first matching pattern counts.

use crate::pricing::price::{Fees, Tier};

/// A model's rates and fees; `None` where the table has none.
pub(super) fn find(table: &str, provider: &str, model: &str) -> Option<(Vec<Tier>, Fees)> {
    let model = model.to_ascii_lowercase();
    let row = row_of(table, provider, &model).or_else(|| {
        let dated = with_dashed_date(&model)?;
        row_of(table, provider, &dated)
    })?;
    Some((tiers(row)?, fees(row)))
}

/// The rates and fees of a model's row, as text.
fn row_of<'t>(table: &'t str, provider: &str, model: &str) -> Option<&'t str> {
    let mut provider = provider;
    loop {
        let names = |line: &&str| is_section_of(line, provider);
        let mut lines = table.lines().skip_while(|line| !names(line));
        let section = lines.next()?;
        let rows = lines.take_while(|line| !line.starts_with("= "));
        let found = rows
            .map(|line| line.split_once(' ').unwrap_or((line, "")))
            .find(|(patterns, _)| patterns.split('|').any(|one| matches_all(one, model)));
        if let Some((_, row)) = found {
            return Some(row);
        }
        provider = section.split_once(" > ")?.1;
    }
}

fn is_section_of(line: &str, provider: &str) -> bool {
    let names = line
        .strip_prefix("= ")
        .map(|names| names.split(" > ").next());
    names
        .flatten()
        .is_some_and(|names| names.split(' ').any(|name| name == provider))
}

fn matches_all(conditions: &str, name: &str) -> bool {
    conditions
        .split('&')
        .all(|condition| match condition.strip_prefix('!') {
            Some(pattern) => !matches(pattern.as_bytes(), name.as_bytes()),
            None => matches(condition.as_bytes(), name.as_bytes()),
        })
}

/// Whether a name matches a pattern: `*` stands for any text, `#` for a digit.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    match (pattern.split_first(), name.split_first()) {
        (None, _) => name.is_empty(),
        (Some((b'*', rest)), _) => (0..=name.len()).any(|at| matches(rest, &name[at..])),
        (Some((b'#', rest)), Some((digit, name))) => digit.is_ascii_digit() && matches(rest, name),
        (Some((byte, rest)), Some((first, name))) => byte == first && matches(rest, name),
        (Some(_), None) => false,
    }
}

/// Rewrites `-20251001` to `-2025-10-01`: the table may have either form of a name.
fn with_dashed_date(name: &str) -> Option<String> {
    let bytes = name.as_bytes();
    let is_digit = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_digit);
    // Other numbers are part of the name.
    let is_date = |at: usize| {
        let number = |from: usize, to: usize| name[at + from..at + to].parse().ok();
        let (year, month, day) = (number(1, 5)?, number(5, 7)?, number(7, 9)?);
        jiff::civil::Date::new(year, month as i8, day as i8).ok()
    };
    let begins = |at: &usize| {
        bytes[*at] == b'-'
            && (1..=8).all(|n| is_digit(at + n))
            && !is_digit(at + 9)
            && is_date(*at).is_some()
    };
    let at = (0..bytes.len()).find(begins)?;
    let (year, month) = (&name[at..at + 5], &name[at + 5..at + 7]);
    Some([&name[..at], year, "-", month, "-", &name[at + 7..]].concat())
}

/// Reads `3 15 .3 3.75 >200000 6 22.5 .6 7.5`. Missing rates of cached tokens equal the input's.
fn tiers(row: &str) -> Option<Vec<Tier>> {
    let mut all = Vec::new();
    let mut tier: Tier = [0.0; 5];
    let mut filled = 1;
    for word in row.split_ascii_whitespace().filter(|word| !is_fee(word)) {
        match word.strip_prefix('>') {
            Some(start) => {
                all.push(complete(tier, filled));
                tier = [decimal(start)?, 0.0, 0.0, 0.0, 0.0];
                filled = 1;
            }
            None => {
                *tier.get_mut(filled)? = match word {
                    "-" => tier[1],
                    rate => decimal(rate)?,
                };
                filled += 1;
            }
        }
    }
    all.push(complete(tier, filled));
    (filled > 2).then_some(all)
}

/// Reads `web=10 file=2.5`, which follow the rates.
fn fees(row: &str) -> Fees {
    let words = || row.split_ascii_whitespace();
    let fee = |name: &str| words().find_map(|word| decimal(word.strip_prefix(name)?));
    Fees {
        web_searches: fee("web=").unwrap_or_default(),
        file_searches: fee("file=").unwrap_or_default(),
    }
}

fn is_fee(word: &str) -> bool {
    word.contains('=')
}

/// Reads `3.75`, exactly: 15 digits fit into an `f64`, and one division rounds once. The standard library's parser
/// would take 15 KB of the module.
fn decimal(text: &str) -> Option<f64> {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let digits = [whole, part].concat();
    let number: u64 = digits.parse().ok().filter(|_| digits.len() <= 15)?;
    Some(number as f64 / 10_u64.pow(part.len() as u32) as f64)
}

fn complete(mut tier: Tier, filled: usize) -> Tier {
    let input = tier[1];
    tier.iter_mut().skip(filled).for_each(|rate| *rate = input);
    tier
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(table: &str, provider: &str, model: &str) -> Option<Vec<Tier>> {
        super::find(table, provider, model).map(|(tiers, _)| tiers)
    }

    const TABLE: &str = "; made by hand\n= a b > c\none|one-* 1 2\ntwo*&!*-x 3 4 - 5 >10 6 7 .8\nthree\n\
                         = c\nfour-####-##-## 8 9\n";

    #[test]
    fn the_first_matching_pattern_gives_the_rates() {
        assert_eq!(
            find(TABLE, "b", "One-more"),
            Some(vec![[0.0, 1.0, 2.0, 1.0, 1.0]])
        );
        assert_eq!(find(TABLE, "a", "two-x"), None);
        let two = vec![[0.0, 3.0, 4.0, 3.0, 5.0], [10.0, 6.0, 7.0, 0.8, 6.0]];
        assert_eq!(find(TABLE, "a", "two-y"), Some(two));
    }

    #[test]
    fn fees_follow_the_rates() {
        let table = "= a\none 1 2 .1 >10 3 4 web=10 file=2.5\ntwo 1 2 web=14\n";
        let one = super::find(table, "a", "one").unwrap_or_default();
        let fees = Fees {
            web_searches: 10.0,
            file_searches: 2.5,
        };
        assert_eq!(
            one,
            (
                vec![[0.0, 1.0, 2.0, 0.1, 1.0], [10.0, 3.0, 4.0, 3.0, 3.0]],
                fees
            )
        );
        let two = super::find(table, "a", "two").unwrap_or_default();
        assert_eq!((two.1.web_searches, two.1.file_searches), (14.0, 0.0));
    }

    #[test]
    fn decimals_are_read_as_by_the_standard_library() {
        for text in [".3", "0", "3.75", "200000", ".00875", "12.123456789"] {
            let expected: Option<f64> = format!("0{text}").parse().ok();
            assert_eq!(decimal(text), expected, "{text}");
        }
        for text in ["", "x", "1e3", "-1", "1.2.3"] {
            assert_eq!(decimal(text), None, "{text}");
        }
    }

    #[test]
    fn models_without_rates_and_unknown_models_have_none() {
        assert_eq!(find(TABLE, "a", "three"), None);
        assert_eq!(find(TABLE, "d", "one"), None);
        assert_eq!(find("", "a", "one"), None);
    }

    #[test]
    fn a_section_may_fall_back_to_another_providers_models() {
        let four = Some(vec![[0.0, 8.0, 9.0, 8.0, 8.0]]);
        assert_eq!(find(TABLE, "a", "four-2025-01-02"), four);
        assert_eq!(find(TABLE, "c", "four-20250102"), four);
        assert_eq!(find(TABLE, "c", "four-202501023"), None);
    }
}
