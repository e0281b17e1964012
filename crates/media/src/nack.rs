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
/// A picture whose last packet is lost would not be missed before the next picture comes. So when nothing has come of it for
/// this time, or for so many times as long as it usually takes within a picture, the next packet is asked for at once. A
/// host that has not sent it yet has nothing to answer, which costs nobody anything.
const TAIL_TIME: Duration = Duration::from_millis(20);
const TAIL_GAPS: u32 = 3;
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
    /// What follows the newest packet, while its picture is not complete.
    tail: Option<Tail>,
    /// How long passes between a picture's packets, smoothed.
    gap: Duration,
}

/// The next packet of a picture that is not complete.
#[derive(Debug, Clone, Copy)]
struct Tail {
    sequence: u64,
    /// When the one before it came.
    since: Instant,
    /// When it is asked for, and when it was.
    due: Instant,
    asked: Option<Instant>,
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
    /// Packet `newest` has arrived, ahead of all others; `ends` its picture or not.
    pub fn advance(&mut self, newest: u64, ends: bool, now: Instant) {
        if let Some(before) = self.tail.filter(|tail| tail.sequence == newest && tail.asked.is_none()) {
            self.gap = (self.gap * 7 + now.saturating_duration_since(before.since)) / 8;
        }
        let due = now + TAIL_TIME.max(self.gap * TAIL_GAPS);
        self.tail = (!ends).then_some(Tail { sequence: newest + 1, since: now, due, asked: None });
    }

    /// Packet `newest` has arrived, and those from `from` up to it have not.
    pub fn miss(&mut self, from: u64, newest: u64, now: Instant) {
        for sequence in from..newest {
            if self.missing.len() == MAX_WANTED {
                break;
            }
            // It may have been asked for as a picture's last.
            let asked = self.tail.filter(|tail| tail.sequence == sequence).and_then(|tail| tail.asked);
            let due = asked.map_or(now + REORDER_TIME, |asked| asked + self.patience());
            self.missing.insert(sequence, Wanted { due, asked, times: u8::from(asked.is_some()) });
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
        self.tail = None;
    }

    /// How long the host takes to send something again.
    pub fn round_trip(&self) -> Option<Duration> {
        self.round_trip
    }

    /// What to ask for now, in order. Taken as asked for.
    pub fn poll(&mut self, now: Instant) -> Vec<u16> {
        let patience = self.patience();
        let mut due = Vec::new();
        for (sequence, wanted) in &mut self.missing {
            if wanted.times == MAX_REQUESTS || now < wanted.due {
                continue;
            }
            due.push(*sequence as u16);
            wanted.asked.get_or_insert(now);
            // The first answer may have been lost like any packet: only after the second does a line look full.
            wanted.due = now + patience * (1 << wanted.times.saturating_sub(1));
            wanted.times += 1;
        }
        if let Some(tail) = self.tail.as_mut().filter(|tail| tail.asked.is_none() && tail.due <= now) {
            tail.asked = Some(now);
            due.push(tail.sequence as u16);
        }
        due
    }

    /// A quarter more than it usually takes, before it is taken to be lost again.
    fn patience(&self) -> Duration {
        let round_trip = self.round_trip.unwrap_or(ROUND_TRIP);
        round_trip + (round_trip / 4).max(REORDER_TIME)
    }

    /// When to [`Nacks::poll`] again.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let missing = self.missing.values().filter(|wanted| wanted.times < MAX_REQUESTS);
        let tail = self.tail.filter(|tail| tail.asked.is_none()).map(|tail| tail.due);
        missing.map(|wanted| wanted.due).chain(tail).min()
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
    fn a_pictures_last_packet_is_missed_before_the_next_picture_comes() {
        let mut nacks = Nacks::default();
        nacks.advance(7, false, at(0));
        nacks.advance(8, false, at(4));
        assert_eq!((nacks.poll_timeout(), nacks.poll(at(23))), (Some(at(24)), vec![]));
        assert_eq!((nacks.poll(at(24)), nacks.poll(at(25)), nacks.poll_timeout()), (vec![9], vec![], None));
        // It has come by the time that the next picture does, or is asked for again a round trip after the first time.
        nacks.miss(9, 10, at(60));
        nacks.advance(10, true, at(60));
        assert_eq!(nacks.poll(at(98)), Vec::<u16>::new());
        assert_eq!(nacks.poll(at(99)), [9]);
    }

    #[test]
    fn a_slow_line_is_no_lost_packet() {
        let mut nacks = Nacks::default();
        let mut asked = 0;
        for packet in 0..100 {
            nacks.advance(packet, packet % 10 == 9, at(15 * packet));
            asked += usize::from(packet > 30 && !nacks.poll(at(15 * packet + 14)).is_empty());
        }
        assert_eq!((asked, nacks.poll(at(9_999)), nacks.poll_timeout()), (0, vec![], None));
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
        // 60 ms and a quarter twice, then twice as long each time.
        assert_eq!(asked, [10, 85, 160, 310, 610, 1_210]);
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
