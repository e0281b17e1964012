//! Packets become frames: put in order, holes waited for while a retransmission may fill them, and given up when not.
//!
//! Nothing broken leaves here. After a hole in the pictures that could not be filled, frames are dropped up to the next
//! keyframe, which is asked for; whoever watches sees a short freeze and never a smear.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use bytes::Bytes;
use haul_model::{Codec, Frame, Kind, Layer, Now};

use crate::{h264::Units, sequence, vp8::Descriptor};

/// How long a missing packet of the pictures is waited for, from the arrival of the one behind it. Time for two or
/// three retransmissions over a usual uplink; longer, and a keyframe is quicker.
pub const VIDEO_PATIENCE: Duration = Duration::from_millis(250);
/// How long a missing packet of sound is waited for. Players conceal a gap better than they bear a stall.
pub const AUDIO_PATIENCE: Duration = Duration::from_millis(60);
/// The most packets between the oldest awaited and the newest: over a second at 20 Mb/s. A packet beyond it is ignored,
/// and if the next one follows it, the stream is taken to have started anew there.
pub const MAX_SPAN: usize = 2_048;
/// The most payloads of parameter sets remembered. A stream with more of them is forwarded without help from us.
const MAX_PARAMETER_SETS: usize = 8;

/// One RTP packet of a stream, decrypted, without header extensions and padding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    /// Its sequence number.
    pub sequence: u16,
    /// Its media timestamp.
    pub timestamp: u32,
    /// Its marker bit: the last packet of a picture.
    pub marker: bool,
    /// Its payload; empty for padding, which only takes up a sequence number.
    pub payload: Bytes,
}

/// What comes out.
#[derive(Debug, Clone)]
pub enum Assembled {
    /// The next whole frame, in order of decoding.
    Frame(Frame),
    /// Decoding can't go on without a keyframe: ask for one. Said again for every frame that is dropped until one comes;
    /// merging and throttling is the relay's.
    KeyframeNeeded,
}

/// What an assembly has seen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Packets that came twice, or after they had been given up.
    pub late: u64,
    /// Packets that never came, or came too late.
    pub lost: u64,
    /// Frames completed and handed on.
    pub frames: u64,
    /// Keyframes among those.
    pub keyframes: u64,
    /// Frames not handed on because an earlier one of their GOP was lost.
    pub dropped: u64,
}

/// One incoming RTP stream: an audio track, or one layer of a video track.
#[derive(Debug)]
pub struct Assembly {
    codec: Codec,
    layer: Layer,
    /// The newest sequence number, extended; `None` before the first packet.
    newest: Option<u64>,
    /// The sequence number of the window's front: all before it is done.
    front: u64,
    /// Packets from the front on; `None` where one is missing. Its last entry is never `None`.
    window: VecDeque<Option<(Instant, Packet)>>,
    /// So many packets at the front are present and known not to end a frame: looking starts behind them.
    scanned: usize,
    /// When the hole that holds up the front is given up.
    deadline: Option<Instant>,
    /// The sequence number that would prove that the stream has started anew elsewhere.
    restart_at: Option<u16>,
    /// Pictures are dropped up to the next keyframe.
    broken: bool,
    /// Something was dropped since it was last said that a keyframe is needed.
    missed: bool,
    /// H.264 parameter sets that came alone, to be put in front of the next frame.
    held_sets: Vec<Bytes>,
    /// The last H.264 parameter sets, for keyframes that come without (some encoders send them once).
    known_sets: Vec<Bytes>,
    out: VecDeque<Assembled>,
    counts: Counts,
}

/// What is at the front of the window.
enum Front {
    /// So many packets are a whole frame.
    Frame(usize),
    /// A packet that belongs to no frame.
    Padding,
    /// Nothing can be decided before more packets come.
    Unfinished,
    /// A packet is missing, at this index.
    Hole(usize),
}

impl Assembly {
    /// An assembly for one stream. Pictures start with a keyframe.
    pub fn new(codec: Codec, layer: Layer) -> Self {
        Self {
            codec,
            layer,
            newest: None,
            front: 0,
            window: VecDeque::new(),
            scanned: 0,
            deadline: None,
            restart_at: None,
            broken: codec.kind() == Kind::Video,
            missed: false,
            held_sets: Vec::new(),
            known_sets: Vec::new(),
            out: VecDeque::new(),
            counts: Counts::default(),
        }
    }

