//! Packets become frames: put in order, holes waited for while a retransmission may fill them, and given up when not.
//!
//! Nothing broken leaves here. After a hole in the pictures that could not be filled, what depends on what was lost is
//! dropped; where that is everything, up to the next keyframe, which is asked for. Whoever watches sees a short freeze
//! and never a smear. A picture that takes long to arrive goes on in parts; if its rest never comes, it was the last
//! before a keyframe.

mod pictures;

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use bytes::Bytes;
use haul_model::{Codec, Frame, Kind, Layer, Now, media::PictureNumbers};

use crate::{nack::Nacks, sequence};

use pictures::{Judgement, Pictures};

/// How long a missing packet of the pictures is waited for, from the arrival of the one behind it. Time for two or
/// three retransmissions over a usual uplink; longer, and a keyframe is quicker.
pub const VIDEO_PATIENCE: Duration = Duration::from_millis(250);
/// The same over a long uplink: so many of its round trips. Time for three requests, a quarter of a round trip apart from
/// what each may take.
const PATIENCE_ROUND_TRIPS: u32 = 4;
/// And no longer than this.
pub const MAX_VIDEO_PATIENCE: Duration = Duration::from_millis(800);
/// How long a missing packet of sound is waited for. Players conceal a gap better than they bear a stall.
pub const AUDIO_PATIENCE: Duration = Duration::from_millis(60);
/// The most packets between the oldest awaited and the newest: over a second at 20 Mb/s. A packet beyond it is ignored,
/// and if the next one follows it, the stream is taken to have started anew there.
pub const MAX_SPAN: usize = 2_048;
/// The most packets that the first to arrive of a stream may have overtaken.
const MAX_EARLY: u64 = 16;
/// A picture that is still arriving so long after its first packet goes on in parts, as far as it is there without a
/// hole.
pub const PART_AFTER: Duration = Duration::from_millis(8);
/// A keyframe that was asked for and does not come is asked for again after this time, and then after twice as long each
/// time.
pub const KEYFRAME_RETRY: Duration = Duration::from_millis(500);
/// And never later than this.
pub const MAX_KEYFRAME_RETRY: Duration = Duration::from_secs(4);
/// A timestamp that lies further back than this is not a picture out of order, but a stream whose time has jumped.
const MAX_REORDER_TICKS: u32 = 90_000;

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
    /// The next frame, in order of decoding, or the next part of one.
    Frame(Frame),
    /// Decoding can't go on without a keyframe: ask for one. Said once, and again ever less often while none comes and
    /// frames are dropped for want of it.
    KeyframeNeeded,
    /// The encoder sends pictures out of the order they are shown in (B-frames), which browsers stutter on. Said once.
    OutOfOrder,
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
    /// Frames not handed on because something that they may depend on was lost.
    pub dropped: u64,
    /// Frames that went on in parts.
    pub in_parts: u64,
}

/// One incoming RTP stream: an audio track, or one layer of a video track.
#[derive(Debug)]
pub struct Assembly {
    kind: Kind,
    layer: Layer,
    /// What the payloads say.
    pictures: Pictures,
    /// What to ask for again; sound is not.
    nacks: Nacks,
    /// The newest sequence number, extended; `None` before the first packet.
    newest: Option<u64>,
    /// The sequence number of the window's front: all before it is done.
    front: u64,
    /// Nothing has left the window yet.
    fresh: bool,
    /// Packets from the front on; `None` where one is missing. Its last entry is never `None`.
    window: VecDeque<Option<(Instant, Packet)>>,
    /// So many packets at the front are present and known not to end a frame: looking starts behind them.
    scanned: usize,
    /// When the hole that holds up the front is given up.
    deadline: Option<Instant>,
    /// The sequence number that would prove that the stream has started anew elsewhere.
    restart_at: Option<u16>,
    /// The picture whose first parts have gone on.
    open: Option<Open>,
    /// When what is there of the front's picture goes on as a part.
    part_due: Option<Instant>,
    /// With so many packets it was tried and could not.
    part_tried: usize,
    /// A picture was dropped since it was last said that a keyframe is needed.
    missed: bool,
    /// When it was said, and how long it lasts.
    asked: Option<(Instant, Duration)>,
    /// The latest timestamp that went on.
    latest: Option<u32>,
    /// It was said that pictures come out of order.
    disorder_told: bool,
    out: VecDeque<Assembled>,
    counts: Counts,
}

