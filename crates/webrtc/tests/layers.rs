//! A host with two layers, and a viewer on another WebRTC stack who asks for one, then for the other: what comes, in what
//! order, and what it says of the time of its capture.

#![allow(clippy::unwrap_used)]

mod client;

use std::{
    net::Ipv4Addr,
    sync::{Arc, Mutex},
    time::{Duration, Instant, SystemTime},
};

use client::{AUDIO, Abilities, Client, PATIENCE, VIDEO};
use haul_media::{Broadcast, ClockMap, Publication, Relay, Source};
use haul_model::{
    Codec, Frame, Kind, Layer, Now, SessionId, TrackInfo,
    media::{Capture, PictureNumbers},
};
use haul_webrtc::{Edge, EdgeConfig, NoticeKind, PreferError, Quality};
use rtc::{rtcp::sender_report::SenderReport, rtp};

const CAPTURE_TIME: &str = "http://www.webrtc.org/experiments/rtp-hdrext/abs-capture-time";
/// Its number in our viewer's offer.
const CAPTURE_ID: u8 = 13;
const NAMES: [&str; 2] = ["h", "l"];
/// Bytes of a packet and packets of a picture, by layer: 1.6 Mb/s and 0.2.
const SIZES: [(usize, usize); 2] = [(1_000, 4), (500, 1)];
const INTERVAL: Duration = Duration::from_millis(20);
/// Where the host's clock stood when it began.
const NTP: u64 = 0xE000_0000 << 32;

struct Nobody;

impl Source for Nobody {
    fn request_keyframe(&self, _: Layer) {}
    fn replaced(&self) {}
}

/// A host whose streams' timestamps begin anywhere.
struct Host {
    publication: Publication,
    began: Instant,
    next: u32,
}

impl Host {
    fn start(relay: &Arc<Relay>) -> Self {
        let track = |codec| Some(TrackInfo { codec, fmtp: String::new() });
        let layer_names = NAMES.map(str::to_owned).to_vec();
        let broadcast = Broadcast { video: track(Codec::Vp8), audio: track(Codec::Opus), layer_names };
        let publication = relay.publish(broadcast, Arc::new(Nobody));
        let began = Instant::now();
        let streams = [(Kind::Video, 0), (Kind::Video, 1), (Kind::Audio, 0)];
        for (kind, layer) in streams.map(|(kind, layer)| (kind, Layer(layer))) {
            let timestamp = base(kind, layer);
            publication.clock_map(ClockMap { kind, layer, ntp: NTP, timestamp, arrived: began });
        }
        Self { publication, began, next: 0 }
    }

    fn turn(&mut self) {
        let now = Now { instant: Instant::now(), wall: SystemTime::now().into() };
        while self.began + self.next * INTERVAL <= now.instant {
            for layer in 0..2 {
                self.frame(now, Kind::Video, Layer(layer));
            }
            self.frame(now, Kind::Audio, Layer(0));
            self.next += 1;
        }
    }

    fn frame(&self, now: Now, kind: Kind, layer: Layer) {
        let (index, video) = (self.next, kind == Kind::Video);
        let ntp = NTP + ((u64::from(index) * INTERVAL.as_millis() as u64) << 32) / 1_000;
        let id = index as u16 & 0x7FFF;
        let packets = match video {
            true => {
                let (bytes, packets) = SIZES[usize::from(layer.0)];
                let [high, low] = (0x8000 | id).to_be_bytes();
                let packet = |at: usize| {
                    let start = if at == 0 { 0x90 } else { 0x80 };
                    let mut packet =
                        vec![start, 0x80, high, low, u8::from(!index.is_multiple_of(10)), layer.0];
                    packet.resize(bytes, 0);
                    packet.into()
                };
                (0..packets).map(packet).collect()
            }
            false => vec![vec![0xF8; 40].into()],
        };
        self.publication.frame(Arc::new(Frame {
            kind,
            layer,
            timestamp: base(kind, layer).wrapping_add(index * if video { 1_800 } else { 960 }),
            arrived: now,
            keyframe: !video || index.is_multiple_of(10),
            begins: true,
            ends: true,
            captured: Some(Capture { ntp, to_ours: None }),
            numbers: video.then_some(PictureNumbers { picture_id: id, tl0: None }),
            packets,
        }));
    }
}

fn base(kind: Kind, layer: Layer) -> u32 {
    match (kind, layer.0) {
        (Kind::Audio, _) => 77,
        (Kind::Video, 0) => u32::MAX - 20_000,
        (Kind::Video, _) => 1_000_000,
    }
}

struct Viewer {
    client: Client,
    host: Host,
}

impl Viewer {
    #[track_caller]
    fn until(&mut self, what: &str, done: impl Fn(&Client) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !done(&self.client) {
            assert!(Instant::now() < deadline, "waited too long until {what}: {:?}", self.layers());
            self.host.turn();
            self.client.turn();
            std::thread::sleep(Duration::from_micros(500));
        }
    }

    /// The layers that came, in order, each once as long as it lasted.
    fn layers(&self) -> Vec<u8> {
        let mut layers: Vec<u8> = pictures(&self.client).map(|packet| packet.payload[5]).collect();
        layers.dedup();
        layers
    }