    /// Takes a packet as it arrives. [`Assembly::poll`] until `None` afterwards.
    pub fn push(&mut self, now: Now, packet: Packet) {
        let extended = match self.newest {
            Some(newest) => sequence::nearest(newest, packet.sequence),
            None => self.start_at(packet.sequence),
        };
        if extended < self.front && self.front - extended <= MAX_SPAN as u64 {
            self.counts.late += 1;
            return;
        }
        if extended < self.front || extended - self.front >= MAX_SPAN as u64 {
            if self.restart_at != Some(packet.sequence) {
                self.restart_at = Some(packet.sequence.wrapping_add(1));
                return;
            }
            self.restart(now, packet);
            return;
        }
        self.restart_at = None;
        self.newest = self.newest.max(Some(extended));
        let index = (extended - self.front) as usize;
        if index >= self.window.len() {
            self.window.resize(index + 1, None);
        }
        let slot = &mut self.window[index];
        if slot.is_some() {
            self.counts.late += 1;
            return;
        }
        *slot = Some((now.instant, packet));
        self.advance(now);
    }

    /// Gives up what was waited for long enough. Due at [`Assembly::poll_timeout`]; [`Assembly::poll`] until `None`
    /// afterwards.
    pub fn handle_timeout(&mut self, now: Now) {
        self.advance(now);
    }

