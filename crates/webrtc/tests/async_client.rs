//! The loop with the async `webrtc` crate at both ends: the same protocol core, driven by somebody else's event loop.

#![allow(clippy::unwrap_used)]

use std::{
    future::Future,
    net::Ipv4Addr,
    pin::Pin,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use haul_media::Relay;
use haul_webrtc::{Edge, EdgeConfig};
use rtc::{
    ice::mdns::MulticastDnsMode,
    media_stream::MediaStreamTrack,
    rtp,
    rtp_transceiver::{
        RTCRtpTransceiverDirection, RTCRtpTransceiverInit,
        rtp_sender::{
            RTCRtpCodec, RTCRtpCodecParameters, RTCRtpCodingParameters, RTCRtpEncodingParameters,
            RtpCodecKind,
        },
    },
};
use tokio::sync::mpsc;
use webrtc::{
    media_stream::{
        track_local::{TrackLocal, static_rtp::TrackLocalStaticRTP},
        track_remote::{TrackRemote, TrackRemoteEvent},
    },
    peer_connection::{
        MediaEngine, PeerConnection, PeerConnectionBuilder, PeerConnectionEventHandler, RTCIceGatheringState,
        RTCSessionDescription, Registry, SettingEngineBuilder, register_default_interceptors,
    },
};

const PATIENCE: Duration = Duration::from_secs(20);
const VP8: u8 = 96;

/// Passes on what a test waits for.
struct Events {
    gathered: mpsc::Sender<()>,
    tracks: mpsc::Sender<Arc<dyn TrackRemote>>,
}

type Done<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

impl PeerConnectionEventHandler for Events {
    fn on_ice_gathering_state_change<'life0, 'async_trait>(
        &'life0 self,
        state: RTCIceGatheringState,
    ) -> Done<'async_trait>
    where
        'life0: 'async_trait,
        Self: 'async_trait,
    {
        Box::pin(async move {
            if state == RTCIceGatheringState::Complete {
                let _ = self.gathered.try_send(());
            }
        })
    }

    fn on_track<'life0, 'async_trait>(&'life0 self, track: Arc<dyn TrackRemote>) -> Done<'async_trait>
    where
        'life0: 'async_trait,
        Self: 'async_trait,
    {
        Box::pin(async move {
            let _ = self.tracks.send(track).await;
        })
    }
}

struct Client {
    connection: Box<dyn PeerConnection>,
    gathered: mpsc::Receiver<()>,
    tracks: mpsc::Receiver<Arc<dyn TrackRemote>>,
}

fn vp8() -> RTCRtpCodec {
    RTCRtpCodec { mime_type: "video/VP8".into(), clock_rate: 90_000, ..RTCRtpCodec::default() }
}

impl Client {
    async fn new() -> Self {
        let mut engine = MediaEngine::default();
        let parameters = RTCRtpCodecParameters { rtp_codec: vp8(), payload_type: VP8 };
        engine.register_codec(parameters, RtpCodecKind::Video).unwrap();
        let registry = register_default_interceptors(Registry::new(), &mut engine).unwrap();
        let (gathered_sender, gathered) = mpsc::channel(1);
        let (track_sender, tracks) = mpsc::channel(4);
        let connection = PeerConnectionBuilder::new()
            .with_media_engine(engine)
            .with_interceptor_registry(registry)
            .with_setting_engine(
                SettingEngineBuilder::new().with_multicast_dns_mode(MulticastDnsMode::Disabled).build(),
            )
            .with_handler(Arc::new(Events { gathered: gathered_sender, tracks: track_sender }))
            .with_udp_addrs(vec!["127.0.0.1:0".to_owned()])
            .build()
            .await
            .unwrap();
        Self { connection: Box::new(connection), gathered, tracks }
    }

    async fn offer(&mut self) -> String {
        let offer = self.connection.create_offer(None).await.unwrap();
        self.connection.set_local_description(offer).await.unwrap();
        tokio::time::timeout(PATIENCE, self.gathered.recv()).await.unwrap();
        self.connection.local_description().await.unwrap().sdp
    }

    async fn answer(&self, sdp: String) {
        let answer = RTCSessionDescription::answer(sdp).unwrap();
        self.connection.set_remote_description(answer).await.unwrap();
    }
}

fn edge() -> Edge {
    let config = EdgeConfig { bind: vec![Ipv4Addr::LOCALHOST.into()], shards: 2, ..EdgeConfig::default() };
    Edge::start(config, Arc::new(|_| {})).unwrap()
}

/// A frame of one packet, `number` in it.
fn frame(number: u32, ssrc: u32) -> rtp::Packet {
    let header = rtp::Header {
        version: 2,
        payload_type: VP8,
        sequence_number: number as u16,
        timestamp: number.wrapping_mul(3_000),
        ssrc,
        marker: true,
        ..rtp::Header::default()
    };
    // Every tenth is a keyframe.
    let mut payload = vec![0x10, u8::from(!number.is_multiple_of(10))];
    payload.extend(number.to_be_bytes());
    rtp::Packet { header, payload: Bytes::from(payload) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_publishes_two_others_receive() {
    let (edge, relay, live) = (edge(), Relay::new(), "demo".parse::<haul_model::LiveId>().unwrap());
    let deadline = Instant::now() + PATIENCE;

    let mut publisher = Client::new().await;
    let ssrc = 0x1234_5678;
    let coding = RTCRtpEncodingParameters {
        rtp_coding_parameters: RTCRtpCodingParameters {
            ssrc: Some(ssrc),
            ..RTCRtpCodingParameters::default()
        },
        codec: vp8(),
        ..RTCRtpEncodingParameters::default()
    };
    let track = Arc::new(TrackLocalStaticRTP::new(MediaStreamTrack::new(
        "s".into(),
        "v".into(),
        "v".into(),
        RtpCodecKind::Video,
        vec![coding],
    )));
    publisher.connection.add_track(track.clone()).await.unwrap();
    let offer = publisher.offer().await;
    let answer = edge.publish("host".parse().unwrap(), live.clone(), relay.clone(), &offer).await.unwrap();
    publisher.answer(answer.sdp).await;
    while relay.broadcast().is_none() {
        assert!(Instant::now() < deadline, "the publisher never connected");
        tokio::task::yield_now().await;
    }

    let sender = tokio::spawn(async move {
        for number in 1_000.. {
            if track.write_rtp(frame(number, ssrc)).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    let mut viewers = Vec::new();
    for name in ["one", "two"] {
        let mut viewer = Client::new().await;
        let init = RTCRtpTransceiverInit {
            direction: RTCRtpTransceiverDirection::Recvonly,
            ..RTCRtpTransceiverInit::default()
        };
        viewer.connection.add_transceiver_from_kind(RtpCodecKind::Video, Some(init)).await.unwrap();
        let offer = viewer.offer().await;
        let answer = edge.watch(name.parse().unwrap(), live.clone(), relay.clone(), &offer).await.unwrap();
        viewer.answer(answer.sdp).await;
        viewers.push(viewer);
    }
    for viewer in &mut viewers {
        let track = tokio::time::timeout(PATIENCE, viewer.tracks.recv()).await.unwrap().unwrap();
        let mut numbers = Vec::new();
        while numbers.len() < 50 {
            let event = tokio::time::timeout(PATIENCE, track.poll()).await.unwrap().unwrap();
            if let TrackRemoteEvent::OnRtpPacket(packet) = event {
                numbers.push(u32::from_be_bytes(packet.payload[2..6].try_into().unwrap()));
            }
        }
        // It may begin behind the keyframe: this client drops what comes in the same moment as the end of its handshake.
        assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1), "{numbers:?}");
    }
    sender.abort();
    edge.drain().await;
}
