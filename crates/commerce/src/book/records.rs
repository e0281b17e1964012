//! Every hold of a book, found by its id, by its buyer, and by when it ends or may be forgotten.
//!
//! A hold lies in one place as long as the book knows it, and all that finds it names the place: what is done for each hold
//! of a sale that is sold within seconds is two hashes and a few numbers, and no comparison of texts.

use std::{
    collections::{BTreeMap, hash_map::RandomState},
    hash::BuildHasher,
    mem,
};

use hashbrown::{HashTable, hash_table};
use haul_model::{BuyerId, HoldId, UnixMillis};

use super::HoldRecord;

/// Where a hold lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place(u32);

/// What the present call has to do with a hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Touch {
    /// An operation named it: it is told.
    Named,
    /// It changed: it is told and written down.
    Changed,
}

/// A hold in a table, with the hash that it is found by: what is looked for is told from others, and a table grows, without
/// a look at the hold.
#[derive(Debug, Clone, Copy)]
struct Entry {
    place: Place,
    hash: Hash,
}

/// Half of a hash, since a table has as many entries again for the same memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Hash(u32);

impl Hash {
    fn of(hasher: &RandomState, text: &str) -> Self {
        Self(hasher.hash_one(text) as u32)
    }

    /// As tables want it: they take a bucket from one end and a tag from the other.
    fn spread(self) -> u64 {
        u64::from(self.0) << 32 | u64::from(self.0)
    }
}

#[derive(Debug, Clone)]
struct Slot {
    record: HoldRecord,
    hash: Hash,
    buyer_hash: Hash,
    /// The next hold of the same buyer that counts for them.
    next_of_buyer: Option<Place>,
    /// Where in its moment's list it stands, while it has a deadline or may be forgotten some time.
    nth: u32,
    touch: Option<Touch>,
}

/// The holds of a book.
#[derive(Debug, Clone, Default)]
pub(super) struct Records {
    slots: Vec<Option<Slot>>,
    /// Empty places.
    free: Vec<Place>,
    by_id: HashTable<Entry>,
    /// The first hold of each buyer who has one that counts for them; the others hang on to it.
    by_buyer: HashTable<Entry>,
    /// Keyed at random: ids are chosen outside.
    hasher: RandomState,
    /// HELD and PAYING holds by deadline.
    deadlines: Calendar,
    /// RELEASED and LATE holds by when they may be forgotten.
    over: Calendar,
    /// What the present call touched, each once; and places that it emptied, which nobody takes before the next.
    touched: Vec<Place>,
    emptied: Vec<Place>,
}

impl Records {
    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &HoldRecord> {
        self.slots.iter().flatten().map(|slot| &slot.record)
    }

    pub(super) fn find(&self, hold: &HoldId) -> Option<Place> {
        self.find_hashed(Hash::of(&self.hasher, hold.as_str()), hold)
    }

    fn find_hashed(&self, hash: Hash, hold: &HoldId) -> Option<Place> {
        let same = |entry: &Entry| entry.hash == hash && self.slot(entry.place).record.hold == *hold;
        self.by_id.find(hash.spread(), same).map(|entry| entry.place)
    }

    pub(super) fn get(&self, hold: &HoldId) -> Option<&HoldRecord> {
        self.find(hold).map(|place| self.at(place))
    }

    pub(super) fn at(&self, place: Place) -> &HoldRecord {
        &self.slot(place).record
    }

    /// Puts a hold in, and gives what it was before.
    pub(super) fn put(&mut self, record: HoldRecord) -> (Place, Option<HoldRecord>) {
        let hash = Hash::of(&self.hasher, record.hold.as_str());
        let Some(place) = self.find_hashed(hash, &record.hold) else {
            return (self.put_new(hash, record), None);
        };
        let before = self.at(place).clone();
        self.unlink(place);
        if record.buyer != before.buyer {
            self.slot_mut(place).buyer_hash = Hash::of(&self.hasher, record.buyer.as_str());
        }
        self.slot_mut(place).record = record;
        self.link(place);
        (place, Some(before))
    }

