//! One relay as one shard sees it: what new viewers need of it, and who they are.

use std::{collections::BTreeMap, sync::Arc};

use haul_media::{ClockMap, GopCache, Relay, RelayEvent, Snapshot, Subscription};
use haul_model::{Frame, Kind, Layer};

use crate::lane::Lane;

/// A relay with viewers on this shard.
///
/// It keeps GOPs of its own, although the relay has them too: these hold exactly the frames that its lane has taken, so
/// that a joiner gets each frame once.
pub(crate) struct Feed {
    pub(crate) relay: Arc<Relay>,
    /// The viewers' sessions, and the pictures that are on their way to them.
    pub(crate) lane: Lane,
    gops: BTreeMap<Layer, GopCache>,
    clock_maps: BTreeMap<(Kind, Layer), ClockMap>,
    /// Held so that frames come; dropped with the feed.
    _subscription: Subscription,
}

impl Feed {
    pub(crate) fn new(relay: Arc<Relay>, snapshot: Snapshot, subscription: Subscription) -> Self {
        let clock_maps = snapshot.clock_maps.into_iter().map(|map| ((map.kind, map.layer), map));
        Self {
            relay,
            lane: Lane::default(),
            gops: snapshot.gops.into_iter().collect(),
            clock_maps: clock_maps.collect(),
            _subscription: subscription,
        }
    }

    /// Keeps what new viewers need of an event.
    pub(crate) fn apply(&mut self, event: &RelayEvent) {
        match event {
            RelayEvent::Started(_) | RelayEvent::Ended => {
                self.gops.clear();
                self.clock_maps.clear();
            }
            RelayEvent::Frame(frame) if frame.kind == Kind::Video => {
                // An overflow is the relay's to act on: it keeps the same GOP.
                self.gops.entry(frame.layer).or_default().push(frame.clone());
            }
            RelayEvent::Frame(_) | RelayEvent::OutOfOrder => {}
            RelayEvent::ClockMap(map) => {
                self.clock_maps.insert((map.kind, map.layer), *map);
            }
        }
    }

    /// The best GOP to start with: the layer with the most bytes a frame.
    pub(crate) fn best_gop(&self) -> Option<(Layer, &[Arc<Frame>])> {
        let started = self.gops.iter().filter(|(_, gop)| !gop.frames().is_empty());
        let best = started.max_by_key(|(_, gop)| gop.bytes() / gop.frames().len());
        best.map(|(layer, gop)| (*layer, gop.frames()))
    }

    /// The last clock map of a track and layer.
    pub(crate) fn clock_map(&self, kind: Kind, layer: Layer) -> Option<&ClockMap> {
        self.clock_maps.get(&(kind, layer))
    }
}
