//! A map by keys of 64 bits that are hashes already. One kind of hash table serves all values, since each kind
//! would stand in the module anew.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use siphasher::sip::SipHasher13;

/// The key of some texts.
pub fn key_of(parts: &[&str]) -> u64 {
    let mut hasher = SipHasher13::new();
    for part in parts {
        hasher.write(part.as_bytes());
        hasher.write_u8(0xff);
    }
    hasher.finish()
}

/// The keys are well mixed as they are.
#[derive(Debug, Clone, Copy, Default)]
struct AsItIs(u64);

impl Hasher for AsItIs {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, _: &[u8]) {}
    fn write_u64(&mut self, key: u64) {
        self.0 = key;
    }
}

/// The map.
#[derive(Debug)]
pub struct Table<V> {
    places: HashMap<u64, u32, BuildHasherDefault<AsItIs>>,
    values: Vec<Option<(u64, V)>>,
    free: Vec<u32>,
}

impl<V> Default for Table<V> {
    fn default() -> Self {
        Self {
            places: HashMap::default(),
            values: Vec::new(),
            free: Vec::new(),
        }
    }
}

impl<V> Table<V> {
    /// How many values there are.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Whether a key is there.
    pub fn contains(&self, key: u64) -> bool {
        self.places.contains_key(&key)
    }

    /// A key's value.
    pub fn get(&self, key: u64) -> Option<&V> {
        let place = *self.places.get(&key)? as usize;
        self.values.get(place)?.as_ref().map(|(_, value)| value)
    }

    /// A key's value, to change.
    pub fn get_mut(&mut self, key: u64) -> Option<&mut V> {
        let place = *self.places.get(&key)? as usize;
        self.values.get_mut(place)?.as_mut().map(|(_, value)| value)
    }

    /// A key's value; a new one where there is none.
    pub fn entry(&mut self, key: u64, new: impl FnOnce() -> V) -> &mut V {
        let place = match self.places.get(&key) {
            Some(place) => *place as usize,
            None => self.place(key),
        };
        let (_, value) = self.values[place].get_or_insert_with(|| (key, new()));
        value
    }

    /// Puts a value under a key.
    pub fn insert(&mut self, key: u64, value: V) {
        let place = match self.places.get(&key) {
            Some(place) => *place as usize,
            None => self.place(key),
        };
        self.values[place] = Some((key, value));
    }

    /// Takes a key's value away.
    pub fn remove(&mut self, key: u64) -> Option<V> {
        let place = self.places.remove(&key)?;
        self.free.push(place);
        let (_, value) = self.values.get_mut(place as usize)?.take()?;
        Some(value)
    }

    /// All keys.
    pub fn keys(&self) -> impl Iterator<Item = u64> {
        self.values.iter().flatten().map(|(key, _)| *key)
    }

    /// All values.
    pub fn values(&self) -> impl Iterator<Item = &V> {
        self.values.iter().flatten().map(|(_, value)| value)
    }

    /// Keeps the values for which that holds.
    pub fn retain(&mut self, mut holds: impl FnMut(&mut V) -> bool) {
        for (place, slot) in self.values.iter_mut().enumerate() {
            if let Some((key, value)) = slot
                && !holds(value)
            {
                self.places.remove(key);
                self.free.push(place as u32);
                *slot = None;
            }
        }
    }

    fn place(&mut self, key: u64) -> usize {
        let place = self.free.pop().unwrap_or_else(|| {
            self.values.push(None);
            (self.values.len() - 1) as u32
        });
        self.places.insert(key, place);
        place as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_does_as_a_map_does() {
        let mut table = Table::default();
        for key in 0..100 {
            table.insert(key, key * 2);
        }
        assert_eq!(table.remove(7), Some(14));
        assert_eq!((table.remove(7), table.get(7)), (None, None));
        table.retain(|value| *value % 3 == 0);
        assert_eq!(table.len(), 34);
        *table.entry(7, || 1) += 1;
        *table.entry(7, || 1) += 1;
        assert_eq!(table.get(7), Some(&3));
        assert_eq!(table.values().count(), 35);
        assert!(table.keys().all(|key| table.contains(key)));
    }
}
