//! Changes of the journal's files, in the order in which they are to be done.

/// One change of one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// The file's name in our folder.
    pub file: String,
    /// What is done to it.
    pub op: Op,
}

/// A change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// These bytes come behind what is there; a missing file is made.
    Append(Vec<u8>),
    /// These bytes take the file's place, whole or not at all.
    Replace(Vec<u8>),
    /// The snapshot whose pieces were handed out takes the file's place.
    Snapshot,
    /// The file takes this name, in place of another one that has it.
    Rename(&'static str),
    /// The file goes; a missing one is gone already.
    Delete,
}

/// How names of the ledger's files begin.
pub const LEDGER: &str = "ledger-";
/// How names of journal files end.
pub const SUFFIX: &str = ".awj";

/// A journal file's name; names sort by number.
pub fn numbered(prefix: &str, number: u32) -> String {
    let digits = number.to_string();
    let zeros = "0000000000".get(digits.len()..).unwrap_or_default();
    [prefix, zeros, &digits, SUFFIX].concat()
}

/// The number in a journal file's name, where it begins so.
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
