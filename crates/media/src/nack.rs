//! Which lost packets to ask the host for again, and when: soon, but not for what is only late; again after a round trip,
//! and then ever less often; and not for ever, because what a full link drops is not helped by more of the same.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

/// How long a missing packet may be merely late.
pub const REORDER_TIME: Duration = Duration::from_millis(10);
/// So many later packets prove sooner that it is not. On a path where packets overtake each other, it takes more: as
/// many as were seen to.
pub const REORDER_PACKETS: u64 = 3;
/// How often one packet is asked for at most.
pub const MAX_REQUESTS: u8 = 6;
/// The most packets asked for at a time: twice as many as a large keyframe has. Of more, the newest are left out.
pub const MAX_WANTED: usize = 512;
/// What a round trip is taken to be before one is measured, and the range that measured ones are held to.
const ROUND_TRIP: Duration = Duration::from_millis(60);
const ROUND_TRIP_RANGE: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));

/// The packets that are missing from one stream, by extended sequence number.
#[derive(Debug, Default)]
pub struct Nacks {
    missing: BTreeMap<u64, Wanted>,
    /// The last packet that arrived in order.
    newest: u64,
    /// By how many packets others were overtaken so far.
    overtaken: u64,
    /// From asking to getting, smoothed; `None` before the first time.
    round_trip: Option<Duration>,
}

#[derive(Debug, Clone, Copy)]
struct Wanted {
    /// When to ask (again).
    due: Instant,
    /// When it was first asked for.
    asked: Option<Instant>,
    times: u8,
}

impl Nacks {
    /// Packet `newest` has arrived, and those from `from` up to it have not.
    pub fn miss(&mut self, from: u64, newest: u64, now: Instant) {
        for sequence in from..newest {
            if self.missing.len() == MAX_WANTED {
                break;
            }
            self.missing.insert(sequence, Wanted { due: now + REORDER_TIME, asked: None, times: 0 });
        }
        self.newest = self.newest.max(newest);
        let proved = newest.saturating_sub(self.overtaken.max(REORDER_PACKETS) - 1);
        for wanted in self.missing.range_mut(..proved).map(|(_, wanted)| wanted) {
            if wanted.times == 0 {
                wanted.due = wanted.due.min(now);
            }
        }
    }

    /// A packet has arrived, late or asked for.
    pub fn arrive(&mut self, sequence: u64, now: Instant) {
        let Some(wanted) = self.missing.remove(&sequence) else { return };
        let waited = wanted.asked.map(|asked| now.saturating_duration_since(asked));
        if waited.is_none_or(|waited| waited < ROUND_TRIP_RANGE.0) {
            // Too soon to be an answer.
            self.overtaken = self.overtaken.max(self.newest.saturating_sub(sequence) + 1);
            return;
        }
        // After several requests nobody knows which was answered (Karn's rule). But if requests have never been waited
        // out yet, it was the first: what round trips are taken to be is too short.
        if let Some(waited) = waited
            && (wanted.times == 1 || self.round_trip.is_none())
        {
            let measured = waited.min(ROUND_TRIP_RANGE.1);
            self.round_trip = Some(self.round_trip.map_or(measured, |before| (before * 7 + measured) / 8));
        }
    }

    /// What comes before `front` is not waited for any more.
    pub fn forget_before(&mut self, front: u64) {
        if self.missing.first_key_value().is_some_and(|(first, _)| *first < front) {
            self.missing = self.missing.split_off(&front);
        }
    }

    /// The stream starts anew elsewhere.
    pub fn restart(&mut self) {
        self.missing.clear();
        self.newest = 0;
    }

    /// How long the host takes to send something again.
    pub fn round_trip(&self) -> Option<Duration> {
        self.round_trip
    }

