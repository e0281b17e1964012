//! What the benchmarks share: an edge with one shard and real sessions, the clip, processor time, and how results are
//! told.

#![allow(dead_code, unreachable_pub)]

#[path = "../../tests/client/mod.rs"]
pub mod client;
pub mod limit;
pub mod nic;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fs,
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use bytes::Bytes;
use client::{Abilities, Client};
use haul_media::{Broadcast, ClockMap, Publication, Relay, Source};
use haul_model::{Codec, Frame, Kind, Layer, Now, TrackInfo};
use haul_webrtc::{Edge, EdgeConfig, Limits, ShardStats};

/// Clients that shake hands at the same time. Many: each waits for timers of its own in between, while those who are there
/// already have theirs served.
const JOINING: usize = 256;
/// Frames that the shard may have before it, so that it neither sleeps nor drops any.
const IN_FLIGHT: u64 = 64;
/// How often it is looked whether they are through. Seldom: where the other processors are busy, each look interrupts the
/// shard.
const POLL: Duration = Duration::from_millis(2);
/// The largest payload of a host's packet.
const PAYLOAD: usize = 1_200;
/// The clip's.
const FRAMES_A_SECOND: u64 = 30;
const FMTP: &str = "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f";

/// One line of results.
pub struct Line {
    pub case: String,
    pub viewers: usize,
    pub ns_per_packet: f64,
    pub limit_ns_per_packet: f64,
    /// The bar that the ratio of the two is held to.
    pub max: f64,
    /// UDP payload of an average packet.
    pub bytes_per_packet: f64,
}

impl Line {
    pub fn print(&self) {
        let Self { case, viewers, ns_per_packet, limit_ns_per_packet, max, bytes_per_packet } = self;
        let ratio = ns_per_packet / limit_ns_per_packet;
        let gbps = bytes_per_packet * 8.0 / ns_per_packet;
        println!(
            "{{\"case\":\"{case}\",\"viewers\":{viewers},\"ns_per_packet\":{ns_per_packet:.1},\
             \"limit_ns_per_packet\":{limit_ns_per_packet:.1},\"ratio\":{ratio:.3},\"max\":{max},\
             \"gbps_per_core\":{gbps:.2},\"viewers_at_2500kbps_per_core\":{:.0}}}",
            gbps / 0.0025
        );
    }
}

/// The middle one.
pub fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// The value below which a part of `values` lies, which must be sorted.
pub fn percentile(values: &[f64], part: f64) -> f64 {
    let place = (values.len() as f64 * part) as usize;
    values.get(place.min(values.len().saturating_sub(1))).copied().unwrap_or(f64::NAN)
}

/// Words on the command line that are not options: which cases to run; none means all.
pub fn wanted() -> Vec<String> {
    std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect()
}

/// The processor time that one thread of this process has taken.
#[derive(Clone, Copy)]
pub struct Cpu(libc::clockid_t);

impl Cpu {
    pub fn own() -> Self {
        Self(libc::CLOCK_THREAD_CPUTIME_ID)
    }

    /// As Linux makes them: the complement of the thread's id, then "one thread" (4) and "scheduler's time" (2).
    pub fn of(thread: i32) -> Self {
        Self((!thread << 3) | 6)
    }

    #[allow(unsafe_code)]
    pub fn ns(self) -> u64 {
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: `time` is alive until the call returns.
        let result = unsafe { libc::clock_gettime(self.0, &mut time) };
        assert_eq!(result, 0, "no such thread");
        time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
    }
}

/// This process's threads by that name.
fn threads(name: &str) -> BTreeSet<i32> {
    let entries = fs::read_dir("/proc/self/task").unwrap().map(|entry| entry.unwrap().path());
    let named =
        entries.filter(|path| fs::read_to_string(path.join("comm")).is_ok_and(|comm| comm.trim() == name));
    named.map(|path| path.file_name().unwrap().to_str().unwrap().parse().unwrap()).collect()
}

/// An encoder that is never asked for anything.
struct Deaf;

impl Source for Deaf {
    fn request_keyframe(&self, _: Layer) {}
    fn replaced(&self) {}
}

/// An edge with one shard.
pub struct Stage {
    pub edge: Edge,
    /// What its shard has worked.
    pub cpu: Cpu,
    pub thread: i32,
    runtime: tokio::runtime::Runtime,
    sessions: u32,
}

