//! Counters by name. There are few names, so a list is smaller and faster than a map.

use serde::ser::{Serialize, SerializeMap, Serializer};

/// Number of occurrences of each fixed name, in order of first occurrence.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counter(Vec<(Name, u64)>);

/// A fixed name, or a source and a reason. The second is empty for a single name.
pub type Name = (&'static str, &'static str);

impl Counter {
    /// Adds one to a name.
    pub fn add(&mut self, name: &'static str) {
        self.add_many((name, ""), 1);
    }

    /// Adds `count` to a name; zero adds no entry.
    pub fn add_some(&mut self, name: &'static str, count: u64) {
        if count > 0 {
            self.add_many((name, ""), count);
        }
    }

    /// Adds one to a source and a reason.
    pub fn add_pair(&mut self, source: &'static str, reason: &'static str) {
        self.add_many((source, reason), 1);
    }

    /// Count of a name.
    pub fn get(&self, name: &str) -> u64 {
        self.0
            .iter()
            .find(|((first, _), _)| *first == name)
            .map_or(0, |(_, count)| *count)
    }

    /// All names with their counts.
    pub fn counts(&self) -> impl Iterator<Item = (Name, u64)> {
        self.0.iter().copied()
    }

    /// Sum of all counts.
    pub fn total(&self) -> u64 {
        self.0.iter().map(|(_, count)| count).sum()
    }

    /// All counts as text for the log, such as `2 full, 1 refused`.
    pub fn in_words(&self) -> String {
        let mut words = String::new();
        for ((name, _), count) in &self.0 {
            let separator = if words.is_empty() { "" } else { ", " };
            words.push_str(separator);
            words.push_str(&count.to_string());
            words.push(' ');
            words.push_str(name);
        }
        words
    }

    fn add_many(&mut self, name: Name, by: u64) {
        match self.0.iter_mut().find(|(known, _)| *known == name) {
            Some((_, count)) => *count += by,
            None => self.0.push((name, by)),
        }
    }
}

impl Serialize for Counter {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for ((source, reason), count) in &self.0 {
            match reason.is_empty() {
                true => map.serialize_entry(source, count)?,
                false => map.serialize_entry(&format!("{source}: {reason}"), count)?,
            }
        }
        map.end()
    }
}
