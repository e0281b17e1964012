//! A MoQ client of the tests: publishes and watches over WebTransport, raw QUIC and websockets, in any version of the
//! protocol.

#![allow(dead_code, reason = "each test uses a part of it")]

#[path = "../../src/polled.rs"]
mod polled;

use std::{
    collections::HashMap,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use bytes::{Buf, Bytes};
use moq_net::{Timescale, Timestamp, broadcast, origin, track};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::{task::JoinSet, time::timeout};
use web_transport_quinn::proto::ConnectRequest;

/// How long anything may take before a test gives up; far more than it takes.
pub const PATIENCE: Duration = Duration::from_secs(20);
/// The parts of a picture: each becomes one packet of RTP.
pub const PARTS: u8 = 4;

/// As players ask: sound is little, and more is lost with it.
const AUDIO_PRIORITY: u8 = 80;
const VIDEO_PRIORITY: u8 = 60;

/// How a client connects.
#[derive(Debug, Clone, Copy)]
pub enum Way {
    /// WebTransport, offering these versions; none: as browsers that can't say.
    WebTransport(&'static [&'static str]),
    /// Raw QUIC, in this version.
    Raw(&'static str),
    /// A websocket, offering these versions on each draft of the records; none: the drafts alone.
    Socket(&'static [&'static str]),
}

/// As the newest clients do it.
pub const NEWEST: Way = Way::WebTransport(moq_net::ALPNS);

/// A session with the server. Ends when it is dropped.
pub struct Client {
    pub session: moq_net::Session,
    /// What carries the session; `None`: a websocket.
    pub quic: Option<quinn::Connection>,
    /// What the server offers.
    offers: origin::Producer,
    /// What we offer.
    ours: origin::Producer,
    _tasks: JoinSet<()>,
    _endpoint: quinn::Endpoint,
}

impl Client {
    /// Connects, or says what the server said. `target` is path and query.
    pub async fn connect(server: SocketAddr, way: Way, target: &str) -> Result<Self, String> {
        timeout(PATIENCE, Self::try_connect(server, way, target)).await.expect("an answer")
    }

    async fn try_connect(server: SocketAddr, way: Way, target: &str) -> Result<Self, String> {
        let said = |error: &dyn std::fmt::Display| error.to_string();
        let mut endpoint =
            quinn::Endpoint::client((Ipv4Addr::LOCALHOST, 0).into()).map_err(|error| said(&error))?;
        let mut client = moq_net::Client::new();
        let mut tasks = JoinSet::new();
        let mut origin = || {
            let (origin, driver) = origin::Producer::new(origin::Config::default());
            tasks.spawn(async move { drop(moq_net::time::run(driver).await) });
            origin
        };
        let (offers, ours) = (origin(), origin());
        if let Way::Raw(_) = way {
            client = client.with_path(target);
        }
        let client = client.with_subscriber(offers.clone()).with_publisher(&ours);
        let mut quic = None;
        let session = match way {
            Way::WebTransport(protocols) => {
                let config = config(&[web_transport_quinn::ALPN]);
                let connector = web_transport_quinn::Client::new(endpoint.clone(), config);
                let url = format!("https://127.0.0.1:{}{target}", server.port()).parse::<url::Url>().unwrap();
                let protocols = protocols.iter().map(|one| (*one).to_owned());
                let request = ConnectRequest::new(url).with_protocols(protocols);
                let transport = connector.connect(request).await.map_err(|error| said(&error))?;
                quic = Some((*transport).clone());
                begin(&client, transport, &mut tasks).await
            }
            Way::Raw(alpn) => {
                let connection = connect_quic(&mut endpoint, server, alpn).await?;
                quic = Some(connection.clone());
                begin(&client, web_transport_quinn::Session::raw(connection), &mut tasks).await
            }
            Way::Socket(versions) => {
                let versions = versions.iter().map(|version| (*version, &[][..]));
                let connector = qmux::ws::Client::new().with_protocols(versions);
                let url = format!("ws://127.0.0.1:{}{target}", server.port());
                let transport = connector.connect(&url).await.map_err(|error| said(&error))?;
                begin(&client, polled::Session::new(transport), &mut tasks).await
            }
        };
        let session = session.map_err(|error| said(&error))?;
        Ok(Self { session, quic, offers, ours, _tasks: tasks, _endpoint: endpoint })
    }

    /// Watches what the server offers now, or will.
    pub async fn watch(&self) -> Viewer {
        Viewer::of(timeout(PATIENCE, self.found()).await.expect("an announcement")).await
    }

