//! `/metrics`: all counters of the process, in Prometheus' text form.

use haul_webrtc::{Edge, OfferError, ShardStats};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, text},
    metrics::{MetricType, counter::Counter, family::Family},
    registry::Registry,
};

use crate::{shop::Touches, tls, v1::Clerk};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfferLabels {
    kind: &'static str,
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DirectionLabels {
    direction: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabels {
    reason: &'static str,
}

/// The gateway's counters, and the way to everybody else's.
pub(crate) struct Metrics {
    registry: Registry,
    offers: Family<OfferLabels, Counter>,
    guests_refused: Family<ReasonLabels, Counter>,
    messages_in: Counter,
    messages_refused: Counter,
    sent: Sent,
}

/// Counts what is written to channels. Clones count together.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sent {
    messages: Counter,
    writes: Counter,
}

impl Sent {
    /// So many messages were written together.
    pub(crate) fn count(&self, messages: u64) {
        self.messages.inc_by(messages);
        self.writes.inc();
    }
}

impl Metrics {
    pub(crate) fn new(
        lives: &haul_live::Metrics,
        edge: Edge,
        listener: &tls::Counters,
        touches: &Touches,
        clerk: &Clerk,
        others: Vec<Box<dyn Collector>>,
    ) -> Self {
        let mut registry = Registry::default();
        lives.register(&mut registry);
        listener.register(&mut registry);
        touches.register(&mut registry);
        clerk.register(&mut registry);
        registry.register_collector(Box::new(EdgeCollector(edge)));
        others.into_iter().for_each(|collector| registry.register_collector(collector));
        let offers = Family::default();
        registry.register("haul_offers", "WHIP and WHEP offers by outcome", offers.clone());
        let messages = Family::<DirectionLabels, Counter>::default();
        registry.register("haul_channel_messages", "Channel messages", messages.clone());
        let messages_refused = Counter::default();
        registry.register(
            "haul_channel_refused",
            "Channel messages that were no request, or came too fast",
            messages_refused.clone(),
        );
        let guests_refused = Family::default();
        registry.register(
            "haul_guests_refused",
            "Guests who got no token: too many from one address, a name that they may not have, put out before",
            guests_refused.clone(),
        );
        let writes = Counter::default();
        registry.register(
            "haul_channel_writes",
            "Times that waiting messages, few or many, were written to a channel's connection",
            writes.clone(),
        );
        let direction = |direction| messages.get_or_create_owned(&DirectionLabels { direction });
        Self {
            offers,
            guests_refused,
            messages_in: direction("in"),
            messages_refused,
            sent: Sent { messages: direction("out"), writes },
            registry,
        }
    }

    pub(crate) fn text(&self) -> String {
        let mut out = String::new();
        // Writing to a String does not fail.
        let _ = text::encode(&mut out, &self.registry);
        out
    }

    pub(crate) fn offer(&self, publisher: bool, refused: Option<&OfferError>) {
        let outcome = match refused {
            None => "answered",
            Some(OfferError::Malformed(_)) => "malformed",
            Some(OfferError::TooLarge) => "too_large",
            Some(OfferError::Codec(_)) => "no_codec",
            Some(OfferError::Shape(_)) => "unsupported",
            Some(OfferError::NoBroadcast) => "no_host",
            Some(OfferError::Full) => "full",
            Some(OfferError::Busy) => "busy",
            Some(OfferError::Closed) => "closed",
            Some(OfferError::Internal(_)) => "internal",
        };
        let kind = if publisher { "publish" } else { "watch" };
        self.offers.get_or_create(&OfferLabels { kind, outcome }).inc();
    }

    /// A guest got no token, by the problem's code.
    pub(crate) fn guest_refused(&self, reason: &'static str) {
        self.guests_refused.get_or_create(&ReasonLabels { reason }).inc();
    }

    pub(crate) fn message_in(&self) {
        self.messages_in.inc();
    }

    /// For who writes to channels.
    pub(crate) fn sent(&self) -> Sent {
        self.sent.clone()
    }

    pub(crate) fn message_refused(&self) {
        self.messages_refused.inc();
    }
}

/// Reads the shards' counters when they are asked for.
#[derive(Clone)]
struct EdgeCollector(Edge);

impl std::fmt::Debug for EdgeCollector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("EdgeCollector")
    }
}

