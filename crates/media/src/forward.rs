//! One viewer's numbering of one track: sequence numbers, timestamps and the pictures' running numbers go on without a jump,
//! whatever layer or broadcast the frames come from.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use haul_model::{Codec, Frame, Kind, Layer, media::PictureNumbers};

use crate::clock::{ntp_from, ticks};

/// How far apart the frames of a replayed GOP are placed. A player runs through them in one go instead of showing
/// seconds-old pictures at their pace.
pub const REPLAY_STEP: Duration = Duration::from_millis(1);
/// A timestamp that lies further back than this is not a picture out of order, but a source whose time has jumped.
const MAX_REORDER: Duration = Duration::from_secs(1);
/// Two captures that lie this much further apart or closer than their arrivals were not told by the same clock.
const MAX_SKEW: Duration = Duration::from_secs(1);
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
    /// The last place that was taken, while a layer's pictures are older than that.
    floor: Option<u32>,
    /// The layer that frames are taken from; `None` while waiting for a keyframe to start at.
    source: Option<Layer>,
    /// The layer to change to at its next keyframe.
    wanted: Option<Layer>,
    continuity: Continuity,
}

#[derive(Debug, Clone, Copy)]
struct Last {
    timestamp: u32,
    /// Where it would have been if there had been room: the place that its capture belongs to.
    exact: u32,
    arrived: Instant,
    /// The instant of its capture on the publisher's clock, if that is known.
    captured: Option<u64>,
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
            floor: None,
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
            self.join_timeline(frame, 0);
            self.begin(frame);
        }
        let exact = frame.timestamp.wrapping_add(self.offset);
        let timestamp = self.catch_up(exact, frame.begins);
        // The timeline stands at the latest picture, not at one that is shown before it (a B-frame).
        let latest = self.last.map(|last| last.timestamp);
        let behind = latest.map_or(0, |latest| latest.wrapping_sub(timestamp));
        let ahead = latest.filter(|_| (1..=ticks(MAX_REORDER, self.clock_hz)).contains(&behind));
        self.last = Some(match (ahead, self.last) {
            (Some(_), Some(last)) => Last { arrived: frame.arrived.instant, ..last },
            _ => Last { timestamp, ..Last::of(frame, exact) },
        });
        Some(timestamp)
    }

    /// When the frames of a cached GOP are to be shown by somebody who has just joined: as if they had come
    /// [`REPLAY_STEP`] apart and the last one just now.
    pub fn replay(&mut self, gop: &[Arc<Frame>]) -> Vec<u32> {
        let ([first, ..], [.., last]) = (gop, gop) else { return Vec::new() };
        let step = ticks(REPLAY_STEP, self.clock_hz);
        // Parts of one access unit have one place. The first frame is the keyframe, so it begins one.
        let span = step * gop[1..].iter().filter(|frame| frame.begins).count() as u32;
        self.join_timeline(last, span);
        self.begin(first);
        let end = last.timestamp.wrapping_add(self.offset);
        self.last = Some(Last::of(last, end));
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

    /// Whether anything was sent that padding could follow.
    pub fn has_begun(&self) -> bool {
        self.last.is_some()
    }

    /// How to send so many packets of padding: behind the last frame, when it has gone out whole. `None` before the first.
    pub fn pad(&mut self, packets: usize) -> Option<Outgoing> {
        let timestamp = self.last?.timestamp;
        let first_sequence = self.next_sequence;
        self.next_sequence += packets as u64;
        Some(Outgoing { first_sequence, timestamp, numbers: None })
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

    /// Places the first frame of a source on the timeline: as much later than the last one as it was captured later, so
    /// that lips and voice stay together, or else as it arrived later; and at least one tick and `room` later.
    fn join_timeline(&mut self, first: &Frame, room: u32) {
        self.floor = None;
        let Some(last) = self.last else {
            // The first place is the one given, whatever the source's own count is.
            self.offset = self.offset.wrapping_sub(first.timestamp);
            return;
        };
        let place = match last.captured_before(first, self.clock_hz).filter(|_| room == 0) {
            Some(elapsed) => {
                self.floor = Some(last.timestamp);
                last.exact.wrapping_add(elapsed as u32)
            }
            None => {
                let elapsed = ticks(last.arrived_before(first), self.clock_hz);
                last.timestamp.wrapping_add(elapsed.max(1 + room))
            }
        };
        self.offset = place.wrapping_sub(first.timestamp);
    }

    /// A layer may begin with pictures that are older than the last one of the layer before. They follow it in no time
    /// until they have caught up: nothing goes back.
    fn catch_up(&mut self, exact: u32, begins: bool) -> u32 {
        let Some(floor) = self.floor else { return exact };
        let has_caught_up = (exact.wrapping_sub(floor) as i32) > 0;
        let place = match (has_caught_up, begins) {
            (true, _) => exact,
            (false, true) => floor.wrapping_add(1),
            (false, false) => floor,
        };
        self.floor = (!has_caught_up).then_some(place);
        place
    }

    fn begin(&mut self, first: &Frame) {
        self.source = Some(first.layer);
        self.wanted = self.wanted.filter(|wanted| *wanted != first.layer);
        self.continuity.begin(first.numbers);
    }
}

impl Last {
    fn of(frame: &Frame, timestamp: u32) -> Self {
        Self {
            timestamp,
            exact: timestamp,
            arrived: frame.arrived.instant,
            captured: frame.captured.map(|captured| captured.ntp),
        }
    }

    fn arrived_before(&self, next: &Frame) -> Duration {
        next.arrived.instant.saturating_duration_since(self.arrived)
    }

    /// How many ticks before `next` it was captured; `None` where that is not known by one clock.
    fn captured_before(&self, next: &Frame, clock_hz: u32) -> Option<i64> {
        let elapsed = next.captured?.ntp.wrapping_sub(self.captured?) as i64;
        let skew = elapsed.abs_diff(ntp_from(self.arrived_before(next)) as i64);
        (skew <= ntp_from(MAX_SKEW)).then_some(((i128::from(elapsed) * i128::from(clock_hz)) >> 32) as i64)
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
    use haul_model::media::Capture;

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

    /// Two layers of one capture, whose own timestamps begin anywhere and whose frames take their own time to come.
    fn captured(make: &mut FrameMaker, captured_ms: u64, came_ms: u64, keyframe: bool) -> Arc<Frame> {
        let ntp = 7_000 + ntp_from(Duration::from_millis(captured_ms));
        make.now = start().after(Duration::from_millis(came_ms));
        let frame = if keyframe { make.keyframe() } else { make.delta() };
        Arc::new(Frame { captured: Some(Capture { ntp, to_ours: None }), ..(*frame).clone() })
    }

    #[test]
    fn pictures_stay_where_they_were_captured_however_long_a_layers_keyframe_takes() {
        let (mut forward, mut high) = (video(), FrameMaker::at(start()));
        let mut low = FrameMaker::at(start());
        (low.layer, low.timestamp) = (Layer(1), 99);
        let first = forward.place(&captured(&mut high, 0, 0, true)).unwrap();
        let mut since = |frame: &Frame| forward.place(frame).unwrap().wrapping_sub(first);
        assert_eq!(since(&captured(&mut high, 33, 40, false)), 2_970);
        forward.prefer(Layer(1));
        let mut since = |frame: &Frame| forward.place(frame).unwrap().wrapping_sub(first);
        // It took 60 ms more.
        let keyframe = since(&captured(&mut low, 66, 133, true));
        assert!(keyframe.abs_diff(66 * 90) <= 1, "{keyframe}");
        // Back, to a picture that is older than the last one: after it, and what follows catches up.
        forward.prefer(Layer(0));
        high.timestamp = 800_000;
        let mut since = |frame: &Frame| forward.place(frame).unwrap().wrapping_sub(first);
        assert_eq!(since(&captured(&mut high, 33, 140, true)), keyframe + 1);
        let second = since(&captured(&mut high, 66, 150, false));
        assert!((keyframe + 1..keyframe + 3).contains(&second), "{second}");
        let third = since(&captured(&mut high, 99, 160, false));
        assert!(third.abs_diff(99 * 90) <= 2, "{third}");
    }

    #[test]
    fn a_clock_that_was_set_is_not_believed() {
        let (mut forward, mut make) = (video(), FrameMaker::at(start()));
        let first = forward.place(&captured(&mut make, 10_000, 0, true)).unwrap();
        forward.restart();
        let second = forward.place(&captured(&mut make, 5_000, 1_000, true)).unwrap();
        assert_eq!(second.wrapping_sub(first), 90_000, "as it came");
        forward.restart();
        let third = forward.place(&captured(&mut make, 4_000_000, 2_000, true)).unwrap();
        assert_eq!(third.wrapping_sub(first), 180_000);
    }

    #[test]
    fn padding_follows_the_last_picture_and_takes_numbers() {
        let (mut forward, mut make) = (video(), FrameMaker::at(start()));
        assert_eq!(forward.pad(3), None);
        let last = forward.frame(&make.keyframe()).unwrap();
        let padding = forward.pad(3).unwrap();
        assert_eq!((padding.first_sequence, padding.timestamp), (last.first_sequence + 1, last.timestamp));
        assert_eq!(forward.frame(&make.delta()).unwrap().first_sequence, last.first_sequence + 4);
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
