//! A publisher and a viewer on the async `webrtc` crate: another driver than the server's.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use rtc::{
    ice::mdns::MulticastDnsMode,
    interceptor::{Registry, Slot},
    media_stream::MediaStreamTrack,
    peer_connection::{
        configuration::{
            RTCConfigurationBuilder, interceptor_registry::register_default_interceptors,
            media_engine::MediaEngine, setting_engine::SettingEngineBuilder,
        },
        sdp::RTCSessionDescription,
    },
    rtcp::sender_report::SenderReport,
    rtp,
    rtp_transceiver::{
        RTCRtpTransceiverDirection, RTCRtpTransceiverInit,
        rtp_sender::{
            RTCPFeedback, RTCRtpCodec, RTCRtpCodecParameters, RTCRtpCodingParameters,
            RTCRtpEncodingParameters, RtpCodecKind,
        },
    },
};
use webrtc::{
    media_stream::{
        track_local::{TrackLocal, static_rtp::TrackLocalStaticRTP},
        track_remote::{TrackRemote, TrackRemoteEvent},
    },
    peer_connection::{
        PeerConnection, PeerConnectionBuilder, PeerConnectionEventHandler, RTCIceGatheringState,
        RTCPeerConnectionState,
    },
    runtime::default_runtime,
};

use crate::{
    client::{Ear, Heard},
    moq_client::{read_sound, sound},
    nat::Nat,
    server::Server,
    talk::call,
};

const VIDEO_PT: u8 = 96;
const AUDIO_PT: u8 = 111;
/// Packets of a picture.
pub const PACKETS: u8 = 4;
/// How much higher the numbers of a layer are than those of the one before.
pub const LAYER: u32 = 1_000_000;

fn video_codec() -> RTCRtpCodec {
    let feedback = |typ: &str, parameter: &str| RTCPFeedback { typ: typ.into(), parameter: parameter.into() };
    RTCRtpCodec {
        mime_type: "video/VP8".into(),
        clock_rate: 90_000,
        rtcp_feedback: vec![feedback("nack", ""), feedback("nack", "pli")],
        ..Default::default()
    }
}

fn audio_codec() -> RTCRtpCodec {
    RTCRtpCodec {
        mime_type: "audio/opus".into(),
        clock_rate: 48_000,
        channels: 2,
        sdp_fmtp_line: "minptime=10;useinbandfec=1".into(),
        ..Default::default()
    }
}

fn engine() -> MediaEngine {
    let mut engine = MediaEngine::default();
    for (rtp_codec, payload_type, kind) in
        [(video_codec(), VIDEO_PT, RtpCodecKind::Video), (audio_codec(), AUDIO_PT, RtpCodecKind::Audio)]
    {
        engine.register_codec(RTCRtpCodecParameters { rtp_codec, payload_type }, kind).unwrap();
    }
    engine
}

/// What a connection tells, and what a viewer has seen.
#[derive(Default)]
pub struct Seen {
    gathered: AtomicBool,
    pub connected: AtomicBool,
    pub closed: AtomicBool,
    /// Whole pictures.
    pub pictures: AtomicU64,
    /// Sound packets.
    pub sounds: AtomicU64,
    /// Numbers stamped into whole pictures, in order of arrival.
    pub stamps: Mutex<Vec<u32>>,
    /// Timestamps of whole pictures, in order of arrival.
    pub timestamps: Mutex<Vec<u32>>,
    /// Numbers and timestamps of packets of sound, in order of arrival.
    pub marks: Mutex<Vec<(u32, u32)>>,
    /// All RTCP.
    heard: Heard,
    /// The stream of each kind.
    ssrcs: Mutex<[Option<u32>; 2]>,
    /// Sequence number of the last video packet, and how often it jumped.
    last: Mutex<Option<u16>>,
    pub jumps: AtomicU64,
}

struct Handler(Arc<Seen>);

#[async_trait::async_trait]
impl PeerConnectionEventHandler for Handler {
    async fn on_ice_gathering_state_change(&self, state: RTCIceGatheringState) {
        if state == RTCIceGatheringState::Complete {
            self.0.gathered.store(true, Ordering::SeqCst);
        }
    }

