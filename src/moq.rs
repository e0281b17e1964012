//! The MoQ edge in this house: who it lets in, how it is set up, and its counters on `/metrics`.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use anyhow::Context;
use haul_gateway::{App, MoqDoor};
use haul_media::Relay;
use haul_model::LiveId;
use haul_quic::{Asks, Edge, Guest, House, Limits, OnAir, QuicConfig, QuicStats, Refusal, TlsFiles};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
};

use crate::config::{Config, Congestion};

/// The file of a generated certificate in the data directory.
const CERTIFICATE: &str = "moq-certificate.pem";

/// The edge, once it has started: its counters are on offer before.
pub(crate) type Slot = Arc<OnceLock<Edge>>;

/// Starts the edge, where it is configured.
pub(crate) async fn start(
    config: &Config,
    app: App,
    media: haul_webrtc::Edge,
    slot: &Slot,
) -> anyhow::Result<Option<Edge>> {
    let Some(listen) = config.moq.listen else { return Ok(None) };
    let tls = config.moq.tls().or_else(|| config.http.tls());
    let settings = QuicConfig {
        listen,
        tls: tls.map(|(cert, key)| TlsFiles { cert: cert.into(), key: key.into() }),
        generated: Some(config.data_dir.join(CERTIFICATE)),
        congestion: config.moq.congestion.into(),
        limits: Limits {
            connections: config.moq.max_connections,
            viewers: config.media.max_viewers,
            publishers: config.media.max_publishers,
            ..Limits::default()
        },
    };
    let edge = Edge::start(settings, Arc::new(Gate(app)))
        .await
        .context("moq.listen, moq.tls_cert and moq.tls_key")?;
    tracing::info!(listen = %edge.address(), sha256 = edge.fingerprint(), "Media over QUIC");
    // Nobody else sets it.
    let _ = slot.set(edge.clone());
    tokio::spawn(measure(edge.clone(), media));
    Ok(Some(edge))
}

/// Says how much is sent by MoQ, for as long as the process runs: viewers of either kind are turned away by the sum.
async fn measure(edge: Edge, media: haul_webrtc::Edge) {
    let mut seconds = tokio::time::interval(Duration::from_secs(1));
    seconds.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let (mut at, mut bytes) = (seconds.tick().await, 0);
    loop {
        let now = seconds.tick().await;
        let sent = edge.stats().bytes_out;
        let took = now.saturating_duration_since(at).max(Duration::from_millis(1));
        media.sends_beside((sent.saturating_sub(bytes) as f64 * 8.0 / took.as_secs_f64()) as u64);
        (at, bytes) = (now, sent);
    }
}

impl From<Congestion> for haul_quic::Congestion {
    fn from(configured: Congestion) -> Self {
        match configured {
            Congestion::Cubic => Self::Cubic,
            Congestion::NewReno => Self::NewReno,
            Congestion::Discerning => Self::Discerning,
            Congestion::Bbr => Self::Bbr,
        }
    }
}

/// What pages are told of the edge, where it is configured.
pub(crate) fn door(config: &Config, slot: &Slot) -> Option<MoqDoor> {
    let listen = config.moq.listen?;
    let slot = slot.clone();
    Some(MoqDoor {
        port: listen.port(),
        public_url: config.moq.public_url.clone(),
        certificate: Box::new(move || slot.get().and_then(Edge::pin)),
    })
}

/// Lets in whom the gateway would.
struct Gate(App);

struct Visitor(haul_gateway::Guest);

impl House for Gate {
    fn admit(&self, asks: Asks) -> haul_quic::Answer<'_, Result<Box<dyn Guest>, Refusal>> {
        Box::pin(async move {
            let admitted = self.0.admit(&asks.live, asks.token.as_deref(), asks.client).await;
            let guest = admitted.map_err(|problem| refusal(problem.status.as_u16()))?;
            Ok(Box::new(Visitor(guest)) as Box<dyn Guest>)
        })
    }
}

impl Guest for Visitor {
    fn live(&self) -> &LiveId {
        self.0.live().id()
    }

    fn relay(&self) -> &Arc<Relay> {
        self.0.live().relay()
    }

    fn may_publish(&self) -> bool {
        self.0.may_publish()
    }

    fn expires(&self) -> Option<std::time::Instant> {
        self.0.expires()
    }

    fn is_welcome(&self) -> bool {
        self.0.is_welcome()
    }

    fn publish(&self) -> Result<OnAir, Refusal> {
        let on_air = self.0.publish().map_err(|problem| refusal(problem.status.as_u16()))?;
        Ok(Box::new(on_air))
    }
}

fn refusal(status: u16) -> Refusal {
    match status {
        401 => Refusal::Unauthorized,
        403 => Refusal::Forbidden,
        404 => Refusal::NotFound,
        409 => Refusal::Taken,
        429 => Refusal::TooMany,
        _ => Refusal::Busy,
    }
}

/// Reads the edge's counters when they are asked for.
pub(crate) struct Counters(pub(crate) Slot);

impl std::fmt::Debug for Counters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Counters")
    }
}

