//! One viewer's numbering of one track: sequence numbers, timestamps and the pictures' running numbers go on without a jump,
//! whatever layer or broadcast the frames come from.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use haul_model::{Codec, Frame, Kind, Layer, media::PictureNumbers};

use crate::clock::ticks;

/// How far apart the frames of a replayed GOP are placed. A player runs through them in one go instead of showing
/// seconds-old pictures at their pace.
pub const REPLAY_STEP: Duration = Duration::from_millis(1);
/// A timestamp that lies further back than this is not a picture out of order, but a source whose time has jumped.
const MAX_REORDER: Duration = Duration::from_secs(1);
/// A layer that has sent nothing for this long is left for another at that one's next keyframe.
pub const LAYER_SILENCE: Duration = Duration::from_secs(1);

/// How a frame is numbered for one viewer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outgoing {
    /// The first packet's sequence number, extended: its low 16 bits go into the header, the rest is SRTP's rollover
    /// counter. The frame's other packets follow.
    pub first_sequence: u64,
    /// The timestamp.
    pub timestamp: u32,
    /// What to write over the payloads' running numbers; `None` where they are right as they are.
    pub numbers: Option<PictureNumbers>,
}

/// One viewer's side of one track.
#[derive(Debug)]
pub struct Forward {
    clock_hz: u32,
    kind: Kind,
    /// The next packet's sequence number, extended.
    next_sequence: u64,
    /// What to add to a frame's timestamp; changes with the source.
    offset: u32,
    /// Where the timeline stands; `None` before the first frame, whose place is free.
    last: Option<Last>,
    /// The layer that frames are taken from; `None` while waiting for a keyframe to start at.
    source: Option<Layer>,
    /// The layer to change to at its next keyframe.
    wanted: Option<Layer>,
    continuity: Continuity,
}

#[derive(Debug, Clone, Copy)]
struct Last {
    timestamp: u32,
    arrived: Instant,
}

impl Forward {
    /// A track of `codec` that starts at `sequence` and `timestamp`, both of which should be random. The sequence
    /// starts in the lower half, so that a viewer who misses the first packets can't get the rollover wrong
    /// (RFC 3711, 3.3.1).
    pub fn new(codec: Codec, sequence: u16, timestamp: u32) -> Self {
        Self {
            clock_hz: codec.clock_rate_hz(),
            kind: codec.kind(),
            next_sequence: u64::from(sequence & 0x7FFF),
            offset: timestamp,
            last: None,
            source: None,
            wanted: None,
            continuity: Continuity::default(),
        }
    }

    /// The source has changed or paused (another broadcast): wait for a keyframe, then go on where the timeline stands
    /// by then.
    pub fn restart(&mut self) {
        self.source = None;
        self.wanted = None;
    }

    /// A frame was left out: nothing more until a keyframe of the layer there was, or of the one that was preferred.
    pub fn interrupt(&mut self) {
        self.wanted = self.wanted.or(self.source);
        self.source = None;
    }

    /// Change to `layer` at its next keyframe.
    pub fn prefer(&mut self, layer: Layer) {
        self.wanted = (self.source != Some(layer)).then_some(layer);
    }

    /// The layer whose keyframe is waited for, if one is.
    pub fn awaits(&self) -> Option<Layer> {
        self.wanted
    }

    /// The layer that frames are taken from, if one was started.
    pub fn layer(&self) -> Option<Layer> {
        self.source
    }

    /// What to add to the source's timestamps; `None` while nothing was sent of it.
    pub fn offset(&self) -> Option<u32> {
        self.source.map(|_| self.offset)
    }

    /// When `frame` is to be shown, on this viewer's timeline; `None` if this viewer is not to have it. Frames are
    /// placed in the order they come, and [`Forward::number`]ed when they go out.
    pub fn place(&mut self, frame: &Frame) -> Option<u32> {
        if !self.takes(frame) {
            return None;
        }
        if self.source != Some(frame.layer) {
            self.join_timeline(frame.timestamp, frame.arrived.instant, 0);
            self.begin(frame);
        }
        let timestamp = frame.timestamp.wrapping_add(self.offset);
        // The timeline stands at the latest picture, not at one that is shown before it (a B-frame).
        let latest = self.last.map(|last| last.timestamp);
        let behind = latest.map_or(0, |latest| latest.wrapping_sub(timestamp));
        let ahead = latest.filter(|_| (1..=ticks(MAX_REORDER, self.clock_hz)).contains(&behind));
        self.last = Some(Last { timestamp: ahead.unwrap_or(timestamp), arrived: frame.arrived.instant });
        Some(timestamp)
    }