    async fn on_connection_state_change(&self, state: RTCPeerConnectionState) {
        match state {
            RTCPeerConnectionState::Connected => self.0.connected.store(true, Ordering::SeqCst),
            RTCPeerConnectionState::Failed | RTCPeerConnectionState::Closed => {
                self.0.closed.store(true, Ordering::SeqCst);
            }
            _ => {}
        }
    }

    async fn on_track(&self, track: Arc<dyn TrackRemote>) {
        let seen = self.0.clone();
        let video = track.kind().await == RtpCodecKind::Video;
        tokio::spawn(async move {
            let mut parts = Vec::new();
            while let Some(event) = track.poll().await {
                if let TrackRemoteEvent::OnRtpPacket(packet) = event {
                    seen.ssrcs.lock().unwrap()[usize::from(video)] = Some(packet.header.ssrc);
                    match video {
                        true => seen.video(&packet, &mut parts),
                        false => seen.audio(&packet),
                    }
                }
            }
        });
    }
}

impl Seen {
    fn audio(&self, packet: &rtp::Packet) {
        self.sounds.fetch_add(1, Ordering::SeqCst);
        self.marks.lock().unwrap().push((read_sound(&packet.payload), packet.header.timestamp));
    }

    /// When a packet of this timestamp was captured by what the server reports, in seconds; `None` before it has.
    fn captured(&self, video: bool, timestamp: u32) -> Option<f64> {
        let ssrc = self.ssrcs.lock().unwrap()[usize::from(video)]?;
        let heard = self.heard.lock().unwrap();
        let mut reports = heard.iter().filter_map(|packet| packet.as_any().downcast_ref::<SenderReport>());
        let report = reports.rfind(|report| report.ssrc == ssrc)?;
        let ticks = f64::from(timestamp.wrapping_sub(report.rtp_time) as i32);
        Some(report.ntp_time as f64 / 2_f64.powi(32) + ticks / if video { 90_000.0 } else { 48_000.0 })
    }

    /// How far the sounds that mark the last `count` pictures are from these, as a player shows them: at the most, in
    /// milliseconds. `None` while too little has come.
    pub fn lips_ms(&self, count: usize) -> Option<f64> {
        let pictures =
            std::iter::zip(self.stamps.lock().unwrap().clone(), self.timestamps.lock().unwrap().clone());
        let sounds: HashMap<u32, u32> = self.marks.lock().unwrap().iter().copied().collect();
        let marked = pictures.filter_map(|(stamp, timestamp)| Some((timestamp, *sounds.get(&stamp)?)));
        let marked: Vec<_> = marked.collect();
        let last = marked.len().checked_sub(count)?;
        marked[last..].iter().try_fold(0.0, |most: f64, (picture, sound)| {
            Some(most.max((self.captured(true, *picture)? - self.captured(false, *sound)?).abs() * 1_000.0))
        })
    }

    fn video(&self, packet: &rtp::Packet, parts: &mut Vec<(u32, u8)>) {
        let sequence = packet.header.sequence_number;
        let last = self.last.lock().unwrap().replace(sequence);
        if last.is_some_and(|last| last.wrapping_add(1) != sequence) {
            self.jumps.fetch_add(1, Ordering::SeqCst);
        }
        let Some((stamp, part)) = read_stamp(&packet.payload) else { return };
        parts.push((stamp, part));
        if packet.header.marker {
            let whole = parts.len() == usize::from(PACKETS)
                && parts
                    .iter()
                    .enumerate()
                    .all(|(at, (other, part))| *other == stamp && usize::from(*part) == at);
            if whole {
                self.pictures.fetch_add(1, Ordering::SeqCst);
                self.stamps.lock().unwrap().push(stamp);
                self.timestamps.lock().unwrap().push(packet.header.timestamp);
            }
            parts.clear();
        }
    }
}

/// A VP8 payload (RFC 7741) with a 15-bit picture id, whose "picture" is a number and filling.
fn payload(stamp: u32, part: u8, keyframe: bool) -> Bytes {
    let mut bytes = vec![if part == 0 { 0x90 } else { 0x80 }, 0x80];
    bytes.extend((0x8000 | stamp as u16 & 0x7FFF).to_be_bytes());
    // The frame tag: the lowest bit is clear in keyframes.
    bytes.extend([u8::from(!keyframe), 0, 0, 0x9D, 0x01, 0x2A]);
    bytes.extend(stamp.to_be_bytes());
    bytes.push(part);
    bytes.extend(std::iter::repeat_n(stamp as u8, 900));
    bytes.into()
}

