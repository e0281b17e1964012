//! Likes on their way to the room: summed where they come in, since thousands may come in a moment.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use haul_room::crowd::MAX_LIKES_AT_ONCE;
use haul_wire::crowd::Reaction;

/// The room is told of likes so long after the first of them.
pub(crate) const LIKES_AFTER: Duration = Duration::from_millis(250);

/// Likes that the room has not heard of.
///
/// A lock, since every connection adds to it; held for an addition.
#[derive(Debug, Default)]
pub(crate) struct Likes(Mutex<BTreeMap<Reaction, u32>>);

impl Likes {
    /// Adds some; true where these are the first.
    pub(crate) fn add(&self, kind: Reaction, count: u32) -> bool {
        let mut likes = self.lock();
        let first = likes.is_empty();
        let sum = likes.entry(kind).or_default();
        *sum = sum.saturating_add(count.clamp(1, MAX_LIKES_AT_ONCE));
        first
    }

    /// All of them; from here on, the next are the first again.
    pub(crate) fn take(&self) -> BTreeMap<Reaction, u32> {
        std::mem::take(&mut *self.lock())
    }

    /// Adds what was taken, and could not be handed over.
    pub(crate) fn put_back(&self, likes: BTreeMap<Reaction, u32>) {
        let mut known = self.lock();
        for (kind, count) in likes {
            let sum = known.entry(kind).or_default();
            *sum = sum.saturating_add(count);
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Reaction, u32>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn likes_are_summed_by_kind_until_they_are_fetched() {
        let likes = Likes::default();
        assert!(likes.add(Reaction::Heart, 3));
        assert!(!likes.add(Reaction::Heart, 500), "one message counts as so many at most");
        assert!(!likes.add(Reaction::Fire, 0));
        assert_eq!(likes.take(), BTreeMap::from([(Reaction::Heart, 23), (Reaction::Fire, 1)]));
        assert!(likes.add(Reaction::Heart, 1), "the next are the first");
    }
}
