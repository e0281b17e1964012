//! A live as a MoQ broadcast, for as long as somebody is there to watch it.
//!
//! A feed is a sink of the live's relay. Its tracks are always on offer; groups are made of one only while somebody
//! reads it. Who begins to read gets the GOP so far at once, as the beginning of a group.

mod track;

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::{Duration, Instant},
};

use futures_util::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use haul_media::{Broadcast, Delivery, Meter, Relay, RelayEvent, Sink, Snapshot, Subscription, Wish};
use haul_model::{Kind, Layer, LiveId, TrackInfo};
use moq_net::{Timestamp, broadcast, origin, track as moq};
use tokio::{sync::Notify, task::JoinHandle};

use self::track::Track;
use crate::{
    catalog::{self, Audio, Catalog, Container, Video},
    edge::{Shared, now},
};

/// How old a group may get, in media time, before it is not sent any more.
pub(crate) const KEEP: Duration = Duration::from_secs(3);
/// Events that wait for a feed; frames beyond are refused, and their layer goes on with a keyframe. A second of four
/// layers and sound.
const MAX_WAITING: usize = 512;
/// While somebody reads it, a keyframe of a layer is wanted this often, since each begins a group: what a slow viewer
/// drops, and from where a lost one is caught up with.
const KEYFRAME_EVERY: Duration = Duration::from_secs(2);
/// A broadcast whose pictures do not come is announced with its sound alone after this time; they are told later.
const PICTURES_WITHIN: Duration = Duration::from_secs(1);
/// How often it is looked what the tracks take.
const RATES_EVERY: Duration = Duration::from_secs(2);
/// A rate that differs by less than this part of what was told is no news: each catalog goes to every viewer.
const RATE_STEP: u64 = 4;

/// The feeds of all lives that are watched.
pub(crate) struct Feeds {
    origin: origin::Producer,
    /// A lock, since any session may be a live's first; held for a look-up.
    running: Mutex<HashMap<LiveId, Weak<Feed>>>,
}

/// A live's feed. Ends when the last session that watches drops it.
pub(crate) struct Feed {
    origin: origin::Producer,
    relay: Arc<Relay>,
    task: JoinHandle<()>,
    _subscription: Subscription,
}

impl Feeds {
    pub(crate) fn new(origin: origin::Producer) -> Self {
        Self { origin, running: Mutex::default() }
    }

    /// The feed of a live, begun if there is none.
    pub(crate) fn join(&self, shared: &Arc<Shared>, live: &LiveId, relay: &Arc<Relay>) -> Arc<Feed> {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(feed) = running.get(live).and_then(Weak::upgrade)
            && Arc::ptr_eq(&feed.relay, relay)
        {
            return feed;
        }
        let feed = Arc::new(Feed::begin(self.origin.clone(), shared, live, relay));
        // Nothing is kept of feeds that have ended.
        running.retain(|_, feed| feed.strong_count() > 0);
        running.insert(live.clone(), Arc::downgrade(&feed));
        feed
    }
}

impl Feed {
    fn begin(origin: origin::Producer, shared: &Arc<Shared>, live: &LiveId, relay: &Arc<Relay>) -> Self {
        let inbox = Arc::new(Inbox { shared: Arc::downgrade(shared), ..Inbox::default() });
        let (snapshot, subscription) = relay.subscribe(inbox.clone());
        let run = Run {
            origin: origin.clone(),
            live: live.clone(),
            relay: Arc::downgrade(relay),
            shared: Arc::downgrade(shared),
            on_air: None,
            idle: FuturesUnordered::new(),
            next_group: 0,
        };
        let task = tokio::spawn(run.run(inbox, snapshot));
        Self { origin, relay: relay.clone(), task, _subscription: subscription }
    }