    /// When the frames of a cached GOP are to be shown by somebody who has just joined: as if they had come
    /// [`REPLAY_STEP`] apart and the last one just now.
    pub fn replay(&mut self, gop: &[Arc<Frame>]) -> Vec<u32> {
        let ([first, ..], [.., last]) = (gop, gop) else { return Vec::new() };
        let step = ticks(REPLAY_STEP, self.clock_hz);
        // Parts of one access unit have one place. The first frame is the keyframe, so it begins one.
        let span = step * gop[1..].iter().filter(|frame| frame.begins).count() as u32;
        self.join_timeline(last.timestamp, last.arrived.instant, span);
        self.begin(first);
        let end = last.timestamp.wrapping_add(self.offset);
        self.last = Some(Last { timestamp: end, arrived: last.arrived.instant });
        let steps =
            gop.iter().enumerate().map(|(index, frame)| if index > 0 && frame.begins { step } else { 0 });
        steps
            .scan(end.wrapping_sub(span), |place, step| {
                *place = place.wrapping_add(step);
                Some(*place)
            })
            .collect()
    }

    /// How to send a frame that was placed at `timestamp`.
    pub fn number(&mut self, frame: &Frame, timestamp: u32) -> Outgoing {
        let first_sequence = self.next_sequence;
        self.next_sequence += frame.packets.len() as u64;
        Outgoing { first_sequence, timestamp, numbers: self.continuity.number(frame.numbers) }
    }

    fn takes(&mut self, frame: &Frame) -> bool {
        if self.kind == Kind::Audio || self.source == Some(frame.layer) {
            return true;
        }
        frame.keyframe
            && match self.source {
                Some(_) => self.wanted == Some(frame.layer) || self.silent(frame.arrived.instant),
                None => self.wanted.is_none_or(|wanted| wanted == frame.layer),
            }
    }

    fn silent(&self, now: Instant) -> bool {
        self.last.is_none_or(|last| now.saturating_duration_since(last.arrived) >= LAYER_SILENCE)
    }

    /// Places a source's `timestamp` on the timeline: as much later than the last frame as it arrived later, and at
    /// least one tick and `room` later.
    fn join_timeline(&mut self, timestamp: u32, arrived: Instant, room: u32) {
        if let Some(last) = self.last {
            let elapsed = ticks(arrived.saturating_duration_since(last.arrived), self.clock_hz);
            let place = last.timestamp.wrapping_add(elapsed.max(1 + room));
            self.offset = place.wrapping_sub(timestamp);
        } else {
            // The first place is the one given, whatever the source's own count is.
            self.offset = self.offset.wrapping_sub(timestamp);
        }
    }

    fn begin(&mut self, first: &Frame) {
        self.source = Some(first.layer);
        self.wanted = self.wanted.filter(|wanted| *wanted != first.layer);
        self.continuity.begin(first.numbers);
    }
}

/// VP8's and VP9's picture id (15 bits) and TL0PICIDX (8 bits), kept running by adding what makes the first frame of a source
/// follow the last of the one before.
#[derive(Debug, Default)]
struct Continuity {
    picture_id: u16,
    tl0: u8,
    last: Option<PictureNumbers>,
}

impl Continuity {
    fn begin(&mut self, first: Option<PictureNumbers>) {
        let (Some(first), Some(last)) = (first, self.last) else { return };
        self.picture_id = last.picture_id.wrapping_add(1).wrapping_sub(first.picture_id) & 0x7FFF;
        if let (Some(first), Some(last)) = (first.tl0, last.tl0) {
            self.tl0 = last.wrapping_add(1).wrapping_sub(first);
        }
    }

