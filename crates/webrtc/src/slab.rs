//! A table of sessions with keys that are never mistaken for a later session's.

/// Names one entry for as long as it lives, and nothing afterwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Key {
    index: u32,
    generation: u32,
}

/// Entries that lie one behind the other. They stay where they are when the table grows.
const CHUNK: usize = 256;

/// The table.
pub(crate) struct Slab<T> {
    /// All but the last are full.
    chunks: Vec<Vec<Slot<T>>>,
    free: Vec<u32>,
}

struct Slot<T> {
    generation: u32,
    value: Option<T>,
}

impl<T> Slab<T> {
    pub(crate) fn new() -> Self {
        Self { chunks: Vec::new(), free: Vec::new() }
    }

    pub(crate) fn len(&self) -> usize {
        self.slots() - self.free.len()
    }

    /// The key that the next inserted value gets.
    pub(crate) fn next_key(&self) -> Key {
        match self.free.last() {
            Some(index) => {
                let slot = &self.chunks[*index as usize / CHUNK][*index as usize % CHUNK];
                Key { index: *index, generation: slot.generation }
            }
            None => Key { index: self.slots() as u32, generation: 0 },
        }
    }

    pub(crate) fn insert(&mut self, value: T) -> Key {
        let key = self.next_key();
        match self.free.pop() {
            Some(index) => self.chunks[index as usize / CHUNK][index as usize % CHUNK].value = Some(value),
            None => {
                let slot = Slot { generation: 0, value: Some(value) };
                match self.chunks.last_mut().filter(|chunk| chunk.len() < CHUNK) {
                    Some(chunk) => chunk.push(slot),
                    None => {
                        let mut chunk = Vec::with_capacity(CHUNK);
                        chunk.push(slot);
                        self.chunks.push(chunk);
                    }
                }
            }
        }
        key
    }

    pub(crate) fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        let slot = self.slot(key)?;
        slot.value.as_mut()
    }

    pub(crate) fn remove(&mut self, key: Key) -> Option<T> {
        let slot = self.slot(key)?;
        let value = slot.value.take()?;
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(key.index);
        Some(value)
    }

    /// Every key in use.
    pub(crate) fn keys(&self) -> Vec<Key> {
        let used = self.chunks.iter().flatten().enumerate().filter(|(_, slot)| slot.value.is_some());
        used.map(|(index, slot)| Key { index: index as u32, generation: slot.generation }).collect()
    }

    fn slots(&self) -> usize {
        self.chunks.last().map_or(0, |last| (self.chunks.len() - 1) * CHUNK + last.len())
    }

    fn slot(&mut self, key: Key) -> Option<&mut Slot<T>> {
        let slot = self.chunks.get_mut(key.index as usize / CHUNK)?.get_mut(key.index as usize % CHUNK)?;
        (slot.generation == key.generation).then_some(slot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_outlives_its_entry_and_finds_nothing() {
        let mut slab = Slab::new();
        let expected = slab.next_key();
        let first = slab.insert("first");
        assert_eq!(first, expected);
        assert_eq!(slab.remove(first), Some("first"));
        let second = slab.insert("second");
        assert_eq!(slab.get_mut(first), None);
        assert_eq!(slab.remove(first), None);
        assert_eq!(slab.get_mut(second), Some(&mut "second"));
        assert_eq!((slab.len(), slab.keys()), (1, vec![second]));
    }

    #[test]
    fn entries_keep_their_keys_however_many_come() {
        let mut slab = Slab::new();
        let keys: Vec<Key> = (0..3 * CHUNK + 1).map(|value| slab.insert(value)).collect();
        assert_eq!(slab.keys(), keys);
        assert_eq!(slab.remove(keys[CHUNK]), Some(CHUNK));
        assert_eq!(slab.len(), 3 * CHUNK);
        let again = slab.insert(7);
        assert_eq!(slab.get_mut(again), Some(&mut 7));
        assert_eq!(slab.get_mut(keys[CHUNK]), None);
        for (value, key) in keys.into_iter().enumerate().filter(|(value, _)| *value != CHUNK) {
            assert_eq!(slab.get_mut(key), Some(&mut { value }));
        }
    }
}
