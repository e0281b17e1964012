//! One relay as one shard sees it: what new viewers need of it, and who they are.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use haul_media::{ClockMap, GopCache, LayerRate, Meter, Relay, RelayEvent, Snapshot, Subscription};
use haul_model::{Frame, Kind, Layer};

use crate::lane::Lane;

/// How often the list of layers is made anew.
const LAYERS_INTERVAL: Duration = Duration::from_millis(100);

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
    /// What each layer takes.
    meter: Meter,
    /// Those that are being sent, the smallest first, and when that was looked at.
    layers: Vec<LayerRate>,
    listed: Option<Instant>,
    /// What they are called.
    names: Vec<String>,
    /// Held so that frames come; dropped with the feed.
    _subscription: Subscription,
}

impl Feed {
    pub(crate) fn new(relay: Arc<Relay>, snapshot: Snapshot, subscription: Subscription) -> Self {
        let clock_maps = snapshot.clock_maps.into_iter().map(|map| ((map.kind, map.layer), map));
        let mut meter = Meter::default();
        let frames = snapshot.gops.iter().flat_map(|(_, gop)| gop.frames());
        let newest = frames.clone().map(|frame| frame.arrived.instant).max();
        frames.for_each(|frame| meter.frame(frame));
        Self {
            relay,
            lane: Lane::default(),
            layers: newest.map(|now| meter.layers(now)).unwrap_or_default(),
            meter,
            listed: None,
            names: snapshot.broadcast.map(|broadcast| broadcast.layer_names.clone()).unwrap_or_default(),
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
                self.meter = Meter::default();
                self.layers.clear();
                if let RelayEvent::Started(broadcast) = event {
                    self.names.clone_from(&broadcast.layer_names);
                }
            }
            RelayEvent::Frame(frame) => {
                self.measure(frame);
                if frame.kind == Kind::Video {
                    // An overflow is the relay's to act on: it keeps the same GOP.
                    self.gops.entry(frame.layer).or_default().push(frame.clone());
                }
            }
            RelayEvent::OutOfOrder | RelayEvent::Stalled(_) => {}
            RelayEvent::ClockMap(map) => {
                self.clock_maps.insert((map.kind, map.layer), *map);
            }
        }
    }

    /// The GOP to start with: that of the layer, or of the smallest that there is one of.
    pub(crate) fn gop(&self, layer: Option<Layer>) -> Option<(Layer, &[Arc<Frame>])> {
        let gop = |layer: Layer| {
            let frames = self.gops.get(&layer)?.frames();
            (!frames.is_empty()).then_some((layer, frames))
        };
        let others = self.layers.iter().map(|rate| rate.layer).chain(self.gops.keys().copied());
        layer.into_iter().chain(others).find_map(gop)
    }

    /// The layers that are being sent and what they take, the smallest first.
    pub(crate) fn layers(&self) -> &[LayerRate] {
        &self.layers
    }

    /// What sound takes, in bits a second.
    pub(crate) fn sound_bps(&self) -> u64 {
        self.meter.sound_bps()
    }

    /// What a layer is called: its rid, or its number where it has none.
    pub(crate) fn layer_name(&self, layer: Layer) -> String {
        self.names.get(usize::from(layer.0)).cloned().unwrap_or_else(|| layer.0.to_string())
    }

    /// What the layers that are being sent are called, the largest first.
    pub(crate) fn layer_names(&self) -> Vec<String> {
        self.layers.iter().rev().map(|rate| self.layer_name(rate.layer)).collect()
    }

    /// The layer of this name.
    pub(crate) fn layer_named(&self, name: &str) -> Option<Layer> {
        self.layers.iter().map(|rate| rate.layer).find(|layer| self.layer_name(*layer) == name)
    }

    /// The last clock map of a track and layer.
    pub(crate) fn clock_map(&self, kind: Kind, layer: Layer) -> Option<&ClockMap> {
        self.clock_maps.get(&(kind, layer))
    }

    fn measure(&mut self, frame: &Frame) {
        let now = frame.arrived.instant;
        self.meter.frame(frame);
        if self.listed.is_none_or(|at| now.saturating_duration_since(at) >= LAYERS_INTERVAL) {
            self.listed = Some(now);
            self.layers = self.meter.layers(now);
        }
    }
}