    fn number(&mut self, numbers: Option<PictureNumbers>) -> Option<PictureNumbers> {
        let numbers = numbers?;
        let running = PictureNumbers {
            picture_id: numbers.picture_id.wrapping_add(self.picture_id) & 0x7FFF,
            tl0: numbers.tl0.map(|tl0| tl0.wrapping_add(self.tl0)),
        };
        self.last = Some(running);
        (running != numbers).then_some(running)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{FrameMaker, start};

    fn video() -> Forward {
        Forward::new(Codec::Vp8, 40_000, u32::MAX - 10)
    }

    impl Forward {
        /// Places and numbers at once, as with an empty queue.
        fn frame(&mut self, frame: &Frame) -> Option<Outgoing> {
            let timestamp = self.place(frame)?;
            Some(self.number(frame, timestamp))
        }
    }

    #[test]
    fn sequence_numbers_run_on_and_the_first_stand_where_they_were_put() {
        let (mut forward, mut make) = (video(), FrameMaker::at(start()));
        make.packets = 3;
        assert_eq!(forward.frame(&make.delta()), None, "waits for a keyframe");
        let key = forward.frame(&make.keyframe()).unwrap();
        assert_eq!((key.first_sequence, key.timestamp), (40_000 & 0x7FFF, u32::MAX - 10));
        let delta = forward.frame(&make.delta()).unwrap();
        assert_eq!(delta.first_sequence, key.first_sequence + 3);
        assert_eq!(delta.timestamp.wrapping_sub(key.timestamp), 2_970, "33 ms, across the wrap");
    }

    #[test]
    fn the_host_returns_and_the_viewers_timeline_goes_on_by_the_time_away() {
        let (mut forward, mut make) = (video(), FrameMaker::at(start()));
        make.numbers = Some(PictureNumbers { picture_id: 0x7FFE, tl0: Some(255) });
        forward.frame(&make.keyframe()).unwrap();
        let last = forward.frame(&make.delta()).unwrap();
        assert_eq!(last.numbers, None, "the first source's numbers are right as they are");

        forward.restart();
        let mut make = FrameMaker::at(make.now.after(Duration::from_millis(2_967)));
        make.timestamp = 3_000_000_000;
        make.numbers = Some(PictureNumbers { picture_id: 77, tl0: Some(3) });
        assert_eq!(forward.frame(&make.delta()), None);
        let again = forward.frame(&make.keyframe()).unwrap();
        assert_eq!(again.first_sequence, last.first_sequence + 1);
        // Three seconds from the last frame, plus the delta that was not for this viewer.
        assert_eq!(again.timestamp.wrapping_sub(last.timestamp), 90 * 3_033);
        assert_eq!(again.numbers, Some(PictureNumbers { picture_id: 0, tl0: Some(1) }), "after 0x7FFF and 0");
    }

    #[test]
    fn a_joiner_runs_through_the_gop_and_is_live() {
        let (mut forward, mut make) = (video(), FrameMaker::at(start()));
        let gop: Vec<_> = std::iter::once(make.keyframe()).chain((0..29).map(|_| make.delta())).collect();
        let replayed = forward.replay(&gop);
        assert_eq!(replayed.len(), 30);
        assert!(replayed.windows(2).all(|pair| pair[1].wrapping_sub(pair[0]) == 90));
        let live = forward.place(&make.delta()).unwrap();
        assert_eq!(live.wrapping_sub(replayed[29]), 2_970);
    }

    #[test]
    fn the_parts_of_a_picture_have_one_place_and_no_layer_begins_in_the_middle_of_one() {
        let (mut forward, mut make) = (video(), FrameMaker::at(start()));
        let part = |of: &Frame, begins, ends| {
            Arc::new(Frame { keyframe: of.keyframe && begins, begins, ends, ..of.clone() })
        };
        let (key, delta) = (make.keyframe(), make.delta());
        let gop = [part(&key, true, false), part(&key, false, false), part(&key, false, true), delta];
        let replayed = forward.replay(&gop);
        assert!(replayed[0] == replayed[1] && replayed[1] == replayed[2]);
        assert_eq!(replayed[3].wrapping_sub(replayed[0]), 90);

        let (mut low, layer) = (FrameMaker::at(make.now), Layer(1));
        low.layer = layer;
        forward.prefer(layer);
        let key = low.keyframe();
        assert_eq!(forward.place(&part(&key, false, false)), None);
        assert!(forward.place(&make.delta()).is_some());
        let key = low.keyframe();
        let places =
            [(true, false), (false, false), (false, true)].map(|(b, e)| forward.place(&part(&key, b, e)));
        assert!(places[0].is_some() && places[0] == places[1] && places[1] == places[2]);
    }

    #[test]
    fn pictures_out_of_order_do_not_set_the_timeline_back() {
        let (mut forward, mut make) = (video(), FrameMaker::at(start()));
        make.interval = Duration::ZERO;
        let mut send = |make: &mut FrameMaker, timestamp| {
            make.timestamp = timestamp;
            forward.place(&make.keyframe()).unwrap()
        };
        let first = send(&mut make, 1_000);
        let latest = send(&mut make, 10_000);
        assert_eq!(send(&mut make, 4_000).wrapping_sub(first), 3_000, "where it belongs");
        forward.restart();
        let again = forward.place(&make.keyframe()).unwrap();
        assert!(again.wrapping_sub(latest) < 1 << 31, "behind everything that was sent");
    }

    #[test]
    fn frames_left_out_of_a_replay_leave_no_gap() {
        let (mut forward, mut make) = (video(), FrameMaker::at(start()));
        let gop = [make.keyframe(), make.delta(), make.delta()];
        let replayed = forward.replay(&gop);
        let first = forward.number(&gop[0], replayed[0]);
        // A live keyframe overtakes the rest.
        let live = forward.frame(&make.keyframe()).unwrap();
        assert_eq!(live.first_sequence, first.first_sequence + 1);
        assert!(live.timestamp.wrapping_sub(first.timestamp) < 1 << 31);
    }

    #[test]
    fn a_replay_after_other_frames_still_only_goes_forward() {
        let (mut forward, mut make) = (video(), FrameMaker::at(start()));
        let before = forward.frame(&make.keyframe()).unwrap();
        forward.restart();
        let gop: Vec<_> = std::iter::once(make.keyframe()).chain((0..99).map(|_| make.delta())).collect();
        let first = forward.replay(&gop[..50])[0];
        let ahead = first.wrapping_sub(before.timestamp);
        assert!((1..90_000 * 10).contains(&ahead), "{ahead}");
    }

    #[test]
    fn layers_change_at_keyframes_only() {
        let (mut forward, mut high) = (video(), FrameMaker::at(start()));
        let mut low = FrameMaker::at(start());
        low.layer = Layer(1);
        forward.frame(&high.keyframe()).unwrap();
        assert_eq!(forward.frame(&low.keyframe()), None, "nobody asked for it");
        forward.prefer(Layer(1));
        assert_eq!(forward.frame(&low.delta()), None);
        assert!(forward.frame(&high.delta()).is_some(), "the old layer goes on until then");
        assert!(forward.frame(&low.keyframe()).is_some());
        assert_eq!(forward.frame(&high.delta()), None);
        assert_eq!(forward.layer(), Some(Layer(1)));
    }

    #[test]
    fn a_layer_that_falls_silent_is_left() {
        let (mut forward, mut high) = (video(), FrameMaker::at(start()));
        let mut low = FrameMaker::at(start());
        low.layer = Layer(1);
        forward.frame(&high.keyframe()).unwrap();
        low.now = low.now.after(Duration::from_millis(999));
        assert_eq!(forward.frame(&low.keyframe()), None);
        assert!(forward.frame(&low.keyframe()).is_some());
    }

    #[test]
    fn sound_starts_anywhere() {
        let mut forward = Forward::new(Codec::Opus, 1, 2);
        let mut make = FrameMaker::at(start());
        make.kind = Kind::Audio;
        make.interval = Duration::from_millis(20);
        let first = forward.frame(&make.delta()).unwrap();
        let second = forward.frame(&make.delta()).unwrap();
        assert_eq!(second.timestamp - first.timestamp, 960);
    }
}
