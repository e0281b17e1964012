//! What a viewer has received of one stream: which packets, which pictures, and what a browser would have shown of them.
//!
//! Pure: headers and the time go in. How things are counted:
//! - **lost**: numbers between the first and the highest packet that never came, asked for again or not;
//! - **first loss**: numbers that were not there when a later one came, and not within [`REORDER`] either;
//! - **freezes**: see [`Pace`].
//!
//! A picture counts when it and all before it since a keyframe are whole, in order. A packet that is missing is waited
//! for while it is asked for; then pictures are broken until the next keyframe.

use std::time::{Duration, Instant};

use crate::pace::Pace;

/// Packets looked back upon.
const WINDOW: u64 = 1_024;
/// How long a packet may be late before it is asked for: it may just have been overtaken.
const REORDER: Duration = Duration::from_millis(10);
/// How often, how many times, and how long a packet is asked for.
const NACK_EVERY: Duration = Duration::from_millis(50);
const NACK_TIMES: u8 = 10;
const NACK_FOR: Duration = Duration::from_secs(1);
/// Packets waited for at once; more are given up, and a keyframe is asked for instead.
const MAX_MISSING: usize = 250;

const SEEN: u8 = 1;
const MARKER: u8 = 2;
const KEY: u8 = 4;

/// What is counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Packets that arrived for the first time.
    pub(crate) received: u64,
    /// Of those, that had been asked for.
    pub(crate) repaired: u64,
    /// Packets that had arrived before, or are older than the window.
    pub(crate) duplicates: u64,
    /// Packets that were missing when they should have been there.
    pub(crate) first_lost: u64,
    /// Packets asked for, each time.
    pub(crate) nacked: u64,
    /// Pictures that arrived whole.
    pub(crate) frames: u64,
}

#[derive(Debug, Clone, Copy)]
struct Missing {
    number: u64,
    noticed: Instant,
    asked: u8,
    next: Instant,
}

/// One stream's reception.
#[derive(Debug)]
pub(crate) struct Reception {
    pub(crate) counts: Counts,
    first: u64,
    highest: u64,
    begun: bool,
    flags: Vec<u8>,
    missing: Vec<Missing>,
    /// Whether lost packets can be asked for.
    asks: bool,
    /// The next packet in order, and whether everything before it since a keyframe is whole.
    next: u64,
    whole: bool,
    /// Packets were given up, so a keyframe is needed.
    keyframe_wanted: bool,
    pace: Pace,
}

impl Reception {
    /// Of a stream whose lost packets can be asked for, or not.
    pub(crate) fn new(asks: bool) -> Self {
        Self {
            counts: Counts::default(),
            first: 0,
            highest: 0,
            begun: false,
            flags: vec![0; WINDOW as usize],
            missing: Vec::new(),
            asks,
            next: 0,
            whole: false,
            keyframe_wanted: false,
            pace: Pace::default(),
        }
    }

    /// A packet has come. Returns its number beyond wraps, or `None` for one that had come before.
    pub(crate) fn arrive(&mut self, sequence: u16, marker: bool, now: Instant) -> Option<u64> {
        if !self.begun {
            self.begun = true;
            (self.first, self.highest, self.next) =
                (u64::from(sequence), u64::from(sequence), u64::from(sequence));
            self.counts.received = 1;
            self.put(self.highest, marker);
            return Some(self.highest);
        }
        let number = super::rtp::unwrap(self.highest, sequence);
        if number > self.highest {
            let from = self.highest + 1;
            self.highest = number;
            if number - from >= WINDOW {
                self.flags.fill(0);
                self.counts.first_lost += number - from;
                self.give_up_all();
                self.next = self.next.max(number + 1 - WINDOW);
                self.whole = false;
            } else {
                for gap in from..number {
                    self.flags[(gap % WINDOW) as usize] = 0;
                    if self.missing.len() >= MAX_MISSING {
                        self.give_up_all();
                    }
                    let next = now + REORDER;
                    self.missing.push(Missing { number: gap, noticed: now, asked: 0, next });
                }
                if number - self.next.min(number) >= WINDOW {
                    self.next = number + 1 - WINDOW;
                    self.whole = false;
                }
            }
            self.put(number, marker);
        } else {
            if number + WINDOW <= self.highest || number < self.first || self.flag(number) & SEEN != 0 {
                self.counts.duplicates += 1;
                return None;
            }
            if let Ok(at) = self.missing.binary_search_by_key(&number, |missing| missing.number) {
                let missing = self.missing.remove(at);
                self.counts.repaired += u64::from(missing.asked > 0);
                self.counts.first_lost += u64::from(missing.asked == 0 && now >= missing.next);
            }
            self.put(number, marker);
        }
        self.counts.received += 1;
        Some(number)
    }

