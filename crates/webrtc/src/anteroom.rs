//! Where those who are not connected yet wait until the shard has time for them.
//!
//! A handshake takes a core a fifth of a millisecond and more, and hundreds come at once when a live begins. Those who
//! watch already must not wait for it: what newcomers send is kept here, and each turn of the shard spends a little time
//! on it. Here is kept account of whose turn it is; no clock is read.

use std::{
    collections::{HashMap, VecDeque},
    time::{Duration, Instant},
};

use crate::{route::Route, slab::Key};

/// The most datagrams of one newcomer that wait. A further one is dropped, and the client sends it again: a browser's
/// flights have two or three.
const MAX_OF_ONE: usize = 32;
/// The most that wait altogether; the same.
const MAX_DATAGRAMS: usize = 4_096;

/// Datagrams of one newcomer, and where they came from.
type Datagrams = Vec<(Route, Box<[u8]>)>;

/// Newcomers' datagrams.
#[derive(Default)]
pub(crate) struct Anteroom {
    /// In whose turn it is. Each is in here once at most.
    turns: VecDeque<Key>,
    waiting: HashMap<Key, Datagrams>,
    datagrams: usize,
}

impl Anteroom {
    /// Keeps a datagram of a newcomer. False if there is no room for it.
    pub(crate) fn push(&mut self, key: Key, from: Route, datagram: &[u8]) -> bool {
        let waiting = self.waiting.entry(key).or_default();
        if waiting.is_empty() {
            self.turns.push_back(key);
        }
        if !waiting.is_empty() && (waiting.len() >= MAX_OF_ONE || self.datagrams >= MAX_DATAGRAMS) {
            return false;
        }
        waiting.push((from, datagram.into()));
        self.datagrams += 1;
        true
    }

    /// All that has come from whoever has waited longest.
    pub(crate) fn next(&mut self) -> Option<(Key, Datagrams)> {
        let key = self.turns.pop_front()?;
        let datagrams = self.waiting.remove(&key).unwrap_or_default();
        self.datagrams -= datagrams.len();
        Some((key, datagrams))
    }

    /// Forgets a newcomer who is gone.
    pub(crate) fn forget(&mut self, key: Key) {
        if let Some(datagrams) = self.waiting.remove(&key) {
            self.datagrams -= datagrams.len();
            self.turns.retain(|turn| *turn != key);
        }
    }

    /// Whether something of this session waits, behind which anything else of it has to go.
    pub(crate) fn has(&self, key: Key) -> bool {
        self.waiting.contains_key(&key)
    }

    /// How many newcomers wait.
    pub(crate) fn len(&self) -> usize {
        self.turns.len()
    }
}

/// How long one kind of work may go on in a turn.
pub(crate) struct Allowance {
    until: Instant,
    begun: bool,
}

impl Allowance {
    pub(crate) fn new(now: Instant, time: Duration) -> Self {
        Self { until: now + time, begun: false }
    }

    /// Whether one more thing may be done: the first always, so that nothing waits for ever.
    pub(crate) fn has_time(&mut self, now: Instant) -> bool {
        !std::mem::replace(&mut self.begun, true) || now < self.until
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::slab::Slab;

    fn keys(count: usize) -> Vec<Key> {
        let mut slab = Slab::new();
        (0..count).map(|_| slab.insert(())).collect()
    }

    fn route() -> Route {
        Route::udp(([127, 0, 0, 1], 9).into())
    }

    fn next(room: &mut Anteroom) -> Option<(Key, Vec<u8>)> {
        let (key, datagrams) = room.next()?;
        Some((key, datagrams.iter().map(|(_, bytes)| bytes[0]).collect()))
    }

    #[test]
    fn newcomers_take_turns_and_what_they_sent_stays_in_order() {
        let (mut room, keys) = (Anteroom::default(), keys(2));
        for (key, byte) in [(0, 1), (0, 2), (1, 3), (0, 4)] {
            assert!(room.push(keys[key], route(), &[byte]));
        }
        assert!(room.has(keys[0]) && room.len() == 2);
        assert_eq!(next(&mut room), Some((keys[0], vec![1, 2, 4])));
        assert!(!room.has(keys[0]));
        assert!(room.push(keys[0], route(), &[5]));
        assert_eq!(next(&mut room), Some((keys[1], vec![3])), "whoever comes again stands behind the others");
        assert_eq!(next(&mut room), Some((keys[0], vec![5])));
        assert_eq!(next(&mut room), None);
    }

    #[test]
    fn one_who_sends_much_takes_no_room_from_the_others() {
        let (mut room, keys) = (Anteroom::default(), keys(2));
        let taken = (0..1_000).filter(|_| room.push(keys[0], route(), &[1])).count();
        assert_eq!(taken, MAX_OF_ONE);
        assert!(room.push(keys[1], route(), &[2]));
        assert_eq!(room.datagrams, MAX_OF_ONE + 1);
    }

    #[test]
    fn a_full_room_takes_one_datagram_of_each_newcomer() {
        let (mut room, keys) = (Anteroom::default(), keys(MAX_DATAGRAMS / MAX_OF_ONE + 1));
        let (last, others) = keys.split_last().unwrap();
        for key in others {
            for _ in 0..MAX_OF_ONE {
                assert!(room.push(*key, route(), &[1]));
            }
        }
        assert!(room.push(*last, route(), &[1]));
        assert!(!room.push(*last, route(), &[1]));
    }

    #[test]
    fn who_is_gone_leaves_nothing_behind() {
        let (mut room, keys) = (Anteroom::default(), keys(2));
        room.push(keys[0], route(), &[1]);
        room.push(keys[1], route(), &[2]);
        room.forget(keys[0]);
        room.forget(keys[0]);
        assert_eq!(next(&mut room), Some((keys[1], vec![2])));
        assert_eq!((room.len(), room.datagrams, room.waiting.len()), (0, 0, 0));
    }

    #[test]
    fn an_allowance_allows_one_thing_whatever_the_time_is() {
        let now = Instant::now();
        let at = |us| now + Duration::from_micros(us);
        let mut allowance = Allowance::new(now, Duration::from_micros(500));
        let allowed: Vec<bool> = [900, 100, 499, 500].map(|us| allowance.has_time(at(us))).to_vec();
        assert_eq!(allowed, [true, true, true, false]);
    }
}