impl Collector for EdgeCollector {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), std::fmt::Error> {
        let stats = self.0.stats();
        for (name, help, kind, read) in SHARD_METRICS {
            let mut metric = encoder.encode_descriptor(name, help, None, *kind)?;
            for (index, shard) in stats.shards.iter().enumerate() {
                let labels = [("shard", index.to_string())];
                let mut value = metric.encode_family(&labels)?;
                match kind {
                    MetricType::Gauge => value.encode_gauge(&read(shard))?,
                    _ => value.encode_counter::<[(&str, &str); 0], _, u64>(&read(shard), None)?,
                }
            }
        }
        Ok(())
    }
}

type ShardMetric = (&'static str, &'static str, MetricType, fn(&ShardStats) -> u64);

/// What each shard counts, under the names operators see.
const SHARD_METRICS: &[ShardMetric] = &[
    ("haul_publishers", "Publishers' media sessions", MetricType::Gauge, |s| s.publishers),
    ("haul_viewers", "Viewers' media sessions", MetricType::Gauge, |s| s.viewers),
    (
        "haul_shard_cpu_ppm",
        "Processor time that the shard's thread used in the last second, in millionths",
        MetricType::Gauge,
        |s| s.cpu_ppm,
    ),
    ("haul_shard_egress_bps", "Bits of RTP sent in the last second", MetricType::Gauge, |s| s.egress_bps),
    (
        "haul_shard_frames_waiting",
        "The most frames that waited for the shard at once in the last second",
        MetricType::Gauge,
        |s| s.frames_waiting,
    ),
    (
        "haul_shard_commands_waiting",
        "The most commands that waited for the shard at once in the last second",
        MetricType::Gauge,
        |s| s.commands_waiting,
    ),
    (
        "haul_shard_table_entries",
        "Entries in the shard's tables: none where there are no sessions",
        MetricType::Gauge,
        |s| s.table_entries,
    ),
    ("haul_tcp_links", "TCP connections that carry media", MetricType::Gauge, |s| s.tcp_links),
    (
        "haul_tcp_refused",
        "TCP connections closed because they showed no session, or were too many",
        MetricType::Counter,
        |s| s.tcp_refused,
    ),
    ("haul_tcp_full", "Datagrams a TCP connection had no room for", MetricType::Counter, |s| s.tcp_full),
    ("haul_sessions_connected", "Media sessions that became connected", MetricType::Counter, |s| {
        s.sessions_connected
    }),
    ("haul_sessions_ended", "Media sessions that ended", MetricType::Counter, |s| s.sessions_ended),
    (
        "haul_sessions_never_connected",
        "Media sessions ended because their peer never connected",
        MetricType::Counter,
        |s| s.sessions_never_connected,
    ),
    (
        "haul_sessions_silent",
        "Media sessions ended because their peer was silent",
        MetricType::Counter,
        |s| s.sessions_silent,
    ),
    (
        "haul_shard_failures",
        "Times that a media shard failed and lost its sessions",
        MetricType::Counter,
        |s| s.shard_failures,
    ),
    ("haul_ice_restarts", "ICE restarts that led to a new path", MetricType::Counter, |s| s.ice_restarts),
    ("haul_handshakes_failed", "DTLS handshakes that did not complete", MetricType::Counter, |s| {
        s.handshakes_failed
    }),
    ("haul_fallback_ciphers", "Media sessions of clients without AES-GCM", MetricType::Counter, |s| {
        s.fallback_ciphers
    }),
    ("haul_datagrams_in", "Datagrams received", MetricType::Counter, |s| s.datagrams_in),
    ("haul_datagram_in_bytes", "Bytes of datagrams received", MetricType::Counter, |s| s.datagram_bytes_in),
    ("haul_datagrams_unrouted", "Datagrams that belong to no session", MetricType::Counter, |s| {
        s.datagrams_unrouted
    }),
    (
        "haul_datagrams_crowded",
        "Datagrams of sessions that are not connected yet for which there was no room to wait",
        MetricType::Counter,
        |s| s.datagrams_crowded,
    ),
    ("haul_datagrams_malformed", "Datagrams of no known protocol", MetricType::Counter, |s| {
        s.datagrams_malformed
    }),
    ("haul_stun_rejected", "STUN checks with a wrong password", MetricType::Counter, |s| s.stun_rejected),
    ("haul_ingest_packets", "RTP packets from publishers", MetricType::Counter, |s| s.rtp_packets_in),
    ("haul_ingest_bytes", "RTP payload bytes from publishers", MetricType::Counter, |s| s.rtp_bytes_in),
    ("haul_srtp_errors", "Packets that did not decrypt or parse, or came twice", MetricType::Counter, |s| {
        s.srtp_errors
    }),
    ("haul_ingest_unknown_packets", "RTP packets of nothing that was negotiated", MetricType::Counter, |s| {
        s.rtp_unknown
    }),
    ("haul_ingest_frames", "Frames completed from publishers", MetricType::Counter, |s| s.frames_in),
    ("haul_ingest_keyframes", "Keyframes among those", MetricType::Counter, |s| s.keyframes_in),
    ("haul_ingest_lost_packets", "Packets from publishers that were given up", MetricType::Counter, |s| {
        s.packets_lost
    }),
    (
        "haul_ingest_dropped_frames",
        "Frames dropped because one before them was lost",
        MetricType::Counter,
        |s| s.frames_dropped,
    ),
    ("haul_keyframe_requests", "Keyframe requests sent to publishers", MetricType::Counter, |s| {
        s.keyframe_requests
    }),
    ("haul_nacks_out", "NACKs sent to publishers", MetricType::Counter, |s| s.nacks_out),
    ("haul_egress_packets", "RTP packets sent to viewers", MetricType::Counter, |s| s.rtp_packets_out),
    ("haul_egress_bytes", "Bytes of RTP sent to viewers", MetricType::Counter, |s| s.rtp_bytes_out),
    ("haul_nacks_in", "Packets that viewers reported lost", MetricType::Counter, |s| s.nacks_in),
    ("haul_resends", "Packets sent again", MetricType::Counter, |s| s.resends),
    ("haul_resend_misses", "Packets asked for that were not kept any more", MetricType::Counter, |s| {
        s.resend_misses
    }),
    (
        "haul_resends_twice",
        "Packets sent a second time when they were sent again, because the way is long",
        MetricType::Counter,
        |s| s.resends_twice,
    ),
    ("haul_resends_over_budget", "Packets asked for once too often", MetricType::Counter, |s| {
        s.resends_over_budget
    }),
    ("haul_plis_in", "Keyframe requests from viewers", MetricType::Counter, |s| s.plis_in),
    (
        "haul_plis_refused",
        "Keyframe requests not passed on, because their viewer asks too often",
        MetricType::Counter,
        |s| s.plis_refused,
    ),
    ("haul_feedback_in", "Reports of arrivals from viewers", MetricType::Counter, |s| s.feedback_in),
    (
        "haul_viewers_paused",
        "Viewers who get sound alone, because their networks carry no more",
        MetricType::Gauge,
        |s| s.viewers_paused,
    ),
    ("haul_layers_up", "Changes of a viewer's layer to a larger one", MetricType::Counter, |s| s.layers_up),
    (
        "haul_layers_down",
        "Changes of a viewer's layer to a smaller one, or to sound alone",
        MetricType::Counter,
        |s| s.layers_down,
    ),
    (
        "haul_viewers_thinned",
        "Times that a viewer's pictures were left out up to a keyframe, because they would have come late",
        MetricType::Counter,
        |s| s.frames_late,
    ),
    ("haul_frames_thinned", "Frames left out at those times", MetricType::Counter, |s| s.frames_thinned),
    (
        "haul_layers_cut",
        "Times that a viewer's layer was stopped at once for a smaller one, because its network's queue was filling",
        MetricType::Counter,
        |s| s.layers_cut,
    ),
    (
        "haul_viewers_pauses",
        "Times that a viewer's pictures ended for sound alone",
        MetricType::Counter,
        |s| s.pauses,
    ),
    (
        "haul_replays_given_up",
        "Joiners' replays that were given up because their networks were too slow for them",
        MetricType::Counter,
        |s| s.replays_given_up,
    ),
    ("haul_probes", "Times that a viewer's network was probed with padding", MetricType::Counter, |s| {
        s.probes
    }),
    ("haul_padding_bytes", "Bytes of padding sent for that", MetricType::Counter, |s| s.padding_bytes_out),
    ("haul_estimates", "Times that a viewer's bandwidth estimate was looked at", MetricType::Counter, |s| {
        s.estimates
    }),
    (
        "haul_estimates_kbps",
        "Sum of what was seen: the rate of this by the rate of haul_estimates is the mean estimate in kb/s",
        MetricType::Counter,
        |s| s.estimates_kbps,
    ),
    ("haul_queue_full_drops", "Frames dropped because a shard's queue was full", MetricType::Counter, |s| {
        s.queue_full_drops
    }),
    ("haul_send_full", "Datagrams the socket had no room for", MetricType::Counter, |s| s.send_full),
    ("haul_send_errors", "Datagrams the kernel refused", MetricType::Counter, |s| s.send_errors),
    (
        "haul_gso_refused",
        "Messages sent singly because the kernel would not segment them",
        MetricType::Counter,
        |s| s.gso_refused,
    ),
];