    /// The packet begins a keyframe.
    pub(crate) fn begins_keyframe(&mut self, number: u64) {
        if number + WINDOW > self.highest {
            self.flags[(number % WINDOW) as usize] |= KEY;
        }
    }

    /// Everything so far is taken to be whole: for measuring the harness itself.
    pub(crate) fn assume_whole(&mut self) {
        self.whole = true;
    }

    /// Whether payloads must be looked at, because the next keyframe is waited for.
    pub(crate) fn needs_keyframe(&self) -> bool {
        !self.whole
    }

    /// Goes on to the first packet that is missing. Returns whether pictures became whole.
    pub(crate) fn advance(&mut self, now: Instant) -> bool {
        let before = self.counts.frames;
        while self.begun && self.next <= self.highest {
            if !self.whole {
                let key =
                    (self.next..=self.highest).find(|number| self.flag(*number) & (SEEN | KEY) == SEEN | KEY);
                let Some(key) = key else { break };
                self.next = key;
                self.whole = true;
                self.missing.retain(|missing| missing.number > key);
            }
            let flag = self.flag(self.next);
            if flag & SEEN == 0 {
                if self.missing.binary_search_by_key(&self.next, |missing| missing.number).is_ok() {
                    break;
                }
                self.whole = false;
            } else if flag & MARKER != 0 {
                self.counts.frames += 1;
                self.pace.frame(now);
            }
            self.next += 1;
        }
        self.counts.frames > before
    }

    /// The numbers to ask for now.
    pub(crate) fn nacks(&mut self, now: Instant, into: &mut Vec<u16>) {
        if self.missing.is_empty() {
            return;
        }
        let (asks, counts, before) = (self.asks, &mut self.counts, self.missing.len());
        self.missing.retain_mut(|missing| {
            if now < missing.next {
                return true;
            }
            if missing.asked == 0 {
                counts.first_lost += 1;
            }
            if !asks || missing.asked >= NACK_TIMES || now >= missing.noticed + NACK_FOR {
                return false;
            }
            missing.asked += 1;
            missing.next = now + NACK_EVERY;
            counts.nacked += 1;
            into.push(missing.number as u16);
            true
        });
        if self.missing.len() < before {
            self.keyframe_wanted = true;
        }
    }

    /// Whether a keyframe should be asked for; once for each time that packets were given up.
    pub(crate) fn take_keyframe_wanted(&mut self) -> bool {
        std::mem::take(&mut self.keyframe_wanted)
    }

    /// Packets between the first and the highest.
    pub(crate) fn expected(&self) -> u64 {
        if self.begun { self.highest - self.first + 1 } else { 0 }
    }

    /// Packets that have not come.
    pub(crate) fn lost(&self) -> u64 {
        self.expected().saturating_sub(self.counts.received)
    }

    /// The highest number so far, for receiver reports.
    pub(crate) fn highest(&self) -> u64 {
        self.highest
    }

    /// When pictures came.
    pub(crate) fn pace(&self) -> &Pace {
        &self.pace
    }

    /// It is over: a picture that stands still at the end is a freeze too.
    pub(crate) fn end(&mut self, now: Instant) {
        self.pace.end(now);
    }

    fn flag(&self, number: u64) -> u8 {
        self.flags[(number % WINDOW) as usize]
    }

    fn put(&mut self, number: u64, marker: bool) {
        self.flags[(number % WINDOW) as usize] = if marker { SEEN | MARKER } else { SEEN };
    }

