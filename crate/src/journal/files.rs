//! Changes of the journal's files. They are applied in order.

/// One change of one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// The file's name in the journal's folder.
    pub file: String,
    /// The change.
    pub op: Op,
}

/// A kind of change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// Append these bytes; a missing file is created.
    Append(Vec<u8>),
    /// Replace the file by these bytes, atomically.
    Replace(Vec<u8>),
    /// Replace the file by the snapshot whose pieces were handed out.
    Snapshot,
    /// Rename the file to this name, replacing a file of that name.
    Rename(&'static str),
    /// Delete the file; a missing file is no error.
    Delete,
}

/// Prefix of the names of the ledger's files.
pub const LEDGER: &str = "ledger-";
/// Suffix of the names of the journal's files.
pub const SUFFIX: &str = ".awj";

/// The name of a journal file. Names sort by number.
pub fn numbered(prefix: &str, number: u32) -> String {
    let digits = number.to_string();
    let zeros = "0000000000".get(digits.len()..).unwrap_or_default();
    [prefix, zeros, &digits, SUFFIX].concat()
}

/// The number in a journal file's name; `None` without this prefix.
pub fn number_of(file: &str, prefix: &str) -> Option<u32> {
    file.strip_prefix(prefix)?
        .strip_suffix(SUFFIX)?
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_sort_by_their_numbers_and_the_ledgers_come_first() {
        let mut names = [
            numbered("records-", 1),
            numbered("model-calls-", 10),
            numbered("model-calls-", 9),
            numbered(LEDGER, u32::MAX),
        ];
        names.sort();
        assert_eq!(number_of(&names[0], LEDGER), Some(u32::MAX));
        assert_eq!(number_of(&names[1], "model-calls-"), Some(9));
        assert_eq!(number_of("model-calls-x.awj", "model-calls-"), None);
    }
}
