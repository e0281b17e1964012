//! A publisher's MoQ broadcast becomes the live's: its catalog is read, its tracks are subscribed to, and every frame is
//! packetised once, for everybody.
//!
//! Everything that comes is untrusted: a catalog that lies, a group without end, a thousand tracks. Each has a bound
//! here, and costs the publisher its session at most.

mod announced;
mod past;
mod reader;
mod source;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use haul_media::{Publication, Relay, Source};
use haul_model::{Kind, Layer};
use moq_net::{PathOwned, broadcast, track as moq};
use tokio::{
    sync::{Notify, OwnedSemaphorePermit, mpsc, watch},
    task::JoinSet,
    time::{sleep, sleep_until, timeout, timeout_at},
};

pub(crate) use self::announced::Announced;
use self::{
    past::Past,
    reader::{Piece, read},
    source::{Choice, Stream},
};
use crate::{
    Guest, OnAir, Refusal,
    catalog::{self, Catalog},
    edge::{Shared, now},
    stats::Held,
    timeline::PublisherClock,
};

/// Frames that wait between a track's reader and the relay. When it is full, the track is read no further.
const MAX_WAITING: usize = 64;
/// How long a publisher may take from its announcement to its catalog, and from there to the first picture.
const BEGIN_WITHIN: Duration = Duration::from_secs(10);
/// Of whom nothing has come for so long, the room is told that they are cut off. As for WHIP.
const STALL: Duration = Duration::from_millis(1_500);
/// A publisher of whom nothing has come for so long is sent away.
const SILENT: Duration = Duration::from_secs(30);
/// So many frames in a row that are not what the catalog says end the session.
const MAX_NONSENSE: u32 = 100;
/// A broadcast that has ended is read for so long at most: what came before its end is still on its way.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// What is announced after a broadcast has ended, or still is, may be what is left of that one for a while, at the publisher's, too:
/// it is looked again after each of these.
const SUCCESSORS_MS: [u64; 6] = [250, 250, 500, 1_000, 2_000, 4_000];
/// How long a changed catalog waits before it counts, so that one that changes all the time does not keep us busy.
const CATALOG_EVERY: Duration = Duration::from_millis(200);

/// Chooses from a catalog as a publication does.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn choose(catalog: &Catalog) {
    let choice = Choice::of(catalog, &crate::stats::Counters::default());
    assert_eq!(choice.streams().len(), choice.tracks().count());
}

/// A publication in progress.
pub(crate) struct Ingest {
    path: PathOwned,
    /// The publisher announces it no more.
    retracted: watch::Sender<bool>,
    tasks: JoinSet<Result<(), Refusal>>,
}

impl Ingest {
    /// Begins to take the broadcast at `path`, for a guest who announced it.
    pub(crate) fn begin(
        shared: &Arc<Shared>,
        guest: &dyn Guest,
        announced: &Announced,
        path: PathOwned,
    ) -> Self {
        let mut tasks = JoinSet::new();
        let right = guest.publish();
        let place = shared.publishers.clone().try_acquire_owned().map_err(|_| Refusal::Busy);
        let (shared, relay, name) = (shared.clone(), guest.relay().clone(), path.clone());
        let (announced, (retracted, is_retracted)) = (announced.clone(), watch::channel(false));
        tasks.spawn(async move {
            let held =
                Rights { _on_air: right?, _place: place?, _counted: shared.counters.publishers.held() };
            let mut past = announced.past();
            let taken = take_all(&shared, &relay, &announced, &name, is_retracted, &mut past).await;
            announced.remember(past);
            drop(held);
            taken
        });
        Self { path, retracted, tasks }
    }

    /// The publisher has ended it. What came before its end may still be on its way; then it is over, whatever follows at its
    /// path.
    pub(crate) fn retract(&self) {
        self.retracted.send_replace(true);
    }

    /// The broadcast's, as it was announced.
    pub(crate) fn path(&self) -> &PathOwned {
        &self.path
    }

    /// Waits for its end: the publisher's own, or the reason why they have to go.
    pub(crate) async fn ended(&mut self) -> Result<(), Refusal> {
        match self.tasks.join_next().await {
            Some(Ok(ended)) => ended,
            // A defect of ours has ended it.
            _ => Err(Refusal::Busy),
        }
    }
}

/// What a publisher holds while they publish.
struct Rights {
    _on_air: OnAir,
    _place: OwnedSemaphorePermit,
    _counted: Held,
}

/// What the relay says to its source.
#[derive(Default)]
struct Host {
    replaced: AtomicBool,
    wake: Notify,
}

impl Source for Host {
    /// MoQ has no such request: its encoders make a keyframe every few seconds by themselves.
    fn request_keyframe(&self, _: Layer) {}