    fn give_up_all(&mut self) {
        self.counts.first_lost += self.missing.iter().filter(|missing| missing.asked == 0).count() as u64;
        self.missing.clear();
        self.keyframe_wanted = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pictures of three packets each, 30 a second; a keyframe each 30 pictures.
    struct Stream {
        reception: Reception,
        now: Instant,
        asked: Vec<u16>,
    }

    impl Stream {
        fn new() -> Self {
            Self { reception: Reception::new(true), now: Instant::now(), asked: Vec::new() }
        }

        fn packet(&mut self, number: u64) {
            let arrived = self.reception.arrive(number as u16, number % 3 == 2, self.now);
            if let Some(arrived) = arrived
                && number.is_multiple_of(90)
            {
                self.reception.begins_keyframe(arrived);
            }
            self.reception.advance(self.now);
        }

        fn picture(&mut self, picture: u64, lost: &[u64]) {
            for number in 3 * picture..3 * picture + 3 {
                if !lost.contains(&number) {
                    self.packet(number);
                }
            }
            self.now += Duration::from_millis(33);
            self.reception.nacks(self.now, &mut self.asked);
            self.reception.advance(self.now);
        }

        fn freezes(&self) -> u64 {
            self.reception.pace().freezes
        }

        fn pictures(&mut self, range: std::ops::Range<u64>, lost: &[u64]) {
            for picture in range {
                self.picture(picture, lost);
            }
        }
    }

    #[test]
    fn an_even_stream_is_all_pictures_and_no_loss() {
        let mut stream = Stream::new();
        // Begins in mid-GOP: nothing can be shown before the keyframe at picture 30; numbers wrap on the way.
        stream.pictures(21_825..21_930, &[]);
        let Counts { received, frames, .. } = stream.reception.counts;
        assert_eq!((received, frames, stream.freezes(), stream.reception.lost()), (315, 90, 0, 0));
        assert!(stream.reception.pace().steady_since.is_some());
        assert!(stream.asked.is_empty());
    }

    #[test]
    fn a_lost_packet_is_asked_for_and_its_repair_lets_the_pictures_go_on() {
        let mut stream = Stream::new();
        stream.pictures(0..50, &[100]);
        assert!(stream.asked.iter().all(|number| *number == 100) && stream.asked.len() > 3);
        assert_eq!(stream.reception.counts.frames, 33, "pictures wait for it");
        stream.packet(100);
        assert_eq!(stream.reception.counts.frames, 50);
        let counts = stream.reception.counts;
        assert_eq!((counts.repaired, counts.first_lost, stream.reception.lost()), (1, 1, 0));
        stream.packet(100);
        assert_eq!(stream.reception.counts.duplicates, 1);
    }

    #[test]
    fn a_packet_that_never_comes_costs_the_pictures_to_the_next_keyframe() {
        let mut stream = Stream::new();
        stream.pictures(0..200, &[100]);
        assert!(stream.asked.len() <= usize::from(NACK_TIMES));
        assert!(stream.reception.take_keyframe_wanted() && !stream.reception.take_keyframe_wanted());
        assert_eq!(stream.reception.lost(), 1);
        // 33 before it, then from the keyframe at picture 60 on.
        assert_eq!(stream.reception.counts.frames, 33 + (200 - 60));
        assert_eq!(stream.freezes(), 1);
        assert!(stream.reception.pace().frozen > Duration::from_millis(800));
    }

    #[test]
    fn what_was_overtaken_is_not_lost() {
        let mut stream = Stream::new();
        stream.pictures(0..10, &[]);
        for number in [31, 30, 32] {
            stream.packet(number);
        }
        assert_eq!(stream.reception.counts.frames, 11);
        assert_eq!((stream.reception.counts.first_lost, stream.reception.lost()), (0, 0));
        assert!(stream.asked.is_empty());
    }

    #[test]
    fn an_outage_is_loss_and_a_freeze() {
        let mut stream = Stream::new();
        stream.pictures(0..60, &[]);
        stream.now += Duration::from_secs(20);
        // Picture 660 is a keyframe.
        stream.pictures(660..700, &[]);
        assert_eq!(stream.reception.lost(), 1_800);
        assert_eq!(stream.reception.counts.first_lost, 1_800);
        assert_eq!(stream.freezes(), 1);
        assert_eq!(stream.reception.counts.frames, 100);
        stream.now += Duration::from_secs(5);
        let now = stream.now;
        stream.reception.end(now);
        assert_eq!(stream.freezes(), 2, "it ended standing still");
    }

    #[test]
    fn gaps_below_the_rule_are_no_freezes() {
        let mut stream = Stream::new();
        stream.pictures(0..90, &[]);
        stream.now += Duration::from_millis(140);
        stream.pictures(90..120, &[]);
        assert_eq!(stream.freezes(), 0);
        stream.now += Duration::from_millis(200);
        stream.pictures(120..150, &[]);
        assert_eq!(stream.freezes(), 1);
    }
}
