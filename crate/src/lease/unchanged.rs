//! How long files have not changed.

use std::collections::HashMap;

/// How long files have not changed, by the monotonic clock, since this process looked first. A file's date is of a wall
/// clock, which may be wrong or may be set.
#[derive(Debug, Default)]
pub struct Unchanged(HashMap<String, (String, u64)>);

impl Unchanged {
    /// Time without a change of a file with this [`crate::host::FileEntry::stamp`], in ms; 0 at the first look.
    pub fn ms(&mut self, name: &str, stamp: &str, mono_ms: u64) -> u64 {
        match self.0.get(name) {
            Some((before, since)) if before == stamp => mono_ms.saturating_sub(*since),
            _ => {
                self.0.insert(name.to_owned(), (stamp.to_owned(), mono_ms));
                0
            }
        }
    }

    /// Forgets the files that `keep` refuses.
    pub fn retain(&mut self, keep: impl Fn(&str) -> bool) {
        self.0.retain(|name, _| keep(name));
    }
}