    /// The broadcast that the server offers now, or will.
    pub async fn found(&self) -> broadcast::Consumer {
        let consumer = self.offers.consume();
        let mut announced = consumer.announced();
        loop {
            let update = announced.next().await.expect("the session lives");
            if update.kind.is_active() {
                return consumer.request_broadcast(&update.prefix).await.expect("it is announced");
            }
        }
    }

    /// Publishes numbered pictures in VP8 and sound in Opus, as [`Publisher`] says.
    pub fn publish(&self, first: u32) -> Publisher {
        Publisher::start(&self.ours, CATALOG, first, Duration::ZERO)
    }

    /// The same with sound that is sent so much later than it was captured.
    pub fn publish_late(&self, first: u32, sound: Duration) -> Publisher {
        Publisher::start(&self.ours, CATALOG, first, sound)
    }

    /// The same with another catalog.
    pub fn publish_as(&self, catalog: &str, first: u32) -> Publisher {
        Publisher::start(&self.ours, catalog, first, Duration::ZERO)
    }

    /// Announces a broadcast that the test makes itself.
    pub fn broadcast(&self, name: &str) -> broadcast::Producer {
        self.ours.create_broadcast(name).unwrap()
    }

    /// Waits until the session has ended.
    pub async fn ended(&self) -> moq_net::Error {
        timeout(PATIENCE, self.session.closed()).await.expect("the session ends")
    }
}

/// A connection that speaks this protocol, in which nothing has been said yet.
pub async fn quic(server: SocketAddr, alpn: &str) -> (quinn::Endpoint, quinn::Connection) {
    let mut endpoint = quinn::Endpoint::client((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let connection = timeout(PATIENCE, connect_quic(&mut endpoint, server, alpn)).await.expect("an answer");
    (endpoint, connection.unwrap())
}

async fn connect_quic(
    endpoint: &mut quinn::Endpoint,
    server: SocketAddr,
    alpn: &str,
) -> Result<quinn::Connection, String> {
    endpoint.set_default_client_config(config(&[alpn]));
    let connecting = endpoint.connect(server, "localhost").map_err(|error| error.to_string())?;
    connecting.await.map_err(|error| error.to_string())
}

async fn begin<S>(
    client: &moq_net::Client,
    transport: S,
    tasks: &mut JoinSet<()>,
) -> Result<moq_net::Session, moq_net::Error>
where
    S: moq_net::transport::poll::Boxable + Send,
    S::SendStream: Sync,
    S::RecvStream: Sync,
{
    let (session, driver) = client.connect(Instant::now(), transport).await?;
    tasks.spawn(async move { drop(moq_net::time::run(driver).await) });
    Ok(session)
}

fn config(alpns: &[&str]) -> quinn::ClientConfig {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody))
        .with_no_client_auth();
    tls.alpn_protocols = alpns.iter().map(|alpn| alpn.as_bytes().to_vec()).collect();
    let crypto = quinn::crypto::rustls::QuicClientConfig::try_from(tls).unwrap();
    quinn::ClientConfig::new(Arc::new(crypto))
}

/// The tests' servers are on this machine.
#[derive(Debug)]
struct Anybody;

impl rustls::client::danger::ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        unreachable!("QUIC has TLS 1.3")
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms.supported_schemes()
    }
}

/// What a viewer has seen of one track.
#[derive(Default)]
pub struct Seen {
    pub frames: AtomicU64,
    pub groups: AtomicU64,
    /// The numbers in pictures and in packets of sound, in order of arrival.
    pub stamps: Mutex<Vec<u32>>,
    /// When each frame is shown, in microseconds.
    pub times: Mutex<Vec<u64>>,
    /// Whether the first frame of each group was a keyframe.
    pub keyframes_first: AtomicU64,
    /// Groups that ended before they were whole.
    pub cut: AtomicU64,
    /// The track was read to its end.
    pub ended: AtomicBool,
}

/// Somebody who watches a broadcast: the first of its pictures, and its sound.
pub struct Viewer {
    pub catalog: serde_json::Value,
    pub video: Arc<Seen>,
    pub audio: Arc<Seen>,
    pub broadcast: broadcast::Consumer,
    _tasks: JoinSet<()>,
}

impl Viewer {
    async fn of(broadcast: broadcast::Consumer) -> Self {
        let catalog = timeout(PATIENCE, catalog(&broadcast)).await.expect("a catalog");
        let (video, audio) = (Arc::<Seen>::default(), Arc::<Seen>::default());
        let mut tasks = JoinSet::new();
        for (kind, seen) in [("video", &video), ("audio", &audio)] {
            let Some(renditions) = catalog[kind]["renditions"].as_object() else { continue };
            if let Some(name) = renditions.keys().next() {
                tasks.spawn(read(broadcast.clone(), name.clone(), seen.clone(), kind == "video"));
            }
        }
        Self { catalog, video, audio, broadcast, _tasks: tasks }
    }