    fn replaced(&self) {
        self.replaced.store(true, Relaxed);
        self.wake.notify_one();
    }
}

/// Done when it is told; never, where nobody is left to tell it.
async fn told(what: &mut watch::Receiver<bool>) {
    if what.wait_for(|told| *told).await.is_err() {
        std::future::pending().await
    }
}

/// Takes the broadcast at a path and those that follow it there, until none does.
async fn take_all(
    shared: &Arc<Shared>,
    relay: &Arc<Relay>,
    announced: &Announced,
    path: &PathOwned,
    mut retracted: watch::Receiver<bool>,
    past: &mut Past,
) -> Result<(), Refusal> {
    let mut pauses = SUCCESSORS_MS.iter();
    loop {
        let Ok(found) = timeout(BEGIN_WITHIN, announced.broadcast(path)).await else { return Ok(()) };
        let Some(broadcast) = found? else { return Ok(()) };
        past.begin();
        let taken = tokio::select! {
            taken = take(shared, relay, &broadcast, past) => taken,
            () = async {
                told(&mut retracted).await;
                sleep(LAST_WORDS).await;
            } => return Ok(()),
        };
        match taken {
            // It may be what is left of the one before: no reason to send anybody away.
            Err(Refusal::Forbidden) if past.is_any() && !past.is_new() => {}
            taken => taken?,
        }
        if past.is_new() {
            pauses = SUCCESSORS_MS.iter();
        }
        let Some(pause) = pauses.next().filter(|_| past.is_any()) else { return Ok(()) };
        tokio::select! {
            () = sleep(Duration::from_millis(*pause)) => {}
            () = told(&mut retracted) => return Ok(()),
            _ = broadcast.closed() => return Ok(()),
        }
    }
}

/// Takes a broadcast until it ends.
async fn take(
    shared: &Arc<Shared>,
    relay: &Arc<Relay>,
    broadcast: &broadcast::Consumer,
    past: &mut Past,
) -> Result<(), Refusal> {
    let mut catalogs = Catalogs::subscribe(broadcast).await?;
    let mut next = catalogs.next(shared).await?;
    // Until when a catalog has to name something.
    let mut deadline = Instant::now() + BEGIN_WITHIN;
    while let Some(catalog) = next {
        let choice = Choice::of(&catalog, &shared.counters);
        if choice.is_empty() {
            // Browsers announce themselves before somebody has let them have the camera.
            let waits = catalog.video.renditions.is_empty() && catalog.audio.renditions.is_empty();
            let followed = match waits {
                true => timeout_at(deadline.into(), catalogs.next(shared)).await.ok(),
                false => None,
            };
            let Some(followed) = followed else {
                tracing::info!("a MoQ broadcast has nothing that can be taken");
                return Err(Refusal::Forbidden);
            };
            next = followed?;
            continue;
        }
        next = on_air(shared, relay, broadcast, &mut catalogs, choice, past).await?;
        deadline = Instant::now() + BEGIN_WITHIN;
    }
    Ok(())
}

/// The catalogs of a broadcast.
struct Catalogs {
    track: moq::Ordered,
}

impl Catalogs {
    async fn subscribe(broadcast: &broadcast::Consumer) -> Result<Self, Refusal> {
        let subscribed = async {
            let track = broadcast.track(catalog::TRACK)?;
            track.subscribe(moq::Subscription::default().with_priority(catalog::PRIORITY)).await
        };
        match timeout(BEGIN_WITHIN, subscribed).await {
            Ok(Ok(track)) => Ok(Self { track: track.ordered() }),
            _ => Err(Refusal::Forbidden),
        }
    }

    /// The next catalog; `None` at the broadcast's end.
    async fn next(&mut self, shared: &Shared) -> Result<Option<Catalog>, Refusal> {
        loop {
            let Ok(Some(mut group)) = self.track.next_group().await else { return Ok(None) };
            // A group is a catalog, and a frame is a whole one; what would follow in it are changes, which we ask for
            // anew by its next group.
            let Ok(Ok(Some(frame))) = timeout(BEGIN_WITHIN, group.read_frame()).await else { continue };
            match Catalog::parse(&frame.payload) {
                Some(catalog) => return Ok(Some(catalog)),
                None => {
                    shared.counters.ingest_malformed.add(1);
                    return Err(Refusal::Forbidden);
                }
            }
        }
    }
}