fn read_stamp(payload: &[u8]) -> Option<(u32, u8)> {
    let stamp = payload.get(10..14)?;
    let (stamp, part) = (u32::from_be_bytes(stamp.try_into().ok()?), *payload.get(14)?);
    payload[15..].iter().all(|byte| *byte == stamp as u8).then_some((stamp, part))
}

/// One connection, with its HTTP resource.
pub struct Peer {
    pc: Arc<dyn PeerConnection>,
    pub seen: Arc<Seen>,
    pub resource: String,
    pub etag: String,
    answer: String,
    token: String,
}

impl Peer {
    async fn build() -> (Arc<dyn PeerConnection>, Arc<Seen>) {
        let mut media = engine();
        let seen = Arc::new(Seen::default());
        let registry = register_default_interceptors(Registry::new(), &mut media)
            .unwrap()
            .with(Slot::Custom(500), Ear::new(seen.heard.clone()));
        let settings =
            SettingEngineBuilder::new().with_multicast_dns_mode(MulticastDnsMode::Disabled).build();
        let pc = PeerConnectionBuilder::new()
            .with_configuration(RTCConfigurationBuilder::new().build())
            .with_media_engine(media)
            .with_setting_engine(settings)
            .with_interceptor_registry(registry)
            .with_handler(Arc::new(Handler(seen.clone())))
            .with_runtime(default_runtime().unwrap())
            .with_udp_addrs(vec!["127.0.0.1:0".to_owned()])
            .build()
            .await
            .unwrap();
        (Arc::new(pc), seen)
    }

    async fn offer(
        pc: Arc<dyn PeerConnection>,
        seen: Arc<Seen>,
        url: String,
        token: &str,
        nat: Option<&Nat>,
    ) -> Self {
        let offer = pc.create_offer(None).await.unwrap();
        pc.set_local_description(offer).await.unwrap();
        crate::server::eventually("candidates", async || seen.gathered.load(Ordering::SeqCst)).await;
        let offer = pc.local_description().await.unwrap().sdp;
        let bearer = format!("Bearer {token}");
        let mut headers = vec![("content-type", "application/sdp")];
        if !token.is_empty() {
            headers.push(("authorization", &bearer));
        }
        let answer = call("POST", &url, &headers, offer).await;
        assert_eq!(answer.status, 201, "{}", answer.text());
        assert_eq!(answer.header("content-type"), "application/sdp");
        assert!(answer.header("etag").starts_with('"'));
        let (resource, etag) = (answer.header("location").to_owned(), answer.header("etag").to_owned());
        let answer = match nat {
            Some(nat) => nat.rewrite(&answer.text()),
            None => answer.text(),
        };
        pc.set_remote_description(RTCSessionDescription::answer(answer.clone()).unwrap()).await.unwrap();
        let peer = Self { pc, seen, resource, etag, answer, token: token.to_owned() };
        crate::server::eventually("connected", async || peer.seen.connected.load(Ordering::SeqCst)).await;
        peer
    }

    /// Watches the demo live.
    pub async fn watch(server: &Server, token: &str) -> Self {
        Self::watch_behind(server, token, None).await
    }

    /// The same through a network that may change.
    pub async fn watch_behind(server: &Server, token: &str, nat: Option<&Nat>) -> Self {
        let (pc, seen) = Self::build().await;
        for kind in [RtpCodecKind::Audio, RtpCodecKind::Video] {
            let receive = RTCRtpTransceiverInit {
                direction: RTCRtpTransceiverDirection::Recvonly,
                ..Default::default()
            };
            pc.add_transceiver_from_kind(kind, Some(receive)).await.unwrap();
        }
        Self::offer(pc, seen, server.url("/whep/demo"), token, nat).await
    }