    /// Reads another rendition of the pictures. Ends when the second is dropped.
    pub fn rendition(&self, name: &str) -> (Arc<Seen>, JoinSet<()>) {
        let (seen, mut tasks) = (Arc::<Seen>::default(), JoinSet::new());
        tasks.spawn(read(self.broadcast.clone(), name.to_owned(), seen.clone(), true));
        (seen, tasks)
    }

    /// How far the sounds that mark the last `count` pictures are from these, at the most, in milliseconds. `None` while
    /// too little has come.
    pub fn lips_ms(&self, count: usize) -> Option<f64> {
        let seen = |seen: &Seen| {
            let (stamps, times) = (seen.stamps.lock().unwrap(), seen.times.lock().unwrap());
            std::iter::zip(stamps.clone(), times.clone()).collect::<Vec<_>>()
        };
        let sounds: HashMap<u32, u64> = seen(&self.audio).into_iter().collect();
        let pictures = seen(&self.video).into_iter();
        let apart: Vec<_> =
            pictures.filter_map(|(stamp, us)| Some(us.abs_diff(*sounds.get(&stamp)?))).collect();
        let last = apart.len().checked_sub(count)?;
        apart[last..].iter().max().map(|us| *us as f64 / 1_000.0)
    }

    pub fn pictures(&self) -> u64 {
        self.video.frames.load(SeqCst)
    }

    pub fn sounds(&self) -> u64 {
        self.audio.frames.load(SeqCst)
    }
}

/// The broadcast's catalog, as it is now.
pub async fn catalog(broadcast: &broadcast::Consumer) -> serde_json::Value {
    let subscription = track::Subscription::default();
    let mut track = broadcast.track("catalog.json").unwrap().subscribe(subscription).await.unwrap();
    let mut group = track.recv_group().await.unwrap().expect("a group");
    let frame = group.read_frame().await.unwrap().expect("a frame");
    serde_json::from_slice(&frame.payload).unwrap()
}

async fn read(broadcast: broadcast::Consumer, name: String, seen: Arc<Seen>, is_video: bool) {
    // Of two tracks that are wanted alike, the one that was asked for first would always go first.
    let priority = if is_video { VIDEO_PRIORITY } else { AUDIO_PRIORITY };
    let subscription =
        track::Subscription::default().with_max_age(Duration::from_secs(2)).with_priority(priority);
    let Ok(track) = broadcast.track(&name) else { return };
    let Ok(track) = track.subscribe(subscription).await else { return };
    let mut groups = track.ordered();
    loop {
        let mut group = match groups.next_group().await {
            Ok(Some(group)) => group,
            Ok(None) => return seen.ended.store(true, SeqCst),
            Err(_) => return,
        };
        seen.groups.fetch_add(1, SeqCst);
        let mut first = true;
        loop {
            let frame = match group.read_frame().await {
                Ok(Some(frame)) => frame,
                Ok(None) => break,
                Err(_) => {
                    seen.cut.fetch_add(1, SeqCst);
                    break;
                }
            };
            let (us, payload) = open(frame.payload);
            seen.times.lock().unwrap().push(us);
            if is_video && std::mem::take(&mut first) && payload[0] & 1 == 0 {
                seen.keyframes_first.fetch_add(1, SeqCst);
            }
            let stamp = if is_video { read_stamp(&payload) } else { read_sound(&payload) };
            seen.stamps.lock().unwrap().push(stamp);
            seen.frames.fetch_add(1, SeqCst);
        }
    }
}

/// A frame's time and bytes.
fn open(mut frame: Bytes) -> (u64, Bytes) {
    let length = 1 << (frame[0] >> 6);
    let time = frame.split_to(length);
    let us = time
        .iter()
        .enumerate()
        .fold(0, |us, (index, byte)| us << 8 | u64::from(if index == 0 { byte & 0x3F } else { *byte }));
    (us, frame)
}

/// A VP8 "picture": its parts, each with the picture's number.
pub fn picture(stamp: u32, keyframe: bool) -> Vec<u8> {
    let part = |part: u8| {
        let mut bytes = vec![u8::from(!keyframe), 0, 0, 0x9D, 0x01, 0x2A];
        bytes.extend(stamp.to_be_bytes());
        bytes.push(part);
        bytes.extend(std::iter::repeat_n(stamp as u8, 900));
        bytes
    };
    (0..PARTS).flat_map(part).collect()
}