/// Takes the chosen tracks until the catalog says otherwise (that is returned), or the broadcast ends (`None`).
async fn on_air(
    shared: &Arc<Shared>,
    relay: &Arc<Relay>,
    broadcast: &broadcast::Consumer,
    catalogs: &mut Catalogs,
    choice: Choice,
    past: &mut Past,
) -> Result<Option<Catalog>, Refusal> {
    let (pieces, mut arrived) = mpsc::channel(MAX_WAITING);
    let mut readers = JoinSet::new();
    for (index, track) in choice.tracks().enumerate() {
        readers.spawn(read(broadcast.clone(), track.name.clone(), track.kind(), index, pieces.clone()));
    }
    drop(pieces);
    let names: Vec<_> = choice.tracks().map(|track| track.name.clone()).collect();
    let (mut streams, mut clock) = (choice.streams(), PublisherClock::default());
    let host = Arc::new(Host::default());
    let mut air =
        Air { choice, publication: None, host: host.clone(), told_out_of_order: false, stalled: false };
    let began = Instant::now();
    let (mut heard, mut nonsense) = (began, 0);
    // Nothing of the catalog will change any more, and until when what is left is waited for.
    let (mut settled, mut over) = (false, None);
    loop {
        let patience = match (&air.publication, air.stalled) {
            (None, _) => began + BEGIN_WITHIN,
            (Some(_), false) => heard + STALL,
            (Some(_), true) => heard + SILENT,
        };
        let patience = over.map_or(patience, |over| patience.min(over));
        tokio::select! {
            piece = arrived.recv() => {
                // All its tracks have ended.
                let Some(piece) = piece else { return Ok(None) };
                if past.has(&names[piece.track], &piece) {
                    continue;
                }
                heard = Instant::now();
                air.stall(false);
                match air.take(&mut streams, &mut clock, piece, relay, shared) {
                    Ok(()) => nonsense = 0,
                    Err(Nonsense) => {
                        shared.counters.ingest_malformed.add(1);
                        nonsense += 1;
                        if nonsense >= MAX_NONSENSE {
                            return Err(Refusal::Forbidden);
                        }
                    }
                }
            }
            next = catalogs.next(shared), if !settled => {
                let Some(next) = next? else {
                    settled = true;
                    continue;
                };
                if air.choice != Choice::of(&next, &shared.counters) {
                    sleep(CATALOG_EVERY).await;
                    return Ok(Some(next));
                }
            }
            () = host.wake.notified() => {
                if host.replaced.load(Relaxed) {
                    return Err(Refusal::Taken);
                }
            }
            () = async { broadcast.closed().await; }, if over.is_none() => {
                over = Some(Instant::now() + LAST_WORDS);
                settled = true;
            }
            () = sleep_until(patience.into()) => match (&air.publication, air.stalled) {
                _ if over.is_some_and(|over| Instant::now() >= over) => return Ok(None),
                (Some(_), false) => air.stall(true),
                (None, _) => return Err(Refusal::Forbidden),
                (Some(_), true) => return Ok(None),
            },
        }
    }
}

/// A frame that is not what the catalog says.
struct Nonsense;

/// The broadcast on the relay.
struct Air {
    choice: Choice,
    /// Begins with the first picture, so that what it is said to be is what it is.
    publication: Option<Publication>,
    host: Arc<Host>,
    told_out_of_order: bool,
    stalled: bool,
}

impl Air {
    fn take(
        &mut self,
        streams: &mut [Stream],
        clock: &mut PublisherClock,
        piece: Piece,
        relay: &Arc<Relay>,
        shared: &Shared,
    ) -> Result<(), Nonsense> {
        let mut broken = false;
        let stream = &mut streams[piece.track];
        let kind = stream.kind();
        for frame in stream.frames(&piece, clock, now()) {
            let Some(frame) = frame else {
                broken = true;
                continue;
            };
            if self.publication.is_none() {
                // What the sound of a broadcast with pictures says before those is not waited for.
                if kind == Kind::Audio && self.choice.has_video() || !frame.keyframe {
                    continue;
                }
                let Some(broadcast) = self.choice.broadcast(piece.track, &frame) else {
                    broken = true;
                    continue;
                };
                self.publication = Some(relay.publish(broadcast, self.host.clone()));
            }
            let Some(publication) = &self.publication else { continue };
            shared.counters.ingest_frames.add(1);
            shared.counters.ingest_keyframes.add(u64::from(frame.keyframe && kind == Kind::Video));
            shared.counters.ingest_bytes.add(frame.size_bytes() as u64);
            if let Some(map) = stream.clock_map(&frame) {
                publication.clock_map(map);
            }
            if stream.is_out_of_order() && !self.told_out_of_order {
                self.told_out_of_order = true;
                publication.out_of_order();
            }
            publication.frame(Arc::new(frame));
        }
        if broken { Err(Nonsense) } else { Ok(()) }
    }

    fn stall(&mut self, stalled: bool) {
        if self.stalled != stalled {
            self.stalled = stalled;
            if let Some(publication) = &self.publication {
                publication.stalled(stalled);
            }
        }
    }
}
