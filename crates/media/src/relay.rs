//! The meeting point of a live's publisher and everybody who receives: whatever protocol either speaks, frames go in
//! on one side and come out on the other.
//!
//! A sink is not a viewer but a place with viewers (a media shard, a QUIC task): a frame is handed over once for each
//! place. The host may stop and come back; the relay, its sinks and their viewers stay.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
    time::Instant,
};

use haul_model::{Frame, Kind, Layer, TrackInfo};

use crate::{
    clock::ClockMap,
    gop::{GopCache, Kept},
    throttle::{Throttle, Wish},
};

/// The most simulcast layers a video track may have. Frames of further layers are not forwarded.
pub const MAX_LAYERS: u8 = 4;

/// What the host sends now.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Broadcast {
    /// The pictures, if there are any.
    pub video: Option<TrackInfo>,
    /// The sound, if there is any.
    pub audio: Option<TrackInfo>,
    /// What the layers of the pictures are called, in their order; empty without simulcast.
    pub layer_names: Vec<String>,
}

/// Where a broadcast comes from, as the relay sees it. Called with the relay's lock held: must neither block nor call
/// the relay.
pub trait Source: Send + Sync {
    /// Ask the encoder for a keyframe of `layer`. Already merged and throttled.
    fn request_keyframe(&self, layer: Layer);

    /// Another publisher has taken over: frames from this one go nowhere any more.
    fn replaced(&self);
}

/// What became of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// The sink has it.
    Taken,
    /// The sink is full. It gets no more frames of that video layer until a keyframe, which the relay asks for, so that
    /// no viewer sees a broken GOP.
    Refused,
}

/// A place with viewers. Called with the relay's lock held: must neither block nor call the relay.
pub trait Sink: Send + Sync {
    /// Takes the next event, in order. Only frames and clock maps may be refused.
    fn deliver(&self, event: RelayEvent) -> Delivery;
}

/// What a sink is told.
#[derive(Debug, Clone)]
pub enum RelayEvent {
    /// A broadcast begins, in place of any earlier one. Its video starts with a keyframe.
    Started(Arc<Broadcast>),
    /// The next frame of a track and layer.
    Frame(Arc<Frame>),
    /// A newer mapping of a track's timestamps to the publisher's clock.
    ClockMap(ClockMap),
    /// The host's encoder sends pictures out of the order they are shown in (B-frames), which browsers stutter on.
    OutOfOrder,
    /// Nothing comes from the host any more, though the broadcast is not over (`true`), or it comes again (`false`).
    Stalled(bool),
    /// The broadcast is over. The host may come back.
    Ended,
}

/// All that a sink needs to serve somebody at once.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// What the host sends, if it sends.
    pub broadcast: Option<Arc<Broadcast>>,
    /// The current GOP of each video layer that has one.
    pub gops: Vec<(Layer, GopCache)>,
    /// The last clock map of each track and layer.
    pub clock_maps: Vec<ClockMap>,
}

/// One live's relay.
pub struct Relay {
    /// A lock, because frames come from the publisher's thread while viewers join on others. It is held for one short
    /// walk over the sinks (one a shard, not one a viewer), once a frame and once a join, and never while waiting.
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Counts broadcasts, so that a publication that was replaced does not end its successor.
    epoch: u64,
    /// The current broadcast; `None` while the host is away.
    current: Option<Current>,
    /// Counts subscriptions, to name them.
    next_sink: u64,
    /// Everybody who receives.
    sinks: BTreeMap<u64, Subscriber>,
}

/// A broadcast and what is kept of it for joiners.
struct Current {
    broadcast: Arc<Broadcast>,
    source: Arc<dyn Source>,
    layers: BTreeMap<Layer, VideoLayer>,
    clock_maps: BTreeMap<(Kind, Layer), ClockMap>,
}

#[derive(Default)]
struct VideoLayer {
    gop: GopCache,
    throttle: Throttle,
}

struct Subscriber {
    sink: Arc<dyn Sink>,
    /// Layers of which a frame was refused: nothing more until their next keyframe. One bit each.
    broken: u8,
}

impl Relay {
    /// A relay that nobody publishes to and nobody listens to.
    pub fn new() -> Arc<Self> {
        Arc::new(Self { state: Mutex::default() })
    }

    /// What the host sends now; `None` while nobody publishes.
    pub fn broadcast(&self) -> Option<Arc<Broadcast>> {
        self.lock().current.as_ref().map(|current| current.broadcast.clone())
    }