impl Stage {
    pub fn new() -> Self {
        let config = EdgeConfig {
            bind: vec![Ipv4Addr::LOCALHOST.into()],
            // The clients fall silent once they are connected.
            limits: Limits { silence: Duration::from_secs(3_600), ..Limits::default() },
            ..EdgeConfig::default()
        };
        let before = threads("media-0");
        let edge = Edge::start(config, Arc::new(|_| {})).unwrap();
        let born = Instant::now();
        let thread = loop {
            // A thread names itself, a moment after it was born.
            if let Some(thread) = threads("media-0").difference(&before).next() {
                break *thread;
            }
            assert!(born.elapsed() < Duration::from_secs(5), "the shard's thread does not show itself");
        };
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        Self { edge, cpu: Cpu::of(thread), thread, runtime, sessions: 0 }
    }

    pub fn stats(&self) -> ShardStats {
        self.edge.stats().total()
    }

    /// A live with `viewers`, which is sent to by hand.
    pub fn audience(&mut self, viewers: usize) -> Audience {
        let mut live = Audience::new();
        live.sockets = self.viewers(&live.relay, viewers);
        live
    }

    /// Makes `viewers` sessions with a live, by real handshakes. The clients leave their sockets behind.
    pub fn viewers(&mut self, relay: &Arc<Relay>, viewers: usize) -> Vec<UdpSocket> {
        let mut sockets = Vec::with_capacity(viewers);
        while sockets.len() < viewers {
            let batch = JOINING.min(viewers - sockets.len());
            let mut clients: Vec<Client> = (0..batch).map(|_| self.join(relay)).collect();
            let mut all: Vec<&mut Client> = clients.iter_mut().collect();
            client::pump(&mut all, "all are connected", |all| {
                all.iter().all(|client| client.connected)
                    && self.stats().sessions_connected == u64::from(self.sessions)
            });
            sockets.extend(clients.into_iter().map(|client| client.socket));
        }
        sockets
    }

    /// A host who is connected, with a live of its own.
    pub fn host(&mut self) -> Client {
        self.host_of(&Relay::new())
    }

    /// A host who is connected, and sends to `relay`.
    pub fn host_of(&mut self, relay: &Arc<Relay>) -> Client {
        let (mut client, offer) = Client::publisher(&Abilities { video: "H264", ..Abilities::default() });
        self.sessions += 1;
        let session = format!("s{}", self.sessions).parse().unwrap();
        let answer = self.edge.publish(session, "bench".parse().unwrap(), relay.clone(), &offer);
        client.answer(&self.runtime.block_on(answer).unwrap().sdp);
        client::pump(&mut [&mut client], "the host is connected", |clients| {
            clients[0].connected && relay.broadcast().is_some()
        });
        client
    }

    /// The answer to a viewer's offer.
    pub fn answer(&mut self, relay: &Arc<Relay>, offer: &str) -> String {
        self.sessions += 1;
        let session = format!("s{}", self.sessions).parse().unwrap();
        let answer = self.edge.watch(session, "bench".parse().unwrap(), relay.clone(), offer);
        self.runtime.block_on(answer).unwrap().sdp
    }

    /// Waits until every session that was answered is connected.
    pub fn all_connected(&self) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while self.stats().sessions_connected < u64::from(self.sessions) {
            assert!(Instant::now() < deadline, "all are connected");
            std::thread::sleep(POLL);
        }
    }

    fn join(&mut self, relay: &Arc<Relay>) -> Client {
        let (mut client, offer) = viewer();
        client.answer(&self.answer(relay, &offer));
        client
    }
}

/// A viewer's client, and its offer.
pub fn viewer() -> (Client, String) {
    Client::viewer(&Abilities { video: "H264", ..Abilities::default() })
}

/// A live and its viewers.
pub struct Audience {
    pub relay: Arc<Relay>,
    publication: Publication,
    /// Nobody reads them: what comes is dropped by the kernel once their buffers are full.
    pub sockets: Vec<UdpSocket>,
    /// Frames so far, of both kinds.
    sent: BTreeMap<Kind, u32>,
}