    /// When to call [`Assembly::handle_timeout`].
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.deadline
    }

    /// What has come out since.
    pub fn poll(&mut self) -> Option<Assembled> {
        self.out.pop_front()
    }

    /// What was seen so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    fn start_at(&mut self, sequence: u16) -> u64 {
        // One cycle up: an early straggler has a number too.
        self.front = (1 << 16) + u64::from(sequence);
        self.newest = Some(self.front);
        self.front
    }

    /// The stream goes on at an unrelated sequence number, as after an encoder's restart.
    fn restart(&mut self, now: Now, packet: Packet) {
        self.counts.lost += self.window.iter().filter(|slot| slot.is_none()).count() as u64;
        self.window.clear();
        self.scanned = 0;
        self.restart_at = None;
        self.newest = None;
        self.need_keyframe();
        self.push(now, packet);
    }

    fn advance(&mut self, now: Now) {
        self.complete_all(now);
        // What was dropped may already be made good by a keyframe behind it.
        if std::mem::take(&mut self.missed) && self.broken {
            self.out.push_back(Assembled::KeyframeNeeded);
        }
    }

    fn complete_all(&mut self, now: Now) {
        self.deadline = None;
        loop {
            match self.look() {
                Front::Frame(packets) => self.complete(now, packets),
                Front::Padding => self.discard(1),
                Front::Unfinished => return,
                Front::Hole(index) => {
                    let deadline = self.patience_ends(index);
                    if now.instant < deadline {
                        self.deadline = Some(deadline);
                        return;
                    }
                    self.give_up(index);
                }
            }
        }
    }

    fn look(&mut self) -> Front {
        while let Some(slot) = self.window.get(self.scanned) {
            let index = self.scanned;
            let Some((_, packet)) = slot else { return Front::Hole(index) };
            if packet.payload.is_empty() {
                if index == 0 {
                    return Front::Padding;
                }
            } else if self.codec.kind() == Kind::Audio || packet.marker {
                return Front::Frame(index + 1);
            } else if let Some(Some((_, first))) = self.window.front()
                && first.timestamp != packet.timestamp
            {
                return Front::Frame(index);
            }
            self.scanned += 1;
        }
        Front::Unfinished
    }

    /// The hole at `index` has held up what is behind it since the first of that arrived.
    fn patience_ends(&self, index: usize) -> Instant {
        let patience = match self.codec.kind() {
            Kind::Video => VIDEO_PATIENCE,
            Kind::Audio => AUDIO_PATIENCE,
        };
        let behind = self.window.iter().skip(index).flatten().map(|(arrived, _)| *arrived).min();
        behind.expect("the window's last entry is a packet") + patience
    }

    /// Drops the frame that the hole at `index` is in, and the hole.
    fn give_up(&mut self, index: usize) {
        let missing = self.window.iter().skip(index).take_while(|slot| slot.is_none()).count();
        self.counts.lost += missing as u64;
        self.discard(index + missing);
        self.need_keyframe();
    }

    fn discard(&mut self, packets: usize) {
        self.window.drain(..packets);
        self.front += packets as u64;
        self.scanned = 0;
    }

    fn need_keyframe(&mut self) {
        self.broken = self.codec.kind() == Kind::Video;
        self.missed = true;
    }

    /// The first `count` packets are a frame.
    fn complete(&mut self, now: Now, count: usize) {
        let timestamp = match self.window.front() {
            Some(Some((_, first))) => first.timestamp,
            _ => unreachable!("a frame has packets, and the front is its first"),
        };
        let packets: Vec<Bytes> =
            self.window.drain(..count).flatten().map(|(_, p)| p.payload).filter(|p| !p.is_empty()).collect();
        self.front += count as u64;
        self.scanned = 0;
        let frame = Frame {
            kind: self.codec.kind(),
            layer: self.layer,
            timestamp,
            arrived: now,
            keyframe: true,
            vp8: None,
            packets,
        };
        let frame = match self.codec {
            Codec::Opus => Some(frame),
            Codec::Vp8 => self.vp8(frame),
            Codec::H264 => self.h264(frame),
        };
        let Some(frame) = frame else { return };
        if self.broken && !frame.keyframe {
            self.counts.dropped += 1;
            self.need_keyframe();
            return;
        }
        self.broken = false;
        self.counts.frames += 1;
        self.counts.keyframes += u64::from(frame.keyframe && frame.kind == Kind::Video);
        self.out.push_back(Assembled::Frame(frame));
    }

    fn vp8(&self, mut frame: Frame) -> Option<Frame> {
        let first = Descriptor::parse(&frame.packets[0]);
        frame.keyframe = first.is_some_and(|descriptor| descriptor.starts_keyframe);
        frame.vp8 = first.and_then(|descriptor| descriptor.numbers);
        Some(frame)
    }

    /// Makes sure that a keyframe is whole by itself: parameter sets that came in an access unit of their own, or once
    /// at the beginning of the stream, are put in front of it.
    fn h264(&mut self, mut frame: Frame) -> Option<Frame> {
        if self.broken {
            // The front may be in the middle of a picture here. One that begins further on is whole.
            let start = frame.packets.iter().position(|payload| Units::of(payload).starts_keyframe());
            frame.packets.drain(..start.unwrap_or(0));
            if start.is_none() && !self.only_sets(&frame) {
                frame.keyframe = false;
                return Some(frame);
            }
        }
        let units = Units::of_all(frame.packets.iter().map(|payload| &payload[..]));
        if units.sps {
            self.known_sets.clear();
        }
        for payload in &frame.packets {
            if Units::of(payload).only_parameter_sets() && self.known_sets.len() < MAX_PARAMETER_SETS {
                self.known_sets.push(payload.clone());
            }
        }
        if !units.picture {
            if units.sps {
                self.held_sets.clear();
            }
            self.held_sets.extend(frame.packets);
            self.held_sets.truncate(MAX_PARAMETER_SETS);
            return None;
        }
        let mut sets = std::mem::take(&mut self.held_sets);
        let held_sps = Units::of_all(sets.iter().map(|payload| &payload[..])).sps;
        if units.idr && !units.sps && !held_sps {
            sets.splice(..0, self.known_sets.iter().cloned());
        }
        frame.keyframe = units.keyframe() || held_sps;
        frame.packets.splice(..0, sets);
        Some(frame)
    }

    fn only_sets(&self, frame: &Frame) -> bool {
        Units::of_all(frame.packets.iter().map(|payload| &payload[..])).only_parameter_sets()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::start;

    const KEY: &[u8] = &[0x10, 0x00, 0xAA];
    const DELTA: &[u8] = &[0x10, 0x01, 0xBB];
    const MORE: &[u8] = &[0x00, 0xCC];

    /// A stream as a test tells it: packets are put in by number, and what comes out is written down.
    struct Story {
        assembly: Assembly,
        now: Now,
        first: u16,
    }

    impl Story {
        fn of(codec: Codec) -> Self {
            Self { assembly: Assembly::new(codec, Layer(0)), now: start(), first: 65_530 }
        }

        /// Packet `number` of the stream. Sequence numbers wrap after the first few.
        fn packet(&mut self, number: u16, timestamp: u32, marker: bool, payload: &[u8]) -> &mut Self {
            let payload = Bytes::copy_from_slice(payload);
            let sequence = self.first.wrapping_add(number);
            self.assembly.push(self.now, Packet { sequence, timestamp, marker, payload });
            self
        }

        fn after(&mut self, ms: u64) -> &mut Self {
            self.now = self.now.after(Duration::from_millis(ms));
            if self.assembly.poll_timeout().is_some_and(|at| at <= self.now.instant) {
                self.assembly.handle_timeout(self.now);
            }
            self
        }

        /// Frames as timestamps, `K` in front of keyframes, and `?` where a keyframe is asked for.
        fn told(&mut self) -> String {
            let mut words = Vec::new();
            while let Some(out) = self.assembly.poll() {
                words.push(match out {
                    Assembled::Frame(frame) if frame.keyframe => format!("K{}", frame.timestamp),
                    Assembled::Frame(frame) => frame.timestamp.to_string(),
                    Assembled::KeyframeNeeded => "?".to_owned(),
                });
            }
            words.join(" ")
        }
    }

    #[test]
    fn packets_become_frames_across_the_wrap() {
        let mut story = Story::of(Codec::Vp8);
        for frame in 0..8 {
            let head = if frame == 0 { KEY } else { DELTA };
            story.packet(frame * 2, frame.into(), false, head).packet(
                frame * 2 + 1,
                frame.into(),
                true,
                MORE,
            );
        }
        assert_eq!(story.told(), "K0 1 2 3 4 5 6 7");
        assert_eq!(story.assembly.counts(), Counts { frames: 8, keyframes: 1, ..Counts::default() });
    }

    #[test]
    fn a_timestamp_ends_a_frame_whose_marker_is_missing() {
        let mut story = Story::of(Codec::Vp8);
        story.packet(0, 0, false, KEY).packet(1, 1, false, DELTA).packet(2, 2, false, DELTA);
        assert_eq!(story.told(), "K0 1");
    }

    #[test]
    fn reordered_and_doubled_packets_change_nothing() {
        let mut story = Story::of(Codec::Vp8);
        story.packet(0, 0, false, KEY).packet(0, 0, false, KEY);
        story
            .packet(3, 1, true, MORE)
            .packet(2, 1, false, DELTA)
            .packet(1, 0, true, MORE)
            .packet(1, 0, true, MORE);
        assert_eq!(story.told(), "K0 1");
        assert_eq!(story.assembly.counts().late, 2);
    }

    #[test]
    fn padding_takes_a_number_and_nothing_else() {
        let mut story = Story::of(Codec::Vp8);
        story.packet(0, 0, true, KEY).packet(1, 0, false, &[]).packet(2, 0, false, &[]);
        story.packet(3, 1, false, DELTA).packet(4, 1, false, &[]).packet(5, 1, true, MORE);
        assert_eq!(story.told(), "K0 1");
    }

    #[test]
    fn a_hole_that_is_filled_in_time_costs_only_time() {
        let mut story = Story::of(Codec::Vp8);
        story.packet(0, 0, true, KEY).packet(2, 2, true, DELTA).after(249);
        assert_eq!(story.told(), "K0");
        story.packet(1, 1, true, DELTA);
        assert_eq!(story.told(), "1 2");
        assert_eq!(story.assembly.poll_timeout(), None);
    }

    #[test]
    fn after_a_hole_nothing_goes_on_until_a_keyframe_which_is_asked_for() {
        let mut story = Story::of(Codec::Vp8);
        story.packet(0, 0, true, KEY).packet(2, 2, true, DELTA).after(250);
        assert_eq!(story.told(), "K0 ?");
        story
            .packet(1, 1, true, DELTA)
            .packet(3, 3, true, DELTA)
            .packet(4, 4, true, DELTA)
            .packet(5, 5, true, DELTA);
        assert_eq!(story.told(), "? ? ?", "what follows can't be decoded");
        story.packet(6, 6, true, KEY).packet(7, 7, true, DELTA);
        assert_eq!(story.told(), "K6 7");
        assert_eq!(story.assembly.counts(), Counts { late: 1, lost: 1, frames: 3, keyframes: 2, dropped: 4 },);
    }

    #[test]
    fn the_tail_of_a_torn_keyframe_is_not_a_keyframe() {
        let mut story = Story::of(Codec::Vp8);
        story.packet(0, 0, true, KEY).packet(1, 1, false, KEY).packet(3, 1, true, MORE);
        story.packet(4, 2, true, DELTA).after(250).packet(5, 3, true, KEY);
        assert_eq!(story.told(), "K0 ? K3");
    }

    #[test]
    fn two_holes_are_waited_for_together() {
        let mut story = Story::of(Codec::Vp8);
        story.packet(0, 0, true, KEY).packet(2, 2, true, DELTA).packet(4, 4, true, KEY);
        story.after(250);
        assert_eq!(story.told(), "K0 K4", "the keyframe is there already");
        assert_eq!(story.assembly.counts().lost, 2);
    }

    #[test]
    fn sound_skips_its_holes_sooner_and_needs_no_keyframe() {
        let mut story = Story::of(Codec::Opus);
        story.packet(0, 0, true, &[1]).packet(2, 1_920, false, &[1]).after(59);
        assert_eq!(story.told(), "K0");
        story.after(1).packet(3, 2_880, false, &[1]);
        assert_eq!(story.told(), "K1920 K2880");
    }

    #[test]
    fn a_stream_that_starts_anew_elsewhere_is_followed() {
        let mut story = Story::of(Codec::Vp8);
        story.packet(0, 0, true, KEY).packet(20_000, 9, true, KEY);
        assert_eq!(story.told(), "K0", "one stray packet proves nothing");
        story.packet(1, 1, true, DELTA).packet(20_000, 9, true, KEY).packet(20_001, 10, true, KEY);
        assert_eq!(story.told(), "1 K10");
    }

    #[test]
    fn a_flood_of_gaps_stays_within_the_window() {
        let mut story = Story::of(Codec::Vp8);
        story.packet(0, 0, true, KEY);
        for number in (2..60_000).step_by(2) {
            story.packet(number, number.into(), true, DELTA);
        }
        assert!(story.assembly.window.len() <= MAX_SPAN);
    }

    #[test]
    fn a_stream_that_is_joined_in_the_middle_asks_at_once() {
        let mut story = Story::of(Codec::Vp8);
        story.packet(0, 0, true, DELTA);
        assert_eq!(story.told(), "?");
    }

    const SPS: &[u8] = &[0x67, 0x42];
    const PPS: &[u8] = &[0x68, 0xCE];
    const IDR: &[u8] = &[0x65, 0x88];
    const SLICE: &[u8] = &[0x41, 0x9A];

    fn frames(story: &mut Story) -> Vec<Vec<Bytes>> {
        std::iter::from_fn(|| story.assembly.poll())
            .filter_map(|out| match out {
                Assembled::Frame(frame) => Some(frame.packets),
                Assembled::KeyframeNeeded => None,
            })
            .collect()
    }

    #[test]
    fn parameter_sets_sent_alone_join_the_keyframe_behind_them() {
        let mut story = Story::of(Codec::H264);
        story
            .packet(0, 0, true, SPS)
            .packet(1, 0, true, PPS)
            .packet(2, 0, true, IDR)
            .packet(3, 1, true, SLICE);
        assert_eq!(frames(&mut story), [vec![SPS, PPS, IDR], vec![SLICE]]);
    }

    #[test]
    fn parameter_sets_sent_once_are_repeated_before_every_keyframe() {
        let mut story = Story::of(Codec::H264);
        story
            .packet(0, 0, false, SPS)
            .packet(1, 0, false, PPS)
            .packet(2, 0, true, IDR)
            .packet(3, 1, true, IDR);
        assert_eq!(frames(&mut story), [vec![SPS, PPS, IDR], vec![SPS, PPS, IDR]]);
    }

    #[test]
    fn a_later_slice_of_a_torn_picture_is_no_beginning() {
        let mut story = Story::of(Codec::H264);
        story.packet(0, 0, false, SPS).packet(1, 0, false, PPS).packet(2, 0, true, IDR);
        // The first slice of the second picture is lost, its second slice arrives.
        story.packet(4, 1, true, &[0x65, 0x40]).after(250).packet(5, 2, false, PPS).packet(6, 2, true, IDR);
        assert_eq!(frames(&mut story), [vec![SPS, PPS, IDR], vec![SPS, PPS, IDR]]);
        assert_eq!(story.assembly.counts().dropped, 1);
    }

    #[test]
    fn garbage_in_every_codec_is_dropped_quietly() {
        for codec in [Codec::H264, Codec::Vp8, Codec::Opus] {
            let mut story = Story::of(codec);
            for number in 0..500_u16 {
                let noise: Vec<u8> =
                    (0..number % 7).map(|i| (number.wrapping_mul(31 + i) >> 3) as u8).collect();
                story.packet(number ^ (number % 5), number.into(), number % 3 == 0, &noise).after(7);
            }
        }
    }
}