    /// Runs for so many pictures of whatever layer.
    fn run(&mut self, pictures_more: usize) {
        let count = |client: &Client| pictures(client).filter(|packet| packet.header.marker).count();
        let before = count(&self.client);
        self.until("pictures have come", |client| count(client) >= before + pictures_more);
    }
}

/// What came of the pictures, without padding.
fn pictures(client: &Client) -> impl Iterator<Item = &rtp::Packet> {
    client.received(VIDEO).filter(|packet| !packet.payload.is_empty() && !packet.header.padding)
}

fn captured(packet: &rtp::Packet) -> Option<u64> {
    let extension = packet.header.get_extension(CAPTURE_ID)?;
    Some(u64::from_be_bytes(extension[..8].try_into().unwrap()))
}

#[tokio::test]
async fn the_layer_that_was_asked_for_comes_and_tells_when_it_was_captured() {
    let told: Arc<Mutex<Vec<Quality>>> = Arc::default();
    let hears = told.clone();
    let observer = move |notice: haul_webrtc::Notice| {
        if let NoticeKind::Quality(quality) = notice.kind {
            hears.lock().unwrap().push(*quality);
        }
    };
    let config = EdgeConfig { bind: vec![Ipv4Addr::LOCALHOST.into()], shards: 2, ..EdgeConfig::default() };
    let (edge, relay) = (Edge::start(config, Arc::new(observer)).unwrap(), Relay::new());
    let mut host = Host::start(&relay);
    host.turn();

    let (mut client, offer) = Client::viewer(&Abilities::default());
    let extension = format!("a=extmap:{CAPTURE_ID} {CAPTURE_TIME}\r\na=recvonly\r\n");
    let offer = offer.replace("a=recvonly\r\n", &extension);
    let session: SessionId = "v".parse().unwrap();
    let answer = edge.watch(session.clone(), "demo".parse().unwrap(), relay, &offer).await.unwrap();
    assert_eq!(answer.sdp.matches(CAPTURE_TIME).count(), 2, "{}", answer.sdp);
    client.answer(&answer.sdp);
    let mut viewer = Viewer { client, host };
    viewer.run(10);

    for (name, layer) in [("l", 1), ("h", 0), ("l", 1)] {
        let quality = edge.prefer(&session, Some(name.to_owned())).await.unwrap();
        assert_eq!((quality.choice.as_deref(), quality.layers.len()), (Some(name), 2));
        viewer.until(name, |client| pictures(client).last().unwrap().payload[5] == layer);
        let before = viewer.layers().len();
        viewer.run(40);
        assert_eq!(viewer.layers().len(), before, "and stays: {:?}", viewer.layers());
    }
    assert!(told.lock().unwrap().iter().any(|told| told.layer.as_deref() == Some("h")), "it is told");
    let unknown = edge.prefer(&session, Some("m".to_owned())).await;
    assert_eq!(unknown, Err(PreferError::NoLayer(vec!["h".to_owned(), "l".to_owned()])));
    let nobody = edge.prefer(&"x".parse().unwrap(), None).await;
    assert_eq!(nobody, Err(PreferError::NoSession));

    // No gap, and no step back, over all changes.
    let mut packets: Vec<_> = viewer.client.received(VIDEO).map(|packet| &packet.header).collect();
    let first = packets[0].sequence_number;
    packets.sort_by_key(|header| header.sequence_number.wrapping_sub(first));
    // What was sent again as padding comes twice.
    packets.dedup_by_key(|header| header.sequence_number);
    for pair in packets.windows(2) {
        assert_eq!(pair[1].sequence_number, pair[0].sequence_number.wrapping_add(1));
        assert!(pair[1].timestamp.wrapping_sub(pair[0].timestamp) < 1 << 31);
    }

    // What packets say of their capture is what reports say of their timestamps.
    viewer.until("reports on both", |client| {
        let reports = client.rtcp();
        let ssrcs = reports.iter().filter_map(|packet| packet.as_any().downcast_ref::<SenderReport>());
        let mut ssrcs: Vec<u32> = ssrcs.map(|report| report.ssrc).collect();
        ssrcs.sort_unstable();
        ssrcs.dedup();
        ssrcs.len() == 2
    });
    // Sound tells it once a second.
    viewer.until("times of capture on both", |client| {
        let telling = |payload_type| client.received(payload_type).filter(|p| captured(p).is_some()).count();
        telling(VIDEO) > 3 && telling(AUDIO) > 3
    });
    let reports = viewer.client.rtcp();
    for (payload_type, hz) in [(VIDEO, 90_000.0), (AUDIO, 48_000.0)] {
        let exact: Vec<_> = viewer.client.received(payload_type).filter(|p| captured(p).is_some()).collect();
        assert!(exact.len() > 3, "{} packets of {payload_type} say when they were captured", exact.len());
        for packet in exact {
            let ours = reports.iter().filter_map(|report| report.as_any().downcast_ref::<SenderReport>());
            for report in ours.filter(|report| report.ssrc == packet.header.ssrc) {
                let ticks = packet.header.timestamp.wrapping_sub(report.rtp_time) as i32;
                let told = captured(packet).unwrap().wrapping_sub(report.ntp_time) as i64;
                let apart = f64::from(ticks) / hz - told as f64 / 4_294_967_296.0;
                assert!(apart.abs() < 0.005, "{payload_type}: {apart} s apart");
            }
        }
    }
    edge.drain().await;
}