impl Audience {
    fn new() -> Self {
        let relay = Relay::new();
        let track = |codec, fmtp: &str| Some(TrackInfo { codec, fmtp: fmtp.to_owned() });
        let broadcast = Broadcast {
            video: track(Codec::H264, FMTP),
            audio: track(Codec::Opus, "minptime=10;useinbandfec=1"),
            ..Broadcast::default()
        };
        let publication = relay.publish(broadcast, Arc::new(Deaf));
        // As sender reports do: it makes the viewers' own reports go out.
        for kind in [Kind::Video, Kind::Audio] {
            publication.clock_map(ClockMap {
                kind,
                layer: Layer(0),
                ntp: 1 << 40,
                timestamp: 0,
                arrived: Instant::now(),
            });
        }
        Self { relay, publication, sockets: Vec::new(), sent: BTreeMap::new() }
    }

    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.sockets.iter().map(|socket| socket.local_addr().unwrap()).collect()
    }

    /// Hands one frame to the relay.
    pub fn frame(&mut self, shape: &Shape) {
        let sent = self.sent.entry(shape.kind).or_default();
        *sent += 1;
        let ticks = if shape.kind == Kind::Video { 3_000 } else { 960 };
        self.publication.frame(Arc::new(Frame {
            kind: shape.kind,
            layer: Layer(0),
            timestamp: sent.wrapping_mul(ticks),
            arrived: now(),
            keyframe: shape.keyframe,
            begins: true,
            ends: true,
            captured: None,
            numbers: None,
            packets: shape.packets.clone(),
        }));
    }

    /// Has the shard send these frames, each at its time at the soonest and as soon as those before it are through.
    pub fn send(&mut self, stage: &Stage, frames: &[Shape]) {
        let viewers = self.sockets.len() as u64;
        let before = stage.stats();
        let mut due = VecDeque::new();
        let mut packets = 0;
        let sent = || stage.stats().rtp_packets_out - before.rtp_packets_out;
        let start = Instant::now();
        for shape in frames {
            sleep_until(start + shape.at);
            while due.front().is_some_and(|through| sent() >= *through) || due.len() as u64 > IN_FLIGHT {
                if due.front().is_some_and(|through| sent() >= *through) {
                    due.pop_front();
                } else {
                    std::thread::sleep(POLL);
                }
            }
            self.frame(shape);
            packets += shape.packets.len() as u64 * viewers;
            due.push_back(packets);
        }
        while sent() < packets {
            std::thread::sleep(POLL);
            assert!(start.elapsed() < Duration::from_secs(120), "{} of {packets} packets went out", sent());
        }
        let after = stage.stats();
        assert_eq!(sent(), packets, "every viewer gets every packet once");
        assert_eq!((after.send_errors, after.gso_refused), (before.send_errors, before.gso_refused));
    }
}

/// What a frame is like, and when it is due.
#[derive(Clone)]
pub struct Shape {
    pub kind: Kind,
    pub keyframe: bool,
    pub packets: Vec<Bytes>,
    pub at: Duration,
}

impl Shape {
    pub fn new(kind: Kind, keyframe: bool, bytes: usize, at: Duration) -> Self {
        // As libwebrtc cuts them: as few packets as will do, all as long as the others or a byte longer.
        let count = bytes.div_ceil(PAYLOAD);
        let length = |index: usize| (bytes + index) / count;
        let packets = (0..count).map(|index| (0..length(index)).map(|i| (i * 7 + index) as u8).collect());
        Self { kind, keyframe, packets: packets.collect(), at }
    }
}

/// Frames of eight equal packets, as fast as they go.
pub fn uniform(count: usize) -> Vec<Shape> {
    let frame = |index| Shape::new(Kind::Video, index % 60 == 0, 8 * PAYLOAD, Duration::ZERO);
    (0..count).map(frame).collect()
}

/// Some seconds of the clip at its own pace, with sound: 50 packets a second of 90 to 150 bytes.
pub fn clip(seconds: u64) -> Vec<Shape> {
    let lines = include_str!("clip.txt").lines().filter(|line| !line.starts_with('#'));
    let sizes = lines.cycle().take((seconds * FRAMES_A_SECOND) as usize).enumerate();
    let video = sizes.map(|(index, line)| {
        let bytes = line.trim_end_matches(" K").parse().unwrap();
        let at = Duration::from_secs(index as u64) / FRAMES_A_SECOND as u32;
        Shape::new(Kind::Video, line.ends_with('K'), bytes, at)
    });
    let audio = (0..seconds * 50).map(|index| {
        let bytes = 90 + (index * 37 % 61) as usize;
        Shape::new(Kind::Audio, true, bytes, Duration::from_millis(20 * index + 7))
    });
    let mut frames: Vec<Shape> = video.chain(audio).collect();
    frames.sort_by_key(|shape| shape.at);
    frames
}

/// So many packets of sound, one behind the other.
pub fn sound(count: usize) -> Vec<Shape> {
    (0..count).map(|_| Shape::new(Kind::Audio, true, 120, Duration::ZERO)).collect()
}

pub fn packets(frames: &[Shape]) -> usize {
    frames.iter().map(|shape| shape.packets.len()).sum()
}

pub fn now() -> Now {
    Now { instant: Instant::now(), wall: SystemTime::now().into() }
}

pub fn sleep_until(at: Instant) {
    std::thread::sleep(at.saturating_duration_since(Instant::now()));
}