    fn put_new(&mut self, hash: Hash, record: HoldRecord) -> Place {
        let buyer_hash = Hash::of(&self.hasher, record.buyer.as_str());
        let slot = Slot { record, hash, buyer_hash, next_of_buyer: None, nth: 0, touch: None };
        let place = match self.free.pop() {
            Some(place) => {
                self.slots[place.index()] = Some(slot);
                place
            }
            None => {
                let place =
                    Place(u32::try_from(self.slots.len()).expect("fewer holds than memory has room for"));
                self.slots.push(Some(slot));
                place
            }
        };
        self.by_id.insert_unique(hash.spread(), Entry { place, hash }, |entry| entry.hash.spread());
        self.link(place);
        place
    }

    /// Forgets a hold.
    pub(super) fn remove(&mut self, place: Place) {
        self.unlink(place);
        let hash = self.slot(place).hash;
        if let Ok(entry) = self.by_id.find_entry(hash.spread(), |known| known.place == place) {
            entry.remove();
        }
        self.slots[place.index()] = None;
        self.emptied.push(place);
    }

    /// The holds of a buyer that count for them.
    pub(super) fn of_buyer(&self, buyer: &BuyerId) -> impl Iterator<Item = &HoldRecord> {
        let first = self.first_of(Hash::of(&self.hasher, buyer.as_str()), buyer);
        let places = std::iter::successors(first, |place| self.slot(*place).next_of_buyer);
        places.map(|place| self.at(place))
    }

    fn first_of(&self, hash: Hash, buyer: &BuyerId) -> Option<Place> {
        let same = |entry: &Entry| entry.hash == hash && self.slot(entry.place).record.buyer == *buyer;
        self.by_buyer.find(hash.spread(), same).map(|entry| entry.place)
    }

    /// The earliest deadline.
    pub(super) fn next_deadline(&self) -> Option<UnixMillis> {
        self.deadlines.first()
    }

    /// The holds with the earliest deadline, by id, if it has passed.
    pub(super) fn due(&self, now: UnixMillis) -> Option<Vec<Place>> {
        let mut due = self.deadlines.until(now)?.to_vec();
        due.sort_unstable_by(|a, b| self.at(*a).hold.cmp(&self.at(*b).hold));
        Some(due)
    }

    /// The holds that may be forgotten first, if they may be.
    pub(super) fn forgettable(&self, now: UnixMillis) -> Option<Vec<Place>> {
        self.over.until(now).map(<[Place]>::to_vec)
    }

    /// Begins a call: nothing is touched yet.
    pub(super) fn begin(&mut self) {
        for place in self.touched.drain(..) {
            if let Some(slot) = &mut self.slots[place.index()] {
                slot.touch = None;
            }
        }
        self.free.append(&mut self.emptied);
    }

    pub(super) fn touch(&mut self, place: Place, touch: Touch) {
        let slot = filled_mut(&mut self.slots[place.index()]);
        if slot.touch.is_none() {
            self.touched.push(place);
        }
        slot.touch = slot.touch.max(Some(touch));
    }

    /// What the call touched at least like this and is still there, in the order of its first touch.
    pub(super) fn touched(&self, at_least: Touch) -> impl Iterator<Item = &HoldRecord> {
        let slots = self.touched.iter().filter_map(|place| self.slots[place.index()].as_ref());
        slots.filter(move |slot| slot.touch >= Some(at_least)).map(|slot| &slot.record)
    }

