//! A house for the edge under test: a few tokens, one relay for everybody, hosts and listeners on it.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering::SeqCst},
    },
    time::{Duration, Instant, SystemTime},
};

use bytes::{Bytes, BytesMut};
use haul_media::{
    Broadcast, Delivery, Publication, Relay, RelayEvent, Sink, Source, Subscription, clock::ntp_from,
};
use haul_model::{Codec, Frame, Kind, Layer, LiveId, Now, TrackInfo, media::Capture};
use haul_quic::{Answer, Asks, Edge, Guest, House, Limits, OnAir, QuicConfig, Refusal};
use tokio::task::JoinHandle;

use crate::client::{PARTS, picture, read_stamp};

/// An edge with a house.
pub async fn start() -> (Edge, Arc<Door>) {
    start_with(|_| {}).await
}

/// The same with other limits.
pub async fn start_with(change: impl FnOnce(&mut Limits)) -> (Edge, Arc<Door>) {
    let door = Door::new();
    let mut limits = Limits::default();
    change(&mut limits);
    (open(&door, haul_quic::Congestion::default(), limits).await, door)
}

/// An edge at this door. There may be several.
pub async fn open(door: &Arc<Door>, congestion: haul_quic::Congestion, limits: Limits) -> Edge {
    let listen = "127.0.0.1:0".parse().unwrap();
    let config = QuicConfig { listen, tls: None, generated: None, congestion, limits };
    Edge::start(config, door.clone()).await.unwrap()
}

/// Who lets in: tokens are words.
pub struct Door {
    relay: Arc<Relay>,
    on_air: Arc<Mutex<Option<&'static str>>>,
    is_public: Arc<AtomicBool>,
}

struct Somebody {
    live: LiveId,
    relay: Arc<Relay>,
    role: &'static str,
    expires: Option<Instant>,
    on_air: Arc<Mutex<Option<&'static str>>>,
    is_public: Arc<AtomicBool>,
}

impl House for Door {
    fn admit(&self, asks: Asks) -> Answer<'_, Result<Box<dyn Guest>, Refusal>> {
        let role = match (asks.token.as_deref(), asks.live.as_str()) {
            (None, "public") => Ok("stranger"),
            (None | Some("expired"), _) => Err(Refusal::Unauthorized),
            (Some("elsewhere"), _) => Err(Refusal::Forbidden),
            (_, "unknown") => Err(Refusal::NotFound),
            (Some("host"), _) => Ok("host"),
            (Some("other-host"), _) => Ok("other-host"),
            (Some("brief"), _) => Ok("brief"),
            (Some(_), _) => Ok("viewer"),
        };
        let guest = role.map(|role| {
            let expires = (role == "brief").then(|| Instant::now() + Duration::from_millis(300));
            Box::new(Somebody {
                live: asks.live,
                relay: self.relay.clone(),
                role,
                expires,
                on_air: self.on_air.clone(),
                is_public: self.is_public.clone(),
            }) as Box<dyn Guest>
        });
        Box::pin(async move { guest })
    }
}

/// The right to publish, given back.
struct Right(Arc<Mutex<Option<&'static str>>>);

impl Drop for Right {
    fn drop(&mut self) {
        *self.0.lock().unwrap() = None;
    }
}

impl Guest for Somebody {
    fn live(&self) -> &LiveId {
        &self.live
    }

    fn relay(&self) -> &Arc<Relay> {
        &self.relay
    }

    fn may_publish(&self) -> bool {
        self.role.ends_with("host")
    }

    fn expires(&self) -> Option<Instant> {
        self.expires
    }

    fn is_welcome(&self) -> bool {
        self.role != "stranger" || self.is_public.load(SeqCst)
    }

    fn publish(&self) -> Result<OnAir, Refusal> {
        let mut on_air = self.on_air.lock().unwrap();
        if on_air.is_some_and(|other| other != self.role) {
            return Err(Refusal::Taken);
        }
        *on_air = Some(self.role);
        Ok(Box::new(Right(self.on_air.clone())))
    }
}

impl Door {
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            relay: Relay::new(),
            on_air: Arc::default(),
            is_public: Arc::new(AtomicBool::new(true)),
        })
    }

    pub fn relay(&self) -> &Arc<Relay> {
        &self.relay
    }

    pub fn close_to_strangers(&self) {
        self.is_public.store(false, SeqCst);
    }

    /// Hears all that comes over the relay.
    pub fn listen(&self) -> Listener {
        let heard = Arc::<Heard>::default();
        let (_, subscription) = self.relay.subscribe(heard.clone());
        Listener { heard, _subscription: subscription }
    }
}

#[derive(Default)]
struct Heard(Mutex<Vec<Arc<Frame>>>);

impl Sink for Heard {
    fn deliver(&self, event: RelayEvent) -> Delivery {
        if let RelayEvent::Frame(frame) = event {
            self.0.lock().unwrap().push(frame);
        }
        Delivery::Taken
    }
}

pub struct Listener {
    heard: Arc<Heard>,
    _subscription: Subscription,
}

impl Listener {
    pub fn count(&self, kind: Kind) -> usize {
        self.heard.0.lock().unwrap().iter().filter(|frame| frame.kind == kind).count()
    }

