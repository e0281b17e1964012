//! A shard's fan-out: what relays bring goes to the viewers.
//!
//! Sound goes at once. Pictures take turns: a slice of each feed that has any, so that one live's keyframe, which takes
//! tens of milliseconds to seal for thousands, keeps nobody else's sound and pictures waiting (see [`crate::lane`]).

use std::panic::{AssertUnwindSafe, catch_unwind};

use haul_media::{RelayEvent, Wish};
use haul_model::{Kind, Layer};

use super::Shard;
use crate::{EndReason, lane::Pushed, mailbox::FeedKey, session::Side, slab::Key};

/// Packets of one feed's pictures that are sent before it is another's turn: about half a millisecond. A frame for a
/// hundred viewers is about as much, and goes in one.
const SLICE_PACKETS: usize = 1_024;
/// Packets of pictures sent before the shard looks for sound and datagrams again.
const TURN_PACKETS: usize = 2_048;

impl Shard {
    pub(super) fn relay_event(&mut self, key: FeedKey, event: &RelayEvent) {
        // Events of a feed that was dropped meanwhile are nobody's.
        let Some(feed) = self.feeds.get_mut(&key) else { return };
        match event {
            RelayEvent::Frame(frame) if frame.kind == Kind::Video => {
                let idle = feed.lane.is_idle();
                let Pushed { taken, dropped, wanted } = feed.lane.push(frame);
                if taken {
                    feed.apply(event);
                }
                if idle && taken {
                    self.turns.push_back(key);
                }
                self.counters.queue_full_drops.add(dropped);
                for layer in (0..u8::BITS as u8).filter(|layer| wanted & 1 << layer != 0) {
                    feed.relay.request_keyframe(Layer(layer), Wish::Loss, self.now.instant);
                }
            }
            RelayEvent::Frame(frame) => {
                let failed = each(feed.lane.keys(), |key| {
                    let Some(session) = self.sessions.get_mut(key) else { return };
                    if let (Side::Viewer(viewer), Some(to)) = (&mut session.side, session.path) {
                        viewer.frame(self.now.instant, to, frame, &mut self.outbox, &self.counters);
                    }
                });
                for key in failed {
                    self.end(key, EndReason::Failed);
                }
            }
            RelayEvent::Started(broadcast) => {
                feed.apply(event);
                feed.lane.clear();
                self.turns.retain(|turn| *turn != key);
                let mut stranded = Vec::new();
                let keys: Vec<Key> = feed.lane.keys().collect();
                for key in &keys {
                    let Some(session) = self.sessions.get_mut(*key) else { continue };
                    let Side::Viewer(viewer) = &mut session.side else { continue };
                    viewer.restart(self.now.instant);
                    if !viewer.can_play(broadcast) {
                        stranded.push(*key);
                    }
                }
                for key in keys {
                    self.touch(key);
                }
                for key in stranded {
                    self.end(key, EndReason::CodecChanged);
                }
            }
            RelayEvent::ClockMap(_) | RelayEvent::OutOfOrder | RelayEvent::Stalled(_) | RelayEvent::Ended => {
                feed.apply(event)
            }
        }
    }

    /// Sends slices of the pictures that wait, feed by feed.
    pub(super) fn send_slices(&mut self) {
        let mut left = TURN_PACKETS as isize;
        while left > 0
            && let Some(key) = self.turns.pop_front()
        {
            let Some(feed) = self.feeds.get_mut(&key) else { continue };
            let Some(slice) = feed.lane.slice(SLICE_PACKETS) else { continue };
            left -= slice.packets() as isize;
            let failed = each(feed.lane.receivers(&slice), |key| {
                let Some(session) = self.sessions.get_mut(key) else { return };
                if let (Side::Viewer(viewer), Some(to)) = (&mut session.side, session.path) {
                    viewer.frame(self.now.instant, to, &slice.frame, &mut self.outbox, &self.counters);
                }
            });
            if !feed.lane.is_idle() {
                self.turns.push_back(key);
            }
            for key in failed {
                self.end(key, EndReason::Failed);
            }
        }
    }
}

/// Does something for each; a panic in it costs the one that it was done for, and no other. Returns those. Entered once
/// for all, so that it costs nothing for each.
fn each(mut keys: impl Iterator<Item = Key>, mut step: impl FnMut(Key)) -> Vec<Key> {
    let mut failed = Vec::new();
    let mut current = None;
    loop {
        let all = catch_unwind(AssertUnwindSafe(|| {
            for key in keys.by_ref() {
                current = Some(key);
                step(key);
                current = None;
            }
        }));
        match (all, current.take()) {
            (Err(_), Some(key)) => failed.push(key),
            _ => break,
        }
    }
    failed
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::slab::Slab;

    #[test]
    fn a_panic_costs_the_one_it_was_for() {
        let mut slab = Slab::new();
        let keys: Vec<Key> = (0..5).map(|_| slab.insert(())).collect();
        let mut served = Vec::new();
        let failed = each(keys.iter().copied(), |key| {
            assert!(key != keys[1] && key != keys[4], "as a library does that was fed garbage");
            served.push(key);
        });
        assert_eq!(served, [keys[0], keys[2], keys[3]]);
        assert_eq!(failed, [keys[1], keys[4]]);
    }
}