    /// Starts a broadcast, in place of any other. It lasts as long as the returned publication.
    pub fn publish(self: &Arc<Self>, broadcast: Broadcast, source: Arc<dyn Source>) -> Publication {
        let mut state = self.lock();
        state.epoch += 1;
        let epoch = state.epoch;
        let broadcast = Arc::new(broadcast);
        let current = Current {
            broadcast: broadcast.clone(),
            source,
            layers: BTreeMap::new(),
            clock_maps: BTreeMap::new(),
        };
        if let Some(before) = state.current.replace(current) {
            before.source.replaced();
        }
        for subscriber in state.sinks.values_mut() {
            subscriber.broken = 0;
            subscriber.sink.deliver(RelayEvent::Started(broadcast.clone()));
        }
        Publication { relay: self.clone(), epoch }
    }

    /// Hands every event from now on to `sink`, and returns all that it needs of what was before. Nothing is lost or
    /// doubled between the two.
    pub fn subscribe(self: &Arc<Self>, sink: Arc<dyn Sink>) -> (Snapshot, Subscription) {
        let mut state = self.lock();
        let id = state.next_sink;
        state.next_sink += 1;
        state.sinks.insert(id, Subscriber { sink, broken: 0 });
        let snapshot = state.current.as_ref().map(Current::snapshot).unwrap_or_default();
        (snapshot, Subscription { relay: self.clone(), id })
    }

    /// Somebody wants a keyframe of `layer`. Merged and throttled (see [`crate::throttle`]); ignored while nobody
    /// publishes. Returns whether the source was asked.
    pub fn request_keyframe(&self, layer: Layer, wish: Wish, now: Instant) -> bool {
        self.lock().current.as_mut().is_some_and(|current| current.request_keyframe(layer, wish, now))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere leaves whole frames behind, never half of one: going on is safe.
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Current {
    fn snapshot(&self) -> Snapshot {
        Snapshot {
            broadcast: Some(self.broadcast.clone()),
            gops: self.layers.iter().map(|(layer, video)| (*layer, video.gop.clone())).collect(),
            clock_maps: self.clock_maps.values().copied().collect(),
        }
    }

    fn request_keyframe(&mut self, layer: Layer, wish: Wish, now: Instant) -> bool {
        let asks = layer.0 < MAX_LAYERS && self.layers.entry(layer).or_default().throttle.wish(wish, now);
        if asks {
            self.source.request_keyframe(layer);
        }
        asks
    }

    /// Keeps a video frame for joiners. Returns whether a keyframe is needed to be able to serve them again.
    fn keep(&mut self, frame: &Arc<Frame>) -> bool {
        let (video, now) = (self.layers.entry(frame.layer).or_default(), frame.arrived.instant);
        if frame.keyframe {
            video.throttle.keyframe(now);
        } else if video.throttle.due(now) {
            self.source.request_keyframe(frame.layer);
        }
        video.gop.push(frame.clone()) == Kept::Overflowed
    }
}

impl Subscriber {
    /// Hands a frame over. Returns whether its layer is broken for this sink.
    fn frame(&mut self, frame: &Arc<Frame>) -> bool {
        let bit = match frame.kind {
            Kind::Video => 1 << frame.layer.0,
            // A missing packet of sound is a click, not a broken minute.
            Kind::Audio => 0,
        };
        if self.broken & bit != 0 && !frame.keyframe {
            return true;
        }
        match self.sink.deliver(RelayEvent::Frame(frame.clone())) {
            Delivery::Taken => self.broken &= !bit,
            Delivery::Refused => self.broken |= bit,
        }
        self.broken & bit != 0
    }
}

/// A broadcast in progress, held by its ingest. Dropping it ends the broadcast, unless another has taken its place.
pub struct Publication {
    relay: Arc<Relay>,
    epoch: u64,
}

impl Publication {
    /// The next frame, in order of decoding. Goes nowhere once the publication was replaced.
    pub fn frame(&self, frame: Arc<Frame>) {
        let mut state = self.relay.lock();
        let State { epoch, current: Some(current), sinks, .. } = &mut *state else { return };
        if *epoch != self.epoch || frame.layer.0 >= MAX_LAYERS {
            return;
        }
        let video = frame.kind == Kind::Video;
        let mut wanted = video && current.keep(&frame);
        for subscriber in sinks.values_mut() {
            wanted |= subscriber.frame(&frame);
        }
        if wanted {
            current.request_keyframe(frame.layer, Wish::Loss, frame.arrived.instant);
        }
    }

    /// A newer mapping of a track's timestamps to the publisher's clock.
    pub fn clock_map(&self, map: ClockMap) {
        let mut state = self.relay.lock();
        let State { epoch, current: Some(current), sinks, .. } = &mut *state else { return };
        if *epoch != self.epoch || map.layer.0 >= MAX_LAYERS {
            return;
        }
        current.clock_maps.insert((map.kind, map.layer), map);
        for subscriber in sinks.values() {
            subscriber.sink.deliver(RelayEvent::ClockMap(map));
        }
    }
}

impl Publication {
    /// The encoder sends B-frames. To be said once.
    pub fn out_of_order(&self) {
        self.tell(&RelayEvent::OutOfOrder);
    }

    /// Nothing comes from the host any more, or it comes again. To be said when it changes.
    pub fn stalled(&self, stalled: bool) {
        self.tell(&RelayEvent::Stalled(stalled));
    }

    fn tell(&self, event: &RelayEvent) {
        let state = self.relay.lock();
        if state.epoch == self.epoch && state.current.is_some() {
            for subscriber in state.sinks.values() {
                subscriber.sink.deliver(event.clone());
            }
        }
    }
}

impl Drop for Publication {
    fn drop(&mut self) {
        let mut state = self.relay.lock();
        if state.epoch == self.epoch && state.current.take().is_some() {
            for subscriber in state.sinks.values() {
                subscriber.sink.deliver(RelayEvent::Ended);
            }
        }
    }
}

/// A sink's place at a relay. Dropping it takes the sink away.
pub struct Subscription {
    relay: Arc<Relay>,
    id: u64,
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.relay.lock().sinks.remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicBool, AtomicU32, Ordering},
        time::Duration,
    };