    /// The numbers of the pictures, put together from their packets. Of layers, the first.
    pub fn stamps(&self) -> Vec<u32> {
        let heard = self.heard.0.lock().unwrap();
        let pictures = heard.iter().filter(|frame| frame.kind == Kind::Video && frame.layer == Layer(0));
        let stamp = |frame: &Arc<Frame>| {
            let mut picture = BytesMut::new();
            frame.packets.iter().for_each(|packet| picture.extend_from_slice(&packet[4..]));
            read_stamp(&picture)
        };
        pictures.map(stamp).collect()
    }

    /// How far the last sound and the last picture that were sent together are apart on our clock, in microseconds.
    pub fn lips_us(&self) -> u64 {
        let heard = self.heard.0.lock().unwrap();
        let last = |kind, hz: u64| {
            let frame = heard.iter().rev().find(|frame| frame.kind == kind).unwrap();
            let captured = frame.captured.unwrap();
            let ours = captured.ntp.wrapping_add_signed(captured.to_ours.unwrap());
            let us = ((u128::from(ours) * 1_000_000) >> 32) as i128;
            us - i128::from(u64::from(frame.timestamp) * 1_000_000 / hz)
        };
        (last(Kind::Video, 90_000) - last(Kind::Audio, 48_000)).unsigned_abs() as u64
    }
}

/// How much higher numbers are in the smaller layer.
pub const SMALL: u32 = 1_000_000;

/// A host who is on the relay already: 50 pictures a second, each tenth a keyframe, and as many packets of sound.
pub struct Host {
    sent: Arc<AtomicU32>,
    asked: Arc<AtomicU32>,
    task: JoinHandle<()>,
}

struct Encoder(Arc<AtomicU32>);

impl Source for Encoder {
    fn request_keyframe(&self, _: Layer) {
        self.0.fetch_add(1, SeqCst);
    }

    fn replaced(&self) {}
}

impl Host {
    pub fn start(door: &Door, first: u32) -> Self {
        Self::start_with_gop(door, first, 10)
    }

    /// The same with a keyframe every so many pictures.
    pub fn start_with_gop(door: &Door, first: u32, gop: u32) -> Self {
        Self::begin(door, first, gop, &[])
    }

    /// Of two layers: `h` as above, and `l` with every second of its pictures, whose numbers are higher by [`SMALL`].
    pub fn start_layered(door: &Door) -> Self {
        Self::begin(door, 0, 10, &["h", "l"])
    }

    fn begin(door: &Door, first: u32, gop: u32, layers: &[&str]) -> Self {
        let (sent, asked) = (Arc::<AtomicU32>::default(), Arc::<AtomicU32>::default());
        let track = |codec| Some(TrackInfo { codec, fmtp: String::new() });
        let layer_names: Vec<_> = layers.iter().map(|name| (*name).to_owned()).collect();
        let is_layered = !layers.is_empty();
        let broadcast = Broadcast { video: track(Codec::Vp8), audio: track(Codec::Opus), layer_names };
        let publication = door.relay.publish(broadcast, Arc::new(Encoder(asked.clone())));
        let task = tokio::spawn(run(publication, first, gop, is_layered, sent.clone()));
        Self { sent, asked, task }
    }

    /// How often a keyframe was asked of it.
    pub fn asked(&self) -> u32 {
        self.asked.load(SeqCst)
    }

    pub fn sent(&self) -> u32 {
        self.sent.load(SeqCst)
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn run(publication: Publication, first: u32, gop: u32, is_layered: bool, sent: Arc<AtomicU32>) {
    let mut ticks = tokio::time::interval(Duration::from_millis(20));
    let began = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    for number in 0_u32.. {
        ticks.tick().await;
        let keyframe = number.is_multiple_of(gop);
        let captured = began + Duration::from_millis(20) * number;
        let captured =
            Capture { ntp: ntp_from(captured + Duration::from_secs(2_208_988_800)), to_ours: Some(0) };
        let sound = vec![Bytes::from_static(&[0xF8; 40])];
        let mut frames =
            vec![(Kind::Video, Layer(0), packets(first + number, keyframe)), (Kind::Audio, Layer(0), sound)];
        if is_layered && number.is_multiple_of(2) {
            frames.push((Kind::Video, Layer(1), packets(SMALL + first + number, keyframe)));
        }
        for (kind, layer, packets) in frames {
            let hz = if kind == Kind::Video { 90_000 } else { 48_000 };
            publication.frame(Arc::new(Frame {
                kind,
                layer,
                timestamp: number * (hz / 50),
                arrived: Now { instant: Instant::now(), wall: SystemTime::now().into() },
                keyframe: keyframe || kind == Kind::Audio,
                begins: true,
                ends: true,
                captured: Some(captured),
                numbers: None,
                packets,
            }));
        }
        sent.store(number + 1, SeqCst);
    }
}

/// A picture as RTP carries it.
fn packets(stamp: u32, keyframe: bool) -> Vec<Bytes> {
    let whole = picture(stamp, keyframe);
    let descriptor = |part: usize| [if part == 0 { 0x10_u8 } else { 0 }];
    let packet = |(part, bytes): (usize, &[u8])| Bytes::from([&descriptor(part)[..], bytes].concat());
    whole.chunks(whole.len() / usize::from(PARTS)).enumerate().map(packet).collect()
}
