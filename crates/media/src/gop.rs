//! The GOP cache: the frames since the last keyframe, so that whoever joins sees a picture at once.

use std::{sync::Arc, time::Duration};

use haul_model::Frame;

/// The longest GOP kept, from its first frame's arrival to its last's. A longer one is dropped, because a player would
/// have to run through all of it before it is live.
pub const MAX_AGE: Duration = Duration::from_secs(10);
/// The largest GOP kept, in payload bytes. A larger one is dropped.
pub const MAX_BYTES: usize = 8 << 20;
/// The most frames kept: 10 s at 120 a second. More are dropped, whatever their size.
pub const MAX_FRAMES: usize = 1_200;

/// What became of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// It is in the cache.
    Yes,
    /// There is nothing to append it to (its keyframe is not here), or it is too large by itself.
    No,
    /// The GOP has become too long and was dropped: ask for a keyframe.
    Overflowed,
}

/// The current GOP of one video layer.
#[derive(Debug, Clone, Default)]
pub struct GopCache {
    /// From the keyframe on; empty until one has come, and after an overflow.
    frames: Vec<Arc<Frame>>,
    /// Their payload bytes.
    bytes: usize,
}

impl GopCache {
    /// Takes the next frame of the layer, in order of decoding.
    pub fn push(&mut self, frame: Arc<Frame>) -> Kept {
        if frame.keyframe {
            self.clear();
        }
        let Some(first) = self.frames.first().or(frame.keyframe.then_some(&frame)) else {
            return Kept::No;
        };
        let age = frame.arrived.instant.saturating_duration_since(first.arrived.instant);
        let bytes = self.bytes + frame.size_bytes();
        if age > MAX_AGE || bytes > MAX_BYTES || self.frames.len() == MAX_FRAMES {
            self.clear();
            // A keyframe that is too large by itself is no reason to ask for another.
            return if frame.keyframe { Kept::No } else { Kept::Overflowed };
        }
        self.bytes = bytes;
        self.frames.push(frame);
        Kept::Yes
    }

    /// The frames since the last keyframe, which is the first; empty when there is none to start from.
    pub fn frames(&self) -> &[Arc<Frame>] {
        &self.frames
    }

    /// Payload bytes held.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Forgets everything, as at the end of a broadcast.
    pub fn clear(&mut self) {
        self.frames.clear();
        self.bytes = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{FrameMaker, start};

    #[test]
    fn the_cache_starts_anew_at_each_keyframe() {
        let (mut cache, mut make) = (GopCache::default(), FrameMaker::at(start()));
        assert_eq!(cache.push(make.delta()), Kept::No, "no keyframe yet");
        cache.push(make.keyframe());
        cache.push(make.delta());
        assert_eq!(cache.frames().len(), 2);
        cache.push(make.keyframe());
        assert_eq!(cache.frames().len(), 1);
        assert_eq!(cache.bytes(), cache.frames()[0].size_bytes());
    }

    #[test]
    fn a_gop_over_ten_seconds_is_dropped_once_and_the_next_keyframe_starts_again() {
        let (mut cache, mut make) = (GopCache::default(), FrameMaker::at(start()));
        cache.push(make.keyframe());
        let overflows = (0..400).filter(|_| cache.push(make.delta()) == Kept::Overflowed).count();
        assert_eq!(overflows, 1, "asked for once, then quiet until a keyframe comes");
        assert!(cache.frames().is_empty());
        assert_eq!(cache.push(make.keyframe()), Kept::Yes);
    }

    #[test]
    fn a_gop_over_eight_mebibytes_is_dropped() {
        let (mut cache, mut make) = (GopCache::default(), FrameMaker::at(start()));
        make.payload_bytes = 1 << 20;
        cache.push(make.keyframe());
        let kept = (0..7).filter(|_| cache.push(make.delta()) == Kept::Yes).count();
        assert_eq!(kept, 7, "eight mebibytes exactly");
        assert_eq!(cache.push(make.delta()), Kept::Overflowed);
    }

    #[test]
    fn frames_without_bytes_or_time_are_bounded_too() {
        let (mut cache, mut make) = (GopCache::default(), FrameMaker::at(start()));
        make.interval = Duration::ZERO;
        make.payload_bytes = 1;
        cache.push(make.keyframe());
        let kept = (0..2 * MAX_FRAMES).filter(|_| cache.push(make.delta()) == Kept::Yes).count();
        assert_eq!(kept, MAX_FRAMES - 1);
    }
}