/// The number in a picture. Panics where it is not whole.
pub fn read_stamp(picture: &[u8]) -> u32 {
    let stamp = (&picture[6..10]).get_u32();
    assert_eq!(picture.len(), 911 * usize::from(PARTS), "a whole picture");
    for (index, part) in picture.chunks(911).enumerate() {
        assert_eq!((&part[6..10]).get_u32(), stamp);
        assert_eq!(usize::from(part[10]), index);
    }
    stamp
}

/// A packet of "sound" that marks the picture of this number.
pub fn sound(stamp: u32) -> Vec<u8> {
    let mut packet = vec![0xF8];
    packet.extend(stamp.to_be_bytes());
    packet.resize(40, 0xF8);
    packet
}

/// The number in a packet of sound; 0 in one that marks nothing.
pub fn read_sound(packet: &[u8]) -> u32 {
    packet.get(1..5).map_or(0, |mut stamp| stamp.get_u32())
}

/// A frame of the container: its time and bytes.
pub fn sealed(us: u64, payload: &[u8]) -> Bytes {
    let mut bytes = (us | 3 << 62).to_be_bytes().to_vec();
    bytes.extend(payload);
    bytes.into()
}

/// The catalog of what [`Publisher`] sends.
pub const CATALOG: &str = r#"{"video":{"renditions":{"v":{"codec":"vp8","codedWidth":640,"codedHeight":360,
    "container":{"kind":"legacy"}}}},"audio":{"renditions":{"a":{"codec":"opus","sampleRate":48000,
    "numberOfChannels":2,"container":{"kind":"legacy"}}}}}"#;

/// Creates a track with the container's time scale.
pub fn media_track(broadcast: &broadcast::Producer, name: &str) -> track::Producer {
    let info = track::Info::default().with_timescale(Timescale::MICRO);
    broadcast.create_track(name, info).unwrap()
}

/// Puts a catalog onto its track.
pub fn tell(broadcast: &broadcast::Producer, json: &str) -> track::Producer {
    let catalog = broadcast.create_track("catalog.json", None).unwrap();
    let mut group = catalog.append_group().unwrap();
    group.write_frame(Timestamp::now(), json.as_bytes().to_vec()).unwrap();
    group.finish().unwrap();
    catalog
}

/// A host: 50 pictures a second from the number `first` on, each tenth a keyframe, and as many packets of sound.
pub struct Publisher {
    over: Arc<AtomicBool>,
    tasks: JoinSet<u32>,
}

impl Publisher {
    fn start(origin: &origin::Producer, catalog: &str, first: u32, late: Duration) -> Self {
        let broadcast = origin.create_broadcast("").unwrap();
        let catalog = tell(&broadcast, catalog);
        let (video, audio) = (media_track(&broadcast, "v"), media_track(&broadcast, "a"));
        broadcast.announce(origin::Route::default()).unwrap();
        let over = Arc::<AtomicBool>::default();
        let (mut tasks, told) = (JoinSet::new(), over.clone());
        tasks.spawn(async move {
            let mut ticks = tokio::time::interval(Duration::from_millis(20));
            let mut group: Option<moq_net::group::Producer> = None;
            let mut number = 0_u32;
            while !told.load(SeqCst) {
                ticks.tick().await;
                let us = 1_000_000 + u64::from(number) * 20_000;
                let at = Timestamp::from_micros(us).unwrap();
                let keyframe = number.is_multiple_of(10);
                if keyframe {
                    if let Some(group) = group.take() {
                        let _ = group.finish();
                    }
                    group = video.append_group().ok();
                }
                if let Some(group) = &mut group {
                    let _ = group.write_frame(at, sealed(us, &picture(first + number, keyframe)));
                }
                number += 1;
                let Some(of) = (number - 1).checked_sub((late.as_millis() / 20) as u32) else { continue };
                if let Ok(mut packet) = audio.append_group() {
                    let us = 1_000_000 + u64::from(of) * 20_000;
                    let at = Timestamp::from_micros(us).unwrap();
                    let _ = packet.write_frame(at, sealed(us, &sound(first + of)));
                    let _ = packet.finish();
                }
            }
            if let Some(group) = group {
                let _ = group.finish();
            }
            for track in [video, audio, catalog] {
                let _ = track.finish();
            }
            drop(broadcast);
            first + number
        });
        Self { over, tasks }
    }

    /// Ends the broadcast in order. Returns the number that the next picture would have had.
    pub async fn end(mut self) -> u32 {
        self.over.store(true, SeqCst);
        self.tasks.join_next().await.unwrap().unwrap()
    }

    /// Ends it at once, in no order.
    pub async fn break_off(mut self) {
        self.tasks.shutdown().await;
    }
}

/// Asks `what` again until it is true.
pub async fn eventually(what: &str, mut check: impl AsyncFnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !check().await {
        assert!(Instant::now() < until, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