/// A picture that goes on in parts.
#[derive(Debug, Clone, Copy)]
struct Open {
    timestamp: u32,
    numbers: Option<PictureNumbers>,
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
            kind: codec.kind(),
            layer,
            pictures: Pictures::new(codec),
            nacks: Nacks::default(),
            newest: None,
            front: 0,
            fresh: true,
            window: VecDeque::new(),
            scanned: 0,
            deadline: None,
            restart_at: None,
            open: None,
            part_due: None,
            part_tried: 0,
            missed: false,
            asked: None,
            latest: None,
            disorder_told: false,
            out: VecDeque::new(),
            counts: Counts::default(),
        }
    }

    /// Parameter sets that were told out of band, one unit each: put in front of keyframes that come without.
    pub fn with_parameter_sets(mut self, sets: impl IntoIterator<Item = Bytes>) -> Self {
        self.pictures.know(sets);
        self
    }

    /// Takes a packet as it arrives. [`Assembly::poll`] until `None` afterwards.
    pub fn push(&mut self, now: Now, packet: Packet) {
        let extended = match self.newest {
            Some(newest) => sequence::nearest(newest, packet.sequence),
            None => self.start_at(packet.sequence),
        };
        if extended < self.front && self.fresh && self.front - extended <= MAX_EARLY {
            let missing = self.front - extended;
            (0..missing).for_each(|_| self.window.push_front(None));
            self.front = extended;
            self.scanned = 0;
            self.nacks.miss(extended + 1, extended + missing, now.instant);
        }
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
        if self.kind == Kind::Video {
            match self.newest {
                Some(newest) if extended > newest => {
                    self.nacks.miss(newest + 1, extended, now.instant);
                    self.nacks.advance(extended, packet.marker, now.instant);
                }
                _ => self.nacks.arrive(extended, now.instant),
            }
        }
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

    /// When to call [`Assembly::handle_timeout`], or [`Assembly::poll_nacks`].
    pub fn poll_timeout(&self) -> Option<Instant> {
        [self.deadline, self.part_due, self.nacks.poll_timeout()].into_iter().flatten().min()
    }

    /// Which packets to ask for again now, by sequence number. They are taken as asked for.
    pub fn poll_nacks(&mut self, now: Instant) -> Vec<u16> {
        self.nacks.poll(now)
    }

    /// How long the host takes to send something again, once that was seen.
    pub fn round_trip(&self) -> Option<Duration> {
        self.nacks.round_trip()
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
        self.fresh = true;
        self.newest = Some(self.front);
        self.front
    }

    /// The stream goes on at an unrelated sequence number, as after an encoder's restart.
    fn restart(&mut self, now: Now, packet: Packet) {
        self.counts.lost += self.window.iter().filter(|slot| slot.is_none()).count() as u64;
        self.window.clear();
        self.scanned = 0;
        self.part_tried = 0;
        self.restart_at = None;
        self.newest = None;
        self.open = None;
        self.latest = None;
        self.nacks.restart();
        self.pictures.break_off();
        self.missed = true;
        self.push(now, packet);
    }

    fn advance(&mut self, now: Now) {
        self.complete_all(now);
        self.pass_on_part(now);
        // What was dropped may already be made good by a keyframe behind it.
        if std::mem::take(&mut self.missed) && self.pictures.broken() {
            self.need_keyframe(now.instant);
        }
    }

    fn need_keyframe(&mut self, now: Instant) {
        let wait = match self.asked {
            Some((at, wait)) if now.saturating_duration_since(at) < wait => return,
            Some((_, wait)) => (2 * wait).min(MAX_KEYFRAME_RETRY),
            None => KEYFRAME_RETRY,
        };
        self.asked = Some((now, wait));
        self.out.push_back(Assembled::KeyframeNeeded);
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
            } else if let Some(Some((_, first))) = self.window.front()
                && first.timestamp != packet.timestamp
            {
                return Front::Frame(index);
            } else if self.kind == Kind::Audio || packet.marker {
                return Front::Frame(index + 1);
            }
            self.scanned += 1;
        }
        Front::Unfinished
    }

    /// The hole at `index` has held up what is behind it since the first of that arrived.
    fn patience_ends(&self, index: usize) -> Instant {
        let patience = match self.kind {
            Kind::Video => {
                let long = self.nacks.round_trip().map_or(VIDEO_PATIENCE, |trip| trip * PATIENCE_ROUND_TRIPS);
                long.clamp(VIDEO_PATIENCE, MAX_VIDEO_PATIENCE)
            }
            Kind::Audio => AUDIO_PATIENCE,
        };
        let behind = self.window.iter().skip(index).flatten().map(|(arrived, _)| *arrived).min();
        behind.expect("the window's last entry is a packet") + patience
    }

    /// Drops the frame that the hole at `index` is in, and the hole.
    fn give_up(&mut self, index: usize) {
        let missing = self.window.iter().skip(index).take_while(|slot| slot.is_none()).count();
        self.counts.lost += missing as u64;
        if self.open.take().is_some() {
            // Its first parts are with the viewers.
            self.pictures.break_off();
        } else {
            let torn = self.window.front().and_then(|slot| slot.as_ref()).map(|(_, packet)| &packet.payload);
            self.pictures.lose(torn.filter(|_| index > 0));
        }
        self.discard(index + missing);
        self.missed = true;
    }

    fn discard(&mut self, packets: usize) {
        self.window.drain(..packets);
        self.moved(packets);
    }

    /// So many packets have left the window.
    fn moved(&mut self, packets: usize) {
        self.fresh = false;
        self.front += packets as u64;
        self.scanned = 0;
        self.part_tried = 0;
        self.nacks.forget_before(self.front);
    }

    /// The payloads of the first `count` packets, which are all there.
    fn take(&mut self, count: usize) -> Vec<Bytes> {
        let payloads = self.window.drain(..count).flatten().map(|(_, packet)| packet.payload);
        let payloads = payloads.filter(|payload| !payload.is_empty()).collect();
        self.moved(count);
        payloads
    }

    fn front_timestamp(&self) -> Option<u32> {
        self.window.front()?.as_ref().map(|(_, packet)| packet.timestamp)
    }

    /// The first `count` packets are a frame, or the end of one.
    fn complete(&mut self, now: Now, count: usize) {
        let timestamp = self.front_timestamp().expect("a frame has packets, and the front is its first");
        let mut packets = self.take(count);
        if let Some(open) = self.open.take()
            && open.timestamp == timestamp
        {
            self.counts.frames += 1;
            self.counts.in_parts += 1;
            let frame = self.frame(now, timestamp, packets);
            self.out.push_back(Assembled::Frame(Frame { begins: false, numbers: open.numbers, ..frame }));
            return;
        }
        match self.pictures.begin(&mut packets) {
            Judgement::Go { keyframe, numbers } => {
                self.counts.frames += 1;
                let frame = self.frame(now, timestamp, packets);
                self.go(Frame { keyframe, numbers, ..frame });
            }
            Judgement::Keep => {}
            Judgement::Drop => {
                self.counts.dropped += 1;
                self.missed = true;
            }
        }
    }

    fn frame(&self, now: Now, timestamp: u32, packets: Vec<Bytes>) -> Frame {
        Frame {
            kind: self.kind,
            layer: self.layer,
            timestamp,
            arrived: now,
            keyframe: false,
            begins: true,
            ends: true,
            captured: None,
            numbers: None,
            packets,
        }
    }

    /// A frame, or the first part of one, goes on.
    fn go(&mut self, frame: Frame) {
        if frame.kind == Kind::Video {
            self.counts.keyframes += u64::from(frame.keyframe);
            if frame.keyframe {
                self.asked = None;
            }
            self.watch_order(frame.timestamp);
        }
        self.out.push_back(Assembled::Frame(frame));
    }

    /// B-frames show in two ways: they are shown before what was sent before them; and where the publisher stamps its
    /// packets in order of sending all the same, their slices say what they are.
    fn watch_order(&mut self, timestamp: u32) {
        let behind = self.latest.map_or(0, |latest| latest.wrapping_sub(timestamp));
        let backwards = (1..=MAX_REORDER_TICKS).contains(&behind);
        if !backwards {
            self.latest = Some(timestamp);
        }
        if (backwards || self.pictures.bidirectional()) && !self.disorder_told {
            self.disorder_told = true;
            self.out.push_back(Assembled::OutOfOrder);
        }
    }

    /// Lets what is there of a picture go on, if it has been arriving for long enough. The last packet that is there
    /// stays, because it may turn out to be the picture's last, which is to carry the marker.
    fn pass_on_part(&mut self, now: Now) {
        self.part_due = None;
        let there = self.window.iter().take(self.scanned).flatten();
        let Some((arrived, timestamp)) = there.clone().next().map(|(arrived, p)| (*arrived, p.timestamp))
        else {
            return;
        };
        let count = there.enumerate().filter(|(_, (_, packet))| !packet.payload.is_empty()).last();
        let count = count.map_or(0, |(index, _)| index);
        // What could not go on is not tried again before there is twice as much of it.
        if self.kind == Kind::Audio || count == 0 || count < 2 * self.part_tried {
            return;
        }
        if now.instant < arrived + PART_AFTER {
            self.part_due = Some(arrived + PART_AFTER);
            return;
        }
        if let Some(open) = self.open.filter(|open| open.timestamp == timestamp) {
            let packets = self.take(count);
            let part = self.frame(now, timestamp, packets);
            let part = Frame { begins: false, ends: false, numbers: open.numbers, ..part };
            self.out.push_back(Assembled::Frame(part));
            return;
        }
        let mut trial = self.pictures.clone();
        let payloads = self.window.iter().take(count).flatten().map(|(_, packet)| &packet.payload);
        let mut packets: Vec<Bytes> = payloads.filter(|payload| !payload.is_empty()).cloned().collect();
        let (keyframe, numbers) = match trial.begin(&mut packets) {
            Judgement::Go { keyframe, numbers } => (keyframe, numbers),
            Judgement::Keep => return,
            Judgement::Drop => {
                self.part_tried = count;
                return;
            }
        };
        self.pictures = trial;
        self.discard(count);
        self.open = Some(Open { timestamp, numbers });
        let part = self.frame(now, timestamp, packets);
        self.go(Frame { keyframe, numbers, ends: false, ..part });
    }
}

#[cfg(test)]
mod tests;