    /// Restarts ICE, as after a change of networks.
    pub async fn restart_ice(&mut self, server: &Server) {
        self.pc.restart_ice().await.unwrap();
        let offer = self.pc.create_offer(None).await.unwrap();
        let ice = |sdp: &str, key: &str| sdp.lines().find(|line| line.starts_with(key)).unwrap().to_owned();
        let fragment = ["a=ice-ufrag:", "a=ice-pwd:"].map(|key| ice(&offer.sdp, key)).join("\r\n") + "\r\n";
        self.pc.set_local_description(offer).await.unwrap();
        let bearer = format!("Bearer {}", self.token);
        let mut headers = vec![("content-type", "application/trickle-ice-sdpfrag"), ("if-match", "*")];
        if !self.token.is_empty() {
            headers.push(("authorization", &bearer));
        }
        let restarted = call("PATCH", &server.url(&self.resource), &headers, fragment).await;
        assert_eq!(restarted.status, 200, "{}", restarted.text());
        self.etag = restarted.header("etag").to_owned();
        let ours = ["a=ice-ufrag:", "a=ice-pwd:"].map(|key| ice(&restarted.text(), key));
        let lines = self.answer.lines().map(|line| {
            let new = ours.iter().find(|new| line.split(':').next() == new.split(':').next());
            format!("{}\r\n", new.map_or(line, |new| new))
        });
        self.answer = lines.collect();
        let answer = RTCSessionDescription::answer(self.answer.clone()).unwrap();
        self.pc.set_remote_description(answer).await.unwrap();
    }

    /// Asks the server to end it; returns the status.
    pub async fn delete(&self, server: &Server) -> u16 {
        let bearer = format!("Bearer {}", self.token);
        let headers = [("authorization", bearer.as_str())];
        let headers = if self.token.is_empty() { &headers[..0] } else { &headers[..] };
        call("DELETE", &server.url(&self.resource), headers, "").await.status
    }

    pub fn pictures(&self) -> u64 {
        self.seen.pictures.load(Ordering::SeqCst)
    }

    pub fn sounds(&self) -> u64 {
        self.seen.sounds.load(Ordering::SeqCst)
    }

    pub async fn close(&self) {
        let _ = self.pc.close().await;
    }
}

/// A host who sends numbered pictures and sound.
pub struct Publisher {
    pub peer: Peer,
    stop: Arc<AtomicBool>,
}

impl Publisher {
    /// Publishes to the demo live: 50 pictures a second from the number `first` on, each tenth a keyframe.
    pub async fn start(server: &Server, first: u32) -> Self {
        Self::start_as(server, &server.host_token, first).await
    }

    /// The same with another token.
    pub async fn start_as(server: &Server, token: &str, first: u32) -> Self {
        Self::start_behind(server, token, first, None).await
    }

    /// The same through a network that may change.
    pub async fn start_behind(server: &Server, token: &str, first: u32, nat: Option<&Nat>) -> Self {
        let (pc, seen) = Peer::build().await;
        let video_ssrc = 0x1000_0000 | first;
        let video = track(RtpCodecKind::Video, video_codec(), video_ssrc);
        let audio = track(RtpCodecKind::Audio, audio_codec(), video_ssrc + 1);
        pc.add_track(video.clone() as Arc<dyn TrackLocal>).await.unwrap();
        pc.add_track(audio.clone() as Arc<dyn TrackLocal>).await.unwrap();
        let peer = Peer::offer(pc, seen, server.url("/whip/demo"), token, nat).await;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        tokio::spawn(async move {
            let mut ticks = tokio::time::interval(Duration::from_millis(20));
            let mut number = 0_u32;
            while !stopped.load(Ordering::SeqCst) {
                ticks.tick().await;
                for part in 0..PACKETS {
                    let header = video_header(video_ssrc, number, part);
                    let payload = payload(first + number, part, number.is_multiple_of(10));
                    let _ = video.write_rtp(rtp::Packet { header, payload }).await;
                }
                let header = rtp::Header {
                    version: 2,
                    payload_type: AUDIO_PT,
                    sequence_number: number as u16,
                    // Each track counts from anywhere (RFC 3550, 5.1).
                    timestamp: 0x8123_4567 + number * 960,
                    ssrc: video_ssrc + 1,
                    ..Default::default()
                };
                // Each sound marks its picture.
                let payload = sound(first + number).into();
                let _ = audio.write_rtp(rtp::Packet { header, payload }).await;
                number += 1;
            }
        });
        Self { peer, stop }
    }

