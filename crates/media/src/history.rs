//! What one viewer was sent, so that a lost packet can be sent again: one small record a frame, the bytes stay shared.
//! And how much may be sent again, because resends without limit are what makes a congested link collapse.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use haul_model::{Frame, media::PictureNumbers};

use crate::{forward::Outgoing, sequence};

/// The most frames remembered: four seconds at 30 a second. The oldest is forgotten first.
pub const MAX_FRAMES: usize = 128;
/// The most bursts of padding remembered: those of the last two probes. The oldest is forgotten first.
const MAX_PADDING: usize = 24;
/// How often one packet is sent again at most.
pub const MAX_RESENDS: u8 = 6;
/// So many packets may be sent again within a round trip in any case; beyond them, half of what was sent in the last.
pub const MIN_RESENDS_A_ROUND: u32 = 32;
/// So many packets may be asked for within a round trip; what is asked for beyond is not looked at. Each costs a walk
/// through those that were sent again lately, and one report can name five thousand.
pub const MAX_ASKED_A_ROUND: u32 = 512;
/// The most packets whose resends are remembered one by one. The oldest is forgotten first.
const MAX_RECENT: usize = 256;

/// What a frame's packets carry besides its numbering.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stamp {
    /// The first packet's transport-wide sequence number (wraps); the others follow.
    pub transport: u16,
    /// Whether they tell when the frame was captured.
    pub tells_capture: bool,
    /// How long they say that it is to be held back, in 10 ms; 0 if they do not.
    pub hold: u8,
}

/// A packet that was sent, enough to build the identical one again.
#[derive(Debug, Clone, Copy)]
pub struct Sent<'a> {
    /// Its extended sequence number.
    pub sequence: u64,
    /// How its frame was numbered.
    pub outgoing: Outgoing,
    /// What its frame's packets carried besides.
    pub stamp: Stamp,
    /// The frame it is part of; `None` where it is padding.
    pub frame: Option<&'a Frame>,
    /// Which of the frame's packets it is.
    pub index: usize,
}

impl<'a> Sent<'a> {
    /// What it carried; `None` where that was nothing but padding.
    pub fn payload(&self) -> Option<&'a [u8]> {
        Some(&self.frame?.packets[self.index][..])
    }

    /// Whether it is the last of its picture.
    pub fn ends(&self) -> bool {
        self.frame.is_some_and(|frame| frame.ends && self.index + 1 == frame.packets.len())
    }

    /// The capture time that it told, if it did: the publisher's clock in NTP's 32.32 fixed point.
    pub fn captured(&self) -> Option<u64> {
        Some(self.frame?.captured.filter(|_| self.stamp.tells_capture)?.ntp)
    }
}

/// Packets of padding that went out in one burst.
#[derive(Debug)]
struct Padding {
    outgoing: Outgoing,
    stamp: Stamp,
    packets: usize,
}

/// Small, since each viewer has one for each frame: it is the memory they touch that costs.
#[derive(Debug)]
struct Record {
    frame: Arc<Frame>,
    /// Without its upper bits, which [`History::next`] tells.
    first_sequence: u32,
    timestamp: u32,
    numbers: Option<PictureNumbers>,
    stamp: Stamp,
}

const _: () = assert!(size_of::<Record>() == 24);

/// The frames sent to one viewer on one stream.
#[derive(Debug, Default)]
pub struct History {
    /// In order of sending, so in order of sequence numbers.
    frames: VecDeque<Record>,
    /// Padding between them has numbers like any other packet, so it is asked for when it is lost. Few viewers are sent
    /// any; it takes its place apart.
    padding: VecDeque<Padding>,
    /// The extended sequence number behind the last.
    next: u64,
}

impl History {
    /// Remembers a frame that is being sent.
    pub fn push(&mut self, outgoing: Outgoing, stamp: Stamp, frame: Arc<Frame>) {
        if self.frames.len() == MAX_FRAMES {
            self.frames.pop_front();
        } else if self.frames.capacity() == 0 {
            self.frames.reserve_exact(MAX_FRAMES);
        }
        let Outgoing { first_sequence, timestamp, numbers } = outgoing;
        self.next = first_sequence + frame.packets.len() as u64;
        self.frames.push_back(Record {
            frame,
            first_sequence: first_sequence as u32,
            timestamp,
            numbers,
            stamp,
        });
    }

    /// Remembers packets of padding that are being sent.
    pub fn push_padding(&mut self, outgoing: Outgoing, stamp: Stamp, packets: usize) {
        if self.padding.len() == MAX_PADDING {
            self.padding.pop_front();
        }
        self.next = outgoing.first_sequence + packets as u64;
        self.padding.push_back(Padding { outgoing, stamp, packets });
    }

