//! What the tests of this crate share: an instant to start from, and frames as an encoder makes them.

use std::{
    sync::{Arc, LazyLock},
    time::{Duration, Instant},
};

use bytes::Bytes;
use haul_model::{Frame, Kind, Layer, Now, UnixMillis, media::PictureNumbers};

/// The first instant of every test. There is no other way to make one; what it is does not matter.
#[allow(clippy::disallowed_methods)]
pub(crate) fn start() -> Now {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    Now { instant: *START, wall: UnixMillis(1_700_000_000_000) }
}

/// Makes frames one after another, 30 a second unless told.
pub(crate) struct FrameMaker {
    pub(crate) now: Now,
    pub(crate) interval: Duration,
    pub(crate) kind: Kind,
    pub(crate) layer: Layer,
    pub(crate) timestamp: u32,
    pub(crate) payload_bytes: usize,
    pub(crate) packets: usize,
    pub(crate) numbers: Option<PictureNumbers>,
}

impl FrameMaker {
    pub(crate) fn at(now: Now) -> Self {
        Self {
            now,
            interval: Duration::from_millis(33),
            kind: Kind::Video,
            layer: Layer(0),
            timestamp: 1_000,
            payload_bytes: 100,
            packets: 1,
            numbers: None,
        }
    }

    pub(crate) fn keyframe(&mut self) -> Arc<Frame> {
        self.frame(true)
    }

    pub(crate) fn delta(&mut self) -> Arc<Frame> {
        self.frame(false)
    }

    fn frame(&mut self, keyframe: bool) -> Arc<Frame> {
        let payload = Bytes::from(vec![self.timestamp as u8; self.payload_bytes]);
        let frame = Frame {
            kind: self.kind,
            layer: self.layer,
            timestamp: self.timestamp,
            arrived: self.now,
            keyframe,
            begins: true,
            ends: true,
            captured: None,
            numbers: self.numbers,
            packets: vec![payload; self.packets],
        };
        let hz = if self.kind == Kind::Video { 90_000 } else { 48_000 };
        self.timestamp = self.timestamp.wrapping_add(crate::clock::ticks(self.interval, hz));
        self.now = self.now.after(self.interval);
        if let Some(numbers) = &mut self.numbers {
            numbers.picture_id = (numbers.picture_id + 1) & 0x7FFF;
            numbers.tl0 = numbers.tl0.map(|tl0| tl0.wrapping_add(1));
        }
        Arc::new(frame)
    }
}