    use haul_model::Codec;

    use super::*;
    use crate::testing::{FrameMaker, start};

    #[derive(Default)]
    struct Host {
        asked: AtomicU32,
        replaced: AtomicBool,
    }

    impl Source for Host {
        fn request_keyframe(&self, _: Layer) {
            self.asked.fetch_add(1, Ordering::Relaxed);
        }
        fn replaced(&self) {
            self.replaced.store(true, Ordering::Relaxed);
        }
    }

    impl Host {
        fn asked(&self) -> u32 {
            self.asked.load(Ordering::Relaxed)
        }
    }

    /// Writes down what it is told, one letter an event.
    #[derive(Default)]
    struct Place {
        told: Mutex<String>,
        full: AtomicBool,
    }

    impl Sink for Place {
        fn deliver(&self, event: RelayEvent) -> Delivery {
            let letter = match &event {
                RelayEvent::Started(_) => 'S',
                RelayEvent::Frame(frame) if frame.kind == Kind::Audio => 'a',
                RelayEvent::Frame(frame) if frame.keyframe => 'K',
                RelayEvent::Frame(_) => 'd',
                RelayEvent::ClockMap(_) => 'c',
                RelayEvent::OutOfOrder => 'o',
                RelayEvent::Stalled(_) => 's',
                RelayEvent::Ended => 'E',
            };
            if "aKdc".contains(letter) && self.full.load(Ordering::Relaxed) {
                return Delivery::Refused;
            }
            self.told.lock().unwrap().push(letter);
            Delivery::Taken
        }
    }

    impl Place {
        fn told(&self) -> String {
            std::mem::take(&mut self.told.lock().unwrap())
        }
        fn fill(&self, full: bool) {
            self.full.store(full, Ordering::Relaxed);
        }
    }

    fn vp8() -> Broadcast {
        Broadcast {
            video: Some(TrackInfo { codec: Codec::Vp8, fmtp: String::new() }),
            ..Broadcast::default()
        }
    }

    struct Stage {
        relay: Arc<Relay>,
        host: Arc<Host>,
        publication: Publication,
        make: FrameMaker,
    }

    fn on_air() -> Stage {
        let (relay, host) = (Relay::new(), Arc::new(Host::default()));
        let publication = relay.publish(vp8(), host.clone());
        Stage { relay, host, publication, make: FrameMaker::at(start()) }
    }