    /// Where the live's broadcast is, under the live's id.
    pub(crate) fn origin(&self) -> &origin::Producer {
        &self.origin
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What the relay hands over, until the feed's task takes it.
#[derive(Default)]
struct Inbox {
    shared: Weak<Shared>,
    /// A lock, because the relay must not wait for the task. Held to push or pop one.
    events: Mutex<VecDeque<RelayEvent>>,
    wake: Notify,
}

impl Inbox {
    fn lock(&self) -> MutexGuard<'_, VecDeque<RelayEvent>> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn next(&self) -> RelayEvent {
        loop {
            let event = self.lock().pop_front();
            match event {
                Some(event) => return event,
                None => self.wake.notified().await,
            }
        }
    }
}

impl Sink for Inbox {
    fn deliver(&self, event: RelayEvent) -> Delivery {
        let mut events = self.lock();
        match &event {
            RelayEvent::Frame(_) if events.len() >= MAX_WAITING => {
                if let Some(shared) = self.shared.upgrade() {
                    shared.counters.feed_overflows.add(1);
                }
                return Delivery::Refused;
            }
            // Frames say themselves when they were captured.
            RelayEvent::ClockMap(_) => return Delivery::Taken,
            _ => events.push_back(event),
        }
        drop(events);
        self.wake.notify_one();
        Delivery::Taken
    }
}

/// The feed's task.
struct Run {
    origin: origin::Producer,
    live: LiveId,
    relay: Weak<Relay>,
    shared: Weak<Shared>,
    on_air: Option<OnAir>,
    /// One for each track that nobody reads: done when somebody does.
    idle: FuturesUnordered<BoxFuture<'static, Option<(u64, TrackKey)>>>,
    /// No group of a broadcast so far has this number or a higher one.
    next_group: u64,
}

type TrackKey = (Kind, Layer);

/// What is on the relay now, as MoQ has it.
struct OnAir {
    /// Tells it from others before and after it.
    id: u64,
    broadcast: broadcast::Producer,
    catalog: moq::Producer,
    told: Catalog,
    announced: bool,
    began: Instant,
    has_video: bool,
    tracks: BTreeMap<TrackKey, Track>,
    meter: Meter,
    /// What each track takes in bits a second, as it is told.
    rates: BTreeMap<TrackKey, u64>,
    rated: Instant,
}

impl Run {
    async fn run(mut self, inbox: Arc<Inbox>, snapshot: Snapshot) {
        if let Some(broadcast) = &snapshot.broadcast {
            self.started(broadcast);
        }
        for (_, gop) in &snapshot.gops {
            gop.frames().iter().for_each(|frame| self.frame(frame));
        }
        loop {
            tokio::select! {
                event = inbox.next() => match event {
                    RelayEvent::Started(broadcast) => self.started(&broadcast),
                    RelayEvent::Frame(frame) => self.frame(&frame),
                    RelayEvent::Ended => self.ended(),
                    RelayEvent::ClockMap(_) | RelayEvent::OutOfOrder | RelayEvent::Stalled(_) => {}
                },
                Some(read) = self.idle.next(), if !self.idle.is_empty() => {
                    if let Some((id, key)) = read {
                        self.begin_reading(id, key);
                    }
                }
            }
        }
    }

    fn started(&mut self, broadcast: &Arc<Broadcast>) {
        // The one before must be gone first: what follows is not its continuation.
        self.ended();
        // Groups are numbered from the time of day on, so that it goes on rising where a feed or a host begins anew.
        let now = now();
        let first_group = self.next_group.max(now.wall.0);
        self.next_group = first_group + 1;
        match OnAir::new(&self.origin, &self.live, broadcast, first_group, now.instant) {
            Ok(on_air) => {
                for (key, track) in &on_air.tracks {
                    self.idle.push(used(on_air.id, *key, &track.producer));
                }
                self.on_air = Some(on_air);
                self.tell(now.instant);
            }
            // Only while the edge ends: the origin's driver is gone.
            Err(error) => tracing::debug!(live = %self.live, %error, "no MoQ broadcast"),
        }
    }

    /// What is on air is over.
    fn ended(&mut self) {
        let Some(on_air) = self.on_air.take() else { return };
        for track in on_air.tracks.into_values() {
            self.next_group = self.next_group.max(track.next_group);
            track.end();
        }
        // Last: with the broadcast's end nobody begins to read it any more, and who reads goes on to its tracks' ends.
        let _ = on_air.catalog.finish();
        on_air.broadcast.close();
    }

    fn frame(&mut self, frame: &Arc<haul_model::Frame>) {
        let (Some(on_air), Some(shared), Some(relay)) =
            (&mut self.on_air, self.shared.upgrade(), self.relay.upgrade())
        else {
            return;
        };
        let key = (frame.kind, frame.layer);
        let Some(track) = on_air.tracks.get_mut(&key) else { return };
        let mut news = track.keep(frame);
        if !track.is_idle && !track.producer.is_used() {
            track.rest();
            self.idle.push(used(on_air.id, key, &track.producer));
        }
        if !track.is_idle {
            track.write(frame, &shared.counters);
            let wish = track.wish(frame.arrived.instant, KEYFRAME_EVERY);
            if let Some(wish) = wish
                && relay.request_keyframe(frame.layer, wish, frame.arrived.instant)
            {
                shared.counters.keyframe_requests.add(1);
            }
        }
        news |= on_air.measure(frame);
        if news || !on_air.announced {
            self.tell(frame.arrived.instant);
        }
    }

    fn begin_reading(&mut self, id: u64, key: TrackKey) {
        let (Some(on_air), Some(shared)) = (&mut self.on_air, self.shared.upgrade()) else { return };
        if on_air.id != id {
            return;
        }
        let Some(track) = on_air.tracks.get_mut(&key) else { return };
        track.begin(&shared.counters);
        let relay = self.relay.upgrade();
        // They see the past until the next keyframe, and have it soon.
        if key.0 == Kind::Video
            && relay.is_some_and(|relay| relay.request_keyframe(key.1, Wish::Join, now().instant))
        {
            shared.counters.keyframe_requests.add(1);
        }
    }