    /// What to ask for now, in order. Taken as asked for.
    pub fn poll(&mut self, now: Instant) -> Vec<u16> {
        let round_trip = self.round_trip.unwrap_or(ROUND_TRIP);
        // A quarter more than usual, before it is taken to be lost again.
        let patience = round_trip + (round_trip / 4).max(REORDER_TIME);
        let mut due = Vec::new();
        for (sequence, wanted) in &mut self.missing {
            if wanted.times == MAX_REQUESTS || now < wanted.due {
                continue;
            }
            due.push(*sequence as u16);
            wanted.asked.get_or_insert(now);
            wanted.due = now + patience * (1 << wanted.times);
            wanted.times += 1;
        }
        due
    }

    /// When to [`Nacks::poll`] again.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.missing.values().filter(|wanted| wanted.times < MAX_REQUESTS).map(|wanted| wanted.due).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::start;

    fn at(ms: u64) -> Instant {
        start().instant + Duration::from_millis(ms)
    }

    #[test]
    fn what_is_merely_late_is_not_asked_for() {
        let mut nacks = Nacks::default();
        nacks.miss(7, 8, at(0));
        nacks.miss(9, 9, at(1));
        assert!(nacks.poll(at(2)).is_empty());
        nacks.arrive(7, at(3));
        assert!(nacks.poll(at(500)).is_empty());
        assert_eq!(nacks.poll_timeout(), None);
    }

    #[test]
    fn three_later_packets_or_ten_milliseconds_prove_a_loss() {
        let mut nacks = Nacks::default();
        nacks.miss(7, 8, at(0));
        nacks.miss(9, 9, at(1));
        nacks.miss(10, 10, at(2));
        assert_eq!(nacks.poll(at(2)), [7]);
        let mut nacks = Nacks::default();
        nacks.miss(65_535, 65_537, at(0));
        assert_eq!((nacks.poll(at(9)), nacks.poll_timeout()), (vec![], Some(at(10))));
        assert_eq!(nacks.poll(at(10)), [65_535, 0], "across the wrap");
    }

    #[test]
    fn requests_grow_rarer_and_end() {
        let mut nacks = Nacks::default();
        nacks.miss(7, 8, at(0));
        let mut asked = Vec::new();
        while let Some(due) = nacks.poll_timeout() {
            assert_eq!(nacks.poll(due), [7]);
            asked.push((due - at(0)).as_millis());
        }
        // 60 ms and a quarter, then twice as long each time.
        assert_eq!(asked, [10, 85, 235, 535, 1_135, 2_335]);
    }

    #[test]
    fn the_round_trip_is_measured_by_what_was_asked_for_once() {
        let mut nacks = Nacks::default();
        nacks.miss(7, 9, at(0));
        assert_eq!(nacks.poll(at(10)), [7, 8]);
        nacks.arrive(7, at(30));
        assert_eq!(nacks.round_trip(), Some(Duration::from_millis(20)));
        assert_eq!(nacks.poll(at(85)), [8]);
        nacks.arrive(8, at(86));
        assert_eq!(nacks.round_trip(), Some(Duration::from_millis(20)), "which request was that for?");
        nacks.miss(20, 21, at(100));
        assert_eq!(nacks.poll(at(110)), [20]);
        assert_eq!(nacks.poll_timeout(), Some(at(140)), "by the round trip of 20 ms, and 10");
    }

    #[test]
    fn a_round_trip_longer_than_thought_is_learnt() {
        let mut nacks = Nacks::default();
        nacks.miss(7, 8, at(0));
        assert_eq!((nacks.poll(at(10)), nacks.poll(at(85))), (vec![7], vec![7]));
        nacks.arrive(7, at(210));
        assert_eq!(nacks.round_trip(), Some(Duration::from_millis(200)));
    }

    #[test]
    fn what_was_given_up_is_not_asked_for_and_a_flood_of_holes_is_bounded() {
        let mut nacks = Nacks::default();
        nacks.miss(0, 5_000, at(0));
        assert_eq!(nacks.poll(at(10)).len(), MAX_WANTED);
        nacks.forget_before(500);
        assert_eq!(nacks.poll(at(1_000)).len(), 12);
        nacks.forget_before(5_000);
        assert_eq!(nacks.poll_timeout(), None);
    }
}