    /// Publishes a simulcast of these layers, each as [`Self::start`] says, its numbers higher than the former's by [`LAYER`].
    pub async fn start_layered(server: &Server, layers: &'static [&'static str]) -> Self {
        let (pc, seen) = Peer::build().await;
        let ssrcs: Vec<u32> = (0x2000_0000..).take(layers.len()).collect();
        let coding = |(rid, ssrc): (&&str, &u32)| RTCRtpEncodingParameters {
            rtp_coding_parameters: RTCRtpCodingParameters {
                ssrc: Some(*ssrc),
                rid: (*rid).into(),
                ..Default::default()
            },
            codec: video_codec(),
            ..Default::default()
        };
        let video =
            track_of(RtpCodecKind::Video, std::iter::zip(layers, &ssrcs).map(coding).collect::<Vec<_>>());
        pc.add_track(video.clone() as Arc<dyn TrackLocal>).await.unwrap();
        let peer = Peer::offer(pc.clone(), seen, server.url("/whip/demo"), &server.host_token, None).await;
        let offer = pc.local_description().await.unwrap().sdp;
        // By these header extensions layers are told apart (RFC 8852).
        let extension = |name: &str| {
            let mut lines = offer.lines().filter_map(|line| line.strip_prefix("a=extmap:"));
            let line = lines.find(|line| line.ends_with(&format!(":sdes:{name}"))).unwrap();
            line.split([' ', '/']).next().unwrap().parse::<u8>().unwrap()
        };
        let mid = offer.lines().find_map(|line| line.strip_prefix("a=mid:")).unwrap().to_owned();
        let (mid_id, rid_id) = (extension("mid"), extension("rtp-stream-id"));
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        tokio::spawn(async move {
            let mut ticks = tokio::time::interval(Duration::from_millis(20));
            let mut number = 0_u32;
            while !stopped.load(Ordering::SeqCst) {
                ticks.tick().await;
                for (layer, ssrc) in (0_u32..).zip(&ssrcs) {
                    for part in 0..PACKETS {
                        let mut header = video_header(*ssrc, number, part);
                        header.set_extension(mid_id, Bytes::copy_from_slice(mid.as_bytes())).unwrap();
                        let rid = Bytes::from_static(layers[layer as usize].as_bytes());
                        header.set_extension(rid_id, rid).unwrap();
                        let payload = payload(layer * LAYER + number, part, number.is_multiple_of(10));
                        let _ = video.write_rtp(rtp::Packet { header, payload }).await;
                    }
                }
                number += 1;
            }
        });
        Self { peer, stop }
    }

    /// Vanishes without a word.
    pub fn vanish(&self) {
        self.stop.store(true, Ordering::SeqCst);
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        self.vanish();
    }
}

/// The header of a packet of a picture, 50 pictures a second.
fn video_header(ssrc: u32, number: u32, part: u8) -> rtp::Header {
    rtp::Header {
        version: 2,
        marker: part + 1 == PACKETS,
        payload_type: VIDEO_PT,
        sequence_number: (number * u32::from(PACKETS)) as u16 + u16::from(part),
        timestamp: number * 1800,
        ssrc,
        ..Default::default()
    }
}

fn track(kind: RtpCodecKind, codec: RTCRtpCodec, ssrc: u32) -> Arc<TrackLocalStaticRTP> {
    let coding = RTCRtpCodingParameters { ssrc: Some(ssrc), ..Default::default() };
    track_of(
        kind,
        vec![RTCRtpEncodingParameters { rtp_coding_parameters: coding, codec, ..Default::default() }],
    )
}

fn track_of(kind: RtpCodecKind, encodings: Vec<RTCRtpEncodingParameters>) -> Arc<TrackLocalStaticRTP> {
    let name = format!("{kind:?}");
    Arc::new(TrackLocalStaticRTP::new(MediaStreamTrack::new(
        "haul-test".into(),
        name.clone(),
        name,
        kind,
        encodings,
    )))
}