impl Collector for Counters {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), std::fmt::Error> {
        let Some(edge) = self.0.get() else { return Ok(()) };
        let stats = edge.stats();
        for (name, help, kind, read) in METRICS {
            let metric = encoder.encode_descriptor(name, help, None, *kind)?;
            match kind {
                MetricType::Gauge => ConstGauge::new(read(&stats)).encode(metric)?,
                _ => ConstCounter::new(read(&stats)).encode(metric)?,
            }
        }
        Ok(())
    }
}

type Metric = (&'static str, &'static str, MetricType, fn(&QuicStats) -> u64);

/// What the edge counts, under the names operators see.
const METRICS: &[Metric] = &[
    (
        "haul_moq_connections",
        "QUIC connections, and TCP connections to the same port, that are open",
        MetricType::Gauge,
        |s| s.connections,
    ),
    ("haul_moq_viewers", "MoQ sessions that watch", MetricType::Gauge, |s| s.viewers),
    ("haul_moq_publishers", "MoQ sessions that publish", MetricType::Gauge, |s| s.publishers),
    ("haul_moq_websockets", "MoQ sessions over websockets", MetricType::Gauge, |s| s.websockets),
    ("haul_moq_subscriptions", "Tracks being sent to MoQ viewers", MetricType::Gauge, |s| s.subscriptions),
    (
        "haul_moq_accepted",
        "QUIC connections, and TCP connections to the same port, that came",
        MetricType::Counter,
        |s| s.accepted,
    ),
    (
        "haul_moq_connections_refused",
        "Those turned away because there were as many as allowed",
        MetricType::Counter,
        |s| s.connections_refused,
    ),
    (
        "haul_moq_handshakes_failed",
        "Handshakes of QUIC, TLS, HTTP or MoQ that failed or took too long",
        MetricType::Counter,
        |s| s.handshakes_failed,
    ),
    (
        "haul_moq_sessions_refused",
        "MoQ sessions refused for their token, or for lack of room",
        MetricType::Counter,
        |s| s.sessions_refused,
    ),
    (
        "haul_moq_sessions_expired",
        "MoQ sessions ended because their token ran out, or they may not watch any more",
        MetricType::Counter,
        |s| s.sessions_expired,
    ),
    (
        "haul_moq_groups_made",
        "Groups made from lives for their viewers, once for all of a live's",
        MetricType::Counter,
        |s| s.feed_groups,
    ),
    ("haul_moq_frames_made", "Frames in those", MetricType::Counter, |s| s.feed_frames),
    ("haul_moq_made_bytes", "Bytes in those", MetricType::Counter, |s| s.feed_bytes),
    ("haul_moq_feed_overflows", "Frames that a live's feed had no room for", MetricType::Counter, |s| {
        s.feed_overflows
    }),
    (
        "haul_moq_feed_broken",
        "Frames that could not be made into what decoders take",
        MetricType::Counter,
        |s| s.feed_broken,
    ),
    (
        "haul_moq_keyframe_requests",
        "Keyframes asked of hosts on behalf of MoQ viewers",
        MetricType::Counter,
        |s| s.keyframe_requests,
    ),
    (
        "haul_moq_groups_out",
        "Groups sent to viewers, each counted for each of them",
        MetricType::Counter,
        |s| s.groups_out,
    ),
    ("haul_moq_frames_out", "Frames in those", MetricType::Counter, |s| s.frames_out),
    ("haul_moq_egress_bytes", "Bytes in those", MetricType::Counter, |s| s.bytes_out),
    (
        "haul_moq_groups_dropped",
        "Groups that a viewer was too slow for, and got nothing or a part of",
        MetricType::Counter,
        |s| s.groups_dropped,
    ),
    (
        "haul_moq_streams_given_up",
        "Streams to viewers ended before all had arrived: of groups that had grown old on their way",
        MetricType::Counter,
        |s| s.streams_given_up,
    ),
    ("haul_moq_groups_in", "Groups from publishers", MetricType::Counter, |s| s.groups_in),
    ("haul_moq_in_bytes", "Bytes in those", MetricType::Counter, |s| s.bytes_in),
    ("haul_moq_ingest_frames", "Frames taken from publishers", MetricType::Counter, |s| s.ingest_frames),
    ("haul_moq_ingest_keyframes", "Keyframes among those", MetricType::Counter, |s| s.ingest_keyframes),
    ("haul_moq_ingest_bytes", "Bytes of those", MetricType::Counter, |s| s.ingest_bytes),
    (
        "haul_moq_ingest_malformed",
        "Catalogs and frames from publishers that were not what they should be",
        MetricType::Counter,
        |s| s.ingest_malformed,
    ),
    (
        "haul_moq_tracks_refused",
        "Publishers' tracks that were not taken: of an unknown codec, or too many",
        MetricType::Counter,
        |s| s.ingest_tracks_refused,
    ),
    (
        "haul_moq_broadcasts_refused",
        "Broadcasts that were not taken: from who may not publish, or a second one",
        MetricType::Counter,
        |s| s.broadcasts_refused,
    ),
];