    /// Tells what the broadcast consists of, where there is something to tell.
    fn tell(&mut self, now: Instant) {
        let Some(on_air) = &mut self.on_air else { return };
        let catalog = on_air.describe();
        let late = now.saturating_duration_since(on_air.began) >= PICTURES_WITHIN;
        let enough = match on_air.has_video {
            true => !catalog.video.renditions.is_empty() || late && !catalog.audio.renditions.is_empty(),
            false => !catalog.audio.renditions.is_empty(),
        };
        if !enough || on_air.announced && catalog == on_air.told {
            return;
        }
        if let Err(error) = on_air.publish(catalog) {
            tracing::debug!(live = %self.live, %error, "the MoQ catalog could not be told");
        }
    }
}

/// Done when somebody reads the track, or it has ended (`None`).
fn used(id: u64, key: TrackKey, track: &moq::Producer) -> BoxFuture<'static, Option<(u64, TrackKey)>> {
    let demand = track.demand();
    Box::pin(async move { demand.used().await.ok().map(|()| (id, key)) })
}

impl OnAir {
    fn new(
        origin: &origin::Producer,
        live: &LiveId,
        what: &Broadcast,
        first_group: u64,
        began: Instant,
    ) -> Result<Self, moq_net::Error> {
        let broadcast = origin.create_broadcast(live.as_str())?;
        let info = moq::Info::default().with_priority(catalog::PRIORITY);
        let catalog = broadcast.create_track(catalog::TRACK, info)?;
        let mut tracks = BTreeMap::new();
        let mut add = |what: &TrackInfo, layer: Layer, name: String| {
            let track = Track::new(&broadcast, what, name, first_group)?;
            tracks.insert((what.codec.kind(), layer), track);
            Ok::<_, moq_net::Error>(())
        };
        if let Some(audio) = &what.audio {
            add(audio, Layer(0), "audio".to_owned())?;
        }
        if let Some(video) = &what.video {
            match what.layer_names.is_empty() {
                true => add(video, Layer(0), "video".to_owned())?,
                false => {
                    for (index, name) in what.layer_names.iter().enumerate() {
                        add(video, Layer(index as u8), format!("video-{name}"))?;
                    }
                }
            }
        }
        Ok(Self {
            id: first_group,
            broadcast,
            catalog,
            told: Catalog::default(),
            announced: false,
            began,
            has_video: what.video.is_some(),
            tracks,
            meter: Meter::default(),
            rates: BTreeMap::new(),
            rated: began,
        })
    }

    /// Counts a frame. Returns whether there is news about what the tracks take.
    fn measure(&mut self, frame: &haul_model::Frame) -> bool {
        self.meter.frame(frame);
        let now = frame.arrived.instant;
        if now.saturating_duration_since(self.rated) < RATES_EVERY {
            return false;
        }
        self.rated = now;
        let layers = self.meter.layers(now).into_iter();
        let pictures = layers.map(|rate| ((Kind::Video, rate.layer), rate.bitrate_bps));
        let sound = ((Kind::Audio, Layer(0)), self.meter.sound_bps());
        let mut news = false;
        for (key, bps) in pictures.chain([sound]).filter(|(_, bps)| *bps > 0) {
            let told = self.rates.get(&key).copied();
            if told.is_none_or(|told| told.abs_diff(bps) > told / RATE_STEP) {
                self.rates.insert(key, bps);
                news = true;
            }
        }
        news
    }

    /// The catalog, with as many tracks as are known well enough to be decoded.
    fn describe(&self) -> Catalog {
        let mut catalog = Catalog::default();
        for (key, track) in &self.tracks {
            let bitrate = self.rates.get(key).copied();
            if let Some(sound) = &track.sound {
                let audio = Audio {
                    codec: sound.codec.clone(),
                    description: sound.description.clone(),
                    sample_rate: sound.sample_rate_hz,
                    number_of_channels: sound.channels,
                    bitrate,
                    container: Container::Legacy,
                };
                catalog.audio.renditions.insert(track.name.clone(), audio);
            }
            if let Some(decoder) = &track.decoder {
                let video = Video {
                    codec: decoder.codec.clone(),
                    description: None,
                    coded_width: decoder.size.map(|size| size.0),
                    coded_height: decoder.size.map(|size| size.1),
                    bitrate,
                    label: track.name.strip_prefix("video-").map(str::to_owned),
                    container: Container::Legacy,
                };
                catalog.video.renditions.insert(track.name.clone(), video);
            }
        }
        catalog
    }

    fn publish(&mut self, catalog: Catalog) -> Result<(), moq_net::Error> {
        let mut group = self.catalog.append_group()?;
        group.write_frame(Timestamp::now(), catalog.json())?;
        group.finish()?;
        self.told = catalog;
        if !self.announced {
            self.broadcast.announce(origin::Route::default())?;
            self.announced = true;
        }
        Ok(())
    }
}