    /// Makes a hold found by its buyer and its time.
    fn link(&mut self, place: Place) {
        let slot = self.slot(place);
        let (buyer_hash, counts) = (slot.buyer_hash, slot.record.counts_for_buyer());
        let (deadline, forget_at) = (slot.record.ends_at(), slot.record.forget_at());
        if counts {
            let slots = &self.slots;
            let buyer = &filled(&slots[place.index()]).record.buyer;
            let same = |entry: &Entry| {
                entry.hash == buyer_hash && filled(&slots[entry.place.index()]).record.buyer == *buyer
            };
            let next = match self.by_buyer.entry(buyer_hash.spread(), same, |entry| entry.hash.spread()) {
                hash_table::Entry::Occupied(mut first) => {
                    Some(mem::replace(&mut first.get_mut().place, place))
                }
                hash_table::Entry::Vacant(none) => {
                    none.insert(Entry { place, hash: buyer_hash });
                    None
                }
            };
            self.slot_mut(place).next_of_buyer = next;
        }
        if let Some(at) = deadline {
            self.slot_mut(place).nth = self.deadlines.insert(at, place);
        }
        if let Some(at) = forget_at {
            self.slot_mut(place).nth = self.over.insert(at, place);
        }
    }

    /// Undoes `link`.
    fn unlink(&mut self, place: Place) {
        let slot = self.slot(place);
        let (nth, counts) = (slot.nth, slot.record.counts_for_buyer());
        let (deadline, forget_at) = (slot.record.ends_at(), slot.record.forget_at());
        if counts {
            self.unlink_of_buyer(place);
        }
        let moved = match (deadline, forget_at) {
            (Some(at), _) => self.deadlines.remove(at, nth),
            (None, Some(at)) => self.over.remove(at, nth),
            (None, None) => None,
        };
        if let Some(moved) = moved {
            self.slot_mut(moved).nth = nth;
        }
    }

    fn unlink_of_buyer(&mut self, place: Place) {
        let next = self.slot_mut(place).next_of_buyer.take();
        let slot = self.slot(place);
        let hash = slot.buyer_hash;
        let Some(first) = self.first_of(hash, &slot.record.buyer) else { return };
        if first != place {
            let mut chain = std::iter::successors(Some(first), |place| self.slot(*place).next_of_buyer);
            if let Some(before) = chain.find(|known| self.slot(*known).next_of_buyer == Some(place)) {
                self.slot_mut(before).next_of_buyer = next;
            }
        } else if let Ok(mut entry) = self.by_buyer.find_entry(hash.spread(), |known| known.place == first) {
            match next {
                Some(next) => entry.get_mut().place = next,
                None => {
                    entry.remove();
                }
            }
        }
    }

    fn slot(&self, place: Place) -> &Slot {
        filled(&self.slots[place.index()])
    }

    fn slot_mut(&mut self, place: Place) -> &mut Slot {
        filled_mut(&mut self.slots[place.index()])
    }
}

impl Place {
    fn index(self) -> usize {
        self.0 as usize
    }
}

fn filled(slot: &Option<Slot>) -> &Slot {
    slot.as_ref().expect("who names a place keeps it filled")
}

fn filled_mut(slot: &mut Option<Slot>) -> &mut Slot {
    slot.as_mut().expect("who names a place keeps it filled")
}

/// Holds by a moment. Many have the same one, so it is a list a moment, out of which each is taken without a search.
#[derive(Debug, Clone, Default)]
struct Calendar(BTreeMap<UnixMillis, Vec<Place>>);

impl Calendar {
    fn first(&self) -> Option<UnixMillis> {
        self.0.first_key_value().map(|(at, _)| *at)
    }

    /// Those of the first moment, if it has come.
    fn until(&self, now: UnixMillis) -> Option<&[Place]> {
        self.0.first_key_value().filter(|(at, _)| **at <= now).map(|(_, places)| &**places)
    }

    /// Gives where in the moment's list it is put.
    fn insert(&mut self, at: UnixMillis, place: Place) -> u32 {
        let places = self.0.entry(at).or_default();
        places.push(place);
        places.len() as u32 - 1
    }

    /// Takes the `nth` of a moment's list out, and gives the one that is there now in its place.
    fn remove(&mut self, at: UnixMillis, nth: u32) -> Option<Place> {
        let places = self.0.get_mut(&at)?;
        places.swap_remove(nth as usize);
        if places.is_empty() {
            self.0.remove(&at);
            return None;
        }
        places.get(nth as usize).copied()
    }
}