    /// The packet with this sequence number, if it is still remembered.
    pub fn find(&self, sequence: u16) -> Option<Sent<'_>> {
        let sequence = sequence::nearest(self.next, sequence);
        self.find_in_frames(sequence).or_else(|| self.find_in_padding(sequence))
    }

    fn find_in_frames(&self, sequence: u64) -> Option<Sent<'_>> {
        let after = self.frames.partition_point(|record| self.extend(record.first_sequence) <= sequence);
        let record = self.frames.get(after.checked_sub(1)?)?;
        let index = (sequence - self.extend(record.first_sequence)) as usize;
        (index < record.frame.packets.len()).then(|| self.packet(record, index))
    }

    fn find_in_padding(&self, sequence: u64) -> Option<Sent<'_>> {
        let numbers = |burst: &Padding| {
            let first = burst.outgoing.first_sequence;
            first..first + burst.packets as u64
        };
        let Padding { outgoing, stamp, .. } =
            self.padding.iter().find(|burst| numbers(burst).contains(&sequence))?;
        let index = (sequence - outgoing.first_sequence) as usize;
        Some(Sent { sequence, outgoing: *outgoing, stamp: *stamp, frame: None, index })
    }

    /// Forgets all: nobody needs it any more.
    pub fn clear(&mut self) {
        self.frames.clear();
        self.padding.clear();
    }

    /// All packets of pictures that are remembered, the newest first.
    pub fn recent(&self) -> impl Iterator<Item = Sent<'_>> {
        let packets = |record: &'_ Record| record.frame.packets.len();
        self.frames
            .iter()
            .rev()
            .flat_map(move |record| (0..packets(record)).rev().map(|index| self.packet(record, index)))
    }

    /// Whether nothing was sent yet.
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    fn packet<'a>(&self, record: &'a Record, index: usize) -> Sent<'a> {
        let Record { frame, timestamp, numbers, stamp, .. } = record;
        let first_sequence = self.extend(record.first_sequence);
        Sent {
            sequence: first_sequence + index as u64,
            outgoing: Outgoing { first_sequence, timestamp: *timestamp, numbers: *numbers },
            stamp: *stamp,
            frame: Some(&**frame),
            index,
        }
    }

    fn extend(&self, first_sequence: u32) -> u64 {
        self.next - u64::from((self.next as u32).wrapping_sub(first_sequence))
    }
}

/// How much one viewer may have sent again: each packet once a round trip and [`MAX_RESENDS`] times in all, and all
/// together a share of what is sent anyway.
#[derive(Debug, Default)]
pub struct ResendBudget {
    /// When the current round trip began.
    round: Option<Instant>,
    /// Packets sent in this round trip and in the last.
    sent: (u32, u32),
    /// Packets asked for in this round trip.
    asked: u32,
    /// Packets sent again in this round trip.
    resent: u32,
    /// Packets sent again lately: sequence number, when last, how often.
    recent: VecDeque<(u64, Instant, u8)>,
}

impl ResendBudget {
    /// So many packets were sent for the first time.
    pub fn sent(&mut self, packets: u32) {
        self.sent.0 = self.sent.0.saturating_add(packets);
    }

    /// Whether to look at one more packet that is asked for.
    pub fn hears(&mut self, round_trip: Duration, now: Instant) -> bool {
        self.turn(round_trip, now);
        self.asked = self.asked.saturating_add(1);
        self.asked <= MAX_ASKED_A_ROUND
    }

    /// Whether `sequence` may be sent again now; if so, it is taken as sent.
    pub fn allows(&mut self, sequence: u64, round_trip: Duration, now: Instant) -> bool {
        self.turn(round_trip, now);
        if self.resent >= self.most() {
            return false;
        }
        match self.recent.iter_mut().find(|(known, ..)| *known == sequence) {
            Some((_, last, times)) => {
                if *times == MAX_RESENDS || now.saturating_duration_since(*last) < round_trip {
                    return false;
                }
                *last = now;
                *times += 1;
            }
            None => {
                if self.recent.len() == MAX_RECENT {
                    self.recent.pop_front();
                }
                self.recent.push_back((sequence, now, 1));
            }
        }
        self.resent += 1;
        true
    }

    /// Whether a packet may go once more that was just sent again; if so, it is taken as sent. Half of what may be sent
    /// again is left for what is asked for.
    pub fn allows_twice(&mut self, round_trip: Duration, now: Instant) -> bool {
        self.turn(round_trip, now);
        let allows = self.resent < self.most() / 2;
        self.resent += u32::from(allows);
        allows
    }

    fn most(&self) -> u32 {
        MIN_RESENDS_A_ROUND.max(self.sent.1.max(self.sent.0) / 2)
    }