    #[test]
    fn who_joins_late_gets_the_gop_so_far_and_then_every_frame_once() {
        let Stage { relay, publication, mut make, .. } = on_air();
        publication.frame(make.keyframe());
        publication.frame(make.delta());
        let place = Arc::new(Place::default());
        let (snapshot, subscription) = relay.subscribe(place.clone());
        assert_eq!(snapshot.broadcast.unwrap().video, vp8().video);
        assert_eq!(snapshot.gops[0].1.frames().len(), 2);
        publication.frame(make.delta());
        assert_eq!(place.told(), "d");
        drop(subscription);
        publication.frame(make.delta());
        assert_eq!(place.told(), "");
    }

    #[test]
    fn the_host_leaves_and_returns_while_the_sinks_stay() {
        let Stage { relay, publication, mut make, .. } = on_air();
        let place = Arc::new(Place::default());
        let (_, _subscription) = relay.subscribe(place.clone());
        publication.frame(make.keyframe());
        drop(publication);
        assert!(relay.broadcast().is_none());
        let publication = relay.publish(vp8(), Arc::new(Host::default()));
        publication.frame(make.keyframe());
        assert_eq!(place.told(), "KESK");
    }

    #[test]
    fn a_second_publisher_takes_over_and_the_first_cannot_end_it() {
        let Stage { relay, host, publication: first, mut make } = on_air();
        let place = Arc::new(Place::default());
        let (_, _subscription) = relay.subscribe(place.clone());
        let second = relay.publish(vp8(), Arc::new(Host::default()));
        assert!(host.replaced.load(Ordering::Relaxed));
        first.frame(make.keyframe());
        drop(first);
        second.frame(make.keyframe());
        assert_eq!(place.told(), "SK");
        assert!(relay.broadcast().is_some());
    }

    #[test]
    fn who_receives_is_told_when_nothing_comes_from_the_host_on_air() {
        let Stage { relay, publication: first, mut make, .. } = on_air();
        let place = Arc::new(Place::default());
        let (_, _subscription) = relay.subscribe(place.clone());
        first.frame(make.keyframe());
        first.stalled(true);
        first.stalled(false);
        let _second = relay.publish(vp8(), Arc::new(Host::default()));
        first.stalled(true);
        assert_eq!(place.told(), "KssS", "who was replaced has no say");
    }

    #[test]
    fn a_full_sink_loses_the_rest_of_the_gop_and_gets_a_keyframe_not_a_broken_picture() {
        let Stage { relay, host, publication, mut make } = on_air();
        let (slow, quick) = (Arc::new(Place::default()), Arc::new(Place::default()));
        let (_, _slow) = relay.subscribe(slow.clone());
        let (_, _quick) = relay.subscribe(quick.clone());
        publication.frame(make.keyframe());
        slow.fill(true);
        publication.frame(make.delta());
        slow.fill(false);
        publication.frame(make.delta());
        publication.frame(make.delta());
        assert_eq!(host.asked(), 1, "merged: three frames within 500 ms");
        publication.frame(make.keyframe());
        publication.frame(make.delta());
        assert_eq!(slow.told(), "KKd");
        assert_eq!(quick.told(), "KdddKd");
    }

    #[test]
    fn sound_goes_on_after_a_refused_packet() {
        let Stage { relay, publication, mut make, .. } = on_air();
        let place = Arc::new(Place::default());
        let (_, _subscription) = relay.subscribe(place.clone());
        make.kind = Kind::Audio;
        publication.frame(make.delta());
        place.fill(true);
        publication.frame(make.delta());
        place.fill(false);
        publication.frame(make.delta());
        assert_eq!(place.told(), "aa");
    }

    #[test]
    fn a_gop_that_grows_too_long_asks_for_a_keyframe() {
        let Stage { host, publication, mut make, .. } = on_air();
        make.interval = Duration::from_secs(1);
        publication.frame(make.keyframe());
        for _ in 0..15 {
            publication.frame(make.delta());
        }
        assert_eq!(host.asked(), 1);
    }

    #[test]
    fn wishes_are_ignored_while_nobody_publishes_and_beyond_the_last_layer() {
        let Stage { relay, host, publication, make } = on_air();
        let now = make.now.instant;
        assert!(!relay.request_keyframe(Layer(MAX_LAYERS), Wish::Loss, now));
        assert!(relay.request_keyframe(Layer(0), Wish::Join, now));
        assert!(!relay.request_keyframe(Layer(0), Wish::Join, now));
        drop(publication);
        assert!(!relay.request_keyframe(Layer(0), Wish::Loss, now + Duration::from_secs(9)));
        assert_eq!(host.asked(), 1);
    }
}
