//! One feed's pictures on their way to its viewers: who is to get which frame next.
//!
//! Sending a keyframe to a thousand viewers takes a core tens of milliseconds, and others' sound must not wait for it.
//! So a fan-out goes in slices, between which viewers come and go. A lane keeps account: each viewer gets each frame
//! once, and in order.

use std::{collections::VecDeque, ops::Range, sync::Arc};

use haul_media::relay::MAX_LAYERS;
use haul_model::Frame;

use crate::slab::Key;

/// The most frames that wait: three layers for a second. When it is full, what waits is dropped and nothing more of a
/// dropped layer is taken until its next keyframe.
pub(crate) const MAX_WAITING: usize = 90;

const _: () = assert!(MAX_LAYERS <= 8, "a layer is a bit of `broken`");

/// The viewers of a feed, and the frames that not all of them have yet.
#[derive(Default)]
pub(crate) struct Lane {
    members: Vec<Member>,
    /// In order, with their numbers; the first one is being sent.
    frames: VecDeque<(u64, Arc<Frame>)>,
    /// How many frames have been taken in all: the number of the next one.
    taken: u64,
    /// So many members have the first frame already.
    place: usize,
    /// Layers of which a frame was dropped, one bit each.
    broken: u8,
}

struct Member {
    key: Key,
    /// The number of the first frame that it is to get from here. It has seen to those before by itself.
    from: u64,
}

/// What became of a frame.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Pushed {
    /// It will be sent.
    pub(crate) taken: bool,
    /// So many frames were dropped, it or those that waited.
    pub(crate) dropped: u64,
    /// Keyframes of these layers are wanted, one bit each.
    pub(crate) wanted: u8,
}

/// A part of a fan-out: one frame for some of the members.
pub(crate) struct Slice {
    pub(crate) frame: Arc<Frame>,
    number: u64,
    members: Range<usize>,
}

impl Lane {
    /// A viewer that will be told of frames, from the next one on.
    pub(crate) fn join(&mut self, key: Key) {
        self.members.push(Member { key, from: self.taken });
    }

    /// The viewer has all that was taken so far from elsewhere (a replay).
    pub(crate) fn replayed(&mut self, key: Key) {
        if let Some(member) = self.members.iter_mut().find(|member| member.key == key) {
            member.from = self.taken;
        }
    }

    pub(crate) fn leave(&mut self, key: Key) {
        if let Some(index) = self.members.iter().position(|member| member.key == key) {
            self.members.remove(index);
            self.place -= usize::from(index < self.place);
        }
    }