    fn turn(&mut self, round_trip: Duration, now: Instant) {
        if self.round.is_none_or(|began| now.saturating_duration_since(began) >= round_trip) {
            self.round = Some(now);
            self.sent = (0, self.sent.0);
            self.asked = 0;
            self.resent = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{FrameMaker, start};

    const ROUND_TRIP: Duration = Duration::from_millis(50);

    fn after(ms: u64) -> Instant {
        start().instant + Duration::from_millis(ms)
    }

    #[test]
    fn packets_are_found_by_their_wrapped_numbers() {
        let (mut history, mut make) = (History::default(), FrameMaker::at(start()));
        make.packets = 3;
        let mut first_sequence = 65_530;
        for timestamp in 0..5 {
            history.push(
                Outgoing { first_sequence, timestamp, numbers: None },
                Stamp::default(),
                make.delta(),
            );
            first_sequence += 3;
        }
        let sent = history.find(1).unwrap();
        assert_eq!((sent.sequence, sent.outgoing.timestamp, sent.index), (65_537, 2, 1));
        assert_eq!(history.find(65_530).unwrap().index, 0);
        assert!(history.find(65_529).is_none(), "before the first");
        assert!(history.find(9).is_none(), "not sent yet");
    }

    #[test]
    fn padding_is_found_like_any_other_packet_but_is_no_picture() {
        let (mut history, mut make) = (History::default(), FrameMaker::at(start()));
        let outgoing = |first_sequence| Outgoing { first_sequence, timestamp: 0, numbers: None };
        history.push(outgoing(10), Stamp::default(), make.keyframe());
        history.push_padding(outgoing(11), Stamp { transport: 70, ..Stamp::default() }, 3);
        assert_eq!(history.find(11).unwrap().index, 0, "while it is the last");
        history.push(outgoing(14), Stamp::default(), make.delta());
        let found = history.find(13).unwrap();
        assert_eq!((found.index, found.payload(), found.ends(), found.stamp.transport), (2, None, false, 70));
        assert_eq!(history.find(14).unwrap().payload().unwrap().len(), 100);
        assert_eq!(history.recent().map(|sent| sent.sequence).collect::<Vec<_>>(), [14, 10]);
        for at in 0..MAX_PADDING as u64 {
            history.push_padding(outgoing(15 + at), Stamp::default(), 1);
        }
        assert!(history.find(13).is_none() && history.find(15).is_some());
    }

    #[test]
    fn the_oldest_frame_is_forgotten_first() {
        let (mut history, mut make) = (History::default(), FrameMaker::at(start()));
        for first_sequence in 0..=MAX_FRAMES as u64 {
            history.push(
                Outgoing { first_sequence, timestamp: 0, numbers: None },
                Stamp::default(),
                make.delta(),
            );
        }
        assert!(history.find(0).is_none());
        assert!(history.find(1).is_some());
    }

    #[test]
    fn a_packet_goes_once_a_round_trip_and_six_times_in_all() {
        let mut budget = ResendBudget::default();
        assert!(budget.allows(7, ROUND_TRIP, after(0)));
        assert!(!budget.allows(7, ROUND_TRIP, after(49)));
        let times = (1..100).filter(|round| budget.allows(7, ROUND_TRIP, after(round * 50))).count();
        assert_eq!(times, usize::from(MAX_RESENDS) - 1);
    }

    #[test]
    fn a_round_trip_carries_half_of_what_the_last_one_did() {
        let mut budget = ResendBudget::default();
        budget.sent(200);
        assert!(budget.allows(0, ROUND_TRIP, after(0)));
        let allowed = (1..1_000).filter(|sequence| budget.allows(*sequence, ROUND_TRIP, after(10))).count();
        assert_eq!(allowed, 99);
        assert!(!budget.allows(5_000, ROUND_TRIP, after(49)));
        assert!(budget.allows(5_000, ROUND_TRIP, after(50)));
    }

    #[test]
    fn a_flood_of_requests_is_not_looked_at() {
        let mut budget = ResendBudget::default();
        let heard = (0..100_000).filter(|_| budget.hears(ROUND_TRIP, after(0))).count();
        assert_eq!(heard, MAX_ASKED_A_ROUND as usize);
        assert!(!budget.hears(ROUND_TRIP, after(49)));
        assert!(budget.hears(ROUND_TRIP, after(50)));
    }

    #[test]
    fn what_goes_twice_leaves_half_for_what_is_asked_for() {
        let mut budget = ResendBudget::default();
        let twice = (0..1_000).filter(|_| budget.allows_twice(ROUND_TRIP, after(0))).count();
        assert_eq!(twice, MIN_RESENDS_A_ROUND as usize / 2);
        assert!(budget.allows(7, ROUND_TRIP, after(1)));
    }

    #[test]
    fn a_quiet_stream_may_still_repair_itself() {
        let mut budget = ResendBudget::default();
        let allowed = (0..1_000).filter(|sequence| budget.allows(*sequence, ROUND_TRIP, after(0))).count();
        assert_eq!(allowed, MIN_RESENDS_A_ROUND as usize);
    }
}