    pub(crate) fn is_deserted(&self) -> bool {
        self.members.is_empty()
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = Key> {
        self.members.iter().map(|member| member.key)
    }

    /// Takes the next frame of a layer.
    pub(crate) fn push(&mut self, frame: &Arc<Frame>) -> Pushed {
        let bit = 1 << frame.layer.0;
        let mut pushed = Pushed::default();
        if self.frames.len() >= MAX_WAITING {
            // The first may have gone to some already, so the others get it too.
            pushed.dropped = self.frames.len() as u64 - 1;
            pushed.wanted = self.frames.drain(1..).fold(0, |layers, (_, frame)| layers | 1 << frame.layer.0);
            self.broken |= pushed.wanted;
        }
        if frame.keyframe {
            self.broken &= !bit;
            pushed.wanted &= !bit;
        }
        pushed.taken = self.broken & bit == 0;
        if pushed.taken {
            self.frames.push_back((self.taken, frame.clone()));
            self.taken += 1;
        } else {
            pushed.dropped += 1;
        }
        pushed
    }

    /// Another broadcast begins: nothing of the last one is sent any more.
    pub(crate) fn clear(&mut self) {
        self.frames.clear();
        self.place = 0;
        self.broken = 0;
    }

    /// The next frame for the next members, so many that about `packets` packets are sent. It counts as done.
    pub(crate) fn slice(&mut self, packets: usize) -> Option<Slice> {
        let (number, frame) = self.frames.front()?;
        let end = self.place + packets.div_ceil(frame.packets.len().max(1));
        let members = self.place..self.members.len().min(end);
        let slice = Slice { frame: frame.clone(), number: *number, members };
        self.place = slice.members.end;
        if self.place == self.members.len() {
            self.frames.pop_front();
            self.place = 0;
        }
        Some(slice)
    }

    /// Who is to get a slice.
    pub(crate) fn receivers(&self, slice: &Slice) -> impl Iterator<Item = Key> {
        let members = self.members[slice.members.clone()].iter();
        members.filter(|member| member.from <= slice.number).map(|member| member.key)
    }

    /// Whether anything is to be sent.
    pub(crate) fn is_idle(&self) -> bool {
        self.frames.is_empty()
    }
}

impl Slice {
    /// Packets to be sent, if every member takes it.
    pub(crate) fn packets(&self) -> usize {
        self.frame.packets.len().max(1) * self.members.len()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use bytes::Bytes;
    use haul_model::{Kind, Layer, Now};
    use rand::{RngExt, SeedableRng, rngs::StdRng};

    use super::*;
    use crate::slab::Slab;

    /// Makes frames that are told apart by their timestamps.
    struct FrameMaker(u32);

    impl FrameMaker {
        fn keyframe(&mut self) -> Arc<Frame> {
            self.frame(true, 1)
        }

        fn delta(&mut self) -> Arc<Frame> {
            self.frame(false, 1)
        }

        fn frame(&mut self, keyframe: bool, packets: usize) -> Arc<Frame> {
            self.0 += 1;
            Arc::new(Frame {
                kind: Kind::Video,
                layer: Layer(0),
                timestamp: self.0,
                arrived: Now { instant: std::time::Instant::now(), wall: haul_model::UnixMillis(0) },
                keyframe,
                begins: true,
                ends: true,
                captured: None,
                numbers: None,
                packets: vec![Bytes::from_static(b"x"); packets],
            })
        }
    }

    /// Gives out keys.
    fn keys(count: usize) -> Vec<Key> {
        let mut slab = Slab::new();
        (0..count).map(|_| slab.insert(())).collect()
    }

    /// Timestamps that each viewer has got, in order.
    type Got = BTreeMap<Key, Vec<u32>>;

    fn send(lane: &mut Lane, packets: usize, got: &mut Got) -> bool {
        let Some(slice) = lane.slice(packets) else { return false };
        for key in lane.receivers(&slice) {
            got.entry(key).or_default().push(slice.frame.timestamp);
        }
        true
    }

    #[test]
    fn whoever_comes_and_goes_meanwhile_every_viewer_gets_every_frame_once_and_in_order() {
        for seed in 0..300 {
            let mut random = StdRng::seed_from_u64(seed);
            let (mut lane, mut make, mut got) = (Lane::default(), FrameMaker(0), Got::new());
            // What each member is to have: all frames that were taken since it came.
            let mut expected = Got::new();
            let mut members = Vec::new();
            for key in keys(200) {
                match random.random_range(0..10) {
                    0..3 => {
                        lane.join(key);
                        members.push(key);
                        expected.insert(key, Vec::new());
                    }
                    3 if !members.is_empty() => {
                        let leaver = members.swap_remove(random.random_range(0..members.len()));
                        lane.leave(leaver);
                        // It may miss the last ones.
                        let (all, got) =
                            (expected.remove(&leaver).unwrap(), got.remove(&leaver).unwrap_or_default());
                        assert!(all.starts_with(&got), "seed {seed}");
                    }
                    4..7 => {
                        let frame = make.delta();
                        assert!(lane.push(&frame).taken);
                        expected.values_mut().for_each(|all| all.push(frame.timestamp));
                    }
                    _ => {
                        send(&mut lane, random.random_range(1..20), &mut got);
                    }
                }
            }
            while send(&mut lane, 3, &mut got) {}
            expected.retain(|_, all| !all.is_empty());
            assert_eq!(got, expected, "seed {seed}");
        }
    }

    #[test]
    fn who_has_replayed_a_frame_that_is_on_its_way_does_not_get_it_again() {
        let (mut lane, mut make, mut got) = (Lane::default(), FrameMaker(0), Got::new());
        let keys = keys(3);
        keys.iter().for_each(|key| lane.join(*key));
        let frames = [make.keyframe(), make.delta(), make.delta()];
        lane.push(&frames[0]);
        lane.push(&frames[1]);
        send(&mut lane, 1, &mut got);
        lane.replayed(keys[0]);
        lane.replayed(keys[2]);
        lane.push(&frames[2]);
        while send(&mut lane, 1, &mut got) {}
        let times = frames.map(|frame| frame.timestamp);
        assert_eq!(got[&keys[0]], [times[0], times[2]]);
        assert_eq!(got[&keys[1]], times);
        assert_eq!(got[&keys[2]], [times[2]]);
    }

    #[test]
    fn a_full_lane_drops_what_waits_and_goes_on_at_a_keyframe() {
        let (mut lane, mut make, mut got) = (Lane::default(), FrameMaker(0), Got::new());
        let key = keys(1)[0];
        lane.join(key);
        let first = make.keyframe();
        lane.push(&first);
        for _ in 1..MAX_WAITING {
            assert_eq!(lane.push(&make.delta()), Pushed { taken: true, ..Pushed::default() });
        }
        let dropped = MAX_WAITING as u64;
        assert_eq!(lane.push(&make.delta()), Pushed { taken: false, dropped, wanted: 1 });
        assert_eq!(lane.push(&make.delta()), Pushed { taken: false, dropped: 1, wanted: 0 });
        let second = make.keyframe();
        assert_eq!(lane.push(&second), Pushed { taken: true, ..Pushed::default() });
        while send(&mut lane, 1, &mut got) {}
        assert_eq!(got[&key], [first.timestamp, second.timestamp], "nothing that could not be decoded");
    }

    #[test]
    fn a_slice_is_about_as_large_as_asked_for_and_never_nothing() {
        let (mut lane, mut make) = (Lane::default(), FrameMaker(0));
        keys(10).into_iter().for_each(|key| lane.join(key));
        lane.push(&make.frame(true, 4));
        let sizes: Vec<usize> = std::iter::from_fn(|| lane.slice(10)).map(|slice| slice.packets()).collect();
        assert_eq!(sizes, [12, 12, 12, 4]);
        assert!(lane.is_idle());
    }

    #[test]
    fn a_new_broadcast_leaves_nothing_of_the_last() {
        let (mut lane, mut make, mut got) = (Lane::default(), FrameMaker(0), Got::new());
        let keys = keys(2);
        keys.iter().for_each(|key| lane.join(*key));
        lane.push(&make.keyframe());
        send(&mut lane, 1, &mut got);
        lane.clear();
        let next = make.keyframe();
        lane.push(&next);
        while send(&mut lane, 1, &mut got) {}
        assert_eq!(got[&keys[1]], [next.timestamp]);
    }
}
